//! Codec: request heads. `RequestHead` parses into storage that is kept from request to request; `Request` is the view of
//! a whole one over the buffer it was parsed from.
//!
//! The target and the authority that the view shows are canonical: routes match them and endpoints get them.
//!
//! Not here: routes, trusted peers, body size caps.

use std::borrow::Cow;

use super::class::{self, TOKEN, hex, trim};
use super::fields::{Field, Lines, Progress, Span};
use super::framing::{self, Body};
use super::method::{Asked, Method, Version};
use super::name::{Name, Names};
use super::reject::Reject;
use super::{authority, target};
use crate::base::limits;

/// What the connection carries: decides the default port and which absolute targets are ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// Bytes of the caller's buffer, or of `RequestHead::own` where the canonical form had to be written.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    own: bool,
    span: Span,
}

/// The parser of request heads, and what it found.
#[derive(Debug, Default)]
pub struct RequestHead {
    lines: Lines,
    own: Vec<u8>,
    started: bool,
    raw_method: Span,
    method: Method,
    version: Version,
    target: Place,
    path_len: usize,
    /// Whether the target was absolute; then `authority` is what it named.
    absolute: bool,
    authority: Place,
    host_len: usize,
    body: Body,
    keep_alive: bool,
    expect_continue: bool,
    upgrade: bool,
}

impl RequestHead {
    /// Forgets the last request, keeps the storage.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.own.clear();
        self.started = false;
        self.absolute = false;
        self.authority = Place::default();
        self.host_len = 0;
        self.body = Body::None;
        self.expect_continue = false;
        self.upgrade = false;
    }

    /// Parses the head that `buf` begins with. While the answer is `Partial`, call again with the same bytes and more
    /// behind them; begin each request with `clear`.
    ///
    /// # Errors
    /// Why the request is refused. The same for the same bytes, however they were split.
    pub fn parse(&mut self, buf: &[u8], scheme: Scheme) -> Result<Progress, Reject> {
        let Some(window) = self.lines.window(buf) else { return Ok(Progress::Partial) };
        if !self.started && !self.request_line(window, scheme)? {
            return Lines::unfinished(buf);
        }
        let Some(end) = self.lines.parse(window)? else { return Lines::unfinished(buf) };
        self.settle(window, scheme)?;
        Ok(Progress::Complete(end))
    }

    /// The request, once `parse` said `Complete`. `buf` begins with the bytes that were parsed.
    pub fn view<'a>(&'a self, buf: &'a [u8]) -> Request<'a> {
        Request { head: self, buf }
    }

    /// Whether the request line has been read: what a timeout or a rejection may be logged with.
    pub fn has_request_line(&self) -> bool {
        self.started
    }

    /// Parses `method SP target SP version CRLF`. False while it is not whole.
    fn request_line(&mut self, window: &[u8], scheme: Scheme) -> Result<bool, Reject> {
        let at = skip_empty_lines(window)?;
        let line = window.get(at..).unwrap_or_default();
        let Some(method_len) = method_len(line)? else { return Ok(false) };
        let token = line.get(..method_len).unwrap_or_default();
        self.method = Method::of(token).ok_or(Reject::MethodRefused)?;
        self.raw_method = Span::new(at, at.saturating_add(method_len));

        let target_at = at.saturating_add(method_len).saturating_add(1);
        let rest = window.get(target_at..).unwrap_or_default();
        self.own.clear();
        let len = match rest {
            [] => return Ok(false),
            [b'/', ..] => {
                let Some(scan) = target::scan(rest)? else { return Ok(false) };
                self.origin(rest, target_at, scan)?;
                scan.len
            }
            [b'*', b' ', ..] if self.method == Method::Options => {
                self.target = Place { own: false, span: Span::new(target_at, target_at.saturating_add(1)) };
                self.path_len = 1;
                1
            }
            [b'*'] => return Ok(false),
            [b'*', ..] if token == b"PRI" => return Err(Reject::Http2Preface),
            _ => match self.absolute(rest, target_at, scheme)? {
                Some(len) => len,
                None => return Ok(false),
            },
        };

        let version_at = target_at.saturating_add(len).saturating_add(1);
        let Some(version) = version(window.get(version_at..).unwrap_or_default())? else { return Ok(false) };
        self.version = version;
        self.lines.at = version_at.saturating_add(VERSION_LINE);
        self.started = true;
        Ok(true)
    }

    fn origin(&mut self, raw: &[u8], at: usize, scan: target::Scan) -> Result<(), Reject> {
        self.path_len = scan.path_len;
        self.target = Place { own: false, span: Span::new(at, at.saturating_add(scan.len)) };
        if scan.messy {
            let start = self.own.len();
            target::normalise(raw.get(..scan.path_len).unwrap_or_default(), &mut self.own)?;
            self.path_len = self.own.len().saturating_sub(start);
            self.own.extend_from_slice(raw.get(scan.path_len..scan.len).unwrap_or_default());
            self.target = Place { own: true, span: Span::new(start, self.own.len()) };
        }
        Ok(())
    }

    /// `http://host/path` (B3). Its length, or `None` while it is not whole.
    fn absolute(&mut self, rest: &[u8], at: usize, scheme: Scheme) -> Result<Option<usize>, Reject> {
        let limited = rest.get(..limits::TARGET_BYTES.saturating_add(1)).unwrap_or(rest);
        let Some(len) = limited.iter().position(|b| matches!(b, b' ' | b'\r' | b'\n')) else {
            return if limited.len() > limits::TARGET_BYTES { Err(Reject::TargetTooLong) } else { Ok(None) };
        };
        // With the space behind it, which ends every scan.
        let raw = limited.get(..=len).unwrap_or_default();
        let (given, after) = split_scheme(raw).ok_or_else(|| bad_absolute(raw))?;
        if given != scheme {
            return Err(Reject::SchemeMismatch);
        }
        let name_len = after.iter().position(|b| matches!(b, b'/' | b'?' | b'#' | b' ' | b'\\' | b'\r' | b'\n'));
        let (name, path) = after.split_at_checked(name_len.unwrap_or(0)).unwrap_or_default();
        self.host_len = authority::canonical(name, scheme.default_port(), &mut self.own)?;
        self.authority = Place { own: true, span: Span::new(0, self.own.len()) };
        self.absolute = true;
        if path.first() == Some(&b'/') {
            let scan = target::scan(path)?.ok_or(Reject::BadTarget)?;
            let path_at = at.saturating_add(len).saturating_sub(scan.len);
            self.origin(path, path_at, scan)?;
        } else {
            // RFC 9112 §3.2.1, §3.2.4: no path is the root, or `*` for OPTIONS.
            let root = if self.method == Method::Options && path == b" " { b"*" } else { b"/" };
            let mut line = root.to_vec();
            line.extend_from_slice(path);
            if root == b"*" {
                self.put_own_target(b"*", 1);
            } else {
                let scan = target::scan(&line)?.ok_or(Reject::BadTarget)?;
                self.put_own_target(line.get(..scan.len).unwrap_or_default(), scan.path_len);
            }
        }
        Ok(Some(len))
    }

    fn put_own_target(&mut self, target: &[u8], path_len: usize) {
        let start = self.own.len();
        self.own.extend_from_slice(target);
        self.target = Place { own: true, span: Span::new(start, self.own.len()) };
        self.path_len = path_len;
    }

    /// Decides what the whole head means.
    fn settle(&mut self, buf: &[u8], scheme: Scheme) -> Result<(), Reject> {
        self.host(buf, scheme)?;
        let framing = framing::read(&self.lines, buf, self.version)?;
        self.body = match framing.length {
            Some(length) => Body::Length(length),
            None if framing.chunked => Body::Chunked,
            None => Body::None,
        };
        let options = self.lines.connection(buf)?;
        let modern = self.version == Version::Http11;
        self.keep_alive = !options.close && (modern || options.keep_alive);
        self.expect_continue = self.expectation(buf)? && modern && !self.body.is_empty();
        self.upgrade =
            options.upgrade && modern && self.method == Method::Get && self.body.is_empty() && self.is_websocket(buf);
        Ok(())
    }

    /// B1, B3, B11.
    fn host(&mut self, buf: &[u8], scheme: Scheme) -> Result<(), Reject> {
        let mut hosts = self.lines.iter().filter(|line| line.id == Name::Host);
        let Some(line) = hosts.next() else {
            // RFC 9112 §3.2: only HTTP/1.0 may do without.
            return if self.version == Version::Http11 { Err(Reject::MissingHost) } else { Ok(()) };
        };
        if hosts.next().is_some() {
            return Err(Reject::RepeatedHost);
        }
        let raw = line.value(buf);
        if let Some(host_len) = authority::plain(raw, scheme.default_port())
            && !self.absolute
        {
            self.authority = Place { own: false, span: line.value_span() };
            self.host_len = host_len;
            return Ok(());
        }
        let start = self.own.len();
        let host_len = authority::canonical(raw, scheme.default_port(), &mut self.own)?;
        let span = Span::new(start, self.own.len());
        if self.absolute {
            let same = span.of(&self.own) == self.authority.span.of(&self.own);
            return if same { Ok(()) } else { Err(Reject::HostMismatch) };
        }
        self.authority = Place { own: true, span };
        self.host_len = host_len;
        Ok(())
    }

    /// A27: `100-continue`, once, or nothing.
    fn expectation(&self, buf: &[u8]) -> Result<bool, Reject> {
        if !self.lines.seen(Name::Expect) {
            return Ok(false);
        }
        let mut expects = self.lines.iter().filter(|line| line.id == Name::Expect);
        let first = expects.next().is_some_and(|line| line.value(buf).eq_ignore_ascii_case(b"100-continue"));
        if first && expects.next().is_none() { Ok(true) } else { Err(Reject::UnknownExpectation) }
    }

    /// Exactly one Upgrade, to exactly one protocol; `h2c` and lists are stripped (C9).
    fn is_websocket(&self, buf: &[u8]) -> bool {
        let mut upgrades = self.lines.iter().filter(|line| line.id == Name::Upgrade);
        let websocket = upgrades.next().is_some_and(|line| line.value(buf).eq_ignore_ascii_case(b"websocket"));
        websocket && upgrades.next().is_none()
    }
}

/// A whole request head over its buffer.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    head: &'a RequestHead,
    buf: &'a [u8],
}

impl<'a> Request<'a> {
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The method as it was written, for the request line and the log.
    pub fn method_token(&self) -> &'a [u8] {
        self.head.raw_method.of(self.buf)
    }

    pub fn version(&self) -> Version {
        self.head.version
    }

    /// Canonical `path?query`, or `*`.
    pub fn target(&self) -> &'a [u8] {
        self.place(self.head.target)
    }

    /// Canonical path: begins with `/`, or is `*`.
    pub fn path(&self) -> &'a [u8] {
        self.target().get(..self.head.path_len).unwrap_or_default()
    }

    /// What follows the first `?`, as it was sent.
    pub fn query(&self) -> Option<&'a [u8]> {
        self.target().get(self.head.path_len.saturating_add(1)..)
    }

    /// Canonical `host` or `host:port`. Empty only for an HTTP/1.0 request that named none.
    pub fn authority(&self) -> &'a [u8] {
        self.place(self.head.authority)
    }

    /// Canonical host, an IPv6 literal in its brackets.
    pub fn host(&self) -> &'a [u8] {
        self.authority().get(..self.head.host_len).unwrap_or_default()
    }

    pub fn body(&self) -> Body {
        self.head.body
    }

    /// Whether the client allows another request on its connection.
    pub fn keep_alive(&self) -> bool {
        self.head.keep_alive
    }

    /// Whether the client waits for 100 before it sends the body.
    pub fn expect_continue(&self) -> bool {
        self.head.expect_continue
    }

    /// Whether it asks for a WebSocket. Any other upgrade is stripped.
    pub fn upgrade(&self) -> bool {
        self.head.upgrade
    }

    pub fn asked(&self) -> Asked {
        Asked { head: self.head.method == Method::Head, upgrade: self.head.upgrade }
    }

    /// The fields that are forwarded if the caller drops `drop` besides those of the connection.
    pub fn fields(&self, drop: Names) -> impl Iterator<Item = Field<'a>> + 'a {
        self.head.lines.kept(self.buf, drop.with(self.dropped()))
    }

    /// Appends what `fields` gives, as lines.
    pub fn copy_fields(&self, drop: Names, out: &mut Vec<u8>) {
        self.head.lines.copy(self.buf, drop.with(self.dropped()), out);
    }

    fn dropped(&self) -> Names {
        if self.head.expect_continue { DROPPED } else { DROPPED.with(Names::of(&[Name::Expect])) }
    }

    /// Values of the fields called `name`, whatever its case. Fields that Connection named are not there.
    pub fn field(&self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.head.lines.named(self.buf, name)
    }

    /// First value of a known field.
    pub fn known(&self, name: Name) -> Option<&'a [u8]> {
        self.head.lines.known(self.buf, name)
    }

    /// Values of every field of a known name, in order.
    pub fn all_known(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + 'a {
        let buf = self.buf;
        self.head.lines.iter().filter(move |line| line.id == name && line.stays(Names::NONE)).map(move |l| l.value(buf))
    }

    /// Value of the first cookie called `name`.
    pub fn cookie(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.all_known(Name::Cookie).flat_map(|value| value.split(|&b| b == b';')).find_map(|pair| {
            let (key, value) = cut(trim(pair), b'=')?;
            (key == name).then_some(value)
        })
    }

    /// Value of the first query parameter called `name`, decoded; empty when it has none.
    pub fn query_parameter(&self, name: &[u8]) -> Option<Cow<'a, [u8]>> {
        self.query()?.split(|&b| b == b'&').find_map(|pair| {
            let (key, value) = cut(pair, b'=').unwrap_or((pair, b""));
            (*decoded(key) == *name).then(|| decoded(value))
        })
    }

    fn place(&self, place: Place) -> &'a [u8] {
        place.span.of(if place.own { &self.head.own } else { self.buf })
    }
}

/// Never forwarded as they came: those of the connection, and the proxy's own names (C2, C4).
const DROPPED: Names = Names::HOP.with(Names::of(&[Name::Strata]));

const VERSION_LINE: usize = b"HTTP/1.1\r\n".len();

/// RFC 9112 §2.2: an empty line or two before a request line are ignored.
fn skip_empty_lines(window: &[u8]) -> Result<usize, Reject> {
    match window {
        [b'\r', b'\n', b'\r', b'\n', b'\r' | b'\n', ..] => Err(Reject::BadRequestLine),
        [b'\r', b'\n', b'\r', b'\n', ..] => Ok(4),
        [b'\r', b'\n', b'\n', ..] | [b'\n', ..] => Err(Reject::BareLf),
        [b'\r', b'\n', b'\r', other, ..] | [b'\r', other, ..] if *other != b'\n' => Err(Reject::BareCr),
        [b'\r', b'\n', b'\r'] | [b'\r'] => Ok(window.len()),
        [b'\r', b'\n', ..] => Ok(2),
        _ => Ok(0),
    }
}

/// Length of the method, which a space follows. `None` while that has not arrived.
#[inline]
fn method_len(line: &[u8]) -> Result<Option<usize>, Reject> {
    let limited = line.get(..=limits::METHOD_BYTES).unwrap_or(line);
    let Some(len) = limited.iter().position(|&b| !class::is(b, TOKEN)) else {
        return if limited.len() > limits::METHOD_BYTES { Err(Reject::MethodTooLong) } else { Ok(None) };
    };
    match (line.get(len), len) {
        (Some(b' '), 1..) => Ok(Some(len)),
        (Some(0x16), 0) => Err(Reject::TlsHello),
        (Some(b'\n'), _) => Err(Reject::BareLf),
        (Some(b' ' | b'\r'), _) => Err(Reject::BadRequestLine),
        _ => Err(Reject::BadMethod),
    }
}

/// Reads `HTTP/1.x CRLF`. `None` while it has not arrived.
#[inline]
fn version(bytes: &[u8]) -> Result<Option<Version>, Reject> {
    if bytes.starts_with(b"HTTP/1.1\r\n") {
        return Ok(Some(Version::Http11));
    }
    if bytes.starts_with(b"HTTP/1.0\r\n") {
        return Ok(Some(Version::Http10));
    }
    let head = bytes.get(..VERSION_LINE).unwrap_or(bytes);
    match head {
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9', b'\n', ..] => Err(Reject::BareLf),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9', b'\r', b'\n'] => Err(Reject::UnsupportedVersion),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9', b'\r', _] => Err(Reject::BareCr),
        _ if head.len() == VERSION_LINE || head.contains(&b'\n') => Err(Reject::BadVersion),
        _ => Ok(None),
    }
}

fn split_scheme(raw: &[u8]) -> Option<(Scheme, &[u8])> {
    let (scheme, after) = cut(raw, b':')?;
    let after = after.strip_prefix(b"//")?;
    if scheme.eq_ignore_ascii_case(b"http") {
        Some((Scheme::Http, after))
    } else if scheme.eq_ignore_ascii_case(b"https") {
        Some((Scheme::Https, after))
    } else {
        None
    }
}

#[cold]
fn bad_absolute(raw: &[u8]) -> Reject {
    match raw.last() {
        Some(b'\n') => Reject::BareLf,
        Some(b'\r') => Reject::BadRequestLine,
        _ if raw == b" " => Reject::BadRequestLine,
        _ if raw.contains(&b'#') => Reject::FragmentInTarget,
        _ => Reject::BadTarget,
    }
}

/// `bytes` before and after the first `separator`.
fn cut(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&b| b == separator)?;
    Some((bytes.get(..at)?, bytes.get(at.saturating_add(1)..)?))
}

/// Form decoding: `+` is a space, escapes are bytes, a broken escape is itself.
fn decoded(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.iter().any(|b| matches!(b, b'%' | b'+')) {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [a, b, behind @ ..]) => match (hex(*a), hex(*b)) {
                (Some(high), Some(low)) => {
                    out.push(high.wrapping_shl(4) | low);
                    rest = behind;
                }
                _ => out.push(byte),
            },
            _ => out.push(byte),
        }
    }
    Cow::Owned(out)
}
