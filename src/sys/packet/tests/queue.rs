//! Io: a tap that takes frames from a queue of its interface, in network namespaces.

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Instant;

use super::*;

/// Gives every IP frame of an interface to the socket of its queue, and the others to the kernel, as long as it lives.
pub(super) struct Front {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Front {
    /// To be made in the interface's namespace. A program of before may be there yet: other tests start processes, and each has a
    /// copy of our descriptors for a moment.
    pub(super) fn attach(interface: u32) -> Front {
        // Room for four sockets, each by its queue's number: `bpf_attr` of BPF_MAP_CREATE, of type BPF_MAP_TYPE_XSKMAP.
        let map = bpf(0, &words(&[17, 4, 4, 4]));
        let code = program(&map);
        let (bytes, license) = (code.as_flattened(), c"GPL");
        let mut attributes = words(&[6, code.len() as u32]);
        attributes.extend((bytes.as_ptr().addr() as u64).to_ne_bytes());
        attributes.extend((license.as_ptr().addr() as u64).to_ne_bytes());
        let program = bpf(5, &attributes);
        // BPF_XDP, with XDP_FLAGS_DRV_MODE.
        let attributes = words(&[raw(&program), interface, 37, 1 << 2]);
        let mut link = -1;
        await_that("no other program", || {
            link = call(28, &attributes);
            link >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EBUSY)
        });
        Front { map, _link: owned(28, link) }
    }

    pub(super) fn give(&self, queue: &Queue) {
        let (number, socket) = (queue.number(), queue.as_fd().as_raw_fd());
        let mut attributes = words(&[raw(&self.map), 0]);
        attributes.extend(((&raw const number).addr() as u64).to_ne_bytes());
        attributes.extend(((&raw const socket).addr() as u64).to_ne_bytes());
        attributes.extend(0_u64.to_ne_bytes());
        assert_eq!(call(2, &attributes), 0, "{}", io::Error::last_os_error());
    }
}

fn program(map: &OwnedFd) -> Vec<[u8; 8]> {
    let op = |code: u8, [to, from]: [u8; 2], offset: i16, value: u32| {
        let ([a, b], [c, d, e, f]) = (offset.to_ne_bytes(), value.to_ne_bytes());
        [code, from << 4 | to, a, b, c, d, e, f]
    };
    let [ipv4, ipv6] = [EtherType::IPV4, EtherType::IPV6].map(|kind| u32::from(kind.0.to_be()));
    vec![
        // r2, r3 = data, data_end; without an Ethernet header: pass
        op(0x61, [2, 1], 0, 0),
        op(0x61, [3, 1], 4, 0),
        op(0xbf, [4, 2], 0, 0),
        op(0x07, [4, 0], 0, 14),
        op(0x2d, [4, 3], 9, 0),
        // r5 = its type; neither of the two: pass
        op(0x69, [5, 2], 12, 0),
        op(0x15, [5, 0], 1, ipv4),
        op(0x55, [5, 0], 6, ipv6),
        // return bpf_redirect_map(map, rx_queue_index, XDP_PASS)
        op(0x61, [2, 1], 16, 0),
        op(0x18, [1, 1], 0, raw(map)),
        op(0, [0, 0], 0, 0),
        op(0xb7, [3, 0], 0, 2),
        op(0x85, [0, 0], 0, 51),
        op(0x95, [0, 0], 0, 0),
        // pass
        op(0xb7, [0, 0], 0, 2),
        op(0x95, [0, 0], 0, 0),
    ]
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().copied().flat_map(u32::to_ne_bytes).collect()
}

fn raw(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

#[track_caller]
fn bpf(command: libc::c_int, attributes: &[u8]) -> OwnedFd {
    owned(command, call(command, attributes))
}

#[track_caller]
fn owned(command: libc::c_int, fd: libc::c_long) -> OwnedFd {
    assert!(fd >= 0, "bpf({command}): {}", io::Error::last_os_error());
    // SAFETY: the call succeeded, so `fd` is an open descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd.try_into().unwrap()) }
}

fn call(command: libc::c_int, attributes: &[u8]) -> libc::c_long {
    // SAFETY: the attributes are live and as long as the call is told, and the addresses in them are of live memory that the command
    // only reads.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), attributes.len()) }
}

/// A tap with a queue, and what brings frames to it. The kernel lets a queue go some time after its socket.
pub(super) fn fronted(namespace: &Namespace, options: Options<'_>) -> (Tap, Front) {
    namespace.run(|| {
        let (front, mut queue) = (Front::attach(options.interface), None);
        await_that("a queue", || {
            queue = Queue::bind(options.interface, 0).ok();
            queue.is_some()
        });
        let queue = queue.unwrap();
        front.give(&queue);
        let mut tap = Tap::open(Engine::Ring, &options).unwrap();
        assert!(tap.add(queue).is_ok());
        (tap, front)
    })
}

fn near(cable: &Cable) -> (Tap, Front) {
    near_waiting(cable, Duration::from_millis(100))
}

fn near_waiting(cable: &Cable, wait: Duration) -> (Tap, Front) {
    fronted(&cable.near, Options { interface: cable.at_near, wait, ..Options::default() })
}

#[test]
fn frames_of_a_queue_are_rewritten_and_sent_in_order_and_others_come_by_the_ring() {
    let Some(cable) = Cable::new() else { return };
    let ((mut tap, _front), mut far) = (near(&cable), cable.far());
    let mut other = hello(b"not ip");
    other[12..14].copy_from_slice(&[0x88, 0xb5]);
    far.send(cable.at_far, &other);
    let texts: Vec<[u8; 2]> = (0..200_u16).map(u16::to_be_bytes).collect();
    texts.iter().for_each(|text| far.send(cable.at_far, &hello(text)));
    let (mut seen, mut others) = (0, 0);
    await_that("every frame", || {
        tap.receive(|frame| {
            if frame.bytes() == other {
                others += 1;
                return None;
            }
            assert_eq!(frame.bytes(), hello(&texts[seen]), "frame {seen}");
            assert_eq!((frame.tag(), frame.missing(), frame.gso()), (None, None, None));
            assert!(frame.headroom() >= limits::PACKET_HEADROOM, "{}", frame.headroom());
            seen += 1;
            // A tunnel's header, as long as there may be one, and a mark at its beginning.
            let (window, range) = frame.window();
            let start = range.start - limits::PACKET_HEADROOM;
            window.copy_within(range.start..range.start + 14, start);
            window[start + 14..range.start + 14].fill(0xaa);
            assert!(frame.set_range(start..range.end));
            Some(cable.at_near)
        })
        .unwrap();
        (seen, others) == (texts.len(), 1)
    });
    let mut back = 0;
    await_that("every frame back", || {
        far.receive(|frame| {
            let whole = hello(&texts[back]);
            let (header, rest) = frame.bytes().split_at(14);
            assert_eq!(header, &whole[..14], "frame {back}");
            let (tunnel, rest) = rest.split_at(limits::PACKET_HEADROOM);
            assert!(tunnel.iter().all(|byte| *byte == 0xaa) && rest == &whole[14..], "frame {back}");
            back += 1;
            None
        })
        .unwrap();
        back == texts.len()
    });
    let counters = tap.counters();
    assert_eq!((counters.received, counters.sent), (201, 200), "{counters:?}");
}

#[test]
fn a_frame_as_long_as_the_interface_takes_comes_whole() {
    let Some(cable) = Cable::new() else { return };
    for mtu in [1500, 3000] {
        cable.near.sh(&format!("ip link set near mtu {mtu}"));
        cable.far.sh(&format!("ip link set far mtu {mtu}"));
        let ((mut tap, _front), mut far) = (near(&cable), cable.far());
        let text = vec![7; mtu - 28];
        far.send(cable.at_far, &hello(&text));
        assert_eq!(until(&mut tap, &text), [&text[..]], "{mtu}");
        assert_eq!(far.counters().sent, 1, "{mtu}");
    }
}

#[test]
fn workers_have_a_queue_each_or_one_has_both() {
    let Some([near]) = namespaces() else { return };
    near.sh("ip link add near numrxqueues 2 numtxqueues 2 type veth peer name far numrxqueues 2 numtxqueues 2");
    near.sh(&format!("ip link set near address {NEAR} up; ip link set far address {FAR} up"));
    let (at_near, at_far) = (near.index("near"), near.index("far"));
    let options = |interface| Options { interface, wait: Duration::from_millis(1), ..Options::default() };
    let mut peer = near.run(|| Tap::open(Engine::Ring, &options(at_far)).unwrap());
    let front = near.run(|| Front::attach(at_near));
    for workers in [2, 1] {
        let mut taps: Vec<Tap> =
            near.run(|| (0..workers).map(|_| Tap::open(Engine::Ring, &options(at_near)).unwrap()).collect());
        for number in 0..2 {
            await_that("a queue", || {
                let Ok(queue) = near.run(|| Queue::bind(at_near, number)) else { return false };
                front.give(&queue);
                taps[number as usize % workers].add(queue).is_ok()
            });
        }
        let client = Ipv4Addr::new(10, 0, 0, 2);
        (0..200).for_each(|port| peer.send(at_far, &udp(NEAR, [client, VIP], [port, 80], b"one of many")));
        let mut seen = vec![0; workers];
        await_that("every frame", || {
            for (tap, seen) in taps.iter_mut().zip(&mut seen) {
                *seen += tap.receive(|_| None).unwrap();
            }
            seen.iter().sum::<usize>() == 200
        });
        assert!(seen.iter().all(|seen| *seen > 40), "{seen:?}");
    }
}

#[test]
fn a_queue_that_cannot_be_had_says_why() {
    let Some(cable) = Cable::new() else { return };
    cable.near.run(|| {
        let error = |queue| Queue::bind(cable.at_near, queue).err().unwrap();
        let have = Queue::bind(cable.at_near, 0).unwrap();
        assert_eq!(error(7).cause.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(error(0).cause.raw_os_error(), Some(libc::EBUSY));
        assert_eq!(have.number(), 0);
        drop(have);
        await_that("the queue to be free", || Queue::bind(cable.at_near, 0).is_ok());
        let error = Queue::bind(4_000_000, 0).err().unwrap();
        assert_eq!(error.cause.raw_os_error(), Some(libc::ENODEV));
    });
    await_that("a queue", || {
        let Ok(queue) = cable.near.run(|| Queue::bind(cable.at_near, 0)) else { return false };
        assert!(cable.near(Engine::Plain, Options::default()).add(queue).is_err(), "a plain tap takes none");
        true
    });
    cable.near.sh("ip link set near mtu 9000");
    let error = cable.near.run(|| Queue::bind(cable.at_near, 0)).err().unwrap();
    assert!(error.to_string().contains("MTU is 9000"), "{error}");
}

#[test]
fn chunks_come_back_however_many_frames_there_were() {
    let Some(cable) = Cable::new() else { return };
    let ((mut tap, _front), mut far) = (near_waiting(&cable, Duration::from_millis(1)), cable.far());
    let (mut sent, mut received, mut sent_on) = (0, 0, 0_u64);
    while sent < 100_000 {
        (0..64).for_each(|_| far.send(cable.at_far, &hello(b"one of many")));
        sent += 64;
        // A veth with a program has room for 256.
        await_that("every frame", || {
            received += tap
                .receive(|_| {
                    sent_on += 1;
                    (sent_on % 2 == 0).then_some(cable.at_near)
                })
                .unwrap();
            received == sent
        });
        // They are no matter here, and must not fill up.
        while far.receive(|_| None).unwrap_or(0) == limits::PACKET_BATCH {}
    }
    let counters = tap.counters();
    assert_eq!((received as u64, counters.overrun), (far.counters().sent, 0), "{counters:?}");
}

#[test]
fn what_finds_no_chunk_is_counted_and_counted_once() {
    let Some(cable) = Cable::new() else { return };
    let ((mut tap, _front), mut far) = (near(&cable), cable.far());
    await_that("no chunk is left", || {
        (0..200).for_each(|_| far.send(cable.at_far, &hello(b"too many")));
        tap.counters().overrun > 0
    });
    let mut received = 0;
    await_that("nothing is lost uncounted", || {
        received += tap.receive(|_| None).unwrap() as u64;
        // The veth has room for 256, and drops others itself.
        received + tap.counters().overrun + dropped(&cable) == far.counters().sent
    });
    let counters = tap.counters();
    assert_eq!(counters.received, received);
    assert_eq!(tap.counters().overrun, counters.overrun, "told once");
    far.send(cable.at_far, &hello(b"after"));
    until(&mut tap, b"after");
}

/// Frames of the far end that found no room at the near one (`/proc/net/dev`).
fn dropped(cable: &Cable) -> u64 {
    let line = cable.far.sh("grep far: /proc/thread-self/net/dev");
    let counts = line.split_once(':').and_then(|(_, counts)| counts.split_whitespace().nth(11)?.parse().ok());
    counts.unwrap_or_else(|| panic!("{line}"))
}

/// A veth's other end leaves checksums to a card that is not there. The receiving kernel looks at what came, since it is not told that
/// nobody has made it.
#[test]
fn checksums_that_were_left_to_a_card_arrive_right() {
    let Some(middle) = Middle::new() else { return };
    let text = text(500_000);
    for server in ["10.7.0.2:7000", "[fd07::2]:7000"] {
        let server: SocketAddr = server.parse().unwrap();
        let [m0, m1] = middle.ends;
        let macs = [MacAddr([2, 0, 0, 0, 1, 1]), MacAddr([2, 0, 0, 0, 1, 3])];
        let [(there, front_there), (back, front_back)] = [(m0, m1), (m1, m0)].map(|(interface, to)| {
            let options = Options { interface, macs: &macs, wait: Duration::from_millis(5), ..Options::default() };
            let (tap, front) = fronted(&middle.middle, options);
            ((tap, to), front)
        });
        let datagram = [b'u'; 333];
        let passed = middle.carry_by([there, back], Fate::Stay, || {
            assert!(transfer(&middle, server, &text) == text, "{server}: bytes differ");
            let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            let receiver = middle.server.run(|| UdpSocket::bind(server)).unwrap();
            let sender = middle.client.run(|| UdpSocket::bind(any)).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            sender.send_to(&datagram, server).unwrap();
            let mut buffer = [0; 1000];
            let length = receiver.recv(&mut buffer).unwrap();
            assert!(buffer[..length] == datagram, "{server}: {length} bytes came");
        });
        drop((front_there, front_back));
        for Passed { partial, counters, allocated, .. } in passed {
            assert!(partial > 10, "{server}: {partial} were left to a card");
            assert_eq!((counters.overrun, counters.refused, allocated), (0, 0, 0), "{server}: {counters:?}");
        }
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test of how long something waits")]
fn nobody_is_waited_for_longer_than_was_asked_nor_shorter() {
    let Some(cable) = Cable::new() else { return };
    let (mut tap, _front) = near_waiting(&cable, Duration::from_millis(50));
    // What the kernel says when an interface comes up may come by the ring.
    while tap.receive(|_| None).unwrap() > 0 {}
    let start = Instant::now();
    assert_eq!(tap.receive(|_| None).unwrap(), 0);
    let waited = start.elapsed();
    assert!((Duration::from_millis(49)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
}

#[test]
fn an_interface_that_goes_down_says_so_once_and_its_queue_comes_back_with_it() {
    let Some(cable) = Cable::new() else { return };
    let (mut tap, _front) = near_waiting(&cable, Duration::from_millis(10));
    cable.near.sh("ip link set near down");
    assert_eq!(tap.receive(|_| None).unwrap_err().raw_os_error(), Some(libc::ENETDOWN));
    assert_eq!(tap.receive(|_| None).unwrap(), 0, "it says it once");
    cable.near.sh("ip link set near up");
    let mut far = cable.far();
    await_that("the carrier", || {
        far.send(cable.at_far, &hello(b"again"));
        tap.receive(|_| None).unwrap() > 0
    });
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test of how long something waits")]
fn an_interface_that_is_gone_says_so_and_keeps_nobody_busy() {
    let Some(cable) = Cable::new() else { return };
    let wait = Duration::from_millis(20);
    let (mut tap, _front) = near_waiting(&cable, wait);
    cable.far.sh("ip link del far");
    let mut errors = Vec::new();
    await_that("the end", || {
        errors.extend(tap.receive(|_| None).err());
        !errors.is_empty()
    });
    let start = Instant::now();
    errors.extend((0..10).filter_map(|_| tap.receive(|_| None).err()));
    assert!(errors.iter().all(|error| error.raw_os_error() == Some(libc::ENETDOWN)), "{errors:?}");
    let slept = wait * (11 - errors.len() as u32);
    assert!(errors.len() < 4 && start.elapsed() >= slept, "{errors:?} in {:?}", start.elapsed());
    assert_eq!(tap.counters().overrun, 0);
}
