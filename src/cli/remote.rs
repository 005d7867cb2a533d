//! Wiring: the commands that ask a running Strata through its admin API.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::status as view;
use crate::admin::Client;
use crate::base::Listen;
use crate::base::address::AdminListen;
use crate::health::Intent;

pub fn status(admin: &str, json: bool) -> anyhow::Result<ExitCode> {
    let status = ask(async { Ok(client(admin)?.status().await?) }, admin)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", view::render(&status, std::io::stdout().is_terminal()));
    }
    Ok(ExitCode::SUCCESS)
}

pub fn intent(admin: &str, pool: &str, endpoint: &str, intent: Intent) -> anyhow::Result<ExitCode> {
    ask(async { Ok(client(admin)?.set_intent(pool, endpoint, intent).await?) }, admin)?;
    println!("{pool} {endpoint}: {}", intent.word());
    Ok(ExitCode::SUCCESS)
}

pub fn weight(admin: &str, pool: &str, endpoint: &str, weight: u16) -> anyhow::Result<ExitCode> {
    ask(async { Ok(client(admin)?.set_weight(pool, endpoint, u64::from(weight)).await?) }, admin)?;
    println!("{pool} {endpoint}: weight {weight}");
    Ok(ExitCode::SUCCESS)
}

/// 0: the new configuration is in force. 1: it was refused, and why is printed.
pub fn reload(admin: &str) -> anyhow::Result<ExitCode> {
    match ask(async { Ok(client(admin)?.reload().await?) }, admin)? {
        Ok(reloaded) => {
            println!("generation {}", reloaded.generation);
            for change in &reloaded.changes {
                println!("  {change}");
            }
            if reloaded.changes.is_empty() {
                println!("  nothing changed");
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(rejected) => {
            eprintln!("{}\n{}", rejected.rendered.trim_end(), rejected.error);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// 0 when Strata takes traffic.
pub fn healthcheck(admin: &str) -> anyhow::Result<ExitCode> {
    let (ready, word) = ask(async { Ok(client(admin)?.ready().await?) }, admin)?;
    println!("{}", word.trim_end());
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn client(admin: &str) -> anyhow::Result<Client> {
    let address = match admin.strip_prefix("unix:") {
        Some(path) => AdminListen::Unix(PathBuf::from(path)),
        None => AdminListen::Tcp(Listen::parse(admin).map_err(anyhow::Error::msg).context("--admin")?),
    };
    Ok(Client::new(address))
}

fn ask<T>(question: impl Future<Output = anyhow::Result<T>>, admin: &str) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(question).with_context(|| format!("asking {admin}"))
}
