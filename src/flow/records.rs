//! Engine: the flows that a transition must remember: one bounded hash, shared by all services and workers.
//!
//! Not an LRU: a flood could empty that. A record stays until its flow has been silent for its idle time; when there is no room
//! for another one, the caller is told and counts it. Flows that have proven nothing may take only a part of the room.
//!
//! Each of the shards is an open-addressed index of 32-bit tags over a pool of records, all of it reserved at construction.
//! Records do not move, so a sweep that lets the lock go between steps sees every record that is there all along.
//! The hash is keyed with a secret of this process, not with the cluster's: what is in one slot must not be in one shard.
//!
//! A lock and not atomics: a record is read and written as one, and only packets in marked slots come here.
//! Not here: what is recorded when (`steer`).

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use super::key::FlowKey;
use crate::base::{HashKey, Moment, ServiceId, limits};

/// How sure it is that a flow lives where its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Proof {
    /// No record: a place in the pool to be used again.
    Free,
    /// TCP: a SYN was seen, and nothing that follows it.
    Unproven,
    /// Not TCP: nothing can be proven.
    Loose,
    /// TCP: data was seen that follows the SYN, or that had none.
    Established,
    /// TCP: the client sent FIN or RST.
    Closing,
}

impl Proof {
    /// Whether a flood of spoofed single packets makes such records.
    const fn is_soft(self) -> bool {
        matches!(self, Proof::Unproven | Proof::Loose)
    }
}

/// What is recorded of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub endpoint: u16,
    pub generation: u16,
    pub proof: Proof,
    /// TCP: the sequence number of the SYN, later of the last packet.
    pub seq: u32,
    /// The last moment at which the record counts.
    pub expires: Moment,
}

/// A record as a sweep shows it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub service: ServiceId,
    pub key: FlowKey,
    /// The upper half of the hash that picked the flow's slot.
    pub slot_hash: u32,
    pub endpoint: u16,
    pub generation: u16,
    pub expires: Moment,
}

/// All records. See the file's head.
pub struct Records {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    key: HashKey,
}

/// How far a round of sweeping has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    shard: usize,
    place: usize,
}

/// Records in use, of all and of those that prove nothing, and the most of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    pub records: usize,
    pub unproven: usize,
    pub capacity: usize,
    pub unproven_capacity: usize,
}

impl Records {
    /// Room for at least `capacity` records. `key` is a secret of this process.
    pub fn new(capacity: usize, key: HashKey) -> Records {
        let shards = limits::FLOW_RECORD_SHARDS.min(capacity.div_ceil(LEAST_SHARD)).max(1).next_power_of_two();
        let each = capacity.div_ceil(shards).clamp(1, MOST_SHARD);
        Records { shards: (0..shards).map(|_| CachePadded::new(Mutex::new(Shard::new(each)))).collect(), key }
    }

    pub fn fill(&self) -> Fill {
        self.shards.iter().fold(Fill::default(), |sum, shard| {
            let shard = shard.lock();
            Fill {
                records: sum.records.saturating_add(shard.used),
                unproven: sum.unproven.saturating_add(shard.soft),
                capacity: sum.capacity.saturating_add(shard.capacity),
                unproven_capacity: sum.unproven_capacity.saturating_add(shard.soft_capacity),
            }
        })
    }

    /// Frees expired records and shows the others, `limits::FLOW_SWEEP` places at most. True when that was the end of a round,
    /// and `cursor` is at its beginning again. Called by the control side alone, every record once in a few seconds.
    pub fn sweep(&self, cursor: &mut Cursor, now: Moment, mut visit: impl FnMut(&Seen)) -> bool {
        let Some(shard) = self.shards.get(cursor.shard) else {
            *cursor = Cursor::default();
            return true;
        };
        let mut shard = shard.lock();
        let end = cursor.place.saturating_add(limits::FLOW_SWEEP);
        for place in cursor.place..end.min(shard.pool.len()) {
            match shard.pool.get(place) {
                Some(stored) if stored.proof == Proof::Free => {}
                Some(stored) if stored.expires < now => shard.free(place),
                Some(stored) => visit(&stored.seen()),
                None => {}
            }
        }
        if end < shard.pool.len() {
            cursor.place = end;
            return false;
        }
        *cursor = Cursor { shard: cursor.shard.saturating_add(1), place: 0 };
        if cursor.shard < self.shards.len() {
            return false;
        }
        *cursor = Cursor::default();
        true
    }

    /// Removes every record of a service: it is gone, or its table has another size and its flows are elsewhere now.
    pub fn forget(&self, service: ServiceId) {
        for shard in &self.shards {
            let mut place = 0_usize;
            loop {
                let mut shard = shard.lock();
                let end = place.saturating_add(limits::FLOW_SWEEP).min(shard.pool.len());
                for place in place..end {
                    if shard
                        .pool
                        .get(place)
                        .is_some_and(|stored| stored.proof != Proof::Free && stored.service == service)
                    {
                        shard.free(place);
                    }
                }
                if end == shard.pool.len() {
                    break;
                }
                place = end;
            }
        }
    }

    /// The place of a flow's record, locked until it is dropped.
    pub(super) fn entry(&self, service: ServiceId, key: &FlowKey, slot_hash: u32) -> Entry<'_> {
        let hash = self.key.hash(&key.bytes());
        #[allow(clippy::cast_possible_truncation)] // two halves of the hash, for two purposes
        let (tag, which) = ((hash >> 32) as u32, hash as usize & self.shards.len().wrapping_sub(1));
        #[allow(clippy::indexing_slicing)] // a power of two of shards, at least one
        let shard = self.shards[which].lock();
        let place = shard.find(tag, service, key);
        Entry { shard, tag, service, key: *key, slot_hash, place }
    }
}

/// One flow's record, or the place for it.
pub(super) struct Entry<'a> {
    shard: MutexGuard<'a, Shard>,
    tag: u32,
    service: ServiceId,
    key: FlowKey,
    slot_hash: u32,
    place: Option<usize>,
}

impl Entry<'_> {
    /// The record, if it has not expired.
    pub(super) fn read(&self, now: Moment) -> Option<Record> {
        let record = self.shard.pool.get(self.place?)?.record();
        (record.expires >= now).then_some(record)
    }

    /// Writes or overwrites the record. False when there is no room for it: then there is none at all.
    pub(super) fn write(&mut self, record: Record, now: Moment) -> bool {
        let shard = &mut *self.shard;
        let before = self.place.and_then(|place| shard.pool.get(place)).map(|stored| stored.proof.is_soft());
        let soft = record.proof.is_soft();
        if soft && before != Some(true) && shard.soft >= shard.soft_capacity && !shard.reclaim(now, true) {
            self.remove();
            return false;
        }
        let place = match self.place {
            Some(place) => place,
            None => match shard.allot(now) {
                Some(place) => place,
                None => return false,
            },
        };
        let Record { endpoint, generation, proof, seq, expires } = record;
        let (key, service, slot_hash, tag) = (self.key, self.service, self.slot_hash, self.tag);
        let stored = Stored { key, proof, service, slot_hash, tag, seq, expires, endpoint, generation };
        match shard.pool.get_mut(place) {
            Some(there) => *there = stored,
            // Within the reserved capacity: `allot` gives no place beyond it.
            None => shard.pool.push(stored),
        }
        if self.place.is_none() {
            shard.link(self.tag, place);
            self.place = Some(place);
        }
        shard.soft = shard.soft.saturating_add(usize::from(soft)).saturating_sub(usize::from(before == Some(true)));
        true
    }

    pub(super) fn remove(&mut self) {
        if let Some(place) = self.place.take() {
            self.shard.free(place);
        }
    }
}

/// A [`Record`] and whose it is: 64 bytes, one cache line, which `Record` as a field would exceed.
struct Stored {
    key: FlowKey,
    proof: Proof,
    service: ServiceId,
    slot_hash: u32,
    tag: u32,
    /// Of a free place: the next free one + 1.
    seq: u32,
    expires: Moment,
    endpoint: u16,
    generation: u16,
}

impl Stored {
    fn record(&self) -> Record {
        let Stored { endpoint, generation, proof, seq, expires, .. } = *self;
        Record { endpoint, generation, proof, seq, expires }
    }

    fn seen(&self) -> Seen {
        Seen {
            service: self.service,
            key: self.key,
            slot_hash: self.slot_hash,
            endpoint: self.endpoint,
            generation: self.generation,
            expires: self.expires,
        }
    }
}

struct Shard {
    /// Open addressing with linear probing, at most half full. 0 is empty, else the tag and the place + 1.
    index: Box<[u64]>,
    pool: Vec<Stored>,
    /// The first free place below the pool's end + 1; each names the next.
    first_free: u32,
    /// Where the search for expired records goes on.
    hand: usize,
    used: usize,
    soft: usize,
    capacity: usize,
    soft_capacity: usize,
}

impl Shard {
    fn new(capacity: usize) -> Shard {
        Shard {
            index: vec![0; capacity.saturating_mul(2).next_power_of_two()].into(),
            pool: Vec::with_capacity(capacity),
            first_free: 0,
            hand: 0,
            used: 0,
            soft: 0,
            capacity,
            soft_capacity: capacity.div_ceil(limits::FLOW_UNPROVEN_SHARE),
        }
    }

    fn mask(&self) -> usize {
        self.index.len().wrapping_sub(1)
    }

    /// The index words from a tag's home on: `(position, word)`, never ending, for the index is never full.
    fn probe(&self, tag: u32) -> impl Iterator<Item = (usize, u64)> {
        let mask = self.mask();
        (0..=mask).filter_map(move |step| {
            let at = (tag as usize).wrapping_add(step) & mask;
            Some((at, *self.index.get(at)?))
        })
    }

    fn find(&self, tag: u32, service: ServiceId, key: &FlowKey) -> Option<usize> {
        for (_, word) in self.probe(tag) {
            let place = place_of(word)?;
            if tag_of(word) == tag
                && let Some(stored) = self.pool.get(place)
                && stored.key == *key
                && stored.service == service
            {
                return Some(place);
            }
        }
        None
    }

    /// A free place: one that was freed, or the first beyond the pool's end.
    fn allot(&mut self, now: Moment) -> Option<usize> {
        if self.used >= self.capacity && !self.reclaim(now, false) {
            return None;
        }
        self.used = self.used.saturating_add(1);
        let Some(place) = self.first_free.checked_sub(1) else { return Some(self.pool.len()) };
        self.first_free = self.pool.get(place as usize).map_or(0, |stored| stored.seq);
        Some(place as usize)
    }

    /// Frees an expired record, one that proves nothing if need be, among the next few places.
    fn reclaim(&mut self, now: Moment, soft: bool) -> bool {
        for _ in 0..limits::FLOW_RECLAIM {
            self.hand = if self.hand.saturating_add(1) < self.pool.len() { self.hand.saturating_add(1) } else { 0 };
            let Some(record) = self.pool.get(self.hand).map(Stored::record) else { return false };
            if record.proof != Proof::Free && record.expires < now && (record.proof.is_soft() || !soft) {
                self.free(self.hand);
                return true;
            }
        }
        false
    }

    fn link(&mut self, tag: u32, place: usize) {
        let free = self.probe(tag).find(|(_, word)| *word == 0);
        if let Some(word) = free.and_then(|(at, _)| self.index.get_mut(at)) {
            *word = u64::from(tag) << 32 | (place as u64).wrapping_add(1);
        }
    }

    fn free(&mut self, place: usize) {
        let Some(stored) = self.pool.get_mut(place) else { return };
        let tag = stored.tag;
        self.soft = self.soft.saturating_sub(usize::from(stored.proof.is_soft()));
        stored.proof = Proof::Free;
        stored.seq = self.first_free;
        self.first_free = u32::try_from(place).map_or(0, |place| place.saturating_add(1));
        self.used = self.used.saturating_sub(1);
        self.unlink(tag, place);
    }

    /// Empties the word of a place and moves back those behind it that may not stand beyond an empty one.
    fn unlink(&mut self, tag: u32, place: usize) {
        let Some((mut hole, _)) = self.probe(tag).find(|(_, word)| place_of(*word) == Some(place)) else { return };
        let mask = self.mask();
        let mut at = hole;
        for _ in 0..mask {
            at = at.wrapping_add(1) & mask;
            let word = self.index.get(at).copied().unwrap_or(0);
            if word == 0 {
                break;
            }
            // It may move if the hole is not before its home: as far from home as it stands, or less.
            let home = tag_of(word) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                if let Some(to) = self.index.get_mut(hole) {
                    *to = word;
                }
                hole = at;
            }
        }
        if let Some(word) = self.index.get_mut(hole) {
            *word = 0;
        }
    }
}

fn place_of(word: u64) -> Option<usize> {
    (word & u64::from(u32::MAX)).checked_sub(1).and_then(|place| usize::try_from(place).ok())
}

#[allow(clippy::cast_possible_truncation)] // the upper half
fn tag_of(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Fewer records than this are not worth a shard of their own, and shards fill unevenly when they are small.
const LEAST_SHARD: usize = 64;
/// Places are 32 bits, and 0 is none.
const MOST_SHARD: usize = 1 << 28;

const _: () = assert!(size_of::<Stored>() == 64);

#[cfg(test)]
mod tests;
