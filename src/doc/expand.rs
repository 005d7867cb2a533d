//! Engine: `${NAME}` in a text: the variable's value, or what stands after `:-` when it is unset or empty. `$${` is `${`.

use std::borrow::Cow;

use super::codes;
use super::diagnostic::{Diagnostic, quote};
use super::outside::Outside;
use super::span::Span;

/// A text with its variables filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expanded<'v> {
    pub text: Cow<'v, str>,
    /// A variable had a say in it: it may stand for a number too.
    pub from_variable: bool,
}

/// Whether a text is one variable without a default, and nothing else: as it is written, it gives nothing away.
pub(super) fn is_reference(value: &str) -> bool {
    value.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix('}')).is_some_and(is_name)
}

/// Fills in the variables of `value`, which the file writes as `raw` at `span`.
///
/// # Errors
/// Every variable that has no value, each with its place within the value.
pub(super) fn expand<'v>(
    value: &'v str,
    raw: &str,
    span: Span,
    outside: &dyn Outside,
) -> Result<Expanded<'v>, Vec<Diagnostic>> {
    if !value.contains(OPEN) {
        return Ok(Expanded { text: Cow::Borrowed(value), from_variable: false });
    }
    let places = Places::new(value, raw, span);
    let mut text = String::with_capacity(value.len());
    let (mut wrong, mut from_variable) = (Vec::new(), false);
    let mut rest = value;
    for number in 0.. {
        let Some((before, after)) = rest.split_once(OPEN) else { break };
        if let Some(before) = before.strip_suffix('$') {
            text.push_str(before);
            text.push_str(OPEN);
            rest = after;
            continue;
        }
        text.push_str(before);
        let Some((inside, after)) = after.split_once('}') else {
            let mistake = Diagnostic::new(&codes::BAD_VARIABLE, places.of(number, OPEN.len()), "`${` without its `}`");
            wrong.push(mistake.help("close it, or write `$${` for a plain `${`"));
            rest = "";
            break;
        };
        let at = places.of(number, OPEN.len() + inside.len() + 1);
        match variable(inside, at, outside) {
            Ok(value) => text.push_str(&value),
            Err(mistake) => wrong.push(*mistake),
        }
        from_variable = true;
        rest = after;
    }
    text.push_str(rest);
    if wrong.is_empty() { Ok(Expanded { text: Cow::Owned(text), from_variable }) } else { Err(wrong) }
}

fn variable(inside: &str, at: Span, outside: &dyn Outside) -> Result<String, Box<Diagnostic>> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        let mistake = Diagnostic::new(&codes::BAD_VARIABLE, at, format!("{} is no variable's name", quote(name)));
        let help = "letters, digits and `_`, as in `${NAME}` or `${NAME:-default}`; `$${` is a plain `${`";
        return Err(Box::new(mistake.help(help)));
    }
    match (outside.variable(name), default) {
        (Ok(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Ok(value), _) => Ok(value),
        (Err(_), Some(default)) => Ok(default.to_owned()),
        (Err(why), None) => {
            let mistake = Diagnostic::new(&codes::NO_VARIABLE, at, format!("variable {} {why}", quote(name)));
            Err(Box::new(mistake.help(format!("set it, or give a default: `${{{name}:-…}}`"))))
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

const OPEN: &str = "${";

/// Where each `${` of a value stands in the file.
struct Places {
    starts: Vec<usize>,
    span: Span,
}

impl Places {
    /// Escapes move what follows them, but cannot make a `${` without being seen to: then the counts differ, and the place
    /// of each is the whole value.
    fn new(value: &str, raw: &str, span: Span) -> Places {
        let starts: Vec<usize> = raw.match_indices(OPEN).map(|(at, _)| span.start + at).collect();
        let same = starts.len() == value.matches(OPEN).count();
        Places { starts: if same { starts } else { Vec::new() }, span }
    }

    fn of(&self, number: usize, len: usize) -> Span {
        match self.starts.get(number) {
            Some(start) => Span { start: *start, end: (start + len).min(self.span.end) },
            None => self.span,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::doc::outside::Contents;

    struct Variables;

    impl Outside for Variables {
        fn variable(&self, name: &str) -> Result<String, &'static str> {
            match name {
                "A" => Ok("one".to_owned()),
                "_B2" => Ok("two ${A}".to_owned()),
                "EMPTY" => Ok(String::new()),
                "BINARY" => Err("is not UTF-8 text"),
                _ => Err("is not set"),
            }
        }

        fn list(&self, _: &Path) -> Result<Vec<String>, String> {
            unreachable!("variables ask for no folder")
        }

        fn read(&self, _: &Path, _: usize) -> Result<Contents, String> {
            unreachable!("variables ask for no file")
        }
    }

    fn expanded(value: &str) -> Result<Expanded<'_>, Vec<Diagnostic>> {
        // As a literal string at the start of a file: the value begins after one quote.
        expand(value, &format!("'{value}'"), Span { start: 0, end: value.len() + 2 }, &Variables)
    }

    #[test]
    fn variables_are_filled_in_once() {
        for (value, want) in [
            ("plain $A $", "plain $A $"),
            ("${A}", "one"),
            ("x${A}y${A}z", "xoneyonez"),
            ("${_B2}", "two ${A}"),
            ("$${A}", "${A}"),
            ("$${", "${"),
            ("$$${A}${A}", "$${A}one"),
            ("${EMPTY}|${EMPTY:-d}|${NO:-d}|${NO:-}|${A:-d}", "|d|d||one"),
            ("${NO:-a:-b $ {}", "a:-b $ {"),
        ] {
            assert_eq!(expanded(value).unwrap().text, want, "{value}");
        }
    }

    #[test]
    fn what_is_no_variable_says_where_it_stands() {
        for (value, code, place, words) in [
            ("${NO}", "E048", "${NO}", "`NO` is not set"),
            ("a${A}b${NO}c", "E048", "${NO}", "`NO` is not set"),
            ("é${BINARY}", "E048", "${BINARY}", "is not UTF-8"),
            ("x${A", "E049", "${", "without its `}`"),
            ("${}", "E049", "${}", "no variable's name"),
            ("${1A}", "E049", "${1A}", "no variable's name"),
            ("${A-b}", "E049", "${A-b}", "no variable's name"),
        ] {
            let wrong = expanded(value).unwrap_err();
            let raw = format!("'{value}'");
            let [mistake] = &wrong[..] else { panic!("{value}: {wrong:?}") };
            assert_eq!((mistake.code, &raw[mistake.span.start..mistake.span.end]), (code, place), "{value}");
            assert!(mistake.message.contains(words), "{value}: {}", mistake.message);
        }
        assert_eq!(expanded("${NO}${NO}").unwrap_err().len(), 2);
    }

    #[test]
    fn escapes_before_a_variable_do_not_move_its_place_and_escapes_in_it_hide_it() {
        let span = Span { start: 10, end: 30 };
        let found = expand("\t${NO}", "\"\\u0009${NO}\"", span, &Variables).unwrap_err();
        assert_eq!(found[0].span, Span { start: 17, end: 22 });
        let found = expand("${NO}", "\"\\u0024{NO}\"", span, &Variables).unwrap_err();
        assert_eq!(found[0].span, span);
    }

    #[test]
    fn only_one_bare_variable_is_a_reference() {
        for (value, is) in
            [("${A}", true), ("${A:-x}", false), ("x${A}", false), ("${A}${A}", false), ("A", false), ("$${A}", false)]
        {
            assert_eq!(is_reference(value), is, "{value}");
        }
    }
}
