//! Engine: which SYNs were seen of late, more or less, and so whether one may repeat another.
//!
//! Why: when a slot moves, a SYN that the endpoint before has seen must go there once more, for its answer may be under way; any
//! other begins a flow, and an endpoint that drains must not get it. While nothing changes nobody records flows, so a few bits are
//! all that is left of them.
//!
//! Two windows: one takes note, the other has what was noted before. They change places every [`limits::SYN_GRACE`], so a SYN is
//! remembered for that long at least, and for twice that at most. A flood fills them, and then every SYN may be a repeated one: as
//! if there were no bits. What is remembered by mistake costs nothing but a new flow on the old endpoint.
//!
//! Budget: two bits in two cache lines for a SYN, nothing for other packets. Hashes must be keyed with a secret.
//! Not here: what becomes of a repeated SYN (`steer`).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::base::{Moment, limits};

pub(super) struct Syns {
    windows: [Box<[AtomicU64]>; 2],
    /// The window that takes note.
    current: AtomicUsize,
    /// Since when it does, in nanoseconds.
    turned: AtomicU64,
}

impl Syns {
    pub(super) fn new() -> Syns {
        let window = || (0..limits::SYN_BITS / 64).map(|_| AtomicU64::new(0)).collect();
        Syns { windows: [window(), window()], current: AtomicUsize::new(0), turned: AtomicU64::new(0) }
    }

    pub(super) fn note(&self, hash: u64) {
        for (word, bit) in bits(hash) {
            let word = self.windows.get(self.current.load(Relaxed)).and_then(|window| window.get(word));
            // Most bits of a busy window are set: only reading leaves the line to the other workers.
            if let Some(word) = word.filter(|word| word.load(Relaxed) & bit == 0) {
                word.fetch_or(bit, Relaxed);
            }
        }
    }

    /// Whether it was noted, or looks as if it had been.
    pub(super) fn knows(&self, hash: u64) -> bool {
        let is_set = |window: &[AtomicU64], (word, bit): (usize, u64)| {
            window.get(word).is_some_and(|word| word.load(Relaxed) & bit != 0)
        };
        self.windows.iter().any(|window| bits(hash).into_iter().all(|at| is_set(window, at)))
    }

    /// Forgets what is old, when it is time. For the control side alone.
    pub(super) fn turn(&self, now: Moment) {
        let since = now.since(Moment(self.turned.load(Relaxed)));
        if since < limits::SYN_GRACE {
            return;
        }
        let next = usize::from(self.current.load(Relaxed) == 0);
        if let Some(window) = self.windows.get(next) {
            window.iter().for_each(|word| word.store(0, Relaxed));
        }
        self.current.store(next, Relaxed);
        self.turned.store(now.0, Relaxed);
    }
}

/// Two bits, each as the place of its word and the word with it alone.
fn bits(hash: u64) -> [(usize, u64); 2] {
    [hash, hash.rotate_left(32)].map(|half| {
        // As many bits as a window has, which is a power of two.
        #[allow(clippy::cast_possible_truncation)]
        let bit = half as usize & (limits::SYN_BITS - 1);
        (bit / 64, 1 << (bit % 64))
    })
}

const _: () = assert!(limits::SYN_BITS.is_power_of_two() && limits::SYN_BITS >= 64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::HashKey;

    const KEY: HashKey = HashKey::new([5; 16]);

    fn hash(n: u32) -> u64 {
        KEY.hash(&n.to_be_bytes())
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(1_000_000 + seconds * 1000)
    }

    #[test]
    fn a_syn_is_remembered_for_the_grace_at_least_and_not_for_ever() {
        let grace = limits::SYN_GRACE.as_secs();
        let syns = Syns::new();
        syns.turn(at(0));
        assert!(!syns.knows(hash(1)));
        syns.note(hash(1));
        for (seconds, known) in [(0, true), (grace - 1, true), (grace, true), (2 * grace - 1, true), (2 * grace, false)]
        {
            syns.turn(at(seconds));
            assert_eq!(syns.knows(hash(1)), known, "after {seconds} s");
        }
        syns.note(hash(1));
        syns.turn(at(1000));
        assert!(syns.knows(hash(1)), "noted just now, however long ago the windows turned");
    }

    #[test]
    fn few_that_were_not_seen_look_as_if_they_had_been_and_in_a_flood_all() {
        let syns = Syns::new();
        let mistaken = || (1_000_000..1_010_000).filter(|n| syns.knows(hash(*n))).count();
        (0..100_000).for_each(|n| syns.note(hash(n)));
        assert!((0..100_000).all(|n| syns.knows(hash(n))));
        assert!((100..600).contains(&mistaken()), "some 3 % of 10 000: {}", mistaken());
        (2_000_000..6_000_000).for_each(|n| syns.note(hash(n)));
        assert!(mistaken() > 9900, "{}", mistaken());
    }
}
