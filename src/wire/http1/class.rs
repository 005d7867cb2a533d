//! Codec: what a byte may be. One table for all questions, and the scans that use it.
//!
//! The scan over field values tests eight bytes at a time; everything else looks bytes up, one cycle each.

/// A byte of a token: method, field name, connection option (RFC 9110 §5.6.2).
pub(super) const TOKEN: u8 = 1 << 0;
/// `_`: a token byte that turns `X_Forwarded_For` into `X-Forwarded-For` in CGI's world (B12).
pub(super) const UNDERSCORE: u8 = 1 << 1;
/// A byte that may stand in a path and needs no second look.
pub(super) const PATH: u8 = 1 << 2;
/// A byte that may stand in a query: all that is visible but `#` and `%`.
pub(super) const QUERY: u8 = 1 << 3;
/// A byte of a canonical host: lower-case letter, digit, `-`, `_`. The dot is looked at apart.
pub(super) const HOST: u8 = 1 << 4;
/// RFC 3986 §2.3: what an escape may be decoded to.
pub(super) const UNRESERVED: u8 = 1 << 5;

static CLASS: [u8; 256] = table();

#[allow(clippy::indexing_slicing, reason = "a byte always finds its entry among 256, and the bounds check is elided")]
#[inline(always)]
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

#[allow(clippy::indexing_slicing, reason = "as above")]
#[inline(always)]
pub(super) fn class(byte: u8) -> u8 {
    CLASS[byte as usize]
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "runs in the compiler only")]
const fn table() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let alnum = byte.is_ascii_alphanumeric();
        let mut class = 0;
        if alnum
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            )
        {
            class |= TOKEN;
        }
        if byte == b'_' {
            class |= UNDERSCORE;
        }
        let visible = byte.is_ascii_graphic();
        if visible && !matches!(byte, b'/' | b'%' | b'?' | b'#' | b'\\' | b'"' | b'<' | b'>') {
            class |= PATH;
        }
        if visible && !matches!(byte, b'#' | b'%') {
            class |= QUERY;
        }
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_') {
            class |= HOST;
        }
        if alnum || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            class |= UNRESERVED;
        }
        table[at] = class;
        at += 1;
    }
    table
}

/// Length of the longest start of `bytes` that a field value may hold: anything but control bytes, tab excepted.
#[inline]
pub(super) fn value_len(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        let bad = controls(u64::from_le_bytes(*chunk));
        if bad == 0 {
            rest = after;
            continue;
        }
        let clean = (bad.trailing_zeros() / 8) as usize;
        if chunk.get(clean) != Some(&b'\t') {
            return bytes.len().saturating_sub(rest.len()).saturating_add(clean);
        }
        rest = rest.get(clean.saturating_add(1)..).unwrap_or_default();
    }
    let tail = rest.iter().position(|&b| (b < 0x20 && b != b'\t') || b == 0x7f).unwrap_or(rest.len());
    bytes.len().saturating_sub(rest.len()).saturating_add(tail)
}

/// The high bit of each byte below 0x20 or equal to 0x7f. Exact for the lowest such byte, as borrows only travel upwards
/// from one (Bit Twiddling Hacks, "hasless").
#[inline(always)]
fn controls(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let low = word.wrapping_sub(ONES.wrapping_mul(0x20)) & !word;
    let delete = word ^ ONES.wrapping_mul(0x7f);
    let delete = delete.wrapping_sub(ONES) & !delete;
    (low | delete) & HIGH
}

/// `value` without spaces and tabs around it.
#[inline]
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

pub(super) fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(byte.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_at_the_first_control_byte_wherever_it_stands() {
        for len in 0..40 {
            for at in 0..len {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b'a'; len];
                    bytes[at] = byte;
                    let bad = (byte < 0x20 && byte != b'\t') || byte == 0x7f;
                    assert_eq!(value_len(&bytes), if bad { at } else { len }, "{byte} at {at} of {len}");
                }
            }
        }
        assert_eq!(value_len(b"\t\t\t\t\t\t\t\t\t\t\0"), 10);
        assert_eq!(value_len(b"a\tb\tccccccc\r\n"), 11);
    }
}
