//! Engine: where one packet goes.
//!
//! An unmarked slot: to its endpoint. A marked one:
//!
//! | record | packet | goes to | record after |
//! |---|---|---|---|
//! | proven, endpoint lives | any, SYN too | its endpoint | refreshed |
//! | unproven | the same SYN again | its endpoint | refreshed |
//! | unproven | data within 64 KiB after the SYN | its endpoint | proven |
//! | unproven | other data | an older flow's: as without record | |
//! | unproven | another SYN | a new attempt: as without record | |
//! | | RST without ACK | where the SYN went: whom the client answers has an older connection of its ports | |
//! | none, before `until` | SYN that was seen before, in the first seconds | `previous` | unproven |
//! | | any other SYN | `current` | unproven |
//! | | anything else | `previous` | proven |
//! | | and no room | `previous` | none, counted |
//! | none, after `until` | any | `current` | none |
//!
//! So a SYN by itself, however late, often or forged, moves no established flow: the flow's own next packet does not follow the
//! forged number, but for luck of one in 65 536. What is *not* covered: who knows a flow's addresses and ports and sends a SYN
//! and then data that follows it, before the flow itself says a word in a transition, is believed; replies are not seen here.
//!
//! Pure; the records' shard is locked while one packet is decided. Not here: frames, NAT, counters (the caller counts by
//! [`Why`]).

use std::time::Duration;

use super::endpoints::{Affinity, OnDown};
use super::key::{FlowKey, Kind, TCP};
use super::records::{Entry, Proof, Record, Records};
use super::sequence::{is_near, opens};
use super::slots::{Class, Half, NOBODY, RESET, Slots};
use crate::base::{FlowHash, Moment, ServiceId, limits};

/// What of a packet matters.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Picks the slot: the flow's hash ([`FlowKey::hash`]), or of its source alone where the service is sticky by that.
    pub hash: FlowHash,
    /// The flow as the client's packets show it.
    pub key: &'a FlowKey,
    pub kind: Kind,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To the endpoint of this index.
    Forward { endpoint: u16, why: Why },
    /// Its connection died with its endpoint: answer with RST (`on_down = "reset"`).
    Reset,
    /// There is no endpoint to send it to.
    NoEndpoint,
}

/// By which rule a packet went where it went: a counter, and a word in `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Why {
    /// The slot is not marked.
    Slot,
    /// The flow has a record.
    Recorded,
    /// A SYN without record: recorded now, to be proven.
    Opened,
    /// A SYN that was seen before, so soon after the slot moved that the answer may be under way.
    Repeated,
    /// Without record in a marked slot: it stays where the slot was before, and that is recorded.
    Previous,
    /// Without record in a marked slot in which unrecorded flows are on the current endpoint.
    Settled,
    /// It should have been recorded, and there was no room.
    RecordsFull,
}

impl Why {
    pub const ALL: &'static [Why] =
        &[Why::Slot, Why::Recorded, Why::Opened, Why::Repeated, Why::Previous, Why::Settled, Why::RecordsFull];

    pub const fn word(self) -> &'static str {
        match self {
            Why::Slot => "slot",
            Why::Recorded => "recorded",
            Why::Opened => "opened",
            Why::Repeated => "repeated",
            Why::Previous => "previous",
            Why::Settled => "settled",
            Why::RecordsFull => "records-full",
        }
    }

    /// What it means, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Why::Slot => "to the endpoint that its slot names; nothing is in transition",
            Why::Recorded => "its flow is recorded, and stays where it is",
            Why::Opened => "a new connection, in a slot that has moved: to the slot's endpoint, and recorded",
            Why::Repeated => "its slot has just moved, and this may repeat an earlier SYN: to the endpoint before",
            Why::Previous => "its slot has moved, and its flow is older: to the endpoint before, and recorded",
            Why::Settled => "its slot has moved, and no older flow is left: to the slot's endpoint",
            Why::RecordsFull => "its slot has moved, and there was no room to record it",
        }
    }
}

/// Decides about one packet of `service`, and records what later packets of its flow need.
pub fn steer(slots: &Slots, records: &Records, service: ServiceId, packet: &Packet<'_>, now: Moment) -> Decision {
    let slot = slots.slot(packet.hash);
    let current = slots.at(slot);
    let class = if packet.key.protocol() == TCP { Class::Tcp } else { Class::Other };
    let Some(half) = slots.half(slot, class) else {
        if let Kind::Syn { seq } = packet.kind {
            records.note_syn(packet.key, seq);
        }
        return forward(current, Why::Slot);
    };
    if class == Class::Other && slots.policy().affinity == Affinity::Packet {
        return forward(current, Why::Slot);
    }
    // The upper half, which picked the slot.
    #[allow(clippy::cast_possible_truncation)]
    let entry = records.entry(service, packet.key, (packet.hash.0 >> 32) as u32);
    // What is recorded outlives the mark, also where a reload has shortened the idle time since.
    let idle = class.idle(slots.policy()).max(half.idle());
    let mut transition = Transition { slots, records, key: packet.key, current, class, idle, half, entry, now };
    transition.decide(packet.kind)
}

/// One packet in a marked slot.
struct Transition<'a> {
    slots: &'a Slots,
    records: &'a Records,
    key: &'a FlowKey,
    current: u16,
    class: Class,
    idle: Duration,
    half: Half,
    entry: Entry<'a>,
    now: Moment,
}

impl Transition<'_> {
    fn decide(&mut self, kind: Kind) -> Decision {
        let Some(record) = self.entry.read(self.now) else { return self.unrecorded(kind) };
        let Some(standing) = self.slots.standing(record.endpoint) else { return self.unrecorded(kind) };
        // Before anything else: a forged SYN's record says nothing about the flow, whatever became of its endpoint.
        let Some(after) = self.recorded(record, kind) else { return self.unrecorded(kind) };
        if standing.generation != record.generation {
            return match (self.class, self.slots.policy().on_down, kind) {
                (Class::Tcp, OnDown::Reset, Kind::TcpData { .. } | Kind::Fin { .. }) => Decision::Reset,
                _ => self.unrecorded(kind),
            };
        }
        // A kept endpoint that is down keeps what it has and gets nothing new.
        if standing.down && (self.class == Class::Other || matches!(kind, Kind::Syn { .. })) {
            return self.unrecorded(kind);
        }
        if after != record {
            self.entry.write(after, self.now);
        }
        forward(record.endpoint, Why::Recorded)
    }

    /// The record as the packet leaves it, or `None` if the packet is not its flow's.
    fn recorded(&self, record: Record, kind: Kind) -> Option<Record> {
        let with = |proof, seq, expires| Some(Record { proof, seq, expires, ..record });
        match (record.proof, kind) {
            (_, Kind::About) => Some(record),
            (Proof::Unproven, Kind::Syn { seq }) if seq == record.seq => {
                with(Proof::Unproven, seq, self.now + limits::TCP_UNPROVEN_IDLE)
            }
            (Proof::Unproven, Kind::TcpData { seq, .. }) if opens(record.seq, seq) => {
                with(Proof::Established, seq, self.now + self.idle)
            }
            (Proof::Unproven, Kind::Fin { seq, .. } | Kind::Rst { seq, .. }) if opens(record.seq, seq) => {
                with(Proof::Closing, seq, self.now + self.closing_idle())
            }
            // Whoever got the SYN may have an older connection of these ports and have challenged it (RFC 5961 §4). Until the client's
            // answer is there, every SYN is challenged again.
            (Proof::Unproven, Kind::Rst { bare: true, .. }) => Some(record),
            (Proof::Unproven, _) => None,
            // A new connection of the same ports may be about to begin: the record lives until it has. A forged SYN gains no
            // more by this than by data. It never shortens.
            (_, Kind::Syn { .. }) => {
                with(Proof::Established, record.seq, record.expires.max(self.now + limits::TCP_UNPROVEN_IDLE))
            }
            // What goes on for longer than a window after FIN or RST was not closed by it.
            (Proof::Closing, Kind::TcpData { seq, .. }) if is_near(record.seq, seq) => {
                with(Proof::Closing, record.seq, self.now + self.closing_idle())
            }
            (_, Kind::TcpData { seq, .. }) => with(Proof::Established, seq, self.now + self.idle),
            // Only one that belongs to the flow shortens its life; a blind one is but a sign of life (RFC 5961 §3).
            (_, Kind::Fin { seq, .. } | Kind::Rst { seq, .. }) if is_near(record.seq, seq) => {
                with(Proof::Closing, seq, self.now + self.closing_idle())
            }
            (_, Kind::Fin { .. } | Kind::Rst { .. }) => Some(record),
            (_, Kind::Other) => with(record.proof, 0, self.now + self.idle),
        }
    }

    fn unrecorded(&mut self, kind: Kind) -> Decision {
        let previous = self.half.previous;
        let open = self.half.is_open(self.now);
        // A worker whose clock is behind may take this flow's next packet for one before `until`: it must find a record.
        let lately = previous != NOBODY && self.now <= self.half.since + self.half.idle() + limits::TABLE_SKEW;
        match kind {
            Kind::About if open && previous != RESET => forward(previous, Why::Previous),
            Kind::About => forward(self.current, Why::Settled),
            Kind::Syn { seq } if open || lately => {
                let soon = open && self.now <= self.half.since + limits::SYN_GRACE && self.takes_new(previous);
                let soon = soon && self.records.knows_syn(self.key, seq);
                let (endpoint, why) = if soon { (previous, Why::Repeated) } else { (self.current, Why::Opened) };
                let kept = self.record(endpoint, Proof::Unproven, seq, self.now + limits::TCP_UNPROVEN_IDLE);
                if kept { forward(endpoint, why) } else { self.full(open, true) }
            }
            _ if !open => {
                if let Kind::Syn { seq } = kind {
                    self.records.note_syn(self.key, seq);
                }
                self.entry.remove();
                forward(self.current, Why::Settled)
            }
            // Nobody knows what it resets, and RST is not answered (RFC 9293 §3.10.7).
            Kind::Rst { .. } if previous == RESET => forward(self.current, Why::Settled),
            _ if previous == RESET => Decision::Reset,
            Kind::Rst { .. } => forward(previous, Why::Previous),
            Kind::TcpData { seq, .. } => self.stay(Proof::Established, seq, self.idle),
            Kind::Fin { seq, .. } => self.stay(Proof::Closing, seq, self.closing_idle()),
            Kind::Other | Kind::Syn { .. } => self.stay(Proof::Loose, 0, self.idle),
        }
    }

    /// An older flow goes on where it was.
    fn stay(&mut self, proof: Proof, seq: u32, idle: Duration) -> Decision {
        let kept = self.record(self.half.previous, proof, seq, self.now + idle);
        if kept { forward(self.half.previous, Why::Previous) } else { self.full(true, false) }
    }

    fn record(&mut self, endpoint: u16, proof: Proof, seq: u32, expires: Moment) -> bool {
        match self.slots.standing(endpoint) {
            Some(standing) => {
                let record = Record { endpoint, generation: standing.generation, proof, seq, expires };
                self.entry.write(record, self.now)
            }
            // Nobody: there is nothing to record, and the packet has nowhere to go.
            None => true,
        }
    }

    /// No room. What cannot be told from an older flow goes where that is: new flows break there no more than old ones would on
    /// `current`. Except where `previous` is dead, unless nobody else is there.
    fn full(&self, open: bool, is_new: bool) -> Decision {
        let previous = self.half.previous;
        let follows = open && (self.takes_new(previous) || self.current == NOBODY && !is_new && previous != RESET);
        forward(if follows { previous } else { self.current }, Why::RecordsFull)
    }

    fn closing_idle(&self) -> Duration {
        limits::TCP_CLOSING_IDLE.min(self.idle)
    }

    fn takes_new(&self, endpoint: u16) -> bool {
        self.slots.standing(endpoint).is_some_and(|standing| !standing.down)
    }
}

fn forward(endpoint: u16, why: Why) -> Decision {
    if endpoint == NOBODY { Decision::NoEndpoint } else { Decision::Forward { endpoint, why } }
}

#[cfg(test)]
mod tests;
