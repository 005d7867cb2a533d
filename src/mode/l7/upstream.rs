//! Shell: connections to endpoints, kept between requests. One store a worker, so nothing here is shared or locked.
//!
//! Reuse is earned: a connection comes back only after a clean finish, and is looked at again before it goes out (A32).

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use tokio::net::TcpStream;

use super::io;
use crate::base::{Moment, WorkerId, limits};
use crate::health::Intent;
use crate::net::upstream::Opened;
use crate::state::Endpoint;

/// A connection to an endpoint.
pub(super) struct Upstream {
    pub(super) stream: TcpStream,
    /// Its place in the endpoint's counts.
    pub(super) opened: Opened,
    pub(super) endpoint: Arc<Endpoint>,
    /// The last response needed a bulk buffer: the next one starts with it.
    pub(super) bulk: bool,
}

struct Idle {
    upstream: Upstream,
    since: Moment,
}

/// The idle connections of one worker, by endpoint. The youngest goes out first, so that what is not needed ages out.
#[derive(Default)]
pub(super) struct Store {
    by_endpoint: RefCell<HashMap<usize, Vec<Idle>, BuildHasherDefault<Spread>>>,
}

impl Store {
    /// A connection to `endpoint` that is still quiet.
    pub(super) fn take(&self, endpoint: &Arc<Endpoint>) -> Option<Upstream> {
        let mut by_endpoint = self.by_endpoint.borrow_mut();
        let idle = by_endpoint.get_mut(&key(endpoint))?;
        while let Some(Idle { upstream, .. }) = idle.pop() {
            if io::is_quiet(&upstream.stream) {
                return Some(upstream);
            }
        }
        None
    }

    /// Whether there is one, quiet or not.
    pub(super) fn has(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.by_endpoint.borrow().get(&key(endpoint)).is_some_and(|idle| !idle.is_empty())
    }

    /// Closes what is in the way of requests that wait for a connection on other workers: the oldest to each endpoint.
    pub(super) fn make_way(&self, worker: WorkerId) {
        for idle in self.by_endpoint.borrow_mut().values_mut() {
            if idle.first().is_some_and(|oldest| oldest.upstream.endpoint.queue.is_in_the_way(worker)) {
                idle.remove(0);
            }
        }
    }

    pub(super) fn put(&self, upstream: Upstream, now: Moment) {
        let mut by_endpoint = self.by_endpoint.borrow_mut();
        let idle = by_endpoint.entry(key(&upstream.endpoint)).or_default();
        if idle.len() < limits::UPSTREAM_IDLE {
            idle.push(Idle { upstream, since: now });
        }
    }

    /// Closes every idle connection.
    pub(super) fn clear(&self) {
        self.by_endpoint.take();
    }

    /// Throws out what the endpoint has closed, what is idle for too long, and what leads where nothing should go.
    pub(super) fn sweep(&self, now: Moment) {
        self.by_endpoint.borrow_mut().retain(|_, idle| {
            idle.retain(|Idle { upstream, since }| {
                now.since(*since) < limits::UPSTREAM_IDLE_TIME
                    && upstream.endpoint.status().intent == Intent::Ready
                    && io::is_quiet(&upstream.stream)
            });
            !idle.is_empty()
        });
    }
}

/// Where the endpoint lives in memory: an idle connection holds it, so no other can take its place meanwhile. Two pools may
/// share an address; their endpoints, counts and connections stay apart.
fn key(endpoint: &Arc<Endpoint>) -> usize {
    Arc::as_ptr(endpoint).addr()
}

/// Spreads addresses of ours over a table: nobody outside chooses them, so one multiplication will do.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(usize::from(*byte)));
    }

    fn write_usize(&mut self, word: usize) {
        // 2^64 / φ: the high bits, which pick the group, depend on all of the word's.
        self.0 = (self.0 ^ word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}
