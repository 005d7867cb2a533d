//! A machine of its own: systemd as the first process of new namespaces, on a Debian root file system in memory.
//!
//! Namespaces in place of a container engine: nothing but root is needed, and whatever happens to the test, the kernel ends the
//! machine with the process that holds it. Its root is reached through `/proc`, its network by threads that enter it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use std::{panic, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::common::{Message, Wire, holds_within, skip};

/// For what takes seconds on a busy machine: starting it, a package that is unpacked.
const LONG: Duration = Duration::from_secs(60);

pub struct Machine {
    holder: Child,
    /// Of its first process, as the host sees it.
    pid: u32,
    folder: PathBuf,
    cgroup: String,
}

/// What a command inside said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Machine {
    /// Starts one and waits until its systemd has started all there is. `None`: not here, and that was said.
    #[track_caller]
    pub fn boot(what: &str) -> Option<Machine> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if let Some(why) = impossible() {
            skip(what, &why);
            return None;
        }
        let name = format!("strata-machine-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).expect("a folder for the machine");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages/boot.sh");
        let holder = Command::new("unshare")
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child"])
            .arg(script)
            .args([root().as_path(), &folder])
            .arg(&name)
            .stdin(Stdio::null())
            .stdout(File::create(folder.with_extension("log")).expect("a log"))
            .stderr(File::options().append(true).open(folder.with_extension("log")).expect("its log"))
            .spawn()
            .expect("unshare");
        let mut machine = Machine { holder, pid: 0, folder, cgroup: name };
        let up = holds_within(LONG, || {
            assert!(machine.holder.try_wait().is_ok_and(|ended| ended.is_none()), "it ended:\n{}", machine.log());
            machine.pid = machine.first().unwrap_or(0);
            // Nothing else is there before.
            machine.is_systemd() && machine.sh("systemctl is-system-running --wait").out.trim() == "running"
        });
        if !up {
            let failed = if machine.is_systemd() {
                machine.sh("systemctl --failed; journalctl -n 30").out
            } else {
                String::new()
            };
            panic!("the machine is not up after {LONG:?}:\n{}\n{failed}", machine.log());
        }
        Some(machine)
    }

    /// The process that the holder has started, which is number 1 inside.
    fn first(&self) -> Option<u32> {
        let holder = self.holder.id();
        let children = fs::read_to_string(format!("/proc/{holder}/task/{holder}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    fn is_systemd(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/comm", self.pid)).is_ok_and(|name| name.trim() == "systemd")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default()
    }

    /// Runs a script inside.
    pub fn sh(&self, script: &str) -> Said {
        let Output { status, stdout, stderr } = Command::new("nsenter")
            .arg(format!("--target={}", self.pid))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"])
            .args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", "sh", "-c"])
            .arg(script)
            .stdin(Stdio::null())
            .output()
            .expect("nsenter");
        let [out, err] = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Said { code: status.code(), out, err }
    }

    /// The same, and it must succeed. What it printed.
    #[track_caller]
    pub fn must(&self, script: &str) -> String {
        let said = self.sh(script);
        assert_eq!(said.code, Some(0), "{script}\n{}{}\n{}", said.out, said.err, self.journal());
        said.out.trim().to_owned()
    }

    /// A property of a unit, as systemd has it.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.must(&format!("systemctl show --property={name} --value '{unit}'"))
    }

    #[track_caller]
    pub fn main_pid(&self, unit: &str) -> u32 {
        self.property(unit, "MainPID").parse().expect("a number")
    }

    /// Whether the unit's main process is the user `strata`.
    #[track_caller]
    pub fn is_ordinary(&self, unit: &str) -> bool {
        let uid = self.must("id -u strata");
        let status = self.must(&format!("cat /proc/{}/status", self.main_pid(unit)));
        uid != "0" && status.lines().any(|line| line.split_whitespace().eq(["Uid:", &uid, &uid, &uid, &uid]))
    }

    /// Waits until `script` prints `wanted`.
    #[track_caller]
    pub fn await_said(&self, script: &str, wanted: &str) {
        self.await_that_it(script, wanted, |said| said.contains(wanted));
    }

    /// Waits until `script` prints `wanted` and nothing else: "inactive" is not "active".
    #[track_caller]
    pub fn await_only(&self, script: &str, wanted: &str) {
        self.await_that_it(script, wanted, |said| said.trim() == wanted);
    }

    #[track_caller]
    fn await_that_it(&self, script: &str, wanted: &str, is_so: impl Fn(&str) -> bool) {
        let mut last = String::new();
        let said = holds_within(LONG, || {
            last = self.sh(script).out;
            is_so(&last)
        });
        assert!(said, "waited {LONG:?} for {wanted:?} of {script}, and it says {last:?}\n{}", self.journal());
    }

    /// The last lines of what its units have logged.
    pub fn journal(&self) -> String {
        format!(
            "--- end of the machine's journal\n{}",
            self.sh("journalctl --no-hostname -o short-monotonic -n 60").out
        )
    }

    /// A file inside, as the host reaches it.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }

    #[track_caller]
    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a folder")).expect("its folder");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{inside}: {error}"));
    }

    /// Brings a package inside, and installs it. What dpkg said.
    #[track_caller]
    pub fn install(&self, package: &Path) -> String {
        fs::copy(package, self.path("/root/strata.deb")).expect("the package");
        self.must("dpkg --install /root/strata.deb 2>&1")
    }

    /// Runs `work` on a thread in its network; threads that this starts stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid)).expect("its network");
        let inside = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
            work()
        };
        let name = thread::current().name().unwrap_or("test").to_owned();
        thread::scope(|scope| {
            let thread = thread::Builder::new().name(name).spawn_scoped(scope, inside).expect("a thread");
            thread.join().unwrap_or_else(|broken| panic::resume_unwind(broken))
        })
    }

    /// A GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, to: SocketAddr) -> Message {
        let answer = self.enter(|| {
            let mut wire = Wire::connect(to);
            wire.send("GET / HTTP/1.1\r\nHost: machine\r\nConnection: close\r\n\r\n");
            wire.response()
        });
        answer.unwrap_or_else(|broken| panic!("no response: {broken:?}\n{}", self.journal()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() && self.is_systemd() {
            eprintln!("{}", self.journal());
        }
        // Its first process goes with it, and every other with that one.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let gone = "mount -t cgroup2 cgroup2 \"$0\" && find \"$0/$1\" -depth -type d -exec rmdir {} +";
        let left = || {
            let sweep = ["--mount", "sh", "-c", gone];
            let swept =
                Command::new("unshare").args(sweep).arg(&self.folder).arg(&self.cgroup).stderr(Stdio::null()).status();
            swept.is_ok_and(|swept| swept.success())
        };
        if !holds_within(Duration::from_secs(10), left) {
            eprintln!("the control group {} is left behind", self.cgroup);
        }
        let _ = fs::remove_dir(&self.folder);
        let _ = fs::remove_file(self.folder.with_extension("log"));
    }
}

/// Why there can be no machine here.
fn impossible() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it takes root".to_owned());
    }
    for program in ["unshare", "nsenter", "setpriv", "pivot_root", "ip", "tar", "mmdebstrap", "dpkg-shlibdeps"] {
        let found = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", program]).status();
        if !found.is_ok_and(|found| found.success()) {
            return Some(format!("{program} is missing (apt-get install mmdebstrap dpkg-dev iproute2 util-linux)"));
        }
    }
    None
}

/// The root file system of every machine, made once.
fn root() -> PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
        // Another recipe is another file.
        let script = fs::read(tree.join("tests/packages/root.sh")).expect("root.sh");
        let sum = script.iter().fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
        let tar = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("debian-{sum:016x}.tar"));
        if !tar.exists() {
            let made = Command::new(tree.join("tests/packages/root.sh")).arg(&tar).stdin(Stdio::null()).status();
            assert!(made.is_ok_and(|made| made.success()), "a Debian root file system cannot be made");
        }
        tar
    };
    ROOT.get_or_init(make).clone()
}
