//! Io: pipes between two sockets, so that a long transfer never enters user space.
//!
//! Why: 22 against 28 µs of our CPU per 100 KB (`notes/floors.md` §1). A pipe is borrowed only while bytes are in it, and a
//! worker keeps a few empty ones: steady state opens none, an idle relay holds none.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;

use crate::base::limits;

/// The empty pipes of one worker.
#[derive(Default)]
pub struct Pipes {
    free: RefCell<Vec<Ends>>,
    /// Pipes that are out.
    taken: Cell<usize>,
}

struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

/// A pipe and how much is in it. Goes back to its worker when dropped empty; with bytes in it, it is closed: they
/// belong to a connection that failed and must never reach another.
pub struct Pipe {
    store: Rc<Pipes>,
    ends: Option<Ends>,
    held: usize,
}

impl Pipes {
    /// An empty pipe. `None` when `limits::PIPES` are out or no descriptor is left: a transfer can go on without.
    pub fn take(self: &Rc<Self>) -> Option<Pipe> {
        if self.taken.get() >= limits::PIPES {
            return None;
        }
        let free = self.free.borrow_mut().pop();
        let ends = free.or_else(|| open().ok())?;
        self.taken.update(|taken| taken + 1);
        Some(Pipe { store: self.clone(), ends: Some(ends), held: 0 })
    }

    /// Closes what nobody uses.
    pub fn relieve(&self) {
        self.free.take();
    }
}

impl Pipe {
    /// Bytes in the pipe.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves what `source` has into the pipe, at most `most` bytes and at most `limits::SPLICE_BYTES`. 0 is the end of the
    /// stream. Only an empty pipe is filled: with a part-filled one "would block" could mean either side.
    ///
    /// # Errors
    /// `WouldBlock` when `source` has nothing; otherwise what the kernel said.
    pub fn fill(&mut self, source: &impl AsFd, most: usize) -> io::Result<usize> {
        let Some(ends) = self.ends.as_ref().filter(|_| self.held == 0) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let n = splice(source, &ends.into, most.min(limits::SPLICE_BYTES))?;
        self.held = n;
        Ok(n)
    }

    /// Moves bytes from the pipe to `sink`.
    ///
    /// # Errors
    /// `WouldBlock` when `sink` takes none; otherwise what the kernel said.
    pub fn drain(&mut self, sink: &impl AsFd) -> io::Result<usize> {
        let Some(ends) = self.ends.as_ref().filter(|_| self.held > 0) else {
            return Ok(0);
        };
        let n = splice(&ends.out, sink, self.held)?;
        self.held -= n.min(self.held);
        Ok(n)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.store.taken.update(|taken| taken.saturating_sub(1));
        if self.held == 0
            && let Some(ends) = self.ends.take()
        {
            let mut free = self.store.free.borrow_mut();
            if free.len() < limits::PIPES_KEPT {
                free.push(ends);
            }
        }
    }
}

fn open() -> io::Result<Ends> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors that this call writes.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so both are open descriptors that nobody else owns.
    Ok(unsafe { Ends { out: OwnedFd::from_raw_fd(ends[0]), into: OwnedFd::from_raw_fd(ends[1]) } })
}

fn splice(from: &impl AsFd, to: &impl AsFd, most: usize) -> io::Result<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: both descriptors are borrowed for the call, so they are open; null offsets are what sockets and pipes need; the
    // call touches no memory of ours.
    let n = unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), most, flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        (a, b)
    }

    #[test]
    fn bytes_pass_through_a_pipe_and_the_end_shows_as_nothing() {
        let (mut client, from) = pair();
        let (to, mut server) = pair();
        let mut pipe = Rc::new(Pipes::default()).take().unwrap();
        assert_eq!(pipe.fill(&from, usize::MAX).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"through").unwrap();
        assert_eq!((pipe.fill(&from, usize::MAX).unwrap(), pipe.held()), (7, 7));
        assert_eq!(
            pipe.fill(&from, usize::MAX).unwrap_err().kind(),
            io::ErrorKind::InvalidInput,
            "only an empty pipe is filled"
        );
        assert_eq!((pipe.drain(&to).unwrap(), pipe.held()), (7, 0));
        let mut got = [0; 16];
        assert_eq!(server.read(&mut got).unwrap(), 7);
        assert_eq!(&got[..7], b"through");
        drop(client);
        assert_eq!(pipe.fill(&from, usize::MAX).unwrap(), 0);
    }

    #[test]
    fn only_so_many_pipes_are_out() {
        let pipes = Rc::new(Pipes::default());
        let out: Vec<_> = (0..limits::PIPES).map(|_| pipes.take().unwrap()).collect();
        assert!(pipes.take().is_none());
        drop(out);
        assert!(pipes.take().is_some());
        assert_eq!(pipes.free.borrow().len(), limits::PIPES_KEPT);
    }

    #[test]
    fn an_empty_pipe_is_kept_and_one_with_bytes_in_it_is_not() {
        let pipes = Rc::new(Pipes::default());
        drop(pipes.take().unwrap());
        assert_eq!(pipes.free.borrow().len(), 1);
        let (mut client, from) = pair();
        client.write_all(b"somebody's").unwrap();
        let mut pipe = pipes.take().unwrap();
        pipe.fill(&from, usize::MAX).unwrap();
        drop(pipe);
        assert_eq!(pipes.free.borrow().len(), 0);
    }
}
