//! Engine: reading a TOML document key by key, collecting every mistake on the way.
//!
//! A [`Table`] remembers which keys were asked for; what is left when its reader returns is reported as unknown, so
//! asking is the only way to make a key legal. Reading a wrong value reports it and yields `None`; the reader goes on.
//! Not here: scalars (`scalar`), plug-ins (`settings`), and what any key means (`config`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::codes::{self, Code};
use super::diagnostic::{Diagnostic, quote};
use super::source::{Source, too_large};
use super::span::{Span, Spanned};
use super::suggest;
use super::syntax::{self, Healed};
use crate::base::limits;

/// What the reader of a format knows beyond the keys it asks for, to help with those it does not.
#[derive(Debug)]
pub struct Lore {
    /// Keys of one table that are often written in another: (key, where it belongs).
    pub homes: &'static [(&'static str, &'static str)],
    /// What other programs call it: (their word, ours). Offered where ours is legal.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Keys that will mean something one day: (kind of table, key, what is not there yet).
    pub later: &'static [(&'static str, &'static str, &'static str)],
}

impl Lore {
    pub const NONE: Lore = Lore { homes: &[], aliases: &[], later: &[] };
}

/// Reads `source` with `reader`, which gets the root table. Returns what it made and every mistake in the order of the text.
pub fn read<T>(source: &Source, lore: &'static Lore, reader: impl FnOnce(&mut Table<'_>) -> T) -> (T, Vec<Diagnostic>) {
    // Refused files are read as if they were empty: the caller gets a value of the right type, and an error beside it.
    let refused = source.text.len() > limits::CONFIG_BYTES;
    let text = Healed::of(if refused { "" } else { &source.text });
    let (document, errors) = DeTable::parse_recoverable(&text.text);
    let syntax = syntax::errors(source, &text, &errors);
    let sink =
        Sink { lore, text: &text, found: RefCell::default(), secrets: RefCell::default(), left_out: Cell::default() };
    let value = {
        let mut root = Table::new(document.get_ref(), Span::default(), "top", String::new(), &sink);
        let value = reader(&mut root);
        root.finish();
        value
    };
    let (mut found, secrets, left_out) = (sink.found.into_inner(), sink.secrets.into_inner(), sink.left_out.get());
    if refused {
        return (value, vec![too_large(source.text.len())]);
    }
    if !syntax.is_empty() {
        syntax::drop_consequences(source, &syntax, &mut found);
        found.extend(syntax);
    }
    found.sort_by_key(|d| (d.span, d.code));
    found.dedup();
    cut(&mut found, left_out);
    for diagnostic in &mut found {
        diagnostic.masked.clone_from(&secrets);
    }
    (value, found)
}

/// The kind of a plug-in's table: its keys come from its grammar, and have no home elsewhere.
pub(super) const SETTINGS: &str = "settings";

/// Where findings go. Shared by all cursors of one document.
#[derive(Debug)]
struct Sink<'t> {
    lore: &'static Lore,
    text: &'t Healed<'t>,
    found: RefCell<Vec<Diagnostic>>,
    secrets: RefCell<Vec<Span>>,
    left_out: Cell<LeftOut>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LeftOut {
    count: usize,
    /// Whether there is an error among them.
    errors: bool,
}

/// A table of the document, while it is being read.
#[derive(Debug)]
pub struct Table<'t> {
    table: &'t DeTable<'t>,
    span: Span,
    /// What kind of table it is, for [`Lore::later`]: `"service"`.
    kind: &'static str,
    /// How the user would name it: `service.web`; empty for the top level.
    path: String,
    asked: BTreeSet<&'static str>,
    /// Set when the keys are names that the user chose.
    open: bool,
    sink: &'t Sink<'t>,
}

/// A value of the document, and what it is called.
#[derive(Clone, Debug)]
pub struct Item<'t> {
    pub(super) value: &'t DeValue<'t>,
    pub(super) span: Span,
    /// The key, or that of the list it stands in.
    pub(super) key: &'t str,
    /// Where the key stands; the value's span for elements of a list.
    key_span: Span,
    path: String,
    sink: &'t Sink<'t>,
}

impl<'t> Table<'t> {
    fn new(table: &'t DeTable<'t>, span: Span, kind: &'static str, path: String, sink: &'t Sink<'t>) -> Table<'t> {
        Table { table, span, kind, path, asked: BTreeSet::new(), open: false, sink }
    }

    /// The header, or the whole of an inline table; empty for the top level.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The value of `key`, if it is given.
    pub fn get(&mut self, key: &'static str) -> Option<Item<'t>> {
        self.asked.insert(key);
        let (name, value) = self.table.get_key_value(key)?;
        Some(self.item(name, value))
    }

    /// The value of `key`, whose absence is a mistake. `example` is a whole assignment.
    pub fn need(&mut self, key: &'static str, example: &str) -> Option<Item<'t>> {
        let found = self.get(key);
        if found.is_none() {
            let message = format!("{} needs `{key}`", self.show());
            self.report(
                Diagnostic::new(&codes::MISSING_KEY, self.span, message)
                    .label(format!("`{key}` is missing"))
                    .help(format!("add {}", quote(example))),
            );
        }
        found
    }

    /// Every entry in the order of the text; the keys are names that the user chose.
    pub fn entries(&mut self) -> Vec<(Spanned<&'t str>, Item<'t>)> {
        self.open = true;
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(name, value)| {
                (Spanned::new(name.get_ref().as_ref(), self.sink.text.span(name.span())), self.item(name, value))
            })
            .collect();
        entries.sort_by_key(|(name, _)| name.span);
        entries
    }

    /// Whether `key` is given, without making it legal.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Takes note that `key` is legal here without reading it: its absence or presence was reported otherwise.
    pub fn skip(&mut self, key: &'static str) {
        self.asked.insert(key);
    }

    pub fn report(&self, diagnostic: Diagnostic) {
        self.sink.push(diagnostic);
    }

    /// How a message names this table.
    pub fn show(&self) -> String {
        if self.path.is_empty() { "the file".to_owned() } else { format!("`{}`", self.path) }
    }

    fn item(&self, name: &'t toml::Spanned<toml::de::DeString<'t>>, value: &'t toml::Spanned<DeValue<'t>>) -> Item<'t> {
        let key = name.get_ref().as_ref();
        Item {
            value: value.get_ref(),
            span: self.sink.text.span(value.span()),
            key,
            key_span: self.sink.text.span(name.span()),
            path: join(&self.path, key),
            sink: self.sink,
        }
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        if self.open {
            return;
        }
        for (name, value) in self.table {
            if self.asked.contains(name.get_ref().as_ref()) {
                continue;
            }
            if self.sink.is_full() {
                self.sink.leave_out(true);
                continue;
            }
            let structured = matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
            self.sink.push(self.unknown(name.get_ref(), self.sink.text.span(name.span()), structured));
        }
    }

    fn unknown(&self, key: &str, span: Span, structured: bool) -> Diagnostic {
        let place = if self.path.is_empty() { "at the top level".to_owned() } else { format!("in {}", self.show()) };
        let lore = self.sink.lore;
        if let Some((_, _, what)) = lore.later.iter().find(|(kind, later, _)| *kind == self.kind && *later == key) {
            return Diagnostic::new(&codes::NOT_YET, span, format!("{} is not available yet", quote(key)))
                .label(*what)
                .help("leave it out for now");
        }
        let mistake = Diagnostic::new(&codes::UNKNOWN_KEY, span, format!("unknown key {} {place}", quote(key)));
        let alias = lore.aliases.iter().find(|(theirs, ours)| *theirs == key && self.asked.contains(ours));
        let meant = alias.map(|(_, ours)| *ours).or_else(|| suggest::nearest(key, self.asked.iter().copied()));
        if let Some(meant) = meant {
            let taken = if self.has(meant) && !structured { ", which is also given" } else { "" };
            return mistake.help(format!("did you mean `{meant}`{taken}"));
        }
        if self.kind != SETTINGS
            && let Some((_, home)) = lore.homes.iter().find(|(homeless, _)| *homeless == key)
        {
            return mistake.help(format!("`{key}` belongs in {home}"));
        }
        if self.asked.is_empty() {
            return mistake.help("nothing can be set here");
        }
        let legal: Vec<String> = self.asked.iter().map(|key| format!("`{key}`")).collect();
        mistake.help(format!("known here: {}", legal.join(", ")))
    }
}

impl<'t> Item<'t> {
    /// Where the value stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Where the key stands.
    pub fn key_span(&self) -> Span {
        self.key_span
    }

    /// What the value is called: its key, or that of the list it stands in.
    pub fn key(&self) -> &'t str {
        self.key
    }

    /// Whether it is a table with this key in it. Does not make the key legal.
    pub fn holds(&self, key: &str) -> bool {
        matches!(self.value, DeValue::Table(table) if table.contains_key(key))
    }

    /// The same value, called otherwise in messages.
    pub(super) fn called(&self, key: &'t str) -> Item<'t> {
        Item { key, ..self.clone() }
    }

    pub fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub fn is_list(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    pub fn is_text(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    /// The elements of a list.
    pub fn list(&self) -> Option<Vec<Item<'t>>> {
        match self.value {
            DeValue::Array(array) => Some(
                array
                    .iter()
                    .map(|element| Item {
                        value: element.get_ref(),
                        span: self.sink.text.span(element.span()),
                        key_span: self.sink.text.span(element.span()),
                        ..self.clone()
                    })
                    .collect(),
            ),
            _ => self.wrong("a list, as in `[…]`", None),
        }
    }

    /// The elements of a list, or the one value that stands for a list of one.
    pub fn one_or_many(&self) -> Vec<Item<'t>> {
        if self.is_list() { self.list().unwrap_or_default() } else { vec![self.clone()] }
    }

    /// Reads a table; keys that `reader` does not ask for are reported. `kind` is what [`Lore::later`] calls it.
    pub fn table<R>(&self, kind: &'static str, reader: impl FnOnce(&mut Table<'t>) -> R) -> Option<R> {
        let DeValue::Table(table) = self.value else {
            return self.wrong(&format!("a table, as in `[{}]`", self.path), None);
        };
        let mut table = Table::new(table, self.span, kind, self.path.clone(), self.sink);
        let read = reader(&mut table);
        table.finish();
        Some(read)
    }

    /// Keeps the value out of every rendered diagnostic of the file.
    pub fn secret(&self) {
        self.sink.secrets.borrow_mut().push(self.span);
    }

    pub fn report(&self, diagnostic: Diagnostic) {
        self.sink.push(diagnostic);
    }

    /// Reports a mistake at this value; `None`, to be returned.
    pub fn fail<T>(&self, code: &Code, message: impl Into<String>, help: Option<String>) -> Option<T> {
        self.report(Diagnostic::new(code, self.span, message).help_if(help));
        None
    }

    /// Reports that the value is of another kind than `expected`.
    pub(super) fn wrong<T>(&self, expected: &str, help: Option<String>) -> Option<T> {
        let found = kind_of(self.value);
        self.report(
            Diagnostic::new(&codes::WRONG_KIND, self.span, format!("{} must be {expected}", quote(self.key)))
                .label(format!("this is {found}"))
                .help_if(help),
        );
        None
    }
}

impl Sink<'_> {
    fn push(&self, diagnostic: Diagnostic) {
        if self.is_full() {
            self.leave_out(diagnostic.is_error());
        } else {
            self.found.borrow_mut().push(diagnostic);
        }
    }

    fn leave_out(&self, error: bool) {
        let LeftOut { count, errors } = self.left_out.get();
        self.left_out.set(LeftOut { count: count + 1, errors: errors || error });
    }

    /// Far beyond what is shown, so that what is shown is still sorted and errors come before warnings.
    fn is_full(&self) -> bool {
        self.found.borrow().len() >= limits::DIAGNOSTICS * 20
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn cut(found: &mut Vec<Diagnostic>, left_out: LeftOut) {
    if found.len() <= limits::DIAGNOSTICS {
        return;
    }
    // Errors are kept before warnings, and the closing line is an error when one was left out: a cut must not turn a wrong
    // file into a right one, nor a right one into a wrong one.
    found.sort_by_key(|d| d.severity);
    let errors = left_out.errors || found.iter().skip(limits::DIAGNOSTICS).any(Diagnostic::is_error);
    let count = left_out.count + found.len() - limits::DIAGNOSTICS;
    found.truncate(limits::DIAGNOSTICS);
    found.sort_by_key(|d| (d.span, d.code));
    let code = if errors { &codes::TOO_MANY } else { &codes::TOO_MANY_WARNINGS };
    let at = found.last().map(|d| d.span).unwrap_or_default();
    found.push(Diagnostic::new(code, at, format!("and {count} more that are not shown")));
}
