//! Shell: the DNS source: whoever has the addresses of a name, or stands in its SRV records. Asked anew as the answers grow old.
//!
//! Names are absolute: neither search domains nor /etc/hosts are looked at, as in HAProxy and nginx, so that one name means the same
//! everywhere. An answer without addresses, a failure and silence are all failures: what was found last stays (hardening I9).
//!
//! Not here: messages (`wire::dns`), the asking of one question (`ask`), what records make of members (`plan`).

mod ask;
mod plan;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::base::limits;
use crate::doc::{Field, Grammar, Kind as Takes, Settings, quote};
use crate::seam::Source;
use crate::seam::source::{ALLOW, DRAIN, Failure, Finding, Place, Spec, Tell, Trouble};
use crate::wire::dns::{Kind, Name, Record};

use ask::{Resolver, Said};
use plan::{Host, Plan, Service};

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "dns",
        summary: "the addresses of a name, looked up again and again as the answers grow old",
        fields: &[
            Field::required(
                "name",
                Takes::Checked(name),
                "a whole name: search domains and /etc/hosts are not looked at",
            ),
            Field::optional(
                "port",
                Takes::Integer { min: 1, max: 65_535 },
                "of every address; proxies need one, unless SRV records have it",
            ),
            Field::default(
                "record",
                Takes::Word(&["a", "aaaa", "both", "srv"]),
                "a",
                "IPv4, IPv6, both, or services: those have ports, weights, and priorities, of which all but the first are backups",
            ),
            Field::optional(
                "resolver",
                Takes::Texts(resolver),
                "name servers, as in \"127.0.0.11:53\", asked in this order; default: those of /etc/resolv.conf",
            ),
            Field::default("min_ttl", WAIT, "1s", "it is not asked more often, however short an answer holds"),
            Field::default("max_ttl", WAIT, "30s", "it is asked this often, however long an answer holds"),
            Field::default(
                "timeout",
                Takes::Duration { min: Duration::from_millis(50), max: Duration::from_secs(30) },
                "2s",
                "how long one server may take, before the next is asked; each is asked twice",
            ),
            Field::default(
                "max_members",
                Takes::Integer { min: 1, max: limits::POOL_ENDPOINTS as u64 },
                "256",
                "of more addresses than this the lowest are taken, and it is said that there are more",
            ),
            ALLOW,
            DRAIN,
        ],
        example: "source = { type = \"dns\", name = \"web.internal\", port = 8080 }",
    },
    routes: false,
    build: |settings: &Settings, _: &Place| Box::new(Lookup::of(settings)),
};

/// After the first failure, and after many.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

const WAIT: Takes = Takes::Duration { min: Duration::from_millis(100), max: Duration::from_secs(24 * 3600) };

fn name(text: &str) -> Result<(), String> {
    if text.parse::<IpAddr>().is_ok() {
        return Err("an address need not be looked up: write it into `endpoints`".to_owned());
    }
    Name::parse(text).map(drop)
}

fn resolver(text: &str) -> Result<(), String> {
    match server(text) {
        Some(_) => Ok(()),
        None => Err("the address of a name server, as in \"127.0.0.11:53\"".to_owned()),
    }
}

fn server(text: &str) -> Option<SocketAddr> {
    let at = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, ask::PORT))).ok();
    at.filter(|at: &SocketAddr| at.port() != 0 && !at.ip().is_unspecified() && !at.ip().is_multicast())
}

struct Lookup {
    /// `None` cannot come out of the grammar.
    name: Option<Name>,
    record: Asked,
    resolver: Resolver,
    plan: Plan,
    least: Duration,
    most: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Addresses { v4: bool, v6: bool },
    Services,
}

/// The last good answer of each family, for one of them may fail alone.
#[derive(Default)]
struct Last {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    told: Option<Finding>,
}

impl Lookup {
    fn of(settings: &Settings) -> Lookup {
        let servers = settings.texts("resolver").iter().filter_map(|text| server(text)).collect();
        let (least, most) = (settings.duration("min_ttl"), settings.duration("max_ttl"));
        Lookup {
            name: settings.text("name").and_then(|name| Name::parse(name).ok()),
            record: match settings.text("record") {
                Some("srv") => Asked::Services,
                Some("both") => Asked::Addresses { v4: true, v6: true },
                Some("aaaa") => Asked::Addresses { v4: false, v6: true },
                _ => Asked::Addresses { v4: true, v6: false },
            },
            resolver: Resolver::new(servers, settings.duration("timeout")),
            plan: Plan::of(settings),
            least,
            most: most.max(least),
        }
    }

    async fn follow(&self, name: &Name, tell: &Tell) {
        let mut last = Last::default();
        let mut failures = 0_u32;
        loop {
            let wait = match self.look(name, &mut last, tell).await {
                Ok(ttl) => {
                    failures = 0;
                    Duration::from_secs(ttl.into()).clamp(self.least, self.most)
                }
                Err(failure) => {
                    tell.failed(failure).await;
                    failures = failures.saturating_add(1);
                    pause(self.least, self.most, failures)
                }
            };
            // Not all nodes at the same moment; never later than an answer holds.
            tokio::time::sleep(wait.mul_f64(1.0 - 0.1 * fastrand::f64())).await;
        }
    }

    /// Asks, and tells what is found; for how many seconds it holds.
    async fn look(&self, name: &Name, last: &mut Last, tell: &Tell) -> Result<u32, Failure> {
        let Asked::Addresses { v4, v6 } = self.record else { return self.services(name, tell).await };
        let ask = async |wanted: bool, kind| if wanted { Some(self.resolver.ask(name, kind).await) } else { None };
        let (four, six) = tokio::join!(ask(v4, Kind::A), ask(v6, Kind::Aaaa));
        let mut ttl = u32::MAX;
        let mut failure = None;
        let mut good = false;
        for (said, last) in [(four, &mut last.v4), (six, &mut last.v6)] {
            match said {
                Some(Ok(said)) => {
                    good |= !said.records.is_empty();
                    failure = failure.or_else(|| nothing(name, self.record, &said));
                    ttl = ttl.min(said.ttl.unwrap_or(0));
                    *last = said.records.iter().filter_map(address).collect();
                }
                // What this family had last stays beside what the other has now.
                Some(Err(error)) => failure = Some(error),
                None => {}
            }
        }
        if !good {
            return Err(failure.unwrap_or_else(|| Failure::new(Trouble::Empty, format!("{name} has no addresses"))));
        }
        let addresses = last.v4.iter().chain(&last.v6).copied();
        let finding = self.plan.of_addresses(addresses, name.as_str());
        let failure = failure.filter(|failure| failure.why != Trouble::Empty && failure.why != Trouble::Missing);
        // While one family fails, only what is new of the other is worth more than the failure.
        if failure.is_none() || last.told.as_ref() != Some(&finding) {
            tell.found(finding.clone()).await;
            last.told = Some(finding);
        }
        failure.map_or(Ok(ttl), Err)
    }

    async fn services(&self, name: &Name, tell: &Tell) -> Result<u32, Failure> {
        let said = self.resolver.ask(name, Kind::Srv).await?;
        if let Some(failure) = nothing(name, self.record, &said) {
            return Err(failure);
        }
        let mut ttl = said.ttl.unwrap_or(0);
        let mut services: Vec<Service> = said.records.iter().filter_map(service).collect();
        // A target of "." says that there is no such service (RFC 2782).
        services.retain(|service| !service.target.as_str().is_empty());
        let mut targets: Vec<Name> = services.iter().map(|service| service.target.clone()).collect();
        targets.sort_unstable();
        targets.dedup();
        targets.truncate(limits::POOL_ENDPOINTS);
        let mut hosts: Vec<Host> = Vec::new();
        let mut room = limits::DNS_ADDRESSES;
        let mut add = |name: Name, mut addresses: Vec<IpAddr>| {
            // The same ones each time, whatever the order is that they came in.
            addresses.sort_unstable();
            addresses.truncate(room);
            room -= addresses.len();
            hosts.push(Host { name, addresses });
        };
        let mut failure = None;
        targets.retain(|target| {
            let addresses = beside(&said.beside, target);
            let known = !addresses.is_empty();
            if known {
                add(target.clone(), addresses);
            }
            !known
        });
        for some in targets.chunks(limits::DNS_AT_ONCE) {
            let mut asking = JoinSet::new();
            for target in some {
                let (resolver, target) = (self.resolver.clone(), target.clone());
                asking.spawn_local(async move { (host(&resolver, &target).await, target) });
            }
            let mut looked = asking.join_all().await;
            looked.sort_by(|(_, one), (_, other)| one.cmp(other));
            for (looked, name) in looked {
                match looked {
                    Ok((addresses, holds)) => {
                        ttl = ttl.min(holds);
                        add(name, addresses);
                    }
                    Err(error) => failure = Some(error),
                }
            }
        }
        // One host that cannot be looked up is not one that is gone: the whole stays as it was.
        if let Some(failure) = failure {
            return Err(failure);
        }
        let finding = self.plan.of_services(&services, &hosts, name.as_str());
        if finding.members.is_empty() && finding.mistakes.is_empty() {
            return Err(Failure::new(Trouble::Empty, format!("{name}: no host of its SRV records has an address")));
        }
        tell.found(finding).await;
        Ok(ttl)
    }
}

/// What stands beside an SRV record of a host's addresses: IPv4 as in [`host`]. Where there is none, that says nothing: servers leave
/// away what does not fit, and a host must not change its family with what does.
fn beside(told: &[(Name, Record)], host: &Name) -> Vec<IpAddr> {
    let of_host = told.iter().filter(|(name, _)| name == host).filter_map(|(_, record)| address(record));
    of_host.filter(IpAddr::is_ipv4).collect()
}

/// How long to wait after so many failures in a row.
fn pause(least: Duration, most: Duration, failures: u32) -> Duration {
    let doubled =
        SHORTEST_PAUSE.max(least).saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    // An answer may hold for a day; a failure is not to.
    doubled.min(most.min(LONGEST_PAUSE)).max(least)
}

/// The addresses of a host that an SRV record names: IPv4, or else IPv6.
async fn host(resolver: &Resolver, name: &Name) -> Result<(Vec<IpAddr>, u32), Failure> {
    for kind in [Kind::A, Kind::Aaaa] {
        let said = resolver.ask(name, kind).await?;
        if !said.records.is_empty() {
            return Ok((said.records.iter().filter_map(address).collect(), said.ttl.unwrap_or(0)));
        }
    }
    // The record is of a host that is none any more.
    Ok((Vec::new(), 0))
}

/// The failure that an answer without records is.
fn nothing(name: &Name, asked: Asked, said: &Said) -> Option<Failure> {
    if !said.records.is_empty() {
        return None;
    }
    let name = quote(name.as_str());
    if said.missing {
        return Some(Failure::new(Trouble::Missing, format!("there is no name {name} (NXDOMAIN)")));
    }
    let what = match asked {
        Asked::Services => "SRV records",
        Asked::Addresses { v4: true, v6: true } => "addresses",
        Asked::Addresses { v4: false, .. } => "IPv6 addresses",
        Asked::Addresses { .. } => "IPv4 addresses (`record = \"both\"` asks for IPv6 too)",
    };
    Some(Failure::new(Trouble::Empty, format!("the name {name} has no {what}")))
}

fn address(record: &Record) -> Option<IpAddr> {
    match record {
        Record::Address(ip) => Some(*ip),
        Record::Service { .. } => None,
    }
}

fn service(record: &Record) -> Option<Service> {
    match record {
        Record::Service { priority, weight, port, target } => {
            Some(Service { priority: *priority, weight: *weight, port: *port, target: target.clone() })
        }
        Record::Address(_) => None,
    }
}

impl Source for Lookup {
    fn run(self: Box<Self>, tell: Tell) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            if let Some(name) = &self.name {
                self.follow(name, &tell).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_it_is_asked_within_half_a_minute_however_long_an_answer_may_hold() {
        let day = Duration::from_secs(24 * 3600);
        let waits = |least: u64, most: Duration| {
            [1, 2, 3, 5, 6, 32, 33, u32::MAX]
                .map(|failures| pause(Duration::from_millis(least), most, failures).as_millis())
        };
        assert_eq!(waits(100, day), [1000, 2000, 4000, 16_000, 30_000, 30_000, 30_000, 30_000]);
        assert_eq!(waits(100, Duration::from_secs(5)), [1000, 2000, 4000, 5000, 5000, 5000, 5000, 5000]);
        assert_eq!(waits(100, Duration::from_millis(200)), [200; 8]);
        // Never more often than it may be asked at all.
        assert_eq!(waits(60_000, day), [60_000; 8]);
    }

    #[test]
    fn a_host_has_the_addresses_of_one_family_whatever_stands_beside_its_record() {
        let name = |text: &str| Name::parse(text).unwrap();
        let told = |all: &[(&str, &str)]| -> Vec<(Name, Record)> {
            all.iter().map(|(host, ip)| (name(host), Record::Address(ip.parse().unwrap()))).collect()
        };
        let told = told(&[
            ("a", "2001:db8::1"),
            ("a", "10.0.0.1"),
            ("b", "2001:db8::2"),
            ("a", "10.0.0.2"),
            ("c", "10.0.0.3"),
        ]);
        let shown = |host: &str| beside(&told, &name(host)).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(shown("a"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!((shown("b"), shown("d")), (vec![], vec![]));
    }
}
