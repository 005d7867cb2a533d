//! Shell: the request's body on its way from client to endpoint, polled beside whatever the exchange waits for.
//!
//! Back-pressure: a client is read only when what it sent before has been taken by the endpoint. Payload is re-framed, never
//! the framing that came (`wire/http1`).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

use super::io::poll_read;
use crate::base::{Moment, clock, limits};
use crate::net::{Buffer, Buffers};
use crate::wire::http1::{self, Body, Decoder, Pieces, Reject};

/// Why the body cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The client closed or reset before the body's end (A23).
    ClientClosed,
    /// The client's framing is wrong.
    Malformed(Reject),
    /// More than the service allows.
    TooLarge,
    /// The endpoint takes no more. It may have answered: the exchange reads on.
    EndpointClosed,
}

pub(super) struct Upload {
    decoder: Decoder,
    pieces: Pieces,
    /// Framed bytes for the endpoint, and how many of them it has.
    out: Vec<u8>,
    sent: usize,
    /// Taken when more comes than came with the head; a body that is waited for holds none.
    buffer: Option<Buffer>,
    has_read: bool,
    buffers: Rc<Buffers>,
    chunked: bool,
    /// Payload so far, and the most there may be (0: any).
    payload: u64,
    most: u64,
    began: Moment,
    /// The endpoint does not take what came.
    blocked: bool,
    finished: bool,
    finished_at: Option<Moment>,
    stopped: bool,
}

impl Upload {
    pub(super) fn new(body: Body, most: u64, buffers: Rc<Buffers>, now: Moment) -> Upload {
        let decoder = Decoder::new(body);
        Upload {
            finished: decoder.is_done(),
            decoder,
            pieces: Pieces::default(),
            out: Vec::new(),
            sent: 0,
            buffer: None,
            has_read: false,
            buffers,
            chunked: body == Body::Chunked,
            payload: 0,
            most,
            began: now,
            blocked: false,
            finished_at: None,
            stopped: false,
        }
    }

    /// Everything the client sent as this body is with the endpoint.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Neither finished nor given up: there is something to poll.
    pub(super) fn is_running(&self) -> bool {
        !self.finished && !self.stopped
    }

    /// More is to come from the client.
    pub(super) fn wants_more(&self) -> bool {
        self.is_running() && !self.decoder.is_done()
    }

    /// Bytes that the endpoint would have to take before the client is read again.
    pub(super) fn untaken(&self) -> Option<usize> {
        let blocked = self.is_running() && self.blocked;
        blocked.then(|| self.out.len().saturating_sub(self.sent))
    }

    /// When the endpoint had the whole of a body that was streamed.
    pub(super) fn finished_at(&self) -> Option<Moment> {
        self.finished_at
    }

    /// The client's time begins now: before, it could not have sent.
    pub(super) fn restart(&mut self, now: Moment) {
        self.began = now;
    }

    /// No more of it is sent, and what was may not have arrived whole.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.finished = false;
    }

    pub(super) fn payload(&self) -> u64 {
        self.payload
    }

    /// Whether bytes came that are in no buffer any more: then the request cannot be sent again.
    pub(super) fn is_consumed(&self) -> bool {
        self.has_read || self.chunked && self.payload > 0
    }

    /// Whether bytes came behind the body.
    pub(super) fn has_rest(&self) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| !buffer.is_empty())
    }

    /// What came behind the body, for the next request.
    pub(super) fn take_rest(&mut self) -> Option<Buffer> {
        self.buffer.take().filter(|buffer| !buffer.is_empty())
    }

    /// Takes the body's bytes that came with the head; `out` gets them framed. Returns how many bytes of `input` they were.
    ///
    /// # Errors
    /// Malformed or too large.
    pub(super) fn begin(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Result<usize, Stop> {
        let used = self.decode(input)?;
        self.frame(input, out);
        self.finished = self.decoder.is_done();
        Ok(used)
    }

    /// When the client must have sent more: nothing for `stall`, or an average below the least rate, is too slow (F2).
    pub(super) fn due(&self, now: Moment, stall: Duration) -> Moment {
        let earned = Duration::from_millis(self.payload.saturating_mul(1000) / limits::BODY_BYTES_PER_SECOND);
        (now + stall).min(self.began + stall + earned)
    }

    /// Moves what can be moved. `Ready(Ok(()))` when finished; progress shows in `payload`.
    pub(super) fn poll(
        &mut self,
        client: &mut TcpStream,
        endpoint: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stop>> {
        loop {
            while self.sent < self.out.len() {
                let rest = self.out.get(self.sent..).unwrap_or_default();
                match Pin::new(&mut *endpoint).poll_write(cx, rest) {
                    Poll::Ready(Ok(n @ 1..)) => self.sent += n,
                    Poll::Ready(_) => return Poll::Ready(Err(Stop::EndpointClosed)),
                    Poll::Pending => {
                        self.blocked = true;
                        return Poll::Pending;
                    }
                }
            }
            if std::mem::take(&mut self.blocked) {
                self.restart(clock::now());
            }
            self.out.clear();
            self.sent = 0;
            if self.decoder.is_done() {
                self.finished = true;
                self.finished_at = Some(clock::now());
                return Poll::Ready(Ok(()));
            }
            let mut buffer = match self.buffer.take() {
                Some(buffer) => buffer,
                None => self.buffers.take_bulk(),
            };
            let outcome = match ready!(poll_read(client, &mut buffer, cx)) {
                Ok(1..) => self.advance(&mut buffer),
                _ => Err(Stop::ClientClosed),
            };
            self.has_read = true;
            self.buffer = Some(buffer);
            outcome?;
        }
    }

    fn advance(&mut self, buffer: &mut Buffer) -> Result<(), Stop> {
        let used = self.decode(buffer.bytes_mut())?;
        let mut out = std::mem::take(&mut self.out);
        self.frame(buffer.bytes(), &mut out);
        self.out = out;
        buffer.consume(used);
        Ok(())
    }

    fn decode(&mut self, input: &mut [u8]) -> Result<usize, Stop> {
        self.decoder.decode(input, &mut self.pieces).map_err(Stop::Malformed)?;
        self.payload = self.payload.saturating_add(self.pieces.total as u64);
        if self.most != 0 && self.payload > self.most {
            return Err(Stop::TooLarge);
        }
        Ok(self.pieces.consumed)
    }

    /// Appends what `decode` found in `input` as the endpoint is to read it.
    fn frame(&self, input: &[u8], out: &mut Vec<u8>) {
        if !self.chunked {
            self.pieces.slices(input).for_each(|piece| out.extend_from_slice(piece));
            return;
        }
        if self.pieces.total > 0 {
            out.extend_from_slice(http1::ChunkSize::new(self.pieces.total).as_bytes());
            self.pieces.slices(input).for_each(|piece| out.extend_from_slice(piece));
            out.extend_from_slice(b"\r\n");
        }
        if self.decoder.is_done() {
            http1::finish(out, Body::Chunked, self.decoder.trailers());
        }
    }
}
