//! What an operator sees of packets: every one is counted somewhere, and nothing is shown that is not so.

use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use strata::observe::names::{self, Group};

use super::cli;
use super::common::metrics::get;
use super::common::{Metrics, await_that, skip};
use super::node::can;
use super::rig::{Extra, Rig, Way};
use super::talk::{ask, once, udp};
use super::world::{Family, Place, World};

/// So many datagrams from the client, each answered. No other flow has this one's port while the socket lives.
fn datagrams(rig: &Rig, family: Family, count: u32) -> UdpSocket {
    let socket = udp(&rig.world.client, family.vip()).expect("a socket");
    let before = rig.scrape();
    for n in 0..count {
        once(&socket, &n.to_be_bytes()).unwrap_or_else(|error| {
            panic!("datagram {n}: {error}; {:?}\n{}", rig.scrape().drops_since(&before), rig.strata.log_tail())
        });
    }
    socket
}

#[test]
fn every_packet_is_counted_for_its_service_its_endpoint_and_its_interface() {
    if !can("counts of packets") {
        return;
    }
    for (way, returns) in [(Way::L2, false), (Way::Ipip, false), (Way::Nat, true), (Way::L4FullNat, true)] {
        let rig = Rig::new(way, Place::Lan, 2, 2, Extra::default());
        for (family, pool) in [(Family::V4, "four"), (Family::V6, "six")] {
            let service = [("service", pool)];
            let of = |name: &str| rig.scrape().sum(&format!("strata_{name}"), &[("pool", pool)]);
            let before = rig.scrape();
            let sent = of("endpoint_packets_sent_total");
            let back = if returns { of("endpoint_packets_received_total") } else { 0.0 };
            let case = format!("{way:?} {}", family.word());
            datagrams(&rig, family, 50);
            let packets = |at: &Metrics| at.sum("strata_packets_total", &service);
            let all = if returns { 100.0 } else { 50.0 };
            // The last of them is answered before it is counted.
            await_that(&format!("{case}: {all} packets"), || {
                packets(&rig.scrape()) - packets(&before) >= all
                    && of("endpoint_packets_sent_total") - sent >= 50.0
                    && (!returns || of("endpoint_packets_received_total") - back >= 50.0)
                    && of("endpoint_bytes_sent_total") >= 50.0 * 46.0
            });
            assert_eq!(of("endpoint_packets_sent_total") - sent, 50.0, "{case}");
            let after = rig.scrape();
            let name = "strata_endpoint_packets_received_total";
            assert_eq!(after.has(name, &[("pool", pool)]), returns, "{case}");
            assert_eq!(after.has("strata_bytes_sent_total", &service), returns, "{case}");
            if returns {
                assert_eq!(of("endpoint_packets_received_total") - back, 50.0, "{case}");
            }
            assert_eq!(packets(&after) - packets(&before), all, "{case}");
            assert!(!after.has("strata_connections_total", &service), "{case}: nobody knows");
            assert!(!after.has("strata_endpoint_requests_total", &[("pool", pool)]), "{case}: nobody knows");
        }
        // Taps tell a few times a second.
        let eth0 = [("interface", "eth0")];
        let least = if returns { 200.0 } else { 100.0 };
        await_that("the interface's counts", || {
            let metrics = rig.scrape();
            let of = |name: &str| metrics.sum(&format!("strata_interface_{name}"), &eth0);
            of("frames_received_total") >= least && of("frames_sent_total") >= least
        });
        let metrics = rig.scrape();
        assert!(metrics.sum("strata_interface_workers", &eth0) > 0.0);
        assert_eq!(metrics.sum("strata_interface_frames_lost_total", &[]), 0.0, "{way:?}");
        assert_eq!(metrics.sum("strata_service_info", &[("engine", Extra::default().engine())]), 2.0, "{way:?}");
        // Tables are there, those of a tunnel for both families at once.
        let fingerprint = |service: &str, family: &str| {
            metrics.sum("strata_slots_fingerprint", &[("service", service), ("family", family)])
        };
        let [four, six] = if way == Way::Ipip { ["any", "any"] } else { ["v4", "v6"] };
        assert!(fingerprint("four", four) > 0.0 && fingerprint("six", six) > 0.0, "{way:?}");
    }
}

/// A drained endpoint's slots are marked, and the flows in them remembered: what the flood must not leave is there when it should.
#[test]
fn a_transition_shows_in_slots_and_records_and_a_drained_endpoint_in_no_new_ones() {
    if !can("counts of a transition") {
        return;
    }
    let rig = Rig::new(Way::L2, Place::Lan, 2, 2, Extra::default());
    let of = |name: &str| rig.scrape().sum(name, &[]);
    assert_eq!((of("strata_slots_marked"), of("strata_flow_records")), (0.0, 0.0));
    let leaving = Family::V4.endpoint(Place::Lan, 0).to_string();
    let said = rig.world.balancer.enter(|| cli::ask(&rig.strata, &["drain", "four", &leaving]));
    assert_eq!(said.code, 0, "{said:?}");
    // Half of 65 537 slots named it.
    await_that("marked slots", || of("strata_slots_marked") > 30_000.0);
    for _ in 0..40 {
        ask(&rig.world.client, Family::V4.vip(), 1, 1).expect("an answer");
    }
    assert!(of("strata_flow_records") > 0.0, "40 connections in a transition left no record");
    assert!(of("strata_flow_records") <= of("strata_flow_records_limit"));
}

#[test]
fn a_translated_flow_and_its_port_are_given_back_when_it_has_been_silent() {
    if !can("the end of translated flows") {
        return;
    }
    let extra = Extra { service: "flow_timeouts = { tcp = \"1s\", other = \"1s\" }", ..Extra::default() };
    let rig = Rig::new(Way::FullNat, Place::Lan, 2, 2, extra);
    let of = |name: &str, labels: &[(&str, &str)]| rig.scrape().sum(name, labels);
    let udp = [("source", "10.0.0.3"), ("protocol", "udp")];
    let all = of("strata_nat_ports_free", &udp);
    assert_eq!((all, of("strata_nat_ports_lent", &udp)), (64_512.0, 0.0));
    // An answer, and an answer to it: each flow has proven itself.
    let _ports: Vec<UdpSocket> = (0..20).map(|_| datagrams(&rig, Family::V4, 2)).collect();
    await_that("silent flows end", || of("strata_nat_flows", &[]) == 0.0);
    assert_eq!(of("strata_nat_ports_lent", &[]), 0.0);
    await_that("all ports are free again", || of("strata_nat_ports_free", &udp) == all);
}

#[test]
fn every_metric_of_packets_exists_from_the_start_and_promtool_finds_nothing_wrong() {
    if !can("metrics of packet services") {
        return;
    }
    let rig = Rig::new(Way::L4FullNat, Place::Lan, 2, 2, Extra::default());
    let metrics = rig.scrape();
    for metric in names::ALL.iter().filter(|metric| metric.group == Group::Packets) {
        assert!(metrics.has(metric.name, &[]), "{} is not there", metric.name);
    }
    let text = rig.world.balancer.enter(|| get(rig.strata.metrics, "/metrics").text());
    let mut promtool = Command::new("promtool");
    let promtool =
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut promtool) = promtool.spawn() else {
        return skip("promtool check metrics", "promtool is not installed");
    };
    promtool.stdin.take().expect("its input").write_all(text.as_bytes()).expect("the page");
    let said = promtool.wait_with_output().expect("its end");
    let words = String::from_utf8_lossy(&[&*said.stdout, &*said.stderr].concat()).into_owned();
    assert!(said.status.success() && words.trim().is_empty(), "{words}");
}

#[test]
fn status_shows_packets_vips_and_the_engine_and_json_the_same() {
    if !can("`strata status` of packet services") {
        return;
    }
    let rig = Rig::new(Way::Nat, Place::Lan, 2, 2, Extra::default());
    datagrams(&rig, Family::V4, 5);
    let ask = |words: &[&str]| rig.world.balancer.enter(|| cli::ask(&rig.strata, words));
    let said = ask(&["status"]);
    assert_eq!(said.code, 0, "{said:?}");
    let mac = World::mac(&rig.world.balancer);
    let engine = Extra::default().engine();
    for words in
        ["SERVICE  MODE    ENGINE", &format!("l3 nat  {engine}"), "PACKETS", "flow records", "INTERFACE", mac.as_str()]
    {
        assert!(said.out.contains(words), "no {words:?} in\n{}", said.out);
    }
    assert!(!said.out.contains("CONNECTIONS"), "{}", said.out);
    let json: serde_json::Value = serde_json::from_str(&ask(&["status", "--json"]).out).expect("JSON");
    let four = &json["services"][0];
    assert_eq!((&four["name"], &four["forward"], &four["engine"]), (&"four".into(), &"nat".into(), &engine.into()));
    assert!(four["packets_total"].as_u64() >= Some(10) && four["connections"].is_null(), "{four}");
    let vip = &json["vips"][0];
    assert_eq!((&vip["interface"], &vip["addresses"][0]["mac"]), (&"eth0".into(), &mac.as_str().into()), "{vip}");
    assert_eq!(json["packets"]["interfaces"][0]["name"], "eth0");
    assert!(json["pools"][0]["endpoints"][0]["packets_sent_total"].is_u64(), "{json}");
}
