//! Value: where in the text something stands, and values that remember it.

use std::ops::{Deref, Range};

use serde::{Serialize, Serializer};

/// Byte offsets into a source, end exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The same, in a text that begins `by` bytes later.
    #[must_use]
    pub(super) const fn shifted(self, by: usize) -> Span {
        Span { start: self.start + by, end: self.end + by }
    }

    /// The same, in the text that begins at `start` here.
    #[must_use]
    pub(super) const fn unshifted(self, start: usize) -> Span {
        Span { start: self.start.saturating_sub(start), end: self.end.saturating_sub(start) }
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Span {
        Span { start: range.start, end: range.end }
    }
}

/// A value and where it was written. Two are equal when their values are: moving a line is not a change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Spanned<T> {
    pub const fn new(value: T, span: Span) -> Spanned<T> {
        Spanned { value, span }
    }

    /// A value that nobody wrote: a default.
    pub fn implied(value: T) -> Spanned<T> {
        Spanned { value, span: Span::default() }
    }

    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: f(self.value), span: self.span }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Spanned<T>) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T: Serialize> Serialize for Spanned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}
