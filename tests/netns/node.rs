//! One host: a network namespace with a name, in which closures and programs run.
//!
//! A socket stays in the namespace in which it was made, so only its making has to happen there. Names tell the process that
//! made them: what a killed run leaves behind is swept by the next, what a running one uses is not touched.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{LazyLock, Once};
use std::{fs, panic, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::common::skip;

pub struct Node {
    pub name: String,
    namespace: File,
}

impl Node {
    /// A new host with `lo` up, forwarding nothing. IPv6 addresses serve at once: nobody here has the same.
    pub fn new(name: String) -> Node {
        run("ip", &["netns", "add", &name]);
        let node = Node::found(name);
        for scope in ["all", "default"] {
            node.set(&format!("net/ipv6/conf/{scope}/accept_dad"), "0");
            node.set(&format!("net/ipv6/conf/{scope}/accept_ra"), "0");
        }
        node.ip("link set lo up");
        node
    }

    /// One that somebody else has made.
    pub fn found(name: String) -> Node {
        let namespace = File::open(format!("/run/netns/{name}")).expect("the namespace's file");
        Node { name, namespace }
    }

    /// The same host once more, for who cannot borrow it.
    pub fn twin(&self) -> Node {
        Node { name: self.name.clone(), namespace: self.namespace.try_clone().expect("the namespace's file") }
    }

    /// Runs `work` on a thread inside. What it panics with, this panics with.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
            work()
        };
        let name = thread::current().name().unwrap_or("test").to_owned();
        thread::scope(|scope| {
            let thread = thread::Builder::new().name(name).spawn_scoped(scope, inside).expect("a thread");
            thread.join().unwrap_or_else(|broken| panic::resume_unwind(broken))
        })
    }

    /// Runs `ip` with these words inside, and gives what it prints.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        let words: Vec<&str> = ["-n", &self.name].into_iter().chain(words.split_whitespace()).collect();
        run("ip", &words)
    }

    /// Many commands of `ip`, one a line.
    #[track_caller]
    pub fn batch(&self, lines: &str) {
        let mut ip = Command::new("ip");
        let mut ip = ip.args(["-n", &self.name, "-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip");
        ip.stdin.take().expect("its input").write_all(lines.as_bytes()).expect("its lines");
        assert!(ip.wait().expect("ip ends").success(), "in {}:\n{lines}", self.name);
    }

    /// Sets what is below /proc/sys.
    pub fn set(&self, key: &str, value: &str) {
        self.enter(|| fs::write(format!("/proc/sys/{key}"), value)).unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    /// Sets what not every kernel has.
    pub fn set_if_known(&self, key: &str, value: &str) {
        if self.enter(|| fs::exists(format!("/proc/sys/{key}"))).unwrap_or(false) {
            self.set(key, value);
        }
    }

    pub fn value(&self, key: &str) -> String {
        let text = self.enter(|| fs::read_to_string(format!("/proc/sys/{key}")));
        text.unwrap_or_else(|error| panic!("{key}: {error}")).trim().to_owned()
    }

    /// Starts `strata` inside.
    pub fn spawn(&self, arguments: &[&str]) -> Process {
        let spawn = || {
            let mut strata = Command::new(env!("CARGO_BIN_EXE_strata"));
            strata.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the strata binary")
        };
        Process { child: self.enter(spawn) }
    }

    /// Runs `strata` inside to its end.
    pub fn strata(&self, arguments: &[&str]) -> Output {
        self.run(env!("CARGO_BIN_EXE_strata"), arguments)
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.enter(|| Command::new(program).args(arguments).stdin(Stdio::null()).output()).expect(program)
    }
}

/// A program of ours that ends with its owner.
pub struct Process {
    pub child: Child,
}

impl Process {
    /// Waits for a line of its output.
    #[track_caller]
    pub fn await_line(&mut self, wanted: &str) {
        use std::io::BufRead as _;
        let output = self.child.stdout.take().expect("its output");
        let lines = std::io::BufReader::new(output).lines().map_while(Result::ok);
        let mut seen = Vec::new();
        for line in lines {
            if line.contains(wanted) {
                return;
            }
            seen.push(line);
        }
        panic!("it ended without saying {wanted:?}: {seen:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the hosts of one world have in common: who made them, and which world it is.
pub fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static SWEEP: Once = Once::new();
    SWEEP.call_once(sweep);
    let own = std::process::id();
    format!("{PREFIX}{own}-{}-{}", born(own).expect("this process"), NEXT.fetch_add(1, Relaxed))
}

/// Removes hosts whose process is gone, and what still runs on them.
pub fn sweep() {
    for name in hosts() {
        let mut parts = name.trim_start_matches(PREFIX).split('-');
        let owner = parts.next().and_then(|pid| pid.parse().ok());
        let (Some(owner), Some(since)) = (owner, parts.next()) else { continue };
        if born(owner).is_some_and(|born| born == since) {
            continue;
        }
        // Another run may sweep at the same time: what is gone is gone.
        let pids = Command::new("ip").args(["netns", "pids", &name]).output().map(|output| output.stdout);
        for pid in String::from_utf8_lossy(&pids.unwrap_or_default()).split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", pid]).status();
        }
        let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
    }
}

/// The hosts of all runs.
pub fn hosts() -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(PREFIX)).collect()
}

/// When a process began, in ticks since boot: with its number, that names it for good (proc(5), field 22).
pub fn born(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

/// Whether this machine can have hosts; says so where it cannot.
#[track_caller]
pub fn can(what: &str) -> bool {
    static CAN: LazyLock<bool> = LazyLock::new(|| {
        let own = std::process::id();
        // Named as one that is in use, for another run may sweep.
        let name = format!("{PREFIX}{own}-{}-try", born(own).expect("this process"));
        let ip = |verb| Command::new("ip").args(["netns", verb, &name]).stderr(Stdio::null()).status();
        ip("add").is_ok_and(|made| made.success()) && ip("del").is_ok_and(|gone| gone.success())
    });
    if !*CAN {
        skip(what, "network namespaces need root and iproute2");
    }
    *CAN
}

#[track_caller]
pub fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {said}", words.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub const PREFIX: &str = "strata-test-";
