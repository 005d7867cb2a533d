//! A new version of the package while the old one serves.

use std::net::SocketAddr;
use std::time::Duration;

use super::common::Wire;
use super::life::{FILE, UNIT, file};
use super::load::{Kind, Load, endpoint, handshake};
use super::machine::Machine;
use super::package::package;

#[test]
fn a_new_version_takes_over_without_losing_anybody() {
    let Some(machine) = Machine::boot("an upgrade of the Debian package") else { return };
    machine.install(&package(""));
    let web = machine.enter(|| endpoint("web"));
    let edge: SocketAddr = "127.0.0.1:80".parse().unwrap();
    machine.write(FILE, &file("127.0.0.1:80", web.address));
    let other = file("127.0.0.1:8080", web.address).replace("strata/strata", "strata/edge").replace("9901", "9902");
    machine.write("/etc/strata/edge.toml", &other);
    machine.must("systemctl restart strata && systemctl enable --now strata@edge 2>&1");
    let units = [UNIT, "strata@edge.service"];
    let first = units.map(|unit| machine.main_pid(unit));

    let load = machine.enter(|| {
        let mut load = Load::start();
        load.clients(Kind::Fresh, 4, edge, "/", Duration::from_millis(10))
            .clients(Kind::Reopened, 4, edge, "/", Duration::from_millis(20))
            .clients(Kind::Post, 2, edge, "/", Duration::from_millis(20));
        load.await_more(50);
        load
    });
    let said = machine.install(&package("+1"));
    let second = units.map(|unit| machine.main_pid(unit));
    for (unit, (before, now)) in units.iter().zip(first.into_iter().zip(second)) {
        assert_ne!(before, now, "{unit}: {said}");
        assert!(said.contains(&format!("{unit}: process {now} serves")), "{said}");
    }
    load.await_more(100);
    let seen = load.stop();
    println!("an upgrade in {:?} at {:.0} exchanges/s: {:?}", seen.took, seen.rate(), seen.all());
    seen.assert_nothing_lost();
    assert_eq!(machine.get("127.0.0.1:8080".parse().unwrap()).status(), 200);

    // To systemd it is the same service, and the new process its main one: it is watched, reloaded, replaced when it dies.
    for unit in units {
        assert_eq!(machine.must(&format!("systemctl is-active {unit}")), "active");
        assert_eq!(machine.property(unit, "NRestarts"), "0");
        machine.await_said(&format!("systemctl show -P StatusText {unit}"), "serves 1 services");
    }
    machine.await_only(&format!("test -d /proc/{} || echo gone", first[0]), "gone");
    machine.must("systemctl reload strata strata@edge");
    machine.must(&format!("kill -KILL {}", second[0]));
    machine.await_only("systemctl show -P NRestarts strata", "1");
    machine.await_said("strata healthcheck", "ready");
    assert_eq!(machine.get(edge).status(), 200);

    // All of them stop when the package goes, and nothing is enabled any more.
    machine.must("dpkg --purge strata 2>&1");
    assert_ne!(machine.sh("systemctl is-active strata@edge").code, Some(0));
    assert_eq!(machine.must("find /etc/systemd -name 'strata*'"), "");
    assert!(machine.path("/etc/strata/edge.toml").exists(), "an operator's file");
}

/// The old process drains while the new one dies: nobody must be left without a process for longer than the watchdog.
#[test]
fn a_successor_that_dies_is_replaced_though_the_one_before_still_drains() {
    let Some(machine) = Machine::boot("a successor that dies") else { return };
    machine.install(&package(""));
    let web = machine.enter(|| endpoint("web"));
    let edge: SocketAddr = "127.0.0.1:80".parse().unwrap();
    machine.write(FILE, &format!("{}[drain]\ntimeout = \"1h\"\n", file("127.0.0.1:80", web.address)));
    machine.write("/etc/systemd/system/strata.service.d/hasty.conf", "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n");
    machine.must("systemctl daemon-reload && systemctl restart strata");
    let first = machine.main_pid(UNIT);
    let mut socket = machine.enter(|| {
        let mut wire = Wire::connect(edge);
        wire.send(handshake("/"));
        assert_eq!(wire.response_head().expect("a handshake").status(), 101);
        wire
    });
    machine.must("strata upgrade");
    machine.await_only(&format!("test \"$(systemctl show -P MainPID strata)\" = {first} || echo another"), "another");
    let second = machine.main_pid(UNIT);
    socket.send("still there\n");
    assert_eq!(socket.bytes(12).expect("the echo"), b"still there\n", "the first one carries it");
    machine.must(&format!("kill -KILL {second}"));
    machine.await_only("systemctl show -P NRestarts strata", "1");
    machine.await_said("strata healthcheck", "ready");
    assert_eq!(machine.get(edge).status(), 200);
}

#[test]
fn a_version_that_cannot_serve_leaves_the_old_one_serving_and_says_so() {
    let Some(machine) = Machine::boot("an upgrade of the Debian package that is refused") else { return };
    machine.install(&package(""));
    let web = machine.enter(|| endpoint("web"));
    let edge: SocketAddr = "127.0.0.1:80".parse().unwrap();
    machine.write(FILE, &file("127.0.0.1:80", web.address));
    machine.must("systemctl restart strata");
    let first = machine.main_pid(UNIT);
    machine.write(FILE, "a file that somebody has not finished");
    let said = machine.install(&package("+1"));
    assert!(said.contains("the new version does not take over, so the old one serves on"), "{said}");
    assert_eq!((machine.main_pid(UNIT), machine.get(edge).status()), (first, 200));
    assert!(machine.property(UNIT, "StatusText").starts_with("the last upgrade was refused"));
    machine.write(FILE, &file("127.0.0.1:80", web.address));
    machine.must("strata upgrade");
    assert_ne!(machine.main_pid(UNIT), first);
    assert_eq!(machine.get(edge).status(), 200);
    // What was stopped stays stopped.
    machine.must("systemctl stop strata");
    machine.install(&package("+2"));
    assert_ne!(machine.sh("systemctl is-active strata").code, Some(0));
}
