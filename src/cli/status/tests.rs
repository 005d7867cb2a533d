//! Wiring: what `strata status` prints, of documents made by hand.

use super::*;
use crate::admin::document::{Drop, Interface, VipAddress};

fn status() -> Status {
    let endpoint = |name: &str, health: &str, usable| Endpoint {
        name: name.into(),
        address: name.into(),
        intent: "ready".into(),
        health: health.into(),
        usable,
        weight: 1,
        since_ms: Some(303_000),
        requests_total: 12_345,
        ..Endpoint::default()
    };
    let down = Endpoint {
        cause: Some("status 503".into()),
        errors_total: 7,
        since_ms: Some(900),
        ..endpoint("10.0.0.12:80", "down", false)
    };
    let drained = Endpoint { intent: "draining".into(), weight: 20, ..endpoint("10.0.0.9:80", "up", false) };
    let up = Endpoint { backup: true, warmth_percent: Some(40), ..endpoint("10.0.0.11:80", "up", true) };
    Status {
        version: "1.2.3".into(),
        generation: 4,
        uptime_ms: 7_500_000,
        ready: true,
        workers: 2,
        connections: 17,
        last_reload_successful: true,
        services: vec![
            Service {
                name: "edge".into(),
                mode: "l7".into(),
                listen: vec![":80".into(), "127.0.0.1:8080".into()],
                pools: vec!["api".into(), "web".into()],
                engine: "http".into(),
                connections: Some(16),
                connections_total: Some(99),
                requests_total: 1_234_567,
                server_errors_total: 3,
                bytes_received_total: 9_000,
                bytes_sent_total: Some(5_000_000_000),
                drops: vec![
                    Drop { reason: "no-route".into(), count: 12 },
                    Drop { reason: "bad-host".into(), count: 1 },
                ],
                ..Service::default()
            },
            Service {
                name: "db".into(),
                mode: "l4".into(),
                engine: "proxy".into(),
                listen: vec![":5432".into()],
                connections: Some(0),
                connections_total: Some(0),
                bytes_sent_total: Some(0),
                ..Service::default()
            },
        ],
        pools: vec![Pool {
            name: "web".into(),
            balance: "p2c".into(),
            probe: Some("http".into()),
            usable: 1,
            backup: true,
            endpoints: vec![up, down, drained],
            ..Pool::default()
        }],
        ..Status::default()
    }
}

#[test]
fn a_status_is_aligned_for_a_persons_eyes() {
    assert_eq!(
        render(&status(), false),
        "\
strata 1.2.3  ready  up 2h 5m, generation 4, 2 workers, 17 connections

SERVICE  MODE  LISTEN               OPEN  CONNECTIONS  REQUESTS  5XX  RECEIVED     SENT  POOLS
edge     l7    :80, 127.0.0.1:8080    16           99      1.2M    3    9000 B  4.6 GiB  api, web
  drops: no-route 12, bad-host 1
db       l4    :5432                   0            0         -    -       0 B      0 B

pool web  1 of 3 usable  p2c, http probe  backups serve
ENDPOINT      STATE          SINCE    WEIGHT  IN FLIGHT  REQUESTS  ERRORS  CAUSE
10.0.0.11:80  up (backup)    5m 3s  1 (40 %)          0     12.3k       0
10.0.0.12:80  down           900ms         1          0     12.3k       7  status 503
10.0.0.9:80   draining (up)  5m 3s        20          0     12.3k       0
"
    );
}

/// Two packet services of a VIP beside the others: one whose answers come by here, and one whose do not.
fn every_layer() -> Status {
    let before = status();
    let service = |name: &str, mode: &str, forward: &str, engine: &str| Service {
        name: name.into(),
        mode: mode.into(),
        forward: Some(forward.into()),
        engine: engine.into(),
        listen: vec!["10.0.0.100:80/tcp".into()],
        pools: vec![name.into()],
        packets_total: Some(12_345),
        slots_marked: Some(0),
        bytes_received_total: 1_000,
        ..Service::default()
    };
    let drop = |reason: &str, count| Drop { reason: reason.into(), count };
    let packets = Packets {
        flow_records: 12,
        flow_records_limit: 524_288,
        nat_flows_limit: 131_072,
        drops: vec![drop("no-service", 4)],
        interfaces: vec![Interface {
            name: "eth0".into(),
            workers: 2,
            frames_received_total: 24_690,
            frames_sent_total: 24_600,
            lost: vec![drop("overrun", 80), drop("no-room", 10)],
        }],
        ..Packets::default()
    };
    let endpoint = Endpoint {
        name: "10.0.0.41".into(),
        intent: "ready".into(),
        health: "up".into(),
        usable: true,
        weight: 1,
        packets_sent_total: Some(30),
        bytes_sent_total: Some(2_000),
        packets_received_total: Some(12),
        bytes_received_total: Some(70_000),
        ..Endpoint::default()
    };
    let direct = Endpoint { packets_received_total: None, bytes_received_total: None, ..endpoint.clone() };
    let pool = |name: &str, endpoint| Pool {
        name: name.into(),
        balance: "maglev".into(),
        usable: 1,
        endpoints: vec![endpoint],
        ..Pool::default()
    };
    let address =
        |address: &str, mac: Option<&str>| VipAddress { address: address.into(), mac: mac.map(str::to_owned) };
    Status {
        services: before
            .services
            .into_iter()
            .chain([
                Service {
                    slots_marked: Some(1024),
                    drops: vec![drop("no-neighbor", 3)],
                    ..service("game", "l2", "mac", "userspace")
                },
                Service { bytes_sent_total: Some(5_000), ..service("mail", "l3", "full-nat", "none") },
            ])
            .collect(),
        vips: vec![
            Vip {
                name: "game".into(),
                interface: "eth0".into(),
                addresses: vec![
                    address("10.0.0.100", Some("00:00:5e:00:01:33")),
                    address("fd00::100", Some("00:00:5e:00:02:33")),
                ],
                owner: true,
                conflicts_total: 0,
            },
            Vip {
                name: "old".into(),
                interface: "eth7".into(),
                addresses: vec![address("10.0.0.9", None)],
                owner: false,
                conflicts_total: 12,
            },
        ],
        packets: Some(packets),
        pools: vec![pool("game", direct), pool("mail", endpoint)],
        ..before
    }
}

#[test]
fn packets_are_shown_beside_connections_with_the_same_words() {
    assert_eq!(
            render(&every_layer(), false),
            "\
strata 1.2.3  ready  up 2h 5m, generation 4, 2 workers, 17 connections

SERVICE  MODE         ENGINE     LISTEN               OPEN  CONNECTIONS  REQUESTS  5XX  PACKETS  RECEIVED     SENT  POOLS
edge     l7           http       :80, 127.0.0.1:8080    16           99      1.2M    3        -    9000 B  4.6 GiB  api, web
  drops: no-route 12, bad-host 1
db       l4           proxy      :5432                   0            0         -    -        -       0 B      0 B
game     l2           userspace  10.0.0.100:80/tcp       -            -         -    -    12.3k    1000 B        -  game
  drops: no-neighbor 3
  slots: 1024 in transition
mail     l3 full-nat  none       10.0.0.100:80/tcp       -            -         -    -    12.3k    1000 B   5000 B  mail

VIP   OWNER  CONFLICTS  ADDRESS     MAC                INTERFACE
game  yes            0  10.0.0.100  00:00:5e:00:01:33  eth0
                        fd00::100   00:00:5e:00:02:33  eth0
old   no            12  10.0.0.9    -                  eth7

packets  12 of 524.2k flow records, 0 of 131.0k translated flows
INTERFACE  WORKERS  FRAMES RECEIVED  FRAMES SENT  LOST
eth0             2            24.6k        24.6k    90
  lost: overrun 80, no-room 10
  drops of no service: no-service 4

pool game  1 of 1 usable  maglev, no probe
ENDPOINT   STATE  SINCE  WEIGHT  PACKETS    SENT  RECEIVED  CAUSE
10.0.0.41  up         -       1       30  2000 B         -

pool mail  1 of 1 usable  maglev, no probe
ENDPOINT   STATE  SINCE  WEIGHT  PACKETS    SENT  RECEIVED  CAUSE
10.0.0.41  up         -       1       42  2000 B  68.3 KiB
"
        );
}

#[test]
fn where_there_are_only_packets_nothing_is_said_of_connections() {
    let mut status = every_layer();
    status.services.drain(..2);
    let text = render(&status, false);
    assert!(!text.contains("CONNECTIONS") && !text.contains("REQUESTS") && text.contains("PACKETS"), "{text}");
}

#[test]
fn colour_changes_no_column() {
    let coloured = render(&status(), true);
    for (word, code) in [("ready", "32"), ("down", "31"), ("draining (up)", "33"), ("1 of 3 usable", "33")] {
        assert!(coloured.contains(&format!("\x1b[{code}m{word}\x1b[0m")), "{word}");
    }
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
    let expected = render(&status(), false);
    assert_eq!(trimmed, expected.lines().collect::<Vec<_>>());
}

#[test]
fn what_is_wrong_is_said_first() {
    let status = Status { ready: false, last_reload_successful: false, ..status() };
    let text = render(&status, false);
    assert!(text.starts_with("strata 1.2.3  not ready"), "{text}");
    assert!(text.lines().nth(1).unwrap().contains("last reload was rejected: generation 4 serves on"), "{text}");
    let draining = Status { draining: true, ready: false, ..status };
    assert!(render(&draining, false).contains("draining  up"));
}

#[test]
fn no_name_or_cause_reaches_the_terminal_as_a_command() {
    let mut status = status();
    status.pools[0].endpoints[0].cause = Some("\x1b[2Jgone\nx".into());
    status.pools[0].name = "a\x1b[31m".into();
    let text = render(&status, false);
    assert!(!text.contains('\x1b'), "{text}");
    assert!(text.contains("\\u{1b}[2Jgone\\nx"), "{text}");
}

#[test]
fn numbers_are_short_and_never_rounded_up() {
    for (n, want) in [(0, "0"), (9_999, "9999"), (10_000, "10.0k"), (999_999, "999.9k"), (1_000_000, "1.0M")] {
        assert_eq!(count(n), want);
    }
    for (n, want) in [(10_239, "10239 B"), (10_240, "10.0 KiB"), (1 << 30, "1.0 GiB"), (u64::MAX, "16777215.9 TiB")] {
        assert_eq!(size(n), want);
    }
    for (ms, want) in [(0, "0ms"), (59_999, "59s"), (60_000, "1m 0s"), (3_600_000, "1h 0m"), (90_000_000, "1d 1h")] {
        assert_eq!(span(ms), want);
    }
}
