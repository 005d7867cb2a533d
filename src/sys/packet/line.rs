//! Io: a few frames of one interface, for who asks a question and awaits its answer in an event loop of its own.
//!
//! No ring and no batch: a system call a frame. Closing a packet socket waits until every core has looked away from it, some
//! milliseconds: keep one. Not here: taps, which carry traffic, and `speaker`, which hears nothing.

use std::io;
use std::net::UdpSocket;

use super::frame::VNET_LEN;
use super::socket::{Socket, step};
use super::{Options, PacketError};
use crate::base::limits;
use crate::sys::classify::Filter;

/// An end of an interface, which does not block.
#[derive(Debug)]
pub struct Line {
    /// The standard library has no packet socket; its calls are these.
    socket: UdpSocket,
}

impl Line {
    /// Hears ARP replies and neighbour advertisements that are sent to this machine: who says where somebody is.
    ///
    /// # Errors
    /// The step that failed and what the kernel said.
    pub fn to_neighbours(interface: u32) -> Result<Line, PacketError> {
        let filter = Filter::where_somebody_is();
        let socket = Socket::new(&Options { interface, ..Options::default() }, &filter)?;
        socket.bind()?;
        let fd = step("share the packet socket", socket.try_clone())?;
        Ok(Line { socket: fd.into() })
    }

    /// # Errors
    /// What the kernel said: nothing was sent. `EMSGSIZE` for what is longer than [`limits::PROBE_FRAME_BYTES`].
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let mut room = [0; VNET_LEN + limits::PROBE_FRAME_BYTES];
        let Some(bytes) = room.get_mut(..VNET_LEN + frame.len()) else {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        };
        bytes[VNET_LEN..].copy_from_slice(frame);
        self.socket.send(bytes).map(drop)
    }

    /// The next frame, cut to the room that `buffer` has behind the first bytes.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; `ENETDOWN` once when the interface goes down.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        let length = self.socket.recv(buffer)?;
        Ok(buffer.get(VNET_LEN..length).unwrap_or_default())
    }

    /// The same socket once more, to wait for frames in an event loop.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn to_wait(&self) -> io::Result<UdpSocket> {
        self.socket.try_clone()
    }
}
