//! Engine: a pool's settings as labels write them, by the grammar of the plug-in that they are for.
//!
//! A label is text, so a field of any kind is written as text: `probe.interval=2s`, `probe.rise=2`, lists with commas. What is wrong is
//! told and is as if it were absent.

use std::collections::BTreeMap;

use crate::base::units;
use crate::doc::{Field, Grammar, Kind, Settings, Value, quote, suggest};
use crate::seam::probe::{INTERVAL, THROUGH, TIMEOUT, outlasts};

/// A mistake in one label: its key, what is wrong, the way out.
#[derive(Debug, PartialEq)]
pub struct Wrong {
    pub key: String,
    pub unknown: bool,
    pub message: String,
    pub help: Option<String>,
}

/// The settings that `what` and `what.FIELD` give for one plug-in of `catalog`; `what=none` is to have none.
///
/// Fields without a name are those of `implied`, as far as there is one.
pub fn decode(
    prefix: &str,
    what: &str,
    said: &BTreeMap<&str, &str>,
    catalog: &[&'static Grammar],
    implied: Option<&str>,
    wrong: &mut Vec<Wrong>,
) -> Option<Settings> {
    let fields: BTreeMap<&str, &str> =
        said.iter().filter_map(|(key, text)| Some((key.strip_prefix(what)?.strip_prefix('.')?, *text))).collect();
    let named = said.get(what).copied();
    let name = match named {
        Some(NONE) if fields.is_empty() => return None,
        Some(name) => name,
        None if fields.is_empty() => return None,
        None => implied?,
    };
    let Some(grammar) = catalog.iter().find(|grammar| grammar.name == name).copied() else {
        let names = || catalog.iter().map(|grammar| grammar.name);
        wrong.push(Wrong {
            key: what.to_owned(),
            unknown: false,
            message: format!("unknown {what} {}", quote(name)),
            help: Some(match suggest::nearest(name, names()) {
                Some(meant) => format!("did you mean `{meant}`"),
                None => format!("one of {}", suggest::one_of(names())),
            }),
        });
        return None;
    };
    let mut settings = Settings::defaults(grammar);
    for (key, text) in &fields {
        // A way through VIPs is for those who know the VIPs.
        match grammar.fields.iter().find(|field| field.name == *key && field.name != THROUGH.name) {
            Some(field) => match value(field, text) {
                Ok(value) => {
                    settings.values.insert(field.name, value);
                }
                Err((message, help)) => {
                    let key = format!("{what}.{key}");
                    wrong.push(Wrong { key, unknown: false, message: format!("{} {message}", quote(text)), help });
                }
            },
            None => wrong.push(unknown(prefix, what, key, grammar)),
        }
    }
    let missing = grammar.fields.iter().find(|field| field.required && settings.get(field.name).is_none());
    if let Some(field) = missing {
        let message = format!("`{name}` needs `{prefix}{what}.{}`: {}", field.name, field.help);
        wrong.push(Wrong { key: what.to_owned(), unknown: false, message, help: None });
        return None;
    }
    Some(settings)
}

/// The probe, where what labels say of its times holds together, as a file's must; else as if they said nothing of them.
pub fn in_time(
    mut probe: Settings,
    prefix: &str,
    said: &BTreeMap<&str, &str>,
    catalog: &[&'static Grammar],
    wrong: &mut Vec<Wrong>,
) -> Settings {
    if !outlasts(&probe) {
        return probe;
    }
    let times = [INTERVAL.name, TIMEOUT.name];
    let key = times.iter().map(|field| format!("probe.{field}")).find(|key| said.contains_key(key.as_str()));
    wrong.push(Wrong {
        key: key.unwrap_or_else(|| "probe".to_owned()),
        unknown: false,
        message: "the probe's timeout is longer than its interval: both are as if they were absent".to_owned(),
        help: Some(format!("shorten `{prefix}probe.timeout` or lengthen `{prefix}probe.interval`")),
    });
    let usual = catalog.iter().find(|grammar| grammar.name == probe.name).map(|grammar| Settings::defaults(grammar));
    let usual = usual.into_iter().flat_map(|usual| usual.values);
    probe.values.extend(usual.filter(|(field, _)| times.contains(field)));
    probe
}

fn unknown(prefix: &str, what: &str, key: &str, grammar: &Grammar) -> Wrong {
    let names = || grammar.fields.iter().map(|field| field.name).filter(|name| *name != THROUGH.name);
    let help = match suggest::nearest(key, names()) {
        Some(meant) => format!("did you mean `{prefix}{what}.{meant}`"),
        None if grammar.fields.is_empty() => format!("`{}` has no settings", grammar.name),
        None => format!("`{}` has {}", grammar.name, suggest::one_of(names()).replace(" or ", " and ")),
    };
    Wrong { key: format!("{what}.{key}"), unknown: true, message: "unknown label".to_owned(), help: Some(help) }
}

/// What is wrong, in words that follow the text, and the way out.
type No = (String, Option<String>);

fn value(field: &Field, text: &str) -> Result<Value, No> {
    let no = |message: String| (message, None);
    match field.kind {
        Kind::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(no("is neither `true` nor `false`".to_owned())),
        },
        Kind::Integer { min, max } => whole(text, min, max).map(Value::Integer).map_err(no),
        Kind::Number { min, max } => match text.parse::<f64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Number(number)),
            _ => Err(no(format!("is no number from {min} to {max}"))),
        },
        Kind::Duration { min, max } => match units::parse_duration(text) {
            Ok(time) if (min..=max).contains(&time) => Ok(Value::Duration(time)),
            Ok(_) => {
                let (min, max) = (units::show_duration(min), units::show_duration(max));
                Err(no(format!("is not from {min} to {max}")))
            }
            Err(why) => Err(no(format!("is no duration: {why}"))),
        },
        Kind::Size => units::parse_size(text).map(Value::Size).map_err(|why| no(format!("is no size: {why}"))),
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Checked(check) => match check(text) {
            Ok(()) => Ok(Value::Text(text.to_owned())),
            Err(why) => Err(no(format!("is no valid {}: {why}", field.name))),
        },
        Kind::Word(words) => match words.contains(&text) {
            true => Ok(Value::Text(text.to_owned())),
            false => {
                let meant =
                    suggest::nearest(text, words.iter().copied()).map(|meant| format!("did you mean `{meant}`"));
                Err((format!("is none of {}", suggest::one_of(words.iter().copied())), meant))
            }
        },
        Kind::Texts(check) => {
            let parts: Vec<&str> = text.split(',').map(str::trim).collect();
            match parts.iter().find_map(|part| check(part).err()) {
                None => Ok(Value::Texts(parts.into_iter().map(str::to_owned).collect())),
                Some(why) => Err(no(format!("is no valid {}: {why}", field.name))),
            }
        }
        Kind::Integers { min, max } => {
            let numbers: Result<Vec<u64>, String> = text.split(',').map(|part| whole(part.trim(), min, max)).collect();
            numbers.map(Value::Integers).map_err(no)
        }
    }
}

fn whole(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("is no whole number from {min} to {max}"))
}

const NONE: &str = "none";
