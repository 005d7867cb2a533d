//! Tests of what labels come to: one container or several, and the tables of a file that listen to them.

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
fn labels_say_how_a_container_takes_part() {
    for (labels, want) in [
        (&[("strata.enable", "true")][..], "10.0.0.1:8080 x1"),
        (&[("strata.pool", "web")], "10.0.0.1:8080 x1"),
        (&[("strata.port", "9000")], "10.0.0.1:9000 x1"),
        (
            &[("strata.weight", "7"), ("strata.zone", "eu-1"), ("strata.backup", "true")],
            "10.0.0.1:8080 x7 in eu-1 backup",
        ),
        (&[("strata.weight", "7"), ("strata.backup", "false")], "10.0.0.1:8080 x7"),
        (&[("strata.network", "edge")], "10.0.0.1:8080 x1"),
    ] {
        assert_eq!(told_of(labels), [format!("pool.web: {want}")], "{labels:?}");
    }
    assert_eq!(told_of(&[("strata.enable", "false"), ("strata.prot", "x")]), Vec::<String>::new());
    assert_eq!(told_of(&[]), Vec::<String>::new());
}

#[test]
fn a_wrong_label_is_named_and_takes_with_it_as_little_as_can_be() {
    let serves = "pool.web: 10.0.0.1:8080 x1";
    for (labels, want) in [
        // Whether and where: the container is left out.
        (
            &[("strata.enable", "yes")][..],
            &["malformed strata.enable: `yes` is neither `true` nor `false`: the container is left out"][..],
        ),
        (
            &[("strata.port", "http")],
            &["malformed strata.port: `http` is no port from 1 to 65535: the container is left out"],
        ),
        (
            &[("strata.port", "0")],
            &["malformed strata.port: `0` is no port from 1 to 65535: the container is left out"],
        ),
        (
            &[("strata.weight", "0")],
            &[
                "malformed strata.weight: a weight of 0 leaves the container out (`strata.enable=false` takes it out without a word)",
            ],
        ),
        (
            &[("strata.pool", "a b")],
            &[
                "malformed strata.pool: `a b` cannot be the name of a pool (a name starts with a letter or digit and goes on with letters, \
               digits, `-`, `_` and `.`)",
            ],
        ),
        // How: it serves as if the label were absent.
        (
            &[("strata.weight", "heavy")],
            &[serves, "malformed strata.weight: `heavy` is no weight from 1 to 1000: it counts as 1"],
        ),
        (
            &[("strata.weight", "1001")],
            &[serves, "malformed strata.weight: `1001` is no weight from 1 to 1000: it counts as 1"],
        ),
        (
            &[("strata.backup", "1")],
            &[serves, "malformed strata.backup: `1` is neither `true` nor `false`: the label is ignored"],
        ),
        (
            &[("strata.zone", "a\u{1b}[2J")],
            &[serves, "malformed strata.zone: `a\\u{1b}[2J` is no zone: a word of 1 to 64 bytes: the label is ignored"],
        ),
        // Unknown: ignored.
        (&[("strata.wieght", "3")], &[serves, "unknown strata.wieght: unknown label (did you mean `strata.weight`)"]),
        (&[("strata.Pool", "x")], &[serves, "unknown strata.Pool: unknown label (did you mean `strata.pool`)"]),
        (
            &[("strata.http.routers.x.rule", "x")],
            &[
                serves,
                "unknown strata.http.routers.x.rule: unknown label (one of `enable`, `pool`, `port`, `network`, `weight`, `zone`, \
                 `backup`, `url`, `balance` or `probe`)",
            ],
        ),
        (
            &[("strata.\u{7}", "3")],
            &[
                serves,
                "unknown strata.\\u{7}: unknown label (one of `enable`, `pool`, `port`, `network`, `weight`, `zone`, \
                 `backup`, `url`, `balance` or `probe`)",
            ],
        ),
        (
            &[("strata.route.a b.url", "/x")],
            &[
                serves,
                "unknown strata.route.a b.url: unknown label (as in `strata.route.NAME.url`: letters, digits, `-` and `_`)",
            ],
        ),
        // The file's to say.
        (
            &[("strata.balance", "random")],
            &[
                serves,
                "conflict strata.balance: pool `web` stands in the file, and so do its settings (leave the label out)",
            ],
        ),
        // Nobody opened a service.
        (
            &[("strata.url", "/x")],
            &[
                serves,
                "closed strata.url: no service of the file takes routes of containers (give it `source = { type = \"docker\" }` \
                 there, or leave the label out)",
            ],
        ),
    ] {
        let told: Vec<String> = told_of(labels)
            .iter()
            .map(|line| line.replace("container web-1, label ", "").replace("pool.web! ", ""))
            .collect();
        assert_eq!(told, want, "{labels:?}");
    }
}

#[test]
fn more_labels_than_are_looked_at_leave_the_container_out() {
    let keys: Vec<String> = (0..=limits::DOCKER_LABELS).map(|n| format!("strata.x{n}")).collect();
    let labels: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "")).collect();
    let told = told_of(&labels);
    assert_eq!(told, ["pool.web! too-many container web-1: more than 64 labels that start with `strata.`"]);
    assert_eq!(told_of(&labels[1..]).len(), limits::DOCKER_LABELS + 1);
}

#[test]
fn a_pool_has_the_name_that_is_given_or_that_of_the_service_or_container() {
    for (labels, pool) in [
        (&[("strata.pool", "given"), ("com.docker.compose.service", "c")][..], "given"),
        (
            &[("strata.enable", "true"), ("com.docker.compose.service", "c"), ("com.docker.swarm.service.name", "s")],
            "c",
        ),
        (&[("strata.enable", "true"), ("com.docker.swarm.service.name", "s")], "s"),
        (&[("strata.enable", "true")], "web-1"),
    ] {
        let told = told(&world(&[container(1, labels)], None), &rules(&[]), &[&format!("pool.{pool}")]);
        assert_eq!(told, [format!("pool.{pool}: 10.0.0.1:8080 x1")]);
    }
    let nameless = container(1, &[("strata.enable", "true"), ("com.docker.compose.service", "-")]);
    let told = told(&world(&[nameless], None), &rules(&[]), &["pool.web"]);
    assert_eq!(
        told,
        [
            "pool.web! malformed container web-1, label strata.pool: `-` cannot be the name of a pool (name the pool: `strata.pool=…`)"
        ]
    );
}

#[test]
fn a_container_reaches_only_what_the_file_opened() {
    let one = container(1, &[("strata.pool", "wbe")]);
    let seen = world(&[one], None);
    assert_eq!(
        told(&seen, &rules(&[]), &["pool.api", "pool.web"]),
        ["pool.api! closed container web-1: pool `wbe` is not open to containers (did you mean `strata.pool=web`)"]
    );
    assert_eq!(
        told(&seen, &rules(&[]), &["pool.other"]),
        [
            "pool.other! closed container web-1: pool `wbe` is not open to containers (open it in the file: `source = { type = \"docker\" \
          }` in [pool.wbe])"
        ]
    );
    // A service may have pools that no file has, but only behind a route.
    assert_eq!(
        told(&seen, &rules(&[]), &["service.edge"]),
        [
            "service.edge! closed container web-1: pool `wbe` is not open to containers (give it a route: `strata.url=…`; or open \
          `[pool.wbe]` in the file)"
        ]
    );
    let one = container(
        1,
        &[
            ("strata.pool", "new"),
            ("strata.url", "/x"),
            ("strata.route.b.service", "admin"),
            ("strata.route.b.url", "/b"),
        ],
    );
    assert_eq!(
        told(&world(&[one], None), &rules(&[]), &["service.edge"]),
        [
            "service.edge: /x @0 -> new (container web-1)",
            "service.edge: pool new [10.0.0.1:8080 x1] None None",
            "service.edge! closed container web-1, label strata.route.b.service: service `admin` takes no routes of containers (`edge` does)",
        ]
    );
}

#[test]
fn routes_lead_to_the_containers_pool_or_to_another_that_is_open() {
    let labels = [
        ("strata.pool", "web"),
        ("strata.url", "a.test/*"),
        ("strata.route.api.url", "a.test/api/*"),
        ("strata.route.api.priority", "-5"),
        ("strata.route.api.pool", "api"),
        ("strata.route.api.service", "edge"),
        ("strata.route.bad.url", "http://a.test"),
        ("strata.route.bad.priority", "high"),
        ("strata.route.none.pool", "apl"),
        ("strata.route.lost.url", "/lost"),
        ("strata.route.lost.pool", "apl"),
        ("strata.route.typo.urll", "/x"),
    ];
    let told = told(&world(&[container(1, &labels)], None), &rules(&[]), &["pool.api", "pool.web", "service.edge"]);
    assert_eq!(
        told,
        [
            "pool.web: 10.0.0.1:8080 x1",
            "pool.web! unknown container web-1, label strata.route.typo.urll: unknown label (did you mean `strata.route.typo.url`)",
            "pool.web! malformed container web-1, label strata.route.bad.url: `http://a.test` cannot be the url of a route (leave \
             `http://` out: a url here is a host, a path, or both)",
            "pool.web! malformed container web-1, label strata.route.bad.priority: `high` is no whole number from -1000000 to \
             1000000: the route is left out",
            "pool.web! malformed container web-1, label strata.route.none.url: a route needs a url (add `strata.route.none.url=…`; \
             `/*` takes every request)",
            "pool.web! no-pool container web-1, label strata.route.lost.pool: no container is in pool `apl`, nor does the file open it \
             (did you mean `api`)",
            "service.edge: a.test/* @0 -> web (container web-1)",
            "service.edge: a.test/api/* @-5 -> api (container web-1)",
            // For a reload that takes it out of the file.
            "service.edge: pool web [10.0.0.1:8080 x1] None None",
        ]
    );
}

#[test]
fn where_several_services_are_open_a_route_names_its_own() {
    let labels =
        [("strata.pool", "web"), ("strata.url", "/x"), ("strata.route.b.url", "/b"), ("strata.route.b.service", "two")];
    let told = told(&world(&[container(1, &labels)], None), &rules(&[]), &["pool.web", "service.one", "service.two"]);
    assert_eq!(
        told,
        [
            "pool.web: 10.0.0.1:8080 x1",
            "pool.web! conflict container web-1, label strata.url: several services take routes of containers (name one in \
             `strata.route.NAME.service`: `one` or `two`)",
            "service.two: /b @0 -> web (container web-1)",
            "service.two: pool web [10.0.0.1:8080 x1] None None",
        ]
    );
}

#[test]
fn who_said_it_first_keeps_it_and_one_that_leaves_gives_way() {
    let said = |n: u8, url: &'static str, path: &'static str| {
        container(
            n,
            &[("strata.pool", "new"), ("strata.url", url), ("strata.probe.path", path), ("strata.balance", "random")],
        )
    };
    let containers = [said(2, "/new", "/b"), said(1, "/old", "/a"), said(3, "/old", "/a")];
    let mut seen = world(&containers, None);
    let rules = rules(&[]);
    assert_eq!(
        told(&seen, &rules, &["service.edge"]),
        [
            "service.edge: /old @0 -> new (container web-1)",
            "service.edge: pool new [10.0.0.1:8080 x1, 10.0.0.2:8080 x1, 10.0.0.3:8080 x1] Some(\"{\\\"type\\\":\\\"random\\\"}\") \
             Some(\"{\\\"type\\\":\\\"http\\\",\\\"interval\\\":\\\"2s\\\",\\\"path\\\":\\\"/a\\\",\\\"rise\\\":2}\")",
            "service.edge! conflict container web-2, label strata.url: container web-1, of the same pool, says otherwise, and was first \
             (what the older one says holds until it is gone; another route has another name)",
            "service.edge! conflict container web-2, label strata.probe.path: container web-1, of the same pool, says `/a`, and was first",
        ]
    );
    for n in [1, 3] {
        let id = containers.iter().find(|one| one.created == n).unwrap().id.clone();
        seen.happened(&Event { id, what: What::Signal(15), time: 0, labels: BTreeMap::new() }, NOW);
    }
    let told = told(&seen, &rules, &["service.edge"]);
    assert_eq!(told[0], "service.edge: /new @0 -> new (container web-2)");
    assert!(told[1].contains("[10.0.0.2:8080 x1, 10.0.0.1:8080 x1 leaving, 10.0.0.3:8080 x1 leaving]"), "{}", told[1]);
    assert!(told[1].contains("/b") && told.len() == 2, "{told:?}");
}

#[test]
fn settings_of_a_pool_that_only_labels_name_are_read_by_the_grammar_of_their_plug_in() {
    let told_of = |labels: &[(&str, &str)]| {
        let mut all = vec![("strata.pool", "new"), ("strata.url", "/x")];
        all.extend(labels);
        let told = told(&world(&[container(1, &all)], None), &rules(&[]), &["service.edge"]);
        told[1..]
            .iter()
            .map(|line| line.replace("service.edge: pool new [10.0.0.1:8080 x1] ", ""))
            .map(|line| line.replace("service.edge! ", "").replace("container web-1, label ", "").replace("\\\"", "'"))
            .collect::<Vec<_>>()
    };
    let usual = "None Some(\"{'type':'tcp','interval':'2s','timeout':'500ms'}\")";
    let plain = "None Some(\"{'type':'http','interval':'2s','path':'/','rise':2}\")";
    for (labels, want) in [
        (&[("strata.probe", "tcp")][..], &[usual][..]),
        // Two probes of one endpoint never run at once, as the file is told too.
        (
            &[("strata.probe", "tcp"), ("strata.probe.interval", "200ms")],
            &[
                usual,
                "malformed strata.probe.interval: the probe's timeout is longer than its interval: both are as if they were absent \
                 (shorten `strata.probe.timeout` or lengthen `strata.probe.interval`)",
            ],
        ),
        (
            &[("strata.probe", "tcp"), ("strata.probe.timeout", "3s")],
            &[
                usual,
                "malformed strata.probe.timeout: the probe's timeout is longer than its interval: both are as if they were absent \
                 (shorten `strata.probe.timeout` or lengthen `strata.probe.interval`)",
            ],
        ),
        (
            &[("strata.probe", "tcp"), ("strata.probe.interval", "200ms"), ("strata.probe.timeout", "200ms")],
            &["None Some(\"{'type':'tcp','interval':'200ms','timeout':'200ms'}\")"],
        ),
        (&[("strata.probe", "none")], &["None None"]),
        (
            &[("strata.probe.path", "/up"), ("strata.probe.rise", "3"), ("strata.probe.interval", "500ms")],
            &["None Some(\"{'type':'http','interval':'500ms','path':'/up','rise':3}\")"],
        ),
        (
            &[("strata.probe.rise", "many")],
            &[plain, "malformed strata.probe.rise: `many` is no whole number from 1 to 100"],
        ),
        (
            &[("strata.probe.interval", "5")],
            &[
                plain,
                "malformed strata.probe.interval: `5` is no duration: a duration needs a unit: us, ms, s, m, h or d, as in \"2s\"",
            ],
        ),
        (
            &[("strata.probe.interval", "1ms")],
            &[plain, "malformed strata.probe.interval: `1ms` is not from 50ms to 1h"],
        ),
        (
            &[("strata.probe.pth", "/")],
            &[plain, "unknown strata.probe.pth: unknown label (did you mean `strata.probe.path`)"],
        ),
        // What needs privileges or knows our VIPs is not theirs to ask for.
        (
            &[("strata.probe", "icmp")],
            &["None None", "malformed strata.probe: unknown probe `icmp` (one of `tcp` or `http`)"],
        ),
        (
            &[("strata.probe.through", "vip")],
            &[plain, "unknown strata.probe.through: unknown label (`http` has `path`, `rise` and `interval`)"],
        ),
        (
            &[("strata.balance", "rnadom")],
            &["None None", "malformed strata.balance: unknown balance `rnadom` (did you mean `random`)"],
        ),
    ] {
        assert_eq!(told_of(labels), want, "{labels:?}");
    }
}

#[test]
fn an_address_is_of_the_network_that_leads_to_the_container() {
    let on = |networks: &[(&str, &str, &str)], attachment: Attachment| {
        let mut one = container(1, &[("strata.pool", "web")]);
        let address = |text: &str| text.parse().ok();
        one.networks = networks
            .iter()
            .map(|(name, v4, v6)| ((*name).to_owned(), facts::Addresses { ipv4: address(v4), ipv6: address(v6) }))
            .collect();
        one.attachment = attachment;
        one
    };
    let two = &[("back", "10.1.0.1", "fd01::1"), ("front", "10.2.0.1", "")][..];
    let own = |networks: &[&str]| {
        let mut own = container(200, &[]);
        own.networks = networks.iter().map(|name| ((*name).to_owned(), facts::Addresses::default())).collect();
        own
    };
    let on_host = Container { attachment: Attachment::Host, ..own(&["host"]) };
    let own_ones = [own(&["front"]), own(&["front", "back"]), own(&["other"])];
    for (name, one, own, settings, want) in [
        ("the only one", on(&two[..1], Attachment::Own), None, &[][..], "10.1.0.1:8080"),
        ("IPv6 where it is asked for", on(&two[..1], Attachment::Own), None, &[("family", "ipv6")], "[fd01::1]:8080"),
        ("the family that there is", on(&two[1..], Attachment::Own), None, &[("family", "ipv6")], "10.2.0.1:8080"),
        ("the one that is named", on(two, Attachment::Own), None, &[("network", "front")], "10.2.0.1:8080"),
        ("the one that is shared", on(two, Attachment::Own), Some(&own_ones[0]), &[], "10.2.0.1:8080"),
        ("the first that is shared", on(two, Attachment::Own), Some(&own_ones[1]), &[], "10.1.0.1:8080"),
        (
            "the named before the shared",
            on(two, Attachment::Own),
            Some(&own_ones[0]),
            &[("network", "back")],
            "10.1.0.1:8080",
        ),
        ("Strata on the host", on(&two[..1], Attachment::Own), Some(&on_host), &[], "10.1.0.1:8080"),
        (
            "several",
            on(two, Attachment::Own),
            None,
            &[],
            "no-host container web-1: it is in several networks: `back` and `front` (name one: `network = \"…\"` in the source, or the \
             label `network`)",
        ),
        (
            "none shared",
            on(two, Attachment::Own),
            Some(&own_ones[2]),
            &[],
            "no-host container web-1: it shares no network with Strata's container; its networks: `back` and `front` (attach the two to \
             one network, or name the container's: `network = \"…\"` in the source)",
        ),
        (
            "a network that it is not in",
            on(two, Attachment::Own),
            None,
            &[("network", "fornt")],
            "no-host container web-1: it is not in network `fornt` (did you mean `front`)",
        ),
        ("no network", on(&[], Attachment::None), None, &[], "no-host container web-1: it has no network"),
        ("no network yet", on(&[], Attachment::Own), None, &[], "no-host container web-1: it is in no network"),
        (
            "no address yet",
            on(&[("front", "", "")], Attachment::Own),
            None,
            &[],
            "no-host container web-1: it has no address in network `front`",
        ),
        (
            "loopback",
            on(&[("front", "127.0.0.1", "")], Attachment::Own),
            None,
            &[],
            "loopback container web-1: its address 127.0.0.1 is refused: an address of this machine's loopback, which strangers must \
             not name (set `allow = \"loopback\"` in the source where this is meant)",
        ),
        (
            "loopback, allowed",
            on(&[("front", "127.0.0.1", "")], Attachment::Own),
            None,
            &[("allow", "loopback")],
            "127.0.0.1:8080",
        ),
        ("the host's", on(&[], Attachment::Host), None, &[("host", "192.0.2.1")], "192.0.2.1:8080"),
        (
            "the host's, which nobody named",
            on(&[], Attachment::Host),
            None,
            &[],
            "no-host container web-1: it uses the network of its host, and the source does not say where that is reached (set `host \
             = \"…\"` in the source, or give the container a network)",
        ),
        (
            "of one that is not there",
            on(&[], Attachment::Of(Id::parse(&"f".repeat(64)).unwrap())),
            None,
            &[],
            "no-host container web-1: it uses the network of container ffffffffffff, which is not there",
        ),
    ] {
        let told = told(&world(&[one], own), &rules(settings), &["pool.web"]);
        let want =
            if want.contains(" container ") { format!("pool.web! {want}") } else { format!("pool.web: {want} x1") };
        assert_eq!(told, [want], "{name}");
    }
    // A container in another's network is where that is.
    let other = Container { labels: BTreeMap::new(), ..container(9, &[]) };
    let one = on(&[], Attachment::Of(other.id.clone()));
    let told = told(&world(&[one, other], None), &rules(&[]), &["pool.web"]);
    assert_eq!(told, ["pool.web: 10.0.0.9:8080 x1"]);
}

#[test]
fn a_port_is_the_one_that_is_named_or_the_only_one_that_is_exposed() {
    for (exposed, label, want) in [
        (&["8080/tcp"][..], None, "10.0.0.1:8080"),
        (&["8080/tcp", "9090/udp"], None, "10.0.0.1:8080"),
        (&["53/udp"], None, "10.0.0.1:53"),
        (&["80/tcp", "443/tcp"], Some("443"), "10.0.0.1:443"),
        (&[], Some("443"), "10.0.0.1:443"),
        (&["80/tcp", "443/tcp"], None, "it exposes several ports: `80/tcp`, `443/tcp` (name it: `strata.port=…`)"),
        (&[], None, "it exposes no port (name it: `strata.port=…`)"),
    ] {
        let mut labels = vec![("strata.pool", "web")];
        labels.extend(label.map(|port| ("strata.port", port)));
        let mut one = container(1, &labels);
        let ports: String = exposed.iter().map(|port| format!("\"{port}\":{{}},")).collect();
        let body = format!(r#"{{"Id":"{:064x}","Config":{{"ExposedPorts":{{{}}}}}}}"#, 1, ports.trim_end_matches(','));
        one.exposed = facts::container(body.as_bytes()).unwrap().exposed;
        let told = told(&world(&[one], None), &rules(&[]), &["pool.web"]);
        let want = match label.is_some() || want.starts_with("10.") {
            true => format!("pool.web: {want} x1"),
            false => format!("pool.web! no-port container web-1: {want}"),
        };
        assert_eq!(told, [want], "{exposed:?}");
    }
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
fn two_containers_at_one_address_are_one_member() {
    let same = |n: u8| Container { attachment: Attachment::Host, ..container(n, &[("strata.pool", "web")]) };
    let told = told(&world(&[same(1), same(2)], None), &rules(&[("host", "192.0.2.1")]), &["pool.web"]);
    assert_eq!(
        told,
        [
            "pool.web: 192.0.2.1:8080 x1",
            "pool.web! conflict container web-2: `192.0.2.1:8080` is the address of container web-1 already",
        ]
    );
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

proptest::proptest! {
    /// Whatever other people write: no panic, no control character in what is shown, and nobody gets what is not open.
    #[test]
    fn no_label_panics_or_reaches_a_terminal(
        labels in proptest::collection::btree_map(
            "strata\\.(enable|pool|port|weight|zone|backup|url|balance|probe|probe\\.path|route\\.a\\.(url|pool|service|priority)|.{0,12})",
            "true|web|new|edge|80|/x|\\PC{0,12}|[\\x00-\\x1f\\x7f-\\x9f]{1,4}",
            0..8,
        )
    ) {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let seen = world(&[container(1, &labels)], None);
        for line in told(&seen, &rules(&[]), &["pool.web", "service.edge"]) {
            proptest::prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        let owners = owners(&["pool.web"]);
        let found = finding(&seen, &rules(&[]), owners.first().unwrap(), &owners);
        proptest::prop_assert!(found.pools.is_empty() && found.routes.is_empty());
    }
}
