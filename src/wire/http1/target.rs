//! Codec: request targets. A path is brought into its one canonical form, which is both routed on and forwarded, so that
//! no endpoint can see another path than the route table did (B5-B10).
//!
//! Canonical: no dot segments, no empty segments, escapes only where needed and in upper case, decoded once. What cannot
//! be told apart safely (`%2f`, `\`, `%00`, escapes of escapes) is refused. The query is opaque: it is checked, not changed.

use super::class::{self, PATH, QUERY, UNRESERVED, hex};
use super::reject::Reject;
use crate::base::limits;

/// A raw origin-form target at the beginning of what was scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) len: usize,
    pub(super) path_len: usize,
    /// The path is not canonical, or may not be.
    pub(super) messy: bool,
}

/// Scans the target that `bytes` begin with up to the space behind it. `None` while that has not arrived.
#[inline]
pub(super) fn scan(bytes: &[u8]) -> Result<Option<Scan>, Reject> {
    let limit = limits::TARGET_BYTES.saturating_add(1);
    let bytes = bytes.get(..limit).unwrap_or(bytes);
    let unfinished = if bytes.len() == limit { Err(Reject::TargetTooLong) } else { Ok(None) };
    let mut rest = bytes;
    let mut messy = false;
    let path_len = loop {
        let Some((at, &byte)) = first_not(rest, PATH) else { return unfinished };
        let behind = rest.get(at.saturating_add(1)..).unwrap_or_default();
        match (byte, behind) {
            (b'/', [b'/' | b'.', ..]) | (b'%', _) => messy = true,
            (b'/', []) => return unfinished,
            (b'/', _) => {}
            (b'?', _) => {
                rest = behind;
                break bytes.len().saturating_sub(behind.len()).saturating_sub(1);
            }
            (b' ', _) => {
                let len = bytes.len().saturating_sub(behind.len()).saturating_sub(1);
                return Ok(Some(Scan { len, path_len: len, messy }));
            }
            _ => return Err(bad_byte(byte)),
        }
        rest = behind;
    };
    loop {
        let Some((at, &byte)) = first_not(rest, QUERY) else { return unfinished };
        let behind = rest.get(at.saturating_add(1)..).unwrap_or_default();
        match (byte, behind) {
            (b' ', _) => {
                let len = bytes.len().saturating_sub(behind.len()).saturating_sub(1);
                return Ok(Some(Scan { len, path_len, messy }));
            }
            (b'%', [b'0', b'0', ..]) => return Err(Reject::EscapedControl),
            (b'%', [] | [b'0']) => return unfinished,
            (b'%', _) => {}
            _ => return Err(bad_byte(byte)),
        }
        rest = behind;
    }
}

/// The first byte that is not of `class`, and where it stands.
#[inline(always)]
fn first_not(bytes: &[u8], class: u8) -> Option<(usize, &u8)> {
    bytes.iter().enumerate().find(|(_, byte)| !class::is(**byte, class))
}

#[cold]
fn bad_byte(byte: u8) -> Reject {
    match byte {
        b'#' => Reject::FragmentInTarget,
        b'\\' => Reject::EscapedSlash,
        b'\n' => Reject::BareLf,
        b'\r' => Reject::BadRequestLine,
        _ => Reject::BadTarget,
    }
}

/// Appends the canonical form of `path`, which begins with `/` and holds no byte that `scan` refuses.
pub(super) fn normalise(path: &[u8], out: &mut Vec<u8>) -> Result<(), Reject> {
    let root = out.len();
    out.push(b'/');
    let mut segments = path.split(|&b| b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        // `out` ends in a slash here.
        let mark = out.len();
        decode(segment, out)?;
        let last = segments.peek().is_none();
        match out.get(mark..).unwrap_or_default() {
            b"" => {}
            b"." => out.truncate(mark),
            b".." => {
                out.truncate(mark);
                pop(out, root);
            }
            [b'.', b';', ..] | [b'.', b'.', b';', ..] => return Err(Reject::DotSegmentParameter),
            _ if last => {}
            _ => out.push(b'/'),
        }
    }
    Ok(())
}

/// Removes the last segment of a path that ends in a slash; the root stays.
fn pop(out: &mut Vec<u8>, root: usize) {
    let above = out.get(root..).unwrap_or_default().strip_suffix(b"/").unwrap_or_default();
    let keep = above.iter().rposition(|&b| b == b'/').unwrap_or(0);
    out.truncate(root.saturating_add(keep).saturating_add(1));
}

fn decode(segment: &[u8], out: &mut Vec<u8>) -> Result<(), Reject> {
    let mut rest = segment;
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            out.push(byte);
            rest = after;
            continue;
        }
        let byte = escaped(rest).ok_or(Reject::BadEscape)?;
        let after = rest.get(3..).unwrap_or_default();
        match byte {
            0..=0x1f | 0x7f => return Err(Reject::EscapedControl),
            b'/' | b'\\' => return Err(Reject::EscapedSlash),
            b'%' if matches!(after, [a, b, ..] if hex(*a).is_some() && hex(*b).is_some()) => {
                return Err(Reject::DoubleEscape);
            }
            0x80.. => {
                rest = utf8(rest, out)?;
                continue;
            }
            _ if class::is(byte, UNRESERVED) => out.push(byte),
            _ => push_escape(byte, out),
        }
        rest = after;
    }
    Ok(())
}

/// The byte that the escape at the beginning of `bytes` stands for.
fn escaped(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', a, b, ..] => Some(hex(*a)?.wrapping_shl(4) | hex(*b)?),
        _ => None,
    }
}

fn push_escape(byte: u8, out: &mut Vec<u8>) {
    let digit = |nibble: u8| if nibble < 10 { nibble | b'0' } else { nibble.wrapping_sub(10).wrapping_add(b'A') };
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
}

/// Copies one escaped character beyond ASCII, canonically, if it is valid UTF-8.
fn utf8<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Reject> {
    let mut character = [0; 4];
    let mut rest = bytes;
    let mut len = 0_usize;
    for (place, want) in character.iter_mut().zip(1_usize..) {
        let byte = escaped(rest).ok_or(Reject::EscapedNotUtf8)?;
        *place = byte;
        rest = rest.get(3..).unwrap_or_default();
        len = want;
        let lead = bytes.get(..3).and_then(escaped).unwrap_or_default();
        if want >= lead.leading_ones() as usize {
            break;
        }
    }
    let character = character.get(..len).unwrap_or_default();
    if std::str::from_utf8(character).is_err() {
        return Err(Reject::EscapedNotUtf8);
    }
    for &byte in character {
        push_escape(byte, out);
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(path: &str) -> Result<String, Reject> {
        let line = format!("{path} ");
        let scan = scan(line.as_bytes())?.unwrap();
        assert_eq!(scan.len, path.len(), "{path}");
        let mut out = b"x".to_vec();
        normalise(&path.as_bytes()[..scan.path_len], &mut out)?;
        let text = String::from_utf8(out[1..].to_vec()).unwrap();
        assert!(scan.messy || text == path[..scan.path_len], "{path} is messy");
        Ok(text)
    }

    #[test]
    fn b6_b8_a_path_has_one_canonical_form() {
        for (path, want) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a/"),
            ("/a/../admin", "/admin"),
            ("/a/%2e%2e/admin", "/admin"),
            ("/a/.%2E/admin", "/admin"),
            ("/../../x", "/x"),
            ("/..", "/"),
            ("/.", "/"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/./b", "/a/b"),
            ("//admin", "/admin"),
            ("/a//b///c//", "/a/b/c/"),
            ("/a//../b", "/b"),
            ("/%61dmin", "/admin"),
            ("/a%3fb%23c%20d", "/a%3Fb%23c%20d"),
            ("/%25", "/%25"),
            ("/%25zz", "/%25zz"),
            ("/%c3%a4", "/%C3%A4"),
            ("/%F0%9f%98%80x", "/%F0%9F%98%80x"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a..b", "/a..b"),
            ("/a;v=1/b:c@d!$&'()*+,=", "/a;v=1/b:c@d!$&'()*+,="),
        ] {
            let got = canonical(path);
            assert_eq!(got.as_deref(), Ok(want), "{path}");
            assert_eq!(canonical(want).as_deref(), Ok(want), "normalising {path} twice changes nothing");
        }
    }

    #[test]
    fn b7_b9_b10_what_cannot_be_told_apart_safely_is_refused() {
        for (path, want) in [
            ("/a%2fb", Reject::EscapedSlash),
            ("/a%2Fb", Reject::EscapedSlash),
            ("/a%5cb", Reject::EscapedSlash),
            ("/a\\b", Reject::EscapedSlash),
            ("/a#b", Reject::FragmentInTarget),
            ("/a?b#c", Reject::FragmentInTarget),
            ("/%00", Reject::EscapedControl),
            ("/a?b=%00", Reject::EscapedControl),
            ("/%0d%0aX:y", Reject::EscapedControl),
            ("/%7f", Reject::EscapedControl),
            ("/%252e%252e/", Reject::DoubleEscape),
            ("/%252f", Reject::DoubleEscape),
            ("/%c0%af", Reject::EscapedNotUtf8),
            ("/%e0%80%af", Reject::EscapedNotUtf8),
            ("/%ff", Reject::EscapedNotUtf8),
            ("/%c3", Reject::EscapedNotUtf8),
            ("/%c3a", Reject::EscapedNotUtf8),
            ("/%ed%a0%80", Reject::EscapedNotUtf8),
            ("/%f4%90%80%80", Reject::EscapedNotUtf8),
            ("/%", Reject::BadEscape),
            ("/%1", Reject::BadEscape),
            ("/%zz", Reject::BadEscape),
            ("/a/..;/b", Reject::DotSegmentParameter),
            ("/%2e%2e;x/b", Reject::DotSegmentParameter),
            ("/\u{e4}", Reject::BadTarget),
            ("/a<b>", Reject::BadTarget),
            ("/\u{1}", Reject::BadTarget),
        ] {
            assert_eq!(canonical(path), Err(want), "{path}");
        }
    }

    #[test]
    fn b14_a_target_has_a_limit_however_it_arrives() {
        let longest = format!("/{} ", "a".repeat(limits::TARGET_BYTES - 1));
        assert_eq!(scan(longest.as_bytes()).unwrap().unwrap().len, limits::TARGET_BYTES);
        let longer = format!("/{}", "a".repeat(limits::TARGET_BYTES));
        assert_eq!(scan(longer.as_bytes()), Err(Reject::TargetTooLong));
        assert_eq!(scan(&longer.as_bytes()[..100]), Ok(None));
    }
}
