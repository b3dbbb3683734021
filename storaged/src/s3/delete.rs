//! DeleteObject and DeleteObjects.

use super::access::Action;
use super::condition::holds;
use super::get::precondition_failed;
use super::{Api, error};
use crate::store::{ObjectPath, Txn, TxnError, bucket};
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    ETagCondition, Error, ObjectIdentifier,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

/// Keys of one DeleteObjects: as S3 has it.
const KEYS_MAX: usize = 1000;

enum Refused {
    NoBucket,
    Precondition,
    Store(TxnError),
}

impl From<TxnError> for Refused {
    fn from(error: TxnError) -> Refused {
        Refused::Store(error)
    }
}

fn refusal(refused: Refused) -> S3Error {
    match refused {
        Refused::NoBucket => s3_error!(NoSuchBucket, "the specified bucket does not exist"),
        Refused::Precondition => precondition_failed(),
        Refused::Store(error) => error::txn(&error),
    }
}

fn check_bucket(txn: &Txn<'_>, name: &str, path: &ObjectPath) -> Result<(), Refused> {
    let owned = bucket(txn, name).map_err(TxnError::from)?;
    let ours = owned.is_some_and(|record| record.owner == path.account);
    if ours { Ok(()) } else { Err(Refused::NoBucket) }
}

pub(super) async fn one(
    api: &Api,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let admitted = api.admitted(&req)?;
    let input = req.input;
    if input.version_id.as_deref().is_some_and(|version| version != "null") {
        return Err(s3_error!(NoSuchVersion, "versions are not kept"));
    }
    let path = admitted.path(&input.key)?;
    let (name, condition) = (input.bucket, input.if_match);
    let done = api.store.transact(move |txn| {
        check_bucket(txn, &name, &path)?;
        remove(txn, &path, condition.as_ref())
    });
    done.await.map_err(|e| error::transact(e, refusal))?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

fn remove(
    txn: &mut Txn<'_>,
    path: &ObjectPath,
    condition: Option<&ETagCondition>,
) -> Result<(), Refused> {
    if let Some(condition) = condition {
        let found = txn.object(path).map_err(TxnError::from)?;
        if found.is_some_and(|record| !holds(condition, &record.meta.etag)) {
            return Err(Refused::Precondition);
        }
    }
    // What is not there is as good as deleted.
    txn.delete_object(path, None, crate::store::Deleter::plain(super::now_ms()))?;
    Ok(())
}

pub(super) async fn many(
    api: &Api,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let objects = &req.input.delete.objects;
    if objects.is_empty() || objects.len() > KEYS_MAX {
        return Err(s3_error!(MalformedXML, "1 to {KEYS_MAX} keys are to be given"));
    }
    let (mut wanted, mut errors) = (Vec::new(), Vec::new());
    for object in objects {
        match target(api, &req, object) {
            Ok(path) => wanted.push((path, object.clone())),
            Err(e) => errors.push(told(object, &e)),
        }
    }
    let input = req.input;
    let quiet = input.delete.quiet.unwrap_or(false);
    let name = input.bucket;
    let done = api.store.transact(move |txn| {
        let mut failed = Vec::new();
        let mut deleted = Vec::new();
        for (path, object) in wanted {
            check_bucket(txn, &name, &path)?;
            let condition = object.e_tag.clone().map(ETagCondition::ETag);
            match remove(txn, &path, condition.as_ref()) {
                Ok(()) => deleted.push(object),
                Err(Refused::Precondition) => failed.push(told(&object, &precondition_failed())),
                Err(e) => return Err(e),
            }
        }
        Ok((deleted, failed))
    });
    let (deleted, failed) = done.await.map_err(|e| error::transact(e, refusal))?;
    errors.extend(failed);
    let deleted = deleted
        .into_iter()
        .filter(|_| !quiet)
        .map(|object| DeletedObject { key: Some(object.key), ..DeletedObject::default() });
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted.collect()),
        errors: (!errors.is_empty()).then_some(errors),
        ..DeleteObjectsOutput::default()
    }))
}

fn target(
    api: &Api,
    req: &S3Request<DeleteObjectsInput>,
    object: &ObjectIdentifier,
) -> S3Result<ObjectPath> {
    if object.version_id.as_deref().is_some_and(|version| version != "null") {
        return Err(s3_error!(NoSuchVersion, "versions are not kept"));
    }
    api.may(req, Action::DeleteObject, &req.input.bucket, &object.key)?.path(&object.key)
}

fn told(object: &ObjectIdentifier, error: &S3Error) -> Error {
    Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(object.key.clone()),
        message: error.message().map(str::to_owned),
        version_id: object.version_id.clone(),
    }
}
