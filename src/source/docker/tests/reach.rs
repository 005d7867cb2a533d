//! What containers may have of what the file opens: pools, routes, settings; and who of several is heard.

use super::*;

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
