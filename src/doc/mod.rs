//! Codec: configuration text. Spanned TOML reading, diagnostics, "did you mean", and the grammar of plug-in settings.
//!
//! Pure: text in, values and diagnostics out. Not here: what the keys mean (`config`), nor any file access.

pub mod codes;
pub mod cursor;
pub mod diagnostic;
pub mod render;
mod scalar;
mod settings;
pub mod source;
pub mod span;
pub mod spec;
pub mod suggest;
mod syntax;

pub use cursor::{Item, Lore, Table, read};
pub use diagnostic::{Diagnostic, Severity, quote};
pub use render::{json, render, summary};
pub use source::Source;
pub use span::{Span, Spanned};
pub use spec::{Field, Grammar, Kind, Settings, Value};

#[cfg(test)]
mod tests;
