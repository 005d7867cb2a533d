//! Value: what a document may ask of the world around it, and a world that has nothing to give.
//!
//! Reading is pure: variables and files are an argument. `app` answers from the machine, tests from a table.

use std::path::{Path, PathBuf};

/// The variables and files that a document may name. The same answers make the same document.
pub trait Outside {
    /// The value of an environment variable.
    ///
    /// # Errors
    /// Why there is none, to follow "variable `X`": `is not set`.
    fn variable(&self, name: &str) -> Result<String, &'static str>;

    /// The names in a folder, in any order.
    ///
    /// # Errors
    /// Why it cannot be listed.
    fn list(&self, folder: &Path) -> Result<Vec<String>, String>;

    /// A file's bytes, `most` and one more of them at the most: whoever asked sees that it is too large.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, path: &Path, most: usize) -> Result<Contents, String>;
}

/// A file, as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub bytes: Vec<u8>,
    /// Anybody on the machine may read it.
    pub is_public: bool,
}

/// Nothing outside of the text: no variable is set, no file is there.
#[derive(Clone, Copy, Debug)]
pub struct Nowhere;

impl Outside for Nowhere {
    fn variable(&self, _: &str) -> Result<String, &'static str> {
        Err("is not set")
    }

    fn list(&self, _: &Path) -> Result<Vec<String>, String> {
        Err("no such folder".to_owned())
    }

    fn read(&self, _: &Path, _: usize) -> Result<Contents, String> {
        Err("no such file".to_owned())
    }
}

/// Where `named`, written in the file `by`, is: beside that file, unless it says from the root.
pub(super) fn beside(by: &str, named: &str) -> PathBuf {
    Path::new(by).parent().unwrap_or(Path::new("")).join(named)
}
