//! Value: a document as the cursors read it: values of our own, each with its place among all files, variables filled in.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use toml::de::{DeTable, DeValue};

use super::codes;
use super::diagnostic::{Diagnostic, quote};
use super::expand::{expand, is_reference};
use super::outside::Outside;
use super::span::Span;
use super::syntax::Healed;
use crate::base::limits;

#[derive(Clone, Debug)]
pub struct Node {
    pub(super) data: Data,
    pub(super) span: Span,
}

#[derive(Clone, Debug)]
pub(super) enum Data {
    Text(Text),
    Integer {
        digits: String,
        radix: u32,
    },
    Float(String),
    Boolean(bool),
    Datetime,
    Array(Vec<Node>),
    Table(Branch),
    /// A text whose variables have no values. That is reported; nothing more can be said of it. A reference is one variable and
    /// nothing else.
    Unknown {
        reference: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Text {
    pub value: String,
    /// A variable had a say in it: it may stand for a number or a boolean too.
    pub from_variable: bool,
    /// It is written as one variable, and nothing else.
    pub is_reference: bool,
}

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Branch {
    pub(super) entries: BTreeMap<String, Leaf>,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub key_span: Span,
    pub node: Node,
}

/// Tables within tables. The parser refuses more than 80 in a value; dotted keys make some as well.
const DEPTH: usize = 100;

/// Makes one file's tables ours.
pub(super) struct Planting<'p> {
    pub text: &'p Healed<'p>,
    /// The place of the file's first byte.
    pub start: usize,
    pub outside: &'p dyn Outside,
    /// Bytes that variables may still bring.
    pub budget: &'p mut usize,
    pub found: &'p mut Vec<Diagnostic>,
}

impl Planting<'_> {
    pub fn root(&mut self, table: &DeTable<'_>) -> Branch {
        self.branch(table, 0)
    }

    fn branch(&mut self, table: &DeTable<'_>, depth: usize) -> Branch {
        let mut entries = BTreeMap::new();
        for (key, value) in table {
            let leaf = Leaf { key_span: self.span(key.span()), node: self.node(value, depth + 1) };
            entries.insert(key.get_ref().to_string(), leaf);
        }
        Branch { entries }
    }

    fn node(&mut self, value: &toml::Spanned<DeValue<'_>>, depth: usize) -> Node {
        let span = self.span(value.span());
        let data = match value.get_ref() {
            DeValue::String(text) => self.text(text, value.span(), span),
            DeValue::Integer(number) => Data::Integer { digits: number.as_str().to_owned(), radix: number.radix() },
            DeValue::Float(number) => Data::Float(number.as_str().to_owned()),
            DeValue::Boolean(value) => Data::Boolean(*value),
            DeValue::Datetime(_) => Data::Datetime,
            _ if depth > DEPTH => Data::Unknown { reference: false },
            DeValue::Array(array) => Data::Array(array.iter().map(|element| self.node(element, depth + 1)).collect()),
            DeValue::Table(table) => Data::Table(self.branch(table, depth)),
        };
        Node { data, span }
    }

    fn text(&mut self, value: &str, within: std::ops::Range<usize>, span: Span) -> Data {
        let raw = self.text.text.get(within).unwrap_or_default();
        let expanded = match expand(value, raw, span, self.outside) {
            Ok(expanded) => expanded,
            Err(wrong) => {
                self.found.extend(wrong);
                return Data::Unknown { reference: is_reference(value) };
            }
        };
        if expanded.from_variable {
            match self.budget.checked_sub(expanded.text.len()) {
                Some(left) => *self.budget = left,
                None => {
                    let message = format!("variables bring more than {} bytes", limits::CONFIG_BYTES);
                    self.found.push(Diagnostic::new(&codes::TOO_LARGE, span, message));
                    return Data::Unknown { reference: false };
                }
            }
        }
        Data::Text(Text {
            from_variable: expanded.from_variable,
            value: expanded.text.into_owned(),
            is_reference: is_reference(value),
        })
    }

    /// A place in the healed text of this file as one among all files.
    fn span(&self, span: std::ops::Range<usize>) -> Span {
        self.text.span(span).shifted(self.start)
    }
}

impl Branch {
    /// Takes over the tables of an included file. The tables of `named` hold names that the user chose, and may be spread over
    /// files, and so may lists of tables; anything else has one file that says it.
    pub(super) fn merge(&mut self, other: Branch, named: &[&str], found: &mut Vec<Diagnostic>) {
        for (key, leaf) in other.entries {
            let own = match self.entries.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(leaf);
                    continue;
                }
                Entry::Occupied(own) => own,
            };
            let key = own.key().clone();
            let own = own.into_mut();
            match (&mut own.node.data, leaf.node.data) {
                (Data::Table(own), Data::Table(other)) if named.contains(&&*key) => own.take_names(&key, other, found),
                (Data::Array(own), Data::Array(other)) if all_tables(own) && all_tables(&other) => own.extend(other),
                // Its own mistake is reported already.
                (Data::Unknown { .. }, _) | (_, Data::Unknown { .. }) => {}
                _ => found.push(twice(&quote(&key), own.key_span, leaf.key_span)),
            }
        }
    }

    fn take_names(&mut self, what: &str, other: Branch, found: &mut Vec<Diagnostic>) {
        for (name, leaf) in other.entries {
            match self.entries.entry(name) {
                Entry::Vacant(place) => {
                    place.insert(leaf);
                }
                Entry::Occupied(own) => {
                    let called = quote(&format!("{what}.{}", own.key()));
                    found.push(twice(&called, own.get().key_span, leaf.key_span));
                }
            }
        }
    }
}

fn all_tables(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node.data, Data::Table(_)))
}

fn twice(what: &str, first: Span, second: Span) -> Diagnostic {
    Diagnostic::new(&codes::TWO_FILES, second, format!("{what} is given in two files"))
        .also(first, "first given here")
        .help("join the two in one file, or drop one")
}
