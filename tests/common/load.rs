//! Load for tests of reloads, deaths and drains: paced clients, each with a connection of the kind its name says, that count
//! what failed and why.
//!
//! A client is a thread with one exchange at a time, so whatever fails was the only thing under way on its connection.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::common::wire::{Broken, find};
use super::common::{Message, Origin, Wire, await_that};

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection for every GET.
    Fresh,
    /// GETs on one connection that must never end.
    Kept,
    /// GETs on one connection that may be closed between exchanges, or with `Connection: close`.
    Reopened,
    /// POSTs on one connection.
    Post,
    /// An upgraded connection that echoes, and must never end.
    WebSocket,
}

/// What one client, or all of a kind, saw.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub done: u64,
    /// Exchanges that failed before a byte of a response, or with a status other than 200.
    pub failed: u64,
    /// Responses that broke off after their first byte.
    pub truncated: u64,
    /// Connections that ended although they should not have.
    pub cut: u64,
    /// Connects that were refused.
    pub refused: u64,
    /// Connections that ended as they may: announced, or between exchanges.
    pub ended: u64,
    /// Answers by status, those other than 200.
    pub statuses: std::collections::BTreeMap<u16, u64>,
    /// The first few failures in words.
    pub words: Vec<String>,
}

impl Tally {
    fn note(&mut self, words: String) {
        if self.words.len() < 8 {
            self.words.push(words);
        }
    }

    pub fn add(&mut self, other: &Tally) {
        self.done += other.done;
        self.failed += other.failed;
        self.truncated += other.truncated;
        self.cut += other.cut;
        self.refused += other.refused;
        self.ended += other.ended;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.words.extend(other.words.iter().cloned());
    }
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    began: Instant,
    clients: Vec<(Kind, JoinHandle<Tally>)>,
}

/// What clients of a load saw, and how fast they were.
pub struct Seen {
    pub by_kind: Vec<(Kind, Tally)>,
    pub took: Duration,
}

impl Load {
    pub fn start() -> Load {
        Load { stop: Arc::default(), done: Arc::default(), began: Instant::now(), clients: Vec::new() }
    }

    /// Adds `count` clients of `kind` that ask for `path`, each once a `period`.
    pub fn clients(&mut self, kind: Kind, count: usize, to: SocketAddr, path: &str, period: Duration) -> &mut Load {
        for which in 0..count {
            // Spread over the period, or they would all ask at once.
            let first = Instant::now() + period * u32::try_from(which).unwrap_or(0) / u32::try_from(count).unwrap_or(1);
            let client = Client {
                kind,
                to,
                path: path.to_owned(),
                period,
                stop: self.stop.clone(),
                done: self.done.clone(),
                tally: Tally::default(),
                wire: None,
            };
            self.clients.push((kind, thread::spawn(move || client.run(first))));
        }
        self
    }

    /// Exchanges that went well so far.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Waits until `count` more exchanges went well.
    #[track_caller]
    pub fn await_more(&self, count: u64) {
        let target = self.done() + count;
        await_that(&format!("{count} more exchanges"), || self.done() >= target);
    }

    pub fn stop(self) -> Seen {
        self.stop.store(true, Relaxed);
        let took = self.began.elapsed();
        let mut by_kind: Vec<(Kind, Tally)> = Vec::new();
        for (kind, client) in self.clients {
            let tally = client.join().expect("a client's thread");
            match by_kind.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, sum)) => sum.add(&tally),
                None => by_kind.push((kind, tally)),
            }
        }
        Seen { by_kind, took }
    }
}

impl Seen {
    pub fn all(&self) -> Tally {
        let mut all = Tally::default();
        self.by_kind.iter().for_each(|(_, tally)| all.add(tally));
        all
    }

    pub fn of(&self, kind: Kind) -> Tally {
        self.by_kind.iter().find(|(known, _)| *known == kind).map(|(_, tally)| tally.clone()).unwrap_or_default()
    }

    pub fn rate(&self) -> f64 {
        self.all().done as f64 / self.took.as_secs_f64()
    }

    /// Fails unless everything went well.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        let all = self.all();
        let well = all.failed + all.truncated + all.cut + all.refused == 0;
        assert!(well, "something was lost in {:?}:\n{:#?}", self.took, self.by_kind);
    }
}

struct Client {
    kind: Kind,
    to: SocketAddr,
    path: String,
    period: Duration,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tally: Tally,
    wire: Option<Wire>,
}

impl Client {
    fn run(mut self, mut next: Instant) -> Tally {
        while !self.stop.load(Relaxed) {
            // The pace of a load, not a wait for anything.
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next = (next + self.period).max(Instant::now());
            if self.exchange() {
                self.tally.done += 1;
                self.done.fetch_add(1, Relaxed);
            }
        }
        self.tally
    }

    /// One exchange; whether it went well.
    fn exchange(&mut self) -> bool {
        if self.wire.as_ref().is_some_and(|wire| has_ended(wire.stream())) {
            self.wire = None;
            match self.kind {
                Kind::Reopened | Kind::Post => self.tally.ended += 1,
                _ => {
                    self.tally.cut += 1;
                    self.tally.note(format!("{:?}: ended while idle", self.kind));
                }
            }
        }
        let Some(mut wire) = self.wire.take().or_else(|| self.open()) else { return false };
        if self.kind == Kind::WebSocket {
            let said = format!("message {:06}\n", self.tally.done);
            wire.send(&said);
            return match wire.bytes(said.len()) {
                Ok(heard) if heard == said.as_bytes() => {
                    self.wire = Some(wire);
                    true
                }
                Ok(heard) => self.lost(format!("heard {:?}", String::from_utf8_lossy(&heard))),
                Err(broken) => self.lost(format!("{broken:?}")),
            };
        }
        wire.send(self.request());
        match wire.response() {
            Ok(response) => self.answered(wire, &response),
            Err(Broken { got, end }) if got.is_empty() => self.lost(format!("no byte of a response, {end:?}")),
            Err(Broken { got, end }) => {
                self.tally.truncated += 1;
                self.tally.note(format!("{:?}: {end:?} after {:?}", self.kind, String::from_utf8_lossy(&got)));
                false
            }
        }
    }

    fn request(&self) -> String {
        let path = &self.path;
        match self.kind {
            Kind::Fresh => format!("GET {path} HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n"),
            Kind::Post => format!("POST {path} HTTP/1.1\r\nHost: load\r\nContent-Length: 5\r\n\r\nhello"),
            _ => format!("GET {path} HTTP/1.1\r\nHost: load\r\n\r\n"),
        }
    }

    fn answered(&mut self, wire: Wire, response: &Message) -> bool {
        let announced = response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        match (self.kind, announced) {
            (Kind::Fresh, _) => {}
            (_, false) => self.wire = Some(wire),
            (Kind::Reopened | Kind::Post, true) => self.tally.ended += 1,
            (_, true) => self.tally.cut += 1,
        }
        let status = response.status();
        if status == 200 {
            return true;
        }
        self.tally.failed += 1;
        *self.tally.statuses.entry(status).or_default() += 1;
        self.tally.note(format!("{:?}: {}", self.kind, response.head_text()));
        false
    }

    fn lost(&mut self, words: String) -> bool {
        self.tally.failed += 1;
        if self.kind != Kind::Fresh {
            self.tally.cut += 1;
        }
        self.tally.note(format!("{:?}: {words}", self.kind));
        false
    }

    fn open(&mut self) -> Option<Wire> {
        let mut wire = match TcpStream::connect(self.to) {
            Ok(stream) => Wire::new(stream, None),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.tally.refused += 1;
                return None;
            }
            Err(error) => {
                self.lost(format!("connect: {error}"));
                return None;
            }
        };
        if self.kind == Kind::WebSocket {
            wire.send(handshake(&self.path));
            match wire.response_head() {
                Ok(head) if head.status() == 101 => {}
                other => {
                    self.lost(format!("no upgrade: {other:?}"));
                    return None;
                }
            }
        }
        Some(wire)
    }
}

/// A client's WebSocket handshake. Keys and frames are the endpoints' business; a proxy relays bytes.
pub fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: load\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Whether the peer has closed or reset a connection on which nothing is expected.
fn has_ended(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("nonblocking");
    let ended = !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).expect("blocking");
    ended
}

/// An endpoint that answers 200 with its name, and echoes whatever comes after an upgrade.
pub fn endpoint(name: &'static str) -> Origin {
    Origin::script(answering(name))
}

/// The same at the address of `listener`.
pub fn endpoint_on(listener: TcpListener, name: &'static str) -> Origin {
    Origin::script_on(listener, answering(name))
}

fn answering(name: &'static str) -> impl Fn(Wire, usize) -> Option<Wire> + Send + Sync + 'static {
    move |mut wire: Wire, _: usize| {
        while let Ok(request) = wire.request() {
            if request.field("upgrade").is_some() {
                wire.send(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
                );
                while let Ok(byte) = wire.bytes(1) {
                    let mut all = byte;
                    while find(&all, b"\n").is_none() {
                        let Ok(more) = wire.bytes(1) else { return Some(wire) };
                        all.extend(more);
                    }
                    wire.send(&all);
                }
                return Some(wire);
            }
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()));
        }
        Some(wire)
    }
}
