//! Io: folders are watched for whatever may change what a path leads to.
//!
//! Folders, because editors and mounted configurations put another file, or another link, in a file's place. And the files themselves: one
//! that is mounted alone into a container is edited in a folder that nobody here sees. Not here: what has changed, which content
//! tells (`app::edits`, `source::file`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// The folders on the way to some paths.
pub struct Folders {
    watcher: RecommendedWatcher,
    stirs: mpsc::Receiver<()>,
    /// What is watched; shared with the thread that brings events.
    roads: Arc<Mutex<Roads>>,
}

/// Folders, and the names in them that matter; `None`: all. And files, which have none.
type Roads = BTreeMap<PathBuf, Option<BTreeSet<OsString>>>;

/// Links on the way to a file. The kernel follows 40 as well.
const LINKS: usize = 40;

impl Folders {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The kernel gives no more watches.
    pub fn new() -> Result<Folders, String> {
        let (stir, stirs) = mpsc::channel(1);
        let roads = Arc::new(Mutex::new(Roads::new()));
        let known = roads.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| matters(&event, &known.lock())) {
                // A full channel already says it.
                let _ = stir.try_send(());
            }
        });
        Ok(Folders { watcher: watcher.map_err(|error| error.to_string())?, stirs, roads })
    }

    /// Returns when something has stirred. May be dropped and called again.
    pub async fn stirred(&mut self) {
        if self.stirs.recv().await.is_none() {
            // The thread that stirs lives as long as the watcher.
            std::future::pending().await
        }
    }

    /// Watches the folders on the way to these files and folders, the latter with all in them, and no others.
    pub fn follow<'p>(&mut self, files: impl Iterator<Item = &'p Path>, folders: impl Iterator<Item = &'p Path>) {
        let mut roads = Roads::new();
        for path in files {
            road(path, LINKS, &mut roads);
            if let Ok(file) = std::fs::canonicalize(path)
                && file.is_file()
            {
                roads.insert(file, None);
            }
        }
        for folder in folders {
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
            let watched = self.watcher.watch(folder, RecursiveMode::NonRecursive);
            // Without the file's own watch its folder's tells most.
            if let Err(error) = watched
                && !folder.is_file()
            {
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
