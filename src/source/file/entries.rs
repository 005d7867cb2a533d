//! Engine: a list of endpoints as a file has it, in each of the forms that are taken.
//!
//! - `["10.0.0.1:80", { "address": "10.0.0.2:80", "weight": 2, "backup": true, "zone": "a" }]`
//! - the same below the key `endpoints`, in JSON or TOML
//! - of Prometheus' `file_sd`: `[{ "targets": ["10.0.0.1:80"], "labels": { "weight": "2" } }]`; labels of other names are others' business
//!
//! An entry is what a pool's `endpoints` takes, and is read as strictly.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::base::{EndpointAddr, Weight, limits};
use crate::doc::{quote, suggest};
use crate::seam::source::{Failure, Member, Trouble};

/// The members of a file called `name`.
pub(super) fn read(bytes: &[u8], name: &str) -> Result<Vec<Member>, Failure> {
    let wrong = |why: String| Failure::new(Trouble::Malformed, format!("{name}: {why}"));
    let Ok(text) = std::str::from_utf8(bytes) else { return Err(wrong("it is no UTF-8 text".to_owned())) };
    if text.trim().is_empty() {
        return Err(Failure::new(Trouble::Empty, format!("{name} is empty")));
    }
    let value = parse(text, name).map_err(wrong)?;
    let entries = match &value {
        Value::Array(entries) => entries,
        Value::Object(map) => {
            known(map, &["endpoints"]).map_err(wrong)?;
            match map.get("endpoints") {
                Some(Value::Array(entries)) => entries,
                _ => return Err(wrong("`endpoints` must be a list".to_owned())),
            }
        }
        _ => return Err(wrong("it must be a list of endpoints".to_owned())),
    };
    let from: Arc<str> = name.into();
    let mut members = Vec::new();
    for (number, entry) in (1_usize..).zip(entries) {
        let read = match entry {
            Value::Object(map) if map.contains_key("targets") => targets(map, &from),
            entry => member(entry, &from).map(|member| vec![member]),
        };
        members.extend(read.map_err(|why| wrong(format!("entry {number}: {why}")))?);
        if members.len() > limits::POOL_ENDPOINTS {
            return Err(wrong(format!("more than the {} endpoints of a pool", limits::POOL_ENDPOINTS)));
        }
    }
    let mut addresses: Vec<EndpointAddr> = members.iter().map(|member| member.address).collect();
    addresses.sort_unstable();
    match addresses.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first) {
        Some(twice) => Err(wrong(format!("endpoint `{twice}` is named twice"))),
        None => Ok(members),
    }
}

/// By the ending of the name; without a known one, JSON first.
fn parse(text: &str, name: &str) -> Result<Value, String> {
    let json = || serde_json::from_str(text).map_err(|error| error.to_string());
    let toml = || toml::from_str::<Value>(text).map_err(|error| toml_fault(&error, text));
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("toml") => toml(),
        Some("json") => json(),
        Some("yml" | "yaml") => Err("YAML is not read: write the same as JSON".to_owned()),
        _ => json().or_else(|why| toml().map_err(|_| why)),
    }
}

fn toml_fault(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let message = error.message().lines().next().unwrap_or_default().to_owned();
    line.map_or(message.clone(), |line| format!("{message} at line {line}"))
}

fn member(entry: &Value, from: &Arc<str>) -> Result<Member, String> {
    let map = match entry {
        Value::String(text) => return Ok(Member::new(address(text)?, from.clone())),
        Value::Object(map) => map,
        _ => return Err("an endpoint is a text, or a table with an `address`".to_owned()),
    };
    known(map, &["address", "weight", "backup", "zone"])?;
    let Some(Value::String(at)) = map.get("address") else { return Err("`address` is missing, or no text".to_owned()) };
    let mut member = Member::new(address(at)?, from.clone());
    if let Some(value) = map.get("weight") {
        member.weight = weight(value.as_u64(), &value.to_string())?;
    }
    if let Some(value) = map.get("backup") {
        member.backup = value.as_bool().ok_or("`backup` must be true or false")?;
    }
    if let Some(value) = map.get("zone") {
        member.zone = Some(zone(value.as_str().ok_or("`zone` must be text")?)?);
    }
    Ok(member)
}

/// A group of Prometheus' `file_sd`.
fn targets(map: &Map<String, Value>, from: &Arc<str>) -> Result<Vec<Member>, String> {
    known(map, &["targets", "labels"])?;
    let Some(Value::Array(targets)) = map.get("targets") else { return Err("`targets` must be a list".to_owned()) };
    let none = Map::new();
    let labels = match map.get("labels") {
        None => &none,
        Some(Value::Object(labels)) => labels,
        Some(_) => return Err("`labels` must be a table".to_owned()),
    };
    let label = |name: &str| match labels.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("label `{name}` must be text")),
    };
    let weight = label("weight")?.map(|text| weight(text.parse().ok(), text)).transpose()?;
    let zone = label("zone")?.map(zone).transpose()?;
    let backup = match label("backup")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err("label `backup` must be \"true\" or \"false\"".to_owned()),
    };
    let member = |target: &Value| {
        let text = target.as_str().ok_or("a target is text")?;
        let member = Member::new(address(text)?, from.clone());
        Ok(Member { weight: weight.unwrap_or(member.weight), backup, zone: zone.clone(), ..member })
    };
    targets.iter().map(member).collect()
}

fn known(map: &Map<String, Value>, keys: &[&str]) -> Result<(), String> {
    let Some(key) = map.keys().find(|key| !keys.contains(&key.as_str())) else { return Ok(()) };
    Err(match suggest::nearest(key, keys.iter().copied()) {
        Some(near) => format!("unknown key {}: did you mean `{near}`", quote(key)),
        None => format!("unknown key {}: known are {}", quote(key), suggest::one_of(keys.iter().copied())),
    })
}

fn address(text: &str) -> Result<EndpointAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(EndpointAddr::host(ip));
    }
    match text.parse::<SocketAddr>() {
        Ok(at) if at.port() == 0 => Err(format!("{}: port 0 cannot be connected to", quote(text))),
        Ok(at) => Ok(at.into()),
        Err(_) => Err(format!("{} is no address, as \"10.0.0.1:8080\" is", quote(text))),
    }
}

fn weight(number: Option<u64>, shown: &str) -> Result<Weight, String> {
    number.and_then(Weight::new).ok_or_else(|| format!("weight {} is not from 1 to {}", quote(shown), limits::WEIGHT))
}

fn zone(text: &str) -> Result<Arc<str>, String> {
    match text.is_empty() || text.len() > limits::NAME_BYTES || text.chars().any(char::is_control) {
        true => Err(format!("{} is no zone: a word of 1 to {} bytes", quote(text), limits::NAME_BYTES)),
        false => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, text: &str) -> Result<Vec<String>, String> {
        let show = |member: Member| {
            let zone = member.zone.as_deref().unwrap_or("-");
            format!(
                "{} {} {} {zone}",
                member.address,
                member.weight.get(),
                if member.backup { "backup" } else { "first" }
            )
        };
        read(text.as_bytes(), name).map(|members| members.into_iter().map(show).collect()).map_err(|f| f.message)
    }

    #[test]
    fn every_form_is_read() {
        let one = ["10.0.0.1:80 1 first -", "[fd00::2]:80 5 backup a"];
        for (name, text) in [
            ("a.json", r#"["10.0.0.1:80", {"address": "[fd00::2]:80", "weight": 5, "backup": true, "zone": "a"}]"#),
            (
                "a.json",
                r#"{"endpoints": ["10.0.0.1:80", {"address": "[fd00::2]:80", "weight": 5, "backup": true, "zone": "a"}]}"#,
            ),
            (
                "a.toml",
                "endpoints = ['10.0.0.1:80', { address = '[fd00::2]:80', weight = 5, backup = true, zone = 'a' }]",
            ),
            ("a", "endpoints = ['10.0.0.1:80', { address = '[fd00::2]:80', weight = 5, backup = true, zone = 'a' }]"),
            (
                "a",
                r#"[{"targets": ["10.0.0.1:80"], "labels": {"job": "x"}},
                    {"targets": ["[fd00::2]:80"], "labels": {"weight": "5", "backup": "true", "zone": "a"}}]"#,
            ),
        ] {
            assert_eq!(shown(name, text).unwrap(), one, "{text}");
        }
        assert_eq!(shown("a", r#"["10.0.0.1", "[fd00::1]"]"#).unwrap(), ["10.0.0.1 1 first -", "fd00::1 1 first -"]);
        assert_eq!(shown("a", "[]").unwrap(), [""; 0]);
    }

    #[test]
    fn a_mistake_says_where_it_is_and_what_would_be_right() {
        for (name, text, want) in [
            ("a.json", "", "is empty"),
            ("a.json", "[\n\"10.0.0.1:80\"\n", "line"),
            ("a.toml", "x = 1\nendpoints = [", "line 2"),
            ("a.yml", "- targets: []", "YAML"),
            ("a", "{\"endpoint\": []}", "did you mean `endpoints`"),
            ("a", "7", "a list"),
            ("a", "[\"10.0.0.1:80\", 7]", "entry 2"),
            ("a", "[\"web.internal:80\"]", "no address"),
            ("a", "[\"10.0.0.1:0\"]", "port 0"),
            ("a", "[{\"address\": \"10.0.0.1:80\", \"weigth\": 2}]", "did you mean `weight`"),
            ("a", "[{\"address\": \"10.0.0.1:80\", \"weight\": 0}]", "1 to 1000"),
            ("a", "[{\"address\": \"10.0.0.1:80\", \"weight\": 1.5}]", "1 to 1000"),
            ("a", "[{\"weight\": 2}]", "`address` is missing"),
            ("a", "[{\"targets\": [\"10.0.0.1:80\"], \"labels\": {\"weight\": \"x\"}}]", "1 to 1000"),
            ("a", "[\"10.0.0.1:80\", \"10.0.0.1:80\"]", "twice"),
        ] {
            let got = shown(name, text).unwrap_err();
            assert!(got.contains(want), "{text}: {got}");
        }
        assert!(read(b"\xff", "a").is_err());
    }
}
