//! Value: the JSON schema of a configuration, for editors. Made from the tables that decoding, reference pages and tests know
//! (`grammar`, and the grammars of plug-ins): there is no second list of keys.
//!
//! It says of each key what it takes, and no more: what depends on two keys, or on names, is for `strata check` to say.

use serde_json::{Map, Value, json};

use super::Catalogs;
use super::grammar::{self, Key, Need, SECTIONS, Section, Takes};
use crate::base::units::show_duration;
use crate::doc::{Field, Grammar, Kind, Shape};

/// The schema. Plug-ins of a floor above are passed.
pub fn schema(above: &Catalogs<'_>) -> Value {
    let mut definitions = Map::new();
    for section in SECTIONS.iter().skip(1) {
        definitions.insert(section.kind.to_owned(), table(section, above));
    }
    let mut root = table(&SECTIONS[0], above);
    if let Some(root) = root.as_object_mut() {
        // Draft 7 is what editors of TOML know.
        root.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
        root.insert("title".to_owned(), "Strata".into());
        root.insert("definitions".to_owned(), Value::Object(definitions));
    }
    root
}

fn table(section: &Section, above: &Catalogs<'_>) -> Value {
    let properties: Map<String, Value> =
        section.keys.iter().map(|key| (key.name.to_owned(), described(key, above))).collect();
    let required: Vec<&str> =
        section.keys.iter().filter(|key| key.need == Need::Required).map(|key| key.name).collect();
    let mut table = json!({ "type": "object", "description": section.about, "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        table["required"] = json!(required);
    }
    table
}

fn described(key: &Key, above: &Catalogs<'_>) -> Value {
    let help = match key.need {
        Need::Default(default) => format!("{}; default: {default}", key.help),
        _ => key.help.to_owned(),
    };
    // Beside a `$ref` draft 7 hears nothing else, so what it takes stands one level deeper.
    json!({ "description": help, "allOf": [takes(&key.takes, above)] })
}

fn takes(takes: &Takes, above: &Catalogs<'_>) -> Value {
    match takes {
        Takes::One(shapes) => any(shapes.iter().map(shape)),
        Takes::Many(shapes) => many(any(shapes.iter().map(shape))),
        Takes::Table(kind) => reference(kind),
        Takes::Named(kind) => json!({ "type": "object", "additionalProperties": reference(kind) }),
        Takes::Tables(kind) => json!({ "type": "array", "items": reference(kind) }),
        Takes::ManyOrTable(shapes, kind) => many(any(shapes.iter().map(shape).chain([reference(kind)]))),
        Takes::Free => any([
            many(json!({ "type": "string" })),
            json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        ]
        .into_iter()),
        Takes::Plugin(family) => plugin(&family.grammars(above)),
        Takes::ManyOrPlugin(shapes, family) => {
            any([many(any(shapes.iter().map(shape))), plugin(&family.grammars(above))].into_iter())
        }
        Takes::Fields(grammar) => fields(grammar, false),
    }
}

fn many(one: Value) -> Value {
    json!({ "anyOf": [one.clone(), { "type": "array", "items": one }] })
}

fn any(alternatives: impl Iterator<Item = Value>) -> Value {
    let mut alternatives: Vec<Value> = alternatives.collect();
    if alternatives.len() == 1 { alternatives.remove(0) } else { json!({ "anyOf": alternatives }) }
}

fn reference(kind: &str) -> Value {
    // A kind without a section is a mistake of the program, which a test of `grammar` finds.
    debug_assert!(grammar::section(kind).is_some(), "{kind}");
    json!({ "$ref": format!("#/definitions/{kind}") })
}

/// A text with a variable may stand for anything else.
fn or_variable(value: Value) -> Value {
    json!({ "anyOf": [value, { "type": "string", "pattern": "\\$\\{" }] })
}

fn shape(shape: &Shape) -> Value {
    match shape {
        Shape::Bool => or_variable(json!({ "type": "boolean" })),
        Shape::Integer { min, max } => or_variable(json!({ "type": "integer", "minimum": min, "maximum": max })),
        Shape::Signed { min, max } => or_variable(json!({ "type": "integer", "minimum": min, "maximum": max })),
        Shape::Word(words) => or_variable(json!({ "enum": words })),
        Shape::Words(words) => or_variable(json!({ "enum": words })),
        Shape::Duration { min, max } => duration(&show_duration(*min), &show_duration(*max)),
        Shape::Size { .. } => size(),
        Shape::Text
        | Shape::Secret
        | Shape::Listen
        | Shape::Socket
        | Shape::Network
        | Shape::Ip
        | Shape::Ports
        | Shape::Mac => json!({ "type": "string" }),
        // Of these a table of keys has its own words.
        Shape::Table(kind) => reference(kind),
        Shape::Plugin(_) | Shape::Fields(_) => json!({}),
    }
}

fn duration(min: &str, max: &str) -> Value {
    let pattern = r"^[0-9]+(\.[0-9]+)?(us|ms|s|m|h|d)$|\$\{";
    json!({ "type": "string", "pattern": pattern, "description": format!("from {min} to {max}") })
}

fn size() -> Value {
    json!({ "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?([kKMGT]?B|[KMGT]iB)$|\$\{" })
}

/// A name alone, where nothing is required, or a table with its `type`.
fn plugin(grammars: &[&'static Grammar]) -> Value {
    let bare = grammars.iter().filter(|grammar| grammar.fields.iter().all(|field| !field.required));
    let names: Vec<&str> = bare.map(|grammar| grammar.name).collect();
    let tables = grammars.iter().map(|grammar| fields(grammar, true));
    any([or_variable(json!({ "enum": names }))].into_iter().chain(tables))
}

fn fields(grammar: &Grammar, typed: bool) -> Value {
    let mut properties: Map<String, Value> =
        grammar.fields.iter().map(|field| (field.name.to_owned(), field_value(field))).collect();
    let mut required: Vec<&str> =
        grammar.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    if typed {
        properties.insert("type".to_owned(), json!({ "enum": [grammar.name] }));
        required.push("type");
    }
    json!({
        "type": "object",
        "description": grammar.summary,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn field_value(field: &Field) -> Value {
    let help = match field.default {
        Some(default) => format!("{}; default: {default}", field.help),
        None => field.help.to_owned(),
    };
    let value = match field.kind {
        Kind::Bool => or_variable(json!({ "type": "boolean" })),
        Kind::Integer { min, max } => or_variable(json!({ "type": "integer", "minimum": min, "maximum": max })),
        Kind::Number { min, max } => or_variable(json!({ "type": "number", "minimum": min, "maximum": max })),
        Kind::Duration { min, max } => duration(&show_duration(min), &show_duration(max)),
        Kind::Size => size(),
        Kind::Text | Kind::Checked(_) => json!({ "type": "string" }),
        Kind::Word(words) => or_variable(json!({ "enum": words })),
        Kind::Texts(_) => many(json!({ "type": ["string", "integer"] })),
        Kind::Integers { min, max } => many(or_variable(json!({ "type": "integer", "minimum": min, "maximum": max }))),
    };
    json!({ "description": help, "allOf": [value] })
}
