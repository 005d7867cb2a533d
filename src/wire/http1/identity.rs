//! Codec: what a proxy adds to a request: who the client is, and that we were here.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::method::Version;
use super::name::{Name, Names};
use super::request::Request;
use super::write::{field, number};

/// Appends `X-Forwarded-For`, `-Proto`, `-Host` and `Via` to `out`, and says which of the client's own fields are dropped.
///
/// A trusted peer's chain is extended and its `-Proto` and `-Host` are kept; anyone else's are replaced (C3).
pub fn identity(out: &mut Vec<u8>, request: &Request<'_>, peer: SocketAddr, trusted: bool) -> Names {
    out.extend_from_slice(b"X-Forwarded-For: ");
    if trusted {
        for earlier in request.all_known(Name::XForwardedFor) {
            out.extend_from_slice(earlier);
            out.extend_from_slice(b", ");
        }
    }
    put_address(out, peer.ip());
    out.extend_from_slice(b"\r\n");
    if !trusted || request.known(Name::XForwardedProto).is_none() {
        out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
    }
    if !trusted || request.known(Name::XForwardedHost).is_none() {
        field(out, b"X-Forwarded-Host", request.authority());
    }
    out.extend_from_slice(b"Via: ");
    for earlier in request.all_known(Name::Via) {
        out.extend_from_slice(earlier);
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(match request.version() {
        Version::Http10 => b"1.0 strata\r\n",
        Version::Http11 => b"1.1 strata\r\n",
    });
    if trusted {
        Names::of(&[Name::XForwardedFor, Name::Via])
    } else {
        Names::CLIENT_IDENTITY.with(Names::of(&[Name::Via]))
    }
}

fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            for (octet, end) in [(a, &b"."[..]), (b, b"."), (c, b"."), (d, b"")] {
                number(out, u64::from(octet));
                out.extend_from_slice(end);
            }
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}
