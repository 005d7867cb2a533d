//! Value: whether traffic is taken, as whoever sends it here has to know: an orchestrator, another balancer, a health check.
//!
//! One process serves many. Where the interface of one VIP is gone, the others must not go out of rotation with it: so the process is
//! ready while it serves anything, and says what it does not. Who sends to one service asks for that one; who must not go on before
//! everything is served (a deployment) asks for all.

use super::api::decode;
use super::control::Control;
use super::describe::{engine, stuck};
use crate::state::{Service, Snapshot, Traffic};

/// Of what it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// Anything that is served.
    Process,
    Service(String),
    Everything,
}

impl Of {
    /// `service=NAME`, `all`, or nothing.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(query: &str) -> Result<Of, String> {
        let mut of = Of::Process;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let asked = match pair.split_once('=') {
                Some(("service", name)) => {
                    Of::Service(decode(name).ok_or("`service` has an escape that is none, or no UTF-8")?)
                }
                None if pair == "all" => Of::Everything,
                _ => return Err(format!("`{}` is nothing that can be asked", pair.escape_debug())),
            };
            if of != Of::Process {
                return Err("it is asked of one thing at a time".to_owned());
            }
            of = asked;
        }
        Ok(of)
    }
}

/// An answer, and its words: a line for each thing that takes no traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    pub ready: bool,
    pub text: String,
}

/// `None`: there is no such service.
pub fn readiness(control: &Control, of: &Of) -> Option<Readiness> {
    let crew = &control.crew;
    let snapshot = crew.snapshot.load();
    let not = |why: &str| Some(Readiness { ready: false, text: format!("{why}\n") });
    if snapshot.generation == 0 {
        return not("no configuration is in force yet");
    }
    let is_served = |service: &Service| engine(service, &snapshot, &crew.packets) != "none";
    let asked: Vec<&Service> =
        snapshot.services().map(|service| &**service).filter(|service| of.includes(service)).collect();
    if matches!(of, Of::Service(_)) && asked.is_empty() {
        return None;
    }
    if crew.draining() {
        return not("draining");
    }
    if let Some(why) = stuck(control) {
        return not(&why);
    }
    let (served, lost): (Vec<&Service>, Vec<&Service>) = asked.into_iter().partition(|service| is_served(service));
    let bare = if *of == Of::Everything { crew.packets.unserved() } else { None };
    let ready = match of {
        Of::Process => !served.is_empty() || lost.is_empty(),
        Of::Service(_) | Of::Everything => lost.is_empty() && bare.is_none(),
    };
    let mut lines: Vec<String> = lost.into_iter().map(|service| why(service, &snapshot)).collect();
    // One that a VIP without services is on.
    if let Some(name) = bare.filter(|_| lines.is_empty()) {
        lines.push(format!("packets of interface {name} are not served\n"));
    }
    Some(Readiness { ready, text: format!("{}{}", if ready { "ready\n" } else { "" }, lines.concat()) })
}

impl Of {
    fn includes(&self, service: &Service) -> bool {
        match self {
            Of::Service(name) => *service.spec.name == **name,
            Of::Process | Of::Everything => true,
        }
    }
}

fn why(service: &Service, snapshot: &Snapshot) -> String {
    let interface = match &service.traffic {
        Traffic::Packet(packet) => snapshot.vip(packet.vip).map(|vip| &*vip.spec.interface),
        Traffic::L4(_) | Traffic::L7(_) => None,
    };
    let interface = interface.unwrap_or("its VIP");
    format!("service {} is not served: nobody takes packets of interface {interface}\n", service.spec.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_can_be_asked_of_and_what_is_none_is_refused() {
        let service = |name: &str| Ok(Of::Service(name.to_owned()));
        for (query, want) in [
            ("", Ok(Of::Process)),
            ("all", Ok(Of::Everything)),
            ("service=a%20b", service("a b")),
            ("service=", service("")),
        ] {
            assert_eq!(Of::parse(query), want, "{query}");
        }
        for query in ["every", "all=1", "service", "service=%ff", "service=a&service=b", "all&service=a", "servicE=a"] {
            assert!(Of::parse(query).is_err(), "{query}");
        }
    }
}
