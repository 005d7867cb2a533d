//! Io: a packet socket, set up so that nothing of a frame gets lost on its way, and the system calls on it.
//!
//! Not here: reading frames, which each engine does its own way (`plain`, `ring`).

use std::fmt;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_int;
use socket2::SockRef;

use super::{Fanout, Options, queue};
use crate::base::{MacAddr, limits};
use crate::sys::classify::Filter;
use crate::sys::{check, set_option};

/// A step that failed while a packet socket was set up. Its text names the step, the cause and, where there is one, the way out.
#[derive(Debug)]
pub struct PacketError {
    pub step: &'static str,
    pub cause: io::Error,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PacketError { step, cause } = self;
        write!(f, "cannot {step}: ")?;
        match cause.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => f.write_str("permission denied: packet modes need CAP_NET_RAW"),
            Some(libc::ENODEV | libc::ENXIO) => f.write_str("there is no such interface"),
            Some(libc::ENETDOWN) => f.write_str("the interface is down"),
            Some(libc::ENOBUFS) if *step == queue::REGISTER => f.write_str(
                "this process may lock no more memory: give it CAP_IPC_LOCK, or raise its limit (`ulimits: memlock`)",
            ),
            Some(libc::EBUSY) if *step == queue::BIND => f.write_str("another socket has it"),
            Some(libc::EINVAL) if *step == queue::BIND => f.write_str("the interface has no such queue"),
            Some(libc::EAFNOSUPPORT) => f.write_str(
                "this kernel has no such sockets, or the service's unit keeps them from it (`RestrictAddressFamilies`)",
            ),
            _ => cause.fmt(f),
        }
    }
}

/// Says all there is in its own text, so that a chain of causes does not repeat it.
impl std::error::Error for PacketError {}

/// Names the step that an error belongs to.
pub(super) fn step<T>(step: &'static str, result: io::Result<T>) -> Result<T, PacketError> {
    result.map_err(|cause| PacketError { step, cause })
}

/// A packet socket that is set up and hears nothing yet: it is bound to no interface.
pub(super) struct Socket {
    fd: OwnedFd,
    interface: c_int,
}

impl Socket {
    pub(super) fn new(options: &Options<'_>, filter: &Filter) -> Result<Socket, PacketError> {
        let socket = Socket { fd: step("open a packet socket", open())?, interface: options.interface.cast_signed() };
        // Ours too are sent to the VIP: without this they come back through other sockets, and go round.
        step("ignore what this machine sends", socket.set(libc::PACKET_IGNORE_OUTGOING, &1))?;
        step("ask for VLAN tags", socket.set(libc::PACKET_AUXDATA, &1))?;
        step("ask for checksum and segmentation state", socket.set(libc::PACKET_VNET_HDR, &1))?;
        socket.enlarge(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF);
        socket.enlarge(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF);
        socket.filter(filter)?;
        for mac in options.macs {
            socket.join(*mac)?;
        }
        Ok(socket)
    }

    /// Hears the interface from now on.
    pub(super) fn bind(&self) -> Result<(), PacketError> {
        self.bind_as((libc::ETH_P_ALL as u16).to_be())
    }

    /// Sends by the interface, and hears nothing.
    pub(super) fn bind_to_send(&self) -> Result<(), PacketError> {
        self.bind_as(0)
    }

    fn bind_as(&self, protocol: u16) -> Result<(), PacketError> {
        let mut address = address(self.interface);
        address.sll_protocol = protocol;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is a live `sockaddr_ll` of `length` bytes, only read by this call.
        let result = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length) };
        step("listen on the interface", check(result).map(drop))
    }

    pub(super) fn join_fanout(&self, fanout: Fanout) -> Result<(), PacketError> {
        // Of a group the kernel asks the group whether it hears what this machine sends, not its sockets. Kernels before 5.10 do
        // not know the flag, and pass it over.
        let how = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
        let word = c_int::from(fanout.group) | (how.cast_signed() << 16);
        step("join the other workers", self.set(libc::PACKET_FANOUT, &word))
    }

    /// Replaces the filter, with no frame in between that none has looked at.
    pub(super) fn filter(&self, filter: &Filter) -> Result<(), PacketError> {
        step("attach the packet filter", SockRef::from(&self.fd).attach_filter(&filter.code))
    }

    /// Asks the card for frames to `mac`. Ends with the socket. A card that knows one address only becomes promiscuous.
    pub(super) fn join(&self, mac: MacAddr) -> Result<(), PacketError> {
        step("receive for the virtual MAC", self.set(libc::PACKET_ADD_MEMBERSHIP, &self.membership(mac)))
    }

    pub(super) fn leave(&self, mac: MacAddr) -> Result<(), PacketError> {
        step("no longer receive for the virtual MAC", self.set(libc::PACKET_DROP_MEMBERSHIP, &self.membership(mac)))
    }

    fn membership(&self, mac: MacAddr) -> libc::packet_mreq {
        let [a, b, c, d, e, f] = mac.0;
        libc::packet_mreq {
            mr_ifindex: self.interface,
            mr_type: libc::PACKET_MR_UNICAST as u16,
            mr_alen: 6,
            mr_address: [a, b, c, d, e, f, 0, 0],
        }
    }

    /// Frames that the kernel gave this socket, and that found no room in it, since the last call.
    pub(super) fn statistics(&self) -> io::Result<(u32, u32)> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: `stats` is live and writable for the `length` bytes that this call may write, and any bytes are a valid value.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        })?;
        // The kernel counts a frame that it dropped among those it gave.
        Ok((stats.tp_packets.saturating_sub(stats.tp_drops), stats.tp_drops))
    }

    /// Bytes of a datagram that an interface sends, as it is now: two system calls.
    pub(super) fn mtu_of(&self, interface: u32) -> io::Result<usize> {
        // SAFETY: `ifreq` is made of bytes, integers and pointers, for all of which zeros are a valid value.
        let mut request: libc::ifreq = unsafe { zeroed() };
        request.ifr_ifru.ifru_ifindex = interface.cast_signed();
        let fd = self.fd.as_raw_fd();
        // SAFETY: `request` is a live `ifreq`, whose index this command reads and whose name it writes, a zero behind it.
        check(unsafe { libc::ioctl(fd, libc::SIOCGIFNAME as _, &raw mut request) })?;
        // SAFETY: `request` is a live `ifreq` with that name, which this command reads, and whose MTU it writes.
        check(unsafe { libc::ioctl(fd, libc::SIOCGIFMTU as _, &raw mut request) })?;
        // SAFETY: the command that succeeded has written this member of the union, in which any bytes are a valid number.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        usize::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Sets an option of the packet level. `T` is the type that the option takes.
    pub(super) fn set<T: Copy>(&self, option: c_int, value: &T) -> io::Result<()> {
        set_option(&self.fd, libc::SOL_PACKET, option, value)
    }

    /// As large as we ask where we may, else as large as the system lets anyone: what a smaller buffer loses is counted.
    fn enlarge(&self, forced: c_int, plain: c_int) {
        let bytes = c_int::try_from(limits::PACKET_SOCKET_BYTES).unwrap_or(c_int::MAX);
        let _ = set_option(&self.fd, libc::SOL_SOCKET, forced, &bytes)
            .or_else(|_| set_option(&self.fd, libc::SOL_SOCKET, plain, &bytes));
    }

    /// The error that the socket holds, taken out of it: `ENETDOWN` once after the interface went down.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        SockRef::from(&self.fd).take_error().ok().flatten()
    }

    pub(super) fn interface(&self) -> u32 {
        self.interface.cast_unsigned()
    }

    pub(super) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The group that the workers of one process share, claimed so that no other process has it.
pub(super) fn claim_fanout(interface: u32) -> Result<Fanout, PacketError> {
    let options = Options { interface, ..Options::default() };
    let socket = Socket::new(&options, &Filter::nothing())?;
    socket.bind()?;
    let unique = (libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_UNIQUEID) << 16;
    step("claim a group of workers", socket.set(libc::PACKET_FANOUT, &unique))?;
    let mut group: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `group` is live and writable for the `length` bytes that this call may write.
    let result = unsafe {
        let (fd, value) = (socket.fd.as_raw_fd(), (&raw mut group).cast());
        libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, value, &raw mut length)
    };
    step("learn the group of workers", check(result))?;
    // The low half is the id. It is free again when `socket` closes, and the kernel gives the next claim the next one, so that
    // nobody else has it before our workers do.
    Ok(Fanout { group: (group & 0xffff) as u16 })
}

pub(super) fn open() -> io::Result<OwnedFd> {
    // Protocol 0 hears nothing: no frame comes in before the filter stands.
    // SAFETY: the call takes no pointer.
    let fd =
        check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) })?;
    // SAFETY: the call succeeded, so `fd` is an open descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A link-layer address that names an interface only.
pub(super) fn address(interface: c_int) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}
