//! Wiring: `strata events`: what changed and why, a line each, in the words of the log; times in UTC, as the log has them.

use std::process::ExitCode;
use std::time::Duration;

use time::OffsetDateTime;
use time::macros::format_description;

use super::status::clean;
use super::{Admin, remote, say};
use crate::admin::document::{Event, Events};
use crate::base::{clock, limits, units};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: Admin,
    /// Those of so long, as in 10m; or those after an event's number, as in 128
    #[arg(long, value_name = "TIME|NUMBER", value_parser = since)]
    since: Option<Since>,
    /// At most so many, the last ones
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Ago(Duration),
    Number(u64),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(number) = text.parse() {
        return Ok(Since::Number(number));
    }
    units::parse_duration(text).map(Since::Ago).map_err(|error| format!("{error}: as in 10m, 2h or 128"))
}

pub(super) fn events(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let after = match arguments.since {
        Some(Since::Number(number)) => Some(number),
        Some(Since::Ago(_)) | None => None,
    };
    let client = remote::client(&arguments.admin)?;
    let mut page = remote::ask(async { Ok(client.events(after, limits::EVENTS).await?) })?;
    if let Some(Since::Ago(time)) = arguments.since {
        let now = OffsetDateTime::from(clock::wall());
        let from = now.checked_sub(time.try_into()?).map_or(0, |from| from.unix_timestamp_nanos() / 1_000_000);
        page.events.retain(|event| i128::from(event.at_ms) >= from);
    }
    let left_out = page.events.len().saturating_sub(arguments.limit);
    page.events.drain(..left_out);
    if arguments.json {
        say(format_args!("{}\n", serde_json::to_string_pretty(&page)?))?;
    } else {
        say(render(&page))?;
        if after.is_some_and(|after| after + 1 < page.oldest) {
            eprintln!("strata: events before {} are not kept any more", page.oldest);
        }
        if left_out > 0 && arguments.since.is_some() {
            eprintln!("strata: {left_out} earlier ones are not shown: --limit shows more");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Number, time, level, kind, text. The subject is part of the text.
fn render(page: &Events) -> String {
    let width = page.events.last().map_or(1, |event| event.seq.to_string().len());
    page.events.iter().map(|event| line(event, width)).collect()
}

fn line(event: &Event, width: usize) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(event.at_ms) * 1_000_000);
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let at = at.ok().and_then(|at| at.format(format).ok()).unwrap_or_else(|| event.at_ms.to_string());
    let Event { seq, level, kind, text, .. } = event;
    // What was read comes from a process, and names in it from files and networks.
    let text: Vec<String> = text.lines().map(clean).collect();
    format!("{seq:>width$}  {at}  {:5}  {:8}  {}\n", clean(level), clean(kind), text.join("\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_and_what_has_several_is_indented() {
        let event = |seq, at_ms, text: &str| Event {
            seq,
            at_ms,
            level: "warn".into(),
            kind: "reload".into(),
            text: text.into(),
            ..Event::default()
        };
        let events =
            vec![event(9, 0, "one"), event(10, 1_795_744_387_042, "refused: error[E001]: x\n --> a.toml:1:1\n\x1b[2J")];
        assert_eq!(
            render(&Events { events, ..Events::default() }),
            " 9  1970-01-01T00:00:00.000Z  warn   reload    one\n\
             10  2026-11-27T01:53:07.042Z  warn   reload    refused: error[E001]: x\n     --> a.toml:1:1\n    \\u{1b}[2J\n"
        );
    }

    #[test]
    fn since_is_a_time_or_a_number() {
        assert_eq!(since("10m"), Ok(Since::Ago(Duration::from_secs(600))));
        assert_eq!(since("128"), Ok(Since::Number(128)));
        assert!(since("yesterday").is_err());
    }
}
