//! Engine: the hash of the key, modulo the weights. What `ip_hash` and `balance source` do elsewhere.
//!
//! Why: exact shares, a small table, easy to predict. The price: when a member comes or goes, nearly every key moves; use
//! `maglev`, `ring-hash` or `rendezvous` where that matters.
//! Budget: one division and a binary search a pick, no atomics; a retry walks the members.

use super::{Counts, Member, Pick, Picker, Spec, Uses, key, share};
use crate::base::HashKey;
use crate::doc::Grammar;

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "source-hash",
        summary: "sticky by key; most keys move when an endpoint comes or goes",
        fields: &[key::FIELD],
        example: "balance = { type = \"source-hash\", key = \"source-address\" }",
    },
    build: |_settings, members, key| Box::new(SourceHash::build(members, key)),
    uses: Uses { weights: true, load: Counts::Never, hash: true, turn: false },
    how: "by the hash of its key, in proportion to weight",
};

struct SourceHash {
    /// Indices in an order that only identities decide.
    order: Box<[usize]>,
    /// Sum of the weights up to and with each of `order`.
    until: Box<[u64]>,
    key: HashKey,
}

impl SourceHash {
    fn build(members: &[Member], key: HashKey) -> SourceHash {
        let order = share::order(members, key);
        let until = order.iter().scan(0, |sum, &i| {
            *sum += u64::from(members[i].weight.get());
            Some(*sum)
        });
        SourceHash { until: until.collect(), order: order.into(), key }
    }
}

impl Picker for SourceHash {
    fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        if pick.tried.is_empty() {
            let at = pick.hash.0.checked_rem(*self.until.last()?)?;
            return self.order.get(self.until.partition_point(|&until| until <= at)).copied();
        }
        // Mixed anew, or all keys of a failed member would fall on its one neighbour.
        let draw = self.key.mix(pick.hash.0, pick.tried.len() as u64);
        share::choose_untried(members, self.order.iter().copied(), pick.tried, draw)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{members, pick_hash};
    use super::*;

    #[test]
    fn each_remainder_belongs_to_one_member() {
        let members = members(&[3, 1, 2]);
        let picker = SourceHash::build(&members, HashKey::new([7; 16]));
        let mut counts = [0; 3];
        (0..6).for_each(|hash| counts[pick_hash(&picker, &members, hash, &[]).unwrap()] += 1);
        assert_eq!(counts, [3, 1, 2]);
        assert_eq!(pick_hash(&picker, &members, 4, &[]), pick_hash(&picker, &members, 10, &[]));
    }

    #[test]
    fn the_keys_of_a_failed_member_are_spread_over_the_others() {
        let members = members(&[1; 5]);
        let key = HashKey::new([7; 16]);
        let picker = SourceHash::build(&members, key);
        let mut counts = [0_u32; 5];
        for n in 0..50_000 {
            let hash = key.mix(n, 0);
            if pick_hash(&picker, &members, hash, &[]) == Some(2) {
                counts[pick_hash(&picker, &members, hash, &[2]).unwrap()] += 1;
            }
        }
        assert_eq!(counts[2], 0);
        assert!([0, 1, 3, 4].iter().all(|&i: &usize| counts[i].abs_diff(2500) < 250), "{counts:?}");
    }
}
