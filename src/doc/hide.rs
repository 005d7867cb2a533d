//! Engine: lines that may hold a secret where none was read: its key is misspelt, misplaced or given twice, or its text does not end.
//!
//! Such a line is part of a diagnostic, and diagnostics are logged. What is hidden in vain costs little; so everything behind the
//! key is hidden to the end of its table, and so is a table that a secret belongs in where none was read in it.

use super::source::Sources;
use super::span::Span;
use super::suggest;

/// What stands behind keys that look like one of `names`, but for lines with one of `judged`, whose secrets are known; and what
/// the tables `owners` hold that have none of these.
pub(super) fn suspects(sources: &Sources, owners: &[&str], names: &[&str], judged: &[Span]) -> Vec<Span> {
    let mut suspects = Vec::new();
    for (source, start) in sources.files_with_starts() {
        let known = |from: usize, to: usize| judged.iter().any(|judged| from <= judged.start && judged.start <= to);
        // `cluster.zone` is no secret where `cluster.hash_key` was read.
        let mut settled = Vec::new();
        let mut line_at = start;
        for line in source.text.split('\n') {
            settled.extend(first_key(line).filter(|_| known(line_at, line_at + line.len())).map(|(key, _)| key));
            line_at += line.len() + 1;
        }
        let mut at = start;
        // Of the table's lines, all that is behind a key; and from a suspect on, whatever may belong to its value.
        let (mut owned, mut suspected) = (false, false);
        for line in source.text.split('\n') {
            let end = at + line.len();
            let mut behind = behind_a_secrets_key(line, names).or_else(|| inside_an_owner(line, owners, &settled));
            if known(at, end) {
                (behind, suspected) = (None, false);
            } else if let Some(table) = table(line) {
                let rest = source.text.get(end - start..).unwrap_or_default();
                let length = rest.split_inclusive('\n').skip(1).take_while(|line| self::table(line).is_none());
                let length = length.map(str::len).sum::<usize>();
                owned = owners.contains(&table) || suggest::nearest(table, owners.iter().copied()).is_some();
                owned &= !known(end, end + 1 + length);
                suspected = false;
            } else if behind.is_some() {
                suspected = true;
            } else if suspected || owned {
                let whole = || Some(line.len() - line.trim_start().len());
                behind = behind_a_key(line).or_else(|| if suspected { whole() } else { Some(line.find('=')? + 1) });
                suspected |= behind.is_some();
            }
            if let Some(behind) = behind {
                let span = Span { start: at + behind, end: at + line.trim_end().len() };
                if !span.is_empty() {
                    suspects.push(span);
                }
            }
            at = end + 1;
        }
    }
    suspects
}

/// The name of the table that begins with this line.
fn table(line: &str) -> Option<&str> {
    let line = line.split_once('#').map_or(line, |(line, _)| line).trim();
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | ' ');
    (name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain)).then_some(name)
}

/// The first part of a line's key, and what follows it: `cluster` of `cluster.zone = "a"`.
fn first_key(line: &str) -> Option<(&str, &str)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '"' | '\'');
    let line = line.trim_start();
    let (key, rest) = line.split_at(line.find(|c| !plain(c))?);
    let key = key.trim_matches(['"', '\'']);
    (!key.is_empty()).then(|| (key, rest.trim_start()))
}

/// Where the value begins in a line that writes a table of secrets in another way: `cluster = { … }`, `cluster.key = …`.
fn inside_an_owner(line: &str, owners: &[&str], settled: &[&str]) -> Option<usize> {
    let (key, rest) = first_key(line)?;
    let owns = owners.contains(&key) || suggest::nearest(key, owners.iter().copied()).is_some();
    let is_table =
        rest.starts_with('.') || rest.strip_prefix('=').is_some_and(|value| value.trim_start().starts_with('{'));
    let value = rest.split_once('=')?.1.trim_start();
    (owns && is_table && !settled.contains(&key)).then(|| line.len() - value.len())
}

/// Where the value begins in a line that is a key, a space, an equals sign and a value. The end of an encoded secret has no space.
fn behind_a_key(line: &str) -> Option<usize> {
    let (key, value) = line.split_once(" =")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let key = key.trim();
    (!key.is_empty() && key.chars().all(plain)).then(|| line.len() - value.trim_start().len())
}

/// Where in the line the value of a secret begins, if it looks as if there were one.
fn behind_a_secrets_key(line: &str, names: &[&str]) -> Option<usize> {
    let mut from = 0;
    // `a = { hash_key = "…" }` has two.
    while let Some(equals) = line.get(from..).and_then(|rest| rest.find('=')).map(|at| from + at) {
        let before = line.get(..equals).unwrap_or_default().trim_end().trim_end_matches(['"', '\'']);
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let key = before.rsplit(|c| !word(c)).next().unwrap_or_default();
        let near = |name: &&str| key.len().abs_diff(name.len()) <= 3;
        if names.contains(&key) || suggest::nearest(key, names.iter().copied().filter(near)).is_some() {
            let value = line.get(equals + 1..).unwrap_or_default();
            return Some(equals + 1 + value.len() - value.trim_start().len());
        }
        from = equals + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_found_and_nothing_else() {
        for (line, want) in [
            ("hash_key = \"x\"", Some("\"x\"")),
            ("  hash_kye=\"x\" # why", Some("\"x\" # why")),
            ("\"hash_key\" = 'x'", Some("'x'")),
            ("cluster = { zone = \"a\", hash_key = \"x\" }", Some("\"x\" }")),
            ("cluster.hash_key = \"x", Some("\"x")),
            ("Hash-Key = \"x\"", Some("\"x\"")),
            ("key = \"path\"", None),
            ("pool = \"web\"", None),
            ("hash_key", None),
            ("= \"x\"", None),
        ] {
            let found = behind_a_secrets_key(line, &["hash_key", "token"]).map(|at| &line[at..]);
            assert_eq!(found, want, "{line}");
        }
    }

    #[test]
    fn a_table_with_a_secret_that_was_not_read_shows_no_value() {
        for (text, hidden) in [
            ("[cluster]\nhash_kye = [\n  \"SECRET\"\n]\n[log]\nlevel = 1", &["[", "\"SECRET\"", "]"][..]),
            ("[cluster]\nkey = \"SECRET\"\nlevel", &["\"SECRET\"", "level"]),
            ("[clutser]\nkey=\"SECRET\"", &["\"SECRET\""]),
            ("[log]\ntokn = \"\"\"\nSECRET=\n\"\"\"\nlevel = 1", &["\"\"\"", "SECRET=", "\"\"\"", "1"]),
            ("[log]\nlevel = 1\nkey = 2", &[]),
            ("cluster = { key = \"SECRET\" }\n[log]\nlevel = 1", &["{ key = \"SECRET\" }"]),
            ("clutser={key='SECRET'}", &["{key='SECRET'}"]),
            ("\"cluster\" = { # why\n  key = \"SECRET\",\n}\n[log]\nlevel = 1", &["{ # why", "\"SECRET\",", "}"]),
            ("cluster.key = \"SECRET\"", &["\"SECRET\""]),
            ("cluster . \"key\"=\"SECRET\"", &["\"SECRET\""]),
            ("log = { level = 1 }\npool.web.balance = 1\ncluster = 5", &[]),
        ] {
            let sources = Sources::new(super::super::source::Source::new("test", text));
            let found = suspects(&sources, &["cluster"], &["hash_key", "token"], &[]);
            let found: Vec<&str> = found.iter().map(|span| &text[span.start..span.end]).collect();
            assert_eq!(found, hidden, "{text}");
        }
        let text = "[cluster]\nhash_key = 'x'\nzone = 5";
        let sources = Sources::new(super::super::source::Source::new("test", text));
        let judged = Span { start: 21, end: 24 };
        assert_eq!(suspects(&sources, &["cluster"], &["hash_key"], &[judged]), [], "the secret is known");
        let text = "cluster.zone = 5\ncluster.hash_key = 'x'\nadmin.key = 'y'";
        let sources = Sources::new(super::super::source::Source::new("test", text));
        let judged = Span { start: 36, end: 39 };
        let found = suspects(&sources, &["cluster", "admin"], &["hash_key"], &[judged]);
        let found: Vec<&str> = found.iter().map(|span| &text[span.start..span.end]).collect();
        assert_eq!(found, ["'y'"], "one is known, the other is not");
    }
}
