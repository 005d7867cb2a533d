//! The Debian package: what is in it, and what becomes of it on a real Debian under a real systemd. Needs root and mmdebstrap for the
//! second, and says so loudly where they are missing.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "packages/activation.rs"]
mod activation;
mod common;
#[path = "packages/life.rs"]
mod life;
#[path = "common/load.rs"]
mod load;
#[path = "packages/machine.rs"]
mod machine;
#[path = "packages/package.rs"]
mod package;
#[path = "packages/succession.rs"]
mod succession;
#[path = "packages/units.rs"]
mod units;
