//! Engine: why a VIP would hear nothing on its interface.
//!
//! Refused at start, because nothing else would show it: neighbours are answered nothing, and no counter moves. `strata doctor`
//! asks the same. Not here: whether a cable is in. An interface that is down may come up.

use crate::sys::link::{Kind, Link, Receives};

/// What of a VIP's frames would never come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deaf {
    /// `lo`, a tunnel: there are no neighbours.
    NoEthernet,
    /// The bridge or bond that the interface is a port of.
    PortOf(String),
    /// A macvlan, and the VIP has a MAC address of its own.
    OwnMac,
    /// An ipvlan.
    OwnAddresses,
}

/// Whether frames go out and come in by it. Packets of `lo`, WireGuard, a TUN device or PPP have no MAC addresses.
pub fn is_ethernet(link: &Link) -> bool {
    link.kind != Kind::Loopback && link.mac.is_some_and(|mac| mac.is_unicast())
}

/// `whole` is what the link is a port of, `has_virtual` whether a VIP has a MAC address of its own there.
pub fn why(link: &Link, whole: Option<&str>, has_virtual: bool) -> Option<Deaf> {
    if !is_ethernet(link) {
        return Some(Deaf::NoEthernet);
    }
    match (link.receives, whole) {
        (Receives::OwnMac, _) if has_virtual => Some(Deaf::OwnMac),
        (Receives::OwnAddresses, _) => Some(Deaf::OwnAddresses),
        (_, Some(whole)) => Some(Deaf::PortOf(whole.to_owned())),
        (Receives::AnyMac | Receives::OwnMac, None) => None,
    }
}

impl Deaf {
    /// What the interface is: goes on after its name.
    pub fn what(&self) -> String {
        match self {
            Deaf::NoEthernet => "is no Ethernet interface".to_owned(),
            Deaf::PortOf(whole) => format!("is a port of {whole}"),
            Deaf::OwnMac => "is a macvlan, which hands over frames for its own MAC address only".to_owned(),
            Deaf::OwnAddresses => {
                "is an ipvlan, which hands over packets for the kernel's own addresses only".to_owned()
            }
        }
    }

    /// The way out.
    pub const fn cure(&self) -> &'static str {
        match self {
            Deaf::NoEthernet => {
                "a VIP is answered for by ARP, on Ethernet: name the interface that clients' packets come in by"
            }
            Deaf::PortOf(_) => "its addresses and neighbours are those of the whole: name that as the VIP's interface",
            Deaf::OwnMac => "leave `mac` out of the VIP, or name the interface that it is made from",
            Deaf::OwnAddresses => "name the interface that it is made from",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::MacAddr;
    use crate::sys::link::State;

    #[test]
    fn a_vip_is_refused_where_its_frames_would_never_come() {
        let mac = Some(MacAddr([2, 0, 0, 0, 0, 1]));
        let port = || Some(Deaf::PortOf("br0".to_owned()));
        for (kind, mac, receives, whole, has_virtual, refused) in [
            (Kind::Card, mac, Receives::AnyMac, None, true, None),
            (Kind::Macvlan, mac, Receives::OwnMac, None, false, None),
            (Kind::Macvlan, mac, Receives::OwnMac, None, true, Some(Deaf::OwnMac)),
            (Kind::Other("ipvlan".to_owned()), mac, Receives::OwnAddresses, None, false, Some(Deaf::OwnAddresses)),
            (Kind::Loopback, Some(MacAddr::ZERO), Receives::AnyMac, None, false, Some(Deaf::NoEthernet)),
            (Kind::Other("ipip".to_owned()), None, Receives::AnyMac, None, false, Some(Deaf::NoEthernet)),
            (Kind::Card, Some(MacAddr::ZERO), Receives::AnyMac, None, false, Some(Deaf::NoEthernet)),
            (Kind::Veth, mac, Receives::AnyMac, Some("br0"), false, port()),
            (Kind::Macvlan, mac, Receives::OwnMac, Some("br0"), false, port()),
        ] {
            let case = format!("{kind:?} {mac:?} {receives:?} {whole:?} {has_virtual}");
            let link = Link {
                index: 2,
                name: "eth0".to_owned(),
                mac,
                mtu: 1500,
                state: State::Running,
                kind,
                master: None,
                promiscuity: 0,
                carrier_changes: 0,
                receives,
            };
            assert_eq!(why(&link, whole, has_virtual), refused, "{case}");
        }
    }
}
