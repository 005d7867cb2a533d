//! Tests of what labels come to: one container or several, and the tables of a file that listen to them.

mod address;
mod labels;
mod reach;

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{self, Attachment, Container, Event, Health, Id, Listed, State, What};
use super::gather::{Rules, finding};
use super::world::{Answer, World};
use crate::base::{Moment, limits};
use crate::doc::{Field, Grammar, Kind, Settings, Value};
use crate::seam::source::{Failure, Finding, Owner, Trouble};

const NOW: Moment = Moment::from_millis(1_000);

static TCP: Grammar = Grammar {
    name: "tcp",
    summary: "",
    fields: &[Field::default("interval", TIME, "2s", ""), Field::default("timeout", TIME, "500ms", "")],
    example: "",
};
const TIME: Kind =
    Kind::Duration { min: std::time::Duration::from_millis(50), max: std::time::Duration::from_secs(3600) };
static ICMP: Grammar = Grammar { name: "icmp", summary: "", fields: &[], example: "" };
static HTTP: Grammar = Grammar {
    name: "http",
    summary: "",
    fields: &[
        Field::default("path", Kind::Text, "/", ""),
        Field::default("rise", Kind::Integer { min: 1, max: 100 }, "2", ""),
        Field::default("interval", TIME, "2s", ""),
        crate::seam::probe::THROUGH,
    ],
    example: "",
};

/// A running container on network `edge`, `10.0.0.N`, with port 8080 exposed. The lower its number, the older it is.
fn container(n: u8, labels: &[(&str, &str)]) -> Container {
    let body = format!(
        r#"{{"Id":"{n:064x}","Name":"/web-{n}","State":{{"Status":"running"}},
        "Config":{{"ExposedPorts":{{"8080/tcp":{{}}}}}},"HostConfig":{{"NetworkMode":"edge"}},
        "NetworkSettings":{{"Networks":{{"edge":{{"IPAddress":"10.0.0.{n}","GlobalIPv6Address":"fd00::{n}"}}}}}}}}"#
    );
    let mut read = facts::container(body.as_bytes()).unwrap();
    read.created = u64::from(n);
    read.labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    read
}

fn listed(one: &Container) -> Listed {
    Listed { id: one.id.clone(), name: one.name.clone(), labels: one.labels.clone() }
}

fn world(containers: &[Container], own: Option<&Container>) -> World {
    let mut world = World::new("strata.", own.iter().map(|own| own.id.as_str().to_owned()).collect());
    let all: Vec<&Container> = containers.iter().chain(own).collect();
    let list: Vec<Listed> = all.iter().map(|one| listed(one)).collect();
    world.listed(&list);
    while let Some(id) = world.next(NOW) {
        let one = all.iter().find(|one| one.id == id);
        world.answered(&id, one.map_or(Answer::Gone, |one| Answer::Is(Box::new((*one).clone()))), NOW);
    }
    world
}

fn rules(settings: &[(&'static str, &str)]) -> Rules {
    let mut all = Settings::defaults(&super::SPEC.grammar);
    for (key, value) in settings {
        let value =
            if *key == "allow" { Value::Texts(vec![(*value).to_owned()]) } else { Value::Text((*value).to_owned()) };
        all.values.insert(key, value);
    }
    Rules::of(&all, &[&TCP, &HTTP, &ICMP])
}

fn owners(names: &[&str]) -> BTreeSet<Owner> {
    names
        .iter()
        .map(|name| match name.split_once('.').unwrap() {
            ("pool", name) => Owner::Pool(name.into()),
            (_, name) => Owner::Service(name.into()),
        })
        .collect()
}

/// What every table gets, as lines.
fn told(world: &World, rules: &Rules, names: &[&str]) -> Vec<String> {
    let owners = owners(names);
    owners.iter().flat_map(|owner| lines(owner, &finding(world, rules, owner, &owners))).collect()
}

fn lines(owner: &Owner, finding: &Finding) -> Vec<String> {
    let member = |member: &crate::seam::source::Member| {
        let zone = member.zone.as_ref().map_or(String::new(), |zone| format!(" in {zone}"));
        let backup = if member.backup { " backup" } else { "" };
        let leaving = if member.leaving { " leaving" } else { "" };
        format!("{} x{}{zone}{backup}{leaving}", member.address, member.weight.get())
    };
    let mut lines: Vec<String> = finding.members.iter().map(|found| format!("{owner}: {}", member(found))).collect();
    for route in &finding.routes {
        let url = route.url.as_deref().unwrap_or("*");
        lines.push(format!("{owner}: {url} @{} -> {} ({})", route.priority, route.pool, route.from));
    }
    for pool in &finding.pools {
        let members: Vec<String> = pool.members.iter().map(member).collect();
        let said = |settings: &Option<Settings>| settings.as_ref().map(|said| serde_json::to_string(said).unwrap());
        let (balance, probe) = (said(&pool.balance), said(&pool.probe));
        lines.push(format!("{owner}: pool {} [{}] {balance:?} {probe:?}", pool.name, members.join(", ")));
    }
    for mistake in &finding.mistakes {
        let help = mistake.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        lines.push(format!("{owner}! {} {}: {}{help}", mistake.why.word(), mistake.place, mistake.message));
    }
    lines
}

/// What `pool.web` is told of one container with these labels.
fn told_of(labels: &[(&str, &str)]) -> Vec<String> {
    let mut all = vec![("com.docker.compose.service", "web")];
    all.extend(labels);
    told(&world(&[container(1, &all)], None), &rules(&[]), &["pool.web"])
}

#[test]
fn a_container_that_is_out_keeps_its_routes_and_gets_no_work() {
    let labels = [("strata.pool", "new"), ("strata.url", "/x")];
    for (state, health) in
        [(State::Paused, Health::Unchecked), (State::Running, Health::Starting), (State::Running, Health::Unhealthy)]
    {
        let told =
            told(&world(&[Container { state, health, ..container(1, &labels) }], None), &rules(&[]), &["service.edge"]);
        assert_eq!(told, ["service.edge: /x @0 -> new (container web-1)", "service.edge: pool new [] None None"]);
    }
    let gone = world(&[Container { state: State::Stopped, ..container(1, &labels) }], None);
    assert_eq!(told(&gone, &rules(&[]), &["service.edge"]), Vec::<String>::new());
}

#[test]
fn an_engine_whose_answers_are_of_no_use_is_told_of() {
    let one = container(1, &[("strata.pool", "web")]);
    let mut seen = world(std::slice::from_ref(&one), None);
    seen.happened(&Event { id: one.id.clone(), what: What::Changed, time: 0, labels: BTreeMap::new() }, NOW);
    let id = seen.next(NOW).unwrap();
    seen.answered(&id, failed("expected value at line 1 column 1"), NOW);
    assert_eq!(
        told(&seen, &rules(&[]), &["pool.web"]),
        [
            "pool.web: 10.0.0.1:8080 x1",
            "pool.web! malformed container 000000000000: the engine's answer about it is of no use: expected value at line 1 column 1",
        ]
    );
}

fn failed(words: &str) -> Answer {
    Answer::Failed(Failure::new(Trouble::Refused, words))
}

#[test]
fn a_pool_may_be_empty_where_every_container_is_known() {
    let (web, other) = (container(1, &[("strata.pool", "web")]), container(2, &[("strata.pool", "other")]));
    let owners = owners(&["pool.web"]);
    let told = |seen: &World| finding(seen, &rules(&[]), owners.first().unwrap(), &owners);
    let mut seen = World::new("strata.", Vec::new());
    seen.listed(&[listed(&web), listed(&other)]);
    while let Some(id) = seen.next(NOW) {
        seen.answered(&id, failed("status 403"), NOW);
    }
    let unseen = |seen: &World| told(seen).unseen.into_iter().map(|name| name.to_string()).collect::<Vec<_>>();
    assert!(!told(&seen).may_be_empty);
    assert_eq!(unseen(&seen), ["container web-1", "container web-2"]);
    assert_eq!(seen.speechless().map(|failure| failure.message).as_deref(), Some("status 403"));
    // One of the two answers: the source works, and whom the other belongs to is still not known.
    seen.answered(&other.id, Answer::Is(Box::new(other.clone())), NOW);
    assert_eq!(seen.speechless(), None);
    assert_eq!(
        (told(&seen).members.len(), told(&seen).may_be_empty, unseen(&seen)),
        (0, false, vec!["container web-1".into()])
    );
    // However long that lasts, it may be of this pool: there is nobody yet to be in its place.
    let mut long = World::new("strata.", Vec::new());
    long.listed(&[listed(&web), listed(&other)]);
    while let Some(id) = long.next(NOW) {
        let answer = if id == other.id { Answer::Is(Box::new(other.clone())) } else { failed("status 403") };
        long.answered(&id, answer, NOW);
    }
    for (seconds, unseen_then) in [(59, 1), (60, 0), (3600, 0)] {
        long.pass(NOW + std::time::Duration::from_secs(seconds));
        let told = told(&long);
        let unknown: Vec<&str> = told.unknown.iter().map(|name| &**name).collect();
        assert_eq!((told.may_be_empty, told.unseen.len(), unknown), (false, unseen_then, vec!["container web-1"]));
    }
    seen.answered(&web.id, Answer::Is(Box::new(web.clone())), NOW);
    assert_eq!((told(&seen).members.len(), told(&seen).may_be_empty, unseen(&seen)), (1, true, vec![]));
    // What is known of one stays when it is asked for in vain.
    seen.answered(&web.id, failed("status 403"), NOW);
    assert_eq!((told(&seen).members.len(), told(&seen).may_be_empty), (1, true));
    assert!(finding(&World::new("strata.", Vec::new()), &rules(&[]), owners.first().unwrap(), &owners).may_be_empty);
}

#[test]
fn settings_of_the_source_are_checked() {
    for (check, right, wrong) in [
        (
            super::check_prefix as fn(&str) -> Result<(), String>,
            &["strata.", "com.example.lb.", "a-b_c."][..],
            &["", ".", "strata", "a b.", "é."][..],
        ),
        (
            super::check_host,
            &["192.0.2.1", "2001:db8::1", "127.0.0.1"],
            &["", "host", "0.0.0.0", "::", "224.0.0.1", "192.0.2.1:80"],
        ),
        (super::check_network, &["edge", "shop_default", "my net"], &["", "a\nb"]),
    ] {
        for text in right {
            assert_eq!(check(text), Ok(()), "{text:?}");
        }
        for text in wrong {
            assert!(check(text).is_err(), "{text:?}");
        }
    }
}
