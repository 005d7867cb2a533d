//! The mounted configuration is edited, as editors do it: another file is put in its place, or it is written where it lies.

use std::fs;
use std::path::Path;

use super::common::metrics;
use super::engine::{Container, Image, Project, await_that, can, health, root, said, try_docker};

#[test]
fn saving_the_mounted_configuration_is_a_reload_and_a_mistake_in_it_changes_nothing() {
    let Some(_one) = can("an edit of a mounted file") else { return };
    let project = Project::new();
    project.compose(&["up", "--detach", "strata", "echo", "one"]);
    project.await_healthy("strata");
    let edge = project.port("strata", 8080);
    let endpoint = |path| metrics::get(edge, path).field("x-endpoint").unwrap_or_default();
    await_that("all endpoints are up", || project.strata("strata", &["status"]).matches(" up").count() >= 4);

    // As the README says: take the comment signs away.
    let file = project.path("conf/compose/strata.toml");
    let text = fs::read_to_string(&file).unwrap();
    let rule = "# [[service.web.route]]\n# url = \"/mine\"\n# pool = \"one\"\n";
    assert!(text.contains(rule), "the rule to try is not in the file");
    save(&file, &text.replace(rule, &rule.replace("# ", "")));
    let generation = || {
        let status: serde_json::Value = serde_json::from_str(&project.strata("strata", &["status", "--json"])).unwrap();
        status["generation"].as_u64()
    };
    await_that("the edit is in force", || generation() == Some(2));
    assert!((0..12).all(|_| endpoint("/mine") == "one"));

    save(&file, "[service.web]\nmode = \"l8\"\n");
    await_that("the mistake is told", || project.logs().contains("l8"));
    assert_eq!(endpoint("/mine"), "one", "the last good one serves");
    assert_eq!(generation(), Some(2));

    // Where it lies, as other editors do.
    fs::write(&file, text).unwrap();
    await_that("the first file is in force again", || generation() == Some(3));
    await_that("all endpoints answer there", || endpoint("/mine") != "one");
}

#[test]
fn saving_another_worlds_configuration_is_a_reload_as_well() {
    let Some(_one) = can("edits of the worlds' files") else { return };
    let project = Project::new();
    for profile in ["l2", "l3", "l4", "l7"] {
        let strata = format!("{profile}-strata");
        project.compose(&["up", "--detach", &strata]);
        project.await_healthy(&strata);
        let pool = || {
            let status: serde_json::Value =
                serde_json::from_str(&project.strata(&strata, &["status", "--json"])).unwrap();
            (status["generation"].as_u64(), status["pools"][0]["endpoints"].as_array().map(Vec::len))
        };
        let (generation, before) = pool();
        assert!(generation == Some(1) && before > Some(1), "{profile}: {generation:?}, {before:?}");
        let file = project.path(&format!("conf/compose-{profile}/strata.toml"));
        let text = fs::read_to_string(&file).unwrap();
        let (start, list) = text.split_once("endpoints = [").expect("a list of endpoints");
        let (first, rest) = list.split_once(',').expect("several");
        let (_, rest) = rest.split_once(']').expect("its end");
        save(&file, &format!("{start}endpoints = [{first}]{rest}"));
        await_that(&format!("the edit is in force in the world of {profile}"), || pool() == (Some(2), Some(1)));
    }
}

#[test]
fn a_file_that_is_mounted_by_itself_is_told_of() {
    let Some(_one) = can("a mount of one file") else { return };
    let image = Image::under_test();
    let of = |from: &str, to: &str| {
        let mount = format!("{}:{to}:ro", root().join(from).display());
        let strata = Container::run(&["--volume", &mount, &image.name]);
        await_that("it is healthy", || health(&strata.0) == "healthy");
        said(&try_docker(&["logs", &strata.0]))
    };
    let file = of("deploy/image/strata/strata.toml", "/etc/strata/strata.toml");
    assert!(file.contains("mounted by itself") && file.contains("/etc/strata/strata.toml"), "{file}");
    let folder = of("deploy/image/strata", "/etc/strata");
    assert!(folder.contains("strata serves") && !folder.contains("mounted by itself"), "{folder}");
}

/// As vim and `sed -i` do: a new file takes the place of the old one.
pub fn save(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, file).unwrap();
}
