//! Wiring: the thread that watches the process: descriptors and memory, and whether the others live.
//!
//! A thread of its own, because it must look when all others are busy. What it finds goes to `net::Pressure`, which accepting and
//! idle connections look at. Not here: what is done about it.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::{io, thread};

use tokio::sync::mpsc;

use super::worker::Order;
use crate::base::limits;
use crate::net::Crew;
use crate::net::pressure::{Level, Resource};
use crate::sys::memory::{self, Groups, Usage};
use crate::sys::process;

/// The thread; dropping this does not end it.
pub struct Watch {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

struct Look {
    crew: Arc<Crew>,
    workers: Vec<mpsc::Sender<Order>>,
    groups: Groups,
    /// Descriptors that this process may have open.
    descriptors: u64,
}

/// Starts the thread. `workers` are whom it tells to give up what they can spare.
///
/// # Errors
/// The thread cannot be made.
pub fn start(crew: Arc<Crew>, workers: Vec<mpsc::Sender<Order>>) -> io::Result<Watch> {
    let descriptors = process::raise_descriptors().unwrap_or(0);
    let look = Look { crew, workers, groups: Groups::of_this_process(), descriptors };
    // Before anybody is let in.
    look.look();
    let (stop, stopped) = sync_channel(1);
    let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || {
        while stopped.recv_timeout(limits::PRESSURE_ROUND) == Err(RecvTimeoutError::Timeout) {
            look.look();
        }
    })?;
    Ok(Watch { stop, thread })
}

impl Watch {
    pub fn stop(self) {
        // Fails only when the thread is gone already.
        let _ = self.stop.try_send(());
        if self.thread.join().is_err() {
            tracing::error!("the thread that watches the process panicked");
        }
    }
}

impl Look {
    fn look(&self) {
        let settings = self.crew.snapshot.load().settings.process.clone();
        let pressure = &self.crew.pressure;
        let most = settings.max_connections.unwrap_or_else(|| most_connections(self.descriptors));
        pressure.set_most_connections(most);
        // What cannot be read was too near to the end to be.
        let open = process::open_descriptors().unwrap_or(self.descriptors);
        self.observe(Resource::Descriptors, open, self.descriptors);
        let own = settings.max_memory.and_then(|limit| Some(Usage { used: memory::own().ok()?, limit }));
        let usage = self.groups.usage().into_iter().chain(own).reduce(Usage::tighter);
        let usage = usage.or_else(|| Some(Usage { used: memory::own().ok()?, limit: 0 }));
        if let Some(Usage { used, limit }) = usage {
            self.observe(Resource::Memory, used, limit);
        }
        if pressure.sheds() {
            for worker in &self.workers {
                // One that has orders waiting gets the next.
                let _ = worker.try_send(Order::Relieve);
            }
        }
    }

    fn observe(&self, resource: Resource, used: u64, limit: u64) {
        let (before, after) = self.crew.pressure.observe(resource, used, limit);
        let resource = resource.word();
        match (before, after) {
            (before, after) if before == after => {}
            (_, Level::Full) => {
                tracing::error!(
                    resource,
                    used,
                    limit,
                    "nearly all is in use: no connection is taken until some is free"
                );
            }
            (Level::Easy, Level::Sheds) => {
                tracing::warn!(resource, used, limit, "little is left: idle connections are closed");
            }
            (_, Level::Sheds) => {
                tracing::warn!(resource, used, limit, "connections are taken again, and idle ones still closed");
            }
            (_, Level::Easy) => tracing::info!(resource, used, limit, "enough is free again"),
        }
    }
}

/// Client connections that `descriptors` carry: two each, one to the client and one to an endpoint.
pub fn most_connections(descriptors: u64) -> u32 {
    let reserved = limits::DESCRIPTORS_RESERVED.min(descriptors / 4);
    u32::try_from((descriptors - reserved) / 2).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_costs_two_descriptors_and_some_are_kept_back() {
        for (descriptors, connections) in [(0, 0), (128, 48), (1024, 384), (20_000, 9872), (1 << 40, u32::MAX)] {
            assert_eq!(most_connections(descriptors), connections, "{descriptors}");
        }
    }
}
