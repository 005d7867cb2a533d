//! Shell: reading into a buffer and writing whole parts, polled directly on the socket.
//!
//! `poll_read` of tokio's stream clears its readiness after a short read, so the next wait costs no `EAGAIN` call; that is
//! why reading does not use `try_read`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead as _, AsyncWrite as _, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::base::Reason;
use crate::net::{Buffer, Deadline};

/// Why a write ended early.
#[derive(Clone, Copy, Debug)]
pub(super) enum WriteError {
    /// The peer took nothing for the stall time.
    Stalled,
    Io,
}

impl WriteError {
    pub(super) const fn reason(self) -> Reason {
        match self {
            WriteError::Stalled => Reason::ClientStalled,
            WriteError::Io => Reason::ClientClosed,
        }
    }
}

/// Reads once into the room of `buffer`, which must not be empty. 0 is the end of the stream.
pub(super) fn poll_read(stream: &mut TcpStream, buffer: &mut Buffer, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut into = ReadBuf::new(buffer.room());
    debug_assert!(into.remaining() > 0, "a read without room would look like the end of the stream");
    ready!(Pin::new(stream).poll_read(cx, &mut into))?;
    let n = into.filled().len();
    buffer.filled(n);
    Poll::Ready(Ok(n))
}

/// The same for a side that is waited for: an empty buffer has a block only while there is something to read.
pub(super) fn poll_read_parked(
    stream: &mut TcpStream,
    buffer: &mut Buffer,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if buffer.is_empty() {
        if stream.poll_read_ready(cx).is_pending() {
            buffer.park();
            return Poll::Pending;
        }
        buffer.unpark();
    }
    let read = poll_read(stream, buffer, cx);
    if read.is_pending() {
        buffer.park();
    }
    read
}

/// Writes every byte of `parts`, in order. The peer may stall for `stall` at a time.
///
/// # Errors
/// The peer stalled or is gone; some bytes may have been written.
pub(super) async fn write_all(
    stream: &mut TcpStream,
    deadline: &Deadline,
    stall: Duration,
    mut parts: &mut [IoSlice<'_>],
) -> Result<(), WriteError> {
    let mut armed = false;
    std::future::poll_fn(|cx| {
        // Empty parts would look like a peer that takes nothing.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let written = match &*parts {
                [only] => Pin::new(&mut *stream).poll_write(cx, only),
                many => Pin::new(&mut *stream).poll_write_vectored(cx, many),
            };
            match written {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(WriteError::Io)),
                Poll::Ready(Ok(n)) => {
                    IoSlice::advance_slices(&mut parts, n);
                    armed = false;
                }
                Poll::Pending => {
                    if !armed {
                        deadline.set_in(stall);
                        armed = true;
                    }
                    return deadline.poll_expired(cx).map(|_| Err(WriteError::Stalled));
                }
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Writes every byte of `head`. `more`: what follows is at hand, so the kernel need not send the head by itself.
///
/// # Errors
/// As [`write_all`].
pub(super) async fn write_before(
    stream: &mut TcpStream,
    deadline: &Deadline,
    stall: Duration,
    mut head: &[u8],
    more: bool,
) -> Result<(), WriteError> {
    if !more {
        return write_all(stream, deadline, stall, &mut [IoSlice::new(head)]).await;
    }
    while !head.is_empty() {
        let socket = SockRef::from(&*stream);
        let write = || socket.send_with_flags(head, libc::MSG_MORE | libc::MSG_NOSIGNAL);
        let n = write_part(stream, deadline, stall, write).await?;
        head = head.get(n..).unwrap_or_default();
    }
    Ok(())
}

/// Calls `write` once the peer takes something; how many bytes it took. The peer may stall for `stall`.
///
/// # Errors
/// The peer stalled or is gone.
pub(super) async fn write_part(
    stream: &TcpStream,
    deadline: &Deadline,
    stall: Duration,
    mut write: impl FnMut() -> io::Result<usize>,
) -> Result<usize, WriteError> {
    let mut armed = false;
    std::future::poll_fn(|cx| {
        loop {
            match stream.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(WriteError::Io)),
                Poll::Pending => {
                    if !armed {
                        deadline.set_in(stall);
                        armed = true;
                    }
                    return deadline.poll_expired(cx).map(|_| Err(WriteError::Stalled));
                }
            }
            match stream.try_io(Interest::WRITABLE, &mut write) {
                Ok(n @ 1..) => return Poll::Ready(Ok(n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return Poll::Ready(Err(WriteError::Io)),
            }
        }
    })
    .await
}

/// Whether an idle connection is still as it was left: nothing to read, not closed. No system call in the usual case.
pub(super) fn is_quiet(stream: &TcpStream) -> bool {
    // Readiness alone may be stale after a read that filled its buffer, so a ready stream is read. Not polled: a task that
    // has used up its turn would find every connection quiet (tokio's cooperative budget).
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
