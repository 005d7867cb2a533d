//! Codec: hosts. `EXAMPLE.com.:080` and `example.com` are one authority, and only its canonical form leaves here (B2, B11).
//!
//! Stricter than RFC 3986: letters, digits, `-`, `_`, `.`, or an IPv6 literal. No escapes, no userinfo, no zone.

use std::io::Write as _;
use std::net::Ipv6Addr;

use super::class::{self, HOST};
use super::reject::Reject;

/// RFC 1035 §2.3.4, in text.
const HOST_BYTES: usize = 253;

/// Length of the host if `raw` is canonical already, as nearly all are.
#[inline]
pub(super) fn plain(raw: &[u8], default_port: u16) -> Option<usize> {
    let colon = raw.iter().position(|&b| b == b':').unwrap_or(raw.len());
    let (host, port) = raw.split_at_checked(colon)?;
    let canonical = match port {
        [] => true,
        [b':', b'1'..=b'9', ..] => self::port(port).is_ok_and(|port| port.is_some_and(|port| port != default_port)),
        _ => false,
    };
    (canonical && plain_host(host)).then_some(colon)
}

fn plain_host(raw: &[u8]) -> bool {
    if raw.is_empty() || raw.len() > HOST_BYTES {
        return false;
    }
    let mut after_dot = true;
    for &byte in raw {
        if byte == b'.' {
            if after_dot {
                return false;
            }
            after_dot = true;
        } else if class::is(byte, HOST) {
            after_dot = false;
        } else {
            return false;
        }
    }
    !after_dot
}

/// Appends the canonical form of `raw` and says how much of it is the host, the rest being `:port`.
pub(super) fn canonical(raw: &[u8], default_port: u16, out: &mut Vec<u8>) -> Result<usize, Reject> {
    let from = out.len();
    let port = if raw.first() == Some(&b'[') {
        let close = raw.iter().position(|&b| b == b']').ok_or(Reject::BadHost)?;
        let literal = std::str::from_utf8(raw.get(1..close).unwrap_or_default()).map_err(|_| Reject::BadHost)?;
        let address: Ipv6Addr = literal.parse().map_err(|_| Reject::BadHost)?;
        let _ = write!(out, "[{address}]");
        raw.get(close.saturating_add(1)..).unwrap_or_default()
    } else {
        let colon = raw.iter().position(|&b| b == b':').unwrap_or(raw.len());
        let (name, port) = raw.split_at_checked(colon).unwrap_or((raw, b""));
        let name = name.strip_suffix(b".").unwrap_or(name);
        out.extend(name.iter().map(u8::to_ascii_lowercase));
        if !plain_host(out.get(from..).unwrap_or_default()) {
            return Err(Reject::BadHost);
        }
        port
    };
    let host_len = out.len().saturating_sub(from);
    if let Some(port) = self::port(port)?.filter(|port| *port != default_port) {
        let _ = write!(out, ":{port}");
    }
    Ok(host_len)
}

/// Nothing, `:`, or `:port`.
fn port(raw: &[u8]) -> Result<Option<u16>, Reject> {
    let digits = match raw {
        [] | [b':'] => return Ok(None),
        [b':', digits @ ..] => digits,
        _ => return Err(Reject::BadHost),
    };
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Reject::BadHost);
    }
    let port = digits
        .iter()
        .fold(0_u32, |port, digit| port.saturating_mul(10).saturating_add(u32::from(digit.wrapping_sub(b'0'))));
    match u16::try_from(port) {
        Ok(0) | Err(_) => Err(Reject::BadHost),
        Ok(port) => Ok(Some(port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_canonical_form_or_none() {
        for (raw, want) in [
            ("example.com", Some("example.com")),
            ("EXAMPLE.com.", Some("example.com")),
            ("example.com:80", Some("example.com")),
            ("example.com:00080", Some("example.com")),
            ("example.com:", Some("example.com")),
            ("example.com.:8080", Some("example.com:8080")),
            ("example.com:8080", Some("example.com:8080")),
            ("a_b-c.d", Some("a_b-c.d")),
            ("10.0.0.1:443", Some("10.0.0.1:443")),
            ("[::1]", Some("[::1]")),
            ("[2001:DB8:0::1]:8080", Some("[2001:db8::1]:8080")),
            ("[::ffff:10.0.0.1]:80", Some("[::ffff:10.0.0.1]")),
            ("", None),
            (".", None),
            ("..", None),
            (":80", None),
            ("a..b", None),
            (".a", None),
            ("a.com..", None),
            ("user@a.com", None),
            ("a.com/x", None),
            ("a b", None),
            ("a.com, b.com", None),
            ("a.com:65536", None),
            ("a.com:0", None),
            ("a.com:80:80", None),
            ("a.com:8x", None),
            ("a.com:+80", None),
            ("a%2ecom", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[fe80::1%25eth0]", None),
            ("[1.2.3.4]", None),
            ("::1", None),
            ("b\u{e4}r.de", None),
        ] {
            let mut out = b"before".to_vec();
            let got =
                canonical(raw.as_bytes(), 80, &mut out).ok().map(|_| String::from_utf8(out[6..].to_vec()).unwrap());
            assert_eq!(got.as_deref(), want, "{raw}");
            let by_name = want.filter(|want| *want == raw && !raw.starts_with('['));
            let host_len = by_name.map(|name| name.split(':').next().unwrap().len());
            assert_eq!(plain(raw.as_bytes(), 80), host_len, "{raw} is known to be canonical at once");
        }
        assert_eq!(plain("a".repeat(254).as_bytes(), 80), None);
    }
}
