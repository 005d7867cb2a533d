//! What the same packets would get from two balancers that are simpler: no state at all, and a record for every flow.

use std::collections::HashMap;

use strata::base::{Moment, limits};
use strata::flow::FlowKey;

use super::servers::Servers;

/// Where one of them has a flow, and whether it kept it there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fate {
    home: Option<(u64, u32)>,
    pub end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A packet went elsewhere while the server lived.
    Moved,
    /// The server died, or the balancer had reason to think so.
    Died,
}

impl Fate {
    pub fn begin(&mut self, home: Option<u64>, servers: &Servers) {
        *self = Fate { home: home.and_then(|id| Some((id, servers.all.get(&id)?.life))), end: None };
    }

    pub fn packet(&mut self, to: Option<u64>, servers: &Servers) {
        if self.end.is_some() {
            return;
        }
        let Some((home, life)) = self.home else { return };
        let lives = servers.all.get(&home).is_some_and(|s| s.life == life && !s.down && s.slandered.is_none());
        self.end = match lives {
            false => Some(End::Died),
            true if to != Some(home) => Some(End::Moved),
            true => None,
        };
    }
}

/// A record for every flow, as Katran's and IPVS's tables, but of unlimited size.
#[derive(Default)]
pub struct EveryFlow {
    records: HashMap<FlowKey, (u64, Moment)>,
    pub most: usize,
}

impl EveryFlow {
    /// Where a packet goes: to the recorded server while that lives, else by hash, which is recorded.
    pub fn packet(&mut self, key: FlowKey, by_hash: Option<u64>, servers: &Servers, now: Moment) -> Option<u64> {
        let recorded = self.records.get(&key).filter(|(_, expires)| *expires >= now).map(|(home, _)| *home);
        let to = recorded.filter(|home| servers.all.get(home).is_some_and(|server| !server.down)).or(by_hash)?;
        self.records.insert(key, (to, now + limits::TCP_IDLE));
        self.most = self.most.max(self.records.len());
        Some(to)
    }

    pub fn restart(&mut self) {
        self.records.clear();
    }
}
