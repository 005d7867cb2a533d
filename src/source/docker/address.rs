//! Engine: at which address and port a container is reached.
//!
//! A container may be in several networks, and only some of them lead to it from here. So: the network that is named; else one that
//! Strata's own container is in too; else, where Strata runs beside the engine and reaches all, the container's only one. What
//! is left open is a mistake and not a guess: a guess would work until somebody attaches one network more.

use std::net::IpAddr;

use super::facts::{Addresses, Attachment, Container, Port};
use super::gather::Rules;
use super::labels::{self, Claims};
use super::world::World;
use crate::base::EndpointAddr;
use crate::doc::{quote, suggest};
use crate::seam::source::{Mistake, Refusal, stranger};

/// Where a container is reached, or why it is not known.
pub fn of(container: &Container, claims: &Claims, world: &World, rules: &Rules) -> Result<EndpointAddr, Mistake> {
    let ip = ip(container, claims, world, rules)?;
    Ok(EndpointAddr::from(std::net::SocketAddr::new(ip, port(container, claims, rules)?)))
}

fn ip(container: &Container, claims: &Claims, world: &World, rules: &Rules) -> Result<IpAddr, Mistake> {
    let wrong = |why, message: String| Mistake::new(why, labels::place(container), message);
    // Whose network it uses, which may be another's; nobody borrows from one that borrows.
    let lender = match &container.attachment {
        Attachment::Own => container,
        Attachment::Of(id) => match world.get(id) {
            Some(lender) if !matches!(lender.attachment, Attachment::Of(_)) => lender,
            _ => {
                return Err(wrong(
                    Refusal::NoHost,
                    format!("it uses the network of container {id}, which is not there"),
                ));
            }
        },
        Attachment::Host | Attachment::None => container,
    };
    match (&lender.attachment, rules.host) {
        (Attachment::Host, Some(host)) => return Ok(host),
        (Attachment::Host, None) => {
            let message = "it uses the network of its host, and the source does not say where that is reached";
            let help = "set `host = \"…\"` in the source, or give the container a network";
            return Err(wrong(Refusal::NoHost, message.to_owned()).help(help));
        }
        (Attachment::None, _) => return Err(wrong(Refusal::NoHost, "it has no network".to_owned())),
        (Attachment::Own | Attachment::Of(_), _) => {}
    }
    let (network, addresses) = network(container, lender, claims, world, rules)?;
    let (first, second) = match rules.ipv6 {
        true => (addresses.ipv6, addresses.ipv4),
        false => (addresses.ipv4, addresses.ipv6),
    };
    let Some(ip) = first.or(second) else {
        return Err(wrong(Refusal::NoHost, format!("it has no address in network {}", quote(network))));
    };
    match stranger(&rules.settings, ip) {
        None => Ok(ip),
        Some(why) => {
            let help = format!("set `allow = \"{}\"` in the source where this is meant", why.word());
            Err(wrong(why, format!("its address {ip} is refused: {}", why.meaning())).help(help))
        }
    }
}

fn network<'c>(
    container: &Container,
    lender: &'c Container,
    claims: &Claims,
    world: &World,
    rules: &Rules,
) -> Result<(&'c str, &'c Addresses), Mistake> {
    let names = || lender.networks.keys().map(String::as_str);
    let list = || {
        if lender.networks.is_empty() { "none".to_owned() } else { suggest::one_of(names()).replace(" or ", " and ") }
    };
    let found = |name: &str| lender.networks.get_key_value(name).map(|(name, addresses)| (name.as_str(), addresses));
    // The container may choose among its own networks: where they lead is not its to say.
    if let Some(named) = claims.network.as_deref().or(rules.network.as_deref()) {
        return found(named).ok_or_else(|| {
            let place = match &claims.network {
                Some(_) => labels::label_place(container, &rules.prefix, "network"),
                None => labels::place(container),
            };
            let mistake = Mistake::new(Refusal::NoHost, place, format!("it is not in network {}", quote(named)));
            mistake.help(match suggest::nearest(named, names()) {
                Some(meant) => format!("did you mean {}", quote(meant)),
                None => format!("its networks: {}", list()),
            })
        });
    }
    let wrong = |message: String| Mistake::new(Refusal::NoHost, labels::place(container), message);
    let own = world.own().filter(|own| own.attachment == Attachment::Own);
    if let Some(own) = own {
        // In the order of names, so that it stays the same.
        return lender.networks.iter().find(|(name, _)| own.networks.contains_key(*name)).map_or_else(
            || {
                let help = "attach the two to one network, or name the container's: `network = \"…\"` in the source";
                Err(wrong(format!("it shares no network with Strata's container; its networks: {}", list())).help(help))
            },
            |(name, addresses)| Ok((name.as_str(), addresses)),
        );
    }
    let mut all = lender.networks.iter();
    match (all.next(), all.next()) {
        (Some((name, addresses)), None) => Ok((name, addresses)),
        (None, _) => Err(wrong("it is in no network".to_owned())),
        (Some(_), Some(_)) => {
            let help = "name one: `network = \"…\"` in the source, or the label `network`";
            Err(wrong(format!("it is in several networks: {}", list())).help(help))
        }
    }
}

fn port(container: &Container, claims: &Claims, rules: &Rules) -> Result<u16, Mistake> {
    if let Some(port) = claims.port {
        return Ok(port);
    }
    // What a proxy connects to is TCP; a container that exposes nothing else has nothing else.
    let tcp: Vec<&Port> = container.exposed.iter().filter(|port| port.tcp).collect();
    let all: Vec<&Port> = container.exposed.iter().collect();
    let candidates = if tcp.is_empty() { all } else { tcp };
    let wrong = |message: String| {
        let help = format!("name it: `{}port=…`", rules.prefix);
        Mistake::new(Refusal::NoPort, labels::place(container), message).help(help)
    };
    match candidates.as_slice() {
        [port] => Ok(port.number),
        [] => Err(wrong("it exposes no port".to_owned())),
        several => {
            let shown: Vec<String> = several.iter().take(PORTS_SHOWN).map(|port| format!("`{port}`")).collect();
            let more = if several.len() > PORTS_SHOWN { ", …" } else { "" };
            Err(wrong(format!("it exposes several ports: {}{more}", shown.join(", "))))
        }
    }
}

/// More tell nobody more.
const PORTS_SHOWN: usize = 8;
