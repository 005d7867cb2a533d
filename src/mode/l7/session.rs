//! Shell: one client connection: what it keeps between requests, and how it waits, answers on its own and ends.
//!
//! ```text
//!            first byte                    request whole
//!  Idle ───────────────▶ reading a head ───────────────▶ exchange ──▶ Idle, reading a head (pipelined), or closed
//!   │ idle timeout, drain, end of stream                     └─ 101 ──▶ tunnel ──▶ closed
//!   ▼
//!  closed
//! ```
//!
//! Budget: an idle connection holds this struct, a task and a socket; no buffer (`benches/versus/http.sh` prints it).

use std::cell::Cell;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::io::{WriteError, poll_read, poll_read_parked, write_all};
use super::{Http, Scratch};
use crate::base::{Reason, ServiceId, limits};
use crate::net::accept::Place;
use crate::net::{Buffer, Deadline, Worker};
use crate::observe::ServiceCells;
use crate::state::{Service, Timeouts};
use crate::sys;
use crate::wire::http1::{self, Notice, Progress, Reject, Scheme};

pub(super) struct Session {
    pub(super) mode: Rc<Http>,
    pub(super) worker: Rc<Worker>,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) service: ServiceId,
    pub(super) deadline: Deadline,
    pub(super) place: Place,
    /// Requests begun on this connection.
    pub(super) served: u32,
    /// The client has ended its half: no more requests, but it may still read.
    pub(super) half_closed: bool,
    /// It idled, and was closed for want of descriptors or memory.
    pub(super) shed: bool,
}

/// What a connection does after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for a request; nothing has been read of one.
    Idle,
    /// Bytes of the next request are there already.
    Pipelined,
    Close,
}

/// Why no request head came.
pub(super) enum HeadEnd {
    /// Readiness was only assumed (tokio does so for accepted sockets): there is nothing to read yet.
    Nothing,
    /// The client left, between requests or within one.
    Closed,
    Late,
    Reject(Reject),
}

impl Session {
    pub(super) fn new(
        mode: Rc<Http>,
        stream: TcpStream,
        peer: SocketAddr,
        service: ServiceId,
        place: Place,
    ) -> Session {
        let worker = mode.worker.clone();
        let deadline = worker.timers.deadline();
        Session { mode, worker, stream, peer, service, deadline, place, served: 0, half_closed: false, shed: false }
    }

    pub(super) fn cells(&self) -> &ServiceCells {
        self.place.cells()
    }

    /// Whether this connection should take no more requests: the process drains, or the service was removed.
    pub(super) fn is_ending(&self) -> bool {
        self.worker.draining_since().is_some() || self.worker.snapshot().service(self.service).is_none()
    }

    /// Whether the answer under way is this connection's last.
    pub(super) fn is_last(&self, service: &Service) -> bool {
        let most = service.spec.limits.max_requests;
        self.is_ending() || most != 0 && self.served >= most
    }

    /// Waits for the first byte of a request. False: nothing came in time, and the connection should be closed.
    pub(super) async fn wait(&mut self) -> bool {
        let timeouts = self.timeouts();
        let patience = match (timeouts, self.served) {
            // A connection that never sends anything is not a kept-alive one.
            (Some(timeouts), 0) => timeouts.header,
            (Some(timeouts), _) => timeouts.idle,
            (None, _) => limits::DRAIN_IDLE_GRACE,
        };
        self.deadline.set_in(patience);
        let (mut leaving, mut shed) = (false, false);
        let came = std::future::poll_fn(|cx| {
            if self.stream.poll_read_ready(cx).is_ready() {
                return Poll::Ready(true);
            }
            if !leaving {
                shed = self.worker.sheds_one();
                leaving = shed || self.is_ending();
                if leaving {
                    // A request may be on its way: closing at once would lose it.
                    self.deadline.set_in(limits::DRAIN_IDLE_GRACE.min(patience));
                }
            }
            self.deadline.poll_expired(cx).map(|_| false)
        })
        .await;
        if shed && !came {
            self.shed = true;
            self.worker.crew.pressure.count_shed();
        }
        came
    }

    /// Waits a moment for the next request of a client that is busy, so that its exchange's memory is still warm. False:
    /// it is not, or everything ends; then [`Session::wait`] decides.
    pub(super) async fn wait_busy(&mut self) -> bool {
        let mode = self.mode.clone();
        let Some(_warm) = Warm::take(&mode.warm) else { return false };
        self.deadline.set_in(limits::BUSY_TIME);
        std::future::poll_fn(|cx| {
            if self.stream.poll_read_ready(cx).is_ready() {
                return Poll::Ready(true);
            }
            self.deadline.poll_expired(cx).map(|_| false)
        })
        .await
    }

    /// Reads until a whole request head stands in `scratch.input`; its length.
    pub(super) async fn read_head(&mut self, scratch: &mut Scratch, timeout: Duration) -> Result<usize, HeadEnd> {
        scratch.parsed.request.clear();
        // Of the head as a whole, not of its bytes: a slow client cannot buy time by dripping (F1).
        self.deadline.set_in(timeout);
        loop {
            if !scratch.input.is_empty() {
                match scratch.parsed.request.parse(scratch.input.bytes(), Scheme::Http) {
                    Ok(Progress::Complete(length)) => return Ok(length),
                    Ok(Progress::Partial) => {}
                    Err(reject) => return Err(HeadEnd::Reject(reject)),
                }
            }
            make_room(&mut scratch.input);
            let fresh = scratch.input.is_empty();
            let (stream, input) = (&mut self.stream, &mut scratch.input);
            let read = std::future::poll_fn(|cx| match poll_read_parked(stream, input, cx) {
                Poll::Pending if fresh => Poll::Ready(Err(HeadEnd::Nothing)),
                Poll::Ready(Ok(1..)) => Poll::Ready(Ok(())),
                Poll::Ready(_) => Poll::Ready(Err(HeadEnd::Closed)),
                Poll::Pending => Poll::Pending,
            });
            self.deadline.race(read).await.map_err(|_| HeadEnd::Late)??;
        }
    }

    /// Ready when the client has reset: nobody waits for the answer. What it sends meanwhile is kept in `input`, while that has
    /// room. Not to be called when the next request stands in another buffer: what came after would be read out of order.
    pub(super) fn poll_reset(&mut self, input: &mut Buffer, cx: &mut Context<'_>) -> Poll<()> {
        if self.half_closed || input.room().is_empty() {
            return Poll::Pending;
        }
        match poll_read(&mut self.stream, input, cx) {
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            // It will send no more, but it may still read: the answer is delivered.
            Poll::Ready(Ok(0)) => self.half_closed = true,
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
        Poll::Pending
    }

    /// Answers a request that is not forwarded, and says whether the connection lives on: only `keep` lets it.
    pub(super) async fn answer(&mut self, notice: &Notice<'_>, timeouts: &Timeouts) -> Result<u64, WriteError> {
        let mut out = Vec::with_capacity(256);
        notice.write(&mut out);
        self.cells().responses.count(notice.status);
        let length = out.len() as u64;
        write_all(&mut self.stream, &self.deadline, timeouts.client, &mut [IoSlice::new(&out)]).await?;
        self.cells().bytes_sent.add(length);
        Ok(length)
    }

    /// Closes so that the client can read what it was sent: ends our half, then reads away what it still sends, within
    /// bounds. Closing with unread bytes would reset the connection and take the answer with it.
    pub(super) async fn linger(mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let mut buffer = self.worker.buffers.take();
        let mut left = limits::EARLY_DRAIN_BYTES;
        self.deadline.set_in(limits::LINGER);
        let stream = &mut self.stream;
        let drained = std::future::poll_fn(|cx| {
            while left > 0 {
                match std::task::ready!(poll_read(stream, &mut buffer, cx)) {
                    Ok(n @ 1..) => {
                        left = left.saturating_sub(n as u64);
                        buffer.consume(n);
                    }
                    _ => break,
                }
            }
            Poll::Ready(())
        });
        // Either way the connection is closed now.
        let _ = self.deadline.race(drained).await;
    }

    /// Cuts the connection with a reset, so that the client cannot take what it has for the whole.
    pub(super) fn reset(self) {
        sys::socket::reset_on_close(&self.stream);
    }

    /// The service's timeouts as they are now; `None` when it was removed and has drained.
    pub(super) fn timeouts(&self) -> Option<Timeouts> {
        self.worker.snapshot_of(self.service)?.service(self.service).map(|service| service.spec.timeouts)
    }

    /// Counts a refusal by its reason.
    pub(super) fn drop_for(&self, reason: Reason) {
        self.cells().drop(reason);
    }
}

/// One of the places for exchanges that are kept warm.
struct Warm<'a>(&'a Cell<usize>);

impl Warm<'_> {
    fn take(warm: &Cell<usize>) -> Option<Warm<'_>> {
        let places = warm.get().checked_add(1).filter(|count| *count <= limits::WARM_EXCHANGES)?;
        warm.set(places);
        Some(Warm(warm))
    }
}

impl Drop for Warm<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Room behind what was read: to the front first, then a larger block.
pub(super) fn make_room(buffer: &mut Buffer) {
    if !buffer.is_empty() && buffer.room().is_empty() {
        buffer.compact();
        if buffer.room().is_empty() {
            // A head is bounded below the bulk size, so a full bulk buffer has been consumed from before this is called.
            buffer.grow();
        }
    }
}

/// The reason shown to clients, where the service allows it.
pub(super) fn shown(service: &Service, word: &'static str) -> Option<&'static str> {
    match &service.traffic {
        crate::state::Traffic::L7(l7) if l7.spec.reason_field => Some(word),
        _ => None,
    }
}

/// Names the protocol of a request for logs.
pub(super) const fn protocol(version: http1::Version) -> &'static str {
    match version {
        http1::Version::Http10 => "HTTP/1.0",
        http1::Version::Http11 => "HTTP/1.1",
    }
}
