//! Wiring: from a configuration's place to a snapshot, or to everything that is wrong with it.

use std::fmt;
use std::path::PathBuf;

use super::outside::{Asked, Here};
use super::{imagined, rehearse};
use crate::admin::control::Warnings;
use crate::admin::document::{self, Candidate};
use crate::base::{HashKey, limits};
use crate::config::{self, Catalogs, Config, found};
use crate::doc::{self, Diagnostic, Grammar, Nowhere, Outside, Sources, Span, Written, codes};
use crate::state::Snapshot;
use crate::{probe, source};

/// Where the configuration comes from. Read anew at every reload.
#[derive(Clone, Debug)]
pub enum Origin {
    File(PathBuf),
    /// A text of Strata's own (`demo`).
    Text {
        name: &'static str,
        text: String,
    },
}

impl Origin {
    /// Where relative paths begin.
    pub fn folder(&self) -> PathBuf {
        match self {
            Origin::File(path) => path.parent().map(std::path::Path::to_owned).unwrap_or_default(),
            Origin::Text { .. } => PathBuf::new(),
        }
    }

    /// What is known of it when it cannot be read.
    pub fn unread(&self) -> Asked {
        let files = match self {
            Origin::File(path) => vec![(path.clone(), None)],
            Origin::Text { .. } => Vec::new(),
        };
        Asked { files, ..Asked::default() }
    }
}

/// What a process starts with.
pub struct First {
    pub config: Config,
    pub snapshot: Snapshot,
    pub asked: Asked,
    pub warnings: Warnings,
    /// For asking where its values come from, whatever sources add to it.
    pub written: Written,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => path.display().fmt(f),
            Origin::Text { name, .. } => f.write_str(name),
        }
    }
}

/// What was read: the sources for showing diagnostics, and all of them, warnings included.
pub struct Loaded {
    pub sources: Sources,
    pub diagnostics: Vec<Diagnostic>,
    /// `None` when there is an error among the diagnostics.
    pub config: Option<Config>,
    pub written: Written,
    /// What the text referred to, and what was there.
    pub asked: Asked,
    /// What must not be shown of the sources.
    secrets: Vec<Span>,
}

impl Loaded {
    /// The diagnostics as a person reads them.
    pub fn render(&self, colour: bool) -> String {
        let mut text = doc::render(&self.sources, &self.diagnostics, colour);
        text.push_str(&doc::summary(&self.sources, &self.diagnostics));
        text
    }

    /// The diagnostics as a program reads them.
    pub fn json(&self) -> serde_json::Value {
        doc::json(&self.sources, &self.diagnostics)
    }

    /// The diagnostics as the admin API tells them.
    pub fn documents(&self) -> Vec<document::Diagnostic> {
        let one = |diagnostic: &Diagnostic| {
            let (line, column) = self.sources.position(diagnostic.span.start);
            document::Diagnostic {
                severity: if diagnostic.is_error() { "error" } else { "warning" }.to_owned(),
                code: diagnostic.code.to_owned(),
                message: diagnostic.message.clone(),
                help: diagnostic.help.clone(),
                file: self.sources.at(diagnostic.span.start).0.name.to_string(),
                line,
                column,
            }
        };
        self.diagnostics.iter().map(one).collect()
    }

    /// Of a configuration that is valid: what its author should look at all the same.
    pub fn warnings(&self) -> Warnings {
        let rendered = if self.diagnostics.is_empty() { String::new() } else { self.render(false) };
        Warnings { diagnostics: self.documents(), rendered }
    }

    fn add(&mut self, mut diagnostics: Vec<Diagnostic>) {
        for diagnostic in &mut diagnostics {
            diagnostic.masked.clone_from(&self.secrets);
        }
        self.diagnostics.extend(diagnostics);
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.span, diagnostic.code));
    }

    pub fn is_valid(&self) -> bool {
        self.config.is_some()
    }
}

/// Reads `origin`, and what it refers to: included files, secrets in files, environment variables.
///
/// # Errors
/// The main file cannot be read.
pub fn read(origin: &Origin) -> std::io::Result<Loaded> {
    match origin {
        Origin::File(path) => {
            let here = Here::default();
            let bytes = here.main(path, limits::CONFIG_BYTES)?;
            let loaded = parse(&path.display().to_string(), bytes, &here);
            Ok(Loaded { asked: here.asked(), ..loaded })
        }
        Origin::Text { name, text } => Ok(parse(name, text.clone().into_bytes(), &Nowhere)),
    }
}

/// What `origin` is made of now: every file, whether it is right or wrong.
pub fn ask(origin: &Origin) -> Asked {
    match origin {
        Origin::File(path) => {
            let here = Here::default();
            // That it cannot be read is remembered as well.
            if let Ok(bytes) = here.main(path, limits::CONFIG_BYTES) {
                parse(&path.display().to_string(), bytes, &here);
            }
            here.asked()
        }
        Origin::Text { .. } => Asked::default(),
    }
}

/// What a candidate says, which another process has collected.
pub fn judge(candidate: &Candidate) -> Loaded {
    let text = candidate.files.get(&candidate.name).cloned().unwrap_or_default();
    parse(&candidate.name, text.into_bytes(), candidate)
}

/// What a text says, with `outside` to answer for what it refers to.
pub fn parse(name: &str, bytes: Vec<u8>, outside: &dyn Outside) -> Loaded {
    let loaded = with_catalogs(|catalogs| config::read(name, bytes, outside, catalogs));
    Loaded {
        sources: loaded.sources,
        diagnostics: loaded.diagnostics,
        config: loaded.config,
        written: loaded.written,
        asked: Asked::default(),
        secrets: loaded.secrets,
    }
}

/// What plug-ins there are of the floors above `config`.
pub fn with_catalogs<T>(work: impl FnOnce(&Catalogs<'_>) -> T) -> T {
    let probes: Vec<&'static Grammar> = probe::CATALOG.iter().map(|spec| &spec.grammar).collect();
    let (sources, route_sources) = (source::of_pools(), source::of_services());
    work(&Catalogs { probes: &probes, sources: &sources, route_sources: &route_sources })
}

/// Compiles what was read into the generation after `previous` and runs its tests; on failure the reasons join the diagnostics.
pub fn compile(loaded: &mut Loaded, previous: &Snapshot) -> Option<Snapshot> {
    let config = loaded.config.clone()?;
    compile_found(loaded, &config, previous)
}

/// The same with what sources have found, which `config` has beside what was read. The tests are about what was read: whoever writes
/// labels must not keep its author from a reload. What fails with the rest is warned of.
pub fn compile_found(loaded: &mut Loaded, config: &Config, previous: &Snapshot) -> Option<Snapshot> {
    let compiled = generation(config, &loaded.written, previous);
    let main = &*loaded.sources.main().name;
    let failures = match (&compiled, &loaded.config) {
        (Ok(_), Some(read)) if !read.tests.is_empty() => test(read.clone(), Some(main)),
        (Ok(_), _) => Vec::new(),
        (Err(diagnostics), _) => diagnostics.clone(),
    };
    if !failures.is_empty() {
        fail(loaded, failures);
        return None;
    }
    if !config.tests.is_empty() && loaded.config.as_ref() != Some(config) {
        let failures = test(config.clone(), None);
        loaded.add(failures.into_iter().map(by_found).collect());
    }
    compiled.ok()
}

/// What the tests of what was read say against it: as a person reads it, and nothing where they hold. Where they do not, it compiles
/// afterwards all the same, for whoever wants to know the rest.
pub fn failing(loaded: &mut Loaded) -> String {
    let Some(config) = &mut loaded.config else { return String::new() };
    // What does not even compile is said by compiling.
    if config.tests.is_empty() || config::compile(config, &nothing(), &machine()).is_err() {
        return String::new();
    }
    let mut failures = test(config.clone(), Some(&*loaded.sources.main().name));
    if failures.is_empty() {
        return String::new();
    }
    config.tests.clear();
    for failure in &mut failures {
        failure.masked.clone_from(&loaded.secrets);
    }
    doc::render(&loaded.sources, &failures, false)
}

/// The same as [`compile`] without its tests: whoever looks why one fails needs the rest.
pub fn compile_untested(loaded: &mut Loaded, previous: &Snapshot) -> Option<Snapshot> {
    let config = loaded.config.clone()?;
    generation(&config, &loaded.written, previous).map_err(|diagnostics| fail(loaded, diagnostics)).ok()
}

/// The generation after `previous`, with the places of its values.
///
/// # Errors
/// There are no ids left.
pub fn generation(config: &Config, written: &Written, previous: &Snapshot) -> Result<Snapshot, Vec<Diagnostic>> {
    let mut snapshot = config::compile(config, previous, &machine())?;
    snapshot.places = written.places(&snapshot.effective);
    found::mark(config, &mut snapshot.places);
    Ok(snapshot)
}

/// On a snapshot that shares nothing with the one that serves: its endpoints are taken to be up. Where a source has found nobody yet,
/// somebody is imagined, for it is known where traffic leads all the same.
fn test(mut config: Config, file: Option<&str>) -> Vec<Diagnostic> {
    found::imagine(&mut config);
    match config::compile(&config, &nothing(), &machine()) {
        Ok(snapshot) => {
            imagined::all_up(&snapshot);
            rehearse::run(&config, &snapshot, file)
        }
        Err(diagnostics) => diagnostics,
    }
}

fn fail(loaded: &mut Loaded, diagnostics: Vec<Diagnostic>) {
    loaded.add(diagnostics);
    loaded.config = None;
}

/// A test that fails with what sources have found, and not without.
fn by_found(failure: Diagnostic) -> Diagnostic {
    let code = &codes::TEST_FAILS_BY_FOUND;
    let message = format!("with what sources have found, {}", failure.message);
    Diagnostic { severity: code.severity(), code: code.id, message, ..failure }
}

/// The generation before the first, for `compile`.
pub fn nothing() -> Snapshot {
    let machine = machine();
    Snapshot::empty(crate::state::Settings {
        workers: machine.cores,
        metrics: None,
        admin: None,
        admin_token: None,
        admin_read_only: false,
        hash_key: machine.random_key,
        random_key: true,
        packet_io: None,
        drain_timeout: std::time::Duration::ZERO,
        watch: false,
        log_level: "info",
        log_json: false,
        log_output: crate::observe::sink::Output::Stderr,
        access_output: crate::observe::sink::Output::Stdout,
        process: crate::state::Process::default(),
    })
}

/// A key that nobody outside this process knows.
pub fn secret() -> HashKey {
    machine().random_key
}

fn machine() -> config::Machine {
    config::Machine {
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        random_key: HashKey::new(fresh_key()),
    }
}

/// The bytes of a key that nobody has had before.
pub fn fresh_key() -> [u8; 16] {
    // The standard library keys its hashers from the kernel's random bytes: what they make of anything is as random.
    let mut key = [0; 16];
    for half in key.chunks_mut(8) {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), half.len());
        half.copy_from_slice(&random.to_ne_bytes());
    }
    key
}
