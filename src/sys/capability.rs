//! Io: what this process may do (capabilities(7)).

use std::fs;

/// A capability that some part of Strata needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Listen below port 1024.
    NetBindService,
    /// Neighbours, ingress classifiers, promiscuity.
    NetAdmin,
    /// Packet sockets.
    NetRaw,
    /// Packet workers go before ordinary threads. They serve without.
    SysNice,
    /// AF_XDP: memory that frames come in, however much may be locked. Where the limit is high enough it does without.
    IpcLock,
    /// AF_XDP: the program that picks frames.
    Bpf,
    /// What stands for `Bpf` where nobody can give that: engines for containers that do not know it.
    SysAdmin,
}

impl Capability {
    pub const ALL: [Capability; 7] = [
        Capability::NetBindService,
        Capability::NetAdmin,
        Capability::NetRaw,
        Capability::SysNice,
        Capability::IpcLock,
        Capability::Bpf,
        Capability::SysAdmin,
    ];

    /// Its name, as `docker run --cap-add` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Capability::NetBindService => "NET_BIND_SERVICE",
            Capability::NetAdmin => "NET_ADMIN",
            Capability::NetRaw => "NET_RAW",
            Capability::SysNice => "SYS_NICE",
            Capability::IpcLock => "IPC_LOCK",
            Capability::Bpf => "BPF",
            Capability::SysAdmin => "SYS_ADMIN",
        }
    }

    /// linux/capability.h
    const fn bit(self) -> u32 {
        match self {
            Capability::NetBindService => 10,
            Capability::NetAdmin => 12,
            Capability::NetRaw => 13,
            Capability::SysNice => 23,
            Capability::IpcLock => 14,
            Capability::Bpf => 39,
            Capability::SysAdmin => 21,
        }
    }

    /// Its bit in a set.
    pub(super) const fn mask(self) -> u64 {
        1 << self.bit()
    }

    /// Whether it is in effect. Of an unreadable `/proc`: no.
    pub fn is_held(self) -> bool {
        fs::read_to_string("/proc/thread-self/status").is_ok_and(|status| self.is_in(&status))
    }

    fn is_in(self, status: &str) -> bool {
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        effective.is_some_and(|set| set & self.mask() != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_read_from_the_effective_set() {
        // What a container has that adds NET_RAW and nothing else.
        let status = "Name:\tstrata\nCapPrm:\tffffffffffffffff\nCapEff:\t0000000000002000\n";
        let held = [Capability::NetRaw, Capability::NetAdmin, Capability::Bpf].map(|wanted| wanted.is_in(status));
        assert_eq!(held, [true, false, false]);
        assert!(!Capability::NetRaw.is_in("CapEff:\tnothing\n") && !Capability::NetRaw.is_in(""));
    }

    #[test]
    fn holding_it_means_that_the_kernel_lets_us() {
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
        assert_eq!(Capability::NetRaw.is_held(), fd != -1);
        if fd != -1 {
            // SAFETY: `fd` is open and nobody else knows of it.
            unsafe { libc::close(fd) };
        }
    }
}
