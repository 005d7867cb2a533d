//! Wiring: what sources of services have found, as one process writes it down for the one that takes over: a thing in each line.
//!
//! The reader may be older or younger than the writer. What it does not know, a line or a field, it passes over and counts; what it has
//! settings for and cannot read is as if nobody had said it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::{Weight, limits};
use crate::doc::{Grammar, Settings};
use crate::route::Pattern;
use crate::seam::probe::outlasts;
use crate::seam::source::{Finding, Member, Owner, Pool, Route};
use crate::{balance, probe};

/// An endpoint that a source has found: whoever takes over serves it from the first moment, though nobody may answer by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundMember {
    /// Whose source it was, or which pool it brought.
    pub pool: String,
    pub address: SocketAddr,
    pub weight: u64,
    pub backup: bool,
    pub zone: Option<String>,
    pub from: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
enum Line {
    Pool {
        service: String,
        name: String,
        members: Vec<FoundMember>,
        balance: Option<Value>,
        probe: Option<Value>,
        from: String,
    },
    Route {
        service: String,
        url: Option<String>,
        priority: i64,
        pool: String,
        from: String,
    },
    #[serde(other)]
    Unknown,
}

/// The members of a pool, those that leave not among them.
pub fn members(pool: &str, members: &[Member]) -> Vec<FoundMember> {
    let staying = members.iter().filter(|member| !member.leaving);
    staying
        .map(|member| FoundMember {
            pool: pool.to_owned(),
            address: SocketAddr::new(member.address.ip(), member.address.port().unwrap_or(0)),
            weight: member.weight.get().into(),
            backup: member.backup,
            zone: member.zone.as_deref().map(str::to_owned),
            from: member.from.to_string(),
        })
        .collect()
}

pub fn member(given: &FoundMember) -> Member {
    let FoundMember { address, weight, backup, zone, from, .. } = given;
    let member = Member::new(*address, from.as_str());
    let weight = Weight::new(*weight).unwrap_or(member.weight);
    Member { weight, backup: *backup, zone: zone.as_deref().map(Arc::from), ..member }
}

/// Pools and routes of services, and how many of them do not fit.
pub fn write<'f>(findings: impl Iterator<Item = (&'f Owner, &'f Finding)>) -> (Vec<u8>, usize) {
    let (mut text, mut left_out) = (Vec::new(), 0);
    for (owner, finding) in findings {
        let Owner::Service(service) = owner else { continue };
        let pools = finding.pools.iter().map(|pool| pool_line(service, pool));
        for line in pools.chain(finding.routes.iter().map(|route| route_line(service, route))) {
            match serde_json::to_vec(&line) {
                Ok(line) if text.len() + line.len() < limits::HANDED_OVER_BYTES => {
                    text.extend_from_slice(&line);
                    text.push(b'\n');
                }
                _ => left_out += 1,
            }
        }
    }
    (text, left_out)
}

/// What was written, by service, and how many things of it are not understood here.
pub fn read(text: &[u8]) -> (BTreeMap<Owner, Finding>, usize) {
    let mut findings: BTreeMap<Owner, Finding> = BTreeMap::new();
    let mut passed_over = 0;
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(Line::Pool { service, name, members, balance, probe, from }) => {
                let balance = settings(balance, balance::CATALOG.iter().map(|spec| &spec.grammar), &mut passed_over);
                let probe = settings(probe, probe::CATALOG.iter().map(|spec| &spec.grammar), &mut passed_over);
                let probe = probe.filter(|probe| !outlasts(probe));
                let members = members.iter().map(member).collect();
                let pool = Pool { name: name.into(), members, balance, probe, from: from.into() };
                findings.entry(Owner::Service(service.into())).or_default().pools.push(pool);
            }
            Ok(Line::Route { service, url, priority, pool, from }) => {
                let Ok(pattern) = url.as_deref().map_or(Ok(Pattern::ANY), Pattern::parse) else {
                    passed_over += 1;
                    continue;
                };
                let route = Route { url, pattern, priority, pool: pool.into(), from: from.into() };
                findings.entry(Owner::Service(service.into())).or_default().routes.push(route);
            }
            Ok(Line::Unknown) | Err(_) => passed_over += 1,
        }
    }
    (findings, passed_over)
}

fn pool_line(service: &str, pool: &Pool) -> Line {
    // Settings are texts, numbers and lists of them, which are JSON.
    let said = |settings: &Option<Settings>| settings.as_ref().and_then(|said| serde_json::to_value(said).ok());
    Line::Pool {
        service: service.to_owned(),
        name: pool.name.to_string(),
        members: members(&pool.name, &pool.members),
        balance: said(&pool.balance),
        probe: said(&pool.probe),
        from: pool.from.to_string(),
    }
}

fn route_line(service: &str, route: &Route) -> Line {
    Line::Route {
        service: service.to_owned(),
        url: route.url.clone(),
        priority: route.priority,
        pool: route.pool.to_string(),
        from: route.from.to_string(),
    }
}

fn settings(
    said: Option<Value>,
    mut catalog: impl Iterator<Item = &'static Grammar>,
    passed_over: &mut usize,
) -> Option<Settings> {
    let said = said?;
    let grammar =
        said.get("type").and_then(Value::as_str).and_then(|name| catalog.find(|grammar| grammar.name == name));
    let settings = grammar.and_then(|grammar| Settings::revived(grammar, &said));
    *passed_over += usize::from(settings.is_none());
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str) -> Pool {
        let at: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let plain = Member::new(at, "container a");
        let zoned = Member {
            weight: Weight::new(7).unwrap(),
            backup: true,
            zone: Some("eu".into()),
            ..Member::new("[fd00::1]:8080".parse::<SocketAddr>().unwrap(), "container b")
        };
        Pool { name: name.into(), members: vec![plain, zoned], balance: None, probe: None, from: "container a".into() }
    }

    fn route(url: Option<&str>) -> Route {
        let pattern = url.map_or(Pattern::ANY, |url| Pattern::parse(url).unwrap());
        Route { url: url.map(str::to_owned), pattern, priority: -3, pool: "api".into(), from: "container a".into() }
    }

    fn edge(pools: Vec<Pool>, routes: Vec<Route>) -> BTreeMap<Owner, Finding> {
        let finding = Finding { pools, routes, ..Finding::default() };
        BTreeMap::from([(Owner::Service("edge".into()), finding)])
    }

    #[test]
    fn what_services_have_found_is_read_as_it_was_written() {
        let mut pools = vec![pool("api"), pool("bare")];
        // Every picker and probe, so that every kind of setting comes through.
        let all = |grammars: Vec<&'static Grammar>| grammars.into_iter().map(Settings::defaults).collect::<Vec<_>>();
        let pickers = all(balance::CATALOG.iter().map(|spec| &spec.grammar).collect());
        let needs_nothing = |settings: &Settings| {
            let spec = balance::find(settings.name).unwrap();
            spec.grammar.fields.iter().all(|field| !field.required)
        };
        for balance in pickers.into_iter().filter(needs_nothing) {
            pools.push(Pool { name: balance.name.into(), balance: Some(balance), ..pool("") });
        }
        for probe in all(probe::CATALOG.iter().map(|spec| &spec.grammar).collect()) {
            pools.push(Pool { name: probe.name.into(), probe: Some(probe), ..pool("") });
        }
        let mut found = edge(pools, vec![route(Some("a.test/x/*")), route(None)]);
        found.insert(Owner::Service("other".into()), Finding { routes: vec![route(Some("/y"))], ..Finding::default() });
        let (text, left_out) = write(found.iter());
        assert_eq!((read(&text), left_out), ((found, 0), 0));
        // Pools of the file have a way of their own, and who leaves is gone.
        let mut leaving = pool("api");
        leaving.members[1].leaving = true;
        let mut found = edge(vec![leaving], Vec::new());
        found.insert(Owner::Pool("web".into()), Finding { members: pool("").members, ..Finding::default() });
        let (back, _) = read(&write(found.iter()).0);
        assert_eq!(back.len(), 1);
        assert_eq!(back[&Owner::Service("edge".into())].pools[0].members, pool("api").members[..1]);
    }

    #[test]
    fn of_another_version_what_is_known_is_read_and_the_rest_is_counted() {
        let text = r#"{"is":"route","service":"edge","url":"/a/*","priority":0,"pool":"api","from":"container a","methods":["GET"]}
{"is":"tunnel","service":"edge"}
{"is":"route","service":"edge","url":"a b://","priority":0,"pool":"api","from":"container b"}
{"is":"route","service":"edge"}
{"is":"pool","service":"edge","name":"api","members":[],"balance":{"type":"by-moon"},"probe":{"type":"http","path":"/up","moon":3,"rise":"x"},"from":"container a"}
{"is":"pool","serv"#;
        let (found, passed_over) = read(text.as_bytes());
        let finding = &found[&Owner::Service("edge".into())];
        assert_eq!((finding.routes.len(), finding.pools.len(), passed_over), (1, 1, 5));
        let probe = finding.pools[0].probe.as_ref().unwrap();
        assert_eq!(
            (probe.text("path"), probe.integer("rise"), finding.pools[0].balance.is_none()),
            (Some("/up"), 2, true)
        );
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole_and_counted() {
        let long = format!("/{}", "x".repeat(limits::TARGET_BYTES - 1));
        let fit = limits::HANDED_OVER_BYTES / limits::TARGET_BYTES;
        let found = edge(vec![pool("api")], vec![route(Some(&long)); fit]);
        let (text, left_out) = write(found.iter());
        let (back, passed_over) = read(&text);
        assert!(text.len() <= limits::HANDED_OVER_BYTES && left_out > 0);
        assert_eq!((back[&Owner::Service("edge".into())].routes.len() + left_out, passed_over), (fit, 0));
    }
}
