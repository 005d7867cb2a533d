//! Wiring: the thread that watches the process: descriptors and memory, and whether the others live.
//!
//! A thread of its own, because it must look when all others are busy. What it finds goes to `net::Pressure`, which accepting and
//! idle connections look at. Not here: what is done about it.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use tokio::sync::mpsc;

use super::notify;
use super::worker::Order;
use crate::base::{Moment, clock, limits};
use crate::net::Crew;
use crate::net::pressure::{Level, Resource};
use crate::observe::beats::Silent;
use crate::observe::{Beat, events};
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
    /// Within which time systemd wants to hear that all live.
    watchdog: Option<Duration>,
    told: Moment,
    /// Whom it was said of that they do not go on.
    silent: Vec<String>,
}

/// Starts the thread. `workers` are whom it tells to give up what they can spare.
///
/// # Errors
/// The thread cannot be made.
pub fn start(crew: Arc<Crew>, workers: Vec<mpsc::Sender<Order>>) -> io::Result<Watch> {
    let descriptors = process::raise_descriptors().unwrap_or(0);
    let (groups, watchdog) = (Groups::of_this_process(), notify::watchdog());
    let mut look = Look { crew, workers, groups, descriptors, watchdog, told: clock::now(), silent: Vec::new() };
    // Before anybody is let in.
    look.look();
    let (stop, stopped) = sync_channel(1);
    let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || {
        while stopped.recv_timeout(limits::PRESSURE_ROUND) == Err(RecvTimeoutError::Timeout) {
            look.look();
            look.listen(clock::now());
        }
    })?;
    Ok(Watch { stop, thread })
}

/// Shows for as long as a thread gets to its tasks that it does.
pub async fn beat(beat: Beat) {
    let mut interval = tokio::time::interval(limits::BEAT);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        beat.beat(clock::now());
    }
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

    /// Tells systemd that all loops go on, where they do, at half of the time that it waits. One that is silent ends that.
    fn listen(&mut self, now: Moment) -> bool {
        let patience = self.watchdog.map_or(limits::STUCK, |time| time.min(limits::STUCK));
        let silent = self.crew.beats.judge(now, patience);
        for Silent { who, since } in silent.iter().filter(|silent| !self.silent.contains(&silent.who)) {
            match since {
                Some(silence) => {
                    tracing::error!(event = events::PROCESS, ?silence, "{who} does not get to its tasks");
                }
                None => tracing::error!(event = events::PROCESS, "{who} has ended by a panic: restart the process"),
            }
        }
        for who in self.silent.iter().filter(|who| !silent.iter().any(|silent| silent.who == **who)) {
            tracing::warn!(event = events::PROCESS, "{who} gets to its tasks again");
        }
        self.silent = silent.into_iter().map(|silent| silent.who).collect();
        let due = self.watchdog.is_some_and(|time| now.since(self.told) + limits::PRESSURE_ROUND >= time / 2);
        let tells = due && self.silent.is_empty();
        if tells {
            notify::alive();
            self.told = now;
        }
        tells
    }

    fn observe(&self, resource: Resource, used: u64, limit: u64) {
        let (before, after) = self.crew.pressure.observe(resource, used, limit);
        let resource = resource.word();
        match (before, after) {
            (before, after) if before == after => {}
            (_, Level::Full) => {
                tracing::error!(
                    event = events::PRESSURE,
                    resource,
                    used,
                    limit,
                    "nearly all is in use: no connection is taken until some is free"
                );
            }
            (Level::Easy, Level::Sheds) => {
                tracing::warn!(
                    event = events::PRESSURE,
                    resource,
                    used,
                    limit,
                    "little is left: idle connections are closed"
                );
            }
            (_, Level::Sheds) => {
                tracing::warn!(
                    event = events::PRESSURE,
                    resource,
                    used,
                    limit,
                    "connections are taken again, and idle ones still closed"
                );
            }
            (_, Level::Easy) => tracing::info!(event = events::PRESSURE, resource, used, limit, "enough is free again"),
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
    use crate::observe::sink::Sink;
    use crate::state::Snapshot;

    #[test]
    fn a_loop_that_is_silent_or_has_ended_stops_the_watchdog() {
        let empty = Arc::new(Snapshot::empty(crate::app::load::nothing().settings));
        let (crew, _receivers) = Crew::new(2, empty, mpsc::channel(1).0, Sink::none());
        let mut look = Look {
            crew: crew.clone(),
            workers: Vec::new(),
            groups: Groups::default(),
            descriptors: 0,
            watchdog: Some(Duration::from_secs(2)),
            told: clock::now(),
            silent: Vec::new(),
        };
        let start = clock::now();
        let (ms, mut now) = (Duration::from_millis, start);
        let beats: Vec<Beat> = (0..3).map(|n| crew.beats.begin(format!("loop {n}"), start)).collect();
        let mut pass = |stuck: Option<usize>, look: &mut Look| {
            // Three seconds pass, and all but one show that they live.
            let mut told = 0;
            for _ in 0..30 {
                now = now + ms(100);
                (0..3).filter(|n| Some(*n) != stuck).for_each(|n| beats[n].beat(now));
                told += usize::from(look.listen(now));
            }
            told
        };
        assert!((2..=4).contains(&pass(None, &mut look)), "about once a second");
        for stuck in 0..3 {
            assert!(pass(Some(stuck), &mut look) <= 2, "{stuck}: for a moment nobody can know");
            assert_eq!((pass(Some(stuck), &mut look), &look.silent), (0, &vec![format!("loop {stuck}")]));
            assert_eq!(crew.beats.silent(), 1);
            assert!(pass(None, &mut look) >= 2 && look.silent.is_empty(), "{stuck}: it lives again");
        }
        let attended = crew.beats.attend("attended");
        let panics = std::thread::spawn(move || {
            let _attended = attended;
            panic!("a mistake");
        });
        assert!(panics.join().is_err());
        for _ in 0..2 {
            assert_eq!(
                (pass(None, &mut look), &look.silent),
                (0, &vec!["attended".to_owned()]),
                "it does not come back"
            );
        }
    }

    #[test]
    fn a_connection_costs_two_descriptors_and_some_are_kept_back() {
        for (descriptors, connections) in [(0, 0), (128, 48), (1024, 384), (20_000, 9872), (1 << 40, u32::MAX)] {
            assert_eq!(most_connections(descriptors), connections, "{descriptors}");
        }
    }
}
