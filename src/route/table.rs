//! Engine: all rules of a service, compiled for lookup by host and path.
//!
//! Rules of one pattern form a run, in order of precedence. Rules of one host form a group, which knows the lengths its prefixes
//! have; hosts and paths are keys of one perfect hash. A lookup asks for the host, then for the path, then for those starts of the
//! path that have a length some prefix has and end where that prefix could, longest first; then for the wildcard hosts alike.
//!
//! Budget: no allocation, no atomics, a slot and a key for the host, a slot and a key for each start of the path (`benches/route.rs`: 10 000
//! routes cost at most 1.3 × ten). Questions a request can cause are bounded by the distinct lengths in the configuration.
//! Not here: conditions and actions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::pattern::{Host, Path, Pattern};
use super::perfect::{Item, Perfect};

/// A rule as the table sees it; its index in the list given to [`Table::build`] is its name.
#[derive(Clone, Debug)]
pub struct Rule {
    pub pattern: Pattern,
    /// Larger goes first among rules with the same pattern.
    pub priority: i64,
    /// How many conditions it has beside the pattern: more go first.
    pub conditions: u32,
}

impl Rule {
    /// What orders rules of the same pattern; the file's order breaks ties.
    pub fn rank(&self) -> impl Ord + use<> {
        (Reverse(self.priority), Reverse(self.conditions))
    }
}

#[derive(Debug)]
pub struct Table {
    hosts: Perfect<Group>,
    paths: Perfect<u32>,
    /// The rules without a host.
    any_host: Option<Group>,
    /// Lengths of wildcard suffixes, dot included, longest first.
    suffixes: Box<[u8]>,
    /// Runs of prefix lengths, longest first; groups with the same lengths share a run.
    lengths: Box<[Length]>,
    /// Runs of rule indices. The last of a run carries [`LAST`]. A run of one rule is that rule with [`LAST`] and stands here
    /// only where it is named: it costs no line of its own.
    runs: Box<[u32]>,
}

/// The rules of one host.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Number of its scopes.
    id: u32,
    lengths_at: u32,
    lengths: u16,
    /// Length of its longest exact path: a longer one needs no question.
    longest: u16,
    /// Run of the rules without a path, or [`NONE`].
    any_path: u32,
}

/// Length of a prefix and what follows it, as they are kept in [`Path`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Length {
    bytes: u16,
    /// `Under` (goes first: with its slash it is the longer) rather than `Starts`.
    under: bool,
}

impl Table {
    pub fn build(rules: &[Rule]) -> Table {
        let mut order: Vec<(usize, &Rule)> = rules.iter().enumerate().collect();
        order.sort_by_key(|(_, rule)| rule.rank());
        let mut hosts: BTreeMap<&Host, Paths<'_>> = BTreeMap::new();
        for (index, rule) in order {
            let paths = hosts.entry(&rule.pattern.host).or_default();
            paths.entry(&rule.pattern.path).or_default().push(index as u32);
        }

        let mut draft = Draft::default();
        let mut named = Vec::with_capacity(hosts.len());
        let mut suffixes = Vec::new();
        let mut any_host = None;
        for (id, (host, paths)) in (0..).zip(&hosts) {
            let group = draft.group(id, paths);
            match host {
                Host::Exact(name) => named.push(Item { scope: EXACT_HOST, key: name.as_bytes(), value: group }),
                Host::Wildcard(suffix) => {
                    named.push(Item { scope: WILDCARD_HOST, key: suffix.as_bytes(), value: group });
                    // `Pattern::parse` lets no name of more than 253 bytes pass; one that did would match nothing.
                    suffixes.extend(u8::try_from(suffix.len()));
                }
                Host::Any => any_host = Some(group),
            }
        }
        suffixes.sort_unstable_by(|a, b| b.cmp(a));
        suffixes.dedup();
        Table {
            hosts: Perfect::build(&named),
            paths: Perfect::build(&draft.items),
            any_host,
            suffixes: suffixes.into(),
            lengths: draft.lengths.into(),
            runs: draft.runs.into(),
        }
    }

    /// The rule that wins by host and path alone. Both are canonical, as in [`Pattern`]; the host without port, the path
    /// without query.
    #[inline]
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        self.select(host, path, |_| true)
    }

    /// The first rule, in order of precedence, whose pattern matches and of which `holds` says that its conditions do. A
    /// `holds` that says no and takes notes lists every candidate: that is what `explain` shows.
    #[inline]
    pub fn select(&self, host: &[u8], path: &[u8], mut holds: impl FnMut(usize) -> bool) -> Option<usize> {
        if let Some(group) = self.hosts.find(EXACT_HOST, host) {
            let found = self.within(group, path, &mut holds);
            if found.is_some() {
                return found;
            }
        }
        for &length in &self.suffixes {
            // At least one byte stands before the dot: `*.example.com` is not `.example.com`.
            let Some(at) = host.len().checked_sub(usize::from(length)).filter(|at| *at > 0) else { continue };
            let Some(suffix) = host.get(at..).filter(|suffix| suffix.starts_with(b".")) else { continue };
            let Some(group) = self.hosts.find(WILDCARD_HOST, suffix) else { continue };
            let found = self.within(group, path, &mut holds);
            if found.is_some() {
                return found;
            }
        }
        self.any_host.as_ref().and_then(|group| self.within(group, path, &mut holds))
    }

    #[inline]
    fn within(&self, group: &Group, path: &[u8], holds: &mut impl FnMut(usize) -> bool) -> Option<usize> {
        if path.len() <= usize::from(group.longest)
            && let Some(&run) = self.paths.find(group.scope(EXACT_PATH), path)
        {
            let found = self.run(run, holds);
            if found.is_some() {
                return found;
            }
        }
        let lengths_at = group.lengths_at as usize;
        for length in self.lengths.get(lengths_at..lengths_at + usize::from(group.lengths)).unwrap_or_default() {
            let Some(stem) = length.stem(path) else { continue };
            let Some(&run) = self.paths.find(group.scope(length.kind()), stem) else { continue };
            let found = self.run(run, holds);
            if found.is_some() {
                return found;
            }
        }
        self.run(group.any_path, holds)
    }

    #[inline]
    fn run(&self, at: u32, holds: &mut impl FnMut(usize) -> bool) -> Option<usize> {
        if at & LAST != 0 {
            let rule = (at & !LAST) as usize;
            return (at != NONE && holds(rule)).then_some(rule);
        }
        for &entry in self.runs.get(at as usize..).unwrap_or_default() {
            let rule = (entry & !LAST) as usize;
            if holds(rule) {
                return Some(rule);
            }
            if entry & LAST != 0 {
                break;
            }
        }
        None
    }
}

impl Group {
    #[inline]
    fn scope(&self, kind: u32) -> u32 {
        self.id * KINDS + kind
    }
}

impl Length {
    fn of(path: &Path) -> Option<Length> {
        let (stem, under) = match path {
            Path::Under(stem) => (stem, true),
            Path::Starts(stem) => (stem, false),
            Path::Exact(_) | Path::Any => return None,
        };
        u16::try_from(stem.len()).ok().map(|bytes| Length { bytes, under })
    }

    fn kind(self) -> u32 {
        if self.under { UNDER_PATH } else { STARTS_PATH }
    }

    /// The start of `path` that a prefix of this length would equal.
    #[inline]
    fn stem(self, path: &[u8]) -> Option<&[u8]> {
        let (stem, rest) = path.split_at_checked(usize::from(self.bytes))?;
        // `/*` takes the `*` of `OPTIONS *` too: it means everything.
        let fits = !self.under || stem.is_empty() || rest.is_empty() || rest.starts_with(b"/");
        fits.then_some(stem)
    }
}

/// Rules of one host by path, each list in order of precedence.
type Paths<'a> = BTreeMap<&'a Path, Vec<u32>>;

/// The parts of a table that grow while it is built.
#[derive(Default)]
struct Draft<'a> {
    items: Vec<Item<'a, u32>>,
    lengths: Vec<Length>,
    known: HashMap<Vec<Length>, u32>,
    runs: Vec<u32>,
}

impl<'a> Draft<'a> {
    fn item(&mut self, scope: u32, key: &'a str, value: u32) {
        self.items.push(Item { scope, key: key.as_bytes(), value });
    }

    fn group(&mut self, id: u32, paths: &Paths<'a>) -> Group {
        let mut group = Group { id, lengths_at: 0, lengths: 0, longest: 0, any_path: NONE };
        for (path, rules) in paths {
            let run = self.run(rules);
            match path {
                Path::Any => group.any_path = run,
                Path::Exact(path) => {
                    self.item(group.scope(EXACT_PATH), path, run);
                    group.longest = group.longest.max(u16::try_from(path.len()).unwrap_or(u16::MAX));
                }
                Path::Under(stem) => self.item(group.scope(UNDER_PATH), stem, run),
                Path::Starts(stem) => self.item(group.scope(STARTS_PATH), stem, run),
            }
        }
        let mut lengths: Vec<Length> = paths.keys().filter_map(|path| Length::of(path)).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        // At most two for each length a url can have.
        group.lengths = lengths.len() as u16;
        group.lengths_at = match self.known.get(&lengths) {
            Some(at) => *at,
            None => {
                let at = self.lengths.len() as u32;
                self.lengths.extend_from_slice(&lengths);
                self.known.insert(lengths, at);
                at
            }
        };
        group
    }

    fn run(&mut self, rules: &[u32]) -> u32 {
        if let [rule] = rules {
            return rule | LAST;
        }
        let at = self.runs.len() as u32;
        self.runs.extend_from_slice(rules);
        if let Some(last) = self.runs.last_mut() {
            *last |= LAST;
        }
        at
    }
}

/// Scopes of paths: a group has [`KINDS`] of them.
const KINDS: u32 = 3;
const EXACT_PATH: u32 = 0;
const UNDER_PATH: u32 = 1;
const STARTS_PATH: u32 = 2;
/// Scopes of hosts.
const EXACT_HOST: u32 = 0;
const WILDCARD_HOST: u32 = 1;

const LAST: u32 = 1 << 31;
/// No run.
const NONE: u32 = u32::MAX;
