//! Codec: what goes out. Heads are regenerated line by line, with exactly one framing field; fields that nobody touched
//! are copied from the buffer they were read into.
//!
//! Not here: which fields a proxy adds. The caller hands them over as whole lines, made with [`field`], so that those
//! which stay the same for a connection are made once.

use super::framing::Body;
use super::method::Version;
use super::name::Names;
use super::request::Request;
use super::response::Response;

/// What turns a client's request into ours.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// For Host. The request's own, unless a route rewrites it.
    pub authority: &'a [u8],
    /// The request's own, unless a route rewrites it.
    pub target: &'a [u8],
    /// Dropped besides the connection's fields.
    pub drop: Names,
    /// Whole lines, added after the forwarded fields.
    pub extra: &'a [u8],
    pub body: Body,
    /// Asks the endpoint to close after its response.
    pub close: bool,
}

impl<'a> Forward<'a> {
    /// The request as it is.
    pub fn of(request: &Request<'a>) -> Forward<'a> {
        Forward {
            authority: request.authority(),
            target: request.target(),
            drop: Names::NONE,
            extra: b"",
            body: request.body(),
            close: false,
        }
    }
}

/// Appends the request head for the endpoint.
pub fn forward(out: &mut Vec<u8>, request: &Request<'_>, how: &Forward<'_>) {
    out.reserve(
        MARGIN.saturating_add(how.target.len()).saturating_add(how.authority.len()).saturating_add(how.extra.len()),
    );
    for part in [request.method_token(), b" ", how.target, b" HTTP/1.1\r\nHost: ", how.authority, b"\r\n"] {
        out.extend_from_slice(part);
    }
    request.copy_fields(how.drop, out);
    out.extend_from_slice(how.extra);
    framing(out, how.body);
    if request.upgrade() {
        out.extend_from_slice(UPGRADE);
    } else if how.close {
        out.extend_from_slice(CLOSE);
    }
    out.extend_from_slice(b"\r\n");
}

/// What turns an endpoint's response into ours.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Dropped besides the connection's fields.
    pub drop: Names,
    /// Whole lines, added after the forwarded fields.
    pub extra: &'a [u8],
    /// How the body is framed for this client: see [`Reply::body`].
    pub body: Body,
    /// The client's.
    pub version: Version,
    /// Whether its connection stays open.
    pub keep_alive: bool,
}

impl Reply<'_> {
    /// The framing for a client of `version`: chunked for what has no length, or the end of the connection in HTTP/1.0.
    pub fn body(came: Body, version: Version) -> Body {
        match (came, version) {
            (Body::Chunked | Body::UntilClose, Version::Http11) => Body::Chunked,
            (Body::Chunked | Body::UntilClose, Version::Http10) => Body::UntilClose,
            (came, _) => came,
        }
    }
}

/// Appends the head of a final response for the client, or of a 101.
pub fn reply(out: &mut Vec<u8>, response: &Response<'_>, how: &Reply<'_>) {
    out.reserve(MARGIN.saturating_add(how.extra.len()));
    status_line(out, response);
    response.copy_fields(how.drop, out);
    out.extend_from_slice(how.extra);
    match response.unsent_length() {
        Some(length) => framing(out, Body::Length(length)),
        None => framing(out, how.body),
    }
    if response.status() == 101 {
        out.extend_from_slice(UPGRADE);
    } else if !how.keep_alive || how.body == Body::UntilClose {
        out.extend_from_slice(CLOSE);
    } else if how.version == Version::Http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends an interim response as the endpoint sent it.
pub fn interim(out: &mut Vec<u8>, response: &Response<'_>, drop: Names) {
    status_line(out, response);
    response.copy_fields(drop, out);
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, response: &Response<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(response.status()));
    out.push(b' ');
    out.extend_from_slice(response.reason());
    out.extend_from_slice(b"\r\n");
}

/// A response of our own: an error, a redirect, a fixed answer.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    pub status: u16,
    /// The machine-readable reason, shown as `X-Strata-Reason`.
    pub reason: Option<&'a str>,
    /// Whole lines.
    pub extra: &'a [u8],
    /// `None`: the status and its phrase.
    pub content: Option<&'a [u8]>,
    /// The request was HEAD: all but the content.
    pub head: bool,
    /// The client's.
    pub version: Version,
    pub keep_alive: bool,
}

impl<'a> Notice<'a> {
    /// An error that ends the connection.
    pub fn error(status: u16, reason: Option<&'a str>) -> Notice<'a> {
        Notice { status, reason, extra: b"", content: None, head: false, version: Version::Http11, keep_alive: false }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let phrase = phrase(self.status);
        out.extend_from_slice(b"HTTP/1.1 ");
        number(out, u64::from(self.status));
        for part in [b" ", phrase.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
        if let Some(reason) = self.reason {
            field(out, b"X-Strata-Reason", reason.as_bytes());
        }
        out.extend_from_slice(self.extra);
        let without = matches!(self.status, 100..=199 | 204 | 304);
        let mut own = Vec::new();
        let content = self.content.unwrap_or_else(|| {
            number(&mut own, u64::from(self.status));
            for part in [b" ", phrase.as_bytes(), b"\n"] {
                own.extend_from_slice(part);
            }
            &own
        });
        if !without {
            if self.content.is_none() {
                field(out, b"Content-Type", b"text/plain");
            }
            framing(out, Body::Length(content.len() as u64));
        }
        match (self.keep_alive, self.version) {
            (false, _) => out.extend_from_slice(CLOSE),
            (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (true, Version::Http11) => {}
        }
        out.extend_from_slice(b"\r\n");
        if !without && !self.head {
            out.extend_from_slice(content);
        }
    }
}

const CLOSE: &[u8] = b"Connection: close\r\n";
const UPGRADE: &[u8] = b"Connection: Upgrade\r\nUpgrade: websocket\r\n";
/// What a head has beside its fields, generously.
const MARGIN: usize = 512;

/// Appends one field line. `name` is a token and `value` has no control byte: both come from a parsed head or from us.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(super::class::value_len(value) == value.len(), "a control byte in a field value of ours");
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Appends the one field that frames a body.
pub fn framing(out: &mut Vec<u8>, body: Body) {
    match body {
        Body::None | Body::UntilClose => {}
        Body::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Body::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            number(out, length);
            out.extend_from_slice(b"\r\n");
        }
    }
}

pub fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The line before a chunk's payload; [`CHUNK_END`] goes behind it.
#[derive(Clone, Copy, Debug)]
pub struct ChunkSize {
    text: [u8; CHUNK_SIZE_BYTES],
    start: usize,
}

/// 16 digits and CRLF.
const CHUNK_SIZE_BYTES: usize = 18;
pub const CHUNK_END: &[u8] = b"\r\n";

impl ChunkSize {
    /// For a chunk of `len` bytes, which must not be zero: that would end the body.
    pub fn new(len: usize) -> ChunkSize {
        debug_assert!(len > 0, "an empty chunk ends the body");
        let mut text = *b"0000000000000000\r\n";
        let mut left = len;
        let mut start = CHUNK_SIZE_BYTES.saturating_sub(2);
        for digit in text.iter_mut().rev().skip(2) {
            let nibble = (left & 15) as u8;
            *digit = if nibble < 10 { nibble | b'0' } else { nibble.wrapping_sub(10).wrapping_add(b'a') };
            start = start.saturating_sub(1);
            left >>= 4;
            if left == 0 {
                break;
            }
        }
        ChunkSize { text, start }
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(self.start..).unwrap_or_default()
    }
}

/// Appends one chunk; nothing for no payload.
pub fn chunk(out: &mut Vec<u8>, payload: &[u8]) {
    if !payload.is_empty() {
        out.extend_from_slice(ChunkSize::new(payload.len()).as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(CHUNK_END);
    }
}

/// Appends the end of a body of this framing; `trailers` are whole lines, and only chunked bodies have room for them.
pub fn finish(out: &mut Vec<u8>, body: Body, trailers: &[u8]) {
    if body == Body::Chunked {
        out.extend_from_slice(b"0\r\n");
        out.extend_from_slice(trailers);
        out.extend_from_slice(b"\r\n");
    }
}

/// The phrase of a status (RFC 9110 §15), empty for one that nobody here sends.
pub const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
