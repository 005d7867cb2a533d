//! A real Prometheus on the files of `deploy/prometheus`, in a host of the lab, asked by its HTTP API.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

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

/// A series of an answer: its labels and its value now.
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Prometheus {
    /// Whether it is installed.
    pub fn is_here() -> bool {
        Command::new("prometheus").arg("--version").output().is_ok_and(|output| output.status.success())
    }

    /// Starts it on `host` with `target` as the only Strata. It scrapes and judges five times a second, and alerts fire at once:
    /// for how long each waits is tested by `promtool`.
    #[track_caller]
    pub fn start(host: &Node, target: SocketAddr) -> Prometheus {
        let folder = std::env::temp_dir().join(format!("strata-prometheus-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let read = |name: &str| fs::read_to_string(format!("deploy/prometheus/{name}")).expect(name);
        let mut config = read("prometheus.yml");
        for (key, value) in
            [("scrape_interval: 5s", "200ms"), ("scrape_timeout: 4s", "200ms"), ("evaluation_interval: 5s", "200ms")]
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
        let json: Value =
            serde_json::from_slice(&answer.body).map_err(|error| format!("{error}: {}", answer.text()))?;
        if json["status"] == "success" { Ok(json["data"].clone()) } else { Err(text(&json["error"])) }
    }

    /// What a query is answered with now.
    pub fn query(&self, query: &str) -> Result<Vec<Series>, String> {
        let data = self.ask(&format!("/api/v1/query?query={}", encoded(query)))?;
        let number = |value: &Value| text(value).parse().unwrap_or(f64::NAN);
        let series = |result: &Value| {
            let labels = result["metric"].as_object().into_iter().flatten();
            Series {
                labels: labels.map(|(name, value)| (name.clone(), text(value))).collect(),
                value: number(&result["value"][1]),
            }
        };
        Ok(match text(&data["resultType"]).as_str() {
            "scalar" => vec![Series { labels: BTreeMap::new(), value: number(&data["result"][1]) }],
            _ => list(&data["result"]).iter().map(series).collect(),
        })
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

/// Percent-encoded, all but what never needs it.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
