//! Wiring: `watch = true`: an edit of any file that the configuration is made of is a reload.
//!
//! ```text
//!  quiet ──event──▶ stirred ──nothing for QUIET──▶ look: the same content as is judged ──▶ quiet
//!                     ▲                              │ other content, first seen now
//!                     └──────────── look again ◀─────┘      the same twice ──▶ reload
//! ```
//! What counts is content, seen twice the same, so that half of an edit is not loaded. Not here: what a reload does, nor how folders are
//! watched (`net::folders`).

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::time::Duration;

use super::outside::Asked;
use crate::base::{Moment, clock};
use crate::net::folders::Folders;

/// Watches the files of one configuration.
pub struct Edits {
    folders: Folders,
    /// Keys the marks, so that they tell nothing of secrets.
    keys: RandomState,
    /// Of the content that the last reload read, whatever came of it.
    judged: u64,
    /// Of the content that the last look found, where it was another.
    seen: Option<u64>,
    /// When it is time to look.
    due: Option<Due>,
}

#[derive(Clone, Copy)]
struct Due {
    at: Moment,
    /// Looked at then at the latest, however often it stirs.
    latest: Moment,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// What is judged already, or what may still be in the middle of an edit.
    Nothing,
    /// New content that has stayed the same for a while.
    Edited,
    /// The main file has stayed without any content for a while: an edit that went wrong, and not a wish to serve nothing.
    Emptied,
}

/// Long enough for an editor to write and rename, short enough for a person to wait for.
const QUIET: Duration = Duration::from_millis(250);
/// A folder that never rests is looked at this often all the same.
const RESTLESS: Duration = Duration::from_secs(2);

impl Edits {
    /// # Errors
    /// The kernel gives no more watches.
    pub fn new(asked: &Asked) -> Result<Edits, String> {
        let mut edits = Edits { folders: Folders::new()?, keys: RandomState::new(), judged: 0, seen: None, due: None };
        edits.judge(asked);
        Ok(edits)
    }

    /// Takes note of what a reload has read, and watches where that is now.
    pub fn judge(&mut self, asked: &Asked) {
        (self.judged, self.seen) = (self.mark(asked), None);
        self.follow(asked);
        // What changed between the reading and the watching stirred nobody.
        self.due.get_or_insert_with(|| Due { at: clock::now() + QUIET, latest: clock::now() + RESTLESS });
    }

    /// Returns when it is time to look. May be dropped and called again.
    pub async fn due(&mut self) {
        loop {
            let wait = self.due.map(|due| due.at.since(clock::now()));
            tokio::select! {
                () = self.folders.stirred() => self.stirred(),
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    self.due = None;
                    return;
                }
            }
        }
    }

    fn stirred(&mut self) {
        let now = clock::now();
        let latest = self.due.map_or(now + RESTLESS, |due| due.latest);
        self.due = Some(Due { at: latest.min(now + QUIET), latest });
    }

    /// Judges what is there now, as it was read for this.
    pub fn look(&mut self, asked: &Asked) -> Look {
        self.follow(asked);
        let mark = self.mark(asked);
        if mark == self.judged {
            self.seen = None;
            return Look::Nothing;
        }
        if self.seen != Some(mark) {
            self.seen = Some(mark);
            self.stirred();
            return Look::Nothing;
        }
        let main = asked.files.first().and_then(|(_, bytes)| bytes.as_ref());
        if main.is_some_and(|bytes| bytes.trim_ascii().is_empty()) {
            (self.judged, self.seen) = (mark, None);
            return Look::Emptied;
        }
        Look::Edited
    }

    fn mark(&self, asked: &Asked) -> u64 {
        self.keys.hash_one((&asked.files, &asked.folders))
    }

    fn follow(&mut self, asked: &Asked) {
        let files = asked.files.iter().map(|(path, _)| path.as_path());
        self.folders.follow(files, asked.folders.iter().map(|(path, _)| path.as_path()));
    }
}

/// The main file where it is a mount point of its own, as in a container that was given the file and not its folder: what editors
/// put in the place of such a file is somewhere else, and nothing stirs here. (Secrets are mounted like that, and nobody edits them.)
pub fn pinned(asked: &Asked) -> Option<&Path> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    asked.files.first().map(|(path, _)| path.as_path()).filter(|path| is_mounted(&mounts, path))
}

fn is_mounted(mounts: &str, file: &Path) -> bool {
    // The kernel knows places from the root on and without links, and whoever names a file need not. One that is gone is mounted nowhere.
    file.canonicalize().is_ok_and(|file| is_mount_point(mounts, &file))
}

fn is_mount_point(mounts: &str, file: &Path) -> bool {
    // The kernel writes a blank as its number, in octal.
    let point = file.to_string_lossy().replace(' ', "\\040");
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(&point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_mounted_by_itself_is_known_from_one_in_a_mounted_folder() {
        let mounts = "812 793 253:0 / / rw - overlay overlay rw\n\
                      830 812 253:1 /home/me/edge.toml /etc/strata/strata.toml ro,relatime - ext4 /dev/vda rw\n\
                      831 812 253:1 /home/me/b\\040c /etc/b\\040c ro - ext4 /dev/vda rw\n";
        assert!(is_mount_point(mounts, Path::new("/etc/strata/strata.toml")));
        assert!(is_mount_point(mounts, Path::new("/etc/b c")));
        for file in ["/etc/strata", "/etc/strata/other.toml", "/home/me/edge.toml"] {
            assert!(!is_mount_point(mounts, Path::new(file)), "{file}");
        }
    }

    #[test]
    fn a_mounted_file_is_known_by_whatever_path_it_is_named() {
        let folder = std::env::temp_dir().join(format!("strata-pinned-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("etc")).unwrap();
        let folder = folder.canonicalize().unwrap();
        let file = folder.join("etc/strata.toml");
        std::fs::write(&file, "").unwrap();
        std::fs::write(folder.join("etc/other.toml"), "").unwrap();
        std::os::unix::fs::symlink(folder.join("etc"), folder.join("link")).unwrap();
        std::os::unix::fs::symlink(&file, folder.join("link.toml")).unwrap();
        let mounts = format!("830 812 253:1 /home/me/edge.toml {} ro - ext4 /dev/vda rw\n", file.display());
        // As from a shell somewhere: up to the root, and down from there.
        let here = std::env::current_dir().unwrap();
        let up: std::path::PathBuf = here.components().skip(1).map(|_| "..").collect();
        let relative = |path: &Path| up.join(path.strip_prefix("/").unwrap());
        let named = ["etc/strata.toml", "link/strata.toml", "link.toml", "etc/../link/strata.toml"];
        for path in named.map(|path| folder.join(path)) {
            assert!(is_mounted(&mounts, &path), "{}", path.display());
            assert!(relative(&path).is_relative() && is_mounted(&mounts, &relative(&path)), "{}", path.display());
        }
        for path in ["etc/other.toml", "link/other.toml", "etc", "gone.toml"].map(|path| folder.join(path)) {
            assert!(!is_mounted(&mounts, &path), "{}", path.display());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
