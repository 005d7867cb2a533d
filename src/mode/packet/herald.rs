//! Shell: tells the network where VIPs are, and keeps who has them: `ha` says when, one socket that only sends says it.
//!
//! The control thread owns it and calls it each tick: what is said follows the tables that are in force, and nothing that
//! workers do can make it late.
//!
//! Not here: answering who asks, and defending at once, which the data path does (`flow::decide`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::inputs::Machine;
use crate::base::{MacAddr, Moment, limits};
use crate::flow::tables::{Inputs, Link, LinkId, Vip};
use crate::ha::{Claim, Saying, Schedule, Station};
use crate::state::Snapshot;
use crate::sys::packet::Speaker;
use crate::wire::arp::Arp;
use crate::wire::ethernet::{self, Tag};
use crate::wire::ip;
use crate::wire::ndp::{self, Neighbor, Peer};

/// See the file's head.
pub(super) struct Herald {
    schedule: Schedule,
    speaker: Speaker,
    /// Who we are on each link, where VIPs are IPv6's.
    askers: HashMap<LinkId, Peer>,
    /// When another machine last claimed an address. As many as there are addresses of ours at most.
    contested: HashMap<IpAddr, Moment>,
    judged_at: Moment,
    complained_at: Option<Moment>,
}

impl Herald {
    pub fn new(speaker: Speaker) -> Herald {
        Herald {
            schedule: Schedule::default(),
            speaker,
            askers: HashMap::new(),
            contested: HashMap::new(),
            judged_at: Moment::ZERO,
            complained_at: None,
        }
    }

    /// Takes over the addresses of the tables that were just published.
    pub fn follow(&mut self, inputs: &Inputs, machine: &Machine, now: Moment) {
        let claims: Vec<Claim> = inputs.vips.iter().map(|vip| claim(vip, inputs)).collect();
        let up = |interface| machine.running.iter().find(|(index, _)| *index == interface).map(|(_, changes)| *changes);
        self.schedule.follow(&claims, up, now);
        self.askers = askers(&inputs.links, &inputs.vips);
        self.contested.retain(|address, _| claims.iter().any(|claim| claim.address == *address));
        self.judged_at = Moment::ZERO;
    }

    /// Another machine claims an address of ours.
    pub fn contested(&mut self, address: IpAddr, snapshot: &Snapshot, now: Moment) {
        self.schedule.contested(address, now);
        self.contested.insert(address, now);
        if let Some(vip) = snapshot.vips().find(|vip| vip.spec.addresses.contains(&address)) {
            vip.title.contest();
            vip.title.set_owner(false);
        }
    }

    /// Says what is due, and notes who has each VIP.
    pub fn speak(&mut self, snapshot: &Snapshot, now: Moment) {
        let (mut spoke, mut failed) = (false, None);
        let (speaker, askers) = (&self.speaker, &self.askers);
        self.schedule.poll(now, |saying| {
            spoke = true;
            let said = frames(saying, askers).into_iter().flatten().try_for_each(|frame| frame.say(speaker));
            failed = said.err().or(failed.take());
        });
        // A link that went down is seen at the next look, and announced by when it is up.
        if let Some(error) = failed.filter(|error| error.raw_os_error() != Some(libc::ENETDOWN))
            && self.complained_at.is_none_or(|at| now.since(at) >= COMPLAIN)
        {
            self.complained_at = Some(now);
            tracing::warn!(%error, "a VIP cannot be announced");
        }
        if spoke || now.since(self.judged_at) >= JUDGE {
            self.judged_at = now;
            self.judge(snapshot, now);
        }
    }

    fn judge(&mut self, snapshot: &Snapshot, now: Moment) {
        self.contested.retain(|_, at| now.since(*at) < limits::CONTESTED);
        let is_ours = |address: &IpAddr| self.schedule.holds(*address) && !self.contested.contains_key(address);
        for vip in snapshot.vips() {
            vip.title.set_owner(vip.spec.addresses.iter().all(is_ours));
        }
    }
}

fn claim(vip: &Vip, inputs: &Inputs) -> Claim {
    let own = inputs.links.iter().find(|link| link.id == vip.link).map(|link| link.mac);
    let station = Station { interface: vip.link.interface, vlan: vip.link.vlan, mac: vip.mac };
    Claim { address: vip.address, station, sole: own != Some(vip.mac) || vip.link.vlan != 0 }
}

/// Who asks for IPv6 addresses. A solicitation that came from the VIP itself would be answered to whoever has it.
fn askers(links: &[Link], vips: &[Vip]) -> HashMap<LinkId, Peer> {
    let is_vip = |address: Ipv6Addr| vips.iter().any(|vip| vip.address == address);
    let links = links.iter().filter(|link| vips.iter().any(|vip| vip.link == link.id));
    let asker = |link: &Link| {
        let v6 = |address: &IpAddr| if let IpAddr::V6(v6) = address { Some(*v6) } else { None };
        let own = || link.addresses.iter().filter_map(v6).filter(|address| !is_vip(*address));
        // Where the kernel has none there is one that nobody else can have, for the MAC address is ours.
        let address = own().find(Ipv6Addr::is_unicast_link_local).or_else(|| own().next());
        Peer { mac: link.mac, address: address.unwrap_or_else(|| ndp::link_local(link.mac)) }
    };
    links.map(|link| (link.id, asker(link))).collect()
}

/// A frame with its tag, where it has one, and the interface that it leaves by.
struct Words {
    interface: u32,
    bytes: [u8; ethernet::TAG_LEN + ndp::FRAME_LEN],
    start: usize,
    end: usize,
}

impl Words {
    fn new(station: Station, frame: &[u8]) -> Words {
        let (start, mut bytes) = (ethernet::TAG_LEN, [0; ethernet::TAG_LEN + ndp::FRAME_LEN]);
        let end = start + frame.len().min(ndp::FRAME_LEN);
        bytes[start..end].copy_from_slice(&frame[..end - start]);
        let mut words = Words { interface: station.interface, bytes, start, end };
        if station.vlan != 0 && ethernet::insert_tag(&mut words.bytes, Tag::vlan(station.vlan)).is_ok() {
            words.start = 0;
        }
        words
    }

    fn say(&self, speaker: &Speaker) -> std::io::Result<()> {
        speaker.say(self.interface, &self.bytes[self.start..self.end])
    }
}

/// What is said, as frames. An announcement by ARP has both its forms: there are hosts that take one of them only.
fn frames(saying: Saying, askers: &HashMap<LinkId, Peer>) -> [Option<Words>; 2] {
    let (Saying::Announce(Claim { address, station, .. })
    | Saying::Ask(Claim { address, station, .. })
    | Saying::Remind(Claim { address, station, .. })) = saying;
    let words = |frame: &[u8]| Some(Words::new(station, frame));
    match (address, saying) {
        (IpAddr::V4(address), Saying::Announce(_)) => [
            words(&Arp::announcement(station.mac, address).frame()),
            words(&Arp::told(station.mac, address).frame_to(MacAddr::BROADCAST)),
        ],
        (IpAddr::V4(address), Saying::Remind(_)) => [words(&Arp::announcement(station.mac, address).frame()), None],
        (IpAddr::V4(address), Saying::Ask(_)) => [words(&Arp::probe(station.mac, address).frame()), None],
        (IpAddr::V6(target), Saying::Ask(_)) => {
            let link = LinkId { interface: station.interface, vlan: station.vlan };
            let written = askers.get(&link).and_then(|asker| {
                let (question, mut out) =
                    (Neighbor::Solicitation { target, source_mac: Some(asker.mac) }, [0; ndp::FRAME_LEN]);
                let len = question.frame(*asker, Neighbor::group(target), &mut out).ok()?;
                words(out.get(..len)?)
            });
            [written, None]
        }
        (IpAddr::V6(address), Saying::Announce(_) | Saying::Remind(_)) => {
            let all = Peer { mac: MacAddr::multicast_v6(ip::ALL_NODES), address: ip::ALL_NODES };
            let (us, mut out) = (Peer { mac: station.mac, address }, [0; ndp::FRAME_LEN]);
            let written = Neighbor::announcement(station.mac, address).frame(us, all, &mut out).ok();
            [written.and_then(|len| words(out.get(..len)?)), None]
        }
    }
}

/// How often it is looked at who has each VIP, when nothing happens.
const JUDGE: Duration = Duration::from_secs(1);
/// How long a failure to announce is not told again.
const COMPLAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::show;

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn who_asks_is_never_the_vip() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let plain = LinkId::plain(2);
        for (addresses, asker) in [
            (&["10.0.0.2", "fd00::2", "fe80::1:2"][..], "fe80::1:2"),
            (&["fd00::100", "fd00::2"], "fd00::2"),
            (&["10.0.0.2", "fd00::100"], "fe80::ff:fe00:2"),
        ] {
            let link = Link {
                id: plain,
                mac: OWN,
                mtu: 1500,
                addresses: addresses.iter().map(|address| at(address)).collect(),
            };
            let elsewhere = Link { id: LinkId::plain(3), ..link.clone() };
            let vip = Vip { address: at("fd00::100"), link: plain, mac: MacAddr::virtual_v6(51) };
            let want = Peer { mac: OWN, address: asker.parse().unwrap() };
            assert_eq!(askers(&[elsewhere, link], &[vip]), HashMap::from([(plain, want)]), "{addresses:?}");
        }
    }

    /// As `show` prints each frame of an announcement, a question and a reminder.
    fn shown(address: &str, vlan: u16) -> Vec<String> {
        let address: IpAddr = address.parse().unwrap();
        let mac = if address.is_ipv4() { MacAddr::virtual_v4(51) } else { MacAddr::virtual_v6(51) };
        let claim = Claim { address, station: Station { interface: 2, vlan, mac }, sole: true };
        let said = [Saying::Announce(claim), Saying::Ask(claim), Saying::Remind(claim)];
        let asker = Peer { mac: OWN, address: ndp::link_local(OWN) };
        let askers = HashMap::from([(LinkId { interface: 2, vlan }, asker)]);
        let frames = said.into_iter().flat_map(|saying| frames(saying, &askers)).flatten();
        frames.map(|frame| show::frame(&frame.bytes[frame.start..frame.end]).to_string()).collect()
    }

    #[test]
    fn every_saying_but_a_question_of_ipv6_is_from_the_vips_mac_and_all_have_their_links_tag() {
        for (address, count) in [("10.0.0.100", 4), ("fd00::100", 3)] {
            for vlan in [0, 7] {
                let shown = shown(address, vlan);
                assert_eq!(shown.len(), count, "{shown:#?}");
                for frame in &shown {
                    let asks = address == "fd00::100" && frame.contains("who-has");
                    assert_eq!(frame.starts_with("00:00:5e:00:0"), !asks, "{frame}");
                    assert!(!asks || frame.contains("fe80::ff:fe00:2 >"), "{frame}");
                    assert_eq!(frame.contains("vlan 7"), vlan == 7, "{frame}");
                    assert!(frame.contains(address), "{frame}");
                }
            }
        }
    }
}
