//! Shell: requests of one connection, from head to answered: routing, picking, sending, retrying. The answer's way back is
//! `respond`.
//!
//! ```text
//!  head ─▶ route ─▶ pick ─▶ reuse or dial ─▶ send head ─▶ wait for a response head ─▶ relay ─▶ next
//!                    ▲          │ failed          │ closed, or found down, before any response byte
//!                    └──────────┴─────────────────┘ another endpoint, while the request can be sent again
//! ```

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::Scratch;
use super::attempt::{Attempt, Failed};
use super::respond;
use super::session::{HeadEnd, Next, Session, protocol, shown};
use super::upload::Stop;
use super::upstream::Upstream;
use crate::base::{FlowHash, Moment, Reason, clock};
use crate::net::relay::{End, Relay};
use crate::net::upstream::{Found, Picked, Tries, Turn, failed as failed_at, has_line};
use crate::net::{Buffer, DialError, Routed};
use crate::observe::access;
use crate::observe::cells::UpstreamError;
use crate::state::{Endpoint, L7, Pool, Seat, Service, Snapshot, Timeouts, Traffic};
use crate::wire::http1::{self, Body, Notice, Reject, Request};

/// Serves requests until the connection idles again (then it is given back) or has ended.
pub(super) async fn serve(mut session: Session) -> Option<Session> {
    let mut scratch = session.mode.scratch();
    let next = loop {
        match one(&mut session, &mut scratch).await {
            Step::Next(Next::Pipelined) => {}
            Step::Next(Next::Idle) => {
                scratch.input = session.worker.buffers.parked(false);
                if !session.wait_busy().await {
                    break Step::Next(Next::Idle);
                }
            }
            step => break step,
        }
    };
    if let Step::Tunnel(tunnel) = next {
        tunnel.carry(session, scratch).await;
        return None;
    }
    session.mode.clone().give_back(scratch);
    match next {
        Step::Next(Next::Idle) => return Some(session),
        Step::Linger => session.linger().await,
        Step::Reset => session.reset(),
        Step::Next(_) | Step::Tunnel(_) => {}
    }
    None
}

/// Two connections that a 101 has joined, before they carry anything.
pub(super) struct Tunnel {
    pub(super) upstream: Upstream,
    /// What the endpoint has sent behind its head.
    pub(super) answer: Buffer,
    pub(super) idle: Duration,
    pub(super) half_close: Duration,
    /// A tunnel is work in flight for its endpoint, however long it lives.
    pub(super) seat: Option<Seat>,
}

impl Tunnel {
    /// Carries both ways to the end. What the client sent behind its head goes first (A30).
    async fn carry(self: Box<Self>, session: Session, scratch: Scratch) {
        let Tunnel { upstream, answer, idle, half_close, seat: _seat } = *self;
        let Session { worker, stream, deadline, mut place, .. } = session;
        let held = |buffer: Buffer| Some(buffer).filter(|buffer| !buffer.is_empty());
        place.begin();
        place.cells().bytes_received.add(scratch.input.len() as u64);
        let relay = Relay { worker: &worker, cells: place.cells(), deadline: &deadline, idle, half_close };
        let outcome = relay.run(stream, upstream.stream, held(scratch.input), held(answer)).await;
        drop(upstream.opened);
        if outcome.end == End::EndpointReset {
            upstream.endpoint.cells.row(worker.id).error(UpstreamError::Reset);
        }
        if let Some(reason) = outcome.reason() {
            place.cells().drop(reason);
        }
        place.end();
    }
}

/// How one request ended, for its connection.
pub(super) enum Step {
    Next(Next),
    /// Answered; close so that the answer arrives.
    Linger,
    /// The answer is incomplete; the client must see that.
    Reset,
    /// Both connections are a tunnel now.
    Tunnel(Box<Tunnel>),
}

/// What an exchange knows of itself for metrics and the access record.
pub(super) struct Facts<'s> {
    pub(super) began: Moment,
    pub(super) head_length: usize,
    /// Bytes of the input that are this request's. They stay there until it has been recorded.
    pub(super) used: usize,
    /// What came behind a streamed body: the next request begins there.
    pub(super) rest: Option<Buffer>,
    pub(super) status: u16,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) tries: u32,
    pub(super) pool: Option<&'s Arc<Pool>>,
    /// Only where a record will show it.
    pub(super) endpoint: Option<Arc<Endpoint>>,
    pub(super) why: Option<&'static str>,
}

/// Reads and serves one request.
async fn one(session: &mut Session, scratch: &mut Scratch) -> Step {
    let Some(timeout) = session.timeouts().map(|timeouts| timeouts.header) else {
        session.drop_for(Reason::ServiceRemoved);
        return Step::Next(Next::Close);
    };
    let head = session.read_head(scratch, timeout).await;
    if matches!(head, Err(HeadEnd::Nothing)) {
        return Step::Next(Next::Idle);
    }
    // The snapshot of this request: taken now, because the head may have been a long time coming.
    let snapshot = session.worker.snapshot_of(session.service);
    let Some((snapshot, service)) = snapshot.as_ref().and_then(|s| Some((s, s.service(session.service)?))) else {
        session.drop_for(Reason::ServiceRemoved);
        return Step::Next(Next::Close);
    };
    let mut facts = Facts {
        began: clock::now(),
        head_length: 0,
        used: 0,
        rest: None,
        status: 0,
        sent: 0,
        received: scratch.input.len() as u64,
        tries: 0,
        pool: None,
        endpoint: None,
        why: None,
    };
    session.place.begin();
    let step = match head {
        Ok(length) => {
            facts.head_length = length;
            facts.used = length;
            facts.received = length as u64;
            session.served = session.served.saturating_add(1);
            request(session, scratch, &mut facts, snapshot, service).await
        }
        Err(HeadEnd::Closed | HeadEnd::Nothing) => {
            if scratch.input.is_empty() {
                session.place.end();
                return Step::Next(Next::Close);
            }
            session.drop_for(Reason::ClientClosed);
            facts.why = Some(Reason::ClientClosed.word());
            Step::Next(Next::Close)
        }
        Err(HeadEnd::Late) => {
            facts.began = facts.began - timeout;
            refuse(session, service, &mut facts, Reason::HeaderTimeout, false).await
        }
        Err(HeadEnd::Reject(reject)) => refuse_malformed(session, service, &mut facts, reject).await,
    };
    finish(session, scratch, service, &mut facts);
    session.place.end();
    scratch.input.consume(facts.used);
    if let Some(rest) = facts.rest.take() {
        scratch.input = rest;
    }
    match step {
        Step::Next(Next::Idle) if !scratch.input.is_empty() => Step::Next(Next::Pipelined),
        step => step,
    }
}

/// Counts and records what happened.
fn finish(session: &Session, scratch: &Scratch, service: &Service, facts: &mut Facts<'_>) {
    let cells = session.cells();
    let duration = clock::now().since(facts.began);
    cells.bytes_received.add(facts.received);
    cells.request_duration.observe(duration);
    let Some(format) = service.spec.access else { return };
    let whole = facts.head_length > 0;
    let head = scratch.input.bytes().get(..facts.head_length).unwrap_or_default();
    let request = scratch.parsed.request.view(head);
    let known = |name| if whole { request.known(name).unwrap_or_default() } else { b"" };
    let record = access::Record {
        at: crate::base::clock::wall(),
        service: &service.spec.name,
        client: session.peer,
        method: if whole { request.method_token() } else { b"" },
        host: if whole { request.authority() } else { b"" },
        target: if whole { request.target() } else { b"" },
        protocol: if whole { protocol(request.version()) } else { "HTTP" },
        status: facts.status,
        bytes_received: facts.received,
        bytes_sent: facts.sent,
        duration,
        pool: facts.pool.as_ref().map(|pool| &*pool.spec.name),
        endpoint: facts.endpoint.as_ref().map(|endpoint| &*endpoint.name),
        tries: facts.tries,
        referer: known(http1::Name::Referer),
        user_agent: known(http1::Name::UserAgent),
        why: facts.why,
    };
    if !session.worker.crew.access.write(format, &record) {
        cells.access_records_lost.one();
    }
}

/// Answers with the reason's status and closes.
async fn refuse(session: &mut Session, service: &Service, facts: &mut Facts<'_>, reason: Reason, head: bool) -> Step {
    session.drop_for(reason);
    facts.why = Some(reason.word());
    say(session, service, facts, Notice { head, ..Notice::error(reason.status(), shown(service, reason.word())) }).await
}

async fn refuse_malformed(session: &mut Session, service: &Service, facts: &mut Facts<'_>, reject: Reject) -> Step {
    session.cells().reject(reject);
    facts.why = Some(reject.word());
    // RFC 9110 §15.5.6: whatever is no tunnel and no trace.
    let allow: &[u8] =
        if reject.status() == 405 { b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" } else { b"" };
    let notice = Notice { extra: allow, ..Notice::error(reject.status(), shown(service, reject.word())) };
    say(session, service, facts, notice).await
}

async fn say(session: &mut Session, service: &Service, facts: &mut Facts<'_>, notice: Notice<'_>) -> Step {
    facts.status = notice.status;
    match session.answer(&notice, &service.spec.timeouts).await {
        Ok(sent) => {
            facts.sent += sent;
            if notice.keep_alive { Step::Next(Next::Idle) } else { Step::Linger }
        }
        Err(_) => Step::Next(Next::Close),
    }
}

/// Routes the request whose head stands in `scratch`, and sees it through.
async fn request<'s>(
    session: &mut Session,
    scratch: &mut Scratch,
    facts: &mut Facts<'s>,
    snapshot: &'s Snapshot,
    service: &'s Arc<Service>,
) -> Step {
    let Traffic::L7(l7) = &service.traffic else {
        // Its name belongs to a service of another mode now.
        session.drop_for(Reason::ServiceRemoved);
        facts.why = Some(Reason::ServiceRemoved.word());
        return Step::Next(Next::Close);
    };
    let head = scratch.input.bytes().get(..facts.head_length).unwrap_or_default();
    let view = scratch.parsed.request.view(head);
    let ask = Ask::of(&view);
    let way = match l7.way(service, snapshot, &view) {
        Ok(way) => way,
        Err(reason @ Reason::BodyTooLarge) => return refuse(session, service, facts, reason, ask.asked.head).await,
        Err(reason) => return unserved(session, service, facts, reason, &ask).await,
    };
    let pool = way.pool;
    facts.pool = Some(pool);
    let hash = if pool.view().uses.hash { way.hash(&view, session.peer) } else { FlowHash(0) };
    forward(session, scratch, facts, Task { service, l7, pool, hash, ask }).await
}

/// What an exchange must remember of its request while the buffers move.
#[derive(Clone, Copy)]
pub(super) struct Ask {
    pub(super) asked: http1::Asked,
    pub(super) version: http1::Version,
    pub(super) body: Body,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
    idempotent: bool,
}

impl Ask {
    fn of(view: &Request<'_>) -> Ask {
        Ask {
            asked: view.asked(),
            version: view.version(),
            body: view.body(),
            keep_alive: view.keep_alive(),
            expect_continue: view.expect_continue(),
            idempotent: view.method().idempotent(),
        }
    }
}

/// A routed request.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) service: &'a Arc<Service>,
    pub(super) l7: &'a L7,
    pub(super) pool: &'a Arc<Pool>,
    pub(super) hash: FlowHash,
    pub(super) ask: Ask,
}

impl Task<'_> {
    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.service.spec.timeouts
    }
}

/// A request that leads nowhere. With no body to get rid of, its connection may live on.
async fn unserved(session: &mut Session, service: &Service, facts: &mut Facts<'_>, reason: Reason, ask: &Ask) -> Step {
    session.drop_for(reason);
    facts.why = Some(reason.word());
    let keep_alive = ask.keep_alive && ask.body.is_empty() && !ask.asked.upgrade && !session.is_last(service);
    let notice = Notice {
        head: ask.asked.head,
        version: ask.version,
        keep_alive,
        ..Notice::error(reason.status(), shown(service, reason.word()))
    };
    say(session, service, facts, notice).await
}

/// A place at an endpoint of `pool` that was not tried yet: at once, or, at the first try, in turn. `None`: there is none left to try.
async fn admit(
    session: &mut Session,
    scratch: &mut Scratch,
    pool: &mut Routed<'_>,
    hash: FlowHash,
    tries: &mut Tries,
) -> Result<Option<Picked>, Reason> {
    let (mode, worker) = (session.mode.clone(), session.worker.clone());
    let tried = tries.count() > 0;
    let mut pick = |pool: &mut Routed<'_>| {
        pool.follow(&worker);
        tries.pick(&worker, pool, hash, |endpoint| mode.store.has(endpoint))
    };
    let mut idle = false;
    if tried || !has_line(pool) {
        match pick(pool) {
            Found::Picked(picked) => return Ok(Some(picked)),
            Found::Nobody => return Ok(None),
            // It has had its turn.
            Found::Full { .. } if tried => return Ok(None),
            Found::Full { idle: idles } => idle = idles,
        }
    }
    let turn = Turn::enter(&worker, pool, idle)?;
    session.deadline.set_in(pool.spec.capacity.queue_timeout);
    let ended = session.half_closed;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(picked) = turn.poll(cx, || pick(pool)) {
            return Poll::Ready(picked.map(Some));
        }
        // One that has sent its end meanwhile has given up: work for it would be work for nobody.
        if session.poll_reset(&mut scratch.input, cx).is_ready() || session.half_closed && !ended {
            return Poll::Ready(Err(Reason::ClientClosed));
        }
        session.deadline.poll_expired(cx).map(|_| Err(Reason::QueueTimeout))
    })
    .await
}

async fn forward(session: &mut Session, scratch: &mut Scratch, facts: &mut Facts<'_>, task: Task<'_>) -> Step {
    session.mode.with_budget(task.pool.id, |budget| budget.request());
    let mut pool = Routed::to(task.pool);
    let mut tries = Tries::default();
    let mut last = None;
    let mut stale = None;
    // Taken while it waited at one that went down.
    let mut taken: Option<Picked> = None;
    let mut retries = 0;
    loop {
        // Where no other endpoint is left, one that closed a kept connection gets the request on a fresh one.
        let admitted = match taken.take() {
            Some(picked) => {
                pool.follow(&session.worker);
                Ok(Some(picked))
            }
            None => admit(session, scratch, &mut pool, task.hash, &mut tries).await,
        };
        let task = Task { pool: &pool, ..task };
        let other = match admitted {
            Ok(other) => other,
            Err(Reason::ClientClosed) => {
                session.drop_for(Reason::ClientClosed);
                facts.why = Some(Reason::ClientClosed.word());
                return Step::Next(Next::Close);
            }
            Err(reason) => return unserved(session, task.service, facts, reason, &task.ask).await,
        };
        let fresh = other.is_none();
        let Some(Picked { endpoint, seat }) = other.or_else(|| stale.take()) else {
            let reason = last.unwrap_or_else(|| tries.reason());
            return unserved(session, task.service, facts, reason, &task.ask).await;
        };
        if fresh {
            task.pool.cells.row(session.worker.id).retries.one();
        }
        facts.tries += 1;
        facts.endpoint = task.service.spec.access.is_some().then(|| endpoint.clone());
        let may_retry = task.ask.idempotent && retries < task.l7.spec.retries;
        let mut attempt = Attempt::new(session, &task, facts, fresh).may_leave(may_retry);
        let failed = match attempt.run(session, scratch, facts, &task, &endpoint, &mut tries).await {
            Ok(Step::Tunnel(mut tunnel)) => {
                tunnel.seat = Some(seat);
                return Step::Tunnel(tunnel);
            }
            Ok(step) => return step,
            // Somebody was faster with the last connection: it was not tried.
            Err(Failed::Dial(DialError::Full)) if !fresh => {
                tries.take_back();
                continue;
            }
            Err(failed) => failed,
        };
        let (again, reused) = (attempt.can_repeat(), attempt.reused);
        let consumed = attempt.payload();
        drop(attempt);
        let cells = endpoint.cells.row(session.worker.id);
        let reason = match failed {
            Failed::Dial(error) => {
                tries.note(error);
                // Nobody has seen the request, so this is a new choice rather than a retry: at no charge.
                continue;
            }
            Failed::Closed => {
                cells.error(UpstreamError::Closed);
                // One that was kept may have been closed for its age just then.
                if !reused {
                    failed_at(&session.worker, task.pool, &endpoint);
                }
                last = Some(Reason::UpstreamClosed);
                if again && may_retry {
                    if session.mode.with_budget(task.pool.id, |budget| budget.retry(clock::now())) {
                        retries += 1;
                        stale = reused.then_some(Picked { endpoint, seat });
                        continue;
                    }
                    Reason::RetryBudget
                } else {
                    Reason::UpstreamClosed
                }
            }
            Failed::Malformed(reject) => {
                cells.error(UpstreamError::Malformed);
                failed_at(&session.worker, task.pool, &endpoint);
                respond::tell_malformed(&endpoint, reject);
                Reason::UpstreamMalformed
            }
            Failed::Late => {
                cells.error(UpstreamError::ResponseTimeout);
                failed_at(&session.worker, task.pool, &endpoint);
                Reason::ResponseTimeout
            }
            Failed::WentDown(picked) => {
                cells.error(UpstreamError::WentDown);
                retries += 1;
                taken = Some(picked);
                continue;
            }
            Failed::BodyLate => Reason::BodyTimeout,
            Failed::Body(Stop::TooLarge) => Reason::BodyTooLarge,
            Failed::Body(Stop::Malformed(reject)) => {
                facts.received += consumed;
                return refuse_malformed(session, task.service, facts, reject).await;
            }
            Failed::Body(Stop::ClientClosed | Stop::EndpointClosed) | Failed::ClientGone => {
                session.drop_for(Reason::ClientClosed);
                facts.why = Some(Reason::ClientClosed.word());
                facts.received += consumed;
                return Step::Next(Next::Close);
            }
        };
        facts.received += consumed;
        return unserved(session, task.service, facts, reason, &task.ask).await;
    }
}
