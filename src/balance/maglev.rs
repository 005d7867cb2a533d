//! Engine: Maglev hashing (Eisenbud et al., NSDI 2016, §3.4). A table of a prime number of slots; a key's hash names a slot,
//! the slot names a member.
//!
//! What other implementations get wrong (`notes/packet.md` §3.1), and how it stands here:
//! - *Weights* are exact: each member owns the floor or the ceiling of its share of the slots. First-round weights flatten
//!   ratios, and plain cumulative turns drift by half a slot for every member.
//! - *Order* comes from keyed identities, never from the file, so nodes that list members differently agree.
//! - *Turns* are cumulative: a member of half the weight takes every second round, so weights are honoured early and late.
//! - *Arithmetic* is 64 bits wide; `offset + n * skip` in 32 bits wraps.
//! - *Hashes* are keyed, so a client cannot aim at one endpoint.
//!
//! Budget: one cache line of 131 KiB a pick, no atomics. Building 1000 members takes a few ms (`benches/balance.rs`).
//! Not here: the life of a slot during changes, which is `flow`'s.

use super::{Counts, Member, Pick, Picker, Spec, Uses, key, share};
use crate::base::{FlowHash, HashKey, limits};
use crate::doc::Grammar;

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "maglev",
        summary: "sticky by key, exact shares, few keys move; the same table on every node",
        fields: &[key::FIELD],
        example: "balance = { type = \"maglev\", key = \"source-address\" }",
    },
    build: |_settings, members, key| Box::new(Table::build(members, key, limits::MAGLEV_SLOTS)),
    uses: Uses { weights: true, load: Counts::Never, hash: true, turn: false },
    how: "by the slot of the hash of its key",
};

/// Slots of a built table, each the index of a member. Empty when there are no members.
pub struct Table {
    slots: Box<[u16]>,
    fingerprint: u64,
}

impl Table {
    /// Fills `slots` slots, a prime number, or a member's walk over the table might miss some.
    pub fn build(members: &[Member], key: HashKey, slots: usize) -> Table {
        if members.is_empty() {
            return Table { slots: Box::default(), fingerprint: key.hash(&[]) };
        }
        let order = share::order(members, key);
        let weights: Vec<u64> = order.iter().map(|&i| u64::from(members[i].weight.get())).collect();
        let identities: Vec<u64> = order.iter().map(|&i| members[i].identity).collect();
        let shares = share::apportion(slots as u64, &weights);
        // Filled with ranks, which all nodes have in common, and only then translated into this node's indices.
        let mut table = fill(&identities, &turns(&shares), key, slots);
        let bytes: Vec<u8> = identities
            .iter()
            .flat_map(|identity| identity.to_le_bytes())
            .chain(table.iter().flat_map(|rank| rank.to_le_bytes()))
            .collect();
        let fingerprint = key.hash(&bytes);
        let indices: Vec<u16> = order.iter().map(|&i| u16::try_from(i).unwrap_or(u16::MAX)).collect();
        for slot in &mut table {
            *slot = indices[usize::from(*slot)];
        }
        Table { slots: table.into(), fingerprint }
    }

    /// Slots in order, for engines that keep the table elsewhere.
    pub fn slots(&self) -> &[u16] {
        &self.slots
    }

    /// The slot of a hash, by its upper 32 bits: a multiplication and a shift, which is also all that BPF can do.
    pub fn slot(&self, hash: FlowHash) -> usize {
        // The upper half of the hash.
        #[allow(clippy::cast_possible_truncation)]
        share::scale((hash.0 >> 32) as u32, self.slots.len())
    }
}

impl Picker for Table {
    fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        let slot = self.slot(pick.hash);
        if pick.tried.is_empty() {
            return self.slots.get(slot).map(|&i| usize::from(i));
        }
        if share::left(members.len(), pick.tried) == 0 {
            return None;
        }
        let (before, from) = self.slots.split_at_checked(slot)?;
        let next = from.iter().chain(before).find(|i| !pick.tried.contains(i)).map(|&i| usize::from(i));
        // Members so light that they own no slot serve when all others were tried.
        next.or_else(|| (0..members.len()).find(|&i| !share::is_tried(pick.tried, i)))
    }

    fn fingerprint(&self) -> Option<u64> {
        Some(self.fingerprint)
    }
}

/// Who takes a slot when. By cumulative turns, in each round every member adds its share to its account and takes a slot when
/// the account holds the largest share: the k-th slot (from 1) of a member falls in round ⌈k × largest / share⌉. Sorting by
/// that round gives the same sequence in one pass, where going through the rounds costs members × largest share.
fn turns(shares: &[u64]) -> Vec<u16> {
    let largest = shares.iter().copied().max().unwrap_or(0);
    let round = |share: u64, k: u64| usize::try_from((k * largest).div_ceil(share)).unwrap_or(usize::MAX);
    let mut starts = vec![0_usize; usize::try_from(largest).unwrap_or(0) + 2];
    for &share in shares {
        (1..=share).for_each(|k| starts[round(share, k) + 1] += 1);
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut turns = vec![0_u16; starts.last().copied().unwrap_or(0)];
    for (rank, &share) in shares.iter().enumerate() {
        for k in 1..=share {
            let at = &mut starts[round(share, k)];
            turns[*at] = u16::try_from(rank).unwrap_or(u16::MAX);
            *at += 1;
        }
    }
    turns
}

/// Each turn takes the next free slot of its member's permutation `(offset + n × skip) mod slots`.
fn fill(identities: &[u64], turns: &[u16], key: HashKey, slots: usize) -> Vec<u16> {
    let slots = slots as u64;
    // (next slot, skip)
    let mut walks: Vec<(u64, u64)> = identities
        .iter()
        .map(|&identity| (key.mix(identity, OFFSET) % slots, key.mix(identity, SKIP) % (slots - 1).max(1) + 1))
        .collect();
    let mut table = vec![0_u16; turns.len()];
    // 8 KiB that stay in the first-level cache; the table itself would not, and the walk is all misses at its end.
    let mut taken = vec![0_u64; turns.len().div_ceil(64)];
    for &rank in turns {
        let (next, skip) = &mut walks[usize::from(rank)];
        // A prime number of slots: every walk visits each, and as many turns as slots: there is a free one.
        let at = loop {
            let at = *next;
            *next += *skip;
            if *next >= slots {
                *next -= slots;
            }
            let (word, bit) = (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64));
            if taken[word] & bit == 0 {
                taken[word] |= bit;
                break at;
            }
        };
        table[usize::try_from(at).unwrap_or(0)] = rank;
    }
    table
}

/// Separate the two hashes of a member from its others ("offs", "skip").
const OFFSET: u64 = 0x6f66_6673;
const SKIP: u64 = 0x736b_6970;

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::super::tests::{KEY, members, pick_hash};
    use super::*;

    fn counts(table: &Table, members: usize) -> Vec<u64> {
        let mut counts = vec![0; members];
        table.slots.iter().for_each(|&i| counts[usize::from(i)] += 1);
        counts
    }

    #[test]
    fn every_member_owns_its_exact_share_to_one_slot() {
        let mut rng = Rng::with_seed(1);
        let mut cases = vec![vec![1], vec![1, 1], vec![1, 10], vec![1000, 1], vec![1; 1000], vec![7; 20]];
        cases.push(std::iter::once(1000).chain([1; 999]).collect());
        for n in [3, 20, 655] {
            cases.push((0..n).map(|_| rng.u16(1..=1000)).collect());
        }
        for weights in cases {
            let table = Table::build(&members(&weights), KEY, limits::MAGLEV_SLOTS);
            assert_eq!(table.slots.len(), limits::MAGLEV_SLOTS);
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            for (i, count) in counts(&table, weights.len()).into_iter().enumerate() {
                let exact = limits::MAGLEV_SLOTS as u64 * u64::from(weights[i]);
                let (floor, ceiling) = (exact / total, exact.div_ceil(total));
                assert!((floor..=ceiling).contains(&count), "{count} slots, share {floor}..{ceiling}: {weights:?}");
            }
        }
    }

    #[test]
    fn sorted_turns_are_the_cumulative_turns() {
        for shares in [vec![3, 3, 3], vec![5, 1, 1], vec![4, 2, 1], vec![1, 0, 7], vec![10, 9, 3, 1]] {
            let largest = *shares.iter().max().unwrap();
            let mut account = vec![0; shares.len()];
            let mut want = Vec::new();
            for _round in 0..largest {
                for (rank, share) in shares.iter().enumerate() {
                    account[rank] += share;
                    if account[rank] >= largest {
                        account[rank] -= largest;
                        want.push(rank as u16);
                    }
                }
            }
            assert_eq!(turns(&shares), want, "{shares:?}");
        }
    }

    #[test]
    fn few_slots_of_the_others_move_when_one_leaves() {
        let mut rng = Rng::with_seed(2);
        for n in [2_usize, 3, 5, 20, 100] {
            for uneven in [false, true] {
                let weights: Vec<u16> = (0..n).map(|_| if uneven { rng.u16(1..=10) } else { 1 }).collect();
                let all = members(&weights);
                let gone = rng.usize(..n);
                let mut rest = all.clone();
                rest.remove(gone);
                let before = Table::build(&all, KEY, limits::MAGLEV_SLOTS);
                let after = Table::build(&rest, KEY, limits::MAGLEV_SLOTS);
                let (mut others, mut moved) = (0_u32, 0_u32);
                for (&old, &new) in before.slots.iter().zip(&after.slots) {
                    if usize::from(old) != gone {
                        others += 1;
                        moved += u32::from(all[usize::from(old)].identity != rest[usize::from(new)].identity);
                    }
                }
                let share = f64::from(moved) / f64::from(others);
                let bound = 1.0 / n as f64 + 0.02;
                assert!(share <= bound, "{n} members {weights:?}, {gone} leaves: {share} of the others' slots move");
            }
        }
    }

    #[test]
    fn the_fingerprint_follows_members_weights_and_key_but_not_their_order() {
        let base = members(&[1, 2, 3]);
        let table = |members: &[Member], key| Table::build(members, key, 1009).fingerprint;
        let print = table(&base, KEY);
        let mut turned = base.clone();
        turned.rotate_left(1);
        assert_eq!(table(&turned, KEY), print);
        assert_ne!(table(&base[..2], KEY), print);
        assert_ne!(table(&members(&[1, 2, 4]), KEY), print);
        assert_ne!(table(&base, HashKey::new([9; 16])), print);
    }

    #[test]
    fn a_member_too_light_for_a_slot_serves_when_all_others_were_tried() {
        let members = members(&[1000, 1]);
        let table = Table::build(&members, KEY, 7);
        assert_eq!(counts(&table, 2), [7, 0]);
        assert_eq!(pick_hash(&table, &members, 5, &[0]), Some(1));
    }
}
