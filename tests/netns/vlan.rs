//! A VIP whose frames have a VLAN tag. Kernels without 802.1Q devices neither make nor take such frames, so the test does both.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use strata::base::MacAddr;
use strata::sys::packet::{Engine, Options, Tap};
use strata::wire::arp::Arp;
use strata::wire::checksum::Sum;
use strata::wire::ethernet::{self, EtherType, Frame, Header, Tag};
use strata::wire::ndp::{FRAME_LEN, Neighbor, Peer};
use strata::wire::packet::Packet;
use strata::wire::{ip, ipv4, show};

use super::common::{Strata, await_that};
use super::doctor::Report;
use super::node::{Node, can};
use super::world::{Family, Place, World};

/// A host's wire: frames with their tags, as they are on it.
struct Wire {
    tap: Tap,
    interface: u32,
    mac: MacAddr,
    heard: Vec<String>,
}

impl Wire {
    fn of(host: &Node) -> Wire {
        let (tap, interface) = host.enter(|| {
            let interface = strata::sys::link::index("eth0").expect("eth0");
            let options = Options { interface, wait: Duration::from_millis(10), ..Options::default() };
            (Tap::open(Engine::Ring, &options).expect("a tap"), interface)
        });
        let mac = MacAddr::parse(&World::mac(host)).expect("its MAC");
        Wire { tap, interface, mac, heard: Vec::new() }
    }

    /// Sends a frame, with a tag where there is one.
    fn send(&mut self, frame: &[u8], tag: Option<u16>) {
        let mut bytes = [&[0; ethernet::TAG_LEN][..], frame].concat();
        let start = match tag {
            Some(id) => ethernet::insert_tag(&mut bytes, Tag::vlan(id)).map(|()| 0).expect("room for a tag"),
            None => ethernet::TAG_LEN,
        };
        self.tap.send(self.interface, &bytes[start..]);
    }

    /// Whether a frame has come with all these words.
    fn heard(&mut self, words: &[&str]) -> bool {
        let heard = &mut self.heard;
        let _ = self.tap.receive(|frame| {
            let mut bytes = frame.bytes().to_vec();
            if let Some(tag) = frame.tag() {
                bytes.splice(..0, [0; ethernet::TAG_LEN]);
                ethernet::insert_tag(&mut bytes, tag).expect("room for a tag");
            }
            heard.push(show::frame(&bytes).to_string());
            None
        });
        self.heard.iter().any(|frame| words.iter().all(|word| frame.contains(word)))
    }

    /// A host that has these addresses and hears who asks for them on one VLAN; it answers on `said`, until `done`.
    fn answer(mut self, addresses: &[IpAddr], (vlan, said): (u16, u16), done: &AtomicBool) {
        while !done.load(Relaxed) {
            let mut asked = Vec::new();
            let _ = self.tap.receive(|frame| {
                if frame.tag().is_some_and(|tag| tag.id() == vlan) {
                    asked.push(frame.bytes().to_vec());
                }
                None
            });
            let answers = asked.iter().filter_map(|frame| answered(frame, self.mac, addresses));
            answers.collect::<Vec<_>>().iter().for_each(|frame| self.send(frame, Some(said)));
        }
    }

    #[track_caller]
    fn await_heard(&mut self, words: &[&str]) {
        await_that(&format!("a frame with {words:?}"), || self.heard(words));
    }
}

/// What a host with these addresses and this MAC says to a frame.
fn answered(frame: &[u8], mac: MacAddr, addresses: &[IpAddr]) -> Option<Vec<u8>> {
    let frame = Frame::new_checked(frame).ok()?;
    if frame.ether_type() == EtherType::ARP {
        let asked = Arp::parse(frame.payload()).ok()?;
        // Who tells of itself asks nobody.
        let is_ours = addresses.contains(&asked.target.into()) && asked.sender != asked.target;
        return is_ours.then(|| asked.answer(mac).frame().to_vec());
    }
    let packet = Packet::of_frame(&frame).ok()??;
    let Neighbor::Solicitation { target, .. } = Neighbor::parse(frame.payload(), &packet).ok()?? else { return None };
    let IpAddr::V6(source) = packet.source else { return None };
    let (answer, to) = Neighbor::answer(target, mac, Peer { mac: frame.source(), address: source });
    let mut out = [0; FRAME_LEN];
    let length = answer.frame(Peer { mac, address: target }, to, &mut out).ok()?;
    addresses.contains(&target.into()).then(|| out[..length].to_vec())
}

/// A frame to the VIP of IPv4 with this payload.
fn datagram(from: MacAddr, to: MacAddr, protocol: ip::Protocol, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(vip)) = (Family::V4.near(), Family::V4.vip()) else { unreachable!("IPv4") };
    let header =
        ipv4::Header::new(source, vip, protocol, u16::try_from(payload.len()).expect("a short payload")).emit();
    let frame = Header { destination: to, source: from, ether_type: EtherType::IPV4 }.emit();
    [&frame[..], &header, payload].concat()
}

fn syn(port: u16) -> Vec<u8> {
    let mut tcp = [0x10, 0x92, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
    tcp[2..4].copy_from_slice(&port.to_be_bytes());
    let sum = Sum::pseudo(Family::V4.near(), Family::V4.vip(), 6, tcp.len()).bytes(&tcp).checksum();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    tcp.to_vec()
}

fn echo() -> Vec<u8> {
    let mut echo = [8, 0, 0, 0, 0, 7, 0, 1, 1, 2, 3, 4];
    let sum = Sum::of(&echo).checksum();
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    echo.to_vec()
}

#[test]
fn a_tagged_vip_is_announced_answered_and_served_on_its_tag_and_on_no_other() {
    if !can("a VIP on a VLAN") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    let (mut near, mut endpoint) = (Wire::of(&world.near), Wire::of(&world.endpoints[0]));
    let own = MacAddr::parse(&World::mac(&world.balancer)).expect("its MAC");
    let mut text = String::from("[cluster]\nhash_key = \"4f1c2a9be0d37758a6c4e1902b7d5f63\"\n");
    let [v4, v6] = Family::BOTH.map(|family| (family.vip(), family.endpoint(Place::Lan, 0)));
    text += &format!(
        "[vip.seven]\naddress = [\"{}\", \"{}\"]\ninterface = \"eth0\"\nvlan = 7\n[service.seven]\nmode = \"l2\"\nvip = \"seven\"\n\
         pool = \"seven\"\n[pool.seven]\nendpoints = [{{ address = \"{}\", mac = \"{mac}\" }}, {{ address = \"{}\", mac = \"{mac}\" }}]\n",
        v4.0,
        v6.0,
        v4.1,
        v6.1,
        mac = endpoint.mac,
    );
    let strata = world.balancer.enter(|| Strata::start(&text));
    let from = format!("{own} > ");
    for told in ["arp who-has 10.0.0.100 tell 10.0.0.100", "arp 10.0.0.100 is-at", "icmpv6 fd00::100 is-at"] {
        near.await_heard(&[&from, "vlan 7 ", told]);
    }

    // First without the tag, and on another VLAN: when what follows is answered, these have not been.
    let (IpAddr::V4(asker), IpAddr::V4(vip)) = (Family::V4.near(), Family::V4.vip()) else { unreachable!("IPv4") };
    let (IpAddr::V6(asker_v6), IpAddr::V6(vip_v6)) = (Family::V6.near(), Family::V6.vip()) else {
        unreachable!("IPv6")
    };
    let request = Arp::request(near.mac, asker, vip).frame();
    let mut solicitation = [0; FRAME_LEN];
    let peer = Peer { mac: near.mac, address: asker_v6 };
    let length = Neighbor::Solicitation { target: vip_v6, source_mac: Some(near.mac) }
        .frame(peer, Neighbor::group(vip_v6), &mut solicitation)
        .expect("it fits");
    let echo = datagram(near.mac, own, ip::Protocol::ICMP, &echo());
    for tag in [None, Some(8), Some(7)] {
        for frame in [&request[..], &solicitation[..length], &echo] {
            near.send(frame, tag);
        }
        near.send(&datagram(near.mac, own, ip::Protocol::TCP, &syn(tag.unwrap_or(1))), tag);
    }
    let answer = format!("{own} > {} ", near.mac);
    for said in ["arp 10.0.0.100 is-at", "icmpv6 fd00::100 is-at", "icmp echo-reply"] {
        near.await_heard(&[&answer, "vlan 7 ", said]);
    }
    let forwarded = format!("{own} > {} ", endpoint.mac);
    endpoint.await_heard(&[&forwarded, "vlan 7 ", "10.0.0.7:4242 > 10.0.0.100:7 tcp [S]"]);
    let wrong = |wire: &Wire, to: &str| -> Vec<String> {
        let ours = wire.heard.iter().filter(|frame| frame.starts_with(to) && frame.contains("10.0.0.100"));
        ours.filter(|frame| !frame.contains("vlan 7 ")).cloned().collect()
    };
    assert_eq!((wrong(&near, &answer), wrong(&endpoint, &forwarded)), (Vec::new(), Vec::new()));
    let dropped = || {
        let metrics = world.balancer.enter(|| strata.scrape());
        metrics.sum("strata_stray_packets_dropped_total", &[("reason", "unexpected-vlan")])
    };
    // An echo and a SYN, twice.
    await_that("what came by other ways is counted", || dropped() == 4.0);
}

/// Whoever answers beside a test stops with it.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// On the wire without the tag there is nobody: what is asked there is answered by no endpoint, and tells of no other owner.
#[test]
fn doctor_asks_on_the_vlan_of_the_vip() {
    if !can("`strata doctor` on a VLAN") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    let (near, elsewhere, endpoint) = (Wire::of(&world.near), Wire::of(&world.router), Wire::of(&world.endpoints[0]));
    // No route leads to these but the default one.
    let endpoints: [IpAddr; 2] = ["10.7.0.41", "fd07::41"].map(|text| text.parse().expect("an address"));
    let vips = Family::BOTH.map(Family::vip);
    let text = format!(
        "[cluster]\nhash_key = \"4f1c2a9be0d37758a6c4e1902b7d5f63\"\n\
         [vip.seven]\naddress = [\"{}\", \"{}\"]\ninterface = \"eth0\"\nvlan = 7\n[service.seven]\nmode = \"l2\"\nvip = \"seven\"\n\
         pool = \"seven\"\n[pool.seven]\nendpoints = [{{ address = \"{}\", mac = \"{mac}\" }}, {{ address = \"{}\", mac = \"{mac}\" }}]\n",
        vips[0],
        vips[1],
        endpoints[0],
        endpoints[1],
        mac = endpoint.mac,
    );
    let strata = world.balancer.enter(|| Strata::start(&text));
    let file = strata.folder().join("strata.toml");
    let doctor = || Report::of(&world.balancer.strata(&["doctor", "--json", file.to_str().expect("a path")]));
    let done = AtomicBool::new(false);
    let stranger = near.mac;
    thread::scope(|scope| {
        let _ends = Ends(&done);
        scope.spawn(|| endpoint.answer(&endpoints, (7, 7), &done));
        // What is said on another VLAN has nothing to do with it.
        scope.spawn(|| elsewhere.answer(&vips, (7, 8), &done));
        let healthy = doctor();
        scope.spawn(|| near.answer(&vips, (7, 7), &done));
        let claimed = doctor();

        assert_eq!((healthy.code, healthy.counts()), (0, [Some(0); 2]), "{:#}", healthy.document);
        for (check, about) in [
            ("vip-owner", "nobody else answers for 10.0.0.100, nobody else answers for fd00::100"),
            ("route", "10.7.0.41 is reached, fd07::41 is reached"),
            ("neighbor", "10.7.0.41 answers, fd07::41 answers"),
        ] {
            assert!(healthy.well(check, about).is_some(), "{check}: {:#}", healthy.document);
        }
        // What nobody could answer is not said to be well.
        for (endpoint, vip) in endpoints.iter().zip(vips) {
            let about = format!("endpoint {endpoint} could not be asked whether it takes {vip}");
            assert!(healthy.wrong("vip-on-endpoint", &about).is_some(), "{:#}", healthy.document);
            let about = format!("{vip} is answered for by {stranger} on eth0, VLAN 7, a stranger");
            assert!(claimed.wrong("vip-owner", &about).is_some(), "{about}: {:#}", claimed.document);
        }
        assert_eq!((claimed.code, claimed.counts()), (1, [Some(2), Some(0)]), "{:#}", claimed.document);
    });
}
