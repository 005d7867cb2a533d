//! `strata explain` and `strata replay` as an operator uses them: no root, no interface, and every step told.

#[path = "common/cli.rs"]
mod cli;
mod common;
#[path = "explain/requests.rs"]
mod requests;

use std::fs;

use serde_json::Value;
use strata::wire::compose::{Head, Way, datagram};
use strata::wire::tcp::Flags;

use cli::strata;

fn explain(config: &str, packet: &str) -> Value {
    let said = strata(&["explain", "--config", config, "--json", packet]);
    assert_eq!(said.code, 0, "{packet}: {said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{packet}: {error}\n{}", said.out))
}

#[test]
fn each_mode_tells_service_slot_endpoint_and_what_is_rewritten() {
    let (client, v6) = ("198.51.100.7:4242", "[2001:db8::7]:4242");
    for (config, packet, service, verdict, after) in [
        // The frame alone changes, its MAC address is the file's where that fixes one.
        ("l2", format!("tcp {client} > 10.0.0.100:80"), "game", "send slot", "> 10.0.0.100:80 tcp [S]"),
        ("l2", format!("udp {v6} > [fd00::100]:7001"), "game", "send slot", "> 02:00:00:00:00:42 [2001:db8::7]"),
        ("l3-nat", format!("tcp {client} > 10.0.0.100:25"), "mail", "send slot", "198.51.100.7:4242 > 10.0.0.4"),
        ("l3-nat", format!("udp {client} > 10.0.0.101:53"), "lab", "send translated", "> 10.0.0.5"),
        (
            "l3-nat",
            "tcp 10.0.0.41:25 > 198.51.100.7:4242 syn ack".into(),
            "mail",
            "send back",
            "10.0.0.100:25 > 198.51",
        ),
        ("l3-tunnel", format!("tcp {client} > 10.0.0.100:80"), "web", "send slot", "ipip | 198.51.100.7:4242"),
        ("l3-tunnel", format!("udp {v6} > [fd00::100]:443"), "quic", "send slot", ":6080 udp | [2001:db8::7]"),
        ("l4-nat", format!("tcp {client} > 10.0.0.100:80"), "web", "send slot", ":8080 tcp [S]"),
        ("l4-nat", format!("udp {client} > 10.0.0.100:53"), "names", "send translated", ":5353 udp"),
        // What is answered or goes nowhere.
        ("l2", "icmp 198.51.100.7 > 10.0.0.100".into(), "", "reply echo", "icmp echo-reply"),
        ("l2", format!("tcp {client} > 10.0.0.100:81"), "", "drop no-service", ""),
        ("l2", format!("tcp {client} > 10.0.0.100:80 syn fin"), "game", "drop bad-tcp-flags", ""),
        ("l2", format!("tcp {client} > 10.0.0.100:80 vlan 7"), "game", "drop unexpected-vlan", ""),
        ("l2", format!("udp {client} > 10.0.0.100:7000 fragment 1480"), "", "drop fragment-without-first", ""),
        ("l2", format!("tcp {client} > 10.0.0.100:80 ttl 1"), "game", "reply hops-exhausted", "time-exceeded"),
        ("l3-tunnel", format!("udp {client} > 10.0.0.100:443 size 1500"), "quic", "reply too-big", "too-big mtu 1448"),
        ("l2", format!("tcp {client} > 10.0.0.9:80"), "", "pass not-ours", ""),
    ] {
        let told = explain(&format!("conf/{config}.toml"), &packet);
        let said = &told["verdict"];
        let word = format!("{} {}", said["action"].as_str().unwrap(), said["why"].as_str().unwrap());
        assert_eq!(word, verdict, "{packet}: {told:#}");
        assert_eq!(told["service"]["name"].as_str().unwrap_or_default(), service, "{packet}: {told:#}");
        assert!(told["after"].as_str().unwrap_or_default().contains(after), "{packet}: {told:#}");
        assert_eq!(told["after"].is_null(), after.is_empty(), "{packet}: {told:#}");
        assert_eq!(
            said["way_out"].is_null(),
            !verdict.starts_with("drop") && !verdict.contains("too-big") && !verdict.contains("hops"),
            "{told:#}"
        );
        // Where a slot picks, it, the mark in the pool and the verdict name one endpoint.
        if !told["slot"].is_null() && said["action"] == "send" {
            let marked =
                told["pool"]["endpoints"].as_array().unwrap().iter().find(|endpoint| endpoint["picked"] == true);
            assert_eq!((&told["slot"]["endpoint"], &marked.unwrap()["name"]), (&said["endpoint"], &said["endpoint"]));
        }
    }
}

#[test]
fn a_tired_operator_reads_it_from_top_to_bottom() {
    let said = strata(&["explain", "--config", "conf/l2.toml", "tcp 198.51.100.7:4242 > 10.0.0.100:80"]);
    assert_eq!(said.code, 0, "{said:?}");
    let heads: Vec<&str> =
        said.out.lines().filter_map(|line| line.split("  ").next()).filter(|head| !head.is_empty()).collect();
    assert_eq!(heads[..8], ["packet", "vip", "service", "pool", "slot", "verdict", "before", "after"], "{}", said.out);
    let said = strata(&["explain", "--config", "conf/l2.toml", "tcp 198.51.100.7:4242 > 10.0.0.100:81"]);
    for line in [
        "service   none takes it: game takes 80/tcp, 7000-7999/udp",
        "verdict   drop: no-service",
        "way out   add the port",
    ] {
        assert!(said.out.contains(line), "no {line:?} in\n{}", said.out);
    }
}

#[test]
fn what_cannot_be_explained_is_named_with_the_way_out() {
    let packet = "tcp 198.51.100.7:4242 > 10.0.0.100:80";
    for (arguments, code, want) in [
        (
            &["explain", "--config", "conf/l2.toml", "tpc 198.51.100.7:4242 > 10.0.0.100:80"][..],
            2,
            "did you mean `tcp`?",
        ),
        (&["explain", "--config", "conf/l2.toml", ""], 2, "as in 'tcp 198.51.100.7:4242 > 10.0.0.100:80'"),
        (&["explain", "--config", "conf/l2.toml", "--in", "eht0", packet], 1, "did you mean `eth0`?"),
        (
            &["explain", "--config", "conf/l7.toml", "udp 1.2.3.4:5 > 10.0.0.1:80"],
            1,
            "no service of mode l2, l3 or l4 with a vip",
        ),
        (&["explain", "--config", "conf/bad/vips.toml", packet], 1, "error[E"),
        (&["explain", "--config", "/nowhere.toml", packet], 1, "cannot read /nowhere.toml"),
        (&["replay", "--config", "conf/l2.toml", "/nowhere.pcap"], 1, "cannot read /nowhere.pcap"),
        (&["replay", "--config", "conf/l2.toml", "conf/l2.toml"], 1, "conf/l2.toml: "),
    ] {
        let said = strata(arguments);
        assert!(said.code == code && said.err.contains(want) && said.out.is_empty(), "{arguments:?}: {said:?}");
    }
}

/// A capture file, as `tcpdump -w` writes it, of packets a second apart.
fn capture(link: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let head = [2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut file = [&0xa1b2_c3d4_u32.to_le_bytes()[..], &head, &65535_u32.to_le_bytes(), &link.to_le_bytes()].concat();
    for (seconds, bytes) in (1_u32..).zip(packets) {
        let len = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        file.extend([&seconds.to_le_bytes()[..], &[0; 4], &len, &len, bytes].concat());
    }
    file
}

fn syn(from: &str, to: &str) -> Vec<u8> {
    let head = Head::Tcp { flags: Flags::SYN, sequence: 1, acknowledgment: 0, mss: Some(1460) };
    datagram(&Way::new(from.parse().unwrap(), to.parse().unwrap()), head, &[]).unwrap()
}

/// Without link headers, which captures of tunnels and of `any` lack.
#[test]
fn a_capture_is_replayed_each_packet_with_its_verdict() {
    let file = capture(101, &["10.0.0.100:80", "10.0.0.100:81", "10.0.0.9:80"].map(|to| syn("198.51.100.7:4242", to)));
    let path = std::env::temp_dir().join(format!("strata-{}-replay.pcap", std::process::id()));
    fs::write(&path, &file).unwrap();
    let name = path.to_str().unwrap();
    let said = strata(&["replay", "--config", "conf/l2.toml", name]);
    for line in
        ["→ send: service game, endpoint 10.0.0.42, slot", "→ drop: no-service", "→ pass: not-ours", "1  send: slot"]
    {
        assert!(said.code == 0 && said.out.contains(line), "no {line:?}: {said:?}");
    }
    let said = strata(&["replay", "--config", "conf/l2.toml", "--json", "--out", name]);
    let first: Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["service"], &first["endpoint"], &first["why"]),
        (&"game".into(), &"10.0.0.42".into(), &"slot".into())
    );
    // What `replay` shows of a packet is what `explain` understands, and both decide alike.
    let told = explain("conf/l2.toml", first["shown"].as_str().unwrap());
    assert_eq!((&told["verdict"]["endpoint"], &told["verdict"]["why"]), (&first["endpoint"], &first["why"]));
    fs::write(&path, &file[..file.len() - 5]).unwrap();
    let said = strata(&["replay", "--config", "conf/l2.toml", name]);
    assert!(said.code == 1 && said.err.contains("was read up to here") && said.out.contains("no-service"), "{said:?}");
    fs::remove_file(&path).unwrap();
}

/// A capture has both ways of a card: what Strata has sent itself is no packet that it gets.
#[test]
fn what_this_machine_sent_is_not_decided_about() {
    let (ours, router) = ([2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8]);
    let framed = |to: [u8; 6], from: [u8; 6], ip: Vec<u8>| [&to[..], &from, &[8, 0], &ip].concat();
    let file = capture(
        1,
        &[
            framed(ours, router, syn("198.51.100.7:4242", "10.0.0.100:25")),
            framed(router, ours, syn("198.51.100.7:4242", "10.0.0.100:25")),
            framed(ours, router, syn("10.0.0.9:1", "10.0.0.2:22")),
        ],
    );
    let path = std::env::temp_dir().join(format!("strata-{}-both-ways.pcap", std::process::id()));
    fs::write(&path, &file).unwrap();
    let name = path.to_str().unwrap();
    let said = strata(&["replay", "--config", "conf/l3-nat.toml", name]);
    for line in ["→ send: service mail", "→ pass: outgoing", "→ pass: not-ours"] {
        assert!(said.code == 0 && said.out.contains(line), "no {line:?}: {said:?}");
    }
    let said = strata(&["replay", "--config", "conf/l3-nat.toml", "--ours", name]);
    assert!(said.out.contains("→ send: ") && !said.out.contains("→ pass"), "{said:?}");
    // What was left out is counted all the same.
    assert!(said.out.contains("1  pass: outgoing") && said.out.contains("1  pass: not-ours"), "{said:?}");
    fs::remove_file(&path).unwrap();
}

/// `tcpdump` on a host whose card segments sees what the kernel hands to it, and not how long a segment is to be.
#[test]
fn a_frame_that_is_many_is_replayed_as_many_where_it_has_to_be() {
    let head = Head::Tcp { flags: Flags::ACK.with(Flags::PSH), sequence: 1, acknowledgment: 1, mss: None };
    let way = Way::new("198.51.100.7:4242".parse().unwrap(), "10.0.0.100:80".parse().unwrap());
    // 1240 bytes each, in packets of 1280.
    let file = capture(101, &[datagram(&way, head, &[7; 3000]).unwrap()]);
    let path = std::env::temp_dir().join(format!("strata-{}-merged.pcap", std::process::id()));
    fs::write(&path, &file).unwrap();
    let name = path.to_str().unwrap();
    let said = strata(&["replay", "--config", "conf/l3-tunnel.toml", "--out", name]);
    for line in
        ["→ divide: service web, endpoint ", ", merged", "→ 1 × send: slot", "len 1240", "len 520", "3  send: slot"]
    {
        assert!(said.code == 0 && said.out.contains(line), "no {line:?}: {said:?}");
    }
    let said = strata(&["replay", "--config", "conf/l3-tunnel.toml", name]);
    assert!(said.out.contains("→ 3 × send: slot"), "{said:?}");
    let said = strata(&["replay", "--config", "conf/l3-tunnel.toml", "--json", "--out", name]);
    let told: Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
    let each = told["each"].as_array().unwrap();
    let alike = each.iter().all(|part| part["action"] == "send" && part["out"].as_str().unwrap().contains("ipip"));
    assert!(told["action"] == "divide" && each.len() == 3 && alike, "{told:#}");
    // Elsewhere it goes on as it is.
    let said = strata(&["replay", "--config", "conf/l2.toml", name]);
    assert!(said.out.contains("→ send: service game") && !said.out.contains('×'), "{said:?}");
    fs::remove_file(&path).unwrap();
}
