//! Value: what doctor knows of a balancer's host, its VIPs and its endpoints. Gathered by `look`, judged by `checks`.
//!
//! `None` for what is asked on the wire means that it could not be asked; an answer that did not come is an answer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::base::MacAddr;
use crate::flow::tables::LinkId;
use crate::state::Forward;
use crate::sys::capability::Capability;
use crate::sys::ingress::Guard;
use crate::sys::link::Link;
use crate::sys::tun::TunError;

#[derive(Debug, Default)]
pub struct Facts {
    /// Those that packet modes need, and whether they are held.
    pub capabilities: Vec<(Capability, bool)>,
    /// The file asks for AF_XDP.
    pub af_xdp: bool,
    pub interfaces: Vec<Interface>,
    /// Names of all there are.
    pub devices: Vec<String>,
    /// Addresses of this host.
    pub own: Vec<Own>,
    /// Whether the kernel forwards IPv4, IPv6.
    pub forwards: [bool; 2],
    pub vips: Vec<Vip>,
    pub sources: Vec<Source>,
    pub endpoints: Vec<Endpoint>,
    /// `None`: no probe goes through a VIP.
    pub passages: Option<Passages>,
    /// Questions beyond `limits::DOCTOR_QUESTIONS`, which were not asked.
    pub left_out: usize,
}

/// One that Strata takes packets from, or that was asked for.
#[derive(Debug)]
pub struct Interface {
    pub name: String,
    /// `None`: there is none of this name.
    pub link: Option<Link>,
    /// The bridge or bond that it is a port of.
    pub master: Option<String>,
    pub role: Role,
    /// The card puts segments together.
    pub lro: bool,
    /// The card takes VLAN tags out.
    pub rx_vlan: bool,
    pub guard: Guard,
}

impl Facts {
    /// The interface of that name, among those that are looked at.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.interfaces.iter().find(|interface| interface.name == name)?.link.as_ref()
    }
}

/// What comes in by an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What clients send to a VIP. `has_virtual`: one there has a MAC address of its own.
    Clients { has_virtual: bool },
    /// Nothing but what NAT's endpoints answer.
    Replies,
}

#[derive(Debug)]
pub struct Own {
    pub address: IpAddr,
    pub prefix: u8,
    pub device: String,
}

/// One address of a VIP.
#[derive(Debug)]
pub struct Vip {
    pub address: IpAddr,
    pub interface: String,
    /// 0: its frames have no tag.
    pub vlan: u16,
    /// Who else says that it is theirs.
    pub claimed: Option<Vec<MacAddr>>,
}

/// An address that full NAT shows endpoints.
#[derive(Debug)]
pub struct Source {
    pub service: String,
    pub address: IpAddr,
    pub claimed: Option<Vec<MacAddr>>,
}

/// What probes through VIPs need of this host.
#[derive(Debug)]
pub struct Passages {
    /// Whether there can be a device for them.
    pub device: Result<(), TunError>,
    /// VIPs whose answers a strict `rp_filter` drops, and the interfaces that they come by.
    pub strict: BTreeSet<(IpAddr, String)>,
}

/// An endpoint as one service uses it.
#[derive(Debug)]
pub struct Endpoint {
    pub service: String,
    pub name: String,
    pub address: IpAddr,
    pub forward: Forward,
    /// In the file.
    pub fixed: Option<MacAddr>,
    pub way: Way,
    /// Where the next hop says that it is; `Some(None)`: nobody answered.
    pub mac: Option<Option<MacAddr>>,
    /// Whether its own address answers an echo.
    pub pinged: Option<bool>,
    /// NAT: whether what it sends to clients comes by here.
    pub returned: Option<bool>,
    /// NAT: the setting that has the kernel not forward what it sends of its own. `None` as well where none of that comes to the
    /// kernel, for want of `ports`.
    pub unforwarded: Option<String>,
    /// Direct return: whether it takes packets for each address of the VIP.
    pub vips: Vec<Seen>,
    /// The address of ours that it reaches us at.
    pub balancer: Option<IpAddr>,
}

/// How this host reaches an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is this host.
    Here,
    /// No route leads there: what the kernel said.
    Nowhere(String),
    /// By an interface that carries no frames: what would be sent there is dropped.
    Frameless { interface: String },
    /// `router`: the next hop, if that is not the endpoint itself.
    /// `path`: bytes of a packet that fit, where the route says, or the kernel has learned, that it is less than the interface's `mtu`.
    Out { interface: String, link: LinkId, mtu: u32, path: Option<u32>, router: Option<IpAddr> },
}

/// What an endpoint did about packets for the VIP.
#[derive(Debug)]
pub struct Seen {
    pub vip: IpAddr,
    pub tcp: Tcp,
    pub answered: Option<bool>,
    /// The largest segment that its SYN-ACK let us send.
    pub mss: Option<u16>,
}

/// The TCP that comes to the VIP by a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tcp {
    /// The service's ports are all UDP's.
    Never,
    /// To ports that nobody has named.
    Somewhere,
    /// To this port among others, where a server should answer.
    Port(u16),
}

impl Tcp {
    pub const fn port(self) -> Option<u16> {
        match self {
            Tcp::Port(port) => Some(port),
            Tcp::Never | Tcp::Somewhere => None,
        }
    }
}

impl Vip {
    /// Where it is answered for.
    pub fn place(&self) -> String {
        let Vip { interface, vlan, .. } = self;
        if *vlan == 0 { interface.clone() } else { format!("{interface}, VLAN {vlan}") }
    }
}

impl Endpoint {
    /// The VLAN that its frames are tagged with, on which this host has no address.
    pub fn vlan(&self) -> Option<u16> {
        let Way::Out { link, .. } = &self.way else { return None };
        Some(link.vlan).filter(|vlan| *vlan != 0)
    }

    /// Whether it has the VIP and answers clients itself.
    pub const fn is_direct(&self) -> bool {
        matches!(self.forward, Forward::Mac | Forward::Ipip | Forward::Gue)
    }

    /// Whether frames from or to this MAC address are its own: as the file says, or as it answers itself.
    pub fn has(&self, mac: MacAddr) -> bool {
        self.fixed == Some(mac) || self.mac == Some(Some(mac))
    }

    /// Where frames to its next hop go.
    pub fn next_mac(&self) -> Option<MacAddr> {
        self.fixed.or(self.mac.flatten())
    }

    /// Bytes of the headers that its tunnel adds.
    pub fn overhead(&self) -> u32 {
        let outer = if self.address.is_ipv6() { 40 } else { 20 };
        let between = u32::try_from(crate::wire::gue::Variant::Header.overhead()).unwrap_or(0);
        match self.forward {
            Forward::Mac | Forward::Nat | Forward::FullNat => 0,
            Forward::Ipip => outer,
            Forward::Gue => outer + between,
        }
    }
}
