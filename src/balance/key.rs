//! Value: what a hashing algorithm is sticky by: the setting `key`, and the hash it makes of a connection or request.
//!
//! Not here: finding a header or cookie in a request, which is the shell's; it hands over the bytes it found.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::base::{FlowHash, HashKey};
use crate::doc::{Field, Kind, Settings};

/// What a picker hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// `source-address`
    SourceAddress,
    /// `source-address-port`
    SourceAddressPort,
    /// `header:NAME`, in lower case: field names have none (RFC 9110 §5.1).
    Header(String),
    /// `cookie:NAME`; names of cookies are case-sensitive (RFC 6265 §5.4).
    Cookie(String),
    /// `query:NAME`
    Query(String),
    /// `path`, without the query.
    Path,
}

/// The setting of every hashing algorithm.
pub(super) const FIELD: Field = Field::default(
    "key",
    Kind::Checked(|text| HashBy::parse(text).map(drop)),
    "source-address",
    "what to be sticky by: source-address, source-address-port, header:NAME, cookie:NAME, query:NAME or path; \
     a request without it goes by its source address",
);

impl HashBy {
    /// Reads the setting.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<HashBy, String> {
        match text.split_once(':') {
            None if text == "source-address" => Ok(HashBy::SourceAddress),
            None if text == "source-address-port" => Ok(HashBy::SourceAddressPort),
            None if text == "path" => Ok(HashBy::Path),
            None if matches!(text, "header" | "cookie" | "query") => {
                Err(format!("{text} needs a name, as in \"{text}:session\""))
            }
            Some(("header", name)) if is_token(name) => Ok(HashBy::Header(name.to_ascii_lowercase())),
            Some(("cookie", name)) if is_token(name) => Ok(HashBy::Cookie(name.to_owned())),
            Some(("query", name)) if !name.is_empty() => Ok(HashBy::Query(name.to_owned())),
            Some((what @ ("header" | "cookie"), name)) => {
                Err(format!("{name:?} cannot be the name of a {what}: letters, digits and !#$%&'*+-.^_`|~ only"))
            }
            Some(("query", _)) => Err("query needs a name, as in \"query:user\"".to_owned()),
            _ => Err(format!(
                "unknown key {text:?}: use source-address, source-address-port, header:NAME, cookie:NAME, query:NAME or path"
            )),
        }
    }

    /// The `key` of decoded settings, `None` for an algorithm that hashes nothing.
    pub fn of(settings: &Settings) -> Option<HashBy> {
        HashBy::parse(settings.text("key")?).ok()
    }

    /// Whether only an HTTP request has it.
    pub fn needs_http(&self) -> bool {
        !matches!(self, HashBy::SourceAddress | HashBy::SourceAddressPort)
    }

    /// The hash of a connection or request from `source`, in which `found` is the value of the header, cookie, query parameter
    /// or path. A value that is missing or empty falls back to the source address: everyone who sends none must not land on
    /// one endpoint.
    pub fn flow(&self, key: &HashKey, source: SocketAddr, found: Option<&[u8]>) -> FlowHash {
        match found.filter(|value| !value.is_empty() && self.needs_http()) {
            Some(value) => key.flow(value),
            None => key.flow(&self.source_bytes(source)),
        }
    }

    /// Address and port, 18 bytes. An IPv4 client counts as the same on a dual-stack and on an IPv4 listener.
    fn source_bytes(&self, source: SocketAddr) -> [u8; 18] {
        let address = match source.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let port = if *self == HashBy::SourceAddressPort { source.port() } else { 0 };
        let mut bytes = [0; 18];
        bytes[..16].copy_from_slice(&address.octets());
        bytes[16..].copy_from_slice(&port.to_be_bytes());
        bytes
    }
}

/// As it is written: parsing it gives the same again.
impl fmt::Display for HashBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashBy::SourceAddress => f.write_str("source-address"),
            HashBy::SourceAddressPort => f.write_str("source-address-port"),
            HashBy::Header(name) => write!(f, "header:{name}"),
            HashBy::Cookie(name) => write!(f, "cookie:{name}"),
            HashBy::Query(name) => write!(f, "query:{name}"),
            HashBy::Path => f.write_str("path"),
        }
    }
}

/// RFC 9110 §5.6.2, which also bounds cookie names (RFC 6265 §4.1.1).
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::super::CATALOG;
    use super::*;

    #[test]
    fn keys_read_as_written_or_say_what_is_wrong() {
        for (text, want) in [
            ("source-address", Ok(HashBy::SourceAddress)),
            ("source-address-port", Ok(HashBy::SourceAddressPort)),
            ("path", Ok(HashBy::Path)),
            ("header:X-User", Ok(HashBy::Header("x-user".into()))),
            ("cookie:Session", Ok(HashBy::Cookie("Session".into()))),
            ("query:user id", Ok(HashBy::Query("user id".into()))),
            ("header", Err("needs a name")),
            ("header:", Err("cannot be the name")),
            ("header:a b", Err("cannot be the name")),
            ("cookie:a=b", Err("cannot be the name")),
            ("query:", Err("needs a name")),
            ("source", Err("unknown key")),
            ("path:x", Err("unknown key")),
            ("", Err("unknown key")),
        ] {
            match (HashBy::parse(text), want) {
                (Ok(got), Ok(want)) => {
                    assert_eq!(got, want);
                    assert_eq!(HashBy::parse(&got.to_string()).unwrap(), got, "{text} is shown as it is read");
                }
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, want) => panic!("{text}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn only_what_names_the_key_decides_the_hash() {
        let key = HashKey::new([1; 16]);
        let flow = |by: &str, source: &str, found: Option<&[u8]>| {
            HashBy::parse(by).unwrap().flow(&key, source.parse().unwrap(), found)
        };
        let base = flow("source-address", "192.0.2.1:1000", None);
        for (by, source, found, same) in [
            ("source-address", "192.0.2.1:2000", None, true),
            ("source-address", "[::ffff:192.0.2.1]:3000", None, true),
            ("source-address", "192.0.2.2:1000", None, false),
            ("source-address", "192.0.2.1:1000", Some("ignored"), true),
            ("source-address-port", "192.0.2.1:2000", None, false),
            ("header:x-user", "192.0.2.1:1", None, true),
            ("header:x-user", "192.0.2.1:1", Some(""), true),
            ("header:x-user", "192.0.2.1:1", Some("ann"), false),
            ("path", "192.0.2.1:1", Some("/"), false),
        ] {
            let got = flow(by, source, found.map(str::as_bytes));
            assert_eq!(got == base, same, "{by} of {source} with {found:?}");
        }
        let ann = Some("ann".as_bytes());
        assert_eq!(flow("query:user", "192.0.2.1:1", ann), flow("query:user", "198.51.100.9:7", ann));
    }

    #[test]
    fn every_hashing_algorithm_has_a_key_and_no_other() {
        for spec in CATALOG {
            let by = HashBy::of(&Settings::defaults(&spec.grammar));
            assert_eq!(by, spec.uses.hash.then_some(HashBy::SourceAddress), "{}", spec.grammar.name);
        }
    }
}
