//! Engine: a hash table of fixed room: an open-addressed index of 32-bit tags over a pool of entries that do not move.
//!
//! Everything is reserved at construction and touched as it fills. Entries keep their places, so that a sweep may stop between
//! any two of them and go on later. Which shard a key belongs to and what a full table does is its owner's business.
//! Hashes must be keyed: probes are linear.

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::base::limits;

/// What a table keeps.
pub(super) trait Entry {
    /// The part of its key's hash that it was inserted with: the index finds it by this.
    fn tag(&self) -> u32;
}

pub(super) struct Table<T> {
    /// At most half full. 0 is empty, else the tag and the place + 1.
    index: Box<[u64]>,
    entries: Vec<Option<T>>,
    /// Places before the pool's end that are free.
    free: Vec<u32>,
    capacity: usize,
    hand: usize,
}

impl<T: Entry> Table<T> {
    /// Room for `capacity` entries, one at least.
    pub(super) fn new(capacity: usize) -> Table<T> {
        let capacity = capacity.clamp(1, MOST);
        Table {
            index: vec![0; capacity.saturating_mul(2).next_power_of_two()].into(),
            entries: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            capacity,
            hand: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len().saturating_sub(self.free.len())
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// How many places a sweep has to visit.
    pub(super) fn places(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.entries.get(place)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.entries.get_mut(place)?.as_mut()
    }

    pub(super) fn find(&self, tag: u32, is: impl Fn(&T) -> bool) -> Option<usize> {
        for (_, word) in self.probe(tag) {
            let place = place_of(word)?;
            if tag_of(word) == tag && self.get(place).is_some_and(&is) {
                return Some(place);
            }
        }
        None
    }

    /// The place it got, or `None` when the table is full. The key must not be there yet.
    pub(super) fn insert(&mut self, entry: T) -> Option<usize> {
        if self.is_full() {
            return None;
        }
        let tag = entry.tag();
        let place = match self.free.pop() {
            Some(place) => {
                let place = place as usize;
                *self.entries.get_mut(place)? = Some(entry);
                place
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len().wrapping_sub(1)
            }
        };
        let free = self.probe(tag).find(|(_, word)| *word == 0);
        if let Some(word) = free.and_then(|(at, _)| self.index.get_mut(at)) {
            *word = u64::from(tag) << 32 | (place as u64).wrapping_add(1);
        }
        Some(place)
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<T> {
        let entry = self.entries.get_mut(place)?.take()?;
        self.free.push(u32::try_from(place).unwrap_or(u32::MAX));
        self.unlink(entry.tag(), place);
        Some(entry)
    }

    /// Looks at the next few places, going round, for an entry that may go.
    pub(super) fn hunt(&mut self, places: usize, may_go: impl Fn(&T) -> bool) -> Option<usize> {
        for _ in 0..places {
            let place = self.hand;
            self.hand = if place.saturating_add(1) < self.entries.len() { place.saturating_add(1) } else { 0 };
            if self.get(place).is_some_and(&may_go) {
                return Some(place);
            }
        }
        None
    }

    fn mask(&self) -> usize {
        self.index.len().wrapping_sub(1)
    }

    /// The words from a tag's home on, with their positions. One of them is empty, for the index is never full.
    fn probe(&self, tag: u32) -> impl Iterator<Item = (usize, u64)> {
        let mask = self.mask();
        (0..=mask).filter_map(move |step| {
            let at = (tag as usize).wrapping_add(step) & mask;
            Some((at, *self.index.get(at)?))
        })
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
            // It may move unless the hole is before its home.
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

/// How far a round of sweeping has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    shard: usize,
    place: usize,
}

/// Goes over the next places of the shards, `limits::FLOW_SWEEP` at most, at one hold of a shard's lock: packets wait for these alone.
/// True when that was the end of a round, and `cursor` is at its beginning again.
pub(super) fn sweep<S>(
    shards: &[CachePadded<Mutex<S>>],
    cursor: &mut Cursor,
    places: impl Fn(&S) -> usize,
    mut visit: impl FnMut(&mut S, usize),
) -> bool {
    let at = *cursor;
    if let Some(shard) = shards.get(at.shard) {
        let mut shard = shard.lock();
        let end = at.place.saturating_add(limits::FLOW_SWEEP);
        (at.place..end.min(places(&shard))).for_each(|place| visit(&mut shard, place));
        if end < places(&shard) {
            cursor.place = end;
            return false;
        }
    }
    let shard = at.shard.saturating_add(1);
    let is_whole = shard >= shards.len();
    *cursor = if is_whole { Cursor::default() } else { Cursor { shard, place: 0 } };
    is_whole
}

/// A whole round at once, which lets packets pass in between as a [`sweep`] does.
pub(super) fn each_place<S>(
    shards: &[CachePadded<Mutex<S>>],
    places: impl Fn(&S) -> usize,
    mut visit: impl FnMut(&mut S, usize),
) {
    let mut cursor = Cursor::default();
    while !sweep(shards, &mut cursor, &places, &mut visit) {}
}

/// A keyed hash as the tag within a shard, and the shard among a power of two of them.
#[allow(clippy::cast_possible_truncation)] // two halves, for two purposes
pub(super) fn spread(hash: u64, shards: usize) -> (u32, usize) {
    ((hash >> 32) as u32, hash as usize & shards.wrapping_sub(1))
}

/// How many shards some room is spread over, and the room of each: none is so small that chance fills it long before others.
pub(super) fn shards(capacity: usize, most: usize) -> (usize, usize) {
    let shards = most.min(capacity.div_ceil(LEAST)).max(1).next_power_of_two();
    (shards, capacity.div_ceil(shards))
}

fn place_of(word: u64) -> Option<usize> {
    (word & u64::from(u32::MAX)).checked_sub(1).and_then(|place| usize::try_from(place).ok())
}

#[allow(clippy::cast_possible_truncation)] // the upper half
fn tag_of(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Places are 32 bits, and 0 is none.
const MOST: usize = 1 << 28;
const LEAST: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    struct Pair(u32, u32);

    impl Entry for Pair {
        fn tag(&self) -> u32 {
            self.0
        }
    }

    #[test]
    fn a_table_does_what_a_map_does_however_tags_collide() {
        for (seed, tags) in [(1, 4_u32), (2, 40), (3, u32::MAX)] {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut table = Table::new(50);
            let mut model: HashMap<u32, usize> = HashMap::new();
            let tag = |key: u32| key.wrapping_mul(0x9e37_79b9) % tags;
            for _ in 0..5000 {
                let key = rng.u32(..80);
                let found = table.find(tag(key), |pair: &Pair| pair.1 == key);
                assert_eq!(found, model.get(&key).copied());
                match found {
                    Some(place) => {
                        assert_eq!((model.remove(&key), table.remove(place).map(|p| p.1)), (found, Some(key)))
                    }
                    None => match table.insert(Pair(tag(key), key)) {
                        Some(place) => assert!(model.insert(key, place).is_none()),
                        None => assert_eq!(model.len(), 50),
                    },
                }
                assert_eq!(table.len(), model.len());
            }
        }
    }

    #[test]
    fn every_place_is_visited_once_and_others_have_their_turn_in_between() {
        let some = limits::FLOW_SWEEP;
        for counts in [vec![], vec![0], vec![1, 0, 2], vec![some - 1, some], vec![some + 1, 1], vec![0, 3 * some, 0]] {
            let shards: Vec<_> = counts.iter().map(|count| CachePadded::new(Mutex::new((*count, 0)))).collect();
            let next = |(count, next): &mut (usize, usize), place: usize| {
                assert_eq!(place, *next, "of {count}");
                *next += 1;
            };
            each_place(&shards, |(count, _)| *count, next);
            let visited: Vec<usize> = shards.iter().map(|shard| shard.lock().1).collect();
            assert_eq!(visited, counts);
            let (mut cursor, mut steps) = (Cursor::default(), 1);
            while !sweep(&shards, &mut cursor, |(count, _)| *count, |_, _| {}) {
                steps += 1;
            }
            let least: usize = counts.iter().map(|count| count.div_ceil(some).max(1)).sum();
            assert_eq!((steps, cursor), (least.max(1), Cursor::default()), "{counts:?}");
        }
    }

    #[test]
    fn a_hunt_goes_round() {
        let mut table = Table::new(4);
        (0..4).for_each(|key| assert!(table.insert(Pair(key, key)).is_some()));
        let evens: Vec<_> = (0..4).map(|_| table.hunt(2, |pair| pair.1 % 2 == 0)).collect();
        assert_eq!(evens, [Some(0), Some(2), Some(0), Some(2)]);
        assert_eq!(table.hunt(9, |pair| pair.1 > 3), None);
    }
}
