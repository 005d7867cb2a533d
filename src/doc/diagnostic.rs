//! Value: one mistake, and what to do about it. Rendering is `render`'s, the list of codes `codes`'.

use serde::Serialize;

use super::codes::Code;
use super::span::Span;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file does not ship.
    Error,
    /// It ships, but probably does not mean what its author thinks.
    Warning,
}

/// A mistake in a source: message and label in lower case, without a full stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Stable: `E…` for errors, `W…` for warnings (`codes::CODES`).
    pub code: &'static str,
    pub message: String,
    /// Empty at the start of the source when the mistake has no place in it.
    pub span: Span,
    /// What the span is, beside its caret.
    pub label: Option<String>,
    /// The way out.
    pub help: Option<String>,
    /// Other places that are part of it: the first of two, the definition.
    pub secondary: Vec<Secondary>,
    /// What must not be shown of the lines around it: secrets of the source.
    #[serde(skip)]
    pub masked: Vec<Span>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Secondary {
    pub span: Span,
    pub label: String,
}

impl Diagnostic {
    pub fn new(code: &Code, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: code.severity(),
            code: code.id,
            message: message.into(),
            span,
            label: None,
            help: None,
            secondary: Vec::new(),
            masked: Vec::new(),
        }
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = Some(label.into());
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// `help`, where there is one to give.
    #[must_use]
    pub fn help_if(mut self, help: Option<String>) -> Diagnostic {
        self.help = help.or(self.help);
        self
    }

    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        if !span.is_empty() {
            self.secondary.push(Secondary { span, label: label.into() });
        }
        self
    }

    /// The same, in a text that begins `by` bytes later.
    #[must_use]
    pub(super) fn shifted(mut self, by: usize) -> Diagnostic {
        self.span = self.span.shifted(by);
        for secondary in &mut self.secondary {
            secondary.span = secondary.span.shifted(by);
        }
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// What the user wrote, fit to stand in a message: in backticks, control characters escaped, cut when long.
pub fn quote(text: &str) -> String {
    if text.is_empty() {
        return "`\"\"`".to_owned();
    }
    const KEEP: usize = 60;
    let mut shown = String::with_capacity(text.len().min(KEEP) + 2);
    shown.push('`');
    for (count, c) in text.chars().enumerate() {
        if count == KEEP {
            shown.push('…');
            break;
        }
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown.push('`');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_short_and_shows_its_control_characters() {
        assert_eq!(quote("web"), "`web`");
        assert_eq!(quote(""), "`\"\"`");
        assert_eq!(quote("a\x1b[31m\n\0"), "`a\\u{1b}[31m\\n\\u{0}`");
        assert_eq!(quote(&"ä".repeat(500)).chars().count(), 63);
    }
}
