//! Value: one server address and all that is known of it, shared by every worker and kept across reloads.
//!
//! Its status is one atomic word: the control side writes, everyone reads. Not here: how the status comes about (`health`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crossbeam_utils::CachePadded;
use siphasher::sip::SipHasher13;

use super::queue::Queue;

use crate::balance::{Capacity, Load};
use crate::base::{EndpointAddr, Weight, WorkerId};
use crate::health::{Health, Intent, Warmth};
use crate::observe::{EndpointCells, PerWorker};

/// What the operator wants, what we see, the weight that was asked for, and how much of it is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub intent: Intent,
    pub health: Health,
    pub weight: Weight,
    pub warmth: Warmth,
}

impl Status {
    /// The weight in force.
    pub fn weight_in_force(&self) -> f64 {
        self.weight.as_f64() * f64::from(self.warmth.get()) / f64::from(Warmth::FULL.get())
    }
}

#[derive(Debug)]
pub struct Endpoint {
    /// The address as it stands in the file: its name in metrics, logs and commands.
    pub name: Arc<str>,
    pub address: EndpointAddr,
    /// Hash of the address with a fixed key: equal on every node and in every generation.
    pub identity: u64,
    pub load: Arc<Load>,
    pub cells: PerWorker<EndpointCells>,
    /// Who waits for a place in its pool.
    pub queue: Arc<Queue>,
    status: AtomicU32,
    /// Connections open to it, over all workers, those that are being made included.
    open: CachePadded<AtomicU32>,
    /// Connect failures in a row, counted by every worker, zeroed by any success (passive detection).
    pub failures_in_row: AtomicU32,
    /// Requests in a row that failed before an answer, connects included.
    pub errors_in_row: AtomicU32,
    /// Back from an ejection, and nothing was answered since: one request at a time.
    trial: AtomicBool,
    /// Which trial's request is out; 0: none. Numbered, because a trial's connection may outlive it, and must not end the next.
    trying: AtomicU64,
    trials: AtomicU64,
    /// When the last status change happened, ns of the monotonic clock.
    pub changed_at: AtomicU64,
}

impl Endpoint {
    pub fn new(address: EndpointAddr, weight: Weight, workers: usize, queue: Arc<Queue>) -> Endpoint {
        let status = Status { intent: Intent::Ready, health: Health::Probing, weight, warmth: Warmth::FULL };
        Endpoint {
            name: address.to_string().into(),
            address,
            identity: identity(address),
            load: Arc::default(),
            cells: PerWorker::new(workers),
            queue,
            status: AtomicU32::new(pack(status)),
            open: CachePadded::default(),
            failures_in_row: AtomicU32::new(0),
            errors_in_row: AtomicU32::new(0),
            trial: AtomicBool::new(false),
            trying: AtomicU64::new(0),
            trials: AtomicU64::new(0),
            changed_at: AtomicU64::new(0),
        }
    }

    pub fn status(&self) -> Status {
        unpack(self.status.load(Relaxed))
    }

    pub fn open(&self) -> u32 {
        self.open.load(SeqCst)
    }

    /// A request was answered, at L4 a connect. Reads first: in the good case nobody writes the line that all workers share.
    pub fn answered(&self, worker: WorkerId) {
        self.cells.row(worker).answered.one();
        if self.errors_in_row.load(Relaxed) != 0 {
            self.errors_in_row.store(0, Relaxed);
        }
        if self.is_on_trial() {
            self.set_trial(false);
        }
    }

    pub fn is_on_trial(&self) -> bool {
        self.trial.load(Relaxed)
    }

    /// What was out for an earlier trial counts no more, however long its connection lives.
    pub fn set_trial(&self, on: bool) {
        if !on {
            self.trial.store(false, SeqCst);
        }
        self.trying.store(0, SeqCst);
        // Last: from here on trials are taken, and one that is must not be wiped out.
        if on {
            self.trial.store(true, SeqCst);
        }
    }

    /// Whether `capacity` leaves a connection for one more. `idle`: one to it is at hand.
    pub fn has_connection(&self, capacity: &Capacity, idle: impl FnOnce() -> bool) -> bool {
        let most = capacity.max_connections;
        most == Capacity::UNBOUNDED || self.open() < most || idle()
    }

    /// Whether one more may go there now: what [`Seat`] would find, without taking a place.
    pub fn has_place(&self, capacity: &Capacity, idle: impl FnOnce() -> bool) -> bool {
        let tried = self.is_on_trial() && self.trying.load(SeqCst) != 0;
        !tried && self.load.in_flight() < capacity.most_in_flight() && self.has_connection(capacity, idle)
    }

    /// A request failed before an answer: how many did in a row.
    pub fn failed(&self, worker: WorkerId) -> u32 {
        self.cells.row(worker).failed.one();
        self.errors_in_row.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// The request of this trial is no longer out. Where another's is, that stays.
    fn end_trial(&self, number: u64) {
        let _ = self.trying.compare_exchange(number, 0, SeqCst, SeqCst);
    }

    /// For the control side only. The pool's view does not change until [`super::Pool::publish`].
    pub fn set_status(&self, status: Status) {
        self.status.store(pack(status), Relaxed);
    }
}

/// One request in flight at an endpoint, at L4 one connection, counted for as long as this lives: a task that is cancelled or
/// panics must not leave its endpoint looking busy for ever. Whoever waits for it is woken.
#[derive(Debug)]
pub struct Seat {
    endpoint: Arc<Endpoint>,
    /// It is the one request of a trial. Not to be told by what is in flight: that may be from before the ejection, and stay.
    trial: Option<u64>,
}

impl Seat {
    /// `None`: `most` are in flight.
    pub fn take(endpoint: &Arc<Endpoint>, most: u32) -> Option<Seat> {
        endpoint.load.begin_below(most).then(|| Seat { endpoint: endpoint.clone(), trial: None })
    }

    /// The same at an endpoint on trial, where also no other request of its trial may be out.
    pub fn take_on_trial(endpoint: &Arc<Endpoint>, most: u32) -> Option<Seat> {
        let number = endpoint.trials.fetch_add(1, Relaxed).wrapping_add(1);
        endpoint.trying.compare_exchange(0, number, SeqCst, SeqCst).ok()?;
        if endpoint.load.begin_below(most) {
            return Some(Seat { endpoint: endpoint.clone(), trial: Some(number) });
        }
        endpoint.end_trial(number);
        None
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.endpoint.load.end();
        if let Some(number) = self.trial {
            self.endpoint.end_trial(number);
        }
        self.endpoint.queue.released();
    }
}

/// One connection to an endpoint, open or being made, counted for as long as this lives.
#[derive(Debug)]
pub struct Opening(Arc<Endpoint>);

impl Opening {
    /// `None`: `most` are open.
    pub fn take(endpoint: &Arc<Endpoint>, most: u32) -> Option<Opening> {
        if endpoint.open.fetch_add(1, SeqCst) < most {
            return Some(Opening(endpoint.clone()));
        }
        endpoint.open.fetch_sub(1, SeqCst);
        None
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
        self.0.queue.released();
    }
}

/// Hash of an address, independent of `[cluster] hash_key`, so that it names the endpoint in every configuration.
pub fn identity(address: EndpointAddr) -> u64 {
    SipHasher13::new().hash(address.to_string().as_bytes())
}

fn pack(status: Status) -> u32 {
    u32::from(status.warmth.get()) << 28
        | (status.intent as u32) << 24
        | (status.health as u32) << 16
        | u32::from(status.weight.get())
}

fn unpack(word: u32) -> Status {
    Status {
        intent: Intent::ALL[((word >> 24 & 0xf) as usize).min(Intent::ALL.len() - 1)],
        health: Health::ALL[((word >> 16 & 0xff) as usize).min(Health::ALL.len() - 1)],
        weight: Weight::new(u64::from(word & 0xffff)).unwrap_or(Weight::ONE),
        warmth: Warmth::tenths((word >> 28) as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_when_their_holder_goes() {
        let address = "192.0.2.1:80".parse::<std::net::SocketAddr>().unwrap();
        let endpoint = Arc::new(Endpoint::new(address.into(), Weight::ONE, 1, Arc::default()));
        let seats = [(); 3].map(|()| Seat::take(&endpoint, 2));
        assert_eq!((seats.iter().flatten().count(), endpoint.load.in_flight()), (2, 2));
        let openings = [(); 3].map(|()| Opening::take(&endpoint, 2));
        assert_eq!((openings.iter().flatten().count(), endpoint.open()), (2, 2));
        assert!(Seat::take_on_trial(&endpoint, 2).is_none(), "full all the same");
        drop((seats, openings));
        let other = Seat::take(&endpoint, 9);
        let trial = Seat::take_on_trial(&endpoint, 9);
        assert!(trial.is_some(), "what was there before is no trial");
        assert!(Seat::take_on_trial(&endpoint, 9).is_none(), "one trial at a time");
        drop(trial);
        assert!(Seat::take_on_trial(&endpoint, 9).is_some());
        drop(other);
        assert_eq!((endpoint.load.in_flight(), endpoint.open()), (0, 0));
    }

    #[test]
    fn a_trial_that_was_answered_keeps_no_later_one_away_and_ends_none() {
        let address = "192.0.2.1:80".parse::<std::net::SocketAddr>().unwrap();
        let endpoint = Arc::new(Endpoint::new(address.into(), Weight::ONE, 1, Arc::default()));
        endpoint.set_trial(true);
        // A WebSocket: answered, and open for hours.
        let long = Seat::take_on_trial(&endpoint, 9).expect("the trial");
        endpoint.answered(WorkerId(0));
        assert!(!endpoint.is_on_trial());
        endpoint.set_trial(true);
        let next = Seat::take_on_trial(&endpoint, 9);
        assert!(next.is_some(), "its own trial");
        drop(long);
        assert!(Seat::take_on_trial(&endpoint, 9).is_none(), "that trial is still out");
        // Ejected and back, without an answer.
        endpoint.set_trial(true);
        assert!(Seat::take_on_trial(&endpoint, 9).is_some());
        drop(next);
        assert_eq!(endpoint.load.in_flight(), 0);
    }

    #[test]
    fn a_place_is_seen_where_one_would_be_given() {
        let address = "192.0.2.1:80".parse::<std::net::SocketAddr>().unwrap();
        let endpoint = Arc::new(Endpoint::new(address.into(), Weight::ONE, 1, Arc::default()));
        let capacity = |max_requests, max_connections| Capacity {
            max_connections,
            max_requests,
            queue: 0,
            queue_timeout: std::time::Duration::ZERO,
        };
        let wide = capacity(9, 9);
        let other = Seat::take(&endpoint, 9);
        endpoint.set_trial(true);
        assert!(endpoint.has_place(&wide, || false), "what is in flight from before is no trial");
        let trial = Seat::take_on_trial(&endpoint, 9);
        assert!(!endpoint.has_place(&wide, || false), "the trial is out");
        endpoint.set_trial(false);
        assert!(endpoint.has_place(&wide, || false));
        assert!(!endpoint.has_place(&capacity(2, 9), || true), "two are in flight");
        drop((other, trial));
        let opening = Opening::take(&endpoint, 1);
        assert!(!endpoint.has_place(&capacity(9, 1), || false), "its only connection is not free");
        assert!(endpoint.has_place(&capacity(9, 1), || true), "it is at hand");
        drop(opening);
        assert!(endpoint.has_place(&capacity(9, 1), || false));
    }

    #[test]
    fn a_status_reads_back_as_it_was_set() {
        let endpoint = Endpoint::new(
            "192.0.2.1:80".parse::<std::net::SocketAddr>().unwrap().into(),
            Weight::ONE,
            1,
            Arc::default(),
        );
        for intent in Intent::ALL {
            for health in Health::ALL {
                for warmth in (1..=10).map(Warmth::tenths) {
                    let status = Status { intent, health, weight: Weight::new(1000).unwrap(), warmth };
                    endpoint.set_status(status);
                    assert_eq!(endpoint.status(), status);
                }
            }
        }
    }
}
