//! Engine: whether it is the prober that is cut off, and not every endpoint that has died at once.
//!
//! ```text
//!              a probe reaches nobody                nine in ten of the endpoints believed alive, on two hosts or more, and
//!   well ────────────────────────────▶ doubtful ──── no route led to them, or one still answers traffic ─────▶ cut off
//!    ▲                                    │                                                                       │
//!    ╰────────────────────────────────────┴──────── any probe is answered, well or not ───────────────────────────╯
//! ```
//!
//! While it is cut off, what is known stays: a failed probe takes no endpoint out unless traffic fails there too. An endpoint that
//! refuses or says 503 has answered: its death is believed always. So is silence, where no traffic shows that one of the silent is
//! alive (what others answer says nothing of these), and whatever befalls a single host.
//!
//! Not here: what traffic meets (`outlier`), nor which endpoints there are.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::Moment;

/// How far a probe came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Something came back, a refusal as well as a pass: the network works.
    Answered,
    /// This machine, or a router, knows no way: no route, no neighbour, the link is down.
    NoRoute,
    /// Nothing came back in time.
    Silent,
}

/// The endpoints of which the last probe reached nobody, since any was answered.
#[derive(Debug)]
pub struct CutOff<K> {
    unreached: HashMap<K, (IpAddr, Reach)>,
    doubt: Option<Doubt<K>>,
}

#[derive(Debug)]
struct Doubt<K> {
    since: Moment,
    /// Answers to traffic until then, by endpoint, of those that were probed and believed alive.
    answers: HashMap<K, u64>,
    /// When it was last looked whether one of the unreached has answered traffic since, and whether one had.
    looked: Option<(Moment, bool)>,
}

impl<K> Default for CutOff<K> {
    fn default() -> CutOff<K> {
        CutOff { unreached: HashMap::new(), doubt: None }
    }
}

impl<K: Copy + Eq + Hash> CutOff<K> {
    /// A probe of `key` has ended. `answers`: how much traffic each of those believed alive has answered so far, asked for only
    /// where it matters. True: doubt has just spread to a second host, and the others should be asked now.
    pub fn probed(
        &mut self,
        key: K,
        host: IpAddr,
        reach: Reach,
        now: Moment,
        answers: impl FnOnce() -> HashMap<K, u64>,
    ) -> bool {
        if reach == Reach::Answered {
            self.unreached.clear();
            self.doubt = None;
            return false;
        }
        if self.doubt.is_none() {
            self.doubt = Some(Doubt { since: now, answers: answers(), looked: None });
        }
        let before = self.hosts();
        self.unreached.insert(key, (host, reach));
        before < HOSTS && self.hosts() >= HOSTS
    }

    /// Its probes are no more: it is not missed. Doubt ends with the last of those that raised it.
    pub fn forget(&mut self, key: K) {
        self.unreached.remove(&key);
        if self.unreached.is_empty() {
            self.doubt = None;
        }
    }

    /// Since when nobody has answered.
    pub fn since(&self) -> Option<Moment> {
        self.doubt.as_ref().map(|doubt| doubt.since)
    }

    pub fn is_unreached(&self, key: K) -> bool {
        self.unreached.contains_key(&key)
    }

    /// Whether the prober is cut off, where `reached` endpoints that are believed alive are none of the unreached ones, and
    /// each has given so many `answers` to traffic so far. Those are read every [`LOOKED_EVERY`] at most: it is a walk over all.
    pub fn is_cut_off(&mut self, reached: usize, now: Moment, answers: impl Fn(K) -> u64) -> bool {
        let hosts = self.hosts();
        let Some(doubt) = &mut self.doubt else { return false };
        let unreached = self.unreached.len();
        if hosts < HOSTS || unreached * 100 < (unreached + reached) * NEARLY_ALL_PERCENT {
            return false;
        }
        let unrouted = self.unreached.values().filter(|(_, reach)| *reach == Reach::NoRoute).count();
        if unrouted * 100 >= unreached * NEARLY_ALL_PERCENT {
            return true;
        }
        match doubt.looked {
            Some((at, alive)) if now.since(at) < LOOKED_EVERY => alive,
            _ => {
                let answered = |key: &K| doubt.answers.get(key).is_some_and(|before| answers(*key) != *before);
                let alive = self.unreached.keys().any(answered);
                doubt.looked = Some((now, alive));
                alive
            }
        }
    }

    /// Distinct hosts, counted up to [`HOSTS`].
    fn hosts(&self) -> usize {
        let Some((first, _)) = self.unreached.values().next() else { return 0 };
        1 + usize::from(self.unreached.values().any(|(host, _)| host != first))
    }
}

/// One host that is gone is a dead host.
const HOSTS: usize = 2;
/// All but those that were dead before, or were probed just before it began.
const NEARLY_ALL_PERCENT: usize = 90;
const LOOKED_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prober_is_cut_off_when_nearly_all_are_unreached_for_reasons_of_its_own() {
        // The results in order: endpoint (its last digit is the host), how far it came; then who else is believed alive, and
        // answers of endpoint 1 to traffic since it began.
        use Reach::{Answered, NoRoute, Silent};
        for (name, results, reached, answers, want) in [
            ("nothing happened", vec![], 3, 9, false),
            ("all without a route", vec![(1, NoRoute), (2, NoRoute), (3, NoRoute)], 0, 0, true),
            ("all silent while traffic is answered", vec![(1, Silent), (2, Silent)], 0, 5, true),
            ("all silent, and no traffic is answered", vec![(1, Silent), (2, Silent)], 0, 0, false),
            ("all silent while others are answered", vec![(3, Silent), (2, Silent)], 0, 5, false),
            ("two of three", vec![(1, NoRoute), (2, NoRoute)], 1, 5, false),
            ("nine of ten", (1..=9).map(|n| (n, NoRoute)).collect(), 1, 0, true),
            ("one host, however many endpoints", vec![(11, NoRoute), (21, NoRoute), (31, NoRoute)], 0, 5, false),
            ("the only endpoint", vec![(1, NoRoute)], 0, 5, false),
            ("somebody refused in between", vec![(1, NoRoute), (2, Answered), (3, NoRoute)], 0, 5, false),
            ("and then nobody did", vec![(2, Answered), (1, NoRoute), (3, NoRoute)], 0, 0, true),
            ("it is over with the first answer", vec![(1, NoRoute), (2, NoRoute), (1, Answered)], 0, 5, false),
            ("half silent, half without a route: traffic decides", vec![(1, Silent), (2, NoRoute)], 0, 0, false),
        ] {
            let mut cut_off = CutOff::default();
            for (key, reach) in results {
                let host = IpAddr::from([10, 0, 0, key % 10]);
                cut_off.probed(key, host, reach, Moment::ZERO, || (0..40).map(|key| (key, 100)).collect());
            }
            let answered = |key| if key == 1 { 100 + answers } else { 100 };
            assert_eq!(cut_off.is_cut_off(reached, Moment::ZERO, answered), want, "{name}");
        }
    }

    #[test]
    fn doubt_is_over_when_those_that_raised_it_are_no_longer_probed() {
        let mut cut_off = CutOff::default();
        for key in [1, 2] {
            cut_off.probed(key, IpAddr::from([10, 0, 0, key]), Reach::NoRoute, Moment::ZERO, HashMap::new);
        }
        assert!(cut_off.is_cut_off(0, Moment::ZERO, |_| 0));
        cut_off.forget(1);
        assert!(cut_off.since().is_some());
        cut_off.forget(2);
        assert!(cut_off.since().is_none() && !cut_off.is_cut_off(0, Moment::ZERO, |_| 0));
    }

    #[test]
    fn one_that_came_after_doubt_began_is_no_witness() {
        // A pool that has carried traffic for long, and now gets a probe.
        let mut cut_off = CutOff::default();
        for key in [1, 2] {
            let known = || HashMap::from([(1, 100)]);
            cut_off.probed(key, IpAddr::from([10, 0, 0, key]), Reach::Silent, Moment::ZERO, known);
        }
        assert!(!cut_off.is_cut_off(0, Moment::ZERO, |key| if key == 2 { 900 } else { 100 }));
        assert!(!cut_off.is_cut_off(0, Moment::from_millis(5), |_| 900), "not looked again so soon");
        assert!(cut_off.is_cut_off(0, Moment::from_millis(50), |_| 900));
    }

    #[test]
    fn the_others_are_asked_once_when_doubt_spreads() {
        let mut cut_off = CutOff::default();
        let mut probed =
            |key: u8, reach| cut_off.probed(key, IpAddr::from([10, 0, 0, key]), reach, Moment::ZERO, HashMap::new);
        let asked = [1, 1, 2, 3].map(|key| probed(key, Reach::Silent));
        assert_eq!(asked, [false, false, true, false]);
        assert!(!probed(1, Reach::Answered));
        assert!(!probed(1, Reach::Silent));
        assert!(probed(2, Reach::NoRoute));
    }
}
