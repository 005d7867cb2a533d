//! Frames as text: what `wire::show` prints, with what it leaves out to be said, and turned into bytes.
//!
//! It knows nothing of Strata's codecs: every header and checksum is made here, by the letter of the RFC, so that the corpus
//! judges them too. The whole notation stands in `tests/packets/README.md`.

use std::net::IpAddr;

/// The bytes of a frame. Panics with the text where it cannot be read: the corpus is ours.
pub fn frame(text: &str) -> Vec<u8> {
    let (text, edits) = text.split_once(';').unwrap_or((text, ""));
    let mut words = Words::new(text);
    let source = mac(&words.next());
    words.expect(">");
    let destination = mac(&words.next());
    let mut bytes = [&destination[..], &source].concat();
    while matches!(words.peek(), "vlan" | "service-vlan") {
        let service = words.next() == "service-vlan";
        let tag = words.next();
        let (id, priority) = tag.split_once('/').map_or_else(|| (number(&tag), 0), |(id, p)| (number(id), number(p)));
        bytes.extend(if service { [0x88, 0xa8] } else { [0x81, 0x00] });
        bytes.extend(((priority << 13 | id) as u16).to_be_bytes());
    }
    let payload = match words.peek() {
        "arp" => {
            bytes.extend([0x08, 0x06]);
            let bytes = arp(&mut words, &source, &destination);
            pad(bytes, 46)
        }
        "ethertype" => {
            words.next();
            let ether_type = u16::from_str_radix(words.next().trim_start_matches("0x"), 16).expect(text);
            bytes.extend(ether_type.to_be_bytes());
            words.expect("len");
            filler(words.number())
        }
        _ => {
            let ip = datagram(&mut words);
            bytes.extend(if ip[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0x00] });
            ip
        }
    };
    words.end();
    let header = bytes.len();
    bytes.extend(payload);
    for edit in edits.split(';').map(str::trim).filter(|edit| !edit.is_empty()) {
        apply(edit, &mut bytes, header);
    }
    bytes
}

/// What is done to a finished frame: `pad 60`, `cut 20`, `ip+8=00`, `l4+12=40`, `0=ffff`, `sum-ip`, `sum-l4`, `partial`.
fn apply(edit: &str, bytes: &mut Vec<u8>, header: usize) {
    let ihl = match bytes.get(header).map(|first| first >> 4) {
        Some(6) => 40,
        _ => 20,
    };
    let words: Vec<&str> = edit.split_whitespace().collect();
    match words[..] {
        ["pad", to] => bytes.resize(number(to) as usize, 0),
        ["cut", to] => bytes.truncate(number(to) as usize),
        ["sum-ip"] => {
            bytes[header + 10..header + 12].fill(0);
            let sum = checksum(&bytes[header..header + ihl]);
            bytes[header + 10..header + 12].copy_from_slice(&sum.to_be_bytes());
        }
        ["sum-l4"] => sum_transport(bytes, header),
        ["partial"] => {
            let ip = bytes[header..].to_vec();
            let (source, destination, protocol) = ends(&ip);
            let at = header + ihl + if protocol == 6 { 16 } else { 6 };
            let sum = !checksum(&pseudo(source, destination, protocol, ip.len() - ihl));
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        [patch] => {
            let (at, hex) = patch.split_once('=').unwrap_or_else(|| panic!("no edit: {edit}"));
            let at = match at.split_once('+') {
                Some(("ip", at)) => header + number(at) as usize,
                Some(("l4", at)) => header + ihl + number(at) as usize,
                _ => number(at) as usize,
            };
            let new = self::hex(hex);
            bytes[at..at + new.len()].copy_from_slice(&new);
        }
        _ => panic!("no edit: {edit}"),
    }
}

/// Sums the transport anew of a frame whose datagram begins at `header` and has no extension headers, options or padding.
pub fn sum_transport(bytes: &mut [u8], header: usize) {
    let ip = &bytes[header..];
    let (source, destination, protocol) = ends(ip);
    let at = header + if ip[0] >> 4 == 6 { 40 } else { 20 };
    fill(&mut bytes[at..], protocol, source, destination);
}

fn arp(words: &mut Words, source: &[u8], destination: &[u8]) -> Vec<u8> {
    words.expect("arp");
    let v4 = |text: &str| match address(text) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(_) => panic!("ARP is for IPv4: {text}"),
    };
    let (operation, sender, mut sender_mac, target, mut target_mac) = if words.skip("who-has") {
        let target = v4(&words.next());
        words.expect("tell");
        (1_u8, v4(&words.next()), source.to_vec(), target, vec![0; 6])
    } else {
        let sender = v4(&words.next());
        words.expect("is-at");
        let sender_mac = mac(&words.next());
        words.expect("to");
        (2, sender, sender_mac, v4(&words.next()), destination.to_vec())
    };
    if words.skip("from") {
        sender_mac = mac(&words.next());
    }
    if words.skip("target") {
        target_mac = mac(&words.next());
    }
    [&[0, 1, 8, 0, 6, 4, 0, operation][..], &sender_mac, &sender, &target_mac, &target].concat()
}

/// An IP datagram: ends, protocol, and the IP header's own words anywhere after.
fn datagram(words: &mut Words) -> Vec<u8> {
    let (source, source_port) = end(&words.next());
    words.expect(">");
    let (destination, destination_port) = end(&words.next());
    let mut header = Header::default();
    let kind = words.next();
    let protocol = match kind.as_str() {
        "tcp" => 6,
        "udp" => 17,
        "icmp" => 1,
        "icmpv6" => 58,
        "ipip" if words.inner_is_v6() => 41,
        "ipip" => 4,
        "gre" => 47,
        "esp" => 50,
        "sctp" => 132,
        "protocol" => words.number() as u8,
        other => panic!("no protocol: {other} in {}", words.text),
    };
    let mut transport = match kind.as_str() {
        "tcp" => tcp(words, &mut header, source_port, destination_port),
        "udp" => udp(words, &mut header, source_port, destination_port),
        "icmp" | "icmpv6" => icmp(words, &mut header, kind == "icmpv6"),
        "ipip" => {
            while header.take(words) {}
            words.expect("|");
            datagram(words)
        }
        _ => {
            let mut len = 0;
            loop {
                if words.skip("len") {
                    len = words.number();
                } else if !header.take(words) {
                    break;
                }
            }
            filler(len)
        }
    };
    if !header.unsummed {
        fill(&mut transport, protocol, source, destination);
    }
    header.emit(source, destination, protocol, transport)
}

struct Header {
    hops: u8,
    class: u8,
    id: u16,
    label: u32,
    dont_fragment: bool,
    /// Identification, from, bytes.
    fragment: Option<(u32, usize, usize)>,
    /// IPv6 extension headers, as their protocol and bytes.
    extensions: Vec<(u8, Vec<u8>)>,
    options: Vec<u8>,
    unsummed: bool,
}

impl Default for Header {
    fn default() -> Header {
        Header {
            hops: 64,
            class: 0,
            id: 0,
            label: 0,
            dont_fragment: true,
            fragment: None,
            extensions: Vec::new(),
            options: Vec::new(),
            unsummed: false,
        }
    }
}

impl Header {
    /// Takes one of the IP header's words, if it is next.
    fn take(&mut self, words: &mut Words) -> bool {
        match words.peek().to_owned().as_str() {
            "ttl" => self.hops = words.value() as u8,
            "class" => self.class = words.value() as u8,
            "id" => self.id = words.value() as u16,
            "label" => self.label = words.value() as u32,
            "may-fragment" => {
                words.next();
                self.dont_fragment = false;
            }
            "nosum" => {
                words.next();
                self.unsummed = true;
            }
            "fragment" => {
                let id = words.value() as u32;
                words.expect("at");
                let from = words.number();
                words.expect("take");
                self.fragment = Some((id, from, words.number()));
            }
            // Of IPv4, a multiple of four bytes.
            "options" => self.options = hex(&words.value_text()),
            // A type and eight bytes of it, after the next header.
            "extension" => {
                words.next();
                let (kind, body) = (words.number() as u8, words.next());
                self.extensions.push((kind, hex(&body)));
            }
            _ => return false,
        }
        true
    }

    fn emit(&self, source: IpAddr, destination: IpAddr, protocol: u8, transport: Vec<u8>) -> Vec<u8> {
        let (mut flags, mut more, mut from) = (u16::from(self.dont_fragment) << 14, false, 0);
        let mut payload = transport;
        if let Some((_, start, len)) = self.fragment {
            from = start;
            more = start + len < payload.len();
            payload = payload[start..(start + len).min(payload.len())].to_vec();
            flags = u16::from(more) << 13 | (from / 8) as u16;
        }
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let id = self.fragment.map_or(self.id, |(id, ..)| id as u16);
                let words = 5 + self.options.len() / 4;
                let len = (words * 4 + payload.len()) as u16;
                let mut header = vec![0x40 | words as u8, self.class];
                header.extend(len.to_be_bytes());
                header.extend(id.to_be_bytes());
                header.extend(flags.to_be_bytes());
                header.extend([self.hops, protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(&self.options);
                let sum = checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                [header, payload].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut chain = self.extensions.clone();
                if let Some((id, ..)) = self.fragment {
                    let field = from as u16 | u16::from(more);
                    chain.push((44, [&[0][..], &field.to_be_bytes(), &id.to_be_bytes()].concat()));
                }
                let mut next = protocol;
                let mut bytes = payload;
                for (kind, body) in chain.into_iter().rev() {
                    bytes = [&[next], &body[..], &bytes[..]].concat();
                    next = kind;
                }
                let first = 6 << 28 | u32::from(self.class) << 20 | self.label;
                let mut header = first.to_be_bytes().to_vec();
                header.extend((bytes.len() as u16).to_be_bytes());
                header.extend([next, self.hops]);
                header.extend(source.octets());
                header.extend(destination.octets());
                [header, bytes].concat()
            }
            _ => panic!("{source} and {destination} are of two families"),
        }
    }
}

fn tcp(words: &mut Words, header: &mut Header, source: u16, destination: u16) -> Vec<u8> {
    const LETTERS: &[u8] = b"FSRP.UEW";
    let flags = words.next();
    let flags = flags.trim_matches(['[', ']']).bytes().filter_map(|letter| LETTERS.iter().position(|l| *l == letter));
    let flags = flags.fold(0_u8, |flags, bit| flags | 1 << bit);
    let (mut sequence, mut acknowledgment, mut window) = (0_u32, 0_u32, 64240_u16);
    let (mut options, mut payload) = (Vec::new(), Vec::new());
    loop {
        match words.peek().to_owned().as_str() {
            "seq" => sequence = words.value() as u32,
            "ack" => acknowledgment = words.value() as u32,
            "win" => window = words.value() as u16,
            "mss" => {
                options.extend([2, 4]);
                options.extend((words.value() as u16).to_be_bytes());
            }
            "nop" => {
                words.next();
                options.push(1);
            }
            "timestamp" => {
                words.next();
                options.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
            }
            "len" => payload = filler(words.value() as usize),
            "data" => payload = words.value_text().into_bytes(),
            _ if header.take(words) => {}
            _ => break,
        }
    }
    options.resize(options.len().next_multiple_of(4), 0);
    let offset = ((20 + options.len()) / 4) as u8;
    let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledgment.to_be_bytes());
    segment.extend([offset << 4, flags]);
    segment.extend(window.to_be_bytes());
    segment.extend([0, 0, 0, 0]);
    [segment, options, payload].concat()
}

fn udp(words: &mut Words, header: &mut Header, source: u16, destination: u16) -> Vec<u8> {
    let mut payload = Vec::new();
    loop {
        match words.peek().to_owned().as_str() {
            "len" => payload = filler(words.value() as usize),
            "data" => payload = words.value_text().into_bytes(),
            "gue" => {
                words.next();
                let protocol = if words.inner_is_v6() { 41 } else { 4 };
                words.expect("|");
                payload = [vec![0, protocol, 0, 0], datagram(words)].concat();
                break;
            }
            "gue-direct" => {
                words.next();
                words.expect("|");
                payload = datagram(words);
                break;
            }
            _ if header.take(words) => {}
            _ => break,
        }
    }
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.extend((8 + payload.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    [bytes, payload].concat()
}

fn icmp(words: &mut Words, header: &mut Header, six: bool) -> Vec<u8> {
    let kind = words.next();
    let mut code = 0_u8;
    let mut rest = [0_u8; 4];
    let mut body = Vec::new();
    let number = match (kind.as_str(), six) {
        ("echo-request", false) => 8,
        ("echo-reply", false) => 0,
        ("echo-request", true) => 128,
        ("echo-reply", true) => 129,
        ("unreachable", false) => 3,
        ("unreachable", true) => 1,
        ("too-big", false) => {
            code = 4;
            3
        }
        ("too-big", true) => 2,
        ("time-exceeded", false) => 11,
        ("time-exceeded", true) => 3,
        ("redirect", false) => 5,
        ("redirect", true) => 137,
        ("router-solicitation", true) => 133,
        ("who-has", true) => {
            body.extend(octets(address(&words.next())));
            if words.skip("from") {
                body.extend([1, 1]);
                body.extend(mac(&words.next()));
            }
            header.hops = 255;
            135
        }
        ("is-at", true) => {
            body.extend(octets(address(&words.next())));
            if words.skip("at") {
                body.extend([2, 1]);
                body.extend(mac(&words.next()));
            }
            header.hops = 255;
            136
        }
        ("type", _) => words.number() as u8,
        (other, _) => panic!("no message: {other} in {}", words.text),
    };
    let echo = matches!(kind.as_str(), "echo-request" | "echo-reply");
    loop {
        match words.peek().to_owned().as_str() {
            "code" => code = words.value() as u8,
            // Of an echo; elsewhere it is the IP header's.
            "id" if echo => rest[..2].copy_from_slice(&(words.value() as u16).to_be_bytes()),
            "seq" => rest[2..].copy_from_slice(&(words.value() as u16).to_be_bytes()),
            "mtu" if six => rest = (words.value() as u32).to_be_bytes(),
            "mtu" => rest[2..].copy_from_slice(&(words.value() as u16).to_be_bytes()),
            "solicited" => {
                words.next();
                rest[0] |= 0x40;
            }
            "override" => {
                words.next();
                rest[0] |= 0x20;
            }
            "router" => {
                words.next();
                rest[0] |= 0x80;
            }
            "len" => body.extend(filler(words.value() as usize)),
            "quote" => {
                let most = words.value() as usize;
                words.expect("about");
                body = datagram(words);
                body.truncate(most);
                break;
            }
            "about" => {
                words.next();
                body = datagram(words);
                // As much as an error of a family carries.
                body.truncate(if six { 1280 - 48 } else { 576 - 28 });
                break;
            }
            _ if header.take(words) => {}
            _ => break,
        }
    }
    [&[number, code, 0, 0][..], &rest, &body].concat()
}

/// Fills in the transport checksum, if the protocol has one.
fn fill(transport: &mut [u8], protocol: u8, source: IpAddr, destination: IpAddr) {
    let (at, with_pseudo) = match protocol {
        6 => (16, true),
        17 => (6, true),
        58 => (2, true),
        1 => (2, false),
        _ => return,
    };
    transport[at..at + 2].fill(0);
    let mut summed = if with_pseudo { pseudo(source, destination, protocol, transport.len()) } else { Vec::new() };
    summed.extend_from_slice(transport);
    let mut sum = checksum(&summed);
    if protocol == 17 && sum == 0 {
        sum = 0xffff;
    }
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = [octets(source), octets(destination)].concat();
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// RFC 1071 §4.1.
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum = words.sum::<u32>();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Source, destination and protocol of a datagram without extension headers.
fn ends(ip: &[u8]) -> (IpAddr, IpAddr, u8) {
    let four = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap());
    let six = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap());
    if ip[0] >> 4 == 6 { (six(8), six(24), ip[6]) } else { (four(12), four(16), ip[9]) }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Bytes that are told apart: 0, 1, 2, …
fn filler(len: usize) -> Vec<u8> {
    (0..len).map(|i| i as u8).collect()
}

fn pad(mut bytes: Vec<u8>, to: usize) -> Vec<u8> {
    bytes.resize(bytes.len().max(to), 0);
    bytes
}

/// `10.0.0.1:80`, `[::1]:80`, or an address alone.
fn end(text: &str) -> (IpAddr, u16) {
    match text.parse::<std::net::SocketAddr>() {
        Ok(at) => (at.ip(), at.port()),
        Err(_) => (address(text), 0),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("no address: {text}"))
}

pub fn mac(text: &str) -> Vec<u8> {
    let octets: Vec<u8> = text.split(':').filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
    assert_eq!(octets.len(), 6, "no MAC address: {text}");
    octets
}

fn hex(text: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap_or_else(|_| panic!("no bytes: {text}"));
    (0..text.len()).step_by(2).map(pair).collect()
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

/// The words of a text, taken one after the other.
struct Words {
    words: Vec<String>,
    at: usize,
    text: String,
}

impl Words {
    fn new(text: &str) -> Words {
        Words { words: text.split_whitespace().map(str::to_owned).collect(), at: 0, text: text.to_owned() }
    }

    fn next(&mut self) -> String {
        let word = self.peek().to_owned();
        assert!(!word.is_empty(), "too short: {}", self.text);
        self.at += 1;
        word
    }

    fn peek(&self) -> &str {
        self.words.get(self.at).map_or("", String::as_str)
    }

    fn skip(&mut self, word: &str) -> bool {
        let skipped = self.peek() == word;
        self.at += usize::from(skipped);
        skipped
    }

    fn expect(&mut self, word: &str) {
        let found = self.next();
        assert_eq!(found, word, "in {}", self.text);
    }

    fn number(&mut self) -> usize {
        number(&self.next()) as usize
    }

    /// The number after this word.
    fn value(&mut self) -> u64 {
        self.next();
        number(&self.next())
    }

    fn value_text(&mut self) -> String {
        self.next();
        self.next()
    }

    /// Whether what follows the next bar is IPv6.
    fn inner_is_v6(&self) -> bool {
        let bar = self.words.iter().skip(self.at).position(|word| word == "|");
        let bar = self.at + bar.unwrap_or_else(|| panic!("nothing inside: {}", self.text));
        end(&self.words[bar + 1]).0.is_ipv6()
    }

    fn end(&self) {
        assert_eq!(self.peek(), "", "left over in {}", self.text);
    }
}
