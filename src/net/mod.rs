//! Io: tokio helpers over `sys` and `state`. Workers, listeners, timers, buffers, dialling.

pub mod accept;
pub mod buffer;
pub mod dial;
pub mod folders;
pub mod pressure;
pub mod relay;
#[cfg(test)]
pub mod rig;
pub mod routed;
pub mod timer;
pub mod upstream;
pub mod worker;

pub use buffer::{Buffer, Buffers};
pub use dial::{DialError, dial};
pub use relay::{End, Outcome, Relay};
pub use routed::Routed;
pub use timer::{Deadline, Expired, Timers};
pub use upstream::{Connection, Found, Picked, Tries, Turn, pick_and_dial};
pub use worker::{ControlEvent, Crew, Held, Worker};
