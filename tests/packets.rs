//! The corpus of packets: tables, a frame in, and what becomes of it, byte for byte (`tests/packets/README.md`).
//!
//! The cases are data, so that another engine can be held to them: all it needs is to run a [`Step`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use serde::Deserialize;
use strata::base::Moment;
use strata::flow::decide::{Action, Event};
use strata::flow::{FrameBuf, decide};
use strata::wire::checksum::Stored;
use strata::wire::show;

use world::{Change, Live, World};

#[path = "packets/notation.rs"]
mod notation;
#[path = "packets/properties.rs"]
mod properties;
#[path = "packets/world.rs"]
mod world;

/// A file of the corpus.
struct File {
    name: String,
    /// What `$word` stands for in its frames.
    words: BTreeMap<String, String>,
    world: World,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    steps: Vec<Step>,
}

/// A frame and what must become of it, or a change of the tables.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Step {
    /// Seconds since the case began; as in the step before.
    at: Option<f64>,
    change: Option<Change>,
    #[serde(rename = "in")]
    frame: Option<String>,
    #[serde(default = "first")]
    on: String,
    #[serde(default)]
    entropy: u64,
    /// The sender has left its checksum to a card.
    #[serde(default)]
    partial: bool,
    /// Whether that is still so after.
    still_partial: Option<bool>,
    segment: Option<u16>,
    #[serde(default)]
    cut: bool,
    /// The same frame as often, and each time the same.
    #[serde(default = "once")]
    times: usize,
    /// `send LINK`, `reply`, `pass`, `drop WORD`.
    verdict: Option<String>,
    why: Option<String>,
    endpoint: Option<std::net::IpAddr>,
    event: Option<String>,
    out: Option<String>,
}

fn first() -> String {
    "eth0".to_owned()
}

fn once() -> usize {
    1
}

#[test]
fn every_packet_becomes_what_it_must() {
    let files = corpus();
    let only = env::var("CASE").ok();
    let mut failures = Vec::new();
    let mut count = 0;
    for file in &files {
        for case in &file.cases {
            if only.as_ref().is_none_or(|only| case.name.contains(only.as_str())) {
                count += 1;
                if let Err(why) = run(file, case) {
                    failures.push(format!("{}: {}\n{why}", file.name, case.name));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count} cases fail:\n\n{}\n", failures.len(), failures.join("\n"));
    assert!(only.is_some() || count >= 150, "only {count} cases: is this the right folder?");
}

/// The catalogue's rows G1 to G22 are each named by a case.
#[test]
fn every_row_of_the_hardening_catalogue_has_its_case() {
    let files = corpus();
    let names: Vec<&str> = files.iter().flat_map(|file| &file.cases).map(|case| case.name.as_str()).collect();
    let missing: Vec<String> = (1..=22)
        .map(|row| format!("G{row}"))
        .filter(|row| !names.iter().any(|name| name.split(|c: char| !c.is_alphanumeric()).any(|word| word == row)))
        .collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(unique.len(), names.len(), "two cases have one name");
}

fn corpus() -> Vec<File> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packets");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> File {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let text = fs::read_to_string(path).unwrap();
    let mut table: toml::Table = toml::from_str(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
    let words = table.remove("words").map(|words| words.try_into().unwrap()).unwrap_or_default();
    let cases = match table.remove("case") {
        Some(toml::Value::Array(cases)) => cases.into_iter().map(|case| read_case(&name, case)).collect(),
        _ => panic!("{name}: no cases"),
    };
    let world = table.try_into().unwrap_or_else(|why| panic!("{name}: {why}"));
    File { name, words, world, cases }
}

/// A case is its first step, with a name; more steps come in `then`.
fn read_case(file: &str, case: toml::Value) -> Case {
    let toml::Value::Table(mut table) = case else { panic!("{file}: a case is a table") };
    let name: String = table.remove("name").and_then(|name| name.try_into().ok()).expect("a case has a name");
    let step = |value: toml::Value| -> Step { value.try_into().unwrap_or_else(|why| panic!("{file}: {name}: {why}")) };
    let then = match table.remove("then") {
        Some(toml::Value::Array(steps)) => steps,
        _ => Vec::new(),
    };
    let steps = std::iter::once(toml::Value::Table(table)).chain(then).map(step).collect();
    Case { name, steps }
}

fn run(file: &File, case: &Case) -> Result<(), String> {
    let mut live = Live::start(&file.world);
    // Not at zero: what begins there may never have been.
    let start = Moment::from_millis(1_000_000);
    let mut now = start;
    for (nth, step) in case.steps.iter().enumerate() {
        if let Some(seconds) = step.at {
            now = start + Duration::from_secs_f64(seconds);
        }
        if let Some(change) = &step.change {
            live.change(change, now);
        }
        for _ in 0..step.times {
            run_step(file, step, &live, now).map_err(|why| format!("  step {}: {why}", nth + 1))?;
        }
    }
    Ok(())
}

fn run_step(file: &File, step: &Step, live: &Live, now: Moment) -> Result<(), String> {
    let Some(text) = &step.frame else { return Ok(()) };
    let bytes = notation::frame(&expand(file, text));
    let mut buffer = vec![0xee; FrameBuf::HEADROOM];
    buffer.extend(&bytes);
    buffer.extend([0xee; 1400]);
    let interface = live.interface(&step.on);
    let mut frame = FrameBuf::new(&mut buffer, FrameBuf::HEADROOM, bytes.len(), interface).unwrap();
    frame.stored = if step.partial { Stored::Partial } else { Stored::Whole };
    frame.segment = step.segment;
    frame.cut = step.cut;
    let got = decide(&live.tables, &live.shared, now, step.entropy, &mut frame);

    let mut wrong = String::new();
    let mut expect = |what: &str, want: &str, got: &str| {
        if want != got {
            let _ = write!(wrong, "{what} {got:?}, not {want:?}; ");
        }
    };
    let verdict = match got.action {
        Action::Send { interface } => format!("send {}", live.name(interface)),
        Action::Reply => "reply".to_owned(),
        Action::Pass => "pass".to_owned(),
        Action::Drop(reason) => format!("drop {}", reason.word()),
    };
    expect("verdict", step.verdict.as_deref().unwrap_or("none given"), &verdict);
    if let Some(why) = &step.why {
        expect("why", why, got.why.word());
    }
    let event = match got.event {
        None => String::new(),
        Some(Event::Conflict { address, mac }) => format!("conflict {address} {mac}"),
        Some(Event::Unresolved { link, address }) => format!("unresolved {address} {}", live.name(link.interface)),
    };
    expect("event", step.event.as_deref().unwrap_or_default(), &event);
    if let Some(endpoint) = step.endpoint {
        let got = got.service.zip(got.endpoint).map(|(service, index)| live.endpoint(service, index).to_string());
        expect("endpoint", &endpoint.to_string(), &got.unwrap_or_default());
    }
    let partial =
        step.still_partial.unwrap_or(step.partial && matches!(got.action, Action::Send { .. } | Action::Pass));
    if matches!(got.action, Action::Send { .. } | Action::Reply) {
        expect("partial", &partial.to_string(), &(frame.stored == Stored::Partial).to_string());
    }
    let out = match (&step.out, got.action) {
        (Some(out), _) => Some(notation::frame(&expand(file, out))),
        (None, Action::Pass) => Some(bytes),
        (None, _) => None,
    };
    let sent = matches!(got.action, Action::Send { .. } | Action::Reply);
    match out {
        Some(out) if out != frame.bytes() => {
            let at = out.iter().zip(frame.bytes()).position(|(a, b)| a != b);
            let at = at.unwrap_or(out.len().min(frame.bytes().len()));
            let part = |bytes: &[u8]| -> String {
                bytes.iter().skip(at & !7).take(24).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
            };
            let (want, is) = (show::frame(&out), show::frame(frame.bytes()));
            let _ = write!(
                wrong,
                "differs at byte {at}, of {} and {}\n    want {want}\n    got  {is}\n    want {:04x} {}\n    got  {:04x} {}",
                out.len(),
                frame.bytes().len(),
                at & !7,
                part(&out),
                at & !7,
                part(frame.bytes()),
            );
        }
        None if sent => {
            let _ = write!(wrong, "nothing said about what goes out:\n    got  {}", show::frame(frame.bytes()));
        }
        _ => {}
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong}\n    in   {}", expand(file, text))) }
}

/// The longest word first, or `$lb` would be found in `$lb1`.
fn expand(file: &File, text: &str) -> String {
    let mut words: Vec<_> = file.words.iter().collect();
    words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
    let text = words.iter().fold(text.to_owned(), |text, (word, means)| text.replace(&format!("${word}"), means));
    assert!(!text.contains('$'), "{}: no such word in {text}", file.name);
    text
}
