//! `strata decapsulate` on a real host: packets of a far client come tunnelled from the balancer, and the endpoint's kernel
//! answers the client itself.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use strata::wire::checksum::Sum;
use strata::wire::ipip::Outer;
use strata::wire::{Packet, gue, ip, ipip, ipv4, ipv6, udp};

use super::node::{Node, Process, can};
use super::server::{PORT, Server};
use super::world::{Family, Place, World};

/// A datagram from the client to the VIP, as it goes into the tunnel.
fn datagram(from: SocketAddr, vip: IpAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(udp::HEADER_LEN + payload.len()).expect("a short one");
    let mut header = udp::Header { source_port: from.port(), destination_port: PORT, length, checksum: 0 };
    let sum = Sum::pseudo(from.ip(), vip, 17, usize::from(length)).bytes(&header.emit()).bytes(payload);
    header.checksum = sum.udp_checksum();
    let ip = match (from.ip(), vip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4::Header::new(from, to, ip::Protocol::UDP, length).emit().to_vec(),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6::Header::new(from, to, ip::Protocol::UDP, length).emit().to_vec(),
        _ => unreachable!("both are of one family"),
    };
    [&ip, &header.emit()[..], payload].concat()
}

fn encapsulated(kind: &str, from: IpAddr, to: IpAddr, inner: &[u8]) -> Vec<u8> {
    let mut header = [0; 64];
    let (outer, packet) = (Outer::new(from, to), Packet::parse(inner).expect("a good packet"));
    let length = match kind {
        "ipip" => ipip::emit(&outer, &packet, &mut header),
        "gue" => gue::emit(&outer, 50_000, gue::Variant::Header, &packet, inner, &mut header),
        _ => gue::emit(&outer, 50_000, gue::Variant::Direct, &packet, inner, &mut header),
    };
    [&header[..length.expect("it fits")], inner].concat()
}

/// Sends what has an IP header already.
fn send(host: &Node, to: IpAddr, packet: &[u8]) -> io::Result<usize> {
    let to = SocketAddr::new(to, 0);
    let socket = host.enter(|| Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(255))))?;
    socket.send_to(packet, &to.into())
}

/// What comes after `send`, and from whom. A datagram is lost where a neighbour is slow to say where it is: it is sent again.
fn answer<T>(client: &UdpSocket, send: impl Fn() -> io::Result<T>) -> io::Result<(String, IpAddr)> {
    let mut last = io::ErrorKind::TimedOut.into();
    for _ in 0..TRIES {
        send()?;
        let mut buffer = [0; 1500];
        match client.recv_from(&mut buffer) {
            Ok((got, by)) => return Ok((String::from_utf8_lossy(&buffer[..got]).into_owned(), by.ip())),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A second each.
const TRIES: usize = 20;

fn client(world: &World, family: Family) -> UdpSocket {
    let from = SocketAddr::new(family.client(), 0);
    let socket = world.client.enter(|| UdpSocket::bind(from)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    socket
}

fn start(world: &World, mode: &str) -> Process {
    let vips = format!("{},{}", Family::V4.vip(), Family::V6.vip());
    let endpoint = &world.endpoints[0];
    let mut process = endpoint.spawn(&["decapsulate", "--mode", mode, "--vip", &vips]);
    process.await_line("decapsulates packets for 10.0.0.100, fd00::100");
    process
}

#[test]
fn each_family_comes_out_of_each_tunnel() {
    if !can("`strata decapsulate` on a real host") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    world.endpoints[0].ip("address add 10.0.0.100/32 dev lo");
    world.endpoints[0].ip("-6 address add fd00::100/128 dev lo nodad");
    let _servers = Family::BOTH.map(|family| Server::start(&world.endpoints[0], &[family.vip()], "endpoint0"));
    for (mode, kinds) in [("ipip", &["ipip"][..]), ("gue", &["gue", "gue without header"])] {
        let _process = start(&world, mode);
        for kind in kinds {
            for (inside, outside) in Family::BOTH.map(|a| Family::BOTH.map(|b| (a, b))).as_flattened() {
                let (client, vip) = (client(&world, *inside), inside.vip());
                let from = client.local_addr().expect("its address");
                let case = format!("{} in {} by {kind}", inside.word(), outside.word());
                let (balancer, endpoint) = (outside.balancer(), outside.endpoint(Place::Lan, 0));
                let packet = encapsulated(kind, balancer, endpoint, &datagram(from, vip, case.as_bytes()));
                let answered = answer(&client, || send(&world.balancer, endpoint, &packet));
                let (answer, by) = answered.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!((answer, by), (format!("endpoint0 {from}\n{case}"), vip), "{case}");
            }
        }
    }
}

/// Only packets for the VIPs come out: whoever reaches the endpoint must not have others sent from there.
#[test]
fn what_is_not_for_a_vip_stays_in_the_tunnel() {
    if !can("what `strata decapsulate` refuses") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    let (family, endpoint) = (Family::V4, Family::V4.endpoint(Place::Lan, 0));
    world.endpoints[0].ip("address add 10.0.0.100/32 dev lo");
    let _servers = [endpoint, family.vip()].map(|at| Server::start(&world.endpoints[0], &[at], "endpoint0"));
    let near = Server::start(&world.near, &[family.near()], "near");
    let _process = start(&world, "ipip");
    let client = client(&world, family);
    let from = client.local_addr().expect("its address");
    let tunnelled = |to: IpAddr, payload: &[u8]| {
        let packet = encapsulated("ipip", family.balancer(), endpoint, &datagram(from, to, payload));
        send(&world.balancer, endpoint, &packet)
    };
    // Another address of the endpoint, a client, and a tunnel in the tunnel. Then a good one: it would come last.
    tunnelled(endpoint, b"no VIP").expect("sent");
    tunnelled(family.near(), b"another host").expect("sent");
    let twice = encapsulated("ipip", family.balancer(), family.vip(), &datagram(from, family.vip(), b"two layers"));
    let twice = encapsulated("ipip", family.balancer(), endpoint, &twice);
    send(&world.balancer, endpoint, &twice).expect("sent");
    let (answer, _) = answer(&client, || tunnelled(family.vip(), b"good")).expect("the good one's answer");
    assert!(answer.ends_with("\ngood"), "{answer}");
    assert_eq!(near.datagrams(), 0, "another host was sent something");
}

#[test]
fn without_the_privilege_it_says_what_it_needs() {
    if !can("the errors of `strata decapsulate`") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    let binary = env!("CARGO_BIN_EXE_strata");
    let words = ["--bounding-set", "-net_raw", binary, "decapsulate", "--mode", "ipip", "--vip", "10.0.0.100"];
    let output = world.endpoints[0].run("setpriv", &words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("raw sockets need CAP_NET_RAW"), "{said}");
}
