//! Engine: what all containers together ask for, and which of it each table of the file gets.
//!
//! A container reaches only what the file opened: the pools that have a `source` of this engine, by name, and, where a service has one,
//! pools that no file has, by routes of that service. Who said it first keeps it: containers are looked at oldest first, and those
//! that leave last, so that nobody takes over another's route or pool by starting later, and a new release takes over from the
//! old one when that goes.
//!
//! Not here: whether the file says otherwise, and whether an address may be used there at all (`config::found`).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::address;
use super::facts::Container;
use super::labels::{self, Claims, Wish};
use super::settings::{self, Wrong};
use super::world::{Standing, World};
use crate::balance;
use crate::base::limits;
use crate::doc::{Grammar, Settings, quote, suggest};
use crate::seam::source::{Finding, Member, Mistake, Owner, Pool, Refusal, Route};

/// What the file says of the source.
pub struct Rules {
    pub prefix: String,
    pub network: Option<String>,
    pub ipv6: bool,
    /// Where containers in the network of their host are reached.
    pub host: Option<IpAddr>,
    pub settings: Settings,
    /// Probes that labels may ask for.
    probes: Vec<&'static Grammar>,
}

impl Rules {
    pub fn of(settings: &Settings, probes: &[&'static Grammar]) -> Rules {
        let text = |field| settings.text(field).map(str::to_owned);
        Rules {
            prefix: text("labels").unwrap_or_default(),
            network: text("network"),
            ipv6: settings.text("family") == Some("ipv6"),
            host: settings.text("host").and_then(|host| host.parse().ok()),
            settings: settings.clone(),
            probes: probes.iter().copied().filter(|grammar| PROBES.contains(&grammar.name)).collect(),
        }
    }
}

/// A container that takes part.
struct Taken<'w> {
    container: &'w Container,
    standing: Standing,
    claims: Claims,
}

/// Who asked for a route first, of which service, and how.
type First<'a> = (&'a Container, Arc<str>, Wish);

/// What there is, before it is known who asks.
struct Survey<'w> {
    rules: &'w Rules,
    owners: &'w BTreeSet<Owner>,
    taken: Vec<Taken<'w>>,
    /// By the pool that they have to do with, where that is known.
    mistakes: Vec<(Option<Arc<str>>, Mistake)>,
}

/// What the table `owner` gets, of those that listen to this engine.
pub fn finding(world: &World, rules: &Rules, owner: &Owner, owners: &BTreeSet<Owner>) -> Finding {
    let mut survey = Survey::of(world, rules, owners);
    let members = survey.members(world);
    let routes = survey.routes();
    // An engine knows who is there; but one of which nothing is known may be of any pool.
    let unseen = world.unseen().map(|name| labels::place_of(&name).into()).collect();
    let unknown = world.unknown().map(|name| labels::place_of(&name).into()).collect();
    let mut finding = Finding { may_be_empty: !world.has_unknown(), unseen, unknown, ..Finding::default() };
    match owner {
        Owner::Pool(name) => {
            finding.members = members.get(name).cloned().unwrap_or_default();
            if members.contains_key(name) {
                survey.refuse_settings(name);
            }
        }
        Owner::Service(name) => {
            finding.routes =
                routes.iter().filter(|(service, _)| *service == *name).map(|(_, route)| route.clone()).collect();
        }
    }
    // Pools that only labels name: all of them are looked at, so that all mistakes are found, whoever asks. Those of the file are told as
    // well where a route leads there: a reload that leaves one to the labels has it from what was told before.
    for (name, members) in &members {
        let of_file = owners.contains(&Owner::Pool(name.clone()));
        let reached = |route: &&(Arc<str>, Route)| route.1.pool == *name;
        if !routes.iter().any(|route| reached(&route)) {
            if !of_file {
                survey.unreached(name);
            }
            continue;
        }
        let before = survey.mistakes.len();
        let pool = survey.pool(name, members.clone());
        if of_file {
            // Labels set nothing there, which its own source tells.
            survey.mistakes.truncate(before);
        }
        if let Owner::Service(service) = owner
            && routes.iter().filter(reached).any(|(of, _)| of == service)
        {
            finding.pools.push(pool);
        }
    }
    for (id, why) in world.troubles() {
        let message = format!("the engine's answer about it is of no use: {why}");
        survey.mistakes.push((None, Mistake::new(Refusal::Malformed, format!("container {id}"), message)));
    }
    if world.left_out() > 0 {
        let message = format!("{} containers more than the {} that fit", world.left_out(), limits::DOCKER_CONTAINERS);
        survey.mistakes.push((None, Mistake::new(Refusal::TooMany, "containers", message)));
    }
    let tells = |pool: &Option<Arc<str>>| survey.teller(pool.as_ref()) == Some(owner);
    finding.mistakes =
        survey.mistakes.iter().filter(|(pool, _)| tells(pool)).map(|(_, mistake)| mistake.clone()).collect();
    finding
}

impl<'w> Survey<'w> {
    fn of(world: &'w World, rules: &'w Rules, owners: &'w BTreeSet<Owner>) -> Survey<'w> {
        let mut survey = Survey { rules, owners, taken: Vec::new(), mistakes: Vec::new() };
        for (container, standing) in world.containers() {
            let mut mistakes = Vec::new();
            let claims = labels::read(container, &rules.prefix, &mut mistakes);
            let pool = claims.as_ref().map(|claims| claims.pool.clone());
            survey.mistakes.extend(mistakes.into_iter().map(|mistake| (pool.clone(), mistake)));
            if let Some(claims) = claims {
                survey.taken.push(Taken { container, standing, claims });
            }
        }
        // Stable: the oldest stay first.
        survey.taken.sort_by_key(|taken| taken.standing == Standing::Leaving);
        survey
    }

    /// Who tells of what has to do with a pool: its own source; else a service's, which may bring pools; else anybody, but one.
    fn teller(&self, pool: Option<&Arc<str>>) -> Option<&Owner> {
        let own = pool.and_then(|pool| self.owners.get(&Owner::Pool(pool.clone())));
        own.or_else(|| self.services().next()).or_else(|| self.owners.first())
    }

    fn services(&self) -> impl Iterator<Item = &'w Owner> {
        self.owners.iter().filter(|owner| matches!(owner, Owner::Service(_)))
    }

    fn service_names(&self) -> Vec<&'w Arc<str>> {
        let name = |owner: &'w Owner| match owner {
            Owner::Service(name) => Some(name),
            Owner::Pool(_) => None,
        };
        self.owners.iter().filter_map(name).collect()
    }

    fn pool_names(&self) -> Vec<&'w str> {
        let name = |owner: &'w Owner| match owner {
            Owner::Pool(name) => Some(&**name),
            Owner::Service(_) => None,
        };
        self.owners.iter().filter_map(name).collect()
    }

    /// Members by the pool that they claim, open or not; a pool whose containers are all out is there without any.
    fn members(&mut self, world: &World) -> BTreeMap<Arc<str>, Vec<Member>> {
        let mut members: BTreeMap<Arc<str>, Vec<Member>> = BTreeMap::new();
        let mut said: BTreeMap<(Arc<str>, crate::base::EndpointAddr), usize> = BTreeMap::new();
        for (nth, Taken { container, standing, claims }) in self.taken.iter().enumerate() {
            let pool = members.entry(claims.pool.clone()).or_default();
            let address = match address::of(container, claims, world, self.rules) {
                Ok(address) => address,
                Err(mistake) => {
                    self.mistakes.push((Some(claims.pool.clone()), mistake));
                    continue;
                }
            };
            let leaving = match standing {
                Standing::Serving => false,
                Standing::Leaving => true,
                Standing::Out(_) => continue,
            };
            match said.entry((claims.pool.clone(), address)) {
                Entry::Vacant(place) => drop(place.insert(nth)),
                Entry::Occupied(place) => {
                    let first = self.taken.get(*place.get()).map(|taken| &taken.container.name);
                    let first = first.map_or("another", |name| name);
                    if !leaving {
                        let message = format!("`{address}` is the address of container {first} already");
                        let mistake = Mistake::new(Refusal::Conflict, labels::place(container), message);
                        self.mistakes.push((Some(claims.pool.clone()), mistake));
                    }
                    continue;
                }
            }
            let Claims { weight, backup, zone, .. } = claims.clone();
            pool.push(Member { weight, backup, zone, leaving, ..Member::new(address, labels::place(container)) });
        }
        members
    }

    /// Routes by the service that they are for.
    fn routes(&mut self) -> Vec<(Arc<str>, Route)> {
        let claimed: BTreeSet<Arc<str>> = self.taken.iter().map(|taken| taken.claims.pool.clone()).collect();
        let mut first: BTreeMap<(Arc<str>, String), First<'_>> = BTreeMap::new();
        let mut routes = Vec::new();
        let mut mistakes = Vec::new();
        for Taken { container, standing, claims } in &self.taken {
            for wish in &claims.routes {
                let (service, pool) = match self.target(container, claims, wish, &claimed) {
                    Ok(target) => target,
                    Err(mistake) => {
                        mistakes.push((Some(claims.pool.clone()), mistake));
                        continue;
                    }
                };
                match first.entry((claims.pool.clone(), wish.name.clone())) {
                    Entry::Vacant(place) => drop(place.insert((container, service.clone(), wish.clone()))),
                    Entry::Occupied(place) => {
                        let (other, of, said) = place.get();
                        let same = *of == service
                            && (&said.pattern, said.priority, &said.pool) == (&wish.pattern, wish.priority, &wish.pool);
                        // One that leaves is of the release before.
                        if !same && *standing != Standing::Leaving {
                            mistakes.push((Some(claims.pool.clone()), self.differs(container, other, wish, said)));
                        }
                        continue;
                    }
                }
                let (url, pattern) = (Some(wish.url.clone()), wish.pattern.clone());
                let from = Arc::from(labels::place(container));
                routes.push((service, Route { url, pattern, priority: wish.priority, pool, from }));
            }
        }
        self.mistakes.append(&mut mistakes);
        routes
    }

    /// The service and pool of a route, where both are open.
    fn target(
        &self,
        container: &Container,
        claims: &Claims,
        wish: &Wish,
        claimed: &BTreeSet<Arc<str>>,
    ) -> Result<(Arc<str>, Arc<str>), Mistake> {
        let place = |part: &str| self.label(container, &route_key(wish, part));
        let services = self.service_names();
        let one_of = || suggest::one_of(services.iter().map(|name| &***name));
        let service = match (&wish.service, services.as_slice()) {
            (_, []) => {
                let message = "no service of the file takes routes of containers".to_owned();
                let help = "give it `source = { type = \"docker\" }` there, or leave the label out";
                return Err(Mistake::new(Refusal::Closed, place("url"), message).help(help));
            }
            (Some(named), services) => {
                let open = services.iter().find(|name| ****name == **named);
                let Some(open) = open else {
                    let message = format!("service {} takes no routes of containers", quote(named));
                    let help = match suggest::nearest(named, services.iter().map(|name| &***name)) {
                        Some(meant) => format!("did you mean `{meant}`"),
                        None => format!("{} does", one_of()),
                    };
                    return Err(Mistake::new(Refusal::Closed, place("service"), message).help(help));
                };
                (*open).clone()
            }
            (None, [only]) => (*only).clone(),
            (None, _) => {
                let message = "several services take routes of containers".to_owned();
                let name = if wish.name.is_empty() { "NAME" } else { &wish.name };
                let help = format!("name one in `{}route.{name}.service`: {}", self.rules.prefix, one_of());
                return Err(Mistake::new(Refusal::Conflict, place("url"), message).help(help));
            }
        };
        let pool = wish.pool.clone().unwrap_or_else(|| claims.pool.clone());
        if !claimed.contains(&pool) && !self.owners.contains(&Owner::Pool(pool.clone())) {
            let message = format!("no container is in pool {}, nor does the file open it", quote(&pool));
            let known = claimed.iter().map(|name| &**name).chain(self.pool_names());
            let mistake = Mistake::new(Refusal::NoPool, place("pool"), message);
            return Err(match suggest::nearest(&pool, known.collect::<Vec<_>>()) {
                Some(meant) => mistake.help(format!("did you mean `{meant}`")),
                None => mistake,
            });
        }
        Ok((service, pool))
    }

    fn differs(&self, container: &Container, other: &Container, wish: &Wish, said: &Wish) -> Mistake {
        let part = match (said.pattern != wish.pattern, said.priority != wish.priority, said.pool != wish.pool) {
            (true, _, _) => "url",
            (_, true, _) => "priority",
            (_, _, true) => "pool",
            _ => "service",
        };
        let message = format!("container {}, of the same pool, says otherwise, and was first", other.name);
        let help = "what the older one says holds until it is gone; another route has another name";
        Mistake::new(Refusal::Conflict, self.label(container, &route_key(wish, part)), message).help(help)
    }

    /// A pool that no file has.
    fn pool(&mut self, name: &Arc<str>, members: Vec<Member>) -> Pool {
        let mut said: BTreeMap<&str, (&Container, &str)> = BTreeMap::new();
        let mut mistakes = Vec::new();
        let of_pool = self.taken.iter().filter(|taken| taken.claims.pool == *name);
        let from = of_pool.clone().next().map_or_else(String::new, |taken| labels::place(taken.container));
        for Taken { container, standing, claims } in of_pool {
            for (key, text) in &claims.settings {
                let (first, before) = *said.entry(key).or_insert((container, text));
                if before != text && *standing != Standing::Leaving {
                    let message =
                        format!("container {}, of the same pool, says {}, and was first", first.name, quote(before));
                    mistakes.push(Mistake::new(Refusal::Conflict, self.label(container, key), message));
                }
            }
        }
        let texts: BTreeMap<&str, &str> = said.iter().map(|(key, (_, text))| (*key, *text)).collect();
        let mut wrong = Vec::new();
        let balance = settings::decode(&self.rules.prefix, "balance", &texts, &pickers(), None, &mut wrong);
        let probe = settings::decode(&self.rules.prefix, "probe", &texts, &self.rules.probes, Some("http"), &mut wrong);
        let probe =
            probe.map(|probe| settings::in_time(probe, &self.rules.prefix, &texts, &self.rules.probes, &mut wrong));
        for Wrong { key, unknown, message, help } in wrong {
            let by = said
                .get(key.as_str())
                .or_else(|| said.iter().find(|(said, _)| said.starts_with(&key)).map(|(_, by)| by));
            let Some((container, _)) = by else { continue };
            let why = if unknown { Refusal::Unknown } else { Refusal::Malformed };
            let mistake = Mistake::new(why, self.label(container, &key), message);
            mistakes.push(match help {
                Some(help) => mistake.help(help),
                None => mistake,
            });
        }
        self.mistakes.extend(mistakes.into_iter().map(|mistake| (Some(name.clone()), mistake)));
        Pool { name: name.clone(), members, balance, probe, from: from.into() }
    }

    /// Labels that set what the file sets.
    fn refuse_settings(&mut self, name: &Arc<str>) {
        let mut mistakes = Vec::new();
        for Taken { container, claims, .. } in self.taken.iter().filter(|taken| taken.claims.pool == *name) {
            for key in claims.settings.keys() {
                let message = format!("pool {} stands in the file, and so do its settings", quote(name));
                let mistake = Mistake::new(Refusal::Conflict, self.label(container, key), message);
                mistakes.push((Some(name.clone()), mistake.help("leave the label out")));
            }
        }
        self.mistakes.append(&mut mistakes);
    }

    /// A pool that is not open, and that no route makes.
    fn unreached(&mut self, name: &Arc<str>) {
        let open = self.pool_names();
        let may_route = self.services().next().is_some();
        let mut mistakes = Vec::new();
        for Taken { container, .. } in self.taken.iter().filter(|taken| taken.claims.pool == *name) {
            let message = format!("pool {} is not open to containers", quote(name));
            let mistake = Mistake::new(Refusal::Closed, labels::place(container), message);
            let help = match suggest::nearest(name, open.iter().copied()) {
                Some(meant) => format!("did you mean `{}pool={meant}`", self.rules.prefix),
                None if may_route => {
                    format!("give it a route: `{}url=…`; or open `[pool.{name}]` in the file", self.rules.prefix)
                }
                None => format!("open it in the file: `source = {{ type = \"docker\" }}` in [pool.{name}]"),
            };
            mistakes.push((Some(name.clone()), mistake.help(help)));
        }
        self.mistakes.append(&mut mistakes);
    }

    fn label(&self, container: &Container, key: &str) -> String {
        labels::label_place(container, &self.rules.prefix, key)
    }
}

fn route_key(wish: &Wish, part: &str) -> String {
    if wish.name.is_empty() { "url".to_owned() } else { format!("route.{}.{part}", wish.name) }
}

fn pickers() -> Vec<&'static Grammar> {
    balance::CATALOG.iter().map(|spec| &spec.grammar).collect()
}

/// Those that need no privilege: a label must not make a whole configuration impossible.
const PROBES: [&str; 2] = ["tcp", "http"];
