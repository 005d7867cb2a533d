//! Wiring: `strata quick`: a balancer without a file. It writes the file that its arguments mean, and serves by that.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;

use super::{run, say};
use crate::app::load::{self, Origin};
use crate::app::privileges;
use crate::app::supervisor::{Beginning, Supervisor};
use crate::balance;
use crate::base::Listen;
use crate::base::address::parse_socket;
use crate::observe::sink::Sink;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What is carried: l4 (TCP connections) or l7 (HTTP requests)
    #[arg(value_parser = ["l4", "l7"])]
    mode: String,
    /// Where clients connect to: :8080 is every address, or 10.0.0.1:8080
    #[arg(long, value_name = "ADDRESS", value_parser = Listen::parse)]
    listen: Listen,
    /// The endpoints: 10.0.0.11:8080,10.0.0.12:8080
    #[arg(long, value_name = "ADDRESS", required = true, value_delimiter = ',', value_parser = parse_socket)]
    to: Vec<SocketAddr>,
    /// How an endpoint is picked
    #[arg(long, value_name = "NAME", default_value = "p2c", value_parser = PossibleValuesParser::new(names()))]
    balance: String,
    /// Where `strata status`, `explain`, `drain` and their like ask; or none
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900", value_parser = or_none)]
    admin: OrNone,
    /// Where Prometheus asks; or none
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901", value_parser = or_none)]
    metrics: OrNone,
    /// Print the file that this means, and serve nothing
    #[arg(long)]
    print_config: bool,
}

#[derive(Clone, Copy, Debug)]
struct OrNone(Option<Listen>);

fn or_none(text: &str) -> Result<OrNone, &'static str> {
    if text == "none" { Ok(OrNone(None)) } else { Listen::parse(text).map(|listen| OrNone(Some(listen))) }
}

fn names() -> Vec<&'static str> {
    balance::CATALOG.iter().map(|spec| spec.grammar.name).collect()
}

/// 0: it was told to stop, or the file is printed. 1: the arguments make no valid file.
pub(super) fn quick(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let text = arguments.text();
    let origin = Origin::Text { name: "quick", text: text.clone() };
    let Some(first) = run::first(&origin)? else { return Ok(ExitCode::FAILURE) };
    if arguments.print_config {
        say(text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let introduction = arguments.introduction();
    privileges::settle(&first.snapshot).map_err(anyhow::Error::msg)?;
    run::start_log(&first.config)?;
    let access = Sink::start(&first.config.access_log.output).context("cannot write access records")?;
    run::control(async move {
        let supervisor = Supervisor::start(origin, first, access, Beginning::default()).await?;
        say(introduction)?;
        Ok(supervisor.run().await)
    })
}

impl Arguments {
    /// Addresses and words of the catalogue only: nothing in them needs escaping.
    fn text(&self) -> String {
        let mut text = String::new();
        let Arguments { mode, listen, to, balance, admin, metrics, .. } = self;
        for (table, listen) in [("metrics", metrics.0), ("admin", admin.0)] {
            if let Some(listen) = listen {
                // Writing to a String cannot fail; so below.
                let _ = writeln!(text, "[{table}]\nlisten = \"{listen}\"\n");
            }
        }
        if balance::find(balance).is_some_and(|spec| spec.uses.hash) {
            let key = u128::from_ne_bytes(load::fresh_key());
            let _ = writeln!(text, "[cluster]\nhash_key = \"{key:032x}\"\n");
        }
        let endpoints: Vec<String> = to.iter().map(|address| format!("\"{address}\"")).collect();
        let _ = write!(
            text,
            "[service.quick]\nmode = \"{mode}\"\nlisten = \"{listen}\"\npool = \"quick\"\n\n\
             [pool.quick]\nbalance = \"{balance}\"\nprobe = \"tcp\"\nendpoints = [{}]\n",
            endpoints.join(", ")
        );
        text
    }
    /// What somebody at a terminal wants to know.
    fn introduction(&self) -> String {
        let Arguments { mode, listen, to, balance, admin, metrics, .. } = self;
        let endpoints: Vec<String> = to.iter().map(SocketAddr::to_string).collect();
        let what = if mode == "l7" { "HTTP" } else { "TCP" };
        let mut text = format!("{what} on {listen}, {balance} over {}\n", endpoints.join(", "));
        if let Some(admin) = admin.0 {
            let _ = writeln!(text, "admin on {admin}: strata status --admin {}", reachable(admin));
        }
        if let Some(metrics) = metrics.0 {
            let _ = writeln!(text, "metrics on http://{}/metrics", reachable(metrics));
        }
        text.push_str("--print-config shows the file that this means; Ctrl-C or TERM drains and ends\n");
        text
    }
}

/// "Every address" is listened on, but one is connected to.
fn reachable(listen: Listen) -> SocketAddr {
    let mut address = listen.socket();
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}
