//! Value: why a packet, connection or request was not forwarded, or ended otherwise than it should.
//!
//! The word is the metric label, the log word and the `explain` word at once (DESIGN §1). Malformed HTTP has words of its
//! own (`wire::http1::Reject`); together they are the values of `strata_drops_total{reason}`. The line above each is what it
//! means, for `explain` and `docs/drops.md`; what to do about it is in `way_out`.

mod way_out;

macro_rules! reasons {
    ($(#[doc = $meaning:literal] $name:ident = $word:literal, $status:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $(#[doc = $meaning] $name),* }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            pub const fn word(self) -> &'static str {
                match self { $(Reason::$name => $word),* }
            }

            /// What it means, one line for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$name => $meaning.trim_ascii()),* }
            }

            /// The status an HTTP client is answered with, where one can still be sent. 0 for a packet's reasons: nobody is.
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
    /// Every endpoint carries as much as the pool's `limits` allow, and nobody may wait.
    EndpointLimit = "endpoint-limit", 503;
    /// Every endpoint carries as much as it may, and as many wait as may.
    QueueFull = "queue-full", 503;
    /// It waited for an endpoint with room as long as it may.
    QueueTimeout = "queue-timeout", 503;
    /// The service has `max_connections` open.
    TooManyConnections = "too-many-connections", 503;
    /// The source address has `max_connections_per_source` open.
    TooManyFromSource = "too-many-from-source", 503;
    /// The process has as many connections open as its descriptors carry, or as `[process] max_connections` says.
    ProcessFull = "process-full", 503;
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

    // Packets that contradict themselves, or that nobody honest sends: the words of `wire::Fault`, one each. The rows of the
    // hardening catalogue stand there.
    /// The bytes end before a header does.
    TruncatedPacket = "truncated-packet", 0;
    /// More VLAN tags than are read.
    TooManyTags = "too-many-tags", 0;
    /// The version of the IP header is not the one announced.
    BadIpVersion = "bad-ip-version", 0;
    /// A header shorter than it must be, or longer than what came.
    BadHeaderLength = "bad-header-length", 0;
    /// An IP length below its header, or beyond what came.
    BadTotalLength = "bad-total-length", 0;
    /// The IPv4 header does not sum up.
    BadIpChecksum = "bad-ip-checksum", 0;
    /// IPv4 options.
    IpOptions = "ip-options", 0;
    /// A fragment that cannot be part of a datagram.
    BadFragment = "bad-fragment", 0;
    /// A fragment cut so that a transport header is torn.
    TinyFragment = "tiny-fragment", 0;
    /// A source that no host on a network has.
    MartianSource = "martian-source", 0;
    /// A TCP option that is shorter than itself, or goes past the header.
    BadOption = "bad-option", 0;
    /// TCP flags that no state of TCP sends.
    BadTcpFlags = "bad-tcp-flags", 0;
    /// Port 0.
    ZeroPort = "zero-port", 0;
    /// A UDP length below its header, or beyond what came.
    BadUdpLength = "bad-udp-length", 0;
    /// UDP over IPv6 without a checksum.
    NoUdpChecksum = "no-udp-checksum", 0;
    /// A checksum that had to be looked at, and is wrong.
    BadChecksum = "bad-checksum", 0;
    /// An ICMP error that does not say what it is about.
    BadEmbedded = "bad-embedded", 0;
    /// An IPv6 routing header that would still act.
    RoutingHeader = "routing-header", 0;
    /// More IPv6 extension headers than are walked.
    TooManyExtensions = "too-many-extension-headers", 0;
    /// An IPv6 extension header where it may not stand.
    BadExtension = "bad-extension-header", 0;
    /// An ARP packet that cannot be right.
    BadArp = "bad-arp", 0;
    /// A neighbour discovery message that has to be discarded.
    BadNeighbor = "bad-neighbor-discovery", 0;
    /// A tunnel header that cannot be read.
    BadTunnel = "bad-tunnel-header", 0;

    // Packets that are well-formed.
    /// A VLAN, or none, where the VIP is on another.
    UnexpectedVlan = "unexpected-vlan", 0; // G2
    /// A frame from a group's MAC address.
    GroupSourceMac = "group-source-mac", 0; // G3
    /// A frame to a group's MAC address with a packet for one host.
    GroupDestinationMac = "group-destination-mac", 0; // RFC 1122 §3.3.6
    /// A frame from one of our own MAC addresses: a loop.
    OwnSourceMac = "own-source-mac", 0; // G3
    /// A packet to a VIP from one of our own addresses: a loop, or forged.
    OwnSourceAddress = "own-source-address", 0; // G22
    /// A stranger claims the VIP.
    VipConflict = "vip-conflict", 0; // G4
    /// The VIP has no service for this protocol and port.
    NoService = "no-service", 0;
    /// No hop was left, and the sender was not told: at most 1000 times a second, and never about an error.
    HopsExhausted = "hops-exhausted", 0; // G7
    /// Larger than the way onward takes, and the sender was not told: each is, at most 1000 times a second, and never about an error.
    PacketTooBig = "packet-too-big", 0; // G21
    /// Larger than the link it came from: segments that the kernel or the card has put together, and that cannot be sent.
    OversizedFrame = "oversized-frame", 0;
    /// A fragment whose first one has not been seen, or too long ago.
    FragmentWithoutFirst = "fragment-without-first", 0; // G9
    /// A fragment with bytes that were there before.
    FragmentOverlap = "fragment-overlap", 0; // G10
    /// A datagram in too many pieces out of order.
    FragmentScattered = "fragment-scattered", 0;
    /// A fragmented message to the VIP itself, which puts nothing together.
    FragmentedIcmp = "fragmented-icmp", 0;
    /// An ICMP message that a balancer has no part in, redirects among them.
    IcmpIgnored = "icmp-ignored", 0; // G19
    /// "Packet too big" with an MTU that no link has.
    TinyMtu = "tiny-mtu", 0; // G17
    /// An ICMP error about a packet that no service of ours has sent.
    UnknownFlow = "unknown-flow", 0; // G17
    /// A tunnel that leads to ourselves.
    TunnelLoop = "tunnel-loop", 0; // G22
    /// No route leads to the next hop.
    Unroutable = "unroutable", 0;
    /// The next hop's MAC address is not known yet; it is asked for.
    NoNeighbor = "no-neighbor", 0;
    /// Every port of the addresses that endpoints see has a connection that lives, or had datagrams of the same endpoint a second ago.
    NatPortsExhausted = "nat-ports-exhausted", 0;
    /// There is no room for another translated flow: all that there are live.
    NatTableFull = "nat-table-full", 0;
    /// Two services of one client would look alike to the endpoint.
    NatCollision = "nat-collision", 0;
    /// A TCP segment that opens nothing, of a translated flow that is not known.
    NatNoFlow = "nat-no-flow", 0;
    /// From an endpoint whose replies are translated, from where replies come, and no reply.
    NoReply = "no-reply", 0;
    /// AF_XDP took it by what was known before (a VIP, an endpoint, a MAC address): it is the kernel's, which did not get it.
    TakenAmiss = "taken-amiss", 0;
}

impl Reason {
    pub const COUNT: usize = Reason::ALL.len();

    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it is said of packets alone: no connection or request ends by it, and it has no status.
    pub const fn is_of_packets(self) -> bool {
        self.status() == 0
    }
}
