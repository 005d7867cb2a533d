//! Value: why a message was refused. One word a reason: metric label, log word and `why` of an access record.

macro_rules! reasons {
    ($(#[doc = $meaning:literal] $name:ident = $status:literal $word:literal;)*) => {
        /// Why a request, a response or a body is refused. Whatever it is, the connection it came on is closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reject {
            $(#[doc = $meaning] $name,)*
        }

        impl Reject {
            /// Every reason, so that its counter exists from the start.
            pub const ALL: &[Reject] = &[$(Reject::$name,)*];

            /// What the client gets when its own bytes were at fault. When an endpoint's were, it is 502 always.
            pub const fn status(self) -> u16 {
                match self { $(Reject::$name => $status,)* }
            }

            pub const fn word(self) -> &'static str {
                match self { $(Reject::$name => $word,)* }
            }

            /// What it means, one line, with the row of the hardening catalogue.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reject::$name => $meaning.trim_ascii(),)* }
            }
        }
    };
}

reasons! {
    /// A TLS handshake on a plaintext port (A36).
    TlsHello = 400 "tls-hello";
    /// The preface of HTTP/2 on a port that speaks HTTP/1 only (A36).
    Http2Preface = 400 "http2-preface";
    /// No `method SP target SP version`, HTTP/0.9 among it (A35).
    BadRequestLine = 400 "bad-request-line";
    /// A method that is not a token (B15).
    BadMethod = 400 "bad-method";
    /// A method beyond `limits::METHOD_BYTES` (B15).
    MethodTooLong = 400 "method-too-long";
    /// CONNECT or TRACE (B4).
    MethodRefused = 405 "method-refused";
    /// `http/1.1`, `HTTP/1.32` (A35).
    BadVersion = 400 "bad-version";
    /// Well-formed, and neither 1.0 nor 1.1 (A35).
    UnsupportedVersion = 505 "unsupported-version";
    /// A target beyond `limits::TARGET_BYTES` (B14).
    TargetTooLong = 414 "target-too-long";
    /// None of the forms of a target, or a byte that no target holds (B5).
    BadTarget = 400 "bad-target";
    /// `#` in a target (B9).
    FragmentInTarget = 400 "fragment-in-target";
    /// `%` without two hexadecimal digits in a path (B10).
    BadEscape = 400 "bad-escape";
    /// An escaped control byte in a path, `%00` anywhere (B10).
    EscapedControl = 400 "escaped-control";
    /// `%2f`, `%5c` or `\` in a path (B7).
    EscapedSlash = 400 "escaped-slash";
    /// `%25` before two hexadecimal digits in a path (B10).
    DoubleEscape = 400 "double-escape";
    /// Escapes in a path that are not UTF-8, overlong forms among them (B10).
    EscapedNotUtf8 = 400 "escaped-not-utf8";
    /// `/..;` in a path, which servlet containers read as `/..` (B6).
    DotSegmentParameter = 400 "dot-segment-parameter";
    /// An absolute target whose scheme is not the one this connection carries.
    SchemeMismatch = 421 "scheme-mismatch";
    /// HTTP/1.1 without Host (B1).
    MissingHost = 400 "missing-host";
    /// Two Host fields (B1).
    RepeatedHost = 400 "repeated-host";
    /// Not a host and an optional port (B1, B2).
    BadHost = 400 "bad-host";
    /// An absolute target that names another host than Host does (B3).
    HostMismatch = 400 "host-mismatch";
    /// LF without CR before it (A16).
    BareLf = 400 "bare-lf";
    /// CR without LF after it (A15).
    BareCr = 400 "bare-cr";
    /// A line of the head that begins with white space (A14).
    ObsFold = 400 "obs-fold";
    /// White space between a field name and its colon (A13).
    SpaceBeforeColon = 400 "space-before-colon";
    /// A field without a name (A17).
    EmptyName = 400 "empty-name";
    /// A line of the head without a colon (A18).
    NoColon = 400 "no-colon";
    /// A byte in a field name that no token holds (A18).
    BadName = 400 "bad-name";
    /// NUL or another control byte in a field value (A15, C5).
    ControlInValue = 400 "control-in-value";
    /// A head beyond `limits::HEAD_BYTES` (B14).
    HeadTooLarge = 431 "head-too-large";
    /// More fields than `limits::FIELDS` (B14).
    TooManyFields = 431 "too-many-fields";
    /// A Content-Length that is not one decimal number within 64 bits (A4, A5, A7).
    BadLength = 400 "bad-length";
    /// Content-Length more than once, equal or not (A2, A3).
    RepeatedLength = 400 "repeated-length";
    /// Content-Length beside Transfer-Encoding (A1).
    LengthAndEncoding = 400 "length-and-encoding";
    /// A Transfer-Encoding that is not `chunked` (A8, A11).
    BadEncoding = 400 "bad-encoding";
    /// Transfer-Encoding more than once, or `chunked, chunked` (A10).
    RepeatedEncoding = 400 "repeated-encoding";
    /// A well-formed coding before `chunked` (A9).
    UnsupportedEncoding = 501 "unsupported-encoding";
    /// Transfer-Encoding in HTTP/1.0 (A12).
    EncodingInOldVersion = 400 "encoding-in-old-version";
    /// A Connection option that is not a token, or more than `limits::CONNECTION_OPTIONS` of them.
    BadConnection = 400 "bad-connection";
    /// An Expect other than `100-continue` (A27).
    UnknownExpectation = 417 "unknown-expectation";
    /// An endpoint's answer does not begin with a status line.
    BadStatusLine = 502 "bad-status-line";
    /// An endpoint switched protocols that nobody asked it to.
    UnexpectedSwitch = 502 "unexpected-switch";
    /// More interim responses than `limits::INTERIM_RESPONSES` (A33).
    TooManyInterim = 502 "too-many-interim";
    /// A chunk size that is not 1 to 16 hexadecimal digits (A19).
    BadChunkSize = 400 "bad-chunk-size";
    /// A control byte in a chunk extension (A20).
    BadChunkExtension = 400 "bad-chunk-extension";
    /// Chunk extensions of one body beyond `limits::CHUNK_EXTENSION_BYTES` (A21).
    ChunkExtensionsTooLong = 400 "chunk-extensions-too-long";
    /// Chunk data that CRLF does not follow (A22).
    BadChunkEnd = 400 "bad-chunk-end";
    /// Trailers beyond `limits::TRAILER_BYTES` or `limits::FIELDS`.
    TrailersTooLarge = 400 "trailers-too-large";
    /// The connection ended inside a body (A23).
    Truncated = 400 "truncated";
}

#[cfg(test)]
mod tests {
    use super::Reject;

    #[test]
    fn every_reason_has_a_word_of_its_own_in_kebab_case_and_an_error_status() {
        let mut words: Vec<_> = Reject::ALL.iter().map(|r| r.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reject::ALL.len());
        for reject in Reject::ALL {
            assert!((400..600).contains(&reject.status()), "{reject:?}");
            assert!(reject.word().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }
    }
}
