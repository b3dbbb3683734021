//! Typed reading: from a snapshot or from inside a transaction alike.

use super::types::{AccountId, BlobId, BlobRecord, BucketRecord, ObjectPath, ObjectRecord};
use crate::format::{
    DecodeError, Value, account_key, blob_key, bucket_key, bucket_owner_key, object_key, prefix_end,
};
use crate::index::{IndexError, View, Visitor};
use std::ops::{Bound, ControlFlow};

/// What every view can do beyond the trait.
pub trait ViewExt: View {
    /// The typed value of a key.
    ///
    /// # Errors
    /// When the engine fails or the value is damaged.
    fn get_value<V: Value>(&self, key: &[u8]) -> Result<Option<V>, IndexError> {
        self.get(key)?.map(decoded).transpose()
    }

    /// Visits all keys that start with `prefix`, in order, until the visitor breaks.
    ///
    /// # Errors
    /// When the engine fails.
    fn within(&self, prefix: &[u8], visit: &mut Visitor<'_>) -> Result<(), IndexError> {
        let end = prefix_end(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.range(Bound::Included(prefix), to, visit)
    }
}

impl<V: View + ?Sized> ViewExt for V {}

pub(crate) fn decoded<V: Value>(bytes: Vec<u8>) -> Result<V, IndexError> {
    V::decode(bytes).map_err(damaged(V::NAME))
}

pub(crate) fn damaged(what: &'static str) -> impl Fn(DecodeError) -> IndexError {
    move |source| IndexError::Damaged { what, source }
}

/// The current version of an object.
///
/// # Errors
/// When the index fails.
pub fn object(
    view: &(impl View + ?Sized),
    path: &ObjectPath,
) -> Result<Option<ObjectRecord>, IndexError> {
    let mut found = None;
    view.within(&object_key(path, None), &mut |_, value| {
        found = Some(value.to_vec());
        ControlFlow::Break(())
    })?;
    found.map(decoded).transpose()
}

/// The number of an account, if it has one.
///
/// # Errors
/// When the index fails.
pub fn account(view: &(impl View + ?Sized), name: &str) -> Result<Option<AccountId>, IndexError> {
    view.get_value(&account_key(name))
}

/// A bucket.
///
/// # Errors
/// When the index fails.
pub fn bucket(view: &(impl View + ?Sized), name: &str) -> Result<Option<BucketRecord>, IndexError> {
    view.get_value(&bucket_key(name))
}

/// The buckets of an account, by name.
///
/// # Errors
/// When the index fails.
pub fn buckets(
    view: &(impl View + ?Sized),
    owner: AccountId,
) -> Result<Vec<(String, BucketRecord)>, IndexError> {
    let prefix = bucket_owner_key(owner, "");
    let mut found = Vec::new();
    view.within(&prefix, &mut |key, value| {
        found.push((key[prefix.len()..].to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    let decode = |(name, record): (Vec<u8>, Vec<u8>)| {
        let name = String::from_utf8(name);
        let name = name.map_err(|_| damaged(BucketRecord::NAME)(DecodeError::Text))?;
        Ok((name, decoded(record)?))
    };
    found.into_iter().map(decode).collect()
}

/// A blob's record.
///
/// # Errors
/// When the index fails.
pub fn blob(view: &(impl View + ?Sized), blob: BlobId) -> Result<Option<BlobRecord>, IndexError> {
    view.get_value(&blob_key(blob))
}

/// Whether any key starts with `prefix`.
pub(crate) fn any_within(view: &(impl View + ?Sized), prefix: &[u8]) -> Result<bool, IndexError> {
    let mut any = false;
    view.within(prefix, &mut |_, _| {
        any = true;
        ControlFlow::Break(())
    })?;
    Ok(any)
}
