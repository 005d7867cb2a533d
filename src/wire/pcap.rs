//! Codec: capture files, as tcpdump and Wireshark write them: pcap (draft-ietf-opsawg-pcap) in either byte order and resolution, and
//! pcapng (`ng`).
//!
//! A capture is a file from anywhere: lengths are bounded before they are believed, and an error ends the reading.
//!
//! Not here: files, and writing. A capture is read from a slice.

mod ng;

use std::fmt;
use std::time::Duration;

use super::bytes;
use super::ethernet::{EtherType, Frame};
use super::show;
use crate::base::limits;

/// Bytes of a file's header, and of what stands before each packet.
pub const FILE_HEADER_LEN: usize = 24;
pub const RECORD_HEADER_LEN: usize = 16;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// What a captured packet begins with (the registry of tcpdump.org).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkType(pub u16);

impl LinkType {
    /// Four bytes of the capturing host's own address family.
    pub const NULL: LinkType = LinkType(0);
    pub const ETHERNET: LinkType = LinkType(1);
    /// An IP header.
    pub const RAW: LinkType = LinkType(101);
    /// `tcpdump -i any`, before libpcap 1.10 and since.
    pub const LINUX_SLL: LinkType = LinkType(113);
    pub const LINUX_SLL2: LinkType = LinkType(276);
    pub const IPV4: LinkType = LinkType(228);
    pub const IPV6: LinkType = LinkType(229);
}

/// One captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Since 1970, UTC.
    pub time: Duration,
    pub link: LinkType,
    /// Bytes that the packet had; `data` may be only its beginning.
    pub original_len: u32,
    pub data: &'a [u8],
}

impl<'a> Record<'a> {
    /// The IP datagram in it, if it is one.
    pub fn ip(&self) -> Option<&'a [u8]> {
        let (ether_type, at) = match self.link {
            LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => return Some(self.data),
            // Its family is 2 for IPv4, and for IPv6 what each system has chosen: the version says as much.
            LinkType::NULL => return self.data.get(4..),
            LinkType::ETHERNET => {
                let frame = Frame::new_checked(self.data).ok()?;
                (frame.ether_type(), frame.header_len())
            }
            LinkType::LINUX_SLL => (EtherType(bytes::u16_at(self.data, 14)), 16),
            LinkType::LINUX_SLL2 => (EtherType(bytes::u16_at(self.data, 0)), 20),
            _ => return None,
        };
        let is_ip = matches!(ether_type, EtherType::IPV4 | EtherType::IPV6);
        if is_ip { self.data.get(at..) } else { None }
    }
}

/// One line, without the time.
impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.link, self.ip()) {
            (LinkType::ETHERNET, _) => show::frame(self.data).fmt(f),
            (_, Some(ip)) => show::ip(ip).fmt(f),
            (LinkType(link), None) => write!(f, "link type {link} len {}", self.data.len()),
        }
    }
}

/// Why a capture cannot be read, or not further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureError {
    NotACapture,
    /// The file ends within a record: whoever wrote it was stopped.
    Truncated,
    /// A record beyond `limits::CAPTURED_BYTES`.
    TooLong,
    /// A pcapng block that contradicts itself.
    BadBlock,
    /// A pcapng packet of an interface that the file does not describe.
    UnknownInterface,
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CaptureError::NotACapture => "not a capture: neither pcap nor pcapng",
            CaptureError::Truncated => "the capture ends within a record",
            CaptureError::TooLong => "a record is longer than any packet",
            CaptureError::BadBlock => "a pcapng block contradicts itself",
            CaptureError::UnknownInterface => "a packet of an interface that the capture does not describe",
        })
    }
}

impl std::error::Error for CaptureError {}

/// How a pcap file writes numbers and times.
#[derive(Clone, Copy, Debug)]
struct Layout {
    big_endian: bool,
    nanoseconds: bool,
}

impl Layout {
    fn of_magic(magic: [u8; 4]) -> Option<Layout> {
        let (big, little) = (u32::from_be_bytes(magic), u32::from_le_bytes(magic));
        [(big, true), (little, false)].into_iter().find_map(|(magic, big_endian)| match magic {
            MICROSECONDS => Some(Layout { big_endian, nanoseconds: false }),
            NANOSECONDS => Some(Layout { big_endian, nanoseconds: true }),
            _ => None,
        })
    }
}

/// Reads a capture packet by packet. Ends after an error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    format: Format,
}

#[derive(Clone, Debug)]
enum Format {
    Pcap { layout: Layout, link: LinkType },
    Ng(ng::Section),
    Ended,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// `NotACapture`, `Truncated`.
    pub fn new(file: &'a [u8]) -> Result<Reader<'a>, CaptureError> {
        let magic = *file.first_chunk().ok_or(CaptureError::NotACapture)?;
        if magic == ng::SECTION_HEADER {
            return Ok(Reader { rest: file, format: Format::Ng(ng::Section::default()) });
        }
        let layout = Layout::of_magic(magic).ok_or(CaptureError::NotACapture)?;
        let rest = file.get(FILE_HEADER_LEN..).ok_or(CaptureError::Truncated)?;
        // The upper half says whether frames end with their check sequence, which IP's own length leaves out.
        let [a, b, c, d] = bytes::array(file, 20);
        let link = LinkType(if layout.big_endian { u16::from_be_bytes([c, d]) } else { u16::from_le_bytes([a, b]) });
        Ok(Reader { rest, format: Format::Pcap { layout, link } })
    }

    fn read(&mut self) -> Result<Option<Record<'a>>, CaptureError> {
        match &mut self.format {
            Format::Ended => Ok(None),
            Format::Pcap { .. } if self.rest.is_empty() => Ok(None),
            Format::Pcap { layout, link } => {
                let (record, rest) = pcap_record(*layout, *link, self.rest)?;
                self.rest = rest;
                Ok(Some(record))
            }
            Format::Ng(section) => section.read(&mut self.rest),
        }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Record<'a>, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read().transpose();
        if !matches!(read, Some(Ok(_))) {
            self.format = Format::Ended;
        }
        read
    }
}

/// The first record, and what follows it.
fn pcap_record(layout: Layout, link: LinkType, file: &[u8]) -> Result<(Record<'_>, &[u8]), CaptureError> {
    let (header, rest) = file.split_first_chunk::<RECORD_HEADER_LEN>().ok_or(CaptureError::Truncated)?;
    let number = |at| {
        let number = bytes::array(header, at);
        if layout.big_endian { u32::from_be_bytes(number) } else { u32::from_le_bytes(number) }
    };
    let unit = if layout.nanoseconds { 1 } else { 1000 };
    let fraction = Duration::from_nanos(u64::from(number(4)).saturating_mul(unit));
    let time = Duration::from_secs(u64::from(number(0))).saturating_add(fraction);
    let len = bounded(number(8))?;
    let (data, rest) = rest.split_at_checked(len).ok_or(CaptureError::Truncated)?;
    Ok((Record { time, link, original_len: number(12), data }, rest))
}

fn bounded(len: u32) -> Result<usize, CaptureError> {
    usize::try_from(len).ok().filter(|len| *len <= limits::CAPTURED_BYTES).ok_or(CaptureError::TooLong)
}

#[cfg(test)]
mod tests;
