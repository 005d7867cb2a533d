//! Engine: reads one `[vip.NAME]`: an address that packet services are reached at, and where it lives.

use std::net::IpAddr;
use std::sync::Arc;

use super::value::Vip;
use crate::base::limits;
use crate::doc::{Diagnostic, Field, Grammar, Item, Kind, Spanned, Table, codes, quote};
use crate::state::VipMac;

pub(super) fn read_vip(name: Spanned<Arc<str>>, item: &Item<'_>) -> Option<Vip> {
    item.table("vip", |table| {
        let addresses = read_addresses(table, &name);
        let interface = table.need("interface", "interface = \"eth0\"").and_then(|item| read_interface(&item));
        let vlan = table.get("vlan").and_then(|item| item.integer(1, VLANS));
        let mac = table.get("mac").and_then(|item| item.settings(MACS));
        let id = mac.filter(|mac| mac.name == VIRTUAL.name).and_then(|mac| u8::try_from(mac.integer("id")).ok());
        Vip {
            name,
            addresses,
            interface: interface.unwrap_or_else(|| Spanned::implied(Arc::from(""))),
            vlan: vlan.and_then(|vlan| Some(Spanned::new(u16::try_from(vlan.value).ok()?, vlan.span))),
            mac: id.map_or(VipMac::Interface, |id| VipMac::Virtual { id }),
        }
    })
}

fn read_addresses(table: &mut Table<'_>, name: &Spanned<Arc<str>>) -> Vec<Spanned<IpAddr>> {
    let Some(item) = table.need("address", "address = \"10.0.0.100\"") else { return Vec::new() };
    let items = item.one_or_many();
    if items.is_empty() {
        let message = format!("vip {} has no address", quote(name));
        table.report(
            Diagnostic::new(&codes::MISSING_KEY, item.span(), message).help("as in `address = \"10.0.0.100\"`"),
        );
    }
    if items.len() > limits::VIP_ADDRESSES {
        let message = format!("{} addresses, more than the {} that fit", items.len(), limits::VIP_ADDRESSES);
        table.report(Diagnostic::new(&codes::TOO_MANY_NAMES, item.key_span(), message));
    }
    items.iter().take(limits::VIP_ADDRESSES).filter_map(read_address).collect()
}

/// An address that one machine on a network can have.
pub(super) fn read_address(item: &Item<'_>) -> Option<Spanned<IpAddr>> {
    let address = item.ip()?;
    let what = match address.value {
        ip if ip.is_unspecified() => "stands for every address",
        ip if ip.is_multicast() => "is a group's",
        ip if ip.is_loopback() => "is loopback: no packet of a client comes there",
        IpAddr::V4(v4) if v4.is_broadcast() => "is every machine's",
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => {
                let help = Some(format!("write \"{v4}\""));
                return item.fail(&codes::MALFORMED, format!("`{v6}` is an IPv4 address in the form of IPv6"), help);
            }
            None => return Some(address),
        },
        IpAddr::V4(_) => return Some(address),
    };
    let help = Some("name an address that clients can send to".to_owned());
    item.fail(&codes::MALFORMED, format!("`{}` {what}", address.value), help)
}

/// What the kernel takes for the name of an interface (`dev_valid_name`).
fn read_interface(item: &Item<'_>) -> Option<Spanned<Arc<str>>> {
    let name = item.text()?;
    let help = if name.is_empty() || name.len() > limits::INTERFACE_BYTES {
        format!("it has 1 to {} bytes, as in \"eth0\"", limits::INTERFACE_BYTES)
    } else if matches!(name.value, "." | "..")
        || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
    {
        "it has no spaces, colons or slashes, as in \"eth0\"".to_owned()
    } else {
        if name.value == "lo" {
            let help = Some("name the interface that clients' packets come in by, as in \"eth0\"".to_owned());
            return item.fail(&codes::MALFORMED, "`lo` is loopback: no packet of a client comes there", help);
        }
        return Some(name.map(Arc::from));
    };
    item.fail(&codes::MALFORMED, format!("{} is not the name of an interface", quote(name.value)), Some(help))
}

/// The last VLAN: 0 is a tag with a priority only, 4095 is reserved (IEEE 802.1Q §9.6).
const VLANS: u64 = 4094;

/// What `mac` may be.
pub(super) static MACS: &[&Grammar] = &[&INTERFACE, &VIRTUAL];

/// `mac` has two types, and is read like a plug-in's settings.
static INTERFACE: Grammar = Grammar {
    name: "interface",
    summary: "the MAC address of the interface",
    fields: &[],
    example: "mac = \"interface\"",
};
static VIRTUAL: Grammar = Grammar {
    name: "virtual",
    summary: "the MAC address of a virtual router, which moves with the VIP",
    fields: &[Field::required(
        "id",
        Kind::Integer { min: 1, max: 255 },
        "of the virtual router, unique on the network",
    )],
    example: "mac = { type = \"virtual\", id = 51 }",
};
