//! Shell: a worker over a real tap, in a network of its own.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread;

use super::super::books::Book;
use super::super::inputs::{Machine, imagined, inputs};
use super::super::roster::Roster;
use super::*;
use crate::base::{HashKey, MacAddr, Network};
use crate::config::{self, Catalogs};
use crate::flow::tables::{LinkId, Route, Tables};
use crate::state::{Family, Snapshot, Traffic};
use crate::sys::allocation::taken;
use crate::sys::classify::Rule;
use crate::sys::netns::{await_that, namespaces};
use crate::sys::packet::{Engine, Options};
use crate::sys::xdp;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Header;
use crate::wire::ip::Protocol;
use crate::wire::ipv4;

const NEAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const FAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

/// The MAC address of one endpoint is known, and that of the other will never be.
const TEXT: &str = "[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"near\"\n[service.game]\nmode = \"l2\"\nvip = \"v\"\n\
    ports = \"80/udp\"\npool = \"p\"\n[pool.p]\nendpoints = [{ address = \"10.0.0.41\", mac = \"02:00:00:00:00:02\" }, \
    \"10.0.0.42\"]\n";

fn snapshot() -> Snapshot {
    let loaded = config::read("test", TEXT.as_bytes().to_vec(), &crate::doc::Nowhere, &Catalogs::default());
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let machine = config::Machine { cores: 1, random_key: HashKey::new([7; 16]) };
    config::compile(&config, &Snapshot::empty(crate::net::rig::settings()), &machine).expect("a snapshot")
}

fn force(interface: u32) -> Force {
    let snapshot = Arc::new(snapshot());
    let service = snapshot.service_named("game").expect("the service");
    let Traffic::Packet(spec) = &service.traffic else { panic!("a packet service") };
    let book = Book::open(service.id, Family::V4, spec, snapshot.pool(spec.pool).expect("its pool"));
    let network = Network::parse("10.0.0.0/24").expect("a network");
    let machine = Machine {
        interfaces: vec![("near".into(), imagined(interface, NEAR))],
        routes: vec![Route::new(network, LinkId::plain(interface), None)],
        ..Machine::default()
    };
    let tables = Tables::build(inputs(&snapshot, [&book], &machine));
    Force { tables, roster: Roster::new([&book]), snapshot }
}

fn udp(source: u16, destination: u16) -> Vec<u8> {
    udp_to(VIP, source, destination)
}

fn udp_to(address: Ipv4Addr, source: u16, destination: u16) -> Vec<u8> {
    let mut datagram = [source.to_be_bytes(), destination.to_be_bytes(), [0, 9], [0, 0]].concat();
    datagram.push(7);
    let sum = Sum::pseudo(CLIENT.into(), address.into(), 17, datagram.len()).bytes(&datagram).checksum();
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    let length = u16::try_from(datagram.len()).expect("short");
    let ip = ipv4::Header::new(CLIENT, address, Protocol::UDP, length).emit();
    let ethernet = Header { destination: NEAR, source: FAR, ether_type: EtherType::IPV4 }.emit();
    [&ethernet[..], &ip, &datagram].concat()
}

fn arp() -> Vec<u8> {
    let mut frame = Header { destination: MacAddr([0xff; 6]), source: FAR, ether_type: EtherType::ARP }.emit().to_vec();
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(FAR.0.into_iter().chain([10, 0, 0, 7]).chain([0; 6]).chain(VIP.octets()));
    frame
}

/// A worker on the interface `near`, what it is asked by, and what it tells the control side, of which so much finds room.
fn post(near: u32, room: usize) -> (Post, Sender<Ask>, Receiver<Order>) {
    let (control, orders) = sync_channel(room);
    let (asks, asked) = channel();
    let packets = Arc::new(Packets::default());
    let post = Post {
        id: WorkerId(0),
        interface: near,
        force: Arc::new(ArcSwap::from_pointee(force(near))),
        shared: Arc::new(Shared::new(&[], HashKey::new([1; 16]))),
        control,
        packets: packets.clone(),
        meter: Meter::new(&packets.interface(&"near".into())),
        asked,
        stop: Arc::default(),
        beat: packets.beats.begin("the worker", clock::now()),
    };
    (post, asks, orders)
}

/// Has a worker end, also where its test fails before: whoever waits for it would wait for ever.
struct End(Arc<AtomicBool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Of one worker's whole life, for so many frames that are forwarded, answered, dropped, or have the control side told.
fn allocations(rounds: u16) -> Option<u64> {
    let [near, far] = namespaces()?;
    near.cable(("near", NEAR), &far, ("far", FAR));
    let (at_near, at_far) = (near.index("near"), far.index("far"));
    let open = |interface| Options { interface, wait: Duration::from_millis(10), ..Options::default() };
    let tap = near.run(|| Tap::open(Engine::Ring, &open(at_near)).expect("a tap"));
    let mut peer = far.run(|| Tap::open(Engine::Ring, &open(at_far)).expect("a tap"));
    // What each packet has to tell would find room.
    let (post, _asks, orders) = post(at_near, usize::from(rounds));
    let packets = post.packets.clone();
    let (stop, service) = (post.stop.clone(), post.force.load().snapshot.service_named("game").cloned()?);
    let counted = |reason| service.kept.cells.sum(|row| row.dropped(reason));
    let forwarded = || service.kept.cells.sum(|row| row.packets.get());
    let allocated = thread::scope(|scope| {
        let end = End(stop);
        let worker = scope.spawn(|| {
            // The first look at a swapped pointer makes this thread known to its writers.
            drop(post.force.load());
            let before = taken();
            post.run(tap);
            taken() - before
        });
        for round in 1..=rounds {
            // Answered before what comes after it is counted.
            for frame in [arp(), udp(1000 + round, 80), udp(1000 + round, 81)] {
                peer.send(at_far, &frame);
            }
            // Fewer than the ring has slots.
            if round % 100 == 0 || round == rounds {
                let all = u64::from(round);
                await_that("every datagram is decided", || forwarded() + counted(Reason::NoNeighbor) == all);
                await_that("what nobody serves is dropped", || packets.strays.dropped(Reason::NoService) == all);
            }
        }
        drop(end);
        worker.join().expect("the worker")
    });
    assert!(forwarded() > 0, "{} of {rounds} forwarded", forwarded());
    let (asked, told) = (counted(Reason::NoNeighbor), orders.try_iter().count() as u64);
    assert!(0 < told && told < asked, "{told} events are told of {asked} packets without a next hop");
    assert_eq!(packets.events_lost.get(), 0);
    let sent = packets.interface(&"near".into()).sent.get();
    assert_eq!(sent, forwarded() + u64::from(rounds), "what is forwarded and the answers to ARP");
    Some(allocated)
}

#[test]
fn a_worker_allocates_nothing_for_what_it_forwards_answers_drops_and_tells() {
    let Some(allocated) = allocations(1000) else { return };
    assert_eq!(allocated, 0);
}

/// A VIP that a reload has removed, while the program before the interface is still that of before.
#[test]
fn what_is_the_kernels_and_was_taken_from_it_is_counted_and_what_it_has_too_is_not() {
    let Some([near, far]) = namespaces() else { return };
    near.cable(("near", NEAR), &far, ("far", FAR));
    let (at_near, at_far) = (near.index("near"), far.index("far"));
    let open = |interface| Options { interface, wait: Duration::from_millis(10), ..Options::default() };
    let tap = near.run(|| Tap::open(Engine::Ring, &open(at_near)).expect("a tap"));
    let mut peer = far.run(|| Tap::open(Engine::Ring, &open(at_far)).expect("a tap"));
    let (gone, other) = (Ipv4Addr::new(10, 0, 0, 101), Ipv4Addr::new(10, 0, 0, 102));
    let (front, queue) = near.run(|| {
        let front = xdp::Front::new(at_near, &[Rule::to(gone.into())], &[]).expect("a program");
        (front, Queue::bind(at_near, 0).expect("a queue"))
    });
    let (post, asks, _orders) = post(at_near, 1);
    let (stop, packets) = (post.stop.clone(), post.packets.clone());
    thread::scope(|scope| {
        let end = End(stop);
        let worker = scope.spawn(|| post.run(tap));
        let socket = queue.as_fd().try_clone_to_owned().expect("a descriptor");
        let (done, had) = oneshot::channel();
        asks.send(Ask::Add { queue, done }).expect("a worker");
        had.blocking_recv().expect("the worker has the queue");
        front.give(0, socket.as_fd()).expect("a place");
        for address in [other, gone, VIP] {
            peer.send(at_far, &udp_to(address, 1000, 81));
        }
        await_that("the last is decided", || packets.strays.dropped(Reason::NoService) == 1);
        await_that("what was taken is counted", || packets.strays.dropped(Reason::TakenAmiss) == 1);
        drop(end);
        worker.join().expect("the worker");
    });
    assert_eq!(packets.strays.dropped(Reason::TakenAmiss), 1);
}
