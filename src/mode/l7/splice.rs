//! Shell: a long body of known length, from endpoint to client through a pipe: it never enters user space.
//!
//! Why: copying in and out is most of what a long body costs a proxy (`docs/performance.md`). Not here: chunked bodies and
//! those that end with the connection, whose framing must be read.

use std::io;
use std::task::{Poll, ready};

use tokio::io::Interest;

use super::attempt::Attempt;
use super::exchange::{Facts, Task};
use super::io::{WriteError, write_before, write_part};
use super::respond::Cut;
use super::session::Session;
use super::upstream::Upstream;
use crate::base::{Reason, limits};
use crate::net::Buffer;
use crate::observe::cells::UpstreamError;
use crate::sys::Pipe;
use crate::wire::http1::{Body, Decoder};

/// Whether what is left of a body should go this way: it is long, needs no framing, and nothing else needs attention.
pub(super) fn suits(decoder: &Decoder, body: Body, attempt: &Attempt) -> bool {
    matches!(body, Body::Length(_))
        && decoder.left().is_some_and(|left| left >= limits::SPLICE_BODY_BYTES)
        && attempt.upload.is_finished()
        && !attempt.upload.has_rest()
}

/// Writes `head`, then carries at most `left` bytes of payload; how many. Fewer than `left`: no pipe was to be had. What the
/// client sends meanwhile goes to `input`.
///
/// # Errors
/// Either side ended or stalled before that.
pub(super) async fn carry(
    session: &mut Session,
    input: &mut Buffer,
    facts: &mut Facts<'_>,
    task: &Task<'_>,
    upstream: &Upstream,
    head: &[u8],
    left: u64,
) -> Result<u64, Cut> {
    // What is here already leaves with the head.
    let mut filled = fill_now(session, upstream, left).ok().flatten();
    let more = filled.as_ref().is_some_and(|pipe| pipe.held() > 0);
    let stall = task.timeouts().client;
    write_before(&mut session.stream, &session.deadline, stall, head, more).await.map_err(cut)?;
    sent(session, facts, head.len());
    let mut carried = 0;
    loop {
        let mut pipe = match filled.take() {
            Some(pipe) => pipe,
            None => match fill(session, input, task, upstream, left - carried).await? {
                Some(pipe) => pipe,
                None => return Ok(carried),
            },
        };
        if pipe.held() == 0 {
            return Err(Cut::Endpoint(Reason::UpstreamTruncated, UpstreamError::Truncated));
        }
        carried += pipe.held() as u64;
        while pipe.held() > 0 {
            let write = || pipe.drain(&session.stream);
            let n = write_part(&session.stream, &session.deadline, stall, write).await.map_err(cut)?;
            sent(session, facts, n);
        }
        if carried == left {
            return Ok(carried);
        }
    }
}

/// Waits for payload. A pipe with nothing in it: the endpoint has ended; none: there is no pipe to be had.
async fn fill(
    session: &mut Session,
    input: &mut Buffer,
    task: &Task<'_>,
    upstream: &Upstream,
    left: u64,
) -> Result<Option<Pipe>, Cut> {
    session.deadline.set_in(task.timeouts().response);
    std::future::poll_fn(|cx| {
        loop {
            let outcome = match upstream.stream.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => fill_now(session, upstream, left),
                Poll::Ready(Err(error)) => Err(error),
                Poll::Pending => {
                    if session.poll_reset(input, cx).is_ready() {
                        return Poll::Ready(Err(Cut::Client(Reason::ClientClosed)));
                    }
                    ready!(session.deadline.poll_expired(cx));
                    let late = Cut::Endpoint(Reason::ResponseStalled, UpstreamError::ResponseTimeout);
                    return Poll::Ready(Err(late));
                }
            };
            return Poll::Ready(match outcome {
                Ok(pipe) => Ok(pipe),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => Err(Cut::Endpoint(Reason::UpstreamTruncated, UpstreamError::Reset)),
            });
        }
    })
    .await
}

/// What has come, if something has. A pipe is held only while there are bytes in it.
fn fill_now(session: &Session, upstream: &Upstream, left: u64) -> io::Result<Option<Pipe>> {
    let Some(mut pipe) = session.worker.pipes.take() else { return Ok(None) };
    let most = usize::try_from(left).unwrap_or(usize::MAX);
    let stream = &upstream.stream;
    stream.try_io(Interest::READABLE, || pipe.fill(stream, most)).map(|_| Some(pipe))
}

fn sent(session: &Session, facts: &mut Facts<'_>, n: usize) {
    facts.sent += n as u64;
    session.cells().bytes_sent.add(n as u64);
}

fn cut(error: WriteError) -> Cut {
    Cut::Client(error.reason())
}
