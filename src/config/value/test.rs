//! Value: a test of the file by itself: what is sent, and what is expected to become of it.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::doc::Spanned;
use crate::explain::Question;
use crate::wire::line::Line;

#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    pub subject: Spanned<Subject>,
    /// All of them.
    pub expect: Vec<Spanned<Expectation>>,
}

/// As it is written, and read.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    Request {
        text: String,
        from: Option<String>,
        headers: Vec<String>,
        service: Option<String>,
        question: Box<Question>,
    },
    Packet {
        text: String,
        line: Box<Line>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    Pool(String),
    Service(String),
    /// A url in its canonical form; `*` for the default route.
    Route(String),
    Status(u16),
    /// The word of a reason.
    Drop(String),
    /// Left to the kernel.
    Pass,
}

/// As it is written.
impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expectation::Pool(name) => write!(f, "pool {name}"),
            Expectation::Service(name) => write!(f, "service {name}"),
            Expectation::Route(url) => write!(f, "route {url}"),
            Expectation::Status(status) => write!(f, "status {status}"),
            Expectation::Drop(word) => write!(f, "drop {word}"),
            Expectation::Pass => f.write_str("pass"),
        }
    }
}

impl Serialize for Test {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.subject.value {
            Subject::Request { text, from, headers, service, .. } => {
                map.serialize_entry("request", text)?;
                if let Some(from) = from {
                    map.serialize_entry("from", from)?;
                }
                if !headers.is_empty() {
                    map.serialize_entry("header", headers)?;
                }
                if let Some(service) = service {
                    map.serialize_entry("service", service)?;
                }
            }
            Subject::Packet { text, .. } => map.serialize_entry("packet", text)?,
        }
        let expect: Vec<String> = self.expect.iter().map(|expectation| expectation.to_string()).collect();
        map.serialize_entry("expect", &expect)?;
        map.end()
    }
}
