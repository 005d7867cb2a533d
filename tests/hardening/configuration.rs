//! J: mistakes in a configuration, and secrets that must not come out of one.

use std::net::SocketAddr;
use std::time::Duration;

use super::cli::{ask, strata, strata_with};
use super::common::metrics::get;
use super::common::{Origin, Strata, await_that, free_address};
use super::load::{self, Kind, Load};

/// A right file: one service, to be made wrong.
fn right(endpoint: SocketAddr) -> String {
    format!(
        "[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n[pool.web]\nendpoints = [\"{endpoint}\"]\n"
    )
}

/// What is wrong, the text behind the right one, the code, and the words that the diagnostic has.
fn mistakes(edge: SocketAddr) -> Vec<(&'static str, String, &'static str, &'static str)> {
    let vip = |name: &str| format!("[vip.{name}]\naddress = \"192.0.2.100\"\ninterface = \"lo0\"\n");
    let listen = |address: &str| format!("[service.more]\nmode = \"l4\"\nlisten = \"{address}\"\npool = \"web\"\n");
    vec![
        ("a syntax error", "[pool.broken\n".to_owned(), "E001", "unclosed table"),
        ("an unknown key", "[drain]\ntimeuot = \"1s\"\n".to_owned(), "E010", "did you mean `timeout`"),
        ("a VIP twice", vip("one") + &vip("two"), "E036", "192.0.2.100"),
        (
            "a pool that is missing",
            "[[service.edge.route]]\nurl = \"/x\"\npool = \"wbe\"\n".to_owned(),
            "E020",
            "did you mean `web`",
        ),
        ("ports that clash", listen(&edge.to_string()), "E021", "is listened on twice"),
    ]
}

/// The line, from 1, that the first of the added lines is on.
fn first_line_of(text: &str, added: &str) -> usize {
    text[..text.rfind(added).expect("the added lines")].lines().count() + 1
}

#[test]
fn j1_each_mistake_is_found_by_file_and_line_and_the_running_configuration_stays() {
    let origin = Origin::always("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let right = right(origin.address);
    let running = Strata::start(&right);
    let effective = get(running.admin, "/api/config").text();
    let file = running.folder().join("strata.toml");
    let file = file.to_str().unwrap();
    for (name, added, code, words) in mistakes(running.edge) {
        let wrong = format!("{right}{added}");
        running.rewrite(&wrong);
        let lines = first_line_of(&running.text_of(&wrong), &added)..;
        for (said, text) in [
            ("check", strata(&["check", file])),
            ("reload", ask(&running, &["reload"])),
            ("run", strata(&["run", file])),
        ]
        .map(|(command, said)| (command, (said.code, said.out + &said.err)))
        {
            let (exit, text) = text;
            assert_eq!(exit, 1, "{name}: {said}\n{text}");
            assert!(text.contains(&format!("error[{code}]")) && text.contains(words), "{name}: {said}\n{text}");
            // `--> FILE:LINE:COLUMN`, within what was added.
            let at = text
                .split(&format!("--> {file}:"))
                .nth(1)
                .and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
            assert!(at.is_some_and(|line| lines.contains(&line)), "{name}: {said} says line {at:?}\n{text}");
        }
        assert_eq!(get(running.admin, "/api/config").text(), effective, "{name}");
        assert_eq!(running.scrape().sum("strata_config_generation", &[]), 1.0, "{name}");
        assert_eq!(running.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200, "{name}");
    }
}

#[test]
fn j2_invalid_reloads_under_load_are_rejected_and_lose_nothing() {
    let endpoint = load::endpoint("web");
    let right = right(endpoint.address);
    let running = Strata::start(&right);
    let mut load = Load::start();
    load.clients(Kind::Kept, 8, running.edge, "/", Duration::from_millis(10));
    load.clients(Kind::Fresh, 4, running.edge, "/", Duration::from_millis(10));
    load.clients(Kind::WebSocket, 2, running.edge, "/ws", Duration::from_millis(20));
    load.await_more(50);
    let mistakes = mistakes(running.edge);
    for round in 0..2 {
        for (name, added, code, _) in &mistakes {
            running.rewrite(&format!("{right}{added}"));
            let said = ask(&running, &["reload"]);
            assert!(said.code == 1 && said.err.contains(code), "{name}, round {round}: {said:?}");
            load.await_more(10);
        }
    }
    // What the text cannot tell, and the machine refuses.
    let taken = std::net::TcpListener::bind(free_address()).unwrap();
    let address = taken.local_addr().unwrap();
    running.rewrite(&format!("{right}[service.more]\nmode = \"l4\"\nlisten = \"{address}\"\npool = \"web\"\n"));
    let said = ask(&running, &["reload"]);
    assert!(said.code == 1 && said.err.contains(&address.to_string()), "{said:?}");
    load.await_more(50);
    load.stop().assert_nothing_lost();
    let scrape = running.scrape();
    assert_eq!(scrape.sum("strata_config_generation", &[]), 1.0);
    assert_eq!(scrape.sum("strata_config_last_reload_successful", &[]), 0.0);
    assert_eq!(scrape.all_drops(), 0.0);
}

/// Sixteen bytes, as hash keys have: one written, one in a variable, one in a file.
const WRITTEN: &str = "s3cret-wr1tten-x";
const VARIABLE: &str = "s3cret-envir0n-x";
const FILED: &str = "s3cret-in-f1le-x";
const SECRETS: [&str; 3] = [WRITTEN, VARIABLE, FILED];

#[test]
fn j16_secrets_come_out_neither_in_dumps_answers_diagnostics_nor_logs() {
    let origin = Origin::always("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let text = |key: &str, more: &str| {
        let right = right(origin.address).replace("[pool.web]\n", "[pool.web]\nbalance = \"maglev\"\n");
        format!("{right}[log]\nlevel = \"trace\"\n[cluster]\nhash_key = \"{key}\"{more}\n")
    };
    let mut seen = String::new();
    for key in [WRITTEN, "${STRATA_TEST_SECRET}", "file:secret"] {
        let body = text(key, "");
        let running = Strata::start_with(
            &body,
            |command| {
                command.env("STRATA_TEST_SECRET", VARIABLE);
            },
            |folder| std::fs::write(folder.join("secret"), format!("{FILED}\n")).unwrap(),
        );
        let file = running.folder().join("strata.toml");
        let file = file.to_str().unwrap();
        let ours = [("STRATA_TEST_SECRET", VARIABLE)];
        let wrongs = [
            ("nothing", body.clone()),
            ("a mistake beside it", text(key, "\nkye = 1")),
            ("a mistake in it", text(&format!("{key}0123"), "")),
            ("a typo in its name", body.replace("hash_key", "hash_kye")),
            ("no quote at its end", body.replace(&format!("{key}\""), key)),
            ("it is given twice", text(key, &format!("\nhash_key = \"{key}\""))),
            ("it is in the wrong table", format!("{body}[drain]\nhash_key = \"{key}\"\n")),
            ("it is a list", body.replace(&format!("\"{key}\""), &format!("[\"{key}\"]"))),
        ];
        let admin = running.admin.to_string();
        for (what, wrong) in wrongs {
            std::fs::write(file, running.text_of(&wrong)).unwrap();
            let mut all = String::new();
            for arguments in [
                &["check", file][..],
                &["check", "--json", file],
                &["dump", file],
                &["dump", "--json", file],
                &["diff", file, "--admin", &admin],
                &["reload", "--admin", &admin],
            ] {
                let said = strata_with(&ours, arguments);
                assert!(!said.out.is_empty() || !said.err.is_empty(), "{arguments:?} says nothing");
                all += &(said.out + &said.err);
            }
            let leaks: Vec<&str> = SECRETS.into_iter().filter(|secret| all.contains(secret)).collect();
            assert!(leaks.is_empty(), "{key}: {what}: {leaks:?} came out:\n{all}");
            seen += &all;
        }
        for arguments in [&["diff"][..], &["dump"], &["dump", "--json"], &["status", "--json"]] {
            let said = ask(&running, arguments);
            seen += &(said.out + &said.err);
        }
        for path in ["/api/config", "/api/dump", "/api/status", "/api/pools", "/api/services"] {
            seen += &get(running.admin, path).text();
        }
        seen += &get(running.metrics, "/metrics").text();
        await_that("refused reloads are logged", || running.log().matches("reload refused").count() >= 7);
        seen += &running.log();
        seen += &running.stdout();
    }
    for secret in SECRETS {
        let at = seen.find(secret);
        let around =
            at.map(|at| &seen[seen.floor_char_boundary(at.saturating_sub(300))..seen.ceil_char_boundary(at + 100)]);
        assert!(around.is_none(), "{secret} came out:\n{}", around.unwrap_or_default());
    }
    assert!(seen.contains("****************"), "nothing was masked");
}
