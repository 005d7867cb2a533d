//! Codec: HTTP/1.0 and HTTP/1.1, strict and sans-IO. Heads are parsed in one pass into spans over the caller's buffer,
//! bodies by a decoder that is fed slices; what goes out is regenerated, never the framing bytes that came in.
//!
//! Why our own: framing is where proxies get hurt. Every rule is a row of the hardening catalogue (A, B, C), and its id
//! stands where the rule does. The target and authority that routes see are the bytes that are forwarded.
//!
//! Budget: no allocation for a head or a body once a connection's storage has warmed up; `benches/http1.rs` guards it.
//!
//! Not here: sockets, time, which peers are trusted, what `Via` says, body size caps, the choice of a route.

mod authority;
mod body;
mod class;
mod fields;
mod framing;
mod identity;
mod method;
mod name;
mod reject;
mod request;
mod response;
mod target;
mod write;

pub use body::{Decoder, Pieces};
pub use fields::{Field, Progress};
pub use framing::Body;
pub use identity::identity;
pub use method::{Asked, Method, Version};
pub use name::{Name, Names};
pub use reject::Reject;
pub use request::{Request, RequestHead, Scheme};
pub use response::{Response, ResponseHead};
pub use write::{
    CHUNK_END, ChunkSize, Forward, Notice, Reply, chunk, field, finish, forward, framing, interim, number, phrase,
    reply,
};

#[cfg(test)]
mod tests;
