//! The configuration of the real binary while it runs: edits that are watched for, what a reload would change, and what is in
//! force.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "common/cli.rs"]
mod cli;
mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use cli::{Said, ask, strata};
use common::{Origin, Strata, free_address};

fn answering() -> Origin {
    Origin::always("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

/// One service over one endpoint; `top` stands before all tables, `more` behind them.
fn body(origin: &Origin, top: &str, more: &str) -> String {
    let address = origin.address;
    format!(
        "{top}\n[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n{more}\n[pool.web]\nendpoints = [\"{address}\"]\n"
    )
}

fn generation(running: &Strata) -> f64 {
    running.scrape().sum("strata_config_generation", &[])
}

#[track_caller]
fn await_generation(running: &Strata, want: f64) {
    let mut last = 0.0;
    let right = common::holds_within(common::PATIENCE, || {
        last = generation(running);
        last >= want
    });
    assert!(right && last == want, "generation {last}, not {want}\n{}", running.log_tail());
}

/// Another file in the place of `path`, as editors write.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new~");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

const RETRIES: [&str; 4] = ["", "retries = 0", "retries = 1", "retries = 2"];

#[test]
fn an_edit_is_a_reload_however_it_is_written_and_a_touch_is_none() {
    let origin = answering();
    let text = |retries: usize| body(&origin, "watch = true", RETRIES[retries]);
    let running = Strata::start(&text(0));
    let file = running.folder().join("strata.toml");

    // In place.
    running.rewrite(&text(1));
    await_generation(&running, 2.0);
    // The same again, and a neighbour: neither counts, or the next would not be number 3.
    running.rewrite(&text(1));
    fs::write(running.folder().join("other.toml"), "[nonsense").unwrap();
    // By a new file in its place, twice: the second is not the file that was watched.
    replace(&file, &running.text_of(&text(2)));
    await_generation(&running, 3.0);
    replace(&file, &running.text_of(&text(3)));
    await_generation(&running, 4.0);
    // Removed and made anew.
    fs::remove_file(&file).unwrap();
    running.rewrite(&text(1));
    running.await_log("generation=5");
    assert_eq!(running.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);

    // Watching itself can be given up.
    running.rewrite(&body(&origin, "watch = false", ""));
    await_generation(&running, 6.0);
    running.rewrite(&text(2));
    let said = ask(&running, &["reload"]);
    assert!(said.code == 0 && said.out.contains("generation 7"), "{said:?}\n{}", running.log_tail());
}

#[test]
fn a_bad_edit_is_logged_once_with_its_mistakes_and_the_old_one_serves() {
    let origin = answering();
    let text = |more: &str| body(&origin, "watch = true", more);
    let running = Strata::start(&text(""));
    running.rewrite(&text("retrise = 1"));
    running.await_log("retrise");
    running.await_log("did you mean `retries`");
    assert_eq!(running.scrape().sum("strata_config_last_reload_successful", &[]), 0.0);
    assert_eq!(generation(&running), 1.0);
    // Truncated, and left so: nobody means that.
    fs::write(running.folder().join("strata.toml"), "").unwrap();
    running.await_log("is empty");
    assert_eq!(running.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    running.rewrite(&text("retries = 1"));
    await_generation(&running, 2.0);
    assert_eq!(running.log().matches("unknown key `retrise`").count(), 1, "{}", running.log_tail());
}

#[test]
fn included_files_and_secrets_are_watched_through_the_links_of_a_mounted_configuration() {
    let origin = answering();
    let top = "watch = true\ninclude = [\"mount/*.toml\"]";
    let more = "[cluster]\nhash_key = \"file:mount/key\"";
    // As a volume of Kubernetes: each file is a link through `..data`, which is swapped.
    let version = |folder: &Path, name: &str, pool: &str, key: &str| {
        let version = folder.join("mount").join(name);
        fs::create_dir_all(&version).unwrap();
        fs::write(version.join("pools.toml"), format!("[pool.{pool}]\nendpoints = []\n")).unwrap();
        fs::write(version.join("key"), key).unwrap();
        let swap = folder.join("mount/..data_tmp");
        symlink(name, &swap).unwrap();
        fs::rename(&swap, folder.join("mount/..data")).unwrap();
    };
    let running = Strata::start_in(&body(&origin, top, more), |folder| {
        version(folder, "..v1", "one", "0123456789abcdef\n");
        symlink("..data/pools.toml", folder.join("mount/pools.toml")).unwrap();
        symlink("..data/key", folder.join("mount/key")).unwrap();
    });
    let folder = running.folder();
    version(folder, "..v2", "two", "0123456789abcdef\n");
    await_generation(&running, 2.0);
    running.await_log("pool two added");
    running.await_log("pool one removed");
    version(folder, "..v3", "two", "0123456789abcdeX\n");
    await_generation(&running, 3.0);
    running.await_log("settings: hash_key changed");
    // A file that was not there before.
    fs::write(folder.join("mount/more.toml"), "[pool.more]\nendpoints = []\n").unwrap();
    await_generation(&running, 4.0);
    running.await_log("pool more added");
}

#[test]
fn a_diff_tells_what_a_reload_then_does() {
    let origin = answering();
    let old = body(&origin, "", "");
    let running = Strata::start(&old);
    let unchanged = ask(&running, &["diff"]);
    assert_eq!((unchanged.code, &*unchanged.out), (0, "nothing would change\n"), "{unchanged:?}");

    let more = free_address();
    let new = body(
        &origin,
        "",
        &format!(
            "retries = 0\n[service.raw]\nmode = \"l4\"\nlisten = \"{more}\"\npool = \"web\"\n[drain]\ntimeout = \"1s\""
        ),
    );
    let beside = running.folder().join("new.toml");
    fs::write(&beside, running.text_of(&new)).unwrap();
    let of_file = ask(&running, &["diff", beside.to_str().unwrap()]);
    running.rewrite(&new);
    let of_own = ask(&running, &["diff"]);
    assert_eq!((of_file.code, of_own.code), (1, 1), "{of_file:?}\n{of_own:?}");
    assert_eq!(of_file.out, of_own.out);
    assert_eq!(generation(&running), 1.0, "a question changed something");
    let json = ask(&running, &["diff", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, document["changes"].as_array().map(Vec::len)), (1, Some(of_own.out.lines().count())));

    let reloaded = ask(&running, &["reload"]);
    let did: Vec<&str> = reloaded.out.lines().skip(1).map(str::trim).collect();
    assert_eq!(of_own.out.lines().collect::<Vec<_>>(), did, "{reloaded:?}");
    assert!(did.len() >= 4, "{did:?}");
    assert_eq!(ask(&running, &["diff"]).code, 0);
}

#[test]
fn a_diff_shows_mistakes_as_check_does_and_compares_secrets_variables_and_includes() {
    let origin = answering();
    let keyed = "[cluster]\nhash_key = \"0123456789abcdef\"";
    let running = Strata::start(&body(&origin, "", keyed));
    let folder = running.folder();
    fs::create_dir(folder.join("parts")).unwrap();
    fs::write(folder.join("key"), "0123456789abcdef\n").unwrap();
    let file = folder.join("new.toml");
    let diff = |text: &str, address: &str| -> Said {
        fs::write(&file, running.text_of(text)).unwrap();
        let admin = running.admin.to_string();
        cli::strata_with(&[("STRATA_TEST_LISTEN", address)], &["diff", file.to_str().unwrap(), "--admin", &admin])
    };
    let edge = running.edge.to_string();
    // The same by other means: the key in a file, the address in a variable, a folder to include from.
    fs::write(folder.join("parts/none.toml"), "").unwrap();
    let other = body(&origin, "include = [\"parts/*.toml\"]", "[cluster]\nhash_key = \"file:key\"");
    let other = other.replace("{edge}", "${STRATA_TEST_LISTEN}");
    let said = diff(&other, &edge);
    assert_eq!((said.code, &*said.out), (0, "nothing would change\n"), "{said:?}");
    // Another key, another address, one pool more.
    fs::write(folder.join("key"), "0123456789abcdeX").unwrap();
    fs::write(folder.join("parts/none.toml"), "[pool.more]\nendpoints = []\n").unwrap();
    let said = diff(&other, &free_address().to_string());
    for words in ["hash_key changed", "pool more added", "service edge listens on", "service edge leaves"] {
        assert!(said.code == 1 && said.out.contains(words), "no {words:?} in {said:?}");
    }
    // Mistakes: here, without asking, and there, of what only the process knows.
    let said = diff(&body(&origin, "", "retrise = 1"), "");
    assert!(
        said.code == 2 && said.err.contains("did you mean `retries`") && said.err.contains("new.toml:"),
        "{said:?}"
    );
    let said = diff(&running_with_workers(&body(&origin, "", keyed)), "");
    assert!(said.code == 2 && said.err.contains("`[log] format` cannot change while running"), "{said:?}");
    let said = strata(&["diff", "--admin", &free_address().to_string()]);
    assert!(said.code == 2 && said.err.contains("no Strata answers"), "{said:?}");
}

#[test]
fn a_diff_runs_the_tests_of_the_file_and_shows_the_changes_all_the_same() {
    let origin = answering();
    let test = |expect: &str| format!("[[test]]\nrequest = \"GET http://{{edge}}/v1\"\nexpect = \"{expect}\"\n");
    let running = Strata::start(&body(&origin, "", &test("pool web")));
    let change = "retries = 0\n[pool.more]\nendpoints = []\n";
    let beside = running.folder().join("new.toml");
    let file = beside.to_str().unwrap();
    for (expect, code) in [("pool web", 1), ("pool more", 2)] {
        let text = body(&origin, "", &format!("{change}{}", test(expect)));
        fs::write(&beside, running.text_of(&text)).unwrap();
        running.rewrite(&text);
        for (of, said) in [("new.toml", ask(&running, &["diff", file])), ("strata.toml", ask(&running, &["diff"]))] {
            assert_eq!(said.code, code, "{said:?}");
            assert!(said.out.contains("pool more added"), "{said:?}");
            let failed = format!("error[E060]: a test fails: `{expect}` is expected");
            assert_eq!(said.err.contains(&failed) && said.err.contains(of), code == 2, "{said:?}");
            assert_eq!(said.err.contains("a reload of this configuration would be refused"), code == 2, "{said:?}");
        }
        let json: serde_json::Value = serde_json::from_str(&ask(&running, &["diff", "--json"]).out).unwrap();
        assert_eq!(json["failures"].as_str().is_some_and(|text| text.contains("E060")), code == 2, "{json}");
    }
    assert_eq!(ask(&running, &["reload"]).code, 1, "as was said");
}

fn running_with_workers(body: &str) -> String {
    format!("{body}\n[log]\nformat = \"json\"\n")
}

#[test]
fn a_dump_of_the_running_process_is_its_file_with_every_default_and_no_secret() {
    let origin = answering();
    let running = Strata::start(&body(&origin, "", "[cluster]\nhash_key = \"only we know it!\""));
    let said = ask(&running, &["dump"]);
    assert_eq!(said.code, 0, "{said:?}");
    let file = running.folder().join("strata.toml");
    let place = format!("# {}:9", file.display());
    for words in ["retries = 2", "# default", "[service.edge.timeouts]", "hash_key = \"****************\"", &place] {
        assert!(said.out.contains(words), "no {words:?} in\n{}", said.out);
    }
    assert!(!said.out.contains("only we know"), "{}", said.out);
    // Of the file it is the same, but for the line that says which it is.
    let of_file = strata(&["dump", file.to_str().unwrap()]);
    let tables = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(tables(&of_file.out), tables(&said.out));
    let dumped = running.folder().join("dump.toml");
    fs::write(&dumped, &said.out).unwrap();
    let checked = strata(&["check", dumped.to_str().unwrap()]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let differs = ask(&running, &["diff", dumped.to_str().unwrap()]);
    assert_eq!((differs.code, &*differs.out), (1, "settings: hash_key changed\n"), "{differs:?}");
    let json = ask(&running, &["dump", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(document["config"]["service"]["edge"]["retries"], 2);
    assert_eq!(document["places"]["service"]["edge"]["retries"], serde_json::Value::Null);
    assert!(document["places"]["service"]["edge"]["mode"].as_str().is_some_and(|place| place.contains("strata.toml:")));
}
