//! Properties of what frames become: no bytes panic, right checksums stay right, and NAT undoes itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use strata::base::{Moment, Reason};
use strata::flow::decide::{Action, Verdict};
use strata::flow::{FrameBuf, decide};
use strata::sys::allocation::taken;
use strata::wire::ethernet::Frame;
use strata::wire::packet::Packet;
use strata::wire::{gue, ipip};

use super::notation;
use super::world::Live;
use super::{File, corpus, expand};

static FILES: LazyLock<Vec<File>> = LazyLock::new(corpus);
static SEEDS: LazyLock<Vec<(usize, u32, Vec<u8>)>> = LazyLock::new(|| seeds(&FILES));

const NOW: Moment = Moment::from_millis(1_000_000);

/// What a frame becomes, and what of the buffer lies outside of it.
fn decided(live: &Live, interface: u32, bytes: &[u8]) -> (Verdict, Vec<u8>) {
    let mut buffer = vec![0; FrameBuf::HEADROOM];
    buffer.extend(bytes);
    buffer.extend([0; 1400]);
    let mut frame = FrameBuf::new(&mut buffer, FrameBuf::HEADROOM, bytes.len(), interface).unwrap();
    let before = taken();
    let verdict = decide(&live.tables, &live.shared, NOW, 7, &mut frame);
    assert_eq!(taken() - before, 0, "deciding about {bytes:02x?} allocates");
    (verdict, frame.bytes().to_vec())
}

/// Every frame of the corpus, with its file's place and its interface.
fn seeds(files: &[File]) -> Vec<(usize, u32, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (place, file) in files.iter().enumerate() {
        let live = Live::start(&file.world);
        let steps = file.cases.iter().flat_map(|case| &case.steps);
        seeds.extend(steps.filter_map(|step| {
            let bytes = notation::frame(&expand(file, step.frame.as_ref()?));
            Some((place, live.interface(&step.on), bytes))
        }));
    }
    seeds
}

/// Whether every checksum that the packet of a frame has is right, inside a tunnel too.
fn sums(bytes: &[u8]) -> bool {
    let Ok(frame) = Frame::new_checked(bytes) else { return false };
    fn datagram(ip: &[u8]) -> bool {
        let Ok(packet) = Packet::parse(ip) else { return false };
        let inside = match ipip::decapsulate(ip, &packet) {
            Ok(None) => gue::decapsulate(ip, &packet),
            found => found,
        };
        packet.is_checksum_valid(ip) != Some(false)
            && inside.is_ok_and(|inside| inside.is_none_or(|at| datagram(&ip[at..packet.len])))
    }
    match frame.ether_type().0 {
        0x0800 | 0x86dd => datagram(frame.payload()),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// Frames of the corpus, edited where it hurts, one after the other in one world.
    #[test]
    fn no_frame_panics_and_what_passes_is_as_it_was(
        picks in vec((any::<Index>(), vec((any::<Index>(), prop_oneof![Just(0), Just(0xff), any::<u8>()]), 0..4),
            any::<Index>(), 0..4_u8, any::<bool>()), 1..6),
        nonsense in vec(any::<u8>(), 0..100),
    ) {
        let (files, seeds) = (&*FILES, &*SEEDS);
        {
            let first = &seeds[picks[0].0.index(seeds.len())];
            let live = Live::start(&files[first.0].world);
            let of_file: Vec<_> = seeds.iter().filter(|seed| seed.0 == first.0).collect();
            for (pick, edits, cut, how, fix) in &picks {
                let (_, interface, bytes) = of_file[pick.index(of_file.len())];
                let mut bytes = bytes.clone();
                for (at, value) in if bytes.is_empty() { &[][..] } else { edits } {
                    let within = if *how == 3 { bytes.len() } else { bytes.len().min(80) };
                    bytes[at.index(within)] = *value;
                }
                if *how == 0 && !bytes.is_empty() {
                    bytes.truncate(cut.index(bytes.len()));
                }
                if *fix && bytes.len() >= 34 && bytes[12..14] == [8, 0] {
                    bytes[24..26].fill(0);
                    let sum = notation::checksum(&bytes[14..34]);
                    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
                }
                check(&live, *interface, &bytes)?;
            }
            check(&live, first.1, &nonsense)?;
        }
    }

    /// Any client, any payload, every mode and family.
    #[test]
    fn right_checksums_stay_right(
        file in select(vec!["l2.toml", "tunnels.toml", "nat.toml", "full_nat.toml", "recorded_nat.toml"]),
        client in any::<[u8; 4]>(), port in 1..=u16::MAX, to in any::<Index>(), transport in 0..4_u8,
        payload in vec(any::<u8>(), 0..600), class in any::<u8>(), hops in 2..=255_u8, id in any::<u16>(),
    ) {
        let file = file_named(file);
        let live = Live::start(&file.world);
        let vips = live.vips();
        let vip = vips[to.index(vips.len())];
        let [a, b, c, d] = client;
        let client = match vip {
            IpAddr::V4(_) => format!("198.{a}.{b}.{c}:{port}"),
            IpAddr::V6(_) => format!("[2001:db8:{a:x}:{b:x}::{c:x}{d:02x}]:{port}"),
        };
        let header = format!("class {class} ttl {hops} id {id}");
        let (bare, vip) = (client.parse::<SocketAddr>().unwrap().ip(), vip);
        let len = payload.len();
        let text = match transport {
            0 => format!("{client} > {} tcp [S] seq {id} mss 1460 len {len} {header}", SocketAddr::new(vip, 80)),
            1 => format!("{client} > {} tcp [P.] seq {id} ack 1 len {len} {header}", SocketAddr::new(vip, 80)),
            2 => format!("{client} > {} udp len {len} {header}", SocketAddr::new(vip, 53)),
            _ if vip.is_ipv6() => format!("{bare} > {vip} icmpv6 echo-request id 4 seq {id} len {len} class {class}"),
            _ => format!("{bare} > {vip} icmp echo-request id 4 seq {id} len {len} class {class}"),
        };
        let mut bytes = notation::frame(&format!("02:00:00:00:00:01 > 02:00:00:00:00:99 {text}"));
        // The payload itself, and the checksum over it.
        let at = bytes.len() - len;
        bytes[at..].copy_from_slice(&payload);
        let bytes = refilled(bytes);
        prop_assert!(sums(&bytes));
        let (verdict, out) = decided(&live, live.interface("eth0"), &bytes);
        match verdict.action {
            Action::Send { .. } | Action::Reply => prop_assert!(sums(&out), "{text}: {verdict:?}"),
            // Nothing listens on some ports of some VIPs, and no flow of full NAT begins with data.
            Action::Drop(Reason::NoService | Reason::NatNoFlow) => {}
            _ => prop_assert!(false, "{text}: {verdict:?}"),
        }
    }

    /// What an endpoint sends back of what it got reaches the client as from the VIP that it spoke to.
    #[test]
    fn translation_there_and_back_is_none(
        file in select(vec!["nat.toml", "full_nat.toml", "recorded_nat.toml"]),
        client in any::<[u8; 3]>(), port in 1..=u16::MAX, to in any::<Index>(), udp in any::<bool>(), len in 0..600_usize,
    ) {
        let file = file_named(file);
        let live = Live::start(&file.world);
        let vips: Vec<IpAddr> = live.vips();
        let vip = vips[to.index(vips.len())];
        let [a, b, c] = client;
        let client: SocketAddr = match vip {
            IpAddr::V4(_) => format!("198.{a}.{b}.{c}:{port}"),
            IpAddr::V6(_) => format!("[2001:db8:{a:x}:{b:x}::{c:x}]:{port}"),
        }.parse().unwrap();
        let (vip, what) = match udp {
            true => (SocketAddr::new(vip, 53), format!("udp len {len}")),
            false => (SocketAddr::new(vip, 80), format!("tcp [S] seq 9 len {len}")),
        };
        let there = notation::frame(&format!("02:00:00:00:00:01 > 02:00:00:00:00:99 {client} > {vip} {what}"));
        let (verdict, at_endpoint) = decided(&live, live.interface("eth0"), &there);
        let interface = match verdict.action {
            Action::Send { interface } => interface,
            Action::Drop(Reason::NoService) => return Ok(()),
            _ => return Err(TestCaseError::fail(format!("{client} > {vip} {what}: {verdict:?}"))),
        };
        let (verdict, back) = decided(&live, interface, &turned(&at_endpoint));
        prop_assert!(matches!(verdict.action, Action::Send { .. }), "{client} > {vip} {what}: {verdict:?}");
        // Two hops less than it had.
        let want = notation::frame(&format!("02:00:00:00:00:99 > 02:00:00:00:00:01 {vip} > {client} {what} ttl 62"));
        prop_assert_eq!(&back, &want);
    }
}

/// The properties let packets go nowhere for which there is no service: this is what they would not notice.
#[test]
fn in_every_mode_packets_of_each_kind_and_family_go_on() {
    for name in ["l2.toml", "tunnels.toml", "nat.toml", "full_nat.toml", "recorded_nat.toml"] {
        for (kind, port) in [("tcp [S] seq 9 mss 1460", 80), ("udp len 20", 53)] {
            for ipv6 in [false, true] {
                let live = Live::start(&file_named(name).world);
                let goes_on = |vip: IpAddr| {
                    let client = if ipv6 { "[2001:db8::7]:4242" } else { "198.51.100.7:4242" };
                    let text = format!("{client} > {} {kind}", SocketAddr::new(vip, port));
                    let bytes = notation::frame(&format!("02:00:00:00:00:01 > 02:00:00:00:00:99 {text}"));
                    let (verdict, _) = decided(&live, live.interface("eth0"), &bytes);
                    matches!(verdict.action, Action::Send { .. })
                };
                let vips: Vec<IpAddr> = live.vips().into_iter().filter(|vip| vip.is_ipv6() == ipv6).collect();
                assert!(vips.into_iter().any(goes_on), "{name}: {kind}, IPv6 {ipv6}");
            }
        }
    }
}

fn check(live: &Live, interface: u32, bytes: &[u8]) -> Result<(), TestCaseError> {
    let (verdict, out) = decided(live, interface, bytes);
    match verdict.action {
        Action::Pass | Action::Divide => prop_assert_eq!(&out[..], bytes),
        Action::Send { .. } | Action::Reply => {
            prop_assert!(!sums(bytes) || sums(&out), "{verdict:?}");
            prop_assert!(out.len() <= bytes.len() + FrameBuf::HEADROOM || verdict.action == Action::Reply);
        }
        Action::Drop(_) => {}
    }
    Ok(())
}

fn file_named(name: &str) -> &'static File {
    FILES.iter().find(|file| file.name == name).expect("a file of the corpus")
}

/// The transport checksum anew, as the notation would make it.
fn refilled(bytes: Vec<u8>) -> Vec<u8> {
    let mut bytes = bytes;
    notation::sum_transport(&mut bytes, 14);
    bytes
}

/// The frame as its receiver answers it: addresses and ports the other way round, which changes no sum.
fn turned(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let swap = |out: &mut [u8], at: usize, len: usize| {
        out[at..at + len].copy_from_slice(&bytes[at + len..at + 2 * len]);
        out[at + len..at + 2 * len].copy_from_slice(&bytes[at..at + len]);
    };
    swap(&mut out, 0, 6);
    let transport = if bytes[14] >> 4 == 6 {
        swap(&mut out, 14 + 8, 16);
        54
    } else {
        swap(&mut out, 14 + 12, 4);
        34
    };
    swap(&mut out, transport, 2);
    out
}
