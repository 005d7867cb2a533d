//! Two documents and the time between them, to what is on the screen; and keys, to what they do.

use std::time::Duration;

use super::desk::{Action, Desk, Id, Key, Mode, Sort, arrange, ids};
use super::draw::{page, screen};
use super::keys::keys;
use super::rates::{Report, report};
use crate::admin::document::{Bucket, Drop, Durations, Endpoint, Interface, Packets, Pool, Service, Status};
use crate::base::limits;
use crate::health::Intent;

const SECOND: Duration = Duration::from_secs(1);

fn drop(reason: &str, count: u64) -> Drop {
    Drop { reason: reason.into(), count }
}

/// So many that took up to 1 ms, and so many beyond the last bound.
fn durations(fast: u64, slow: u64) -> Option<Durations> {
    let buckets = vec![
        Bucket { from_us: 500, to_us: Some(1000), count: fast },
        Bucket { from_us: 60_000_000, to_us: None, count: slow },
    ];
    Some(Durations { sum_us: 0, buckets: buckets.into_iter().filter(|bucket| bucket.count > 0).collect() })
}

fn endpoint(name: &str, health: &str, requests_total: u64) -> Endpoint {
    Endpoint {
        name: name.into(),
        intent: "ready".into(),
        health: health.into(),
        usable: health == "up",
        weight: 1,
        since_ms: Some(61_000),
        requests_total,
        ..Endpoint::default()
    }
}

/// A site, a database and a packet service, `n` tens of requests after it began.
fn status(n: u64) -> Status {
    let web = Pool {
        name: "web".into(),
        balance: "p2c".into(),
        usable: 2,
        queue: 3,
        retries_total: n,
        connect_duration: durations(n, 0),
        response_duration: durations(9 * n, 0),
        endpoints: vec![
            Endpoint { warmth_percent: Some(40), weight: 20, in_flight: 4, ..endpoint("10.0.0.11:80", "up", 7 * n) },
            Endpoint {
                errors_total: n,
                cause: Some("held down: 4 changes".into()),
                ..endpoint("10.0.0.12:80", "down", 0)
            },
            Endpoint { intent: "draining".into(), cause: Some("operator".into()), ..endpoint("10.0.0.13:80", "up", 0) },
            Endpoint { backup: true, ..endpoint("10.0.0.14:80", "up", 3 * n) },
        ],
        ..Pool::default()
    };
    let game = Pool {
        name: "game".into(),
        balance: "maglev".into(),
        usable: 1,
        panic: true,
        endpoints: vec![Endpoint {
            packets_sent_total: Some(1000 * n),
            bytes_sent_total: Some(64_000 * n),
            ..endpoint("10.0.0.41", "up", 0)
        }],
        ..Pool::default()
    };
    let site = Service {
        name: "site".into(),
        mode: "l7".into(),
        engine: "http".into(),
        pools: vec!["web".into()],
        connections: Some(17),
        connections_total: Some(2 * n),
        requests_total: 10 * n,
        server_errors_total: n / 2,
        bytes_received_total: 500 * n,
        bytes_sent_total: Some(20_000 * n),
        drops: vec![drop("bad-host", 900), drop("no-route", n)],
        request_duration: durations(9 * n, 1 + n / 2),
        ..Service::default()
    };
    let db = Service {
        name: "db".into(),
        mode: "l4".into(),
        engine: "proxy".into(),
        pools: vec!["db".into()],
        connections: Some(1),
        connections_total: Some(1),
        bytes_sent_total: Some(0),
        ..Service::default()
    };
    let packets = Service {
        name: "game".into(),
        mode: "l2".into(),
        forward: Some("mac".into()),
        engine: "userspace".into(),
        pools: vec!["game".into()],
        packets_total: Some(1000 * n),
        slots_marked: Some(12),
        bytes_received_total: 64_000 * n,
        ..Service::default()
    };
    Status {
        version: "1.2.3".into(),
        generation: 4,
        uptime_ms: 7_500_000 + n,
        pid: 7,
        ready: true,
        connections: 18,
        last_reload_successful: true,
        services: vec![site, db, packets],
        pools: vec![web, game],
        packets: Some(Packets {
            flow_records: 12,
            flow_records_limit: 524_288,
            nat_flows_limit: 131_072,
            drops: vec![drop("no-service", 4)],
            interfaces: vec![
                Interface { name: "eth0".into(), lost: vec![drop("overrun", 5 * n)], ..Interface::default() },
                Interface { name: "eth1".into(), lost: vec![drop("overrun", n)], ..Interface::default() },
            ],
            ..Packets::default()
        }),
        ..Status::default()
    }
}

fn between() -> Report {
    report(Some(&status(100)), &status(110), 2 * SECOND)
}

fn desk() -> Desk {
    Desk::new(SECOND, Sort::File, "")
}

/// As it is on the terminal, without what is only at the ends of lines.
fn shown(report: &Report, desk: &Desk, width: usize, height: usize) -> String {
    let arranged = arrange(report, desk.sort, desk.reversed, &desk.filter);
    let lines = screen(&arranged, desk, width, height);
    assert_eq!(lines.len(), height, "every line of the screen is drawn");
    let lines: Vec<String> = lines.iter().map(|line| line.render(width, false, false)).collect();
    for line in &lines {
        assert!(line.chars().count() <= width, "{line:?} has no room in {width} columns");
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn a_wide_terminal_shows_every_column() {
    let mut desk = desk();
    desk.selected = Some(Id::Endpoint("web".into(), "10.0.0.12:80".into()));
    assert_eq!(
        shown(&between(), &desk, 140, 26),
        "\
strata 1.2.3  ready  up 2h 5m, generation 4, 18 connections
every 1s  sort: file

  SERVICE  MODE  REQ/S  CONN/S  PKT/S    P50   P99  5XX/S  DROP/S  OPEN       IN/S     OUT/S  MARKED  POOLS
  site     l7       50      10      -  764µs  60s+    2.5     5.0    17     2500 B  97.6 KiB       -  web
    drops: no-route 5.0/s (110), bad-host (900)
  db       l4        -       0      -      -     -      -       0     1        0 B       0 B       -  db
  game     l2        -       -   5000      -     -      -       0     -  312.5 KiB         -      12  game

  POOL  USABLE  SERVES  REQ/S  CONN/S  PKT/S    P50    P99  ERR/S  RETRY/S  QUEUE  BALANCE
  web      2/4             50       0      -  750µs  995µs    5.0      5.0      3  p2c
  game     1/1  panic       -       -   5000      -      -      -        -      0  maglev

  ENDPOINT      POOL  STATE          SINCE     WEIGHT  REQ/S  CONN/S  PKT/S  ERR/S  IN FLIGHT      OUT/S  CAUSE
  10.0.0.11:80  web   up             1m 1s  20 (40 %)     35       0      -      0          4          -
> 10.0.0.12:80  web   down           1m 1s          1      0       0      -    5.0          0          -  held down: 4 changes
  10.0.0.13:80  web   draining (up)  1m 1s          1      0       0      -      0          0          -  operator
  10.0.0.14:80  web   up (backup)    1m 1s          1     15       0      -      0          0          -
  10.0.0.41     game  up             1m 1s          1      -       -   5000      -          0  312.5 KiB

packets  12 of 524.2k flow records, 0 of 131.0k translated flows
  lost: overrun 30/s (660)
  drops of no service: no-service (4)


q quit  h help  / filter  s sort  p pause  d drain  m maintain  r restore
"
    );
}

#[test]
fn a_narrow_terminal_leaves_out_what_matters_least() {
    let mut desk = desk();
    desk.selected = Some(Id::Endpoint("web".into(), "10.0.0.12:80".into()));
    assert_eq!(
        shown(&between(), &desk, 80, 26),
        "\
strata 1.2.3  ready  up 2h 5m, generation 4, 18 connections
every 1s  sort: file

  SERVICE  MODE  REQ/S  CONN/S  PKT/S    P50   P99  5XX/S  DROP/S  OPEN
  site     l7       50      10      -  764µs  60s+    2.5     5.0    17
    drops: no-route 5.0/s (110), bad-host (900)
  db       l4        -       0      -      -     -      -       0     1
  game     l2        -       -   5000      -     -      -       0     -

  POOL  USABLE  SERVES  REQ/S  CONN/S  PKT/S    P99  ERR/S  RETRY/S  QUEUE
  web      2/4             50       0      -  995µs    5.0      5.0      3
  game     1/1  panic       -       -   5000      -      -        -      0

  ENDPOINT      POOL  STATE          REQ/S  PKT/S  ERR/S  CAUSE
  10.0.0.11:80  web   up                35      -      0
> 10.0.0.12:80  web   down               0      -    5.0  held down: 4 changes
  10.0.0.13:80  web   draining (up)      0      -      0  operator
  10.0.0.14:80  web   up (backup)       15      -      0
  10.0.0.41     game  up                 -   5000      -

packets  12 of 524.2k flow records, 0 of 131.0k translated flows
  lost: overrun 30/s (660)
  drops of no service: no-service (4)


q quit  h help  / filter  s sort  p pause  d drain  m maintain  r restore
"
    );
}

#[test]
fn no_size_of_a_terminal_is_too_small() {
    for width in 0..90 {
        for height in [1, 2, 3, 7] {
            shown(&between(), &desk(), width, height);
        }
    }
}

#[test]
fn what_is_selected_is_on_the_screen() {
    let report = between();
    for id in ids(&report) {
        let desk = Desk { selected: Some(id.clone()), ..desk() };
        assert!(shown(&report, &desk, 80, 8).lines().any(|line| line.starts_with("> ")), "{id:?}");
    }
}

#[test]
fn a_script_gets_all_of_it_and_no_control_characters() {
    let lines: Vec<String> =
        page(&between(), usize::MAX).iter().map(|line| line.render(usize::MAX, false, false)).collect();
    let text = lines.join("\n");
    for word in ["MARKED", "POOLS", "CAUSE", "held down: 4 changes", "no-route 5.0/s (110)", "overrun 30/s (660)"] {
        assert!(text.contains(word), "no {word:?} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn rates_are_differences_over_the_time_between() {
    let report = between();
    let site = &report.services[0];
    assert_eq!((site.flow.requests_per_s, site.flow.connections_per_s), (Some(50.0), Some(10.0)));
    assert_eq!((site.flow.errors_per_s, site.drops_per_s), (Some(2.5), Some(5.0)));
    assert_eq!(site.flow.sent_bytes_per_s, Some(100_000.0));
    assert_eq!(report.services[2].flow.packets_per_s, Some(5000.0));
    assert_eq!(report.pools[0].flow.requests_per_s, Some(50.0), "the sum of its endpoints");
    // 90 of 95 within 500 to 1000 µs; the last five beyond every bound.
    assert_eq!((site.latency.p50_us, site.latency.p99_us), (Some(764), Some(60_000_000)));
}

/// Name, what came before, what is now, the time between; requests a second of the site.
#[test]
fn no_rate_is_negative_or_infinite() {
    let restarted = |n: u64, uptime_ms: u64, pid: u32| Status { uptime_ms, pid, ..status(n) };
    let without = |mut status: Status| {
        status.services.remove(0);
        status
    };
    let cases = [
        ("the first look", None, status(10), SECOND, None),
        ("no time between", Some(status(10)), status(11), Duration::ZERO, None),
        ("nothing happened", Some(status(10)), status(10), SECOND, Some(0.0)),
        ("a counter went back", Some(status(10)), Status { uptime_ms: 9_000_000, ..status(2) }, SECOND, Some(20.0)),
        ("another process, sooner", Some(status(10)), restarted(2, 500, 8), SECOND, Some(40.0)),
        ("another process that has counted more", Some(status(1)), restarted(2, 60_000, 8), SECOND, Some(20.0)),
        ("another process of the same number", Some(status(1)), restarted(2, 500, 7), SECOND, Some(40.0)),
        ("a service that is new", Some(without(status(10))), status(3), SECOND, Some(30.0)),
    ];
    for (name, before, now, elapsed, want) in cases {
        let report = report(before.as_ref(), &now, elapsed);
        assert_eq!(report.services[0].flow.requests_per_s, want, "{name}");
        let json = serde_json::to_string(&report).unwrap();
        assert!(!json.contains(":-"), "{name}: {json}");
        assert_eq!(report.interval_ms.is_some(), want.is_some(), "{name}");
    }
}

#[test]
fn what_has_gone_is_gone_and_its_latencies_with_it() {
    let mut now = status(110);
    now.services.remove(0);
    now.pools.remove(0);
    let report = report(Some(&status(100)), &now, SECOND);
    assert_eq!(ids(&report).len(), 4, "{report:?}");
    let silent = super::rates::report(Some(&status(100)), &status(100), SECOND);
    assert_eq!(silent.services[0].latency.p99_us, None, "nothing ended, so nothing is known");
}

#[test]
fn columns_sort_and_what_is_equal_stays_as_in_the_file() {
    let names = |sort, reversed| {
        let report = arrange(&between(), sort, reversed, "");
        let services: Vec<String> = report.services.into_iter().map(|row| row.name).collect();
        let endpoints: Vec<String> = report
            .endpoints
            .into_iter()
            .map(|row| row.name.rsplit('.').next().unwrap_or_default().to_owned())
            .collect();
        (services.join(" "), endpoints.join(" "))
    };
    for (sort, reversed, services, endpoints) in [
        (Sort::File, false, "site db game", "11:80 12:80 13:80 14:80 41"),
        (Sort::File, true, "game db site", "41 14:80 13:80 12:80 11:80"),
        (Sort::Name, false, "db game site", "11:80 12:80 13:80 14:80 41"),
        (Sort::Requests, false, "site db game", "11:80 14:80 12:80 13:80 41"),
        (Sort::Packets, false, "game site db", "41 11:80 12:80 13:80 14:80"),
        (Sort::Bytes, false, "game site db", "41 11:80 12:80 13:80 14:80"),
        (Sort::Errors, false, "site db game", "12:80 11:80 13:80 14:80 41"),
        (Sort::Latency, true, "db game site", "11:80 12:80 13:80 14:80 41"),
        (Sort::State, false, "site db game", "12:80 13:80 11:80 14:80 41"),
    ] {
        assert_eq!(names(sort, reversed), (services.to_owned(), endpoints.to_owned()), "{sort:?} {reversed}");
    }
}

#[test]
fn a_filter_looks_at_names_pools_states_and_causes() {
    for (filter, want) in [("", 10), ("WEB", 6), ("10.0.0.12", 1), ("draining", 1), ("held", 1), ("nothing-like-it", 0)]
    {
        assert_eq!(ids(&arrange(&between(), Sort::File, false, filter)).len(), want, "{filter}");
    }
}

#[test]
fn no_name_or_cause_reaches_the_terminal_as_a_command() {
    let mut now = status(110);
    let evil = format!("\x1b]0;x\x07\x1b[2J\u{202e}\u{9b}{}", "long".repeat(1000));
    now.services[0].name.clone_from(&evil);
    now.services[0].pools = vec![evil.clone()];
    now.services[0].drops[0].reason.clone_from(&evil);
    now.pools[0].name.clone_from(&evil);
    now.pools[0].endpoints[0].name.clone_from(&evil);
    now.pools[0].endpoints[1].cause = Some(evil.clone());
    let report = report(None, &now, SECOND);
    let mut desk = desk();
    desk.mode = Mode::Ask { pool: evil.clone(), endpoint: evil.clone(), intent: Intent::Draining };
    let text = shown(&report, &desk, 500, 40);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
    for row in &report.endpoints {
        assert!(row.name.len() <= limits::TOP_TEXT_CHARS && row.cause.len() <= limits::TOP_TEXT_CHARS, "{row:?}");
    }
    assert_eq!(report.endpoints[0].target, (evil.clone(), evil), "what is changed is named as the API names it");
}

#[test]
fn bytes_of_a_terminal_are_keys() {
    let cases: [(&[u8], &[Key]); 7] = [
        (b"q", &[Key::Char('q')]),
        (b"\x1b[A\x1b[B\x1bOA", &[Key::Up, Key::Down, Key::Up]),
        (
            b"\x1b[5~\x1b[6~\x1b[H\x1b[F\x1b[1~\x1b[4~",
            &[Key::PageUp, Key::PageDown, Key::Home, Key::End, Key::Home, Key::End],
        ),
        (b"\x1b", &[Key::Escape]),
        (b"\x03\x1a\r\x7f", &[Key::Interrupt, Key::Suspend, Key::Enter, Key::Backspace]),
        // A key with a modifier is the key; what is unknown, or no ASCII, is passed over whole.
        (b"\x1b[1;5A\x1b[200~x", &[Key::Up, Key::Char('x')]),
        (b"\x00\xff\x1b[", &[]),
    ];
    for (bytes, want) in cases {
        assert_eq!(keys(bytes), want, "{bytes:?}");
    }
}

#[test]
fn an_endpoint_is_changed_only_after_a_yes() {
    let rows = ids(&between());
    let mut desk = desk();
    assert_eq!(desk.press(Key::Char('d'), &rows, 5), Action::Redraw);
    assert!(matches!(desk.message, Some(Err(_))), "nothing is selected");
    assert_eq!(desk.press(Key::Down, &rows, 5), Action::Redraw);
    assert_eq!(desk.press(Key::Char('m'), &rows, 5), Action::Redraw, "a service is nothing to maintain");
    desk.press(Key::End, &rows, 5);
    for (key, intent) in [('d', Intent::Draining), ('m', Intent::Maintenance), ('r', Intent::Ready)] {
        for no in [Key::Char('n'), Key::Enter, Key::Escape, Key::Char(key), Key::Char('q')] {
            assert_eq!(desk.press(Key::Char(key), &rows, 5), Action::Question);
            assert_eq!(desk.press(no, &rows, 5), Action::Redraw, "{no:?} is no yes");
            assert_eq!(desk.mode, Mode::Browse);
        }
        desk.press(Key::Char(key), &rows, 5);
        let change = Action::Change("game".into(), "10.0.0.41".into(), intent);
        assert_eq!(desk.press(Key::Char('y'), &rows, 5), change);
    }
}

#[test]
fn a_question_is_about_what_it_named_whatever_moves_meanwhile() {
    let report = between();
    let mut desk = desk();
    desk.press(Key::End, &ids(&report), 5);
    desk.press(Key::Char('d'), &ids(&report), 5);
    let mut gone = report.clone();
    gone.endpoints.pop();
    desk.settle(&ids(&gone));
    assert_eq!(desk.selected, Some(Id::Endpoint("web".into(), "10.0.0.14:80".into())), "the row at its place");
    let change = Action::Change("game".into(), "10.0.0.41".into(), Intent::Draining);
    assert_eq!(desk.press(Key::Char('y'), &ids(&gone), 5), change);
}

#[test]
fn a_selection_stays_with_its_row_when_the_order_changes() {
    let report = between();
    let mut desk = desk();
    desk.press(Key::Down, &ids(&report), 5);
    let reversed = arrange(&report, Sort::File, true, "");
    desk.settle(&ids(&reversed));
    assert_eq!(desk.selected, Some(Id::Service("site".into())));
    desk.press(Key::Down, &ids(&reversed), 5);
    assert_eq!(desk.selected, Some(Id::Pool("game".into())), "the one below it now");
}

#[test]
fn keys_do_what_the_help_says() {
    let rows = ids(&between());
    let mut desk = desk();
    let press = |desk: &mut Desk, text: &str| text.chars().map(|c| desk.press(Key::Char(c), &rows, 5)).last();
    press(&mut desk, "/we");
    desk.press(Key::Char('b'), &rows, 5);
    desk.press(Key::Char('q'), &rows, 5);
    desk.press(Key::Backspace, &rows, 5);
    assert_eq!((desk.filter.as_str(), &desk.mode), ("web", &Mode::Filter), "letters are text there");
    desk.press(Key::Enter, &rows, 5);
    assert_eq!((desk.filter.as_str(), &desk.mode), ("web", &Mode::Browse));
    desk.press(Key::Escape, &rows, 5);
    assert_eq!(desk.filter, "", "the first Esc shows all");
    assert_eq!(desk.press(Key::Escape, &rows, 5), Action::Quit, "the second quits");
    press(&mut desk, "ssSop");
    assert_eq!((desk.sort, desk.reversed, desk.paused), (Sort::Name, true, true));
    assert_eq!(press(&mut desk, "+"), Some(Action::Interval));
    assert_eq!(desk.interval, 2 * SECOND);
    press(&mut desk, &"-".repeat(30));
    assert_eq!(desk.interval, limits::TOP_INTERVAL_LEAST);
    press(&mut desk, &"+".repeat(30));
    assert_eq!(desk.interval, limits::TOP_INTERVAL_MOST);
    press(&mut desk, "h");
    assert!(shown(&between(), &desk, 80, 24).contains("drain the selected endpoint"));
    assert_eq!(press(&mut desk, "d"), Some(Action::Redraw), "any key closes the help, and does nothing else");
    desk.mode = Mode::Filter;
    press(&mut desk, &"x".repeat(1000));
    assert_eq!(desk.filter.len(), limits::TOP_TEXT_CHARS);
    assert_eq!(desk.press(Key::Suspend, &rows, 5), Action::Suspend, "^Z suspends wherever it is pressed");
    assert_eq!(desk.press(Key::Interrupt, &rows, 5), Action::Quit, "^C quits wherever it is pressed");
}

#[test]
fn colour_and_the_mark_of_a_selection_change_no_text() {
    let desk = Desk { selected: Some(Id::Service("site".into())), ..desk() };
    for line in screen(&between(), &desk, 100, 26) {
        let (plain, coloured) = (line.render(100, false, false), line.render(100, true, true));
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            stripped.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        stripped.push_str(rest);
        assert_eq!(stripped, plain);
    }
}
