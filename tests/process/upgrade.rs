//! Upgrades of the real binary under load: a successor takes over without losing anybody, or the one before serves on.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::binary::{Binary, LATE};
use super::cli::{ask, strata as run};
use super::common::{Origin, Strata, Successor, Wire, await_that, free_address};
use super::signals::in_flight;
use super::{GET, Gated, edge, load};

/// The process that serves now.
#[track_caller]
pub fn serving(strata: &Strata) -> Successor {
    Successor(pid(strata))
}

#[track_caller]
fn pid(strata: &Strata) -> u32 {
    let mut pid = None;
    // The one that leaves may cut its answer.
    await_that("somebody says its status", || {
        let said = ask(strata, &["status", "--json"]);
        let status: Option<serde_json::Value> = serde_json::from_str(&said.out).ok();
        pid = status.and_then(|status| u32::try_from(status["pid"].as_u64()?).ok());
        pid.is_some()
    });
    pid.unwrap()
}

/// Serves 200 KB as well, so that there is something to truncate.
fn endpoint() -> Origin {
    let large = [b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n".to_vec(), vec![b'x'; 200_000]].concat();
    Origin::serve(move |request| match request.head.windows(4).any(|word| word == b"/big") {
        true => large.clone(),
        false => b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nweb".to_vec(),
    })
}

/// An L7 and an L4 service.
fn two_layers(endpoint: &Origin, l4: std::net::SocketAddr) -> String {
    let probe = "[pool.web]\nprobe = { type = \"tcp\", interval = \"1s\" }";
    let edge = edge(&[endpoint.address.to_string()]).replace("[pool.web]", probe);
    format!("{edge}\n[service.raw]\nmode = \"l4\"\nlisten = \"{l4}\"\npool = \"web\"\n")
}

fn clients(strata: &Strata, l4: std::net::SocketAddr) -> load::Load {
    let ms = Duration::from_millis;
    let mut load = load::Load::start();
    load.clients(load::Kind::Fresh, 6, strata.edge, "/", ms(10))
        .clients(load::Kind::Fresh, 2, strata.edge, "/big", ms(25))
        .clients(load::Kind::Reopened, 6, strata.edge, "/", ms(20))
        .clients(load::Kind::Reopened, 2, strata.edge, "/big", ms(40))
        .clients(load::Kind::Post, 4, strata.edge, "/", ms(20))
        .clients(load::Kind::Fresh, 4, l4, "/", ms(20));
    load.await_more(100);
    load
}

/// Issue: 5 binary upgrades under load, 0 refused, 0 truncated.
#[test]
fn five_upgrades_under_load_refuse_nobody_and_truncate_nothing() {
    let (endpoint, l4) = (endpoint(), free_address());
    let mut strata = Strata::start(&two_layers(&endpoint, l4));
    let load = clients(&strata, l4);
    let mut started: Vec<Successor> = Vec::new();
    for n in 0..5 {
        let before = pid(&strata);
        let mut now = before;
        if n == 4 {
            // The signal does the same.
            started[n - 1].signal("USR2");
            await_that("another process serves", || {
                now = pid(&strata);
                now != before
            });
        } else {
            let said = ask(&strata, &["upgrade"]);
            assert_eq!(said.code, 0, "upgrade {n}: {said:?}\n{}", strata.log_tail());
            now = pid(&strata);
            assert!(said.out.contains(&format!("process {now} serves")), "{said:?}");
        }
        started.push(Successor(now));
        assert_ne!(now, before, "upgrade {n}");
        load.await_more(150);
    }
    await_that("the first one has ended", || !strata.is_running());
    for earlier in &started[..4] {
        await_that("those in between have ended", || earlier.is_gone());
    }
    let seen = load.stop();
    println!("5 upgrades in {:?} at {:.0} exchanges/s: {:?}", seen.took, seen.rate(), seen.all());
    seen.assert_nothing_lost();
    assert!(seen.of(load::Kind::Reopened).ended > 0, "kept-alive connections ended between exchanges");
    assert_eq!(strata.scrape().all_drops(), 0.0);
}

#[test]
fn j4_a_successor_that_does_not_start_leaves_the_one_before_serving() {
    let (endpoint, l4) = (endpoint(), free_address());
    let folder = std::env::temp_dir().join(format!("strata-upgrade-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let binary = folder.join("strata");
    Binary::Real.put(&binary);
    let text = two_layers(&endpoint, l4);
    let hasty = format!("[process]\nupgrade_timeout = \"1s\"\n{text}");
    let called = binary.clone();
    let strata = Strata::start_as(&text, move |command| {
        command.env("BINARY", &called);
    });
    let first = pid(&strata);
    assert_eq!(first, strata.pid());
    let load = clients(&strata, l4);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let more = format!("{text}\n[service.more]\nmode = \"l7\"\nlisten = \"{taken}\"\npool = \"web\"\n");
    let script = |text: &str| Binary::Script(format!("#!/bin/sh\n{text}\n"));
    let cases = [
        ("one that ends at once", script("exit 3"), &text, "exit status: 3"),
        ("one that hangs", script("exec sleep 600"), &hasty, "not ready within 1s"),
        ("one that is no program", Binary::Script("garbage".to_owned()), &text, "cannot be started"),
        ("none", Binary::None, &text, "cannot be started"),
        ("one that says nonsense", script("exec cat /dev/null"), &text, "before it was ready"),
        ("a file with mistakes", Binary::Real, &"nonsense = 1".to_owned(), "has mistakes"),
        ("an address that is taken", Binary::Real, &more, &*taken),
    ];
    for (name, file, configuration, why) in cases {
        file.put(&binary);
        strata.rewrite(configuration);
        if *configuration == hasty {
            assert_eq!(ask(&strata, &["reload"]).code, 0, "how long it waits is for the one that serves to say");
        }
        let said = ask(&strata, &["upgrade"]);
        assert_eq!(said.code, 1, "{name}: {said:?}");
        assert!(said.err.contains(why) && said.err.contains("serves on"), "{name}: no {why:?} in {said:?}");
        assert_eq!(pid(&strata), first, "{name}");
        if *configuration == hasty {
            strata.rewrite(&text);
            assert_eq!(ask(&strata, &["reload"]).code, 0);
        }
        load.await_more(60);
    }
    await_that("the log says it", || strata.log().contains("no upgrade, this process serves on"));
    Binary::Real.put(&binary);
    strata.rewrite(&text);
    let said = ask(&strata, &["upgrade"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", strata.log_tail());
    let successor = serving(&strata);
    assert_ne!(successor.0, first);
    load.await_more(60);
    load.stop().assert_nothing_lost();
    drop((successor, strata));
    let _ = fs::remove_dir_all(folder);
}

/// Between `prepared` and `serving` the one before has given up its packets, and its listeners not yet.
#[test]
fn j4_a_successor_that_fails_when_it_is_to_take_over_leaves_the_one_before_serving() {
    let (endpoint, l4) = (endpoint(), free_address());
    let folder = std::env::temp_dir().join(format!("strata-upgrade-late-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let binary = folder.join("strata");
    Binary::Real.put(&binary);
    let called = binary.clone();
    let text = format!("[process]\nupgrade_timeout = \"5s\"\n{}", two_layers(&endpoint, l4));
    let strata = Strata::start_as(&text, move |command| {
        command.env("BINARY", &called);
    });
    let first = pid(&strata);
    let load = clients(&strata, l4);
    for (name, then, why) in LATE {
        Binary::late(then).put(&binary);
        let said = ask(&strata, &["upgrade"]);
        assert_eq!(said.code, 1, "{name}: {said:?}");
        assert!(said.err.contains(why) && said.err.contains("serves on"), "{name}: no {why:?} in {said:?}");
        assert_eq!(pid(&strata), first, "{name}");
        load.await_more(60);
    }
    // And one that does not fail is not kept out by those before it.
    Binary::Real.put(&binary);
    let said = ask(&strata, &["upgrade"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", strata.log_tail());
    let successor = serving(&strata);
    load.await_more(60);
    load.stop().assert_nothing_lost();
    drop((successor, strata));
    let _ = fs::remove_dir_all(folder);
}

#[test]
fn a_successor_with_other_workers_loses_no_queue_and_knows_what_an_operator_has_set() {
    let (one, two) = (Gated::new("one"), Gated::new("two"));
    let text = edge(&[one.address(), two.address()]).replace("round-robin", "weighted-round-robin");
    let strata = Strata::start(&text);
    assert_eq!(ask(&strata, &["drain", "web", &one.address()]).code, 0);
    assert_eq!(ask(&strata, &["weight", "web", &two.address(), "7"]).code, 0);
    let mut clients = load::Load::start();
    clients.clients(load::Kind::Fresh, 8, strata.edge, "/", Duration::from_millis(5)).await_more(50);
    let mut started = Vec::new();
    let file = strata.folder().join("strata.toml");
    for workers in [1, 3, 2] {
        let now = fs::read_to_string(&file).unwrap();
        let line = now.lines().find(|line| line.starts_with("workers")).unwrap().to_owned();
        fs::write(&file, now.replace(&line, &format!("workers = {workers}"))).unwrap();
        let said = ask(&strata, &["upgrade"]);
        assert_eq!(said.code, 0, "{workers}: {said:?}\n{}", strata.log_tail());
        started.push(serving(&strata));
        assert_eq!(strata.scrape().sum("strata_workers", &[]), f64::from(workers));
        clients.await_more(100);
        assert_eq!(strata.ask(GET).text(), "two", "what was drained is");
        let weight = strata.scrape().sum("strata_endpoint_weight", &[("endpoint", &two.address())]);
        assert_eq!(weight, 7.0, "{workers} workers");
    }
    clients.stop().assert_nothing_lost();
}

#[test]
fn the_admin_socket_and_its_file_go_to_the_successor() {
    let gated = Gated::new("web");
    let socket = std::env::temp_dir().join(format!("strata-upgrade-{}.sock", std::process::id()));
    let mut strata = Strata::start(&edge(&[gated.address()]));
    let file = strata.folder().join("strata.toml");
    let text = fs::read_to_string(&file).unwrap();
    let tcp = format!("listen = \"{}\"", strata.admin);
    fs::write(&file, text.replace(&tcp, &format!("listen = \"unix:{}\"", socket.display()))).unwrap();
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    let admin = format!("unix:{}", socket.display());
    let said = run(&["upgrade", "--admin", &admin]);
    assert_eq!(said.code, 0, "{said:?}\n{}", strata.log_tail());
    await_that("the first one has ended", || !strata.is_running());
    let said = run(&["status", "--json", "--admin", &admin]);
    let status: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"));
    let successor = Successor(u32::try_from(status["pid"].as_u64().unwrap()).unwrap());
    assert_eq!(strata.ask(GET).status(), 200);
    successor.signal("TERM");
    await_that("it ends", || successor.is_gone());
    assert!(!socket.exists(), "the last one takes the file away");
}

/// A service whose binary is `script` from the next upgrade on, and the folder that it stands in.
fn with_script(gated: &Gated, name: &str, script: &str) -> (Strata, PathBuf) {
    let folder = std::env::temp_dir().join(format!("strata-upgrade-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let binary = folder.join("strata");
    Binary::Real.put(&binary);
    let called = binary.clone();
    let strata = Strata::start_as(&edge(&[gated.address()]), move |command| {
        command.env("BINARY", &called);
    });
    Binary::Script(format!("#!/bin/sh\n{script}\n")).put(&binary);
    (strata, folder)
}

#[test]
fn a_stop_during_an_upgrade_ends_the_successor_and_then_the_process() {
    let gated = Gated::new("web");
    let (strata, folder) =
        with_script(&gated, "stop", "echo $$ > \"$0.new\"; mv \"$0.new\" \"$0.pid\"; exec sleep 600");
    let mut wire = in_flight(&strata, &gated);
    strata.signal("USR2");
    let mut successor = String::new();
    await_that("the successor runs", || {
        successor = fs::read_to_string(folder.join("strata.pid")).unwrap_or_default();
        !successor.is_empty()
    });
    strata.signal("TERM");
    await_that("it drains", || strata.log().contains("draining"));
    let proc = format!("/proc/{}", successor.trim());
    assert!(!Path::new(&proc).exists(), "the successor is killed first");
    gated.open();
    assert_eq!(wire.response().unwrap().text(), "web", "what was open finishes");
    assert_eq!(strata.await_exit().code(), Some(0));
    let _ = fs::remove_dir_all(folder);
}

#[test]
fn the_first_stop_after_an_upgrade_cuts_nothing_and_the_second_does() {
    for second in [false, true] {
        let gated = Gated::new("web");
        let strata = Strata::start(&edge(&[gated.address()]));
        let mut wire = in_flight(&strata, &gated);
        let said = ask(&strata, &["upgrade"]);
        assert_eq!(said.code, 0, "{said:?}\n{}", strata.log_tail());
        let _successor = serving(&strata);
        strata.signal("TERM");
        await_that("the first is noted", || strata.log().contains("the same signal again cuts"));
        if second {
            strata.signal("TERM");
            assert!(wire.response().is_err());
        } else {
            gated.open();
            assert_eq!(wire.response().unwrap().text(), "web");
        }
        assert_eq!(strata.await_exit().code(), Some(0));
    }
}

#[test]
fn a_reload_during_an_upgrade_is_the_successors() {
    let gated = Gated::new("web");
    let real = env!("CARGO_BIN_EXE_strata");
    let script = format!("until test -e \"$0.go\"; do sleep 0.05; done; exec '{real}' \"$@\"");
    let (strata, folder) = with_script(&gated, "reload", &script);
    let first = pid(&strata);
    strata.signal("USR2");
    await_that("the upgrade has begun", || strata.log().contains("a new process is started"));
    strata.signal("HUP");
    await_that("the reload waits", || strata.log().contains("a reload waits"));
    fs::write(folder.join("strata.go"), "").unwrap();
    await_that("the successor reloads", || strata.log().contains("configuration reloaded"));
    let successor = serving(&strata);
    assert_ne!(successor.0, first);
    let _ = fs::remove_dir_all(folder);
}

#[test]
fn what_is_told_during_an_upgrade_is_refused_where_nobody_would_keep_it() {
    let gated = Gated::new("web");
    let real = env!("CARGO_BIN_EXE_strata");
    let script = format!("until test -e \"$0.go\"; do sleep 0.05; done; exec '{real}' \"$@\"");
    let (strata, folder) = with_script(&gated, "told", &script);
    strata.rewrite(&edge(&[gated.address()]).replace("round-robin", "weighted-round-robin"));
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    strata.signal("USR2");
    await_that("the upgrade has begun", || strata.log().contains("a new process is started"));
    let endpoint = gated.address();
    let wants = [("drain", ""), ("weight", "{\"weight\":7}")];
    // Connections that are the first process's, whoever accepts meanwhile.
    let mut askers = wants.map(|_| Wire::connect(strata.admin));
    let mut look = |asker: &mut Wire| {
        asker.send("GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(asker.response().expect("an answer").status(), 200);
    };
    askers.iter_mut().for_each(&mut look);
    let mut other = Wire::connect(strata.admin);
    for ((act, body), asker) in wants.iter().zip(&mut askers) {
        asker.send(format!(
            "POST /api/pools/web/endpoints/{endpoint}/{act} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        // Whoever has answered this has read that.
        look(&mut other);
    }
    fs::write(folder.join("strata.go"), "").unwrap();
    for ((act, _), asker) in wants.iter().zip(&mut askers) {
        let answer = asker.response().expect("an answer");
        assert_eq!(answer.status(), 409, "{act}: {}", answer.text());
        assert!(answer.text().contains("this process is ending"), "{act}: {}", answer.text());
    }
    let commands = [vec!["drain", "web", &endpoint], vec!["weight", "web", &endpoint, "7"]];
    let _successor = serving(&strata);
    for command in &commands {
        let said = ask(&strata, command);
        assert_eq!(said.code, 0, "{command:?}: {said:?}");
    }
    let _ = fs::remove_dir_all(folder);
}
