//! Wiring: what `strata status` prints. A pure function from the admin API's document to text for a person's eyes.
//!
//! Names come from the configuration and causes from probes: control characters in them are shown escaped. Not here: asking
//! (`admin::Client`), nor `--json`, which prints the document as it came.

use std::fmt::Write as _;

use crate::admin::document::{Drop, Endpoint, Packets, Pool, Service, Source, Status, Vip};

/// The whole document, aligned; in colour for a terminal that shows it.
pub fn render(status: &Status, colour: bool) -> String {
    let mut out = Out { text: String::new(), colour };
    head(&mut out, status);
    if !status.services.is_empty() {
        out.line("");
        services(&mut out, &status.services);
    }
    if !status.vips.is_empty() {
        out.line("");
        vips(&mut out, &status.vips);
    }
    if let Some(engine) = &status.packets {
        out.line("");
        packets(&mut out, engine);
    }
    if !status.sources.is_empty() {
        out.line("");
        sources(&mut out, &status.sources);
    }
    for each in &status.pools {
        out.line("");
        pool(&mut out, each, &status.services);
    }
    out.text
}

fn head(out: &mut Out, status: &Status) {
    let (word, style) = match (status.ready, status.draining) {
        (_, true) => ("draining", Style::Warn),
        (true, _) => ("ready", Style::Good),
        (false, _) => ("not ready", Style::Bad),
    };
    let version = format!("strata {}", status.version);
    let facts = format!(
        "up {}, generation {}, {}, {}",
        span(status.uptime_ms),
        status.generation,
        counted(status.workers as u64, "worker"),
        counted(status.connections, "connection"),
    );
    let line = format!("{}  {}  {facts}", out.paint(&version, Style::Strong), out.paint(word, style));
    out.line(&line);
    if !status.last_reload_successful {
        let warning = format!("the last reload was rejected: generation {} serves on", status.generation);
        let line = out.paint(&warning, Style::Bad);
        out.line(&line);
        out.line("why: strata events, or strata check FILE");
    }
    if status.warnings > 0 {
        let warning = format!("{}: strata check FILE", counted(status.warnings as u64, "warning"));
        let line = out.paint(&warning, Style::Warn);
        out.line(&line);
    }
    if status.probes_static {
        let warning = "probes reach nobody, and this machine is cut off: endpoints keep the state they had";
        let line = out.paint(warning, Style::Bad);
        out.line(&line);
    }
}

fn services(out: &mut Out, services: &[Service]) {
    let packets = services.iter().any(forwards);
    let proxies = !services.iter().all(forwards);
    let mut table = Table::new([
        ("SERVICE", Left, true),
        ("MODE", Left, true),
        ("ENGINE", Left, packets),
        ("LISTEN", Left, true),
        ("OPEN", Right, proxies),
        ("CONNECTIONS", Right, proxies),
        ("REQUESTS", Right, proxies),
        ("5XX", Right, proxies),
        ("PACKETS", Right, packets),
        ("RECEIVED", Right, true),
        ("SENT", Right, true),
        ("POOLS", Left, true),
    ]);
    for service in services {
        // A mode that knows no requests has no count of them, rather than zero.
        let of_requests = |n: u64| if service.mode == "l7" { count(n) } else { "-".to_owned() };
        let failed = if service.server_errors_total > 0 { Style::Warn } else { Style::Plain };
        let carried = if service.engine == "none" { Style::Bad } else { Style::Plain };
        table.row([
            Cell::new(&service.name, Style::Strong),
            Cell::plain(&mode(service)),
            Cell::new(&service.engine, carried),
            Cell::plain(&service.listen.join(", ")),
            Cell::plain(&known(service.connections, count)),
            Cell::plain(&known(service.connections_total, count)),
            Cell::plain(&of_requests(service.requests_total)),
            Cell::new(&of_requests(service.server_errors_total), failed),
            Cell::plain(&known(service.packets_total, count)),
            Cell::plain(&size(service.bytes_received_total)),
            Cell::plain(&known(service.bytes_sent_total, size)),
            Cell::plain(&service.pools.join(", ")),
        ]);
        table.counted("drops", &service.drops);
        if let Some(marked @ 1..) = service.slots_marked {
            table.note(format!("  slots: {} in transition", count(marked)));
        }
    }
    table.print(out);
}

fn forwards(service: &Service) -> bool {
    service.packets_total.is_some()
}

/// `l3 gue`; `l2` has one way to forward only.
pub(super) fn mode(service: &Service) -> String {
    match service.forward.as_deref() {
        None | Some("mac") => service.mode.clone(),
        Some(forward) => format!("{} {forward}", service.mode),
    }
}

fn vips(out: &mut Out, vips: &[Vip]) {
    let columns =
        [("VIP", Left), ("OWNER", Left), ("CONFLICTS", Right), ("ADDRESS", Left), ("MAC", Left), ("INTERFACE", Left)];
    let mut table = Table::new(columns.map(|(title, side)| (title, side, true)));
    for vip in vips {
        let (owner, style) = if vip.owner { ("yes", Style::Good) } else { ("no", Style::Bad) };
        let claimed = if vip.conflicts_total > 0 { Style::Warn } else { Style::Plain };
        for (nth, at) in vip.addresses.iter().enumerate() {
            table.row([
                Cell::new(if nth == 0 { &vip.name } else { "" }, Style::Strong),
                Cell::new(if nth == 0 { owner } else { "" }, style),
                Cell::new(&if nth == 0 { count(vip.conflicts_total) } else { String::new() }, claimed),
                Cell::plain(&at.address),
                Cell::plain(at.mac.as_deref().unwrap_or("-")),
                Cell::new(&vip.interface, if at.mac.is_some() { Style::Plain } else { Style::Bad }),
            ]);
        }
    }
    table.print(out);
}

fn sources(out: &mut Out, sources: &[Source]) {
    let routes = sources.iter().any(|source| source.table.starts_with("service."));
    let mut table = Table::new([
        ("SOURCE", Left, true),
        ("KIND", Left, true),
        ("LOOKS AT", Left, true),
        ("STATE", Left, true),
        ("MEMBERS", Right, true),
        ("LEAVING", Right, true),
        ("ROUTES", Right, routes),
    ]);
    for source in sources {
        let (state, style) = match (source.up, &source.failure) {
            (true, _) => ("answers", Style::Good),
            (false, Some(_)) => ("fails", Style::Bad),
            (false, None) => ("is asked", Style::Warn),
        };
        table.row([
            Cell::new(&source.table, Style::Strong),
            Cell::plain(&source.kind),
            Cell::plain(&source.about),
            Cell::new(state, style),
            Cell::plain(&count(source.members as u64)),
            Cell::new(&count(source.leaving as u64), if source.leaving > 0 { Style::Warn } else { Style::Plain }),
            Cell::plain(&count(source.routes as u64)),
        ]);
        if let Some(failure) = &source.failure {
            table.note(format!("  fails: {}", clean(failure)));
        }
        table.counted("refused", &source.refused);
    }
    table.print(out);
}

fn packets(out: &mut Out, packets: &Packets) {
    let of = |n: usize, most: usize| format!("{} of {}", count(n as u64), count(most as u64));
    let line = format!(
        "{}  {} flow records, {} translated flows",
        out.paint("packets", Style::Strong),
        of(packets.flow_records, packets.flow_records_limit),
        of(packets.nat_flows, packets.nat_flows_limit)
    );
    out.line(&line);
    let mut table = Table::new([
        ("INTERFACE", Left, true),
        ("WORKERS", Right, true),
        ("FRAMES RECEIVED", Right, true),
        ("FRAMES SENT", Right, true),
        ("LOST", Right, true),
    ]);
    for interface in &packets.interfaces {
        let lost = interface.lost.iter().map(|lost| lost.count).sum();
        let served = if interface.workers > 0 { Style::Plain } else { Style::Bad };
        table.row([
            Cell::plain(&interface.name),
            Cell::new(&count(interface.workers), served),
            Cell::plain(&count(interface.frames_received_total)),
            Cell::plain(&count(interface.frames_sent_total)),
            Cell::new(&count(lost), if lost > 0 { Style::Warn } else { Style::Plain }),
        ]);
        table.counted("lost", &interface.lost);
    }
    table.counted("drops of no service", &packets.drops);
    table.print(out);
}

fn pool(out: &mut Out, pool: &Pool, services: &[Service]) {
    let usable = format!("{} of {} usable", pool.usable, pool.endpoints.len());
    let style = match pool.usable {
        0 => Style::Bad,
        n if n < pool.endpoints.len() => Style::Warn,
        _ => Style::Good,
    };
    let probe = pool.probe.as_ref().map_or("no probe".to_owned(), |probe| format!("{probe} probe"));
    let name = format!("pool {}", clean(&pool.name));
    let special = match (pool.panic, pool.backup, pool.local) {
        (true, ..) => "  panic: all serve that are not drained",
        (_, true, _) => "  backups serve",
        (.., true) => "  this node's zone serves",
        _ => "",
    };
    let waiting = if pool.queue > 0 { format!("  {} waiting", count(pool.queue.into())) } else { String::new() };
    let line = format!(
        "{}  {}  {}, {}{}{}",
        out.paint(&name, Style::Strong),
        out.paint(&usable, style),
        clean(&pool.balance),
        clean(&probe),
        out.paint(special, if pool.local { Style::Plain } else { Style::Warn }),
        out.paint(&waiting, Style::Warn)
    );
    out.line(&line);
    endpoints(out, pool, services);
}

fn endpoints(out: &mut Out, pool: &Pool, services: &[Service]) {
    let packets = pool.endpoints.iter().any(|endpoint| endpoint.packets_sent_total.is_some());
    let proxies = !packets || services.iter().any(|service| !forwards(service) && service.pools.contains(&pool.name));
    let mut table = Table::new([
        ("ENDPOINT", Left, true),
        ("STATE", Left, true),
        ("SINCE", Right, true),
        ("WEIGHT", Right, true),
        ("IN FLIGHT", Right, proxies),
        ("REQUESTS", Right, proxies),
        ("ERRORS", Right, proxies),
        ("PACKETS", Right, packets),
        ("SENT", Right, packets),
        ("RECEIVED", Right, packets),
        ("CAUSE", Left, true),
    ]);
    for endpoint in &pool.endpoints {
        let (state, style) = state(endpoint);
        let failed = if endpoint.errors_total > 0 { Style::Warn } else { Style::Plain };
        let both = |sent: u64| sent + endpoint.packets_received_total.unwrap_or(0);
        table.row([
            Cell::plain(&endpoint.name),
            Cell::new(&state, style),
            Cell::plain(&endpoint.since_ms.map_or("-".to_owned(), span)),
            Cell::plain(&weight(endpoint)),
            Cell::plain(&count(endpoint.in_flight.into())),
            Cell::plain(&count(endpoint.requests_total)),
            Cell::new(&count(endpoint.errors_total), failed),
            Cell::plain(&known(endpoint.packets_sent_total.map(both), count)),
            Cell::plain(&known(endpoint.bytes_sent_total, size)),
            Cell::plain(&known(endpoint.bytes_received_total, size)),
            Cell::plain(endpoint.cause.as_deref().unwrap_or_default()),
        ]);
    }
    table.print(out);
}

/// And the share of it that is in force while it warms up.
pub(super) fn weight(endpoint: &Endpoint) -> String {
    let share = endpoint.warmth_percent.map_or(String::new(), |percent| format!(" ({percent} %)"));
    format!("{}{share}", endpoint.weight)
}

/// What is not known is no zero.
fn known(n: Option<u64>, shown: fn(u64) -> String) -> String {
    n.map_or("-".to_owned(), shown)
}

/// What is seen, and what the operator wants where that is something else than work.
pub(super) fn state(endpoint: &Endpoint) -> (String, Style) {
    if endpoint.leaving {
        return (format!("leaving ({})", endpoint.health), Style::Warn);
    }
    if endpoint.intent != "ready" {
        return (format!("{} ({})", endpoint.intent, endpoint.health), Style::Warn);
    }
    let style = match endpoint.health.as_str() {
        "up" => Style::Good,
        "probing" => Style::Warn,
        _ => Style::Bad,
    };
    let role = if endpoint.backup { " (backup)" } else { "" };
    (format!("{}{role}", endpoint.health), style)
}

/// The text so far, and whether it is coloured.
struct Out {
    text: String,
    colour: bool,
}

impl Out {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn paint(&self, text: &str, style: Style) -> String {
        match style.code().filter(|_| self.colour) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
}

impl Style {
    pub(super) const fn code(self) -> Option<&'static str> {
        match self {
            Style::Plain => None,
            Style::Strong => Some("1"),
            Style::Faint => Some("2"),
            Style::Good => Some("32"),
            Style::Warn => Some("33"),
            Style::Bad => Some("31"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}
use Side::{Left, Right};

struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    fn new(text: &str, style: Style) -> Cell {
        Cell { text: clean(text), style }
    }

    fn plain(text: &str) -> Cell {
        Cell::new(text, Style::Plain)
    }
}

struct Table<const N: usize> {
    /// Title, side, and whether it is shown.
    columns: [(&'static str, Side, bool); N],
    rows: Vec<Row<N>>,
}

enum Row<const N: usize> {
    Cells([Cell; N]),
    Note(String),
}

impl<const N: usize> Table<N> {
    fn new(columns: [(&'static str, Side, bool); N]) -> Table<N> {
        Table { columns, rows: vec![Row::Cells(columns.map(|(title, ..)| Cell::new(title, Style::Faint)))] }
    }

    fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(Row::Cells(cells));
    }

    fn note(&mut self, note: String) {
        self.rows.push(Row::Note(note));
    }

    /// A note of the first few reasons, where there is one.
    fn counted(&mut self, what: &str, reasons: &[Drop]) {
        let shown: Vec<String> =
            reasons.iter().take(DROPS).map(|drop| format!("{} {}", clean(&drop.reason), count(drop.count))).collect();
        if !shown.is_empty() {
            let more = if reasons.len() > DROPS { ", …" } else { "" };
            self.note(format!("  {what}: {}{more}", shown.join(", ")));
        }
    }

    fn print(&self, out: &mut Out) {
        let mut widths = [0_usize; N];
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = cell.text.chars().count().max(*width);
                }
            }
        }
        for row in &self.rows {
            let line = match row {
                Row::Note(note) => out.paint(note, Style::Faint),
                Row::Cells(cells) => {
                    let mut line = String::new();
                    let shown = cells.iter().zip(widths).zip(self.columns).filter(|(_, (_, _, shown))| *shown);
                    for ((cell, width), (_, side, _)) in shown {
                        let space = " ".repeat(width - cell.text.chars().count());
                        let text = out.paint(&cell.text, cell.style);
                        let _ = match side {
                            Left => write!(line, "{text}{space}  "),
                            Right => write!(line, "{space}{text}  "),
                        };
                    }
                    line
                }
            };
            out.line(&line);
        }
    }
}

pub(super) fn clean(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

pub(super) fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `950`, `12.3k`, `4.5M`, `7.0G`.
pub(super) fn count(n: u64) -> String {
    scaled(n, 1000, &["", "k", "M", "G", "T"])
}

/// `950 B`, `12.3 KiB`.
pub(super) fn size(bytes: u64) -> String {
    scaled(bytes, 1024, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// Up to `10 * step` of the smallest unit in full, above that with one decimal; rounded down, so that nothing is shown that was
/// not reached.
fn scaled(n: u64, step: u64, units: &[&str]) -> String {
    if n < 10 * step {
        return format!("{n}{}", units.first().unwrap_or(&""));
    }
    let (mut whole, mut tenths, mut unit) = (n, 0, 0);
    while whole >= step && unit + 1 < units.len() {
        tenths = whole % step * 10 / step;
        whole /= step;
        unit += 1;
    }
    format!("{whole}.{tenths}{}", units.get(unit).unwrap_or(&""))
}

/// `350ms`, `12s`, `5m 3s`, `2h 10m`, `3d 4h`.
pub(super) fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}

/// Reasons shown of a service; the others are in `--json` and in the metrics.
const DROPS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::document::{Interface, VipAddress};

    fn status() -> Status {
        let endpoint = |name: &str, health: &str, usable| Endpoint {
            name: name.into(),
            address: name.into(),
            intent: "ready".into(),
            health: health.into(),
            usable,
            weight: 1,
            since_ms: Some(303_000),
            requests_total: 12_345,
            ..Endpoint::default()
        };
        let down = Endpoint {
            cause: Some("status 503".into()),
            errors_total: 7,
            since_ms: Some(900),
            ..endpoint("10.0.0.12:80", "down", false)
        };
        let drained = Endpoint { intent: "draining".into(), weight: 20, ..endpoint("10.0.0.9:80", "up", false) };
        let up = Endpoint { backup: true, warmth_percent: Some(40), ..endpoint("10.0.0.11:80", "up", true) };
        Status {
            version: "1.2.3".into(),
            generation: 4,
            uptime_ms: 7_500_000,
            ready: true,
            workers: 2,
            connections: 17,
            last_reload_successful: true,
            services: vec![
                Service {
                    name: "edge".into(),
                    mode: "l7".into(),
                    listen: vec![":80".into(), "127.0.0.1:8080".into()],
                    pools: vec!["api".into(), "web".into()],
                    engine: "http".into(),
                    connections: Some(16),
                    connections_total: Some(99),
                    requests_total: 1_234_567,
                    server_errors_total: 3,
                    bytes_received_total: 9_000,
                    bytes_sent_total: Some(5_000_000_000),
                    drops: vec![
                        Drop { reason: "no-route".into(), count: 12 },
                        Drop { reason: "bad-host".into(), count: 1 },
                    ],
                    ..Service::default()
                },
                Service {
                    name: "db".into(),
                    mode: "l4".into(),
                    engine: "proxy".into(),
                    listen: vec![":5432".into()],
                    connections: Some(0),
                    connections_total: Some(0),
                    bytes_sent_total: Some(0),
                    ..Service::default()
                },
            ],
            pools: vec![Pool {
                name: "web".into(),
                balance: "p2c".into(),
                probe: Some("http".into()),
                usable: 1,
                backup: true,
                endpoints: vec![up, down, drained],
                ..Pool::default()
            }],
            ..Status::default()
        }
    }

    #[test]
    fn a_status_is_aligned_for_a_persons_eyes() {
        assert_eq!(
            render(&status(), false),
            "\
strata 1.2.3  ready  up 2h 5m, generation 4, 2 workers, 17 connections

SERVICE  MODE  LISTEN               OPEN  CONNECTIONS  REQUESTS  5XX  RECEIVED     SENT  POOLS
edge     l7    :80, 127.0.0.1:8080    16           99      1.2M    3    9000 B  4.6 GiB  api, web
  drops: no-route 12, bad-host 1
db       l4    :5432                   0            0         -    -       0 B      0 B

pool web  1 of 3 usable  p2c, http probe  backups serve
ENDPOINT      STATE          SINCE    WEIGHT  IN FLIGHT  REQUESTS  ERRORS  CAUSE
10.0.0.11:80  up (backup)    5m 3s  1 (40 %)          0     12.3k       0
10.0.0.12:80  down           900ms         1          0     12.3k       7  status 503
10.0.0.9:80   draining (up)  5m 3s        20          0     12.3k       0
"
        );
    }

    /// Two packet services of a VIP beside the others: one whose answers come by here, and one whose do not.
    fn every_layer() -> Status {
        let before = status();
        let service = |name: &str, mode: &str, forward: &str, engine: &str| Service {
            name: name.into(),
            mode: mode.into(),
            forward: Some(forward.into()),
            engine: engine.into(),
            listen: vec!["10.0.0.100:80/tcp".into()],
            pools: vec![name.into()],
            packets_total: Some(12_345),
            slots_marked: Some(0),
            bytes_received_total: 1_000,
            ..Service::default()
        };
        let drop = |reason: &str, count| Drop { reason: reason.into(), count };
        let packets = Packets {
            flow_records: 12,
            flow_records_limit: 524_288,
            nat_flows_limit: 131_072,
            drops: vec![drop("no-service", 4)],
            interfaces: vec![Interface {
                name: "eth0".into(),
                workers: 2,
                frames_received_total: 24_690,
                frames_sent_total: 24_600,
                lost: vec![drop("overrun", 80), drop("no-room", 10)],
            }],
            ..Packets::default()
        };
        let endpoint = Endpoint {
            name: "10.0.0.41".into(),
            intent: "ready".into(),
            health: "up".into(),
            usable: true,
            weight: 1,
            packets_sent_total: Some(30),
            bytes_sent_total: Some(2_000),
            packets_received_total: Some(12),
            bytes_received_total: Some(70_000),
            ..Endpoint::default()
        };
        let direct = Endpoint { packets_received_total: None, bytes_received_total: None, ..endpoint.clone() };
        let pool = |name: &str, endpoint| Pool {
            name: name.into(),
            balance: "maglev".into(),
            usable: 1,
            endpoints: vec![endpoint],
            ..Pool::default()
        };
        let address =
            |address: &str, mac: Option<&str>| VipAddress { address: address.into(), mac: mac.map(str::to_owned) };
        Status {
            services: before
                .services
                .into_iter()
                .chain([
                    Service {
                        slots_marked: Some(1024),
                        drops: vec![drop("no-neighbor", 3)],
                        ..service("game", "l2", "mac", "userspace")
                    },
                    Service { bytes_sent_total: Some(5_000), ..service("mail", "l3", "full-nat", "none") },
                ])
                .collect(),
            vips: vec![
                Vip {
                    name: "game".into(),
                    interface: "eth0".into(),
                    addresses: vec![
                        address("10.0.0.100", Some("00:00:5e:00:01:33")),
                        address("fd00::100", Some("00:00:5e:00:02:33")),
                    ],
                    owner: true,
                    conflicts_total: 0,
                },
                Vip {
                    name: "old".into(),
                    interface: "eth7".into(),
                    addresses: vec![address("10.0.0.9", None)],
                    owner: false,
                    conflicts_total: 12,
                },
            ],
            packets: Some(packets),
            pools: vec![pool("game", direct), pool("mail", endpoint)],
            ..before
        }
    }

    #[test]
    fn packets_are_shown_beside_connections_with_the_same_words() {
        assert_eq!(
            render(&every_layer(), false),
            "\
strata 1.2.3  ready  up 2h 5m, generation 4, 2 workers, 17 connections

SERVICE  MODE         ENGINE     LISTEN               OPEN  CONNECTIONS  REQUESTS  5XX  PACKETS  RECEIVED     SENT  POOLS
edge     l7           http       :80, 127.0.0.1:8080    16           99      1.2M    3        -    9000 B  4.6 GiB  api, web
  drops: no-route 12, bad-host 1
db       l4           proxy      :5432                   0            0         -    -        -       0 B      0 B
game     l2           userspace  10.0.0.100:80/tcp       -            -         -    -    12.3k    1000 B        -  game
  drops: no-neighbor 3
  slots: 1024 in transition
mail     l3 full-nat  none       10.0.0.100:80/tcp       -            -         -    -    12.3k    1000 B   5000 B  mail

VIP   OWNER  CONFLICTS  ADDRESS     MAC                INTERFACE
game  yes            0  10.0.0.100  00:00:5e:00:01:33  eth0
                        fd00::100   00:00:5e:00:02:33  eth0
old   no            12  10.0.0.9    -                  eth7

packets  12 of 524.2k flow records, 0 of 131.0k translated flows
INTERFACE  WORKERS  FRAMES RECEIVED  FRAMES SENT  LOST
eth0             2            24.6k        24.6k    90
  lost: overrun 80, no-room 10
  drops of no service: no-service 4

pool game  1 of 1 usable  maglev, no probe
ENDPOINT   STATE  SINCE  WEIGHT  PACKETS    SENT  RECEIVED  CAUSE
10.0.0.41  up         -       1       30  2000 B         -

pool mail  1 of 1 usable  maglev, no probe
ENDPOINT   STATE  SINCE  WEIGHT  PACKETS    SENT  RECEIVED  CAUSE
10.0.0.41  up         -       1       42  2000 B  68.3 KiB
"
        );
    }

    #[test]
    fn where_there_are_only_packets_nothing_is_said_of_connections() {
        let mut status = every_layer();
        status.services.drain(..2);
        let text = render(&status, false);
        assert!(!text.contains("CONNECTIONS") && !text.contains("REQUESTS") && text.contains("PACKETS"), "{text}");
    }

    #[test]
    fn colour_changes_no_column() {
        let coloured = render(&status(), true);
        for (word, code) in [("ready", "32"), ("down", "31"), ("draining (up)", "33"), ("1 of 3 usable", "33")] {
            assert!(coloured.contains(&format!("\x1b[{code}m{word}\x1b[0m")), "{word}");
        }
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            plain.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        plain.push_str(rest);
        let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
        let expected = render(&status(), false);
        assert_eq!(trimmed, expected.lines().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_wrong_is_said_first() {
        let status = Status { ready: false, last_reload_successful: false, ..status() };
        let text = render(&status, false);
        assert!(text.starts_with("strata 1.2.3  not ready"), "{text}");
        assert!(text.lines().nth(1).unwrap().contains("last reload was rejected: generation 4 serves on"), "{text}");
        let draining = Status { draining: true, ready: false, ..status };
        assert!(render(&draining, false).contains("draining  up"));
    }

    #[test]
    fn no_name_or_cause_reaches_the_terminal_as_a_command() {
        let mut status = status();
        status.pools[0].endpoints[0].cause = Some("\x1b[2Jgone\nx".into());
        status.pools[0].name = "a\x1b[31m".into();
        let text = render(&status, false);
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.contains("\\u{1b}[2Jgone\\nx"), "{text}");
    }

    #[test]
    fn numbers_are_short_and_never_rounded_up() {
        for (n, want) in [(0, "0"), (9_999, "9999"), (10_000, "10.0k"), (999_999, "999.9k"), (1_000_000, "1.0M")] {
            assert_eq!(count(n), want);
        }
        for (n, want) in [(10_239, "10239 B"), (10_240, "10.0 KiB"), (1 << 30, "1.0 GiB"), (u64::MAX, "16777215.9 TiB")]
        {
            assert_eq!(size(n), want);
        }
        for (ms, want) in [(0, "0ms"), (59_999, "59s"), (60_000, "1m 0s"), (3_600_000, "1h 0m"), (90_000_000, "1d 1h")]
        {
            assert_eq!(span(ms), want);
        }
    }
}
