//! The real binary, run on a configuration of its own.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::metrics::{Metrics, try_get};
use super::{Message, PATIENCE, Wire, await_that, free_address, holds_within};

/// Changes how the binary is run.
type Adjust = Box<dyn Fn(&mut Command) + Send + Sync>;

pub struct Strata {
    child: Child,
    adjust: Adjust,
    folder: PathBuf,
    /// The listener that `{edge}` stood for.
    pub edge: SocketAddr,
    pub metrics: SocketAddr,
    pub admin: SocketAddr,
}

impl Strata {
    /// Runs `strata run` on `body`, below tables for metrics and admin, and waits until it is ready. In `body`, `{edge}` stands
    /// for a free address.
    #[track_caller]
    pub fn start(body: &str) -> Strata {
        Strata::start_as(body, |_| {})
    }

    /// The same with a command that was adjusted: another environment, other outputs.
    #[track_caller]
    pub fn start_as(body: &str, adjust: impl Fn(&mut Command) + Send + Sync + 'static) -> Strata {
        Strata::start_with(body, adjust, |_| ())
    }

    /// The same, with more in its folder than the one file.
    #[track_caller]
    pub fn start_in(body: &str, prepare: impl FnOnce(&std::path::Path)) -> Strata {
        Strata::start_with(body, |_| {}, prepare)
    }

    /// Both.
    #[track_caller]
    pub fn start_with(
        body: &str,
        adjust: impl Fn(&mut Command) + Send + Sync + 'static,
        prepare: impl FnOnce(&std::path::Path),
    ) -> Strata {
        let mut strata = Strata::spawn(body, Box::new(adjust), prepare);
        strata.await_ready();
        strata
    }

    /// The same below a limit of the shell (`-n 100`: so many descriptors).
    #[track_caller]
    pub fn start_limited(body: &str, limit: &str) -> Strata {
        let limit = format!("ulimit {limit}");
        Strata::start_as(body, move |command| {
            command.env("BEFORE", &limit);
        })
    }

    #[track_caller]
    fn await_ready(&mut self) {
        let mut ended = false;
        let ready = || {
            ended = !self.is_running();
            let listens = std::net::TcpStream::connect(self.metrics).is_ok();
            ended || listens && try_get(self.metrics, "/readyz?all").is_ok_and(|answer| answer.status() == 200)
        };
        // Very many other processes may be starting on the same cores.
        if !holds_within(PATIENCE * 3, ready) || ended {
            panic!("Strata is not ready, though given {:?}\n{}", PATIENCE * 3, self.log());
        }
    }

    /// Asks it to stop, and starts it again on the same file and addresses.
    #[track_caller]
    pub fn restart(&mut self) {
        self.restart_after("TERM");
    }

    /// The same with any signal that ends it.
    #[track_caller]
    pub fn restart_after(&mut self, signal: &str) {
        self.end(signal);
        self.start_again();
    }

    /// Asks it to stop, and waits until it has.
    #[track_caller]
    pub fn stop(&mut self) {
        self.end("TERM");
    }

    #[track_caller]
    fn end(&mut self, signal: &str) {
        self.signal(signal);
        await_that(&format!("Strata exits after {signal}"), || !self.is_running());
    }

    /// On the same file and addresses.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.child = Strata::run(&self.folder, &self.adjust);
        self.await_ready();
    }

    fn spawn(body: &str, adjust: Adjust, prepare: impl FnOnce(&std::path::Path)) -> Strata {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = format!("strata-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(folder);
        // A killed run of this number may have left one, with a log in it.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder for the test");
        prepare(&folder);
        let [edge, metrics, admin] = [(); 3].map(|()| free_address());
        let file = folder.join("strata.toml");
        fs::write(&file, Strata::text(body, edge, metrics, admin)).expect("the configuration");
        Strata { child: Strata::run(&folder, &adjust), adjust, folder, edge, metrics, admin }
    }

    fn run(folder: &std::path::Path, adjust: &Adjust) -> Child {
        let log = |name: &str| OpenOptions::new().append(true).create(true).open(folder.join(name)).expect("a log");
        // The shell becomes it, so that its id is the child's.
        let mut command = Command::new("sh");
        command.args(["-c", "eval \"$BEFORE\"; exec \"${BINARY:-$0}\" \"$@\"", env!("CARGO_BIN_EXE_strata")]);
        command.arg("run").arg(folder.join("strata.toml")).env_remove("BEFORE").env_remove("BINARY");
        command.stdin(Stdio::null()).stdout(log("stdout")).stderr(log("stderr"));
        adjust(&mut command);
        command.spawn().expect("the strata binary")
    }

    fn text(body: &str, edge: SocketAddr, metrics: SocketAddr, admin: SocketAddr) -> String {
        let body = body.replace("{edge}", &edge.to_string());
        // What stands before the first table stays there.
        let tables = if body.starts_with('[') { 0 } else { body.find("\n[").map_or(body.len(), |at| at + 1) };
        let (top, tables) = body.split_at(tables);
        format!("workers = 2\n{top}[metrics]\nlisten = \"{metrics}\"\n[admin]\nlisten = \"{admin}\"\n{tables}\n")
    }

    /// Replaces the configuration file; nothing happens until a reload.
    pub fn rewrite(&self, body: &str) {
        let file = self.folder.join("strata.toml");
        fs::write(file, Strata::text(body, self.edge, self.metrics, self.admin)).expect("the configuration");
    }

    /// What the file is for `body`.
    pub fn text_of(&self, body: &str) -> String {
        Strata::text(body, self.edge, self.metrics, self.admin)
    }

    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    #[track_caller]
    pub fn scrape(&self) -> Metrics {
        Metrics::scrape(self.metrics)
    }

    /// Waits until `reason` has been counted `times` since `before`, and fails if any other reason was.
    pub fn counted(&self, before: &Metrics, reason: &str, times: f64) -> Result<(), String> {
        let mut last = Default::default();
        let right = holds_within(std::time::Duration::from_secs(3), || {
            last = self.scrape().drops_since(before);
            last.len() == 1 && last.get(reason) == Some(&times)
        });
        super::ensure(right, || format!("expected {reason} counted {times} times, got {last:?}"))
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.edge)
    }

    /// A request on a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        let mut wire = self.connect();
        wire.send(request);
        wire.response().unwrap_or_else(|broken| panic!("no response: {broken:?}\n{}", self.log_tail()))
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Memory that is resident and its own, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its /proc entry");
        let line = text.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Asks it to stop and waits until it has.
    #[track_caller]
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        await_that("Strata exits after TERM", || !self.is_running());
        self.child.wait().expect("its status")
    }

    /// Waits until it has stopped, for reasons of its own.
    #[track_caller]
    pub fn await_exit(mut self) -> ExitStatus {
        await_that("Strata exits", || !self.is_running());
        self.child.wait().expect("its status")
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(self.folder.join("stdout")).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("stderr")).unwrap_or_default()).into_owned()
    }

    /// Waits until its log has these words, and returns it. A thread of their own writes lines, behind what they tell of.
    #[track_caller]
    pub fn await_log(&self, words: &str) -> String {
        await_that(&format!("{words:?} is logged"), || self.log().contains(words));
        self.log()
    }

    /// The same where it must say them so often, and not more.
    #[track_caller]
    pub fn await_logged(&self, words: &str, times: usize) -> String {
        let count = || self.log().matches(words).count();
        holds_within(PATIENCE, || count() >= times);
        assert_eq!(count(), times, "how often {words:?} is logged\n{}", self.log());
        self.log()
    }

    /// The last lines of its log, for a failure's message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("--- end of Strata's log\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

impl Drop for Strata {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A process that an upgrade has started. It is no child of the test's, but goes with it.
pub struct Successor(pub u32);

impl Successor {
    pub fn signal(&self, name: &str) {
        // It may have ended meanwhile.
        let _ = Command::new("kill").arg(format!("-{name}")).arg(self.0.to_string()).output();
    }

    pub fn is_gone(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        !status.contains("strata") || status.contains("State:\tZ")
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.is_gone() {
            self.signal("KILL");
        }
    }
}
