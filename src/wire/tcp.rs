//! Codec: TCP segments (RFC 9293): header, options, the MSS clamp, and the reset that answers a segment.
//!
//! Not here: connection states. A balancer follows flows, not sequence spaces.

use std::fmt;
use std::net::IpAddr;

use super::bytes;
use super::checksum::{Change, Stored, Sum};
use super::fault::Fault;
use super::ip::Protocol;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// What an MSS option counts besides, when it is made from an MTU: this header, and 20 or 40 of IP.
const TCP_AND_IPV4: u16 = 40;
const TCP_AND_IPV6: u16 = 60;

pub(super) const SOURCE_PORT: usize = 0;
pub(super) const DESTINATION_PORT: usize = 2;
const SEQUENCE: usize = 4;
const ACKNOWLEDGMENT: usize = 8;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const WINDOW: usize = 14;
/// Where the checksum stands.
pub const CHECKSUM: usize = 16;
const URGENT: usize = 18;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// The control bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    pub const FIN: Flags = Flags(0x01);
    pub const SYN: Flags = Flags(0x02);
    pub const RST: Flags = Flags(0x04);
    pub const PSH: Flags = Flags(0x08);
    pub const ACK: Flags = Flags(0x10);
    pub const URG: Flags = Flags(0x20);
    pub const ECE: Flags = Flags(0x40);
    pub const CWR: Flags = Flags(0x80);

    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    #[must_use]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// A segment that opens a connection: SYN without ACK.
    pub const fn opens(self) -> bool {
        self.contains(Flags::SYN) && !self.contains(Flags::ACK)
    }

    /// Whether some state of TCP sends this (G13): exactly one of SYN, RST, FIN with ACK, or ACK alone. PSH and the bits
    /// of congestion notification go with any.
    pub const fn are_sensible(self) -> bool {
        let urg = Flags::URG.0;
        let phase = self.0 & (Flags::SYN.0 | Flags::RST.0 | Flags::FIN.0 | Flags::ACK.0);
        if phase == Flags::SYN.0 || phase == Flags::ACK.0 || phase == Flags::FIN.0 | Flags::ACK.0 {
            return true;
        }
        let answers = phase == Flags::SYN.0 | Flags::ACK.0;
        let resets = phase == Flags::RST.0 || phase == Flags::RST.0 | Flags::ACK.0;
        (answers || resets) && self.0 & urg == 0
    }
}

/// As tcpdump shows them: `[S.]`.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: [(Flags, &str); 8] = [
            (Flags::FIN, "F"),
            (Flags::SYN, "S"),
            (Flags::RST, "R"),
            (Flags::PSH, "P"),
            (Flags::ACK, "."),
            (Flags::URG, "U"),
            (Flags::ECE, "E"),
            (Flags::CWR, "W"),
        ];
        f.write_str("[")?;
        for (flag, letter) in LETTERS {
            if self.contains(flag) {
                f.write_str(letter)?;
            }
        }
        f.write_str(if self.0 == 0 { "none]" } else { "]" })
    }
}

/// A view of a segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<T> {
    buffer: T,
}

/// An option other than padding: where it stands in the header, and its bytes after kind and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> {
    pub kind: u8,
    /// Of its kind byte, from the header's first.
    pub offset: usize,
    pub data: &'a [u8],
}

impl<T: AsRef<[u8]>> Segment<T> {
    /// Checks that the header is all there. No getter panics then.
    ///
    /// # Errors
    /// `Truncated`, `BadHeaderLength` (G12).
    pub fn new_checked(buffer: T) -> Result<Segment<T>, Fault> {
        let segment = Segment { buffer };
        let len = segment.buffer.as_ref().len();
        if len < HEADER_LEN {
            return Err(Fault::Truncated);
        }
        if segment.header_len() < HEADER_LEN || segment.header_len() > len {
            return Err(Fault::BadHeaderLength);
        }
        Ok(segment)
    }

    pub fn source_port(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), SOURCE_PORT)
    }

    pub fn destination_port(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), DESTINATION_PORT)
    }

    /// Bytes of the header, 20 to 60.
    pub fn header_len(&self) -> usize {
        usize::from(bytes::u8_at(self.buffer.as_ref(), DATA_OFFSET) >> 4) << 2
    }

    pub fn flags(&self) -> Flags {
        Flags(bytes::u8_at(self.buffer.as_ref(), FLAGS))
    }

    pub fn checksum(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), CHECKSUM)
    }

    /// The addresses are those of the IP header.
    pub fn is_checksum_valid(&self, source: IpAddr, destination: IpAddr) -> bool {
        let bytes = self.buffer.as_ref();
        Sum::pseudo(source, destination, Protocol::TCP.0, bytes.len()).bytes(bytes).is_valid()
    }

    /// Everything that has a kind and a length, in order. Ends after an error.
    pub fn options(&self) -> Options<'_> {
        let header = bytes::between(self.buffer.as_ref(), 0, self.header_len());
        Options { header, at: HEADER_LEN }
    }

    /// Whether the options can be walked to their end (G12).
    ///
    /// # Errors
    /// `BadOption`.
    pub fn check_options(&self) -> Result<(), Fault> {
        // Two paddings and a timestamp: nearly every segment.
        let bytes = self.buffer.as_ref();
        if self.header_len() == HEADER_LEN
            || self.header_len() == 32 && bytes::array(bytes, HEADER_LEN) == [NO_OPERATION, NO_OPERATION, 8, 10]
        {
            return Ok(());
        }
        self.options().try_for_each(|option| option.map(drop))
    }

    /// The maximum segment size that the sender offers (RFC 9293 §3.7.1).
    ///
    /// # Errors
    /// `BadOption`.
    pub fn maximum_segment_size(&self) -> Result<Option<u16>, Fault> {
        Ok(self.find_maximum_segment_size()?.map(|(_, size)| size))
    }

    /// Where the size stands, and the size.
    fn find_maximum_segment_size(&self) -> Result<Option<(usize, u16)>, Fault> {
        for option in self.options() {
            let option = option?;
            if option.kind == MAXIMUM_SEGMENT_SIZE {
                let size = <[u8; 2]>::try_from(option.data).map_err(|_| Fault::BadOption)?;
                return Ok(Some((option.offset.wrapping_add(2), u16::from_be_bytes(size))));
            }
        }
        Ok(None)
    }

    pub fn payload(&self) -> &[u8] {
        bytes::from(self.buffer.as_ref(), self.header_len())
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Segment<T> {
    /// Raw: the checksum is to be updated by the caller.
    pub fn set_sequence(&mut self, sequence: u32) {
        bytes::put(self.buffer.as_mut(), SEQUENCE, &sequence.to_be_bytes());
    }

    /// Raw, as [`Segment::set_sequence`].
    pub fn set_flags(&mut self, flags: Flags) {
        bytes::put(self.buffer.as_mut(), FLAGS, &[flags.0]);
    }

    pub fn set_checksum(&mut self, checksum: u16) {
        bytes::put(self.buffer.as_mut(), CHECKSUM, &checksum.to_be_bytes());
    }

    /// Sums the segment anew; the addresses are those of the IP header.
    pub fn fill_checksum(&mut self, source: IpAddr, destination: IpAddr) {
        self.set_checksum(0);
        let bytes = self.buffer.as_ref();
        let checksum = Sum::pseudo(source, destination, Protocol::TCP.0, bytes.len()).bytes(bytes).checksum();
        self.set_checksum(checksum);
    }

    /// Lowers the maximum segment size of a SYN to `most`; a lower one stays. A SYN without the option means 536 or 1220
    /// bytes (RFC 9293 §3.7.1), which fits every tunnel, so none is added. Says whether anything changed.
    ///
    /// # Errors
    /// `BadOption`, and nothing is changed.
    pub fn clamp_maximum_segment_size(&mut self, most: u16, stored: Stored) -> Result<bool, Fault> {
        if !self.flags().contains(Flags::SYN) {
            return Ok(false);
        }
        let Some((at, size)) = self.find_maximum_segment_size()?.filter(|(_, size)| *size > most) else {
            return Ok(false);
        };
        bytes::put(self.buffer.as_mut(), at, &most.to_be_bytes());
        // After an odd number of paddings the size lies in two words. A partial sum does not cover it yet.
        if stored == Stored::Whole {
            let change = if at % 2 == 0 { Change::NONE.u16(size, most) } else { Change::NONE.u16_at_odd(size, most) };
            let checksum = change.apply(self.checksum());
            self.set_checksum(checksum);
        }
        Ok(true)
    }
}

/// The largest segment whose packet fits `mtu` bytes, with headers that have no options (RFC 6691).
pub const fn maximum_segment_size(mtu: u16, ipv6: bool) -> u16 {
    mtu.saturating_sub(if ipv6 { TCP_AND_IPV6 } else { TCP_AND_IPV4 })
}

/// The options of a header.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    header: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<TcpOption<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let offset = self.at;
            match bytes::from(self.header, offset) {
                [] | [END_OF_OPTIONS, ..] => return None,
                [NO_OPERATION, ..] => self.at = offset.wrapping_add(1),
                rest => {
                    let option = TcpOption::at(rest, offset);
                    // Past the end after an error, so that the walk ends. A length is 2 or more, so that it moves.
                    self.at =
                        option.map_or(self.header.len(), |found| offset.wrapping_add(found.data.len()).wrapping_add(2));
                    return Some(option);
                }
            }
        }
    }
}

impl<'a> TcpOption<'a> {
    fn at(rest: &'a [u8], offset: usize) -> Result<TcpOption<'a>, Fault> {
        let &[kind, len, ..] = rest else { return Err(Fault::BadOption) };
        let data = rest.get(2..usize::from(len)).ok_or(Fault::BadOption)?;
        Ok(TcpOption { kind, offset, data })
    }
}

/// A header's fixed part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledgment: u32,
    /// In bytes, 20 to 60, a multiple of four.
    pub header_len: u8,
    pub flags: Flags,
    pub window: u16,
    pub checksum: u16,
    pub urgent: u16,
}

impl Header {
    pub fn parse<T: AsRef<[u8]>>(segment: &Segment<T>) -> Header {
        let bytes = segment.buffer.as_ref();
        Header {
            source_port: segment.source_port(),
            destination_port: segment.destination_port(),
            sequence: bytes::u32_at(bytes, SEQUENCE),
            acknowledgment: bytes::u32_at(bytes, ACKNOWLEDGMENT),
            header_len: (bytes::u8_at(bytes, DATA_OFFSET) >> 4) << 2,
            flags: segment.flags(),
            window: bytes::u16_at(bytes, WINDOW),
            checksum: segment.checksum(),
            urgent: bytes::u16_at(bytes, URGENT),
        }
    }

    /// The fixed part; options, which `header_len` counts, follow it.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        bytes::put(&mut out, SOURCE_PORT, &self.source_port.to_be_bytes());
        bytes::put(&mut out, DESTINATION_PORT, &self.destination_port.to_be_bytes());
        bytes::put(&mut out, SEQUENCE, &self.sequence.to_be_bytes());
        bytes::put(&mut out, ACKNOWLEDGMENT, &self.acknowledgment.to_be_bytes());
        bytes::put(&mut out, DATA_OFFSET, &[self.header_len >> 2 << 4, self.flags.0]);
        bytes::put(&mut out, WINDOW, &self.window.to_be_bytes());
        bytes::put(&mut out, CHECKSUM, &self.checksum.to_be_bytes());
        bytes::put(&mut out, URGENT, &self.urgent.to_be_bytes());
        out
    }

    /// What the segment takes of the sequence space: its payload, and one each for SYN and FIN (RFC 9293 §3.4).
    pub fn sequence_len(&self, payload_len: usize) -> u32 {
        let bits = u32::from(self.flags.contains(Flags::SYN)).wrapping_add(u32::from(self.flags.contains(Flags::FIN)));
        u32::try_from(payload_len).unwrap_or(u32::MAX).wrapping_add(bits)
    }

    /// The reset that a host without such a connection answers with (RFC 9293 §3.10.7.1), its checksum still to be filled
    /// in. `None` for a reset: it is never answered, or two hosts would not stop.
    pub fn reset(&self, payload_len: usize) -> Option<Header> {
        if self.flags.contains(Flags::RST) {
            return None;
        }
        let (sequence, acknowledgment, flags) = if self.flags.contains(Flags::ACK) {
            (self.acknowledgment, 0, Flags::RST)
        } else {
            (0, self.sequence.wrapping_add(self.sequence_len(payload_len)), Flags::RST.with(Flags::ACK))
        };
        Some(Header {
            source_port: self.destination_port,
            destination_port: self.source_port,
            sequence,
            acknowledgment,
            header_len: 20,
            flags,
            window: 0,
            checksum: 0,
            urgent: 0,
        })
    }
}

#[cfg(test)]
mod tests;
