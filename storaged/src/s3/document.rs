//! Documents of XML, from and to the protocol library's types; configurations of buckets are kept in the store so.

use super::checksum::carried;
use super::{Api, error, references};
use crate::store::{BucketConfig, BucketRecord, Txn, TxnError, bucket, bucket_config};
use s3s::xml::{Deserialize, Deserializer, Serialize, Serializer};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

/// A document's bytes.
///
/// # Errors
/// When the library can't write it.
pub(super) fn to_xml(document: &impl Serialize) -> S3Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::new(&mut bytes);
    let written = serializer.decl().and_then(|()| document.serialize(&mut serializer));
    written.map_err(|e| error::internal(&e))?;
    Ok(bytes)
}

/// A document of the library's as every reader of XML understands it, and with all that it carries; nothing if it is so.
pub(super) fn readable(document: &[u8]) -> Option<Vec<u8>> {
    let carried = carried::written(document);
    let written = references::written(carried.as_deref().unwrap_or(document));
    written.or(carried)
}

/// A document from its bytes.
///
/// # Errors
/// MalformedXML.
pub(crate) fn from_xml<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> S3Result<T> {
    let mut deserializer = Deserializer::new(bytes);
    let document = T::deserialize(&mut deserializer);
    let document = document.and_then(|document| deserializer.expect_eof().map(|()| document));
    document.map_err(|e| s3_error!(MalformedXML, "the document is not what it should be: {e}"))
}

/// A bucket's document of this kind.
///
/// # Errors
/// `missing` when it has none.
pub(super) fn kept(
    api: &Api,
    name: &str,
    kind: BucketConfig,
    missing: S3ErrorCode,
) -> S3Result<Vec<u8>> {
    let found = found(api, name, kind)?;
    found.ok_or_else(|| S3Error::with_message(missing, "the bucket has no such configuration"))
}

/// A bucket's document of this kind, if it has one.
///
/// # Errors
/// When the index fails.
pub(super) fn found(api: &Api, name: &str, kind: BucketConfig) -> S3Result<Option<Vec<u8>>> {
    let view = api.store.read().map_err(|e| error::index(&e))?;
    bucket_config(&view, name, kind).map_err(|e| error::index(&e))
}

/// Keeps a document.
///
/// # Errors
/// NoSuchBucket, if that went or changed hands meanwhile; what the store says.
pub(super) async fn keep(
    api: &Api,
    name: String,
    record: &BucketRecord,
    kind: BucketConfig,
    document: Vec<u8>,
) -> S3Result<()> {
    let record = record.clone();
    let done = api.store.transact(move |txn| {
        still_there(txn, &name, &record)?;
        txn.put_bucket_config(&name, kind, document)
    });
    done.await.map_err(|e| error::transact(e, |e| error::txn(&e)))
}

/// Drops a document, there or not.
///
/// # Errors
/// As [`keep`].
pub(super) async fn drop(
    api: &Api,
    name: String,
    record: &BucketRecord,
    kind: BucketConfig,
) -> S3Result<()> {
    let record = record.clone();
    let done = api.store.transact(move |txn| {
        still_there(txn, &name, &record)?;
        txn.delete_bucket_config(&name, kind)
    });
    done.await.map_err(|e| error::transact(e, |e| error::txn(&e))).map(|_| ())
}

/// Whether the bucket is the one that access was decided for, and not another one of its name.
fn still_there(txn: &Txn<'_>, name: &str, record: &BucketRecord) -> Result<(), TxnError> {
    let same =
        |found: &BucketRecord| (found.owner, found.created_ms) == (record.owner, record.created_ms);
    match bucket(txn, name)? {
        Some(found) if same(&found) => Ok(()),
        Some(_) | None => Err(TxnError::NoBucket { name: name.to_owned() }),
    }
}
