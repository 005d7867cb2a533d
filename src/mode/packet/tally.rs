//! Engine: what a batch of frames is to be counted as, kept by its worker until the batch ends.
//!
//! Why: workers of several interfaces share rows of cells, so each count there is an atomic read-modify-write, and finding the
//! rows takes a dozen loads. Frames of one batch are mostly of few endpoints: they are counted here and told once.
//! Not here: cells, and drops, which are rare.
//!
//! Budget: one cache line of the worker's own a frame.

use crate::base::ServiceId;

/// What frames are counted together as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub service: ServiceId,
    /// The endpoint's number in the service's table; `None`: it was answered here.
    pub endpoint: Option<u16>,
    /// Whether what goes out is.
    pub ipv6: bool,
    pub to_client: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub key: Key,
    pub frames: u64,
    pub bytes: u64,
}

/// Few keys, each at the place that it falls on.
pub(super) struct Tally {
    rows: [Count; ROWS],
    /// Bit n: row n holds something.
    held: u64,
}

impl Tally {
    pub const fn new() -> Tally {
        let key = Key { service: ServiceId(0), endpoint: None, ipv6: false, to_client: false };
        Tally { rows: [Count { key, frames: 0, bytes: 0 }; ROWS], held: 0 }
    }

    /// Counts a frame. What had to make room for it is to be told now.
    pub fn add(&mut self, key: Key, bytes: u64) -> Option<Count> {
        let place = key.place();
        let row = &mut self.rows[place];
        if self.held & 1 << place != 0 && row.key == key {
            (row.frames, row.bytes) = (row.frames + 1, row.bytes + bytes);
            return None;
        }
        let before = std::mem::replace(row, Count { key, frames: 1, bytes });
        let was_held = self.held & 1 << place != 0;
        self.held |= 1 << place;
        was_held.then_some(before)
    }

    /// Tells everything that is held, and holds nothing then.
    pub fn drain(&mut self, mut tell: impl FnMut(&Count)) {
        while self.held != 0 {
            let place = self.held.trailing_zeros() as usize;
            self.held &= self.held - 1;
            tell(&self.rows[place]);
        }
    }
}

impl Key {
    /// Neighbouring endpoints fall on neighbouring rows.
    fn place(self) -> usize {
        let endpoint = self.endpoint.map_or(0, usize::from);
        (endpoint + self.service.index() * 17 + usize::from(self.to_client) * 31) % ROWS
    }
}

/// As many as `held` has bits.
const ROWS: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn key(service: u16, endpoint: Option<u16>, ipv6: bool, to_client: bool) -> Key {
        Key { service: ServiceId(service), endpoint, ipv6, to_client }
    }

    #[test]
    fn every_frame_is_told_once_as_what_it_was_however_keys_fall() {
        for (seed, services, endpoints) in [(1, 1, 3), (2, 3, 64), (3, 9, 5000)] {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut tally, mut sent, mut told) = (Tally::new(), HashMap::new(), HashMap::new());
            let note = |all: &mut HashMap<_, (u64, u64)>, Count { key, frames, bytes }: Count| {
                let name = (key.service.0, key.endpoint, key.ipv6, key.to_client);
                let sum = all.entry(name).or_default();
                *sum = (sum.0 + frames, sum.1 + bytes);
            };
            for frame in 0..20_000 {
                let endpoint = rng.bool().then(|| rng.u16(..endpoints));
                let key = key(rng.u16(..services), endpoint, rng.bool(), rng.bool());
                let bytes = rng.u64(60..1500);
                note(&mut sent, Count { key, frames: 1, bytes });
                if let Some(before) = tally.add(key, bytes) {
                    note(&mut told, before);
                }
                if frame % 64 == 0 {
                    tally.drain(|count| note(&mut told, *count));
                }
            }
            tally.drain(|count| note(&mut told, *count));
            assert_eq!(told, sent, "seed {seed}");
            tally.drain(|count| panic!("{count:?} is told twice"));
        }
    }

    #[test]
    fn frames_of_few_endpoints_are_told_together() {
        let mut tally = Tally::new();
        for frame in 0..64 {
            assert_eq!(tally.add(key(0, Some(frame % 16), false, false), 60), None);
        }
        let mut told = Vec::new();
        tally.drain(|count| told.push((count.frames, count.bytes)));
        assert_eq!(told, [(4, 240); 16]);
    }
}
