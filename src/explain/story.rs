//! Value: what is told of a request or a connection. The same document from a file and from a running process; what does not apply is
//! absent. `show` has it as text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Story {
    /// Absent where it is not read: of a connection through an `l4` proxy.
    pub request: Option<Request>,
    /// The client: an address, or address and port.
    pub from: String,
    /// Nobody said who it is.
    pub from_imagined: bool,
    pub listener: Option<Listener>,
    pub service: Option<ServiceTold>,
    /// The one that wins.
    pub route: Option<RouteTold>,
    /// Others that take it too, in order of precedence, then those that nearly do, the closest first.
    pub others: Vec<Other>,
    pub others_left_out: usize,
    pub sent: Option<Sent>,
    pub pool: Option<PoolTold>,
    pub choice: Option<Choice>,
    pub verdict: Verdict,
    /// Asked of a running process, with its health, intents, weights and counts. Else every endpoint is taken to be up and idle.
    pub live: bool,
    /// Of the configuration in force.
    pub generation: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// As it was asked.
    pub asked: String,
    /// As the parser read it, in the form that routes match; absent where it was refused.
    pub method: Option<String>,
    pub host: Option<String>,
    pub path: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    pub address: String,
    /// It would take the connection. False: the service was named, and this is its first.
    pub reached: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceTold {
    pub name: String,
    pub mode: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RouteTold {
    /// Canonical; `*` for the default route.
    pub url: String,
    pub priority: i64,
    pub pool: String,
    pub file: String,
    pub line: u32,
    /// Over the next one that takes the request too: `exact-host`. Absent where there is none.
    pub because: Option<String>,
    /// The same as a sentence.
    pub why: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Other {
    pub url: String,
    pub priority: i64,
    pub pool: String,
    pub file: String,
    pub line: u32,
    pub fate: Fate,
    pub why: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It takes the request too, and another goes first.
    #[default]
    Loses,
    /// Its host is another.
    OtherHost,
    /// Its path is another.
    OtherPath,
}

/// What the endpoint gets, beside what the client sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    pub line: String,
    /// The client's line was another one.
    pub line_changed: bool,
    /// Fields that are not as the client sent them.
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// What the client says of its own clients is believed (`trusted_proxies`).
    pub trusted: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolTold {
    pub name: String,
    pub balance: String,
    pub usable: usize,
    /// What is unusual about who serves now: `panic`, `backup`, `local`.
    pub serving: Vec<String>,
    /// Most requests in flight, or connections, of each endpoint, where that is bounded.
    pub most_in_flight: Option<u32>,
    /// In the order of the file.
    pub endpoints: Vec<Candidate>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    pub name: String,
    pub intent: String,
    pub health: String,
    /// New work may go there.
    pub usable: bool,
    pub weight: u16,
    /// What of it is in force, while the endpoint warms up.
    pub weight_now: Option<f64>,
    pub backup: bool,
    /// It carries as much as it may: another gets the request, or it waits.
    pub full: bool,
    /// Back from an ejection: one request at a time.
    pub trial: bool,
    pub zone: Option<String>,
    /// Only of a running process.
    pub in_flight: Option<u32>,
    /// What the picker compares: `cost`, in `ms`. Absent where it compares nothing.
    pub score: Option<f64>,
    pub score_name: Option<String>,
    pub score_unit: Option<String>,
    /// How likely it is picked, in percent.
    pub chance: f64,
    /// Why it is in its state, of a running process.
    pub cause: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    /// Absent where it is a matter of chance.
    pub endpoint: Option<String>,
    pub certain: bool,
    /// How it is made.
    pub how: String,
    /// What the pool is sticky by, as far as the request has it.
    pub key: Option<String>,
    /// What is not known here, and what was taken instead.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// `forward`, `refuse`, `unreached`.
    pub action: String,
    /// The drop reason.
    pub why: Option<String>,
    /// What the client gets.
    pub status: Option<u16>,
    pub meaning: Option<String>,
    pub way_out: Option<String>,
}
