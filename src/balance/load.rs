//! Value: what an endpoint is carrying, shared by every worker: connections or requests in flight, and its latency.
//!
//! Budget: one cache line an endpoint for the count, one for the latency, so that workers contend on what they must only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::base::Moment;

/// In-flight count and peak-EWMA latency of one endpoint.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: CachePadded<AtomicU32>,
    latency: CachePadded<Latency>,
}

/// Moving average in ns, and when it was last fed. Two relaxed words: a torn pair costs a slightly wrong weight, once.
#[derive(Debug, Default)]
struct Latency {
    average_ns: AtomicU64,
    fed_at: AtomicU64,
}

/// One connection or request in flight, counted for as long as this lives: a task that is cancelled or panics must not leave
/// its endpoint looking busy for ever.
#[derive(Debug)]
pub struct InFlight(Arc<Load>);

impl InFlight {
    pub fn new(load: Arc<Load>) -> InFlight {
        load.begin();
        InFlight(load)
    }

    pub fn load(&self) -> &Load {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Load {
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Counts one more in flight; [`InFlight`] does it and never forgets the end.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub fn end(&self) {
        let before = self.in_flight.fetch_sub(1, Relaxed);
        debug_assert_ne!(before, 0, "an end without its begin");
    }

    /// Feeds one observed latency. A value above the average replaces it at once (the peak); one below pulls it down
    /// with weight `1 - e^(-dt/DECAY)`: the first sample after a long idle time replaces it as well.
    pub fn observe(&self, latency: Duration, now: Moment) {
        let sample = latency.as_nanos() as f64;
        let average = self.latency.average_ns.load(Relaxed) as f64;
        let next = if sample >= average { sample } else { average + (sample - average) * (1.0 - self.decay(now)) };
        // Non-negative and far below 2^64 ns: both inputs are.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        self.latency.average_ns.store(next as u64, Relaxed);
        self.latency.fed_at.store(now.0, Relaxed);
    }

    /// Expected cost of one more request: the decayed latency (ns) times what is in flight, for `weight` (relative to the
    /// pool's mean), and this one.
    ///
    /// An endpoint that nobody has measured, or not for so long that nothing is left of it, is free while idle, so that it is
    /// tried; while that first request is out it counts as slow ([`UNKNOWN_NS`]), or all traffic would herd to it before it has
    /// answered once.
    pub fn cost(&self, now: Moment, weight: f64) -> f64 {
        let average = self.latency.average_ns.load(Relaxed) as f64 * self.decay(now);
        let in_flight = self.in_flight();
        let expected = match in_flight {
            _ if average >= FORGOTTEN_NS => average,
            0 => 0.0,
            _ => UNKNOWN_NS,
        };
        expected * (f64::from(in_flight) / weight + 1.0)
    }

    fn decay(&self, now: Moment) -> f64 {
        let idle = now.since(Moment(self.latency.fed_at.load(Relaxed)));
        (-idle.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

/// Time constant of the average's decay (Finagle's peak EWMA uses 10 s as well).
const DECAY: Duration = Duration::from_secs(10);
/// An average that has decayed below this says nothing any more: no endpoint answers within a microsecond.
const FORGOTTEN_NS: f64 = 1e3;
/// What an unmeasured endpoint is taken to need once a request is out. Dear enough that a measured one is preferred, finite so
/// that a pool of unmeasured ones is shared by what is in flight.
const UNKNOWN_NS: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    /// Cost in ms of an endpoint of mean weight.
    fn cost_ms(load: &Load, now: Moment) -> f64 {
        load.cost(now, 1.0) / 1e6
    }

    #[test]
    fn a_slower_answer_counts_at_once_and_a_faster_one_by_and_by() {
        for (name, samples, want_ms) in [
            ("the first sample is the average", vec![(10, 5)], 5.0),
            ("a peak replaces it", vec![(10, 5), (10, 80)], 80.0),
            ("at the same moment a faster answer changes nothing", vec![(10, 80), (10, 5)], 80.0),
            ("after one time constant 63 % of the way", vec![(10, 80), (20, 0)], 80.0 * (-1.0_f64).exp()),
            ("after long silence the sample stands alone", vec![(10, 80), (10_000, 5)], 5.0),
        ] {
            let load = Load::default();
            for (seconds, ms) in &samples {
                load.observe(MS * *ms, at(*seconds));
            }
            let now = at(samples.last().unwrap().0);
            assert!((cost_ms(&load, now) - want_ms).abs() < 0.001, "{name}: {}", cost_ms(&load, now));
        }
    }

    #[test]
    fn the_first_sample_counts_however_late_it_comes() {
        let load = Load::default();
        load.observe(MS * 7, at(1_000_000));
        assert!((cost_ms(&load, at(1_000_000)) - 7.0).abs() < 0.001);
    }

    #[test]
    fn a_clock_that_steps_back_feeds_but_does_not_break_the_average() {
        let load = Load::default();
        load.observe(MS * 7, at(100));
        load.observe(MS * 3, at(50));
        assert!((cost_ms(&load, at(40)) - 7.0).abs() < 0.001);
    }

    #[test]
    fn silence_makes_an_endpoint_cheaper_until_it_is_tried_again() {
        let load = Load::default();
        load.observe(MS * 1000, at(0));
        let costs: Vec<f64> = (0..6).map(|tens| cost_ms(&load, at(tens * 10))).collect();
        assert!(costs.windows(2).all(|pair| pair[1] < pair[0]), "{costs:?}");
        assert!(costs[5] < 10.0, "{costs:?}");
        assert_eq!(cost_ms(&load, at(100_000)), 0.0);
    }

    #[test]
    fn what_is_in_flight_multiplies_the_cost_and_weight_divides_it() {
        let load = Load::default();
        load.observe(MS, at(0));
        for (in_flight, weight, want_ms) in [(0, 1.0, 1.0), (1, 1.0, 2.0), (1, 2.0, 1.5), (3, 0.5, 7.0)] {
            while load.in_flight() < in_flight {
                load.begin();
            }
            while load.in_flight() > in_flight {
                load.end();
            }
            let cost = load.cost(at(0), weight) / 1e6;
            assert!((cost - want_ms).abs() < 1e-9, "{in_flight} in flight, weight {weight}: {cost}");
        }
    }

    #[test]
    fn an_unmeasured_endpoint_is_free_until_its_first_request_is_out() {
        let known = Load::default();
        known.observe(MS, at(0));
        let unknown = Load::default();
        assert!(unknown.cost(at(0), 1.0) < known.cost(at(0), 1.0));
        unknown.begin();
        assert!(unknown.cost(at(0), 1.0) > known.cost(at(0), 1.0));
        let busier = Load::default();
        busier.begin();
        busier.begin();
        assert!(
            busier.cost(at(0), 1.0) > unknown.cost(at(0), 1.0),
            "unmeasured ones are told apart by what they carry"
        );
    }

    #[test]
    fn a_guard_counts_while_it_lives() {
        let load = Arc::new(Load::default());
        let one = InFlight::new(load.clone());
        let two = InFlight::new(load.clone());
        assert_eq!(load.in_flight(), 2);
        drop(one);
        assert_eq!(two.load().in_flight(), 1);
        drop(two);
        assert_eq!(load.in_flight(), 0);
    }
}
