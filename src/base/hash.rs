//! Value: the keyed hash that everything which picks by hash uses.
//!
//! siphash-1-3 with one secret key for the cluster, so that clients cannot aim at one endpoint and nodes with the same
//! members and the same key agree (DESIGN §6, hardening J18).

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// What a picker is given to be sticky by: the keyed hash of a source address, a header, a cookie, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowHash(pub u64);

/// The 128-bit secret of `[cluster] hash_key`. Its `Debug` never shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey([u8; 16]);

impl HashKey {
    pub const fn new(bytes: [u8; 16]) -> HashKey {
        HashKey(bytes)
    }

    /// siphash-1-3 of `bytes`.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        SipHasher13::new_with_key(&self.0).hash(bytes)
    }

    /// siphash-1-3 of two numbers: a key mixed with an identity, an attempt, a table index.
    pub fn mix(&self, a: u64, b: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u64(a);
        hasher.write_u64(b);
        hasher.finish()
    }

    pub fn flow(&self, bytes: &[u8]) -> FlowHash {
        FlowHash(self.hash(bytes))
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(…)")
    }
}
