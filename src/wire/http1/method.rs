//! Value: methods and versions.

/// The methods that anything here decides by; any other token is `Other`. CONNECT and TRACE are refused (B4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Other,
}

impl Method {
    /// `None` for those that are refused.
    pub(super) fn of(token: &[u8]) -> Option<Method> {
        Some(match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"PATCH" => Method::Patch,
            b"CONNECT" | b"TRACE" => return None,
            _ => Method::Other,
        })
    }

    /// RFC 9110 §9.2.2: whether doing it twice is doing it once.
    pub const fn idempotent(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

/// What reading a response needs to know of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// A response to HEAD has no body, whatever its fields say.
    pub head: bool,
    /// Without it, 101 is an error.
    pub upgrade: bool,
}
