//! Wiring: runs the tests of a configuration (`[[test]]`) on itself, before it ships: every endpoint up, no traffic, no socket.
//!
//! On a snapshot of its own: what serves is not touched, and what is down now does not make a right file wrong.

use std::time::Duration;

use super::explain::frame;
use super::imagined::{OURS, Stage};
use crate::config::Config;
use crate::config::value::{Expectation, Subject, Test, Traffic};
use crate::doc::{Diagnostic, Span, codes, quote, suggest};
use crate::explain::{Brief, Question, brief};
use crate::flow::decide::Action;
use crate::state::Snapshot;
use crate::wire::line::Line;

/// What is wrong with the configuration by its own tests. `snapshot` is of this configuration, and serves nobody. `file`: where the
/// reason can be looked for; without one, it is the running process that knows.
pub fn run(config: &Config, snapshot: &Snapshot, file: Option<&str>) -> Vec<Diagnostic> {
    let mut stage = None;
    let mut failures = Vec::new();
    for (number, test) in (1_u64..).zip(&config.tests) {
        let came = match &test.subject.value {
            Subject::Request { question, .. } => request(config, snapshot, question),
            Subject::Packet { line, .. } => match stage.get_or_insert_with(|| Stage::set(snapshot, |_| OURS)) {
                Some(stage) => packet(snapshot, stage, line, number),
                None => Came::of("there is no service of packets"),
            },
        };
        failures.extend(judge(snapshot, test, &came, file));
    }
    failures
}

/// What became of a test's subject.
#[derive(Default)]
struct Came {
    service: Option<String>,
    pool: Option<String>,
    route: Option<String>,
    /// Where that is written.
    place: Span,
    status: Option<u16>,
    drop: Option<&'static str>,
    pass: bool,
    /// What else there is to say.
    told: Option<String>,
}

impl Came {
    fn of(told: impl Into<String>) -> Came {
        Came { told: Some(told.into()), ..Came::default() }
    }

    fn is(&self, expectation: &Expectation) -> bool {
        match expectation {
            Expectation::Pool(name) => self.drop.is_none() && self.pool.as_ref() == Some(name),
            Expectation::Service(name) => self.service.as_ref() == Some(name),
            Expectation::Route(url) => self.route.as_ref() == Some(url),
            Expectation::Status(status) => self.status == Some(*status),
            Expectation::Drop(word) => self.drop == Some(word.as_str()),
            Expectation::Pass => self.pass,
        }
    }

    /// In the words of an expectation.
    fn words(&self) -> String {
        if let Some(told) = &self.told {
            return told.clone();
        }
        let status = self.status.map(|status| format!(" (status {status})")).unwrap_or_default();
        let end = match (self.drop, &self.pool) {
            (Some(word), _) => format!("drop {word}{status}"),
            (None, Some(pool)) => format!("pool {pool}"),
            (None, None) => "pass: it is left to the kernel".to_owned(),
        };
        match (&self.service, &self.route) {
            (Some(service), Some(route)) => format!("{end}, by route {route} of service {service}"),
            (Some(service), None) => format!("{end}, by service {service}"),
            (None, _) => end,
        }
    }
}

fn request(config: &Config, snapshot: &Snapshot, question: &Question) -> Came {
    let Brief { service, way, pool, refused, unreached } = match brief(snapshot, question) {
        Ok(brief) => brief,
        Err(fault) => return Came::of(fault.why),
    };
    if let Some(why) = unreached {
        return Came::of(why);
    }
    let service = service.map(|service| service.spec.name.to_string());
    let place = way.and_then(|way| {
        let owner = config.services.iter().find(|owner| Some(&**owner.name) == service.as_deref())?;
        let Traffic::L7(l7) = &owner.traffic else { return None };
        Some(l7.routes.get(way.index)?.pattern.span)
    });
    Came {
        service,
        pool: pool.map(|pool| pool.spec.name.to_string()),
        route: way.map(|way| way.route.pattern.to_string()),
        place: place.unwrap_or_default(),
        status: refused.map(|(_, status)| status),
        drop: refused.map(|(word, _)| word),
        ..Came::default()
    }
}

fn packet(snapshot: &Snapshot, stage: &mut Stage<'_>, line: &Line, number: u64) -> Came {
    let Some(played) = stage.play(&frame(snapshot, line), false, Duration::ZERO, number) else {
        return Came::of("it is longer than any frame");
    };
    let matched = played.trace.and_then(|trace| trace.matched).map(|matched| matched.service);
    let service = played.verdict.service.or(matched).and_then(|id| snapshot.service(id));
    let pool = service.and_then(|service| match &service.traffic {
        crate::state::Traffic::Packet(spec) => snapshot.pool(spec.pool),
        _ => None,
    });
    Came {
        service: service.map(|service| service.spec.name.to_string()),
        pool: pool.map(|pool| pool.spec.name.to_string()),
        drop: match played.verdict.action {
            Action::Drop(reason) => Some(reason.word()),
            _ => None,
        },
        pass: played.verdict.action == Action::Pass,
        ..Came::default()
    }
}

fn judge(snapshot: &Snapshot, test: &Test, came: &Came, file: Option<&str>) -> Vec<Diagnostic> {
    let (what, text) = match &test.subject.value {
        Subject::Request { text, .. } => ("request", text),
        Subject::Packet { text, .. } => ("packet", text),
    };
    let fails = |expectation: &&crate::doc::Spanned<Expectation>| !came.is(expectation);
    let failures = test.expect.iter().filter(fails);
    failures
        .map(|expected| {
            let message =
                format!("a test fails: {} is expected of {what} {}", quote(&expected.to_string()), quote(text));
            Diagnostic::new(&codes::TEST_FAILED, expected.span, message)
                .label(format!("came: {}", came.words()))
                .also(came.place, "this route takes it")
                .help(unknown(snapshot, expected).unwrap_or_else(|| explain(&test.subject, file)))
        })
        .collect()
}

/// What is expected has a name that nothing has.
fn unknown(snapshot: &Snapshot, expected: &Expectation) -> Option<String> {
    let unknown = |what: &str, name: &str, names: Vec<&str>| {
        (!names.contains(&name)).then(|| match suggest::nearest(name, names.iter().copied()) {
            Some(near) => format!("there is no {what} {}: did you mean `{near}`", quote(name)),
            None => format!("there is no {what} {}", quote(name)),
        })
    };
    match expected {
        Expectation::Pool(name) => unknown("pool", name, snapshot.pools().map(|pool| &*pool.spec.name).collect()),
        Expectation::Service(name) => {
            unknown("service", name, snapshot.services().map(|service| &*service.spec.name).collect())
        }
        _ => None,
    }
}

/// The command that tells why.
fn explain(subject: &Subject, file: Option<&str>) -> String {
    let mut command = "strata explain".to_owned();
    if let Some(file) = file {
        command.push_str(&format!(" --config {file}"));
    }
    let mut add = |flag: &str, value: &str| {
        command.push_str(&format!(" {flag}'{}'", value.replace('\'', "'\\''")));
    };
    match subject {
        Subject::Packet { text, .. } => add("", text),
        Subject::Request { text, from, headers, service, .. } => {
            add("", text);
            from.iter().for_each(|from| add("--from ", from));
            headers.iter().for_each(|header| add("-H ", header));
            service.iter().for_each(|service| add("--service ", service));
        }
    }
    format!("to see why: {command}")
}
