//! What is known of a healthy balancer, one thing changed, and what is said of it.

use std::collections::BTreeSet;
use std::io;

use super::super::facts::{Facts, Own, Source, Tcp, Vip};
use super::*;
use crate::base::MacAddr;
use crate::flow::tables::LinkId;
use crate::sys::link::{Kind, Link, Receives};
use crate::sys::tun::TunError;

const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn link(name: &str) -> Link {
    Link {
        index: 2,
        name: name.into(),
        mac: Some(mac(2)),
        mtu: 1500,
        state: State::Running,
        kind: Kind::Card,
        master: None,
        promiscuity: 0,
        carrier_changes: 0,
        receives: Receives::AnyMac,
    }
}

fn interface() -> Interface {
    let (name, guard, role) = ("eth0".to_owned(), Guard::Running, Role::Clients { has_virtual: false });
    Interface { link: Some(link(&name)), name, master: None, role, lro: false, rx_vlan: false, guard }
}

fn endpoint(name: &str, last: u8, forward: Forward) -> Endpoint {
    let way = Way::Out { interface: "eth0".into(), link: LinkId::plain(2), mtu: 1500, path: None, router: None };
    let direct = matches!(forward, Forward::Mac | Forward::Ipip | Forward::Gue);
    let mss = forward.is_tunnel().then_some(1400);
    let seen = Seen { vip: ip("10.0.0.100"), tcp: Tcp::Port(80), answered: Some(true), mss };
    Endpoint {
        service: "game".into(),
        name: name.into(),
        address: ip(name),
        forward,
        fixed: None,
        way,
        mac: Some(Some(mac(last))),
        pinged: Some(true),
        returned: (forward == Forward::Nat).then_some(true),
        unforwarded: None,
        vips: if direct { vec![seen] } else { Vec::new() },
        balancer: Some(ip("10.0.0.2")),
    }
}

fn healthy() -> Facts {
    let own = |address: &str, device: &str| Own { address: ip(address), prefix: 24, device: device.into() };
    Facts {
        capabilities: [Capability::NetRaw, Capability::NetAdmin].map(|capability| (capability, true)).to_vec(),
        af_xdp: false,
        interfaces: vec![interface()],
        devices: vec!["lo".into(), "eth0".into()],
        own: vec![own("10.0.0.2", "eth0")],
        forwards: [true, false],
        vips: vec![Vip { address: ip("10.0.0.100"), interface: "eth0".into(), vlan: 0, claimed: Some(Vec::new()) }],
        sources: vec![Source { service: "lab".into(), address: ip("10.0.0.3"), claimed: Some(Vec::new()) }],
        endpoints: vec![
            endpoint("10.0.0.41", 41, Forward::Mac),
            endpoint("10.0.0.42", 42, Forward::Ipip),
            endpoint("10.0.0.43", 43, Forward::Nat),
            endpoint("10.0.0.44", 44, Forward::FullNat),
        ],
        passages: Some(Passages { device: Ok(()), strict: BTreeSet::new() }),
        left_out: 0,
    }
}

#[test]
fn a_healthy_host_has_every_check_fine() {
    let found = judge(&healthy());
    let names: Vec<&str> = found.iter().map(|finding| finding.check).collect();
    assert_eq!(names, CHECKS.iter().map(|check| check.name).collect::<Vec<_>>());
    assert!(found.iter().all(|finding| finding.severity == Severity::Ok), "{found:#?}");
}

type Ailment = fn(&mut Facts);

/// What is changed, the check that finds it, how bad it is, what is said, and the command on whom.
const CASES: &[(Ailment, &str, Severity, &str, &str)] = {
    use Severity::{Error, Unknown, Warning};
    &[
        (
            |f| f.capabilities[0].1 = false,
            "capabilities",
            Error,
            "NET_RAW is not held",
            "here: setcap cap_net_admin,cap_net_raw+ep",
        ),
        (|f| f.capabilities[1].1 = false, "capabilities", Error, "NET_ADMIN is not held", "here: setcap "),
        (
            |f| {
                f.af_xdp = true;
                f.capabilities.push((Capability::Bpf, false));
            },
            "capabilities",
            Error,
            "BPF is not held",
            "here: setcap cap_bpf,cap_ipc_lock,cap_net_admin,cap_net_raw+ep",
        ),
        (
            |f| {
                f.af_xdp = true;
                f.capabilities.push((Capability::IpcLock, false));
            },
            "capabilities",
            Warning,
            "IPC_LOCK is not held",
            "here: setcap cap_bpf,cap_ipc_lock,cap_net_admin,cap_net_raw+ep",
        ),
        (
            |f| (f.af_xdp, f.interfaces[0].rx_vlan) = (true, true),
            "offloads",
            Warning,
            "eth0 takes VLAN tags out of frames",
            "here: ethtool -K eth0 rxvlan off",
        ),
        (
            |f| (f.interfaces[0].name, f.interfaces[0].link) = ("eht0".into(), None),
            "interface",
            Error,
            "there is no interface eht0; there are lo, eth0: did you mean eth0?",
            "",
        ),
        (
            |f| f.interfaces[0].link.as_mut().unwrap().state = State::Down,
            "interface",
            Error,
            "eth0 is down",
            "here: ip link set eth0 up",
        ),
        (
            |f| f.interfaces[0].link.as_mut().unwrap().state = State::NoCarrier,
            "interface",
            Error,
            "eth0 has no carrier",
            "",
        ),
        (
            |f| f.interfaces[0].link.as_mut().unwrap().mac = None,
            "interface",
            Error,
            "eth0 is no Ethernet interface",
            "",
        ),
        (
            |f| {
                f.interfaces[0].link.as_mut().unwrap().receives = Receives::OwnMac;
                f.interfaces[0].role = Role::Clients { has_virtual: true };
            },
            "interface",
            Error,
            "eth0 is a macvlan",
            "",
        ),
        (
            |f| f.interfaces[0].link.as_mut().unwrap().receives = Receives::OwnAddresses,
            "interface",
            Error,
            "eth0 is an ipvlan",
            "",
        ),
        (|f| f.interfaces[0].master = Some("br0".into()), "interface", Error, "eth0 is a port of br0", ""),
        (
            |f| {
                let cause = io::Error::from_raw_os_error(libc::ENOENT);
                let error = TunError { step: "make a network device", cause };
                f.passages.as_mut().unwrap().device = Err(error);
            },
            "probe-through",
            Error,
            "probes through VIPs have no device: cannot make a network device: there is no /dev/net/tun",
            "here: modprobe tun",
        ),
        (
            |f| {
                let error = TunError {
                    step: "lead marked packets to it",
                    cause: io::Error::from_raw_os_error(libc::EOPNOTSUPP),
                };
                f.passages.as_mut().unwrap().device = Err(error);
            },
            "probe-through",
            Error,
            "probes through VIPs have no device: cannot lead marked packets to it: the kernel has no policy routing",
            "",
        ),
        (
            |f| _ = f.passages.as_mut().unwrap().strict.insert((ip("10.0.0.100"), "eth1".into())),
            "probe-through",
            Error,
            "strict rp_filter drops answers of 10.0.0.100 to probes, which come by eth1",
            "here: sysctl -w net/ipv4/conf/eth1/rp_filter=2",
        ),
        (|f| f.interfaces[0].lro = true, "offloads", Error, "eth0 has LRO on", "here: ethtool -K eth0 lro off"),
        (|f| replies(f).lro = true, "offloads", Error, "eth1 has LRO on", "here: ethtool -K eth1 lro off"),
        (
            |f| replies(f).link.as_mut().unwrap().state = State::Down,
            "interface",
            Error,
            "eth1 is down",
            "here: ip link set eth1 up",
        ),
        (
            |f| replies(f).link.as_mut().unwrap().receives = Receives::OwnAddresses,
            "interface",
            Error,
            "eth1 is an ipvlan",
            "",
        ),
        (
            |f| replies(f).guard = Guard::Left,
            "kernel",
            Warning,
            "packets for VIPs are dropped on eth1",
            "here: tc filter del dev eth1",
        ),
        (
            |f| f.own.push(Own { address: ip("10.0.0.100"), prefix: 32, device: "lo".into() }),
            "vip-here",
            Error,
            "10.0.0.100 is on lo of this host",
            "here: ip address del 10.0.0.100/32 dev lo",
        ),
        (
            |f| f.vips[0].claimed = Some(vec![mac(41)]),
            "vip-owner",
            Error,
            "10.0.0.100 is answered for by 02:00:00:00:00:29 on eth0: endpoint 10.0.0.41",
            "10.0.0.41: strata setup-endpoint --mode l2 --vip 10.0.0.100 --apply",
        ),
        (
            |f| f.vips[0].claimed = Some(vec![mac(43)]),
            "vip-owner",
            Error,
            "endpoint 10.0.0.43",
            "10.0.0.43: ip address del 10.0.0.100/32",
        ),
        (
            |f| f.vips[0].claimed = Some(vec![STRANGER]),
            "vip-owner",
            Error,
            "by 02:00:00:00:00:09 on eth0, a stranger",
            "",
        ),
        (
            |f| {
                f.vips[0].vlan = 7;
                f.vips[0].claimed = Some(vec![STRANGER]);
            },
            "vip-owner",
            Error,
            "by 02:00:00:00:00:09 on eth0, VLAN 7, a stranger",
            "",
        ),
        (|f| f.vips[0].claimed = None, "vip-owner", Unknown, "1 question could not be asked", ""),
        (
            |f| f.sources[0].claimed = Some(vec![STRANGER]),
            "source",
            Error,
            "the source of service lab, is 02:00:00:00:00:09's",
            "",
        ),
        (
            |f| f.own.push(Own { address: ip("10.0.0.3"), prefix: 24, device: "eth0".into() }),
            "source",
            Error,
            "is on eth0 of this host",
            "here: ip address del 10.0.0.3/24 dev eth0",
        ),
        (|f| f.endpoints[0].way = Way::Here, "route", Error, "endpoint 10.0.0.41 is this host", ""),
        (
            |f| f.endpoints[0].way = Way::Nowhere("unreachable".into()),
            "route",
            Error,
            "no route leads to endpoint 10.0.0.41",
            "",
        ),
        (
            |f| f.endpoints[3].way = Way::Frameless { interface: "wg0".into() },
            "route",
            Error,
            "endpoint 10.0.0.44 is reached by wg0, which is no Ethernet interface",
            "",
        ),
        (|f| router(f, 0), "route", Error, "endpoint 10.0.0.41 of l2 service game is behind 10.0.0.1", ""),
        (|f| f.endpoints[0].mac = Some(None), "neighbor", Error, "endpoint 10.0.0.41 does not answer on eth0", ""),
        (
            |f| {
                router(f, 1);
                f.endpoints[1].mac = Some(None);
            },
            "neighbor",
            Error,
            "10.0.0.1, the router to endpoint 10.0.0.42, does not answer",
            "",
        ),
        (
            |f| (f.endpoints[0].fixed, f.endpoints[0].mac) = (Some(mac(41)), Some(None)),
            "neighbor",
            Unknown,
            "nobody answers for endpoint 10.0.0.41 on eth0, and the file says 02:00:00:00:00:29",
            "",
        ),
        (|f| f.endpoints[0].fixed = Some(STRANGER), "neighbor", Warning, "and the file says 02:00:00:00:00:09", ""),
        (
            |f| f.endpoints[0].vips[0].answered = Some(false),
            "vip-on-endpoint",
            Error,
            "endpoint 10.0.0.41 answers, but not packets for 10.0.0.100",
            "10.0.0.41: strata setup-endpoint --mode l2 --vip 10.0.0.100 --apply",
        ),
        (
            |f| {
                if let Way::Out { link, .. } = &mut f.endpoints[0].way {
                    link.vlan = 7;
                }
                f.endpoints[0].vips[0].answered = None;
            },
            "vip-on-endpoint",
            Unknown,
            "10.0.0.41 could not be asked whether it takes 10.0.0.100: this host has no address on VLAN 7",
            "10.0.0.41: strata doctor --endpoint --mode l2 --vip 10.0.0.100",
        ),
        (
            |f| {
                f.endpoints[1].vips[0].answered = Some(false);
                f.endpoints[1].pinged = Some(false);
            },
            "vip-on-endpoint",
            Warning,
            "neither for 10.0.0.100 nor for itself",
            "10.0.0.42: strata doctor --endpoint --mode ipip --vip 10.0.0.100",
        ),
        (
            |f| f.endpoints[1].vips[0].mss = Some(1460),
            "advmss",
            Error,
            "segments of 1460 bytes, and 1440 fit",
            "10.0.0.42: strata setup-endpoint --mode ipip --vip 10.0.0.100 --apply",
        ),
        (
            |f| narrow(f, 1),
            "advmss",
            Error,
            "segments of 1400 bytes, and 1320 fit",
            "10.0.0.42: strata setup-endpoint --mode ipip --vip 10.0.0.100 --mtu 1380 --apply",
        ),
        (
            |f| {
                narrow(f, 1);
                f.endpoints[1].vips[0].mss = None;
            },
            "advmss",
            Warning,
            "was not asked for its segment size: no TCP port of 10.0.0.100 answers; 1320 fit",
            "10.0.0.42: strata doctor --endpoint --mode ipip --vip 10.0.0.100 --mtu 1380",
        ),
        (
            |f| f.endpoints[1].vips[0].mss = None,
            "advmss",
            Warning,
            "was not asked for its segment size",
            "10.0.0.42: strata doctor --endpoint --mode ipip --vip 10.0.0.100",
        ),
        (
            |f| f.endpoints[2].returned = Some(false),
            "gateway",
            Error,
            "replies of endpoint 10.0.0.43 to clients do not come back",
            "10.0.0.43: strata setup-endpoint --mode nat --balancer 10.0.0.2 --apply",
        ),
        (
            |f| {
                f.endpoints[2].unforwarded = Some("net/ipv4/ip_forward".into());
                let other = Endpoint {
                    unforwarded: f.endpoints[2].unforwarded.clone(),
                    ..endpoint("10.0.0.45", 45, Forward::Nat)
                };
                f.endpoints.push(other);
            },
            "gateway",
            Warning,
            "what endpoints of nat send of their own ends here: net/ipv4/ip_forward is 0",
            "here: sysctl -w net/ipv4/ip_forward=1",
        ),
        (
            |f| (f.endpoints[2].returned, f.endpoints[2].pinged) = (Some(false), Some(false)),
            "gateway",
            Warning,
            "does not answer pings",
            "10.0.0.43: ip route show default",
        ),
        (
            |f| f.interfaces[0].guard = Guard::Left,
            "kernel",
            Warning,
            "packets for VIPs are dropped on eth0, and no Strata runs",
            "here: tc filter del dev eth0 ingress pref 83",
        ),
    ]
};

/// Another interface, by which endpoints of NAT answer.
fn replies(facts: &mut Facts) -> &mut Interface {
    let name = "eth1".to_owned();
    let link = Link { index: 3, ..link(&name) };
    facts.interfaces.push(Interface { link: Some(link), name, role: Role::Replies, ..interface() });
    facts.interfaces.last_mut().unwrap()
}

fn router(facts: &mut Facts, endpoint: usize) {
    if let Way::Out { router, .. } = &mut facts.endpoints[endpoint].way {
        *router = Some(ip("10.0.0.1"));
    }
}

/// The route to it says what fits.
fn narrow(facts: &mut Facts, endpoint: usize) {
    if let Way::Out { path, .. } = &mut facts.endpoints[endpoint].way {
        *path = Some(1380);
    }
}

#[test]
fn each_ailment_is_found_by_its_check_alone_with_its_cure() {
    for (number, (ailment, check, severity, about, cure)) in CASES.iter().enumerate() {
        let mut facts = healthy();
        ailment(&mut facts);
        let bad: Vec<Finding> = judge(&facts).into_iter().filter(|finding| finding.severity != Severity::Ok).collect();
        let [found] = &bad[..] else { panic!("case {number}, {check}: {bad:#?}") };
        assert_eq!((found.check, found.severity), (*check, *severity), "case {number}: {found:#?}");
        assert!(found.about.contains(about), "case {number}: {found:#?}");
        let said = found.cure.as_ref().map_or_else(String::new, |cure| {
            format!("{}: {}", cure.on.as_deref().unwrap_or("here"), cure.commands.join("; "))
        });
        assert!(said.starts_with(cure) && said.is_empty() == cure.is_empty(), "case {number}: {said:?}, not {cure:?}");
    }
    for check in CHECKS {
        assert!(CASES.iter().any(|case| case.1 == check.name), "no case for {}", check.name);
    }
}

#[test]
fn who_answers_for_a_vip_and_not_for_itself_is_known_by_its_mac_address_in_the_file() {
    let mut facts = healthy();
    (facts.endpoints[0].fixed, facts.endpoints[0].mac) = (Some(mac(41)), Some(None));
    facts.vips[0].claimed = Some(vec![mac(41)]);
    let found = judge(&facts).into_iter().find(|finding| finding.check == "vip-owner").unwrap();
    assert!(found.severity == Severity::Error && found.about.contains("on eth0: endpoint 10.0.0.41"), "{found:#?}");
    let want = "strata setup-endpoint --mode l2 --vip 10.0.0.100 --apply";
    assert_eq!(found.cure.unwrap().commands, [want]);
}

#[test]
fn a_tunnel_that_everything_fits_needs_no_advmss() {
    let mut facts = healthy();
    facts.endpoints[1].vips[0].mss = None;
    if let Way::Out { mtu, .. } = &mut facts.endpoints[1].way {
        *mtu = 1520;
    }
    assert!(judge(&facts).iter().all(|finding| finding.severity == Severity::Ok));
}

#[test]
fn a_tunnel_that_no_tcp_comes_by_needs_no_advmss() {
    let mut facts = healthy();
    (facts.endpoints[1].vips[0].tcp, facts.endpoints[1].vips[0].mss) = (Tcp::Never, None);
    assert!(judge(&facts).iter().all(|finding| finding.severity == Severity::Ok), "{:#?}", judge(&facts));
}

#[test]
fn a_tunnel_of_the_other_family_is_set_up_by_the_balancers_address() {
    let mut facts = healthy();
    let endpoint = &mut facts.endpoints[1];
    (endpoint.address, endpoint.name, endpoint.balancer) = (ip("fd00::42"), "fd00::42".into(), Some(ip("fd00::2")));
    endpoint.vips[0].answered = Some(false);
    let found = judge(&facts).into_iter().find(|finding| finding.check == "vip-on-endpoint").unwrap();
    let want = "strata setup-endpoint --mode ipip --vip 10.0.0.100 --balancer fd00::2 --apply";
    assert_eq!(found.cure.unwrap().commands, [want]);
}
