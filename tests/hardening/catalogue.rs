//! The rows of the catalogue about endpoints (`I`) and the process (`J`): which fault is injected for each, and which tests do it.
//!
//! A test says by its name which rows it is of (`j13_j14_…`), wherever it stands. `README.md` beside this file is made from both:
//! `STRATA_BLESS=1 cargo test --test hardening` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Each row, and the fault that its tests bring about.
const ROWS: &[(&str, &str)] = &[
    ("I1", "SIGKILL of one of three endpoints under load, twenty times"),
    ("I2", "an endpoint that closes, or is killed, with a POST in its hands"),
    (
        "I3",
        "every endpoint ill, or killed: 10 ms are held at the median in `kill.rs`, that nothing waits in `resilience.rs`",
    ),
    (
        "I4",
        "endpoints that close without an answer, or are slow and miss probes by turns; twice the load that they carry",
    ),
    ("I5", "a check that fails and passes by turns"),
    ("I6", "half of the endpoints ill, one of the others drained"),
    ("I7", "endpoints that answer 503 or close, after which they are tried again"),
    ("I8", "probes that nobody answers, while traffic is answered; and endpoints that are really dead"),
    ("I9", "name servers that deny, fail, are silent or have nothing"),
    ("I10", "name servers that answer with loopback, with a VIP, or with ten thousand records"),
    ("I11", "a new endpoint beside warm ones"),
    ("I12", "an endpoint that is drained with requests in its hands"),
    ("J1", "five kinds of mistakes in the file, each at `check`, at a reload and at a start"),
    ("J2", "reloads of wrong files under load"),
    ("J3", "twenty reloads under load, each of which changes something"),
    ("J4", "successors that end, hang, or refuse the file"),
    ("J5", "SIGTERM with requests under way, connections that idle, and one that is stuck"),
    ("J8", "a full disk, a pipe that nobody reads, a pipe that is closed, under either log"),
    ("J9", "a process without descriptors"),
    ("J10", "a process at the limit of its memory"),
    ("J11", "a process that stands still, so that the clock jumps; sources that read the wall clock"),
    ("J12", "a task that panics"),
    ("J13", "questions from other machines and pages to the admin API, without its token or with a wrong one"),
    ("J14", "paths that climb, bodies without end, changes that nobody may make"),
    ("J15", "ten thousand hosts and paths"),
    ("J16", "a crash with keys in memory; secrets in every place that prints"),
    ("J17", "an accept queue that overflows"),
];

/// Tests by row, each as `file: name`.
fn tests() -> BTreeMap<String, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join("src"), &mut files);
    walk(&root.join("tests"), &mut files);
    files.sort();
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        let file = file.strip_prefix(root).expect("below the root").display().to_string();
        let mut is_test = false;
        for line in text.lines().map(str::trim_start) {
            let signature = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            let name = signature.and_then(|rest| rest.split('(').next());
            if let Some(name) = name.filter(|_| is_test) {
                rows_of(name).for_each(|row| tests.entry(row).or_default().push(format!("`{file}`: {name}")));
            }
            is_test = line == "#[test]" || line == "#[tokio::test]" || is_test && line.starts_with("#[");
        }
    }
    tests
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            walk(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
}

/// `J13` and `J14` of `j13_j14_a_token_is_asked_for`.
fn rows_of(name: &str) -> impl Iterator<Item = String> {
    let row = |part: &&str| {
        let number = part.strip_prefix(['i', 'j']);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    name.split('_').take_while(row).map(str::to_uppercase)
}

#[test]
fn every_row_of_endpoints_and_of_the_process_has_a_test_of_its_name() {
    let tests = tests();
    let mut page = String::from(
        "# Faults of endpoints and of the process\n\nRows `I` and `J` of the hardening catalogue, the fault that is injected for each, and \
         the tests that do it. Made from their names\n(`STRATA_BLESS=1 cargo test --test hardening`); rows `A` to `C` are the tables of this \
         folder.\n\n| row | fault | tests |\n|---|---|---|\n",
    );
    let mut missing: Vec<&&str> = Vec::new();
    for (row, fault) in ROWS {
        let named = tests.get(*row).map(|named| named.join("<br>"));
        let _ = writeln!(page, "| {row} | {fault} | {} |", named.as_deref().unwrap_or("-"));
        missing.extend(named.is_none().then_some(row));
    }
    assert!(missing.is_empty(), "no test is named by {missing:?}");
    let strangers: Vec<&String> = tests.keys().filter(|row| !ROWS.iter().any(|(known, _)| known == row)).collect();
    assert!(strangers.is_empty(), "what is the fault of {strangers:?}? It belongs in `ROWS`");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hardening/README.md");
    if std::env::var_os("STRATA_BLESS").is_some() {
        fs::write(&path, &page).expect("the page");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "{} is not what the tests say: STRATA_BLESS=1 cargo test --test hardening", path.display());
}

#[test]
fn names_say_which_rows_they_are_of() {
    for (name, rows) in [
        ("j13_j14_a_token", &["J13", "J14"][..]),
        ("i1_twenty_deaths", &["I1"]),
        ("in_flight_i1", &[]),
        ("j_no_number", &[]),
        ("iterations", &[]),
    ] {
        assert_eq!(rows_of(name).collect::<Vec<_>>(), rows, "{name}");
    }
}
