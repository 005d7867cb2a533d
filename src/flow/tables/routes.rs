//! Value: the longest prefix that an address has, whatever the number of routes.
//!
//! Prefixes nest or are disjoint, so they cut a family's addresses into ranges, each with one answer: at most two ranges a route,
//! found by binary search. Packets under NAT ask for their client, and a balancer may have the routes of a whole network.
//!
//! Budget: no allocation; log2 of twice the routes comparisons a look-up, none of the other family's.

use std::net::IpAddr;

use super::Way;
use crate::base::Network;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Routes {
    ways: Vec<Way>,
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

/// Where each range begins, in order, and the place of its way. What is before the first has none.
#[derive(Debug)]
struct Ranges<A>(Vec<(A, Option<usize>)>);

impl<A> Default for Ranges<A> {
    fn default() -> Ranges<A> {
        Ranges(Vec::new())
    }
}

impl Routes {
    /// `known` is in the order of its networks, each there once.
    pub fn build(known: impl Iterator<Item = (Network, Way)>) -> Routes {
        let (mut ways, mut v4, mut v6) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (network, way)) in known.enumerate() {
            ways.push(way);
            let prefix = u32::from(network.prefix());
            match network.address() {
                IpAddr::V4(first) => {
                    let first = first.to_bits();
                    v4.push((first, first | u32::MAX.checked_shr(prefix).unwrap_or(0), place));
                }
                IpAddr::V6(first) => {
                    let first = first.to_bits();
                    v6.push((first, first | u128::MAX.checked_shr(prefix).unwrap_or(0), place));
                }
            }
        }
        Routes {
            ways,
            v4: Ranges::cut(v4, |last| last.checked_add(1)),
            v6: Ranges::cut(v6, |last| last.checked_add(1)),
        }
    }

    /// The way of the longest prefix of `address`. An IPv4 address is also found in its IPv6-mapped form.
    pub fn find(&self, address: IpAddr) -> Option<&Way> {
        let place = match address.to_canonical() {
            IpAddr::V4(address) => self.v4.find(address.to_bits()),
            IpAddr::V6(address) => self.v6.find(address.to_bits()),
        };
        self.ways.get(place?)
    }
}

impl<A: Copy + Ord> Ranges<A> {
    /// `nets` have first and last address and the place of their way, and come by first address, of equals the widest first.
    fn cut(nets: Vec<(A, A, usize)>, after: impl Fn(A) -> Option<A>) -> Ranges<A> {
        let mut ranges: Vec<(A, Option<usize>)> = Vec::with_capacity(nets.len().saturating_mul(2));
        let mut begin = |at: A, place: Option<usize>| {
            // A range that ends where it begins is none.
            ranges.pop_if(|(first, _)| *first == at);
            ranges.push((at, place));
        };
        // Networks that the present address is in, the narrowest last.
        let mut around: Vec<(A, usize)> = Vec::new();
        for (first, last, place) in nets {
            while let Some((end, _)) = around.pop_if(|(end, _)| *end < first) {
                if let Some(next) = after(end) {
                    begin(next, around.last().map(|(_, place)| *place));
                }
            }
            begin(first, Some(place));
            around.push((last, place));
        }
        while let Some((end, _)) = around.pop() {
            if let Some(next) = after(end) {
                begin(next, around.last().map(|(_, place)| *place));
            }
        }
        Ranges(ranges)
    }

    fn find(&self, address: A) -> Option<usize> {
        let Ranges(ranges) = self;
        let after = ranges.partition_point(|(first, _)| *first <= address);
        ranges.get(after.checked_sub(1)?)?.1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few leading and trailing bits vary, so that networks nest, meet and repeat, and addresses fall on their edges.
    fn addresses() -> impl Strategy<Value = IpAddr> {
        (any::<bool>(), 0..4_u32, 0..4_u32, prop_oneof![Just(0), Just(u32::MAX)]).prop_map(|(six, high, low, fill)| {
            let word = high << 30 | (fill & 0x3fff_fffc) | low;
            if six {
                IpAddr::V6((u128::from(word) << 96 | u128::from(fill) << 32 | u128::from(word)).into())
            } else {
                IpAddr::V4(word.into())
            }
        })
    }

    fn networks() -> impl Strategy<Value = Network> {
        let lengths = prop_oneof![0..4_u8, 28..=32_u8, 126..=128_u8];
        (addresses(), lengths)
            .prop_filter_map("too long for its family", |(address, prefix)| Network::of(address, prefix))
    }

    proptest! {
        #[test]
        fn a_look_up_finds_what_a_search_through_all_of_them_does(
            mut networks in prop::collection::vec(networks(), 0..40),
            wanted in prop::collection::vec(addresses(), 64),
        ) {
            networks.sort_unstable();
            networks.dedup();
            let way = |place| Way { link: Some(place), gateway: None, mtu: 1500 };
            let routes = Routes::build(networks.iter().enumerate().map(|(place, network)| (*network, way(place))));
            for address in wanted {
                let holds = networks.iter().enumerate().filter(|(_, network)| network.contains(address));
                let longest = holds.max_by_key(|(_, network)| network.prefix()).map(|(place, _)| place);
                prop_assert_eq!(routes.find(address).and_then(|way| way.link), longest, "{} in {:?}", address, networks);
            }
        }
    }
}
