//! What the running Strata says of a packet is what its engine then does with it.

use std::net::SocketAddr;

use serde_json::Value;

use super::node::can;
use super::rig::{Extra, Rig, Way, pool};
use super::server::PORT;
use super::talk::Talk;
use super::world::{Family, Place, World};

#[test]
fn a_packet_goes_where_the_running_strata_says() {
    if !can("packets explained by the running Strata") {
        return;
    }
    let rig = Rig::new(Way::L2, Place::Lan, 3, 3, Extra::default());
    for family in Family::BOTH {
        let vip = SocketAddr::new(family.vip(), PORT);
        let told = |port: u16| -> Value {
            let packet = format!("tcp {} > {vip}", SocketAddr::new(family.client(), port));
            let admin = rig.strata.admin.to_string();
            let said = rig.world.balancer.strata(&["explain", "--json", &packet, "--admin", &admin]);
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{packet}: {error}\n{said:?}"))
        };
        let agree = |port: u16| {
            let told = told(port);
            let endpoint = told["verdict"]["endpoint"].as_str().unwrap_or_default().to_owned();
            let index = (0..3).find(|index| family.endpoint(Place::Lan, *index).to_string() == endpoint);
            let mut talk = Talk::open_from(&rig.world.client, port, family.vip()).expect("a connection");
            let answer = talk.exchange(1, 1).expect("an answer");
            assert_eq!(index.map(World::name), Some(answer.name), "port {port}: {told:#}");
            talk.abort();
            endpoint
        };
        let before: Vec<String> = (20_000..20_012).map(agree).collect();
        assert!(before.iter().any(|endpoint| *endpoint != before[0]), "all go to {}", before[0]);
    }
    // What the operator has taken out is not named any more.
    let moves = rig.moves();
    rig.tell("maintain", 0, &[]);
    rig.await_moved(moves);
    let admin = rig.strata.admin.to_string();
    let packet =
        format!("tcp {} > {}", SocketAddr::new(Family::V4.client(), 20_000), SocketAddr::new(Family::V4.vip(), PORT));
    let said = rig.world.balancer.strata(&["explain", &packet, "--admin", &admin]);
    let text = String::from_utf8_lossy(&said.stdout);
    let gone = Family::V4.endpoint(Place::Lan, 0).to_string();
    assert!(text.contains("maintenance, ") && !text.contains(&format!("> {gone}")), "{text}");
    assert!(text.contains(&format!("pool      {}: ", pool(Family::V4))) && text.contains("are those of now"), "{text}");
}
