//! Shell: one request to the metrics listener or the admin API, and its answer. Knows HTTP, no sockets.
//!
//! The admin API has no token on loopback, so a browser on this machine must not be talked into using it: requests whose Host is
//! no loopback name are refused (DNS rebinding), and so are changes that a page of another origin sends. There is no CORS.
//! Changes are made by POST only, and logged.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::{Semaphore, oneshot};

use super::control::{self, Control, Refused};
use super::describe;
use super::document::{self, Problem};
use super::explain::{self, Wish};
use super::metrics::Metrics;
use crate::balance;
use crate::base::{Moment, Weight, clock, limits};
use crate::doc::suggest;
use crate::explain::Fault;
use crate::health::Intent;

/// Which listener a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Reads only; may be reached from anywhere.
    Metrics,
    /// The API over TCP: only for names of this machine.
    Loopback,
    /// The API over a unix socket, which file permissions guard.
    Unix,
}

/// What answers need.
pub struct Api {
    control: Control,
    metrics: Metrics,
    started: Moment,
    comparing: Semaphore,
}

type Answer = Response<Full<Bytes>>;

impl Api {
    pub fn new(control: Control) -> Api {
        Api { metrics: Metrics::new(control.clone()), control, started: clock::now(), comparing: Semaphore::new(1) }
    }

    pub async fn answer<B>(&self, face: Face, request: Request<B>) -> Answer
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let answer = match self.admit(face, &head) {
            Ok(()) => self.dispatch(face, &head, body).await,
            Err(problem) => Err(problem),
        };
        answer.unwrap_or_else(Refusal::answer)
    }

    fn admit(&self, face: Face, head: &Parts) -> Result<(), Refusal> {
        if face == Face::Loopback && !head.headers.get(HOST).is_some_and(is_loopback) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "the admin API answers to names of this machine only")
                .help("use `localhost`, `127.0.0.1` or `[::1]`"));
        }
        if head.method == Method::POST && !is_own_origin(&head.headers) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "a page of another origin may not change anything"));
        }
        Ok(())
    }

    async fn dispatch<B>(&self, face: Face, head: &Parts, body: B) -> Result<Answer, Refusal>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let segments = segments(head.uri.path()).ok_or_else(Refusal::not_found)?;
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        if let Some(target) = Target::of_changes(face, &words) {
            if head.method != Method::POST {
                return Err(Refusal::method("POST"));
            }
            return self.change(target, body).await;
        }
        let read = self.read(face, &words, head.uri.query().unwrap_or_default()).await?;
        match head.method {
            Method::GET | Method::HEAD => Ok(read),
            _ => Err(Refusal::method("GET, HEAD")),
        }
    }

    async fn read(&self, face: Face, words: &[&str], query: &str) -> Result<Answer, Refusal> {
        let snapshot = || self.control.crew.snapshot.load_full();
        match (face, words) {
            (_, ["metrics"]) => {
                let (text, kind) = self.metrics.text();
                Ok(answer(StatusCode::OK, &kind, text))
            }
            (_, ["healthz"]) => Ok(answer(StatusCode::OK, TEXT, "alive\n")),
            (_, ["readyz"]) => match describe::unready(&self.control) {
                None => Ok(answer(StatusCode::OK, TEXT, "ready\n")),
                Some(why) => Ok(answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, why + "\n")),
            },
            (Face::Metrics, _) => Err(Refusal::not_found()),
            (_, ["api", "status"]) => {
                let uptime = clock::now().since(self.started);
                Ok(json(StatusCode::OK, &describe::status(&self.control, uptime, &self.reports().await)))
            }
            (_, ["api", "config"]) => Ok(json(StatusCode::OK, &snapshot().effective)),
            (_, ["api", "dump"]) => {
                let snapshot = snapshot();
                let (config, places) = (snapshot.effective.clone(), snapshot.places.clone());
                Ok(json(StatusCode::OK, &document::Dump { generation: snapshot.generation, config, places }))
            }
            (_, ["api", "services"]) => {
                Ok(json(StatusCode::OK, &describe::services(&snapshot(), &self.control.crew.packets)))
            }
            (_, ["api", "pools"]) => Ok(json(StatusCode::OK, &describe::pools(&snapshot(), &self.reports().await))),
            (_, ["api", "explain"]) => Ok(json(StatusCode::OK, &self.explain(query).await?)),
            _ => Err(Refusal::not_found()),
        }
    }

    /// Refuses by 400 what is not understood.
    async fn explain(&self, query: &str) -> Result<document::Explained, Refusal> {
        let bad = |fault: Fault| Refusal::new(StatusCode::BAD_REQUEST, fault.to_string()).help(explain::USAGE);
        match Wish::read(query).map_err(bad)? {
            Wish::Packet { line, interface } => {
                let ask = |reply| control::Request::ExplainPacket { line, interface, reply };
                self.ask(ask).await?.map_err(|why| Refusal::new(StatusCode::BAD_REQUEST, format!("packet: {why}")))
            }
            Wish::Request(question) => {
                let (snapshot, reports) = (self.control.crew.snapshot.load_full(), self.reports().await);
                explain::request(&snapshot, &reports, &question).map_err(bad)
            }
        }
    }

    /// What the keeper knows; nothing where it is busy, for a document is better than none.
    async fn reports(&self) -> Vec<control::EndpointReport> {
        let (reply, answer) = oneshot::channel();
        let ask = async {
            self.control.requests.send(control::Request::HealthReport { reply }).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(limits::ADMIN_REPORT, ask).await.ok().flatten().unwrap_or_default()
    }

    async fn change<B>(&self, target: Target<'_>, body: B) -> Result<Answer, Refusal>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if matches!(target, Target::Compare) {
            return self.compare(body).await;
        }
        let body = read_body(body, limits::ADMIN_BODY_BYTES).await?;
        match target {
            Target::Reload => self.reload().await,
            Target::Upgrade => self.upgrade().await,
            Target::Compare => Err(Refusal::not_found()),
            Target::Intent { pool, endpoint, intent } => {
                self.must_exist(pool, endpoint)?;
                let (pool, endpoint) = (pool.to_owned(), endpoint.to_owned());
                tracing::info!(
                    pool = &*pool,
                    endpoint = &*endpoint,
                    intent = intent.word(),
                    "intent set through the admin API"
                );
                let ask = |reply| control::Request::SetIntent { pool, endpoint, intent, reply };
                self.ask(ask).await?.map_err(Refusal::from)?;
                Ok(json(StatusCode::OK, &serde_json::json!({ "intent": intent.word() })))
            }
            Target::Weight { pool, endpoint } => {
                self.must_exist(pool, endpoint)?;
                self.must_weigh(pool)?;
                let weight = weight(&body)?;
                let (pool, endpoint) = (pool.to_owned(), endpoint.to_owned());
                tracing::info!(
                    pool = &*pool,
                    endpoint = &*endpoint,
                    weight = weight.get(),
                    "weight set through the admin API"
                );
                let ask = |reply| control::Request::SetWeight { pool, endpoint, weight, reply };
                self.ask(ask).await?.map_err(Refusal::from)?;
                Ok(json(StatusCode::OK, &document::SetWeight { weight: weight.get().into() }))
            }
        }
    }

    async fn reload(&self) -> Result<Answer, Refusal> {
        tracing::info!("reload asked for through the admin API");
        Ok(match self.ask(|reply| control::Request::Reload { reply }).await? {
            Ok(reloaded) => json(StatusCode::OK, &reloaded),
            Err(rejected) => json(StatusCode::UNPROCESSABLE_ENTITY, &rejected),
        })
    }

    async fn upgrade(&self) -> Result<Answer, Refusal> {
        tracing::info!("upgrade asked for through the admin API");
        match self.ask(|reply| control::Request::Upgrade { reply }).await? {
            Ok(upgraded) => Ok(json(StatusCode::OK, &upgraded)),
            Err(why) => Err(Refusal::new(StatusCode::CONFLICT, format!("no upgrade, this process serves on: {why}"))),
        }
    }

    /// Changes nothing. A POST all the same: what is compared comes in the body.
    async fn compare<B>(&self, body: B) -> Result<Answer, Refusal>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // A configuration is large, so one at a time is held.
        let Ok(_only) = self.comparing.try_acquire() else {
            return Err(Refusal::new(StatusCode::CONFLICT, "another comparison is under way").help("try again"));
        };
        let body = read_body(body, limits::ADMIN_CANDIDATE_BYTES).await?;
        let candidate = match &*body {
            [] => None,
            body => Some(serde_json::from_slice(body).map_err(|error| {
                Refusal::new(StatusCode::BAD_REQUEST, format!("the body is no configuration to compare: {error}"))
            })?),
        };
        Ok(match self.ask(|reply| control::Request::Compare { candidate, reply }).await? {
            Ok(compared) => json(StatusCode::OK, &compared),
            Err(rejected) => json(StatusCode::UNPROCESSABLE_ENTITY, &rejected),
        })
    }

    /// Asks the control side, and waits for its answer.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> control::Request) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        // Both fail only when the control side is gone: the process stops.
        let stopping = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the process is stopping");
        self.control.requests.send(request(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    /// A weight that nothing looks at would be an answer without an effect.
    fn must_weigh(&self, pool: &str) -> Result<(), Refusal> {
        let snapshot = self.control.crew.snapshot.load();
        let picker = snapshot.pool_named(pool).and_then(|pool| balance::find(pool.spec.balance.name));
        match picker {
            Some(spec) if !spec.uses.weights => {
                let error =
                    format!("pool `{pool}` is balanced by `{}`, which does not look at weights", spec.grammar.name);
                Err(Refusal::new(StatusCode::CONFLICT, error).help("use `weighted-round-robin` or `p2c`"))
            }
            _ => Ok(()),
        }
    }

    fn must_exist(&self, pool: &str, endpoint: &str) -> Result<(), Refusal> {
        let snapshot = self.control.crew.snapshot.load();
        let Some(found) = snapshot.pool_named(pool) else {
            let names: Vec<&str> = snapshot.pools().map(|pool| &*pool.spec.name).collect();
            return Err(Refusal::unknown("pool", pool, &names));
        };
        if found.endpoint(endpoint).is_none() {
            let names: Vec<&str> = found.endpoints.iter().map(|endpoint| &*endpoint.name).collect();
            return Err(Refusal::unknown("endpoint", endpoint, &names));
        }
        Ok(())
    }
}

/// What a change is made to.
enum Target<'a> {
    Reload,
    Upgrade,
    Compare,
    Intent { pool: &'a str, endpoint: &'a str, intent: Intent },
    Weight { pool: &'a str, endpoint: &'a str },
}

impl<'a> Target<'a> {
    fn of_changes(face: Face, words: &[&'a str]) -> Option<Target<'a>> {
        let intent = |verb| match verb {
            "drain" => Some(Intent::Draining),
            "maintain" => Some(Intent::Maintenance),
            "restore" => Some(Intent::Ready),
            _ => None,
        };
        match *words {
            _ if face == Face::Metrics => None,
            ["api", "reload"] => Some(Target::Reload),
            ["api", "upgrade"] => Some(Target::Upgrade),
            ["api", "diff"] => Some(Target::Compare),
            ["api", "pools", pool, "endpoints", endpoint, "weight"] => Some(Target::Weight { pool, endpoint }),
            ["api", "pools", pool, "endpoints", endpoint, verb] => {
                intent(verb).map(|intent| Target::Intent { pool, endpoint, intent })
            }
            _ => None,
        }
    }
}

/// Why a request is not answered with what it asked for.
struct Refusal {
    status: StatusCode,
    problem: Problem,
    allow: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, problem: Problem { error: error.into(), help: None }, allow: None }
    }

    fn help(mut self, help: impl Into<String>) -> Refusal {
        self.problem.help = Some(help.into());
        self
    }

    fn not_found() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "there is nothing here")
    }

    fn method(allow: &'static str) -> Refusal {
        let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("this takes {allow} only"));
        Refusal { allow: Some(allow), ..refusal }
    }

    fn unknown(kind: &str, name: &str, known: &[&str]) -> Refusal {
        let refusal = Refusal::new(StatusCode::NOT_FOUND, format!("there is no {kind} `{name}`"));
        match suggest::nearest(name, known.iter().copied()) {
            Some(near) => refusal.help(format!("did you mean `{near}`?")),
            None if known.len() <= LISTED => {
                refusal.help(format!("there is {}", suggest::one_of(known.iter().copied())))
            }
            None => refusal,
        }
    }

    fn answer(self) -> Answer {
        let mut answer = json(self.status, &self.problem);
        if let Some(allow) = self.allow {
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        answer
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        match refused {
            Refused::Unknown => Refusal::new(StatusCode::NOT_FOUND, "the endpoint has just left the configuration"),
            Refused::Because(why) => Refusal::new(StatusCode::CONFLICT, why),
        }
    }
}

async fn read_body<B>(body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {limit} bytes here"));
    // What says beforehand that it is too large need not be waited for.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let whole = Limited::new(body, limit).collect();
    match tokio::time::timeout(limits::ADMIN_IDLE, whole).await {
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))),
    }
}

fn weight(body: &[u8]) -> Result<Weight, Refusal> {
    let read: document::SetWeight = serde_json::from_slice(body).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("the body does not say a weight: {error}"))
            .help("send `{\"weight\": 5}`")
    })?;
    Weight::new(read.weight).ok_or_else(|| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("a weight is 1 to {}", limits::WEIGHT))
            .help("drain the endpoint to send it nothing")
    })
}

/// The decoded segments of a path; `None` where one is not text. `/a/b/` ends in an empty one and finds nothing.
fn segments(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')?.split('/').map(decode).collect()
}

pub(super) fn decode(segment: &str) -> Option<String> {
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// Whether a Host, or what follows the scheme of an Origin, names this machine.
fn is_loopback(host: &HeaderValue) -> bool {
    host.to_str().is_ok_and(is_loopback_name)
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match bare {
        Some(address) => address.parse().is_ok_and(|address: std::net::Ipv6Addr| address.to_canonical().is_loopback()),
        None => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse().is_ok_and(|address: std::net::Ipv4Addr| address.is_loopback())
        }
    }
}

/// No browser sent it, or a page that came from this very listener did.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    let origin = headers.get(ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
    });
    site && origin
}

fn json(status: StatusCode, document: &impl Serialize) -> Answer {
    // Our documents have text keys only, so nothing in them can fail to be JSON.
    let mut text = serde_json::to_vec_pretty(document).unwrap_or_default();
    text.push(b'\n');
    answer(status, "application/json", text)
}

fn answer(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}

const TEXT: &str = "text/plain; charset=utf-8";
/// Names that a help line lists.
const LISTED: usize = 8;
