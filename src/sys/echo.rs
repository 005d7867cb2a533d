//! Io: a socket for ICMP echoes to one address: a ping socket where the system lets us have one (`net.ipv4.ping_group_range`,
//! which is for both families), a raw one where we hold `CAP_NET_RAW`.
//!
//! What the path reports (host unreachable and the like) comes as an error of receiving. Not here: what is asked, and what
//! counts as its answer (`probe`).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use libc::c_int;
use socket2::{Domain, Protocol, Socket, Type};

use super::set_option;

/// See the file's head. It does not block.
#[derive(Debug)]
pub struct Echo {
    /// The standard library has no ICMP socket; its calls are these.
    pub socket: UdpSocket,
    pub form: Form,
}

/// What messages look like.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// What our requests have to carry: the kernel sorts answers to ping sockets by it.
    pub identifier: u16,
    /// Raw IPv4 sockets are given the IP header too.
    with_header: bool,
}

impl Echo {
    /// A socket that talks to `to`.
    ///
    /// # Errors
    /// `EPERM` when neither kind is permitted; `ENETUNREACH` and the like where no way leads to `to`.
    pub fn open(to: IpAddr) -> io::Result<Echo> {
        let (socket, raw) = unconnected(to)?;
        report_errors(&socket, to)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SocketAddr::new(to, 0).into())?;
        let identifier = match socket.local_addr()?.as_socket() {
            // A ping socket's port is its identifier.
            Some(own) if !raw => own.port(),
            _ => fastrand::u16(..),
        };
        let form = Form { identifier, with_header: raw && to.is_ipv4() };
        Ok(Echo { socket: socket.into(), form })
    }
}

impl Form {
    /// The ICMP message of a datagram that was received.
    pub fn message(self, datagram: &[u8]) -> &[u8] {
        let header = match datagram.first() {
            Some(first) if self.with_header => usize::from(first & 0x0f) * 4,
            _ => 0,
        };
        datagram.get(header..).unwrap_or_default()
    }
}

/// Whether a socket for echoes of this family can be had.
///
/// # Errors
/// `EPERM` when not; `EAFNOSUPPORT` where the kernel lacks the family.
pub fn permitted(family: IpAddr) -> io::Result<()> {
    unconnected(family).map(drop)
}

/// The socket, and whether it is a raw one.
fn unconnected(to: IpAddr) -> io::Result<(Socket, bool)> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => Ok((socket, false)),
        Err(_) => Socket::new(domain, Type::RAW, Some(protocol)).map(|socket| (socket, true)),
    }
}

/// Without this, only errors that end a connection for good are told, and an unreachable host is none of them.
pub(super) fn report_errors(socket: &Socket, to: IpAddr) -> io::Result<()> {
    let (level, option) = match to {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    set_option(socket, level, option, &c_int::from(true))
}
