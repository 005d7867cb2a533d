//! Value: what an endpoint is carrying, shared by every worker: connections or requests in flight, and its latency.
//!
//! Budget: one cache line an endpoint for the count, one for the latency, so that workers contend on what they must only.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
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

impl Load {
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Counts one more in flight.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, SeqCst);
    }

    /// Counts one more in flight, unless there are `most`.
    pub fn begin_below(&self, most: u32) -> bool {
        if self.in_flight.fetch_add(1, SeqCst) < most {
            return true;
        }
        self.end();
        false
    }

    /// In one order with who waits for a place (`state::Queue`): the count goes down before the line is looked at.
    pub fn end(&self) {
        let before = self.in_flight.fetch_sub(1, SeqCst);
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

    /// Of two loads and their weights (relative to the pool's mean), whether the second has the lower cost.
    ///
    /// Latencies that differ by less than noise does ([`is_noise`]) count as equal. Without that the faster of two idle endpoints
    /// would get every request of a client that asks one after the other, however small the difference and whatever the weights.
    pub fn second_is_cheaper(first: (&Load, f64), second: (&Load, f64), now: Moment) -> bool {
        if is_noise(first.0.expected_ns(now), second.0.expected_ns(now)) {
            return second.0.pressure(second.1) < first.0.pressure(first.1);
        }
        second.0.cost(now, second.1) < first.0.cost(now, first.1)
    }

    /// Expected cost of one more request: the decayed latency (ns) times what is in flight, for `weight` (relative to the
    /// pool's mean), and this one.
    pub fn cost(&self, now: Moment, weight: f64) -> f64 {
        self.expected_ns(now) * self.pressure(weight)
    }

    fn pressure(&self, weight: f64) -> f64 {
        f64::from(self.in_flight()) / weight + 1.0
    }

    /// The decayed latency, ns.
    ///
    /// An endpoint that nobody has measured, or not for so long that nothing is left of it, is free while idle, so that it is
    /// tried; while that first request is out it counts as slow ([`UNKNOWN_NS`]), or all traffic would herd to it before it has
    /// answered once.
    fn expected_ns(&self, now: Moment) -> f64 {
        let average = self.latency.average_ns.load(Relaxed) as f64 * self.decay(now);
        match self.in_flight() {
            _ if average >= FORGOTTEN_NS => average,
            0 => 0.0,
            _ => UNKNOWN_NS,
        }
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

/// Whether two measured latencies say no more than that they were measured twice: the larger is within twice the smaller and half
/// a millisecond. An endpoint that is about to fail slows down by more; scheduling and a hop in between make as much.
fn is_noise(a: f64, b: f64) -> bool {
    let (low, high) = (a.min(b), a.max(b));
    low >= FORGOTTEN_NS && high <= low * 2.0 + NOISE_NS
}

const NOISE_NS: f64 = 500_000.0;

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
    fn a_bound_in_flight_is_kept() {
        let load = Load::default();
        assert_eq!([(); 4].map(|()| load.begin_below(3)), [true, true, true, false]);
        assert_eq!(load.in_flight(), 3);
        load.end();
        assert!(load.begin_below(3));
    }

    #[test]
    fn noise_is_less_than_what_an_endpoint_in_trouble_makes() {
        for (a_us, b_us, want) in [
            (100, 100, true),
            (100, 690, true),
            (100, 710, false),
            (10_000, 20_400, true),
            (10_000, 20_600, false),
            (0, 100, false),
        ] {
            let [a, b] = [a_us, b_us].map(|us: u32| f64::from(us) * 1e3);
            assert_eq!((is_noise(a, b), is_noise(b, a)), (want, want), "{a_us} and {b_us} µs");
        }
    }
}
