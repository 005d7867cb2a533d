//! Engine: weighted random. Each pick falls on a member with a probability in proportion to its weight.
//!
//! Why: nothing is shared between workers, nodes need not agree, and no client can steer it.
//! Budget: one table lookup a pick, no atomics; a retry walks the members.

use super::alias::Alias;
use super::{Counts, Member, Pick, Picker, Spec, Uses, share};
use crate::doc::Grammar;

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "random",
        summary: "any endpoint, with a probability in proportion to its weight",
        fields: &[],
        example: "balance = \"random\"",
    },
    build: |_settings, members, _key| Box::new(Random { alias: Alias::build(members) }),
    uses: Uses { weights: true, load: Counts::Never, hash: false, turn: false },
    how: "drawn by weight",
};

struct Random {
    alias: Alias,
}

impl Picker for Random {
    fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        if pick.tried.is_empty() {
            return self.alias.draw(pick.entropy);
        }
        share::choose_untried(members, 0..members.len(), pick.tried, pick.entropy)
    }
}
