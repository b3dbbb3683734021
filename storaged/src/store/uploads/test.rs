//! Records of uploads: listings against a sorted map, and what is forgotten when.

use super::*;
use crate::store::{AccountId, Store};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn new(bucket: &str, key: &[u8]) -> NewUpload {
    NewUpload {
        bucket: bucket.to_owned(),
        path: ObjectPath::of_key(AccountId(1), bucket, key).unwrap(),
        initiator: "ada".to_owned(),
        initiated_ms: 7,
        sum: None,
        meta: Metadata::default(),
    }
}

fn open() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options =
        crate::store::Options { kept_bytes: Some(0), ..crate::store::Options::new(folder.path()) };
    (Store::open(options).unwrap(), folder)
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(
        prop_oneof![Just(b'/'), Just(b'a'), Just(b'b'), Just(0_u8), Just(0xFF)],
        1..5,
    )
}

/// What a listing is to show: each upload, or the prefix that stands for it, once.
fn model(
    all: &[(Vec<u8>, UploadId)],
    prefix: &[u8],
    delimiter: &[u8],
) -> Vec<(Vec<u8>, Option<UploadId>)> {
    let shown = all.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, id)| {
        let rest = &key[prefix.len()..];
        let end = rest.iter().position(|byte| delimiter == [*byte]);
        match end {
            Some(end) => (key[..prefix.len() + end + 1].to_vec(), None),
            None => (key.clone(), Some(*id)),
        }
    });
    let mut shown: Vec<_> = shown.collect();
    shown.sort();
    shown.dedup();
    shown
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn pages_hold_each_upload_and_each_prefix_once(
        keys in proptest::collection::vec(key(), 0..12),
        prefix in prop_oneof![Just(Vec::new()), key()],
        rolled in any::<bool>(),
        max in 1_usize..5,
    ) {
        let (store, _folder) = open();
        let made = store.transact_wait(move |txn| -> Result<_, TxnError> {
            txn.begin_upload(new("a", b"not this one"))?;
            txn.begin_upload(new("bb", b"nor this"))?;
            keys.into_iter().map(|key| Ok((key.clone(), txn.begin_upload(new("b", &key))?.id))).collect::<Result<Vec<_>, TxnError>>()
        });
        let made = made.unwrap();
        let delimiter = if rolled { b"/".to_vec() } else { Vec::new() };
        let expected = model(&made, &prefix, &delimiter);
        let view = store.read().unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (prefix, delimiter) = (prefix.clone(), delimiter.clone());
            let query = UploadQuery { bucket: "b".to_owned(), prefix, delimiter, after, max };
            let page = list_uploads(&view, &query).unwrap();
            prop_assert!(page.entries.len() <= max);
            found.extend(page.entries.into_iter().map(|entry| match entry {
                UploadEntry::Upload(upload) => (upload.key().to_vec(), Some(upload.id)),
                UploadEntry::Prefix(prefix) => (prefix, None),
            }));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        // A prefix sorts by itself, uploads by key and age: the same order in both.
        prop_assert_eq!(found, expected);
        let ids: BTreeSet<_> = made.iter().map(|(_, id)| *id).collect();
        let listed: BTreeSet<_> = uploads_to(&view, "b", usize::MAX).unwrap().into_iter().collect();
        prop_assert_eq!(listed, ids);
    }
}

#[test]
fn an_upload_goes_with_all_its_parts_and_no_others() {
    let (store, _folder) = open();
    let done = store.transact_wait(|txn| -> Result<_, TxnError> {
        let ids = [txn.begin_upload(new("b", b"k"))?.id, txn.begin_upload(new("b", b"k"))?.id];
        for id in ids {
            for number in [1, 2, 10_000] {
                let place = Place::Own { file: PartFile(9) };
                let md5 = [0; 16];
                let part = UploadedPart { number, size: 1, md5, modified_ms: 0, sum: None, place };
                assert!(txn.record_part(id, &part, None)?.is_some());
            }
        }
        assert!(txn.forget_upload(ids[0])?);
        assert!(!txn.forget_upload(ids[0])?);
        Ok(ids)
    });
    let [gone, there] = done.unwrap();
    let view = store.read().unwrap();
    assert!(upload(&view, gone).unwrap().is_none());
    assert!(parts(&view, gone, 0, 9).unwrap().0.is_empty());
    assert_eq!(parts(&view, there, 0, usize::MAX).unwrap().0.len(), 3);
    let (page, more) = parts(&view, there, 1, 1).unwrap();
    assert_eq!((page[0].number, more), (2, true));
    assert_eq!(uploads_to(&view, "b", 9).unwrap(), [there]);
}

#[test]
fn what_was_completed_is_remembered_for_an_hour() {
    let (store, _folder) = open();
    let done = |id, completed_ms| CompletedUpload {
        id: UploadId(id),
        path: ObjectPath::of_key(AccountId(1), "b", b"k").unwrap(),
        completed_ms,
        list: [0; 16],
        answer: Vec::new(),
    };
    let remember = |done: CompletedUpload| {
        store.transact_wait(move |txn| txn.remember_completed(&done)).unwrap();
    };
    remember(done(1, 10));
    remember(done(2, COMPLETED_KEPT_MS + 10));
    let known = |id| completed(&store.read().unwrap(), UploadId(id)).unwrap().is_some();
    assert!(known(1) && known(2));
    remember(done(3, COMPLETED_KEPT_MS + 11));
    assert!(!known(1) && known(2) && known(3));
}

#[test]
fn an_id_has_one_spelling() {
    assert_eq!(UploadId::parse("000000000000002a"), Some(UploadId(42)));
    for wrong in ["2a", "000000000000002A", "00000000000000002a", "", "+00000000000002a", "x"] {
        assert_eq!(UploadId::parse(wrong), None, "{wrong}");
    }
}
