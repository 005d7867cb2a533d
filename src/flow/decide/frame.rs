//! Value: a frame in a buffer with room around it, so that headers can go before it and answers can take its place.
//!
//! ```text
//! buffer ├── room ──┤ ethernet · tags ├─ IP datagram ─┤ padding ├── room ──┤
//!                   start             ip()            ip() + packet.len    end
//! ```

use crate::base::MacAddr;
use crate::wire::checksum::{self, Stored};
use crate::wire::ethernet::{self, EtherType, Frame, Header, Tag};
use crate::wire::packet::{Packet, Transport};
use crate::wire::segments::Merged;
use crate::wire::{Fault, tcp};

/// A frame, and what its card or kernel said beside it.
#[derive(Debug)]
pub struct FrameBuf<'a> {
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
    /// Where it came in: the kernel's index.
    pub interface: u32,
    /// Whether its sender has finished its checksum. Followed through every rewrite; what is sent may still be partial.
    pub stored: Stored,
    /// That it is many packets in one frame, where the kernel says so.
    pub merged: Option<Merged>,
    /// Whether the capture cut it off.
    pub cut: bool,
}

impl<'a> FrameBuf<'a> {
    /// Room before a frame that every rewrite fits into: a tag, an IPv6 header, UDP and GUE.
    pub const HEADROOM: usize = 64;

    /// The frame of `len` bytes that begins at `start` of `buffer`. `None` when it does not lie within.
    pub fn new(buffer: &'a mut [u8], start: usize, len: usize, interface: u32) -> Option<FrameBuf<'a>> {
        let end = start.checked_add(len).filter(|end| *end <= buffer.len())?;
        Some(FrameBuf { buffer, start, end, interface, stored: Stored::Whole, merged: None, cut: false })
    }

    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Where the frame begins in its buffer now.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Puts back the tag that the kernel took out (`PACKET_AUXDATA`). False when there is no room for it.
    pub fn insert_tag(&mut self, tag: Tag) -> bool {
        let Some(start) = self.start.checked_sub(ethernet::TAG_LEN) else { return false };
        let inserted =
            self.buffer.get_mut(start..self.end).is_some_and(|frame| ethernet::insert_tag(frame, tag).is_ok());
        if inserted {
            self.start = start;
        }
        inserted
    }

    /// Where the checksum is to be summed from and where it goes, counted from the frame's first byte, if it is unfinished:
    /// `csum_start` and `csum_offset` of a vnet header.
    pub fn unfinished(&self) -> Option<(usize, usize)> {
        if self.stored == Stored::Whole {
            return None;
        }
        let frame = Frame::new_checked(self.bytes()).ok()?;
        let packet = Packet::of_frame(&frame).ok()??;
        let offset = checksum_offset(&packet)?;
        Some((frame.header_len().saturating_add(packet.offset), offset))
    }

    /// Finishes the checksum, for a way out on which nobody will. Sums the whole packet.
    pub fn finish(&mut self) {
        if let Some((start, offset)) = self.unfinished() {
            let padding = Frame::new_checked(self.bytes())
                .ok()
                .and_then(|frame| Some(frame.header_len().saturating_add(Packet::of_frame(&frame).ok()??.len)));
            if let Some(packet) = padding.and_then(|end| self.bytes_mut().get_mut(..end)) {
                // The packet was parsed with its whole header.
                let _ = checksum::complete(packet, start, offset);
            }
        }
        self.stored = Stored::Whole;
    }

    /// Drops all after the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.end = self.start.saturating_add(len).min(self.end);
    }

    /// Puts bytes of other headers in place of the first `header_len`. False, and nothing changed, when there is no room.
    pub(super) fn begin_with(&mut self, header_len: usize, parts: [&[u8]; 3]) -> bool {
        let len = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
        let end = self.start.saturating_add(header_len).min(self.end);
        let Some(start) = end.checked_sub(len) else { return false };
        let mut rest = self.buffer.get_mut(start..end).unwrap_or_default();
        for part in parts {
            let Some((here, after)) = rest.split_at_mut_checked(part.len()) else { return false };
            here.copy_from_slice(part);
            rest = after;
        }
        self.start = start;
        true
    }

    /// Becomes another frame. False, and nothing changed, when the buffer is too small for it.
    pub(super) fn replace(&mut self, parts: [&[u8]; 3]) -> bool {
        let len = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
        let Some(last) = self.buffer.len().checked_sub(len) else { return false };
        self.start = self.start.min(last);
        self.end = self.start.saturating_add(len);
        self.stored = Stored::Whole;
        self.merged = None;
        self.begin_with(len, parts)
    }
}

/// Where TCP and UDP keep their checksum; nobody leaves another's to a card.
pub(super) const fn checksum_offset(packet: &Packet) -> Option<usize> {
    match packet.transport {
        Transport::Tcp(_) => Some(tcp::CHECKSUM),
        Transport::Udp(_) => Some(crate::wire::udp::CHECKSUM),
        _ => None,
    }
}

/// What the frame's header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub source: MacAddr,
    pub destination: MacAddr,
    /// The outer tag.
    pub tag: Option<Tag>,
    pub tags: usize,
    pub ether_type: EtherType,
    /// Bytes before the payload.
    pub header_len: usize,
}

impl Arrival {
    pub fn read(bytes: &[u8]) -> Result<Arrival, Fault> {
        let frame = Frame::new_checked(bytes)?;
        let mut tags = frame.tags();
        Ok(Arrival {
            source: frame.source(),
            destination: frame.destination(),
            tags: tags.len(),
            tag: tags.next(),
            ether_type: frame.ether_type(),
            header_len: frame.header_len(),
        })
    }

    /// 0 for a frame without a tag, or with one that has a priority only (802.1p).
    pub fn vlan(&self) -> u16 {
        self.tag.map_or(0, Tag::id)
    }
}

/// An Ethernet header with or without a tag, in two parts that go one after the other.
pub(super) fn header(
    destination: MacAddr,
    source: MacAddr,
    tag: Option<Tag>,
    ether_type: EtherType,
) -> ([u8; 18], usize) {
    let mut out = [0; 18];
    let plain = Header { destination, source, ether_type }.emit();
    let Some(tag) = tag else {
        if let Some(place) = out.first_chunk_mut() {
            *place = plain;
        }
        return (out, ethernet::HEADER_LEN);
    };
    let after = out.get_mut(ethernet::TAG_LEN..).and_then(<[u8]>::first_chunk_mut);
    if let Some(place) = after {
        *place = plain;
    }
    // There is a header to put it in.
    let _ = ethernet::insert_tag(&mut out, tag);
    (out, 18)
}
