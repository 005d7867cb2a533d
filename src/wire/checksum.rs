//! Codec: the internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! A rewrite updates a checksum by what changed and never sums the packet anew: an error that the bytes already carried
//! stays visible to the receiver, and the cost does not grow with the packet. Where the field holds only the sum of the
//! pseudo-header (`CHECKSUM_PARTIAL`: the sender left the rest to its card, and on veth no card follows), the update is
//! another one, and [`complete`] does what the card would have done.
//!
//! Not here: where a protocol keeps its checksum. Each protocol's file says that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bytes;
use super::fault::Fault;

/// A one's complement sum in progress. Pieces are added in any order, each at an even offset of what is summed, so that
/// only the last may have an odd length. Holds up to 2³² 32-bit words, 16 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    pub fn of(bytes: &[u8]) -> Sum {
        Sum::default().bytes(bytes)
    }

    /// An odd last byte counts as the high one of a word (RFC 1071 §4.1).
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        let (quads, rest) = bytes.as_chunks::<4>();
        let mut sum = self.0;
        for quad in quads {
            sum = sum.wrapping_add(u64::from(u32::from_be_bytes(*quad)));
        }
        let mut last = [0; 4];
        bytes::put(&mut last, 0, rest);
        Sum(sum.wrapping_add(u64::from(u32::from_be_bytes(last))))
    }

    #[must_use]
    pub const fn u16(self, word: u16) -> Sum {
        Sum(self.0.wrapping_add(word as u64))
    }

    #[must_use]
    pub const fn u32(self, words: u32) -> Sum {
        Sum(self.0.wrapping_add(words as u64))
    }

    /// The pseudo-header of IPv4 (RFC 9293 §3.1) or IPv6 (RFC 8200 §8.1): in both it is the addresses, the protocol and
    /// the length of the transport header and its payload.
    pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Sum {
        // An IP datagram has at most 16 bits of length.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        Sum::default().address(source).address(destination).u32(u32::from(protocol)).u32(length)
    }

    #[must_use]
    pub fn address(self, address: IpAddr) -> Sum {
        match address {
            IpAddr::V4(v4) => self.u32(v4.to_bits()),
            IpAddr::V6(v6) => self.bytes(&v6.octets()),
        }
    }

    #[must_use]
    pub const fn plus(self, other: Sum) -> Sum {
        // Folded first: two sums near the bound must not pass it together.
        Sum((self.folded() as u64).wrapping_add(other.folded() as u64))
    }

    /// The sum without a part that it contains.
    #[must_use]
    pub const fn minus(self, part: Sum) -> Sum {
        self.plus(Sum(!part.folded() as u64))
    }

    /// The sum itself, as a `CHECKSUM_PARTIAL` field holds it.
    pub const fn folded(self) -> u16 {
        fold(self.0)
    }

    /// What goes into the checksum field when the sum was taken with zero there.
    pub const fn checksum(self) -> u16 {
        !self.folded()
    }

    /// What goes into UDP's field: zero would mean "no checksum" (RFC 768), and 0xffff is the same number.
    pub const fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// Whether a sum that includes its checksum field is right.
    pub const fn is_valid(self) -> bool {
        self.folded() == 0xffff
    }
}

/// What a rewrite took out of the summed bytes and put in: the `~m + m'` of RFC 1624 eq. 3, over all its words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change(u64);

impl Change {
    pub const NONE: Change = Change(0);

    #[must_use]
    pub const fn u16(self, old: u16, new: u16) -> Change {
        Change(self.0.wrapping_add(!old as u64).wrapping_add(new as u64))
    }

    /// A 16-bit number at an odd offset of what is summed: its bytes lie in two words.
    #[must_use]
    pub const fn u16_at_odd(self, old: u16, new: u16) -> Change {
        self.u16(old.swap_bytes(), new.swap_bytes())
    }

    #[must_use]
    pub const fn u32(self, old: u32, new: u32) -> Change {
        Change(self.0.wrapping_add(!old as u64).wrapping_add(new as u64))
    }

    #[must_use]
    pub const fn ipv4(self, old: Ipv4Addr, new: Ipv4Addr) -> Change {
        self.u32(old.to_bits(), new.to_bits())
    }

    #[must_use]
    pub fn ipv6(self, old: Ipv6Addr, new: Ipv6Addr) -> Change {
        let without = self.0.wrapping_add(u64::from(!fold(Sum::of(&old.octets()).0)));
        Change(without.wrapping_add(u64::from(fold(Sum::of(&new.octets()).0))))
    }

    /// From one family to the other as well.
    #[must_use]
    pub fn address(self, old: IpAddr, new: IpAddr) -> Change {
        match (old, new) {
            (IpAddr::V4(old), IpAddr::V4(new)) => self.ipv4(old, new),
            (IpAddr::V6(old), IpAddr::V6(new)) => self.ipv6(old, new),
            (old, new) => {
                let (old, new) = (Sum::default().address(old), Sum::default().address(new));
                self.u16(old.folded(), new.folded())
            }
        }
    }

    #[must_use]
    pub const fn plus(self, other: Change) -> Change {
        Change((fold(self.0) as u64).wrapping_add(fold(other.0) as u64))
    }

    /// RFC 1624 eq. 3, `HC' = ~(~HC + ~m + m')`. Gives what a full sum gives, wherever the old checksum was what a full sum
    /// gave; a wrong one stays wrong by as much.
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(self.0.wrapping_add(!checksum as u64))
    }

    /// The same for UDP: no checksum stays none, and a computed zero is sent as 0xffff (RFC 768).
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        match (checksum, self.apply(checksum)) {
            (0, _) => 0,
            (_, 0) => 0xffff,
            (_, updated) => updated,
        }
    }

    /// The same for a `CHECKSUM_PARTIAL` field, which holds the sum of the pseudo-header, not complemented. The change may
    /// only be one of the pseudo-header: what else changes is summed later.
    pub const fn apply_partial(self, sum: u16) -> u16 {
        fold(self.0.wrapping_add(sum as u64))
    }
}

/// What the checksum field of a TCP or UDP header holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stored {
    /// The checksum of the whole segment.
    #[default]
    Whole,
    /// The sum of the pseudo-header only: `VIRTIO_NET_HDR_F_NEEDS_CSUM` or `TP_STATUS_CSUMNOTREADY`.
    Partial,
}

/// Finishes a packet whose sender left the checksum to its card, as the kernel's `skb_checksum_help` does: sums `packet`
/// from `start` to its end, the partial sum among it, and writes the result at `start + offset`. Zero is written as 0xffff,
/// which is the same number and right for UDP.
///
/// # Errors
/// `Truncated` when the field would lie past the end; nothing is written then.
pub fn complete(packet: &mut [u8], start: usize, offset: usize) -> Result<(), Fault> {
    let summed = packet.get_mut(start..).ok_or(Fault::Truncated)?;
    let checksum = Sum::of(summed).udp_checksum();
    let field = summed.get_mut(offset..).and_then(<[u8]>::first_chunk_mut).ok_or(Fault::Truncated)?;
    *field = checksum.to_be_bytes();
    Ok(())
}

/// End-around carry: 64 bits become four words, whose sum folds twice.
const fn fold(sum: u64) -> u16 {
    let words =
        (sum & 0xffff).wrapping_add((sum >> 16) & 0xffff).wrapping_add((sum >> 32) & 0xffff).wrapping_add(sum >> 48);
    let once = (words & 0xffff).wrapping_add(words >> 16);
    let twice = (once & 0xffff).wrapping_add(once >> 16);
    (twice & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 §4.1 as it is written, a word at a time.
    fn by_the_letter(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            while sum >> 16 != 0 {
                sum = (sum & 0xffff) + (sum >> 16);
            }
        }
        !(sum as u16)
    }

    #[test]
    fn sums_are_those_of_worked_examples() {
        // RFC 1071 §3: 0001 f203 f4f5 f6f7 sum to ddf2.
        assert_eq!(Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).folded(), 0xddf2);
        // The IPv4 header of the Wikipedia article "Internet checksum", whose checksum is b861.
        let header = b"\x45\x00\x00\x73\x00\x00\x40\x00\x40\x11\x00\x00\xc0\xa8\x00\x01\xc0\xa8\x00\xc7";
        assert_eq!(Sum::of(header).checksum(), 0xb861);
        assert_eq!(Sum::of(&[]).checksum(), 0xffff);
        assert_eq!(Sum::of(&[0x12]).folded(), 0x1200);
    }

    /// RFC 1624 §4: eq. 2 of RFC 1141 gives 0xffff here, which is wrong.
    #[test]
    fn the_example_that_broke_the_older_equation_comes_out_right() {
        assert_eq!(Change::NONE.u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
        assert_eq!(Change::NONE.u32(0x0000_5555, 0x0000_3285).apply(0xdd2f), 0x0000);
    }

    /// TTL 64 to 63 in every header that differs in its identification: all 65536 checksums, 0x0000 and 0xffff among them.
    #[test]
    fn every_value_of_a_field_updates_as_it_sums() {
        let mut header = *b"\x45\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00\x0a\x00\x00\x01\xc6\x33\x64\x07";
        let mut seen = std::collections::HashSet::new();
        for id in 0..=u16::MAX {
            header[4..6].copy_from_slice(&id.to_be_bytes());
            let before = Sum::of(&header).checksum();
            seen.insert(before);
            for new in [0, 1, 0x00ff, 0xff00, 0x7fff, 0x8000, 0xfffe, 0xffff, id, !id, before, !before] {
                let mut edited = header;
                edited[4..6].copy_from_slice(&new.to_be_bytes());
                assert_eq!(
                    Change::NONE.u16(id, new).apply(before),
                    Sum::of(&edited).checksum(),
                    "{id:04x} to {new:04x}"
                );
            }
            let mut aged = header;
            aged[8] -= 1;
            assert_eq!(Change::NONE.u16(0x4006, 0x3f06).apply(before), Sum::of(&aged).checksum(), "{id:04x}");
        }
        assert_eq!(seen.len(), 65535, "a sum is never zero, so its complement is never 0xffff");
    }

    #[test]
    fn udp_without_a_checksum_stays_so_and_a_computed_zero_is_sent_as_ones() {
        let change = Change::NONE.u16(0x5555, 0x3285);
        assert_eq!(change.apply_udp(0), 0);
        assert_eq!(change.apply_udp(0xdd2f), 0xffff);
        assert_eq!(Change::NONE.u16(0x3285, 0x5555).apply_udp(0xffff), 0xdd2f);
        assert_eq!(Sum::of(&[0xff, 0xff]).udp_checksum(), 0xffff);
        assert_eq!(Sum::of(&[0xff, 0xff]).checksum(), 0);
    }

    #[test]
    fn a_partial_sum_is_completed_where_the_sender_said() {
        let (source, destination): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut packet = vec![0xee; 34]; // headers that are not summed
        packet.extend_from_slice(&[0x10, 0x92, 0x00, 0x50, 0x00, 0x0b, 0x00, 0x00, b'a', b'b', b'c']);
        let pseudo = Sum::pseudo(source, destination, 17, 11);
        let want = pseudo.bytes(&packet[34..]).udp_checksum();
        packet[40..42].copy_from_slice(&pseudo.folded().to_be_bytes());
        complete(&mut packet, 34, 6).unwrap();
        assert_eq!(packet[40..42], want.to_be_bytes());
        assert!(pseudo.bytes(&packet[34..]).is_valid());
        for (start, offset) in [(34, 10), (46, 0), (45, 0), (usize::MAX, 6), (0, usize::MAX)] {
            assert_eq!(complete(&mut packet, start, offset), Err(Fault::Truncated), "{start} {offset}");
        }
    }

    /// The words of a packet and a way to edit them, with zeros and ones more often than chance has it.
    fn word() -> impl Strategy<Value = u8> {
        prop_oneof![2 => Just(0), 2 => Just(0xff), 3 => any::<u8>()]
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_letter_in_whatever_pieces(bytes in vec(word(), 0..200), cut in 0..100_usize) {
            let want = by_the_letter(&bytes);
            prop_assert_eq!(Sum::of(&bytes).checksum(), want);
            let (head, tail) = bytes.split_at((cut * 2).min(bytes.len() & !1));
            prop_assert_eq!(Sum::of(tail).bytes(head).checksum(), want);
            prop_assert_eq!(Sum::of(tail).plus(Sum::of(head)).checksum(), want);
            let rest = Sum::of(&bytes).minus(Sum::of(head));
            prop_assert_eq!(rest.folded() % 0xffff, Sum::of(tail).folded() % 0xffff);
        }

        /// Any edits of words and double words at any offset, odd ones among them, and the order does not matter.
        #[test]
        fn incremental_is_full(
            mut bytes in vec(word(), 8..120),
            edits in vec((0..200_usize, word(), word(), any::<bool>()), 1..6),
        ) {
            bytes[0] = 0x45; // as in every header that is summed, something is not zero
            let before = Sum::of(&bytes).checksum();
            let mut change = Change::NONE;
            for (at, high, low, wide) in edits {
                let new = u16::from_be_bytes([high, low]);
                if wide {
                    let at = 2 + 2 * (at % ((bytes.len() - 6) / 2 + 1));
                    let old = bytes::u32_at(&bytes, at);
                    let new = u32::from(new) << 16 | u32::from(!new);
                    bytes::put(&mut bytes, at, &new.to_be_bytes());
                    change = change.plus(Change::NONE.u32(old, new));
                } else {
                    let at = 1 + at % (bytes.len() - 2);
                    let old = bytes::u16_at(&bytes, at);
                    bytes::put(&mut bytes, at, &new.to_be_bytes());
                    change = if at % 2 == 0 { change.u16(old, new) } else { change.u16_at_odd(old, new) };
                }
            }
            prop_assert_eq!(change.apply(before), Sum::of(&bytes).checksum());
        }

        #[test]
        fn addresses_change_the_pseudo_header_and_nothing_else(
            old in any::<[u8; 16]>(), new in any::<[u8; 16]>(), v4 in any::<(bool, bool)>(), payload in vec(word(), 8..40),
        ) {
            let address = |octets: [u8; 16], v4: bool| match octets.first_chunk::<4>() {
                Some(four) if v4 => IpAddr::from(*four),
                _ => IpAddr::from(octets),
            };
            let (old, new) = (address(old, v4.0), address(new, v4.1));
            let peer = IpAddr::from([10, 0, 0, 1]);
            let before = Sum::pseudo(old, peer, 6, payload.len());
            let after = Sum::pseudo(new, peer, 6, payload.len());
            let change = Change::NONE.address(old, new);
            prop_assert_eq!(change.apply(before.bytes(&payload).checksum()), after.bytes(&payload).checksum());
            prop_assert_eq!(change.apply_udp(before.bytes(&payload).udp_checksum()), after.bytes(&payload).udp_checksum());
            // A partial field then completes to the same checksum.
            let partial = change.apply_partial(before.folded());
            prop_assert_eq!(Sum::of(&payload).u16(partial).udp_checksum(), after.bytes(&payload).udp_checksum());
        }
    }
}
