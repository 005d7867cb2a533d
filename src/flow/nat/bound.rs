//! Engine: the life of one translated flow.
//!
//! ```text
//!   Opening ──answer──▶ Answered ──what follows──▶ Live ──FIN, RST──▶ Closing ──▶ gone
//!      └────────────── silence ──────────┴──────────┴── silence, much later ──▶ gone
//! ```
//!
//! Both directions are seen, so an answer from the endpoint and data of the client that follows its SYN prove a flow.

use std::time::Duration;

use super::super::key::Kind;
use super::super::ports::Lease;
use super::super::sequence::{is_near, opens};
use super::super::table::Entry;
use super::Binding;
use crate::base::{Moment, limits};

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The client spoke.
    Opening,
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

pub(super) struct Bound {
    pub(super) binding: Binding,
    pub(super) lease: Option<Lease>,
    pub(super) expires: Moment,
    idle: Duration,
    tag: u32,
    /// TCP: the client's SYN, later its last packet.
    seq: u32,
    stage: Stage,
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
        let seq = match kind {
            Kind::Syn { seq } | Kind::TcpData { seq } | Kind::Fin { seq } | Kind::Rst { seq, .. } => seq,
            Kind::Other | Kind::About => 0,
        };
        let expires = now + idle.min(limits::NAT_OPENING_IDLE);
        Bound { binding, lease, idle, expires, tag, seq, stage: Stage::Opening }
    }

    /// Whether a flood of single forged packets makes such flows.
    pub(super) const fn is_soft(&self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Answered)
    }

    /// What a packet changes. The client's may be forged, so they must fit what came before; the endpoint's are believed.
    pub(super) fn packet(&mut self, kind: Kind, side: Side, now: Moment) {
        let (stage, seq, idle) = match (side, self.stage, kind) {
            (_, _, Kind::About) => return,
            (Side::Client, Stage::Opening | Stage::Answered, Kind::Syn { seq }) => {
                let again = seq == self.seq;
                (if again { self.stage } else { Stage::Opening }, seq, limits::NAT_OPENING_IDLE)
            }
            // The same ports again, perhaps: the flow lives on for as long as that takes.
            (Side::Client, _, Kind::Syn { .. }) => {
                self.stage = Stage::Live;
                self.expires = self.expires.max(now + self.idle.min(limits::NAT_OPENING_IDLE));
                return;
            }
            (Side::Client, Stage::Answered, Kind::TcpData { seq }) if opens(self.seq, seq) => {
                (Stage::Live, seq, self.idle)
            }
            (Side::Client, Stage::Opening | Stage::Answered, Kind::Fin { seq } | Kind::Rst { seq, .. })
                if opens(self.seq, seq) =>
            {
                (Stage::Closing, seq, limits::TCP_CLOSING_IDLE)
            }
            (Side::Client, Stage::Closing, Kind::TcpData { seq }) if is_near(self.seq, seq) => {
                (Stage::Closing, self.seq, limits::TCP_CLOSING_IDLE)
            }
            (Side::Client, Stage::Live | Stage::Closing, Kind::TcpData { seq }) => (Stage::Live, seq, self.idle),
            (Side::Client, Stage::Live | Stage::Closing, Kind::Fin { seq } | Kind::Rst { seq, .. })
                if is_near(self.seq, seq) =>
            {
                (Stage::Closing, seq, limits::TCP_CLOSING_IDLE)
            }
            (Side::Client, Stage::Answered | Stage::Live, Kind::Other) => (Stage::Live, 0, self.idle),
            (Side::Client, Stage::Opening, Kind::Other) => (Stage::Opening, 0, limits::NAT_OPENING_IDLE),
            (Side::Client, ..) => return,
            (Side::Endpoint, Stage::Opening | Stage::Answered, _) => {
                (Stage::Answered, self.seq, limits::NAT_OPENING_IDLE)
            }
            (Side::Endpoint, Stage::Live, Kind::Fin { .. } | Kind::Rst { .. })
            | (Side::Endpoint, Stage::Closing, _) => (Stage::Closing, self.seq, limits::TCP_CLOSING_IDLE),
            (Side::Endpoint, Stage::Live, _) => (Stage::Live, self.seq, self.idle),
        };
        (self.stage, self.seq, self.expires) = (stage, seq, now + idle.min(self.idle));
    }
}
