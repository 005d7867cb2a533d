//! Io: frames on their way out while the send ring has no room, and when it has some again.

use std::os::fd::AsFd;

use super::super::socket::Socket;
use super::*;
use crate::base::MacAddr;
use crate::sys::classify::Filter;
use crate::sys::netns::{Namespace, await_that, namespaces};
use crate::sys::packet::{Engine, Tap};

const NEAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const FAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

struct Cable {
    near: Namespace,
    at_near: u32,
    outbox: Outbox,
    socket: Socket,
    far: Tap,
    counters: Counters,
    /// What was pushed: it must stay where it is.
    frames: Vec<Vec<u8>>,
}

impl Cable {
    fn new() -> Option<Cable> {
        let [near, far] = namespaces()?;
        near.cable(("near", NEAR), &far, ("far", FAR));
        let (at_near, at_far) = (near.index("near"), far.index("far"));
        let open = |interface| Options { interface, ..Options::default() };
        let (outbox, socket) = near.run(|| {
            let socket = Socket::new(&open(at_near), &Filter::nothing()).unwrap();
            socket.bind_to_send().unwrap();
            (Outbox::open(&open(at_near)).unwrap(), socket)
        });
        let far = far.run(|| Tap::open(Engine::Ring, &open(at_far)).unwrap());
        Some(Cable { near, at_near, outbox, socket, far, counters: Counters::default(), frames: Vec::new() })
    }

    /// Whether it waits where it lies.
    fn push(&mut self, name: &str) -> bool {
        let mut frame =
            [&[0; super::super::frame::VNET_LEN][..], &FAR.0, &NEAR.0, &[0x88, 0xb5], name.as_bytes()].concat();
        frame.resize(super::super::frame::VNET_LEN + 60, 0);
        self.frames.push(frame);
        let frame = self.frames.last().unwrap();
        let sealed = Sealed { base: frame.as_ptr(), length: frame.len(), one: true };
        // SAFETY: the bytes of every frame stay in `frames`, unchanged, as long as the outbox lives.
        unsafe { self.outbox.push(self.at_near, sealed, self.socket.as_fd(), &mut self.counters) }
    }

    fn flush(&mut self) {
        // SAFETY: as for `push`.
        unsafe { self.outbox.flush(self.socket.as_fd(), &mut self.counters) };
    }

    /// Lets through one frame, and keeps others from being sent, so that their slots do not come back.
    fn hold(&self) {
        self.near.sh("tc qdisc add dev near root tbf rate 8bit burst 1540 limit 1000000");
    }

    /// What was held is lost.
    fn let_go(&self) {
        self.near.sh("tc qdisc del dev near root");
    }

    fn until(&mut self, last: &str) -> Vec<String> {
        let mut names = Vec::new();
        await_that("the last frame", || {
            self.far
                .receive(|frame| {
                    let name = frame.bytes().get(14..).unwrap_or_default();
                    names.push(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
                    None
                })
                .unwrap();
            names.iter().any(|name| name == last)
        });
        names
    }
}

#[test]
fn while_the_ring_is_full_frames_go_by_the_batch_and_none_passes_another() {
    let Some(mut cable) = Cable::new() else { return };
    cable.hold();
    while !cable.push("held") {
        assert!(cable.frames.len() < 1_000_000, "the ring never fills");
    }
    // All but the last one, which waits where it lies.
    let held = cable.frames.len() as u64 - 1;
    assert_eq!(cable.counters, Counters { sent: held, ..Counters::default() });
    for nth in 2..=limits::PACKET_BATCH {
        assert!(cable.push("held"), "{nth}");
        assert_eq!(cable.counters.sent, held, "frame {nth} is not sent by a call of its own");
    }
    assert!(cable.push("after a batch"));
    assert_eq!(cable.counters.sent, held + limits::PACKET_BATCH as u64, "a full batch is sent at once");

    cable.let_go();
    let has_room = |cable: &Cable| cable.outbox.sender.has_room();
    await_that("the slots come back", || has_room(&cable));
    assert!(!cable.push("by the ring again"));
    cable.flush();
    let names = cable.until("by the ring again");
    let late: Vec<&String> = names.iter().filter(|name| *name != "held").collect();
    assert_eq!(late, ["after a batch", "by the ring again"]);
    assert_eq!(cable.counters, Counters { sent: cable.frames.len() as u64, ..Counters::default() });
}
