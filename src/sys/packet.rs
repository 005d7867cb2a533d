//! Io: frames of one interface, in and out, through a packet socket (`AF_PACKET`).
//!
//! Two engines with the same few calls, and the value says which one it is:
//!
//! - [`Plain`]: `pnet`'s datalink on a socket of ours. Four system calls a frame, and no VLAN tags: tagged frames are counted
//!   and lost.
//! - [`Ring`]: a receive ring that the kernel writes to and frames are rewritten in, and a send ring: one system call for a batch.
//!
//! A ring takes frames from queues of the interface as well ([`Queue`], `AF_XDP`), which come before the kernel has looked at them.
//!
//! Neither allocates per frame. Both take apart a frame that stands for several, where one asks for it. Both tell, beside the
//! bytes, what bytes do not: the tag, the state of the checksum, that a frame stands for several, that a frame is not whole
//! ([`Frame`]).
//!
//! **Workers** share an interface by fanout: the kernel hashes addresses and ports so that both directions of a flow go to one
//! worker, whatever the direction. Only of the same flow: an answer that NAT has to translate back has other addresses, and an
//! ICMP error about a flow is another flow, so the tables of those are shared. Fragments of a datagram go to one worker
//! together, by their addresses. They are not put together (`PACKET_FANOUT_FLAG_DEFRAG`): a frame leaves as it came.
//!
//! Not here: deciding (`flow`), threads (`mode`), and keeping the kernel from handling the same packets (`ingress`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::base::MacAddr;
#[cfg(test)]
use crate::base::limits;
use crate::sys::classify::Rule;

mod batch;
mod frame;
mod line;
mod outbox;
mod plain;
mod queue;
mod ring;
mod sender;
mod slots;
mod socket;
mod speaker;

pub use frame::{Checksum, Frame, Gso, GsoKind, Missing};
pub use line::Line;
pub use plain::Plain;
pub use queue::Queue;
pub use ring::Ring;
pub use socket::PacketError;
pub use speaker::Speaker;

/// What moves the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Plain,
    Ring,
}

/// How a tap is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Index of the interface.
    pub interface: u32,
    /// Frames that are wanted; `None`: all.
    pub rules: Option<&'a [Rule]>,
    /// Virtual MACs: the card receives for them too, without becoming promiscuous where it need not. A macvlan interface hands
    /// over nothing but what is for its own MAC, whatever it is asked.
    pub macs: &'a [MacAddr],
    /// `None`: this tap gets every frame.
    pub fanout: Option<Fanout>,
    /// How long [`Tap::receive`] waits for a frame, in whole milliseconds.
    pub wait: Duration,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { interface: 0, rules: None, macs: &[], fanout: None, wait: Duration::from_millis(100) }
    }
}

/// What becomes of a received frame. `Option<u32>` is one too: the interface, or `Stay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes nowhere.
    Stay,
    /// It goes out by this interface, as it is now.
    Send(u32),
    /// It stands for several (`Frame::gso`) and is taken apart: each of them comes next, as if it had come alone.
    Divide,
}

impl From<Option<u32>> for Fate {
    fn from(interface: Option<u32>) -> Fate {
        interface.map_or(Fate::Stay, Fate::Send)
    }
}

/// A group of taps of one interface among which the kernel spreads flows. Its members are of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fanout {
    group: u16,
}

impl Fanout {
    /// A group that no other process has. Open its members at once: it is kept by them.
    ///
    /// # Errors
    /// As opening a tap.
    pub fn claim(interface: u32) -> Result<Fanout, PacketError> {
        socket::claim_fanout(interface)
    }
}

/// One worker's end of an interface.
#[allow(clippy::large_enum_variant, reason = "a worker has one, nearly always the larger, and it stays where it is")]
pub enum Tap {
    Plain(Plain),
    Ring(Ring),
}

/// What a tap has seen since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames handed to the caller.
    pub received: u64,
    /// Frames that were wanted and found the tap full: the worker is too slow. Of a queue also those that were too long for it, since the
    /// interface's MTU has grown.
    pub overrun: u64,
    /// Frames that came without their end: longer than `limits::PACKET_FRAME_BYTES`.
    pub cut: u64,
    /// Frames that were taken apart.
    pub divided: u64,
    /// Frames whose VLAN tag this engine cannot see.
    pub tagged: u64,
    /// Frames given to the kernel.
    pub sent: u64,
    /// Frames that the kernel did not take, by its reason.
    pub no_room: u64,
    /// Longer than the interface sends, or than it segments.
    pub too_long: u64,
    /// No interface, or one that is down.
    pub link_down: u64,
    /// Frames that would have gone out wrong, and those that the kernel refused for any other reason.
    pub refused: u64,
}

impl Counters {
    /// Counts a frame that could not be sent.
    fn unsent(&mut self, error: &io::Error) {
        let cell = match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => &mut self.no_room,
            Some(libc::EMSGSIZE) => &mut self.too_long,
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::ENETUNREACH) => &mut self.link_down,
            _ => &mut self.refused,
        };
        *cell += 1;
    }

    fn missing(&mut self, missing: Option<Missing>) {
        match missing {
            Some(Missing::Tail) => self.cut += 1,
            Some(Missing::Tag) => self.tagged += 1,
            None => {}
        }
    }

    fn add_kernel(&mut self, (_, dropped): (u32, u32)) {
        self.overrun += u64::from(dropped);
    }
}

impl Tap {
    /// A tap that the engine asked for serves; it is never another one.
    ///
    /// # Errors
    /// The step that failed and what the kernel said.
    pub fn open(engine: Engine, options: &Options<'_>) -> Result<Tap, PacketError> {
        Ok(match engine {
            Engine::Plain => Tap::Plain(Plain::open(options)?),
            Engine::Ring => Tap::Ring(Ring::open(options)?),
        })
    }

    pub const fn engine(&self) -> Engine {
        match self {
            Tap::Plain(_) => Engine::Plain,
            Tap::Ring(_) => Engine::Ring,
        }
    }

    /// Waits for a frame, then hands over what has come, one frame after the other and a batch at most. `decide` rewrites the
    /// frame where it is and names the interface to send it on, or lets it go, or has it taken apart. What is sent has been given
    /// to the kernel in this order when the call returns.
    ///
    /// # Returns
    /// How many frames came: 0 when none did in time, or a signal did.
    ///
    /// # Errors
    /// `ENETDOWN` once when the interface goes down; the tap goes on when it comes up again. Anything else is the end of it.
    pub fn receive<F: Into<Fate>>(&mut self, decide: impl FnMut(&mut Frame<'_>) -> F) -> io::Result<usize> {
        match self {
            Tap::Plain(plain) => plain.receive(decide),
            Tap::Ring(ring) => ring.receive(decide),
        }
    }

    /// Sends a frame of our own making, at once. What becomes of it is counted.
    pub fn send(&mut self, interface: u32, frame: &[u8]) {
        match self {
            Tap::Plain(plain) => plain.send(interface, frame),
            Tap::Ring(ring) => ring.send(interface, frame),
        }
    }

    /// From now on other frames are wanted. No frame passes unlooked at in between.
    ///
    /// # Errors
    /// The step that failed; what was wanted before still is.
    pub fn want(&mut self, rules: Option<&[Rule]>, macs: &[MacAddr]) -> Result<(), PacketError> {
        match self {
            Tap::Plain(plain) => plain.want(rules, macs),
            Tap::Ring(ring) => ring.want(rules, macs),
        }
    }

    /// Takes frames from this queue as well, before its own. It is let go when its interface is gone.
    ///
    /// # Errors
    /// The queue: a plain tap takes none, and a ring no more than `limits::PACKET_QUEUES`.
    #[allow(clippy::result_large_err, reason = "what is given back is what was given")]
    pub fn add(&mut self, queue: Queue) -> Result<(), Queue> {
        match self {
            Tap::Plain(_) => Err(queue),
            Tap::Ring(ring) => ring.add(queue),
        }
    }

    /// System calls: not for every frame.
    pub fn counters(&mut self) -> Counters {
        match self {
            Tap::Plain(plain) => plain.counters(),
            Tap::Ring(ring) => ring.counters(),
        }
    }
}

/// To wait for frames beside something else. Those of its queues come by other descriptors.
impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Tap::Plain(plain) => plain.as_fd(),
            Tap::Ring(ring) => ring.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests;
