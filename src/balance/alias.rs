//! Engine: Vose's alias table: a weighted random draw in constant time, whatever the number of members.
//!
//! Budget: 8 bytes a member, one random word and one cache line a draw. Not here: what the draw is for.

use super::{Member, share};

/// Column `i` holds `i` itself below `threshold / 2^32`, and its alias above.
pub(super) struct Alias {
    columns: Box<[Column]>,
}

struct Column {
    threshold: u32,
    alias: u16,
}

impl Alias {
    pub(super) fn build(members: &[Member]) -> Alias {
        let total: u64 = members.iter().map(|member| u64::from(member.weight.get())).sum();
        let n = members.len() as u64;
        // Each column has room for `total`; weights are scaled by n, so the sum of all is exactly n columns.
        let mut room: Vec<u64> = members.iter().map(|member| u64::from(member.weight.get()) * n).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..members.len()).partition(|&i| room[i] < total);
        let mut columns: Vec<Column> =
            (0..members.len()).map(|i| Column { threshold: u32::MAX, alias: index(i) }).collect();
        while let (Some(&giver), Some(taker)) = (large.last(), small.pop()) {
            columns[taker] = Column { threshold: threshold(room[taker], total), alias: index(giver) };
            room[giver] -= total - room[taker];
            if room[giver] < total {
                large.pop();
                small.push(giver);
            }
        }
        Alias { columns: columns.into() }
    }

    /// The index on which 64 random bits fall, `None` without members.
    pub(super) fn draw(&self, bits: u64) -> Option<usize> {
        // The two halves of the word.
        #[allow(clippy::cast_possible_truncation)]
        let (high, low) = ((bits >> 32) as u32, bits as u32);
        let i = share::scale(high, self.columns.len());
        let column = self.columns.get(i)?;
        Some(if low < column.threshold { i } else { usize::from(column.alias) })
    }
}

/// `part / whole` of 2^32; `part < whole`, so it fits.
fn threshold(part: u64, whole: u64) -> u32 {
    u32::try_from((part << 32) / whole).unwrap_or(u32::MAX)
}

/// A pool holds at most `limits::POOL_ENDPOINTS` members, far below 2^16.
fn index(i: usize) -> u16 {
    u16::try_from(i).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::members;
    use super::*;

    #[test]
    fn the_columns_hold_each_weight_exactly() {
        for weights in [vec![1], vec![1, 1, 1], vec![5, 1, 1], vec![1000, 1], vec![3, 1, 4, 1, 5, 9, 2, 6, 5, 3]] {
            let alias = Alias::build(&members(&weights));
            let mut mass = vec![0.0; weights.len()];
            for (i, column) in alias.columns.iter().enumerate() {
                let own = f64::from(column.threshold) / 2_f64.powi(32);
                mass[i] += own;
                mass[usize::from(column.alias)] += 1.0 - own;
            }
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            for (i, &weight) in weights.iter().enumerate() {
                let want = f64::from(weight) / total;
                let got = mass[i] / weights.len() as f64;
                assert!((got - want).abs() < 1e-8, "{weights:?}: member {i} has {got}, not {want}");
            }
        }
    }

    #[test]
    fn no_members_no_draw() {
        assert_eq!(Alias::build(&[]).draw(7), None);
    }
}
