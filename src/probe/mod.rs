//! Shell: active health checks, one file a kind. To add one: its file with a `SPEC`, its `mod` line, its line in [`CATALOG`].

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::health::Why;
use crate::seam::probe::Spec;

mod http;
mod tcp;

/// Every kind of probe, in the order in which help and documentation list them.
pub static CATALOG: &[Spec] = &[tcp::SPEC, http::SPEC];

/// The probe of that name (`probe = { type = "NAME" }`).
pub fn find(name: &str) -> Option<&'static Spec> {
    CATALOG.iter().find(|spec| spec.grammar.name == name)
}

/// A connection to `address`, or why there is none.
async fn connect(address: SocketAddr) -> Result<TcpStream, Why> {
    let stream = TcpStream::connect(address).await.map_err(|error| connect_failure(&error))?;
    // On loopback, a connect to a free port in the ephemeral range can meet itself (RFC 9293 §3.5, simultaneous open): a
    // dead endpoint would seem alive.
    if stream.local_addr().ok() == stream.peer_addr().ok() {
        return Err("connect refused".into());
    }
    Ok(stream)
}

fn connect_failure(error: &io::Error) -> Why {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect refused".into(),
        io::ErrorKind::ConnectionReset => "connect reset".into(),
        io::ErrorKind::TimedOut => "connect timed out".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => "network unreachable".into(),
        _ => format!("connect failed: {error}").into(),
    }
}

#[cfg(test)]
mod tests;
