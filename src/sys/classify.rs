//! Value: which frames are Strata's, and the classic BPF programs that say so to the kernel.
//!
//! One list of rules serves two places: the packet socket's filter, so that other traffic costs nothing, and the ingress
//! classifier that keeps the kernel from processing the same packets a second time (`ingress`). The programs read frames with
//! the outer VLAN tag taken out, as the kernel hands them over, and with one tag more inside.
//!
//! Not here: deciding. A filter may let through more than is Strata's, and the engine passes that on. A classifier may not: what it
//! drops and the engine passes would be lost without a word.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use socket2::SockFilter;

use super::assemble::{Assembler, Instruction, Label, Size};
use crate::base::{MacAddr, limits};

mod replies;

/// Packets that are Strata's, by one address of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    pub side: Side,
    pub address: IpAddr,
    /// `None`: all that is sent there, ARP requests and neighbour solicitations for it included; all that may be a reply.
    pub narrowed: Option<Narrowed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// A VIP, or the address that full NAT sends from.
    Destination,
    /// An endpoint whose replies NAT translates back, and the errors about what clients sent it, whoever sends those.
    Source,
    /// An address of this machine: what a `Source` sends there is the kernel's all the same, for it probes endpoints too.
    Kept,
}

/// A part of what an address sends or receives. Fragments after the first and packets behind other IPv6 extension headers than a
/// fragment's do not show their ports: the kernel keeps them. It may forward the former, and nothing comes of it, for nobody gets
/// the first one from there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Narrowed {
    pub protocol: u8,
    /// Ports on the rule's side.
    pub ports: Option<RangeInclusive<u16>>,
}

impl Rule {
    /// Everything to `address`.
    pub const fn to(address: IpAddr) -> Rule {
        Rule { side: Side::Destination, address, narrowed: None }
    }

    /// Everything from `address`.
    pub const fn from(address: IpAddr) -> Rule {
        Rule { side: Side::Source, address, narrowed: None }
    }

    /// The kernel keeps what [`Rule::from`] rules would take from it, if it goes to `address`.
    pub const fn keep(address: IpAddr) -> Rule {
        Rule { side: Side::Kept, address, narrowed: None }
    }

    #[must_use]
    pub fn narrowed(mut self, protocol: u8, ports: Option<RangeInclusive<u16>>) -> Rule {
        self.narrowed = Some(Narrowed { protocol, ports });
        self
    }

    pub fn is_kept(&self) -> bool {
        self.side == Side::Kept
    }

    pub fn is_source(&self) -> bool {
        self.side == Side::Source
    }

    /// The kernel must not speak for it: the address is Strata's alone.
    const fn is_owned(&self) -> bool {
        matches!((self.side, &self.narrowed), (Side::Destination, None))
    }
}

/// A program for a packet socket.
pub(super) struct Filter {
    pub(super) code: Vec<SockFilter>,
}

/// What a program for a packet socket should let through.
pub(super) struct Wanted<'a> {
    /// `None`: every frame.
    pub(super) rules: Option<&'a [Rule]>,
    /// Addresses of ours besides the interface's own. A frame to another station, which a bridge has flooded, is not ours:
    /// forwarding it would send it round in circles.
    pub(super) macs: &'a [MacAddr],
    /// Whether the reader learns of the tag that was taken out. One that does not gets the bare header of a tagged frame,
    /// so that it can count what it cannot carry.
    pub(super) tags: bool,
}

/// Bytes that are left of a tagged frame for a reader that cannot see tags.
pub(super) const TAGGED_REST: u32 = 14;

impl Filter {
    pub(super) fn new(wanted: &Wanted<'_>) -> Filter {
        let mut code = socket_program(wanted);
        if code.len() > MOST {
            // Correct still: the engine passes on what is not its own, at its own cost.
            code = socket_program(&Wanted { rules: None, ..*wanted });
        }
        Filter { code: code.into_iter().map(Instruction::into).collect() }
    }

    /// Lets through what says where somebody is, if it is sent to this machine: ARP replies and neighbour advertisements.
    pub(super) fn where_somebody_is() -> Filter {
        let mut code = Assembler::default();
        only_to(&mut code, &[]);
        let [arp, v4, v6] = families(&mut code, MISS);
        code.place(arp);
        code.load(Size::Half, ARP_OPERATION);
        code.skip_unless(ARP_REPLY, 1);
        code.give(HIT);
        code.give(MISS);
        code.place(v4);
        code.give(MISS);
        code.place(v6);
        code.load(Size::Byte, V6_NEXT_HEADER);
        code.skip_if(ICMPV6, 1);
        code.give(MISS);
        code.load(Size::Byte, ICMPV6_TYPE);
        code.skip_unless(ADVERTISEMENT, 1);
        code.give(HIT);
        code.give(MISS);
        Filter { code: code.finish().into_iter().map(Instruction::into).collect() }
    }

    /// Lets nothing through: for a socket that only sends.
    pub(super) fn nothing() -> Filter {
        let mut code = Assembler::default();
        code.give(MISS);
        Filter { code: code.finish().into_iter().map(Instruction::into).collect() }
    }
}

/// Programs for `cls_bpf` with direct action: what a rule matches is dropped, anything else goes on to the next classifier.
/// At most [`limits::OWN_ADDRESSES`] can be kept: who makes the rules sees to it.
pub(super) fn classifiers(rules: &[Rule]) -> Vec<Vec<Instruction>> {
    let (kept, taken): (Vec<Rule>, Vec<Rule>) = rules.iter().cloned().partition(|rule| rule.side == Side::Kept);
    let kept = kept.get(..limits::OWN_ADDRESSES).unwrap_or(&kept);
    taken.chunks(rules_beside(kept.len())).map(|taken| classifier(taken, kept)).collect()
}

/// How many rules fit into a program that keeps so many addresses.
const fn rules_beside(kept: usize) -> usize {
    (MOST - FRAME - kept * A_KEPT) / A_RULE
}

fn socket_program(wanted: &Wanted<'_>) -> Vec<Instruction> {
    let mut code = Assembler::default();
    if !wanted.tags {
        code.load_ancillary(libc::SKF_AD_VLAN_TAG_PRESENT);
        code.skip_if(0, 1);
        code.give(TAGGED_REST);
    }
    only_to(&mut code, wanted.macs);
    let Some(rules) = wanted.rules else {
        code.give(HIT);
        return code.finish();
    };
    // A narrowed rule is one of many for its address, which the tap hears all of.
    let mut seen = BTreeSet::new();
    let taken = rules.iter().filter(|rule| rule.side != Side::Kept);
    let taken: Vec<&Rule> = taken.filter(|rule| seen.insert((rule.side == Side::Source, rule.address))).collect();
    let rules = || taken.iter().copied();
    let replies = |family| rules().any(|rule| rule.side == Side::Source && family_of(rule.address) == family);
    let [arp, v4, v6] = families(&mut code, MISS);
    code.place(arp);
    for at in [ARP_SENDER, ARP_TARGET] {
        any_v4(&mut code, at, rules(), HIT);
    }
    code.give(MISS);
    code.place(v4);
    by_address(&mut code, rules().map(|rule| (rule.side, rule.address, None)), Family::V4, HIT);
    if replies(Family::V4) {
        replies::errors(&mut code, Family::V4, HIT);
    }
    code.give(MISS);
    code.place(v6);
    by_address(&mut code, rules().map(|rule| (rule.side, rule.address, None)), Family::V6, HIT);
    neighbour(&mut code, &[SOLICITATION, ADVERTISEMENT], rules(), HIT);
    if replies(Family::V6) {
        replies::errors(&mut code, Family::V6, HIT);
    }
    code.give(MISS);
    code.finish()
}

fn classifier(rules: &[Rule], kept: &[Rule]) -> Vec<Instruction> {
    let mut code = Assembler::default();
    // What goes to another station is dropped by the kernel itself or, through a bridge, none of our business.
    code.load_ancillary(libc::SKF_AD_PKTTYPE);
    code.skip_unless(u32::from(libc::PACKET_OTHERHOST), 1);
    code.give(GO_ON);
    let owned = || rules.iter().filter(|rule| rule.is_owned());
    let [arp, v4, v6] = families(&mut code, GO_ON);
    code.place(arp);
    code.load(Size::Half, ARP_OPERATION);
    code.skip_if(ARP_REQUEST, 1);
    code.give(GO_ON);
    any_v4(&mut code, ARP_TARGET, owned(), SHOT);
    code.give(GO_ON);
    let of = |side| rules.iter().filter(move |rule| rule.side == side);
    for (section, family) in [(v4, Family::V4), (v6, Family::V6)] {
        code.place(section);
        by_address(&mut code, of(Side::Destination).map(entry), family, SHOT);
        if family == Family::V6 {
            neighbour(&mut code, &[SOLICITATION], owned(), SHOT);
        }
        let sources: Vec<&Rule> = of(Side::Source).filter(|rule| family_of(rule.address) == family).collect();
        if !sources.is_empty() {
            replies::section(&mut code, family, &sources, kept);
        }
        code.give(GO_ON);
    }
    code.finish()
}

/// Ends with [`MISS`] for a frame to a station that is none of ours.
fn only_to(code: &mut Assembler, macs: &[MacAddr]) {
    let ours = code.label();
    code.load_ancillary(libc::SKF_AD_PKTTYPE);
    code.skip_if(u32::from(libc::PACKET_OTHERHOST), 1);
    code.jump(ours);
    for mac in macs {
        let [a, b, c, d, e, f] = mac.0;
        let next = code.label();
        code.load_absolute(Size::Word, 0);
        code.unless(u32::from_be_bytes([a, b, c, d]), next);
        code.load_absolute(Size::Half, 4);
        code.unless(u32::from(u16::from_be_bytes([e, f])), next);
        code.jump(ours);
        code.place(next);
    }
    code.give(MISS);
    code.place(ours);
}

/// Sets the index register to the length of a tag that is left in the frame, and goes where its type belongs.
fn families(code: &mut Assembler, miss: u32) -> [Label; 3] {
    let sections = [code.label(), code.label(), code.label()];
    let (tagged, known) = (code.label(), code.label());
    code.set_index(0);
    code.load_absolute(Size::Half, 12);
    code.skip_unless(0x8100, 1);
    code.jump(tagged);
    code.skip_unless(0x88a8, 1);
    code.jump(tagged);
    code.jump(known);
    code.place(tagged);
    code.set_index(4);
    code.place(known);
    code.keep_index();
    code.load(Size::Half, 12);
    for (ether_type, section) in [0x0806, 0x0800, 0x86dd].into_iter().zip(sections) {
        code.skip_unless(ether_type, 1);
        code.jump(section);
    }
    code.give(miss);
    sections
}

fn any_v4<'a>(code: &mut Assembler, at: u32, rules: impl Iterator<Item = &'a Rule>, hit: u32) {
    code.load(Size::Word, at);
    for rule in rules {
        if let IpAddr::V4(address) = rule.address {
            code.skip_unless(address.to_bits(), 1);
            code.give(hit);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Family {
    V4,
    V6,
}

const fn family_of(address: IpAddr) -> Family {
    if address.is_ipv6() { Family::V6 } else { Family::V4 }
}

type Entry<'a> = (Side, IpAddr, Option<&'a Narrowed>);

fn entry(rule: &Rule) -> Entry<'_> {
    (rule.side, rule.address, rule.narrowed.as_ref())
}

fn by_address<'a>(code: &mut Assembler, entries: impl Iterator<Item = Entry<'a>>, family: Family, hit: u32) {
    for (side, address, narrowed) in entries {
        let next = code.label();
        match (address, family) {
            (IpAddr::V4(address), Family::V4) => match_v4(code, side, address, narrowed, next),
            (IpAddr::V6(address), Family::V6) => {
                let at = if side == Side::Source { V6_SOURCE } else { V6_DESTINATION };
                equals_v6(code, at, address, next);
                match_v6_transport(code, side, narrowed, next);
            }
            _ => continue,
        }
        code.give(hit);
        code.place(next);
    }
}

/// Goes on behind itself when it matches, to `next` when not.
fn match_v4(code: &mut Assembler, side: Side, address: Ipv4Addr, narrowed: Option<&Narrowed>, next: Label) {
    code.load(Size::Word, if side == Side::Source { 26 } else { 30 });
    code.unless(address.to_bits(), next);
    let Some(Narrowed { protocol, ports }) = narrowed else { return };
    code.load(Size::Byte, 23);
    code.unless(u32::from(*protocol), next);
    let Some(ports) = ports else { return };
    code.load(Size::Half, 20);
    code.if_any(V4_FRAGMENT_OFFSET, next);
    // The index register becomes the tag's length and the header's.
    code.load(Size::Byte, 14);
    code.header_length_to_index();
    code.load(Size::Half, if side == Side::Source { 14 } else { 16 });
    code.restore_index();
    code.unless_between(&wide(ports), next);
}

fn match_v6_transport(code: &mut Assembler, side: Side, narrowed: Option<&Narrowed>, next: Label) {
    let Some(Narrowed { protocol, ports }) = narrowed else { return };
    code.load(Size::Byte, V6_NEXT_HEADER);
    code.unless(u32::from(*protocol), next);
    let Some(ports) = ports else { return };
    code.load(Size::Half, if side == Side::Source { 54 } else { 56 });
    code.unless_between(&wide(ports), next);
}

fn wide(ports: &RangeInclusive<u16>) -> RangeInclusive<u32> {
    u32::from(*ports.start())..=u32::from(*ports.end())
}

fn equals_v6(code: &mut Assembler, at: u32, address: Ipv6Addr, next: Label) {
    let [a, b, c, d, e, f, g, h] = address.segments().map(u32::from);
    // The last word first: addresses of one network differ there.
    for (offset, word) in [(12, g << 16 | h), (8, e << 16 | f), (4, c << 16 | d), (0, a << 16 | b)] {
        code.load(Size::Word, at + offset);
        code.unless(word, next);
    }
}

/// Neighbour discovery for an address of the rules.
fn neighbour<'a>(code: &mut Assembler, types: &[u32], rules: impl Iterator<Item = &'a Rule>, hit: u32) {
    let (other, asked) = (code.label(), code.label());
    code.load(Size::Byte, V6_NEXT_HEADER);
    code.skip_if(ICMPV6, 1);
    code.jump(other);
    code.load(Size::Byte, ICMPV6_TYPE);
    for kind in types {
        code.skip_unless(*kind, 1);
        code.jump(asked);
    }
    code.jump(other);
    code.place(asked);
    for rule in rules {
        if let IpAddr::V6(address) = rule.address {
            let next = code.label();
            equals_v6(code, V6_TARGET, address, next);
            code.give(hit);
            code.place(next);
        }
    }
    code.place(other);
}

/// Instructions that the kernel takes (`BPF_MAXINSNS`).
const MOST: usize = 4096;
/// Instructions of a classifier that no rule adds to, and a few more.
const FRAME: usize = 256;
/// Instructions of the longest rule: an IPv6 address that is owned, as a destination and as the target of a solicitation.
const A_RULE: usize = 18;
/// Instructions for an IPv6 address that the kernel keeps, in every classifier.
const A_KEPT: usize = 9;
/// Whatever a machine has, a good many rules fit into a program beside it.
const _: () = assert!(rules_beside(limits::OWN_ADDRESSES) >= 64);

/// A filter's value is how many bytes pass.
const HIT: u32 = u32::MAX;
const MISS: u32 = 0;
/// A classifier's is an action: `TC_ACT_SHOT` drops, `TC_ACT_UNSPEC` asks the next classifier.
pub(super) const SHOT: u32 = 2;
pub(super) const GO_ON: u32 = u32::MAX;

// Offsets in a frame without tags.
const ARP_OPERATION: u32 = 20;
const ARP_SENDER: u32 = 28;
const ARP_TARGET: u32 = 38;
const ARP_REQUEST: u32 = 1;
const ARP_REPLY: u32 = 2;
const V4_FRAGMENT_OFFSET: u32 = 0x1fff;
const V6_NEXT_HEADER: u32 = 20;
const V6_SOURCE: u32 = 22;
const V6_DESTINATION: u32 = 38;
const V6_TARGET: u32 = 62;
const ICMPV6: u32 = 58;
const ICMPV6_TYPE: u32 = 54;
const SOLICITATION: u32 = 135;
const ADVERTISEMENT: u32 = 136;

#[cfg(test)]
pub(super) mod tests;
