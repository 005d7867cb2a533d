//! The binary's other commands, and `strata echo` as an endpoint that can be killed.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use super::common::{PATIENCE, Strata, await_that, free_address, holds_within};

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs `strata` to its end.
pub fn strata(arguments: &[&str]) -> Said {
    strata_with(&[], arguments)
}

/// The same, with more in its environment.
pub fn strata_with(variables: &[(&str, &str)], arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    let output = command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null()).output();
    Said::of(output.expect("the strata binary"))
}

/// Runs a command that asks a running Strata.
pub fn ask(running: &Strata, arguments: &[&str]) -> Said {
    let admin = running.admin.to_string();
    strata(&[arguments, &["--admin", &admin]].concat())
}

/// `strata echo` with a process of its own.
pub struct Echo {
    pub address: SocketAddr,
    pub name: String,
    child: Child,
}

impl Echo {
    pub fn start(name: &str) -> Echo {
        Echo::start_at(free_address(), name)
    }

    fn start_at(address: SocketAddr, name: &str) -> Echo {
        let echo = Echo { address, name: name.to_owned(), child: Echo::spawn(address, name) };
        echo.await_up();
        echo
    }

    fn spawn(address: SocketAddr, name: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_strata"))
            .args(["echo", "--listen", &address.to_string(), "--name", name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the strata binary")
    }

    #[track_caller]
    fn await_up(&self) {
        await_that("the echo endpoint listens", || std::net::TcpStream::connect(self.address).is_ok());
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("its end");
    }

    /// The same endpoint again, in a new process.
    #[track_caller]
    pub fn restart(&mut self) {
        self.child = Echo::spawn(self.address, &self.name);
        self.await_up();
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the metrics say that so many endpoints of `pool` may get new work.
#[track_caller]
pub fn await_usable(running: &Strata, pool: &str, count: f64) {
    let mut last = 0.0;
    let right = holds_within(PATIENCE, || {
        last = running.scrape().sum("strata_endpoint_up", &[("pool", pool)]);
        last == count
    });
    assert!(right, "{last} endpoints of {pool} are usable, not {count}\n{}", running.log_tail());
}
