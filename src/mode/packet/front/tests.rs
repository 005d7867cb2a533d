//! Shell: the engine with AF_XDP on a veth, and who else may have its hook.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::super::engine::Engine;
use super::*;
use crate::base::{HashKey, MacAddr};
use crate::config::{self, Catalogs};
use crate::observe::Packets;
use crate::state::Snapshot;
use crate::sys::capability::Capability;
use crate::sys::classify::Rule;
use crate::sys::netns::{Namespace, await_that, namespaces};
use crate::sys::privilege::without;

const TEXT: &str = "[packets]\nio = \"af-xdp\"\n[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"near\"\n[service.game]\nmode = \"l3\"\n\
    forward = \"nat\"\nvip = \"v\"\npool = \"p\"\n[pool.p]\nendpoints = [\"10.0.0.41\"]\n";

struct Rig {
    engine: Engine,
    packets: Arc<Packets>,
    runtime: Runtime,
}

impl Rig {
    fn new() -> Rig {
        let (packets, runtime) = (Arc::new(Packets::default()), tokio::runtime::Builder::new_current_thread());
        let engine = Engine::new(2, HashKey::new([1; 16]), packets.clone(), Arc::default());
        Rig { engine, packets, runtime: { runtime }.enable_time().build().unwrap() }
    }

    fn serve(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), Vec<String>> {
        let prepared = self.engine.prepare(snapshot)?;
        self.runtime.block_on(self.engine.commit(prepared, snapshot))
    }

    /// By what packets of the interface come once the engine has looked after it.
    fn await_engine(&mut self, snapshot: &Arc<Snapshot>, word: &str) {
        await_that(&format!("packets come by {word}"), || {
            self.runtime.block_on(self.engine.mend(snapshot));
            self.packets.engine("near") == Some(word)
        });
    }
}

fn snapshot_of(text: &str) -> Arc<Snapshot> {
    let loaded = config::read("test", text.as_bytes().to_vec(), &crate::doc::Nowhere, &Catalogs::default());
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let machine = config::Machine { cores: 1, random_key: HashKey::new([7; 16]) };
    Arc::new(config::compile(&config, &Snapshot::empty(crate::net::rig::settings()), &machine).expect("a snapshot"))
}

/// Runs in a network whose `near` leads to another one.
fn within(test: impl FnOnce(&Namespace) + Send) {
    let Some([near, far]) = namespaces() else { return };
    near.cable(("near", MacAddr([2, 0, 0, 0, 0, 1])), &far, ("far", MacAddr([2, 0, 0, 0, 0, 2])));
    near.sh("ip addr add 10.0.0.1/24 dev near");
    near.run(|| test(&near));
}

#[test]
fn a_reload_changes_by_what_packets_come() {
    within(|_| {
        let mut rig = Rig::new();
        for (io, word) in [
            ("af-xdp", "userspace-af-xdp"),
            ("ring", "userspace"),
            ("af-xdp", "userspace-af-xdp"),
            ("pnet", "userspace-pnet"),
        ] {
            let snapshot = snapshot_of(&TEXT.replace("af-xdp", io));
            rig.serve(&snapshot).unwrap();
            rig.await_engine(&snapshot, word);
        }
        rig.engine.stop();
    });
}

#[test]
fn the_ring_serves_while_somebody_else_has_the_interfaces_hook() {
    within(|near| {
        let (mut rig, snapshot) = (Rig::new(), snapshot_of(TEXT));
        let other = xdp::Front::new(near.index("near"), &[], &[]).unwrap();
        rig.serve(&snapshot).unwrap();
        rig.runtime.block_on(rig.engine.mend(&snapshot));
        assert_eq!((rig.packets.engine("near"), rig.packets.unserved()), (Some("userspace"), None));
        drop(other);
        rig.await_engine(&snapshot, "userspace-af-xdp");
        rig.engine.stop();
    });
}

#[test]
fn an_interface_without_native_xdp_is_refused_by_that_name() {
    within(|near| {
        near.sh("ip link add bridge type bridge; ip link set bridge up");
        let text = TEXT.replace("interface = \"near\"", "interface = \"bridge\"");
        let errors = Rig::new().serve(&snapshot_of(&text)).unwrap_err();
        assert!(errors[0].contains("interface bridge: ") && errors[0].contains("no native XDP"), "{errors:?}");
    });
}

#[test]
fn an_interface_that_is_made_of_others_is_refused_for_their_sockets_would_get_nothing() {
    within(|near| {
        near.sh("ip link add bridge type bridge; ip link set bridge up; ip link set near master bridge");
        let text = TEXT.replace("interface = \"near\"", "interface = \"bridge\"");
        let errors = Rig::new().serve(&snapshot_of(&text)).unwrap_err();
        assert!(errors[0].contains("interface bridge: ") && errors[0].contains("come in by near"), "{errors:?}");
    });
}

#[test]
fn on_a_veth_a_vip_with_a_vlan_is_refused_whatever_this_end_says_of_tags() {
    within(|near| {
        let mut rig = Rig::new();
        let fixed = TEXT
            .replace("mode = \"l3\"\nforward = \"nat\"", "mode = \"l2\"")
            .replace("[\"10.0.0.41\"]", "[{ address = \"10.0.0.41\", mac = \"02:00:00:00:00:41\" }]");
        let tagged = snapshot_of(&fixed.replace("interface = \"near\"", "interface = \"near\"\nvlan = 7"));
        let plain = snapshot_of(&fixed);
        let refused = |rig: &mut Rig| {
            let errors = rig.serve(&tagged).unwrap_err();
            assert!(errors[0].contains("`io = \"ring\"`") && !errors[0].contains("ethtool"), "{errors:?}");
        };
        refused(&mut rig);
        near.sh("ethtool -K near rxvlan off");
        refused(&mut rig);
        rig.serve(&plain).unwrap();
        rig.await_engine(&plain, "userspace-af-xdp");
        refused(&mut rig);
        rig.await_engine(&plain, "userspace-af-xdp");
        rig.engine.stop();
    });
}

#[test]
fn what_a_reload_adds_is_taken_later_where_its_program_cannot_be_had_at_once() {
    within(|_| {
        let mut rig = Rig::new();
        let (before, after) = (snapshot_of(TEXT), snapshot_of(&TEXT.replace("10.0.0.100", "10.0.0.101")));
        rig.serve(&before).unwrap();
        rig.await_engine(&before, "userspace-af-xdp");
        without(&[Capability::Bpf, Capability::SysAdmin], || {
            rig.serve(&after).unwrap();
            assert_eq!(rig.packets.engine("near"), Some("userspace"));
            rig.runtime.block_on(rig.engine.mend(&after));
            assert_eq!((rig.packets.engine("near"), rig.packets.unserved()), (Some("userspace"), None));
        });
        rig.await_engine(&after, "userspace-af-xdp");
        rig.engine.stop();
    });
}

#[test]
fn an_interface_that_comes_back_unfit_is_taken_from_once_it_is_fit() {
    within(|near| {
        let (mut rig, snapshot) = (Rig::new(), snapshot_of(TEXT));
        rig.serve(&snapshot).unwrap();
        rig.await_engine(&snapshot, "userspace-af-xdp");
        near.sh(&format!("ip link del near; {}; ip addr add 10.0.0.1/24 dev near", pair("mtu 9000", "mtu 9000")));
        rig.await_engine(&snapshot, "userspace");
        near.sh("ip link set end mtu 1500; ip link set near mtu 1500");
        rig.await_engine(&snapshot, "userspace-af-xdp");
        rig.engine.stop();
    });
}

#[test]
fn a_reload_that_has_clients_come_in_where_only_answers_did_is_refused_where_there_is_no_native_xdp() {
    within(|near| {
        near.sh("ip link add back type bridge; ip link set back up; ip addr add 10.0.1.1/24 dev back");
        let text = TEXT.replace("10.0.0.41", "10.0.1.41");
        let mut rig = Rig::new();
        let answers = snapshot_of(&text);
        rig.serve(&answers).unwrap();
        rig.await_engine(&answers, "userspace-af-xdp");
        assert_eq!(rig.packets.engine("back"), Some("userspace"));
        let clients = format!("{text}[vip.w]\naddress = \"10.0.1.100\"\ninterface = \"back\"\n");
        let errors = rig.serve(&snapshot_of(&clients)).unwrap_err();
        assert!(errors[0].contains("interface back: ") && errors[0].contains("no native XDP"), "{errors:?}");
        rig.serve(&answers).unwrap();
        rig.engine.stop();
    });
}

#[test]
fn a_reload_is_taken_as_soon_as_what_stood_in_its_way_is_mended() {
    within(|near| {
        near.sh(
            "ip link add back mtu 9000 type veth peer name end mtu 9000; ip link set back up; ip link set end up; \
            ip addr add 10.0.1.1/24 dev back",
        );
        let text = TEXT.replace("10.0.0.41", "10.0.1.41");
        let (mut rig, answers) = (Rig::new(), snapshot_of(&text));
        rig.serve(&answers).unwrap();
        // By now it is tried seldom.
        for _ in 0..5 {
            rig.runtime.block_on(rig.engine.mend(&answers));
        }
        let clients = snapshot_of(&format!("{text}[vip.w]\naddress = \"10.0.1.100\"\ninterface = \"back\"\n"));
        let errors = rig.serve(&clients).unwrap_err();
        assert!(errors[0].starts_with("interface back: "), "{errors:?}");
        near.sh("ip link set end mtu 1500; ip link set back mtu 1500");
        rig.serve(&clients).unwrap();
        await_that("its packets come by AF_XDP", || {
            rig.runtime.block_on(rig.engine.mend(&clients));
            rig.packets.engine("back") == Some("userspace-af-xdp")
        });
        rig.engine.stop();
    });
}

/// Makes `near` anew, with its other end, `end`, in the same network.
fn pair(near: &str, end: &str) -> String {
    format!("ip link add near {near} type veth peer name end {end}; ip link set end up; ip link set near up")
}

/// An interface before which it may go, and workers that are played.
struct Stage {
    front: Front,
    /// Queues that were sent to workers, which have not said that they have them.
    sent: Vec<(Queue, oneshot::Sender<()>)>,
    had: Vec<Queue>,
}

impl Stage {
    fn new(near: &Namespace) -> Stage {
        let rules = vec![Rule::to("10.0.0.100".parse().unwrap())];
        let wanted = Wanted { rules, clients: true, ..Wanted::default() };
        let mut front = Front::new("near", near.index("near"), &wanted);
        front.prepare("near").unwrap();
        Stage { front, sent: Vec::new(), had: Vec::new() }
    }

    fn look(&mut self) -> Io {
        let sent = &mut self.sent;
        self.front.hold("near", |queue| {
            let (done, had) = oneshot::channel();
            sent.push((queue, done));
            Dealt::Sent(had)
        })
    }

    /// The worker of a queue has it.
    fn have(&mut self) {
        let (queue, done) = self.sent.pop().unwrap();
        done.send(()).unwrap();
        self.had.push(queue);
    }

    fn await_hold(&mut self, hold: &Hold) {
        await_that(&format!("{hold:?}"), || {
            self.look();
            while !self.sent.is_empty() {
                self.have();
            }
            self.front.told.as_ref() == Some(hold)
        });
    }
}

#[test]
fn frames_of_each_queue_that_receives_go_to_its_worker_once_that_has_it() {
    within(|near| {
        // Sockets could be bound to five.
        near.sh(&format!("ip link del near; {}; ethtool -L near rx 2", pair("numrxqueues 3 numtxqueues 5", "")));
        let mut stage = Stage::new(near);
        for _ in 0..3 {
            assert_eq!((stage.look(), stage.sent.len(), &stage.front.told), (Io::Ring, 2, &None));
        }
        stage.have();
        assert_eq!((stage.look(), stage.front.served.len(), &stage.front.told), (Io::AfXdp, 1, &None));
        stage.have();
        assert_eq!((stage.look(), stage.front.told.clone()), (Io::AfXdp, Some(Hold::Whole(2))));
    });
}

#[test]
fn a_queue_that_there_is_later_is_taken_from_and_is_bound_again_where_its_worker_lets_it_go() {
    within(|near| {
        near.sh(&format!("ip link del near; {}; ethtool -L near rx 2", pair("numrxqueues 3 numtxqueues 3", "")));
        let mut stage = Stage::new(near);
        stage.await_hold(&Hold::Whole(2));
        near.sh("ethtool -L near rx 3");
        assert_eq!(stage.front.hold("near", Dealt::Back), Io::AfXdp);
        let told = stage.front.told.clone();
        assert!(matches!(&told, Some(Hold::Partly(2, why)) if why.contains("no room")), "{told:?}");
        stage.look();
        assert_eq!(stage.sent.len(), 1);
        // A worker that lets it go.
        stage.sent.clear();
        stage.await_hold(&Hold::Whole(3));
    });
}

#[test]
fn sockets_have_room_for_frames_of_the_mtu_that_there_was_when_they_were_bound() {
    within(|near| {
        near.sh(&format!("ip link del near; {}", pair("mtu 3000", "mtu 3000")));
        let other = xdp::Front::new(near.index("near"), &[], &[]).unwrap();
        let mut stage = Stage::new(near);
        near.sh("ip link set end mtu 1500; ip link set near mtu 1500");
        drop(other);
        stage.await_hold(&Hold::Whole(1));
        assert!(stage.front.has_room());
        near.sh("ip link set end mtu 3000; ip link set near mtu 3000");
        assert!(!stage.front.has_room());
    });
}

#[test]
fn a_program_that_cannot_learn_of_a_new_mac_is_said_to_go_by_the_old_one() {
    within(|near| {
        let mut stage = Stage::new(near);
        stage.await_hold(&Hold::Whole(1));
        near.sh("ip link set near address 02:00:00:00:00:09");
        without(&[Capability::Bpf, Capability::SysAdmin], || assert_eq!(stage.look(), Io::AfXdp));
        let told = stage.front.told.clone();
        assert!(matches!(&told, Some(Hold::Old(1, why)) if why.contains("permission denied")), "{told:?}");
        stage.await_hold(&Hold::Whole(1));
    });
}

#[test]
fn an_interface_that_is_not_fit_any_more_is_left_to_the_ring_until_it_is() {
    within(|near| {
        let mut stage = Stage::new(near);
        stage.await_hold(&Hold::Whole(1));
        // As if its card had begun to hide tags.
        stage.front.wanted.tagged = true;
        assert_eq!((stage.look(), near.sh("ip link show near").contains("prog/xdp")), (Io::Ring, false));
        assert!(
            matches!(&stage.front.told, Some(Hold::Nothing(why)) if why.contains("VLAN")),
            "{:?}",
            stage.front.told
        );
        stage.front.wanted.tagged = false;
        assert_eq!((stage.look(), stage.front.told.clone()), (Io::AfXdp, Some(Hold::Whole(1))));
    });
}
