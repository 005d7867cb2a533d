//! Engine: the retry budget of one pool on one worker: retries may be a share of the requests, plus a floor (SRE book).
//!
//! A token bucket. Every request pays in its share, a retry takes one, and time pays in what is missing to the floor: so retries are
//! a fifth of the requests, or the floor where that is more, and never both. Re-picks after a failed
//! connect are not charged: the request has reached nobody.

use crate::base::{Moment, limits};

#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Hundredths of a retry.
    tokens: u64,
    paid_at: Moment,
    /// Paid in by requests since then.
    paid: u64,
    /// The floor is for the pool; this worker has its part of it.
    workers: u64,
}

const RETRY: u64 = 100;
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

    /// Takes a retry, or says that none is left.
    pub(super) fn retry(&mut self, now: Moment) -> bool {
        let floor = u64::from(limits::RETRY_FLOOR_PER_SECOND) * RETRY;
        let due = u128::from(floor) * now.since(self.paid_at).as_nanos() / u128::from(self.workers) / 1_000_000_000;
        let missing = u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(self.paid);
        if due > 0 {
            (self.paid_at, self.paid) = (now, 0);
            self.tokens = self.tokens.saturating_add(missing).min(self.most());
        }
        if self.tokens < RETRY {
            return false;
        }
        self.tokens -= RETRY;
        true
    }

    fn most(&self) -> u64 {
        // At least what one connection's worth of failures needs, however many workers share the floor.
        (u64::from(limits::RETRY_FLOOR_PER_SECOND) * SAVED_SECONDS * RETRY / self.workers).max(10 * RETRY)
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
        for (name, requests_per_second, want) in [("a busy pool", 1000, 2000), ("a quiet one", 10, 100)] {
            let mut budget = Budget::new(1, Moment::ZERO);
            while budget.retry(Moment::ZERO) {}
            let mut granted = 0_u64;
            for n in 1..=requests_per_second * 10 {
                budget.request();
                let now = Moment::from_millis(n * 1000 / requests_per_second);
                granted += (0..9).filter(|_| budget.retry(now)).count() as u64;
            }
            assert!(granted.abs_diff(want) <= 2, "{name}: {granted} retries in ten seconds, not {want}");
        }
    }

    #[test]
    fn time_alone_grants_the_floor() {
        let mut budget = Budget::new(2, Moment::ZERO);
        while budget.retry(Moment::ZERO) {}
        let granted = (1..=1000).filter(|ms| budget.retry(Moment::from_millis(ms * 10))).count();
        assert_eq!(granted, 50, "ten seconds of half the floor");
    }
}
