//! Wiring: `strata docker-proxy`: lets a Docker source ask an engine, and nobody change one.
//!
//! Whoever can write to the engine's socket is root on its host, and a read-only mount of the socket does not change that. So the process
//! that takes traffic has no socket: it asks this one, in a container of its own with no capability, on a network that only the two are
//! on. What passes: GET and HEAD of what the source asks for, and of the answers what it reads. Everything else is refused, and said. Not
//! here: what answers mean, and which parts of them are read (`source::docker`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::LocalSet;

use super::echo::stop_signal;
use super::say;
use crate::base::limits;
use crate::doc::quote;
use crate::source::docker::cut::{self, Events, List};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where a source asks: tcp://ADDRESS as its `socket`. Only it may reach this
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2375")]
    listen: SocketAddr,
    /// The engine's
    #[arg(long, value_name = "FILE", default_value = "/var/run/docker.sock")]
    socket: PathBuf,
}

type Body = BoxBody<Bytes, hyper::Error>;

pub(super) fn proxy(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let Arguments { listen, socket } = arguments;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        // A socket that cannot be opened is told now, and again to whoever asks later: the engine may come.
        if let Err(error) = UnixStream::connect(socket).await {
            eprintln!("strata: {}: {error}", socket.display());
        }
        say(format_args!("asks {} for who connects to {}\n", socket.display(), listener.local_addr()?))?;
        tokio::select! {
            () = serve(listener, Rc::new(Engine::new(socket))) => {}
            outcome = stop_signal() => outcome?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Who is asked.
struct Engine {
    socket: PathBuf,
    /// An answer that has to be read whole waits for the one before it: reading takes some times the memory of its bytes.
    whole: Arc<Semaphore>,
}

impl Engine {
    fn new(socket: &Path) -> Engine {
        Engine { socket: socket.to_owned(), whole: Arc::new(Semaphore::new(1)) }
    }
}

async fn serve(listener: TcpListener, engine: Rc<Engine>) {
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let (all, peers) = (Arc::new(Semaphore::new(CONNECTIONS)), Rc::new(RefCell::new(BTreeMap::new())));
    loop {
        // Who finds no place waits in the kernel's queue.
        let Ok(one) = all.clone().acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Left to itself, the kernel has megabytes wait for who does not read.
        let kernel = SockRef::from(&stream);
        let _ = (kernel.set_send_buffer_size(KERNEL_BYTES), kernel.set_recv_buffer_size(KERNEL_BYTES));
        let Some(place) = Place::take(one, peer.ip().to_canonical(), &peers) else {
            // Few are told why, and not for long: whoever has all that it may have takes no more of what serves others.
            if let Ok(few) = refusals.clone().try_acquire_owned() {
                tokio::task::spawn_local(async move {
                    let _few = few;
                    let _ = tokio::time::timeout(REFUSAL, turn_away(stream)).await;
                });
            }
            continue;
        };
        let engine = engine.clone();
        tokio::task::spawn_local(async move {
            let _place = place;
            carry(stream, peer, engine).await;
        });
    }
}

/// One of the places, and one of those of a peer.
struct Place {
    _one: OwnedSemaphorePermit,
    peer: IpAddr,
    peers: Peers,
}

type Peers = Rc<RefCell<BTreeMap<IpAddr, Held>>>;

#[derive(Default)]
struct Held {
    open: usize,
    /// Since the peer had all that it may have.
    refused: u64,
}

impl Place {
    /// `None`: the peer has as many as it may have, which is said once, and how often when it has fewer again.
    fn take(one: OwnedSemaphorePermit, peer: IpAddr, peers: &Peers) -> Option<Place> {
        let mut all = peers.borrow_mut();
        let held = all.entry(peer).or_default();
        if held.open >= PEER_CONNECTIONS {
            held.refused += 1;
            if held.refused == 1 {
                eprintln!("strata: refused a connection of {peer}: it has {PEER_CONNECTIONS}");
            }
            return None;
        }
        held.open += 1;
        Some(Place { _one: one, peer, peers: peers.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.peers.borrow_mut();
        let Some(held) = all.get_mut(&self.peer) else { return };
        held.open -= 1;
        let refused = std::mem::take(&mut held.refused);
        if refused > 1 {
            eprintln!("strata: refused {refused} connections of {}", self.peer);
        }
        if held.open == 0 {
            all.remove(&self.peer);
        }
    }
}

async fn carry(stream: TcpStream, peer: SocketAddr, engine: Rc<Engine>) {
    let service = service_fn(move |request| answer(request, peer, engine.clone()));
    // An error here is a client that left or talked nonsense.
    let _ = http().serve_connection(TokioIo::new(stream), service).await;
}

/// A bare close would look like an engine that breaks.
async fn turn_away(stream: TcpStream) {
    let service = service_fn(|_: Request<Incoming>| async {
        let why = format!("this proxy has {PEER_CONNECTIONS} connections of your address, and takes no more of one");
        Ok::<_, std::convert::Infallible>(refuse(StatusCode::TOO_MANY_REQUESTS, &why))
    });
    let _ = http().keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
}

fn http() -> hyper::server::conn::http1::Builder {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER_BYTES);
    http
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    engine: Rc<Engine>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let (method, uri) = (request.method(), request.uri());
    let Some(question) = question(method, uri.path(), uri.query()) else {
        let asked = uri.path_and_query().map_or("/", |path| path.as_str());
        eprintln!("strata: refused {} {} of {peer}", quote(method.as_str()), quote(asked));
        return Ok(refuse(StatusCode::FORBIDDEN, "this proxy passes no more than questions of a Docker source"));
    };
    let asked = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(ask(&engine, method, asked, question).await.unwrap_or_else(|error| {
        eprintln!("strata: {}: {error}", engine.socket.display());
        refuse(StatusCode::BAD_GATEWAY, &format!("the engine cannot be asked: {error}"))
    }))
}

/// What a source asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Ping,
    Events,
    List,
    Container,
}

/// `None` where it would change something, or is not one that a source has.
fn question(method: &Method, path: &str, query: Option<&str>) -> Option<Question> {
    if method != Method::GET && method != Method::HEAD {
        return None;
    }
    let mut parts: Vec<&str> = path.split('/').skip(1).collect();
    let is_version = |part: &str| {
        let digits = part.strip_prefix('v').unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    if parts.first().is_some_and(|part| is_version(part)) {
        parts.remove(0);
    }
    let is_name = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    let (question, keys): (Question, &[&str]) = match *parts.as_slice() {
        ["_ping"] => (Question::Ping, &[]),
        ["events"] => (Question::Events, &["filters", "since", "until"]),
        ["containers", "json"] => (Question::List, &["filters"]),
        ["containers", id, "json"] if is_name(id) => (Question::Container, &[]),
        _ => return None,
    };
    // An engine that was built with Go before 1.17 splits here too. Not at `%3B`: it decodes what it has split.
    if query.is_some_and(|query| query.contains(';')) {
        return None;
    }
    // As they are spelt: `size` has the engine add up every file of a container.
    let mut asked =
        query.into_iter().flat_map(|query| query.split('&')).map(|pair| pair.split('=').next().unwrap_or(pair));
    asked.all(|key| keys.contains(&key)).then_some(question)
}

/// One connection a question: it ends when the client's does, also in the middle of the engine's events.
async fn ask(engine: &Engine, method: &Method, path: &str, question: Question) -> io::Result<Response<Body>> {
    let stream = UnixStream::connect(&engine.socket).await?;
    let mut http = hyper::client::conn::http1::Builder::new();
    let handshake = http.max_buf_size(PIECE_BYTES).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(io::Error::other)?;
    tokio::task::spawn_local(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, "docker").body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    let (head, body) = answer.into_parts();
    let has_more = method == Method::GET && head.status.is_success();
    let mut passed = Response::new(match question {
        Question::Events if has_more => {
            let mut events = Events::default();
            body.map_frame(move |frame| frame.map_data(|data| Bytes::from(events.push(&data)))).boxed()
        }
        Question::List if has_more => {
            let mut list = List::default();
            let mut cut = move |data: Bytes| {
                let kept = list.push(&data);
                let (left_out, most) = (list.left_out(), limits::DOCKER_CONTAINER_BYTES);
                if left_out > 0 {
                    eprintln!("strata: left {left_out} out of a list: the engine says more than {most} bytes of each");
                }
                Bytes::from(kept)
            };
            body.map_frame(move |frame| frame.map_data(&mut cut)).boxed()
        }
        Question::Container if has_more => {
            let _alone = engine.whole.acquire().await.map_err(io::Error::other)?;
            let body = Limited::new(body, limits::DOCKER_CONTAINER_BYTES).collect();
            let whole = tokio::time::timeout(WHOLE, body).await.map_err(io::Error::other)?.map_err(io::Error::other)?;
            let kept = cut::container(&whole.to_bytes());
            whole_body(kept.map_err(|why| io::Error::other(format!("its answer does not read: {why}")))?)
        }
        // No answer of its own to a question about containers, or none about one.
        _ => body.boxed(),
    });
    *passed.status_mut() = head.status;
    for name in ["api-version", "docker-experimental", "server", "content-type", "ostype"] {
        if let Some(value) = head.headers.get(name) {
            passed.headers_mut().insert(name, value.clone());
        }
    }
    Ok(passed)
}

/// In the engine's own form.
fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    let text = serde_json::json!({ "message": message }).to_string();
    let mut response = Response::new(whole_body(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn whole_body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

const CONNECTIONS: usize = 4 * PEER_CONNECTIONS;
/// Sources with the same `socket` and `labels` have ten at most: one for events, one for the list, and eight for containers that they
/// look at. Others in the same Strata, and other Stratas behind the same address, have as many again.
const PEER_CONNECTIONS: usize = 32;
/// Connections that are told at once that they are one too many, and how long that may take.
const REFUSALS: usize = 8;
const REFUSAL: Duration = Duration::from_secs(5);
/// Each way of a client's connection: a question is a line.
const BUFFER_BYTES: usize = 16 * 1024;
/// The same in the kernel, which takes twice as much, and counts it as the container's.
const KERNEL_BYTES: usize = 32 * 1024;
/// Of an engine's answer, at once.
const PIECE_BYTES: usize = 64 * 1024;
/// What one connection holds at most: what is kept of an answer and not taken yet, and the buffers on both sides.
#[cfg(test)]
const PLACE_BYTES: usize = cut::HELD_BYTES + PIECE_BYTES + 4 * BUFFER_BYTES + 4 * KERNEL_BYTES;
/// The process, and the one answer that is being read: a MiB of it, its copy, its parts, and what is kept of them.
#[cfg(test)]
const PROCESS_BYTES: usize = 48 * 1024 * 1024;
/// Of an answer about one container, once it has begun: the engine has it all by then.
const WHOLE: Duration = Duration::from_secs(5);
const HEAD: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn questions_of_a_source_pass_and_nothing_else_does() {
        let id = "4f1c2a9be0d3";
        let passes = |method: &Method, path: &str| {
            let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
            question(method, path, query)
        };
        for (path, want) in [
            ("/_ping", Question::Ping),
            ("/events", Question::Events),
            ("/v1.41/events", Question::Events),
            ("/v1.41/events?filters=%7B%7D&since=1795769345&until=1795769346", Question::Events),
            ("/containers/json", Question::List),
            ("/v1.41/containers/json?filters=%7B%7D", Question::List),
            (&format!("/v1.41/containers/{id}/json"), Question::Container),
        ] {
            assert_eq!(passes(&Method::GET, path), Some(want), "{path}");
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::CONNECT, Method::OPTIONS] {
                assert_eq!(passes(&method, path), None, "{method} {path}");
            }
        }
        assert_eq!(passes(&Method::HEAD, "/_ping"), Some(Question::Ping));
        for path in [
            "",
            "/",
            "/v1.41",
            "/info",
            "/images/json",
            "/secrets",
            "/containers",
            &format!("/containers/{id}/logs"),
            &format!("/containers/{id}/archive"),
            &format!("/containers/{id}/attach/ws"),
            &format!("/containers/{id}/json/"),
            "/containers/../secrets",
            "/containers/%2e%2e/json",
            "/containers/../json",
            "/v1.41/v1.41/events",
            "//events",
            "/events/",
            "/version",
            "/networks",
            &format!("/v1.41/networks/{id}"),
            "/_ping?filters=a",
            "/containers/json?all=1",
            "/containers/json?size=1",
            "/containers/json?filters=a&size",
            "/containers/json?since=a",
            "/containers/json?%73ize=1",
            "/containers/json?filters=%7B%7D;size=1",
            "/events?filters=%7B%7D;stream=0",
            "/v1.41/containers/json?;size=1",
            &format!("/containers/{id}/json?size=1"),
            "/events?filters=a&stream=0",
            "/events?",
        ] {
            assert_eq!(passes(&Method::GET, path), None, "{path}");
        }
    }

    /// An engine whose events never come, and that answers everything else.
    fn engine(socket: &Path) {
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        break;
                    }
                    head.extend(byte);
                }
                if head.starts_with(b"GET /events") {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    silent.push(stream);
                } else {
                    let body = match head.starts_with(b"GET /containers/json") {
                        true => r#"[{"Id":"0123456789ab","Command":"hunter2","Labels":{"a":"b"}}]"#,
                        false => r#"{"Id":"0123456789ab","Config":{"Env":["PASSWORD=hunter2"],"Labels":{"a":"b"}}}"#,
                    };
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    let _ = stream.write_all(format!("{head}{body}").as_bytes());
                }
            }
        });
    }

    fn connected(own: Ipv4Addr, proxy: SocketAddr) -> std::net::TcpStream {
        let stream = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        stream.bind(&SocketAddr::from((own, 0)).into()).unwrap();
        stream.connect(&proxy.into()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.into()
    }

    /// A connection from `own` with a question.
    fn asking(own: Ipv4Addr, proxy: SocketAddr, path: &str) -> std::net::TcpStream {
        let mut stream = connected(own, proxy);
        let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
        stream
    }

    /// What is answered to it, until the proxy is done or, of events, has begun.
    fn asked(own: Ipv4Addr, proxy: SocketAddr, path: &str) -> (std::net::TcpStream, String) {
        let mut stream = asking(own, proxy, path);
        let (mut said, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            said.extend_from_slice(&piece[..length]);
            if path == "/events" {
                break;
            }
        }
        (stream, String::from_utf8(said).unwrap())
    }

    /// What `clients` find out of a proxy before that engine.
    fn served<T: Send + 'static>(clients: impl FnOnce(SocketAddr, &Arc<Semaphore>) -> T + Send + 'static) -> T {
        static NTH: AtomicUsize = AtomicUsize::new(0);
        let nth = NTH.fetch_add(1, Relaxed);
        let folder = std::env::temp_dir().join(format!("strata-proxy-{}-{nth}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("engine.sock");
        engine(&socket);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let proxy = listener.local_addr().unwrap();
        let engine = Engine::new(&socket);
        let whole = engine.whole.clone();
        let (done, ended) = tokio::sync::oneshot::channel();
        let clients = std::thread::spawn(move || {
            let found = clients(proxy, &whole);
            let _ = done.send(());
            found
        });
        LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                () = serve(listener, Rc::new(engine)) => {}
                _ = ended => {}
            }
        });
        let found = clients.join().unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        found
    }

    const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

    #[test]
    fn who_holds_all_that_one_may_have_is_told_so_and_keeps_nobody_else_from_asking() {
        let (served, refused, answers) = served(|proxy, _| {
            let open: Vec<_> = (0..CONNECTIONS).map(|_| asked(GREEDY, proxy, "/events")).collect();
            let served = open.iter().filter(|(_, said)| said.starts_with("HTTP/1.1 200")).count();
            let refused = open.iter().filter(|(_, said)| said.starts_with("HTTP/1.1 429")).count();
            let answers = ["/containers/0123456789ab/json", "/containers/json"].map(|path| asked(OTHER, proxy, path).1);
            drop(open);
            // Places come back with the connections that had them.
            let mut again = String::new();
            while !again.starts_with("HTTP/1.1 200") {
                again = asked(GREEDY, proxy, "/_ping").1;
            }
            (served, refused, answers)
        });
        assert_eq!((served, refused), (PEER_CONNECTIONS, CONNECTIONS - PEER_CONNECTIONS));
        for answer in answers {
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""Labels":{"a":"b"}"#), "{answer}");
            assert!(!answer.contains("hunter2"), "{answer}");
        }
    }

    #[test]
    fn few_are_told_that_they_are_one_too_many_and_who_says_nothing_then_keeps_nobody_else_from_asking() {
        let (untold, other, told) = served(|proxy, _| {
            let _open: Vec<_> = (0..PEER_CONNECTIONS).map(|_| asked(GREEDY, proxy, "/events")).collect();
            let silent: Vec<_> = (0..REFUSALS).map(|_| connected(GREEDY, proxy)).collect();
            let (untold, other) = (asked(GREEDY, proxy, "/_ping").1, asked(OTHER, proxy, "/_ping").1);
            drop(silent);
            let mut again = (0..1000).map(|_| asked(GREEDY, proxy, "/_ping").1);
            (untold, other, again.find(|said| !said.is_empty()))
        });
        assert_eq!(untold, "");
        assert!(other.starts_with("HTTP/1.1 200"), "{other}");
        let told = told.expect("who was told, or has left, makes room for others");
        assert!(told.starts_with("HTTP/1.1 429") && told.contains("32 connections of your address"), "{told}");
    }

    #[test]
    fn one_whole_answer_is_read_at_a_time_and_nothing_else_waits_for_it() {
        let (early, late) = served(|proxy, whole| {
            let held = whole.try_acquire().unwrap();
            let mut waits = asking(OTHER, proxy, "/containers/0123456789ab/json");
            let list = asked(OTHER, proxy, "/containers/json").1;
            assert!(list.starts_with("HTTP/1.1 200"), "{list}");
            waits.set_nonblocking(true).unwrap();
            let early = waits.peek(&mut [0]).map_err(|error| error.kind());
            waits.set_nonblocking(false).unwrap();
            drop(held);
            let mut late = String::new();
            waits.read_to_string(&mut late).unwrap();
            (early, late)
        });
        assert_eq!(early, Err(io::ErrorKind::WouldBlock));
        assert!(late.starts_with("HTTP/1.1 200") && late.contains(r#""Labels":{"a":"b"}"#), "{late}");
    }

    #[test]
    fn all_that_can_be_held_fits_into_the_container_that_compose_makes() {
        let compose = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docker-compose.yml")).unwrap();
        let (_, service) = compose.split_once("\n  engine:\n").unwrap();
        let (_, limit) = service.split_once("mem_limit: ").unwrap();
        let limit: usize = limit.split_once("m\n").unwrap().0.parse().unwrap();
        let most = CONNECTIONS * PLACE_BYTES + PROCESS_BYTES;
        assert!(most <= limit << 20, "{} MiB do not fit into {limit}", most >> 20);
    }
}
