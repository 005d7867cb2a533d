//! The corpus of packets: tables, a frame in, and what becomes of it, byte for byte (`tests/packets/README.md`).
//!
//! The cases are data, so that another engine can be held to them: all it needs is to run a [`Step`]. The first engine is held to
//! more by them: whatever a packet is and becomes, deciding about it allocates nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use serde::Deserialize;
use strata::base::Moment;
use strata::flow::decide::{Action, Event};
use strata::flow::{FrameBuf, decide};
use strata::sys::allocation::{Counting, taken};
use strata::wire::checksum::Stored;
use strata::wire::segments::{Kind, Merged, Segments};
use strata::wire::show;

use world::{Change, Live, World};

#[path = "packets/notation.rs"]
mod notation;
#[path = "packets/properties.rs"]
mod properties;
#[path = "packets/world.rs"]
mod world;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
    /// Whether it is still many after.
    still_many: Option<bool>,
    /// Those are fragments of one datagram.
    #[serde(default)]
    of_fragments: bool,
    /// After `divide`: what becomes of each packet in the frame.
    #[serde(default)]
    each: Vec<Part>,
    #[serde(default)]
    cut: bool,
    /// The same frame as often, and each time the same.
    #[serde(default = "once")]
    times: usize,
    /// `send LINK`, `reply`, `divide`, `pass`, `drop WORD`.
    verdict: Option<String>,
    why: Option<String>,
    endpoint: Option<std::net::IpAddr>,
    event: Option<String>,
    out: Option<String>,
}

/// What must become of one packet of many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    verdict: String,
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
    let Some(text) = &step.frame else {
        let says = step.verdict.is_some() || step.why.is_some() || step.out.is_some() || step.event.is_some();
        let idle = step.change.is_none() || says;
        return if idle { Err("without a frame nothing can be expected".to_owned()) } else { Ok(()) };
    };
    let bytes = notation::frame(&expand(file, text));
    let mut buffer = vec![0xee; FrameBuf::HEADROOM];
    buffer.extend(&bytes);
    buffer.extend([0xee; 1400]);
    let interface = live.interface(&step.on);
    let mut frame = FrameBuf::new(&mut buffer, FrameBuf::HEADROOM, bytes.len(), interface).unwrap();
    frame.stored = if step.partial { Stored::Partial } else { Stored::Whole };
    let kind = if step.of_fragments { Kind::Other } else { Kind::Segments };
    frame.merged = step.segment.map(|size| Merged { kind, size });
    let merged = frame.merged;
    frame.cut = step.cut;
    let before = taken();
    let got = decide(&live.tables, &live.shared, now, step.entropy, &mut frame);
    let allocated = taken() - before;

    let mut wrong = String::new();
    if allocated > 0 {
        let _ = write!(wrong, "{allocated} allocations; ");
    }
    let mut expect = |what: &str, want: &str, got: &str| {
        if want != got {
            let _ = write!(wrong, "{what} {got:?}, not {want:?}; ");
        }
    };
    expect("verdict", step.verdict.as_deref().unwrap_or("none given"), &word(live, got.action));
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
        let many = step.still_many.unwrap_or(step.segment.is_some() && got.action != Action::Reply);
        expect("many", &many.to_string(), &frame.merged.is_some().to_string());
    }
    let out = match (&step.out, got.action) {
        (Some(out), _) => Some(notation::frame(&expand(file, out))),
        (None, Action::Pass | Action::Divide) => Some(bytes),
        (None, _) => None,
    };
    let sent = matches!(got.action, Action::Send { .. } | Action::Reply);
    match out {
        Some(out) => wrong.push_str(&differs(&out, frame.bytes())),
        None if sent => {
            let _ = write!(wrong, "nothing said about what goes out:\n    got  {}", show::frame(frame.bytes()));
        }
        _ => {}
    }
    if let (Action::Divide, Some(merged)) = (got.action, merged) {
        wrong.push_str(&divided(file, step, live, now, frame.bytes(), merged));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong}\n    in   {}", expand(file, text))) }
}

fn word(live: &Live, action: Action) -> String {
    match action {
        Action::Send { interface } => format!("send {}", live.name(interface)),
        Action::Reply => "reply".to_owned(),
        Action::Divide => "divide".to_owned(),
        Action::Pass => "pass".to_owned(),
        Action::Drop(reason) => format!("drop {}", reason.word()),
    }
}

/// Where two frames are not the same, if they are not.
fn differs(want: &[u8], got: &[u8]) -> String {
    if want == got {
        return String::new();
    }
    let at = want.iter().zip(got).position(|(a, b)| a != b).unwrap_or(want.len().min(got.len()));
    let part = |bytes: &[u8]| -> String {
        bytes.iter().skip(at & !7).take(24).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    };
    format!(
        "differs at byte {at}, of {} and {}\n    want {}\n    got  {}\n    want {:04x} {}\n    got  {:04x} {}",
        want.len(),
        got.len(),
        show::frame(want),
        show::frame(got),
        at & !7,
        part(want),
        at & !7,
        part(got),
    )
}

/// Has each packet of a frame that is many decided about, and says what is not as the step wants it.
fn divided(file: &File, step: &Step, live: &Live, now: Moment, bytes: &[u8], merged: Merged) -> String {
    let segments = Segments::of_frame(bytes, merged).expect("a frame that is divided can be");
    let mut wrong = String::new();
    if segments.count() != step.each.len() {
        let _ = write!(wrong, "{} packets, not {}; ", segments.count(), step.each.len());
    }
    for (nth, want) in step.each.iter().enumerate().take(segments.count()) {
        let mut buffer = vec![0xee; FrameBuf::HEADROOM + segments.longest() + 1400];
        let len = segments.write(bytes, nth, &mut buffer[FrameBuf::HEADROOM..]).expect("room");
        let interface = live.interface(&step.on);
        let mut frame = FrameBuf::new(&mut buffer, FrameBuf::HEADROOM, len, interface).unwrap();
        let got = word(live, decide(&live.tables, &live.shared, now, step.entropy, &mut frame).action);
        let out = want.out.as_ref().map(|out| notation::frame(&expand(file, out)));
        let differs = out.map_or_else(String::new, |out| differs(&out, frame.bytes()));
        if got != want.verdict || !differs.is_empty() {
            let _ = write!(wrong, "packet {nth} {got:?}, not {:?} {differs}; ", want.verdict);
        }
    }
    wrong
}

/// The longest word first, or `$lb` would be found in `$lb1`.
fn expand(file: &File, text: &str) -> String {
    let mut words: Vec<_> = file.words.iter().collect();
    words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
    let text = words.iter().fold(text.to_owned(), |text, (word, means)| text.replace(&format!("${word}"), means));
    assert!(!text.contains('$'), "{}: no such word in {text}", file.name);
    text
}
