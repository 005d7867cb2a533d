//! Probes between real hosts: what they see of an endpoint that goes and returns, and of one that cannot serve.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::common::metrics::get;
use super::common::{PATIENCE, Strata, await_that, holds_within};
use super::node::{Node, Process, can};
use super::rig::{PACE, Way, pool, prepare};
use super::server::{PORT, Server};
use super::talk::ask;
use super::world::{Family, Place, World};

/// What a pool is asked by, and over which endpoints.
struct Asked<'a> {
    pool: &'a str,
    probe: &'a str,
    endpoints: &'a [IpAddr],
}

/// A configuration with a proxy for each pool: probes are what matters.
fn pools(asked: &[Asked<'_>]) -> String {
    let mut text = String::new();
    for (at, Asked { pool, probe, endpoints }) in asked.iter().enumerate() {
        let list: Vec<String> = endpoints.iter().map(|ip| format!("\"{}\"", SocketAddr::new(*ip, 9))).collect();
        let _ = writeln!(
            text,
            "[service.{pool}]\nmode = \"l4\"\nlisten = \"127.0.0.1:{}\"\npool = \"{pool}\"\n[pool.{pool}]\n\
             probe = {{ type = \"{probe}\", {PACE} }}\nendpoints = [{}]",
            20_000 + at,
            list.join(", ")
        );
    }
    text
}

/// Health by endpoint: waits until `pool` has so many up.
#[track_caller]
fn await_up(balancer: &Node, strata: &Strata, pool: &str, count: f64) {
    let up = || balancer.enter(|| strata.scrape().sum("strata_endpoint_up", &[("pool", pool)]));
    await_that(&format!("{count} endpoints of {pool} are up"), || up() == count);
}

/// The same of `pools`' first probes: who was not asked yet serves as well.
#[track_caller]
fn await_passed(balancer: &Node, strata: &Strata, asked: &Asked<'_>) {
    for ip in asked.endpoints {
        let endpoint = SocketAddr::new(*ip, 9).to_string();
        let labels = [("pool", asked.pool), ("endpoint", &*endpoint), ("result", "passed")];
        let passed = || balancer.enter(|| strata.scrape().sum("strata_probes_total", &labels));
        await_that(&format!("{endpoint} of {} passes a probe", asked.pool), || passed() > 0.0);
    }
    await_up(balancer, strata, asked.pool, asked.endpoints.len() as f64);
}

/// What `strata status` says.
fn status(balancer: &Node, strata: &Strata) -> String {
    let said = balancer.strata(&["status", "--admin", &strata.admin.to_string()]);
    String::from_utf8_lossy(&said.stdout).into_owned()
}

#[test]
fn a_host_that_is_cut_off_is_seen_to_go_and_to_return() {
    if !can("icmp and arp probes between real hosts") {
        return;
    }
    let world = World::new(Place::Lan, 2);
    let endpoints = Family::BOTH.map(|family| [0, 1].map(|index| family.endpoint(Place::Lan, index)));
    let [four, six] = &endpoints;
    let asked = [("icmp4", "icmp", four), ("icmp6", "icmp", six), ("arp4", "arp", four), ("arp6", "arp", six)];
    let asked = asked.map(|(pool, probe, endpoints)| Asked { pool, probe, endpoints });
    let strata = world.balancer.enter(|| Strata::start(&pools(&asked)));
    for pool in &asked {
        await_passed(&world.balancer, &strata, pool);
    }
    world.switch.ip("link set endpoint1 down");
    for Asked { pool, .. } in &asked {
        await_up(&world.balancer, &strata, pool, 1.0);
    }
    let said = status(&world.balancer, &strata);
    assert_eq!(said.matches("probe failed: ").count(), 4, "{said}");
    world.switch.ip("link set endpoint1 up");
    for Asked { pool, .. } in &asked {
        await_up(&world.balancer, &strata, pool, 2.0);
    }
}

/// A host that answers no echo request and listens nowhere still has its address.
#[test]
fn a_silent_host_answers_on_its_link_only() {
    if !can("a host that drops echo requests") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    world.endpoints[0].set("net/ipv4/icmp_echo_ignore_all", "1");
    world.endpoints[0].set("net/ipv6/icmp/echo_ignore_all", "1");
    let endpoints = Family::BOTH.map(|family| family.endpoint(Place::Lan, 0));
    let asked = [("icmp", "icmp"), ("arp", "arp"), ("tcp", "tcp")];
    let asked = asked.map(|(pool, probe)| Asked { pool, probe, endpoints: &endpoints });
    let strata = world.balancer.enter(|| Strata::start(&pools(&asked)));
    await_passed(&world.balancer, &strata, &asked[1]);
    let said = || status(&world.balancer, &strata);
    await_that("the others are found out", || said().matches("probe failed: ").count() == 4);
    let said = said();
    assert_eq!(said.matches("timeout after 1s").count(), 2, "{said}");
    assert_eq!(said.matches("connect refused").count(), 2, "{said}");
}

/// One host, one answer to whoever asks for it, and two endpoints: both have their share, and go and return with it.
#[test]
fn two_endpoints_of_one_host_are_each_probed_by_arp_and_each_get_traffic() {
    if !can("two endpoints of one host") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    prepare(Way::L4Nat, Place::Lan, &world.endpoints[0]);
    let mut text = String::from("[cluster]\nhash_key = \"4f1c2a9be0d37758a6c4e1902b7d5f63\"\n");
    let mut servers = Vec::new();
    let names = ["first", "second"];
    for family in Family::BOTH {
        let (pool, vip, host) = (pool(family), family.vip(), family.endpoint(Place::Lan, 0));
        let endpoints = [80, 81].map(|port| SocketAddr::new(host, port).to_string());
        let _ = writeln!(
            text,
            "[vip.{pool}]\naddress = \"{vip}\"\ninterface = \"eth0\"\n\
             [service.{pool}]\nmode = \"l4\"\nforward = \"nat\"\nvip = \"{pool}\"\nports = \"80/tcp\"\npool = \"{pool}\"\n\
             [pool.{pool}]\nprobe = {{ type = \"arp\", {PACE} }}\nendpoints = {endpoints:?}"
        );
        for (endpoint, name) in endpoints.iter().zip(names) {
            let mut echo = world.endpoints[0].spawn(&["echo", "--listen", endpoint, "--name", name]);
            echo.await_line("echo listens on");
            servers.push(echo);
        }
    }
    let strata = world.balancer.enter(|| Strata::start(&text));
    let up = |count| Family::BOTH.map(pool).iter().for_each(|pool| await_up(&world.balancer, &strata, pool, count));
    up(2.0);
    let answers = |family: Family| {
        let asked = |_| world.client.enter(|| get(SocketAddr::new(family.vip(), 80), "/").text());
        let texts: Vec<String> = (0..30).map(asked).collect();
        names.map(|name| texts.iter().any(|text| text.contains(&format!("endpoint {name}\n"))))
    };
    for family in Family::BOTH {
        await_that(&format!("{}: both get traffic", family.word()), || answers(family) == [true; 2]);
    }
    for (family, port) in Family::BOTH.into_iter().flat_map(|family| [(family, 80), (family, 81)]) {
        let endpoint = SocketAddr::new(family.endpoint(Place::Lan, 0), port).to_string();
        let labels = [("pool", pool(family)), ("endpoint", &*endpoint), ("result", "passed")];
        let passed = || world.balancer.enter(|| strata.scrape().sum("strata_probes_total", &labels));
        await_that(&format!("{endpoint} is probed by itself, time and again"), || passed() >= 4.0);
    }
    world.switch.ip("link set endpoint0 down");
    up(0.0);
    world.switch.ip("link set endpoint0 up");
    up(2.0);
    for family in Family::BOTH {
        let first = SocketAddr::new(family.endpoint(Place::Lan, 0), 80).to_string();
        let said = world.balancer.strata(&["drain", pool(family), &first, "--admin", &strata.admin.to_string()]);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let right = holds_within(PATIENCE * 3, || answers(family) == [false, true]);
        assert!(right, "{}: who drains is told by its port\n{}", family.word(), strata.log_tail());
    }
}

#[test]
fn who_is_on_no_link_is_named_so_and_what_a_router_says_is_the_reason() {
    if !can("probes of endpoints behind a router") {
        return;
    }
    let world = World::new(Place::BehindRouter, 1);
    let endpoints = Family::BOTH.map(|family| family.endpoint(Place::BehindRouter, 0));
    // Addresses that the router refuses.
    world.router.ip("route add unreachable 203.0.113.7/32");
    world.router.ip("-6 route add unreachable 2001:db8:7::7/128");
    let refused: [IpAddr; 2] = ["203.0.113.7", "2001:db8:7::7"].map(|text| text.parse().expect("an address"));
    let asked = [
        Asked { pool: "far", probe: "icmp", endpoints: &endpoints },
        Asked { pool: "link", probe: "arp", endpoints: &endpoints },
        Asked { pool: "refused", probe: "icmp", endpoints: &refused },
    ];
    let strata = world.balancer.enter(|| Strata::start(&pools(&asked)));
    await_passed(&world.balancer, &strata, &asked[0]);
    let said = || status(&world.balancer, &strata);
    for gateway in ["10.0.0.1", "fd00::1"] {
        let words = format!("it is on no link of ours: the way to it is through {gateway}");
        await_that(&words, || said().contains(&words));
    }
    // Linux calls the one a host, the other a route that there is not.
    for word in ["host", "network"] {
        let words = format!("probe failed: {word} unreachable");
        await_that(&words, || said().contains(&words));
    }
}

#[test]
fn what_is_not_permitted_is_said_at_the_start() {
    if !can("probes without their capabilities") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    world.balancer.set("net/ipv4/ping_group_range", "1 0");
    let endpoints = [Family::V4.endpoint(Place::Lan, 0)];
    let folder = std::env::temp_dir().join(format!("{}-forbidden", world.balancer.name));
    std::fs::create_dir_all(&folder).expect("a folder");
    for (probe, wanted) in [("icmp", "ping_group_range"), ("arp", "CAP_NET_RAW")] {
        let file = folder.join(format!("{probe}.toml"));
        std::fs::write(&file, pools(&[Asked { pool: "p", probe, endpoints: &endpoints }])).expect("a file");
        let file = file.to_str().expect("a name");
        let binary = env!("CARGO_BIN_EXE_strata");
        let words = ["20", "setpriv", "--bounding-set", "-net_raw", binary, "run", file];
        let output = world.balancer.run("timeout", &words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(wanted) && said.contains("pool p"), "{said}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder");
}

/// Endpoints of a service in direct return, probed through its VIP, of both families. The first is as it should be.
struct Direct {
    world: World,
    strata: Strata,
    _servers: Vec<Server>,
    _decapsulators: Vec<Process>,
}

/// A VIP of both families and what `probe` says, over `endpoints`.
fn direct(way: Way, probe: &str, endpoints: &[IpAddr]) -> String {
    let list: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let (mode, [v4, v6]) = (way.mode(), Family::BOTH.map(Family::vip));
    format!(
        "[cluster]\nhash_key = \"4f1c2a9be0d37758a6c4e1902b7d5f63\"\n\
         [vip.v]\naddress = [\"{v4}\", \"{v6}\"]\ninterface = \"eth0\"\n\
         [service.s]\n{mode}\nvip = \"v\"\npool = \"p\"\n\
         [pool.p]\nprobe = {{ {probe}, through = \"vip\", {PACE} }}\nendpoints = [{}]\n",
        list.join(", ")
    )
}

impl Direct {
    #[track_caller]
    fn new(way: Way, place: Place, before: impl FnOnce(&World)) -> Direct {
        let world = World::new(place, 2);
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            world.balancer.set(key, "1");
        }
        for at in ["all", "default", "eth0"] {
            world.balancer.set(&format!("net/ipv4/conf/{at}/rp_filter"), "1");
        }
        let (mut servers, mut decapsulators) = (Vec::new(), Vec::new());
        for (index, host) in world.endpoints.iter().enumerate() {
            decapsulators.extend(prepare(way, place, host));
            let own = Family::BOTH.map(|family| family.endpoint(place, index));
            let addresses = [own, Family::BOTH.map(Family::vip)].concat();
            servers.push(Server::start(host, &addresses, &World::name(index)));
        }
        before(&world);
        let mut endpoints = Vec::new();
        for family in Family::BOTH {
            endpoints.extend([0, 1].map(|index| family.endpoint(place, index)));
        }
        let text = direct(way, &format!("type = \"tcp\", port = {PORT}"), &endpoints);
        let strata = world.balancer.enter(|| Strata::start(&text));
        Direct { world, strata, _servers: servers, _decapsulators: decapsulators }
    }

    /// Which endpoints are up.
    fn up(&self) -> Vec<IpAddr> {
        let metrics = self.world.balancer.enter(|| self.strata.scrape());
        let is_up = |endpoint: &IpAddr| {
            metrics.sum("strata_endpoint_up", &[("pool", "p"), ("endpoint", &endpoint.to_string())]) == 1.0
        };
        let mut all = Vec::new();
        for family in Family::BOTH {
            all.extend([0, 1].map(|index| family.endpoint(self.world.place, index)));
        }
        all.into_iter().filter(is_up).collect()
    }

    #[track_caller]
    fn await_up(&self, wanted: &[IpAddr]) {
        let what = format!("{wanted:?} are up and no others");
        await_that(&what, || self.up() == wanted);
    }

    /// Who answers clients at a VIP.
    #[track_caller]
    fn answers(&self, family: Family) -> Vec<String> {
        let answer = |_| ask(&self.world.client, family.vip(), 1, 1).expect("an answer").name;
        let mut names: Vec<String> = (0..40).map(answer).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Slots that moved send SYNs for ten seconds where they did before, as those may be repeated ones.
    #[track_caller]
    fn await_answers(&self, family: Family, wanted: &[&str]) {
        let right = holds_within(PATIENCE * 3, || self.answers(family) == wanted);
        assert!(right, "{wanted:?} answer at {}\n{}", family.vip(), self.strata.log_tail());
    }
}

/// Its own address answers all the while. A tunnel carries both families to each endpoint, so either VIP that it lacks takes it
/// out; a frame carries its own.
fn lacks_the_vip(way: Way) {
    if !can(&format!("probes through the VIP of {way:?}")) {
        return;
    }
    let rig = Direct::new(way, Place::Lan, |world| {
        world.endpoints[1].ip("address del 10.0.0.100/32 dev lo");
    });
    let at = |family: Family, index| family.endpoint(Place::Lan, index);
    let [four, six] = Family::BOTH.map(|family| [0, 1].map(|index| at(family, index)));
    let without = if way == Way::L2 { vec![four[0], six[0], six[1]] } else { vec![four[0], six[0]] };
    rig.await_up(&without);
    // Tables and neighbours were not there yet when the first probes began.
    for up in &without {
        let down = |line: &&str| line.contains(&format!("\"{up}\"")) && line.contains("to=\"down\"");
        assert_eq!(rig.strata.log().lines().find(down), None, "it was well all the time");
    }
    for address in [four[1], six[1]] {
        ask_directly(&rig.world.balancer, address);
    }
    let words = "no answer through 10.0.0.100 within 1s: is 10.0.0.100 on its lo";
    await_that("status has the reason", || status(&rig.world.balancer, &rig.strata).contains(words));
    assert_eq!(rig.answers(Family::V4), ["endpoint0"], "clients go to who is up");

    rig.world.endpoints[1].ip("address add 10.0.0.100/32 dev lo");
    rig.await_up(&[four[0], four[1], six[0], six[1]]);
    rig.await_answers(Family::V4, &["endpoint0", "endpoint1"]);

    // The other family, while traffic runs.
    rig.world.endpoints[1].ip("-6 address del fd00::100/128 dev lo");
    rig.await_up(&if way == Way::L2 { vec![four[0], four[1], six[0]] } else { vec![four[0], six[0]] });
    rig.await_answers(Family::V6, &["endpoint0"]);
    assert!(!rig.strata.log().contains("probes cannot be made"), "{}", rig.strata.log());
}

#[track_caller]
fn ask_directly(host: &Node, endpoint: IpAddr) {
    let answer = ask(host, endpoint, 1, 1).expect("its own address answers");
    assert_eq!(answer.name, "endpoint1");
}

#[test]
fn l2_probes_see_that_an_endpoint_lacks_the_vip() {
    lacks_the_vip(Way::L2);
}

#[test]
fn ipip_probes_see_that_an_endpoint_lacks_the_vip() {
    lacks_the_vip(Way::Ipip);
}

#[test]
fn gue_probes_see_that_an_endpoint_lacks_the_vip() {
    lacks_the_vip(Way::Gue);
}

/// No tunnel is taken off on the endpoint: every packet arrives, and none is for anybody there.
#[test]
fn an_endpoint_that_takes_no_tunnels_is_down() {
    if !can("an endpoint that takes no tunnels") {
        return;
    }
    let mut rig = Direct::new(Way::Ipip, Place::Lan, |_| {});
    let [four, six] = Family::BOTH.map(|family| [0, 1].map(|index| family.endpoint(Place::Lan, index)));
    rig.await_up(&[four[0], four[1], six[0], six[1]]);
    drop(rig._decapsulators.pop());
    rig.await_up(&[four[0], six[0]]);
    let said = status(&rig.world.balancer, &rig.strata);
    assert!(said.contains("and are tunnels taken there?") || said.contains("connect failed"), "{said}");
}

/// The request names the VIP, as a client's does, and comes to a server that listens there only.
#[test]
fn an_http_probe_asks_as_a_client_would() {
    if !can("http probes through the VIP") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    prepare(Way::L2, Place::Lan, &world.endpoints[0]);
    let mut echo = world.endpoints[0].spawn(&["echo", "--listen", "10.0.0.100:81"]);
    echo.await_line("echo listens on");
    let probe = |host: &str| format!("type = \"http\", path = \"/\", port = 81, body = \"host: {host}\"");
    let endpoint = Family::V4.endpoint(Place::Lan, 0);
    let text = |host: &str| direct(Way::L2, &probe(host), &[endpoint]).replace(", \"fd00::100\"]", "]");
    let strata = world.balancer.enter(|| Strata::start(&text("10.0.0.100:81")));
    await_up(&world.balancer, &strata, "p", 1.0);
    strata.rewrite(&text("10.0.0.41:81"));
    let reloaded = world.balancer.strata(&["reload", "--admin", &strata.admin.to_string()]);
    assert!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
    await_up(&world.balancer, &strata, "p", 0.0);
    let said = status(&world.balancer, &strata);
    assert!(said.contains("through 10.0.0.100: body does not match"), "{said}");
}

/// A kernel that is strict about sources drops what comes from a VIP that it would look for elsewhere, which is no fault of the
/// endpoints.
#[test]
fn what_this_machine_would_drop_takes_no_endpoint_out() {
    if !can("probes on a machine with a strict rp_filter") {
        return;
    }
    let rig = Direct::new(Way::L2, Place::Lan, |world| {
        world.balancer.batch(
            "link add spare type veth peer name other\nlink set spare up\nlink set other up\n\
             route add 10.0.0.100/32 dev spare\n",
        );
    });
    let [four, six] = Family::BOTH.map(|family| [0, 1].map(|index| family.endpoint(Place::Lan, index)));
    await_that("it is said", || rig.strata.log().contains("probes cannot be made"));
    let words = "cannot be probed: strict rp_filter drops answers of 10.0.0.100 that come by eth0: \
        set `sysctl -w net/ipv4/conf/eth0/rp_filter=2`";
    let said = || status(&rig.world.balancer, &rig.strata);
    // IPv6 has no such check.
    await_that("status has the reason and the cure", || said().matches(words).count() == 2);
    rig.await_up(&[four[0], four[1], six[0], six[1]]);
    // Each is taken to be up after as many tries as would have taken it down.
    rig.await_answers(Family::V4, &["endpoint0", "endpoint1"]);

    // The cure that it names: now the one without the VIP is found out.
    rig.world.balancer.set("net/ipv4/conf/eth0/rp_filter", "2");
    rig.world.endpoints[1].ip("address del 10.0.0.100/32 dev lo");
    rig.await_up(&[four[0], six[0], six[1]]);
    await_that("probes can be made", || !said().contains("cannot be probed"));
}

/// The device, its table and its rules are this process's, and a new configuration without such probes is without them.
#[test]
fn the_device_for_probes_comes_and_goes_with_them() {
    if !can("the device for probes through VIPs") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    let endpoint = [Family::V4.endpoint(Place::Lan, 0)];
    let with = direct(Way::L2, &format!("type = \"tcp\", port = {PORT}"), &endpoint).replace(", \"fd00::100\"]", "]");
    let without = with.replace("through = \"vip\", ", "");
    let count = || {
        let rules = ["-4 rule", "-6 rule"].map(|words| world.balancer.ip(words).matches("fwmark 0x2053").count());
        (world.balancer.ip("-o link").matches(": strata").count(), rules)
    };
    let strata = world.balancer.enter(|| Strata::start(&with));
    assert_eq!(count(), (1, [1, 1]));
    let reload = |text: &str| {
        strata.rewrite(text);
        let said = world.balancer.strata(&["reload", "--admin", &strata.admin.to_string()]);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    };
    reload(&without);
    assert_eq!(count(), (0, [0, 0]));
    reload(&with);
    assert_eq!(count(), (1, [1, 1]));
    strata.signal("KILL");
    await_that("the device goes with its process", || count().0 == 0);
    let next = world.balancer.enter(|| Strata::start(&with));
    assert_eq!(count(), (1, [1, 1]), "what the killed one left is swept");
    assert!(next.terminate().success());
    assert_eq!(count(), (0, [0, 0]));
}
