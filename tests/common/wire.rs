//! A raw connection, from either end: writes exact bytes, reads whole HTTP/1 messages, and tells FIN from RST.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::PATIENCE;

/// How a connection stopped giving bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
    /// It did not: nothing came for as long as the test was willing to wait.
    Silence,
}

/// A whole message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Start line and fields, with the empty line.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body, as they came.
    pub trailers: String,
}

impl Message {
    pub fn head_text(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    pub fn start_line(&self) -> String {
        self.head_text().lines().next().unwrap_or_default().to_owned()
    }

    /// 0 when the first line is no status line.
    pub fn status(&self) -> u16 {
        self.start_line().split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// The values of every field of this name.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let text = self.head_text();
        let lines = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).collect()
    }

    pub fn field(&self, name: &str) -> Option<String> {
        self.fields(name).into_iter().next()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }
}

/// No whole message came: what did, and how it ended.
#[derive(Debug)]
pub struct Broken {
    pub got: Vec<u8>,
    pub end: End,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Request,
    Response { bodiless: bool },
}

/// What came on a connection of an origin, seen from the test's thread.
#[derive(Clone, Debug, Default)]
pub struct Tap {
    pub bytes: Vec<u8>,
    pub end: Option<End>,
}

pub struct Wire {
    stream: TcpStream,
    held: Vec<u8>,
    tap: Option<Arc<Mutex<Tap>>>,
}

impl Wire {
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Wire {
        Wire::new(TcpStream::connect(to).unwrap_or_else(|error| panic!("connect to {to}: {error}")), None)
    }

    pub fn new(stream: TcpStream, tap: Option<Arc<Mutex<Tap>>>) -> Wire {
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
        Wire { stream, held: Vec::new(), tap }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// A connection that the peer has closed takes no bytes: that is for the reads to find out.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Wire {
        let _ = self.try_send(bytes);
        self
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// How long reads wait before they report silence.
    pub fn patience(&mut self, patience: Duration) -> &mut Wire {
        self.stream.set_read_timeout(Some(patience)).expect("a read timeout");
        self
    }

    /// Whether bytes or the end arrive within `time`. Takes nothing.
    pub fn is_readable_within(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a read timeout");
        let readable = self
            .stream
            .peek(&mut [0])
            .map_or_else(|error| !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), |_| true);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        readable
    }

    pub fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with RST.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("linger");
    }

    pub fn request(&mut self) -> Result<Message, Broken> {
        self.message(Side::Request)
    }

    pub fn response(&mut self) -> Result<Message, Broken> {
        self.message(Side::Response { bodiless: false })
    }

    /// The response to HEAD.
    pub fn response_to_head(&mut self) -> Result<Message, Broken> {
        self.message(Side::Response { bodiless: true })
    }

    /// The head of a response only; what follows stays to be read.
    pub fn response_head(&mut self) -> Result<Message, Broken> {
        Ok(Message { head: self.take_head()?, body: Vec::new(), trailers: String::new() })
    }

    /// Everything up to the end.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.fill() {
                return (std::mem::take(&mut self.held), end);
            }
        }
    }

    /// `count` more bytes.
    pub fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Broken> {
        while self.held.len() < count {
            self.fill().map_err(|end| self.broken(end))?;
        }
        Ok(self.held.drain(..count).collect())
    }

    fn broken(&mut self, end: End) -> Broken {
        Broken { got: std::mem::take(&mut self.held), end }
    }

    fn fill(&mut self) -> Result<(), End> {
        let mut buffer = [0; 64 * 1024];
        let end = match self.stream.read(&mut buffer) {
            Ok(0) => End::Fin,
            Ok(n) => {
                self.held.extend_from_slice(&buffer[..n]);
                if let Some(tap) = &self.tap {
                    tap.lock().bytes.extend_from_slice(&buffer[..n]);
                }
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => End::Silence,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(_) => End::Reset,
        };
        if let Some(tap) = self.tap.as_ref().filter(|_| end != End::Silence) {
            tap.lock().end.get_or_insert(end);
        }
        Err(end)
    }

    fn take_line(&mut self) -> Result<Vec<u8>, Broken> {
        let end = loop {
            if let Some(at) = find(&self.held, b"\n") {
                break at + 1;
            }
            self.fill().map_err(|end| self.broken(end))?;
        };
        Ok(self.held.drain(..end).collect())
    }

    fn take_head(&mut self) -> Result<Vec<u8>, Broken> {
        let end = loop {
            if let Some(at) = find(&self.held, b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().map_err(|end| self.broken(end))?;
        };
        Ok(self.held.drain(..end).collect())
    }

    fn message(&mut self, side: Side) -> Result<Message, Broken> {
        let head = self.take_head()?;
        let mut message = Message { head, body: Vec::new(), trailers: String::new() };
        let status = message.status();
        let bodiless = match side {
            Side::Request => false,
            Side::Response { bodiless } => bodiless || status < 200 || status == 204 || status == 304,
        };
        let length = message.field("content-length").and_then(|length| length.parse::<usize>().ok());
        if bodiless {
            return Ok(message);
        }
        let body = match (message.is_chunked(), length) {
            (true, _) => self.chunks(&mut message),
            (false, Some(length)) => self.bytes(length).map(|body| message.body = body),
            (false, None) if side == Side::Request => Ok(()),
            (false, None) => match self.rest() {
                (body, End::Fin) => {
                    message.body = body;
                    Ok(())
                }
                (got, end) => Err(Broken { got, end }),
            },
        };
        // A message that broke off is shown from its start.
        body.map_err(|broken| Broken {
            got: [&message.head, &message.body, &broken.got].map(Vec::as_slice).concat(),
            ..broken
        })?;
        Ok(message)
    }

    fn chunks(&mut self, message: &mut Message) -> Result<(), Broken> {
        loop {
            let line = self.take_line()?;
            let text = String::from_utf8_lossy(&line);
            let size = text.trim().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("{text:?} is no chunk size"));
            if size == 0 {
                break;
            }
            let chunk = self.bytes(size)?;
            message.body.extend_from_slice(&chunk);
            let end = self.bytes(2)?;
            assert_eq!(end, b"\r\n", "a chunk ends in CRLF");
        }
        loop {
            let line = self.take_line()?;
            if line == b"\r\n" {
                return Ok(());
            }
            message.trailers.push_str(&String::from_utf8_lossy(&line));
        }
    }
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
