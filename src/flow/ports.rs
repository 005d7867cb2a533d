//! Engine: the ports of our own addresses that full NAT lends to flows.
//!
//! Per address and protocol a queue: a port is taken from its front and comes back to its end. So a port rests as long as there are
//! others, if it can for `limits::NAT_PORT_REST`: the endpoint may still hold the connection that had it (TIME-WAIT, RFC 9293
//! §3.6.1). The first order is shuffled with a secret: nobody can tell the next port (RFC 6056).
//!
//! A port whose flow proved nothing need not rest: at worst the endpoint holds a handshake that was never finished, challenges the
//! next SYN, and the client makes way for its own (RFC 5961 §4). But such ports are lent when no others have rested: a flood of forged
//! SYNs must not have its ports rest for a minute after it. One that still rests comes last. Whoever gets it too early loses a
//! second in the same way, and who gets none loses the connection.
//!
//! One that carried datagrams is lent after the same ones, and not before its endpoint has had time for what it still had to say
//! (`limits::NAT_DATAGRAM_REST`): that would reach the next client.
//!
//! One lock per address and protocol, taken when a flow begins and ends and at no packet between. Addresses come and go while flows
//! live, for a reload must not end those of another service: one that nobody names any more stays until its ports are back.
//! Not here: who has a port (`nat`).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use fastrand::Rng;
use parking_lot::{Mutex, RwLock};

use super::key::{TCP, UDP};
use crate::base::{HashKey, Moment, limits};

pub(super) struct Ports {
    /// A lease names its place, which therefore becomes another address's only when every port of it is back.
    sources: RwLock<Vec<Source>>,
    ports: RangeInclusive<u16>,
    secret: HashKey,
}

struct Source {
    address: IpAddr,
    /// TCP, UDP.
    pools: [Mutex<Pool>; PROTOCOLS],
}

/// Ports that are not lent, each once.
struct Pool {
    ports: VecDeque<Rested>,
    /// Those whose last flow proved nothing, or was none of TCP.
    brief: VecDeque<Rested>,
}

impl Pool {
    fn len(&self) -> usize {
        self.ports.len().saturating_add(self.brief.len())
    }

    fn take(&mut self, now: Moment) -> Option<u16> {
        let is_over = |rested: &mut Rested| rested.until <= now;
        let rested = self.ports.pop_front_if(is_over).or_else(|| self.brief.pop_front_if(is_over));
        rested.map(|rested| rested.port)
    }

    /// The one that has rested for longest, though it should go on.
    fn take_resting(&mut self) -> Option<u16> {
        self.ports.pop_front().map(|resting| resting.port)
    }
}

/// Whether a port that comes back has to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Full,
    /// A flow of datagrams ended.
    Short,
    None,
}

/// How many of the ports of one address and protocol are lent, and how many could be. The others rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortUse {
    pub lent: usize,
    pub free: usize,
}

impl Source {
    /// Whether no port of it is lent.
    fn is_whole(&self, ports: usize) -> bool {
        self.pools.iter().all(|pool| pool.lock().len() == ports)
    }
}

#[derive(Clone, Copy)]
struct Rested {
    port: u16,
    until: Moment,
}

/// A port that was lent. It must be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub address: IpAddr,
    pub port: u16,
    source: u8,
    pool: u8,
    /// It did not rest, and another endpoint may still answer whoever had it.
    pub tired: bool,
}

/// A lease without what its flow shows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lent {
    source: u8,
    pool: u8,
    pub tired: bool,
}

impl Lent {
    pub(super) const fn of(self, address: IpAddr, port: u16) -> Lease {
        let Lent { source, pool, tired } = self;
        Lease { address, port, source, pool, tired }
    }

    /// Which of the `POOLS` it is of.
    pub(super) fn pool(self) -> usize {
        usize::from(self.source).saturating_mul(PROTOCOLS).saturating_add(usize::from(self.pool))
    }
}

impl Lease {
    pub(super) const fn lent(self) -> Lent {
        let Lease { source, pool, tired, .. } = self;
        Lent { source, pool, tired }
    }

    /// Whether it is what `take` would lend.
    pub(super) fn suits(&self, protocol: u8, towards: IpAddr, among: &[IpAddr]) -> bool {
        Some(self.pool) == pool_of(protocol)
            && self.address.is_ipv4() == towards.is_ipv4()
            && among.contains(&self.address)
    }
}

impl Ports {
    pub(super) fn new(addresses: &[IpAddr], ports: &RangeInclusive<u16>, secret: &HashKey) -> Ports {
        let lender = Ports { sources: RwLock::default(), ports: ports.clone(), secret: *secret };
        lender.add(addresses);
        lender
    }

    /// Has ports of all of these addresses to lend from now on, each once. Others make room for them once their ports are back:
    /// false when one found none, for there are `limits::NAT_SOURCES` places twice, so that all may change at once.
    pub(super) fn add(&self, addresses: &[IpAddr]) -> bool {
        let mut sources = self.sources.write();
        addresses.iter().all(|address| {
            if sources.iter().any(|source| source.address == *address) {
                return true;
            }
            if sources.len() < PLACES {
                let source = self.source(*address, sources.len() as u64);
                sources.push(source);
                return true;
            }
            let may_go = |source: &Source| !addresses.contains(&source.address) && source.is_whole(self.ports.len());
            let Some(place) = sources.iter().position(may_go) else { return false };
            let source = self.source(*address, place as u64);
            sources.get_mut(place).map(|old| *old = source).is_some()
        })
    }

    fn source(&self, address: IpAddr, place: u64) -> Source {
        let pools = [0, 1].map(|pool| {
            let mut all: Vec<u16> = self.ports.clone().collect();
            Rng::with_seed(self.secret.mix(place, pool)).shuffle(&mut all);
            let ports = all.into_iter().map(|port| Rested { port, until: Moment::ZERO }).collect();
            // Nothing is allocated while packets come.
            Mutex::new(Pool { ports, brief: VecDeque::with_capacity(self.ports.len()) })
        });
        Source { address, pools }
    }

    /// A port of one of the addresses `among` of the family that `towards` has, for a protocol that has ports. `spread` says with
    /// which address to begin. `None` when all are lent or at rest.
    pub(super) fn take(
        &self,
        protocol: u8,
        towards: IpAddr,
        among: &[IpAddr],
        spread: u64,
        now: Moment,
    ) -> Option<Lease> {
        let pool = pool_of(protocol)?;
        let sources = self.sources.read();
        let count = sources.len();
        let start = spread.checked_rem(count as u64).and_then(|start| usize::try_from(start).ok()).unwrap_or(0);
        let turns = || sources.iter().enumerate().cycle().skip(start).take(count).map(|turn| (turn, false));
        let tired = turns().map(|(turn, _)| (turn, true));
        for ((nth, source), early) in turns().chain(tired) {
            if source.address.is_ipv4() != towards.is_ipv4() || !among.contains(&source.address) {
                continue;
            }
            let Some(mut free) = source.pools.get(usize::from(pool)).map(Mutex::lock) else { continue };
            if let Some(port) = if early { free.take_resting() } else { free.take(now) } {
                let source = u8::try_from(nth).unwrap_or(u8::MAX);
                return Some(Lease { address: sources.get(nth)?.address, port, source, pool, tired: false });
            }
        }
        None
    }

    pub(super) fn give_back(&self, lease: Lease, rest: Rest, now: Moment) {
        let sources = self.sources.read();
        let pools = sources.get(usize::from(lease.source)).map(|source| &source.pools);
        if let Some(pool) = pools.and_then(|pools| pools.get(usize::from(lease.pool))) {
            let (mut pool, port) = (pool.lock(), lease.port);
            // Both queues have room for every port.
            match rest {
                Rest::Full => pool.ports.push_back(Rested { port, until: now + limits::NAT_PORT_REST }),
                Rest::Short => pool.brief.push_back(Rested { port, until: now + limits::NAT_DATAGRAM_REST }),
                Rest::None => pool.brief.push_back(Rested { port, until: now }),
            }
        }
    }

    /// Ports of an address that flows have, and those that new flows could have now, of TCP and UDP. `None`: it lends none.
    pub(super) fn use_of(&self, address: IpAddr, now: Moment) -> Option<[PortUse; PROTOCOLS]> {
        let sources = self.sources.read();
        let source = sources.iter().find(|source| source.address == address)?;
        Some(source.pools.each_ref().map(|pool| {
            let pool = pool.lock();
            // In the order in which they came back.
            let free_of = |queue: &VecDeque<Rested>| queue.partition_point(|rested| rested.until <= now);
            let free = free_of(&pool.ports).saturating_add(free_of(&pool.brief));
            PortUse { lent: self.ports.len().saturating_sub(pool.len()), free }
        }))
    }

    /// Ports at rest or free, of all addresses.
    pub(super) fn left(&self) -> usize {
        self.sources.read().iter().flat_map(|source| &source.pools).map(|pool| pool.lock().len()).sum()
    }
}

/// Those in use and as many that are on their way out.
const PLACES: usize = 2 * limits::NAT_SOURCES;
/// Those that have ports: nothing else could tell two clients of full NAT apart.
pub const PROTOCOLS: usize = 2;
/// Of all addresses and protocols.
pub(super) const POOLS: usize = PLACES * PROTOCOLS;

fn pool_of(protocol: u8) -> Option<u8> {
    match protocol {
        TCP => Some(0),
        UDP => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: HashKey = HashKey::new([3; 16]);
    const ALL: [[u8; 4]; 4] = [[10, 0, 0, 0], [10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]];

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    fn ports(n: u8, range: RangeInclusive<u16>) -> Ports {
        let addresses: Vec<IpAddr> = (0..n).map(|n| [10, 0, 0, n].into()).chain([[1; 16].into()]).collect();
        Ports::new(&addresses, &range, &SECRET)
    }

    fn take(ports: &Ports, protocol: u8, seconds: u64) -> Option<Lease> {
        ports.take(protocol, [192, 0, 2, 1].into(), &ALL.map(IpAddr::from), 1, at(seconds))
    }

    #[test]
    fn every_port_is_lent_once_and_then_there_is_none() {
        let ports = ports(2, 1000..=1099);
        for protocol in [TCP, UDP] {
            let mut lent: Vec<_> =
                std::iter::from_fn(|| take(&ports, protocol, 0)).map(|l| (l.address, l.port)).collect();
            assert_eq!(lent.len(), 200);
            assert_ne!(lent[0].1 + 1, lent[1].1, "in no order that one could guess");
            lent.sort_unstable();
            lent.dedup();
            assert_eq!(lent.len(), 200);
            assert!(lent.iter().all(|(address, port)| address.is_ipv4() && (1000..1100).contains(port)));
        }
        assert!(
            ports.take(TCP, [2; 16].into(), &[[1; 16].into()], 7, at(0)).is_some_and(|lease| lease.address.is_ipv6())
        );
        assert_eq!([1, 47, 58].map(|protocol| take(&ports, protocol, 0)), [None; 3], "no ports, nothing to lend");
    }

    #[test]
    fn a_port_rests_before_it_is_lent_again_as_long_as_others_are_there() {
        let ports = ports(1, 1000..=1002);
        let first = take(&ports, TCP, 0).unwrap();
        ports.give_back(first, Rest::Full, at(0));
        let others = [take(&ports, TCP, 100).unwrap(), take(&ports, TCP, 100).unwrap()];
        assert!(others.iter().all(|lease| lease.port != first.port));
        ports.give_back(others[0], Rest::Full, at(100));
        assert_eq!(take(&ports, TCP, 100), Some(first));
        ports.give_back(others[1], Rest::Full, at(101));
        assert_eq!(
            [0, 0, 0].map(|_| take(&ports, TCP, 102)),
            [Some(others[0]), Some(others[1]), None],
            "or none is left"
        );
    }

    #[test]
    fn a_port_whose_flow_proved_nothing_is_lent_after_all_that_have_rested_and_before_one_that_rests() {
        let ports = ports(1, 1000..=1002);
        let [forged, again, proven] = [0, 0, 0].map(|seconds| take(&ports, TCP, seconds).unwrap());
        ports.give_back(proven, Rest::Full, at(0));
        ports.give_back(forged, Rest::None, at(1));
        ports.give_back(again, Rest::None, at(1));
        assert_eq!(ports.use_of([10, 0, 0, 0].into(), at(1)).unwrap()[0], PortUse { lent: 0, free: 2 });
        assert_eq!(take(&ports, TCP, 2), Some(forged));
        let rest = limits::NAT_PORT_REST.as_secs();
        assert_eq!(take(&ports, TCP, rest), Some(proven));
        assert_eq!([take(&ports, TCP, rest), take(&ports, TCP, rest)], [Some(again), None]);
        ports.give_back(proven, Rest::Full, at(100));
        ports.give_back(forged, Rest::None, at(100));
        assert_eq!([take(&ports, TCP, 101), take(&ports, TCP, 101)], [Some(forged), Some(proven)]);
    }

    #[test]
    fn no_address_lends_a_port_that_rests_while_another_has_one_that_does_not() {
        let ports = ports(2, 1000..=1000);
        let lent = [take(&ports, TCP, 0).unwrap(), take(&ports, TCP, 0).unwrap()];
        ports.give_back(lent[0], Rest::Full, at(0));
        ports.give_back(lent[1], Rest::None, at(0));
        assert_eq!([take(&ports, TCP, 1), take(&ports, TCP, 1)], [Some(lent[1]), Some(lent[0])]);
        ports.give_back(lent[0], Rest::None, at(2));
        ports.give_back(lent[1], Rest::Full, at(2));
        assert_eq!([take(&ports, TCP, 3), take(&ports, TCP, 3)], [Some(lent[0]), Some(lent[1])]);
    }

    #[test]
    fn a_port_is_lent_at_rest_or_free() {
        let ports = ports(1, 1000..=1009);
        let lent = [take(&ports, TCP, 0).unwrap(), take(&ports, TCP, 0).unwrap(), take(&ports, TCP, 0).unwrap()];
        ports.give_back(lent[0], Rest::Full, at(1));
        let rest = limits::NAT_PORT_REST.as_secs();
        let of = |seconds| ports.use_of([10, 0, 0, 0].into(), at(seconds)).unwrap();
        let idle = PortUse { lent: 0, free: 10 };
        assert_eq!(of(rest), [PortUse { lent: 2, free: 7 }, idle]);
        assert_eq!(of(rest + 1)[0], PortUse { lent: 2, free: 8 });
        assert_eq!(ports.use_of([10, 0, 0, 9].into(), at(0)), None);
    }

    #[test]
    fn a_service_has_the_addresses_that_it_names_and_each_is_lent_once() {
        let ports = ports(2, 1000..=1000);
        let other = IpAddr::from([10, 0, 0, 9]);
        let among = |address| ports.take(TCP, [192, 0, 2, 1].into(), &[address], 0, at(0)).map(|lease| lease.address);
        assert_eq!(among(other), None);
        assert!(ports.add(&[other, [10, 0, 0, 1].into(), other]));
        assert_eq!([among(other), among(other)], [Some(other), None]);
        assert_eq!([among([10, 0, 0, 1].into()), among([10, 0, 0, 1].into())], [Some([10, 0, 0, 1].into()), None]);
    }

    #[test]
    fn addresses_make_room_for_others_once_their_ports_are_back() {
        let ports = ports(2, 1000..=1001);
        let network = |third: u8| (0..16).map(move |n| IpAddr::from([10, third, 0, n])).collect::<Vec<_>>();
        let (first, second, third) = (network(1), network(2), network(3));
        assert!(ports.add(&first) && ports.add(&second), "the first three make room for the last of these");
        let lend = |address: IpAddr| ports.take(TCP, [192, 0, 2, 1].into(), &[address], 0, at(0));
        let lent = lend(first[3]).unwrap();
        assert!(ports.add(&[&first[3..4], &third].concat()));
        let lends = |address| ports.use_of(address, at(0)).is_some();
        assert_eq!((lends(first[3]), lends(first[4])), (true, false));
        // Its port went back to where it came from, though all around it are others.
        ports.give_back(lent, Rest::Full, at(1));
        assert!(lend(first[3]).is_some_and(|lease| lease.port != lent.port));
        assert_eq!([lend(first[3]), lend(first[3])], [Some(lent), None]);
        let all: Vec<Lease> = second.iter().chain(&third).filter_map(|address| lend(*address)).collect();
        assert!(all.len() > 16 && !ports.add(&first), "ports of too many are lent: {}", all.len());
    }

    #[test]
    fn without_addresses_there_is_nothing_to_lend() {
        let ports = Ports::new(&[], &(1..=2), &SECRET);
        assert_eq!((take(&ports, TCP, 0), ports.left()), (None, 0));
    }
}
