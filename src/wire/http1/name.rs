//! Value: field names that anything here knows, and sets of them, so that dropping a field is a bit test.
//!
//! A name is classified once, while its line is parsed. The catch-alls (`Proxy`, `XForwarded`, `Strata`) stand for every
//! name with their prefix.

macro_rules! names {
    ($($name:ident $text:literal,)*) => {
        /// A field name, as far as it matters to a proxy.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Name {
            Other,
            /// `Proxy` and every `Proxy-*`.
            Proxy,
            /// Every `X-Forwarded-*` that has no entry of its own.
            XForwarded,
            /// Every `X-Strata-*`.
            Strata,
            $($name,)*
        }

        const KNOWN: &[(Name, &[u8])] = &[$((Name::$name, $text),)*];
    };
}

names! {
    Host b"host",
    Connection b"connection",
    ContentLength b"content-length",
    TransferEncoding b"transfer-encoding",
    Te b"te",
    Trailer b"trailer",
    Upgrade b"upgrade",
    KeepAlive b"keep-alive",
    Http2Settings b"http2-settings",
    Expect b"expect",
    XForwardedFor b"x-forwarded-for",
    XForwardedProto b"x-forwarded-proto",
    XForwardedHost b"x-forwarded-host",
    Forwarded b"forwarded",
    Via b"via",
    XRealIp b"x-real-ip",
    Authorization b"authorization",
    Cookie b"cookie",
    SetCookie b"set-cookie",
    Date b"date",
    Server b"server",
    ContentType b"content-type",
    ContentEncoding b"content-encoding",
    ContentRange b"content-range",
    CacheControl b"cache-control",
    UserAgent b"user-agent",
    Range b"range",
    Age b"age",
    Expires b"expires",
    Location b"location",
    Vary b"vary",
    RetryAfter b"retry-after",
    MaxForwards b"max-forwards",
    Pragma b"pragma",
    WwwAuthenticate b"www-authenticate",
    XRequestId b"x-request-id",
    Accept b"accept",
    AcceptEncoding b"accept-encoding",
    AcceptLanguage b"accept-language",
    Referer b"referer",
    Origin b"origin",
}

impl Name {
    /// Classifies a token, whatever its case.
    #[inline]
    pub fn of(token: &[u8]) -> Name {
        let (Some(first), Some(last)) = (token.first(), token.last()) else { return Name::Other };
        if let Some(Some((name, text))) = SLOTS.get(slot(token.len(), *first, *last))
            && same(text, token)
        {
            return *name;
        }
        match first | 0x20 {
            b'p' if has_prefix(token, b"proxy-") || token.eq_ignore_ascii_case(b"proxy") => Name::Proxy,
            b'x' if has_prefix(token, b"x-forwarded-") => Name::XForwarded,
            b'x' if has_prefix(token, b"x-strata-") => Name::Strata,
            _ => Name::Other,
        }
    }
}

/// Whether `token` is `text` but for its case. Setting bit 5 folds letters and leaves `-` and digits alone; what else it
/// folds into them no token holds. Eight bytes at a time: half of a head's lines come through here.
#[inline]
fn same(text: &[u8], token: &[u8]) -> bool {
    if text.len() != token.len() {
        return false;
    }
    let fold = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes) | 0x2020_2020_2020_2020;
    let (Some(end), Some(token_end)) = (text.last_chunk::<8>(), token.last_chunk::<8>()) else {
        return text.iter().zip(token).all(|(a, b)| *a == b | 0x20);
    };
    let (chunks, token_chunks) = (text.as_chunks::<8>().0, token.as_chunks::<8>().0);
    fold(end) == fold(token_end) && chunks.iter().zip(token_chunks).all(|(a, b)| fold(a) == fold(b))
}

fn has_prefix(token: &[u8], prefix: &[u8]) -> bool {
    token.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// A perfect hash of the names above; building the table checks that it is one.
const fn slot(len: usize, first: u8, last: u8) -> usize {
    let mixed = len.wrapping_add(((first | 0x20) as usize).wrapping_mul(34));
    mixed.wrapping_add(((last | 0x20) as usize).wrapping_mul(3)) & (SLOT_COUNT - 1)
}

const SLOT_COUNT: usize = 128;
static SLOTS: [Option<(Name, &[u8])>; SLOT_COUNT] = slots();

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "runs in the compiler only")]
const fn slots() -> [Option<(Name, &'static [u8])>; SLOT_COUNT] {
    let mut slots = [None; SLOT_COUNT];
    let mut at = 0;
    while at < KNOWN.len() {
        let (name, text) = KNOWN[at];
        let slot = slot(text.len(), text[0], text[text.len() - 1]);
        assert!(slots[slot].is_none(), "two names share a slot: choose other multipliers");
        slots[slot] = Some((name, text));
        at += 1;
    }
    slots
}

/// A set of names. `Name::Other` is never in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names(u64);

impl Names {
    pub const NONE: Names = Names(0);

    /// Fields of one connection (C2), and those that are regenerated: Host and framing. Never forwarded as they came.
    pub const HOP: Names = Names::of(&[
        Name::Connection,
        Name::KeepAlive,
        Name::Proxy,
        Name::Te,
        Name::Trailer,
        Name::TransferEncoding,
        Name::Upgrade,
        Name::Http2Settings,
        Name::Host,
        Name::ContentLength,
    ]);

    /// What says who the client is: dropped and replaced unless the peer is trusted (C3).
    pub const CLIENT_IDENTITY: Names = Names::of(&[
        Name::XForwarded,
        Name::XForwardedFor,
        Name::XForwardedProto,
        Name::XForwardedHost,
        Name::Forwarded,
        Name::XRealIp,
    ]);

    /// What `Connection` cannot have removed by naming it (C1).
    pub const PROTECTED: Names = Names::CLIENT_IDENTITY.with(Names::of(&[
        Name::Host,
        Name::ContentLength,
        Name::TransferEncoding,
        Name::ContentType,
        Name::ContentEncoding,
        Name::ContentRange,
        Name::Via,
        Name::Authorization,
        Name::WwwAuthenticate,
        Name::Cookie,
        Name::SetCookie,
        Name::CacheControl,
        Name::Date,
        Name::Expect,
        Name::Location,
        Name::Vary,
        Name::Range,
        Name::Origin,
    ]));

    /// What a trailer must not carry: framing, routing, control, authentication, content (A24, RFC 9110 §6.5.1).
    pub const NOT_IN_TRAILERS: Names = Names::HOP.with(Names::PROTECTED).with(Names::of(&[
        Name::Strata,
        Name::Age,
        Name::Expires,
        Name::RetryAfter,
        Name::MaxForwards,
        Name::Pragma,
    ]));

    pub const fn of(names: &[Name]) -> Names {
        let mut set = 0;
        let mut rest = names;
        while let [name, after @ ..] = rest {
            set |= bit(*name);
            rest = after;
        }
        Names(set)
    }

    pub const fn with(self, other: Names) -> Names {
        Names(self.0 | other.0)
    }

    pub const fn without(self, other: Names) -> Names {
        Names(self.0 & !other.0)
    }

    #[inline(always)]
    pub const fn has(self, name: Name) -> bool {
        self.0 & bit(name) != 0
    }

    #[inline(always)]
    pub(super) fn add(&mut self, name: Name) {
        self.0 |= bit(name);
    }
}

const fn bit(name: Name) -> u64 {
    match name {
        Name::Other => 0,
        name => 1_u64.wrapping_shl(name as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_whatever_their_case_and_by_prefix() {
        for (name, text) in KNOWN {
            assert_eq!(Name::of(text), *name);
            assert_eq!(Name::of(&text.to_ascii_uppercase()), *name);
            assert!((*name as u32) < 64);
        }
        for (text, name) in [
            ("proxy", Name::Proxy),
            ("Proxy-Authorization", Name::Proxy),
            ("proxy_connection", Name::Other),
            ("X-Forwarded-Port", Name::XForwarded),
            ("x-strata-reason", Name::Strata),
            ("hosu", Name::Other),
            ("content-lengtx", Name::Other),
            ("contenx-length", Name::Other),
            ("transfer_encoding", Name::Other),
            ("content-typf", Name::Other),
            ("", Name::Other),
            ("x", Name::Other),
        ] {
            assert_eq!(Name::of(text.as_bytes()), name, "{text}");
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_never_other() {
        let set = Names::of(&[Name::Host, Name::Other]);
        assert!(set.has(Name::Host) && !set.has(Name::Via) && !set.has(Name::Other));
        assert_eq!(set.without(Names::HOP), Names::NONE);
    }
}
