//! Shell: the ARP probe: the endpoint says on our link that its address is its own; for IPv6 by neighbour discovery.
//!
//! For `l2` services, whose frames need just that: an endpoint that filters echo requests and listens nowhere yet answers.
//! Strata asks itself rather than the kernel, which for half a minute believes what it has heard. Not here: endpoints behind
//! a router, of whom nobody can ask this: to them it is a failure with that name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::{ours, reason};
use crate::base::MacAddr;
use crate::doc::{Grammar, Settings};
use crate::seam::Probe;
use crate::seam::probe::{Aim, FALL, Failure, INTERVAL, RISE, Spec, TIMEOUT};
use crate::sys::capability::Capability;
use crate::sys::packet::{Line, PacketError};
use crate::sys::{link, neighbour};
use crate::wire::arp::{self, Operation};
use crate::wire::ethernet::{EtherType, Frame};
use crate::wire::ndp::{self, Neighbor, Peer};
use crate::wire::packet::Packet;

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "arp",
        summary: "the endpoint answers ARP, or neighbour discovery, on a link of ours",
        fields: &[INTERVAL, TIMEOUT, RISE, FALL],
        example: "probe = { type = \"arp\", interval = \"1s\", timeout = \"200ms\" }",
    },
    build: |_: &Settings| Box::new(Arp::default()),
    able: || if Capability::NetRaw.is_held() { Ok(()) } else { Err(FORBIDDEN.to_owned()) },
};

/// An end of each link that was asked on: closing one takes long.
#[derive(Default)]
struct Arp {
    ears: RefCell<HashMap<u32, Rc<Ear>>>,
}

impl Probe for Arp {
    fn check<'a>(&'a self, aim: &'a Aim) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>> {
        Box::pin(self.ask(aim.endpoint.ip()))
    }
}

impl Arp {
    async fn ask(&self, to: IpAddr) -> Result<(), Failure> {
        let place = Place::of(to)?;
        let ear = self.ear(place.interface)?;
        let heard = async {
            let asked = ear.awaited.word_of(to);
            place.question(to).and_then(|frame| ear.line.send(&frame))?;
            while !asked.is_answered() {
                ear.hear(place.mac).await?;
            }
            Ok(())
        };
        heard.await.map_err(|error: io::Error| {
            // Whatever it was, the next probe begins anew.
            self.ears.borrow_mut().remove(&place.interface);
            Failure::Ours(format!("cannot ask on {}: {}", place.name, super::reason("ask", &error)).into())
        })
    }

    fn ear(&self, interface: u32) -> Result<Rc<Ear>, Failure> {
        if let Some(ear) = self.ears.borrow().get(&interface) {
            return Ok(ear.clone());
        }
        let line = Line::to_neighbours(interface).map_err(|error: PacketError| match error.cause.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Failure::Ours(FORBIDDEN.into()),
            _ => Failure::Ours(error.to_string().into()),
        })?;
        let ready = line.to_wait().and_then(UdpSocket::from_std).map_err(|error| ours(&error))?;
        let ear = Rc::new(Ear { line, ready, awaited: Awaiting::default(), news: Notify::new() });
        self.ears.borrow_mut().insert(interface, ear.clone());
        Ok(ear)
    }
}

/// Hears who says where it is. Whoever awaits one, hears for all.
struct Ear {
    line: Line,
    /// Tells when the line has frames.
    ready: UdpSocket,
    awaited: Awaiting,
    /// Word has come of somebody.
    news: Notify,
}

/// Of whom word is awaited. At most as many as there are probes in flight.
#[derive(Default)]
struct Awaiting(RefCell<HashMap<IpAddr, Word>>);

/// Endpoints may share an address, and each that asks is answered by the next word, whosever question that was to.
#[derive(Default)]
struct Word {
    waiting: usize,
    heard: u64,
}

struct Awaited<'e> {
    awaiting: &'e Awaiting,
    address: IpAddr,
    /// What was heard before it was asked.
    before: u64,
}

impl Ear {
    /// Hears frames once there are any, or until another has heard them.
    async fn hear(&self, mac: MacAddr) -> io::Result<()> {
        tokio::select! {
            readable = self.ready.readable() => readable?,
            () = self.news.notified() => return Ok(()),
        }
        for _ in 0..AT_ONCE {
            let mut buffer = [0; ROOM];
            match self.ready.try_io(Interest::READABLE, || self.line.receive(&mut buffer)) {
                Ok(frame) => {
                    if speaker(frame, mac).is_some_and(|address| self.awaited.tell(address)) {
                        self.news.notify_waiters();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Awaiting {
    /// Word of this address from now on.
    fn word_of(&self, address: IpAddr) -> Awaited<'_> {
        let mut words = self.0.borrow_mut();
        let word = words.entry(address).or_default();
        word.waiting += 1;
        Awaited { awaiting: self, address, before: word.heard }
    }

    /// Word of this address has come. Whether anybody awaits it.
    fn tell(&self, address: IpAddr) -> bool {
        self.0.borrow_mut().get_mut(&address).map(|word| word.heard += 1).is_some()
    }
}

impl Awaited<'_> {
    fn is_answered(&self) -> bool {
        self.awaiting.0.borrow().get(&self.address).is_some_and(|word| word.heard != self.before)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let mut words = self.awaiting.0.borrow_mut();
        if let Some(word) = words.get_mut(&self.address) {
            word.waiting -= 1;
            if word.waiting == 0 {
                words.remove(&self.address);
            }
        }
    }
}

/// Where an endpoint is to be asked for.
struct Place {
    interface: u32,
    name: String,
    mac: MacAddr,
    /// Our own address there; none is known for IPv4 where there is none.
    source: Option<IpAddr>,
}

impl Place {
    fn of(to: IpAddr) -> Result<Place, Failure> {
        let route = neighbour::route(to).map_err(|error| match error.raw_os_error() {
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES) => Failure::from(reason("ask", &error)),
            _ => ours(&error),
        })?;
        match route.way {
            neighbour::Way::Out if route.next_hop == to => {}
            neighbour::Way::Out => {
                return Err(format!("it is on no link of ours: the way to it is through {}", route.next_hop).into());
            }
            neighbour::Way::Local => return Err("it is this machine itself".into()),
            neighbour::Way::Other => return Err("no route leads to it".into()),
        }
        let link = link::by_index(route.interface).map_err(|error| ours(&error))?;
        match link.mac.filter(|mac| mac.is_unicast()) {
            Some(mac) => Ok(Place { interface: route.interface, name: link.name, mac, source: route.source }),
            None => Err(format!("{} has no Ethernet addresses: nobody asks for them there", link.name).into()),
        }
    }

    /// Who has this address? Asked of everybody, so that one with a new card answers too.
    fn question(&self, to: IpAddr) -> io::Result<Vec<u8>> {
        match (to, self.source) {
            (IpAddr::V4(to), Some(IpAddr::V4(source))) => Ok(arp::Arp::request(self.mac, source, to).frame().to_vec()),
            (IpAddr::V4(to), _) => Ok(arp::Arp::request(self.mac, Ipv4Addr::UNSPECIFIED, to).frame().to_vec()),
            (IpAddr::V6(to), Some(IpAddr::V6(source))) => {
                let question = Neighbor::Solicitation { target: to, source_mac: Some(self.mac) };
                let mut out = [0; ndp::FRAME_LEN];
                let from = Peer { mac: self.mac, address: source };
                let length = question.frame(from, Neighbor::group(to), &mut out);
                Ok(out.get(..length.unwrap_or(0)).unwrap_or_default().to_vec())
            }
            (IpAddr::V6(_), _) => Err(io::Error::other("the interface has no IPv6 address")),
        }
    }
}

/// Whose address a frame answers for, if it answers a question from `mac`.
fn speaker(frame: &[u8], mac: MacAddr) -> Option<IpAddr> {
    let frame = Frame::new_checked(frame).ok()?;
    if frame.ether_type() == EtherType::ARP {
        let reply = arp::Arp::parse(frame.payload()).ok()?;
        let ours = reply.operation == Operation::Reply && reply.target_mac == mac;
        return ours.then_some(reply.sender.into());
    }
    let packet = Packet::of_frame(&frame).ok()??;
    match Neighbor::parse(frame.payload(), &packet).ok()?? {
        Neighbor::Advertisement { target, solicited: true, .. } if frame.destination() == mac => Some(target.into()),
        Neighbor::Advertisement { .. } | Neighbor::Solicitation { .. } => None,
    }
}

/// The longest frame that is looked for, neighbour advertisements with options of others, and what the kernel puts before it.
const ROOM: usize = 256;
/// Frames that are heard before the one who hears looks up.
const AT_ONCE: usize = 64;
const FORBIDDEN: &str = "an `arp` probe needs CAP_NET_RAW: it speaks on the link itself";

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const THEIRS: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn only_an_answer_to_our_question_is_word_of_its_sender() {
        let (own, peer) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 41));
        let question = arp::Arp::request(OURS, own, peer);
        let answer = question.answer(THEIRS);
        assert_eq!(speaker(&answer.frame(), OURS), Some(peer.into()));
        assert_eq!(speaker(&answer.frame(), THEIRS), None, "an answer to somebody else");
        assert_eq!(speaker(&question.frame(), OURS), None, "a question");
        assert_eq!(speaker(&arp::Arp::announcement(THEIRS, peer).frame(), OURS), None, "nobody asked");
        for length in 0..42 {
            assert_eq!(speaker(&answer.frame()[..length], OURS), None, "cut to {length}");
        }
    }

    #[test]
    fn the_same_holds_for_neighbour_discovery() {
        let at = |last: u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
        let (asker, peer) = (Peer { mac: OURS, address: at(1) }, Peer { mac: THEIRS, address: at(0x41) });
        let frame = |what: Neighbor, to: Peer| {
            let mut out = [0; ndp::FRAME_LEN];
            let length = what.frame(peer, to, &mut out).unwrap();
            out[..length].to_vec()
        };
        let (answer, to) = Neighbor::answer(peer.address, THEIRS, asker);
        let good = frame(answer, to);
        assert_eq!(speaker(&good, OURS), Some(peer.address.into()));
        assert_eq!(speaker(&good, THEIRS), None, "an answer to somebody else");
        let unasked = Neighbor::announcement(THEIRS, peer.address);
        assert_eq!(speaker(&frame(unasked, asker), OURS), None, "nobody asked");
        // A hop limit below 255 is from another link.
        let mut far = good.clone();
        far[21] = 254;
        assert_eq!(speaker(&far, OURS), None);
        for length in 0..good.len() {
            assert_eq!(speaker(&good[..length], OURS), None, "cut to {length}");
        }
    }

    #[test]
    fn endpoints_that_share_an_address_are_each_answered() {
        let (shared, other) = (IpAddr::from([10, 0, 0, 41]), IpAddr::from([10, 0, 0, 42]));
        let awaiting = Awaiting::default();
        let [first, second] = [awaiting.word_of(shared), awaiting.word_of(shared)];
        assert!(awaiting.tell(shared) && !awaiting.tell(other));
        assert!(first.is_answered() && second.is_answered());
        // The first has heard it and is done; its question is no longer the second's.
        drop(first);
        assert!(second.is_answered());
        let third = awaiting.word_of(shared);
        assert!(!third.is_answered(), "what was heard before it asked");
        drop(second);
        assert!(awaiting.tell(shared) && third.is_answered());
        drop(third);
        assert!(!awaiting.tell(shared) && awaiting.0.borrow().is_empty(), "nobody waits any more");
    }

    #[test]
    fn this_machine_is_no_neighbour_of_its_own() {
        let Err(failure) = Place::of(IpAddr::from([127, 0, 0, 1])) else { panic!("a place") };
        assert_eq!(failure, Failure::from("it is this machine itself"));
    }
}
