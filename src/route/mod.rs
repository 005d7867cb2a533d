//! Engine: which rule takes a request. Patterns over host and path, one compiled table, and the rules that can never win.
//!
//! Precedence: exact host, longest wildcard host, none; then exact path, longest prefix, none; then `priority`; then more
//! conditions; then the order of the file. It orders *all* rules that match: a host's own rules come first, but a request that
//! none of them takes goes on to the wildcard's and to those without a host.
//!
//! Pure: no socket, clock or request type. Not here: what conditions mean (the caller judges them, see [`Table::select`]) and
//! what a rule does (the caller keeps its actions under the rule's index).

pub mod pattern;
pub mod perfect;
pub mod shadow;
pub mod table;
pub mod why;

pub use pattern::{Host, Path, Pattern};
pub use shadow::shadowed;
pub use table::{Rule, Table};

#[cfg(test)]
mod tests;
