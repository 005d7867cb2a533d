//! Value: the effective configuration as a file that means the same: every default filled in, secrets masked, and behind
//! each value the file and line that it came from.
//!
//! Works on the serialized form, so that a key that can be dumped is one that `/api/config` shows, and no list of keys is kept
//! here. Not here: whether the result reads back, which a test holds for every example.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// `effective` as TOML. `places` has its shape, with `file:line` for what was written and null for what nobody wrote.
pub fn toml(effective: &Value, places: &Value) -> String {
    let mut out = String::new();
    if let Value::Object(map) = effective {
        table(&mut out, "", map, places);
    }
    out
}

/// The keys of one table, then the tables in it: TOML wants them in this order.
fn table(out: &mut String, path: &str, map: &Map<String, Value>, places: &Value) {
    let place = |key: &str| places.get(key).unwrap_or(&Value::Null);
    let (tables, values): (Vec<_>, Vec<_>) =
        map.iter().filter(|(_, value)| !value.is_null()).partition(|(_, value)| is_table(value));
    let lines: Vec<(String, String)> =
        values.iter().flat_map(|(key, value)| assignment(key, value, place(key))).collect();
    // Comments in one column, unless a long value would push them all out of sight.
    let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    for (line, comment) in lines {
        let _ = if comment.is_empty() { writeln!(out, "{line}") } else { writeln!(out, "{line:width$}  # {comment}") };
    }
    for (key, value) in tables {
        let path = if path.is_empty() { bare(key) } else { format!("{path}.{}", bare(key)) };
        match value {
            Value::Object(inner) => header(out, &path, inner, place(key)),
            Value::Array(elements) => {
                for (index, inner) in elements.iter().enumerate() {
                    let Value::Object(inner) = inner else { continue };
                    let _ = write!(out, "\n[[{path}]]\n");
                    table(out, &path, inner, place(key).get(index).unwrap_or(&Value::Null));
                }
            }
            _ => {}
        }
    }
}

fn header(out: &mut String, path: &str, inner: &Map<String, Value>, places: &Value) {
    // `[pool]` says nothing beside `[pool.web]`, and an empty table nothing at all.
    if inner.values().any(|value| !value.is_null() && !is_table(value)) {
        let _ = write!(out, "\n[{path}]\n");
    }
    table(out, path, inner, places);
}

/// Whether it is written as `[key]`, or as `[[key]]`.
fn is_table(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(elements) => !elements.is_empty() && elements.iter().all(Value::is_object),
        _ => false,
    }
}

/// The lines of one key, each with where it came from.
fn assignment(key: &str, value: &Value, place: &Value) -> Vec<(String, String)> {
    let key = bare(key);
    let Value::Array(elements) = value else { return vec![(format!("{key} = {}", scalar(value)), shown(place))] };
    let from = |index: usize| shown(place.get(index).unwrap_or(&Value::Null));
    let one = elements.len() <= 1 || (1..elements.len()).all(|index| from(index) == from(0));
    if one {
        let list: Vec<String> = elements.iter().map(scalar).collect();
        let comment = if elements.is_empty() { shown(place) } else { from(0) };
        return vec![(format!("{key} = [{}]", list.join(", ")), comment)];
    }
    let mut lines = vec![(format!("{key} = ["), String::new())];
    lines.extend(elements.iter().enumerate().map(|(index, value)| (format!("    {},", scalar(value)), from(index))));
    lines.push(("]".to_owned(), String::new()));
    lines
}

fn shown(place: &Value) -> String {
    // A control character in a file's name would end the comment.
    place.as_str().map_or_else(|| "default".to_owned(), |place| place.replace(char::is_control, "?"))
}

fn bare(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !key.is_empty() && key.bytes().all(plain) { key.to_owned() } else { text(key) }
}

fn scalar(value: &Value) -> String {
    match value {
        // What reads as a variable was none.
        Value::String(value) => text(&value.replace("${", "$${")),
        other => other.to_string(),
    }
}

fn text(value: &str) -> String {
    // JSON's escapes are TOML's, but for the one control character that JSON leaves alone.
    Value::String(value.to_owned()).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dump_is_toml_with_the_place_of_each_value() {
        let effective = json!({
            "workers": 2,
            "log": { "level": "info" },
            "service": { "a.b": {
                "listen": [":80", ":81"],
                "trusted": [],
                "limits": {},
                "share": 1.0,
                "off": null,
                "route": [{ "url": "${x}\u{7f}\"", "pool": "web" }, { "pool": "api" }],
            } },
        });
        let places = json!({
            "workers": null,
            "log": { "level": "a.toml:3" },
            "service": { "a.b": {
                "listen": ["a.toml:5", "a.toml:6"],
                "route": [{ "url": "b\n.toml:1", "pool": "b.toml:2" }],
            } },
        });
        let want = r#"workers = 2  # default

[log]
level = "info"  # a.toml:3

[service."a.b"]
listen = [
    ":80",    # a.toml:5
    ":81",    # a.toml:6
]
trusted = []  # default
share = 1.0   # default

[[service."a.b".route]]
url = "$${x}\u007f\""  # b?.toml:1
pool = "web"           # b.toml:2

[[service."a.b".route]]
pool = "api"  # default
"#;
        assert_eq!(toml(&effective, &places), want);
    }
}
