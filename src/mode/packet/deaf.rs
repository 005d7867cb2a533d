//! Engine: why a VIP would hear nothing on its interface.
//!
//! Refused at start, because nothing else would show it: neighbours are answered nothing, and no counter moves.
//! Not here: whether a cable is in. An interface that is down may come up.

use crate::state::{VipMac, VipSpec};
use crate::sys::link::{Link, Receives};

/// What of a VIP's frames would never come, and what to do about it.
pub(super) fn why(vip: &VipSpec, link: &Link) -> Option<String> {
    let (name, interface) = (&vip.name, &vip.interface);
    match link.receives {
        Receives::OwnMac if vip.mac != VipMac::Interface => Some(format!(
            "vip {name}: interface {interface} is a macvlan, which hands over frames for its own MAC address only: leave `mac` out, \
             or name the interface that it is made from"
        )),
        Receives::OwnAddresses => Some(format!(
            "vip {name}: interface {interface} is an ipvlan, which hands over packets for the kernel's own addresses only: name the \
             interface that it is made from"
        )),
        Receives::AnyMac | Receives::OwnMac => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::MacAddr;
    use crate::sys::link::{Kind, State};

    #[test]
    fn a_vip_is_refused_where_its_frames_would_never_come() {
        let virtual_mac = VipMac::Virtual { id: 51 };
        for (receives, mac, refused) in [
            (Receives::AnyMac, virtual_mac, None),
            (Receives::OwnMac, VipMac::Interface, None),
            (Receives::OwnMac, virtual_mac, Some("macvlan")),
            (Receives::OwnAddresses, VipMac::Interface, Some("ipvlan")),
        ] {
            let vip = VipSpec { name: "game".into(), addresses: Vec::new(), interface: "eth0".into(), vlan: None, mac };
            let link = Link {
                index: 2,
                name: "eth0".to_owned(),
                mac: Some(MacAddr::ZERO),
                mtu: 1500,
                state: State::Running,
                kind: Kind::Card,
                master: None,
                promiscuity: 0,
                carrier_changes: 0,
                receives,
            };
            let said = why(&vip, &link);
            assert_eq!(said.is_some(), refused.is_some(), "{receives:?} {mac:?}: {said:?}");
            assert!(refused.is_none_or(|word| said.is_some_and(|said| said.contains(word) && said.contains("game"))));
        }
    }
}
