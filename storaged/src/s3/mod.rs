//! The S3 face: operations, over a protocol library that does XML, routing and Signature Version 4.
//!
//! ```text
//!   front ─▶ cors ─▶ door (what the library would let through) ─▶ s3s ─▶ access ─▶ Api ─▶ store
//! ```
//! A bucket belongs to the account that made it; who else may do what is the business of [`access`].

pub mod access;
mod api;
mod attributes;
mod bucket;
mod bucket_tagging;
pub mod checksum;
pub mod chunks;
mod condition;
mod copied;
mod copy;
pub mod cors;
mod delete;
mod document;
mod door;
mod error;
pub mod fast;
mod get;
pub mod hosted;
mod ignored;
mod integrity;
mod joined;
mod lifecycle;
mod list;
mod lock;
mod multipart;
mod notification;
pub mod operation;
pub mod post;
mod put;
mod range;
pub mod references;
mod region;
mod reread;
mod resource;
mod screen;
mod settings;
pub mod signature;
pub mod tag_list;
mod tagging;
pub mod tags;
mod unsigned;
mod version;
mod versioning;
mod versions;
mod writing;

pub use error::chain;
pub use screen::screen;
pub use settings::{BucketSettings, Settings};

use crate::accounts::Accounts;
use crate::events::Events;
use crate::front::{FileRange, Kinds, Service};
use crate::store::Store;
use access::Guard;
use bytes::Bytes;
use hosted::Domains;
use http::{Response, StatusCode};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3Error, S3Result, s3_error};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest key, in bytes: as S3 has it.
const KEY_BYTES_MAX: usize = 1024;

/// The body of a response, for the front: the library would make a stream of it.
#[derive(Clone)]
enum Payload {
    Bytes(Bytes),
    File(FileRange),
    /// Taken by the one who sends it.
    Stream(Arc<Mutex<Option<Body>>>),
}

/// How requests of a port for S3 are counted, where these domains have buckets as hosts.
#[must_use]
pub fn kinds(port: &'static str, domains: Domains) -> Kinds {
    let of = move |head: &http::Request<()>| operation::of(head, &domains) as usize;
    Kinds { port, names: operation::NAMES, of: Arc::new(of), id: Some("x-amz-request-id") }
}

/// The S3 port's service.
pub fn service(store: Store, accounts: Arc<Accounts>) -> Arc<dyn Service> {
    let settings = Arc::new(Settings::new(store.clone()));
    let events = Events::silent(&store, &settings);
    service_telling(store, accounts, settings, events, Domains::default())
}

/// The S3 port's service, which tells of changes.
pub fn service_telling(
    store: Store,
    accounts: Arc<Accounts>,
    settings: Arc<Settings>,
    events: Events,
    domains: Domains,
) -> Arc<dyn Service> {
    let guard = Arc::new(Guard::new(store.clone(), Arc::clone(&accounts)));
    let lane = fast::Lane::new(
        store.clone(),
        Arc::clone(&accounts),
        Arc::clone(&guard),
        Arc::clone(&settings),
    );
    let api = Api {
        store,
        events,
        settings: Arc::clone(&settings),
        accounts: Arc::clone(&accounts),
        guard: Arc::clone(&guard),
    };
    let mut builder = S3ServiceBuilder::new(api);
    builder.set_auth(Auth(Arc::clone(&accounts)));
    builder.set_access(access::Hook(guard));
    builder.set_host(domains.clone());
    let door = door::Door { library: builder.build(), accounts, verifier: Arc::default() };
    let service = fast::Faster { lane, long: cors::Gate::new(Arc::new(door), settings) };
    Arc::new(hosted::Gate { domains, service })
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
    events: Events,
    settings: Arc<Settings>,
    accounts: Arc<Accounts>,
    guard: Arc<Guard>,
}

/// Milliseconds since 1970, for people to read.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
