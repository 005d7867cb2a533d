//! Engine: the share of requests that failed at one endpoint of late, from counts that only grow.
//!
//! Workers count what an endpoint answered and what it failed in cells of their own; the keeper sums those ten times in a window
//! and gives the sums here. So a request costs one plain store, whatever is judged of it.

use std::collections::VecDeque;
use std::time::Duration;

use super::OutlierRules;
use crate::base::Moment;

/// Samples in a window.
pub const SAMPLES: u32 = 10;

/// The counts of one endpoint, as often as they were read within the window, and once before.
#[derive(Clone, Debug, Default)]
pub struct ErrorShare {
    samples: VecDeque<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Moment,
    answered: u64,
    failed: u64,
}

/// Too many of the requests within a window have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    pub errors: u64,
    pub requests: u64,
}

impl ErrorShare {
    /// Takes the counts as they are now, and says when too many have failed.
    pub fn sample(&mut self, rules: &OutlierRules, now: Moment, answered: u64, failed: u64) -> Option<Excess> {
        self.samples.push_back(Sample { at: now, answered, failed });
        // The oldest is as far back as the window, and no further than it takes.
        while self.samples.get(1).is_some_and(|second| now.since(second.at) >= rules.window) {
            self.samples.pop_front();
        }
        let oldest = self.samples.front()?;
        let errors = failed.saturating_sub(oldest.failed);
        let requests = errors + answered.saturating_sub(oldest.answered);
        let exceeds = rules.error_percent > 0
            && requests >= u64::from(rules.min_requests)
            && errors * 100 >= requests * u64::from(rules.error_percent);
        exceeds.then_some(Excess { errors, requests })
    }

    /// Begins anew: what came before an ejection is not held against the endpoint after it.
    pub fn forget(&mut self) {
        self.samples.clear();
    }
}

/// How long from one sample to the next.
pub fn pace(rules: &OutlierRules) -> Duration {
    rules.window / SAMPLES
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: fn() -> OutlierRules = || OutlierRules {
        error_percent: 50,
        min_requests: 20,
        window: Duration::from_secs(10),
        ..OutlierRules::default()
    };

    #[test]
    fn a_share_counts_within_its_window_once_there_are_requests_enough() {
        // Each second: so many more were answered, and failed.
        for (name, seconds, want) in [
            ("all well", vec![(0, 0), (100, 0), (100, 1)], None),
            ("too few to say", vec![(0, 0), (0, 19)], None),
            ("just enough", vec![(0, 0), (0, 20)], Some((20, 20))),
            ("half of them", vec![(0, 0), (10, 10)], Some((10, 20))),
            ("not quite half", vec![(0, 0), (11, 10)], None),
            ("what was before it was first read does not count", vec![(0, 1000), (15, 5)], None),
            (
                "errors that are a window old are forgotten",
                {
                    let mut seconds = vec![(0, 0), (0, 19)];
                    seconds.extend([(0, 0); 9]);
                    seconds.push((0, 1));
                    seconds
                },
                None,
            ),
            (
                "younger ones are not",
                {
                    let mut seconds = vec![(0, 0), (0, 19)];
                    seconds.extend([(0, 0); 8]);
                    seconds.push((0, 1));
                    seconds
                },
                Some((20, 20)),
            ),
        ] {
            let mut share = ErrorShare::default();
            let (mut answered, mut failed, mut last) = (0, 0, None);
            for (second, (a, f)) in (1..).zip(seconds) {
                (answered, failed) = (answered + a, failed + f);
                last = share.sample(&RULES(), Moment::from_millis(second * 1000), answered, failed);
            }
            assert_eq!(last.map(|excess| (excess.errors, excess.requests)), want, "{name}");
            assert!(share.samples.len() <= SAMPLES as usize + 1, "{name}");
        }
    }

    #[test]
    fn zero_percent_switches_it_off() {
        let (rules, mut share) = (OutlierRules { error_percent: 0, ..RULES() }, ErrorShare::default());
        share.sample(&rules, Moment::from_millis(1), 0, 0);
        assert_eq!(share.sample(&rules, Moment::from_millis(2), 0, 1000), None);
    }
}
