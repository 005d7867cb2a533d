//! Engine: the arithmetic of shares that several algorithms need: whole slots by weight, an order that does not depend on
//! the file, and a weighted choice among the members that were not tried.
//!
//! Not here: any algorithm.

use super::{Member, Tried};
use crate::base::HashKey;

/// Divides `slots` among `weights` by largest remainder: each gets the floor or the ceiling of its exact share, and the sum
/// is exactly `slots`. Equal remainders go to the earlier one. All zero when there is no weight.
pub fn apportion(slots: u64, weights: &[u64]) -> Vec<u64> {
    let total: u64 = weights.iter().sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let mut shares: Vec<u64> = weights.iter().map(|weight| slots * weight / total).collect();
    let left = slots - shares.iter().sum::<u64>();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|&i| (std::cmp::Reverse(slots * weights[i] % total), i));
    // The remainders sum to `left * total` and each is below `total`, so `left` is below the number of members.
    for &i in by_remainder.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        shares[i] += 1;
    }
    shares
}

/// Indices of the members in an order that only their identities and the key decide, so that nodes which list the same
/// members differently build the same table.
pub fn order(members: &[Member], key: HashKey) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_cached_key(|&i| {
        let member = &members[i];
        (key.mix(member.identity, ORDER), member.identity, member.weight)
    });
    order
}

/// How many of `members` are not in `tried`, which may repeat itself.
pub(super) fn left(members: usize, tried: &Tried) -> usize {
    let tried_once =
        tried.iter().enumerate().filter(|&(at, &i)| usize::from(i) < members && !tried[..at].contains(&i)).count();
    members - tried_once
}

pub(super) fn is_tried(tried: &Tried, index: usize) -> bool {
    tried.iter().any(|&i| usize::from(i) == index)
}

/// The untried member on which `draw` falls when each has room in proportion to its weight; `None` when none is left. Walks
/// all members twice: for retries, not for first picks.
pub(super) fn choose_untried(
    members: &[Member],
    order: impl Iterator<Item = usize> + Clone,
    tried: &Tried,
    draw: u64,
) -> Option<usize> {
    let untried =
        order.filter(|&i| !is_tried(tried, i)).filter_map(|i| Some((i, u64::from(members.get(i)?.weight.get()))));
    let total: u64 = untried.clone().map(|(_, weight)| weight).sum();
    let mut at = draw.checked_rem(total)?;
    for (i, weight) in untried {
        if at < weight {
            return Some(i);
        }
        at -= weight;
    }
    None
}

/// Scales 32 random bits to `0..n` by multiplication, which costs a tenth of a division and is what a BPF program can do.
pub(super) fn scale(bits: u32, n: usize) -> usize {
    // Below `n`: the product is below `2^32 * n`.
    #[allow(clippy::cast_possible_truncation)]
    let at = ((u64::from(bits) * n as u64) >> 32) as usize;
    at
}

/// Separates the order of members from their other hashes ("orde").
const ORDER: u64 = 0x6f72_6465;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_are_divided_by_largest_remainder() {
        for (slots, weights, want) in [
            (10, vec![1, 1, 1], vec![4, 3, 3]),
            (7, vec![5, 1, 1], vec![5, 1, 1]),
            (10, vec![1, 2, 3], vec![2, 3, 5]),
            (1, vec![1, 1000], vec![0, 1]),
            (5, vec![0, 0], vec![0, 0]),
            (5, vec![], vec![]),
        ] {
            assert_eq!(apportion(slots, &weights), want, "{slots} slots over {weights:?}");
        }
    }

    proptest! {
        #[test]
        fn everyone_gets_the_floor_or_the_ceiling_of_its_share(
            slots in 1_u64..100_000,
            weights in prop::collection::vec(1_u64..=1000, 1..200),
        ) {
            let shares = apportion(slots, &weights);
            let total: u64 = weights.iter().sum();
            prop_assert_eq!(shares.iter().sum::<u64>(), slots);
            for (share, weight) in shares.iter().zip(&weights) {
                let floor = slots * weight / total;
                prop_assert!(*share == floor || *share == (slots * weight).div_ceil(total), "{} of {}", share, floor);
            }
        }
    }

    #[test]
    fn members_that_repeat_or_do_not_exist_are_counted_once_or_never() {
        for (members, tried, want) in [
            (3, vec![], 3),
            (3, vec![1], 2),
            (3, vec![1, 1], 2),
            (3, vec![0, 1, 2], 0),
            (3, vec![7], 3),
            (0, vec![0], 0),
        ] {
            assert_eq!(left(members, &tried.iter().copied().collect()), want, "{members} members, tried {tried:?}");
        }
    }

    #[test]
    fn scaling_covers_the_range_and_never_leaves_it() {
        assert_eq!(scale(0, 7), 0);
        assert_eq!(scale(u32::MAX, 7), 6);
        assert_eq!(scale(u32::MAX, 1), 0);
    }
}
