//! Wiring: `watch = true`: an edit of any file that the configuration is made of is a reload.
//!
//! ```text
//!  quiet ──event──▶ stirred ──nothing for QUIET──▶ look: the same content as is judged ──▶ quiet
//!                     ▲                              │ other content, first seen now
//!                     └──────────── look again ◀─────┘      the same twice ──▶ reload
//! ```
//! Folders are watched and not files: editors and mounted configurations put another file, or another link, in a file's place.
//! What counts is content, seen twice the same, so that half of an edit is not loaded. Not here: what a reload does.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::outside::Asked;
use crate::base::{Moment, clock};

/// Watches the files of one configuration.
pub struct Edits {
    watcher: RecommendedWatcher,
    stirs: mpsc::Receiver<()>,
    /// What is watched; shared with the thread that brings events.
    roads: Arc<Mutex<Roads>>,
    /// Keys the marks, so that they tell nothing of secrets.
    keys: RandomState,
    /// Of the content that the last reload read, whatever came of it.
    judged: u64,
    /// Of the content that the last look found, where it was another.
    seen: Option<u64>,
    /// When it is time to look.
    due: Option<Due>,
}

/// Folders, and the names in them that matter; `None`: all.
type Roads = BTreeMap<PathBuf, Option<BTreeSet<OsString>>>;

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
/// Links on the way to a file. The kernel follows 40 as well.
const LINKS: usize = 40;

impl Edits {
    /// # Errors
    /// The kernel gives no more watches.
    pub fn new(asked: &Asked) -> Result<Edits, String> {
        let (stir, stirs) = mpsc::channel(1);
        let roads = Arc::new(Mutex::new(Roads::new()));
        let known = roads.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| matters(&event, &known.lock())) {
                // A full channel already says it.
                let _ = stir.try_send(());
            }
        });
        let watcher = watcher.map_err(|error| error.to_string())?;
        let mut edits = Edits { watcher, stirs, roads, keys: RandomState::new(), judged: 0, seen: None, due: None };
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
                stirred = self.stirs.recv() => {
                    // The thread that stirs lives as long as the watcher.
                    if stirred.is_some() {
                        self.stirred();
                    }
                }
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

    /// Watches the folders on the way to everything that was asked for, and no others.
    fn follow(&mut self, asked: &Asked) {
        let mut roads = Roads::new();
        for (path, _) in &asked.files {
            road(path, LINKS, &mut roads);
        }
        for (folder, _) in &asked.folders {
            road(folder, LINKS, &mut roads);
            if let Ok(folder) = std::path::absolute(folder) {
                roads.insert(folder, None);
            }
        }
        let before = std::mem::replace(&mut *self.roads.lock(), roads.clone());
        for folder in before.keys().filter(|folder| !roads.contains_key(*folder)) {
            // It may be gone, and its watch with it.
            let _ = self.watcher.unwatch(folder);
        }
        for folder in roads.keys() {
            // Anew each time: the folder of this name may be another one by now.
            let _ = self.watcher.unwatch(folder);
            if let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %folder.display(), %error, "cannot watch: an edit there is not noticed");
            }
        }
    }
}

/// Whether an event may have changed what is read.
fn matters(event: &Event, roads: &Roads) -> bool {
    let changes = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        // Our own reading is one.
        EventKind::Access(_) => false,
        _ => true,
    };
    let known = |path: &PathBuf| {
        // The folder itself: moved, or removed.
        roads.contains_key(path)
            || path.parent().and_then(|folder| roads.get(folder)).is_some_and(|names| {
                names.as_ref().is_none_or(|names| path.file_name().is_some_and(|name| names.contains(name)))
            })
    };
    // Events were lost: anything may have happened.
    event.need_rescan() || changes && event.paths.iter().any(known)
}

/// Adds the folders, and the names in them, that decide what a path leads to: the file's own, and that of every link on the way.
/// Where the way ends early, what would go on with it.
fn road(path: &Path, links: usize, roads: &mut Roads) {
    let Ok(path) = std::path::absolute(path) else { return };
    let mut walked = PathBuf::from("/");
    let mut parts = path.components().filter(|part| *part != Component::RootDir).peekable();
    while let Some(part) = parts.next() {
        if part == Component::ParentDir {
            walked.pop();
            continue;
        }
        let next = walked.join(part);
        let link = std::fs::read_link(&next).ok();
        let last = parts.peek().is_none();
        if link.is_some() || last || !next.exists() {
            let names = roads.entry(walked.clone()).or_insert_with(|| Some(BTreeSet::new()));
            if let Some(names) = names {
                names.insert(part.as_os_str().to_owned());
            }
        }
        match link {
            Some(target) if links > 0 => {
                let rest: PathBuf = parts.collect();
                // Joining nothing would add a slash.
                let target = walked.join(target);
                let target = if rest.as_os_str().is_empty() { target } else { target.join(rest) };
                return road(&target, links - 1, roads);
            }
            _ if !next.exists() => return,
            _ => walked = next,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(roads: &Roads, folder: &Path) -> Vec<String> {
        let names = roads.get(folder).and_then(Option::as_ref);
        names.into_iter().flatten().map(|name| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_road_to_a_file_has_the_folder_of_every_link_on_it() {
        let root = std::env::temp_dir().join(format!("strata-road-{}", std::process::id()));
        std::fs::create_dir_all(root.join("mount/..v1")).unwrap();
        let root = root.canonicalize().unwrap();
        let mount = root.join("mount");
        std::fs::write(mount.join("..v1/a.toml"), "").unwrap();
        symlink("..v1", mount.join("..data")).unwrap();
        symlink("..data/a.toml", mount.join("a.toml")).unwrap();
        symlink("mount", root.join("etc")).unwrap();

        let mut roads = Roads::new();
        road(&root.join("etc/a.toml"), LINKS, &mut roads);
        assert_eq!(names(&roads, &root), ["etc"]);
        assert_eq!(names(&roads, &mount), ["..data", "a.toml"]);
        assert_eq!(names(&roads, &mount.join("..v1")), ["a.toml"]);

        // Gone on the way: where it would come back is watched.
        let mut roads = Roads::new();
        road(&root.join("none/deep/a.toml"), LINKS, &mut roads);
        assert_eq!((names(&roads, &root), roads.len()), (vec!["none".to_owned()], 1));

        // Links in a circle end.
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        road(&root.join("a/x"), LINKS, &mut roads);
        assert_eq!(names(&roads, &root), ["a", "b", "none"]);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn only_events_that_may_change_what_is_read_matter() {
        let roads = Roads::from([
            (PathBuf::from("/etc/strata"), Some(BTreeSet::from([OsString::from("strata.toml")]))),
            (PathBuf::from("/etc/strata/conf.d"), None),
        ]);
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let renamed = EventKind::Modify(notify::event::ModifyKind::Name(notify::event::RenameMode::To));
        for (kind, path, want) in [
            (written, "/etc/strata/strata.toml", true),
            (renamed, "/etc/strata/strata.toml", true),
            (renamed, "/etc/strata/strata.toml~", false),
            (renamed, "/etc/strata/conf.d/new.toml", true),
            (renamed, "/etc/strata/conf.d", true),
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), "/etc/strata/strata.toml", false),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), "/etc/strata/strata.toml", false),
        ] {
            let event = Event::new(kind).add_path(PathBuf::from(path));
            assert_eq!(matters(&event, &roads), want, "{kind:?} {path}");
        }
    }
}
