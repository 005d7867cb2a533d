//! Model: what Strata tells the world. Metric cells, names, access records, logging.

pub mod access;
pub mod beats;
pub mod cells;
pub mod events;
pub mod log;
pub mod names;
pub mod packets;
pub mod panics;
pub mod sink;

pub use beats::{Beat, Beats};
pub use cells::{Cells, Counter, EndpointCells, Histogram, PerWorker, PoolCells, ServiceCells};
pub use packets::Packets;
