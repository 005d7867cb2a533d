//! Flows while their table never rests: DESIGN §6's claim, simulated, and the records shared by real threads.
//!
//! *An established TCP flow that was active within its idle timeout, on an endpoint that lives, on one node with room in its
//! records, never changes endpoint.* A seed decides everything; `STRATA_SEED` repeats one. What survives is printed beside
//! plain Maglev (no state at all) and a record for every flow (`--nocapture`).

#[path = "flow/balancer.rs"]
mod balancer;
#[path = "flow/rivals.rs"]
mod rivals;
#[path = "flow/servers.rs"]
mod servers;
#[path = "flow/threads.rs"]
mod threads;
#[path = "flow/world.rs"]
mod world;

use world::{Tally, World};

const SEEDS: u64 = 256;

#[test]
fn no_established_flow_changes_its_endpoint() {
    let one = std::env::var("STRATA_SEED").ok().map(|text| text.parse().expect("STRATA_SEED is a number"));
    let mut sum = Tally::default();
    for seed in one.map_or(0..SEEDS, |seed| seed..seed + 1) {
        match World::new(seed).run() {
            Ok(tally) => sum.add(&tally),
            Err(moved) => panic!("{moved}\nSTRATA_SEED={seed} repeats this"),
        }
    }
    println!("{sum}");
    if one.is_none() {
        sum.check();
    }
}
