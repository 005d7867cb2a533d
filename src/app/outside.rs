//! Wiring: what a configuration asks of this machine, its environment and its files; and what one asks that another machine, or
//! another shell, has answered for already.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::admin::document::Candidate;
use crate::base::limits;
use crate::doc::{Contents, Outside};

/// This machine. Remembers what it was asked for, for who watches whether the answers change.
#[derive(Default)]
pub struct Here {
    asked: RefCell<Asked>,
}

/// What a configuration was made of. Its files may hold secrets.
#[derive(Clone, Default)]
pub struct Asked {
    /// What was read, the main file first, and what it held; `None` where it could not be read.
    pub files: Vec<(PathBuf, Option<Vec<u8>>)>,
    /// What was listed.
    pub folders: Vec<(PathBuf, Vec<String>)>,
    /// Variables that are set.
    pub variables: BTreeMap<String, String>,
}

impl Asked {
    /// Everything that a running Strata needs to judge the configuration without a look at this machine. The text of the main
    /// file is in it; `None` when something is no text.
    pub fn candidate(self) -> Option<Candidate> {
        let mut files = BTreeMap::new();
        let mut name = None;
        for (path, bytes) in self.files {
            let path = path.to_str()?.to_owned();
            name.get_or_insert_with(|| path.clone());
            if let Some(bytes) = bytes {
                files.insert(path, String::from_utf8(bytes).ok()?);
            }
        }
        let mut folders = BTreeMap::new();
        for (folder, names) in self.folders {
            folders.insert(folder.to_str()?.to_owned(), names);
        }
        Some(Candidate { name: name?, files, folders, variables: self.variables })
    }
}

/// Answers of another process: nothing of this machine is looked at.
impl Outside for Candidate {
    fn variable(&self, name: &str) -> Result<String, &'static str> {
        self.variables.get(name).cloned().ok_or("is not set")
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>, String> {
        self.folders.get(&*here(folder).to_string_lossy()).cloned().ok_or_else(|| "no such folder".to_owned())
    }

    fn read(&self, path: &Path, _: usize) -> Result<Contents, String> {
        let text = self.files.get(&*path.to_string_lossy()).ok_or("no such file")?;
        Ok(Contents { bytes: text.clone().into_bytes(), is_public: false })
    }
}

/// The folder of a path without one.
fn here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

impl Here {
    /// The bytes of the file that an operator names, which may be a pipe; at most one more than `most`.
    pub fn main(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        self.note(path, read(path, most, false)).map(|contents| contents.bytes)
    }

    fn note(&self, path: &Path, read: io::Result<Contents>) -> io::Result<Contents> {
        let held = read.as_ref().ok().map(|contents| contents.bytes.clone());
        self.asked.borrow_mut().files.push((path.to_owned(), held));
        read
    }

    pub fn asked(self) -> Asked {
        self.asked.into_inner()
    }
}

fn read(path: &Path, most: usize, regular: bool) -> io::Result<Contents> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    // Nobody chose a pipe that a file names: it would be waited for, and a device has no end.
    if regular && !about.is_file() {
        return Err(io::Error::other(if about.is_dir() { "it is a folder" } else { "it is no regular file" }));
    }
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Contents { bytes, is_public: about.mode() & 0o004 != 0 })
}

impl Outside for Here {
    fn variable(&self, name: &str) -> Result<String, &'static str> {
        match std::env::var(name) {
            Ok(value) => {
                self.asked.borrow_mut().variables.insert(name.to_owned(), value.clone());
                Ok(value)
            }
            Err(std::env::VarError::NotPresent) => Err("is not set"),
            Err(std::env::VarError::NotUnicode(_)) => Err("is not UTF-8 text"),
        }
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>, String> {
        let folder = here(folder);
        let mut names = Vec::new();
        let listed = (|| {
            for entry in std::fs::read_dir(folder)?.take(FOLDER) {
                let entry = entry?;
                // Through links: a mounted configuration is made of them.
                if entry.path().is_file()
                    && let Ok(name) = entry.file_name().into_string()
                {
                    names.push(name);
                }
            }
            Ok(())
        })();
        names.sort_unstable();
        self.asked.borrow_mut().folders.push((folder.to_owned(), names.clone()));
        listed.map(|()| names).map_err(|error: io::Error| error.to_string())
    }

    fn read(&self, path: &Path, most: usize) -> Result<Contents, String> {
        self.note(path, read(path, most, true)).map_err(|error| error.to_string())
    }
}

/// Entries of a folder that are looked at: more than can be included, and an end all the same.
const FOLDER: usize = limits::CONFIG_FILES * 16;
