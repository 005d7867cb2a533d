//! Engine: what a source had found before it began anew, as far as it cannot look at it yet.

use std::collections::HashSet;
use std::sync::Arc;

use crate::base::EndpointAddr;
use crate::route::Pattern;
use crate::seam::source::{Finding, Member};

/// `finding`, and of what was there `before` that which belongs to whom it could not look at. The rest is forgotten: who was looked at, or
/// is not there, has nothing but what is told of it.
pub(super) fn complete(mut finding: Finding, before: &mut Finding) -> Finding {
    if finding.unseen.is_empty() {
        *before = Finding::default();
        return finding;
    }
    forget(&finding, before);
    finding.members.extend_from_slice(&before.members);
    let told: HashSet<Pattern> = finding.routes.iter().map(|route| route.pattern.clone()).collect();
    finding.routes.extend(before.routes.iter().filter(|route| !told.contains(&route.pattern)).cloned());
    for pool in &before.pools {
        let is_led_to = finding.routes.iter().any(|route| route.pool == pool.name);
        match finding.pools.iter_mut().find(|told| told.name == pool.name) {
            Some(told) => told.members.extend_from_slice(&pool.members),
            None if is_led_to => finding.pools.push(pool.clone()),
            None => {}
        }
    }
    finding
}

fn forget(finding: &Finding, before: &mut Finding) {
    let members = finding.members.iter().chain(finding.pools.iter().flat_map(|pool| &pool.members));
    // Engines give addresses out again.
    let told: HashSet<EndpointAddr> = members.map(|member| member.address).collect();
    let stays = |member: &Member| finding.unseen.contains(&member.from) && !told.contains(&member.address);
    before.members.retain(stays);
    before.pools.iter_mut().for_each(|pool| pool.members.retain(stays));
    // Of containers that say the same, a route names one.
    let with_members = before.pools.iter().filter(|pool| !pool.members.is_empty());
    let kept: HashSet<Arc<str>> = with_members.map(|pool| pool.name.clone()).collect();
    before.routes.retain(|route| finding.unseen.contains(&route.from) || kept.contains(&route.pool));
    let led_to: HashSet<&Arc<str>> = before.routes.iter().map(|route| &route.pool).collect();
    before.pools.retain(|pool| !pool.members.is_empty() || led_to.contains(&pool.name));
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::seam::source::{Pool, Route};

    fn member(n: u8, from: &str) -> Member {
        Member::new(SocketAddr::from(([10, 0, 0, n], 80)), from)
    }

    fn pool(name: &str, members: &[Member]) -> Pool {
        Pool { name: name.into(), members: members.to_vec(), balance: None, probe: None, from: "a".into() }
    }

    fn route(url: &str, pool: &str, from: &str) -> Route {
        let pattern = Pattern::parse(url).unwrap();
        Route { url: Some(url.into()), pattern, priority: 0, pool: pool.into(), from: from.into() }
    }

    fn unseen(names: &[&str]) -> Finding {
        Finding { unseen: names.iter().map(|name| Arc::from(*name)).collect(), ..Finding::default() }
    }

    /// Last digits of addresses.
    fn members(members: &[Member]) -> Vec<String> {
        members.iter().map(|member| member.address.to_string().split(['.', ':']).nth(3).unwrap().to_owned()).collect()
    }

    fn urls(finding: &Finding) -> Vec<&str> {
        finding.routes.iter().filter_map(|route| route.url.as_deref()).collect()
    }

    #[test]
    fn only_members_of_whom_nothing_is_known_yet_stay_and_none_comes_back() {
        let mut before = Finding {
            members: (1..).zip(["a", "b", "c", "d"]).map(|(n, from)| member(n, from)).collect(),
            ..unseen(&[])
        };
        // `a` is paused perhaps, `d` is not there; what was `c`'s address is `e`'s.
        let told = Finding { members: vec![member(3, "e")], ..unseen(&["b", "c"]) };
        assert_eq!(members(&complete(told, &mut before).members), ["3", "2"]);
        assert_eq!(members(&complete(unseen(&["b", "c"]), &mut before).members), ["2"]);
        assert_eq!(complete(unseen(&[]), &mut before).members, []);
        assert_eq!(complete(unseen(&["b"]), &mut before).members, []);
    }

    #[test]
    fn routes_and_pools_stay_as_long_as_somebody_of_them_is_not_known() {
        let before = Finding {
            routes: vec![route("/api", "api", "a"), route("/web", "web", "b"), route("/old", "old", "c")],
            pools: vec![pool("api", &[member(1, "a"), member(2, "b")]), pool("old", &[member(3, "c")])],
            ..Finding::default()
        };
        // `a` was the first of the two to say it, and has ended.
        let found = complete(unseen(&["b"]), &mut before.clone());
        assert_eq!((urls(&found), found.pools.len()), (vec!["/api", "/web"], 1));
        assert_eq!(members(&found.pools[0].members), ["2"]);
        // The one that is known says the same, or brings the pool with another.
        let told = Finding {
            routes: vec![route("/api", "new", "a"), route("/more", "api", "a")],
            pools: vec![pool("api", &[member(1, "a")]), pool("new", &[member(4, "a")])],
            ..unseen(&["b"])
        };
        let found = complete(told, &mut before.clone());
        assert_eq!(urls(&found), ["/api", "/more", "/web"]);
        assert_eq!(members(&found.pools[0].members), ["1", "2"]);
        // A pool that no route leads to is none.
        let told = Finding { routes: vec![route("/api", "new", "a")], ..unseen(&["b"]) };
        assert_eq!(complete(told, &mut before.clone()).pools, []);
    }
}
