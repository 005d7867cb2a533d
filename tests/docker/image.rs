//! The image by itself: who it runs as, what it says of itself, how it stops.

use super::common::metrics;
use super::engine::{Container, Image, address, await_that, can, docker, health, pid, said, try_docker, unique};

#[test]
fn the_image_runs_as_an_ordinary_user_with_nothing_mounted_and_drains_when_it_is_stopped() {
    let Some(_one) = can("the image by itself") else { return };
    let image = Image::under_test();
    let echo = Container::run(&[
        "--read-only",
        "--cap-drop=ALL",
        &image.name,
        "echo",
        "--listen",
        "0.0.0.0:8081",
        "--name",
        "alone",
    ]);
    let endpoint = format!("STRATA_ENDPOINT={}", address(&echo, 8081));
    let strata = Container::run(&[
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges:true",
        "--env",
        &endpoint,
        &image.name,
    ]);
    await_that("it is healthy by its own check", || health(&strata.0) == "healthy");
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid(&strata.0))).unwrap();
    assert!(
        status.contains("Uid:\t65532\t65532\t65532\t65532") && status.contains("CapEff:\t0000000000000000"),
        "{status}"
    );

    let answer = metrics::get(address(&strata, 8080), "/hello");
    assert_eq!((answer.status(), answer.field("x-endpoint").as_deref()), (200, Some("alone")));
    assert!(metrics::get(address(&strata, 9901), "/metrics").text().contains("strata_build_info"));
    assert!(docker(&["exec", &strata.0, "strata", "status"]).contains("web"));
    assert!(docker(&["exec", &strata.0, "strata", "check", "/etc/strata/strata.toml"]).contains("valid"));

    docker(&["stop", "--time=20", &strata.0]);
    assert_eq!(docker(&["inspect", "--format={{.State.ExitCode}} {{.State.OOMKilled}}", &strata.0]), "0 false");
    let logs = said(&try_docker(&["logs", &strata.0]));
    assert!(logs.contains("strata serves"), "{logs}");
}

#[test]
fn the_image_says_what_it_is_and_holds_nothing_but_strata() {
    let Some(_one) = can("the image's content") else { return };
    let image = Image::under_test();
    let config = docker(&["image", "inspect", "--format={{json .Config}}", &image.name]);
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD", "/usr/bin/strata", "healthcheck"]));
    assert_eq!(config["Labels"]["org.opencontainers.image.title"], "Strata");
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"), "deploy/Dockerfile");
    assert_eq!(
        config["ExposedPorts"].as_object().map(|ports| ports.keys().cloned().collect::<Vec<_>>()).unwrap(),
        ["8080/tcp", "9900/tcp", "9901/tcp"]
    );
    let shell = try_docker(&["run", "--rm", "--entrypoint=/bin/sh", &image.name]);
    assert!(!shell.status.success(), "there is a shell: {}", said(&shell));
}

#[test]
fn a_name_of_the_images_own_users_is_known_to_the_static_binary() {
    let Some(_one) = can("`[process] user` in the image") else { return };
    let image = Image::under_test();
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("user.toml"));
    let text = "[process]\nuser = \"strata\"\n[admin]\nlisten = \"127.0.0.1:9900\"\n[service.web]\nmode = \"l7\"\n\
        listen = \":80\"\npool = \"web\"\n[pool.web]\nendpoints = [\"127.0.0.1:81\"]\n";
    std::fs::write(&file, text).unwrap();
    let mount = format!("{}:/etc/strata/strata.toml:ro", file.display());
    let user = ["--user=0:0", "--cap-drop=ALL", "--cap-add=SETUID", "--cap-add=SETGID", "--cap-add=SETPCAP"];
    let strata = Container::run(&[&user[..], &["--volume", &mount, &image.name]].concat());
    await_that("it is healthy", || health(&strata.0) == "healthy");
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid(&strata.0))).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(
        status.contains("Uid:\t65532\t65532\t65532\t65532") && status.contains("CapEff:\t0000000000000000"),
        "{status}"
    );
}
