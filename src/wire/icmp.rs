//! Codec: ICMP of both families in one form: what a message is about, and whole error datagrams.
//!
//! An error goes to the flow that it is about, which only the datagram embedded in it names. RFC 792 promises its IP header
//! and 8 bytes of what follows, so ports are read from four bytes and nothing is asked of the rest.
//!
//! Not here: how often errors may be sent.

use std::net::IpAddr;

use super::bytes::{self, Writer};
use super::fault::Fault;
use super::ip::{Fragment, Protocol};
use super::udp::Ports;
use super::{icmpv4, icmpv6, ipv4, ipv6};

/// Most bytes of an error datagram: RFC 1812 §4.3.2.3, and IPv6's least MTU (RFC 4443 §2.4).
const ERROR_V4_LEN: usize = 576;
const ERROR_V6_LEN: usize = 1280;
/// Precedence "internetwork control" (RFC 1812 §4.3.2.5).
const CONTROL_CLASS: u8 = 0xc0;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {
    EchoRequest {
        identifier: u16,
        sequence: u16,
    },
    EchoReply {
        identifier: u16,
        sequence: u16,
    },
    Error {
        problem: Problem,
        embedded: Embedded,
    },
    /// Ignored (G19).
    Redirect,
    /// Neighbour discovery, and all that a balancer has no part in.
    Other {
        kind: u8,
        code: u8,
    },
}

/// What went wrong. Codes are those of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    Unreachable {
        code: u8,
    },
    /// "Packet too big", and IPv4's "fragmentation needed". 0: the router did not say how big.
    TooBig {
        mtu: u32,
    },
    TimeExceeded {
        code: u8,
    },
    Parameter {
        code: u8,
        pointer: u32,
    },
}

/// The datagram that an error is about, as far as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    pub fragment: Fragment,
    /// Where its IP header begins, from the first byte of the datagram that embeds it.
    pub offset: usize,
    /// Where its transport header begins, counted alike.
    pub transport: usize,
    /// Of TCP, UDP and SCTP, unless it is a later fragment.
    pub ports: Option<Ports>,
}

impl Icmp {
    /// Reads the message at `offset` of the datagram `ip`.
    ///
    /// # Errors
    /// `Truncated`; `BadEmbedded` when an error does not say what it is about (G17).
    pub fn parse(ip: &[u8], offset: usize, protocol: Protocol) -> Result<Icmp, Fault> {
        let message = bytes::from(ip, offset);
        let inner = offset.wrapping_add(icmpv4::HEADER_LEN);
        let error = |problem| Ok(Icmp::Error { problem, embedded: Embedded::parse(ip, inner)? });
        if protocol == Protocol::ICMP {
            let message = icmpv4::Message::new_checked(message)?;
            let (identifier, sequence) = (message.identifier(), message.sequence());
            return match (message.kind(), message.code()) {
                (icmpv4::ECHO_REQUEST, 0) => Ok(Icmp::EchoRequest { identifier, sequence }),
                (icmpv4::ECHO_REPLY, 0) => Ok(Icmp::EchoReply { identifier, sequence }),
                (icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED) => {
                    error(Problem::TooBig { mtu: u32::from(message.mtu()) })
                }
                (icmpv4::UNREACHABLE, code) => error(Problem::Unreachable { code }),
                (icmpv4::TIME_EXCEEDED, code) => error(Problem::TimeExceeded { code }),
                (icmpv4::PARAMETER_PROBLEM, code) => {
                    error(Problem::Parameter { code, pointer: u32::from(identifier >> 8) })
                }
                (icmpv4::REDIRECT, _) => Ok(Icmp::Redirect),
                (kind, code) => Ok(Icmp::Other { kind, code }),
            };
        }
        let message = icmpv6::Message::new_checked(message)?;
        let (identifier, sequence) = (message.identifier(), message.sequence());
        match (message.kind(), message.code()) {
            (icmpv6::ECHO_REQUEST, 0) => Ok(Icmp::EchoRequest { identifier, sequence }),
            (icmpv6::ECHO_REPLY, 0) => Ok(Icmp::EchoReply { identifier, sequence }),
            // Its code is to be ignored (RFC 4443 §3.2).
            (icmpv6::PACKET_TOO_BIG, _) => error(Problem::TooBig { mtu: message.mtu() }),
            (icmpv6::UNREACHABLE, code) => error(Problem::Unreachable { code }),
            (icmpv6::TIME_EXCEEDED, code) => error(Problem::TimeExceeded { code }),
            (icmpv6::PARAMETER_PROBLEM, code) => error(Problem::Parameter { code, pointer: message.mtu() }),
            (icmpv6::REDIRECT, _) => Ok(Icmp::Redirect),
            (kind, code) => Ok(Icmp::Other { kind, code }),
        }
    }
}

impl Embedded {
    /// Reads what begins at `offset` of `ip` and may end anywhere after its first eight transport bytes. Reads the datagram
    /// inside a tunnel's as well, where that much was embedded.
    ///
    /// # Errors
    /// `BadEmbedded`.
    pub fn parse(ip: &[u8], offset: usize) -> Result<Embedded, Fault> {
        let bytes = bytes::from(ip, offset);
        let (source, destination, protocol, fragment, header) = match bytes::u8_at(bytes, 0) >> 4 {
            4 => {
                let packet = ipv4::Packet::new_embedded(bytes).map_err(|_| Fault::BadEmbedded)?;
                let (source, destination) = (packet.source().into(), packet.destination().into());
                (source, destination, packet.protocol(), packet.fragment(), packet.header_len())
            }
            6 => {
                let packet = ipv6::Packet::new_embedded(bytes).map_err(|_| Fault::BadEmbedded)?;
                let upper = packet.upper().map_err(|_| Fault::BadEmbedded)?;
                let (source, destination) = (packet.source().into(), packet.destination().into());
                (source, destination, upper.protocol, upper.fragment, upper.offset)
            }
            _ => return Err(Fault::BadEmbedded),
        };
        let ports = match protocol {
            Protocol::TCP | Protocol::UDP | Protocol::SCTP if !fragment.is_later() => {
                Some(Ports::parse(bytes::from(bytes, header)).ok_or(Fault::BadEmbedded)?)
            }
            _ => None,
        };
        let transport = offset.wrapping_add(header);
        Ok(Embedded { source, destination, protocol, fragment, offset, transport, ports })
    }
}

/// Writes the whole datagram of an error about `about`, an IP datagram as it came, from `from` to its source. As much of it
/// is embedded as an error may carry and `out` has room for; `identification` is for IPv4. Gives the length.
///
/// Whether an error may be sent at all is [`super::packet::Packet::permits_error`]'s to say.
///
/// # Errors
/// `Truncated` when `out` has no room for the headers and 8 bytes, `BadIpVersion` when `from` is of another family than
/// `about`, and what `about` itself is wrong with.
pub fn error(
    problem: Problem,
    from: IpAddr,
    about: &[u8],
    identification: u16,
    out: &mut [u8],
) -> Result<usize, Fault> {
    let mut writer = Writer::new(out);
    match from {
        IpAddr::V4(from) => {
            let datagram = ipv4::Packet::new_embedded(about)?;
            let headers = ipv4::HEADER_LEN.wrapping_add(icmpv4::HEADER_LEN);
            let quoted = quote(about, datagram.total_len(), ERROR_V4_LEN.wrapping_sub(headers), writer.room(headers))?;
            let len = u16::try_from(icmpv4::HEADER_LEN.wrapping_add(quoted.len())).unwrap_or(u16::MAX);
            let header = ipv4::Header {
                traffic_class: CONTROL_CLASS,
                identification,
                dont_fragment: false,
                ..ipv4::Header::new(from, datagram.source(), Protocol::ICMP, len)
            };
            let (kind, code, rest) = problem.on_v4();
            writer.push(&header.emit()).ok_or(Fault::Truncated)?;
            writer.push(&icmpv4::Header { kind, code, checksum: 0, rest }.emit()).ok_or(Fault::Truncated)?;
            writer.push(quoted).ok_or(Fault::Truncated)?;
            let message = bytes::from_mut(writer.written(), ipv4::HEADER_LEN);
            icmpv4::Message::new_checked(message)?.fill_checksum();
        }
        IpAddr::V6(from) => {
            let datagram = ipv6::Packet::new_embedded(about)?;
            let headers = ipv6::HEADER_LEN.wrapping_add(icmpv6::HEADER_LEN);
            let quoted = quote(about, datagram.total_len(), ERROR_V6_LEN.wrapping_sub(headers), writer.room(headers))?;
            let len = u16::try_from(icmpv6::HEADER_LEN.wrapping_add(quoted.len())).unwrap_or(u16::MAX);
            let to = datagram.source();
            let header =
                ipv6::Header { traffic_class: CONTROL_CLASS, ..ipv6::Header::new(from, to, Protocol::ICMPV6, len) };
            let (kind, code, rest) = problem.on_v6();
            writer.push(&header.emit()).ok_or(Fault::Truncated)?;
            writer.push(&icmpv6::Header { kind, code, checksum: 0, rest }.emit()).ok_or(Fault::Truncated)?;
            writer.push(quoted).ok_or(Fault::Truncated)?;
            let message = bytes::from_mut(writer.written(), ipv6::HEADER_LEN);
            icmpv6::Message::new_checked(message)?.fill_checksum(from, to);
        }
    }
    Ok(writer.len())
}

/// The beginning of a datagram, without the padding of its frame.
fn quote(about: &[u8], total_len: usize, most: usize, room: usize) -> Result<&[u8], Fault> {
    let len = about.len().min(total_len).min(most).min(room);
    let quoted = bytes::between(about, 0, len);
    // Too little would be dropped by whoever gets it.
    Embedded::parse(quoted, 0).map(|_| quoted).map_err(|_| Fault::Truncated)
}

impl Problem {
    /// Type, code and the four bytes after the checksum.
    fn on_v4(self) -> (u8, u8, u32) {
        match self {
            Problem::Unreachable { code } => (icmpv4::UNREACHABLE, code, 0),
            Problem::TooBig { mtu } => (icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED, mtu.min(0xffff)),
            Problem::TimeExceeded { code } => (icmpv4::TIME_EXCEEDED, code, 0),
            Problem::Parameter { code, pointer } => (icmpv4::PARAMETER_PROBLEM, code, (pointer & 0xff) << 24),
        }
    }

    fn on_v6(self) -> (u8, u8, u32) {
        match self {
            Problem::Unreachable { code } => (icmpv6::UNREACHABLE, code, 0),
            Problem::TooBig { mtu } => (icmpv6::PACKET_TOO_BIG, 0, mtu),
            Problem::TimeExceeded { code } => (icmpv6::TIME_EXCEEDED, code, 0),
            Problem::Parameter { code, pointer } => (icmpv6::PARAMETER_PROBLEM, code, pointer),
        }
    }
}
