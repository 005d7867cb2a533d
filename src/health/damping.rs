//! Engine: flap damping: an endpoint that comes and goes stays out for a time that grows.
//!
//! Every change between in service and out of it counts. With enough of them in a window, the next time it goes down it is held
//! there, however its probes pass: first for `hold`, doubled each time that it goes down soon after. Each failed probe puts the
//! end off to `hold` from then, so it comes back quiet. Why: traffic that follows a flapping endpoint loses requests at each
//! turn, and every turn moves keys of hashing pickers.
//!
//! Not here: when it must not be held, because the pool could not spare it (`outlier::Peers`).

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Moment;
use crate::doc::{Field, Grammar, Kind, Settings};

/// The settings of `damping = { … }` of a pool.
pub static DAMPING: Grammar = Grammar {
    name: "damping",
    summary: "holds down an endpoint that comes and goes",
    fields: &[
        Field::default(
            "changes",
            Kind::Integer { min: 0, max: MOST_CHANGES as u64 },
            "4",
            "changes between in and out of service within `window` that make a flapping endpoint; 0 switches it off",
        ),
        Field::default("window", TIME, "60s", "the time in which changes are counted"),
        Field::default(
            "hold",
            TIME,
            "10s",
            "how long it is held down, doubled up to 32 times each time that it goes down soon after; a failed probe \
             begins at least this time anew",
        ),
    ],
    example: "damping = { changes = 4, window = \"60s\", hold = \"10s\" }",
};

const TIME: Kind = Kind::Duration { min: Duration::from_millis(100), max: Duration::from_secs(3600) };
/// Changes that an endpoint's memory has room for.
const MOST_CHANGES: usize = 100;
/// 32 times, as ejections.
const DOUBLINGS: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DampingRules {
    /// 0: never.
    pub changes: u32,
    pub window: Duration,
    pub hold: Duration,
}

impl DampingRules {
    /// From settings of [`DAMPING`].
    pub fn of(settings: &Settings) -> DampingRules {
        DampingRules {
            changes: u32::try_from(settings.integer("changes")).unwrap_or(u32::MAX),
            window: settings.duration("window"),
            hold: settings.duration("hold"),
        }
    }
}

impl Default for DampingRules {
    fn default() -> DampingRules {
        DampingRules::of(&Settings::defaults(&DAMPING))
    }
}

/// What an endpoint's machine remembers of its changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Flaps {
    /// Oldest first, at most as many as make a flapping endpoint.
    changes: VecDeque<Moment>,
    /// How often it was held of late, and until when that counts.
    holds: u32,
    remembered_until: Moment,
}

impl Flaps {
    /// It came into service or left it.
    pub(super) fn note(&mut self, rules: &DampingRules, now: Moment) {
        let most = (rules.changes as usize).min(MOST_CHANGES);
        self.changes.push_back(now);
        while self.changes.len() > most {
            self.changes.pop_front();
        }
    }

    /// It goes down now, which is noted already: until when it is to be held, and how many changes are the cause.
    pub(super) fn hold(&mut self, rules: &DampingRules, now: Moment) -> Option<(Moment, u32)> {
        if rules.changes == 0 {
            return None;
        }
        let counted = self.changes.iter().filter(|at| now.since(**at) < rules.window).count();
        if now >= self.remembered_until {
            self.holds = 0;
        }
        // Once it was held, one relapse is enough.
        if (counted as u32) < rules.changes && self.holds == 0 {
            return None;
        }
        let until = now + length(rules, self.holds);
        self.holds = (self.holds + 1).min(DOUBLINGS);
        self.remembered_until = until + length(rules, self.holds);
        Some((until, counted as u32))
    }

    /// Nothing of its past counts any more.
    pub(super) fn forget(&mut self) {
        *self = Flaps::default();
    }
}

/// How long the n-th hold (from 0) lasts.
fn length(rules: &DampingRules, nth: u32) -> Duration {
    rules.hold.saturating_mul(1 << nth.min(DOUBLINGS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const RULES: DampingRules =
        DampingRules { changes: 4, window: Duration::from_secs(60), hold: Duration::from_secs(10) };

    fn at(s: u64) -> Moment {
        Moment::from_millis(s * 1000)
    }

    #[test]
    fn changes_within_the_window_hold_it() {
        for (name, changes, want) in [
            ("too few", vec![1, 2, 3], None),
            ("enough", vec![1, 2, 3, 4], Some((14, 4))),
            ("more than enough", vec![1, 2, 3, 4, 5, 6], Some((16, 4))),
            ("one is too old", vec![1, 30, 50, 61], None),
            ("just in time", vec![2, 30, 50, 61], Some((71, 4))),
        ] {
            let mut flaps = Flaps::default();
            changes.iter().for_each(|s| flaps.note(&RULES, at(*s)));
            let want = want.map(|(s, n)| (at(s), n));
            assert_eq!(flaps.hold(&RULES, at(*changes.last().unwrap())), want, "{name}");
        }
    }

    #[test]
    fn a_relapse_is_held_at_once_and_for_longer_until_it_was_good_for_long() {
        let mut flaps = Flaps::default();
        (1..=4).for_each(|s| flaps.note(&RULES, at(s)));
        let (mut now, mut lengths) = (at(4), Vec::new());
        for _ in 0..8 {
            let (until, _) = flaps.hold(&RULES, now).expect("a relapse");
            lengths.push(until.since(now).as_secs());
            now = until + S;
        }
        assert_eq!(lengths, [10, 20, 40, 80, 160, 320, 320, 320]);
        now = now + S * 320;
        assert_eq!(flaps.hold(&RULES, now), None, "as long a good time as the next hold would be");
    }

    #[test]
    fn zero_changes_switch_it_off() {
        let (rules, mut flaps) = (DampingRules { changes: 0, ..RULES }, Flaps::default());
        (1..=9).for_each(|s| flaps.note(&rules, at(s)));
        assert_eq!(flaps.hold(&rules, at(9)), None);
    }
}
