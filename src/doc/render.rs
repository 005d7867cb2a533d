//! Value: diagnostics for people (as rustc prints them) and for programs (JSON).
//!
//! What the user wrote may hold escape sequences or be one line of a megabyte: control characters are shown as symbols,
//! spans are clamped to the text, and only the lines around them are handed on.

use std::borrow::Cow;

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet, normalize_untrusted_str};
use serde_json::{Value, json};

use super::diagnostic::{Diagnostic, Secondary, Severity};
use super::source::{Source, Sources};
use super::span::Span;

/// Every diagnostic with its lines and carets, an empty line after each. [`summary`] closes the list.
pub fn render(sources: &Sources, diagnostics: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&one(sources, diagnostic, &renderer));
        out.push_str("\n\n");
    }
    out
}

/// `conf/strata.toml: 2 errors, 1 warning`, with its line end; nothing when there is nothing to say.
pub fn summary(sources: &Sources, diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|d| d.is_error()).count();
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let counts = match (errors, diagnostics.len() - errors) {
        (0, 0) => return String::new(),
        (errors, 0) => plural(errors, "error"),
        (0, warnings) => plural(warnings, "warning"),
        (errors, warnings) => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    };
    format!("{}: {counts}\n", normalize_untrusted_str(&sources.main().name))
}

/// For programs: one object a diagnostic, with lines and columns (from 1) beside the byte offsets.
pub fn json(sources: &Sources, diagnostics: &[Diagnostic]) -> Value {
    // Offsets are those of the file: what else could a program look up.
    let place = |span: Span| {
        let (source, start) = sources.at(span.start);
        let span = span.unshifted(start);
        let ((line, column), (end_line, end_column)) = (source.position(span.start), source.position(span.end));
        json!({ "start": span.start, "end": span.end, "line": line, "column": column, "end_line": end_line, "end_column": end_column })
    };
    let file = |span: Span| sources.at(span.start).0.name.clone();
    let one = |d: &Diagnostic| {
        let secondary =
            d.secondary.iter().map(|s| json!({ "label": s.label, "file": &*file(s.span), "span": place(s.span) }));
        json!({
            "severity": d.severity,
            "code": d.code,
            "message": d.message,
            "file": &*file(d.span),
            "span": place(d.span),
            "label": d.label,
            "help": d.help,
            "secondary": secondary.collect::<Vec<Value>>(),
        })
    };
    Value::Array(diagnostics.iter().map(one).collect())
}

fn one(sources: &Sources, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let (source, start) = sources.at(diagnostic.span.start);
    // From here on, places are those of the one file.
    let own = |span: &Span| start <= span.start && span.start <= start + source.text.len();
    let here: Vec<Span> = diagnostic.secondary.iter().map(|s| s.span).filter(own).map(|s| s.unshifted(start)).collect();
    let span = diagnostic.span.unshifted(start);
    let window = window(source, span, &here);
    let text =
        masked(source.text.get(window.start..window.end).unwrap_or_default(), window.start + start, &diagnostic.masked);
    let (first_line, _) = source.position(window.start);
    let place = |span: Span| within(&text, span, window.start);

    let label = diagnostic.label.as_deref().map(normalize_untrusted_str);
    let mut snippet = Snippet::source(text.as_ref())
        .path(normalize_untrusted_str(&source.name))
        .line_start(first_line)
        .annotation(AnnotationKind::Primary.span(place(span)).label(label));
    for secondary in diagnostic.secondary.iter().filter(|s| own(&s.span)) {
        let span = secondary.span.unshifted(start);
        if window.start <= span.start && span.end <= window.end {
            let label = normalize_untrusted_str(&secondary.label);
            snippet = snippet.annotation(AnnotationKind::Context.span(place(span)).label(label));
        }
    }
    let mut group = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code).element(snippet);
    for secondary in diagnostic.secondary.iter().filter(|s| !own(&s.span)) {
        group = group.element(elsewhere(sources, secondary, &diagnostic.masked));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
    }
    renderer.render(&[group])
}

/// The lines of another file that are part of it.
fn elsewhere<'a>(sources: &Sources, secondary: &'a Secondary, secrets: &[Span]) -> Snippet<'a, Annotation<'a>> {
    let (source, start) = sources.at(secondary.span.start);
    let span = secondary.span.unshifted(start);
    let window = window(source, span, &[]);
    let text = source.text.get(window.start..window.end).unwrap_or_default();
    let text = masked(text, window.start + start, secrets).into_owned();
    let (first_line, _) = source.position(window.start);
    let place = within(&text, span, window.start);
    Snippet::source(text)
        .path(normalize_untrusted_str(&source.name))
        .line_start(first_line)
        .annotation(AnnotationKind::Context.span(place).label(normalize_untrusted_str(&secondary.label)))
}

/// The lines that a diagnostic's spans touch, at most [`WINDOW`] bytes of them: a report is as cheap in a long file as in a
/// short one.
fn window(source: &Source, span: Span, others: &[Span]) -> Span {
    let spans = || others.iter().copied().chain([span]);
    let all = Span {
        start: spans().map(|s| s.start).min().unwrap_or_default(),
        end: spans().map(|s| s.end).max().unwrap_or_default(),
    };
    let lines = source.lines(all);
    if lines.end - lines.start <= WINDOW {
        return lines;
    }
    // One huge line, or places far apart: what is around the mistake itself.
    let near = source.lines(Span { start: span.start, end: span.start });
    let start = near.start.max(source.before(span.start.saturating_sub(WINDOW / 2)).len());
    let end = near.end.min(source.before(start + WINDOW).len());
    Span { start, end }
}

const WINDOW: usize = 64 * 1024;

/// The text of a window with every secret in it starred out, byte for byte, so that places stay what they are.
fn masked<'a>(text: &'a str, window_start: usize, secrets: &[Span]) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for secret in secrets {
        let range = within(&text, *secret, window_start);
        if !range.is_empty() {
            let stars = "*".repeat(range.len());
            text.to_mut().replace_range(range, &stars);
        }
    }
    text
}

/// `span` relative to a window of the text, clamped to it and to where characters start.
fn within(text: &str, span: Span, window_start: usize) -> std::ops::Range<usize> {
    let start = text.floor_char_boundary(span.start.saturating_sub(window_start).min(text.len()));
    let end = text.ceil_char_boundary(span.end.saturating_sub(window_start).min(text.len()));
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::codes;

    fn source() -> Sources {
        main("a.toml", "[service.web]\nlisten = \":80\"\npool = \"wbe\"\n\n[pool.web]\n")
    }

    fn main(name: &str, text: impl Into<String>) -> Sources {
        Sources::new(Source::new(name, text))
    }

    #[test]
    fn a_place_in_another_file_is_shown_with_its_path_and_line() {
        let mut sources = source();
        let start = sources.push(Source::new("conf.d/b.toml", "# a comment\n[log]\nlevel = \"info\"\n"));
        let at = |from: usize, to: usize| Span { start: start + from, end: start + to };
        let mistake = Diagnostic::new(&codes::TWO_FILES, at(13, 16), "`service` is given in two files")
            .also(Span { start: 1, end: 8 }, "first given here");
        let want = "\
error[E051]: `service` is given in two files
 --> conf.d/b.toml:2:2
  |
2 | [log]
  |  ^^^
  |
 ::: a.toml:1:2
  |
1 | [service.web]
  |  ------- first given here

";
        assert_eq!(render(&sources, std::slice::from_ref(&mistake), false), want);
        let value = json(&sources, &[mistake]);
        assert_eq!((&value[0]["file"], &value[0]["span"]["line"]), (&"conf.d/b.toml".into(), &2.into()));
        assert_eq!((&value[0]["span"]["start"], &value[0]["secondary"][0]["file"]), (&13.into(), &"a.toml".into()));
    }

    #[test]
    fn a_diagnostic_shows_file_line_caret_code_and_help() {
        let mistake = Diagnostic::new(&codes::UNKNOWN_POOL, Span { start: 36, end: 41 }, "unknown pool `wbe`")
            .label("not defined")
            .also(Span { start: 43, end: 53 }, "this one is")
            .help("did you mean `web`");
        let want = "\
error[E020]: unknown pool `wbe`
 --> a.toml:3:8
  |
3 | pool = \"wbe\"
  |        ^^^^^ not defined
4 |
5 | [pool.web]
  | ---------- this one is
  |
  = help: did you mean `web`

";
        assert_eq!(render(&source(), std::slice::from_ref(&mistake), false), want);
        assert!(render(&source(), &[mistake], true).contains("\u{1b}["));
    }

    #[test]
    fn counts_read_as_words() {
        let (source, at) = (source(), Span::default());
        let error = Diagnostic::new(&codes::SYNTAX, at, "x");
        let warning = Diagnostic::new(&codes::UNUSED_POOL, at, "x");
        assert_eq!(summary(&source, &[]), "");
        assert_eq!(summary(&source, std::slice::from_ref(&warning)), "a.toml: 1 warning\n");
        assert_eq!(summary(&source, &[error.clone(), warning, error]), "a.toml: 2 errors, 1 warning\n");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let source = main("a\x1b[2J.toml", "x = \"\x1b[31m\u{202e}\0\"\r\n");
        let mistake = Diagnostic::new(&codes::MALFORMED, Span { start: 4, end: 12 }, "bad \x1b[31m")
            .label("\x07here")
            .help("\x1b]0;title\x07");
        let shown = render(&source, &[mistake], false);
        assert!(shown.chars().all(|c| !c.is_control() || c == '\n'), "{shown:?}");
        assert!(!shown.contains('\u{202e}'), "{shown:?}");
    }

    #[test]
    fn spans_outside_of_the_text_or_within_a_character_do_no_harm() {
        let source = main("x", "ä€\n");
        for start in 0..8 {
            for end in 0..8 {
                let mistake =
                    Diagnostic::new(&codes::SYNTAX, Span { start, end }, "x").also(Span { start: end, end: 99 }, "y");
                assert!(render(&source, &[mistake], false).contains("E001"));
            }
        }
        let empty = main("x", "");
        assert!(
            render(&empty, &[Diagnostic::new(&codes::SYNTAX, Span { start: 5, end: 9 }, "x")], false).contains("E001")
        );
    }

    #[test]
    fn a_line_of_a_megabyte_is_cut() {
        let source = main("x", format!("a = \"{}\"", "é".repeat(500_000)));
        let mistake = Diagnostic::new(&codes::MALFORMED, Span { start: 4, end: 1_000_006 }, "too long");
        assert!(render(&source, &[mistake], false).len() < 4096);
    }

    #[test]
    fn secrets_are_starred_out_of_the_lines_around_a_mistake() {
        let mut mistake = Diagnostic::new(&codes::UNKNOWN_POOL, Span { start: 36, end: 41 }, "x");
        mistake.masked = vec![Span { start: 36, end: 41 }];
        let shown = render(&source(), &[mistake], false);
        assert!(shown.contains("pool = *****\n") && !shown.contains("wbe"), "{shown}");
    }

    #[test]
    fn json_names_lines_and_columns() {
        let mistake = Diagnostic::new(&codes::UNKNOWN_POOL, Span { start: 36, end: 41 }, "unknown pool");
        let value = json(&source(), &[mistake]);
        assert_eq!(value[0]["severity"], "error");
        assert_eq!(value[0]["span"]["line"], 3);
        assert_eq!(value[0]["span"]["end_column"], 13);
    }
}
