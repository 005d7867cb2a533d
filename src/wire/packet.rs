//! Codec: the walk from an IP header to what an engine decides by: addresses, protocol, fragment, ports or ICMP.
//!
//! Two questions are kept apart. [`Packet::parse`] fails where the bytes contradict themselves, so that nobody can read them.
//! [`Packet::check`] refuses what can be read and nobody honest sends: martian sources, flags that no state of TCP has,
//! port 0, options. Tools look at the latter, engines drop it. Both name the row of the hardening catalogue by a `Fault`.
//!
//! A packet that is not for a VIP is none of our business, however broken: [`destination`] is for looking before the walk.
//!
//! Budget: no allocation, one pass; nothing is summed but the IPv4 header.
//!
//! Not here: whom a packet belongs to, and whether its transport checksum is right unless one asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ethernet::{EtherType, Frame};
use super::fault::Fault;
use super::icmp::Icmp;
use super::ip::{self, Fragment, Protocol};
use super::udp::Ports;
use super::{bytes, icmpv4, icmpv6, ipv4, ipv6, tcp, udp};

/// What one datagram, or one fragment of it, says. Offsets count from the first byte of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The transport protocol; of a later IPv6 fragment, what its fragment header says.
    pub protocol: Protocol,
    /// TTL or hop limit.
    pub hops: u8,
    /// DSCP (6 bits) and ECN (2 bits).
    pub traffic_class: u8,
    /// IPv6 never lets a router fragment.
    pub dont_fragment: bool,
    /// Whether IPv4 options are there.
    pub options: bool,
    pub fragment: Fragment,
    /// Where the transport header begins, or a later fragment's data.
    pub offset: usize,
    /// Where the datagram ends; what comes after is a frame's padding.
    pub len: usize,
    pub transport: Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp(tcp::Header),
    Udp(udp::Header),
    Icmp(Icmp),
    /// A later fragment: its ports went before it.
    Fragment,
    /// A protocol that has no ports for us.
    Other,
}

impl Packet {
    /// Reads an IP datagram of either family.
    ///
    /// # Errors
    /// Those of [`ipv4::Packet::new_checked`], [`ipv6::Packet::new_checked`] and [`ipv6::Packet::upper`]; `BadIpChecksum` (G6),
    /// `TinyFragment` (G10), and those of the transport header's view.
    pub fn parse(ip: &[u8]) -> Result<Packet, Fault> {
        match ip.first().ok_or(Fault::Truncated)? >> 4 {
            4 => Packet::parse_v4(ip),
            6 => Packet::parse_v6(ip),
            _ => Err(Fault::BadIpVersion),
        }
    }

    /// Reads the datagram in a frame; `None` when it carries something else.
    ///
    /// # Errors
    /// Those of [`Packet::parse`]; `BadIpVersion` when the EtherType announces the other family (G5).
    pub fn of_frame<T: AsRef<[u8]>>(frame: &Frame<T>) -> Result<Option<Packet>, Fault> {
        match frame.ether_type() {
            EtherType::IPV4 => Packet::parse_v4(frame.payload()).map(Some),
            EtherType::IPV6 => Packet::parse_v6(frame.payload()).map(Some),
            _ => Ok(None),
        }
    }

    fn parse_v4(ip: &[u8]) -> Result<Packet, Fault> {
        let view = ipv4::Packet::new_checked(ip)?;
        if !view.is_checksum_valid() {
            return Err(Fault::BadIpChecksum);
        }
        let mut packet = Packet {
            source: view.source().into(),
            destination: view.destination().into(),
            protocol: view.protocol(),
            hops: view.ttl(),
            traffic_class: view.traffic_class(),
            dont_fragment: view.dont_fragment(),
            options: !view.options().is_empty(),
            fragment: view.fragment(),
            offset: view.header_len(),
            len: view.total_len(),
            transport: Transport::Other,
        };
        packet.transport = packet.parse_transport(ip)?;
        Ok(packet)
    }

    fn parse_v6(ip: &[u8]) -> Result<Packet, Fault> {
        let view = ipv6::Packet::new_checked(ip)?;
        let upper = view.upper()?;
        let mut packet = Packet {
            source: view.source().into(),
            destination: view.destination().into(),
            protocol: upper.protocol,
            hops: view.hop_limit(),
            traffic_class: view.traffic_class(),
            dont_fragment: true,
            options: false,
            fragment: upper.fragment,
            offset: upper.offset,
            len: view.total_len(),
            transport: Transport::Other,
        };
        packet.transport = packet.parse_transport(ip)?;
        Ok(packet)
    }

    fn parse_transport(&self, ip: &[u8]) -> Result<Transport, Fault> {
        let bytes = self.transport_bytes(ip);
        match self.fragment {
            Fragment::Whole => self.parse_header(ip, bytes),
            Fragment::First { .. } => self.parse_header(ip, bytes).map_err(|fault| match fault {
                Fault::Truncated | Fault::BadHeaderLength => Fault::TinyFragment,
                other => other,
            }),
            // One that begins inside the header would replace ports or flags that were judged (RFC 1858 §4).
            Fragment::Later { offset, .. }
                if self.protocol == Protocol::TCP && usize::from(offset) < tcp::HEADER_LEN =>
            {
                Err(Fault::TinyFragment)
            }
            Fragment::Later { .. } => Ok(Transport::Fragment),
        }
    }

    fn parse_header(&self, ip: &[u8], bytes: &[u8]) -> Result<Transport, Fault> {
        match (self.protocol, self.source) {
            (Protocol::TCP, _) => Ok(Transport::Tcp(tcp::Header::parse(&tcp::Segment::new_checked(bytes)?))),
            (Protocol::UDP, _) => {
                let whole = self.fragment == Fragment::Whole;
                let view = if whole { udp::Datagram::new_checked } else { udp::Datagram::new_fragment };
                Ok(Transport::Udp(udp::Header::parse(&view(bytes)?)))
            }
            (Protocol::ICMP, IpAddr::V4(_)) | (Protocol::ICMPV6, IpAddr::V6(_)) => {
                let datagram = bytes::between(ip, 0, self.len);
                Icmp::parse(datagram, self.offset, self.protocol).map(Transport::Icmp)
            }
            _ => Ok(Transport::Other),
        }
    }

    /// Refuses what can be read and nobody honest sends. `ip` is what was parsed.
    ///
    /// # Errors
    /// `IpOptions` (G8), `MartianSource` (G11), `BadTcpFlags`, `ZeroPort` (G13), `BadOption` (G12), `NoUdpChecksum` (G15).
    pub fn check(&self, ip: &[u8]) -> Result<(), Fault> {
        if self.options {
            return Err(Fault::IpOptions);
        }
        if ip::is_martian(self.source) {
            return Err(Fault::MartianSource);
        }
        match self.transport {
            Transport::Tcp(header) => {
                if !header.flags.are_sensible() {
                    return Err(Fault::BadTcpFlags);
                }
                // Options of a first fragment are all there: its header was.
                tcp::Segment::new_checked(self.transport_bytes(ip))?.check_options()?;
            }
            Transport::Udp(header) if header.checksum == 0 && self.is_ipv6() => return Err(Fault::NoUdpChecksum),
            _ => {}
        }
        match self.ports() {
            Some(Ports { source: 0, .. } | Ports { destination: 0, .. }) => Err(Fault::ZeroPort),
            _ => Ok(()),
        }
    }

    /// Whether the transport checksum is right. `None` where one packet cannot tell: a fragment, another protocol. `ip` is
    /// what was parsed. Sums the whole packet.
    pub fn is_checksum_valid(&self, ip: &[u8]) -> Option<bool> {
        if self.fragment != Fragment::Whole {
            return None;
        }
        let bytes = self.transport_bytes(ip);
        let (source, destination) = (self.source, self.destination);
        match (self.transport, source, destination) {
            (Transport::Tcp(_), ..) => {
                Some(tcp::Segment::new_checked(bytes).ok()?.is_checksum_valid(source, destination))
            }
            (Transport::Udp(_), ..) => {
                Some(udp::Datagram::new_checked(bytes).ok()?.is_checksum_valid(source, destination))
            }
            (Transport::Icmp(_), IpAddr::V6(source), IpAddr::V6(destination)) => {
                Some(icmpv6::Message::new_checked(bytes).ok()?.is_checksum_valid(source, destination))
            }
            (Transport::Icmp(_), ..) => Some(icmpv4::Message::new_checked(bytes).ok()?.is_checksum_valid()),
            (Transport::Fragment | Transport::Other, ..) => None,
        }
    }

    /// Of TCP and UDP.
    pub const fn ports(&self) -> Option<Ports> {
        match self.transport {
            Transport::Tcp(header) => Some(Ports { source: header.source_port, destination: header.destination_port }),
            Transport::Udp(header) => Some(Ports { source: header.source_port, destination: header.destination_port }),
            _ => None,
        }
    }

    pub const fn is_ipv6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// The transport header and its payload, without padding. `ip` is what was parsed.
    pub fn transport_bytes<'a>(&self, ip: &'a [u8]) -> &'a [u8] {
        bytes::between(ip, self.offset, self.len)
    }

    /// The same, to be written.
    pub fn transport_bytes_mut<'a>(&self, ip: &'a mut [u8]) -> &'a mut [u8] {
        ip.get_mut(self.offset..self.len).unwrap_or_default()
    }

    /// Bytes after the transport header, as far as this packet has them; of other protocols, all of them.
    pub const fn payload_len(&self) -> usize {
        let header = match self.transport {
            Transport::Tcp(header) => header.header_len as usize,
            Transport::Udp(_) => udp::HEADER_LEN,
            Transport::Icmp(_) => icmpv4::HEADER_LEN,
            Transport::Fragment | Transport::Other => 0,
        };
        self.len.saturating_sub(self.offset).saturating_sub(header)
    }

    /// Whether an ICMP error may be sent about this (RFC 1122 §3.2.2, RFC 4443 §2.4): never about an error, a later
    /// fragment, or from or to what is no single host. Whether its frame was a broadcast, the caller knows.
    pub fn permits_error(&self) -> bool {
        let about = match self.transport {
            Transport::Icmp(Icmp::EchoRequest { .. } | Icmp::EchoReply { .. }) => true,
            Transport::Icmp(_) | Transport::Fragment => false,
            Transport::Tcp(_) | Transport::Udp(_) | Transport::Other => true,
        };
        about && !ip::is_martian(self.source) && !self.destination.is_multicast() && !is_broadcast(self.destination)
    }
}

/// What a datagram claims as its destination, unchecked: to see whether it is any of our business.
pub fn destination(ip: &[u8]) -> Option<IpAddr> {
    match ip.first()? >> 4 {
        4 => {
            let octets: &[u8; 4] = ip.get(ipv4::DESTINATION..)?.first_chunk()?;
            Some(Ipv4Addr::from(*octets).into())
        }
        6 => {
            let octets: &[u8; 16] = ip.get(ipv6::DESTINATION..)?.first_chunk()?;
            Some(Ipv6Addr::from(*octets).into())
        }
        _ => None,
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests;
