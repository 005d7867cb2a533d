//! Value: the `url` of a route, parsed and canonical: a host, a path, or both.
//!
//! Patterns and requests are brought to the same form, once each (hardening B6-B11): host in lower case without a final dot,
//! path with `//` merged, escapes of unreserved characters decoded and the others in upper case. What the HTTP codec refuses
//! in a request is refused here too, with the reason, for such a rule could never match; so are dot segments, which the codec
//! resolves. A test puts both side by side.
//!
//! Not here: ports and queries. Routing is by name; a query is for a condition.

use std::fmt;
use std::net::Ipv6Addr;

use crate::base::limits;

/// What `url` asks of a request. `Ord` has no meaning but a stable order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    pub host: Host,
    pub path: Path,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// `api.example.com`.
    Exact(Box<str>),
    /// `*.example.com`, kept as `.example.com`: sub-domains of any depth, not `example.com` itself (as in certificates and
    /// nginx's `*.`; whoever wants both writes both).
    Wildcard(Box<str>),
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    Exact(Box<str>),
    /// `/v1/*`, kept as `/v1`: whole segments. Matches `/v1/…` and `/v1` itself, for what serves a tree serves its root and a
    /// bare `/v1` falling through to another pool surprises; never `/v10`. `/*`, kept as ``, matches everything.
    Under(Box<str>),
    /// `/v1*`, kept as `/v1`: whatever starts with these bytes, `/v10` too.
    Starts(Box<str>),
    Any,
}

impl Pattern {
    /// No `url` at all: the default route.
    pub const ANY: Pattern = Pattern { host: Host::Any, path: Path::Any };

    /// Reads the `url` key: `api.example.com/v1/*`, `*.example.com`, `/static/*`.
    ///
    /// # Errors
    /// A sentence for a diagnostic: what is wrong and what to write instead.
    pub fn parse(url: &str) -> Result<Pattern, String> {
        if url.is_empty() {
            return Err("an empty url matches nothing: leave `url` out to match every request".into());
        }
        if url == "*" {
            return Err("a lone `*` says nothing: leave `url` out to match every request".into());
        }
        if url.len() > limits::TARGET_BYTES {
            return Err(format!("a url of more than {} bytes: no request is that long", limits::TARGET_BYTES));
        }
        if let Some((scheme, _)) = url.split_once("://") {
            return Err(format!("leave `{scheme}://` out: a url here is a host, a path, or both"));
        }
        if url.starts_with("//") {
            return Err("leave the leading `//` out: a host stands alone, a path starts with one `/`".into());
        }
        let (host, path) = url.split_at(url.find('/').unwrap_or(url.len()));
        Ok(Pattern { host: Host::parse(host)?, path: Path::parse(path)? })
    }
}

impl Host {
    fn parse(text: &str) -> Result<Host, String> {
        if text.is_empty() {
            return Ok(Host::Any);
        }
        if let Some(found) = text.chars().find(|c| matches!(c, '?' | '#' | '@' | '\\')) {
            return Err(match found {
                '?' => QUERY.into(),
                '#' => FRAGMENT.into(),
                '@' => "a host carries no user name: write what follows the `@`".into(),
                _ => BACKSLASH.into(),
            });
        }
        if text.starts_with('[') {
            return address(text);
        }
        if let Some((name, port)) = text.split_once(':') {
            return Err(format!(
                "routing is by name, not by port: write `{name}` without `:{port}` (the service's `listen` chooses ports)"
            ));
        }
        if text == "*" {
            return Err("a lone `*` as host says nothing: leave the host out and start with `/`".into());
        }
        match text.strip_prefix("*.") {
            Some(rest) => Ok(Host::Wildcard(format!(".{}", name(rest)?).into())),
            None => Ok(Host::Exact(name(text)?.into())),
        }
    }
}

/// `[2001:db8::1]`, in the canonical text of RFC 5952.
fn address(text: &str) -> Result<Host, String> {
    let (inside, rest) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).unwrap_or((text, ""));
    if rest.starts_with(':') {
        return Err(format!("routing is by name, not by port: write `[{inside}]` without `{rest}`"));
    }
    match inside.parse::<Ipv6Addr>() {
        Ok(address) if rest.is_empty() => Ok(Host::Exact(format!("[{address}]").into())),
        _ => Err(format!("`{text}` is no IPv6 address: in a url it looks like `[2001:db8::1]`")),
    }
}

/// A host name in lower case, without the final dot.
fn name(text: &str) -> Result<String, String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.contains('*') {
        return Err("in a host, `*` stands for whole labels at the start only, as in `*.example.com`".into());
    }
    if !text.is_ascii() {
        return Err("a host is written in ASCII: use the name's `xn--` form, which is what clients send".into());
    }
    if let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        return Err(format!("`{}` cannot stand in a host name", bad.escape_debug()));
    }
    if text.split('.').any(str::is_empty) {
        return Err("a host name has a label between any two dots".into());
    }
    if text.len() > NAME_BYTES || text.split('.').any(|label| label.len() > LABEL_BYTES) {
        return Err(format!("a host name has at most {NAME_BYTES} bytes, and {LABEL_BYTES} between dots (RFC 1035)"));
    }
    Ok(text.to_ascii_lowercase())
}

impl Path {
    /// `text` is empty or starts with `/`.
    fn parse(text: &str) -> Result<Path, String> {
        if text.is_empty() {
            return Ok(Path::Any);
        }
        let Some(prefix) = text.strip_suffix('*') else {
            return Ok(Path::Exact(canonical(text, false)?.into()));
        };
        let prefix = canonical(prefix, true)?;
        Ok(match prefix.strip_suffix('/') {
            Some(stem) => Path::Under(stem.into()),
            None => Path::Starts(prefix.into()),
        })
    }
}

/// The canonical form of a path, or of the start of one: then the last segment and character may be cut short.
fn canonical(path: &str, open: bool) -> Result<String, String> {
    let mut out = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(hex);
                let low = bytes.next().and_then(hex);
                let (Some(high), Some(low)) = (high, low) else {
                    return Err("`%` starts an escape of two hexadecimal digits, as in `%20`".into());
                };
                let byte = high << 4 | low;
                escaped(byte, &mut out)?;
                decoded.push(byte);
                continue;
            }
            b'/' if out.ends_with('/') => continue,
            b'?' => return Err(QUERY.into()),
            b'#' => return Err(FRAGMENT.into()),
            b'\\' => return Err(BACKSLASH.into()),
            b'*' => {
                return Err("in a path, `*` stands at the end only, as in `/v1/*`".into());
            }
            _ if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) => out.push(char::from(byte)),
            // A character beyond ASCII travels as escapes, so it is what clients send for the letter written here.
            128.. => out.push_str(&format!("%{byte:02X}")),
            _ => {
                return Err(format!(
                    "`{}` cannot stand in a path: write `%{byte:02X}`",
                    char::from(byte).escape_debug()
                ));
            }
        }
        decoded.push(byte);
    }
    if let Err(error) = std::str::from_utf8(&decoded)
        && !(open && error.error_len().is_none())
    {
        return Err(
            "the path's escapes are not UTF-8: such a request is refused, so the route could never match".into()
        );
    }
    if has_escaped_escape(&out) {
        return Err(
            "an escape within an escape (`%25` and two digits) is refused in requests: nothing is decoded twice".into(),
        );
    }
    let whole = if open { out.rsplit_once('/').map_or("", |(whole, _)| whole) } else { &out };
    if whole.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(
            "a request's `.` and `..` segments are resolved before it is routed: write the path they lead to".into()
        );
    }
    if whole.split('/').any(|segment| segment.starts_with(".;") || segment.starts_with("..;")) {
        return Err("`.;` and `..;` are refused in requests, so the route could never match".into());
    }
    Ok(out)
}

/// Appends the canonical form of an escape that stands for `byte`.
fn escaped(byte: u8, out: &mut String) -> Result<(), String> {
    match byte {
        b'/' | b'\\' => {
            Err(format!("`%{byte:02X}` hides a separator and is refused in requests, so the route could never match"))
        }
        0..=31 | 127 => Err(format!(
            "`%{byte:02X}` is a control character and is refused in requests, so the route could never match"
        )),
        _ if byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) => {
            out.push(char::from(byte));
            Ok(())
        }
        _ => {
            out.push_str(&format!("%{byte:02X}"));
            Ok(())
        }
    }
}

fn has_escaped_escape(path: &str) -> bool {
    path.split("%25").skip(1).any(|rest| {
        let mut digits = rest.bytes();
        digits.next().and_then(hex).is_some() && digits.next().and_then(hex).is_some()
    })
}

fn hex(digit: u8) -> Option<u8> {
    // Base 16 leaves four bits.
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The canonical text, which parses to the same pattern; `*` for [`Pattern::ANY`].
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, &self.path) {
            (Host::Any, Path::Any) => return f.write_str("*"),
            (Host::Any, _) => {}
            (Host::Exact(name), _) => f.write_str(name)?,
            (Host::Wildcard(suffix), _) => write!(f, "*{suffix}")?,
        }
        match &self.path {
            Path::Any => Ok(()),
            Path::Exact(path) => f.write_str(path),
            Path::Under(stem) => write!(f, "{stem}/*"),
            Path::Starts(stem) => write!(f, "{stem}*"),
        }
    }
}

/// RFC 3986 §2.3, beside letters and digits.
const UNRESERVED: &[u8] = b"-._~";
/// What the codec lets a path hold unescaped beside letters and digits: RFC 3986 §3.3, and what browsers leave as it is. `*` has
/// its own meaning here.
const PLAIN: &[u8] = b"-._~!$&'()+,;=:@/[]^`{|}";
/// RFC 1035 §2.3.4.
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

const QUERY: &str = "a url has no query here: routing is by host and path";
const FRAGMENT: &str = "a url has no `#` here: clients never send it";
const BACKSLASH: &str = "`\\` is refused in requests: separators are `/`";
