//! Io: a channel between two processes that carries messages and, with them, open descriptors (unix(7), `SCM_RIGHTS`).
//!
//! A descriptor that arrives names the same socket: its accept queue is one, whoever accepts. Not here: what messages say (`app`).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;

use socket2::{Domain, Socket, Type};

/// One end. Messages keep their boundaries; nothing here waits.
#[derive(Debug)]
pub struct Channel {
    socket: Socket,
}

/// Descriptors in one message; the kernel takes 253.
pub const DESCRIPTORS: usize = 64;
/// Bytes of one message: a refusal with its diagnostics, cut there.
pub const BYTES: usize = 32 * 1024;

/// Room for the header and [`DESCRIPTORS`] descriptors, aligned as a `cmsghdr` must be.
type Control = [u64; 2 + DESCRIPTORS / 2];

impl Channel {
    /// Two ends: one to keep, and one to give to a child.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        ours.set_nonblocking(true)?;
        Ok((Channel { socket: ours }, theirs.into()))
    }

    /// The end that this process was given as its standard input, which becomes `/dev/null`.
    ///
    /// # Errors
    /// Standard input is no such thing.
    pub fn from_standard_input() -> io::Result<Channel> {
        let socket = Socket::from(io::stdin().as_fd().try_clone_to_owned()?);
        if socket.r#type()? != Type::SEQPACKET || socket.domain()? != Domain::UNIX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "standard input is no channel"));
        }
        socket.set_nonblocking(true)?;
        let nothing = File::open("/dev/null")?;
        // SAFETY: both numbers are open descriptors; 0 is replaced in one step, so that nobody finds it closed.
        if unsafe { libc::dup2(nothing.as_raw_fd(), libc::STDIN_FILENO) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(Channel { socket })
    }

    /// The same socket once more, for a runtime to wait at; nothing is to be read or written there.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn twin(&self) -> io::Result<UnixStream> {
        Ok(OwnedFd::from(self.socket.try_clone()?).into())
    }

    /// Sends a message of at most [`BYTES`] with at most [`DESCRIPTORS`] descriptors, which stay open here.
    ///
    /// # Errors
    /// `WouldBlock` while the other end does not read; otherwise what the kernel said.
    pub fn send(&self, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if descriptors.len() > DESCRIPTORS || text.len() > BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let mut control: Control = [0; _];
        let mut part = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
        // SAFETY: `msghdr` is pointers and integers, for which all zeros is a value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !raw.is_empty() {
            let bytes = libc::c_uint::try_from(mem::size_of_val(&*raw)).map_err(|_| io::ErrorKind::InvalidInput)?;
            message.msg_control = control.as_mut_ptr().cast();
            // SAFETY: this only computes a length.
            message.msg_controllen = unsafe { libc::CMSG_SPACE(bytes) } as usize;
            // SAFETY: the control buffer is `msg_controllen` bytes of `control` at least, which is aligned for a header; the header is
            // written whole before the kernel reads it, and the copy ends within `CMSG_SPACE(bytes)`.
            unsafe {
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = libc::CMSG_LEN(bytes) as usize;
                ptr::copy_nonoverlapping(raw.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), bytes as usize);
            }
        }
        // SAFETY: `message` points at `part` and `control`, which live; the kernel only reads what they point at.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        if sent == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next message and its descriptors. `None`: the other end is closed, its process has ended perhaps.
    ///
    /// # Errors
    /// `WouldBlock` while there is none; otherwise what the kernel said, or that a part was cut off.
    pub fn receive(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        match self.receive_one() {
            // Said once by an end that was closed with something unread. What it has sent before is still there.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.receive_one(),
            outcome => outcome,
        }
    }

    fn receive_one(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let mut text = vec![0_u8; BYTES];
        let mut control: Control = [0; _];
        let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
        // SAFETY: `msghdr` is pointers and integers, for which all zeros is a value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control);
        // SAFETY: `message` points at `text` and `control`, which live and are writable in the lengths given.
        let read = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        let Ok(read) = usize::try_from(read) else { return Err(io::Error::last_os_error()) };
        let descriptors = taken(&message);
        if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message was cut off: no descriptor is left perhaps",
            ));
        }
        if read == 0 && descriptors.is_empty() {
            return Ok(None);
        }
        text.truncate(read);
        Ok(Some((text, descriptors)))
    }
}

/// A file in memory with this text, to go with a message that it does not fit.
///
/// # Errors
/// No descriptor or no memory is left.
pub fn letter(text: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string that lives as long as the program.
    let raw = unsafe { libc::memfd_create(c"strata-handover".as_ptr(), libc::MFD_CLOEXEC) };
    if raw == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and it is nobody else's.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(raw) });
    file.write_all(text)?;
    Ok(file.into())
}

/// The text of a letter, at most the first `most` bytes of it.
///
/// # Errors
/// What the kernel says of the file that came.
pub fn opened(letter: OwnedFd, most: usize) -> io::Result<Vec<u8>> {
    let mut file = File::from(letter);
    // Both ends move one place in it.
    file.rewind()?;
    let mut text = Vec::new();
    file.take(most as u64).read_to_end(&mut text)?;
    Ok(text)
}

/// The descriptors that came with a message. Each is taken exactly once.
fn taken(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has written `msg_controllen` bytes of headers and data, which the macros walk; the data of SCM_RIGHTS is
    // whole descriptors, open, and nobody else's. `read_unaligned` asks nothing of their place.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = ((*header).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for at in 0..bytes / mem::size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(ptr::read_unaligned(data.add(at))));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    descriptors
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn ends() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Socket::from(theirs);
        theirs.set_nonblocking(true).unwrap();
        (ours, Channel { socket: theirs })
    }

    #[test]
    fn a_listener_that_is_handed_over_keeps_its_queue() {
        let (ours, theirs) = ends();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"hello").unwrap();
        ours.send(b"listener", &[listener.as_fd()]).unwrap();
        drop(listener);
        let (text, mut descriptors) = theirs.receive().unwrap().expect("a message");
        assert_eq!((&*text, descriptors.len()), (&b"listener"[..], 1));
        let listener = TcpListener::from(descriptors.remove(0));
        let (mut accepted, _) = listener.accept().unwrap();
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[test]
    fn last_words_are_heard_from_an_end_that_read_nothing() {
        let (ours, theirs) = ends();
        ours.send(b"never read", &[]).unwrap();
        theirs.send(b"last words", &[]).unwrap();
        drop(theirs);
        let (text, _) = ours.receive().unwrap().expect("a message");
        assert_eq!(text, b"last words");
        assert!(ours.receive().unwrap().is_none() && ours.send(b"", &[]).is_err());
    }

    #[test]
    fn a_letter_brings_more_than_a_message_and_no_more_than_is_asked_for() {
        let (ours, theirs) = ends();
        let long: Vec<u8> = (0..BYTES * 5).map(|n| n as u8).collect();
        ours.send(b"begin", &[letter(&long).unwrap().as_fd()]).unwrap();
        let (_, mut descriptors) = theirs.receive().unwrap().expect("a message");
        let copy = descriptors[0].try_clone().unwrap();
        assert!(opened(descriptors.remove(0), usize::MAX).unwrap() == long);
        assert_eq!(opened(copy, 7).unwrap(), long[..7]);
    }

    #[test]
    fn messages_keep_their_boundaries_and_as_many_descriptors_as_fit() {
        let (ours, theirs) = ends();
        assert_eq!(theirs.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let nothing = File::open("/dev/null").unwrap();
        let many = [nothing.as_fd(); DESCRIPTORS];
        ours.send(b"one", &[]).unwrap();
        ours.send(&[b'x'; BYTES], &many).unwrap();
        assert!(ours.send(b"", &[nothing.as_fd(); DESCRIPTORS + 1]).is_err());
        assert!(ours.send(&[b'x'; BYTES + 1], &[]).is_err());
        let (text, none) = theirs.receive().unwrap().expect("a message");
        assert!(text == b"one" && none.is_empty());
        let (text, all) = theirs.receive().unwrap().expect("a message");
        assert_eq!((text.len(), all.len()), (BYTES, DESCRIPTORS));
        drop(ours);
        assert!(theirs.receive().unwrap().is_none(), "the other end is closed");
    }
}
