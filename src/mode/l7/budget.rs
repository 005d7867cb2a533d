//! Engine: the retry budget of one pool on one worker: retries may be a share of the requests, plus a floor (SRE book).
//!
//! A token bucket. Every request pays in its share, a retry takes one, and time pays in what is missing to the floor: so retries are
//! a fifth of the requests, or the floor where that is more, and never both. Re-picks after a failed
//! connect are not charged: the request has reached nobody.

use std::time::Duration;

use crate::base::{Moment, limits};

#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Hundredths of a retry.
    tokens: u64,
    paid_at: Moment,
    /// Paid in by requests since then, and before that more than the floor of the last second.
    paid: u64,
    /// The floor is for the pool; this worker has its part of it.
    workers: u64,
}

const RETRY: u64 = 100;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Seconds of floor that may be saved up: one burst of requests in flight on an endpoint that dies.
const SAVED_SECONDS: u64 = 10;

impl Budget {
    pub(super) fn new(workers: usize, now: Moment) -> Budget {
        let workers = workers.max(1) as u64;
        let mut budget = Budget { tokens: 0, paid_at: now, paid: 0, workers };
        budget.tokens = budget.most();
        budget
    }

    /// A request was made.
    pub(super) fn request(&mut self) {
        let share = u64::from(limits::RETRY_PERCENT);
        self.tokens = (self.tokens + share).min(self.most());
        self.paid = self.paid.saturating_add(share);
    }

    /// Takes a retry for a request that fails without it, or says that none is left.
    pub(super) fn retry(&mut self, now: Moment) -> bool {
        self.take(now, 0)
    }

    /// Takes a retry for a request that can wait: a tenth of what may be saved up stays for those that cannot.
    pub(super) fn spare(&mut self, now: Moment) -> bool {
        self.take(now, self.most() / 10)
    }

    /// What was taken was of no use.
    pub(super) fn give_back(&mut self) {
        self.tokens += RETRY;
    }

    fn take(&mut self, now: Moment, stays: u64) -> bool {
        let elapsed = u64::try_from(now.since(self.paid_at).as_nanos()).unwrap_or(u64::MAX);
        let due = elapsed / self.nanos_each();
        if due > 0 {
            self.paid_at = now - Duration::from_nanos(elapsed % self.nanos_each());
            self.tokens = self.tokens.saturating_add(due.saturating_sub(self.paid)).min(self.most());
            // Requests come unevenly, and what they pay now is not missing in the next moment.
            self.paid = self.paid.saturating_sub(due).min(NANOS_PER_SECOND / self.nanos_each());
        }
        if self.tokens < RETRY + stays {
            return false;
        }
        self.tokens -= RETRY;
        true
    }

    /// How long time takes to pay in one token.
    fn nanos_each(&self) -> u64 {
        self.workers * NANOS_PER_SECOND / (u64::from(limits::RETRY_FLOOR_PER_SECOND) * RETRY)
    }

    fn most(&self) -> u64 {
        // At least what one connection's worth of failures needs, however many workers share the floor.
        (SAVED_SECONDS * NANOS_PER_SECOND / self.nanos_each()).max(10 * RETRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_the_requests_once_the_savings_are_spent() {
        let mut budget = Budget::new(1, Moment::ZERO);
        let saved = (0..1000).filter(|_| budget.retry(Moment::ZERO)).count();
        assert_eq!(saved, 100);
        let mut granted = 0;
        for _ in 0..1000 {
            budget.request();
            granted += usize::from(budget.retry(Moment::ZERO));
        }
        assert_eq!(granted, 200);
    }

    #[test]
    fn requests_and_time_together_grant_the_larger_of_the_two() {
        for (name, requests_per_second, asks_every_ms, want) in [
            ("a busy pool", 1000, 1, 2000),
            ("a pool whose requests come all at once", 1000, 1, 2000),
            ("as often as there are requests", 100, 10, 200),
            ("more often than there are requests", 100, 1, 200),
            ("a quiet one", 10, 100, 100),
            ("a quiet one that asks often", 10, 2, 100),
        ] {
            let mut budget = Budget::new(1, Moment::ZERO);
            while budget.retry(Moment::ZERO) {}
            let mut granted = 0_u64;
            for ms in 1..=10_000 {
                let at_once = name.ends_with("at once");
                match at_once {
                    true if ms % 100 == 0 => (0..requests_per_second / 10).for_each(|_| budget.request()),
                    false if ms % (1000 / requests_per_second) == 0 => budget.request(),
                    _ => {}
                }
                if ms % asks_every_ms == 0 {
                    granted += (0..300).filter(|_| budget.retry(Moment::from_millis(ms))).count() as u64;
                }
            }
            assert!(granted.abs_diff(want) <= 2, "{name}: {granted} retries in ten seconds, not {want}");
        }
    }

    #[test]
    fn who_can_wait_leaves_a_tenth_to_those_who_cannot() {
        let mut budget = Budget::new(1, Moment::ZERO);
        let spared = (0..1000).filter(|_| budget.spare(Moment::ZERO)).count();
        let retried = (0..1000).filter(|_| budget.retry(Moment::ZERO)).count();
        assert_eq!((spared, retried), (90, 10));
        budget.give_back();
        assert!(budget.retry(Moment::ZERO) && !budget.retry(Moment::ZERO));
    }

    #[test]
    fn time_alone_grants_the_floor_however_often_it_is_asked_for() {
        for every_ms in [1, 3, 10, 190] {
            let mut budget = Budget::new(2, Moment::ZERO);
            while budget.retry(Moment::ZERO) {}
            let times = (1..=10_000).step_by(every_ms).map(Moment::from_millis);
            let granted = times.filter(|now| budget.retry(*now)).count();
            assert!((49..=50).contains(&granted), "ten seconds of half the floor, every {every_ms} ms: {granted}");
        }
    }
}
