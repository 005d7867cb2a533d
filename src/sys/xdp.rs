//! Io: an XDP program before the packet ring: plain TCP and UDP that is Strata's goes to AF_XDP sockets, before the kernel makes
//! anything of it.
//!
//! ```text
//!   card -> driver -> program: ours ──▶ the AF_XDP socket of the queue
//!                              else ──▶ kernel: tap, clsact, stack, as if there were no program
//! ```
//!
//! It is made of the classifiers of the same rules (`classify`), so that it takes only what those would drop from the kernel (and
//! of virtual MACs, which the kernel has none of, what a tap takes). What is left to the kernel still meets them.
//!
//! **Whose it is.** An interface has one program. It hangs by a descriptor of this process, and goes when that is closed, however
//! the process dies; so one that starts while another lives finds the place taken, serves by its taps, and asks again later.
//!
//! **How many.** The kernel's verifier gives up where too many ways through a program wait to be followed: some 2 700 rules of
//! IPv6 addresses, 4 000 with ports. A thousand load in 0.2 s, so that `limits::XDP_RULES` is all that
//! a program is made of.
//!
//! Not here: the sockets (`packet`). Without one a queue's frames go to the kernel.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::classify::{Rule, classifiers};
use super::link::{self, Kind, Link};
use crate::base::{MacAddr, limits};

mod bpf;
mod code;
mod extend;
mod program;

/// A step that failed. Its text names the step, the cause and, where there is one, the way out.
#[derive(Debug)]
pub struct XdpError {
    pub step: &'static str,
    pub cause: io::Error,
}

impl fmt::Display for XdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let XdpError { step, cause } = self;
        write!(f, "cannot {step}: ")?;
        match cause.raw_os_error() {
            Some(libc::EPERM) => f.write_str(
                "permission denied: XDP needs CAP_NET_ADMIN and CAP_BPF (or CAP_SYS_ADMIN), and in a container a seccomp profile \
                 that allows bpf(2): Docker 20.10's does so for CAP_SYS_ADMIN only; before Linux 5.11 also memory that may be \
                 locked (`ulimit -l unlimited`)",
            ),
            Some(libc::ENOSYS) => f.write_str("the kernel has no bpf(2) (BPF_SYSCALL)"),
            Some(libc::EOPNOTSUPP) if *step == ATTACH => f.write_str("the driver has no native XDP"),
            Some(libc::ERANGE | libc::EINVAL | libc::ENOSPC) if *step == ATTACH => write!(
                f,
                "{cause}: the driver takes no XDP as the interface is set: a smaller MTU (veth: at most about 3500 bytes, at its \
                 peer too), fewer queues or LRO off may help; or the kernel is older than 5.9"
            ),
            Some(libc::ENODEV) => f.write_str("there is no such interface"),
            _ => cause.fmt(f),
        }
    }
}

/// Says all there is in its own text, so that a chain of causes does not repeat it.
impl std::error::Error for XdpError {}

/// While it lives and is attached, frames that match its rules go to the sockets that it was given.
#[derive(Debug)]
pub struct Front {
    // The link first: what it holds must not be gone before it.
    link: Option<OwnedFd>,
    program: OwnedFd,
    map: OwnedFd,
    interface: u32,
    frames: Frames,
}

/// Which frames a program is made for.
#[derive(Clone, Debug, PartialEq)]
struct Frames {
    rules: Vec<Rule>,
    /// Besides the interface's own.
    macs: Vec<MacAddr>,
    own: Option<MacAddr>,
}

impl Front {
    /// Goes before `interface` (of the calling thread's network namespace, as for all calls), for what `rules` match of the
    /// frames that are sent to the interface's own MAC or one of `macs`. It takes none as long as no queue has a socket.
    ///
    /// Where somebody else has a program there, it is not attached, and that is no error: see [`Front::attach`].
    ///
    /// # Errors
    /// The step that failed and what the kernel said.
    pub fn new(interface: u32, rules: &[Rule], macs: &[MacAddr]) -> Result<Front, XdpError> {
        let mut front = Front::load(interface, rules, macs)?;
        front.hang()?;
        Ok(front)
    }

    /// As [`Front::new`], and not attached yet.
    ///
    /// # Errors
    /// See there.
    pub fn load(interface: u32, rules: &[Rule], macs: &[MacAddr]) -> Result<Front, XdpError> {
        let frames = Frames { rules: rules.to_vec(), macs: macs.to_vec(), own: own(interface)? };
        let map = step("make a map of sockets", bpf::socket_map(QUEUES))?;
        let program = frames.program(map.as_fd())?;
        Ok(Front { link: None, program, map, interface, frames })
    }

    /// Attaches it where it is not, and makes it know the interface's MAC where that has changed. Whether it is attached now.
    /// Asked now and then, this also puts back what somebody has taken off.
    ///
    /// # Errors
    /// See [`Front::new`]. It may be attached still, as it was.
    pub fn attach(&mut self) -> Result<bool, XdpError> {
        let own = own(self.interface)?;
        if own != self.frames.own {
            self.become_of(Frames { own, ..self.frames.clone() })?;
        } else {
            self.relink()?;
        }
        self.hang()
    }

    /// Takes nothing until it is attached again.
    pub fn detach(&mut self) {
        self.link = None;
    }

    pub fn is_attached(&self) -> bool {
        self.link.is_some()
    }

    /// Other frames are taken from now on. What both match is taken throughout.
    ///
    /// # Errors
    /// See [`Front::new`]. It takes what it took before, which its owner must not leave so: without it the taps get all.
    pub fn replace(&mut self, rules: &[Rule], macs: &[MacAddr]) -> Result<(), XdpError> {
        let own = own(self.interface)?;
        self.become_of(Frames { rules: rules.to_vec(), macs: macs.to_vec(), own })
    }

    /// Frames of the queue go to this socket, which is bound there, from now on; the kernel forgets it when the socket is closed.
    /// A later socket takes the place of an earlier one.
    ///
    /// # Errors
    /// What the kernel said: it is no AF_XDP socket that receives, or the queue's number is past 1023.
    pub fn give(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), XdpError> {
        step("give a queue to a socket", bpf::put_socket(self.map.as_fd(), queue, socket))
    }

    fn become_of(&mut self, frames: Frames) -> Result<(), XdpError> {
        if frames == self.frames {
            return self.relink();
        }
        let program = frames.program(self.map.as_fd())?;
        let old = std::mem::replace(&mut self.program, program);
        if let Err(error) = self.relink() {
            self.program = old;
            return Err(error);
        }
        self.frames = frames;
        Ok(())
    }

    /// The link gets the program that there is now. One that somebody has taken off is let go of.
    fn relink(&mut self) -> Result<(), XdpError> {
        let Some(link) = &self.link else { return Ok(()) };
        match bpf::relink(link.as_fd(), self.program.as_fd()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => self.link = None,
            other => step("change the XDP program", other)?,
        }
        Ok(())
    }

    fn hang(&mut self) -> Result<bool, XdpError> {
        if self.link.is_none() {
            self.link = match bpf::link(self.program.as_fd(), self.interface, bpf::XDP_FLAGS_DRV_MODE) {
                // Another program, of whatever kind, or one on what the interface is a part of.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) => None,
                other => Some(step(ATTACH, other)?),
            };
        }
        Ok(self.link.is_some())
    }
}

impl Frames {
    fn program(&self, map: BorrowedFd<'_>) -> Result<OwnedFd, XdpError> {
        let stations: Vec<MacAddr> = self.own.iter().chain(&self.macs).copied().collect();
        let taken = program::Taken::ToSocket(map.as_raw_fd().cast_unsigned());
        let made = program::program(&classifiers(&first(&self.rules)), &stations, taken).map_err(io::Error::other);
        let made = step("make an XDP program of the rules", made)?;
        step("load the XDP program", bpf::load(&made))
    }
}

/// Whether an XDP program sees the VLAN tags of frames. One that does not takes a frame for a VIP's address whatever network it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    InFrames,
    /// The card takes them out before, and a tagged frame looks as if it had none.
    TakenOut,
    /// The other end of a veth decides (`tx-vlan-offload` there), and is in another network as a rule, where nobody can ask it.
    Unknown,
}

impl Tags {
    /// # Errors
    /// `ENODEV` where there is no such interface.
    pub fn of(link: &Link) -> io::Result<Tags> {
        Ok(Tags::by(&link.kind, link::offloads(&link.name)?.rx_vlan))
    }

    fn by(kind: &Kind, rx_vlan: bool) -> Tags {
        match (kind, rx_vlan) {
            (Kind::Veth, _) => Tags::Unknown,
            (_, true) => Tags::TakenOut,
            (_, false) => Tags::InFrames,
        }
    }
}

/// As many rules as there is room for. What the kernel keeps, it keeps from all of them.
fn first(rules: &[Rule]) -> Vec<Rule> {
    let (kept, taken): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| rule.is_kept());
    taken.into_iter().take(limits::XDP_RULES).chain(kept).cloned().collect()
}

fn own(interface: u32) -> Result<Option<MacAddr>, XdpError> {
    Ok(step("look at the interface", link::by_index(interface))?.mac)
}

fn step<T>(step: &'static str, result: io::Result<T>) -> Result<T, XdpError> {
    result.map_err(|cause| XdpError { step, cause })
}

const ATTACH: &str = "attach the XDP program to the interface";
/// A place each in the map: eight bytes. Cards have fewer; frames of a queue without a place go to the kernel.
const QUEUES: u32 = 1024;

#[cfg(test)]
mod tests;
