//! `deploy/lab.sh` as a person uses it.

use std::path::Path;
use std::process::{Command, Stdio};

use super::common::await_that;
use super::node::{Node, can, hosts, prefix};
use super::talk::ping;
use super::world::Family;

struct Lab {
    name: String,
}

impl Lab {
    fn new() -> Lab {
        Lab { name: prefix() }
    }

    /// Runs it, and gives its exit code and what it said.
    fn run(&self, words: &str) -> (i32, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/lab.sh");
        let output = Command::new(script)
            .args(words.split_whitespace())
            .env("LAB", &self.name)
            .env("STRATA", env!("CARGO_BIN_EXE_strata"))
            .stdin(Stdio::null())
            .output()
            .expect("the script");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }

    /// That an endpoint gets to the client by itself, whoever its gateway is.
    #[track_caller]
    fn reaches_the_client(&self, endpoint: &str) {
        let host = Node::found(format!("{}-{endpoint}", self.name));
        for family in Family::BOTH {
            let to = family.client();
            await_that(&format!("{to} answers {endpoint}"), || ping(&host, to, 8).is_ok());
        }
    }

    fn hosts(&self) -> usize {
        hosts().iter().filter(|host| host.starts_with(&format!("{}-", self.name))).count()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.run("down");
    }
}

#[test]
fn a_lab_comes_up_answers_and_goes() {
    if !can("deploy/lab.sh") {
        return;
    }
    let lab = Lab::new();
    for mode in ["l4", "l7"] {
        goes_through(&lab, mode);
    }
    every_layer(&lab);
    let (code, said) = lab.run("up l5");
    assert!(code == 1 && said.contains("there is no mode l5: l2, ipip,"), "{said}");
    let (code, said) = lab.run("try");
    assert!(code == 1 && said.contains("nothing is up"), "{said}");
    let (code, said) = lab.run("");
    assert!(code == 2 && said.starts_with("A small network on this machine"), "{said}");
    let last = said.trim_end().lines().last().unwrap_or_default();
    assert!(last.contains("the VIP: 10.0.0.100"), "nothing but the comment: {said}");
    assert_eq!(lab.hosts(), 0);
}

/// Once from up to down in one mode, as its first lines tell a person.
fn goes_through(lab: &Lab, mode: &str) {
    let (code, said) = lab.run(&format!("up {mode}"));
    assert!(code == 0 && said.contains(&format!("The lab is up in mode {mode}.")), "{mode}: {said}");
    let (code, said) = lab.run("try 60");
    assert_eq!(code, 0, "{mode}: {said}");
    let services: Vec<&str> = said.split(" from the client to ").skip(1).collect();
    // Proxies are asked by TCP alone.
    let kinds: &[&str] = if mode == "l4" || mode == "l7" { &["requests"] } else { &["requests", "datagrams"] };
    assert_eq!(services.len(), 2 * kinds.len(), "{mode}: {said}");
    for kind in kinds {
        for lab in ["lab4", "lab6"] {
            assert!(said.contains(&format!("{lab}: 60 {kind} ")), "{mode}: {said}");
        }
    }
    for (service, name) in
        services.iter().flat_map(|service| [(service, " e1\n"), (service, " e2\n"), (service, " e3\n")])
    {
        assert!(service.contains(name), "{mode}: {name}: {said}");
    }
    let (code, said) = lab.run("status");
    assert!(code == 0 && said.contains(&format!("mode {mode}, files in ")), "{mode}: {said}");
    for pool in ["pool lab4  3 of 3 usable", "pool lab6  3 of 3 usable"] {
        assert!(said.contains(pool), "{mode}: {pool}: {said}");
    }
    lab.reaches_the_client("e1");
    let (code, said) = lab.run("up l4");
    assert!(code == 1 && said.contains("it is up already"), "{mode}: {said}");
    assert_eq!(lab.run("down").0, 0);
    assert_eq!(lab.hosts(), 0);
}

/// Each of the script's packet modes, of which it has a configuration of its own.
fn packets(mode: &str) {
    if can(&format!("deploy/lab.sh up {mode}")) {
        goes_through(&Lab::new(), mode);
    }
}

#[test]
fn the_lab_has_l2() {
    packets("l2");
}

#[test]
fn the_lab_has_l3_ipip() {
    packets("ipip");
}

#[test]
fn the_lab_has_l3_gue() {
    packets("gue");
}

#[test]
fn the_lab_has_l3_nat() {
    packets("nat");
}

#[test]
fn the_lab_has_l3_full_nat() {
    packets("full-nat");
}

#[test]
fn the_lab_has_l4_nat() {
    packets("l4-nat");
}

#[test]
fn the_lab_has_l4_full_nat() {
    packets("l4-full-nat");
}

/// `conf/all-layers.toml`, as it is: one process, and every service is reached, balanced and told of in the same words.
fn every_layer(lab: &Lab) {
    let (code, said) = lab.run("up all");
    assert!(code == 0 && said.contains("The lab is up in mode all."), "{said}");
    let (code, said) = lab.run("try 40");
    assert_eq!(code, 0, "{said}");
    let services: Vec<&str> = said.split(": 40 ").skip(1).collect();
    let asked = [
        ("requests from the client to 10.0.0.100:80/", [41, 42]),
        ("datagrams from the client to 10.0.0.100:7000\n", [41, 42]),
        ("requests from the client to 10.0.0.101:25/", [51, 52]),
        ("requests from the client to 10.0.0.101:53/", [61, 62]),
        ("datagrams from the client to 10.0.0.101:53\n", [61, 62]),
        ("requests from the client to 10.0.0.2:5432/", [31, 32]),
        ("requests from the client to 10.0.0.2:80/\n", [11, 12]),
        ("requests from the client to 10.0.0.2:80/api/users", [21, 22]),
    ];
    assert_eq!(services.len(), asked.len(), "{said}");
    for (service, (what, pair)) in services.iter().zip(asked) {
        assert!(service.starts_with(what), "{what}: {said}");
        assert!(pair.iter().all(|number| service.contains(&format!(" e{number}\n"))), "{pair:?}: {said}");
    }
    let (code, said) = lab.run("status");
    assert_eq!(code, 0, "{said}");
    for (name, mode) in [("game", "l2"), ("mail", "l3"), ("names", "l4"), ("database", "l4"), ("site", "l7")] {
        let row = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert!(row.into_iter().any(|row| row.starts_with(&[name, mode])), "{name} {mode}: {said}");
    }
    for pool in ["game", "mail", "names", "database", "web", "api"] {
        assert!(said.contains(&format!("pool {pool}  2 of 2 usable")), "{pool}: {said}");
    }
    lab.reaches_the_client("e51");
    assert_eq!(lab.run("down").0, 0);
    assert_eq!(lab.hosts(), 0);
}
