//! Shell: the files of the dashboard, as they are in the binary, and what a browser is told of them.
//!
//! They hold no secret and are given to whoever may reach the listener; what they show comes from the API, which asks for its token.
//! The page may load nothing from elsewhere, run no script but these, make no markup from text (trusted types), and be in no
//! frame. Not here: what it shows (`dashboard/*.js`), nor who may ask (`api`).

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS};

/// One file, below `/dashboard/`.
pub(super) struct Asset {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

pub(super) const PAGE: Asset = Asset { name: "index.html", kind: HTML, text: include_str!("dashboard/index.html") };

/// What the page is made of.
pub(super) static ASSETS: &[Asset] = &[
    Asset { name: "style.css", kind: CSS, text: include_str!("dashboard/style.css") },
    Asset { name: "icon.svg", kind: SVG, text: include_str!("dashboard/icon.svg") },
    Asset { name: "script.js", kind: SCRIPT, text: include_str!("dashboard/script.js") },
    Asset { name: "api.js", kind: SCRIPT, text: include_str!("dashboard/api.js") },
    Asset { name: "dom.js", kind: SCRIPT, text: include_str!("dashboard/dom.js") },
    Asset { name: "rates.js", kind: SCRIPT, text: include_str!("dashboard/rates.js") },
    Asset { name: "lanes.js", kind: SCRIPT, text: include_str!("dashboard/lanes.js") },
    Asset { name: "flow.js", kind: SCRIPT, text: include_str!("dashboard/flow.js") },
    Asset { name: "links.js", kind: SCRIPT, text: include_str!("dashboard/links.js") },
    Asset { name: "endpoint.js", kind: SCRIPT, text: include_str!("dashboard/endpoint.js") },
    Asset { name: "overview.js", kind: SCRIPT, text: include_str!("dashboard/overview.js") },
    Asset { name: "changes.js", kind: SCRIPT, text: include_str!("dashboard/changes.js") },
    Asset { name: "explain.js", kind: SCRIPT, text: include_str!("dashboard/explain.js") },
];

pub(super) fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// What goes with each of them, beside what goes with every answer.
pub(super) fn guard(mut answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    for (name, value) in GUARDS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// The policy names no host: `'self'` is the listener, however it is reached.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const GUARDS: [(HeaderName, &str); 4] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    // For what does not know `frame-ancestors`.
    (X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";
