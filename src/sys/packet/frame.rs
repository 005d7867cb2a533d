//! Value: a frame as the kernel has it: its bytes with room around them, and what lies beside them.
//!
//! Three things of a frame are not in its bytes: a VLAN tag that was taken out, a checksum that was left to the card, and that
//! it stands for several segments. Dropping any of them corrupts the frame without a trace, so they travel with it and go back
//! to the kernel on sending (`struct virtio_net_hdr`).
//!
//! Not here: reading the bytes (`wire`), nor finishing a checksum (`wire::checksum`).

use std::ops::Range;

use crate::wire::ethernet::{self, Tag};
use crate::wire::segments::{Kind, Merged, Segments};

/// A received frame in a buffer that it may be rewritten in.
pub struct Frame<'a> {
    buffer: &'a mut [u8],
    /// Where the frame is in `buffer`; never before [`PRIVATE`].
    start: usize,
    end: usize,
    tag: Option<Tag>,
    missing: Option<Missing>,
    /// In `buffer`, so that it stays true when the frame grows in front.
    sum: Sum,
    gso: Option<Gso>,
    /// It was taken from the kernel, which has no copy of it.
    taken: bool,
}

/// What the sender or the card did about the transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It is in the frame, and nobody has looked at it.
    Stored,
    /// It is in the frame and was found right.
    Verified,
    /// The field holds the sum of the pseudo-header only (`CHECKSUM_PARTIAL`). Who finishes it sums from `start` to the end of the
    /// frame and writes to `start + offset`. Counted from the frame's first byte.
    Partial { start: usize, offset: usize },
}

/// One frame for several: the sender left segmentation to the card, or the kernel merged what it received (GSO, GRO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    pub kind: GsoKind,
    /// Payload bytes of each segment but the last.
    pub size: u16,
    /// As `struct virtio_net_hdr` has it, with what `kind` does not say.
    raw: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    Tcp4,
    Tcp6,
    /// Datagrams of equal size (`UDP_SEGMENT`).
    Udp,
    /// One datagram to be fragmented (UFO).
    UdpFragments,
    /// A tunnel, or what a newer kernel has.
    Other,
}

/// Why a frame is not whole. It may be counted, and answered, but not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It was longer than any buffer.
    Tail,
    /// It has a VLAN tag, and this engine cannot see which: only the Ethernet header is here.
    Tag,
}

#[derive(Clone, Copy)]
enum Sum {
    Stored,
    Verified,
    Partial { start: usize, offset: usize },
}

impl<'a> Frame<'a> {
    /// The frame at `at` in `buffer`. An `at` that is not in it, or leaves too little room before, is made so.
    pub(super) fn new(buffer: &'a mut [u8], at: Range<usize>, vnet: Vnet) -> Frame<'a> {
        let end = at.end.min(buffer.len());
        let start = at.start.max(PRIVATE).min(end);
        let sum = match vnet.flags {
            flags if flags & NEEDS_SUM != 0 => {
                Sum::Partial { start: start + usize::from(vnet.sum_start), offset: usize::from(vnet.sum_offset) }
            }
            flags if flags & SUM_VALID != 0 => Sum::Verified,
            _ => Sum::Stored,
        };
        let gso = (vnet.gso_type != 0).then(|| Gso::new(vnet.gso_type, vnet.gso_size));
        Frame { buffer, start, end, tag: None, missing: None, sum, gso, taken: false }
    }

    pub(super) fn with_tag(mut self, tag: Option<Tag>) -> Self {
        self.tag = tag;
        self
    }

    pub(super) fn with_no_copy(mut self) -> Self {
        self.taken = true;
        self
    }

    pub(super) fn with_missing(mut self, missing: Option<Missing>) -> Self {
        self.missing = missing;
        self
    }

    /// From its destination MAC on, without the tag that was taken out.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// All the bytes that may be written, and where in them the frame is. After writing, say where it is now with
    /// [`Frame::set_range`].
    pub fn window(&mut self) -> (&mut [u8], Range<usize>) {
        (&mut self.buffer[PRIVATE..], self.start - PRIVATE..self.end - PRIVATE)
    }

    /// Where the frame is from now on, in the window. `false`, and nothing changed, when that is not in it.
    #[must_use]
    pub fn set_range(&mut self, range: Range<usize>) -> bool {
        let fits = range.start <= range.end && range.end <= self.buffer.len() - PRIVATE;
        if fits {
            (self.start, self.end) = (range.start + PRIVATE, range.end + PRIVATE);
        }
        fits
    }

    /// Bytes that can still be put before it; at reception `limits::PACKET_HEADROOM` at least.
    pub const fn headroom(&self) -> usize {
        self.start - PRIVATE
    }

    /// The VLAN tag that was taken out. It is put back on sending.
    pub const fn tag(&self) -> Option<Tag> {
        self.tag
    }

    /// The tag that it is sent with; `None` sends it as its bytes are.
    pub const fn set_tag(&mut self, tag: Option<Tag>) {
        self.tag = tag;
    }

    /// Whether the kernel has no copy of it, as of all that comes by a queue: who lets it pass loses it.
    pub const fn is_taken(&self) -> bool {
        self.taken
    }

    /// `None` when it is whole.
    pub const fn missing(&self) -> Option<Missing> {
        self.missing
    }

    pub const fn gso(&self) -> Option<Gso> {
        self.gso
    }

    pub const fn checksum(&self) -> Checksum {
        match self.sum {
            Sum::Stored => Checksum::Stored,
            Sum::Verified => Checksum::Verified,
            Sum::Partial { start, offset } => Checksum::Partial { start: start.saturating_sub(self.start), offset },
        }
    }

    /// After the checksum was finished in the bytes: no card needs to.
    pub const fn set_checksum_finished(&mut self) {
        self.sum = Sum::Stored;
    }

    /// It is one packet, whatever stood beside it.
    pub const fn set_one(&mut self) {
        self.gso = None;
    }

    /// How it is taken apart, where it can be.
    pub(super) fn segments(&self) -> Option<Segments> {
        Segments::of_frame(self.bytes(), self.gso?.merged())
    }

    /// The bytes are a new frame, an answer: whole, finished, one packet. The tag stays, for an answer goes back to its VLAN.
    pub const fn set_new(&mut self) {
        (self.sum, self.gso, self.missing) = (Sum::Stored, None, None);
    }

    /// Puts the tag back and writes the header that the kernel wants before the frame. What to send, in the buffer.
    ///
    /// # Errors
    /// The frame is not whole, or so short that what belongs to it lies outside.
    pub(super) fn seal(mut self) -> Result<Range<usize>, Unsendable> {
        if self.missing.is_some() || self.end - self.start < ethernet::HEADER_LEN {
            return Err(Unsendable);
        }
        if let Some(tag) = self.tag {
            self.start -= ethernet::TAG_LEN;
            ethernet::insert_tag(&mut self.buffer[self.start..self.end], tag).map_err(|_| Unsendable)?;
        }
        let mut vnet = Vnet::default();
        if let Sum::Partial { start, offset } = self.sum {
            let relative = start.checked_sub(self.start).ok_or(Unsendable)?;
            if relative + offset + 2 > self.end - self.start {
                return Err(Unsendable);
            }
            vnet.flags = NEEDS_SUM;
            vnet.sum_start = u16::try_from(relative).map_err(|_| Unsendable)?;
            vnet.sum_offset = u16::try_from(offset).map_err(|_| Unsendable)?;
        }
        if let Some(gso) = self.gso {
            (vnet.gso_type, vnet.gso_size) = (gso.raw, gso.size);
        }
        let start = self.start - VNET_LEN;
        self.buffer[start..self.start].copy_from_slice(&vnet.emit());
        Ok(start..self.end)
    }
}

/// A frame that would have gone out wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsendable;

impl Gso {
    /// The same in the words of the codec.
    pub const fn merged(self) -> Merged {
        let kind = match self.kind {
            GsoKind::Tcp4 | GsoKind::Tcp6 | GsoKind::Udp => Kind::Segments,
            GsoKind::UdpFragments | GsoKind::Other => Kind::Other,
        };
        Merged { kind, size: self.size }
    }

    fn new(raw: u8, size: u16) -> Gso {
        let kind = match raw & !GSO_ECN {
            1 => GsoKind::Tcp4,
            3 => GsoKind::UdpFragments,
            4 => GsoKind::Tcp6,
            5 => GsoKind::Udp,
            _ => GsoKind::Other,
        };
        Gso { kind, size, raw }
    }
}

/// `struct virtio_net_hdr`, which stands before each frame on a socket with `PACKET_VNET_HDR`; in the machine's byte order.
/// Its `hdr_len` is a hint that the kernel works out itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Vnet {
    flags: u8,
    gso_type: u8,
    gso_size: u16,
    sum_start: u16,
    sum_offset: u16,
}

impl Vnet {
    pub(super) fn parse(bytes: &[u8; VNET_LEN]) -> Vnet {
        let [flags, gso_type, _, _, a, b, c, d, e, f] = *bytes;
        Vnet {
            flags,
            gso_type,
            gso_size: u16::from_ne_bytes([a, b]),
            sum_start: u16::from_ne_bytes([c, d]),
            sum_offset: u16::from_ne_bytes([e, f]),
        }
    }

    /// The checksum is left undone: from `start` on is summed, and it stands at `offset` from there.
    pub(super) fn needs_sum(start: usize, offset: usize) -> Vnet {
        match (u16::try_from(start), u16::try_from(offset)) {
            (Ok(sum_start), Ok(sum_offset)) => Vnet { flags: NEEDS_SUM, sum_start, sum_offset, ..Vnet::default() },
            // No frame is that long.
            _ => Vnet::default(),
        }
    }

    fn emit(self) -> [u8; VNET_LEN] {
        let ([a, b], [c, d]) = (self.gso_size.to_ne_bytes(), self.sum_start.to_ne_bytes());
        let [e, f] = self.sum_offset.to_ne_bytes();
        [self.flags, self.gso_type, 0, 0, a, b, c, d, e, f]
    }
}

pub(super) const VNET_LEN: usize = 10;
/// Bytes of a buffer that are for what [`Frame::seal`] adds.
pub(super) const PRIVATE: usize = VNET_LEN + ethernet::TAG_LEN;

const NEEDS_SUM: u8 = 1;
const SUM_VALID: u8 = 2;
/// A flag beside the type: the segments carry ECN.
const GSO_ECN: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ethernet::EtherType;

    const BYTES: [u8; 34] = *b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\x00\x45\0\0\x14abcdefghijklmnop";
    const PARTIAL_TCP: [u8; VNET_LEN] = {
        let ([a, b], [c, d], [e, f]) = (1448_u16.to_ne_bytes(), 20_u16.to_ne_bytes(), 6_u16.to_ne_bytes());
        [NEEDS_SUM, 1 | GSO_ECN, 54, 0, a, b, c, d, e, f]
    };

    fn buffer() -> [u8; 100] {
        let mut buffer = [0; 100];
        buffer[40..40 + BYTES.len()].copy_from_slice(&BYTES);
        buffer
    }

    #[test]
    fn what_lies_beside_a_frame_is_read_and_written_back() {
        let mut buffer = buffer();
        let mut frame = Frame::new(&mut buffer, 40..74, Vnet::parse(&PARTIAL_TCP));
        assert_eq!(frame.bytes(), BYTES);
        assert_eq!(frame.checksum(), Checksum::Partial { start: 20, offset: 6 });
        assert_eq!(frame.gso().map(|gso| (gso.kind, gso.size)), Some((GsoKind::Tcp4, 1448)));
        assert_eq!(frame.headroom(), 40 - PRIVATE);

        // A tunnel's header goes before it, and the checksum moves along.
        let (_, range) = frame.window();
        assert!(frame.set_range(range.start - 20..range.end));
        assert_eq!(frame.checksum(), Checksum::Partial { start: 40, offset: 6 });
        assert!(frame.set_range(range.clone()));

        frame.set_tag(Some(Tag::vlan(7)));
        let sealed = frame.seal().unwrap();
        assert_eq!(sealed, 40 - PRIVATE..74);
        let (header, sent) = buffer[sealed].split_first_chunk::<VNET_LEN>().unwrap();
        let vnet = Vnet { sum_start: 24, ..Vnet::parse(&PARTIAL_TCP) };
        assert_eq!(Vnet::parse(header), vnet, "the tag moves the checksum by four bytes");
        assert_eq!(sent[..12], BYTES[..12]);
        assert_eq!(sent[12..16], [0x81, 0x00, 0x00, 0x07]);
        assert_eq!(sent[16..], BYTES[12..]);
        assert_eq!(ethernet::Frame::new_checked(sent).unwrap().ether_type(), EtherType::IPV4);
    }

    #[test]
    fn a_new_frame_has_nothing_beside_it_but_its_vlan() {
        let mut buffer = buffer();
        let mut frame = Frame::new(&mut buffer, 40..74, Vnet::parse(&PARTIAL_TCP))
            .with_tag(Some(Tag::vlan(7)))
            .with_missing(Some(Missing::Tail));
        frame.set_new();
        assert_eq!((frame.checksum(), frame.gso(), frame.missing()), (Checksum::Stored, None, None));
        assert_eq!(frame.tag(), Some(Tag::vlan(7)));
        assert!(frame.seal().is_ok());
    }

    #[test]
    fn what_would_go_out_wrong_is_not_sent() {
        type Change = fn(&mut Frame<'_>);
        let cases: [(&str, Change, bool); 5] = [
            ("as it came", |_| {}, true),
            ("not whole", |frame| frame.missing = Some(Missing::Tail), false),
            ("no header", |frame| assert!(frame.set_range(30..43)), false),
            ("checksum before it", |frame| assert!(frame.set_range(50..80)), false),
            ("checksum behind it", |frame| assert!(frame.set_range(26..47)), false),
        ];
        for (name, change, sendable) in cases {
            let mut buffer = buffer();
            let mut frame = Frame::new(&mut buffer, 40..74, Vnet::parse(&PARTIAL_TCP));
            change(&mut frame);
            assert_eq!(frame.seal().is_ok(), sendable, "{name}");
        }
    }

    #[test]
    #[allow(clippy::reversed_empty_ranges, reason = "a range that is refused")]
    fn a_frame_stays_in_its_buffer() {
        let mut buffer = buffer();
        let mut frame = Frame::new(&mut buffer, 3..1000, Vnet::default());
        assert_eq!((frame.headroom(), frame.bytes().len()), (0, 100 - PRIVATE));
        for range in [0..87, 5..4] {
            assert!(!frame.set_range(range.clone()), "{range:?}");
        }
        assert!(frame.set_range(86..86));
        assert!(frame.bytes().is_empty() && frame.seal().is_err());
    }
}
