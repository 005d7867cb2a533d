//! Engine: lines that may hold a secret where none was read: its key is misspelt, misplaced or given twice, or its text does not end.
//!
//! Such a line is part of a diagnostic, and diagnostics are logged. What is hidden in vain costs little; so everything behind the
//! key is hidden, to the end of the line.

use super::source::Sources;
use super::span::Span;
use super::suggest;

/// What stands behind keys that look like one of `names`, but for lines with one of `judged`, whose secrets are known.
pub(super) fn suspects(sources: &Sources, names: &[&str], judged: &[Span]) -> Vec<Span> {
    let mut suspects = Vec::new();
    for file in sources.files_with_starts() {
        let (source, start) = file;
        let mut at = start;
        for line in source.text.split('\n') {
            if let Some(behind) = behind_a_secrets_key(line, names) {
                let span = Span { start: at + behind, end: at + line.trim_end().len() };
                let known = judged.iter().any(|judged| at <= judged.start && judged.start <= at + line.len());
                if !known && !span.is_empty() {
                    suspects.push(span);
                }
            }
            at += line.len() + 1;
        }
    }
    suspects
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
}
