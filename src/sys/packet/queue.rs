//! Io: frames of one queue of an interface, from before the kernel makes packets of them (`AF_XDP`).
//!
//! The interface's XDP program picks them. The kernel copies each into a chunk of memory that it shares with us, and says in a ring
//! where; we rewrite it there and hand it to the `outbox`; once the batch is sent, its chunks go back through another ring.
//!
//! ```text
//!   chunk: 256 bytes, the room in front | frame | room behind
//!   owner: kernel -> (receive ring) ours -> decided -> sent with its batch -> (fill ring) kernel
//! ```
//!
//! Both rings have an entry for every chunk, so neither is ever full: what finds the worker too slow finds no chunk.
//!
//! Copy mode, for every driver that has native XDP has it, and it is what is tested. Without copies a driver receives into our chunks
//! itself, those that can; none of them is at hand to be tried.
//!
//! A queue tells nothing beside the bytes: no VLAN tag, not even that a card, or a veth's other end, has taken one out; nothing merged;
//! nothing of the checksum. Of the last see [`partial`].
//!
//! A frame of 60 bytes in and out over veth, the kernel's part of it and ours on one core: some 1.4 µs where the ring alone takes 2.5,
//! as measured on a machine that was not quiet.
//!
//! Budget: as `ring`, whose `receive` serves the queues too: two acquiring loads and two releasing stores a batch, no system call
//! while there are frames, no allocation.
//! Not here: the program, and which queue it gives to which socket (`sys::xdp`); sending.

use std::io;
use std::marker::PhantomData;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::c_int;
use socket2::SockRef;

use super::PacketError;
use super::frame::{Frame, PRIVATE, Vnet};
use super::slots::LINE;
use super::socket::step;
use crate::base::limits;
use crate::sys::link::{self, Kind};
use crate::sys::{cache, process};
use crate::sys::{check, set_option};
use crate::wire::ethernet;
use crate::wire::partial::{Partial, partial};

/// A queue of an interface, and the memory that its frames come in. One socket may have it at a time.
pub struct Queue {
    fd: OwnedFd,
    number: u32,
    chunks: Chunks,
    fill: Shared<u64>,
    received: Shared<libc::xdp_desc>,
    /// The entry of `received` that is looked at next; those before `seen` are there.
    next: u32,
    seen: u32,
    /// Those from here to `next` are of chunks that are ours.
    given: u32,
    /// The entry of `fill` that is written next.
    filled: u32,
    /// Whether frames may come whose checksum was left to a card.
    unfinished: bool,
    /// Of what found no room, how much was told.
    told: u64,
}

impl Queue {
    /// Binds to a queue of the interface; nothing comes before the interface's XDP program knows of it.
    ///
    /// # Errors
    /// The step that failed and what the kernel said: `EINVAL` where there is no such queue, `EBUSY` where another socket has it, or had
    /// it until a moment ago. An interface whose frames are longer than a page less the room in front.
    pub fn bind(interface: u32, queue: u32) -> Result<Queue, PacketError> {
        let link = step("learn the interface's MTU", link::by_index(interface))?;
        let size = step("receive by AF_XDP", chunk_size(link.mtu as usize))?;
        let fd = step("open an AF_XDP socket", open())?;
        let chunks = Chunks::new(&fd, size)?;
        // The kernel wants a ring for what was sent, too, and keeps it for itself: nobody maps it.
        let entries = chunks.count as c_int;
        for (option, entries) in [
            (libc::XDP_UMEM_FILL_RING, entries),
            (libc::XDP_RX_RING, entries),
            (libc::XDP_UMEM_COMPLETION_RING, COMPLETIONS),
        ] {
            step("make the queue's rings", set_option(&fd, libc::SOL_XDP, option, &entries))?;
        }
        let offsets = step("learn the layout of the queue's rings", offsets(&fd))?;
        let fill = Shared::map(&fd, libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t, &offsets.fr, chunks.count)?;
        let received = Shared::map(&fd, libc::XDP_PGOFF_RX_RING, &offsets.rx, chunks.count)?;
        // Frames that a wire has brought carry their checksum: it got them here. A veth's other end sends as it would to a card, and
        // so does a virtual machine behind a tun; the kernel knows that of each packet, and does not tell.
        let unfinished = link.kind != Kind::Card;
        let mut queue = Queue {
            number: queue,
            fill,
            received,
            next: 0,
            seen: 0,
            given: 0,
            filled: 0,
            unfinished,
            told: 0,
            chunks,
            fd,
        };
        queue.fill();
        step(BIND, queue.bind_to(interface))?;
        Ok(queue)
    }

    /// Bytes of memory for each of its frames.
    pub const fn size(&self) -> usize {
        self.chunks.size
    }

    /// Bytes of memory for a frame of an interface with this MTU; `None`: more than there can be.
    pub fn room(mtu: usize) -> Option<usize> {
        chunk_size(mtu).ok()
    }

    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Gives every chunk to the kernel.
    fn fill(&mut self) {
        for chunk in 0..self.chunks.count {
            self.give((chunk * self.chunks.size) as u64);
        }
        self.fill.producer().store(self.filled, Ordering::Release);
    }

    fn bind_to(&self, interface: u32) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: interface,
            sxdp_queue_id: self.number,
            sxdp_shared_umem_fd: 0,
        };
        let length = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: `address` is a live `sockaddr_xdp` of `length` bytes, only read by this call.
        check(unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
    }

    /// Whether a frame is there.
    pub(super) fn is_ready(&mut self) -> bool {
        if self.next == self.seen {
            // Acquires what the kernel wrote before it said so.
            self.seen = self.received.producer().load(Ordering::Acquire);
        }
        self.next != self.seen
    }

    /// The next frame, if there is one, and where its buffer begins. Its chunk is ours until [`Queue::give_back`].
    pub(super) fn take(&mut self) -> Option<(Frame<'_>, *const u8)> {
        if !self.is_ready() {
            return None;
        }
        let entry = self.entry(self.next);
        self.next = self.next.wrapping_add(1);
        self.fetch_ahead();
        let (chunk, start) = self.chunks.at(entry.addr);
        // SAFETY: `chunk` begins `size` bytes of the mapping. They are ours: the kernel names a chunk in the receive ring once after it
        // got it through the fill ring, to which `give_back` alone returns it; and this is the only reference into it, since each entry
        // is looked at once and the borrow of `self` lasts as long.
        let buffer = unsafe { slice::from_raw_parts_mut(chunk.as_ptr(), self.chunks.size) };
        let mut at = start..start.saturating_add(entry.len as usize);
        let mut vnet = Vnet::default();
        if self.unfinished
            && let Some(Partial { start, offset, end }) = buffer.get(at.clone()).and_then(partial)
        {
            // Who finishes it sums up to the frame's end: padding goes.
            at.end = at.start + end;
            vnet = Vnet::needs_sum(start, offset);
        }
        Some((Frame::new(buffer, at, vnet).with_no_copy(), chunk.as_ptr()))
    }

    /// The next frame is on its way here while this one is decided about.
    fn fetch_ahead(&self) {
        if self.next != self.seen {
            let (chunk, start) = self.chunks.at(self.entry(self.next).addr);
            let frame = chunk.as_ptr().wrapping_add(start);
            cache::fetch(frame);
            cache::fetch(frame.wrapping_add(LINE));
        }
    }

    /// Gives the chunks of all frames that were taken to the kernel, which writes to them from now on: none of them is alive, and none is
    /// still to be read by whoever sends it.
    ///
    /// # Safety
    /// That is so.
    pub(super) unsafe fn give_back(&mut self) {
        if self.given == self.next {
            return;
        }
        while self.given != self.next {
            let entry = self.entry(self.given);
            self.give(entry.addr);
            self.given = self.given.wrapping_add(1);
        }
        self.fill.producer().store(self.filled, Ordering::Release);
        self.received.consumer().store(self.given, Ordering::Release);
    }

    /// An entry of the receive ring between `given` and `seen`.
    fn entry(&self, index: u32) -> libc::xdp_desc {
        // SAFETY: the entry is in the mapping and aligned. The kernel wrote it before the producer that `seen` was acquired from, and
        // leaves it alone until `consumer` has passed it, which is no further than `given`.
        unsafe { self.received.entry(index).read() }
    }

    /// Writes the chunk of this address to the fill ring.
    fn give(&mut self, address: u64) {
        // SAFETY: the entry is in the mapping and aligned. It is ours: the ring has as many as there are chunks, and each chunk is in it
        // once at most, so the kernel has read what was here before.
        unsafe { self.fill.entry(self.filled).write(address & !(self.chunks.size as u64 - 1)) };
        self.filled = self.filled.wrapping_add(1);
    }

    /// Frames for which there was no room, since the last call.
    pub(super) fn overrun(&mut self) -> u64 {
        let Ok(statistics) = statistics(&self.fd) else { return 0 };
        let lost = statistics.rx_dropped.saturating_add(statistics.rx_ring_full);
        lost.saturating_sub(std::mem::replace(&mut self.told, lost))
    }

    /// The error that the socket holds, taken out of it: `ENETDOWN` once the interface is gone. Nothing comes any more then.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        SockRef::from(&self.fd).take_error().ok().flatten()
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The memory that frames come in.
struct Chunks {
    memory: Memory,
    /// Bytes of each, a power of two.
    size: usize,
    count: usize,
}

impl Chunks {
    /// Registers memory with the socket.
    fn new(fd: &OwnedFd, size: usize) -> Result<Chunks, PacketError> {
        let bytes = limits::PACKET_QUEUE_BYTES;
        let memory = step("make room for the queue's frames", Memory::anonymous(bytes))?;
        let request = libc::xdp_umem_reg {
            addr: memory.base.as_ptr().addr() as u64,
            len: bytes as u64,
            chunk_size: size as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        let register = || set_option(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &request);
        let registered = match register() {
            // More than we may lock, without CAP_IPC_LOCK; the limit counts what all processes of this user have locked.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) && process::lock_more().is_ok() => register(),
            other => other,
        };
        step(REGISTER, registered)?;
        Ok(Chunks { memory, size, count: bytes / size })
    }

    /// The start of the chunk that an address of the kernel's lies in, and where in it.
    fn at(&self, address: u64) -> (NonNull<u8>, usize) {
        let (chunk, start) = (address as usize / self.size, address as usize % self.size);
        assert!(chunk < self.count, "a chunk that is not in the queue's memory");
        // SAFETY: `chunk` is below `count`, so its `size` bytes are in the mapping.
        (unsafe { self.memory.base.add(chunk * self.size) }, start)
    }
}

/// A ring of `T`s in memory that the kernel has made: whoever produces entries says up to where, and so does whoever consumes them.
struct Shared<T> {
    memory: Memory,
    producer: usize,
    consumer: usize,
    /// Where the entries begin.
    entries: usize,
    /// Their number less one, a power of two less one.
    mask: u32,
    of: PhantomData<T>,
}

impl<T> Shared<T> {
    fn map(
        fd: &OwnedFd,
        page: libc::off_t,
        at: &libc::xdp_ring_offset,
        count: usize,
    ) -> Result<Shared<T>, PacketError> {
        let entries = at.desc as usize;
        let memory = Memory::of(fd, page, entries + count * size_of::<T>());
        Ok(Shared {
            memory: step("map the queue's rings", memory)?,
            producer: at.producer as usize,
            consumer: at.consumer as usize,
            entries,
            mask: count as u32 - 1,
            of: PhantomData,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        self.word(self.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.word(self.consumer)
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `at` is where the kernel has said that this ring has an aligned word, before its entries, in a mapping that lives as long
        // as `self`. The kernel accesses it by loads and stores of a whole word, which is what atomic ones are.
        unsafe { AtomicU32::from_ptr(self.memory.base.add(at).cast().as_ptr()) }
    }

    /// Where the entry of this number is, counted without end.
    fn entry(&self, index: u32) -> NonNull<T> {
        let nth = (index & self.mask) as usize;
        // SAFETY: `nth` is below the number of entries, all of which were mapped from `entries` on.
        unsafe { self.memory.base.add(self.entries + nth * size_of::<T>()).cast() }
    }
}

/// A mapping.
struct Memory {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone and is valid in every thread of the process.
unsafe impl Send for Memory {}

impl Memory {
    fn anonymous(bytes: usize) -> io::Result<Memory> {
        let memory = Memory::map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
        // The kernel writes to the pages that it finds here now. In a child they would be shared until written to, and ours would then
        // be others than the kernel's.
        // SAFETY: the range is this mapping, and the advice changes none of its bytes.
        check(unsafe { libc::madvise(memory.base.as_ptr().cast(), bytes, libc::MADV_DONTFORK) })?;
        Ok(memory)
    }

    fn of(fd: &OwnedFd, page: libc::off_t, bytes: usize) -> io::Result<Memory> {
        Memory::map(bytes, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), page)
    }

    fn map(bytes: usize, how: c_int, fd: c_int, page: libc::off_t) -> io::Result<Memory> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other memory.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, how, fd, page) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Memory { base, bytes })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, of this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

fn open() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let fd = check(unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the call succeeded, so `fd` is an open descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Bytes of a chunk that has room for the frames of an interface, and for what is put before them.
fn chunk_size(mtu: usize) -> io::Result<usize> {
    let longest = ethernet::HEADER_LEN + limits::VLAN_TAGS * ethernet::TAG_LEN + mtu;
    CHUNKS.into_iter().find(|size| longest <= size - IN_FRONT).ok_or_else(|| {
        let most = LARGEST - IN_FRONT - (longest - mtu);
        let text = format!("the interface's MTU is {mtu}, and {most} is the most that there is room for");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

fn offsets(fd: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    let none = || libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
    let mut offsets = libc::xdp_mmap_offsets { rx: none(), tx: none(), fr: none(), cr: none() };
    // Kernels before 5.4 fill a shorter one.
    match get_option(fd, libc::XDP_MMAP_OFFSETS, &mut offsets)? {
        length if length == size_of::<libc::xdp_mmap_offsets>() => Ok(offsets),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// What kernels before 5.9 do not count apart stays zero, for they count it as dropped.
fn statistics(fd: &OwnedFd) -> io::Result<libc::xdp_statistics> {
    let mut statistics = libc::xdp_statistics {
        rx_dropped: 0,
        rx_invalid_descs: 0,
        tx_invalid_descs: 0,
        rx_ring_full: 0,
        rx_fill_ring_empty_descs: 0,
        tx_ring_empty_descs: 0,
    };
    get_option(fd, libc::XDP_STATISTICS, &mut statistics)?;
    Ok(statistics)
}

/// Reads an option that is a structure of numbers, and gives how many bytes of it the kernel has.
fn get_option<T>(fd: &OwnedFd, option: c_int, value: &mut T) -> io::Result<usize> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is live and writable for the `length` bytes that this call may write, and any bytes are valid numbers.
    check(unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, option, ptr::from_mut(value).cast(), &raw mut length)
    })?;
    Ok(length as usize)
}

/// Steps whose errors have a meaning of their own.
pub(super) const REGISTER: &str = "lock memory for the queue's frames";
pub(super) const BIND: &str = "take frames from the interface's queue";

/// Bytes of a chunk before its frame (`XDP_PACKET_HEADROOM`, linux/bpf.h).
const IN_FRONT: usize = 256;
/// Sizes of chunks, the smaller one first: what the kernel allows, which is a page at most.
const CHUNKS: [usize; 2] = [2048, LARGEST];
const LARGEST: usize = 4096;
/// Entries of the ring for what was sent: nothing ever is.
const COMPLETIONS: c_int = 1;

const _: () = assert!(IN_FRONT >= PRIVATE + limits::PACKET_HEADROOM, "a frame's room in front");
const _: () = assert!((limits::PACKET_QUEUE_BYTES / CHUNKS[0]).is_power_of_two(), "entries of a ring");
const _: () = assert!((limits::PACKET_QUEUE_BYTES / CHUNKS[1]).is_power_of_two(), "entries of a ring");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_room_for_the_frames_of_the_interface() {
        for (mtu, size) in [(68, Some(2048)), (1500, Some(2048)), (1770, Some(2048)), (1771, Some(4096))] {
            assert_eq!(chunk_size(mtu).ok(), size, "{mtu}");
        }
        assert_eq!(chunk_size(3818).ok(), Some(4096));
        let error = chunk_size(9000).unwrap_err().to_string();
        assert_eq!(error, "the interface's MTU is 9000, and 3818 is the most that there is room for");
    }

    #[test]
    fn an_error_names_the_way_out() {
        let text = |step, errno| PacketError { step, cause: io::Error::from_raw_os_error(errno) }.to_string();
        assert!(text(REGISTER, libc::ENOBUFS).contains("`ulimits: memlock`"));
        assert_eq!(text(BIND, libc::EBUSY), "cannot take frames from the interface's queue: another socket has it");
        assert!(text(BIND, libc::EINVAL).ends_with("the interface has no such queue"));
    }
}
