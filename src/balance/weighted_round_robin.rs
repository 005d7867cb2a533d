//! Engine: smooth weighted round robin. Turns in proportion to weight, spread evenly: 5, 1, 1 gives `aaabaac`, never
//! `aaaaabc`.
//!
//! Why not nginx's running weights: they are state that every pick rewrites, hence a lock or a sequence per worker. Here one
//! period is computed when the picker is built, and workers share a cursor into it. The period is scheduled as Pfair does
//! (Baruah et al., 1996): the k-th turn of a member may be taken from slot ⌊k/share⌋ on and must be by slot
//! ⌈(k+1)/share⌉, earliest deadline first. That keeps every member less than one turn from its exact share at *every*
//! prefix, a bound nginx's order does not have.
//!
//! Budget: one relaxed fetch-and-add on a cache line of its own a pick; the period is at most [`limits::TURNS`] × 2 bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use super::{Counts, Member, Pick, Picker, Spec, Uses, share};
use crate::base::limits;
use crate::doc::Grammar;

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "weighted-round-robin",
        summary: "turns in proportion to weight, evenly interleaved",
        fields: &[],
        example: "balance = \"weighted-round-robin\"",
    },
    build: |_settings, members, _key| {
        let weights: Vec<u64> = members.iter().map(|member| u64::from(member.weight.get())).collect();
        Box::new(WeightedRoundRobin { period: schedule(&turns(&weights)), cursor: CachePadded::default() })
    },
    uses: Uses { weights: true, load: Counts::Never, hash: false, turn: true },
    how: "each in turn, as often as it weighs; all workers share the turn, so whose it is now cannot be known beforehand",
};

struct WeightedRoundRobin {
    /// Whose turn it is, over one period. Every member occurs.
    period: Box<[u16]>,
    /// Turns taken by all workers. 64 bits do not wrap.
    cursor: CachePadded<AtomicU64>,
}

impl Picker for WeightedRoundRobin {
    fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        let turn = self.cursor.fetch_add(1, Relaxed).checked_rem(self.period.len() as u64)?;
        let (before, from) = self.period.split_at(usize::try_from(turn).unwrap_or(0));
        if share::left(members.len(), pick.tried) == 0 {
            return None;
        }
        from.iter().chain(before).find(|i| !pick.tried.contains(i)).map(|&i| usize::from(i))
    }
}

/// How many turns each has in one period: the weights in lowest terms, or, where that is longer than [`limits::TURNS`], its
/// share of so many, and one at least.
fn turns(weights: &[u64]) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let lowest: Vec<u64> = weights.iter().map(|weight| weight / divisor).collect();
    if lowest.iter().sum::<u64>() <= limits::TURNS {
        return lowest;
    }
    share::apportion(limits::TURNS, weights).into_iter().map(|turns| turns.max(1)).collect()
}

/// Lays out one period. O(period × log members).
fn schedule(turns: &[u64]) -> Box<[u16]> {
    let period: u64 = turns.iter().sum();
    // The k-th turn of member i: (first slot it may take, first slot that is too late).
    let window = |i: usize, k: u64| (k * period / turns[i], ((k + 1) * period).div_ceil(turns[i]));
    let mut taken = vec![0_u64; turns.len()];
    let mut waiting: BinaryHeap<Reverse<(u64, usize)>> = (0..turns.len()).map(|i| Reverse((0, i))).collect();
    let mut ready: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut slots = Vec::with_capacity(usize::try_from(period).unwrap_or(0));
    for slot in 0..period {
        while let Some(&Reverse((release, i))) = waiting.peek()
            && release <= slot
        {
            waiting.pop();
            ready.push(Reverse((window(i, taken[i]).1, i)));
        }
        // The shares sum to one turn a slot, so by slot t at least t + 1 turns have been released.
        let Some(Reverse((_, i))) = ready.pop() else { break };
        slots.push(u16::try_from(i).unwrap_or(u16::MAX));
        taken[i] += 1;
        if taken[i] < turns[i] {
            waiting.push(Reverse((window(i, taken[i]).0, i)));
        }
    }
    slots.into()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{build, members, picks};
    use super::*;

    #[test]
    fn turns_are_interleaved() {
        for (weights, want) in [
            (vec![5, 1, 1], "aaabaac"),
            (vec![1, 1, 1], "abc"),
            (vec![2, 1], "aab"),
            (vec![100, 200], "bab"),
            (vec![4, 1, 1, 1, 1], "abacadae"),
            (vec![7], "a"),
        ] {
            let members = members(&weights);
            let picker = build("weighted-round-robin", &members, &[]);
            let order: String =
                picks(&*picker, &members, want.len()).iter().map(|&i| (b'a' + i as u8) as char).collect();
            assert_eq!(order, want, "{weights:?}");
        }
    }

    proptest! {
        #[test]
        fn nobody_is_ever_a_whole_turn_from_its_exact_share(weights in prop::collection::vec(1_u64..=40, 1..20)) {
            let turns = turns(&weights);
            let period: u64 = turns.iter().sum();
            let slots = schedule(&turns);
            prop_assert_eq!(slots.len() as u64, period);
            let mut taken = vec![0_u64; turns.len()];
            for (slot, &i) in slots.iter().enumerate() {
                taken[usize::from(i)] += 1;
                for (have, want) in taken.iter().zip(&turns) {
                    // |have - want × (slot + 1) / period| < 1, in whole numbers.
                    let off = (have * period).abs_diff(want * (slot as u64 + 1));
                    prop_assert!(off < period, "{:?} after {} slots: {:?}", turns, slot + 1, taken);
                }
            }
            prop_assert_eq!(taken, turns);
        }
    }

    #[test]
    fn a_large_pool_has_a_bounded_period_and_starves_nobody() {
        let weights: Vec<u64> = (0..4096).map(|i| if i == 0 { 1 } else { 999 + i % 2 }).collect();
        let turns = turns(&weights);
        let slots = schedule(&turns);
        assert!(slots.len() as u64 <= limits::TURNS + 4096, "{}", slots.len());
        assert!(turns.iter().all(|&turns| turns > 0));
    }
}
