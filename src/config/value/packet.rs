//! Value: what a file says of packet services and the VIPs they are reached at.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::{SerializeMap, Serializer};

use super::{duration, shown};
use crate::base::PortRange;
use crate::doc::Spanned;
use crate::flow::{Affinity, OnDown};
use crate::state::{Engine, Forward, Io, ModeKind, VipMac};

/// What holds for all packet services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Packets {
    /// `None`: a ring, or what works where none can be made.
    #[serde(serialize_with = "io_word")]
    pub io: Spanned<Option<Io>>,
}

/// A virtual address that packet services are reached at.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Vip {
    #[serde(skip)]
    pub name: Spanned<Arc<str>>,
    #[serde(rename = "address")]
    pub addresses: Vec<Spanned<IpAddr>>,
    #[serde(serialize_with = "shown")]
    pub interface: Spanned<Arc<str>>,
    /// The VLAN whose tag its frames have; `None`: they have none, or the interface takes it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Spanned<u16>>,
    #[serde(serialize_with = "vip_mac")]
    pub mac: VipMac,
}

/// `l2`, `l3`, and `l4` with NAT.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Packet {
    #[serde(skip)]
    pub mode: ModeKind,
    #[serde(serialize_with = "shown")]
    pub vip: Spanned<Arc<str>>,
    /// As written, none overlapping; `None`: every port and protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Spanned<PortRange>>>,
    #[serde(skip_serializing_if = "is_implied", serialize_with = "forward_word")]
    pub forward: Forward,
    #[serde(rename = "source", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Spanned<IpAddr>>,
    #[serde(serialize_with = "engine_word")]
    pub engine: Engine,
    #[serde(serialize_with = "shown")]
    pub pool: Spanned<Arc<str>>,
    #[serde(serialize_with = "affinity")]
    pub affinity: Affinity,
    #[serde(serialize_with = "on_down")]
    pub on_down: OnDown,
    pub slots: Spanned<usize>,
    pub flow_timeouts: FlowTimeouts,
}

/// The waits of a flow; as `flow::Policy` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FlowTimeouts {
    #[serde(serialize_with = "duration")]
    pub tcp: Duration,
    #[serde(serialize_with = "duration")]
    pub other: Duration,
}

/// `l2` has one way to forward, which is not written.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
fn is_implied(forward: &Forward) -> bool {
    *forward == Forward::Mac
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
fn forward_word<S: Serializer>(value: &Forward, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.word())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
fn engine_word<S: Serializer>(value: &Engine, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.word())
}

fn io_word<S: Serializer>(io: &Spanned<Option<Io>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(io.value.map_or("auto", Io::word))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
fn affinity<S: Serializer>(value: &Affinity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match value {
        Affinity::Flow => "flow",
        Affinity::Packet => "packet",
    })
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
fn on_down<S: Serializer>(value: &OnDown, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match value {
        OnDown::Rehash => "rehash",
        OnDown::Keep => "keep",
        OnDown::Reset => "reset",
    })
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
fn vip_mac<S: Serializer>(value: &VipMac, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        VipMac::Interface => serializer.serialize_str("interface"),
        VipMac::Virtual { id } => {
            let mut map = serializer.serialize_map(Some(2))?;
            map.serialize_entry("type", "virtual")?;
            map.serialize_entry("id", id)?;
            map.end()
        }
    }
}
