//! What stands where the binary of a running Strata was, when it is asked to upgrade.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

pub enum Binary {
    Real,
    Script(String),
    None,
}

impl Binary {
    /// A successor that speaks as one does until it is told to take over, and then does `then`, in Python: `channel` is its line.
    pub fn late(then: &str) -> Binary {
        Binary::Script(format!(
            "#!/usr/bin/env python3\n\
             import json, os, socket, time\n\
             channel = socket.socket(fileno=0)\n\
             hear = lambda: json.loads(channel.recv(1 << 20))[\"say\"]\n\
             while hear() != \"begin\":\n    pass\n\
             channel.send(b'{{\"say\":\"prepared\"}}')\n\
             assert hear() == \"go\"\n\
             {then}\n"
        ))
    }

    /// A real successor, which gets all but the word that it is to take over: `then` is done in its place, in Python; `real` is the
    /// process. It keeps the kernel from packets by then, as one that dies late does.
    pub fn late_and_real(then: &str) -> Binary {
        Binary::Script(format!(
            "#!/usr/bin/env python3\n\
             import ctypes, json, os, socket, subprocess, sys, time\n\
             before = socket.socket(fileno=0)\n\
             ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
             with_us = lambda: ctypes.CDLL(None).prctl(1, 9)   # PR_SET_PDEATHSIG, SIGKILL\n\
             real = subprocess.Popen([{real:?}] + sys.argv[1:], stdin=theirs, preexec_fn=with_us)\n\
             theirs.close()\n\
             text = b'{{}}'\n\
             while json.loads(text).get('say') != 'begin':\n\
             \x20   text, sockets, _, _ = socket.recv_fds(before, 1 << 20, 253)\n\
             \x20   socket.send_fds(ours, [text], sockets) if sockets else ours.send(text)\n\
             \x20   [os.close(fd) for fd in sockets]\n\
             before.send(ours.recv(1 << 20))\n\
             assert json.loads(before.recv(1 << 20))['say'] == 'go'\n\
             {then}\n",
            real = env!("CARGO_BIN_EXE_strata"),
        ))
    }

    pub fn put(&self, at: &Path) {
        let _ = fs::remove_file(at);
        match self {
            Binary::Real => symlink(env!("CARGO_BIN_EXE_strata"), at).expect("a link"),
            Binary::Script(text) => {
                // By a process of its own: what another test starts meanwhile would inherit a file that this one writes, and a
                // file that anybody writes cannot be run.
                let write = "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"";
                let written = Command::new("sh").args(["-c", write, "sh"]).arg(at).arg(text).status();
                assert!(written.is_ok_and(|status| status.success()), "{}", at.display());
            }
            Binary::None => {}
        }
    }
}

/// How one fails that was prepared, and what is said of it.
pub const LATE: &[(&str, &str, &str)] = &[
    ("it ends", "os._exit(7)", "exit status: 7"),
    (
        "it cannot after all",
        "channel.send(b'{\"say\":\"failed\",\"why\":\"a tap is deaf\"}'); time.sleep(600)",
        "a tap is deaf",
    ),
    ("it says nonsense", "channel.send(b'{\"say\":\"prepared\"}'); time.sleep(600)", "where something else was due"),
    ("it hangs", "time.sleep(600)", "did not take over within"),
];
