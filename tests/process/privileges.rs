//! What the process may, once it serves: as little as its file needs.

use std::fs;
use std::process::Command;

use super::cli::ask;
use super::common::{Strata, await_that, skip};
use super::upgrade::serving;
use super::{GET, Gated, edge};

/// A line of `/proc/PID/task/TID/status`, of every thread.
fn each_thread(pid: u32, name: &str) -> Vec<(String, String)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let of = |entry: std::io::Result<fs::DirEntry>| {
        let folder = entry.ok()?.path();
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(|value| value.trim().to_owned())
        };
        Some((field("Name")?, field(name)?))
    };
    threads.filter_map(of).collect()
}

/// Whether there is something to give up, and another user to become: SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW.
fn is_mighty() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("capabilities");
    let set = u64::from_str_radix(set.trim(), 16).unwrap();
    [6, 7, 8, 10, 13].iter().all(|bit| set & 1 << bit != 0)
}

/// Whether any user may run the binary.
fn is_anybodys() -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let may = |path: &std::path::Path| path.metadata().is_ok_and(|of| of.permissions().mode() & 0o001 != 0);
    std::path::Path::new(env!("CARGO_BIN_EXE_strata")).ancestors().all(may)
}

const NONE: &str = "0000000000000000";
const BIND: &str = "0000000000000400";
const RAW: &str = "0000000000002000";

#[test]
fn a_proxy_on_high_ports_has_no_capability_and_can_gain_none() {
    if !is_mighty() {
        return skip("capabilities of the process", "only root has some to give up");
    }
    let gated = Gated::new("web");
    let strata = Strata::start(&edge(&[gated.address()]));
    for name in ["CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"] {
        for (thread, set) in each_thread(strata.pid(), name) {
            assert_eq!(set, NONE, "{name} of {thread}");
        }
    }
    assert!(each_thread(strata.pid(), "NoNewPrivs").iter().all(|(_, set)| set == "1"));
    assert_eq!(strata.ask(GET).status(), 200);

    // What a later file needs is refused, and the way out is said.
    let low = "[service.low]\nmode = \"l7\"\nlisten = \"127.0.0.1:81\"\npool = \"web\"\n";
    strata.rewrite(&(edge(&[gated.address()]) + low));
    let said = ask(&strata, &["reload"]);
    let words = ["CAP_NET_BIND_SERVICE", "given up at start", "keep_capabilities = [\"net-bind-service\"]"];
    assert!(said.code == 1 && words.iter().all(|word| said.err.contains(word)), "{said:?}");

    // An upgrade has no more, and serves.
    strata.rewrite(&edge(&[gated.address()]));
    assert_eq!(ask(&strata, &["upgrade"]).code, 0);
    let successor = serving(&strata);
    assert!(each_thread(successor.0, "CapEff").iter().all(|(_, set)| set == NONE));
    assert_eq!(strata.ask(GET).status(), 200);
}

#[test]
fn what_the_file_needs_is_kept_by_the_threads_that_need_it_and_by_another_user() {
    if !is_mighty() {
        return skip("capabilities of another user", "only root may become one");
    }
    let gated = Gated::new("web");
    let free = super::common::free_address();
    let low = format!("{}:{}", free.ip(), 81);
    // The test's folder is root's, and the user reads the file there.
    let text = format!(
        "[process]\nuser = \"65534:65534\"\nkeep_capabilities = \"net-raw\"\n{}[service.low]\nmode = \"l7\"\nlisten = \"{low}\"\npool = \"web\"\n",
        edge(&[gated.address()])
    );
    let strata = Strata::start(&text);
    let wanted = format!("{:016x}", u64::from_str_radix(BIND, 16).unwrap() | u64::from_str_radix(RAW, 16).unwrap());
    assert!(each_thread(strata.pid(), "Uid").iter().all(|(_, ids)| ids.split_whitespace().all(|id| id == "65534")));
    assert!(each_thread(strata.pid(), "Groups").iter().all(|(_, groups)| groups.is_empty()));
    for (thread, set) in each_thread(strata.pid(), "CapEff") {
        let main = !thread.starts_with("worker");
        assert_eq!(set, if main { &*wanted } else { NONE }, "{thread}");
    }
    let ask_low = || {
        let mut wire = super::common::Wire::connect(low.parse().unwrap());
        wire.send(GET);
        wire.response().unwrap().status()
    };
    assert_eq!(ask_low(), 200);

    if !is_anybodys() {
        return skip("an upgrade by another user", "the binary is in a folder that only its owner enters");
    }
    // Its successor may the same: it listens on another low port.
    let second = text.replace(":81\"", ":82\"");
    strata.rewrite(&second);
    let said = ask(&strata, &["upgrade"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", strata.log_tail());
    let successor = serving(&strata);
    assert!(each_thread(successor.0, "CapEff").iter().any(|(_, set)| *set == wanted));
    let mut wire = super::common::Wire::connect(format!("{}:82", free.ip()).parse().unwrap());
    wire.send(GET);
    assert_eq!(wire.response().unwrap().status(), 200);
}

#[test]
fn a_user_that_is_not_there_ends_the_start_by_name() {
    let file = std::env::temp_dir().join(format!("strata-user-{}.toml", std::process::id()));
    let address = super::common::free_address();
    fs::write(
        &file,
        format!(
            "[process]\nuser = \"nobody-of-that-name\"\n[service.a]\nmode = \"l7\"\nlisten = \"{address}\"\npool = \"p\"\n\
             [pool.p]\nendpoints = [\"127.0.0.1:1\"]\n"
        ),
    )
    .unwrap();
    let said = super::cli::strata(&["run", &file.display().to_string()]);
    assert!(said.code == 1 && said.err.contains("nobody-of-that-name: /etc/passwd has no such user"), "{said:?}");
    let _ = fs::remove_file(file);
}

#[test]
fn j16_a_crash_leaves_no_core_with_keys_in_it() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let gated = Gated::new("web");
    let folder = std::env::temp_dir().join(format!("strata-core-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let here = folder.clone();
    let crash = |text: &str| {
        let here = here.clone();
        let mut strata = Strata::start_as(text, move |command| {
            command.env("BEFORE", "ulimit -c unlimited").current_dir(&here);
        });
        let limits = fs::read_to_string(format!("/proc/{}/limits", strata.pid())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
        strata.signal("ABRT");
        await_that("it is gone", || !strata.is_running());
        core
    };
    let core = crash(&edge(&[gated.address()]));
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "there is a file in its working directory");

    // That one would be there shows what this test can see.
    if !pattern.starts_with(['|', '/']) {
        let shell = Command::new("sh").args(["-c", "ulimit -c unlimited; kill -ABRT $$"]).current_dir(&folder).status();
        assert!(!shell.unwrap().success());
        assert_ne!(fs::read_dir(&folder).unwrap().count(), 0, "a shell's core");
    }
    let _ = fs::remove_dir_all(folder);
}
