//! A server that says who it is, over TCP and UDP, and keeps count of what it was sent.
//!
//! TCP, as often as the client likes on one connection: the client sends how many bytes it will upload and how many it wants,
//! and the bytes; the server answers with its name, the client's address, a checksum of what came, and the bytes.
//! UDP: its name, the client's address, and what came.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::node::Node;

pub struct Server {
    state: Arc<State>,
}

struct State {
    name: String,
    stop: AtomicBool,
    connections: AtomicU64,
    datagrams: AtomicU64,
}

impl Server {
    /// Serves `addresses` on `host`, which must have them.
    #[track_caller]
    pub fn start(host: &Node, addresses: &[IpAddr], name: &str) -> Server {
        let (stop, connections, datagrams) = (false.into(), 0.into(), 0.into());
        let state = Arc::new(State { name: name.to_owned(), stop, connections, datagrams });
        for address in addresses {
            let address = SocketAddr::new(*address, PORT);
            let bind = || Ok((TcpListener::bind(address)?, UdpSocket::bind(address)?));
            let bound: io::Result<_> = host.enter(bind);
            let (listener, socket) = bound.unwrap_or_else(|error| panic!("{name} on {address}: {error}"));
            listener.set_nonblocking(true).expect("non-blocking");
            socket.set_read_timeout(Some(TICK)).expect("a timeout");
            let (tcp, udp) = (state.clone(), state.clone());
            thread::spawn(move || tcp.accept(&listener));
            thread::spawn(move || udp.echo(&socket));
        }
        Server { state }
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Relaxed)
    }

    /// Datagrams answered so far.
    pub fn datagrams(&self) -> u64 {
        self.state.datagrams.load(Relaxed)
    }
}

/// Its host refuses new connections from then on, and resets open ones when they speak again.
impl Drop for Server {
    fn drop(&mut self) {
        self.state.stop.store(true, Relaxed);
    }
}

impl State {
    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while !self.stopped() {
            match listener.accept() {
                Ok((stream, peer)) => {
                    self.connections.fetch_add(1, Relaxed);
                    let state = self.clone();
                    thread::spawn(move || {
                        let _ = stream.set_nonblocking(false).and_then(|()| state.serve(stream, peer));
                    });
                }
                // There is nothing to wait on that would also hear the stop.
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn serve(&self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; BLOCK];
        loop {
            let mut head = [0; 16];
            stream.read_exact(&mut head)?;
            if self.stopped() {
                // As the kernel says it for a process that has ended.
                return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            let [up, down] = [0, 8].map(|at| u64::from_be_bytes(head[at..at + 8].try_into().expect("8 bytes")));
            let mut sum = Checksum::default();
            let mut left = up;
            while left > 0 {
                let most = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
                let got = stream.read(&mut buffer[..most])?;
                if got == 0 {
                    return Ok(());
                }
                sum.add(&buffer[..got]);
                left -= got as u64;
            }
            let line = format!("{} {peer} {:x}\n", self.name, sum.0);
            stream.write_all(line.as_bytes())?;
            send(&mut stream, down)?;
        }
    }

    fn echo(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; 65_535];
        while !self.stopped() {
            let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
            self.datagrams.fetch_add(1, Relaxed);
            let mut answer = format!("{} {peer}\n", self.name).into_bytes();
            answer.extend_from_slice(&buffer[..length]);
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// Depends on every byte and its place (FNV-1a).
pub struct Checksum(pub u64);

impl Default for Checksum {
    fn default() -> Checksum {
        Checksum(0xcbf2_9ce4_8422_2325)
    }
}

impl Checksum {
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// The byte at `at` of everything that is sent: no block is like the next.
pub fn byte(at: u64) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

/// Sends `count` bytes of the pattern.
pub fn send(stream: &mut TcpStream, count: u64) -> io::Result<()> {
    let mut at = 0;
    while at < count {
        let block: Vec<u8> = (at..count.min(at + BLOCK as u64)).map(byte).collect();
        stream.write_all(&block)?;
        at += block.len() as u64;
    }
    Ok(())
}

/// The port of every server: each has an address of its own, on a host of its own.
pub const PORT: u16 = 8080;
pub const BLOCK: usize = 16 * 1024;
const TICK: Duration = Duration::from_millis(50);
