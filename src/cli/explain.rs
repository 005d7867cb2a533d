//! Wiring: `strata explain`: one packet through the model that decides about packets, told step by step. No root, no interface,
//! no traffic.
//!
//! It is decided by what decides about traffic (`flow::decide`), and told by what that looked at (`flow::decide::trace`).
//! Not here: what neither the file nor the packet says, which is imagined (`imagined`).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use super::imagined::{self, OURS, Stage};
use super::{no_packet_service, read_config, say};
use crate::doc::suggest::{nearest, one_of};
use crate::state::Snapshot;
use crate::wire::ethernet::{self, Tag};
use line::Line;
use story::Story;

mod line;
mod story;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What is to be explained: a packet, as in 'tcp 198.51.100.7:4242 > 10.0.0.100:80'
    ///
    /// Protocols: tcp, udp, icmp, or a number. IPv6 in brackets: 'udp [2001:db8::7]:4242 > [fd00::100]:443'. Then, in any order:
    /// syn ack fin rst psh (syn alone if none), ttl N, size BYTES (of the whole datagram), fragment OFFSET (0 is the first), vlan
    /// N, mss N, echo-reply. A line that `strata replay` printed is understood too.
    #[arg(value_name = "WHAT", value_parser = subject)]
    what: Subject,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The interface that it comes in by; default: the VIP's
    #[arg(long = "in", value_name = "INTERFACE")]
    interface: Option<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// What can be explained.
#[derive(Clone, Debug)]
enum Subject {
    Packet(Line),
}

fn subject(text: &str) -> Result<Subject, String> {
    line::parse(text).map(Subject::Packet)
}

/// 0: it is explained, whatever the verdict. 1: the configuration is not valid, or has nothing to decide with.
pub(super) fn explain(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Some(snapshot) = read_config(&arguments.config)? else { return Ok(ExitCode::FAILURE) };
    let Subject::Packet(line) = &arguments.what;
    let Some(mut stage) = Stage::set(&snapshot, |_| OURS) else { return Err(no_packet_service(&arguments.config)) };
    let interface = interface(&snapshot, line, arguments.interface.as_deref())?;
    let mut frame = imagined::framed(&line.ip, imagined::station(&snapshot, line.destination, |_| OURS));
    // As the VIP's clients send it, unless it is said otherwise.
    let own = snapshot.vips().find(|vip| vip.spec.addresses.contains(&line.destination));
    if let Some(id) = line.vlan.or(own.and_then(|vip| vip.spec.vlan)) {
        frame.splice(..0, [0; ethernet::TAG_LEN]);
        let _ = ethernet::insert_tag(&mut frame, Tag::vlan(id));
    }
    let Some(played) = stage.play(&frame, false, Duration::ZERO, 1) else {
        bail!("the packet is longer than any frame")
    };
    let story = Story::tell(&stage, &interface, &frame, &played);
    if arguments.json {
        say(format_args!("{:#}\n", serde_json::to_value(&story)?))?;
    } else {
        say(story)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where it comes in. Strata listens where a VIP is.
fn interface(snapshot: &Snapshot, line: &Line, named: Option<&str>) -> anyhow::Result<Arc<str>> {
    let own = snapshot.vips().find(|vip| vip.spec.addresses.contains(&line.destination));
    let mut all: Vec<Arc<str>> = snapshot.vips().map(|vip| vip.spec.interface.clone()).collect();
    all.sort();
    all.dedup();
    let Some(named) = named else {
        let name = own.map(|vip| vip.spec.interface.clone()).or_else(|| all.into_iter().next());
        return Ok(name.unwrap_or_default());
    };
    if let Some(found) = all.iter().find(|name| &***name == named) {
        return Ok(found.clone());
    }
    let help = match nearest(named, all.iter().map(|name| &**name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("Strata listens on {}, where the file's VIPs are", one_of(all.iter().map(|name| &**name))),
    };
    bail!("--in {named}: no VIP is on it, so its packets are the kernel's alone; {help}")
}
