//! What buckets are set to, parsed and kept in memory: what many requests need and few change.

use super::cors::Rules as CorsRules;
use super::error;
use crate::events::Rules as EventRules;
use crate::lifecycle::{Day, Rules as LifecycleRules};
use crate::store::{BucketConfig, Snapshot, Store, bucket_config};
use s3s::S3Result;
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

/// Buckets whose settings are kept; with more, all are forgotten and those in use come back.
const BUCKETS_MAX: usize = 4096;

/// What one bucket is set to.
#[derive(Debug, Default)]
pub struct BucketSettings {
    /// Its rules for web pages of other origins.
    pub cors: Option<Arc<CorsRules>>,
    /// What becomes of old objects.
    pub lifecycle: Option<Arc<LifecycleRules>>,
    /// Whom its events are told; nothing when there is nobody.
    pub notification: Option<Arc<EventRules>>,
}

/// The settings of all buckets.
pub struct Settings {
    store: Store,
    day: Day,
    /// With the generation of the store's settings that each was read in.
    known: RwLock<HashMap<String, (u64, Arc<BucketSettings>)>>,
}

impl Settings {
    /// The settings in a store.
    #[must_use]
    pub fn new(store: Store) -> Settings {
        Settings::with_day(store, Day::default())
    }

    /// As [`Settings::new`], where rules count with other days.
    #[must_use]
    pub fn with_day(store: Store, day: Day) -> Settings {
        Settings { store, day, known: RwLock::default() }
    }

    /// How long a day is, for rules.
    #[must_use]
    pub fn day(&self) -> Day {
        self.day
    }

    /// What a bucket is set to; nothing when there is no such bucket.
    ///
    /// # Errors
    /// When the index fails.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn of(&self, bucket: &str) -> S3Result<Arc<BucketSettings>> {
        // Read before the view, so that what is kept is never older than it says.
        let generation = self.store.settings_generation();
        let known = self.known.read().expect("no holder of this lock panics");
        if let Some((of, settings)) = known.get(bucket)
            && *of == generation
        {
            return Ok(Arc::clone(settings));
        }
        drop(known);
        let view = self.store.read().map_err(|e| error::index(&e))?;
        let settings = Arc::new(read(&view, bucket)?);
        let mut known = self.known.write().expect("no holder of this lock panics");
        if known.len() >= BUCKETS_MAX && !known.contains_key(bucket) {
            known.clear();
        }
        known.insert(bucket.to_owned(), (generation, Arc::clone(&settings)));
        Ok(settings)
    }
}

fn read(view: &Snapshot, bucket: &str) -> S3Result<BucketSettings> {
    let document = |kind| bucket_config(view, bucket, kind).map_err(|e| error::index(&e));
    let cors = document(BucketConfig::Cors)?.map(|document| CorsRules::parse(&document));
    let notification =
        document(BucketConfig::Notification)?.map(|document| EventRules::parse(&document));
    let notification = notification.transpose().map_err(|e| error::internal(&e))?;
    let lifecycle =
        document(BucketConfig::Lifecycle)?.map(|document| LifecycleRules::parse(&document));
    let lifecycle = lifecycle.transpose().map_err(|e| error::internal(&e))?;
    Ok(BucketSettings {
        lifecycle: lifecycle.map(Arc::new),
        cors: cors.transpose()?.map(Arc::new),
        notification: notification.filter(|rules| !rules.is_empty()).map(Arc::new),
    })
}
