//! Lines about requests on their way from the ring threads to whoever keeps them. Nobody waits: a line that
//! finds no room is dropped, and counted.

use super::line::{self, Arrived, Ended};
use super::{Kinds, Origin, RequestId};
use crate::calendar;
use crossbeam::channel::{Sender, TrySendError};
use http::Request;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes that a ring thread gathers before it gives them away, unless a second is over first.
const GATHERED_BYTES: usize = 64 * 1024;

/// Where lines go: pieces of many whole lines.
#[derive(Debug, Clone)]
pub struct Lines {
    /// Bounded by whoever made it.
    pub pieces: Sender<Vec<u8>>,
    /// Lines that found no room.
    pub dropped: Arc<AtomicU64>,
}

/// A ring thread's lines.
pub(super) struct Gathered {
    to: Lines,
    bytes: Vec<u8>,
    lines: u64,
    /// The second that the text tells.
    second: u64,
    text: String,
}

impl Gathered {
    pub(super) fn new(to: Lines) -> Gathered {
        Gathered { to, bytes: Vec::new(), lines: 0, second: 0, text: String::new() }
    }

    /// The beginning of a line.
    pub(super) fn begin(
        &mut self,
        kinds: &Kinds,
        kind: usize,
        origin: Origin,
        id: RequestId,
        head: &Request<()>,
    ) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if now.as_secs() != self.second {
            self.second = now.as_secs();
            self.text = calendar::rfc3339(self.second * 1000);
            // Without its milliseconds.
            self.text.truncate("2026-11-22T09:00:00".len());
        }
        let arrived = Arrived {
            second: &self.text,
            millis: now.subsec_millis(),
            port: kinds.port,
            operation: kinds.names.get(kind).copied().unwrap_or("Other"),
            remote: origin.address,
            id,
        };
        line::begin(&arrived, head)
    }

    /// The end of a line.
    pub(super) fn end(&mut self, mut line: String, ended: &Ended) {
        line::end(&mut line, ended);
        self.bytes.extend_from_slice(line.as_bytes());
        self.lines += 1;
        if self.bytes.len() >= GATHERED_BYTES {
            self.give();
        }
    }

    /// Gives away what there is.
    pub(super) fn give(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        match self.to.pieces.try_send(std::mem::take(&mut self.bytes)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.to.dropped.fetch_add(lines, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.give();
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn lines_without_room_are_dropped_and_counted() {
        let (pieces, receiver) = crossbeam::channel::bounded(1);
        let to = Lines { pieces, dropped: Arc::default() };
        let mut gathered = Gathered::new(to.clone());
        let ended = Ended { status: None, sent: 0, time: Default::default(), to_answer: None };
        for _ in 0..5 {
            gathered.end("{\"x\":1".to_owned(), &ended);
            gathered.give();
        }
        assert_eq!((to.dropped.load(Ordering::Relaxed), receiver.len()), (4, 1));
        let piece = receiver.recv().unwrap();
        assert_eq!(piece, b"{\"x\":1,\"status\":null,\"sent\":0,\"micros\":0}\n");
    }
}
