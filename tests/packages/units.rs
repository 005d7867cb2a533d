//! The units themselves: that the two are one, and what systemd says of them.

use std::fs;

use super::machine::Machine;
use super::package::package;

/// What systemd calls exposure, in tenths: below 2 of 10 for proxies, which need little, as docs/install.md says.
const PROXIES: u32 = 19;
/// With all that packets need.
const PACKETS: u32 = 28;

#[test]
fn the_template_is_the_unit_with_a_name() {
    let read = |name: &str| fs::read_to_string(format!("deploy/systemd/{name}")).unwrap();
    let lines = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            line.replace("/etc/strata/strata.toml", "/etc/strata/%i.toml")
                .replace("=strata/strata", "=strata/%i")
                .replace("/etc/default/strata-%i", "/etc/default/strata")
                .replace("balancer: %i", "balancer")
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(lines(&read("strata.service")), lines(&read("strata@.service")));
    assert!(read("strata@.service").contains("/etc/strata/%i.toml"));
}

#[test]
fn systemd_understands_the_units_and_finds_them_closed() {
    let Some(machine) = Machine::boot("what systemd says of the units") else { return };
    machine.install(&package(""));
    machine.must("cp /usr/share/strata/systemd/strata.socket /etc/systemd/system/ && systemctl daemon-reload");
    // It prints what it does not know, and succeeds.
    for unit in ["strata.service", "strata@edge.service", "strata.socket"] {
        let said = machine.sh(&format!("systemd-analyze verify --man=no {unit}"));
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{unit}: {}", said.out);
    }
    machine.must(&format!("systemd-analyze security --no-pager --threshold={PROXIES} strata.service"));
    let unit = machine.must("systemctl show --property=SystemCallFilter --value strata.service");
    assert!(!unit.split_whitespace().any(|call| call == "bpf"), "{unit}");
    for (additions, wanted) in [
        ("packets.conf", "cap_net_admin"),
        ("probes.conf", "cap_net_raw"),
        ("packets.conf af-xdp.conf", "cap_bpf cap_ipc_lock cap_net_admin"),
    ] {
        add(&machine, additions);
        let verified = machine.sh("systemd-analyze verify --man=no strata.service");
        assert_eq!((verified.code, verified.err.as_str()), (Some(0), ""), "{additions}");
        machine.must(&format!("systemd-analyze security --no-pager --threshold={PACKETS} strata.service"));
        let may = machine.property("strata.service", "AmbientCapabilities");
        let wanted = wanted.split_whitespace().chain(["cap_net_bind_service"]);
        assert!(wanted.clone().all(|wanted| may.contains(wanted)), "{additions}: {may}");
        if additions.contains("af-xdp") {
            for (property, word) in
                [("SystemCallFilter", "bpf"), ("RestrictAddressFamilies", "AF_XDP"), ("LimitMEMLOCK", "infinity")]
            {
                let may = machine.property("strata.service", property);
                assert!(may.split_whitespace().any(|may| may == word), "{property}: {may}");
            }
            // Beside what was there, not in its place.
            for (property, word) in [("SystemCallFilter", "epoll_wait"), ("RestrictAddressFamilies", "AF_PACKET")] {
                assert!(machine.property("strata.service", property).contains(word), "{property}");
            }
        }
        machine.must("rm -r /etc/systemd/system/strata.service.d && systemctl daemon-reload");
    }
}

/// Adds to the unit what stands beside it in the package.
#[track_caller]
fn add(machine: &Machine, additions: &str) {
    machine.must(&format!(
        "mkdir -p /etc/systemd/system/strata.service.d && cd /etc/systemd/system/strata.service.d && for addition in {additions}; do \
         ln -s /usr/share/strata/systemd/$addition .; done && systemctl daemon-reload"
    ));
}

/// A packet service as the ordinary user, by the capabilities of the addition alone, and a ping as well.
#[test]
fn packets_are_served_by_an_ordinary_user_with_the_addition() {
    let Some(machine) = Machine::boot("packet services below the unit") else { return };
    machine.install(&package(""));
    machine.enter(|| {
        for words in [
            "link add strata0 type veth peer name far0",
            "link set strata0 up",
            "link set far0 up",
            "addr add 10.9.0.2/24 dev strata0",
        ] {
            let done = std::process::Command::new("ip").args(words.split_whitespace()).status();
            assert!(done.is_ok_and(|done| done.success()), "ip {words}");
        }
    });
    let admin = "[admin]\nlisten = \"unix:/run/strata/strata/admin.sock\"\n";
    let text = format!(
        "{admin}[vip.game]\naddress = \"10.9.0.100\"\ninterface = \"strata0\"\n[service.game]\nmode = \"l2\"\nvip = \"game\"\n\
         pool = \"game\"\n[pool.game]\nprobe = \"icmp\"\nendpoints = [\"10.9.0.41\"]\n"
    );
    machine.write("/etc/strata/strata.toml", &text);
    let refused = machine.sh("systemctl restart strata");
    assert_ne!(refused.code, Some(0), "without the addition: {refused:?}");
    machine.await_said("journalctl -u strata -o cat", "CAP_NET_");
    add(&machine, "packets.conf");
    machine.must("systemctl restart strata");
    let status = machine.must("strata status");
    assert!(status.contains("game") && status.contains("userspace"), "{status}");
    assert!(machine.is_ordinary("strata.service"), "it runs as root");
    let log = machine.must("journalctl -u strata -o cat --since=-1min");
    for trouble in ["ordinary priority", "no /dev/net/tun", "not permitted"] {
        assert!(!log.contains(trouble), "{trouble}\n{log}");
    }
    // AF_XDP takes more, and what it takes is said without.
    machine.write("/etc/strata/strata.toml", &format!("{text}[packets]\nio = \"af-xdp\"\n"));
    let refused = machine.sh("systemctl restart strata");
    assert_ne!(refused.code, Some(0), "without the addition: {refused:?}");
    machine.await_said("journalctl -u strata -o cat", "CAP_BPF");
    add(&machine, "af-xdp.conf");
    machine.must("systemctl restart strata");
    let status = machine.must("strata status");
    assert!(status.contains("userspace-af-xdp"), "{status}\n{}", machine.must("journalctl -u strata -o cat -n 20"));
    assert!(machine.is_ordinary("strata.service"), "it runs as root");
}
