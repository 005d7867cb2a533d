//! Clients, forgers, servers and an operator around one balancer, in simulated time; and the shadow of every flow, which knows
//! where it lives and whether the claim holds for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use strata::base::Moment;
use strata::flow::{Affinity, Decision, FlowKey, Kind, OnDown, Policy, Why, key};

use super::balancer::{Balancer, LAG_NANOS};
use super::rivals::{End, EveryFlow, Fate};
use super::servers::{self, Servers};

/// Length of a run, and what happens in it.
const HOUR: Duration = Duration::from_secs(3600);
const FLOWS: usize = 64;
/// A SYN that the network doubles arrives this much later at most: within the grace that a marked slot gives.
const DOUBLED: Duration = Duration::from_secs(3);

pub struct World {
    rng: Rng,
    now: Moment,
    queue: BinaryHeap<Reverse<(Moment, u64, Event)>>,
    events: u64,
    servers: Servers,
    balancer: Balancer,
    /// What the operator has decided, what before that, and when.
    policy: Policy,
    before: Policy,
    decided: Moment,
    flows: Vec<Flow>,
    /// Flows that begin just before the table changes: handshakes are what a change can hurt most.
    waiting: Vec<usize>,
    every_flow: EveryFlow,
    restarted: Moment,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The client sends its SYN: flow, sequence number, for the n-th time.
    Attempt(usize, u32, u32),
    /// A copy of its SYN that the network kept for a while.
    Double(usize, u32),
    /// A server's answer reaches the client: flow, sequence number of the SYN, server, its life.
    SynAck(usize, u32, u64, u32),
    /// The client's next packet.
    Send(usize),
    /// The client uses the ports of a flow that is over for another one.
    Again(usize),
    Operate,
    /// The probes of a crashed server failed.
    Noticed(u64),
    Sweep,
    Forge,
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Established,
    Over,
}

/// The shadow of a flow.
struct Flow {
    key: FlowKey,
    state: State,
    isn: u32,
    /// Sequence number of the next packet.
    next: u32,
    left: u32,
    /// Packets that reached a server.
    arrived: u32,
    home: Option<(u64, u32)>,
    last: Moment,
    /// How long it may be silent after that: what was decided meanwhile counts where it is less.
    idle: Duration,
    begun: bool,
    /// Why the claim does not speak of it.
    excused: Option<Excuse>,
    ours: Fate,
    plain: Fate,
    recorded: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Excuse {
    Died,
    BelievedDown,
    Idle,
    /// Its packets stood alone for a time.
    Alone,
    NoRoom,
    Restart,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::with_seed(seed);
        let mut servers = Servers::default();
        (0..rng.u32(2..6)).for_each(|_| servers.add(&mut rng));
        let policy = servers::any_policy(&mut rng);
        // Some runs have no room to speak of.
        let capacity = if rng.u8(..4) == 0 { 12 } else { 512 };
        let now = Moment::from_millis(1000);
        let balancer = Balancer::new(&servers, policy, capacity, now);
        let flows = (0..FLOWS).map(|n| Flow::new(n, &mut rng)).collect();
        let mut world = World {
            rng,
            now,
            queue: BinaryHeap::new(),
            events: 0,
            servers,
            balancer,
            policy,
            before: policy,
            decided: Moment::ZERO,
            flows,
            waiting: (0..FLOWS).filter(|n| n % 2 == 1).collect(),
            every_flow: EveryFlow::default(),
            restarted: Moment::ZERO,
            tally: Tally { roomy: capacity > FLOWS, ..Tally::default() },
        };
        for n in (0..FLOWS).filter(|n| n.is_multiple_of(2)) {
            let start = world.random(HOUR);
            world.begin(n, start);
        }
        for event in [Event::Operate, Event::Sweep, Event::Forge] {
            world.after(Duration::from_secs(1), event);
        }
        for _ in 0..world.rng.u32(..3) {
            let when = world.random(HOUR);
            world.after(when, Event::Restart);
        }
        world
    }

    /// Runs for an hour and until every flow is over, or to the first one that moved.
    pub fn run(mut self) -> Result<Tally, String> {
        while let Some(Reverse((when, _, event))) = self.queue.pop() {
            self.now = when;
            match event {
                Event::Attempt(n, seq, attempt) => self.attempt(n, seq, attempt),
                Event::Double(n, seq) => self.double(n, seq),
                Event::SynAck(n, isn, server, life) => self.syn_ack(n, isn, server, life),
                Event::Send(n) => self.send(n)?,
                Event::Again(n) => self.again(n),
                Event::Operate => self.operate(),
                Event::Noticed(identity) => self.noticed(identity),
                Event::Sweep => self.sweep(),
                Event::Forge => self.forge(),
                Event::Restart => self.restart(),
            }
        }
        self.tally.runs = 1;
        self.tally.every_flow_most = self.every_flow.most;
        for flow in &self.flows {
            self.tally.end(flow);
        }
        Ok(self.tally)
    }

    // ---- clients ----

    fn begin(&mut self, n: usize, delay: Duration) {
        let flow = &self.flows[n];
        self.after(delay, if flow.is_tcp() { Event::Attempt(n, flow.isn, 0) } else { Event::Send(n) });
    }

    fn attempt(&mut self, n: usize, seq: u32, attempt: u32) {
        let flow = &mut self.flows[n];
        if flow.state != State::Connecting || flow.isn != seq {
            return;
        }
        if attempt == 6 {
            flow.state = State::Over;
            return;
        }
        flow.begun = true;
        self.after(Duration::from_secs(1 << attempt), Event::Attempt(n, seq, attempt + 1));
        if self.rng.u8(..4) == 0 {
            let late = self.random(DOUBLED);
            self.after(late, Event::Double(n, seq));
        }
        if self.rng.u8(..8) > 0 {
            self.syn(n, seq); // or else it is lost
        }
    }

    fn again(&mut self, n: usize) {
        self.tally.end(&self.flows[n]);
        self.flows[n] = Flow { begun: true, ..Flow::new(n, &mut self.rng) };
        self.attempt(n, self.flows[n].isn, 0);
    }

    fn syn(&mut self, n: usize, seq: u32) {
        let to = self.own_packet(n, Kind::Syn { seq });
        let Some(server) = to.and_then(|id| self.servers.all.get(&id)).filter(|server| !server.dead) else { return };
        let answer = Event::SynAck(n, seq, to.unwrap_or_default(), server.life);
        if self.rng.u8(..8) != 0 {
            let way = self.random(Duration::from_millis(500));
            self.after(way, answer);
        }
    }

    fn double(&mut self, n: usize, seq: u32) {
        // A server that is believed down counts as dead for a SYN, whosever it is.
        self.excuse_believed_down(n);
        if self.flows[n].state == State::Connecting {
            self.syn(n, seq);
        } else {
            self.own_packet(n, Kind::Syn { seq });
        }
    }

    fn syn_ack(&mut self, n: usize, isn: u32, server: u64, life: u32) {
        let idle = self.idle(true);
        let by_hash = self.balancer.by_hash(&self.flows[n].key);
        let flow = &mut self.flows[n];
        if flow.state != State::Connecting || flow.isn != isn {
            return;
        }
        flow.state = State::Established;
        flow.home = Some((server, life));
        (flow.last, flow.idle) = (self.now, idle);
        // What left the client first may be overtaken by what left it next, as much as the first window holds.
        flow.next = isn.wrapping_add(1 + if self.rng.bool() { 0 } else { self.rng.u32(..=65_535) });
        flow.begin(Some(server), by_hash, &mut self.every_flow, &self.servers, self.now);
        self.tally.established += 1;
        // Handshakes across a restart or a server's ill repute are no established flows yet.
        if self.now < self.restarted + Duration::from_secs(1) && by_hash != Some(server) {
            flow.excused = Some(Excuse::Restart);
        }
        let slandered = self.servers.all.get(&server).and_then(|server| server.slandered);
        if slandered.is_some_and(|when| self.now < when + Duration::from_secs(70)) {
            flow.excused = Some(Excuse::BelievedDown);
        }
        self.after(Duration::ZERO, Event::Send(n));
    }

    fn send(&mut self, n: usize) -> Result<(), String> {
        let flow = &mut self.flows[n];
        flow.begun = true;
        if flow.state == State::Over {
            return Ok(());
        }
        if self.rng.u8(..10) == 0 {
            let again = Duration::from_millis(200) + self.random(Duration::from_millis(800));
            self.after(again, Event::Send(n));
            return Ok(()); // lost, and sent again
        }
        let (is_tcp, seq, last) = (flow.is_tcp(), flow.next, flow.left == 0);
        if flow.arrived > 0 && self.now.since(flow.last) + Duration::from_millis(20) > flow.idle {
            self.excuse(n, Excuse::Idle);
        }
        let kind = match (is_tcp, last) {
            (true, true) if self.rng.bool() => Kind::Rst { seq, bare: false },
            (true, true) => Kind::Fin { seq, ack: 0 },
            (true, false) => Kind::TcpData { seq, ack: 0 },
            (false, _) => Kind::Other,
        };
        let to = self.own_packet(n, kind);
        self.compare(n, to);
        if !self.arrive(n, to)? {
            return Ok(());
        }
        let (pause, idle) = (self.pause(), self.idle(is_tcp));
        let flow = &mut self.flows[n];
        flow.next = seq.wrapping_add(self.rng.u32(..1_000_000));
        flow.left = flow.left.saturating_sub(1);
        (flow.last, flow.idle) = (self.now, idle);
        flow.arrived += 1;
        if !last {
            self.after(pause, Event::Send(n));
            return Ok(());
        }
        flow.state = State::Over;
        if is_tcp && self.rng.bool() {
            // Later than any copy of its SYN.
            let later = Duration::from_secs(5) + self.random(Duration::from_secs(200));
            self.after(later, Event::Again(n));
        }
        Ok(())
    }

    /// A packet of an established flow has come to some server. False when that was the flow's end.
    fn arrive(&mut self, n: usize, to: Option<u64>) -> Result<bool, String> {
        let flow = &mut self.flows[n];
        let Some((home, life)) = flow.home else {
            // UDP: the first packet says where it lives.
            let server = to.and_then(|id| Some((id, self.servers.all.get(&id).filter(|server| !server.dead)?)));
            flow.home = server.map(|(id, server)| (id, server.life));
            flow.state = if flow.home.is_some() { State::Established } else { State::Over };
            // A worker that is behind may have sent it to one that is believed down.
            if server.is_some_and(|(_, server)| server.down) {
                flow.excused = Some(Excuse::BelievedDown);
            }
            if self.policy.affinity == Affinity::Packet {
                flow.excused.get_or_insert(Excuse::Alone);
            }
            let by_hash = self.balancer.by_hash(&flow.key);
            if flow.home.is_some() {
                flow.begin(to, by_hash, &mut self.every_flow, &self.servers, self.now);
                self.tally.established += 1;
            }
            return Ok(flow.home.is_some());
        };
        if self.servers.all.get(&home).is_none_or(|server| server.life != life) {
            flow.excused = Some(Excuse::Died);
            flow.state = State::Over;
            return Ok(false);
        }
        if to == Some(home) {
            return Ok(true);
        }
        flow.state = State::Over;
        match flow.excused {
            Some(excuse) => *self.tally.moved.entry(excuse).or_default() += 1,
            None => return Err(format!("{} on server {home} went to {to:?} at {:?}", flow.key, self.now)),
        }
        Ok(false)
    }

    /// Sends a packet of the flow's own client.
    fn own_packet(&mut self, n: usize, kind: Kind) -> Option<u64> {
        let (to, decision) = self.balancer.packet(&self.flows[n].key, kind, &mut self.rng, self.now);
        let word = match decision {
            Decision::Forward { why, .. } => why.word(),
            Decision::Reset => "reset",
            Decision::NoEndpoint => "no-endpoint",
        };
        *self.tally.words.entry(word).or_default() += 1;
        if matches!(decision, Decision::Forward { why: Why::RecordsFull, .. }) {
            self.excuse(n, Excuse::NoRoom);
        }
        to
    }

    /// What became of the flow here and what would have become of it elsewhere.
    fn compare(&mut self, n: usize, to: Option<u64>) {
        let flow = &mut self.flows[n];
        if matches!(flow.excused, Some(Excuse::Idle | Excuse::Alone)) {
            return; // nobody promises anything
        }
        let by_hash = self.balancer.by_hash(&flow.key);
        let recorded = self.every_flow.packet(flow.key, by_hash, &self.servers, self.now);
        flow.ours.packet(to, &self.servers);
        flow.plain.packet(by_hash, &self.servers);
        flow.recorded.packet(recorded, &self.servers);
    }

    /// Most clients speak often, some hardly within the idle time, a few not even that.
    fn pause(&mut self) -> Duration {
        let longest = match self.rng.u8(..100) {
            0..60 => 2_000,
            60..85 => 29_000,
            85..98 => 899_000,
            _ => 2_000_000,
        };
        Duration::from_millis(20 + self.rng.u64(..longest))
    }

    // ---- everyone else ----

    fn operate(&mut self) {
        match self.rng.u8(..24) {
            0..6 => self.decide_otherwise(),
            6 => self.swap(),
            _ => {}
        }
        match self.servers.happen(&mut self.rng, self.now) {
            servers::Event::Nothing => {}
            servers::Event::Changed => self.change(),
            servers::Event::Crashed(identity) => {
                let probed = self.random(Duration::from_secs(6));
                self.after(probed, Event::Noticed(identity));
            }
            servers::Event::Slandered(identity) => {
                self.believed_down(identity);
                self.change();
            }
            servers::Event::Removed(identity) => {
                self.balancer.endpoints.remove(identity);
                self.change();
            }
        }
        if self.now < Moment::ZERO + HOUR {
            // Bursts of changes within one transition, and pauses that are longer than one.
            let longest = if self.rng.u8(..5) == 0 { 1200 } else { 60 };
            let next = self.random(Duration::from_secs(longest));
            self.after(next, Event::Operate);
            for n in self.waiting.split_off(self.waiting.len().saturating_sub(2)) {
                let before = self.random(DOUBLED);
                self.begin(n, next.saturating_sub(before));
            }
        }
    }

    /// The operator says something else about the service, which is no reason for any flow to move.
    fn decide_otherwise(&mut self) {
        (self.before, self.decided) = (self.policy, self.now);
        self.policy = servers::any_policy(&mut self.rng);
        let (before, after) = (self.before, self.policy);
        for n in 0..FLOWS {
            let flow = &self.flows[n];
            let idle = if flow.is_tcp() { after.tcp_idle } else { after.other_idle };
            self.flows[n].idle = flow.idle.min(idle);
            if !self.flows[n].is_tcp() && after.affinity == Affinity::Packet && self.flows[n].home.is_some() {
                self.excuse(n, Excuse::Alone);
            }
        }
        if before.on_down == OnDown::Keep && after.on_down != OnDown::Keep {
            let down: Vec<u64> = self.servers.all.iter().filter(|(_, server)| server.down).map(|(id, _)| *id).collect();
            down.into_iter().for_each(|identity| self.believed_down(identity));
        }
        self.balancer.decide_otherwise(after, &self.servers, &mut self.rng, self.now);
        self.tally.decisions += 1;
    }

    fn swap(&mut self) {
        let gone = self.servers.swap(&mut self.rng);
        gone.into_iter().for_each(|identity| self.balancer.endpoints.remove(identity));
        self.change();
        self.tally.swaps += 1;
    }

    /// How long a flow may be silent from now on: a worker that is behind goes by what was decided before.
    fn idle(&self, is_tcp: bool) -> Duration {
        let of = |policy: &Policy| if is_tcp { policy.tcp_idle } else { policy.other_idle };
        let behind = self.now <= self.decided + Duration::from_nanos(2 * LAG_NANOS);
        if behind { of(&self.policy).min(of(&self.before)) } else { of(&self.policy) }
    }

    fn change(&mut self) {
        self.balancer.change(&self.servers, &mut self.rng, self.now);
        self.tally.changes += 1;
        self.tally.marked_most = self.tally.marked_most.max(self.balancer.slots.marked());
    }

    fn noticed(&mut self, identity: u64) {
        let Some(server) = self.servers.all.get_mut(&identity).filter(|server| server.dead) else { return };
        server.down = true;
        self.change();
    }

    /// A server that lives is taken for dead: its flows are kept only where the operator said so, and only those it is known by.
    fn believed_down(&mut self, identity: u64) {
        for n in 0..FLOWS {
            let flow = &self.flows[n];
            let kept = self.policy.on_down == OnDown::Keep && flow.is_tcp() && flow.arrived > 0;
            if flow.home.is_some_and(|(home, _)| home == identity) && !kept {
                self.excuse(n, Excuse::BelievedDown);
            }
        }
    }

    fn sweep(&mut self) {
        self.balancer.sweep(&mut self.rng, self.now);
        let fill = self.balancer.records.fill();
        self.tally.records_most = self.tally.records_most.max(fill.records);
        if self.now < Moment::ZERO + HOUR {
            self.after(Duration::from_secs(5), Event::Sweep);
        }
    }

    /// Forged packets: single SYNs, FINs and data for flows that live and for ports that a client will use, and floods.
    fn forge(&mut self) {
        for _ in 0..3 {
            let n = self.rng.usize(..FLOWS);
            self.excuse_believed_down(n);
            let flow = &self.flows[n];
            // A number that the flow is nowhere near: to hit it by luck is one in 65 536, and seeds must not have luck. A flow
            // whose first words are under way is not established.
            let far = flow.next.wrapping_add(self.rng.u32(1 << 30..3 << 30));
            let kind = match self.rng.u8(..4) {
                _ if !flow.is_tcp() => Kind::Other,
                0 => Kind::TcpData { seq: far, ack: 0 },
                1 => Kind::Fin { seq: far, ack: 0 },
                2 => Kind::Rst { seq: far, bare: self.rng.bool() },
                _ => Kind::Syn { seq: far },
            };
            let key = flow.key;
            if !flow.begun || flow.arrived > 0 {
                self.balancer.packet(&key, kind, &mut self.rng, self.now);
            }
        }
        if self.rng.u8(..20) == 0 {
            for _ in 0..40 {
                let source = (self.rng.u32(..).to_be_bytes(), self.rng.u16(..));
                let key = FlowKey::new(key::TCP, source.into(), VIP.into());
                let kind = if self.rng.u8(..4) == 0 { Kind::TcpData { seq: 1, ack: 0 } } else { Kind::Syn { seq: 1 } };
                self.balancer.packet(&key, kind, &mut self.rng, self.now);
            }
        }
        if self.now < Moment::ZERO + HOUR {
            let next = self.random(Duration::from_secs(20));
            self.after(next, Event::Forge);
        }
    }

    fn restart(&mut self) {
        self.balancer.restart(&self.servers, self.now);
        self.every_flow.restart();
        self.restarted = self.now;
        self.tally.restarts += 1;
        for n in 0..FLOWS {
            let flow = &self.flows[n];
            // Flows that only a record or a mark held where they are.
            if flow.home.is_some_and(|(home, _)| self.balancer.by_hash(&flow.key) != Some(home)) {
                self.excuse(n, Excuse::Restart);
            }
        }
    }

    fn excuse_believed_down(&mut self, n: usize) {
        let home = self.flows[n].home.and_then(|(home, _)| self.servers.all.get(&home));
        if home.is_some_and(|server| server.down) {
            self.excuse(n, Excuse::BelievedDown);
        }
    }

    fn excuse(&mut self, n: usize, excuse: Excuse) {
        self.flows[n].excused.get_or_insert(excuse);
    }

    fn random(&mut self, below: Duration) -> Duration {
        Duration::from_micros(self.rng.u64(..below.as_micros() as u64))
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.events += 1;
        self.queue.push(Reverse((self.now + delay, self.events, event)));
    }
}

const VIP: ([u8; 4], u16) = ([10, 0, 0, 100], 80);

impl Flow {
    fn new(n: usize, rng: &mut Rng) -> Flow {
        let protocol = if n.is_multiple_of(5) { key::UDP } else { key::TCP };
        let port = 1024 + u16::try_from(n).unwrap_or(0);
        // Many begin so that their numbers wrap.
        let isn = if rng.bool() { rng.u32(..) } else { 0_u32.wrapping_sub(rng.u32(..3_000_000)) };
        Flow {
            key: FlowKey::new(protocol, ([198, 51, 100, 7], port).into(), VIP.into()),
            state: State::Connecting,
            isn,
            next: isn,
            left: rng.u32(2..25),
            arrived: 0,
            home: None,
            last: Moment::ZERO,
            idle: Duration::ZERO,
            begun: false,
            excused: None,
            ours: Fate::default(),
            plain: Fate::default(),
            recorded: Fate::default(),
        }
    }

    fn begin(&mut self, to: Option<u64>, by_hash: Option<u64>, every: &mut EveryFlow, servers: &Servers, now: Moment) {
        self.ours.begin(to, servers);
        self.plain.begin(by_hash, servers);
        self.recorded.begin(every.packet(self.key, by_hash, servers, now), servers);
    }

    fn is_tcp(&self) -> bool {
        self.key.protocol() == key::TCP
    }
}

/// What one run or many have seen.
#[derive(Default)]
pub struct Tally {
    runs: usize,
    /// There is room for records: the others would have no fair comparison.
    roomy: bool,
    established: usize,
    changes: usize,
    decisions: usize,
    swaps: usize,
    restarts: usize,
    /// Flows that moved or were lost though their server lived, by what excuses it.
    moved: BTreeMap<Excuse, usize>,
    /// Of flows whose server lived, in runs with room for records: all, and those that moved.
    ours: (usize, usize),
    plain: (usize, usize),
    every_flow: (usize, usize),
    records_most: usize,
    marked_most: usize,
    every_flow_most: usize,
    words: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn end(&mut self, flow: &Flow) {
        let fates =
            [(&flow.ours, &mut self.ours), (&flow.plain, &mut self.plain), (&flow.recorded, &mut self.every_flow)];
        for (fate, counts) in fates.into_iter().filter(|_| self.roomy) {
            if flow.home.is_some() && fate.end != Some(End::Died) {
                counts.0 += 1;
                counts.1 += usize::from(fate.end == Some(End::Moved));
            }
        }
    }

    pub fn add(&mut self, other: &Tally) {
        self.runs += other.runs;
        self.established += other.established;
        self.changes += other.changes;
        self.decisions += other.decisions;
        self.swaps += other.swaps;
        self.restarts += other.restarts;
        self.ours = (self.ours.0 + other.ours.0, self.ours.1 + other.ours.1);
        self.plain = (self.plain.0 + other.plain.0, self.plain.1 + other.plain.1);
        self.every_flow = (self.every_flow.0 + other.every_flow.0, self.every_flow.1 + other.every_flow.1);
        self.records_most = self.records_most.max(other.records_most);
        self.marked_most = self.marked_most.max(other.marked_most);
        self.every_flow_most = self.every_flow_most.max(other.every_flow_most);
        other.moved.iter().for_each(|(excuse, n)| *self.moved.entry(*excuse).or_default() += n);
        other.words.iter().for_each(|(word, n)| *self.words.entry(word).or_default() += n);
    }

    /// A simulation in which nothing happened proves nothing.
    pub fn check(&self) {
        for word in Why::ALL.iter().map(|why| why.word()).chain(["reset", "no-endpoint"]) {
            assert!(
                self.words.get(word).is_some_and(|&n| n > 50),
                "hardly any packet was decided by `{word}`:\n{self}"
            );
        }
        for excuse in [Excuse::Restart, Excuse::NoRoom, Excuse::Idle] {
            assert!(self.moved.contains_key(&excuse), "no flow moved for {excuse:?}:\n{self}");
        }
        assert!(self.restarts > self.runs / 2 && self.changes > self.runs * 10, "too quiet:\n{self}");
        assert!(self.decisions > self.runs * 4 && self.swaps > self.runs / 2, "too quiet:\n{self}");
        let (ours, plain) = (self.ours.1, self.plain.1);
        assert!(ours * 4 < plain, "moved {ours} flows where no state at all moves {plain}:\n{self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let survival = |(all, moved): (usize, usize)| 100.0 - 100.0 * moved as f64 / all.max(1) as f64;
        let (established, changes, restarts) = (self.established, self.changes, self.restarts);
        writeln!(f, "{established} flows, {changes} changes, {restarts} restarts")?;
        writeln!(
            f,
            "among the changes {} of what an operator decides, {} of all the pool",
            self.decisions, self.swaps
        )?;
        writeln!(
            f,
            "flows that stayed, of those whose server lived and nobody thought otherwise, where records have room:"
        )?;
        writeln!(f, "  Strata                  {:7.3} %", survival(self.ours))?;
        writeln!(f, "  plain Maglev            {:7.3} %", survival(self.plain))?;
        writeln!(f, "  a record for every flow {:7.3} %", survival(self.every_flow))?;
        writeln!(f, "in all runs moved, outside the claim: {:?}", self.moved)?;
        let most = (self.records_most, self.marked_most, self.every_flow_most);
        writeln!(f, "most records {}, marked slots {}; a record for every flow: {}", most.0, most.1, most.2)?;
        write!(f, "packets by reason: {:?}", self.words)
    }
}
