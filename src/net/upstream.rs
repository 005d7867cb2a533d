//! Io: from a pool to a connected endpoint: pick, wait for a place, dial, and pick another while nothing was sent. L4 and L7
//! share it.
//!
//! It keeps the books of every connect: duration, errors by kind, failures in a row for passive detection, open connections.
//! Not here: idle connections that wait for reuse, nor retries after a byte was sent (L7's).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::dial::{DialError, dial};
use super::routed::Routed;
use super::timer::Deadline;
use super::worker::{ControlEvent, Worker};
use crate::balance::{Capacity, Pick, Tried};
use crate::base::{FlowHash, Reason, WorkerId, clock, limits};
use crate::state::{Endpoint, Opening, Pool, PoolView, Seat, Ticket};

/// An endpoint that was picked, and a place at it.
#[derive(Debug)]
pub struct Picked {
    pub endpoint: Arc<Endpoint>,
    pub seat: Seat,
}

/// What a pick found.
#[derive(Debug)]
pub enum Found {
    Picked(Picked),
    /// Every endpoint that is left carries as much as it may. `idle`: at one it is idle connections of other workers, which make
    /// room in a moment.
    Full {
        idle: bool,
    },
    /// No endpoint is left.
    Nobody,
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
    opening: Opening,
    worker: WorkerId,
}

/// The endpoints that one connection or request has tried, and how the tries failed.
#[derive(Debug, Default)]
pub struct Tries {
    /// Identities: indices would mean other endpoints once the pool publishes a new view.
    tried: SmallVec<[u64; limits::TRIES]>,
    /// Of them, those where nobody was: at most `limits::ABSENT`.
    absent: usize,
    failed: Option<Reason>,
}

impl Tries {
    /// An endpoint that was not tried yet and has a place, and the place; `idle` says whether a connection to it is at hand. Nobody
    /// once none is left or `limits::TRIES` were, not counting some where nobody was. Every pick after the first counts as a retry
    /// of the pool.
    pub fn pick(
        &mut self,
        worker: &Worker,
        pool: &Pool,
        hash: FlowHash,
        idle: impl Fn(&Arc<Endpoint>) -> bool,
    ) -> Found {
        if self.are_used_up() {
            return Found::Nobody;
        }
        let view = pool.view();
        let mut left_out: Tried = match self.tried.as_slice() {
            [] => Tried::new(),
            tried => (0u16..).zip(&view.members).filter(|(_, m)| tried.contains(&m.identity)).map(|(i, _)| i).collect(),
        };
        let tried = left_out.len();
        let places = Places { capacity: &pool.spec.capacity, idle, idles: Cell::new(false) };
        let mut found = None;
        for _ in 0..=SPILLS {
            let now = worker.timers.coarse_now();
            let pick = Pick { hash, now, entropy: worker.entropy(), tried: &left_out };
            let Some((index, endpoint)) = view.pick(&pick) else { break };
            found = places.take(endpoint, true);
            if found.is_some() {
                break;
            }
            left_out.push(u16::try_from(index).unwrap_or(u16::MAX));
        }
        // Those that were tried and have left the view since are not among the left out.
        if found.is_none() && left_out.len() > tried {
            found = self.scan(&view, worker.entropy(), &places);
            if found.is_none() {
                return Found::Full { idle: places.idles.get() };
            }
        }
        let Some(picked) = found else { return Found::Nobody };
        if !self.tried.is_empty() {
            pool.cells.row(worker.id).retries.one();
        }
        self.tried.push(picked.endpoint.identity);
        Found::Picked(picked)
    }

    /// Whoever has a place, from a random one on: those whom the picker likes have none. Where nothing bounds them but a trial,
    /// that goes before turning somebody away.
    fn scan(
        &self,
        view: &PoolView,
        entropy: u64,
        places: &Places<'_, impl Fn(&Arc<Endpoint>) -> bool>,
    ) -> Option<Picked> {
        let from = usize::try_from(entropy.checked_rem(view.endpoints.len() as u64)?).ok()?;
        let (before, after) = view.endpoints.split_at_checked(from)?;
        let mut around = after.iter().chain(before).filter(|endpoint| !self.tried.contains(&endpoint.identity));
        around.clone().find_map(|endpoint| places.take(endpoint, true)).or_else(|| {
            if places.capacity.is_bounded() { None } else { around.find_map(|endpoint| places.take(endpoint, false)) }
        })
    }

    /// No other endpoint will be tried, whoever comes.
    pub fn are_used_up(&self) -> bool {
        self.tried.len() >= limits::TRIES + self.absent
    }

    /// The endpoint picked last was not tried after all.
    pub fn take_back(&mut self) {
        self.tried.pop();
    }

    /// Endpoints tried so far.
    pub fn count(&self) -> u32 {
        self.tried.len() as u32
    }

    /// A connect to the endpoint picked last failed.
    pub fn note(&mut self, error: DialError) {
        if error == DialError::Full {
            self.failed = self.failed.or(Some(Reason::EndpointLimit));
            return;
        }
        if matches!(error, DialError::Refused | DialError::Unreachable) && self.absent < limits::ABSENT {
            self.absent += 1;
        }
        // "In time" is the word only when no endpoint answered anything else.
        let timed_out = error == DialError::Timeout && self.failed != Some(Reason::ConnectFailed);
        self.failed = Some(if timed_out { Reason::ConnectTimeout } else { Reason::ConnectFailed });
    }

    /// Why it is given up once [`Tries::pick`] finds nothing.
    pub fn reason(&self) -> Reason {
        self.failed.unwrap_or(Reason::NoEndpoint)
    }
}

/// Who may have a place.
struct Places<'a, F> {
    capacity: &'a Capacity,
    idle: F,
    /// Idle connections of other workers were in the way.
    idles: Cell<bool>,
}

impl<F: Fn(&Arc<Endpoint>) -> bool> Places<'_, F> {
    /// `trials`: an endpoint on trial has one place for its trial.
    fn take(&self, endpoint: &Arc<Endpoint>, trials: bool) -> Option<Picked> {
        if !endpoint.has_connection(self.capacity, || (self.idle)(endpoint)) {
            if endpoint.load.in_flight() < self.capacity.most_in_flight() {
                self.idles.set(true);
            }
            return None;
        }
        let most = self.capacity.most_in_flight();
        let on_trial = trials && endpoint.is_on_trial();
        let seat = if on_trial { Seat::take_on_trial(endpoint, most) } else { Seat::take(endpoint, most) }?;
        Some(Picked { endpoint: endpoint.clone(), seat })
    }
}

/// Picks after one that found its endpoint full; then all are looked at.
const SPILLS: usize = 2;

/// A request or connection that has to wait for its turn.
#[derive(Debug)]
pub struct Turn {
    ticket: Ticket,
}

impl Turn {
    /// A place in line, where the pool has a line and it is not full. `idle`: as [`Found::Full`] says.
    ///
    /// # Errors
    /// The reason for the client.
    pub fn enter(worker: &Worker, pool: &Pool, idle: bool) -> Result<Turn, Reason> {
        let most = match pool.spec.capacity.queue {
            // Not for an endpoint: for what it could have at once, if connections were where they are needed.
            most if idle => most.max(limits::IDLE_WAITERS),
            0 => return Err(Reason::EndpointLimit),
            most => most,
        };
        let ticket = pool.queue.enter(worker.id, most).ok_or(Reason::QueueFull)?;
        if idle {
            pool.queue.want_connection();
        }
        Ok(Turn { ticket })
    }

    /// Ready when it is this one's turn and there is a place, or nobody to wait for.
    pub fn poll(&self, cx: &Context<'_>, pick: impl FnOnce() -> Found) -> Poll<Result<Picked, Reason>> {
        if !self.ticket.is_first(cx.waker()) {
            return Poll::Pending;
        }
        match pick() {
            Found::Picked(picked) => Poll::Ready(Ok(picked)),
            Found::Full { idle } => {
                if idle {
                    self.ticket.want_connection();
                }
                Poll::Pending
            }
            Found::Nobody => Poll::Ready(Err(Reason::NoEndpoint)),
        }
    }
}

/// Whether a newcomer has to wait behind others, though there might be a place. Where a reload has taken the limits away, who still
/// waits is about to be woken, and nobody waits any more. A pool without a queue has no line to stand in: those who wait there
/// for idle connections to be closed must not cost others a place that is free.
pub fn has_line(pool: &Pool) -> bool {
    let capacity = &pool.spec.capacity;
    pool.queue.waiting() > 0 && capacity.queue > 0 && capacity.is_bounded() && !pool.view().members.is_empty()
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
    let Some(opening) = Opening::take(endpoint, pool.spec.capacity.max_connections) else {
        return Err(DialError::Full);
    };
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
            Ok(Connection { stream, opened: Opened::new(opening, worker.id), took })
        }
        Err(error) => {
            failed_connect(worker, pool, endpoint, error);
            Err(error)
        }
    }
}

/// Picks and connects; while connecting fails, picks another. Nothing was sent before, so nobody is asked twice. The first pick may
/// have to wait for its turn, for as long as the pool says and `client` stays.
///
/// # Errors
/// The reason for the client, when no endpoint is left to try.
pub async fn pick_and_dial(
    worker: &Worker,
    pool: &Arc<Pool>,
    hash: FlowHash,
    tries: &mut Tries,
    deadline: &Deadline,
    client: &TcpStream,
) -> Result<(Picked, Connection), Reason> {
    let nothing_idle = |_: &Arc<Endpoint>| false;
    let mut pool = Routed::to(pool);
    loop {
        pool.follow(worker);
        let waits = tries.count() == 0 && has_line(&pool);
        let found = if waits { Found::Full { idle: false } } else { tries.pick(worker, &pool, hash, nothing_idle) };
        let picked = match found {
            Found::Picked(picked) => picked,
            Found::Nobody => return Err(tries.reason()),
            Found::Full { .. } if tries.count() > 0 => return Err(tries.failed.unwrap_or(Reason::EndpointLimit)),
            Found::Full { idle } => {
                let turn = Turn::enter(worker, &pool, idle)?;
                deadline.set_in(pool.spec.capacity.queue_timeout);
                let mut pick = || {
                    pool.follow(worker);
                    tries.pick(worker, &pool, hash, nothing_idle)
                };
                std::future::poll_fn(|cx| {
                    if let Poll::Ready(picked) = turn.poll(cx, &mut pick) {
                        return Poll::Ready(picked);
                    }
                    if has_gone(client, cx) {
                        return Poll::Ready(Err(Reason::ClientClosed));
                    }
                    deadline.poll_expired(cx).map(|_| Err(Reason::QueueTimeout))
                })
                .await?
            }
        };
        match connect(worker, &pool, &picked.endpoint, deadline).await {
            Ok(connection) => return Ok((picked, connection)),
            // Somebody was faster with the last connection: it was not tried.
            Err(DialError::Full) => tries.take_back(),
            Err(error) => tries.note(error),
        }
    }
}

/// Whether the client has reset, or ended without a byte to carry.
fn has_gone(client: &TcpStream, cx: &mut Context<'_>) -> bool {
    let mut byte = [0; 1];
    match client.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
        Poll::Ready(Ok(read)) => read == 0,
        Poll::Ready(Err(_)) => true,
        Poll::Pending => false,
    }
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
    if most > 0 && (errors >= most || endpoint.is_on_trial()) {
        worker.crew.tell(ControlEvent::Erring { pool: pool.id, endpoint: endpoint.clone(), errors });
    }
}

impl Opened {
    fn new(opening: Opening, worker: WorkerId) -> Opened {
        opening.endpoint().cells.row(worker).connections_opened.one();
        Opened { opening, worker }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.opening.endpoint().cells.row(self.worker).connections_closed.one();
    }
}
