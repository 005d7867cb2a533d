//! Shell: packets that come between two steps of the control thread.

use super::*;
use crate::base::HashKey;
use crate::config::{self, Catalogs};
use crate::flow::{Decision, FlowKey, Kind, Packet, Slots, key, steer};
use crate::health::{Health, Intent};
use crate::observe::Beats;
use crate::state::Status;
use crate::sys::netns::namespaces;
use crate::sys::packet::Speaker;

const KEY: HashKey = HashKey::new([7; 16]);
const PORTS: std::ops::Range<u16> = 1..100;

fn snapshot(slots: usize, before: &Snapshot) -> Arc<Snapshot> {
    let text = format!(
        "[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"near\"\n[service.game]\nmode = \"l2\"\nvip = \"v\"\npool = \"p\"\n\
         slots = {slots}\n[pool.p]\nendpoints = [\"10.0.0.41\", \"10.0.0.42\"]\n"
    );
    let loaded = config::read("test", text.into_bytes(), &crate::doc::Nowhere, &Catalogs::default());
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    Arc::new(config::compile(&config, before, &config::Machine { cores: 1, random_key: KEY }).expect("a snapshot"))
}

/// A control side whose steps are made one by one.
struct World {
    control: Control,
    seconds: u64,
}

impl World {
    fn new() -> World {
        let snapshot = snapshot(4099, &Snapshot::empty(crate::net::rig::settings()));
        let force = Arc::new(ArcSwap::from_pointee(Force::none(&snapshot, KEY)));
        let herald = Herald::new(Speaker::open().expect("a packet socket"));
        let beat = Arc::new(Beats::default()).begin("control", clock::now());
        let control = Control::new(force, Arc::new(Shared::new(&[], KEY)), herald, beat);
        let world = World { control, seconds: 1000 };
        for name in ["10.0.0.41", "10.0.0.42"] {
            world.set(name, |status| status.health = Health::Up);
        }
        world
    }

    fn now(&self) -> Moment {
        Moment::from_millis(self.seconds * 1000)
    }

    fn set(&self, name: &str, change: impl FnOnce(&mut Status)) {
        let (_, spec) = packet_services(&self.control.snapshot).next().unwrap();
        let pool = self.control.snapshot.pool(spec.pool).unwrap();
        let endpoint = pool.endpoint(name).unwrap();
        let mut status = endpoint.status();
        change(&mut status);
        endpoint.set_status(status);
        pool.publish();
    }

    fn follow(&mut self) {
        self.seconds += 1;
        assert!(self.control.follow(self.now()));
    }

    fn publish(&mut self) {
        self.control.publish(self.now());
    }

    /// What workers decide by once it is published.
    fn slots(&self) -> Arc<Slots> {
        let book = self.control.books.values().find(|book| book.family() == Family::V4);
        book.expect("a book").slots().clone()
    }

    /// The last numbers of the endpoints that datagrams from these ports go to.
    fn send(&self, slots: &Slots) -> Vec<u8> {
        let book = self.control.books.values().find(|book| book.family() == Family::V4).unwrap();
        let to = |port| {
            let key = FlowKey::new(key::UDP, ([198, 51, 100, 7], port).into(), ([10, 0, 0, 100], 53).into());
            let packet = Packet { hash: key.hash(&KEY), key: &key, kind: Kind::Other };
            let decision = steer(slots, &self.control.shared.records, book.service(), &packet, self.now());
            let Decision::Forward { endpoint, .. } = decision else { panic!("{decision:?}") };
            let member = book.members()[usize::from(endpoint)].as_ref().unwrap();
            if member.address.ip() == IpAddr::from([10, 0, 0, 41]) { 41 } else { 42 }
        };
        PORTS.map(to).collect()
    }
}

/// They find a table that is in transition, and it has them recorded where their flows are no more once the new one is in force.
#[test]
fn what_packets_record_before_a_table_that_begins_anew_is_in_force_moves_no_flow_back() {
    begins_anew(false);
}

#[test]
fn what_a_worker_that_is_a_batch_behind_records_by_the_table_before_moves_no_flow_back() {
    begins_anew(true);
}

fn begins_anew(is_behind: bool) {
    let Some([here]) = namespaces() else { return };
    here.run(|| {
        let mut world = World::new();
        world.follow();
        world.publish();
        world.set("10.0.0.41", |status| status.intent = Intent::Draining);
        world.follow();
        world.publish();
        let before = world.slots();
        let open = world.send(&before);
        assert!(open.iter().filter(|last| **last == 41).count() > 20, "they stay, and are recorded: {open:?}");

        world.control.snapshot = snapshot(8209, &world.control.snapshot);
        world.follow();
        assert_eq!(world.send(&before), open);
        world.publish();
        assert_eq!(world.control.shared.records.fill().records, 0);
        if is_behind {
            assert_eq!(world.send(&before), open);
        }
        assert!(world.send(&world.slots()).iter().all(|last| *last == 42), "where all are now, with no record");
        // The one that they have left takes slots again, and they are to stay where they are.
        world.set("10.0.0.41", |status| status.intent = Intent::Ready);
        world.follow();
        world.publish();
        assert!(world.slots().marked() > 0);
        assert_eq!(world.send(&world.slots()), vec![42; PORTS.len()]);
    });
}
