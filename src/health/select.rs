//! Engine: which endpoints of a pool new work may go to, given the states of all: health first, then backups, panic, zones.
//!
//! ```text
//!  ready endpoints ─▶ a tier: primaries while one is usable, else backups ─▶ panic: all of the tier ─▶ the local zone's
//! ```
//!
//! An endpoint that the operator drains or maintains is never among them, whatever the need: that is the operator's word.
//! Not here: how a state comes about (`machine`), nor the picker that is built over the members (`state::PoolView`).

use std::sync::Arc;

use super::{Health, Intent};
use crate::doc::{Field, Grammar, Kind, Settings};

/// `zones = "prefer-local"` of a pool.
pub static PREFER_LOCAL: Grammar = Grammar {
    name: "prefer-local",
    summary: "endpoints of this node's zone serve while enough of them can, all others after that",
    fields: &[Field::default(
        "min_percent",
        Kind::Integer { min: 1, max: 100 },
        "70",
        "share of the zone's endpoints that must be usable; below it traffic goes to all zones",
    )],
    example: "zones = { type = \"prefer-local\", min_percent = 70 }",
};

/// What a pool says of who serves; the same in every mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Below this share of usable endpoints, all of the tier serve; 0: never.
    pub panic_percent: u32,
    /// `None`: zones do not matter.
    pub local: Option<Local>,
}

/// A preference for the endpoints of one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// This node's.
    pub zone: Arc<str>,
    pub min_percent: u32,
}

impl Local {
    /// From settings of [`PREFER_LOCAL`].
    pub fn of(settings: &Settings, zone: Arc<str>) -> Local {
        Local { zone, min_percent: u32::try_from(settings.integer("min_percent")).unwrap_or(100) }
    }
}

/// An endpoint that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub intent: Intent,
    pub health: Health,
    pub backup: bool,
    /// Of this node's zone, where the pool prefers that.
    pub local: bool,
}

/// Who serves a pool now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Indices into the candidates, in their order.
    pub members: Vec<usize>,
    /// So few are usable that all serve: better some errors than all the load on the rest.
    pub panic: bool,
    /// No primary is usable.
    pub backup: bool,
    /// Only endpoints of this node's zone serve.
    pub local: bool,
}

/// Who serves: of those that the operator wants, primaries that are `Up`; while there is none, backups that are; while there is
/// none either, what is `Probing`, so that traffic need not wait for the first probes at start; at last what is `Ejected`,
/// because what passive detection saw some time ago is a better guess than a certain refusal. Primaries go first in each. Nobody
/// serves who is `Down`, unless the pool panics.
pub fn select(candidates: &[Candidate], placement: &Placement) -> Selection {
    let ready = |c: &&Candidate| c.intent == Intent::Ready;
    let best = candidates.iter().filter(ready).filter_map(|c| Some((rank(c.health)?, c.backup))).min();
    // Where nobody is usable, panic is for primaries, if there are any.
    let tier = best.map_or_else(|| candidates.iter().filter(ready).all(|c| c.backup), |(_, backup)| backup);
    let tiered = |c: &Candidate| c.intent == Intent::Ready && c.backup == tier;
    let (all, fit) = candidates.iter().filter(|c| tiered(c)).fold((0_u32, 0_u32), |(all, fit), c| {
        (all + 1, fit + u32::from(matches!(c.health, Health::Up | Health::Probing)))
    });
    if all > 0 && u64::from(fit) * 100 < u64::from(all) * u64::from(placement.panic_percent) {
        let members = indices(candidates, tiered);
        return Selection { members, panic: true, backup: tier, local: false };
    }
    let Some((serving, backup)) = best else { return Selection::default() };
    let serves = |c: &Candidate| tiered(c) && rank(c.health) == Some(serving);
    if let Some(local) = &placement.local {
        let (all, fit) = candidates
            .iter()
            .filter(|c| tiered(c) && c.local)
            .fold((0_u32, 0_u32), |(all, fit), c| (all + 1, fit + u32::from(serves(c))));
        if fit > 0 && u64::from(fit) * 100 >= u64::from(all) * u64::from(local.min_percent) {
            let members = indices(candidates, |c| serves(c) && c.local);
            return Selection { members, panic: false, backup, local: true };
        }
    }
    Selection { members: indices(candidates, serves), panic: false, backup, local: false }
}

/// Lower serves first; `None` never.
fn rank(health: Health) -> Option<u8> {
    match health {
        Health::Up => Some(0),
        Health::Probing => Some(1),
        Health::Ejected => Some(2),
        Health::Down => None,
    }
}

fn indices(candidates: &[Candidate], wanted: impl Fn(&Candidate) -> bool) -> Vec<usize> {
    (0..).zip(candidates).filter(|(_, candidate)| wanted(candidate)).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter an endpoint: `u`p, `p`robing, `d`own, `e`jected, upper case where it is drained or maintained; then `+` for a
    /// backup and `*` for the local zone.
    fn pool(text: &str) -> Vec<Candidate> {
        text.split_whitespace()
            .map(|word| {
                let letter = word.chars().next().unwrap();
                Candidate {
                    intent: match letter {
                        'D' => Intent::Maintenance,
                        _ if letter.is_uppercase() => Intent::Draining,
                        _ => Intent::Ready,
                    },
                    health: match letter.to_ascii_lowercase() {
                        'u' => Health::Up,
                        'p' => Health::Probing,
                        'd' => Health::Down,
                        _ => Health::Ejected,
                    },
                    backup: word.contains('+'),
                    local: word.contains('*'),
                }
            })
            .collect()
    }

    fn placement(panic_percent: u32, min_percent: Option<u32>) -> Placement {
        let local = min_percent.map(|min_percent| Local { zone: "a".into(), min_percent });
        Placement { panic_percent, local }
    }

    #[test]
    fn the_best_there_is_serves() {
        for (endpoints, want) in [
            ("p u d", vec![1]),
            ("p d p", vec![0, 2]),
            ("p U", vec![0]),
            ("e d", vec![0]),
            ("e p", vec![1]),
            ("d U D", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(select(&pool(endpoints), &Placement::default()).members, want, "{endpoints}");
        }
    }

    /// What must hold of any pool, told without an order of steps.
    #[test]
    fn nobody_serves_who_may_not_and_nobody_is_left_out_who_must_serve() {
        for seed in 0..4000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let candidates: Vec<Candidate> = (0..rng.usize(0..9))
                .map(|_| Candidate {
                    intent: Intent::ALL[rng.usize(..3) * rng.usize(..2)],
                    health: Health::ALL[rng.usize(..4)],
                    backup: rng.u8(..3) == 0,
                    local: rng.bool(),
                })
                .collect();
            let placement = placement(rng.u32(0..=100) * rng.u32(..2), rng.bool().then(|| rng.u32(1..=100)));
            let selection = select(&candidates, &placement);
            let members: Vec<&Candidate> = selection.members.iter().map(|&i| &candidates[i]).collect();
            let up = |backup| {
                candidates.iter().any(|c| c.intent == Intent::Ready && c.health == Health::Up && c.backup == backup)
            };
            let case = format!("seed {seed}: {candidates:?}, {placement:?}: {selection:?}");
            assert!(selection.members.is_sorted_by(|a, b| a < b), "{case}");
            assert!(members.iter().all(|c| c.intent == Intent::Ready), "the operator's word: {case}");
            assert!(members.iter().all(|c| c.health != Health::Down) || selection.panic, "down: {case}");
            assert!(!up(false) || members.iter().all(|c| !c.backup), "backups beside primaries: {case}");
            assert!(up(false) || !up(true) || members.iter().all(|c| c.backup), "a backup is up: {case}");
            assert!(!(up(false) || up(true)) || !members.is_empty(), "somebody is up: {case}");
            assert!(!selection.panic || placement.panic_percent > 0, "{case}");
            assert!(!selection.local || members.iter().all(|c| c.local), "{case}");
            let first = members.first().map(|c| c.health);
            assert!(selection.panic || members.iter().all(|c| Some(c.health) == first), "mixed: {case}");
        }
    }

    #[test]
    fn backups_serve_only_while_no_primary_is_usable() {
        for (name, endpoints, want, backup) in [
            ("primaries that are up", "u d u+", vec![0], false),
            ("no primary is up", "d e u+ u+", vec![2, 3], true),
            ("a backup that is up goes before a primary on probation", "p u+", vec![1], true),
            ("at start nobody is judged: primaries", "p p p+", vec![0, 1], false),
            ("the primary is drained", "U u+", vec![1], true),
            ("all are ejected: primaries are the better guess", "e e+", vec![0], false),
            ("only backups there are", "u+ d+", vec![0], true),
            ("all are down", "d d+", vec![], false),
        ] {
            let selection = select(&pool(endpoints), &Placement::default());
            assert_eq!((selection.members, selection.backup), (want, backup), "{name}: {endpoints}");
        }
    }

    #[test]
    fn panic_spreads_over_all_but_the_drained() {
        for (name, endpoints, percent, want, panic) in [
            ("off", "u d d d", 0, vec![0], false),
            ("exactly at the threshold", "u u d d", 50, vec![0, 1], false),
            ("below it", "u d d d", 50, vec![0, 1, 2, 3], true),
            ("the drained and maintained neither count nor serve", "u d d U D", 50, vec![0, 1, 2], true),
            ("nobody is up", "d d e", 10, vec![0, 1, 2], true),
            ("what is not judged yet counts as usable", "p p d", 50, vec![0, 1], false),
            ("all are drained: nobody", "U D", 100, vec![], false),
            ("backups that are up take over before primaries panic", "d d u+", 50, vec![2], false),
            ("and panic among themselves", "d d u+ d+ d+", 50, vec![2, 3, 4], true),
            ("nobody at all: primaries", "d d d+", 50, vec![0, 1], true),
        ] {
            let selection = select(&pool(endpoints), &placement(percent, None));
            assert_eq!((selection.members, selection.panic), (want, panic), "{name}: {endpoints}");
        }
    }

    #[test]
    fn the_local_zone_serves_while_enough_of_it_can() {
        for (name, endpoints, percent, want, local) in [
            ("all of it", "u* u* u u", 70, vec![0, 1], true),
            ("enough of it", "u* u* u* d* u", 70, vec![0, 1, 2], true),
            ("too little of it", "u* d* u u", 70, vec![0, 2, 3], false),
            ("none of it", "d* d* u u", 70, vec![2, 3], false),
            ("the zone has nobody", "u u", 70, vec![0, 1], false),
            ("what is drained is not missed", "u* U* U* u", 70, vec![0], true),
            ("one is enough", "u* d* d* u", 1, vec![0], true),
            ("local backups do not count with primaries", "u* d* u*+ u", 70, vec![0, 3], false),
            ("nor at start", "p* p* p", 70, vec![0, 1], true),
        ] {
            let selection = select(&pool(endpoints), &placement(0, Some(percent)));
            assert_eq!((selection.members, selection.local), (want, local), "{name}: {endpoints}");
        }
    }
}
