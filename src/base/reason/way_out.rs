//! Value: what an operator does about a reason, one line each, for `explain` and `docs/drops.md`.

use super::Reason;

impl Reason {
    /// What helps, or why nothing needs to.
    pub const fn way_out(self) -> &'static str {
        use Reason as R;
        match self {
            R::NoRoute => "add a route for it, or one without a condition as the default",
            R::NoEndpoint => "`strata status` says which endpoints are down, drained or in maintenance, and why",
            R::ConnectFailed => {
                "is the server running, on this address and port? `strata status` shows its last failure"
            }
            R::ConnectTimeout => {
                "is a firewall or a route in the way? `connect_timeout` of the pool is how long is waited"
            }
            R::UpstreamClosed => "look into the endpoint's log; an endpoint's keep-alive should be longer than 30 s",
            R::UpstreamTruncated => "look into the endpoint's log: it began an answer and did not finish it",
            R::UpstreamMalformed => "ask the endpoint directly (`curl -v`): what it says is not HTTP/1.1",
            R::ResponseTimeout => "the endpoint is too slow, or the service's `timeouts.response` too short for it",
            R::ResponseStalled => "the endpoint stopped in the middle: look into its log, or raise `timeouts.response`",
            R::HeaderTimeout => "slow clients and attacks; raise `timeouts.header` only for clients that you know",
            R::BodyTimeout => "slow clients and attacks; raise `timeouts.body` only for clients that you know",
            R::ClientStalled => "the client stopped reading; nothing to do unless many do",
            R::ClientClosed => "the client gave up: look whether the answers take too long",
            R::BodyTooLarge => "raise the service's `limits.max_body`, if such bodies are meant to come",
            R::RetryBudget => "many endpoints fail at once: retrying more would make it worse; mend those",
            R::EndpointLimit => "add endpoints, raise the pool's `limits`, or let some wait with `limits.queue`",
            R::QueueFull => {
                "more comes than the endpoints can carry: add endpoints; a longer queue would only make all wait"
            }
            R::QueueTimeout => {
                "the endpoints are too slow for what comes: add endpoints, or raise `limits.queue_timeout`"
            }
            R::TooManyConnections => "raise the service's `limits.max_connections`, or add a node",
            R::TooManyFromSource => "one client opens very many; raise `limits.max_connections_per_source` if it may",
            R::ProcessFull => {
                "raise the limit of open files (`LimitNOFILE`, `ulimit -n`) or `max_connections` in `[process]`, or add a node"
            }
            R::NoDescriptor => "raise the process's limit of open files (`LimitNOFILE`, `ulimit -n`)",
            R::IdleTimeout => "raise `timeouts.idle` or `timeouts.tunnel`, or let the ends send keep-alives",
            R::DrainDeadline => "raise `timeout` in `[drain]` if connections need longer to finish",
            R::ServiceRemoved => "the configuration no longer has it; clients reconnect elsewhere",
            R::Internal => "a mistake of Strata's: please report it with the log line",
            R::TruncatedPacket => "captured or cut on its way: look for a broken card or tunnel before this machine",
            R::TooManyTags => "a VLAN loop, or a trunk port that should be an access port: look at the switch",
            R::BadIpVersion
            | R::BadHeaderLength
            | R::BadTotalLength
            | R::BadIpChecksum
            | R::BadOption
            | R::BadUdpLength
            | R::BadEmbedded
            | R::BadExtension
            | R::BadTunnel => "broken or forged; if it comes from a host of yours, its card or driver breaks packets",
            R::IpOptions => "no honest client sends them to a service; nothing to do",
            R::BadFragment | R::TinyFragment => {
                "an attack, or a broken router; nothing to do unless the sender is yours"
            }
            R::MartianSource => "forged, or a host of yours has a wrong address: look at the frame's source MAC",
            R::BadTcpFlags => "a port scan; nothing to do",
            R::ZeroPort => "a port scan or a broken client; nothing to do",
            R::NoUdpChecksum => "the client must send one over IPv6 (RFC 8200)",
            R::BadChecksum => "a card or driver on the way breaks packets, or leaves checksums to nobody",
            R::RoutingHeader => "an attack (RFC 5095); nothing to do",
            R::TooManyExtensions => "no honest client sends so many; nothing to do",
            R::BadArp | R::BadNeighbor => "broken or forged; its source MAC says which host on the link sends it",
            R::UnexpectedVlan => {
                "give the VIP its VLAN: the device that takes the tag off (`interface = \"eth0.7\"`) or, for `l2`, the tag (`vlan = 7`)"
            }
            R::GroupSourceMac => "forged or a broken card: look at the switch port that it comes from",
            R::GroupDestinationMac => "a host has a group's MAC address for the VIP: look at its neighbour table",
            R::OwnSourceMac => {
                "a loop in the switches, or another host with this MAC address (two nodes, one virtual MAC?)"
            }
            R::OwnSourceAddress => {
                "this machine cannot be a client of its own VIP; from elsewhere, an endpoint without the VIP sends it back \
                 (`strata doctor`)"
            }
            R::VipConflict => {
                "`strata doctor FILE` names the other owner and the command that takes the address from it"
            }
            R::NoService => {
                "add the port to a service's `ports`, or a service without `ports` that takes the rest; `full-nat` and `l4` take \
                 TCP and UDP only"
            }
            R::HopsExhausted => "traceroute, or a loop: an endpoint that lacks the VIP sends it back (`strata doctor`)",
            R::PacketTooBig => {
                "for tunnels `strata doctor FILE` checks endpoints, `ip route get ENDPOINT` the way to them; clients that are told send less at once"
            }
            R::OversizedFrame => "switch LRO off on the interface: `ethtool -K eth0 lro off` (`strata doctor FILE`)",
            R::FragmentWithoutFirst => {
                "fragments came out of order or their first was lost; smaller datagrams do not need any"
            }
            R::FragmentOverlap => "an attack (RFC 5722); nothing to do",
            R::FragmentScattered => {
                "a path that reorders heavily, or an attack; smaller datagrams do not need fragments"
            }
            R::FragmentedIcmp => "ping with fewer bytes than the MTU",
            R::IcmpIgnored => "nothing to do: redirects, timestamps and their like are not for a balancer",
            R::TinyMtu => "an attack that would slow a flow down; nothing to do",
            R::UnknownFlow => "late, forged, or about a flow that has moved; nothing to do",
            R::TunnelLoop => "an endpoint of the pool is this machine or a VIP: take it out of the file",
            R::Unroutable => {
                "`ip route get ENDPOINT`: add the route, by Ethernet (not WireGuard, TUN, PPP); in l2 the endpoint must be on the VIP's own \
                 network"
            }
            R::NoNeighbor => {
                "one in passing is normal; if it stays, the next hop is down: `ip neigh`, `strata doctor FILE`"
            }
            R::NatPortsExhausted => "add addresses to the service's `source`: each has some 64 000 ports",
            R::NatTableFull => {
                "more flows than fit at once: spread them over nodes, or name `ports` so that none is recorded"
            }
            R::NatCollision => "give each of the two services a `source` of its own, or endpoints other ports",
            R::NatNoFlow => "a connection from before a restart, or idle for too long; its client opens a new one",
            R::NoReply => {
                "an endpoint talks to others through this machine: name the service's `ports`, and only those are Strata's"
            }
            R::TakenAmiss => {
                "a few at a reload, which senders repeat; if they go on, the log says why AF_XDP does not follow"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reason_means_and_what_to_do_is_a_line_each() {
        for reason in Reason::ALL {
            for text in [reason.meaning(), reason.way_out()] {
                assert!(!text.is_empty() && !text.contains('\n') && text.len() < 140, "{}: {text}", reason.word());
            }
            assert!(reason.meaning().ends_with('.'), "{}", reason.word());
            assert!(!reason.way_out().ends_with('.'), "{}", reason.word());
        }
    }
}
