//! Shell: the engine over real interfaces that come to harm, in a network of its own.

use super::*;
use crate::config::{self, Catalogs};
use crate::doc::Grammar;
use crate::flow::key::TCP;
use crate::flow::{Carried, Datagram, FlowKey, Kind, nat};
use crate::seam::probe::{FALL, INTERVAL, PORT, RISE, THROUGH, TIMEOUT};
use crate::state::Io;
use crate::sys::ingress::{self, Guard};
use crate::sys::netns::{Namespace, await_that, namespaces};

const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const FAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

const TEXT: &str = "[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"near\"\n[service.game]\nmode = \"l3\"\nforward = \"nat\"\n\
    vip = \"v\"\npool = \"p\"\n[pool.p]\nendpoints = [\"10.0.0.41\"]\n";

fn snapshot() -> Arc<Snapshot> {
    snapshot_of(TEXT)
}

/// A probe that may go through a VIP. Nobody makes it.
static PROBE: Grammar =
    Grammar { name: "tcp", summary: "", fields: &[INTERVAL, TIMEOUT, RISE, FALL, PORT, THROUGH], example: "" };

fn snapshot_of(text: &str) -> Arc<Snapshot> {
    let catalogs = Catalogs { probes: &[&PROBE], ..Catalogs::default() };
    let loaded = config::read("test", text.as_bytes().to_vec(), &crate::doc::Nowhere, &catalogs);
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let machine = config::Machine { cores: 1, random_key: HashKey::new([7; 16]) };
    Arc::new(config::compile(&config, &Snapshot::empty(crate::net::rig::settings()), &machine).expect("a snapshot"))
}

/// Runs an engine that serves on `near`, and what harms it.
fn serving(harm: impl FnOnce(&Namespace, &Engine) + Send, healed: impl FnOnce(&Engine, &Packets) + Send) {
    let Some([near, far]) = namespaces() else { return };
    near.cable(("near", OWN), &far, ("far", FAR));
    near.sh("ip addr add 10.0.0.1/24 dev near");
    near.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (packets, snapshot) = (Arc::new(Packets::default()), snapshot());
        let mut engine = Engine::new(2, HashKey::new([1; 16]), packets.clone(), Arc::default());
        let prepared = engine.prepare(&snapshot).unwrap_or_else(|errors| panic!("{errors:?}"));
        runtime.block_on(engine.commit(prepared, &snapshot)).unwrap();
        assert_eq!((packets.unserved(), packets.interface(&"near".into()).workers()), (None, 2));
        harm(&near, &engine);
        runtime.block_on(engine.mend(&snapshot));
        healed(&engine, &packets);
        engine.stop();
    });
}

fn open(engine: &Engine) -> &Open {
    &engine.running.as_ref().unwrap().open["near"]
}

#[test]
fn workers_that_have_ended_are_replaced() {
    serving(
        |_, engine| {
            open(engine).end();
            await_that("the workers end", || !open(engine).is_served());
        },
        |engine, packets| {
            assert!(open(engine).is_served());
            assert_eq!((packets.unserved(), packets.interface(&"near".into()).workers()), (None, 2));
        },
    );
}

#[test]
fn an_interface_that_is_gone_is_unserved_and_one_that_is_made_again_is_taken_from_anew() {
    serving(
        |near, _| drop(near.sh("ip link del near")),
        |engine, packets| {
            assert!(engine.running.as_ref().unwrap().open.is_empty());
            assert_eq!(packets.unserved().as_deref(), Some("near"));
            assert!(!engine.hindrances.is_empty(), "it is said");
        },
    );
    serving(
        |near, _| {
            near.sh("ip link del near; ip link add near type veth peer name other; ip link set near up; \
                ip addr add 10.0.0.1/24 dev near");
        },
        |engine, packets| {
            assert_eq!(open(engine).index, link::index("near").unwrap());
            assert_eq!((packets.unserved(), &engine.hindrances), (None, &Vec::new()));
        },
    );
}

#[test]
fn the_kernel_is_kept_out_again_when_somebody_has_let_it_in() {
    let guard = |engine: &Engine| ingress::guard(open(engine).index).unwrap();
    serving(
        |near, engine| {
            near.sh("tc qdisc del dev near clsact");
            assert_eq!(guard(engine), Guard::Nobody);
        },
        |engine, _| assert_eq!((guard(engine), &engine.hindrances), (Guard::Running, &Vec::new())),
    );
    serving(
        |near, _| drop(near.sh("tc qdisc del dev near clsact; tc qdisc add dev near ingress_block 22 clsact")),
        |engine, _| {
            assert!(engine.hindrances[0].contains("the kernel handles packets of the engine too"), "it is said")
        },
    );
}

#[test]
fn an_address_that_is_added_is_the_kernels_to_hear_answers_for() {
    let keeps = |engine: &Engine| open(engine).wanted.rules.contains(&Rule::keep("10.0.0.9".parse().unwrap()));
    serving(
        |near, engine| {
            assert!(!keeps(engine));
            near.sh("ip addr add 10.0.0.9/24 dev near");
        },
        |engine, _| assert!(keeps(engine)),
    );
}

#[test]
fn answers_of_nats_endpoints_are_taken_where_the_way_to_them_has_moved() {
    serving(
        |near, _| {
            near.sh("ip link add other type veth peer name end; ip link set other up; ip link set end up; \
                ip route add 10.0.0.41 dev other");
        },
        |engine, packets| {
            let other = &engine.running.as_ref().unwrap().open["other"];
            assert!(other.wanted.rules.contains(&Rule::from("10.0.0.41".parse().unwrap())));
            assert_eq!(packets.interface(&"other".into()).workers(), 2);
            assert!(!open(engine).wanted.rules.iter().any(|rule| *rule == Rule::from("10.0.0.41".parse().unwrap())));
        },
    );
}

#[test]
fn a_reload_while_no_way_leads_to_an_endpoint_of_nat_takes_its_answers_where_they_came_in() {
    let Some([near, far]) = namespaces() else { return };
    near.cable(("near", OWN), &far, ("far", FAR));
    near.sh("ip addr add 10.0.0.1/24 dev near; ip link add other type veth peer name end; ip link set other up; \
        ip link set end up; ip route add 10.9.0.0/16 dev other");
    let full = "forward = \"full-nat\"\nsource = \"10.0.0.9\"";
    let rules = [("forward = \"nat\"", Rule::from([10, 9, 0, 41].into())), (full, Rule::to([10, 0, 0, 9].into()))];
    near.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for (forward, rule) in &rules {
            let text = TEXT.replace("forward = \"nat\"", forward);
            let (with, without) = (snapshot_of(&text.replace("10.0.0.41", "10.9.0.41")), snapshot_of(&text));
            let mut engine = Engine::new(1, HashKey::new([1; 16]), Arc::default(), Arc::default());
            let mut serve = |snapshot: &Arc<Snapshot>| {
                let prepared = engine.prepare(snapshot).unwrap_or_else(|errors| panic!("{errors:?}"));
                let wayless = prepared.wayless.len();
                runtime.block_on(engine.commit(prepared, snapshot)).unwrap();
                let open = &engine.running.as_ref().unwrap().open;
                let taken = open.get("other").is_some_and(|open| open.wanted.rules.contains(rule));
                (wayless, taken)
            };
            assert_eq!(serve(&with), (0, true), "{forward}");
            near.sh("ip route del 10.9.0.0/16 dev other");
            assert_eq!(serve(&with), (1, true), "{forward}: it is to be back in a moment");
            assert_eq!(serve(&without), (0, false), "{forward}: nobody answers there any more");
            assert_eq!(serve(&with), (1, false), "{forward}: where it would answer is not known");
            near.sh("ip route add 10.9.0.0/16 dev other");
            assert_eq!(serve(&with), (0, true), "{forward}");
            engine.stop();
        }
    });
}

/// Frames have nowhere to go there, and no counter would say whose they are.
#[test]
fn an_endpoint_behind_an_interface_without_ethernet_is_told_of_in_every_mode() {
    let Some([near, far]) = namespaces() else { return };
    near.cable(("near", OWN), &far, ("far", FAR));
    near.sh("ip addr add 10.0.0.1/24 dev near; ip tuntap add tunnel mode tun; ip link set tunnel up; \
        ip route add 10.9.0.0/16 dev tunnel");
    let (behind, full) = ("\"10.9.0.41\"", "forward = \"full-nat\"\nsource = \"10.0.0.9\"");
    let fixed = "{ address = \"10.9.0.41\", mac = \"02:00:00:00:00:41\" }";
    near.run(|| {
        for (forward, endpoint, told) in [
            ("forward = \"nat\"", behind, true),
            (full, behind, true),
            ("forward = \"ipip\"", behind, true),
            ("forward = \"gue\"", behind, true),
            ("l2", behind, true),
            ("l2", fixed, false),
            ("forward = \"nat\"", "\"10.0.0.41\"", false),
            ("forward = \"ipip\"", "\"10.0.0.41\"", false),
            // No route at all, which may come: as ever, packets that are sent there say so.
            ("forward = \"ipip\"", "\"192.0.2.1\"", false),
        ] {
            let text = match forward {
                "l2" => TEXT.replace("mode = \"l3\"\nforward = \"nat\"", "mode = \"l2\""),
                _ => TEXT.replace("forward = \"nat\"", forward),
            };
            let snapshot = snapshot_of(&text.replace("\"10.0.0.41\"", endpoint));
            let mut engine = Engine::new(1, HashKey::new([1; 16]), Arc::default(), Arc::default());
            let prepared =
                engine.prepare(&snapshot).unwrap_or_else(|errors| panic!("{forward} {endpoint}: {errors:?}"));
            let found = prepared.wayless.iter().map(|one| (&*one.endpoint, &*one.why)).collect::<Vec<_>>();
            let want = told.then_some(("10.9.0.41", "tunnel is no Ethernet interface"));
            assert_eq!(found, Vec::from_iter(want), "{forward} {endpoint}");
            let taps: Vec<&str> = prepared.interfaces.iter().map(|(name, _)| &**name).collect();
            assert_eq!(taps, ["near"], "{forward} {endpoint}: nothing that comes by there can be read");
        }
    });
}

const XDP: &str = "[packets]\nio = \"af-xdp\"\n";
const PROBED: &str = "[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"near\"\n[service.game]\nmode = \"l2\"\nvip = \"v\"\n\
    pool = \"p\"\n[pool.p]\nprobe = { type = \"tcp\", port = 80, through = \"vip\" }\nendpoints = [\"10.0.0.41\"]\n";

/// As where a successor has failed late: nobody else has the packets.
#[test]
fn after_a_stop_what_can_be_had_is_served_and_the_rest_is_looked_for() {
    let Some([near, far]) = namespaces() else { return };
    near.cable(("near", OWN), &far, ("far", FAR));
    near.sh("ip addr add 10.0.0.1/24 dev near; ip link add spare type veth peer name end; ip link set spare up; ip link set end up");
    let spare = "[vip.w]\naddress = \"10.0.0.101\"\ninterface = \"spare\"\n[service.other]\nmode = \"l2\"\nvip = \"w\"\npool = \"p\"\n";
    // What goes wrong meanwhile, what may be said of it, and what is mended then.
    let gone = "ip link del near; ip link add near type veth peer name back; ip link set near up; ip link set back up; \
        ip addr add 10.0.0.1/24 dev near";
    for (text, wrong, said, mended) in [
        (
            format!("{TEXT}{spare}"),
            "ip link del spare",
            "spare",
            "ip link add spare type veth peer name end; ip link set spare up; ip link set end up",
        ),
        (format!("{PROBED}{spare}"), "true", "", "true"),
        (format!("{XDP}{TEXT}{spare}"), gone, "", "ip link set back mtu 1500"),
    ] {
        near.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (packets, snapshot) = (Arc::new(Packets::default()), snapshot_of(&text));
            let mut engine = Engine::new(2, HashKey::new([1; 16]), packets.clone(), Arc::default());
            let mut prepared = engine.prepare(&snapshot).unwrap_or_else(|errors| panic!("{errors:?}"));
            engine.let_probes_through(&mut prepared, &snapshot).unwrap();
            runtime.block_on(engine.commit(prepared, &snapshot)).unwrap();
            let passes = engine.passages.is_some();
            assert_eq!(passes, text.contains("through"));
            engine.stop();
            near.sh(wrong);
            if text.starts_with(XDP) {
                // Too long for XDP: the interface's far end.
                near.sh("ip link set back mtu 9000");
            }
            let way = || packets.engine("near").expect("it is served");
            for _ in 0..2 {
                runtime.block_on(engine.mend(&snapshot));
                assert!(open(&engine).is_served(), "{wrong}");
                assert_eq!(way(), Io::Ring.engine(), "{wrong}");
                assert_eq!(engine.passages.is_some(), passes, "{wrong}: probes go through VIPs as before");
                assert_eq!(engine.hindrances.is_empty(), said.is_empty(), "{wrong}: {:?}", engine.hindrances);
                assert!(engine.hindrances.iter().all(|why| why.contains(said)), "{wrong}: {:?}", engine.hindrances);
            }
            near.sh(mended);
            runtime.block_on(engine.mend(&snapshot));
            assert_eq!((packets.unserved(), &engine.hindrances), (None, &Vec::new()), "{mended}");
            let wanted = if text.starts_with(XDP) { Io::AfXdp } else { Io::Ring }.engine();
            await_that("it is served as the file wants it", || {
                runtime.block_on(engine.mend(&snapshot));
                way() == wanted
            });
            engine.stop();
        });
    }
}

#[test]
fn probes_that_could_not_go_through_vips_do_when_it_is_mended() {
    let Some([near, far]) = namespaces() else { return };
    near.cable(("near", OWN), &far, ("far", FAR));
    near.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let snapshot = snapshot_of(PROBED);
        let mut engine = Engine::new(1, HashKey::new([1; 16]), Arc::default(), Arc::default());
        let prepared = engine.prepare(&snapshot).unwrap_or_else(|errors| panic!("{errors:?}"));
        runtime.block_on(engine.commit(prepared, &snapshot)).unwrap();
        assert!(engine.passages.is_none(), "nobody lets them");
        for _ in 0..2 {
            runtime.block_on(engine.mend(&snapshot));
            assert!(engine.passages.is_some());
        }
        engine.stop();
    });
}

#[test]
fn an_engine_without_packets_stays_nothing_when_it_is_mended() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut engine = Engine::new(1, HashKey::new([1; 16]), Arc::default(), Arc::default());
    runtime.block_on(engine.mend(&Arc::new(Snapshot::empty(crate::net::rig::settings()))));
    assert!(!engine.is_running());
}

#[test]
fn a_control_thread_that_does_not_get_to_its_work_is_missed() {
    serving(
        |_, _| {},
        |_, packets| {
            let is_missed = |now| {
                let silent = packets.beats.judge(now, limits::STUCK);
                silent.iter().any(|silent| silent.who == "the control thread of packets")
            };
            let start = clock::now();
            assert!(is_missed(start + limits::STUCK * 2), "who shows nothing for so long");
            await_that("it has shown since that it goes on", || !is_missed(start + limits::STUCK));
        },
    );
}

const WEB: &str = "[service.web]\nmode = \"l4\"\nforward = \"full-nat\"\nsource = \"10.0.0.3\"\nvip = \"v\"\nports = \"80/tcp\"\npool = \"p\"\n";
const MAIL: &str = "[service.mail]\nmode = \"l4\"\nforward = \"full-nat\"\nsource = \"10.0.0.3\"\nvip = \"v\"\nports = \"25/tcp\"\npool = \"p\"\n";

fn after(before: &Snapshot, services: &str) -> Arc<Snapshot> {
    let text = format!(
        "[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"near\"\n[pool.p]\nendpoints = [\"10.0.0.41\"]\n{services}"
    );
    let loaded = config::read("test", text.into_bytes(), &crate::doc::Nowhere, &Catalogs::default());
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let machine = config::Machine { cores: 1, random_key: HashKey::new([7; 16]) };
    Arc::new(config::compile(&config, before, &machine).expect("a snapshot"))
}

#[test]
fn a_service_leaves_no_flow_behind_that_the_next_one_of_its_name_could_take_for_its_own() {
    let Some([near, far]) = namespaces() else { return };
    near.cable(("near", OWN), &far, ("far", FAR));
    near.sh("ip addr add 10.0.0.1/24 dev near");
    near.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut engine = Engine::new(1, HashKey::new([1; 16]), Arc::default(), Arc::default());
        let both = after(&Snapshot::empty(crate::net::rig::settings()), &format!("{WEB}{MAIL}"));
        let mail = after(&both, MAIL);
        let again = after(&mail, &format!("{WEB}{MAIL}"));
        let mut serve = |snapshot: &Arc<Snapshot>| {
            let prepared = engine.prepare(snapshot).unwrap_or_else(|errors| panic!("{errors:?}"));
            runtime.block_on(engine.commit(prepared, snapshot)).unwrap();
            engine.running.as_ref().unwrap().shared.clone()
        };
        let shared = serve(&both);
        let id = |name: &str| both.service_named(name).unwrap().id;
        let begin = |name: &str, port: u16| {
            let flow = FlowKey::new(TCP, ([192, 0, 2, 7], port).into(), ([10, 0, 0, 100], 80).into());
            let to = ([10, 0, 0, 41], 80).into();
            let target = nat::Target { endpoint: 0, generation: 0, address: to, idle: limits::TCP_IDLE };
            let (sources, now) = ([[10, 0, 0, 3].into()], clock::now());
            shared.nat.bind_full(id(name), &flow, Kind::Syn { seq: 1 }, &target, &sources, now).expect("a port");
            let datagram = Datagram::new([192, 0, 2, 7].into(), [10, 0, 0, 100].into(), 17, port.into());
            let carried =
                Carried { source_port: 1, destination_port: 2, service: id(name), endpoint: 0, generation: 0 };
            shared.fragments.first(&datagram, 8, carried, now).expect("room");
        };
        let left = || (shared.nat.fill().flows, shared.fragments.open());
        for (name, port) in [("web", 1), ("web", 2), ("mail", 3)] {
            begin(name, port);
        }
        serve(&again);
        assert_eq!(left(), (3, 3), "nothing has changed for them");
        serve(&mail);
        assert_eq!(left(), (1, 1), "web's are gone with it");
        // As by a worker that is a batch behind.
        begin("web", 4);
        serve(&again);
        assert_eq!(left(), (1, 1), "and are nothing to the next one");
        engine.stop();
    });
}
