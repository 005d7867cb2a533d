//! Engine: passive detection: when traffic that fails takes an endpoint out, for how long, and when it must not.
//!
//! By default only connects count: they failed before the endpoint had a request, so nothing that a client sends can eject a
//! healthy endpoint. Silence, resets and 5xx can be a client's doing (a request that takes a minute, or breaks the application), so
//! rules that count them are the operator's to switch on.
//!
//! After an ejection an endpoint is on trial: one request at a time until one is answered, and the first failure ejects it again.

use std::fmt;
use std::time::Duration;

use super::errors::Excess;
use super::{Health, Intent};
use crate::doc::{Field, Grammar, Kind, Settings};

/// The settings of `outlier = { … }` of a pool.
pub static OUTLIER: Grammar = Grammar {
    name: "outlier",
    summary: "takes an endpoint out when traffic fails there, without waiting for a probe",
    fields: &[
        Field::default("failures", COUNT, "3", "connects in a row that fail; 0 switches it off"),
        Field::default(
            "consecutive_errors",
            COUNT,
            "0",
            "requests in a row that fail before an answer: connects, silence beyond `timeouts.response`, resets, malformed \
             answers; 0: never, for a client can cause all but the first",
        ),
        Field::default(
            "error_percent",
            Kind::Integer { min: 0, max: 100 },
            "0",
            "share of requests within `window` that fail in these ways; 0: never",
        ),
        Field::default(
            "window",
            Kind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(600) },
            "10s",
            "the time in which that share is counted",
        ),
        Field::default(
            "min_requests",
            Kind::Integer { min: 1, max: 1_000_000 },
            "50",
            "requests within `window` below which the share says nothing",
        ),
        Field::default("gateway_errors", Kind::Bool, "false", "502, 503 and 504 of the endpoint are errors too"),
        Field::default(
            "time",
            Kind::Duration { min: Duration::from_millis(100), max: Duration::from_secs(3600) },
            "10s",
            "how long it stays out, doubled up to 32 times for each ejection that follows soon; passing probes end it early",
        ),
        Field::default(
            "max_percent",
            Kind::Integer { min: 1, max: 100 },
            "50",
            "most of a pool that may be out at once, rounded up; the last usable endpoint never is",
        ),
    ],
    example: "outlier = { failures = 3, time = \"10s\", max_percent = 50 }",
};

const COUNT: Kind = Kind::Integer { min: 0, max: 1000 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierRules {
    /// Connects in a row; 0: never eject.
    pub failures: u32,
    /// Requests in a row, connects included; 0: never eject.
    pub consecutive_errors: u32,
    /// Of the requests in `window`; 0: never eject.
    pub error_percent: u32,
    pub window: Duration,
    pub min_requests: u32,
    /// 502, 503 and 504 are errors.
    pub gateway_errors: bool,
    pub time: Duration,
    pub max_percent: u32,
}

impl Default for OutlierRules {
    fn default() -> OutlierRules {
        OutlierRules::of(&Settings::defaults(&OUTLIER))
    }
}

impl OutlierRules {
    /// From settings of [`OUTLIER`].
    pub fn of(settings: &Settings) -> OutlierRules {
        let count = |field| u32::try_from(settings.integer(field)).unwrap_or(u32::MAX);
        OutlierRules {
            failures: count("failures"),
            consecutive_errors: count("consecutive_errors"),
            error_percent: count("error_percent"),
            window: settings.duration("window"),
            min_requests: count("min_requests"),
            gateway_errors: settings.bool("gateway_errors"),
            time: settings.duration("time"),
            max_percent: count("max_percent"),
        }
    }

    /// Whether such trouble takes the endpoint out, given the others of its pool. `trial`: it has just come back from an
    /// ejection and answered nothing since, so the first failure is one too many.
    pub(super) fn ejects(&self, trouble: Trouble, trial: bool, peers: Peers) -> bool {
        let reached = |in_a_row: u32, most: u32| most > 0 && in_a_row >= if trial { 1 } else { most };
        let bad = match trouble {
            Trouble::Connects { in_a_row } => reached(in_a_row, self.failures),
            Trouble::Errors { in_a_row } => reached(in_a_row, self.consecutive_errors),
            Trouble::Share(_) => self.error_percent > 0,
        };
        // Rounded up: of three endpoints at 50 % two may go, of two one.
        let most = (u64::from(peers.ready + 1) * u64::from(self.max_percent)).div_ceil(100);
        bad && peers.usable > 0 && u64::from(peers.ejected) < most
    }

    /// Whether the pool can do without one more endpoint that could serve.
    pub(super) fn can_spare(&self, peers: Peers) -> bool {
        let left = u64::from(100 - self.max_percent.min(100));
        peers.usable > 0 && u64::from(peers.usable) * 100 >= u64::from(peers.ready + 1) * left
    }

    /// How long the n-th ejection (from 0) in a short time lasts.
    pub(super) fn length(&self, nth: u32) -> Duration {
        self.time.saturating_mul(1 << nth.min(DOUBLINGS))
    }
}

/// What traffic meets at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Connects that failed since one worked.
    Connects { in_a_row: u32 },
    /// Requests that failed before an answer, connects included, since one was answered.
    Errors { in_a_row: u32 },
    /// Too many of the last requests failed.
    Share(Excess),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Connects { in_a_row: 1 } => f.write_str("the first connect after an ejection failed"),
            Trouble::Connects { in_a_row } => write!(f, "{in_a_row} connects in a row failed"),
            Trouble::Errors { in_a_row: 1 } => f.write_str("the first request after an ejection failed"),
            Trouble::Errors { in_a_row } => write!(f, "{in_a_row} requests in a row failed"),
            Trouble::Share(Excess { errors, requests }) => write!(f, "{errors} of the last {requests} requests failed"),
        }
    }
}

/// 32 times: five minutes with the default of 10 s, as Envoy has it.
pub(super) const DOUBLINGS: u32 = 5;

/// The other endpoints of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Wanted by the operator, whatever their health.
    pub ready: u32,
    /// Of these, taken out by passive detection.
    pub ejected: u32,
    /// Of these, able to take over: up, or not judged yet.
    pub usable: u32,
}

impl Peers {
    /// Counts the states of the others.
    pub fn of(others: impl Iterator<Item = (Intent, Health)>) -> Peers {
        others.filter(|(intent, _)| *intent == Intent::Ready).fold(Peers::default(), |peers, (_, health)| Peers {
            ready: peers.ready + 1,
            ejected: peers.ejected + u32::from(health == Health::Ejected),
            usable: peers.usable + u32::from(matches!(health, Health::Up | Health::Probing)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> OutlierRules {
        OutlierRules::of(&Settings::defaults(&OUTLIER))
    }

    #[test]
    fn failures_in_a_row_eject_unless_too_many_are_out() {
        for (name, in_a_row, (ready, ejected, usable), want) in [
            ("too few failures", 2, (2, 0, 2), false),
            ("enough failures", 3, (2, 0, 2), true),
            ("more than enough", 9, (2, 0, 2), true),
            ("the second of three", 3, (2, 1, 1), true),
            ("the last of three", 3, (2, 2, 0), false),
            ("one of one", 3, (0, 0, 0), false),
            ("one of two", 3, (1, 0, 1), true),
            ("the other one is down", 3, (1, 0, 0), false),
            ("half of ten are out", 3, (9, 5, 4), false),
            ("nearly half of ten are out", 3, (9, 4, 5), true),
        ] {
            assert_eq!(
                rules().ejects(Trouble::Connects { in_a_row }, false, Peers { ready, ejected, usable }),
                want,
                "{name}"
            );
        }
    }

    #[test]
    fn zero_failures_switch_it_off() {
        let off = OutlierRules { failures: 0, ..rules() };
        assert!(!off.ejects(Trouble::Connects { in_a_row: 1000 }, true, Peers { ready: 9, ejected: 0, usable: 9 }));
    }

    #[test]
    fn what_a_client_can_cause_ejects_only_where_it_was_asked_for() {
        let peers = Peers { ready: 9, ejected: 0, usable: 9 };
        let share = Trouble::Share(Excess { errors: 50, requests: 50 });
        let (errors, few) = (Trouble::Errors { in_a_row: 5 }, Trouble::Errors { in_a_row: 4 });
        let asked = OutlierRules { consecutive_errors: 5, error_percent: 10, ..rules() };
        for (name, rules, trouble, trial, want) in [
            ("errors in a row, by default", rules(), errors, false, false),
            ("on trial, by default", rules(), errors, true, false),
            ("a share, by default", rules(), share, false, false),
            ("errors in a row, asked for", asked, errors, false, true),
            ("too few of them", asked, few, false, false),
            ("but one is enough on trial", asked, few, true, true),
            ("a share, asked for", asked, share, false, true),
            ("a connect on trial", rules(), Trouble::Connects { in_a_row: 1 }, true, true),
        ] {
            assert_eq!(rules.ejects(trouble, trial, peers), want, "{name}");
        }
    }

    #[test]
    fn a_pool_spares_one_while_enough_others_are_usable() {
        for (name, (ready, usable), want) in [
            ("the other of two", (1, 1), true),
            ("nobody else", (1, 0), false),
            ("one of three is left", (2, 1), false),
            ("two of three are", (2, 2), true),
            ("half of ten", (9, 5), true),
            ("fewer", (9, 4), false),
        ] {
            assert_eq!(rules().can_spare(Peers { ready, ejected: 0, usable }), want, "{name}");
        }
    }

    #[test]
    fn ejections_that_follow_each_other_last_longer_within_reason() {
        let seconds: Vec<u64> = (0..8).map(|nth| rules().length(nth).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 320, 320]);
    }

    #[test]
    fn only_endpoints_that_the_operator_wants_count() {
        let others = [
            (Intent::Ready, Health::Up),
            (Intent::Ready, Health::Ejected),
            (Intent::Ready, Health::Down),
            (Intent::Ready, Health::Probing),
            (Intent::Draining, Health::Up),
            (Intent::Maintenance, Health::Ejected),
        ];
        assert_eq!(Peers::of(others.into_iter()), Peers { ready: 4, ejected: 1, usable: 2 });
    }
}
