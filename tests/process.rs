//! The process as an operator meets it: signals, exit codes, commands, limits, metrics and access records of the real binary.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "common/binary.rs"]
mod binary;
#[path = "process/bounds.rs"]
mod bounds;
#[path = "common/cli.rs"]
mod cli;
#[path = "process/commands.rs"]
mod commands;
mod common;
#[path = "process/limits.rs"]
mod limits;
#[path = "common/load.rs"]
mod load;
#[path = "process/logs.rs"]
mod logs;
#[path = "process/pressure.rs"]
mod pressure;
#[path = "process/privileges.rs"]
mod privileges;
#[path = "process/records.rs"]
mod records;
#[path = "process/signals.rs"]
mod signals;
#[path = "process/systemd.rs"]
mod systemd;
#[path = "process/upgrade.rs"]
mod upgrade;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use common::{Origin, holds_within};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

const GATE: Duration = Duration::from_secs(60);

/// An endpoint that answers `/slow` once its gate is open, everything else at once.
struct Gated {
    origin: Origin,
    gate: Arc<AtomicBool>,
}

impl Gated {
    fn new(name: &'static str) -> Gated {
        let gate = Arc::new(AtomicBool::new(false));
        let opened = gate.clone();
        let origin = Origin::serve(move |request| {
            if request.head.starts_with(b"GET /slow") {
                // Longer than all that a test awaits meanwhile.
                assert!(holds_within(GATE, || opened.load(Relaxed)), "the gate never opened");
            }
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()).into_bytes()
        });
        Gated { origin, gate }
    }

    fn open(&self) {
        self.gate.store(true, Relaxed);
    }

    fn address(&self) -> String {
        self.origin.address.to_string()
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        self.open();
    }
}

/// One L7 service over `endpoints`.
fn edge(endpoints: &[String]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    format!(
        "[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n[pool.web]\nbalance = \"round-robin\"\n\
         endpoints = [{}]\n",
        endpoints.join(", ")
    )
}
