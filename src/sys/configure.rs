//! Io: changing this network namespace over routing netlink: addresses, routes, and the settings of an interface.
//!
//! For `strata setup-endpoint` where `ip` is not installed, as in an image from scratch. A container's /proc/sys is read-only as a
//! rule; the kernel takes an interface's own IPv4 settings over netlink all the same, from who has CAP_NET_ADMIN.
//!
//! Not here: tunnel devices, rules, other tables than the main one.

use std::fmt;
use std::io;
use std::net::IpAddr;

use super::link::{self, ip};
use super::netlink::{Message, Netlink, attribute, word};

/// A route of the main table, with all that has to be said to have it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullRoute {
    pub ipv6: bool,
    /// `None`: the default route.
    pub destination: Option<(IpAddr, u8)>,
    pub gateway: Option<IpAddr>,
    pub interface: String,
    /// Who made it (`RTPROT_…`).
    pub protocol: u8,
    pub scope: u8,
    pub source: Option<IpAddr>,
    pub metric: u32,
    /// The segment size that this host announces to who is reached by it.
    pub advmss: Option<u32>,
}

impl FullRoute {
    /// As `ip route` takes it: `default via 10.0.0.1 dev eth0 metric 1`.
    ///
    /// # Errors
    /// The word that is not understood.
    pub fn parse(words: &[&str], ipv6: bool) -> Result<FullRoute, String> {
        let (first, rest) = words.split_first().ok_or("a route without a destination")?;
        let mut route = FullRoute {
            ipv6,
            destination: match *first {
                "default" => None,
                other => Some(network(other).ok_or_else(|| format!("{other} is no network"))?),
            },
            gateway: None,
            interface: String::new(),
            protocol: libc::RTPROT_BOOT,
            scope: libc::RT_SCOPE_UNIVERSE,
            source: None,
            metric: 0,
            advmss: None,
        };
        let mut scope = None;
        let mut words = rest.iter();
        while let Some(name) = words.next() {
            if matches!(*name, "onlink" | "linkdown") {
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{name} of what?"))?;
            let wrong = || format!("{name} {value}");
            match *name {
                "via" => route.gateway = Some(value.parse().map_err(|_| wrong())?),
                "dev" => route.interface = (*value).to_owned(),
                "src" => route.source = Some(value.parse().map_err(|_| wrong())?),
                "metric" => route.metric = value.parse().map_err(|_| wrong())?,
                "advmss" => route.advmss = Some(value.parse().map_err(|_| wrong())?),
                "proto" => route.protocol = of_word(PROTOCOLS, value).ok_or_else(wrong)?,
                "scope" => scope = Some(of_word(SCOPES, value).ok_or_else(wrong)?),
                "pref" => {}
                _ => return Err(wrong()),
            }
        }
        // As `ip` has it: what has no gateway is on the link.
        let on_link = !ipv6 && route.gateway.is_none();
        route.scope = scope.unwrap_or(if on_link { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE });
        Ok(route)
    }

    fn message(&self, kind: u16, flags: i32) -> io::Result<Message> {
        let (prefix, family) = (self.destination.map_or(0, |(_, prefix)| prefix), family(self.ipv6));
        let header =
            [family, prefix, 0, 0, libc::RT_TABLE_MAIN, self.protocol, self.scope, libc::RTN_UNICAST, 0, 0, 0, 0];
        let mut message = Message::new(kind, flags, &header);
        if let Some((address, _)) = self.destination {
            message = message.with(libc::RTA_DST, &octets(address));
        }
        if let Some(gateway) = self.gateway {
            message = message.with(libc::RTA_GATEWAY, &octets(gateway));
        }
        if let Some(source) = self.source {
            message = message.with(libc::RTA_PREFSRC, &octets(source));
        }
        if self.metric != 0 {
            message = message.with(libc::RTA_PRIORITY, &self.metric.to_ne_bytes());
        }
        if let Some(mss) = self.advmss {
            message = message.with_nested(libc::RTA_METRICS, |inner| inner.with(RTAX_ADVMSS, &mss.to_ne_bytes()));
        }
        Ok(message.with(libc::RTA_OIF, &link::index(&self.interface)?.to_ne_bytes()))
    }
}

impl fmt::Display for FullRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.destination {
            None => f.write_str("default")?,
            Some((address, prefix)) => write!(f, "{address}/{prefix}")?,
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}", self.interface)?;
        if self.protocol != libc::RTPROT_BOOT {
            write!(f, " proto {}", to_word(PROTOCOLS, self.protocol))?;
        }
        if self.scope != libc::RT_SCOPE_UNIVERSE {
            write!(f, " scope {}", to_word(SCOPES, self.scope))?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        self.advmss.map_or(Ok(()), |mss| write!(f, " advmss {mss}"))
    }
}

/// Routes of the main table to other machines, of one family, in the kernel's order; those with several paths are left out.
///
/// # Errors
/// What the kernel said.
pub fn routes(ipv6: bool) -> io::Result<Vec<FullRoute>> {
    let links = link::all()?;
    let name = |index| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
    let mut found = Vec::new();
    let mut header = [0; ROUTE_HEADER];
    header[0] = family(ipv6);
    Netlink::open()?.dump(Message::new(libc::RTM_GETROUTE, 0, &header), |_, body| {
        found.extend(read(body, ipv6, &name));
    })?;
    Ok(found)
}

fn read(body: &[u8], ipv6: bool, name: &impl Fn(u32) -> Option<String>) -> Option<FullRoute> {
    let (header, rest) = body.split_first_chunk::<ROUTE_HEADER>()?;
    if header[0] != family(ipv6) || header[4] != libc::RT_TABLE_MAIN || header[7] != libc::RTN_UNICAST {
        return None;
    }
    // Learned of one destination, no line of the table.
    if word(header, 8)? & libc::RTM_F_CLONED != 0 {
        return None;
    }
    let address = |kind| attribute(rest, kind).and_then(ip);
    let number = |kind| attribute(rest, kind).and_then(|value| word(value, 0));
    let metrics = attribute(rest, libc::RTA_METRICS).unwrap_or_default();
    Some(FullRoute {
        ipv6,
        destination: address(libc::RTA_DST).map(|address| (address, header[1])),
        gateway: address(libc::RTA_GATEWAY),
        interface: name(number(libc::RTA_OIF)?)?,
        protocol: header[5],
        scope: header[6],
        source: address(libc::RTA_PREFSRC),
        metric: number(libc::RTA_PRIORITY).unwrap_or(0),
        advmss: attribute(metrics, RTAX_ADVMSS).and_then(|value| word(value, 0)),
    })
}

/// Puts a route in the place of that with the same destination and metric, if there is one. One of another metric stays.
///
/// # Errors
/// What the kernel said: `EPERM` without `CAP_NET_ADMIN`, `ENETUNREACH` where the gateway is on no link.
pub fn replace_route(route: &FullRoute) -> io::Result<()> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    Netlink::open()?.change(route.message(libc::RTM_NEWROUTE, flags)?)
}

/// # Errors
/// `ESRCH` where there is none.
pub fn delete_route(route: &FullRoute) -> io::Result<()> {
    let mut route = route.clone();
    // Whoever made it.
    route.protocol = libc::RTPROT_UNSPEC;
    route.advmss = None;
    Netlink::open()?.change(route.message(libc::RTM_DELROUTE, 0)?)
}

/// A single address for an interface. One of IPv6 serves at once, and is never the source of what the host says of its own accord.
///
/// # Errors
/// `EEXIST` where it has it.
pub fn add_address(address: IpAddr, interface: &str) -> io::Result<()> {
    let mut message = about(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, address, interface)?;
    if address.is_ipv6() {
        message = message.with(IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes());
        // struct ifa_cacheinfo: preferred for no time, valid for ever, and two that the kernel fills in.
        let lives: Vec<u8> = [0, u32::MAX, 0, 0].iter().flat_map(|number: &u32| number.to_ne_bytes()).collect();
        message = message.with(libc::IFA_CACHEINFO, &lives);
    }
    Netlink::open()?.change(message)
}

/// # Errors
/// `EADDRNOTAVAIL` where it has it not.
pub fn delete_address(address: IpAddr, interface: &str) -> io::Result<()> {
    Netlink::open()?.change(about(libc::RTM_DELADDR, 0, address, interface)?)
}

/// A `struct ifaddrmsg` and the address.
fn about(kind: u16, flags: i32, address: IpAddr, interface: &str) -> io::Result<Message> {
    let whole = if address.is_ipv6() { 128 } else { 32 };
    let mut header = [family(address.is_ipv6()), whole, 0, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    header[4..].copy_from_slice(&link::index(interface)?.to_ne_bytes());
    let octets = octets(address);
    Ok(Message::new(kind, flags, &header).with(libc::IFA_LOCAL, &octets).with(libc::IFA_ADDRESS, &octets))
}

/// Sets `net.ipv4.conf.INTERFACE.NAME` without /proc/sys.
///
/// # Errors
/// `NotFound` for a name that is not among those that are ever set here; otherwise what the kernel said.
pub fn set_ipv4(interface: &str, name: &str, value: u32) -> io::Result<()> {
    let id = of_word(IPV4_CONF, name).ok_or(io::ErrorKind::NotFound)?;
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&link::index(interface)?.to_ne_bytes());
    let message = Message::new(libc::RTM_NEWLINK, 0, &header).with_nested(libc::IFLA_AF_SPEC, |families| {
        families.with_nested(family(false).into(), |inet| {
            inet.with_nested(IFLA_INET_CONF, |conf| conf.with(id.into(), &value.to_ne_bytes()))
        })
    });
    Netlink::open()?.change(message)
}

const fn family(ipv6: bool) -> u8 {
    // Both fit: 2 and 10.
    (if ipv6 { libc::AF_INET6 } else { libc::AF_INET }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// `10.0.0.0/24`, or one address.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address.parse::<IpAddr>().ok()?, prefix.parse().ok()?),
        None => (text.parse().ok()?, 128),
    };
    Some((address, if address.is_ipv4() { prefix.min(32) } else { prefix }))
}

/// Names that iproute2 has for numbers; others stand as numbers.
type Words = &'static [(&'static str, u8)];

const PROTOCOLS: Words = &[
    ("redirect", libc::RTPROT_REDIRECT),
    ("kernel", libc::RTPROT_KERNEL),
    ("boot", libc::RTPROT_BOOT),
    ("static", libc::RTPROT_STATIC),
    ("ra", 9),
    ("dhcp", 16),
];
const SCOPES: Words =
    &[("global", libc::RT_SCOPE_UNIVERSE), ("link", libc::RT_SCOPE_LINK), ("host", libc::RT_SCOPE_HOST)];
/// `IPV4_DEVCONF_…` of linux/ip.h.
const IPV4_CONF: Words = &[("accept_redirects", 4), ("rp_filter", 8), ("arp_announce", 18), ("arp_ignore", 19)];

fn of_word(words: Words, text: &str) -> Option<u8> {
    words.iter().find(|(word, _)| *word == text).map(|(_, number)| *number).or_else(|| text.parse().ok())
}

fn to_word(words: Words, number: u8) -> String {
    words.iter().find(|(_, known)| *known == number).map_or_else(|| number.to_string(), |(word, _)| (*word).to_owned())
}

/// `struct rtmsg`, `struct ifinfomsg`.
const ROUTE_HEADER: usize = 12;
const LINK_HEADER: usize = 16;
const RTAX_ADVMSS: u16 = 8;
const IFA_FLAGS: u16 = 8;
const IFLA_INET_CONF: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_taken_as_it_is_shown() {
        for (ipv6, line) in [
            (false, "default via 10.0.0.1 dev eth0"),
            (false, "10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.7"),
            (false, "default via 10.0.0.1 dev eth0 proto dhcp src 10.0.0.7 metric 100 advmss 1400"),
            (false, "10.9.0.0/16 via 10.0.0.1 dev eth0.7 proto 186"),
            (true, "default via fe80::1 dev eth0 metric 1024"),
            (true, "fd00::/64 dev eth0 proto kernel metric 256"),
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(FullRoute::parse(&words, ipv6).map(|route| route.to_string()).as_deref(), Ok(line));
        }
        for wrong in ["", "nowhere dev eth0", "default via", "default via x", "default nexthop via 10.0.0.1"] {
            let words: Vec<&str> = wrong.split_whitespace().collect();
            assert!(FullRoute::parse(&words, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_routes_of_this_machine_can_be_read() {
        // A network namespace of a test may have none; what there is reads back as it is shown.
        for ipv6 in [false, true] {
            for route in routes(ipv6).unwrap() {
                let shown = route.to_string();
                let words: Vec<&str> = shown.split_whitespace().collect();
                assert_eq!(FullRoute::parse(&words, ipv6).as_ref(), Ok(&route));
            }
        }
    }
}
