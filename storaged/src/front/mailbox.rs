//! How a ring thread hears that one of its connections can go on.
//!
//! Wakers may be used on any thread. They put the connection's name into the mailbox of its ring
//! thread, and ring a bell only when that thread sleeps: most wakes happen on the thread itself.

use crossbeam::queue::SegQueue;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use sys::event::Event;

/// The mailbox of a ring thread.
#[derive(Debug)]
pub struct Mailbox {
    names: SegQueue<u64>,
    sleeping: AtomicBool,
    bell: Arc<Event>,
}

impl Mailbox {
    /// An empty one.
    pub fn new() -> io::Result<Mailbox> {
        let bell = Arc::new(Event::new()?);
        Ok(Mailbox { names: SegQueue::new(), sleeping: AtomicBool::new(false), bell })
    }

    /// What the ring thread listens to while it sleeps.
    pub fn bell(&self) -> Arc<Event> {
        Arc::clone(&self.bell)
    }

    /// Puts a name in and wakes the ring thread if it sleeps.
    pub fn post(&self, name: u64) {
        self.names.push(name);
        // SeqCst on both sides: either this sees that the thread sleeps, or the thread, which looks
        // into the queue after it has said so, sees the name.
        if self.sleeping.swap(false, Ordering::SeqCst)
            && let Err(e) = self.bell.ring()
        {
            log::error!("can't wake a ring thread: {e}");
        }
    }

    /// Takes a name out.
    pub fn take(&self) -> Option<u64> {
        self.names.pop()
    }

    /// How many names are in it.
    pub fn waiting(&self) -> usize {
        self.names.len()
    }

    /// Says that the thread is about to sleep. False: there is something to do first.
    pub fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        let sleep = self.names.is_empty();
        if !sleep {
            self.wake_up();
        }
        sleep
    }

    /// Says that the thread is awake.
    pub fn wake_up(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }
}

/// Wakes one connection.
#[derive(Debug)]
pub struct Waker {
    mailbox: Arc<Mailbox>,
    name: u64,
    /// Whether the name is in the mailbox already.
    posted: AtomicBool,
}

impl Waker {
    /// For the connection of this name.
    pub fn new(mailbox: Arc<Mailbox>, name: u64) -> Waker {
        Waker { mailbox, name, posted: AtomicBool::new(false) }
    }

    /// Says that the name has been taken out and is acted on now.
    pub fn heard(&self) {
        self.posted.store(false, Ordering::SeqCst);
    }
}

impl Wake for Waker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.posted.swap(true, Ordering::SeqCst) {
            self.mailbox.post(self.name);
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_name_is_posted_once_until_it_is_heard() {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let waker = Arc::new(Waker::new(Arc::clone(&mailbox), 7));
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!((mailbox.take(), mailbox.take()), (Some(7), None));
        waker.heard();
        waker.wake_by_ref();
        assert_eq!(mailbox.take(), Some(7));
    }

    #[test]
    fn nobody_sleeps_on_a_full_mailbox() {
        let mailbox = Mailbox::new().unwrap();
        assert!(mailbox.fall_asleep());
        mailbox.post(1);
        assert!(!mailbox.fall_asleep());
        mailbox.take();
        assert!(mailbox.fall_asleep());
    }
}
