//! Discovery on the real engine: containers come, stop, pause, fail and move under load, and Strata, in a container itself, follows.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::common::{Metrics, Rounds, metrics, skip};
use super::engine::{Container, Image, await_that, can, docker, said, try_docker, unique};
use super::load::{Kind, Load};

const SOCKET: &str = "/var/run/docker.sock";

/// A network that is removed with its holder.
struct Network(String);

impl Network {
    fn new() -> Network {
        let name = unique("network");
        docker(&["network", "create", &name]);
        Network(name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let removed = try_docker(&["network", "rm", &self.0]);
        if !removed.status.success() {
            eprintln!("{} is not gone: {}", self.0, said(&removed));
        }
    }
}

/// Strata in a container, and what it looks at. Fields are dropped from the first on.
struct Ground {
    strata: Container,
    edge: SocketAddr,
    metrics: SocketAddr,
    other: Network,
    network: Network,
    folder: PathBuf,
    prefix: String,
    image: Arc<Image>,
    rounds: Mutex<Rounds>,
}

impl Ground {
    fn new() -> Ground {
        let (image, network, other) = (Image::under_test(), Network::new(), Network::new());
        // Whatever else this engine runs has other labels.
        let prefix = format!("{}.", unique("labels"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("discovery"));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("strata.toml");
        let source = format!("source = {{ type = \"docker\", labels = \"{prefix}\", drain = \"10s\" }}");
        fs::write(
            &file,
            format!(
                "workers = 1\n[metrics]\nlisten = \":9901\"\n[admin]\nlisten = \"127.0.0.1:9900\"\n\
                 [service.edge]\nmode = \"l7\"\nlisten = \":8080\"\npool = \"web\"\n{source}\n[pool.web]\nbalance = \"round-robin\"\n\
                 probe = {{ type = \"http\", interval = \"100ms\", timeout = \"100ms\", rise = 1, fall = 3 }}\n{source}\n\
                 # Series of endpoints are there from the start.\n[pool.spare]\nendpoints = [\"192.0.2.1:80\"]\n"
            ),
        )
        .unwrap();
        let group = fs::metadata(SOCKET).expect("the engine's socket").gid().to_string();
        let mounts = [format!("{SOCKET}:{SOCKET}"), format!("{}:/etc/strata/strata.toml:ro", file.display())];
        let strata = Container::run(&[
            "--network",
            &network.0,
            "--publish",
            "127.0.0.1::8080",
            "--publish",
            "127.0.0.1::9901",
            "--group-add",
            &group,
            "--read-only",
            "--cap-drop",
            "ALL",
            "--volume",
            &mounts[0],
            "--volume",
            &mounts[1],
            &image.name,
        ]);
        let port = |port: &str| {
            let shown = docker(&["port", &strata.0, port]);
            shown.lines().next().and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{port} is at {shown:?}"))
        };
        let (edge, metrics) = (port("8080"), port("9901"));
        let ground = Ground { strata, edge, metrics, other, network, folder, prefix, image, rounds: Mutex::default() };
        // The engine's own proxy takes connections to a published port before anybody listens there.
        await_that("Strata serves", || ground.log().contains("strata serves"));
        ground
    }

    /// An echo server that answers by its name.
    fn echo(&self, name: &str, more: &[&str], labels: &[(&str, &str)]) -> Container {
        let mut all = vec![("port", "8080")];
        all.extend(labels);
        let labels: Vec<String> = all.iter().map(|(key, value)| format!("{}{key}={value}", self.prefix)).collect();
        let mut arguments = vec!["--network", &self.network.0, "--stop-timeout", "5", "--memory", "64m"];
        labels.iter().for_each(|label| arguments.extend(["--label", label]));
        if !more.iter().any(|option| option.starts_with("--health")) {
            arguments.push("--no-healthcheck");
        }
        arguments.extend(more);
        arguments.extend([&*self.image.name, "echo", "--listen", "0.0.0.0:8080", "--name", name]);
        Container::run(&arguments)
    }

    fn scrape(&self) -> Metrics {
        Metrics::scrape(self.metrics)
    }

    fn usable(&self) -> f64 {
        self.scrape().sum_if_any("strata_endpoint_up", &[("pool", "web")])
    }

    /// Waits until so many serve.
    #[track_caller]
    fn await_usable(&self, count: f64, what: &str) {
        let began = Instant::now();
        await_that(&format!("{count} serve: {what}"), || self.usable() == count);
        self.rounds.lock().add(what, began.elapsed());
    }

    /// Fails unless they served within a second.
    #[track_caller]
    fn assert_soon(&self) {
        std::mem::take(&mut *self.rounds.lock()).assert_within(Duration::from_secs(1));
    }

    fn get(&self, path: &str) -> (u16, Option<String>) {
        let answer = metrics::get(self.edge, path);
        (answer.status(), answer.field("x-endpoint"))
    }

    fn log(&self) -> String {
        said(&try_docker(&["logs", &self.strata.0]))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn can_discover(what: &str) -> Option<impl Drop> {
    let one = can(what)?;
    if !Path::new(SOCKET).exists() {
        skip(what, &format!("{SOCKET} is not there"));
        return None;
    }
    Some(one)
}

const WEB: &[(&str, &str)] = &[("pool", "web")];

#[test]
fn scaling_containers_shows_within_a_second_and_costs_no_request() {
    let Some(_one) = can_discover("scaling of containers that are discovered") else { return };
    let ground = Ground::new();
    let mut echoes = vec![ground.echo("e0", &[], WEB)];
    ground.await_usable(1.0, "those that were started");
    let mut load = Load::start();
    load.clients(Kind::Fresh, 4, ground.edge, "/", Duration::from_millis(10));
    load.clients(Kind::Reopened, 8, ground.edge, "/", Duration::from_millis(10));
    load.await_more(100);
    for members in [4, 1, 3, 1] {
        while echoes.len() < members {
            echoes.push(ground.echo(&format!("e{}", echoes.len()), &[], WEB));
        }
        ground.await_usable(members as f64, "those that were started");
        load.await_more(100);
        if members > 1 {
            // One after the other: this server ends the moment it is told to, and a request has three tries.
            for left in (1..members).rev() {
                docker(&["stop", &echoes[left].0]);
                ground.await_usable(left as f64, "those that were stopped");
            }
            echoes.truncate(1);
            load.await_more(100);
        }
    }
    // Made anew with another address, while another takes its place.
    let heir = ground.echo("heir", &[], WEB);
    ground.await_usable(2.0, "those that were started");
    docker(&["stop", &echoes[0].0]);
    ground.await_usable(1.0, "those that were stopped");
    load.await_more(100);
    let seen = load.stop();
    println!("{:.0} requests a second, {:?}", seen.rate(), seen.all());
    seen.assert_nothing_lost();
    assert_eq!(ground.get("/"), (200, Some("heir".to_owned())));
    ground.assert_soon();
    // It was heard of before it ended.
    await_that("the log says why", || ground.log().contains("it was told to stop, and leaves"));
    drop(heir);
}

#[test]
fn pauses_health_checks_networks_and_labels_of_real_containers_are_followed() {
    let Some(_one) = can_discover("states of containers that are discovered") else { return };
    let ground = Ground::new();
    let one = ground.echo("one", &[], WEB);
    await_that("the first serves", || ground.usable() == 1.0);

    for _ in 0..3 {
        docker(&["pause", &one.0]);
        ground.await_usable(0.0, "a pause");
        docker(&["unpause", &one.0]);
        ground.await_usable(1.0, "a pause's end");
    }

    // Another network beside the one that it shares with Strata changes nothing; without that one it cannot be reached.
    docker(&["network", "connect", &ground.other.0, &one.0]);
    let refused = || ground.scrape().sum("strata_source_refused", &[("source", "pool.web"), ("reason", "no-host")]);
    for _ in 0..3 {
        docker(&["network", "disconnect", &ground.network.0, &one.0]);
        ground.await_usable(0.0, "a network that is taken away");
        await_that("it is told why", || refused() == 1.0);
        docker(&["network", "connect", &ground.network.0, &one.0]);
        ground.await_usable(1.0, "a network that is given back");
    }
    assert_eq!(ground.get("/"), (200, Some("one".to_owned())));

    // A health check that does not pass (the image has no shell to run it): it never serves, and it is told why.
    let failing = ["--health-cmd", "true", "--health-interval", "1s", "--health-retries", "1"];
    let unwell = ground.echo("unwell", &failing, WEB);
    await_that("its engine calls it unhealthy", || super::engine::health(&unwell.0) == "unhealthy");
    await_that("Strata knows", || ground.log().contains("its health check fails"));
    assert_eq!(ground.usable(), 1.0);

    let labels = [("pool", "shop"), ("url", "/shop/*"), ("probe", "tcp"), ("wieght", "2")];
    let shop = ground.echo("shop", &[], &labels);
    await_that("the route is there", || ground.get("/shop/x") == (200, Some("shop".to_owned())));
    await_that("the label is refused", || {
        let log = ground.log();
        log.contains("wieght: unknown label") && log.contains("weight`")
    });
    docker(&["kill", &shop.0]);
    await_that("the route is gone", || ground.get("/shop/x").1.is_some_and(|name| name != "shop"));
    ground.assert_soon();
}
