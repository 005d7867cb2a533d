//! A real Prometheus on the files of `deploy/prometheus`, in a host of the lab, asked by its HTTP API.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::asked::{Series, data, path, series};
use super::common::metrics::get;
use super::common::{free_address, holds_within};
use super::files::{list, text};
use super::node::Node;

pub struct Prometheus {
    host: Node,
    address: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl Prometheus {
    /// Whether it is installed.
    pub fn is_here() -> bool {
        Command::new("prometheus").arg("--version").output().is_ok_and(|output| output.status.success())
    }

    /// Starts it on `host` with `target` as the only Strata. It scrapes once and judges five times a second, and alerts fire at
    /// once: for how long each waits is tested by `promtool`.
    #[track_caller]
    pub fn start(host: &Node, target: SocketAddr) -> Prometheus {
        let folder = std::env::temp_dir().join(format!("strata-prometheus-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let read = |name: &str| fs::read_to_string(format!("deploy/prometheus/{name}")).expect(name);
        let mut config = read("prometheus.yml");
        for (key, value) in
            [("scrape_interval: 5s", "1s"), ("scrape_timeout: 4s", "1s"), ("evaluation_interval: 5s", "200ms")]
        {
            assert!(config.contains(key), "prometheus.yml has no {key}");
            config = config.replace(key, &format!("{}: {value}", key.split(':').next().unwrap_or_default()));
        }
        assert!(config.contains("\"strata:9901\""), "prometheus.yml has no strata:9901");
        let rules: Vec<String> = read("alerts.yml")
            .lines()
            .map(|line| {
                line.split_once("for: ")
                    .filter(|(before, _)| before.trim().is_empty())
                    .map_or_else(|| line.to_owned(), |(before, _)| format!("{before}for: 0s"))
            })
            .collect();
        fs::write(folder.join("prometheus.yml"), config.replace("strata:9901", &target.to_string())).expect("a file");
        fs::write(folder.join("alerts.yml"), rules.join("\n")).expect("a file");
        let log = File::create(folder.join("log")).expect("a log");
        let (address, child) = host.enter(|| {
            let address = free_address();
            let child = Command::new("prometheus")
                .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .arg("--log.level=warn")
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("the log"))
                .stderr(log)
                .spawn()
                .expect("prometheus");
            (address, child)
        });
        let mut prometheus = Prometheus { host: host.twin(), address, folder, child };
        let mut ended = false;
        let ready = || {
            ended = prometheus.child.try_wait().is_ok_and(|status| status.is_some());
            ended
                || prometheus
                    .host
                    .enter(|| std::net::TcpStream::connect(address).is_ok() && get(address, "/-/ready").status() == 200)
        };
        assert!(holds_within(super::alive::PATIENCE, ready) && !ended, "{}", prometheus.log());
        prometheus
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn ask(&self, path: &str) -> Result<Value, String> {
        let answer = self.host.enter(|| get(self.address, path));
        data(&answer)
    }

    /// What a query is answered with now.
    pub fn query(&self, query: &str) -> Result<Vec<Series>, String> {
        self.ask(&path(query)).map(|data| series(&data))
    }

    /// Names of the alerts that fire, and what their messages say.
    pub fn firing(&self) -> BTreeMap<String, Vec<String>> {
        let data = self.ask("/api/v1/alerts").expect("alerts");
        let mut firing = BTreeMap::<String, Vec<String>>::new();
        for alert in list(&data["alerts"]).iter().filter(|alert| alert["state"] == "firing") {
            let said =
                format!("{} {}", text(&alert["annotations"]["summary"]), text(&alert["annotations"]["description"]));
            firing.entry(text(&alert["labels"]["alertname"])).or_default().push(said);
        }
        firing
    }

    /// Rules whose last evaluation failed, with why.
    pub fn failing_rules(&self) -> BTreeSet<String> {
        let data = self.ask("/api/v1/rules").expect("rules");
        let rules = list(&data["groups"]).iter().flat_map(|group| list(&group["rules"]));
        let failing = rules.filter(|rule| !text(&rule["lastError"]).is_empty());
        failing.map(|rule| format!("{}: {}", text(&rule["name"]), text(&rule["lastError"]))).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Prometheus' log\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
