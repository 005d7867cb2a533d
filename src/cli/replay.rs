//! Wiring: `strata replay`: a capture through the model that decides about packets, each verdict with its reason. No root, no
//! interface, no traffic.
//!
//! Not here: what a capture does not say, which is imagined (`imagined`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::{no_packet_service, read_config, say};
use crate::app::imagined::{self, OURS, Played, Stage};
use crate::base::MacAddr;
use crate::state::Snapshot;
use crate::wire::ethernet::Frame;
use crate::wire::pcap::{LinkType, Reader, Record};
use crate::wire::{packet, show};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A capture, pcap or pcapng (`tcpdump -w`)
    capture: std::path::PathBuf,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: std::path::PathBuf,
    /// Also show each packet as it leaves
    #[arg(long)]
    out: bool,
    /// Leave out what is passed on to the kernel, and what this machine sent itself
    #[arg(long)]
    ours: bool,
    /// One JSON document a packet
    #[arg(long)]
    json: bool,
}

/// 0: every packet was read. 1: the capture ends in a mistake, or the configuration is not valid.
pub(super) fn replay(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { capture, config, out, ours, json } = arguments;
    let Some(snapshot) = read_config(config)? else { return Ok(ExitCode::FAILURE) };
    let file = std::fs::read(capture).with_context(|| format!("cannot read {}", capture.display()))?;
    let reader = Reader::new(&file).with_context(|| format!("cannot read {}", capture.display()))?;
    let macs = Macs::seen(&snapshot, &reader);
    let Some(stage) = Stage::set(&snapshot, |interface| macs.of(interface)) else {
        return Err(no_packet_service(config));
    };
    let mut player = Player { stage, macs, began: None, counts: BTreeMap::new() };
    let mut broken = None;
    for (number, record) in (1_u64..).zip(reader) {
        match record {
            Ok(record) => {
                let line = player.play(number, &record, *out);
                if !(*ours && line.action == PASS) {
                    say(line.render(*json))?;
                }
            }
            Err(error) => broken = Some(error),
        }
    }
    if !json {
        say(player.summary())?;
    }
    match broken {
        Some(error) => Err(error).with_context(|| format!("{} was read up to here", capture.display())),
        None => Ok(ExitCode::SUCCESS),
    }
}

struct Player<'s> {
    stage: Stage<'s>,
    macs: Macs,
    began: Option<Duration>,
    counts: BTreeMap<String, u64>,
}

/// The MAC address of ours that the capture's frames are sent to, by the VIP's interface.
#[derive(Default)]
struct Macs(BTreeMap<Arc<str>, MacAddr>);

impl Macs {
    /// As the first frame to one of each VIP's addresses has it.
    fn seen(snapshot: &Snapshot, reader: &Reader<'_>) -> Macs {
        let mut macs = Macs::default();
        for record in reader.clone().map_while(Result::ok).filter(|record| record.link == LinkType::ETHERNET) {
            let (Some(ip), Ok(frame)) = (record.ip(), Frame::new_checked(record.data)) else { continue };
            let Some(destination) = packet::destination(ip) else { continue };
            for vip in snapshot.vips().filter(|vip| vip.spec.addresses.contains(&destination)) {
                if frame.destination().is_unicast() {
                    macs.0.entry(vip.spec.interface.clone()).or_insert(frame.destination());
                }
            }
        }
        macs
    }

    /// Whether this machine has sent it.
    fn is_sender_of(&self, record: &Record<'_>) -> bool {
        let source = Frame::new_checked(record.data).ok().filter(|_| record.link == LinkType::ETHERNET);
        source.is_some_and(|frame| self.0.values().any(|ours| *ours == frame.source()))
    }

    fn of(&self, interface: &str) -> MacAddr {
        self.0.get(interface).copied().unwrap_or(OURS)
    }
}

impl Player<'_> {
    /// One packet through the model.
    fn play(&mut self, number: u64, record: &Record<'_>, out: bool) -> Line {
        let began = *self.began.get_or_insert(record.time);
        let at = record.time.saturating_sub(began);
        let cut = record.original_len as usize > record.data.len();
        let mut line = Line { number, at, shown: record.to_string(), ..Line::default() };
        if self.macs.is_sender_of(record) {
            // A capture has both ways; Strata takes only what comes in.
            (line.action, line.why) = (PASS, "outgoing");
        } else {
            match self.framed(record).and_then(|frame| self.stage.captured(&frame, cut, at, number)) {
                Some((played, each)) => {
                    self.tell(&mut line, &played, record.ip().and_then(packet::destination), out);
                    line.each = each.iter().map(|played| Part::new(played, out)).collect();
                }
                None => (line.action, line.why) = (PASS, "not-ip"),
            }
        }
        let all = line.each.iter().map(|part| (part.action, part.why)).chain([(line.action, line.why)]);
        for (action, why) in all {
            *self.counts.entry(format!("{action}: {why}")).or_default() += 1;
        }
        line
    }

    /// What was decided.
    fn tell(&self, line: &mut Line, played: &Played, destination: Option<IpAddr>, out: bool) {
        let service = played.verdict.service.and_then(|id| self.stage.snapshot.service(id));
        line.service = service.map(|service| service.spec.name.clone());
        let endpoint = destination.and_then(|to| self.stage.endpoint(&played.verdict, to));
        line.endpoint = endpoint.map(|endpoint| endpoint.name.clone());
        (line.action, line.why) = (played.word(), played.verdict.why.word());
        line.out = played.out.as_deref().filter(|_| out).map(|frame| show::frame(frame).to_string());
    }

    /// The packet as a frame: captures of some interfaces have none.
    fn framed(&self, record: &Record<'_>) -> Option<Vec<u8>> {
        if record.link == LinkType::ETHERNET {
            return Some(record.data.to_vec());
        }
        let ip = record.ip()?;
        let destination = packet::destination(ip)?;
        let ours = imagined::station(self.stage.snapshot, destination, |interface| self.macs.of(interface));
        Some(imagined::framed(ip, ours))
    }

    fn summary(&self) -> String {
        let mut text = String::from("\n");
        for (what, count) in &self.counts {
            let _ = writeln!(text, "{count:>9}  {what}");
        }
        text
    }
}

/// What is said of one packet.
#[derive(Default)]
struct Line {
    number: u64,
    at: Duration,
    shown: String,
    action: &'static str,
    why: &'static str,
    service: Option<Arc<str>>,
    endpoint: Option<Arc<str>>,
    out: Option<String>,
    /// Of the packets in it, if it was divided.
    each: Vec<Part>,
}

/// What became of one packet of many in a frame.
#[derive(PartialEq, Eq)]
struct Part {
    action: &'static str,
    why: &'static str,
    out: Option<String>,
}

impl Part {
    fn new(played: &Played, out: bool) -> Part {
        let out = played.out.as_deref().filter(|_| out).map(|frame| show::frame(frame).to_string());
        Part { action: played.word(), why: played.verdict.why.word(), out }
    }
}

impl Line {
    fn render(&self, json: bool) -> String {
        let Line { number, at, shown, action, why, service, endpoint, out, each } = self;
        if json {
            let part =
                |Part { action, why, out }: &Part| serde_json::json!({ "action": action, "why": why, "out": out });
            let document = serde_json::json!({
                "packet": number, "seconds": at.as_secs_f64(), "shown": shown, "action": action, "why": why,
                "service": service.as_deref(), "endpoint": endpoint.as_deref(), "out": out,
                "each": each.iter().map(part).collect::<Vec<_>>(),
            });
            return format!("{document}\n");
        }
        let mut text = format!("{number:>6} {:>12.6}  {shown}\n{:>21} {action}: ", at.as_secs_f64(), "→");
        for (what, name) in [("service", service), ("endpoint", endpoint)] {
            if let Some(name) = name {
                let _ = write!(text, "{what} {name}, ");
            }
        }
        let _ = writeln!(text, "{why}");
        if let Some(out) = out {
            let _ = writeln!(text, "{:>21} {out}", "⇒");
        }
        for alike in each.chunk_by(|one, next| one == next) {
            let [Part { action, why, out }, ..] = alike else { continue };
            let _ = writeln!(text, "{:>21} {} × {action}: {why}", "→", alike.len());
            if let Some(out) = out {
                let _ = writeln!(text, "{:>21} {out}", "⇒");
            }
        }
        text
    }
}

const PASS: &str = "pass";
