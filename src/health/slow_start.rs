//! Engine: slow start: a share of its weight for an endpoint that is new or comes back, growing in steps to all of it.
//!
//! Linear from a tenth to the whole. In tenths, because whole weights can express them: while somebody warms, the others' weights
//! are counted in tenths too. A picker that hashes is built anew at each step and gives some keys to the endpoint that grows, so
//! for those there are three steps, not nine. An endpoint warms only beside one that is warm: where all are cold, sparing one
//! would only burn the others.

use std::time::Duration;

use crate::base::Moment;

/// Tenths of its weight that an endpoint gets, 1 to [`Warmth::FULL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warmth(u8);

impl Warmth {
    pub const FULL: Warmth = Warmth(10);

    /// So many tenths; what is none of 1 to 10 is full.
    pub const fn tenths(n: u8) -> Warmth {
        if n == 0 || n > 10 { Warmth::FULL } else { Warmth(n) }
    }

    pub const fn get(self) -> u8 {
        self.0
    }

    pub const fn percent(self) -> u8 {
        self.0 * 10
    }

    pub const fn is_full(self) -> bool {
        self.0 == Warmth::FULL.0
    }
}

/// An endpoint that warms up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warming {
    began: Moment,
    lasts: Duration,
    /// Tenths that are added at a step.
    stride: u8,
}

impl Warming {
    /// From now on. `hashing`: its pool's picker hashes. `None`: there is no slow start.
    pub fn begin(lasts: Duration, hashing: bool, now: Moment) -> Option<Warming> {
        (!lasts.is_zero()).then_some(Warming { began: now, lasts, stride: if hashing { HASHING_STRIDE } else { 1 } })
    }

    /// How warm it is, and when it will be warmer; `None` once it is full.
    pub fn now(&self, now: Moment) -> Option<(Warmth, Moment)> {
        let steps = u32::from(Warmth::FULL.0 - FLOOR) / u32::from(self.stride);
        let taken = (0..steps).take_while(|step| now >= self.at(step + 1, steps)).count() as u32;
        // Below FULL, which is at most 10: it fits.
        let tenths = FLOOR + self.stride * u8::try_from(taken).unwrap_or(0);
        (taken < steps).then(|| (Warmth(tenths), self.at(taken + 1, steps)))
    }

    /// When something is to be done about it next: at once where it is full.
    pub fn step_after(&self, now: Moment) -> Moment {
        self.now(now).map_or(now, |(_, next)| next)
    }

    fn at(&self, step: u32, steps: u32) -> Moment {
        self.began + self.lasts * step / steps
    }
}

/// What it begins with: enough to see whether it works.
const FLOOR: u8 = 1;
/// 10, 40, 70, 100 %.
const HASHING_STRIDE: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_warms_in_even_steps() {
        for (name, hashing, want) in [
            ("by tenths", false, vec![(0, 10), (9, 10), (10, 20), (45, 50), (89, 90), (90, 100), (900, 100)]),
            (
                "a hashing picker is built three times",
                true,
                vec![(0, 10), (29, 10), (30, 40), (60, 70), (89, 70), (90, 100)],
            ),
        ] {
            let began = Moment::from_millis(5000);
            let warming = Warming::begin(Duration::from_secs(90), hashing, began).unwrap();
            for (seconds, percent) in want {
                let now = began + Duration::from_secs(seconds);
                let at = warming.now(now);
                assert_eq!(at.map_or(100, |(warmth, _)| warmth.percent()), percent, "{name}, after {seconds} s");
                assert!(at.is_none_or(|(_, next)| next > now), "{name}: the next step is to come");
            }
        }
        assert_eq!(Warming::begin(Duration::ZERO, false, Moment::ZERO), None);
    }
}
