//! Shell: the ICMP probe: the endpoint, which is a host here and not a port of it, answers an echo request.
//!
//! Who answers has to know what was asked: address, identifier, sequence number and bytes that nobody could guess. What a
//! router or the endpoint says instead (host unreachable and the like) is the reason. Not here: the sockets (`sys::echo`).

use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use tokio::net::UdpSocket;

use super::{ours, reason};
use crate::doc::{Grammar, Settings};
use crate::seam::Probe;
use crate::seam::probe::{Aim, FALL, Failure, INTERVAL, RISE, Spec, TIMEOUT};
use crate::sys::echo::{self, Echo};
use crate::wire::{icmpv4, icmpv6};

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "icmp",
        summary: "the endpoint's host answers an echo request (ping)",
        fields: &[INTERVAL, TIMEOUT, RISE, FALL],
        example: "probe = { type = \"icmp\", interval = \"1s\", timeout = \"200ms\" }",
    },
    build: |_: &Settings| Box::new(Icmp),
    able,
};

fn able() -> Result<(), String> {
    for family in [IpAddr::from([0; 4]), IpAddr::from([0; 16])] {
        if let Err(error) = echo::permitted(family)
            && matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
        {
            return Err(FORBIDDEN.to_owned());
        }
    }
    Ok(())
}

struct Icmp;

impl Probe for Icmp {
    fn check<'a>(&'a self, aim: &'a Aim) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>> {
        Box::pin(ask(aim.endpoint.ip()))
    }
}

async fn ask(to: IpAddr) -> Result<(), Failure> {
    let Echo { socket, form } = Echo::open(to).map_err(|error| unopened(&error))?;
    let socket = UdpSocket::from_std(socket).map_err(|error| ours(&error))?;
    let (identifier, sequence) = (form.identifier, fastrand::u16(..));
    let question = Question { identifier, sequence, nonce: fastrand::u128(..).to_be_bytes() };
    socket.send(&question.bytes(to)).await.map_err(|error| reason("echo", &error))?;
    let mut buffer = [0; ROOM];
    loop {
        let (length, by) = socket.recv_from(&mut buffer).await.map_err(|error| reason("echo", &error))?;
        let message = form.message(buffer.get(..length).unwrap_or_default());
        if by.ip() == to && question.is_answered(to, message) {
            return Ok(());
        }
    }
}

fn unopened(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Failure::Ours(FORBIDDEN.into()),
        // No way leads there: a client's packets would find none either.
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => reason("echo", error).into(),
        _ => ours(error),
    }
}

/// An echo request, as its answer has to repeat it.
struct Question {
    identifier: u16,
    sequence: u16,
    nonce: [u8; 16],
}

impl Question {
    fn bytes(&self, to: IpAddr) -> Vec<u8> {
        let rest = u32::from(self.identifier) << 16 | u32::from(self.sequence);
        if to.is_ipv6() {
            // The kernel puts in the checksum, which covers addresses that it chooses (RFC 3542 §3.1).
            let header = icmpv6::Header { kind: icmpv6::ECHO_REQUEST, code: 0, checksum: 0, rest };
            return [&header.emit()[..], &self.nonce].concat();
        }
        let header = icmpv4::Header { kind: icmpv4::ECHO_REQUEST, code: 0, checksum: 0, rest };
        let mut bytes = [&header.emit()[..], &self.nonce].concat();
        if let Ok(mut message) = icmpv4::Message::new_checked(&mut bytes[..]) {
            message.fill_checksum();
        }
        bytes
    }

    /// The kernel has looked at the checksum.
    fn is_answered(&self, by: IpAddr, message: &[u8]) -> bool {
        let reply = if by.is_ipv6() { icmpv6::ECHO_REPLY } else { icmpv4::ECHO_REPLY };
        // An echo looks the same in both families, but for its type.
        icmpv4::Message::new_checked(message).is_ok_and(|message| {
            (message.kind(), message.code()) == (reply, 0)
                && (message.identifier(), message.sequence()) == (self.identifier, self.sequence)
                && message.payload() == self.nonce
        })
    }
}

/// An IPv4 header at its longest, an ICMP header, and more than the nonce: what is longer is no answer.
const ROOM: usize = 128;
const FORBIDDEN: &str = "an `icmp` probe needs CAP_NET_RAW, or a group of this process in \
    `sysctl net.ipv4.ping_group_range`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_answer_counts() {
        let question = Question { identifier: 7, sequence: 9, nonce: [5; 16] };
        for to in [IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().unwrap()] {
            let request = question.bytes(to);
            assert!(!question.is_answered(to, &request), "a request is no reply");
            let mut reply = request.clone();
            reply[0] = if to.is_ipv6() { 129 } else { 0 };
            assert!(question.is_answered(to, &reply), "{to}");
            // Type, code, identifier, sequence and each byte that was sent along; the checksum is the kernel's.
            for at in (0..reply.len()).filter(|at| !(2..4).contains(at)) {
                let mut wrong = reply.clone();
                wrong[at] ^= 1;
                assert!(!question.is_answered(to, &wrong), "{to}: byte {at}");
            }
            for length in 0..reply.len() {
                assert!(!question.is_answered(to, &reply[..length]), "{to}: cut to {length}");
            }
            assert!(!question.is_answered(to, &[&reply[..], &[0]].concat()), "{to}: longer");
        }
    }
}
