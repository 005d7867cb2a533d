//! Codec: configuration text. Spanned TOML reading, diagnostics, "did you mean", and the grammar of plug-in settings.
//!
//! Pure: text in, values and diagnostics out. Not here: what the keys mean (`config`), nor any file access.

pub mod spec;

pub use spec::{Field, Grammar, Kind, Settings, Value};
