//! Io: from a pool to a connected endpoint: pick, dial, and pick another while nothing was sent. L4 and L7 share it.
//!
//! It keeps the books of every connect: duration, errors by kind, failures in a row for passive detection, open connections.
//! Not here: idle connections that wait for reuse, nor retries after a byte was sent (L7's).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::net::TcpStream;

use super::dial::{DialError, dial};
use super::timer::Deadline;
use super::worker::{ControlEvent, Worker};
use crate::balance::{InFlight, Pick, Tried};
use crate::base::{FlowHash, Reason, WorkerId, clock, limits};
use crate::state::{Endpoint, Pool};

/// An endpoint that was picked, counted in its load until dropped.
#[derive(Debug)]
pub struct Picked {
    pub endpoint: Arc<Endpoint>,
    pub in_flight: InFlight,
}

/// A fresh connection to an endpoint.
#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    pub opened: Opened,
    /// How long connecting took.
    pub took: Duration,
}

/// A connection's place in the endpoint's counts: opened now, closed when dropped. Keep it for as long as the stream.
#[derive(Debug)]
pub struct Opened {
    endpoint: Arc<Endpoint>,
    worker: WorkerId,
}

/// The endpoints that one connection or request has tried, and how the tries failed.
#[derive(Debug, Default)]
pub struct Tries {
    /// Identities: indices would mean other endpoints once the pool publishes a new view.
    tried: SmallVec<[u64; limits::TRIES]>,
    failed: Option<Reason>,
}

impl Tries {
    /// An endpoint that was not tried yet; `None` when none is left or `limits::TRIES` were. Every pick after the first
    /// counts as a retry of the pool.
    pub fn pick(&mut self, worker: &Worker, pool: &Pool, hash: FlowHash) -> Option<Picked> {
        if self.tried.len() >= limits::TRIES {
            return None;
        }
        let view = pool.view();
        let tried: Tried = match self.tried.as_slice() {
            [] => Tried::new(),
            tried => (0u16..).zip(&view.members).filter(|(_, m)| tried.contains(&m.identity)).map(|(i, _)| i).collect(),
        };
        let pick = Pick { hash, now: worker.timers.coarse_now(), entropy: worker.entropy(), tried: &tried };
        let (_, endpoint) = view.pick(&pick)?;
        if !self.tried.is_empty() {
            pool.cells.row(worker.id).retries.one();
        }
        self.tried.push(endpoint.identity);
        Some(Picked { endpoint: endpoint.clone(), in_flight: InFlight::new(endpoint.load.clone()) })
    }

    /// Endpoints tried so far.
    pub fn count(&self) -> u32 {
        self.tried.len() as u32
    }

    /// A connect to the endpoint picked last failed.
    pub fn note(&mut self, error: DialError) {
        // "In time" is the word only when no endpoint answered anything else.
        let timed_out = error == DialError::Timeout && self.failed != Some(Reason::ConnectFailed);
        self.failed = Some(if timed_out { Reason::ConnectTimeout } else { Reason::ConnectFailed });
    }

    /// Why it is given up once [`Tries::pick`] finds nothing.
    pub fn reason(&self) -> Reason {
        self.failed.unwrap_or(Reason::NoEndpoint)
    }
}

/// Connects to `endpoint` within the pool's connect timeout, and keeps the books. `deadline` is borrowed for the wait.
///
/// # Errors
/// Why it did not connect; it is counted already.
pub async fn connect(
    worker: &Worker,
    pool: &Pool,
    endpoint: &Arc<Endpoint>,
    deadline: &Deadline,
) -> Result<Connection, DialError> {
    let began = clock::now();
    let dialled = match endpoint.address.socket() {
        Some(address) => dial(address, pool.spec.connect_timeout, deadline).await,
        // Only pools of packet services have endpoints without a port, and no proxy uses such a pool.
        None => Err(DialError::Other),
    };
    match dialled {
        Ok(stream) => {
            let took = clock::now().since(began);
            pool.cells.row(worker.id).connect_duration.observe(took);
            // Read first: in the good case nobody writes the line that all workers share.
            if endpoint.failures_in_row.load(Relaxed) != 0 {
                endpoint.failures_in_row.store(0, Relaxed);
            }
            Ok(Connection { stream, opened: Opened::new(endpoint.clone(), worker.id), took })
        }
        Err(error) => {
            failed_connect(worker, pool, endpoint, error);
            Err(error)
        }
    }
}

/// Picks and connects; while connecting fails, picks another. Nothing was sent before, so nobody is asked twice.
///
/// # Errors
/// The reason for the client, when no endpoint is left to try.
pub async fn pick_and_dial(
    worker: &Worker,
    pool: &Pool,
    hash: FlowHash,
    tries: &mut Tries,
    deadline: &Deadline,
) -> Result<(Picked, Connection), Reason> {
    while let Some(picked) = tries.pick(worker, pool, hash) {
        match connect(worker, pool, &picked.endpoint, deadline).await {
            Ok(connection) => return Ok((picked, connection)),
            Err(error) => tries.note(error),
        }
    }
    Err(tries.reason())
}

fn failed_connect(worker: &Worker, pool: &Pool, endpoint: &Arc<Endpoint>, error: DialError) {
    endpoint.cells.row(worker.id).error(error.kind());
    if error.blames_endpoint() {
        let failures = endpoint.failures_in_row.fetch_add(1, Relaxed).saturating_add(1);
        worker.crew.tell(ControlEvent::ConnectFailing { pool: pool.id, endpoint: endpoint.clone(), failures });
        failed(worker, pool, endpoint);
    }
    tracing::debug!(pool = %pool.spec.name, endpoint = %endpoint.name, ?error, "connect failed");
}

/// A request failed before an answer, and the endpoint is to blame: for those who have passive detection count it.
pub fn failed(worker: &Worker, pool: &Pool, endpoint: &Arc<Endpoint>) {
    let errors = endpoint.failed(worker.id);
    let most = pool.spec.outlier.consecutive_errors;
    if most > 0 && (errors >= most || endpoint.trial.load(Relaxed)) {
        worker.crew.tell(ControlEvent::Erring { pool: pool.id, endpoint: endpoint.clone(), errors });
    }
}

impl Opened {
    fn new(endpoint: Arc<Endpoint>, worker: WorkerId) -> Opened {
        endpoint.cells.row(worker).connections_opened.one();
        Opened { endpoint, worker }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.endpoint.cells.row(self.worker).connections_closed.one();
    }
}
