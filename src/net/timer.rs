//! Io: coarse deadlines of one worker. A connection owns one [`Deadline`], moves it by storing a number, and is woken
//! within `limits::TIMER_TICK` once it has passed.
//!
//! Why not `tokio::time::timeout`: it registers and cancels a timer for every read; here arming is one store and the only
//! cost is a scan of all deadlines every tick (10 000 connections: about 10 µs in 50 ms). Those that look at every tick are woken
//! some at a time, by turns.
//! Not here: anything that needs better than tick precision.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::base::{Moment, clock, limits};

/// Every deadline of one worker.
#[derive(Default)]
pub struct Timers {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    /// The clock as of the last tick.
    coarse: Cell<Moment>,
    /// From here on slots have their turn to look.
    turn: Cell<usize>,
}

struct Slot {
    at: Moment,
    /// To be woken at a tick soon, whatever the deadline.
    looks: bool,
    waker: Option<Waker>,
}

impl Slot {
    const FRESH: Slot = Slot { at: Moment::NEVER, looks: false, waker: None };
}

/// The deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

/// One deadline, never set at first. Dropping it frees its slot.
pub struct Deadline {
    timers: Rc<Timers>,
    slot: u32,
}

impl Timers {
    /// Deadlines whose clock reads `now` until the first tick.
    pub fn new(now: Moment) -> Timers {
        Timers { coarse: Cell::new(now), ..Timers::default() }
    }

    pub fn deadline(self: &Rc<Self>) -> Deadline {
        let slot = match self.free.borrow_mut().pop() {
            Some(slot) => {
                self.slots.borrow_mut()[slot as usize] = Slot::FRESH;
                slot
            }
            None => {
                let mut slots = self.slots.borrow_mut();
                slots.push(Slot::FRESH);
                u32::try_from(slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        Deadline { timers: self.clone(), slot }
    }

    /// Moves the coarse clock and wakes whoever is past its deadline, and some of those that want to look.
    pub fn tick(&self, now: Moment) {
        self.coarse.set(now);
        let (mut room, turn) = (limits::LOOKS_AT_A_TICK, self.turn.replace(0));
        self.wake(|index, slot| {
            let looks = slot.looks && index >= turn && room > 0;
            if looks {
                room -= 1;
                if room == 0 {
                    self.turn.set(index + 1);
                }
            }
            looks || slot.at <= now
        });
    }

    /// Wakes every waiting connection: something that concerns all of them changed (a drain, a removed service).
    pub fn wake_all(&self) {
        self.wake(|_, _| true);
    }

    /// The clock as of the last tick: good enough to set deadlines by.
    pub fn coarse_now(&self) -> Moment {
        self.coarse.get()
    }

    fn wake(&self, mut wanted: impl FnMut(usize, &Slot) -> bool) {
        // Wakers are collected first: waking may run foreign code, which must find the slots unborrowed.
        let due: Vec<Waker> = self
            .slots
            .borrow_mut()
            .iter_mut()
            .enumerate()
            .filter(|(index, slot)| wanted(*index, slot))
            .filter_map(|(_, slot)| {
                slot.looks = false;
                slot.waker.take()
            })
            .collect();
        due.into_iter().for_each(Waker::wake);
    }

    /// Ticks for as long as the worker lives.
    pub async fn run(self: Rc<Self>) {
        let mut interval = tokio::time::interval(limits::TIMER_TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            interval.tick().await;
            self.tick(clock::now());
        }
    }
}

impl Deadline {
    pub fn set(&self, at: Moment) {
        self.timers.slots.borrow_mut()[self.slot as usize].at = at;
    }

    /// Sets the deadline to `after` from the last tick.
    pub fn set_in(&self, after: std::time::Duration) {
        self.set(self.timers.coarse_now() + after);
    }

    pub fn clear(&self) {
        self.set(Moment::NEVER);
    }

    /// Has the task that polls next woken at a tick soon, though the deadline be later: what it waits for tells nobody.
    pub fn look_at_tick(&self) {
        self.timers.slots.borrow_mut()[self.slot as usize].looks = true;
    }

    /// Ready once the deadline has passed; otherwise the task is woken when it does (or by `wake_all`).
    pub fn poll_expired(&self, cx: &Context<'_>) -> Poll<Expired> {
        let mut slots = self.timers.slots.borrow_mut();
        let slot = &mut slots[self.slot as usize];
        if slot.at <= self.timers.coarse_now() {
            return Poll::Ready(Expired);
        }
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Runs `work` until it is done or the deadline passes; `work` is polled first, so a result always wins.
    ///
    /// # Errors
    /// [`Expired`], and `work` is dropped.
    pub async fn race<F: Future>(&self, work: F) -> Result<F::Output, Expired> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_expired(cx).map(Err),
        })
        .await
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut slots = self.timers.slots.borrow_mut();
        slots[self.slot as usize] = Slot::FRESH;
        self.timers.free.borrow_mut().push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    #[tokio::test]
    async fn a_deadline_fires_once_passed_and_a_result_wins_over_it() {
        let timers = Rc::new(Timers::default());
        timers.tick(Moment::from_millis(100));
        let deadline = timers.deadline();
        assert_eq!(deadline.race(async { 7 }).await, Ok(7));
        deadline.set(Moment::from_millis(150));
        let waiting = deadline.race(std::future::pending::<()>());
        let ticking = async {
            tokio::task::yield_now().await;
            timers.tick(Moment::from_millis(149));
            tokio::task::yield_now().await;
            timers.tick(Moment::from_millis(150));
        };
        let (outcome, ()) = tokio::join!(waiting, ticking);
        assert_eq!(outcome, Err(Expired));
        assert_eq!(deadline.race(async { 8 }).await, Ok(8));
    }

    #[test]
    fn who_wants_to_look_at_the_next_tick_is_woken_by_that_one_alone() {
        struct Wakes(AtomicU32);
        impl std::task::Wake for Wakes {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let wakes = Arc::new(Wakes(AtomicU32::new(0)));
        let waker = wakes.clone().into();
        let cx = Context::from_waker(&waker);
        let timers = Rc::new(Timers::default());
        let deadline = timers.deadline();
        deadline.set(Moment::from_millis(1000));
        for (looks, tick, want) in [(true, 50, 1), (true, 100, 2), (false, 150, 2), (false, 1000, 3)] {
            if looks {
                deadline.look_at_tick();
            }
            assert!(deadline.poll_expired(&cx).is_pending());
            timers.tick(Moment::from_millis(tick));
            assert_eq!(wakes.0.load(Relaxed), want, "at {tick} ms");
        }
        assert!(deadline.poll_expired(&cx).is_ready());
    }

    #[test]
    fn those_that_look_have_their_turn_where_they_are_too_many_for_a_tick() {
        let timers = Rc::new(Timers::default());
        let cx = Context::from_waker(Waker::noop());
        let all: Vec<Deadline> = (0..limits::LOOKS_AT_A_TICK * 2 + 10).map(|_| timers.deadline()).collect();
        let waits = || timers.slots.borrow().iter().filter(|slot| slot.looks).count();
        for deadline in &all {
            deadline.look_at_tick();
            assert!(deadline.poll_expired(&cx).is_pending());
        }
        let mut left = Vec::new();
        for tick in 1..=4 {
            timers.tick(Moment::from_millis(tick * 50));
            left.push(waits());
            // The first wants to look again at once, and is no one's hindrance.
            all[0].look_at_tick();
            assert!(all[0].poll_expired(&cx).is_pending());
        }
        assert_eq!(left, [limits::LOOKS_AT_A_TICK + 10, 11, 1, 0]);
    }

    #[test]
    fn slots_are_reused() {
        let timers = Rc::new(Timers::default());
        for _ in 0..100 {
            let deadline = timers.deadline();
            deadline.set(Moment::ZERO);
        }
        assert_eq!(timers.slots.borrow().len(), 1);
        timers.tick(Moment::from_millis(1));
        let fresh = timers.deadline();
        let cx = Context::from_waker(Waker::noop());
        assert!(fresh.poll_expired(&cx).is_pending(), "a reused slot does not remember the old deadline");
    }
}
