//! Engine: tables, and what becomes of them and of flows under reloads.

use std::net::Ipv4Addr;

use super::super::inputs::{Machine, imagined, inputs};
use super::*;
use crate::base::{MacAddr, Network, Weight};
use crate::config::{self, Catalogs};
use crate::flow::decide::{Action, FrameBuf, Shared, Why, decide};
use crate::flow::key;
use crate::flow::tables::{LinkId, Neighbor, Route, Tables};
use crate::state::{Snapshot, Status, Traffic};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{EtherType, Header};
use crate::wire::ip::Protocol;
use crate::wire::tcp::Flags;
use crate::wire::{ipv4, show};

const MACHINE: config::Machine = config::Machine { cores: 1, random_key: HashKey::new([7; 16]) };

/// One packet service `game` over `endpoints`, after `before`.
fn snapshot(balance: &str, endpoints: &str, before: Option<&Snapshot>) -> Snapshot {
    generation(&configuration(balance, endpoints), before)
}

fn configuration(balance: &str, endpoints: &str) -> config::Config {
    let both = if endpoints.contains("fd00") { ", \"fd00::100\"" } else { "" };
    let text = format!(
        "[vip.v]\naddress = [\"10.0.0.100\"{both}]\ninterface = \"eth0\"\n[service.game]\nmode = \"l2\"\nvip = \"v\"\n\
         pool = \"p\"\nslots = 4099\n[pool.p]\nbalance = \"{balance}\"\nendpoints = [{endpoints}]\n"
    );
    let loaded = config::read("test", text.into_bytes(), &crate::doc::Nowhere, &Catalogs::default());
    loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

fn generation(config: &config::Config, before: Option<&Snapshot>) -> Snapshot {
    let empty;
    let before = match before {
        Some(before) => before,
        None => {
            empty = Snapshot::empty(crate::state::Settings {
                workers: 1,
                metrics: None,
                admin: None,
                admin_token: None,
                admin_read_only: false,
                random_key: false,
                hash_key: MACHINE.random_key,
                packet_io: None,
                drain_timeout: std::time::Duration::ZERO,
                watch: false,
                log_level: "info",
                log_json: false,
                log_output: crate::observe::sink::Output::Stderr,
                access_output: crate::observe::sink::Output::Stdout,
                process: crate::state::Process::default(),
            });
            &empty
        }
    };
    config::compile(config, before, &MACHINE).unwrap()
}

fn parts(snapshot: &Snapshot) -> (ServiceId, &PacketSpec, &Arc<Pool>) {
    let service = snapshot.service_named("game").unwrap();
    let Traffic::Packet(spec) = &service.traffic else { panic!("a packet service") };
    (service.id, spec, snapshot.pool(spec.pool).unwrap())
}

fn open(snapshot: &Snapshot, family: Family) -> Book {
    let (id, spec, pool) = parts(snapshot);
    Book::open(id, family, spec, pool)
}

fn set(pool: &Pool, name: &str, change: impl FnOnce(&mut Status)) {
    let endpoint = pool.endpoint(name).unwrap();
    let mut status = endpoint.status();
    change(&mut status);
    endpoint.set_status(status);
    pool.publish();
}

/// Slots by the name of their endpoint.
fn shares(book: &Book) -> std::collections::BTreeMap<String, usize> {
    let mut shares = std::collections::BTreeMap::new();
    for slot in book.slots().current() {
        let name = book.members().get(usize::from(*slot)).and_then(Option::as_ref).map_or("nobody", |e| &*e.name);
        *shares.entry(name.to_owned()).or_default() += 1;
    }
    shares
}

const FOUR: &str = "\"10.0.0.41\", \"fd00::41\", { address = \"10.0.0.42\", weight = 3 }, \"fd00::42\"";

#[test]
fn each_family_has_a_table_of_its_own_endpoints_by_their_weights() {
    let snapshot = snapshot("maglev", FOUR, None);
    let v4 = shares(&open(&snapshot, Family::V4));
    assert_eq!(v4.keys().collect::<Vec<_>>(), ["10.0.0.41", "10.0.0.42"]);
    assert!((1024..=1025).contains(&v4["10.0.0.41"]), "a quarter of 4099: {v4:?}");
    let v6 = shares(&open(&snapshot, Family::V6));
    assert_eq!(v6.keys().collect::<Vec<_>>(), ["fd00::41", "fd00::42"]);
    assert_eq!(shares(&open(&snapshot, Family::Any)).len(), 4);
}

#[test]
fn a_fingerprint_tells_who_has_which_slot_and_not_how_that_came_about() {
    let of = |endpoints: &str, before: Option<&Snapshot>| {
        let snapshot = snapshot("maglev", endpoints, before);
        let book = open(&snapshot, Family::V4);
        (book.fingerprint(), book, snapshot)
    };
    let (plain, ..) = of("\"10.0.0.41\", \"10.0.0.42\"", None);
    assert_eq!(plain, of("\"10.0.0.42\", \"10.0.0.41\"", None).0, "the order of the file");
    let weighted = of("\"10.0.0.41\", { address = \"10.0.0.42\", weight = 2 }", None).0;
    let others = [weighted, of("\"10.0.0.41\"", None).0, of("\"10.0.0.43\"", None).0];
    assert!(others.iter().all(|other| *other != plain) && others[1] != others[2]);

    // Another node that had other endpoints before: its indices are others.
    let (_, mut book, first) = of("\"10.0.0.40\", \"10.0.0.42\"", None);
    let second = snapshot("maglev", "\"10.0.0.42\", \"10.0.0.41\"", Some(&first));
    let (_, spec, pool) = parts(&second);
    pool.endpoints.iter().for_each(|endpoint| set(pool, &endpoint.name, |status| status.health = Health::Up));
    book.follow(spec, pool, Moment::from_millis(1)).unwrap();
    let places: Vec<_> = book.members().iter().map(|member| member.as_ref().map(|e| &*e.name)).collect();
    assert_eq!(places, [None, Some("10.0.0.42"), Some("10.0.0.41")]);
    assert_eq!(book.fingerprint(), plain);
}

#[test]
fn every_picker_fills_every_slot_with_its_shares() {
    for (balance, least) in [
        ("round-robin", 1360),
        ("weighted-round-robin", 1360),
        ("random", 1250),
        ("rendezvous", 1250),
        ("source-hash", 1250),
        // 256 points a member: shares are as even as luck.
        ("ring-hash", 1100),
        ("maglev", 1366),
    ] {
        let snapshot = snapshot(balance, "\"10.0.0.41\", \"10.0.0.42\", \"10.0.0.43\"", None);
        let shares = shares(&open(&snapshot, Family::V4));
        assert_eq!(shares.values().sum::<usize>(), 4099, "{balance}");
        assert!(shares.len() == 3 && shares.values().all(|share| *share >= least), "{balance}: {shares:?}");
    }
    let first = snapshot("first", "\"10.0.0.41\", \"10.0.0.42\"", None);
    assert_eq!(shares(&open(&first, Family::V4)).len(), 1);
}

#[test]
fn whoever_its_source_has_no_more_keeps_its_flows_until_it_is_removed() {
    let endpoints = "\"10.0.0.41\", \"10.0.0.42\"";
    let first = snapshot("maglev", endpoints, None);
    let (_, _, pool) = parts(&first);
    pool.endpoints.iter().for_each(|endpoint| set(pool, &endpoint.name, |status| status.health = Health::Up));
    let mut book = open(&first, Family::V4);
    let mut config = configuration("maglev", endpoints);
    config.pools[0].endpoints[0].leaving = true;
    let second = generation(&config, Some(&first));
    let (_, spec, pool) = parts(&second);
    let left = book.follow(spec, pool, Moment::from_millis(2)).unwrap();
    assert!(left.moved > 2000 && left.marked == left.moved, "as one that drains: {left:?}");
    assert_eq!(shares(&book).keys().collect::<Vec<_>>(), ["10.0.0.42"]);
    let index = book.members().iter().position(|member| member.as_ref().is_some_and(|m| &*m.name == "10.0.0.41"));
    let generation_of = |book: &Book| book.slots().generation(u16::try_from(index.unwrap()).unwrap());
    let before = generation_of(&book);
    assert!(book.slots().lives(u16::try_from(index.unwrap()).unwrap(), before.unwrap(), 6));
    // Removed, its flows are nobody's.
    config.pools[0].endpoints.remove(0);
    let third = generation(&config, Some(&second));
    let (_, spec, pool) = parts(&third);
    book.follow(spec, pool, Moment::from_millis(3)).unwrap();
    assert_ne!(generation_of(&book), before);
    assert_eq!(book.members().iter().flatten().count(), 1);
}

#[test]
fn a_book_follows_what_becomes_of_its_endpoints() {
    let first = snapshot("maglev", "\"10.0.0.41\", \"10.0.0.42\"", None);
    let (_, spec, pool) = parts(&first);
    pool.endpoints.iter().for_each(|endpoint| set(pool, &endpoint.name, |status| status.health = Health::Up));
    let mut book = open(&first, Family::V4);
    let at = Moment::from_millis;
    assert!(book.follow(spec, pool, at(1)).is_none(), "nothing has changed");

    // One drains: no slot names it any more, and those that did remember it.
    set(pool, "10.0.0.41", |status| status.intent = Intent::Draining);
    let drained = book.follow(spec, pool, at(2)).unwrap();
    assert!(drained.moved > 2000 && drained.marked == drained.moved, "{drained:?}");
    assert_eq!(shares(&book).keys().collect::<Vec<_>>(), ["10.0.0.42"]);

    // It returns, and nothing needs to be remembered for longer than a survey takes.
    set(pool, "10.0.0.41", |status| status.intent = Intent::Ready);
    book.follow(spec, pool, at(3)).unwrap();
    assert_eq!(shares(&book).len(), 2);

    // One dies: its flows get other endpoints at once, and its slots have nobody to remember.
    let died = open(&first, Family::V4);
    let mut book = died;
    set(pool, "10.0.0.42", |status| status.health = Health::Down);
    let moved = book.follow(spec, pool, at(4)).unwrap();
    assert!(moved.moved > 2000, "{moved:?}");
    assert_eq!(moved.marked, 0, "on_down = rehash: there is nothing to follow");

    // A weight moves a part; an endpoint that leaves the file is no member any more.
    set(pool, "10.0.0.42", |status| (status.health, status.weight) = (Health::Up, Weight::new(3).unwrap()));
    book.follow(spec, pool, at(5)).unwrap();
    assert!(shares(&book)["10.0.0.42"] > 3000, "{:?}", shares(&book));
    let second = snapshot("maglev", "\"10.0.0.41\"", Some(&first));
    let (_, spec, pool) = parts(&second);
    book.follow(spec, pool, at(6)).unwrap();
    assert_eq!(shares(&book).keys().collect::<Vec<_>>(), ["10.0.0.41"]);
    assert_eq!(book.members().iter().flatten().count(), 1);
}

/// The packet service `game` with these keys over the pool of this name.
fn served(keys: &str, pool: (&str, &str), before: Option<&Snapshot>) -> Snapshot {
    let (name, endpoints) = pool;
    let text = format!(
        "[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"eth0\"\n[service.game]\nvip = \"v\"\npool = \"{name}\"\n{keys}\n\
         [pool.{name}]\nendpoints = [{endpoints}]\n"
    );
    let loaded = config::read("test", text.into_bytes(), &crate::doc::Nowhere, &Catalogs::default());
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let snapshot = generation(&config, before);
    let (_, _, pool) = parts(&snapshot);
    pool.endpoints.iter().for_each(|endpoint| set(pool, &endpoint.name, |status| status.health = Health::Up));
    snapshot
}

/// A book that has followed some snapshots, and what packets have changed.
struct World {
    snapshot: Snapshot,
    book: Book,
    shared: Shared,
    seconds: u64,
}

const INTERFACE: u32 = 2;
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x99]);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

/// Every endpoint's MAC address ends as its IP address does.
fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, last])
}

impl World {
    fn new(keys: &str, pool: (&str, &str)) -> World {
        let snapshot = served(keys, pool, None);
        let (book, shared) = (open(&snapshot, Family::V4), Shared::new(&[[10, 0, 0, 3].into()], MACHINE.random_key));
        World { snapshot, book, shared, seconds: 1000 }
    }

    fn now(&self) -> Moment {
        Moment::from_millis(self.seconds * 1000)
    }

    fn reload(&mut self, keys: &str, pool: (&str, &str)) -> Changed {
        self.snapshot = served(keys, pool, Some(&self.snapshot));
        self.follow().expect("a change")
    }

    fn follow(&mut self) -> Option<Changed> {
        let now = self.now();
        let (_, spec, pool) = parts(&self.snapshot);
        void([(&self.book, spec)], &self.shared.records);
        self.book.follow(spec, pool, now)
    }

    fn set(&mut self, name: &str, change: impl FnOnce(&mut Status)) {
        set(parts(&self.snapshot).2, name, change);
        self.follow();
    }

    /// A segment of the client: the last number of the endpoint that it went to. It went there by the address and by the frame, or the
    /// two are not one.
    fn send(&self, port: u16, flags: Flags, seq: u32) -> Result<u8, Action> {
        let network = Network::parse("10.0.0.0/24").unwrap();
        let link = LinkId::plain(INTERFACE);
        let near = |last: u8| Neighbor { link, address: [10, 0, 0, last].into(), mac: mac(last) };
        let machine = Machine {
            interfaces: vec![("eth0".into(), imagined(INTERFACE, OWN))],
            routes: vec![Route::new(network, link, None)],
            neighbors: (41..50).map(near).collect(),
            ..Machine::default()
        };
        let tables = Tables::build(inputs(&self.snapshot, [&self.book], &machine));
        let mut buffer = vec![0; FrameBuf::HEADROOM];
        buffer.extend(segment(port, flags, seq));
        let len = buffer.len() - FrameBuf::HEADROOM;
        let mut frame = FrameBuf::new(&mut buffer, FrameBuf::HEADROOM, len, INTERFACE).unwrap();
        let verdict = decide(&tables, &self.shared, self.now(), 0, &mut frame);
        let Action::Send { .. } = verdict.action else { return Err(verdict.action) };
        let (to, address) = (frame.bytes()[..6].to_vec(), frame.bytes()[30..34].to_vec());
        let member = self.book.members()[usize::from(verdict.endpoint.unwrap())].as_ref().unwrap();
        assert_eq!((to[5], member.address.ip()), (to[5], [10, 0, 0, to[5]].into()), "{}", show::frame(frame.bytes()));
        let is_translated = verdict.why == Why::Translated;
        assert_eq!(address, if is_translated { vec![10, 0, 0, to[5]] } else { VIP.octets().to_vec() });
        Ok(to[5])
    }

    /// Connections from so many ports, and where they are.
    fn connect(&self, ports: std::ops::Range<u16>) -> Vec<(u16, u8)> {
        let open = |port| (port, self.send(port, Flags::SYN, 1).expect("an endpoint"));
        ports.map(open).collect()
    }

    /// What they get when they go on.
    fn go_on(&self, open: &[(u16, u8)]) -> Vec<Result<u8, Action>> {
        open.iter().map(|(port, _)| self.send(*port, Flags::ACK, 2)).collect()
    }
}

fn segment(port: u16, flags: Flags, sequence: u32) -> Vec<u8> {
    let header = crate::wire::tcp::Header {
        source_port: port,
        destination_port: 80,
        sequence,
        acknowledgment: 1,
        header_len: 20,
        flags,
        window: 1000,
        checksum: 0,
        urgent: 0,
    };
    let mut tcp = header.emit();
    let sum = Sum::pseudo(CLIENT.into(), VIP.into(), key::TCP, tcp.len()).bytes(&tcp).checksum();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let ip = ipv4::Header::new(CLIENT, VIP, Protocol::TCP, 20).emit();
    let ethernet = Header { destination: OWN, source: ROUTER, ether_type: EtherType::IPV4 }.emit();
    [&ethernet[..], &ip, &tcp].concat()
}

const FULL_NAT: &str = "mode = \"l3\"\nforward = \"full-nat\"\nsource = \"10.0.0.3\"\non_down = \"reset\"";
const NAT: &str = "mode = \"l3\"\nforward = \"nat\"\non_down = \"reset\"";
const FRAMES: &str = "mode = \"l2\"\non_down = \"reset\"";
const TIMES: &str = "flow_timeouts = { tcp = \"10m\", other = \"20s\" }";
const FIRST: (&str, &str) = ("p", "\"10.0.0.41\", \"10.0.0.42\"");
/// The one that is in both has another place in it.
const OTHER: (&str, &str) = ("q", "\"10.0.0.42\", \"10.0.0.43\"");

#[test]
fn with_another_pool_flows_stay_on_endpoints_of_both_and_others_are_told_of_their_end() {
    for keys in [FULL_NAT, NAT, FRAMES] {
        let mut world = World::new(keys, FIRST);
        let open = world.connect(1..100);
        assert!([41, 42].iter().all(|last| open.iter().filter(|(_, at)| at == last).count() > 20), "{open:?}");
        world.seconds += 1;
        world.reload(keys, OTHER);
        for ((port, before), after) in open.iter().zip(world.go_on(&open)) {
            let wanted = if *before == 42 { Ok(42) } else { Err(Action::Reply) };
            assert_eq!(after, wanted, "{keys}: port {port} of {before}");
        }
        let newer = world.connect(200..300);
        assert!(newer.iter().any(|(_, at)| *at == 43) && newer.iter().all(|(_, at)| *at != 41), "{keys}: {newer:?}");
    }
}

#[test]
fn another_policy_leaves_every_flow_where_it_is() {
    for keys in [FULL_NAT, NAT, FRAMES] {
        let mut world = World::new(keys, FIRST);
        // One has died before, and its index is of another generation since.
        world.set("10.0.0.41", |status| status.health = Health::Down);
        world.set("10.0.0.41", |status| status.health = Health::Up);
        world.seconds += 1000;
        let survey = Survey::begin(world.book.slots(), world.now());
        world.book.settle(&survey);
        let open = world.connect(1..100);
        world.seconds += 1;
        world.set("10.0.0.42", |status| status.intent = Intent::Draining);
        let marked = world.book.slots().marked();
        assert!(marked > 0 && open.iter().any(|(_, at)| *at == 42));
        world.seconds += 1;
        let changed = world.reload(&format!("{keys}\n{TIMES}"), FIRST);
        assert_eq!(changed, Changed { moved: 0, marked }, "{keys}");
        let stay: Vec<_> = open.iter().map(|(_, at)| Ok(*at)).collect();
        assert_eq!(world.go_on(&open), stay, "{keys}");
    }
}

#[test]
fn who_is_back_when_nobody_is_kept_any_more_keeps_what_was_kept_for_it() {
    for (keys, on_down) in [FULL_NAT, NAT, FRAMES].iter().flat_map(|keys| [(keys, "reset"), (keys, "rehash")]) {
        let with = |on_down: &str| keys.replace("reset", on_down);
        let mut world = World::new(&with("keep"), FIRST);
        let open = world.connect(1..100);
        world.seconds += 1;
        world.set("10.0.0.41", |status| status.health = Health::Down);
        world.seconds += 1;
        // Every endpoint is up in what is read with it.
        world.reload(&with(on_down), FIRST);
        let stay: Vec<_> = open.iter().map(|(_, at)| Ok(*at)).collect();
        assert_eq!(world.go_on(&open), stay, "{keys}, then {on_down}");
        // Whoever is still down then does not.
        world.reload(&with("keep"), FIRST);
        world.set("10.0.0.41", |status| status.health = Health::Down);
        world.seconds += 1;
        world.snapshot = served(&with(on_down), FIRST, Some(&world.snapshot));
        world.set("10.0.0.41", |status| status.health = Health::Down);
        for ((port, before), after) in open.iter().zip(world.go_on(&open)) {
            assert_eq!(
                after == Ok(*before),
                *before == 42,
                "{keys}, then {on_down}: port {port} of {before}: {after:?}"
            );
        }
    }
}

#[test]
fn a_table_of_another_size_leaves_translated_flows_where_they_are() {
    for keys in [FULL_NAT, NAT] {
        let mut world = World::new(keys, FIRST);
        world.set("10.0.0.41", |status| status.health = Health::Down);
        world.set("10.0.0.41", |status| status.health = Health::Up);
        let open = world.connect(1..100);
        world.seconds += 11;
        world.set("10.0.0.42", |status| status.intent = Intent::Draining);
        world.go_on(&open);
        let changed = world.reload(&format!("{keys}\nslots = 4099"), FIRST);
        assert_eq!(changed, Changed { moved: 4099, marked: 0 });
        let stay: Vec<_> = open.iter().map(|(_, at)| Ok(*at)).collect();
        assert_eq!(world.go_on(&open), stay, "{keys}");
    }
}
