//! Keys of the index. Their first byte is the keyspace; their order as bytes is the order in which
//! things are listed.
//!
//! ```text
//!   object:  05 | account u32 BE | area u8 | path, escaped | 00 00 | !version u64 BE
//!   escaped: a zero byte becomes 00 FF, so that the end of a path sorts before all that goes on
//! ```

use super::DecodeError;
use crate::store::{AccountId, Area, BlobId, BucketConfig, ObjectPath, Version};

/// The first byte of a key: what kind of thing it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Keyspace {
    /// What the store knows of itself: counters, reservations.
    State = 1,
    /// Accounts by name.
    Accounts = 2,
    /// Buckets by name.
    Buckets = 3,
    /// Buckets by owner and name.
    BucketsOfOwner = 4,
    /// Versions of objects by path.
    Objects = 5,
    /// Blobs by id.
    Blobs = 6,
    /// Blobs whose files are to go.
    ToUnlink = 7,
    /// Jobs, tasks and attempts; what follows is the business of the jobs module.
    Jobs = 8,
    /// Settings by name.
    Settings = 9,
    /// Configurations of buckets by name and kind.
    BucketConfigs = 10,
    /// Events that wait for webhooks, by webhook and sequence.
    Events = 16,
    /// Uploads in parts, their parts, and those that were completed lately.
    Uploads = 11,
}

impl Keyspace {
    /// The keyspace with this byte, if there is one.
    #[must_use]
    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|keyspace| keyspace.byte() == byte)
    }

    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::State,
        Self::Accounts,
        Self::Buckets,
        Self::BucketsOfOwner,
        Self::Objects,
        Self::Blobs,
        Self::ToUnlink,
        Self::Jobs,
        Self::Settings,
        Self::BucketConfigs,
        Self::Events,
        Self::Uploads,
    ];

    /// The byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// A key of this keyspace: the byte and what follows it.
    #[must_use]
    pub fn key(self, rest: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + rest.len());
        key.push(self.byte());
        key.extend_from_slice(rest);
        key
    }
}

const ESCAPE: u8 = 0xFF;
const OBJECT_HEAD_BYTES: usize = 1 + 4 + 1;

/// Something the store knows of itself.
#[must_use]
pub fn state_key(name: &str) -> Vec<u8> {
    Keyspace::State.key(name.as_bytes())
}

/// An account's name.
#[must_use]
pub fn account_key(name: &str) -> Vec<u8> {
    Keyspace::Accounts.key(name.as_bytes())
}

/// A bucket's name.
#[must_use]
pub fn bucket_key(name: &str) -> Vec<u8> {
    Keyspace::Buckets.key(name.as_bytes())
}

/// A bucket among its owner's. With an empty name: the prefix of all of them.
#[must_use]
pub fn bucket_owner_key(owner: AccountId, name: &str) -> Vec<u8> {
    let mut key = Keyspace::BucketsOfOwner.key(&owner.0.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    key
}

/// A configuration of a bucket. No name of a bucket holds a zero byte.
#[must_use]
pub fn bucket_config_key(name: &str, kind: BucketConfig) -> Vec<u8> {
    let mut key = Keyspace::BucketConfigs.key(name.as_bytes());
    key.extend_from_slice(&[0, kind.number()]);
    key
}

/// The bucket and the kind's number in a key of [`Keyspace::BucketConfigs`].
///
/// # Errors
/// When it is not such a key.
pub fn config_of_key(key: &[u8]) -> Result<(&str, u8), DecodeError> {
    let [_, name @ .., 0, kind] = key else { return Err(DecodeError::Key) };
    let name = std::str::from_utf8(name).map_err(|_| DecodeError::Key)?;
    Ok((name, *kind))
}

/// The start of the keys of all events that wait for a webhook, whose name holds no zero byte.
#[must_use]
pub fn event_prefix(webhook: &str) -> Vec<u8> {
    let mut key = Keyspace::Events.key(webhook.as_bytes());
    key.push(0);
    key
}

/// An event that waits for a webhook.
#[must_use]
pub fn event_key(webhook: &str, sequence: u64) -> Vec<u8> {
    let mut key = event_prefix(webhook);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// A blob.
#[must_use]
pub fn blob_key(blob: BlobId) -> Vec<u8> {
    Keyspace::Blobs.key(&blob.0.to_be_bytes())
}

/// A blob whose file is to go.
#[must_use]
pub fn to_unlink_key(blob: BlobId) -> Vec<u8> {
    Keyspace::ToUnlink.key(&blob.0.to_be_bytes())
}

/// The blob that a key of [`Keyspace::Blobs`] or [`Keyspace::ToUnlink`] names.
///
/// # Errors
/// When it is not such a key.
pub fn blob_of_key(key: &[u8]) -> Result<BlobId, DecodeError> {
    let number = key.get(1..).and_then(|rest| rest.try_into().ok()).ok_or(DecodeError::Key)?;
    Ok(BlobId(u64::from_be_bytes(number)))
}

/// The start of the keys of all objects of an area whose paths start with `prefix`.
#[must_use]
pub fn object_prefix(account: AccountId, area: Area, prefix: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(OBJECT_HEAD_BYTES + prefix.len() + 10);
    key.push(Keyspace::Objects.byte());
    key.extend_from_slice(&account.0.to_be_bytes());
    key.push(area.number());
    push_escaped(&mut key, prefix);
    key
}

/// Appends bytes, escaped.
pub(super) fn push_escaped(key: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(zero) = rest.iter().position(|&byte| byte == 0) {
        key.extend_from_slice(&rest[..=zero]);
        key.push(ESCAPE);
        rest = &rest[zero + 1..];
    }
    key.extend_from_slice(rest);
}

/// The start of the keys of all versions of one object: newest first.
fn versions_prefix(path: &ObjectPath) -> Vec<u8> {
    let mut key = object_prefix(path.account, path.area, path.bytes());
    key.extend_from_slice(&[0, 0]);
    key
}

/// One version of an object; without a version, the prefix of all of them.
#[must_use]
pub fn object_key(path: &ObjectPath, version: Option<Version>) -> Vec<u8> {
    let mut key = versions_prefix(path);
    if let Some(version) = version {
        key.extend_from_slice(&(!version.0).to_be_bytes());
    }
    key
}

/// The path in an object's key, unescaped, without account and area.
///
/// # Errors
/// When it is not the key of an object.
pub fn path_of_key(key: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let end = key.len().checked_sub(8).ok_or(DecodeError::Key)?;
    unescaped(key.get(OBJECT_HEAD_BYTES..end).ok_or(DecodeError::Key)?)
}

/// The bytes that were escaped, given them and the `00 00` that ends them.
pub(super) fn unescaped(mut rest: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut path = Vec::with_capacity(rest.len());
    loop {
        let zero = rest.iter().position(|&byte| byte == 0).ok_or(DecodeError::Key)?;
        path.extend_from_slice(&rest[..zero]);
        match rest[zero + 1..] {
            [ESCAPE, ..] => path.push(0),
            [0] => return Ok(path),
            _ => return Err(DecodeError::Key),
        }
        rest = &rest[zero + 2..];
    }
}

/// An object's key but for the version: the same for all versions of one object, and for no other.
///
/// # Errors
/// When it is too short to be such a key.
pub fn stem_of_key(key: &[u8]) -> Result<&[u8], DecodeError> {
    let end = key.len().checked_sub(8).ok_or(DecodeError::Key)?;
    Ok(&key[..end])
}

/// The version in an object's key.
///
/// # Errors
/// When it is not the key of an object.
pub fn version_of_key(key: &[u8]) -> Result<Version, DecodeError> {
    let (_, inverted) = key.split_last_chunk::<8>().ok_or(DecodeError::Key)?;
    Ok(Version(!u64::from_be_bytes(*inverted)))
}

/// The first key after all that start with `prefix`; `None` when there is none, as for `FF FF`.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn path() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..40),
            proptest::collection::vec(
                prop_oneof![Just(0_u8), Just(0xFF), Just(1), Just(b'/')],
                1..12
            ),
        ]
    }

    fn object(path: &[u8]) -> ObjectPath {
        ObjectPath::new(AccountId(7), Area::Stor, path).unwrap()
    }

    proptest! {
        #[test]
        fn a_path_and_a_version_come_back_from_their_key(path in path(), version in any::<u64>()) {
            let key = object_key(&object(&path), Some(Version(version)));
            prop_assert_eq!(path_of_key(&key), Ok(path));
            prop_assert_eq!(version_of_key(&key), Ok(Version(version)));
        }

        #[test]
        fn keys_sort_as_their_paths_do(a in path(), b in path(), va in any::<u64>(), vb in any::<u64>()) {
            let key_a = object_key(&object(&a), Some(Version(va)));
            let key_b = object_key(&object(&b), Some(Version(vb)));
            prop_assert_eq!(key_a.cmp(&key_b), a.cmp(&b).then(vb.cmp(&va)));
        }

        #[test]
        fn a_prefix_holds_the_keys_of_its_paths_and_no_others(path in path(), prefix in path()) {
            let key = object_key(&object(&path), Some(Version(1)));
            let start = object_prefix(AccountId(7), Area::Stor, &prefix);
            prop_assert_eq!(key.starts_with(&start), path.starts_with(&prefix));
            let end = prefix_end(&start).unwrap();
            prop_assert_eq!(key >= start && key < end, path.starts_with(&prefix));
        }

        #[test]
        fn any_bytes_are_a_key_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let (Ok(path), Ok(version)) = (path_of_key(&bytes), version_of_key(&bytes))
                && !path.is_empty()
            {
                let again = object_key(&object(&path), Some(version));
                prop_assert_eq!(&again[OBJECT_HEAD_BYTES..], &bytes[OBJECT_HEAD_BYTES..]);
            }
            if let Ok((name, kind)) = config_of_key(&bytes) {
                prop_assert_eq!(&bytes[1..], &[name.as_bytes(), &[0, kind]].concat()[..]);
            }
            if let Ok(blob) = blob_of_key(&bytes) {
                prop_assert_eq!(&blob_key(blob)[1..], &bytes[1..]);
            }
        }
    }

    #[test]
    fn the_newest_version_comes_first() {
        let path = object(b"b/k");
        assert!(object_key(&path, Some(Version(2))) < object_key(&path, Some(Version(1))));
        assert!(object_key(&path, None) < object_key(&path, Some(Version(u64::MAX))));
    }

    #[test]
    fn a_prefix_of_nothing_but_ff_has_no_end() {
        assert_eq!(prefix_end(&[0xFF, 0xFF]), None);
        assert_eq!(prefix_end(&[1, 0xFF]), Some(vec![2]));
    }
}
