//! Wiring: what a configuration needs of the kernel's privileges, and giving up the rest at start.
//!
//! What is given up is gone for good: a reload that needs more is refused and says so, and so is an upgrade. `[process]
//! keep_capabilities` keeps more than the first configuration needs.

use crate::state::{Io, Snapshot, Traffic};
use crate::sys::capability::Capability;
use crate::sys::privilege::{self, User};

/// Keeps what `snapshot` needs, and becomes the user that it names. Before there is a second thread.
///
/// # Errors
/// A sentence: the user is not there, or the kernel refuses it.
pub fn settle(snapshot: &Snapshot) -> Result<(), String> {
    let name = snapshot.settings.process.user.as_deref();
    let user = match name.map(|name| (name, User::find(name))) {
        None => None,
        Some((_, Ok(user))) => Some(user),
        Some((name, Err(error))) => return Err(format!("`[process] user`: {name}: {error}")),
    };
    match privilege::restrict(&needed(snapshot, Capability::Bpf.is_held()), user.as_ref()) {
        Ok(()) => Ok(()),
        Err((step, error)) if user.is_some() => {
            Err(format!("`[process] user`: cannot become {}: {step}: {error}", name.unwrap_or_default()))
        }
        Err((step, error)) => Err(format!("privileges cannot be given up: {step}: {error}")),
    }
}

fn needed(snapshot: &Snapshot, has_bpf: bool) -> Vec<Capability> {
    let settings = &snapshot.settings;
    let mut needed: Vec<Capability> = Capability::ALL
        .into_iter()
        .filter(|capability| settings.process.keep_capabilities.contains(&capability.name()))
        .collect();
    let admin = settings.admin.iter().filter_map(|admin| match admin {
        crate::base::address::AdminListen::Tcp(listen) => Some(*listen),
        crate::base::address::AdminListen::Unix(_) => None,
    });
    let mut listeners = snapshot.services().flat_map(|service| service.spec.listen.iter().copied());
    if listeners.any(is_low) || settings.metrics.into_iter().chain(admin).any(is_low) {
        needed.push(Capability::NetBindService);
    }
    if snapshot.services().any(|service| matches!(service.traffic, Traffic::Packet(_))) {
        needed.extend([Capability::NetAdmin, Capability::NetRaw, Capability::SysNice]);
        if settings.packet_io == Some(Io::AfXdp) {
            needed.extend([Capability::Bpf, Capability::IpcLock]);
        }
    }
    let probes = snapshot.pools().filter_map(|pool| pool.spec.probe.as_ref());
    if probes.into_iter().any(|probe| matches!(probe.name, "icmp" | "arp")) {
        needed.push(Capability::NetRaw);
    }
    if needed.contains(&Capability::Bpf) && !has_bpf {
        // Far more than is needed, and kept only where there is nothing less.
        needed.push(Capability::SysAdmin);
    }
    needed
}

fn is_low(listen: crate::base::Listen) -> bool {
    listen.port() < FREE_PORTS
}

/// The sentence that belongs to an error for want of a capability, where this process had it once.
pub fn reminder(errors: &[String]) -> Option<String> {
    remind(errors, &privilege::given_up())
}

fn remind(errors: &[String], given_up: &[Capability]) -> Option<String> {
    let is_named = |capability: Capability| {
        let name = format!("CAP_{}", capability.name());
        errors
            .iter()
            .any(|error| error.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).any(|word| word == name))
    };
    let is_missed = |capability: &&Capability| match capability {
        // Nobody wants it who can have less.
        Capability::SysAdmin => is_named(Capability::SysAdmin) && !given_up.contains(&Capability::Bpf),
        // Whoever loads a program locks memory next.
        Capability::IpcLock => is_named(Capability::IpcLock) || is_named(Capability::Bpf),
        other => is_named(**other),
    };
    let gone: Vec<Capability> = given_up.iter().filter(is_missed).copied().collect();
    let names: Vec<&str> = gone.iter().map(|capability| capability.name()).collect();
    let words: Vec<String> = gone.iter().map(|capability| format!("\"{}\"", word(*capability))).collect();
    (!gone.is_empty()).then(|| {
        format!(
            "CAP_{} was given up at start, because the configuration did not need it then: restart, and to have it for later put \
             `keep_capabilities = [{}]` into `[process]`",
            names.join(", CAP_"),
            words.join(", ")
        )
    })
}

/// What `keep_capabilities` calls it.
fn word(capability: Capability) -> String {
    let known = match capability {
        // Kept by the name of what it stands for: see `needed`.
        Capability::SysAdmin => Capability::Bpf,
        other => other,
    };
    known.name().to_lowercase().replace('_', "-")
}

/// Ports from here on are anybody's, unless somebody has set `net.ipv4.ip_unprivileged_port_start`.
const FREE_PORTS: u16 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::HashKey;
    use crate::config::{self, Catalogs};

    fn snapshot(text: &str) -> Result<Snapshot, String> {
        let loaded = config::read("test", text.as_bytes().to_vec(), &crate::doc::Nowhere, &Catalogs::default());
        let config = loaded.config.ok_or_else(|| format!("{:?}", loaded.diagnostics))?;
        let machine = config::Machine { cores: 1, random_key: HashKey::new([7; 16]) };
        config::compile(&config, &Snapshot::empty(crate::net::rig::settings()), &machine)
            .map_err(|_| "it cannot be compiled".to_owned())
    }

    const PACKETS: &str = "[vip.v]\naddress = \"10.0.0.100\"\ninterface = \"eth0\"\n[service.s]\nmode = \"l2\"\nvip = \"v\"\npool = \"p\"\n\
        [pool.p]\nendpoints = [\"10.0.0.41\"]\n";

    /// What AF_XDP says where it may not, and what packet sockets say.
    const MAY_NOT: &str =
        "XDP needs CAP_NET_ADMIN and CAP_BPF (or CAP_SYS_ADMIN), Docker 20.10's does so for CAP_SYS_ADMIN only";
    const NO_MEMORY: &str = "this process may lock no more memory: give it CAP_IPC_LOCK";
    const NO_SOCKET: &str = "packet modes need CAP_NET_RAW";

    #[test]
    fn a_reminder_names_what_is_missed_and_proposes_a_file_that_keeps_it() {
        use Capability::{Bpf, IpcLock, NetAdmin, NetBindService, NetRaw, SysAdmin, SysNice};
        let by_the_ring = [NetBindService, IpcLock, Bpf, SysAdmin];
        for (error, given_up, said, keep) in [
            (MAY_NOT, &by_the_ring[..], "CAP_IPC_LOCK, CAP_BPF was given up", &["ipc-lock", "bpf"][..]),
            (MAY_NOT, &[IpcLock, Bpf], "CAP_IPC_LOCK, CAP_BPF was given up", &["ipc-lock", "bpf"]),
            // A container of an engine that does not know BPF.
            (MAY_NOT, &[IpcLock, SysAdmin], "CAP_IPC_LOCK, CAP_SYS_ADMIN was given up", &["ipc-lock", "bpf"]),
            (MAY_NOT, &[SysNice, NetRaw], "", &[]),
            (NO_MEMORY, &by_the_ring, "CAP_IPC_LOCK was given up", &["ipc-lock"]),
            (NO_SOCKET, &[NetAdmin, NetRaw, SysNice, Bpf], "CAP_NET_RAW was given up", &["net-raw"]),
            ("CAP_BPFS is something else", &by_the_ring, "", &[]),
        ] {
            let reminder = remind(&[error.to_owned()], given_up);
            assert_eq!(reminder.is_some(), !said.is_empty(), "{error} {given_up:?}");
            let Some(reminder) = reminder else { continue };
            assert!(reminder.starts_with(said), "{error} {given_up:?}: {reminder}");
            let proposed = reminder.split('`').nth(1).unwrap();
            let snapshot = snapshot(&format!("[process]\n{proposed}\n{PACKETS}"))
                .unwrap_or_else(|why| panic!("{proposed}: {why}"));
            let kept = needed(&snapshot, given_up.contains(&Bpf));
            for missed in given_up.iter().filter(|one| said.contains(&format!("CAP_{}", one.name()))) {
                assert!(kept.contains(missed), "{proposed} does not keep {missed:?}");
            }
            let words: Vec<String> = keep.iter().map(|word| format!("\"{word}\"")).collect();
            assert_eq!(proposed, format!("keep_capabilities = [{}]", words.join(", ")), "{error} {given_up:?}");
        }
    }

    #[test]
    fn sys_admin_is_kept_only_where_programs_are_loaded_and_nothing_less_is_there() {
        let xdp = format!("[packets]\nio = \"af-xdp\"\n{PACKETS}");
        let kept = format!("[process]\nkeep_capabilities = \"bpf\"\n{PACKETS}");
        for (text, has_bpf, keeps) in [
            (&xdp, true, false),
            (&xdp, false, true),
            (&kept, true, false),
            (&kept, false, true),
            (&PACKETS.to_owned(), false, false),
        ] {
            let needed = needed(&snapshot(text).unwrap(), has_bpf);
            assert_eq!(needed.contains(&Capability::SysAdmin), keeps, "{has_bpf} {text}");
            assert_eq!(needed.contains(&Capability::Bpf), *text != PACKETS, "{text}");
        }
    }
}
