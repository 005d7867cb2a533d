//! The mounted configuration is edited, as editors do it: another file is put in its place, or it is written where it lies.

use std::fs;
use std::path::Path;

use super::common::metrics;
use super::engine::{Project, await_that, can};

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

/// As vim and `sed -i` do: a new file takes the place of the old one.
fn save(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, file).unwrap();
}
