//! Io: every raw system call and all `unsafe`, behind small safe functions that name what they do.
//!
//! Not here: waiting. What can block is non-blocking here, and `net` waits for it; but for `packet`, whose callers are threads of
//! their own.
#![allow(unsafe_code, reason = "the one module that may; each block says why it is sound")]

pub mod allocation;
mod assemble;
mod cache;
pub mod capability;
pub mod classify;
pub mod configure;
pub mod datagram;
pub mod echo;
pub mod handover;
pub mod ingress;
pub mod inherited;
pub mod link;
pub mod listen;
pub mod memory;
pub mod neighbour;
mod netlink;
#[cfg(test)]
pub(crate) mod netns;
pub mod packet;
pub mod privilege;
pub mod process;
pub mod socket;
pub mod splice;
pub mod terminal;
pub mod too_big;
pub mod tun;
pub mod vitals;
pub mod xdp;

#[cfg(test)]
pub(crate) use listen::fall_silent;
pub use listen::{Claim, ListenError, listen, overflows, refuse_new};
pub use socket::{reset_all_on_close, reset_on_close};
pub use splice::{Pipe, Pipes};

use std::os::fd::{AsFd, AsRawFd};
use std::{io, ptr};

use libc::c_int;

/// What a call has given: −1 stands for the error that the kernel has set.
fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Sets an option of a socket to a value of the type that it has (socket(7) and its like).
fn set_option<T: Copy>(socket: &impl AsFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is a live reference, and the call reads `length` bytes, its whole size, and no more.
    check(unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, ptr::from_ref(value).cast(), length) })
        .map(drop)
}
