//! Shell: the metrics page: which series there are, and what they say.

use super::*;

#[tokio::test]
async fn series_exist_at_zero_from_the_start() {
    local(async {
        let text = rig().metrics().await;
        for metric in names::ALL {
            assert!(text.contains(&format!("# TYPE {} ", metric.name)), "{} is missing", metric.name);
        }
        for reason in Reason::ALL.iter().filter(|reason| !reason.is_of_packets()) {
            let name = format!("strata_drops_total{{reason=\"{}\",service=\"edge\"}}", reason.word());
            let other = format!("strata_drops_total{{service=\"edge\",reason=\"{}\"}}", reason.word());
            assert_eq!(series(&text, &name).or(series(&text, &other)), Some(0.0), "{name}");
        }
        for reason in Reason::ALL.iter().filter(|reason| reason.is_of_packets()) {
            for name in ["drops_total{service=\"game\",", "stray_packets_dropped_total{"] {
                let name = format!("strata_{name}reason=\"{}\"}}", reason.word());
                assert_eq!(series(&text, &name), Some(0.0), "{name}");
            }
        }
        for why in Lost::ALL {
            let name = format!("strata_interface_frames_lost_total{{interface=\"eth0\",reason=\"{}\"}}", why.word());
            assert_eq!(series(&text, &name), Some(0.0), "{name}");
        }
        for (name, want) in [
            ("strata_service_info{service=\"game\",mode=\"l2\",engine=\"userspace\"}", 1.0),
            ("strata_source_up{source=\"pool.web\",kind=\"dns\"}", 1.0),
            ("strata_source_members{source=\"pool.web\",kind=\"dns\"}", 0.0),
            ("strata_source_refused{source=\"pool.web\",reason=\"loopback\"}", 0.0),
            ("strata_source_failures_total{source=\"pool.web\",reason=\"silent\"}", 0.0),
            ("strata_flow_records", 0.0),
            ("strata_flow_records_limit", limits::FLOW_RECORDS as f64),
            ("strata_nat_flows_limit", limits::NAT_FLOWS as f64),
            ("strata_nat_ports_lent{source=\"10.0.0.3\",protocol=\"tcp\"}", 0.0),
            ("strata_nat_ports_free{source=\"10.0.0.3\",protocol=\"udp\"}", 64_512.0),
            ("strata_slots_marked{service=\"game\"}", 0.0),
            ("strata_slots_fingerprint{service=\"game\",family=\"v6\"}", 0.0),
            ("strata_endpoint_packets_sent_total{pool=\"game\",endpoint=\"fd00::41\"}", 0.0),
            ("strata_endpoint_bytes_received_total{pool=\"translated\",endpoint=\"10.0.0.51\"}", 0.0),
        ] {
            assert_eq!(series(&text, name), Some(want), "{name}");
        }
        for code in [200, 404, 502, 503, 504] {
            let name = format!("strata_requests_total{{service=\"edge\",protocol=\"http1\",code=\"{code}\"}}");
            assert_eq!(series(&text, &name), Some(0.0), "{name}");
        }
        for reject in Reject::ALL {
            let name = format!("strata_drops_total{{service=\"edge\",reason=\"{}\"}}", reject.word());
            assert_eq!(series(&text, &name), Some(0.0), "{name}");
        }
        assert_eq!(series(&text, "strata_endpoint_weight{pool=\"web\",endpoint=\"192.0.2.2:80\"}"), Some(3.0));
        assert_eq!(series(&text, "strata_config_generation"), Some(1.0));
        assert!(series(&text, "strata_table_fingerprint{pool=\"web\"}").is_some_and(|value| value > 0.0));
        assert!(text.contains("process_resident_memory_bytes "), "the process collector");
        // What does not apply is absent, not zero.
        for absent in [
            "strata_packets_total{service=\"db\"",
            "strata_slots_marked{service=\"edge\"",
            "strata_connections_total{service=\"game\"",
            "strata_slots_fingerprint{service=\"game\",family=\"any\"",
            "strata_endpoint_requests_total{pool=\"game\"",
            "strata_upstream_errors_total{pool=\"game\"",
            "strata_table_fingerprint{pool=\"game\"",
            "strata_endpoint_packets_sent_total{pool=\"web\"",
            "strata_endpoint_packets_received_total{pool=\"game\"",
            "strata_requests_total{service=\"db\"",
            "strata_request_duration_seconds_count{service=\"db\"",
            "strata_probes_total{pool=\"web\"",
            "strata_table_fingerprint{pool=\"api\"",
        ] {
            assert!(!text.contains(absent), "{absent}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_every_worker_counted_is_summed() {
    local(async {
        let rig = rig();
        let snapshot = rig.crew.snapshot.load_full();
        let (edge, web) = (snapshot.service_named("edge").unwrap(), snapshot.pool_named("web").unwrap());
        for worker in [WorkerId(0), WorkerId(1)] {
            let cells = edge.cells(worker);
            cells.responses.count(200);
            cells.responses.count(418);
            cells.drop(Reason::NoRoute);
            cells.reject(Reject::BareLf);
            cells.bytes_sent.add(1000);
            cells.request_duration.observe(Duration::from_micros(300));
            cells.request_duration.observe(Duration::from_secs(100));
            web.endpoints[0].cells.row(worker).error(UpstreamError::Reset);
        }
        let text = rig.metrics().await;
        for (name, want) in [
            ("strata_requests_total{service=\"edge\",protocol=\"http1\",code=\"200\"}", 2.0),
            ("strata_requests_total{service=\"edge\",protocol=\"http1\",code=\"418\"}", 2.0),
            ("strata_drops_total{service=\"edge\",reason=\"no-route\"}", 2.0),
            ("strata_drops_total{service=\"edge\",reason=\"bare-lf\"}", 2.0),
            ("strata_bytes_sent_total{service=\"edge\"}", 2000.0),
            ("strata_request_duration_seconds_count{service=\"edge\"}", 4.0),
            ("strata_request_duration_seconds_bucket{service=\"edge\",le=\"0.00025\"}", 0.0),
            ("strata_request_duration_seconds_bucket{service=\"edge\",le=\"0.0005\"}", 2.0),
            ("strata_request_duration_seconds_bucket{service=\"edge\",le=\"60\"}", 2.0),
            ("strata_request_duration_seconds_bucket{service=\"edge\",le=\"+Inf\"}", 4.0),
            ("strata_upstream_errors_total{pool=\"web\",endpoint=\"192.0.2.1:80\",kind=\"reset\"}", 2.0),
        ] {
            assert_eq!(series(&text, name), Some(want), "{name}");
        }
        let sum = series(&text, "strata_request_duration_seconds_sum{service=\"edge\"}").unwrap();
        assert!((sum - 200.0006).abs() < 1e-6, "{sum}");
    })
    .await;
}

#[tokio::test]
async fn what_the_packet_engine_tells_is_shown_while_it_serves() {
    local(async {
        let rig = rig();
        let (snapshot, packets) = (rig.crew.snapshot.load_full(), &rig.crew.packets);
        let key = HashKey::new([7; 16]);
        let source = "10.0.0.3".parse().unwrap();
        let nat = Nat::new(1000, &[source], &(5000..=5009), key);
        let target = nat::Target {
            endpoint: 0,
            generation: 0,
            address: "10.0.0.51:80".parse().unwrap(),
            idle: Duration::from_secs(60),
        };
        let flow = FlowKey::new(6, "192.0.2.1:4242".parse().unwrap(), "10.0.0.100:80".parse().unwrap());
        nat.bind_full(ServiceId(0), &flow, Kind::Syn { seq: 1 }, &target, &[source], clock::now()).unwrap();
        packets.began(Arc::new(Shared::with(Records::new(64, key), nat, Fragments::new(1, key), key)));
        packets.events_lost.add_shared(3);
        packets.interface(&"eth0".into()).lose(Lost::Overrun, 4);
        packets.interface(&"eth0".into()).divided.add_shared(2);
        let game = snapshot.service_named("game").unwrap();
        game.kept.slots(Family::V4).set(5, 6 << 12);
        game.kept.slots(Family::V6).set(7, 8 << 12);
        let sent = &snapshot.pool_named("game").unwrap().endpoints[0].cells;
        sent.row(WorkerId(0)).sent.packets.add_shared(9);
        sent.row(WorkerId(1)).sent.packets.add_shared(1);
        let text = rig.metrics().await;
        for (name, want) in [
            ("strata_control_events_lost_total", 3.0),
            ("strata_interface_workers{interface=\"eth0\"}", 1.0),
            ("strata_interface_frames_lost_total{interface=\"eth0\",reason=\"overrun\"}", 4.0),
            ("strata_interface_frames_divided_total{interface=\"eth0\"}", 2.0),
            ("strata_slots_marked{service=\"game\"}", 12.0),
            ("strata_slots_fingerprint{service=\"game\",family=\"v4\"}", 6.0),
            ("strata_slots_fingerprint{service=\"game\",family=\"v6\"}", 8.0),
            ("strata_endpoint_packets_sent_total{pool=\"game\",endpoint=\"10.0.0.41\"}", 10.0),
            ("strata_flow_records_limit", 64.0),
            ("strata_nat_flows", 1.0),
            ("strata_nat_flows_unproven", 1.0),
            ("strata_nat_ports_lent{source=\"10.0.0.3\",protocol=\"tcp\"}", 1.0),
            ("strata_nat_ports_free{source=\"10.0.0.3\",protocol=\"tcp\"}", 9.0),
            ("strata_nat_ports_free{source=\"10.0.0.3\",protocol=\"udp\"}", 10.0),
        ] {
            assert_eq!(series(&text, name), Some(want), "{name}");
        }
        // The last worker ends: nothing carries the service. The interface is closed: its series end.
        packets.interface(&"eth0".into()).leave();
        let text = rig.metrics().await;
        assert!(text.contains("strata_service_info{service=\"game\",mode=\"l2\",engine=\"none\"} 1"), "{text}");
        packets.forget("eth0");
        rig.swap(&TEXT.replace("source = \"10.0.0.3\"", "source = \"10.0.0.4\""));
        let text = rig.metrics().await;
        assert!(!text.contains("interface=\"eth0\"") && !text.contains("source=\"10.0.0.3\""), "{text}");
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_shows_the_one_state_it_is_in() {
    local(async {
        let rig = rig();
        let snapshot = rig.crew.snapshot.load_full();
        let pool = snapshot.pool_named("web").unwrap();
        let status = pool.endpoints[0].status();
        pool.endpoints[0].set_status(Status { intent: Intent::Draining, health: Health::Down, ..status });
        pool.publish();
        let text = rig.metrics().await;
        let states: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("strata_endpoint_state{pool=\"web\",endpoint=\"192.0.2.1:80\""))
            .collect();
        assert_eq!(states.len(), Intent::ALL.len() * Health::ALL.len());
        let shown: Vec<&&str> = states.iter().filter(|line| line.ends_with(" 1")).collect();
        assert_eq!(shown.len(), 1);
        assert!(shown[0].contains("intent=\"draining\",health=\"down\""), "{shown:?}");
        assert_eq!(series(&text, "strata_endpoint_up{pool=\"web\",endpoint=\"192.0.2.1:80\"}"), Some(0.0));
        assert_eq!(series(&text, "strata_endpoint_up{pool=\"web\",endpoint=\"192.0.2.2:80\"}"), Some(1.0));
        assert_eq!(series(&text, "strata_pool_endpoints_usable{pool=\"web\"}"), Some(1.0));
    })
    .await;
}

#[tokio::test]
async fn series_vanish_with_their_object() {
    local(async {
        let rig = rig();
        assert!(rig.metrics().await.contains("service=\"db\""));
        rig.swap(&TEXT.replace("[service.db]", "[service.renamed]").replace("192.0.2.1:80", "192.0.2.9:80"));
        let text = rig.metrics().await;
        for gone in ["service=\"db\"", "endpoint=\"192.0.2.1:80\""] {
            assert!(!text.contains(gone), "{gone}");
        }
        for there in ["service=\"renamed\"", "endpoint=\"192.0.2.9:80\"", "strata_config_generation 2"] {
            assert!(text.contains(there), "{there}");
        }
    })
    .await;
}

#[tokio::test]
async fn promtool_finds_nothing_to_say() {
    let found = std::process::Command::new("promtool").arg("--version").output().is_ok();
    if !found {
        assert!(std::env::var_os("STRATA_TEST_ALL").is_none(), "promtool is missing (Debian: prometheus)");
        eprintln!("SKIPPED: promtool is missing (Debian: prometheus)");
        return;
    }
    local(async {
        let text = rig().metrics().await;
        let page = text.split_once("\r\n\r\n").unwrap().1.to_owned();
        let mut tool = std::process::Command::new("promtool");
        tool.stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut tool = tool.args(["check", "metrics"]).spawn().unwrap();
        std::io::Write::write_all(&mut tool.stdin.take().unwrap(), page.as_bytes()).unwrap();
        let output = tool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.trim().is_empty(), "{said}");
    })
    .await;
}
