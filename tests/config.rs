//! The examples in `conf/` are valid, and the mistakes in `conf/bad/` print exactly what stands beside them.
//!
//! `STRATA_BLESS=1 cargo test --test config` writes what is printed now; read the difference before committing it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strata::app::load::{self, Loaded, Origin};
use strata::doc::{Diagnostic, Nowhere, codes, render, summary};
use strata::state::diff;

/// As `strata check` does: its own tests are run too.
fn load(path: &Path) -> Loaded {
    let origin = Origin::File(path.to_owned());
    let mut loaded = load::read(&origin).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    load::compile(&mut loaded, &load::nothing());
    loaded
}

/// The files of a folder of the package, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    // Tests run in the package's root, and diagnostics show the path from there.
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {folder}");
    files
}

/// The examples: each a whole configuration.
fn examples() -> Vec<PathBuf> {
    ["conf", "conf/compose", "conf/compose-l2", "conf/compose-l3", "conf/compose-l4", "conf/compose-l7"]
        .into_iter()
        .flat_map(files)
        .collect()
}

#[test]
fn every_example_is_valid_without_a_warning() {
    for path in examples() {
        let loaded = load(&path);
        assert!(loaded.diagnostics.is_empty(), "{}", render(&loaded.sources, &loaded.diagnostics, false));
        assert!(loaded.config.is_some(), "{}", path.display());
    }
}

#[test]
fn the_dump_of_every_example_is_a_file_that_means_the_same() {
    let secret = |found: &[strata::doc::Diagnostic]| found.iter().any(|d| d.code == "W017");
    for path in examples() {
        let mut loaded = load(&path);
        let snapshot =
            load::compile(&mut loaded, &load::nothing()).unwrap_or_else(|| panic!("{}", loaded.render(false)));
        let dump = strata::config::dump::toml(&snapshot.effective, &snapshot.places);
        let mut again = load::parse("dump.toml", dump.clone().into_bytes(), &Nowhere);
        let shown = format!("{}\n{dump}\n{}", path.display(), again.render(false));
        assert!(again.diagnostics.iter().all(|d| d.code == "W017"), "{shown}");
        let next = load::compile(&mut again, &snapshot).unwrap_or_else(|| panic!("{shown}"));
        let changes: Vec<String> = diff(&snapshot, &next).iter().map(ToString::to_string).collect();
        // The secrets that there are: they are masked.
        let masked = ["settings: hash_key changed", "settings: admin changed"];
        assert_eq!(!changes.is_empty(), secret(&again.diagnostics), "{changes:?}\n{shown}");
        assert!(changes.iter().all(|change| masked.contains(&change.as_str())), "{changes:?}\n{shown}");
        assert_eq!(next.effective, snapshot.effective, "{shown}");
        // Every line says where it is from, and something is from the file.
        let from = format!("  # {}:", path.display());
        assert!(dump.contains(&from) && dump.contains("  # default"), "{shown}");
    }
}

#[test]
fn every_mistake_prints_what_stands_beside_it() {
    let bless = std::env::var_os("STRATA_BLESS").is_some();
    let mut wrong = String::new();
    for path in files("conf/bad") {
        let loaded = load(&path);
        let (sources, found) = (&loaded.sources, &loaded.diagnostics);
        let got = render(sources, found, false) + &summary(sources, found);
        let beside = path.with_extension("expected");
        if bless {
            fs::write(&beside, &got).unwrap();
        }
        let want = fs::read_to_string(&beside).unwrap_or_default();
        if got != want {
            wrong += &format!("=== {}\n--- expected\n{want}\n--- printed\n{got}\n", path.display());
        }
        assert!(!loaded.diagnostics.is_empty(), "{} has no mistake", path.display());
        assert_eq!(loaded.config.is_none(), loaded.diagnostics.iter().any(|d| d.is_error()), "{}", path.display());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_code_is_shown_by_a_file() {
    // Files too large to keep, made at run time only, or whose mode no repository keeps; and what no file shows.
    let elsewhere = ["E003", "E005", "W009", "W016", "W018", "W019", "W020"];
    let shown: Vec<&str> =
        files("conf/bad").iter().flat_map(|path| load(path).diagnostics).map(|diagnostic| diagnostic.code).collect();
    for code in codes::CODES {
        let found = shown.contains(&code.id);
        assert_eq!(found, !elsewhere.contains(&code.id), "{}: {}", code.id, code.explain);
    }
}

/// Validates documents by a schema: draft 7, with the one validator that every distribution has.
const VALIDATOR: &str = r#"
import json, sys
import jsonschema
given = json.load(sys.stdin)
jsonschema.Draft7Validator.check_schema(given["schema"])
validator = jsonschema.Draft7Validator(given["schema"])
def first(document):
    error = next(iter(sorted(validator.iter_errors(document), key=lambda e: list(map(str, e.path)))), None)
    return None if error is None else "/".join(map(str, error.path)) + ": " + error.message[:200]
json.dump([first(document) for document in given["documents"]], sys.stdout)
"#;

/// What is wrong with each document, by the schema that `strata gen schema` prints; `None` where there is no validator.
fn validated(documents: &[serde_json::Value]) -> Option<Vec<Option<String>>> {
    let output = Command::new(env!("CARGO_BIN_EXE_strata")).args(["gen", "schema"]).output().unwrap();
    assert!(output.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let given = serde_json::json!({ "schema": schema, "documents": documents });
    // A `python3` that stands before the distribution's has none of the distribution's modules.
    ["python3", "/usr/bin/python3"].into_iter().find_map(|python| {
        let mut python = Command::new(python);
        python
            .args(["-W", "ignore", "-c", VALIDATOR])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = python.spawn().ok()?;
        // One that has no validator may be gone before it has read all; what it says then is below.
        let _ = child.stdin.take().unwrap().write_all(given.to_string().as_bytes());
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        if error.contains("No module named 'jsonschema'") {
            return None;
        }
        assert!(output.status.success(), "{error}");
        Some(serde_json::from_slice(&output.stdout).unwrap())
    })
}

#[test]
fn the_schema_takes_every_example_and_no_key_that_strata_does_not_know() {
    let document = |path: &Path| toml::from_str::<serde_json::Value>(&fs::read_to_string(path).ok()?).ok();
    let mut paths = examples();
    paths.extend(files("conf/conf.d"));
    let right = paths.len();
    // Wrong files that are TOML, and have a key that nobody knows.
    paths.extend(files("conf/bad").into_iter().filter(|path| {
        let loaded = load(path);
        let here = |d: &Diagnostic| &*loaded.sources.at(d.span.start).0.name == path.to_str().unwrap();
        document(path).is_some() && loaded.diagnostics.iter().any(|d| d.code == "E010" && here(d))
    }));
    assert!(paths.len() >= right + 2, "too few wrong files: {paths:?}");
    let documents: Vec<serde_json::Value> = paths.iter().map(|path| document(path).unwrap()).collect();
    let Some(found) = validated(&documents) else {
        assert!(std::env::var_os("STRATA_TEST_ALL").is_none_or(|all| all != "1"), "python3 has no jsonschema");
        eprintln!("SKIPPED: python3 has no jsonschema: the schema is not tested");
        return;
    };
    for (index, (path, wrong)) in paths.iter().zip(&found).enumerate() {
        if index < right {
            assert_eq!(*wrong, None, "{}", path.display());
        } else {
            assert!(wrong.is_some(), "{} has an unknown key, and the schema takes it", path.display());
        }
    }
}
