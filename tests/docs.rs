//! Pages of `docs/`, `deploy/man/` and `deploy/completions/` that repeat what the code says are held to it.
//!
//! `STRATA_BLESS=1 cargo test --test docs` writes them anew; read the difference before committing it.

use std::fmt::Write as _;
use std::fs;

use strata::base::Reason;
use strata::wire::http1::Reject;

#[path = "docs/manual.rs"]
mod manual;
#[path = "docs/metrics.rs"]
mod metrics;
#[path = "docs/reference.rs"]
mod reference;
#[path = "docs/words.rs"]
mod words;

#[test]
fn every_drop_reason_stands_in_its_page_with_its_meaning() {
    let mut page = String::from(DROPS);
    for (title, packets) in [("## Packets", true), ("## Connections and requests", false)] {
        let _ = write!(page, "\n{title}\n\n| word | what it means | what to do |\n|---|---|---|\n");
        for reason in Reason::ALL.iter().filter(|reason| reason.is_of_packets() == packets) {
            let (word, meaning, way_out) = (reason.word(), reason.meaning(), reason.way_out());
            let _ = writeln!(page, "| `{word}` | {} | {} |", cell(meaning), cell(way_out));
        }
    }
    page.push_str("\n## Malformed HTTP\n\nAll of these are the sender's to mend. The status is what a client gets; an endpoint's mistakes are 502.\n\n");
    page.push_str("| word | status | what was wrong |\n|---|---|---|\n");
    for reject in Reject::ALL {
        let _ = writeln!(page, "| `{}` | {} | {} |", reject.word(), reject.status(), cell(reject.meaning()));
    }
    held("docs/drops.md", &page);
}

#[test]
fn every_check_of_doctor_stands_in_its_page() {
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_strata")).args(["doctor", "--checks"]).output().unwrap();
    let page = fs::read_to_string("docs/doctor.md").unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: Vec<String> = page.lines().map(words).collect();
    for line in listed.lines() {
        assert!(shown.contains(&words(line)), "docs/doctor.md lacks {line:?}, of `strata doctor --checks`");
    }
    assert!(listed.lines().count() > 10, "{listed}");
}

#[test]
fn the_description_of_the_api_is_what_it_answers() {
    let described = serde_json::to_string_pretty(&strata::admin::openapi::document()).unwrap();
    held("docs/openapi.json", &(described + "\n"));
}

#[test]
fn every_kind_of_event_stands_in_the_page_of_the_api() {
    let page = fs::read_to_string("docs/api.md").unwrap();
    for (kind, meaning) in strata::observe::events::KINDS {
        let row = format!("| `{kind}` | {meaning} |");
        assert!(page.contains(&row), "docs/api.md lacks {row:?}");
    }
    assert!(page.contains(&format!("the last {} changes", strata::base::limits::EVENTS)));
}

/// A row of the hardening catalogue means nothing to a reader of the page.
fn cell(text: &str) -> String {
    let text = match (text.rfind(" ("), text.strip_suffix(").")) {
        (Some(at), Some(_)) if text[at + 2..].starts_with(|c: char| c.is_ascii_uppercase()) => {
            format!("{}.", &text[..at])
        }
        _ => text.to_owned(),
    };
    text.replace('|', "\\|")
}

fn held(path: &str, page: &str) {
    if std::env::var_os("STRATA_BLESS").is_some() {
        fs::write(path, page).unwrap();
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    let differs = there.lines().zip(page.lines()).find(|(there, wanted)| there != wanted);
    assert!(there == page, "{path} is not what the code says ({differs:?}): STRATA_BLESS=1 cargo test --test docs");
}

const DROPS: &str = "# Drop reasons

What Strata does not forward has one word that says why: the `reason` of `strata_drops_total`, the `why` of an access record, and
the word of `strata explain` and `strata replay`. A packet that is dropped before it is known which service it is for is in
`strata_stray_packets_dropped_total`. A test holds this page to the code.
";
