//! Engine: why one rule goes before another, and which rules a request almost meets: what `explain` tells beside the table's answer.
//!
//! Not on the request path. What wins is the table's to say; a test holds this to it.

use std::cmp::Reverse;

use super::pattern::{Host, Path, Pattern};
use super::table::{Rule, Table};

/// The first point of precedence in which a rule goes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    ExactHost,
    LongerWildcard,
    NamesHost,
    ExactPath,
    LongerPrefix,
    WholeSegments,
    NamesPath,
    Priority,
    Conditions,
    Order,
}

impl Because {
    pub const fn word(self) -> &'static str {
        match self {
            Because::ExactHost => "exact-host",
            Because::LongerWildcard => "longer-wildcard",
            Because::NamesHost => "names-host",
            Because::ExactPath => "exact-path",
            Because::LongerPrefix => "longer-prefix",
            Because::WholeSegments => "whole-segments",
            Because::NamesPath => "names-path",
            Because::Priority => "priority",
            Because::Conditions => "conditions",
            Because::Order => "order",
        }
    }

    /// Why the winner goes first.
    pub const fn sentence(self) -> &'static str {
        match self {
            Because::ExactHost => "an exact host goes before a wildcard",
            Because::LongerWildcard => "its wildcard host is the longer",
            Because::NamesHost => "a route with a host goes before one without",
            Because::ExactPath => "an exact path goes before a prefix",
            Because::LongerPrefix => "its path's prefix is the longer",
            Because::WholeSegments => "a prefix of whole segments (`/x/*`) goes before one of characters (`/x*`)",
            Because::NamesPath => "a route with a path goes before one without",
            Because::Priority => "its priority is the higher",
            Because::Conditions => "it has more conditions",
            Because::Order => "it stands first in the file",
        }
    }
}

/// Why the rule `winner` goes before `other`, each with its index. `None`: it does not.
pub fn because(winner: (usize, &Rule), other: (usize, &Rule)) -> Option<Because> {
    let ((first, a), (second, b)) = (winner, other);
    let (a_pattern, b_pattern) = (&a.pattern, &b.pattern);
    let points = [
        (host(&a_pattern.host).cmp(&host(&b_pattern.host)), of_hosts(&a_pattern.host, &b_pattern.host)),
        (path(&a_pattern.path).cmp(&path(&b_pattern.path)), of_paths(&a_pattern.path, &b_pattern.path)),
        (Reverse(a.priority).cmp(&Reverse(b.priority)), Because::Priority),
        (Reverse(a.conditions).cmp(&Reverse(b.conditions)), Because::Conditions),
        (first.cmp(&second), Because::Order),
    ];
    let (order, because) = points.into_iter().find(|(order, _)| order.is_ne())?;
    order.is_lt().then_some(because)
}

/// What of a rule a request misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    Host,
    Path,
}

/// A rule that takes a request but for one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    pub rule: usize,
    pub miss: Miss,
}

/// Rules that would take the request if its host, or its path, were another: the closest first, `most` of them, and how many there
/// are in all. A rule that takes it is none of them.
pub fn near(rules: &[Rule], host: &[u8], path: &[u8], most: usize) -> (Vec<Near>, usize) {
    let matched = all(&Table::build(rules), host, path);
    let without = |change: fn(&mut Pattern)| {
        let changed: Vec<Rule> = rules
            .iter()
            .cloned()
            .map(|mut rule| {
                change(&mut rule.pattern);
                rule
            })
            .collect();
        let mut found = all(&Table::build(&changed), host, path);
        found.retain(|rule| !matched.contains(rule));
        found
    };
    let by_path = without(|pattern| pattern.path = Path::Any).into_iter().map(|rule| Near { rule, miss: Miss::Path });
    let by_host = without(|pattern| pattern.host = Host::Any).into_iter().map(|rule| Near { rule, miss: Miss::Host });
    let mut found: Vec<Near> = by_path.chain(by_host).collect();
    let shared = |near: &Near| rules.get(near.rule).map_or(0, |rule| shared(&rule.pattern, near.miss, host, path));
    found.sort_by_key(|near| (Reverse(shared(near)), near.rule));
    let count = found.len();
    found.truncate(most);
    (found, count)
}

/// Every rule that takes the request, in order of precedence.
pub fn all(table: &Table, host: &[u8], path: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    table.select(host, path, |rule| {
        found.push(rule);
        false
    });
    found
}

/// Smaller goes first.
fn host(host: &Host) -> impl Ord {
    match host {
        Host::Exact(_) => (0, Reverse(0)),
        Host::Wildcard(suffix) => (1, Reverse(suffix.len())),
        Host::Any => (2, Reverse(0)),
    }
}

/// The same for paths: a prefix of whole segments counts with its slash.
fn path(path: &Path) -> impl Ord {
    match path {
        Path::Exact(_) => (0, Reverse((0, false))),
        Path::Under(stem) => (1, Reverse((stem.len(), true))),
        Path::Starts(stem) => (1, Reverse((stem.len(), false))),
        Path::Any => (2, Reverse((0, false))),
    }
}

fn of_hosts(winner: &Host, other: &Host) -> Because {
    match (winner, other) {
        (_, Host::Any) => Because::NamesHost,
        (Host::Exact(_), _) => Because::ExactHost,
        _ => Because::LongerWildcard,
    }
}

fn of_paths(winner: &Path, other: &Path) -> Because {
    match (winner, other) {
        (_, Path::Any) => Because::NamesPath,
        (Path::Exact(_), _) => Because::ExactPath,
        (Path::Under(a), Path::Starts(b)) if a.len() == b.len() => Because::WholeSegments,
        _ => Because::LongerPrefix,
    }
}

/// How much of what was missed agrees: of a path its beginning, of a host its end.
fn shared(pattern: &Pattern, miss: Miss, host: &[u8], path: &[u8]) -> usize {
    let alike =
        |a: &mut dyn Iterator<Item = u8>, b: &mut dyn Iterator<Item = u8>| a.zip(b).take_while(|(a, b)| a == b).count();
    match (miss, &pattern.path, &pattern.host) {
        (Miss::Path, Path::Exact(text) | Path::Under(text) | Path::Starts(text), _) => {
            alike(&mut text.bytes(), &mut path.iter().copied())
        }
        (Miss::Host, _, Host::Exact(text) | Host::Wildcard(text)) => {
            alike(&mut text.bytes().rev(), &mut host.iter().rev().copied())
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    fn rules(urls: &[(&str, i64)]) -> Vec<Rule> {
        let pattern = |url: &str| if url == "*" { Pattern::ANY } else { Pattern::parse(url).unwrap() };
        urls.iter().map(|(url, priority)| Rule { pattern: pattern(url), priority: *priority, conditions: 0 }).collect()
    }

    #[test]
    fn each_point_of_precedence_has_its_sentence() {
        for (winner, other, want) in [
            (("a.test/x", 0), ("*.test/x/y", 9), Because::ExactHost),
            (("*.b.test", 0), ("*.test", 0), Because::LongerWildcard),
            (("*.test", 0), ("/x", 0), Because::NamesHost),
            (("a.test/x", 0), ("a.test/*", 0), Because::ExactPath),
            (("/v1/x/*", 0), ("/v1/*", 0), Because::LongerPrefix),
            (("/v1/*", 0), ("/v1*", 0), Because::WholeSegments),
            (("/*", 0), ("*", 7), Because::NamesPath),
            (("/x", 2), ("/x", 1), Because::Priority),
            (("/x", 1), ("/x", 1), Because::Order),
        ] {
            let rules = rules(&[winner, other]);
            assert_eq!(because((0, &rules[0]), (1, &rules[1])), Some(want), "{winner:?} before {other:?}");
            assert_eq!(because((1, &rules[1]), (0, &rules[0])), None, "{other:?} is not before {winner:?}");
        }
        let mut rules = rules(&[("/x", 0), ("/x", 0)]);
        rules[1].conditions = 2;
        assert_eq!(because((1, &rules[1]), (0, &rules[0])), Some(Because::Conditions));
    }

    /// The table decides; whoever explains it must say the same, whatever the rules are.
    #[test]
    fn what_the_table_puts_first_is_before_the_next_for_a_reason() {
        let mut rng = Rng::with_seed(7);
        let (hosts, paths) =
            (["", "a.test", "*.test", "*.a.test", "b.a.test"], ["", "/", "/*", "/v*", "/v/*", "/v", "/v/x", "/v/x/*"]);
        let mut met = 0;
        for round in 0..300 {
            let urls: Vec<(String, i64)> = (0..rng.usize(1..20))
                .map(|_| (format!("{}{}", rng.choice(hosts).unwrap(), rng.choice(paths).unwrap()), rng.i64(0..3)))
                .map(|(url, priority)| (if url.is_empty() { "*".to_owned() } else { url }, priority))
                .collect();
            let rules = rules(&urls.iter().map(|(url, priority)| (&**url, *priority)).collect::<Vec<_>>());
            let table = Table::build(&rules);
            for host in ["a.test", "b.a.test", "c.test"] {
                for path in ["/", "/v", "/v/x", "/v/x/y", "/vv"] {
                    let found = all(&table, host.as_bytes(), path.as_bytes());
                    assert_eq!(found.first().copied(), table.find(host.as_bytes(), path.as_bytes()));
                    for pair in found.windows(2) {
                        let (first, next) = (pair[0], pair[1]);
                        let why = because((first, &rules[first]), (next, &rules[next]));
                        assert!(
                            why.is_some(),
                            "round {round}, {host}{path}: {:?} before {:?}",
                            urls[first],
                            urls[next]
                        );
                        met += 1;
                    }
                }
            }
        }
        assert!(met > 1000, "only {met} pairs met");
    }

    #[test]
    fn near_misses_are_told_the_closest_first() {
        let rules =
            rules(&[("a.test/v1/*", 0), ("a.test/v2/*", 0), ("b.test/v1/users", 0), ("c.test/no", 0), ("*", 0)]);
        let (found, count) = near(&rules, b"a.test", b"/v1x/users", 9);
        assert_eq!(found, [Near { rule: 0, miss: Miss::Path }, Near { rule: 1, miss: Miss::Path }]);
        assert_eq!(count, 2);
        let (found, count) = near(&rules, b"x.test", b"/v1/users", 1);
        assert_eq!((found, count), (vec![Near { rule: 0, miss: Miss::Host }], 2), "its host is the only thing wrong");
        assert_eq!(near(&rules, b"x.test", b"/nothing", 9), (vec![], 0));
    }
}
