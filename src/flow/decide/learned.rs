//! Engine: MAC addresses of clients on our own links, learned from what they send.
//!
//! A reply that NAT translates back goes to the client's next hop. A gateway is known to the control side; a client on the link
//! would have to be asked for, and its SYN-ACK would be lost meanwhile. But it has just sent a frame, and that says where it is.
//! Who forges that on the link can as well forge ARP; what a router brings teaches nothing, and whom the kernel knows is where the
//! kernel says. Nothing expires: a client that moves sends from elsewhere, and that overwrites.
//!
//! Sets of four places, each of two words, the first of which is the key's tag XOR the second (Hyatt's lockless hashing): what
//! two workers tear fits no key. A place that is taken by another is a client that is asked for after all.
//!
//! Budget: one cache line read a packet; written only when a client is new or has moved.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{HashKey, MacAddr};
use crate::flow::key::octets;
use crate::flow::tables::LinkId;

/// See the file's head.
pub(super) struct Learned {
    sets: Box<[Set]>,
    key: HashKey,
}

#[repr(align(64))]
#[derive(Default)]
struct Set([[AtomicU64; 2]; WAYS]);

const WAYS: usize = 4;

impl Learned {
    /// Room for some `capacity` clients.
    pub fn new(capacity: usize, key: HashKey) -> Learned {
        let sets = capacity.div_ceil(WAYS).max(1).next_power_of_two();
        Learned { sets: (0..sets).map(|_| Set::default()).collect(), key }
    }

    /// Takes note that `address` is at `mac` on this link.
    pub fn learn(&self, link: LinkId, address: IpAddr, mac: MacAddr) {
        let (tag, Some(Set(places))) = self.set(link, address) else { return };
        let value = word(mac);
        let held = |[a, b]: &[AtomicU64; 2]| (a.load(Ordering::Relaxed), b.load(Ordering::Relaxed));
        let mut free = None;
        for place in places {
            match held(place) {
                (check, found) if check ^ found == tag => {
                    if found != value {
                        store(place, tag, value);
                    }
                    return;
                }
                (0, 0) => free = free.or(Some(place)),
                _ => {}
            }
        }
        // Whoever is there longest is not known; the tag chooses, so that one client does not always lose.
        #[allow(clippy::cast_possible_truncation)] // its lowest two bits
        let place = free.or_else(|| places.get(tag as usize % WAYS));
        if let Some(place) = place {
            store(place, tag, value);
        }
    }

    /// Where `address` was last seen on this link.
    pub fn find(&self, link: LinkId, address: IpAddr) -> Option<MacAddr> {
        let (tag, set) = self.set(link, address);
        let Set(places) = set?;
        places.iter().find_map(|[check, value]| {
            let value = value.load(Ordering::Relaxed);
            let [_, present, mac @ ..] = value.to_be_bytes();
            (check.load(Ordering::Relaxed) ^ value == tag && present == PRESENT).then_some(MacAddr(mac))
        })
    }

    fn set(&self, link: LinkId, address: IpAddr) -> (u64, Option<&Set>) {
        let mut bytes = [0; 22];
        let parts = [&octets(address)[..], &link.interface.to_be_bytes(), &link.vlan.to_be_bytes()];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        let hash = self.key.hash(&bytes);
        #[allow(clippy::cast_possible_truncation)] // a power of two of sets
        let set = self.sets.get((hash >> 8) as usize & self.sets.len().wrapping_sub(1));
        (hash, set)
    }
}

fn store([check, value]: &[AtomicU64; 2], tag: u64, word: u64) {
    value.store(word, Ordering::Relaxed);
    check.store(tag ^ word, Ordering::Relaxed);
}

/// A MAC address that is there; never zero.
fn word(MacAddr([a, b, c, d, e, f]): MacAddr) -> u64 {
    u64::from_be_bytes([0, PRESENT, a, b, c, d, e, f])
}

const PRESENT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> (IpAddr, MacAddr) {
        let [a, b, c, d] = n.to_be_bytes();
        (IpAddr::from([10, b, c, d]), MacAddr([2, 0, a, b, c, d]))
    }

    #[test]
    fn a_client_is_found_where_it_was_last_seen() {
        let learned = Learned::new(1024, HashKey::new([3; 16]));
        let (eth0, eth1) = (LinkId::plain(2), LinkId { interface: 2, vlan: 7 });
        let (address, mac) = client(1);
        assert_eq!(learned.find(eth0, address), None);
        learned.learn(eth0, address, mac);
        assert_eq!((learned.find(eth0, address), learned.find(eth1, address)), (Some(mac), None));
        learned.learn(eth0, address, MacAddr::BROADCAST);
        assert_eq!(learned.find(eth0, address), Some(MacAddr::BROADCAST));
        let six = "2001:db8::1".parse().unwrap();
        learned.learn(eth1, six, mac);
        assert_eq!(learned.find(eth1, six), Some(mac));
    }

    #[test]
    fn a_full_table_forgets_and_never_confuses() {
        let learned = Learned::new(1024, HashKey::new([3; 16]));
        let link = LinkId::plain(1);
        for n in 0..10_000 {
            let (address, mac) = client(n);
            learned.learn(link, address, mac);
            assert_eq!(learned.find(link, address), Some(mac));
        }
        let found = (0..10_000).filter_map(|n| Some((client(n).1, learned.find(link, client(n).0)?)));
        let mut kept = 0;
        for (mac, found) in found {
            assert_eq!(mac, found);
            kept += 1;
        }
        assert_eq!(kept, 1024, "every place is in use");
    }
}
