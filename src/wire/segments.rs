//! Codec: one frame for many, and each of the many as the kernel's own segmentation makes it (GSO).
//!
//! A sender leaves segmentation to its card, and a receiver's kernel merges what follows on (GRO); either way one frame of up to
//! 64 KiB comes, with the size of a segment beside it. Whoever sends the frame on as it is can leave it at that. Who puts a header
//! before it that no card knows, a tunnel's, has to take it apart first.
//!
//! ```text
//! ethernet, tags │ ip │ tcp or udp, options │ payload of size │ payload of size │ the rest
//! ╰──────────────── before each ───────────╯
//! ```
//!
//! Each segment has the headers with its own lengths, and checksums summed anew: who merged has judged those that came, and a
//! sender that left segmentation to its card left the sum to it too. IPv4 identifications count up. TCP's sequence numbers go on; FIN
//! and PSH are the last segment's, and CWR the first's (RFC 3168 §6.1.2). UDP without a checksum stays so.
//!
//! Any segment can be had at any time: a segment is a function of the frame and its number.
//! Budget: no allocation; one copy of the payload and one sum over it. Not here: fragments of a datagram (UFO).

use super::bytes;
use super::ethernet::Frame;
use super::packet::{Packet, Transport};
use super::tcp::Flags;
use super::{ip, ipv4, ipv6, tcp, udp};
use crate::base::limits;

/// What stands beside a frame that is many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    pub kind: Kind,
    /// Payload bytes of each segment but the last.
    pub size: u16,
}

/// What a frame that is many is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Segments of TCP, or datagrams of UDP of equal size (`UDP_SEGMENT`): the packet says which.
    Segments,
    /// Fragments of one datagram (UFO), or what a newer kernel has.
    Other,
}

impl Merged {
    /// Whether it is more than one packet after all.
    pub fn is_many(self, packet: &Packet) -> bool {
        usize::from(self.size) < packet.payload_len()
    }
}

/// A frame that is many, looked through. Its numbers hold for that frame only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    packet: Packet,
    /// Where the IP header begins.
    ip: usize,
    /// Where the payload begins and ends.
    payload: usize,
    end: usize,
    size: usize,
    /// How many there are.
    count: usize,
}

impl Segments {
    /// `None` when the frame cannot be taken apart: it is no whole TCP segment or UDP datagram of more than one segment's bytes,
    /// or of more segments than `limits::MERGED_SEGMENTS`.
    pub fn of_frame(frame: &[u8], merged: Merged) -> Option<Segments> {
        let frame = Frame::new_checked(frame).ok()?;
        let packet = Packet::of_frame(&frame).ok()??;
        Segments::new(frame.header_len(), &packet, merged)
    }

    /// The same for a frame whose datagram, `packet`, begins at `ip`.
    pub fn new(ip: usize, packet: &Packet, merged: Merged) -> Option<Segments> {
        let splits = matches!(packet.transport, Transport::Tcp(_) | Transport::Udp(_));
        if merged.kind != Kind::Segments || !splits || packet.fragment != ip::Fragment::Whole || !merged.is_many(packet)
        {
            return None;
        }
        let size = usize::from(merged.size);
        let count = packet.payload_len().div_ceil(size.max(1));
        if size == 0 || count > limits::MERGED_SEGMENTS {
            return None;
        }
        let end = ip.checked_add(packet.len)?;
        let payload = end.checked_sub(packet.payload_len())?;
        Some(Segments { packet: *packet, ip, payload, end, size, count })
    }

    /// How many there are: two at least.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of the longest.
    pub const fn longest(&self) -> usize {
        self.payload.saturating_add(self.size)
    }

    /// Writes segment `nth` of `frame`, the frame that this was made from, to the beginning of `out`. Gives its length; `None` when
    /// there is no such segment, or no room for it.
    pub fn write(&self, frame: &[u8], nth: usize, out: &mut [u8]) -> Option<usize> {
        let skipped = nth.checked_mul(self.size).filter(|_| nth < self.count)?;
        let from = self.payload.checked_add(skipped)?;
        let to = from.checked_add(self.size)?.min(self.end);
        let mut writer = bytes::Writer::new(out);
        writer.push(frame.get(..self.payload)?)?;
        writer.push(frame.get(from..to)?)?;
        let datagram = writer.written().get_mut(self.ip..)?;
        self.write_ip(datagram, nth)?;
        self.write_transport(datagram.get_mut(self.packet.offset..)?, nth, skipped)?;
        Some(writer.len())
    }

    fn write_ip(&self, datagram: &mut [u8], nth: usize) -> Option<()> {
        let len = datagram.len();
        if self.packet.is_ipv6() {
            let mut view = ipv6::Packet::new_embedded(datagram).ok()?;
            view.set_payload_len(u16::try_from(len.checked_sub(ipv6::HEADER_LEN)?).ok()?);
        } else {
            let mut view = ipv4::Packet::new_embedded(datagram).ok()?;
            let identification = view.identification().wrapping_add(u16::try_from(nth).ok()?);
            view.set_total_len(u16::try_from(len).ok()?);
            view.set_identification(identification);
            view.fill_checksum();
        }
        Some(())
    }

    fn write_transport(&self, transport: &mut [u8], nth: usize, skipped: usize) -> Option<()> {
        let Packet { source, destination, .. } = self.packet;
        match self.packet.transport {
            Transport::Tcp(header) => {
                let mut view = tcp::Segment::new_checked(transport).ok()?;
                view.set_sequence(header.sequence.wrapping_add(u32::try_from(skipped).ok()?));
                view.set_flags(self.flags(header.flags, nth));
                view.fill_checksum(source, destination);
            }
            Transport::Udp(header) => {
                let length = u16::try_from(transport.len()).ok()?;
                let mut view = udp::Datagram::new_fragment(transport).ok()?;
                view.set_length(length);
                if header.checksum != 0 {
                    view.fill_checksum(source, destination);
                }
            }
            _ => return None,
        }
        Some(())
    }

    const fn flags(&self, flags: Flags, nth: usize) -> Flags {
        let flags = if nth == 0 { flags } else { flags.without(Flags::CWR) };
        let is_last = nth.wrapping_add(1) == self.count;
        if is_last { flags } else { flags.without(Flags::FIN.with(Flags::PSH)) }
    }
}

#[cfg(test)]
mod tests;
