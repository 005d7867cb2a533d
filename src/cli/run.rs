//! Wiring: `strata run`: from a file to a process that serves.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::task::LocalSet;

use crate::app::load::{self, First, Origin};
use crate::app::privileges;
use crate::app::supervisor::{Beginning, Supervisor};
use crate::app::upgrade::Predecessor;
use crate::config::Config;
use crate::config::value::LogFormat;
use crate::observe::sink::Sink;
use crate::observe::{log, panics};
use crate::sys;
use crate::sys::inherited::Inherited;

pub fn run(file: &Path) -> anyhow::Result<ExitCode> {
    let predecessor = Predecessor::find().context("the process that serves cannot be talked to")?;
    let outcome = serve(file, predecessor.clone());
    if let (Some(predecessor), Err(error)) = (predecessor, &outcome) {
        predecessor.refuse(&format!("{error:#}"));
    }
    outcome
}

fn serve(file: &Path, predecessor: Option<Predecessor>) -> anyhow::Result<ExitCode> {
    let origin = Origin::File(file.to_owned());
    // Before anything is opened that could have the numbers of what systemd has passed.
    let (activated, strange) = Inherited::from_systemd().context("sockets passed by systemd")?;
    let Some(first) = first(&origin)? else {
        if let Some(predecessor) = predecessor {
            predecessor.refuse(&format!("{origin} has mistakes: `strata check` shows them"));
        }
        return Ok(ExitCode::FAILURE);
    };
    privileges::settle(&first.snapshot).map_err(anyhow::Error::msg)?;
    // After it: another user's memory is visible anew.
    let hidden = sys::process::hide_memory();
    start_log(&first.config)?;
    // Root read them by a privilege that is gone.
    for (path, error) in first.asked.lost() {
        tracing::warn!(
            path = %path.display(), %error,
            "a file of the configuration cannot be read again, so every reload will fail: let the user that strata runs as own \
             it, or read it by its mode"
        );
    }
    for what in strange {
        tracing::warn!("systemd has passed something that nothing can listen on: {what}");
    }
    if let Err(error) = hidden {
        tracing::warn!(%error, "the memory of this process, keys included, may end up in a core dump");
    }
    let output = &first.config.access_log.output;
    let access = Sink::start(output).with_context(|| format!("[access_log]: cannot write {output}"))?;
    control(async move {
        let beginning = Beginning { predecessor, activated };
        let supervisor = Supervisor::start(origin, first, access, beginning).await?;
        Ok(supervisor.run().await)
    })
}

pub fn start_log(config: &Config) -> anyhow::Result<()> {
    log::start(config.log.level.word(), config.log.format == LogFormat::Json, &config.log.output)
        .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    panics::watch();
    Ok(())
}

/// The first snapshot of `origin`, or nothing after its mistakes were shown.
pub fn first(origin: &Origin) -> anyhow::Result<Option<First>> {
    let mut loaded = load::read(origin).with_context(|| format!("cannot read {origin}"))?;
    let snapshot = load::compile(&mut loaded, &load::nothing());
    // Warnings are shown as well: a start is when somebody looks.
    if !loaded.diagnostics.is_empty() {
        eprint!("{}", loaded.render(std::io::stderr().is_terminal()));
    }
    let warnings = loaded.warnings();
    let Some((config, snapshot)) = loaded.config.zip(snapshot) else { return Ok(None) };
    Ok(Some(First { config, snapshot, asked: loaded.asked, warnings, written: loaded.written }))
}

/// Runs the control thread's work, on this thread.
pub fn control<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // A proxy needs two descriptors a connection; what the hard limit gives is ours to use.
    if let Err(error) = sys::process::raise_descriptors() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}
