//! Engine: a question through what serves traffic, and what is told of each step.

use std::net::SocketAddr;

use super::pick::{self, Key};
use super::question::{Destination, Fault, Question, Source};
use super::reach::{Reached, reach};
use super::story::{Fate, Listener, Other, Request, RouteTold, Sent, ServiceTold, Story, Verdict};
use crate::balance::HashBy;
use crate::base::{Listen, Moment, PoolId, Reason};
use crate::doc::Place;
use crate::route::Rule;
use crate::route::why::{self, Miss};
use crate::state::{L4, L7, Pool, Route, Service, Snapshot, Traffic, Way};
use crate::wire::http1::{self, Progress, Reject, RequestHead, Scheme};

/// What a question is put to.
pub struct Scene<'a> {
    pub snapshot: &'a Snapshot,
    pub now: Moment,
    /// The snapshot serves, and its counts mean something.
    pub live: bool,
    /// Nobody chose the hash key, and the process that will serve has another one.
    pub random_key: bool,
    /// Why an endpoint of a pool is in its state, where somebody knows.
    pub cause: &'a dyn Fn(&str, &str) -> Option<String>,
}

/// What becomes of a request.
///
/// # Errors
/// The service that was named is none, or it takes a name to tell.
pub fn request(scene: &Scene<'_>, question: &Question) -> Result<Story, Fault> {
    let mut story = begin(scene, question.from);
    story.request = Some(Request { asked: question.text.clone(), ..Request::default() });
    match reach(scene.snapshot, question.to.as_ref(), question.service.as_deref())? {
        Reached::Nobody(why) => story.verdict = unreached(why),
        Reached::Service { service, listen } => {
            arrive(&mut story, service, listen);
            match &service.traffic {
                Traffic::L7(l7) => exchange(&mut story, scene, service, l7, question),
                Traffic::L4(l4) => {
                    story.request = None;
                    relay(&mut story, scene, l4, question.from);
                }
                // `reach` finds none of these.
                Traffic::Packet(_) => {}
            }
        }
    }
    Ok(story)
}

/// What becomes of a TCP connection to a listener; `None` where nobody listens there.
pub fn connection(scene: &Scene<'_>, from: SocketAddr, to: SocketAddr) -> Option<Story> {
    let source = Source { address: from.ip(), port: Some(from.port()), imagined: false };
    let to = Destination { host: to.ip().to_string(), address: Some(to.ip()), port: to.port() };
    let Ok(Reached::Service { service, listen }) = reach(scene.snapshot, Some(&to), None) else { return None };
    let mut story = begin(scene, source);
    arrive(&mut story, service, listen);
    match &service.traffic {
        Traffic::L4(l4) => relay(&mut story, scene, l4, source),
        _ => {
            story.verdict = Verdict {
                action: "forward".to_owned(),
                meaning: Some("where it leads is for each request to say: explain 'GET http://…'".to_owned()),
                ..Verdict::default()
            };
        }
    }
    Some(story)
}

fn begin(scene: &Scene<'_>, from: Source) -> Story {
    Story {
        from: from
            .port
            .map_or_else(|| from.address.to_string(), |port| SocketAddr::new(from.address, port).to_string()),
        from_imagined: from.imagined,
        live: scene.live,
        generation: scene.live.then_some(scene.snapshot.generation),
        ..Story::default()
    }
}

fn arrive(story: &mut Story, service: &Service, listen: Option<Listen>) {
    let address = listen.or_else(|| service.spec.listen.first().copied());
    story.listener = address.map(|address| Listener { address: address.to_string(), reached: listen.is_some() });
    story.service = Some(ServiceTold { name: service.spec.name.to_string(), mode: service.mode().word().to_owned() });
}

fn relay(story: &mut Story, scene: &Scene<'_>, l4: &L4, from: Source) {
    let Some(pool) = scene.snapshot.pool(l4.pool) else { return };
    let hash = |port| l4.hash_by.flow(&pool.hash_key(), peer(from, port), None);
    choose(story, scene, pool, &Key { hash: &hash, words: l4.hash_by.to_string() });
}

fn exchange(story: &mut Story, scene: &Scene<'_>, service: &Service, l7: &L7, question: &Question) {
    let head = match parse(question) {
        Ok(head) => head,
        Err(reject) => {
            story.verdict = Verdict {
                action: "refuse".to_owned(),
                why: Some(reject.word().to_owned()),
                status: Some(reject.status()),
                meaning: Some(plain(reject.meaning())),
                way_out: None,
            };
            return;
        }
    };
    let view = head.view(&question.head);
    if let Some(request) = &mut story.request {
        request.method = Some(text(view.method_token()));
        request.host = Some(text(view.authority()));
        request.path = Some(text(view.target()));
    }
    let way = l7.way(service, scene.snapshot, &view);
    routes(story, scene.snapshot, service, l7, way.as_ref().ok(), &view);
    let way = match way {
        Ok(way) => way,
        Err(reason) => {
            story.verdict = refused(reason);
            return;
        }
    };
    story.sent = Some(sent(l7, &view, peer(question.from, ANY_PORT), &question.head));
    let hash = |port| way.hash(&view, peer(question.from, port));
    choose(story, scene, way.pool, &Key { hash: &hash, words: words(&way, &view) });
}

/// The head, by the parser that reads every request's.
pub(super) fn parse(question: &Question) -> Result<RequestHead, Reject> {
    let mut head = RequestHead::default();
    match head.parse(&question.head, Scheme::Http)? {
        Progress::Complete(_) => Ok(head),
        // A head that ends in an empty line is whole, or wrong.
        Progress::Partial => Err(Reject::BadRequestLine),
    }
}

fn choose(story: &mut Story, scene: &Scene<'_>, pool: &Pool, key: &Key<'_>) {
    let (told, choice) = pick::tell(scene, pool, key);
    story.verdict = match &choice {
        None => refused(Reason::NoEndpoint),
        Some(_) => Verdict { action: "forward".to_owned(), ..Verdict::default() },
    };
    (story.pool, story.choice) = (Some(told), choice);
}

/// The route that wins, and those that lose or are missed.
fn routes(
    story: &mut Story,
    snapshot: &Snapshot,
    service: &Service,
    l7: &L7,
    way: Option<&Way<'_>>,
    view: &http1::Request<'_>,
) {
    let rules: Vec<Rule> = l7.spec.routes.iter().map(Route::rule).collect();
    let places = snapshot.route_places(service.id);
    let place = |index: usize| places.get(index).cloned().unwrap_or_default();
    let pool = |id: PoolId| snapshot.pool(id).map(|pool| pool.spec.name.to_string()).unwrap_or_default();
    let other = |index: usize, fate: Fate, why: &str| {
        let route = l7.spec.routes.get(index)?;
        let Place { file, line } = place(index);
        Some(Other {
            url: route.pattern.to_string(),
            priority: route.priority,
            pool: pool(route.pool),
            file: file.to_string(),
            line,
            fate,
            why: why.to_owned(),
        })
    };
    let before = |winner: usize, next: usize| why::because((winner, rules.get(winner)?), (next, rules.get(next)?));
    let rivals: Vec<usize> = match way {
        Some(way) => {
            let mut rivals = why::all(&l7.table, view.host(), view.path());
            rivals.retain(|rival| *rival != way.index);
            rivals
        }
        None => Vec::new(),
    };
    if let Some(way) = way {
        let because = rivals.first().and_then(|next| before(way.index, *next));
        let Place { file, line } = place(way.index);
        story.route = Some(RouteTold {
            url: way.route.pattern.to_string(),
            priority: way.route.priority,
            pool: way.pool.spec.name.to_string(),
            file: file.to_string(),
            line,
            because: because.map(|because| because.word().to_owned()),
            why: because.map_or("no other route takes it", why::Because::sentence).to_owned(),
        });
        let loses = |rival: &usize| {
            let because = before(way.index, *rival).map_or("another goes first", why::Because::sentence);
            other(*rival, Fate::Loses, because)
        };
        story.others = rivals.iter().take(RIVALS).filter_map(loses).collect();
    }
    let (near, count) = why::near(&rules, view.host(), view.path(), NEAR);
    let missed = |near: &why::Near| match near.miss {
        Miss::Host => other(near.rule, Fate::OtherHost, "its host is another"),
        Miss::Path => other(near.rule, Fate::OtherPath, "its path is another"),
    };
    story.others.extend(near.iter().filter_map(missed));
    story.others_left_out = (rivals.len() + count).saturating_sub(story.others.len());
}

/// What is not as the client sent it.
fn sent(l7: &L7, view: &http1::Request<'_>, peer: SocketAddr, came: &[u8]) -> Sent {
    let mut out = Vec::new();
    l7.forward(view, peer, &mut Vec::new(), &mut out);
    let lines = |head: &[u8]| -> Vec<String> {
        head.split(|b| *b == b'\n').map(|line| text(line.trim_ascii_end())).filter(|line| !line.is_empty()).collect()
    };
    let (mut came, mut left) = (lines(came), lines(&out));
    let take_line = |lines: &mut Vec<String>| if lines.is_empty() { String::new() } else { lines.remove(0) };
    let (old, line) = (take_line(&mut came), take_line(&mut left));
    let added = left.iter().filter(|line| !came.contains(line)).cloned().collect();
    let removed = came.iter().filter(|line| !left.contains(line)).cloned().collect();
    Sent { line_changed: old != line, line, added, removed, trusted: l7.trusts(peer) }
}

/// What the pool is sticky by, of this request.
fn words(way: &Way<'_>, view: &http1::Request<'_>) -> String {
    let by = &way.route.hash_by;
    match way.key(view).filter(|value| !value.is_empty()) {
        Some(value) => format!("{by} = {}", text(&value)),
        None if by.needs_http() => format!("{}, for it has no {by}", HashBy::SourceAddress),
        None => by.to_string(),
    }
}

fn refused(reason: Reason) -> Verdict {
    Verdict {
        action: "refuse".to_owned(),
        why: Some(reason.word().to_owned()),
        status: Some(reason.status()),
        meaning: Some(reason.meaning().to_owned()),
        way_out: Some(reason.way_out().to_owned()),
    }
}

fn unreached(why: String) -> Verdict {
    Verdict { action: "unreached".to_owned(), meaning: Some(why), ..Verdict::default() }
}

fn peer(from: Source, port: u16) -> SocketAddr {
    SocketAddr::new(from.address, from.port.unwrap_or(port))
}

/// Without the row of the hardening catalogue, which means nothing to an operator.
fn plain(meaning: &str) -> String {
    let row = meaning.rfind(" (").filter(|at| {
        let row = meaning.get(at + 2..).unwrap_or_default();
        row.ends_with(").") && row.starts_with(|c: char| c.is_ascii_uppercase())
    });
    row.and_then(|at| meaning.get(..at)).map_or_else(|| meaning.to_owned(), |text| format!("{text}."))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Stands for a port where none matters.
const ANY_PORT: u16 = 40_000;
/// Routes that lose, and those that are missed, which are told of.
const RIVALS: usize = 16;
const NEAR: usize = 3;
