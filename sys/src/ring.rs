//! io_uring with owned buffers (`io_uring(7)`, Linux 6.1 or later).
//!
//! A [`Ring`] belongs to the thread that made it. From the moment an operation is begun until its
//! completion has been taken, the ring owns everything the kernel may touch on its behalf: the
//! descriptor, the bytes to send, the buffer to fill. So nothing a caller does, or forgets, can leave
//! the kernel with a pointer to freed memory. Dropping the ring cancels what is in flight and waits
//! for it; should the kernel not answer, the memory is leaked rather than freed.
//!
//! The ring decides nothing about protocols: it knows sockets, descriptors, bytes and tokens. A token
//! is the caller's name for an operation, given back with its completion.
#![allow(unsafe_code)]

mod buffers;
mod held;

use buffers::Buffers;
pub use buffers::Filled;
use bytes::Bytes;
use held::{Held, Message, held_message};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most parts one [`Ring::send`] takes: far fewer than the kernel's 1024 (`UIO_MAXIOV`), enough
/// for a head, a body and what frames it.
pub const SEND_PARTS_MAX: usize = 8;

/// The error of a cancelled operation (`ECANCELED`).
pub const CANCELED: i32 = libc::ECANCELED;
/// The error of a receive that found no buffer left (`ENOBUFS`).
pub const NO_BUFFERS: i32 = libc::ENOBUFS;

/// How long a dropped ring waits for what it has cancelled before it leaks the memory instead.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// The group the provided buffers are registered under: a ring has one.
const BUFFER_GROUP: u16 = 0;

/// Whatever an operation is done on. The ring keeps its share until the operation is over.
pub type Descriptor = Arc<dyn AsFd + Send + Sync>;

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// Not allowed.
    #[error(
        "io_uring is refused: check `sysctl kernel.io_uring_disabled` (must be 0) and the seccomp \
         filter this runs under (io_uring_setup, io_uring_enter, io_uring_register)"
    )]
    Refused(#[source] io::Error),
    /// Not there.
    #[error("this kernel has no io_uring: build it with CONFIG_IO_URING")]
    Missing(#[source] io::Error),
    /// There, but older than what is used here.
    #[error("this kernel's io_uring lacks what is needed (DEFER_TASKRUN, Linux 6.1 or later)")]
    TooOld(#[source] io::Error),
    /// Something else.
    #[error("can't {action}")]
    Setup {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl RingError {
    fn of_setup(source: io::Error) -> RingError {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => RingError::Refused(source),
            Some(libc::ENOSYS) => RingError::Missing(source),
            Some(libc::EINVAL) => RingError::TooOld(source),
            _ => RingError::Setup { action: "set up an io_uring", source },
        }
    }
}

/// How large a ring is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Submission entries; completions get eight times as many.
    pub entries: u32,
    /// Buffers to receive into: a power of two, at most 32768.
    pub buffers: u16,
    /// Bytes in each of them.
    pub buffer_bytes: u32,
}

/// Names an operation in flight, to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    slot: u32,
    generation: u32,
}

impl Operation {
    fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }
}

/// What has come of an operation. Where there is a `more`, the operation goes on when it is true.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted, or none could be.
    Accepted {
        /// The caller's name for the operation.
        token: u64,
        /// The new socket, close-on-exec.
        result: io::Result<OwnedFd>,
        /// Whether more will follow.
        more: bool,
    },
    /// Bytes came in; none: the peer has closed its side.
    Received {
        /// The caller's name for the operation.
        token: u64,
        /// The bytes, to be given back with [`Ring::recycle`].
        result: io::Result<Option<Filled>>,
        /// Whether more will follow.
        more: bool,
    },
    /// Bytes have been handed to the socket.
    Sent {
        /// The caller's name for the operation.
        token: u64,
        /// How many: fewer than asked for means that the socket failed in between.
        result: io::Result<usize>,
    },
    /// A polled descriptor is ready, or in error.
    Ready {
        /// The caller's name for the operation.
        token: u64,
        /// Whether the poll itself worked.
        result: io::Result<()>,
    },
    /// Bytes were read.
    Read {
        /// The caller's name for the operation.
        token: u64,
        /// What was there, at most as long as asked for.
        result: io::Result<Vec<u8>>,
    },
}

/// What the kernel may touch for one operation.
#[expect(dead_code, reason = "descriptors and messages are held for the kernel, not read here")]
enum Owned {
    Accept(Descriptor),
    Receive(Descriptor),
    Send(Descriptor, Held<Message>),
    Poll(Descriptor),
    Read(Descriptor, Vec<u8>),
    Cancel,
}

struct InFlight {
    token: u64,
    owned: Owned,
}

struct Slot {
    generation: u32,
    operation: Option<InFlight>,
}

/// An io_uring and all that is in flight on it.
pub struct Ring {
    uring: IoUring,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Entries for which the submission queue had no room yet.
    backlog: VecDeque<squeue::Entry>,
    buffers: Buffers,
    in_flight: usize,
    /// `SINGLE_ISSUER`: only the thread that made the ring may use it, so it is not `Send`.
    thread_bound: PhantomData<*mut ()>,
}

impl Ring {
    /// Makes a ring for this thread (`io_uring_setup(2)`, `SINGLE_ISSUER|DEFER_TASKRUN`, Linux 6.1).
    pub fn new(size: Size) -> Result<Ring, RingError> {
        let uring = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(size.entries.saturating_mul(8))
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .build(size.entries)
            .map_err(RingError::of_setup)?;
        let buffers = Buffers::new(size.buffers, size.buffer_bytes);
        // SAFETY: `entries_address` points at `size.buffers` initialised, page-aligned entries, which
        // `Buffers` neither moves nor frees while it lives; `Ring` drops `buffers` only after `drain`
        // and after `uring` (field order), or leaks it.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                buffers.entries_address(),
                size.buffers,
                BUFFER_GROUP,
                0,
            )
        }
        .map_err(|source| RingError::Setup { action: "register the receive buffers", source })?;
        Ok(Ring {
            uring,
            slots: Vec::new(),
            free: Vec::new(),
            backlog: VecDeque::new(),
            buffers,
            in_flight: 0,
            thread_bound: PhantomData,
        })
    }

    /// Accepts connections until cancelled (`IORING_ACCEPT_MULTISHOT`, Linux 5.19).
    pub fn accept(&mut self, listener: Descriptor, token: u64) -> Operation {
        let fd = types::Fd(listener.as_fd().as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build();
        self.begin(token, Owned::Accept(listener), entry)
    }

    /// Receives until cancelled, end of stream, an error or a lack of buffers, which is `ENOBUFS`
    /// (`IORING_RECV_MULTISHOT`, Linux 6.0).
    pub fn receive(&mut self, socket: Descriptor, token: u64) -> Operation {
        let fd = types::Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::RecvMulti::new(fd, BUFFER_GROUP).build();
        self.begin(token, Owned::Receive(socket), entry)
    }

    /// Sends all the parts, in order, as one message (`sendmsg(2)` with `MSG_WAITALL`); `more` says
    /// that more will follow at once (`MSG_MORE`).
    ///
    /// # Panics
    /// When there are more than [`SEND_PARTS_MAX`] parts.
    pub fn send(
        &mut self,
        socket: Descriptor,
        parts: Vec<Bytes>,
        more: bool,
        token: u64,
    ) -> Operation {
        assert!(parts.len() <= SEND_PARTS_MAX, "a send has at most {SEND_PARTS_MAX} parts");
        let fd = types::Fd(socket.as_fd().as_raw_fd());
        let message = held_message(parts);
        let corked = if more { libc::MSG_MORE } else { 0 };
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL | corked;
        // SAFETY: a field's address is taken without making a reference; the pointee is alive.
        let header = unsafe { &raw const (*message.0.as_ptr()).header };
        let entry = opcode::SendMsg::new(fd, header).flags(flags.cast_unsigned()).build();
        self.begin(token, Owned::Send(socket, message), entry)
    }

    /// Waits, once, until `descriptor` can be written to (`poll(2)`'s `POLLOUT`).
    pub fn poll_writable(&mut self, descriptor: Descriptor, token: u64) -> Operation {
        let fd = types::Fd(descriptor.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLOUT as u32).build();
        self.begin(token, Owned::Poll(descriptor), entry)
    }

    /// Reads up to `length` bytes at `offset`; for what has no offset (an eventfd), `u64::MAX`.
    /// Bytes that are not in the page cache are waited for by the kernel, not by this thread.
    pub fn read(
        &mut self,
        descriptor: Descriptor,
        offset: u64,
        length: u32,
        token: u64,
    ) -> Operation {
        let fd = types::Fd(descriptor.as_fd().as_raw_fd());
        let mut buffer = vec![0; length as usize];
        // Moving the Vec into its slot does not move its heap block.
        let entry = opcode::Read::new(fd, buffer.as_mut_ptr(), length).offset(offset).build();
        self.begin(token, Owned::Read(descriptor, buffer), entry)
    }

    /// Asks for an operation to end early: it still completes, with `ECANCELED` unless it was faster.
    pub fn cancel(&mut self, operation: Operation) {
        let target = types::CancelBuilder::user_data(operation.user_data());
        let entry = opcode::AsyncCancel2::new(target).build();
        self.begin(0, Owned::Cancel, entry);
    }

    /// The received bytes.
    ///
    /// # Panics
    /// When they were received by another ring.
    pub fn bytes(&self, filled: &Filled) -> &[u8] {
        self.buffers.bytes(filled)
    }

    /// Gives a receive buffer back to the kernel.
    pub fn recycle(&mut self, filled: Filled) {
        self.buffers.recycle(filled);
    }

    /// Submits what was begun and waits for a completion, at most this long.
    pub fn wait(&mut self, time_max: Option<Duration>) -> io::Result<()> {
        self.flush_backlog()?;
        let time = time_max.map(types::Timespec::from);
        let arguments = match &time {
            Some(time) => types::SubmitArgs::new().timespec(time),
            None => types::SubmitArgs::new(),
        };
        match self.uring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => Ok(()),
            // ETIME: the time is over. EBUSY: completions have to be taken first. EAGAIN: the kernel
            // is short of memory for requests, which completions give back.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// The next completion there is, without waiting.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.uring.completion().next()?;
            if let Some(completion) = self.complete(&entry) {
                return Some(completion);
            }
        }
    }

    /// How many operations are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn begin(&mut self, token: u64, owned: Owned, entry: squeue::Entry) -> Operation {
        let operation = Some(InFlight { token, owned });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize].operation = operation;
                slot
            }
            None => {
                let slot = u32::try_from(self.slots.len()).expect("fewer operations than u32::MAX");
                self.slots.push(Slot { generation: 0, operation });
                slot
            }
        };
        self.in_flight += 1;
        let name = Operation { slot, generation: self.slots[slot as usize].generation };
        let entry = entry.user_data(name.user_data());
        if !self.backlog.is_empty() || !self.push(&entry) {
            self.backlog.push_back(entry);
        }
        name
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: whatever the entry points at (descriptor, message, buffer) has been put into a slot
        // by `begin` and stays there, unmoved on the heap, until the operation's last completion.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }

    fn flush_backlog(&mut self) -> io::Result<()> {
        while let Some(entry) = self.backlog.pop_front() {
            if self.push(&entry) {
                continue;
            }
            self.backlog.push_front(entry);
            match self.uring.submit() {
                Ok(_) => {}
                Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN)) => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn complete(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let (index, generation) = (entry.user_data() as u32, (entry.user_data() >> 32) as u32);
        let more = cqueue::more(entry.flags());
        let slot = &mut self.slots[index as usize];
        assert_eq!(slot.generation, generation, "a completion for an operation that is over");
        let InFlight { token, owned } = slot.operation.take().expect("the slot is in use");
        let result = match entry.result() {
            value if value < 0 => Err(io::Error::from_raw_os_error(-value)),
            value => Ok(value.cast_unsigned()),
        };
        let keep = |slot: &mut Slot, owned| slot.operation = Some(InFlight { token, owned });
        let completion = match owned {
            Owned::Accept(listener) => {
                if more {
                    keep(slot, Owned::Accept(listener));
                }
                // SAFETY: the kernel has just made this descriptor for this completion, which is
                // taken once; nobody else knows its number.
                let result = result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) });
                Some(Completion::Accepted { token, result, more })
            }
            Owned::Receive(socket) => {
                if more {
                    keep(slot, Owned::Receive(socket));
                }
                let result = self.buffers.filled(result, cqueue::buffer_select(entry.flags()));
                Some(Completion::Received { token, result, more })
            }
            Owned::Send(..) => {
                Some(Completion::Sent { token, result: result.map(|sent| sent as usize) })
            }
            Owned::Poll(_) => Some(Completion::Ready { token, result: result.map(drop) }),
            Owned::Read(_, mut buffer) => {
                let result = result.map(|read| {
                    buffer.truncate(read as usize);
                    buffer
                });
                Some(Completion::Read { token, result })
            }
            // ENOENT, EALREADY: what was to be cancelled is over or as good as over.
            Owned::Cancel => None,
        };
        if self.slots[index as usize].operation.is_none() {
            self.slots[index as usize].generation = generation.wrapping_add(1);
            self.free.push(index);
            self.in_flight -= 1;
        }
        completion
    }

    /// Cancels everything and takes every completion. False when the kernel did not answer in time.
    fn drain(&mut self) -> bool {
        let until = Instant::now() + DRAIN_TIME_MAX;
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
        self.begin(0, Owned::Cancel, entry);
        while self.in_flight > 0 {
            if Instant::now() > until || self.wait(Some(Duration::from_millis(100))).is_err() {
                return false;
            }
            while let Some(completion) = self.next_completion() {
                // Dropping it closes an accepted socket; buffers go with the ring.
                drop(completion);
            }
        }
        true
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.in_flight > 0 && !self.drain() {
            // The kernel may still write to these: they must outlive the process's use of them.
            std::mem::forget(std::mem::take(&mut self.slots));
            self.buffers.leak();
        }
    }
}

#[cfg(test)]
mod test;
