//! Value: the part of a classifier that is about what endpoints send: which of it may be a reply that NAT translates.
//!
//! ```text
//! to a group, to this machine, to a link-local address, ICMP but for errors ──▶ the kernel's
//! an ICMP error ── its embedded packet's destination and port ──┐
//! anything else ── its source and port ─────────────────────────┴▶ the rules
//! ```
//!
//! So neighbour discovery, listener reports, broadcasts and pings of endpoints are their own. What is looked for is brought into
//! scratch cells first, one key of protocol and port, so that a rule is short and hundreds fit into a program.
//!
//! Not here: whose flow it is (`flow::decide`), which drops by a named reason what was taken from the kernel and is no reply.

use std::net::IpAddr;

use super::{
    Assembler, Family, GO_ON, ICMPV6, ICMPV6_TYPE, Label, Narrowed, Rule, SHOT, Size, V4_FRAGMENT_OFFSET,
    V6_DESTINATION, V6_NEXT_HEADER, V6_SOURCE, any_v4, equals_v6,
};

/// What an endpoint sends is dropped where a rule matches; the program goes on behind where none does, or gives [`GO_ON`].
pub(super) fn section(code: &mut Assembler, family: Family, sources: &[&Rule], kept: &[Rule]) {
    let (kernel, ready) = (code.label(), code.label());
    // The kernel believes that a program goes on behind its end at `kernel`, and so wants every cell written by then.
    code.set(NO_KEY);
    for cell in ADDRESS..=KEY {
        code.keep(cell);
    }
    // Replies go to one station. What is sent to a group is for every host on the link.
    code.load_absolute(Size::Byte, 0);
    code.if_any(GROUP, kernel);
    match family {
        Family::V4 => v4(code, kernel, ready),
        Family::V6 => v6(code, kernel, ready),
    }
    code.place(kernel);
    code.give(GO_ON);
    code.place(ready);
    keep(code, family, kept);
    for rule in sources {
        let next = code.label();
        match rule.address {
            IpAddr::V4(address) => {
                code.recall(ADDRESS);
                code.unless(address.to_bits(), next);
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h] = address.segments().map(u32::from);
                for (cell, word) in [(3, g << 16 | h), (2, e << 16 | f), (1, c << 16 | d), (0, a << 16 | b)] {
                    code.recall(ADDRESS + cell);
                    code.unless(word, next);
                }
            }
        }
        if let Some(Narrowed { protocol, ports }) = &rule.narrowed {
            let protocol = u32::from(*protocol) << 16;
            let (first, last) = ports.as_ref().map_or((0, u16::MAX), |ports| (*ports.start(), *ports.end()));
            code.recall(KEY);
            code.unless_between(&(protocol | u32::from(first)..=protocol | u32::from(last)), next);
        }
        code.give(SHOT);
        code.place(next);
    }
}

/// Lets ICMP errors through, of which the engine knows what they are about: routers before endpoints send them too.
pub(super) fn errors(code: &mut Assembler, family: Family, hit: u32) {
    let (other, error) = (code.label(), code.label());
    match family {
        Family::V4 => {
            code.load(Size::Byte, V4_PROTOCOL);
            code.unless(ICMP, other);
            code.load(Size::Byte, 14);
            code.header_length_to_index();
            code.load(Size::Byte, 14);
            one_of(code, V4_ERRORS, error);
        }
        Family::V6 => {
            code.load(Size::Byte, V6_NEXT_HEADER);
            code.unless(ICMPV6, other);
            code.load(Size::Byte, ICMPV6_TYPE);
            one_of(code, V6_ERRORS, error);
        }
    }
    code.jump(other);
    code.place(error);
    code.give(hit);
    code.place(other);
}

/// What goes to this machine, as answers to probes do, or to an address that means nothing beyond its link.
fn keep(code: &mut Assembler, family: Family, kept: &[Rule]) {
    code.restore_index();
    if family == Family::V4 {
        any_v4(code, 30, kept.iter(), GO_ON);
        return;
    }
    let next = code.label();
    code.load(Size::Half, V6_DESTINATION);
    code.unless_between(&(0xfe80..=0xfebf), next);
    code.give(GO_ON);
    code.place(next);
    for rule in kept {
        if let IpAddr::V6(address) = rule.address {
            let next = code.label();
            equals_v6(code, V6_DESTINATION, address, next);
            code.give(GO_ON);
            code.place(next);
        }
    }
}

fn v4(code: &mut Assembler, kernel: Label, ready: Label) {
    let (plain, error, later) = (code.label(), code.label(), code.label());
    code.load(Size::Byte, V4_PROTOCOL);
    code.unless(ICMP, plain);
    code.load(Size::Half, 20);
    code.if_any(V4_FRAGMENT, kernel);
    code.load(Size::Byte, 14);
    code.header_length_to_index();
    code.load(Size::Byte, 14);
    one_of(code, V4_ERRORS, error);
    code.jump(kernel);
    code.place(error);
    // The embedded header begins 22 bytes past the index, and its transport's that again past the longer one.
    code.load(Size::Word, 38);
    code.keep(ADDRESS);
    code.load(Size::Byte, 31);
    code.keep(PROTOCOL);
    code.load(Size::Half, 28);
    code.if_any(V4_FRAGMENT_OFFSET, later);
    code.load(Size::Byte, 22);
    code.header_length_to_index();
    key(code, 24, ready);
    code.place(plain);
    code.keep(PROTOCOL);
    code.load(Size::Word, 26);
    code.keep(ADDRESS);
    code.load(Size::Half, 20);
    code.if_any(V4_FRAGMENT_OFFSET, later);
    code.load(Size::Byte, 14);
    code.header_length_to_index();
    key(code, 14, ready);
    without_port(code, later, ready);
}

fn v6(code: &mut Assembler, kernel: Label, ready: Label) {
    let (plain, whole, icmp, error, later) = (code.label(), code.label(), code.label(), code.label(), code.label());
    address_v6(code, V6_SOURCE);
    code.load(Size::Byte, V6_NEXT_HEADER);
    one_of(code, &[ICMPV6], icmp);
    code.unless(FRAGMENT, plain);
    code.load(Size::Byte, 54);
    one_of(code, &[ICMPV6], kernel);
    fragmented(code, 54, later);
    key(code, 62, ready);
    code.place(icmp);
    code.load(Size::Byte, ICMPV6_TYPE);
    one_of(code, V6_ERRORS, error);
    code.jump(kernel);
    code.place(error);
    address_v6(code, 86);
    code.load(Size::Byte, 68);
    code.unless(FRAGMENT, whole);
    fragmented(code, 102, later);
    key(code, 112, ready);
    code.place(whole);
    code.keep(PROTOCOL);
    key(code, 104, ready);
    code.place(plain);
    code.keep(PROTOCOL);
    key(code, 54, ready);
    without_port(code, later, ready);
}

/// Reads a fragment header; a later one shows no port.
fn fragmented(code: &mut Assembler, at: u32, later: Label) {
    code.load(Size::Byte, at);
    code.keep(PROTOCOL);
    code.load(Size::Half, at + 2);
    code.if_any(V6_FRAGMENT_OFFSET, later);
}

fn address_v6(code: &mut Assembler, at: u32) {
    for cell in 0..4 {
        code.load(Size::Word, at + cell * 4);
        code.keep(ADDRESS + cell);
    }
}

/// The key: the protocol, and the port `port_at` bytes past the index where it has one.
fn key(code: &mut Assembler, port_at: u32, ready: Label) {
    for protocol in WITH_PORTS {
        let next = code.label();
        code.recall(PROTOCOL);
        code.unless(protocol, next);
        code.load(Size::Half, port_at);
        code.or(protocol << 16);
        code.keep(KEY);
        code.jump(ready);
        code.place(next);
    }
    code.recall(PROTOCOL);
    code.shift_left(16);
    code.keep(KEY);
    code.jump(ready);
}

fn without_port(code: &mut Assembler, later: Label, ready: Label) {
    code.place(later);
    code.set(NO_KEY);
    code.keep(KEY);
    code.jump(ready);
}

/// To `to`, however far, if the accumulator is one of `values`.
fn one_of(code: &mut Assembler, values: &[u32], to: Label) {
    for value in values {
        code.skip_unless(*value, 1);
        code.jump(to);
    }
}

// Scratch cells; the first keeps the index register.
/// Four for IPv6.
const ADDRESS: u32 = 1;
const PROTOCOL: u32 = 5;
const KEY: u32 = 6;
/// No rule's: protocols have eight bits.
const NO_KEY: u32 = u32::MAX;

/// The first byte of a group's MAC address has this.
const GROUP: u32 = 1;
const V4_PROTOCOL: u32 = 23;
/// More fragments, or an offset.
const V4_FRAGMENT: u32 = 0x3fff;
const V6_FRAGMENT_OFFSET: u32 = 0xfff8;
const FRAGMENT: u32 = 44;
const ICMP: u32 = 1;
/// Unreachable, time exceeded, parameter problem (RFC 792).
const V4_ERRORS: &[u32] = &[3, 11, 12];
/// Unreachable, too big, time exceeded, parameter problem (RFC 4443).
const V6_ERRORS: &[u32] = &[1, 2, 3, 4];
/// TCP and UDP, as `flow` knows ports.
const WITH_PORTS: [u32; 2] = [6, 17];
