//! Value: one line for each request or relayed connection, in the formats that operators' tools read.
//!
//! All text of a record came from the network. It is bounded and escaped here, so that no line can hold a line break, a
//! terminal's control sequence or a quote that ends its field (hardening C6). Not here: the decision to log (the service's), nor
//! the queue and the file (`sink`).

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

pub use super::sink::{Output, Sink, Writer};
use crate::base::limits;

/// What happened, as it is known when an exchange ends. Text from the network is raw here; the formatter escapes it.
#[derive(Debug)]
pub struct Record<'a> {
    pub at: SystemTime,
    pub service: &'a str,
    pub client: SocketAddr,
    /// Empty for L4.
    pub method: &'a [u8],
    pub host: &'a [u8],
    pub target: &'a [u8],
    pub protocol: &'a str,
    /// 0 for L4, or when nothing could be answered.
    pub status: u16,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub duration: Duration,
    pub pool: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    pub tries: u32,
    pub referer: &'a [u8],
    pub user_agent: &'a [u8],
    /// The drop reason's word, or nothing when all went well.
    pub why: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An object a line. Fields that do not apply are absent.
    Json,
    /// Apache's and nginx's `combined`, and behind it `service pool endpoint duration why`, each `-` where there is none.
    Combined,
}

impl Record<'_> {
    /// Appends the record's line, line break included.
    pub fn write(&self, format: Format, line: &mut Vec<u8>) {
        match format {
            Format::Json => self.write_json(line),
            Format::Combined => self.write_combined(line),
        }
        line.push(b'\n');
    }

    fn write_json(&self, line: &mut Vec<u8>) {
        let at = OffsetDateTime::from(self.at);
        let _ = write!(
            line,
            "{{\"at\":\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z\"",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        );
        text(line, "service", self.service.as_bytes());
        let _ = write!(line, ",\"client\":\"{}\"", self.client);
        for (name, value) in [
            ("method", self.method),
            ("host", self.host),
            ("target", self.target),
            ("protocol", self.protocol.as_bytes()),
        ] {
            if !value.is_empty() {
                text(line, name, value);
            }
        }
        if self.status != 0 {
            number(line, "status", self.status.into());
        }
        number(line, "bytes_received", self.bytes_received);
        number(line, "bytes_sent", self.bytes_sent);
        let us = self.duration.as_micros();
        let _ = write!(line, ",\"duration_ms\":{}.{:03}", us / 1000, us % 1000);
        for (name, value) in [("pool", self.pool), ("endpoint", self.endpoint)] {
            if let Some(value) = value {
                text(line, name, value.as_bytes());
            }
        }
        number(line, "tries", self.tries.into());
        for (name, value) in [("referer", self.referer), ("user_agent", self.user_agent)] {
            if !value.is_empty() {
                text(line, name, value);
            }
        }
        if let Some(why) = self.why {
            text(line, "why", why.as_bytes());
        }
        line.push(b'}');
    }

    fn write_combined(&self, line: &mut Vec<u8>) {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let at = OffsetDateTime::from(self.at);
        let month = MONTHS.get(usize::from(u8::from(at.month())).wrapping_sub(1)).copied().unwrap_or("-");
        let _ = write!(
            line,
            "{} - - [{:02}/{month}/{:04}:{:02}:{:02}:{:02} +0000] \"",
            self.client.ip(),
            at.day(),
            at.year(),
            at.hour(),
            at.minute(),
            at.second()
        );
        if self.method.is_empty() {
            line.push(b'-');
        } else {
            escape_bytes(line, bounded(self.method));
            line.push(b' ');
            escape_bytes(line, bounded(self.target));
            line.push(b' ');
            escape_bytes(line, self.protocol.as_bytes());
        }
        let _ = write!(line, "\" {:03} {}", self.status, self.bytes_sent);
        for value in [self.referer, self.user_agent] {
            line.extend_from_slice(b" \"");
            escape_bytes(line, if value.is_empty() { b"-" } else { bounded(value) });
            line.push(b'"');
        }
        for word in [Some(self.service), self.pool, self.endpoint] {
            line.push(b' ');
            escape_bytes(line, word.unwrap_or("-").as_bytes());
        }
        let us = self.duration.as_micros();
        let _ = write!(line, " {}.{:06} {}", us / 1_000_000, us % 1_000_000, self.why.unwrap_or("-"));
    }
}

fn number(line: &mut Vec<u8>, name: &str, value: u64) {
    let _ = write!(line, ",\"{name}\":{value}");
}

fn text(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    let _ = write!(line, ",\"{name}\":\"");
    escape_json(line, bounded(value));
    line.push(b'"');
}

fn bounded(value: &[u8]) -> &[u8] {
    value.get(..limits::LOG_FIELD_BYTES).unwrap_or(value)
}

/// What stands between the quotes of a JSON string. Bytes that are not UTF-8 become U+FFFD; what a terminal or a viewer might
/// act on (C0, DEL, C1, line separators, changes of direction) is escaped.
fn escape_json(line: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => line.extend_from_slice(&[b'\\', c as u8]),
                ' '..='~' => line.push(c as u8),
                _ if c.is_control()
                    || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    let _ = write!(line, "\\u{:04x}", c as u32);
                }
                _ => line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            line.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Printable ASCII; everything else, quotes and backslashes as `\xHH`, as nginx writes it.
fn escape_bytes(line: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        match byte {
            b'"' | b'\\' | 0..=31 | 127.. => {
                let _ = write!(line, "\\x{byte:02X}");
            }
            _ => line.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        Record {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_007),
            service: "edge",
            client: "192.0.2.7:4242".parse().unwrap(),
            method: b"GET",
            host: b"example.com",
            target: b"/a?b=c",
            protocol: "HTTP/1.1",
            status: 200,
            bytes_received: 80,
            bytes_sent: 1234,
            duration: Duration::from_micros(12_034),
            pool: Some("web"),
            endpoint: Some("10.0.0.1:80"),
            tries: 1,
            referer: b"",
            user_agent: b"curl/8",
            why: None,
        }
    }

    fn line(record: &Record<'_>, format: Format) -> String {
        let mut line = Vec::new();
        record.write(format, &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_request_has_a_line_in_each_format() {
        assert_eq!(
            line(&record(), Format::Json),
            "{\"at\":\"2023-11-14T22:13:20.007Z\",\"service\":\"edge\",\"client\":\"192.0.2.7:4242\",\"method\":\"GET\",\
             \"host\":\"example.com\",\"target\":\"/a?b=c\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes_received\":80,\
             \"bytes_sent\":1234,\"duration_ms\":12.034,\"pool\":\"web\",\"endpoint\":\"10.0.0.1:80\",\"tries\":1,\
             \"user_agent\":\"curl/8\"}\n"
        );
        assert_eq!(
            line(&record(), Format::Combined),
            "192.0.2.7 - - [14/Nov/2023:22:13:20 +0000] \"GET /a?b=c HTTP/1.1\" 200 1234 \"-\" \"curl/8\" edge web \
             10.0.0.1:80 0.012034 -\n"
        );
    }

    #[test]
    fn a_relayed_connection_leaves_out_what_only_requests_have() {
        let relay = Record {
            method: b"",
            host: b"",
            target: b"",
            protocol: "tcp",
            status: 0,
            endpoint: None,
            user_agent: b"",
            why: Some("connect-failed"),
            ..record()
        };
        let json: serde_json::Value = serde_json::from_str(&line(&relay, Format::Json)).unwrap();
        for absent in ["method", "host", "target", "status", "endpoint", "referer", "user_agent"] {
            assert!(json.get(absent).is_none(), "{absent} in {json}");
        }
        assert_eq!(json["why"], "connect-failed");
        assert_eq!(
            line(&relay, Format::Combined),
            "192.0.2.7 - - [14/Nov/2023:22:13:20 +0000] \"-\" 000 1234 \"-\" \"-\" edge web - 0.012034 connect-failed\n"
        );
    }

    #[test]
    fn nothing_from_the_network_ends_a_field_a_line_or_reaches_a_terminal() {
        for (hostile, json, combined) in [
            (&b"a\"b\\c"[..], "a\\\"b\\\\c", "a\\x22b\\x5Cc"),
            (b"a\nb\r\x00", "a\\u000ab\\u000d\\u0000", "a\\x0Ab\\x0D\\x00"),
            (b"\x1b[31mred\x7f", "\\u001b[31mred\\u007f", "\\x1B[31mred\\x7F"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}", "\\xFF\\xFE"),
            (
                "é\u{9b}2J\u{2028}\u{202e}".as_bytes(),
                "é\\u009b2J\\u2028\\u202e",
                "\\xC3\\xA9\\xC2\\x9B2J\\xE2\\x80\\xA8\\xE2\\x80\\xAE",
            ),
        ] {
            let record = Record { user_agent: hostile, target: hostile, ..record() };
            let lines = (line(&record, Format::Json), line(&record, Format::Combined));
            assert!(lines.0.contains(&format!("\"user_agent\":\"{json}\"")), "{}", lines.0);
            assert!(lines.0.contains(&format!("\"target\":\"{json}\"")), "{}", lines.0);
            assert!(lines.1.contains(&format!("\"{combined}\" edge")), "{}", lines.1);
            assert!(lines.1.contains(&format!("\"GET {combined} HTTP/1.1\"")), "{}", lines.1);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_make_one_line_that_reads_back(
            target in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            agent in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        ) {
            let record = Record { target: &target, user_agent: &agent, ..record() };
            let json = line(&record, Format::Json);
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            let lossy = String::from_utf8_lossy(&agent);
            proptest::prop_assert_eq!(read.get("user_agent").and_then(|v| v.as_str()).unwrap_or_default(), &*lossy);
            for line in [json, line(&record, Format::Combined)] {
                proptest::prop_assert_eq!(line.chars().position(char::is_control), Some(line.len() - 1).map(|_| line.chars().count() - 1));
            }
        }
    }

    #[test]
    fn a_field_without_end_is_cut() {
        let long = vec![0_u8; 10 * limits::LOG_FIELD_BYTES];
        let record =
            Record { target: &long, host: &long, user_agent: &long, referer: &long, method: &long, ..record() };
        for format in [Format::Json, Format::Combined] {
            assert!(line(&record, format).len() < 6 * 5 * limits::LOG_FIELD_BYTES + 1024);
        }
    }
}
