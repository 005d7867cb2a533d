//! Codec: how long a body is. Content-Length and Transfer-Encoding, read strictly: a message that could be read two ways
//! is refused (A1-A12), because the endpoint might read it the other way.

use super::class::{self, TOKEN, trim};
use super::fields::Lines;
use super::method::Version;
use super::name::Name;
use super::reject::Reject;

/// The framing of a body, as it came or as it is to go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// No body, and no field that speaks of one.
    #[default]
    None,
    Length(u64),
    Chunked,
    /// Until the connection ends; responses only.
    UntilClose,
}

impl Body {
    /// Whether nothing follows the head.
    pub const fn is_empty(self) -> bool {
        matches!(self, Body::None | Body::Length(0))
    }
}

/// What the framing fields of a head say.
pub(super) struct Framing {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
}

pub(super) fn read(lines: &Lines, buf: &[u8], version: Version) -> Result<Framing, Reject> {
    let mut framing = Framing { length: None, chunked: false };
    if !lines.seen(Name::ContentLength) && !lines.seen(Name::TransferEncoding) {
        return Ok(framing);
    }
    for line in lines.iter() {
        if line.id == Name::ContentLength {
            if framing.length.is_some() {
                return Err(Reject::RepeatedLength);
            }
            framing.length = Some(length(line.value(buf))?);
        }
        if line.id == Name::TransferEncoding {
            if framing.chunked {
                return Err(Reject::RepeatedEncoding);
            }
            encoding(line.value(buf))?;
            framing.chunked = true;
        }
    }
    if framing.chunked && framing.length.is_some() {
        return Err(Reject::LengthAndEncoding);
    }
    if framing.chunked && version == Version::Http10 {
        return Err(Reject::EncodingInOldVersion);
    }
    Ok(framing)
}

/// Decimal digits and nothing else, leading zeros allowed (A4-A7).
fn length(value: &[u8]) -> Result<u64, Reject> {
    if value.is_empty() {
        return Err(Reject::BadLength);
    }
    if value.contains(&b',') {
        return Err(Reject::RepeatedLength);
    }
    let mut total = 0_u64;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return Err(Reject::BadLength);
        }
        let digit = u64::from(byte.wrapping_sub(b'0'));
        total = total.checked_mul(10).and_then(|t| t.checked_add(digit)).ok_or(Reject::BadLength)?;
    }
    Ok(total)
}

/// `chunked`, alone (A8-A11).
fn encoding(value: &[u8]) -> Result<(), Reject> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut chunked = 0_u32;
    let mut last_is_chunked = false;
    for coding in value.split(|&b| b == b',').map(trim) {
        if coding.is_empty() || !coding.iter().all(|&b| class::is(b, TOKEN)) {
            return Err(Reject::BadEncoding);
        }
        last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        chunked = chunked.saturating_add(u32::from(last_is_chunked));
    }
    match (chunked, last_is_chunked) {
        (1, true) => Err(Reject::UnsupportedEncoding),
        (2.., _) => Err(Reject::RepeatedEncoding),
        _ => Err(Reject::BadEncoding),
    }
}
