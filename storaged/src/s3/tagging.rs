//! Tags of objects: read, replaced and removed, without a new version.

use super::tags::{self, OBJECT_TAGS_MAX, Tags};
use super::{Api, error, version};
use crate::events::{Change, EventKind};
use crate::store::ObjectRecord;
use s3s::dto::{
    DeleteObjectTaggingInput, DeleteObjectTaggingOutput, GetObjectTaggingInput,
    GetObjectTaggingOutput, PutObjectTaggingInput, PutObjectTaggingOutput,
};
use s3s::{S3Request, S3Response, S3Result};

pub(super) fn get(
    api: &Api,
    req: &S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let (admitted, input) = (api.admitted(req)?, &req.input);
    let named = version::named(input.version_id.as_deref())?;
    let view = api.store.read().map_err(|e| error::index(&e))?;
    let record = version::read(&view, &admitted.path(&input.key)?, named)?;
    Ok(S3Response::new(GetObjectTaggingOutput {
        tag_set: tags::document(&record.meta.tags),
        version_id: version::shown(&admitted, &record)?,
    }))
}

pub(super) async fn put(
    api: &Api,
    req: S3Request<PutObjectTaggingInput>,
) -> S3Result<S3Response<PutObjectTaggingOutput>> {
    let (input, rest) = apart(req);
    let tags = tags::of_document(input.tagging.tag_set, OBJECT_TAGS_MAX)?;
    let target = Target { bucket: input.bucket, key: input.key, version: input.version_id };
    let version_id = target.replace(api, &rest, tags, EventKind::TaggingPut).await?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

pub(super) async fn delete(
    api: &Api,
    req: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
    let (input, rest) = apart(req);
    let target = Target { bucket: input.bucket, key: input.key, version: input.version_id };
    let version_id = target.replace(api, &rest, Tags::new(), EventKind::TaggingDelete).await?;
    Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
}

/// What is asked for, and all else about the request.
fn apart<T>(req: S3Request<T>) -> (T, S3Request<()>) {
    let mut input = None;
    let rest = req.map_input(|found| input = Some(found));
    (input.expect("the request was mapped above"), rest)
}

/// Whose tags.
struct Target {
    bucket: String,
    key: String,
    version: Option<String>,
}

impl Target {
    /// Gives a version these tags and no others; what the answer calls it.
    async fn replace(
        self,
        api: &Api,
        req: &S3Request<()>,
        tags: Tags,
        kind: EventKind,
    ) -> S3Result<Option<String>> {
        let (admitted, teller) = (api.admitted(req)?, api.teller(req)?);
        let named = version::named(self.version.as_deref())?;
        let changed = version::change(api, admitted.path(&self.key)?, named, move |meta| {
            meta.tags = tags;
            Ok(())
        });
        let record = changed.await?;
        let shown = version::shown(&admitted, &record)?;
        let change = || [change(kind, self.key, &record, shown.clone())];
        api.tell(&teller, &self.bucket, change).await;
        Ok(shown)
    }
}

fn change(kind: EventKind, key: String, record: &ObjectRecord, version: Option<String>) -> Change {
    Change {
        kind,
        key,
        size: Some(record.size),
        etag: Some(record.meta.etag.to_string()),
        version,
        sequence: record.version.0,
        time_ms: super::now_ms(),
    }
}
