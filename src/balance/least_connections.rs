//! Engine: least connections. The member with the fewest in flight per weight; among equals, one at random by weight.
//!
//! Why random by weight: an idle pool is one big tie, and serving it in file order would send every quiet hour to the first.
//! Budget: reads every member's count, a cache line each: about 100 members is where `p2c` becomes the better choice.

use fastrand::Rng;

use super::{Counts, Member, Pick, Picker, Score, Spec, Uses, share};
use crate::doc::Grammar;

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "least-connections",
        summary: "the endpoint with the fewest connections or requests in flight per weight",
        fields: &[],
        example: "balance = \"least-connections\"",
    },
    build: |_settings, _members, _key| Box::new(LeastConnections),
    uses: Uses { weights: true, load: Counts::Always, hash: false, turn: false },
    how: "the fewest in flight for its weight; equals are drawn by weight",
};

struct LeastConnections;

/// The best so far: its count and weight, and the weight of all that are as good.
struct Best {
    index: usize,
    in_flight: u64,
    weight: u64,
    tied: u64,
}

impl Picker for LeastConnections {
    fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        let mut rng = Rng::with_seed(pick.entropy);
        let mut best: Option<Best> = None;
        for (index, member) in members.iter().enumerate() {
            if share::is_tried(pick.tried, index) {
                continue;
            }
            let (in_flight, weight) = (u64::from(member.load.in_flight()), u64::from(member.weight.get()));
            let fresh = Best { index, in_flight, weight, tied: weight };
            let Some(lead) = best.as_mut() else {
                best = Some(fresh);
                continue;
            };
            // in_flight / weight, compared without dividing.
            match (in_flight * lead.weight).cmp(&(lead.in_flight * weight)) {
                std::cmp::Ordering::Less => *lead = fresh,
                std::cmp::Ordering::Greater => {}
                std::cmp::Ordering::Equal => {
                    // Reservoir sampling: each of the tied ends up chosen in proportion to its weight.
                    let tied = lead.tied + weight;
                    let (index, in_flight, weight) = if rng.u64(..tied) < weight {
                        (index, in_flight, weight)
                    } else {
                        (lead.index, lead.in_flight, lead.weight)
                    };
                    *lead = Best { index, in_flight, weight, tied };
                }
            }
        }
        best.map(|best| best.index)
    }

    fn score(&self, members: &[Member], index: usize, _pick: &Pick<'_>) -> Option<Score> {
        let member = members.get(index)?;
        let value = f64::from(member.load.in_flight()) / member.weight.as_f64();
        Some(Score { name: "in flight per weight", value, unit: "" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{build, members, pick_with};

    #[test]
    fn the_fewest_in_flight_per_weight_wins() {
        for (weights, in_flight, want) in [
            (vec![1, 1, 1], vec![2, 1, 3], 1),
            (vec![1, 10, 1], vec![1, 9, 2], 1),
            (vec![1, 10, 1], vec![0, 1, 1], 0),
            (vec![2, 3, 1], vec![3, 4, 2], 1),
        ] {
            let members = members(&weights);
            for (member, &n) in members.iter().zip(&in_flight) {
                (0..n).for_each(|_| member.load.begin());
            }
            let picker = build("least-connections", &members, &[]);
            for entropy in 0..20 {
                assert_eq!(
                    pick_with(&*picker, &members, entropy, &[]),
                    Some(want),
                    "{weights:?} carrying {in_flight:?}"
                );
            }
        }
    }

    #[test]
    fn counts_settle_in_proportion_to_weight() {
        let members = members(&[1, 2, 3, 4]);
        let picker = build("least-connections", &members, &[]);
        for entropy in 0..10_000 {
            let i = pick_with(&*picker, &members, entropy, &[]).unwrap();
            members[i].load.begin();
        }
        let counts: Vec<u32> = members.iter().map(|member| member.load.in_flight()).collect();
        assert_eq!(counts, [1000, 2000, 3000, 4000]);
    }
}
