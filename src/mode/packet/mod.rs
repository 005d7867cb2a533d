//! Shell: packets: the userspace engine of `l2`, `l3` and `l4` NAT services. `flow` decides; here is what is around it.
//!
//! - `books` keeps each service's slots in step with its pool, `inputs` says what tables are built from. Both are pure, and
//!   `strata replay` uses them too.
//! - `engine` owns taps and threads, by `interface`: `worker`s serve taps, `front` is what goes before them (AF_XDP), `control` follows
//!   configuration, health and the machine (`look`), and announces VIPs (`herald`); `ways` finds where endpoints are and `replies` says
//!   what the kernel is kept from there; `through` sends on what probes say to a VIP.
//!
//! Not here: deciding (`flow`), sockets (`sys::packet`).

mod again;
pub mod books;
mod control;
pub mod deaf;
pub mod engine;
mod front;
mod herald;
pub mod inputs;
mod interface;
mod look;
mod meter;
mod replies;
mod roster;
mod tally;
mod taps;
mod through;
mod told;
mod ways;
mod worker;
