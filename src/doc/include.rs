//! Engine: from the main file's bytes to one tree: the files that it includes are read, and their tables join its own.
//!
//! `include` stands in the main file only, and a pattern has its `*` and `?` in the last part of its path: what an operator
//! can list with one `ls`. Files join in the order of the patterns, those of one pattern by name.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::codes;
use super::diagnostic::{Diagnostic, quote};
use super::outside::{Outside, beside};
use super::source::{Source, Sources};
use super::span::Span;
use super::syntax::{self, Healed};
use super::tree::{Branch, Data, Node, Planting};
use crate::base::limits;

/// The key of the main file that names others.
pub(super) const INCLUDE: &str = "include";

/// A document of all its files, before anything is known of what its keys mean.
pub(super) struct Gathered {
    pub sources: Sources,
    pub root: Branch,
    /// What keeps text from being read: what follows from it is no mistake of the user's.
    pub syntax: Vec<Diagnostic>,
    /// What else is wrong.
    pub found: Vec<Diagnostic>,
}

pub(super) fn gather(name: &str, bytes: Vec<u8>, outside: &dyn Outside, named: &[&str]) -> Gathered {
    let (source, refused) = Source::from_bytes(name, bytes);
    let mut gathering = Gathering {
        outside,
        budget: limits::CONFIG_BYTES,
        sources: Sources::new(source),
        syntax: Vec::new(),
        found: Vec::new(),
    };
    let mut root = gathering.plant(0, refused);
    let mut read = vec![lexical(Path::new(name))];
    let patterns = root.entries.get(INCLUDE).map(|leaf| patterns(&leaf.node)).unwrap_or_default();
    for (pattern, span) in patterns {
        for path in gathering.matching(name, &pattern, span) {
            if read.contains(&lexical(&path)) {
                continue;
            }
            if read.len() > limits::CONFIG_FILES {
                let message = format!("more than {} included files", limits::CONFIG_FILES);
                gathering.found.push(Diagnostic::new(&codes::BAD_INCLUDE, span, message));
                return gathering.done(root);
            }
            read.push(lexical(&path));
            let Some(mut other) = gathering.included(&path, span) else { continue };
            if let Some(nested) = other.entries.remove(INCLUDE) {
                let mistake = Diagnostic::new(&codes::BAD_INCLUDE, nested.key_span, "an included file includes others");
                gathering.found.push(
                    mistake.also(span, "included here").help("name all files in the main file: only it may include"),
                );
            }
            root.merge(other, named, &mut gathering.found);
        }
    }
    gathering.done(root)
}

struct Gathering<'g> {
    outside: &'g dyn Outside,
    budget: usize,
    sources: Sources,
    syntax: Vec<Diagnostic>,
    found: Vec<Diagnostic>,
}

impl Gathering<'_> {
    /// Reads the text that starts at this place. One that is `refused` is read as if it were empty.
    fn plant(&mut self, start: usize, refused: Option<Diagnostic>) -> Branch {
        if let Some(mut refused) = refused {
            refused.span = refused.span.shifted(start);
            self.syntax.push(refused);
            return Branch::default();
        }
        let (source, _) = self.sources.at(start);
        let text = Healed::of(&source.text);
        let (document, errors) = DeTable::parse_recoverable(&text.text);
        self.syntax.extend(syntax::errors(source, &text, &errors).into_iter().map(|error| error.shifted(start)));
        let (budget, found) = (&mut self.budget, &mut self.found);
        Planting { text: &text, start, outside: self.outside, budget, found }.root(document.get_ref())
    }

    fn included(&mut self, path: &Path, by: Span) -> Option<Branch> {
        let name = path.display().to_string();
        let bytes = match self.outside.read(path, limits::CONFIG_BYTES) {
            Ok(contents) => contents.bytes,
            Err(why) => {
                let message = format!("cannot read {}: {why}", quote(&name));
                self.found.push(Diagnostic::new(&codes::BAD_INCLUDE, by, message));
                return None;
            }
        };
        let together = self.sources.bytes() + bytes.len();
        if together > limits::CONFIG_BYTES {
            let message = format!("with {} the files have {together} bytes", quote(&name));
            let mistake = Diagnostic::new(&codes::TOO_LARGE, by, message);
            self.found.push(mistake.help(format!("{} are read, of all files together", limits::CONFIG_BYTES)));
            return None;
        }
        let (source, refused) = Source::from_bytes(name, bytes);
        let start = self.sources.push(source);
        Some(self.plant(start, refused))
    }

    /// The files that a pattern of the main file names, in order.
    fn matching(&mut self, main: &str, pattern: &str, span: Span) -> Vec<PathBuf> {
        let path = beside(main, pattern);
        let (Some(last), Some(folder)) = (path.file_name().and_then(|last| last.to_str()), path.parent()) else {
            let mistake = Diagnostic::new(&codes::BAD_INCLUDE, span, format!("{} names no file", quote(pattern)));
            self.found.push(mistake.help("as in \"conf.d/*.toml\", from this file's folder"));
            return Vec::new();
        };
        // The pattern's own: the folder of the main file may be called anything.
        let own = Path::new(pattern).parent().and_then(Path::to_str);
        if own.is_some_and(|folder| folder.contains(WILD)) {
            let message = format!("{} has a `*` or `?` in a folder's name", quote(pattern));
            let mistake = Diagnostic::new(&codes::BAD_INCLUDE, span, message);
            self.found.push(mistake.help("only the last part is a pattern, as in \"conf.d/*.toml\""));
            return Vec::new();
        }
        if !last.contains(WILD) {
            return vec![path];
        }
        let mut names: Vec<String> = match self.outside.list(folder) {
            Ok(names) => names.into_iter().filter(|name| matches(last, name)).collect(),
            Err(why) => {
                let message = format!("{} matches no file: {}: {why}", quote(pattern), folder.display());
                self.found.push(Diagnostic::new(&codes::EMPTY_INCLUDE, span, message));
                return Vec::new();
            }
        };
        if names.is_empty() {
            let message = format!("{} matches no file", quote(pattern));
            let looked = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let mistake = Diagnostic::new(&codes::EMPTY_INCLUDE, span, message);
            self.found.push(mistake.label(format!("looked in {}", looked.display())));
        }
        names.sort_unstable();
        names.iter().map(|name| folder.join(name)).collect()
    }

    fn done(self, root: Branch) -> Gathered {
        Gathered { sources: self.sources, root, syntax: self.syntax, found: self.found }
    }
}

const WILD: [char; 2] = ['*', '?'];

/// The texts of `include`; values of other kinds are for its reader to report.
fn patterns(node: &Node) -> Vec<(String, Span)> {
    let text = |node: &Node| match &node.data {
        Data::Text(text) => Some((text.value.clone(), node.span)),
        _ => None,
    };
    match &node.data {
        Data::Array(elements) => elements.iter().filter_map(text).collect(),
        _ => text(node).into_iter().collect(),
    }
}

/// Without `.` parts, so that one file has one name.
fn lexical(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != std::path::Component::CurDir).collect()
}

/// Whether a file's name matches: `*` is any number of characters, `?` is one. Hidden files, and what editors keep beside a
/// file while they write, begin with a dot, and are named with one or not at all.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Greedy, with one place to come back to: linear for all but many stars.
    let (mut p, mut n, mut back) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => {
                p += 1;
                n += 1;
            }
            _ => match back {
                Some((after, taken)) => {
                    back = Some((after, taken + 1));
                    p = after;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_does() {
        for (pattern, name, want) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", false),
            ("*.toml", ".a.toml", false),
            (".*.toml", ".a.toml", true),
            ("*.toml", "a.toml~", false),
            ("*.toml", "a.tom", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXcYb", false),
            ("?.toml", "é.toml", true),
            ("?.toml", "ab.toml", false),
            ("*", "", true),
            ("**", "x", true),
            ("1?-*.toml", "10-web.toml", true),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
