//! Io: bytes both ways between a client and an endpoint until both have finished. Used by L4 and by upgraded HTTP.
//!
//! Each way reads only when it holds nothing, so a side that is not read is not read from, and memory is one buffer a way.
//! A FIN is passed on as a FIN once what came before it is delivered; the other way goes on. A reset is passed on as a
//! reset: cut must not look like finished (hardening F7–F10).
//!
//! Budget: no allocation in steady state, one read and one write for a small message; a way that waits holds neither buffer
//! nor pipe. Long flows are spliced (22 against 28 µs per 100 KB, `notes/floors.md` §1).
//!
//! ```text
//! Flowing ──FIN──▶ Finishing ──held delivered──▶ Finished        Flowing ──sink fails──▶ Refused
//!    ├────reset──▶ Failing ────held delivered──▶ (the relay ends)
//!    └─other way's sink fails──▶ Doomed ──FIN or reset──▶ Failing
//! ```

use std::cell::Cell;
use std::io;
use std::mem;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::buffer::Buffer;
use super::timer::Deadline;
use super::worker::Worker;
use crate::base::{Reason, limits};
use crate::observe::ServiceCells;
use crate::sys::{Pipe, reset_on_close};

#[cfg(test)]
mod tests;

/// A relay's surroundings: whose buffers, where bytes are counted as they pass, and how long it may be silent.
pub struct Relay<'a> {
    pub worker: &'a Worker,
    pub cells: &'a ServiceCells,
    /// Borrowed for the relay and cleared after it.
    pub deadline: &'a Deadline,
    /// Without a byte in either direction, while both halves are open.
    pub idle: Duration,
    /// The same once one half is closed.
    pub half_close: Duration,
}

/// How a relay ended, and what it carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub end: End,
    /// Bytes read from the client here: those read before the relay began were counted then.
    pub received: u64,
    /// Bytes written to the client here.
    pub sent: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides finished, and everything was delivered.
    Closed,
    ClientReset,
    /// The endpoint reset, or took no more while the client was still sending.
    EndpointReset,
    Idle,
}

impl Outcome {
    /// Why it ended otherwise than it should.
    pub const fn reason(&self) -> Option<Reason> {
        match self.end {
            End::Closed => None,
            End::ClientReset => Some(Reason::ClientClosed),
            End::EndpointReset if self.sent == 0 => Some(Reason::UpstreamClosed),
            End::EndpointReset => Some(Reason::UpstreamTruncated),
            End::Idle => Some(Reason::IdleTimeout),
        }
    }
}

impl Relay<'_> {
    /// Carries until both have finished, one has reset or nothing moves; then both are closed. `to_endpoint` and
    /// `to_client` were read before and go first.
    pub async fn run(
        self,
        client: TcpStream,
        endpoint: TcpStream,
        to_endpoint: Option<Buffer>,
        to_client: Option<Buffer>,
    ) -> Outcome {
        self.run_watched(client, endpoint, to_endpoint, to_client, &Cell::default()).await
    }

    /// The same, and `carried` says all along how many bytes were received and sent: the last word of a relay that is dropped.
    pub async fn run_watched(
        self,
        mut client: TcpStream,
        mut endpoint: TcpStream,
        to_endpoint: Option<Buffer>,
        to_client: Option<Buffer>,
        carried: &Cell<(u64, u64)>,
    ) -> Outcome {
        let (mut up, mut down) = (Way::new(to_endpoint), Way::new(to_client));
        self.deadline.set_in(self.idle);
        let end = self.carry(&mut client, &mut endpoint, &mut up, &mut down, carried).await;
        self.deadline.clear();
        if end != End::Closed {
            reset_on_close(&endpoint);
            // A client that has finished may still be reading what it was sent.
            if up.stage != Stage::Refused(Refused::SourceFinished) {
                reset_on_close(&client);
            }
        }
        Outcome { end, received: up.read, sent: down.written }
    }

    async fn carry(
        &self,
        client: &mut TcpStream,
        endpoint: &mut TcpStream,
        up: &mut Way,
        down: &mut Way,
        carried: &Cell<(u64, u64)>,
    ) -> End {
        let (mut client_read, client_write) = client.split();
        let (mut endpoint_read, endpoint_write) = endpoint.split();
        let mut client_fails = pin!(client_write.ready(Interest::ERROR));
        std::future::poll_fn(|cx| {
            let before = (up.progress(), down.progress());
            let (received, sent) = (up.read, down.written);
            let end = 'turn: {
                match up.poll(cx, &mut client_read, &endpoint_write, self.worker) {
                    Poll::Ready(Stop::SourceReset) => break 'turn Some(End::ClientReset),
                    // What the endpoint has said already is still the client's.
                    Poll::Ready(Stop::SinkGone(error)) => {
                        up.refuse();
                        down.doom(&error);
                    }
                    Poll::Pending => {}
                }
                match down.poll(cx, &mut endpoint_read, &client_write, self.worker) {
                    Poll::Ready(Stop::SourceReset) => break 'turn Some(End::EndpointReset),
                    Poll::Ready(Stop::SinkGone(_)) => break 'turn Some(End::ClientReset),
                    Poll::Pending => {}
                }
                match (up.stage, down.stage) {
                    (Stage::Finished, Stage::Finished) => break 'turn Some(End::Closed),
                    (Stage::Refused(_), Stage::Finished)
                        if up.discard(cx, &mut client_read, self.worker).is_ready() =>
                    {
                        break 'turn Some(End::EndpointReset);
                    }
                    _ => {}
                }
                // Where the client is not being read, only this tells that it is gone (F9).
                let unheard = up.stage != Stage::Flowing || !up.held.is_empty();
                (unheard && client_fails.as_mut().poll(cx).is_ready()).then_some(End::ClientReset)
            };
            self.cells.bytes_received.add(up.read - received);
            self.cells.bytes_sent.add(down.written - sent);
            carried.set((up.read, down.written));
            if let Some(end) = end {
                return Poll::Ready(end);
            }
            if before != (up.progress(), down.progress()) {
                let half = up.stage.is_over() || down.stage.is_over();
                self.deadline.set_in(if half { self.half_close } else { self.idle });
            }
            self.deadline.poll_expired(cx).map(|_| End::Idle)
        })
        .await
    }
}

/// One direction.
struct Way {
    stage: Stage,
    /// Read and not delivered yet.
    held: Held,
    read: u64,
    written: u64,
    /// A read has filled a small buffer: the next one gets a large one.
    bulk: bool,
    /// Total read from which on the kernel moves the bytes.
    splice_from: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Flowing,
    /// The source has reset, which a write to it found out; what it said before is still there to be read.
    Doomed,
    /// The source has finished.
    Finishing,
    /// The source has reset.
    Failing,
    /// The sink knows that the source has finished.
    Finished,
    /// The sink takes no more.
    Refused(Refused),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// The source may still send this much, to nowhere.
    Room(u64),
    SourceFinished,
}

enum Held {
    Nothing,
    Bytes(Buffer),
    Spliced(Pipe),
}

enum Stop {
    SourceReset,
    SinkGone(io::Error),
}

impl Stage {
    /// The source has no more.
    fn ended(self) -> Stage {
        // The write that found the reset has taken the socket's error with it, so reading shows a mere end.
        if self == Stage::Doomed { Stage::Failing } else { Stage::Finishing }
    }

    fn is_over(self) -> bool {
        matches!(self, Stage::Finished | Stage::Refused(_))
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        match self {
            Held::Nothing => true,
            Held::Bytes(buffer) => buffer.is_empty(),
            Held::Spliced(pipe) => pipe.held() == 0,
        }
    }
}

impl Way {
    fn new(first: Option<Buffer>) -> Way {
        let held = first.map_or(Held::Nothing, Held::Bytes);
        Way { stage: Stage::Flowing, held, read: 0, written: 0, bulk: false, splice_from: limits::SPLICE_AFTER_BYTES }
    }

    /// Differs from what it was whenever something happened.
    fn progress(&self) -> (u64, u64, bool) {
        (self.read, self.written, self.stage.is_over())
    }

    /// The sink takes no more: what is held has nowhere to go.
    fn refuse(&mut self) {
        self.stage = Stage::Refused(Refused::Room(limits::REFUSED_BYTES));
        self.held = Held::Nothing;
    }

    /// Writing to this way's source failed. A broken pipe means that it had finished before, and reading will show that.
    fn doom(&mut self, error: &io::Error) {
        if self.stage == Stage::Flowing && error.kind() != io::ErrorKind::BrokenPipe {
            self.stage = Stage::Doomed;
        }
    }

    /// Delivers and reads in turns. `Pending` also once nothing is left to do this way.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut ReadHalf, to: &WriteHalf, worker: &Worker) -> Poll<Stop> {
        for _ in 0..limits::RELAY_TURN {
            if let Err(error) = ready!(self.deliver(cx, to)) {
                return Poll::Ready(Stop::SinkGone(error));
            }
            match self.stage {
                Stage::Flowing | Stage::Doomed => ready!(self.receive(cx, from, worker)),
                Stage::Finishing => {
                    self.held = Held::Nothing;
                    self.stage = Stage::Finished;
                    // Fails only when the sink has reset; reading from it says so.
                    let _ = SockRef::from(to.as_ref()).shutdown(Shutdown::Write);
                }
                Stage::Failing => return Poll::Ready(Stop::SourceReset),
                Stage::Finished | Stage::Refused(_) => return Poll::Pending,
            }
        }
        // Others' turn; this one comes back at once.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes until nothing is held.
    fn deliver(&mut self, cx: &mut Context<'_>, to: &WriteHalf) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            ready!(to.as_ref().poll_write_ready(cx))?;
            let written = match &mut self.held {
                Held::Nothing => break,
                Held::Bytes(buffer) => to.try_write(buffer.bytes()).inspect(|n| buffer.consume(*n)),
                Held::Spliced(pipe) => to.as_ref().try_io(Interest::WRITABLE, || pipe.drain(to.as_ref())),
            };
            match written {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => self.written += n as u64,
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, or learns how the source ended. While it waits, nothing is held.
    fn receive(&mut self, cx: &mut Context<'_>, from: &mut ReadHalf, worker: &Worker) -> Poll<()> {
        if self.read >= self.splice_from {
            return self.receive_spliced(cx, from, worker);
        }
        let mut buffer = match mem::replace(&mut self.held, Held::Nothing) {
            Held::Bytes(buffer) if buffer.capacity() >= limits::BUFFER_BULK_BYTES || !self.bulk => buffer,
            _ if self.bulk => worker.buffers.take_bulk(),
            _ => worker.buffers.take(),
        };
        if ready!(self.read_into(cx, from, &mut buffer)) && !self.bulk {
            // A small buffer was filled, so more is likely there: fetch it before the first write.
            self.bulk = true;
            buffer.grow();
            let _ = self.read_into(cx, from, &mut buffer);
        }
        self.held = Held::Bytes(buffer);
        Poll::Ready(())
    }

    /// One read into the buffer's room. Says whether it was filled.
    fn read_into(&mut self, cx: &mut Context<'_>, from: &mut ReadHalf, buffer: &mut Buffer) -> Poll<bool> {
        let mut room = ReadBuf::new(buffer.room());
        let outcome = ready!(Pin::new(from).poll_read(cx, &mut room));
        let (n, full) = (room.filled().len(), room.remaining() == 0);
        match outcome {
            Ok(()) if n == 0 => self.stage = self.stage.ended(),
            Ok(()) => {
                buffer.filled(n);
                self.read += n as u64;
            }
            Err(_) => self.stage = Stage::Failing,
        }
        Poll::Ready(full)
    }

    fn receive_spliced(&mut self, cx: &mut Context<'_>, from: &ReadHalf, worker: &Worker) -> Poll<()> {
        let mut pipe = match mem::replace(&mut self.held, Held::Nothing) {
            Held::Spliced(pipe) => pipe,
            _ => match worker.pipes.take() {
                Some(pipe) => pipe,
                None => return self.splice_later(u64::MAX),
            },
        };
        loop {
            if ready!(from.as_ref().poll_read_ready(cx)).is_err() {
                self.stage = Stage::Failing;
                return Poll::Ready(());
            }
            match from.as_ref().try_io(Interest::READABLE, || pipe.fill(from.as_ref(), limits::SPLICE_BYTES)) {
                Ok(0) => self.stage = self.stage.ended(),
                Ok(n) => {
                    self.read += n as u64;
                    self.held = Held::Spliced(pipe);
                    if n < limits::BUFFER_START_BYTES {
                        // Small messages again: two copies are cheaper than a pipe.
                        return self.splice_later(self.read + limits::SPLICE_AFTER_BYTES);
                    }
                }
                Err(error) if is_transient(&error) => continue,
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return self.splice_later(u64::MAX),
                Err(_) => self.stage = Stage::Failing,
            }
            return Poll::Ready(());
        }
    }

    fn splice_later(&mut self, from: u64) -> Poll<()> {
        self.splice_from = from;
        Poll::Ready(())
    }

    /// Reads to nowhere, so that the source can read its answer before it is reset; ready when it finished, reset or sent
    /// more than that is worth.
    fn discard(&mut self, cx: &mut Context<'_>, from: &mut ReadHalf, worker: &Worker) -> Poll<()> {
        let mut buffer = worker.buffers.take();
        loop {
            let Stage::Refused(Refused::Room(room)) = self.stage else { return Poll::Ready(()) };
            let before = self.read;
            let _ = ready!(self.read_into(cx, from, &mut buffer));
            buffer.consume(buffer.len());
            self.stage = match self.stage {
                Stage::Finishing => Stage::Refused(Refused::SourceFinished),
                Stage::Refused(_) => match room.checked_sub(self.read - before) {
                    Some(room) => Stage::Refused(Refused::Room(room)),
                    None => Stage::Failing,
                },
                stage => stage,
            };
        }
    }
}

/// To be tried again once the socket is ready.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
