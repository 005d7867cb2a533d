//! Engine: whom a pool's picker gives a connection or request, and how much of that is chance.
//!
//! The picker itself is asked, again and again with other random bits: what always comes out is certain, and the rest has its share.
//! One that keeps a turn is asked through a twin, so that explaining moves nobody's turn.

use std::collections::HashMap;
use std::sync::Arc;

use fastrand::Rng;

use super::ask::Scene;
use super::story::{Candidate, Choice, PoolTold};
use crate::balance::{self, Pick, Tried};
use crate::base::units::show_duration;
use crate::base::{FlowHash, Reason, limits};
use crate::state::{Endpoint, EndpointSpec, Pool, PoolView};

/// What decides between endpoints, beside chance.
pub(super) struct Key<'a> {
    /// The hash, for a source port that is given where nobody said one.
    pub hash: &'a dyn Fn(u16) -> FlowHash,
    /// What it is the hash of, in words.
    pub words: String,
}

/// The pool with every endpoint, and the choice; `None` where nobody is usable.
pub(super) fn tell(scene: &Scene<'_>, pool: &Pool, key: &Key<'_>) -> (PoolTold, Option<Choice>) {
    let view = pool.view();
    // Settings only come from the catalogue's grammars, so the name is found.
    let spec = balance::find(pool.spec.balance.name).unwrap_or(&balance::CATALOG[0]);
    let random = scene.random_key && spec.uses.hash;
    let hash = |rng: &mut Rng| if random { FlowHash(rng.u64(..)) } else { (key.hash)(rng.u16(1024..)) };
    let twin = spec.uses.turn.then(|| pool.rehearsal());
    let full = full(scene, pool, &view);
    let counts = rehearse(scene, twin.as_ref().unwrap_or(&view), spec.uses.turn, &full, hash);
    let total = counts.iter().sum::<u32>().max(1);

    let places: HashMap<usize, usize> =
        view.endpoints.iter().enumerate().map(|(index, endpoint)| (address(endpoint), index)).collect();
    let pick = Pick { hash: hash(&mut Rng::with_seed(SEED)), now: scene.now, entropy: 0, tried: &Tried::new() };
    let candidate = |(endpoint, said): (&Arc<Endpoint>, &EndpointSpec)| {
        let status = endpoint.status();
        let index = places.get(&address(endpoint)).copied();
        // What a random key makes of this request says nothing of what another will.
        let score = index.filter(|_| !random).and_then(|index| view.picker.score(&view.members, index, &pick));
        let count = index.and_then(|index| counts.get(index)).copied().unwrap_or(0);
        Candidate {
            name: endpoint.name.to_string(),
            intent: status.intent.word().to_owned(),
            health: status.health.word().to_owned(),
            usable: index.is_some(),
            weight: status.weight.get(),
            weight_now: (!status.warmth.is_full()).then(|| status.weight_in_force()),
            backup: said.backup,
            full: index.is_some_and(|index| full.iter().any(|full| usize::from(*full) == index)),
            trial: scene.live && endpoint.is_on_trial(),
            zone: said.zone.as_ref().map(ToString::to_string),
            in_flight: scene.live.then(|| endpoint.load.in_flight()),
            score: score.map(|score| score.value),
            score_name: score.map(|score| score.name.to_owned()),
            score_unit: score.map(|score| score.unit.to_owned()).filter(|unit| !unit.is_empty()),
            chance: (f64::from(count) * 1000.0 / f64::from(total)).round() / 10.0,
            cause: (scene.cause)(&pool.spec.name, &endpoint.name),
        }
    };
    let told = PoolTold {
        name: pool.spec.name.to_string(),
        balance: pool.spec.balance.name.to_owned(),
        usable: view.endpoints.len(),
        serving: [("panic", view.panic), ("backup", view.backup), ("local", view.local)]
            .into_iter()
            .filter(|(_, is)| *is)
            .map(|(word, _)| word.to_owned())
            .collect(),
        most_in_flight: pool.spec.capacity.is_bounded().then(|| pool.spec.capacity.most_in_flight()),
        endpoints: pool.endpoints.iter().zip(&pool.spec.endpoints).map(candidate).collect(),
    };
    let mut possible = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let (first, second) = (possible.next(), possible.next());
    let only = first.filter(|_| second.is_none()).and_then(|(index, _)| view.endpoints.get(index));
    let choice = first.map(|_| Choice {
        endpoint: only.map(|endpoint| endpoint.name.to_string()),
        certain: only.is_some(),
        how: if view.endpoints.len() == 1 { "no other endpoint is usable" } else { spec.how }.to_owned(),
        key: (spec.uses.hash && view.endpoints.len() > 1).then(|| key.words.clone()),
        notes: {
            let mut notes = if view.endpoints.len() > 1 {
                notes(scene, spec.counts(&pool.spec.balance), random)
            } else {
                Vec::new()
            };
            if !view.members.is_empty() && full.len() == view.members.len() {
                notes.push(waits(pool));
            }
            notes
        },
    });
    (told, choice)
}

/// What becomes of a request that finds every endpoint full.
fn waits(pool: &Pool) -> String {
    let capacity = &pool.spec.capacity;
    match capacity.queue {
        0 => format!("every endpoint is full: it would be refused, {}", Reason::EndpointLimit.word()),
        most => format!(
            "every endpoint is full: it would wait for its turn, for {} at most, behind {} of {most} that may wait",
            show_duration(capacity.queue_timeout),
            pool.queue.waiting()
        ),
    }
}

fn notes(scene: &Scene<'_>, counts: bool, random: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if counts && !scene.live {
        notes.push("what is in flight, and latency, are not known from a file: ask the running Strata".to_owned());
    }
    if random {
        notes.push("the hash key is random: each start of Strata chooses anew (`hash_key` in [cluster])".to_owned());
    }
    notes
}

/// How often each member of the view is picked.
fn rehearse(
    scene: &Scene<'_>,
    view: &PoolView,
    turns: bool,
    full: &Tried,
    mut hash: impl FnMut(&mut Rng) -> FlowHash,
) -> Vec<u32> {
    let mut counts = vec![0; view.members.len()];
    // The same answer to the same question.
    let mut rng = Rng::with_seed(SEED);
    let picks = if turns { TURNS } else { (WORK / view.members.len().max(1)).clamp(FEWEST, MOST) };
    // Where all are full, whoever is free first: anybody's turn may come.
    let none = Tried::new();
    let tried = if full.len() < view.members.len() { full } else { &none };
    for _ in 0..picks {
        let pick = Pick { hash: hash(&mut rng), now: scene.now, entropy: rng.u64(..), tried };
        let Some((index, _)) = view.pick(&pick) else { break };
        if let Some(count) = counts.get_mut(index) {
            *count += 1;
        }
    }
    counts
}

/// Members that take no more now: a pick that finds one is made again without it (`net::upstream`).
fn full(scene: &Scene<'_>, pool: &Pool, view: &PoolView) -> Tried {
    let capacity = &pool.spec.capacity;
    if !scene.live {
        return Tried::new();
    }
    // A connection that carries nothing is idle, or makes room in a moment.
    let is_full =
        |endpoint: &Arc<Endpoint>| !endpoint.has_place(capacity, || endpoint.open() > endpoint.load.in_flight());
    let full: Tried =
        (0_u16..).zip(&view.endpoints).filter(|(_, endpoint)| is_full(endpoint)).map(|(index, _)| index).collect();
    // Where nothing bounds them but their trials, those go before turning somebody away.
    if !capacity.is_bounded() && full.len() == view.endpoints.len() { Tried::new() } else { full }
}

fn address(endpoint: &Arc<Endpoint>) -> usize {
    Arc::as_ptr(endpoint).addr()
}

/// Members that are looked at in all, by pickers that look at each of them.
const WORK: usize = limits::EXPLAIN_WORK;
const FEWEST: usize = 256;
/// Shares are right to a percent or so.
const MOST: usize = 8192;
/// A whole period of every schedule.
#[allow(clippy::cast_possible_truncation, reason = "TURNS is 2^16")]
const TURNS: usize = limits::TURNS as usize;
const SEED: u64 = 0x7374_7261;
