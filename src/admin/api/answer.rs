//! Shell: answers, and the fields that each of them has.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::admin::dashboard;
use crate::admin::refusal::Refusal;

pub(super) type Answer = Response<Full<Bytes>>;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// Says why, and what helps.
pub(super) fn refused(refusal: Refusal) -> Answer {
    let status = StatusCode::from_u16(refusal.why.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = json(status, &refusal.problem);
    if let Some((name, value)) = refusal.field {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Answer {
    // Our documents have text keys only, so nothing in them can fail to be JSON.
    let mut text = serde_json::to_vec_pretty(document).unwrap_or_default();
    text.push(b'\n');
    answer(status, "application/json", text)
}

pub(super) fn asset(asset: &'static dashboard::Asset) -> Answer {
    dashboard::guard(answer(StatusCode::OK, asset.kind, asset.text))
}

pub(super) fn answer(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    // Nor may a page of another origin load it as a script or a picture.
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    answer
}
