//! The buffers a ring receives into (`io_uring_register_buf_ring(3)`, Linux 5.19).
//!
//! The kernel picks one when bytes arrive, so that an idle connection holds none. While a buffer is
//! offered, only the kernel touches it; from its completion until it is recycled, only the holder of
//! its [`Filled`] does.

use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

/// The kernel wants the entries at the start of a page.
const PAGE_BYTES: usize = 4096;

/// Tells the buffers of one ring from those of another.
static NEXT_OWNER: AtomicU64 = AtomicU64::new(0);

/// A buffer with received bytes in it. Dropping it without recycling loses the buffer to its ring.
#[derive(Debug)]
pub struct Filled {
    owner: u64,
    buffer: u16,
    length: u32,
}

pub(super) struct Buffers {
    owner: u64,
    count: u16,
    buffer_bytes: u32,
    entries: NonNull<BufRingEntry>,
    storage: NonNull<u8>,
    tail: u16,
    leaked: bool,
}

impl Buffers {
    /// Allocates them and offers them all.
    pub(super) fn new(count: u16, buffer_bytes: u32) -> Buffers {
        assert!(count.is_power_of_two() && count <= 1 << 15, "the kernel's rule for buffer rings");
        assert!(buffer_bytes > 0, "an empty buffer receives nothing");
        let (entries_layout, storage_layout) = layouts(count, buffer_bytes);
        // SAFETY: both layouts have a size above zero (asserted just above).
        let (entries, storage) =
            unsafe { (alloc_zeroed(entries_layout), alloc_zeroed(storage_layout)) };
        let mut buffers = Buffers {
            owner: NEXT_OWNER.fetch_add(1, Ordering::Relaxed),
            count,
            buffer_bytes,
            entries: NonNull::new(entries.cast())
                .unwrap_or_else(|| handle_alloc_error(entries_layout)),
            storage: NonNull::new(storage).unwrap_or_else(|| handle_alloc_error(storage_layout)),
            tail: 0,
            leaked: false,
        };
        for buffer in 0..count {
            buffers.offer(buffer);
        }
        buffers
    }

    pub(super) fn entries_address(&self) -> u64 {
        self.entries.as_ptr() as u64
    }

    /// What a receive completion says: an error, the end, or a filled buffer.
    pub(super) fn filled(
        &mut self,
        result: io::Result<u32>,
        buffer: Option<u16>,
    ) -> io::Result<Option<Filled>> {
        let length = match (&result, buffer) {
            (Ok(length), Some(_)) if *length > 0 => *length,
            (_, Some(unused)) => {
                self.offer(unused);
                return result.map(|_| None);
            }
            (_, None) => return result.map(|_| None),
        };
        let buffer = buffer.expect("matched above");
        assert!(buffer < self.count && length <= self.buffer_bytes, "the kernel filled our buffer");
        Ok(Some(Filled { owner: self.owner, buffer, length }))
    }

    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        assert_eq!(filled.owner, self.owner, "a buffer goes back to the ring it came from");
        let start = usize::from(filled.buffer) * self.buffer_bytes as usize;
        // SAFETY: `filled` proves (it is made only above, of this ring, and not Clone) that buffer is
        // below count and length at most buffer_bytes, so the range lies in the one allocation; that
        // the kernel gave the buffer to us and has not been offered it again (`recycle` consumes the
        // Filled), so nobody writes to it; and all of it was initialised by alloc_zeroed.
        unsafe {
            std::slice::from_raw_parts(self.storage.as_ptr().add(start), filled.length as usize)
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "who recycles must not read it any more")]
    pub(super) fn recycle(&mut self, filled: Filled) {
        assert_eq!(filled.owner, self.owner, "a buffer goes back to the ring it came from");
        self.offer(filled.buffer);
    }

    /// Keeps the memory for ever, because the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        self.leaked = true;
    }

    fn offer(&mut self, buffer: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        let start = usize::from(buffer) * self.buffer_bytes as usize;
        // SAFETY: index is below count, so the entry lies in the allocation; the kernel does not read
        // entries at or beyond the tail, so this one is ours until the tail is stored below. The
        // setters write addr, len and bid only, never the field that is the tail in entry 0. start is
        // below count * buffer_bytes, inside the storage.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(index);
            entry.set_addr(self.storage.as_ptr().add(start) as u64);
            entry.set_len(self.buffer_bytes);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the pointer is that of the first of the initialised entries; the tail is a 16-bit
        // field of it, aligned, which from registration on is only accessed atomically (by us here,
        // by the kernel with an acquire load).
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        let (entries_layout, storage_layout) = layouts(self.count, self.buffer_bytes);
        // SAFETY: allocated in `new` with these layouts and not freed since; the ring has been closed
        // or drained (Ring's Drop and field order), so the kernel no longer writes to them.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout);
            dealloc(self.storage.as_ptr(), storage_layout);
        }
    }
}

fn layouts(count: u16, buffer_bytes: u32) -> (Layout, Layout) {
    let entries = usize::from(count) * size_of::<BufRingEntry>();
    let storage = usize::from(count) * buffer_bytes as usize;
    (
        Layout::from_size_align(entries, PAGE_BYTES).expect("at most 512 KiB"),
        Layout::from_size_align(storage, PAGE_BYTES).expect("at most 2^47 bytes"),
    )
}
