//! Value: the loops that the process lives by, and when each has last shown that it gets to its work. One that panics stays, as ended.
//!
//! ```text
//!  begin ─▶ goes on ◀─beat─▶ silent (late by more than whoever judges waits)
//!              │ dropped: it is over, as it should    │ dropped by a panic: ended, for good
//! ```
//!
//! Not here: who judges, and what follows (`app::watch`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::base::Moment;

/// All loops of one process.
#[derive(Debug, Default)]
pub struct Beats {
    loops: Mutex<Vec<Arc<Loop>>>,
    /// How many were found silent when last judged.
    silent: AtomicU32,
}

#[derive(Debug)]
struct Loop {
    who: String,
    /// When it last showed that it goes on, in ns; of one that has ended, at the latest when that was noticed.
    /// [`Moment::NEVER`] for one that shows it by not panicking, since its thread beats.
    last: CachePadded<AtomicU64>,
    /// A panic has ended it.
    ended: AtomicBool,
}

/// A loop's own end of it. Dropping it says that the loop is over, or, in a panic, that it should not be.
#[derive(Debug)]
pub struct Beat {
    own: Arc<Loop>,
    all: Arc<Beats>,
}

/// A loop that does not get to its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    pub who: String,
    /// For how long; `None`: a panic has ended it.
    pub since: Option<Duration>,
}

impl Beats {
    /// A loop that beats from now on.
    pub fn begin(self: &Arc<Beats>, who: impl Into<String>, now: Moment) -> Beat {
        self.enter(who.into(), now)
    }

    /// A loop on a thread that beats: it goes on unless it panics.
    pub fn attend(self: &Arc<Beats>, who: impl Into<String>) -> Beat {
        self.enter(who.into(), Moment::NEVER)
    }

    fn enter(self: &Arc<Beats>, who: String, last: Moment) -> Beat {
        let last = CachePadded::new(AtomicU64::new(last.0));
        let own = Arc::new(Loop { who, last, ended: AtomicBool::new(false) });
        self.loops.lock().push(own.clone());
        Beat { own, all: self.clone() }
    }

    /// Who has not shown for `patience` that it goes on, or has ended.
    pub fn judge(&self, now: Moment, patience: Duration) -> Vec<Silent> {
        let mut silent = Vec::new();
        for one in self.loops.lock().iter() {
            let ended = one.ended.load(Relaxed);
            if ended {
                one.last.fetch_min(now.0, Relaxed);
            }
            let since = now.since(Moment(one.last.load(Relaxed)));
            if ended || since >= patience {
                silent.push(Silent { who: one.who.clone(), since: (!ended).then_some(since) });
            }
        }
        self.silent.store(u32::try_from(silent.len()).unwrap_or(u32::MAX), Relaxed);
        silent
    }

    /// For how long the one that is silent for longest has been.
    pub fn silence(&self, now: Moment) -> Duration {
        let loops = self.loops.lock();
        loops.iter().map(|one| now.since(Moment(one.last.load(Relaxed)))).max().unwrap_or_default()
    }

    /// How many were silent when last judged.
    pub fn silent(&self) -> u32 {
        self.silent.load(Relaxed)
    }
}

impl Beat {
    pub fn beat(&self, now: Moment) {
        self.own.last.store(now.0, Relaxed);
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.own.ended.store(true, Relaxed);
        } else {
            self.all.loops.lock().retain(|one| !Arc::ptr_eq(one, &self.own));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn who(silent: &[Silent]) -> Vec<(&str, Option<Duration>)> {
        silent.iter().map(|silent| (&*silent.who, silent.since)).collect()
    }

    #[test]
    fn who_is_late_is_silent_until_it_beats_and_who_is_over_is_not_missed() {
        let beats = Arc::new(Beats::default());
        let start = Moment::from_millis(5000);
        let (a, b) = (beats.begin("a", start), beats.begin("b", start));
        let attended = beats.attend("attended");
        a.beat(start + SECOND);
        assert_eq!(who(&beats.judge(start + SECOND, SECOND)), [("b", Some(SECOND))]);
        assert_eq!((beats.silent(), beats.silence(start + SECOND)), (1, SECOND));
        b.beat(start + SECOND);
        assert!(beats.judge(start + SECOND, SECOND).is_empty());
        drop((a, attended));
        assert_eq!(who(&beats.judge(start + SECOND * 9, SECOND)), [("b", Some(SECOND * 8))]);
    }

    #[test]
    fn who_panics_is_missed_for_good_on_a_thread_and_in_a_task() {
        let beats = Arc::new(Beats::default());
        let own = beats.begin("thread", Moment::from_millis(1));
        let thread = std::thread::spawn(move || {
            own.beat(Moment::from_millis(2));
            panic!("a mistake");
        });
        assert!(thread.join().is_err());
        let own = beats.attend("task");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = async move {
            let _own = own;
            tokio::task::yield_now().await;
            panic!("a mistake");
        };
        assert!(
            tokio::task::LocalSet::new().block_on(&runtime, async { tokio::task::spawn_local(task).await }).is_err()
        );
        let now = Moment::from_millis(3);
        for later in [Duration::ZERO, SECOND] {
            assert_eq!(who(&beats.judge(now + later, SECOND)), [("thread", None), ("task", None)]);
        }
        assert_eq!(beats.silence(now + SECOND), SECOND + Duration::from_millis(1), "the thread beat at 2 ms");
    }
}
