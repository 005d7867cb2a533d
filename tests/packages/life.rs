//! From installing to purging: what an operator does with a unit, and what is there of it afterwards.

use std::net::SocketAddr;

use super::common::holds_within;
use super::load::endpoint;
use super::machine::Machine;
use super::package::package;

pub const UNIT: &str = "strata.service";

/// A file for an L7 service on `listen` over one endpoint, with what the packaged one says of itself.
pub fn file(listen: &str, endpoint: SocketAddr) -> String {
    format!(
        "[metrics]\nlisten = \"127.0.0.1:9901\"\n[admin]\nlisten = \"unix:/run/strata/strata/admin.sock\"\n\
         [service.web]\nmode = \"l7\"\nlisten = \"{listen}\"\npool = \"web\"\n[pool.web]\nendpoints = [\"{endpoint}\"]\n"
    )
}

pub const FILE: &str = "/etc/strata/strata.toml";

#[test]
fn it_is_installed_starts_reloads_and_goes_without_a_trace() {
    let Some(machine) = Machine::boot("the life of the Debian package") else { return };
    let before = machine.must(EVERYTHING);
    machine.install(&package(""));

    // It serves at once, and at every start of the machine: nothing yet, but it can be asked.
    assert_eq!(machine.must("systemctl is-active strata; systemctl is-enabled strata"), "active\nenabled");
    assert!(machine.is_ordinary(UNIT));
    assert!(machine.must("strata status").contains("generation 1"), "{}", machine.must("strata status"));
    assert!(machine.property(UNIT, "StatusText").starts_with("serves 0 services"));
    assert_eq!(machine.must("stat -c '%U %a' /run/strata/strata/admin.sock"), "strata 600");

    // A port below 1024, by a reload.
    let web = machine.enter(|| endpoint("web"));
    let edge: SocketAddr = "127.0.0.1:80".parse().unwrap();
    machine.write(FILE, &file("127.0.0.1:80", web.address));
    let refused = machine.sh("systemctl reload strata");
    assert_ne!(refused.code, Some(0), "the capability was given up at start: {refused:?}");
    machine.await_said("journalctl -u strata -o cat", "CAP_NET_BIND_SERVICE was given up at start");
    machine.must("systemctl restart strata");
    assert_eq!(machine.get(edge).status(), 200);

    reloads(&machine, web.address);
    starts(&machine, edge);
    is_watched(&machine, edge);

    // Removed: nothing serves, what an operator wrote stays. Installed again, it is what it was.
    machine.must("dpkg --remove strata 2>&1");
    assert_ne!(machine.sh("systemctl is-active strata").code, Some(0));
    assert!(machine.path(FILE).exists() && !machine.path("/usr/bin/strata").exists());
    machine.install(&package(""));
    assert_eq!(machine.get(edge).status(), 200, "by the file that was left");
    machine.must("dpkg --purge strata 2>&1");
    assert_eq!(machine.must(EVERYTHING), before, "purge leaves what was there before");
    assert_ne!(machine.sh("getent passwd strata").code, Some(0));
}

/// Files and accounts but those of dpkg's own book-keeping, of the journal and of running systemd; what the test brought is left out.
const EVERYTHING: &str = "find / -xdev \\( -path /proc -o -path /sys -o -path /var/lib/dpkg -o -path /var/log/journal \
     -o -path /var/lib/systemd/catalog -o -path /root -o -path '/etc/*-' -o -path /var/log/dpkg.log -o -path /etc/.pwd.lock \
     -o -path '/tmp/systemd-private-*' -o -path '/var/tmp/systemd-private-*' \
     -o -path '/var/cache/ldconfig/*' \\) -prune -o -print | sort; \
     find /run/strata /run/systemd/system /run/systemd/transient 2>/dev/null; cut -d: -f1 /etc/passwd /etc/group";

/// A reload waits and fails with a file that is wrong, or that the machine refuses; the one before serves on.
fn reloads(machine: &Machine, endpoint: SocketAddr) {
    let edge: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let pid = machine.main_pid(UNIT);
    let good = file("127.0.0.1:80", endpoint);
    machine.write(FILE, &format!("{good}[service.more]\nmode = \"l7\"\nlisten = \"127.0.0.1:8080\"\npool = \"web\"\n"));
    machine.must("systemctl reload strata");
    assert_eq!(machine.get("127.0.0.1:8080".parse().unwrap()).status(), 200, "at once");
    assert_eq!(machine.property(UNIT, "StatusText"), "serves 2 services, generation 2 of the configuration");

    machine.write(FILE, &good.replace("pool = \"web\"", "pool = \"wbe\""));
    let failed = machine.sh("systemctl reload strata");
    assert_ne!(failed.code, Some(0), "{failed:?}");
    machine.await_said("journalctl -u strata -o cat", "did you mean `web`");
    assert_eq!(machine.must("systemctl is-active strata"), "active");

    // What only the machine can know: the port of the metrics is somebody's.
    let _taken = machine.enter(|| std::net::TcpListener::bind("127.0.0.1:9902")).unwrap();
    machine.write(FILE, &good.replace("9901", "9902"));
    let failed = machine.sh("systemctl reload strata");
    assert_ne!(failed.code, Some(0), "{failed:?}");
    machine.await_said("journalctl -u strata -o cat", "cannot be put into force");
    // Its lines are graded: the refusal is an error, and a start is none.
    let grave = machine.must("journalctl -u strata -o cat -p err");
    assert!(grave.contains("reload refused") && !grave.contains("strata serves"), "{grave}");
    assert_eq!(machine.property(UNIT, "StatusText"), "the last reload was refused; the configuration before serves on");
    for at in ["127.0.0.1:80", "127.0.0.1:8080"] {
        assert_eq!(machine.get(at.parse().unwrap()).status(), 200, "{at}");
    }

    // Without [admin] there is nobody to ask, and the signal does it.
    let mute = good.replace("[admin]\nlisten = \"unix:/run/strata/strata/admin.sock\"\n", "");
    machine.write(FILE, &mute);
    machine.must("systemctl reload strata");
    machine.await_said("systemctl show -P StatusText strata", "serves 1 services, generation 3");
    machine.write(FILE, &mute.replace("127.0.0.1:80\"", "127.0.0.1:81\""));
    assert_ne!(machine.sh("strata status").code, Some(0));
    machine.must("systemctl reload strata");
    machine.await_said("journalctl -u strata -o cat", "was sent SIGHUP, and its log says what came of it");
    machine.await_said("systemctl show -P StatusText strata", "generation 4");
    machine.write(FILE, &good);
    machine.must("systemctl reload strata");
    machine.await_said("strata status", "generation 5");
    assert_eq!(machine.get(edge).status(), 200);
    assert_eq!(
        (machine.main_pid(UNIT), machine.property(UNIT, "NRestarts").as_str()),
        (pid, "0"),
        "one process throughout"
    );
}

/// A start with a wrong file fails, is tried again, and goes well once the file is mended.
fn starts(machine: &Machine, edge: SocketAddr) {
    let good = std::fs::read_to_string(machine.path(FILE)).unwrap();
    machine.write(FILE, "nonsense");
    let failed = machine.sh("systemctl restart strata");
    assert_ne!(failed.code, Some(0), "{failed:?}");
    machine.write(FILE, &good);
    machine.await_only("systemctl is-active strata", "active");
    assert_eq!(machine.get(edge).status(), 200);
    // A drain that takes longer than systemd waits by default is waited for: see `the_time_to_drain_is_asked_for`.
    machine.must("systemctl stop strata");
    assert_eq!(machine.property(UNIT, "Result"), "success");
    machine.must("systemctl start strata");
}

/// A process that stands still is ended and replaced.
fn is_watched(machine: &Machine, edge: SocketAddr) {
    machine.write("/etc/systemd/system/strata.service.d/hasty.conf", "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n");
    machine.must("systemctl daemon-reload && systemctl restart strata");
    let before = machine.main_pid(UNIT);
    let stamp = || machine.property(UNIT, "WatchdogTimestampMonotonic");
    let first = stamp();
    assert!(holds_within(std::time::Duration::from_secs(10), || stamp() != first), "nobody says that it lives");
    machine.must(&format!("kill -STOP {before}"));
    machine.await_only("systemctl show -P NRestarts strata", "1");
    machine.await_only("systemctl is-active strata", "active");
    assert_ne!(machine.main_pid(UNIT), before);
    assert_eq!(machine.get(edge).status(), 200);
    machine.must("rm -r /etc/systemd/system/strata.service.d && systemctl daemon-reload && systemctl restart strata");
}

/// `[drain] timeout` counts, not `TimeoutStopSec`.
#[test]
fn the_time_to_drain_is_asked_for() {
    let Some(machine) = Machine::boot("how long systemd waits for a drain") else { return };
    machine.install(&package(""));
    let slow = machine.enter(|| endpoint("web"));
    machine.write(FILE, &format!("{}[drain]\ntimeout = \"1h\"\n", file("127.0.0.1:8080", slow.address)));
    machine.write("/etc/systemd/system/strata.service.d/hasty.conf", "[Service]\nTimeoutStopSec=1s\n");
    machine.must("systemctl daemon-reload && systemctl restart strata");
    // A tunnel is open as long as its ends like.
    let mut socket = machine.enter(|| {
        let mut wire = super::common::Wire::connect("127.0.0.1:8080".parse().unwrap());
        wire.send(super::load::handshake("/"));
        assert_eq!(wire.response_head().expect("a handshake").status(), 101);
        wire
    });
    machine.must("systemctl stop --no-block strata");
    machine.await_said("systemctl show -P StatusText strata", "finishes what it carries");
    // Longer than systemd would have waited.
    let early = holds_within(std::time::Duration::from_secs(3), || {
        machine.sh("systemctl is-active strata").out.trim() != "deactivating"
    });
    assert!(!early, "it was not let drain\n{}", machine.journal());
    socket.send("still there\n");
    assert_eq!(socket.bytes(12).expect("the echo"), b"still there\n");
    drop(socket);
    machine.await_only("systemctl is-active strata", "inactive");
    assert_eq!(machine.property(UNIT, "Result"), "success");
}
