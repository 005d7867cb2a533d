//! Model: the configuration file. `load`: text to plain values with every mistake; `compile`: values to a snapshot.
//!
//! What sources find joins what the file says before it is compiled (`found`).
//!
//! Pure: reading the file, and what the machine has (cores, random bytes), is the caller's. To add a key: a field in
//! `value`, its line in the reader of its table, and in `conf/` the example and the mistakes around it.
//!
//! Keys are in snake_case, the words that choose a variant in kebab-case.

mod check;
mod compile;
pub mod dump;
pub mod found;
pub mod grammar;
mod lore;
mod packet;
mod pool;
mod process;
mod root;
pub mod schema;
mod service;
mod test;
pub mod value;
mod vip;

#[cfg(test)]
mod tests;

pub use compile::{Machine, compile};
pub use value::Config;

use crate::doc::{self, Diagnostic, Document, Grammar, Outside, Sources, Span, Written};

/// The plug-ins of the floors above, by their grammars. (Pickers are below, and need not be passed.)
#[derive(Clone, Copy, Debug, Default)]
pub struct Catalogs<'a> {
    pub probes: &'a [&'static Grammar],
    /// Sources of endpoints.
    pub sources: &'a [&'static Grammar],
    /// Those of them that bring routes too.
    pub route_sources: &'a [&'static Grammar],
}

/// What became of a file's bytes.
#[derive(Debug)]
pub struct Loaded {
    /// The file, and those that it includes.
    pub sources: Sources,
    /// `None` when there is an error among the diagnostics.
    pub config: Option<Config>,
    /// In the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// For asking where a value came from.
    pub written: Written,
    /// What must not be shown of the sources.
    pub secrets: Vec<Span>,
}

/// Reads a file's bytes; what they refer to is asked of `outside`.
pub fn read(name: &str, bytes: Vec<u8>, outside: &dyn Outside, catalogs: &Catalogs<'_>) -> Loaded {
    let Document { value, diagnostics, sources, written, secrets, .. } = load(name, bytes, outside, catalogs);
    let right = !diagnostics.iter().any(Diagnostic::is_error);
    Loaded { sources, config: right.then_some(value), diagnostics, written, secrets }
}

/// Every value of the text, and every mistake. With an error among the mistakes the values are good for nothing but more
/// checks.
pub fn load(name: &str, bytes: Vec<u8>, outside: &dyn Outside, catalogs: &Catalogs<'_>) -> Document<Config> {
    doc::read(name, bytes, outside, &lore::LORE, |root| root::read_config(root, catalogs))
}
