//! Value: what a service is that forwards packets (`l2`, `l3`, `l4` with NAT), and the virtual addresses they come to.
//!
//! What the engine's tables are built from. Not here: those tables (`flow`), the interfaces and neighbours of the machine.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::service::ModeKind;
use crate::balance::HashBy;
use crate::base::{MacAddr, PoolId, Ports, VipId};
use crate::flow::Policy;

/// What the file says of a packet service, names resolved to ids.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketSpec {
    /// `L2`, `L3` or `L4`: which forwards are possible follows from it.
    pub mode: ModeKind,
    pub forward: Forward,
    pub vip: VipId,
    /// `None`: every port, and every IP protocol. Never `None` at `L4`.
    pub ports: Option<Ports>,
    /// Full NAT: the addresses of ours that endpoints see, at least one of each family that an endpoint has; otherwise empty.
    pub sources: Vec<IpAddr>,
    pub engine: Engine,
    pub pool: PoolId,
    /// `SourceAddressPort` stands for all that names a flow; nothing of HTTP comes here.
    pub hash_by: HashBy,
    /// What its flows get, and how long they may be silent.
    pub policy: Policy,
    /// Size of the service's Maglev table, a prime.
    pub slots: usize,
}

/// What becomes of a packet on its way to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forward {
    /// `l2`: a new destination MAC. Replies go straight to the client.
    Mac,
    /// A new destination address, at `L4` also the endpoint's port where it has one. Replies come back through us.
    Nat,
    /// Both addresses are new: endpoints see us, and need no route through us.
    FullNat,
    /// An outer IP header around the packet. Replies go straight to the client.
    Ipip,
    /// The same with UDP in between, as routers and cards spread it better (draft-ietf-intarea-gue).
    Gue,
}

impl Forward {
    /// As in the file.
    pub const fn word(self) -> &'static str {
        match self {
            Forward::Mac => "mac",
            Forward::Nat => "nat",
            Forward::FullNat => "full-nat",
            Forward::Ipip => "ipip",
            Forward::Gue => "gue",
        }
    }

    /// Whether endpoints answer clients themselves, as the VIP.
    pub const fn is_direct(self) -> bool {
        matches!(self, Forward::Mac | Forward::Ipip | Forward::Gue)
    }

    /// Whether the outer header may be of another family than the packet.
    pub const fn is_tunnel(self) -> bool {
        matches!(self, Forward::Ipip | Forward::Gue)
    }
}

/// Which of a service's endpoints a table is of. A translation keeps the family, and a frame goes to who speaks its own, so a
/// service with both has a table for each; a tunnel may cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    V4,
    V6,
    Any,
}

impl Family {
    pub const ALL: [Family; 3] = [Family::V4, Family::V6, Family::Any];

    /// The tables that a service needs.
    pub fn all_of(spec: &PacketSpec) -> &'static [Family] {
        if spec.forward.is_tunnel() { &[Family::Any] } else { &[Family::V4, Family::V6] }
    }

    pub const fn holds(self, address: IpAddr) -> bool {
        match self {
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
            Family::Any => true,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
            Family::Any => "any",
        }
    }
}

/// Which engine the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The fastest that works here.
    #[default]
    Auto,
    Userspace,
}

impl Engine {
    pub const fn word(self) -> &'static str {
        match self {
            Engine::Auto => "auto",
            Engine::Userspace => "userspace",
        }
    }
}

/// What hands frames to the userspace engine and takes them from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Io {
    /// A ring shared with the kernel, and one system call for a batch of sends.
    Ring,
    /// A ring, and before it AF_XDP sockets that an XDP program of the interface hands most frames to. It changes the interface for others
    /// too (a veth's other end segments in software), so nobody gets it unasked.
    AfXdp,
    /// `pnet`'s loop: four system calls a frame, and no VLAN tags.
    Pnet,
}

impl Io {
    pub const fn word(self) -> &'static str {
        match self {
            Io::Ring => "ring",
            Io::AfXdp => "af-xdp",
            Io::Pnet => "pnet",
        }
    }

    /// The engine that a service has by it: what `strata status` and `strata_service_info` say.
    pub const fn engine(self) -> &'static str {
        match self {
            Io::Ring => "userspace",
            Io::AfXdp => "userspace-af-xdp",
            Io::Pnet => "userspace-pnet",
        }
    }
}

/// What the file says of a VIP; two equal specs are the same VIP.
#[derive(Clone, Debug, PartialEq)]
pub struct VipSpec {
    pub name: Arc<str>,
    /// At least one, each once, in the order of the file.
    pub addresses: Vec<IpAddr>,
    /// Name of the interface that clients' packets come in by.
    pub interface: Arc<str>,
    /// The VLAN whose tag its frames have, 1 to 4094.
    pub vlan: Option<u16>,
    pub mac: VipMac,
}

/// The MAC address that a VIP's frames carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VipMac {
    /// The interface's own.
    #[default]
    Interface,
    /// The virtual router's of this id, 1 to 255, which can move to another machine with the VIP (RFC 9568 §7.3).
    Virtual { id: u8 },
}

impl VipMac {
    /// The MAC address for an address of the VIP, on an interface with the MAC address `own`.
    pub const fn of(self, address: IpAddr, own: MacAddr) -> MacAddr {
        match (self, address) {
            (VipMac::Interface, _) => own,
            (VipMac::Virtual { id }, IpAddr::V4(_)) => MacAddr::virtual_v4(id),
            (VipMac::Virtual { id }, IpAddr::V6(_)) => MacAddr::virtual_v6(id),
        }
    }
}

/// A VIP of a snapshot.
#[derive(Debug)]
pub struct Vip {
    pub id: VipId,
    pub spec: VipSpec,
    /// Outlives reloads that change the spec.
    pub title: Arc<Title>,
}

/// Who answers for a VIP, as the control side last saw it.
#[derive(Debug, Default)]
pub struct Title {
    owner: AtomicBool,
    conflicts: AtomicU64,
}

impl Title {
    /// Whether this process answers for every address, on an interface that is up, and no other machine has claimed one within
    /// `limits::CONTESTED`.
    pub fn is_owner(&self) -> bool {
        self.owner.load(Relaxed)
    }

    /// Claims of other machines that were heard.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Relaxed)
    }

    pub fn set_owner(&self, owner: bool) {
        self.owner.store(owner, Relaxed);
    }

    pub fn contest(&self) {
        self.conflicts.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_has_the_mac_of_its_interface_or_of_its_virtual_router() {
        let own = MacAddr([2, 0, 0, 0, 0, 9]);
        let (v4, v6): (IpAddr, IpAddr) = ("10.0.0.100".parse().unwrap(), "fd00::100".parse().unwrap());
        for (mac, address, shown) in [
            (VipMac::Interface, v4, "02:00:00:00:00:09"),
            (VipMac::Interface, v6, "02:00:00:00:00:09"),
            (VipMac::Virtual { id: 51 }, v4, "00:00:5e:00:01:33"),
            (VipMac::Virtual { id: 51 }, v6, "00:00:5e:00:02:33"),
        ] {
            assert_eq!(mac.of(address, own).to_string(), shown);
        }
    }
}
