//! The programs that the kernel asks about zones, written for its BPF machine.
//!
//! They are attached once, to the cgroup of all zones, and know a zone by the number of its cgroup. What is
//! on no list is refused: a zone without a network makes no Internet socket, a device node that is not
//! listed is not opened. They decide nothing that [`super::policy`] has not decided before.

use super::policy::{
    COUNT_AT, FIRST_PORT_AT, HEAD_BYTES, LAST_PORT_AT, LINE_BYTES, LINES_MAX, MASK_AT, PROTOCOL_AT,
    RATE_AT, VERDICT_AT,
};
use std::ffi::CStr;
use sys::bpf::Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use sys::bpf::Size::{Byte, Double, Half, Word};
use sys::bpf::When::{Equal, Greater, GreaterOrEqual, Less, NotEqual, SignedGreater};
use sys::bpf::{Alu, Assembler, Helper, Hook, Instruction, Label, Map};

/// Bytes of a zone's counters; see [`super::counters`] for their order.
pub const COUNTERS_BYTES: usize = 64;
const OUT_BYTES_AT: i16 = 0;
const OUT_PACKETS_AT: i16 = 8;
const IN_BYTES_AT: i16 = 16;
const IN_PACKETS_AT: i16 = 24;
const REFUSED_AT: i16 = 32;
const DROPPED_AT: i16 = 40;
/// When the next packet may leave, by the monotonic clock.
const NEXT_AT: i16 = 48;
/// A packet that would leave later than this is dropped and its sender told to slow down. It bounds what
/// waits in memory; fq's own horizon is 10 s (tc-fq(8)).
const HORIZON_NS: i32 = 2_000_000_000;
/// What a link that was held up may send at once, in time: as much as the bucket on the other way. A busy
/// machine lets a sender run too late by this much, and its rate would suffer.
const CREDIT_NS: i32 = 10_000_000;
const NS_PER_S: i32 = 1_000_000_000;
/// Answers of an egress program (`BPF_PROG_CGROUP_INET_EGRESS_RUN_ARRAY`): drop with EPERM, send, and drop
/// as congestion, which a sender meets as ENOBUFS or a smaller window.
const DROP: i32 = 0;
const PASS: i32 = 1;
const CONGESTED: i32 = 2;
/// The loopback is the first device of every network namespace.
const LOOPBACK: i32 = 1;
const TCP: i32 = 6;
const UDP: i32 = 17;

/// Fields of `struct __sk_buff`.
const PACKET_LENGTH: i16 = 0;
const PACKET_DEVICE: i16 = 40;
const PACKET_DEPARTURE: i16 = 152;
const PACKET_SEGMENTS: i16 = 164;
/// Fields of `struct bpf_sock_addr`.
const ADDRESS_4: i16 = 4;
const ADDRESS_6: i16 = 8;
const ADDRESS_PORT: i16 = 24;
const ADDRESS_PROTOCOL: i16 = 36;
/// A field of `struct bpf_sock`.
const SOCKET_PROTOCOL: i16 = 12;
/// Fields of `struct bpf_cgroup_dev_ctx`; the kind is the low half of the first.
const DEVICE_KIND: i16 = 0;
const DEVICE_MAJOR: i16 = 4;
const DEVICE_MINOR: i16 = 8;
const CHARACTER_DEVICE: i32 = 2;

/// On the stack: the number of the cgroup, the address, the head of a packet.
const KEY: i16 = -8;
const ADDRESS: i16 = -24;
const PACKET_HEAD: i16 = -64;
/// IPv4's fixed header, and the part of IPv6's that is looked at.
const PACKET_HEAD_BYTES: i32 = 20;
const IP4_HEAD: i32 = 20;
const IP6_HEAD: i32 = 40;
/// Where TCP says how long its header is, behind the header of IP.
const TCP_OFFSET_AT: i32 = 12;
const UDP_HEAD: i32 = 8;

/// Devices that a zone may open: major number, then its minors; none is all of them
/// (`Documentation/admin-guide/devices.txt`).
const DEVICES: [(i32, &[i32]); 3] = [
    // null, zero, full, random, urandom
    (1, &[3, 5, 7, 8, 9]),
    // tty, ptmx
    (5, &[0, 2]),
    // The terminals of the zone's own devpts.
    (136, &[]),
];

/// The maps that the programs share with zoned.
#[derive(Debug)]
pub struct Maps {
    /// Number of the cgroup to policy.
    pub policies: Map,
    /// Number of the cgroup to counters.
    pub counters: Map,
}

/// Every program: where it is attached, what it is called there, its code.
#[must_use]
pub fn all(maps: &Maps) -> Vec<(Hook, &'static CStr, Vec<Instruction>)> {
    vec![
        (Hook::Egress, c"mobula_egress", egress(maps)),
        (Hook::Ingress, c"mobula_ingress", ingress(maps)),
        (Hook::SocketCreate, c"mobula_socket", socket(maps)),
        (Hook::Bind4, c"mobula_bind4", has_network(maps)),
        (Hook::Bind6, c"mobula_bind6", has_network(maps)),
        (Hook::Connect4, c"mobula_conn4", address(maps, false)),
        (Hook::Connect6, c"mobula_conn6", address(maps, true)),
        (Hook::Send4, c"mobula_send4", address(maps, false)),
        (Hook::Send6, c"mobula_send6", address(maps, true)),
        (Hook::Device, c"mobula_device", device()),
    ]
}

/// `R0` = the entry of the cgroup whose number is on the stack; goes to `none` without one.
fn look_up<'a>(program: &mut Assembler<'a>, map: &'a Map, none: Label) {
    program.map(R1, map);
    program.copy(R2, R10);
    program.alu_value(Alu::Add, R2, KEY.into());
    program.call(Helper::MapLookup);
    program.jump_if_value(Equal, R0, 0, none);
}

/// Puts the number of the caller's cgroup on the stack.
fn key_of_caller(program: &mut Assembler<'_>) {
    program.call(Helper::CurrentCgroup);
    program.store(Double, R10, KEY, R0);
}

/// Refuses, and counts it for zones that have counters.
fn refuse<'a>(program: &mut Assembler<'a>, maps: &'a Maps) {
    let uncounted = program.label();
    look_up(program, &maps.counters, uncounted);
    program.set(R1, 1);
    program.atomic_add(R0, REFUSED_AT, R1);
    program.place(uncounted);
    program.exit_with(DROP);
}

/// Whether an Internet socket may be made: by zones that have a network, of TCP and UDP.
fn socket(maps: &Maps) -> Vec<Instruction> {
    let mut program = Assembler::new();
    let (refused, allowed) = (program.label(), program.label());
    program.load(Word, R6, R1, SOCKET_PROTOCOL);
    key_of_caller(&mut program);
    look_up(&mut program, &maps.policies, refused);
    program.jump_if_value(Equal, R6, TCP, allowed);
    program.jump_if_value(Equal, R6, UDP, allowed);
    program.place(refused);
    refuse(&mut program, maps);
    program.place(allowed);
    program.exit_with(PASS);
    program.finish()
}

/// Whether the caller's zone has a network at all.
fn has_network(maps: &Maps) -> Vec<Instruction> {
    let mut program = Assembler::new();
    let refused = program.label();
    key_of_caller(&mut program);
    look_up(&mut program, &maps.policies, refused);
    program.exit_with(PASS);
    program.place(refused);
    refuse(&mut program, maps);
    program.finish()
}

/// Whether the caller's zone may talk to an address: goes through its policy line by line.
fn address(maps: &Maps, six: bool) -> Vec<Instruction> {
    let mut program = Assembler::new();
    let (refused, again, next) = (program.label(), program.label(), program.label());
    let (any_protocol, allowed) = (program.label(), program.label());
    program.copy(R6, R1);
    key_of_caller(&mut program);
    look_up(&mut program, &maps.policies, refused);
    program.copy(R3, R0);
    address_on_stack(&mut program, six);
    program.load(Double, R8, R10, ADDRESS);
    program.load(Double, R9, R10, ADDRESS + 8);
    program.load(Word, R2, R6, ADDRESS_PORT);
    program.swap_half(R2);
    program.load(Word, R6, R6, ADDRESS_PROTOCOL);
    program.load(Word, R7, R3, COUNT_AT);
    program.alu_value(Alu::Add, R3, HEAD_BYTES as i32);
    program.set(R1, 0);
    program.place(again);
    program.jump_if(GreaterOrEqual, R1, R7, refused);
    program.jump_if_value(GreaterOrEqual, R1, LINES_MAX as i32, refused);
    for (half, at) in [(R8, 0), (R9, 8)] {
        program.load(Double, R4, R3, at);
        program.alu(Alu::ExclusiveOr, R4, half);
        program.load(Double, R5, R3, MASK_AT + at);
        program.alu(Alu::And, R4, R5);
        program.jump_if_value(NotEqual, R4, 0, next);
    }
    program.load(Byte, R4, R3, PROTOCOL_AT);
    program.jump_if_value(Equal, R4, 0, any_protocol);
    program.jump_if(NotEqual, R4, R6, next);
    program.place(any_protocol);
    program.load(Half, R4, R3, FIRST_PORT_AT);
    program.jump_if(Less, R2, R4, next);
    program.load(Half, R4, R3, LAST_PORT_AT);
    program.jump_if(Greater, R2, R4, next);
    program.load(Byte, R4, R3, VERDICT_AT);
    program.jump_if_value(NotEqual, R4, 0, allowed);
    program.jump(refused);
    program.place(next);
    program.alu_value(Alu::Add, R1, 1);
    program.alu_value(Alu::Add, R3, LINE_BYTES as i32);
    program.jump(again);
    program.place(refused);
    refuse(&mut program, maps);
    program.place(allowed);
    program.exit_with(PASS);
    program.finish()
}

/// The address that `R6` (`struct bpf_sock_addr`) is about, as IPv6, on the stack.
fn address_on_stack(program: &mut Assembler<'_>, six: bool) {
    if six {
        for part in [0, 4, 8, 12] {
            program.load(Word, R1, R6, ADDRESS_6 + part);
            program.store(Word, R10, ADDRESS + part, R1);
        }
        return;
    }
    program.store_value(Double, R10, ADDRESS, 0);
    // ::ffff:a.b.c.d; the bytes 0, 0, 0xff, 0xff as this machine reads them.
    program.store_value(Word, R10, ADDRESS + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
    program.load(Word, R1, R6, ADDRESS_4);
    program.store(Word, R10, ADDRESS + 12, R1);
}

/// From a packet in `R1`: the packet in `R6`, the counters of its zone in `R9`, its bytes as they go over
/// the link in `R7`, its packets in `R8`. Passes what stays in the zone; goes to `drop` without counters.
///
/// The kernel hands over large packets whole, to be cut later: their headers are counted here as often as
/// there are pieces.
fn packet<'a>(program: &mut Assembler<'a>, maps: &'a Maps, drop: Label) {
    let (leaves, several) = (program.label(), program.label());
    program.copy(R6, R1);
    program.load(Word, R2, R6, PACKET_DEVICE);
    program.jump_if_value(NotEqual, R2, LOOPBACK, leaves);
    program.exit_with(PASS);
    program.place(leaves);
    program.call(Helper::PacketCgroup);
    program.store(Double, R10, KEY, R0);
    look_up(program, &maps.counters, drop);
    program.copy(R9, R0);
    program.load(Word, R7, R6, PACKET_LENGTH);
    program.load(Word, R8, R6, PACKET_SEGMENTS);
    head_of_packet(program, 0, PACKET_HEAD_BYTES, drop);
    only_plain_headers(program, drop);
    program.jump_if_value(Greater, R8, 1, several);
    program.set(R8, 1);
    program.place(several);
    header_of_pieces(program, drop);
}

/// Copies bytes of the packet to the stack.
fn head_of_packet(program: &mut Assembler<'_>, at: i32, bytes: i32, drop: Label) {
    program.copy(R1, R6);
    program.set(R2, at);
    program.copy(R3, R10);
    program.alu_value(Alu::Add, R3, PACKET_HEAD.into());
    program.set(R4, bytes);
    program.call(Helper::PacketBytes);
    program.jump_if_value(NotEqual, R0, 0, drop);
}

/// `R2` = the bytes of IP's header, `R3` = the protocol in it. Headers with options are dropped: source
/// routes would lead past the policy, which knows the last address alone.
fn only_plain_headers(program: &mut Assembler<'_>, drop: Label) {
    let (six, known) = (program.label(), program.label());
    program.load(Byte, R1, R10, PACKET_HEAD);
    program.copy(R2, R1);
    program.alu_value(Alu::ShiftRight, R2, 4);
    program.jump_if_value(Equal, R2, 6, six);
    program.jump_if_value(NotEqual, R1, 0x45, drop);
    program.set(R2, IP4_HEAD);
    program.load(Byte, R3, R10, PACKET_HEAD + 9);
    program.jump(known);
    program.place(six);
    program.set(R2, IP6_HEAD);
    program.load(Byte, R3, R10, PACKET_HEAD + 6);
    program.place(known);
}

/// Adds to `R7` the headers of all pieces but the first; there are `R8` of them.
fn header_of_pieces(program: &mut Assembler<'_>, drop: Label) {
    let (tcp, known, done) = (program.label(), program.label(), program.label());
    program.jump_if_value(Equal, R3, TCP, tcp);
    program.jump_if_value(NotEqual, R3, UDP, drop);
    program.jump_if_value(Equal, R8, 1, done);
    program.alu_value(Alu::Add, R2, UDP_HEAD);
    program.jump(known);
    program.place(tcp);
    program.jump_if_value(Equal, R8, 1, done);
    program.store(Double, R10, ADDRESS, R2);
    program.copy(R1, R6);
    program.alu_value(Alu::Add, R2, TCP_OFFSET_AT);
    program.copy(R3, R10);
    program.alu_value(Alu::Add, R3, PACKET_HEAD.into());
    program.set(R4, 1);
    program.call(Helper::PacketBytes);
    program.jump_if_value(NotEqual, R0, 0, drop);
    // The high half of the byte counts words of four bytes.
    program.load(Byte, R3, R10, PACKET_HEAD);
    program.alu_value(Alu::ShiftRight, R3, 4);
    program.alu_value(Alu::ShiftLeft, R3, 2);
    program.load(Double, R2, R10, ADDRESS);
    program.alu(Alu::Add, R2, R3);
    program.place(known);
    program.copy(R1, R8);
    program.alu_value(Alu::Subtract, R1, 1);
    program.alu(Alu::Multiply, R1, R2);
    program.alu(Alu::Add, R7, R1);
    program.place(done);
}

fn count(program: &mut Assembler<'_>, bytes_at: i16, packets_at: i16) {
    program.atomic_add(R9, bytes_at, R7);
    program.atomic_add(R9, packets_at, R8);
}

/// Counts what reaches a zone; nothing does that has no network.
fn ingress(maps: &Maps) -> Vec<Instruction> {
    let mut program = Assembler::new();
    let drop = program.label();
    packet(&mut program, maps, drop);
    count(&mut program, IN_BYTES_AT, IN_PACKETS_AT);
    program.exit_with(PASS);
    program.place(drop);
    program.exit_with(DROP);
    program.finish()
}

/// Counts what leaves a zone, and says when: at its rate, each packet after the one before. `fq` on the
/// zone's link holds it until then.
fn egress(maps: &Maps) -> Vec<Instruction> {
    let mut program = Assembler::new();
    let (drop, free, later, late) =
        (program.label(), program.label(), program.label(), program.label());
    packet(&mut program, maps, drop);
    look_up(&mut program, &maps.policies, drop);
    program.load(Double, R1, R0, RATE_AT);
    program.jump_if_value(Equal, R1, 0, free);
    program.store(Double, R10, ADDRESS, R1);
    program.call(Helper::MonotonicNs);
    program.copy(R5, R0);
    // A link that was idle starts from a moment ago; whichever processor comes second finds that done.
    program.copy(R4, R0);
    program.alu_value(Alu::Subtract, R4, CREDIT_NS);
    program.load(Double, R0, R9, NEXT_AT);
    program.jump_if(GreaterOrEqual, R0, R4, later);
    program.atomic_exchange(R9, NEXT_AT, R4);
    program.place(later);
    program.copy(R2, R7);
    program.alu_value(Alu::Multiply, R2, NS_PER_S);
    program.load(Double, R1, R10, ADDRESS);
    program.alu(Alu::Divide, R2, R1);
    program.copy(R3, R2);
    program.atomic_fetch_add(R9, NEXT_AT, R3);
    program.copy(R4, R3);
    program.alu(Alu::Subtract, R4, R5);
    program.jump_if_value(SignedGreater, R4, HORIZON_NS, late);
    program.store(Double, R6, PACKET_DEPARTURE, R3);
    program.place(free);
    count(&mut program, OUT_BYTES_AT, OUT_PACKETS_AT);
    program.exit_with(PASS);
    program.place(late);
    program.set(R1, 0);
    program.alu(Alu::Subtract, R1, R2);
    program.atomic_add(R9, NEXT_AT, R1);
    program.atomic_add(R9, DROPPED_AT, R8);
    program.exit_with(CONGESTED);
    program.place(drop);
    program.exit_with(DROP);
    program.finish()
}

/// Whether a device node may be opened, or made: the list is [`DEVICES`].
fn device() -> Vec<Instruction> {
    let mut program = Assembler::new();
    let (refused, allowed) = (program.label(), program.label());
    program.load(Word, R2, R1, DEVICE_KIND);
    program.alu_value(Alu::And, R2, 0xffff);
    program.jump_if_value(NotEqual, R2, CHARACTER_DEVICE, refused);
    program.load(Word, R3, R1, DEVICE_MAJOR);
    program.load(Word, R4, R1, DEVICE_MINOR);
    for (major, minors) in DEVICES {
        let other = program.label();
        program.jump_if_value(NotEqual, R3, major, other);
        if minors.is_empty() {
            program.jump(allowed);
        }
        for minor in minors {
            program.jump_if_value(Equal, R4, *minor, allowed);
        }
        program.place(other);
    }
    program.place(refused);
    program.exit_with(DROP);
    program.place(allowed);
    program.exit_with(PASS);
    program.finish()
}
