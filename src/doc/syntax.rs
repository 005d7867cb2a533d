//! Engine: what the TOML parser could not read, in our words, and reading on past it.
//!
//! The parser recovers within a line, but a table header without its `]` makes it swallow everything up to the next one.
//! Such a header is closed in a copy of the text, so that the mistakes below it are found in the same run.

use std::borrow::Cow;
use std::ops::Range;

use toml::de::{DeTable, Error};

use super::codes;
use super::diagnostic::{Diagnostic, quote};
use super::source::{Source, Sources};
use super::span::Span;
use crate::base::limits;

/// A text with its table headers closed, which remembers where they were not.
#[derive(Debug)]
pub(super) struct Healed<'s> {
    pub text: Cow<'s, str>,
    /// Where something was inserted, in the healed text, in order, and how many bytes were by then.
    inserted: Vec<(Range<usize>, usize)>,
    /// What was wrong there, in the original text.
    errors: Vec<Error>,
}

impl<'s> Healed<'s> {
    pub fn of(text: &'s str) -> Healed<'s> {
        let (_, errors) = DeTable::parse_recoverable(text);
        let unclosed: Vec<Error> = errors.into_iter().filter(|error| missing_bracket(error).is_some()).collect();
        if unclosed.is_empty() {
            return Healed { text: Cow::Borrowed(text), inserted: Vec::new(), errors: Vec::new() };
        }
        let mut healed = String::with_capacity(text.len() + 2 * unclosed.len());
        let mut inserted = Vec::new();
        let (mut copied, mut bytes) = (0, 0);
        for error in &unclosed {
            let (Some(bracket), Some(span)) = (missing_bracket(error), error.span()) else { continue };
            let Some(until) = text.get(copied..span.start) else { continue };
            healed.push_str(until);
            bytes += bracket.len();
            inserted.push((healed.len()..healed.len() + bracket.len(), bytes));
            healed.push_str(bracket);
            copied = span.start;
        }
        healed.push_str(text.get(copied..).unwrap_or_default());
        Healed { text: Cow::Owned(healed), inserted, errors: unclosed }
    }

    /// A place in the healed text as a place in the original.
    pub fn span(&self, span: Range<usize>) -> Span {
        Span { start: self.original(span.start), end: self.original(span.end) }
    }

    fn original(&self, offset: usize) -> usize {
        let before = self.inserted.partition_point(|(range, _)| range.start < offset);
        let Some((range, bytes)) = before.checked_sub(1).and_then(|last| self.inserted.get(last)) else {
            return offset;
        };
        // Within the insertion: where it was put.
        offset.max(range.end) - bytes
    }
}

fn missing_bracket(error: &Error) -> Option<&'static str> {
    let message = error.message();
    if message.starts_with("unclosed array table") {
        Some("]]")
    } else if message.starts_with("unclosed table") {
        Some("]")
    } else {
        None
    }
}

/// One diagnostic a line: what follows on the same line is the parser finding its way back.
pub(super) fn errors(source: &Source, healed: &Healed<'_>, errors: &[Error]) -> Vec<Diagnostic> {
    let told = |error: &Error, span: Span| tell(source, error.message(), span);
    let mut found: Vec<Diagnostic> =
        errors.iter().map(|error| told(error, healed.span(error.span().unwrap_or_default()))).collect();
    found.extend(healed.errors.iter().map(|error| told(error, error.span().unwrap_or_default().into())));
    found.sort_by_key(|d| d.span);
    let mut line_end = None;
    found.retain(|d| {
        let next = line_end.is_none_or(|end| d.span.start > end);
        if next {
            line_end = Some(source.lines(Span { start: d.span.start, end: d.span.start }).end);
        }
        next
    });
    found.truncate(limits::DIAGNOSTICS);
    drop_repeats(source, &mut found);
    found
}

fn tell(source: &Source, message: &str, span: Span) -> Diagnostic {
    let here = source.text.get(span.start..span.end).unwrap_or_default();
    match message {
        "duplicate key" => Diagnostic::new(&codes::DUPLICATE_KEY, span, format!("{} is defined twice", quote(here)))
            .help("join the two, or drop one"),
        _ if message.starts_with("string values must be quoted") => {
            Diagnostic::new(&codes::SYNTAX, span, "text must be in quotes")
                .help(format!("write {}", quote(&format!("\"{here}\""))))
        }
        _ if message.starts_with("invalid basic string, expected `\"`") => {
            Diagnostic::new(&codes::SYNTAX, span, "the text is not closed").help("add `\"`")
        }
        _ => Diagnostic::new(&codes::SYNTAX, span, message.replace('\n', " ")),
    }
}

/// When a table is defined twice, its keys are as well: the table says it all.
fn drop_repeats(source: &Source, found: &mut Vec<Diagnostic>) {
    let header = |d: &Diagnostic| {
        let before = source.before(d.span.start);
        let start = before.rfind("\n[").map_or(0, |at| at + 1);
        source.lines(Span { start, end: start })
    };
    let duplicate = |d: &&Diagnostic| d.code == codes::DUPLICATE_KEY.id;
    let spans: Vec<Span> = found.iter().filter(duplicate).map(|d| d.span).collect();
    found.retain(|d| {
        let lines = header(d);
        let within = |span: &Span| lines.start <= span.start && span.end <= lines.end && *span != d.span;
        !(duplicate(&d) && spans.iter().any(within))
    });
}

/// After a syntax error the document holds less than the text, and made-up values on the lines that failed. What follows
/// from that is no mistake of the user's.
pub(super) fn drop_consequences(sources: &Sources, syntax: &[Diagnostic], found: &mut Vec<Diagnostic>) {
    let lines = |d: &Diagnostic| {
        let (source, start) = sources.at(d.span.start);
        source.lines(d.span.unshifted(start)).shifted(start)
    };
    let broken: Vec<Span> = syntax.iter().map(lines).collect();
    found.retain(|d| {
        let touches = broken.iter().any(|lines| d.span.start <= lines.end && lines.start <= d.span.end);
        !touches && !d.span.is_empty() && !codes::find(d.code).is_some_and(|code| code.absence)
    });
}
