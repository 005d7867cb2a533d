//! The tables against the readers: every key that is asked for stands in them, with the bounds and defaults that it has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;
use crate::base::HashKey;
use crate::config::{Catalogs, Machine, compile, load};
use crate::doc::{Contents, Outside, Shapes};

/// The package's files, and an environment without variables.
struct Package;

impl Outside for Package {
    fn variable(&self, _: &str) -> Result<String, &'static str> {
        Err("is not set")
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>, String> {
        let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
        Ok(entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
    }

    fn read(&self, path: &Path, _: usize) -> Result<Contents, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        Ok(Contents { bytes, is_public: false })
    }
}

fn files() -> Vec<PathBuf> {
    let folder = |folder: &str| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    folder("conf").chain(folder("conf/bad")).filter(|path| path.extension().is_some_and(|end| end == "toml")).collect()
}

/// What the readers asked for, over all examples and all mistakes.
fn asked() -> Shapes {
    let mut all = Shapes::new();
    for path in files() {
        let bytes = std::fs::read(&path).unwrap();
        let document = load(path.to_str().unwrap(), bytes, &Package, &Catalogs::default());
        for (kind, keys) in document.shapes {
            for (key, shapes) in keys {
                let known = all.entry(kind).or_default().entry(key).or_default();
                known.extend(shapes.into_iter().filter(|shape| !known.contains(shape)).collect::<Vec<_>>());
            }
        }
    }
    all
}

/// What a reader may note of a key.
fn expected(takes: &Takes) -> Vec<Shape> {
    let noted = |shape: Shape| match shape {
        Shape::Word(words) => Shape::Words(words.to_vec()),
        other => other,
    };
    shapes(takes).into_iter().map(noted).collect()
}

fn shapes(takes: &Takes) -> Vec<Shape> {
    match takes {
        One(shapes) | Many(shapes) => shapes.to_vec(),
        Table(kind) | Named(kind) | Tables(kind) => vec![Shape::Table(kind)],
        ManyOrTable(shapes, kind) => shapes.iter().cloned().chain([Shape::Table(kind)]).collect(),
        // Those of a floor above are none here.
        Plugin(family) => vec![plugin(*family)],
        ManyOrPlugin(shapes, family) => shapes.iter().cloned().chain([plugin(*family)]).collect(),
        Free => vec![Shape::Text, Shape::Table("header")],
        Fields(grammar) => vec![Shape::Fields(grammar.name)],
    }
}

fn plugin(family: Family) -> Shape {
    Shape::Plugin(family.grammars(&Catalogs::default()).iter().map(|grammar| grammar.name).collect())
}

#[test]
fn every_key_that_is_read_stands_in_the_tables_with_what_it_takes() {
    let asked = asked();
    let mut wrong = String::new();
    let kinds: BTreeSet<&str> = SECTIONS.iter().map(|section| section.kind).collect();
    for kind in asked.keys().filter(|kind| !kinds.contains(*kind)) {
        wrong += &format!("a reader knows tables of kind {kind:?}, and src/config/grammar.rs has no section for it\n");
    }
    for section in SECTIONS {
        let none = BTreeMap::new();
        let read = asked.get(section.kind).unwrap_or(&none);
        let known: BTreeSet<&str> = section.keys.iter().map(|key| key.name).collect();
        for key in read.keys().filter(|key| !known.contains(&***key)) {
            wrong += &format!("{}: the reader knows `{key}`, and src/config/grammar.rs does not\n", section.title);
        }
        for key in section.keys {
            let want = expected(&key.takes);
            let Some(got) = read.get(key.name).filter(|shapes| !shapes.is_empty()) else {
                wrong += &format!("{}: no file of conf/ or conf/bad/ gives `{}`\n", section.title, key.name);
                continue;
            };
            // Readers look at the text of much that is more than text.
            let got: Vec<&Shape> =
                got.iter().filter(|shape| **shape != Shape::Text || want.contains(&Shape::Text)).collect();
            if !got.iter().all(|shape| want.contains(shape)) || !want.iter().all(|shape| got.contains(&shape)) {
                wrong += &format!("{}: `{}` is read as {got:?}, and said to take {want:?}\n", section.title, key.name);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// One of everything, with as little said as can be.
const LEAST: &str = r#"
[service.a]
mode = "l7"
listen = ":80"
[[service.a.route]]
pool = "p"
[service.b]
mode = "l4"
listen = ":81"
pool = "p"
[service.c]
mode = "l2"
vip = "v"
pool = "q"
[vip.v]
address = "10.0.0.100"
interface = "eth0"
[pool.p]
endpoints = ["10.0.0.1:80"]
[pool.q]
endpoints = ["10.0.0.2"]
"#;

#[test]
fn defaults_are_those_of_the_effective_configuration() {
    let document = load("least", LEAST.into(), &Package, &Catalogs::default());
    let machine = Machine { cores: 1, random_key: HashKey::new([1; 16]) };
    let empty = crate::config::tests::empty();
    let snapshot = compile(&document.value, &empty, &machine).unwrap();
    let places = |kind: &str| match kind {
        "top" => vec![String::new()],
        "service" => vec!["/service/a".to_owned(), "/service/b".to_owned(), "/service/c".to_owned()],
        "timeouts" => vec!["/service/a/timeouts".to_owned(), "/service/b/timeouts".to_owned()],
        "flow_timeouts" => vec!["/service/c/flow_timeouts".to_owned()],
        "route" => vec!["/service/a/route/0".to_owned()],
        "vip" => vec!["/vip/v".to_owned()],
        "pool" => vec!["/pool/p".to_owned()],
        "endpoint" => vec!["/pool/p/endpoints/0".to_owned()],
        other => vec![format!("/{other}")],
    };
    let shown = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Object(map) => {
            map.get("type").map_or_else(String::new, |name| name.as_str().unwrap().to_owned())
        }
        other => other.to_string(),
    };
    let mut compared = 0;
    for section in SECTIONS {
        for key in section.keys {
            let Default(default) = key.need else { continue };
            let values: Vec<String> = places(section.kind)
                .iter()
                .filter_map(|place| snapshot.effective.pointer(&format!("{place}/{}", key.name)).map(shown))
                .collect();
            // What is off is not always shown.
            let right = values.iter().any(|value| value == default) || values.is_empty() && default == "false";
            assert!(right, "{} `{}`: said to be {default} by default, and is {values:?}", section.title, key.name);
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared}");
}

#[test]
fn every_line_of_help_is_one_line_without_a_full_stop() {
    for section in SECTIONS {
        assert!(!section.about.contains('\n') && !section.about.ends_with('.'), "{}", section.title);
        for key in section.keys {
            assert!(
                !key.help.is_empty() && !key.help.contains('\n') && !key.help.ends_with('.'),
                "{} {}",
                section.title,
                key.name
            );
            for kind in match &key.takes {
                Table(kind) | Named(kind) | Tables(kind) | ManyOrTable(_, kind) => vec![*kind],
                _ => Vec::new(),
            } {
                assert!(super::section(kind).is_some(), "no section of kind {kind}");
            }
        }
    }
}
