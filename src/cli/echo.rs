//! Wiring: `strata echo`: a small endpoint for demos, tests and compose files, of HTTP/1.1 over TCP and of UDP. It says who it is
//! and what it was asked.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::LocalSet;

use super::say;
use crate::sys::datagram;

/// Bytes of a request body that are sent back; a longer one is refused.
const BODY_BYTES: usize = 1024 * 1024;
/// Bytes of an answer to a datagram: whole on any way that carries IPv6. What was asked is cut to fit.
const ANSWER_BYTES: usize = 1280 - 40 - 8;
/// Ports tried where any will do.
const FREE_PORTS: u32 = 16;
/// What answers begin with.
const FIRST_WORD: &str = "endpoint ";

pub fn echo(listen: SocketAddr, name: Option<String>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let (listener, socket) = open(listen).await?;
        let address = listener.local_addr()?;
        say(format_args!("echo listens on {address}\n"))?;
        let name = name.unwrap_or_else(|| default_name(address));
        tokio::select! {
            () = answer_datagrams(&socket, &name) => {}
            () = serve(listener, name.clone()) => {}
            outcome = stop_signal() => outcome?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// One port of both kinds.
async fn open(listen: SocketAddr) -> anyhow::Result<(TcpListener, UdpSocket)> {
    let mut tries = if listen.port() == 0 { FREE_PORTS } else { 1 };
    loop {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        tries -= 1;
        match datagram::bind(address).and_then(UdpSocket::from_std) {
            Ok(socket) => return Ok((listener, socket)),
            // Free for one kind, and somebody's of the other.
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(error).with_context(|| format!("cannot take datagrams on {address}")),
        }
    }
}

/// Its address; where that is every address of the host, the host's name, which tells the containers of one service apart.
fn default_name(address: SocketAddr) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = if address.ip().is_unspecified() { host() } else { None };
    named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| address.to_string())
}

/// Answers on `listener` until dropped. Must run inside a `LocalSet`.
pub async fn serve(listener: TcpListener, name: String) {
    let name: Rc<str> = name.into();
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let name = name.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| answer(request, name.clone(), peer));
            // An error here is a client that left or talked nonsense: nothing for an echo to report.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Answers who sends datagrams until dropped.
async fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; ANSWER_BYTES];
    loop {
        let came = match socket.readable().await {
            Ok(()) => socket.try_io(Interest::READABLE, || datagram::receive(socket, &mut buffer)),
            Err(error) => Err(error),
        };
        // Whoever sends without a pause would have nothing else run here.
        tokio::task::consume_budget().await;
        match came {
            Ok((length, asker)) => {
                if let Some(answer) = asker.peer().and_then(|peer| answer_to(&buffer[..length], name, peer)) {
                    // As on the way here: datagrams get lost.
                    let _ = datagram::answer(socket, &answer, &asker);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

/// `None` for what is an answer itself: whoever forges its sender would have two endpoints talk to each other for ever.
fn answer_to(datagram: &[u8], name: &str, peer: SocketAddr) -> Option<Vec<u8>> {
    if datagram.starts_with(FIRST_WORD.as_bytes()) {
        return None;
    }
    let mut answer = format!("{FIRST_WORD}{name}\ndatagram from {peer}\n").into_bytes();
    answer.extend_from_slice(datagram);
    answer.truncate(ANSWER_BYTES);
    Some(answer)
}

async fn answer(
    request: Request<Incoming>,
    name: Rc<str>,
    peer: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let respond = |status: StatusCode, body: Bytes| {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert("content-type", hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Ok(name) = hyper::header::HeaderValue::from_str(&name) {
            headers.insert("x-endpoint", name);
        }
        Ok(response)
    };
    if head.uri.path() == "/healthz" {
        return respond(StatusCode::OK, Bytes::from_static(b"ok\n"));
    }
    let body = match http_body_util::Limited::new(body, BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return respond(StatusCode::PAYLOAD_TOO_LARGE, Bytes::from_static(b"body too large\n")),
    };
    if head.method == Method::POST || head.method == Method::PUT {
        return respond(StatusCode::OK, body);
    }
    let mut text = format!("{FIRST_WORD}{name}\nconnection from {peer}\n{} {}\n", head.method, head.uri);
    for (field, value) in &head.headers {
        let _ = writeln!(text, "{field}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    respond(StatusCode::OK, text.into())
}

pub(super) async fn stop_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_gets_one_of_bounded_length_and_an_answer_gets_none() {
        let peer: SocketAddr = "192.0.2.7:4242".parse().unwrap();
        let answer = answer_to(b"who is it?", "e1", peer).unwrap();
        assert_eq!(answer, b"endpoint e1\ndatagram from 192.0.2.7:4242\nwho is it?");
        assert_eq!(answer_to(&answer, "e2", peer), None);
        for (asked, name) in [(b"".as_slice(), "e1"), (&[7; 9000], "e1"), (b"who?", &"e".repeat(5000))] {
            let answer = answer_to(asked, name, peer).unwrap();
            assert!(answer.starts_with(b"endpoint e") && answer.len() <= ANSWER_BYTES, "{}", answer.len());
            assert_eq!(answer_to(&answer, "e2", peer), None);
        }
    }
}
