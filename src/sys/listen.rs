//! Io: listening sockets. Binding one for each worker, and taking one out of service without resetting anybody.
//!
//! Each worker has a socket of its own (`SO_REUSEPORT`), so that the kernel spreads connections and accepting shares nothing.
//! Not here: accepting (`net::accept`), nor when a listener comes and goes (`app`).

use std::fmt;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd as _};

use socket2::{Domain, Protocol, Socket, Type};
#[cfg(test)]
use socket2::{SockFilter, SockRef};

use crate::base::{Listen, limits};

/// Whether the address must be nobody's yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody may listen there: another process with `SO_REUSEPORT` of the same user would silently share the traffic.
    Exclusive,
    /// This process listens there already, at an address that overlaps: a reload that widens `127.0.0.1:80` to `:80`.
    Beside,
}

/// An address that cannot be listened on. Its text names the address, the cause and, where there is one, the way out.
#[derive(Debug)]
pub struct ListenError {
    pub address: Listen,
    pub cause: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError { address, cause } = self;
        write!(f, "cannot listen on {address}: ")?;
        match cause.kind() {
            io::ErrorKind::AddrInUse => f.write_str("another socket listens there (`ss -ltnp` shows whose)"),
            io::ErrorKind::PermissionDenied => {
                f.write_str("permission denied: a port below 1024 needs CAP_NET_BIND_SERVICE")
            }
            io::ErrorKind::AddrNotAvailable => f.write_str("no interface of this machine has that address"),
            _ => cause.fmt(f),
        }
    }
}

/// Says all there is in its own text, so that a chain of causes does not repeat it.
impl std::error::Error for ListenError {}

/// `count` (at least one) listening sockets on one address, non-blocking. With port 0 all share the port that the first was given.
///
/// # Errors
/// The address and what the kernel said. Sockets made before the error are closed.
pub fn listen(address: Listen, count: usize, claim: Claim) -> Result<Vec<TcpListener>, ListenError> {
    bind_all(address, count, claim).map_err(|cause| ListenError { address, cause })
}

fn bind_all(address: Listen, count: usize, claim: Claim) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::with_capacity(count);
    let mut bound = first(address, claim)?;
    let at = bound.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    let dual = matches!(address, Listen::Any(_)) && at.is_ipv6();
    loop {
        bound.listen(limits::LISTEN_BACKLOG)?;
        bound.set_nonblocking(true)?;
        sockets.push(TcpListener::from(bound));
        if sockets.len() >= count {
            return Ok(sockets);
        }
        bound = bind(at, dual, Claim::Beside)?;
    }
}

/// The first socket of an address. Where the kernel has no IPv6, "every address" means IPv4.
fn first(address: Listen, claim: Claim) -> io::Result<Socket> {
    match address {
        Listen::At(at) => bind(at, false, claim),
        Listen::Any(port) => match bind((std::net::Ipv6Addr::UNSPECIFIED, port).into(), true, claim) {
            Err(error) if no_ipv6(&error) => bind((Ipv4Addr::UNSPECIFIED, port).into(), false, claim),
            bound => bound,
        },
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// A bound socket. The exclusive one joins the others' `SO_REUSEPORT` group only once it is bound, so that binding itself
/// finds out whether somebody else is there; the kernel compares the option as it stands when the next one binds.
fn bind(at: SocketAddr, dual: bool, claim: Claim) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(!dual)?;
    }
    // Connections of an earlier run that stand in TIME_WAIT must not keep the port.
    socket.set_reuse_address(true)?;
    if claim == Claim::Beside {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&at.into())?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

/// From now on no handshake begins at `listener`: who comes new is refused. Those under way complete, and what is in the accept queue
/// stays.
///
/// Closing a listener resets every connection in its queue. So: call this, accept for as long as a handshake takes, close.
///
/// The listener is bound to an interface that no frame comes by. That asks for no privilege where it was bound to none; a filter that
/// drops every SYN asks for one on kernels that let ordinary users attach none.
///
/// # Errors
/// What the kernel said; the listener is as it was.
pub fn refuse_new(listener: &impl AsFd) -> io::Result<()> {
    let nowhere = libc::c_int::MAX;
    let length = mem::size_of_val(&nowhere) as libc::socklen_t;
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: `nowhere` is live and of `length` bytes, which the call only reads.
    let done =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, (&raw const nowhere).cast(), length) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A listener that never answers: each SYN is dropped.
///
/// # Errors
/// What the kernel said: some ask for a privilege.
#[cfg(test)]
pub(crate) fn fall_silent(listener: &impl AsFd) -> io::Result<()> {
    SockRef::from(listener).attach_filter(&DROP_SYN)
}

/// Connections that the kernel has dropped at `listener` since it listens, modulo 2^32: their queue was full. Whoever repeats a SYN
/// and finds it full again counts again.
///
/// # Errors
/// What the kernel said.
pub fn overflows(listener: &impl AsFd) -> io::Result<u32> {
    /// linux/sock_diag.h: `SK_MEMINFO_DROPS`, and how many there are.
    const DROPS: usize = 8;
    const COUNT: usize = 9;
    let mut info = [0_u32; COUNT];
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: `info` and `length` are live and writable, and `length` is the size of `info`.
    let done =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, info.as_mut_ptr().cast(), &raw mut length) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(info[DROPS]) }
}

/// A socket filter sees the segment from its TCP header on. Flags are byte 13; a SYN without ACK opens a connection.
#[cfg(test)]
const DROP_SYN: [SockFilter; 5] = {
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    [
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS_AT),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SYN | ACK),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ]
};

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "opcodes of classic BPF are below 256")]
const fn instruction(code: u32, jump_true: u8, jump_false: u8, k: u32) -> SockFilter {
    SockFilter::new(code as u16, jump_true, jump_false, k)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::base::clock;

    fn at(text: &str) -> Listen {
        Listen::parse(text).unwrap()
    }

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() {
        let sockets = listen(at("127.0.0.1:0"), 3, Claim::Exclusive).unwrap();
        let ports: Vec<u16> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn an_address_that_is_taken_is_refused_by_name_unless_we_took_it() {
        let held = listen(at("127.0.0.1:0"), 2, Claim::Exclusive).unwrap();
        let taken = Listen::At(held[0].local_addr().unwrap());
        let error = listen(taken, 1, Claim::Exclusive).unwrap_err().to_string();
        assert!(error.contains(&taken.to_string()) && error.contains("another socket listens"), "{error}");
        assert_eq!(listen(taken, 2, Claim::Beside).unwrap().len(), 2);
    }

    #[test]
    fn any_takes_both_families_and_an_ipv6_address_only_its_own() {
        let any = listen(Listen::Any(0), 1, Claim::Exclusive).unwrap();
        let port = any[0].local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        let Ok(only) = listen(at("[::]:0"), 1, Claim::Exclusive) else { return };
        TcpStream::connect(("::1", port)).unwrap();
        let port = only[0].local_addr().unwrap().port();
        TcpStream::connect(("::1", port)).unwrap();
        let error = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn an_address_of_another_machine_says_so() {
        let error = listen(at("192.0.2.77:0"), 1, Claim::Exclusive).unwrap_err().to_string();
        assert_eq!(error, "cannot listen on 192.0.2.77:0: no interface of this machine has that address");
    }

    #[test]
    fn a_listener_that_refuses_new_connections_keeps_those_it_has() {
        let listener = listen(at("127.0.0.1:0"), 1, Claim::Exclusive).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let mut queued: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
        refuse_new(&listener).unwrap();

        // Neither accepted, nor reset later.
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let mut accepted: Vec<TcpStream> = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            accepted.push(stream);
        }
        assert_eq!(accepted.len(), queued.len(), "all that were in the queue, and nothing else");
        drop(listener);

        // New ones are refused, accepted ones live on.
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        for stream in &mut accepted {
            stream.write_all(b"still here").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
        for stream in &mut queued {
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert_eq!(said, "still here");
        }
    }

    #[test]
    fn what_a_full_queue_drops_is_counted() {
        let short = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        short.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        short.listen(1).unwrap();
        assert_eq!(overflows(&short).unwrap(), 0);
        let address = short.local_addr().unwrap();
        let crowd: Vec<Socket> = (0..8)
            .map(|_| {
                let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                client.set_nonblocking(true).unwrap();
                // In progress.
                let _ = client.connect(&address);
                client
            })
            .collect();
        // On a busy machine the kernel works SYNs off later.
        let deadline = clock::now() + Duration::from_secs(30);
        while overflows(&short).unwrap() < 4 {
            assert!(clock::now() < deadline, "{} of {}", overflows(&short).unwrap(), crowd.len());
            std::thread::yield_now();
        }
    }
}
