//! Many connections, and how they are spread.

use super::load::shares;
use super::node::can;
use super::rig::{Extra, Rig, Way};
use super::talk::ask;
use super::world::{Family, Place};

#[test]
fn ten_thousand_connections_are_spread_evenly() {
    if !can("ten thousand connections through Strata") {
        return;
    }
    for way in [Way::L2, Way::Nat] {
        let rig = Rig::new(way, Place::Lan, 5, 5, Extra::default());
        let mut names = Vec::new();
        for index in 0..10_000 {
            let answer = ask(&rig.world.client, Family::V4.vip(), 1, 1);
            names.push(answer.unwrap_or_else(|error| panic!("{way:?}: connection {index}: {error}")).name);
        }
        let shares = shares(names.iter().map(String::as_str));
        // 2000 of 10 000 have a deviation of 40, and Maglev's slots are within 1 %.
        let even = shares.len() == 5 && shares.values().all(|share| share.abs_diff(2000) < 220);
        assert!(even, "{way:?}: {shares:?}");
        let served: u64 = rig.servers.iter().map(|server| server.connections()).sum();
        assert!(served >= 10_000, "{served}");
    }
}
