//! Real hosts in network namespaces: client, router, switch, balancer and endpoints, and what they say to each other through
//! the real binary. Needs root and iproute2, by AF_XDP ethtool too, and says so loudly where they are missing.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "common/binary.rs"]
mod binary;
#[path = "netns/changes.rs"]
mod changes;
#[path = "common/cli.rs"]
mod cli;
mod common;
#[path = "netns/counts.rs"]
mod counts;
#[path = "netns/doctor.rs"]
mod doctor;
#[path = "netns/explain.rs"]
mod explain;
#[path = "netns/flood.rs"]
mod flood;
#[path = "netns/ground.rs"]
mod ground;
#[path = "netns/interfaces.rs"]
mod interfaces;
#[path = "netns/io.rs"]
mod io;
#[path = "netns/lab.rs"]
mod lab;
#[path = "netns/load.rs"]
mod load;
#[path = "netns/modes.rs"]
mod modes;
#[path = "netns/mtu.rs"]
mod mtu;
#[path = "netns/neighbours.rs"]
mod neighbours;
#[path = "netns/node.rs"]
mod node;
#[path = "netns/own.rs"]
mod own;
#[path = "netns/probes.rs"]
mod probes;
#[path = "netns/protocols.rs"]
mod protocols;
#[path = "netns/rig.rs"]
mod rig;
#[path = "netns/server.rs"]
mod server;
#[path = "netns/setup.rs"]
mod setup;
#[path = "netns/talk.rs"]
mod talk;
#[path = "netns/tunnel.rs"]
mod tunnel;
#[path = "netns/upgrade.rs"]
mod upgrade;
#[path = "netns/vip.rs"]
mod vip;
#[path = "netns/vlan.rs"]
mod vlan;
#[path = "netns/watch.rs"]
mod watch;
#[path = "netns/world.rs"]
mod world;
