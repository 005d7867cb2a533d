//! The examples in `conf/` are valid, and the mistakes in `conf/bad/` print exactly what stands beside them.
//!
//! `STRATA_BLESS=1 cargo test --test config` writes what is printed now; read the difference before committing it.

use std::fs;
use std::path::{Path, PathBuf};

use strata::app::load::{self, Loaded, Origin};
use strata::doc::{Nowhere, codes, render, summary};
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

#[test]
fn every_example_is_valid_without_a_warning() {
    for path in files("conf") {
        let loaded = load(&path);
        assert!(loaded.diagnostics.is_empty(), "{}", render(&loaded.sources, &loaded.diagnostics, false));
        assert!(loaded.config.is_some(), "{}", path.display());
    }
}

#[test]
fn the_dump_of_every_example_is_a_file_that_means_the_same() {
    let secret = |found: &[strata::doc::Diagnostic]| found.iter().any(|d| d.code == "W017");
    for path in files("conf") {
        let mut loaded = load(&path);
        let snapshot =
            load::compile(&mut loaded, &load::nothing()).unwrap_or_else(|| panic!("{}", loaded.render(false)));
        let dump = strata::config::dump::toml(&snapshot.effective, &snapshot.places);
        let mut again = load::parse("dump.toml", dump.clone().into_bytes(), &Nowhere);
        let shown = format!("{}\n{dump}\n{}", path.display(), again.render(false));
        assert!(again.diagnostics.iter().all(|d| d.code == "W017"), "{shown}");
        let next = load::compile(&mut again, &snapshot).unwrap_or_else(|| panic!("{shown}"));
        let changes: Vec<String> = diff(&snapshot, &next).iter().map(ToString::to_string).collect();
        // The one secret there is: it is masked.
        let want: &[&str] = if secret(&again.diagnostics) { &["settings: hash_key changed"] } else { &[] };
        assert_eq!(changes, want, "{shown}");
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
    // Files too large to keep, made at run time only, or whose mode no repository keeps.
    let elsewhere = ["E003", "E005", "W009", "W016"];
    let shown: Vec<&str> =
        files("conf/bad").iter().flat_map(|path| load(path).diagnostics).map(|diagnostic| diagnostic.code).collect();
    for code in codes::CODES {
        let found = shown.contains(&code.id);
        assert_eq!(found, !elsewhere.contains(&code.id), "{}: {}", code.id, code.explain);
    }
}
