//! Engine: when neighbours and switches are told where the addresses of VIPs are, and when strangers are looked for.
//!
//! ```text
//!   claimed, moved, another MAC, link up ─▶ announce at 0, 1, 3, 7, 15 s ─▶ once a minute
//!   a stranger claims it ──────────────────────────────▶ every 10 s, until it was not heard for 30 s
//!   a MAC that nobody else sends from ────▶ a reminder when it was silent for 10 s
//! ```
//!
//! An announcement is one frame, and a frame that is lost leaves a client with a dead address until its cache forgets: hence
//! several, further and further apart, because a switch's port may take half a minute to forward. The slow ones after that
//! are for hosts that slept, and for switches, which forget a MAC that is silent (IEEE 802.1D §7.9.2: 300 s).
//!
//! **Strangers** are asked for with the first announcement and each slow one, by an ARP probe or a neighbour solicitation: one that
//! has the address and keeps silent, such as an endpoint with the VIP on `lo` and no `arp_ignore`, answers it. IPv6's only question
//! that names no asker is duplicate address detection, whose answer goes to all nodes and would mislead them: there somebody asks who
//! is not the VIP.
//!
//! Not here: frames, sockets, and defending at once, which the data path does (`flow::decide`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::base::{MacAddr, Moment, limits};

/// Where frames come from: a MAC on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Station {
    /// The kernel's index.
    pub interface: u32,
    /// 0: without a tag.
    pub vlan: u16,
    pub mac: MacAddr,
}

/// An address that is ours, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub address: IpAddr,
    pub station: Station,
    /// Nobody but us sends from that MAC there, so that switches know it by our frames only: it is a virtual one, or the link
    /// is a VLAN that the kernel does not use.
    pub sole: bool,
}

/// What is to be said now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saying {
    /// To all: the address is here.
    Announce(Claim),
    /// To all who have the address: speak up.
    Ask(Claim),
    /// To switches: the MAC is here.
    Remind(Claim),
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Schedule {
    claims: BTreeMap<IpAddr, Held>,
    /// The stations that need reminders, and when they were last heard.
    stations: BTreeMap<Station, Moment>,
    /// What is due next, first.
    queue: BTreeSet<(Moment, Timer)>,
}

#[derive(Debug)]
struct Held {
    claim: Claim,
    /// How often the link has come up; `None` while it is down.
    up: Option<u32>,
    said: u32,
    /// When a stranger last claimed it.
    contested: Option<Moment>,
    /// Its entry in the queue; `None` while the link is down.
    due: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Claim(IpAddr),
    Station(Station),
}

impl Schedule {
    /// Takes over what is claimed now. `up` says of an interface how often it has come up, and `None` while it is down. What
    /// stays as it was goes on as it was.
    pub fn follow(&mut self, claims: &[Claim], up: impl Fn(u32) -> Option<u32>, now: Moment) {
        let wanted: BTreeSet<IpAddr> = claims.iter().map(|claim| claim.address).collect();
        let gone: Vec<IpAddr> = self.claims.keys().filter(|address| !wanted.contains(address)).copied().collect();
        gone.iter().for_each(|address| self.drop_claim(*address));
        for claim in claims {
            let up = up(claim.station.interface);
            if self.claims.get(&claim.address).is_some_and(|held| held.claim == *claim && held.up == up) {
                continue;
            }
            self.drop_claim(claim.address);
            let due = up.map(|_| now);
            self.queue.extend(due.map(|due| (due, Timer::Claim(claim.address))));
            self.claims.insert(claim.address, Held { claim: *claim, up, said: 0, contested: None, due });
        }
        self.follow_stations(now);
    }

    /// Whether it is claimed on a link that carries frames, and has been announced.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.claims.get(&address).is_some_and(|held| held.up.is_some() && held.said > 0)
    }

    /// A stranger claims the address. It was told otherwise at once; while the address counts as contested it is told again, and
    /// asked for, as often as that is proper (RFC 5227 §2.4).
    pub fn contested(&mut self, address: IpAddr, now: Moment) {
        let again = now + limits::DEFEND_INTERVAL;
        let Some(held) = self.claims.get_mut(&address) else { return };
        held.contested = Some(now);
        if let Some(due) = held.due.filter(|due| *due > again) {
            self.queue.remove(&(due, Timer::Claim(address)));
            self.queue.insert((again, Timer::Claim(address)));
            held.due = Some(again);
        }
    }

    /// Hands over what is due, so much that a link can take it; the rest is due at the next call.
    pub fn poll(&mut self, now: Moment, mut say: impl FnMut(Saying)) {
        for _ in 0..limits::ANNOUNCED_AT_ONCE {
            let Some((_, timer)) = self.queue.first().copied().filter(|(due, _)| *due <= now) else { return };
            self.queue.pop_first();
            match timer {
                Timer::Claim(address) => self.announce(address, now, &mut say),
                Timer::Station(station) => self.remind(station, now, &mut say),
            }
        }
    }

    fn announce(&mut self, address: IpAddr, now: Moment, say: &mut impl FnMut(Saying)) {
        let Some(held) = self.claims.get_mut(&address) else { return };
        let contested = held.contested.is_some_and(|at| now.since(at) < limits::CONTESTED);
        if contested || held.said == 0 || held.said >= limits::ANNOUNCEMENTS {
            say(Saying::Ask(held.claim));
        }
        say(Saying::Announce(held.claim));
        held.said = held.said.saturating_add(1);
        let due = now + if contested { gap(held.said).min(limits::DEFEND_INTERVAL) } else { gap(held.said) };
        held.due = Some(due);
        self.queue.insert((due, Timer::Claim(address)));
        if let Some(last) = self.stations.get_mut(&held.claim.station) {
            *last = now;
        }
    }

    fn remind(&mut self, station: Station, now: Moment, say: &mut impl FnMut(Saying)) {
        let Some(last) = self.stations.get_mut(&station) else { return };
        if now.since(*last) >= limits::MAC_REMINDER {
            let of_it = |held: &&Held| held.claim.station == station && held.up.is_some();
            if let Some(held) = self.claims.values().find(of_it) {
                say(Saying::Remind(held.claim));
            }
            *last = now;
        }
        self.queue.insert((*last + limits::MAC_REMINDER, Timer::Station(station)));
    }

    fn drop_claim(&mut self, address: IpAddr) {
        if let Some(due) = self.claims.remove(&address).and_then(|held| held.due) {
            self.queue.remove(&(due, Timer::Claim(address)));
        }
    }

    fn follow_stations(&mut self, now: Moment) {
        let wanted: BTreeSet<Station> =
            self.claims.values().filter(|held| held.claim.sole).map(|held| held.claim.station).collect();
        self.stations.retain(|station, _| wanted.contains(station));
        self.queue.retain(|(_, timer)| !matches!(timer, Timer::Station(station) if !wanted.contains(station)));
        for station in wanted {
            self.stations.entry(station).or_insert_with(|| {
                self.queue.insert((now + limits::MAC_REMINDER, Timer::Station(station)));
                now
            });
        }
    }
}

/// How long after the n-th announcement the next one comes.
fn gap(said: u32) -> Duration {
    if said >= limits::ANNOUNCEMENTS {
        return limits::ANNOUNCE_REFRESH;
    }
    limits::ANNOUNCE_INTERVAL.saturating_mul(2_u32.saturating_pow(said.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn at(ms: u64) -> Moment {
        Moment::from_millis(60_000) + Duration::from_millis(ms)
    }

    fn claim(address: &str, mac: MacAddr, interface: u32) -> Claim {
        let station = Station { interface, vlan: 0, mac };
        Claim { address: address.parse().unwrap(), station, sole: mac != MAC }
    }

    /// What is said until `end`, in seconds: when, the kind's first letter, and the last byte of the address.
    fn said(schedule: &mut Schedule, from: u64, end: u64) -> Vec<String> {
        let mut said = Vec::new();
        for tenth in from * 10..end * 10 {
            schedule.poll(at(tenth * 100), |saying| {
                let (word, claim) = match saying {
                    Saying::Announce(claim) => ('a', claim),
                    Saying::Ask(claim) => ('?', claim),
                    Saying::Remind(claim) => ('r', claim),
                };
                let last = match claim.address {
                    IpAddr::V4(address) => address.octets()[3],
                    IpAddr::V6(address) => address.octets()[15],
                };
                said.push(format!("{}{word}{last}", tenth as f64 / 10.0));
            });
        }
        said
    }

    #[test]
    fn a_new_address_is_announced_five_times_and_then_once_a_minute() {
        let mut schedule = Schedule::default();
        schedule.follow(&[claim("10.0.0.1", MAC, 2), claim("fd00::2", MAC, 2)], |_| Some(0), at(0));
        assert!(!schedule.holds("10.0.0.1".parse().unwrap()), "nobody has been told yet");
        let all = said(&mut schedule, 0, 140);
        assert_eq!(
            all,
            [
                "0?1", "0a1", "0?2", "0a2", "1a1", "1a2", "3a1", "3a2", "7a1", "7a2", "15a1", "15a2", "75?1", "75a1",
                "75?2", "75a2", "135?1", "135a1", "135?2", "135a2"
            ]
        );
        assert!(schedule.holds("10.0.0.1".parse().unwrap()) && !schedule.holds("10.0.0.9".parse().unwrap()));
    }

    #[test]
    fn what_changes_is_announced_anew_and_what_does_not_is_left_alone() {
        let one = claim("10.0.0.1", MAC, 2);
        let two = claim("10.0.0.2", MAC, 3);
        let moved = claim("10.0.0.1", MAC, 3);
        let other = claim("10.0.0.1", MacAddr::virtual_v4(7), 2);
        type Follow<'a> = (&'a str, Vec<Claim>, fn(u32) -> Option<u32>, &'a [&'a str]);
        let cases: [Follow<'_>; 6] = [
            ("the same", vec![one], |_| Some(0), &[]),
            ("one more", vec![one, two], |_| Some(0), &["20?2", "20a2", "21a2"]),
            ("it moves", vec![moved], |_| Some(0), &["20?1", "20a1", "21a1"]),
            ("another MAC", vec![other], |_| Some(0), &["20?1", "20a1", "21a1"]),
            ("its link came up again", vec![one], |_| Some(1), &["20?1", "20a1", "21a1"]),
            ("its link is down", vec![one], |_| None, &[]),
        ];
        for (name, claims, up, wanted) in cases {
            let mut schedule = Schedule::default();
            schedule.follow(&[one], |_| Some(0), at(0));
            said(&mut schedule, 0, 20);
            schedule.follow(&claims, up, at(20_000));
            assert_eq!(said(&mut schedule, 20, 22), wanted, "{name}");
        }
    }

    #[test]
    fn a_link_that_is_down_is_silent_until_it_comes_up() {
        let mut schedule = Schedule::default();
        let claims = [claim("10.0.0.1", MacAddr::virtual_v4(7), 2)];
        schedule.follow(&claims, |_| Some(3), at(0));
        said(&mut schedule, 0, 5);
        schedule.follow(&claims, |_| None, at(5000));
        assert!(said(&mut schedule, 5, 100).is_empty() && !schedule.holds(claims[0].address));
        schedule.follow(&claims, |_| Some(4), at(100_000));
        assert_eq!(said(&mut schedule, 100, 102), ["100?1", "100a1", "101a1"]);
    }

    #[test]
    fn a_mac_that_nobody_else_sends_from_is_never_silent_for_long() {
        let mut schedule = Schedule::default();
        let shared: Vec<Claim> =
            ["10.0.0.1", "10.0.0.2"].map(|address| claim(address, MacAddr::virtual_v4(7), 2)).to_vec();
        schedule.follow(&shared, |_| Some(0), at(0));
        said(&mut schedule, 0, 16);
        // One frame does for both.
        assert_eq!(said(&mut schedule, 16, 60), ["25r1", "35r1", "45r1", "55r1"]);
        // Tables are built anew all the time, and that must not put it off.
        let mut reminded = Vec::new();
        for second in 60..110 {
            schedule.follow(&shared, |_| Some(0), at(second * 1000));
            reminded.extend(said(&mut schedule, second, second + 1));
        }
        assert_eq!(reminded, ["65r1", "75?1", "75a1", "75?2", "75a2", "85r1", "95r1", "105r1"]);
        schedule.follow(&[], |_| Some(0), at(110_000));
        assert!(said(&mut schedule, 110, 300).is_empty());
        assert!(schedule.queue.is_empty() && schedule.stations.is_empty());
    }

    #[test]
    fn a_contested_address_is_told_and_asked_for_again_when_that_is_proper() {
        for address in ["10.0.0.1", "fd00::1"] {
            let mut schedule = Schedule::default();
            let claims = [claim(address, MAC, 2)];
            schedule.follow(&claims, |_| Some(0), at(0));
            said(&mut schedule, 0, 20);
            schedule.contested(claims[0].address, at(20_000));
            // Said once more meanwhile: that puts nothing off.
            schedule.contested(claims[0].address, at(25_000));
            assert_eq!(said(&mut schedule, 20, 60), ["30?1", "30a1", "40?1", "40a1", "50?1", "50a1"], "{address}");
            // It was asked for three times and did not answer.
            assert_eq!(said(&mut schedule, 60, 130), ["60?1", "60a1", "120?1", "120a1"], "{address}");
            schedule.contested("10.0.0.9".parse().unwrap(), at(130_000));
        }
    }

    #[test]
    fn many_addresses_take_turns_and_none_waits_for_ever() {
        let mut schedule = Schedule::default();
        let claims: Vec<Claim> =
            (0..2000).map(|n| claim(&format!("10.0.{}.{}", n / 250, n % 250 + 1), MAC, 2)).collect();
        schedule.follow(&claims, |_| Some(0), at(0));
        let mut rounds = 0;
        while claims.iter().any(|claim| !schedule.holds(claim.address)) {
            let mut count = 0;
            schedule.poll(at(rounds * 50), |saying| count += usize::from(matches!(saying, Saying::Announce(_))));
            assert!(count <= limits::ANNOUNCED_AT_ONCE, "{count} at once");
            rounds += 1;
        }
        // Those that were first are due again meanwhile, and wait behind.
        assert_eq!(rounds as usize, claims.len().div_ceil(limits::ANNOUNCED_AT_ONCE));
    }
}
