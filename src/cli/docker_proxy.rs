//! Wiring: `strata docker-proxy`: lets a Docker source ask an engine, and nobody change one.
//!
//! Whoever can write to the engine's socket is root on its host, and a read-only mount of the socket does not change that. So the process
//! that takes traffic has no socket: it asks this one, in a container of its own with no capability, on a network that only the two are
//! on. What passes: GET and HEAD of what the source asks for. Everything else is refused, and said. Not here: what answers mean
//! (`source::docker`), and hiding parts of them: whoever may ask sees labels, addresses and environments of all containers.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use super::echo::stop_signal;
use super::say;
use crate::doc::quote;

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
            () = serve(listener, socket.as_path().into()) => {}
            outcome = stop_signal() => outcome?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn serve(listener: TcpListener, socket: Rc<Path>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Who finds no place waits in the kernel's queue.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let socket = socket.clone();
        tokio::task::spawn_local(async move {
            let _place = place;
            carry(stream, peer, socket).await;
        });
    }
}

async fn carry(stream: TcpStream, peer: SocketAddr, socket: Rc<Path>) {
    let service = service_fn(move |request| answer(request, peer, socket.clone()));
    let mut http = hyper::server::conn::http1::Builder::new();
    // An error here is a client that left or talked nonsense.
    let _ =
        http.timer(TokioTimer::new()).header_read_timeout(HEAD).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    socket: Rc<Path>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if !passes(&method, &path) {
        eprintln!("strata: refused {} {} of {peer}", quote(method.as_str()), quote(&path));
        return Ok(refuse(StatusCode::FORBIDDEN, "this proxy passes no more than questions of a Docker source"));
    }
    let asked = request.uri().path_and_query().map_or("/", |path| path.as_str());
    Ok(ask(&socket, &method, asked).await.unwrap_or_else(|error| {
        eprintln!("strata: {}: {error}", socket.display());
        refuse(StatusCode::BAD_GATEWAY, &format!("the engine cannot be asked: {error}"))
    }))
}

/// Whether the question changes nothing, and is one that a source has.
fn passes(method: &Method, path: &str) -> bool {
    if method != Method::GET && method != Method::HEAD {
        return false;
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
    match *parts.as_slice() {
        ["_ping" | "events"] | ["containers", "json"] => true,
        ["containers", id, "json"] => is_name(id),
        _ => false,
    }
}

/// One connection a question: it ends when the client's does, also in the middle of the engine's events.
async fn ask(socket: &Path, method: &Method, path: &str) -> io::Result<Response<Body>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::task::spawn_local(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, "docker").body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    let (head, body) = answer.into_parts();
    let mut passed = Response::new(body.boxed());
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
    let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A source has two or three: one for events, one for questions.
const CONNECTIONS: usize = 64;
const HEAD: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_a_source_pass_and_nothing_else_does() {
        let id = "4f1c2a9be0d3";
        for path in ["/_ping", "/events", "/containers/json", "/v1.41/containers/json", "/v1.41/events"] {
            assert!(passes(&Method::GET, path), "{path}");
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::CONNECT, Method::OPTIONS] {
                assert!(!passes(&method, path), "{method} {path}");
            }
        }
        assert!(passes(&Method::HEAD, "/_ping"));
        assert!(passes(&Method::GET, &format!("/v1.41/containers/{id}/json")));
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
        ] {
            assert!(!passes(&Method::GET, path), "{path}");
        }
    }
}
