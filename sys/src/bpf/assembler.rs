//! Writes programs for the kernel's BPF machine (RFC 9669): instructions, labels, and no decisions.
//!
//! Pure: what comes out is checked by the kernel's verifier when it is loaded, not here.

use super::Map;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

/// Source register of a wide load that names a map by its descriptor (`BPF_PSEUDO_MAP_FD`).
const PSEUDO_MAP: u8 = 1;
/// Classes and modes of instruction codes (RFC 9669, sections 3 to 5).
const WIDE: u8 = 0x18;
const LOAD: u8 = 0x61;
const STORE_VALUE: u8 = 0x62;
const STORE: u8 = 0x63;
const ATOMIC_DOUBLE: u8 = 0xdb;
const ALU64: u8 = 0x07;
const JUMP: u8 = 0x05;
const FROM_REGISTER: u8 = 0x08;
const MOVE: u8 = 0xb0;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const TO_BIG_ENDIAN: u8 = 0xdc;
/// `BPF_ADD | BPF_FETCH`, `BPF_ADD` and `BPF_CMPXCHG` as the immediate of an atomic instruction.
const FETCH_ADD: i32 = 0x01;
const ADD_ONLY: i32 = 0x00;
const COMPARE_EXCHANGE: i32 = 0xf1;

/// One instruction, as the kernel reads it (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A register: `R0` holds results, `R1` to `R5` arguments, `R6` to `R9` survive calls, `R10` is the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "they are numbers")]
pub enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How much of memory an instruction touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Size {
    /// 4 bytes.
    Word = 0x00,
    /// 2 bytes.
    Half = 0x08,
    /// 1 byte.
    Byte = 0x10,
    /// 8 bytes.
    Double = 0x18,
}

/// Arithmetic on 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "they say what they are")]
pub enum Alu {
    Add = 0x00,
    Subtract = 0x10,
    Multiply = 0x20,
    Divide = 0x30,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    ExclusiveOr = 0xa0,
}

/// When a jump is taken; comparisons are without sign unless they say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "they say what they are")]
pub enum When {
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    NotEqual = 0x50,
    SignedGreater = 0x60,
    Less = 0xa0,
}

/// A function of the kernel, by its number (bpf-helpers(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Helper {
    /// `bpf_map_lookup_elem(map, key)`.
    MapLookup = 1,
    /// `bpf_ktime_get_ns()`.
    MonotonicNs = 5,
    /// `bpf_skb_load_bytes(skb, offset, to, length)`.
    PacketBytes = 26,
    /// `bpf_skb_cgroup_id(skb)`: of the socket that the packet belongs to.
    PacketCgroup = 79,
    /// `bpf_get_current_cgroup_id()`.
    CurrentCgroup = 80,
}

/// A place in a program to jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// A program being written. It borrows the maps that it names, which the kernel finds by descriptor
/// when the program is loaded.
#[derive(Debug, Default)]
pub struct Assembler<'a> {
    code: Vec<Instruction>,
    /// The instruction of each label, once placed.
    labels: Vec<Option<usize>>,
    /// Instructions whose offset is still to be filled in.
    jumps: Vec<(usize, Label)>,
    maps: PhantomData<&'a Map>,
}

impl<'a> Assembler<'a> {
    /// An empty program.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A label, to be placed once.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The next instruction is where this label points.
    pub fn place(&mut self, label: Label) {
        assert!(self.labels[label.0].is_none(), "a label is placed once");
        self.labels[label.0] = Some(self.code.len());
    }

    fn push(&mut self, code: u8, to: Register, from: u8, offset: i16, immediate: i32) {
        let registers = to as u8 | from << 4;
        self.code.push(Instruction { code, registers, offset, immediate });
    }

    /// `to = from`.
    pub fn copy(&mut self, to: Register, from: Register) {
        self.push(ALU64 | MOVE | FROM_REGISTER, to, from as u8, 0, 0);
    }

    /// `to = value`, its sign extended.
    pub fn set(&mut self, to: Register, value: i32) {
        self.push(ALU64 | MOVE, to, 0, 0, value);
    }

    /// `to = value`, in two instructions.
    pub fn set_wide(&mut self, to: Register, value: u64) {
        self.wide(to, 0, value);
    }

    /// `to = map`, for [`Helper::MapLookup`].
    pub fn map(&mut self, to: Register, map: &'a Map) {
        let descriptor = map.as_fd().as_raw_fd();
        self.wide(to, PSEUDO_MAP, u64::from(descriptor.unsigned_abs()));
    }

    fn wide(&mut self, to: Register, kind: u8, value: u64) {
        let half = |bits: u64| (bits & u64::from(u32::MAX)) as u32 as i32;
        self.push(WIDE, to, kind, 0, half(value));
        self.push(0, Register::R0, 0, 0, half(value >> 32));
    }

    /// `to = *(from + offset)`, zero extended.
    pub fn load(&mut self, size: Size, to: Register, from: Register, offset: i16) {
        self.push(LOAD | size as u8, to, from as u8, offset, 0);
    }

    /// `*(to + offset) = from`.
    pub fn store(&mut self, size: Size, to: Register, offset: i16, from: Register) {
        self.push(STORE | size as u8, to, from as u8, offset, 0);
    }

    /// `*(to + offset) = value`.
    pub fn store_value(&mut self, size: Size, to: Register, offset: i16, value: i32) {
        self.push(STORE_VALUE | size as u8, to, 0, offset, value);
    }

    /// `to = to <operation> from`.
    pub fn alu(&mut self, operation: Alu, to: Register, from: Register) {
        self.push(ALU64 | FROM_REGISTER | operation as u8, to, from as u8, 0, 0);
    }

    /// `to = to <operation> value`.
    pub fn alu_value(&mut self, operation: Alu, to: Register, value: i32) {
        self.push(ALU64 | operation as u8, to, 0, 0, value);
    }

    /// The low 16 bits from the network's order to the machine's, or back.
    pub fn swap_half(&mut self, register: Register) {
        self.push(TO_BIG_ENDIAN, register, 0, 0, 16);
    }

    /// `*(to + offset) += from`, in one step for all processors.
    pub fn atomic_add(&mut self, to: Register, offset: i16, from: Register) {
        self.push(ATOMIC_DOUBLE, to, from as u8, offset, ADD_ONLY);
    }

    /// As [`Self::atomic_add`]; `from` is then what was there before.
    pub fn atomic_fetch_add(&mut self, to: Register, offset: i16, from: Register) {
        self.push(ATOMIC_DOUBLE, to, from as u8, offset, FETCH_ADD);
    }

    /// `*(to + offset) = from` if it is `R0`; `R0` is then what was there before.
    pub fn atomic_exchange(&mut self, to: Register, offset: i16, from: Register) {
        self.push(ATOMIC_DOUBLE, to, from as u8, offset, COMPARE_EXCHANGE);
    }

    /// Goes on at `label`.
    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JUMP, Register::R0, 0, 0, 0);
    }

    /// Goes on at `label` when `left` compares so with `right`.
    pub fn jump_if(&mut self, when: When, left: Register, right: Register, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JUMP | FROM_REGISTER | when as u8, left, right as u8, 0, 0);
    }

    /// Goes on at `label` when `left` compares so with `value`.
    pub fn jump_if_value(&mut self, when: When, left: Register, value: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JUMP | when as u8, left, 0, 0, value);
    }

    /// Calls a function of the kernel: arguments in `R1` to `R5`, which are lost, the result in `R0`.
    pub fn call(&mut self, helper: Helper) {
        self.push(CALL, Register::R0, 0, 0, helper as i32);
    }

    /// Ends the program with `R0`.
    pub fn exit(&mut self) {
        self.push(EXIT, Register::R0, 0, 0, 0);
    }

    /// Ends the program with this.
    pub fn exit_with(&mut self, value: i32) {
        self.set(Register::R0, value);
        self.exit();
    }

    /// The program, all jumps filled in.
    ///
    /// # Panics
    /// When a label was never placed, or is further away than an instruction can say: both are mistakes of
    /// whoever wrote the program, whatever its input.
    #[must_use]
    pub fn finish(&self) -> Vec<Instruction> {
        let mut code = self.code.clone();
        for (at, label) in &self.jumps {
            let target = self.labels[label.0].expect("every label is placed");
            let distance = target as i64 - *at as i64 - 1;
            code[*at].offset = i16::try_from(distance).expect("programs are short");
        }
        code
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn bytes(instruction: Instruction) -> [u8; 8] {
        let Instruction { code, registers, offset, immediate } = instruction;
        let [a, b] = offset.to_le_bytes();
        let [c, d, e, f] = immediate.to_le_bytes();
        [code, registers, a, b, c, d, e, f]
    }

    #[test]
    fn instructions_are_those_of_the_standard() {
        let mut program = Assembler::new();
        program.load(Size::Word, Register::R2, Register::R6, 40);
        program.load(Size::Double, Register::R3, Register::R10, -8);
        program.store(Size::Double, Register::R10, -8, Register::R0);
        program.copy(Register::R6, Register::R1);
        program.alu_value(Alu::Add, Register::R2, -8);
        program.call(Helper::MapLookup);
        program.atomic_fetch_add(Register::R9, 40, Register::R1);
        program.exit_with(1);
        let code: Vec<_> = program.finish().into_iter().map(bytes).collect();
        assert_eq!(code[0], [0x61, 0x62, 40, 0, 0, 0, 0, 0]);
        assert_eq!(code[1], [0x79, 0xa3, 0xf8, 0xff, 0, 0, 0, 0]);
        assert_eq!(code[2], [0x7b, 0x0a, 0xf8, 0xff, 0, 0, 0, 0]);
        assert_eq!(code[3], [0xbf, 0x16, 0, 0, 0, 0, 0, 0]);
        assert_eq!(code[4], [0x07, 0x02, 0, 0, 0xf8, 0xff, 0xff, 0xff]);
        assert_eq!(code[5], [0x85, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(code[6], [0xdb, 0x19, 40, 0, 1, 0, 0, 0]);
        assert_eq!(code[7], [0xb7, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(code[8], [0x95, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn jumps_go_both_ways() {
        let mut program = Assembler::new();
        let (again, out) = (program.label(), program.label());
        program.place(again);
        program.jump_if_value(When::Equal, Register::R1, 0, out);
        program.alu_value(Alu::Subtract, Register::R1, 1);
        program.jump(again);
        program.place(out);
        program.exit();
        let code = program.finish();
        assert_eq!((code[0].offset, code[2].offset), (2, -3));
    }

    #[test]
    fn a_wide_value_takes_two_instructions() {
        let mut program = Assembler::new();
        program.set_wide(Register::R1, 0x1122_3344_5566_7788);
        let code = program.finish();
        assert_eq!(code.len(), 2);
        assert_eq!((code[0].immediate, code[1].immediate), (0x5566_7788, 0x1122_3344));
    }
}
