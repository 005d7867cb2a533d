//! A name server of a test's own, over UDP and TCP at one address, that answers what it is told to, rightly or wrongly.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::common::{await_that, free_listener};

pub const A: u16 = 1;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const NXDOMAIN: u8 = 3;
pub const SERVFAIL: u8 = 2;

/// What it says of one name and type.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With these seconds to live.
    Addresses(u32, Vec<IpAddr>),
    /// `(priority, weight, port, host)`.
    Services(u32, Vec<(u16, u16, u16, &'static str)>),
    /// By these aliases, one after the other.
    Aliased(Vec<&'static str>, Vec<IpAddr>),
    /// NOERROR, and no record.
    Nothing,
    Code(u8),
    Silence,
    /// Over UDP: that the answer does not fit.
    OverTcp(Vec<IpAddr>),
    /// First an answer with another number, and this address, then the right one.
    Forged(IpAddr, Vec<IpAddr>),
    /// A name that points at itself.
    Circle,
    /// The first bytes of an answer.
    Half(Vec<IpAddr>),
}

pub struct Dns {
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    stop: Arc<AtomicBool>,
}

#[derive(Default)]
struct Zone {
    replies: HashMap<(String, u16), Reply>,
    asked: HashMap<(String, u16), usize>,
    by_stream: usize,
}

impl Dns {
    pub fn start() -> Dns {
        let stream = free_listener();
        let address = stream.local_addr().unwrap();
        let datagrams = UdpSocket::bind(address).expect("the same port of UDP");
        datagrams.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (zone, stop) = (Arc::<Mutex<Zone>>::default(), Arc::<AtomicBool>::default());
        let (of, over) = (zone.clone(), stop.clone());
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !over.load(Relaxed) {
                let Ok((length, peer)) = datagrams.recv_from(&mut buffer) else { continue };
                for answer in answers(&of, &buffer[..length], false) {
                    let _ = datagrams.send_to(&answer, peer);
                }
            }
        });
        let (of, over) = (zone.clone(), stop.clone());
        thread::spawn(move || serve(&stream, &of, &over));
        Dns { address, zone, stop }
    }

    pub fn say(&self, name: &str, kind: u16, reply: Reply) {
        self.zone.lock().replies.insert((name.to_owned(), kind), reply);
    }

    pub fn addresses(&self, name: &str, addresses: &[IpAddr]) {
        self.say(name, A, Reply::Addresses(0, addresses.to_vec()));
    }

    /// How often it was asked.
    pub fn asked(&self, name: &str, kind: u16) -> usize {
        self.zone.lock().asked.get(&(name.to_owned(), kind)).copied().unwrap_or(0)
    }

    pub fn asked_over_tcp(&self) -> usize {
        self.zone.lock().by_stream
    }

    /// Waits until it was asked so many times more.
    #[track_caller]
    pub fn await_asked(&self, name: &str, kind: u16, more: usize) {
        let before = self.asked(name, kind);
        await_that(&format!("{more} more questions for {name}"), || self.asked(name, kind) >= before + more);
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // Wakes whoever accepts.
        let _ = std::net::TcpStream::connect(self.address);
    }
}

fn serve(listener: &TcpListener, zone: &Mutex<Zone>, stop: &AtomicBool) {
    for stream in listener.incoming() {
        let (Ok(mut stream), false) = (stream, stop.load(Relaxed)) else { return };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        if stream.read_exact(&mut question).is_ok() {
            zone.lock().by_stream += 1;
            for answer in answers(zone, &question, true) {
                let _ = stream.write_all(&(answer.len() as u16).to_be_bytes());
                let _ = stream.write_all(&answer);
            }
        }
    }
}

/// Every message that it sends for a question.
fn answers(zone: &Mutex<Zone>, question: &[u8], by_stream: bool) -> Vec<Vec<u8>> {
    let Some((name, kind, end)) = read(question) else { return Vec::new() };
    let mut zone = zone.lock();
    *zone.asked.entry((name.clone(), kind)).or_default() += 1;
    let reply = zone.replies.get(&(name, kind)).cloned().unwrap_or(Reply::Code(NXDOMAIN));
    let asked = &question[12..end];
    let id = u16::from_be_bytes([question[0], question[1]]);
    let whole = |id: u16, flags: u16, records: &[Vec<u8>]| {
        let mut out = id.to_be_bytes().to_vec();
        out.extend(flags.to_be_bytes());
        out.extend([0, 1]);
        out.extend((records.len() as u16).to_be_bytes());
        out.extend([0; 4]);
        out.extend(asked);
        records.iter().for_each(|record| out.extend(record));
        out
    };
    let own = [0xc0, 12];
    let hosts = |addresses: &[IpAddr], ttl: u32| addresses.iter().map(|ip| host(&own, ttl, *ip)).collect::<Vec<_>>();
    const GOOD: u16 = 0x8180;
    match reply {
        Reply::Addresses(ttl, addresses) => vec![whole(id, GOOD, &hosts(&addresses, ttl))],
        Reply::Services(ttl, services) => {
            let records: Vec<Vec<u8>> = services
                .iter()
                .map(|(priority, weight, port, target)| {
                    let numbers = [*priority, *weight, *port].map(u16::to_be_bytes).concat();
                    record(&own, SRV, ttl, &[numbers, written(target)].concat())
                })
                .collect();
            vec![whole(id, GOOD, &records)]
        }
        Reply::Aliased(aliases, addresses) => {
            let mut records = Vec::new();
            let mut owner = own.to_vec();
            for alias in &aliases {
                records.push(record(&owner, 5, 0, &written(alias)));
                owner = written(alias);
            }
            records.extend(addresses.iter().map(|ip| host(&owner, 0, *ip)));
            vec![whole(id, GOOD, &records)]
        }
        Reply::Nothing => vec![whole(id, GOOD, &[])],
        Reply::Code(code) => vec![whole(id, GOOD | u16::from(code), &[])],
        Reply::Silence => Vec::new(),
        Reply::OverTcp(_) if !by_stream => vec![whole(id, GOOD | 0x200, &[])],
        Reply::OverTcp(addresses) => vec![whole(id, GOOD, &hosts(&addresses, 0))],
        Reply::Forged(forged, addresses) => {
            vec![whole(id ^ 1, GOOD, &hosts(&[forged], 60)), whole(id, GOOD, &hosts(&addresses, 0))]
        }
        Reply::Circle => {
            let at = 12 + asked.len() as u16;
            vec![whole(id, GOOD, &[host(&(0xc000 | at).to_be_bytes(), 0, IpAddr::from([10, 0, 0, 1]))])]
        }
        Reply::Half(addresses) => {
            let mut half = whole(id, GOOD, &hosts(&addresses, 0));
            half.truncate(half.len() - 3);
            vec![half]
        }
    }
}

/// The name and the type that are asked for, and where the question ends.
fn read(question: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*question.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at + 1..at + 1 + length)?).into_owned());
        at += 1 + length;
    }
    let kind = question.get(at + 1..at + 3)?;
    Some((labels.join("."), u16::from_be_bytes([kind[0], kind[1]]), at + 5))
}

fn written(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

fn host(owner: &[u8], ttl: u32, ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => record(owner, A, ttl, &v4.octets()),
        IpAddr::V6(v6) => record(owner, AAAA, ttl, &v6.octets()),
    }
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut out = owner.to_vec();
    out.extend([kind, 1].map(u16::to_be_bytes).concat());
    out.extend(ttl.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
    out
}
