//! Engine: routes that were found, among those that a service has in the file.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::value::{Config, Route, Traffic};
use super::Verdict;
use crate::base::limits;
use crate::doc::{Place, Spanned, quote, suggest};
use crate::seam::source::{Finding, Mistake, Owner, Refusal, Route as FoundRoute};

/// Adds what `owner`, a service, has found; how many routes that were.
pub(super) fn join(config: &mut Config, owner: &Owner, finding: &Finding, verdict: &mut Verdict) -> usize {
    let Owner::Service(name) = owner else { return 0 };
    let usable = usable_pools(config);
    let Some(service) = config.services.iter_mut().find(|service| service.name.value == *name) else { return 0 };
    let Traffic::L7(l7) = &mut service.traffic else { return 0 };
    let mut joined = 0_usize;
    for found in &finding.routes {
        let taken = l7.routes.iter().find(|route| {
            !route.is_default && route.pattern.value == found.pattern && route.priority == found.priority
        });
        if let Some(taken) = taken {
            // Two replicas say the same, each for itself.
            if taken.found.is_none() || taken.pool.value != found.pool {
                verdict.refuse(twice(found, taken));
            }
            continue;
        }
        if let Some(mistake) = leads_nowhere(found, &usable) {
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
        joined += 1;
    }
    joined
}

/// Pools by name, and whether proxies can use them.
fn usable_pools(config: &Config) -> HashMap<Arc<str>, bool> {
    let packets: Vec<&Arc<str>> = config
        .services
        .iter()
        .filter_map(|service| match &service.traffic {
            Traffic::Packet(packet) => Some(&packet.pool.value),
            _ => None,
        })
        .collect();
    let usable = |pool: &super::Pool| {
        !packets.contains(&&pool.name.value) && pool.endpoints.iter().all(|endpoint| endpoint.address.port().is_some())
    };
    config.pools.iter().map(|pool| (pool.name.value.clone(), usable(pool))).collect()
}

fn leads_nowhere(found: &FoundRoute, pools: &HashMap<Arc<str>, bool>) -> Option<Mistake> {
    match pools.get(&found.pool) {
        Some(true) => None,
        Some(false) => {
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
    Mistake::new(Refusal::Conflict, &*found.from, message).help("give it another url, or another priority")
}
