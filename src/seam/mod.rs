//! Model: the seams. What a mode is given and must do; probes and sources have theirs beside it.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

use crate::base::ServiceId;

pub mod probe;
pub mod source;
pub mod through;

pub use probe::Probe;
pub use source::Source;

/// A client connection that a listener accepted and the service's limits let in.
pub struct Accepted {
    pub service: ServiceId,
    pub stream: TcpStream,
    /// IPv4 peers of a dual-stack listener appear as IPv4.
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// What carries a service's traffic: one instance a worker, made by its catalogue entry, living as long as the worker.
pub trait Mode {
    /// Carries one connection to its end. Runs as a local task of the worker; dropping the future closes the connection.
    fn serve(self: Rc<Self>, accepted: Accepted) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

    /// About once a second: throw out what is idle for too long.
    fn sweep(&self) {}

    /// Descriptors or memory run out: give up what is kept for later.
    fn relieve(&self) {}

    /// At every tick of the timers: give up what others wait for and is not in use here.
    fn make_way(&self) {}
}
