//! Io: taps in network namespaces, each trap of packet sockets as a test.

use std::io::{Read, Write};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

mod queue;

use super::*;
use crate::sys::allocation::taken;
use crate::sys::netns::{Namespace, await_that, namespaces};
use crate::wire::ethernet::{EtherType, Header, Tag};

const BOTH: [Engine; 2] = [Engine::Plain, Engine::Ring];
const NEAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const FAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

/// A cable between two namespaces, and what is at its ends.
struct Cable {
    near: Namespace,
    far: Namespace,
    /// Indices of the ends.
    at_near: u32,
    at_far: u32,
}

impl Cable {
    fn new() -> Option<Cable> {
        let [near, far] = namespaces()?;
        near.cable(("near", NEAR), &far, ("far", FAR));
        let (at_near, at_far) = (near.index("near"), far.index("far"));
        Some(Cable { near, far, at_near, at_far })
    }

    fn near(&self, engine: Engine, options: Options<'_>) -> Tap {
        self.near.run(|| Tap::open(engine, &Options { interface: self.at_near, ..options }).unwrap())
    }

    /// Hears what is sent to it and what comes back, which is still addressed to the near end.
    fn far(&self) -> Tap {
        let options = Options { interface: self.at_far, macs: &[NEAR], ..Options::default() };
        self.far.run(|| Tap::open(Engine::Ring, &options).unwrap())
    }
}

/// A UDP packet of IPv4 whose payload says which one it is.
fn udp(to: MacAddr, [source, destination]: [Ipv4Addr; 2], ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let mut frame = Header { destination: to, source: FAR, ether_type: EtherType::IPV4 }.emit().to_vec();
    let length = u16::try_from(28 + payload.len()).unwrap();
    frame.extend([0x45, 0, length.to_be_bytes()[0], length.to_be_bytes()[1], 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(source.octets().into_iter().chain(destination.octets()));
    frame.extend(ports.into_iter().flat_map(u16::to_be_bytes));
    frame.extend((length - 20).to_be_bytes().into_iter().chain([0, 0]));
    frame.extend(payload);
    frame
}

fn hello(payload: &[u8]) -> Vec<u8> {
    udp(NEAR, [Ipv4Addr::new(10, 0, 0, 2), VIP], [4000, 80], payload)
}

fn payload(frame: &Frame<'_>) -> Vec<u8> {
    frame.bytes().get(42..).unwrap_or_default().to_vec()
}

/// The payloads of what comes until one is `last`.
#[track_caller]
fn until(tap: &mut Tap, last: &[u8]) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    await_that("the last frame", || {
        tap.receive(|frame| {
            seen.push(payload(frame));
            None
        })
        .unwrap();
        seen.iter().any(|payload| payload == last)
    });
    let end = seen.iter().position(|payload| payload == last).unwrap();
    seen.truncate(end + 1);
    seen
}

#[test]
fn a_frame_goes_through_and_back_as_it_was() {
    let Some(cable) = Cable::new() else { return };
    for engine in BOTH {
        let (mut tap, mut far) = (cable.near(engine, Options::default()), cable.far());
        assert_eq!(tap.engine(), engine);
        far.send(cable.at_far, &hello(b"there and back"));
        let mut sent = false;
        await_that("the frame", || {
            tap.receive(|frame| {
                assert!(frame.headroom() >= limits::PACKET_HEADROOM, "{}", frame.headroom());
                assert_eq!(frame.bytes(), hello(b"there and back"));
                sent = true;
                Some(cable.at_near)
            })
            .unwrap();
            sent
        });
        assert_eq!(until(&mut far, b"there and back").len(), 1);
        let counters = tap.counters();
        assert_eq!((counters.received, counters.sent), (1, 1), "{engine:?} {counters:?}");
    }
}

#[test]
fn a_frame_in_and_out_again_allocates_nothing() {
    let Some(cable) = Cable::new() else { return };
    for (engine, queue) in [(Engine::Plain, false), (Engine::Ring, false), (Engine::Ring, true)] {
        let options = Options { interface: cable.at_near, ..Options::default() };
        let mut tap = cable.near(engine, options);
        let _front = queue.then(|| {
            let front;
            (tap, front) = queue::fronted(&cable.near, options);
            front
        });
        let mut far = cable.far();
        let mut round = |count: usize| {
            let (mut seen, mut allocated) = (0, 0);
            for _ in 0..count {
                far.send(cable.at_far, &hello(b"again"));
            }
            await_that("all frames", || {
                let before = taken();
                tap.receive(|frame| {
                    seen += 1;
                    // One is let go, for that is a way out too.
                    (seen > 1 && frame.bytes().len() > 1).then_some(cable.at_near)
                })
                .unwrap();
                allocated += taken() - before;
                seen == count
            });
            allocated
        };
        round(3);
        // At once as many as a veth with a program has room for.
        for _ in 0..3 {
            assert_eq!(round(200), 0, "{engine:?}, a queue: {queue}");
        }
    }
}

#[test]
fn what_this_machine_sends_is_not_heard_again() {
    let Some(cable) = Cable::new() else { return };
    for engine in BOTH {
        let (mut one, mut other) = (cable.near(engine, Options::default()), cable.near(engine, Options::default()));
        let mut far = cable.far();
        one.send(cable.at_near, &hello(b"ours"));
        until(&mut far, b"ours");
        far.send(cable.at_far, &hello(b"theirs"));
        for tap in [&mut one, &mut other] {
            assert_eq!(until(tap, b"theirs"), [b"theirs"], "{engine:?}");
        }
    }
}

/// As a frame looks on the wire with a tag before its type.
fn tagged(frame: &[u8], tag: Tag) -> Vec<u8> {
    [&frame[..12], &tag.emit(), &frame[12..]].concat()
}

#[test]
fn a_vlan_tag_is_put_back_or_its_frame_counted_and_lost() {
    let Some(cable) = Cable::new() else { return };
    let tags = [Tag::vlan(7), Tag { protocol: EtherType::SERVICE_VLAN, control: 0xa064 }];
    for engine in BOTH {
        let (mut tap, mut far) = (cable.near(engine, Options::default()), cable.far());
        for tag in tags {
            far.send(cable.at_far, &tagged(&hello(b"in a vlan"), tag));
        }
        far.send(cable.at_far, &tagged(&tagged(&hello(b"in two"), Tag::vlan(8)), Tag::vlan(9)));
        far.send(cable.at_far, &hello(b"in none"));
        let mut met = Vec::new();
        await_that("four frames", || {
            tap.receive(|frame| {
                met.push((frame.tag(), frame.missing(), frame.bytes().len()));
                Some(cable.at_near)
            })
            .unwrap();
            met.len() == 4
        });
        let whole = hello(b"in a vlan").len();
        let mut returned = Vec::new();
        await_that("the untagged frame", || {
            far.receive(|frame| {
                returned.push((frame.tag(), frame.bytes().len()));
                None
            })
            .unwrap();
            returned.last().is_some_and(|(tag, _)| tag.is_none())
        });
        let untagged = hello(b"in none").len();
        if engine == Engine::Ring {
            let two = hello(b"in two").len() + 4;
            let want = [(Some(tags[0]), whole), (Some(tags[1]), whole), (Some(Tag::vlan(9)), two), (None, untagged)];
            assert_eq!(met, want.map(|(tag, length)| (tag, None, length)));
            assert_eq!(returned, want);
        } else {
            let cut = (None, Some(Missing::Tag), 14);
            assert_eq!(met, [cut, cut, cut, (None, None, untagged)]);
            assert_eq!(returned, [(None, untagged)], "none is sent without its tag");
            assert_eq!((tap.counters().tagged, tap.counters().refused), (3, 3));
        }
    }
}

#[test]
fn only_what_is_wanted_comes_and_what_is_wanted_can_change() {
    let Some(cable) = Cable::new() else { return };
    let other: IpAddr = "10.0.0.101".parse().unwrap();
    let virtual_mac = MacAddr::virtual_v4(7);
    let client = Ipv4Addr::new(10, 0, 0, 2);
    for engine in BOTH {
        let rules = [Rule::to(VIP.into())];
        let options = Options { rules: Some(&rules), macs: &[virtual_mac], ..Options::default() };
        let (mut tap, mut far) = (cable.near(engine, options), cable.far());
        let burst = |far: &mut Tap, last: &[u8]| {
            for (to, address, text) in [
                (NEAR, Ipv4Addr::new(10, 0, 0, 101), "other address"),
                (STRANGER, VIP, "another's"),
                (virtual_mac, VIP, "virtual mac"),
                (NEAR, VIP, "interface's mac"),
            ] {
                far.send(cable.at_far, &udp(to, [client, address], [1, 2], text.as_bytes()));
            }
            for address in [VIP, Ipv4Addr::new(10, 0, 0, 101)] {
                far.send(cable.at_far, &udp(NEAR, [client, address], [1, 2], last));
            }
        };
        burst(&mut far, b"first");
        assert_eq!(until(&mut tap, b"first"), ["virtual mac", "interface's mac", "first"].map(str::as_bytes));
        tap.want(Some(&[Rule::to(other)]), &[]).unwrap();
        burst(&mut far, b"second");
        assert_eq!(until(&mut tap, b"second"), ["other address", "second"].map(str::as_bytes));
        tap.want(None, &[]).unwrap();
        burst(&mut far, b"third");
        let all = ["other address", "interface's mac", "third"].map(str::as_bytes);
        assert_eq!(until(&mut tap, b"third"), all, "the virtual MAC is another's now");
    }
}

#[test]
fn the_card_receives_for_the_virtual_mac_as_long_as_it_is_wanted() {
    let Some(cable) = Cable::new() else { return };
    // veth filters no addresses, so the kernel makes it promiscuous for a second one, and says so.
    let promiscuous = || cable.near.sh("ip -d link show near").contains("promiscuity 1");
    for engine in BOTH {
        assert!(!promiscuous());
        let options = Options { macs: &[MacAddr::virtual_v4(7)], ..Options::default() };
        let mut tap = cable.near(engine, options);
        assert!(promiscuous());
        tap.want(None, &[MacAddr::virtual_v6(7)]).unwrap();
        assert!(promiscuous());
        tap.want(None, &[]).unwrap();
        assert!(!promiscuous());
        tap.want(None, &[MacAddr::virtual_v6(7)]).unwrap();
        drop(tap);
        await_that("the membership to end with the tap", || !promiscuous());
    }
}

#[test]
fn workers_share_flows_and_both_directions_go_to_one() {
    let Some(cable) = Cable::new() else { return };
    for engine in BOTH {
        let claim = || cable.near.run(|| Fanout::claim(cable.at_near).unwrap());
        let group = claim();
        let options = Options { fanout: Some(group), wait: Duration::from_millis(1), ..Options::default() };
        let mut taps = [cable.near(engine, options), cable.near(engine, options)];
        assert_ne!(claim(), group, "another process gets another group");
        let mut far = cable.far();
        let client = Ipv4Addr::new(10, 0, 0, 2);
        // What this machine sends by another socket is nobody's.
        let speaker = cable.near.run(|| Speaker::open().unwrap());
        speaker.say(cable.at_near, &hello(b"ours")).unwrap();
        for port in 1000..1064_u16 {
            let text = port.to_be_bytes();
            far.send(cable.at_far, &udp(NEAR, [client, VIP], [port, 80], &text));
            far.send(cable.at_far, &udp(NEAR, [VIP, client], [80, port], &text));
        }
        let mut seen: [Vec<Vec<u8>>; 2] = Default::default();
        await_that("every frame", || {
            for (tap, seen) in taps.iter_mut().zip(&mut seen) {
                tap.receive(|frame| {
                    seen.push(payload(frame));
                    None
                })
                .unwrap();
            }
            assert!(!seen.iter().flatten().any(|payload| payload == b"ours"), "{engine:?}");
            seen.iter().map(Vec::len).sum::<usize>() == 128
        });
        for mut seen in seen {
            assert!((20..=108).contains(&seen.len()), "{engine:?}: {} of 128", seen.len());
            seen.sort();
            assert!(seen.chunks(2).all(|pair| matches!(pair, [a, b] if a == b)), "{engine:?}");
        }
    }
}

#[test]
fn what_finds_no_room_is_counted() {
    let Some(cable) = Cable::new() else { return };
    for engine in BOTH {
        let (mut tap, mut far) = (cable.near(engine, Options::default()), cable.far());
        let (mut all, mut overrun) = (0, 0);
        while overrun == 0 {
            (0..4096).for_each(|_| far.send(cable.at_far, &hello(b"too many")));
            all += 4096;
            assert!(all < 1 << 20, "{engine:?} never overran");
            overrun = tap.counters().overrun;
        }
        far.send(cable.at_far, &hello(b"lost"));
        let mut received = 0;
        loop {
            match tap.receive(|_| None).unwrap() {
                0 => break,
                count => received += count as u64,
            }
        }
        let counters = tap.counters();
        assert_eq!(counters.received, received);
        assert_eq!(received + counters.overrun, far.counters().sent, "{engine:?}: nothing is lost uncounted");
    }
}

#[test]
fn an_interface_that_goes_down_says_so_and_may_come_back() {
    let Some(cable) = Cable::new() else { return };
    for engine in BOTH {
        let mut tap = cable.near(engine, Options::default());
        cable.near.sh("ip link set near down");
        let error = tap.receive(|_| None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN), "{engine:?}");
        assert_eq!(tap.receive(|_| None).unwrap(), 0, "{engine:?} says it once");
        tap.send(cable.at_near, &hello(b"into nothing"));
        tap.send(4_000_000, &hello(b"nowhere"));
        assert_eq!((tap.counters().link_down, tap.counters().sent), (2, 0), "{engine:?} {:?}", tap.counters());
        cable.near.sh("ip link set near up");
        let mut far = cable.far();
        await_that("the carrier", || {
            far.send(cable.at_far, &hello(b"again"));
            tap.receive(|_| None).unwrap() > 0
        });
    }
}

#[test]
fn a_frame_that_no_interface_takes_is_counted() {
    let Some(cable) = Cable::new() else { return };
    for engine in BOTH {
        let mut tap = cable.near(engine, Options::default());
        tap.send(cable.at_near, &hello(&[0; 1473]));
        tap.send(cable.at_near, &hello(&[0; 1472]));
        assert_eq!((tap.counters().too_long, tap.counters().sent), (1, 1), "{engine:?} {:?}", tap.counters());
    }
}

/// A client and a server with a tap on the cable between them, which hands every frame on.
struct Middle {
    client: Namespace,
    server: Namespace,
    middle: Namespace,
    /// Indices of the middle's two ends.
    ends: [u32; 2],
}

/// What went through.
#[derive(Default)]
struct Passed {
    partial: u64,
    merged: u64,
    longest: usize,
    /// Frames that were to go on, and the longest of them.
    sends: u64,
    longest_sent: usize,
    allocated: u64,
    counters: Counters,
}

impl Middle {
    fn new() -> Option<Middle> {
        let [client, middle, server] = namespaces()?;
        client.cable(("c", MacAddr([2, 0, 0, 0, 1, 1])), &middle, ("m0", MacAddr([2, 0, 0, 0, 1, 2])));
        server.cable(("s", MacAddr([2, 0, 0, 0, 1, 3])), &middle, ("m1", MacAddr([2, 0, 0, 0, 1, 4])));
        for (end, name, host) in [(&client, "c", 1), (&server, "s", 2)] {
            end.sh(&format!(
                "echo 0 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6; ip addr add 10.7.0.{host}/24 dev {name}; \
                 ip addr add fd07::{host}/64 dev {name} nodad"
            ));
        }
        let ends = [middle.index("m0"), middle.index("m1")];
        Some(Middle { client, server, middle, ends })
    }

    /// Hands frames on while `work` runs, each way on a thread of its own. `merged` says whether those that stand for several are
    /// taken apart.
    fn carry(&self, engine: Engine, merged: Fate, work: impl FnOnce()) -> [Passed; 2] {
        let [m0, m1] = self.ends;
        // Promiscuous in all but name: frames are to the other end's MAC.
        let macs = [MacAddr([2, 0, 0, 0, 1, 1]), MacAddr([2, 0, 0, 0, 1, 3])];
        let taps = [(m0, m1), (m1, m0)].map(|(interface, to)| {
            let options = Options { interface, macs: &macs, wait: Duration::from_millis(5), ..Options::default() };
            (self.middle.run(|| Tap::open(engine, &options).unwrap()), to)
        });
        self.carry_by(taps, merged, work)
    }

    /// The same by these taps, each with the interface that its frames go on to.
    fn carry_by(&self, taps: [(Tap, u32); 2], merged: Fate, work: impl FnOnce()) -> [Passed; 2] {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let running = taps.map(|(mut tap, to)| {
                let (done, middle) = (&done, &self.middle);
                scope.spawn(move || middle.run(|| pass(&mut tap, to, merged, done)))
            });
            // Ends the threads when `work` panics, too.
            let _stop = Stop(&done);
            work();
            done.store(true, Ordering::Release);
            running.map(|thread| thread.join().unwrap())
        })
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn pass(tap: &mut Tap, to: u32, merged: Fate, done: &AtomicBool) -> Passed {
    let mut passed = Passed::default();
    let before = taken();
    while !done.load(Ordering::Acquire) {
        tap.receive(|frame| {
            passed.partial += u64::from(matches!(frame.checksum(), Checksum::Partial { .. }));
            passed.merged += u64::from(frame.gso().is_some());
            passed.longest = passed.longest.max(frame.bytes().len());
            match merged {
                Fate::Divide if frame.gso().is_some() => Fate::Divide,
                _ => {
                    passed.sends += 1;
                    passed.longest_sent = passed.longest_sent.max(frame.bytes().len());
                    Fate::Send(to)
                }
            }
        })
        .unwrap();
    }
    (passed.counters, passed.allocated) = (tap.counters(), taken() - before);
    passed
}

/// Sends `text` from the client to the server through TCP and gives what arrived.
fn transfer(middle: &Middle, server: SocketAddr, text: &[u8]) -> Vec<u8> {
    let listener = middle.server.run(|| TcpListener::bind(server).unwrap());
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut got = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut got).unwrap();
            got
        });
        middle.client.run(|| TcpStream::connect(server).unwrap()).write_all(text).unwrap();
        reader.join().unwrap()
    })
}

/// Bytes that are like no others of theirs.
fn text(length: u32) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn tcp_crosses_with_unfinished_checksums_and_segments_that_nobody_has_cut() {
    let Some(middle) = Middle::new() else { return };
    let text = text(4_000_000);
    for engine in BOTH {
        for server in ["10.7.0.2:7000", "[fd07::2]:7000"] {
            let [there, back] = middle.carry(engine, Fate::Stay, || {
                assert!(transfer(&middle, server.parse().unwrap(), &text) == text, "{engine:?} {server}: bytes differ");
            });
            assert!(there.partial > 0 && back.partial > 0, "{engine:?} {server}: checksums were finished");
            assert!(there.merged > 0, "{engine:?} {server}: every frame was one segment");
            assert!(there.longest > limits::PACKET_SLOT_BYTES, "{engine:?} {server}: {}", there.longest);
            let lost = there.counters.refused + there.counters.cut + there.counters.too_long;
            assert_eq!(lost, 0, "{engine:?} {server}: {:?}", there.counters);
        }
    }
}

#[test]
fn a_frame_longer_than_any_buffer_is_counted_and_not_forwarded() {
    let Some(middle) = Middle::new() else { return };
    middle.client.sh("ip link set c gso_max_size 200000");
    for engine in BOTH {
        let [there, _] = middle.carry(engine, Fate::Stay, || {
            let server: SocketAddr = "[fd07::2]:7000".parse().unwrap();
            let text = vec![7; 8_000_000];
            assert!(transfer(&middle, server, &text) == text, "{engine:?}: what is lost is sent again");
        });
        let Counters { cut, refused, .. } = there.counters;
        assert!(cut > 0 && refused == cut, "{engine:?} {:?}, longest {}", there.counters, there.longest);
    }
}

#[test]
fn a_merged_frame_is_taken_apart_and_its_segments_go_on() {
    let Some(middle) = Middle::new() else { return };
    let text = text(2_000_000);
    for engine in BOTH {
        for server in ["10.7.0.2:7000", "[fd07::2]:7000"] {
            let [there, _] = middle.carry(engine, Fate::Divide, || {
                assert!(transfer(&middle, server.parse().unwrap(), &text) == text, "{engine:?} {server}: bytes differ");
            });
            assert!(there.longest > limits::PACKET_SLOT_BYTES, "{engine:?} {server}: {}", there.longest);
            assert!(there.longest_sent <= 1514, "{engine:?} {server}: {}", there.longest_sent);
            // More than a batch in one frame after another: none is lost in between.
            let Counters { divided, sent, no_room, refused, too_long, .. } = there.counters;
            assert!(divided > 0, "{engine:?} {server}: {:?}", there.counters);
            let (counted, decided) = ([divided, sent + no_room, refused + too_long], [there.merged, there.sends, 0]);
            assert_eq!(counted, decided, "{engine:?} {server}: {:?}", there.counters);
            // The plain loop opens another socket for the first frame to another interface, and `pnet` makes an error of every wait in
            // which nothing came.
            assert!(engine == Engine::Plain || there.allocated == 0, "{server}: {} allocations", there.allocated);
        }
    }
}

/// The frame with its checksum finished. TCP has two words for zero, and the kernel uses both.
fn finished(mut bytes: Vec<u8>, checksum: Checksum) -> Vec<u8> {
    if let Checksum::Partial { start, offset } = checksum {
        crate::wire::checksum::complete(&mut bytes, start, offset).unwrap();
    }
    let at = if bytes[12..14] == [0x86, 0xdd] { 14 + 40 + 16 } else { 14 + 20 + 16 };
    if bytes[at..].starts_with(&[0xff, 0xff]) {
        bytes[at..at + 2].fill(0);
    }
    bytes
}

/// Neighbours' questions and the like go by too.
fn is_tcp(frame: &[u8]) -> bool {
    let (kind, after) = frame[12..].split_at(2);
    kind == [0x08, 0x00] && after[9] == 6 || kind == [0x86, 0xdd] && after[6] == 6
}

/// What the kernel sends where a card takes no merged frames, and what we make of the same.
#[test]
fn a_merged_frame_is_taken_apart_as_the_kernel_does_it() {
    let Some(middle) = Middle::new() else { return };
    middle.middle.sh("ip link set m1 gso_max_size 1000");
    let text = text(200_000);
    for server in ["10.7.0.2:7000", "[fd07::2]:7000"] {
        let [m0, m1] = middle.ends;
        let tap = |namespace: &Namespace, interface, macs: &[MacAddr]| {
            let options = Options { interface, macs, wait: Duration::from_millis(5), ..Options::default() };
            namespace.run(|| Tap::open(Engine::Ring, &options).unwrap())
        };
        let mut there = tap(&middle.middle, m0, &[MacAddr([2, 0, 0, 0, 1, 3])]);
        let mut back = tap(&middle.middle, m1, &[MacAddr([2, 0, 0, 0, 1, 1])]);
        let mut end = tap(&middle.server, middle.server.index("s"), &[]);
        let (mut ours, mut kernels, mut merged) = (Vec::new(), Vec::new(), 0);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let _stop = Stop(&done);
            scope.spawn(|| middle.middle.run(|| pass(&mut back, m0, Fate::Stay, &done)));
            let (ours, merged) = (&mut ours, &mut merged);
            let mut expect = |frame: &mut Frame<'_>| {
                match frame.segments() {
                    Some(segments) => {
                        *merged += 1;
                        for nth in 0..segments.count() {
                            let mut out = vec![0; segments.longest()];
                            let length = segments.write(frame.bytes(), nth, &mut out).unwrap();
                            out.truncate(length);
                            ours.push(finished(out, Checksum::Stored));
                        }
                    }
                    None if is_tcp(frame.bytes()) => ours.push(finished(frame.bytes().to_vec(), frame.checksum())),
                    None => {}
                }
                Some(m1)
            };
            let kernels = &mut kernels;
            let mut meet = |frame: &mut Frame<'_>| {
                if is_tcp(frame.bytes()) {
                    kernels.push(finished(frame.bytes().to_vec(), frame.checksum()));
                }
                None::<u32>
            };
            let transfer = scope.spawn(|| transfer(&middle, server.parse().unwrap(), &text) == text);
            while !transfer.is_finished() {
                there.receive(&mut expect).unwrap();
                end.receive(&mut meet).unwrap();
            }
            assert!(transfer.join().unwrap(), "{server}: bytes differ");
            while there.receive(&mut expect).unwrap() + end.receive(&mut meet).unwrap() > 0 {}
        });
        assert!(merged > 0 && ours.len() > 140, "{server}: {merged} merged, {} in all", ours.len());
        let differs = ours.iter().zip(&kernels).position(|(ours, kernels)| ours != kernels);
        assert_eq!((differs, ours.len()), (None, kernels.len()), "{server}");
    }
}

/// Over a wire in between, tagged on the way in and not on the way out.
#[test]
fn a_merged_frame_keeps_its_vlan_tag() {
    let Some(middle) = Middle::new() else { return };
    middle.middle.sh("ip link add x0 type veth peer name x1; ip link set x0 up; ip link set x1 up");
    let [m0, m1] = middle.ends;
    let [x0, x1] = ["x0", "x1"].map(|name| middle.middle.index(name));
    let text = text(1_000_000);
    let (macs, done) = ([MacAddr([2, 0, 0, 0, 1, 1]), MacAddr([2, 0, 0, 0, 1, 3])], AtomicBool::new(false));
    let tagged = thread::scope(|scope| {
        let _stop = Stop(&done);
        let wires = [(m0, x0, Some(Tag::vlan(7))), (x1, m1, None), (m1, m0, None)].map(|(interface, to, tag)| {
            let options = Options { interface, macs: &macs, wait: Duration::from_millis(5), ..Options::default() };
            let mut tap = middle.middle.run(|| Tap::open(Engine::Ring, &options).unwrap());
            let done = &done;
            scope.spawn(move || {
                let mut merged = 0;
                while !done.load(Ordering::Acquire) {
                    let hand_on = |frame: &mut Frame<'_>| {
                        merged += u64::from(frame.gso().is_some() && frame.tag() == Some(Tag::vlan(7)));
                        frame.set_tag(tag);
                        Some(to)
                    };
                    tap.receive(hand_on).unwrap();
                }
                merged
            })
        });
        assert!(transfer(&middle, "10.7.0.2:7000".parse().unwrap(), &text) == text, "bytes differ");
        done.store(true, Ordering::Release);
        wires.map(|wire| wire.join().unwrap())
    });
    assert!(tagged[1] > 0, "no merged frame had a tag on the wire in between");
}

/// Has the kernel make datagrams of this size of whatever is sent at once (`UDP_SEGMENT`).
fn divide_into(socket: &UdpSocket, size: u16) {
    let size = libc::c_int::from(size);
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let value = (&raw const size).cast();
    // SAFETY: `value` leads to a live integer of `length` bytes, which this call only reads.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, length) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

#[test]
fn datagrams_that_were_sent_at_once_arrive_one_by_one() {
    let Some(middle) = Middle::new() else { return };
    for (engine, fate) in [(Engine::Plain, Fate::Divide), (Engine::Ring, Fate::Divide), (Engine::Ring, Fate::Stay)] {
        for server in ["10.7.0.2:7000", "[fd07::2]:7000"] {
            let server: SocketAddr = server.parse().unwrap();
            let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            let (there, here) =
                (middle.server.run(|| UdpSocket::bind(server)), middle.client.run(|| UdpSocket::bind(any)));
            let (there, here) = (there.unwrap(), here.unwrap());
            here.connect(server).unwrap();
            there.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            divide_into(&here, 500);
            let text = text(2300);
            let [passed, _] = middle.carry(engine, fate, || {
                here.send(&text).unwrap();
                for want in text.chunks(500) {
                    let mut buffer = [0; 3000];
                    let got = there.recv(&mut buffer).unwrap();
                    assert!(buffer[..got] == *want, "{engine:?} {server}: {got} bytes came");
                }
            });
            assert_eq!(passed.merged, 1, "{engine:?} {server}");
            assert_eq!(passed.counters.divided, u64::from(fate == Fate::Divide), "{engine:?} {server}");
        }
    }
}
