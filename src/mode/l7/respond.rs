//! Shell: the answer's way from endpoint to client, the request's body still going the other way where it has to.

use std::io::IoSlice;
use std::task::Poll;

use smallvec::SmallVec;

use super::Scratch;
use super::attempt::Attempt;
use super::exchange::{Facts, Step, Task, Tunnel};
use super::io::{WriteError, poll_read_parked, write_all};
use super::session::{Next, Session, make_room};
use super::splice;
use super::upload::Stop;
use super::upstream::Upstream;
use crate::base::{Reason, limits};
use crate::net::Buffer;
use crate::observe::cells::UpstreamError;
use crate::state::{Endpoint, Timeouts};
use crate::wire::http1::{self, Body, Decoder, Names, Pieces, Reject, Reply};

/// Payload up to this is copied behind the head, so that a small answer is one plain write.
const COPY_BYTES: usize = 8 * 1024;

/// Sends an interim response on. It is built apart from `out`, which holds nothing now.
pub(super) async fn interim(
    session: &mut Session,
    scratch: &mut Scratch,
    task: &Task<'_>,
    answer: &Buffer,
    length: usize,
) -> Result<(), WriteError> {
    let view = scratch.parsed.response.view(answer.bytes().get(..length).unwrap_or_default());
    scratch.parsed.out.clear();
    http1::interim(&mut scratch.parsed.out, &view, Names::NONE);
    let out = &scratch.parsed.out;
    session.cells().bytes_sent.add(out.len() as u64);
    write_all(&mut session.stream, &session.deadline, task.timeouts().client, &mut [IoSlice::new(out)]).await
}

/// Relays the final response whose head is the first `length` bytes of `answer`, and says what becomes of both connections.
#[allow(clippy::too_many_arguments, reason = "the two halves of one exchange; a struct of borrows would say no more")]
pub(super) async fn relay(
    session: &mut Session,
    scratch: &mut Scratch,
    facts: &mut Facts<'_>,
    task: &Task<'_>,
    attempt: &mut Attempt,
    mut upstream: Upstream,
    mut answer: Buffer,
    length: usize,
) -> Step {
    let parsed = &mut scratch.parsed;
    let view = parsed.response.view(answer.bytes().get(..length).unwrap_or_default());
    let (status, came, endpoint_keeps) = (view.status(), view.body(), view.keep_alive());
    facts.status = status;
    let body = Reply::body(came, task.ask.version);
    // An answer before the request's end: the rest of the body has nowhere useful to go (A28, A29).
    let early = !attempt.upload.is_finished();
    let more = scratch.input.len() > attempt.used;
    let held = task.ask.asked.upgrade && status != 101 && more;
    // A client that has ended its half is still owed an answer to what it sent before.
    let last = session.is_last(task.service) || session.half_closed && !more;
    let keep_alive = task.ask.keep_alive && !early && !held && body != Body::UntilClose && !last;
    parsed.out.clear();
    http1::reply(
        &mut parsed.out,
        &view,
        &Reply { drop: Names::NONE, extra: b"", body, version: task.ask.version, keep_alive },
    );
    answer.consume(length);
    session.cells().responses.count(status);
    if status == 101 {
        return switch(session, scratch, facts, task, upstream, answer).await;
    }
    let mut decoder = Decoder::new(came);
    let relayed = stream(session, scratch, facts, task, attempt, &mut upstream, &mut answer, &mut decoder, body).await;
    facts.received += attempt.upload.payload();
    match relayed {
        Ok(()) => {}
        Err(Cut::Client(reason)) => {
            session.drop_for(reason);
            facts.why = Some(reason.word());
            return Step::Reset;
        }
        Err(Cut::Endpoint(reason, error)) => {
            upstream.endpoint.cells.row(session.worker.id).error(error);
            session.drop_for(reason);
            facts.why = Some(reason.word());
            return Step::Reset;
        }
        Err(Cut::Malformed(reject)) => {
            upstream.endpoint.cells.row(session.worker.id).error(UpstreamError::Malformed);
            tell_malformed(&upstream.endpoint, reject);
            session.drop_for(Reason::UpstreamMalformed);
            facts.why = Some(Reason::UpstreamMalformed.word());
            return Step::Reset;
        }
    }
    let finished = attempt.upload.is_finished();
    // Reuse is earned: both messages whole, nothing more was read (A32), no two opinions on whether this is a tunnel (A30).
    let in_the_way = upstream.endpoint.queue.is_in_the_way(session.worker.id);
    if endpoint_keeps && finished && answer.is_empty() && !held && !in_the_way {
        session.mode.store.put(upstream, session.worker.timers.coarse_now());
    }
    if !keep_alive {
        return if session.half_closed { Step::Next(Next::Close) } else { Step::Linger };
    }
    facts.used = attempt.used;
    facts.rest = attempt.upload.take_rest();
    Step::Next(Next::Idle)
}

/// Sends the 101 on; from there on both connections are one tunnel.
async fn switch(
    session: &mut Session,
    scratch: &mut Scratch,
    facts: &mut Facts<'_>,
    task: &Task<'_>,
    upstream: Upstream,
    answer: Buffer,
) -> Step {
    let out = &scratch.parsed.out;
    facts.sent += out.len() as u64;
    session.cells().bytes_sent.add(out.len() as u64);
    let client = task.timeouts().client;
    match write_all(&mut session.stream, &session.deadline, client, &mut [IoSlice::new(out)]).await {
        Ok(()) => {
            let Timeouts { tunnel, half_close, .. } = *task.timeouts();
            Step::Tunnel(Box::new(Tunnel { upstream, answer, idle: tunnel, half_close, seat: None }))
        }
        Err(error) => {
            let reason = error.reason();
            session.drop_for(reason);
            facts.why = Some(reason.word());
            Step::Next(Next::Close)
        }
    }
}

/// Which rule an endpoint's answer broke: the drop is counted as `upstream-malformed`, the rule is for whoever looks closer.
pub(super) fn tell_malformed(endpoint: &Endpoint, reject: Reject) {
    tracing::debug!(endpoint = %endpoint.name, rule = reject.word(), "malformed response");
}

/// Why a response could not be relayed to its end.
pub(super) enum Cut {
    Client(Reason),
    Endpoint(Reason, UpstreamError),
    Malformed(Reject),
}

/// Writes the head that stands in `out` and the body behind it.
#[allow(clippy::too_many_arguments, reason = "the two halves of one exchange; a struct of borrows would say no more")]
async fn stream(
    session: &mut Session,
    scratch: &mut Scratch,
    facts: &mut Facts<'_>,
    task: &Task<'_>,
    attempt: &mut Attempt,
    upstream: &mut Upstream,
    answer: &mut Buffer,
    decoder: &mut Decoder,
    body: Body,
) -> Result<(), Cut> {
    let mut truncated = false;
    loop {
        let parsed = &mut scratch.parsed;
        let malformed = decoder.decode(answer.bytes_mut(), &mut parsed.pieces).err();
        if truncated && !decoder.is_done() && malformed.is_none() {
            decoder
                .finish_at_close()
                .map_err(|_| Cut::Endpoint(Reason::UpstreamTruncated, UpstreamError::Truncated))?;
        }
        let long = malformed.is_none() && splice::suits(decoder, body, attempt);
        if long && parsed.pieces.total <= COPY_BYTES {
            parsed.pieces.slices(answer.bytes()).for_each(|piece| parsed.out.extend_from_slice(piece));
        } else {
            facts.sent += write_pieces(session, &mut parsed.out, &parsed.pieces, answer, decoder, body, task).await?;
        }
        if let Some(reject) = malformed {
            return Err(Cut::Malformed(reject));
        }
        answer.consume(parsed.pieces.consumed);
        if long {
            answer.park();
            let left = decoder.left().unwrap_or(0);
            let carried = splice::carry(session, &mut scratch.input, facts, task, upstream, &parsed.out, left).await?;
            decoder.skip(carried);
            parsed.out.clear();
        }
        if decoder.is_done() {
            return Ok(());
        }
        grow(answer, decoder, upstream);
        truncated = read_on(session, &mut scratch.input, task, attempt, upstream, answer).await? == 0;
    }
}

/// A transfer that fills small buffers gets a large one; the next response of this connection begins with it.
fn grow(answer: &mut Buffer, decoder: &Decoder, upstream: &mut Upstream) {
    let long = decoder.left().is_none_or(|left| left > limits::BUFFER_START_BYTES as u64);
    if long && answer.is_empty() && answer.grow() {
        upstream.bulk = true;
    }
    make_room(answer);
}

/// Writes what one read brought: the head if it stands in `out`, payload, chunk framing. Bytes written.
async fn write_pieces(
    session: &mut Session,
    out: &mut Vec<u8>,
    pieces: &Pieces,
    answer: &Buffer,
    decoder: &Decoder,
    body: Body,
    task: &Task<'_>,
) -> Result<u64, Cut> {
    let chunked = body == Body::Chunked;
    if chunked && pieces.total > 0 {
        out.extend_from_slice(http1::ChunkSize::new(pieces.total).as_bytes());
    }
    let mut tail = SmallVec::<[u8; 64]>::new();
    if chunked && pieces.total > 0 {
        tail.extend_from_slice(b"\r\n");
    }
    if chunked && decoder.is_done() {
        tail.extend_from_slice(b"0\r\n");
        tail.extend_from_slice(decoder.trailers());
        tail.extend_from_slice(b"\r\n");
    }
    let total = out.len() + pieces.total + tail.len();
    if total == 0 {
        return Ok(0);
    }
    let client = task.timeouts().client;
    let wrote = if pieces.total <= COPY_BYTES {
        pieces.slices(answer.bytes()).for_each(|piece| out.extend_from_slice(piece));
        out.extend_from_slice(&tail);
        write_all(&mut session.stream, &session.deadline, client, &mut [IoSlice::new(out)]).await
    } else {
        let mut parts: SmallVec<[IoSlice<'_>; 20]> = SmallVec::new();
        // An empty part would make a plain write a vectored one.
        let around = |part: &'_ [u8]| !part.is_empty();
        parts.extend(Some(&**out).filter(|part| around(part)).map(IoSlice::new));
        parts.extend(pieces.slices(answer.bytes()).map(IoSlice::new));
        parts.extend(Some(&*tail).filter(|part| around(part)).map(IoSlice::new));
        write_all(&mut session.stream, &session.deadline, client, &mut parts).await
    };
    out.clear();
    match wrote {
        Ok(()) => {
            session.cells().bytes_sent.add(total as u64);
            Ok(total as u64)
        }
        Err(error) => Err(Cut::Client(error.reason())),
    }
}

/// Reads more of the answer, moving the request's body on meanwhile, or seeing the client reset. 0 is the end of the stream.
async fn read_on(
    session: &mut Session,
    input: &mut Buffer,
    task: &Task<'_>,
    attempt: &mut Attempt,
    upstream: &mut Upstream,
    answer: &mut Buffer,
) -> Result<usize, Cut> {
    let mut armed = false;
    std::future::poll_fn(|cx| {
        if attempt.upload.is_running() {
            match attempt.upload.poll(&mut session.stream, &mut upstream.stream, cx) {
                // What the endpoint does not want, or the client does not send, no longer matters: the answer does.
                Poll::Ready(Err(Stop::ClientClosed)) => {
                    attempt.upload.stop();
                    session.half_closed = true;
                }
                Poll::Ready(Err(stop)) => {
                    match stop {
                        Stop::Malformed(reject) => session.cells().reject(reject),
                        Stop::TooLarge => session.drop_for(Reason::BodyTooLarge),
                        Stop::EndpointClosed | Stop::ClientClosed => {}
                    }
                    attempt.upload.stop();
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        match poll_read_parked(&mut upstream.stream, answer, cx) {
            Poll::Ready(Ok(n)) => return Poll::Ready(Ok(n)),
            Poll::Ready(Err(_)) => {
                return Poll::Ready(Err(Cut::Endpoint(Reason::UpstreamTruncated, UpstreamError::Reset)));
            }
            Poll::Pending => {}
        }
        let watched = !attempt.upload.is_running() && !attempt.upload.has_rest();
        if watched && session.poll_reset(input, cx).is_ready() {
            return Poll::Ready(Err(Cut::Client(Reason::ClientClosed)));
        }
        if !armed {
            armed = true;
            session.deadline.set_in(task.timeouts().response);
        }
        let stalled = || Err(Cut::Endpoint(Reason::ResponseStalled, UpstreamError::ResponseTimeout));
        session.deadline.poll_expired(cx).map(|_| stalled())
    })
    .await
}
