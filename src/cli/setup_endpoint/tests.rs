//! What each mode needs of an endpoint, from what the endpoint is like, as commands.

use std::collections::BTreeMap;

use super::plan::{Assigned, Change, Facts, Need, Wish, plan};
use super::{Mode, Wants, render};

fn facts(routes: &[&str]) -> Facts {
    let assigned = |device: &str, address: &str, prefix| Assigned {
        device: device.into(),
        address: address.parse().unwrap(),
        prefix,
    };
    Facts {
        mtu: 1500,
        addresses: vec![
            assigned("lo", "127.0.0.1", 8),
            assigned("eth0", "10.0.0.41", 24),
            assigned("eth0", "fe80::1", 64),
            assigned("eth0", "fd00::41", 64),
        ],
        routes: routes.iter().map(|line| (*line).to_owned()).collect(),
        devices: vec!["lo".into(), "eth0".into()],
        gue: [false, false],
        sysctls: ["all", "eth0"]
            .iter()
            .flat_map(|device| ["arp_ignore", "arp_announce"].map(|name| format!("net/ipv4/conf/{device}/{name}")))
            .map(|key| (key, "0".to_owned()))
            .collect::<BTreeMap<_, _>>(),
    }
}

fn wish(mode: Mode, address: &str, outer_ipv6: bool) -> Wish {
    Wish { mode, address: address.parse().unwrap(), interface: "eth0".into(), outer_ipv6, userspace: false, mtu: None }
}

fn commands(needs: &[Need]) -> Vec<String> {
    needs.iter().filter(|need| !need.done).flat_map(|need| need.change.commands()).collect()
}

const QUIET: [&str; 4] = [
    "sysctl -w net/ipv4/conf/all/arp_ignore=1",
    "sysctl -w net/ipv4/conf/all/arp_announce=2",
    "sysctl -w net/ipv4/conf/eth0/arp_ignore=1",
    "sysctl -w net/ipv4/conf/eth0/arp_announce=2",
];
const DEFAULT: &str = "default via 10.0.0.1 dev eth0";
const DEFAULT6: &str = "default via fd00::1 dev eth0 metric 1024 pref medium";

fn quiet_and<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&QUIET[..], rest].concat()
}

#[test]
fn each_mode_needs_what_the_table_says() {
    let narrow = |mtu| Wish { userspace: true, mtu: Some(mtu), ..wish(Mode::Ipip, "10.0.0.100", false) };
    let told = |to: &'static str| quiet_and(&["ip address add 10.0.0.100/32 dev lo", to]);
    let cases: [(Wish, &[&str], Vec<&str>); 10] = [
        (narrow(1380), &[DEFAULT], told("ip route replace default via 10.0.0.1 dev eth0 advmss 1320")),
        (narrow(9000), &[DEFAULT], told("ip route replace default via 10.0.0.1 dev eth0 advmss 1440")),
        (wish(Mode::L2, "10.0.0.100", false), &[DEFAULT], quiet_and(&["ip address add 10.0.0.100/32 dev lo"])),
        (
            wish(Mode::L2, "fd00::100", true),
            &[DEFAULT6],
            vec!["ip -6 address add fd00::100/128 dev lo nodad preferred_lft 0"],
        ),
        (
            wish(Mode::Ipip, "10.0.0.100", false),
            &[DEFAULT, "10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.41"],
            [
                &[
                    "ip link add strata-4in4 type ipip local 10.0.0.41",
                    "ip address add 127.0.0.42/32 dev strata-4in4",
                    "ip link set strata-4in4 up",
                    "sysctl -w net/ipv4/conf/strata-4in4/rp_filter=2",
                ],
                &QUIET[..],
                &[
                    "ip address add 10.0.0.100/32 dev lo",
                    "ip route replace default via 10.0.0.1 dev eth0 advmss 1440",
                    "ip route replace 10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.41 advmss 1440",
                ],
            ]
            .concat(),
        ),
        (
            wish(Mode::Gue, "fd00::100", false),
            // Neither a multicast route, nor another interface's, nor one that a router announces.
            &[
                DEFAULT6,
                "fe80::/64 dev eth0 proto kernel metric 256 pref medium",
                "fd00:9::/64 dev eth1 metric 1024",
                "default via fe80::9 dev eth0 proto ra metric 100",
                "unreachable fd00:8::/64 dev eth0",
            ],
            vec![
                "ip link add strata-6in4 type sit local 10.0.0.41",
                "ip link set strata-6in4 up",
                "ip fou add port 6080 gue",
                "ip -6 address add fd00::100/128 dev lo nodad preferred_lft 0",
                "ip -6 route replace default via fd00::1 dev eth0 metric 1024 pref medium advmss 1408",
            ],
        ),
        (
            wish(Mode::Gue, "10.0.0.100", true),
            &["default via 10.0.0.1 dev eth0 advmss 1400"],
            [
                &[
                    "ip link add strata-in6 type ip6tnl mode any local fd00::41",
                    "ip address add 127.0.0.42/32 dev strata-in6",
                    "ip link set strata-in6 up",
                    "sysctl -w net/ipv4/conf/strata-in6/rp_filter=2",
                    "ip -6 fou add port 6080 gue",
                ],
                &QUIET[..],
                &["ip address add 10.0.0.100/32 dev lo", "ip route replace default via 10.0.0.1 dev eth0 advmss 1408"],
            ]
            .concat()
            .into_iter()
            // A lower value than needed stays.
            .filter(|line| !line.contains("advmss"))
            .collect(),
        ),
        (
            Wish { userspace: true, ..wish(Mode::Ipip, "10.0.0.100", true) },
            &["default via 10.0.0.1 dev eth0 advmss 1460"],
            quiet_and(&[
                "ip address add 10.0.0.100/32 dev lo",
                "ip route replace default via 10.0.0.1 dev eth0 advmss 1420",
            ]),
        ),
        (wish(Mode::Nat, "10.0.0.2", false), &[DEFAULT], vec!["ip route replace default via 10.0.0.2 dev eth0"]),
        (
            wish(Mode::Nat, "fd00::2", false),
            &[DEFAULT6],
            vec!["ip -6 route replace default via fd00::2 dev eth0 metric 1"],
        ),
    ];
    for (wish, routes, want) in cases {
        assert_eq!(commands(&plan(&wish, &facts(routes)).unwrap()), want, "{wish:?}");
    }
}

#[test]
fn the_gateway_that_is_replaced_comes_back() {
    for (balancer, routes, want) in [
        ("10.0.0.2", &[DEFAULT][..], Some(DEFAULT)),
        ("10.0.0.2", &["default via 10.0.0.1 dev eth0 metric 100"], None),
        ("fd00::2", &[DEFAULT6], None),
        (
            "fd00::2",
            &[DEFAULT6, "default via fd00::3 dev eth0 metric 1"],
            Some("default via fd00::3 dev eth0 metric 1"),
        ),
    ] {
        let needs = plan(&wish(Mode::Nat, balancer, false), &facts(routes)).unwrap();
        let Change::Route { from, .. } = &needs[0].change else { panic!("{needs:?}") };
        assert_eq!(from.as_deref(), want, "{routes:?}");
    }
}

#[test]
fn redirects_do_not_lead_replies_past_the_balancer() {
    for (balancer, values, want) in [
        ("10.0.0.2", ["1", "1", "1"], &["ipv4/conf/all", "ipv4/conf/eth0"][..]),
        ("10.0.0.2", ["0", "1", "1"], &["ipv4/conf/eth0"]),
        ("fd00::2", ["1", "1", "1"], &["ipv6/conf/eth0"]),
        ("fd00::2", ["1", "1", "0"], &[]),
    ] {
        let mut facts = facts(&[]);
        let places = ["ipv4/conf/all", "ipv4/conf/eth0", "ipv6/conf/eth0"];
        facts.sysctls.extend(
            places.iter().zip(values).map(|(place, value)| (format!("net/{place}/accept_redirects"), value.to_owned())),
        );
        let commands = commands(&plan(&wish(Mode::Nat, balancer, false), &facts).unwrap());
        let want: Vec<String> = want.iter().map(|place| format!("sysctl -w net/{place}/accept_redirects=0")).collect();
        assert_eq!(commands[1..], want, "{balancer} {values:?}");
    }
}

#[test]
fn what_is_so_already_is_left_alone() {
    let mut facts = facts(&["default via 10.0.0.1 dev eth0 advmss 1440"]);
    for value in facts.sysctls.values_mut() {
        *value = "2".into();
    }
    facts.addresses.push(Assigned { device: "lo".into(), address: "10.0.0.100".parse().unwrap(), prefix: 32 });
    let wish = Wish { userspace: true, ..wish(Mode::Ipip, "10.0.0.100", false) };
    let needs = plan(&wish, &facts).unwrap();
    assert_eq!((commands(&needs), needs.len()), (Vec::new(), 6));
    let gateway = super::plan::plan(
        &self::wish(Mode::Nat, "10.0.0.1", false),
        &Facts { routes: vec!["default via 10.0.0.1 dev eth0 proto static".into()], ..facts },
    );
    assert!(gateway.unwrap()[0].done);
}

#[test]
fn what_no_setting_mends_is_refused_by_name() {
    let with = |device: &str, address: &str, prefix| {
        let mut facts = facts(&[DEFAULT]);
        facts.addresses.push(Assigned { device: device.into(), address: address.parse().unwrap(), prefix });
        facts
    };
    let cases = [
        (wish(Mode::L2, "127.0.0.1", false), facts(&[]), "no address that clients could reach"),
        (wish(Mode::L2, "ff02::1", false), facts(&[]), "no address that clients could reach"),
        (wish(Mode::L2, "10.0.0.41", false), facts(&[]), "10.0.0.41 is on eth0, where this host answers for it"),
        (wish(Mode::L2, "10.0.0.100", false), with("lo", "10.0.0.100", 24), "makes the whole network local"),
        (wish(Mode::Nat, "10.0.0.41", false), facts(&[]), "this host's own address"),
        (
            Wish { interface: "eth1".into(), ..wish(Mode::Ipip, "10.0.0.100", false) },
            facts(&[]),
            "eth1 has no IPv4 address that a tunnel could end at",
        ),
    ];
    for (wish, facts, want) in cases {
        let error = plan(&wish, &facts).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn what_was_there_first_survives_a_second_setup() {
    let route =
        |from: &str, mss| Change::Route { ipv6: false, from: Some(from.into()), to: format!("{DEFAULT} advmss {mss}") };
    let mut first = route(DEFAULT, 1440);
    let second = route(&format!("{DEFAULT} advmss 1440"), 1428);
    assert_eq!(first.key(), second.key());
    first.now(&second);
    assert_eq!(first, route(DEFAULT, 1428));
}

#[test]
fn what_is_printed_says_why_and_what_is_so_already() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        wants: Wants,
    }
    let line: Line = clap::Parser::parse_from(["x", "--mode", "gue", "--vip", "10.0.0.100", "--userspace"]);
    let mut facts = facts(&[DEFAULT]);
    facts.sysctls.insert("net/ipv4/conf/all/arp_ignore".into(), "1".into());
    let wish = Wish { userspace: true, ..wish(Mode::Gue, "10.0.0.100", false) };
    let text = render(&plan(&wish, &facts).unwrap(), &line.wants);
    assert_eq!(
        text,
        "# the balancer answers for the VIP by ARP; this host neither answers for it nor asks in its name\n\
         sysctl -w net/ipv4/conf/all/arp_ignore=1    # is so already\n\
         sysctl -w net/ipv4/conf/all/arp_announce=2\n\
         sysctl -w net/ipv4/conf/eth0/arp_ignore=1\n\
         sysctl -w net/ipv4/conf/eth0/arp_announce=2\n\
         # packets for the VIP are for this host\n\
         ip address add 10.0.0.100/32 dev lo\n\
         # clients send segments that fit with the tunnel's headers\n\
         ip route replace default via 10.0.0.1 dev eth0 advmss 1428\n\
         # takes the outer headers off, as long as it runs\n\
         strata decapsulate --mode gue --vip 10.0.0.100\n"
    );
}
