//! Shell: who may ask, and what.
//!
//! The admin API may have no token on loopback, so a browser on this machine must not be talked into using it: requests whose Host
//! is no loopback name are refused (DNS rebinding), and so are changes that a page of another origin sends, and bodies that a form
//! could send. There is no CORS. A unix socket may be forwarded to where a browser is (`ssh -L`), so there a name that DNS could give
//! out is refused as well. Where other machines reach it, and wherever a token is set, nothing is answered without the token
//! but whether the process lives and serves. Changes are made by POST only, and logged with who asked and what came of it.

use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::request::Parts;

use super::{Api, Face, Untold};
use crate::admin::operations::Reach;
use crate::admin::refusal::{Refusal, Why};
use crate::base::{clock, limits};

impl Api {
    /// Whether whoever asks may.
    pub(super) fn admit(&self, face: Face, reach: Reach, head: &Parts) -> Result<(), Refusal> {
        let host = head.headers.get(HOST);
        if face == Face::Unix && host.is_some_and(may_be_rebound) {
            return Err(Refusal::new(Why::Host, "the admin API does not answer to names that DNS gives out")
                .help("forward it to `localhost`"));
        }
        if face == Face::Loopback && !host.is_some_and(is_loopback) {
            return Err(Refusal::new(Why::Host, "the admin API answers to names of this machine only")
                .help("use `localhost`, `127.0.0.1` or `[::1]`"));
        }
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        if !reads && !is_own_origin(&head.headers) {
            return Err(Refusal::new(Why::Origin, "a page of another origin may not change anything"));
        }
        if face != Face::Metrics && reach.needs_token() {
            self.authorise(face, &head.headers)?;
        }
        // What a form of a web page can send, whatever its browser says of where it comes from.
        let kind = head.headers.get(CONTENT_TYPE);
        if !reads && kind.is_some_and(|kind| !is_json(kind)) {
            return Err(
                Refusal::new(Why::ContentType, "a body is JSON here").help("send `Content-Type: application/json`")
            );
        }
        Ok(())
    }

    /// A token, where there is one, is asked of everybody; from other machines nobody comes in without.
    fn authorise(&self, face: Face, headers: &HeaderMap) -> Result<(), Refusal> {
        let snapshot = self.control.crew.snapshot.load();
        let Some(token) = &snapshot.settings.admin_token else {
            // So for a moment only, while a reload takes the token and this listener away.
            return if face == Face::Remote { Err(Refusal::unauthorised(false)) } else { Ok(()) };
        };
        let mut given = headers.get_all(AUTHORIZATION).iter();
        match (given.next(), given.next()) {
            (None, _) => Err(Refusal::unauthorised(false)),
            (Some(field), None) if bearer(field).is_some_and(|given| token.is(given)) => Ok(()),
            (Some(_), _) => Err(Refusal::unauthorised(true)),
        }
    }

    /// Logs who may not ask, but not each time: whoever guesses tokens does not fill the log.
    pub(super) fn note_refusal(&self, peer: &str, refusal: &Refusal) {
        let Untold { count, told } = self.untold.get();
        let now = clock::now();
        let count = count.saturating_add(1);
        if told.is_some_and(|told| now.since(told) < limits::ADMIN_REFUSED_LOG) {
            return self.untold.set(Untold { count, told });
        }
        self.untold.set(Untold { count: 0, told: Some(now) });
        let (status, why) = (refusal.why.status(), &*refusal.problem.error);
        tracing::warn!(peer, status, why, count, "a request to the admin API is refused");
    }

    /// Where it is read-only, changes are made by the file, and by signals.
    pub(super) fn may_change(&self) -> Result<(), Refusal> {
        if !self.control.crew.snapshot.load().settings.admin_read_only {
            return Ok(());
        }
        Err(Refusal::new(Why::ReadOnly, "the admin API is read-only")
            .help("change the file, and reload by `kill -HUP`; or set `read_only = false` of [admin]"))
    }
}

/// Whether a Host, or what follows the scheme of an Origin, names this machine.
fn is_loopback(host: &HeaderValue) -> bool {
    host.to_str().is_ok_and(is_loopback_name)
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match bare {
        Some(address) => address.parse().is_ok_and(|address: std::net::Ipv6Addr| address.to_canonical().is_loopback()),
        None => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse().is_ok_and(|address: std::net::Ipv4Addr| address.is_loopback())
        }
    }
}

/// Whether somebody else's DNS could have brought a browser here by this name (hardening J14): not by one that names this machine,
/// nor by one without a dot, which is no public domain.
fn may_be_rebound(host: &HeaderValue) -> bool {
    !is_loopback(host) && host.as_bytes().contains(&b'.')
}

/// What follows `Bearer`; the scheme in any case (RFC 9110 §11.1).
fn bearer(field: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = field.as_bytes().split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim_ascii())
}

/// `application/json`, whatever parameters it has.
fn is_json(kind: &HeaderValue) -> bool {
    let kind = kind.to_str().unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// No browser sent it, or a page that came from this very listener did.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    let origin = headers.get(ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
    });
    site && origin
}

const BEARER: &[u8] = b"Bearer ";
