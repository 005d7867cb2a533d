//! Wiring: a machine that is imagined, so that packets can be played through the model without one: no root, no interface, no
//! traffic. What `replay`, `explain` and the tests of a file share.
//!
//! What neither a file nor a packet says is imagined: every endpoint is on the link, with a MAC address made from its own address, and
//! up where [`all_up`] has made it so; clients are behind a router that sends and takes every other packet. Slots, records, translations and every check
//! are those of the engine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{HashKey, MacAddr, Moment, Network};
use crate::flow::decide::{Action, FrameBuf, Shared, Trace, Verdict, decide, trace};
use crate::flow::tables::{Link, LinkId, Neighbor, Route, Tables};
use crate::health::Health;
use crate::mode::packet::books::Book;
use crate::mode::packet::inputs::{self, Machine};
use crate::state::{Endpoint, Family, Snapshot, Status, Traffic};
use crate::wire::ethernet::{EtherType, Frame, Header};
use crate::wire::segments::{Kind, Merged, Segments};
use crate::wire::{Packet, Transport};

mod story;

pub use story::Story;

/// Takes every endpoint to be up. Only of a snapshot that nobody serves by: what is published here is published to all.
pub fn all_up(snapshot: &Snapshot) {
    for pool in snapshot.pools() {
        for endpoint in &pool.endpoints {
            endpoint.set_status(Status { health: Health::Up, ..endpoint.status() });
        }
        pool.publish();
    }
}

/// Everything that packets are played before.
pub struct Stage<'s> {
    pub snapshot: &'s Snapshot,
    pub books: Vec<Book>,
    tables: Tables,
    shared: Shared,
    buffer: Vec<u8>,
}

/// What became of a frame.
pub struct Played {
    pub verdict: Verdict,
    /// What is behind it.
    pub trace: Option<Trace>,
    /// The frame that leaves, if one does.
    pub out: Option<Vec<u8>>,
}

impl<'s> Stage<'s> {
    /// `mac` says which MAC address of ours an interface has. `None`: there is no packet service.
    pub fn set(snapshot: &'s Snapshot, mac: impl Fn(&str) -> MacAddr) -> Option<Stage<'s>> {
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
        let tables = Tables::build(inputs::inputs(snapshot, &books, &machine(snapshot, &books, mac)));
        let sources: Vec<IpAddr> = books.iter().flat_map(|book| book.spec().sources.iter().copied()).collect();
        let shared = Shared::new(&sources, HashKey::new([0; 16]));
        let buffer = vec![0; FrameBuf::HEADROOM + crate::base::limits::CAPTURED_BYTES + FrameBuf::HEADROOM];
        Some(Stage { snapshot, books, tables, shared, buffer })
    }

    /// One frame through the model, `at` after the first. `None`: it is longer than any capture has.
    pub fn play(&mut self, frame: &[u8], cut: bool, at: Duration, number: u64) -> Option<Played> {
        self.decide(frame, None, cut, at, number)
    }

    /// The same for a frame of a capture, and what became of each packet in it if it was many and had to be divided.
    pub fn captured(&mut self, frame: &[u8], cut: bool, at: Duration, number: u64) -> Option<(Played, Vec<Played>)> {
        let merged = merged(frame);
        let played = self.decide(frame, merged, cut, at, number)?;
        let divided = merged.filter(|_| played.verdict.action == Action::Divide);
        let Some(segments) = divided.and_then(|merged| Segments::of_frame(frame, merged)) else {
            return Some((played, Vec::new()));
        };
        let mut room = vec![0; segments.longest()];
        let mut each = Vec::with_capacity(segments.count());
        for nth in 0..segments.count() {
            let length = segments.write(frame, nth, &mut room)?;
            each.push(self.decide(room.get(..length)?, None, cut, at, number)?);
        }
        Some((played, each))
    }

    fn decide(&mut self, frame: &[u8], merged: Option<Merged>, cut: bool, at: Duration, number: u64) -> Option<Played> {
        let trace = trace(&self.tables, frame);
        let start = FrameBuf::HEADROOM;
        self.buffer.get_mut(start..start + frame.len())?.copy_from_slice(frame);
        let mut buf = FrameBuf::new(&mut self.buffer, start, frame.len(), INTERFACE)?;
        (buf.cut, buf.merged) = (cut, merged);
        let now = Moment::from_millis(BOOT_MS) + at;
        let verdict = decide(&self.tables, &self.shared, now, number.wrapping_mul(ODD), &mut buf);
        let leaves = matches!(verdict.action, Action::Send { .. } | Action::Reply);
        Some(Played { verdict, trace, out: leaves.then(|| buf.bytes().to_vec()) })
    }

    /// The book of the verdict's service that a packet to `destination` is in.
    pub fn book(&self, verdict: &Verdict, destination: IpAddr) -> Option<&Book> {
        let service = verdict.service?;
        self.books.iter().find(|book| book.service() == service && book.family().holds(destination))
    }

    /// Whom the verdict names.
    pub fn endpoint(&self, verdict: &Verdict, destination: IpAddr) -> Option<&Arc<Endpoint>> {
        self.book(verdict, destination)?.members().get(usize::from(verdict.endpoint?))?.as_ref()
    }
}

impl Played {
    pub const fn word(&self) -> &'static str {
        match self.verdict.action {
            Action::Send { .. } => "send",
            Action::Reply => "reply",
            Action::Divide => "divide",
            Action::Pass => "pass",
            Action::Drop(_) => "drop",
        }
    }
}

/// That a frame is many: captures do not say so, but no wire takes a segment of TCP that is longer than its MTU. Nor do they say of
/// how much each: of as much as fits everywhere.
fn merged(frame: &[u8]) -> Option<Merged> {
    let frame = Frame::new_checked(frame).ok()?;
    let packet = Packet::of_frame(&frame).ok()??;
    let too_long = packet.len > usize::try_from(inputs::imagined(INTERFACE, OURS).mtu).ok()?;
    let headers = packet.len.checked_sub(packet.payload_len())?;
    let size = u16::try_from(EVERYWHERE.checked_sub(headers)?).ok()?;
    let is_many = too_long && matches!(packet.transport, Transport::Tcp(_));
    is_many.then_some(Merged { kind: Kind::Segments, size })
}

/// The frame that a stranger sends a datagram to `ours` in.
pub fn framed(ip: &[u8], ours: MacAddr) -> Vec<u8> {
    let v6 = ip.first().is_some_and(|first| first >> 4 == 6);
    let ether_type = if v6 { EtherType::IPV6 } else { EtherType::IPV4 };
    let mut frame = Header { destination: ours, source: STRANGER, ether_type }.emit().to_vec();
    frame.extend_from_slice(ip);
    frame
}

/// The MAC address of ours that frames to an address of the services have, on interfaces as `mac` says.
pub fn station(snapshot: &Snapshot, destination: IpAddr, mac: impl Fn(&str) -> MacAddr) -> MacAddr {
    let vip = snapshot.vips().find(|vip| vip.spec.addresses.contains(&destination));
    vip.map_or(OURS, |vip| vip.spec.mac.of(destination, mac(&vip.spec.interface)))
}

/// Every VIP's interface as one link, with all endpoints and a router on it.
fn machine(snapshot: &Snapshot, books: &[Book], mac: impl Fn(&str) -> MacAddr) -> Machine {
    let mut interfaces: Vec<(Arc<str>, Link)> = Vec::new();
    for vip in snapshot.vips() {
        let name = &vip.spec.interface;
        if interfaces.iter().all(|(known, _)| known != name) {
            let mut link = inputs::imagined(INTERFACE, mac(name));
            link.addresses = vec![IpAddr::V4(OWN_V4), IpAddr::V6(OWN_V6)];
            interfaces.push((name.clone(), link));
        }
    }
    let near = |address: IpAddr| Network::parse(&address.to_string()).ok();
    let link = LinkId::plain(INTERFACE);
    let endpoints =
        || books.iter().flat_map(|book| book.members().iter().flatten()).map(|endpoint| endpoint.address.ip());
    let sources = books.iter().flat_map(|book| book.spec().sources.iter().copied());
    let on_link = endpoints().chain(sources).filter_map(near).map(|network| Route::new(network, link, None));
    let default = |(network, gateway)| Some(Route::new(Network::parse(network).ok()?, link, Some(gateway)));
    let routes = on_link.chain(GATEWAYS.into_iter().filter_map(default)).collect();
    let known = |address| Neighbor { link, address, mac: mac_of(address) };
    let gateways = GATEWAYS.map(|(_, address)| Neighbor { link, address, mac: STRANGER });
    let neighbors = endpoints().map(known).chain(gateways).collect();
    Machine { interfaces, routes, neighbors, ..Machine::default() }
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
/// An interface of ours, where nothing says another.
pub const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
/// Where tunnels come from: addresses for documentation (RFC 5737, RFC 3849).
const OWN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OWN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The way to everybody else: to clients.
const GATEWAYS: [(&str, IpAddr); 2] = [
    ("0.0.0.0/0", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))),
    ("::/0", IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2))),
];
/// Bytes of a packet that fits every link, with a tunnel's headers before it too (RFC 8200 §5).
const EVERYWHERE: usize = 1280;
/// The clock at the first packet: long enough after the beginning of time for every interval to lie before it.
const BOOT_MS: u64 = 3_600_000;
/// Spreads packet numbers over all bits, the same at every replay.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
