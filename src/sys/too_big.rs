//! Io: has the kernel take notice of what does not fit on the way to a tunnel's other end.
//!
//! A tunnel's packets leave by packet sockets, so the kernel knows nobody here who sent them, and does nothing about a router's "too
//! big" (`tunnel4_err`, `__udp4_lib_err`). A raw socket of the same protocol is somebody: for it the kernel notes the path's MTU for
//! the destination (`raw_err`, `rawv6_err`), checks it, and forgets it after ten minutes, as for all it sends itself. Then
//! [`super::neighbour::Asker::route`] tells it.
//!
//! Not here: reading anything. A filter keeps every packet out.

use std::io;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::echo::report_errors;

/// While it lives, the kernel takes notice of errors about IP in IP and UDP, of both families.
#[derive(Debug)]
pub struct TooBig {
    _sockets: Vec<Socket>,
}

impl TooBig {
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`. A family that the kernel lacks is left out.
    pub fn open() -> io::Result<TooBig> {
        let mut sockets = Vec::with_capacity(2 * PROTOCOLS.len());
        for domain in [Domain::IPV4, Domain::IPV6] {
            for protocol in PROTOCOLS {
                match socket(domain, protocol) {
                    Ok(socket) => sockets.push(socket),
                    Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(TooBig { _sockets: sockets })
    }
}

fn socket(domain: Domain, protocol: libc::c_int) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))?;
    socket.attach_filter(&NOTHING)?;
    // What the kernel reports of errors waits here, and nobody reads it: as little as there can be.
    socket.set_recv_buffer_size(0)?;
    if domain == Domain::IPV6 {
        // Without it `rawv6_err` does nothing for a socket that is not connected.
        report_errors(&socket, std::net::Ipv6Addr::UNSPECIFIED.into())?;
    }
    Ok(socket)
}

/// What an outer header says of its payload: IPv4, IPv6, UDP with GUE.
const PROTOCOLS: [libc::c_int; 3] = [libc::IPPROTO_IPIP, libc::IPPROTO_IPV6, libc::IPPROTO_UDP];

/// Accepts no byte.
const NOTHING: [SockFilter; 1] = [SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)];
