//! `strata doctor` on real hosts: a healthy one has nothing wrong; each ailment, planted alone, is found; and after exactly the
//! command that was printed it is gone.

use std::process::Output;

use serde_json::Value;

use super::node::{Node, can};
use super::rig::{Extra, NOTHING, Rig, Way};
use super::world::{Family, Place, World};

/// A report, and the exit code.
pub struct Report {
    pub code: i32,
    pub document: Value,
}

impl Report {
    pub fn of(output: &Output) -> Report {
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let document = serde_json::from_str(&said).unwrap_or_else(|broken| panic!("{broken}: {said}{error}"));
        Report { code: output.status.code().unwrap_or(-1), document }
    }

    /// What is wrong with `check`, as far as it names `about`.
    pub fn wrong(&self, check: &str, about: &str) -> Option<&Value> {
        self.of_check(check, about).find(|found| found["severity"] != "ok")
    }

    /// What is said to be well with `check`, as far as it names `about`.
    pub fn well(&self, check: &str, about: &str) -> Option<&Value> {
        self.of_check(check, about).find(|found| found["severity"] == "ok")
    }

    fn of_check(&self, check: &str, about: &str) -> impl Iterator<Item = &Value> {
        let all = self.document["findings"].as_array().into_iter().flatten();
        all.filter(move |found| {
            found["check"] == check && found["about"].as_str().is_some_and(|text| text.contains(about))
        })
    }

    /// How many errors and warnings there are.
    pub fn counts(&self) -> [Option<u64>; 2] {
        ["errors", "warnings"].map(|of| self.document[of].as_u64())
    }
}

impl Rig {
    fn doctor(&self) -> Report {
        let file = self.strata.folder().join("strata.toml");
        Report::of(&self.world.balancer.strata(&["doctor", "--json", file.to_str().expect("a path")]))
    }

    /// The host that a cure is for.
    fn host(&self, found: &Value) -> &Node {
        let Some(name) = found["cure"]["on"].as_str() else { return &self.world.balancer };
        let place = self.world.place;
        let index = (0..self.world.endpoints.len())
            .find(|index| Family::BOTH.iter().any(|family| family.endpoint(place, *index).to_string() == name));
        &self.world.endpoints[index.unwrap_or_else(|| panic!("no endpoint {name}"))]
    }

    /// Runs the printed commands where they belong. `more` is what the note asks for.
    fn mend(&self, found: &Value, more: &str) {
        let host = self.host(found);
        let commands = found["cure"]["commands"].as_array().unwrap_or_else(|| panic!("no command: {found:#}"));
        for command in commands {
            run(host, &format!("{}{more}", command.as_str().expect("a command")));
        }
    }
}

/// A command as a person types it, with `strata` in the path. What it would keep in /run is kept apart, for this is one machine.
#[track_caller]
fn run(host: &Node, command: &str) {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_strata"));
    let state = std::env::temp_dir().join(&host.name);
    let apart =
        if command.contains("setup-endpoint") { format!(" --state {}", state.display()) } else { String::new() };
    let line = format!("PATH={}:$PATH; {command}{apart}", binary.parent().expect("a folder").display());
    let output = host.run("sh", &["-ec", &line]);
    let _ = std::fs::remove_dir_all(state);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_healthy_balancer_has_nothing_wrong_in_any_mode() {
    if !can("`strata doctor` on healthy hosts") {
        return;
    }
    let datagrams = Extra { service: "ports = \"8080/udp\"", ..NOTHING };
    for (way, place, extra) in [
        (Way::L2, Place::Lan, NOTHING),
        (Way::Ipip, Place::Lan, NOTHING),
        (Way::Gue, Place::BehindRouter, NOTHING),
        // Nobody tells anybody of segments.
        (Way::Gue, Place::Lan, datagrams),
        (Way::Nat, Place::Lan, NOTHING),
        (Way::L4Nat, Place::BehindBalancer, NOTHING),
        (Way::FullNat, Place::BehindBalancer, NOTHING),
    ] {
        let rig = Rig::new(way, place, 2, 2, extra);
        let report = rig.doctor();
        assert_eq!((report.code, report.counts()), (0, [Some(0); 2]), "{way:?} {place:?}: {:#}", report.document);
        let unknown =
            report.document["findings"].as_array().unwrap().iter().find(|found| found["severity"] == "unknown");
        assert!(unknown.is_none(), "{way:?} {place:?}: {:#}", report.document);
        // Replies come in by the other interface, which is looked at as much as the VIP's.
        let is_behind = !way.is_direct() && place == Place::BehindBalancer;
        for (check, about) in [("interface", "eth1 is up"), ("offloads", "eth1 has no LRO"), ("kernel", "out of eth1")]
        {
            let found = report.well(check, about);
            assert_eq!(found.is_some(), is_behind, "{way:?} {place:?} {check}: {:#}", report.document);
        }
    }
}

/// Who is sick, of what, which check finds it, and by which words.
type Ailment = (fn(&World), &'static str, &'static str, &'static str);

/// Plants each, sees it found, runs what was printed, and sees it gone. `more` goes behind the command, as its note says.
fn cured(rig: &Rig, ailments: &[Ailment], more: &str) {
    for (plant, check, about, command) in ailments {
        plant(&rig.world);
        let report = rig.doctor();
        let Some(found) = report.wrong(check, about) else { panic!("{check}, {about}: {:#}", report.document) };
        let printed = found["cure"]["commands"][0].as_str().unwrap_or_default();
        assert!(printed.starts_with(command), "{check}: {printed:?}, not {command:?}");
        assert_eq!(report.code, i32::from(found["severity"] == "error"), "{check}");
        rig.mend(found, more);
        let report = rig.doctor();
        assert!(report.wrong(check, about).is_none(), "{check}, {about}: {printed} left it: {:#}", report.document);
    }
}

#[test]
fn each_ailment_of_direct_return_is_found_and_cured_by_the_printed_command() {
    if !can("ailments of l2") {
        return;
    }
    let rig = Rig::new(Way::L2, Place::Lan, 2, 2, Extra::default());
    cured(
        &rig,
        &[
            (
                |world| drop(world.endpoints[0].ip("address del 10.0.0.100/32 dev lo")),
                "vip-on-endpoint",
                "endpoint 10.0.0.41 answers, but not packets for 10.0.0.100",
                "strata setup-endpoint --mode l2 --vip 10.0.0.100 --apply",
            ),
            (
                |world| drop(world.endpoints[1].ip("address del fd00::100/128 dev lo")),
                "vip-on-endpoint",
                "endpoint fd00::42 answers, but not packets for fd00::100",
                "strata setup-endpoint --mode l2 --vip fd00::100 --apply",
            ),
            (
                |world| {
                    ["all", "eth0"]
                        .iter()
                        .for_each(|on| world.endpoints[1].set(&format!("net/ipv4/conf/{on}/arp_ignore"), "0"))
                },
                "vip-owner",
                "endpoint 10.0.0.42",
                "strata setup-endpoint --mode l2 --vip 10.0.0.100 --apply",
            ),
            (
                |world| drop(world.balancer.ip("address add 10.0.0.100/32 dev lo")),
                "vip-here",
                "10.0.0.100 is on lo of this host",
                "ip address del 10.0.0.100/32 dev lo",
            ),
            (
                |world| drop(world.balancer.ip("address add fd00::100/128 dev eth0 nodad")),
                "vip-here",
                "fd00::100 is on eth0 of this host",
                "ip address del fd00::100/128 dev eth0",
            ),
        ],
        "",
    );
    assert_eq!(rig.doctor().code, 0, "{:#}", rig.doctor().document);
    // Who cannot be named by the file has no command, but a MAC address.
    for family in Family::BOTH {
        let vip = family.vip();
        let (bits, quiet) = if vip.is_ipv6() { (64, "nodad") } else { (24, "") };
        rig.world.near.ip(&format!("address add {vip}/{bits} dev eth0 {quiet}"));
        let report = rig.doctor();
        let mac = World::mac(&rig.world.near);
        let about = format!("{vip} is answered for by {mac} on eth0, a stranger");
        assert!(report.wrong("vip-owner", &about).is_some() && report.code == 1, "{:#}", report.document);
        rig.world.near.ip(&format!("address del {vip}/{bits} dev eth0"));
    }
    rig.world.endpoints[0].ip("link set eth0 down");
    let report = rig.doctor();
    assert!(report.wrong("neighbor", "endpoint 10.0.0.41 does not answer on eth0").is_some(), "{:#}", report.document);
    assert!(report.wrong("vip-on-endpoint", "10.0.0.41").is_none(), "one fault, one finding: {:#}", report.document);
    // Last, for it takes IPv6 addresses with it.
    let down: Ailment =
        (|world| drop(world.balancer.ip("link set eth0 down")), "interface", "eth0 is down", "ip link set eth0 up");
    cured(&rig, &[down], "");
}

#[test]
fn each_ailment_of_nat_is_found_and_cured_by_the_printed_command() {
    if !can("ailments of NAT") {
        return;
    }
    let rig = Rig::new(Way::Nat, Place::Lan, 2, 2, Extra::default());
    cured(
        &rig,
        &[
            (
                |world| drop(world.endpoints[0].ip("route replace default via 10.0.0.1 dev eth0")),
                "gateway",
                "replies of endpoint 10.0.0.41",
                "strata setup-endpoint --mode nat --balancer 10.0.0.2 --apply",
            ),
            (
                |world| drop(world.endpoints[1].ip("-6 route replace default via fd00::1 dev eth0 metric 1")),
                "gateway",
                "replies of endpoint fd00::42",
                "strata setup-endpoint --mode nat --balancer fd00::2 --apply",
            ),
        ],
        "",
    );
    assert_eq!(rig.doctor().code, 0, "{:#}", rig.doctor().document);
    // Without ports nothing that endpoints send of their own goes on, whatever the kernel may.
    let stop = |world: &World| {
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            world.balancer.set(key, "0");
        }
    };
    stop(&rig.world);
    assert_eq!(rig.doctor().counts(), [Some(0); 2], "{:#}", rig.doctor().document);
    let rig = Rig::new(Way::L4Nat, Place::BehindBalancer, 1, 1, Extra::default());
    cured(
        &rig,
        &[
            (stop, "gateway", "net/ipv4/ip_forward is 0", "sysctl -w net/ipv4/ip_forward=1"),
            (
                |world| world.balancer.set("net/ipv6/conf/all/forwarding", "0"),
                "gateway",
                "net/ipv6/conf/all/forwarding is 0",
                "sysctl -w net/ipv6/conf/all/forwarding=1",
            ),
            (
                |world| world.balancer.set("net/ipv4/conf/eth1/forwarding", "0"),
                "gateway",
                "net/ipv4/conf/eth1/forwarding is 0",
                "sysctl -w net/ipv4/conf/eth1/forwarding=1",
            ),
        ],
        "",
    );
    assert_eq!(rig.doctor().counts(), [Some(0); 2], "{:#}", rig.doctor().document);
    let rig = Rig::new(Way::FullNat, Place::Lan, 1, 1, Extra::default());
    for (source, bits) in [("10.0.0.3", 24), ("fd00::3", 64)] {
        let quiet = if bits == 64 { "nodad" } else { "" };
        rig.world.near.ip(&format!("address add {source}/{bits} dev eth0 {quiet}"));
        let report = rig.doctor();
        let about = format!("is {}'s", World::mac(&rig.world.near));
        assert!(report.wrong("source", &about).is_some() && report.code == 1, "{:#}", report.document);
        rig.world.near.ip(&format!("address del {source}/{bits} dev eth0"));
    }
    assert_eq!(rig.doctor().code, 0, "{:#}", rig.doctor().document);
    // Which cure is the operator's choice: a route elsewhere, or another mode.
    rig.world.balancer.ip("tuntap add tunnel mode tun");
    rig.world.balancer.batch("link set tunnel up\nroute add 10.0.0.41/32 dev tunnel\n");
    let report = rig.doctor();
    let about = "endpoint 10.0.0.41 is reached by tunnel, which is no Ethernet interface";
    assert!(report.wrong("route", about).is_some() && report.code == 1, "{:#}", report.document);
    rig.world.balancer.ip("link del tunnel");
    assert_eq!(rig.doctor().code, 0, "{:#}", rig.doctor().document);
}

#[test]
fn each_ailment_of_a_tunnel_is_found_and_cured_by_the_printed_command() {
    if !can("ailments of tunnels") {
        return;
    }
    for (way, mode) in [(Way::Ipip, "ipip"), (Way::Gue, "gue")] {
        let rig = Rig::new(way, Place::Lan, 2, 2, Extra::default());
        let plain = |world: &World| {
            world.endpoints[0].ip("route replace 10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.41");
        };
        let command: &'static str = if mode == "gue" {
            "strata setup-endpoint --mode gue --vip 10.0.0.100 --apply"
        } else {
            "strata setup-endpoint --mode ipip --vip 10.0.0.100 --apply"
        };
        let segments: Ailment = (plain, "advmss", "endpoint 10.0.0.41 tells clients of 10.0.0.100", command);
        let narrow = |world: &World| drop(world.balancer.ip("route add 10.0.0.41/32 dev eth0 mtu 1380"));
        let command_narrow: &'static str = if mode == "gue" {
            "strata setup-endpoint --mode gue --vip 10.0.0.100 --mtu 1380 --apply"
        } else {
            "strata setup-endpoint --mode ipip --vip 10.0.0.100 --mtu 1380 --apply"
        };
        let narrow: Ailment = (narrow, "advmss", "endpoint 10.0.0.41 tells clients of 10.0.0.100", command_narrow);
        let missing: Ailment = (
            |world| drop(world.endpoints[1].ip("address del 10.0.0.100/32 dev lo")),
            "vip-on-endpoint",
            "endpoint 10.0.0.42 answers, but not packets for 10.0.0.100",
            command,
        );
        // The note says so: this kernel has no tunnels.
        cured(&rig, &[segments, narrow, missing], " --userspace");
        assert_eq!(rig.doctor().code, 0, "{:#}", rig.doctor().document);
    }
}

#[test]
fn an_endpoint_finds_its_own_ailments() {
    if !can("`strata doctor --endpoint`") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    let host = &world.endpoints[0];
    let doctor = |words: &str| {
        let words: Vec<&str> = ["doctor", "--json", "--endpoint"].into_iter().chain(words.split_whitespace()).collect();
        Report::of(&host.strata(&words))
    };
    // The VIP where it must not be: two commands, one after the other.
    host.ip("address add 10.0.0.100/24 dev eth0");
    for (words, check, about) in [
        ("--mode l2 --vip 10.0.0.100,fd00::100", "vip-on-lo", "10.0.0.100 is on eth0, where this host answers for it"),
        ("--mode gue --vip 10.0.0.100,fd00::100 --userspace", "advmss", "route without advmss"),
        ("--mode nat --balancer 10.0.0.2,fd00::2", "gateway", "the default route does not lead to the balancer"),
    ] {
        let report = doctor(words);
        let Some(found) = report.wrong(check, about) else { panic!("{words}: {:#}", report.document) };
        assert_eq!(report.code, 1, "{words}");
        for command in found["cure"]["commands"].as_array().expect("commands") {
            run(host, command.as_str().expect("a command"));
        }
        let report = doctor(words);
        assert_eq!((report.code, &report.document["errors"]), (0, &0.into()), "{words}: {:#}", report.document);
    }
    for (words, said) in [
        ("doctor --endpoint", "--mode"),
        ("doctor --endpoint --mode l2", "needs `--vip ADDRESS`"),
        ("doctor --mode l2 --vip 10.0.0.100", "--endpoint"),
        ("doctor --endpoint --mode l2 --vip 10.0.0.100 --interface eht0", "there is no interface eht0"),
    ] {
        let output = host.strata(&words.split_whitespace().collect::<Vec<_>>());
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && text.contains(said), "{words}: {text}");
    }
}

/// Doctor is for hosts on which something is wrong, so it says what it can where it may little.
#[test]
fn without_privileges_or_a_running_strata_it_says_what_it_can() {
    if !can("`strata doctor` where little works") {
        return;
    }
    let rig = Rig::new(Way::L2, Place::Lan, 1, 1, Extra::default());
    let file = rig.strata.folder().join("strata.toml");
    let file = file.to_str().expect("a path");
    let binary = env!("CARGO_BIN_EXE_strata");
    let words = ["--bounding-set", "-net_raw,-net_admin", binary, "doctor", "--json", file];
    let report = Report::of(&rig.world.balancer.run("setpriv", &words));
    for name in ["NET_RAW", "NET_ADMIN"] {
        assert!(report.wrong("capabilities", name).is_some(), "{:#}", report.document);
    }
    assert!(report.code == 1 && report.wrong("vip-owner", "could not be asked").is_some(), "{:#}", report.document);

    // A Strata that is killed leaves the kernel shut out, and the command that opens it again.
    let pid = rig.strata.pid().to_string();
    rig.strata.signal("KILL");
    super::common::await_that("it is gone", || super::node::born(rig.strata.pid()).is_none() || dead(&pid));
    // Its threads may end after it, and with them what shows that it lives.
    let mut report = rig.doctor();
    super::common::await_that("the kernel is found to be shut out", || {
        report = rig.doctor();
        report.wrong("kernel", "packets for VIPs are dropped on eth0").is_some()
    });
    rig.mend(report.wrong("kernel", "packets for VIPs are dropped on eth0").expect("what was just found"), "");
    let report = rig.doctor();
    assert_eq!(report.code, 0, "{:#}", report.document);
    assert!(report.wrong("kernel", "").is_none(), "{:#}", report.document);

    // Without a file: this host alone.
    let report = Report::of(&rig.world.balancer.strata(&["doctor", "--json"]));
    assert_eq!(report.code, 0, "{:#}", report.document);
}

/// Whether the process has ended and its parent has not looked yet.
fn dead(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| text.contains(") Z "))
}
