//! Engine: reading a TOML document key by key, collecting every mistake on the way.
//!
//! A [`Table`] remembers which keys were asked for; what is left when its reader returns is reported as unknown, so
//! asking is the only way to make a key legal. Reading a wrong value reports it and yields `None`; the reader goes on.
//! Not here: scalars (`scalar`), plug-ins (`settings`), and what any key means (`config`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::codes::{self, Code};
use super::diagnostic::{Diagnostic, quote};
use super::hide;
use super::include::{self, INCLUDE};
use super::outside::{self, Outside};
use super::secret::Secret;
use super::shape::{Shape, Shapes};
use super::source::{Place, Sources};
use super::span::{Span, Spanned};
use super::suggest;
use super::syntax;
use super::tree::{Branch, Data, Node};
use super::written::Written;
use crate::base::limits;

/// What the reader of a format knows beyond the keys it asks for, to help with those it does not.
#[derive(Debug)]
pub struct Lore {
    /// Tables at the top whose keys are names that the user chose: several files may each define some.
    pub named: &'static [&'static str],
    /// Keys whose values are secret: even where they are misspelt, misplaced or broken, what stands behind them is not shown.
    pub secrets: &'static [&'static str],
    /// Keys of one table that are often written in another: (key, where it belongs).
    pub homes: &'static [(&'static str, &'static str)],
    /// What other programs call it: (their word, ours). Offered where ours is legal.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Keys that will mean something one day: (kind of table, key, what is not there yet).
    pub later: &'static [(&'static str, &'static str, &'static str)],
}

impl Lore {
    pub const NONE: Lore = Lore { named: &[], secrets: &[], homes: &[], aliases: &[], later: &[] };

    /// Tables that a secret belongs in.
    fn owners(&self) -> Vec<&'static str> {
        let homes = self.homes.iter().filter(|(key, _)| self.secrets.contains(key));
        homes.map(|(_, home)| home.trim_matches(['[', ']'])).collect()
    }
}

/// What became of a file's bytes, and of the files it includes.
#[derive(Debug)]
pub struct Document<T> {
    pub value: T,
    /// Every mistake, in the order of the text, main file first.
    pub diagnostics: Vec<Diagnostic>,
    pub sources: Sources,
    /// What was written, and where.
    pub written: Written,
    /// What must not be shown of the sources.
    pub secrets: Vec<Span>,
    /// What the readers asked for.
    pub shapes: Shapes,
}

/// Reads the file of this name with `reader`, which gets the root table: its own tables, and those of the files that it
/// includes. What cannot be read at all is read as if it were empty: there is a value of the right type beside the error.
pub fn read<T>(
    name: &str,
    bytes: Vec<u8>,
    outside: &dyn Outside,
    lore: &'static Lore,
    reader: impl FnOnce(&mut Table<'_>) -> T,
) -> Document<T> {
    let gathered = include::gather(name, bytes, outside, lore.named);
    let (sources, root, syntax) = (gathered.sources, gathered.root, gathered.syntax);
    let sink = Sink {
        lore,
        sources: &sources,
        outside,
        found: RefCell::new(gathered.found),
        secrets: RefCell::default(),
        judged: RefCell::default(),
        left_out: Cell::default(),
        shapes: RefCell::default(),
    };
    let value = {
        let mut root = Table::new(&root, Span::default(), "top", String::new(), &sink);
        if let Some(item) = root.get(INCLUDE) {
            // What it names has been read; what is no name at all is still to be told.
            item.one_or_many().iter().for_each(|pattern| {
                let _ = pattern.text();
            });
        }
        let value = reader(&mut root);
        root.finish();
        value
    };
    let shapes = sink.shapes.into_inner();
    let (mut found, mut secrets, left_out) = (sink.found.into_inner(), sink.secrets.into_inner(), sink.left_out.get());
    let judged = sink.judged.into_inner();
    if !syntax.is_empty() {
        syntax::drop_consequences(&sources, &syntax, &mut found);
        found.extend(syntax);
    }
    found.sort_by_key(|d| (d.span, d.code));
    found.dedup();
    cut(&mut found, left_out);
    if !found.is_empty() {
        secrets.extend(hide::suspects(&sources, &lore.owners(), lore.secrets, &judged));
    }
    for diagnostic in &mut found {
        diagnostic.masked.clone_from(&secrets);
    }
    Document { value, diagnostics: found, written: Written::new(root, &sources), sources, secrets, shapes }
}

/// The kind of a plug-in's table: its keys come from its grammar, and have no home elsewhere.
pub(super) const SETTINGS: &str = "settings";

/// Where findings go. Shared by all cursors of one document.
struct Sink<'t> {
    lore: &'static Lore,
    sources: &'t Sources,
    outside: &'t dyn Outside,
    found: RefCell<Vec<Diagnostic>>,
    /// What is not shown.
    secrets: RefCell<Vec<Span>>,
    /// Values that were read as secrets, whether they are to be shown or not.
    judged: RefCell<Vec<Span>>,
    left_out: Cell<LeftOut>,
    shapes: RefCell<Shapes>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LeftOut {
    count: usize,
    /// Whether there is an error among them.
    errors: bool,
}

/// A table of the document, while it is being read.
pub struct Table<'t> {
    table: &'t Branch,
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
#[derive(Clone)]
pub struct Item<'t> {
    pub(super) value: &'t Data,
    pub(super) span: Span,
    /// The key, or that of the list it stands in.
    pub(super) key: &'t str,
    /// Where the key stands; the value's span for elements of a list.
    key_span: Span,
    path: String,
    /// What kind of table it stands in; [`SETTINGS`] where its key is no key of ours.
    kind: &'static str,
    sink: &'t Sink<'t>,
}

impl<'t> Table<'t> {
    fn new(table: &'t Branch, span: Span, kind: &'static str, path: String, sink: &'t Sink<'t>) -> Table<'t> {
        Table { table, span, kind, path, asked: BTreeSet::new(), open: false, sink }
    }

    /// The header, or the whole of an inline table; empty for the top level.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The value of `key`, if it is given.
    pub fn get(&mut self, key: &'static str) -> Option<Item<'t>> {
        self.asked.insert(key);
        let (name, leaf) = self.table.entries.get_key_value(key)?;
        Some(self.item(name, leaf.key_span, &leaf.node))
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
            .entries
            .iter()
            .map(|(name, leaf)| (Spanned::new(&**name, leaf.key_span), self.item(name, leaf.key_span, &leaf.node)))
            .collect();
        entries.sort_by_key(|(name, _)| name.span);
        entries
    }

    /// Whether `key` is given, without making it legal.
    pub fn has(&self, key: &str) -> bool {
        self.table.entries.contains_key(key)
    }

    /// Whether it is there, and a table. Does not make it legal.
    pub fn holds_table(&self, key: &str) -> bool {
        self.table.entries.get(key).is_some_and(|leaf| matches!(leaf.node.data, Data::Table(_)))
    }

    /// Whether `key` holds a word, as names of plug-ins are: no address, number or list.
    pub fn holds_word(&self, key: &str) -> bool {
        let is_word = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let leaf = self.table.entries.get(key);
        leaf.is_some_and(|leaf| matches!(&leaf.node.data, Data::Text(text) if is_word(&text.value)))
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

    fn item(&self, key: &'t str, key_span: Span, node: &'t Node) -> Item<'t> {
        Item {
            value: &node.data,
            span: node.span,
            key,
            key_span,
            path: join(&self.path, key),
            kind: if self.open { SETTINGS } else { self.kind },
            sink: self.sink,
        }
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        if self.open {
            return;
        }
        if self.kind != SETTINGS {
            let mut shapes = self.sink.shapes.borrow_mut();
            let known = shapes.entry(self.kind).or_default();
            for key in &self.asked {
                if !known.contains_key(*key) {
                    known.insert((*key).to_owned(), Vec::new());
                }
            }
        }
        for (name, leaf) in &self.table.entries {
            if self.asked.contains(&**name) {
                continue;
            }
            if self.sink.is_full() {
                self.sink.leave_out(true);
                continue;
            }
            let structured = matches!(leaf.node.data, Data::Table(_) | Data::Array(_));
            self.sink.push(self.unknown(name, leaf.key_span, structured));
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
        matches!(self.value, Data::Table(table) if table.entries.contains_key(key))
    }

    /// The same value, called otherwise in messages.
    pub(super) fn called(&self, key: &'t str) -> Item<'t> {
        Item { key, ..self.clone() }
    }

    pub fn is_table(&self) -> bool {
        matches!(self.value, Data::Table(_))
    }

    pub fn is_list(&self) -> bool {
        matches!(self.value, Data::Array(_))
    }

    /// Also where the text is not known, because a variable is missing: reading it yields nothing, without another word.
    pub fn is_text(&self) -> bool {
        matches!(self.value, Data::Text(_) | Data::Unknown { .. })
    }

    /// The elements of a list.
    pub fn list(&self) -> Option<Vec<Item<'t>>> {
        match self.value {
            Data::Array(array) => {
                let item =
                    |node: &'t Node| Item { value: &node.data, span: node.span, key_span: node.span, ..self.clone() };
                Some(array.iter().map(item).collect())
            }
            _ => self.wrong("a list, as in `[…]`", None),
        }
    }

    /// The elements of a list, or the one value that stands for a list of one.
    pub fn one_or_many(&self) -> Vec<Item<'t>> {
        if self.is_list() { self.list().unwrap_or_default() } else { vec![self.clone()] }
    }

    /// Reads a table; keys that `reader` does not ask for are reported. `kind` is what [`Lore::later`] calls it.
    pub fn table<R>(&self, kind: &'static str, reader: impl FnOnce(&mut Table<'t>) -> R) -> Option<R> {
        if kind != SETTINGS {
            self.note(|| Shape::Table(kind));
        }
        let Data::Table(table) = self.value else {
            return self.wrong(&format!("a table, as in `[{}]`", self.path), None);
        };
        let mut table = Table::new(table, self.span, kind, self.path.clone(), self.sink);
        let read = reader(&mut table);
        table.finish();
        Some(read)
    }

    /// File and line of the value.
    pub fn place(&self) -> Place {
        self.sink.sources.place(self.span.start)
    }

    /// A text that nobody may see: written here, in a variable, or in a file that `file:PATH` names, from this file's folder.
    /// What is written here is kept out of every rendered diagnostic.
    pub fn secret(&self) -> Option<Spanned<Secret>> {
        self.note(|| Shape::Secret);
        self.sink.judged.borrow_mut().push(self.span);
        let Data::Text(text) = self.value else {
            if matches!(self.value, Data::Unknown { reference: true }) {
                return None;
            }
            self.sink.secrets.borrow_mut().push(self.span);
            return self.wrong("text", None);
        };
        let secret = match text.value.strip_prefix(FILE) {
            Some(path) => Secret::new(&self.secret_file(path)?),
            None => {
                // The name of a variable gives nothing away.
                if !text.is_reference {
                    self.sink.secrets.borrow_mut().push(self.span);
                }
                Secret::new(&text.value)
            }
        };
        if secret.is_mask() {
            let message = format!("{} is what a dump shows in place of a secret", quote(self.key));
            let mistake = Diagnostic::new(&codes::MASKED_SECRET, self.span, message);
            self.report(mistake.help("put the secret back: everybody can know this one"));
        }
        Some(Spanned::new(secret, self.span))
    }

    /// The content of a secret's file, without the line end that editors add.
    fn secret_file(&self, path: &str) -> Option<String> {
        let by = self.sink.sources.at(self.span.start).0;
        let path = outside::beside(&by.name, path);
        let shown = quote(&path.display().to_string());
        let wrong = |message: String| self.fail::<String>(&codes::BAD_SECRET_FILE, message, None);
        let contents = match self.sink.outside.read(&path, limits::SECRET_BYTES) {
            Ok(contents) => contents,
            Err(why) => return wrong(format!("cannot read {shown}: {why}")),
        };
        if contents.bytes.len() > limits::SECRET_BYTES {
            return wrong(format!("{shown} has more than {} bytes: is this the file you meant", limits::SECRET_BYTES));
        }
        // What is wrong with it is said without a byte of it.
        let Ok(text) = String::from_utf8(contents.bytes) else { return wrong(format!("{shown} is not UTF-8 text")) };
        let text = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
        if text.is_empty() {
            return wrong(format!("{shown} is empty"));
        }
        if contents.is_public {
            let message = format!("everybody on this machine can read {shown}");
            let mistake = Diagnostic::new(&codes::PUBLIC_SECRET, self.span, message);
            self.report(mistake.help(format!("chmod o-r {}", path.display())));
        }
        Some(text.to_owned())
    }

    /// Takes note of what the value is taken for.
    pub(super) fn note(&self, shape: impl FnOnce() -> Shape) {
        if self.kind == SETTINGS {
            return;
        }
        let mut shapes = self.sink.shapes.borrow_mut();
        let keys = shapes.entry(self.kind).or_default();
        let known = match keys.get_mut(self.key) {
            Some(known) => known,
            None => keys.entry(self.key.to_owned()).or_default(),
        };
        let shape = shape();
        if !known.contains(&shape) {
            known.push(shape);
        }
    }

    pub fn report(&self, diagnostic: Diagnostic) {
        self.sink.push(diagnostic);
    }

    /// Reports a mistake at this value; `None`, to be returned.
    pub fn fail<T>(&self, code: &Code, message: impl Into<String>, help: Option<String>) -> Option<T> {
        self.report(Diagnostic::new(code, self.span, message).help_if(help));
        None
    }

    /// Reports that the value is of another kind than `expected`. Of one that is not known that cannot be said.
    pub(super) fn wrong<T>(&self, expected: &str, help: Option<String>) -> Option<T> {
        if matches!(self.value, Data::Unknown { .. }) {
            return None;
        }
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

fn kind_of(value: &Data) -> &'static str {
    match value {
        Data::Text(_) | Data::Unknown { .. } => "text",
        Data::Integer { .. } => "a whole number",
        Data::Float(_) => "a number",
        Data::Boolean(_) => "a boolean",
        Data::Datetime => "a date or time",
        Data::Array(_) => "a list",
        Data::Table(_) => "a table",
    }
}

/// Begins a secret that stands in a file.
const FILE: &str = "file:";

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
