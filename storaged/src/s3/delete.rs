//! DeleteObject and DeleteObjects.

use super::access::Action;
use super::condition::DeleteConditions;
use super::get::precondition_failed;
use super::tag_list::TagList;
use super::{Api, error, lock, version};
use crate::events::{Change, EventKind};
use crate::store::{
    Deleted, Deleter, ObjectPath, Txn, TxnError, VersionRef, bucket, object_version,
};
use http::header::IF_MATCH;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    Error, ObjectIdentifier,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

/// Keys of one DeleteObjects: as S3 has it.
const KEYS_MAX: usize = 1000;

/// What is told of: that a version has gone, that a delete marker was laid.
const KINDS: (EventKind, EventKind) = (EventKind::RemovedDelete, EventKind::RemovedMarker);

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
    let asked = req.input.bypass_governance_retention;
    let bypass_governance = lock::bypasses(api, &req, asked, &req.input.bucket, &req.input.key)?;
    let teller = api.teller(&req)?;
    let input = req.input;
    let version = version::named(input.version_id.as_deref())?;
    let path = admitted.path(&input.key)?;
    let conditions = DeleteConditions {
        matches: TagList::of(&req.headers, &IF_MATCH)?,
        modified: input.if_match_last_modified_time,
        size: input.if_match_size,
    };
    let target = Target { path, version, conditions };
    let deleter = Deleter { now_ms: super::now_ms(), bypass_governance };
    let name = input.bucket.clone();
    let done = api.store.transact(move |txn| {
        check_bucket(txn, &name, &target.path)?;
        target.remove(txn, deleter)
    });
    let (deleted, sequence) = done.await.map_err(|e| error::transact(e, refusal))?;
    let change = || Change::deleted(KINDS, input.key, deleted, sequence, deleter.now_ms);
    api.tell(&teller, &input.bucket, change).await;
    let (marker, id) = match deleted {
        // Of a version that is not there, nothing is known but that it is gone.
        Deleted::Nothing => (false, version),
        // Of the only version there is, nobody wants to know the id.
        Deleted::Removed { marker, version: removed } => (marker, version.map(|_| removed)),
        Deleted::Marked { version } => (true, Some(version)),
    };
    Ok(S3Response::new(DeleteObjectOutput {
        delete_marker: marker.then_some(true),
        version_id: id.map(|version| version.to_string()),
        ..DeleteObjectOutput::default()
    }))
}

/// What is to be deleted.
struct Target {
    path: ObjectPath,
    version: Option<VersionRef>,
    conditions: DeleteConditions,
}

impl Target {
    /// What became of it, and the number that orders this among other changes of the key.
    fn remove(&self, txn: &mut Txn<'_>, deleter: Deleter) -> Result<(Deleted, u64), Refused> {
        if !self.conditions.is_empty() {
            let found = match self.version {
                None => txn.object(&self.path),
                Some(version) => object_version(txn, &self.path, version),
            };
            let found = found.map_err(TxnError::from)?;
            if found.is_some_and(|record| !self.conditions.hold(&record)) {
                return Err(Refused::Precondition);
            }
        }
        // What is not there is as good as deleted.
        let deleted = txn.delete_object(&self.path, self.version, deleter)?;
        Ok((deleted, txn.next_sequence()))
    }
}

pub(super) async fn many(
    api: &Api,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let input = &req.input;
    let quiet = input.delete.quiet.unwrap_or(false);
    let objects = &input.delete.objects;
    if objects.is_empty() || objects.len() > KEYS_MAX {
        return Err(s3_error!(MalformedXML, "1 to {KEYS_MAX} keys are to be given"));
    }
    let teller = api.teller(&req)?;
    let now_ms = super::now_ms();
    let (mut wanted, mut errors) = (Vec::new(), Vec::new());
    for object in objects {
        match target(api, &req, object) {
            Ok((target, bypass_governance)) => {
                wanted.push((target, Deleter { now_ms, bypass_governance }, object.clone()));
            }
            Err(e) => errors.push(told(object, &e)),
        }
    }
    let name = input.bucket.clone();
    let done = api.store.transact(move |txn| {
        let mut failed = Vec::new();
        let mut deleted = Vec::new();
        for (target, deleter, object) in wanted {
            check_bucket(txn, &name, &target.path)?;
            match target.remove(txn, deleter) {
                Ok((done, sequence)) => deleted.push((object, done, sequence)),
                Err(refused @ (Refused::Precondition | Refused::Store(TxnError::Locked))) => {
                    failed.push(told(&object, &refusal(refused)));
                }
                Err(e) => return Err(e),
            }
        }
        Ok((deleted, failed))
    });
    let (deleted, failed) = done.await.map_err(|e| error::transact(e, refusal))?;
    errors.extend(failed);
    let changes = || {
        let change = |(object, done, sequence): &(ObjectIdentifier, Deleted, u64)| {
            Change::deleted(KINDS, object.key.clone(), *done, *sequence, now_ms)
        };
        deleted.iter().filter_map(change).collect::<Vec<_>>()
    };
    api.tell(&teller, &req.input.bucket, changes).await;
    let deleted = deleted.into_iter().filter(|_| !quiet);
    let deleted = deleted.map(|(object, done, _)| shown(object, done));
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted.collect()),
        errors: (!errors.is_empty()).then_some(errors),
        ..DeleteObjectsOutput::default()
    }))
}

/// What became of one of several.
fn shown(object: ObjectIdentifier, done: Deleted) -> DeletedObject {
    let marker = match done {
        Deleted::Marked { version } | Deleted::Removed { marker: true, version } => Some(version),
        Deleted::Removed { marker: false, .. } | Deleted::Nothing => None,
    };
    DeletedObject {
        delete_marker: marker.map(|_| true),
        delete_marker_version_id: marker.map(|version| version.to_string()),
        key: Some(object.key),
        version_id: object.version_id,
    }
}

/// One of several to be deleted, and whether its governance retention is overridden: each needs its own
/// permission.
fn target(
    api: &Api,
    req: &S3Request<DeleteObjectsInput>,
    object: &ObjectIdentifier,
) -> S3Result<(Target, bool)> {
    let bucket = &req.input.bucket;
    let version = version::named(object.version_id.as_deref())?;
    let action = match version {
        None => Action::DeleteObject,
        Some(_) => Action::DeleteObjectVersion,
    };
    let named = object.version_id.as_deref();
    let path = api.may_version(req, action, bucket, &object.key, named)?.path(&object.key)?;
    let asked = req.input.bypass_governance_retention;
    let bypass = lock::bypasses(api, req, asked, bucket, &object.key)?;
    let matches = object.e_tag.clone().map(TagList::of_element);
    if matches!(matches, Some(TagList::OneOf(_))) {
        // As for a condition in a head.
        let reads = match version {
            None => Action::GetObject,
            Some(_) => Action::GetObjectVersion,
        };
        api.may_version(req, reads, bucket, &object.key, named)?;
    }
    let conditions = DeleteConditions {
        matches,
        modified: object.last_modified_time.clone(),
        size: object.size,
    };
    Ok((Target { path, version, conditions }, bypass))
}

fn told(object: &ObjectIdentifier, error: &S3Error) -> Error {
    Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(object.key.clone()),
        message: error.message().map(str::to_owned),
        version_id: object.version_id.clone(),
    }
}
