//! Value: what an endpoint is carrying, shared by every worker: connections or requests in flight, and its latency.
//!
//! Budget: one cache line an endpoint for the count, one for the latency, so that workers contend on what they must only.

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

/// Time constant of the average's decay (Finagle's peak EWMA uses 10 s as well).
const DECAY: Duration = Duration::from_secs(10);

impl Load {
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Feeds one observed latency. A value above the average replaces it at once (the peak); one below pulls it down
    /// with weight `1 - e^(-dt/DECAY)`.
    pub fn observe(&self, latency: Duration, now: Moment) {
        let sample = latency.as_nanos() as f64;
        let average = self.latency.average_ns.load(Relaxed) as f64;
        let next = if sample >= average { sample } else { average + (sample - average) * (1.0 - self.decay(now)) };
        // Non-negative and far below 2^64 ns: both inputs are.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        self.latency.average_ns.store(next as u64, Relaxed);
        self.latency.fed_at.store(now.0, Relaxed);
    }

    /// Expected cost of one more request: decayed latency (ns) times what is in flight and this one.
    pub fn cost(&self, now: Moment) -> f64 {
        let average = self.latency.average_ns.load(Relaxed) as f64 * self.decay(now);
        // An endpoint that nobody has measured costs next to nothing, so it is tried, once per arrival in flight.
        (average + 1.0) * (f64::from(self.in_flight()) + 1.0)
    }

    fn decay(&self, now: Moment) -> f64 {
        let idle = now.since(Moment(self.latency.fed_at.load(Relaxed)));
        (-idle.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}
