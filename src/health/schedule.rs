//! Engine: when each probe is next due, and which one goes first.
//!
//! Every probe has a beat: a fixed phase within its interval, drawn when it is added. It is due at each beat, moved by at
//! most 10 % of the interval either way, so that probes of many balancers do not fall into step. The jitter is taken from
//! the beat, not from the probe before it, so it does not add up: over a day a 2 s probe runs 43 200 times. Beats that were
//! missed because the probe took long or the process was late are skipped, never caught up with.
//!
//! Costs O(log n) a call. Not here: the clock, the randomness and the sockets, which are the caller's.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use crate::base::Moment;

/// The probes named by `K`, of which at most a fixed number run at once.
pub struct Schedule<K> {
    probes: HashMap<K, Probe>,
    /// Those that wait, most overdue first.
    waiting: BTreeSet<(Moment, K)>,
    running: usize,
    most_running: usize,
}

struct Probe {
    interval: Duration,
    /// The next beat that no run has served.
    beat: Moment,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting {
        due: Moment,
    },
    Running,
    /// Running, and wanted once more as soon as it is done.
    RunningAgain,
    /// Removed while it ran: the place it takes is free when it is done.
    Gone,
}

/// When a new probe runs for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At once: somebody waits for the result.
    Now,
    /// Somewhere within this time, or within the interval if that is shorter: all at once would be a burst.
    Within(Duration),
}

impl<K: Copy + Ord + Hash> Schedule<K> {
    pub fn new(most_running: usize) -> Schedule<K> {
        Schedule { probes: HashMap::new(), waiting: BTreeSet::new(), running: 0, most_running }
    }

    /// Adds a probe, or gives one that is known another interval. `entropy`: 64 random bits.
    pub fn add(&mut self, key: K, interval: Duration, start: Start, now: Moment, entropy: u64) {
        let known = self.probes.get(&key).map(|probe| (probe.interval, probe.state));
        let state = match known {
            Some((same, state)) if same == interval && state != State::Gone => return,
            // What runs goes on running; its next beat is by the new interval.
            Some((_, State::Gone)) if start == Start::Now => State::RunningAgain,
            Some((_, State::Gone | State::Running)) => State::Running,
            Some((_, State::RunningAgain)) => State::RunningAgain,
            Some((_, State::Waiting { due })) => {
                self.waiting.remove(&(due, key));
                State::Waiting { due: due.min(now + interval) }
            }
            None => State::Waiting {
                due: match start {
                    Start::Now => now,
                    Start::Within(window) => now + interval.min(window).mul_f64(unit(entropy)),
                },
            },
        };
        if let State::Waiting { due } = state {
            self.waiting.insert((due, key));
        }
        let beat = now + interval.mul_f64(unit(entropy));
        self.probes.insert(key, Probe { interval, beat, state });
    }

    pub fn remove(&mut self, key: K) {
        match self.probes.get_mut(&key) {
            Some(Probe { state: State::Waiting { due }, .. }) => {
                self.waiting.remove(&(*due, key));
                self.probes.remove(&key);
            }
            Some(probe) => probe.state = State::Gone,
            None => {}
        }
    }

    /// Makes a probe due now, because traffic has seen something; its beat stays.
    pub fn hasten(&mut self, key: K, now: Moment) {
        let Some(probe) = self.probes.get_mut(&key) else { return };
        match probe.state {
            State::Waiting { due } if due > now => {
                self.waiting.remove(&(due, key));
                self.waiting.insert((now, key));
                probe.state = State::Waiting { due: now };
            }
            State::Running => probe.state = State::RunningAgain,
            State::Waiting { .. } | State::RunningAgain | State::Gone => {}
        }
    }

    /// The most overdue probe, to be run now and reported as [`Schedule::done`]; `None` while nothing is due or as many as
    /// may run do.
    pub fn take(&mut self, now: Moment) -> Option<K> {
        if self.running >= self.most_running {
            return None;
        }
        let (due, key) = *self.waiting.first()?;
        if due > now {
            return None;
        }
        self.waiting.remove(&(due, key));
        let probe = self.probes.get_mut(&key)?;
        probe.state = State::Running;
        // Beats nearer than half an interval are served by this run, whether it is early, late or out of turn.
        probe.skip_until(now + probe.interval / 2);
        self.running += 1;
        Some(key)
    }

    /// A probe that was taken has ended, well or not. `entropy`: 64 random bits.
    pub fn done(&mut self, key: K, now: Moment, entropy: u64) {
        let Some(probe) = self.probes.get_mut(&key) else { return };
        let due = match probe.state {
            State::Waiting { .. } => return,
            State::Gone => {
                self.probes.remove(&key);
                self.running -= 1;
                return;
            }
            State::RunningAgain => now,
            State::Running => probe.next(now, entropy),
        };
        probe.state = State::Waiting { due };
        self.waiting.insert((due, key));
        self.running -= 1;
    }

    /// When the caller should come back for [`Schedule::take`]; `None` while nothing waits or as many as may run do: then the
    /// next `done` is the time.
    pub fn next_due(&self) -> Option<Moment> {
        if self.running >= self.most_running {
            return None;
        }
        self.waiting_since()
    }

    /// When the most overdue of those that wait was due, or the first of them will be, whether or not it may run then.
    pub fn waiting_since(&self) -> Option<Moment> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// When a probe is due, for reports; `None` while it runs or where it is not known.
    pub fn due(&self, key: K) -> Option<Moment> {
        match self.probes.get(&key)?.state {
            State::Waiting { due } => Some(due),
            _ => None,
        }
    }

    pub fn running(&self) -> usize {
        self.running
    }
}

impl Probe {
    /// The next beat, with jitter, after a run that ends `now`; beats that passed while it ran are left out.
    fn next(&mut self, now: Moment, entropy: u64) -> Moment {
        let jitter = self.interval.mul_f64(JITTER);
        self.skip_until(now - jitter);
        (self.beat - jitter + jitter.mul_f64(2.0 * unit(entropy))).max(now)
    }

    /// Moves to the first beat not before `moment`.
    fn skip_until(&mut self, moment: Moment) {
        let interval = self.interval.max(SHORTEST);
        let missed = moment.since(self.beat).as_nanos().div_ceil(interval.as_nanos());
        self.beat = self.beat + interval.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
    }
}

/// Share of the interval that a probe may be early or late.
const JITTER: f64 = 0.1;
/// Guards the arithmetic; the grammar of probes has a longer bound.
const SHORTEST: Duration = Duration::from_millis(1);

/// 53 bits as a number in `0..1`.
fn unit(entropy: u64) -> f64 {
    (entropy >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    /// Runs all probes for `span`; each takes what `lasts` says. Returns who started when, in order.
    fn run(
        schedule: &mut Schedule<u32>,
        from: Moment,
        span: Duration,
        rng: &mut fastrand::Rng,
        mut lasts: impl FnMut(u32, &mut fastrand::Rng) -> Duration,
    ) -> Vec<(Moment, u32)> {
        let mut started = Vec::new();
        let mut ends: BTreeSet<(Moment, u32)> = BTreeSet::new();
        let mut now = from;
        while now < from + span {
            while let Some(key) = schedule.take(now) {
                started.push((now, key));
                ends.insert((now + lasts(key, rng), key));
            }
            let next_end = ends.first().map_or(Moment::NEVER, |(end, _)| *end);
            now = next_end.min(schedule.next_due().unwrap_or(Moment::NEVER)).max(now);
            while let Some(&(end, key)) = ends.first()
                && end <= now
            {
                ends.pop_first();
                schedule.done(key, now, rng.u64(..));
            }
        }
        started
    }

    #[test]
    fn a_probe_neither_drifts_nor_strays_from_its_beat() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut schedule = Schedule::new(4);
            schedule.add(1, S * 2, Start::Within(S * 2), at(0), rng.u64(..));
            let starts = run(&mut schedule, at(0), S * 7200, &mut rng, |_, rng| Duration::from_millis(rng.u64(0..500)));
            // The first may be out of turn, by up to half an interval more or less.
            assert!(starts.len().abs_diff(3600) <= 1, "seed {seed}: {} runs in 3600 intervals", starts.len());
            for pair in starts[1..].windows(2) {
                let gap = pair[1].0.since(pair[0].0).as_secs_f64();
                assert!((1.6..=2.4).contains(&gap), "seed {seed}: {gap} s between two runs");
            }
            let jittered = starts[1..].windows(2).any(|pair| pair[1].0.since(pair[0].0).abs_diff(S * 2) > S / 50);
            assert!(jittered, "seed {seed}: no jitter at all");
        }
    }

    #[test]
    fn many_probes_are_spread_over_the_interval_and_stay_spread() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut schedule = Schedule::new(usize::MAX);
        (0..2000).for_each(|key| schedule.add(key, S * 10, Start::Within(S * 2), at(0), rng.u64(..)));
        let starts = run(&mut schedule, at(0), S * 100, &mut rng, |_, _| Duration::ZERO);
        assert!(starts.iter().take_while(|(when, _)| *when <= at(2000)).count() >= 2000, "all have run within 2 s");
        for second in 20..100 {
            let runs = starts.iter().filter(|(when, _)| when.0 / 1_000_000_000 == second).count();
            assert!((100..300).contains(&runs), "{runs} of 200 in second {second}");
        }
    }

    #[test]
    fn a_probe_that_takes_longer_than_its_interval_is_not_made_up_for() {
        let mut rng = fastrand::Rng::with_seed(6);
        let mut schedule = Schedule::new(4);
        schedule.add(1, S, Start::Now, at(0), 0);
        let starts = run(&mut schedule, at(0), S * 100, &mut rng, |_, _| Duration::from_millis(2500));
        for pair in starts.windows(2) {
            let gap = pair[1].0.since(pair[0].0);
            assert!(gap >= Duration::from_millis(2500) && gap <= Duration::from_millis(3600), "{gap:?}");
        }
    }

    #[test]
    fn a_process_that_slept_does_not_catch_up() {
        let mut schedule = Schedule::new(4);
        schedule.add(1, S, Start::Now, at(0), 0);
        assert_eq!(schedule.take(at(60_000)), Some(1));
        schedule.done(1, at(60_000), u64::MAX / 2);
        assert_eq!(schedule.take(at(60_400)), None);
        let due = schedule.next_due().unwrap();
        assert!(due >= at(60_400) && due <= at(61_600), "{due:?}");
    }

    #[test]
    fn no_more_run_at_once_than_may_and_the_most_overdue_goes_first() {
        let mut schedule = Schedule::new(2);
        for key in [3_u32, 1, 2] {
            schedule.add(key, S, Start::Now, at(u64::from(key)), 0);
        }
        assert_eq!((schedule.take(at(10)), schedule.take(at(10)), schedule.take(at(10))), (Some(1), Some(2), None));
        assert_eq!(schedule.next_due(), None, "only an end can make room");
        assert_eq!(schedule.waiting_since(), Some(at(3)), "and until then one is late");
        schedule.done(1, at(11), 0);
        assert_eq!(schedule.take(at(11)), Some(3));
    }

    #[test]
    fn overload_slows_all_probes_down_and_starves_none() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut schedule = Schedule::new(10);
        (0..100).for_each(|key| schedule.add(key, S, Start::Within(S * 2), at(0), rng.u64(..)));
        // Ten at once, half a second each: 20 a second where 100 are wanted.
        let starts = run(&mut schedule, at(0), S * 60, &mut rng, |_, _| S / 2);
        for key in 0..100 {
            let runs = starts.iter().filter(|(_, other)| *other == key).count();
            assert!((8..=16).contains(&runs), "probe {key} ran {runs} times");
        }
    }

    #[test]
    fn a_hastened_probe_runs_at_once_and_keeps_its_beat() {
        let mut schedule = Schedule::new(2);
        schedule.add(1, S * 10, Start::Now, at(0), 0);
        assert_eq!(schedule.take(at(0)), Some(1));
        schedule.hasten(1, at(5));
        schedule.done(1, at(10), u64::MAX / 2);
        assert_eq!(schedule.take(at(10)), Some(1), "hastened while it ran: once more");
        schedule.done(1, at(20), u64::MAX / 2);
        assert_eq!(schedule.take(at(9000)), None);
        schedule.hasten(1, at(9000));
        assert_eq!(schedule.take(at(9000)), Some(1));
        schedule.done(1, at(9001), u64::MAX / 2);
        let due = schedule.due(1).unwrap();
        assert!(due >= at(19_000) && due <= at(21_000), "the beat at 10 s is served, the next is at 20 s: {due:?}");
    }

    #[test]
    fn what_is_removed_never_runs_again_and_gives_back_its_place() {
        let mut schedule = Schedule::new(1);
        schedule.add(1, S, Start::Now, at(0), 0);
        schedule.add(2, S, Start::Now, at(0), 0);
        assert_eq!(schedule.take(at(0)), Some(1));
        schedule.remove(1);
        schedule.remove(2);
        assert_eq!(schedule.take(at(5000)), None);
        schedule.done(1, at(5000), 0);
        assert_eq!((schedule.running(), schedule.take(at(10_000)), schedule.next_due()), (0, None, None));
    }

    #[test]
    fn what_is_added_again_is_one_probe() {
        let mut schedule = Schedule::new(4);
        for (interval, case) in [(S, "new"), (S, "unchanged"), (S * 3, "another interval")] {
            schedule.add(1, interval, Start::Now, at(0), 0);
            assert_eq!(schedule.due(1), Some(at(0)), "{case}");
        }
        assert_eq!((schedule.take(at(0)), schedule.take(at(0))), (Some(1), None));
        schedule.remove(1);
        schedule.add(1, S, Start::Now, at(1), 0);
        assert_eq!(schedule.take(at(1)), None, "the old run still holds its place");
        schedule.done(1, at(2), 0);
        assert_eq!((schedule.take(at(2)), schedule.running()), (Some(1), 1));
    }
}
