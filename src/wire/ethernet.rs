//! Codec: Ethernet II frames and their VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).
//!
//! Not here: 802.3 length frames (LLC). Their length reads as an EtherType that nothing knows, and the kernel gets them.

use std::fmt;

use super::bytes;
use super::fault::Fault;
use crate::base::{MacAddr, limits};

/// Bytes of a header without tags.
pub const HEADER_LEN: usize = 14;
/// Bytes of one tag.
pub const TAG_LEN: usize = 4;
/// Bytes a frame is padded to, its check sequence not counted: an ARP reply is shorter.
pub const MINIMUM_LEN: usize = 60;

const DESTINATION: usize = 0;
const SOURCE: usize = 6;
const ETHER_TYPE: usize = 12;

/// What a frame or a tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    pub const IPV4: EtherType = EtherType(0x0800);
    pub const ARP: EtherType = EtherType(0x0806);
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// 802.1Q.
    pub const VLAN: EtherType = EtherType(0x8100);
    /// 802.1ad, the outer tag of two.
    pub const SERVICE_VLAN: EtherType = EtherType(0x88a8);

    pub const fn is_tag(self) -> bool {
        matches!(self, EtherType::VLAN | EtherType::SERVICE_VLAN)
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EtherType::IPV4 => f.write_str("ipv4"),
            EtherType::ARP => f.write_str("arp"),
            EtherType::IPV6 => f.write_str("ipv6"),
            EtherType(other) => write!(f, "ethertype 0x{other:04x}"),
        }
    }
}

/// A VLAN tag. The kernel takes it out of the frame and gives it beside (`PACKET_AUXDATA`) unless the card leaves it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// [`EtherType::VLAN`] or [`EtherType::SERVICE_VLAN`].
    pub protocol: EtherType,
    /// Priority (3 bits), drop eligible (1), VLAN id (12).
    pub control: u16,
}

impl Tag {
    /// An 802.1Q tag of priority 0.
    pub const fn vlan(id: u16) -> Tag {
        Tag { protocol: EtherType::VLAN, control: id & 0x0fff }
    }

    /// VLAN id; 0 is a tag that has a priority only.
    pub const fn id(self) -> u16 {
        self.control & 0x0fff
    }

    /// Priority code point, 0 to 7.
    pub const fn priority(self) -> u8 {
        (self.control >> 13) as u8
    }

    pub const fn emit(self) -> [u8; TAG_LEN] {
        let ([a, b], [c, d]) = (self.protocol.0.to_be_bytes(), self.control.to_be_bytes());
        [a, b, c, d]
    }
}

/// A view of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<T> {
    buffer: T,
    tags: usize,
}

impl<T: AsRef<[u8]>> Frame<T> {
    /// Checks that the header and its tags are all there. No getter panics then.
    ///
    /// # Errors
    /// `Truncated` (G1), `TooManyTags` (G2).
    pub fn new_checked(buffer: T) -> Result<Frame<T>, Fault> {
        let bytes = buffer.as_ref();
        let mut tags = 0_usize;
        let mut len = HEADER_LEN;
        while bytes.len() >= len {
            if !EtherType(bytes::u16_at(bytes, len.wrapping_sub(2))).is_tag() {
                return Ok(Frame { buffer, tags });
            }
            if tags == limits::VLAN_TAGS {
                return Err(Fault::TooManyTags);
            }
            tags = tags.wrapping_add(1);
            len = len.wrapping_add(TAG_LEN);
        }
        Err(Fault::Truncated)
    }

    pub fn destination(&self) -> MacAddr {
        MacAddr(bytes::array(self.buffer.as_ref(), DESTINATION))
    }

    pub fn source(&self) -> MacAddr {
        MacAddr(bytes::array(self.buffer.as_ref(), SOURCE))
    }

    /// Tags, the outer one first.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = Tag> + '_ {
        (0..self.tags).map(|index| {
            let [a, b, c, d] = bytes::array(self.buffer.as_ref(), tag_offset(index));
            Tag { protocol: EtherType(u16::from_be_bytes([a, b])), control: u16::from_be_bytes([c, d]) }
        })
    }

    /// What the payload is: the type after the tags.
    pub fn ether_type(&self) -> EtherType {
        EtherType(bytes::u16_at(self.buffer.as_ref(), self.header_len().wrapping_sub(2)))
    }

    /// Bytes before the payload: 14, and 4 for each tag.
    pub fn header_len(&self) -> usize {
        tag_offset(self.tags).wrapping_add(2)
    }

    /// What follows the header, padding among it.
    pub fn payload(&self) -> &[u8] {
        bytes::from(self.buffer.as_ref(), self.header_len())
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Frame<T> {
    pub fn set_destination(&mut self, mac: MacAddr) {
        bytes::put(self.buffer.as_mut(), DESTINATION, &mac.0);
    }

    pub fn set_source(&mut self, mac: MacAddr) {
        bytes::put(self.buffer.as_mut(), SOURCE, &mac.0);
    }
}

/// A header without tags, to be written before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub destination: MacAddr,
    pub source: MacAddr,
    pub ether_type: EtherType,
}

impl Header {
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        bytes::put(&mut out, DESTINATION, &self.destination.0);
        bytes::put(&mut out, SOURCE, &self.source.0);
        bytes::put(&mut out, ETHER_TYPE, &self.ether_type.0.to_be_bytes());
        out
    }
}

/// Puts a tag into a frame that begins [`TAG_LEN`] bytes into `buffer`; the frame then begins at its start. Becomes the
/// outer tag where there is one already.
///
/// # Errors
/// `Truncated` when there is no header to put it in.
pub fn insert_tag(buffer: &mut [u8], tag: Tag) -> Result<(), Fault> {
    if buffer.len() < HEADER_LEN.wrapping_add(TAG_LEN) {
        return Err(Fault::Truncated);
    }
    buffer.copy_within(TAG_LEN..TAG_LEN.wrapping_add(ETHER_TYPE), 0);
    bytes::put(buffer, ETHER_TYPE, &tag.emit());
    Ok(())
}

/// Where the n-th tag begins; with as many as there are, where the EtherType stands.
const fn tag_offset(index: usize) -> usize {
    ETHER_TYPE.wrapping_add(index.wrapping_mul(TAG_LEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 16] = *b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\x00\x45\x00";
    const TAGGED: [u8; 20] = *b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x81\x00\xa0\x07\x08\x00\x45\x00";
    const DOUBLE: [u8; 24] = *b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xa8\x00\x64\x81\x00\xa0\x07\x08\x00\x45\x00";

    #[test]
    fn frames_read_with_none_one_and_two_tags() {
        for (bytes, ids) in [(&PLAIN[..], &[][..]), (&TAGGED, &[7]), (&DOUBLE, &[100, 7])] {
            let frame = Frame::new_checked(bytes).unwrap();
            assert_eq!(frame.destination().to_string(), "02:00:00:00:00:02");
            assert_eq!(frame.source().to_string(), "02:00:00:00:00:01");
            assert_eq!(frame.tags().map(Tag::id).collect::<Vec<_>>(), ids);
            assert_eq!(frame.ether_type(), EtherType::IPV4);
            assert_eq!(frame.payload(), [0x45, 0x00]);
        }
        let frame = Frame::new_checked(DOUBLE).unwrap();
        let tags: Vec<_> = frame.tags().map(|tag| (tag.protocol, tag.priority())).collect();
        assert_eq!(tags, [(EtherType::SERVICE_VLAN, 0), (EtherType::VLAN, 5)]);
    }

    #[test]
    fn what_ends_early_or_has_three_tags_is_refused() {
        for len in 0..HEADER_LEN {
            assert_eq!(Frame::new_checked(&PLAIN[..len]).unwrap_err(), Fault::Truncated, "{len}");
        }
        for len in HEADER_LEN..18 {
            assert_eq!(Frame::new_checked(&TAGGED[..len]).unwrap_err(), Fault::Truncated, "{len}");
        }
        let mut triple = [0; 28];
        triple[TAG_LEN..].copy_from_slice(&DOUBLE);
        insert_tag(&mut triple, Tag::vlan(1)).unwrap();
        assert_eq!(Frame::new_checked(triple).unwrap_err(), Fault::TooManyTags);
    }

    #[test]
    fn setters_write_what_getters_read_and_nothing_else() {
        let mut bytes = TAGGED;
        let mut frame = Frame::new_checked(&mut bytes[..]).unwrap();
        frame.set_destination(MacAddr::BROADCAST);
        frame.set_source(MacAddr::virtual_v4(9));
        assert_eq!(frame.destination(), MacAddr::BROADCAST);
        assert_eq!(frame.source(), MacAddr::virtual_v4(9));
        assert_eq!(bytes[12..], TAGGED[12..]);
    }

    #[test]
    fn a_tag_goes_in_before_what_follows() {
        let mut buffer = [0; 20];
        buffer[TAG_LEN..].copy_from_slice(&PLAIN);
        insert_tag(&mut buffer, Tag { protocol: EtherType::VLAN, control: 0xa007 }).unwrap();
        assert_eq!(buffer, TAGGED);
        assert_eq!(insert_tag(&mut [0; 17], Tag::vlan(1)), Err(Fault::Truncated));
    }

    #[test]
    fn a_header_is_written_as_it_reads() {
        let frame = Frame::new_checked(PLAIN).unwrap();
        let header =
            Header { destination: frame.destination(), source: frame.source(), ether_type: frame.ether_type() };
        assert_eq!(header.emit(), PLAIN[..HEADER_LEN]);
    }
}
