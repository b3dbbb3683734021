//! Attempts in zoned's hands: their staging files and what was opened for them. Gone with the
//! connection they were claimed on; what must survive is in the index.

use super::connection::ConnectionId;
use crate::jobs::verdict::Failure;
use crate::store::{Staging, ViewFile};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wire::task::AttemptId;

/// One of them.
#[derive(Debug)]
pub struct Attempt {
    /// What becomes the output.
    pub stdout: Staging,
    /// What becomes the stderr object, if it fails.
    pub stderr: Staging,
    /// The input and the assets, kept as long as a zone may look for them.
    pub views: Vec<ViewFile>,
    /// Who pays for it.
    pub account: u32,
    /// Blobs that the prefetcher keeps mapped for it.
    pub held: BTreeSet<u64>,
    /// What storaged found wrong while it ran: that counts, however it ends.
    pub fault: Option<Failure>,
}

#[derive(Debug, Default)]
struct Table {
    zoned: Option<ConnectionId>,
    attempts: BTreeMap<AttemptId, Attempt>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Living(Mutex<Table>);

impl Living {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change is one call on a map: no panic leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// zoned came on this connection.
    pub fn arrive(&self, zoned: ConnectionId) {
        self.table().zoned = Some(zoned);
    }

    /// The connection is gone: these attempts are to be cut off.
    pub fn depart(&self, connection: ConnectionId) -> BTreeMap<AttemptId, Attempt> {
        let mut table = self.table();
        if table.zoned != Some(connection) {
            return BTreeMap::new();
        }
        table.zoned = None;
        std::mem::take(&mut table.attempts)
    }

    /// Notes an attempt for whoever claimed it; gives it back if they are gone.
    pub fn add(
        &self,
        connection: ConnectionId,
        id: AttemptId,
        attempt: Attempt,
    ) -> Result<(), Box<Attempt>> {
        let mut table = self.table();
        if table.zoned != Some(connection) {
            return Err(Box::new(attempt));
        }
        table.attempts.insert(id, attempt);
        Ok(())
    }

    /// Takes an attempt that is over.
    pub fn take(&self, id: AttemptId) -> Option<Attempt> {
        self.table().attempts.remove(&id)
    }

    /// Changes an attempt, if it lives.
    pub fn with<T>(&self, id: AttemptId, change: impl FnOnce(&mut Attempt) -> T) -> Option<T> {
        self.table().attempts.get_mut(&id).map(change)
    }
}
