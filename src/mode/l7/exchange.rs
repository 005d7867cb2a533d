//! Shell: requests of one connection, from head to answered: routing, picking, sending, retrying. The answer's way back is
//! `respond`.
//!
//! ```text
//!  head ─▶ route ─▶ pick ─▶ reuse or dial ─▶ send head ─▶ wait for a response head ─▶ relay ─▶ next
//!                    ▲          │ failed          │ closed before any response byte
//!                    └──────────┴─────────────────┘ another endpoint, while the request can be sent again
//! ```

use std::io::IoSlice;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::io::{poll_read, poll_read_parked, write_all};
use super::respond;
use super::session::{HeadEnd, Next, Session, make_room, now, protocol, shown};
use super::upload::{Stop, Upload};
use super::upstream::Upstream;
use super::{Scratch, fields};
use crate::balance::{HashBy, InFlight};
use crate::base::{FlowHash, Moment, Reason, limits};
use crate::net::relay::Relay;
use crate::net::upstream::{self, Picked, Tries};
use crate::net::{Buffer, DialError};
use crate::observe::access;
use crate::observe::cells::UpstreamError;
use crate::state::{Endpoint, L7, Pool, Route, Service, Snapshot, Timeouts, Traffic};
use crate::wire::http1::{self, Body, Forward, Notice, Progress, Reject, Request};

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
}

impl Tunnel {
    /// Carries both ways to the end. What the client sent behind its head goes first (A30).
    async fn carry(self: Box<Self>, session: Session, scratch: Scratch) {
        let Tunnel { upstream, answer, idle, half_close } = *self;
        // A tunnel is work in flight for its endpoint, however long it lives.
        let _in_flight = InFlight::new(upstream.endpoint.load.clone());
        let Session { worker, stream, deadline, place, .. } = session;
        let held = |buffer: Buffer| Some(buffer).filter(|buffer| !buffer.is_empty());
        place.cells().bytes_received.add(scratch.input.len() as u64);
        let relay = Relay { worker: &worker, cells: place.cells(), deadline: &deadline, idle, half_close };
        let outcome = relay.run(stream, upstream.stream, held(scratch.input), held(answer)).await;
        drop(upstream.opened);
        if let Some(reason) = outcome.reason() {
            place.cells().drop(reason);
        }
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
        began: now(),
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
                return Step::Next(Next::Close);
            }
            session.drop_for(Reason::ClientClosed);
            facts.why = Some(Reason::ClientClosed.word());
            Step::Next(Next::Close)
        }
        Err(HeadEnd::Late) => refuse(session, service, &mut facts, Reason::HeaderTimeout, false).await,
        Err(HeadEnd::Reject(reject)) => refuse_malformed(session, service, &mut facts, reject).await,
    };
    finish(session, scratch, service, &mut facts);
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
    let duration = now().since(facts.began);
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
    say(session, service, facts, Notice::error(reject.status(), shown(service, reject.word()))).await
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
    let Traffic::L7(l7) = &service.traffic else { return Step::Next(Next::Close) };
    let head = scratch.input.bytes().get(..facts.head_length).unwrap_or_default();
    let view = scratch.parsed.request.view(head);
    let (body, is_head) = (view.body(), view.asked().head);
    let most = service.spec.limits.max_body_bytes;
    if most != 0 && matches!(body, Body::Length(length) if length > most) {
        return refuse(session, service, facts, Reason::BodyTooLarge, is_head).await;
    }
    let found = l7.table.find(view.host(), view.path());
    let route = found.and_then(|index| l7.spec.routes.get(index));
    let pool = route.and_then(|route| Some((route, snapshot.pool(route.pool)?)));
    let Some((route, pool)) = pool else {
        return unserved(session, service, facts, Reason::NoRoute, &Ask::of(&view)).await;
    };
    facts.pool = Some(pool);
    let ask = Ask::of(&view);
    let hash = if pool.view().uses.hash { flow(route, pool, &view, session) } else { FlowHash(0) };
    forward(session, scratch, facts, Task { service, l7, pool, hash, ask }).await
}

/// What an exchange must remember of its request while the buffers move.
#[derive(Clone, Copy)]
pub(super) struct Ask {
    pub(super) asked: http1::Asked,
    pub(super) version: http1::Version,
    pub(super) body: Body,
    pub(super) keep_alive: bool,
    expect_continue: bool,
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
    l7: &'a L7,
    pub(super) pool: &'a Arc<Pool>,
    hash: FlowHash,
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

/// What the route's pool is sticky by.
fn flow(route: &Route, pool: &Pool, view: &Request<'_>, session: &Session) -> FlowHash {
    let query;
    let found = match &route.hash_by {
        HashBy::Header(name) => view.field(name.as_bytes()).next(),
        HashBy::Cookie(name) => view.cookie(name.as_bytes()),
        HashBy::Query(name) => {
            query = view.query_parameter(name.as_bytes());
            query.as_deref()
        }
        HashBy::Path => Some(view.path()),
        HashBy::SourceAddress | HashBy::SourceAddressPort => None,
    };
    route.hash_by.flow(&pool.hash_key(), session.peer, found)
}

/// How an attempt at an endpoint failed before any byte of a response.
enum Failed {
    /// Nobody was reached: another endpoint may be tried at no charge.
    Dial(DialError),
    /// The endpoint closed or reset.
    Closed,
    /// Its answer broke the protocol.
    Malformed(Reject),
    Late,
    /// The client's body ended the exchange.
    Body(Stop),
    BodyLate,
    /// The client reset.
    ClientGone,
}

async fn forward(session: &mut Session, scratch: &mut Scratch, facts: &mut Facts<'_>, task: Task<'_>) -> Step {
    session.mode.with_budget(task.pool.id, |budget| budget.request());
    let mut tries = Tries::default();
    let mut last = None;
    let mut stale = None;
    let mut retries = 0;
    loop {
        // Where no other endpoint is left, one that closed a kept connection gets the request on a fresh one.
        let other = tries.pick(&session.worker, task.pool, task.hash);
        let fresh = other.is_none();
        let Some(Picked { endpoint, in_flight }) = other.or_else(|| stale.take()) else {
            let reason = last.unwrap_or_else(|| tries.reason());
            return unserved(session, task.service, facts, reason, &task.ask).await;
        };
        if fresh {
            task.pool.cells.row(session.worker.id).retries.one();
        }
        facts.tries += 1;
        facts.endpoint = task.service.spec.access.is_some().then(|| endpoint.clone());
        let mut attempt = Attempt::new(session, &task, facts, fresh);
        let failed = match attempt.run(session, scratch, facts, &task, &endpoint).await {
            Ok(step) => return step,
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
                last = Some(Reason::UpstreamClosed);
                if again && task.ask.idempotent && retries < task.l7.spec.retries {
                    if session.mode.with_budget(task.pool.id, |budget| budget.retry(now())) {
                        retries += 1;
                        stale = reused.then_some(Picked { endpoint, in_flight });
                        continue;
                    }
                    Reason::RetryBudget
                } else {
                    Reason::UpstreamClosed
                }
            }
            Failed::Malformed(reject) => {
                cells.error(UpstreamError::Malformed);
                respond::tell_malformed(&endpoint, reject);
                Reason::UpstreamMalformed
            }
            Failed::Late => {
                cells.error(UpstreamError::ResponseTimeout);
                Reason::ResponseTimeout
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

/// One endpoint being given one request.
pub(super) struct Attempt {
    pub(super) upload: Upload,
    /// Bytes of the input that are this request's: its head, and what of its body came with it.
    pub(super) used: usize,
    /// The request may have reached the endpoint's application.
    sent: bool,
    /// By a new connection only: whatever closed one kept connection may have closed them all.
    fresh: bool,
    /// The connection was a kept one.
    reused: bool,
    /// Some byte of an answer has come.
    answered: bool,
    /// The client waits to be told to send its body.
    expected: bool,
}

impl Attempt {
    fn new(session: &Session, task: &Task<'_>, facts: &Facts<'_>, fresh: bool) -> Attempt {
        let most = task.service.spec.limits.max_body_bytes;
        let upload = Upload::new(task.ask.body, most, session.worker.buffers.clone(), facts.began);
        let expected = task.ask.expect_continue;
        Attempt { upload, used: facts.head_length, sent: false, fresh, reused: false, answered: false, expected }
    }

    /// Whether the same request can be sent once more: it is all here still, and nothing has been answered to it.
    fn can_repeat(&self) -> bool {
        !self.answered && (!self.sent || !self.upload.is_consumed())
    }

    fn payload(&self) -> u64 {
        self.upload.payload()
    }

    async fn run(
        &mut self,
        session: &mut Session,
        scratch: &mut Scratch,
        facts: &mut Facts<'_>,
        task: &Task<'_>,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Step, Failed> {
        let kept = if self.fresh { None } else { session.mode.store.take(endpoint) };
        self.reused = kept.is_some();
        let mut upstream = match kept {
            Some(kept) => kept,
            None => connect(session, task, endpoint).await.map_err(Failed::Dial)?,
        };
        endpoint.cells.row(session.worker.id).requests.one();
        // The common case, a kept connection at the first try, needs no other look at the clock.
        let began = if self.reused && facts.tries == 1 { facts.began } else { now() };
        self.send_head(session, scratch, facts, task, &mut upstream).await?;
        let mut answer = session.worker.buffers.parked(upstream.bulk);
        let mut interims = 0;
        let length = loop {
            let length = self.response_head(session, scratch, task, &mut upstream, &mut answer).await?;
            let view = scratch.parsed.response.view(answer.bytes().get(..length).unwrap_or_default());
            if !view.interim() {
                let answered = now();
                // From the request's end: how long the client took to send it says nothing of the endpoint.
                if self.upload.is_finished() {
                    endpoint.load.observe(answered.since(self.upload.finished_at().unwrap_or(began)), answered);
                }
                task.pool.cells.row(session.worker.id).response_duration.observe(answered.since(began));
                break length;
            }
            interims += 1;
            if interims > limits::INTERIM_RESPONSES {
                return Err(Failed::Malformed(Reject::TooManyInterim));
            }
            if task.ask.version == http1::Version::Http11 {
                let proceed = view.status() == 100;
                respond::interim(session, scratch, task, &answer, length).await.map_err(|_| Failed::ClientGone)?;
                if proceed {
                    self.expected = false;
                    self.upload.restart(now());
                }
            }
            answer.consume(length);
        };
        Ok(respond::relay(session, scratch, facts, task, self, upstream, answer, length).await)
    }

    /// Sends the head and as much of the body as came with it, in one write.
    async fn send_head(
        &mut self,
        session: &mut Session,
        scratch: &mut Scratch,
        facts: &Facts<'_>,
        task: &Task<'_>,
        upstream: &mut Upstream,
    ) -> Result<(), Failed> {
        let Scratch { input, parsed } = scratch;
        parsed.out.clear();
        parsed.extra.clear();
        let head = input.bytes().get(..facts.head_length).unwrap_or_default();
        let view = parsed.request.view(head);
        let trusted = task.l7.spec.trusted_proxies.iter().any(|network| network.contains(session.peer.ip()));
        let drop = fields::identity(&mut parsed.extra, &view, session.peer, trusted);
        http1::forward(&mut parsed.out, &view, &Forward { drop, extra: &parsed.extra, ..Forward::of(&view) });
        if !task.ask.body.is_empty() {
            let body = input.bytes_mut().get_mut(facts.head_length..).unwrap_or_default();
            let used = self.upload.begin(body, &mut parsed.out).map_err(Failed::Body)?;
            self.used = facts.head_length + used;
        }
        self.sent = true;
        let parts = &mut [IoSlice::new(&parsed.out)];
        let wrote = write_all(&mut upstream.stream, &session.deadline, task.timeouts().response, parts).await;
        if wrote.is_err() {
            // It may have answered before it closed: the read that follows tells.
            self.upload.stop();
        }
        Ok(())
    }

    /// Waits for a whole response head in `answer`, while the request's body goes on its way. Its length.
    async fn response_head(
        &mut self,
        session: &mut Session,
        scratch: &mut Scratch,
        task: &Task<'_>,
        upstream: &mut Upstream,
        answer: &mut Buffer,
    ) -> Result<usize, Failed> {
        scratch.parsed.response.clear();
        let timeouts = *task.timeouts();
        let mut stage = Stage::Fresh;
        loop {
            if !answer.is_empty() {
                match scratch.parsed.response.parse(answer.bytes(), task.ask.asked) {
                    Ok(Progress::Complete(length)) => return Ok(length),
                    Ok(Progress::Partial) => {}
                    Err(reject) => return Err(Failed::Malformed(reject)),
                }
            }
            make_room(answer);
            let input = &mut scratch.input;
            let read = std::future::poll_fn(|cx| {
                self.poll_client(session, input, upstream, cx)?;
                if let Poll::Ready(read) = poll_read_parked(&mut upstream.stream, answer, cx) {
                    return Poll::Ready(Ok(read.unwrap_or(0)));
                }
                self.arm(session, &timeouts, &mut stage);
                session.deadline.poll_expired(cx).map(|_| Err(stage.late()))
            });
            if read.await? == 0 {
                return Err(Failed::Closed);
            }
            self.answered = true;
        }
    }

    /// Moves the body on, or watches the client for a reset when there is none.
    fn poll_client(
        &mut self,
        session: &mut Session,
        input: &mut Buffer,
        upstream: &mut Upstream,
        cx: &mut std::task::Context<'_>,
    ) -> Result<(), Failed> {
        if self.upload.is_running() {
            return match self.upload.poll(&mut session.stream, &mut upstream.stream, cx) {
                Poll::Ready(Err(Stop::EndpointClosed)) => {
                    self.upload.stop();
                    Ok(())
                }
                Poll::Ready(Err(stop)) => Err(Failed::Body(stop)),
                Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
            };
        }
        // Behind a streamed body the next request stands in another buffer: what came after would be read out of order.
        if session.half_closed || self.upload.has_rest() || input.room().is_empty() {
            return Ok(());
        }
        match poll_read(&mut session.stream, input, cx) {
            // It will send no more, but it may still read: the answer is delivered.
            Poll::Ready(Ok(0)) => {
                session.half_closed = true;
                Ok(())
            }
            Poll::Ready(Err(_)) => Err(Failed::ClientGone),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }

    /// Sets the deadline when what is waited for has changed: more of the client's body, its way into the endpoint, or the
    /// answer to all of it.
    fn arm(&self, session: &Session, timeouts: &Timeouts, stage: &mut Stage) {
        let waiting = match (self.upload.untaken(), self.upload.wants_more(), self.upload.payload()) {
            (Some(left), _, payload) => Stage::Taking(payload, left),
            // The client sends when the endpoint says so: until then it is the endpoint's time.
            (None, true, 0) if self.expected => Stage::Answer,
            (None, true, payload) => Stage::Body(payload),
            (None, false, _) => Stage::Answer,
        };
        if waiting == *stage {
            return;
        }
        *stage = waiting;
        let coarse = session.worker.timers.coarse_now();
        session.deadline.set(match waiting {
            Stage::Body(_) => self.upload.due(coarse, timeouts.body),
            _ => coarse + timeouts.response,
        });
    }
}

/// What the deadline stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    /// More of the body, after this much payload.
    Body(u64),
    /// The endpoint's reading of what came: payload so far, and bytes that it has yet to take.
    Taking(u64, usize),
    Answer,
}

impl Stage {
    fn late(self) -> Failed {
        match self {
            Stage::Body(_) => Failed::BodyLate,
            Stage::Fresh | Stage::Taking(..) | Stage::Answer => Failed::Late,
        }
    }
}

/// A new connection to the endpoint.
async fn connect(session: &Session, task: &Task<'_>, endpoint: &Arc<Endpoint>) -> Result<Upstream, DialError> {
    let connection = upstream::connect(&session.worker, task.pool, endpoint, &session.deadline).await?;
    Ok(Upstream { stream: connection.stream, opened: connection.opened, endpoint: endpoint.clone(), bulk: false })
}
