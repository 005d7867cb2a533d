//! Codec: the field lines of a head, as spans over the caller's buffer.
//!
//! Resumable: a head that arrives in pieces is parsed line by line, and an unfinished line is only searched for its end,
//! so that a client who sends byte by byte costs linear work. Storage is kept from message to message.
//!
//! Not here: what a field means. Requests and responses decide that when the head is whole.

use memchr::memchr;

use super::class::{self, TOKEN, UNDERSCORE, trim};
use super::name::{Name, Names};
use super::reject::Reject;
use crate::base::limits;

/// How far the parse of a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again with the same bytes and more behind them.
    Partial,
    /// The head, with what came before it and the empty line, is this long.
    Complete(usize),
}

/// Bytes `start..end` of the head's buffer. Heads end below `limits::HEAD_BYTES`, so 32 bits are plenty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Span {
        // Saturation cannot happen below `HEAD_BYTES`; if it did, the span would read as empty.
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { start: narrow(start), end: narrow(end) }
    }

    /// Its bytes in the buffer it was made from; empty for any other that is too short.
    #[inline(always)]
    pub(super) fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// One field of a message, as the iterators give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub id: Name,
    /// As it was written, a token.
    pub name: &'a [u8],
    /// Without white space around it; no control byte but tab.
    pub value: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    start: u32,
    value: u32,
    value_end: u32,
    name_len: u16,
    pub(super) id: Name,
    /// Named by Connection (C1) or spelt with an underscore (B12): as if it had not been sent.
    hidden: bool,
}

/// So that the length of a name fits.
const _: () = assert!(limits::HEAD_BYTES <= u16::MAX as usize);

impl Line {
    #[inline]
    pub(super) fn name(self, buf: &[u8]) -> &[u8] {
        let start = self.start as usize;
        buf.get(start..start.saturating_add(self.name_len as usize)).unwrap_or_default()
    }

    #[inline]
    pub(super) fn value(self, buf: &[u8]) -> &[u8] {
        buf.get(self.value as usize..self.value_end as usize).unwrap_or_default()
    }

    pub(super) fn value_span(self) -> Span {
        Span { start: self.value, end: self.value_end }
    }

    /// Whether it will be forwarded, if `drop` does not name it.
    #[inline(always)]
    pub(super) fn stays(self, drop: Names) -> bool {
        !self.hidden && !drop.has(self.id)
    }

    pub(super) fn view(self, buf: &[u8]) -> Field<'_> {
        Field { id: self.id, name: self.name(buf), value: self.value(buf) }
    }
}

/// The lines of one head, and where its parse stands.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    /// Which known names came.
    seen: Names,
    /// Start of the first line that is not parsed.
    pub(super) at: usize,
    /// End of what was searched for the end of that line.
    searched: usize,
}

impl Lines {
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.seen = Names::NONE;
        self.at = 0;
        self.searched = 0;
    }

    /// What of `buf` may be parsed now: nothing while the line at `at` is known to lack its end. Never past the limit, so
    /// that the answer does not depend on how the bytes arrived.
    pub(super) fn window<'b>(&mut self, buf: &'b [u8]) -> Option<&'b [u8]> {
        let window = buf.get(..limits::HEAD_BYTES).unwrap_or(buf);
        // A first line that may be too long already is looked at whenever more of it comes (B14).
        let endless = self.at == 0 && window.len() > limits::TARGET_BYTES;
        let full = endless || window.len() == limits::HEAD_BYTES;
        if self.searched > self.at && !full {
            let news = window.get(self.searched..).unwrap_or_default();
            if memchr(b'\n', news).is_none() {
                self.searched = window.len();
                return None;
            }
        }
        self.searched = window.len();
        Some(window)
    }

    /// What an unfinished head means, given all that has arrived.
    pub(super) fn unfinished(buf: &[u8]) -> Result<Progress, Reject> {
        if buf.len() >= limits::HEAD_BYTES { Err(Reject::HeadTooLarge) } else { Ok(Progress::Partial) }
    }

    /// Parses lines from `self.at` on. `Some(end)` when the empty line was reached.
    #[inline]
    pub(super) fn parse(&mut self, window: &[u8]) -> Result<Option<usize>, Reject> {
        loop {
            let rest = window.get(self.at..).unwrap_or_default();
            match rest {
                [b'\r', b'\n', ..] => return Ok(Some(self.at.saturating_add(2))),
                [] | [b'\r'] => return Ok(None),
                [b'\r', ..] => return Err(Reject::BareCr),
                _ => {}
            }
            let Some((line, len)) = parse_line(rest, self.at)? else { return Ok(None) };
            if self.lines.len() >= limits::FIELDS {
                return Err(Reject::TooManyFields);
            }
            self.seen.add(line.id);
            self.lines.push(line);
            self.at = self.at.saturating_add(len);
        }
    }

    pub(super) fn seen(&self, name: Name) -> bool {
        self.seen.has(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Line> + '_ {
        self.lines.iter().copied()
    }

    /// The visible fields called `name`. Hidden ones are not there: what is routed on is what is forwarded.
    pub(super) fn named<'a>(&'a self, buf: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.iter()
            .filter(move |line| !line.hidden && line.name_len as usize == name.len())
            .filter(move |line| line.name(buf).eq_ignore_ascii_case(name))
            .map(move |line| line.value(buf))
    }

    /// The first visible field of a known name.
    pub(super) fn known<'a>(&'a self, buf: &'a [u8], name: Name) -> Option<&'a [u8]> {
        if !self.seen.has(name) {
            return None;
        }
        self.iter().find(|line| line.id == name && !line.hidden).map(|line| line.value(buf))
    }

    pub(super) fn kept<'a>(&'a self, buf: &'a [u8], drop: Names) -> impl Iterator<Item = Field<'a>> + 'a {
        self.iter().filter(move |line| line.stays(drop)).map(move |line| line.view(buf))
    }

    /// Appends what `kept` gives, as lines. Neighbours that were written the canonical way are copied in one go.
    pub(super) fn copy(&self, buf: &[u8], drop: Names, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for line in &self.lines {
            if !line.stays(drop) {
                continue;
            }
            let start = line.start as usize;
            if line.tidy(buf) {
                if run.end != start {
                    out.extend_from_slice(buf.get(run).unwrap_or_default());
                    run = start..start;
                }
                run.end = (line.value_end as usize).saturating_add(2);
                continue;
            }
            out.extend_from_slice(buf.get(run).unwrap_or_default());
            run = 0..0;
            for part in [line.name(buf), b": ", line.value(buf), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(buf.get(run).unwrap_or_default());
    }

    /// Reads Connection: what it says of the connection, and hides the fields it names (C1).
    pub(super) fn connection(&mut self, buf: &[u8]) -> Result<Options, Reject> {
        let mut options = Options::default();
        if !self.seen.has(Name::Connection) {
            return Ok(options);
        }
        let mut named = 0_usize;
        for at in 0..self.lines.len() {
            let Some(line) = self.lines.get(at).filter(|line| line.id == Name::Connection) else { continue };
            for option in line.value(buf).split(|&b| b == b',') {
                let option = trim(option);
                if !option.iter().all(|&b| class::is(b, TOKEN)) {
                    return Err(Reject::BadConnection);
                }
                if option.is_empty() {
                    continue;
                }
                named = named.saturating_add(1);
                if named > limits::CONNECTION_OPTIONS {
                    return Err(Reject::BadConnection);
                }
                if options.add(option) {
                    self.hide(buf, option);
                }
            }
        }
        Ok(options)
    }

    fn hide(&mut self, buf: &[u8], name: &[u8]) {
        for line in &mut self.lines {
            if line.name_len as usize == name.len()
                && !Names::PROTECTED.has(line.id)
                && line.name(buf).eq_ignore_ascii_case(name)
            {
                line.hidden = true;
            }
        }
    }
}

impl Line {
    /// `Name: value CRLF` with one space before the value and none behind it. The line was checked when it was parsed, so
    /// three places tell.
    #[inline]
    fn tidy(&self, buf: &[u8]) -> bool {
        let colon = (self.start as usize).saturating_add(self.name_len as usize);
        self.value as usize == colon.saturating_add(2)
            && buf.get(self.value_end as usize) == Some(&b'\r')
            && buf.get(colon.saturating_add(1)) == Some(&b' ')
    }
}

/// What Connection says about the connection itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

impl Options {
    /// Takes one option. True if it may name a field; those that are dropped anyway need not be looked for.
    fn add(&mut self, option: &[u8]) -> bool {
        if option.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return false;
        }
        if option.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
            return false;
        }
        self.close |= option.eq_ignore_ascii_case(b"close");
        true
    }
}

/// Parses the line that `bytes` begin with; `at` is where they stand in the buffer. `None` while its end is missing.
#[inline]
pub(super) fn parse_line(bytes: &[u8], at: usize) -> Result<Option<(Line, usize)>, Reject> {
    let mut seen = 0;
    let end = bytes.iter().position(|&byte| {
        let class = class::class(byte);
        seen |= class;
        class & TOKEN == 0
    });
    let Some((name_len, &stop)) = end.and_then(|end| Some((end, bytes.get(end)?))) else { return Ok(None) };
    if stop != b':' || name_len == 0 {
        return Err(bad_name(stop, name_len));
    }
    let name = bytes.get(..name_len).unwrap_or_default();
    let mut rest = bytes.get(name_len.saturating_add(1)..).unwrap_or_default();
    while let [b' ' | b'\t', after @ ..] = rest {
        rest = after;
    }
    let value = bytes.len().saturating_sub(rest.len());
    let len = class::value_len(rest);
    match rest.get(len..).unwrap_or_default() {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] => return Ok(None),
        [b'\r', ..] => return Err(Reject::BareCr),
        [b'\n', ..] => return Err(Reject::BareLf),
        _ => return Err(Reject::ControlInValue),
    }
    let mut trimmed = rest.get(..len).unwrap_or_default();
    while let [shorter @ .., b' ' | b'\t'] = trimmed {
        trimmed = shorter;
    }
    let end = value.saturating_add(len).saturating_add(2);
    let start = at.saturating_add(value);
    let span = Span::new(start, start.saturating_add(trimmed.len()));
    let line = Line {
        start: Span::new(at, at).start,
        value: span.start,
        value_end: span.end,
        name_len: u16::try_from(name_len).unwrap_or(u16::MAX),
        id: Name::of(name),
        hidden: seen & UNDERSCORE != 0,
    };
    Ok(Some((line, end)))
}

#[cold]
fn bad_name(stop: u8, name_len: usize) -> Reject {
    match (stop, name_len) {
        (b':', _) => Reject::EmptyName,
        (b'\n', _) => Reject::BareLf,
        (b' ' | b'\t', 0) => Reject::ObsFold,
        (b' ' | b'\t', _) => Reject::SpaceBeforeColon,
        (b'\r', _) => Reject::NoColon,
        _ => Reject::BadName,
    }
}
