//! Shell: the HTTP probe: one request over a connection of its own, judged by status and body.
//!
//! Read with the codec that reads endpoints' responses for clients, so an endpoint whose responses could not be relayed is
//! not called well. Not here: redirects (a 3xx is judged as it is), TLS.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;

use regex::bytes::Regex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connect;
use crate::base::limits;
use crate::doc::{Field, Grammar, Kind, Settings};
use crate::health::Why;
use crate::seam::Probe;
use crate::seam::probe::{Aim, FALL, Failure, INTERVAL, PORT, RISE, Spec, THROUGH, TIMEOUT, port};
use crate::wire::http1::{Asked, Decoder, Pieces, Progress, Reject, ResponseHead};

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "http",
        summary: "the endpoint answers a request with the right status and body",
        fields: &[
            INTERVAL,
            TIMEOUT,
            RISE,
            FALL,
            PORT,
            THROUGH,
            Field::default("method", Kind::Word(&["GET", "HEAD", "OPTIONS"]), "GET", "method of the request"),
            Field::default("path", Kind::Checked(check_path), "/", "path of the request, with a query if need be"),
            Field::optional("host", Kind::Checked(check_host), "Host of the request; absent: the address connected to"),
            Field::default(
                "expect",
                Kind::Texts(check_statuses),
                "200-399",
                "statuses that are well: \"200\", \"200-299\"",
            ),
            Field::optional("body", Kind::Checked(check_body), "text that the first 64 KiB of the body must contain"),
            Field::optional("body_regex", Kind::Checked(check_regex), "pattern that they must match"),
        ],
        example: "probe = { type = \"http\", path = \"/healthz\", expect = [\"200\", \"204\"] }",
    },
    build: |settings: &Settings| Box::new(Http::of(settings)),
    able: || Ok(()),
};

struct Http {
    port: Option<u16>,
    method: String,
    path: String,
    host: Option<String>,
    expect: Vec<RangeInclusive<u16>>,
    body: Option<Vec<u8>>,
    pattern: Option<Regex>,
}

impl Http {
    fn of(settings: &Settings) -> Http {
        let text = |field| settings.text(field).map(str::to_owned);
        Http {
            port: port(settings),
            method: text("method").unwrap_or_else(|| "GET".to_owned()),
            path: text("path").unwrap_or_else(|| "/".to_owned()),
            host: text("host"),
            expect: settings.texts("expect").iter().filter_map(|text| statuses(text).ok()).collect(),
            body: text("body").map(String::into_bytes),
            pattern: settings.text("body_regex").map(|pattern| match Regex::new(pattern) {
                Ok(pattern) => pattern,
                Err(error) => unreachable!("the grammar let {pattern:?} pass: {error}"),
            }),
        }
    }

    async fn exchange(&self, stream: &mut TcpStream, peer: SocketAddr) -> Result<(), Why> {
        stream.write_all(self.request(peer).as_bytes()).await.map_err(|_| CLOSED)?;
        let mut buffer = Vec::with_capacity(4096);
        let asked = Asked { head: self.method == "HEAD", upgrade: false };
        let mut head = ResponseHead::default();
        for _ in 0..=limits::INTERIM_RESPONSES {
            let end = read_head(stream, &mut buffer, &mut head, asked).await?;
            let response = head.view(&buffer);
            if response.interim() {
                head.clear();
                buffer.drain(..end);
                continue;
            }
            let (status, body) = (response.status(), response.body());
            if !self.expect.iter().any(|range| range.contains(&status)) {
                return Err(format!("status {status}").into());
            }
            if self.body.is_none() && self.pattern.is_none() {
                return Ok(());
            }
            buffer.drain(..end);
            return self.judge(&read_body(stream, buffer, Decoder::new(body)).await?);
        }
        Err("too many interim responses".into())
    }

    fn request(&self, address: SocketAddr) -> String {
        let Http { method, path, host, .. } = self;
        let host = host.clone().unwrap_or_else(|| address.to_string());
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: strata-probe/{version}\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        )
    }

    fn judge(&self, body: &[u8]) -> Result<(), Why> {
        let contains = self.body.as_ref().is_none_or(|text| memchr::memmem::find(body, text).is_some());
        let matches = self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(body));
        if contains && matches { Ok(()) } else { Err("body does not match".into()) }
    }
}

impl Probe for Http {
    fn check<'a>(&'a self, aim: &'a Aim) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>> {
        Box::pin(async move {
            let mut connection = connect(aim, self.port).await?;
            Ok(self.exchange(&mut connection.stream, connection.peer).await?)
        })
    }
}

/// Reads until `buffer` begins with a whole head; its length.
async fn read_head(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    head: &mut ResponseHead,
    asked: Asked,
) -> Result<usize, Why> {
    loop {
        // The codec bounds the head at `limits::HEAD_BYTES`.
        if let Progress::Complete(end) = head.parse(buffer, asked).map_err(malformed)? {
            return Ok(end);
        }
        if stream.read_buf(buffer).await.map_err(|_| CLOSED)? == 0 {
            return Err(CLOSED);
        }
    }
}

/// The body, or its first `limits::PROBE_BODY_BYTES`.
async fn read_body(stream: &mut TcpStream, mut input: Vec<u8>, mut decoder: Decoder) -> Result<Vec<u8>, Why> {
    let mut body = Vec::new();
    let mut pieces = Pieces::default();
    loop {
        decoder.decode(&mut input, &mut pieces).map_err(malformed)?;
        pieces.slices(&input).for_each(|slice| body.extend_from_slice(slice));
        if decoder.is_done() || body.len() >= limits::PROBE_BODY_BYTES {
            body.truncate(limits::PROBE_BODY_BYTES);
            return Ok(body);
        }
        input.clear();
        if stream.read_buf(&mut input).await.map_err(|_| TRUNCATED)? == 0 {
            decoder.finish_at_close().map_err(|_| TRUNCATED)?;
        }
    }
}

const CLOSED: Why = Why::Borrowed("closed without a response");
const TRUNCATED: Why = Why::Borrowed("closed in the middle of the body");

fn malformed(reject: Reject) -> Why {
    format!("malformed response: {}", reject.word()).into()
}

/// `200` or `200-299`.
fn statuses(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.parse().ok().filter(|status| (200..=599).contains(status));
    match (status(low), status(high)) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        _ => Err(format!("{text:?} is no status from 200 to 599 or range of them, as \"200\" or \"200-299\"")),
    }
}

fn check_statuses(text: &str) -> Result<(), String> {
    statuses(text).map(drop)
}

fn check_path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err(format!("a path begins with a slash: \"/{text}\""));
    }
    // RFC 9112 §3.2: what would end the target, or reach the endpoint as something else.
    match text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        Some(wrong) => Err(format!("{wrong:?} cannot stand in a path: percent-encode it")),
        None => Ok(()),
    }
}

fn check_host(text: &str) -> Result<(), String> {
    let right = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b);
    if text.is_empty() || !text.bytes().all(right) {
        return Err(format!("{text:?} is no host, as \"example.com\" or \"example.com:8080\""));
    }
    Ok(())
}

fn check_body(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("an empty text is in every body: leave it out".to_owned()) } else { Ok(()) }
}

fn check_regex(text: &str) -> Result<(), String> {
    match Regex::new(text) {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => Err("the pattern is too large".to_owned()),
        // The last line of the report says what is wrong, those before it draw where.
        Err(error) => Err(error.to_string().lines().last().unwrap_or("not a pattern").to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_as_they_are_read() {
        type Check = fn(&str) -> Result<(), String>;
        for (check, text, want) in [
            (check_statuses as Check, "200", None),
            (check_statuses, "200-399", None),
            (check_statuses, "299-200", Some("no status")),
            (check_statuses, "100", Some("no status")),
            (check_statuses, "2xx", Some("no status")),
            (check_path, "/healthz?full=1", None),
            (check_path, "healthz", Some("\"/healthz\"")),
            (check_path, "/a b", Some("percent-encode")),
            (check_path, "/a\r\nX: y", Some("percent-encode")),
            (check_host, "example.com:8080", None),
            (check_host, "[::1]:80", None),
            (check_host, "a\r\nb", Some("no host")),
            (check_host, "", Some("no host")),
            (check_body, "ok", None),
            (check_body, "", Some("leave it out")),
            (check_regex, "^ok$", None),
            (check_regex, "(", Some("unclosed group")),
        ] {
            match (check(text), want) {
                (Ok(()), None) => {}
                (Err(message), Some(want)) => assert!(message.contains(want), "{text:?}: {message}"),
                (got, want) => panic!("{text:?}: {got:?}, not {want:?}"),
            }
        }
    }
}
