//! Io: a router with a VIP in network namespaces: what its kernel would do, and what it does behind a classifier.

use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::base::MacAddr;
use crate::sys::neighbour::{self, Standing};
use crate::sys::netns::{Namespace, await_that, namespaces};
use crate::sys::packet::{Engine, Options, Tap};
use crate::wire::ethernet::{EtherType, Header, Tag, insert_tag};

const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const NEAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// A router (`ip_forward` is on) between a client and a network that has the VIPs, so that its kernel forwards to them.
struct Router {
    client: Namespace,
    router: Namespace,
    far: Namespace,
    /// The router's interface to the client, and the client's.
    near: u32,
    at_client: u32,
}

impl Router {
    fn new() -> Option<Router> {
        let [client, router, far] = namespaces()?;
        client.cable(("c", CLIENT), &router, ("near", NEAR));
        router.cable(("out", MacAddr([2, 0, 0, 0, 0, 3])), &far, ("f", MacAddr([2, 0, 0, 0, 0, 4])));
        client.sh("echo 0 >/proc/sys/net/ipv6/conf/c/disable_ipv6; ip addr add 10.0.0.1/24 dev c; \
            ip addr add fd00::1/64 dev c nodad; ip route add default via 10.0.0.2; ip -6 route add default via fd00::2");
        router.sh("cd /proc/sys/net; echo 1 >ipv4/ip_forward; echo 1 >ipv6/conf/all/forwarding; \
            echo 0 >ipv6/conf/near/disable_ipv6; echo 0 >ipv6/conf/out/disable_ipv6; \
            ip addr add 10.0.0.2/24 dev near; ip addr add fd00::2/64 dev near nodad; \
            ip addr add 10.8.0.1/24 dev out; ip addr add fd08::1/64 dev out nodad; \
            for vip in 8 9 80; do ip neigh add 10.8.0.$vip lladdr 02:00:00:00:00:04 dev out nud permanent; \
            ip neigh add fd08::$vip lladdr 02:00:00:00:00:04 dev out nud permanent; done");
        let (near, at_client) = (router.index("near"), client.index("c"));
        Some(Router { client, router, far, near, at_client })
    }

    fn keep_out(&self, rules: &[Rule]) -> Ingress {
        self.router.run(|| Ingress::new(self.near, rules).unwrap())
    }

    /// The client's end, the router's tap, and what leaves the router on the other side.
    fn taps(&self) -> [Tap; 3] {
        let open = |namespace: &Namespace, name| {
            let interface = namespace.index(name);
            namespace.run(|| Tap::open(Engine::Ring, &Options { interface, ..Options::default() }).unwrap())
        };
        [open(&self.client, "c"), open(&self.router, "near"), open(&self.far, "f")]
    }

    fn handles(&self) -> Vec<(u16, u16)> {
        let found = self.router.run(|| handles(&mut Netlink::open().unwrap(), self.near).unwrap());
        let mut found: Vec<_> = found.into_iter().map(|handle| (handle.owner, handle.part)).collect();
        found.sort_unstable();
        found
    }
}

fn at(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A UDP packet from the client whose payload is `text`. Its checksum is not looked at on the way.
fn udp(to: IpAddr, ports: [u16; 2], text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + text.len()).unwrap();
    let mut transport: Vec<u8> = ports.into_iter().flat_map(u16::to_be_bytes).collect();
    transport.extend(length.to_be_bytes().into_iter().chain([0, 0]));
    transport.extend(text);
    let (ether_type, ip) = match to {
        IpAddr::V4(to) => {
            let source = Ipv4Addr::new(10, 0, 0, 1);
            let [high, low] = (20 + length).to_be_bytes();
            let mut ip = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0];
            ip.extend(source.octets().into_iter().chain(to.octets()));
            let sum = crate::wire::checksum::Sum::of(&ip).folded();
            ip[10..12].copy_from_slice(&(!sum).to_be_bytes());
            (EtherType::IPV4, ip)
        }
        IpAddr::V6(to) => {
            let [high, low] = length.to_be_bytes();
            let IpAddr::V6(source) = at("fd00::1") else { unreachable!() };
            let mut ip = vec![0x60, 0, 0, 0, high, low, 17, 64];
            ip.extend(source.octets().into_iter().chain(to.octets()));
            (EtherType::IPV6, ip)
        }
    };
    [&Header { destination: NEAR, source: CLIENT, ether_type }.emit()[..], &ip, &transport].concat()
}

/// Which of `texts` are in the frames that come, until the last of them is.
#[track_caller]
fn until<'a>(tap: &mut Tap, texts: &[&'a str]) -> Vec<&'a str> {
    let mut seen = Vec::new();
    let last = texts.last().unwrap();
    await_that("the last packet", || {
        tap.receive(|frame| {
            seen.extend(texts.iter().filter(|text| frame.bytes().ends_with(text.as_bytes())).copied());
            None
        })
        .unwrap();
        seen.contains(last)
    });
    seen
}

#[test]
fn the_tap_sees_what_the_kernel_no_longer_forwards() {
    let Some(router) = Router::new() else { return };
    let mut texts: Vec<String> = Vec::new();
    let mut send = |client: &mut Tap, round: &str| {
        texts = Vec::new();
        for (name, to, tag) in [
            ("vip", "10.8.0.80", None),
            ("vip 6", "fd08::80", None),
            // The kernel takes a tag of VLAN 0, a priority, as none.
            ("tagged vip", "10.8.0.80", Some(Tag { protocol: EtherType::VLAN, control: 0x6000 })),
            ("tagged vip 6", "fd08::80", Some(Tag { protocol: EtherType::VLAN, control: 0x6000 })),
            ("other 6", "fd08::8", None),
            ("tagged other", "10.8.0.8", Some(Tag { protocol: EtherType::VLAN, control: 0x6000 })),
            ("other", "10.8.0.8", None),
        ] {
            let text = format!("<{round} {name}>");
            let frame = udp(at(to), [4000, 80], text.as_bytes());
            let mut buffer = [&[0; 4][..], &frame].concat();
            let start = match tag {
                Some(tag) => insert_tag(&mut buffer, tag).map(|()| 0).unwrap(),
                None => 4,
            };
            client.send(router.at_client, &buffer[start..]);
            texts.push(text);
        }
        texts.clone()
    };
    let [mut client, mut tap, mut far] = router.taps();
    fn words(texts: &[String]) -> Vec<&str> {
        texts.iter().map(String::as_str).collect()
    }
    let open = send(&mut client, "before");
    let open = words(&open);
    assert_eq!(until(&mut tap, &open), open);
    assert_eq!(until(&mut far, &open), open, "the kernel forwards them all");

    let ingress = router.keep_out(&[Rule::to(at("10.8.0.80")), Rule::to(at("fd08::80"))]);
    let kept = send(&mut client, "while");
    let kept = words(&kept);
    assert_eq!(until(&mut tap, &kept), kept, "the tap comes before the classifier");
    assert_eq!(until(&mut far, &kept), kept[4..], "the kernel forwards what is not Strata's");

    drop(ingress);
    let after = send(&mut client, "after");
    let after = words(&after);
    assert_eq!(until(&mut tap, &after), after);
    assert_eq!(until(&mut far, &after), after, "and all of it again");
}

#[test]
fn answers_that_nat_translates_are_kept_from_the_kernel_by_their_ports() {
    let Some(router) = Router::new() else { return };
    let rules = [
        Rule::from(at("10.0.0.1")).narrowed(17, Some(80..=81)),
        Rule::to(at("fd08::9")).narrowed(17, Some(5000..=5999)),
        Rule::to(at("10.8.0.9")).narrowed(6, None),
    ];
    let _ingress = router.keep_out(&rules);
    let [mut client, _tap, mut far] = router.taps();
    let cases = [
        ("<79>", "10.8.0.8", [79, 4000], true),
        ("<80>", "10.8.0.8", [80, 4000], false),
        ("<81>", "10.8.0.9", [81, 4000], false),
        ("<82>", "10.8.0.9", [82, 4000], true),
        ("<6 before>", "fd08::9", [80, 4999], true),
        ("<6 first>", "fd08::9", [80, 5000], false),
        ("<6 last>", "fd08::9", [80, 5999], false),
        ("<6 elsewhere>", "fd08::8", [80, 5000], true),
        ("<6 behind>", "fd08::9", [80, 6000], true),
    ];
    for (text, to, ports, _) in cases {
        client.send(router.at_client, &udp(at(to), ports, text.as_bytes()));
    }
    let wanted: Vec<&str> = cases.into_iter().filter(|case| case.3).map(|case| case.0).collect();
    assert_eq!(until(&mut far, &cases.map(|case| case.0)), wanted);
}

#[test]
fn the_kernel_does_not_answer_for_a_vip_that_it_has_by_mistake() {
    let Some(router) = Router::new() else { return };
    router.router.sh("ip addr add 10.0.0.100/32 dev near; ip addr add fd00::100/128 dev near nodad");
    router
        .client
        .sh("echo 50 >/proc/sys/net/ipv4/neigh/c/retrans_time_ms; echo 50 >/proc/sys/net/ipv6/neigh/c/retrans_time_ms");
    // Whether somebody says that the address is his.
    let answers = |address: &str| {
        router.client.sh("ip neigh flush dev c");
        router.client.run(|| {
            neighbour::solicit(router.at_client, at(address)).unwrap();
            let standing = || neighbour::neighbour(router.at_client, at(address)).unwrap().unwrap().standing;
            await_that("an answer or none", || standing() != Standing::Asking);
            standing().mac().is_some()
        })
    };
    for vip in ["10.0.0.100", "fd00::100"] {
        assert!(answers(vip), "without a classifier the kernel answers for {vip}");
    }
    let _ingress = router.keep_out(&[Rule::to(at("10.0.0.100")), Rule::to(at("fd00::100"))]);
    for (address, wanted) in [("10.0.0.100", false), ("fd00::100", false), ("10.0.0.2", true), ("fd00::2", true)] {
        assert_eq!(answers(address), wanted, "{address}");
    }
    // An address of which a part is Strata's is still the kernel's to answer for.
    let _other = router.keep_out(&[Rule::to(at("10.0.0.2")).narrowed(6, Some(10_000..=20_000))]);
    assert!(answers("10.0.0.2"));
}

/// As if the process had been killed: its number is free, its classifiers stay.
fn kill(ingress: Ingress) {
    let mut left = ManuallyDrop::new(ingress);
    left.owner._claim = UnixDatagram::unbound().unwrap();
}

#[test]
fn who_keeps_the_kernel_out_is_told() {
    let Some(router) = Router::new() else { return };
    let told = || router.router.run(|| guard(router.near).unwrap());
    assert_eq!(told(), Guard::Nobody, "there is no clsact yet");
    let rules = [Rule::to(at("10.0.0.100"))];
    let one = router.keep_out(&rules);
    assert_eq!(told(), Guard::Running);
    kill(router.keep_out(&rules));
    assert_eq!(told(), Guard::Running, "one of them lives");
    drop(one);
    assert_eq!(told(), Guard::Left);
    drop(router.keep_out(&rules));
    assert_eq!(told(), Guard::Nobody);
}

#[test]
fn what_a_killed_process_left_is_replaced_and_what_a_living_one_has_stays() {
    let Some(router) = Router::new() else { return };
    let rules = [Rule::to(at("10.0.0.100"))];
    let one = router.keep_out(&rules);
    let two = router.keep_out(&rules);
    let three = router.keep_out(&rules);
    assert_eq!(router.handles(), [(1, 1), (2, 1), (3, 1)]);
    drop(two);
    assert_eq!(router.handles(), [(1, 1), (3, 1)], "each removes its own");
    kill(three);
    assert_eq!(router.handles(), [(1, 1), (3, 1)]);
    let again = router.keep_out(&rules);
    assert_eq!(router.handles(), [(1, 1), (2, 1)], "the dead one's is gone");
    kill(again);
    let again = router.keep_out(&rules);
    assert_eq!(router.handles(), [(1, 1), (2, 1)], "the dead one's was replaced");
    drop((one, again));
    assert_eq!(router.handles(), []);
    router.router.sh("tc filter add dev near ingress pref 1 bpf da bytecode '1,6 0 0 4294967295'");
    assert_eq!(router.handles(), [], "others' classifiers are not ours");
}

#[test]
fn many_rules_take_several_programs_and_few_take_one_again() {
    let Some(router) = Router::new() else { return };
    let many: Vec<Rule> = (0..900_u16)
        .map(|n| if n % 2 == 0 { format!("fd00::{n:x}") } else { format!("10.1.{}.{}", n / 256, n % 256) })
        .map(|address| Rule::to(at(&address)))
        .collect();
    let narrow: Vec<Rule> = many.iter().map(|rule| rule.clone().narrowed(6, Some(1..=2))).collect();
    let mut ingress = router.keep_out(&many);
    assert!(router.handles().len() > 1);
    ingress.replace(&narrow).unwrap();
    ingress.replace(&many[..1]).unwrap();
    assert_eq!(router.handles(), [(1, 1)]);
    drop(ingress);
    assert_eq!(router.handles(), []);
}

#[test]
fn what_somebody_took_away_is_put_back_and_nothing_else_is_touched() {
    let Some(router) = Router::new() else { return };
    let rules: Vec<Rule> = (0..900_u16)
        .map(|n| Rule::to(IpAddr::from([10, 1, (n >> 8) as u8, n as u8])).narrowed(6, Some(1..=2)))
        .collect();
    let mut ingress = router.keep_out(&rules);
    let all = router.handles();
    assert!(all.len() > 1);
    assert!(!ingress.restore(&rules).unwrap(), "nothing is missing");
    for taken in [
        "tc qdisc del dev near clsact",
        "tc filter del dev near ingress pref 83",
        "tc filter del dev near ingress pref 83 protocol all handle 0x10002 bpf",
    ] {
        router.router.sh(taken);
        assert_ne!(router.handles(), all, "{taken}");
        assert!(ingress.restore(&rules).unwrap(), "{taken}");
        assert_eq!(router.handles(), all, "{taken}");
        assert!(!ingress.restore(&rules).unwrap(), "{taken}");
    }
    // Filters of a block that interfaces share are nobody's to set for one of them.
    router.router.sh("tc qdisc del dev near clsact; tc qdisc add dev near ingress_block 22 clsact");
    assert!(ingress.restore(&rules).is_err());
    router.router.sh("tc qdisc del dev near clsact");
    assert!(ingress.restore(&rules).unwrap());
    assert_eq!(router.handles(), all);
}
