//! Codec: a request as a person writes it (`GET http://a.test/x`), into the bytes of its head and the address they are sent to.
//!
//! The bytes are what a client would send, mistakes included: what is wrong with them is for the request parser to say.

use std::net::IpAddr;

use crate::base::address::parse_ip;
use crate::base::limits;
use crate::doc::quote;

/// What was written, part by part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// `GET http://a.test/x`, `http://a.test/x`, `GET /x`.
    pub request: &'a str,
    /// `Name: value`, each.
    pub headers: &'a [String],
    /// Address of the client, with a port where that matters.
    pub from: Option<&'a str>,
    /// Where the address does not say it.
    pub service: Option<&'a str>,
}

/// A request that could be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// As it was written.
    pub text: String,
    /// `None`: only what stands behind the host was written.
    pub to: Option<Destination>,
    pub head: Vec<u8>,
    pub from: Source,
    pub service: Option<String>,
}

/// What a client connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub host: String,
    /// Of a host that is one.
    pub address: Option<IpAddr>,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub address: IpAddr,
    /// `None`: any.
    pub port: Option<u16>,
    /// Nobody said it.
    pub imagined: bool,
}

/// Which part cannot be understood, and why: a sentence with the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub part: &'static str,
    pub why: String,
}

impl Fault {
    pub fn new(part: &'static str, why: impl Into<String>) -> Fault {
        Fault { part, why: why.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.part, self.why)
    }
}

impl Asked<'_> {
    /// # Errors
    /// The first part that is not understood.
    pub fn read(&self) -> Result<Question, Fault> {
        let parts = [("request", Some(self.request)), ("from", self.from), ("service", self.service)];
        let headers = self.headers.iter().map(|header| ("header", Some(&**header)));
        for (part, text) in parts.into_iter().chain(headers) {
            if text.is_some_and(|text| text.chars().any(|c| c.is_control() && c != '\t')) {
                return Err(Fault::new(part, "a line break or another control character cannot stand here"));
            }
        }
        if self.headers.len() > limits::FIELDS {
            return Err(Fault::new("header", format!("more than {} fields, which no request has", limits::FIELDS)));
        }
        let Line { to, bytes: mut head, authority } = request(self.request)?;
        let own = self
            .headers
            .iter()
            .any(|header| header.split_once(':').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("host")));
        // As `curl -H 'Host: …'` does: what is said beats what the address says.
        if let Some(authority) = authority.filter(|_| !own) {
            head.extend_from_slice(format!("Host: {authority}\r\n").as_bytes());
        }
        for header in self.headers {
            if !header.contains(':') {
                return Err(Fault::new("header", format!("{} has no colon: write 'Name: value'", quote(header))));
            }
            head.extend_from_slice(header.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Ok(Question {
            text: self.request.trim().to_owned(),
            to,
            head,
            from: source(self.from)?,
            service: self.service.map(str::to_owned),
        })
    }
}

/// A request without its fields.
struct Line<'a> {
    to: Option<Destination>,
    bytes: Vec<u8>,
    /// For Host.
    authority: Option<&'a str>,
}

fn request(text: &str) -> Result<Line<'_>, Fault> {
    let fault = |why: &str| Err(Fault::new("request", format!("{why}, as in {EXAMPLE}")));
    let text = text.trim();
    let (method, rest) = match text.split_once(char::is_whitespace) {
        None if text.contains(['/', '.', ':']) => ("GET", text),
        None => return fault("a request is a method and a URL"),
        Some((method, rest)) => (method, rest.trim_start()),
    };
    let (url, version) = match rest.rsplit_once(char::is_whitespace) {
        Some((url, version)) if version.starts_with("HTTP/") => (url.trim_end(), version),
        _ => (rest, "HTTP/1.1"),
    };
    let line = |target: &str| format!("{method} {target} {version}\r\n").into_bytes();
    if url.starts_with('/') || url == "*" {
        return Ok(Line { to: None, bytes: line(url), authority: None });
    }
    let (scheme, behind) = url.split_once("://").unwrap_or(("http", url));
    if scheme.eq_ignore_ascii_case("https") {
        return Err(Fault::new("request", "listeners speak plain HTTP for now: write http://"));
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(Fault::new("request", format!("{} is no scheme of requests: write http://", quote(scheme))));
    }
    let (authority, target) = behind.split_at(behind.find(['/', '?', '#']).unwrap_or(behind.len()));
    if authority.is_empty() {
        return fault("the URL names no host");
    }
    if authority.starts_with('[') && destination(authority).address.is_none() {
        return Err(Fault::new("request", format!("{} is no host: IPv6 is written [2001:db8::1]", quote(authority))));
    }
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok(Line { to: Some(destination(authority)), bytes: line(&target), authority: Some(authority) })
}

fn destination(authority: &str) -> Destination {
    // A colon within brackets is the address's.
    let name_end = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority.get(name_end..).and_then(|rest| rest.rfind(':')) {
        Some(at) => authority.split_at(name_end + at),
        None => (authority, ""),
    };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    Destination {
        host: host.to_ascii_lowercase(),
        address: parse_ip(bare).ok(),
        // What is no port makes the request's Host wrong, which its parser says.
        port: port.strip_prefix(':').and_then(|port| port.parse().ok()).unwrap_or(PORT),
    }
}

fn source(text: Option<&str>) -> Result<Source, Fault> {
    let Some(text) = text.map(str::trim) else {
        return Ok(Source { address: SOMEBODY, port: None, imagined: true });
    };
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Ok(Source { address: socket.ip(), port: Some(socket.port()), imagined: false });
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match parse_ip(bare) {
        Ok(address) => Ok(Source { address, port: None, imagined: false }),
        Err(_) => {
            let why = format!("{} is no address: write 10.1.0.9, or 10.1.0.9:4242", quote(text));
            Err(Fault::new("from", why))
        }
    }
}

const EXAMPLE: &str = "'GET http://a.test/x'";
const PORT: u16 = 80;
/// A client of whom nothing is said: an address for documentation (RFC 5737).
const SOMEBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));
