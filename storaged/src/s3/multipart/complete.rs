//! CompleteMultipartUpload.
//!
//! ```text
//!   list right, conditions hold (seconds at most; else 4xx, and the upload is as it was)
//!     ─▶ one file of the parts, sealed (may take long) ─▶ conditions again, object, upload gone: one transaction
//! ```
//! Asked again with the same list it gives the same answer, for an hour; asked while it is under way, it
//! waits for that.

use super::begin::{kind_name, kind_of};
use super::choose::{Asked, Choice, Claims, choose, fingerprint, read_list};
use super::later::{PATIENCE, PULSE, answer};
use super::{busy, known, no_such_upload};
use crate::events::{Change, EventKind, Events, Who};
use crate::files::{AssembleError, Assembly};
use crate::front::Origin;
use crate::s3::checksum::{self, Algorithm};
use crate::s3::condition::WriteConditions;
use crate::s3::lifecycle::expiration;
use crate::s3::put::{Refused, check_bucket, refusal};
use crate::s3::{Api, Settings, error, now_ms};
use crate::store::uploads::{
    Begun, CompletedUpload, Completion, Upload, UploadId, completed, parts,
};
use crate::store::{
    ChecksumType, Content, Metadata, ObjectPath, PartRecord, Store, Txn, TxnError, View, Written,
    object,
};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use s3s::dto::{CompleteMultipartUploadInput, CompleteMultipartUploadOutput, ETag};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use std::sync::Arc;

/// How often it is looked at again when something changed since the last look.
const TRIES_MAX: usize = 4;

/// What is asked for.
struct Request {
    bucket: String,
    key: String,
    path: ObjectPath,
    upload: String,
    list: Vec<Asked>,
    claims: Claims,
    conditions: WriteConditions,
    location: String,
    /// Who is told of the change.
    told: (Events, Who),
    settings: Arc<Settings>,
}

pub(in crate::s3) async fn complete(
    api: &Api,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let path = api.admitted(&req)?.path(&req.input.key)?;
    let who = api.who(&api.teller(&req)?);
    let secure = req.extensions.get::<Origin>().is_some_and(|origin| origin.secure);
    let S3Request { input, headers, uri, .. } = req;
    if input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some() {
        return Err(s3_error!(NotImplemented, "server-side encryption is not served"));
    }
    let request = Request {
        path,
        claims: claims(&input, &headers)?,
        list: read_list(input.multipart_upload)?,
        conditions: WriteConditions::of(&headers)?,
        location: location(secure, &headers, uri.path(), &input.bucket, &input.key),
        bucket: input.bucket,
        key: input.key,
        upload: input.upload_id,
        told: (api.events.clone(), who),
        settings: Arc::clone(&api.settings),
    };
    answer(Box::pin(carry_out(api.store.clone(), request)), PATIENCE, PULSE).await
}

fn claims(input: &CompleteMultipartUploadInput, headers: &HeaderMap) -> S3Result<Claims> {
    let size = input.mpu_object_size.map(|size| {
        u64::try_from(size).map_err(|_| s3_error!(InvalidArgument, "the size is negative"))
    });
    let kind = input.checksum_type.as_ref().map(|kind| kind_of(kind.as_str()));
    Ok(Claims {
        sums: checksum::of_whole(headers),
        kind: kind.transpose()?,
        size: size.transpose()?,
    })
}

/// Where the object is, as the client addressed it: with the bucket in the path, or in the host.
fn location(secure: bool, headers: &HeaderMap, path: &str, bucket: &str, key: &str) -> String {
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let is_hosted = percent_decode_str(path).eq(format!("/{key}").into_bytes());
    let key = crate::s3::list::Encoding::Url.text(key.as_bytes());
    let scheme = if secure { "https" } else { "http" };
    match host {
        Some(host) if is_hosted => format!("{scheme}://{host}/{key}"),
        Some(host) => format!("{scheme}://{host}/{bucket}/{key}"),
        None => format!("/{bucket}/{key}"),
    }
}

async fn carry_out(store: Store, request: Request) -> S3Result<CompleteMultipartUploadOutput> {
    for _ in 0..TRIES_MAX {
        let view = store.read().map_err(|e| error::index(&e))?;
        let Some(upload) = known(&view, &request.upload, &request.path)? else {
            return again(&view, &request);
        };
        let choice = chosen(&view, &request, &upload)?;
        drop(view);
        match store.begin_completion(upload.id) {
            Begun::Mine(completion) => {
                match assemble(&store, completion, &request, &upload, choice).await {
                    // Sent again since the look: perhaps it is the same bytes, and all is well.
                    Err(AssembleError::Changed { .. }) => {}
                    done => return done.map_err(failed),
                }
            }
            // Over, one way or another, when this is dropped: then it is looked at anew.
            Begun::Running(over) => drop(over.await),
            Begun::Ended => {}
        }
    }
    Err(busy())
}

/// The parts that are asked for, if they and the conditions hold.
fn chosen(view: &dyn View, request: &Request, upload: &Upload) -> S3Result<Choice> {
    let (recorded, _) = parts(view, upload.id, 0, usize::MAX).map_err(|e| error::index(&e))?;
    let choice = choose(&request.list, &request.claims, &recorded, upload.sum.as_ref())?;
    let found = object(view, &request.path).map_err(|e| error::index(&e))?;
    let held = request.conditions.check(found.as_ref());
    held.map_err(|outcome| refusal(outcome.into()))?;
    Ok(choice)
}

/// The answer that was given before.
fn again(view: &dyn View, request: &Request) -> S3Result<CompleteMultipartUploadOutput> {
    let id = UploadId::parse(&request.upload).ok_or_else(no_such_upload)?;
    let before = completed(view, id).map_err(|e| error::index(&e))?;
    let before = before
        .filter(|before| before.path == request.path && before.list == fingerprint(&request.list));
    Ok(output(&before.ok_or_else(no_such_upload)?.answer, request))
}

async fn assemble(
    store: &Store,
    completion: Completion,
    request: &Request,
    upload: &Upload,
    choice: Choice,
) -> Result<CompleteMultipartUploadOutput, AssembleError<Refused>> {
    let assembly = Assembly { chosen: choice.parts.clone(), md5: choice.etag.md5 };
    let Request { bucket, path, conditions, .. } = request;
    let (name, path, conditions) = (bucket.clone(), path.clone(), conditions.clone());
    let (id, list) = (upload.id, fingerprint(&request.list));
    let size = choice.parts.iter().map(|part| part.size).sum();
    let etag = choice.etag;
    let finish = move |txn: &mut Txn<'_>, content: Content, upload: &Upload| {
        check_bucket(txn, &name, &path)?;
        conditions.check(txn.object(&path).map_err(TxnError::from)?.as_ref())?;
        let completed_ms = now_ms();
        let meta = metadata(upload.meta.clone(), &choice, completed_ms);
        let written = txn.put_object(&path, content, meta)?;
        let version = written.shown().map(|version| version.to_string());
        let answer = facts(&choice, version);
        let done = CompletedUpload { id, path, completed_ms, list, answer };
        txn.remember_completed(&done)?;
        Ok((done, written))
    };
    // With the work, so that it is told even if nobody waits for the answer any more.
    let ((events, who), name, key) =
        (request.told.clone(), request.bucket.clone(), request.key.clone());
    let after = move |(done, written): &(CompletedUpload, Written)| {
        let kind = EventKind::CreatedMultipart;
        let change = Change::created(kind, key, size, etag, written, done.completed_ms);
        crate::committer::wait(events.tell(&who, &name, [change]));
    };
    let done = store.assemble(completion, assembly, finish, after).await;
    let Request { settings, bucket, key, .. } = request;
    let expires =
        |at_ms| expiration(settings, bucket, key.as_bytes(), size, at_ms, &upload.meta.tags);
    done.map(|(done, _)| CompleteMultipartUploadOutput {
        expiration: expires(done.completed_ms),
        ..output(&done.answer, request)
    })
}

fn failed(failed: AssembleError<Refused>) -> S3Error {
    match failed {
        AssembleError::Ended => no_such_upload(),
        AssembleError::Changed { number } => {
            s3_error!(InvalidPart, "part {number} was uploaded again meanwhile")
        }
        AssembleError::Seal(failed) => error::seal(&failed),
        AssembleError::Record(failed) => error::transact(failed, refusal),
    }
}

/// What is said of the object: by the beginner of its upload, and by its parts.
fn metadata(meta: Metadata, choice: &Choice, modified_ms: u64) -> Metadata {
    let parts = choice.parts.iter().map(|part| PartRecord {
        number: part.number,
        size: part.size,
        checksum: part.sum.clone(),
    });
    let sum = choice.sum.as_ref();
    Metadata {
        etag: choice.etag,
        modified_ms,
        checksums: sum.map(|(name, value, _)| (name.clone(), value.clone())).into_iter().collect(),
        checksum_type: sum.map(|(_, _, kind)| *kind).unwrap_or_default(),
        parts: parts.collect(),
        ..meta
    }
}

/// What the answer says, as it is remembered.
fn facts(choice: &Choice, version: Option<String>) -> Vec<(String, String)> {
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = vec![fact("etag", choice.etag.to_string())];
    if let Some((name, value, kind)) = &choice.sum {
        facts.push(fact(name, value.clone()));
        facts.push(fact("type", kind_name(*kind).to_owned()));
    }
    facts.extend(version.map(|version| fact("version", version)));
    facts
}

fn output(facts: &[(String, String)], request: &Request) -> CompleteMultipartUploadOutput {
    let fact =
        |name: &str| facts.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let is_sum = |(name, _): &&(String, String)| Algorithm::from_name(name).is_some();
    let sums: Vec<_> = facts.iter().filter(is_sum).cloned().collect();
    let sums = checksum::shown(&sums, ChecksumType::default());
    CompleteMultipartUploadOutput {
        bucket: Some(request.bucket.clone()),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        checksum_type: fact("type").map(Into::into),
        e_tag: fact("etag").map(ETag::Strong),
        key: Some(request.key.clone()),
        location: Some(request.location.clone()),
        version_id: fact("version"),
        ..CompleteMultipartUploadOutput::default()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_location_is_as_the_client_addressed_it() {
        let place = |secure, host: &'static str, path| {
            let headers = [(http::header::HOST, http::HeaderValue::from_static(host))];
            location(secure, &headers.into_iter().collect(), path, "b", "a b/c")
        };
        assert_eq!(place(false, "h:9000", "/b/a%20b/c"), "http://h:9000/b/a%20b/c");
        assert_eq!(place(true, "b.s3.lan", "/a+b%2Fc"), "https://b.s3.lan/b/a%20b/c");
        assert_eq!(place(true, "b.s3.lan", "/a%20b%2Fc"), "https://b.s3.lan/a%20b/c");
        assert_eq!(location(true, &HeaderMap::new(), "/b/k", "b", "k"), "/b/k");
    }
}
