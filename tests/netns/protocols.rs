//! A protocol that is neither TCP nor UDP nor ICMP, through each mode that carries all: an experiment's (RFC 3692).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::node::{Node, can};
use super::rig::{Extra, Rig, Way};
use super::server::byte;
use super::world::{Family, Place, World};

#[test]
fn a_protocol_without_ports_is_carried() {
    if !can("IP protocol 253 through Strata") {
        return;
    }
    let mut failures = Vec::new();
    for (way, place) in [
        (Way::L2, Place::Lan),
        (Way::Ipip, Place::Lan),
        (Way::Gue, Place::BehindRouter),
        (Way::Nat, Place::Lan),
        (Way::Nat, Place::BehindBalancer),
    ] {
        let rig = Rig::new(way, place, 3, 3, Extra::default());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let _stop = Stop(&stop);
            for (index, host) in rig.world.endpoints.iter().enumerate() {
                for family in Family::BOTH {
                    let own = if way.is_direct() { family.vip() } else { family.endpoint(place, index) };
                    let (socket, stop) = (bound(host, own), &stop);
                    scope.spawn(move || echo(&socket, own, &World::name(index), stop));
                }
            }
            for family in Family::BOTH {
                let mut first = None;
                for length in [0, 1, 100, 1000, 1400] {
                    let case = format!("{way:?} {place:?} {} {length} bytes", family.word());
                    match ask(&rig.world.client, family, length) {
                        // One client, and no port: one flow.
                        Ok(name) if *first.get_or_insert_with(|| name.clone()) != name => {
                            failures.push(format!("{case}: {name}, after {first:?}"));
                        }
                        Ok(_) => {}
                        Err(error) => failures.push(format!("{case}: {error}")),
                    }
                }
            }
        });
        if !failures.is_empty() {
            failures.push(rig.strata.log_tail());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A raw socket with an address of its host's. The standard library has none, but its calls are these.
fn bound(host: &Node, address: IpAddr) -> UdpSocket {
    let at = SocketAddr::new(address, 0);
    let open = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(at), Type::RAW, Some(Protocol::from(EXPERIMENT)))?;
        socket.bind(&at.into())?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(socket.into())
    };
    host.enter(open).unwrap_or_else(|error| panic!("{address} on {}: {error}", host.name))
}

/// Answers with its name and what came.
fn echo(socket: &UdpSocket, own: IpAddr, name: &str, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let Ok((body, peer)) = receive(socket, own) else { continue };
        let _ = socket.send_to(&[name.as_bytes(), b"\n", &body].concat(), peer);
    }
}

/// Sends `length` bytes and gives who answered with the same. Packets are lost where a network is busy: five tries.
fn ask(client: &Node, family: Family, length: u64) -> io::Result<String> {
    let socket = bound(client, family.client());
    socket.connect(SocketAddr::new(family.vip(), 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let sent: Vec<u8> = (0..length).map(byte).collect();
    let mut last = io::ErrorKind::TimedOut.into();
    for _ in 0..5 {
        socket.send(&sent)?;
        match receive(&socket, family.client()) {
            Ok((body, _)) => {
                let line = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
                let name = String::from_utf8_lossy(&body[..line]).into_owned();
                let same = body.get(line + 1..) == Some(&sent[..]);
                return if same { Ok(name) } else { Err(io::Error::other("other bytes than were sent")) };
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What comes after the IP header, and from whom.
fn receive(socket: &UdpSocket, own: IpAddr) -> io::Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2000];
    let (got, peer) = socket.recv_from(&mut buffer)?;
    // Raw sockets give the IP header with IPv4, and none with IPv6.
    let header = if own.is_ipv4() { usize::from(buffer[0] & 0x0f) * 4 } else { 0 };
    Ok((buffer[header..got].to_vec(), SocketAddr::new(peer.ip(), 0)))
}

const EXPERIMENT: i32 = 253;
