//! Wiring: the commands that ask a running Strata through its admin API.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::{Admin, say, status as view};
use crate::admin::Client;
use crate::admin::document::Explained;
use crate::base::Listen;
use crate::base::address::AdminListen;
use crate::doc::Secret;
use crate::health::Intent;

pub fn status(admin: &Admin, json: bool) -> anyhow::Result<ExitCode> {
    let status = ask(async { Ok(client(admin)?.status().await?) })?;
    if json {
        say(format_args!("{}\n", serde_json::to_string_pretty(&status)?))?;
    } else {
        say(view::render(&status, std::io::stdout().is_terminal()))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn intent(admin: &Admin, pool: &str, endpoint: &str, intent: Intent) -> anyhow::Result<ExitCode> {
    ask(async { Ok(client(admin)?.set_intent(pool, endpoint, intent).await?) })?;
    say(format_args!("{pool} {endpoint}: {}\n", intent.word()))?;
    Ok(ExitCode::SUCCESS)
}

pub fn weight(admin: &Admin, pool: &str, endpoint: &str, weight: u16) -> anyhow::Result<ExitCode> {
    ask(async { Ok(client(admin)?.set_weight(pool, endpoint, u64::from(weight)).await?) })?;
    say(format_args!("{pool} {endpoint}: weight {weight}\n"))?;
    Ok(ExitCode::SUCCESS)
}

pub fn explain(admin: &Admin, what: &str, pairs: &[(&str, &str)]) -> anyhow::Result<Explained> {
    ask(async { Ok(client(admin)?.explain(what, pairs).await?) })
}

/// 0: the new configuration is in force. 1: it was refused, and why is printed.
pub fn reload(admin: &Admin) -> anyhow::Result<ExitCode> {
    match ask(async { Ok(client(admin)?.reload().await?) })? {
        Ok(reloaded) => {
            eprint!("{}", reloaded.warnings);
            say(format_args!("generation {}\n", reloaded.generation))?;
            for change in &reloaded.changes {
                say(format_args!("  {change}\n"))?;
            }
            if reloaded.changes.is_empty() {
                say(format_args!("  nothing changed\n"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(rejected) => {
            eprintln!("{}\n{}", rejected.rendered.trim_end(), rejected.error);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// 0: another process serves, and the one before finishes what it carries. 1: it could not, and why is printed.
pub fn upgrade(admin: &Admin) -> anyhow::Result<ExitCode> {
    // Its file says how long it waits for the new one: `[process] upgrade_timeout`, an hour at most.
    let patient = client(admin)?.timeout(Duration::from_secs(3700));
    let upgraded = ask(async { Ok(patient.upgrade().await?) })?;
    say(format_args!("process {} serves\n", upgraded.pid))?;
    Ok(ExitCode::SUCCESS)
}

/// 0 when Strata takes traffic.
pub fn healthcheck(admin: &Admin) -> anyhow::Result<ExitCode> {
    let (ready, word) = ask(async { Ok(client(admin)?.ready().await?) })?;
    say(format_args!("{}\n", word.trim_end()))?;
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn client(admin: &Admin) -> anyhow::Result<Client> {
    let client = address(&admin.admin).map(Client::new)?;
    match token(admin)? {
        Some(token) => client.token(&token).context("the token cannot be sent: it is not ASCII"),
        None => Ok(client),
    }
}

/// From its file, or from the environment: not from an argument, which every user of the machine can see.
fn token(admin: &Admin) -> anyhow::Result<Option<Secret>> {
    let text = match &admin.token_file {
        Some(file) => Some(std::fs::read_to_string(file).with_context(|| format!("--token-file {}", file.display()))?),
        None => std::env::var(TOKEN).ok(),
    };
    Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).map(|text| Secret::new(&text)))
}

fn address(admin: &str) -> anyhow::Result<AdminListen> {
    if let Some(path) = admin.strip_prefix("unix:") {
        return Ok(AdminListen::Unix(PathBuf::from(path)));
    }
    // The one name that needs no resolver, and that people type.
    let address = admin.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let listen = Listen::parse(address.as_deref().unwrap_or(admin)).map_err(anyhow::Error::msg);
    Ok(AdminListen::Tcp(listen.with_context(|| format!("--admin {admin}"))?))
}

pub(super) fn ask<T>(question: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(question)
}

const TOKEN: &str = "STRATA_ADMIN_TOKEN";
