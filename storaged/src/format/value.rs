//! Values of the index: version byte, fields in a fixed order, content last.

use super::object::{mode_of, number_of_mode};
use super::{DecodeError, Reader, Writer};
use crate::store::{
    AccountId, BlobRecord, BlobState, BucketRecord, DefaultRetention, Digest, Period, Versioning,
};

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
const BUCKET_VERSION: u8 = 2;
const SEALING: u8 = 0;
const SEALED: u8 = 1;

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
        let Self { owner, created_ms, versioning, object_lock, default_retention } = self;
        let mut writer = Writer::with_capacity(32);
        writer.u8(BUCKET_VERSION);
        writer.u32(owner.0);
        writer.u64(*created_ms);
        writer.u8(match versioning {
            Versioning::Unversioned => 0,
            Versioning::Enabled => 1,
            Versioning::Suspended => 2,
        });
        writer.u8(u8::from(*object_lock));
        match default_retention {
            None => writer.u8(0),
            Some(DefaultRetention { mode, period }) => {
                let (kind, count) = match period {
                    Period::Days(days) => (1, *days),
                    Period::Years(years) => (2, *years),
                };
                writer.u8(kind);
                writer.u8(number_of_mode(*mode));
                writer.u32(count);
            }
        }
        writer.finish()
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        let version = reader.version(BUCKET_VERSION)?;
        let mut record = Self::new(AccountId(reader.u32()?), reader.u64()?);
        if version > 1 {
            let wrong = |what, found: u8| Err(DecodeError::Number { what, found: found.into() });
            record.versioning = match reader.u8()? {
                0 => Versioning::Unversioned,
                1 => Versioning::Enabled,
                2 => Versioning::Suspended,
                found => return wrong("a bucket's versioning", found),
            };
            record.object_lock = match reader.u8()? {
                0 => false,
                1 => true,
                found => return wrong("a flag", found),
            };
            record.default_retention = match reader.u8()? {
                0 => None,
                kind => {
                    let (mode, count) = (mode_of(reader.u8()?)?, reader.u32()?);
                    let period = match kind {
                        1 => Period::Days(count),
                        2 => Period::Years(count),
                        found => return wrong("a kind of period", found),
                    };
                    Some(DefaultRetention { mode, period })
                }
            };
        }
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
    use super::super::object::test::record;
    use super::*;
    use crate::store::RetentionMode;
    use proptest::prelude::*;

    fn bucket() -> impl Strategy<Value = BucketRecord> {
        let versioning = prop_oneof![
            Just(Versioning::Unversioned),
            Just(Versioning::Enabled),
            Just(Versioning::Suspended)
        ];
        let mode = prop_oneof![Just(RetentionMode::Governance), Just(RetentionMode::Compliance)];
        let period = any::<u32>()
            .prop_flat_map(|n| prop_oneof![Just(Period::Days(n)), Just(Period::Years(n))]);
        let default = (mode, period).prop_map(|(mode, period)| DefaultRetention { mode, period });
        (any::<(u32, u64, bool)>(), versioning, proptest::option::of(default)).prop_map(
            |((owner, created_ms, object_lock), versioning, default_retention)| BucketRecord {
                versioning,
                object_lock,
                default_retention,
                ..BucketRecord::new(AccountId(owner), created_ms)
            },
        )
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
            object in record(), blob in blob(), bucket in bucket(), owner in any::<u32>(), number in any::<u64>()
        ) {
            comes_back(&object);
            comes_back(&blob);
            comes_back(&bucket);
            comes_back(&AccountId(owner));
            comes_back(&number);
        }

        #[test]
        fn any_bytes_are_a_value_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            stays_calm::<BlobRecord>(&bytes);
            stays_calm::<u64>(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = BUCKET_VERSION;
            }
            stays_calm::<BucketRecord>(&bytes);
        }
    }

    #[test]
    fn a_bucket_of_version_1_keeps_no_versions() {
        let mut writer = Writer::default();
        writer.u8(1);
        writer.u32(7);
        writer.u64(9);
        let bytes = writer.finish();
        assert_eq!(BucketRecord::decode(bytes), Ok(BucketRecord::new(AccountId(7), 9)));
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = 5_u64.encode();
        bytes[0] = 2;
        assert_eq!(u64::decode(bytes), Err(DecodeError::Version { found: 2, known: 1 }));
    }
}
