//! Io: how much memory this process and its control groups use, and how much they may.
//!
//! The kernel kills what goes beyond a control group's limit, so that limit is the one that counts. Page cache that is not in use
//! (`inactive_file`: an access log that was written) is given up before anybody is killed and does not count, as in the working set
//! that Kubernetes goes by. Not here: what is done about it (`net::pressure`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes in use, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    pub limit: u64,
}

impl Usage {
    /// Which of two is nearer to its limit.
    #[must_use]
    pub fn tighter(self, other: Usage) -> Usage {
        let product = |used: u64, limit: u64| u128::from(used) * u128::from(limit);
        if product(other.used, self.limit) > product(self.used, other.limit) { other } else { self }
    }
}

/// The control groups that this process is in, as far as they bound memory.
#[derive(Debug, Default)]
pub struct Groups {
    /// From the innermost outwards.
    folders: Vec<(Version, PathBuf)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Groups {
    /// Those of this process. A machine without control groups has none.
    pub fn of_this_process() -> Groups {
        let memberships = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Groups::find(&memberships, &mounts)
    }

    fn find(memberships: &str, mounts: &str) -> Groups {
        let mut folders = Vec::new();
        for line in memberships.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let version = match controllers {
                "" => Version::Two,
                names if names.split(',').any(|name| name == "memory") => Version::One,
                _ => continue,
            };
            let Some(mount) = mounts.lines().find_map(|line| mounted(line, version)) else { continue };
            // In a namespace of its own a process sees paths from there; where it does not, the mount may still begin there.
            let mut inner = mount.join(path.trim_start_matches('/'));
            if !inner.starts_with(&mount) || !inner.is_dir() {
                inner.clone_from(&mount);
            }
            folders
                .extend(inner.ancestors().take_while(|at| at.starts_with(&mount)).map(|at| (version, at.to_owned())));
        }
        Groups { folders }
    }

    /// The one that is nearest to its limit. `None`: nothing is bounded.
    pub fn usage(&self) -> Option<Usage> {
        self.folders.iter().filter_map(|(version, folder)| read(*version, folder)).reduce(Usage::tighter)
    }
}

fn mounted(line: &str, version: Version) -> Option<PathBuf> {
    let mut fields = line.split(' ').skip(1);
    let (place, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
    let wanted = match version {
        Version::Two => kind == "cgroup2",
        Version::One => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
    };
    wanted.then(|| PathBuf::from(place))
}

/// `None` where there is no limit.
fn read(version: Version, folder: &Path) -> Option<Usage> {
    let (limit, used, idle) = match version {
        Version::Two => ("memory.max", "memory.current", "inactive_file "),
        Version::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
    };
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    // Version 2 says "max", version 1 a number that no machine has.
    let limit = number(limit).filter(|limit| *limit < UNLIMITED)?;
    let used = number(used)?;
    let counts = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let idle = counts.lines().find_map(|line| line.strip_prefix(idle)?.trim().parse::<u64>().ok());
    Some(Usage { used: used.saturating_sub(idle.unwrap_or(0)), limit })
}

/// Memory of this process's own: what is resident and no file's.
///
/// # Errors
/// `/proc` cannot be read.
pub fn own() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    Ok(kib.ok_or(io::ErrorKind::InvalidData)? * 1024)
}

/// A petabyte: what is larger is no limit.
const UNLIMITED: u64 = 1 << 50;

#[cfg(test)]
mod tests {
    use super::*;

    /// Control groups as files, in a folder of this test's own.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Tree {
            let root = std::env::temp_dir().join(format!("strata-groups-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Tree(root)
        }

        fn usage(&self, memberships: &str, kind: &str) -> Option<Usage> {
            let mounts = format!("proc /proc proc rw 0 0\n{kind} {} {kind} rw,memory 0 0\n", self.0.display());
            Groups::find(memberships, &mounts).usage()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_group_nearest_to_its_limit_counts_and_idle_page_cache_does_not() {
        let two = Tree::new(
            "two",
            &[
                ("memory.stat", ""),
                ("outer/memory.max", "1000\n"),
                ("outer/memory.current", "990\n"),
                ("outer/memory.stat", "anon 1\ninactive_file 40\n"),
                ("outer/inner/memory.max", "800\n"),
                ("outer/inner/memory.current", "700\n"),
                ("outer/inner/memory.stat", "inactive_file 0\n"),
                ("free/memory.max", "max\n"),
                ("free/memory.current", "5\n"),
            ],
        );
        let outer = Some(Usage { used: 950, limit: 1000 });
        assert_eq!(two.usage("0::/outer/inner\n", "cgroup2"), outer);
        assert_eq!(two.usage("0::/free\n", "cgroup2"), None, "\"max\" is no limit");
        assert_eq!(two.usage("0::/elsewhere\n", "cgroup2"), None, "a namespace's root has no limit here");
        let one = Tree::new(
            "one",
            &[
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.usage_in_bytes", "77\n"),
                ("box/memory.limit_in_bytes", "100\n"),
                ("box/memory.usage_in_bytes", "99\n"),
                ("box/memory.stat", "inactive_file 50\ntotal_inactive_file 9\n"),
            ],
        );
        let memberships = "5:cpu,cpuacct:/\n4:memory:/box\n";
        assert_eq!(one.usage(memberships, "cgroup"), Some(Usage { used: 90, limit: 100 }));
        assert_eq!(one.usage("4:memory:/\n", "cgroup"), None);
        assert_eq!(one.usage("", "cgroup"), None, "a machine without control groups");
    }

    #[test]
    fn own_memory_is_what_was_touched() {
        let before = own().unwrap();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(own().unwrap() >= before + (32 << 20), "{before} before {} bytes", touched.len());
    }
}
