//! Engine: reads one `[service.NAME]`: what clients reach, and where it leads.

use std::sync::Arc;
use std::time::Duration;

use super::Catalogs;
use super::lore::LATER_MODES;
use super::packet::{self, Known};
use super::root::{ACCESS_FORMATS, Listener, Reference, Survey, User, refuse_port_zero};
use super::value::{L4, L4Timeouts, L7, L7Timeouts, Limits, Route, Service, Traffic};
use crate::base::{Listen, Network, limits};
use crate::doc::{Diagnostic, Item, Settings, Spanned, Table, codes, quote, suggest};
use crate::observe::access;
use crate::route::Pattern;
use crate::state::{Forward, ModeKind};

/// What a service's reader needs of the rest of the file.
#[derive(Clone, Copy)]
pub(super) struct Context<'c> {
    pub catalogs: &'c Catalogs<'c>,
    /// Whether services write access records unless they say otherwise: whether `[access_log]` is there.
    pub access_default: Option<access::Format>,
    pub access_format: access::Format,
}

/// What a service is, as far as its keys are to be read.
#[derive(Clone, Copy)]
enum Shape {
    Stream,
    Http,
    Packets(Known),
}

/// `None` when not even the mode is known; what it refers to is in `survey` all the same.
pub(super) fn read_service(
    name: Spanned<Arc<str>>,
    item: &Item<'_>,
    context: Context<'_>,
    survey: &mut Survey,
) -> Option<Service> {
    item.table("service", |table| {
        let mode = match read_mode(table) {
            Some(Said::Later) => {
                // Its keys cannot be judged, and its pool is not unused.
                for (key, item) in table.entries() {
                    if key.value == "pool" && item.is_text() {
                        read_reference(&item, &name, User::Requests, survey);
                    }
                }
                return None;
            }
            Some(Said::Mode(mode)) => Some(mode),
            None => None,
        };
        let shape = read_shape(table, mode);
        let (listen, limits, access_log) = match shape {
            Shape::Packets(known) => {
                packet::refuse_proxy_keys(table, &packet::called(known));
                (Vec::new(), Limits::default(), None)
            }
            Shape::Stream | Shape::Http => {
                let listen = read_listen(table, &name, survey);
                let http = matches!(shape, Shape::Http);
                let limits =
                    table.get("limits").and_then(|item| item.table("limits", |table| read_limits(table, http)));
                (listen, limits.unwrap_or_default(), read_access(table, context))
            }
        };
        let traffic = match shape {
            Shape::Stream => Traffic::L4(read_l4(table, &name, survey)),
            Shape::Http => Traffic::L7(read_l7(table, &name, mode.is_some(), context, survey)),
            Shape::Packets(known) => Traffic::Packet(packet::read_packet(table, &name, known, survey)?),
        };
        mode.map(|_| Service { name, listen, limits, access_log, traffic })
    })?
}

/// What a service says it is.
enum Said {
    Mode(ModeKind),
    /// A mode that is planned.
    Later,
}

fn read_mode(table: &mut Table<'_>) -> Option<Said> {
    let example = if table.has("vip") && !table.has("listen") { "mode = \"l2\"" } else { "mode = \"l7\"" };
    let item = table.need("mode", example)?;
    if let Some(word) = item.is_text().then(|| item.text()).flatten()
        && LATER_MODES.contains(&word.value)
    {
        let message = format!("mode {} is not available yet", quote(&word));
        let available = MODES.iter().map(|mode| mode.word());
        let help = format!("{} are available", suggest::one_of(available).replace(" or ", " and "));
        table.report(Diagnostic::new(&codes::NOT_YET, item.span(), message).help(help));
        return Some(Said::Later);
    }
    item.one_of(&MODES.map(|mode| (mode.word(), mode))).map(|mode| Said::Mode(mode.value))
}

/// Reads `forward`, and what the mode and it make of the service. Without a mode the rest is read as what it looks like, for
/// its mistakes.
fn read_shape(table: &mut Table<'_>, mode: Option<ModeKind>) -> Shape {
    let looks_of_packets = table.has("vip") && !table.has("listen");
    match mode {
        Some(ModeKind::L2) => {
            let help = "leave it out: l2 writes another MAC address and nothing else; or set `mode = \"l3\"`";
            wrong_mode(table, "l2", "l3 and l4 services", help, &["forward"]);
            Shape::Packets(Known { mode, forward: Some(Forward::Mac) })
        }
        Some(ModeKind::L3) => {
            let item = table.need("forward", "forward = \"nat\"");
            let forward = item.and_then(|item| read_forward(&item, ModeKind::L3, L3_FORWARDS)).flatten();
            Shape::Packets(Known { mode, forward })
        }
        Some(ModeKind::L4) => match table.get("forward").map(|item| read_forward(&item, ModeKind::L4, L4_FORWARDS)) {
            Some(Some(Some(forward))) => Shape::Packets(Known { mode, forward: Some(forward) }),
            Some(None) if looks_of_packets => Shape::Packets(Known { mode, forward: None }),
            _ => Shape::Stream,
        },
        Some(ModeKind::L7) => Shape::Http,
        None if looks_of_packets => {
            table.skip("forward");
            Shape::Packets(Known { mode, forward: None })
        }
        None if table.has("route") || !table.has("pool") => Shape::Http,
        None => Shape::Stream,
    }
}

/// `Some(None)` is a proxy.
fn read_forward(item: &Item<'_>, mode: ModeKind, forwards: &[Option<Forward>]) -> Option<Option<Forward>> {
    const PROXY: &str = "proxy";
    let word = |forward: &Option<Forward>| forward.map_or(PROXY, Forward::word);
    if let Some(text) = item.is_text().then(|| item.text()).flatten() {
        let (other, others) = match mode {
            ModeKind::L4 => (ModeKind::L3, L3_FORWARDS),
            _ => (ModeKind::L4, L4_FORWARDS),
        };
        let foreign = |forward: &&Option<Forward>| word(forward) == text.value && !forwards.contains(forward);
        if others.iter().any(|forward| foreign(&forward)) {
            let words = suggest::one_of(forwards.iter().map(word));
            let message = format!("`forward = \"{}\"` is for {} services", text.value, other.word());
            item.report(
                Diagnostic::new(&codes::WRONG_MODE, item.span(), message)
                    .label(format!("this service is {}", mode.word()))
                    .help(format!("one of {words}, or set `mode = \"{}\"`", other.word())),
            );
            return None;
        }
    }
    let words: Vec<(&str, Option<Forward>)> = forwards.iter().map(|forward| (word(forward), *forward)).collect();
    item.one_of(&words).map(|forward| forward.value)
}

fn read_listen(table: &mut Table<'_>, name: &Spanned<Arc<str>>, survey: &mut Survey) -> Vec<Spanned<Listen>> {
    if !table.has("listen") && wrong_packet_vip(table) {
        return Vec::new();
    }
    let Some(item) = table.need("listen", "listen = \":80\"") else { return Vec::new() };
    let items = item.one_or_many();
    if items.is_empty() {
        let message = format!("service {} listens nowhere", quote(name));
        table.report(Diagnostic::new(&codes::MISSING_KEY, item.span(), message).help("as in `listen = \":80\"`"));
    }
    let mut listen = Vec::new();
    for item in items {
        let address = if item.is_table() {
            item.table("listen", |table| table.need("address", "address = \":80\"")?.listen()).flatten()
        } else {
            item.listen()
        };
        let Some(address) = address else { continue };
        refuse_port_zero(table, address.port(), address.span);
        survey.listeners.push(Listener { address, owner: format!("service {}", quote(name)) });
        listen.push(address);
    }
    listen
}

/// Reports a `vip` in place of a `listen`: the service was meant to be one of packets.
fn wrong_packet_vip(table: &mut Table<'_>) -> bool {
    if !table.has("vip") {
        return false;
    }
    table.skip("listen");
    let help = "set `forward = \"nat\"`, or name addresses to listen on: `listen = \":80\"`";
    wrong_mode(table, "a proxy", PACKETS, help, &["vip"]);
    true
}

fn read_limits(table: &mut Table<'_>, http: bool) -> Limits {
    let mut count = |key| {
        let count = table.get(key).and_then(|item| item.integer(1, u64::from(u32::MAX)))?;
        u32::try_from(count.value).ok()
    };
    let max_connections = count("max_connections");
    let max_connections_per_source = count("max_connections_per_source");
    let common = Limits { max_connections, max_connections_per_source, ..Limits::default() };
    if !http {
        wrong_mode(table, "l4", HTTP, SET_HTTP, &["max_requests", "max_body"]);
        return common;
    }
    let max_requests = count("max_requests");
    let max_body = table.get("max_body").and_then(|item| item.size(1, u64::MAX)).map(|size| size.value);
    Limits { max_requests, max_body, ..common }
}

/// `access_log = true`, `false` or the word of a format.
fn read_access(table: &mut Table<'_>, context: Context<'_>) -> Option<access::Format> {
    let Some(item) = table.get("access_log") else { return context.access_default };
    if item.is_text() {
        return item.one_of(ACCESS_FORMATS).map(|format| format.value);
    }
    item.bool()?.value.then_some(context.access_format)
}

fn read_l4(table: &mut Table<'_>, name: &Spanned<Arc<str>>, survey: &mut Survey) -> L4 {
    let pool = table.need("pool", "pool = \"web\"").and_then(|item| read_reference(&item, name, User::Streams, survey));
    let timeouts = table.get("timeouts").and_then(|item| item.table("timeouts", read_l4_timeouts));
    wrong_mode(table, "l4", HTTP, SET_HTTP, &["route", "trusted_proxies", "reason_field", "retries"]);
    wrong_mode(table, "a proxy", PACKETS, "leave it out, or set `forward = \"nat\"`", PACKET_KEYS);
    wrong_mode(table, "a proxy", PACKETS, "leave it out, or set `forward = \"nat\"`", &["source"]);
    L4 { pool: pool.unwrap_or_else(nothing), timeouts: timeouts.unwrap_or(L4_TIMEOUTS) }
}

fn read_l7(
    table: &mut Table<'_>,
    name: &Spanned<Arc<str>>,
    certain: bool,
    context: Context<'_>,
    survey: &mut Survey,
) -> L7 {
    let timeouts = table.get("timeouts").and_then(|item| item.table("timeouts", read_l7_timeouts));
    let trusted: Vec<Network> = table
        .get("trusted_proxies")
        .map(|item| item.one_or_many())
        .unwrap_or_default()
        .iter()
        .filter_map(|item| Some(item.network()?.value))
        .collect();
    let reason_field = table.get("reason_field").and_then(|item| item.bool());
    let retries = table.get("retries").and_then(|item| item.integer(0, RETRIES.into()));
    let has_source = says_source(table);
    let source = read_source(table, context, survey);
    wrong_mode(table, "l7", PACKETS, "leave it out, or set `mode = \"l3\"`", PACKET_KEYS);
    wrong_mode(table, "l7", "l3 and l4 services", "leave it out, or set `mode = \"l3\"`", &["forward"]);
    let mut routes = read_routes(table, name, survey);
    // `pool` of an l7 service: where everything goes that no route takes.
    let default = table.get("pool");
    if let Some(item) = &default
        && let Some(pool) = read_reference(item, name, User::Requests, survey)
    {
        let pattern = Spanned::new(Pattern::ANY, item.key_span());
        let place = item.place();
        routes.push(Route { url: None, pattern, priority: 0, pool, is_default: true, place, found: None });
    }
    if certain && default.is_none() && !table.has("route") && !has_source {
        let message = format!("service {} has no route: every request would be refused", quote(name));
        let help = format!("add `pool = \"…\"` for all requests, or a [[service.{}.route]]", name.value);
        table.report(Diagnostic::new(&codes::NO_ROUTE, name.span, message).help(help));
    }
    L7 {
        timeouts: timeouts.unwrap_or(L7_TIMEOUTS),
        trusted_proxies: trusted,
        reason_field: reason_field.is_none_or(|on| on.value),
        retries: retries.and_then(|n| u8::try_from(n.value).ok()).unwrap_or(RETRIES),
        source,
        routes,
    }
}

/// Where routes come from beside the file. In a packet service `source` is an address: one here is told so with the other keys.
fn read_source(table: &mut Table<'_>, context: Context<'_>, survey: &mut Survey) -> Option<Spanned<Settings>> {
    if !says_source(table) {
        wrong_mode(table, "l7", PACKETS, "leave it out, or set `mode = \"l3\"`", &["source"]);
        return None;
    }
    survey.finds_routes = true;
    table.get("source")?.settings(context.catalogs.route_sources)
}

/// Whether `source` says where routes come from, rightly or wrongly.
fn says_source(table: &Table<'_>) -> bool {
    table.holds_table("source") || table.holds_word("source")
}

fn read_routes(table: &mut Table<'_>, name: &Spanned<Arc<str>>, survey: &mut Survey) -> Vec<Route> {
    let Some(item) = table.get("route") else { return Vec::new() };
    if item.is_table() {
        let help = format!("a route starts with [[service.{}.route]], in two brackets: there can be many", name.value);
        table.report(
            Diagnostic::new(&codes::WRONG_KIND, item.span(), "`route` must be a list of tables")
                .label("this is one table")
                .help(help),
        );
    }
    let read = |item: &Item<'_>| item.table("route", |table| read_route(table, item, name, survey));
    item.one_or_many().iter().filter_map(read).flatten().collect()
}

fn read_route(table: &mut Table<'_>, item: &Item<'_>, name: &Spanned<Arc<str>>, survey: &mut Survey) -> Option<Route> {
    let priority = table.get("priority").and_then(|item| item.signed(-PRIORITY, PRIORITY));
    let pool =
        table.need("pool", "pool = \"web\"").and_then(|item| read_reference(&item, name, User::Requests, survey));
    let (url, pattern) = match table.get("url") {
        None => (None, Spanned::new(Pattern::ANY, item.span())),
        Some(url) => {
            let text = url.text()?;
            match Pattern::parse(text.value) {
                Ok(pattern) => (Some(text.value.to_owned()), Spanned::new(pattern, url.span())),
                Err(why) => {
                    let message = format!("{} cannot be the url of a route", quote(text.value));
                    url.report(Diagnostic::new(&codes::BAD_URL, url.span(), message).help(why));
                    return None;
                }
            }
        }
    };
    Some(Route {
        url,
        pattern,
        priority: priority.map_or(0, |p| p.value),
        pool: pool?,
        is_default: false,
        place: item.place(),
        found: None,
    })
}

/// The name of a pool; whether it exists is for `check` to say.
pub(super) fn read_reference(
    item: &Item<'_>,
    service: &Spanned<Arc<str>>,
    user: User,
    survey: &mut Survey,
) -> Option<Spanned<Arc<str>>> {
    let pool = item.text()?.map(Arc::<str>::from);
    survey.references.push(Reference { pool: pool.clone(), service: service.value.clone(), user });
    Some(pool)
}

/// Reports keys that are for `whom`, in a service that is `own`.
pub(super) fn wrong_mode(table: &mut Table<'_>, own: &str, whom: &str, help: &str, keys: &[&'static str]) {
    for key in keys {
        if let Some(item) = table.has(key).then(|| table.get(key)).flatten() {
            table.report(
                Diagnostic::new(&codes::WRONG_MODE, item.key_span(), format!("`{key}` is for {whom}"))
                    .label(format!("this service is {own}"))
                    .help(help),
            );
        }
    }
}

fn read_l4_timeouts(table: &mut Table<'_>) -> L4Timeouts {
    wrong_mode(table, "l4", HTTP, SET_HTTP, &["header", "response", "body", "client", "tunnel"]);
    let mut wait = |key, default| read_wait(table, key, default);
    L4Timeouts { idle: wait("idle", L4_TIMEOUTS.idle), half_close: wait("half_close", L4_TIMEOUTS.half_close) }
}

fn read_l7_timeouts(table: &mut Table<'_>) -> L7Timeouts {
    let mut wait = |key, default| read_wait(table, key, default);
    L7Timeouts {
        header: wait("header", L7_TIMEOUTS.header),
        idle: wait("idle", L7_TIMEOUTS.idle),
        response: wait("response", L7_TIMEOUTS.response),
        body: wait("body", L7_TIMEOUTS.body),
        client: wait("client", L7_TIMEOUTS.client),
        tunnel: wait("tunnel", L7_TIMEOUTS.tunnel),
        half_close: wait("half_close", L7_TIMEOUTS.half_close),
    }
}

fn read_wait(table: &mut Table<'_>, key: &'static str, default: Duration) -> Duration {
    table.get(key).and_then(|item| item.duration(SHORTEST, LONGEST)).map_or(default, |wait| wait.value)
}

/// Stands for a pool whose name could not be read; the mistake is reported.
pub(super) fn nothing() -> Spanned<Arc<str>> {
    Spanned::implied(Arc::from(""))
}

const MODES: [ModeKind; 4] = [ModeKind::L2, ModeKind::L3, ModeKind::L4, ModeKind::L7];
const L3_FORWARDS: &[Option<Forward>] =
    &[Some(Forward::Nat), Some(Forward::FullNat), Some(Forward::Ipip), Some(Forward::Gue)];
/// `None`: the proxy.
const L4_FORWARDS: &[Option<Forward>] = &[None, Some(Forward::Nat), Some(Forward::FullNat)];

/// Whom keys are for, and how a service becomes one.
const HTTP: &str = "l7 services";
const SET_HTTP: &str = "leave it out, or set `mode = \"l7\"`";
const PACKETS: &str = "services that forward packets: l2, l3, and l4 with nat";
const PACKET_KEYS: &[&str] = &["ports", "engine", "slots", "affinity", "on_down", "flow_timeouts"];

/// Attempts after the first, of `limits::TRIES` in all.
#[allow(clippy::cast_possible_truncation, reason = "TRIES is a handful")]
const RETRIES: u8 = limits::TRIES as u8 - 1;

const PRIORITY: i64 = 1_000_000;

/// Timers tick every 50 ms (`limits::TIMER_TICK`): less than this is not kept.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Idle: longer than a person thinks, shorter than a forgotten connection lives. Half-close: time for the last reply.
const L4_TIMEOUTS: L4Timeouts = L4Timeouts { idle: Duration::from_secs(600), half_close: Duration::from_secs(60) };

/// `notes/hardening.md`, design rule 4 and F1-F4; tunnels idle for an hour, as is usual for WebSockets.
const L7_TIMEOUTS: L7Timeouts = L7Timeouts {
    header: Duration::from_secs(10),
    idle: Duration::from_secs(60),
    response: Duration::from_secs(60),
    body: Duration::from_secs(10),
    client: Duration::from_secs(30),
    tunnel: Duration::from_secs(3600),
    half_close: Duration::from_secs(60),
};
