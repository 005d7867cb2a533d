//! Wiring: `strata decapsulate`: takes IPIP or GUE headers off on an endpoint whose kernel cannot, as in many containers.
//!
//! The kernel hands the outer packets to raw sockets (IPIP) or to a UDP socket (GUE), having judged their checksums and put
//! fragments together; what is inside goes back to it over `lo`, where the VIP is. No device and no module is needed. It costs
//! two copies and two system calls a packet: for endpoints with much traffic, `strata setup-endpoint` makes the kernel do it.
//!
//! One layer, to the named VIPs only: whoever can reach this host must not be able to have any packet sent from it. Not here:
//! the VIP on `lo` and what keeps the host from claiming it (`strata setup-endpoint --userspace`).

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::thread;

use anyhow::anyhow;
use socket2::{Domain, Protocol, Socket, Type};

use super::say;
use crate::wire::ip::Protocol as Number;
use crate::wire::{Packet, Transport, gue};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// IP in IP: protocols 4 and 41
    Ipip,
    /// Generic UDP encapsulation, port 6080
    Gue,
}

/// Runs until it is stopped.
pub fn decapsulate(mode: Mode, vips: Vec<IpAddr>) -> anyhow::Result<ExitCode> {
    let inlets = inlets(mode).map_err(explain)?;
    let [v4, v6] = [Domain::IPV4, Domain::IPV6].map(|domain| raw(domain, RAW));
    let outlet = Outlet { vips, v4: v4.map_err(explain)?, v6: v6.ok() };
    let list: Vec<String> = outlet.vips.iter().map(IpAddr::to_string).collect();
    say(format_args!("decapsulates packets for {}\n", list.join(", ")))?;
    let error = thread::scope(|scope| {
        let running: Vec<_> = inlets.iter().map(|inlet| scope.spawn(|| inlet.serve(&outlet))).collect();
        let ended = running.into_iter().map(|thread| thread.join());
        ended.flatten().next()
    });
    Err(anyhow!("cannot receive: {}", error.map_or_else(String::new, |error| error.to_string())))
}

/// Where outer packets come from.
struct Inlet {
    socket: Socket,
    outer: Outer,
}

/// What the socket leaves of the outer headers.
#[derive(Clone, Copy)]
enum Outer {
    /// An IPv4 header: raw sockets of that family give it.
    Ipv4,
    /// Nothing.
    Gone,
    /// GUE's own header.
    Gue,
}

/// Where the kernel takes packets that are complete.
struct Outlet {
    vips: Vec<IpAddr>,
    v4: Socket,
    /// Absent where the kernel has no IPv6.
    v6: Option<Socket>,
}

impl Inlet {
    fn serve(&self, outlet: &Outlet) -> io::Error {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let mut said = BTreeSet::new();
        loop {
            let got = match (&self.socket).read(&mut buffer) {
                Ok(length) => buffer.get(..length).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return error,
            };
            let outcome = match inner(self.outer, got) {
                Some(inner) => outlet.deliver(inner),
                None => Err("no tunnelled packet".into()),
            };
            // Once each: whoever sends such packets must not be able to fill a disk.
            if let Err(why) = outcome
                && said.len() < REASONS
                && said.insert(why.clone())
            {
                eprintln!("strata: not delivered: {why}");
            }
        }
    }
}

impl Outlet {
    fn deliver(&self, inner: &[u8]) -> Result<(), String> {
        let packet = Packet::parse(inner).map_err(|fault| format!("what is inside: {}", fault.word()))?;
        if !self.vips.contains(&packet.destination) {
            return Err(format!("{} is no VIP of ours", packet.destination));
        }
        // It would come back to us, and to be taken apart without end is what some send (G22).
        let tunnelled = [Number::IPIP, Number::IPV6].contains(&packet.protocol)
            || matches!(packet.transport, Transport::Udp(header) if header.destination_port == gue::PORT);
        if tunnelled {
            return Err("a tunnel in the tunnel".into());
        }
        let socket = if packet.is_ipv6() { self.v6.as_ref() } else { Some(&self.v4) };
        let socket = socket.ok_or("this kernel has no IPv6")?;
        let to = SocketAddr::new(packet.destination, 0).into();
        let datagram = inner.get(..packet.len).unwrap_or_default();
        socket.send_to(datagram, &to).map(drop).map_err(|error| format!("the kernel does not take it: {error}"))
    }
}

/// The inner datagram.
fn inner(outer: Outer, bytes: &[u8]) -> Option<&[u8]> {
    let at = match outer {
        Outer::Gone => 0,
        Outer::Ipv4 => usize::from(bytes.first()? & 0x0f) * 4,
        // Variant 1 has no header of its own: an IP version stands where variant 0 has its number and flags.
        Outer::Gue if bytes.first()? >> 6 == 1 => 0,
        Outer::Gue => {
            let [first, protocol, flags @ ..] = bytes.first_chunk::<4>()?;
            let is_ip = [Number::IPIP, Number::IPV6].contains(&Number(*protocol));
            // Neither control messages nor fields that this knows nothing of.
            (first & 0xe0 == 0 && is_ip && *flags == [0, 0]).then_some(4 + usize::from(first & 0x1f) * 4)?
        }
    };
    bytes.get(at..)
}

fn inlets(mode: Mode) -> io::Result<Vec<Inlet>> {
    let mut inlets = Vec::new();
    match mode {
        Mode::Ipip => {
            for number in [Number::IPIP, Number::IPV6] {
                inlets.push(Inlet { socket: raw(Domain::IPV4, number)?, outer: Outer::Ipv4 });
                if let Ok(socket) = raw(Domain::IPV6, number) {
                    inlets.push(Inlet { socket, outer: Outer::Gone });
                }
            }
        }
        Mode::Gue => {
            for ip in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                let Ok(socket) = Socket::new(Domain::for_address(SocketAddr::new(ip, 0)), Type::DGRAM, None) else {
                    continue;
                };
                if ip.is_ipv6() {
                    socket.set_only_v6(true)?;
                }
                socket.bind(&SocketAddr::new(ip, gue::PORT).into())?;
                inlets.push(Inlet { socket, outer: Outer::Gue });
            }
        }
    }
    for inlet in &inlets {
        // As much as the kernel grants: bursts must not be lost while one packet goes back.
        let _ = inlet.socket.set_recv_buffer_size(RECEIVE_BYTES);
    }
    Ok(inlets)
}

fn raw(domain: Domain, number: Number) -> io::Result<Socket> {
    Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(number.0))))
}

fn explain(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => anyhow!("raw sockets need CAP_NET_RAW: run as root ({error})"),
        io::ErrorKind::AddrInUse => anyhow!("something takes GUE's port here already: the kernel (`ip fou show`)?"),
        _ => anyhow!("cannot open a socket: {error}"),
    }
}

/// IPPROTO_RAW: what is sent has its IP header already.
const RAW: Number = Number(255);

const RECEIVE_BYTES: usize = 4 * 1024 * 1024;

/// Different reasons that are told; they hold addresses that a sender chooses.
const REASONS: usize = 16;
