//! The events that wait for a webhook: rows of the index, oldest first, at most [`QUEUED_MAX`].

use crate::format::{DecodeError, Reader, Value, Writer, event_key, event_prefix};
use crate::store::{IndexError, Txn, TxnError, View, ViewExt};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Events that may wait for one webhook: about 10 MiB of the index. Beyond that the oldest go.
pub const QUEUED_MAX: u64 = 10_000;

const VERSION: u8 = 1;

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
    /// Its JSON.
    pub json: Vec<u8>,
}

impl Value for Queued {
    const NAME: &'static str = "queued event";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(9 + self.json.len());
        writer.u8(VERSION);
        writer.u64(self.since_ms);
        writer.raw(&self.json);
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        reader.version(VERSION)?;
        let since_ms = reader.u64()?;
        let left = reader.left();
        Ok(Self { since_ms, json: reader.raw(left)?.to_vec() })
    }
}

/// The queue of one webhook. Clones are the same.
#[derive(Clone)]
pub(super) struct Queue {
    webhook: Arc<str>,
    /// Kept by transactions, which one thread runs; one that fails after it ran is counted anew.
    length: Arc<AtomicU64>,
}

/// A row: its key and its event.
pub(super) type Row = (Vec<u8>, Queued);

impl Queue {
    pub(super) fn open(view: &(impl View + ?Sized), webhook: &str) -> Result<Self, IndexError> {
        let queue = Self { webhook: webhook.into(), length: Arc::default() };
        queue.recount(view)?;
        Ok(queue)
    }

    pub(super) fn recount(&self, view: &(impl View + ?Sized)) -> Result<(), IndexError> {
        let mut count = 0;
        view.within(&event_prefix(&self.webhook), &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        self.length.store(count, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    /// Adds events at the end; how many at the front had to go for them.
    pub(super) fn push(
        &self,
        txn: &mut Txn<'_>,
        since_ms: u64,
        events: Vec<Vec<u8>>,
    ) -> Result<u64, TxnError> {
        let room = QUEUED_MAX.saturating_sub(self.length());
        let displaced = (events.len() as u64).saturating_sub(room);
        let gone = self.first(txn, displaced as usize)?;
        gone.iter().for_each(|(key, _)| txn.delete(key.clone()));
        for json in events {
            let sequence = txn.next_sequence();
            txn.put_value(event_key(&self.webhook, sequence), &Queued { since_ms, json });
            self.length.fetch_add(1, Ordering::Relaxed);
        }
        self.length.fetch_sub(gone.len() as u64, Ordering::Relaxed);
        Ok(gone.len() as u64)
    }

    /// The first rows.
    pub(super) fn first(
        &self,
        view: &(impl View + ?Sized),
        max: usize,
    ) -> Result<Vec<Row>, IndexError> {
        let mut rows = Vec::new();
        if max > 0 {
            view.within(&event_prefix(&self.webhook), &mut |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                if rows.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        let decoded = |(key, value)| Ok((key, crate::store::decoded(value)?));
        rows.into_iter().map(decoded).collect()
    }

    /// Takes rows away, as far as they are still there.
    pub(super) fn remove(&self, txn: &mut Txn<'_>, keys: Vec<Vec<u8>>) -> Result<(), TxnError> {
        for key in keys {
            if txn.get(&key)?.is_some() {
                txn.delete(key);
                self.length.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
