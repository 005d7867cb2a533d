//! Engine: pools that were found, beside those of the file and of other sources.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::super::pool::default_picker;
use super::super::root::name_fault;
use super::super::value::{Dialled, Pool};
use super::admit::Ground;
use super::{Around, Found, Homes, Merged, join};
use crate::base::{EndpointAddr, limits};
use crate::doc::{Settings, Spanned, quote};
use crate::health;
use crate::seam::source::{Finding, Mistake, Owner, Pool as FoundPool, Refusal, drain, is_same_place};

impl Found {
    /// Pools that no file has. Returns where the members of every pool come from that has a source.
    pub(super) fn pools<'s>(
        &self,
        merged: &mut Merged,
        findings: &BTreeMap<&Owner, Cow<'_, Finding>>,
        sources: &BTreeMap<Owner, &'s Settings>,
        ground: &Ground<'_>,
        around: &Around<'_>,
    ) -> Homes<'s> {
        let listed = merged.config.pools.len();
        let of_file: HashSet<Arc<str>> = merged.config.pools.iter().map(|pool| pool.name.value.clone()).collect();
        let new_in_file = of_file.iter().filter(|name| !(around.is_known)(name)).count();
        let mut names_left = around.names_left.saturating_sub(new_in_file);
        let mut homes: Homes<'s> = sources
            .iter()
            .filter_map(|(owner, settings)| match owner {
                Owner::Pool(name) => Some((name.clone(), *settings)),
                Owner::Service(_) => None,
            })
            .collect();
        let mut by_name: HashMap<Arc<str>, usize> = HashMap::new();
        let before =
            self.in_force.iter().flat_map(|(owner, before)| before.pools.iter().map(move |pool| (owner, pool)));
        let before: HashMap<(&Owner, &Arc<str>), &FoundPool> =
            before.map(|(owner, pool)| ((owner, &pool.name), pool)).collect();
        let mut told: Vec<(&Owner, &Finding, &FoundPool)> = Vec::new();
        for (owner, finding) in findings {
            told.extend(finding.pools.iter().map(|found| (*owner, &**finding, found)));
        }
        // Who has a name or a place keeps it, whatever others say later. Stable: otherwise by the names of services.
        told.sort_by_key(|(owner, _, found)| !before.contains_key(&(*owner, &found.name)));
        let mut at_home: Vec<(&Owner, &FoundPool)> = Vec::new();
        for (owner, finding, found) in told {
            let (Some(settings), Some(verdict)) = (sources.get(owner), merged.verdicts.get_mut(owner)) else {
                continue;
            };
            let home = homes.get(&found.name).copied();
            let is_at_home = home.is_some_and(|home| is_same_place(home, settings));
            if of_file.contains(&found.name) {
                // One that looks in the same place has the same endpoints by itself.
                if is_at_home {
                    at_home.push((owner, found));
                } else if !found.members.is_empty() {
                    verdict.refuse(match home {
                        Some(home) if home.name == settings.name => elsewhere(found),
                        _ => file_has_it(found, settings.name),
                    });
                }
                continue;
            }
            if home.is_some() && !is_at_home {
                verdict.refuse(elsewhere(found));
                continue;
            }
            if let Some(help) = name_fault(&found.name) {
                let message = format!("{} cannot be the name of a pool", quote(&found.name));
                verdict.refuse(Mistake::new(Refusal::Malformed, &*found.from, message).help(help));
                continue;
            }
            let place = match by_name.get(&found.name) {
                Some(place) => *place,
                None if merged.config.pools.len() >= limits::NAMES => {
                    let message = format!("more than the {} pools that fit", limits::NAMES);
                    verdict.refuse(Mistake::new(Refusal::TooMany, &*found.from, message));
                    continue;
                }
                None if names_left == 0 && !(around.is_known)(&found.name) => {
                    let message = "no id is left for a new pool: this process has seen 65536 come and go";
                    let mistake = Mistake::new(Refusal::TooMany, &*found.from, message);
                    verdict.refuse(mistake.help("restart Strata, or reuse names"));
                    continue;
                }
                None => {
                    names_left -= usize::from(!(around.is_known)(&found.name));
                    by_name.insert(found.name.clone(), merged.config.pools.len());
                    homes.insert(found.name.clone(), settings);
                    merged.config.pools.push(new_pool(found));
                    merged.config.pools.len() - 1
                }
            };
            let Some(pool) = merged.config.pools.get_mut(place) else { continue };
            at_home.push((owner, found));
            let before = before.get(&(owner, &found.name)).into_iter().flat_map(|before| &before.members);
            let standings = self.standings(
                pool,
                owner,
                &found.members,
                before.filter(|member| self.keeps(sources, owner, finding, member)),
                |member| ground.admit_to_proxies(&found.name, &pool.endpoints, member),
                drain(settings),
                verdict,
                around,
            );
            join(pool, standings, &mut merged.members);
        }
        // Always in the same order, whoever came first.
        if let Some(found) = merged.config.pools.get_mut(listed..) {
            found.sort_by(|one, other| one.name.value.cmp(&other.name.value));
            found.iter_mut().for_each(|pool| pool.endpoints.sort_by_key(|endpoint| endpoint.address.value));
        }
        for (owner, found) in at_home {
            let of_pool = merged.members.range((found.name.clone(), EndpointAddr::LEAST)..);
            let of_pool = of_pool.take_while(|((of, _), _)| *of == found.name).map(|(_, standing)| standing);
            let staying = of_pool.filter(|standing| standing.left.is_none());
            let members = staying.map(|standing| standing.member.clone()).collect();
            let pool = FoundPool { members, ..found.clone() };
            merged.in_force.entry(owner.clone()).or_default().pools.push(pool);
        }
        homes
    }
}

fn file_has_it(found: &FoundPool, kind: &str) -> Mistake {
    let message = format!("pool {} stands in the file, and has its endpoints from there", quote(&found.name));
    let help = format!("give it `source = {{ type = \"{kind}\" }}` there, or name another pool here");
    Mistake::new(Refusal::Conflict, &*found.from, message).help(help)
}

fn elsewhere(found: &FoundPool) -> Mistake {
    let message =
        format!("pool {} has its endpoints from another engine, or by labels of another prefix", quote(&found.name));
    Mistake::new(Refusal::Conflict, &*found.from, message)
        .help("give both sources one `socket` and one `labels`, or name another pool")
}

fn new_pool(found: &FoundPool) -> Pool {
    Pool {
        name: Spanned::implied(found.name.clone()),
        balance: Spanned::implied(found.balance.clone().unwrap_or_else(|| Settings::defaults(default_picker(false)))),
        probe: found.probe.clone().map(Spanned::implied),
        damping: Spanned::implied(Settings::defaults(&health::DAMPING)),
        panic_percent: None,
        zones: None,
        dialled: Some(Dialled::default()),
        source: None,
        endpoints: Vec::new(),
        found: Some(found.from.clone()),
    }
}
