//! Engine: the flows that a transition must remember: one bounded hash, shared by all services and workers.
//!
//! Not an LRU: a flood could empty that. A record stays until its flow has been silent for its idle time; when there is no room
//! for another one, the caller is told and counts it. Flows that have proven nothing may take only a part of the room.
//!
//! Each of the shards is a `table` behind a lock. Records do not move, so a sweep that lets the lock go between steps sees every
//! record that is there all along. The hash is keyed with a secret of this process, not with the cluster's: what is in one slot must not be in one shard.
//!
//! A lock and not atomics: a record is read and written as one, and only packets in marked slots come here.
//! Not here: what is recorded when (`steer`).

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use super::key::FlowKey;
use super::syns::Syns;
use super::table::{self, Cursor, Table};
use crate::base::{HashKey, Moment, ServiceId, limits};

/// How sure it is that a flow lives where its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Proof {
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
    /// SYNs that are not recorded.
    syns: Syns,
    key: HashKey,
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
        let (shards, each) = table::shards(capacity, limits::FLOW_RECORD_SHARDS);
        let shards = (0..shards).map(|_| CachePadded::new(Mutex::new(Shard::new(each)))).collect();
        Records { shards, syns: Syns::new(), key }
    }

    pub fn fill(&self) -> Fill {
        self.shards.iter().fold(Fill::default(), |sum, shard| {
            let shard = shard.lock();
            Fill {
                records: sum.records.saturating_add(shard.table.len()),
                unproven: sum.unproven.saturating_add(shard.soft),
                capacity: sum.capacity.saturating_add(shard.table.capacity()),
                unproven_capacity: sum.unproven_capacity.saturating_add(shard.soft_capacity),
            }
        })
    }

    /// Frees expired records and shows the others, `limits::FLOW_SWEEP` places at most. True when that was the end of a round,
    /// and `cursor` is at its beginning again. Called by the control side alone, every record once in a few seconds.
    pub fn sweep(&self, cursor: &mut Cursor, now: Moment, mut visit: impl FnMut(&Seen)) -> bool {
        table::sweep(&self.shards, cursor, Shard::places, |shard, place| match shard.table.get(place) {
            Some(stored) if stored.expires < now => shard.remove(place),
            Some(stored) => visit(&stored.seen()),
            None => {}
        })
    }

    /// Removes the records that say nothing any more: their service is gone, or their flows are elsewhere now.
    pub fn forget(&self, which: impl Fn(&Seen) -> bool) {
        table::each_place(&self.shards, Shard::places, |shard, place| {
            if shard.table.get(place).is_some_and(|stored| which(&stored.seen())) {
                shard.remove(place);
            }
        });
    }

    /// Forgets old SYNs when it is time. Called by the control side alone, more often than every second.
    pub fn turn(&self, now: Moment) {
        self.syns.turn(now);
    }

    /// Takes note of a SYN that is not recorded.
    pub(super) fn note_syn(&self, key: &FlowKey, seq: u32) {
        self.syns.note(self.syn(key, seq));
    }

    /// Whether this very SYN may have been noted of late.
    pub(super) fn knows_syn(&self, key: &FlowKey, seq: u32) -> bool {
        self.syns.knows(self.syn(key, seq))
    }

    fn syn(&self, key: &FlowKey, seq: u32) -> u64 {
        self.key.mix(self.key.hash(&key.bytes()), seq.into())
    }

    /// The place of a flow's record, locked until it is dropped.
    pub(super) fn entry(&self, service: ServiceId, key: &FlowKey, slot_hash: u32) -> Entry<'_> {
        let (tag, which) = table::spread(self.key.hash(&key.bytes()), self.shards.len());
        #[allow(clippy::indexing_slicing)] // `spread` keeps below the number of shards, which is at least one
        let shard = self.shards[which].lock();
        let place = shard.table.find(tag, |stored| stored.key == *key && stored.service == service);
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
        let record = self.shard.table.get(self.place?)?.record();
        (record.expires >= now).then_some(record)
    }

    /// Writes or overwrites the record. False when there is no room for it: then there is none at all.
    pub(super) fn write(&mut self, record: Record, now: Moment) -> bool {
        let shard = &mut *self.shard;
        let before = self.place.and_then(|place| shard.table.get(place)).is_some_and(|stored| stored.proof.is_soft());
        let soft = record.proof.is_soft();
        if soft && !before && shard.soft >= shard.soft_capacity && !shard.reclaim(now, true) {
            self.remove();
            return false;
        }
        if self.place.is_none() && shard.table.is_full() && !shard.reclaim(now, false) {
            return false;
        }
        let Record { endpoint, generation, proof, seq, expires } = record;
        let (key, service, slot_hash, tag) = (self.key, self.service, self.slot_hash, self.tag);
        let stored = Stored { key, proof, service, slot_hash, tag, seq, expires, endpoint, generation };
        match self.place.and_then(|place| shard.table.get_mut(place)) {
            Some(there) => *there = stored,
            None => self.place = shard.table.insert(stored),
        }
        shard.soft = shard.soft.saturating_add(usize::from(soft)).saturating_sub(usize::from(before));
        true
    }

    pub(super) fn remove(&mut self) {
        if let Some(place) = self.place.take() {
            self.shard.remove(place);
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

impl table::Entry for Stored {
    fn tag(&self) -> u32 {
        self.tag
    }
}

struct Shard {
    table: Table<Stored>,
    soft: usize,
    soft_capacity: usize,
}

impl Shard {
    fn new(capacity: usize) -> Shard {
        let table = Table::new(capacity);
        let soft_capacity = table.capacity().div_ceil(limits::FLOW_UNPROVEN_SHARE);
        Shard { table, soft: 0, soft_capacity }
    }

    fn places(&self) -> usize {
        self.table.places()
    }

    /// Removes an expired record, one that proves nothing if need be, if the next few places hold one.
    fn reclaim(&mut self, now: Moment, soft: bool) -> bool {
        let expired = |stored: &Stored| stored.expires < now && (stored.proof.is_soft() || !soft);
        let found = self.table.hunt(limits::FLOW_RECLAIM, expired);
        found.map(|place| self.remove(place)).is_some()
    }

    fn remove(&mut self, place: usize) {
        if let Some(stored) = self.table.remove(place) {
            self.soft = self.soft.saturating_sub(usize::from(stored.proof.is_soft()));
        }
    }
}

const _: () = assert!(size_of::<Option<Stored>>() == 64);

#[cfg(test)]
mod tests;
