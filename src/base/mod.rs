//! Base: the words every floor uses. Ids, addresses, units, limits, clock, keyed hash.
//!
//! Nothing here imports another module of Strata, and nothing here does I/O (the clock only reads time).

pub mod address;
pub mod clock;
pub mod endpoint_addr;
pub mod hash;
pub mod id;
pub mod limits;
pub mod mac;
pub mod ports;
pub mod reason;
pub mod units;

pub use address::{Listen, Network};
pub use clock::Moment;
pub use endpoint_addr::EndpointAddr;
pub use hash::{FlowHash, HashKey};
pub use id::{PoolId, ServiceId, VipId, WorkerId};
pub use mac::MacAddr;
pub use ports::{PortRange, Ports, Transport};
pub use reason::Reason;
pub use units::Weight;
