//! Shell: one question to name servers, over UDP, and over TCP where the answer does not fit.
//!
//! Each question has a socket of its own, connected to the server: its port is the kernel's choice and its number ours, so that whoever
//! does not see the question has to guess 32 bits. What is no answer to it is waited past. Servers are asked in their order, twice each.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::base::clock;
use crate::seam::source::{Failure, Trouble};
use crate::wire::dns::{self, Answer, Fault, Kind, Name, Record, ResponseCode};

pub(super) const PORT: u16 = 53;
/// How often each server is asked.
const ROUNDS: usize = 2;
/// Servers of /etc/resolv.conf that are asked; as in glibc.
const SERVERS: usize = 3;
const SYSTEM: &str = "/etc/resolv.conf";
/// The longest message there is.
const MESSAGE: usize = 65_535;

#[derive(Clone)]
pub(super) struct Resolver {
    /// None: the system's.
    servers: Vec<SocketAddr>,
    timeout: Duration,
    random: RandomState,
}

/// What servers say of a name.
pub(super) struct Said {
    pub records: Vec<Record>,
    pub beside: Vec<(Name, Record)>,
    pub ttl: Option<u32>,
    /// There is no such name.
    pub missing: bool,
}

impl Resolver {
    pub(super) fn new(servers: Vec<SocketAddr>, timeout: Duration) -> Resolver {
        Resolver { servers, timeout, random: RandomState::new() }
    }

    /// Asks one server after the other until one knows.
    pub(super) async fn ask(&self, name: &Name, kind: Kind) -> Result<Said, Failure> {
        let servers = match self.servers.is_empty() {
            // Read each time: a laptop moves, and DHCP writes it anew.
            true => system(&std::fs::read_to_string(SYSTEM).unwrap_or_default()),
            false => self.servers.clone(),
        };
        let mut failure = Failure::new(Trouble::Unreachable, format!("{name}: there is no name server to ask"));
        for _ in 0..ROUNDS {
            for server in &servers {
                match self.ask_one(*server, name, kind).await {
                    Ok(said) => return Ok(said),
                    Err(Failure { why, message }) => {
                        failure = Failure::new(why, format!("{name} {}: {message} from {server}", kind.word()));
                    }
                }
            }
        }
        Err(failure)
    }

    async fn ask_one(&self, server: SocketAddr, name: &Name, kind: Kind) -> Result<Said, Failure> {
        let mut answer = self.exchange(server, name, kind, true).await?;
        if matches!(answer.code, ResponseCode::BadQuestion | ResponseCode::NotImplemented) {
            // It does not know what EDNS is.
            answer = self.exchange(server, name, kind, false).await?;
        }
        let Answer { code, truncated, records, beside, ttl } = answer;
        match code {
            ResponseCode::Good if truncated => {
                Err(Failure::new(Trouble::Malformed, "an answer that is cut short, over TCP too,"))
            }
            ResponseCode::Good => Ok(Said { records, beside, ttl, missing: false }),
            ResponseCode::NoSuchName => Ok(Said { records: Vec::new(), beside, ttl, missing: true }),
            code => Err(Failure::new(Trouble::Refused, code.to_string())),
        }
    }

    async fn exchange(&self, server: SocketAddr, name: &Name, kind: Kind, edns: bool) -> Result<Answer, Failure> {
        let ask = Ask { server, name, kind, edns, id: self.number() };
        let answer = within(self.timeout, ask.by_datagram(self.timeout)).await?;
        match answer.truncated {
            true => within(self.timeout, ask.by_stream()).await,
            false => Ok(answer),
        }
    }

    /// What nobody can guess who has not seen it.
    fn number(&self) -> u16 {
        #[allow(clippy::cast_possible_truncation, reason = "sixteen of its bits")]
        let number = self.random.hash_one((clock::now().0, fastrand::u64(..))) as u16;
        number
    }
}

struct Ask<'a> {
    server: SocketAddr,
    name: &'a Name,
    kind: Kind,
    edns: bool,
    id: u16,
}

impl Ask<'_> {
    async fn by_datagram(&self, patience: Duration) -> Result<Answer, Failure> {
        let any: IpAddr = match self.server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await.map_err(unreachable)?;
        socket.connect(self.server).await.map_err(unreachable)?;
        socket.send(&self.question()).await.map_err(unreachable)?;
        let until = clock::now() + patience;
        let mut buffer = vec![0; MESSAGE];
        let mut strange = None;
        loop {
            let left = until.since(clock::now());
            let length = match tokio::time::timeout(left, socket.recv(&mut buffer)).await {
                Ok(received) => received.map_err(unreachable)?,
                Err(_) => return Err(strange.map_or_else(silent, malformed)),
            };
            match self.read(buffer.get(..length).unwrap_or_default()) {
                Ok(answer) => return Ok(answer),
                // Perhaps a stranger's: the right one may still come.
                Err(fault) => strange = Some(fault),
            }
        }
    }

    async fn by_stream(&self) -> Result<Answer, Failure> {
        let mut stream = TcpStream::connect(self.server).await.map_err(unreachable)?;
        let question = self.question();
        // A question is far shorter than 64 KiB.
        let mut message = u16::try_from(question.len()).unwrap_or(0).to_be_bytes().to_vec();
        message.extend_from_slice(&question);
        stream.write_all(&message).await.map_err(unreachable)?;
        let length = stream.read_u16().await.map_err(unreachable)?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await.map_err(unreachable)?;
        self.read(&answer).map_err(malformed)
    }

    fn question(&self) -> Vec<u8> {
        dns::question(self.id, self.name, self.kind, self.edns)
    }

    fn read(&self, message: &[u8]) -> Result<Answer, Fault> {
        dns::answer(message, self.id, self.name, self.kind)
    }
}

async fn within(patience: Duration, work: impl Future<Output = Result<Answer, Failure>>) -> Result<Answer, Failure> {
    // A moment more than whoever watches the time inside has.
    tokio::time::timeout(patience + Duration::from_millis(10), work).await.unwrap_or_else(|_| Err(silent()))
}

fn silent() -> Failure {
    Failure::new(Trouble::Silent, "no answer in time")
}

fn malformed(fault: Fault) -> Failure {
    Failure::new(Trouble::Malformed, format!("{fault},"))
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn unreachable(error: io::Error) -> Failure {
    let word = match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens: no answer".to_owned(),
        io::ErrorKind::UnexpectedEof => return Failure::new(Trouble::Malformed, "an answer that is cut short"),
        _ => format!("no answer ({error})"),
    };
    Failure::new(Trouble::Unreachable, word)
}

/// The servers that a resolv.conf names; without any, the one of this machine (resolv.conf(5)).
fn system(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        let at = |ip: IpAddr| SocketAddr::new(ip, PORT);
        // With a scope only the form with a port is read.
        address.parse().map(at).or_else(|_| format!("[{address}]:{PORT}").parse()).ok()
    });
    let servers: Vec<SocketAddr> = lines.take(SERVERS).collect();
    if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, PORT).into()] } else { servers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_servers_are_those_of_resolv_conf() {
        let shown = |text: &str| system(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(""), ["127.0.0.1:53"]);
        let text = "# nameserver 9.9.9.9\nsearch a.b\nnameserver 10.0.0.2\n nameserver fd00::2 \noptions ndots:5\nnameserver x\n\
                    nameserver fe80::1%1\nnameserver 10.0.0.4\n";
        assert_eq!(shown(text), ["10.0.0.2:53", "[fd00::2]:53", "[fe80::1%1]:53"]);
    }
}
