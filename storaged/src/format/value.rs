//! Values of the index: version byte, fields in a fixed order, content last.

use super::{DecodeError, Reader, Writer};
use crate::store::{
    AccountId, BlobId, BlobRecord, BlobState, BucketRecord, ContentRef, Digest, Metadata,
    ObjectRecord, Version,
};
use bytes::Bytes;

/// Something that is kept as a value.
pub trait Value: Sized {
    /// What it is called in messages.
    const NAME: &'static str;

    /// Its bytes.
    fn encode(&self) -> Vec<u8>;

    /// It from its bytes.
    ///
    /// # Errors
    /// When the bytes are not those of such a value.
    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError>;
}

const VERSION: u8 = 1;
const INLINE: u8 = 0;
const BLOB: u8 = 1;
const SEALING: u8 = 0;
const SEALED: u8 = 1;

/// What a listing shows of an object: the fields at the front of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Which version.
    pub version: Version,
    /// Bytes of content.
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// MD5 of the content.
    pub md5: [u8; 16],
}

impl Summary {
    /// The summary at the front of an object's record.
    ///
    /// # Errors
    /// When the bytes are not those of a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(bytes))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.version(VERSION)?;
        Ok(Self {
            version: Version(reader.u64()?),
            size: reader.u64()?,
            modified_ms: reader.u64()?,
            md5: reader.array()?,
        })
    }
}

impl Value for ObjectRecord {
    const NAME: &'static str = "object record";

    fn encode(&self) -> Vec<u8> {
        let Self { version, size, content, meta } = self;
        let Metadata { md5, modified_ms, content_type, headers, user, checksums } = meta;
        let inline = match content {
            ContentRef::Inline(bytes) => bytes.len(),
            ContentRef::Blob(_) => 0,
        };
        let mut writer = Writer::with_capacity(256 + inline);
        writer.u8(VERSION);
        writer.u64(version.0);
        writer.u64(*size);
        writer.u64(*modified_ms);
        writer.raw(md5);
        match content_type {
            None => writer.u8(0),
            Some(text) => {
                writer.u8(1);
                writer.bytes(text.as_bytes());
            }
        }
        writer.pairs(headers);
        writer.pairs(user);
        writer.pairs(checksums);
        match content {
            ContentRef::Inline(bytes) => {
                writer.u8(INLINE);
                writer.bytes(bytes);
            }
            ContentRef::Blob(blob) => {
                writer.u8(BLOB);
                writer.u64(blob.0);
            }
        }
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        // The content is a slice of the value that was read, not a copy of it.
        let bytes = Bytes::from(bytes);
        let mut reader = Reader::new(&bytes);
        let Summary { version, size, modified_ms, md5 } = Summary::read(&mut reader)?;
        let content_type = match reader.u8()? {
            0 => None,
            1 => Some(reader.text()?),
            found => {
                return Err(DecodeError::Number { what: "a flag", found: found.into() });
            }
        };
        let (headers, user, checksums) = (reader.pairs()?, reader.pairs()?, reader.pairs()?);
        let content = match reader.u8()? {
            INLINE => ContentRef::Inline(bytes.slice_ref(reader.bytes()?)),
            BLOB => ContentRef::Blob(BlobId(reader.u64()?)),
            found => {
                return Err(DecodeError::Number { what: "a kind of content", found: found.into() });
            }
        };
        reader.end()?;
        let meta = Metadata { md5, modified_ms, content_type, headers, user, checksums };
        Ok(Self { version, size, content, meta })
    }
}

impl Value for BlobRecord {
    const NAME: &'static str = "blob record";

    fn encode(&self) -> Vec<u8> {
        let Self { size, references, state } = self;
        let mut writer = Writer::with_capacity(48);
        writer.u8(VERSION);
        writer.u64(*size);
        writer.u32(*references);
        match state {
            BlobState::Sealing => writer.u8(SEALING),
            BlobState::Sealed(digest) => {
                writer.u8(SEALED);
                writer.raw(&digest.0);
            }
        }
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        reader.version(VERSION)?;
        let (size, references) = (reader.u64()?, reader.u32()?);
        let state = match reader.u8()? {
            SEALING => BlobState::Sealing,
            SEALED => BlobState::Sealed(Digest(reader.array()?)),
            found => {
                return Err(DecodeError::Number { what: "a state of blobs", found: found.into() });
            }
        };
        reader.end()?;
        Ok(Self { size, references, state })
    }
}

impl Value for BucketRecord {
    const NAME: &'static str = "bucket record";

    fn encode(&self) -> Vec<u8> {
        let Self { owner, created_ms } = self;
        let mut writer = Writer::with_capacity(16);
        writer.u8(VERSION);
        writer.u32(owner.0);
        writer.u64(*created_ms);
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        reader.version(VERSION)?;
        let record = Self { owner: AccountId(reader.u32()?), created_ms: reader.u64()? };
        reader.end()?;
        Ok(record)
    }
}

impl Value for AccountId {
    const NAME: &'static str = "account record";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(8);
        writer.u8(VERSION);
        writer.u32(self.0);
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        reader.version(VERSION)?;
        let id = Self(reader.u32()?);
        reader.end()?;
        Ok(id)
    }
}

/// A plain number: counters, reservations.
impl Value for u64 {
    const NAME: &'static str = "number";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(9);
        writer.u8(VERSION);
        writer.u64(*self);
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        reader.version(VERSION)?;
        let number = reader.u64()?;
        reader.end()?;
        Ok(number)
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        proptest::collection::vec((".{0,8}", ".{0,8}"), 0..4)
    }

    fn record() -> impl Strategy<Value = ObjectRecord> {
        let content = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64)
                .prop_map(|b| ContentRef::Inline(b.into())),
            any::<u64>().prop_map(|id| ContentRef::Blob(BlobId(id))),
        ];
        let type_ = proptest::option::of(".{0,12}");
        (any::<(u64, u64, u64)>(), any::<[u8; 16]>(), type_, (pairs(), pairs(), pairs()), content)
            .prop_map(|((version, size, modified_ms), md5, content_type, lists, content)| {
                let (headers, user, checksums) = lists;
                let meta = Metadata { md5, modified_ms, content_type, headers, user, checksums };
                ObjectRecord { version: Version(version), size, content, meta }
            })
    }

    fn blob() -> impl Strategy<Value = BlobRecord> {
        let state = prop_oneof![
            Just(BlobState::Sealing),
            any::<[u8; 32]>().prop_map(|digest| BlobState::Sealed(Digest(digest)))
        ];
        (any::<u64>(), any::<u32>(), state).prop_map(|(size, references, state)| BlobRecord {
            size,
            references,
            state,
        })
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

    fn stays_calm<V: Value + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
        if let Ok(value) = V::decode(bytes.to_vec()) {
            assert_eq!(value.encode(), bytes, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn values_come_back_and_cut_ones_are_refused(
            object in record(), blob in blob(), owner in any::<u32>(), number in any::<u64>()
        ) {
            comes_back(&object);
            comes_back(&blob);
            comes_back(&BucketRecord { owner: AccountId(owner), created_ms: number });
            comes_back(&AccountId(owner));
            comes_back(&number);
        }

        #[test]
        fn a_summary_is_the_front_of_its_record(object in record()) {
            let summary = Summary::decode(&object.encode()).unwrap();
            prop_assert_eq!(summary.version, object.version);
            prop_assert_eq!((summary.size, summary.md5), (object.size, object.meta.md5));
        }

        #[test]
        fn any_bytes_are_a_value_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            stays_calm::<ObjectRecord>(&bytes);
            stays_calm::<BlobRecord>(&bytes);
            stays_calm::<BucketRecord>(&bytes);
            stays_calm::<u64>(&bytes);
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = 5_u64.encode();
        bytes[0] = 2;
        assert_eq!(u64::decode(bytes), Err(DecodeError::Version { found: 2, known: 1 }));
    }
}
