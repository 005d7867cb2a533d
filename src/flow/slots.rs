//! Engine: a service's slots, and what is remembered of those that moved.
//!
//! ```text
//!                    moves, or its endpoint dies and flows want RST
//!   unmarked ────────────────────────────────────────────────────────▶ marked: previous, since
//!      ▲                                                                 │  ▲
//!      │  `since` + idle time has passed, and no record in the slot      │  │ moves again: before that time only
//!      └──────────────── names another endpoint ─────────────────────────┘  └ `current` changes; after it, anew
//! ```
//!
//! A slot is shared by TCP, whose flows may be silent for 15 minutes, and by others, which have 30 seconds. Each has its own half
//! of the mark, or UDP clients would follow a drained endpoint for 15 minutes.
//!
//! A half has no `previous` when no unrecorded flow can be anywhere but on `current`: the slot moved back, or `previous` died.
//! A slot that then moves again is marked anew even before `until`: flows that came in between are unrecorded too.
//!
//! A reload may change the idle times. A half keeps the one that it was marked with: a longer one would open it again to flows that
//! came when it was over, and a shorter one would end it for workers one after the other.
//!
//! Changed by the control side on a copy that it then publishes whole; workers only read. Not here: records (`records`), the
//! decision for a packet (`steer`).
//!
//! Budget: an unmarked slot is one word of the 8 KiB bitmap and one of the 131 KiB slots.

use std::time::Duration;

use super::endpoints::{Affinity, Endpoints, OnDown, Policy, Standing};
use super::key::TCP;
use super::records::Seen;
use crate::base::{FlowHash, Moment, limits};

/// No endpoint: the pool is empty.
pub const NOBODY: u16 = u16::MAX;
/// In place of a previous endpoint: it died, and its flows are to be reset.
pub(super) const RESET: u16 = u16::MAX - 1;

/// What protocols are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Tcp,
    Other,
}

impl Class {
    /// How long its flows may be silent.
    pub(super) const fn idle(self, policy: &Policy) -> Duration {
        match self {
            Class::Tcp => policy.tcp_idle,
            Class::Other => policy.other_idle,
        }
    }
}

/// Where the unrecorded flows of one class are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Half {
    /// An endpoint, [`RESET`], or [`NOBODY`] when they are all on `current`.
    pub previous: u16,
    /// The idle time of its flows when the slot was marked.
    idle_ms: u32,
    /// When the slot was marked, or when `previous` went.
    pub since: Moment,
}

impl Half {
    fn marked(previous: u16, idle: Duration, since: Moment) -> Half {
        Half { previous, idle_ms: u32::try_from(idle.as_millis()).unwrap_or(u32::MAX), since }
    }

    /// Every unrecorded flow is on `current` since then.
    const fn settled(since: Moment) -> Half {
        Half { previous: NOBODY, idle_ms: 0, since }
    }

    pub(super) fn idle(self) -> Duration {
        Duration::from_millis(self.idle_ms.into())
    }

    /// Whether an unrecorded flow may still be on `previous`. A flow that was last active at the very moment of the mark has the
    /// whole of its idle time.
    pub(super) fn is_open(self, now: Moment) -> bool {
        self.previous != NOBODY && now <= self.since + self.idle()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    slot: u32,
    tcp: Half,
    other: Half,
}

/// What a change did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Slots that name another endpoint now.
    pub moved: usize,
    /// Marked slots, after the change.
    pub marked: usize,
}

/// One service's table.
#[derive(Clone, Debug)]
pub struct Slots {
    current: Box<[u16]>,
    /// Bit n of word m: slot 64 m + n is marked.
    marked: Box<[u64]>,
    /// How many marks stand before each word's: a mark's place is that and the word's lower bits.
    before: Box<[u32]>,
    /// In the order of slots, for marked ones only.
    marks: Vec<Mark>,
    standing: Box<[Standing]>,
    policy: Policy,
}

impl Slots {
    /// A table with nothing in transition: at start, or where flows are in other slots than before (then
    /// [`Records::forget`](super::Records::forget) what the service had, once no worker decides by the old one). `current` holds
    /// an index of `endpoints` for each slot, or [`NOBODY`].
    pub fn new(current: &[u16], endpoints: &Endpoints) -> Slots {
        let words = current.len().div_ceil(64);
        Slots {
            current: current.into(),
            marked: vec![0; words].into(),
            before: vec![0; words].into(),
            marks: Vec::new(),
            standing: endpoints.standing().into(),
            policy: endpoints.policy(),
        }
    }

    /// The slot of a hash, by its upper 32 bits, as `balance::maglev` has it.
    pub fn slot(&self, hash: FlowHash) -> u32 {
        slot_of((hash.0 >> 32) as u32, self.current.len())
    }

    pub fn len(&self) -> usize {
        self.current.len()
    }

    pub fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// Endpoint of every slot.
    pub fn current(&self) -> &[u16] {
        &self.current
    }

    /// Marked slots (`strata_slots_marked`).
    pub fn marked(&self) -> usize {
        self.marks.len()
    }

    /// Whether a slot names the endpoint, or named it before it moved. Records may name it all the same (`Records::sweep`).
    pub fn names(&self, endpoint: u16) -> bool {
        self.current.contains(&endpoint)
            || self.marks.iter().any(|mark| mark.tcp.previous == endpoint || mark.other.previous == endpoint)
    }

    /// The generation of an endpoint, for what is bound to it.
    pub fn generation(&self, endpoint: u16) -> Option<u16> {
        self.standing(endpoint).map(|standing| standing.generation)
    }

    /// Whether what was bound to this generation of an endpoint may stay with it: it has neither died nor been removed, or its
    /// TCP flows are kept while it is down.
    pub fn lives(&self, endpoint: u16, generation: u16, protocol: u8) -> bool {
        let may_stay = |standing: Standing| standing.generation == generation && (!standing.down || protocol == TCP);
        self.standing(endpoint).is_some_and(may_stay)
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether a record of the service says nothing any more once its policy is `next`. [`Records::forget`](super::Records::forget)
    /// it before the change.
    pub fn voids(&self, seen: &Seen, next: &Policy) -> bool {
        // Whoever died before is not to be told of by RST: the ports of its flows may be others' since.
        let is_dead = self.begins_to_reset(next) && self.generation(seen.endpoint) != Some(seen.generation);
        // While packets stand alone they go elsewhere than records say.
        let stands_alone = next.affinity != self.policy.affinity && seen.key.protocol() != TCP;
        is_dead || stands_alone
    }

    /// Whether it may void any: or else none has to be looked at.
    pub fn voids_some(&self, next: &Policy) -> bool {
        self.begins_to_reset(next) || next.affinity != self.policy.affinity
    }

    fn begins_to_reset(&self, next: &Policy) -> bool {
        next.on_down == OnDown::Reset && self.policy.on_down != OnDown::Reset
    }

    pub(super) fn standing(&self, endpoint: u16) -> Option<Standing> {
        self.standing.get(usize::from(endpoint)).copied()
    }

    pub(super) fn at(&self, slot: u32) -> u16 {
        self.current.get(slot as usize).copied().unwrap_or(NOBODY)
    }

    pub(super) fn half(&self, slot: u32, class: Class) -> Option<Half> {
        let word = (slot / 64) as usize;
        let (bits, bit) = (*self.marked.get(word)?, 1_u64 << (slot % 64));
        if bits & bit == 0 {
            return None;
        }
        let place = self.before.get(word)?.saturating_add((bits & (bit.wrapping_sub(1))).count_ones());
        let mark = self.marks.get(place as usize)?;
        Some(match class {
            Class::Tcp => mark.tcp,
            Class::Other => mark.other,
        })
    }

    /// Takes over a new table of the same size; slots that it does not reach are nobody's, so an empty one is an empty pool.
    /// `endpoints` says who died or was removed since the last change.
    pub fn change(&mut self, current: &[u16], endpoints: &Endpoints, now: Moment) -> Changed {
        let policy = endpoints.policy();
        let change = Change { old: &self.standing, new: endpoints.standing(), before: self.policy, policy, now };
        let mut marks = std::mem::take(&mut self.marks).into_iter().peekable();
        let mut kept = Vec::with_capacity(marks.len());
        let mut moved = 0_usize;
        for (slot, old) in (0_u32..).zip(self.current.iter_mut()) {
            let new = current.get(slot as usize).copied().unwrap_or(NOBODY);
            let mark = marks.next_if(|mark| mark.slot == slot);
            if *old != new {
                moved = moved.saturating_add(1);
            }
            let tcp = change.half(Class::Tcp, mark.map(|mark| mark.tcp), *old, new);
            let other = change.half(Class::Other, mark.map(|mark| mark.other), *old, new);
            // A slot stays marked while records may name others; only `unmark` knows that none does.
            if mark.is_some() || tcp.previous != NOBODY || other.previous != NOBODY {
                kept.push(Mark { slot, tcp, other });
            }
            *old = new;
        }
        self.marks = kept;
        self.standing = endpoints.standing().into();
        self.policy = policy;
        self.index_marks();
        Changed { moved, marked: self.marks.len() }
    }

    /// Unmarks the slots in which nothing is in transition any more, and says how many.
    pub fn unmark(&mut self, survey: &Survey) -> usize {
        let before = self.marks.len();
        self.marks.retain(|mark| !survey.settles(mark));
        self.index_marks();
        before.saturating_sub(self.marks.len())
    }

    fn index_marks(&mut self) {
        self.marked.fill(0);
        for mark in &self.marks {
            if let Some(word) = self.marked.get_mut((mark.slot / 64) as usize) {
                *word |= 1 << (mark.slot % 64);
            }
        }
        let mut sum = 0_u32;
        for (word, before) in self.marked.iter().zip(self.before.iter_mut()) {
            *before = sum;
            sum = sum.saturating_add(word.count_ones());
        }
    }
}

/// What one change does to a half of a slot's mark.
struct Change<'a> {
    old: &'a [Standing],
    new: &'a [Standing],
    before: Policy,
    policy: Policy,
    now: Moment,
}

impl Change<'_> {
    fn half(&self, class: Class, half: Option<Half>, old: u16, new: u16) -> Half {
        let reset = class == Class::Tcp && self.policy.on_down == OnDown::Reset;
        let mut half = half.unwrap_or(Half::settled(Moment::ZERO));
        if half.previous < RESET && self.is_lost(class, half.previous) {
            half = if reset { Half { previous: RESET, ..half } } else { Half::settled(self.now) };
        }
        // Until now packets stood alone: what will be flows is where the slot sends them, and nobody remembers an older one.
        if class == Class::Other && self.before.affinity == Affinity::Packet && half.previous != NOBODY {
            half = Half::settled(self.now);
        }
        // An endpoint that died and came back in between is another one, though the index is the same.
        let lost = old < RESET && self.is_lost(class, old);
        if (old != new || lost) && old != NOBODY && !half.is_open(self.now) {
            let idle = class.idle(&self.policy);
            if !lost {
                half = Half::marked(old, idle, self.now);
            } else if reset {
                half = Half::marked(RESET, idle, self.now);
            }
        }
        if half.previous != NOBODY && half.previous == new {
            half = Half::settled(self.now);
        }
        half
    }

    /// Whether flows of the class must not follow this endpoint any more.
    fn is_lost(&self, class: Class, endpoint: u16) -> bool {
        let (old, new) = (self.old.get(usize::from(endpoint)), self.new.get(usize::from(endpoint)));
        let (Some(old), Some(new)) = (old, new) else { return true };
        old.generation != new.generation || (new.down && class == Class::Other)
    }
}

/// Which marked slots hold a record that names another endpoint than `current`. Made from one whole round over the records
/// ([`Records::sweep`](super::Records::sweep)); what happens meanwhile only keeps a slot marked a round longer.
#[derive(Debug)]
pub struct Survey {
    started: Moment,
    others: Box<[u64]>,
}

impl Survey {
    /// Begins a round. Nothing is decided about slots that change after this.
    pub fn begin(slots: &Slots, now: Moment) -> Survey {
        Survey { started: now, others: vec![0; slots.marked.len()].into() }
    }

    /// Takes note of one record of the service.
    pub fn see(&mut self, slots: &Slots, seen: &Seen) {
        let slot = slot_of(seen.slot_hash, slots.current.len());
        let lives = slots.standing(seen.endpoint).is_some_and(|standing| standing.generation == seen.generation);
        // A record of the dead is no record, unless it is to be answered with RST. Then it must be in reach of the SYN that
        // uses its ports again, which an unmarked slot would not show it.
        let counts = if lives { slots.at(slot) != seen.endpoint } else { slots.policy.on_down == OnDown::Reset };
        if counts && let Some(word) = self.others.get_mut((slot / 64) as usize) {
            *word |= 1 << (slot % 64);
        }
    }

    /// A worker that is a batch behind may still have recorded a flow just after the slot settled, so a slot must have been
    /// settled for `limits::TABLE_SKEW` when the round began, twice over because such a worker records that much longer.
    fn settles(&self, mark: &Mark) -> bool {
        let skew = limits::TABLE_SKEW.saturating_mul(2);
        // One that has no `previous` has settled when that went.
        let past = |half: Half| half.since + half.idle() + skew < self.started;
        let named = self.others.get((mark.slot / 64) as usize).is_none_or(|word| word & (1 << (mark.slot % 64)) != 0);
        !named && past(mark.tcp) && past(mark.other)
    }
}

/// Scales the upper half of a hash to a slot by multiplication.
fn slot_of(bits: u32, slots: usize) -> u32 {
    let slots = u64::from(u32::try_from(slots).unwrap_or(u32::MAX));
    // Below `slots`, for the product is below `2^32 * slots`.
    #[allow(clippy::cast_possible_truncation)]
    let slot = (u64::from(bits).wrapping_mul(slots) >> 32) as u32;
    slot
}

#[cfg(test)]
mod tests;
