//! Codec: UDP datagrams (RFC 768), and the ports that UDP, TCP and SCTP all begin with.

use std::net::IpAddr;

use super::bytes;
use super::checksum::Sum;
use super::fault::Fault;
use super::ip::Protocol;

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;

const SOURCE_PORT: usize = 0;
const DESTINATION_PORT: usize = 2;
const LENGTH: usize = 4;
/// Where the checksum stands.
pub const CHECKSUM: usize = 6;

/// A view of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Datagram<T> {
    /// Checks the header and that the length lies within the bytes. No getter panics then.
    ///
    /// # Errors
    /// `Truncated`, `BadUdpLength` (G14).
    pub fn new_checked(buffer: T) -> Result<Datagram<T>, Fault> {
        let datagram = Datagram::new_fragment(buffer)?;
        if datagram.length() > datagram.buffer.as_ref().len() {
            return Err(Fault::BadUdpLength);
        }
        Ok(datagram)
    }

    /// Checks the header only: the rest comes in later fragments.
    ///
    /// # Errors
    /// `Truncated`, `BadUdpLength` (below 8).
    pub fn new_fragment(buffer: T) -> Result<Datagram<T>, Fault> {
        let datagram = Datagram { buffer };
        if datagram.buffer.as_ref().len() < HEADER_LEN {
            return Err(Fault::Truncated);
        }
        if datagram.length() < HEADER_LEN {
            return Err(Fault::BadUdpLength);
        }
        Ok(datagram)
    }

    pub fn source_port(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), SOURCE_PORT)
    }

    pub fn destination_port(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), DESTINATION_PORT)
    }

    /// Bytes of the datagram, header included.
    pub fn length(&self) -> usize {
        usize::from(bytes::u16_at(self.buffer.as_ref(), LENGTH))
    }

    /// 0: the sender made none.
    pub fn checksum(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), CHECKSUM)
    }

    /// The addresses are those of the IP header. No checksum is right over IPv4 (RFC 768) and wrong over IPv6.
    pub fn is_checksum_valid(&self, source: IpAddr, destination: IpAddr) -> bool {
        if self.checksum() == 0 {
            return source.is_ipv4();
        }
        self.sum(source, destination).is_valid()
    }

    pub fn payload(&self) -> &[u8] {
        let bytes = self.buffer.as_ref();
        bytes::between(bytes, HEADER_LEN, self.length().min(bytes.len()))
    }

    fn sum(&self, source: IpAddr, destination: IpAddr) -> Sum {
        let bytes = bytes::between(self.buffer.as_ref(), 0, self.length().min(self.buffer.as_ref().len()));
        Sum::pseudo(source, destination, Protocol::UDP.0, self.length()).bytes(bytes)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Datagram<T> {
    /// Raw: the checksum is to be updated by the caller.
    pub fn set_length(&mut self, length: u16) {
        bytes::put(self.buffer.as_mut(), LENGTH, &length.to_be_bytes());
    }

    pub fn set_checksum(&mut self, checksum: u16) {
        bytes::put(self.buffer.as_mut(), CHECKSUM, &checksum.to_be_bytes());
    }

    /// Sums the datagram anew; the addresses are those of the IP header.
    pub fn fill_checksum(&mut self, source: IpAddr, destination: IpAddr) {
        self.set_checksum(0);
        let checksum = self.sum(source, destination).udp_checksum();
        self.set_checksum(checksum);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub source_port: u16,
    pub destination_port: u16,
    /// Bytes of the datagram, header included.
    pub length: u16,
    /// 0: none.
    pub checksum: u16,
}

impl Header {
    pub fn parse<T: AsRef<[u8]>>(datagram: &Datagram<T>) -> Header {
        Header {
            source_port: datagram.source_port(),
            destination_port: datagram.destination_port(),
            length: bytes::u16_at(datagram.buffer.as_ref(), LENGTH),
            checksum: datagram.checksum(),
        }
    }

    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        bytes::put(&mut out, SOURCE_PORT, &self.source_port.to_be_bytes());
        bytes::put(&mut out, DESTINATION_PORT, &self.destination_port.to_be_bytes());
        bytes::put(&mut out, LENGTH, &self.length.to_be_bytes());
        bytes::put(&mut out, CHECKSUM, &self.checksum.to_be_bytes());
        out
    }
}

/// Source and destination port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ports {
    pub source: u16,
    pub destination: u16,
}

impl Ports {
    /// The first four bytes of a TCP, UDP or SCTP header, which is all that an ICMP error needs to embed.
    pub fn parse(transport: &[u8]) -> Option<Ports> {
        let &[a, b, c, d, ..] = transport else { return None };
        Some(Ports { source: u16::from_be_bytes([a, b]), destination: u16::from_be_bytes([c, d]) })
    }

    #[must_use]
    pub const fn reversed(self) -> Ports {
        Ports { source: self.destination, destination: self.source }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// 10.0.0.1:4242 to 10.0.0.100:53, "abc". By hand: the words of the pseudo-header are 0a00 0001 0a00 0064 0011 000b, of
    /// the datagram 1092 0035 000b 0000 6162 6300, and all sum to e9b5.
    const KNOWN: [u8; 11] = *b"\x10\x92\x00\x35\x00\x0b\x16\x4aabc";

    fn addresses() -> (IpAddr, IpAddr) {
        ([10, 0, 0, 1].into(), [10, 0, 0, 100].into())
    }

    #[test]
    fn a_known_datagram_reads_and_is_written_the_same() {
        let (source, destination) = addresses();
        let datagram = Datagram::new_checked(KNOWN).unwrap();
        let header = Header::parse(&datagram);
        assert_eq!(header, Header { source_port: 4242, destination_port: 53, length: 11, checksum: 0x164a });
        assert!(datagram.is_checksum_valid(source, destination));
        assert_eq!(datagram.payload(), b"abc");
        assert_eq!(header.emit(), KNOWN[..HEADER_LEN]);
        assert_eq!(Ports::parse(&KNOWN), Some(Ports { source: 4242, destination: 53 }));
        assert_eq!(Ports::parse(&KNOWN[..3]), None);
        let mut again = KNOWN;
        Datagram::new_checked(&mut again[..]).unwrap().fill_checksum(source, destination);
        assert_eq!(again, KNOWN);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for (name, len, length, whole, first) in [
            ("7 bytes", 7, 11, Err(Fault::Truncated), Err(Fault::Truncated)),
            ("a length of 7", 11, 7, Err(Fault::BadUdpLength), Err(Fault::BadUdpLength)),
            ("a length of 0, as a jumbogram has", 11, 0, Err(Fault::BadUdpLength), Err(Fault::BadUdpLength)),
            ("a length past the end", 11, 12, Err(Fault::BadUdpLength), Ok(3)),
            ("a length before the end", 11, 9, Ok(1), Ok(1)),
            ("a header alone", 8, 8, Ok(0), Ok(0)),
        ] {
            let mut bytes = KNOWN[..len].to_vec();
            bytes[LENGTH..LENGTH + 2].copy_from_slice(&u16::to_be_bytes(length));
            assert_eq!(Datagram::new_checked(&bytes).map(|d| d.payload().len()), whole, "{name}");
            assert_eq!(Datagram::new_fragment(&bytes).map(|d| d.payload().len()), first, "{name}");
        }
    }

    #[test]
    fn no_checksum_is_right_over_ipv4_only() {
        let mut bytes = KNOWN;
        bytes[CHECKSUM..HEADER_LEN].fill(0);
        let datagram = Datagram::new_checked(bytes).unwrap();
        let (source, destination) = addresses();
        assert!(datagram.is_checksum_valid(source, destination));
        let v6 = IpAddr::from([0x20; 16]);
        assert!(!datagram.is_checksum_valid(v6, v6));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(bytes in vec(any::<u8>(), 0..40)) {
            if let Ok(datagram) = Datagram::new_fragment(&bytes) {
                prop_assert_eq!(&Header::parse(&datagram).emit()[..], &bytes[..HEADER_LEN]);
                let _ = datagram.is_checksum_valid([1, 2, 3, 4].into(), [5, 6, 7, 8].into());
            }
        }

        #[test]
        fn what_is_filled_in_is_valid(mut bytes in vec(any::<u8>(), 8..40), v6 in any::<bool>()) {
            let length = bytes.len() as u16;
            bytes[LENGTH..LENGTH + 2].copy_from_slice(&length.to_be_bytes());
            let address = if v6 { IpAddr::from([7; 16]) } else { IpAddr::from([7; 4]) };
            let mut datagram = Datagram::new_checked(&mut bytes[..]).unwrap();
            datagram.fill_checksum(address, address);
            prop_assert!(datagram.checksum() != 0);
            prop_assert!(datagram.is_checksum_valid(address, address));
        }
    }
}
