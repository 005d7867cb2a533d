//! Codec: the XDP program: which frames go to the sockets, and all others to the kernel.
//!
//! ```text
//!   to one of our MACs? ── IPv4, no options, no fragment ──┬ TCP ▶ every classifier, made for it
//!                       └─ IPv6, no extension header ──────┴ UDP ▶ every classifier, made for it
//!                                      anything else, and what no classifier drops ▶ the kernel
//! ```
//!
//! It takes less than the classifiers drop, never more: what it lets pass goes by the packet ring as if it were not there.
//! Budget: about two instructions an address of the packet's family that comes before its own.
//!
//! Not here: the rules (`classify`), and what becomes of a classifier (`extend`).

use super::code::{Code, Instruction, Label, Register, Test, Unfit};
use super::extend::{self, Kind, extend};
use crate::base::MacAddr;
use crate::sys::assemble::{Instruction as Classic, Size};

/// What becomes of the frames that the program takes.
#[derive(Clone, Copy)]
pub(super) enum Taken {
    /// They go to the socket that the map of this descriptor has for their queue. Where it has none: to the kernel.
    ToSocket(u32),
    /// Tests see them, whatever sockets there are.
    #[cfg(test)]
    Dropped,
}

/// Takes what is sent to `stations` and what one of `classifiers` drops, of those frames that are plain TCP or UDP.
///
/// # Errors
/// Why there is no such program.
pub(super) fn program(
    classifiers: &[Vec<Classic>],
    stations: &[MacAddr],
    taken: Taken,
) -> Result<Vec<Instruction>, Unfit> {
    let mut code = Code::default();
    let mut functions = Vec::new();
    let [decided, pass] = [code.label(), code.label()];
    // A group's frames go to every station of the link, and to all that listen in the kernel.
    let mut stations = stations.iter().filter(|station| station.is_unicast()).peekable();
    if stations.peek().is_some() {
        begin(&mut code, pass);
        to_one_of(&mut code, stations, pass);
        for family in &FAMILIES {
            family.section(&mut code, classifiers, &mut functions, [decided, pass])?;
        }
    }
    if functions.is_empty() {
        // What nobody reaches, the kernel would refuse.
        let mut code = Code::default();
        code.give(XDP_PASS);
        return code.finish();
    }
    code.jump(pass);
    code.place(decided);
    code.jump_if(Test::Unequal, Register::R0, extend::TAKE, pass);
    match taken {
        Taken::ToSocket(map) => {
            code.set_map(Register::R1, map);
            code.copy(Register::R2, QUEUE);
            // What becomes of it where there is no socket.
            code.set(Register::R3, XDP_PASS);
            code.call_kernel(REDIRECT_MAP);
            code.exit();
        }
        #[cfg(test)]
        Taken::Dropped => code.give(XDP_DROP),
    }
    code.place(pass);
    code.give(XDP_PASS);
    for (label, instructions) in functions {
        code.place(label);
        code.append(&instructions);
    }
    code.finish()
}

fn begin(code: &mut Code, pass: Label) {
    for (register, at) in [(FRAME, MD_DATA), (END, MD_DATA_END), (QUEUE, MD_QUEUE)] {
        code.load(Size::Word, register, Register::R1, at);
    }
    has(code, V4_LENGTH, pass);
}

/// Goes on where the frame has so many bytes.
fn has(code: &mut Code, bytes: u32, pass: Label) {
    code.copy(Register::R2, FRAME);
    code.advance(Register::R2, bytes);
    code.jump_if_registers(Test::Above, Register::R2, END, pass);
}

fn to_one_of<'a>(code: &mut Code, stations: impl Iterator<Item = &'a MacAddr>, pass: Label) {
    let ours = code.label();
    code.load(Size::Word, Register::R2, FRAME, 0);
    code.load(Size::Half, Register::R3, FRAME, 4);
    for station in stations {
        let [a, b, c, d, e, f] = station.0;
        let next = code.label();
        code.jump_if(Test::Unequal, Register::R2, u32::from_ne_bytes([a, b, c, d]), next);
        code.jump_if(Test::Equal, Register::R3, u32::from(u16::from_ne_bytes([e, f])), ours);
        code.place(next);
    }
    code.jump(pass);
    code.place(ours);
}

/// What a plain packet of an IP version looks like.
struct Family {
    ether_type: u16,
    length: u32,
    protocol_at: u8,
    /// Two bytes: where they are, which of their bits count, and what those are.
    checks: &'static [(u8, u16, u16)],
}

impl Family {
    fn section(
        &self,
        code: &mut Code,
        classifiers: &[Vec<Classic>],
        functions: &mut Vec<(Label, Vec<Instruction>)>,
        [decided, pass]: [Label; 2],
    ) -> Result<(), Unfit> {
        let mut sections = Vec::new();
        for protocol in [TCP, UDP] {
            let kind = self.kind(protocol);
            let mut made = Vec::new();
            for classifier in classifiers {
                made.extend(extend(classifier, &kind)?);
            }
            if !made.is_empty() {
                sections.push((protocol, made));
            }
        }
        if sections.is_empty() {
            return Ok(());
        }
        let other = code.label();
        code.load(Size::Half, Register::R2, FRAME, 12);
        code.jump_if(Test::Unequal, Register::R2, u32::from(self.ether_type.to_be()), other);
        if self.length > V4_LENGTH {
            has(code, self.length, pass);
        }
        for (at, bits, wanted) in self.checks {
            code.load(Size::Half, Register::R2, FRAME, i16::from(*at));
            code.operate(super::code::Operation::And, Register::R2, u32::from(bits.to_be()));
            code.jump_if(Test::Unequal, Register::R2, u32::from(wanted.to_be()), pass);
        }
        code.load(Size::Byte, Register::R2, FRAME, i16::from(self.protocol_at));
        for (protocol, made) in sections {
            let next = code.label();
            code.jump_if(Test::Unequal, Register::R2, u32::from(protocol), next);
            for instructions in made {
                let function = code.label();
                code.copy(Register::R1, FRAME);
                code.copy(Register::R2, END);
                code.call(function);
                code.jump_if(Test::Unequal, Register::R0, extend::NEXT, decided);
                functions.push((function, instructions));
            }
            code.jump(pass);
            code.place(next);
        }
        code.jump(pass);
        code.place(other);
        Ok(())
    }

    /// What is known of a packet that has come past the checks.
    fn kind(&self, protocol: u8) -> Kind {
        const GROUP: u8 = 1;
        let half = |at: u32, [high, low]: [u8; 2], [high_bits, low_bits]: [u8; 2]| {
            [(at, high, high_bits), (at + 1, low, low_bits)]
        };
        let mut bytes = vec![(0, 0, GROUP), (u32::from(self.protocol_at), protocol, 0xff)];
        bytes.extend(half(12, self.ether_type.to_be_bytes(), [0xff; 2]));
        for (at, bits, wanted) in self.checks {
            bytes.extend(half(u32::from(*at), wanted.to_be_bytes(), bits.to_be_bytes()));
        }
        Kind { length: self.length, bytes }
    }
}

const FAMILIES: [Family; 2] = [
    Family {
        ether_type: 0x0800,
        length: V4_LENGTH,
        protocol_at: 23,
        // A header of five words; neither more fragments nor an offset.
        checks: &[(14, 0xff00, 0x4500), (20, 0x3fff, 0)],
    },
    Family { ether_type: 0x86dd, length: V6_LENGTH, protocol_at: 20, checks: &[] },
];

/// Headers up to both ports.
const V4_LENGTH: u32 = 14 + 20 + 4;
const V6_LENGTH: u32 = 14 + 40 + 4;
const TCP: u8 = 6;
const UDP: u8 = 17;

// Registers that stay when a function is called.
const FRAME: Register = Register::R6;
const END: Register = Register::R7;
const QUEUE: Register = Register::R8;

// linux/bpf.h: `struct xdp_md`, `enum xdp_action`, `enum bpf_func_id`
const MD_DATA: i16 = 0;
const MD_DATA_END: i16 = 4;
const MD_QUEUE: i16 = 16;
#[cfg(test)]
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const REDIRECT_MAP: u32 = 51;
