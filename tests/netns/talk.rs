//! What clients do: connect, exchange bytes that are checked, send datagrams, ping.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::node::Node;
use super::server::{BLOCK, Checksum, PORT, byte, send};

/// Who answered, and what it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub name: String,
    /// Whom the server believes to be talking to.
    pub peer: SocketAddr,
}

/// A connection from a host.
pub struct Talk {
    stream: BufReader<TcpStream>,
}

impl Talk {
    pub fn open(host: &Node, to: IpAddr) -> io::Result<Talk> {
        Talk::open_from(host, 0, to)
    }

    /// The same from a port of one's choice.
    pub fn open_from(host: &Node, port: u16, to: IpAddr) -> io::Result<Talk> {
        Talk::open_within(host, port, to, PATIENCE)
    }

    /// The same with another patience, for the connection and for each answer.
    pub fn open_within(host: &Node, port: u16, to: IpAddr, patience: Duration) -> io::Result<Talk> {
        let any = if to.is_ipv6() { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) };
        let (from, to) = (SocketAddr::new(any, port), SocketAddr::new(to, PORT));
        let socket = host.enter(|| Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)))?;
        if port != 0 {
            socket.set_reuse_address(true)?;
            socket.bind(&from.into())?;
        }
        socket.connect_timeout(&to.into(), patience)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Talk { stream: BufReader::with_capacity(BLOCK, stream) })
    }

    pub fn port(&self) -> u16 {
        self.stream.get_ref().local_addr().expect("its address").port()
    }

    /// Closes it with RST: its port is free at once.
    pub fn abort(self) {
        socket2::SockRef::from(self.stream.get_ref()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// The segments that the kernel sends, without options: what the other side has advertised.
    pub fn mss(&self) -> u32 {
        const TIMESTAMPS: u32 = 12;
        socket2::SockRef::from(self.stream.get_ref()).tcp_mss().expect("TCP_MAXSEG") + TIMESTAMPS
    }

    /// Sends `up` bytes, asks for `down`, and checks every one that comes.
    pub fn exchange(&mut self, up: u64, down: u64) -> io::Result<Answer> {
        let mut head = [0; 16];
        head[..8].copy_from_slice(&up.to_be_bytes());
        head[8..].copy_from_slice(&down.to_be_bytes());
        io::Write::write_all(self.stream.get_mut(), &head)?;
        send(self.stream.get_mut(), up)?;
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut sum = Checksum::default();
        for at in 0..up {
            sum.add(&[byte(at)]);
        }
        let (said, came) = line.trim_end().rsplit_once(' ').unwrap_or_default();
        if came != format!("{:x}", sum.0) {
            return Err(io::Error::other(format!("the server got other bytes than {up} of ours: {line:?}")));
        }
        let answer = answer(said)?;
        let (mut at, mut block) = (0, vec![0; BLOCK]);
        while at < down {
            let most = BLOCK.min(usize::try_from(down - at).unwrap_or(BLOCK));
            let got = self.stream.read(&mut block[..most])?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for (index, seen) in block[..got].iter().enumerate() {
                if *seen != byte(at + index as u64) {
                    return Err(io::Error::other(format!("byte {} is wrong", at + index as u64)));
                }
            }
            at += got as u64;
        }
        Ok(answer)
    }
}

/// One exchange on a connection of its own.
pub fn ask(host: &Node, to: IpAddr, up: u64, down: u64) -> io::Result<Answer> {
    Talk::open(host, to)?.exchange(up, down)
}

/// One datagram and its answer. Datagrams are lost where a network is busy: three tries.
pub fn datagram(host: &Node, to: IpAddr, length: usize) -> io::Result<Answer> {
    let socket = udp(host, to)?;
    let payload: Vec<u8> = (0..length as u64).map(byte).collect();
    let mut last = io::ErrorKind::TimedOut.into();
    for _ in 0..3 {
        match once(&socket, &payload) {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A socket that talks to one server.
pub fn udp(host: &Node, to: IpAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = host.enter(|| {
        let socket = UdpSocket::bind(any)?;
        socket.connect(SocketAddr::new(to, PORT)).map(|()| socket)
    })?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

/// Sends one datagram and waits for its answer, which must hold what was sent.
pub fn once(socket: &UdpSocket, payload: &[u8]) -> io::Result<Answer> {
    socket.send(payload)?;
    let mut buffer = vec![0; 65_535];
    let got = socket.recv(&mut buffer)?;
    let line = buffer[..got].iter().position(|byte| *byte == b'\n').unwrap_or(got);
    if buffer.get(line + 1..got) != Some(payload) {
        return Err(io::Error::other("other bytes than were sent"));
    }
    answer(&String::from_utf8_lossy(&buffer[..line]))
}

fn answer(line: &str) -> io::Result<Answer> {
    let (name, peer) = line.split_once(' ').unwrap_or_default();
    let peer = peer.parse().map_err(|_| io::Error::other(format!("no answer of a server: {line:?}")))?;
    Ok(Answer { name: name.to_owned(), peer })
}

/// An echo request with `length` bytes, and the time until its reply.
pub fn ping(host: &Node, to: IpAddr, length: usize) -> io::Result<Duration> {
    let (domain, protocol, request, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = host.enter(|| Socket::new(domain, Type::RAW, Some(protocol)))?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    // Distinct from every other ping of this process: a raw socket hears all of them.
    let mark = fastrand::u32(..).to_be_bytes();
    let mut message = [&[request, 0, 0, 0], &mark[..], &(0..length as u64).map(byte).collect::<Vec<_>>()].concat();
    if to.is_ipv4() {
        let sum = strata::wire::checksum::Sum::of(&message).checksum();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let began = Instant::now();
    for _ in 0..5 {
        socket.send(&message)?;
        let mut buffer = vec![0; 65_535];
        while let Ok(got) = (&socket).read(&mut buffer) {
            // Raw sockets give the IP header with IPv4, and none with IPv6.
            let at = if to.is_ipv4() { usize::from(buffer[0] & 0x0f) * 4 } else { 0 };
            let body = &buffer[at.min(got)..got];
            if body.first() == Some(&reply) && body.get(4..) == message.get(4..) {
                return Ok(began.elapsed());
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Longer than a SYN and its first retransmissions take.
pub const PATIENCE: Duration = Duration::from_secs(10);
