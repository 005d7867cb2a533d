//! Io: what the kernel knows of a network interface.

use std::ffi::CString;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::c_int;

/// Index of the interface of that name.
///
/// # Errors
/// `ENODEV` where there is none.
pub fn index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `name` is a live string that ends with a zero.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Bytes that a packet on the interface may have, its Ethernet header not counted.
///
/// # Errors
/// `ENODEV` where there is no such interface.
pub fn mtu(index: u32) -> io::Result<u32> {
    let socket = control()?;
    // SAFETY: `ifreq` is made of bytes, integers and pointers, for all of which zeros are a valid value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    request.ifr_ifru.ifru_ifindex = index.cast_signed();
    // SAFETY: `request` is a live, writable `ifreq`, the type that both calls read and fill.
    let result = unsafe {
        match libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFNAME, &raw mut request) {
            -1 => -1,
            _ => libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request),
        }
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the second call filled this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.cast_unsigned())
}

/// A socket for requests that name an interface.
fn control() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let fd: c_int = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is an open descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
