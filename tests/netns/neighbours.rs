//! Where endpoints are, and that it is noticed when they are somewhere else.

use super::common::await_that;
use super::node::can;
use super::rig::{Extra, Rig, Way};
use super::talk::{ask, ping};
use super::world::{Family, Place};

/// A host whose card was exchanged says who it is as soon as it talks to anybody, and gets its packets from then on.
#[test]
fn an_endpoint_with_another_card_is_noticed() {
    if !can("an endpoint's new MAC address") {
        return;
    }
    for way in [Way::L2, Way::L4FullNat] {
        let rig = Rig::new(way, Place::Lan, 1, 1, Extra::default());
        let endpoint = &rig.world.endpoints[0];
        for family in Family::BOTH {
            ask(&rig.world.client, family.vip(), 1, 1).expect("an answer from the old card");
        }
        endpoint.ip("link set eth0 address 02:00:00:00:99:01");
        endpoint.ip("neigh flush all");
        for family in Family::BOTH {
            ping(endpoint, family.balancer(), 8).expect("the balancer answers the new card");
            let answers = || ask(&rig.world.client, family.vip(), 1000, 1000).is_ok();
            await_that(&format!("{way:?}: {} goes to the new card", family.word()), answers);
        }
    }
}
