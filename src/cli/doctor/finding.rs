//! Value: what doctor says: how bad it is, about what, why that matters, and the command that mends it.

use std::fmt::{self, Write as _};

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Packets are lost, or will be.
    Error,
    /// Worth a look.
    Warning,
    /// It could not be asked.
    Unknown,
    Ok,
}

impl Severity {
    const fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Unknown => "unknown",
            Severity::Ok => "ok",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub severity: Severity,
    pub about: String,
    /// Empty where nothing needs to be explained.
    pub why: String,
    pub cure: Option<Cure>,
}

/// Commands for a shell, as root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cure {
    /// The endpoint; `None`: here.
    pub on: Option<String>,
    pub commands: Vec<String>,
    /// What else would do.
    pub note: Option<&'static str>,
}

impl Cure {
    pub fn here(commands: impl IntoIterator<Item = String>) -> Cure {
        Cure { on: None, commands: commands.into_iter().collect(), note: None }
    }

    pub fn on(host: &str, commands: impl IntoIterator<Item = String>) -> Cure {
        Cure { on: Some(host.to_owned()), ..Cure::here(commands) }
    }

    #[must_use]
    pub fn note(self, note: &'static str) -> Cure {
        Cure { note: Some(note), ..self }
    }
}

/// All of them, the worst first.
#[derive(Debug, Serialize)]
pub struct Report {
    pub errors: usize,
    pub warnings: usize,
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn new(mut findings: Vec<Finding>) -> Report {
        findings.sort_by_key(|finding| finding.severity);
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        Report { errors: count(Severity::Error), warnings: count(Severity::Warning), findings }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        let mut findings = self.findings.iter().peekable();
        while let Some(Finding { check, severity, about, why, cure }) = findings.next() {
            writeln!(f, "{:7}  {check:width$}  {about}", severity.word())?;
            if !why.is_empty() {
                writeln!(f, "{:7}  {:width$}  {why}", "", "")?;
            }
            let Some(cure) = cure else { continue };
            // What mends the next as well is said once, after the last of them.
            if findings.peek().is_some_and(|next| next.cure.as_ref() == Some(cure)) {
                continue;
            }
            f.write_str(&cure.lines(width))?;
        }
        let plural = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        writeln!(f, "\n{}, {}", plural(self.errors, "error"), plural(self.warnings, "warning"))
    }
}

impl Cure {
    fn lines(&self, width: usize) -> String {
        let mut text = String::new();
        if let Some(host) = &self.on {
            let _ = writeln!(text, "{:7}  {:width$}  on {host}:", "", "");
        }
        for command in &self.commands {
            let _ = writeln!(text, "{:7}  {:width$}    {command}", "", "");
        }
        if let Some(note) = self.note {
            let _ = writeln!(text, "{:7}  {:width$}    # {note}", "", "");
        }
        text
    }
}
