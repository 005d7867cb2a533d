//! Wiring: `strata replay`: a capture through the model that decides about packets, each verdict with its reason. No root, no
//! interface, no traffic.
//!
//! What a capture does not say is imagined, and said: every endpoint is up and on the link, with a MAC address made from its own
//! address. Slots, records, translations and every check are those of the engine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::say;
use crate::app::load::{self, Origin};
use crate::base::{HashKey, MacAddr, Moment, Network};
use crate::flow::decide::{Action, FrameBuf, Shared, Verdict, decide};
use crate::flow::tables::{LinkId, Neighbor, Route, Tables};
use crate::mode::packet::books::Book;
use crate::mode::packet::inputs::{self, Machine};
use crate::state::{Family, Snapshot, Traffic};
use crate::wire::ethernet::{EtherType, Frame, Header};
use crate::wire::pcap::{LinkType, Reader, Record};
use crate::wire::{packet, show};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A capture, pcap or pcapng
    capture: std::path::PathBuf,
    /// The configuration
    #[arg(long)]
    config: std::path::PathBuf,
    /// Also show each packet as it leaves
    #[arg(long)]
    out: bool,
    /// One JSON document a packet
    #[arg(long)]
    json: bool,
}

/// 0: every packet was read. 1: the capture ends in a mistake, or the configuration is not valid.
pub(super) fn replay(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { capture, config, out, json } = arguments;
    let mut loaded =
        load::read(&Origin::File(config.clone())).with_context(|| format!("cannot read {}", config.display()))?;
    let Some(snapshot) = load::compile(&mut loaded, &load::nothing()) else {
        say(loaded.render(false))?;
        return Ok(ExitCode::FAILURE);
    };
    let file = std::fs::read(capture).with_context(|| format!("cannot read {}", capture.display()))?;
    let reader = Reader::new(&file).with_context(|| format!("cannot read {}", capture.display()))?;
    let Some(mut stage) = Stage::set(&snapshot, &reader) else {
        anyhow::bail!("{}: no l2, l3 or l4 service with a vip: nothing to replay packets through", config.display());
    };
    let mut broken = None;
    for (number, record) in (1_u64..).zip(reader) {
        match record {
            Ok(record) => say(stage.play(number, &record, *out, *json))?,
            Err(error) => broken = Some(error),
        }
    }
    if !json {
        say(stage.summary())?;
    }
    match broken {
        Some(error) => Err(error).with_context(|| format!("{} was read up to here", capture.display())),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Everything that packets are played before.
struct Stage<'s> {
    snapshot: &'s Snapshot,
    books: Vec<Book>,
    tables: Tables,
    shared: Shared,
    macs: Macs,
    began: Option<Duration>,
    counts: BTreeMap<String, u64>,
    buffer: Vec<u8>,
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

    fn of(&self, interface: &str) -> MacAddr {
        self.0.get(interface).copied().unwrap_or(OURS)
    }
}

impl<'s> Stage<'s> {
    /// `None`: there is no packet service.
    fn set(snapshot: &'s Snapshot, reader: &Reader<'_>) -> Option<Stage<'s>> {
        let mut books = Vec::new();
        for service in snapshot.services() {
            if let Traffic::Packet(spec) = &service.traffic
                && let Some(pool) = snapshot.pool(spec.pool)
            {
                let open = |family: &Family| Book::open(service.id, *family, spec, pool);
                books.extend(Family::all_of(spec).iter().map(open));
            }
        }
        if books.is_empty() {
            return None;
        }
        let macs = Macs::seen(snapshot, reader);
        let tables = Tables::build(inputs::inputs(snapshot, &books, &machine(snapshot, &books, &macs)));
        let sources: Vec<IpAddr> = books.iter().flat_map(|book| book.spec().sources.iter().copied()).collect();
        let shared = Shared::new(&sources, HashKey::new([0; 16]));
        let buffer = vec![0; FrameBuf::HEADROOM + crate::base::limits::CAPTURED_BYTES + FrameBuf::HEADROOM];
        Some(Stage { snapshot, books, tables, shared, macs, began: None, counts: BTreeMap::new(), buffer })
    }

    /// One packet through the model, as text.
    fn play(&mut self, number: u64, record: &Record<'_>, out: bool, json: bool) -> String {
        let began = *self.began.get_or_insert(record.time);
        let at = record.time.saturating_sub(began);
        let shown = record.to_string();
        let Some(frame) = self.framed(record) else {
            *self.counts.entry("passed: not IP".to_owned()).or_default() += 1;
            return line(number, at, &shown, "pass", "not IP", None, json);
        };
        let family = record.ip().and_then(packet::destination).unwrap_or(IpAddr::V4(OWN_V4));
        let start = FrameBuf::HEADROOM;
        let len = frame.len();
        if let Some(place) = self.buffer.get_mut(start..start + len) {
            place.copy_from_slice(&frame);
        }
        let Some(mut buf) = FrameBuf::new(&mut self.buffer, start, len, INTERFACE) else { return String::new() };
        buf.cut = record.original_len as usize > record.data.len();
        let now = Moment::from_millis(BOOT_MS) + at;
        let verdict = decide(&self.tables, &self.shared, now, number.wrapping_mul(ODD), &mut buf);
        let leaves = matches!(verdict.action, Action::Send { .. } | Action::Reply);
        let after = (out && leaves).then(|| show::frame(buf.bytes()).to_string());
        let (action, rest) = self.told(&verdict, family);
        *self.counts.entry(format!("{action}: {}", verdict.why.word())).or_default() += 1;
        line(number, at, &shown, action, &rest, after.as_deref(), json)
    }

    /// The packet as a frame: captures of some interfaces have none.
    fn framed(&self, record: &Record<'_>) -> Option<Vec<u8>> {
        if record.link == LinkType::ETHERNET {
            return Some(record.data.to_vec());
        }
        let ip = record.ip()?;
        let destination = packet::destination(ip)?;
        let vip = self.snapshot.vips().find(|vip| vip.spec.addresses.contains(&destination));
        let ether_type = if destination.is_ipv6() { EtherType::IPV6 } else { EtherType::IPV4 };
        let ours = vip.map_or(OURS, |vip| vip.spec.mac.of(destination, self.macs.of(&vip.spec.interface)));
        let mut frame = Header { destination: ours, source: STRANGER, ether_type }.emit().to_vec();
        frame.extend_from_slice(ip);
        Some(frame)
    }

    /// What was decided, in words.
    fn told(&self, verdict: &Verdict, of: IpAddr) -> (&'static str, String) {
        let mut rest = String::new();
        let service = verdict.service.and_then(|id| self.snapshot.service(id));
        if let Some(service) = service {
            let _ = write!(rest, "service {}", service.spec.name);
            let book = self.books.iter().find(|book| book.service() == service.id && book.family().holds(of));
            let endpoint = verdict.endpoint.and_then(|index| book?.members().get(usize::from(index))?.as_ref());
            if let Some(endpoint) = endpoint {
                let _ = write!(rest, ", endpoint {}", endpoint.name);
            }
            rest.push_str(", ");
        }
        rest.push_str(verdict.why.word());
        let action = match verdict.action {
            Action::Send { .. } => "send",
            Action::Reply => "reply",
            Action::Divide => "divide",
            Action::Pass => "pass",
            Action::Drop(_) => "drop",
        };
        (action, rest)
    }

    fn summary(&self) -> String {
        let mut text = String::from("\n");
        for (what, count) in &self.counts {
            let _ = writeln!(text, "{count:>9}  {what}");
        }
        text
    }
}

fn line(number: u64, at: Duration, shown: &str, action: &str, rest: &str, after: Option<&str>, json: bool) -> String {
    if json {
        let document = serde_json::json!({
            "packet": number, "seconds": at.as_secs_f64(), "shown": shown, "action": action, "why": rest, "out": after,
        });
        return format!("{document}\n");
    }
    let mut text = format!("{number:>6} {:>12.6}  {shown}\n{:>21} {action}: {rest}\n", at.as_secs_f64(), "→");
    if let Some(after) = after {
        let _ = writeln!(text, "{:>21} {after}", "⇒");
    }
    text
}

/// Every VIP's interface as one link, on which everybody is.
fn machine(snapshot: &Snapshot, books: &[Book], macs: &Macs) -> Machine {
    let mut interfaces: Vec<(Arc<str>, crate::flow::tables::Link)> = Vec::new();
    for vip in snapshot.vips() {
        let name = &vip.spec.interface;
        if interfaces.iter().all(|(known, _)| known != name) {
            let mut link = inputs::imagined(INTERFACE, macs.of(name));
            link.addresses = vec![IpAddr::V4(OWN_V4), IpAddr::V6(OWN_V6)];
            interfaces.push((name.clone(), link));
        }
    }
    let routes = ["0.0.0.0/0", "::/0"]
        .into_iter()
        .filter_map(|network| Network::parse(network).ok())
        .map(|network| Route { network, link: LinkId::plain(INTERFACE), gateway: None })
        .collect();
    let endpoints = books.iter().flat_map(|book| book.members().iter().flatten());
    let neighbors = endpoints
        .map(|endpoint| {
            let address = endpoint.address.ip();
            Neighbor { link: LinkId::plain(INTERFACE), address, mac: mac_of(address) }
        })
        .collect();
    Machine { interfaces, routes, neighbors }
}

/// A locally administered MAC address that shows whose it is.
fn mac_of(address: IpAddr) -> MacAddr {
    let [.., a, b, c, d] = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    MacAddr([2, 0, a, b, c, d])
}

/// Index of the one link there is.
const INTERFACE: u32 = 1;
const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
/// Where tunnels come from: addresses for documentation (RFC 5737, RFC 3849).
const OWN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OWN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The clock at the first packet: long enough after the beginning of time for every interval to lie before it.
const BOOT_MS: u64 = 3_600_000;
/// Spreads packet numbers over all bits, the same at every replay.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
