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
    /// Files that were read, and cannot be opened any more. Not pipes, which are read once.
    pub fn lost(&self) -> Vec<(&Path, io::Error)> {
        let read = self.files.iter().filter(|(_, held)| held.is_some());
        read.filter_map(|(path, _)| match std::fs::metadata(path) {
            Ok(about) if !about.is_file() => None,
            Ok(_) => File::open(path).err().map(|error| (path.as_path(), error)),
            Err(error) => Some((path.as_path(), error)),
        })
        .collect()
    }

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
    // Nobody chose a pipe that a file names, and a device has no end. Before it is opened: that alone waits for a pipe's writer.
    if regular {
        let about = std::fs::metadata(path)?;
        if !about.is_file() {
            return Err(io::Error::other(if about.is_dir() { "it is a folder" } else { "it is no regular file" }));
        }
    }
    let file = File::open(path)?;
    let about = file.metadata()?;
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::app::load;

    #[test]
    fn a_pipe_that_a_secret_names_is_refused_and_not_waited_for() {
        // To open a pipe without a writer waits for one.
        let (reader, _) = io::pipe().unwrap();
        let text = format!("[cluster]\nhash_key = \"file:/proc/self/fd/{}\"\n", reader.as_raw_fd());
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let loaded = load::parse("test", text.into_bytes(), &Here::default());
            let _ = tell.send(loaded.render(false));
        });
        let said = told.recv_timeout(Duration::from_secs(60)).expect("it waits for the pipe");
        assert!(said.contains("it is no regular file"), "{said}");
    }

    #[test]
    fn files_that_cannot_be_opened_again_are_named_and_pipes_are_not() {
        let (reader, _) = io::pipe().unwrap();
        let pipe = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        let (here, gone, unread) = ("Cargo.toml", "/nowhere/strata.toml", "/nowhere/else.toml");
        let held = |path: PathBuf| (path, Some(Vec::new()));
        let files = vec![held(here.into()), held(pipe), held(gone.into()), (unread.into(), None)];
        let asked = Asked { files, ..Asked::default() };
        let lost: Vec<_> = asked.lost().into_iter().map(|(path, error)| (path.to_owned(), error.kind())).collect();
        assert_eq!(lost, [(gone.into(), io::ErrorKind::NotFound)]);
    }
}
