//! Shell: what a request says: its path, its query and its body.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;

use crate::admin::document;
use crate::admin::refusal::{Refusal, Why};
use crate::base::{Weight, limits};

/// The decoded segments of a path; `None` where one is not text. `/a/b/` ends in an empty one and finds nothing.
pub(super) fn segments(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')?.split('/').map(decode).collect()
}

pub(in crate::admin) fn decode(segment: &str) -> Option<String> {
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// `since=SEQ&limit=N`.
pub(super) fn page(query: &str) -> Result<(Option<u64>, usize), Refusal> {
    let bad = |why: String| {
        let usage = format!("as in /api/events?since=12&limit=100, limit from 1 to {}", limits::EVENTS);
        Refusal::new(Why::BadRequest, why).help(usage)
    };
    let (mut since, mut limit) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = match key {
            "since" => &mut since,
            "limit" => &mut limit,
            other => return Err(bad(format!("`{}` is nothing that can be said", other.escape_debug()))),
        };
        let number: u64 = value.parse().map_err(|_| bad(format!("`{key}` is a number")))?;
        if place.replace(number).is_some() {
            return Err(bad(format!("`{key}` is given twice")));
        }
    }
    match limit {
        None => Ok((since, limits::EVENTS)),
        Some(limit) => match usize::try_from(limit) {
            Ok(limit) if (1..=limits::EVENTS).contains(&limit) => Ok((since, limit)),
            _ => Err(bad("`limit` is more than are kept, or none".to_owned())),
        },
    }
}

pub(super) async fn read_body<B>(body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || Refusal::new(Why::BodyTooLarge, format!("a body has at most {limit} bytes here"));
    // What says beforehand that it is too large need not be waited for.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let whole = Limited::new(body, limit).collect();
    match tokio::time::timeout(limits::ADMIN_IDLE, whole).await {
        Err(_) => Err(Refusal::new(Why::BodyTimeout, "the body did not arrive in time")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Refusal::new(Why::BadRequest, format!("the body cannot be read: {error}"))),
    }
}

pub(super) fn weight(body: &[u8]) -> Result<Weight, Refusal> {
    let read: document::SetWeight = serde_json::from_slice(body).map_err(|error| {
        Refusal::new(Why::BadRequest, format!("the body does not say a weight: {error}")).help("send `{\"weight\": 5}`")
    })?;
    Weight::new(read.weight).ok_or_else(|| {
        Refusal::new(Why::BadRequest, format!("a weight is 1 to {}", limits::WEIGHT))
            .help("drain the endpoint to send it nothing")
    })
}
