//! Wiring: `strata top`: rates, latencies and states of what runs, live on a terminal, or as text or JSON for scripts.

use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;

use super::{remote, say};
use crate::admin::Client;
use crate::base::units::parse_duration;
use crate::base::{clock, limits};
use crate::sys::terminal;
use desk::{Desk, Sort};

mod desk;
mod draw;
mod keys;
mod rates;
mod screen;
#[cfg(test)]
mod tests;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: super::Admin,
    /// Time between two looks, which rates are over: 500ms, 2s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = every)]
    interval: Duration,
    /// Print one interval as text, and end
    #[arg(long, conflicts_with = "iterations")]
    once: bool,
    /// Print so many intervals as text, and end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    iterations: Option<u32>,
    /// One document a line instead of text
    #[arg(long)]
    json: bool,
    /// By which column
    #[arg(long, value_name = "COLUMN", default_value = "file", value_parser = PossibleValuesParser::new(Sort::ALL.map(Sort::word)))]
    sort: String,
    /// Only what has this in a name, pool, state or cause
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,
}

fn every(text: &str) -> Result<Duration, String> {
    let (least, most) = (limits::TOP_INTERVAL_LEAST, limits::TOP_INTERVAL_MOST);
    match parse_duration(text) {
        Ok(every) if (least..=most).contains(&every) => Ok(every),
        Ok(_) => Err(format!("from {least:?} to {} minutes", most.as_secs() / 60)),
        Err(why) => Err(why.to_string()),
    }
}

/// 1: Strata did not answer; on a terminal only where it did not at the start.
pub(super) fn top(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = remote::client(&arguments.admin)?;
    let sort = Sort::parse(&arguments.sort).unwrap_or(Sort::File);
    // An empty NO_COLOR is none (no-color.org).
    let colour = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let iterations = match (arguments.iterations, arguments.once || arguments.json) {
        (Some(count), _) => Some(count),
        (None, true) => Some(1),
        (None, false) if !terminal::is_there() => {
            eprintln!("strata: no terminal to draw on: one interval as text, as with --once");
            Some(1)
        }
        (None, false) => None,
    };
    remote::ask(async {
        match iterations {
            Some(count) => print(&client, arguments, sort, count, colour).await,
            None => {
                let first = client.status().await?;
                let desk = Desk::new(arguments.interval, sort, &arguments.filter);
                screen::watch(client, first, desk, colour).await
            }
        }
    })
}

async fn print(
    client: &Client,
    arguments: &Arguments,
    sort: Sort,
    iterations: u32,
    colour: bool,
) -> anyhow::Result<ExitCode> {
    // In a file or a pipe every column has room.
    let width = terminal::size().map_or(usize::MAX, |(width, _)| usize::from(width));
    let colour = colour && terminal::size().is_some();
    let mut before = (client.status().await?, clock::now());
    let mut code = ExitCode::SUCCESS;
    for nth in 0..iterations {
        tokio::time::sleep(arguments.interval).await;
        let (answer, at) = (client.status().await, clock::now());
        let now = match answer {
            Ok(now) => now,
            Err(error) => {
                // The next look tells of the time since the last that was answered.
                eprintln!("strata: {error}");
                code = ExitCode::FAILURE;
                continue;
            }
        };
        let report = rates::report(Some(&before.0), &now, at.since(before.1));
        let report = desk::arrange(&report, sort, false, &arguments.filter);
        if arguments.json {
            say(format_args!("{}\n", serde_json::to_string(&report)?))?;
        } else {
            if nth > 0 {
                say("\n")?;
            }
            for line in draw::page(&report, width) {
                say(format_args!("{}\n", line.render(width, colour, false).trim_end()))?;
            }
        }
        before = (now, at);
    }
    Ok(code)
}
