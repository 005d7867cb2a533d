//! The servers behind the balancer, what becomes of them, and the table that `balance` makes of those in use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use strata::balance::{Load, Member, maglev};
use strata::base::{HashKey, Moment, Weight};
use strata::flow::{Affinity, Endpoints, NOBODY, OnDown, Policy};

pub const KEY: HashKey = HashKey::new(*b"an example key..");
/// A prime; small, so that slots are shared by several flows.
pub const SLOTS: usize = 251;

pub struct Server {
    pub weight: u64,
    pub draining: bool,
    /// It answers nobody, whatever the balancer believes.
    pub dead: bool,
    /// What the balancer believes.
    pub down: bool,
    /// Which of its lives it is in: a server that crashed has forgotten its connections.
    pub life: u32,
    /// When the balancer last believed it down though it was not.
    pub slandered: Option<Moment>,
}

/// Servers by identity, so that every order is the same in every run.
#[derive(Default)]
pub struct Servers {
    pub all: BTreeMap<u64, Server>,
    next: u64,
}

/// What the balancer must do now or soon.
pub enum Event {
    /// The table is to be made again.
    Changed,
    /// A server crashed; its probes will say so.
    Crashed(u64),
    /// A server that lives is believed down.
    Slandered(u64),
    Removed(u64),
    Nothing,
}

impl Servers {
    pub fn add(&mut self, rng: &mut Rng) {
        let server =
            Server { weight: rng.u64(1..=4), draining: false, dead: false, down: false, life: 0, slandered: None };
        self.all.insert(self.next, server);
        self.next += 1;
    }

    /// Another pool takes its place. Those that are not in it, and no servers of the service any more.
    pub fn swap(&mut self, rng: &mut Rng) -> Vec<u64> {
        let gone: Vec<u64> = self.all.keys().copied().filter(|_| rng.bool()).collect();
        self.all.retain(|identity, _| !gone.contains(identity));
        (0..rng.u32(1..4)).for_each(|_| self.add(rng));
        gone
    }

    /// One thing that happens to a pool.
    pub fn happen(&mut self, rng: &mut Rng, now: Moment) -> Event {
        let Some(identity) = rng.choice(self.all.keys().copied().collect::<Vec<_>>()) else {
            self.add(rng);
            return Event::Changed;
        };
        let count = self.all.len();
        let server = self.all.get_mut(&identity).expect("chosen among those there are");
        match rng.u32(..12) {
            0 | 1 if count < 9 => self.add(rng),
            2 | 3 => server.weight = rng.u64(1..=4),
            4 | 5 => server.draining = true,
            6 | 7 => {
                (server.draining, server.dead, server.down) = (false, false, false);
            }
            8 if server.draining => {
                self.all.remove(&identity);
                return Event::Removed(identity);
            }
            9 | 10 if !server.dead => {
                server.dead = true;
                server.life += 1;
                return Event::Crashed(identity);
            }
            11 if !server.down && !server.dead => {
                server.down = true;
                server.slandered = Some(now);
                return Event::Slandered(identity);
            }
            _ => return Event::Nothing,
        }
        Event::Changed
    }

    /// The Maglev table over those that may have new flows, in the balancer's indices.
    pub fn table(&self, endpoints: &mut Endpoints) -> Vec<u16> {
        let usable: Vec<(u64, &Server)> =
            self.all.iter().filter(|(_, server)| !server.draining && !server.down).map(|(id, s)| (*id, s)).collect();
        let index: Vec<u16> = self.all.keys().map(|&id| endpoints.join(id).unwrap_or(NOBODY)).collect();
        let index: BTreeMap<u64, u16> = self.all.keys().copied().zip(index).collect();
        let member = |&(id, server): &(u64, &Server)| Member {
            identity: KEY.mix(id, 1),
            weight: Weight::new(server.weight).unwrap_or(Weight::ONE),
            load: Arc::new(Load::default()),
        };
        let members: Vec<Member> = usable.iter().map(member).collect();
        let table = maglev::Table::build(&members, KEY, SLOTS);
        table.slots().iter().map(|&member| index[&usable[usize::from(member)].0]).collect()
    }
}

/// As an operator may decide, and decide again: mostly that flows stay together.
pub fn any_policy(rng: &mut Rng) -> Policy {
    let seconds = |rng: &mut Rng, any: [u64; 3]| Duration::from_secs(any[rng.usize(..3)]);
    Policy {
        on_down: [OnDown::Rehash, OnDown::Keep, OnDown::Reset][rng.usize(..3)],
        affinity: if rng.u8(..8) == 0 { Affinity::Packet } else { Affinity::Flow },
        tcp_idle: seconds(rng, [900, 300, 60]),
        other_idle: seconds(rng, [30, 10, 120]),
    }
}
