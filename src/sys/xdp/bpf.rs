//! Io: bpf(2), the few commands that an XDP program with a map of sockets needs.
//!
//! Each command has a struct for the beginning of its part of `union bpf_attr`; the kernel takes what is not given as zeros.
//!
//! Not here: what the program does (`program`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::code::Instruction;

/// A map from a queue's number to the AF_XDP socket that gets its frames. It forgets a socket that is closed.
///
/// # Errors
/// `EPERM` without the capabilities.
pub(super) fn socket_map(queues: u32) -> io::Result<OwnedFd> {
    let mut attributes = MapCreate {
        kind: MAP_OF_SOCKETS,
        key_size: 4,
        value_size: 4,
        most: queues,
        flags: 0,
        inner: 0,
        numa_node: 0,
        name: NAME,
    };
    // SAFETY: `MapCreate` is a map's part of the union up to the name, and has no addresses.
    own(unsafe { bpf(MAP_CREATE, &mut attributes) }?)
}

/// # Errors
/// `E2BIG` past the map's end; `EOPNOTSUPP`, `EBADF` where it is no AF_XDP socket with a ring to receive into.
pub(super) fn put_socket(map: BorrowedFd<'_>, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    let value = socket.as_raw_fd();
    let mut attributes = MapElement {
        map: number(map),
        zero: 0,
        key: address(&raw const queue),
        value: address(&raw const value),
        flags: 0,
    };
    // SAFETY: `MapElement` is an element's part of the union. Key and value are the four bytes each that the map says, live until
    // the call returns, and the kernel only reads them.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
}

/// # Errors
/// `EPERM` without the capabilities. Where the verifier refuses the program: its last words.
pub(super) fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let refused = match load_logged(program, &mut []) {
        Ok(loaded) => return Ok(loaded),
        Err(refused) => refused,
    };
    let mut log = vec![0; LOG];
    // For the log alone. Should it be let in this time, so much the better.
    if let Ok(loaded) = load_logged(program, &mut log) {
        return Ok(loaded);
    }
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let log = String::from_utf8_lossy(log.get(..end).unwrap_or_default());
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default() {
        [] => Err(refused),
        words => Err(io::Error::new(refused.kind(), format!("{refused}; the verifier said: {}", words.join(" | ")))),
    }
}

fn load_logged(program: &[Instruction], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = ProgramLoad {
        kind: PROGRAM_XDP,
        count: u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: address(program.as_ptr()),
        license: address(LICENSE.as_ptr()),
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        log: if log.is_empty() { 0 } else { address(log.as_mut_ptr()) },
        kernel_version: 0,
        flags: 0,
        name: NAME,
    };
    let mut attempts = 0;
    loop {
        // SAFETY: `ProgramLoad` is a program's part of the union up to the name. `program` is as many live `struct bpf_insn` as
        // `count` says, the license is text that ends with a zero, and `log`, which we have alone, is writable for its length or
        // not given. The kernel reads and writes them during the call only.
        match unsafe { bpf(PROG_LOAD, &mut attributes) } {
            // The verifier has seen a signal. Its caller may have many.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && attempts < ATTEMPTS => attempts += 1,
            other => return own(other?),
        }
    }
}

/// Hangs a program before the interface. It hangs there as long as the link is open.
///
/// # Errors
/// `EBUSY`, `EEXIST` where another program is or somebody has taken the place; `EOPNOTSUPP` where the driver knows no XDP.
pub(super) fn link(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreate { program: number(program), interface, kind: ATTACH_XDP, flags };
    // SAFETY: `LinkCreate` is a link's part of the union up to the flags, and has no addresses.
    own(unsafe { bpf(LINK_CREATE, &mut attributes) }?)
}

/// Another program in place of the link's own, between two frames. Its own again changes nothing.
///
/// # Errors
/// `ENOLINK` where somebody has taken the link off, or the interface is gone.
pub(super) fn relink(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = LinkUpdate { link: number(link), program: number(program), flags: 0, old: 0 };
    // SAFETY: `LinkUpdate` is the command's part of the union, and has no addresses.
    unsafe { bpf(LINK_UPDATE, &mut attributes) }.map(drop)
}

/// What the program says of a frame: its `enum xdp_action`.
#[cfg(test)]
pub(super) fn run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<u32> {
    run_with(program, frame, &[])
}

/// The same of a frame that has come by this queue.
#[cfg(test)]
pub(super) fn run_on(program: BorrowedFd<'_>, frame: &[u8], interface: u32, queue: u32) -> io::Result<u32> {
    let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    run_with(program, frame, &[0, length, 0, interface, queue, 0])
}

/// `context` is a `struct xdp_md`, or nothing.
#[cfg(test)]
fn run_with(program: BorrowedFd<'_>, frame: &[u8], context: &[u32]) -> io::Result<u32> {
    let mut attributes = TestRun {
        program: number(program),
        verdict: 0,
        length: u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        out_length: 0,
        frame: address(frame.as_ptr()),
        out: 0,
        repeat: 1,
        duration: 0,
        context_length: u32::try_from(size_of_val(context)).map_err(|_| io::ErrorKind::InvalidInput)?,
        context_out_length: 0,
        context: if context.is_empty() { 0 } else { address(context.as_ptr()) },
        context_out: 0,
    };
    // SAFETY: `TestRun` is the command's part of the union up to the contexts. `frame` and `context` are live and as long as is
    // said, the kernel only reads them, and it gets no place to write any to.
    unsafe { bpf(PROG_TEST_RUN, &mut attributes) }?;
    Ok(attributes.verdict)
}

/// # Safety
/// `T` is `repr(C)`, has no padding and begins as the command's part of `union bpf_attr` does; every address in it is of memory
/// that the kernel may use during the call as the command does.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    let size = size_of::<T>() as libc::c_uint;
    // SAFETY: `attributes` is live and writable for `size` bytes, none of which is padding; the rest is the caller's word.
    match unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size) } {
        -1 => Err(io::Error::last_os_error()),
        // Descriptors are small.
        value => Ok(value as RawFd),
    }
}

fn own(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the callers' commands give a new descriptor, closed on exec, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    most: u32,
    flags: u32,
    inner: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct MapElement {
    map: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

#[cfg(test)]
#[repr(C)]
struct TestRun {
    program: u32,
    verdict: u32,
    length: u32,
    out_length: u32,
    frame: u64,
    out: u64,
    repeat: u32,
    duration: u32,
    context_length: u32,
    context_out_length: u32,
    context: u64,
    context_out: u64,
}

/// As `bpftool prog` and `bpftool map` show it.
const NAME: [u8; 16] = *b"strata_front\0\0\0\0";
/// No function of the kernel's that we call asks for another.
const LICENSE: &std::ffi::CStr = c"MIT or Apache-2.0";
/// What the verifier says of a thousand rules fits many times.
const LOG: usize = 1 << 20;
/// Lines: the instruction, what was wrong, what it took.
const LAST_WORDS: usize = 3;
const ATTEMPTS: u32 = 5;

// linux/bpf.h and linux/if_link.h
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
#[cfg(test)]
const PROG_TEST_RUN: libc::c_int = 10;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const MAP_OF_SOCKETS: u32 = 17;
const PROGRAM_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// The driver runs it.
pub(super) const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
