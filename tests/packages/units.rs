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
    for (addition, wanted) in [("packets.conf", "cap_net_admin"), ("probes.conf", "cap_net_raw")] {
        machine.must(&format!(
            "mkdir -p /etc/systemd/system/strata.service.d && cd /etc/systemd/system/strata.service.d && \
             ln -s /usr/share/strata/systemd/{addition} . && systemctl daemon-reload"
        ));
        let verified = machine.sh("systemd-analyze verify --man=no strata.service");
        assert_eq!((verified.code, verified.err.as_str()), (Some(0), ""), "{addition}");
        machine.must(&format!("systemd-analyze security --no-pager --threshold={PACKETS} strata.service"));
        let may = machine.property("strata.service", "AmbientCapabilities");
        assert!(may.contains(wanted) && may.contains("cap_net_bind_service"), "{addition}: {may}");
        machine.must("rm -r /etc/systemd/system/strata.service.d && systemctl daemon-reload");
    }
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
    machine.write(
        "/etc/strata/strata.toml",
        &format!(
            "{admin}[vip.game]\naddress = \"10.9.0.100\"\ninterface = \"strata0\"\n[service.game]\nmode = \"l2\"\nvip = \"game\"\n\
             pool = \"game\"\n[pool.game]\nprobe = \"icmp\"\nendpoints = [\"10.9.0.41\"]\n"
        ),
    );
    let refused = machine.sh("systemctl restart strata");
    assert_ne!(refused.code, Some(0), "without the addition: {refused:?}");
    machine.await_said("journalctl -u strata -o cat", "CAP_NET_");
    machine.must(
        "mkdir -p /etc/systemd/system/strata.service.d && cd /etc/systemd/system/strata.service.d && \
         ln -s /usr/share/strata/systemd/packets.conf . && systemctl daemon-reload && systemctl restart strata",
    );
    let status = machine.must("strata status");
    assert!(status.contains("game") && status.contains("userspace"), "{status}");
    assert!(machine.is_ordinary("strata.service"), "it runs as root");
    let log = machine.must("journalctl -u strata -o cat --since=-1min");
    for trouble in ["ordinary priority", "no /dev/net/tun", "not permitted"] {
        assert!(!log.contains(trouble), "{trouble}\n{log}");
    }
}
