//! The program's own instructions in one large page, for a process that is copied.
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
    /// It can be read and run, not written, and is this process's alone.
    is_text: bool,
}

/// Moves the program to a large page, if it stands alone in a place for one (a link with `max-page-size` of 2 MiB), and
/// says whether it does. If the kernel has no large page to give, small ones will do.
///
/// For a process with one thread, at its start.
///
/// # Errors
/// What the system calls say; the program is then where it was.
pub fn move_to_large_page() -> io::Result<bool> {
    let parts = parts(&std::fs::read_to_string("/proc/self/maps")?);
    let here = move_to_large_page as *const () as usize;
    let Some((text, place)) = alone(&parts, here) else { return Ok(false) };
    replace(text, place).map(|()| true)
}

fn parts(maps: &str) -> Vec<Part> {
    let part = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let is_text = words.next() == Some("r-xp");
        Some(Part { start: number(start)?, end: number(end)?, is_text })
    };
    maps.lines().filter_map(part).collect()
}

/// The part that `here` is in, and the place of the large page around it, if nothing else is in that.
fn alone(parts: &[Part], here: usize) -> Option<(Part, usize)> {
    let text = *parts.iter().find(|part| part.is_text && (part.start..part.end).contains(&here))?;
    let place = text.start & !(LARGE_BYTES - 1);
    let end = place + LARGE_BYTES;
    let others = parts.iter().filter(|part| **part != text);
    let free = others.into_iter().all(|part| part.end <= place || part.start >= end);
    (free && text.end <= end).then_some((text, place))
}

/// Copies `text` to new memory and puts that in its place.
fn replace(text: Part, place: usize) -> io::Result<()> {
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
        let from = std::ptr::with_exposed_provenance::<u8>(text.start);
        // SAFETY: `text` is mapped and readable, as the kernel has said, and within the large page's place, as
        // `alone` has found; the copy is as long as that place, writable, and elsewhere.
        unsafe {
            let to: *mut u8 = copy.cast();
            to.add(text.start - place).copy_from_nonoverlapping(from, text.end - text.start);
        }
        // SAFETY: as for madvise(2) above.
        check(unsafe { libc::mprotect(copy, LARGE_BYTES, libc::PROT_READ | libc::PROT_EXEC) })?;
        let to = std::ptr::with_exposed_provenance_mut::<libc::c_void>(place);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: in the place is nothing but `text`, of which the copy has every byte at the same distance: the
        // next instruction is there before and after. The call changes the mapping in one step, and no
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
        let (text, place) = alone(&parts, 0x7f00_0030_0000).unwrap();
        assert_eq!((text, place), (parts[1], 0x7f00_0020_0000));
        assert_eq!(alone(&parts, 0x7f00_0059_1000), None);
    }

    #[test]
    fn beside_anything_else_it_stays_where_it_is() {
        let near = MAPS.replace("7f0000591000", "7f00003f0000");
        assert_eq!(alone(&parts(&near), 0x7f00_0030_0000), None);
        let long = MAPS.replace("7f0000391000", "7f0000401000");
        assert_eq!(alone(&parts(&long), 0x7f00_0030_0000), None);
    }
}
