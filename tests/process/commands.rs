//! Every command's output and exit code.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use super::cli::{ask, await_usable, strata, strata_with};
use super::common::metrics::{Metrics, get};
use super::common::{Origin, Strata, await_that, holds_within};
use super::{GET, Gated, edge};

fn file(name: &str, text: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("strata-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn check_and_run_say_what_is_wrong_and_exit_with_the_right_code() {
    let good = file(
        "good",
        "[service.a]\nmode = \"l7\"\nlisten = \"127.0.0.1:8080\"\npool = \"p\"\n[pool.p]\nendpoints = [\"127.0.0.1:1\"]\n",
    );
    let bad = file(
        "bad",
        "[service.a]\nmode = \"l7\"\nlistne = \":80\"\npool = \"q\"\n[pool.p]\nendpoints = [\"127.0.0.1:1\"]\n",
    );
    let (good_name, bad_name) = (good.to_str().unwrap(), bad.to_str().unwrap());

    let said = strata(&["check", good_name]);
    assert_eq!(said.code, 0, "{said:?}");
    let said = strata(&["check", bad_name]);
    assert_eq!(said.code, 1, "{said:?}");
    for word in ["listne", "listen", "error[E", bad_name, "\"q\""] {
        assert!(said.out.contains(word), "no {word:?} in\n{}", said.out);
    }
    let said = strata(&["check", good_name, bad_name, "--json"]);
    let documents: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &documents[0]["valid"], &documents[1]["valid"]), (1, &true.into(), &false.into()));
    assert_eq!(strata(&["check", "/nowhere/strata.toml"]).code, 2);
    assert_eq!(strata(&["check"]).code, 2);
    assert_eq!(strata(&["chekc"]).code, 2);

    let said = strata(&["run", bad_name]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("listne") && said.err.contains("error[E"), "{said:?}");
    let said = strata(&["run", "/nowhere/strata.toml"]);
    assert!(said.code == 1 && said.err.contains("/nowhere/strata.toml"), "{said:?}");
    let _ = (std::fs::remove_file(good), std::fs::remove_file(bad));
}

#[test]
fn a_right_file_whose_interface_is_not_here_is_checked_and_not_run() {
    let said = strata(&["check", "conf/all-layers.toml"]);
    assert_eq!(said.code, 0, "{said:?}");
    let elsewhere = std::fs::read_to_string("conf/l2.toml").unwrap().replace("\"eth0\"", "\"nowhere0\"");
    let file = file("elsewhere", &elsewhere);
    let said = strata(&["run", &file.display().to_string()]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("vip game: interface nowhere0: No such device"), "{said:?}");

    let endpoint = Gated::new("one");
    let running = Strata::start(&edge(&[endpoint.address()]));
    let packets = "[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"nowhere0\"\n[service.p]\nmode = \"l2\"\nvip = \"v\"\n\
                   pool = \"p\"\n[pool.p]\nendpoints = \"10.0.0.41\"\n";
    running.rewrite(&(edge(&[endpoint.address()]) + packets));
    let said = ask(&running, &["reload"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!((said.out + &said.err).contains("vip v: interface nowhere0: No such device"));
    assert_eq!(running.ask(GET).status(), 200);
}

#[test]
fn a_port_in_use_ends_a_start_with_its_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = super::common::free_address();
    let pool = "[pool.p]\nendpoints = [\"127.0.0.1:1\"]\n";
    let service = |listen: &str| format!("[service.a]\nmode = \"l7\"\nlisten = \"{listen}\"\npool = \"p\"\n{pool}");
    for (name, text) in [
        ("service", service(&address)),
        ("metrics", format!("[metrics]\nlisten = \"{address}\"\n{}", service(&free.to_string()))),
        ("admin", format!("[admin]\nlisten = \"{address}\"\n{}", service(&free.to_string()))),
    ] {
        let path = file(name, &text);
        let said = strata(&["run", path.to_str().unwrap()]);
        assert_eq!(said.code, 1, "{name}: {said:?}");
        assert!(said.err.contains(&address), "{name}: {said:?}");
        let _ = std::fs::remove_file(path);
    }
}

#[test]
fn status_is_a_table_for_people_and_a_document_for_programs() {
    let (one, two) = (Gated::new("one"), Gated::new("two"));
    let running = Strata::start(&edge(&[one.address(), two.address()]));
    assert_eq!(running.ask(GET).status(), 200);
    let said = ask(&running, &["status"]);
    assert_eq!(said.code, 0, "{said:?}");
    for word in ["edge", "l7", "web", "round-robin", &running.edge.to_string(), &one.address(), &two.address(), "ready"]
    {
        assert!(said.out.contains(word), "no {word:?} in\n{}", said.out);
    }
    assert!(!said.out.contains('\u{1b}'), "colour for a pipe");
    let said = ask(&running, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &status["ready"], &status["generation"]), (0, &true.into(), &1.into()));
    assert_eq!(status["services"][0]["requests_total"], 1);
    assert_eq!(status["pools"][0]["endpoints"].as_array().map(Vec::len), Some(2));
}

#[test]
fn an_operators_wishes_reach_the_endpoint_and_unknown_ones_are_refused() {
    let (one, two) = (Gated::new("one"), Gated::new("two"));
    let running = Strata::start(&edge(&[one.address(), two.address()]).replace("round-robin", "weighted-round-robin"));
    let target = one.address();
    let of = |metric: &str, more: &[(&str, &str)]| {
        running.scrape().sum(metric, &[&[("pool", "web"), ("endpoint", target.as_str())], more].concat())
    };
    for (command, word) in [("drain", "draining"), ("maintain", "maintenance"), ("restore", "ready")] {
        let said = ask(&running, &[command, "web", &target]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.out.contains(word), "{said:?}");
        assert_eq!(of("strata_endpoint_state", &[("intent", word)]), 1.0, "{command}");
        assert_eq!(of("strata_endpoint_up", &[]), f64::from(u8::from(command == "restore")), "{command}");
    }
    let said = ask(&running, &["weight", "web", &target, "7"]);
    assert_eq!((said.code, of("strata_endpoint_weight", &[])), (0, 7.0), "{said:?}");
    for wrong in [
        &["drain", "wbe", target.as_str()][..],
        &["drain", "web", "127.0.0.1:9"],
        &["weight", "web", target.as_str(), "0"],
        &["weight", "web", target.as_str(), "1001"],
    ] {
        let said = ask(&running, wrong);
        assert!(said.code != 0 && !said.err.is_empty(), "{wrong:?}: {said:?}");
    }
    assert_eq!(of("strata_endpoint_weight", &[]), 7.0);

    assert_eq!(ask(&running, &["healthcheck"]).code, 0);
    let nobody = super::common::free_address().to_string();
    for command in ["healthcheck", "status", "reload"] {
        let said = strata(&[command, "--admin", &nobody]);
        assert!(said.code == 1 && said.err.contains(&nobody), "{command}: {said:?}");
        // Of a container that stays unhealthy, this line is all that its engine shows: what is likely comes first.
        let words = ["is it running?", "[admin]", "STRATA_ADMIN"].map(|word| said.err.find(word));
        assert_eq!(words.is_sorted() && words[0].is_some(), command == "healthcheck", "{said:?}");
    }
}

#[test]
fn a_try_that_waits_for_somebody_does_not_ask_flat_out() {
    let origin = Origin::always("HTTP/1.1 200 OK\r\nX-Endpoint: one\r\nContent-Length: 0\r\n\r\n");
    let said = strata(&["try", "--wait", "1s", &format!("http://{}/=>one,two", origin.address)]);
    assert!(said.code == 1 && said.out.contains("two never answered"), "{said:?}");
    // A second of 20 ms each.
    assert!((2..=51).contains(&origin.connections()), "{}", origin.connections());
    let said = strata(&["try", "http://127.0.0.1:99999/=>one"]);
    assert!(said.code == 2 && said.err.contains("99999") && said.err.contains("65535"), "{said:?}");
}

#[test]
fn i12_a_drained_endpoint_gets_nothing_new_and_finishes_what_it_has() {
    let (one, two) = (Gated::new("one"), Gated::new("two"));
    let running = Strata::start(&edge(&[one.address(), two.address()]));
    let mut wires: Vec<_> = (0..2).map(|_| running.connect()).collect();
    for wire in &mut wires {
        wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let in_flight =
        |endpoint: &str| running.scrape().sum("strata_endpoint_in_flight", &[("pool", "web"), ("endpoint", endpoint)]);
    await_that("each endpoint carries a request", || {
        in_flight(&one.address()) == 1.0 && in_flight(&two.address()) == 1.0
    });
    let mut kept = running.connect();
    assert_eq!(ask(&running, &["drain", "web", &one.address()]).code, 0);
    for n in 0..20 {
        kept.send(GET);
        assert_eq!(kept.response().unwrap().text(), "two", "request {n}");
        assert_eq!(running.ask(GET).text(), "two", "connection {n}");
    }
    assert_eq!(in_flight(&one.address()), 1.0);
    [&one, &two].iter().for_each(|gated| gated.open());
    let mut names: Vec<String> = wires.iter_mut().map(|wire| wire.response().unwrap().text()).collect();
    names.sort();
    assert_eq!(names, ["one", "two"], "what was open finished where it was");

    assert_eq!(ask(&running, &["restore", "web", &one.address()]).code, 0);
    await_usable(&running, "web", 2.0);
    await_that("it gets work again", || running.ask(GET).text() == "one");
}

#[test]
fn the_demo_introduces_itself_does_what_it_says_and_stops() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_strata"))
        .arg("demo")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut curls: Vec<(SocketAddr, String)> = Vec::new();
    let mut status = None;
    for line in lines.by_ref().map_while(Result::ok) {
        let line = line.trim();
        if line.starts_with("curl ") {
            let url = line.split_whitespace().find_map(|word| word.strip_prefix("http://")).expect("a URL");
            let (address, path) = url.split_once('/').expect("a path");
            curls.push((address.parse().unwrap(), format!("/{path}")));
        }
        if let Some((_, admin)) = line.split_once("status --admin ") {
            status = Some(admin.to_owned());
        }
        if line.starts_with("strata drain") {
            break;
        }
    }
    assert_eq!(curls.len(), 3, "{curls:?}");
    let [balanced, first, metrics] = &curls[..] else { unreachable!() };
    let mut names = std::collections::BTreeSet::new();
    let three = holds_within(super::common::PATIENCE, || {
        let answer = get(balanced.0, &balanced.1);
        assert_eq!(answer.status(), 200);
        names.extend(answer.field("x-endpoint"));
        names.len() == 3
    });
    assert!(three, "{names:?}");
    assert_eq!(get(first.0, &first.1).field("x-endpoint").as_deref(), Some("echo-1"));
    assert!(metrics.1 == "/metrics" && Metrics::scrape(metrics.0).sum("strata_requests_total", &[]) >= 4.0);
    let said = strata(&["status", "--admin", &status.expect("how to see its status")]);
    assert!(said.code == 0 && said.out.contains("echo"), "{said:?}");

    let interrupted = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    await_that("the demo stops", || demo.try_wait().unwrap().is_some());
    assert_eq!(demo.wait().unwrap().code(), Some(0));
}

/// What a service manager knows: the file and the process.
#[test]
fn a_reload_asks_where_the_file_says_and_signals_where_nobody_can_be_asked() {
    let gated = Gated::new("web");
    let token = "0123456789abcdef0123456789abcdef";
    let body = format!("{}\n[drain]\ntimeout = \"1s\"\n", edge(&[gated.address()]));
    let guarded = |text: String| text.replace("[admin]\n", &format!("[admin]\ntoken = \"{token}\"\n"));
    let running = Strata::start(&body);
    let path = running.folder().join("strata.toml");
    let (name, pid) = (path.display().to_string(), running.pid().to_string());
    let generation = |wanted: u64, with: &[(&str, &str)]| {
        let admin = running.admin.to_string();
        let shown = format!("\"generation\": {wanted}");
        await_that(&shown, || strata_with(with, &["status", "--json", "--admin", &admin]).out.contains(&shown));
    };

    // The file has a token that the process does not know yet: who asks by it is let in, for none is asked for.
    std::fs::write(&path, guarded(running.text_of(&body))).unwrap();
    let said = strata(&["reload", "--config", &name]);
    assert_eq!((said.code, said.out.contains("generation 2")), (0, true), "{said:?}");
    let said = strata(&["reload", "--config", &name]);
    assert_eq!(said.code, 0, "by the token of the file: {said:?}");

    // Another token than the one in force, as after an edit of it.
    std::fs::write(&path, guarded(running.text_of(&body)).replace(token, &token.replace('0', "f"))).unwrap();
    let said = strata(&["reload", "--config", &name]);
    assert_eq!(said.code, 1, "{said:?}");
    let said = strata(&["reload", "--config", &name, "--pid", &pid]);
    assert!(said.code == 0 && said.out.contains("was sent SIGHUP"), "{said:?}");
    generation(4, &[("STRATA_ADMIN_TOKEN", &token.replace('0', "f"))]);

    // Nowhere to ask: nothing is guessed.
    let mute = running.text_of(&body).replace(&format!("[admin]\nlisten = \"{}\"\n", running.admin), "");
    std::fs::write(&path, &mute).unwrap();
    let said = strata(&["reload", "--config", &name]);
    assert!(said.code == 1 && said.err.contains("has no [admin] to be asked at"), "{said:?}");

    // A wrong file reaches nobody, not by the signal either.
    std::fs::write(&path, "nonsense").unwrap();
    let said = strata(&["reload", "--config", &name, "--pid", &pid]);
    assert!(said.code == 1 && said.err.contains("error[E"), "{said:?}");
    assert!(!running.log().contains("reload refused"), "{}", running.log_tail());
    for wrong in [&["reload", "--pid", "7"][..], &["reload", "--config", &name, "--pid", "1"]] {
        assert_eq!(strata(wrong).code, 2, "{wrong:?}");
    }
}
