//! Value: what the kernel is kept from on an endpoint's interface under `nat`, and what stays its own.
//!
//! An endpoint's gateway is this machine, so its names, updates and pings come by too. Where a service has ports, replies come from
//! those and nothing else does; the rest goes to the kernel, which forwards it. Without ports any packet may be a reply, and what is
//! none is dropped by the engine, by name.
//!
//! Not here: which interface that is (`engine`), and how frames are told apart (`sys::classify`).

use std::collections::HashSet;
use std::net::IpAddr;

use crate::base::{EndpointAddr, Ports, limits};
use crate::sys::classify::Rule;

/// What may be a reply of one endpoint, of a service with these ports.
pub(super) fn rules(ports: Option<&Ports>, endpoint: EndpointAddr) -> Vec<Rule> {
    let from = Rule::from(endpoint.ip());
    let Some(ports) = ports else { return vec![from] };
    let ranges = ports.iter().map(|range| {
        let ports = endpoint.port().map_or(range.first..=range.last, |port| port..=port);
        from.clone().narrowed(range.transport.protocol(), Some(ports))
    });
    ranges.collect()
}

/// Where an endpoint's packets are for this machine, of its addresses. Nobody sends to loopback ones from outside, and the
/// classifier knows link-local ones by themselves.
pub(super) fn own(addresses: impl IntoIterator<Item = IpAddr>) -> impl Iterator<Item = IpAddr> {
    let mut seen = HashSet::new();
    let reached = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    addresses.into_iter().filter(reached).filter(move |address| seen.insert(*address))
}

/// What does not fit into the classifiers of an interface.
pub(super) fn excess(interface: &str, rules: &[Rule]) -> Option<String> {
    let count = |of: fn(&Rule) -> bool| rules.iter().filter(|rule| of(rule)).count();
    let (own, replies) = (count(Rule::is_kept), count(Rule::is_source));
    if own > limits::OWN_ADDRESSES {
        return Some(format!(
            "interface {interface}: this machine has {own} addresses, and `forward = \"nat\"` can keep endpoints' packets to at most \
             {} for it: use `full-nat`, or take addresses away",
            limits::OWN_ADDRESSES
        ));
    }
    (replies > limits::REPLY_RULES).then(|| {
        format!(
            "interface {interface}: the endpoints of `forward = \"nat\"` and their ranges of `ports` make {replies} pairs, more than \
             the {} that fit: name fewer ranges, use `full-nat`, or spread them over nodes",
            limits::REPLY_RULES
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PortRange;

    #[test]
    fn replies_come_from_the_endpoints_port_or_else_the_services() {
        let said = Ports::new(["80/tcp", "53/udp", "8000-8009/tcp"].map(|range| PortRange::parse(range).unwrap()));
        let ip: IpAddr = "10.1.0.41".parse().unwrap();
        let from = |protocol, ports| Rule::from(ip).narrowed(protocol, Some(ports));
        let host = EndpointAddr::host(ip);
        assert_eq!(rules(None, host), [Rule::from(ip)]);
        assert_eq!(rules(Some(&said), host), [from(6, 80..=80), from(6, 8000..=8009), from(17, 53..=53)]);
        let one = Ports::new([PortRange::parse("80/tcp").unwrap()]);
        assert_eq!(rules(Some(&one), std::net::SocketAddr::new(ip, 8080).into()), [from(6, 8080..=8080)]);
    }

    #[test]
    fn addresses_that_endpoints_reach_are_kept_once_each() {
        let all = ["127.0.0.1", "10.0.0.2", "::1", "fe80::1", "10.0.0.2", "fd00::2"].map(|text| text.parse().unwrap());
        let kept: Vec<String> = own(all).map(|address| address.to_string()).collect();
        assert_eq!(kept, ["10.0.0.2", "fd00::2"]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let at = |n: usize| IpAddr::from([10, 1, (n >> 8) as u8, n as u8]);
        let fits: Vec<Rule> = (0..limits::OWN_ADDRESSES).map(|n| Rule::keep(at(n))).collect();
        let replies: Vec<Rule> = (0..limits::REPLY_RULES).map(|n| Rule::from(at(n))).collect();
        assert_eq!(excess("eth1", &[&fits[..], &replies].concat()), None);
        let own = excess("eth1", &[&fits[..], &[Rule::keep(at(9999))]].concat()).unwrap();
        assert!(own.contains("has 257 addresses"), "{own}");
        let many = excess("eth1", &[&replies[..], &[Rule::from(at(9999))]].concat()).unwrap();
        assert!(many.contains("make 8193 pairs"), "{many}");
    }
}
