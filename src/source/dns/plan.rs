//! Engine: members of a pool, from addresses and from SRV records: who is refused, who is one too many, what weight and role each has.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::base::{EndpointAddr, Weight, limits};
use crate::doc::Settings;
use crate::seam::source::{Finding, Member, Mistake, Refusal, stranger};
use crate::wire::dns::Name;

pub(super) struct Plan {
    settings: Settings,
    port: Option<u16>,
    most: usize,
}

/// An SRV record.
pub(super) struct Service {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: Name,
}

/// A host that SRV records name.
pub(super) struct Host {
    pub name: Name,
    pub addresses: Vec<IpAddr>,
}

impl Plan {
    pub(super) fn of(settings: &Settings) -> Plan {
        let port = settings.get("port").and_then(|_| u16::try_from(settings.integer("port")).ok());
        let most = usize::try_from(settings.integer("max_members")).unwrap_or(limits::POOL_ENDPOINTS);
        Plan { settings: settings.clone(), port, most }
    }

    /// Everybody alike.
    pub(super) fn of_addresses(&self, addresses: impl Iterator<Item = IpAddr>, name: &str) -> Finding {
        let at = |ip| EndpointAddr::from(SocketAddr::new(ip, self.port.unwrap_or(0)));
        self.finding(addresses.map(|ip| Member::new(at(ip), name)).collect(), name)
    }

    /// Those of the least priority serve, the others are backups. A weight is the share among those of one priority.
    pub(super) fn of_services(&self, services: &[Service], hosts: &[Host], name: &str) -> Finding {
        let first = services.iter().map(|service| service.priority).min().unwrap_or(0);
        let heaviest = services.iter().map(|service| service.weight).max().unwrap_or(0);
        let mut ordered: Vec<&Service> = services.iter().collect();
        ordered.sort_by_key(|service| service.priority);
        let mut members = Vec::new();
        for service in ordered {
            let host = hosts.iter().find(|host| host.name == service.target);
            for ip in host.into_iter().flat_map(|host| &host.addresses) {
                let port = self.port.unwrap_or(service.port);
                let from = format!("{name}, {}", service.target);
                let member = Member::new(SocketAddr::new(*ip, port), from);
                members.push(Member {
                    weight: share(service.weight, heaviest),
                    backup: service.priority != first,
                    ..member
                });
            }
        }
        self.finding(members, name)
    }

    fn finding(&self, members: Vec<Member>, name: &str) -> Finding {
        let mut finding = Finding::default();
        // By address: the order of an answer changes with every answer, and says nothing.
        let mut taken: BTreeMap<EndpointAddr, Member> = BTreeMap::new();
        for member in members {
            match stranger(&self.settings, member.address.ip()) {
                Some(why) => finding.mistakes.push(refused(why, &member, name)),
                None => drop(taken.entry(member.address).or_insert(member)),
            }
        }
        let all = taken.len();
        finding.members = taken.into_values().take(self.most).collect();
        for number in self.most..all {
            let message = format!("{all} addresses: number {} is beyond `max_members = {}`", number + 1, self.most);
            let help = "raise `max_members`, if these are all yours";
            finding.mistakes.push(Mistake::new(Refusal::TooMany, name, message).help(help));
        }
        finding
    }
}

fn refused(why: Refusal, member: &Member, name: &str) -> Mistake {
    let ip = member.address.ip();
    let what = match why {
        Refusal::Loopback => "this machine's loopback",
        Refusal::LinkLocal => "link-local, or where a cloud tells a machine its secrets",
        _ => return Mistake::new(why, name, format!("`{ip}` is not the address of one machine")),
    };
    Mistake::new(why, name, format!("`{ip}` is {what}")).help(format!("if it is meant, `allow = [\"{}\"]`", why.word()))
}

/// Weights of SRV are 16 bits wide; 0 is the least share that there is.
fn share(weight: u16, heaviest: u16) -> Weight {
    let most = u64::from(limits::WEIGHT);
    let scaled = match u64::from(heaviest) {
        heaviest if heaviest <= most => u64::from(weight),
        heaviest => (u64::from(weight) * most).div_ceil(heaviest),
    };
    Weight::new(scaled.max(1)).unwrap_or(Weight::ONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::Value;

    fn plan(most: u64, port: Option<u64>) -> Plan {
        let mut settings = Settings::defaults(&super::super::SPEC.grammar);
        settings.values.insert("max_members", Value::Integer(most));
        settings.values.extend(port.map(|port| ("port", Value::Integer(port))));
        Plan::of(&settings)
    }

    fn shown(finding: &Finding) -> Vec<String> {
        let one = |member: &Member| {
            format!("{} {}{}", member.address, member.weight.get(), if member.backup { " backup" } else { "" })
        };
        finding.members.iter().map(one).collect()
    }

    fn words(finding: &Finding) -> Vec<&'static str> {
        finding.mistakes.iter().map(|mistake| mistake.why.word()).collect()
    }

    #[test]
    fn addresses_are_members_in_their_order_and_strangers_words_are_not_taken_for_ours() {
        let addresses = ["0.0.0.0", "10.0.0.2", "127.0.0.1", "10.0.0.1", "169.254.169.254", "10.0.0.1", "2001:db8::1"];
        let addresses = addresses.map(|text| text.parse().unwrap());
        let found = plan(256, Some(80)).of_addresses(addresses.into_iter(), "web.internal");
        assert_eq!(shown(&found), ["10.0.0.1:80 1", "10.0.0.2:80 1", "[2001:db8::1]:80 1"]);
        assert_eq!(words(&found), ["no-host", "loopback", "link-local"]);
        assert!(!found.may_be_empty);
    }

    #[test]
    fn more_than_fit_are_cut_to_the_same_ones_whatever_the_order_is() {
        let addresses: Vec<IpAddr> = (0..40_u8).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        let found = plan(3, None).of_addresses(addresses.iter().copied(), "web.internal");
        assert_eq!(shown(&found), ["10.0.0.0 1", "10.0.0.1 1", "10.0.0.2 1"]);
        assert_eq!(words(&found).len(), 37);
        let other = plan(3, None).of_addresses(addresses.iter().rev().copied(), "web.internal");
        assert_eq!(other.members, found.members);
    }

    #[test]
    fn services_have_ports_weights_and_roles() {
        let service = |priority, weight, port, target: &str| Service {
            priority,
            weight,
            port,
            target: Name::parse(target).unwrap(),
        };
        let services = [
            service(20, 9, 83, "c"),
            service(10, 60_000, 81, "a"),
            service(10, 0, 82, "b"),
            service(10, 6, 81, "a"),
            service(10, 1, 1, "gone"),
        ];
        let host = |name: &str, last| Host {
            name: Name::parse(name).unwrap(),
            addresses: vec![IpAddr::from([10, 0, 0, last])],
        };
        let hosts = [host("a", 1), host("b", 2), host("c", 3)];
        let found = plan(256, None).of_services(&services, &hosts, "_web._tcp.internal");
        assert_eq!(shown(&found), ["10.0.0.1:81 1000", "10.0.0.2:82 1", "10.0.0.3:83 1 backup"]);
        assert_eq!(&*found.members[2].from, "_web._tcp.internal, c");
        let found = plan(256, Some(8080)).of_services(&services, &hosts, "_web._tcp.internal");
        assert_eq!(found.members[0].address.port(), Some(8080));
    }
}
