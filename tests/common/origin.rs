//! A server that does what a test tells it to, and remembers every byte that came.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use parking_lot::Mutex;

use super::wire::{End, Tap, Wire, find};
use super::{await_that, free_listener};

type Taps = Arc<Mutex<Vec<Arc<Mutex<Tap>>>>>;

pub struct Origin {
    pub address: SocketAddr,
    taps: Taps,
    stop: Arc<AtomicBool>,
}

impl Origin {
    /// Each connection gets a thread that runs `script(connection, which)`, counted from 0; afterwards the connection stays
    /// open until the peer ends it, unless the script has dropped or reset it.
    pub fn script(script: impl Fn(Wire, usize) -> Option<Wire> + Send + Sync + 'static) -> Origin {
        Origin::script_on(free_listener(), script)
    }

    pub fn script_at(
        address: SocketAddr,
        script: impl Fn(Wire, usize) -> Option<Wire> + Send + Sync + 'static,
    ) -> Origin {
        Origin::script_on(TcpListener::bind(address).unwrap_or_else(|error| panic!("bind {address}: {error}")), script)
    }

    pub fn script_on(
        listener: TcpListener,
        script: impl Fn(Wire, usize) -> Option<Wire> + Send + Sync + 'static,
    ) -> Origin {
        let address = listener.local_addr().expect("a bound socket has an address");
        let (taps, stop) = (Taps::default(), Arc::new(AtomicBool::new(false)));
        let script = Arc::new(script);
        let (all, stopped) = (taps.clone(), stop.clone());
        thread::spawn(move || {
            for (which, stream) in listener.incoming().enumerate() {
                let (Ok(stream), false) = (stream, stopped.load(Relaxed)) else { return };
                let tap = Arc::new(Mutex::new(Tap::default()));
                all.lock().push(tap.clone());
                let script = script.clone();
                thread::spawn(move || {
                    let wire = Wire::new(stream, Some(tap.clone()));
                    if let Some(mut left) = script(wire, which) {
                        left.rest();
                    }
                });
            }
        });
        Origin { address, taps, stop }
    }

    /// Answers every request with 200; the body is the request as it came, head and body.
    pub fn echo() -> Origin {
        Origin::serve(|request| {
            let mut body = request.head.clone();
            body.extend_from_slice(&request.body);
            body.extend_from_slice(request.trailers.as_bytes());
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            if !request.head.starts_with(b"HEAD ") {
                answer.extend_from_slice(&body);
            }
            answer
        })
    }

    /// Answers every request with these bytes.
    pub fn always(answer: impl Into<Vec<u8>>) -> Origin {
        let answer = answer.into();
        Origin::serve(move |_| answer.clone())
    }

    /// Answers every request on every connection with what `answer` makes of it.
    pub fn serve(answer: impl Fn(&super::Message) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::script(move |mut wire, _| {
            while let Ok(request) = wire.request() {
                wire.send(answer(&request));
            }
            Some(wire)
        })
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.taps.lock().len()
    }

    /// Bytes so far, over all connections.
    pub fn bytes(&self) -> usize {
        self.taps.lock().iter().map(|tap| tap.lock().bytes.len()).sum()
    }

    /// What came on connection `which`.
    pub fn seen(&self, which: usize) -> Vec<u8> {
        self.taps.lock().get(which).map(|tap| tap.lock().bytes.clone()).unwrap_or_default()
    }

    pub fn end_of(&self, which: usize) -> Option<End> {
        self.taps.lock().get(which).and_then(|tap| tap.lock().end)
    }

    /// Waits for bytes on connection `which`.
    #[track_caller]
    pub fn await_seen(&self, which: usize, what: &str) {
        let needle = what.as_bytes();
        await_that(&format!("{what:?} at the origin"), || find(&self.seen(which), needle).is_some());
    }

    /// Waits until the peer has given connection `which` up.
    #[track_caller]
    pub fn await_discarded(&self, which: usize) {
        await_that(&format!("connection {which} to the origin is closed"), || self.end_of(which).is_some());
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}
