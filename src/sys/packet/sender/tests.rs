//! Io: a send ring in a network namespace, before queues that are full and interfaces that are down.

use super::*;
use crate::base::MacAddr;
use crate::sys::netns::{Namespace, await_that, namespaces};
use crate::sys::packet::{Engine, Tap};

const NEAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const FAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

struct Cable {
    near: Namespace,
    at_near: u32,
    sender: Sender,
    far: Tap,
    counters: Counters,
}

impl Cable {
    fn new() -> Option<Cable> {
        let [near, far] = namespaces()?;
        near.cable(("near", NEAR), &far, ("far", FAR));
        let (at_near, at_far) = (near.index("near"), far.index("far"));
        let open = |interface| Options { interface, ..Options::default() };
        let sender = near.run(|| Sender::open(at_near).unwrap());
        let far = far.run(|| Tap::open(Engine::Ring, &open(at_far)).unwrap());
        Some(Cable { near, at_near, sender, far, counters: Counters::default() })
    }

    fn push(&mut self, frame: &[u8]) -> bool {
        self.sender.push(self.at_near, frame, &mut self.counters)
    }

    fn flush(&mut self) {
        self.sender.flush(&mut self.counters);
    }

    /// The names of what arrives until `last` does.
    fn until(&mut self, last: &str) -> Vec<String> {
        let mut names = Vec::new();
        await_that("the last frame", || {
            let far = &mut self.far;
            far.receive(|frame| {
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

/// A sealed frame of that many bytes, of an EtherType that nobody speaks.
fn frame(name: &str, length: usize) -> Vec<u8> {
    let mut frame = [&[0; VNET_LEN][..], &FAR.0, &NEAR.0, &[0x88, 0xb5], name.as_bytes()].concat();
    frame.resize(VNET_LEN + length, 0);
    frame
}

#[test]
fn frames_arrive_in_order_round_the_ring_and_round_it_again() {
    let Some(mut cable) = Cable::new() else { return };
    let count = cable.sender.slots.count * 2 + 7;
    let mut names = Vec::new();
    for nth in 0..count {
        assert!(cable.push(&frame(&nth.to_string(), 60 + nth % 1400)), "{nth}");
        if nth % 100 == 99 || nth == count - 1 {
            cable.flush();
            names.extend(cable.until(&nth.to_string()));
        }
    }
    assert_eq!(names, (0..count).map(|nth| nth.to_string()).collect::<Vec<_>>());
    assert_eq!(cable.counters, Counters { sent: count as u64, ..Counters::default() });
}

#[test]
fn what_a_full_queue_does_not_take_is_counted_and_what_is_behind_it_goes() {
    let Some(mut cable) = Cable::new() else { return };
    // One of a thousand bytes goes at once, two wait in the queue, for minutes.
    cable.near.sh("tc qdisc add dev near root tbf rate 8bit burst 1540 limit 3000");
    for (name, length) in [("a", 1014), ("b", 1014), ("c", 1014), ("d", 1014), ("e", 1014), ("f", 100), ("g", 1014)] {
        assert!(cable.push(&frame(name, length)));
    }
    cable.flush();
    assert_eq!(cable.counters, Counters { sent: 4, no_room: 3, ..Counters::default() }, "a, b, c and f go");
    cable.near.sh("tc qdisc del dev near root");
    assert!(cable.push(&frame("h", 60)));
    cable.flush();
    assert_eq!(cable.until("h"), ["a", "h"], "what waited in the queue went with it");
}

#[test]
fn what_an_interface_that_is_down_does_not_take_is_not_sent_later() {
    let Some(mut cable) = Cable::new() else { return };
    for (up, name) in [(true, "before"), (false, "meanwhile"), (true, "after")] {
        cable.near.sh(if up { "ip link set near up" } else { "ip link set near down" });
        (0..3).for_each(|_| assert!(cable.push(&frame(name, 60))));
        cable.flush();
    }
    assert!(cable.sender.push(4_000_000, &frame("nowhere", 60), &mut cable.counters));
    assert!(cable.push(&frame("last", 60)));
    cable.flush();
    assert_eq!(cable.counters, Counters { sent: 7, link_down: 4, ..Counters::default() });
    assert_eq!(cable.until("last"), ["before", "before", "before", "after", "after", "after", "last"]);
}

#[test]
fn a_slot_is_not_written_before_the_card_has_sent_its_frame() {
    let Some(mut cable) = Cable::new() else { return };
    cable.near.sh("tc qdisc add dev near root tbf rate 8bit burst 1540 limit 1000000");
    let mut queued = 0;
    while cable.push(&frame("held", 60)) {
        queued += 1;
        assert!(queued < 1_000_000, "the ring never fills");
    }
    assert_eq!(cable.counters, Counters { sent: queued, ..Counters::default() });
    assert!(queued >= cable.sender.slots.count as u64);
    cable.near.sh("tc qdisc del dev near root");
    await_that("the slots come back", || cable.push(&frame("free", 60)));
    cable.flush();
    assert!(cable.until("free").iter().any(|name| name == "held"), "what the queue let through before");
}

#[test]
fn a_frame_longer_than_a_slot_is_left_to_the_caller() {
    let Some(mut cable) = Cable::new() else { return };
    assert!(cable.push(&frame("first", 1514)));
    assert!(!cable.push(&frame("long", 1523)));
    assert_eq!(cable.counters, Counters { sent: 1, ..Counters::default() }, "what waited has gone before it");
    assert!(!cable.push(&[0; VNET_LEN - 1]));
}

/// The kernel does not ask that of the ring, and what is known of the MTU elsewhere may be a second old.
#[test]
fn what_is_longer_than_the_interface_sends_is_counted_and_goes_nowhere() {
    let Some(mut cable) = Cable::new() else { return };
    let tagged = |name: &str, length| {
        let mut frame = frame(name, length);
        frame[VNET_LEN + 12..VNET_LEN + 14].copy_from_slice(&[0x81, 0]);
        frame
    };
    assert!(cable.push(&frame("full", 1514)) && cable.push(&frame("over", 1515)));
    assert!(cable.push(&tagged("tagged", 1518)) && cable.push(&tagged("over", 1519)));
    cable.flush();
    cable.near.sh("ip link set near mtu 1000");
    assert!(cable.push(&frame("full", 1014)) && cable.push(&frame("over", 1015)) && cable.push(&frame("last", 60)));
    cable.flush();
    assert_eq!(cable.counters, Counters { sent: 4, too_long: 3, ..Counters::default() });
    let names = cable.until("last");
    assert!(names.iter().all(|name| name != "over"), "{names:?}");
    assert!(!cable.push(&frame("over", 1523)), "nor does what is longer than a slot find out here");
}
