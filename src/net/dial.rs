//! Io: connecting to an endpoint, with a deadline and a named error.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::timer::Deadline;
use crate::observe::cells::UpstreamError;

/// Why an endpoint could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialError {
    Refused,
    Timeout,
    Unreachable,
    /// Our own trouble, not the endpoint's: no descriptor or no local port was left.
    Exhausted,
    /// It has as many connections as it may; it was not tried.
    Full,
    Other,
}

impl DialError {
    pub const fn kind(self) -> UpstreamError {
        match self {
            DialError::Refused => UpstreamError::Refused,
            DialError::Timeout => UpstreamError::Timeout,
            DialError::Unreachable => UpstreamError::Unreachable,
            DialError::Exhausted | DialError::Full | DialError::Other => UpstreamError::Other,
        }
    }

    /// Whether the endpoint is to blame.
    pub const fn blames_endpoint(self) -> bool {
        !matches!(self, DialError::Exhausted | DialError::Full)
    }
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> DialError {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused | Kind::ConnectionReset => DialError::Refused,
            Kind::TimedOut => DialError::Timeout,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => DialError::Unreachable,
            Kind::AddrNotAvailable => DialError::Exhausted,
            _ => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => DialError::Exhausted,
                _ => DialError::Other,
            },
        }
    }
}

/// Connects to `address` within `timeout`, Nagle off. `deadline` is borrowed for the wait and cleared after it.
///
/// # Errors
/// Why it did not connect.
pub async fn dial(address: SocketAddr, timeout: Duration, deadline: &Deadline) -> Result<TcpStream, DialError> {
    deadline.set_in(timeout);
    let outcome = deadline.race(TcpStream::connect(address)).await;
    deadline.clear();
    let stream = outcome.map_err(|_| DialError::Timeout)??;
    // On loopback, a connect to a free port in the ephemeral range can meet itself (RFC 9293 §3.5, simultaneous open).
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(DialError::Refused);
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}
