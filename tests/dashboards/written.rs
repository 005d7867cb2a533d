//! What the files say, without running anything but `promtool`: metrics, labels and words that exist, pages that are there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use strata::observe::names::{self, Kind, Metric};

use super::asked::filled;
use super::common::skip;
use super::files::{Alert, alerts, dashboards, labels_in, list, queries, text, yaml};
use super::promql::{self, Query, Selector};
use super::words;

/// Every query, with where it stands.
fn all_queries() -> Option<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> =
        alerts()?.into_iter().map(|alert| (format!("alert {}", alert.name), alert.query)).collect();
    for (_, dashboard) in dashboards() {
        all.extend(queries(&dashboard).into_iter().map(|shown| (shown.place, shown.query)));
    }
    Some(all)
}

#[test]
fn every_query_names_metrics_labels_and_words_that_strata_exports() {
    let Some(queries) = all_queries() else { return };
    assert!(queries.len() > 150, "{}", queries.len());
    let wrong: Vec<String> = queries
        .iter()
        .flat_map(|(place, query)| {
            faults(&promql::read(query)).into_iter().map(move |fault| format!("{place}: {fault}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Who looks at a graph or waits for an alert must not miss a part of Strata because nobody thought of it. What every exporter has is
/// for graphs that others have.
#[test]
fn every_metric_is_shown_or_alerted_on() {
    let Some(queries) = all_queries() else { return };
    let asked: BTreeSet<&str> = queries
        .iter()
        .flat_map(|(_, query)| promql::read(query).selectors)
        .filter_map(|selector| family(&selector.metric).map(|(metric, _)| metric.name))
        .collect();
    let forgotten: Vec<&str> = names::ALL
        .iter()
        .map(|metric| metric.name)
        .filter(|name| !asked.contains(name) && !name.starts_with("process_"))
        .collect();
    assert!(forgotten.is_empty(), "no dashboard and no alert looks at {forgotten:?}");
}

/// What is wrong with a query.
fn faults(query: &Query) -> Vec<String> {
    let mut faults = Vec::new();
    let mut known: BTreeSet<String> = TARGET.iter().map(|label| (*label).to_owned()).collect();
    for selector in &query.selectors {
        let Some(labels) = labels_of(selector) else {
            faults.push(format!("there is no metric {}", selector.metric));
            continue;
        };
        for (label, operator, value) in &selector.matchers {
            if !labels.contains(&label.as_str()) && !TARGET.contains(&label.as_str()) {
                faults.push(format!("{} has no label {label}", selector.metric));
            }
            faults.extend(unknown_words(selector, label, operator, value));
        }
        known.extend(labels.iter().map(|label| (*label).to_owned()));
    }
    faults.extend(
        query
            .grouped
            .iter()
            .filter(|label| !known.contains(*label))
            .map(|label| format!("nothing has a label {label}")),
    );
    faults
}

/// Words that the label never has: an alert that waits for one would never fire.
fn unknown_words(selector: &Selector, label: &str, operator: &str, value: &str) -> Vec<String> {
    let alternatives = || if operator.contains('~') { value.split('|').collect() } else { vec![value] };
    let is_status = |word: &str| word.len() == 3 && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    let wrong = |word: &&str| match words::of(&selector.metric, label) {
        _ if word.starts_with('$') => false,
        Some(words) => !words.contains(word),
        None => label == "code" && !is_status(word),
    };
    let named = |word: &str| format!("{}: {label} is never {word:?}", selector.metric);
    alternatives().into_iter().filter(wrong).map(named).collect()
}

/// The family of a metric of Strata's own, and whether it is a histogram's bucket.
fn family(name: &str) -> Option<(&'static Metric, bool)> {
    let find = |name: &str, histogram: bool| {
        names::ALL.iter().find(|metric| metric.name == name && (metric.kind == Kind::Histogram) == histogram)
    };
    let part = ["_bucket", "_sum", "_count"].iter().find_map(|end| Some((name.strip_suffix(end)?, *end)));
    match part {
        Some((base, end)) if find(base, true).is_some() => Some((find(base, true)?, end == "_bucket")),
        _ => Some((find(name, false)?, false)),
    }
}

fn labels_of(selector: &Selector) -> Option<Vec<&'static str>> {
    let name = selector.metric.as_str();
    if let Some((metric, is_bucket)) = family(name) {
        let le = is_bucket.then_some("le");
        return Some(metric.labels.iter().copied().chain(le).collect());
    }
    match name {
        // Prometheus' own.
        "up" => Some(Vec::new()),
        "ALERTS" => Some(vec!["alertname", "alertstate", "severity"]),
        _ => None,
    }
}

/// What Prometheus adds to every series.
const TARGET: [&str; 2] = ["job", "instance"];

#[test]
fn a_query_with_a_mistake_is_found_out() {
    for (query, fault) in [
        ("strata_nonsense_total", "there is no metric strata_nonsense_total"),
        ("rate(strata_requests_total_bucket[5m])", "there is no metric strata_requests_total_bucket"),
        ("strata_request_duration_seconds", "there is no metric strata_request_duration_seconds"),
        ("strata_pool_panic{service=\"x\"}", "strata_pool_panic has no label service"),
        ("strata_drops_total{reason=~\"queue-full|queue-ful\"}", "strata_drops_total: reason is never \"queue-ful\""),
        ("strata_requests_total{code=\"5xx\"}", "strata_requests_total: code is never \"5xx\""),
        ("sum by (pool) (strata_connections_active)", "nothing has a label pool"),
    ] {
        assert_eq!(faults(&promql::read(query)), [fault], "{query}");
    }
}

#[test]
fn every_alert_says_how_bad_it_is_for_how_long_and_what_to_do() {
    let Some(alerts) = alerts() else { return };
    assert!(alerts.len() > 40, "{}", alerts.len());
    let page = fs::read_to_string("docs/monitoring.md").expect("docs/monitoring.md");
    let tests = fs::read_to_string("deploy/prometheus/alerts.test.yml").expect("alerts.test.yml");
    let headings: BTreeSet<String> = page
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_matches(['#', ' ']).to_owned())
        .collect();
    for Alert { name, labels, annotations, is_for, .. } in &alerts {
        let of = |pairs: &[(String, String)], key: &str| {
            let found = pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
            found.unwrap_or_else(|| panic!("{name} has no {key}"))
        };
        let severity = of(labels, "severity");
        assert!(["critical", "warning", "info", "none"].contains(&severity.as_str()), "{name}: {severity}");
        assert!(is_for.is_some(), "{name} does not say for how long");
        for key in ["summary", "description"] {
            assert!(of(annotations, key).len() > 20, "{name}: {key}");
        }
        // What a heading of one word is reached by.
        assert_eq!(of(annotations, "runbook_url"), format!("docs/monitoring.md#{}", name.to_lowercase()));
        assert!(headings.contains(name), "docs/monitoring.md does not say what to do about {name}");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "alerts.test.yml does not test {name}");
    }
}

/// Runs `promtool` in `deploy/prometheus`; `false` where it is missing.
fn promtool(words: &[&str]) -> bool {
    let output = match Command::new("promtool").args(words).current_dir("deploy/prometheus").output() {
        Ok(output) => output,
        Err(_) => {
            skip(&format!("promtool {}", words.join(" ")), "promtool is not installed (Debian: prometheus)");
            return false;
        }
    };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {}:\n{said}", words.join(" "));
    true
}

#[test]
fn promtool_takes_the_configuration_and_the_rules_and_they_fire_when_they_should() {
    let _ = promtool(&["check", "config", "prometheus.yml"])
        && promtool(&["check", "rules", "alerts.yml"])
        && promtool(&["test", "rules", "alerts.test.yml"]);
}

#[test]
fn promtool_takes_every_query_of_every_dashboard() {
    let mut rules = String::from("groups:\n- name: dashboards\n  rules:\n");
    for (_, dashboard) in dashboards() {
        for shown in queries(&dashboard) {
            let query = Value::from(filled(&shown.query));
            let _ = writeln!(
                rules,
                "  - record: q\n    expr: {query}\n    labels: {{ place: {} }}",
                Value::from(shown.place)
            );
        }
    }
    let folder = std::env::temp_dir().join(format!("strata-queries-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("queries.yml");
    fs::write(&file, rules).expect("the queries as rules");
    promtool(&["check", "rules", "--lint=none", file.to_str().expect("a path")]);
    fs::remove_dir_all(folder).expect("the folder is ours");
}

#[test]
fn dashboards_are_as_grafana_wants_them() {
    let dashboards = dashboards();
    let uids: Vec<String> = dashboards.iter().map(|(_, dashboard)| text(&dashboard["uid"])).collect();
    assert_eq!(uids, ["strata-overview", "strata-packets", "strata-pool", "strata-service"]);
    for (path, dashboard) in &dashboards {
        let name = path.display();
        assert!(dashboard.get("id").is_none(), "{name}: an id is one installation's");
        // Grafana 10 and 11 read these, and write 39 themselves.
        assert!((36..=39).contains(&dashboard["schemaVersion"].as_u64().unwrap_or(0)), "{name}");
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert_eq!(text(&dashboard["uid"]), format!("strata-{stem}"), "{name}");
        assert_eq!(dashboard["tags"], serde_json::json!(["strata"]), "{name}: links between dashboards go by the tag");
        assert!(list(&dashboard["links"]).iter().any(|link| link["tags"][0] == "strata"), "{name}");
        let variables: Vec<String> =
            list(&dashboard["templating"]["list"]).iter().map(|variable| text(&variable["name"])).collect();
        let content = fs::read_to_string(path).expect("it was read before");
        for variable in ["instance", "service", "pool"] {
            let used = content.contains(&format!("\\\"${variable}\\\""));
            assert_eq!(used, variables.contains(&variable.to_owned()), "{name}: {variable}");
        }
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard["panels"]) {
            let title = format!("{name}, {}", text(&panel["title"]));
            assert!(panel["id"].as_u64().is_some_and(|id| ids.insert(id)), "{title}: its id is another panel's");
            let of = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{title}: no {key}"));
            assert!(of("x") + of("w") <= 24, "{title} is too wide");
            for cell in (of("x")..of("x") + of("w")).flat_map(|x| (of("y")..of("y") + of("h")).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{title} lies over another panel");
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(text(&panel["description"]).len() > 5, "{title} does not say what it shows");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            let mut refs = BTreeSet::new();
            for target in list(&panel["targets"]) {
                assert!(refs.insert(text(&target["refId"])), "{title}: two queries of one name");
            }
            assert!(!refs.is_empty(), "{title} asks nothing");
        }
    }
    // Links lead to dashboards and variables that are there.
    for (path, _) in &dashboards {
        let content = fs::read_to_string(path).expect("it was read before");
        for link in content.split("\"/d/").skip(1) {
            let (uid, rest) = link.split_once('?').expect("variables");
            assert!(uids.iter().any(|known| known == uid), "{}: a link to {uid}", path.display());
            let kind = uid.trim_start_matches("strata-");
            assert!(rest.starts_with(&format!("var-{kind}=")), "{}: a link to {uid}", path.display());
        }
    }
    assert_eq!(labels_in("{{pool}} at {{ instance }} ${__field.labels.vip}"), ["pool", "instance", "vip"]);
}

#[test]
fn provisioning_leads_to_where_the_files_are_mounted() {
    let folder = Path::new("deploy/grafana/provisioning");
    let Some(sources) = yaml(&folder.join("datasources/prometheus.yml")) else { return };
    let Some(providers) = yaml(&folder.join("dashboards/strata.yml")) else { return };
    let Some(prometheus) = yaml(Path::new("deploy/prometheus/prometheus.yml")) else { return };
    let source = &sources["datasources"][0];
    assert_eq!((&source["type"], &source["uid"]), (&"prometheus".into(), &"prometheus".into()));
    assert_eq!(source["url"], "http://prometheus:9090");
    let interval = &prometheus["global"]["scrape_interval"];
    assert_eq!(&source["jsonData"]["timeInterval"], interval, "rates would look at too few samples");
    let home = providers["providers"][0]["options"]["path"].as_str().expect("a path");
    assert_eq!(home, "/var/lib/grafana/dashboards");
    let job = &prometheus["scrape_configs"][0];
    assert_eq!((&job["job_name"], &job["static_configs"][0]["targets"][0]), (&"strata".into(), &"strata:9901".into()));
    assert_eq!(prometheus["rule_files"][0], "alerts.yml");
    // The world of containers mounts them there, and calls its services by these names.
    let Some(world) = yaml(Path::new("docker-compose.yml")) else { return };
    for (service, from, to) in [
        ("prometheus", "./deploy/prometheus", "/etc/prometheus"),
        ("grafana", "./deploy/grafana/provisioning", "/etc/grafana/provisioning"),
        ("grafana", "./deploy/grafana/dashboards", home),
    ] {
        let volumes = list(&world["services"][service]["volumes"]);
        let mounted = volumes.iter().any(|volume| text(volume).starts_with(&format!("{from}:{to}")));
        assert!(mounted, "{service} of docker-compose.yml does not have {from} at {to}: {volumes:?}");
    }
    assert!(world["services"]["strata"].is_object(), "prometheus.yml scrapes a service that is not there");
}
