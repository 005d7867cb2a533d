//! Codec: DNS messages as a resolver's client sees them: one question out, one answer in.
//!
//! RFC 1035 §4, with EDNS (RFC 6891) so that most answers fit a datagram, and SRV (RFC 2782). An answer is bytes of a stranger: it must be
//! the answer to the question that was asked, names end after [`limits::DNS_POINTERS`] pointers, aliases after
//! [`limits::DNS_ALIASES`], and what is neither address nor alias is walked over by its length.
//!
//! Not here: asking, retrying, what an answer is good for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bytes::{array, u16_at, u32_at};
use crate::base::limits;

/// A domain name, absolute, in lower case and without the final dot; `""` is the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// A host's name, or a service's (`_http._tcp.web.internal`).
    ///
    /// # Errors
    /// A sentence for a diagnostic.
    pub fn parse(text: &str) -> Result<Name, String> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.is_empty() || bare.len() > NAME_BYTES {
            return Err(format!("a name has 1 to {NAME_BYTES} bytes"));
        }
        for label in bare.split('.') {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if label.is_empty() || label.len() > LABEL_BYTES || !label.bytes().all(plain) {
                return Err("a name is letters, digits, `-` and `_`, in parts of 1 to 63 between dots".to_owned());
            }
        }
        Ok(Name(bare.to_ascii_lowercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    A,
    Aaaa,
    Srv,
}

impl Kind {
    const fn code(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Aaaa => 28,
            Kind::Srv => 33,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
            Kind::Srv => "SRV",
        }
    }
}

/// The message that asks. `edns`: whether it says how long a datagram may be; servers of before 1999 do not know that.
pub fn question(id: u16, name: &Name, kind: Kind, edns: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(LONGEST_QUESTION);
    out.extend_from_slice(&id.to_be_bytes());
    // A query, recursion desired; one question, and of the rest what `edns` adds.
    out.extend_from_slice(&[0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
    for label in name.0.split('.').filter(|label| !label.is_empty()) {
        // Labels of a `Name` have 63 bytes at most.
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.code().to_be_bytes());
    out.extend_from_slice(&IN.to_be_bytes());
    if edns {
        out.push(0);
        out.extend_from_slice(&OPT.to_be_bytes());
        out.extend_from_slice(&(limits::DNS_DATAGRAM as u16).to_be_bytes());
        out.extend_from_slice(&[0; 6]);
    }
    out
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub code: ResponseCode,
    /// It did not fit the datagram: to be asked for over TCP.
    pub truncated: bool,
    /// Of the name, or of what it is an alias of.
    pub records: Vec<Record>,
    /// Of hosts that SRV records name, where the server has told them unasked.
    pub beside: Vec<(Name, Record)>,
    /// Seconds that the shortest-lived record or alias holds; of no records what the server says of that (RFC 2308 §5).
    pub ttl: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Address(IpAddr),
    Service { priority: u16, weight: u16, port: u16, target: Name },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseCode {
    Good,
    /// FORMERR, of servers that do not know EDNS too.
    BadQuestion,
    ServerFailure,
    NoSuchName,
    NotImplemented,
    Refused,
    Other(u8),
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResponseCode::Good => "NOERROR",
            ResponseCode::BadQuestion => "FORMERR",
            ResponseCode::ServerFailure => "SERVFAIL",
            ResponseCode::NoSuchName => "NXDOMAIN",
            ResponseCode::NotImplemented => "NOTIMP",
            ResponseCode::Refused => "REFUSED",
            ResponseCode::Other(code) => return write!(f, "response code {code}"),
        })
    }
}

/// Why bytes are not the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another message: to be waited past.
    NotOurs,
    Short,
    /// A name that is too long, or that points round in a circle.
    BadName,
    /// Aliases that lead round in a circle, or too far.
    Aliases,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::NotOurs => "the answer is to another question",
            Fault::Short => "the answer is cut short",
            Fault::BadName => "the answer has a name that does not end, or is too long",
            Fault::Aliases => "the name is an alias of an alias, and so on without an end",
        })
    }
}

/// Reads the answer to the question `(id, name, kind)`.
///
/// # Errors
/// It is none, or not to this question.
pub fn answer(message: &[u8], id: u16, name: &Name, kind: Kind) -> Result<Answer, Fault> {
    if message.len() < HEADER {
        return Err(Fault::Short);
    }
    let (flags, questions) = (u16_at(message, 2), u16_at(message, 4));
    if u16_at(message, 0) != id || flags & RESPONSE == 0 || questions > 1 {
        return Err(Fault::NotOurs);
    }
    let code = ResponseCode::of(flags);
    let mut at = HEADER;
    if questions == 1 {
        let (asked, end) = read_name(message, at)?;
        if asked != *name || u16_at(message, end) != kind.code() || u16_at(message, end.saturating_add(2)) != IN {
            return Err(Fault::NotOurs);
        }
        at = end.saturating_add(4);
    } else if code == ResponseCode::Good {
        // Only a refusal may leave the question out.
        return Err(Fault::NotOurs);
    }
    let truncated = flags & TRUNCATED != 0;
    if truncated || code != ResponseCode::Good {
        return Ok(Answer { code, truncated, records: Vec::new(), beside: Vec::new(), ttl: None });
    }
    let read = |at: &mut usize, count: u16| -> Result<Vec<Raw>, Fault> {
        (0..count).map(|_| Raw::read(message, at)).collect()
    };
    let answers = read(&mut at, u16_at(message, 6))?;
    let authority = read(&mut at, u16_at(message, 8))?;
    let additional = read(&mut at, u16_at(message, 10))?;
    let (owner, mut ttl) = alias(&answers, name)?;
    let mut records = Vec::new();
    for raw in answers.iter().filter(|raw| raw.name == owner && raw.kind == kind.code()) {
        let Some(record) = raw.record(message)? else { continue };
        records.push(record);
        ttl = Some(ttl.map_or(raw.ttl, |ttl| ttl.min(raw.ttl)));
    }
    if records.is_empty() {
        // Of no answer the server says for how long that holds.
        ttl = authority.iter().find(|raw| raw.kind == SOA).map(|raw| raw.ttl.min(raw.negative_ttl(message)));
    }
    let mut beside = Vec::new();
    for raw in additional.into_iter().filter(|raw| [Kind::A.code(), Kind::Aaaa.code()].contains(&raw.kind)) {
        if let Some(record) = raw.record(message)? {
            ttl = ttl.map(|ttl| ttl.min(raw.ttl));
            beside.push((raw.name, record));
        }
    }
    Ok(Answer { code, truncated, records, beside, ttl })
}

/// What a name is an alias of in the end, by the answer itself, and for how long.
fn alias(answers: &[Raw], name: &Name) -> Result<(Name, Option<u32>), Fault> {
    let (mut owner, mut ttl): (Name, Option<u32>) = (name.clone(), None);
    for _ in 0..=limits::DNS_ALIASES {
        let Some(alias) = answers.iter().find(|raw| raw.kind == CNAME && raw.name == owner) else {
            return Ok((owner, ttl));
        };
        let Some(target) = &alias.target else { return Err(Fault::BadName) };
        ttl = Some(ttl.map_or(alias.ttl, |ttl| ttl.min(alias.ttl)));
        owner = target.clone();
    }
    Err(Fault::Aliases)
}

/// A record, its data still in the message.
struct Raw {
    name: Name,
    kind: u16,
    ttl: u32,
    /// Where its data begins and ends.
    data: (usize, usize),
    /// Of an alias.
    target: Option<Name>,
}

impl Raw {
    fn read(message: &[u8], at: &mut usize) -> Result<Raw, Fault> {
        let (name, fixed) = read_name(message, *at)?;
        let data = fixed.saturating_add(10);
        let end = data.saturating_add(usize::from(u16_at(message, fixed.saturating_add(8))));
        if end > message.len() || data > message.len() {
            return Err(Fault::Short);
        }
        let (kind, class) = (u16_at(message, fixed), u16_at(message, fixed.saturating_add(2)));
        // RFC 2181 §8: the top bit set is no time at all.
        let ttl = u32_at(message, fixed.saturating_add(4));
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        // What is of another class is nothing to us; the size in OPT is in its place.
        let kind = if class == IN { kind } else { 0 };
        let target = if kind == CNAME { Some(read_name(message, data)?.0) } else { None };
        *at = end;
        Ok(Raw { name, kind, ttl, data: (data, end), target })
    }

    /// Nothing where its data is not what its kind has.
    fn record(&self, message: &[u8]) -> Result<Option<Record>, Fault> {
        let (start, end) = self.data;
        let length = end.saturating_sub(start);
        Ok(match (self.kind, length) {
            (1, 4) => Some(Record::Address(Ipv4Addr::from(array::<4>(message, start)).into())),
            (28, 16) => Some(Record::Address(Ipv6Addr::from(array::<16>(message, start)).into())),
            (33, 7..) => Some(Record::Service {
                priority: u16_at(message, start),
                weight: u16_at(message, start.saturating_add(2)),
                port: u16_at(message, start.saturating_add(4)),
                target: read_name(message, start.saturating_add(6))?.0,
            }),
            _ => None,
        })
    }

    /// The last of the five numbers at the end of a SOA record.
    fn negative_ttl(&self, message: &[u8]) -> u32 {
        u32_at(message, self.data.1.saturating_sub(4))
    }
}

impl ResponseCode {
    fn of(flags: u16) -> ResponseCode {
        match flags & 0xf {
            0 => ResponseCode::Good,
            1 => ResponseCode::BadQuestion,
            2 => ResponseCode::ServerFailure,
            3 => ResponseCode::NoSuchName,
            4 => ResponseCode::NotImplemented,
            5 => ResponseCode::Refused,
            #[allow(clippy::cast_possible_truncation, reason = "four bits")]
            other => ResponseCode::Other(other as u8),
        }
    }
}

/// A name, and where what follows it begins. Every pointer leads further back than the last, so none leads in a circle (RFC 1035 §4.1.4:
/// to a prior occurrence).
fn read_name(message: &[u8], start: usize) -> Result<(Name, usize), Fault> {
    let (mut at, mut end, mut before) = (start, None, start);
    let mut text = String::new();
    let (mut pointers, mut bytes) = (0_usize, 0_usize);
    loop {
        let length = usize::from(*message.get(at).ok_or(Fault::Short)?);
        match length & 0xc0 {
            0xc0 => {
                let low = usize::from(*message.get(at.saturating_add(1)).ok_or(Fault::Short)?);
                end = end.or(Some(at.saturating_add(2)));
                at = (length & 0x3f) << 8 | low;
                pointers = pointers.saturating_add(1);
                if at >= before || pointers > limits::DNS_POINTERS {
                    return Err(Fault::BadName);
                }
                before = at;
            }
            0 if length == 0 => return Ok((Name(text), end.unwrap_or(at.saturating_add(1)))),
            0 => {
                let from = at.saturating_add(1);
                let label = message.get(from..from.saturating_add(length)).ok_or(Fault::Short)?;
                if !text.is_empty() {
                    text.push('.');
                }
                // A dot within a label, or what is no text, is no host's: shown so that it equals no name that was asked for.
                text.extend(label.iter().map(|byte| match byte {
                    b'.' => '\u{fffd}',
                    byte if byte.is_ascii_graphic() => byte.to_ascii_lowercase().into(),
                    _ => '\u{fffd}',
                }));
                at = from.saturating_add(length);
                bytes = bytes.saturating_add(length).saturating_add(1);
                if bytes > NAME_BYTES.saturating_add(1) {
                    return Err(Fault::BadName);
                }
            }
            _ => return Err(Fault::BadName),
        }
    }
}

const HEADER: usize = 12;
const RESPONSE: u16 = 0x8000;
const TRUNCATED: u16 = 0x0200;
const IN: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const OPT: u16 = 41;
/// RFC 1035 §2.3.4, as text.
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;
/// A header, the longest name, type and class, and what EDNS adds.
const LONGEST_QUESTION: usize = 288;

#[cfg(test)]
mod tests;
