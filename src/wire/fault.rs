//! Value: what is wrong with a packet. One word a fault: drop reason, metric label, log and `explain` word.
//!
//! Not here: what a service makes of a good packet (no endpoint, no route). Those words are `base::Reason`'s.

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// Why the bytes of a packet are not used. The row of the hardening catalogue stands with each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// Every fault, so that its counter exists from the start.
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];

            pub const fn word(self) -> &'static str {
                match self { $(Fault::$name => $word,)* }
            }
        }
    };
}

faults! {
    /// The bytes end before a header does (G1, G5).
    Truncated = "truncated-packet";
    /// More than `limits::VLAN_TAGS` VLAN tags (G2).
    TooManyTags = "too-many-tags";
    /// The version of the IP header is not the one its EtherType or tunnel announced (G5).
    BadIpVersion = "bad-ip-version";
    /// A header that claims fewer bytes than it must have, or more than there are (G5, G12).
    BadHeaderLength = "bad-header-length";
    /// An IP length below its own header, or beyond the bytes that came (G5).
    BadTotalLength = "bad-total-length";
    /// The IPv4 header does not sum up (G6).
    BadIpChecksum = "bad-ip-checksum";
    /// IPv4 options (G8).
    IpOptions = "ip-options";
    /// A fragment that ends beyond 65 535 bytes, or is not the last and no multiple of eight long (G10).
    BadFragment = "bad-fragment";
    /// A first fragment without the whole transport header, or a later one that begins inside it (G10, RFC 1858, RFC 7112).
    TinyFragment = "tiny-fragment";
    /// A source that no host on a network has (G11).
    MartianSource = "martian-source";
    /// An option whose length is less than its own bytes, or goes past its header (G12).
    BadOption = "bad-option";
    /// TCP flags that no state of TCP sends: none, SYN with FIN or RST, FIN without ACK (G13).
    BadTcpFlags = "bad-tcp-flags";
    /// Port 0 (G13).
    ZeroPort = "zero-port";
    /// A UDP length below 8 or beyond the IP payload (G14).
    BadUdpLength = "bad-udp-length";
    /// UDP over IPv6 without a checksum (G15, RFC 8200 §8.1).
    NoUdpChecksum = "no-udp-checksum";
    /// A TCP, UDP or ICMP checksum that does not sum up.
    BadChecksum = "bad-checksum";
    /// An ICMP error without enough of the datagram that it is about (G17).
    BadEmbedded = "bad-embedded";
    /// An IPv6 routing header of type 0, or of any type that still has segments to visit (G20, RFC 5095).
    RoutingHeader = "routing-header";
    /// More than `limits::EXTENSION_HEADERS` IPv6 extension headers (G20).
    TooManyExtensions = "too-many-extension-headers";
    /// An IPv6 extension header where it may not stand: hop-by-hop options after another, a second fragment header.
    BadExtension = "bad-extension-header";
    /// An ARP packet that is not about IPv4 on Ethernet, or names a sender that cannot be one.
    BadArp = "bad-arp";
    /// A neighbour discovery message that RFC 4861 §7.1 says to discard.
    BadNeighbor = "bad-neighbor-discovery";
    /// A tunnel header that cannot be read: an unknown GUE variant, flags or control message.
    BadTunnel = "bad-tunnel-header";
}

impl Fault {
    pub const COUNT: usize = Fault::ALL.len();

    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;
    use crate::base::Reason;
    use crate::wire::http1::Reject;

    /// Two meanings under one value of `strata_drops_total{reason}` could not be told apart. A fault is counted as the reason
    /// of its word (`flow::decide::reason`).
    #[test]
    fn every_fault_is_one_reason_and_no_word_has_two_meanings() {
        let reasons = || Reason::ALL.iter().map(|reason| reason.word());
        for fault in Fault::ALL {
            assert_eq!(reasons().filter(|word| *word == fault.word()).count(), 1, "{}", fault.word());
        }
        let mut words: Vec<_> = Reject::ALL.iter().map(|reject| reject.word()).chain(reasons()).collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all);
        assert!(Fault::ALL.iter().enumerate().all(|(at, fault)| fault.index() == at));
    }
}
