//! Shell: asks a Docker engine: a connection for each question, and one for its events. Nothing but `GET`.
//!
//! Every answer is bounded in bytes and time. The engine's own words for why it refuses are shown, for they tell of permissions
//! and proxies. Not here: what answers mean (`facts`), when to ask (`hub`).

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{CONNECTION, DATE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::facts::{self, Id, Listed};
use super::world::Answer;
use crate::base::limits;
use crate::doc::quote;
use crate::seam::source::{Failure, Trouble};

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Socket {
    Unix(PathBuf),
    /// Host and port.
    Tcp(String, u16),
}

impl Socket {
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Socket, String> {
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Socket::Unix(path.into())),
                false => Err("a unix socket is a whole path, as in \"unix:///var/run/docker.sock\"".to_owned()),
            };
        }
        if text.starts_with('/') {
            return Ok(Socket::Unix(text.into()));
        }
        let Some(rest) = text.strip_prefix("tcp://") else {
            return Err(match text.split_once("://") {
                Some(("http" | "https" | "ssh", _)) => "engines are spoken to over `unix://` and `tcp://` only: put a \
                                                        socket proxy in front of others"
                    .to_owned(),
                _ => "where the engine listens: `unix:///path` or `tcp://host:port`".to_owned(),
            });
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = rest.rsplit_once(':').ok_or("a port is missing, as in \"tcp://127.0.0.1:2375\"")?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or("the port is a number from 1 to 65535")?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        if bare.is_empty() || bare.len() > HOST_BYTES || !bare.bytes().all(plain) {
            return Err("the host is a name or an address, as in \"tcp://127.0.0.1:2375\"".to_owned());
        }
        Ok(Socket::Tcp(bare.to_owned(), port))
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Socket::Unix(path) => write!(f, "unix://{}", path.display()),
            Socket::Tcp(host, port) if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Socket::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
        }
    }
}

pub fn check_socket(text: &str) -> Result<(), String> {
    Socket::parse(text).map(drop)
}

/// An engine, and the version of its API that it is spoken to in.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: Socket,
    version: String,
}

impl Engine {
    /// Asks which API the engine speaks, and what time it is there, in seconds since 1970.
    pub async fn greet(socket: &Socket) -> Result<(Engine, Option<u64>), Failure> {
        let mut engine = Engine { socket: socket.clone(), version: String::new() };
        let (parts, _) =
            timed(ANSWER_TIME, socket, engine.answer("/_ping", SMALL_BYTES)).await.map_err(|no| no.failure)?;
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        // An engine that does not say is older than 1.24, or is none.
        let theirs = header("api-version").and_then(version).ok_or_else(|| {
            let message = format!("{socket}: what answers there is no Docker engine (no Api-Version)");
            Failure::new(Trouble::Malformed, message)
        })?;
        if theirs < OLDEST {
            let message =
                format!("{socket}: its API {}.{} is older than {}.{}", theirs.0, theirs.1, OLDEST.0, OLDEST.1);
            return Err(Failure::new(Trouble::Malformed, message));
        }
        let (major, minor) = theirs.min(NEWEST);
        engine.version = format!("/v{major}.{minor}");
        Ok((engine, header(DATE.as_str()).and_then(seconds)))
    }

    /// What happens from now on, and since that time.
    pub async fn events(&self, since: Option<u64>) -> Result<Events, Failure> {
        let since = since.map_or(String::new(), |since| format!("&since={since}"));
        let path = format!("/events?filters={}{since}", encode(facts::EVENTS));
        let open = async {
            let (response, connection) = self.ask(&path).await?;
            let response = self.accept(response).await?;
            Ok(Events { connection, body: response.into_body(), lines: Lines::default() })
        };
        timed(ANSWER_TIME, &self.socket, open).await.map_err(|no| no.failure)
    }

    /// The containers that run or are paused.
    pub async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let answer = self.answer("/containers/json", limits::DOCKER_LIST_BYTES);
        let (_, body) = timed(LIST_TIME, &self.socket, answer).await.map_err(|no| no.failure)?;
        facts::list(&body).map_err(|why| self.strange(&format!("its list of containers: {why}")))
    }

    pub async fn inspect(self, id: Id) -> (Id, Answer) {
        let path = format!("/containers/{}/json", id.as_str());
        let answer = timed(ANSWER_TIME, &self.socket, self.answer(&path, limits::DOCKER_CONTAINER_BYTES)).await;
        let answer = match answer {
            Ok((_, body)) => match facts::container(&body) {
                Ok(container) => Answer::Is(Box::new(container)),
                Err(why) => Answer::Failed(Failure::new(Trouble::Malformed, why)),
            },
            Err(no) if no.not_found => Answer::Gone,
            Err(no) => Answer::Failed(no.failure),
        };
        (id, answer)
    }

    async fn answer(&self, path: &str, most: usize) -> Result<(hyper::http::response::Parts, Bytes), No> {
        let (response, mut connection) = self.ask(path).await?;
        let read = async {
            let (parts, body) = self.accept(response).await?.into_parts();
            let body = Limited::new(body, most).collect().await.map_err(|error| {
                let why = match error.downcast_ref::<http_body_util::LengthLimitError>() {
                    Some(_) => format!("an answer of more than {most} bytes"),
                    None => error.to_string(),
                };
                self.strange(&why)
            })?;
            Ok((parts, body.to_bytes()))
        };
        connection.alongside(read).await
    }

    /// The head of the answer; the connection must be driven for its body.
    async fn ask(&self, path: &str) -> Result<(Response<Incoming>, Driven), Failure> {
        let stream = self.connect().await.map_err(|error| self.unreachable(&error))?;
        let broken = |error: hyper::Error| self.strange(&error.to_string());
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::builder()
            .uri(format!("{}{path}", self.version))
            .header(HOST, "docker")
            .header(USER_AGENT, HeaderValue::from_static(AGENT))
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.strange(&error.to_string()))?;
        let mut request = request;
        if !path.starts_with("/events") {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let mut driven = Driven { connection: Some(Box::pin(connection)), _sender: None };
        let answer = driven.alongside(sender.send_request(request)).await.map_err(broken)?;
        driven._sender = Some(sender);
        Ok((answer, driven))
    }

    /// The response, where it is the one that was hoped for; else the engine's own words.
    async fn accept(&self, response: Response<Incoming>) -> Result<Response<Incoming>, No> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = Limited::new(response.into_body(), SMALL_BYTES).collect().await.map(|body| body.to_bytes());
        let said = body.ok().and_then(|body| refusal(&body)).map_or(String::new(), |said| format!(": {said}"));
        let not_found = status == StatusCode::NOT_FOUND;
        let why = if not_found { Trouble::Missing } else { Trouble::Refused };
        let failure = Failure::new(why, format!("{}: status {}{said}", self.socket, status.as_u16()));
        Err(No { failure, not_found })
    }

    async fn connect(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            Socket::Tcp(host, port) => TcpStream::connect((host.as_str(), *port)).await.map(Stream::Tcp),
        }
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let (why, help) = match error.kind() {
            io::ErrorKind::NotFound => (Trouble::Missing, " (is the socket mounted?)"),
            io::ErrorKind::PermissionDenied => {
                (Trouble::Refused, " (let Strata's user into the socket's group, or put a socket proxy in between)")
            }
            io::ErrorKind::ConnectionRefused => (Trouble::Unreachable, " (does the engine run?)"),
            _ => (Trouble::Unreachable, ""),
        };
        Failure::new(why, format!("{}: {error}{help}", self.socket))
    }

    fn strange(&self, why: &str) -> Failure {
        Failure::new(Trouble::Malformed, format!("{}: {why}", self.socket))
    }
}

type Moving = Connection<TokioIo<Stream>, Empty<Bytes>>;

/// A connection, whose bytes move while it is polled.
struct Driven {
    /// `None` once it has ended.
    connection: Option<Pin<Box<Moving>>>,
    /// Whoever lets go of it says that the connection is done with.
    _sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Driven {
    /// `work`, which lives on the connection, to its end.
    async fn alongside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if let Some(connection) = &mut self.connection {
            tokio::select! {
                biased;
                done = &mut work => return done,
                // What has been read of it is there still.
                _ = connection => {}
            }
            self.connection = None;
        }
        work.await
    }
}

/// Why a question has no answer that is of use.
struct No {
    failure: Failure,
    /// The engine itself said that what was asked for is not there (status 404). A socket that is not there says nothing of the sort.
    not_found: bool,
}

impl From<Failure> for No {
    fn from(failure: Failure) -> No {
        No { failure, not_found: false }
    }
}

async fn timed<T>(time: Duration, socket: &Socket, work: impl Future<Output = Result<T, No>>) -> Result<T, No> {
    match tokio::time::timeout(time, work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::new(Trouble::Silent, format!("{socket}: no answer within {time:?}")).into()),
    }
}

/// The engine's stream of events.
pub struct Events {
    connection: Driven,
    body: Incoming,
    lines: Lines,
}

/// Something of that stream.
#[derive(Debug, PartialEq)]
pub enum Said {
    Event(Vec<u8>),
    /// An event that was too long to be kept: it has to be looked what it was.
    TooLong,
    /// The stream has ended.
    End,
}

impl Events {
    /// The next event. May be dropped and asked for again: nothing is lost.
    pub async fn next(&mut self) -> Said {
        loop {
            if let Some(said) = self.lines.next() {
                return said;
            }
            match self.connection.alongside(self.body.frame()).await {
                Some(Ok(frame)) => frame.data_ref().into_iter().for_each(|data| self.lines.push(data)),
                Some(Err(_)) | None => return Said::End,
            }
        }
    }
}

/// Lines out of pieces that end anywhere.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// What has come and is not taken yet, from `start` on.
    buffer: Vec<u8>,
    start: usize,
    /// So much from there on has no end of a line.
    searched: usize,
    /// Within a line that was too long, whose rest is passed over.
    skipping: bool,
}

impl Lines {
    pub(super) fn push(&mut self, data: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start.min(self.buffer.len()));
            self.start = 0;
        }
        self.buffer.extend_from_slice(data);
    }

    pub(super) fn next(&mut self) -> Option<Said> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            let found = memchr::memchr(b'\n', rest.get(self.searched..).unwrap_or_default());
            let Some(end) = found.map(|at| self.searched + at) else {
                self.searched = rest.len();
                if rest.len() <= limits::DOCKER_EVENT_BYTES {
                    return None;
                }
                self.buffer.clear();
                (self.start, self.searched) = (0, 0);
                // Once for each, however many pieces it comes in.
                return (!std::mem::replace(&mut self.skipping, true)).then_some(Said::TooLong);
            };
            let line = rest.get(..end).unwrap_or_default().trim_ascii().to_vec();
            (self.start, self.searched) = (self.start + end + 1, 0);
            if std::mem::take(&mut self.skipping) || line.is_empty() {
                continue;
            }
            return Some(if line.len() > limits::DOCKER_EVENT_BYTES { Said::TooLong } else { Said::Event(line) });
        }
    }
}

/// Either kind of connection.
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, data),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// `1.41`.
fn version(text: &str) -> Option<(u16, u16)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What the engine says in words: `{"message":"…"}`, or the start of a proxy's text.
fn refusal(body: &[u8]) -> Option<String> {
    let said: Option<String> = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|said| said.get("message")?.as_str().map(str::to_owned));
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let line = said.trim().lines().next().unwrap_or_default().trim();
    (!line.is_empty()).then(|| quote(line))
}

/// Seconds since 1970 of a `Date` field (RFC 9110 §5.6.7).
fn seconds(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    Some(facts::nanoseconds(&format!("{year:0>4}-{month:02}-{day:0>2}T{time}Z"))? / 1_000_000_000)
}

/// A value of a query.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// APIs that have all that is asked for, and the newest that was read for it.
const OLDEST: (u16, u16) = (1, 24);
const NEWEST: (u16, u16) = (1, 51);
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const AGENT: &str = concat!("strata/", env!("CARGO_PKG_VERSION"));
/// An engine answers within milliseconds; one that starts a container makes others wait for some hundred.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Of thousands of containers.
const LIST_TIME: Duration = Duration::from_secs(15);
const HEAD_BYTES: usize = 64 * 1024;
/// Of answers that hold a few words.
const SMALL_BYTES: usize = 16 * 1024;
/// RFC 1035 §2.3.4.
const HOST_BYTES: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_and_what_is_none_is_refused_with_the_way_out() {
        for (text, want) in [
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("/run/podman/podman.sock", "unix:///run/podman/podman.sock"),
            ("tcp://socket-proxy:2375", "tcp://socket-proxy:2375"),
            ("tcp://127.0.0.1:2375/", "tcp://127.0.0.1:2375"),
            ("tcp://[::1]:2375", "tcp://[::1]:2375"),
        ] {
            assert_eq!(Socket::parse(text).unwrap().to_string(), want);
        }
        for (text, why) in [
            ("unix://docker.sock", "whole path"),
            ("docker.sock", "unix:///path"),
            ("tcp://proxy", "port is missing"),
            ("tcp://proxy:0", "1 to 65535"),
            ("tcp://:2375", "a name or an address"),
            ("tcp://a b:2375", "a name or an address"),
            ("https://proxy:2376", "socket proxy"),
            ("ssh://host", "socket proxy"),
            ("", "unix:///path"),
        ] {
            assert!(Socket::parse(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn lines_come_out_whole_wherever_their_pieces_end() {
        let long = vec![b'x'; limits::DOCKER_EVENT_BYTES + 1];
        let text =
            [&b"{\"a\":1}\n\r\n"[..], &long, b"\n{\"b\":2}\r\n", &long, &long, b"\n{\"c\"", b":3}\n{\"d\""].concat();
        for size in [1, 2, 3, 7, 4096, text.len()] {
            // One byte at a time through the long ones would take a while: only around their ends.
            let mut lines = Lines::default();
            let mut said = Vec::new();
            for piece in text.chunks(size.max(text.len() / 4096 * usize::from(size < 7) + size)) {
                lines.push(piece);
                said.extend(std::iter::from_fn(|| lines.next()));
                assert!(lines.buffer.len() <= limits::DOCKER_EVENT_BYTES + text.len());
            }
            let event = |text: &str| Said::Event(text.as_bytes().to_vec());
            let want = [event("{\"a\":1}"), Said::TooLong, event("{\"b\":2}"), Said::TooLong, event("{\"c\":3}")];
            assert_eq!(said, want, "{size}");
        }
        let mut lines = Lines::default();
        let mut said = Vec::new();
        for byte in b"{\"a\":1}\n{\"b\":2}\n" {
            lines.push(&[*byte]);
            said.extend(std::iter::from_fn(|| lines.next()));
        }
        assert_eq!(said.len(), 2);
    }

    #[test]
    fn versions_dates_and_refusals_are_read() {
        assert_eq!((version("1.41"), version("2"), version("")), (Some((1, 41)), None, None));
        assert_eq!(seconds("Fri, 27 Nov 2026 08:49:05 GMT"), Some(1_795_769_345));
        assert_eq!((seconds("yesterday"), seconds("")), (None, None));
        assert_eq!(
            refusal(b"{\"message\":\"client version 1.51 is too new\"}\n").unwrap(),
            "`client version 1.51 is too new`"
        );
        assert_eq!(refusal(b"<html>\x1b[31m\nForbidden").unwrap(), "`<html>\\u{1b}[31m`");
        assert_eq!(refusal(b" \n"), None);
        assert_eq!(encode("{\"a\":[1]}"), "%7B%22a%22%3A%5B1%5D%7D");
    }
}
