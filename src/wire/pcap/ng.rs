//! Codec: reading pcapng (draft-ietf-opsawg-pcapng), which Wireshark writes by default.
//!
//! Sections, interfaces and their resolutions, enhanced and simple packets; every other block is passed over.
//!
//! Not here: writing it, comments, names, statistics, an interface's time offset.

use std::time::Duration;

use super::{CaptureError, LinkType, Record, bounded};
use crate::base::limits;
use crate::wire::bytes;

/// The same in both byte orders; which one it is stands after it.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type and length before a block's body, and the length once more after it.
const BLOCK_HEADER_LEN: usize = 8;
const BLOCK_LEN: usize = 12;

const END_OF_OPTIONS: u16 = 0;
const TIME_RESOLUTION: u16 = 9;

/// What a section has said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    /// Bytes of a packet that are kept; 0: all.
    snap_len: u32,
    ticks_per_second: u64,
}

impl Section {
    /// The next packet, and moves `rest` behind it. `None` at the end.
    pub(super) fn read<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Option<Record<'a>>, CaptureError> {
        while !rest.is_empty() {
            if rest.starts_with(&SECTION_HEADER) {
                let magic = bytes::array(rest, BLOCK_HEADER_LEN);
                self.big_endian = match (u32::from_be_bytes(magic), u32::from_le_bytes(magic)) {
                    (BYTE_ORDER, _) => true,
                    (_, BYTE_ORDER) => false,
                    _ => return Err(CaptureError::BadBlock),
                };
                self.interfaces.clear();
            }
            let (kind, body) = self.block(rest)?;
            let record = match kind {
                SECTION => None,
                INTERFACE => {
                    let interface = self.interface(body)?;
                    self.interfaces.push(interface);
                    None
                }
                ENHANCED_PACKET => Some(self.enhanced(body)?),
                SIMPLE_PACKET => Some(self.simple(body)?),
                _ => None,
            };
            if record.is_some() {
                return Ok(record);
            }
        }
        Ok(None)
    }

    /// Type and body of the first block.
    fn block<'a>(&self, rest: &mut &'a [u8]) -> Result<(u32, &'a [u8]), CaptureError> {
        let len = usize::try_from(self.u32(rest, 4)).unwrap_or(usize::MAX);
        if rest.len() < BLOCK_LEN {
            return Err(CaptureError::Truncated);
        }
        if len < BLOCK_LEN || len % 4 != 0 {
            return Err(CaptureError::BadBlock);
        }
        let (block, after) = rest.split_at_checked(len).ok_or(CaptureError::Truncated)?;
        let end = len.wrapping_sub(4);
        if self.u32(block, 4) != self.u32(block, end) {
            return Err(CaptureError::BadBlock);
        }
        *rest = after;
        Ok((self.u32(block, 0), bytes::between(block, BLOCK_HEADER_LEN, end)))
    }

    fn interface(&self, body: &[u8]) -> Result<Interface, CaptureError> {
        if body.len() < 8 {
            return Err(CaptureError::BadBlock);
        }
        let link = LinkType(self.u16(body, 0));
        let resolution = self.option(bytes::from(body, 8), TIME_RESOLUTION)?;
        let ticks_per_second = match resolution {
            None => Some(1_000_000),
            // A power of ten or, with the first bit, of two.
            Some(&[exponent]) if exponent < 0x80 => 10_u64.checked_pow(u32::from(exponent)),
            Some(&[exponent]) => 2_u64.checked_pow(u32::from(exponent & 0x7f)),
            Some(_) => None,
        }
        .ok_or(CaptureError::BadBlock)?;
        Ok(Interface { link, snap_len: self.u32(body, 4), ticks_per_second })
    }

    /// The value of the first option of a kind.
    fn option<'a>(&self, mut options: &'a [u8], wanted: u16) -> Result<Option<&'a [u8]>, CaptureError> {
        while options.len() >= 4 {
            let (kind, len) = (self.u16(options, 0), usize::from(self.u16(options, 2)));
            if kind == END_OF_OPTIONS {
                break;
            }
            let rest = bytes::from(options, 4);
            let value = rest.get(..len).ok_or(CaptureError::BadBlock)?;
            if kind == wanted {
                return Ok(Some(value));
            }
            options = bytes::from(rest, len.next_multiple_of(4));
        }
        Ok(None)
    }

    fn enhanced<'a>(&self, body: &'a [u8]) -> Result<Record<'a>, CaptureError> {
        if body.len() < 20 {
            return Err(CaptureError::BadBlock);
        }
        let interface = self.interface_at(self.u32(body, 0))?;
        let ticks = u64::from(self.u32(body, 4)) << 32 | u64::from(self.u32(body, 8));
        let len = bounded(self.u32(body, 12))?;
        let data = bytes::from(body, 20).get(..len).ok_or(CaptureError::BadBlock)?;
        Ok(Record { time: interface.time(ticks), link: interface.link, original_len: self.u32(body, 16), data })
    }

    /// Of the first interface, without a time, and as long as the block or the interface lets it be.
    fn simple<'a>(&self, body: &'a [u8]) -> Result<Record<'a>, CaptureError> {
        let interface = self.interface_at(0)?;
        if body.len() < 4 {
            return Err(CaptureError::BadBlock);
        }
        let original_len = self.u32(body, 0);
        let kept = match interface.snap_len {
            0 => original_len,
            most => original_len.min(most),
        };
        let data = bytes::from(body, 4);
        let len = usize::try_from(kept).unwrap_or(usize::MAX);
        if len > limits::CAPTURED_BYTES {
            return Err(CaptureError::TooLong);
        }
        let data = data.get(..len).ok_or(CaptureError::BadBlock)?;
        Ok(Record { time: Duration::ZERO, link: interface.link, original_len, data })
    }

    fn interface_at(&self, index: u32) -> Result<Interface, CaptureError> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.interfaces.get(index).copied().ok_or(CaptureError::UnknownInterface)
    }

    fn u16(&self, bytes: &[u8], at: usize) -> u16 {
        let number = bytes::array(bytes, at);
        if self.big_endian { u16::from_be_bytes(number) } else { u16::from_le_bytes(number) }
    }

    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let number = bytes::array(bytes, at);
        if self.big_endian { u32::from_be_bytes(number) } else { u32::from_le_bytes(number) }
    }
}

impl Interface {
    fn time(&self, ticks: u64) -> Duration {
        let per_second = self.ticks_per_second.max(1);
        let seconds = ticks.checked_div(per_second).unwrap_or(0);
        let left = u128::from(ticks.checked_rem(per_second).unwrap_or(0));
        let nanos = left.saturating_mul(1_000_000_000).checked_div(u128::from(per_second)).unwrap_or(0);
        // Less than a second.
        Duration::new(seconds, u32::try_from(nanos).unwrap_or(0))
    }
}
