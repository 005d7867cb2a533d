//! Io: a packet socket that only sends: frames of our own making, a few a second, by any interface.
//!
//! Why not a tap: taps belong to workers and to one interface each, and what is said about a VIP is said by the control side, by
//! interfaces that come and go. It hears nothing, so nobody has to read it.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

use super::socket::{PacketError, address, open, step};

/// See the file's head.
#[derive(Debug)]
pub struct Speaker {
    fd: OwnedFd,
}

impl Speaker {
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn open() -> Result<Speaker, PacketError> {
        Ok(Speaker { fd: step("open a packet socket", open())? })
    }

    /// Sends a whole frame, its VLAN tag in it.
    ///
    /// # Errors
    /// What the kernel said: `ENETDOWN` for an interface that is down, `ENXIO` or `ENODEV` for one that is gone.
    pub fn say(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        let to = address(interface.cast_signed());
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `frame` is a live slice of which the call reads its length, and `to` a live `sockaddr_ll` of `length` bytes.
        let sent = unsafe {
            let (bytes, to) = (frame.as_ptr().cast(), (&raw const to).cast());
            libc::sendto(self.fd.as_raw_fd(), bytes, frame.len(), libc::MSG_DONTWAIT, to, length)
        };
        if sent == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
