//! Value: where the data path counts. Per-worker cells that are summed at scrape, so that counting costs no shared line.
//!
//! Budget: one relaxed load and store of a worker-owned line a count; no read-modify-write, no lock, no allocation.
//! Not here: names and labels (`names`), nor the collector that sums (`admin`).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::base::{Reason, WorkerId};
use crate::wire::http1::Reject;

/// A count with a single writer: the worker that owns the row it stands in.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn one(&self) {
        self.add(1);
    }

    /// For a count that several threads write: packet workers of different interfaces share a row.
    pub fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One `T` a worker, and one more for the control side, each on cache lines of its own.
#[derive(Debug)]
pub struct PerWorker<T> {
    rows: Box<[CachePadded<T>]>,
}

impl<T: Cells> PerWorker<T> {
    /// `workers` rows and one for the control side.
    pub fn new(workers: usize) -> PerWorker<T> {
        PerWorker { rows: (0..=workers).map(|_| CachePadded::new(T::zero())).collect() }
    }

    /// The row that `worker` alone writes.
    pub fn row(&self, worker: WorkerId) -> &T {
        // A worker beyond the rows would be a mistake of wiring: it shares the control side's row, and counts stay whole.
        &self.rows[worker.index().min(self.rows.len() - 1)]
    }

    /// The row of the control side.
    pub fn control(&self) -> &T {
        &self.rows[self.rows.len() - 1]
    }

    pub fn sum(&self, count: impl Fn(&T) -> u64) -> u64 {
        self.rows.iter().map(|row| count(row)).fold(0, u64::wrapping_add)
    }

    pub fn rows(&self) -> impl Iterator<Item = &T> {
        self.rows.iter().map(|row| &**row)
    }

    /// Observations of all rows in each bucket (not cumulative), and their sum in µs.
    pub fn durations(&self, of: impl Fn(&T) -> &Histogram) -> ([u64; DURATION_BOUNDS_US.len() + 1], u64) {
        let (mut counts, mut sum_us) = ([0_u64; DURATION_BOUNDS_US.len() + 1], 0_u64);
        for row in self.rows() {
            let (row_counts, row_sum) = of(row).read();
            for (count, more) in counts.iter_mut().zip(row_counts) {
                *count = count.wrapping_add(more);
            }
            sum_us = sum_us.wrapping_add(row_sum);
        }
        (counts, sum_us)
    }
}

/// A row of cells that starts at zero.
pub trait Cells {
    fn zero() -> Self;
}

/// Bounds of duration histograms, in µs: 100 µs to 60 s, about three a decade.
pub const DURATION_BOUNDS_US: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 15_000_000, 60_000_000,
];

/// A histogram of durations; the last bucket is what lies beyond the bounds.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; DURATION_BOUNDS_US.len() + 1],
    sum_us: Counter,
}

impl Histogram {
    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = DURATION_BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(DURATION_BOUNDS_US.len());
        self.buckets[bucket].one();
        self.sum_us.add(us);
    }

    /// Observations in each bucket (not cumulative), and their sum in µs.
    pub fn read(&self) -> ([u64; DURATION_BOUNDS_US.len() + 1], u64) {
        (std::array::from_fn(|i| self.buckets[i].get()), self.sum_us.get())
    }
}

/// Statuses 100 to 599, each its own count.
#[derive(Debug)]
pub struct CodeCounts(Box<[Counter; 500]>);

impl CodeCounts {
    pub fn count(&self, status: u16) {
        if let Some(cell) = self.0.get(usize::from(status.saturating_sub(100))) {
            cell.one();
        }
    }

    /// Status and count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        (100..600u16).zip(self.0.iter().map(Counter::get))
    }

    pub fn get(&self, status: u16) -> u64 {
        self.0.get(usize::from(status.saturating_sub(100))).map_or(0, Counter::get)
    }
}

/// What is counted for a service.
#[derive(Debug)]
pub struct ServiceCells {
    pub connections_opened: Counter,
    pub connections_closed: Counter,
    /// Packets forwarded or answered, of both directions where both come by here.
    pub packets: Counter,
    /// From clients.
    pub bytes_received: Counter,
    /// To clients.
    pub bytes_sent: Counter,
    /// Final responses by status, those that Strata made included.
    pub responses: CodeCounts,
    pub request_duration: Histogram,
    drops: [Counter; Reason::COUNT],
    rejects: Box<[Counter]>,
    pub access_records_lost: Counter,
    /// Connections that the kernel dropped because the queue of those to be accepted was full.
    pub listen_overflows: Counter,
}

impl ServiceCells {
    pub fn drop(&self, reason: Reason) {
        self.drops[reason.index()].one();
    }

    /// The same where several threads write.
    pub fn drop_shared(&self, reason: Reason) {
        self.drops[reason.index()].add_shared(1);
    }

    /// Counts a message refused by the codec.
    pub fn reject(&self, reject: Reject) {
        if let Some(cell) = self.rejects.get(reject as usize) {
            cell.one();
        }
    }

    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops[reason.index()].get()
    }

    pub fn rejected(&self, reject: Reject) -> u64 {
        self.rejects.get(reject as usize).map_or(0, Counter::get)
    }
}

impl Cells for ServiceCells {
    fn zero() -> Self {
        ServiceCells {
            connections_opened: Counter::default(),
            connections_closed: Counter::default(),
            packets: Counter::default(),
            bytes_received: Counter::default(),
            bytes_sent: Counter::default(),
            responses: CodeCounts(Box::new(std::array::from_fn(|_| Counter::default()))),
            request_duration: Histogram::default(),
            drops: std::array::from_fn(|_| Counter::default()),
            rejects: Reject::ALL.iter().map(|_| Counter::default()).collect(),
            access_records_lost: Counter::default(),
            listen_overflows: Counter::default(),
        }
    }
}

/// What is counted for a pool.
#[derive(Debug, Default)]
pub struct PoolCells {
    pub retries: Counter,
    pub connect_duration: Histogram,
    /// From the first byte sent to the endpoint to the response's head.
    pub response_duration: Histogram,
    pub probe_duration: Histogram,
}

impl Cells for PoolCells {
    fn zero() -> Self {
        PoolCells::default()
    }
}

/// How an endpoint failed the data path: `strata_upstream_errors_total{kind}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum UpstreamError {
    Refused,
    Timeout,
    Unreachable,
    Reset,
    Closed,
    Truncated,
    Malformed,
    ResponseTimeout,
    /// Probes found the endpoint down while a request waited for its answer, and another endpoint got it.
    WentDown,
    Other,
}

impl UpstreamError {
    pub const ALL: [UpstreamError; 10] = [
        UpstreamError::Refused,
        UpstreamError::Timeout,
        UpstreamError::Unreachable,
        UpstreamError::Reset,
        UpstreamError::Closed,
        UpstreamError::Truncated,
        UpstreamError::Malformed,
        UpstreamError::ResponseTimeout,
        UpstreamError::WentDown,
        UpstreamError::Other,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            UpstreamError::Refused => "connect-refused",
            UpstreamError::Timeout => "connect-timeout",
            UpstreamError::Unreachable => "unreachable",
            UpstreamError::Reset => "reset",
            UpstreamError::Closed => "closed",
            UpstreamError::Truncated => "truncated",
            UpstreamError::Malformed => "malformed",
            UpstreamError::ResponseTimeout => "response-timeout",
            UpstreamError::WentDown => "went-down",
            UpstreamError::Other => "other",
        }
    }
}

/// What is counted for an endpoint.
#[derive(Debug, Default)]
pub struct EndpointCells {
    /// Connections made to it.
    pub connections_opened: Counter,
    pub connections_closed: Counter,
    /// L7: requests sent to it. L4: connections relayed to it.
    pub requests: Counter,
    /// Requests, at L4 connects, that it answered; and those that it failed before an answer (`outlier`).
    pub answered: Counter,
    pub failed: Counter,
    pub probes_passed: Counter,
    pub probes_failed: Counter,
    /// This machine could not make them.
    pub probes_impossible: Counter,
    errors: [Counter; UpstreamError::ALL.len()],
    /// By packet services, to the endpoint.
    pub sent: Carried,
    /// By packet services, from the endpoint to clients. On lines of its own: where endpoints are behind another interface than
    /// clients are, other workers count here.
    pub received: CachePadded<Carried>,
}

/// Frames and their bytes.
#[derive(Debug, Default)]
pub struct Carried {
    pub packets: Counter,
    pub bytes: Counter,
}

impl EndpointCells {
    pub fn error(&self, kind: UpstreamError) {
        self.errors[kind as usize].one();
    }

    pub fn errors(&self, kind: UpstreamError) -> u64 {
        self.errors[kind as usize].get()
    }
}

impl Cells for EndpointCells {
    fn zero() -> Self {
        EndpointCells::default()
    }
}
