//! Value: addresses of which every packet is asked whether it is to or from one of them.
//!
//! Each family by itself, as plain numbers: a packet asks half a dozen times, and to compare two `IpAddr`s takes several times as long.
//! An IPv6 address that maps an IPv4 one is another address: an IPv6 packet may name it.

use std::net::IpAddr;

/// See the file's head. Each is there once.
#[derive(Debug, Default)]
pub(in crate::flow) struct Addresses {
    v4: Vec<u32>,
    v6: Vec<u128>,
}

impl Addresses {
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Addresses {
        let mut set = Addresses::default();
        for address in addresses {
            match address {
                IpAddr::V4(address) => set.v4.push(address.to_bits()),
                IpAddr::V6(address) => set.v6.push(address.to_bits()),
            }
        }
        set.v4.sort_unstable();
        set.v4.dedup();
        set.v6.sort_unstable();
        set.v6.dedup();
        set
    }

    /// Its place in the order that `IpAddr`s have.
    pub fn place(&self, address: IpAddr) -> Option<usize> {
        match address {
            IpAddr::V4(address) => self.v4.binary_search(&address.to_bits()).ok(),
            IpAddr::V6(address) => Some(self.v4.len().saturating_add(self.v6.binary_search(&address.to_bits()).ok()?)),
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.place(address).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_in_their_order_and_none_is_taken_for_one_of_the_other_family() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let mut all =
            ["10.0.0.100", "::ffff:10.0.0.9", "10.0.0.9", "fd00::1", "10.0.0.100", "::a00:64"].map(ip).to_vec();
        let set = Addresses::new(all.clone());
        all.sort_unstable();
        all.dedup();
        let places: Vec<_> = all.iter().map(|address| set.place(*address)).collect();
        assert_eq!(places, (0..all.len()).map(Some).collect::<Vec<_>>());
        for other in ["10.0.0.8", "10.0.0.10", "::ffff:10.0.0.100", "::a00:9", "::", "fd00::2"] {
            assert!(!set.contains(ip(other)), "{other}");
        }
        assert!(!set.is_empty() && Addresses::default().is_empty());
    }
}
