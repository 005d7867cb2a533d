//! Codec: ICMP messages for IPv4 (RFC 792, RFC 1191).
//!
//! Not here: what a message means to a flow, and whole error datagrams; `icmp` has both families in one form.

use super::bytes;
use super::checksum::{Change, Sum};
use super::fault::Fault;

/// Bytes before an echo's data or an error's embedded datagram.
pub const HEADER_LEN: usize = 8;

pub const ECHO_REPLY: u8 = 0;
pub const UNREACHABLE: u8 = 3;
pub const REDIRECT: u8 = 5;
pub const ECHO_REQUEST: u8 = 8;
pub const TIME_EXCEEDED: u8 = 11;
pub const PARAMETER_PROBLEM: u8 = 12;

/// Codes of [`UNREACHABLE`].
pub const PORT_UNREACHABLE: u8 = 3;
pub const FRAGMENTATION_NEEDED: u8 = 4;
pub const ADMINISTRATIVELY_PROHIBITED: u8 = 13;

const KIND: usize = 0;
const CODE: usize = 1;
const CHECKSUM: usize = 2;
const IDENTIFIER: usize = 4;
const SEQUENCE: usize = 6;
const MTU: usize = 6;

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

    /// There is no pseudo-header.
    pub fn is_checksum_valid(&self) -> bool {
        Sum::of(self.buffer.as_ref()).is_valid()
    }

    /// Of an echo.
    pub fn identifier(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), IDENTIFIER)
    }

    /// Of an echo.
    pub fn sequence(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), SEQUENCE)
    }

    /// Of "fragmentation needed". 0 from a router older than RFC 1191.
    pub fn mtu(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), MTU)
    }

    /// An echo's data, or the beginning of the datagram that an error is about.
    pub fn payload(&self) -> &[u8] {
        bytes::from(self.buffer.as_ref(), HEADER_LEN)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Message<T> {
    pub fn set_checksum(&mut self, checksum: u16) {
        bytes::put(self.buffer.as_mut(), CHECKSUM, &checksum.to_be_bytes());
    }

    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let checksum = Sum::of(self.buffer.as_ref()).checksum();
        self.set_checksum(checksum);
    }

    /// Turns an echo request into its reply: type 8 becomes 0. The carry goes around; adding 8 to the field is wrong for
    /// eight of its values (packet notes, 3.6).
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
    /// Identifier and sequence, or an MTU in the low half.
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

    /// Echo request, id 1, sequence 2, "abcd": the words 0800 0001 0002 6162 6364 sum to ccc9.
    const ECHO: [u8; 12] = *b"\x08\x00\x33\x36\x00\x01\x00\x02abcd";

    #[test]
    fn a_known_echo_reads_and_is_written_the_same() {
        let message = Message::new_checked(ECHO).unwrap();
        assert_eq!((message.kind(), message.code(), message.identifier(), message.sequence()), (8, 0, 1, 2));
        assert!(message.is_checksum_valid());
        assert_eq!(message.payload(), b"abcd");
        assert_eq!(Header::parse(&message).emit(), ECHO[..HEADER_LEN]);
        assert_eq!(Message::new_checked(&ECHO[..7]).unwrap_err(), Fault::Truncated);
    }

    /// Katran's `checksum += 8` fails for eight of these.
    #[test]
    fn every_request_becomes_a_valid_reply() {
        for identifier in 0..=u16::MAX {
            let mut bytes = ECHO;
            bytes[IDENTIFIER..SEQUENCE].copy_from_slice(&identifier.to_be_bytes());
            let mut message = Message::new_checked(&mut bytes[..]).unwrap();
            message.fill_checksum();
            message.make_reply();
            assert!(message.is_checksum_valid(), "{identifier:04x}");
            let incremental = message.checksum();
            message.fill_checksum();
            assert_eq!(message.checksum(), incremental, "{identifier:04x}");
            assert_eq!((message.kind(), message.identifier(), message.sequence()), (0, identifier, 2));
        }
    }
}
