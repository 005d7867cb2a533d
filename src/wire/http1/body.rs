//! Codec: reading bodies. A `Decoder` is fed what was read and says where the payload stands in it.
//!
//! Payload is never copied into storage of ours: `Pieces` are ranges of the caller's buffer, to be written from there. Of
//! a chunked body, small neighbours are moved together in that buffer, so that one read makes one write of few parts.
//!
//! ```text
//! Length(n) ── n bytes ──────────────────────────────────────────────────┐
//! UntilClose ── finish_at_close ─────────────────────────────────────────┤
//! Size ─┬─ CR ──────────┬─ SizeLf ─┬─ Data ─ DataCr ─ DataLf ─ Size      ├─ Done
//!       └─ ; Extension ─┘          └─ size 0: Trailers ─ empty line ─────┘
//! ```
//!
//! Not here: a cap on the body's size, what an unfinished body means to a client.

use std::ops::Range;

use memchr::memchr;
use smallvec::SmallVec;

use super::class::hex;
use super::fields::parse_line;
use super::framing::Body;
use super::name::Names;
use super::reject::Reject;
use crate::base::limits;

/// Where one call found payload: ascending ranges of the caller's buffer.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// Bytes of the input that are used up: all, unless the body ended before them.
    pub consumed: usize,
    /// Sum of the ranges.
    pub total: usize,
    /// Start and end; buffers are far below 4 GiB, and this travels with every exchange.
    ranges: SmallVec<[(u32, u32); PIECES]>,
}

/// Parts of one write. Payload beyond is moved together.
const PIECES: usize = 16;
/// Payload up to this is moved next to its neighbour: cheaper than a part of its own in a write.
const MOVE_BYTES: usize = 2048;

impl Pieces {
    /// How many ranges there are.
    pub fn count(&self) -> usize {
        self.ranges.len()
    }

    /// The pieces themselves. `buf` is the buffer that was decoded.
    pub fn slices<'a>(&'a self, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.ranges.iter().map(|&(start, end)| buf.get(start as usize..end as usize).unwrap_or_default())
    }

    fn clear(&mut self) {
        self.consumed = 0;
        self.total = 0;
        self.ranges.clear();
    }

    fn push(&mut self, buf: &mut [u8], piece: Range<usize>) {
        let len = piece.len();
        let (Ok(start), Ok(end)) = (u32::try_from(piece.start), u32::try_from(piece.end)) else { return };
        if len == 0 {
            return;
        }
        self.total = self.total.saturating_add(len);
        let full = self.ranges.len() == PIECES;
        match self.ranges.last_mut() {
            // What lies between was framing, and is used up.
            Some((_, last)) if (full || len <= MOVE_BYTES) && piece.end <= buf.len() && *last <= start => {
                buf.copy_within(piece, *last as usize);
                *last = last.saturating_add(end.saturating_sub(start));
            }
            _ => self.ranges.push((start, end)),
        }
    }
}

/// Reads one body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// What is left for chunk extensions.
    extensions_left: usize,
    trailers: Trailers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    Size { size: u64, digits: usize },
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
}

#[derive(Debug, Default)]
struct Trailers {
    /// Lines that may be relayed, as they will be written.
    kept: Vec<u8>,
    /// The beginning of a line whose end has not arrived.
    unfinished: Vec<u8>,
    bytes: usize,
    fields: usize,
}

impl Decoder {
    pub fn new(body: Body) -> Decoder {
        let state = match body {
            Body::None | Body::Length(0) => State::Done,
            Body::Length(left) => State::Length(left),
            Body::Chunked => State::Size { size: 0, digits: 0 },
            Body::UntilClose => State::UntilClose,
        };
        Decoder { state, extensions_left: limits::CHUNK_EXTENSION_BYTES, trailers: Trailers::default() }
    }

    /// Whether the whole body has been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Payload that is still to come for sure, if that is known.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// `n` bytes of payload were carried past the decoder, where [`Decoder::left`] said that at least as many were to come.
    pub fn skip(&mut self, n: u64) {
        if let State::Length(left) = self.state {
            let left = left.saturating_sub(n);
            self.state = if left == 0 { State::Done } else { State::Length(left) };
        }
    }

    /// Trailer fields that may be relayed (A24), as lines. Whole once `is_done`.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers.kept
    }

    /// Reads on. Of a chunked body, payload may be moved towards the front of `input`; what is not consumed stays.
    ///
    /// # Errors
    /// Why the body cannot be read on. Payload found before the mistake is in `pieces`.
    pub fn decode(&mut self, input: &mut [u8], pieces: &mut Pieces) -> Result<(), Reject> {
        pieces.clear();
        // Ranges are 32 bits wide; what lies beyond is for the next call.
        let most = input.len().min(u32::MAX as usize);
        while pieces.consumed < most && self.state != State::Done {
            let rest = input.get(pieces.consumed..most).unwrap_or_default();
            let (used, payload) = self.step(rest)?;
            let start = pieces.consumed;
            pieces.consumed = start.saturating_add(used);
            if payload {
                pieces.push(input, start..pieces.consumed);
            }
        }
        Ok(())
    }

    /// The connection ended.
    ///
    /// # Errors
    /// `Truncated` if the body had not (A23).
    pub fn finish_at_close(&mut self) -> Result<(), Reject> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Reject::Truncated),
        }
    }

    /// One step over `rest`, which is not empty: how much of it is used up, and whether that was payload.
    #[inline]
    fn step(&mut self, rest: &[u8]) -> Result<(usize, bool), Reject> {
        let Some(&byte) = rest.first() else { return Ok((0, false)) };
        self.state = match self.state {
            State::Done => return Ok((0, false)),
            State::UntilClose => return Ok((rest.len(), true)),
            State::Length(left) => {
                let (used, left) = take(rest, left);
                self.state = if left == 0 { State::Done } else { State::Length(left) };
                return Ok((used, true));
            }
            State::Data(left) => {
                let (used, left) = take(rest, left);
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                return Ok((used, true));
            }
            State::Size { size, digits } => size_byte(byte, size, digits)?,
            State::Extension(size) => {
                let used = self.extension(rest)?;
                if used < rest.len() {
                    self.state = State::SizeLf(size);
                    return Ok((used.saturating_add(1), false));
                }
                return Ok((used, false));
            }
            State::SizeLf(size) if byte == b'\n' => {
                if size == 0 {
                    State::Trailers
                } else {
                    State::Data(size)
                }
            }
            State::SizeLf(_) => return Err(Reject::BareCr),
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { size: 0, digits: 0 },
            State::DataCr | State::DataLf => return Err(Reject::BadChunkEnd),
            State::Trailers => return self.trailer(rest).map(|used| (used, false)),
        };
        Ok((1, false))
    }

    /// Passes over an extension (dropped, never relayed) up to its CR, or to the end of `rest` (A20, A21).
    fn extension(&mut self, rest: &[u8]) -> Result<usize, Reject> {
        let len = super::class::value_len(rest);
        match rest.get(len) {
            None | Some(b'\r') => {}
            Some(_) => return Err(Reject::BadChunkExtension),
        }
        self.extensions_left = self.extensions_left.checked_sub(len).ok_or(Reject::ChunkExtensionsTooLong)?;
        Ok(len)
    }

    /// Takes one trailer line, or what there is of it.
    fn trailer(&mut self, rest: &[u8]) -> Result<usize, Reject> {
        let end = memchr(b'\n', rest).map(|at| at.saturating_add(1));
        let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        self.trailers.bytes = self.trailers.bytes.saturating_add(part.len());
        if self.trailers.bytes > limits::TRAILER_BYTES {
            return Err(Reject::TrailersTooLarge);
        }
        if end.is_none() {
            self.trailers.unfinished.extend_from_slice(part);
            return Ok(part.len());
        }
        let done = if self.trailers.unfinished.is_empty() {
            self.trailers.line(part)?
        } else {
            let mut line = std::mem::take(&mut self.trailers.unfinished);
            line.extend_from_slice(part);
            let done = self.trailers.line(&line)?;
            line.clear();
            self.trailers.unfinished = line;
            done
        };
        if done {
            self.state = State::Done;
        }
        Ok(part.len())
    }
}

impl Trailers {
    /// Takes a whole line. True for the empty one.
    fn line(&mut self, line: &[u8]) -> Result<bool, Reject> {
        match line {
            b"\r\n" => return Ok(true),
            b"\n" => return Err(Reject::BareLf),
            [b'\r', ..] => return Err(Reject::BareCr),
            _ => {}
        }
        let (parsed, _) = parse_line(line, 0)?.ok_or(Reject::BareCr)?;
        self.fields = self.fields.saturating_add(1);
        if self.fields > limits::FIELDS {
            return Err(Reject::TrailersTooLarge);
        }
        if parsed.stays(Names::NOT_IN_TRAILERS) {
            for part in [parsed.name(line), b": ", parsed.value(line), b"\r\n"] {
                self.kept.extend_from_slice(part);
            }
        }
        Ok(false)
    }
}

/// How much of `rest` belongs to the next `left` bytes, and what is left of those after it.
#[inline]
fn take(rest: &[u8], left: u64) -> (usize, u64) {
    let used = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
    (used, left.saturating_sub(used as u64))
}

/// A19: 1 to 16 hexadecimal digits, then CR or `;`.
#[inline]
fn size_byte(byte: u8, size: u64, digits: usize) -> Result<State, Reject> {
    if let Some(digit) = hex(byte) {
        if digits >= limits::CHUNK_SIZE_DIGITS {
            return Err(Reject::BadChunkSize);
        }
        return Ok(State::Size { size: size.wrapping_shl(4) | u64::from(digit), digits: digits.saturating_add(1) });
    }
    match byte {
        b'\r' if digits > 0 => Ok(State::SizeLf(size)),
        b';' if digits > 0 => Ok(State::Extension(size)),
        b'\n' => Err(Reject::BareLf),
        _ => Err(Reject::BadChunkSize),
    }
}
