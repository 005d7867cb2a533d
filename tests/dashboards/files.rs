//! What the files of `deploy/` say: the rules of alerts, and the queries of dashboards.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::common::skip;

/// An alert.
#[derive(Clone, Debug)]
pub struct Alert {
    pub name: String,
    pub query: String,
    pub labels: Vec<(String, String)>,
    pub annotations: Vec<(String, String)>,
    pub is_for: Option<String>,
}

/// A query of a dashboard, and what shows its result.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Dashboard and panel, for a failure's message.
    pub place: String,
    pub query: String,
    /// Names, links and texts in which `{{label}}` or `${__field.labels.label}` stands.
    pub texts: Vec<String>,
}

pub fn dashboards() -> Vec<(PathBuf, Value)> {
    let entries = fs::read_dir("deploy/grafana/dashboards").expect("the folder of dashboards");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a dashboard");
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, json)
    };
    paths.into_iter().map(read).collect()
}

/// Every query of a dashboard: of panels, annotations and variables.
pub fn queries(dashboard: &Value) -> Vec<Shown> {
    let title = text(&dashboard["title"]);
    let mut shown = Vec::new();
    for panel in list(&dashboard["panels"]) {
        let place = format!("{title}, {}", text(&panel["title"]));
        let links: Vec<String> =
            list(&panel["fieldConfig"]["defaults"]["links"]).iter().map(|link| text(&link["url"])).collect();
        for target in list(&panel["targets"]) {
            let texts = [links.clone(), vec![text(&target["legendFormat"])]].concat();
            shown.push(Shown { place: place.clone(), query: text(&target["expr"]), texts });
        }
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        let place = format!("{title}, annotation {}", text(&annotation["name"]));
        shown.push(Shown { place, query: text(&annotation["expr"]), texts: Vec::new() });
    }
    for variable in list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query") {
        let asks = text(&variable["query"]["query"]);
        let inside = asks.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (query, label) = inside.and_then(|inside| inside.rsplit_once(", ")).expect("label_values(query, label)");
        let place = format!("{title}, variable {}", text(&variable["name"]));
        shown.push(Shown { place, query: query.to_owned(), texts: vec![format!("{{{{{label}}}}}")] });
    }
    shown
}

/// Labels that a text takes from a series.
pub fn labels_in(text: &str) -> Vec<String> {
    let mut labels = Vec::new();
    for (open, close) in [("{{", "}}"), ("${__field.labels.", "}")] {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once(open) {
            let (label, after) = after.split_once(close).unwrap_or_else(|| panic!("{text:?} has an open bracket"));
            labels.push(label.trim().to_owned());
            rest = after;
        }
    }
    labels
}

/// `None` where nothing reads YAML here.
pub fn alerts() -> Option<Vec<Alert>> {
    let read = yaml(Path::new("deploy/prometheus/alerts.yml"))?;
    let pairs = |value: &Value| {
        let pairs = value.as_object().into_iter().flatten();
        pairs.map(|(key, value)| (key.clone(), text(value))).collect()
    };
    let alert = |rule: &Value| Alert {
        name: text(&rule["alert"]),
        query: text(&rule["expr"]).split_whitespace().collect::<Vec<_>>().join(" "),
        labels: pairs(&rule["labels"]),
        annotations: pairs(&rule["annotations"]),
        is_for: rule["for"].as_str().map(str::to_owned),
    };
    Some(list(&read["groups"]).iter().flat_map(|group| list(&group["rules"])).map(alert).collect())
}

/// A file's content as JSON, by the one reader of YAML that every distribution has. `None` where there is none.
pub fn yaml(path: &Path) -> Option<Value> {
    const READER: &str = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let content = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // A `python3` that stands before the distribution's has none of the distribution's modules.
    let read = ["python3", "/usr/bin/python3"].into_iter().find_map(|python| {
        let mut python = Command::new(python);
        let python = python.args(["-c", READER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = python.spawn().ok()?;
        // One that has no reader may be gone before it has read all.
        let _ = child.stdin.take().expect("its input").write_all(&content);
        let output = child.wait_with_output().expect("its end");
        let error = String::from_utf8_lossy(&output.stderr);
        if error.contains("No module named 'yaml'") {
            return None;
        }
        assert!(output.status.success(), "{}: {error}", path.display());
        Some(serde_json::from_slice(&output.stdout).expect("JSON"))
    });
    if read.is_none() {
        skip(&format!("reading {}", path.display()), "python3 has no yaml (Debian: python3-yaml)");
    }
    read
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
