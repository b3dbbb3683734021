//! Uploads in parts, as records: begun, given parts, ended. The bytes are the business of
//! [`crate::files`], whose files these records name.
//!
//! ```text
//!   begin ─▶ upload, row of the bucket's listing
//!   record_part ─▶ part (over an older one), the shared file if it is new
//!   abort ─▶ all of it gone          complete ─▶ all of it gone, an object, and a note for an hour
//! ```
//! **Invariant: a part's record is committed after its bytes are on disk,** and no byte that a record
//! names is written again before the record is gone.

mod calls;
mod list;
#[cfg(test)]
mod test;
mod types;

pub use crate::files::{
    ASSEMBLED_BYTES_MAX as UPLOAD_BYTES_MAX, Begun, Completion, PART_BYTES_MAX, PART_BYTES_MIN,
    PARTS_MAX, PartError, PartWriter, WrittenPart,
};
pub use calls::AbortError;
pub use list::{UploadEntry, UploadMarker, UploadPage, UploadQuery, list_uploads};
pub use types::{
    CompletedUpload, PartFile, Place, SharedFile, SumChoice, Upload, UploadId, UploadedPart,
};

use super::view::{damaged, decoded};
use super::{IndexError, Metadata, ObjectPath, Txn, TxnError, View, ViewExt};
use crate::format::{
    Keyspace, completed_key, part_key, upload_key, upload_list_key, upload_list_prefix,
};
use std::ops::{Bound, ControlFlow};

/// How long a completed upload is remembered, in milliseconds: a client that lost the answer asks again
/// within minutes.
pub const COMPLETED_KEPT_MS: u64 = 60 * 60 * 1000;
/// Memories that go with each completion, if they are old enough: more than the one that it adds.
const FORGOTTEN_AT_ONCE: usize = 4;

/// What begins an upload.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// The bucket.
    pub bucket: String,
    /// Where the object will be.
    pub path: ObjectPath,
    /// The name of the account that asks.
    pub initiator: String,
    /// Milliseconds since 1970.
    pub initiated_ms: u64,
    /// The checksum it is begun with.
    pub sum: Option<SumChoice>,
    /// What is said of the object.
    pub meta: Metadata,
}

/// An upload that has not ended.
///
/// # Errors
/// When the index fails.
pub fn upload(view: &(impl View + ?Sized), id: UploadId) -> Result<Option<Upload>, IndexError> {
    view.get_value(&upload_key(id))
}

/// A part of an upload.
///
/// # Errors
/// When the index fails.
pub fn part(
    view: &(impl View + ?Sized),
    id: UploadId,
    number: u32,
) -> Result<Option<UploadedPart>, IndexError> {
    view.get_value(&part_key(id, Some(number)))
}

/// The parts of an upload whose numbers are above `after`, at most `max`, and whether there are more.
///
/// # Errors
/// When the index fails.
pub fn parts(
    view: &(impl View + ?Sized),
    id: UploadId,
    after: u32,
    max: usize,
) -> Result<(Vec<UploadedPart>, bool), IndexError> {
    let from = part_key(id, Some(after));
    let end = crate::format::prefix_end(&part_key(id, None));
    let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let (mut found, mut more) = (Vec::new(), false);
    view.range(Bound::Excluded(&from), to, &mut |_, value| {
        more = found.len() == max;
        if more {
            return ControlFlow::Break(());
        }
        found.push(value.to_vec());
        ControlFlow::Continue(())
    })?;
    let found = found.into_iter().map(decoded).collect::<Result<_, _>>()?;
    Ok((found, more))
}

/// An upload that was completed lately.
///
/// # Errors
/// When the index fails.
pub fn completed(
    view: &(impl View + ?Sized),
    id: UploadId,
) -> Result<Option<CompletedUpload>, IndexError> {
    view.get_value(&completed_key(Some(id)))
}

/// Some uploads to a bucket, at most `max`.
///
/// # Errors
/// When the index fails.
pub fn uploads_to(
    view: &(impl View + ?Sized),
    bucket: &str,
    max: usize,
) -> Result<Vec<UploadId>, IndexError> {
    let mut rows = Vec::new();
    view.within(&upload_list_prefix(bucket, b""), &mut |row, _| {
        rows.push(crate::format::read_upload_list_key(row, bucket));
        if rows.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let ids = rows.into_iter().map(|row| row.map(|(_, id)| id));
    ids.collect::<Result<_, _>>().map_err(damaged("row of a bucket's uploads"))
}

impl Txn<'_> {
    /// Begins an upload.
    ///
    /// # Errors
    /// When the disk is too full.
    pub fn begin_upload(&mut self, new: NewUpload) -> Result<Upload, TxnError> {
        self.check_room()?;
        let NewUpload { bucket, path, initiator, initiated_ms, sum, meta } = new;
        let id = UploadId(self.next_sequence());
        let shared = None;
        let upload = Upload { id, bucket, path, initiator, initiated_ms, sum, shared, meta };
        self.put_value(upload_key(id), &upload);
        self.put(upload_list_key(&upload.bucket, upload.key(), id), Vec::new());
        Ok(upload)
    }

    /// Records a part whose bytes are on disk, over an older one of its number, which it gives back; `None`
    /// for the upload means that it has ended.
    ///
    /// # Errors
    /// When the index fails.
    pub fn record_part(
        &mut self,
        id: UploadId,
        new: &UploadedPart,
        shared: Option<SharedFile>,
    ) -> Result<Option<Option<UploadedPart>>, TxnError> {
        let Some(mut upload) = upload(self, id)? else { return Ok(None) };
        if shared.is_some() && upload.shared != shared {
            upload.shared = shared;
            self.put_value(upload_key(id), &upload);
        }
        let old = part(self, id, new.number)?;
        self.put_value(part_key(id, Some(new.number)), new);
        Ok(Some(old))
    }

    /// Forgets an upload and its parts; whether it was there.
    ///
    /// # Errors
    /// When the index fails.
    pub fn forget_upload(&mut self, id: UploadId) -> Result<bool, TxnError> {
        let Some(upload) = upload(self, id)? else { return Ok(false) };
        self.delete(upload_list_key(&upload.bucket, upload.key(), id));
        self.delete(upload_key(id));
        let parts = part_key(id, None);
        self.delete_within(Keyspace::Uploads, &parts[1..], usize::MAX)?;
        Ok(true)
    }

    /// Remembers a completed upload for an hour, and forgets some that were remembered for longer.
    ///
    /// # Errors
    /// When the index fails.
    pub fn remember_completed(&mut self, done: &CompletedUpload) -> Result<(), TxnError> {
        let before = done.completed_ms.saturating_sub(COMPLETED_KEPT_MS);
        let mut looked_at = Vec::new();
        self.within(&completed_key(None), &mut |key, value| {
            looked_at.push((key.to_vec(), value.to_vec()));
            if looked_at.len() < FORGOTTEN_AT_ONCE {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        for (key, value) in looked_at {
            let old: CompletedUpload = decoded(value)?;
            if old.completed_ms < before {
                self.delete(key);
            }
        }
        self.put_value(completed_key(Some(done.id)), done);
        Ok(())
    }
}
