//! Engine: round robin. Every member in turn, in the order of the file; weights do not matter.
//!
//! Budget: one relaxed fetch-and-add on a cache line of its own a pick. Not here: weights (`weighted-round-robin`).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use super::{Counts, Member, Pick, Picker, Spec, Uses, share};
use crate::doc::Grammar;

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "round-robin",
        summary: "each endpoint in turn, all alike",
        fields: &[],
        example: "balance = \"round-robin\"",
    },
    build: |_settings, _members, _key| Box::new(RoundRobin { cursor: CachePadded::default() }),
    uses: Uses { weights: false, load: Counts::Never, hash: false, turn: true },
    how: "each in turn; all workers share the turn, so whose it is now cannot be known beforehand",
};

struct RoundRobin {
    /// Turns taken by all workers. 64 bits do not wrap.
    cursor: CachePadded<AtomicU64>,
}

impl Picker for RoundRobin {
    fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        let turn = self.cursor.fetch_add(1, Relaxed).checked_rem(members.len() as u64)?;
        let start = usize::try_from(turn).unwrap_or(0);
        (start..members.len()).chain(0..start).find(|&i| !share::is_tried(pick.tried, i))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{build, members, picks};

    #[test]
    fn everyone_has_a_turn_in_the_order_of_the_file() {
        let members = members(&[1, 9, 1]);
        let picker = build("round-robin", &members, &[]);
        assert_eq!(picks(&*picker, &members, 7), [0, 1, 2, 0, 1, 2, 0]);
    }
}
