//! Io: a socket of datagrams whose answers come from the address that was asked. Where a host has several, and one of them is a VIP on
//! `lo`, the kernel would choose another, and who asked would not take the answer for one.

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use libc::c_int;
use socket2::SockAddr;

use super::set_option;

/// Who sent a datagram, and to which of our addresses.
#[derive(Clone, Debug)]
pub struct Asker {
    peer: SockAddr,
    /// What the kernel says of the way in, less the interface: it takes the same for the way out.
    way: Way,
    length: usize,
}

impl Asker {
    /// `None` for a family that no socket here has.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer.as_socket()
    }
}

/// A socket at `address` that does not block.
///
/// # Errors
/// Those of binding: in use, not permitted, nobody's here.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let (level, option) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    set_option(&socket, level, option, &c_int::from(true))?;
    Ok(socket)
}

/// Takes a datagram, or as much of it as `buffer` holds: how many bytes, and who sent it.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when there is none.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Asker)> {
    let (mut way, mut said) = (Way([0; WAY]), 0);
    let receive = |storage: *mut socket2::SockAddrStorage, size: *mut libc::socklen_t| {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: `msghdr` is pointers and integers, for which all zeros is a value; `size` is live while this is called.
        let (mut message, room): (libc::msghdr, _) = unsafe { (mem::zeroed(), *size) };
        (message.msg_name, message.msg_namelen) = (storage.cast(), room);
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        (message.msg_control, message.msg_controllen) = (way.0.as_mut_ptr().cast(), WAY as _);
        // SAFETY: all that `message` points at is live and writable for as many bytes as it says.
        let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: as above.
        unsafe { *size = message.msg_namelen };
        said = message.msg_controllen as _;
        Ok(length)
    };
    // SAFETY: the kernel has written an address of as many bytes as `size` says.
    let (length, peer) = unsafe { SockAddr::try_init(receive) }?;
    // An answer need not leave by where the question came in: that may be a tunnel, or the wrong side of a router.
    way.0[if peer.is_ipv6() { INTERFACE_V6 } else { INTERFACE_V4 }].fill(0);
    Ok((length, Asker { peer, way, length: said }))
}

/// Sends `bytes` to who asked, from the address that was asked.
///
/// # Errors
/// Where no way leads there, or there is no room to send.
pub fn answer(socket: &impl AsFd, bytes: &[u8], asker: &Asker) -> io::Result<()> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is pointers and integers, for which all zeros is a value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_name, message.msg_namelen) = (asker.peer.as_ptr().cast_mut().cast(), asker.peer.len());
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    if asker.length > 0 {
        message.msg_control = asker.way.0.as_ptr().cast_mut().cast();
        message.msg_controllen = asker.length as _;
    }
    // SAFETY: all that `message` points at is live for as many bytes as it says, and the call only reads it.
    match unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// One control message, aligned as a `cmsghdr` must be.
#[derive(Clone, Debug)]
#[repr(align(8))]
struct Way([u8; WAY]);

/// Before what a control message says.
const HEADER: usize = size_of::<libc::cmsghdr>();
const WAY: usize = HEADER + size_of::<libc::in6_pktinfo>() + 4;
/// Where `in_pktinfo` and `in6_pktinfo` have the interface.
const INTERFACE_V4: std::ops::Range<usize> = HEADER..HEADER + 4;
const INTERFACE_V6: std::ops::Range<usize> = HEADER + 16..HEADER + 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The whole 127.0.0.0/8 is this host's. A client that has connected hears nobody else.
    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        for (listen, asked) in
            [("0.0.0.0:0", "127.0.0.1"), ("0.0.0.0:0", "127.9.8.7"), ("[::]:0", "127.9.8.7"), ("[::]:0", "::1")]
        {
            let socket = bind(listen.parse().unwrap()).unwrap();
            socket.set_nonblocking(false).unwrap();
            let to = SocketAddr::new(asked.parse().unwrap(), socket.local_addr().unwrap().port());
            let client = UdpSocket::bind(if asked == "::1" { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
            client.connect(to).unwrap();
            for end in [&socket, &client] {
                end.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            }
            client.send(b"who is it?").unwrap();
            let mut buffer = [0; 6];
            let (length, asker) = receive(&socket, &mut buffer).unwrap();
            assert_eq!((length, &buffer), (6, b"who is"), "{listen} {asked}");
            assert_eq!(asker.peer().unwrap().port(), client.local_addr().unwrap().port());
            answer(&socket, b"me", &asker).unwrap();
            let length = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{listen} {asked}: {error}"));
            assert_eq!(&buffer[..length], b"me", "{listen} {asked}");
        }
    }

    #[test]
    fn without_a_datagram_it_says_so() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = receive(&socket, &mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
