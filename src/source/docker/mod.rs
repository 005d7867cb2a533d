//! Shell: containers of a Docker engine (or Podman's likeness of one), by their labels.
//!
//! ```text
//!  socket ──engine──▶ facts ──▶ world ──labels, address──▶ gather ──▶ what one table of the file is told
//! ```
//! All tables with the same socket and prefix share one connection (`hub`): they see the same containers, and a container that
//! claims what nobody opened is told of once. Only `GET` is ever sent.

use std::pin::Pin;

use self::gather::Rules;
use self::hub::Hub;
use crate::base::limits;
use crate::doc::{Field, Grammar, Kind, Settings};
use crate::seam::Source;
use crate::seam::source::{ALLOW, DRAIN, Place, Spec, Tell};

mod address;
pub mod cut;
mod engine;
mod facts;
mod gather;
mod hub;
mod labels;
mod settings;
mod world;

#[cfg(test)]
mod tests;

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "docker",
        summary: "containers that say so in their labels, of a Docker engine's socket",
        fields: &[
            Field::default(
                "socket",
                Kind::Checked(engine::check_socket),
                "unix:///var/run/docker.sock",
                "where the engine, or a proxy in front of it, listens: `unix:///path` or `tcp://host:port`",
            ),
            Field::default(
                "labels",
                Kind::Checked(check_prefix),
                "strata.",
                "what the labels that are for us start with",
            ),
            Field::optional(
                "network",
                Kind::Checked(check_network),
                "the network whose addresses are taken; absent: one that Strata's own container is in, or a container's only one",
            ),
            Field::default(
                "family",
                Kind::Word(&["ipv4", "ipv6"]),
                "ipv4",
                "which address is taken of a container that has both",
            ),
            Field::optional(
                "host",
                Kind::Checked(check_host),
                "address of containers in the network of their host; absent: they are refused",
            ),
            ALLOW,
            DRAIN,
        ],
        example: "source = { type = \"docker\", network = \"edge\" }",
    },
    routes: true,
    build: |settings, place| Box::new(Docker { settings: settings.clone(), place: place.clone() }),
};

struct Docker {
    settings: Settings,
    place: Place,
}

impl Source for Docker {
    fn run(self: Box<Self>, tell: Tell) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let rules = Rules::of(&self.settings, &self.place.probes);
            let mut seat = Hub::join(&self.settings, self.place.owner.clone());
            loop {
                let said = seat.look(|sight| match sight.failure {
                    Some(failure) => Some(Err(failure.clone())),
                    None => sight.world.map(|world| match world.speechless() {
                        Some(failure) => Err(failure),
                        None => Ok(gather::finding(world, &rules, &self.place.owner, sight.owners)),
                    }),
                });
                match said {
                    Some(Ok(finding)) => tell.found(finding).await,
                    Some(Err(failure)) => tell.failed(failure).await,
                    None => {}
                }
                seat.changed().await;
            }
        })
    }
}

fn check_prefix(text: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match text.len() <= limits::NAME_BYTES && text.len() > 1 && text.ends_with('.') && text.bytes().all(plain) {
        true => Ok(()),
        false => Err("letters, digits, `-`, `_` and `.`, with a `.` at the end, as in \"strata.\"".to_owned()),
    }
}

fn check_network(text: &str) -> Result<(), String> {
    match text.is_empty() || text.len() > limits::NAME_BYTES * 4 || text.chars().any(char::is_control) {
        true => Err("the name of a network, as `docker network ls` shows it".to_owned()),
        false => Ok(()),
    }
}

fn check_host(text: &str) -> Result<(), String> {
    match text.parse::<std::net::IpAddr>() {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Ok(()),
        _ => Err("the address of one machine, as in \"192.0.2.1\"".to_owned()),
    }
}
