//! Engine: rendezvous (highest random weight) hashing. Every member scores `-w / ln u` with `u` from the hashes of key and
//! member; the best score wins.
//!
//! Why: no table, shares as exact as the keys are many, and losing one member moves only its own keys, spread over all the
//! others by weight (Thaler and Ravishankar 1998; weights: Schindelhauer and Schomaker 2005).
//! Budget: one multiply-mix and one logarithm a member a pick, no atomics: above about 100 members prefer `maglev`.

use super::{Counts, Member, Pick, Picker, Score, Spec, Uses, key, share};
use crate::base::HashKey;
use crate::doc::Grammar;

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "rendezvous",
        summary: "sticky by key, no table; only a lost endpoint's keys move",
        fields: &[key::FIELD],
        example: "balance = { type = \"rendezvous\", key = \"cookie:session\" }",
    },
    build: |_settings, members, key| Box::new(Rendezvous::build(members, key)),
    uses: Uses { weights: true, load: Counts::Never, hash: true, turn: false },
    how: "the highest score for the hash of its key",
};

struct Rendezvous {
    /// Keyed hash of each member's identity.
    seeds: Box<[u64]>,
}

impl Rendezvous {
    fn build(members: &[Member], key: HashKey) -> Rendezvous {
        Rendezvous { seeds: members.iter().map(|member| key.mix(member.identity, SEED)).collect() }
    }
}

impl Picker for Rendezvous {
    fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        members
            .iter()
            .zip(&self.seeds)
            .enumerate()
            .filter(|&(i, _)| !share::is_tried(pick.tried, i))
            .map(|(i, (member, seed))| (i, score(pick.hash.0, *seed, member.weight.as_f64()), *seed))
            // Equal scores are settled by the seed, not by the order of the file.
            .max_by(|a, b| a.1.total_cmp(&b.1).then(a.2.cmp(&b.2)))
            .map(|(i, _, _)| i)
    }

    fn score(&self, members: &[Member], index: usize, pick: &Pick<'_>) -> Option<Score> {
        let (member, seed) = (members.get(index)?, self.seeds.get(index)?);
        Some(Score { name: "score", value: score(pick.hash.0, *seed, member.weight.as_f64()), unit: "" })
    }
}

fn score(hash: u64, seed: u64, weight: f64) -> f64 {
    // 53 bits and a half, so that u is within (0, 1) and never 0 or 1.
    let u = ((mix(hash ^ seed) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -weight / u.ln()
}

/// Finaliser of splitmix64 (Steele 2014). Not keyed, and need not be: both of its inputs are.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Separates these hashes of a member from its others ("seed").
const SEED: u64 = 0x7365_6564;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_finite_at_both_ends() {
        for hash in [0, u64::MAX, 1 << 63] {
            for seed in [0, u64::MAX] {
                let score = score(hash, seed, 1000.0);
                assert!(score.is_finite() && score > 0.0, "{hash:x} {seed:x}: {score}");
            }
        }
    }
}
