//! Engine: consistent hashing on a ring (Karger 1997, libketama), with bounded load (Mirrokni, Thorup, Zadimoghaddam 2016).
//!
//! Every member has points on a ring of 2^32, in number by its weight; a key belongs to the first point at or after it. When a
//! member leaves, its keys alone move, each to the next point. With `load_factor`, a member that carries more than so many
//! times its share of what is in flight is passed by until it carries less: one hot key cannot sink an endpoint.
//!
//! Shares are as even as luck: the deviation is about 1/√points of a member, 6 % by default. `maglev` is exact.
//! Budget: a binary search a pick; with `load_factor`, one read of every member's count unless the owner is idle.

use super::{Counts, Member, Pick, Picker, Spec, Uses, key, share};
use crate::base::{HashKey, limits};
use crate::doc::{Field, Grammar, Kind, Value};

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "ring-hash",
        summary: "sticky by key on a ketama ring; only a lost endpoint's keys move; load can be bounded",
        fields: &[
            key::FIELD,
            Field::default("replicas", REPLICAS, "256", "points on the ring for each unit of weight"),
            Field::optional(
                "load_factor",
                LOAD_FACTOR,
                "most an endpoint may carry, in multiples of its share; absent: no bound",
            ),
        ],
        example: "balance = { type = \"ring-hash\", key = \"header:x-user\", load_factor = 1.25 }",
    },
    build: |settings, members, key| {
        let load_factor = match settings.get("load_factor") {
            Some(Value::Number(factor)) => Some(*factor),
            _ => None,
        };
        Box::new(RingHash::build(members, key, settings.integer("replicas"), load_factor))
    },
    uses: Uses { weights: true, load: Counts::With("load_factor"), hash: true, turn: false },
    how: "by the hash of its key on a ring; with `load_factor`, the next one while that carries too much",
};

const REPLICAS: Kind = Kind::Integer { min: 1, max: 65_536 };
const LOAD_FACTOR: Kind = Kind::Number { min: 1.0, max: 100.0 };

struct RingHash {
    /// Sorted; `owners` runs beside it. Two arrays, because the search reads positions only.
    positions: Box<[u32]>,
    owners: Box<[u16]>,
    load_factor: Option<f64>,
    total_weight: f64,
    fingerprint: u64,
}

impl RingHash {
    fn build(members: &[Member], key: HashKey, replicas: u64, load_factor: Option<f64>) -> RingHash {
        let order = share::order(members, key);
        let total_weight: u64 = members.iter().map(|member| u64::from(member.weight.get())).sum();
        // Halved until they fit, not scaled to fit: points must not depend on who else is a member, or keys of members
        // that stay would move each time one leaves.
        let mut halvings = 0;
        while (total_weight * replicas) >> halvings > limits::RING_POINTS {
            halvings += 1;
        }
        let mut points: Vec<u64> = Vec::new();
        for (rank, &i) in order.iter().enumerate() {
            let count = ((u64::from(members[i].weight.get()) * replicas) >> halvings).max(1);
            // One hash gives two points. Where points coincide, the lower rank comes first: the same on every node.
            points.extend((0..count).map(|k| {
                let position = key.mix(members[i].identity, k / 2) >> (32 * (k % 2)) & u64::from(u32::MAX);
                position << 16 | rank as u64
            }));
        }
        points.sort_unstable();
        let bytes: Vec<u8> = points
            .iter()
            .copied()
            .chain(order.iter().map(|&i| members[i].identity))
            .flat_map(u64::to_le_bytes)
            .collect();
        // The halves of each packed point.
        #[allow(clippy::cast_possible_truncation)]
        RingHash {
            positions: points.iter().map(|point| (point >> 16) as u32).collect(),
            owners: points.iter().map(|point| order[usize::from(*point as u16)] as u16).collect(),
            load_factor,
            total_weight: total_weight as f64,
            fingerprint: key.hash(&bytes),
        }
    }

    /// What a member of `weight` may carry, this request included: its share of all that is in flight, times the factor,
    /// rounded up. The caps sum to at least all that is in flight, so one member always has room.
    fn cap(&self, factor: f64, in_flight: u64, weight: f64) -> f64 {
        (factor * (in_flight as f64 + 1.0) * weight / self.total_weight).ceil()
    }
}

impl Picker for RingHash {
    fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        if share::left(members.len(), pick.tried) == 0 {
            return None;
        }
        // The upper half of the hash is the place on the ring.
        #[allow(clippy::cast_possible_truncation)]
        let place = (pick.hash.0 >> 32) as u32;
        let (before, from) = self.positions.split_at(self.positions.partition_point(|&position| position < place));
        let (before, from) = (self.owners.get(..before.len())?, self.owners.get(self.owners.len() - from.len()..)?);
        let mut walk = from.iter().chain(before).filter(|i| !pick.tried.contains(i)).map(|&i| usize::from(i));
        let owner = walk.next()?;
        let Some(factor) = self.load_factor else { return Some(owner) };
        if members.get(owner)?.load.in_flight() == 0 {
            return Some(owner);
        }
        let in_flight: u64 = members.iter().map(|member| u64::from(member.load.in_flight())).sum();
        let has_room = |&i: &usize| {
            members.get(i).is_some_and(|member| {
                f64::from(member.load.in_flight()) < self.cap(factor, in_flight, member.weight.as_f64())
            })
        };
        // Nobody has room only when those that have were tried: then stickiness decides.
        Some(std::iter::once(owner).chain(walk).find(has_room).unwrap_or(owner))
    }

    fn fingerprint(&self) -> Option<u64> {
        Some(self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KEY, build, members, pick_hash};
    use super::*;

    #[test]
    fn load_stays_within_the_bound_even_when_all_keys_are_one() {
        for (weights, factor) in [(vec![1; 7], 1.25), (vec![1, 2, 3, 4], 1.1), (vec![1, 1, 1], 1.0), (vec![1, 9], 2.0)]
        {
            let members = members(&weights);
            let picker = build("ring-hash", &members, &[("load_factor", Value::Number(factor))]);
            let total: u32 = weights.iter().map(|&w| u32::from(w)).sum();
            for n in 0..2000_u32 {
                // Half the requests are for one hot key.
                let hash = if n % 2 == 0 { 42 << 32 } else { KEY.mix(u64::from(n), 0) };
                let i = pick_hash(&*picker, &members, hash, &[]).unwrap();
                members[i].load.begin();
                let bound = factor * f64::from(n + 1) * f64::from(weights[i]) / f64::from(total);
                let carries = members[i].load.in_flight();
                assert!(f64::from(carries) <= bound.ceil(), "{weights:?}, {factor}: {carries} of {n}, bound {bound}");
            }
        }
    }

    #[test]
    fn without_a_bound_a_key_stays_however_loaded_its_owner_is() {
        let members = members(&[1; 3]);
        let picker = build("ring-hash", &members, &[]);
        let owner = pick_hash(&*picker, &members, 99 << 32, &[]).unwrap();
        (0..1000).for_each(|_| members[owner].load.begin());
        assert_eq!(pick_hash(&*picker, &members, 99 << 32, &[]), Some(owner));
    }

    #[test]
    fn with_a_bound_a_key_comes_home_when_its_owner_has_room_again() {
        let members = members(&[1; 3]);
        let picker = build("ring-hash", &members, &[("load_factor", Value::Number(1.25))]);
        let owner = pick_hash(&*picker, &members, 99 << 32, &[]).unwrap();
        (0..10).for_each(|_| members[owner].load.begin());
        let guest = pick_hash(&*picker, &members, 99 << 32, &[]).unwrap();
        assert_ne!(guest, owner);
        assert_eq!(pick_hash(&*picker, &members, 99 << 32, &[]), Some(guest), "the same guest each time");
        (0..10).for_each(|_| members[owner].load.end());
        assert_eq!(pick_hash(&*picker, &members, 99 << 32, &[]), Some(owner));
    }

    #[test]
    fn points_follow_weight_and_are_bounded() {
        let ring = RingHash::build(&members(&[1, 3]), KEY, 100, None);
        assert_eq!(ring.owners.iter().filter(|&&i| i == 1).count(), 300);
        assert_eq!(ring.positions.len(), 400);
        let ring = RingHash::build(&members(&[1000; 20]), KEY, 256, None);
        assert!(ring.positions.len() as u64 <= limits::RING_POINTS);
        assert!(ring.positions.len() as u64 > limits::RING_POINTS / 3, "{}", ring.positions.len());
    }

    #[test]
    fn the_ring_closes_on_itself() {
        let members = members(&[1; 3]);
        let ring = RingHash::build(&members, KEY, 4, None);
        let last = u64::from(*ring.positions.last().unwrap());
        assert_eq!(pick_hash(&ring, &members, (last + 1) << 32, &[]), Some(usize::from(ring.owners[0])));
        assert_eq!(pick_hash(&ring, &members, last << 32, &[]), Some(usize::from(*ring.owners.last().unwrap())));
    }
}
