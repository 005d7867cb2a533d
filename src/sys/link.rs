//! Io: what the kernel knows of a network interface: its addresses, its state, what its card does in our place.
//!
//! Not here: other machines (`neighbour`).

use std::ffi::CString;
use std::fmt;
use std::io;
use std::mem::zeroed;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use libc::c_int;

use super::netlink::{Message, Netlink, attribute, word};
use crate::base::MacAddr;

/// An interface, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `None` for one that has no Ethernet addresses: `lo` has zeros, a tunnel none.
    pub mac: Option<MacAddr>,
    /// Bytes of a packet, its Ethernet header not counted.
    pub mtu: u32,
    pub state: State,
    pub kind: Kind,
    /// The bridge or bond that it is a port of, or the VRF that it is in.
    pub master: Option<u32>,
    /// How many want every frame that passes: a packet socket for a virtual MAC on a card that knows one address only is one.
    pub promiscuity: u32,
    /// How often its carrier has come or gone, so that a flap between two looks shows.
    pub carrier_changes: u32,
    /// What it hands over of the frames that its network brings.
    pub receives: Receives,
}

/// Which frames of other addresses than its own an interface may hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receives {
    /// For every MAC that it is asked for.
    AnyMac,
    /// For its own MAC and groups, whatever it is asked for: a macvlan, but for one that has its card alone (`passthru`).
    OwnMac,
    /// For IP addresses that the kernel has on it: an ipvlan.
    OwnAddresses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Down,
    /// Up, but the cable is not in, or the other end is down.
    NoCarrier,
    Running,
}

/// What an interface is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A card, or what behaves like one.
    Card,
    Loopback,
    Veth,
    Bridge,
    Macvlan,
    Vlan,
    Bond,
    Other(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Card => "card",
            Kind::Loopback => "loopback",
            Kind::Veth => "veth",
            Kind::Bridge => "bridge",
            Kind::Macvlan => "macvlan",
            Kind::Vlan => "vlan",
            Kind::Bond => "bond",
            Kind::Other(other) => other,
        })
    }
}

/// Index of the interface of that name.
///
/// # Errors
/// `ENODEV` where there is none.
pub fn index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `name` is a live string that ends with a zero.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// The interface of that name.
///
/// # Errors
/// `ENODEV` where there is none.
pub fn by_name(name: &str) -> io::Result<Link> {
    by_index(index(name)?)
}

/// The interface of that index.
///
/// # Errors
/// `ENODEV` where there is none.
pub fn by_index(index: u32) -> io::Result<Link> {
    let mut header = [0; INFO_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let answer = Netlink::open()?.ask(Message::new(libc::RTM_GETLINK, 0, &header))?;
    read_link(&answer).ok_or(io::ErrorKind::InvalidData.into())
}

/// Every interface of this machine, in the order of their indices.
///
/// # Errors
/// What the kernel said.
pub fn all() -> io::Result<Vec<Link>> {
    let mut found = Vec::new();
    Netlink::open()?
        .dump(Message::new(libc::RTM_GETLINK, 0, &[0; INFO_HEADER]), |_, body| found.extend(read_link(body)))?;
    found.sort_by_key(|link: &Link| link.index);
    Ok(found)
}

impl Link {
    /// Name of the bridge or bond that it is a port of. A VRF is a master too, and takes no frames.
    pub fn whole(&self) -> Option<String> {
        let master = by_index(self.master?).ok()?;
        (master.kind != Kind::Other("vrf".to_owned())).then_some(master.name)
    }
}

fn read_link(body: &[u8]) -> Option<Link> {
    let (header, rest) = body.split_first_chunk::<INFO_HEADER>()?;
    let flags = word(header, 8)?.cast_signed();
    let number = |kind| attribute(rest, kind).and_then(|value| word(value, 0));
    let up = flags & libc::IFF_UP != 0;
    let running = flags & libc::IFF_LOWER_UP != 0 && flags & libc::IFF_RUNNING != 0;
    let info = attribute(rest, libc::IFLA_LINKINFO);
    let made = info.and_then(|info| attribute(info, libc::IFLA_INFO_KIND)).map(text);
    Some(Link {
        index: word(header, 4)?,
        name: text(attribute(rest, libc::IFLA_IFNAME)?),
        mac: attribute(rest, libc::IFLA_ADDRESS).and_then(|mac| Some(MacAddr(mac.try_into().ok()?))),
        mtu: number(libc::IFLA_MTU)?,
        state: match (up, running) {
            (false, _) => State::Down,
            (true, false) => State::NoCarrier,
            (true, true) => State::Running,
        },
        kind: match made.as_deref() {
            None if flags & libc::IFF_LOOPBACK != 0 => Kind::Loopback,
            None => Kind::Card,
            Some("veth") => Kind::Veth,
            Some("bridge") => Kind::Bridge,
            Some("macvlan") => Kind::Macvlan,
            Some("vlan") => Kind::Vlan,
            Some("bond") => Kind::Bond,
            Some(other) => Kind::Other(other.to_owned()),
        },
        master: number(libc::IFLA_MASTER),
        promiscuity: number(libc::IFLA_PROMISCUITY).unwrap_or(0),
        carrier_changes: number(libc::IFLA_CARRIER_CHANGES).unwrap_or(0),
        receives: match made.as_deref() {
            Some("macvlan" | "macvtap") if macvlan_mode(info) != Some(MACVLAN_MODE_PASSTHRU) => Receives::OwnMac,
            Some("ipvlan") => Receives::OwnAddresses,
            _ => Receives::AnyMac,
        },
    })
}

fn macvlan_mode(info: Option<&[u8]>) -> Option<u32> {
    word(attribute(attribute(info?, libc::IFLA_INFO_DATA)?, IFLA_MACVLAN_MODE)?, 0)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// An address of an interface, and how many bits of it name its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub interface: u32,
    pub address: IpAddr,
    pub prefix: u8,
}

/// Every address of this machine, link-local ones among them.
///
/// # Errors
/// What the kernel said.
pub fn addresses() -> io::Result<Vec<Address>> {
    let mut found = Vec::new();
    Netlink::open()?.dump(Message::new(libc::RTM_GETADDR, 0, &[0; ADDRESS_HEADER]), |_, body| {
        found.extend(read_address(body));
    })?;
    Ok(found)
}

fn read_address(body: &[u8]) -> Option<Address> {
    let (header, rest) = body.split_first_chunk::<ADDRESS_HEADER>()?;
    // On a point-to-point interface IFA_ADDRESS is the other end's.
    let address = attribute(rest, libc::IFA_LOCAL).or_else(|| attribute(rest, libc::IFA_ADDRESS))?;
    Some(Address { interface: word(header, 4)?, address: ip(address)?, prefix: header[1] })
}

/// An address as netlink carries it.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// What a card does to frames that Strata would have to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// It puts received segments together.
    pub lro: bool,
    /// It takes VLAN tags out.
    pub rx_vlan: bool,
}

/// # Errors
/// `ENODEV` where there is no such interface.
pub fn offloads(name: &str) -> io::Result<Offloads> {
    let flags = ethtool(&control()?, name, ETHTOOL_GFLAGS)?;
    Ok(Offloads { lro: flags & ETH_FLAG_LRO != 0, rx_vlan: flags & ETH_FLAG_RXVLAN != 0 })
}

/// How many queues of the interface receive frames, as it is set now; `None` where its driver does not say.
///
/// # Errors
/// `ENODEV` where there is no such interface.
pub fn receive_queues(name: &str) -> io::Result<Option<u32>> {
    let mut channels = EthtoolChannels { command: ETHTOOL_GCHANNELS, ..EthtoolChannels::default() };
    // SAFETY: this is what the command reads and fills.
    match unsafe { ethtool_by(&control()?, name, &mut channels) } {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(None),
        Err(error) => return Err(error),
    }
    // Of a tap that nobody has open it is none.
    Ok(Some(channels.receive.saturating_add(channels.combined)).filter(|count| *count > 0))
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct EthtoolChannels {
    command: u32,
    most: [u32; 4],
    receive: u32,
    send: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

fn ethtool(socket: &OwnedFd, name: &str, command: u32) -> io::Result<u32> {
    let mut value = EthtoolValue { command, data: 0 };
    // SAFETY: this is what each of these commands reads and fills.
    unsafe { ethtool_by(socket, name, &mut value) }?;
    Ok(value.data)
}

/// # Safety
/// `T` is the structure that the command in `value`, its first field, reads and fills.
unsafe fn ethtool_by<T>(socket: &OwnedFd, name: &str, value: &mut T) -> io::Result<()> {
    // SAFETY: `ifreq` is made of bytes, integers and pointers, for all of which zeros are a valid value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // The last byte stays zero.
    let room = request.ifr_name.split_last_mut().map(|(_, room)| room).unwrap_or_default();
    if name.len() > room.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in room.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(value).cast();
    // SAFETY: `request` is a live `ifreq` whose name ends with a zero and whose data points to a live value of what the command takes.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A socket for requests that name an interface.
fn control() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let fd: c_int = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is an open descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `struct ifinfomsg` and `struct ifaddrmsg`: bytes before the attributes.
const INFO_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;

// linux/if_link.h
const IFLA_MACVLAN_MODE: u16 = 1;
const MACVLAN_MODE_PASSTHRU: u32 = 8;

// linux/ethtool.h
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_FLAG_LRO: u32 = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns::namespaces;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    #[test]
    fn an_interface_is_known_by_name_and_by_index() {
        let Some([one, other]) = namespaces() else { return };
        one.cable(("eth0", MAC), &other, ("far", MacAddr([2, 0, 0, 0, 0, 2])));
        one.sh("ip link set eth0 mtu 1400; ip link add br0 type bridge; ip link set eth0 master br0 promisc on");
        one.run(|| {
            let link = by_name("eth0").unwrap();
            assert_eq!(by_index(link.index).unwrap(), link);
            assert!(all().unwrap().contains(&link));
            let bridge = by_name("br0").unwrap();
            assert_eq!((&link.name[..], link.mac, link.mtu, &link.kind), ("eth0", Some(MAC), 1400, &Kind::Veth));
            // One for the bridge, one for the command.
            assert_eq!((link.master, link.promiscuity, bridge.kind), (Some(bridge.index), 2, Kind::Bridge));
            assert_eq!(by_name("lo").unwrap().kind, Kind::Loopback);
            for missing in [by_name("eth7").unwrap_err(), by_index(7_000_000).unwrap_err()] {
                assert_eq!(missing.raw_os_error(), Some(libc::ENODEV));
            }
        });
    }

    #[test]
    fn a_macvlan_hands_over_what_is_for_its_own_mac_unless_it_has_the_card_alone() {
        let Some([one, other]) = namespaces() else { return };
        one.cable(("eth0", MAC), &other, ("far", MacAddr([2, 0, 0, 0, 0, 2])));
        other.cable(("eth1", MacAddr([2, 0, 0, 0, 0, 3])), &one, ("far1", MacAddr([2, 0, 0, 0, 0, 4])));
        let receives = |name: &str| one.run(|| by_name(name).unwrap().receives);
        assert_eq!(receives("eth0"), Receives::AnyMac);
        one.sh("ip link add shared link eth0 type macvlan mode bridge");
        assert_eq!(receives("shared"), Receives::OwnMac);
        one.sh("ip link add alone link far1 type macvlan mode passthru");
        assert_eq!(receives("alone"), Receives::AnyMac);
    }

    #[test]
    fn a_carrier_that_goes_and_comes_back_between_two_looks_shows() {
        let Some([one, other]) = namespaces() else { return };
        one.cable(("eth0", MAC), &other, ("far", MacAddr([2, 0, 0, 0, 0, 2])));
        let link = || one.run(|| by_name("eth0").unwrap());
        super::super::netns::await_that("the carrier", || link().state == State::Running);
        let before = link();
        other.sh("ip link set far down; ip link set far up");
        super::super::netns::await_that("the carrier", || link().state == State::Running);
        assert!(link().carrier_changes > before.carrier_changes);
    }

    #[test]
    fn an_interface_runs_when_both_ends_are_up() {
        let Some([one, other]) = namespaces() else { return };
        one.cable(("eth0", MAC), &other, ("far", MacAddr([2, 0, 0, 0, 0, 2])));
        let state = || one.run(|| by_name("eth0").unwrap().state);
        super::super::netns::await_that("the carrier", || state() == State::Running);
        other.sh("ip link set far down");
        assert_eq!(state(), State::NoCarrier);
        one.sh("ip link set eth0 down");
        assert_eq!(state(), State::Down);
    }

    #[test]
    fn addresses_of_both_families_are_listed() {
        let Some([one, other]) = namespaces() else { return };
        one.cable(("eth0", MAC), &other, ("far", MacAddr([2, 0, 0, 0, 0, 2])));
        one.sh("echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip addr add 10.0.0.1/24 dev eth0; \
            ip addr add fd00::1/64 dev eth0; ip addr add 10.9.0.1 peer 10.9.0.2 dev eth0");
        let interface = one.index("eth0");
        let found = one.run(|| addresses().unwrap());
        for (text, prefix) in [("10.0.0.1", 24), ("fd00::1", 64), ("10.9.0.1", 32)] {
            let wanted = Address { interface, address: text.parse().unwrap(), prefix };
            assert!(found.contains(&wanted), "{wanted:?} not in {found:?}");
        }
        assert!(!found.iter().any(|address| address.address == IpAddr::from([10, 9, 0, 2])));
    }

    #[test]
    fn queues_that_receive_are_counted_as_they_are_set() {
        let Some([one]) = namespaces() else { return };
        one.sh("ip link add q numrxqueues 3 numtxqueues 5 type veth peer name p; ip link set q up");
        let count = |name: &str| one.run(|| receive_queues(name));
        assert_eq!(count("q").unwrap(), Some(3));
        one.sh("ethtool -L q rx 2");
        assert_eq!(count("q").unwrap(), Some(2));
        assert_eq!(count("lo").unwrap(), None);
        assert_eq!(count("eth7").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn offloads_are_read() {
        let Some([one, other]) = namespaces() else { return };
        one.cable(("eth0", MAC), &other, ("far", MacAddr([2, 0, 0, 0, 0, 2])));
        one.run(|| {
            assert_eq!(offloads("eth0").unwrap(), Offloads { lro: false, rx_vlan: true });
            assert_eq!(offloads("eth7").unwrap_err().raw_os_error(), Some(libc::ENODEV));
            assert!(offloads("a name that no interface can have").is_err());
        });
    }
}
