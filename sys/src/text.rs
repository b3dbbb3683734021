//! The program's own instructions, and its constants, in a large page each, for a process that is copied.
//!
//! Pages of a program's file are not there in a copy: each is found again by a fault, some sixteen at a time, and on a
//! virtual machine that takes microseconds. A large page of memory is shared with the copy by one entry
//! (mmap(2), madvise(2) `MADV_HUGEPAGE`, mremap(2)). What is run is the same, at the same addresses, and at no
//! moment can it be written and run at once.
#![allow(unsafe_code)]

use std::io;

/// A large page of x86-64.
const LARGE_BYTES: usize = 2 << 20;

/// Parts of a process's memory (proc_pid_maps(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    start: usize,
    end: usize,
    kind: Kind,
}

/// What may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It can be read and run, not written, and is this process's alone.
    Text,
    /// As text, but it cannot be run.
    Constants,
    Other,
}

impl Kind {
    const fn protection(self) -> libc::c_int {
        match self {
            Self::Text => libc::PROT_READ | libc::PROT_EXEC,
            Self::Constants | Self::Other => libc::PROT_READ,
        }
    }
}

/// Stands among the program's constants.
static CONSTANT: [u8; 16] = *b"a constant here.";

/// Moves the program's instructions and its constants to large pages, each if they stand alone in a place for one (a link
/// with `max-page-size` of 2 MiB), and says whether both do. If the kernel has no large page to give, small ones will do.
///
/// For a process with one thread, at its start.
///
/// # Errors
/// What the system calls say; the program is then where it was.
pub fn move_to_large_pages() -> io::Result<bool> {
    let parts = parts(&std::fs::read_to_string("/proc/self/maps")?);
    let text = (Kind::Text, move_to_large_pages as *const () as usize);
    let constants = (Kind::Constants, (&raw const CONSTANT).addr());
    let mut both = true;
    for (kind, address) in [text, constants] {
        match alone(&parts, kind, address) {
            Some((part, place)) => replace(part, place)?,
            None => both = false,
        }
    }
    Ok(both)
}

fn parts(maps: &str) -> Vec<Part> {
    let part = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let kind = match words.next() {
            Some("r-xp") => Kind::Text,
            Some("r--p") => Kind::Constants,
            _ => Kind::Other,
        };
        Some(Part { start: number(start)?, end: number(end)?, kind })
    };
    maps.lines().filter_map(part).collect()
}

/// The part of this kind that `here` is in, and the place of the large page around it, if nothing else is in that.
fn alone(parts: &[Part], kind: Kind, here: usize) -> Option<(Part, usize)> {
    let is_it = |part: &&Part| part.kind == kind && (part.start..part.end).contains(&here);
    let found = *parts.iter().find(is_it)?;
    let place = found.start & !(LARGE_BYTES - 1);
    let end = place + LARGE_BYTES;
    let others = parts.iter().filter(|part| **part != found);
    let free = others.into_iter().all(|part| part.end <= place || part.start >= end);
    (free && found.end <= end).then_some((found, place))
}

/// Copies `part` to new memory and puts that in its place.
fn replace(part: Part, place: usize) -> io::Result<()> {
    let check = |done: libc::c_int| {
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // Twice as much as is needed has an aligned place in it.
    // SAFETY: a new mapping at an address that the kernel chooses replaces no memory of ours.
    let room =
        unsafe { libc::mmap(std::ptr::null_mut(), 2 * LARGE_BYTES, protection, flags, -1, 0) };
    if room == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let skipped = room.align_offset(LARGE_BYTES);
    // SAFETY: less than LARGE_BYTES are skipped of twice as many.
    let copy = unsafe { room.byte_add(skipped) };
    let filled = (|| {
        // A kernel without large pages refuses, which changes nothing of what follows.
        // SAFETY: `copy` is the start of LARGE_BYTES of the mapping just made.
        unsafe { libc::madvise(copy, LARGE_BYTES, libc::MADV_HUGEPAGE) };
        let from = std::ptr::with_exposed_provenance::<u8>(part.start);
        // SAFETY: `part` is mapped and readable, as the kernel has said, and within the large page's place, as
        // `alone` has found; the copy is as long as that place, writable, and elsewhere.
        unsafe {
            let to: *mut u8 = copy.cast();
            to.add(part.start - place).copy_from_nonoverlapping(from, part.end - part.start);
        }
        // SAFETY: as for madvise(2) above.
        check(unsafe { libc::mprotect(copy, LARGE_BYTES, part.kind.protection()) })?;
        let to = std::ptr::with_exposed_provenance_mut::<libc::c_void>(place);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: in the place is nothing but `part`, of which the copy has every byte at the same distance: the
        // next instruction, and every constant, is there before and after. The call changes the mapping in one step, and no
        // other thread runs.
        let moved = unsafe { libc::mremap(copy, LARGE_BYTES, LARGE_BYTES, flags, to) };
        if moved == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    })();
    // What is left of the room, with the copy in it if that did not move.
    let kept = if filled.is_ok() { LARGE_BYTES } else { 0 };
    // SAFETY: the room was made above, and of it only `copy` was moved, whose place is left out.
    unsafe {
        if skipped > 0 {
            check(libc::munmap(room, skipped))?;
        }
        let rest = 2 * LARGE_BYTES - skipped - kept;
        check(libc::munmap(copy.byte_add(kept), rest))?;
    }
    filled
}

#[cfg(test)]
mod test {
    use super::*;

    const MAPS: &str = "\
7f0000000000-7f0000062000 r--p 00000000 fe:00 1 /zone-init
7f0000262000-7f0000391000 r-xp 00062000 fe:00 1 /zone-init
7f0000591000-7f000059c000 rw-p 00191000 fe:00 1 /zone-init
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
";

    #[test]
    fn a_program_that_stands_alone_has_a_place() {
        let parts = parts(MAPS);
        assert_eq!(parts.len(), 4);
        let text = alone(&parts, Kind::Text, 0x7f00_0030_0000);
        assert_eq!(text, Some((parts[1], 0x7f00_0020_0000)));
        let constants = alone(&parts, Kind::Constants, 0x7f00_0001_0000);
        assert_eq!(constants, Some((parts[0], 0x7f00_0000_0000)));
        assert_eq!(alone(&parts, Kind::Text, 0x7f00_0059_1000), None);
        assert_eq!(alone(&parts, Kind::Text, 0x7f00_0001_0000), None);
    }

    #[test]
    fn beside_anything_else_it_stays_where_it_is() {
        let near = MAPS.replace("7f0000591000", "7f00003f0000");
        assert_eq!(alone(&parts(&near), Kind::Text, 0x7f00_0030_0000), None);
        let long = MAPS.replace("7f0000391000", "7f0000401000");
        assert_eq!(alone(&parts(&long), Kind::Text, 0x7f00_0030_0000), None);
    }
}
