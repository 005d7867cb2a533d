//! Codec: a classic BPF program as a function of an eBPF one, made for one kind of packet.
//!
//! The classic programs ask every frame what it is: tagged, of which family and protocol, how long its header. Here that is known
//! beforehand, for the function is only called for one kind of packet ([`Kind`]). So all that depends on it alone is worked out now
//! (what follows from a word's known bits, and which instructions nobody can reach), and what is left is mostly comparisons with
//! addresses, one instruction each. It also makes the index register a number that is known at every load, so that the kernel's
//! verifier sees plain offsets below a length that has been checked.
//!
//! Every jump of classic BPF goes forward, so one pass sees each instruction after all that lead to it.
//!
//! ```text
//!   R1 the frame   R2 its end   R3 the accumulator   R4 for a moment   stack: scratch cells   R0 the verdict
//! ```
//!
//! Not here: the instructions that our programs never have. They are refused.

use super::code::{Code, Instruction, Label, Operation, Register, Test, Unfit};
use crate::sys::assemble::{Instruction as Classic, Size};
use crate::sys::classify::{GO_ON, SHOT};

/// What is known of every frame that a function is called for.
pub(super) struct Kind {
    /// Bytes that a frame has at least.
    pub(super) length: u32,
    /// Where a byte is, its value, and which of its bits are known.
    pub(super) bytes: Vec<(u32, u8, u8)>,
}

// Verdicts of a function.
/// Ask the next program.
pub(super) const NEXT: u32 = 0;
pub(super) const TAKE: u32 = 1;
/// The kernel's, whatever the next program would say.
pub(super) const PASS: u32 = 2;

/// The function, or `None` where it would always ask the next program.
///
/// # Errors
/// The program has an instruction that it cannot have, or is too long.
pub(super) fn extend(program: &[Classic], kind: &Kind) -> Result<Option<Vec<Instruction>>, Unfit> {
    let mut code = Code::default();
    let labels = program.iter().map(|_| code.label()).collect();
    let mut states = vec![None; program.len()];
    if let Some(first) = states.first_mut() {
        *first = Some(State::FIRST);
    }
    code.set(ACCUMULATOR, 0);
    let mut function = Function { kind, code, labels, states, decides: false };
    for (at, instruction) in program.iter().enumerate() {
        // What nobody reaches is left out, and must be: the verifier refuses it.
        let Some(state) = function.states.get_mut(at).and_then(Option::take) else { continue };
        let label = function.at(at)?;
        function.code.place(label);
        function.step(at, *instruction, state)?;
    }
    let decides = function.decides;
    let instructions = function.code.finish()?;
    Ok(decides.then_some(instructions))
}

struct Function<'a> {
    kind: &'a Kind,
    code: Code,
    /// Of each classic instruction.
    labels: Vec<Label>,
    /// What is known before each instruction that somebody reaches.
    states: Vec<Option<State>>,
    /// Whether it gives another verdict than [`NEXT`].
    decides: bool,
}

/// What is known at a place of the program.
#[derive(Clone, Copy)]
struct State {
    accumulator: Bits,
    /// Is in no register: where it is not known it cannot be used.
    index: Bits,
    cells: [Bits; CELLS],
    /// Where the accumulator is from, if it need not be loaded from there again.
    from: Option<Origin>,
}

#[derive(Clone, Copy, PartialEq)]
enum Origin {
    Frame(u32, Size),
    Cell(usize),
}

impl State {
    /// Classic programs begin with zeros. No cell is read before it was written.
    const FIRST: State =
        State { accumulator: Bits::of(0), index: Bits::of(0), cells: [Bits::UNKNOWN; CELLS], from: None };

    /// What is known whichever of two ways has led here.
    fn meet(mut self, other: &State) -> State {
        self.accumulator = self.accumulator.meet(other.accumulator);
        self.index = self.index.meet(other.index);
        for (cell, other) in self.cells.iter_mut().zip(other.cells) {
            *cell = cell.meet(other);
        }
        self.from = self.from.filter(|from| other.from == Some(*from));
        self
    }
}

impl Function<'_> {
    fn at(&self, at: usize) -> Result<Label, Unfit> {
        self.labels.get(at).copied().ok_or(PAST_THE_END)
    }

    fn reach(&mut self, at: usize, state: &State) -> Result<(), Unfit> {
        let there = self.states.get_mut(at).ok_or(PAST_THE_END)?;
        *there = Some(there.map_or(*state, |there| there.meet(state)));
        Ok(())
    }

    fn step(&mut self, at: usize, instruction: Classic, mut state: State) -> Result<(), Unfit> {
        let Classic { code, operand, .. } = instruction;
        let code = u32::from(code);
        match code & 0x07 {
            libc::BPF_LD => self.load(code, operand, &mut state)?,
            libc::BPF_LDX if code == libc::BPF_LDX | libc::BPF_IMM => state.index = Bits::of(operand),
            libc::BPF_LDX if code == libc::BPF_LDX | libc::BPF_MEM => state.index = *cell(&mut state, operand)?.1,
            libc::BPF_ST if code == libc::BPF_ST => {
                let accumulator = state.accumulator;
                let (place, cell) = cell(&mut state, operand)?;
                *cell = accumulator;
                self.code.store(Register::Frame, place, ACCUMULATOR);
            }
            libc::BPF_STX if code == libc::BPF_STX => {
                let index = state.index.exact().ok_or(UNKNOWN_INDEX)?;
                let (place, cell) = cell(&mut state, operand)?;
                *cell = Bits::of(index);
                self.code.store_value(Register::Frame, place, index);
                state.from = None;
            }
            libc::BPF_ALU => self.operate(code, operand, &mut state)?,
            libc::BPF_MISC if code == libc::BPF_MISC | libc::BPF_TAX => state.index = state.accumulator,
            libc::BPF_JMP => return self.jump(at, instruction, &state),
            libc::BPF_RET if code == libc::BPF_RET => {
                self.decides |= operand != GO_ON;
                self.code.give(match operand {
                    SHOT => TAKE,
                    GO_ON => NEXT,
                    _ => PASS,
                });
                return Ok(());
            }
            _ => return Err(UNKNOWN),
        }
        self.reach(at + 1, &state)
    }

    fn load(&mut self, code: u32, operand: u32, state: &mut State) -> Result<(), Unfit> {
        let size = match code & 0x18 {
            libc::BPF_B => Size::Byte,
            libc::BPF_H => Size::Half,
            libc::BPF_W => Size::Word,
            _ => return Err(UNKNOWN),
        };
        match code & 0xe0 {
            libc::BPF_IMM => self.know(state, Bits::of(operand)),
            libc::BPF_ABS if operand == PACKET_TYPE => self.know(state, Bits::of(u32::from(libc::PACKET_HOST))),
            libc::BPF_ABS => self.load_frame(operand, size, state)?,
            libc::BPF_IND => {
                let index = state.index.exact().ok_or(UNKNOWN_INDEX)?;
                self.load_frame(operand.checked_add(index).ok_or(UNKNOWN)?, size, state)?;
            }
            libc::BPF_MEM => {
                let (place, bits) = cell(state, operand)?;
                let bits = *bits;
                let from = Origin::Cell(operand as usize);
                if !self.is_known(state, bits, from) {
                    self.code.load(Size::Word, ACCUMULATOR, Register::Frame, place);
                }
            }
            _ => return Err(UNKNOWN),
        }
        Ok(())
    }

    fn load_frame(&mut self, at: u32, size: Size, state: &mut State) -> Result<(), Unfit> {
        let place = i16::try_from(at).map_err(|_| UNKNOWN)?;
        if self.is_known(state, self.kind.bits(at, size), Origin::Frame(at, size)) {
            return Ok(());
        }
        let end = at + size.bytes();
        if end > self.kind.length {
            let within = self.code.label();
            self.code.copy(Register::R4, FRAME);
            self.code.advance(Register::R4, end);
            self.code.jump_if_registers(Test::AtMost, Register::R4, END, within);
            // As a classic program ends with 0 there.
            self.code.give(PASS);
            self.decides = true;
            self.code.place(within);
        }
        self.code.load(size, ACCUMULATOR, FRAME, place);
        self.code.swap_from_network(size, ACCUMULATOR);
        Ok(())
    }

    /// Whether the accumulator need not be loaded to become `bits`, which are at `from`.
    fn is_known(&mut self, state: &mut State, bits: Bits, from: Origin) -> bool {
        if bits.exact().is_some() {
            self.know(state, bits);
            return true;
        }
        let is_there = state.from == Some(from);
        state.accumulator = bits;
        state.from = Some(from);
        is_there
    }

    /// The accumulator is this, by nothing that is loaded.
    fn know(&mut self, state: &mut State, bits: Bits) {
        if let Some(value) = bits.exact() {
            self.code.set(ACCUMULATOR, value);
        }
        state.accumulator = bits;
        state.from = None;
    }

    fn operate(&mut self, code: u32, operand: u32, state: &mut State) -> Result<(), Unfit> {
        let before = state.accumulator;
        let by_index = || state.index.exact().ok_or(UNKNOWN_INDEX);
        let (operation, operand, after) = match code & 0xf8 {
            libc::BPF_AND => (Operation::And, operand, before.and(operand)),
            libc::BPF_OR => (Operation::Or, operand, before.or(Bits::of(operand))),
            libc::BPF_LSH if operand < 32 => (Operation::ShiftLeft, operand, before.shifted_left(operand)),
            op if op == libc::BPF_ADD | libc::BPF_X => {
                let index = by_index()?;
                let sum = before.exact().map_or(Bits::UNKNOWN, |exact| Bits::of(exact.wrapping_add(index)));
                (Operation::Add, index, sum)
            }
            _ => return Err(UNKNOWN),
        };
        if after.exact().is_none() {
            self.code.operate(operation, ACCUMULATOR, operand);
        }
        self.know(state, after);
        Ok(())
    }

    fn jump(&mut self, at: usize, instruction: Classic, state: &State) -> Result<(), Unfit> {
        let Classic { code, on_true, on_false, operand } = instruction;
        let next = at + 1;
        let (test, outcome) = match u32::from(code) & 0xf8 {
            libc::BPF_JA => return self.go(at, next.saturating_add(operand as usize), state),
            libc::BPF_JEQ => (Test::Equal, state.accumulator.is(operand)),
            libc::BPF_JGT => (Test::Above, state.accumulator.is_above(operand)),
            libc::BPF_JGE => {
                let outcome = operand.checked_sub(1).map_or(Some(true), |below| state.accumulator.is_above(below));
                (Test::AtLeast, outcome)
            }
            libc::BPF_JSET => (Test::Any, state.accumulator.has_any(operand)),
            _ => return Err(UNKNOWN),
        };
        let (on_true, on_false) = (next + usize::from(on_true), next + usize::from(on_false));
        if let Some(outcome) = outcome {
            return self.go(at, if outcome { on_true } else { on_false }, state);
        }
        match test.negated() {
            Some(negated) if on_true == next => {
                let to = self.at(on_false)?;
                self.code.jump_if(negated, ACCUMULATOR, operand, to);
            }
            _ => {
                let to = self.at(on_true)?;
                self.code.jump_if(test, ACCUMULATOR, operand, to);
                if on_false != next {
                    let to = self.at(on_false)?;
                    self.code.jump(to);
                }
            }
        }
        self.reach(on_true, state)?;
        self.reach(on_false, state)
    }

    fn go(&mut self, at: usize, to: usize, state: &State) -> Result<(), Unfit> {
        // What lies between is left out where nobody reaches it, and a jump over nothing would cost the kernel a good part of the
        // time that it takes to load many rules: it removes them one by one.
        let between = self.states.get(at + 1..to).unwrap_or_default();
        if between.iter().any(Option::is_some) {
            let label = self.at(to)?;
            self.code.jump(label);
        }
        self.reach(to, state)
    }
}

/// Where a scratch cell is on the stack, and what is known of it.
fn cell(state: &mut State, number: u32) -> Result<(i16, &mut Bits), Unfit> {
    let place = i16::try_from(number).map_err(|_| UNKNOWN)?;
    let cell = state.cells.get_mut(number as usize).ok_or(UNKNOWN)?;
    Ok((-4 * (place + 1), cell))
}

impl Kind {
    /// What is known of a part of the frame, as a number.
    fn bits(&self, at: u32, size: Size) -> Bits {
        (at..at + size.bytes()).fold(Bits::of(0), |bits, at| {
            let known = self.bytes.iter().find(|byte| byte.0 == at);
            let (value, known) =
                known.map_or((0, 0), |&(_, value, known)| (u32::from(value & known), u32::from(known)));
            bits.shifted_left(8).or(Bits { value, known: !0xff | known })
        })
    }
}

/// What is known of a word before there is one.
#[derive(Clone, Copy)]
struct Bits {
    /// Zero where it is not known.
    value: u32,
    known: u32,
}

impl Bits {
    const UNKNOWN: Bits = Bits { value: 0, known: 0 };

    const fn of(value: u32) -> Bits {
        Bits { value, known: u32::MAX }
    }

    fn exact(self) -> Option<u32> {
        (self.known == u32::MAX).then_some(self.value)
    }

    const fn meet(self, other: Bits) -> Bits {
        let known = self.known & other.known & !(self.value ^ other.value);
        Bits { value: self.value & known, known }
    }

    const fn and(self, mask: u32) -> Bits {
        Bits { value: self.value & mask, known: self.known | !mask }
    }

    const fn or(self, other: Bits) -> Bits {
        Bits { value: self.value | other.value, known: self.known & other.known | self.value | other.value }
    }

    /// By less than 32.
    const fn shifted_left(self, bits: u32) -> Bits {
        Bits { value: self.value << bits, known: self.known << bits | !(u32::MAX << bits) }
    }

    fn is(self, value: u32) -> Option<bool> {
        match (self.value ^ value) & self.known {
            0 => self.exact().map(|_| true),
            _ => Some(false),
        }
    }

    fn is_above(self, value: u32) -> Option<bool> {
        if self.value > value {
            return Some(true);
        }
        (self.value | !self.known <= value).then_some(false)
    }

    fn has_any(self, bits: u32) -> Option<bool> {
        if self.value & bits != 0 {
            return Some(true);
        }
        (bits & !self.known == 0).then_some(false)
    }
}

const FRAME: Register = Register::R1;
const END: Register = Register::R2;
const ACCUMULATOR: Register = Register::R3;
const CELLS: usize = libc::BPF_MEMWORDS as usize;
pub(super) const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();

const UNKNOWN: Unfit = "a classifier has an instruction that has no counterpart";
const UNKNOWN_INDEX: Unfit = "a classifier reads where it is not known beforehand";
const PAST_THE_END: Unfit = "a classifier jumps past its end";
