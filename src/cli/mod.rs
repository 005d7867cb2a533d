//! Wiring: the commands. Arguments in, an exit code out: 0 done, 1 the answer is no, 2 wrong usage.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand};

use crate::admin::Of;
use crate::app::imagined;
use crate::app::load::{self, Origin};
use crate::base::limits;
use crate::health::Intent;
use crate::observe::log;
use crate::state::Snapshot;

mod check;
mod decapsulate;
mod demo;
mod diff;
mod docker_proxy;
mod doctor;
mod dump;
mod echo;
mod events;
mod explain;
pub mod generate;
pub mod list;
mod quick;
mod remote;
mod replay;
mod run;
mod setup_endpoint;
pub mod status;
mod top;
mod try_out;

/// One load balancer for every layer.
#[derive(Debug, Parser)]
#[command(name = "strata", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what FILE says until told to stop (HUP reloads, USR2 upgrades, TERM drains, a second TERM or INT stops at once)
    Run {
        /// The configuration
        file: PathBuf,
    },
    /// Say whether each FILE is a valid configuration, with every mistake it has
    Check {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Diagnostics as JSON, one document
        #[arg(long)]
        json: bool,
    },
    /// Show Strata at work on this machine: three echo endpoints, an L7 and an L4 service, metrics and admin
    Demo,
    /// Balance without a file: `strata quick l7 --listen :8080 --to 10.0.0.11:8080,10.0.0.12:8080`
    Quick(quick::Arguments),
    /// What is served, over which endpoints, and how they are
    Status {
        #[command(flatten)]
        admin: Admin,
        #[arg(long)]
        json: bool,
    },
    /// Rates, latencies, errors and states of what is served, live; keys sort, filter and drain (h shows them)
    Top(top::Arguments),
    /// No new work for an endpoint; what is open finishes. Until `restore`, or until Strata ends: it is not in the file
    Drain(Target),
    /// Take an endpoint out; it is not probed either
    Maintain(Target),
    /// Give an endpoint back what the file says
    Restore(Target),
    /// Set an endpoint's weight until the file changes it
    Weight {
        #[command(flatten)]
        target: Target,
        /// 1 to 1000
        #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(limits::WEIGHT)))]
        weight: u16,
    },
    /// Read the file again; waits, and reports what changed or every mistake
    Reload {
        #[command(flatten)]
        admin: Admin,
        /// Ask where this file says that it is asked, with its token; before --admin
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where nobody can be asked by that file, send this process SIGHUP; then only its log tells the outcome
        #[arg(long, requires = "config", value_parser = clap::value_parser!(u32).range(2..=i64::from(i32::MAX)))]
        pid: Option<u32>,
    },
    /// The last changes and their causes: reloads, states, weights, drains, what ran out
    Events(events::Arguments),
    /// Have a new process of the binary that is in its place now take over, without losing a connection; waits until it serves
    Upgrade {
        #[command(flatten)]
        admin: Admin,
    },
    /// The whole configuration as a file: defaults filled in, secrets masked, and the line that each value came from
    Dump {
        /// Of this file; default: what the running Strata has in force
        file: Option<PathBuf>,
        #[command(flatten)]
        admin: Admin,
        /// Values and places, one document
        #[arg(long)]
        json: bool,
    },
    /// What a reload would change in the running Strata; exits 0 if nothing, 1 if something, 2 on trouble
    Diff {
        /// If this were its file; default: its own file, as it is now
        file: Option<PathBuf>,
        #[command(flatten)]
        admin: Admin,
        #[arg(long)]
        json: bool,
    },
    /// What there is to choose from, and what words mean; without a topic, the topics
    List {
        topic: Option<list::Topic>,
        #[arg(long)]
        json: bool,
    },
    /// The schema of the configuration, the manual page, completions for a shell
    Gen {
        #[command(subcommand)]
        what: generate::What,
    },
    /// Exit 0 when Strata is ready, for container health checks
    Healthcheck {
        #[command(flatten)]
        admin: Admin,
        /// Of this service alone; without it, when any is served
        #[arg(long, value_name = "NAME", conflicts_with = "all")]
        service: Option<String>,
        /// Not before everything is served
        #[arg(long)]
        all: bool,
    },
    /// Run a small endpoint that says who it is and what it was asked: HTTP over TCP, and UDP at the same port
    ///
    /// A datagram gets one of 1232 bytes at most, from the address that was asked: `endpoint NAME`, `datagram from ADDRESS`, and what
    /// was asked. What begins like such an answer gets none.
    Echo {
        /// For TCP and UDP
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// What it calls itself; default: its address, or the host's name where it listens on every address
        #[arg(long)]
        name: Option<String>,
    },
    /// Ask HTTP services again and again, and count who answered; exits 1 where an answer is missing or somebody else's
    Try(try_out::Arguments),
    /// Let a Docker source ask an engine, and nobody change one: passes questions to its socket, and refuses everything else
    DockerProxy(docker_proxy::Arguments),
    /// Say what becomes of one packet, and why: service, slot, endpoint, what is rewritten, or why it is dropped
    Explain(explain::Arguments),
    /// Run a capture through the model that decides about packets: each verdict with its reason
    Replay(replay::Arguments),
    /// Find what will break the packet modes on this host, a balancer or an endpoint, with the command that mends it
    Doctor(doctor::Arguments),
    /// On an endpoint of a packet mode: print what it needs there, or apply it, or take it back
    SetupEndpoint(setup_endpoint::Arguments),
    /// On an endpoint whose kernel has no tunnels: take IPIP or GUE headers off
    Decapsulate {
        /// What the balancer puts before each packet
        #[arg(long)]
        mode: decapsulate::Mode,
        /// Whose packets are taken; may be given several times
        #[arg(long = "vip", value_name = "ADDRESS", required = true, value_delimiter = ',')]
        vips: Vec<IpAddr>,
    },
}

/// Where the running Strata is asked.
#[derive(Debug, clap::Args)]
struct Admin {
    /// Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900
    #[arg(long, env = "STRATA_ADMIN")]
    admin: Option<String>,
    /// The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Target {
    /// Its name, as in [pool.NAME]
    pool: String,
    /// Its address as in the file, for instance 10.0.0.11:8080
    endpoint: String,
    #[command(flatten)]
    admin: Admin,
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no failure.
fn say(text: impl Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.context("cannot write to standard output"),
    }
}

/// The first generation of a file, every endpoint up. `None`: it is not valid, and what is wrong has been printed.
fn read_config(file: &Path) -> anyhow::Result<Option<Snapshot>> {
    let origin = Origin::File(file.to_owned());
    let mut loaded = load::read(&origin).with_context(|| format!("cannot read {}", file.display()))?;
    let snapshot = load::compile_untested(&mut loaded, &load::nothing());
    match &snapshot {
        None => eprint!("{}", loaded.render(std::io::stderr().is_terminal())),
        Some(snapshot) => imagined::all_up(snapshot),
    }
    Ok(snapshot)
}

fn no_packet_service(file: &Path) -> anyhow::Error {
    anyhow!("{}: no service of mode l2, l3 or l4 with a vip: nothing is decided packet by packet", file.display())
}

/// Parses the arguments, runs the command and says how it went.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run { file } => run::run(&file),
        Command::Check { files, json } => check::check(&files, json),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Demo => demo::demo(),
        Command::Quick(arguments) => quick::quick(&arguments),
        Command::Status { admin, json } => remote::status(&admin, json),
        Command::Top(arguments) => top::top(&arguments),
        Command::Drain(target) => remote::intent(&target.admin, &target.pool, &target.endpoint, Intent::Draining),
        Command::Maintain(target) => remote::intent(&target.admin, &target.pool, &target.endpoint, Intent::Maintenance),
        Command::Restore(target) => remote::intent(&target.admin, &target.pool, &target.endpoint, Intent::Ready),
        Command::Weight { target, weight } => remote::weight(&target.admin, &target.pool, &target.endpoint, weight),
        Command::Events(arguments) => events::events(&arguments),
        Command::Reload { admin, config, pid } => match config {
            Some(file) => remote::reload_of(&file, pid),
            None => remote::reload(&admin),
        },
        Command::Upgrade { admin } => remote::upgrade(&admin),
        Command::Dump { file, admin, json } => dump::dump(file.as_deref(), &admin, json),
        Command::Diff { file, admin, json } => Ok(diff::diff(file.as_deref(), &admin, json)),
        Command::List { topic, json } => list::list(topic, json),
        Command::Gen { what } => generate::generate(&what),
        Command::Healthcheck { admin, service, all } => {
            let one = service.map_or(Of::Process, Of::Service);
            remote::healthcheck(&admin, &if all { Of::Everything } else { one })
        }
        Command::Echo { listen, name } => echo::echo(listen, name),
        Command::Try(arguments) => try_out::try_out(&arguments),
        Command::DockerProxy(arguments) => docker_proxy::proxy(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
        Command::SetupEndpoint(arguments) => setup_endpoint::setup(&arguments),
        Command::Decapsulate { mode, vips } => decapsulate::decapsulate(mode, vips),
    };
    log::finish();
    outcome.unwrap_or_else(|error| {
        eprintln!("strata: {error:#}");
        ExitCode::FAILURE
    })
}
