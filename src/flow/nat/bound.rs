//! Engine: the life of one translated flow.
//!
//! ```text
//!   Opening ──answer──▶ Answered ──what follows──▶ Live ──FIN, RST──▶ Closing ──▶ gone
//!      │                   │        Amid ──answer──▶ │                  │
//!      └───── silence ─────┴─────────┴───────────────┴── silence, much later ──▶ gone
//! ```
//!
//! Both directions are seen, so an answer from the endpoint and an answer of the client to that prove a flow: under TCP one that
//! acknowledges what the endpoint sent, which who forges packets does not see. RST is no answer: whoever is refused proves nothing.
//! Under UDP two datagrams around an answer are forged as easily as one, so such a flow has a class of its own.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::key::{Kind, TCP};
use super::super::ports::{Lease, Lent, Rest};
use super::super::sequence::{is_near, opens};
use super::super::table::Entry;
use super::Binding;
use super::shard::Beside;
use crate::base::{Moment, limits};

/// Flows that may go before their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A flood of forged packets makes such flows.
    Unproven,
    /// Both ends spoke, as far as that can be told without a handshake.
    Datagram,
    /// Both ends are done with it, or one of them and the other has nothing to say.
    Closing,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The client spoke.
    Opening,
    /// TCP: it spoke in the middle of a connection, which an endpoint that does not refuse it has.
    Amid,
    /// The endpoint answered.
    Answered,
    /// The client spoke again, and what follows.
    Live,
    /// TCP: one of them sent FIN or RST.
    Closing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Endpoint,
}

/// Two cache lines: a packet of a flow among many finds none of it in a cache.
#[repr(align(64))]
pub(super) struct Bound {
    pub(super) binding: Binding,
    /// Its address and port are the outside's.
    lent: Option<Lent>,
    pub(super) expires: Moment,
    idle_ms: u32,
    tag: u32,
    /// TCP: the client's SYN, later its last packet.
    seq: u32,
    /// TCP: where the endpoint began before the client answered it: its SYN-ACK.
    theirs: u32,
    stage: Stage,
    /// When its client last had its life extended, or anybody once it closes.
    pub(super) heard: Moment,
    /// While it may go for others.
    pub(super) beside: Beside,
}

impl Entry for Bound {
    fn tag(&self) -> u32 {
        self.tag
    }
}

impl Bound {
    pub(super) fn new(
        binding: Binding,
        kind: Kind,
        idle: Duration,
        lease: Option<Lease>,
        tag: u32,
        now: Moment,
    ) -> Bound {
        let stage =
            if matches!(kind, Kind::Syn { .. } | Kind::Other | Kind::About) { Stage::Opening } else { Stage::Amid };
        let expires = now + idle.min(limits::NAT_OPENING_IDLE);
        let seq = seq_of(kind);
        let idle_ms = u32::try_from(idle.as_millis()).unwrap_or(u32::MAX);
        let lent = lease.map(Lease::lent);
        Bound { binding, lent, expires, idle_ms, tag, seq, theirs: 0, stage, heard: now, beside: Beside::NOBODY }
    }

    /// The port that it was lent.
    pub(super) fn lease(&self) -> Option<Lease> {
        let shown = self.binding.outside.source();
        self.lent.map(|lent| lent.of(shown.ip(), shown.port()))
    }

    /// Which of all pools its port is of.
    pub(super) fn pool(&self) -> Option<usize> {
        self.lent.map(Lent::pool)
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms.into())
    }

    /// As what it may go for others to come.
    pub(super) const fn class(&self) -> Option<Class> {
        match self.stage {
            Stage::Opening | Stage::Amid | Stage::Answered => Some(Class::Unproven),
            Stage::Live if self.is_tcp() => None,
            Stage::Live => Some(Class::Datagram),
            Stage::Closing => Some(Class::Closing),
        }
    }

    /// How its port has to rest after it.
    pub(super) fn rest(&self) -> Rest {
        match self.class() {
            _ if !self.is_tcp() => Rest::Short,
            Some(Class::Unproven) => Rest::None,
            _ => Rest::Full,
        }
    }

    /// Whether its port may go to another flow to `endpoint`. What that says is a client's by its addresses alone where there are no
    /// sequence numbers, so its answers to the one before have to be over.
    pub(super) fn yields_to(&self, endpoint: SocketAddr, now: Moment) -> bool {
        let is_other = self.binding.outside.destination() != endpoint && self.lent.is_some_and(|lent| !lent.tired);
        is_other || self.has_rested(now)
    }

    pub(super) fn has_rested(&self, now: Moment) -> bool {
        self.is_tcp() || self.heard + limits::NAT_DATAGRAM_REST <= now
    }

    const fn is_tcp(&self) -> bool {
        self.binding.inside.protocol() == TCP
    }

    /// What a packet changes. The client's may be forged, so they must fit what came before; the endpoint's are believed.
    pub(super) fn packet(&mut self, kind: Kind, side: Side, now: Moment) {
        let most = self.idle();
        let (stage, seq, idle) = match (side, self.stage, kind) {
            (_, _, Kind::About) => return,
            (Side::Client, Stage::Answered, Kind::Syn { seq }) if seq == self.seq => {
                (Stage::Answered, seq, limits::NAT_OPENING_IDLE)
            }
            (Side::Client, Stage::Opening | Stage::Amid | Stage::Answered, Kind::Syn { seq }) => {
                (Stage::Opening, seq, limits::NAT_OPENING_IDLE)
            }
            // The same ports again, perhaps: the flow lives on for as long as that takes.
            (Side::Client, _, Kind::Syn { .. }) => {
                self.stage = Stage::Live;
                self.expires = self.expires.max(now + most.min(limits::NAT_OPENING_IDLE));
                return;
            }
            (Side::Client, Stage::Answered, Kind::TcpData { seq, ack }) if self.is_answer(seq, ack) => {
                (Stage::Live, seq, most)
            }
            (Side::Client, Stage::Answered, Kind::Fin { seq, ack }) if self.is_answer(seq, ack) => {
                (Stage::Closing, seq, limits::TCP_CLOSING_IDLE)
            }
            (Side::Client, Stage::Closing, Kind::TcpData { seq, .. }) if is_near(self.seq, seq) => {
                (Stage::Closing, self.seq, limits::TCP_CLOSING_IDLE)
            }
            (Side::Client, Stage::Live | Stage::Closing, Kind::TcpData { seq, .. }) => (Stage::Live, seq, most),
            (Side::Client, Stage::Live | Stage::Closing, Kind::Fin { seq, .. } | Kind::Rst { seq, .. })
                if is_near(self.seq, seq) =>
            {
                (Stage::Closing, seq, limits::TCP_CLOSING_IDLE)
            }
            (Side::Client, Stage::Answered | Stage::Live, Kind::Other) => (Stage::Live, 0, most),
            (Side::Client, Stage::Opening, Kind::Other) => (Stage::Opening, 0, limits::NAT_OPENING_IDLE),
            (Side::Client, ..) => return,
            (Side::Endpoint, Stage::Opening | Stage::Amid | Stage::Answered, Kind::Rst { .. }) => return,
            // It repeats itself for a minute, whether there is a client or not (RFC 9293 §3.8.1).
            (Side::Endpoint, Stage::Answered, kind) if kind != Kind::Other => {
                // One that takes data with the SYN (RFC 7413) goes on before any ACK, as far as a window that is not scaled. The first
                // ACK may be of all of that, so where it began stays: it begins anew where it does not go on.
                if !opens(self.theirs, seq_of(kind)) {
                    self.theirs = seq_of(kind);
                }
                return;
            }
            (Side::Endpoint, Stage::Opening | Stage::Answered, kind) => {
                self.theirs = seq_of(kind);
                (Stage::Answered, self.seq, limits::NAT_OPENING_IDLE)
            }
            (Side::Endpoint, Stage::Amid, Kind::Fin { .. }) => (Stage::Closing, self.seq, limits::TCP_CLOSING_IDLE),
            (Side::Endpoint, Stage::Amid, _) => (Stage::Live, self.seq, most),
            (Side::Endpoint, Stage::Live, Kind::Fin { .. } | Kind::Rst { .. })
            | (Side::Endpoint, Stage::Closing, _) => (Stage::Closing, self.seq, limits::TCP_CLOSING_IDLE),
            (Side::Endpoint, Stage::Live, _) => (Stage::Live, self.seq, most),
        };
        (self.stage, self.seq, self.expires) = (stage, seq, now + idle.min(most));
    }

    /// Whether a segment follows the client's SYN and acknowledges the endpoint's.
    fn is_answer(&self, seq: u32, ack: u32) -> bool {
        opens(self.seq, seq) && opens(self.theirs, ack)
    }
}

const fn seq_of(kind: Kind) -> u32 {
    match kind {
        Kind::Syn { seq } | Kind::TcpData { seq, .. } | Kind::Fin { seq, .. } | Kind::Rst { seq, .. } => seq,
        Kind::Other | Kind::About => 0,
    }
}

const _: () = assert!(size_of::<Option<Bound>>() == 128);
