//! Value: texts and what they are called. Reading files is the caller's; refusing what cannot be a configuration is ours.

use std::fmt;
use std::sync::Arc;

use super::codes;
use super::diagnostic::Diagnostic;
use super::span::Span;
use crate::base::limits;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As diagnostics show it: mostly a path.
    pub name: Arc<str>,
    pub text: String,
}

impl Source {
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<String>) -> Source {
        Source { name: name.into(), text: text.into() }
    }

    /// A file's bytes as a source. When they are no text, the source holds them made readable, for the diagnostics to
    /// point into, and the second value says what is wrong: such a source must not be loaded.
    pub fn from_bytes(name: impl Into<Arc<str>>, bytes: Vec<u8>) -> (Source, Option<Diagnostic>) {
        let name = name.into();
        if bytes.len() > limits::CONFIG_BYTES {
            return (Source { name, text: String::new() }, Some(too_large(bytes.len())));
        }
        match String::from_utf8(bytes) {
            Ok(text) => (Source { name, text }, None),
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let span = Span { start: offset, end: offset + char::REPLACEMENT_CHARACTER.len_utf8() };
                let mistake = Diagnostic::new(&codes::NOT_UTF8, span, "the file is not UTF-8 text")
                    .label(format!("byte {offset} is where it stops being text"))
                    .help("save it as UTF-8");
                (Source { name, text }, Some(mistake))
            }
        }
    }

    /// Line and column of a byte offset, both from 1; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.before(offset);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(start..).map_or(0, |text| text.chars().count()) + 1;
        (line, column)
    }

    /// Where each line starts, for many positions in one text.
    pub fn line_starts(&self) -> Vec<usize> {
        std::iter::once(0).chain(self.text.match_indices('\n').map(|(at, _)| at + 1)).collect()
    }

    /// The byte range of the whole line or lines that hold `span`, without the last line's end.
    pub fn lines(&self, span: Span) -> Span {
        let start = self.before(span.start).rfind('\n').map_or(0, |at| at + 1);
        let from = self.before(span.end.max(span.start)).len();
        let end = self.text.get(from..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |at| from + at);
        Span { start, end }
    }

    /// The text before `offset`, moved back to where a character starts.
    pub fn before(&self, offset: usize) -> &str {
        self.text.get(..self.text.floor_char_boundary(offset)).unwrap_or_default()
    }
}

/// The texts of one document: the main file, and those that it includes. A place is an offset into all of them, one after
/// the other, so that one span says file, line and column.
#[derive(Clone, Debug)]
pub struct Sources {
    files: Vec<File>,
}

#[derive(Clone, Debug)]
struct File {
    source: Source,
    /// Of its first byte, as a place.
    start: usize,
    /// Of each line, as a place.
    lines: Vec<usize>,
}

/// A line of a file, from 1; line 0 is a place that is no file's, whose name says it all. Two are equal wherever they are: moving a line
/// is not a change.
#[derive(Clone, Debug)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
}

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

impl Eq for Place {}

impl Default for Place {
    fn default() -> Place {
        Place { file: Arc::from(""), line: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

impl Sources {
    pub fn new(main: Source) -> Sources {
        let mut sources = Sources { files: Vec::new() };
        sources.push(main);
        sources
    }

    /// Adds a text; returns the place of its first byte.
    pub(super) fn push(&mut self, source: Source) -> usize {
        // One more than its end, so that the end of a file is not the start of the next.
        let start = self.files.last().map_or(0, |last| last.start + last.source.text.len() + 1);
        let lines = source.line_starts().into_iter().map(|at| start + at).collect();
        self.files.push(File { source, start, lines });
        start
    }

    /// The first file, which names the others.
    pub fn main(&self) -> &Source {
        // There is one from `new` on.
        self.files.first().map_or_else(|| unreachable!("sources without a file"), |file| &file.source)
    }

    pub fn files(&self) -> impl Iterator<Item = &Source> {
        self.files.iter().map(|file| &file.source)
    }

    /// With the place of each one's first byte.
    pub(super) fn files_with_starts(&self) -> impl Iterator<Item = (&Source, usize)> {
        self.files.iter().map(|file| (&file.source, file.start))
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.source.text.len()).sum()
    }

    /// The text that holds a place, and the place of its first byte.
    pub fn at(&self, place: usize) -> (&Source, usize) {
        let file = self.file(place);
        (&file.source, file.start)
    }

    /// File and line of a place.
    pub fn place(&self, place: usize) -> Place {
        let file = self.file(place);
        let line = file.lines.partition_point(|start| *start <= place);
        Place { file: file.source.name.clone(), line: u32::try_from(line).unwrap_or(u32::MAX) }
    }

    /// Line and column of a place in its file, both from 1; the column counts characters.
    pub fn position(&self, place: usize) -> (usize, usize) {
        let (source, start) = self.at(place);
        source.position(place - start)
    }

    fn file(&self, place: usize) -> &File {
        let after = self.files.partition_point(|file| file.start <= place);
        self.files.get(after.saturating_sub(1)).unwrap_or_else(|| unreachable!("sources without a file"))
    }
}

impl From<Source> for Sources {
    fn from(main: Source) -> Sources {
        Sources::new(main)
    }
}

/// The refusal of a file of so many bytes.
pub fn too_large(bytes: usize) -> Diagnostic {
    let message = format!("the file has {bytes} bytes, more than the {} that are read", limits::CONFIG_BYTES);
    Diagnostic::new(&codes::TOO_LARGE, Span::default(), message).help("is this the file you meant")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let source = Source::new("x", "ab\nä€c\n");
        for (offset, want) in [(0, (1, 1)), (2, (1, 3)), (3, (2, 1)), (5, (2, 2)), (8, (2, 3)), (99, (3, 1))] {
            assert_eq!(source.position(offset), want, "{offset}");
        }
        // Within the two bytes of ä: where it starts.
        assert_eq!(source.position(4), (2, 1));
    }

    #[test]
    fn a_place_among_several_files_knows_its_file_and_line() {
        let mut sources = Sources::new(Source::new("a", "one\ntwo"));
        let b = sources.push(Source::new("b", ""));
        let c = sources.push(Source::new("c", "x\ny\n"));
        assert_eq!((b, c, sources.main().name.as_ref(), sources.bytes()), (8, 9, "a", 11));
        for (place, want) in
            [(0, "a:1"), (3, "a:1"), (4, "a:2"), (7, "a:2"), (8, "b:1"), (9, "c:1"), (11, "c:2"), (99, "c:3")]
        {
            assert_eq!(sources.place(place).to_string(), want, "{place}");
        }
        assert_eq!((sources.position(5), sources.position(11)), ((2, 2), (2, 1)));
    }

    #[test]
    fn lines_are_whole() {
        let source = Source::new("x", "one\ntwo\nthree");
        for (start, end, want) in
            [(0, 1, "one"), (4, 9, "two\nthree"), (3, 3, "one"), (13, 13, "three"), (99, 99, "three")]
        {
            let lines = source.lines(Span { start, end });
            assert_eq!(&source.text[lines.start..lines.end], want, "{start}..{end}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_say_where() {
        let (source, mistake) = Source::from_bytes("x", b"a = 1\nb = \"\xff\xfe\"".to_vec());
        let mistake = mistake.unwrap();
        assert_eq!((mistake.code, mistake.span.start), ("E002", 11));
        assert_eq!(source.position(mistake.span.start), (2, 6));
        let (_, mistake) = Source::from_bytes("x", vec![b'#'; limits::CONFIG_BYTES + 1]);
        assert_eq!(mistake.unwrap().code, "E003");
    }
}
