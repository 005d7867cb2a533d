//! Engine: reads one `[service.NAME]`: what clients reach, and where it leads.

use std::sync::Arc;
use std::time::Duration;

use super::lore::LATER_MODES;
use super::root::{ACCESS_FORMATS, Listener, Reference, Survey, refuse_port_zero};
use super::value::{L4, L4Timeouts, L7, L7Timeouts, Limits, Line, Route, Service, Traffic};
use crate::base::{Listen, Network, limits};
use crate::doc::{Diagnostic, Item, Spanned, Table, codes, quote};
use crate::observe::access;
use crate::route::Pattern;

/// What a service's reader needs of the rest of the file.
pub(super) struct Context<'a> {
    /// Where each line of the file starts.
    pub line_starts: &'a [usize],
    /// Whether services write access records unless they say otherwise: whether `[access_log]` is there.
    pub access_default: Option<access::Format>,
    pub access_format: access::Format,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    L4,
    L7,
}

impl Mode {
    const fn word(self) -> &'static str {
        match self {
            Mode::L4 => "l4",
            Mode::L7 => "l7",
        }
    }
}

/// `None` when not even the mode is known; what it refers to is in `survey` all the same.
pub(super) fn read_service(
    name: Spanned<Arc<str>>,
    item: &Item<'_>,
    context: &Context<'_>,
    survey: &mut Survey,
) -> Option<Service> {
    item.table("service", |table| {
        let mode = match read_mode(table) {
            Some(Said::Later) => {
                // Its keys cannot be judged, and its pool is not unused.
                for (key, item) in table.entries() {
                    if key.value == "pool" && item.is_text() {
                        read_reference(&item, &name, true, survey);
                    }
                }
                return None;
            }
            Some(Said::Mode(mode)) => Some(mode),
            None => None,
        };
        // Without a mode the rest is read as what it looks like, for its mistakes.
        let looks = mode.unwrap_or(if table.has("route") || !table.has("pool") { Mode::L7 } else { Mode::L4 });
        let listen = read_listen(table, &name, survey);
        let limits = table.get("limits").and_then(|item| item.table("limits", |table| read_limits(table, looks)));
        let access_log = read_access(table, context);
        let traffic = match looks {
            Mode::L4 => Traffic::L4(read_l4(table, &name, survey)),
            Mode::L7 => Traffic::L7(read_l7(table, &name, mode.is_some(), context, survey)),
        };
        mode.map(|_| Service { name, listen, limits: limits.unwrap_or_default(), access_log, traffic })
    })?
}

/// What a service says it is.
enum Said {
    Mode(Mode),
    /// A mode that is planned.
    Later,
}

fn read_mode(table: &mut Table<'_>) -> Option<Said> {
    let item = table.need("mode", "mode = \"l7\"")?;
    if let Some(word) = item.is_text().then(|| item.text()).flatten()
        && LATER_MODES.contains(&word.value)
    {
        let message = format!("mode {} is not available yet", quote(&word));
        table.report(Diagnostic::new(&codes::NOT_YET, item.span(), message).help("`l4` and `l7` are available"));
        return Some(Said::Later);
    }
    item.one_of(&[("l4", Mode::L4), ("l7", Mode::L7)]).map(|mode| Said::Mode(mode.value))
}

fn read_listen(table: &mut Table<'_>, name: &Spanned<Arc<str>>, survey: &mut Survey) -> Vec<Spanned<Listen>> {
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

fn read_limits(table: &mut Table<'_>, mode: Mode) -> Limits {
    let mut count = |key| {
        let count = table.get(key).and_then(|item| item.integer(1, u64::from(u32::MAX)))?;
        u32::try_from(count.value).ok()
    };
    let max_connections = count("max_connections");
    let max_connections_per_source = count("max_connections_per_source");
    let common = Limits { max_connections, max_connections_per_source, ..Limits::default() };
    if mode == Mode::L4 {
        wrong_mode(table, mode, &["max_requests", "max_body"]);
        return common;
    }
    let max_requests = count("max_requests");
    let max_body = table.get("max_body").and_then(|item| item.size(1, u64::MAX)).map(|size| size.value);
    Limits { max_requests, max_body, ..common }
}

/// `access_log = true`, `false` or the word of a format.
fn read_access(table: &mut Table<'_>, context: &Context<'_>) -> Option<access::Format> {
    let Some(item) = table.get("access_log") else { return context.access_default };
    if item.is_text() {
        return item.one_of(ACCESS_FORMATS).map(|format| format.value);
    }
    item.bool()?.value.then_some(context.access_format)
}

fn read_l4(table: &mut Table<'_>, name: &Spanned<Arc<str>>, survey: &mut Survey) -> L4 {
    let pool = table.need("pool", "pool = \"web\"").and_then(|item| read_reference(&item, name, false, survey));
    let timeouts = table.get("timeouts").and_then(|item| item.table("timeouts", read_l4_timeouts));
    wrong_mode(table, Mode::L4, &["route", "trusted_proxies", "reason_field", "retries"]);
    L4 { pool: pool.unwrap_or_else(nothing), timeouts: timeouts.unwrap_or(L4_TIMEOUTS) }
}

fn read_l7(
    table: &mut Table<'_>,
    name: &Spanned<Arc<str>>,
    certain: bool,
    context: &Context<'_>,
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
    let mut routes = read_routes(table, name, context, survey);
    // `pool` of an l7 service: where everything goes that no route takes.
    let default = table.get("pool");
    if let Some(item) = &default
        && let Some(pool) = read_reference(item, name, true, survey)
    {
        let pattern = Spanned::new(Pattern::ANY, item.key_span());
        routes.push(Route { url: None, pattern, priority: 0, pool, line: line(context, item) });
    }
    if certain && default.is_none() && !table.has("route") {
        let message = format!("service {} has no route: every request would be refused", quote(name));
        let help = format!("add `pool = \"…\"` for all requests, or a [[service.{}.route]]", name.value);
        table.report(Diagnostic::new(&codes::NO_ROUTE, name.span, message).help(help));
    }
    L7 {
        timeouts: timeouts.unwrap_or(L7_TIMEOUTS),
        trusted_proxies: trusted,
        reason_field: reason_field.is_none_or(|on| on.value),
        retries: retries.and_then(|n| u8::try_from(n.value).ok()).unwrap_or(RETRIES),
        routes,
    }
}

fn read_routes(
    table: &mut Table<'_>,
    name: &Spanned<Arc<str>>,
    context: &Context<'_>,
    survey: &mut Survey,
) -> Vec<Route> {
    let Some(item) = table.get("route") else { return Vec::new() };
    if item.is_table() {
        let help = format!("a route starts with [[service.{}.route]], in two brackets: there can be many", name.value);
        table.report(
            Diagnostic::new(&codes::WRONG_KIND, item.span(), "`route` must be a list of tables")
                .label("this is one table")
                .help(help),
        );
    }
    let read = |item: &Item<'_>| item.table("route", |table| read_route(table, item, name, context, survey));
    item.one_or_many().iter().filter_map(read).flatten().collect()
}

fn read_route(
    table: &mut Table<'_>,
    item: &Item<'_>,
    name: &Spanned<Arc<str>>,
    context: &Context<'_>,
    survey: &mut Survey,
) -> Option<Route> {
    let priority = table.get("priority").and_then(|item| item.signed(-PRIORITY, PRIORITY));
    let pool = table.need("pool", "pool = \"web\"").and_then(|item| read_reference(&item, name, true, survey));
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
    Some(Route { url, pattern, priority: priority.map_or(0, |p| p.value), pool: pool?, line: line(context, item) })
}

/// The name of a pool; whether it exists is for `check` to say.
fn read_reference(
    item: &Item<'_>,
    service: &Spanned<Arc<str>>,
    http: bool,
    survey: &mut Survey,
) -> Option<Spanned<Arc<str>>> {
    let pool = item.text()?.map(Arc::<str>::from);
    survey.references.push(Reference { pool: pool.clone(), service: service.value.clone(), http });
    Some(pool)
}

/// Reports keys that mean something in the other mode only.
fn wrong_mode(table: &mut Table<'_>, mode: Mode, keys: &[&'static str]) {
    for key in keys {
        if let Some(item) = table.has(key).then(|| table.get(key)).flatten() {
            let other = if mode == Mode::L4 { Mode::L7 } else { Mode::L4 };
            let message = format!("`{key}` is for {} services", other.word());
            table.report(
                Diagnostic::new(&codes::WRONG_MODE, item.key_span(), message)
                    .label(format!("this service is {}", mode.word()))
                    .help(format!("leave it out, or set `mode = \"{}\"`", other.word())),
            );
        }
    }
}

fn read_l4_timeouts(table: &mut Table<'_>) -> L4Timeouts {
    wrong_mode(table, Mode::L4, &["header", "response", "body", "client", "tunnel"]);
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

fn line(context: &Context<'_>, item: &Item<'_>) -> Line {
    let line = context.line_starts.partition_point(|start| *start <= item.span().start);
    Line(u32::try_from(line).unwrap_or(u32::MAX))
}

/// Stands for a pool whose name could not be read; the mistake is reported.
fn nothing() -> Spanned<Arc<str>> {
    Spanned::implied(Arc::from(""))
}

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
