//! Shell: Strata's own log, on standard error: text for people (coloured on a terminal) or one JSON object a line.
//!
//! `tracing-subscriber` escapes control characters of values from 0.3.20 on, so that what the network sends cannot drive a
//! terminal (C6, RUSTSEC-2025-0055). Not here: access records (`access`, `sink`).

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging at `level` and above; `STRATA_LOG` overrides it, with `tracing-subscriber`'s directives.
///
/// # Errors
/// Logging was started before, or `STRATA_LOG` cannot be read.
pub fn start(level: &str, json: bool) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = match std::env::var("STRATA_LOG") {
        Ok(directives) => EnvFilter::try_new(directives)?,
        Err(_) => EnvFilter::try_new(level)?,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = if json {
        lines.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    started
}
