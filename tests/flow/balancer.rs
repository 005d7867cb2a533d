//! The balancer under test, as an engine would run it: a control side that publishes tables, and workers that are behind.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use strata::base::{HashKey, Moment, ServiceId};
use strata::flow::{Cursor, Decision, Endpoints, FlowKey, Kind, NOBODY, Packet, Policy, Records, Slots, Survey, steer};

use super::servers::{KEY, SLOTS, Servers};

/// A worker may be this far behind with its clock and its table: a long batch.
pub const LAG_NANOS: u64 = 5_000_000;
const SERVICE: ServiceId = ServiceId(1);

pub struct Balancer {
    pub endpoints: Endpoints,
    names: Vec<u64>,
    /// What the control side published last.
    pub slots: Arc<Slots>,
    pub records: Records,
    capacity: usize,
    workers: Vec<Worker>,
    survey: Survey,
    cursor: Cursor,
}

#[derive(Clone)]
struct Worker {
    slots: Arc<Slots>,
    /// A newer table, and when it is taken.
    next: Option<(Moment, Arc<Slots>)>,
}

impl Balancer {
    pub fn new(servers: &Servers, policy: Policy, capacity: usize, now: Moment) -> Balancer {
        let mut endpoints = Endpoints::new(policy);
        let table = servers.table(&mut endpoints);
        let down = servers.all.iter().filter(|(_, server)| server.down).map(|(id, _)| *id);
        for index in down.filter_map(|id| endpoints.find(id)).collect::<Vec<_>>() {
            endpoints.died(index);
        }
        let mut identities = Vec::new();
        names(servers, &endpoints, &mut identities);
        let table = if table.is_empty() { vec![NOBODY; SLOTS] } else { table };
        let slots = Arc::new(Slots::new(&table, &endpoints));
        let worker = Worker { slots: slots.clone(), next: None };
        let survey = Survey::begin(&slots, now);
        let records = Records::new(capacity, HashKey::new([7; 16]));
        let (workers, cursor) = (vec![worker; 4], Cursor::default());
        Balancer { endpoints, names: identities, slots, records, capacity, workers, survey, cursor }
    }

    /// The process ends and begins again: the same servers are in use, and everything else is forgotten.
    pub fn restart(&mut self, servers: &Servers, now: Moment) {
        *self = Balancer::new(servers, self.endpoints.policy(), self.capacity, now);
    }

    pub fn change(&mut self, servers: &Servers, rng: &mut Rng, now: Moment) {
        let table = servers.table(&mut self.endpoints);
        names(servers, &self.endpoints, &mut self.names);
        for (&identity, server) in &servers.all {
            let Some(index) = self.endpoints.find(identity) else { continue };
            if server.down { self.endpoints.died(index) } else { self.endpoints.returned(index) }
        }
        let mut next = (*self.slots).clone();
        next.change(&table, &self.endpoints, now);
        self.publish(next, rng, now);
    }

    /// A reload with another policy.
    pub fn decide_otherwise(&mut self, policy: Policy, servers: &Servers, rng: &mut Rng, now: Moment) {
        self.records.forget(|seen| self.slots.voids(seen, &policy));
        self.endpoints.set_policy(policy);
        self.change(servers, rng, now);
    }

    fn publish(&mut self, next: Slots, rng: &mut Rng, now: Moment) {
        self.slots = Arc::new(next);
        for worker in &mut self.workers {
            let when = worker.next.as_ref().map_or(now + Duration::from_nanos(rng.u64(..LAG_NANOS)), |(when, _)| *when);
            worker.next = Some((when, self.slots.clone()));
        }
    }

    /// One step of the sweep that never ends; at the end of a round, what has settled is unmarked.
    pub fn sweep(&mut self, rng: &mut Rng, now: Moment) {
        let (survey, slots) = (&mut self.survey, &self.slots);
        if !self.records.sweep(&mut self.cursor, now, |seen| survey.see(slots, seen)) {
            return;
        }
        let mut next = (*self.slots).clone();
        if next.unmark(&self.survey) > 0 {
            self.publish(next, rng, now);
        }
        self.survey = Survey::begin(&self.slots, now);
    }

    /// A packet arrives at any of the workers. The server it goes to, by identity, and what was decided.
    pub fn packet(&mut self, key: &FlowKey, kind: Kind, rng: &mut Rng, now: Moment) -> (Option<u64>, Decision) {
        self.records.turn(now);
        let which = rng.usize(..self.workers.len());
        let worker = &mut self.workers[which];
        if let Some((_, slots)) = worker.next.take_if(|(when, _)| *when <= now) {
            worker.slots = slots;
        }
        let behind = now - Duration::from_nanos(rng.u64(..LAG_NANOS));
        let packet = Packet { hash: key.hash(&KEY), key, kind };
        let decision = steer(&worker.slots, &self.records, SERVICE, &packet, behind);
        let Decision::Forward { endpoint, .. } = decision else { return (None, decision) };
        (self.identity(endpoint), decision)
    }

    /// Where a table without marks would send it now.
    pub fn by_hash(&self, key: &FlowKey) -> Option<u64> {
        let slot = self.slots.slot(key.hash(&KEY));
        self.identity(*self.slots.current().get(slot as usize)?)
    }

    fn identity(&self, endpoint: u16) -> Option<u64> {
        self.names.get(usize::from(endpoint)).copied()
    }
}

/// Identities by index. Indices are not used again within a run: `flow::steer` has a test for that.
fn names(servers: &Servers, endpoints: &Endpoints, names: &mut Vec<u64>) {
    for &identity in servers.all.keys() {
        let index = usize::from(endpoints.find(identity).expect("every server has joined"));
        names.resize(names.len().max(index + 1), u64::MAX);
        names[index] = identity;
    }
}
