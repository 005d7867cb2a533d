//! Codec: response heads, read as strictly as requests: an endpoint that frames badly must not desynchronise a client.
//!
//! Interim (1xx) responses are heads of their own: parse, relay, `clear`, parse again. Not here: how many of them (A33).

use super::class::{trim, value_len};
use super::fields::{Field, Lines, Progress, Span};
use super::framing::{self, Body};
use super::method::{Asked, Version};
use super::name::{Name, Names};
use super::reject::Reject;

/// The parser of response heads, and what it found. An error means 502 and a connection that is not used again.
#[derive(Debug, Default)]
pub struct ResponseHead {
    lines: Lines,
    started: bool,
    status: u16,
    reason: Span,
    version: Version,
    body: Body,
    /// What Content-Length said, also where there is no body (HEAD, 304).
    length: Option<u64>,
    keep_alive: bool,
}

impl ResponseHead {
    /// Forgets the last response, keeps the storage.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.started = false;
    }

    /// Parses the head that `buf` begins with, as `RequestHead::parse` does.
    ///
    /// # Errors
    /// Why the response cannot be relayed.
    pub fn parse(&mut self, buf: &[u8], asked: Asked) -> Result<Progress, Reject> {
        let Some(window) = self.lines.window(buf) else { return Ok(Progress::Partial) };
        if !self.started && !self.status_line(window)? {
            return Lines::unfinished(buf);
        }
        let Some(end) = self.lines.parse(window)? else { return Lines::unfinished(buf) };
        self.settle(window, asked)?;
        Ok(Progress::Complete(end))
    }

    /// The response, once `parse` said `Complete`. `buf` begins with the bytes that were parsed.
    pub fn view<'a>(&'a self, buf: &'a [u8]) -> Response<'a> {
        Response { head: self, buf }
    }

    /// Reads `HTTP/1.x SP status [SP reason] CRLF`. False while it is not whole.
    fn status_line(&mut self, window: &[u8]) -> Result<bool, Reject> {
        const START: &[u8] = b"HTTP/1.";
        let common = START.len().min(window.len());
        if window.get(..common) != START.get(..common) {
            return Err(Reject::BadStatusLine);
        }
        let len = value_len(window);
        match window.get(len..).unwrap_or_default() {
            [] | [b'\r'] => return Ok(false),
            [b'\r', b'\n', ..] => {}
            [b'\n', ..] => return Err(Reject::BareLf),
            [b'\r', ..] => return Err(Reject::BareCr),
            _ => return Err(Reject::BadStatusLine),
        }
        let (minor, digits, reason) = match window.get(START.len()..len).unwrap_or_default() {
            [minor, b' ', a, b, c] => (minor, [a, b, c], 0),
            [minor, b' ', a, b, c, b' ', reason @ ..] => (minor, [a, b, c], reason.len()),
            _ => return Err(Reject::BadStatusLine),
        };
        self.version = match minor {
            b'1' => Version::Http11,
            b'0' => Version::Http10,
            _ => return Err(Reject::BadStatusLine),
        };
        self.status = match digits {
            [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => digits.iter().fold(0, |status: u16, digit| {
                status.saturating_mul(10).saturating_add(u16::from(digit.wrapping_sub(b'0')))
            }),
            _ => return Err(Reject::BadStatusLine),
        };
        self.reason = Span::new(len.saturating_sub(reason), len);
        self.lines.at = len.saturating_add(2);
        self.started = true;
        Ok(true)
    }

    fn settle(&mut self, buf: &[u8], asked: Asked) -> Result<(), Reject> {
        let framing = framing::read(&self.lines, buf, self.version)?;
        let options = self.lines.connection(buf)?;
        if self.status == 101 && !(asked.upgrade && options.upgrade) {
            return Err(Reject::UnexpectedSwitch);
        }
        let bodiless = asked.head || matches!(self.status, 100..=199 | 204 | 304);
        self.body = match framing {
            _ if bodiless => Body::None,
            framing::Framing { chunked: true, .. } => Body::Chunked,
            framing::Framing { length: Some(length), .. } => Body::Length(length),
            _ => Body::UntilClose,
        };
        // RFC 9110 §8.6: of the responses without a body, these two may say how long it would have been.
        self.length = framing.length.filter(|_| !matches!(self.status, 100..=199 | 204));
        let persistent = !options.close && (self.version == Version::Http11 || options.keep_alive);
        self.keep_alive = persistent && self.body != Body::UntilClose;
        Ok(())
    }
}

/// A whole response head over its buffer.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    head: &'a ResponseHead,
    buf: &'a [u8],
}

impl<'a> Response<'a> {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// As the endpoint wrote it, perhaps empty.
    pub fn reason(&self) -> &'a [u8] {
        trim(self.head.reason.of(self.buf))
    }

    pub fn version(&self) -> Version {
        self.head.version
    }

    /// 1xx, 101 excepted: another head follows.
    pub fn interim(&self) -> bool {
        matches!(self.head.status, 100 | 102..=199)
    }

    pub fn body(&self) -> Body {
        self.head.body
    }

    /// The length of a body that is not sent (HEAD, 304), for the client to know.
    pub fn unsent_length(&self) -> Option<u64> {
        self.head.length.filter(|_| self.head.body == Body::None)
    }

    /// Whether the endpoint allows another request on its connection after this response.
    pub fn keep_alive(&self) -> bool {
        self.head.keep_alive
    }

    /// The fields that are forwarded if the caller drops `drop` besides those of the connection.
    pub fn fields(&self, drop: Names) -> impl Iterator<Item = Field<'a>> + 'a {
        self.head.lines.kept(self.buf, drop.with(Names::HOP))
    }

    /// Appends what `fields` gives, as lines.
    pub fn copy_fields(&self, drop: Names, out: &mut Vec<u8>) {
        self.head.lines.copy(self.buf, drop.with(Names::HOP), out);
    }

    /// Values of the fields called `name`, whatever its case. Fields that Connection named are not there.
    pub fn field(&self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.head.lines.named(self.buf, name)
    }

    /// First value of a known field.
    pub fn known(&self, name: Name) -> Option<&'a [u8]> {
        self.head.lines.known(self.buf, name)
    }
}
