//! Keys and values of uploads in parts.
//!
//! ```text
//!   0b 'u' | id u64 BE                                                upload
//!   0b 'p' | id u64 BE | part number u32 BE                           part
//!   0b 'l' | bucket 00 | key, escaped | 00 00 | id u64 BE             (empty) what a bucket's listing walks
//!   0b 'c' | id u64 BE                                                completed upload
//! ```

use super::key::{push_escaped, unescaped};
use super::{DecodeError, Keyspace, Reader, Value, Writer};
use crate::store::uploads::{
    CompletedUpload, PartFile, Place, SharedFile, SumChoice, Upload, UploadId, UploadedPart,
};
use crate::store::{AccountId, Area, ChecksumType, ContentRef, ObjectPath, ObjectRecord, Version};
use bytes::Bytes;

const VERSION: u8 = 1;

fn tagged(tag: u8, id: UploadId) -> Vec<u8> {
    let mut key = Keyspace::Uploads.key(&[tag]);
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

/// An upload.
#[must_use]
pub fn upload_key(id: UploadId) -> Vec<u8> {
    tagged(b'u', id)
}

/// The start of the keys of all uploads.
#[must_use]
pub fn uploads_prefix() -> Vec<u8> {
    Keyspace::Uploads.key(b"u")
}

/// The upload that a key of an upload names.
#[must_use]
pub fn upload_of_key(key: &[u8]) -> Option<UploadId> {
    let id = key.strip_prefix(&*uploads_prefix())?;
    Some(UploadId(u64::from_be_bytes(id.try_into().ok()?)))
}

/// A part; without a number, the start of the keys of all parts of the upload.
#[must_use]
pub fn part_key(id: UploadId, number: Option<u32>) -> Vec<u8> {
    let mut key = tagged(b'p', id);
    key.extend(number.into_iter().flat_map(u32::to_be_bytes));
    key
}

/// The start of the keys of a bucket's uploads whose objects' keys start with `prefix`.
#[must_use]
pub fn upload_list_prefix(bucket: &str, prefix: &[u8]) -> Vec<u8> {
    let mut key = Keyspace::Uploads.key(b"l");
    key.extend_from_slice(bucket.as_bytes());
    key.push(0);
    push_escaped(&mut key, prefix);
    key
}

/// The start of the keys of a bucket's uploads to exactly this object's key, oldest first.
#[must_use]
pub fn upload_list_exact(bucket: &str, key: &[u8]) -> Vec<u8> {
    let mut start = upload_list_prefix(bucket, key);
    start.extend_from_slice(&[0, 0]);
    start
}

/// An upload among those of its bucket.
#[must_use]
pub fn upload_list_key(bucket: &str, key: &[u8], id: UploadId) -> Vec<u8> {
    let mut row = upload_list_exact(bucket, key);
    row.extend_from_slice(&id.0.to_be_bytes());
    row
}

/// The object's key and the upload that a key of a bucket's listing names.
///
/// # Errors
/// When it is not such a key.
pub fn read_upload_list_key(row: &[u8], bucket: &str) -> Result<(Vec<u8>, UploadId), DecodeError> {
    let rest = row.get(2 + bucket.len() + 1..).ok_or(DecodeError::Key)?;
    let (rest, id) = rest.split_last_chunk::<8>().ok_or(DecodeError::Key)?;
    Ok((unescaped(rest)?, UploadId(u64::from_be_bytes(*id))))
}

/// A completed upload; without an id, the start of the keys of all, oldest beginnings first.
#[must_use]
pub fn completed_key(id: Option<UploadId>) -> Vec<u8> {
    id.map_or_else(|| Keyspace::Uploads.key(b"c"), |id| tagged(b'c', id))
}

/// Reads a row of this keyspace, whichever it is.
///
/// # Errors
/// When key or value are not those of such a row, or name different things.
pub fn check_upload_row(key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
    let bytes = value.to_vec();
    let own = match key.get(1) {
        Some(b'u') => upload_key(Upload::decode(bytes)?.id) == key,
        Some(b'c') => completed_key(Some(CompletedUpload::decode(bytes)?.id)) == key,
        Some(b'p') => {
            let number = UploadedPart::decode(bytes)?.number;
            key.len() == 2 + 8 + 4 && key.ends_with(&number.to_be_bytes())
        }
        Some(b'l') => {
            let end = key.iter().position(|&byte| byte == 0).ok_or(DecodeError::Key)?;
            let bucket = std::str::from_utf8(key.get(2..end).ok_or(DecodeError::Key)?);
            let bucket = bucket.map_err(|_| DecodeError::Text)?;
            read_upload_list_key(key, bucket)?;
            value.is_empty()
        }
        Some(_) | None => false,
    };
    own.then_some(()).ok_or(DecodeError::Key)
}

fn write_path(writer: &mut Writer, path: &ObjectPath) {
    writer.u32(path.account.0);
    writer.u8(path.area.number());
    writer.bytes(path.bytes());
}

fn read_path(reader: &mut Reader<'_>) -> Result<ObjectPath, DecodeError> {
    let account = AccountId(reader.u32()?);
    let area = reader.u8()?;
    let area = Area::from_number(area)
        .ok_or(DecodeError::Number { what: "an area", found: area.into() })?;
    let bytes = reader.bytes()?;
    let damaged = DecodeError::Number { what: "a path's length", found: bytes.len() as u64 };
    ObjectPath::new(account, area, bytes).map_err(|_| damaged)
}

fn write_option<T>(writer: &mut Writer, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
    writer.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        write(writer, value);
    }
}

fn read_option<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => read(reader).map(Some),
        found => Err(DecodeError::Number { what: "a flag", found: found.into() }),
    }
}

fn read_sum_kind(reader: &mut Reader<'_>) -> Result<ChecksumType, DecodeError> {
    match reader.u8()? {
        0 => Ok(ChecksumType::FullObject),
        1 => Ok(ChecksumType::Composite),
        found => Err(DecodeError::Number { what: "a kind of checksum", found: found.into() }),
    }
}

impl Value for Upload {
    const NAME: &'static str = "upload record";

    fn encode(&self) -> Vec<u8> {
        let Self { id, bucket, path, initiator, initiated_ms, sum, shared, meta } = self;
        // What is said of the object is kept as the record of one without bytes: one form for both.
        let none = ContentRef::Inline(Bytes::new());
        let template = ObjectRecord::new(Version(0), none, 0, meta.clone());
        let mut writer = Writer::with_capacity(256);
        writer.u8(VERSION);
        writer.u64(id.0);
        writer.bytes(bucket.as_bytes());
        write_path(&mut writer, path);
        writer.bytes(initiator.as_bytes());
        writer.u64(*initiated_ms);
        write_option(&mut writer, sum.as_ref(), |writer, sum| {
            writer.bytes(sum.algorithm.as_bytes());
            writer.u8(match sum.kind {
                ChecksumType::FullObject => 0,
                ChecksumType::Composite => 1,
            });
        });
        write_option(&mut writer, shared.as_ref(), |writer, shared| {
            writer.u64(shared.file.0);
            writer.u64(shared.slot_bytes);
        });
        writer.bytes(&template.encode());
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        reader.version(VERSION)?;
        let id = UploadId(reader.u64()?);
        let bucket = reader.text()?;
        let path = read_path(&mut reader)?;
        let initiator = reader.text()?;
        let initiated_ms = reader.u64()?;
        let sum = read_option(&mut reader, |reader| {
            Ok(SumChoice { algorithm: reader.text()?, kind: read_sum_kind(reader)? })
        })?;
        let shared = read_option(&mut reader, |reader| {
            Ok(SharedFile { file: PartFile(reader.u64()?), slot_bytes: reader.u64()? })
        })?;
        let template = ObjectRecord::decode(reader.bytes()?.to_vec())?;
        reader.end()?;
        Ok(Self { id, bucket, path, initiator, initiated_ms, sum, shared, meta: template.meta })
    }
}

impl Value for UploadedPart {
    const NAME: &'static str = "record of a part";

    fn encode(&self) -> Vec<u8> {
        let Self { number, size, md5, modified_ms, sum, place } = self;
        let mut writer = Writer::with_capacity(96);
        writer.u8(VERSION);
        writer.u32(*number);
        writer.u64(*size);
        writer.raw(md5);
        writer.u64(*modified_ms);
        write_option(&mut writer, sum.as_ref(), |writer, (algorithm, value)| {
            writer.bytes(algorithm.as_bytes());
            writer.bytes(value.as_bytes());
        });
        match place {
            Place::Shared { file, offset } => {
                writer.u8(0);
                writer.u64(file.0);
                writer.u64(*offset);
            }
            Place::Own { file } => {
                writer.u8(1);
                writer.u64(file.0);
            }
        }
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        reader.version(VERSION)?;
        let (number, size) = (reader.u32()?, reader.u64()?);
        let (md5, modified_ms) = (reader.array()?, reader.u64()?);
        let sum = read_option(&mut reader, |reader| Ok((reader.text()?, reader.text()?)))?;
        let place = match reader.u8()? {
            0 => Place::Shared { file: PartFile(reader.u64()?), offset: reader.u64()? },
            1 => Place::Own { file: PartFile(reader.u64()?) },
            found => {
                return Err(DecodeError::Number { what: "a place", found: found.into() });
            }
        };
        reader.end()?;
        Ok(Self { number, size, md5, modified_ms, sum, place })
    }
}

impl Value for CompletedUpload {
    const NAME: &'static str = "record of a completed upload";

    fn encode(&self) -> Vec<u8> {
        let Self { id, path, completed_ms, list, answer } = self;
        let mut writer = Writer::with_capacity(256);
        writer.u8(VERSION);
        writer.u64(id.0);
        write_path(&mut writer, path);
        writer.u64(*completed_ms);
        writer.raw(list);
        writer.pairs(answer);
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        reader.version(VERSION)?;
        let id = UploadId(reader.u64()?);
        let path = read_path(&mut reader)?;
        let completed_ms = reader.u64()?;
        let (list, answer) = (reader.array()?, reader.pairs()?);
        reader.end()?;
        Ok(Self { id, path, completed_ms, list, answer })
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::store::Metadata;
    use proptest::prelude::*;

    fn upload() -> impl Strategy<Value = Upload> {
        let sum = proptest::option::of(("[a-z0-9]{1,8}", any::<bool>()));
        let shared = proptest::option::of((any::<u64>(), any::<u64>()));
        let path = proptest::collection::vec(any::<u8>(), 1..40);
        (any::<u64>(), "[a-z]{3,8}", path, ".{0,8}", any::<u64>(), sum, shared).prop_map(
            |(id, bucket, path, initiator, initiated_ms, sum, shared)| Upload {
                id: UploadId(id),
                path: ObjectPath::of_key(AccountId(7), &bucket, &path).unwrap(),
                bucket,
                initiator,
                initiated_ms,
                sum: sum.map(|(algorithm, full)| SumChoice {
                    algorithm,
                    kind: if full { ChecksumType::FullObject } else { ChecksumType::Composite },
                }),
                shared: shared
                    .map(|(file, slot_bytes)| SharedFile { file: PartFile(file), slot_bytes }),
                meta: Metadata { modified_ms: initiated_ms, ..Metadata::default() },
            },
        )
    }

    fn part() -> impl Strategy<Value = UploadedPart> {
        let place = prop_oneof![
            any::<(u64, u64)>()
                .prop_map(|(file, offset)| Place::Shared { file: PartFile(file), offset }),
            any::<u64>().prop_map(|file| Place::Own { file: PartFile(file) }),
        ];
        let sum = proptest::option::of((".{0,8}", ".{0,8}"));
        (any::<(u32, u64, u64)>(), any::<[u8; 16]>(), sum, place).prop_map(
            |((number, size, modified_ms), md5, sum, place)| UploadedPart {
                number,
                size,
                md5,
                modified_ms,
                sum,
                place,
            },
        )
    }

    fn comes_back<V: Value + PartialEq + std::fmt::Debug>(value: &V) {
        let bytes = value.encode();
        assert_eq!(V::decode(bytes.clone()).as_ref(), Ok(value));
        for cut in 0..bytes.len() {
            assert!(V::decode(bytes[..cut].to_vec()).is_err(), "cut at {cut}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(V::decode(longer).is_err(), "a byte too many");
    }

    proptest! {
        #[test]
        fn values_come_back_and_cut_ones_are_refused(upload in upload(), part in part()) {
            let completed = CompletedUpload {
                id: upload.id,
                path: upload.path.clone(),
                completed_ms: upload.initiated_ms,
                list: part.md5,
                answer: part.sum.iter().cloned().collect(),
            };
            comes_back(&completed);
            comes_back(&part);
            comes_back(&upload);
            let row = upload_list_key(&upload.bucket, upload.key(), upload.id);
            prop_assert!(check_upload_row(&row, &[]).is_ok());
            prop_assert!(check_upload_row(&upload_key(upload.id), &upload.encode()).is_ok());
            let key = part_key(upload.id, Some(part.number));
            prop_assert!(check_upload_row(&key, &part.encode()).is_ok());
            let key = completed_key(Some(upload.id));
            prop_assert!(check_upload_row(&key, &completed.encode()).is_ok());
            prop_assert!(check_upload_row(&key, &part.encode()).is_err());
        }

        #[test]
        fn any_bytes_are_a_value_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let calm = |again: Option<Vec<u8>>| again.is_none_or(|again| again == bytes);
            prop_assert!(calm(Upload::decode(bytes.clone()).ok().map(|v| v.encode())));
            prop_assert!(calm(UploadedPart::decode(bytes.clone()).ok().map(|v| v.encode())));
            prop_assert!(calm(CompletedUpload::decode(bytes.clone()).ok().map(|v| v.encode())));
            drop(check_upload_row(&bytes, &bytes));
            prop_assert!(upload_of_key(&bytes).is_none_or(|id| upload_key(id) == bytes));
            let read = read_upload_list_key(&bytes, "b");
            prop_assert!(read.is_err() || bytes.len() >= 14);
        }

        #[test]
        fn a_buckets_uploads_sort_by_key_and_then_by_age(
            a in (proptest::collection::vec(any::<u8>(), 0..9), any::<u64>()),
            b in (proptest::collection::vec(any::<u8>(), 0..9), any::<u64>()),
        ) {
            let row = |(key, id): &(Vec<u8>, u64)| upload_list_key("b", key, UploadId(*id));
            prop_assert_eq!(row(&a).cmp(&row(&b)), a.cmp(&b));
            prop_assert_eq!(read_upload_list_key(&row(&a), "b"), Ok((a.0.clone(), UploadId(a.1))));
            let inside = row(&a).starts_with(&upload_list_prefix("b", &b.0));
            prop_assert_eq!(inside, a.0.starts_with(&b.0));
        }
    }
}
