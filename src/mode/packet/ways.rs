//! Io: the way to each endpoint as the kernel has it, and what is said of those that have none.
//!
//! Many services may share an endpoint, and many endpoints an interface: each is asked for once in one look. And many may lose their way
//! at once, with one route: that is one line for a pool, not one for each.
//!
//! Not here: for whom a way is looked for, and what becomes of who has none (`engine`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::observe::packets::Wayless;
use crate::sys::link::{self, Link};
use crate::sys::neighbour::Asker;

/// One look at the ways to addresses.
pub(super) struct Ways {
    asker: Result<Asker, String>,
    links: HashMap<u32, Result<Link, String>>,
    known: HashMap<IpAddr, Result<Link, String>>,
}

impl Ways {
    pub fn look() -> Ways {
        let asker = Asker::open().map_err(|error| error.to_string());
        Ways { asker, links: HashMap::new(), known: HashMap::new() }
    }

    /// The interface that the way to an address leads out by.
    ///
    /// # Errors
    /// What the kernel says where there is none.
    pub fn to(&mut self, address: IpAddr) -> Result<&Link, &str> {
        let Ways { asker, links, known } = self;
        let ask = || {
            let asker = asker.as_mut().map_err(|error| error.clone())?;
            let index = asker.route(address).map_err(|error| error.to_string())?.interface;
            links.entry(index).or_insert_with(|| link::by_index(index).map_err(|error| error.to_string())).clone()
        };
        known.entry(address).or_insert_with(ask).as_ref().map_err(String::as_str)
    }
}

/// What is to be said of a pool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub pool: Arc<str>,
    /// Whom it is about, where it is one.
    pub endpoint: Option<Arc<str>>,
    pub text: String,
}

/// What to say of those that have no way `now` and had one before.
pub(super) fn lost(before: &[Wayless], now: &[Wayless]) -> Vec<Said> {
    let say = |why: &str, names: &[&Arc<str>]| match names {
        [_] => {
            format!("no way to it: {why}: its packets are dropped until there is one, which is looked for each second")
        }
        all => {
            let (count, few) = (all.len(), few(all));
            format!(
                "no way to {count} endpoints, {few}: {why}: their packets are dropped until there is one, which is looked for each second"
            )
        }
    };
    said(new(before, now), |one| &one.why, say)
}

/// What to say of those that had none before and are not without one now: there is one, or they are gone.
pub(super) fn found(before: &[Wayless], now: &[Wayless]) -> Vec<Said> {
    let say = |_: &str, names: &[&Arc<str>]| match names {
        [_] => "it is not without a way any more".to_owned(),
        all => format!("{} endpoints are not without a way any more: {}", all.len(), few(all)),
    };
    said(new(now, before), |_| "", say)
}

/// Those of `now` that are not among `before`.
fn new<'a>(before: &[Wayless], now: &'a [Wayless]) -> impl Iterator<Item = &'a Wayless> {
    let before: HashSet<(Arc<str>, Arc<str>)> =
        before.iter().map(|one| (one.pool.clone(), one.endpoint.clone())).collect();
    now.iter().filter(move |one| !before.contains(&(one.pool.clone(), one.endpoint.clone())))
}

/// One line for all of a pool that have the same cause.
fn said<'a>(
    all: impl Iterator<Item = &'a Wayless>,
    cause: fn(&Wayless) -> &str,
    say: impl Fn(&str, &[&Arc<str>]) -> String,
) -> Vec<Said> {
    let mut pools: BTreeMap<(&Arc<str>, &str), Vec<&Arc<str>>> = BTreeMap::new();
    for one in all {
        pools.entry((&one.pool, cause(one))).or_default().push(&one.endpoint);
    }
    let line = |((pool, why), names): ((&Arc<str>, &str), Vec<&Arc<str>>)| {
        let endpoint = if let [one] = &names[..] { Some(Arc::clone(one)) } else { None };
        Said { pool: pool.clone(), endpoint, text: say(why, &names) }
    };
    pools.into_iter().map(line).collect()
}

/// The first few of many names.
fn few(names: &[&Arc<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).map(|name| &***name).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

const SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::MacAddr;
    use crate::sys::netns::namespaces;

    fn wayless(pool: &str, numbers: std::ops::Range<u8>, why: &str) -> Vec<Wayless> {
        let one = |n| Wayless { pool: pool.into(), endpoint: format!("10.0.0.{n}").into(), why: why.to_owned() };
        numbers.map(one).collect()
    }

    #[test]
    fn of_those_that_lose_their_way_at_once_a_few_are_named_in_one_line_of_their_pool() {
        let all = [
            wayless("game", 1..40, "unreachable"),
            wayless("web", 1..2, "unreachable"),
            wayless("web", 7..9, "prohibited"),
        ];
        let all = all.concat();
        let words = |said: &[Said]| -> Vec<String> {
            let word =
                |said: &Said| format!("{}/{}: {}", said.pool, said.endpoint.as_deref().unwrap_or("*"), said.text);
            said.iter().map(word).collect()
        };
        let until = "until there is one, which is looked for each second";
        assert_eq!(
            words(&lost(&[], &all)),
            [
                format!(
                    "game/*: no way to 39 endpoints, 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 and 35 more: unreachable: \
                     their packets are dropped {until}"
                ),
                format!(
                    "web/*: no way to 2 endpoints, 10.0.0.7, 10.0.0.8: prohibited: their packets are dropped {until}"
                ),
                format!("web/10.0.0.1: no way to it: unreachable: its packets are dropped {until}"),
            ]
        );
        assert!(lost(&all, &all).is_empty(), "it is said once");
        let first = |of: &[Wayless]| lost(of, &all).len();
        assert_eq!([first(&all[..39]), first(&all[39..])], [2, 1]);
        assert_eq!(
            words(&found(&all, &all[40..])),
            [
                "game/*: 39 endpoints are not without a way any more: 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 and 35 more",
                "web/10.0.0.1: it is not without a way any more",
            ]
        );
    }

    #[test]
    fn in_one_look_an_address_is_asked_for_once() {
        let Some([here, there]) = namespaces() else { return };
        here.cable(("near", MacAddr([2, 0, 0, 0, 0, 1])), &there, ("far", MacAddr([2, 0, 0, 0, 0, 2])));
        here.sh("ip addr add 10.0.0.1/24 dev near");
        here.run(|| {
            let address = [10, 0, 0, 41].into();
            let mut ways = Ways::look();
            assert_eq!(ways.to(address).map(|link| link.name.clone()), Ok("near".to_owned()));
            here.sh("ip route del 10.0.0.0/24");
            assert!(ways.to(address).is_ok(), "as it was found");
            assert!(ways.to([10, 0, 0, 42].into()).is_err() && Ways::look().to(address).is_err());
        });
    }
}
