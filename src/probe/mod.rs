//! Shell: active health checks, one file a kind. To add one: its file with a `SPEC`, its `mod` line, its line in [`CATALOG`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::health::Why;
use crate::seam::probe::{Aim, Failure, Spec, address};
use crate::seam::through::Entered;
use crate::state::Pool;

mod arp;
mod http;
mod icmp;
mod tcp;
pub mod through;

/// Every kind of probe, in the order in which help and documentation list them.
pub static CATALOG: &[Spec] = &[tcp::SPEC, http::SPEC, icmp::SPEC, arp::SPEC];

/// The probe of that name (`probe = { type = "NAME" }`).
pub fn find(name: &str) -> Option<&'static Spec> {
    CATALOG.iter().find(|spec| spec.grammar.name == name)
}

/// Which pools this machine does not let us probe, and what is missing: to be known before anybody relies on it.
pub fn forbidden<'p>(pools: impl Iterator<Item = &'p Arc<Pool>>) -> Vec<String> {
    let mut missing = Vec::new();
    for pool in pools {
        let spec = pool.spec.probe.as_ref().and_then(|probe| find(probe.name));
        if let Some(Err(why)) = spec.map(|spec| (spec.able)()) {
            missing.push(format!("pool {}: {why}", pool.spec.name));
        }
    }
    missing
}

/// A probe's connection.
struct Connection {
    stream: TcpStream,
    /// Whom it is to: the endpoint's address, or a VIP's.
    peer: SocketAddr,
    /// After the stream: what that sends when it is dropped has to find its way.
    _entered: Option<Entered>,
}

/// A connection to what `aim` names, at `port` or the endpoint's own; or why there is none.
async fn connect(aim: &Aim, port: Option<u16>) -> Result<Connection, Failure> {
    if let Some(passage) = &aim.passage {
        return through::connect(passage, aim.endpoint.ip(), port).await;
    }
    let peer = address(aim.endpoint, port)?;
    let stream = TcpStream::connect(peer).await.map_err(|error| failure("connect", &error))?;
    // On loopback, a connect to a free port in the ephemeral range can meet itself (RFC 9293 §3.5, simultaneous open): a
    // dead endpoint would seem alive.
    if stream.local_addr().ok() == stream.peer_addr().ok() {
        return Err("connect refused".into());
    }
    Ok(Connection { stream, peer, _entered: None })
}

/// What the kernel says of a `step` towards an endpoint.
fn reason(step: &str, error: &io::Error) -> Why {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("{step} refused").into(),
        io::ErrorKind::ConnectionReset => format!("{step} reset").into(),
        io::ErrorKind::TimedOut => format!("{step} timed out").into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => "network unreachable".into(),
        _ => format!("{step} failed: {error}").into(),
    }
}

/// The same, and who is to blame as far as one probe can tell.
fn failure(step: &str, error: &io::Error) -> Failure {
    let why = reason(step, error);
    match error.kind() {
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            Failure::NoRoute(why)
        }
        io::ErrorKind::TimedOut => Failure::Silent(why),
        io::ErrorKind::AddrNotAvailable => Failure::Ours(why),
        _ => match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Failure::Ours(why),
            _ => Failure::Endpoint(why),
        },
    }
}

/// What has nothing to do with the endpoint.
fn ours(error: &io::Error) -> Failure {
    Failure::Ours(error.to_string().into())
}

#[cfg(test)]
mod tests;
