//! What the labels of one container come to.

use super::*;

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
