//! Value: whether all clients of a service seem to be one gateway, so that their own addresses are lost on the way.
//!
//! A port that Docker publishes goes through its proxy for who connects from the host itself, in rootless mode and from IPv6, and then
//! every client has the address of the bridge. Limits by source, sticky picking and logs are then worth nothing, and nobody says so.
//! One number a service, whatever comes; not written to while clients are who they seem. Not here: who is a gateway (`sys`), and
//! saying it (`app`).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::base::limits;

/// Connections in a row from a gateway of this host.
#[derive(Debug, Default)]
pub struct Clients(AtomicU32);

impl Clients {
    /// A connection from `peer`. True for the one after which clients seem to be a gateway.
    pub fn saw(&self, peer: IpAddr, gateways: &[IpAddr]) -> bool {
        if gateways.is_empty() || peer.is_loopback() {
            return false;
        }
        let so_far = self.0.load(Relaxed);
        if !gateways.contains(&peer) {
            if so_far != 0 {
                self.0.store(0, Relaxed);
            }
            return false;
        }
        so_far < limits::GATEWAY_CLIENTS && self.0.fetch_add(1, Relaxed) + 1 == limits::GATEWAY_CLIENTS
    }

    /// Every one of the last connections came from a gateway.
    pub fn seem_masked(&self) -> bool {
        self.0.load(Relaxed) >= limits::GATEWAY_CLIENTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_seem_masked_while_all_of_them_are_a_gateway_and_it_is_said_once() {
        let [gateway, other, own] = ["172.30.0.1", "198.51.100.7", "127.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let clients = Clients::default();
        let crowd = |peer, count| (0..count).filter(|_| clients.saw(peer, &[gateway])).count();
        assert_eq!((crowd(gateway, limits::GATEWAY_CLIENTS - 1), clients.seem_masked()), (0, false));
        assert_eq!(
            (crowd(other, 1), crowd(gateway, limits::GATEWAY_CLIENTS - 1), clients.seem_masked()),
            (0, 0, false)
        );
        assert_eq!(
            (crowd(own, 1), crowd(gateway, 1), clients.seem_masked()),
            (0, 1, true),
            "this host itself proves nothing"
        );
        assert_eq!((crowd(gateway, 1000), clients.seem_masked()), (0, true));
        assert_eq!((crowd(other, 1), clients.seem_masked()), (0, false), "an address arrived");
        let nowhere = Clients::default();
        assert_eq!((0..1000).filter(|_| nowhere.saw(gateway, &[])).count(), 0, "without a default route");
    }
}
