//! Engine: the small numbers by which a service's slots name its endpoints, each with a generation.
//!
//! An index is given to an identity, kept until that is removed, and then given to another one. A record that still holds the
//! number must not send its flow to the newcomer (Katran's do), so each index has a generation that moves on when its
//! endpoint is removed, and when it dies and its flows with it.
//! Not here: health, weights, and which slot names whom. The control side owns this; workers see the copy in `Slots`.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::slots::NOBODY;
use crate::base::limits;

/// What the flows of an endpoint get when it dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDown {
    /// They go where new flows go: an endpoint that knows them not refuses them, and clients connect again.
    #[default]
    Rehash,
    /// TCP flows stay, for an endpoint that may come back with its connections; other protocols are rehashed at once.
    Keep,
    /// TCP flows are answered with RST, so that clients need not wait; other protocols are rehashed.
    Reset,
}

/// Whether packets of UDP and of other protocols than TCP stay together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    #[default]
    Flow,
    /// Each packet stands alone (DNS queries): always to the endpoint of its slot, nothing recorded.
    Packet,
}

/// What an operator decides for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub on_down: OnDown,
    pub affinity: Affinity,
    /// A flow that is silent for longer may change its endpoint.
    pub tcp_idle: Duration,
    pub other_idle: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            on_down: OnDown::default(),
            affinity: Affinity::default(),
            tcp_idle: limits::TCP_IDLE,
            other_idle: limits::FLOW_IDLE,
        }
    }
}

/// What a slot table knows of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub generation: u16,
    pub down: bool,
}

/// The indices of one service's endpoints.
#[derive(Clone, Debug)]
pub struct Endpoints {
    policy: Policy,
    standing: Vec<Standing>,
    index: HashMap<u64, u16>,
    /// Freed indices, the one longest free first.
    free: VecDeque<u16>,
}

impl Endpoints {
    pub fn new(policy: Policy) -> Endpoints {
        Endpoints { policy, standing: Vec::new(), index: HashMap::new(), free: VecDeque::new() }
    }

    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// A reload may decide otherwise; it counts from the next [`Slots::change`](super::Slots::change) on. Flows that were kept for an
    /// endpoint that is down get what is decided for them now, so who is back is to be [`Endpoints::returned`] before.
    pub fn set_policy(&mut self, policy: Policy) {
        if self.policy.on_down == OnDown::Keep && policy.on_down != OnDown::Keep {
            for standing in self.standing.iter_mut().filter(|standing| standing.down) {
                standing.generation = standing.generation.wrapping_add(1);
            }
        }
        self.policy = policy;
    }

    /// The index of an endpoint, given to it now if it has none. `None` when `limits::POOL_ENDPOINTS` are taken.
    pub fn join(&mut self, identity: u64) -> Option<u16> {
        if let Some(&index) = self.index.get(&identity) {
            return Some(index);
        }
        let index = match u16::try_from(self.standing.len()) {
            Ok(fresh) if self.standing.len() < limits::POOL_ENDPOINTS => {
                self.standing.push(Standing::default());
                fresh
            }
            _ => self.free.pop_front()?,
        };
        self.index.insert(identity, index);
        Some(index)
    }

    pub fn find(&self, identity: u64) -> Option<u16> {
        self.index.get(&identity).copied()
    }

    /// The endpoint died: it gets no new flows, and those it has get what [`OnDown`] says. The table that follows
    /// ([`Slots::change`](super::Slots::change)) must not name it.
    pub fn died(&mut self, index: u16) {
        let keep = self.policy.on_down == OnDown::Keep;
        if let Some(standing) = self.standing.get_mut(usize::from(index)).filter(|standing| !standing.down) {
            standing.down = true;
            if !keep {
                standing.generation = standing.generation.wrapping_add(1);
            }
        }
    }

    /// The endpoint is up again.
    pub fn returned(&mut self, index: u16) {
        if let Some(standing) = self.standing.get_mut(usize::from(index)) {
            standing.down = false;
        }
    }

    /// The endpoint is no more, and its index may become another's. An endpoint whose flows shall live on while it drains must
    /// stay until nobody has business with it.
    pub fn remove(&mut self, identity: u64) {
        if let Some(index) = self.index.remove(&identity) {
            if let Some(standing) = self.standing.get_mut(usize::from(index)) {
                *standing = Standing { generation: standing.generation.wrapping_add(1), down: false };
            }
            self.free.push_back(index);
        }
    }

    /// Standing of every index, in order.
    pub(super) fn standing(&self) -> &[Standing] {
        &self.standing
    }
}

// Two sentinels stand above all indices (`slots`).
const _: () = assert!(limits::POOL_ENDPOINTS < NOBODY as usize - 1);

#[cfg(test)]
mod tests {
    use super::*;

    fn with(on_down: OnDown) -> Endpoints {
        Endpoints::new(Policy { on_down, ..Policy::default() })
    }

    #[test]
    fn an_index_is_kept_and_a_reused_one_is_of_another_generation() {
        let mut endpoints = with(OnDown::Rehash);
        assert_eq!((endpoints.join(10), endpoints.join(20), endpoints.join(10)), (Some(0), Some(1), Some(0)));
        let before = endpoints.standing()[0].generation;
        endpoints.remove(10);
        assert_eq!(endpoints.find(10), None);
        for identity in 30.. {
            // Indices never used come first, so that a freed one rests as long as it can.
            if endpoints.join(identity) == Some(0) {
                break;
            }
        }
        assert_ne!(endpoints.standing()[0].generation, before);
        assert_eq!(endpoints.standing().len(), limits::POOL_ENDPOINTS);
        assert_eq!(endpoints.join(7), None);
    }

    #[test]
    fn death_ends_a_generation_unless_flows_are_kept() {
        for (on_down, ends) in [(OnDown::Rehash, true), (OnDown::Reset, true), (OnDown::Keep, false)] {
            let mut endpoints = with(on_down);
            let index = endpoints.join(1).unwrap();
            endpoints.died(index);
            endpoints.died(index);
            assert_eq!(endpoints.standing()[0], Standing { generation: u16::from(ends), down: true }, "{on_down:?}");
            endpoints.returned(index);
            assert_eq!(endpoints.standing()[0], Standing { generation: u16::from(ends), down: false }, "{on_down:?}");
            endpoints.remove(1);
            assert_eq!(endpoints.standing()[0].generation, u16::from(ends) + 1, "{on_down:?}");
        }
    }
}
