//! The index: an ordered map from bytes to bytes, the materialised view of the journal.
//!
//! The traits are the seam at which another engine could take redb's place: nothing above them may
//! assume that the index is local, or that it is durable at any moment but its checkpoints. What
//! keys and values mean is the business of [`crate::format`].

mod layer;
mod memory;
mod redb;

pub use self::redb::{CACHE_BYTES_MAX, CACHE_BYTES_MIN, RedbIndex};
pub use layer::{Changes, Layer};
pub use memory::MemoryIndex;

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use thiserror::Error;

/// What went wrong in the index.
#[derive(Debug, Error)]
pub enum IndexError {
    /// The engine failed.
    #[error("the index could not {doing}")]
    Engine {
        /// What it was asked to do.
        doing: &'static str,
        /// What it says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value that its codec does not accept.
    #[error("the index holds a damaged {what}; run `storaged rebuild` to make it anew")]
    Damaged {
        /// Which kind of value.
        what: &'static str,
        /// What its codec says.
        #[source]
        source: crate::format::DecodeError,
    },
}

impl IndexError {
    /// Whether the index itself is damaged, so that a new one helps; not the disk, or the machine.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Engine { source, .. } => self::redb::is_damage(&**source),
            Self::Damaged { .. } => true,
        }
    }
}

/// What is shown keys and values until it breaks.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A consistent view to read from.
pub trait View {
    /// The value of a key.
    ///
    /// # Errors
    /// When the engine fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;

    /// Visits keys and values in the order of the keys until the visitor breaks.
    ///
    /// # Errors
    /// When the engine fails.
    fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), IndexError>;
}

/// A view that can be shared between threads.
pub type SharedView = Arc<dyn View + Send + Sync>;

/// Whether a change must be on disk when [`Index::apply`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persist {
    /// It may be lost in a crash: the journal has it.
    Later,
    /// It, and all before it, is on disk.
    Now,
}

/// An engine. One thread applies; any thread reads.
pub trait Index: Send {
    /// A view of everything applied so far.
    ///
    /// # Errors
    /// When the engine fails.
    fn view(&self) -> Result<SharedView, IndexError>;

    /// Applies a batch atomically and remembers that everything up to `sequence` is in.
    ///
    /// # Errors
    /// When the engine fails; nothing of the batch is applied then.
    fn apply(
        &mut self,
        changes: &Changes,
        sequence: u64,
        persist: Persist,
    ) -> Result<(), IndexError>;

    /// The sequence up to which everything is in.
    ///
    /// # Errors
    /// When the engine fails.
    fn applied(&self) -> Result<u64, IndexError>;

    /// Whether the engine finds its own structure sound; it may mend what it finds.
    ///
    /// # Errors
    /// When the engine fails, or somebody still reads from it.
    fn is_sound(&mut self) -> Result<bool, IndexError>;
}
