//! Value: who waits for a place at the endpoints of a pool, over all workers, in the order they came.
//!
//! While nobody waits, giving a place back costs one load of a line that nobody writes; the lock is taken only by those who wait
//! and those who wake them. Only the first in line may try for a place, so nobody is overtaken, whichever worker carries it.
//!
//! No wakeup is lost: the first leaves its waker before it looks for a place, and a place is given back before the line is looked at.
//! Not here: how many places there are (`Endpoint`), nor how long anybody waits (`net::upstream`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::task::Waker;

use parking_lot::Mutex;

use crate::base::WorkerId;

/// The line of one pool. Survives reloads.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: AtomicU32,
    /// Somebody waits for a connection, and idle ones of other workers are in the way.
    wants_connection: AtomicBool,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    /// By ticket.
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    worker: WorkerId,
    waker: Option<Waker>,
}

/// A place in line, left when dropped.
#[derive(Debug)]
pub struct Ticket {
    queue: Arc<Queue>,
    number: u64,
}

impl Queue {
    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// The end of the line; `None` where as many as may wait do.
    pub fn enter(self: &Arc<Queue>, worker: WorkerId, most: u32) -> Option<Ticket> {
        let mut line = self.line.lock();
        if line.waiters.len() >= most as usize {
            return None;
        }
        let number = line.next;
        line.next += 1;
        line.waiters.push_back(Waiter { ticket: number, worker, waker: None });
        self.count(&line);
        Some(Ticket { queue: self.clone(), number })
    }

    /// There may be a place for the first in line.
    pub fn released(&self) {
        if self.waiting() > 0 {
            self.wake_first();
        }
    }

    /// Idle connections are in the way of somebody who waits.
    pub fn want_connection(&self) {
        self.wants_connection.store(true, SeqCst);
    }

    /// Whether an idle connection of this worker should make room: the first in line waits for one and cannot use it.
    pub fn is_in_the_way(&self, worker: WorkerId) -> bool {
        self.waiting() > 0
            && self.wants_connection.load(SeqCst)
            && self.line.lock().waiters.front().is_some_and(|first| first.worker != worker)
    }

    fn wake_first(&self) {
        let waker = self.line.lock().waiters.front().and_then(|first| first.waker.clone());
        // Outside of the lock: waking may run foreign code.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn count(&self, line: &Line) {
        self.waiting.store(u32::try_from(line.waiters.len()).unwrap_or(u32::MAX), SeqCst);
        if line.waiters.is_empty() {
            self.wants_connection.store(false, SeqCst);
        }
    }
}

impl Ticket {
    /// It waits for a connection, and idle ones of other workers are in the way.
    pub fn want_connection(&self) {
        self.queue.want_connection();
    }

    /// Whether it is this one's turn; `waker` is woken when it is, and when there may be a place for it.
    pub fn is_first(&self, waker: &Waker) -> bool {
        let mut line = self.queue.line.lock();
        let Ok(at) = line.waiters.binary_search_by_key(&self.number, |waiter| waiter.ticket) else { return false };
        if let Some(waiter) = line.waiters.get_mut(at)
            && !waiter.waker.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            waiter.waker = Some(waker.clone());
        }
        at == 0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut line = self.queue.line.lock();
        if let Ok(at) = line.waiters.binary_search_by_key(&self.number, |waiter| waiter.ticket) {
            line.waiters.remove(at);
        }
        self.queue.count(&line);
        drop(line);
        // There may be a place for the next as well.
        self.queue.released();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicU32);

    impl Wake for Bell {
        fn wake(self: Arc<Bell>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn bell() -> (Arc<Bell>, Waker) {
        let bell = Arc::new(Bell::default());
        (bell.clone(), bell.into())
    }

    #[test]
    fn whoever_came_first_is_served_first_and_who_leaves_makes_room() {
        let queue = Arc::new(Queue::default());
        let [a, b] = [0, 1].map(|worker| queue.enter(WorkerId(worker), 2).unwrap());
        assert!(queue.enter(WorkerId(0), 2).is_none(), "the line is full");
        let ((bell_a, waker_a), (bell_b, waker_b)) = (bell(), bell());
        assert!(!b.is_first(&waker_b) && a.is_first(&waker_a));
        queue.released();
        assert_eq!((bell_a.0.load(SeqCst), bell_b.0.load(SeqCst)), (1, 0));
        drop(a);
        assert_eq!(bell_b.0.load(SeqCst), 1, "the next may try");
        assert!(b.is_first(&waker_b));
        let c = queue.enter(WorkerId(0), 2).unwrap();
        drop(b);
        assert!(c.is_first(&waker_a));
        drop(c);
        assert_eq!(queue.waiting(), 0);
        queue.released();
        assert_eq!(bell_b.0.load(SeqCst), 1, "nobody waits");
    }

    #[test]
    fn who_leaves_the_middle_of_the_line_is_not_missed() {
        let queue = Arc::new(Queue::default());
        let mut tickets: Vec<Ticket> = (0..5).map(|_| queue.enter(WorkerId(0), 9).unwrap()).collect();
        tickets.remove(2);
        assert_eq!(queue.waiting(), 4);
        let (_, waker) = bell();
        for ticket in tickets {
            assert!(ticket.is_first(&waker));
        }
    }

    #[test]
    fn idle_connections_make_room_for_who_cannot_use_them() {
        let queue = Arc::new(Queue::default());
        let ticket = queue.enter(WorkerId(1), 9).unwrap();
        assert!(!queue.is_in_the_way(WorkerId(0)), "it does not wait for a connection");
        queue.want_connection();
        assert!(queue.is_in_the_way(WorkerId(0)));
        assert!(!queue.is_in_the_way(WorkerId(1)), "it can use that one itself");
        drop(ticket);
        assert!(!queue.is_in_the_way(WorkerId(0)));
        let _next = queue.enter(WorkerId(1), 9).unwrap();
        assert!(!queue.is_in_the_way(WorkerId(0)), "what the last one wanted is forgotten");
    }
}
