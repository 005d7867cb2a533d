//! Codec: eBPF, the few instructions that our XDP program is made of, with labels for what lies ahead.
//!
//! Not here: what the program does (`program`, `extend`).

use crate::sys::assemble::Size;

/// One instruction, as the kernel's `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Why rules cannot be made an XDP program.
pub(super) type Unfit = &'static str;

#[derive(Clone, Copy)]
pub(super) enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R6 = 6,
    R7,
    R8,
    /// The end of the stack, which grows down.
    Frame = 10,
}

/// How two words without a sign compare.
#[derive(Clone, Copy)]
pub(super) enum Test {
    Equal,
    Unequal,
    Above,
    AtLeast,
    Below,
    AtMost,
    /// Has one of these bits.
    Any,
}

#[derive(Clone, Copy)]
pub(super) enum Operation {
    Add,
    And,
    Or,
    ShiftLeft,
}

/// A place in the program that jumps name before it is known.
#[derive(Clone, Copy)]
pub(super) struct Label(usize);

#[derive(Default)]
pub(super) struct Code {
    instructions: Vec<Instruction>,
    /// Where each label is.
    places: Vec<usize>,
    jumps: Vec<(usize, Label)>,
}

impl Code {
    pub(super) fn label(&mut self) -> Label {
        self.places.push(usize::MAX);
        Label(self.places.len() - 1)
    }

    /// The label is what comes next.
    pub(super) fn place(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0) {
            *place = self.instructions.len();
        }
    }

    pub(super) fn set(&mut self, to: Register, value: u32) {
        self.push(ALU | MOVE, to, Register::R0, 0, value);
    }

    /// The whole register, which may be an address.
    pub(super) fn copy(&mut self, to: Register, from: Register) {
        self.push(ALU64 | MOVE | BY_REGISTER, to, from, 0, 0);
    }

    /// So many bytes on from an address.
    pub(super) fn advance(&mut self, address: Register, bytes: u32) {
        self.push(ALU64 | Operation::Add.code(), address, Register::R0, 0, bytes);
    }

    /// On the register's lower word; the upper becomes zero.
    pub(super) fn operate(&mut self, operation: Operation, on: Register, operand: u32) {
        self.push(ALU | operation.code(), on, Register::R0, 0, operand);
    }

    /// Loads as the machine orders bytes.
    pub(super) fn load(&mut self, size: Size, to: Register, from: Register, at: i16) {
        self.push(LDX | MEM | size_code(size), to, from, at, 0);
    }

    /// Makes what was loaded from a frame a number, and the other way round.
    pub(super) fn swap_from_network(&mut self, size: Size, register: Register) {
        match size {
            Size::Byte => {}
            Size::Half => self.push(ALU | SWAP, register, Register::R0, 0, 16),
            Size::Word => self.push(ALU | SWAP, register, Register::R0, 0, 32),
        }
    }

    /// Stores a word.
    pub(super) fn store(&mut self, base: Register, at: i16, from: Register) {
        self.push(STX | MEM, base, from, at, 0);
    }

    pub(super) fn store_value(&mut self, base: Register, at: i16, value: u32) {
        self.push(ST | MEM, base, Register::R0, at, value);
    }

    /// Jumps where the register's lower word passes the test.
    pub(super) fn jump_if(&mut self, test: Test, register: Register, operand: u32, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(JMP32 | test.code(), register, Register::R0, 0, operand);
    }

    /// Compares two registers, which may be addresses.
    pub(super) fn jump_if_registers(&mut self, test: Test, one: Register, other: Register, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(JMP | test.code() | BY_REGISTER, one, other, 0, 0);
    }

    pub(super) fn jump(&mut self, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(JMP, Register::R0, Register::R0, 0, 0);
    }

    /// Calls a function of the same program: it gets R1 to R5, gives R0, and R6 to R9 stay.
    pub(super) fn call(&mut self, function: Label) {
        self.jumps.push((self.instructions.len(), function));
        // BPF_PSEUDO_CALL
        self.push(CALL, Register::R0, Register::R1, 0, 0);
    }

    /// Calls a function of the kernel's (`enum bpf_func_id`).
    pub(super) fn call_kernel(&mut self, function: u32) {
        self.push(CALL, Register::R0, Register::R0, 0, function);
    }

    /// The map of this descriptor, which need not stay open once the program is loaded.
    pub(super) fn set_map(&mut self, to: Register, descriptor: u32) {
        // BPF_PSEUDO_MAP_FD; the instruction takes the room of two.
        self.push(WIDE, to, Register::R1, 0, descriptor);
        self.push(0, Register::R0, Register::R0, 0, 0);
    }

    pub(super) fn exit(&mut self) {
        self.push(EXIT, Register::R0, Register::R0, 0, 0);
    }

    pub(super) fn give(&mut self, value: u32) {
        self.set(Register::R0, value);
        self.exit();
    }

    /// What was made elsewhere, and jumps only within itself.
    pub(super) fn append(&mut self, instructions: &[Instruction]) {
        self.instructions.extend_from_slice(instructions);
    }

    /// # Errors
    /// A jump goes further than one can.
    pub(super) fn finish(mut self) -> Result<Vec<Instruction>, Unfit> {
        const FAR: Unfit = "a jump would go too far";
        for (from, label) in self.jumps {
            let place = self.places.get(label.0).copied().filter(|place| *place != usize::MAX);
            let place = place.ok_or("a jump goes nowhere")?;
            let distance = i64::try_from(place).map_err(|_| FAR)? - i64::try_from(from).map_err(|_| FAR)? - 1;
            let Some(instruction) = self.instructions.get_mut(from) else { continue };
            match instruction.code {
                CALL => instruction.immediate = i32::try_from(distance).map_err(|_| FAR)?,
                _ => instruction.offset = i16::try_from(distance).map_err(|_| FAR)?,
            }
        }
        Ok(self.instructions)
    }

    fn push(&mut self, code: u8, to: Register, from: Register, offset: i16, immediate: u32) {
        // A bit field, which begins at the end that the machine's numbers begin at.
        let registers =
            if cfg!(target_endian = "little") { (from as u8) << 4 | to as u8 } else { (to as u8) << 4 | from as u8 };
        self.instructions.push(Instruction { code, registers, offset, immediate: immediate.cast_signed() });
    }
}

impl Test {
    /// The test that passes where this one does not.
    pub(super) const fn negated(self) -> Option<Test> {
        match self {
            Test::Equal => Some(Test::Unequal),
            Test::Unequal => Some(Test::Equal),
            Test::Above => Some(Test::AtMost),
            Test::AtMost => Some(Test::Above),
            Test::AtLeast => Some(Test::Below),
            Test::Below => Some(Test::AtLeast),
            Test::Any => None,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Test::Equal => 0x10,
            Test::Above => 0x20,
            Test::AtLeast => 0x30,
            Test::Any => 0x40,
            Test::Unequal => 0x50,
            Test::Below => 0xa0,
            Test::AtMost => 0xb0,
        }
    }
}

impl Operation {
    const fn code(self) -> u8 {
        match self {
            Operation::Add => 0x00,
            Operation::Or => 0x40,
            Operation::And => 0x50,
            Operation::ShiftLeft => 0x60,
        }
    }
}

const fn size_code(size: Size) -> u8 {
    match size {
        Size::Word => 0x00,
        Size::Half => 0x08,
        Size::Byte => 0x10,
    }
}

// linux/bpf_common.h and linux/bpf.h
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const ALU: u8 = 0x04;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALU64: u8 = 0x07;
const MEM: u8 = 0x60;
const BY_REGISTER: u8 = 0x08;
const MOVE: u8 = 0xb0;
/// `BPF_END | BPF_TO_BE`.
const SWAP: u8 = 0xd8;
/// `BPF_LD | BPF_DW | BPF_IMM`.
const WIDE: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
