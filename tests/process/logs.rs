//! Logs whose output is full, stuck, closed or moved: traffic does not notice (hardening J8).

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::cli::ask;
use super::common::{Strata, await_that};
use super::{GET, Gated, edge, load};

fn dropped(strata: &Strata, log: &str) -> f64 {
    strata.scrape().sum("strata_logs_dropped_total", &[("log", log)])
}

/// An L7 service whose requests are recorded.
fn recorded(gated: &Gated) -> String {
    format!("[access_log]\nformat = \"json\"\n{}", edge(&[gated.address()]))
}

/// Sends `count` requests, as fast as they are answered.
fn many(strata: &Strata, count: usize) {
    const AT_ONCE: usize = 50;
    let mut wire = strata.connect();
    for _ in 0..count / AT_ONCE {
        wire.send(GET.repeat(AT_ONCE));
        for _ in 0..AT_ONCE {
            assert_eq!(wire.response().expect("an answer").status(), 200);
        }
    }
}

fn serves_and_ends(strata: Strata) {
    assert_eq!(strata.ask(GET).status(), 200);
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    strata.signal("USR1");
    let began = Instant::now();
    assert_eq!(strata.terminate().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "a log holds the end up: {:?}", began.elapsed());
}

#[test]
fn j8_a_full_disk_under_both_logs_costs_lines_and_nothing_else() {
    let gated = Gated::new("web");
    let strata = Strata::start_as(&recorded(&gated), |command| {
        let full = || OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        command.stdout(full()).stderr(full());
    });
    many(&strata, 100);
    await_that("lost records are counted", || dropped(&strata, "access") == 100.0);
    assert!(dropped(&strata, "program") >= 1.0, "\"strata serves\" could not be written");
    assert_eq!(strata.scrape().sum("strata_access_records_unwritten_total", &[]), 100.0);
    serves_and_ends(strata);
}

#[test]
fn j8_a_pipe_that_nobody_reads_costs_records_and_nothing_else() {
    let gated = Gated::new("web");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let strata = Strata::start_as(&recorded(&gated), move |command| {
        command.stdout(writer.try_clone().expect("a descriptor"));
    });
    // More than the queue takes, and the pipe.
    many(&strata, 10_000);
    // The last record is counted after its answer has left; one scrape sees both numbers.
    await_that("those that found the queue full are all that is lost", || {
        let scrape = strata.scrape();
        let lost = scrape.sum("strata_logs_dropped_total", &[("log", "access")]);
        let full = scrape.sum("strata_access_records_lost_total", &[("service", "edge")]);
        lost > 0.0 && lost < 10_000.0 && full == lost
    });
    serves_and_ends(strata);
    drop(reader);
}

#[test]
fn j8_the_programs_own_log_to_a_pipe_that_nobody_reads_holds_nobody() {
    let gated = Gated::new("web");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let text = edge(&[gated.address()]);
    let strata = Strata::start_as(&text, move |command| {
        command.stderr(writer.try_clone().expect("a descriptor"));
    });
    // Each refusal shows every mistake: some 20 KiB, and a pipe holds 64.
    let wrong: String = (0..150).map(|n| format!("wrong{n} = {n}\n")).collect();
    strata.rewrite(&format!("{text}{wrong}"));
    for _ in 0..10 {
        assert_eq!(ask(&strata, &["reload"]).code, 1);
        assert_eq!(strata.ask(GET).status(), 200);
    }
    strata.rewrite(&text);
    serves_and_ends(strata);
    drop(reader);
}

#[test]
fn j8_a_closed_pipe_under_both_logs_costs_lines_and_nothing_else() {
    let gated = Gated::new("web");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let strata = Strata::start_as(&recorded(&gated), move |command| {
        command.stdout(writer.try_clone().expect("a descriptor")).stderr(writer.try_clone().expect("a descriptor"));
    });
    many(&strata, 100);
    await_that("lost records are counted", || dropped(&strata, "access") == 100.0);
    assert!(dropped(&strata, "program") >= 1.0);
    serves_and_ends(strata);
}

#[test]
fn logs_that_are_rotated_under_load_lose_no_line() {
    let gated = Gated::new("web");
    let folder = std::env::temp_dir().join(format!("strata-rotate-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let [access, own] = ["access.log", "strata.log"].map(|name| folder.join(name));
    let strata = Strata::start(&format!(
        "[log]\noutput = \"{}\"\n[access_log]\noutput = \"{}\"\n{}",
        own.display(),
        access.display(),
        edge(&[gated.address()])
    ));
    let mut clients = load::Load::start();
    clients.clients(load::Kind::Kept, 4, strata.edge, "/", Duration::from_millis(2));
    let mut old: Vec<PathBuf> = Vec::new();
    for n in 0..5 {
        clients.await_more(50);
        for path in [&access, &own] {
            let aside = path.with_extension(format!("log.{n}"));
            fs::rename(path, &aside).unwrap();
            old.push(aside);
        }
        strata.signal("USR1");
        await_that("both are there again", || access.exists() && own.exists());
    }
    let seen = clients.stop();
    seen.assert_nothing_lost();
    let records = |paths: &[PathBuf]| {
        let is_record = |line: &&str| line.starts_with("{\"at\"");
        let text = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
        paths.iter().map(|path| text(path).lines().filter(is_record).count()).sum::<usize>()
    };
    let all: Vec<PathBuf> = [old, vec![access.clone(), own.clone()]].concat();
    await_that("a record for every request", || records(&all) as u64 == seen.all().done);
    let said: String = all.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
    assert!(said.contains("strata serves"), "the log's first line is in its first file");
    await_that("the log says that it was opened anew", || {
        fs::read_to_string(&own).is_ok_and(|text| text.contains("log file reopened"))
    });
    assert_eq!((dropped(&strata, "access"), dropped(&strata, "program")), (0.0, 0.0));
    assert!(strata.log().is_empty(), "nothing of it goes to standard error\n{}", strata.log());
    drop(strata);
    let _ = fs::remove_dir_all(folder);
}
