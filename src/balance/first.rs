//! Engine: the first member in the order of the file; the others stand by.
//!
//! Why: primary and backup, or packing load onto few endpoints. Not here: weights; a full endpoint is skipped only when it
//! refuses and the request is tried again.

use super::{Counts, Member, Pick, Picker, Spec, Uses, share};
use crate::doc::Grammar;

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "first",
        summary: "the first usable endpoint in the order of the file, the others stand by",
        fields: &[],
        example: "balance = \"first\"",
    },
    build: |_settings, _members, _key| Box::new(First),
    uses: Uses { weights: false, load: Counts::Never, hash: false, turn: false },
    how: "the first usable one in the order of the file",
};

struct First;

impl Picker for First {
    fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        (0..members.len()).find(|&i| !share::is_tried(pick.tried, i))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{build, members, pick_with, picks};

    #[test]
    fn the_first_serves_and_the_next_stands_by() {
        let members = members(&[1, 9, 1]);
        let picker = build("first", &members, &[]);
        assert_eq!(picks(&*picker, &members, 3), [0, 0, 0]);
        assert_eq!(pick_with(&*picker, &members, 0, &[0]), Some(1));
        assert_eq!(pick_with(&*picker, &members, 0, &[1, 0]), Some(2));
    }
}
