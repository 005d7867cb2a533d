//! Value: the grammar of a plug-in's settings. One table an algorithm, probe, source or mode, from which decoding, help,
//! the schema and the reference pages all come.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::base::units;

/// What a plug-in is called and what it may be given: `balance = { type = "NAME", FIELD = … }`, or `balance = "NAME"` when
/// no field is required.
#[derive(Debug)]
pub struct Grammar {
    pub name: &'static str,
    /// One line, lower case, no full stop.
    pub summary: &'static str,
    pub fields: &'static [Field],
    /// A complete TOML assignment that must decode.
    pub example: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    /// What an absent field means, as the operator would write it (`"2s"`, `"3"`, `"/"`, `"true"`); `None`: stays absent.
    pub default: Option<&'static str>,
    pub help: &'static str,
}

impl Field {
    pub const fn required(name: &'static str, kind: Kind, help: &'static str) -> Field {
        Field { name, kind, required: true, default: None, help }
    }

    pub const fn optional(name: &'static str, kind: Kind, help: &'static str) -> Field {
        Field { name, kind, required: false, default: None, help }
    }

    pub const fn default(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Field {
        Field { name, kind, required: false, default: Some(default), help }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    /// Whole number within the inclusive bounds.
    Integer {
        min: u64,
        max: u64,
    },
    /// Number within the inclusive bounds; TOML integers are welcome.
    Number {
        min: f64,
        max: f64,
    },
    /// `"2s"`, within the inclusive bounds.
    Duration {
        min: Duration,
        max: Duration,
    },
    /// `"64KiB"`.
    Size,
    Text,
    /// Text checked by a function whose error is the diagnostic's message.
    Checked(fn(&str) -> Result<(), String>),
    /// One of these words.
    Word(&'static [&'static str]),
    /// List of text, each checked by the function; a single text stands for a list of one, a number for its digits.
    Texts(fn(&str) -> Result<(), String>),
    /// List of whole numbers within the inclusive bounds; a single number stands for a list of one.
    Integers {
        min: u64,
        max: u64,
    },
}

/// A decoded field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Integer(u64),
    Number(f64),
    Duration(Duration),
    Size(u64),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<u64>),
}

/// A plug-in's decoded settings: complete (defaults filled in), valid by its grammar, comparable and printable.
///
/// The typed getters panic when the plug-in asks for a field or kind its own `Grammar` does not have: a mistake of the
/// program, found by the test that builds every `example`, never by what a user wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub name: &'static str,
    pub values: BTreeMap<&'static str, Value>,
}

impl Settings {
    /// The settings that an absent table means: every default of `grammar`.
    ///
    /// # Panics
    /// When a default does not read as its kind, or a required field has none to offer: a mistake of the program.
    pub fn defaults(grammar: &'static Grammar) -> Settings {
        let mut values = BTreeMap::new();
        for field in grammar.fields {
            if let Some(text) = field.default {
                values.insert(field.name, Value::of_default(field.kind, text));
            }
        }
        Settings { name: grammar.name, values }
    }

    /// Settings of `grammar` that were serialized, by another version perhaps: a field that is not known, or does not fit any more, is as
    /// if it were absent. `None`: one is missing that must be there.
    pub fn revived(grammar: &'static Grammar, said: &serde_json::Value) -> Option<Settings> {
        let mut settings = Settings::defaults(grammar);
        for field in grammar.fields {
            if let Some(value) = said.get(field.name).and_then(|said| Value::revived(field.kind, said)) {
                settings.values.insert(field.name, value);
            }
        }
        let missing = grammar.fields.iter().any(|field| field.required && settings.get(field.name).is_none());
        (!missing).then_some(settings)
    }

    pub fn get(&self, field: &str) -> Option<&Value> {
        self.values.get(field)
    }

    pub fn bool(&self, field: &str) -> bool {
        matches!(self.need(field), Value::Bool(true))
    }

    pub fn integer(&self, field: &str) -> u64 {
        match self.need(field) {
            Value::Integer(n) | Value::Size(n) => *n,
            other => unreachable!("{}.{field} is {other:?}, not an integer", self.name),
        }
    }

    pub fn number(&self, field: &str) -> f64 {
        match self.need(field) {
            Value::Number(n) => *n,
            other => unreachable!("{}.{field} is {other:?}, not a number", self.name),
        }
    }

    pub fn duration(&self, field: &str) -> Duration {
        match self.need(field) {
            Value::Duration(d) => *d,
            other => unreachable!("{}.{field} is {other:?}, not a duration", self.name),
        }
    }

    pub fn text(&self, field: &str) -> Option<&str> {
        match self.get(field) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub fn texts(&self, field: &str) -> &[String] {
        match self.get(field) {
            Some(Value::Texts(texts)) => texts,
            _ => &[],
        }
    }

    pub fn integers(&self, field: &str) -> &[u64] {
        match self.get(field) {
            Some(Value::Integers(list)) => list,
            _ => &[],
        }
    }

    fn need(&self, field: &str) -> &Value {
        match self.get(field) {
            Some(value) => value,
            None => unreachable!("{} has no value for {field}", self.name),
        }
    }
}

/// As the user would write it: `{ type = "NAME", FIELD = … }`, durations and sizes with their unit.
impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len() + 1))?;
        map.serialize_entry("type", self.name)?;
        for (field, value) in &self.values {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Integer(value) => serializer.serialize_u64(*value),
            Value::Number(value) => serializer.serialize_f64(*value),
            Value::Duration(value) => serializer.serialize_str(&units::show_duration(*value)),
            Value::Size(value) => serializer.serialize_str(&units::show_size(*value)),
            Value::Text(value) => serializer.serialize_str(value),
            Value::Texts(values) => values.serialize(serializer),
            Value::Integers(values) => values.serialize(serializer),
        }
    }
}

impl Value {
    fn revived(kind: Kind, said: &serde_json::Value) -> Option<Value> {
        let text = |is_right: &dyn Fn(&str) -> bool| said.as_str().filter(|text| is_right(text)).map(str::to_owned);
        match kind {
            Kind::Bool => said.as_bool().map(Value::Bool),
            Kind::Integer { min, max } => said.as_u64().filter(|n| (min..=max).contains(n)).map(Value::Integer),
            Kind::Number { min, max } => said.as_f64().filter(|n| (min..=max).contains(n)).map(Value::Number),
            Kind::Duration { min, max } => {
                let time = units::parse_duration(said.as_str()?).ok();
                time.filter(|time| (min..=max).contains(time)).map(Value::Duration)
            }
            Kind::Size => units::parse_size(said.as_str()?).ok().map(Value::Size),
            Kind::Text => text(&|_| true).map(Value::Text),
            Kind::Checked(check) => text(&|text| check(text).is_ok()).map(Value::Text),
            Kind::Word(words) => text(&|text| words.contains(&text)).map(Value::Text),
            Kind::Texts(check) => {
                let every = said.as_array()?.iter().map(|one| one.as_str().filter(|text| check(text).is_ok()));
                every.map(|text| text.map(str::to_owned)).collect::<Option<_>>().map(Value::Texts)
            }
            Kind::Integers { min, max } => {
                let every = said.as_array()?.iter().map(|one| one.as_u64().filter(|n| (min..=max).contains(n)));
                every.collect::<Option<_>>().map(Value::Integers)
            }
        }
    }

    fn of_default(kind: Kind, text: &str) -> Value {
        let bad = || -> ! { unreachable!("the default {text:?} does not read as {kind:?}") };
        match kind {
            Kind::Bool => Value::Bool(text == "true"),
            Kind::Integer { .. } => Value::Integer(text.parse().unwrap_or_else(|_| bad())),
            Kind::Number { .. } => Value::Number(text.parse().unwrap_or_else(|_| bad())),
            Kind::Duration { .. } => Value::Duration(units::parse_duration(text).unwrap_or_else(|_| bad())),
            Kind::Size => Value::Size(units::parse_size(text).unwrap_or_else(|_| bad())),
            Kind::Text | Kind::Checked(_) | Kind::Word(_) => Value::Text(text.to_owned()),
            Kind::Texts(_) => Value::Texts(text.split_whitespace().map(str::to_owned).collect()),
            Kind::Integers { .. } => {
                Value::Integers(text.split_whitespace().map(|n| n.parse().unwrap_or_else(|_| bad())).collect())
            }
        }
    }
}
