//! The S3 face: operations, over a protocol library that does XML, routing and Signature Version 4.
//!
//! ```text
//!   front ─▶ screen (what the library would let through) ─▶ s3s ─▶ Api ─▶ store
//! ```
//! A bucket belongs to the account that made it, and nobody else may do anything with it.

mod bucket;
mod checksum;
mod condition;
mod delete;
mod error;
mod get;
mod list;
mod put;
mod screen;

pub use error::chain;
pub use screen::screen;

use crate::accounts::{Account, Accounts};
use crate::front::{Answer, FileRange, Service};
use crate::store::{AccountId, BucketRecord, ObjectPath, Store};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::{
    CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput,
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
    GetBucketLocationInput, GetBucketLocationOutput, GetObjectInput, GetObjectOutput,
    HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput,
    ListBucketsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, PutObjectInput, PutObjectOutput,
};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest key, in bytes: as S3 has it.
const KEY_BYTES_MAX: usize = 1024;

/// The body of a response, for the front: the library would make a stream of it.
#[derive(Clone)]
enum Payload {
    Bytes(Bytes),
    File(FileRange),
}

/// The S3 port's service.
pub fn service(store: Store, accounts: Arc<Accounts>) -> Arc<dyn Service> {
    let mut builder = S3ServiceBuilder::new(Api { store, accounts: Arc::clone(&accounts) });
    builder.set_auth(Auth(accounts));
    Arc::new(Screened(builder.build()))
}

/// A service of the protocol library as the front wants it, with what the library lets through and
/// should not kept out.
pub struct Screened(pub S3Service);

impl Service for Screened {
    fn call(&self, request: Request<Body>) -> Answer {
        let service = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let answer = match screen(&parts) {
                Ok(()) => service.call(Request::from_parts(parts, body)).await,
                Err(error) => return told(error),
            };
            match answer {
                Ok(response) => with_payload(response),
                Err(error) => {
                    log::error!("a request could not be answered: {error:?}");
                    told(s3_error!(InternalError, "the answer could not be written"))
                }
            }
        })
    }
}

fn with_payload(mut response: Response<Body>) -> Response<Body> {
    match response.extensions_mut().remove::<Payload>() {
        None => response,
        Some(Payload::Bytes(bytes)) => response.map(|_| Body::from(bytes)),
        Some(Payload::File(range)) => {
            response.extensions_mut().insert(range);
            response
        }
    }
}

fn told(error: S3Error) -> Response<Body> {
    error.to_http_response().unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// The secrets that requests are signed with.
pub struct Auth(pub Arc<Accounts>);

#[async_trait::async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.by_access_key(access_key) {
            Some(account) => Ok(account.secret_key.clone()),
            None => Err(s3_error!(
                InvalidAccessKeyId,
                "the access key you provided does not exist in our records"
            )),
        }
    }
}

struct Api {
    store: Store,
    accounts: Arc<Accounts>,
}

impl Api {
    /// Who asks: the library has checked the signature.
    fn account<T>(&self, req: &S3Request<T>) -> S3Result<Arc<Account>> {
        let known = req
            .credentials
            .as_ref()
            .and_then(|credentials| self.accounts.by_access_key(&credentials.access_key));
        known.cloned().ok_or_else(|| s3_error!(AccessDenied, "sign your requests"))
    }

    /// A bucket, if it is this account's.
    fn own_bucket(&self, account: AccountId, name: &str) -> S3Result<BucketRecord> {
        let view = self.store.read().map_err(|e| error::index(&e))?;
        match crate::store::bucket(&view, name).map_err(|e| error::index(&e))? {
            None => Err(s3_error!(NoSuchBucket, "the specified bucket does not exist")),
            Some(record) if record.owner == account => Ok(record),
            Some(_) => Err(s3_error!(AccessDenied, "the bucket is somebody else's")),
        }
    }

    /// Where an object is: among the objects of who asks, so that a bucket of somebody else's with
    /// the same name can't be meant.
    fn object_path(&self, account: &Account, bucket: &str, key: &str) -> S3Result<ObjectPath> {
        if key.is_empty() {
            return Err(s3_error!(InvalidArgument, "a key is not empty"));
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(s3_error!(KeyTooLongError, "a key has at most {KEY_BYTES_MAX} bytes"));
        }
        ObjectPath::of_key(account.id, bucket, key.as_bytes())
            .map_err(|e| s3_error!(KeyTooLongError, "{e}"))
    }
}

#[async_trait::async_trait]
impl S3 for Api {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        bucket::create(self, req).await
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        bucket::head(self, &req)
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        bucket::location(self, &req)
    }

    async fn list_buckets(
        &self,
        req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        bucket::list(self, req)
    }

    async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        bucket::delete(self, req).await
    }

    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        put::put(self, req).await
    }

    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        get::get(self, req)
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        get::head(self, req)
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        delete::one(self, req).await
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        delete::many(self, req).await
    }

    async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        list::version_1(self, req)
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        list::version_2(self, req)
    }
}

/// Milliseconds since 1970, for people to read.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
