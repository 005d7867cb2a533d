//! Value: what a document says, as it is written: for asking of any value where it came from.

use serde_json::Value;

use super::source::Sources;
use super::span::Span;
use super::tree::{Branch, Data, Node};

/// The keys and values of all files, after reading.
#[derive(Clone, Debug)]
pub struct Written {
    root: Branch,
    sources: Sources,
}

impl Written {
    pub(super) fn new(root: Branch, sources: &Sources) -> Written {
        Written { root, sources: sources.clone() }
    }

    /// The shape of `meant`, the values that the document was found to mean, with the place of each in its stead: `file:line`, or
    /// null for what nobody wrote.
    ///
    /// What is written short stands for its whole: `balance = "maglev"` is where the `type` of `balance` comes from.
    pub fn places(&self, meant: &Value) -> Value {
        match meant {
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(key, value)| {
                        let own = self.root.entries.get(key).map(|leaf| &leaf.node);
                        (key.clone(), self.place(value, Found::of(own)))
                    })
                    .collect(),
            ),
            _ => Value::Null,
        }
    }

    fn place(&self, meant: &Value, found: Found<'_>) -> Value {
        match meant {
            Value::Object(map) => {
                let inside = |(index, (key, value)): (usize, (&String, &Value))| {
                    let found = match found {
                        Found::Node(Node { data: Data::Table(branch), .. }) => {
                            Found::of(branch.entries.get(key).map(|leaf| &leaf.node))
                        }
                        // A word or an address that stands for the whole table: for the first of its keys, the others are
                        // defaults.
                        Found::Node(node) if index == 0 => Found::Short(node.span),
                        Found::Short(span) if index == 0 => Found::Short(span),
                        _ => Found::Nothing,
                    };
                    (key.clone(), self.place(value, found))
                };
                Value::Object(map.iter().enumerate().map(inside).collect())
            }
            Value::Array(elements) if !elements.is_empty() => {
                let inside = |(index, value): (usize, &Value)| {
                    let found = match found {
                        Found::Node(Node { data: Data::Array(nodes), span }) => match nodes.get(index) {
                            // Element by element, where none was left out.
                            Some(node) if nodes.len() == elements.len() => Found::Node(node),
                            _ => Found::Short(*span),
                        },
                        Found::Node(node) => Found::Short(node.span),
                        Found::Short(span) => Found::Short(span),
                        Found::Nothing => Found::Nothing,
                    };
                    self.place(value, found)
                };
                Value::Array(elements.iter().enumerate().map(inside).collect())
            }
            _ => match found {
                Found::Node(node) => self.at(node.span),
                Found::Short(span) => self.at(span),
                Found::Nothing => Value::Null,
            },
        }
    }

    fn at(&self, span: Span) -> Value {
        self.sources.place(span.start).to_string().into()
    }
}

/// What is written where a value is looked for.
#[derive(Clone, Copy)]
enum Found<'t> {
    Node(&'t Node),
    /// A shorter way to say it.
    Short(Span),
    Nothing,
}

impl<'t> Found<'t> {
    fn of(node: Option<&'t Node>) -> Found<'t> {
        node.map_or(Found::Nothing, Found::Node)
    }
}
