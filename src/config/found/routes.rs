//! Engine: routes that were found, among those that a service has in the file.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::value::{Config, Route, Traffic};
use super::{Homes, Verdict};
use crate::base::limits;
use crate::doc::{Place, Spanned, quote, suggest};
use crate::route::{Path, Pattern};
use crate::seam::source::{Finding, Mistake, Owner, Refusal, Route as FoundRoute, is_same_place};

/// Adds what `owner`, a service, has found; which routes that were.
pub(super) fn join(
    config: &mut Config,
    owner: &Owner,
    finding: &Finding,
    homes: &Homes<'_>,
    verdict: &mut Verdict,
) -> Vec<FoundRoute> {
    let mut joined = Vec::new();
    let Owner::Service(name) = owner else { return joined };
    let doors = doors(config, name, homes);
    let Some(service) = config.services.iter_mut().find(|service| service.name.value == *name) else { return joined };
    let Traffic::L7(l7) = &mut service.traffic else { return joined };
    for found in &finding.routes {
        // Whatever its priority: it would take all that the other has, and that is not the word of whoever writes labels.
        let taken =
            l7.routes.iter().find(|route| !route.is_default && takes_the_same(&route.pattern.value, &found.pattern));
        if let Some(taken) = taken {
            // Two replicas say the same, each for itself.
            if taken.found.is_none() || taken.pool.value != found.pool {
                verdict.refuse(twice(found, taken));
            }
            continue;
        }
        if let Some(mistake) = leads_nowhere(found, &doors) {
            verdict.refuse(mistake);
            continue;
        }
        if l7.routes.len() >= limits::SOURCE_ROUTES {
            let message = format!("more than the {} routes that fit with a source", limits::SOURCE_ROUTES);
            verdict.refuse(Mistake::new(Refusal::TooMany, &*found.from, message));
            continue;
        }
        let route = Route {
            url: found.url.clone(),
            pattern: Spanned::implied(found.pattern.clone()),
            priority: found.priority,
            pool: Spanned::implied(found.pool.clone()),
            is_default: false,
            place: Place { file: found.from.clone(), line: 0 },
            found: Some(found.from.clone()),
        };
        // The service's `pool` stays the last.
        let end = l7.routes.iter().position(|route| route.is_default).unwrap_or(l7.routes.len());
        l7.routes.insert(end, route);
        joined.push(found.clone());
    }
    joined
}

/// Whether two patterns are for the same requests: `a.test` is another way to write `a.test/*`.
fn takes_the_same(one: &Pattern, other: &Pattern) -> bool {
    let every = |path: &Path| match path {
        Path::Any => true,
        Path::Under(stem) => stem.is_empty(),
        Path::Exact(_) | Path::Starts(_) => false,
    };
    one.host == other.host && (one.path == other.path || every(&one.path) && every(&other.path))
}

/// Whether a route that was found may lead to a pool.
#[derive(Clone, Copy)]
enum Door {
    Open,
    /// Its endpoints stand in the file, or come from elsewhere.
    Closed,
    /// Packet services use it.
    Packets,
}

/// Pools by name, for what the source of `service` has found.
fn doors(config: &Config, service: &str, homes: &Homes<'_>) -> HashMap<Arc<str>, Door> {
    let own =
        config.services.iter().find(|other| *other.name.value == *service).and_then(|service| match &service.traffic {
            Traffic::L7(l7) => l7.source.as_ref().map(|source| &source.value),
            _ => None,
        });
    let is_open = |pool: &Arc<str>| match (own, homes.get(pool)) {
        (Some(own), Some(home)) => is_same_place(own, home),
        _ => false,
    };
    let packets: Vec<&Arc<str>> = config
        .services
        .iter()
        .filter_map(|service| match &service.traffic {
            Traffic::Packet(packet) => Some(&packet.pool.value),
            _ => None,
        })
        .collect();
    let door = |pool: &super::Pool| {
        if packets.contains(&&pool.name.value)
            || pool.endpoints.iter().any(|endpoint| endpoint.address.port().is_none())
        {
            Door::Packets
        } else if is_open(&pool.name.value) {
            Door::Open
        } else {
            Door::Closed
        }
    };
    config.pools.iter().map(|pool| (pool.name.value.clone(), door(pool))).collect()
}

fn leads_nowhere(found: &FoundRoute, pools: &HashMap<Arc<str>, Door>) -> Option<Mistake> {
    match pools.get(&found.pool) {
        Some(Door::Open) => None,
        Some(Door::Closed) => {
            let message = format!("pool {} is not open to routes that are found here", quote(&found.pool));
            let help = "give it the `source` that the service has, or name another pool here";
            Some(Mistake::new(Refusal::Closed, &*found.from, message).help(help))
        }
        Some(Door::Packets) => {
            let message = format!("pool {} is for packet services: requests cannot go there", quote(&found.pool));
            Some(Mistake::new(Refusal::Mode, &*found.from, message).help("name another pool"))
        }
        None => {
            let message = format!("there is no pool {}", quote(&found.pool));
            let mistake = Mistake::new(Refusal::NoPool, &*found.from, message);
            Some(match suggest::nearest(&found.pool, pools.keys().map(|name| &**name)) {
                Some(near) => mistake.help(format!("did you mean `{near}`")),
                None => mistake.help(format!("define it: [pool.{}]", found.pool)),
            })
        }
    }
}

fn twice(found: &FoundRoute, taken: &Route) -> Mistake {
    let url = found.url.as_deref().unwrap_or("every request");
    let message = match taken.found.as_deref() {
        Some(from) => format!("route {} leads to pool `{}` by {from}", quote(url), taken.pool.value),
        None => format!("route {} stands in the file ({})", quote(url), taken.place),
    };
    Mistake::new(Refusal::Conflict, &*found.from, message).help("give it another url")
}
