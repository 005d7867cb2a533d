//! Io: a ring of frames on their way out: each is copied into a slot, and one system call gives all of them to the kernel.
//!
//! ```text
//!   available (ours) -> written -> to be sent -> send(2) -> sending -> available, once the card has sent it
//! ```
//!
//! `hdr_len` of the virtio header says that the whole frame is headers, so the kernel copies it into the packet that it makes.
//! Left alone it would refer to the slot's page instead, and count the references of a page that two cores share. A frame of 60
//! bytes over veth, its far end on another core, the median of three runs: `sendmmsg` 1.05 µs, a ring whose pages are referred to
//! 0.93 µs, this one 0.50 µs.
//!
//! Budget: one system call a batch, and two more where a frame of it is longer than [`UNDOUBTED`]; one acquiring load, one releasing
//! store and one copy a frame, no allocation.
//! Not here: frames that stand for several, or are longer than a slot (`batch`).

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use super::frame::VNET_LEN;
use super::slots::{Direction, Slots};
use super::socket::{Socket, address, step};
use super::{Counters, Options, PacketError};
use crate::base::limits;
use crate::sys::cache;
use crate::sys::classify::Filter;
use crate::wire::ethernet::{self, EtherType};

pub(super) struct Sender {
    socket: Socket,
    slots: Slots,
    /// Written and not given to the kernel yet: this many slots from `first`, where the kernel looks next.
    first: usize,
    waiting: usize,
    /// The next slot to be written.
    next: usize,
    /// Bytes of the frames that wait: what the kernel says when it has taken them all.
    bytes: usize,
    /// The kernel is to pass the first one over: nobody takes it, and what is behind it waits.
    spoiled: bool,
    /// Where those that wait go.
    interface: u32,
    /// The longest frame that this takes now, once somebody has asked.
    longest: Option<usize>,
}

impl Sender {
    /// # Errors
    /// The step that failed and what the kernel said.
    pub(super) fn open(interface: u32) -> Result<Sender, PacketError> {
        let options = Options { interface, ..Options::default() };
        let socket = Socket::new(&options, &Filter::nothing())?;
        step("choose the ring's version", socket.set(libc::PACKET_VERSION, &VERSION_2))?;
        // What is spoiled shall not stop the others.
        step("pass over frames that are not whole", socket.set(libc::PACKET_LOSS, &1))?;
        let slots = Slots::map(&socket, Direction::Send, DATA_AT + LONGEST, limits::PACKET_SEND_BYTES)?;
        socket.bind_to_send()?;
        Ok(Sender {
            interface: socket.interface(),
            socket,
            slots,
            first: 0,
            waiting: 0,
            next: 0,
            bytes: 0,
            spoiled: false,
            longest: None,
        })
    }

    /// Queues a sealed frame (its `virtio_net_hdr` first) that is one packet, and sends in between where it must. `false`, and nothing
    /// is queued any more, when it is too long for a slot or every slot's frame is still with the card. One that is too long for the
    /// interface is counted and goes nowhere.
    pub(super) fn push(&mut self, interface: u32, sealed: &[u8], counters: &mut Counters) -> bool {
        let Some(frame) = sealed.len().checked_sub(VNET_LEN).filter(|_| sealed.len() <= LONGEST) else {
            self.flush(counters);
            return false;
        };
        if self.waiting == limits::PACKET_BATCH || (self.waiting > 0 && self.interface != interface) {
            self.flush(counters);
        }
        if self.waiting == 0 {
            (self.interface, self.longest) = (interface, None);
        }
        if frame > UNDOUBTED && !self.fits(&sealed[VNET_LEN..]) {
            counters.too_long += 1;
            return true;
        }
        if !self.has_room() {
            // Those that wait may all be of the past by now, and one of them lost: then there is room again.
            self.flush(counters);
            if !self.has_room() {
                return false;
            }
        }
        let slot = self.slots.at(self.next);
        // SAFETY: the slot is ours, as its status says, and has room for `DATA_AT + LONGEST` bytes; `sealed` is no longer than `LONGEST`
        // and not in this mapping, to which nobody has a reference. `hdr_len` is in the virtio header, which `sealed` begins with.
        unsafe {
            let (length, data) = (slot.byte_add(LENGTH_AT).cast::<u32>(), slot.byte_add(DATA_AT));
            length.write(sealed.len() as u32);
            ptr::copy_nonoverlapping(sealed.as_ptr(), data.as_ptr(), sealed.len());
            data.byte_add(HDR_LEN_AT).cast::<u16>().write_unaligned(frame as u16);
        }
        self.slots.set_status(self.next, libc::TP_STATUS_SEND_REQUEST);
        self.next = self.slots.after(self.next);
        // The core that frees what was sent has written to the slot after this one last.
        cache::fetch(self.slots.at(self.slots.after(self.next)).as_ptr());
        self.waiting += 1;
        self.bytes += frame;
        true
    }

    /// Whether the interface takes a frame. The kernel asks that of every way to send but of this ring (`tpacket_snd` with a virtio
    /// header): the card would send it, or drop it with nobody to count it. What the tables know of an MTU is up to a second old.
    fn fits(&mut self, frame: &[u8]) -> bool {
        let longest = *self.longest.get_or_insert_with(|| {
            // Where there is no such interface, the kernel says so when the frame is sent.
            self.socket.mtu_of(self.interface).map_or(usize::MAX, |mtu| mtu + ethernet::HEADER_LEN)
        });
        let kind = frame.get(12..14).and_then(<[u8]>::first_chunk).map(|kind| EtherType(u16::from_be_bytes(*kind)));
        let tag = if kind.is_some_and(EtherType::is_tag) { ethernet::TAG_LEN } else { 0 };
        frame.len() <= longest.saturating_add(tag)
    }

    /// Whether the next slot is ours. Slots come back in order, so one frame that stays with its card holds those behind it.
    pub(super) fn has_room(&self) -> bool {
        // Old kernels leave a word about a timestamp in a slot that they give back.
        self.slots.status(self.next) & (libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_SENDING) == 0
    }

    /// Gives what waits to the kernel, and counts what it does not take.
    pub(super) fn flush(&mut self, counters: &mut Counters) {
        while self.waiting > 0 {
            match self.send() {
                Ok(bytes) if bytes == self.bytes => {
                    counters.sent += (self.waiting - usize::from(self.spoiled)) as u64;
                    (self.first, self.waiting, self.bytes, self.spoiled) = (self.next, 0, 0, false);
                }
                outcome => self.settle(outcome, counters),
            }
        }
    }

    /// Finds out what the kernel took of what waits. What it will not take is lost.
    fn settle(&mut self, outcome: io::Result<usize>, counters: &mut Counters) {
        let mut moved = false;
        while self.waiting > 0 && self.slots.status(self.first) != libc::TP_STATUS_SEND_REQUEST {
            if !std::mem::take(&mut self.spoiled) {
                counters.sent += 1;
                self.bytes -= self.first_len();
            }
            self.first = self.slots.after(self.first);
            self.waiting -= 1;
            moved = true;
        }
        let error = match outcome {
            // It stopped on its way, and says why when it is asked again.
            Ok(_) if moved => return,
            Ok(_) => io::ErrorKind::WouldBlock.into(),
            Err(error) => error,
        };
        match error.raw_os_error() {
            _ if self.waiting == 0 => {}
            Some(libc::EINTR) => {}
            // A queue on the way is full, or no memory for one that is to be changed. The next one may go.
            Some(libc::ENOBUFS | libc::ENOMEM) if self.waiting > 1 && !self.spoiled => {
                counters.unsent(&error);
                self.bytes -= self.first_len();
                // SAFETY: the slot is ours: the kernel reads it in `send` only. This is the length in its header.
                unsafe { self.slots.at(self.first).byte_add(LENGTH_AT).cast::<u32>().write(0) };
                self.spoiled = true;
            }
            _ => self.abandon(&error, counters),
        }
    }

    /// Takes back all that waits.
    fn abandon(&mut self, error: &io::Error, counters: &mut Counters) {
        let lost = self.waiting - usize::from(self.spoiled);
        (0..lost).for_each(|_| counters.unsent(error));
        let mut slot = self.first;
        for _ in 0..self.waiting {
            self.slots.set_status(slot, libc::TP_STATUS_AVAILABLE);
            slot = self.slots.after(slot);
        }
        // Where the kernel looks next.
        self.next = self.first;
        (self.waiting, self.bytes, self.spoiled) = (0, 0, false);
    }

    /// Bytes of the first frame that waits.
    fn first_len(&self) -> usize {
        // SAFETY: the length in the header of a slot, which we wrote and the kernel only reads.
        let length = unsafe { self.slots.at(self.first).byte_add(LENGTH_AT).cast::<u32>().read() };
        (length as usize).saturating_sub(VNET_LEN)
    }

    /// How many bytes of frames the kernel took.
    fn send(&self) -> io::Result<usize> {
        let to = address(self.interface.cast_signed());
        let (name, length) = if self.interface == self.socket.interface() {
            (ptr::null(), 0)
        } else {
            ((&raw const to).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
        };
        // SAFETY: no bytes are passed; `name` is null or a live `sockaddr_ll` of `length` bytes, which the call only reads.
        let sent = unsafe {
            let fd = self.socket.as_fd().as_raw_fd();
            libc::sendto(fd, ptr::null(), 0, libc::MSG_DONTWAIT, name, length)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

const VERSION_2: libc::c_int = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
/// Where the kernel looks for the frame in a slot: after the header, with no address between.
const DATA_AT: usize = size_of::<libc::tpacket2_hdr>();
const LENGTH_AT: usize = offset_of!(libc::tpacket2_hdr, tp_len);
/// In `struct virtio_net_hdr`.
const HDR_LEN_AT: usize = 2;
/// An Ethernet frame with two tags, and the header before it. Longer ones are worth a call of their own.
const LONGEST: usize = VNET_LEN + 1522;
/// Frames up to here fit every interface that one would balance through: the least datagram that each host takes (RFC 791 §3.1).
const UNDOUBTED: usize = ethernet::HEADER_LEN + 576;

#[cfg(test)]
mod tests;
