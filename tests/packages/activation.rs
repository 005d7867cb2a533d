//! Sockets that systemd holds.

use std::net::SocketAddr;
use std::time::Duration;

use super::life::{FILE, UNIT, file};
use super::load::{Kind, Load, endpoint};
use super::machine::Machine;
use super::package::package;

#[test]
fn with_sockets_of_systemd_neither_a_restart_nor_a_crash_refuses_anybody() {
    let Some(machine) = Machine::boot("socket activation") else { return };
    machine.install(&package(""));
    let web = machine.enter(|| endpoint("web"));
    let edge: SocketAddr = "127.0.0.1:80".parse().unwrap();
    // The admin socket of the unit as well, where Strata could remove it, and no privilege of Strata's own.
    let text = file(":80", web.address).replace("/run/strata/strata/admin.sock", "/var/lib/strata/strata/admin.sock");
    machine.write(FILE, &text);
    machine.write(
        "/etc/systemd/system/strata.socket.d/admin.conf",
        "[Socket]\nListenStream=/var/lib/strata/strata/admin.sock\nSocketUser=strata\nSocketMode=0660\n",
    );
    machine.write(
        "/etc/systemd/system/strata.service.d/less.conf",
        "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n",
    );
    machine.must(
        "systemctl stop strata && cp /usr/share/strata/systemd/strata.socket /etc/systemd/system/ && systemctl daemon-reload && \
         systemctl enable --now strata.socket 2>&1",
    );
    assert_ne!(machine.sh("systemctl is-active strata").code, Some(0), "nobody has asked yet");
    assert_eq!(machine.get(edge).status(), 200, "who asks first starts it");
    assert_eq!(machine.must("systemctl is-active strata"), "active");
    assert!(machine.is_ordinary(UNIT));

    let load = machine.enter(|| {
        let mut load = Load::start();
        load.clients(Kind::Fresh, 4, edge, "/", Duration::from_millis(10)).clients(
            Kind::Reopened,
            2,
            edge,
            "/",
            Duration::from_millis(20),
        );
        load.await_more(50);
        load
    });
    let ask = "strata status --admin unix:/var/lib/strata/strata/admin.sock";
    for _ in 0..2 {
        machine.must("systemctl restart strata");
        load.await_more(50);
        machine.must(ask);
    }
    // An upgrade passes them on, and the one after it leaves the socket's file too.
    machine.must("strata upgrade --admin unix:/var/lib/strata/strata/admin.sock");
    load.await_more(50);
    machine.must("systemctl restart strata");
    machine.must(ask);
    let seen = load.stop();
    println!("3 restarts and an upgrade in {:?} at {:.0} exchanges/s: {:?}", seen.took, seen.rate(), seen.all());
    seen.assert_nothing_lost();

    // A crash cuts what is open. Who comes while nobody is there waits.
    let fresh = machine.enter(|| {
        let mut load = Load::start();
        load.clients(Kind::Fresh, 1, edge, "/", Duration::from_millis(100));
        load.await_more(3);
        load
    });
    machine.must("systemctl kill --kill-whom=main --signal=KILL strata");
    machine.await_only("systemctl show -P NRestarts strata", "1");
    fresh.await_more(3);
    let seen = fresh.stop().all();
    assert_eq!(seen.refused, 0, "{seen:?}");
    assert!(seen.failed + seen.truncated <= 1, "more than what was open: {seen:?}");

    let log = machine.must("journalctl -u strata -o cat");
    assert!(!log.contains("nothing in the file listens on") && !log.contains("cannot listen"), "{log}");
    machine.must("dpkg --purge strata 2>&1");
    assert_ne!(machine.sh("systemctl is-active strata.socket").code, Some(0));
}
