//! Wiring: `strata echo`: a small HTTP/1.1 endpoint for demos, tests and compose files. It says who it is and what it was asked.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::say;

/// Bytes of a request body that are sent back; a longer one is refused.
const BODY_BYTES: usize = 1024 * 1024;

pub fn echo(listen: SocketAddr, name: Option<String>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        say(format_args!("echo listens on {address}\n"))?;
        let name = name.unwrap_or_else(|| default_name(address));
        tokio::select! {
            () = serve(listener, name) => {}
            outcome = stop_signal() => outcome?,
        }
        Ok(ExitCode::SUCCESS)
    })
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
    let mut text = format!("endpoint {name}\nconnection from {peer}\n{} {}\n", head.method, head.uri);
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
