//! Engine: passive detection: when traffic that fails takes an endpoint out, for how long, and when it must not.
//!
//! Not here: which failures count (the data path reports connects only: they failed before the endpoint had a request, so
//! nothing a client sends can eject a healthy endpoint).

use std::time::Duration;

use super::{Health, Intent};
use crate::doc::{Field, Grammar, Kind, Settings};

/// The settings of `outlier = { … }` of a pool.
pub static OUTLIER: Grammar = Grammar {
    name: "outlier",
    summary: "takes an endpoint out when connects to it fail, without waiting for a probe",
    fields: &[
        Field::default(
            "failures",
            Kind::Integer { min: 0, max: 1000 },
            "3",
            "connects in a row that fail; 0 switches it off",
        ),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierRules {
    /// Connects in a row; 0: never eject.
    pub failures: u32,
    pub time: Duration,
    pub max_percent: u32,
}

impl OutlierRules {
    /// From settings of [`OUTLIER`].
    pub fn of(settings: &Settings) -> OutlierRules {
        OutlierRules {
            failures: u32::try_from(settings.integer("failures")).unwrap_or(u32::MAX),
            time: settings.duration("time"),
            max_percent: u32::try_from(settings.integer("max_percent")).unwrap_or(100),
        }
    }

    /// Whether that many failures in a row take the endpoint out, given the others of its pool.
    pub(super) fn ejects(&self, in_a_row: u32, peers: Peers) -> bool {
        // Rounded up: of three endpoints at 50 % two may go, of two one.
        let most = (u64::from(peers.ready + 1) * u64::from(self.max_percent)).div_ceil(100);
        self.failures > 0 && in_a_row >= self.failures && peers.usable > 0 && u64::from(peers.ejected) < most
    }

    /// How long the n-th ejection (from 0) in a short time lasts.
    pub(super) fn length(&self, nth: u32) -> Duration {
        self.time.saturating_mul(1 << nth.min(DOUBLINGS))
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
            assert_eq!(rules().ejects(in_a_row, Peers { ready, ejected, usable }), want, "{name}");
        }
    }

    #[test]
    fn zero_failures_switch_it_off() {
        let off = OutlierRules { failures: 0, ..rules() };
        assert!(!off.ejects(1000, Peers { ready: 9, ejected: 0, usable: 9 }));
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
