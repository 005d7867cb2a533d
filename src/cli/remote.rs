//! Wiring: the commands that ask a running Strata through its admin API.

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::{Admin, say, status as view};
use crate::admin::document::{Explained, ReloadRejected, Reloaded};
use crate::admin::{Client, ClientError, Of};
use crate::app::load::{self, Origin};
use crate::base::Listen;
use crate::base::address::AdminListen;
use crate::config::Config;
use crate::doc::Secret;
use crate::health::Intent;
use crate::sys;

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
    show(ask(async { Ok(client(admin)?.reload().await?) })?)
}

/// The same, of the process that serves `file`; for service managers, which know the file and the process, and not where it is asked.
pub fn reload_of(file: &Path, pid: Option<u32>) -> anyhow::Result<ExitCode> {
    let Some(config) = read(file)? else { return Ok(ExitCode::FAILURE) };
    let why = match config.admin {
        None => format!("{} has no [admin] to be asked at", file.display()),
        Some(admin) => {
            let client = Client::new(admin.listen.value);
            let client = match &admin.token {
                Some(token) => client.token(token).context("the token cannot be sent: it is not ASCII")?,
                None => client,
            };
            match ask(async { Ok(client.reload().await) })? {
                Ok(outcome) => return show(outcome),
                // What was edited may be the very address, or the token.
                Err(error @ (ClientError::Unreachable { .. } | ClientError::Refused { status: 401 | 403, .. })) => {
                    error.to_string()
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    let Some(pid) = pid else { anyhow::bail!("{why}") };
    sys::process::hang_up(pid).with_context(|| format!("{why}, and process {pid} cannot be sent SIGHUP"))?;
    say(format_args!("{why}: process {pid} was sent SIGHUP, and its log says what came of it\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// What `file` says, or nothing after its mistakes were shown.
fn read(file: &Path) -> anyhow::Result<Option<Config>> {
    let loaded =
        load::read(&Origin::File(file.to_owned())).with_context(|| format!("cannot read {}", file.display()))?;
    if loaded.config.is_none() {
        eprint!("{}", loaded.render(std::io::stderr().is_terminal()));
    }
    Ok(loaded.config)
}

fn show(outcome: Result<Reloaded, ReloadRejected>) -> anyhow::Result<ExitCode> {
    match outcome {
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
pub fn healthcheck(admin: &Admin, of: &Of) -> anyhow::Result<ExitCode> {
    let client = client(admin)?;
    let (ready, word) = ask(async { Ok(client.ready(of).await) })?.map_err(|error| match error {
        // What a container's check also fails by where its file has no [admin], or one elsewhere: `docker inspect` shows this line.
        ClientError::Unreachable { .. } => anyhow::anyhow!("{error}{NO_ADMIN}"),
        error => error.into(),
    })?;
    say(format_args!("{}\n", word.trim_end()))?;
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn client(admin: &Admin) -> anyhow::Result<Client> {
    let client = Client::new(match &admin.admin {
        Some(admin) => address(admin)?,
        None => default_address(Path::new(PACKAGED)),
    });
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

/// Where the service of the package listens, if it runs or has run on this machine; or what every example says.
fn default_address(packaged: &Path) -> AdminListen {
    match packaged.exists() {
        true => AdminListen::Unix(packaged.to_owned()),
        false => AdminListen::Tcp(Listen::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 9900)))),
    }
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

/// Of `deploy/debian/strata.toml`.
const PACKAGED: &str = "/run/strata/strata/admin.sock";
const NO_ADMIN: &str = " (is it running? If it is, its configuration needs an `[admin]` that listens there; STRATA_ADMIN or --admin says \
                        where else it does)";
const TOKEN: &str = "STRATA_ADMIN_TOKEN";
