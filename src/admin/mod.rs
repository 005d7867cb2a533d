//! Shell: what Strata tells and takes from its operator: the metrics listener, the admin API with its dashboard, and the client that
//! the CLI uses.
//!
//! Not here: decisions. Changes are asked of the control side through [`Control`]; documents are read from the snapshot.

pub mod control;
pub mod document;

mod api;
pub mod client;
mod dashboard;
mod describe;
mod explain;
mod metrics;
pub mod openapi;
mod operations;
mod patient;
mod ready;
mod refusal;
mod server;

pub use client::{Client, ClientError};
pub use control::{Control, EndpointReport, Refused, ReloadStatus, Request};
pub use explain::{causes, is_packet};
pub use ready::Of;
pub use refusal::Why;
pub use server::{Prepared, Servers};

#[cfg(test)]
mod tests;
