//! Shell: one request to the metrics listener or the admin API, and its answer. Knows HTTP, no sockets.

mod answer;
mod guard;
mod input;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Body;
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
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
use crate::base::{Moment, clock, limits};
use crate::explain::Fault;
use crate::health::Intent;
use crate::observe::{Beats, events};

use answer::{Answer, TEXT, answer, asset, json, refused};
use input::{page, read_body, segments, weight};

pub(super) use input::decode;

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
