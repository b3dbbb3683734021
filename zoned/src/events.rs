//! What happened to zones, for whoever watches: a bounded ring of numbered events.
//!
//! Owns the ring and the numbers; sends nothing. A watcher has a place in the ring ([`Events::after`]); one
//! that is slower than the ring is long misses what fell out of it, and sees so by the numbers. Numbers go
//! on when zoned is started again: a file on the node's memory has the first one that was never given.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use wire::standing::{EVENTS_MAX, Event, Subject, What};

/// Events that are remembered: minutes of a busy node, in about 1 MiB at the most usual sizes.
const RING: usize = 4096;
/// Numbers taken at once: the file is written once for so many events.
const BLOCK: u64 = 1024;
/// Bytes of events in one message, well below what a message may have.
const BATCH_BYTES: usize = 48 * 1024;
/// The most bytes of a reason or another text that others chose.
const TEXT_BYTES: usize = 512;

/// The events that are remembered.
#[derive(Debug)]
pub struct Events {
    ring: VecDeque<(Event, usize)>,
    next: u64,
    /// The first number that the file does not cover.
    reserved: u64,
    file: Option<PathBuf>,
}

impl Events {
    /// No events yet; numbers go on after those that `file` says were given.
    ///
    /// # Errors
    /// What reading or writing the file says.
    pub fn open(file: &Path) -> io::Result<Self> {
        let next = match fs::read_to_string(file) {
            // A torn file is one of an earlier zoned that was killed while it wrote.
            Ok(text) => text.trim().parse().unwrap_or(1),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(error),
        };
        let file = Some(file.to_owned());
        let mut events = Self { ring: VecDeque::new(), next, reserved: next, file };
        events.reserve()?;
        Ok(events)
    }

    /// Events that nobody counts on over a restart.
    #[must_use]
    pub const fn volatile() -> Self {
        Self { ring: VecDeque::new(), next: 1, reserved: u64::MAX, file: None }
    }

    /// Notes that something happened.
    pub fn tell(&mut self, subject: Subject, what: What) {
        if self.next >= self.reserved
            && let Err(error) = self.reserve()
        {
            eprintln!("zoned: cannot note the numbers of events: {error}");
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let event = Event { number: self.next, at_unix_ms, subject, what: shortened(what) };
        self.next += 1;
        // An event that can't be spelled can't be sent either; it counts as a whole message then.
        let bytes = serde_json::to_vec(&event).map_or(BATCH_BYTES, |text| text.len() + 1);
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back((event, bytes));
    }

    /// The number of the last event; 0 before the first.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.next - 1
    }

    /// The events after number `after` that are still known, as many as one message takes.
    #[must_use]
    pub fn after(&self, after: u64) -> Vec<Event> {
        let from = self.ring.partition_point(|(event, _)| event.number <= after);
        let mut bytes = 0;
        let fits = |(at, (_, size)): &(usize, &(Event, usize))| {
            bytes += size;
            *at == 0 || bytes <= BATCH_BYTES
        };
        let batch = self.ring.iter().skip(from).take(EVENTS_MAX).enumerate().take_while(fits);
        batch.map(|(_, (event, _))| event.clone()).collect()
    }

    fn reserve(&mut self) -> io::Result<()> {
        self.reserved = self.next + BLOCK;
        match &self.file {
            Some(file) => fs::write(file, format!("{}\n", self.reserved)),
            None => Ok(()),
        }
    }
}

/// Cuts what tenants or programs may have made long.
fn shortened(what: What) -> What {
    let cut = |mut text: String| {
        if text.len() > TEXT_BYTES {
            let end = (0..=TEXT_BYTES).rev().find(|&end| text.is_char_boundary(end));
            text.truncate(end.unwrap_or(0));
        }
        text
    };
    match what {
        What::State { from, to, why } => What::State { from, to, why: why.map(cut) },
        What::Held { why } => What::Held { why: cut(why) },
        What::ImportFailed { why } => What::ImportFailed { why: cut(why) },
        What::Damaged { object } => What::Damaged { object: cut(object) },
        What::Published(mut published) => {
            published.made.clear();
            published.refused = published.refused.into_iter().map(cut).collect();
            What::Published(published)
        }
        other => other,
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use wire::frame::{Kind, MESSAGE_BYTES_MAX, encode};
    use wire::standing::ZonePush;

    fn held(bytes: usize) -> What {
        What::Held { why: "é".repeat(bytes / 2) }
    }

    #[test]
    fn a_watcher_gets_what_it_has_not_seen_in_order() {
        let mut events = Events::volatile();
        (0..3).for_each(|_| events.tell(Subject::Node, What::Released));
        let numbers = |after| events.after(after).iter().map(|e| e.number).collect::<Vec<_>>();
        assert_eq!(numbers(0), [1, 2, 3]);
        assert_eq!(numbers(2), [3]);
        assert!(numbers(3).is_empty() && numbers(u64::MAX).is_empty());
        assert_eq!(events.last(), 3);
    }

    #[test]
    fn numbers_go_on_after_a_restart_and_never_come_twice() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events");
        let mut last = 0;
        for _ in 0..3 {
            let mut events = Events::open(&file).unwrap();
            (0..BLOCK + 3).for_each(|_| events.tell(Subject::Node, What::Released));
            let first = events.ring.front().unwrap().0.number;
            assert!(first > last, "{first} after {last}");
            last = events.last();
        }
    }

    #[test]
    fn a_ring_that_is_full_forgets_its_oldest() {
        let mut events = Events::volatile();
        (0..RING + 5).for_each(|_| events.tell(Subject::Node, What::Released));
        assert_eq!(events.after(0)[0].number, 6);
    }

    proptest! {
        #[test]
        fn batches_fit_a_message_and_miss_nothing(sizes in prop::collection::vec(0..5000usize, 1..200)) {
            let mut events = Events::volatile();
            sizes.iter().for_each(|&size| events.tell(Subject::Node, held(size)));
            let mut seen = 0;
            while seen < events.last() {
                let batch = events.after(seen);
                prop_assert_eq!(batch[0].number, seen + 1);
                seen += batch.len() as u64;
                let message = encode(Kind::Push, 0, &ZonePush::Events(batch), 0).unwrap();
                prop_assert!(message.len() <= MESSAGE_BYTES_MAX);
            }
        }
    }
}
