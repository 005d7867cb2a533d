//! Value: the keys of every table that is read by hand: what each takes, what its absence means, and what it is for. The
//! schema and the reference page are made from it; plug-ins bring grammars of their own.
//!
//! It stands beside the readers and not in them, because what a key takes can depend on its neighbours. A test holds the two
//! together: it reads every file of `conf/` and `conf/bad/`, and compares what the readers asked for with what stands here, key by
//! key and bound by bound, and the defaults with those of the effective configuration.

use std::time::Duration;

use super::Catalogs;
use crate::balance::capacity::CAPACITY;
use crate::base::limits;
use crate::doc::{Grammar, Shape};
use crate::{balance, health};
use Need::{Default, Optional, Required, Sometimes};
use Shape::Word;
use Takes::{Fields, Free, Many, ManyOrPlugin, ManyOrTable, Named, One, Plugin, Table, Tables};

/// The keys of one kind of table.
#[derive(Debug)]
pub struct Section {
    /// What its reader calls it.
    pub kind: &'static str,
    /// As a file writes it: `[service.NAME]`.
    pub title: &'static str,
    /// One line, lower case, no full stop.
    pub about: &'static str,
    pub keys: &'static [Key],
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub takes: Takes,
    pub need: Need,
    /// One line, lower case, no full stop.
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Need {
    Required,
    /// Needed by some; of which the help speaks.
    Sometimes,
    /// Absent, it means this, as the operator would write it.
    Default(&'static str),
    Optional,
}

/// What a key takes.
#[derive(Debug)]
pub enum Takes {
    /// One of these.
    One(&'static [Shape]),
    /// A list of them, or one that stands for a list of one.
    Many(&'static [Shape]),
    /// `[key]`, of this kind.
    Table(&'static str),
    /// `[key.NAME]`, each of this kind.
    Named(&'static str),
    /// `[[key]]`, each of this kind.
    Tables(&'static str),
    /// What stands alone, or a table of this kind; or a list of either.
    ManyOrTable(&'static [Shape], &'static str),
    /// A list, or one that stands for a list of one; or, where that makes no sense, a plug-in's settings.
    ManyOrPlugin(&'static [Shape], Family),
    /// Texts by names that the user chooses, or one text or a list of them.
    Free,
    /// The settings of one plug-in of several.
    Plugin(Family),
    /// The settings of the one there is.
    Fields(&'static Grammar),
}

/// The catalogues that settings are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Balance,
    Probe,
    Mac,
    Zones,
    /// Of endpoints.
    Source,
    /// Of routes too.
    RouteSource,
}

impl Family {
    /// The grammars of the family. Those of a floor above are passed.
    pub fn grammars(self, above: &Catalogs<'_>) -> Vec<&'static Grammar> {
        match self {
            Family::Balance => balance::CATALOG.iter().map(|spec| &spec.grammar).collect(),
            Family::Probe => above.probes.to_vec(),
            Family::Source => above.sources.to_vec(),
            Family::RouteSource => above.route_sources.to_vec(),
            Family::Mac => super::vip::MACS.to_vec(),
            Family::Zones => vec![&health::PREFER_LOCAL],
        }
    }
}

const fn key(name: &'static str, takes: Takes, need: Need, help: &'static str) -> Key {
    Key { name, takes, need, help }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const TEXT: &[Shape] = &[Shape::Text];
const BOOL: &[Shape] = &[Shape::Bool];
const WAIT: &[Shape] = &[Shape::Duration { min: ms(100), max: secs(7 * 24 * 3600) }];
const FLOW_WAIT: &[Shape] = &[Shape::Duration { min: secs(1), max: secs(24 * 3600) }];
const COUNT: &[Shape] = &[Shape::Integer { min: 1, max: u32::MAX as u64 }];
const RECORDS: &[Shape] = &[Word(&["json", "combined"])];

/// Every kind of table, the file itself first.
pub static SECTIONS: &[Section] = &[
    Section {
        kind: "top",
        title: "the top of the file",
        about: "before the first table",
        keys: &[
            key(
                "include",
                Many(TEXT),
                Optional,
                "files that join this one, in the main file only; the last part of a path may be a pattern",
            ),
            key(
                "watch",
                One(BOOL),
                Default("false"),
                "an edit of any file that the configuration is made of is a reload",
            ),
            key(
                "workers",
                One(&[Shape::Integer { min: 1, max: limits::WORKERS }]),
                Optional,
                "threads that carry traffic; default: one for each core",
            ),
            key("process", Table("process"), Optional, "what the process may use of its machine, and whom it becomes"),
            key("metrics", Table("metrics"), Optional, "where metrics are read"),
            key("admin", Table("admin"), Optional, "where `strata status` and the like ask"),
            key("log", Table("log"), Optional, "Strata's own log lines"),
            key(
                "access_log",
                Table("access_log"),
                Optional,
                "records of requests and connections; its presence turns them on for every proxy",
            ),
            key("cluster", Table("cluster"), Optional, "what nodes that serve the same have in common"),
            key("packets", Table("packets"), Optional, "what holds for all packet services"),
            key("drain", Table("drain"), Optional, "how the process ends"),
            key("service", Named("service"), Optional, "what clients reach"),
            key("vip", Named("vip"), Optional, "addresses that packet services are reached at"),
            key("pool", Named("pool"), Optional, "endpoints, and how one is picked"),
            key("test", Tables("test"), Optional, "what the file says of itself, run by `strata check`"),
        ],
    },
    Section {
        kind: "metrics",
        title: "[metrics]",
        about: "read-only: /metrics, /healthz, /readyz",
        keys: &[key("listen", One(&[Shape::Listen]), Required, "may be reached from anywhere")],
    },
    Section {
        kind: "admin",
        title: "[admin]",
        about: "the API that commands ask",
        keys: &[
            key(
                "listen",
                One(&[Shape::Listen]),
                Required,
                "a loopback address, \"unix:/run/strata.sock\", or with a token any address",
            ),
            key(
                "token",
                One(&[Shape::Secret]),
                Optional,
                "16 to 512 bytes without spaces, for `Authorization: Bearer`: asked of everybody where it is set",
            ),
            key(
                "read_only",
                One(BOOL),
                Default("false"),
                "commands and the dashboard show, and change nothing: no drain, weight, reload or upgrade through it",
            ),
        ],
    },
    Section {
        kind: "log",
        title: "[log]",
        about: "Strata's own log lines",
        keys: &[
            key(
                "level",
                One(&[Word(&["error", "warn", "info", "debug", "trace"])]),
                Default("info"),
                "the least that is worth a line",
            ),
            key("format", One(&[Word(&["text", "json"])]), Default("text"), "a restart changes it, a reload does not"),
            key("output", One(TEXT), Default("stderr"), "`stderr`, or the path of a file, which SIGUSR1 opens anew"),
        ],
    },
    Section {
        kind: "access_log",
        title: "[access_log]",
        about: "one stream of records for all proxies",
        keys: &[
            key("format", One(RECORDS), Default("json"), "what a record looks like"),
            key("output", One(TEXT), Default("stdout"), "`stdout`, or the path of a file, which SIGUSR1 opens anew"),
        ],
    },
    Section {
        kind: "cluster",
        title: "[cluster]",
        about: "what nodes that serve the same have in common",
        keys: &[
            key(
                "hash_key",
                One(&[Shape::Secret]),
                Optional,
                "32 hexadecimal digits or 16 bytes: nodes with the same send a client to the same endpoint; default: random",
            ),
            key("zone", One(TEXT), Optional, "where this node is, for pools that prefer their zone"),
        ],
    },
    Section {
        kind: "packets",
        title: "[packets]",
        about: "what holds for all packet services",
        keys: &[key(
            "io",
            One(&[Word(&["auto", "ring", "af-xdp", "pnet"])]),
            Default("auto"),
            "what moves packets; `auto` is a ring where one can be made, `af-xdp` takes most before the kernel makes packets of them",
        )],
    },
    Section {
        kind: "process",
        title: "[process]",
        about: "what the process may use of its machine, and whom it becomes",
        keys: &[
            key(
                "user",
                One(TEXT),
                Optional,
                "whom it becomes once started, a name or \"UID:GID\"; default: nobody else",
            ),
            key(
                "keep_capabilities",
                Many(&[Word(&["net-bind-service", "net-admin", "net-raw", "bpf", "ipc-lock"])]),
                Optional,
                "for what a reload may bring; default: what the file needs",
            ),
            key(
                "max_connections",
                One(COUNT),
                Optional,
                "of clients, over all services; default: what the limit of open files carries",
            ),
            key(
                "max_memory",
                One(&[Shape::Size { min: 4 << 20, max: 1 << 46 }]),
                Optional,
                "of its own; default: the limit of its control group alone",
            ),
            key(
                "upgrade_timeout",
                One(&[Shape::Duration { min: secs(1), max: secs(3600) }]),
                Default("30s"),
                "how long an upgrade waits for the new binary",
            ),
        ],
    },
    Section {
        kind: "drain",
        title: "[drain]",
        about: "how the process ends",
        keys: &[key(
            "timeout",
            One(&[Shape::Duration { min: Duration::ZERO, max: secs(24 * 3600) }]),
            Default("30s"),
            "how long what is open may take to finish",
        )],
    },
    Section {
        kind: "service",
        title: "[service.NAME]",
        about: "what clients reach: a proxy (l7, l4) or a packet service (l2, l3, and l4 with nat)",
        keys: &[
            key("mode", One(&[Word(&["l2", "l3", "l4", "l7"])]), Required, "the layer that it works at"),
            key(
                "forward",
                One(&[Word(&["nat", "full-nat", "ipip", "gue"]), Word(&["proxy", "nat", "full-nat"])]),
                Sometimes,
                "l3: needed; l4: `proxy` unless it says otherwise",
            ),
            key(
                "listen",
                ManyOrTable(&[Shape::Listen], "listen"),
                Sometimes,
                "proxies: addresses to accept on; \":80\" is every address of both families",
            ),
            key("vip", One(TEXT), Sometimes, "packet services: the name of a [vip.NAME]"),
            key(
                "ports",
                Many(&[Shape::Ports]),
                Sometimes,
                "packet services, as in \"80/tcp\"; needed by l4, else absent for every port and protocol (full-nat: TCP and UDP)",
            ),
            key(
                "source",
                ManyOrPlugin(&[Shape::Ip], Family::RouteSource),
                Sometimes,
                "with `full-nat`: the addresses that endpoints see; l7: where more routes come from",
            ),
            key("pool", One(TEXT), Sometimes, "where it leads; of an l7 service, where all goes that no route takes"),
            key("route", Tables("route"), Optional, "l7: rules by host and path"),
            key("limits", Table("limits"), Optional, "proxies: what is refused beyond"),
            key("timeouts", Table("timeouts"), Optional, "proxies: how long is waited"),
            key(
                "access_log",
                One(&[Shape::Bool, Word(&["json", "combined"])]),
                Optional,
                "proxies: whether, or in which format; default: as [access_log] says",
            ),
            key("trusted_proxies", Many(&[Shape::Network]), Optional, "l7: peers whose forwarding fields are believed"),
            key(
                "reason_field",
                One(BOOL),
                Default("true"),
                "l7: answers of Strata's own say why, in `X-Strata-Reason`",
            ),
            key(
                "retries",
                One(&[Shape::Integer { min: 0, max: 2 }]),
                Default("2"),
                "l7: attempts after the first, on other endpoints",
            ),
            key("engine", One(&[Word(&["auto", "userspace"])]), Default("auto"), "packet services: what decides"),
            key(
                "affinity",
                One(&[Word(&["flow", "packet"])]),
                Default("flow"),
                "packet services: what stays together, but for TCP",
            ),
            key(
                "on_down",
                One(&[Word(&["rehash", "keep", "reset"])]),
                Default("rehash"),
                "packet services: what becomes of the flows of an endpoint that is down",
            ),
            key(
                "slots",
                One(&[Shape::Integer { min: 2, max: limits::SERVICE_SLOTS }]),
                Default("65537"),
                "packet services: of the table, a prime; 100 or more for each endpoint",
            ),
            key("flow_timeouts", Table("flow_timeouts"), Optional, "packet services: how long a flow may idle"),
        ],
    },
    Section {
        kind: "listen",
        title: "an element of `listen`",
        about: "the long form of an address",
        keys: &[key("address", One(&[Shape::Listen]), Required, "what the short form is")],
    },
    Section {
        kind: "limits",
        title: "[service.NAME.limits]",
        about: "absent: no limit",
        keys: &[
            key("max_connections", One(COUNT), Optional, "open at once"),
            key("max_connections_per_source", One(COUNT), Optional, "open at once, from one address"),
            key("max_requests", One(COUNT), Optional, "l7: under way at once"),
            key("max_body", One(&[Shape::Size { min: 1, max: u64::MAX }]), Optional, "l7: of a request"),
        ],
    },
    Section {
        kind: "timeouts",
        title: "[service.NAME.timeouts]",
        about: "how long a proxy waits",
        keys: &[
            key("header", One(WAIT), Default("10s"), "l7: for a request's head, from its first byte"),
            key("idle", One(WAIT), Default("1m"), "for the next request; l4: for any byte, by default 10m"),
            key("response", One(WAIT), Default("1m"), "l7: for the head of an endpoint's response"),
            key("body", One(WAIT), Default("10s"), "l7: between two parts of a body"),
            key("client", One(WAIT), Default("30s"), "l7: for a client to take what it is sent"),
            key("tunnel", One(WAIT), Default("1h"), "l7: for any byte of an upgraded connection"),
            key("half_close", One(WAIT), Default("1m"), "for the rest, once one side has finished"),
        ],
    },
    Section {
        kind: "flow_timeouts",
        title: "[service.NAME.flow_timeouts]",
        about: "how long a flow of a packet service may idle",
        keys: &[
            key("tcp", One(FLOW_WAIT), Default("15m"), "of TCP"),
            key("other", One(FLOW_WAIT), Default("30s"), "of everything else"),
        ],
    },
    Section {
        kind: "route",
        title: "[[service.NAME.route]]",
        about: "where requests go: the most exact host and path win",
        keys: &[
            key(
                "url",
                One(TEXT),
                Optional,
                "host, path or both; `*` ends a path or starts a host; absent: every request",
            ),
            key(
                "priority",
                One(&[Shape::Signed { min: -1_000_000, max: 1_000_000 }]),
                Default("0"),
                "the higher wins where host and path are as exact",
            ),
            key("pool", One(TEXT), Required, "where it leads"),
        ],
    },
    Section {
        kind: "vip",
        title: "[vip.NAME]",
        about: "an address of packet services, which Strata answers for",
        keys: &[
            key("address", Many(&[Shape::Ip]), Required, "IPv4, IPv6 or both"),
            key("interface", One(TEXT), Required, "where clients' packets come in"),
            key("vlan", One(&[Shape::Integer { min: 1, max: 4094 }]), Optional, "the tag of its frames"),
            key("mac", Plugin(Family::Mac), Default("interface"), "whose MAC address it has"),
        ],
    },
    Section {
        kind: "pool",
        title: "[pool.NAME]",
        about: "endpoints, how one is picked, and how their health is known",
        keys: &[
            key(
                "endpoints",
                ManyOrTable(&[Shape::Socket], "endpoint"),
                Sometimes,
                "servers, needed without a `source`; packet services of l2 and l3 keep the port, so theirs have none",
            ),
            key("source", Plugin(Family::Source), Optional, "where more endpoints come from, while it runs"),
            key(
                "balance",
                Plugin(Family::Balance),
                Default("p2c"),
                "how one is picked; `maglev` by default where packet services use the pool",
            ),
            key("probe", Plugin(Family::Probe), Optional, "how their health is known; default: from traffic alone"),
            key("outlier", Fields(&health::OUTLIER), Optional, "proxies: when traffic itself takes an endpoint out"),
            key("damping", Fields(&health::DAMPING), Optional, "how one that flaps is held down"),
            key(
                "panic_percent",
                One(&[Shape::Integer { min: 1, max: 100 }]),
                Optional,
                "fewer usable endpoints than this share: all but the drained get traffic; default: never",
            ),
            key("zones", Plugin(Family::Zones), Optional, "whether this node's zone goes first"),
            key(
                "slow_start",
                One(&[Shape::Duration { min: secs(1), max: secs(3600) }]),
                Optional,
                "proxies: how long a new endpoint's share grows; default: not at all",
            ),
            key("limits", Fields(&CAPACITY), Optional, "proxies: what one endpoint is given at once, and who waits"),
            key(
                "connect_timeout",
                One(&[Shape::Duration { min: ms(10), max: secs(120) }]),
                Default("2s"),
                "proxies: how long connecting may take",
            ),
        ],
    },
    Section {
        kind: "endpoint",
        title: "an element of `endpoints`",
        about: "the long form of an address",
        keys: &[
            key("address", One(&[Shape::Socket]), Required, "what the short form is"),
            key(
                "weight",
                One(&[Shape::Integer { min: 1, max: limits::WEIGHT as u64 }]),
                Default("1"),
                "its share, to that of the others",
            ),
            key("mac", One(&[Shape::Mac]), Optional, "packet services: default: asked for on the network"),
            key("backup", One(BOOL), Default("false"), "serves while no other can"),
            key("zone", One(TEXT), Optional, "where it is, for pools that prefer their zone"),
        ],
    },
    Section {
        kind: "test",
        title: "[[test]]",
        about: "what becomes of a request or of a packet, run by `strata check`",
        keys: &[
            key("request", One(TEXT), Sometimes, "as in \"GET http://a.test/x\""),
            key("from", One(TEXT), Optional, "of a request: the client's address"),
            key("header", Free, Optional, "of a request: more fields"),
            key("service", One(TEXT), Optional, "of a request: the service that it comes to, where several could"),
            key("packet", One(TEXT), Sometimes, "in place of a request, as `strata explain` takes it"),
            key("expect", Many(TEXT), Required, "as in \"pool web\"; all of a list must hold"),
        ],
    },
];

/// The section of a kind.
pub fn section(kind: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.kind == kind)
}

#[cfg(test)]
mod tests;
