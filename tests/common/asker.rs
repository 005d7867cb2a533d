//! One client that asks one thing after the other, for as long as a test has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use super::{Strata, Wire};

/// Ends, and has its answers judged, when it is dropped.
pub struct Asker {
    stop: Arc<AtomicBool>,
    client: Option<JoinHandle<()>>,
}

impl Asker {
    pub fn start(strata: &Strata, path: &str) -> Asker {
        let (stop, edge) = (Arc::new(AtomicBool::new(false)), strata.edge);
        let (stopped, request) = (stop.clone(), format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let client = std::thread::spawn(move || {
            let mut wire = Wire::connect(edge);
            while !stopped.load(Relaxed) {
                wire.send(&request);
                assert_eq!(wire.response().expect("an answer").status(), 200);
            }
        });
        Asker { stop, client: Some(client) }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let ended = self.client.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()), "the client got wrong answers");
    }
}
