//! Engine: what packets change, shared by all workers: records, and what bounds our own answers.
//!
//! Not here: what the control side knows (`Tables`).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::learned::Learned;
use crate::base::{HashKey, Moment, ServiceId, limits};
use crate::flow::{Fragments, Nat, Records};
use crate::wire::icmp::Problem;

/// See the file's head. One for a process: it outlives every change of tables.
pub struct Shared {
    pub records: Records,
    pub nat: Nat,
    pub fragments: Fragments,
    /// MAC addresses of clients on our links.
    pub(super) learned: Learned,
    /// ICMP errors of ours: "too big" by whom it is told, and the others.
    too_big: [Bucket; TOLD],
    errors: Bucket,
    /// Announcements against strangers that claim a VIP, by its address.
    defences: [Bucket; DEFENDED],
}

impl Shared {
    /// Everything empty. `sources` are the addresses that endpoints see in full NAT, of all services; more may be added to `nat`.
    /// `key` is a secret of this process.
    pub fn new(sources: &[IpAddr], key: HashKey) -> Shared {
        Shared {
            records: Records::new(limits::FLOW_RECORDS, key),
            nat: Nat::new(limits::NAT_FLOWS, sources, &limits::NAT_PORTS, key),
            fragments: Fragments::new(limits::FRAGMENTED, key),
            learned: Learned::new(limits::LEARNED_NEIGHBORS, key),
            too_big: [const { Bucket::new(limits::ICMP_ERROR_INTERVAL, limits::ICMP_ERROR_BURST) }; TOLD],
            errors: Bucket::new(limits::ICMP_ERROR_INTERVAL, limits::ICMP_ERROR_BURST),
            defences: [const { Bucket::new(limits::DEFEND_INTERVAL, 1) }; DEFENDED],
        }
    }

    /// The same with other tables, for what needs little or wants to see them full.
    pub fn with(records: Records, nat: Nat, fragments: Fragments, key: HashKey) -> Shared {
        Shared {
            records,
            nat,
            fragments,
            learned: Learned::new(LEAST_LEARNED, key),
            too_big: [const { Bucket::new(limits::ICMP_ERROR_INTERVAL, limits::ICMP_ERROR_BURST) }; TOLD],
            errors: Bucket::new(limits::ICMP_ERROR_INTERVAL, limits::ICMP_ERROR_BURST),
            defences: [const { Bucket::new(limits::DEFEND_INTERVAL, 1) }; DEFENDED],
        }
    }

    /// Forgets everything that names endpoints of these services by number.
    pub fn forget(&self, which: impl Fn(ServiceId) -> bool, now: Moment) {
        self.records.forget(|seen| which(seen.service));
        self.nat.forget(&which, now);
        self.fragments.forget(&which);
    }

    /// Whether a sender may be told of this now. What costs nothing to provoke must not silence what path MTU discovery waits for: "too
    /// big" has a budget apart, and one for each last byte of addresses, so that a flood in one's name leaves others theirs.
    pub(super) fn may_tell(&self, problem: Problem, sender: IpAddr, now: Moment) -> bool {
        match problem {
            Problem::TooBig { .. } => self.too_big.get(last(sender) % TOLD).is_some_and(|bucket| bucket.take(now)),
            _ => self.errors.take(now),
        }
    }

    /// Whether a VIP may be announced once more to defend it (RFC 5227 §2.4: not more often, or two that both defend would
    /// never stop). VIPs that share a bucket share the right.
    pub(super) fn may_defend(&self, address: IpAddr, now: Moment) -> bool {
        self.defences.get(last(address) % DEFENDED).is_some_and(|bucket| bucket.take(now))
    }
}

/// The last byte of an address.
fn last(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(address) => address.octets().map(usize::from)[3],
        IpAddr::V6(address) => address.octets().map(usize::from)[15],
    }
}

/// Senders that are told of too big packets each at their own rate.
const TOLD: usize = 256;
/// VIPs that are defended each at its own rate.
const DEFENDED: usize = 16;
const LEAST_LEARNED: usize = 256;

/// So many in a burst, and then one an interval (the generic cell rate algorithm): one word, no lock.
#[derive(Debug)]
pub(super) struct Bucket {
    /// When everything taken so far will have been paid for, in nanoseconds.
    paid: AtomicU64,
    interval_ns: u64,
    /// How far ahead of the present that may be.
    tolerance_ns: u64,
}

impl Bucket {
    pub const fn new(interval: Duration, burst: u32) -> Bucket {
        #[allow(clippy::cast_possible_truncation)] // intervals of `limits`, seconds at most
        let interval_ns = interval.as_nanos() as u64;
        let tolerance_ns = interval_ns.saturating_mul(burst as u64);
        Bucket { paid: AtomicU64::new(0), interval_ns, tolerance_ns }
    }

    pub fn take(&self, now: Moment) -> bool {
        let next = |paid: u64| {
            let next = paid.max(now.0).saturating_add(self.interval_ns);
            (next <= now.0.saturating_add(self.tolerance_ns)).then_some(next)
        };
        self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_too_big_packets_in_one_name_leaves_others_and_other_errors_theirs() {
        let shared = Shared::new(&[], HashKey::new([1; 16]));
        let told = |problem: Problem, sender: [u8; 4]| {
            (0..1000).filter(|_| shared.may_tell(problem, sender.into(), Moment::from_millis(1))).count()
        };
        let too_big = Problem::TooBig { mtu: 1400 };
        assert_eq!(told(too_big, [192, 0, 2, 1]), limits::ICMP_ERROR_BURST as usize);
        assert_eq!([told(too_big, [192, 0, 2, 1]), told(too_big, [198, 51, 100, 1])], [0, 0]);
        assert_eq!(told(too_big, [192, 0, 2, 2]), limits::ICMP_ERROR_BURST as usize);
        assert_eq!(told(Problem::TimeExceeded { code: 0 }, [192, 0, 2, 1]), limits::ICMP_ERROR_BURST as usize);
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_an_interval() {
        let bucket = Bucket::new(Duration::from_millis(1), 3);
        let taken = |ms: u64| (0..10).filter(|_| bucket.take(Moment::from_millis(ms))).count();
        assert_eq!([taken(1000), taken(1000), taken(1001), taken(1003), taken(2000)], [3, 0, 1, 2, 3]);
        // A worker whose clock is behind takes nothing that is not there.
        assert_eq!(taken(1500), 0);
    }

    #[test]
    fn each_vip_is_defended_at_its_own_rate() {
        let key = HashKey::new([7; 16]);
        let nat = Nat::new(1, &[], &(1..=1), key);
        let shared = Shared::with(Records::new(1, key), nat, Fragments::new(1, key), key);
        let [a, b]: [IpAddr; 2] = ["10.0.0.1", "2001:db8::2"].map(|address| address.parse().unwrap());
        let now = Moment::from_millis(60_000);
        assert!(shared.may_defend(a, now) && !shared.may_defend(a, now) && shared.may_defend(b, now));
        assert!(!shared.may_defend(a, now + limits::DEFEND_INTERVAL - Duration::from_millis(1)));
        assert!(shared.may_defend(a, now + limits::DEFEND_INTERVAL));
    }
}
