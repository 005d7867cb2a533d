//! Shell: one endpoint being given one request: connect or reuse, send, wait for a response head, the request's body going
//! up meanwhile.
//!
//! It says how it failed and whether the same request can be sent again. Whether it is, and where, is `exchange`'s.

use std::io::IoSlice;
use std::sync::Arc;
use std::task::Poll;

use super::Scratch;
use super::exchange::{Facts, Step, Task};
use super::io::{poll_read_parked, write_all};
use super::respond;
use super::session::{Session, make_room};
use super::upload::{Stop, Upload};
use super::upstream::Upstream;
use crate::base::{clock, limits};
use crate::health::Health;
use crate::net::routed::Routed;
use crate::net::upstream::{self, Found, Picked, Tries};
use crate::net::{Buffer, DialError};
use crate::state::{Endpoint, Pool, Timeouts};
use crate::wire::http1::{self, Progress, Reject};

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
    pub(super) reused: bool,
    /// Some byte of an answer has come.
    answered: bool,
    /// The client waits to be told to send its body.
    expected: bool,
    /// Repeating does no harm, and may be done: nobody need wait for an endpoint that probes find down meanwhile.
    may_leave: bool,
    /// It was found down, and not up since: one in maintenance is probed no more.
    stranded: bool,
}

/// How an attempt at an endpoint failed before any byte of a response.
pub(super) enum Failed {
    /// Nobody was reached: another endpoint may be tried at no charge.
    Dial(DialError),
    /// The endpoint closed or reset.
    Closed,
    /// Its answer broke the protocol.
    Malformed(Reject),
    Late,
    /// Probes found it down while its answer was waited for, and there is a place at another. The budget is paid.
    WentDown(Picked),
    /// The client's body ended the exchange.
    Body(Stop),
    BodyLate,
    /// The client reset.
    ClientGone,
}

impl Attempt {
    pub(super) fn new(session: &Session, task: &Task<'_>, facts: &Facts<'_>, fresh: bool) -> Attempt {
        let most = task.service.spec.limits.max_body_bytes;
        let upload = Upload::new(task.ask.body, most, session.worker.buffers.clone(), facts.began);
        let expected = task.ask.expect_continue;
        let used = facts.head_length;
        Attempt {
            upload,
            used,
            sent: false,
            fresh,
            reused: false,
            answered: false,
            expected,
            may_leave: false,
            stranded: false,
        }
    }

    /// A place at another endpoint, where probes have found this one down and repeating does no harm. While there is none, it is looked
    /// again at each tick: somebody may be usable by then, or have room, and the budget may have something for it.
    fn leaves(&mut self, session: &Session, task: &Task<'_>, endpoint: &Endpoint, tries: &mut Tries) -> Option<Picked> {
        self.stranded = match endpoint.status().health {
            Health::Down => true,
            Health::Up => false,
            Health::Probing | Health::Ejected => self.stranded,
        };
        if !self.stranded || !self.may_leave || !self.can_repeat() || tries.are_used_up() {
            return None;
        }
        // A reload may have brought somebody.
        let mut pool = Routed::to(task.pool);
        pool.follow(&session.worker);
        let picked = place(session, task, &pool, tries);
        if picked.is_none() {
            session.deadline.look_at_tick();
        }
        picked
    }

    /// Whether the same request can be sent once more: it is all here still, and nothing has been answered to it.
    pub(super) fn can_repeat(&self) -> bool {
        !self.answered && (!self.sent || !self.upload.is_consumed())
    }

    /// Does not wait for an endpoint that has gone down, where another could answer.
    #[must_use]
    pub(super) fn may_leave(mut self, may: bool) -> Attempt {
        self.may_leave = may;
        self
    }

    pub(super) fn payload(&self) -> u64 {
        self.upload.payload()
    }

    pub(super) async fn run(
        &mut self,
        session: &mut Session,
        scratch: &mut Scratch,
        facts: &mut Facts<'_>,
        task: &Task<'_>,
        endpoint: &Arc<Endpoint>,
        tries: &mut Tries,
    ) -> Result<Step, Failed> {
        let kept = if self.fresh { None } else { session.mode.store.take(endpoint) };
        self.reused = kept.is_some();
        let mut upstream = match kept {
            Some(kept) => kept,
            None => connect(session, task, endpoint).await.map_err(Failed::Dial)?,
        };
        endpoint.cells.row(session.worker.id).requests.one();
        // The common case, a kept connection at the first try, needs no other look at the clock.
        let began = if self.reused && facts.tries == 1 { facts.began } else { clock::now() };
        self.send_head(session, scratch, facts, task, &mut upstream).await?;
        let mut answer = session.worker.buffers.parked(upstream.bulk);
        let mut interims = 0;
        let length = loop {
            let length = self.response_head(session, scratch, task, &mut upstream, &mut answer, tries).await?;
            let view = scratch.parsed.response.view(answer.bytes().get(..length).unwrap_or_default());
            if !view.interim() {
                let answered = clock::now();
                // From the request's end: how long the client took to send it says nothing of the endpoint.
                if self.upload.is_finished() {
                    endpoint.load.observe(answered.since(self.upload.finished_at().unwrap_or(began)), answered);
                }
                task.pool.cells.row(session.worker.id).response_duration.observe(answered.since(began));
                if task.pool.spec.outlier.gateway_errors && matches!(view.status(), 502..=504) {
                    upstream::failed(&session.worker, task.pool, endpoint);
                } else {
                    endpoint.answered(session.worker.id);
                }
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
                    self.upload.restart(clock::now());
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
        let head = input.bytes().get(..facts.head_length).unwrap_or_default();
        let view = parsed.request.view(head);
        task.l7.forward(&view, session.peer, &mut parsed.extra, &mut parsed.out);
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
        tries: &mut Tries,
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
                if let Some(picked) = self.leaves(session, task, &upstream.endpoint, tries) {
                    return Poll::Ready(Err(Failed::WentDown(picked)));
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
        if !self.upload.has_rest() && session.poll_reset(input, cx).is_ready() {
            return Err(Failed::ClientGone);
        }
        Ok(())
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

/// A place for a request that waits at an endpoint that is down, and that the budget has something for.
fn place(session: &Session, task: &Task<'_>, pool: &Pool, tries: &mut Tries) -> Option<Picked> {
    // It gives requests to those that are down, for the others may be no better.
    if pool.view().panic {
        return None;
    }
    session.mode.with_budget(pool.id, |budget| {
        if !budget.spare(clock::now()) {
            return None;
        }
        match tries.pick(&session.worker, pool, task.hash, |endpoint| session.mode.store.has(endpoint)) {
            Found::Picked(picked) => Some(picked),
            Found::Full { .. } | Found::Nobody => {
                budget.give_back();
                None
            }
        }
    })
}

/// A new connection to the endpoint.
async fn connect(session: &Session, task: &Task<'_>, endpoint: &Arc<Endpoint>) -> Result<Upstream, DialError> {
    let connection = upstream::connect(&session.worker, task.pool, endpoint, &session.deadline).await?;
    Ok(Upstream { stream: connection.stream, opened: connection.opened, endpoint: endpoint.clone(), bulk: false })
}
