//! Packet services: texts in, values and snapshots out. Their mistakes stand in `conf/bad/`.

use std::net::IpAddr;

use super::*;
use crate::base::{EndpointAddr, PortRange, Transport};
use crate::flow::{Affinity, OnDown, Policy};
use crate::state::{Change, Engine, Forward, ModeKind, PacketSpec, VipMac};

const PACKETS: &str = r#"
[vip.game]
address = ["10.0.0.100", "fd00::100"]
interface = "eth0"
mac = { type = "virtual", id = 51 }
[vip.mail]
address = "10.0.0.101"
interface = "eth1"
[service.game]
mode = "l2"
vip = "game"
ports = ["443/tcp", "7000-7999/udp", "80/tcp", "81-90/tcp"]
engine = "userspace"
pool = "game"
affinity = "packet"
on_down = "reset"
slots = 1009
flow_timeouts = { tcp = "1h" }
[service.mail]
mode = "l4"
forward = "full-nat"
vip = "mail"
ports = "25/tcp"
source = ["10.0.0.2", "10.0.0.3"]
pool = "mail"
[pool.game]
endpoints = ["10.0.0.41", { address = "fd00::41", weight = 2, mac = "02:00:00:00:00:41" }]
[pool.mail]
balance = "weighted-round-robin"
endpoints = ["10.0.0.51:2525"]
[cluster]
hash_key = "000102030405060708090a0b0c0d0e0f"
"#;

/// One packet service, with `service` and `pool` beyond what it needs.
fn one(service: &str, pool: &str) -> String {
    format!(
        "[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"eth0\"\n[service.s]\nvip = \"v\"\npool = \"p\"\n{service}\n\
         [pool.p]\nendpoints = \"10.0.0.41\"\n{pool}\n"
    )
}

fn spec(snapshot: &Snapshot, service: &str) -> PacketSpec {
    match &snapshot.service_named(service).unwrap().spec.traffic {
        TrafficSpec::Packet(packet) => packet.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_that_is_written_of_packets_arrives() {
    let snapshot = snapshot(PACKETS, &empty());
    let (vip, pool) = (snapshot.vip_named("game").unwrap(), snapshot.pool_named("game").unwrap());
    let addresses: Vec<String> = vip.spec.addresses.iter().map(IpAddr::to_string).collect();
    assert_eq!((addresses, &*vip.spec.interface), (vec!["10.0.0.100".to_owned(), "fd00::100".to_owned()], "eth0"));
    assert_eq!(vip.spec.mac, VipMac::Virtual { id: 51 });
    let game = spec(&snapshot, "game");
    let ports: Vec<String> = game.ports.iter().flat_map(|ports| ports.iter()).map(|range| range.to_string()).collect();
    assert_eq!(ports, ["80-90/tcp", "443/tcp", "7000-7999/udp"]);
    let expected = PacketSpec {
        mode: ModeKind::L2,
        forward: Forward::Mac,
        vip: vip.id,
        ports: game.ports.clone(),
        sources: Vec::new(),
        engine: Engine::Userspace,
        pool: pool.id,
        hash_by: HashBy::SourceAddressPort,
        policy: Policy {
            on_down: OnDown::Reset,
            affinity: Affinity::Packet,
            tcp_idle: Duration::from_secs(3600),
            other_idle: Duration::from_secs(30),
        },
        slots: 1009,
    };
    assert_eq!(game, expected);
    let endpoints: Vec<_> =
        pool.spec.endpoints.iter().map(|e| (e.address.to_string(), e.weight.get(), e.mac)).collect();
    let mac = crate::base::MacAddr([2, 0, 0, 0, 0, 0x41]);
    assert_eq!(endpoints, [("10.0.0.41".to_owned(), 1, None), ("fd00::41".to_owned(), 2, Some(mac))]);
    assert_eq!(pool.endpoints.iter().map(|e| &*e.name).collect::<Vec<_>>(), ["10.0.0.41", "fd00::41"]);
    assert!(pool.endpoints.iter().all(|endpoint| endpoint.address.socket().is_none()));
    let mail = spec(&snapshot, "mail");
    assert_eq!((mail.mode, mail.forward, mail.sources.len()), (ModeKind::L4, Forward::FullNat, 2));
    assert_eq!(snapshot.vip(mail.vip).map(|vip| vip.spec.mac), Some(VipMac::Interface));
    assert_eq!(snapshot.service_named("mail").unwrap().mode(), ModeKind::L4);
    assert!(snapshot.services().all(|service| service.spec.listen.is_empty() && service.spec.access.is_none()));
}

#[test]
fn what_is_absent_of_packets_has_the_default_that_the_design_names() {
    let snapshot = snapshot(&one("mode = \"l3\"\nforward = \"ipip\"", ""), &empty());
    let spec = spec(&snapshot, "s");
    assert_eq!((spec.ports.is_none(), spec.engine, spec.slots), (true, Engine::Auto, 65_537));
    assert_eq!(spec.policy, Policy::default());
    assert_eq!(spec.policy.tcp_idle, Duration::from_secs(900));
    assert_eq!(snapshot.pool_named("p").unwrap().spec.balance.name, "maglev");
}

#[test]
fn each_forward_belongs_to_its_mode() {
    for (keys, want) in [
        ("mode = \"l2\"", Some((ModeKind::L2, Forward::Mac))),
        ("mode = \"l3\"\nforward = \"nat\"", Some((ModeKind::L3, Forward::Nat))),
        ("mode = \"l3\"\nforward = \"full-nat\"\nsource = \"10.0.0.2\"", Some((ModeKind::L3, Forward::FullNat))),
        ("mode = \"l3\"\nforward = \"ipip\"", Some((ModeKind::L3, Forward::Ipip))),
        ("mode = \"l3\"\nforward = \"gue\"", Some((ModeKind::L3, Forward::Gue))),
        ("mode = \"l4\"\nforward = \"nat\"\nports = \"1/tcp\"", Some((ModeKind::L4, Forward::Nat))),
        ("mode = \"l4\"\nforward = \"gue\"\nports = \"1/tcp\"", None),
        ("mode = \"l3\"\nforward = \"proxy\"", None),
        ("mode = \"l2\"\nforward = \"nat\"", None),
        ("mode = \"l3\"", None),
    ] {
        let text = one(keys, "");
        let loaded = read("x", text.into_bytes(), &crate::doc::Nowhere, &NO_PROBES);
        let got = loaded.config.map(|config| match &config.services[0].traffic {
            Traffic::Packet(packet) => (packet.mode, packet.forward),
            other => panic!("{other:?}"),
        });
        assert_eq!(got, want, "{keys}");
    }
    // Said or not, the proxy is the same.
    let proxy = |forward: &str| {
        format!(
            "[service.s]\nmode = \"l4\"\n{forward}listen = \":80\"\npool = \"p\"\n[pool.p]\nendpoints = \"10.0.0.1:80\"\n"
        )
    };
    assert_eq!(config(&proxy("forward = \"proxy\"\n")), config(&proxy("")));
}

#[test]
fn packets_spread_by_flow_unless_the_file_says_otherwise() {
    for (balance, by) in [
        ("", HashBy::SourceAddressPort),
        ("balance = \"maglev\"", HashBy::SourceAddressPort),
        ("balance = { type = \"maglev\" }", HashBy::SourceAddressPort),
        ("balance = \"rendezvous\"", HashBy::SourceAddressPort),
        ("balance = \"random\"", HashBy::SourceAddressPort),
        ("balance = \"source-hash\"", HashBy::SourceAddress),
        ("balance = { type = \"maglev\", key = \"source-address\" }", HashBy::SourceAddress),
        ("balance = { type = \"source-hash\", key = \"source-address-port\" }", HashBy::SourceAddressPort),
    ] {
        let snapshot = snapshot(&one("mode = \"l2\"", balance), &empty());
        assert_eq!(spec(&snapshot, "s").hash_by, by, "{balance}");
    }
    // A proxy's clients stay together.
    let proxy = "[service.s]\nmode = \"l4\"\nlisten = \":80\"\npool = \"p\"\n[pool.p]\nbalance = \"maglev\"\nendpoints = \"10.0.0.1:80\"\n";
    assert_eq!(HashBy::of(&config(proxy).pools[0].balance), Some(HashBy::SourceAddress));
}

#[test]
fn what_is_shown_of_packets_reads_back_as_the_same() {
    let first = snapshot(PACKETS, &empty());
    let mut shown = first.effective.clone();
    // The key is masked, and nulls are not TOML's.
    shown["cluster"] = serde_json::json!({ "hash_key": "000102030405060708090a0b0c0d0e0f" });
    let text = toml::to_string(&shown).unwrap();
    assert_eq!(diff(&first, &snapshot(&text, &first)), [], "{text}");
    assert_eq!(
        shown["service"]["game"]["ports"],
        serde_json::json!(["443/tcp", "7000-7999/udp", "80/tcp", "81-90/tcp"])
    );
    assert_eq!(shown["service"]["mail"]["forward"], "full-nat");
    assert_eq!(shown["service"]["game"].get("forward"), None);
    assert_eq!(shown["vip"]["game"]["mac"], serde_json::json!({ "type": "virtual", "id": 51 }));
    assert_eq!(shown["pool"]["game"].get("connect_timeout"), None);
    assert_eq!(shown["pool"]["game"]["endpoints"][0], serde_json::json!({ "address": "10.0.0.41", "weight": 1 }));
}

#[test]
fn a_reload_says_what_changed_of_packets() {
    for (from, to, said) in [
        ("id = 51", "id = 52", "vip game: mac changed"),
        ("\"10.0.0.101\"", "\"10.0.0.102\"", "vip mail: address changed"),
        ("eth1", "eth2", "vip mail: interface changed"),
        ("\"443/tcp\", ", "", "service game: ports changed"),
        ("\"443/tcp\", \"7000-7999/udp\"", "\"7000-7999/udp\", \"443/tcp\"", ""),
        ("\"81-90/tcp\"", "\"81-85/tcp\", \"86-90/tcp\"", ""),
        ("slots = 1009", "slots = 1013", "service game: slots changed"),
        ("\"reset\"", "\"keep\"", "service game: on_down changed"),
        ("\"packet\"", "\"flow\"", "service game: affinity changed"),
        ("tcp = \"1h\"", "tcp = \"2h\"", "service game: flow_timeouts changed"),
        ("\"userspace\"", "\"auto\"", "service game: engine changed"),
        (", \"10.0.0.3\"", "", "service mail: source changed"),
        ("forward = \"full-nat\"", "forward = \"nat\"", "service mail: forward, source changed"),
        ("0:41", "0:42", "pool game: macs changed"),
        ("weight = 2", "weight = 3", "pool game: weights changed"),
        ("mode = \"l2\"", "mode = \"l3\"\nforward = \"ipip\"", "service game: mode, forward changed"),
    ] {
        assert!(PACKETS.contains(from), "{from}");
        let first = snapshot(PACKETS, &empty());
        let mut text = PACKETS.replace(from, to);
        if said.contains("forward, source") {
            text = text.replace("source = [\"10.0.0.2\", \"10.0.0.3\"]\n", "");
        }
        let changes = diff(&first, &snapshot(&text, &first));
        let words: Vec<String> = changes.iter().map(Change::to_string).collect();
        assert_eq!(words.join("; "), said, "{from} to {to}");
    }
}

#[test]
fn vips_keep_their_ids_and_come_and_go_by_name() {
    let first = snapshot(PACKETS, &empty());
    let without = PACKETS
        .replace("[vip.game]\naddress = [\"10.0.0.100\", \"fd00::100\"]\ninterface = \"eth0\"\nmac = { type = \"virtual\", id = 51 }\n", "")
        .replace("vip = \"game\"\nports = [\"443/tcp\", \"7000-7999/udp\", \"80/tcp\", \"81-90/tcp\"]", "vip = \"mail\"\nports = \"80/tcp\"")
        .replace("address = \"10.0.0.101\"", "address = [\"10.0.0.101\", \"fd00::101\"]")
        .replace("[\"10.0.0.51:2525\"]", "[\"10.0.0.51:2525\", \"[fd00::51]:2525\"]")
        .replace("\"10.0.0.3\"]", "\"fd00::3\"]");
    let second = snapshot(&without, &first);
    let words: Vec<String> = diff(&first, &second).iter().map(Change::to_string).collect();
    assert!(words.contains(&"vip game removed".to_owned()), "{words:?}");
    assert!(second.vip_named("game").is_none());
    let third = snapshot(PACKETS, &second);
    for name in ["game", "mail"] {
        assert_eq!(third.vip_named(name).map(|vip| vip.id), first.vip_named(name).map(|vip| vip.id), "{name}");
    }
    assert!(diff(&second, &third).iter().any(|change| change.to_string() == "vip game added"));
    assert_eq!(third.vips().count(), 2);
}

#[test]
fn an_endpoint_survives_what_changes_around_it() {
    let first = snapshot(PACKETS, &empty());
    let second = snapshot(&PACKETS.replace("0:41", "0:42").replace("weight = 2", "weight = 5"), &first);
    let endpoint = |snapshot: &Snapshot| snapshot.pool_named("game").unwrap().endpoint("fd00::41").unwrap().clone();
    assert!(std::sync::Arc::ptr_eq(&endpoint(&first), &endpoint(&second)));
    let host: IpAddr = "10.0.0.41".parse().unwrap();
    assert_eq!(first.pool_named("game").unwrap().endpoints[0].address, EndpointAddr::host(host));
}

#[test]
fn a_proxy_that_becomes_packets_is_the_same_service() {
    let proxy = "[service.s]\nmode = \"l4\"\nlisten = \":80\"\npool = \"p\"\n[pool.p]\nendpoints = \"10.0.0.41:80\"\n";
    let first = snapshot(proxy, &empty());
    let nat =
        one("mode = \"l4\"\nforward = \"nat\"\nports = \"80/tcp\"", "").replace("\"10.0.0.41\"", "\"10.0.0.41:80\"");
    let words: Vec<String> = diff(&first, &snapshot(&nat, &first)).iter().map(Change::to_string).collect();
    assert_eq!(
        words,
        ["service s: timeouts, forward changed", "service s leaves :80", "vip v added", "pool p: balance changed",]
    );
}

#[test]
fn services_of_one_vip_share_it_where_their_ports_differ() {
    let file = |ports: &[Option<&str>]| {
        let mut text = "[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"eth0\"\n[pool.p]\nendpoints = \"10.0.0.41\"\n\
                        [cluster]\nhash_key = \"0123456789abcdef\"\n"
            .to_owned();
        for (n, ports) in ports.iter().enumerate() {
            let ports = ports.map(|ports| format!("ports = \"{ports}\"\n")).unwrap_or_default();
            text += &format!("[service.s{n}]\nmode = \"l2\"\nvip = \"v\"\npool = \"p\"\n{ports}");
        }
        text
    };
    for (ports, clashes) in [
        (&[Some("80/tcp"), Some("80/udp"), Some("81-90/tcp")][..], 0),
        (&[Some("80/tcp"), Some("80/tcp")], 1),
        (&[Some("1-100/tcp"), Some("50/tcp"), Some("99-200/tcp")], 2),
        (&[Some("1-100/tcp"), Some("2/tcp"), Some("100/tcp"), Some("101/tcp")], 2),
        (&[None], 0),
        (&[None, Some("80/tcp")], 1),
        (&[Some("80/udp"), None], 1),
        (&[None, None], 1),
    ] {
        let found = codes(&file(ports));
        assert_eq!(found, vec!["E038"; clashes], "{ports:?}");
    }
    let mut many: Vec<Option<String>> = (1..=4000).map(|port| Some(format!("{port}/tcp"))).collect();
    many.push(Some("4000-4001/tcp".to_owned()));
    let many: Vec<Option<&str>> = many.iter().map(Option::as_deref).collect();
    // And the tables are too large by far.
    assert_eq!(codes(&file(&many)).iter().filter(|code| **code == "E038").count(), 1);
}

#[test]
fn nat_is_refused_where_a_reply_could_be_for_any_of_a_services_ports() {
    for (ports, endpoint, forward, refused) in [
        ("\"80/tcp\"", "10.0.0.41:8080", "nat", false),
        ("\"80/tcp\", \"80/udp\"", "10.0.0.41:8080", "nat", false),
        ("\"80/tcp\", \"81/tcp\"", "10.0.0.41", "nat", false),
        ("\"80/tcp\", \"81/tcp\"", "10.0.0.41:8080", "nat", true),
        ("\"80-81/tcp\"", "10.0.0.41:8080", "nat", true),
        ("\"80-81/tcp\"", "10.0.0.41", "nat", false),
        ("\"80-81/tcp\"", "10.0.0.41:8080", "full-nat", false),
    ] {
        let source = if forward == "full-nat" { "source = \"10.0.0.2\"\n" } else { "" };
        let keys = format!("mode = \"l4\"\nforward = \"{forward}\"\n{source}ports = [{ports}]");
        let text = one(&keys, "[cluster]\nhash_key = \"0123456789abcdef\"").replace("10.0.0.41", endpoint);
        let want: &[&str] = if refused { &["E045"] } else { &[] };
        assert_eq!(codes(&text), want, "{ports} to {endpoint}, {forward}");
    }
}

#[test]
fn families_cross_in_tunnels_only() {
    for (forward, crosses) in [("mode = \"l2\"", false), ("nat", false), ("ipip", true), ("gue", true)] {
        let keys = if forward.starts_with("mode") {
            forward.to_owned()
        } else {
            format!("mode = \"l3\"\nforward = \"{forward}\"\nports = \"80/tcp\"")
        };
        let text =
            one(&keys, "").replace("\"10.0.0.41\"", "\"fd00::41\"") + "[cluster]\nhash_key = \"0123456789abcdef\"\n";
        let want: &[&str] = if crosses { &[] } else { &["E041"] };
        assert_eq!(codes(&text), want, "{forward}");
    }
}

#[test]
fn a_listener_meets_a_vip_by_its_very_address_only() {
    for (listen, meets) in [(":80", false), ("0.0.0.0:80", false), ("10.0.0.100:80", true), ("10.0.0.1:80", false)] {
        let text = one("mode = \"l2\"", "")
            + &format!(
                "[service.web]\nmode = \"l7\"\nlisten = \"{listen}\"\npool = \"w\"\n[pool.w]\nendpoints = \"10.0.0.1:80\"\n"
            );
        assert_eq!(codes(&text).contains(&"E037"), meets, "{listen}");
    }
}

#[test]
fn limits_of_packet_services_are_kept() {
    use crate::base::limits;
    let list = |n: usize, item: &dyn Fn(usize) -> String| {
        format!("[{}]", (0..n).map(|i| format!("\"{}\"", item(i))).collect::<Vec<_>>().join(", "))
    };
    let ports = |n| one(&format!("mode = \"l2\"\nports = {}", list(n, &|i| format!("{}/tcp", 2 * i + 1))), "");
    assert!(!codes(&ports(limits::PORT_RANGES)).contains(&"E028"));
    assert!(codes(&ports(limits::PORT_RANGES + 1)).contains(&"E028"));
    let address = |n| {
        let addresses = list(n, &|i| format!("10.1.{}.{}", i / 256, i % 256));
        one("mode = \"l2\"", "").replace("address = \"10.0.0.100\"", &format!("address = {addresses}"))
    };
    assert!(!codes(&address(limits::VIP_ADDRESSES)).contains(&"E028"));
    assert!(codes(&address(limits::VIP_ADDRESSES + 1)).contains(&"E028"));
    let source = |n| {
        let sources = list(n, &|i| format!("10.2.0.{i}"));
        one(&format!("mode = \"l3\"\nforward = \"full-nat\"\nsource = {sources}"), "")
    };
    assert!(!codes(&source(limits::NAT_SOURCES)).contains(&"E028"));
    assert!(codes(&source(limits::NAT_SOURCES + 1)).contains(&"E028"));
    let range = PortRange { transport: Transport::Udp, first: 7, last: 7 };
    assert_eq!(PortRange::parse("7/udp"), Ok(range));
}
