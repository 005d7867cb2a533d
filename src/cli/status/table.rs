//! Wiring: lines and aligned tables of a text for a person's eyes, in colour where a terminal shows it.

use std::fmt::Write as _;

use super::words::{clean, count};
use crate::admin::document::Drop;

/// The text so far, and whether it is coloured.
pub(super) struct Out {
    pub(super) text: String,
    pub(super) colour: bool,
}

impl Out {
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    pub(super) fn paint(&self, text: &str, style: Style) -> String {
        match style.code().filter(|_| self.colour) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Style {
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
}

impl Style {
    pub(in crate::cli) const fn code(self) -> Option<&'static str> {
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
pub(super) enum Side {
    Left,
    Right,
}
pub(super) use Side::{Left, Right};

pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(super) fn new(text: &str, style: Style) -> Cell {
        Cell { text: clean(text), style }
    }

    pub(super) fn plain(text: &str) -> Cell {
        Cell::new(text, Style::Plain)
    }
}

pub(super) struct Table<const N: usize> {
    /// Title, side, and whether it is shown.
    columns: [(&'static str, Side, bool); N],
    rows: Vec<Row<N>>,
}

enum Row<const N: usize> {
    Cells([Cell; N]),
    Note(String),
}

impl<const N: usize> Table<N> {
    pub(super) fn new(columns: [(&'static str, Side, bool); N]) -> Table<N> {
        Table { columns, rows: vec![Row::Cells(columns.map(|(title, ..)| Cell::new(title, Style::Faint)))] }
    }

    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(Row::Cells(cells));
    }

    pub(super) fn note(&mut self, note: String) {
        self.rows.push(Row::Note(note));
    }

    /// A note of the first few reasons, where there is one.
    pub(super) fn counted(&mut self, what: &str, reasons: &[Drop]) {
        let shown: Vec<String> =
            reasons.iter().take(DROPS).map(|drop| format!("{} {}", clean(&drop.reason), count(drop.count))).collect();
        if !shown.is_empty() {
            let more = if reasons.len() > DROPS { ", …" } else { "" };
            self.note(format!("  {what}: {}{more}", shown.join(", ")));
        }
    }

    pub(super) fn print(&self, out: &mut Out) {
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

/// Reasons shown of a service; the others are in `--json` and in the metrics.
const DROPS: usize = 5;
