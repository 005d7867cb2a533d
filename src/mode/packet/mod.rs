//! Shell: packets: the userspace engine of `l2`, `l3` and `l4` NAT services. `flow` decides; here is what is around it.
//!
//! - `books` keeps each service's slots in step with its pool, `inputs` says what tables are built from. Both are pure, and
//!   `strata replay` uses them too.
//! - `engine` owns taps and threads: `worker`s serve taps, `control` follows configuration, health and the machine (`look`).
//!
//! Not here: deciding (`flow`), sockets (`sys::packet`).

pub mod books;
mod control;
pub mod engine;
pub mod inputs;
mod look;
mod meter;
mod roster;
mod taps;
mod worker;
