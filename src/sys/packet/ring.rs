//! Io: frames through a ring that the kernel shares with us.
//!
//! The kernel copies each frame into a slot and marks it ours; we read it, rewrite it there and hand it to the `outbox`; once the
//! batch is sent, its slots go back. A frame longer than a slot (one that the kernel merged, mostly) waits whole in the
//! socket's queue beside the ring (`PACKET_COPY_THRESH`), and its slot says so, so that the order stays.
//!
//! ```text
//!   slot:  tpacket2_hdr, address | room in front (PACKET_RESERVE) | virtio_net_hdr | frame | room behind
//!   owner: kernel -> (TP_STATUS_USER) ours -> decided -> sent with its batch -> (TP_STATUS_KERNEL) kernel
//! ```
//!
//! Why version 2 and not 3: version 3 hands over blocks, when they are full or a timer of a millisecond at least has fired, so a
//! lone packet waits for the timer. Version 2 hands over a frame as soon as it is there. Measured on veth, one core, 60-byte UDP,
//! the better of two runs, the generator on the other core:
//!
//! | | round trip, median and p90 | CPU a frame | most |
//! |---|---|---|---|
//! | version 2 | 48, 60 µs | 1.1 µs | 0.90 M/s of 1.03 offered |
//! | version 3, timer of 1 ms | 383, 1002 µs | 0.75 µs | 1.18 M/s of 1.25 offered |
//! | `pnet`'s loop | 64, 82 µs | 2.5 µs | 0.37 M/s |
//!
//! Queues of the interface that the tap was given are served here too, before the ring: one `poll`, one batch and one outbox are for all.
//!
//! Budget: one `poll` and, of frames to one interface, one send a batch; one acquiring load and one releasing store a frame, no
//! allocation. What sending costs stands in `sender`.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use libc::c_int;

use super::frame::{Frame, Missing, PRIVATE, VNET_LEN, Vnet};
use super::outbox::{Outbox, Sealed};
use super::slots::{self, Direction, Slots};
use super::socket::{Socket, address, step};
use super::{Counters, Fate, Options, PacketError, Queue};
use crate::base::{MacAddr, limits};
use crate::sys::classify::{Filter, Rule, Wanted};
use crate::sys::{cache, check, link};
use crate::wire::ethernet::{EtherType, Tag};

/// A tap with a ring.
pub struct Ring {
    socket: Socket,
    slots: Slots,
    /// The slot that the kernel fills next, once it is ours.
    next: usize,
    /// Where frames come from before the kernel has seen them.
    queues: Vec<Queue>,
    /// What is waited for: the socket, and each of `queues` in its order.
    polls: Vec<libc::pollfd>,
    out: Outbox,
    /// Where frames go that are longer than a slot.
    long: Box<[u8]>,
    macs: Vec<MacAddr>,
    wait: c_int,
    counters: Counters,
}

impl Ring {
    /// # Errors
    /// The step that failed and what the kernel said.
    pub fn open(options: &Options<'_>) -> Result<Ring, PacketError> {
        let wanted = Wanted { rules: options.rules, macs: options.macs, tags: true };
        let socket = Socket::new(options, &Filter::new(&wanted))?;
        step("choose the ring's version", socket.set(libc::PACKET_VERSION, &VERSION_2))?;
        step("reserve room before frames", socket.set(libc::PACKET_RESERVE, &(RESERVE as c_int)))?;
        // Any value but 0 says yes.
        step("keep frames longer than a slot", socket.set(libc::PACKET_COPY_THRESH, &1))?;
        let mtu = step("learn the interface's MTU", link::by_index(options.interface))?.mtu;
        let slots = Slots::map(&socket, Direction::Receive, slot_size(mtu as usize), limits::PACKET_RING_BYTES)?;
        socket.bind()?;
        if let Some(fanout) = options.fanout {
            socket.join_fanout(fanout)?;
        }
        Ok(Ring {
            out: Outbox::open(options)?,
            polls: vec![to_poll(socket.as_fd())],
            socket,
            slots,
            next: 0,
            queues: Vec::new(),
            long: vec![0; PRIVATE + limits::PACKET_HEADROOM + limits::PACKET_FRAME_BYTES].into(),
            macs: options.macs.to_vec(),
            wait: milliseconds(options.wait),
            counters: Counters::default(),
        })
    }

    /// See [`super::Tap::receive`].
    ///
    /// # Errors
    /// See there.
    pub fn receive<F: Into<Fate>>(&mut self, mut decide: impl FnMut(&mut Frame<'_>) -> F) -> io::Result<usize> {
        if !self.has_one() && !self.wait_for_one()? {
            return Ok(0);
        }
        let before = self.serve_queues(&mut decide);
        let first = self.next;
        let mut taken = 0;
        while taken < limits::PACKET_BATCH.min(self.slots.count) && self.is_ours(self.next) {
            self.fetch_ahead();
            self.one(&mut decide);
            self.next = self.slots.after(self.next);
            taken += 1;
        }
        // SAFETY: what was pushed lies in slots from `first` to `next`, which are ours until the loop below, or in chunks of queues, which
        // are until they are given back; no frame on them is alive.
        unsafe { self.out.flush(self.socket.as_fd(), &mut self.counters) };
        let mut slot = first;
        for _ in 0..taken {
            self.slots.set_status(slot, libc::TP_STATUS_KERNEL);
            slot = self.slots.after(slot);
        }
        for queue in &mut self.queues {
            // SAFETY: no frame is alive, as above, and those that were pushed have been sent by `flush`.
            unsafe { queue.give_back() };
        }
        taken += before;
        self.counters.received += taken as u64;
        Ok(taken)
    }

    /// Has the frames of queues decided about, a batch of each. Their chunks are still ours.
    fn serve_queues<F: Into<Fate>>(&mut self, decide: &mut impl FnMut(&mut Frame<'_>) -> F) -> usize {
        let (out, socket, counters) = (&mut self.out, self.socket.as_fd(), &mut self.counters);
        let mut taken = 0;
        for queue in &mut self.queues {
            for _ in 0..limits::PACKET_BATCH {
                let Some((mut frame, base)) = queue.take() else { break };
                let fate = decide(&mut frame).into();
                // SAFETY: the frame's buffer is its chunk, at `base`, which is ours until the whole batch is sent, as the chunks of those
                // that were pushed before are; no frame on them is alive.
                unsafe { out.settle(fate, (frame, base), socket, counters, decide) };
                taken += 1;
            }
        }
        taken
    }

    /// See [`super::Tap::add`].
    ///
    /// # Errors
    /// See there.
    #[allow(clippy::result_large_err, reason = "what is given back is what was given")]
    pub fn add(&mut self, queue: Queue) -> Result<(), Queue> {
        if self.queues.len() == limits::PACKET_QUEUES {
            return Err(queue);
        }
        self.polls.push(to_poll(queue.as_fd()));
        self.queues.push(queue);
        Ok(())
    }

    /// The next frame is on its way here while this one is decided about.
    fn fetch_ahead(&self) {
        let slot = self.slots.at(self.slots.after(self.next)).as_ptr();
        for at in [0, FRAME_AT, FRAME_AT + slots::LINE] {
            cache::fetch(slot.wrapping_add(at));
        }
    }

    fn one<F: Into<Fate>>(&mut self, decide: &mut impl FnMut(&mut Frame<'_>) -> F) {
        let slot = self.slots.at(self.next);
        // SAFETY: `slot` is the start of a slot, aligned to 16 and longer than the header; the kernel wrote the header before it
        // gave us the slot, and leaves it alone until the slot goes back.
        let header = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
        let tag = tag_of(&header);
        if header.tp_status & libc::TP_STATUS_COPY != 0 {
            return self.long_one(tag, decide);
        }
        // The header stays out of reach of whoever rewrites the frame: the kernel goes by the status in it.
        // SAFETY: the slot is ours, `size` bytes from its start are in the mapping, and this is the only reference into it: the
        // header was copied out, the status lies before it, and `batch` holds pointers only.
        let (slot, buffer) = unsafe {
            let slot = slot.add(SLOT_HEADER);
            (slot, std::slice::from_raw_parts_mut(slot.as_ptr(), self.slots.size - SLOT_HEADER))
        };
        let start = usize::from(header.tp_mac).saturating_sub(SLOT_HEADER);
        let vnet = start.checked_sub(VNET_LEN).and_then(|at| buffer.get(at..)?.first_chunk());
        let vnet = vnet.map_or_else(Vnet::default, Vnet::parse);
        let at = start..start + header.tp_snaplen as usize;
        let missing = (header.tp_snaplen < header.tp_len).then_some(Missing::Tail);
        let mut frame = Frame::new(buffer, at, vnet).with_tag(tag).with_missing(missing);
        let fate = decide(&mut frame).into();
        self.counters.missing(missing);
        let (base, socket) = (slot.as_ptr().cast_const(), self.socket.as_fd());
        // SAFETY: the frame's buffer is the slot from `base` on, which goes back only after the whole batch, as those that were pushed
        // before do, and chunks of queues; no frame on any of them is alive.
        unsafe { self.out.settle(fate, (frame, base), socket, &mut self.counters, decide) };
    }

    /// The frame that waits beside the ring. Sent at once, after what is queued before it: the next one needs its buffer.
    fn long_one<F: Into<Fate>>(&mut self, tag: Option<Tag>, decide: &mut impl FnMut(&mut Frame<'_>) -> F) {
        let start = PRIVATE + limits::PACKET_HEADROOM;
        let Some(into) = self.long.get_mut(start - VNET_LEN..) else { return };
        // SAFETY: `into` is a live, writable slice, and the call writes its length at most.
        let length = unsafe {
            let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
            libc::recv(self.socket.as_fd().as_raw_fd(), into.as_mut_ptr().cast(), into.len(), flags)
        };
        // The kernel queued it before it gave us the slot, so it is there unless memory ran out.
        let Some(length) = usize::try_from(length).ok().and_then(|length| length.checked_sub(VNET_LEN)) else {
            self.counters.cut += 1;
            return;
        };
        let vnet = into.first_chunk().map_or_else(Vnet::default, Vnet::parse);
        let missing = (length > limits::PACKET_FRAME_BYTES).then_some(Missing::Tail);
        let mut frame = Frame::new(&mut self.long, start..start + length, vnet).with_tag(tag).with_missing(missing);
        let fate = decide(&mut frame).into();
        self.counters.missing(missing);
        let socket = self.socket.as_fd();
        let interface = match fate {
            Fate::Stay => return,
            Fate::Send(interface) => interface,
            // SAFETY: what was pushed lies in slots that go back only after the whole batch, and no frame on them is alive.
            Fate::Divide => return unsafe { self.out.divide(&frame, socket, &mut self.counters, decide) },
        };
        let Ok(range) = frame.seal() else {
            self.counters.refused += 1;
            return;
        };
        let sealed = Sealed { base: self.long[range.clone()].as_ptr(), length: range.len(), one: false };
        // SAFETY: what was pushed before lies in slots that go back only after the whole batch, this frame in `long`, which is not written
        // to before the next call.
        unsafe { self.out.push(interface, sealed, socket, &mut self.counters) };
        // SAFETY: as above, and `long` is not written to before the call returns.
        unsafe { self.out.flush(socket, &mut self.counters) };
    }

    fn is_ours(&self, slot: usize) -> bool {
        self.slots.status(slot) & libc::TP_STATUS_USER != 0
    }

    fn has_one(&mut self) -> bool {
        self.is_ours(self.next) || self.queues.iter_mut().any(Queue::is_ready)
    }

    /// Whether a frame came in time.
    fn wait_for_one(&mut self) -> io::Result<bool> {
        let (polls, count) = (self.polls.as_mut_ptr(), self.polls.len() as libc::nfds_t);
        // SAFETY: `polls` leads to live, writable `pollfd`s, as many as the call is told.
        match check(unsafe { libc::poll(polls, count, self.wait) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            other => other?,
        };
        if self.polls.iter().any(|poll| poll.revents & libc::POLLERR != 0)
            && let Some(error) = self.take_error()
        {
            return Err(error);
        }
        Ok(self.has_one())
    }

    /// The error that the socket holds, or a queue. A queue that has one is of no more use, since its interface is gone, and let go:
    /// it would end every wait at once, on kernels that show such an error to `poll`. Others show it to nobody, but the socket's comes
    /// at the same time.
    fn take_error(&mut self) -> Option<io::Error> {
        let mut found = self.socket.take_error();
        let counters = &mut self.counters;
        self.queues.retain_mut(|queue| {
            let Some(error) = queue.take_error() else { return true };
            counters.overrun += queue.overrun();
            found.get_or_insert(error);
            false
        });
        self.polls.truncate(1);
        self.polls.extend(self.queues.iter().map(|queue| to_poll(queue.as_fd())));
        found
    }

    /// See [`super::Tap::send`].
    pub fn send(&mut self, interface: u32, frame: &[u8]) {
        let mut to = address(interface.cast_signed());
        let no_vnet = [0_u8; VNET_LEN];
        let mut parts = [
            libc::iovec { iov_base: no_vnet.as_ptr().cast_mut().cast(), iov_len: no_vnet.len() },
            libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() },
        ];
        // SAFETY: `msghdr` is made of integers and pointers, for all of which zeros are a valid value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_name, message.msg_namelen) =
            ((&raw mut to).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t);
        (message.msg_iov, message.msg_iovlen) = (parts.as_mut_ptr(), parts.len() as _);
        // SAFETY: every pointer in `message` leads to a local or to `frame`, all alive during the call, which only reads them.
        match unsafe { libc::sendmsg(self.socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) } {
            -1 => self.counters.unsent(&io::Error::last_os_error()),
            _ => self.counters.sent += 1,
        }
    }

    /// See [`super::Tap::want`].
    ///
    /// # Errors
    /// See there.
    pub fn want(&mut self, rules: Option<&[Rule]>, macs: &[MacAddr]) -> Result<(), PacketError> {
        want(&self.socket, &Wanted { rules, macs, tags: true }, &mut self.macs)
    }

    /// See [`super::Tap::counters`].
    pub fn counters(&mut self) -> Counters {
        self.counters.add_kernel(self.socket.statistics().unwrap_or_default());
        self.counters.overrun += self.queues.iter_mut().map(Queue::overrun).sum::<u64>();
        self.counters
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Receives for new addresses first, and forgets old ones last, so that what is wanted before and after never stops coming.
pub(super) fn want(socket: &Socket, wanted: &Wanted<'_>, macs: &mut Vec<MacAddr>) -> Result<(), PacketError> {
    for mac in wanted.macs.iter().filter(|mac| !macs.contains(mac)) {
        socket.join(*mac)?;
    }
    socket.filter(&Filter::new(wanted))?;
    for mac in macs.iter().filter(|mac| !wanted.macs.contains(mac)) {
        socket.leave(*mac)?;
    }
    *macs = wanted.macs.to_vec();
    Ok(())
}

pub(super) fn milliseconds(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
}

fn to_poll(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

fn tag_of(header: &libc::tpacket2_hdr) -> Option<Tag> {
    let valid = |flag| header.tp_status & flag != 0;
    let protocol =
        if valid(libc::TP_STATUS_VLAN_TPID_VALID) { EtherType(header.tp_vlan_tpid) } else { EtherType::VLAN };
    valid(libc::TP_STATUS_VLAN_VALID).then_some(Tag { protocol, control: header.tp_vlan_tci })
}

/// Holds a frame of the interface with its surroundings.
fn slot_size(mtu: usize) -> usize {
    (OVERHEAD + RESERVE + mtu).clamp(SHORTEST, limits::PACKET_SLOT_BYTES)
}

const VERSION_2: c_int = libc::tpacket_versions::TPACKET_V2 as c_int;
/// The header of a slot and the address after it (`TPACKET2_HDRLEN`), aligned.
const SLOT_HEADER: usize = 64;
/// Both again, what aligns them, the virtio header, and an Ethernet header with two tags.
const OVERHEAD: usize = 128;
/// Where a frame begins in its slot, mostly, its virtio header before it.
const FRAME_AT: usize = SLOT_HEADER + RESERVE;
/// Room for what is put before a frame, and for what sealing adds.
const RESERVE: usize = limits::PACKET_HEADROOM + PRIVATE;
/// An Ethernet frame fits into every slot: an MTU may grow while the ring stands.
const SHORTEST: usize = OVERHEAD + RESERVE + 1500;
