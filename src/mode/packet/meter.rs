//! Shell: what one worker's tap has counted, handed on to its interface's cells a few times a second.
//!
//! A tap's own counts cost its worker nothing and begin at zero with it; an interface's go on when a reload opens other taps.

use std::sync::Arc;
use std::time::Duration;

use crate::base::Moment;
use crate::observe::packets::{InterfaceCells, Lost};
use crate::sys::packet::{Counters, Tap};

/// How often counts are handed on: asking the tap is a system call.
const PACE: Duration = Duration::from_millis(100);

pub(super) struct Meter {
    cells: Arc<InterfaceCells>,
    told: Counters,
    /// When they were last handed on.
    at: Moment,
}

impl Meter {
    /// For a worker that is about to take frames.
    pub fn new(cells: &Arc<InterfaceCells>) -> Meter {
        cells.enter();
        Meter { cells: cells.clone(), told: Counters::default(), at: Moment::ZERO }
    }

    /// Hands on what is new, if it is time.
    pub fn tell(&mut self, tap: &mut Tap, now: Moment) {
        if now.since(self.at) >= PACE {
            self.at = now;
            self.add(tap.counters());
        }
    }

    /// Hands on the last counts: the worker takes no more frames.
    pub fn finish(mut self, tap: &mut Tap) {
        self.add(tap.counters());
    }

    fn add(&mut self, seen: Counters) {
        // Every field by name: a count that is added to taps shall not be forgotten here.
        let Counters { received, overrun, cut, divided, tagged, sent, no_room, too_long, link_down, refused } = seen;
        let told = std::mem::replace(&mut self.told, seen);
        self.cells.received.add_shared(received - told.received);
        self.cells.sent.add_shared(sent - told.sent);
        self.cells.divided.add_shared(divided - told.divided);
        for (why, seen, told) in [
            (Lost::Overrun, overrun, told.overrun),
            (Lost::Cut, cut, told.cut),
            (Lost::Tagged, tagged, told.tagged),
            (Lost::NoRoom, no_room, told.no_room),
            (Lost::TooLong, too_long, told.too_long),
            (Lost::LinkDown, link_down, told.link_down),
            (Lost::Refused, refused, told.refused),
        ] {
            self.cells.lose(why, seen - told);
        }
    }
}

/// A worker that panics takes no frames either.
impl Drop for Meter {
    fn drop(&mut self) {
        self.cells.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_the_counts_of_all_its_taps_those_before_a_reload_too() {
        let cells = Arc::new(InterfaceCells::default());
        let (mut one, mut two) = (Meter::new(&cells), Meter::new(&cells));
        assert_eq!(cells.workers(), 2);
        let seen = |received, sent, no_room| Counters { received, sent, no_room, divided: sent, ..Counters::default() };
        one.add(seen(5, 3, 0));
        one.add(seen(9, 7, 1));
        two.add(seen(1, 1, 0));
        drop(one);
        let mut next = Meter::new(&cells);
        next.add(seen(2, 0, 2));
        assert_eq!((cells.received.get(), cells.sent.get(), cells.workers()), (12, 8, 2));
        assert_eq!(cells.divided.get(), 8);
        assert_eq!((cells.lost(Lost::NoRoom), cells.lost(Lost::Overrun)), (3, 0));
    }
}
