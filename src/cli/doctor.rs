//! Wiring: `strata doctor`: what will break the packet modes on this host, each finding with the command that mends it. Changes
//! nothing, and is done in a few seconds.
//!
//! Not here: what is looked at and asked (`look`), what follows from it (`checks`; on an endpoint `endpoint`).

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::setup_endpoint::{LEAST_MTU, Mode, Wants};
use super::{read_config, say};
use finding::Report;

mod ask;
mod checks;
mod endpoint;
mod facts;
mod finding;
mod look;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The balancer's configuration: doctor looks at this host and asks its links; without it, at this host alone
    #[arg(conflicts_with = "endpoint")]
    file: Option<PathBuf>,
    /// This host is an endpoint: look whether it is set up for --mode
    #[arg(long, requires = "mode")]
    endpoint: bool,
    /// How packets come to the endpoint
    #[arg(long, requires = "endpoint")]
    mode: Option<Mode>,
    /// An address that clients reach; may be given several times. `nat` needs none
    #[arg(long = "vip", value_name = "ADDRESS", value_delimiter = ',', requires = "endpoint")]
    vips: Vec<IpAddr>,
    /// Where packets come in; default: the interface of the default route
    #[arg(long, requires = "endpoint")]
    interface: Option<String>,
    /// Strata's own address, which `nat` needs
    #[arg(long = "balancer", value_name = "ADDRESS", value_delimiter = ',', requires = "endpoint")]
    balancers: Vec<IpAddr>,
    /// `strata decapsulate` takes the place of a tunnel device
    #[arg(long, requires = "endpoint")]
    userspace: bool,
    /// Bytes of a packet that fit on the way from the balancer to a tunnel's end, where that is less than the interface's MTU
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(LEAST_MTU..=65_535), requires = "endpoint")]
    mtu: Option<u32>,
    /// One JSON document
    #[arg(long)]
    json: bool,
    /// List what is looked at
    #[arg(long, exclusive = true)]
    checks: bool,
}

/// 0: no error was found. 1: there is one, or the configuration is not valid.
pub(super) fn doctor(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.checks {
        say(list())?;
        return Ok(ExitCode::SUCCESS);
    }
    let findings = match (&arguments.file, arguments.mode) {
        (_, Some(mode)) => {
            let wants = Wants {
                mode,
                vips: arguments.vips.clone(),
                interface: arguments.interface.clone(),
                balancers: arguments.balancers.clone(),
                userspace: arguments.userspace,
                mtu: arguments.mtu,
            };
            wants.owners()?;
            endpoint::judge(wants.needs(), &wants.command())
        }
        (Some(file), None) => match read_config(file)? {
            Some(snapshot) => checks::judge(&look::balancer(&snapshot)),
            None => return Ok(ExitCode::FAILURE),
        },
        (None, None) => checks::judge(&look::host()),
    };
    let report = Report::new(findings);
    if arguments.json {
        say(format_args!("{}\n", serde_json::to_string_pretty(&report).context("cannot write JSON")?))?;
    } else {
        say(&report)?;
    }
    Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every check and its question.
fn list() -> String {
    let balancer = checks::CHECKS.iter().map(|check| ("balancer", check.name, check.asks));
    let endpoint = endpoint::CHECKS.iter().map(|(name, asks)| ("endpoint", *name, *asks));
    balancer.chain(endpoint).map(|(side, name, asks)| format!("{side}  {name:15}  {asks}\n")).collect()
}
