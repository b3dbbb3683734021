//! BPF programs on cgroups: written here, checked by the kernel, kept by the cgroup they are attached to.
//!
//! bpf(2), bpf-helpers(7), `Documentation/bpf/`; Linux 5.12 or newer for atomic instructions. It takes
//! CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN. A program attached to a cgroup stays in force when whoever
//! attached it is gone; [`attached`] finds it again, and by it its maps.
#![allow(unsafe_code)]

mod assembler;
mod map;

pub use assembler::{Alu, Assembler, Helper, Instruction, Label, Register, Size, When};
pub use map::Map;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use thiserror::Error;

/// Commands of bpf(2).
const PROGRAM_LOAD: libc::c_long = 5;
const PROGRAM_ATTACH: libc::c_long = 8;
const PROGRAM_DETACH: libc::c_long = 9;
const PROGRAM_BY_ID: libc::c_long = 13;
const INFORMATION: libc::c_long = 15;
const PROGRAM_QUERY: libc::c_long = 16;
/// Other programs may be attached beside ours (`BPF_F_ALLOW_MULTI`); ours may be replaced (`BPF_F_REPLACE`).
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;
/// `BPF_OBJ_NAME_LEN`, with its closing zero.
const NAME_BYTES: usize = 16;
/// What the verifier may say about a program it refuses.
const LOG_BYTES: usize = 64 * 1024;
/// The most programs that a hook has room for (`BPF_CGROUP_MAX_PROGS`).
const ATTACHED_MAX: usize = 64;
/// The most maps of one program that are looked at.
const MAPS_MAX: usize = 16;
/// Bytes of the longest of the attributes used here, and of the kernel's descriptions.
const ATTRIBUTE_WORDS: usize = 16;
const INFORMATION_BYTES: usize = 256;

/// What a program is attached to: the moment in which the kernel asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// A packet reaches a socket.
    Ingress = 0,
    /// A packet leaves a socket.
    Egress = 1,
    /// An Internet socket is made.
    SocketCreate = 2,
    /// A device node is opened or made.
    Device = 6,
    /// bind(2) for IPv4.
    Bind4 = 8,
    /// bind(2) for IPv6.
    Bind6 = 9,
    /// connect(2) for IPv4.
    Connect4 = 10,
    /// connect(2) for IPv6.
    Connect6 = 11,
    /// sendmsg(2) of a datagram to an IPv4 address.
    Send4 = 14,
    /// sendmsg(2) of a datagram to an IPv6 address.
    Send6 = 15,
}

impl Hook {
    /// The program's type (`enum bpf_prog_type`).
    const fn kind(self) -> u32 {
        match self {
            Self::Ingress | Self::Egress => 8,
            Self::SocketCreate => 9,
            Self::Device => 15,
            Self::Bind4
            | Self::Bind6
            | Self::Connect4
            | Self::Connect6
            | Self::Send4
            | Self::Send6 => 18,
        }
    }
}

/// Why a program is not loaded.
#[derive(Debug, Error)]
#[error("the kernel does not take program {name}: {log}")]
pub struct LoadError {
    /// Its name.
    pub name: String,
    /// The last lines of what the verifier says.
    pub log: String,
    /// The error of the call.
    pub source: io::Error,
}

/// `union bpf_attr`, filled field by field at the offsets of linux/bpf.h.
struct Attribute([u64; ATTRIBUTE_WORDS]);

impl Attribute {
    const fn new() -> Self {
        Self([0; ATTRIBUTE_WORDS])
    }

    fn bytes(mut self, at: usize, value: &[u8]) -> Self {
        for (at, byte) in (at..).zip(value) {
            let shift = (at % 8) * 8;
            self.0[at / 8] |= u64::from(*byte) << shift;
        }
        self
    }

    fn word(self, at: usize, value: u32) -> Self {
        self.bytes(at, &value.to_le_bytes())
    }

    fn descriptor(self, at: usize, value: BorrowedFd<'_>) -> Self {
        self.word(at, value.as_raw_fd().unsigned_abs())
    }

    fn name(self, at: usize, name: &CStr) -> Self {
        let bytes = name.to_bytes();
        self.bytes(at, &bytes[..bytes.len().min(NAME_BYTES - 1)])
    }

    fn pointer<T: ?Sized>(mut self, at: usize, value: *const T) -> Self {
        self.0[at / 8] = value.cast::<u8>() as u64;
        self
    }

    fn read_word(&self, at: usize) -> u32 {
        let half = self.0[at / 8] >> ((at % 8) * 8);
        u32::try_from(half & u64::from(u32::MAX)).unwrap_or(0)
    }
}

/// # Safety
/// Each pointer in the attribute is to memory of the length that the command reads or writes.
unsafe fn bpf(command: libc::c_long, attribute: &mut Attribute) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is as long as is said; what it points to is the caller's proof.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attribute.0.as_mut_ptr(),
            size_of::<[u64; ATTRIBUTE_WORDS]>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// # Safety
/// As [`bpf`], and the command gives a descriptor.
unsafe fn bpf_descriptor(command: libc::c_long, attribute: &mut Attribute) -> io::Result<OwnedFd> {
    // SAFETY: the caller's proof.
    let descriptor = unsafe { bpf(command, attribute)? };
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel made it just now, close-on-exec, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A program that the kernel has taken.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Loads a program for a hook.
    ///
    /// # Errors
    /// [`LoadError`] with the verifier's reason.
    pub fn load(hook: Hook, name: &CStr, code: &[Instruction]) -> Result<Self, LoadError> {
        match Self::try_load(hook, name, code, None) {
            Ok(program) => Ok(program),
            Err(source) => {
                // Once more for the reason: a log costs time, and most programs are taken.
                let mut log = vec![0; LOG_BYTES];
                let again = Self::try_load(hook, name, code, Some(&mut log));
                let log = again
                    .map_or_else(|_| last_lines(&log), |_| "taken when asked again".to_owned());
                Err(LoadError { name: name.to_string_lossy().into_owned(), log, source })
            }
        }
    }

    fn try_load(
        hook: Hook,
        name: &CStr,
        code: &[Instruction],
        log: Option<&mut [u8]>,
    ) -> io::Result<Self> {
        // No function that is used here asks for a licence of its own.
        let license = c"Apache-2.0";
        let count = u32::try_from(code.len()).map_err(io::Error::other)?;
        let mut attribute = Attribute::new()
            .word(0, hook.kind())
            .word(4, count)
            .pointer(8, code.as_ptr())
            .pointer(16, license.as_ptr())
            .name(48, name)
            .word(68, hook as u32);
        if let Some(log) = log {
            let bytes = u32::try_from(log.len()).map_err(io::Error::other)?;
            attribute = attribute.word(24, 1).word(28, bytes).pointer(32, log.as_mut_ptr());
        }
        // SAFETY: the kernel reads `count` instructions, which is the slice's length and layout
        // (`repr(C)`, 8 bytes), and a closed string, and writes at most the log's own length.
        Ok(Self(unsafe { bpf_descriptor(PROGRAM_LOAD, &mut attribute)? }))
    }

    /// Attaches it to a cgroup, where it also counts for all below; in the place of `old`, if there is one.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub fn attach(&self, cgroup: BorrowedFd<'_>, hook: Hook, old: Option<&Self>) -> io::Result<()> {
        let mut attribute = Attribute::new()
            .descriptor(0, cgroup)
            .descriptor(4, self.0.as_fd())
            .word(8, hook as u32);
        attribute = match old {
            Some(old) => attribute.word(12, ALLOW_MULTI | REPLACE).descriptor(16, old.0.as_fd()),
            None => attribute.word(12, ALLOW_MULTI),
        };
        // SAFETY: the attribute of this command holds no pointer.
        unsafe { bpf(PROGRAM_ATTACH, &mut attribute) }.map(drop)
    }

    /// Takes it from a cgroup.
    ///
    /// # Errors
    /// What bpf(2) says: ENOENT if it is not attached there.
    pub fn detach(&self, cgroup: BorrowedFd<'_>, hook: Hook) -> io::Result<()> {
        let mut attribute = Attribute::new()
            .descriptor(0, cgroup)
            .descriptor(4, self.0.as_fd())
            .word(8, hook as u32);
        // SAFETY: the attribute of this command holds no pointer.
        unsafe { bpf(PROGRAM_DETACH, &mut attribute) }.map(drop)
    }
}

/// A program found on a cgroup.
#[derive(Debug)]
pub struct Attached {
    /// The program.
    pub program: Program,
    /// Its name.
    pub name: String,
    /// Its maps, each with its name.
    pub maps: Vec<(String, Map)>,
}

/// The programs attached to a cgroup itself, not those of the cgroups above.
///
/// # Errors
/// What bpf(2) says.
pub fn attached(cgroup: BorrowedFd<'_>, hook: Hook) -> io::Result<Vec<Attached>> {
    let mut ids = [0_u32; ATTACHED_MAX];
    let mut attribute = Attribute::new()
        .descriptor(0, cgroup)
        .word(4, hook as u32)
        .pointer(16, ids.as_mut_ptr())
        .word(24, ATTACHED_MAX as u32);
    // SAFETY: the kernel writes at most as many numbers as is said, which is the array's length.
    unsafe { bpf(PROGRAM_QUERY, &mut attribute)? };
    let count = attribute.read_word(24) as usize;
    ids.iter().take(count).map(|id| found(*id)).collect()
}

fn found(id: u32) -> io::Result<Attached> {
    let mut attribute = Attribute::new().word(0, id);
    // SAFETY: the attribute of this command holds no pointer.
    let program = Program(unsafe { bpf_descriptor(PROGRAM_BY_ID, &mut attribute)? });
    let mut maps = [0_u32; MAPS_MAX];
    let known = information(program.0.as_fd(), &mut maps)?;
    let count = (known.word(52) as usize).min(MAPS_MAX);
    let maps = maps.iter().take(count).map(|id| Map::by_id(*id).map(|(map, name)| (name, map)));
    Ok(Attached { name: known.name(64), maps: maps.collect::<io::Result<_>>()?, program })
}

/// What the kernel tells of a program or a map (`struct bpf_prog_info`, `struct bpf_map_info`).
struct Information([u8; INFORMATION_BYTES]);

impl Information {
    fn word(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at..at + 4]);
        u32::from_ne_bytes(bytes)
    }

    fn name(&self, at: usize) -> String {
        let bytes: Vec<u8> =
            self.0[at..at + NAME_BYTES].iter().copied().take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What the kernel tells of a descriptor; of a program also the numbers of its maps, as many as fit.
fn information(descriptor: BorrowedFd<'_>, maps: &mut [u32]) -> io::Result<Information> {
    let mut known = Information([0; INFORMATION_BYTES]);
    if !maps.is_empty() {
        let room = u32::try_from(maps.len()).map_err(io::Error::other)?;
        known.0[52..56].copy_from_slice(&room.to_ne_bytes());
        known.0[56..64].copy_from_slice(&(maps.as_mut_ptr() as u64).to_ne_bytes());
    }
    let mut attribute = Attribute::new()
        .descriptor(0, descriptor)
        .word(4, INFORMATION_BYTES as u32)
        .pointer(8, known.0.as_mut_ptr());
    // SAFETY: the kernel writes at most `INFORMATION_BYTES` to `known`, which is that long, and at most
    // `room` numbers to `maps`, which is borrowed until the call is over.
    unsafe { bpf(INFORMATION, &mut attribute)? };
    Ok(known)
}

/// The end of the verifier's log, where the reason is.
fn last_lines(log: &[u8]) -> String {
    const LINES: usize = 6;
    let text: Vec<u8> = log.iter().copied().take_while(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join(" / ")
}
