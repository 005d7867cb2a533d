//! Engine: reads what a service of `l2`, `l3`, or `l4` with NAT, says beyond its mode: where its packets come in, and how
//! they go on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::root::{Survey, User};
use super::service::{nothing, read_reference, wrong_mode};
use super::value::{FlowTimeouts, Packet, Packets};
use super::vip::read_address;
use crate::base::{PortRange, Transport, limits};
use crate::doc::{Diagnostic, Item, Spanned, Table, codes, quote};
use crate::flow::{Affinity, OnDown};
use crate::state::{Engine, Forward, Io, ModeKind};

/// What is known of a packet service before its keys are read; `None` for what could not be.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub mode: Option<ModeKind>,
    pub forward: Option<Forward>,
}

/// `None` when mode or forward is unknown; what it refers to is in `survey` all the same.
pub(super) fn read_packet(
    table: &mut Table<'_>,
    name: &Spanned<Arc<str>>,
    known: Known,
    survey: &mut Survey,
) -> Option<Packet> {
    let vip = table.need("vip", "vip = \"web\"").and_then(|item| read_vip_reference(&item, name, survey));
    let given =
        if known.mode == Some(ModeKind::L4) { table.need("ports", "ports = [\"80/tcp\"]") } else { table.get("ports") };
    let ports = given.map(|item| read_ports(table, &item, known.mode));
    let sources = read_sources(table, known.forward);
    let engine = table.get("engine").and_then(|item| read_engine(&item));
    let user = User::Packets(known.mode.unwrap_or(ModeKind::L3));
    let pool = table.need("pool", "pool = \"web\"").and_then(|item| read_reference(&item, name, user, survey));
    let affinity = table.get("affinity").and_then(|item| item.one_of(AFFINITIES));
    if let (Some(affinity), Some(ports)) = (affinity, &ports)
        && affinity.value == Affinity::Packet
        && !ports.is_empty()
        && ports.iter().all(|range| range.transport == Transport::Tcp)
    {
        let message = "`affinity` has no say over TCP, and every port of this service is TCP's";
        let mistake = Diagnostic::new(&codes::IGNORED_AFFINITY, affinity.span, message);
        table.report(mistake.help("leave it out: packets of one TCP connection stay together in any case"));
    }
    let on_down = table.get("on_down").and_then(|item| item.one_of(ON_DOWN));
    let slots = table.get("slots").and_then(|item| read_slots(&item));
    let timeouts = table.get("flow_timeouts").and_then(|item| item.table("flow_timeouts", read_flow_timeouts));
    Some(Packet {
        mode: known.mode?,
        forward: known.forward?,
        vip: vip.unwrap_or_else(nothing),
        ports,
        sources,
        engine: engine.unwrap_or_default(),
        pool: pool.unwrap_or_else(nothing),
        affinity: affinity.map_or(Affinity::Flow, |affinity| affinity.value),
        on_down: on_down.map_or(OnDown::Rehash, |on_down| on_down.value),
        slots: slots.unwrap_or(Spanned::implied(limits::MAGLEV_SLOTS)),
        flow_timeouts: timeouts.unwrap_or(FLOW_TIMEOUTS),
    })
}

/// `[packets]`: what holds for all packet services, whose taps are an interface's.
pub(super) fn read_packets(table: &mut Table<'_>) -> Packets {
    Packets { io: table.get("io").and_then(|item| item.one_of(IOS)).unwrap_or(Spanned::implied(None)) }
}

/// Reports what only proxies have.
pub(super) fn refuse_proxy_keys(table: &mut Table<'_>, own: &str) {
    let reached = "leave it out: a packet service is reached at its `vip` and `ports`";
    wrong_mode(table, own, "proxies, l4 and l7", reached, &["listen"]);
    wrong_mode(
        table,
        own,
        "proxies, l4 and l7",
        "leave it out; `flow_timeouts` says how long a flow may idle",
        &["timeouts"],
    );
    let none = "leave it out: a packet service sees packets, no connections or requests";
    wrong_mode(table, own, "proxies, l4 and l7", none, &["limits", "access_log"]);
    wrong_mode(table, own, "l7 services", none, &["route", "trusted_proxies", "reason_field", "retries"]);
}

/// The name of a vip; whether it exists is for `check` to say.
fn read_vip_reference(item: &Item<'_>, service: &Spanned<Arc<str>>, survey: &mut Survey) -> Option<Spanned<Arc<str>>> {
    let vip = item.text()?.map(Arc::<str>::from);
    survey.vip_references.push((vip.clone(), service.value.clone()));
    Some(vip)
}

fn read_ports(table: &Table<'_>, item: &Item<'_>, mode: Option<ModeKind>) -> Vec<Spanned<PortRange>> {
    let items = item.one_or_many();
    if items.is_empty() {
        let help = if mode == Some(ModeKind::L4) {
            "as in `ports = [\"80/tcp\"]`"
        } else {
            "as in `ports = [\"80/tcp\"]`; leave it out for every port"
        };
        table.report(Diagnostic::new(&codes::MISSING_KEY, item.span(), "no port is named").help(help));
    }
    if items.len() > limits::PORT_RANGES {
        let message = format!("{} ranges of ports, more than the {} that fit", items.len(), limits::PORT_RANGES);
        table.report(Diagnostic::new(&codes::TOO_MANY_NAMES, item.key_span(), message));
    }
    let mut ports: Vec<Spanned<PortRange>> = Vec::new();
    for range in items.iter().take(limits::PORT_RANGES).filter_map(Item::port_range) {
        if let Some(other) = ports.iter().find(|other| other.overlaps(range.value)) {
            let same = other.value == range.value;
            let message = if same {
                format!("`{}` is named twice", range.value)
            } else {
                format!("`{}` overlaps `{}`", range.value, other.value)
            };
            let mistake = Diagnostic::new(&codes::PORTS_TAKEN, range.span, message);
            table.report(mistake.also(other.span, "named here").help("name each port once"));
            continue;
        }
        ports.push(range);
    }
    ports
}

fn read_sources(table: &mut Table<'_>, forward: Option<Forward>) -> Vec<Spanned<IpAddr>> {
    let item = match forward {
        Some(Forward::FullNat) => table.need("source", "source = \"10.0.0.5\""),
        // Whether it means anything here cannot be told.
        None => {
            table.skip("source");
            None
        }
        Some(other) => {
            if let Some(item) = table.get("source") {
                let message = "`source` means nothing without `forward = \"full-nat\"`";
                let label = match other {
                    Forward::Mac => "this service is l2".to_owned(),
                    other => format!("this service has `forward = \"{}\"`", other.word()),
                };
                let mistake = Diagnostic::new(&codes::MISPLACED, item.key_span(), message).label(label);
                table.report(mistake.help("leave it out: endpoints see the client's address"));
            }
            None
        }
    };
    let Some(item) = item else { return Vec::new() };
    let items = item.one_or_many();
    if items.is_empty() {
        let help = "as in `source = \"10.0.0.5\"`, an address of the endpoints' network that no machine has: Strata answers for it";
        table.report(Diagnostic::new(&codes::MISSING_KEY, item.span(), "no source is named").help(help));
    }
    if items.len() > limits::VIP_ADDRESSES {
        let message = format!("{} sources, more than the {} that fit", items.len(), limits::VIP_ADDRESSES);
        table.report(Diagnostic::new(&codes::TOO_MANY_NAMES, item.key_span(), message));
    }
    let mut sources: Vec<Spanned<IpAddr>> = Vec::new();
    for source in items.iter().take(limits::VIP_ADDRESSES).filter_map(read_address) {
        if let Some(first) = sources.iter().find(|other| other.value == source.value) {
            let message = format!("source `{}` is named twice", source.value);
            let mistake = Diagnostic::new(&codes::BAD_SOURCE, source.span, message);
            table.report(mistake.also(first.span, "first named here").help("name each source once"));
            continue;
        }
        sources.push(source);
    }
    sources
}

fn read_engine(item: &Item<'_>) -> Option<Engine> {
    if item.is_text() && item.text().is_some_and(|word| word.value == "xdp") {
        let help = Some("`auto` and `userspace` are available".to_owned());
        return item.fail(&codes::NOT_YET, "engine `xdp` is not available yet", help);
    }
    item.one_of(&[("auto", Engine::Auto), ("userspace", Engine::Userspace)]).map(|engine| engine.value)
}

fn read_slots(item: &Item<'_>) -> Option<Spanned<usize>> {
    let slots = item.integer(2, limits::SERVICE_SLOTS)?;
    if !is_prime(slots.value) {
        let message = format!("{} slots: the number must be a prime", slots.value);
        return item.fail(&codes::NOT_PRIME, message, Some(format!("the next is {}", next_prime(slots.value))));
    }
    usize::try_from(slots.value).ok().map(|value| Spanned::new(value, slots.span))
}

/// By trial division: `limits::SERVICE_SLOTS` takes 2236 of them.
fn is_prime(number: u64) -> bool {
    number >= 2 && (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
}

/// The smallest prime that is not less.
pub(super) fn next_prime(number: u64) -> u64 {
    (number..).find(|candidate| is_prime(*candidate)).unwrap_or(number)
}

fn read_flow_timeouts(table: &mut Table<'_>) -> FlowTimeouts {
    let mut wait = |key, default| {
        let given: Option<Spanned<Duration>> = table.get(key).and_then(|item| item.duration(SHORTEST, LONGEST));
        given.map_or(default, |wait| wait.value)
    };
    FlowTimeouts { tcp: wait("tcp", FLOW_TIMEOUTS.tcp), other: wait("other", FLOW_TIMEOUTS.other) }
}

/// What the message of a mistake calls the service.
pub(super) fn called(known: Known) -> String {
    match (known.mode, known.forward) {
        (Some(ModeKind::L4), Some(forward)) => {
            format!("l4 with {}", quote(&format!("forward = \"{}\"", forward.word())))
        }
        (Some(mode), _) => mode.word().to_owned(),
        (None, _) => "one of packets".to_owned(),
    }
}

const IOS: &[(&str, Option<Io>)] =
    &[("auto", None), ("ring", Some(Io::Ring)), ("af-xdp", Some(Io::AfXdp)), ("pnet", Some(Io::Pnet))];
const AFFINITIES: &[(&str, Affinity)] = &[("flow", Affinity::Flow), ("packet", Affinity::Packet)];
const ON_DOWN: &[(&str, OnDown)] = &[("rehash", OnDown::Rehash), ("keep", OnDown::Keep), ("reset", OnDown::Reset)];

const FLOW_TIMEOUTS: FlowTimeouts = FlowTimeouts { tcp: limits::TCP_IDLE, other: limits::FLOW_IDLE };
/// A flow that a second of silence ends would change its endpoint in every transition.
const SHORTEST: Duration = Duration::from_secs(1);
/// Records, and marks of slots, live as long.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_found() {
        for (number, next) in [(0, 2), (2, 2), (4, 5), (65_536, 65_537), (65_537, 65_537), (409_600, 409_609)] {
            assert_eq!(next_prime(number), next, "{number}");
        }
        assert_eq!(next_prime(limits::SERVICE_SLOTS), limits::SERVICE_SLOTS);
        assert!(is_prime(limits::MAGLEV_SLOTS as u64));
    }
}
