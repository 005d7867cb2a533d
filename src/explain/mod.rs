//! Model: what becomes of a request or a connection, told with its reasons: listener, service, route, pool, endpoint, or the word of
//! why not.
//!
//! It is decided by what decides about traffic: the request parser, [`crate::state::Way`], the pool's published view and its picker.
//! Told besides is what those do not need to know: the routes that lose, and how much of a pick is chance.
//! Not here: packets (`flow::decide`), asking a running process (`admin`), and a file's tests (`app`).

mod ask;
mod brief;
mod pick;
mod question;
mod reach;
mod show;
mod story;

#[cfg(test)]
mod tests;

pub use ask::{Scene, connection, request};
pub use brief::{Brief, brief};
pub use question::{Asked, Fault, Question};
pub use story::{
    Candidate, Choice, Fate, Listener, Other, PoolTold, Request, RouteTold, Sent, ServiceTold, Story, Verdict,
};
