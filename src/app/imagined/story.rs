//! Value: what is told of one packet: each step as text for people, and all of it as a document.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::{Played, Stage};
use crate::base::{Reason, ServiceId};
use crate::flow::NOBODY;
use crate::flow::decide::{Action, Matched, Why};
use crate::flow::tables::Sticky;
use crate::mode::packet::books::Book;
use crate::state::{Forward, ModeKind, PacketSpec, Snapshot, Traffic, VipMac};
use crate::wire::{packet, show};

/// See the file's head. What does not apply is absent.
#[derive(Debug, Serialize)]
pub struct Story {
    packet: String,
    interface: String,
    vip: Option<Vip>,
    /// Which addresses there would have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_vip: Option<String>,
    service: Option<Service>,
    /// What the VIP serves instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_service: Option<String>,
    pool: Option<Pool>,
    slot: Option<Slot>,
    verdict: Verdict,
    before: String,
    after: Option<String>,
    imagined: &'static str,
}

#[derive(Debug, Serialize)]
struct Vip {
    name: String,
    address: IpAddr,
    interface: String,
    mac: String,
}

#[derive(Debug, Serialize)]
struct Service {
    name: String,
    mode: &'static str,
    forward: &'static str,
    why: String,
}

#[derive(Debug, Serialize)]
struct Pool {
    name: String,
    balance: &'static str,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Serialize)]
struct Endpoint {
    name: String,
    intent: &'static str,
    health: &'static str,
    weight: u16,
    /// Of the slots, in percent.
    share: f64,
    picked: bool,
}

#[derive(Debug, Serialize)]
struct Slot {
    hash: String,
    by: &'static str,
    slot: u32,
    slots: usize,
    endpoint: Option<String>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    action: &'static str,
    why: &'static str,
    meaning: &'static str,
    endpoint: Option<String>,
    /// What becomes of the packet.
    what: Option<&'static str>,
    way_out: Option<&'static str>,
}

impl Story {
    pub fn tell(stage: &Stage<'_>, interface: &str, frame: &[u8], played: &Played, live: bool) -> Story {
        let destination = played.trace.map_or_else(|| read_destination(frame), |trace| trace.packet.destination);
        let matched = played.trace.and_then(|trace| trace.matched);
        let service = matched.map(|matched| matched.service).or(played.verdict.service);
        let book =
            |id: ServiceId| stage.books.iter().find(|book| book.service() == id && book.family().holds(destination));
        let book = service.and_then(book);
        let vip = vip(stage.snapshot, destination);
        Story {
            packet: show::ip(frame.get(header_len(frame)..).unwrap_or_default()).to_string(),
            interface: interface.to_owned(),
            no_vip: (vip.is_none() && service.is_none()).then(|| vips(stage.snapshot, destination)),
            no_service: (played.verdict.why == Why::Dropped(Reason::NoService))
                .then(|| services(stage.snapshot, destination)),
            vip,
            service: service.and_then(|id| tell_service(stage.snapshot, id, matched.as_ref())),
            pool: book.and_then(|book| pool(stage.snapshot, book, matched.as_ref(), played)),
            slot: matched.zip(book).map(|(matched, book)| slot(&matched, book)),
            verdict: verdict(stage, played, destination),
            before: show::frame(frame).to_string(),
            after: played.out.as_deref().map(|out| show::frame(out).to_string()),
            imagined: if live { LIVE } else { IMAGINED },
        }
    }
}

/// A frame's header, with the tag that it may have.
fn header_len(frame: &[u8]) -> usize {
    crate::wire::ethernet::Frame::new_checked(frame).map_or(0, |frame| frame.header_len())
}

fn read_destination(frame: &[u8]) -> IpAddr {
    let ip = frame.get(header_len(frame)..).unwrap_or_default();
    packet::destination(ip).unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

fn vip(snapshot: &Snapshot, address: IpAddr) -> Option<Vip> {
    let vip = snapshot.vips().find(|vip| vip.spec.addresses.contains(&address))?;
    let mac = match vip.spec.mac {
        VipMac::Interface => format!("{}'s own MAC address", vip.spec.interface),
        VipMac::Virtual { .. } => vip.spec.mac.of(address, super::OURS).to_string(),
    };
    Some(Vip { name: vip.spec.name.to_string(), address, interface: vip.spec.interface.to_string(), mac })
}

/// Where else it might be wanted: what the file has.
fn vips(snapshot: &Snapshot, address: IpAddr) -> String {
    let listens = snapshot.services().find(|service| {
        let here = |listen: &crate::base::Listen| {
            let at = listen.socket().ip();
            at == address || at.is_unspecified() && (at.is_ipv6() || address.is_ipv4())
        };
        service.spec.listen.iter().any(here)
    });
    if let Some(service) = listens {
        let (name, mode) = (&service.spec.name, service.mode().word());
        return format!("{address} is no VIP; service {name} ({mode}) may listen there, for connections, not packets");
    }
    let all: Vec<String> = snapshot
        .vips()
        .flat_map(|vip| vip.spec.addresses.iter().map(|address| format!("{address} ({})", vip.spec.name)))
        .collect();
    format!("{address} is none of the file's VIPs: {}", all.join(", "))
}

/// What the VIP does serve.
fn services(snapshot: &Snapshot, vip: IpAddr) -> String {
    let all = snapshot.services().filter_map(|service| {
        let Traffic::Packet(spec) = &service.traffic else { return None };
        snapshot.vip(spec.vip).filter(|found| found.spec.addresses.contains(&vip))?;
        let ports = spec.ports.as_ref().map(|ports| ports.iter().map(|range| range.to_string()).collect::<Vec<_>>());
        let ports = ports.map_or_else(|| "TCP and UDP".to_owned(), |ports| ports.join(", "));
        Some(format!("{} takes {ports}", service.spec.name))
    });
    let all: Vec<String> = all.collect();
    if all.is_empty() { "none is on this VIP".to_owned() } else { format!("none takes it: {}", all.join("; ")) }
}

fn tell_service(snapshot: &Snapshot, id: ServiceId, matched: Option<&Matched>) -> Option<Service> {
    let service = snapshot.service(id)?;
    let Traffic::Packet(spec) = &service.traffic else { return None };
    let why = match matched.map(|matched| matched.ports) {
        Some(Some(ports)) if ports.first == ports.last => {
            format!("it declares port {}/{}", ports.first, ports.protocol)
        }
        Some(Some(ports)) => format!("it declares ports {}-{}/{}", ports.first, ports.last, ports.protocol),
        Some(None) => "it names no ports, so it takes what no other service of the VIP declares".to_owned(),
        None => "the packet comes from its endpoint, by a port that it declares".to_owned(),
    };
    Some(Service { name: service.spec.name.to_string(), mode: spec.mode.word(), forward: spec.forward.word(), why })
}

fn pool(snapshot: &Snapshot, book: &Book, matched: Option<&Matched>, played: &Played) -> Option<Pool> {
    let pool = snapshot.pool(book.spec().pool)?;
    let slots = book.slots().current();
    let picked = played.verdict.endpoint.or_else(|| matched.and_then(|matched| matched.picked.endpoint));
    let endpoints = (0_u16..).zip(book.members()).filter_map(|(index, member)| {
        let (endpoint, status) = (member.as_ref()?, member.as_ref()?.status());
        let held = slots.iter().filter(|slot| **slot == index).count();
        Some(Endpoint {
            name: endpoint.name.to_string(),
            intent: status.intent.word(),
            health: status.health.word(),
            weight: status.weight.get(),
            share: (held as f64 * 1000.0 / slots.len().max(1) as f64).round() / 10.0,
            picked: picked == Some(index),
        })
    });
    Some(Pool { name: pool.spec.name.to_string(), balance: pool.spec.balance.name, endpoints: endpoints.collect() })
}

fn slot(matched: &Matched, book: &Book) -> Slot {
    let picked = matched.picked;
    let index = picked.endpoint.unwrap_or(NOBODY);
    let endpoint = book.members().get(usize::from(index)).and_then(Option::as_ref);
    Slot {
        hash: format!("{:016x}", picked.hash.0),
        by: match picked.by {
            Sticky::Flow => "addresses, ports and protocol",
            Sticky::Source => "the client's address",
        },
        slot: picked.slot,
        slots: picked.slots,
        endpoint: endpoint.map(|endpoint| endpoint.name.to_string()),
    }
}

fn verdict(stage: &Stage<'_>, played: &Played, destination: IpAddr) -> Verdict {
    let service = played.verdict.service.and_then(|id| stage.snapshot.service(id));
    let spec = service.and_then(|service| match &service.traffic {
        Traffic::Packet(spec) => Some(spec),
        Traffic::L4(_) | Traffic::L7(_) => None,
    });
    let sends = matches!(played.verdict.action, Action::Send { .. });
    Verdict {
        action: played.word(),
        why: played.verdict.why.word(),
        meaning: played.verdict.why.meaning(),
        endpoint: stage.endpoint(&played.verdict, destination).map(|endpoint| endpoint.name.to_string()),
        what: spec.filter(|_| sends && !matches!(played.verdict.why, Why::Back | Why::BackAbout)).map(what),
        way_out: match played.verdict.action {
            Action::Drop(reason) => Some(reason.way_out()),
            _ => answered(played.verdict.why).map(Reason::way_out),
        },
    }
}

/// What an answer stands in place of.
const fn answered(why: Why) -> Option<Reason> {
    match why {
        Why::TooBig => Some(Reason::PacketTooBig),
        Why::HopsExhausted => Some(Reason::HopsExhausted),
        _ => None,
    }
}

const fn what(spec: &PacketSpec) -> &'static str {
    match (spec.forward, spec.mode) {
        (Forward::Mac, _) => "the frame gets the endpoint's MAC address; the endpoint answers the client itself",
        (Forward::Nat, ModeKind::L4) => {
            "destination address and port become the endpoint's; replies come back through Strata"
        }
        (Forward::Nat, _) => "the destination address becomes the endpoint's; replies come back through Strata",
        (Forward::FullNat, _) => "source and destination are rewritten: the endpoint sees Strata as its client",
        (Forward::Ipip, _) => "an outer IP header takes it to the endpoint, which answers the client itself",
        (Forward::Gue, _) => "an outer IP and UDP header takes it to the endpoint, which answers the client itself",
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "packet    {}, in by {}", self.packet, self.interface)?;
        if let Some(vip) = &self.vip {
            writeln!(f, "vip       {}: {} on {}, answered for at {}", vip.name, vip.address, vip.interface, vip.mac)?;
        }
        if let Some(none) = &self.no_vip {
            writeln!(f, "vip       {none}")?;
        }
        if let Some(Service { name, mode, forward, why }) = &self.service {
            let forward = if *forward == "mac" { String::new() } else { format!(" {forward}") };
            writeln!(f, "service   {name}: {mode}{forward}; {why}")?;
        }
        if let Some(none) = &self.no_service {
            writeln!(f, "service   {none}")?;
        }
        if let Some(pool) = &self.pool {
            writeln!(f, "pool      {}: {}", pool.name, pool.balance)?;
            let width = pool.endpoints.iter().map(|endpoint| endpoint.name.len()).max().unwrap_or(0);
            for Endpoint { name, intent, health, weight, share, picked } in &pool.endpoints {
                let mark = if *picked { '>' } else { ' ' };
                writeln!(
                    f,
                    "        {mark} {name:width$}  {intent}, {health}  weight {weight}  {share} % of the slots"
                )?;
            }
        }
        if let Some(Slot { hash, by, slot, slots, endpoint }) = &self.slot {
            writeln!(
                f,
                "slot      {slot} of {slots}, by the hash of {by} ({hash}); it names {}",
                endpoint.as_deref().unwrap_or("nobody")
            )?;
        }
        let Verdict { action, why, meaning, endpoint, what, way_out } = &self.verdict;
        let to = endpoint.as_ref().map(|endpoint| format!(", endpoint {endpoint}")).unwrap_or_default();
        writeln!(f, "verdict   {action}: {why}{to}")?;
        for line in [Some(*meaning), *what].into_iter().flatten() {
            writeln!(f, "          {line}")?;
        }
        if let Some(way_out) = way_out {
            writeln!(f, "way out   {way_out}")?;
        }
        writeln!(f, "before    {}", self.before)?;
        if let Some(after) = &self.after {
            writeln!(f, "after     {after}")?;
        }
        writeln!(f, "\n{}", self.imagined)
    }
}

const LIVE: &str = "health, intents and weights are those of now. Imagined: every endpoint is on the link, at a MAC address made from its\n\
                    own address; clients are behind a router; links take 1500 bytes; no flow is known, and no slot in transition";
const IMAGINED: &str = "imagined, for neither file nor packet says it: every endpoint is up and on the link, at a MAC address made\n\
                        from its own address; clients are behind a router; links take 1500 bytes; no flow is known";
