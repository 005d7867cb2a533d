//! Io: frames through `pnet`'s datalink, on a socket that we have set up.
//!
//! The plain loop: wait, receive, decide, wait, send. `pnet` reads with `recvfrom`, so what lies beside the frame is lost, but for
//! the `virtio_net_hdr`, which stands before it. A VLAN tag that was taken out cannot be seen, so the filter cuts tagged frames
//! down to their header: they are counted, and none is forwarded without its tag.
//!
//! Budget: four system calls and one copy a frame, no allocation after the first frame to each interface.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::time::Duration;

use pnet::datalink::{self, Channel, ChannelType, Config, DataLinkReceiver, DataLinkSender, NetworkInterface};

use super::frame::{Frame, Missing, PRIVATE, VNET_LEN, Vnet};
use super::ring::want;
use super::socket::{Socket, step};
use super::{Counters, Fate, Options, PacketError};
use crate::base::{MacAddr, limits};
use crate::sys::classify::{Filter, Rule, TAGGED_REST, Wanted};

/// A tap that is `pnet`'s loop.
pub struct Plain {
    /// The same socket as `receiver`'s.
    socket: Socket,
    receiver: Box<dyn DataLinkReceiver>,
    /// Where a frame is rewritten: `pnet` lends its own buffer for reading only.
    buffer: Box<[u8]>,
    /// Where segments of a merged frame are put, one after the other.
    part: Box<[u8]>,
    macs: Vec<MacAddr>,
    out: Out,
}

/// The ways out.
struct Out {
    /// One for each interface that frames leave by, ours first.
    senders: Vec<(u32, Box<dyn DataLinkSender>)>,
    counters: Counters,
}

impl Plain {
    /// # Errors
    /// The step that failed and what the kernel said.
    pub fn open(options: &Options<'_>) -> Result<Plain, PacketError> {
        let wanted = Wanted { rules: options.rules, macs: options.macs, tags: false };
        let socket = Socket::new(options, &Filter::new(&wanted))?;
        let (sender, receiver) = channel(&socket, options)?;
        if let Some(fanout) = options.fanout {
            socket.join_fanout(fanout)?;
        }
        let senders = vec![(options.interface, sender)];
        Ok(Plain {
            socket,
            receiver,
            buffer: vec![0; FRAME_AT + limits::PACKET_FRAME_BYTES].into(),
            part: vec![0; FRAME_AT + limits::PACKET_FRAME_BYTES].into(),
            macs: options.macs.to_vec(),
            out: Out { senders, counters: Counters::default() },
        })
    }

    /// See [`super::Tap::receive`]. A batch is one frame.
    ///
    /// # Errors
    /// See there.
    pub fn receive<F: Into<Fate>>(&mut self, mut decide: impl FnMut(&mut Frame<'_>) -> F) -> io::Result<usize> {
        let read = match self.receiver.next() {
            Ok(read) => read,
            Err(error) => {
                // `pnet` calls a dead interface an unexpected event, and leaves the error in the socket.
                return match self.socket.take_error() {
                    Some(error) => Err(error),
                    None if is_nothing(&error) => Ok(0),
                    None => Err(error),
                };
            }
        };
        self.out.counters.received += 1;
        let Some((vnet, bytes)) = read.split_first_chunk::<VNET_LEN>() else { return Ok(1) };
        let missing = match bytes.len() {
            // A frame that is a header and no more is either cut by our filter or carries nothing.
            length if length == TAGGED_REST as usize => Some(Missing::Tag),
            // The read filled its buffer, one byte more than any whole frame.
            length if length > limits::PACKET_FRAME_BYTES => Some(Missing::Tail),
            _ => None,
        };
        let length = bytes.len().min(limits::PACKET_FRAME_BYTES);
        let at = FRAME_AT..FRAME_AT + length;
        self.buffer[at.clone()].copy_from_slice(&bytes[..length]);
        let mut frame = Frame::new(&mut self.buffer, at, Vnet::parse(vnet)).with_missing(missing);
        let fate = decide(&mut frame).into();
        self.out.counters.missing(missing);
        match fate {
            Fate::Stay => {}
            Fate::Send(interface) => match frame.seal() {
                Ok(range) => self.out.send(interface, &self.buffer[range]),
                Err(_) => self.out.counters.refused += 1,
            },
            Fate::Divide => self.out.divide(&frame, &mut self.part, &mut decide),
        }
        Ok(1)
    }

    /// See [`super::Tap::send`].
    pub fn send(&mut self, interface: u32, frame: &[u8]) {
        let Some(room) = self.buffer.get_mut(..VNET_LEN + frame.len()) else {
            self.out.counters.too_long += 1;
            return;
        };
        let (vnet, bytes) = room.split_at_mut(VNET_LEN);
        vnet.fill(0);
        bytes.copy_from_slice(frame);
        self.out.send(interface, room);
    }

    /// See [`super::Tap::want`].
    ///
    /// # Errors
    /// See there.
    pub fn want(&mut self, rules: Option<&[Rule]>, macs: &[MacAddr]) -> Result<(), PacketError> {
        want(&self.socket, &Wanted { rules, macs, tags: false }, &mut self.macs)
    }

    /// See [`super::Tap::counters`].
    pub fn counters(&mut self) -> Counters {
        self.out.counters.add_kernel(self.socket.statistics().unwrap_or_default());
        self.out.counters
    }
}

impl Out {
    /// Takes a frame apart, has each of its segments decided about, and sends those that go on.
    fn divide<F: Into<Fate>>(
        &mut self,
        frame: &Frame<'_>,
        part: &mut [u8],
        decide: &mut impl FnMut(&mut Frame<'_>) -> F,
    ) {
        let Some(segments) = frame.segments() else {
            self.counters.refused += 1;
            return;
        };
        self.counters.divided += 1;
        for nth in 0..segments.count() {
            let Some(written) = segments.write(frame.bytes(), nth, &mut part[FRAME_AT..]) else {
                self.counters.refused += 1;
                continue;
            };
            let mut segment = Frame::new(part, FRAME_AT..FRAME_AT + written, Vnet::default());
            match (decide(&mut segment).into(), segment.seal()) {
                (Fate::Stay, _) => {}
                (Fate::Send(interface), Ok(range)) => self.send(interface, &part[range]),
                (Fate::Send(_), Err(_)) | (Fate::Divide, _) => self.counters.refused += 1,
            }
        }
    }

    /// Sends what was sealed.
    fn send(&mut self, interface: u32, sealed: &[u8]) {
        let index = match self.senders.iter().position(|(to, _)| *to == interface) {
            Some(index) => index,
            None => match Out::open_sender(interface) {
                Ok(sender) => {
                    self.senders.push((interface, sender));
                    self.senders.len() - 1
                }
                Err(error) => return self.counters.unsent(&error.cause),
            },
        };
        match self.senders[index].1.send_to(sealed, None) {
            Some(Ok(())) => self.counters.sent += 1,
            Some(Err(error)) => self.counters.unsent(&error),
            None => self.counters.refused += 1,
        }
    }

    /// `pnet` sends on the interface that its socket is bound to, so another interface needs another socket.
    fn open_sender(interface: u32) -> Result<Box<dyn DataLinkSender>, PacketError> {
        let options = Options { interface, ..Options::default() };
        let socket = Socket::new(&options, &Filter::nothing())?;
        channel(&socket, &options).map(|(sender, _)| sender)
    }
}

impl AsFd for Plain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

type Ends = (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>);

/// `pnet` binds the socket and joins the group, in this order: it cannot bind one that is in a group.
fn channel(socket: &Socket, options: &Options<'_>) -> Result<Ends, PacketError> {
    let fd = step("share the socket with pnet", socket.try_clone())?;
    let interface = NetworkInterface {
        name: String::new(),
        description: String::new(),
        index: socket.interface(),
        mac: None,
        ips: Vec::new(),
        flags: 0,
    };
    let config = Config {
        write_buffer_size: 0,
        // One byte more than any whole frame: a read that fills it was cut.
        read_buffer_size: VNET_LEN + limits::PACKET_FRAME_BYTES + 1,
        read_timeout: Some(options.wait),
        // A full socket loses the frame, as a full ring does.
        write_timeout: Some(Duration::ZERO),
        channel_type: ChannelType::Layer2,
        // `pnet` would join the workers too, and have them hear what this machine sends.
        linux_fanout: None,
        promiscuous: false,
        // `pnet` owns it from here on, and closes it when it fails.
        socket_fd: Some(fd.into_raw_fd()),
        ..Config::default()
    };
    match step("open pnet's datalink", datalink::channel(&interface, config))? {
        Channel::Ethernet(sender, receiver) => Ok((sender, receiver)),
        _ => step("open pnet's datalink", Err(io::ErrorKind::Unsupported.into())),
    }
}

/// Nothing came, or a signal did, or another thread of the group was faster.
fn is_nothing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock | Interrupted)
}

/// Where a received frame is put: as much room before it as a ring's slot has.
const FRAME_AT: usize = PRIVATE + limits::PACKET_HEADROOM;
