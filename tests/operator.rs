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
