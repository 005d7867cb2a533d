//! What moves packets: a ring and `pnet`'s loop carry the same, one after the other in one process.

use std::fs;

use super::common::await_that;
use super::node::can;
use super::rig::{Extra, Rig, Way};
use super::talk::{ask, datagram, ping};
use super::world::{Family, Place};

/// By NAT, so that both directions pass.
#[test]
fn either_loop_carries_packets_and_a_reload_changes_it() {
    if !can("what moves packets") {
        return;
    }
    let extra = Extra { packets: "io = \"pnet\"", ..Extra::default() };
    let rig = Rig::new(Way::Nat, Place::Lan, 2, 2, extra);
    for io in ["pnet", "ring", "pnet"] {
        // The first is what it started with.
        let file = rig.strata.folder().join("strata.toml");
        let text = fs::read_to_string(&file).expect("the configuration");
        let other = if io == "ring" { "pnet" } else { "ring" };
        fs::write(&file, text.replace(&format!("io = \"{other}\""), &format!("io = \"{io}\"")))
            .expect("the configuration");
        rig.strata.signal("HUP");
        let engine = if io == "ring" { "userspace" } else { "userspace-pnet" };
        let served = || rig.scrape().sum_if_any("strata_service_info", &[("mode", "l3"), ("engine", engine)]);
        await_that(&format!("both services are served by {io}"), || served() == 2.0);
        for family in Family::BOTH {
            let word = family.word();
            ping(&rig.world.client, family.vip(), 1400).unwrap_or_else(|error| panic!("{io} {word} ping: {error}"));
            for length in [1, 1472] {
                datagram(&rig.world.client, family.vip(), length)
                    .unwrap_or_else(|error| panic!("{io} {word} UDP {length}: {error}"));
            }
            for (up, down) in [(1, 1), (100_000, 1), (1, 1_000_000)] {
                let answer = ask(&rig.world.client, family.vip(), up, down);
                answer.unwrap_or_else(|error| panic!("{io} {word} TCP {up}/{down}: {error}"));
            }
        }
    }
}
