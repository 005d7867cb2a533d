//! Engine: whether a member that was found may serve in a pool: what `check` says of an endpoint of the file, said while it runs.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::super::value::{Config, Endpoint, Packet, Traffic, Vip};
use super::Around;
use crate::base::address::AdminListen;
use crate::base::{EndpointAddr, Listen};
use crate::seam::source::{Member, Mistake, Refusal, is_no_host};
use crate::state::{Forward, ModeKind};

/// What members are judged by.
pub(super) struct Ground<'a> {
    listens: Vec<Listen>,
    vips: HashSet<IpAddr>,
    /// Packet services by their pool.
    packets: HashMap<&'a str, Vec<(&'a Packet, Option<&'a Vip>)>>,
    around: &'a Around<'a>,
}

impl<'a> Ground<'a> {
    pub(super) fn of(config: &'a Config, around: &'a Around<'a>) -> Ground<'a> {
        let mut listens: Vec<Listen> =
            config.services.iter().flat_map(|service| &service.listen).map(|listen| listen.value).collect();
        listens.extend(config.metrics.as_ref().map(|metrics| metrics.listen.value));
        listens.extend(config.admin.as_ref().and_then(|admin| match &admin.listen.value {
            AdminListen::Tcp(listen) => Some(*listen),
            AdminListen::Unix(_) => None,
        }));
        let vips = config.vips.iter().flat_map(|vip| &vip.addresses).map(|address| address.value).collect();
        let mut packets: HashMap<&str, Vec<_>> = HashMap::new();
        for service in &config.services {
            if let Traffic::Packet(packet) = &service.traffic {
                let vip = config.vips.iter().find(|vip| vip.name.value == packet.vip.value);
                packets.entry(&*packet.pool.value).or_default().push((packet, vip));
            }
        }
        Ground { listens, vips, packets, around }
    }

    /// The member as it serves in this pool; nothing where the file names it already.
    pub(super) fn admit(&self, pool: &str, of_file: &[Endpoint], member: &Member) -> Result<Option<Member>, Mistake> {
        match self.packets.get(pool) {
            None => self.admit_to_proxies(pool, of_file, member),
            Some(users) => {
                let member = self.fit(users, self.check(member)?)?;
                Ok(new(of_file, member))
            }
        }
    }

    pub(super) fn admit_to_proxies(
        &self,
        pool: &str,
        of_file: &[Endpoint],
        member: &Member,
    ) -> Result<Option<Member>, Mistake> {
        let member = self.check(member)?;
        let Some(at) = member.address.socket() else {
            let message = format!("`{}` has no port to connect to, in pool `{pool}`", member.address);
            return Err(refuse(Refusal::NoPort, &member, message).help("name its port"));
        };
        if let Some(listen) = self.listens.iter().find(|listen| self.is_own(**listen, at)) {
            let message = format!("`{at}` is where this Strata listens itself (`{listen}`)");
            return Err(refuse(Refusal::Own, &member, message).help("connections would go round in a circle"));
        }
        Ok(new(of_file, member))
    }

    /// What holds in every pool.
    fn check(&self, member: &Member) -> Result<Member, Mistake> {
        let ip = member.address.ip().to_canonical();
        let address = EndpointAddr::from(SocketAddr::new(ip, member.address.port().unwrap_or(0)));
        let member = Member { address, ..member.clone() };
        if is_no_host(ip) {
            let message = format!("`{ip}` is not the address of one machine");
            return Err(refuse(Refusal::NoHost, &member, message));
        }
        if self.vips.contains(&ip) {
            let message = format!("`{ip}` is a vip of this Strata");
            return Err(refuse(Refusal::Own, &member, message).help("traffic would go round in a circle"));
        }
        Ok(member)
    }

    /// What the pool's packet services ask of it.
    fn fit(&self, users: &[(&Packet, Option<&Vip>)], member: Member) -> Result<Member, Mistake> {
        let mut member = member;
        if users.iter().any(|(packet, _)| matches!(packet.mode, ModeKind::L2 | ModeKind::L3)) {
            // They keep the port that clients name.
            member.address = EndpointAddr::host(member.address.ip());
        }
        let ip = member.address.ip();
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        for (packet, vip) in users {
            let same = |other: IpAddr| other.is_ipv4() == ip.is_ipv4();
            if packet.sources.iter().any(|source| source.value == ip) {
                let message = format!("`{ip}` is a source of full NAT of this Strata");
                return Err(refuse(Refusal::Own, &member, message));
            }
            let reached = vip.is_none_or(|vip| vip.addresses.iter().any(|address| same(address.value)));
            if !packet.forward.is_tunnel() && !reached {
                let message = format!("`{ip}` is {family}, and the vip is not");
                return Err(refuse(Refusal::Mode, &member, message).help("only tunnels change the family"));
            }
            if packet.forward == Forward::FullNat && !packet.sources.iter().any(|source| same(source.value)) {
                let message = format!("`{ip}` is {family}, and no `source` of the service is");
                return Err(refuse(Refusal::Mode, &member, message));
            }
            if packet.forward == Forward::Nat && member.address.port().is_some() && has_several_ports(packet) {
                let message = format!("`{}`: nat could not tell which of several ports a reply is for", member.address);
                return Err(
                    refuse(Refusal::Mode, &member, message).help("find endpoints without a port, or use `full-nat`")
                );
            }
        }
        Ok(member)
    }

    fn is_own(&self, listen: Listen, at: SocketAddr) -> bool {
        let here = || at.ip().is_loopback() || (self.around.is_here)(at.ip());
        match listen {
            Listen::At(own) if !own.ip().is_unspecified() => own == at,
            Listen::At(own) => own.port() == at.port() && own.is_ipv4() == at.is_ipv4() && here(),
            Listen::Any(port) => port == at.port() && here(),
        }
    }
}

fn new(of_file: &[Endpoint], member: Member) -> Option<Member> {
    (!of_file.iter().any(|endpoint| endpoint.address.value == member.address)).then_some(member)
}

fn has_several_ports(packet: &Packet) -> bool {
    let ports = packet.ports.iter().flatten();
    let mut transports: Vec<_> = ports.clone().map(|range| range.value.transport).collect();
    let all = transports.len();
    transports.sort_unstable();
    transports.dedup();
    transports.len() < all || ports.clone().any(|range| !range.value.is_single())
}

fn refuse(why: Refusal, member: &Member, message: String) -> Mistake {
    Mistake::new(why, &*member.from, message)
}
