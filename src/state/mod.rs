//! Model: what is served now. The immutable snapshot, the pools with their published views, and what changed between two.
//!
//! Readers take one [`Snapshot`] per connection or request and never mix two. Endpoint state, load and cells live in
//! `Arc`s that a new snapshot inherits by name, so an untouched object survives a reload untouched (DESIGN §4).

pub mod change;
pub mod clients;
pub mod endpoint;
pub mod packet;
pub mod pool;
pub mod queue;
pub mod service;
pub mod snapshot;
pub mod way;

pub use change::{Change, diff};
pub use endpoint::{Endpoint, Opening, Seat, Status};
pub use packet::{Engine, Family, Forward, Io, PacketSpec, Title, Vip, VipMac, VipSpec};
pub use pool::{EndpointSpec, Pool, PoolSpec, PoolView};
pub use queue::{Queue, Ticket};
pub use service::{
    Kept, L4, L7, L7Spec, Limits, ModeKind, Route, Service, ServiceSpec, Timeouts, Traffic, TrafficSpec,
};
pub use snapshot::{Process, Settings, Snapshot, Specs};
pub use way::Way;
