//! Value: how much one endpoint of a pool may carry, and how what does not fit may wait.
//!
//! Not here: who counts (`Load`), who waits and how (`net::queue`).

use std::time::Duration;

use crate::doc::{Field, Grammar, Kind, Settings};

/// The settings of `limits = { … }` of a pool.
pub static CAPACITY: Grammar = Grammar {
    name: "limits",
    summary: "bounds what each endpoint carries; what does not fit waits, or is refused",
    fields: &[
        Field::optional("max_connections", COUNT, "connections to one endpoint, idle ones included"),
        Field::optional("max_requests", COUNT, "requests in flight at one endpoint; at l4, connections"),
        Field::default(
            "queue",
            Kind::Integer { min: 0, max: 100_000 },
            "100",
            "requests or connections of the pool that may wait for a place; 0: none does",
        ),
        Field::default(
            "queue_timeout",
            Kind::Duration { min: Duration::from_millis(50), max: Duration::from_secs(600) },
            "1s",
            "how long each may wait",
        ),
    ],
    example: "limits = { max_requests = 200, queue = 100, queue_timeout = \"1s\" }",
};

const COUNT: Kind = Kind::Integer { min: 1, max: 1_000_000 };

/// What one endpoint may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// [`Capacity::UNBOUNDED`]: no limit.
    pub max_connections: u32,
    pub max_requests: u32,
    /// Of the pool, over all workers.
    pub queue: u32,
    pub queue_timeout: Duration,
}

impl Capacity {
    pub const UNBOUNDED: u32 = u32::MAX;

    /// From settings of [`CAPACITY`].
    pub fn of(settings: &Settings) -> Capacity {
        let narrow = |field| u32::try_from(settings.integer(field)).unwrap_or(Capacity::UNBOUNDED);
        let most = |field| settings.get(field).map_or(Capacity::UNBOUNDED, |_| narrow(field));
        Capacity {
            max_connections: most("max_connections"),
            max_requests: most("max_requests"),
            queue: narrow("queue"),
            queue_timeout: settings.duration("queue_timeout"),
        }
    }

    /// Most that an endpoint has in flight: each takes a connection of its own.
    pub fn most_in_flight(&self) -> u32 {
        self.max_requests.min(self.max_connections)
    }

    pub fn is_bounded(&self) -> bool {
        self.most_in_flight() != Capacity::UNBOUNDED
    }
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity::of(&Settings::defaults(&CAPACITY))
    }
}
