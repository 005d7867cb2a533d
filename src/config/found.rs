//! Engine: what sources have found joins what the file says. What is refused is named; what is gone is kept until it is idle.
//!
//! ```text
//!             told                     not told any more, or leaving
//!   (nobody) ──────▶ member of a pool ──────────────────────────────▶ leaving: no new work
//!                        ▲                                              │  │ idle, or the source's `drain` has passed
//!                        └──────────────── told again ──────────────────┘  └──▶ (nobody)
//! ```
//! A file's word goes before a source's, and of two sources that bring a pool of one name, that of the one that had it. The result is a
//! `Config` as a file could say it, and what becomes of it from there on (ids, tables, the difference to what serves) is what becomes of
//! every other.
//!
//! Not here: asking (`source`), nor when a finding comes into force (`app::discovery`).

mod admit;
mod marks;
mod pools;
mod routes;
#[cfg(test)]
mod tests;
mod verdict;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::value::{Config, Endpoint, Pool, Traffic};
use crate::base::{EndpointAddr, Moment, limits};
use crate::doc::{Settings, Spanned};
use crate::route::Pattern;
use crate::seam::source::{Finding, Member, Mistake, Owner, Pool as FoundPool, Refusal, drain, is_same_place};

use admit::Ground;

pub use marks::mark;
pub use verdict::Verdict;

/// The last good finding of every source, and what of them is in force.
#[derive(Clone, Debug, Default)]
pub struct Found {
    findings: BTreeMap<Owner, Finding>,
    in_force: InForce,
    /// By pool and address.
    members: Members,
}

/// By pool: the source that its members come from.
type Homes<'s> = HashMap<Arc<str>, &'s Settings>;

type Members = BTreeMap<(Arc<str>, EndpointAddr), Standing>;

/// By source: its members that do not leave, its routes, and the pools that are its to bring.
type InForce = BTreeMap<Owner, Finding>;

/// A member that is in force.
#[derive(Clone, Debug, PartialEq)]
struct Standing {
    member: Member,
    owner: Owner,
    /// Since when it is leaving, and how long it may.
    left: Option<(Moment, Duration)>,
}

/// What the process knows, and no file or source.
pub struct Around<'a> {
    pub now: Moment,
    /// Whether an address is this machine's.
    pub is_here: &'a dyn Fn(IpAddr) -> bool,
    /// Whether nothing is under way at an endpoint of a pool, as far as that can be known.
    pub is_idle: &'a dyn Fn(&str, EndpointAddr) -> bool,
    /// Whether a pool of this name has been before, and how many may still come that have not.
    pub is_known: &'a dyn Fn(&str) -> bool,
    pub names_left: usize,
}

/// A configuration with what was found in it.
pub struct Merged {
    pub config: Config,
    /// By source: what it found and is refused, and what becomes of the rest.
    pub verdicts: BTreeMap<Owner, Verdict>,
    members: Members,
    in_force: InForce,
}

impl Found {
    /// A source has looked.
    pub fn heard(&mut self, owner: Owner, finding: Finding) {
        self.findings.insert(owner, finding);
    }

    /// What another process had in force is the last that was heard here.
    pub fn inherit(&mut self, owner: Owner, finding: Finding) {
        self.in_force.insert(owner.clone(), finding.clone());
        self.heard(owner, finding);
    }

    pub fn has(&self, owner: &Owner) -> bool {
        self.findings.contains_key(owner)
    }

    /// What `merged` holds is in force.
    pub fn commit(&mut self, merged: &Merged) {
        self.members.clone_from(&merged.members);
        self.in_force.clone_from(&merged.in_force);
        let sources = sources(&merged.config);
        self.findings.retain(|owner, _| sources.contains_key(owner));
    }

    /// Whether somebody leaves, and it has to be looked whether he is idle.
    pub fn somebody_leaves(&self) -> bool {
        self.members.values().any(|standing| standing.left.is_some())
    }

    /// What a source has told last.
    pub fn of(&self, owner: &Owner) -> Option<&Finding> {
        self.findings.get(owner)
    }

    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.findings.keys()
    }

    /// What is in force of each source, to be given to another process: also of whom the source says nothing any more.
    pub fn in_force(&self) -> &BTreeMap<Owner, Finding> {
        &self.in_force
    }

    /// `config` with what was found.
    pub fn merge(&self, config: &Config, around: &Around<'_>) -> Merged {
        let sources = sources(config);
        let mut verdicts: BTreeMap<Owner, Verdict> = BTreeMap::new();
        for owner in sources.keys() {
            let verdict = verdicts.entry(owner.clone()).or_default();
            for mistake in self.findings.get(owner).into_iter().flat_map(|finding| &finding.mistakes) {
                verdict.refuse(mistake.clone());
            }
        }
        let (members, in_force) = (Members::new(), InForce::new());
        let mut merged = Merged { config: config.clone(), verdicts, members, in_force };
        let ground = Ground::of(config, around);
        for pool in &mut merged.config.pools {
            let owner = Owner::Pool(pool.name.value.clone());
            let (Some(settings), Some(verdict)) = (sources.get(&owner), merged.verdicts.get_mut(&owner)) else {
                continue;
            };
            let finding = self.findings.get(&owner);
            let before = self.in_force.get(&owner).into_iter().flat_map(|before| &before.members);
            let standings = self.standings(
                pool,
                &owner,
                finding.map(|finding| finding.members.as_slice()).unwrap_or_default(),
                before.filter(|member| finding.is_none_or(|finding| self.keeps(&sources, &owner, finding, member))),
                |member| ground.admit(&pool.name, &pool.endpoints, member),
                drain(settings),
                verdict,
                around,
            );
            let staying = standings.iter().filter(|standing| standing.left.is_none());
            let members = staying.map(|standing| standing.member.clone()).collect();
            merged.in_force.insert(owner, Finding { members, ..Finding::default() });
            join(pool, standings, &mut merged.members);
        }
        let of_services = self.findings.iter().filter(|(owner, _)| matches!(owner, Owner::Service(_)));
        let told: BTreeMap<&Owner, Cow<'_, Finding>> =
            of_services.map(|(owner, finding)| (owner, self.whole(&sources, owner, finding))).collect();
        let homes = self.pools(&mut merged, &told, &sources, &ground, around);
        for (owner, finding) in &told {
            if let Some(verdict) = merged.verdicts.get_mut(*owner) {
                let joined = routes::join(&mut merged.config, owner, finding, &homes, verdict);
                verdict.routes = joined.len();
                merged.in_force.entry((*owner).clone()).or_default().routes = joined;
            }
        }
        merged.verdicts.values_mut().for_each(Verdict::abridge);
        merged
    }

    /// Whether a member that is in force and is not told any more stays, where its pool would have nobody otherwise: nothing is said of it
    /// because nothing is known.
    fn keeps(&self, sources: &BTreeMap<Owner, &Settings>, owner: &Owner, finding: &Finding, member: &Member) -> bool {
        if finding.may_be_empty || finding.unknown.is_empty() {
            return !finding.may_be_empty;
        }
        // Engines give addresses out again, and whoever has this one now may be of any of their tables.
        let is_near = |other: &Owner| match (sources.get(owner), sources.get(other)) {
            (Some(one), Some(other)) => is_same_place(one, other),
            _ => false,
        };
        let (ip, port) = (member.address.ip(), member.address.port());
        let has_it = |told: &Member| {
            let is_there = told.address.ip() == ip && (port.is_none() || told.address.port() == port);
            is_there && told.from != member.from
        };
        let mut near = self.findings.iter().filter(|(other, _)| is_near(other));
        finding.unknown.contains(&member.from) && !near.any(|(_, finding)| finding.everybody().any(has_it))
    }

    /// What a service's source has told, and the pools in force that would have nobody by that though they may: with the routes to them.
    fn whole<'f>(
        &'f self,
        sources: &BTreeMap<Owner, &Settings>,
        owner: &Owner,
        finding: &'f Finding,
    ) -> Cow<'f, Finding> {
        let Some(before) = self.in_force.get(owner).filter(|_| !finding.may_be_empty) else {
            return Cow::Borrowed(finding);
        };
        let served = finding.pools.iter().filter(|pool| pool.members.iter().any(|member| !member.leaving));
        let served: HashSet<&Arc<str>> = served.map(|pool| &pool.name).collect();
        let mut kept: Vec<FoundPool> = Vec::new();
        for pool in before.pools.iter().filter(|pool| !served.contains(&pool.name)) {
            let members = pool.members.iter().filter(|member| self.keeps(sources, owner, finding, member));
            let members: Vec<Member> = members.cloned().collect();
            if !members.is_empty() {
                kept.push(FoundPool { members, ..pool.clone() });
            }
        }
        if kept.is_empty() {
            return Cow::Borrowed(finding);
        }
        let mut whole = finding.clone();
        let told: HashSet<&Pattern> = finding.routes.iter().map(|route| &route.pattern).collect();
        let names: HashSet<&Arc<str>> = kept.iter().map(|pool| &pool.name).collect();
        let leads_there = before.routes.iter().filter(|route| names.contains(&route.pool));
        whole.routes.extend(leads_there.filter(|route| !told.contains(&route.pattern)).cloned());
        // One that is told without anybody has its settings by that, and one that no route leads to any more is none.
        let told: HashSet<&Arc<str>> = finding.pools.iter().map(|pool| &pool.name).collect();
        let led_to: HashSet<&Arc<str>> = whole.routes.iter().map(|route| &route.pool).collect();
        let lacking = kept.iter().filter(|pool| !told.contains(&pool.name) && led_to.contains(&pool.name));
        whole.pools.extend(lacking.cloned());
        Cow::Owned(whole)
    }

    /// Who is in force of one source in one pool: those that it tells and that may, or else those that are kept, and those that leave.
    #[allow(clippy::too_many_arguments, reason = "one of two callers each has all of it at hand")]
    fn standings<'m>(
        &self,
        pool: &Pool,
        owner: &Owner,
        told: &'m [Member],
        kept: impl Iterator<Item = &'m Member>,
        admit: impl Fn(&Member) -> Result<Option<Member>, Mistake>,
        drain: Duration,
        verdict: &mut Verdict,
        around: &Around<'_>,
    ) -> Vec<Standing> {
        let name = &pool.name.value;
        let (mut told, is_usable) = admitted(told.iter(), &admit, verdict);
        // Nothing that may be used is no reason to serve nothing.
        if !is_usable {
            for (address, member) in admitted(kept, &admit, verdict).0 {
                told.entry(address).or_insert(member);
            }
        }
        // Of the file, or of another source of the same engine.
        let there: HashSet<EndpointAddr> = pool.endpoints.iter().map(|endpoint| endpoint.address.value).collect();
        let before = self.members.range((name.clone(), EndpointAddr::LEAST)..);
        let before = before.take_while(|((of, _), _)| of == name).filter(|(_, standing)| standing.owner == *owner);
        let known = before.map(|((_, address), standing)| (*address, standing));
        let mut standings = Vec::new();
        for (address, standing) in known.filter(|(address, _)| !there.contains(address)) {
            if told.get(&address).is_some_and(|member| !member.leaving) {
                continue;
            }
            let left = standing.left.unwrap_or((around.now, drain));
            let over = around.now.since(left.0) >= left.1 || standing.left.is_some() && (around.is_idle)(name, address);
            if !over {
                let member = Member { leaving: true, ..told.get(&address).unwrap_or(&standing.member).clone() };
                standings.push(Standing { member, owner: owner.clone(), left: Some(left) });
                verdict.leaving += 1;
            }
        }
        let room = limits::POOL_ENDPOINTS.saturating_sub(standings.len());
        let staying = told.into_values().filter(|member| !member.leaving);
        for (nth, member) in staying.enumerate() {
            if nth >= room {
                let message =
                    format!("endpoint `{}` is one more than the {} of a pool", member.address, limits::POOL_ENDPOINTS);
                verdict.refuse(Mistake::new(Refusal::TooMany, &*member.from, message));
                continue;
            }
            standings.push(Standing { member, owner: owner.clone(), left: None });
            verdict.members += 1;
        }
        standings.sort_by_key(|standing| standing.member.address);
        standings
    }
}

/// Those that may serve, and whether anybody may go on to: the file may have him.
fn admitted<'m>(
    members: impl Iterator<Item = &'m Member>,
    admit: &impl Fn(&Member) -> Result<Option<Member>, Mistake>,
    verdict: &mut Verdict,
) -> (BTreeMap<EndpointAddr, Member>, bool) {
    let (mut all, mut is_usable) = (BTreeMap::new(), false);
    for member in members {
        match admit(member) {
            // The first of two that are one.
            Ok(Some(member)) => {
                is_usable |= !member.leaving;
                all.entry(member.address).or_insert(member);
            }
            Ok(None) => is_usable = true,
            Err(mistake) => verdict.refuse(mistake),
        }
    }
    (all, is_usable)
}

/// Every table that has a source, and what it says of it.
pub fn sources(config: &Config) -> BTreeMap<Owner, &Settings> {
    let mut sources = BTreeMap::new();
    for pool in &config.pools {
        if let Some(source) = &pool.source {
            sources.insert(Owner::Pool(pool.name.value.clone()), &source.value);
        }
    }
    for service in &config.services {
        if let Traffic::L7(l7) = &service.traffic
            && let Some(source) = &l7.source
        {
            sources.insert(Owner::Service(service.name.value.clone()), &source.value);
        }
    }
    sources
}

/// Gives every pool whose source has found nobody an endpoint that no network has: where traffic leads can be told of a file alone.
pub fn imagine(config: &mut Config) {
    for pool in config.pools.iter_mut().filter(|pool| pool.source.is_some()) {
        if pool.endpoints.iter().all(|endpoint| endpoint.leaving) {
            // TEST-NET-1 (RFC 5737).
            let address = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), if pool.dialled.is_some() { 80 } else { 0 }));
            pool.endpoints.push(Endpoint::new(Spanned::implied(EndpointAddr::from(address))));
        }
    }
}

fn join(pool: &mut Pool, standings: Vec<Standing>, members: &mut Members) {
    for standing in standings {
        let Member { address, weight, backup, zone, leaving, from } = standing.member.clone();
        let endpoint = Endpoint::new(Spanned::implied(address));
        pool.endpoints.push(Endpoint { weight, backup, zone, leaving, found: Some(from), ..endpoint });
        members.insert((pool.name.value.clone(), address), standing);
    }
}
