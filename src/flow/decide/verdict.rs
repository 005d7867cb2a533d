//! Value: what becomes of a frame, and why.

use std::net::IpAddr;

use crate::base::{MacAddr, Reason, ServiceId};
use crate::flow::steer;
use crate::flow::tables::LinkId;
use crate::wire::Fault;

/// What becomes of a frame, for whom it was, and what somebody should hear about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub action: Action,
    pub why: Why,
    /// Whose it is, where that is known.
    pub service: Option<ServiceId>,
    /// The endpoint it goes to or comes from: its index in the service.
    pub endpoint: Option<u16>,
    pub event: Option<Event>,
}

/// What is to be done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was rewritten; it goes out here. The index is the kernel's, and the frame has its VLAN tag.
    Send { interface: u32 },
    /// It was replaced by an answer, which goes out where it came from.
    Reply,
    /// It is many packets in one and as it was: it is to be taken apart, and each to be decided about.
    Divide,
    /// It is none of ours, and as it was: the kernel has it too.
    Pass,
    /// It goes nowhere. Counted.
    Drop(Reason),
}

/// By which rule: a word in `explain` and `replay`. A drop's is its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    // Send
    /// To the endpoint that its slot or record says.
    Steered(steer::Why),
    /// To the endpoint that its translated flow has.
    Translated,
    /// With its datagram's first fragment.
    WithFirst,
    /// An ICMP error, to the endpoint whose flow it is about.
    About,
    /// A probe of ours, to the endpoint that is probed.
    Probe,
    /// From an endpoint to its client, translated back.
    Back,
    /// An ICMP error about a client's packet, to the client.
    BackAbout,

    // Reply
    /// The VIP is at our MAC address.
    IsAt,
    /// A stranger claims the VIP, and is told otherwise.
    Defended,
    Echo,
    TooBig,
    HopsExhausted,
    /// Its connection died with its endpoint.
    Reset,

    // Divide
    /// Whose packets have to go one by one, into a tunnel.
    Merged,

    // Pass
    /// Neither to a VIP nor from an endpoint whose packets are translated.
    NotOurs,
    /// Neither IP nor ARP.
    OtherProtocol,
    /// The frame is for another station, or from an interface that is not ours.
    OtherStation,
    /// From an endpoint, but no reply of a service.
    NoReply,
    /// From an endpoint to an address of Strata's.
    ToUs,

    Dropped(Reason),
}

/// What the control side should hear. The data path repeats it with every packet: the receiver counts and thins out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A stranger at `mac` claims the VIP.
    Conflict { address: IpAddr, mac: MacAddr },
    /// The MAC address of this next hop is asked for.
    Unresolved { link: LinkId, address: IpAddr },
}

impl Verdict {
    pub(super) const fn new(action: Action, why: Why) -> Verdict {
        Verdict { action, why, service: None, endpoint: None, event: None }
    }

    pub(super) const fn drop(reason: Reason) -> Verdict {
        Verdict::new(Action::Drop(reason), Why::Dropped(reason))
    }

    pub(super) const fn fault(fault: Fault) -> Verdict {
        Verdict::drop(reason(fault))
    }

    pub(super) const fn pass(why: Why) -> Verdict {
        Verdict::new(Action::Pass, why)
    }

    pub(super) const fn reply(why: Why) -> Verdict {
        Verdict::new(Action::Reply, why)
    }

    #[must_use]
    pub(super) const fn of(self, service: ServiceId) -> Verdict {
        Verdict { service: Some(service), ..self }
    }

    #[must_use]
    pub(super) const fn at(self, endpoint: u16) -> Verdict {
        Verdict { endpoint: Some(endpoint), ..self }
    }

    #[must_use]
    pub(super) const fn noting(self, event: Option<Event>) -> Verdict {
        Verdict { event, ..self }
    }
}

impl Why {
    pub const fn word(self) -> &'static str {
        match self {
            Why::Steered(why) => why.word(),
            Why::Translated => "translated",
            Why::WithFirst => "with-first-fragment",
            Why::About => "about",
            Why::Probe => "probe",
            Why::Back => "back",
            Why::BackAbout => "back-about",
            Why::IsAt => "is-at",
            Why::Defended => "defended",
            Why::Echo => "echo",
            Why::TooBig => "too-big",
            Why::HopsExhausted => "hops-exhausted",
            Why::Reset => "reset",
            Why::Merged => "merged",
            Why::NotOurs => "not-ours",
            Why::OtherProtocol => "other-protocol",
            Why::OtherStation => "other-station",
            Why::NoReply => "no-reply",
            Why::ToUs => "to-us",
            Why::Dropped(reason) => reason.word(),
        }
    }

    /// What it means, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Why::Steered(why) => why.meaning(),
            Why::Translated => "to the endpoint of its slot; its flow is recorded, so that replies are translated back",
            Why::WithFirst => "a fragment: with the first one of its datagram",
            Why::About => "an ICMP error: to the endpoint whose flow it is about",
            Why::Probe => "a probe of ours through the VIP: to the endpoint that is probed",
            Why::Back => "a reply: translated back, to the client",
            Why::BackAbout => "an ICMP error about a client's packet: to the client",
            Why::IsAt => "Strata says at which MAC address the VIP is",
            Why::Defended => "a stranger claims the VIP, and is told otherwise",
            Why::Merged => "many packets that were merged on their way here: each is decided about by itself",
            Why::Echo => "the VIP answers pings itself",
            Why::TooBig => "larger than the way onward takes: the client is told how large it may be",
            Why::HopsExhausted => "no hop was left: the client is told",
            Why::Reset => "its connection died with its endpoint, and the client is told (`on_down = \"reset\"`)",
            Why::NotOurs => "neither to a VIP nor from an endpoint whose replies are translated: the kernel has it",
            Why::OtherProtocol => "neither IP nor ARP: the kernel has it",
            Why::OtherStation => "the frame is for another MAC address",
            Why::NoReply => "from an endpoint, but from no port that a service declares: the kernel has it",
            Why::ToUs => "from an endpoint to an address of this machine: the kernel has it",
            Why::Dropped(reason) => reason.meaning(),
        }
    }
}

/// The drop reason of a fault, which has the same word.
pub const fn reason(fault: Fault) -> Reason {
    match fault {
        Fault::Truncated => Reason::TruncatedPacket,
        Fault::TooManyTags => Reason::TooManyTags,
        Fault::BadIpVersion => Reason::BadIpVersion,
        Fault::BadHeaderLength => Reason::BadHeaderLength,
        Fault::BadTotalLength => Reason::BadTotalLength,
        Fault::BadIpChecksum => Reason::BadIpChecksum,
        Fault::IpOptions => Reason::IpOptions,
        Fault::BadFragment => Reason::BadFragment,
        Fault::TinyFragment => Reason::TinyFragment,
        Fault::MartianSource => Reason::MartianSource,
        Fault::BadOption => Reason::BadOption,
        Fault::BadTcpFlags => Reason::BadTcpFlags,
        Fault::ZeroPort => Reason::ZeroPort,
        Fault::BadUdpLength => Reason::BadUdpLength,
        Fault::NoUdpChecksum => Reason::NoUdpChecksum,
        Fault::BadChecksum => Reason::BadChecksum,
        Fault::BadEmbedded => Reason::BadEmbedded,
        Fault::RoutingHeader => Reason::RoutingHeader,
        Fault::TooManyExtensions => Reason::TooManyExtensions,
        Fault::BadExtension => Reason::BadExtension,
        Fault::BadArp => Reason::BadArp,
        Fault::BadNeighbor => Reason::BadNeighbor,
        Fault::BadTunnel => Reason::BadTunnel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_and_its_reason_are_one_word() {
        for fault in Fault::ALL {
            assert_eq!(reason(*fault).word(), fault.word());
        }
    }

    #[test]
    fn what_a_steered_packet_may_say_is_said_by_nothing_else() {
        let own = [Why::Translated, Why::WithFirst, Why::About, Why::Back, Why::BackAbout, Why::NotOurs, Why::ToUs];
        for why in steer::Why::ALL {
            assert!(own.iter().all(|own| own.word() != why.word()), "{}", why.word());
        }
    }
}
