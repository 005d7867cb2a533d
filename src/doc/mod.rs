//! Codec: configuration text. Spanned TOML reading, diagnostics, "did you mean", and the grammar of plug-in settings.
//!
//! Pure: text in, values and diagnostics out. Not here: what the keys mean (`config`), nor any file access.

pub mod codes;
pub mod cursor;
pub mod diagnostic;
mod expand;
mod hide;
mod include;
mod outside;
pub mod render;
mod scalar;
mod secret;
mod settings;
mod shape;
pub mod source;
pub mod span;
pub mod spec;
pub mod suggest;
mod syntax;
mod tree;
mod written;

pub use cursor::{Document, Item, Lore, Table, read};
pub use diagnostic::{Diagnostic, Severity, quote};
pub use outside::{Contents, Nowhere, Outside};
pub use render::{json, render, summary};
pub use secret::Secret;
pub use shape::{Shape, Shapes};
pub use source::{Place, Source, Sources};
pub use span::{Span, Spanned};
pub use spec::{Field, Grammar, Kind, Settings, Value};
pub use written::Written;

#[cfg(test)]
mod tests;
