//! What systemd is told, and what it may pass.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::cli::ask;
use super::common::metrics::get;
use super::common::{Strata, Wire, await_that, free_listener, skip};
use super::upgrade::serving;
use super::{GET, Gated, edge};

/// Systemd's end of `NOTIFY_SOCKET`.
struct Manager {
    path: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn new(name: &str) -> Manager {
        let path = std::env::temp_dir().join(format!("strata-notify-{}-{name}.sock", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let all = heard.clone();
        thread::spawn(move || {
            let mut datagram = [0; 4096];
            while let Ok(length) = socket.recv(&mut datagram) {
                all.lock().push(String::from_utf8_lossy(&datagram[..length]).into_owned());
            }
        });
        Manager { path, heard }
    }

    fn start(&self, text: &str, watchdog_us: u32) -> Strata {
        let path = self.path.clone();
        Strata::start_as(text, move |command| {
            command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", watchdog_us.to_string());
        })
    }

    /// How many datagrams have all of these lines.
    fn count(&self, lines: &[&str]) -> usize {
        let has = |datagram: &&String| lines.iter().all(|line| datagram.lines().any(|it| it.starts_with(line)));
        self.heard.lock().iter().filter(has).count()
    }

    #[track_caller]
    fn await_heard(&self, lines: &[&str], times: usize) {
        await_that(&format!("{times} times {lines:?}, of {:?}", self.heard.lock()), || self.count(lines) >= times);
    }

    fn forget(&self) {
        self.heard.lock().clear();
    }

    /// Nothing of a watchdog for longer than systemd waits.
    #[track_caller]
    fn await_silence(&self) {
        await_that("nothing comes for longer than systemd waits", || {
            // What was sent before may be read late.
            self.forget();
            thread::sleep(Duration::from_millis(1200));
            self.count(&["WATCHDOG=1"]) == 0
        });
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn systemd_hears_of_the_start_reloads_the_watchdog_and_the_end() {
    let gated = Gated::new("web");
    let manager = Manager::new("life");
    let text = edge(&[gated.address()]);
    let strata = manager.start(&text, 1_000_000);
    manager.await_heard(&["READY=1", "STATUS=serves 1 services"], 1);
    manager.await_heard(&["WATCHDOG=1"], 3);
    for (text, status) in [(text.as_str(), "STATUS=serves"), ("nonsense", "STATUS=the last reload was refused")] {
        manager.forget();
        strata.rewrite(text);
        strata.signal("HUP");
        manager.await_heard(&["RELOADING=1", "MONOTONIC_USEC="], 1);
        manager.await_heard(&["READY=1", status], 1);
    }
    // A process that does not run does not say that it lives.
    strata.signal("STOP");
    let stopped = || std::fs::read_to_string(format!("/proc/{}/stat", strata.pid())).unwrap().contains(") T ");
    await_that("it stands still", stopped);
    manager.await_silence();
    strata.signal("CONT");
    manager.await_heard(&["WATCHDOG=1"], 1);
    strata.signal("TERM");
    manager.await_heard(&["STOPPING=1"], 1);
    assert_eq!(strata.await_exit().code(), Some(0));
}

/// One thread, stopped as a debugger stops it, while the others of its process go on; it goes on when this is dropped.
struct Stopped(Child);

/// The kernel lets go of a thread when its tracer ends.
const STOP: &str = "
import ctypes, os, sys
libc, thread = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
for request in 0x4206, 0x4207:   # PTRACE_SEIZE, PTRACE_INTERRUPT
    if libc.ptrace(request, thread, None, None):
        sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(thread, 0x40000000)   # __WALL
print('stopped', flush=True)
sys.stdin.read()
";

impl Stopped {
    /// The thread of this name. `Err`: this machine does not let us.
    fn thread(strata: &Strata, name: &str) -> Result<Stopped, String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", strata.pid())).unwrap().map(|task| task.unwrap());
        let named = |task: &std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        let task = tasks.into_iter().find(named).unwrap_or_else(|| panic!("no thread {name}")).file_name();
        let mut tracer = Command::new("python3");
        tracer.args(["-c", STOP]).arg(task).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tracer = tracer.spawn().map_err(|error| format!("python3: {error}"))?;
        let mut line = String::new();
        BufReader::new(tracer.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line.trim() == "stopped" {
            return Ok(Stopped(tracer));
        }
        let mut why = String::new();
        tracer.stderr.as_mut().unwrap().read_to_string(&mut why).unwrap();
        let _ = tracer.wait();
        Err(why)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_thread_that_does_not_go_on_silences_the_watchdog_and_is_named() {
    let gated = Gated::new("web");
    let manager = Manager::new("stuck");
    let strata = manager.start(&edge(&[gated.address()]), 1_000_000);
    let alive = |path| get(strata.metrics, path).status();
    let silence = || strata.scrape().sum("strata_thread_silence_seconds", &[]);
    for (thread, who) in [
        ("worker-0", "worker 0"),
        ("worker-1", "worker 1"),
        ("strata-health", "the health thread"),
        ("strata", "the control thread"),
    ] {
        manager.await_heard(&["WATCHDOG=1"], 1);
        let stopped = match Stopped::thread(&strata, thread) {
            Ok(stopped) => stopped,
            Err(why) => return skip("stopping a thread", &why),
        };
        let said = |what: &str| strata.log().contains(&format!("{who} {what}"));
        await_that(&format!("{who} is named"), || said("does not get to its tasks"));
        manager.await_silence();
        // The control thread is who would answer.
        if who != "the control thread" {
            assert_eq!((alive("/healthz"), alive("/readyz")), (503, 503), "{who}");
            assert!(silence() > 2.0, "{who}");
            assert_eq!(ask(&strata, &["healthcheck"]).code, 1, "{who}");
        }
        drop(stopped);
        await_that(&format!("{who} is said to go on"), || said("gets to its tasks again"));
        await_that("it is well again", || silence() < 1.0 && alive("/healthz") == 200 && alive("/readyz") == 200);
    }
    manager.await_heard(&["WATCHDOG=1"], 1);
}

#[test]
fn systemd_is_told_the_successors_number_and_hears_the_successor_from_then_on() {
    let gated = Gated::new("web");
    let manager = Manager::new("upgrade");
    // Every two seconds they say that they live; between, whatever else they say it by.
    let mut strata = manager.start(&edge(&[gated.address()]), 4_000_000);
    manager.await_heard(&["READY=1"], 1);
    manager.forget();
    assert_eq!(ask(&strata, &["upgrade"]).code, 0);
    let successor = serving(&strata);
    await_that("the first one has ended", || !strata.is_running());
    let main = format!("MAINPID={}", successor.0);
    manager.await_heard(&[&main, "READY=1"], 1);
    manager.await_heard(&["READY=1", "STATUS=serves 1 services"], 1);
    assert_eq!(manager.count(&["STOPPING=1"]), 0, "the service does not stop");
    // The one before may have said that it lives any number of times.
    let mut heard = Vec::new();
    await_that("the successor says something more", || {
        heard.clone_from(&manager.heard.lock());
        heard.last().is_some_and(|last| !last.contains("STATUS=serves"))
            && heard.iter().any(|it| it.contains("STATUS=serves"))
    });
    let at = |line: &str| heard.iter().position(|datagram| datagram.contains(line)).unwrap_or(usize::MAX);
    assert!(at(&main) < at("STATUS=serves"), "nobody but the main process is listened to: {heard:?}");
    // The watchdog counts anew for the one and for the other, however long ago it was last heard.
    for said in [at(&main).wrapping_sub(1), at("STATUS=serves") + 1] {
        assert_eq!(heard.get(said).map(String::as_str).map(str::trim), Some("WATCHDOG=1"), "{heard:?}");
    }
    manager.forget();
    manager.await_heard(&["WATCHDOG=1"], 2);
    successor.signal("TERM");
    manager.await_heard(&["STOPPING=1"], 1);
}

#[test]
fn sockets_that_systemd_passes_are_listened_on_and_others_are_named() {
    let gated = Gated::new("web");
    // Held here as well: nobody could bind them.
    let [passed, other] = [free_listener(), free_listener()];
    let (address, left) = (passed.local_addr().unwrap(), other.local_addr().unwrap());
    let mut early = TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut early, GET.as_bytes()).unwrap();
    let text = format!(
        "{}[service.passed]\nmode = \"l7\"\nlisten = \"{address}\"\npool = \"web\"\n",
        edge(&[gated.address()])
    );
    let again = |listener: &TcpListener| Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
    let sockets = (passed.try_clone().unwrap(), other.try_clone().unwrap());
    let mut strata = Strata::start_as(&text, move |command| {
        command.stdin(again(&sockets.0)).stdout(again(&sockets.1));
        command.env("BEFORE", "exec 3<&0 4>&1 </dev/null >/dev/null; export LISTEN_PID=$$ LISTEN_FDS=2");
    });
    let mut early = Wire::new(early, None);
    assert_eq!(early.response().unwrap().status(), 200, "what stood in its queue is served");
    let serves = || {
        for n in 0..20 {
            let mut wire = Wire::connect(address);
            wire.send(GET);
            assert_eq!(wire.response().unwrap().status(), 200, "{n}");
        }
    };
    serves();
    // Who comes while nobody serves waits for the next one, which systemd starts with the same sockets.
    strata.stop();
    let mut between = Wire::connect(address);
    between.send(GET);
    strata.start_again();
    assert_eq!(between.response().unwrap().status(), 200, "what came between is served");
    serves();
    let said = format!("nothing in the file listens on: it is closed address={left}");
    await_that("the other one is named", || strata.log().contains(&said));
    assert!(!strata.log().contains(&format!("address={address}")));
    assert_eq!(strata.ask(GET).status(), 200);
}
