//! Codec: ICMP messages for IPv6 (RFC 4443).
//!
//! Not here: neighbour discovery, which `ndp` reads from such messages, and whole error datagrams (`icmp`).

use std::net::Ipv6Addr;

use super::bytes;
use super::checksum::{Change, Sum};
use super::fault::Fault;
use super::ip::Protocol;

/// Bytes before an echo's data or an error's embedded datagram.
pub const HEADER_LEN: usize = 8;

pub const UNREACHABLE: u8 = 1;
pub const PACKET_TOO_BIG: u8 = 2;
pub const TIME_EXCEEDED: u8 = 3;
pub const PARAMETER_PROBLEM: u8 = 4;
pub const ECHO_REQUEST: u8 = 128;
pub const ECHO_REPLY: u8 = 129;
pub const ROUTER_SOLICITATION: u8 = 133;
pub const ROUTER_ADVERTISEMENT: u8 = 134;
pub const NEIGHBOR_SOLICITATION: u8 = 135;
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
pub const REDIRECT: u8 = 137;

/// Codes of [`UNREACHABLE`].
pub const ADMINISTRATIVELY_PROHIBITED: u8 = 1;
pub const PORT_UNREACHABLE: u8 = 4;

const KIND: usize = 0;
const CODE: usize = 1;
pub(super) const CHECKSUM: usize = 2;
const IDENTIFIER: usize = 4;
const SEQUENCE: usize = 6;
const MTU: usize = 4;

/// A view of a message.
#[derive(Clone, Copy, Debug)]
pub struct Message<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Message<T> {
    /// # Errors
    /// `Truncated`.
    pub fn new_checked(buffer: T) -> Result<Message<T>, Fault> {
        if buffer.as_ref().len() < HEADER_LEN {
            return Err(Fault::Truncated);
        }
        Ok(Message { buffer })
    }

    /// The type.
    pub fn kind(&self) -> u8 {
        bytes::u8_at(self.buffer.as_ref(), KIND)
    }

    pub fn code(&self) -> u8 {
        bytes::u8_at(self.buffer.as_ref(), CODE)
    }

    pub fn checksum(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), CHECKSUM)
    }

    /// The addresses are those of the IP header (RFC 4443 §2.3).
    pub fn is_checksum_valid(&self, source: Ipv6Addr, destination: Ipv6Addr) -> bool {
        self.sum(source, destination).is_valid()
    }

    /// Of an echo.
    pub fn identifier(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), IDENTIFIER)
    }

    /// Of an echo.
    pub fn sequence(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), SEQUENCE)
    }

    /// Of "packet too big".
    pub fn mtu(&self) -> u32 {
        bytes::u32_at(self.buffer.as_ref(), MTU)
    }

    /// An echo's data, or the beginning of the datagram that an error is about.
    pub fn payload(&self) -> &[u8] {
        bytes::from(self.buffer.as_ref(), HEADER_LEN)
    }

    fn sum(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Sum {
        let bytes = self.buffer.as_ref();
        Sum::pseudo(source.into(), destination.into(), Protocol::ICMPV6.0, bytes.len()).bytes(bytes)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Message<T> {
    pub fn set_checksum(&mut self, checksum: u16) {
        bytes::put(self.buffer.as_mut(), CHECKSUM, &checksum.to_be_bytes());
    }

    /// The addresses are those of the IP header.
    pub fn fill_checksum(&mut self, source: Ipv6Addr, destination: Ipv6Addr) {
        self.set_checksum(0);
        let checksum = self.sum(source, destination).checksum();
        self.set_checksum(checksum);
    }

    /// Turns an echo request into its reply: type 128 becomes 129. That the addresses change places changes no sum.
    pub fn make_reply(&mut self) {
        let request = u16::from_be_bytes([self.kind(), self.code()]);
        let reply = u16::from_be_bytes([ECHO_REPLY, self.code()]);
        let checksum = Change::NONE.u16(request, reply).apply(self.checksum());
        bytes::put(self.buffer.as_mut(), KIND, &[ECHO_REPLY]);
        self.set_checksum(checksum);
    }
}

/// The first eight bytes, whatever the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
    /// Identifier and sequence, or an MTU.
    pub rest: u32,
}

impl Header {
    pub fn parse<T: AsRef<[u8]>>(message: &Message<T>) -> Header {
        let rest = bytes::u32_at(message.buffer.as_ref(), IDENTIFIER);
        Header { kind: message.kind(), code: message.code(), checksum: message.checksum(), rest }
    }

    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        bytes::put(&mut out, KIND, &[self.kind, self.code]);
        bytes::put(&mut out, CHECKSUM, &self.checksum.to_be_bytes());
        bytes::put(&mut out, IDENTIFIER, &self.rest.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Echo request from ::1 to ::1, id 1, sequence 2. By hand: 0001 0001 0008 003a of the pseudo-header and
    /// 8000 0001 0002 of the message sum to 8047.
    const ECHO: [u8; 8] = *b"\x80\x00\x7f\xb8\x00\x01\x00\x02";
    const ONE: Ipv6Addr = Ipv6Addr::LOCALHOST;

    #[test]
    fn a_known_echo_reads_and_is_written_the_same() {
        let message = Message::new_checked(ECHO).unwrap();
        assert_eq!((message.kind(), message.code(), message.identifier(), message.sequence()), (128, 0, 1, 2));
        assert!(message.is_checksum_valid(ONE, ONE));
        assert!(!message.is_checksum_valid(ONE, Ipv6Addr::UNSPECIFIED));
        assert_eq!(Header::parse(&message).emit(), ECHO);
        assert_eq!(Message::new_checked(&ECHO[..7]).unwrap_err(), Fault::Truncated);
    }

    #[test]
    fn every_request_becomes_a_valid_reply() {
        for identifier in 0..=u16::MAX {
            let mut bytes = ECHO;
            bytes[IDENTIFIER..SEQUENCE].copy_from_slice(&identifier.to_be_bytes());
            let mut message = Message::new_checked(&mut bytes[..]).unwrap();
            message.fill_checksum(ONE, Ipv6Addr::UNSPECIFIED);
            message.make_reply();
            assert!(message.is_checksum_valid(Ipv6Addr::UNSPECIFIED, ONE), "{identifier:04x}");
            assert_eq!((message.kind(), message.identifier(), message.sequence()), (129, identifier, 2));
        }
    }
}
