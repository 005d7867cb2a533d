//! Wiring: `strata list`: what there is to choose from and what words mean, from the catalogues themselves.

use std::process::ExitCode;

use clap::ValueEnum;

use super::say;
use crate::base::Reason;
use crate::config::grammar::SECTIONS;
use crate::doc::codes::CODES;
use crate::observe::names;
use crate::state::{Forward, ModeKind};
use crate::wire::http1::Reject;
use crate::{balance, probe, source};

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Topic {
    /// Ways to pick an endpoint: `balance = "…"`
    Pickers,
    /// Active health checks: `probe = "…"`
    Probes,
    /// Where endpoints come from: `source = { … }`
    Sources,
    /// Layers that a service can work at: `mode = "…"`
    Modes,
    /// Keys of the configuration
    Keys,
    /// Why something was not forwarded
    Reasons,
    /// Mistakes that `check` knows
    Codes,
    /// What `/metrics` shows
    Metrics,
}

/// A word, and what it means in one line.
struct Row {
    word: String,
    meaning: String,
}

/// The rows of one topic; without one, the topics.
pub fn list(topic: Option<Topic>, json: bool) -> anyhow::Result<ExitCode> {
    let rows = topic.map_or_else(topics, rows);
    if json {
        let rows: Vec<_> =
            rows.iter().map(|row| serde_json::json!({ "word": row.word, "meaning": row.meaning })).collect();
        say(format_args!("{:#}\n", serde_json::Value::Array(rows)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = rows.iter().map(|row| row.word.len()).max().unwrap_or(0);
    let text: String = rows.iter().map(|row| format!("{:width$}  {}\n", row.word, row.meaning)).collect();
    say(text)?;
    Ok(ExitCode::SUCCESS)
}

fn topics() -> Vec<Row> {
    let help = |topic: &Topic| {
        topic.to_possible_value().map(|value| (value.get_name().to_owned(), value.get_help().map(ToString::to_string)))
    };
    let row = |topic| help(topic).map(|(word, meaning)| Row { word, meaning: meaning.unwrap_or_default() });
    Topic::value_variants().iter().filter_map(row).collect()
}

fn rows(topic: Topic) -> Vec<Row> {
    let row = |word: &str, meaning: &str| Row { word: word.to_owned(), meaning: meaning.to_owned() };
    match topic {
        Topic::Pickers => balance::CATALOG.iter().map(|spec| row(spec.grammar.name, spec.grammar.summary)).collect(),
        Topic::Probes => probe::CATALOG.iter().map(|spec| row(spec.grammar.name, spec.grammar.summary)).collect(),
        Topic::Sources => {
            let fixed =
                row("fixed", "`endpoints` of the pool itself: no `source` is needed, and with one they are the first");
            [fixed]
                .into_iter()
                .chain(source::CATALOG.iter().map(|spec| row(spec.grammar.name, spec.grammar.summary)))
                .collect()
        }
        Topic::Modes => modes().iter().map(|(word, meaning)| row(word, meaning)).collect(),
        Topic::Keys => keys(),
        Topic::Reasons => {
            let rejects = Reject::ALL.iter().map(|reject| row(reject.word(), reject.meaning()));
            Reason::ALL.iter().map(|reason| row(reason.word(), reason.meaning())).chain(rejects).collect()
        }
        Topic::Codes => CODES.iter().map(|code| row(code.id, code.explain)).collect(),
        Topic::Metrics => names::ALL.iter().map(|metric| row(metric.name, metric.help)).collect(),
    }
}

/// Modes with what they forward by.
pub fn modes() -> Vec<(String, &'static str)> {
    let packets = |mode: ModeKind, forward: Forward, meaning| (format!("{} {}", mode.word(), forward.word()), meaning);
    vec![
        (
            ModeKind::L2.word().to_owned(),
            "packets: the destination's MAC address; endpoints carry the VIP and answer clients themselves",
        ),
        packets(
            ModeKind::L3,
            Forward::Nat,
            "packets: the destination's address, back and forth; any protocol, any port",
        ),
        packets(
            ModeKind::L3,
            Forward::FullNat,
            "packets of TCP and UDP: both addresses, so that replies find their way back from anywhere",
        ),
        packets(
            ModeKind::L3,
            Forward::Ipip,
            "packets: an outer header of IP; endpoints unpack it and answer clients themselves",
        ),
        packets(
            ModeKind::L3,
            Forward::Gue,
            "packets: an outer header of UDP, which networks spread better, to port 6080 (GUE variant 0); else as ipip",
        ),
        ("l4 proxy".to_owned(), "TCP connections, relayed byte by byte"),
        packets(ModeKind::L4, Forward::Nat, "packets of declared ports: address and port"),
        packets(ModeKind::L4, Forward::FullNat, "packets of declared ports: both addresses and ports"),
        (ModeKind::L7.word().to_owned(), "HTTP/1.1 requests, routed by host and path"),
    ]
}

fn keys() -> Vec<Row> {
    let row = |(title, key): (&str, &crate::config::grammar::Key)| Row {
        word: format!("{title} {}", key.name),
        meaning: key.help.to_owned(),
    };
    SECTIONS.iter().flat_map(|section| section.keys.iter().map(move |key| (section.title, key))).map(row).collect()
}
