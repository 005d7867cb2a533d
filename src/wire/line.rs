//! Codec: a packet as a person writes it, into its bytes.
//!
//! ```text
//! tcp 198.51.100.7:4242 > 10.0.0.100:80 syn
//! udp [2001:db8::7]:4242 > [fd00::100]:443 size 1400
//! icmp 198.51.100.7 > 10.0.0.100
//! 47 198.51.100.7 > 10.0.0.100 ttl 3
//! ```
//!
//! The words may stand in any order, and a line that `replay` or `wire::show` printed of a datagram is understood as well.
//! Not here: names. A packet has addresses, and nothing is resolved.

use std::net::{IpAddr, SocketAddr};

use super::compose::{self, Head, Way};
use super::ip::{Fragment, Protocol};
use super::tcp::{Flags, maximum_segment_size};
use crate::base::address::parse_ip;
use crate::doc::suggest::{nearest, one_of};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The whole datagram, its checksums right.
    pub ip: Vec<u8>,
    pub destination: IpAddr,
    /// Where a connection that it opens leads from and to; `None` for what opens none.
    pub opens: Option<(SocketAddr, SocketAddr)>,
    pub vlan: Option<u16>,
}

/// # Errors
/// A sentence that names the word and says what would be right.
pub fn parse(text: &str) -> Result<Line, String> {
    let spaced = text.replace('>', " > ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut halves = words.split(|word| *word == ">");
    let (Some([before @ .., source]), Some([destination, after @ ..]), None) =
        (halves.next(), halves.next(), halves.next())
    else {
        return Err(format!("a packet goes from one address to another, as in {EXAMPLE}"));
    };
    let (source, destination) = (End::parse(source)?, End::parse(destination)?);
    let mut wish = Wish::default();
    let mut rest = before.iter().chain(after).copied().peekable();
    while let Some(word) = rest.next() {
        let next = rest.peek().copied();
        if wish.take(word, next)? {
            rest.next();
        }
    }
    wish.make(source, destination)
}

/// An address, with a port where one is written.
#[derive(Clone, Copy)]
struct End {
    address: IpAddr,
    port: Option<u16>,
}

impl End {
    fn parse(text: &str) -> Result<End, String> {
        if let Ok(end) = text.parse::<SocketAddr>() {
            return Ok(End { address: end.ip(), port: Some(end.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = parse_ip(bare) {
            return Ok(End { address, port: None });
        }
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        Err(match (parse_ip(host), host.chars().any(|c| c.is_ascii_alphabetic() && !c.is_ascii_hexdigit())) {
            (Ok(_), _) => format!("`{port}` is no port: it is a number from 1 to 65535"),
            (Err(_), true) => {
                format!("`{host}` is no address, and names are not resolved: write 10.0.0.100 or [fd00::100]")
            }
            (Err(_), false) => format!("`{text}` is no address: write 10.0.0.100:80 or [fd00::100]:80"),
        })
    }
}

/// Everything beside the addresses.
#[derive(Default)]
struct Wish {
    protocol: Option<Protocol>,
    flags: Option<Flags>,
    reply: bool,
    hops: Option<u8>,
    size: Option<usize>,
    len: Option<usize>,
    vlan: Option<u16>,
    mss: Option<u16>,
    sequence: u32,
    fragment: Option<u16>,
}

impl Wish {
    /// Takes a word, and says whether it took the `next` as its value.
    fn take(&mut self, word: &str, next: Option<&str>) -> Result<bool, String> {
        if let Some(flag) = FLAGS.iter().find(|(name, _)| *name == word) {
            self.flags = Some(self.flags.unwrap_or_default().with(flag.1));
            // A shown line says what is acknowledged.
            return Ok(word == "ack" && next.is_some_and(|next| next.bytes().all(|b| b.is_ascii_digit())));
        }
        if let Some(letters) = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            self.flags = Some(shown_flags(letters)?);
            return Ok(false);
        }
        let largest = match word {
            "ttl" | "hops" => 255,
            "size" | "len" => 65_535,
            "vlan" => 4094,
            "mss" | "id" => 65_535,
            "fragment" | "at" => 65_528,
            "seq" => u64::from(u32::MAX),
            "protocol" => 255,
            "echo-request" => return Ok(self.echo(false)),
            "echo-reply" => return Ok(self.echo(true)),
            word => return self.name(word).map(|()| false),
        };
        let value = next.and_then(|next| next.parse::<u64>().ok()).filter(|value| *value <= largest);
        let value = value.ok_or_else(|| format!("`{word}` needs a number up to {largest} after it"))?;
        self.set(word, value)?;
        Ok(true)
    }

    #[allow(clippy::cast_possible_truncation)] // `take` has looked at each
    fn set(&mut self, word: &str, value: u64) -> Result<(), String> {
        match word {
            "ttl" | "hops" => self.hops = Some(value as u8),
            "size" => self.size = Some(value as usize),
            "len" => self.len = Some(value as usize),
            "vlan" => self.vlan = Some(value as u16),
            "mss" => self.mss = Some(value as u16),
            "seq" => self.sequence = value as u32,
            "protocol" => self.protocol = Some(Protocol(value as u8)),
            "fragment" if !value.is_multiple_of(8) => {
                return Err(format!("`fragment {value}`: a fragment begins at a multiple of 8; 0 is the first"));
            }
            "fragment" => self.fragment = Some(value as u16),
            // An echo's identifier.
            _ => {}
        }
        Ok(())
    }

    fn echo(&mut self, reply: bool) -> bool {
        (self.reply, self.protocol) = (reply, self.protocol.or(Some(Protocol::ICMP)));
        false
    }

    /// A protocol's name or number.
    fn name(&mut self, word: &str) -> Result<(), String> {
        if let Some(protocol) = Protocol::parse(word) {
            self.protocol = Some(protocol);
            return Ok(());
        }
        let known = || WORDS.iter().copied().chain(FLAGS.iter().map(|(name, _)| *name));
        let help = match nearest(word, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it may be {}, or a protocol's number", one_of(known())),
        };
        Err(format!("`{word}` is nothing that a packet has: {help}"))
    }

    fn make(self, source: End, destination: End) -> Result<Line, String> {
        let v6 = destination.address.is_ipv6();
        if source.address.is_ipv6() != v6 {
            return Err("one address is IPv4 and the other is IPv6: no packet has both".to_owned());
        }
        let protocol = match self.protocol {
            Some(Protocol::ICMP) if v6 => Protocol::ICMPV6,
            Some(protocol) => protocol,
            None if self.flags.is_some() => Protocol::TCP,
            None => return Err(format!("which protocol? As in {EXAMPLE}; or udp, icmp, a number")),
        };
        let (source, destination) =
            (with_port(source, protocol, "client's")?, with_port(destination, protocol, "service's")?);
        let head = self.head(protocol, v6)?;
        let fragment = match self.fragment {
            None => Fragment::Whole,
            Some(0) => Fragment::First { id: 1 },
            Some(offset) => Fragment::Later { id: 1, offset, last: true },
        };
        let way = Way { hops: self.hops.unwrap_or(64), fragment, ..Way::new(source, destination) };
        let made = |len: usize| compose::datagram(&way, head, &vec![0; len]).map_err(|_| TOO_LONG.to_owned());
        let least = made(0)?.len();
        let len = match (self.size, self.len) {
            (Some(size), _) => {
                size.checked_sub(least).ok_or_else(|| format!("`size {size}`: the headers alone are {least} bytes"))?
            }
            (None, len) => len.unwrap_or(if fragment == Fragment::Whole { 0 } else { FRAGMENT }),
        };
        let opens = protocol == Protocol::TCP && self.flags.is_none_or(|flags| flags == Flags::SYN);
        let opens = opens.then_some((source, destination));
        Ok(Line { ip: made(len)?, destination: destination.ip(), opens, vlan: self.vlan })
    }

    fn head(&self, protocol: Protocol, v6: bool) -> Result<Head, String> {
        if protocol != Protocol::TCP && self.flags.is_some() {
            return Err(format!("flags are TCP's: {protocol} has none"));
        }
        Ok(match protocol {
            Protocol::TCP => {
                let flags = self.flags.unwrap_or(Flags::SYN);
                let mss = self.mss.or_else(|| flags.opens().then(|| maximum_segment_size(1500, v6)));
                Head::Tcp { flags, sequence: self.sequence, acknowledgment: 0, mss }
            }
            Protocol::UDP => Head::Udp,
            Protocol::ICMP | Protocol::ICMPV6 => Head::Echo { reply: self.reply, identifier: 1, sequence: 1 },
            protocol => Head::Other(protocol),
        })
    }
}

/// `whose` it is: the port is asked for where the protocol has one, and refused where it has none.
fn with_port(end: End, protocol: Protocol, whose: &str) -> Result<SocketAddr, String> {
    let End { address, port } = end;
    let has_ports = [Protocol::TCP, Protocol::UDP].contains(&protocol);
    match port {
        Some(port) if has_ports => Ok(SocketAddr::new(address, port)),
        None if !has_ports => Ok(SocketAddr::new(address, 0)),
        Some(port) => Err(format!("`{}`: {protocol} has no ports", SocketAddr::new(address, port))),
        None => Err(format!(
            "the {whose} port is missing: {protocol} needs one, as in {}",
            SocketAddr::new(address, if whose == "client's" { 4242 } else { 80 })
        )),
    }
}

/// `S.` as in `[S.]`.
fn shown_flags(letters: &str) -> Result<Flags, String> {
    let of = |letter: char| {
        let at =
            "FSRP.UEW".find(letter).ok_or_else(|| format!("`[{letters}]`: {letter} is no flag; they are FSRP.UEW"))?;
        Ok(Flags(1 << at))
    };
    letters.chars().map(of).try_fold(Flags::default(), |all, flag: Result<Flags, String>| Ok(all.with(flag?)))
}

const FLAGS: [(&str, Flags); 8] = [
    ("syn", Flags::SYN),
    ("ack", Flags::ACK),
    ("fin", Flags::FIN),
    ("rst", Flags::RST),
    ("psh", Flags::PSH),
    ("urg", Flags::URG),
    ("ece", Flags::ECE),
    ("cwr", Flags::CWR),
];
const WORDS: [&str; 14] = [
    "tcp",
    "udp",
    "icmp",
    "gre",
    "esp",
    "sctp",
    "echo-request",
    "echo-reply",
    "ttl",
    "size",
    "len",
    "mss",
    "vlan",
    "fragment",
];
const EXAMPLE: &str = "'tcp 198.51.100.7:4242 > 10.0.0.100:80'";
const TOO_LONG: &str = "a datagram has at most 65535 bytes, headers included";
/// Bytes of a fragment that has no size.
const FRAGMENT: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::Packet;
    use crate::wire::show;

    #[test]
    fn what_a_person_writes_becomes_a_packet() {
        let flow = "198.51.100.7:4242 > 10.0.0.100:80";
        for (text, shown) in [
            (&*format!("tcp {flow}"), &*format!("{flow} tcp [S] seq 0 mss 1460 len 0")),
            (&*format!("{flow} tcp syn ack"), &*format!("{flow} tcp [S.] seq 0 ack 0 len 0")),
            (&*format!("tcp {flow} size 1500 ack"), &*format!("{flow} tcp [.] seq 0 ack 0 len 1460")),
            (&*format!("{flow} tcp [P.] seq 7 ack 9 len 4"), &*format!("{flow} tcp [P.] seq 7 ack 0 len 4")),
            (&*format!("{flow} fin ack"), &*format!("{flow} tcp [F.] seq 0 ack 0 len 0")),
            ("udp [2001:db8::7]:4242>[fd00::100]:443 len 3", "[2001:db8::7]:4242 > [fd00::100]:443 udp len 3"),
            ("icmp 198.51.100.7 > 10.0.0.100", "198.51.100.7 > 10.0.0.100 icmp echo-request id 1 seq 1 len 0"),
            ("icmp 2001:db8::7 > [fd00::100] echo-reply", "2001:db8::7 > fd00::100 icmpv6 echo-reply id 1 seq 1 len 0"),
            ("47 198.51.100.7 > 10.0.0.100 len 9", "198.51.100.7 > 10.0.0.100 gre len 9"),
            ("protocol 253 198.51.100.7 > 10.0.0.100", "198.51.100.7 > 10.0.0.100 protocol 253 len 0"),
            (&*format!("udp {flow} fragment 0"), &*format!("{flow} udp fragment 1 at 0 len 1000")),
            (
                &*format!("udp {flow} fragment 1480 size 120"),
                "198.51.100.7 > 10.0.0.100 udp fragment 1 at 1480 (last) len 100",
            ),
        ] {
            let line = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(show::ip(&line.ip).to_string(), shown, "{text}");
        }
        let line = parse(&format!("tcp {flow} ttl 3 vlan 7")).unwrap();
        assert_eq!((line.vlan, Packet::parse(&line.ip).unwrap().hops), (Some(7), 3));
    }

    #[test]
    fn a_mistake_says_what_would_be_right() {
        for (text, want) in [
            ("", "as in 'tcp 198.51.100.7:4242 > 10.0.0.100:80'"),
            ("tcp 198.51.100.7:4242", "from one address to another"),
            ("tcp 198.51.100.7:4242 >", "from one address to another"),
            ("198.51.100.7:4242 > 10.0.0.100:80", "which protocol?"),
            ("tpc 198.51.100.7:4242 > 10.0.0.100:80", "did you mean `tcp`?"),
            ("tcp 198.51.100.7:4242 > 10.0.0.100:80 sny", "did you mean `syn`?"),
            ("tcp 198.51.100.7:4242 > 10.0.0.100:80 quickly", "it may be `tcp`, "),
            (
                "tcp 198.51.100.7 > 10.0.0.100:80",
                "the client's port is missing: tcp needs one, as in 198.51.100.7:4242",
            ),
            ("tcp 198.51.100.7:4242 > 10.0.0.100", "the service's port is missing: tcp needs one, as in 10.0.0.100:80"),
            ("icmp 198.51.100.7:1 > 10.0.0.100", "icmp has no ports"),
            ("tcp 198.51.100.7:4242 > web:80", "names are not resolved"),
            ("tcp 198.51.100.7:4242 > 10.0.0.256:80", "`10.0.0.256:80` is no address"),
            ("tcp 198.51.100.7:4242 > 10.0.0.100:http", "`http` is no port"),
            ("tcp 198.51.100.7:4242 > [fd00::100]:80", "one address is IPv4"),
            ("udp 198.51.100.7:4242 > 10.0.0.100:80 syn", "flags are TCP's"),
            ("tcp 198.51.100.7:4242 > 10.0.0.100:80 [X]", "X is no flag"),
            ("tcp 198.51.100.7:4242 > 10.0.0.100:80 ttl", "`ttl` needs a number up to 255"),
            ("tcp 198.51.100.7:4242 > 10.0.0.100:80 ttl 256", "`ttl` needs a number up to 255"),
            ("tcp 198.51.100.7:4242 > 10.0.0.100:80 size 10", "the headers alone are 44 bytes"),
            ("udp 198.51.100.7:4242 > 10.0.0.100:80 len 65535", "at most 65535 bytes"),
            ("udp 198.51.100.7:4242 > 10.0.0.100:80 fragment 9", "a multiple of 8"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
