//! Io: the way to another machine, as the kernel knows it: which interface, which next hop, whose MAC.
//!
//! The kernel's tables are asked and never listened to: the control side asks when it needs to know, and the kernel keeps them
//! fresh by ARP and neighbour discovery of its own.
//!
//! Not here: ARP and neighbour discovery for a VIP (`flow`), which is none of the kernel's.

use std::io;
use std::net::IpAddr;

use super::link::ip;
use super::netlink::{Message, Netlink, attribute, half, word};
use crate::base::MacAddr;

/// A machine on the same link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub interface: u32,
    pub address: IpAddr,
    pub standing: Standing,
}

/// What is known of its MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// By the operator, and for good.
    Fixed(MacAddr),
    /// Seen lately.
    Known(MacAddr),
    /// Known, but not seen for a while (30 s unless configured): it may have changed.
    Stale(MacAddr),
    /// Asked, no answer yet.
    Asking,
    /// Asked, and nobody answered.
    Absent,
}

impl Standing {
    pub const fn mac(self) -> Option<MacAddr> {
        match self {
            Standing::Fixed(mac) | Standing::Known(mac) | Standing::Stale(mac) => Some(mac),
            Standing::Asking | Standing::Absent => None,
        }
    }
}

/// A conversation with the kernel, for who asks for many things.
#[derive(Debug)]
pub struct Asker(Netlink);

impl Asker {
    /// # Errors
    /// No socket can be had.
    pub fn open() -> io::Result<Asker> {
        Netlink::open().map(Asker)
    }

    /// Every neighbour of every interface, of both families.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn neighbours(&mut self) -> io::Result<Vec<Neighbour>> {
        let mut found = Vec::new();
        self.0.dump(Message::new(libc::RTM_GETNEIGH, 0, &[0; NEIGHBOUR_HEADER]), |_, body| {
            found.extend(read_neighbour(body));
        })?;
        Ok(found)
    }

    /// The main table's routes to other machines, of both families; of one with many paths, the first that lives. Those
    /// of an interface that is down are not among them.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn routes(&mut self) -> io::Result<Vec<TableRoute>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut header = [0; ROUTE_HEADER];
            header[0] = u8::try_from(family).unwrap_or(0);
            self.0.dump(Message::new(libc::RTM_GETROUTE, 0, &header), |_, body| found.extend(table_route(body)))?;
        }
        Ok(found)
    }

    /// What the kernel knows of one neighbour. `None` when it was never asked for.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn neighbour(&mut self, interface: u32, address: IpAddr) -> io::Result<Option<Neighbour>> {
        match self.0.ask(about(libc::RTM_GETNEIGH, 0, interface, address, 0)) {
            Ok(answer) => Ok(read_neighbour(&answer)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the kernel find out the MAC, or find out again when it is stale. The answer is there later, in [`neighbour`]. What the
    /// operator has fixed stays: the kernel would forget it by being asked (`__neigh_update` takes `NUD_PERMANENT` off).
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`; otherwise what the kernel said.
    pub fn solicit(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        if let Some(Neighbour { standing: Standing::Fixed(_), .. }) = self.neighbour(interface, address)? {
            return Ok(());
        }
        self.0.change(about(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE, interface, address, NTF_USE))
    }

    /// # Errors
    /// `ENETUNREACH` or `EHOSTUNREACH` where there is no way.
    pub fn route(&mut self, to: IpAddr) -> io::Result<Route> {
        let mut header = [0; ROUTE_HEADER];
        header[0] = family(to);
        header[1] = if to.is_ipv4() { 32 } else { 128 };
        let answer = self.0.ask(with_address(Message::new(libc::RTM_GETROUTE, 0, &header), libc::RTA_DST, to))?;
        read_route(&answer, to).ok_or(io::ErrorKind::InvalidData.into())
    }
}

/// [`Asker::neighbour`], for one question.
///
/// # Errors
/// What the kernel said.
pub fn neighbour(interface: u32, address: IpAddr) -> io::Result<Option<Neighbour>> {
    Asker::open()?.neighbour(interface, address)
}

/// [`Asker::solicit`], for one question.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`; otherwise what the kernel said.
pub fn solicit(interface: u32, address: IpAddr) -> io::Result<()> {
    Asker::open()?.solicit(interface, address)
}

/// [`Asker::routes`], for one question.
///
/// # Errors
/// What the kernel said.
pub fn routes() -> io::Result<Vec<TableRoute>> {
    Asker::open()?.routes()
}

/// Where the default routes of both families lead.
///
/// # Errors
/// What the kernel said.
pub fn gateways() -> io::Result<Vec<IpAddr>> {
    Ok(routes()?.into_iter().filter(|route| route.prefix == 0).filter_map(|route| route.gateway).collect())
}

/// [`Asker::route`], for one question.
///
/// # Errors
/// `ENETUNREACH` or `EHOSTUNREACH` where there is no way.
pub fn route(to: IpAddr) -> io::Result<Route> {
    Asker::open()?.route(to)
}

/// A `struct ndmsg` and the address.
fn about(kind: u16, flags: i32, interface: u32, address: IpAddr, neighbour_flags: u8) -> Message {
    let mut header = [0; NEIGHBOUR_HEADER];
    header[0] = family(address);
    header[4..8].copy_from_slice(&interface.to_ne_bytes());
    header[10] = neighbour_flags;
    with_address(Message::new(kind, flags, &header), NDA_DST, address)
}

fn read_neighbour(body: &[u8]) -> Option<Neighbour> {
    let (header, rest) = body.split_first_chunk::<NEIGHBOUR_HEADER>()?;
    let state = half(header, 8)?;
    let mac = || Some(MacAddr(attribute(rest, NDA_LLADDR)?.try_into().ok()?));
    let standing = match state {
        state if state & NUD_PERMANENT != 0 => Standing::Fixed(mac()?),
        state if state & NUD_REACHABLE != 0 => Standing::Known(mac()?),
        // Delayed and probed: still in use while the kernel asks again.
        state if state & (NUD_STALE | NUD_DELAY | NUD_PROBE) != 0 => Standing::Stale(mac()?),
        state if state & NUD_INCOMPLETE != 0 => Standing::Asking,
        state if state & NUD_FAILED != 0 => Standing::Absent,
        // Multicast and interfaces without ARP.
        _ => return None,
    };
    Some(Neighbour { interface: word(header, 4)?, address: ip(attribute(rest, NDA_DST)?)?, standing })
}

/// How the kernel would send to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub way: Way,
    pub interface: u32,
    /// The machine on the link that the packet goes to: the gateway, or the destination itself.
    pub next_hop: IpAddr,
    /// The address of ours that it would be sent from.
    pub source: Option<IpAddr>,
    /// Bytes of a packet that fit on the whole way, where less than the interface's were said or learned.
    pub mtu: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To another machine.
    Out,
    /// The address is this machine's own.
    Local,
    /// Broadcast, multicast, or a route that refuses.
    Other,
}

/// A line of the main routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRoute {
    pub destination: IpAddr,
    pub prefix: u8,
    pub interface: u32,
    /// `None`: its addresses are on the link.
    pub gateway: Option<IpAddr>,
    /// Of routes to the same network, the one with the least is taken.
    pub metric: u32,
    /// Bytes of a packet that fit, where the operator has said so (`ip route ... mtu`).
    pub mtu: Option<u32>,
    /// Its interface has no carrier, and the kernel takes it nevertheless.
    pub down: bool,
}

fn table_route(body: &[u8]) -> Option<TableRoute> {
    let (header, rest) = body.split_first_chunk::<ROUTE_HEADER>()?;
    let any = if i32::from(header[0]) == libc::AF_INET { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let flags = word(header, 8)?;
    // What the kernel has learned of one destination is no line of the table.
    if header[4] != libc::RT_TABLE_MAIN || header[7] != libc::RTN_UNICAST || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let path = match attribute(rest, libc::RTA_MULTIPATH) {
        Some(all) => {
            let living = |path: &Path<'_>| path.flags & RTNH_F_DEAD == 0;
            let best = paths(all).filter(living).min_by_key(|path| path.flags & RTNH_F_LINKDOWN);
            best?
        }
        None => Path { flags, interface: word(attribute(rest, libc::RTA_OIF)?, 0)?, attributes: rest },
    };
    if path.flags & RTNH_F_DEAD != 0 {
        return None;
    }
    let via = || attribute(path.attributes, RTA_VIA).and_then(|via| via.get(2..));
    Some(TableRoute {
        destination: attribute(rest, libc::RTA_DST).map_or(Some(any), ip)?,
        prefix: header[1],
        interface: path.interface,
        gateway: attribute(path.attributes, libc::RTA_GATEWAY).or_else(via).and_then(ip),
        metric: attribute(rest, libc::RTA_PRIORITY).and_then(|metric| word(metric, 0)).unwrap_or(0),
        mtu: mtu(rest),
        down: path.flags & RTNH_F_LINKDOWN != 0,
    })
}

/// One of the ways of a route.
struct Path<'a> {
    flags: u32,
    interface: u32,
    attributes: &'a [u8],
}

/// Each path of a `RTA_MULTIPATH`: a `struct rtnexthop`, whose length counts the attributes behind it.
fn paths(mut bytes: &[u8]) -> impl Iterator<Item = Path<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        let path = Path {
            flags: u32::from(*bytes.get(2)?),
            interface: word(bytes, 4)?,
            attributes: bytes.get(PATH_HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(path)
    })
}

/// What the operator has said, or the kernel has learned, of what fits on a route.
fn mtu(attributes: &[u8]) -> Option<u32> {
    word(attribute(attribute(attributes, RTA_METRICS)?, RTAX_MTU)?, 0).filter(|mtu| *mtu > 0)
}

fn read_route(body: &[u8], to: IpAddr) -> Option<Route> {
    let (header, rest) = body.split_first_chunk::<ROUTE_HEADER>()?;
    // A gateway of the other family is in RTA_VIA, behind its family.
    let via = || attribute(rest, RTA_VIA).and_then(|via| via.get(2..));
    let gateway = attribute(rest, libc::RTA_GATEWAY).or_else(via).and_then(ip);
    Some(Route {
        way: match header[7] {
            libc::RTN_UNICAST => Way::Out,
            libc::RTN_LOCAL => Way::Local,
            _ => Way::Other,
        },
        interface: attribute(rest, libc::RTA_OIF).and_then(|index| word(index, 0))?,
        next_hop: gateway.unwrap_or(to),
        source: attribute(rest, libc::RTA_PREFSRC).and_then(ip),
        mtu: mtu(rest),
    })
}

fn with_address(message: Message, kind: u16, address: IpAddr) -> Message {
    match address {
        IpAddr::V4(v4) => message.with(kind, &v4.octets()),
        IpAddr::V6(v6) => message.with(kind, &v6.octets()),
    }
}

const fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// `struct ndmsg` and `struct rtmsg`: bytes before the attributes.
const NEIGHBOUR_HEADER: usize = 12;
pub(super) const ROUTE_HEADER: usize = 12;
/// `struct rtnexthop`.
const PATH_HEADER: usize = 8;

// linux/neighbour.h and linux/rtnetlink.h
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NTF_USE: u8 = 1;
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_REACHABLE: u16 = 0x02;
const NUD_STALE: u16 = 0x04;
const NUD_DELAY: u16 = 0x08;
const NUD_PROBE: u16 = 0x10;
const NUD_FAILED: u16 = 0x20;
const NUD_PERMANENT: u16 = 0x80;
const RTA_METRICS: u16 = 8;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_LINKDOWN: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns::{Namespace, await_that, namespaces};

    const HERE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const THERE: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    /// Two machines on one link.
    fn link() -> Option<[Namespace; 2]> {
        let [here, there] = namespaces()?;
        here.cable(("eth0", HERE), &there, ("eth0", THERE));
        for (machine, host) in [(&here, 1), (&there, 2)] {
            machine.sh(&format!(
                "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip addr add 10.0.0.{host}/24 dev eth0; \
                 ip addr add fd00::{host}/64 dev eth0 nodad"
            ));
        }
        Some([here, there])
    }

    #[test]
    fn the_kernel_finds_out_the_mac_of_a_neighbour_when_asked_to() {
        let Some([here, _there]) = link() else { return };
        let interface = here.index("eth0");
        for (to, mac) in [("10.0.0.2", Some(THERE)), ("fd00::2", Some(THERE)), ("10.0.0.3", None), ("fd00::3", None)] {
            let to: IpAddr = to.parse().unwrap();
            here.run(|| {
                assert_eq!(neighbour(interface, to).unwrap(), None, "{to} was not asked for");
                solicit(interface, to).unwrap();
                let known = || neighbour(interface, to).unwrap().map(|neighbour| neighbour.standing);
                let wanted = mac.map_or(Standing::Absent, Standing::Known);
                await_that("the neighbour", || known() == Some(wanted));
                let found = Neighbour { interface, address: to, standing: wanted };
                assert!(Asker::open().unwrap().neighbours().unwrap().contains(&found), "{to} is listed");
            });
        }
    }

    #[test]
    fn a_neighbour_that_the_operator_fixed_stays_so_and_an_old_one_is_stale() {
        let Some([here, _there]) = link() else { return };
        here.sh("ip neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent; \
            ip neigh add 10.0.0.8 lladdr 02:00:00:00:00:08 dev eth0 nud stale");
        let interface = here.index("eth0");
        let standing = |to: [u8; 4]| here.run(|| neighbour(interface, to.into()).unwrap().unwrap().standing);
        for _ in 0..2 {
            assert_eq!(standing([10, 0, 0, 7]), Standing::Fixed(MacAddr([2, 0, 0, 0, 0, 7])));
            here.run(|| solicit(interface, [10, 0, 0, 7].into()).unwrap());
        }
        assert_eq!(standing([10, 0, 0, 8]), Standing::Stale(MacAddr([2, 0, 0, 0, 0, 8])));
        assert_eq!(standing([10, 0, 0, 8]).mac(), Some(MacAddr([2, 0, 0, 0, 0, 8])));
    }

    #[test]
    fn a_route_names_the_next_hop_and_our_address() {
        let Some([here, _there]) = link() else { return };
        here.sh("ip route add default via 10.0.0.254; ip -6 route add 2001:db8::/32 via fd00::fe; \
            ip route add 192.0.2.0/24 via inet6 fd00::fe dev eth0; ip route add blackhole 203.0.113.0/24");
        let interface = here.index("eth0");
        for (to, way, next_hop, source) in [
            ("10.0.0.2", Way::Out, "10.0.0.2", "10.0.0.1"),
            ("198.51.100.7", Way::Out, "10.0.0.254", "10.0.0.1"),
            ("2001:db8::7", Way::Out, "fd00::fe", "fd00::1"),
            ("192.0.2.7", Way::Out, "fd00::fe", "10.0.0.1"),
            ("10.0.0.1", Way::Local, "10.0.0.1", "10.0.0.1"),
        ] {
            let to: IpAddr = to.parse().unwrap();
            let route = here.run(|| route(to).unwrap());
            assert_eq!((route.way, route.next_hop), (way, next_hop.parse().unwrap()), "{to}");
            assert_eq!(route.source, Some(source.parse().unwrap()), "{to}");
            assert!(way == Way::Local || route.interface == interface, "{to}");
        }
        for nowhere in ["203.0.113.7", "2001:db9::1"] {
            assert!(here.run(|| route(nowhere.parse().unwrap())).is_err(), "{nowhere}");
        }
    }
    #[test]
    fn the_table_tells_metrics_and_mtus_and_leaves_out_what_is_dead() {
        let Some([here, _there]) = link() else { return };
        here.sh("ip link add eth1 type veth peer name eth2; ip link set eth1 up; ip addr add 10.7.0.1/24 dev eth1; \
            ip route add default via 10.0.0.253 metric 600; ip route add default via 10.0.0.254 metric 100; \
            ip route add 192.0.2.0/24 via 10.0.0.254 mtu 1400; ip -6 route add 2001:db8::/32 via fd00::fe mtu 1300; \
            ip route add 198.51.100.0/24 nexthop via 10.7.0.254 nexthop via 10.0.0.254; \
            echo 1 >/proc/sys/net/ipv4/conf/eth1/ignore_routes_with_linkdown");
        let all = here.run(|| Asker::open().unwrap().routes().unwrap());
        let to = |destination: &str| {
            let destination: IpAddr = destination.parse().unwrap();
            let found = all.iter().filter(move |route| route.destination == destination);
            found.map(|route| (route.gateway.unwrap().to_string(), route.metric, route.mtu)).collect::<Vec<_>>()
        };
        let line = |gateway: &str, metric, mtu| (gateway.to_owned(), metric, mtu);
        assert_eq!(to("0.0.0.0"), [line("10.0.0.254", 100, None), line("10.0.0.253", 600, None)]);
        assert_eq!(to("192.0.2.0"), [line("10.0.0.254", 0, Some(1400))]);
        assert_eq!(to("2001:db8::"), [line("fd00::fe", 1024, Some(1300))]);
        assert_eq!(to("198.51.100.0"), [line("10.0.0.254", 0, None)], "the first path has no carrier");
        assert!(all.iter().all(|route| route.destination.to_string() != "10.7.0.0"), "the kernel does not take it");
        here.run(|| assert_eq!(route("192.0.2.9".parse().unwrap()).unwrap().mtu, Some(1400)));
    }
}
