//! Io: requests to the kernel's routing netlink, asked and answered one after the other.
//!
//! Why our own: the requests are few, one kind of them (`cls_bpf`) is in no library, and a library brings a task, a runtime and
//! six crates for what a blocking socket does.
//!
//! Not here: what the messages mean (`link`, `neighbour`, `ingress`), and listening to what nobody asked for.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use socket2::SockRef;

use crate::base::limits;

/// A routing netlink socket.
#[derive(Debug)]
pub(super) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

/// A request in the making: a header, the family's own header, attributes.
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Netlink> {
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
        if fd == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `fd` is an open descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // The kernel answers at once; a lost answer must not hang the control side.
        SockRef::from(&fd).set_read_timeout(Some(limits::NETLINK_ANSWER))?;
        Ok(Netlink { fd, sequence: 0, buffer: vec![0; limits::NETLINK_BYTES].into() })
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// What the kernel said; nothing has changed.
    pub(super) fn change(&mut self, message: Message) -> io::Result<()> {
        self.exchange(message, libc::NLM_F_ACK, |_, _| {})
    }

    /// Asks for one thing, and gives the body of the answer: the family's own header and attributes.
    pub(super) fn ask(&mut self, message: Message) -> io::Result<Vec<u8>> {
        let mut answer = None;
        // The acknowledgement comes after the answer and ends the exchange.
        self.exchange(message, libc::NLM_F_ACK, |_, body| answer = Some(body.to_vec()))?;
        answer.ok_or(io::ErrorKind::NotFound.into())
    }

    /// Asks for all there are, and hands over the type and body of each.
    pub(super) fn dump(&mut self, message: Message, each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.exchange(message, libc::NLM_F_DUMP, each)
    }

    fn exchange(&mut self, mut message: Message, flags: i32, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = message.finish(self.sequence, flags);
        // SAFETY: `bytes` is a live slice, of which the call reads its length.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent == -1 {
            return Err(io::Error::last_os_error());
        }
        loop {
            let length = self.receive()?;
            for (kind, sequence, body) in messages(self.buffer.get(..length).unwrap_or_default()) {
                if sequence != self.sequence {
                    continue; // of an exchange that was given up
                }
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        return match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
                            Some(0) => Ok(()),
                            Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                            None => Err(io::ErrorKind::InvalidData.into()),
                        };
                    }
                    _ => each(kind, body),
                }
            }
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        loop {
            // SAFETY: `buffer` is live and writable for the length that the call is told.
            let length = unsafe {
                let (buffer, size) = (self.buffer.as_mut_ptr().cast(), self.buffer.len());
                libc::recv(self.fd.as_raw_fd(), buffer, size, libc::MSG_TRUNC)
            };
            match usize::try_from(length) {
                Ok(length) if length > self.buffer.len() => return Err(io::ErrorKind::InvalidData.into()),
                Ok(length) => return Ok(length),
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
    }
}

impl Message {
    /// `header` is the family's own, such as `struct tcmsg`.
    pub(super) fn new(kind: u16, flags: i32, header: &[u8]) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&low_half(flags).to_ne_bytes());
        bytes.extend(header);
        Message { bytes }
    }

    #[must_use]
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Message {
        self.put(kind, value);
        self
    }

    /// An attribute that is made of attributes.
    #[must_use]
    pub(super) fn with_nested(mut self, kind: u16, inner: impl FnOnce(Message) -> Message) -> Message {
        let nested = inner(Message { bytes: Vec::new() });
        self.put(kind, &nested.bytes);
        self
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(ATTRIBUTE + value.len()).expect("an attribute has less than 64 KiB");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(&mut self, sequence: u32, flags: i32) -> &[u8] {
        let length = u32::try_from(self.bytes.len()).expect("a message is a few attributes");
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | low_half(flags | libc::NLM_F_REQUEST);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }
}

/// Type, sequence number and body of each message in a datagram. Ends where one does not fit.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let length = word(header, 0)? as usize;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((half(header, 4)?, word(header, 8)?, body))
    })
}

/// Type and value of each attribute. Ends where one does not fit.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        let (kind, value) = (half(bytes, 2)?, bytes.get(ATTRIBUTE..length)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The upper bits say that it is nested, and in which byte order.
        Some((kind & 0x3fff, value))
    })
}

/// The value of the first attribute of that type.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A 16-bit number of this machine.
pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// A 32-bit number of this machine.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn low_half(flags: i32) -> u16 {
    u16::try_from(flags).expect("a flag of netlink has 16 bits")
}

const HEADER: usize = size_of::<libc::nlmsghdr>();
const ATTRIBUTE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_as_they_were_written_and_end_where_they_do_not_fit() {
        let message =
            Message::new(1, 0, &[9; 4]).with(1, b"a").with_nested(2, |inner| inner.with(3, b"bcde").with(4, b""));
        let body = &message.bytes[HEADER + 4..];
        let nested = attribute(body, 2).unwrap();
        assert_eq!(attribute(body, 1), Some(&b"a"[..]));
        assert_eq!(attributes(nested).collect::<Vec<_>>(), [(3, &b"bcde"[..]), (4, &b""[..])]);
        for length in 0..body.len() {
            // Every cut ends it early and none panics.
            assert!(attributes(&body[..length]).count() <= 2);
        }
        assert_eq!(attributes(&[0; 16]).count(), 0, "a length of nothing does not go round for ever");
    }

    #[test]
    fn the_kernel_answers_and_refuses() {
        let mut netlink = Netlink::open().unwrap();
        let mut links = 0;
        netlink
            .dump(Message::new(libc::RTM_GETLINK, 0, &[0; 16]), |kind, _| links += u32::from(kind == libc::RTM_NEWLINK))
            .unwrap();
        assert!(links > 0, "`lo` at least");
        let nowhere = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0];
        let error = netlink.ask(Message::new(libc::RTM_GETLINK, 0, &nowhere)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
