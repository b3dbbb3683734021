//! Typed reading: from a snapshot or from inside a transaction alike.

use super::record::{BucketRecord, ObjectRecord, VersionRef, Versioning};
use super::types::{AccountId, Area, BlobId, BlobRecord, ObjectPath, Version};
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

/// The newest version of an object, be it a delete marker.
///
/// # Errors
/// When the index fails.
pub fn newest(
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

/// The current version of an object: none if the newest is a delete marker.
///
/// # Errors
/// When the index fails.
pub fn object(
    view: &(impl View + ?Sized),
    path: &ObjectPath,
) -> Result<Option<ObjectRecord>, IndexError> {
    Ok(newest(view, path)?.filter(|record| !record.is_marker()))
}

/// One version of an object, be it a delete marker.
///
/// # Errors
/// When the index fails.
pub fn object_version(
    view: &(impl View + ?Sized),
    path: &ObjectPath,
    version: VersionRef,
) -> Result<Option<ObjectRecord>, IndexError> {
    match version {
        VersionRef::Id(version) => Ok(numbered(view, path, version)?.filter(|record| !record.null)),
        VersionRef::Null => match newest(view, path)? {
            Some(record) => null_version(view, path, record),
            None => Ok(None),
        },
    }
}

/// The version with this number, whatever clients call it.
pub(crate) fn numbered(
    view: &(impl View + ?Sized),
    path: &ObjectPath,
    version: Version,
) -> Result<Option<ObjectRecord>, IndexError> {
    view.get_value(&object_key(path, Some(version)))
}

/// The null version of an object, given its newest one.
pub(crate) fn null_version(
    view: &(impl View + ?Sized),
    path: &ObjectPath,
    newest: ObjectRecord,
) -> Result<Option<ObjectRecord>, IndexError> {
    match (newest.null, newest.null_below) {
        (true, _) => Ok(Some(newest)),
        (false, None) => Ok(None),
        (false, Some(below)) => numbered(view, path, below),
    }
}

/// What the bucket that an object is in makes of old contents: nothing where there is no bucket.
///
/// # Errors
/// When the index fails.
pub fn versioning(
    view: &(impl View + ?Sized),
    path: &ObjectPath,
) -> Result<Versioning, IndexError> {
    Ok(bucket_of(view, path)?.map_or(Versioning::Unversioned, |record| record.versioning))
}

/// The bucket that an object is in.
pub(crate) fn bucket_of(
    view: &(impl View + ?Sized),
    path: &ObjectPath,
) -> Result<Option<BucketRecord>, IndexError> {
    let slash = path.bytes().iter().position(|&byte| byte == b'/');
    let (Area::Stor, Some(slash)) = (path.area, slash) else { return Ok(None) };
    // A directory whose name no bucket can have is none.
    let Ok(name) = std::str::from_utf8(&path.bytes()[..slash]) else { return Ok(None) };
    Ok(bucket(view, name)?.filter(|record| record.owner == path.account))
}

/// The number of an account, if it has one.
///
/// # Errors
/// When the index fails.
pub fn account(view: &(impl View + ?Sized), name: &str) -> Result<Option<AccountId>, IndexError> {
    view.get_value(&account_key(name))
}

/// All accounts that ever were, by name.
///
/// # Errors
/// When the index fails.
pub fn accounts(view: &(impl View + ?Sized)) -> Result<Vec<(String, AccountId)>, IndexError> {
    let mut found = Vec::new();
    view.within(&account_key(""), &mut |key, value| {
        found.push((key[1..].to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    let decode = |(name, id): (Vec<u8>, Vec<u8>)| {
        let name = String::from_utf8(name);
        Ok((name.map_err(|_| damaged(AccountId::NAME)(DecodeError::Text))?, decoded(id)?))
    };
    found.into_iter().map(decode).collect()
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
