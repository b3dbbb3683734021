//! The latch: once the disk has failed, nothing is written any more.

use std::sync::{Arc, OnceLock};

/// Why the store takes no changes, if so; closed once, for the life of the process.
#[derive(Debug, Default)]
pub struct Latch(OnceLock<Arc<str>>);

impl Latch {
    /// Closes it. Only the first reason counts: later failures follow from it.
    pub fn close(&self, why: impl std::fmt::Display) -> Arc<str> {
        let mut first = false;
        let reason = self.0.get_or_init(|| {
            first = true;
            format!("{why}; restart storaged when the disk is sound again").into()
        });
        if first {
            log::error!("the store is read-only from now on: {reason}");
        }
        Arc::clone(reason)
    }

    /// Why it is closed, if it is.
    #[must_use]
    pub fn closed(&self) -> Option<Arc<str>> {
        self.0.get().cloned()
    }
}
