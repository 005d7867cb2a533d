//! Engine: the admin API's description (OpenAPI 3.1), made from the table that routes it and the types of its documents.
//!
//! `docs/openapi.json` is this, and so is `/api/openapi.json`; tests hold the file to it, and every answer of the API.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::document::{
    Candidate, Compared, Diagnostics, Dump, Events, Explained, Intended, Pool, Problem, ReloadRejected, Reloaded,
    Service, SetWeight, Status, Upgraded,
};
use super::operations::{Action, Does, OPERATIONS, Operation};
use crate::base::limits;

/// The whole description, as it is sent. Made once: it takes milliseconds, and anybody may ask for it as often as they like.
pub fn sent() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));
    &TEXT
}

/// The whole description.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let method = if operation.does == Does::Read { "get" } else { "post" };
        paths.insert(operation.path.to_owned(), json!({ method: describe(operation, &mut generator) }));
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Strata's admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Documents only ever gain fields. HEAD is taken wherever GET is. Where a token is set, it is asked for.",
        },
        "servers": [{ "url": "http://127.0.0.1:9900" }],
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas,
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for Reply { status, means, content } in replies(operation.action) {
        let content = match content {
            Content::Text(kinds) => kinds
                .iter()
                .map(|kind| ((*kind).to_owned(), json!({ "schema": { "type": "string" } })))
                .collect::<Map<_, _>>()
                .into(),
            Content::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
        };
        responses.insert(status.to_string(), json!({ "description": means, "content": content }));
    }
    let problem = generator.subschema_for::<Problem>();
    responses.insert(
        "default".to_owned(),
        json!({ "description": "Why not", "content": { "application/json": { "schema": problem } } }),
    );
    let mut described = json!({
        "operationId": operation.action.word(),
        "summary": operation.summary,
        "responses": responses,
    });
    let parameters: Vec<Value> = in_path(operation.path).chain(in_query(operation.action)).collect();
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some((required, schema)) = body(operation.action) {
        let schema = schema(generator);
        described["requestBody"] =
            json!({ "required": required, "content": { "application/json": { "schema": schema } } });
    }
    if !operation.reach.needs_token() {
        described["security"] = json!([]);
    }
    described
}

type Make = fn(&mut SchemaGenerator) -> Schema;

enum Content {
    Text(&'static [&'static str]),
    Json(Make),
}

struct Reply {
    status: u16,
    means: &'static str,
    content: Content,
}

fn of<T: JsonSchema>(status: u16, means: &'static str) -> Reply {
    Reply { status, means, content: Content::Json(|generator| generator.subschema_for::<T>()) }
}

fn text(status: u16, means: &'static str) -> Reply {
    Reply { status, means, content: Content::Text(&["text/plain"]) }
}

const PAGE: Content = Content::Text(&["text/html"]);
const FILE: Content = Content::Text(&["text/css", "text/javascript", "image/svg+xml"]);

fn replies(action: Action) -> Vec<Reply> {
    match action {
        Action::Dashboard => vec![Reply { status: 200, means: "The page", content: PAGE }],
        Action::DashboardFile => vec![Reply { status: 200, means: "The file", content: FILE }],
        Action::Metrics => vec![text(200, "In the text format of Prometheus")],
        Action::Alive => vec![text(200, "It lives"), text(503, "One of its loops does not go on: restart it")],
        Action::Ready => vec![
            text(200, "It takes traffic; a line for each service that takes none"),
            text(503, "It takes none, and why"),
        ],
        Action::Status => vec![of::<Status>(200, "What is served")],
        Action::Services => vec![of::<Vec<Service>>(200, "In the order of the file")],
        Action::Pools => vec![of::<Vec<Pool>>(200, "In the order of the file")],
        Action::Config => vec![of::<Map<String, Value>>(200, "The configuration, as `strata dump --json` has it")],
        Action::Dump => vec![of::<Dump>(200, "Values and places")],
        Action::Explain => vec![of::<Explained>(200, "What becomes of it")],
        Action::Events => vec![of::<Events>(200, "Changes")],
        Action::Diagnostics => vec![of::<Diagnostics>(200, "Warnings and mistakes")],
        Action::OpenApi => vec![of::<Map<String, Value>>(200, "This description")],
        Action::Reload => vec![
            of::<Reloaded>(200, "It is in force, and this changed"),
            of::<ReloadRejected>(422, "It is refused, and why"),
        ],
        Action::Upgrade => vec![of::<Upgraded>(200, "Another process serves")],
        Action::Compare => vec![
            of::<Compared>(200, "What a reload would change"),
            of::<ReloadRejected>(422, "Why it would be refused"),
        ],
        Action::Drain | Action::Maintain | Action::Restore => vec![of::<Intended>(200, "What is wanted of it now")],
        Action::Weight => vec![of::<SetWeight>(200, "The weight it has now")],
    }
}

fn body(action: Action) -> Option<(bool, Make)> {
    match action {
        Action::Weight => Some((true, |generator| generator.subschema_for::<SetWeight>())),
        Action::Compare => Some((false, |generator| generator.subschema_for::<Candidate>())),
        _ => None,
    }
}

fn in_path(path: &'static str) -> impl Iterator<Item = Value> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
}

fn in_query(action: Action) -> Vec<Value> {
    let parameter = |name: &str, required: bool, means: &str, schema: Value| json!({ "name": name, "in": "query", "required": required, "description": means, "schema": schema });
    let string = || json!({ "type": "string" });
    match action {
        Action::Explain => vec![
            parameter(
                "what",
                true,
                "A request, `GET http://a.test/x`, or a packet, `tcp 10.1.0.9:4242 > 10.0.0.1:80`",
                string(),
            ),
            parameter("from", false, "Of a request: the client's address", string()),
            parameter("service", false, "Of a request: the service, where the URL does not say it", string()),
            parameter(
                "header",
                false,
                "Of a request: a field, `Cookie: a=1`; may be repeated",
                json!({ "type": "array", "items": string() }),
            ),
            parameter("in", false, "Of a packet: the interface it comes in by", string()),
        ],
        Action::Ready => vec![
            parameter(
                "service",
                false,
                "Of this service alone; absent: of the process, which is ready while it serves any",
                string(),
            ),
            parameter("all", false, "Present: not before everything is served", json!({ "type": "boolean" })),
        ],
        Action::Events => vec![
            parameter(
                "since",
                false,
                "Those after this number; absent: the last",
                json!({ "type": "integer", "minimum": 0 }),
            ),
            parameter(
                "limit",
                false,
                "At most so many",
                json!({ "type": "integer", "minimum": 1, "maximum": limits::EVENTS }),
            ),
        ],
        _ => Vec::new(),
    }
}
