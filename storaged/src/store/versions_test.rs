//! Versions against a model: a sorted map of paths to stacks. Whatever is written, deleted and switched, what
//! is read, listed and counted is what the model says.

use super::*;
use crate::format::{Value, blob_key, bucket_key};
use crate::index::{Changes, Index, MemoryIndex, Persist};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

const OWNER: AccountId = AccountId(3);
const BUCKET: &str = "b";
const SHARED: BlobId = BlobId(77);

#[derive(Debug, Clone)]
enum Op {
    Switch(Versioning),
    Put { key: usize, size: u64, shared: bool, locked: bool },
    Delete { key: usize, bypass: bool },
    DeleteVersion { key: usize, nth: usize, bypass: bool },
    DeleteNull { key: usize },
}

const KEYS: [&str; 6] = ["a", "a/1", "a/2", "b", "b\0", "c/d/e"];

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS.len();
    prop_oneof![
        1 => prop_oneof![Just(Versioning::Enabled), Just(Versioning::Suspended)].prop_map(Op::Switch),
        6 => (key(), 0_u64..100, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(key, size, shared, locked)| Op::Put { key, size, shared, locked }),
        3 => (key(), any::<bool>()).prop_map(|(key, bypass)| Op::Delete { key, bypass }),
        3 => (key(), 0_usize..4, any::<bool>())
            .prop_map(|(key, nth, bypass)| Op::DeleteVersion { key, nth, bypass }),
        1 => key().prop_map(|key| Op::DeleteNull { key }),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Modelled {
    version: u64,
    null: bool,
    marker: bool,
    size: u64,
    shared: bool,
    locked: bool,
    modified_ms: u64,
}

impl Modelled {
    fn version_ref(&self) -> VersionRef {
        if self.null { VersionRef::Null } else { VersionRef::Id(Version(self.version)) }
    }
}

/// What the model says an operation does: the newest version last.
#[derive(Default)]
struct Model {
    versioning: Versioning,
    stacks: BTreeMap<Vec<u8>, Vec<Modelled>>,
}

impl Model {
    fn stack(&self, path: &ObjectPath) -> &[Modelled] {
        self.stacks.get(path.bytes()).map_or(&[], Vec::as_slice)
    }

    /// Removes the null version if there is one; whether that was allowed.
    fn take(&mut self, path: &ObjectPath, version: VersionRef, bypass: bool) -> Result<bool, ()> {
        let stack = self.stacks.entry(path.bytes().to_vec()).or_default();
        let Some(at) = stack.iter().position(|found| found.version_ref() == version) else {
            return Ok(false);
        };
        if stack[at].locked && !bypass {
            return Err(());
        }
        stack.remove(at);
        Ok(true)
    }

    fn push(&mut self, path: &ObjectPath, mut version: Modelled) -> Result<(), ()> {
        version.null = self.versioning != Versioning::Enabled;
        if version.null {
            self.take(path, VersionRef::Null, false)?;
        }
        self.stacks.entry(path.bytes().to_vec()).or_default().push(version);
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = (&Vec<u8>, &Modelled)> {
        self.stacks
            .iter()
            .flat_map(|(path, stack)| stack.iter().map(move |version| (path, version)))
    }
}

struct Bed {
    index: MemoryIndex,
    sequence: u64,
    objects: i64,
    bytes: i64,
    model: Model,
}

fn path(key: usize) -> ObjectPath {
    ObjectPath::of_key(OWNER, BUCKET, KEYS[key].as_bytes()).unwrap()
}

impl Bed {
    fn new() -> Bed {
        let mut index = MemoryIndex::default();
        let blob = BlobRecord { size: 50, references: 1, state: BlobState::Sealing };
        // Locks are for versions alone here, so that overwriting a locked null version is tried, too.
        let bucket = BucketRecord { object_lock: true, ..BucketRecord::new(OWNER, 0) };
        let changes: Changes =
            [(blob_key(SHARED), Some(blob.encode())), (bucket_key(BUCKET), Some(bucket.encode()))]
                .into();
        index.apply(&changes, 0, Persist::Later).unwrap();
        Bed { index, sequence: 10, objects: 0, bytes: 0, model: Model::default() }
    }

    fn run<T>(&mut self, work: impl FnOnce(&mut Txn<'_>) -> Result<T, TxnError>) -> Result<T, ()> {
        let view = self.index.view().unwrap();
        let mut txn = Txn::new(&*view, &mut self.sequence, Room::Enough);
        match work(&mut txn) {
            Ok(value) => {
                let effects = txn.finish();
                self.objects += effects.tally.objects;
                self.bytes += effects.tally.bytes;
                self.index.apply(&effects.changes, self.sequence, Persist::Later).unwrap();
                Ok(value)
            }
            Err(TxnError::Locked) => Err(()),
            Err(error) => panic!("{error}"),
        }
    }

    fn play(&mut self, op: &Op, now_ms: u64) {
        match *op {
            Op::Switch(versioning) => {
                self.model.versioning = versioning;
                let record =
                    BucketRecord { versioning, object_lock: true, ..BucketRecord::new(OWNER, 0) };
                let change = |txn: &mut Txn<'_>| {
                    txn.change_bucket(BUCKET, &record);
                    Ok(())
                };
                self.run(change).unwrap();
            }
            Op::Put { key, size, shared, locked } => self.put(key, size, shared, locked, now_ms),
            Op::Delete { key, bypass } => self.delete(key, bypass, now_ms),
            Op::DeleteVersion { key, nth, bypass } => {
                let named = self.model.stack(&path(key)).get(nth).map(Modelled::version_ref);
                let named = named.unwrap_or(VersionRef::Id(Version(5)));
                self.delete_version(key, named, bypass, now_ms);
            }
            Op::DeleteNull { key } => self.delete_version(key, VersionRef::Null, false, now_ms),
        }
    }

    fn put(&mut self, key: usize, size: u64, shared: bool, locked: bool, now_ms: u64) {
        let retention = Retention { mode: RetentionMode::Governance, until_ms: u64::MAX };
        let meta = Metadata {
            modified_ms: now_ms,
            retention: locked.then_some(retention),
            ..Metadata::default()
        };
        let size = if shared { 50 } else { size };
        let written = self.run(|txn| match shared {
            true => txn.put_shared(&path(key), ContentRef::Blob(SHARED), size, meta),
            false => {
                let content = Content::Inline(Bytes::from(vec![0; size as usize]));
                txn.put_object(&path(key), content, meta)
            }
        });
        let version = written.map_or(0, |written| written.version.0);
        let modelled = Modelled {
            version,
            null: false,
            marker: false,
            size,
            shared,
            locked,
            modified_ms: now_ms,
        };
        assert_eq!(self.model.push(&path(key), modelled), written.map(|_| ()));
    }

    fn delete(&mut self, key: usize, bypass_governance: bool, now_ms: u64) {
        let deleter = Deleter { now_ms, bypass_governance };
        let before = self.sequence;
        let deleted = self.run(|txn| txn.delete_object(&path(key), None, deleter));
        let expected = if self.model.versioning == Versioning::Unversioned {
            self.model.take(&path(key), VersionRef::Null, bypass_governance).map(
                |there| match there {
                    true => Deleted::Removed { version: VersionRef::Null, marker: false },
                    false => Deleted::Nothing,
                },
            )
        } else {
            let version = match deleted {
                Ok(Deleted::Marked { version: VersionRef::Id(version) }) => version.0,
                _ => self.sequence,
            };
            assert!(deleted.is_err() || version > before);
            let marker = Modelled {
                version,
                null: false,
                marker: true,
                size: 0,
                shared: false,
                locked: false,
                modified_ms: now_ms,
            };
            // Who may bypass retention may replace the null version by a marker.
            let null = self.model.versioning == Versioning::Suspended;
            let taken = match null && bypass_governance {
                true => self.model.take(&path(key), VersionRef::Null, true).map(drop),
                false => Ok(()),
            };
            let pushed = taken.and_then(|()| self.model.push(&path(key), marker));
            pushed.map(|()| {
                let version =
                    if null { VersionRef::Null } else { VersionRef::Id(Version(version)) };
                Deleted::Marked { version }
            })
        };
        assert_eq!(deleted, expected);
    }

    fn delete_version(&mut self, key: usize, named: VersionRef, bypass: bool, now_ms: u64) {
        let deleter = Deleter { now_ms, bypass_governance: bypass };
        let stack = self.model.stack(&path(key));
        let marker = stack.iter().any(|found| found.marker && found.version_ref() == named);
        let deleted = self.run(|txn| txn.delete_object(&path(key), Some(named), deleter));
        let expected = self.model.take(&path(key), named, bypass).map(|there| match there {
            true => Deleted::Removed { version: named, marker },
            false => Deleted::Nothing,
        });
        assert_eq!(deleted, expected);
    }

    fn check_reads(&self) {
        let view = self.index.view().unwrap();
        for key in 0..KEYS.len() {
            let stack = self.model.stack(&path(key));
            let number = |record: ObjectRecord| record.version.0;
            let top = stack.last();
            assert_eq!(newest(&*view, &path(key)).unwrap().map(number), top.map(|top| top.version));
            let shown = top.filter(|top| !top.marker).map(|top| top.version);
            assert_eq!(object(&*view, &path(key)).unwrap().map(number), shown);
            for version in stack {
                let named = VersionRef::Id(Version(version.version));
                let found = object_version(&*view, &path(key), version.version_ref()).unwrap();
                let found = found.unwrap();
                assert_eq!((found.version.0, found.is_marker()), (version.version, version.marker));
                assert_eq!(
                    object_version(&*view, &path(key), named).unwrap().is_none(),
                    version.null
                );
            }
            let null = object_version(&*view, &path(key), VersionRef::Null).unwrap();
            let modelled = stack.iter().find(|version| version.null);
            assert_eq!(null.map(number), modelled.map(|version| version.version));
        }
    }

    fn check_counts(&self) {
        let objects = || self.model.all().filter(|(_, version)| !version.marker);
        let bytes: u64 = objects().map(|(_, version)| version.size).sum();
        assert_eq!((self.objects, self.bytes), (objects().count() as i64, bytes.cast_signed()));
        let shared = self.model.all().filter(|(_, version)| version.shared).count();
        let blob = blob(&*self.index.view().unwrap(), SHARED).unwrap().unwrap();
        assert_eq!(blob.references as usize, 1 + shared);
    }

    /// Everything that is listed page by page, as paths and versions; a common prefix has version 0.
    fn check_lists(&self, prefix: &str, delimiter: &str, max: usize) {
        let prefix = format!("{BUCKET}/{prefix}").into_bytes();
        let delimiter = delimiter.as_bytes().to_vec();
        let shown = |path: &[u8]| super::list::common_prefix(&prefix, &delimiter, path);
        let paths = self.model.stacks.iter().filter(|(path, _)| path.starts_with(&prefix));
        let (mut objects, mut versions) = (Vec::new(), Vec::new());
        for (path, stack) in paths {
            let top = stack.last().filter(|top| !top.marker);
            match shown(path) {
                Some(common) => {
                    let common = (common, 0, None);
                    if top.is_some() && objects.last() != Some(&common) {
                        objects.push(common.clone());
                    }
                    if !stack.is_empty() && versions.last() != Some(&common) {
                        versions.push(common);
                    }
                }
                None => {
                    objects.extend(top.map(|top| (path.clone(), top.version, None)));
                    for (at, version) in stack.iter().enumerate().rev() {
                        let newer = stack.get(at + 1).map(|newer| newer.modified_ms);
                        versions.push((path.clone(), version.version, newer));
                    }
                }
            }
        }
        assert_eq!(self.listed(&prefix, &delimiter, max), objects);
        assert_eq!(self.listed_versions(&prefix, &delimiter, max), versions);
    }

    fn listed(&self, prefix: &[u8], delimiter: &[u8], max: usize) -> Vec<Entry> {
        let view = self.index.view().unwrap();
        let (prefix, delimiter) = (prefix.to_vec(), delimiter.to_vec());
        let mut query =
            ListQuery { account: OWNER, area: Area::Stor, prefix, delimiter, after: None, max };
        let mut seen = Vec::new();
        loop {
            let page = list(&*view, &query).unwrap();
            seen.extend(page.entries.iter().map(|entry| match entry {
                ListEntry::Object { path, summary } => (path.clone(), summary.version.0, None),
                ListEntry::Prefix(prefix) => (prefix.clone(), 0, None),
            }));
            let Some(next) = page.next else { return seen };
            // None is short here: that takes many more entries that do not show.
            assert_eq!(page.entries.len(), max, "only full pages go on");
            query.after = Some(next);
        }
    }

    fn listed_versions(&self, prefix: &[u8], delimiter: &[u8], max: usize) -> Vec<Entry> {
        let view = self.index.view().unwrap();
        let (prefix, delimiter) = (prefix.to_vec(), delimiter.to_vec());
        let mut query =
            VersionsQuery { account: OWNER, area: Area::Stor, prefix, delimiter, after: None, max };
        let mut seen = Vec::new();
        loop {
            let page = list_versions(&*view, &query).unwrap();
            seen.extend(page.entries.into_iter().map(|entry| match entry {
                VersionEntry::Version { path, summary, superseded_ms } => {
                    (path, summary.version.0, superseded_ms)
                }
                VersionEntry::Prefix(prefix) => (prefix, 0, None),
            }));
            let Some(next) = page.next else { return seen };
            query.after = Some(next);
        }
    }
}

/// A path, a version's number, when the next newer one was written.
type Entry = (Vec<u8>, u64, Option<u64>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn versions_are_what_the_model_says(
        ops in proptest::collection::vec(op(), 0..60),
        prefix in prop_oneof![Just(""), Just("a"), Just("b"), Just("c/")],
        delimiter in prop_oneof![Just(""), Just("/")],
        max in 1_usize..6,
    ) {
        let mut bed = Bed::new();
        for (n, op) in ops.iter().enumerate() {
            bed.play(op, n as u64);
        }
        bed.check_reads();
        bed.check_counts();
        bed.check_lists(prefix, delimiter, max);
    }
}

#[test]
fn a_tall_stack_is_sought_over_and_its_null_version_found_at_once() {
    let mut bed = Bed::new();
    bed.put(0, 1, false, false, 0);
    bed.play(&Op::Switch(Versioning::Enabled), 1);
    for n in 0..100 {
        bed.put(0, 1, false, false, n);
    }
    bed.put(3, 1, false, false, 200);
    let view = Counting { view: bed.index.view().unwrap(), visits: Default::default() };
    let null = object_version(&view, &path(0), VersionRef::Null).unwrap().unwrap();
    assert!(null.null);
    assert!(view.visits.take() <= 2);
    let query = ListQuery {
        account: OWNER,
        area: Area::Stor,
        prefix: b"b/".to_vec(),
        delimiter: vec![],
        after: None,
        max: 10,
    };
    assert_eq!(list(&view, &query).unwrap().entries.len(), 2);
    assert!(view.visits.take() < 15);
}

#[test]
fn a_page_ends_after_so_many_delete_markers_and_the_next_goes_on_there() {
    let count = super::list::HIDDEN_MAX * 2 + 5;
    let path = |n: usize| ObjectPath::of_key(OWNER, BUCKET, format!("{n:06}").as_bytes()).unwrap();
    let entry = |n: usize| {
        let number = Version(n as u64 + 1);
        let record = match n + 1 == count {
            true => ObjectRecord::new(number, ContentRef::Blob(SHARED), 1, Metadata::default()),
            false => ObjectRecord::marker(number, true, None, 0),
        };
        (crate::format::object_key(&path(n), Some(number)), Some(record.encode()))
    };
    let mut index = MemoryIndex::default();
    let changes: Changes = (0..count).map(entry).collect();
    index.apply(&changes, 1, Persist::Later).unwrap();
    let view = index.view().unwrap();
    let (prefix, delimiter) = (b"b/".to_vec(), b"/".to_vec());
    let mut query =
        ListQuery { account: OWNER, area: Area::Stor, prefix, delimiter, after: None, max: 5 };
    for _ in 0..2 {
        let page = list(&*view, &query).unwrap();
        assert_eq!(page.entries, []);
        query.after = page.next;
        assert!(query.after.is_some());
    }
    let page = list(&*view, &query).unwrap();
    assert_eq!((page.entries.len(), page.next), (1, None));
}

#[test]
fn a_page_of_versions_goes_on_where_it_ended_though_that_version_has_gone() {
    let mut bed = Bed::new();
    bed.play(&Op::Switch(Versioning::Enabled), 0);
    (1..6).for_each(|n| bed.put(0, 1, false, false, n));
    let mut query = VersionsQuery {
        account: OWNER,
        area: Area::Stor,
        prefix: b"b/".to_vec(),
        delimiter: vec![],
        after: None,
        max: 2,
    };
    let page = |bed: &Bed, query: &VersionsQuery| {
        let page = list_versions(&*bed.index.view().unwrap(), query).unwrap();
        let entries = page.entries.into_iter().map(|entry| match entry {
            VersionEntry::Version { summary, superseded_ms, .. } => {
                (summary.modified_ms, superseded_ms)
            }
            VersionEntry::Prefix(prefix) => panic!("{prefix:?}"),
        });
        (entries.collect::<Vec<_>>(), page.next)
    };
    let (first, next) = page(&bed, &query);
    assert_eq!(first, [(5, None), (4, Some(5))]);
    query.after = next;
    bed.play(&Op::DeleteVersion { key: 0, nth: 3, bypass: false }, 9);
    assert_eq!(page(&bed, &query).0, [(3, Some(5)), (2, Some(3))]);
    bed.play(&Op::DeleteVersion { key: 0, nth: 3, bypass: false }, 9);
    assert_eq!(page(&bed, &query).0, [(3, None), (2, Some(3))]);
}

/// A view that counts what a walk is shown.
struct Counting {
    view: crate::index::SharedView,
    visits: std::cell::Cell<usize>,
}

impl View for Counting {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.visits.update(|visits| visits + 1);
        self.view.get(key)
    }

    fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), IndexError> {
        self.view.range(from, to, &mut |key, value| {
            self.visits.update(|visits| visits + 1);
            visit(key, value)
        })
    }
}
