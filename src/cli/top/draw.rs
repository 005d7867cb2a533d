//! Engine: a report and a desk, into lines of a given width. Columns that do not fit are left out, the least important first.
//!
//! Texts are clean and one column a character when they come here (`rates`). Not here: escape sequences but for colour.

use std::fmt::Write as _;

use super::super::status::{Style, count, counted, size, span};
use super::desk::{Desk, Id, Mode};
use super::rates::{DropRate, EndpointRow, PoolRow, Report, ServiceRow, Tone};
use crate::health::Intent;

/// A line of the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    spans: Vec<(String, Style)>,
    /// Whose row it is.
    id: Option<Id>,
    selected: bool,
}

impl Line {
    fn of(text: impl Into<String>, style: Style) -> Line {
        Line { spans: vec![(text.into(), style)], ..Line::default() }
    }

    /// Cut to `width`, in colour or not. The selected one is shown reversed where it can be, and always marked.
    pub fn render(&self, width: usize, colour: bool, reverse: bool) -> String {
        let (mut out, mut room) = (String::new(), width);
        let reversed = reverse && self.selected;
        if reversed {
            out.push_str("\x1b[7m");
        }
        for (text, style) in &self.spans {
            let cut: String = text.chars().take(room).collect();
            room -= cut.chars().count();
            match style.code().filter(|_| colour && !reversed) {
                Some(code) => _ = write!(out, "\x1b[{code}m{cut}\x1b[0m"),
                None => out.push_str(&cut),
            }
        }
        if reversed {
            out.push_str("\x1b[0m");
        }
        out
    }
}

/// The whole screen: at most `height` lines.
pub fn screen(report: &Report, desk: &Desk, width: usize, height: usize) -> Vec<Line> {
    let mut lines = head(report);
    lines.push(Line::of(bar(desk), Style::Plain));
    lines.extend(desk.trouble.as_ref().map(|why| Line::of(why.clone(), Style::Bad)));
    lines.truncate(height.saturating_sub(1));
    let room = height.saturating_sub(lines.len() + 1);
    let body = if desk.mode == Mode::Help { help() } else { body(report, desk.selected.as_ref(), width) };
    let at = body.iter().position(|line| line.selected).unwrap_or(0);
    // What is selected is in the middle, but for the ends.
    let first = at.saturating_sub(room / 2).min(body.len().saturating_sub(room));
    let shown = body.into_iter().skip(first).take(room);
    lines.extend(shown);
    lines.resize(height.saturating_sub(1), Line::default());
    lines.push(foot(desk, width));
    lines
}

/// The same for a script: all of it, and nothing of a desk.
pub fn page(report: &Report, width: usize) -> Vec<Line> {
    let mut lines = head(report);
    lines.extend(body(report, None, width));
    lines
}

fn head(report: &Report) -> Vec<Line> {
    let (word, style) = match (report.ready, report.draining) {
        (_, true) => ("draining", Style::Warn),
        (true, _) => ("ready", Style::Good),
        (false, _) => ("not ready", Style::Bad),
    };
    let facts = format!(
        "  up {}, generation {}, {}",
        span(report.uptime_ms),
        report.generation,
        counted(report.connections, "connection")
    );
    let title = vec![
        (format!("strata {}", report.version), Style::Strong),
        ("  ".to_owned(), Style::Plain),
        (word.to_owned(), style),
        (facts, Style::Plain),
    ];
    let mut lines = vec![Line { spans: title, ..Line::default() }];
    if !report.last_reload_successful {
        let text = format!("the last reload was rejected: generation {} serves on", report.generation);
        lines.push(Line::of(text, Style::Bad));
    }
    if report.probes_static {
        let text = "probes reach nobody, and this machine is cut off: endpoints keep the state they had";
        lines.push(Line::of(text, Style::Bad));
    }
    lines
}

fn bar(desk: &Desk) -> String {
    let order = if desk.reversed { ", reversed" } else { "" };
    let mut bar = format!("every {:?}  sort: {}{order}", desk.interval, desk.sort.word());
    if !desk.filter.is_empty() || desk.mode == Mode::Filter {
        let _ = write!(bar, "  filter: {}", desk.filter);
    }
    if desk.paused {
        bar.push_str("  paused");
    }
    bar
}

fn foot(desk: &Desk, width: usize) -> Line {
    match (&desk.mode, &desk.message) {
        (Mode::Ask { pool, endpoint, intent }, _) => {
            let (verb, means) = match intent {
                Intent::Draining => ("drain", "no new work; what is open finishes"),
                Intent::Maintenance => ("maintain", "out of service at once, and not probed"),
                Intent::Ready => ("restore", "as the file says"),
            };
            let question = format!("{verb} {} {}? (y/n)", super::rates::text(pool), super::rates::text(endpoint));
            let whole = format!("{question}  {means}");
            Line::of(if whole.len() > width { question } else { whole }, Style::Strong)
        }
        (Mode::Filter, _) => {
            Line::of("type what names, pools, states or causes contain; Enter keeps it, Esc clears it", Style::Faint)
        }
        (Mode::Help, _) => Line::of("any key goes back", Style::Faint),
        (Mode::Browse, Some(Ok(message))) => Line::of(message.clone(), Style::Strong),
        (Mode::Browse, Some(Err(message))) => Line::of(message.clone(), Style::Bad),
        (Mode::Browse, None) => {
            Line::of("q quit  h help  / filter  s sort  p pause  d drain  m maintain  r restore", Style::Faint)
        }
    }
}

fn help() -> Vec<Line> {
    HELP.lines().map(|line| Line::of(line, Style::Plain)).collect()
}

fn body(report: &Report, selected: Option<&Id>, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let tables = [services(report), pools(report), endpoints(report)];
    for table in tables.iter().filter(|table| !table.rows.is_empty()) {
        lines.push(Line::default());
        lines.extend(table.lines(selected, width));
    }
    if let Some(packets) = &report.packets {
        let of = |n: usize, most: usize| format!("{} of {}", count(n as u64), count(most as u64));
        lines.push(Line::default());
        let text = format!(
            "packets  {} flow records, {} translated flows",
            of(packets.flow_records, packets.flow_records_limit),
            of(packets.nat_flows, packets.nat_flows_limit)
        );
        lines.push(Line::of(text, Style::Strong));
        let notes = [note("lost", &packets.lost), note("drops of no service", &packets.drops)];
        lines.extend(notes.into_iter().flatten().map(|note| Line::of(note, Style::Faint)));
    }
    lines
}

fn services(report: &Report) -> Table {
    let mut table = Table::new(&[
        ("SERVICE", Left, 0),
        ("MODE", Left, 3),
        ("REQ/S", Right, 0),
        ("CONN/S", Right, 2),
        ("PKT/S", Right, 0),
        ("P50", Right, 5),
        ("P99", Right, 1),
        ("5XX/S", Right, 0),
        ("DROP/S", Right, 0),
        ("OPEN", Right, 4),
        ("IN/S", Right, 6),
        ("OUT/S", Right, 6),
        ("MARKED", Right, 7),
        ("POOLS", Left, 8),
    ]);
    for row in &report.services {
        let ServiceRow { flow, latency, .. } = row;
        table.row(
            row.id(),
            vec![
                cell(&row.name, if row.engine == "none" { Style::Bad } else { Style::Strong }),
                cell(&row.mode, Style::Plain),
                rate(flow.requests_per_s),
                rate(flow.connections_per_s),
                rate(flow.packets_per_s),
                time(latency.p50_us),
                time(latency.p99_us),
                bad(flow.errors_per_s),
                bad(row.drops_per_s),
                known(row.open.map(count)),
                bytes(flow.received_bytes_per_s),
                bytes(flow.sent_bytes_per_s),
                known(row.slots_marked.map(count)),
                cell(&row.pools.join(", "), Style::Plain),
            ],
            note("drops", &row.drops),
        );
    }
    table
}

fn pools(report: &Report) -> Table {
    let mut table = Table::new(&[
        ("POOL", Left, 0),
        ("USABLE", Right, 0),
        ("SERVES", Left, 2),
        ("REQ/S", Right, 0),
        ("CONN/S", Right, 3),
        ("PKT/S", Right, 0),
        ("P50", Right, 5),
        ("P99", Right, 1),
        ("ERR/S", Right, 0),
        ("RETRY/S", Right, 4),
        ("QUEUE", Right, 2),
        ("BALANCE", Left, 6),
    ]);
    for row in &report.pools {
        let PoolRow { flow, latency, .. } = row;
        let usable = match row.usable {
            0 => Style::Bad,
            n if n < row.of => Style::Warn,
            _ => Style::Good,
        };
        let waiting = if row.queue > 0 { Style::Warn } else { Style::Plain };
        table.row(
            row.id(),
            vec![
                cell(&row.name, Style::Strong),
                cell(&format!("{}/{}", row.usable, row.of), usable),
                cell(&row.marks.join(", "), Style::Warn),
                rate(flow.requests_per_s),
                rate(flow.connections_per_s),
                rate(flow.packets_per_s),
                time(latency.p50_us),
                time(latency.p99_us),
                bad(flow.errors_per_s),
                bad(row.retries_per_s),
                cell(&count(row.queue.into()), waiting),
                cell(&row.balance, Style::Plain),
            ],
            None,
        );
    }
    table
}

fn endpoints(report: &Report) -> Table {
    let mut table = Table::new(&[
        ("ENDPOINT", Left, 0),
        ("POOL", Left, 1),
        ("STATE", Left, 0),
        ("SINCE", Right, 5),
        ("WEIGHT", Right, 6),
        ("REQ/S", Right, 0),
        ("CONN/S", Right, 4),
        ("PKT/S", Right, 0),
        ("ERR/S", Right, 0),
        ("IN FLIGHT", Right, 3),
        ("IN/S", Right, 7),
        ("OUT/S", Right, 7),
        ("CAUSE", Left, 2),
    ]);
    for row in &report.endpoints {
        let EndpointRow { flow, .. } = row;
        let state = match row.style {
            Tone::Good => Style::Good,
            Tone::Warn => Style::Warn,
            Tone::Bad => Style::Bad,
        };
        table.row(
            row.id(),
            vec![
                cell(&row.name, Style::Plain),
                cell(&row.pool, Style::Plain),
                cell(&row.state, state),
                known(row.since_ms.map(span)),
                cell(&row.weight, Style::Plain),
                rate(flow.requests_per_s),
                rate(flow.connections_per_s),
                rate(flow.packets_per_s),
                bad(flow.errors_per_s),
                cell(&count(row.in_flight.into()), Style::Plain),
                bytes(flow.received_bytes_per_s),
                bytes(flow.sent_bytes_per_s),
                cell(&row.cause, Style::Plain),
            ],
            None,
        );
    }
    table
}

/// `drops: no-route 1.5/s (12), bad-host (1)`: the first few reasons, those of now before those of once.
fn note(what: &str, drops: &[DropRate]) -> Option<String> {
    let shown: Vec<String> = drops
        .iter()
        .take(REASONS)
        .map(|drop| match drop.per_s.filter(|per_s| *per_s > 0.0) {
            Some(per_s) => format!("{} {}/s ({})", drop.reason, per_second(per_s), count(drop.total)),
            None => format!("{} ({})", drop.reason, count(drop.total)),
        })
        .collect();
    let more = if drops.len() > REASONS { ", …" } else { "" };
    (!shown.is_empty()).then(|| format!("  {what}: {}{more}", shown.join(", ")))
}

type Cell = (String, Style);

fn cell(text: &str, style: Style) -> Cell {
    (text.to_owned(), style)
}

/// What is not known is no zero.
fn known(text: Option<String>) -> Cell {
    (text.unwrap_or_else(|| "-".to_owned()), Style::Plain)
}

fn rate(per_s: Option<f64>) -> Cell {
    known(per_s.map(per_second))
}

/// A rate that is good at zero only.
fn bad(per_s: Option<f64>) -> Cell {
    (rate(per_s).0, if per_s.is_some_and(|per_s| per_s > 0.0) { Style::Bad } else { Style::Plain })
}

fn bytes(per_s: Option<f64>) -> Cell {
    known(per_s.map(|per_s| size(per_s as u64)))
}

fn time(us: Option<u64>) -> Cell {
    known(us.map(micros))
}

/// `0`, `<0.1`, `7.5`, `950`, `12.3k`.
fn per_second(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        ..0.1 => "<0.1".to_owned(),
        ..10.0 => format!("{rate:.1}"),
        _ => count(rate as u64),
    }
}

/// `350µs`, `1.2ms`, `250ms`, `1.2s`, `60s+`: the histogram does not know more.
fn micros(us: u64) -> String {
    match us {
        0..1000 => format!("{us}µs"),
        1000..10_000 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        10_000..1_000_000 => format!("{}ms", us / 1000),
        1_000_000..60_000_000 => format!("{}.{}s", us / 1_000_000, us % 1_000_000 / 100_000),
        _ => "60s+".to_owned(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}
use Side::{Left, Right};

struct Table {
    /// Title, side, and how soon it is left out where there is no room: 0 never, the largest first.
    columns: Vec<(&'static str, Side, u8)>,
    rows: Vec<(Id, Vec<Cell>, Option<String>)>,
}

impl Table {
    fn new(columns: &[(&'static str, Side, u8)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    fn row(&mut self, id: Id, cells: Vec<Cell>, note: Option<String>) {
        self.rows.push((id, cells, note));
    }

    fn lines(&self, selected: Option<&Id>, width: usize) -> Vec<Line> {
        let widths = self.widths(width);
        let titles = self.columns.iter().map(|(title, ..)| ((*title).to_owned(), Style::Faint)).collect::<Vec<_>>();
        let mut lines = vec![Line { spans: self.spans(&titles, &widths, false), ..Line::default() }];
        for (id, cells, note) in &self.rows {
            let is_selected = selected == Some(id);
            let spans = self.spans(cells, &widths, is_selected);
            lines.push(Line { spans, id: Some(id.clone()), selected: is_selected });
            lines.extend(note.as_ref().map(|note| Line::of(format!("  {note}"), Style::Faint)));
        }
        lines
    }

    /// Of each column; 0: it is left out.
    fn widths(&self, room: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, (title, ..))| {
                let texts = || self.rows.iter().filter_map(|(_, cells, _)| cells.get(at)).map(|(text, _)| text);
                let says = texts().any(|text| !text.is_empty() && text != "-");
                let widest = texts().map(|text| text.chars().count()).max().unwrap_or(0);
                if says { widest.max(title.len()) } else { 0 }
            })
            .collect();
        let last = widths.len().saturating_sub(1);
        let needs = |widths: &[usize], least: bool| {
            let shown = widths.iter().enumerate().filter(|(_, width)| **width > 0);
            shown.map(|(at, width)| GAP + if least && at == last { (*width).min(LEAST) } else { *width }).sum::<usize>()
        };
        while needs(&widths, true) > room {
            // Those that are as important, as bytes received and sent, go together.
            let ranks = widths.iter().zip(&self.columns).filter(|(width, _)| **width > 0).map(|(_, (.., rank))| *rank);
            let Some(least_important @ 1..) = ranks.max() else { break };
            for (width, (.., rank)) in widths.iter_mut().zip(&self.columns) {
                *width = if *rank == least_important { 0 } else { *width };
            }
        }
        // The last column is text, and takes what is left; then the name gives way.
        let over = needs(&widths, false).saturating_sub(room);
        if let Some(width) = widths.last_mut() {
            *width -= over.min(width.saturating_sub(LEAST));
        }
        let over = needs(&widths, false).saturating_sub(room);
        if let Some(width) = widths.first_mut() {
            *width -= over.min(width.saturating_sub(LEAST));
        }
        widths
    }

    fn spans(&self, cells: &[Cell], widths: &[usize], selected: bool) -> Vec<Cell> {
        let mut spans = vec![((if selected { "> " } else { "  " }).to_owned(), Style::Plain)];
        let shown = cells.iter().zip(widths).zip(&self.columns).filter(|((_, width), _)| **width > 0);
        for (nth, (((text, style), width), (_, side, _))) in shown.enumerate() {
            let text = fit(text, *width);
            let space = " ".repeat(width - text.chars().count());
            let gap = if nth == 0 { "" } else { "  " };
            let (before, after) = if *side == Left { ("", space.as_str()) } else { (space.as_str(), "") };
            spans.push((format!("{gap}{before}"), Style::Plain));
            spans.push((text, *style));
            spans.push((after.to_owned(), Style::Plain));
        }
        spans.retain(|(text, _)| !text.is_empty());
        spans
    }
}

fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Between columns; the first has its mark before it.
const GAP: usize = 2;
/// To which a text is cut before its column, or another, is left out.
const LEAST: usize = 12;
/// Reasons shown of one object; the others are in `--json` and in the metrics.
const REASONS: usize = 5;

const HELP: &str = "
  arrows, j k, PgUp PgDn, g G   select a row
  d    drain the selected endpoint: no new work, what is open finishes
  m    maintain it: out of service at once, and not probed
  r    restore it: as the file says
  s S  sort by the next column, by the one before; o reverses
  /    show what contains a text; Esc shows all
  p    pause (or space): look, while nothing moves
  + -  look half as often, twice as often
  h ?  this page
  q    quit (or Esc, ^C); ^Z suspends

  Rates are over the last interval. P50 and P99 are of what ended in it: of
  services requests, of pools responses (connects, where there are none).
  REQ/S of an endpoint behind l4 are connections that were relayed to it.
  MARKED are slots of a packet service in transition to another endpoint.
";
