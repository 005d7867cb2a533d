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
    match privilege::restrict(&needed(snapshot), user.as_ref()) {
        Ok(()) => Ok(()),
        Err((step, error)) if user.is_some() => {
            Err(format!("`[process] user`: cannot become {}: {step}: {error}", name.unwrap_or_default()))
        }
        Err((step, error)) => Err(format!("privileges cannot be given up: {step}: {error}")),
    }
}

fn needed(snapshot: &Snapshot) -> Vec<Capability> {
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
            // Far more than is needed, and kept only where there is nothing less.
            let load = if Capability::Bpf.is_held() { Capability::Bpf } else { Capability::SysAdmin };
            needed.extend([load, Capability::IpcLock]);
        }
    }
    let probes = snapshot.pools().filter_map(|pool| pool.spec.probe.as_ref());
    if probes.into_iter().any(|probe| matches!(probe.name, "icmp" | "arp")) {
        needed.push(Capability::NetRaw);
    }
    needed
}

fn is_low(listen: crate::base::Listen) -> bool {
    listen.port() < FREE_PORTS
}

/// The sentence that belongs to an error for want of a capability, where this process had it once.
pub fn reminder(errors: &[String]) -> Option<String> {
    let gone: Vec<&str> = privilege::given_up()
        .into_iter()
        .map(Capability::name)
        .filter(|name| errors.iter().any(|error| error.contains(&format!("CAP_{name}"))))
        .collect();
    let words: Vec<String> = gone.iter().map(|name| format!("\"{}\"", name.to_lowercase().replace('_', "-"))).collect();
    (!gone.is_empty()).then(|| {
        format!(
            "CAP_{} was given up at start, because the configuration did not need it then: restart, and to have it for later put \
             `keep_capabilities = [{}]` into `[process]`",
            gone.join(", CAP_"),
            words.join(", ")
        )
    })
}

/// Ports from here on are anybody's, unless somebody has set `net.ipv4.ip_unprivileged_port_start`.
const FREE_PORTS: u16 = 1024;
