//! Shell: tests that hold the API to its description: every path and method in it answers, with documents of the shape that it
//! says, and nothing else is routed.

use serde_json::Value;

use super::*;
use crate::admin::document::{Compared, Explained, Upgraded};
use crate::admin::openapi;
use crate::admin::operations::OPERATIONS;

/// Why `value` is not what `schema` says; of JSON schema what the description uses, and fields that it does not name are wrong.
fn mistake(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let Some(rules) = schema.as_object() else {
        return (schema == &Value::Bool(false)).then(|| format!("{at}: nothing is allowed"));
    };
    for (rule, says) in rules {
        let wrong = match rule.as_str() {
            "$ref" => {
                let pointer = says.as_str().unwrap().strip_prefix('#').unwrap();
                let there = root.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not there"));
                // What stands beside it names fields of its own.
                let mut rest = value.clone();
                if let Some(rest) = rest.as_object_mut() {
                    let own = rules.get("properties").and_then(Value::as_object);
                    rest.retain(|name, _| own.is_none_or(|own| !own.contains_key(name)));
                }
                mistake(root, there, &rest, at)
            }
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "null" => value.is_null(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "number" => value.is_number(),
                    "string" => value.is_string(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("{at}: the type {other}"),
                };
                let fits = says.as_array().map_or_else(|| is(says), |any| any.iter().any(is));
                (!fits).then(|| format!("{at}: {value} is no {says}"))
            }
            "const" => (says != value).then(|| format!("{at}: {value} is not {says}")),
            "enum" => (!says.as_array().unwrap().contains(value)).then(|| format!("{at}: {value} is not of {says}")),
            "minimum" => {
                value.as_f64().filter(|value| *value < says.as_f64().unwrap()).map(|v| format!("{at}: {v} < {says}"))
            }
            "maximum" => {
                value.as_f64().filter(|value| *value > says.as_f64().unwrap()).map(|v| format!("{at}: {v} > {says}"))
            }
            "required" => {
                let missing = says.as_array().unwrap().iter().find(|name| value.get(name.as_str().unwrap()).is_none());
                missing.map(|name| format!("{at}: {name} is missing in {value}"))
            }
            "properties" => says
                .as_object()
                .unwrap()
                .iter()
                .find_map(|(name, schema)| mistake(root, schema, value.get(name)?, &format!("{at}.{name}"))),
            "items" => value.as_array().and_then(|items| {
                items.iter().enumerate().find_map(|(n, item)| mistake(root, says, item, &format!("{at}[{n}]")))
            }),
            "additionalProperties" => {
                let own = rules.get("properties").and_then(Value::as_object);
                let others = value.as_object().into_iter().flatten();
                others
                    .filter(|(name, _)| own.is_none_or(|own| !own.contains_key(*name)))
                    .find_map(|(name, value)| mistake(root, says, value, &format!("{at}.{name}")))
            }
            "anyOf" | "oneOf" => {
                let found: Vec<_> =
                    says.as_array().unwrap().iter().map(|schema| mistake(root, schema, value, at)).collect();
                found.iter().all(Option::is_some).then(|| format!("{at}: none of {found:?}"))
            }
            "description" | "default" | "format" | "title" => None,
            other => panic!("{at}: {other} is a rule that this does not know"),
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    let known = named(root, schema);
    let is_open = rules.contains_key("additionalProperties") || known.is_empty();
    let unknown = value.as_object().into_iter().flatten().find(|(name, _)| !known.contains(name));
    unknown.filter(|_| !is_open).map(|(name, _)| format!("{at}: {name} is not described"))
}

/// Fields that a schema names, where it stands and where it leads.
fn named(root: &Value, schema: &Value) -> Vec<String> {
    let own = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
    let there = schema["$ref"].as_str().and_then(|to| root.pointer(to.strip_prefix('#')?));
    let parts = ["anyOf", "oneOf"].into_iter().filter_map(|rule| schema[rule].as_array()).flatten();
    own.chain(there.into_iter().chain(parts).flat_map(|schema| named(root, schema))).collect()
}

/// Status, fields and body.
async fn ask(admin: std::net::SocketAddr, head: &str, body: &str) -> (u16, String, String) {
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let (status, answer) = raw(admin, &request).await;
    let (fields, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, fields.to_lowercase(), body.to_owned())
}

/// A control side that does what it is asked, or refuses everything.
async fn play(mut requests: mpsc::Receiver<Request>, willing: bool) {
    let refused = || ReloadRejected {
        error: "no".into(),
        diagnostics: vec![Diagnostic { help: Some("y".into()), ..Diagnostic::default() }],
        rendered: "x".into(),
    };
    while let Some(request) = requests.recv().await {
        match request {
            Request::SetIntent { reply, .. } | Request::SetWeight { reply, .. } => {
                let _ = reply.send(if willing { Ok(()) } else { Err(Refused::Because("no".into())) });
            }
            Request::Reload { reply, .. } => {
                let changes = vec!["pool web added".into()];
                let done = Reloaded { generation: 2, changes, warnings: "w".into() };
                let _ = reply.send(if willing { Ok(done) } else { Err(refused()) });
            }
            Request::Upgrade { reply } => {
                let _ = reply.send(if willing { Ok(Upgraded { pid: 7 }) } else { Err("no".into()) });
            }
            Request::Compare { reply, .. } => {
                let _ = reply.send(if willing { Ok(Compared::default()) } else { Err(refused()) });
            }
            Request::ExplainPacket { reply, .. } => {
                let told = Explained::Packet { text: "x".into(), story: serde_json::json!({ "y": 1 }) };
                let _ = reply.send(if willing { Ok(told) } else { Err("no".into()) });
            }
            Request::HealthReport { reply } => {
                let report = EndpointReport {
                    pool: "web".into(),
                    endpoint: "192.0.2.1:80".into(),
                    cause: Some("status 503".into()),
                    since: Some(Duration::from_secs(3)),
                    next_probe: None,
                };
                let _ = reply.send(vec![report]);
            }
        }
    }
}

#[tokio::test]
async fn every_path_and_method_answers_as_it_is_described() {
    local(async {
        let described = openapi::document();
        for willing in [true, false] {
            let rig = rig();
            let admin = rig.servers.admin_address().unwrap();
            if !willing {
                rig.reloads.failed(
                    std::time::UNIX_EPOCH,
                    "signal",
                    ReloadRejected { diagnostics: vec![Diagnostic::default()], ..ReloadRejected::default() },
                );
                rig.crew.drain();
            }
            tokio::task::spawn_local(play(rig.requests, willing));
            let mut seen = 0;
            for (path, methods) in described["paths"].as_object().unwrap() {
                let endpoint = if willing { "192.0.2.2:80" } else { "192.0.2.1:80" };
                // A pool whose weights are looked at.
                let target =
                    path.replace("{pool}", "web").replace("{endpoint}", endpoint).replace("{file}", "script.js");
                let queries: &[&str] = match path.as_str() {
                    "/api/explain" => &[
                        "?what=GET+/v1/x&service=edge&from=10.1.0.9&header=Cookie:%20a=1",
                        "?what=tcp+10.1.0.9:4242+%3E+10.0.0.1:80",
                        "",
                    ],
                    "/api/events" => &["", "?since=0&limit=5", "?since=x"],
                    _ => &[""],
                };
                for (method, operation) in methods.as_object().unwrap() {
                    for query in queries {
                        let body = if path.ends_with("/weight") { "{\"weight\": 5}" } else { "" };
                        let head = format!("{} {target}{query}", method.to_uppercase());
                        let (status, fields, body) = ask(admin, &head, body).await;
                        let (is_ok, may_fail) = (status == 200, !willing || query == &"" || query.ends_with('x'));
                        assert!(is_ok || may_fail, "{head}: {status} {body}");
                        let replies = &operation["responses"];
                        let reply = replies.get(status.to_string()).unwrap_or(&replies["default"]);
                        let told = |kind: &&String| fields.contains(&format!("content-type: {kind}"));
                        let mut kinds = reply["content"].as_object().unwrap().iter();
                        let (kind, says) =
                            kinds.find(|(kind, _)| told(kind)).unwrap_or_else(|| panic!("{head}: {fields}"));
                        if kind == "application/json" {
                            let read: Value = serde_json::from_str(&body).unwrap();
                            let wrong = mistake(&described, &says["schema"], &read, "");
                            assert_eq!(wrong, None, "{head}: {status} {body}");
                        }
                        seen += 1;
                    }
                }
                // No other method is taken, and that is said.
                let taken: Vec<String> =
                    methods.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
                for method in
                    ["GET", "POST", "PUT", "DELETE", "PATCH"].iter().filter(|m| !taken.contains(&(**m).to_owned()))
                {
                    let (status, fields, _) = ask(admin, &format!("{method} {target}"), "").await;
                    let allow = if taken == ["GET"] { "allow: get, head\r\n" } else { "allow: post\r\n" };
                    assert!(
                        status == 405 && (fields.clone() + "\r\n").contains(allow),
                        "{method} {target}: {status} {fields}"
                    );
                }
            }
            assert!(seen > OPERATIONS.len(), "{seen}");
        }
    })
    .await;
}

#[test]
fn all_that_is_routed_is_described_and_nothing_else() {
    let described = openapi::document();
    let paths: Vec<&String> = described["paths"].as_object().unwrap().keys().collect();
    let routed: Vec<&str> = OPERATIONS.iter().map(|operation| operation.path).collect();
    assert_eq!(paths, routed);
    let mut names: Vec<&str> = described["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|methods| methods.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), routed.len(), "names of operations are their own");
}

/// The judge itself: it finds what is missing, wrong, or not described.
#[test]
fn a_document_of_another_shape_is_found() {
    let root = openapi::document();
    let schema = serde_json::json!({ "$ref": "#/components/schemas/Event" });
    let right =
        serde_json::json!({ "seq": 1, "at_ms": 2, "level": "info", "kind": "pool", "subject": "", "text": "x" });
    assert_eq!(mistake(&root, &schema, &right, ""), None);
    for (field, value) in [("seq", Value::Null), ("seq", "1".into()), ("seq", (-1).into()), ("more", 1.into())] {
        let mut wrong = right.clone();
        wrong[field] = value;
        assert!(mistake(&root, &schema, &wrong, "").is_some(), "{wrong}");
    }
    let mut missing = right;
    missing.as_object_mut().unwrap().remove("text");
    assert!(mistake(&root, &schema, &missing, "").is_some());
}
