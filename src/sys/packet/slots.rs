//! Io: the memory of a packet ring, which the kernel and we share: slots that change hands one by one.
//!
//! Slots lie in blocks and are an odd number of cache lines apart. At a power of two, as is usual, the first lines of all slots fall
//! into a few sets of the cache, and a ring of any size misses it with every frame: a fifth of a frame's time on veth.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use super::PacketError;
use super::socket::{Socket, step};

/// A ring's memory. Its headers are of version 2 (`struct tpacket2_hdr`).
pub(super) struct Slots {
    base: NonNull<u8>,
    /// Bytes of one slot.
    pub size: usize,
    per_block: usize,
    pub count: usize,
    bytes: usize,
}

/// Which ring of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Receive,
    Send,
}

// SAFETY: the mapping belongs to this value alone and is valid in every thread of the process.
unsafe impl Send for Slots {}

impl Slots {
    /// As many slots with room for `least` bytes as `bytes` have. The socket has no other ring.
    ///
    /// # Errors
    /// The step that failed and what the kernel said.
    pub(super) fn map(socket: &Socket, direction: Direction, least: usize, bytes: usize) -> Result<Slots, PacketError> {
        let size = (least.div_ceil(LINE) | 1) * LINE;
        let (blocks, per_block) = (bytes / BLOCK, BLOCK / size);
        let (bytes, count) = (blocks * BLOCK, blocks * per_block);
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: size as u32,
            tp_frame_nr: count as u32,
        };
        let (option, make, map) = match direction {
            Direction::Receive => (libc::PACKET_RX_RING, "make the receive ring", "map the receive ring"),
            Direction::Send => (libc::PACKET_TX_RING, "make the send ring", "map the send ring"),
        };
        step(make, socket.set(option, &request))?;
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, socket.as_fd().as_raw_fd());
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other memory.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0) };
        let mapped = if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(base.cast()) };
        let base = NonNull::new(step(map, mapped)?).ok_or(io::ErrorKind::OutOfMemory.into());
        Ok(Slots { base: step(map, base)?, size, per_block, count, bytes })
    }

    /// The start of a slot: aligned to a cache line, with `size` bytes in the mapping.
    pub(super) fn at(&self, slot: usize) -> NonNull<u8> {
        assert!(slot < self.count, "a slot that is not in the ring");
        let (block, nth) = (slot / self.per_block, slot % self.per_block);
        // SAFETY: `slot` is below `count`, so the block is one of the mapping's, and a block has room for `per_block` slots.
        unsafe { self.base.add(block * BLOCK + nth * self.size) }
    }

    pub(super) const fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.count { 0 } else { slot + 1 }
    }

    /// Acquires what the kernel wrote before it handed the slot over.
    pub(super) fn status(&self, slot: usize) -> u32 {
        self.word(slot).load(Ordering::Acquire)
    }

    /// Releases what we wrote to the slot.
    pub(super) fn set_status(&self, slot: usize, status: u32) {
        self.word(slot).store(status, Ordering::Release);
    }

    fn word(&self, slot: usize) -> &AtomicU32 {
        // SAFETY: the status is the first word of a slot, aligned to 64, in a mapping that lives as long as `self`. The kernel
        // and we write it by plain stores of a whole word, which is what an atomic store is.
        unsafe { AtomicU32::from_ptr(self.at(slot).cast().as_ptr()) }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, of this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// What the kernel allocates at once.
const BLOCK: usize = 64 * 1024;
pub(super) const LINE: usize = 64;
