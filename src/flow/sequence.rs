//! Value: what sequence numbers tell about a TCP flow of which only the client's packets are seen. They wrap (RFC 9293 §3.4).

/// Whether a segment at `seq` can be among the first after a SYN at `syn`: a client may have as much under way as the SYN-ACK's
/// window says, which is never scaled (RFC 7323 §2.2).
pub(super) fn opens(syn: u32, seq: u32) -> bool {
    seq.wrapping_sub(syn.wrapping_add(1)) <= WINDOW
}

/// Whether `seq` is at `last` or within a window after it. A byte after counts: FIN takes one.
pub(super) fn is_near(last: u32, seq: u32) -> bool {
    seq.wrapping_sub(last) <= WINDOW + 1
}

const WINDOW: u32 = u16::MAX as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap() {
        for base in [0, 5, u32::MAX, u32::MAX - 70_000, 1 << 31] {
            for (after, want) in [(0, false), (1, true), (65_536, true), (65_537, false), (1 << 31, false)] {
                assert_eq!(opens(base, base.wrapping_add(after)), want, "{base} and {after} on");
            }
            for (after, want) in [(0, true), (65_536, true), (65_537, false), (u32::MAX, false)] {
                assert_eq!(is_near(base, base.wrapping_add(after)), want, "{base} and {after} on");
            }
        }
    }
}
