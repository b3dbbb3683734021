use super::worker::Worker;
use super::*;
use crate::events::Events;
use crate::s3::Settings;
use crate::store::{
    AccountId, BucketConfig, BucketRecord, Content, LegalHold, Metadata, ObjectPath, Options,
    Retention, RetentionMode, Store, VersionEntry, Versioning, VersionsQuery,
};
use bytes::Bytes;
use crossbeam::channel::{Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DAY: u64 = 24 * 60 * 60 * 1000;
const OWNER: AccountId = AccountId(1);

struct World {
    store: Store,
    worker: Worker,
    _stop: Sender<()>,
    _data: tempfile::TempDir,
}

fn world(versioning: Versioning) -> World {
    let data = tempfile::tempdir().unwrap();
    let options = Options { kept_bytes: Some(0), ..Options::new(data.path()) };
    let store = Store::open(options).unwrap();
    let mut record = BucketRecord::new(OWNER, 0);
    (record.versioning, record.object_lock) = (versioning, versioning != Versioning::Unversioned);
    let neighbour = BucketRecord::new(OWNER, 0);
    let made = store.transact_wait(move |txn| {
        txn.make_bucket("b", &record)?;
        txn.make_bucket("b2", &neighbour)
    });
    made.unwrap();
    let settings = Arc::new(Settings::new(store.clone()));
    let (_stop, stopped) = bounded(1);
    let worker = Worker {
        store: store.clone(),
        events: Events::silent(&store, &settings),
        day: Day::default(),
        clock: Arc::new(|| 0),
        stopped,
    };
    World { store, worker, _stop, _data: data }
}

impl World {
    fn rules(&self, rules: &str) {
        let text = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
        let put = move |txn: &mut crate::store::Txn<'_>| {
            txn.put_bucket_config("b", BucketConfig::Lifecycle, text)
        };
        self.store.transact_wait(put).unwrap();
    }

    fn put_with(&self, path: &str, modified_ms: u64, meta: Metadata) {
        let path = ObjectPath::new(OWNER, crate::store::Area::Stor, path).unwrap();
        let meta = Metadata { modified_ms, ..meta };
        let content = Content::Inline(Bytes::from_static(b"abc"));
        self.store.transact_wait(move |txn| txn.put_object(&path, content, meta)).unwrap();
    }

    fn put(&self, path: &str, modified_ms: u64) {
        self.put_with(path, modified_ms, Metadata::default());
    }

    fn delete(&self, path: &str, now_ms: u64) {
        let path = ObjectPath::new(OWNER, crate::store::Area::Stor, path).unwrap();
        let deleter = crate::store::Deleter::plain(now_ms);
        self.store.transact_wait(move |txn| txn.delete_object(&path, None, deleter)).unwrap();
    }

    fn pass(&self, now_ms: u64) {
        self.worker.bucket("b", now_ms, None).unwrap();
    }

    /// All versions, newest first, `-` for delete markers and the time for objects.
    fn versions(&self) -> Vec<String> {
        let query = VersionsQuery {
            account: OWNER,
            area: crate::store::Area::Stor,
            prefix: Vec::new(),
            delimiter: Vec::new(),
            after: None,
            max: 10_000,
        };
        let page = crate::store::list_versions(&self.store.read().unwrap(), &query).unwrap();
        let shown = |entry: VersionEntry| match entry {
            VersionEntry::Version { path, summary, .. } => {
                let path = String::from_utf8(path).unwrap();
                let mark = if summary.is_marker() { "-" } else { "" };
                Some(format!("{path} {mark}{}", summary.modified_ms / DAY))
            }
            VersionEntry::Prefix(_) => None,
        };
        page.entries.into_iter().filter_map(shown).collect()
    }
}

fn rule(inner: &str) -> String {
    format!("<Rule><ID>r</ID><Status>Enabled</Status><Filter></Filter>{inner}</Rule>")
}

const TWO_DAYS: &str = "<Expiration><Days>2</Days></Expiration>";

#[test]
fn old_objects_go_and_young_ones_stay() {
    let world = world(Versioning::Unversioned);
    world.rules(&rule(TWO_DAYS));
    world.put("b/old", 1);
    world.put("b/young", DAY + 1);
    world.put("b2/old", 1);
    world.pass(3 * DAY - 1);
    assert_eq!(world.versions(), ["b/old 0", "b/young 1", "b2/old 0"]);
    world.pass(3 * DAY);
    assert_eq!(world.versions(), ["b/young 1", "b2/old 0"]);
    assert_eq!(world.store.status().objects, 2);
}

#[test]
fn a_pass_goes_over_many_pages() {
    let world = world(Versioning::Unversioned);
    world.rules(&rule(TWO_DAYS));
    let done = world.store.transact_wait(|txn| {
        for n in 0..5000_u64 {
            let path = format!("b/{n:05}");
            let path = ObjectPath::new(OWNER, crate::store::Area::Stor, path).unwrap();
            let meta = Metadata { modified_ms: (n % 2) * 9 * DAY, ..Metadata::default() };
            txn.put_object(&path, Content::Inline(Bytes::new()), meta)?;
        }
        Ok::<_, crate::store::TxnError>(())
    });
    done.unwrap();
    world.pass(9 * DAY);
    assert_eq!(world.store.status().objects, 2500);
    assert!(world.versions().iter().all(|version| version.ends_with(" 9")));
}

#[test]
fn versions_are_hidden_first_then_removed_then_their_marker() {
    let world = world(Versioning::Enabled);
    let noncurrent = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>\
        <NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>";
    world.rules(&rule(&format!("{TWO_DAYS}{noncurrent}")));
    world.put("b/k", 0);
    world.put("b/k", DAY);
    world.put("b/k", 2 * DAY);
    // The second one stays: one is to be kept beside the current one.
    world.pass(4 * DAY - 1);
    assert_eq!(world.versions(), ["b/k 2", "b/k 1"]);
    world.pass(4 * DAY);
    assert_eq!(world.versions(), ["b/k -4", "b/k 2", "b/k 1"]);
    world.pass(4 * DAY);
    assert_eq!(world.versions(), ["b/k -4", "b/k 2"]);
    let all = noncurrent.replace("<NewerNoncurrentVersions>1</NewerNoncurrentVersions>", "");
    world.rules(&rule(&format!("{TWO_DAYS}{all}")));
    world.pass(5 * DAY);
    assert_eq!(world.versions(), ["b/k -4"]);
    world.pass(6 * DAY);
    assert!(world.versions().is_empty());
}

#[test]
fn markers_go_that_hide_nothing() {
    let world = world(Versioning::Enabled);
    world.rules(&rule(
        "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
    ));
    world.put("b/hidden", 0);
    for path in ["b/a", "b/hidden", "b/z"] {
        world.delete(path, DAY);
    }
    world.pass(DAY);
    assert_eq!(world.versions(), ["b/hidden -1", "b/hidden 0"]);
}

#[test]
fn what_is_locked_stays() {
    let world = world(Versioning::Enabled);
    let noncurrent = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>";
    world.rules(&rule(noncurrent));
    let retention = Retention { mode: RetentionMode::Governance, until_ms: 9 * DAY };
    world.put_with("b/k", 0, Metadata { retention: Some(retention), ..Metadata::default() });
    world.put_with("b/k", 1, Metadata { legal_hold: LegalHold::On, ..Metadata::default() });
    world.put("b/k", 2 * DAY);
    world.put("b/k", 3 * DAY);
    world.pass(5 * DAY);
    assert_eq!(world.versions(), ["b/k 3", "b/k 0", "b/k 0"]);
    world.pass(10 * DAY);
    assert_eq!(world.versions(), ["b/k 3", "b/k 0"]);
}

#[test]
fn uploads_end_that_nobody_ends() {
    use crate::store::uploads::{NewUpload, UploadQuery, list_uploads};
    let world = world(Versioning::Unversioned);
    let abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
    world.rules(&rule(abort).replace("<Filter></Filter>", "<Filter><Prefix>a</Prefix></Filter>"));
    for (key, initiated_ms) in [("a1", 1), ("a2", DAY + 1), ("z", 1)] {
        let path = ObjectPath::of_key(OWNER, "b", key.as_bytes()).unwrap();
        let new = NewUpload {
            bucket: "b".to_owned(),
            path,
            initiator: "ada".to_owned(),
            initiated_ms,
            sum: None,
            meta: Metadata::default(),
        };
        world.store.transact_wait(move |txn| txn.begin_upload(new)).unwrap();
    }
    let left = || {
        let query = UploadQuery {
            bucket: "b".to_owned(),
            prefix: Vec::new(),
            delimiter: Vec::new(),
            after: None,
            max: 10,
        };
        list_uploads(&world.store.read().unwrap(), &query).unwrap().entries.len()
    };
    world.pass(2 * DAY - 1);
    assert_eq!(left(), 3);
    world.pass(2 * DAY);
    assert_eq!(left(), 2);
    world.pass(3 * DAY);
    assert_eq!(left(), 1);
}

#[test]
fn tags_decide() {
    let world = world(Versioning::Unversioned);
    world.rules(&rule(TWO_DAYS).replace(
        "<Filter></Filter>",
        "<Filter><Tag><Key>keep</Key><Value>no</Value></Tag></Filter>",
    ));
    let tag = ("keep".to_owned(), "no".to_owned());
    world.put_with("b/a", 0, Metadata { tags: vec![tag], ..Metadata::default() });
    world.put("b/b", 0);
    world.pass(9 * DAY);
    assert_eq!(world.versions(), ["b/b 0"]);
}

#[test]
fn an_old_view_removes_nothing_new() {
    use super::act::Job;
    use super::walk::{Moment, Walk};
    let world = world(Versioning::Unversioned);
    let rules = rule(TWO_DAYS);
    world.rules(&rules);
    world.put("b/k", 0);
    let document = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
    let parsed = Rules::parse(document.as_bytes()).unwrap();
    let moment = Moment { now_ms: 9 * DAY, day: Day::default() };
    let mut walk = Walk::new(OWNER, "b", &parsed, moment);
    let candidates = walk.page(&world.store.read().unwrap()).unwrap().unwrap();
    assert_eq!(candidates.len(), 1);
    let record = BucketRecord::new(OWNER, 0);
    let job = Job {
        name: "b".into(),
        record,
        document: document.as_bytes().into(),
        rules: Arc::new(parsed.clone()),
        moment,
    };
    let act = |job: &Job| {
        let (job, candidates) = (job.clone(), candidates.clone());
        world.store.transact_wait(move |txn| job.act(txn, candidates)).unwrap()
    };
    // Written again since: what the walk saw is no longer there.
    world.put("b/k", 0);
    let outcome = act(&job);
    assert!(outcome.done.is_empty() && !outcome.outdated);
    world.rules(&rule("<Expiration><Days>99</Days></Expiration>"));
    assert!(act(&job).outdated);
    let other = Job { record: BucketRecord::new(OWNER, 7), ..job };
    assert!(act(&other).outdated);
    assert_eq!(world.versions(), ["b/k 0"]);
}

#[test]
fn the_worker_follows_clock_and_rules() {
    let world = world(Versioning::Unversioned);
    world.put("b/k", 0);
    let time = Arc::new(AtomicU64::new(DAY));
    let clock: Clock = {
        let time = Arc::clone(&time);
        Arc::new(move || time.load(Ordering::SeqCst))
    };
    let events = world.worker.events.clone();
    // The look at rules and clock is as short as can be with such a day; times are still of real ones.
    let day = Day::of_ms(DAY / 24 / 60 / 20);
    let lifecycle = Lifecycle::start(world.store.clone(), events, day, clock).unwrap();
    let gone = || world.versions().is_empty();
    let until = |what: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(20);
        while !what() {
            assert!(Instant::now() < end, "it does not come true");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let long = format!("<Expiration><Days>{}</Days></Expiration>", 24 * 60 * 20 * 2);
    world.rules(&rule(&long));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!gone());
    time.store(2 * DAY, Ordering::SeqCst);
    until(&gone);
    world.put("b/k", 0);
    world.rules(&rule("<Expiration><Days>1</Days></Expiration>"));
    until(&gone);
    lifecycle.stop();
    world.put("b/k", 0);
    std::thread::sleep(Duration::from_millis(200));
    assert!(!gone());
}
