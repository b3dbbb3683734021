//! What the fronts ask of uploads in parts.

use super::{Upload, UploadId};
use crate::committer::TransactError;
use crate::files::{
    AssembleError, Assembly, Begun, Completion, PartError, PartWriter, WrittenPart,
};
use crate::store::{Content, ObjectFile, Store, Txn, TxnError};
use std::ops::Range;
use std::sync::Arc;

impl Store {
    /// Begins a part of an upload: of so many bytes, if that is known.
    ///
    /// # Errors
    /// When there is no such upload, the disk is too full, or the file can't be made.
    pub async fn begin_part(
        &self,
        id: UploadId,
        number: u32,
        size: Option<u64>,
    ) -> Result<PartWriter, PartError> {
        self.inner.files.begin_part(self, id, number, size).await
    }

    /// Puts a part on disk and records it, over an older one of its number.
    ///
    /// # Errors
    /// When the upload ended meanwhile, or the disk fails. An older part stands then.
    pub async fn record_part(
        &self,
        written: WrittenPart,
        sum: Option<(String, String)>,
        modified_ms: u64,
    ) -> Result<(), PartError> {
        self.inner.files.record_part(self, written, sum, modified_ms).await
    }

    /// Fills a part with bytes of an object, which `sink` takes, too.
    ///
    /// # Errors
    /// When the object can't be read, or as [`Store::record_part`].
    pub async fn copy_part<S: Send + 'static>(
        &self,
        part: PartWriter,
        from: Arc<ObjectFile>,
        range: Range<u64>,
        sink: S,
        take: fn(&mut S, &[u8]),
    ) -> Result<(WrittenPart, S), PartError> {
        part.copy(from, range, sink, take).await
    }

    /// Begins to complete an upload: it takes no parts until this is over.
    #[must_use]
    pub fn begin_completion(&self, id: UploadId) -> Begun {
        self.inner.files.begin_completion(id)
    }

    /// Completes an upload; what it is begun with does not wait for whoever asked.
    pub(crate) async fn assemble<T, E, F>(
        &self,
        completion: Completion,
        assembly: Assembly,
        finish: F,
        after: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, AssembleError<E>>
    where
        F: FnOnce(&mut Txn<'_>, Content, &Upload) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<TxnError> + Send + 'static,
    {
        self.inner.files.assemble(self, completion, assembly, finish, after).await
    }

    /// Aborts an upload: all of it goes. Whether it was there.
    ///
    /// # Errors
    /// When it is being completed, or the transaction fails.
    pub async fn abort_upload(&self, id: UploadId) -> Result<bool, AbortError> {
        // So that no completion begins meanwhile.
        let completion = match self.begin_completion(id) {
            Begun::Mine(completion) => completion,
            Begun::Running(_) => return Err(AbortError::Completing),
            Begun::Ended => return Ok(false),
        };
        self.inner.files.abort(self, completion).await.map_err(AbortError::Record)
    }
}

/// Why an upload was not aborted.
#[derive(Debug, thiserror::Error)]
pub enum AbortError {
    /// It is being completed.
    #[error("the upload is being completed; try again later")]
    Completing,
    /// Its records could not be removed.
    #[error("could not forget the upload")]
    Record(#[source] TransactError<TxnError>),
}
