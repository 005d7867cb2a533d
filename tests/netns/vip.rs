//! Who has the VIP: what neighbours are told, what the switch learns, and who else claims it.

use super::node::{Node, can};
use super::rig::{Extra, Rig, Way};
use super::talk::{ask, ping};
use super::world::{Family, Place, World};

/// What `host` believes the VIP's hardware address to be.
fn believed(host: &Node, family: Family) -> String {
    let shown = host.ip(&format!("neigh show {}", family.vip()));
    shown.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default().to_owned()
}

#[test]
fn neighbours_are_told_the_interfaces_address() {
    if !can("the VIP's neighbours") {
        return;
    }
    let rig = Rig::new(Way::L2, Place::Lan, 2, 2, Extra::default());
    for family in Family::BOTH {
        ping(&rig.world.near, family.vip(), 8).expect("an answer");
        assert_eq!(believed(&rig.world.near, family), World::mac(&rig.world.balancer), "{}", family.word());
        ask(&rig.world.near, family.vip(), 10, 10).expect("an answer");
    }
}

/// The VRRP addresses (RFC 9568 7.3), which the card has to be told to take, and the switch to expect there.
#[test]
fn neighbours_are_told_the_virtual_address() {
    if !can("the VIP's virtual MAC") {
        return;
    }
    let extra = Extra { vip: "mac = { type = \"virtual\", id = 51 }", ..Extra::default() };
    let rig = Rig::new(Way::L2, Place::Lan, 2, 2, extra);
    for (family, mac) in [(Family::V4, "00:00:5e:00:01:33"), (Family::V6, "00:00:5e:00:02:33")] {
        ping(&rig.world.near, family.vip(), 8).expect("an answer");
        assert_eq!(believed(&rig.world.near, family), mac);
        ask(&rig.world.client, family.vip(), 10, 100_000).expect("an answer");
        let table = rig.world.switch.run("bridge", &["fdb", "show", "br", "lan"]);
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        let learnt = table.lines().any(|line| line.starts_with(mac) && line.contains("dev balancer "));
        assert!(learnt, "the switch does not know where {mac} is:\n{table}");
    }
}
