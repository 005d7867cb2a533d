//! Engine: what whoever looks at `strata top` has chosen: order, filter, the selected row, what is asked; and what keys do to it.
//!
//! ```text
//!            /                          d m r, on an endpoint
//! Filter ◀──────▶ Browse ◀──────▶ Help  ────────▶ Ask ──y──▶ change it
//!         Enter     ▲       h            any other ┘
//!         Escape    └──────────────────────────────
//! ```
//! A row is selected by what it is, not by where it stands: sorting or a row that appears changes no selection. Not here: bytes of
//! a terminal (`keys`), nor the change itself (`screen`).

use std::time::Duration;

use super::rates::{EndpointRow, Flow, PoolRow, Report, ServiceRow};
use crate::base::limits;
use crate::health::Intent;

/// What a row is of; names as the API has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    Service(String),
    Pool(String),
    Endpoint(String, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    /// ^C
    Interrupt,
    /// ^Z
    Suspend,
}

/// What a key asks of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Redraw,
    /// Redraw, and take no more of the keys that came together: a pasted text answers no question that nobody has read.
    Question,
    Quit,
    /// Give the terminal back until the process is told to go on.
    Suspend,
    /// Look again after the new interval.
    Interval,
    /// Endpoint `1` of pool `0`.
    Change(String, String, Intent),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// As in the configuration.
    File,
    Name,
    Requests,
    Connections,
    Packets,
    Bytes,
    Latency,
    Errors,
    Drops,
    State,
}

impl Sort {
    pub const ALL: [Sort; 10] = [
        Sort::File,
        Sort::Name,
        Sort::Requests,
        Sort::Connections,
        Sort::Packets,
        Sort::Bytes,
        Sort::Latency,
        Sort::Errors,
        Sort::Drops,
        Sort::State,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Sort::File => "file",
            Sort::Name => "name",
            Sort::Requests => "requests",
            Sort::Connections => "connections",
            Sort::Packets => "packets",
            Sort::Bytes => "bytes",
            Sort::Latency => "latency",
            Sort::Errors => "errors",
            Sort::Drops => "drops",
            Sort::State => "state",
        }
    }

    pub fn parse(word: &str) -> Option<Sort> {
        Sort::ALL.into_iter().find(|sort| sort.word() == word)
    }

    fn step(self, by: usize) -> Sort {
        let at = Sort::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Sort::ALL.into_iter().cycle().nth(at + by).unwrap_or(self)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Browse,
    Filter,
    Help,
    Ask { pool: String, endpoint: String, intent: Intent },
}

#[derive(Clone, Debug)]
pub struct Desk {
    pub mode: Mode,
    pub sort: Sort,
    pub reversed: bool,
    pub filter: String,
    pub selected: Option<Id>,
    pub paused: bool,
    pub interval: Duration,
    /// What the last change came to.
    pub message: Option<Result<String, String>>,
    /// Why there is no answer, where there is none.
    pub trouble: Option<String>,
    /// Where the selected row stood, for when it goes.
    pub place: usize,
}

impl Desk {
    pub fn new(interval: Duration, sort: Sort, filter: &str) -> Desk {
        Desk {
            mode: Mode::Browse,
            sort,
            reversed: false,
            filter: filter.chars().take(limits::TOP_TEXT_CHARS).collect(),
            selected: None,
            paused: false,
            interval,
            message: None,
            trouble: None,
            place: 0,
        }
    }

    /// `rows` are those that are shown, from the top; `page` how many fit.
    pub fn press(&mut self, key: Key, rows: &[Id], page: usize) -> Action {
        if key == Key::Interrupt {
            return Action::Quit;
        }
        if key == Key::Suspend {
            return Action::Suspend;
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.browse(key, rows, page),
            Mode::Filter => self.type_filter(key),
            // Any key closes it, and does nothing else.
            Mode::Help => Action::Redraw,
            Mode::Ask { pool, endpoint, intent } if matches!(key, Key::Char('y' | 'Y')) => {
                Action::Change(pool, endpoint, intent)
            }
            Mode::Ask { .. } => {
                self.message = Some(Ok("nothing changed".to_owned()));
                Action::Redraw
            }
        }
    }

    fn browse(&mut self, key: Key, rows: &[Id], page: usize) -> Action {
        self.message = None;
        match key {
            Key::Char('q') => return Action::Quit,
            Key::Escape if self.filter.is_empty() => return Action::Quit,
            Key::Escape => self.filter.clear(),
            Key::Up | Key::Char('k') => self.to(rows, self.place.saturating_sub(1)),
            // The first press selects the first row.
            Key::Down | Key::Char('j') => self.to(rows, self.selected.as_ref().map_or(0, |_| self.place + 1)),
            Key::PageUp => self.to(rows, self.place.saturating_sub(page)),
            Key::PageDown => self.to(rows, self.place.saturating_add(page)),
            Key::Home | Key::Char('g') => self.to(rows, 0),
            Key::End | Key::Char('G') => self.to(rows, rows.len()),
            Key::Char('s') => self.sort = self.sort.step(1),
            Key::Char('S') => self.sort = self.sort.step(Sort::ALL.len() - 1),
            Key::Char('o') => self.reversed = !self.reversed,
            Key::Char('/') => self.mode = Mode::Filter,
            Key::Char('h' | '?') => self.mode = Mode::Help,
            Key::Char('p' | ' ') => self.paused = !self.paused,
            Key::Char('+') => return self.every(self.interval.saturating_mul(2)),
            Key::Char('-') => return self.every(self.interval / 2),
            Key::Char('d') => return self.ask(Intent::Draining),
            Key::Char('m') => return self.ask(Intent::Maintenance),
            Key::Char('r') => return self.ask(Intent::Ready),
            Key::Char(_) | Key::Enter | Key::Backspace | Key::Interrupt | Key::Suspend => {}
        }
        Action::Redraw
    }

    fn type_filter(&mut self, key: Key) -> Action {
        self.mode = Mode::Filter;
        match key {
            Key::Enter => self.mode = Mode::Browse,
            Key::Escape => {
                self.filter.clear();
                self.mode = Mode::Browse;
            }
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Char(c) if self.filter.len() < limits::TOP_TEXT_CHARS => self.filter.push(c),
            _ => {}
        }
        Action::Redraw
    }

    fn every(&mut self, interval: Duration) -> Action {
        self.interval = interval.clamp(limits::TOP_INTERVAL_LEAST, limits::TOP_INTERVAL_MOST);
        Action::Interval
    }

    fn ask(&mut self, intent: Intent) -> Action {
        let Some(Id::Endpoint(pool, endpoint)) = self.selected.clone() else {
            self.message = Some(Err("select an endpoint first (arrows)".to_owned()));
            return Action::Redraw;
        };
        self.mode = Mode::Ask { pool, endpoint, intent };
        Action::Question
    }

    fn to(&mut self, rows: &[Id], place: usize) {
        self.place = place.min(rows.len().saturating_sub(1));
        self.selected = rows.get(self.place).cloned();
    }

    /// The rows have changed: the selection stays with what it is of, or, where that has gone, with its place.
    pub fn settle(&mut self, rows: &[Id]) {
        let Some(selected) = &self.selected else { return };
        match rows.iter().position(|row| row == selected) {
            Some(place) => self.place = place,
            // A question names what it is about, and stays.
            None => self.to(rows, self.place),
        }
    }
}

/// In the order and with the choice that the desk has.
pub fn arrange(report: &Report, sort: Sort, reversed: bool, filter: &str) -> Report {
    let mut report = report.clone();
    let filter = filter.to_ascii_lowercase();
    let has =
        |texts: &[&str]| filter.is_empty() || texts.iter().any(|text| text.to_ascii_lowercase().contains(&filter));
    report
        .services
        .retain(|row| has(&[&row.name, &row.mode, &row.engine]) || row.pools.iter().any(|pool| has(&[pool])));
    report.pools.retain(|row| has(&[&row.name, &row.balance]));
    report.endpoints.retain(|row| has(&[&row.name, &row.pool, &row.state, &row.cause]));
    order(&mut report.services, sort, reversed, |row| row.rank(sort), |row| &row.name);
    order(&mut report.pools, sort, reversed, |row| row.rank(sort), |row| &row.name);
    order(&mut report.endpoints, sort, reversed, |row| row.rank(sort), |row| &row.name);
    report
}

/// The rows of a report as they are shown, from the top.
pub fn ids(report: &Report) -> Vec<Id> {
    let services = report.services.iter().map(ServiceRow::id);
    let pools = report.pools.iter().map(PoolRow::id);
    services.chain(pools).chain(report.endpoints.iter().map(EndpointRow::id)).collect()
}

/// Largest first; those that are equal stay in the order of the file, either way.
fn order<T>(rows: &mut [T], sort: Sort, reversed: bool, rank: impl Fn(&T) -> f64, name: impl Fn(&T) -> &str) {
    match (sort, reversed) {
        (Sort::File, false) => {}
        (Sort::File, true) => rows.reverse(),
        (Sort::Name, false) => rows.sort_by(|a, b| name(a).cmp(name(b))),
        (Sort::Name, true) => rows.sort_by(|a, b| name(b).cmp(name(a))),
        (_, false) => rows.sort_by(|a, b| rank(b).total_cmp(&rank(a))),
        (_, true) => rows.sort_by(|a, b| rank(a).total_cmp(&rank(b))),
    }
}

impl Flow {
    /// What is not known is less than nothing.
    fn rank(&self, sort: Sort) -> f64 {
        let bytes = || match (self.received_bytes_per_s, self.sent_bytes_per_s) {
            (None, None) => None,
            (received, sent) => Some(received.unwrap_or(0.0) + sent.unwrap_or(0.0)),
        };
        let rate = match sort {
            Sort::Requests => self.requests_per_s,
            Sort::Connections => self.connections_per_s,
            Sort::Packets => self.packets_per_s,
            Sort::Bytes => bytes(),
            Sort::Errors => self.errors_per_s,
            Sort::File | Sort::Name | Sort::Latency | Sort::Drops | Sort::State => None,
        };
        rate.unwrap_or(-1.0)
    }
}

impl ServiceRow {
    pub fn id(&self) -> Id {
        Id::Service(self.name.clone())
    }

    fn rank(&self, sort: Sort) -> f64 {
        match sort {
            Sort::Latency => self.latency.p99_us.map_or(-1.0, |us| us as f64),
            Sort::Drops => self.drops_per_s.unwrap_or(-1.0),
            Sort::State => f64::from(u8::from(self.engine == "none")),
            _ => self.flow.rank(sort),
        }
    }
}

impl PoolRow {
    pub fn id(&self) -> Id {
        Id::Pool(self.name.clone())
    }

    fn rank(&self, sort: Sort) -> f64 {
        match sort {
            Sort::Latency => self.latency.p99_us.map_or(-1.0, |us| us as f64),
            // The share that is out.
            Sort::State => 1.0 - self.usable as f64 / self.of.max(1) as f64,
            _ => self.flow.rank(sort),
        }
    }
}

impl EndpointRow {
    pub fn id(&self) -> Id {
        Id::Endpoint(self.target.0.clone(), self.target.1.clone())
    }

    fn rank(&self, sort: Sort) -> f64 {
        match sort {
            Sort::State => f64::from(self.style as u8),
            _ => self.flow.rank(sort),
        }
    }
}
