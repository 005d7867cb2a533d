//! Codec: classic BPF, the few instructions that our programs are made of, with labels for what lies ahead.
//!
//! Every jump goes forward, as classic BPF demands. A conditional one reaches 255 instructions, so those stay within the entry
//! that they belong to, and whatever goes further is a plain jump.
//!
//! Not here: what the programs look for (`classify`).

use std::ops::RangeInclusive;

use socket2::SockFilter;

/// One instruction, as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) on_true: u8,
    pub(super) on_false: u8,
    pub(super) operand: u32,
}

impl Instruction {
    /// As netlink carries it.
    pub(super) fn bytes(self) -> [u8; 8] {
        let ([a, b], [e, f, g, h]) = (self.code.to_ne_bytes(), self.operand.to_ne_bytes());
        [a, b, self.on_true, self.on_false, e, f, g, h]
    }
}

impl From<Instruction> for SockFilter {
    fn from(instruction: Instruction) -> SockFilter {
        let Instruction { code, on_true, on_false, operand } = instruction;
        SockFilter::new(code, on_true, on_false, operand)
    }
}

/// A place in the program that jumps name before it is known.
#[derive(Clone, Copy)]
pub(super) struct Label(usize);

/// How much of the frame a load reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
}

#[derive(Default)]
pub(super) struct Assembler {
    code: Vec<Instruction>,
    /// Where each label is.
    places: Vec<usize>,
    jumps: Vec<(usize, Arm, Label)>,
}

#[derive(Clone, Copy)]
enum Arm {
    Always,
    OnTrue,
    OnFalse,
}

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.places.push(0);
        Label(self.places.len() - 1)
    }

    /// The label is what comes next.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = self.code.len();
    }

    /// Ends the program with a value.
    pub(super) fn give(&mut self, value: u32) {
        self.push(libc::BPF_RET | libc::BPF_K, value);
    }

    pub(super) fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), Arm::Always, to));
        self.push(libc::BPF_JMP | libc::BPF_JA, 0);
    }

    /// Steps over `count` instructions if the accumulator is `value`.
    pub(super) fn skip_if(&mut self, value: u32, count: u8) {
        self.compare(libc::BPF_JEQ, value, count, 0);
    }

    /// Steps over `count` instructions unless the accumulator is `value`.
    pub(super) fn skip_unless(&mut self, value: u32, count: u8) {
        self.compare(libc::BPF_JEQ, value, 0, count);
    }

    /// To a label nearby, unless the accumulator is `value`.
    pub(super) fn unless(&mut self, value: u32, to: Label) {
        self.jumps.push((self.code.len(), Arm::OnFalse, to));
        self.compare(libc::BPF_JEQ, value, 0, 0);
    }

    /// To a label nearby, if the accumulator has one of `bits`.
    pub(super) fn if_any(&mut self, bits: u32, to: Label) {
        self.jumps.push((self.code.len(), Arm::OnTrue, to));
        self.compare(libc::BPF_JSET, bits, 0, 0);
    }

    /// To a label nearby, unless the accumulator is in the range.
    pub(super) fn unless_between(&mut self, range: &RangeInclusive<u32>, to: Label) {
        self.jumps.push((self.code.len(), Arm::OnFalse, to));
        self.compare(libc::BPF_JGE, *range.start(), 0, 0);
        self.jumps.push((self.code.len(), Arm::OnTrue, to));
        self.compare(libc::BPF_JGT, *range.end(), 0, 0);
    }

    /// Loads from `at` bytes past the index register. Past the end of the frame the program ends with 0.
    pub(super) fn load(&mut self, size: Size, at: u32) {
        self.push(libc::BPF_LD | size.code() | libc::BPF_IND, at);
    }

    pub(super) fn load_absolute(&mut self, size: Size, at: u32) {
        self.push(libc::BPF_LD | size.code() | libc::BPF_ABS, at);
    }

    /// Loads what the kernel knows beside the frame (`SKF_AD_…`).
    pub(super) fn load_ancillary(&mut self, what: i32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (libc::SKF_AD_OFF + what).cast_unsigned());
    }

    pub(super) fn set(&mut self, value: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_IMM, value);
    }

    pub(super) fn or(&mut self, bits: u32) {
        self.push(libc::BPF_ALU | libc::BPF_OR | libc::BPF_K, bits);
    }

    pub(super) fn shift_left(&mut self, bits: u32) {
        self.push(libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K, bits);
    }

    /// Keeps the accumulator in a scratch cell, 1 to 15.
    pub(super) fn keep(&mut self, cell: u32) {
        self.push(libc::BPF_ST, cell);
    }

    /// Loads what was kept. The kernel takes no program that could read a cell before it was written.
    pub(super) fn recall(&mut self, cell: u32) {
        self.push(libc::BPF_LD | libc::BPF_MEM, cell);
    }

    pub(super) fn set_index(&mut self, value: u32) {
        self.push(libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM, value);
    }

    pub(super) fn keep_index(&mut self) {
        self.push(libc::BPF_STX, KEPT);
    }

    pub(super) fn restore_index(&mut self) {
        self.push(libc::BPF_LDX | libc::BPF_W | libc::BPF_MEM, KEPT);
    }

    /// Adds to the index register the length of the IPv4 header whose first byte is in the accumulator.
    pub(super) fn header_length_to_index(&mut self) {
        self.push(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0x0f);
        self.push(libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K, 2);
        self.push(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0);
        self.push(libc::BPF_MISC | libc::BPF_TAX, 0);
    }

    pub(super) fn finish(mut self) -> Vec<Instruction> {
        for (from, arm, label) in self.jumps {
            let distance = self.places[label.0] - from - 1;
            let near = || u8::try_from(distance).expect("a conditional jump stays within its entry");
            let instruction = &mut self.code[from];
            match arm {
                Arm::Always => instruction.operand = u32::try_from(distance).expect("a program is short"),
                Arm::OnTrue => instruction.on_true = near(),
                Arm::OnFalse => instruction.on_false = near(),
            }
        }
        self.code
    }

    fn compare(&mut self, test: u32, value: u32, on_true: u8, on_false: u8) {
        let code = opcode(libc::BPF_JMP | test | libc::BPF_K);
        self.code.push(Instruction { code, on_true, on_false, operand: value });
    }

    fn push(&mut self, code: u32, operand: u32) {
        self.code.push(Instruction { code: opcode(code), on_true: 0, on_false: 0, operand });
    }
}

impl Size {
    pub(super) const fn bytes(self) -> u32 {
        match self {
            Size::Byte => 1,
            Size::Half => 2,
            Size::Word => 4,
        }
    }

    const fn code(self) -> u32 {
        match self {
            Size::Byte => libc::BPF_B,
            Size::Half => libc::BPF_H,
            Size::Word => libc::BPF_W,
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "opcodes of classic BPF are below 256")]
const fn opcode(code: u32) -> u16 {
    code as u16
}

/// The scratch cell that keeps the index register.
const KEPT: u32 = 0;
