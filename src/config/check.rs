//! Engine: what only the whole file can tell: names that lead nowhere, listeners that clash, routes that never win.

mod packet;
mod probe;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::root::{Listener, Reference, Survey, User};
use super::value::{Config, L7, Pool, Service, Traffic};
use crate::balance::{self, HashBy};
use crate::base::Listen;
use crate::doc::codes::Code;
use crate::doc::{Diagnostic, Spanned, Table, codes, quote, suggest};
use crate::route::{self, Rule};

pub(super) fn check(root: &Table<'_>, config: &Config, survey: &Survey) {
    let meant = references(root, survey);
    unused(root, survey, &meant);
    listeners(root, &survey.listeners);
    for service in &config.services {
        if let Traffic::L7(l7) = &service.traffic {
            routes(root, service, l7);
        }
        loops(root, config, service);
    }
    packet::check(root, config, survey);
    probe::check(root, config, survey);
    for pool in &config.pools {
        hashing(root, config, pool, &survey.references);
        zones(root, config, pool);
    }
    if config.services.is_empty() && !root.has("service") {
        let mistake = Diagnostic::new(&codes::NO_SERVICE, root.span(), "no service is defined: nothing is served");
        root.report(mistake.help("add a [service.NAME]"));
    }
}

/// Returns the pools that were probably meant by names that are none.
fn references<'s>(root: &Table<'_>, survey: &'s Survey) -> Vec<&'s str> {
    let names = survey.references.iter().map(|reference| &reference.pool);
    unknown(root, (&codes::UNKNOWN_POOL, "pool"), names, &survey.pools)
}

/// Reports names that are not among the defined ones; returns those that were probably meant.
fn unknown<'s>(
    root: &Table<'_>,
    (code, what): (&Code, &str),
    names: impl Iterator<Item = &'s Spanned<Arc<str>>>,
    defined: &'s [Spanned<Arc<str>>],
) -> Vec<&'s str> {
    let mut meant = Vec::new();
    let known: HashSet<&str> = defined.iter().map(|name| &*name.value).collect();
    for name in names.filter(|name| !known.contains(&*name.value)) {
        let candidates = || defined.iter().map(|name| &*name.value);
        let near = suggest::nearest(name, candidates());
        let help = match near {
            Some(near) => format!("did you mean `{near}`"),
            None if defined.is_empty() => format!("define it: [{what}.{}]", name.value),
            None => format!("{what}s are {}", few(candidates())),
        };
        let found = near.and_then(|near| defined.iter().find(|name| &*name.value == near));
        let mut mistake = Diagnostic::new(code, name.span, format!("unknown {what} {}", quote(name)));
        if let Some(found) = found {
            mistake = mistake.also(found.span, "this one is defined");
            meant.push(&*found.value);
        }
        root.report(mistake.help(help));
    }
    meant
}

/// The first few of many words.
fn few<'a>(words: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let words: Vec<&str> = words.collect();
    if words.len() <= SHOWN {
        return suggest::one_of(words.iter().copied());
    }
    let shown: Vec<String> = words.iter().take(SHOWN).map(|word| format!("`{word}`")).collect();
    format!("{} and {} more", shown.join(", "), words.len() - SHOWN)
}

fn unused(root: &Table<'_>, survey: &Survey, meant: &[&str]) {
    let used: HashSet<&str> = survey.references.iter().map(|reference| &*reference.pool.value).collect();
    if survey.finds_routes {
        return;
    }
    for pool in &survey.pools {
        if !used.contains(&*pool.value) && !meant.contains(&&*pool.value) {
            let mistake =
                Diagnostic::new(&codes::UNUSED_POOL, pool.span, format!("no service uses pool {}", quote(pool)));
            root.report(mistake.help("its endpoints would be probed for nobody"));
        }
    }
}

fn listeners(root: &Table<'_>, listeners: &[Listener]) {
    // By port, so that a thousand services do not cost a million comparisons.
    let mut by_port: HashMap<u16, Vec<&Listener>> = HashMap::new();
    for listener in listeners {
        let others = by_port.entry(listener.address.port()).or_default();
        if let Some(other) = others.iter().find(|other| other.address.overlaps(listener.address.value)) {
            let same = other.address.value == listener.address.value;
            let message = if same {
                format!("`{}` is listened on twice", listener.address.value)
            } else {
                format!("`{}` overlaps `{}`", listener.address.value, other.address.value)
            };
            root.report(
                Diagnostic::new(&codes::LISTEN_TAKEN, listener.address.span, message)
                    .label(listener.owner.clone())
                    .also(other.address.span, format!("already taken by {}", other.owner))
                    .help(if same {
                        "choose another port"
                    } else {
                        "name addresses that do not overlap, or another port"
                    }),
            );
        }
        others.push(listener);
    }
}

fn routes(root: &Table<'_>, service: &Service, l7: &L7) {
    let rules: Vec<Rule> = l7
        .routes
        .iter()
        .map(|route| Rule { pattern: route.pattern.value.clone(), priority: route.priority, conditions: 0 })
        .collect();
    for (index, by) in route::shadowed(&rules) {
        let (Some(route), Some(winner)) = (l7.routes.get(index), l7.routes.get(by)) else { continue };
        let same = route.pattern == winner.pattern && route.priority == winner.priority;
        let code = if same { &codes::SAME_ROUTE } else { &codes::SHADOWED_ROUTE };
        let what =
            route.url.as_ref().map_or_else(|| "the default route".to_owned(), |url| format!("route {}", quote(url)));
        let message = if same {
            format!("{what} of service {} is given twice", quote(&service.name))
        } else {
            let taker = winner
                .url
                .as_ref()
                .map_or_else(|| "the default route".to_owned(), |url| format!("route {}", quote(url)));
            format!("{what} of service {} can never win: {taker} takes its requests", quote(&service.name))
        };
        root.report(
            Diagnostic::new(code, route.pattern.span, message)
                .label("never reached")
                .also(winner.pattern.span, "this one takes its requests")
                .help(match (same, route.pattern == winner.pattern) {
                    (true, _) => "drop one of the two",
                    (false, true) => "drop it, or give it the higher priority",
                    (false, false) => "drop it: `/*` takes every path",
                }),
        );
    }
}

/// An endpoint that is the service's own listener sends every connection round until descriptors run out.
fn loops(root: &Table<'_>, config: &Config, service: &Service) {
    let mut pools: Vec<&Arc<str>> = match &service.traffic {
        Traffic::L4(l4) => vec![&l4.pool.value],
        Traffic::L7(l7) => l7.routes.iter().map(|route| &route.pool.value).collect(),
        // Listens nowhere; what it must not meet is its VIP.
        Traffic::Packet(_) => return,
    };
    pools.sort_unstable();
    pools.dedup();
    for pool in config.pools.iter().filter(|pool| pools.binary_search(&&pool.name.value).is_ok()) {
        for endpoint in &pool.endpoints {
            let own =
                endpoint.address.socket().and_then(|at| service.listen.iter().find(|listen| is_self(listen.value, at)));
            if let Some(own) = own {
                let message = format!(
                    "endpoint `{}` is the listener of service {} itself",
                    endpoint.address.value,
                    quote(&service.name)
                );
                root.report(
                    Diagnostic::new(&codes::LOOP, endpoint.address.span, message)
                        .also(own.span, "listens here")
                        .help("connections would go round in a circle"),
                );
            }
        }
    }
}

/// As far as the file alone can tell: which addresses this machine has is unknown, but loopback is one of them.
fn is_self(listen: Listen, endpoint: SocketAddr) -> bool {
    match listen {
        Listen::At(address) if !address.ip().is_unspecified() => address == endpoint,
        Listen::At(address) => {
            address.port() == endpoint.port() && endpoint.ip().is_loopback() && address.is_ipv4() == endpoint.is_ipv4()
        }
        Listen::Any(port) => port == endpoint.port() && endpoint.ip().is_loopback(),
    }
}

fn hashing(root: &Table<'_>, config: &Config, pool: &Pool, references: &[Reference]) {
    let Some(by) = HashBy::of(&pool.balance) else { return };
    if by.needs_http()
        && let Some(user) = references.iter().find(|r| r.user != User::Requests && r.pool.value == pool.name.value)
    {
        let mode = user.user.mode();
        let message = format!("pool {} is sticky by `{by}`, which an {mode} service does not see", quote(&pool.name));
        root.report(
            Diagnostic::new(&codes::KEY_NEEDS_HTTP, pool.balance.span, message)
                .also(user.pool.span, format!("used by {mode} service {}", quote(&user.service)))
                .help(format!("use `key = \"source-address\"`, or give the {mode} service a pool of its own")),
        );
    }
    if config.cluster.hash_key.is_none() && balance::find(pool.balance.name).is_some_and(|spec| spec.uses.hash) {
        let message = format!("pool {} is sticky, but the hash key is random", quote(&pool.name));
        // A default stands nowhere.
        let span = if pool.balance.span.is_empty() { pool.name.span } else { pool.balance.span };
        root.report(
            Diagnostic::new(&codes::RANDOM_HASH_KEY, span, message)
                .label("after a restart, clients move to other endpoints")
                .help("set `hash_key` in [cluster], the same on every node"),
        );
    }
}

/// A preference for a zone needs to know which.
fn zones(root: &Table<'_>, config: &Config, pool: &Pool) {
    let Some(zones) = &pool.zones else { return };
    let Some(own) = &config.cluster.zone else {
        let message = format!("pool {} prefers its zone, and which that is stands nowhere", quote(&pool.name));
        let mistake = Diagnostic::new(&codes::MISPLACED, zones.span, message);
        return root.report(mistake.help("name this node's: `zone = \"a\"` in [cluster]"));
    };
    // Where a source has endpoints is known later.
    if pool.source.is_some() || pool.endpoints.iter().any(|endpoint| endpoint.zone.as_ref() == Some(own)) {
        return;
    }
    let named: Vec<&str> = pool.endpoints.iter().filter_map(|endpoint| endpoint.zone.as_deref()).collect();
    let message = format!("pool {} prefers zone {}, and no endpoint is there", quote(&pool.name), quote(own));
    let help = match suggest::nearest(own, named.iter().copied()) {
        Some(near) => format!("did you mean `{near}`"),
        None => "give its endpoints there a `zone`, or leave `zones` out".to_owned(),
    };
    root.report(Diagnostic::new(&codes::MISPLACED, zones.span, message).help(help));
}
