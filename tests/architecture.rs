//! Reads `src/` as text and says which line breaks the architecture (`ARCHITECTURE.md` explains it).
//!
//! Five rules: imports go down the floors, never up or to a sibling; the lower floors are pure; `unsafe` lives in `sys`,
//! each block with its reason; a file opens by saying what kind it is; nothing is left for later. The reader knows just
//! enough Rust for this (comments, literals, use trees, inline modules) and no types: a re-export can hide where a name
//! comes from, so modules re-export only their own children.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fmt, fs};

use reader::{Token, blank_comments_and_literals, paths, tokenize, without_tests};

#[path = "architecture/planted.rs"]
mod planted;
#[path = "architecture/reader.rs"]
mod reader;

/// The floors, lowest first. A file imports from its own module and from floors below.
const FLOORS: &[Floor] = &[
    Floor { name: "base", modules: &["base"], inside: Inside::Ordered, pure: true },
    Floor { name: "codec", modules: &["doc", "wire"], inside: Inside::Ordered, pure: true },
    Floor {
        name: "engine",
        modules: &["flow", "balance", "health", "route", "ha"],
        inside: Inside::Strangers,
        pure: true,
    },
    Floor {
        name: "model",
        modules: &["observe", "state", "seam", "explain", "config"],
        inside: Inside::Ordered,
        pure: false,
    },
    Floor { name: "io", modules: &["sys", "net"], inside: Inside::Ordered, pure: false },
    Floor { name: "shell", modules: &["mode", "probe", "source", "admin"], inside: Inside::Strangers, pure: false },
    Floor { name: "app", modules: &["app", "cli"], inside: Inside::Ordered, pure: false },
];

/// Modules whose children are shells of their own. `admin` is one shell in several files.
const FAMILIES: &[&str] = &["mode", "probe", "source"];

/// What a pure floor may not name, in tests neither: sockets, files, threads, processes, runtimes, loggers and metrics.
const EFFECTS: &[&str] = &[
    "tokio",
    "hyper",
    "hyper_util",
    "tracing",
    "prometheus",
    "socket2",
    "libc",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::os",
];

/// What the first line of a file may call it; a `mod.rs` may speak for its whole module, and tests are tests.
const KINDS: &[&str] = &["Value", "Engine", "Shell", "Wiring", "Codec", "Io"];
const MODULE_KINDS: &[&str] = &["Base", "Model", "Seam"];

struct Floor {
    name: &'static str,
    modules: &'static [&'static str],
    inside: Inside,
    pure: bool,
}

/// Who may import whom on one floor.
#[derive(PartialEq)]
enum Inside {
    /// A later module imports an earlier one.
    Ordered,
    /// No module imports another; below `mode`, `probe` and `source` no child imports another child either.
    Strangers,
}

struct Breach {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

#[test]
fn the_tree_keeps_its_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    let sources: Vec<(String, String)> = files
        .iter()
        .map(|path| {
            (path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(sources.len() > 20, "found only {} files: is this the right folder?", sources.len());
    let breaches = check_tree(&sources);
    let list: Vec<String> = breaches.iter().map(Breach::to_string).collect();
    assert!(breaches.is_empty(), "{} breaches of the architecture:\n{}\n", list.len(), list.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

fn check_tree(sources: &[(String, String)]) -> Vec<Breach> {
    let modules: BTreeSet<Vec<String>> = sources.iter().map(|(path, _)| module_of(path)).collect();
    sources.iter().flat_map(|(path, text)| check_file(path, text, &modules)).collect()
}

fn check_file(path: &str, text: &str, modules: &BTreeSet<Vec<String>>) -> Vec<Breach> {
    let module = module_of(path);
    let code = blank_comments_and_literals(text);
    let tokens = tokenize(&code);
    let mut breaches = Vec::new();
    let mut report = |line: usize, what: String| breaches.push(Breach { file: path.to_owned(), line, what });

    check_header(path, text, &mut report);
    check_leftovers(text, &tokens, &mut report);
    check_unsafe(&module, text, &code, &tokens, &mut report);
    let home = match module.first() {
        None => return breaches, // lib.rs and main.rs name every floor
        Some(first) => position(first),
    };
    let Some(home) = home else {
        report(1, format!("module `{}` stands on no floor", module[0]));
        return breaches;
    };
    for (names, line) in paths(&tokens, &module) {
        check_purity(home, &names, line, &mut report);
    }
    if !is_test_file(path) {
        for (names, line) in paths(&without_tests(tokens), &module) {
            check_import(&module, home, &names, line, modules, &mut report);
        }
    }
    breaches
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// `src/mode/l4/mod.rs` and `src/mode/l4.rs` are both `mode::l4`; the roots are the empty path.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut names: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        names.pop();
    }
    names
}

/// Floor and place on it.
fn position(module: &str) -> Option<(usize, usize)> {
    FLOORS.iter().enumerate().find_map(|(floor, f)| Some((floor, f.modules.iter().position(|m| *m == module)?)))
}

// ---- rules ----

fn check_header(path: &str, text: &str, report: &mut impl FnMut(usize, String)) {
    let first = text.lines().next().unwrap_or_default();
    let Some(header) = first.strip_prefix("//! ") else {
        return report(1, "the first line must be `//! Kind: what this is`".into());
    };
    let kind = header.split(':').next().unwrap_or_default();
    let speaks_for_module = path.ends_with("/mod.rs") && MODULE_KINDS.contains(&kind);
    let root = path == "src/lib.rs" && kind == "Strata";
    if is_test_file(path) {
        return;
    }
    if !(KINDS.contains(&kind) || speaks_for_module || root) || header.len() < kind.len() + 3 {
        report(1, format!("the first line names no kind ({}): `{first}`", KINDS.join(", ")));
    }
}

fn check_leftovers(text: &str, tokens: &[Token], report: &mut impl FnMut(usize, String)) {
    for pair in tokens.windows(2) {
        if ["todo", "unimplemented", "dbg"].contains(&pair[0].text.as_str()) && pair[1].text == "!" {
            report(pair[0].line, format!("`{}!` is left over", pair[0].text));
        }
    }
    for (index, line) in text.lines().enumerate() {
        let words = line.split(|c: char| !c.is_alphanumeric());
        for word in words.filter(|word| ["TODO", "FIXME"].contains(word)) {
            report(index + 1, format!("`{word}` is left over"));
        }
    }
}

fn check_unsafe(module: &[String], text: &str, code: &str, tokens: &[Token], report: &mut impl FnMut(usize, String)) {
    let in_sys = module.first().is_some_and(|first| first == "sys");
    let (raw, code): (Vec<&str>, Vec<&str>) = (text.lines().collect(), code.lines().collect());
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "unsafe") {
        let next = tokens.get(index + 1).map_or("", |next| next.text.as_str());
        if !in_sys {
            report(token.line, "`unsafe` outside `src/sys`".into());
        } else if (next == "{" || next == "impl") && !has_safety_comment(&raw, &code, token.line - 1) {
            report(token.line, "`unsafe` without a `// SAFETY:` comment above it".into());
        }
    }
}

/// Looks upwards from the line of `unsafe` to the beginning of its statement and through the comment above that.
fn has_safety_comment(raw: &[&str], code: &[&str], at: usize) -> bool {
    if raw[at].contains("// SAFETY:") {
        return true;
    }
    for line in (0..at).rev() {
        if raw[line].trim_start().starts_with("// SAFETY:") {
            return true;
        }
        if code[line].trim_end().ends_with([';', '{', '}']) || raw[line].trim().is_empty() {
            return false;
        }
    }
    false
}

fn check_purity(home: (usize, usize), names: &[String], line: usize, report: &mut impl FnMut(usize, String)) {
    let floor = &FLOORS[home.0];
    let path = names.join("::");
    let effect = EFFECTS.iter().find(|effect| path == **effect || path.starts_with(&format!("{effect}::")));
    if let (true, Some(effect)) = (floor.pure, effect) {
        report(line, format!("`{effect}` on the {} floor, which is pure", floor.name));
    }
}

fn check_import(
    module: &[String],
    home: (usize, usize),
    names: &[String],
    line: usize,
    modules: &BTreeSet<Vec<String>>,
    report: &mut impl FnMut(usize, String),
) {
    let [root, first, rest @ ..] = names else { return };
    if root != "crate" {
        return;
    }
    let Some(there) = position(first) else {
        return report(line, format!("`crate::{first}` is no module of a floor; import it from where it is defined"));
    };
    let (mine, floor) = (&module[0], &FLOORS[home.0]);
    if there.0 > home.0 {
        let to = FLOORS[there.0].name;
        report(line, format!("`{mine}` ({}) imports upwards from `{first}` ({to})", floor.name));
    } else if there.0 == home.0 && there.1 != home.1 {
        match floor.inside {
            Inside::Strangers => report(line, format!("`{mine}` imports its sibling `{first}` ({})", floor.name)),
            Inside::Ordered if there.1 > home.1 => {
                report(line, format!("`{mine}` imports `{first}`, which comes later on the {} floor", floor.name));
            }
            Inside::Ordered => {}
        }
    } else if there == home && FAMILIES.contains(&mine.as_str()) {
        let (Some(child), Some(other)) = (module.get(1), rest.first()) else { return };
        if child != other && modules.contains(&vec![first.clone(), other.clone()]) {
            report(line, format!("`{mine}::{child}` imports its sibling `{mine}::{other}`"));
        }
    }
}
