//! An upgrade of the process that forwards packets: no frame goes out twice, and connections live as across a restart.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::binary::Binary;
use super::common::{Successor, await_that};
use super::load::Crowd;
use super::node::can;
use super::rig::{AF_XDP, Extra, NOTHING, Rig, Way};
use super::talk::{ask, ping, udp};
use super::world::{Family, Place};

/// Has another process serve, which goes with what is returned.
#[track_caller]
fn upgrade(rig: &Rig) -> Successor {
    rig.command(&["upgrade"]);
    let said = rig.world.balancer.strata(&["status", "--json", "--admin", &rig.strata.admin.to_string()]);
    let status: serde_json::Value = serde_json::from_slice(&said.stdout).expect("a document");
    Successor(u32::try_from(status["pid"].as_u64().expect("a pid")).unwrap())
}

#[test]
fn transfers_go_on_across_upgrades_in_direct_return_and_nat() {
    const COUNT: usize = 100;
    for (way, extra) in [(Way::L2, NOTHING), (Way::Gue, NOTHING), (Way::L4Nat, NOTHING), (Way::L4Nat, AF_XDP)] {
        if !extra.can(&format!("upgrades among {COUNT} transfers: {way:?}")) {
            return;
        }
        let mut rig = Rig::new(way, Place::Lan, 3, 3, extra);
        let mut successors = Vec::new();
        let outcome = Crowd::during(&rig.world.client, COUNT, |crowd| {
            for _ in 0..2 {
                successors.push(upgrade(&rig));
                crowd.await_transfers();
                if extra.is_af_xdp() {
                    // The program of before goes with its process, the successor's comes then.
                    let before = rig.taken();
                    await_that("the successor takes frames by AF_XDP", || rig.taken() > before + COUNT as u64);
                }
            }
        });
        println!("{way:?}: 2 upgrades: {}", outcome.summary());
        assert!(outcome.broken().is_empty() && outcome.turned_away().is_empty(), "{way:?}: {}", outcome.summary());
        await_that("the first one has ended", || !rig.strata.is_running());
        for family in Family::BOTH {
            assert!(ping(&rig.world.router, family.vip(), 8).is_ok(), "the VIP is answered for");
        }
    }
}

#[test]
fn no_datagram_is_forwarded_twice_while_one_process_takes_over_from_another() {
    if !can("datagrams during an upgrade") {
        return;
    }
    let rig = Rig::new(Way::L2, Place::Lan, 2, 2, Extra::default());
    let count = || rig.servers.iter().map(|server| server.datagrams()).sum::<u64>();
    let stop = AtomicBool::new(false);
    let before = count();
    let socket = udp(&rig.world.client, Family::V4.vip()).expect("a socket");
    socket.set_nonblocking(true).unwrap();
    let (sent, answers, _successor) = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (mut sent, mut answers) = (0_u64, HashMap::<Vec<u8>, u32>::new());
            let mut answer = [0; 256];
            let mut quiet_since = Instant::now();
            // Numbered, 2000 a second, so that some fall into every moment of it; at the end the last answers are waited for.
            while !stop.load(Relaxed) || quiet_since.elapsed() < Duration::from_millis(500) {
                if !stop.load(Relaxed) {
                    sent += u64::from(socket.send(format!("number {sent}").as_bytes()).is_ok());
                }
                while let Ok(length) = socket.recv(&mut answer) {
                    quiet_since = Instant::now();
                    let said = answer[..length].splitn(2, |byte| *byte == b'\n').nth(1).expect("a line");
                    *answers.entry(said.to_vec()).or_default() += 1;
                }
                thread::sleep(Duration::from_micros(500));
            }
            (sent, answers)
        });
        await_that("datagrams arrive", || count() > before + 50);
        let successor = upgrade(&rig);
        let after = count();
        await_that("they still do", || count() > after + 50);
        stop.store(true, Relaxed);
        let (sent, answers) = client.join().expect("the client");
        (sent, answers, successor)
    });
    let twice = answers.values().filter(|count| **count > 1).count();
    println!("{sent} datagrams sent, {} answered, {twice} of them twice", answers.len());
    assert_eq!(twice, 0, "a frame was forwarded by both");
    // Those that fall between the one and the other are lost, and on a busy machine that takes a while.
    assert!(answers.len() as u64 >= sent / 2, "{} of {sent} were answered", answers.len());
}

/// How a successor fails that was prepared, and what is said of it.
const LATE: &[(&str, &str, &str)] = &[
    ("it dies", "real.kill(); real.wait(); os._exit(7)", "exit status: 7"),
    ("it hangs", "time.sleep(600)", "did not take over within 5s"),
];

#[test]
fn packets_go_on_where_a_successor_fails_when_it_is_to_take_over() {
    const COUNT: usize = 50;
    for way in [Way::L2, Way::L4Nat] {
        if !can(&format!("upgrades that fail late among {COUNT} transfers: {way:?}")) {
            return;
        }
        let rig = Rig::new(way, Place::Lan, 3, 3, Extra { linked: true, ..Extra::default() });
        let binary = rig.strata.folder().join("strata");
        let admin = rig.strata.admin.to_string();
        let outcome = Crowd::during(&rig.world.client, COUNT, |crowd| {
            for (name, then, why) in LATE {
                Binary::late_and_real(then).put(&binary);
                let said = rig.world.balancer.strata(&["upgrade", "--admin", &admin]);
                let text = String::from_utf8_lossy(&said.stderr);
                assert!(said.status.code() == Some(1) && text.contains(why), "{name}: {text}");
                for family in Family::BOTH {
                    let answers = || ping(&rig.world.router, family.vip(), 8).is_ok();
                    await_that(&format!("{name}: the VIP is answered for"), answers);
                }
                crowd.await_transfers();
            }
        });
        println!("{way:?}: {} failed upgrades: {}", LATE.len(), outcome.summary());
        assert!(outcome.broken().is_empty() && outcome.turned_away().is_empty(), "{way:?}: {}", outcome.summary());
        assert!(!rig.strata.log().contains("packets are not served"), "{}", rig.strata.log_tail());
        // The taps that it gave up are its own again: a real one can have them.
        Binary::Real.put(&binary);
        let _successor = upgrade(&rig);
        for family in Family::BOTH {
            await_that("the VIP is answered for", || ping(&rig.world.router, family.vip(), 8).is_ok());
        }
    }
}

/// The old process wants back what it had, and that cannot be had any more: less is better than nothing.
#[test]
fn packets_go_on_by_the_ring_where_a_successor_fails_late_and_af_xdp_is_lost_meanwhile() {
    let extra = Extra { linked: true, ..AF_XDP };
    if !extra.can("an upgrade that fails late without AF_XDP afterwards") {
        return;
    }
    let rig = Rig::new(Way::L4Nat, Place::Lan, 2, 2, extra);
    let (_, dies, _) = LATE[0];
    let [told, go] = ["told", "go"].map(|name| rig.strata.folder().join(name));
    let waits = format!("open({told:?}, 'w').close()\nwhile not os.path.exists({go:?}):\n    time.sleep(0.01)\n{dies}");
    Binary::late_and_real(&waits).put(&rig.strata.folder().join("strata"));
    let said = thread::scope(|scope| {
        let upgrade = scope.spawn(|| rig.world.balancer.strata(&["upgrade", "--admin", &rig.strata.admin.to_string()]));
        await_that("nobody serves packets", || told.exists());
        // A veth whose other end is that long takes no XDP.
        rig.world.switch.ip("link set balancer mtu 9000");
        std::fs::write(&go, "").expect("a file");
        upgrade.join().expect("the command")
    });
    assert_eq!(said.status.code(), Some(1), "{}", String::from_utf8_lossy(&said.stderr));
    let taken = rig.taken();
    for family in Family::BOTH {
        let vip = family.vip();
        await_that("the VIP is answered for", || ping(&rig.world.router, vip, 8).is_ok());
        await_that("connections are forwarded", || ask(&rig.world.client, vip, 1000, 1000).is_ok());
    }
    assert_eq!(rig.taken(), taken, "by AF_XDP all the same");
}
