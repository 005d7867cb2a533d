//! Value: what a reader takes a value for. Readers note it, so that what is written about them can be held to them.

use std::collections::BTreeMap;
use std::time::Duration;

/// A kind of value, with its bounds.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Bool,
    Integer {
        min: u64,
        max: u64,
    },
    Signed {
        min: i64,
        max: i64,
    },
    Duration {
        min: Duration,
        max: Duration,
    },
    Size {
        min: u64,
        max: u64,
    },
    Text,
    /// One of these, as a table says it.
    Word(&'static [&'static str]),
    /// One of these, as a reader has them.
    Words(Vec<&'static str>),
    Secret,
    Listen,
    Socket,
    Network,
    Ip,
    Ports,
    Mac,
    /// A table whose keys a reader asks for.
    Table(&'static str),
    /// The settings of one of these plug-ins.
    Plugin(Vec<&'static str>),
    /// The settings of this one.
    Fields(&'static str),
}

/// By kind of table, the keys that were asked for, and what those that were given were taken for.
pub type Shapes = BTreeMap<&'static str, BTreeMap<String, Vec<Shape>>>;
