//! Ways in that keep clients' addresses: the host's own network, and a macvlan.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::common::{Origin, free_address, metrics};
use super::edits::save;
use super::engine::{Project, await_that, can, docker, health, said, unique};

/// A configuration with one HTTP service over one endpoint.
fn configuration(listen: &str, endpoint: &str, admin: &str) -> String {
    format!(
        "watch = true\n[admin]\nlisten = \"{admin}\"\n[service.web]\nmode = \"l7\"\nlisten = \"{listen}\"\npool = \"web\"\n\
         [pool.web]\nendpoints = [\"{endpoint}\"]\n"
    )
}

/// With this as the one file of the folder that is mounted.
fn over(project: Project, text: &str) -> (Project, PathBuf) {
    let folder = project.path("strata");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("strata.toml");
    fs::write(&file, text).unwrap();
    (project.with("STRATA_CONFIG", folder.to_str().unwrap()), file)
}

/// Answers with the client that it was told of.
fn teller() -> Origin {
    Origin::serve(|request| {
        let client = request.field("x-forwarded-for").unwrap_or_default();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{client}", client.len()).into_bytes()
    })
}

#[test]
fn on_the_hosts_network_the_clients_address_arrives() {
    let Some(_one) = can("deploy/compose.host.yml") else { return };
    let (listen, admin, origin) = (free_address(), free_address(), teller());
    let project = Project::of("deploy/compose.host.yml").with("STRATA_ADMIN", &admin.to_string());
    let text = configuration(&listen.to_string(), &origin.address.to_string(), &admin.to_string());
    let (project, file) = over(project, &text);
    project.compose(&["up", "--detach"]);
    let id = project.container("strata");
    await_that("it is healthy", || health(&id) == "healthy");
    assert_eq!(metrics::get(listen, "/").text(), "127.0.0.1");

    // An edit as editors save it is in force, like one in the worlds of docker-compose.yml.
    let moved = free_address();
    save(&file, &text.replace(&listen.to_string(), &moved.to_string()));
    await_that("it listens elsewhere", || std::net::TcpStream::connect(moved).is_ok());
    assert_eq!(project.down(), "", "something is left");
}

/// A network with the host's interface as its one end and a client at the other.
struct Cable {
    parent: String,
    client: String,
}

impl Cable {
    fn new() -> Cable {
        let number = std::process::id() % 100_000;
        let cable = Cable { parent: format!("sp{number}"), client: unique("client") };
        for words in [
            format!("netns add {}", cable.client),
            format!("link add {} type veth peer name eth0 netns {}", cable.parent, cable.client),
            format!("link set {} up", cable.parent),
            format!("-n {} link set eth0 up", cable.client),
            format!("-n {} address add 192.0.2.7/24 dev eth0", cable.client),
        ] {
            ip(&words);
        }
        cable
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.parent]).output();
        let _ = Command::new("ip").args(["netns", "del", &self.client]).output();
    }
}

#[track_caller]
fn ip(words: &str) {
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("iproute2");
    assert!(output.status.success(), "ip {words}: {}", said(&output));
}

#[test]
fn on_a_macvlan_the_clients_address_arrives() {
    let Some(_one) = can("deploy/compose.macvlan.yml") else { return };
    if !std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("Uid:\t0\t")) {
        return super::common::skip("deploy/compose.macvlan.yml", "a network for it needs root");
    }
    let cable = Cable::new();
    let project = Project::of("deploy/compose.macvlan.yml").with("STRATA_PARENT", &cable.parent);
    let endpoint = "192.0.2.7:8081";
    let (project, _) = over(project, &configuration(":8080", endpoint, "127.0.0.1:9900"));
    project.compose(&["up", "--detach"]);
    let id = project.container("strata");
    await_that("it is healthy", || health(&id) == "healthy");
    let strata = env!("CARGO_BIN_EXE_strata");
    let mut echo = Command::new("ip")
        .args(["netns", "exec", &cable.client, strata, "echo", "--listen", endpoint, "--name", "macvlan"])
        .spawn()
        .expect("an endpoint");
    let tried = Command::new("ip")
        .args([
            "netns",
            "exec",
            &cable.client,
            strata,
            "try",
            "--client-kept",
            "--count",
            "5",
            "http://192.0.2.50:8080/=>macvlan",
        ])
        .output();
    let _ = echo.kill();
    let _ = echo.wait();
    let tried = tried.expect("ip");
    assert!(tried.status.success() && said(&tried).contains("saw the client as 192.0.2.7"), "{}", said(&tried));
    docker(&["exec", &id, "strata", "status"]);
    assert_eq!(project.down(), "", "something is left");
}
