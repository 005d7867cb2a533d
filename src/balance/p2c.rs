//! Engine: power of two choices on peak-EWMA cost. Two distinct members are drawn by weight, the cheaper one serves.
//!
//! Why: nearly as even as least connections while reading two counts, whatever the size of the pool; latency moves traffic
//! from an endpoint that slows down before it fails; and because the choice is random, balancers that see the same latencies
//! do not all run to the same endpoint (Mitzenmacher 2001; the cost is Finagle's, see `load`).
//!
//! Weights count twice, once in the draw and once in the cost of what is in flight: an idle pool of equals is shared by
//! weight (equal costs: the first drawn serves), and a busy one settles at counts in proportion to weight. Latencies that
//! differ by noise are equal (`load`). Finagle's and Linkerd's peak EWMA have no such margin: they know no weights, and
//! requests one after the other all go to whichever of two endpoints was a microsecond faster.
//! Budget: two table lookups and two members' cache lines a pick, no atomic writes; a retry walks the members.

use fastrand::Rng;

use super::alias::Alias;
use super::{Counts, Load, Member, Pick, Picker, Score, Spec, Uses, share};
use crate::doc::Grammar;

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "p2c",
        summary: "the better of two random endpoints by latency and requests in flight",
        fields: &[],
        example: "balance = \"p2c\"",
    },
    build: |_settings, members, _key| {
        let total: f64 = members.iter().map(|member| member.weight.as_f64()).sum();
        Box::new(P2c { alias: Alias::build(members), mean_weight: total / members.len().max(1) as f64 })
    },
    uses: Uses { weights: true, load: Counts::Always, hash: false, turn: false },
    how: "two are drawn by weight, the cheaper serves: latency, if it differs by more than noise, times what is in flight",
};

struct P2c {
    alias: Alias,
    mean_weight: f64,
}

impl Picker for P2c {
    fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        let mut rng = Rng::with_seed(pick.entropy);
        if !pick.tried.is_empty() {
            let mut draw = || share::choose_untried(members, 0..members.len(), pick.tried, rng.u64(..));
            let (a, b) = (draw()?, draw()?);
            return self.cheaper(members, pick, a, b);
        }
        let a = self.alias.draw(rng.u64(..))?;
        if members.len() == 1 {
            return Some(a);
        }
        let b = self.another(a, members.len(), &mut rng)?;
        self.cheaper(members, pick, a, b)
    }

    fn score(&self, members: &[Member], index: usize, pick: &Pick<'_>) -> Option<Score> {
        let member = members.get(index)?;
        let cost = member.load.cost(pick.now, member.weight.as_f64() / self.mean_weight);
        Some(Score { name: "cost", value: cost / 1e6, unit: "ms" })
    }
}

impl P2c {
    /// A second member, by weight; where one weighs so much that it comes up again and again, any other.
    fn another(&self, first: usize, members: usize, rng: &mut Rng) -> Option<usize> {
        for _ in 0..REDRAWS {
            let i = self.alias.draw(rng.u64(..))?;
            if i != first {
                return Some(i);
            }
        }
        Some((first + rng.usize(1..members)) % members)
    }

    fn cheaper(&self, members: &[Member], pick: &Pick<'_>, a: usize, b: usize) -> Option<usize> {
        let load = |i: usize| {
            let member = members.get(i)?;
            Some((&*member.load, member.weight.as_f64() / self.mean_weight))
        };
        Some(if Load::second_is_cheaper(load(a)?, load(b)?, pick.now) { b } else { a })
    }
}

/// Draws for a second member before any other will do.
const REDRAWS: usize = 3;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{build, members, pick_at, pick_with};
    use crate::base::Moment;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn of_two_the_cheaper_serves() {
        let now = Moment::from_millis(5);
        for (latency_ms, in_flight, want) in [([1, 9], [0, 0], 0), ([1, 2], [4, 0], 1), ([10, 2], [0, 3], 1)] {
            let members = members(&[1, 1]);
            for (i, member) in members.iter().enumerate() {
                member.load.observe(MS * latency_ms[i], now);
                (0..in_flight[i]).for_each(|_| member.load.begin());
            }
            let picker = build("p2c", &members, &[]);
            for entropy in 0..20 {
                let got = pick_at(&*picker, &members, entropy, now, &[]);
                assert_eq!(got, Some(want), "latencies {latency_ms:?} ms, in flight {in_flight:?}");
            }
        }
    }

    /// One request after the other, as a lab does it: nothing is in flight when the next one picks.
    fn sequential(weights: &[u16], latency_us: &[u64], noise_us: u64, requests: u32) -> Vec<u32> {
        let members = members(weights);
        let picker = build("p2c", &members, &[]);
        let (mut counts, mut rng, mut now) =
            (vec![0; weights.len()], fastrand::Rng::with_seed(9), Moment::from_millis(9));
        for _ in 0..requests {
            let i = pick_at(&*picker, &members, rng.u64(..), now, &[]).unwrap();
            counts[i] += 1;
            let took = Duration::from_micros(latency_us[i] + rng.u64(..=noise_us));
            now = now + took + MS * 10;
            members[i].load.observe(took, now);
        }
        counts
    }

    #[test]
    fn requests_one_after_the_other_are_shared_by_weight_and_not_by_noise() {
        for (name, latency_us, noise_us) in [
            ("equally fast", [300, 300], 0),
            ("a bit slower, always", [300, 450], 0),
            ("as noisy as a busy machine", [300, 300], 400),
            ("a network hop more", [2_000, 2_900], 300),
        ] {
            let counts = sequential(&[1, 2], &latency_us, noise_us, 3000);
            assert!((800..1200).contains(&counts[0]), "{name}: {counts:?} of weights 1 and 2");
        }
    }

    #[test]
    fn an_endpoint_that_is_much_slower_is_left_but_asked_now_and_then() {
        // 3000 requests are about half a minute.
        let counts = sequential(&[1, 2], &[1_000, 50_000], 100, 3000);
        assert!((1..60).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn everyone_is_tried_before_anyone_is_preferred() {
        let counts = sequential(&[1000, 1, 1, 1], &[500; 4], 0, 2000);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    #[test]
    fn a_busy_pool_of_equals_settles_by_weight() {
        let members = members(&[1, 2, 3, 4]);
        members.iter().for_each(|member| member.load.observe(MS, Moment::ZERO));
        let picker = build("p2c", &members, &[]);
        for entropy in 0..10_000 {
            members[pick_with(&*picker, &members, entropy, &[]).unwrap()].load.begin();
        }
        for (member, want) in members.iter().zip([1000_u32, 2000, 3000, 4000]) {
            let count = member.load.in_flight();
            assert!(count.abs_diff(want) < want / 50, "{count} in flight, not about {want}");
        }
    }

    #[test]
    fn a_newcomer_gets_a_first_request_but_no_herd_before_it_answers() {
        let now = Moment::from_millis(1000);
        let members = members(&[1, 1, 1]);
        members[..2].iter().for_each(|member| member.load.observe(MS, now));
        let picker = build("p2c", &members, &[]);
        for entropy in 0..300 {
            members[pick_at(&*picker, &members, entropy, now, &[]).unwrap()].load.begin();
        }
        assert_eq!(members[2].load.in_flight(), 1);
    }

    #[test]
    fn a_member_a_thousand_times_heavier_still_has_a_rival() {
        let members = members(&[1000, 1, 1]);
        members[0].load.observe(MS * 500, Moment::ZERO);
        members[1..].iter().for_each(|member| member.load.observe(MS, Moment::ZERO));
        let picker = build("p2c", &members, &[]);
        let mut counts = [0_u32; 3];
        for entropy in 0..1000 {
            counts[pick_with(&*picker, &members, entropy, &[]).unwrap()] += 1;
        }
        assert_eq!(counts[0], 0, "{counts:?}");
        assert!(counts[1] > 400 && counts[2] > 400, "{counts:?}");
    }
}
