//! Value: why a packet, connection or request was not forwarded, or ended otherwise than it should.
//!
//! The word is the metric label, the log word and the `explain` word at once (DESIGN §1). Malformed HTTP has words of its
//! own (`wire::http1::Reject`); together they are the values of `strata_drops_total{reason}`.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name),* }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            pub const fn word(self) -> &'static str {
                match self { $(Reason::$name => $word),* }
            }

            /// The status an HTTP client is answered with, where one can still be sent.
            pub const fn status(self) -> u16 {
                match self { $(Reason::$name => $status),* }
            }
        }
    };
}

reasons! {
    /// No route of the service matches the request.
    NoRoute = "no-route", 404;
    /// The pool has no usable endpoint.
    NoEndpoint = "no-endpoint", 503;
    /// Every endpoint tried refused or could not be reached.
    ConnectFailed = "connect-failed", 502;
    /// Every endpoint tried did not answer the connect in time.
    ConnectTimeout = "connect-timeout", 504;
    /// The endpoint closed or reset before a response began.
    UpstreamClosed = "upstream-closed", 502;
    /// The endpoint closed or reset in the middle of a response.
    UpstreamTruncated = "upstream-truncated", 502;
    /// The endpoint's response broke the protocol.
    UpstreamMalformed = "upstream-malformed", 502;
    /// The endpoint's response did not begin in time.
    ResponseTimeout = "response-timeout", 504;
    /// The endpoint stopped in the middle of a response.
    ResponseStalled = "response-stalled", 504;
    /// The request head was not complete in time.
    HeaderTimeout = "header-timeout", 408;
    /// The request body came too slowly.
    BodyTimeout = "body-timeout", 408;
    /// The client did not read its response.
    ClientStalled = "client-stalled", 499;
    /// The client went away before its exchange was complete.
    ClientClosed = "client-closed", 499;
    /// The request body is larger than the service allows.
    BodyTooLarge = "body-too-large", 413;
    /// A retry would have been possible, but the budget is spent.
    RetryBudget = "retry-budget", 503;
    /// The service has `max_connections` open.
    TooManyConnections = "too-many-connections", 503;
    /// The source address has `max_connections_per_source` open.
    TooManyFromSource = "too-many-from-source", 503;
    /// No file descriptor was left.
    NoDescriptor = "no-descriptor", 503;
    /// A tunnel or relay carried nothing for its idle timeout.
    IdleTimeout = "idle-timeout", 408;
    /// The drain deadline passed with the connection still open.
    DrainDeadline = "drain-deadline", 503;
    /// The service was removed while the connection was open.
    ServiceRemoved = "service-removed", 503;
    /// The task that carried it panicked: a mistake of Strata's.
    Internal = "internal", 500;
}

impl Reason {
    pub const COUNT: usize = Reason::ALL.len();

    pub const fn index(self) -> usize {
        self as usize
    }
}
