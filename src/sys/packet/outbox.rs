//! Io: what is on its way out of a ring: frames that wait for their system call, and those that a merged frame was taken apart into,
//! which lie in no slot.
//!
//! Frames that are one packet go through the ring of `sender`; those that stand for several, are long, or find that ring full, go
//! through `batch`. Only one of the two has frames that wait, so that all leave in the order they came in.
//!
//! Budget: no allocation after `Outbox::open`; of a merged frame one copy.

use std::cell::UnsafeCell;
use std::os::fd::BorrowedFd;

use super::batch::Batch;
use super::frame::{Frame, PRIVATE, Vnet};
use super::sender::Sender;
use super::{Counters, Fate, Options, PacketError};
use crate::base::limits;

pub(super) struct Outbox {
    sender: Sender,
    batch: Batch,
    room: Room,
}

/// A frame to be sent as it lies there, its `virtio_net_hdr` first.
#[derive(Clone, Copy)]
pub(super) struct Sealed {
    pub base: *const u8,
    pub length: usize,
    /// It is one packet.
    pub one: bool,
}

/// Memory that is lent piece by piece and taken back all at once.
struct Room {
    cells: Box<[UnsafeCell<u8>]>,
    used: usize,
}

impl Outbox {
    /// # Errors
    /// The step that failed and what the kernel said.
    pub(super) fn open(options: &Options<'_>) -> Result<Outbox, PacketError> {
        let cells = (0..limits::PACKET_DIVIDED_BYTES).map(|_| UnsafeCell::new(0)).collect();
        let batch = Batch::new(options.interface);
        Ok(Outbox { sender: Sender::open(options.interface)?, batch, room: Room { cells, used: 0 } })
    }

    /// Does with a frame of a ring what was decided about it. `base` is where the frame's buffer begins.
    ///
    /// # Safety
    /// As [`Batch::flush`], for what was pushed before, and from now on for the `frame`'s buffer too, which is at `base`.
    pub(super) unsafe fn settle<F: Into<Fate>>(
        &mut self,
        fate: Fate,
        (frame, base): (Frame<'_>, *const u8),
        socket: BorrowedFd<'_>,
        counters: &mut Counters,
        decide: &mut impl FnMut(&mut Frame<'_>) -> F,
    ) {
        let one = frame.gso().is_none();
        match fate {
            Fate::Stay => {}
            Fate::Send(interface) => match frame.seal() {
                Ok(range) => {
                    // SAFETY: `seal` gives a range within the frame's buffer, which begins at `base`, as the caller says.
                    let base = unsafe { base.add(range.start) };
                    // SAFETY: the caller's promise for what was pushed before and for this buffer, to which `seal` ended the reference.
                    unsafe { self.push(interface, Sealed { base, length: range.len(), one }, socket, counters) };
                }
                Err(_) => counters.refused += 1,
            },
            // SAFETY: the caller's promise; `frame` was not pushed.
            Fate::Divide => unsafe { self.divide(&frame, socket, counters, decide) },
        }
    }

    /// Queues a frame, after those that were queued before. Whether its memory is lent until the next `flush`.
    ///
    /// # Safety
    /// The frame can be read now and, where this says so, until the next `flush`. What was pushed before is as [`Batch::flush`] wants it.
    pub(super) unsafe fn push(
        &mut self,
        interface: u32,
        sealed: Sealed,
        socket: BorrowedFd<'_>,
        counters: &mut Counters,
    ) -> bool {
        let Sealed { base, length, one } = sealed;
        // While the ring is full, frames must not leave one by one because each is tried there.
        if one && (self.batch.is_empty() || self.sender.has_room()) {
            // SAFETY: the caller's promise.
            unsafe { self.batch.flush(socket, counters) };
            // SAFETY: the caller's promise; nothing is written to it in this call.
            if self.sender.push(interface, unsafe { std::slice::from_raw_parts(base, length) }, counters) {
                return false;
            }
        }
        self.sender.flush(counters);
        if self.batch.is_full() {
            // SAFETY: the caller's promise.
            unsafe { self.batch.flush(socket, counters) };
        }
        self.batch.push(interface, base, length, counters);
        true
    }

    /// Gives every queued frame to the kernel.
    ///
    /// # Safety
    /// As [`Batch::flush`]: what was pushed can still be read.
    pub(super) unsafe fn flush(&mut self, socket: BorrowedFd<'_>, counters: &mut Counters) {
        self.sender.flush(counters);
        // SAFETY: the caller's promise; pieces of `room` that were pushed are lent to nobody else before it is cleared.
        unsafe { self.batch.flush(socket, counters) };
        self.room.used = 0;
    }

    /// Takes `frame` apart, has each of its segments decided about, and queues those that go on. Sends in between when there is no
    /// more room.
    ///
    /// # Safety
    /// As [`Batch::flush`], for what was pushed before; `frame` is not among it.
    pub(super) unsafe fn divide<F: Into<Fate>>(
        &mut self,
        frame: &Frame<'_>,
        socket: BorrowedFd<'_>,
        counters: &mut Counters,
        decide: &mut impl FnMut(&mut Frame<'_>) -> F,
    ) {
        let Some(segments) = frame.segments() else {
            counters.refused += 1;
            return;
        };
        counters.divided += 1;
        let length = START + segments.longest();
        for nth in 0..segments.count() {
            if self.batch.is_full() || self.room.piece(length).is_none() {
                // SAFETY: the caller's promise for what was there before; pieces of `room` that this pushed are borrowed by no frame
                // any more, since `seal` took each.
                unsafe { self.flush(socket, counters) };
            }
            let Some(piece) = self.room.piece(length) else {
                counters.too_long += 1;
                continue;
            };
            // SAFETY: `piece` has `length` bytes of `room` that are lent to nobody: those that were pushed lie before it, and the
            // slice is gone before the next one is made.
            let buffer = unsafe { std::slice::from_raw_parts_mut(piece, length) };
            let Some(written) = segments.write(frame.bytes(), nth, &mut buffer[START..]) else {
                counters.refused += 1;
                continue;
            };
            let mut part = Frame::new(buffer, START..START + written, Vnet::default());
            match (decide(&mut part).into(), part.seal()) {
                (Fate::Stay, _) => {}
                (Fate::Send(interface), Ok(range)) => {
                    // SAFETY: `seal` gives a range within the piece.
                    let base = unsafe { piece.add(range.start) };
                    let sealed = Sealed { base, length: range.len(), one: true };
                    // SAFETY: the caller's promise for what was there before; this piece is lent to nobody else before the next `flush`.
                    if unsafe { self.push(interface, sealed, socket, counters) } {
                        self.room.used += length;
                    }
                }
                (Fate::Send(_), Err(_)) | (Fate::Divide, _) => counters.refused += 1,
            }
        }
    }
}

impl Room {
    /// The next free piece, if there is one of this length. It is free until `used` has grown by it.
    fn piece(&self, length: usize) -> Option<*mut u8> {
        let free = self.cells.get(self.used..)?.get(..length)?;
        // To be written to, which a cell allows through a shared reference.
        Some(free.as_ptr().cast::<u8>().cast_mut())
    }
}

/// Where a segment is put in its piece: as much room before it as a slot has.
const START: usize = PRIVATE + limits::PACKET_HEADROOM;

#[cfg(test)]
mod tests;
