//! What an operator does to the real binary at night: reloads that change the process itself,
//! weights that nothing looks at, and readers that leave in the middle.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{Origin, Strata, await_that};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

/// An L7 service over `origin`, below `tables`.
fn site(origin: &Origin, tables: &str) -> String {
    format!(
        "{tables}\n[service.web]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n\
         [pool.web]\nbalance = \"round-robin\"\nendpoints = [\"{}\"]\n",
        origin.address
    )
}

fn command(strata: &Strata, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strata"))
        .args(arguments)
        .env("STRATA_ADMIN", strata.admin.to_string())
        .output()
        .expect("the strata binary")
}

/// What the command said, and its exit code.
fn said(output: &Output) -> (String, Option<i32>) {
    let text = String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
    (text, output.status.code())
}

fn has_records(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| !text.is_empty())
}

#[test]
fn a_reload_moves_access_records_and_the_log_level() {
    let origin = Origin::echo();
    let strata = Strata::start(&site(&origin, ""));
    let [first, second] = ["first.log", "second.log"].map(|name| strata.folder().join(name));
    for path in [&first, &second] {
        let tables = format!("[access_log]\noutput = \"{}\"\n[log]\nlevel = \"warn\"", path.display());
        strata.rewrite(&site(&origin, &tables));
        let (text, code) = said(&command(&strata, &["reload"]));
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("access_log"), "{text}");
        assert_eq!(strata.ask(GET).status(), 200);
        await_that("a record in the new file", || has_records(path));
    }
    assert_eq!(fs::read_to_string(&first).unwrap().lines().count(), 1, "the old file gets no more");
    let (before, _) = (strata.log().len(), command(&strata, &["reload"]));
    assert_eq!(strata.log().len(), before, "at `warn` a reload that went well says nothing\n{}", strata.log());
}

#[test]
fn a_reload_shows_the_warnings_of_the_file() {
    let origin = Origin::echo();
    let strata = Strata::start(&site(&origin, ""));
    strata.rewrite(&site(&origin, "[pool.spare]\nendpoints = [\"127.0.0.1:1\"]"));
    let (text, code) = said(&command(&strata, &["reload"]));
    assert!(code == Some(0) && text.contains("no service uses pool `spare`"), "{text}");
    await_that("the log says it too", || strata.log().contains("no service uses pool `spare`"));
}

#[test]
fn a_reload_that_this_process_cannot_follow_changes_nothing() {
    let origin = Origin::echo();
    let strata = Strata::start(&site(&origin, "[log]\nformat = \"text\""));
    let cases = [
        ("[log]\nformat = \"json\"", "restart to change it"),
        ("[access_log]\noutput = \"/no/such/folder/access.log\"", "/no/such/folder/access.log"),
    ];
    for (tables, why) in cases {
        strata.rewrite(&site(&origin, tables));
        let (text, code) = said(&command(&strata, &["reload"]));
        assert!(code == Some(1) && text.contains(why), "{tables}: {text}");
        assert_eq!(strata.ask(GET).status(), 200);
    }
}

#[test]
fn a_weight_that_nothing_looks_at_is_refused() {
    let origin = Origin::echo();
    let strata = Strata::start(&site(&origin, ""));
    let endpoint = origin.address.to_string();
    let (text, code) = said(&command(&strata, &["weight", "web", &endpoint, "7"]));
    assert!(code == Some(1) && text.contains("`round-robin`"), "{text}");
    let (text, code) = said(&command(&strata, &["weight", "web", &endpoint, "1001"]));
    assert_eq!(code, Some(2), "{text}");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let origin = Origin::echo();
    let strata = Strata::start(&site(&origin, ""));
    let file = strata.folder().join("strata.toml");
    let arguments: [&[&str]; 2] = [&["status", "--json"], &["check", &file.to_string_lossy()]];
    for arguments in arguments {
        let mut child = Command::new(env!("CARGO_BIN_EXE_strata"))
            .args(arguments)
            .env("STRATA_ADMIN", strata.admin.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the strata binary");
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");
    }
}

/// A wrong route fails before it ships: what is in force stays, and the answer says which test, and which route took it.
#[test]
fn a_reload_runs_the_tests_of_the_file() {
    let origin = Origin::echo();
    let strata = Strata::start(&site(&origin, ""));
    let test = |expect: &str| {
        format!(
            "[[test]]\nrequest = \"GET http://a.test/\"\nservice = \"web\"\nfrom = \"10.1.0.9\"\nexpect = \"{expect}\"\n"
        )
    };
    strata.rewrite(&site(&origin, &test("pool web")));
    let (text, code) = said(&command(&strata, &["reload"]));
    assert_eq!(code, Some(0), "{text}");
    strata.rewrite(&site(&origin, &test("pool api")));
    let (text, code) = said(&command(&strata, &["reload"]));
    for line in
        ["error[E060]", "came: pool web, by route * of service web", "this route takes it", "there is no pool `api`"]
    {
        assert!(code == Some(1) && text.contains(line), "no {line:?} in {text}");
    }
    assert_eq!(strata.ask(GET).status(), 200);
    // Whoever looks why can still ask the same file.
    let file = strata.folder().join("strata.toml");
    let request = format!("GET http://{}/", strata.edge);
    let (text, code) = said(&command(&strata, &["explain", "--config", &file.to_string_lossy(), &request]));
    assert!(code == Some(0) && text.contains("pool web"), "{text}");
}

/// Endpoints that are down now do not make a right file wrong, nor does the test make them up.
#[test]
fn tests_of_a_file_leave_what_serves_alone() {
    let gone = common::free_address();
    let body = |tables: &str| {
        format!(
            "{tables}[service.web]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n[pool.web]\n\
             probe = {{ type = \"tcp\", interval = \"100ms\", timeout = \"100ms\", rise = 1, fall = 1 }}\n\
             endpoints = [\"{gone}\"]\n"
        )
    };
    let strata = Strata::start(&body(""));
    let down = || strata.scrape().sum("strata_endpoint_up", &[("pool", "web")]) == 0.0;
    await_that("the endpoint is down", down);
    strata.rewrite(&body("[[test]]\nrequest = \"GET http://a.test/\"\nservice = \"web\"\nexpect = \"pool web\"\n"));
    let (text, code) = said(&command(&strata, &["reload"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(down(), "a test has made an endpoint up\n{}", strata.log());
    assert_eq!(strata.ask(GET).status(), 503);
}

#[test]
fn quick_prints_a_file_that_passes_check() {
    for (mode, balance) in [("l4", "p2c"), ("l7", "round-robin"), ("l7", "maglev")] {
        let arguments =
            ["quick", mode, "--listen", ":8080", "--to", "10.0.0.11:8080,[2001:db8::1]:8081", "--balance", balance];
        let output = Command::new(env!("CARGO_BIN_EXE_strata")).args(arguments).arg("--print-config").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let name = format!("strata-quick-{}-{mode}-{balance}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, &output.stdout).unwrap();
        let checked = Command::new(env!("CARGO_BIN_EXE_strata")).arg("check").arg(&file).output().unwrap();
        fs::remove_file(&file).unwrap();
        let (text, code) = said(&checked);
        assert!(code == Some(0) && text.ends_with(": valid\n") && !text.contains("warning"), "{text}");
    }
    for (arguments, ends, want) in [
        (&["quick", "l7", "--listen", ":8080", "--to", "127.0.0.1:8080"][..], 1, "would go round in a circle"),
        (&["quick", "l7", "--listen", "8080", "--to", "10.0.0.1:80"], 2, "a port alone has a colon before it"),
        (&["quick", "l7", "--listen", ":8080", "--to", "10.0.0.1"], 2, "the port is missing"),
        (&["quick", "l3", "--listen", ":8080", "--to", "10.0.0.1:80"], 2, "possible values: l4, l7"),
        (
            &["quick", "l7", "--listen", ":8080", "--to", "10.0.0.1:80", "--balance", "best"],
            2,
            "possible values: round-robin",
        ),
    ] {
        let (text, code) = said(&Command::new(env!("CARGO_BIN_EXE_strata")).args(arguments).output().unwrap());
        assert!(code == Some(ends) && text.contains(want), "{arguments:?}: {text}");
    }
}

#[test]
fn quick_serves_says_where_and_ends_when_told() {
    let origin = Origin::echo();
    let [listen, admin] = [(); 2].map(|()| common::free_address().to_string());
    let mut child = Command::new(env!("CARGO_BIN_EXE_strata"))
        .args([
            "quick",
            "l7",
            "--listen",
            &listen,
            "--to",
            &origin.address.to_string(),
            "--metrics",
            "none",
            "--admin",
            &admin,
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the strata binary");
    let address: std::net::SocketAddr = listen.parse().unwrap();
    await_that("it listens", || std::net::TcpStream::connect(address).is_ok());
    let mut wire = common::Wire::connect(address);
    wire.send(GET);
    assert_eq!(wire.response().unwrap().status(), 200);
    let asked = Command::new(env!("CARGO_BIN_EXE_strata"))
        .args(["explain", &format!("GET http://{listen}/"), "--admin", &admin])
        .output()
        .unwrap();
    let (text, code) = said(&asked);
    assert!(code == Some(0) && text.contains("service   quick: l7"), "{text}");
    let told = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
    assert!(told.is_ok_and(|status| status.success()));
    await_that("it ends", || child.try_wait().is_ok_and(|ended| ended.is_some()));
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(&format!("HTTP on {listen}, p2c over ")), "{text}");
}

/// The API wants its token, which stands in no log and no dump, and commands bring it along.
#[test]
fn j13_j14_the_admin_token_is_asked_for_and_never_shown() {
    const TOKEN: &str = "correct-horse-battery-staple-4242";
    let origin = Origin::echo();
    let strata = Strata::start(&site(&origin, ""));
    let file = strata.folder().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let text = fs::read_to_string(strata.folder().join("strata.toml")).unwrap();
    let text = text.replacen("[admin]\n", &format!("[admin]\ntoken = \"file:{}\"\n", file.display()), 1);
    fs::write(strata.folder().join("strata.toml"), text).unwrap();
    let (text, code) = said(&command(&strata, &["reload"]));
    assert!(code == Some(0) && text.contains("admin"), "{text}");

    let (text, code) = said(&command(&strata, &["status"]));
    assert!(code == Some(1) && text.contains("wants its token"), "{text}");
    let (text, code) = said(&command(&strata, &["reload"]));
    assert!(code == Some(1) && text.contains("wants its token"), "{text}");
    let path = file.to_string_lossy().into_owned();
    for arguments in [["status", "--json"], ["dump", "--json"], ["events", "--json"]] {
        let (text, code) = said(&command(&strata, &[&arguments[..], &["--token-file", &path]].concat()));
        assert!(code == Some(0) && !text.contains(TOKEN), "{arguments:?}: {text}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_strata"))
        .args(["reload", "--admin", &strata.admin.to_string()])
        .env("STRATA_ADMIN_TOKEN", TOKEN)
        .output()
        .unwrap();
    assert_eq!(said(&output).1, Some(0), "{output:?}");
    let output = Command::new(env!("CARGO_BIN_EXE_strata"))
        .args(["reload", "--admin", &strata.admin.to_string()])
        .env("STRATA_ADMIN_TOKEN", "wrong-wrong-wrong-wrong")
        .output()
        .unwrap();
    assert!(said(&output).1 == Some(1) && said(&output).0.contains("not the token"), "{output:?}");
    let (text, code) = said(&command(&strata, &["healthcheck"]));
    assert_eq!(code, Some(0), "whether it lives everybody may ask: {text}");
    await_that("the log tells of the refusal", || strata.log().contains("a request to the admin API is refused"));
    assert!(!strata.log().contains(TOKEN) && !strata.log().contains("wrong-wrong"), "{}", strata.log());
}

/// What happened at 02:13, in the words of the log, whatever its level is; and who asked for it.
#[test]
fn events_tell_what_changed_why_and_who_asked() {
    let origin = Origin::echo();
    let strata = Strata::start(&site(&origin, "[log]\nlevel = \"error\""));
    let endpoint = origin.address.to_string();
    let log = "[log]\nlevel = \"error\"\n[pool.spare]\nendpoints = [\"127.0.0.1:1\"]";
    strata.rewrite(&site(&origin, log));
    assert_eq!(said(&command(&strata, &["reload"])).1, Some(0));
    strata.rewrite(&site(&origin, "[pool.spare]\nendpoint = [\"127.0.0.1:1\"]"));
    strata.signal("HUP");
    await_that("the reload is refused", || strata.log().contains("reload refused"));
    assert_eq!(said(&command(&strata, &["drain", "web", &endpoint])).1, Some(0));
    assert_eq!(said(&command(&strata, &["drain", "web", "127.0.0.1:2"])).1, Some(1));

    let (text, code) = said(&command(&strata, &["events", "--json"]));
    assert_eq!(code, Some(0), "{text}");
    let page: serde_json::Value = serde_json::from_str(&text).unwrap();
    let events = page["events"].as_array().unwrap();
    let find = |kind: &str, part: &str| {
        let is = |event: &&serde_json::Value| event["kind"] == kind && event["text"].as_str().unwrap().contains(part);
        events.iter().find(is).unwrap_or_else(|| panic!("no {kind} event with {part:?} in {text}"))
    };
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    find("process", "strata serves");
    let taken = find("reload", "configuration reloaded");
    assert!(taken["text"].as_str().unwrap().contains("by=\"admin API, 127.0.0.1:"), "{taken}");
    find("change", "pool spare");
    find("reload", "no service uses pool `spare`");
    let refused = find("reload", "reload refused");
    assert_eq!((&refused["level"], &refused["subject"]), (&"error".into(), &"".into()));
    assert!(refused["text"].as_str().unwrap().contains("by=\"signal\""), "{refused}");
    let drained = find("endpoint", "endpoint changed state");
    assert_eq!(drained["subject"], format!("web/{endpoint}"));
    let by = find("admin", &format!("drain web {endpoint}"));
    assert!(by["text"].as_str().unwrap().contains("peer=\"127.0.0.1:"), "{by}");
    assert!(by["text"].as_str().unwrap().contains("status=200"), "{by}");
    let not = find("admin", "drain web 127.0.0.1:2");
    assert!(not["text"].as_str().unwrap().contains("status=404") && not["level"] == "warn", "{not}");

    let after = (numbers.len() - 1).to_string();
    let (text, _) = said(&command(&strata, &["events", "--since", &after]));
    assert!(text.lines().count() == 1 && text.contains("drain web 127.0.0.1:2"), "{text}");
    let (text, _) = said(&command(&strata, &["events", "--since", "1h"]));
    assert!(text.contains("strata serves") && text.contains("reload refused"), "{text}");

    // What is wrong stands in the status, and why in the diagnostics, until a reload is well.
    let (text, _) = said(&command(&strata, &["status"]));
    assert!(text.contains("the last reload was rejected") && text.contains("1 warning: "), "{text}");
    let diagnostics = || {
        let mut wire = common::Wire::connect(strata.admin);
        wire.send("GET /api/diagnostics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = wire.response().unwrap();
        serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()
    };
    let found = diagnostics();
    assert!(found["rendered"].as_str().unwrap().contains("no service uses pool `spare`"), "{found}");
    assert_eq!(found["warnings"].as_array().unwrap().len(), 1, "{found}");
    let refused = &found["refused"];
    assert_eq!(refused["by"], "signal");
    assert!(refused["at_ms"].as_u64().unwrap() > 1_700_000_000_000, "{refused}");
    let mistake = &refused["diagnostics"][0];
    assert!(mistake["help"].as_str().unwrap().contains("endpoints") && mistake["line"].as_u64() > Some(1), "{mistake}");
    strata.rewrite(&site(&origin, ""));
    assert_eq!(said(&command(&strata, &["reload"])).1, Some(0));
    let found = diagnostics();
    assert!(found["refused"].is_null() && found["warnings"].as_array().unwrap().is_empty(), "{found}");
}
