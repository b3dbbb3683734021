//! Memory for a process that is copied: blocks from one small region, so that a copy touches few pages.
//!
//! A page that is written after fork(2) is copied first, and costs more than all else that is done with it. malloc(3)
//! hands out what was freed here and there before the fork, a page or two for each block. Here a copy begins
//! on new pages, one after another ([`Arena::begin_afresh`]), and leaves those that it shares as they are.
//!
//! Blocks have the size of a power of two; what is freed is used again for blocks of its size. What is larger than
//! [`BLOCK_MAX`], and what does not fit the region any more, comes from malloc(3).
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of the region: what it does not use costs nothing.
const REGION_BYTES: usize = 1 << 20;
/// The smallest block has room for the pointer to the next one that is free.
const BLOCK_MIN: usize = 16;
/// The largest block of the region.
const BLOCK_MAX: usize = 1 << 16;
const PAGE_BYTES: usize = 4096;
const CLASSES: usize = (BLOCK_MAX.ilog2() - BLOCK_MIN.ilog2()) as usize + 1;

#[repr(C, align(4096))]
struct Region(UnsafeCell<[u8; REGION_BYTES]>);

/// What is known of the region, behind `locked`.
struct State {
    /// Where the part begins that was never handed out.
    next: usize,
    /// Where it began when this process was copied: below are pages that it shares.
    shared: usize,
    /// The first free block of each size.
    free: [*mut Free; CLASSES],
}

/// A free block.
struct Free(*mut Free);

/// A program's allocator (`#[global_allocator]`); all of a program's share one region.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arena;

struct Shared {
    locked: AtomicBool,
    state: UnsafeCell<State>,
}

// SAFETY: its bytes are reached through the pointers that `Arena` hands out alone, each block to one owner.
unsafe impl Sync for Region {}
// SAFETY: `state` is used by whoever has set `locked`, and by nobody else.
unsafe impl Sync for Shared {}

static REGION: Region = Region(UnsafeCell::new([0; REGION_BYTES]));
static SHARED: Shared = Shared {
    locked: AtomicBool::new(false),
    state: UnsafeCell::new(State { next: 0, shared: 0, free: [std::ptr::null_mut(); CLASSES] }),
};

impl Arena {
    /// Begins on a page that was not used yet, and forgets what is free before it and what will be: for a process
    /// that has just been copied.
    pub fn begin_afresh() {
        with(|state| {
            state.next = state.next.next_multiple_of(PAGE_BYTES);
            state.shared = state.next;
            state.free = [std::ptr::null_mut(); CLASSES];
        });
    }
}

/// Does something with the state, which nobody else has meanwhile.
fn with<T>(act: impl FnOnce(&mut State) -> T) -> T {
    while SHARED.locked.swap(true, Ordering::Acquire) {
        std::hint::spin_loop();
    }
    // SAFETY: `locked` was not set and is now: until it is cleared below, nobody else is here. `act` is one of
    // this file's, which neither allocate nor panic.
    let done = act(unsafe { &mut *SHARED.state.get() });
    SHARED.locked.store(false, Ordering::Release);
    done
}

/// The bytes of a block for this layout, if one of the region's will do.
fn block(layout: Layout) -> Option<usize> {
    let least = layout.size().max(layout.align()).max(BLOCK_MIN);
    let fits = least <= BLOCK_MAX && layout.align() <= PAGE_BYTES;
    fits.then(|| least.next_power_of_two())
}

fn class(bytes: usize) -> usize {
    (bytes.ilog2() - BLOCK_MIN.ilog2()) as usize
}

fn start() -> *mut u8 {
    REGION.0.get().cast()
}

fn is_ours(block: *mut u8) -> bool {
    (block as usize).wrapping_sub(start() as usize) < REGION_BYTES
}

/// Takes a block; none if there is no room.
fn take(state: &mut State, bytes: usize) -> Option<*mut u8> {
    let head = &mut state.free[class(bytes)];
    if !head.is_null() {
        let taken = *head;
        // SAFETY: a block in the list is free, within the region, aligned, and holds what `give` has written.
        *head = unsafe { (*taken).0 };
        return Some(taken.cast());
    }
    let at = state.next.next_multiple_of(bytes.min(PAGE_BYTES));
    let end = at.checked_add(bytes).filter(|&end| end <= REGION_BYTES)?;
    state.next = end;
    // SAFETY: `at` is within the region.
    Some(unsafe { start().add(at) })
}

fn give(state: &mut State, block: *mut u8, bytes: usize) {
    // To write to a shared page would cost more than the block is worth.
    if (block as usize) - (start() as usize) < state.shared {
        return;
    }
    let head = &mut state.free[class(bytes)];
    let freed: *mut Free = block.cast();
    // SAFETY: the block is the region's, at least 16 bytes, aligned to as many, and its owner has given it back.
    unsafe { freed.write(Free(*head)) };
    *head = freed;
}

// SAFETY: blocks of the region are as long and as aligned as their layout asks for (`block`, `take`), do not
// overlap (each is cut off from the part never handed out, or was given back), and are told from malloc(3)'s by
// where they are. Nothing here panics.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = block(layout).and_then(|bytes| with(|state| take(state, bytes)));
        // SAFETY: the caller's promise about `layout` is passed on.
        taken.unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        match block(layout) {
            Some(bytes) if is_ours(ptr) => with(|state| give(state, ptr, bytes)),
            // SAFETY: it came from there, with this layout.
            _ => unsafe { System.dealloc(ptr, layout) },
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `new_size`, rounded up to the alignment, is no more than isize::MAX.
        let wanted = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if is_ours(ptr) {
            if block(layout) == block(wanted) {
                return ptr;
            }
            // SAFETY: the layout is not of size 0, as the caller promises of `new_size`.
            let other = unsafe { self.alloc(wanted) };
            if !other.is_null() {
                // SAFETY: both blocks are as long as what is copied, and are two.
                unsafe { ptr.copy_to_nonoverlapping(other, layout.size().min(new_size)) };
                // SAFETY: the caller's promise about `ptr` and `layout` is passed on.
                unsafe { self.dealloc(ptr, layout) };
            }
            return other;
        }
        // SAFETY: it came from there, with this layout.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).unwrap()
    }

    /// A block, its layout, and the byte that it is full of.
    struct Held(*mut u8, Layout, u8);

    impl Held {
        fn new(layout: Layout, mark: u8) -> Self {
            // SAFETY: the layout is not of size 0.
            let block = unsafe { Arena.alloc(layout) };
            assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
            // SAFETY: the block is as long as its layout.
            unsafe { block.write_bytes(mark, layout.size()) };
            Self(block, layout, mark)
        }

        fn resize(mut self, bytes: usize) -> Self {
            let (block, old, mark) = (self.0, self.1, self.2);
            // SAFETY: it came from there, with this layout; the new size is not 0.
            let block = unsafe { Arena.realloc(block, old, bytes) };
            let kept = old.size().min(bytes);
            // SAFETY: the block is at least as long.
            assert!(unsafe { std::slice::from_raw_parts(block, kept) }.iter().all(|&b| b == mark));
            // SAFETY: the block is as long as its new size.
            unsafe { block.write_bytes(mark, bytes) };
            (self.0, self.1) = (block, layout(bytes, old.align()));
            self
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            // SAFETY: the block is as long as its layout.
            let bytes = unsafe { std::slice::from_raw_parts(self.0, self.1.size()) };
            assert!(bytes.iter().all(|&byte| byte == self.2), "written to by another");
            // SAFETY: it came from there, with this layout, and is not used again.
            unsafe { Arena.dealloc(self.0, self.1) };
        }
    }

    #[test]
    fn blocks_are_aligned_apart_and_keep_what_is_in_them() {
        let mut held: Vec<Held> = Vec::new();
        let mut state = 1_usize;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for number in 0..4000 {
            let most = if next(8) == 0 { 100_000 } else { 700 };
            let one = Held::new(layout(1 + next(most), 1 << next(8)), number as u8);
            held.push(if next(3) == 0 { one.resize(1 + next(5000)) } else { one });
            if held.len() > 60 {
                drop(held.swap_remove(next(60)));
            }
        }
    }

    #[test]
    fn after_a_fresh_start_nothing_is_on_a_page_that_was_used() {
        let small = layout(24, 8);
        let before = Held::new(small, 1);
        let was = before.0;
        drop(before);
        Arena::begin_afresh();
        let after = Held::new(small, 2);
        if is_ours(was) && is_ours(after.0) {
            assert_ne!(was as usize / PAGE_BYTES, after.0 as usize / PAGE_BYTES);
        }
    }
}
