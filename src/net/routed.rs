//! Io: the pool that a request or connection was routed to, as it is by now.
//!
//! Who waits for a place, or tries a second endpoint, may see a reload: a pool of the snapshot before is told nothing of drained or
//! removed endpoints any more, nor of other limits, and whoever stood first in its line would hold up all behind. So it follows
//! before every pick. Costs no shared reference count while there was no reload.

use std::ops::Deref;
use std::sync::Arc;

use super::worker::Worker;
use crate::state::Pool;

pub struct Routed<'a> {
    to: &'a Arc<Pool>,
    /// What a reload has made of it.
    renewed: Option<Arc<Pool>>,
}

impl<'a> Routed<'a> {
    pub fn to(pool: &'a Arc<Pool>) -> Routed<'a> {
        Routed { to: pool, renewed: None }
    }

    /// Looks whether there was a reload. Where the pool is gone, it stays what it was: what was routed there drains.
    pub fn follow(&mut self, worker: &Worker) {
        let snapshot = worker.snapshot();
        let Some(now) = snapshot.pool(self.id) else { return };
        // One that went and came again has another line, and who waits in this one would not hear of its places.
        if !Arc::ptr_eq(now, self) && Arc::ptr_eq(&now.queue, &self.queue) {
            self.renewed = Some(now.clone());
        }
    }
}

impl Deref for Routed<'_> {
    type Target = Arc<Pool>;

    fn deref(&self) -> &Arc<Pool> {
        self.renewed.as_ref().unwrap_or(self.to)
    }
}
