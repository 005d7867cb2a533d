//! `strata setup-endpoint` on real hosts: what it does makes the mode work, and `--undo` leaves nothing of it.

use std::path::PathBuf;
use std::process::Output;

use super::node::{Node, can};
use super::server::Server;
use super::talk::{ask, ping};
use super::world::{Family, Place, World};

/// An endpoint's setup, with a record of its own.
struct Setup<'a> {
    host: &'a Node,
    state: PathBuf,
}

impl<'a> Setup<'a> {
    fn new(host: &'a Node) -> Setup<'a> {
        Setup { host, state: std::env::temp_dir().join(&host.name) }
    }

    fn say(&self, words: &str) -> (i32, String) {
        let state = self.state.to_str().expect("a name");
        let words: Vec<&str> =
            ["setup-endpoint", "--state", state].into_iter().chain(words.split_whitespace()).collect();
        said(&self.host.strata(&words))
    }

    /// Runs it, and gives what it printed.
    #[track_caller]
    fn run(&self, words: &str) -> String {
        let (code, said) = self.say(words);
        assert_eq!(code, 0, "{words}: {said}");
        said
    }
}

impl Drop for Setup<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

fn said(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// Everything that a setup may touch.
fn state(host: &Node) -> String {
    let mut text = String::new();
    for words in ["-o address show", "-4 route show", "-6 route show", "-o link show"] {
        let lines = host.ip(words);
        // Lifetimes count down.
        let kept = lines.lines().map(|line| line.split("valid_lft").next().unwrap_or_default().trim_end());
        text.extend(kept.map(|line| format!("{line}\n")));
    }
    for device in ["all", "eth0", "lo"] {
        for name in ["arp_ignore", "arp_announce", "rp_filter"] {
            let key = format!("net/ipv4/conf/{device}/{name}");
            text.push_str(&format!("{key} {}\n", host.value(&key)));
        }
        for family in ["ipv4", "ipv6"] {
            let key = format!("net/{family}/conf/{device}/accept_redirects");
            text.push_str(&format!("{key} {}\n", host.value(&key)));
        }
    }
    text
}

/// Without it an endpoint with the VIP answers for it; with it nobody does, and yet frames that are sent to it are taken:
/// what the balancer will do, a static neighbour does here.
#[test]
fn an_l2_endpoint_takes_the_vip_without_claiming_it() {
    if !can("`setup-endpoint --mode l2` on a real host") {
        return;
    }
    let world = World::new(Place::Lan, 2);
    let endpoint = &world.endpoints[0];
    let (setup, before) = (Setup::new(endpoint), state(endpoint));
    for family in Family::BOTH {
        let vip = family.vip();
        if family == Family::V4 {
            endpoint.ip("address add 10.0.0.100/32 dev lo");
            ping(&world.near, vip, 8).expect("a host that knows no better answers for its addresses on lo");
            endpoint.ip("address del 10.0.0.100/32 dev lo");
            world.near.ip("neigh flush all");
            // It is asked again after this.
        }
        let words = format!("--mode l2 --vip {vip} --apply");
        let first = setup.run(&words);
        assert!(!first.starts_with("0 of"), "{first}");
        let again = setup.run(&words);
        assert!(again.starts_with("0 of"), "the second time something changed: {again}");
        assert!(ping(&world.near, vip, 8).is_err(), "{vip} is claimed");

        let _server = Server::start(endpoint, &[vip], "endpoint0");
        let mac = World::mac(endpoint);
        world.near.ip(&format!("neigh replace {vip} lladdr {mac} dev eth0 nud permanent"));
        let answer = ask(&world.near, vip, 10, 50_000).unwrap_or_else(|error| panic!("{vip}: {error}"));
        assert_eq!((answer.name.as_str(), answer.peer.ip()), ("endpoint0", family.near()));
    }
    // Each address is let go for itself: what both need stays until the last.
    let both = format!("--mode l2 --vip {},10.0.0.101", Family::V4.vip());
    setup.run(&format!("{both} --apply"));
    setup.run("--mode l2 --vip 10.0.0.100 --undo");
    assert_eq!(endpoint.value("net/ipv4/conf/all/arp_ignore"), "1");
    setup.run("--mode l2 --vip 10.0.0.101 --undo");
    setup.run("--mode l2 --vip fd00::100 --undo");
    assert_eq!(state(endpoint), before);
    assert_eq!(setup.run("--mode l2 --vip 10.0.0.100 --undo"), "nothing to take back\n");
    assert_eq!(std::fs::read_dir(&setup.state).map(Iterator::count).unwrap_or(0), 0, "an empty record stays");
}

/// The endpoint's replies leave through the balancer, and through the router again afterwards.
#[test]
fn a_nat_endpoint_replies_through_the_balancer() {
    if !can("`setup-endpoint --mode nat` on a real host") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    let endpoint = &world.endpoints[0];
    let (setup, before) = (Setup::new(endpoint), state(endpoint));
    let way = |family: Family| {
        let flag = if family == Family::V6 { "-6" } else { "-4" };
        endpoint.ip(&format!("{flag} route get {}", family.client()))
    };
    for family in Family::BOTH {
        assert!(!way(family).contains(&format!("via {} ", family.balancer())), "{}", way(family));
    }
    setup.run("--mode nat --balancer 10.0.0.2,fd00::2 --apply");
    for family in Family::BOTH {
        assert!(way(family).contains(&format!("via {} ", family.balancer())), "{}", way(family));
    }
    assert!(setup.run("--mode nat --balancer 10.0.0.2,fd00::2 --apply").starts_with("0 of 5"));
    setup.run("--mode nat --balancer 10.0.0.2 --balancer fd00::2 --undo");
    assert_eq!(state(endpoint), before);
}

/// No `ip`, and /proc/sys is read-only: netlink does it, and what only the engine may set is named.
#[test]
fn in_a_container_from_scratch_it_is_done_over_netlink() {
    if !can("`setup-endpoint` without `ip` and with a read-only /proc/sys") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    let endpoint = &world.endpoints[0];
    let setup = Setup::new(endpoint);
    let state_folder = setup.state.to_str().expect("a name");
    let bare = |words: &str| {
        let script = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && PATH=/nowhere exec \"$0\" \"$@\"";
        let head =
            ["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_strata"), "setup-endpoint", "--state", state_folder];
        said(&endpoint.run("unshare", &head.into_iter().chain(words.split_whitespace()).collect::<Vec<_>>()))
    };
    let (code, text) = bare("--mode l2 --vip 10.0.0.100 --apply");
    assert!(code == 1 && text.contains("start the container with `--sysctl net.ipv4.conf.all.arp_ignore=1`"), "{text}");
    // As the engine does (`sysctls:` in docker-compose.yml).
    for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2"), ("accept_redirects", "0")] {
        endpoint.set(&format!("net/ipv4/conf/all/{key}"), value);
    }
    let before = state(endpoint);

    let both = "--mode l2 --vip 10.0.0.100,fd00::100";
    let (code, text) = bare(&format!("{both} --apply -- /bin/grep CapEff: /proc/self/status"));
    assert!(code == 0 && text.contains("settings changed"), "{text}");
    assert!(text.ends_with("CapEff:\t0000000000000000\n"), "the command has capabilities: {text}");
    let lo = endpoint.ip("-o address show dev lo");
    assert!(
        lo.contains("inet 10.0.0.100/32") && lo.contains("inet6 fd00::100/128") && lo.contains("deprecated"),
        "{lo}"
    );
    let own = ["arp_ignore", "arp_announce"].map(|key| endpoint.value(&format!("net/ipv4/conf/eth0/{key}")));
    assert_eq!(own, ["1", "2"]);
    assert!(setup.run(&format!("{both} --apply")).starts_with("0 of"), "`ip` finds it as it should be");
    assert!(bare(&format!("{both} --apply")).1.starts_with("0 of"));
    let (code, text) = bare(&format!("{both} --undo"));
    assert_eq!((code, state(endpoint)), (0, before.clone()), "{text}");

    let nat = "--mode nat --balancer 10.0.0.2";
    let (code, text) = bare(&format!("{nat} --apply"));
    assert_eq!(code, 0, "{text}");
    assert!(endpoint.ip("-4 route show default").starts_with("default via 10.0.0.2 dev eth0"));
    assert_eq!(endpoint.value("net/ipv4/conf/eth0/accept_redirects"), "0");
    assert_eq!((bare(&format!("{nat} --undo")).0, state(endpoint)), (0, before.clone()));
    let (code, text) = bare("--mode nat --balancer fd00::2 --apply");
    assert!(code == 1 && text.contains("--sysctl net.ipv6.conf.eth0.accept_redirects=0"), "{text}");
    assert_eq!(state(endpoint), before, "what was done for it is taken back");
}

/// The segments that clients are told to send leave room for the outer headers.
#[test]
fn a_tunnelled_endpoint_advertises_segments_that_fit() {
    if !can("`setup-endpoint --userspace` on a real host") {
        return;
    }
    let world = World::new(Place::BehindRouter, 1);
    let endpoint = &world.endpoints[0];
    // As an operator has set it: it must come back.
    endpoint.ip("route change default via 10.1.0.1 advmss 1450");
    let (setup, before) = (Setup::new(endpoint), state(endpoint));
    for (mode, family, mss) in
        [("ipip", Family::V4, 1440), ("ipip", Family::V6, 1400), ("gue", Family::V4, 1428), ("gue", Family::V6, 1388)]
    {
        let words = format!("--mode {mode} --vip {} --userspace", family.vip());
        setup.run(&format!("{words} --apply"));
        let flag = if family == Family::V6 { "-6" } else { "-4" };
        let route = endpoint.ip(&format!("{flag} route show default"));
        assert!(route.contains(&format!("advmss {mss}")), "{mode}: {route}");
        assert!(setup.run(&format!("{words} --apply")).starts_with("0 of"));
        let _server = Server::start(endpoint, &[family.vip()], "endpoint0");
        world.router.ip(&format!("{flag} route replace {} via {}", family.vip(), family.endpoint(world.place, 0)));
        let mut talk = super::talk::Talk::open(&world.client, family.vip()).expect("the router leads to the VIP");
        talk.exchange(100_000, 1).expect("an upload");
        assert_eq!(talk.mss(), mss, "{mode} {}", family.word());
        drop(talk);
        setup.run(&format!("{words} --undo"));
        assert_eq!(state(endpoint), before, "{mode} {}", family.word());
    }
}

#[test]
fn what_others_changed_since_stays_theirs() {
    if !can("`setup-endpoint --undo` on a real host") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    let endpoint = &world.endpoints[0];
    let setup = Setup::new(endpoint);
    setup.run("--mode l2 --vip 10.0.0.100 --apply");
    endpoint.set("net/ipv4/conf/eth0/arp_ignore", "2");
    endpoint.ip("address del 10.0.0.100/32 dev lo");
    let said = setup.run("--mode l2 --vip 10.0.0.100 --undo");
    assert!(said.contains("net/ipv4/conf/eth0/arp_ignore is 2 by now: left as it is"), "{said}");
    assert!(said.contains("changed by others since, left as it is: ip address del 10.0.0.100/32 dev lo"), "{said}");
    let values = ["all", "eth0"].map(|device| endpoint.value(&format!("net/ipv4/conf/{device}/arp_ignore")));
    assert_eq!(values, ["0", "2"]);
}

#[test]
fn what_cannot_be_done_is_named_and_nothing_is_changed() {
    if !can("the errors of `setup-endpoint`") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    let endpoint = &world.endpoints[0];
    let (setup, before) = (Setup::new(endpoint), state(endpoint));
    for (words, want) in [
        ("--mode l2 --vip 10.0.0.41 --apply", "10.0.0.41 is on eth0, where this host answers for it"),
        ("--mode l2 --vip 10.0.0.100 --interface eth7 --apply", "there is no interface eth7: it is one of lo, eth0"),
        ("--mode nat", "`--mode nat` needs `--balancer ADDRESS`"),
        ("--mode l2", "`--mode l2` needs `--vip ADDRESS`"),
        // Its second step fails: the kernel takes no gateway that it cannot reach.
        (
            "--mode nat --balancer fd00::2,192.0.2.9 --apply",
            "`ip route replace default via 192.0.2.9 dev eth0`: Error: Nexthop has invalid gateway.",
        ),
    ] {
        let (code, said) = setup.say(words);
        assert!(code == 1 && said.contains(want), "{words}: {code} {said}");
        assert_eq!(said.contains("; what was done for it is taken back"), want.contains("`ip route"), "{said}");
        assert_eq!(state(endpoint), before, "{words}");
    }
    let (state_folder, binary) = (setup.state.to_str().expect("a name"), env!("CARGO_BIN_EXE_strata"));
    let words = ["--bounding-set", "-net_admin", binary, "setup-endpoint", "--state", state_folder];
    let rest = ["--mode", "l2", "--vip", "10.0.0.100"];
    let weak = |action: &[&str]| said(&endpoint.run("setpriv", &[&words[..], &rest, action].concat()));
    let (code, text) = weak(&["--apply"]);
    assert!(code == 1 && text.contains("changing the network needs CAP_NET_ADMIN"), "{text}");
    let (code, text) = weak(&[]);
    assert!(code == 0 && text.contains("ip address add 10.0.0.100/32 dev lo"), "printing needs no privilege: {text}");
    assert_eq!(state(endpoint), before);

    // No tunnel device in many kernels. Where there is one, it is made and unmade.
    let (code, text) = setup.say("--mode ipip --vip 10.0.0.100 --apply");
    if code == 0 {
        setup.run("--mode ipip --vip 10.0.0.100 --undo");
    } else {
        assert!(text.contains("`modprobe ipip` on the host, or use `--userspace`"), "{text}");
    }
    assert_eq!(state(endpoint), before);
}
