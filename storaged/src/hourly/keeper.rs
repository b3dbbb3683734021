//! The one who writes: a thread that gathers lines in a file an hour, and has objects made of the files.

use super::shelf::{Open, Shelf};
use super::slot::Slot;
use super::{What, now};
use crossbeam::channel::{Receiver, Sender, select};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a power cut may lose of lines that nobody waits for.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of one object; a busier hour has several.
pub(super) const OBJECT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Up to this size an object is brought up to date before its hour is over: each time it is written anew.
const FRESH_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Lines whose sender waits until they are on disk.
pub(super) struct Kept {
    /// Whole lines.
    pub(super) lines: Vec<u8>,
    /// Who waits.
    pub(super) answer: Sender<io::Result<()>>,
}

/// The one who writes.
pub(super) struct Keeper {
    shelf: Shelf,
    what: &'static What,
    open: Option<Open>,
    dropped: Arc<AtomicU64>,
    sync_at: Instant,
    object_at: Option<Instant>,
}

/// What came.
enum Came {
    Lines(Vec<u8>),
    Kept(Kept),
    Nothing,
    End,
}

impl Keeper {
    pub(super) fn new(shelf: Shelf, what: &'static What, dropped: Arc<AtomicU64>) -> Keeper {
        let now = Instant::now();
        let object_at = what.object_interval.map(|interval| now + interval);
        Keeper { shelf, what, open: None, dropped, sync_at: now + SYNC_INTERVAL, object_at }
    }

    pub(super) fn run(mut self, lines: &Receiver<Vec<u8>>, kept: &Receiver<Kept>) {
        self.shelve_before(Slot::at(now()));
        loop {
            match self.wait(lines, kept) {
                Came::Lines(piece) => self.keep_or_count(&piece),
                Came::Kept(Kept { lines, answer }) => {
                    let done = self.keep(&lines).and_then(|()| self.sync());
                    // Who asked may be gone: then nobody wants the answer.
                    drop(answer.send(done));
                }
                Came::Nothing => {}
                Came::End => break,
            }
            if self.sync_at <= Instant::now() {
                self.sync_at = Instant::now() + SYNC_INTERVAL;
                self.sync_or_say();
                self.turn();
                self.freshen();
            }
        }
        // Whoever sends lines that nobody waits for is given up after the others.
        lines.iter().for_each(|piece| self.keep_or_count(&piece));
        self.sync_or_say();
        // The hour may go on after a restart: its file stays, and the object is replaced then.
        if let Some(open) = self.open.take()
            && let Err(e) = self.shelf.put(open.slot)
        {
            log::warn!("the {} is kept in a file: {}", self.what.name, crate::s3::chain(&e));
        }
    }

    fn wait(&self, lines: &Receiver<Vec<u8>>, kept: &Receiver<Kept>) -> Came {
        let wait = self.sync_at.saturating_duration_since(Instant::now());
        select! {
            recv(lines) -> piece => piece.map_or(Came::End, Came::Lines),
            recv(kept) -> piece => piece.map_or(Came::End, Came::Kept),
            default(wait) => Came::Nothing,
        }
    }

    /// Ends the file of an hour that is over, or of one that is full.
    fn turn(&mut self) {
        let now = Slot::at(now());
        let over = |open: &Open| open.slot.hour != now.hour || open.bytes >= OBJECT_BYTES_MAX;
        if let Some(open) = self.open.take_if(|open| over(open)) {
            drop(open.file);
            self.shelve_before(if open.slot.hour == now.hour { open.slot.next() } else { now });
        }
    }

    /// Brings the object of an hour that is not over up to date, when that is due.
    fn freshen(&mut self) {
        let (Some(interval), Some(at)) = (self.what.object_interval, self.object_at) else {
            return;
        };
        if Instant::now() < at {
            return;
        }
        self.object_at = Some(Instant::now() + interval);
        let Some(open) = &mut self.open else { return };
        if open.bytes == open.shelved_bytes || open.bytes > FRESH_BYTES_MAX {
            return;
        }
        match self.shelf.put(open.slot) {
            Ok(()) => open.shelved_bytes = open.bytes,
            Err(e) => {
                log::warn!(
                    "the object of this hour's {} is old: {}",
                    self.what.name,
                    crate::s3::chain(&e)
                );
            }
        }
    }

    fn keep_or_count(&mut self, piece: &[u8]) {
        if let Err(e) = self.keep(piece) {
            let lines = piece.iter().filter(|&&byte| byte == b'\n').count();
            self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
            log::warn!("can't write the {}, {lines} lines are lost: {e}", self.what.name);
        }
    }

    fn keep(&mut self, piece: &[u8]) -> io::Result<()> {
        self.turn();
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(self.shelf.open(Slot::at(now()))?),
        };
        open.is_synced = false;
        if let Err(e) = open.file.write_all(piece) {
            // Half a line would spoil the next one.
            open.file.set_len(open.bytes)?;
            return Err(e);
        }
        open.bytes += piece.len() as u64;
        Ok(())
    }

    fn sync_or_say(&mut self) {
        if let Err(e) = self.sync() {
            log::error!("can't sync the {}: {e}", self.what.name);
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(open) = self.open.as_mut().filter(|open| !open.is_synced) else { return Ok(()) };
        let synced = open.file.sync_data();
        match synced {
            Ok(()) => open.is_synced = true,
            // What was written may be lost, and another sync would not tell: on with a new file.
            Err(_) => self.open = None,
        }
        synced
    }

    /// Makes objects of the files before this slot.
    fn shelve_before(&self, slot: Slot) {
        let slots = self.shelf.slots().unwrap_or_else(|e| {
            log::warn!("{}", crate::s3::chain(&e));
            Vec::new()
        });
        for old in slots.into_iter().filter(|old| *old < slot) {
            let shelved = self.shelf.put(old).and_then(|()| self.shelf.remove(old));
            if let Err(e) = shelved {
                // It is tried again when the next hour is over.
                let name = self.what.name;
                log::warn!("an hour of the {name} stays a file: {}", crate::s3::chain(&e));
            }
        }
    }
}
