//! Codec: big-endian numbers at offsets of a byte slice, read and written without a panic.
//!
//! A read past the end gives zeros, a write past the end is left undone. A view that was checked asks for neither, so the
//! rule is no policy: it is what makes "a checked view never panics" hold without an index anywhere.

/// The `N` bytes at `at`.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

pub(super) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

/// The bytes from `at` on; none where that is past the end.
pub(super) fn from(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}

pub(super) fn from_mut(bytes: &mut [u8], at: usize) -> &mut [u8] {
    bytes.get_mut(at..).unwrap_or_default()
}

/// The bytes from `start` to `end`; none where they are not all there.
pub(super) fn between(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end).unwrap_or_default()
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(slot) = from_mut(bytes, at).get_mut(..value.len()) {
        slot.copy_from_slice(value);
    }
}

/// Writes what a packet is made of, one part after the other, into a buffer that has room or not.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Writer<'a> {
        Writer { out, len: 0 }
    }

    /// `None` when the buffer has no room for it.
    pub(super) fn push(&mut self, part: &[u8]) -> Option<()> {
        let end = self.len.checked_add(part.len())?;
        self.out.get_mut(self.len..end)?.copy_from_slice(part);
        self.len = end;
        Some(())
    }

    /// Bytes that will be left after `next` more.
    pub(super) fn room(&self, next: usize) -> usize {
        self.out.len().saturating_sub(self.len).saturating_sub(next)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn written(&mut self) -> &mut [u8] {
        self.out.get_mut(..self.len).unwrap_or_default()
    }
}
