//! Io: read buffers from a per-worker store. Small at first, bulk-sized when a transfer fills them, given back while idle.
//!
//! Budget: taking and giving back is a push and a pop; steady state allocates nothing. An idle connection holds none.

use std::cell::RefCell;
use std::rc::Rc;

use crate::base::limits;

/// The free buffers of one worker.
#[derive(Default)]
pub struct Buffers {
    small: RefCell<Vec<Box<[u8]>>>,
    bulk: RefCell<Vec<Box<[u8]>>>,
}

/// Bytes that were read and are not consumed yet, in a block of fixed size. Given back when dropped, and while parked.
pub struct Buffer {
    store: Rc<Buffers>,
    /// Empty while parked.
    block: Box<[u8]>,
    size: usize,
    start: usize,
    end: usize,
}

impl Buffers {
    /// A buffer of `limits::BUFFER_START_BYTES`.
    pub fn take(self: &Rc<Self>) -> Buffer {
        self.buffer(limits::BUFFER_START_BYTES)
    }

    /// A buffer of `limits::BUFFER_BULK_BYTES`.
    pub fn take_bulk(self: &Rc<Self>) -> Buffer {
        self.buffer(limits::BUFFER_BULK_BYTES)
    }

    /// A buffer of `limits::BUFFER_START_BYTES`, or of `limits::BUFFER_BULK_BYTES`, that takes its block when it is used.
    pub fn parked(self: &Rc<Self>, bulk: bool) -> Buffer {
        let size = if bulk { limits::BUFFER_BULK_BYTES } else { limits::BUFFER_START_BYTES };
        Buffer { store: self.clone(), block: Box::default(), size, start: 0, end: 0 }
    }

    /// Frees what nobody uses.
    pub fn relieve(&self) {
        for free in [&self.small, &self.bulk] {
            free.take();
        }
    }

    fn buffer(self: &Rc<Self>, size: usize) -> Buffer {
        Buffer { store: self.clone(), block: self.block(size), size, start: 0, end: 0 }
    }

    fn block(&self, size: usize) -> Box<[u8]> {
        let free = self.free(size).and_then(|free| free.borrow_mut().pop());
        free.unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    fn give_back(&self, block: Box<[u8]>) {
        if let Some(free) = self.free(block.len()) {
            let mut free = free.borrow_mut();
            if free.len() < limits::BUFFERS_KEPT {
                free.push(block);
            }
        }
    }

    fn free(&self, size: usize) -> Option<&RefCell<Vec<Box<[u8]>>>> {
        match size {
            limits::BUFFER_START_BYTES => Some(&self.small),
            limits::BUFFER_BULK_BYTES => Some(&self.bulk),
            _ => None,
        }
    }
}

impl Buffer {
    /// What was read and not consumed.
    pub fn bytes(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }

    /// The same, for a decoder that moves payload together.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.block[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn capacity(&self) -> usize {
        self.size
    }

    /// Gives the block back while there is nothing in it and nothing to read. Whoever reads next gets the block that was
    /// used last, still in the cache, and a thousand waiting exchanges hold none.
    pub fn park(&mut self) {
        if self.start == self.end && !self.block.is_empty() {
            self.store.give_back(std::mem::take(&mut self.block));
            self.start = 0;
            self.end = 0;
        }
    }

    /// Has a block again, if it was parked.
    pub fn unpark(&mut self) {
        if self.block.is_empty() {
            self.block = self.store.block(self.size);
        }
    }

    /// Room behind what was read. Empty when the block is full ([`Buffer::compact`] or [`Buffer::grow`]) or parked.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        &mut self.block[self.end..]
    }

    /// `n` bytes of [`Buffer::room`] were filled.
    pub fn filled(&mut self, n: usize) {
        self.end = (self.end + n).min(self.block.len());
    }

    /// The first `n` bytes are done with.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    /// Moves what is left to the front.
    pub fn compact(&mut self) {
        self.block.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }

    /// Moves to a bulk block; what was read stays. False when it is one already.
    pub fn grow(&mut self) -> bool {
        if self.size >= limits::BUFFER_BULK_BYTES {
            return false;
        }
        if self.block.is_empty() {
            self.size = limits::BUFFER_BULK_BYTES;
            return true;
        }
        let mut bulk = self.store.take_bulk();
        let read = self.bytes();
        bulk.block[..read.len()].copy_from_slice(read);
        bulk.end = read.len();
        std::mem::swap(self, &mut bulk);
        true
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.store.give_back(std::mem::take(&mut self.block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_compaction_and_growth_and_blocks_come_back() {
        let store = Rc::new(Buffers::default());
        let mut buffer = store.take();
        buffer.room()[..5].copy_from_slice(b"hello");
        buffer.filled(5);
        buffer.consume(2);
        buffer.compact();
        assert_eq!(buffer.bytes(), b"llo");
        assert!(buffer.grow());
        assert!(!buffer.grow());
        assert_eq!((buffer.bytes(), buffer.capacity()), (&b"llo"[..], limits::BUFFER_BULK_BYTES));
        drop(buffer);
        assert_eq!((store.small.borrow().len(), store.bulk.borrow().len()), (1, 1));
        assert!(store.take_bulk().is_empty(), "a reused block starts empty");
    }

    #[test]
    fn only_an_empty_buffer_parks_and_it_keeps_its_size() {
        let store = Rc::new(Buffers::default());
        let mut buffer = store.take();
        buffer.filled(1);
        buffer.park();
        assert_eq!(store.small.borrow().len(), 0);
        buffer.consume(1);
        buffer.park();
        assert_eq!((store.small.borrow().len(), buffer.room().len()), (1, 0));
        assert!(buffer.grow());
        buffer.unpark();
        assert_eq!((buffer.room().len(), buffer.capacity()), (limits::BUFFER_BULK_BYTES, limits::BUFFER_BULK_BYTES));
        drop(buffer);
        let mut parked = store.parked(true);
        assert_eq!(store.bulk.borrow().len(), 1);
        parked.unpark();
        assert_eq!((store.bulk.borrow().len(), parked.room().len()), (0, limits::BUFFER_BULK_BYTES));
    }
}
