//! What stays where it is while the kernel knows its address: a message to be sent, above all.
#![allow(unsafe_code)]

use super::SEND_PARTS_MAX;
use bytes::Bytes;
use std::ptr::NonNull;

/// A value on the heap that stays where it is while the kernel knows its address. Unlike a `Box`, it
/// may be moved without a claim that nobody else points at it.
pub(super) struct Held<T>(pub(super) NonNull<T>);

impl<T> Held<T> {
    fn new(value: T) -> Held<T> {
        Held(NonNull::from(Box::leak(Box::new(value))))
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a leaked Box in `new` and nothing else frees it; `Held` is
        // dropped only after the kernel is done with it (a slot is cleared on its last completion).
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// What a sendmsg needs to stay alive: the header points at the vectors, they at the parts.
pub(super) struct Message {
    pub(super) header: libc::msghdr,
    vectors: [libc::iovec; SEND_PARTS_MAX],
    parts: Vec<Bytes>,
}

pub(super) fn held_message(parts: Vec<Bytes>) -> Held<Message> {
    let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    // SAFETY: msghdr is plain old data, for which all-zero bytes are a valid value.
    let header = unsafe { std::mem::zeroed() };
    let held = Held::new(Message { header, vectors: [empty; SEND_PARTS_MAX], parts });
    // SAFETY: the Held was made above and is not shared yet, so this is the only reference, and it
    // ends with this function. The pointers stored stay good as long as the Held lives: the message
    // does not move, and a Bytes never moves its bytes while it exists.
    let message = unsafe { &mut *held.0.as_ptr() };
    for (vector, part) in message.vectors.iter_mut().zip(&message.parts) {
        // The kernel only reads from it.
        vector.iov_base = part.as_ptr().cast_mut().cast();
        vector.iov_len = part.len();
    }
    message.header.msg_iov = (&raw mut message.vectors).cast();
    message.header.msg_iovlen = message.parts.len();
    held
}
