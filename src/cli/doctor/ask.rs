//! Shell: questions on the wire, and what is heard: ARP and neighbour discovery, echoes, SYNs, in tunnels where a service has one.
//!
//! A packet socket on each link, so that nothing has to be set up here and nothing is left behind: no address, no
//! neighbour entry, no connection (a SYN-ACK is answered with a reset). Each question is asked three times in a bounded time.
//! Not here: what is asked whom (`look`).

use std::net::IpAddr;
use std::time::Duration;

use crate::base::{MacAddr, clock};
use crate::flow::tables::LinkId;
use crate::sys::classify::Rule;
use crate::sys::packet::{Engine, Options, PacketError, Tap};
use crate::wire::arp::Arp;
use crate::wire::ethernet::{self, EtherType, Frame, Header, Tag};
use crate::wire::icmp::Icmp;
use crate::wire::ipip::Outer;
use crate::wire::ndp::Neighbor;
use crate::wire::packet::{Packet, Transport};
use crate::wire::tcp::{Flags, Segment};
use crate::wire::{answer, gue, ipip};

/// How a datagram gets to whom it is asked of.
#[derive(Clone, Debug)]
pub struct Path {
    pub link: LinkId,
    pub from: MacAddr,
    pub to: MacAddr,
    /// What goes before it.
    pub tunnel: Option<(Outer, Option<gue::Variant>)>,
}

impl Path {
    /// The frame around a datagram; `None` when it fits into none.
    pub fn frame(&self, ip: &[u8]) -> Option<Vec<u8>> {
        let mut outer = [0; 64];
        let packet = Packet::parse(ip).ok()?;
        let len = match &self.tunnel {
            None => 0,
            Some((way, None)) => ipip::emit(way, &packet, &mut outer).ok()?,
            Some((way, Some(variant))) => {
                gue::emit(way, gue::source_port(0), *variant, &packet, ip, &mut outer).ok()?
            }
        };
        let v6 = self.tunnel.as_ref().map_or(packet.is_ipv6(), |(way, _)| way.destination.is_ipv6());
        let ether_type = if v6 { EtherType::IPV6 } else { EtherType::IPV4 };
        let header = Header { destination: self.to, source: self.from, ether_type }.emit();
        Some([&header[..], outer.get(..len)?, ip].concat())
    }
}

/// A frame to be sent. Without the tag of its link, which it gets on the way.
#[derive(Debug)]
pub struct Question {
    pub link: LinkId,
    pub frame: Vec<u8>,
    /// A SYN from this port: how its answer is reset.
    pub syn: Option<(u16, Path)>,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// By ARP or neighbour discovery, asked for or not.
    IsAt { link: LinkId, address: IpAddr, mac: MacAddr },
    /// `mac`: whose frame it was.
    Packet { link: LinkId, mac: MacAddr, source: IpAddr, kind: Kind },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Echo {
        identifier: u16,
        sequence: u16,
    },
    /// To this port of ours.
    SynAck {
        port: u16,
        mss: Option<u16>,
    },
    Reset {
        port: u16,
    },
}

/// A link that is listened on, for what comes from these addresses.
pub struct Ear {
    pub link: LinkId,
    pub addresses: Vec<IpAddr>,
}

/// Asks everything, and gives all that was heard. Ends early when `enough` says so.
///
/// # Errors
/// A packet socket cannot be opened.
pub fn ask(ears: &[Ear], questions: &[Question], enough: impl Fn(&[Heard]) -> bool) -> Result<Vec<Heard>, PacketError> {
    let mut taps = Vec::new();
    for ear in ears {
        let rules: Vec<Rule> = ear.addresses.iter().map(|address| Rule::from(*address)).collect();
        let options = Options { interface: ear.link.interface, rules: Some(&rules), wait: TURN, ..Options::default() };
        // The plain loop sees no tags.
        let engine = if ear.link.vlan == 0 { Engine::Plain } else { Engine::Ring };
        taps.push((ear.link, Tap::open(engine, &options)?));
    }
    let (mut heard, began, mut rounds) = (Vec::new(), clock::now(), 0);
    while clock::now().since(began) < PATIENCE && !enough(&heard) {
        if rounds < ROUNDS && clock::now().since(began) >= BETWEEN.saturating_mul(rounds) {
            rounds += 1;
            for question in questions {
                let tap = taps.iter_mut().find(|(link, _)| *link == question.link);
                if let Some((link, tap)) = tap {
                    tap.send(link.interface, &tagged(*link, &question.frame));
                }
            }
        }
        for at in 0..taps.len() {
            let mut resets = Vec::new();
            let Some((link, tap)) = taps.get_mut(at) else { continue };
            // An interface that goes down says nothing more.
            let _ = tap.receive(|frame| {
                if let Some(word) = hear(*link, frame.tag(), frame.bytes())
                    && !heard.contains(&word)
                    && heard.len() < MOST
                {
                    resets.extend(reset(questions, &word, frame.bytes()));
                    heard.push(word);
                }
                None
            });
            for (link, frame) in resets {
                if let Some((_, tap)) = taps.iter_mut().find(|(known, _)| *known == link) {
                    tap.send(link.interface, &tagged(link, &frame));
                }
            }
        }
    }
    Ok(heard)
}

/// The frame as it goes out by the link.
fn tagged(link: LinkId, frame: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0; ethernet::TAG_LEN][..], frame].concat();
    if link.vlan == 0 || ethernet::insert_tag(&mut bytes, Tag::vlan(link.vlan)).is_err() {
        return frame.to_vec();
    }
    bytes
}

/// `tag` is the one that the kernel took out. What has come by another VLAN than the link's is not for us.
fn hear(link: LinkId, tag: Option<Tag>, bytes: &[u8]) -> Option<Heard> {
    let frame = Frame::new_checked(bytes).ok()?;
    let outer = tag.or_else(|| frame.tags().next());
    if outer.map_or(0, Tag::id) != link.vlan {
        return None;
    }
    if frame.ether_type() == EtherType::ARP {
        // Who asks in an address's name claims it as much as who answers.
        let arp = Arp::parse(frame.payload()).ok().filter(|arp| !arp.sender.is_unspecified())?;
        return Some(Heard::IsAt { link, address: arp.sender.into(), mac: arp.sender_mac });
    }
    let packet = Packet::of_frame(&frame).ok()??;
    let (ip, mac, source) = (frame.payload(), frame.source(), packet.source);
    let kind = match packet.transport {
        Transport::Icmp(Icmp::EchoReply { identifier, sequence }) => Kind::Echo { identifier, sequence },
        Transport::Icmp(_) => {
            let Neighbor::Advertisement { target, target_mac, .. } = Neighbor::parse(ip, &packet).ok()?? else {
                return None;
            };
            return Some(Heard::IsAt { link, address: target.into(), mac: target_mac.unwrap_or(mac) });
        }
        Transport::Tcp(header) if header.flags.contains(Flags::RST) => Kind::Reset { port: header.destination_port },
        Transport::Tcp(header) if header.flags.contains(Flags::SYN.with(Flags::ACK)) => {
            let segment = Segment::new_checked(packet.transport_bytes(ip)).ok()?;
            Kind::SynAck { port: header.destination_port, mss: segment.maximum_segment_size().ok().flatten() }
        }
        _ => return None,
    };
    Some(Heard::Packet { link, mac, source, kind })
}

/// What ends the connection that a SYN of ours has begun.
fn reset(questions: &[Question], word: &Heard, frame: &[u8]) -> Option<(LinkId, Vec<u8>)> {
    let Heard::Packet { kind: Kind::SynAck { port, .. }, .. } = word else { return None };
    let (_, path) = questions.iter().filter_map(|question| question.syn.as_ref()).find(|(own, _)| own == port)?;
    let packet = Packet::of_frame(&Frame::new_checked(frame).ok()?).ok()??;
    let mut out = [0; 60];
    let len = answer::reset(&packet, &mut out).ok()??;
    Some((path.link, path.frame(out.get(..len)?)?))
}

/// How long answers are waited for, and when a question is asked again: three times, as RFC 5227 §2.1.1 probes.
pub const PATIENCE: Duration = Duration::from_millis(900);
const BETWEEN: Duration = Duration::from_millis(250);
const ROUNDS: u32 = 3;
/// One interface's turn.
const TURN: Duration = Duration::from_millis(10);
/// Different words that are kept: a link may be full of claims.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::wire::compose::{Head, Way, datagram};
    use crate::wire::ndp::Peer;
    use crate::wire::show;

    const LINK: LinkId = LinkId::plain(1);
    const HERE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const THERE: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn path(tunnel: Option<(Outer, Option<gue::Variant>)>) -> Path {
        Path { link: LINK, from: HERE, to: THERE, tunnel }
    }

    #[test]
    fn a_question_travels_as_the_services_packets_do() {
        let syn = Head::Tcp { flags: Flags::SYN, sequence: 1, acknowledgment: 0, mss: None };
        let ip = datagram(&Way::new(at("10.0.0.2:60000"), at("10.0.0.100:80")), syn, &[]).unwrap();
        let inner = "10.0.0.2:60000 > 10.0.0.100:80 tcp [S] seq 1 len 0";
        let v6 = Outer::new("fd00::2".parse().unwrap(), "fd00::41".parse().unwrap());
        for (tunnel, shown) in [
            (None, inner.to_owned()),
            (Some((v6, None)), format!("fd00::2 > fd00::41 ipip | {inner}")),
            (Some((v6, Some(gue::Variant::Header))), format!("[fd00::2]:49152 > [fd00::41]:6080 udp | {inner}")),
        ] {
            let frame = path(tunnel).frame(&ip).unwrap();
            assert_eq!(show::frame(&frame).to_string(), format!("{HERE} > {THERE} {shown}"));
        }
    }

    #[test]
    fn what_is_heard_is_told_apart() {
        let back = |head| {
            path(None).frame(&datagram(&Way::new(at("10.0.0.100:80"), at("10.0.0.2:60000")), head, &[]).unwrap())
        };
        let (vip, mac): (IpAddr, _) = ("10.0.0.100".parse().unwrap(), HERE);
        let packet = |kind| Some(Heard::Packet { link: LINK, mac, source: vip, kind });
        let flags = |flags, mss| Head::Tcp { flags, sequence: 1, acknowledgment: 2, mss };
        let echo = |reply| Head::Echo { reply, identifier: 7, sequence: 9 };
        for (head, want) in [
            (flags(Flags::SYN.with(Flags::ACK), Some(1440)), packet(Kind::SynAck { port: 60000, mss: Some(1440) })),
            (flags(Flags::RST.with(Flags::ACK), None), packet(Kind::Reset { port: 60000 })),
            (flags(Flags::ACK, None), None),
            (echo(true), packet(Kind::Echo { identifier: 7, sequence: 9 })),
            (echo(false), None),
            (Head::Udp, None),
        ] {
            assert_eq!(hear(LINK, None, &back(head).unwrap()), want, "{head:?}");
        }
        let claim = Some(Heard::IsAt { link: LINK, address: vip, mac });
        let address = "10.0.0.100".parse().unwrap();
        let question = Arp::request(THERE, "10.0.0.7".parse().unwrap(), address);
        assert_eq!(hear(LINK, None, &question.answer(HERE).frame()), claim);
        assert_eq!(
            hear(LINK, None, &Arp::request(HERE, address, "10.0.0.7".parse().unwrap()).frame()),
            claim,
            "asked in its name"
        );
        assert_eq!(hear(LINK, None, &Arp::probe(HERE, address).frame()), None);
        let mut out = [0; 86];
        let target = "fd00::100".parse().unwrap();
        let from = Peer { mac: HERE, address: target };
        let len = Neighbor::announcement(HERE, target).frame(from, Neighbor::group(target), &mut out).unwrap();
        assert_eq!(hear(LINK, None, &out[..len]), Some(Heard::IsAt { link: LINK, address: target.into(), mac: HERE }));
        for len in 0..out.len() {
            let _ = hear(LINK, None, &out[..len]);
        }
    }

    #[test]
    fn what_is_said_on_another_vlan_is_not_heard() {
        let seven = LinkId { vlan: 7, ..LINK };
        let claim = Arp::request(HERE, "10.0.0.100".parse().unwrap(), "10.0.0.7".parse().unwrap()).frame().to_vec();
        let heard = |link| Some(Heard::IsAt { link, address: "10.0.0.100".parse().unwrap(), mac: HERE });
        assert_eq!(tagged(LINK, &claim), claim);
        let on_wire = tagged(seven, &claim);
        assert!(show::frame(&on_wire).to_string().contains("vlan 7 arp who-has"), "{}", show::frame(&on_wire));
        for (tag, bytes, of) in [
            (None, &claim, Some(LINK)),
            // A tag of priority alone names no VLAN.
            (Some(Tag { control: 0x6000, ..Tag::vlan(0) }), &claim, Some(LINK)),
            (Some(Tag::vlan(7)), &claim, Some(seven)),
            (None, &on_wire, Some(seven)),
            (Some(Tag::vlan(8)), &claim, None),
            (Some(Tag::vlan(8)), &on_wire, None),
        ] {
            for link in [LINK, seven] {
                let want = heard(link).filter(|_| of == Some(link));
                assert_eq!(hear(link, tag, bytes), want, "{tag:?} {link:?} {}", show::frame(bytes));
            }
        }
    }

    #[test]
    fn a_connection_that_a_question_began_is_ended_the_same_way() {
        let tunnel = Outer::new("10.0.0.2".parse().unwrap(), "10.0.0.41".parse().unwrap());
        let asked = Question { link: LINK, frame: Vec::new(), syn: Some((60000, path(Some((tunnel, None))))) };
        let syn_ack = Head::Tcp { flags: Flags::SYN.with(Flags::ACK), sequence: 1, acknowledgment: 2, mss: None };
        let ip = datagram(&Way::new(at("10.0.0.100:80"), at("10.0.0.2:60000")), syn_ack, &[]).unwrap();
        let frame = path(None).frame(&ip).unwrap();
        let word = hear(LINK, None, &frame).unwrap();
        let (link, reset) = reset(&[asked], &word, &frame).unwrap();
        assert_eq!(link, LINK);
        let shown = show::frame(&reset).to_string();
        assert!(
            shown.ends_with("10.0.0.2 > 10.0.0.41 ipip | 10.0.0.2:60000 > 10.0.0.100:80 tcp [R] seq 2 len 0"),
            "{shown}"
        );
    }
}
