//! Engine: what the labels of one container ask for.
//!
//! Labels are text of other teams. Each is read alone: a wrong one is a mistake that names it, and takes with it as little as can be.
//! Labels that say whether and where (`enable`, `pool`, `port`, `network`, a weight of 0) leave the container out when they cannot be
//! read, because traffic must not go where nobody meant it to; one that says how (`weight`, `zone`, `backup`, a pool's setting) is
//! as if it were absent; a wrong part of a route drops that route.
//!
//! Not here: whether anybody opened what is asked for, and what other containers say (`gather`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::facts::Container;
use crate::base::{Weight, limits};
use crate::doc::{quote, suggest};
use crate::route::Pattern;
use crate::seam::source::{Mistake, Refusal};

/// What one container asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    pub pool: Arc<str>,
    /// `None`: the only one that it exposes.
    pub port: Option<u16>,
    pub network: Option<String>,
    pub weight: Weight,
    pub zone: Option<Arc<str>>,
    pub backup: bool,
    pub routes: Vec<Wish>,
    /// Of the pool, by key: `balance`, `probe.path`.
    pub settings: BTreeMap<String, String>,
}

/// A route that a container asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Empty for the one that `url` alone means.
    pub name: String,
    /// `None`: the only one there is.
    pub service: Option<String>,
    pub url: String,
    pub pattern: Pattern,
    pub priority: i64,
    /// `None`: the container's own.
    pub pool: Option<Arc<str>>,
}

/// Labels of one container below the prefix, without it.
type Said<'c> = BTreeMap<&'c str, &'c str>;

struct Reader<'c> {
    container: &'c Container,
    prefix: &'c str,
    said: Said<'c>,
    mistakes: &'c mut Vec<Mistake>,
}

/// `None`: it is not to be used, because it says so or because what it says cannot be followed.
pub fn read(container: &Container, prefix: &str, mistakes: &mut Vec<Mistake>) -> Option<Claims> {
    let said: Said<'_> = container
        .labels
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
        .take(limits::DOCKER_LABELS + 1)
        .collect();
    let mut reader = Reader { container, prefix, said, mistakes };
    if reader.said.len() > limits::DOCKER_LABELS {
        let message = format!("more than {} labels that start with {}", limits::DOCKER_LABELS, quote(prefix));
        reader.mistakes.push(Mistake::new(Refusal::TooMany, place(container), message));
        return None;
    }
    reader.read()
}

/// The container, as mistakes and logs name it.
pub fn place(container: &Container) -> String {
    place_of(&container.name)
}

/// The same, of one of which no more is known.
pub fn place_of(name: &str) -> String {
    format!("container {name}")
}

/// One of its labels.
pub fn label_place(container: &Container, prefix: &str, key: &str) -> String {
    let label = quote(&format!("{prefix}{key}"));
    format!("container {}, label {}", container.name, label.trim_matches('`'))
}

impl Reader<'_> {
    fn read(&mut self) -> Option<Claims> {
        // First: what is switched off may be as wrong as it likes.
        let enabled = match self.said.get("enable").copied() {
            None | Some("true") => true,
            Some("false") => return None,
            Some(other) => {
                self.wrong("enable", format!("{} is neither `true` nor `false`", quote(other)), LEFT_OUT);
                false
            }
        };
        self.refuse_unknown();
        let pool = self.pool();
        let port = self.value("port", LEFT_OUT, |text| match text.parse() {
            Ok(0) | Err(_) => Err("is no port from 1 to 65535".to_owned()),
            Ok(port) => Ok(port),
        });
        let network = self.value("network", LEFT_OUT, |text| match text {
            "" => Err("is the name of no network".to_owned()),
            text => Ok(text.to_owned()),
        });
        let weight = self.weight();
        let zone = self.value("zone", IGNORED, |text| match is_zone(text) {
            true => Ok(Arc::from(text)),
            false => Err(format!("is no zone: a word of 1 to {} bytes", limits::NAME_BYTES)),
        });
        let backup = self.value("backup", IGNORED, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("is neither `true` nor `false`".to_owned()),
        });
        let routes = self.routes();
        let settings = self.settings();
        let (port, network, weight) = (port.ok()?, network.ok()?, weight?);
        let (zone, backup) = (zone.unwrap_or(None), backup.unwrap_or(None).unwrap_or(false));
        let pool = pool.filter(|_| enabled)?;
        Some(Claims { pool, port, network, weight, zone, backup, routes, settings })
    }

    /// `Err` when it is there and wrong, which is told of.
    fn value<T>(
        &mut self,
        key: &str,
        so: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ()> {
        let Some(text) = self.said.get(key).copied() else { return Ok(None) };
        match parse(text) {
            Ok(value) => Ok(Some(value)),
            Err(why) => {
                self.wrong(key, format!("{} {why}", quote(text)), so);
                Err(())
            }
        }
    }

    /// 0 is what people write who want it to get nothing.
    fn weight(&mut self) -> Option<Weight> {
        let said = self.said.get("weight").copied();
        if said == Some("0") {
            let help = format!("`{}enable=false` takes it out without a word", self.prefix);
            self.wrong_with("weight", "a weight of 0 leaves the container out".to_owned(), help);
            return None;
        }
        let parse = |text: &str| {
            let number = text.parse().ok().and_then(Weight::new);
            number.ok_or_else(|| format!("is no weight from 1 to {}", limits::WEIGHT))
        };
        Some(self.value("weight", "it counts as 1", parse).ok().flatten().unwrap_or(Weight::ONE))
    }

    fn pool(&mut self) -> Option<Arc<str>> {
        let named = self.said.get("pool").copied();
        let implied = || {
            let label = |key: &str| self.container.labels.get(key).map(String::as_str);
            label(COMPOSE_SERVICE).or(label(SWARM_SERVICE)).unwrap_or(&self.container.name)
        };
        let name = named.unwrap_or_else(implied);
        if is_name(name) {
            return Some(name.into());
        }
        let message = format!("{} cannot be the name of a pool", quote(name));
        let help = match named {
            Some(_) => NAMES.to_owned(),
            None => format!("name the pool: `{}pool=…`", self.prefix),
        };
        self.wrong_with("pool", message, help);
        None
    }

    fn routes(&mut self) -> Vec<Wish> {
        let mut parts: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for (key, value) in &self.said {
            if let Some((name, part)) = route_part(key) {
                parts.entry(name).or_default().insert(part, value);
            }
        }
        if let Some(url) = self.said.get("url") {
            parts.entry("").or_default().insert("url", url);
        }
        parts.into_iter().filter_map(|(name, parts)| self.route(name, &parts)).collect()
    }

    fn route(&mut self, name: &str, parts: &BTreeMap<&str, &str>) -> Option<Wish> {
        let key = |part: &str| if name.is_empty() { part.to_owned() } else { format!("route.{name}.{part}") };
        // Every part is looked at, even after one that is wrong.
        let pattern = match parts.get("url").copied() {
            Some(url) => match Pattern::parse(url) {
                Ok(pattern) => Some((url.to_owned(), pattern)),
                Err(why) => {
                    self.wrong_with(&key("url"), format!("{} cannot be the url of a route", quote(url)), why);
                    None
                }
            },
            None => {
                let help = format!("add `{}{}=…`; `/*` takes every request", self.prefix, key("url"));
                self.wrong_with(&key("url"), "a route needs a url".to_owned(), help);
                None
            }
        };
        let priority = match parts.get("priority").map(|text| (text, text.parse::<i64>())) {
            None => Some(0),
            Some((_, Ok(priority))) if (-PRIORITY..=PRIORITY).contains(&priority) => Some(priority),
            Some((text, _)) => {
                let message = format!("{} is no whole number from -{PRIORITY} to {PRIORITY}", quote(text));
                self.wrong(&key("priority"), message, NO_ROUTE);
                None
            }
        };
        let named = |part: &str| match parts.get(part).copied() {
            Some(text) if !is_name(text) => Err(format!("{} cannot be the name of a {part}", quote(text))),
            name => Ok(name.map(str::to_owned)),
        };
        let (service, pool) = (named("service"), named("pool"));
        for (part, read) in [("service", &service), ("pool", &pool)] {
            if let Err(message) = read {
                self.wrong_with(&key(part), message.clone(), NAMES.to_owned());
            }
        }
        let (url, pattern) = pattern?;
        let pool = pool.ok()?.map(Arc::from);
        Some(Wish { name: name.to_owned(), service: service.ok()?, url, pattern, priority: priority?, pool })
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let of_pool = self.said.iter().filter(|(key, _)| is_setting(key));
        of_pool.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn refuse_unknown(&mut self) {
        for key in self.said.keys().copied().collect::<Vec<_>>() {
            if KEYS.contains(&key) || is_setting(key) {
                continue;
            }
            let (known, shown): (&[&str], String) = match key.split('.').collect::<Vec<_>>().as_slice() {
                ["route", name, part] if is_route_name(name) => {
                    if ROUTE_KEYS.contains(part) {
                        continue;
                    }
                    (ROUTE_KEYS, format!("route.{name}."))
                }
                ["route", ..] => {
                    let help = format!("as in `{}route.NAME.url`: letters, digits, `-` and `_`", self.prefix);
                    self.unknown(key, help);
                    continue;
                }
                _ => (KEYS, String::new()),
            };
            let last = key.get(shown.len()..).unwrap_or(key);
            let help = match suggest::nearest(last, known.iter().copied()) {
                Some(meant) => format!("did you mean `{}{shown}{meant}`", self.prefix),
                None => format!("one of {}", suggest::one_of(known.iter().copied())),
            };
            self.unknown(key, help);
        }
    }

    fn unknown(&mut self, key: &str, help: String) {
        let place = label_place(self.container, self.prefix, key);
        self.mistakes.push(Mistake::new(Refusal::Unknown, place, "unknown label").help(help));
    }

    fn wrong(&mut self, key: &str, message: String, so: &str) {
        self.wrong_with(key, format!("{message}: {so}"), String::new());
    }

    fn wrong_with(&mut self, key: &str, message: String, help: String) {
        let place = label_place(self.container, self.prefix, key);
        let mistake = Mistake::new(Refusal::Malformed, place, message);
        self.mistakes.push(if help.is_empty() { mistake } else { mistake.help(help) });
    }
}

/// `route.NAME.KEY`, where both are right.
fn route_part(key: &str) -> Option<(&str, &str)> {
    let (name, part) = key.strip_prefix("route.")?.split_once('.')?;
    (is_route_name(name) && ROUTE_KEYS.contains(&part)).then_some((name, part))
}

/// Of a pool: `balance`, `probe`, and what belongs to them.
fn is_setting(key: &str) -> bool {
    let first = key.split_once('.').map_or(key, |(first, _)| first);
    matches!(first, "balance" | "probe")
}

/// As names of services and pools in the file.
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=limits::NAME_BYTES).contains(&text.len())
        && text.bytes().all(plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_route_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=limits::NAME_BYTES).contains(&text.len()) && text.bytes().all(plain)
}

fn is_zone(text: &str) -> bool {
    (1..=limits::NAME_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const SWARM_SERVICE: &str = "com.docker.swarm.service.name";
const KEYS: &[&str] = &["enable", "pool", "port", "network", "weight", "zone", "backup", "url", "balance", "probe"];
const ROUTE_KEYS: &[&str] = &["url", "service", "priority", "pool"];
/// As in the file.
const PRIORITY: i64 = 1_000_000;
const NAMES: &str = "a name starts with a letter or digit and goes on with letters, digits, `-`, `_` and `.`";
const LEFT_OUT: &str = "the container is left out";
const IGNORED: &str = "the label is ignored";
const NO_ROUTE: &str = "the route is left out";
