//! Value: the ports of a packet service, as the operator writes them: `80/tcp`, `7000-7999/udp`.
//!
//! Not here: protocols without ports. A service that names ports takes none of their packets, but errors about its flows.

use std::fmt;

use serde::{Serialize, Serializer};

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub const ALL: [Transport; 2] = [Transport::Tcp, Transport::Udp];

    pub const fn word(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }

    /// Its number in an IP header (IANA).
    pub const fn protocol(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }
}

/// Ports of one protocol, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    pub transport: Transport,
    pub first: u16,
    /// Not less than `first`.
    pub last: u16,
}

impl PortRange {
    /// Reads `80/tcp` and `7000-7999/udp`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<PortRange, String> {
        const SHAPE: &str = "ports are a number or a range, and the protocol, as in \"80/tcp\" or \"7000-7999/udp\"";
        let Some((ports, protocol)) = text.split_once('/') else {
            let number = text.bytes().all(|b| b.is_ascii_digit() || b == b'-') && !text.is_empty();
            return Err(if number {
                format!("of which protocol: \"{text}/tcp\" or \"{text}/udp\"")
            } else {
                SHAPE.into()
            });
        };
        let transport = match protocol {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => return Err("the protocol is `tcp` or `udp`; others have no ports".into()),
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(format!("the range is the wrong way round: \"{last}-{first}/{protocol}\""));
        }
        Ok(PortRange { transport, first, last })
    }

    /// One port of both protocols never overlaps: they are two.
    pub const fn overlaps(self, other: PortRange) -> bool {
        self.transport as u8 == other.transport as u8 && self.first <= other.last && other.first <= self.last
    }

    /// Whether it is one port.
    pub const fn is_single(self) -> bool {
        self.first == self.last
    }
}

fn port(text: &str) -> Result<u16, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("a port is a number, as in \"80/tcp\" or \"7000-7999/udp\"".into());
    }
    match text.parse() {
        Ok(0) => Err("port 0 is not a port".into()),
        Ok(port) => Ok(port),
        Err(_) => Err("a port is at most 65535".into()),
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortRange { transport, first, last } = self;
        if self.is_single() {
            write!(f, "{first}/{}", transport.word())
        } else {
            write!(f, "{first}-{last}/{}", transport.word())
        }
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A set of ports: ranges sorted, disjoint, with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    tcp: Box<[PortRange]>,
    udp: Box<[PortRange]>,
}

impl Ports {
    pub fn new(ranges: impl IntoIterator<Item = PortRange>) -> Ports {
        let mut ranges: Vec<PortRange> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let of = |transport| {
            let mut joined: Vec<PortRange> = Vec::new();
            for range in ranges.iter().filter(|range| range.transport == transport) {
                match joined.last_mut() {
                    Some(before) if range.first <= before.last.saturating_add(1) => {
                        before.last = before.last.max(range.last);
                    }
                    _ => joined.push(*range),
                }
            }
            joined.into()
        };
        Ports { tcp: of(Transport::Tcp), udp: of(Transport::Udp) }
    }

    /// The ranges of one protocol, in order.
    pub fn of(&self, transport: Transport) -> &[PortRange] {
        match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
        }
    }

    pub fn contains(&self, transport: Transport, port: u16) -> bool {
        let ranges = self.of(transport);
        let after = ranges.partition_point(|range| range.first <= port);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| port <= range.last)
    }

    /// All ranges, TCP first.
    pub fn iter(&self) -> impl Iterator<Item = PortRange> {
        self.tcp.iter().chain(&self.udp).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_read_and_show() {
        for (text, shown) in [
            ("80/tcp", Ok("80/tcp")),
            ("7000-7999/udp", Ok("7000-7999/udp")),
            ("53-53/udp", Ok("53/udp")),
            ("1-65535/tcp", Ok("1-65535/tcp")),
            ("80", Err("\"80/tcp\" or \"80/udp\"")),
            ("7000-7999", Err("\"7000-7999/tcp\"")),
            ("", Err("as in")),
            ("http", Err("as in")),
            ("http/tcp", Err("a port is a number")),
            ("80/sctp", Err("`tcp` or `udp`")),
            ("80/TCP", Err("`tcp` or `udp`")),
            ("80/", Err("`tcp` or `udp`")),
            ("0/tcp", Err("port 0")),
            ("0-10/tcp", Err("port 0")),
            ("65536/tcp", Err("at most 65535")),
            ("90-80/tcp", Err("\"80-90/tcp\"")),
            ("80-/tcp", Err("is a number")),
            ("-80/tcp", Err("is a number")),
            ("+80/tcp", Err("is a number")),
            ("80-81-82/tcp", Err("is a number")),
            (" 80/tcp", Err("is a number")),
        ] {
            match (PortRange::parse(text), shown) {
                (Ok(range), Ok(shown)) => assert_eq!(range.to_string(), shown),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (got, want) => panic!("{text}: {got:?}, not {want:?}"),
            }
        }
    }

    fn ports(texts: &[&str]) -> Ports {
        Ports::new(texts.iter().map(|text| PortRange::parse(text).unwrap()))
    }

    #[test]
    fn sets_are_sorted_and_joined() {
        for (written, kept) in [
            (&["90/tcp", "80/tcp"][..], "80/tcp 90/tcp"),
            (&["81/tcp", "80/tcp", "82-90/tcp"], "80-90/tcp"),
            (&["80-100/tcp", "85/tcp", "53/udp", "54/udp"], "80-100/tcp 53-54/udp"),
            (&["65535/tcp", "1-65535/tcp"], "1-65535/tcp"),
            (&[], ""),
        ] {
            let shown: Vec<String> = ports(written).iter().map(|range| range.to_string()).collect();
            assert_eq!(shown.join(" "), kept, "{written:?}");
        }
    }

    #[test]
    fn a_set_contains_the_ports_of_its_ranges_and_no_others() {
        let set = ports(&["80/tcp", "443/tcp", "7000-7999/udp", "65535/udp"]);
        for transport in Transport::ALL {
            for port in 0..=u16::MAX {
                let want = set.iter().any(|r| r.transport == transport && (r.first..=r.last).contains(&port));
                assert_eq!(set.contains(transport, port), want, "{port}/{}", transport.word());
            }
        }
        assert!(set.contains(Transport::Udp, 7500) && !set.contains(Transport::Tcp, 7500));
    }

    #[test]
    fn ranges_overlap_when_a_port_is_in_both() {
        for (a, b, overlap) in [
            ("80/tcp", "80/tcp", true),
            ("80/tcp", "80/udp", false),
            ("80-90/tcp", "90-100/tcp", true),
            ("80-89/tcp", "90-100/tcp", false),
            ("1-65535/tcp", "80/tcp", true),
        ] {
            let (x, y) = (PortRange::parse(a).unwrap(), PortRange::parse(b).unwrap());
            assert_eq!((x.overlaps(y), y.overlaps(x)), (overlap, overlap), "{a} and {b}");
        }
    }
}
