//! Shell: what has been changed in this network namespace and for whom, in a file that one process at a time may have open.
//!
//! One file a namespace, named after the namespace's number: a container's own `/run`, and namespaces that share one, both
//! work. It lies in `/run`, which a reboot empties as it empties what is recorded.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::plan::Change;

pub struct Record {
    file: File,
    path: String,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub change: Change,
    /// It stays until the last of them has let it go.
    pub owners: Vec<String>,
}

impl Entry {
    pub fn own(&mut self, owners: &[String]) {
        for owner in owners {
            if !self.owners.contains(owner) {
                self.owners.push(owner.clone());
            }
        }
    }
}

impl Record {
    /// Waits for another process that has it open.
    pub fn open(folder: &Path) -> anyhow::Result<Record> {
        let namespace =
            std::fs::metadata("/proc/thread-self/ns/net").context("cannot tell the network namespace")?.ino();
        let path = folder.join(format!("endpoint-{namespace}.json"));
        let shown = path.display().to_string();
        let (file, text) = lock(folder, &path).with_context(|| format!("cannot keep a record in {shown}"))?;
        let entries = match text.is_empty() {
            true => Vec::new(),
            false => serde_json::from_str(&text).with_context(|| format!("{shown} is not what was written there"))?,
        };
        Ok(Record { file, path: shown, entries })
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn find(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.change.key() == key)
    }

    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Strikes `owners` from the entry at `at`. Its change, if they were the last.
    pub fn disown(&mut self, at: usize, owners: &[String]) -> Option<Change> {
        let entry = self.entries.get_mut(at)?;
        let before = entry.owners.len();
        entry.owners.retain(|owner| !owners.contains(owner));
        (before > 0 && entry.owners.is_empty()).then(|| entry.change.clone())
    }

    pub fn remove(&mut self, at: usize) {
        self.entries.remove(at);
    }

    pub fn save(&mut self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.entries)?;
        self.file
            .rewind()
            .and_then(|()| self.file.set_len(0))
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("cannot write {}", self.path))
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.entries.is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn lock(folder: &Path, path: &Path) -> io::Result<(File, String)> {
    std::fs::create_dir_all(folder)?;
    loop {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.lock()?;
        // Whoever had it may have removed it: then what is locked is nobody's any more.
        if std::fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino())) {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            return Ok((file, text));
        }
    }
}
