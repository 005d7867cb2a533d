//! Io: a network device of ours (TUN), and the way to it for packets that carry a mark: what the kernel sends there, this process
//! reads.
//!
//! ```text
//! socket with SO_MARK ─▶ rule: this mark, this table ─▶ route: all of it to the device ─▶ receive
//! ```
//!
//! Mark and table are a number that no other living process has here (as in `ingress`). Device and route go with the process,
//! however it ends. A rule stays behind a process that was killed and leads to an empty table, which changes nothing; whoever
//! starts takes such rules away.
//!
//! Not here: what the packets are.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::mem::zeroed;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use libc::c_int;

use super::link;
use super::neighbour::ROUTE_HEADER;
use super::netlink::{Message, Netlink, attribute, word};

/// A step that failed. Its text names the step, the cause and, where there is one, the way out.
#[derive(Debug)]
pub struct TunError {
    pub step: &'static str,
    pub cause: io::Error,
}

impl fmt::Display for TunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TunError { step, cause } = self;
        write!(f, "cannot {step}: ")?;
        match cause.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                f.write_str("there is no /dev/net/tun: `modprobe tun`, or give the container `--device /dev/net/tun`")
            }
            None if cause.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "all {PROCESSES} are held by living processes: `ss -xap | grep strata-mark` shows by whom; end those that are no Strata"
            ),
            Some(libc::EPERM | libc::EACCES) => f.write_str("permission denied: it needs CAP_NET_ADMIN"),
            Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {
                f.write_str("the kernel has no policy routing (IP_MULTIPLE_TABLES)")
            }
            _ => cause.fmt(f),
        }
    }
}

/// Says all there is in its own text, so that a chain of causes does not repeat it.
impl std::error::Error for TunError {}

/// While it lives, packets with its marks come here.
#[derive(Debug)]
pub struct Tun {
    device: File,
    number: Number,
    /// Whether IPv6 packets come too: the system may have it switched off.
    v6: bool,
    netlink: Netlink,
}

/// A number that one living process has in this network namespace.
#[derive(Debug)]
struct Number {
    number: u32,
    /// Holds the name; nothing is ever sent to it.
    _claim: UnixDatagram,
}

impl Tun {
    /// Makes the device and the way to it.
    ///
    /// # Errors
    /// The step that failed and what the kernel said; nothing is left of it.
    pub fn open() -> Result<Tun, TunError> {
        let number = (1..=PROCESSES).find_map(Number::claim);
        let number = step("claim a mark", number.ok_or(io::ErrorKind::AddrInUse.into()))?;
        let mut netlink = step("talk to the kernel", Netlink::open())?;
        step("remove rules that others left", sweep(&mut netlink, &number))?;
        let (device, name) = step("make a network device", device())?;
        let mut tun = Tun { device, number, v6: true, netlink };
        let index = step("find the network device", link::index(&name))?;
        step("switch the network device on", raise(&mut tun.netlink, &name, index))?;
        step("lead marked packets to it", tun.lead(libc::AF_INET, index))?;
        tun.v6 = tun.lead(libc::AF_INET6, index).is_ok();
        Ok(tun)
    }

    /// What a socket has to mark packets to `address` with. `None`: they do not come here.
    pub fn mark(&self, address: IpAddr) -> Option<u32> {
        (address.is_ipv4() || self.v6).then(|| self.number.mark())
    }

    /// The next datagram, after at most `wait`; 0: none came.
    ///
    /// # Errors
    /// The device is of no more use.
    pub fn receive(&self, buffer: &mut [u8], wait: Duration) -> io::Result<usize> {
        match (&self.device).read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        let mut poll = libc::pollfd { fd: self.device.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let wait = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: `poll` is one live, writable `pollfd`, as many as the call is told.
        if unsafe { libc::poll(&raw mut poll, 1, wait) } == -1 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) };
        }
        match (&self.device).read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// A default route in the table of our number, and the rule that leads there.
    fn lead(&mut self, family: c_int, index: u32) -> io::Result<()> {
        let mut header = [0; ROUTE_HEADER];
        header[0] = family as u8;
        header[5] = libc::RTPROT_STATIC;
        header[6] = if family == libc::AF_INET { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
        header[7] = libc::RTN_UNICAST;
        let route = Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &header)
            .with(libc::RTA_OIF, &index.to_ne_bytes())
            .with(libc::RTA_TABLE, &self.number.mark().to_ne_bytes());
        self.netlink.change(route)?;
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.netlink.change(rule(libc::RTM_NEWRULE, flags, family, self.number.mark()))
    }
}

impl Drop for Tun {
    fn drop(&mut self) {
        for family in [libc::AF_INET, libc::AF_INET6] {
            // One that was never made is not there to remove.
            let _ = self.netlink.change(rule(libc::RTM_DELRULE, 0, family, self.number.mark()));
        }
    }
}

impl Number {
    /// `None` when a living process has it.
    fn claim(number: u32) -> Option<Number> {
        let name = SocketAddr::from_abstract_name(format!("strata-mark-{number}")).ok()?;
        UnixDatagram::bind_addr(&name).ok().map(|claim| Number { number, _claim: claim })
    }

    /// The mark, and the number of the routing table.
    fn mark(&self) -> u32 {
        MARKS + self.number
    }
}

/// Whether there could be one, as far as that can be told without making it.
///
/// # Errors
/// The step that would fail.
pub fn look() -> Result<(), TunError> {
    step("make a network device", node())?;
    let numbers = Netlink::open().and_then(|mut netlink| numbers(&mut netlink, libc::AF_INET));
    step("lead marked packets to it", numbers).map(drop)
}

fn node() -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("/dev/net/tun")
}

/// The device and its name.
fn device() -> io::Result<(File, String)> {
    let device = node()?;
    // SAFETY: `ifreq` is made of bytes, integers and pointers, for all of which zeros are a valid value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: `request` is a live `ifreq` whose name ends with a zero, which this command reads and writes a name to.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let name = request.ifr_name.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte as u8)).collect();
    Ok((device, name))
}

/// Up, and of the size that every path has to take.
fn raise(netlink: &mut Netlink, name: &str, index: u32) -> io::Result<()> {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    // Where IPv6 is off for new devices, other interfaces may have it all the same. A read-only /proc leaves it off.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0");
    // It needs no address of its own, and nobody to solicit routers. Where the system has no IPv6, there is nothing to set.
    let silent = Message::new(libc::RTM_NEWLINK, 0, &header).with_nested(libc::IFLA_AF_SPEC, |families| {
        families.with_nested(libc::AF_INET6 as u16, |v6| v6.with(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]))
    });
    let _ = netlink.change(silent);
    let up = libc::IFF_UP.to_ne_bytes();
    header[8..12].copy_from_slice(&up);
    header[12..16].copy_from_slice(&up);
    netlink.change(Message::new(libc::RTM_NEWLINK, 0, &header).with(libc::IFLA_MTU, &MTU.to_ne_bytes()))
}

/// Packets with this mark look into the table of the same number first.
fn rule(kind: u16, flags: c_int, family: c_int, mark: u32) -> Message {
    let mut header = [0; RULE_HEADER];
    header[0] = family as u8;
    header[7] = FR_ACT_TO_TBL;
    let values = [(FRA_PRIORITY, PRIORITY), (FRA_FWMARK, mark), (FRA_FWMASK, u32::MAX), (FRA_TABLE, mark)];
    let message = Message::new(kind, flags, &header);
    values.iter().fold(message, |message, (attribute, value)| message.with(*attribute, &value.to_ne_bytes()))
}

/// Removes rules of our number, and of those that nobody living has.
fn sweep(netlink: &mut Netlink, ours: &Number) -> io::Result<()> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        for number in numbers(netlink, family)? {
            let dead = if number == ours.number { None } else { Number::claim(number) };
            if number == ours.number || dead.is_some() {
                netlink.change(rule(libc::RTM_DELRULE, 0, family, MARKS + number))?;
            }
        }
    }
    Ok(())
}

/// The numbers of rules that are ours.
fn numbers(netlink: &mut Netlink, family: c_int) -> io::Result<Vec<u32>> {
    let mut header = [0; RULE_HEADER];
    header[0] = family as u8;
    let mut found = Vec::new();
    netlink.dump(Message::new(libc::RTM_GETRULE, 0, &header), |_, body| found.extend(read_rule(body)))?;
    Ok(found)
}

/// The number of a rule that is one of ours.
fn read_rule(body: &[u8]) -> Option<u32> {
    let (_, rest) = body.split_first_chunk::<RULE_HEADER>()?;
    let value = |kind| attribute(rest, kind).and_then(|value| word(value, 0));
    let number = value(FRA_TABLE)?.checked_sub(MARKS).filter(|number| (1..=PROCESSES).contains(number))?;
    (value(FRA_FWMARK)? == MARKS + number && value(FRA_PRIORITY)? == PRIORITY).then_some(number)
}

fn step<T>(step: &'static str, result: io::Result<T>) -> Result<T, TunError> {
    result.map_err(|cause| TunError { step, cause })
}

/// The kernel puts a number in.
const NAME: &[u8] = b"strata%d";
/// IPv6's least (RFC 8200 §5): with any tunnel's header it fits any link.
const MTU: u32 = 1280;
/// Processes in one network namespace.
const PROCESSES: u32 = 64;
/// Marks, and tables: none of the bits that kube-proxy (0x4000, 0x8000), Cilium (0x0f00) and Tailscale (0xc0000) look at.
const MARKS: u32 = 0x2053_0000;
/// Before the tables that everyone has (32766), and whatever else leads packets elsewhere.
const PRIORITY: u32 = 83;

/// `struct ifinfomsg`, `struct fib_rule_hdr`.
const LINK_HEADER: usize = 16;
const RULE_HEADER: usize = 12;

// linux/fib_rules.h and linux/if_link.h
const FR_ACT_TO_TBL: u8 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use socket2::SockRef;

    use super::*;
    use crate::sys::netns::namespaces;

    fn rules(at: &crate::sys::netns::Namespace) -> usize {
        ["-4", "-6"].iter().map(|family| at.sh(&format!("ip {family} rule")).matches("fwmark 0x2053").count()).sum()
    }

    #[test]
    fn marked_packets_come_to_the_device_and_others_do_not() {
        let Some([here, _]) = namespaces() else { return };
        here.sh("for at in all default lo; do echo 0 >/proc/sys/net/ipv6/conf/$at/disable_ipv6; done; \
            ip link set lo up; ip addr add 10.0.0.1/32 dev lo; ip addr add fd00::1/128 dev lo");
        here.run(|| {
            look().unwrap();
            let tun = Tun::open().unwrap();
            for (own, to, length) in [("10.0.0.1:0", "192.0.2.9:9", 28), ("[fd00::1]:0", "[2001:db8::9]:9", 48)] {
                let socket = UdpSocket::bind(own).unwrap();
                let to: std::net::SocketAddr = to.parse().unwrap();
                assert!(socket.send_to(b"lost", to).is_err(), "no way leads there without the mark");
                SockRef::from(&socket).set_mark(tun.mark(to.ip()).unwrap()).unwrap();
                socket.send_to(b"hello", to).unwrap();
                let mut buffer = [0; 2000];
                let got = tun.receive(&mut buffer, Duration::from_secs(10)).unwrap();
                assert_eq!((got, buffer[..got].ends_with(b"hello")), (length + 5, true), "{to}");
            }
            assert_eq!(tun.receive(&mut [0; 2000], Duration::ZERO).unwrap(), 0);
        });
    }

    #[test]
    fn each_process_has_a_mark_of_its_own_and_nothing_stays_behind() {
        let Some([here, _]) = namespaces() else { return };
        let any = IpAddr::from([192, 0, 2, 1]);
        let (one, other) = here.run(|| (Tun::open().unwrap(), Tun::open().unwrap()));
        assert_ne!(one.mark(any), other.mark(any));
        assert_eq!(rules(&here), 4);
        drop(one);
        assert_eq!(rules(&here), 2);
        drop(other);
        assert_eq!((rules(&here), here.sh("ip -o link").matches("strata").count()), (0, 0));
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_what_others_made_is_not() {
        let Some([here, _]) = namespaces() else { return };
        // Ours, number 9, of a process that lives no more; and two that only look like it.
        for family in ["-4", "-6"] {
            here.sh(&format!(
                "ip {family} rule add pref 83 fwmark 0x20530009 lookup 542310409; \
                 ip {family} rule add pref 84 fwmark 0x2053000a lookup 542310410; \
                 ip {family} rule add pref 83 fwmark 0x2053ffff lookup 7"
            ));
        }
        let tun = here.run(|| Tun::open().unwrap());
        assert_eq!(rules(&here), 6, "{}", here.sh("ip rule"));
        assert!(!here.sh("ip rule").contains("0x20530009"));
        drop(tun);
        assert_eq!(rules(&here), 4);
    }
}
