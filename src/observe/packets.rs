//! Value: what the packet engine tells of itself that is no service's and no endpoint's: drops of nobody's packets, what its
//! interfaces lost, what its tables hold.
//!
//! Made before the engine and known to both sides, so that a scrape asks nobody: workers and the engine's control thread write,
//! the admin side reads. What belongs to a service stands in its own cells.
//!
//! Budget: nothing here is written for a packet that goes on. Drops are rare, taps tell their counts a few times a second.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::beats::Beats;
use super::cells::Counter;
use crate::base::Reason;
use crate::flow::Shared;

/// See the file's head. One for a process.
#[derive(Default)]
pub struct Packets {
    pub strays: Strays,
    /// Events that found the control side's queue full. The data path repeats them with later packets.
    pub events_lost: Counter,
    /// Where its threads show that they live.
    pub beats: Arc<Beats>,
    shared: OnceLock<Arc<Shared>>,
    interfaces: Mutex<BTreeMap<Arc<str>, Arc<InterfaceCells>>>,
    wayless: Mutex<Vec<Wayless>>,
}

/// An endpoint that this machine has no way to: under NAT none at all, so that by which interface it would answer is not known, and in any
/// packet mode one by an interface that carries no frames. What goes there is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wayless {
    pub pool: Arc<str>,
    pub endpoint: Arc<str>,
    /// What the kernel says, or which interface it is.
    pub why: String,
}

impl Packets {
    /// Of an engine whose threads are among these of the process.
    pub fn among(beats: Arc<Beats>) -> Packets {
        Packets { beats, ..Packets::default() }
    }

    /// The engine begins: this is what its workers share.
    pub fn began(&self, shared: Arc<Shared>) {
        // A process has one engine, which begins once.
        let _ = self.shared.set(shared);
    }

    /// What workers share, once there are any.
    pub fn shared(&self) -> Option<&Shared> {
        self.shared.get().map(Arc::as_ref)
    }

    /// Those that no way leads to, now.
    pub fn wayless(&self) -> Vec<Wayless> {
        self.wayless.lock().clone()
    }

    /// These are the ones from now on. Those that were before.
    pub fn set_wayless(&self, found: Vec<Wayless>) -> Vec<Wayless> {
        std::mem::replace(&mut self.wayless.lock(), found)
    }

    /// The cells of an interface, which from now on is served.
    pub fn interface(&self, name: &Arc<str>) -> Arc<InterfaceCells> {
        self.interfaces.lock().entry(name.clone()).or_default().clone()
    }

    /// An interface is no longer served: its series end.
    pub fn forget(&self, name: &str) {
        self.interfaces.lock().remove(name);
    }

    /// Interfaces that are served, by their names.
    pub fn interfaces(&self) -> Vec<(Arc<str>, Arc<InterfaceCells>)> {
        self.interfaces.lock().iter().map(|(name, cells)| (name.clone(), cells.clone())).collect()
    }

    /// An interface that packets are to be taken from, by no thread now.
    pub fn unserved(&self) -> Option<Arc<str>> {
        self.interfaces.lock().iter().find(|(_, cells)| cells.workers() == 0).map(|(name, _)| name.clone())
    }

    /// The word of the engine that takes frames from the interface; `None` while no thread does.
    pub fn engine(&self, name: &str) -> Option<&'static str> {
        self.interfaces.lock().get(name).filter(|cells| cells.workers() > 0).map(|cells| *cells.engine.lock())
    }
}

/// Packets that were dropped before it was known whose they were, by reason. Written by every packet worker: rare.
#[derive(Debug)]
pub struct Strays([Counter; Reason::COUNT]);

impl Default for Strays {
    fn default() -> Strays {
        Strays(std::array::from_fn(|_| Counter::default()))
    }
}

impl Strays {
    pub fn count(&self, reason: Reason) {
        self.0[reason.index()].add_shared(1);
    }

    pub fn dropped(&self, reason: Reason) -> u64 {
        self.0[reason.index()].get()
    }
}

macro_rules! losses {
    ($($(#[doc = $meaning:literal])+ $name:ident = $word:literal;)*) => {
        /// Why a frame got no further than its interface: `strata_interface_frames_lost_total{reason}`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Lost { $($(#[doc = $meaning])+ $name),* }

        impl Lost {
            pub const ALL: &'static [Lost] = &[$(Lost::$name),*];

            pub const fn word(self) -> &'static str {
                match self { $(Lost::$name => $word),* }
            }

            /// What it says, in a sentence for operators: the documentation of the variant.
            pub const fn meaning(self) -> &'static str {
                match self { $(Lost::$name => concat!($($meaning),+).trim_ascii()),* }
            }
        }
    };
}

losses! {
    /// Its worker was too slow: it found the tap full.
    Overrun = "overrun";
    /// It came without its end, longer than any buffer.
    Cut = "cut";
    /// It has a VLAN tag that the tap cannot see.
    Tagged = "tagged";
    /// The way out was full.
    NoRoom = "no-room";
    /// Longer than the way out sends, or segments.
    TooLong = "too-long";
    /// The way out is down, or gone.
    LinkDown = "link-down";
    /// It would have gone out wrong, or the kernel refused it for another reason.
    Refused = "refused";
}

/// What is counted for an interface, by all of its workers: each adds what is new a few times a second.
#[derive(Debug, Default)]
pub struct InterfaceCells {
    workers: AtomicU64,
    engine: Mutex<&'static str>,
    pub received: Counter,
    /// Of those that came in here, there or elsewhere.
    pub sent: Counter,
    /// Of those that came in here, taken apart.
    pub divided: Counter,
    lost: [Counter; Lost::ALL.len()],
}

impl InterfaceCells {
    pub fn lose(&self, why: Lost, frames: u64) {
        self.lost[why as usize].add_shared(frames);
    }

    pub fn lost(&self, why: Lost) -> u64 {
        self.lost[why as usize].get()
    }

    /// What its workers take frames by.
    pub fn set_engine(&self, word: &'static str) {
        *self.engine.lock() = word;
    }

    /// A worker begins to take frames.
    pub fn enter(&self) {
        self.workers.fetch_add(1, Relaxed);
    }

    /// A worker takes no more.
    pub fn leave(&self) {
        self.workers.fetch_sub(1, Relaxed);
    }

    pub fn workers(&self) -> u64 {
        self.workers.load(Relaxed)
    }
}

/// One table of a packet service as the engine serves by it. Written by the engine's control thread.
#[derive(Debug, Default)]
pub struct SlotGauges {
    marked: AtomicU64,
    fingerprint: AtomicU64,
}

impl SlotGauges {
    pub fn set(&self, marked: usize, fingerprint: u64) {
        self.marked.store(marked as u64, Relaxed);
        self.fingerprint.store(fingerprint, Relaxed);
    }

    /// Slots in transition.
    pub fn marked(&self) -> u64 {
        self.marked.load(Relaxed)
    }

    /// 0 before the engine has a table.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_served_while_a_worker_takes_its_frames_and_known_until_it_is_forgotten() {
        let packets = Packets::default();
        let name: Arc<str> = "eth0".into();
        assert!(packets.engine("eth0").is_none() && packets.interfaces().is_empty());
        let cells = packets.interface(&name);
        cells.set_engine("userspace");
        assert_eq!(packets.engine("eth0"), None);
        cells.enter();
        packets.interface(&name).lose(Lost::NoRoom, 2);
        assert_eq!(packets.engine("eth0"), Some("userspace"));
        assert_eq!(packets.interfaces()[0].1.lost(Lost::NoRoom), 2, "the same cells");
        cells.leave();
        assert_eq!(packets.engine("eth0"), None);
        packets.forget("eth0");
        assert!(packets.interfaces().is_empty());
    }

    #[test]
    fn every_loss_has_a_word_and_a_cell_of_its_own() {
        let cells = InterfaceCells::default();
        for (n, why) in (1..).zip(Lost::ALL) {
            cells.lose(*why, n);
        }
        assert!((1..).zip(Lost::ALL).all(|(n, why)| cells.lost(*why) == n));
        let mut words: Vec<&str> = Lost::ALL.iter().map(|why| why.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Lost::ALL.len());
    }
}
