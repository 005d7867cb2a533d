//! Io: frames that wait for one system call that sends them all (`sendmmsg`).
//!
//! Budget: no allocation after `Batch::new`, no copy of a frame.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::Counters;
use super::socket::address;
use crate::base::limits;

/// Frames by where they lie. The memory belongs to whoever queues them.
pub(super) struct Batch {
    /// The interface that the socket is bound to: the kernel need not look it up.
    home: u32,
    len: usize,
    messages: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    addresses: Box<[libc::sockaddr_ll]>,
}

// SAFETY: the pointers in it lead to its own boxes, which move with it, or to frames, and those are read in `flush` only,
// whose caller vouches for them wherever it runs.
unsafe impl Send for Batch {}

impl Batch {
    pub(super) fn new(home: u32) -> Batch {
        let empty = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        let mut parts = vec![empty; limits::PACKET_BATCH].into_boxed_slice();
        let mut addresses = vec![address(0); limits::PACKET_BATCH].into_boxed_slice();
        let messages = parts
            .iter_mut()
            .zip(&mut addresses)
            .map(|(part, _)| {
                // SAFETY: `mmsghdr` is made of integers and pointers, for all of which zeros are a valid value.
                let mut message: libc::mmsghdr = unsafe { zeroed() };
                (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (ptr::from_mut(part), 1);
                message
            })
            .collect();
        Batch { home, len: 0, messages, parts, addresses }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) const fn is_full(&self) -> bool {
        self.len == limits::PACKET_BATCH
    }

    /// Queues the frame at `base`, its `virtio_net_hdr` first. A full batch takes none, and counts it: callers flush before.
    pub(super) fn push(&mut self, interface: u32, base: *const u8, length: usize, counters: &mut Counters) {
        if self.is_full() {
            counters.no_room += 1;
            return;
        }
        self.parts[self.len] = libc::iovec { iov_base: base.cast_mut().cast(), iov_len: length };
        let header = &mut self.messages[self.len].msg_hdr;
        if interface == self.home {
            (header.msg_name, header.msg_namelen) = (ptr::null_mut(), 0);
        } else {
            let to = &mut self.addresses[self.len];
            to.sll_ifindex = interface.cast_signed();
            header.msg_name = ptr::from_mut(to).cast();
            header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        }
        self.len += 1;
    }

    /// Gives every queued frame to the kernel, and counts those that it does not take.
    ///
    /// # Safety
    /// What was pushed since the last call can still be read: nothing has freed, unmapped or borrowed it mutably.
    pub(super) unsafe fn flush(&mut self, socket: BorrowedFd<'_>, counters: &mut Counters) {
        let mut done = 0;
        while done < self.len {
            let left = (self.len - done) as libc::c_uint;
            // SAFETY: `messages[done..]` has `left` entries that `push` filled; each points to its entry of `parts` and
            // `addresses`, which are boxed and live, and each part to bytes that the caller vouches for.
            let sent = unsafe {
                let first = self.messages.as_mut_ptr().add(done);
                libc::sendmmsg(socket.as_raw_fd(), first, left, libc::MSG_DONTWAIT as _)
            };
            if let Ok(sent @ 1..) = usize::try_from(sent) {
                counters.sent += sent as u64;
                done += sent;
                continue;
            }
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            // The first of those that are left is at fault. The others may go, unless the socket's buffer is full: it will be
            // for them too.
            let lost = if error.kind() == io::ErrorKind::WouldBlock { self.len - done } else { 1 };
            (0..lost).for_each(|_| counters.unsent(&error));
            done += lost;
        }
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_a_full_batch_does_not_take_is_counted() {
        let (mut batch, mut counters, frame) = (Batch::new(1), Counters::default(), [0; 60]);
        for pushed in 0..limits::PACKET_BATCH {
            assert!(!batch.is_full(), "after {pushed}");
            batch.push(1, frame.as_ptr(), frame.len(), &mut counters);
        }
        assert_eq!((batch.is_full(), counters.no_room), (true, 0));
        batch.push(1, frame.as_ptr(), frame.len(), &mut counters);
        assert_eq!(counters.no_room, 1);
    }
}
