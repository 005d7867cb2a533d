//! Engine: rules that can never win, and which rule takes everything before they are asked.
//!
//! A rule shadows another when it goes first, has no condition, and its pattern takes every request the other's takes. Precedence
//! puts the narrower pattern first, so that happens in two ways only: the patterns are equal, or they differ in that one says `/*`
//! where the other leaves the path out.
//!
//! Not here: conditions that imply each other.

use std::collections::HashMap;

use super::pattern::{Path, Pattern};
use super::table::Rule;

/// Pairs (rule that can never win, rule that takes its requests), by index, in the order of `rules`.
pub fn shadowed(rules: &[Rule]) -> Vec<(usize, usize)> {
    let mut first: HashMap<&Pattern, (usize, &Rule)> = HashMap::new();
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.conditions == 0) {
        let best = first.entry(&rule.pattern).or_insert((index, rule));
        if rule.rank() < best.1.rank() {
            *best = (index, rule);
        }
    }
    let shadow_of = |(index, rule): (usize, &Rule)| {
        if rule.pattern.path == Path::Any {
            let everything = Pattern { host: rule.pattern.host.clone(), path: Path::Under("".into()) };
            if let Some((by, _)) = first.get(&everything) {
                return Some((index, *by));
            }
        }
        let (by, best) = first.get(&rule.pattern)?;
        let goes_first = (best.rank(), *by) < (rule.rank(), index);
        goes_first.then_some((index, *by))
    };
    rules.iter().enumerate().filter_map(shadow_of).collect()
}
