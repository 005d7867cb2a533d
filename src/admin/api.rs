//! Shell: one request to the metrics listener or the admin API, and its answer. Knows HTTP, no sockets.
//!
//! The admin API may have no token on loopback, so a browser on this machine must not be talked into using it: requests whose Host
//! is no loopback name are refused (DNS rebinding), and so are changes that a page of another origin sends, and bodies that a form
//! could send. There is no CORS. A unix socket may be forwarded to where a browser is (`ssh -L`), so there a name that DNS could give
//! out is refused as well. Where other machines reach it, and wherever a token is set, nothing is answered without the token
//! but whether the process lives and serves. Changes are made by POST only, and logged with who asked and what came of it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::{Semaphore, oneshot};

use super::control::{self, Control};
use super::dashboard;
use super::describe;
use super::document;
use super::explain::{self, Wish};
use super::metrics::Metrics;
use super::openapi;
use super::operations::{Action, Does, Operation, Reach};
use super::ready::{Of, Readiness, readiness};
use super::refusal::{Refusal, RefusalCounts, Why};
use crate::balance;
use crate::base::{Moment, Weight, clock, limits};
use crate::explain::Fault;
use crate::health::Intent;
use crate::observe::{Beats, events};

/// Which listener a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Reads only; may be reached from anywhere.
    Metrics,
    /// The API over TCP: only for names of this machine.
    Loopback,
    /// The API over TCP, where other machines reach it: only with the token.
    Remote,
    /// The API over a unix socket, which file permissions guard, but for who forwards it.
    Unix,
}

/// What answers need.
pub struct Api {
    control: Control,
    metrics: Metrics,
    started: Moment,
    comparing: Semaphore,
    /// Changes that may be under way: one whose client has gone holds no connection any more.
    changing: Arc<Semaphore>,
    refusals: Arc<RefusalCounts>,
    untold: Cell<Untold>,
}

/// Requests that were refused to whoever may not ask, since the log last told of them.
#[derive(Clone, Copy, Default)]
struct Untold {
    count: u64,
    told: Option<Moment>,
}

type Answer = Response<Full<Bytes>>;

impl Api {
    pub fn new(control: Control) -> Api {
        let refusals = Arc::<RefusalCounts>::default();
        let metrics = Metrics::new(control.clone(), refusals.clone());
        let (comparing, untold) = (Semaphore::new(1), Cell::default());
        let changing = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS));
        Api { metrics, control, started: clock::now(), comparing, changing, refusals, untold }
    }

    /// Where loops of the process show that they go on.
    pub fn beats(&self) -> &Arc<Beats> {
        &self.control.crew.beats
    }

    /// `peer` is who asks, as far as it is known. Must run inside a `LocalSet`.
    pub async fn answer<B>(self: &Rc<Api>, face: Face, peer: &str, request: Request<B>) -> Answer
    where
        B: Body + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        match self.reply(face, peer, &head, body).await {
            Ok(answer) => answer,
            Err(refusal) => {
                self.refusals.count(refusal.why);
                refused(refusal)
            }
        }
    }

    async fn reply<B>(self: &Rc<Api>, face: Face, peer: &str, head: &Parts, body: B) -> Result<Answer, Refusal>
    where
        B: Body + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let segments = segments(head.uri.path());
        let route = segments.as_ref().and_then(|segments| Operation::find(segments));
        let reach = route.as_ref().map_or(Reach::Operator, |(operation, _)| operation.reach);
        self.admit(face, reach, head).inspect_err(|refusal| self.note_refusal(peer, refusal))?;
        let (operation, names) = route
            .filter(|(operation, _)| face != Face::Metrics || operation.reach.is_of_metrics())
            .ok_or_else(Refusal::not_found)?;
        if !operation.takes(&head.method) {
            return Err(Refusal::method(operation.allow()));
        }
        match operation.does {
            Does::Read => self.read(operation.action, &names, head.uri.query().unwrap_or_default()).await,
            Does::Judge => self.compare(body).await,
            Does::Change => {
                let names = names.into_iter().map(str::to_owned).collect();
                self.see_through(operation.action, names, peer.to_owned(), body).await
            }
        }
    }

    /// Makes a change and logs it in a task of its own: an answer is given up when its client goes, and what takes effect all the
    /// same must not be without its line in the log.
    async fn see_through<B>(
        self: &Rc<Api>,
        action: Action,
        names: Vec<String>,
        peer: String,
        body: B,
    ) -> Result<Answer, Refusal>
    where
        B: Body + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (api, place) = (self.clone(), self.changing.clone().acquire_owned().await);
        let change = tokio::task::spawn_local(async move {
            let _place = place;
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let outcome = match api.may_change() {
                Ok(()) => api.change(action, &names, &peer, body).await,
                Err(refusal) => Err(refusal),
            };
            note_change(&peer, action, &names, &outcome);
            outcome
        });
        change.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Whether whoever asks may.
    fn admit(&self, face: Face, reach: Reach, head: &Parts) -> Result<(), Refusal> {
        let host = head.headers.get(HOST);
        if face == Face::Unix && host.is_some_and(may_be_rebound) {
            return Err(Refusal::new(Why::Host, "the admin API does not answer to names that DNS gives out")
                .help("forward it to `localhost`"));
        }
        if face == Face::Loopback && !host.is_some_and(is_loopback) {
            return Err(Refusal::new(Why::Host, "the admin API answers to names of this machine only")
                .help("use `localhost`, `127.0.0.1` or `[::1]`"));
        }
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        if !reads && !is_own_origin(&head.headers) {
            return Err(Refusal::new(Why::Origin, "a page of another origin may not change anything"));
        }
        if face != Face::Metrics && reach.needs_token() {
            self.authorise(face, &head.headers)?;
        }
        // What a form of a web page can send, whatever its browser says of where it comes from.
        let kind = head.headers.get(CONTENT_TYPE);
        if !reads && kind.is_some_and(|kind| !is_json(kind)) {
            return Err(
                Refusal::new(Why::ContentType, "a body is JSON here").help("send `Content-Type: application/json`")
            );
        }
        Ok(())
    }

    /// A token, where there is one, is asked of everybody; from other machines nobody comes in without.
    fn authorise(&self, face: Face, headers: &HeaderMap) -> Result<(), Refusal> {
        let snapshot = self.control.crew.snapshot.load();
        let Some(token) = &snapshot.settings.admin_token else {
            // So for a moment only, while a reload takes the token and this listener away.
            return if face == Face::Remote { Err(Refusal::unauthorised(false)) } else { Ok(()) };
        };
        let mut given = headers.get_all(AUTHORIZATION).iter();
        match (given.next(), given.next()) {
            (None, _) => Err(Refusal::unauthorised(false)),
            (Some(field), None) if bearer(field).is_some_and(|given| token.is(given)) => Ok(()),
            (Some(_), _) => Err(Refusal::unauthorised(true)),
        }
    }

    /// Logs who may not ask, but not each time: whoever guesses tokens does not fill the log.
    fn note_refusal(&self, peer: &str, refusal: &Refusal) {
        let Untold { count, told } = self.untold.get();
        let now = clock::now();
        let count = count.saturating_add(1);
        if told.is_some_and(|told| now.since(told) < limits::ADMIN_REFUSED_LOG) {
            return self.untold.set(Untold { count, told });
        }
        self.untold.set(Untold { count: 0, told: Some(now) });
        let (status, why) = (refusal.why.status(), &*refusal.problem.error);
        tracing::warn!(peer, status, why, count, "a request to the admin API is refused");
    }

    /// Where it is read-only, changes are made by the file, and by signals.
    fn may_change(&self) -> Result<(), Refusal> {
        if !self.control.crew.snapshot.load().settings.admin_read_only {
            return Ok(());
        }
        Err(Refusal::new(Why::ReadOnly, "the admin API is read-only")
            .help("change the file, and reload by `kill -HUP`; or set `read_only = false` of [admin]"))
    }

    async fn read(&self, action: Action, names: &[&str], query: &str) -> Result<Answer, Refusal> {
        let snapshot = || self.control.crew.snapshot.load_full();
        Ok(match action {
            Action::Dashboard => asset(&dashboard::PAGE),
            Action::DashboardFile => {
                let found = names.first().and_then(|name| dashboard::find(name));
                asset(found.ok_or_else(Refusal::not_found)?)
            }
            Action::Metrics => {
                let (text, kind) = self.metrics.text();
                answer(StatusCode::OK, &kind, text)
            }
            Action::Alive => match describe::stuck(&self.control) {
                None => answer(StatusCode::OK, TEXT, "alive\n"),
                Some(why) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, why + "\n"),
            },
            Action::Ready => self.ready(query)?,
            Action::Status => {
                let uptime = clock::now().since(self.started);
                json(StatusCode::OK, &describe::status(&self.control, uptime, &self.reports().await))
            }
            Action::Config => json(StatusCode::OK, &snapshot().effective),
            Action::Dump => {
                let snapshot = snapshot();
                let (config, places) = (snapshot.effective.clone(), snapshot.places.clone());
                json(StatusCode::OK, &document::Dump { generation: snapshot.generation, config, places })
            }
            Action::Services => json(StatusCode::OK, &describe::services(&snapshot(), &self.control.crew.packets)),
            Action::Pools => json(StatusCode::OK, &describe::pools(&snapshot(), &self.reports().await)),
            Action::Explain => json(StatusCode::OK, &self.explain(query).await?),
            Action::Events => {
                let (since, limit) = page(query)?;
                json(StatusCode::OK, &describe::events(since, limit))
            }
            Action::Diagnostics => json(StatusCode::OK, &describe::diagnostics(&self.control)),
            Action::OpenApi => answer(StatusCode::OK, "application/json", openapi::sent()),
            _ => return Err(Refusal::not_found()),
        })
    }

    fn ready(&self, query: &str) -> Result<Answer, Refusal> {
        let of = Of::parse(query).map_err(|why| {
            Refusal::new(Why::BadRequest, why).help("as in /readyz, /readyz?service=NAME or /readyz?all")
        })?;
        let Readiness { ready, text } =
            readiness(&self.control, &of).ok_or_else(|| Refusal::new(Why::NotFound, "there is no such service"))?;
        Ok(answer(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, TEXT, text))
    }

    /// Refuses by 400 what is not understood.
    async fn explain(&self, query: &str) -> Result<document::Explained, Refusal> {
        let bad = |fault: Fault| Refusal::new(Why::BadRequest, fault.to_string()).help(explain::USAGE);
        match Wish::read(query).map_err(bad)? {
            Wish::Packet { line, interface } => {
                let ask = |reply| control::Request::ExplainPacket { line, interface, reply };
                self.ask(ask).await?.map_err(|why| Refusal::new(Why::BadRequest, format!("packet: {why}")))
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

    async fn change<B>(&self, action: Action, names: &[&str], peer: &str, body: B) -> Result<Answer, Refusal>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let body = read_body(body, limits::ADMIN_BODY_BYTES).await?;
        match (action, names) {
            (Action::Reload, _) => self.reload(peer).await,
            (Action::Upgrade, _) => self.upgrade().await,
            (Action::Drain, [pool, endpoint]) => self.intend(pool, endpoint, Intent::Draining).await,
            (Action::Maintain, [pool, endpoint]) => self.intend(pool, endpoint, Intent::Maintenance).await,
            (Action::Restore, [pool, endpoint]) => self.intend(pool, endpoint, Intent::Ready).await,
            (Action::Weight, [pool, endpoint]) => {
                self.must_exist(pool, endpoint)?;
                self.must_weigh(pool)?;
                let weight = weight(&body)?;
                let (pool, endpoint) = ((*pool).to_owned(), (*endpoint).to_owned());
                let ask = |reply| control::Request::SetWeight { pool, endpoint, weight, reply };
                self.ask(ask).await?.map_err(Refusal::from)?;
                Ok(json(StatusCode::OK, &document::SetWeight { weight: weight.get().into() }))
            }
            _ => Err(Refusal::not_found()),
        }
    }

    async fn intend(&self, pool: &str, endpoint: &str, intent: Intent) -> Result<Answer, Refusal> {
        self.must_exist(pool, endpoint)?;
        let (pool, endpoint) = (pool.to_owned(), endpoint.to_owned());
        let ask = |reply| control::Request::SetIntent { pool, endpoint, intent, reply };
        self.ask(ask).await?.map_err(Refusal::from)?;
        Ok(json(StatusCode::OK, &document::Intended { intent: intent.word().to_owned() }))
    }

    async fn reload(&self, peer: &str) -> Result<Answer, Refusal> {
        let by = format!("admin API, {peer}");
        Ok(match self.ask(|reply| control::Request::Reload { by, reply }).await? {
            Ok(reloaded) => json(StatusCode::OK, &reloaded),
            Err(rejected) => json(StatusCode::UNPROCESSABLE_ENTITY, &rejected),
        })
    }

    async fn upgrade(&self) -> Result<Answer, Refusal> {
        match self.ask(|reply| control::Request::Upgrade { reply }).await? {
            Ok(upgraded) => Ok(json(StatusCode::OK, &upgraded)),
            Err(why) => Err(Refusal::new(Why::Conflict, why)),
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
            return Err(Refusal::new(Why::Conflict, "another comparison is under way").help("try again"));
        };
        let body = read_body(body, limits::ADMIN_CANDIDATE_BYTES).await?;
        let candidate = match &*body {
            [] => None,
            body => Some(serde_json::from_slice(body).map_err(|error| {
                Refusal::new(Why::BadRequest, format!("the body is no configuration to compare: {error}"))
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
                Err(Refusal::new(Why::Conflict, error).help("use `weighted-round-robin` or `p2c`"))
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

fn stopping() -> Refusal {
    Refusal::new(Why::Stopping, "the process is stopping")
}

/// Every change is logged, with who asked for it and what came of it.
fn note_change(peer: &str, action: Action, names: &[&str], outcome: &Result<Answer, Refusal>) {
    let request = [&[action.word()], names].concat().join(" ");
    match outcome {
        Ok(answer) if answer.status().is_success() => {
            let status = answer.status().as_u16();
            tracing::info!(event = events::ADMIN, peer, request, status, "done through the admin API");
        }
        Ok(answer) => {
            let status = answer.status().as_u16();
            tracing::warn!(event = events::ADMIN, peer, request, status, "asked through the admin API, and refused");
        }
        Err(refusal) => {
            let (status, why) = (refusal.why.status(), &*refusal.problem.error);
            tracing::warn!(
                event = events::ADMIN,
                peer,
                request,
                status,
                why,
                "asked through the admin API, and refused"
            );
        }
    }
}

/// `since=SEQ&limit=N`.
fn page(query: &str) -> Result<(Option<u64>, usize), Refusal> {
    let bad = |why: String| {
        let usage = format!("as in /api/events?since=12&limit=100, limit from 1 to {}", limits::EVENTS);
        Refusal::new(Why::BadRequest, why).help(usage)
    };
    let (mut since, mut limit) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = match key {
            "since" => &mut since,
            "limit" => &mut limit,
            other => return Err(bad(format!("`{}` is nothing that can be said", other.escape_debug()))),
        };
        let number: u64 = value.parse().map_err(|_| bad(format!("`{key}` is a number")))?;
        if place.replace(number).is_some() {
            return Err(bad(format!("`{key}` is given twice")));
        }
    }
    match limit {
        None => Ok((since, limits::EVENTS)),
        Some(limit) => match usize::try_from(limit) {
            Ok(limit) if (1..=limits::EVENTS).contains(&limit) => Ok((since, limit)),
            _ => Err(bad("`limit` is more than are kept, or none".to_owned())),
        },
    }
}

async fn read_body<B>(body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || Refusal::new(Why::BodyTooLarge, format!("a body has at most {limit} bytes here"));
    // What says beforehand that it is too large need not be waited for.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let whole = Limited::new(body, limit).collect();
    match tokio::time::timeout(limits::ADMIN_IDLE, whole).await {
        Err(_) => Err(Refusal::new(Why::BodyTimeout, "the body did not arrive in time")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Refusal::new(Why::BadRequest, format!("the body cannot be read: {error}"))),
    }
}

fn weight(body: &[u8]) -> Result<Weight, Refusal> {
    let read: document::SetWeight = serde_json::from_slice(body).map_err(|error| {
        Refusal::new(Why::BadRequest, format!("the body does not say a weight: {error}")).help("send `{\"weight\": 5}`")
    })?;
    Weight::new(read.weight).ok_or_else(|| {
        Refusal::new(Why::BadRequest, format!("a weight is 1 to {}", limits::WEIGHT))
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

/// Whether somebody else's DNS could have brought a browser here by this name (hardening J14): not by one that names this machine,
/// nor by one without a dot, which is no public domain.
fn may_be_rebound(host: &HeaderValue) -> bool {
    !is_loopback(host) && host.as_bytes().contains(&b'.')
}

/// What follows `Bearer`; the scheme in any case (RFC 9110 §11.1).
fn bearer(field: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = field.as_bytes().split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim_ascii())
}

/// `application/json`, whatever parameters it has.
fn is_json(kind: &HeaderValue) -> bool {
    let kind = kind.to_str().unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
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

/// Says why, and what helps.
fn refused(refusal: Refusal) -> Answer {
    let status = StatusCode::from_u16(refusal.why.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = json(status, &refusal.problem);
    if let Some((name, value)) = refusal.field {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn json(status: StatusCode, document: &impl Serialize) -> Answer {
    // Our documents have text keys only, so nothing in them can fail to be JSON.
    let mut text = serde_json::to_vec_pretty(document).unwrap_or_default();
    text.push(b'\n');
    answer(status, "application/json", text)
}

fn asset(asset: &'static dashboard::Asset) -> Answer {
    dashboard::guard(answer(StatusCode::OK, asset.kind, asset.text))
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
    // Nor may a page of another origin load it as a script or a picture.
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    answer
}

const BEARER: &[u8] = b"Bearer ";
const TEXT: &str = "text/plain; charset=utf-8";
