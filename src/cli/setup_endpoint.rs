//! Wiring: `strata setup-endpoint`: prints what an endpoint of a packet mode needs, applies it, or takes it back.
//!
//! It acts on the network namespace that it runs in, through `ip` and `/proc/sys` or netlink, and what it prints is what it does. What it
//! changes it records first (`record`), so that `--undo` puts back what was there and nothing else. `--apply` twice changes
//! nothing the second time; one that fails takes back what it had done.
//!
//! Not here: what is needed (`plan`), how it is done (`host`), and surviving a reboot: that is the distribution's network
//! configuration, for which the printed lines are the source.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{anyhow, bail};

use super::say;
use crate::sys::privilege;
use plan::{Need, Wish};
use record::{Entry, Record};

mod host;
mod native;
pub(super) mod plan;
mod record;
#[cfg(test)]
mod tests;

/// What the endpoint's balancer uses to reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// The frame's address is rewritten: the VIP is on `lo`, and nobody may learn of it by ARP
    L2,
    /// IP in IP
    Ipip,
    /// Generic UDP encapsulation, port 6080
    Gue,
    /// Replies leave through the balancer
    Nat,
}

impl Mode {
    pub const fn word(self) -> &'static str {
        match self {
            Mode::L2 => "l2",
            Mode::Ipip => "ipip",
            Mode::Gue => "gue",
            Mode::Nat => "nat",
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    wants: Wants,
    /// Do it, instead of printing it
    #[arg(long, conflicts_with = "undo")]
    apply: bool,
    /// Take back what --apply has changed, and nothing else
    #[arg(long)]
    undo: bool,
    /// Keeps the record of what has been changed
    #[arg(long, value_name = "FOLDER", default_value = "/run/strata")]
    state: PathBuf,
    /// With --apply: what to become then, with no capability left. A container's first process, as in `… --apply -- strata echo`
    #[arg(last = true, value_name = "COMMAND", requires = "apply")]
    command: Vec<OsString>,
}

/// What the endpoint is to be set up for.
#[derive(Debug, clap::Args)]
pub struct Wants {
    /// How packets come: mode `l2`, or the `forward` of an l3 or l4 service
    #[arg(long)]
    pub mode: Mode,
    /// An address that clients reach; may be given several times. `nat` needs none
    #[arg(long = "vip", value_name = "ADDRESS", value_delimiter = ',')]
    pub vips: Vec<IpAddr>,
    /// Where packets come in; default: the interface of the default route
    #[arg(long)]
    pub interface: Option<String>,
    /// Strata's own address. For `nat` it becomes the gateway; for tunnels its family is the outer header's
    #[arg(long = "balancer", value_name = "ADDRESS", value_delimiter = ',')]
    pub balancers: Vec<IpAddr>,
    /// No tunnel device: `strata decapsulate` runs here and takes its place
    #[arg(long)]
    pub userspace: bool,
    /// Bytes of a packet that fit on the way from the balancer to a tunnel's end, where that is less than the interface's MTU
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(LEAST_MTU..=65_535))]
    pub mtu: Option<u32>,
}

/// The least that Linux learns of a path (`net.ipv4.route.min_pmtu`).
pub const LEAST_MTU: i64 = 552;

pub fn setup(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let owners = arguments.wants.owners()?;
    if arguments.undo {
        host::may_change()?;
        let mut record = Record::open(&arguments.state)?;
        let lines = release(&mut record, &owners)?;
        say(if lines.is_empty() { "nothing to take back\n".to_owned() } else { lines })?;
        return Ok(ExitCode::SUCCESS);
    }
    let needs = arguments.wants.needs()?;
    if !arguments.apply {
        say(render(&needs, &arguments.wants))?;
        return Ok(ExitCode::SUCCESS);
    }
    host::may_change()?;
    let mut record = Record::open(&arguments.state)?;
    let outcome = needs.iter().try_for_each(|need| apply(&mut record, need));
    if let Err(error) = outcome {
        if let Err(again) = release(&mut record, &owners) {
            eprintln!("strata: what was done before could not all be taken back: {again:#}");
        }
        bail!("{error:#}; what was done for it is taken back");
    }
    let changed = needs.iter().filter(|need| !need.done).count();
    say(format_args!("{} of {} settings changed, the others were as needed\n", changed, needs.len()))?;
    match arguments.command.split_first() {
        Some((program, words)) => become_command(program, words),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The endpoint itself, which has no business with the network's settings.
fn become_command(program: &OsStr, words: &[OsString]) -> anyhow::Result<ExitCode> {
    privilege::restrict(&[], None)
        .map_err(|(step, error)| anyhow!("privileges cannot be given up: {step}: {error}"))?;
    let error = Command::new(program).args(words).exec();
    Err(anyhow!("cannot run {}: {error}", program.display()))
}

impl Wants {
    /// Who holds a change: a mode and an address. A change stays until its last owner lets it go.
    pub fn owners(&self) -> anyhow::Result<Vec<String>> {
        let addresses = if self.mode == Mode::Nat { &self.balancers } else { &self.vips };
        if self.mtu.is_some() && !matches!(self.mode, Mode::Ipip | Mode::Gue) {
            bail!("`--mtu` is for tunnels: `--mode {}` puts no headers before packets", self.mode.word());
        }
        match (self.mode, addresses.is_empty()) {
            (Mode::Nat, true) => bail!("`--mode nat` needs `--balancer ADDRESS`: replies leave through it"),
            (_, true) => bail!("`--mode {}` needs `--vip ADDRESS`", self.mode.word()),
            _ => Ok(addresses.iter().map(|address| owner(self.mode, *address)).collect()),
        }
    }

    /// The command that brings all of it about.
    pub fn command(&self) -> String {
        let list = |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
        let mut command = format!("strata setup-endpoint --mode {}", self.mode.word());
        for (name, addresses) in [("vip", &self.vips), ("balancer", &self.balancers)] {
            if !addresses.is_empty() {
                command.push_str(&format!(" --{name} {}", list(addresses)));
            }
        }
        if let Some(interface) = &self.interface {
            command.push_str(&format!(" --interface {interface}"));
        }
        if self.userspace {
            command.push_str(" --userspace");
        }
        if let Some(mtu) = self.mtu {
            command.push_str(&format!(" --mtu {mtu}"));
        }
        command + " --apply"
    }

    /// What must be so, and which of it is.
    pub fn needs(&self) -> anyhow::Result<Vec<Need>> {
        let addresses = if self.mode == Mode::Nat { &self.balancers } else { &self.vips };
        let mut needs: Vec<Need> = Vec::new();
        for &address in addresses {
            let interface = match &self.interface {
                Some(named) => named.clone(),
                None => host::default_interface(address)?,
            };
            let outer = self.balancers.first().copied().unwrap_or(address).is_ipv6();
            let (mode, userspace, mtu) = (self.mode, self.userspace, self.mtu);
            let wish = Wish { mode, address, interface, outer_ipv6: outer, userspace, mtu };
            let facts = host::facts(&wish)?;
            for mut need in plan::plan(&wish, &facts)? {
                need.owners = vec![owner(self.mode, address)];
                match needs.iter_mut().find(|known| known.change.key() == need.change.key()) {
                    Some(known) => known.owners.append(&mut need.owners),
                    None => needs.push(need),
                }
            }
        }
        Ok(needs)
    }
}

fn owner(mode: Mode, address: IpAddr) -> String {
    format!("{} {address}", mode.word())
}

/// Brings one need about. The record is written first: a change without a record could never be taken back.
fn apply(record: &mut Record, need: &Need) -> anyhow::Result<()> {
    let known = record.find(&need.change.key());
    if need.done {
        // Ours from before: kept for these owners as well. Not ours: none of our business.
        if let Some(entry) = known {
            entry.own(&need.owners);
            record.save()?;
        }
        return Ok(());
    }
    match known {
        // Ours, and changed since: what was there before us is still what comes back.
        Some(entry) => {
            entry.change.now(&need.change);
            entry.own(&need.owners);
        }
        None => record.push(Entry { change: need.change.clone(), owners: need.owners.clone() }),
    }
    record.save()?;
    host::apply(&need.change)
}

/// Takes back, newest first, what only `owners` held. Gives a line for each.
fn release(record: &mut Record, owners: &[String]) -> anyhow::Result<String> {
    let mut lines = String::new();
    for at in (0..record.len()).rev() {
        let Some(change) = record.disown(at, owners) else { continue };
        lines.push_str(&host::undo(&change)?);
        lines.push('\n');
        record.remove(at);
        record.save()?;
    }
    record.save()?;
    Ok(lines)
}

/// The commands with their reasons, ready for a shell.
fn render(needs: &[Need], wants: &Wants) -> String {
    let mut text = String::new();
    let mut said = "";
    for need in needs {
        if need.why != said {
            text.push_str(&format!("# {}\n", need.why));
            said = need.why;
        }
        for command in need.change.commands() {
            text.push_str(&command);
            text.push_str(if need.done { "    # is so already\n" } else { "\n" });
        }
    }
    if wants.userspace && matches!(wants.mode, Mode::Ipip | Mode::Gue) {
        let vips: Vec<String> = wants.vips.iter().map(IpAddr::to_string).collect();
        text.push_str("# takes the outer headers off, as long as it runs\n");
        text.push_str(&format!("strata decapsulate --mode {} --vip {}\n", wants.mode.word(), vips.join(",")));
    }
    text
}
