//! Strata: one load balancer for every layer.
//!
//! The modules form floors; a file imports from its own floor's earlier modules or from below, never upwards
//! (`tests/architecture.rs` holds us to it, `ARCHITECTURE.md` explains it).

// base: no dependency on anything else here
pub mod base;
// codec: bytes and text in, plain values out
pub mod doc;
pub mod wire;
// engine: pure decisions; no socket, clock, logger, metric or runtime, and no sibling imports
pub mod balance;
pub mod flow;
pub mod ha;
pub mod health;
pub mod route;
// model: what is known
pub mod config;
pub mod explain;
pub mod observe;
pub mod seam;
pub mod state;
// io: what touches the kernel
pub mod net;
pub mod sys;
// shell: owns a socket or a timer and drives one engine
pub mod admin;
pub mod mode;
pub mod probe;
pub mod source;
// app: wiring
pub mod app;
pub mod cli;
