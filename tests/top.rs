//! `strata top` through the real binary: text and JSON of a running Strata under load, and the screen on a pseudo-terminal.

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use common::{Asker, Origin, PATIENCE, Strata, await_that, holds_within};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

/// Two services with a pool each; only the first gets load here.
fn site(busy: &Origin, idle: &Origin) -> String {
    format!(
        "[service.busy]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"busy\"\n\
         [service.idle]\nmode = \"l7\"\nlisten = \"{}\"\npool = \"idle\"\n\
         [pool.busy]\nendpoints = [\"{}\"]\n[pool.idle]\nendpoints = [\"{}\"]\n",
        common::free_address(),
        busy.address,
        idle.address
    )
}

fn top(strata: &Strata, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    command.arg("top").args(["--admin", &strata.admin.to_string()]).args(arguments);
    command
}

#[test]
fn one_look_shows_the_rate_of_the_service_that_is_used() {
    let [busy, idle] = [(); 2].map(|()| Origin::echo());
    let strata = Strata::start(&site(&busy, &idle));
    let _load = Asker::start(&strata, "/");
    let arguments = ["--json", "--iterations", "2", "--interval", "300ms", "--sort", "requests"];
    let output = top(&strata, &arguments).stdin(Stdio::null()).output().expect("the strata binary");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let documents: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a document a line")).collect();
    assert_eq!(documents.len(), 2, "{text}");
    for document in &documents {
        let seconds = document["interval_ms"].as_f64().expect("a time") / 1000.0;
        assert!(seconds >= 0.3, "{text}");
        for kind in ["services", "pools", "endpoints"] {
            let rows = &document[kind];
            let rate = |nth: usize| rows[nth]["requests_per_s"].as_f64().expect("a rate");
            assert!(rate(0) * seconds >= 1.0 && rate(1) == 0.0, "{kind}: {text}");
        }
        let service = &document["services"][0];
        assert_eq!(service["name"], "busy");
        assert!(service["p50_us"].as_u64() <= service["p99_us"].as_u64() && service["p99_us"].is_u64(), "{text}");
        assert!(document["pools"][0]["p50_us"].is_u64(), "latency of responses: {text}");
        assert!(document["services"][1]["p99_us"].is_null(), "nothing ended there: {text}");
    }
}

#[test]
fn without_a_terminal_one_interval_is_text() {
    let [busy, idle] = [(); 2].map(|()| Origin::echo());
    let strata = Strata::start(&site(&busy, &idle));
    let _load = Asker::start(&strata, "/");
    for (arguments, notice) in [(&["--interval", "300ms"][..], true), (&["--interval", "300ms", "--once"], false)] {
        let output = top(&strata, arguments).stdin(Stdio::null()).output().expect("the strata binary");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && error.contains("no terminal to draw on") == notice, "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains('\x1b'), "{text:?}");
        let rate = |name: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(name)).expect("the service's line");
            line.split_whitespace().nth(2).expect("REQ/S").to_owned()
        };
        assert!(rate("busy") != "0" && rate("idle") == "0", "{text}");
    }
}

#[test]
fn what_cannot_be_asked_is_said_and_fails() {
    let nobody = common::free_address().to_string();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_strata")).arg("top").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (arguments, code, want) in [
        (&["--admin", &nobody, "--once"][..], 1, "no Strata answers at"),
        (&["--interval", "1ms"], 2, "from 100ms to 60 minutes"),
        (&["--iterations", "0"], 2, "1.."),
        (&["--sort", "colour"], 2, "possible values: file"),
    ] {
        let (ended, text) = run(arguments);
        assert!(ended == Some(code) && text.contains(want), "{arguments:?}: {ended:?} {text}");
    }
}

#[test]
fn a_look_that_is_not_answered_is_said_and_the_others_go_on() {
    let [busy, idle] = [(); 2].map(|()| Origin::echo());
    let mut strata = Strata::start(&site(&busy, &idle));
    let arguments = ["--json", "--iterations", "100", "--interval", "100ms"];
    let mut command = top(&strata, &arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the strata binary");
    let mut first = String::new();
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("its output"));
    std::io::BufRead::read_line(&mut lines, &mut first).expect("a line");
    assert!(serde_json::from_str::<serde_json::Value>(&first).is_ok(), "{first}");
    strata.stop();
    let ended = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && said.contains("no Strata answers"), "{ended:?}");
}

/// `strata top` on a terminal of its own.
struct Terminal {
    child: Child,
    master: File,
    slave: File,
    before: Termios,
    shown: Receiver<Vec<u8>>,
    /// All that it wrote.
    seen: String,
}

impl Terminal {
    fn start(strata: &Strata, arguments: &[&str]) -> Terminal {
        let mut command = top(strata, arguments);
        // As a shell does it: who suspends it must not suspend the test.
        command.process_group(0);
        Terminal::run(command)
    }

    fn run(mut command: Command) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("its other end");
        unlockpt(&master).expect("its other end");
        let name = ptsname(&master, Vec::new()).expect("its name").into_string().expect("text");
        let slave = File::options().read(true).write(true).open(name).expect("its other end");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).expect("a size");
        let before = tcgetattr(&slave).expect("its modes");
        assert!(before.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO));
        let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the strata binary");
        let master = File::from(master);
        let (send, shown) = channel();
        let mut reader = master.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            // It ends with an error once both ends of the other side are closed.
            while let Ok(got) = reader.read(&mut buffer) {
                if send.send(buffer[..got].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, master, slave, before, shown, seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("keys");
    }

    /// The screen as it was drawn last, without colours.
    fn screen(&self) -> String {
        let last = self.seen.rfind("\x1b[H").map_or("", |at| &self.seen[at..]);
        let mut plain = String::new();
        let mut rest = last;
        while let Some((before, after)) = rest.split_once("\x1b[") {
            plain.push_str(before);
            rest = after.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap_or_default();
        }
        plain + rest
    }

    #[track_caller]
    fn await_screen(&mut self, what: &str, is: impl Fn(&str) -> bool) {
        let shows = holds_within(PATIENCE, || {
            self.take();
            is(&self.screen())
        });
        assert!(shows, "waited {PATIENCE:?} for {what}; it shows:\n{}", self.screen());
    }

    fn take(&mut self) {
        while let Ok(more) = self.shown.try_recv() {
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
    }

    /// Waits until it has ended, and checks that the terminal is as it was.
    #[track_caller]
    fn await_restored(&mut self) -> ExitStatus {
        await_that("top ends", || self.child.try_wait().is_ok_and(|ended| ended.is_some()));
        // The last of what it wrote may still be on its way.
        let left = holds_within(PATIENCE, || {
            self.take();
            self.seen.ends_with("\x1b[?1049l")
        });
        assert!(left, "{:?}", self.seen);
        let after = tcgetattr(&self.slave).expect("its modes");
        let modes = |modes: &Termios| (modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes);
        assert_eq!(modes(&after), modes(&self.before), "the terminal is not as it was");
        for (taken, given_back) in
            [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h"), ("\x1b[?7l", "\x1b[?7h")]
        {
            let [taken, given_back] = [taken, given_back].map(|sequence| self.seen.rfind(sequence));
            assert!(taken.is_some() && taken < given_back, "{:?}", self.seen);
        }
        self.child.wait().expect("its end")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn on_a_terminal_keys_select_an_endpoint_and_drain_it() {
    let [busy, idle] = [(); 2].map(|()| Origin::echo());
    let strata = Strata::start(&site(&busy, &idle));
    let _load = Asker::start(&strata, "/");
    let drained = || {
        let labels = [("pool", "idle"), ("intent", "draining"), ("health", "up")];
        strata.scrape().sum("strata_endpoint_state", &labels) == 1.0
    };
    let mut top = Terminal::start(&strata, &["--interval", "100ms"]);
    top.await_screen("rates", |screen| screen.contains("REQ/S") && screen.contains("q quit"));
    let raw = tcgetattr(&top.slave).expect("its modes");
    assert!(!raw.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO), "keys come as they are pressed");

    top.press("G");
    let selected = format!("> {}", idle.address);
    top.await_screen("the last row selected", |screen| screen.contains(&selected));
    // A yes that comes with the question has not read it.
    top.press("dy");
    let question = format!("drain idle {}? (y/n)", idle.address);
    top.await_screen("the question", |screen| screen.contains(&question));
    assert!(!drained());
    top.press("n");
    top.await_screen("that nothing changed", |screen| screen.contains("nothing changed"));
    assert!(!drained());
    top.press("d");
    top.await_screen("the question", |screen| screen.contains(&question));
    top.press("y");
    top.await_screen("what it came to", |screen| screen.contains("draining (up)"));
    assert!(drained(), "the endpoint is drained in Strata, not only on the screen");

    // The filter, and the new size of a terminal that nobody was told of.
    top.press("/busy\r");
    let other = idle.address.to_string();
    top.await_screen("the filter", |screen| screen.contains("filter: busy") && !screen.contains(&other));
    tcsetwinsize(&top.slave, Winsize { ws_row: 10, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
    top.await_screen("the new size", |screen| {
        let lines: Vec<&str> = screen.split("\r\n").collect();
        lines.len() == 10 && lines.iter().all(|line| line.chars().count() <= 40)
    });
    top.press("q");
    assert!(top.await_restored().success());
}

#[test]
fn a_strata_that_does_not_answer_is_asked_again() {
    let [busy, idle] = [(); 2].map(|()| Origin::echo());
    let mut strata = Strata::start(&site(&busy, &idle));
    let mut top = Terminal::start(&strata, &["--interval", "100ms"]);
    top.await_screen("the services", |screen| screen.contains("busy"));
    strata.stop();
    top.await_screen("that nobody answers", |screen| {
        screen.contains("trying again: no Strata answers") && screen.contains("busy")
    });
    strata.start_again();
    top.await_screen("news", |screen| !screen.contains("trying again") && screen.contains("busy"));
    top.press("\x03");
    assert!(top.await_restored().success());
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let [busy, idle] = [(); 2].map(|()| Origin::echo());
    let strata = Strata::start(&site(&busy, &idle));
    for signal in ["TERM", "HUP", "INT", "QUIT"] {
        let mut top = Terminal::start(&strata, &[]);
        top.await_screen("the services", |screen| screen.contains("busy"));
        let told = Command::new("kill").arg(format!("-{signal}")).arg(top.child.id().to_string()).status();
        assert!(told.is_ok_and(|status| status.success()));
        top.await_restored();
    }
}

#[test]
fn who_suspends_it_has_the_terminal_meanwhile_and_the_screen_again_afterwards() {
    let [busy, idle] = [(); 2].map(|()| Origin::echo());
    let strata = Strata::start(&site(&busy, &idle));
    let mut top = Terminal::start(&strata, &["--interval", "100ms"]);
    let signal = |name: &str, top: &Terminal| {
        let told = Command::new("kill").arg(format!("-{name}")).arg(top.child.id().to_string()).status();
        assert!(told.is_ok_and(|status| status.success()));
    };
    for by_key in [true, false] {
        top.await_screen("the services", |screen| screen.contains("busy"));
        if by_key {
            top.press("\x1a")
        } else {
            signal("TSTP", &top)
        }
        let stat = format!("/proc/{}/stat", top.child.id());
        await_that("it stands still", || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")));
        let given_back = holds_within(PATIENCE, || {
            top.take();
            top.seen.ends_with("\x1b[?1049l")
        });
        assert!(given_back, "{:?}", top.seen);
        let modes = tcgetattr(&top.slave).expect("its modes");
        assert!(modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO), "by key: {by_key}");
        top.seen.clear();
        signal("CONT", &top);
        top.await_screen("the services again", |screen| screen.contains("busy"));
        assert!(top.seen.starts_with("\x1b[?1049h"), "{:?}", top.seen);
        let modes = tcgetattr(&top.slave).expect("its modes");
        assert!(!modes.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO), "keys come as they are pressed");
    }
    top.press("q");
    assert!(top.await_restored().success());
}

/// As in `docker exec -it` or `ssh -t`: it leads a session, and whoever started it is of another. Nobody could have it go on.
#[test]
fn where_nobody_could_wake_it_it_is_not_suspended() {
    let [busy, idle] = [(); 2].map(|()| Origin::echo());
    let strata = Strata::start(&site(&busy, &idle));
    let plain = top(&strata, &["--interval", "100ms"]);
    let mut command = Command::new("setsid");
    command.arg(plain.get_program()).args(plain.get_args());
    let mut top = Terminal::run(command);
    for by_key in [true, false] {
        top.await_screen("the services", |screen| screen.contains("busy"));
        top.seen.clear();
        if by_key {
            top.press("\x1a");
        } else {
            let told = Command::new("kill").arg("-TSTP").arg(top.child.id().to_string()).status();
            assert!(told.is_ok_and(|status| status.success()));
        }
        let goes_on = holds_within(PATIENCE, || {
            top.take();
            top.seen.contains("\x1b[?1049h")
        });
        assert!(goes_on, "by key: {by_key}: {:?}", top.seen);
        top.await_screen("the services again", |screen| screen.contains("busy"));
    }
    top.press("q");
    assert!(top.await_restored().success());
}
