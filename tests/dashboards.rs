//! `deploy/prometheus` and `deploy/grafana`: what they say, and what a real Prometheus answers that scrapes a real Strata.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "dashboards/alive.rs"]
mod alive;
#[path = "dashboards/asked.rs"]
mod asked;
#[path = "common/binary.rs"]
mod binary;
mod common;
#[path = "dashboards/files.rs"]
mod files;
#[path = "netns/node.rs"]
#[allow(dead_code, reason = "the hosts of tests/netns.rs")]
mod node;
#[path = "dashboards/prometheus.rs"]
mod prometheus;
#[path = "dashboards/promql.rs"]
mod promql;
#[path = "netns/rig.rs"]
#[allow(dead_code, reason = "the hosts of tests/netns.rs")]
mod rig;
#[path = "netns/server.rs"]
#[allow(dead_code, reason = "the hosts of tests/netns.rs")]
mod server;
#[path = "dashboards/site.rs"]
mod site;
#[path = "netns/talk.rs"]
#[allow(dead_code, reason = "the hosts of tests/netns.rs")]
mod talk;
#[path = "docs/words.rs"]
mod words;
#[path = "netns/world.rs"]
#[allow(dead_code, reason = "the hosts of tests/netns.rs")]
mod world;
#[path = "dashboards/written.rs"]
mod written;
