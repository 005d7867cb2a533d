//! Shell: the engine with AF_XDP on a veth, and who else may have its hook.

use std::sync::Arc;

use tokio::runtime::Runtime;

use super::super::engine::Engine;
use crate::base::{HashKey, MacAddr};
use crate::config::{self, Catalogs};
use crate::observe::Packets;
use crate::state::Snapshot;
use crate::sys::netns::{Namespace, await_that, namespaces};
use crate::sys::xdp;

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
fn a_vip_with_a_vlan_is_refused_where_its_tags_are_hidden_and_served_by_the_ring_after_a_reload() {
    within(|_| {
        let mut rig = Rig::new();
        let fixed = TEXT
            .replace("mode = \"l3\"\nforward = \"nat\"", "mode = \"l2\"")
            .replace("[\"10.0.0.41\"]", "[{ address = \"10.0.0.41\", mac = \"02:00:00:00:00:41\" }]");
        let tagged = snapshot_of(&fixed.replace("interface = \"near\"", "interface = \"near\"\nvlan = 7"));
        let errors = rig.serve(&tagged).unwrap_err();
        assert!(errors[0].contains("rxvlan off"), "{errors:?}");
        let plain = snapshot_of(&fixed);
        rig.serve(&plain).unwrap();
        rig.await_engine(&plain, "userspace-af-xdp");
        rig.serve(&tagged).unwrap();
        assert_eq!(rig.packets.engine("near"), Some("userspace"));
        rig.serve(&plain).unwrap();
        rig.await_engine(&plain, "userspace-af-xdp");
        rig.engine.stop();
    });
}
