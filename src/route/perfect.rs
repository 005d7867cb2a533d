//! Engine: a perfect hash over (scope, bytes). Every question, hit or miss, reads one slot and compares one key.
//!
//! Why: what a request can make a lookup cost is fixed when the table is built, from the operator's keys alone. There is no run
//! of collisions to aim at, so the hash needs no secret and can be a fast one; and 10 000 keys are one cache line away, as ten
//! are (`benches/route.rs`). Built as in PTHash (Pibiri and Trani, SIGIR 2021): keys fall into buckets of about four, each
//! bucket is given the first pilot that sends all its keys to free slots, largest bucket first.
//!
//! Budget: no allocation, no atomics; a pilot (2 bytes for four keys, so all of them stay in the first cache), a slot that
//! holds the value and straddles no cache line, and the key, whose comparison nothing waits for.
//! Not here: what the values mean, nor changing a built table.

use std::collections::HashMap;

/// Maps keys to values of up to 20 bytes. Scopes keep keys of different kinds apart.
#[derive(Debug)]
pub struct Perfect<V> {
    seed: u64,
    pilots: Box<[u16]>,
    slots: Box<[Slot<V>]>,
    /// The bytes of all keys; equal ones, of different scopes, stand here once.
    bytes: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
struct Slot<V> {
    scope: u32,
    key_at: u32,
    key_len: u32,
    value: V,
}

/// A key and its value, on the way into a table.
#[derive(Debug)]
pub struct Item<'a, V> {
    pub scope: u32,
    pub key: &'a [u8],
    pub value: V,
}

impl<V: Copy + Default> Perfect<V> {
    /// `items` hold no (scope, key) twice, scopes are below `u32::MAX`, and keys have less than 4 GiB together.
    pub fn build(items: &[Item<'_, V>]) -> Perfect<V> {
        let (bytes, places) = intern(items);
        // A quarter of the slots stays free, so that the last buckets find their pilot soon. Should a seed fail, the next
        // has other buckets and more room.
        let mut attempt = 0;
        let (seed, pilots, taken) = loop {
            let slots = items.len() + items.len() / 3 + attempt + 1;
            match place(items, attempt as u64, slots) {
                Some((pilots, taken)) => break (attempt as u64, pilots, taken),
                None => attempt += 1,
            }
        };
        let slots = taken.into_iter().map(|item| match item.and_then(|at| items.get(at).zip(places.get(at))) {
            Some((item, &(key_at, key_len))) => Slot { scope: item.scope, key_at, key_len, value: item.value },
            None => Slot { scope: EMPTY, key_at: 0, key_len: 0, value: V::default() },
        });
        Perfect { seed, pilots: pilots.into(), slots: slots.collect(), bytes: bytes.into() }
    }

    #[inline]
    pub fn find(&self, scope: u32, key: &[u8]) -> Option<&V> {
        let hash = hash(self.seed, scope, key);
        let pilot = *self.pilots.get(reduce(hash, self.pilots.len()))?;
        let slot = self.slots.get(reduce(turn(hash, pilot), self.slots.len()))?;
        if slot.scope != scope || slot.key_len as usize != key.len() {
            return None;
        }
        let at = slot.key_at as usize;
        (self.bytes.get(at..at + key.len())? == key).then_some(&slot.value)
    }
}

/// All key bytes in one run, and where each item's are: (at, len).
fn intern<V>(items: &[Item<'_, V>]) -> (Vec<u8>, Vec<(u32, u32)>) {
    let mut bytes = Vec::new();
    let mut known = HashMap::new();
    let places = items.iter().map(|item| {
        *known.entry(item.key).or_insert_with(|| {
            let at = bytes.len();
            bytes.extend_from_slice(item.key);
            (at as u32, item.key.len() as u32)
        })
    });
    let places = places.collect();
    (bytes, places)
}

/// Pilots, and the item in each slot; `None` when a bucket finds no pilot.
fn place<V>(items: &[Item<'_, V>], seed: u64, slots: usize) -> Option<(Vec<u16>, Vec<Option<usize>>)> {
    let mut buckets: Vec<Vec<(u64, usize)>> = vec![Vec::new(); items.len() / KEYS_PER_BUCKET + 1];
    for (at, item) in items.iter().enumerate() {
        let hash = hash(seed, item.scope, item.key);
        let bucket = reduce(hash, buckets.len());
        buckets.get_mut(bucket)?.push((hash, at));
    }
    let mut order: Vec<usize> = (0..buckets.len()).collect();
    order.sort_by_key(|&bucket| std::cmp::Reverse(buckets.get(bucket).map_or(0, Vec::len)));

    let mut pilots = vec![0; buckets.len()];
    let mut taken = vec![None; slots];
    let mut wanted = Vec::new();
    for bucket in order {
        let keys = buckets.get(bucket)?;
        let pilot = (0..PILOTS).find(|&pilot| {
            wanted.clear();
            wanted.extend(keys.iter().map(|&(hash, _)| reduce(turn(hash, pilot), slots)));
            wanted.iter().enumerate().all(|(n, slot)| {
                matches!(taken.get(*slot), Some(None)) && wanted.iter().take(n).all(|other| other != slot)
            })
        })?;
        *pilots.get_mut(bucket)? = pilot;
        for (&(_, item), &slot) in keys.iter().zip(&wanted) {
            *taken.get_mut(slot)? = Some(item);
        }
    }
    Some((pilots, taken))
}

/// 64 bits of (scope, key): a multiplication per eight bytes, in the manner of wyhash.
#[inline]
fn hash(seed: u64, scope: u32, key: &[u8]) -> u64 {
    let mut state = fold(seed ^ ODD[0], u64::from(scope) ^ (key.len() as u64) << 32 ^ ODD[1]);
    let (words, _) = key.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), ODD[2]);
    }
    fold(state ^ tail(key), ODD[3])
}

/// The last eight bytes, some of them hashed already; or all bytes of a shorter key. With the length they are unambiguous.
#[inline]
fn tail(key: &[u8]) -> u64 {
    if let Some(last) = key.last_chunk::<8>() {
        return u64::from_le_bytes(*last);
    }
    match (key.first_chunk::<4>(), key.last_chunk::<4>()) {
        (Some(first), Some(last)) => u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32,
        _ => key.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    }
}

/// `hash` turned by `pilot`: where keys of one bucket part.
#[inline]
fn turn(hash: u64, pilot: u16) -> u64 {
    fold(hash ^ ODD[0], u64::from(pilot) ^ ODD[1])
}

/// Both halves of the 128-bit product.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

/// `hash` as a number below `n`, by its high bits.
#[inline]
fn reduce(hash: u64, n: usize) -> usize {
    ((u128::from(hash) * n as u128) >> 64) as usize
}

/// Scope of a slot that holds no key.
const EMPTY: u32 = u32::MAX;
const KEYS_PER_BUCKET: usize = 4;
/// Pilots tried for a bucket. With a quarter of the slots free a lone key needs four, eight keys at the start a handful.
const PILOTS: u16 = 1 << 14;
/// Wyhash's secret: odd, with as many ones as zeros in each byte.
const ODD: [u64; 4] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_no_other() {
        for count in [0, 1, 2, 3, 10, 1000, 20_000] {
            let keys: Vec<String> = (0..count).map(|n| format!("{}k{n}", "x".repeat(n % 19))).collect();
            let item = |(n, key): (usize, &'_ String)| (n as u32 % 5, key.clone(), n as u32);
            let owned: Vec<_> = keys.iter().enumerate().map(item).collect();
            let items: Vec<_> = owned
                .iter()
                .map(|(scope, key, value)| Item { scope: *scope, key: key.as_bytes(), value: *value })
                .collect();
            let table = Perfect::build(&items);
            for item in &items {
                assert_eq!(table.find(item.scope, item.key), Some(&item.value), "{item:?} of {count}");
                assert_eq!(table.find(item.scope + 1, item.key), None, "{item:?} of {count}");
                assert_eq!(table.find(item.scope, &item.key[1..]), None, "{item:?} of {count}");
            }
            assert_eq!(table.find(0, b""), None);
        }
    }

    #[test]
    fn a_key_may_stand_in_many_scopes_and_its_bytes_once() {
        let items: Vec<_> = (0..500).map(|scope| Item { scope, key: b"/api", value: scope * 2 }).collect();
        let table = Perfect::build(&items);
        assert_eq!(&*table.bytes, b"/api");
        for scope in 0..500 {
            assert_eq!(table.find(scope, b"/api"), Some(&(scope * 2)));
        }
    }

    #[test]
    fn short_keys_of_the_same_bytes_in_another_order_differ() {
        let keys =
            ["", "\0", "\0\0", "a", "ab", "ba", "abc", "acb", "abcd", "abcdabcd", "abcdabcdabcd", "abcde", "abcdefg"];
        let hashes: std::collections::HashSet<u64> = keys.iter().map(|key| hash(1, 2, key.as_bytes())).collect();
        assert_eq!(hashes.len(), keys.len());
    }
}
