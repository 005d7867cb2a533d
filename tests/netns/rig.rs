//! Strata between hosts, in one of the packet modes, with both families: a VIP, a service and a pool of each.
//!
//! The balancer forwards IP, as every Docker host does: if its kernel were to see packets of the VIP, it would send them on
//! a second time.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use socket2::{Domain, Socket, Type};

use super::binary::Binary;
use super::common::{Metrics, Strata, await_that, skip};
use super::node::{Node, Process, can};
use super::server::{PORT, Server};
use super::talk::ping;
use super::world::{Family, Place, World};

/// How packets reach an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    L2,
    Ipip,
    Gue,
    Nat,
    FullNat,
    L4Nat,
    L4FullNat,
    /// A connection is taken and another one made: no packet mode, held to the same.
    L4Proxy,
}

impl Way {
    /// Whether endpoints have the VIP and answer clients themselves.
    pub fn is_direct(self) -> bool {
        matches!(self, Way::L2 | Way::Ipip | Way::Gue)
    }

    pub fn is_full_nat(self) -> bool {
        matches!(self, Way::FullNat | Way::L4FullNat)
    }

    fn is_l4(self) -> bool {
        matches!(self, Way::L4Nat | Way::L4FullNat | Way::L4Proxy)
    }

    /// A service's keys.
    pub fn mode(self) -> &'static str {
        match self {
            Way::L2 => "mode = \"l2\"",
            Way::Ipip => "mode = \"l3\"\nforward = \"ipip\"",
            Way::Gue => "mode = \"l3\"\nforward = \"gue\"",
            Way::Nat => "mode = \"l3\"\nforward = \"nat\"",
            Way::FullNat => "mode = \"l3\"\nforward = \"full-nat\"",
            Way::L4Nat => "mode = \"l4\"\nforward = \"nat\"",
            Way::L4FullNat => "mode = \"l4\"\nforward = \"full-nat\"",
            Way::L4Proxy => "mode = \"l4\"",
        }
    }

    /// What `setup-endpoint` is asked for, where the endpoint needs anything.
    fn setup(self, place: Place) -> Option<String> {
        let vips = format!("--vip {},{}", Family::V4.vip(), Family::V6.vip());
        match self {
            Way::L2 => Some(format!("--mode l2 {vips}")),
            Way::Ipip => Some(format!("--mode ipip --userspace {vips}")),
            Way::Gue => Some(format!("--mode gue --userspace {vips}")),
            // Behind the balancer it is the gateway already.
            Way::Nat | Way::L4Nat if place == Place::Lan => {
                let [v4, v6] = Family::BOTH.map(Family::balancer);
                Some(format!("--mode nat --balancer {v4},{v6}"))
            }
            _ => None,
        }
    }
}

/// Lines that the test adds to what holds for all packet services, to every VIP and to every service.
#[derive(Clone, Copy, Default)]
pub struct Extra {
    pub packets: &'static str,
    pub vip: &'static str,
    pub service: &'static str,
    /// What the names of pools end with.
    pub pool: &'static str,
    /// Endpoints are taken to be up, and nothing of ours tells them where the balancer is.
    pub unprobed: bool,
    /// It is run through a link, `strata` in its folder, where an upgrade will find something else.
    pub linked: bool,
}

/// Nothing but what Strata does by itself.
pub const NOTHING: Extra = Extra { packets: "", vip: "", service: "", pool: "", unprobed: false, linked: false };
/// Frames come by AF_XDP, where the kernel need not have them.
pub const AF_XDP: Extra = Extra { packets: "io = \"af-xdp\"", ..NOTHING };

impl Extra {
    /// What moves packets where the test does not say: `STRATA_TEST_IO=af-xdp cargo test --test netns` has all hosts speak through that.
    fn packets(self) -> String {
        match std::env::var("STRATA_TEST_IO") {
            Ok(io) if !self.packets.contains("io =") => format!("{}\nio = \"{io}\"", self.packets),
            _ => self.packets.to_owned(),
        }
    }

    pub fn is_af_xdp(self) -> bool {
        self.packets().contains("af-xdp")
    }

    /// The engine that services have by it.
    pub fn engine(self) -> &'static str {
        match self.packets() {
            io if io.contains("af-xdp") => "userspace-af-xdp",
            io if io.contains("pnet") => "userspace-pnet",
            _ => "userspace",
        }
    }

    /// Whether this machine can have such hosts, and frames that come to them so counted; says so where it cannot.
    #[track_caller]
    pub fn can(self, what: &str) -> bool {
        static TAKES: LazyLock<Result<(), String>> = LazyLock::new(|| {
            let socket = Socket::new(Domain::from(libc::AF_XDP), Type::RAW, None);
            socket.map_err(|error| format!("this kernel has no AF_XDP: {error}"))?;
            let counts = Command::new("ethtool").arg("--version").stdout(Stdio::null()).status();
            counts.map(drop).map_err(|error| format!("ethtool: {error}"))
        });
        can(what)
            && (!self.is_af_xdp() || TAKES.as_ref().map_err(|why| skip(&format!("{what}, by AF_XDP"), why)).is_ok())
    }
}

fn by_link(command: &mut std::process::Command) {
    command.env("BEFORE", "BINARY=\"$(dirname \"$2\")/strata\"");
}

/// An endpoint of the pools: which, and its weight.
#[derive(Clone, Copy)]
pub struct Member(pub usize, pub u16);

pub struct Rig {
    pub world: World,
    pub way: Way,
    extra: Extra,
    pub strata: Strata,
    /// One on each endpoint.
    pub servers: Vec<Server>,
    _decapsulators: Vec<Process>,
}

impl Rig {
    /// With `endpoints` hosts, of which the first `members` are in the pools.
    #[track_caller]
    pub fn new(way: Way, place: Place, endpoints: usize, members: usize, extra: Extra) -> Rig {
        Rig::prepared(way, place, endpoints, members, extra, |_| {})
    }

    /// The same, with `before` done before Strata starts.
    #[track_caller]
    pub fn prepared(
        way: Way,
        place: Place,
        endpoints: usize,
        members: usize,
        extra: Extra,
        before: impl FnOnce(&World),
    ) -> Rig {
        assert!(way.is_direct() || place != Place::BehindRouter, "replies would not come back");
        let world = World::new(place, endpoints);
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            world.balancer.set(key, "1");
        }
        let (mut servers, mut decapsulators) = (Vec::new(), Vec::new());
        for (index, host) in world.endpoints.iter().enumerate() {
            decapsulators.extend(prepare(way, place, host));
            // Probes go to the endpoint's own address.
            let mut addresses = Family::BOTH.map(|family| family.endpoint(place, index)).to_vec();
            if way.is_direct() {
                addresses.extend(Family::BOTH.map(Family::vip));
            }
            servers.push(Server::start(host, &addresses, &World::name(index)));
        }
        if way == Way::L4Proxy {
            let [v4, v6] = Family::BOTH.map(Family::vip);
            world.balancer.batch(&format!("address add {v4}/32 dev eth0\naddress add {v6}/128 dev eth0 nodad\n"));
        }
        let all: Vec<Member> = (0..members).map(|index| Member(index, 1)).collect();
        let body = body(way, place, &all, extra);
        before(&world);
        let strata = world.balancer.enter(|| match extra.linked {
            true => Strata::start_with(&body, by_link, |folder| Binary::Real.put(&folder.join("strata"))),
            false => Strata::start(&body),
        });
        let mut rig = Rig { world, way, extra, strata, servers, _decapsulators: decapsulators };
        rig.await_whole(&all);
        if extra.is_af_xdp() {
            rig.await_taking();
        }
        // Tables are built, and neighbours asked for, beside the start.
        for family in Family::BOTH {
            let answers = || ping(&rig.world.router, family.vip(), 8).is_ok();
            await_that(&format!("{} answers", family.vip()), answers);
        }
        rig
    }

    /// Waits until every endpoint has been judged. All that pass their first probe are in the first tables, and nothing moves before
    /// a test moves it. One that is late on a busy machine joins later, by slots that stay marked: then Strata begins again.
    #[track_caller]
    fn await_whole(&mut self, members: &[Member]) {
        if self.extra.unprobed {
            return self.await_up(members.len());
        }
        for _ in 0..3 {
            let mut failed = 0.0;
            await_that("every endpoint has passed a probe", || {
                let metrics = self.scrape();
                let probes = |labels: &[(&str, &str)]| metrics.sum("strata_probes_total", labels);
                // Counted before it can pass another one.
                failed = probes(&[("result", "failed")]);
                Family::BOTH.iter().all(|family| {
                    let pool = format!("{}{}", pool(*family), self.extra.pool);
                    members.iter().all(|Member(index, _)| {
                        let endpoint = word_of(self.way, family.endpoint(self.world.place, *index));
                        probes(&[("pool", &pool), ("endpoint", &endpoint), ("result", "passed")]) > 0.0
                    })
                })
            });
            if failed == 0.0 {
                return;
            }
            println!("{failed} probes failed at the start: once more");
            self.restart_after("TERM");
        }
        panic!("endpoints fail their first probes\n{}", self.strata.log_tail());
    }

    /// Waits until the balancer's interface has an XDP program.
    #[track_caller]
    pub fn await_taking(&self) {
        await_that("eth0 has an XDP program", || has_program(&self.world.balancer, "eth0"));
    }

    /// Frames that XDP programs of the balancer's interfaces have given to sockets so far: they came by AF_XDP, the kernel and the
    /// rings never had them.
    #[track_caller]
    pub fn taken(&self) -> u64 {
        ["eth0", "eth1"].iter().flat_map(|device| taken_by(&self.world.balancer, device)).sum()
    }

    pub fn scrape(&self) -> Metrics {
        self.world.balancer.enter(|| self.strata.scrape())
    }

    /// Puts these endpoints into the pools, and takes the others out, by file and reload.
    #[track_caller]
    pub fn reload(&self, members: &[Member]) {
        self.reload_with(members, &[SOURCE]);
    }

    /// The same, with other addresses for full NAT to show, by their last number.
    #[track_caller]
    pub fn reload_with(&self, members: &[Member], sources: &[u8]) {
        self.strata.rewrite(&body_with(self.way, self.world.place, members, sources, self.extra));
        self.command(&["reload"]);
    }

    /// The same, with other lines for what the rig began with.
    #[track_caller]
    pub fn reload_as(&self, members: &[Member], extra: Extra) {
        self.strata.rewrite(&body(self.way, self.world.place, members, extra));
        self.command(&["reload"]);
    }

    /// Tells both pools to `drain`, `maintain`, `restore` or `weight` an endpoint.
    #[track_caller]
    pub fn tell(&self, word: &str, index: usize, more: &[&str]) {
        for family in Family::BOTH {
            let name = word_of(self.way, family.endpoint(self.world.place, index));
            self.command(&[&[word, pool(family), &name], more].concat());
        }
    }

    /// Runs a command that asks the running Strata.
    #[track_caller]
    pub fn command(&self, words: &[&str]) {
        let admin = self.strata.admin.to_string();
        let said = self.world.balancer.strata(&[words, &["--admin", &admin]].concat());
        let error = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "strata {}: {error}\n{}", words.join(" "), self.strata.log_tail());
    }

    /// Ends Strata by a signal, and starts it again on the same file.
    #[track_caller]
    pub fn restart_after(&mut self, signal: &str) {
        let strata = &mut self.strata;
        self.world.balancer.enter(|| strata.restart_after(signal));
    }

    /// Pulls the wire of an endpoint out, or puts it in again.
    pub fn plug(&self, index: usize, state: &str) {
        self.world.switch.ip(&format!("link set endpoint{index} {state}"));
    }

    /// How often slots of each family's service have moved.
    pub fn moves(&self) -> [usize; 2] {
        let log = self.strata.log();
        Family::BOTH.map(|family| log.matches(&format!("slots moved service=\"{}\"", pool(family))).count())
    }

    /// Waits until the service of each family sends new flows elsewhere than before `moves`.
    #[track_caller]
    pub fn await_moved(&self, moves: [usize; 2]) {
        await_that("slots of both services move", || self.moves().iter().zip(moves).all(|(now, before)| *now > before));
    }

    /// Waits until so many endpoints of each pool are up.
    #[track_caller]
    pub fn await_up(&self, count: usize) {
        self.await_up_of(self.extra, count);
    }

    /// The same after a reload with other lines.
    #[track_caller]
    pub fn await_up_of(&self, extra: Extra, count: usize) {
        for pool in Family::BOTH.map(|family| format!("{}{}", pool(family), extra.pool)) {
            let up = || self.scrape().sum("strata_endpoint_up", &[("pool", &pool)]);
            await_that(&format!("{count} endpoints of {pool} are up"), || up() == count as f64);
        }
    }

    /// What a server sees of a client.
    pub fn seen(&self, client: IpAddr) -> IpAddr {
        let family = if client.is_ipv6() { Family::V6 } else { Family::V4 };
        match self.way {
            way if way.is_full_nat() => source(family, self.world.place, SOURCE),
            // It connects from the address that leads there.
            Way::L4Proxy => family.balancer(),
            _ => client,
        }
    }
}

pub fn pool(family: Family) -> &'static str {
    if family == Family::V6 { "six" } else { "four" }
}

/// What full NAT shows endpoints: an address of their network that no host has.
pub fn source(family: Family, place: Place, last: u8) -> IpAddr {
    let (v4, v6) = if place == Place::BehindBalancer { ("10.1.0.", "fd00:1::") } else { ("10.0.0.", "fd00::") };
    format!("{}{last}", if family == Family::V6 { v6 } else { v4 }).parse().expect("an address")
}

/// Of probes: who is dead is found out in a few seconds, and nobody else, even where a machine is so busy that a probe takes one.
pub const PACE: &str = "interval = \"1s\", timeout = \"1s\", fall = 3";

/// The last number of that address where a test does not say another.
pub const SOURCE: u8 = 3;

/// Whether an interface has a native XDP program, whoever's.
pub fn has_program(host: &Node, device: &str) -> bool {
    String::from_utf8_lossy(&host.run("ip", &["link", "show", "dev", device]).stdout).contains("prog/xdp ")
}

/// Frames that an interface's queues have given to sockets, where there is such an interface.
pub fn taken_by(host: &Node, device: &str) -> Vec<u64> {
    let said = host.run("ethtool", &["-S", device]).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let counts = said.lines().filter_map(|line| line.trim().split_once("_xdp_redirect: "));
    counts.map(|(_, count)| count.parse().expect("a number")).collect()
}

fn word_of(way: Way, address: IpAddr) -> String {
    if way.is_l4() { SocketAddr::new(address, PORT).to_string() } else { address.to_string() }
}

/// Does on an endpoint what its mode needs there.
pub fn prepare(way: Way, place: Place, host: &Node) -> Option<Process> {
    let state = std::env::temp_dir().join(&host.name);
    let wanted = way.setup(place)?;
    let words = format!("setup-endpoint {wanted} --apply --state {}", state.display());
    let said = host.strata(&words.split_whitespace().collect::<Vec<_>>());
    assert!(said.status.success(), "{words}: {}", String::from_utf8_lossy(&said.stderr));
    // The host goes with all its settings: nothing will be taken back.
    std::fs::remove_dir_all(&state).expect("the record");
    let mode = match way {
        Way::Ipip => "ipip",
        Way::Gue => "gue",
        _ => return None,
    };
    let vips = format!("{},{}", Family::V4.vip(), Family::V6.vip());
    let mut process = host.spawn(&["decapsulate", "--mode", mode, "--vip", &vips]);
    process.await_line("decapsulates packets for");
    Some(process)
}

/// What Strata is told.
pub fn body(way: Way, place: Place, members: &[Member], extra: Extra) -> String {
    body_with(way, place, members, &[SOURCE], extra)
}

fn body_with(way: Way, place: Place, members: &[Member], sources: &[u8], extra: Extra) -> String {
    let mut text = String::from("[cluster]\nhash_key = \"4f1c2a9be0d37758a6c4e1902b7d5f63\"\n");
    let _ = writeln!(text, "[packets]\n{}", extra.packets());
    for family in Family::BOTH {
        let (name, vip) = (pool(family), family.vip());
        let (mode, extra_vip, more, end) = (way.mode(), extra.vip, extra.service, extra.pool);
        if way == Way::L4Proxy {
            let listen = SocketAddr::new(vip, PORT);
            let _ = writeln!(text, "[service.{name}]\n{mode}\nlisten = \"{listen}\"\npool = \"{name}{end}\"\n{more}");
        } else {
            let _ = writeln!(text, "[vip.{name}]\naddress = \"{vip}\"\ninterface = \"eth0\"\n{extra_vip}");
            let _ = writeln!(text, "[service.{name}]\n{mode}\nvip = \"{name}\"\npool = \"{name}{end}\"\n{more}");
        }
        if matches!(way, Way::L4Nat | Way::L4FullNat) {
            let _ = writeln!(text, "ports = [\"{PORT}/tcp\", \"{PORT}/udp\"]");
        }
        if way.is_full_nat() {
            let shown: Vec<String> =
                sources.iter().map(|last| format!("\"{}\"", source(family, place, *last))).collect();
            let _ = writeln!(text, "source = [{}]", shown.join(", "));
        }
        let port = if way.is_l4() { String::new() } else { format!(", port = {PORT}") };
        let probe = format!("probe = {{ type = \"tcp\", {PACE}{port} }}");
        let probe = if extra.unprobed { String::new() } else { probe };
        let list: Vec<String> = members
            .iter()
            .map(|Member(index, weight)| {
                let word = word_of(way, family.endpoint(place, *index));
                format!("{{ address = \"{word}\", weight = {weight} }}")
            })
            .collect();
        let _ = writeln!(text, "[pool.{name}{end}]\n{probe}\nendpoints = [{}]", list.join(", "));
    }
    text
}
