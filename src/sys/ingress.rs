//! Io: keeps the kernel from handling packets that are Strata's.
//!
//! A packet socket gets copies: the kernel goes on to answer, refuse or forward the same packet, and with `ip_forward` on, as on
//! every Docker host, an endpoint gets it twice. So each tap has a classifier behind it, at the interface's `clsact`, which drops
//! what matches the same rules. Taps come first in the kernel, so they still see it.
//!
//! ```text
//!   card -> tap (packet socket) -> clsact ingress: ours drop, others go on -> kernel
//! ```
//!
//! **Whose it is.** A classifier's handle holds the number of the process that owns it, and a process holds its number as the name
//! of an abstract socket, which the kernel frees when the process dies, however it dies. So whoever starts takes the lowest free
//! number, replaces what a dead owner of that number left behind without a gap, removes what other dead ones left, and never
//! touches what a living one has.
//!
//! What ends between death and restart: nothing. The leftover keeps dropping, so that clients see silence and try again; the
//! kernel would refuse them. A stop removes it.
//!
//! Not here: the rules (`classify`). The empty `clsact` stays behind, because others may have begun to use it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::assemble::Instruction;
use super::classify::{Rule, classifiers};
use super::netlink::{Message, Netlink, attribute, word};

/// A step that failed. Its text names the step, the cause and, where there is one, the way out.
#[derive(Debug)]
pub struct IngressError {
    pub step: &'static str,
    pub cause: io::Error,
}

impl fmt::Display for IngressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IngressError { step, cause } = self;
        write!(f, "cannot {step}: ")?;
        match cause.raw_os_error() {
            Some(libc::EPERM) => f.write_str("permission denied: packet modes need CAP_NET_ADMIN"),
            None if cause.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "all {OWNERS} are held by living processes: `ss -xap | grep strata-ingress` shows by whom; end those that are no Strata"
            ),
            Some(libc::ENODEV) => f.write_str("there is no such interface"),
            Some(libc::ENOENT | libc::EOPNOTSUPP) => {
                f.write_str("the kernel has no clsact or no bpf classifier (NET_SCH_INGRESS, NET_CLS_BPF)")
            }
            _ => cause.fmt(f),
        }
    }
}

/// Says all there is in its own text, so that a chain of causes does not repeat it.
impl std::error::Error for IngressError {}

/// While it lives, the kernel does not get what matches its rules on one interface.
#[derive(Debug)]
pub struct Ingress {
    interface: u32,
    owner: Owner,
    /// Programs that the kernel has of ours.
    parts: u16,
    /// Kept open, so that nothing can stand in the way of removing.
    netlink: Netlink,
}

/// A number that one living process has, of those with classifiers on one interface.
#[derive(Debug)]
struct Owner {
    number: u16,
    /// Holds the name; nothing is ever sent to it.
    _claim: UnixDatagram,
}

impl Ingress {
    /// Drops what `rules` match behind the taps of `interface`, from now on and without a gap where an earlier run left its own.
    ///
    /// # Errors
    /// The step that failed and what the kernel said. The kernel may have got some of the rules; the next start clears them.
    pub fn new(interface: u32, rules: &[Rule]) -> Result<Ingress, IngressError> {
        let netlink = step("talk to the kernel", Netlink::open())?;
        let owner = (1..=OWNERS).find_map(|number| Owner::claim(interface, number));
        let owner = step("claim a number on the interface", owner.ok_or(io::ErrorKind::AddrInUse.into()))?;
        let mut ingress = Ingress { interface, owner, parts: 0, netlink };
        ingress.replace(rules)?;
        step("remove what others left", sweep(&mut ingress.netlink, interface, ingress.owner.number))?;
        Ok(ingress)
    }

    /// Drops what `rules` match instead. What both match is dropped throughout: new classifiers take the place of old ones,
    /// handle by handle, and what is left of the old goes last.
    ///
    /// # Errors
    /// See [`Ingress::new`].
    pub fn replace(&mut self, rules: &[Rule]) -> Result<(), IngressError> {
        let Ingress { interface, owner: Owner { number: owner, .. }, ref mut parts, ref mut netlink } = *self;
        let programs = classifiers(rules);
        if !programs.is_empty() {
            step("prepare the interface for classifiers", prepare(netlink, interface))?;
        }
        let mut kept = BTreeSet::new();
        *parts = 0;
        for (part, program) in (1..).zip(programs) {
            let handle = Handle { owner, part };
            *parts = part;
            step("drop the packets of VIPs at ingress", put(netlink, interface, handle, &program))?;
            kept.insert(handle);
        }
        let old = step("list classifiers", handles(netlink, interface))?;
        for handle in old.into_iter().filter(|handle| handle.owner == owner && !kept.contains(handle)) {
            step("remove a classifier", remove(netlink, interface, handle))?;
        }
        Ok(())
    }

    /// Puts back what somebody has taken away: with the `clsact` of an interface go the classifiers of all. `rules` are those in
    /// force. Whether anything was missing.
    ///
    /// # Errors
    /// See [`Ingress::new`].
    pub fn restore(&mut self, rules: &[Rule]) -> Result<bool, IngressError> {
        let found = step("list classifiers", handles(&mut self.netlink, self.interface))?;
        let has = |part| found.contains(&Handle { owner: self.owner.number, part });
        if self.parts > 0 && (1..=self.parts).all(has) {
            return Ok(false);
        }
        self.replace(rules).map(|()| true)
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        // What cannot be removed now is cleared by the next start; an interface that is gone has none.
        let _ = self.replace(&[]);
    }
}

/// What stands before the kernel on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    Nobody,
    /// The classifiers of a process that lives.
    Running,
    /// Those of one that was killed, and nobody else's.
    Left,
}

/// Who keeps the kernel out of an interface now.
///
/// # Errors
/// What the kernel said.
pub fn guard(interface: u32) -> io::Result<Guard> {
    let found = handles(&mut Netlink::open()?, interface)?;
    // Names are looked at and not claimed: a Strata that starts meanwhile must find its number free.
    let names = std::fs::read_to_string("/proc/thread-self/net/unix")?;
    let lives = |handle: &Handle| {
        let name = format!("@{}", name(interface, handle.owner));
        names.lines().any(|line| line.split_whitespace().next_back() == Some(name.as_str()))
    };
    Ok(match found.is_empty() {
        true => Guard::Nobody,
        false if found.iter().any(lives) => Guard::Running,
        false => Guard::Left,
    })
}

/// The name that says that a process has the number.
fn name(interface: u32, number: u16) -> String {
    format!("strata-ingress-{interface}-{number}")
}

/// A classifier's handle says whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Handle {
    owner: u16,
    /// From 1: many rules take several programs.
    part: u16,
}

impl Handle {
    const fn to_word(self) -> u32 {
        (self.owner as u32) << 16 | self.part as u32
    }

    /// `None` for one that we did not make.
    fn from_word(word: u32) -> Option<Handle> {
        let [a, b, c, d] = word.to_be_bytes();
        let handle = Handle { owner: u16::from_be_bytes([a, b]), part: u16::from_be_bytes([c, d]) };
        (handle.owner > 0 && handle.part > 0).then_some(handle)
    }
}

impl Owner {
    /// `None` when a living process has it.
    fn claim(interface: u32, number: u16) -> Option<Owner> {
        // Abstract names belong to the network namespace, as interfaces do.
        let name = SocketAddr::from_abstract_name(name(interface, number)).ok()?;
        UnixDatagram::bind_addr(&name).ok().map(|claim| Owner { number, _claim: claim })
    }
}

/// Removes the classifiers of owners that are dead.
fn sweep(netlink: &mut Netlink, interface: u32, ours: u16) -> io::Result<()> {
    let found = handles(netlink, interface)?;
    let owners: BTreeSet<u16> = found.iter().map(|handle| handle.owner).filter(|owner| *owner != ours).collect();
    // A number that can be claimed has no living owner, and cannot get one until it is let go.
    for dead in owners.into_iter().filter_map(|number| Owner::claim(interface, number)) {
        for handle in found.iter().filter(|handle| handle.owner == dead.number) {
            remove(netlink, interface, *handle)?;
        }
    }
    Ok(())
}

fn prepare(netlink: &mut Netlink, interface: u32) -> io::Result<()> {
    let header = header(interface, 0xffff_0000, TC_H_CLSACT, 0);
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    match netlink.change(Message::new(libc::RTM_NEWQDISC, flags, &header).with(libc::TCA_KIND, b"clsact\0")) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

fn put(netlink: &mut Netlink, interface: u32, handle: Handle, program: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let bytes: Vec<u8> = program.iter().flat_map(|instruction| instruction.bytes()).collect();
    let header = header(interface, handle.to_word(), TC_H_INGRESS, INFO);
    // Replaces a classifier of the same handle at once.
    let message = Message::new(libc::RTM_NEWTFILTER, libc::NLM_F_CREATE, &header);
    netlink.change(message.with(libc::TCA_KIND, KIND).with_nested(libc::TCA_OPTIONS, |options| {
        options
            .with(TCA_BPF_OPS_LEN, &length.to_ne_bytes())
            .with(TCA_BPF_OPS, &bytes)
            .with(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes())
    }))
}

fn remove(netlink: &mut Netlink, interface: u32, handle: Handle) -> io::Result<()> {
    let header = header(interface, handle.to_word(), TC_H_INGRESS, INFO);
    netlink.change(Message::new(libc::RTM_DELTFILTER, 0, &header).with(libc::TCA_KIND, KIND))
}

/// The classifiers of Strata processes on an interface, living or not.
fn handles(netlink: &mut Netlink, interface: u32) -> io::Result<Vec<Handle>> {
    let mut found = Vec::new();
    let message = Message::new(libc::RTM_GETTFILTER, 0, &header(interface, 0, TC_H_INGRESS, 0));
    netlink.dump(message, |_, body| found.extend(read_handle(body)))?;
    Ok(found)
}

fn read_handle(body: &[u8]) -> Option<Handle> {
    let (header, rest) = body.split_first_chunk::<HEADER>()?;
    let ours = word(header, 16)? == INFO && attribute(rest, libc::TCA_KIND)? == KIND;
    ours.then_some(()).and_then(|()| Handle::from_word(word(header, 8)?))
}

/// `struct tcmsg`.
fn header(interface: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (at, value) in [(4, interface), (8, handle), (12, parent), (16, info)] {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

fn step<T>(step: &'static str, result: io::Result<T>) -> Result<T, IngressError> {
    result.map_err(|cause| IngressError { step, cause })
}

const HEADER: usize = 20;
const KIND: &[u8] = b"bpf\0";
/// Processes on one interface.
const OWNERS: u16 = 64;
/// Where ours stand among the interface's classifiers; those with a lower preference see packets first.
pub const PREFERENCE: u32 = 83;
/// Preference, and the protocol: all.
const INFO: u32 = PREFERENCE << 16 | (libc::ETH_P_ALL as u16).to_be() as u32;

// linux/pkt_sched.h and linux/pkt_cls.h
const TC_H_CLSACT: u32 = 0xffff_fff1;
const TC_H_INGRESS: u32 = 0xffff_fff2;
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

#[cfg(test)]
mod tests;
