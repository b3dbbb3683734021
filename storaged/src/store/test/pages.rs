//! Listings beside what they are by definition.

use super::*;
use crate::index::{Index as _, Persist};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a page holds, by definition: all entries in order, cut at the maximum.
fn by_definition(keys: &BTreeMap<Vec<u8>, u64>, query: &ListQuery) -> Vec<Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = Vec::new();
    for key in keys.keys().filter(|key| key.starts_with(&query.prefix)) {
        let after = match &query.after {
            None => true,
            Some(After::Path(path)) => key > path,
            Some(After::Prefix(prefix)) => key > prefix && !key.starts_with(prefix),
        };
        if !after {
            continue;
        }
        let rest = &key[query.prefix.len()..];
        let delimiter = query.delimiter.as_slice();
        let at =
            (0..rest.len()).find(|&at| !delimiter.is_empty() && rest[at..].starts_with(delimiter));
        let shown = at.map_or(key.len(), |at| query.prefix.len() + at + delimiter.len());
        if entries.last().map(Vec::as_slice) != Some(&key[..shown]) || at.is_none() {
            entries.push(key[..shown].to_vec());
        }
    }
    entries
}

fn shown(entry: &ListEntry) -> Vec<u8> {
    match entry {
        ListEntry::Object { path, .. } => path.clone(),
        ListEntry::Prefix(prefix) => prefix.clone(),
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(b'/'), 4 => Just(b'a'), 2 => Just(b'b'), 1 => Just(0_u8), 1 => Just(0xFF_u8)];
    proptest::collection::vec(byte, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn pages_hold_everything_once_and_in_order(
        keys in proptest::collection::btree_map(key(), any::<u64>(), 0..24),
        prefix in prop_oneof![Just(vec![]), key().prop_map(|mut key| { key.truncate(2); key })],
        delimiter in prop_oneof![Just(b"/".to_vec()), Just(vec![]), Just(b"/a".to_vec())],
        after in proptest::option::of(prop_oneof![key().prop_map(After::Path), key().prop_map(After::Prefix)]),
        max in 1_usize..8,
    ) {
        let mut index = crate::index::MemoryIndex::default();
        let object = |(key, size): (&Vec<u8>, &u64)| {
            let path = ObjectPath::new(ALICE, Area::Stor, key.clone()).unwrap();
            let record = ObjectRecord::new(Version(1), ContentRef::Blob(BlobId(1)), *size, Metadata::default());
            (crate::format::object_key(&path, Some(Version(1))), Some(crate::format::Value::encode(&record)))
        };
        let mut changes: crate::index::Changes = keys.iter().map(object).collect();
        // Neighbours that must not show: another area, another account.
        changes.insert(crate::format::object_prefix(AccountId(2), Area::Stor, b"a"), Some(vec![]));
        changes.insert(crate::format::object_prefix(ALICE, Area::Public, b"a"), Some(vec![]));
        index.apply(&changes, 1, Persist::Later).unwrap();
        let view = index.view().unwrap();
        let mut query = ListQuery { account: ALICE, area: Area::Stor, prefix, delimiter, after, max };
        let expected = by_definition(&keys, &query);
        let mut seen = Vec::new();
        loop {
            let page = list(&*view, &query).unwrap();
            prop_assert!(page.entries.len() <= max);
            for entry in &page.entries {
                if let ListEntry::Object { path, summary } = entry {
                    prop_assert_eq!(summary.size, keys[path]);
                }
                seen.push(shown(entry));
            }
            let Some(next) = page.next else { break };
            prop_assert_eq!(page.entries.len(), max, "only full pages go on");
            query.after = Some(next);
        }
        prop_assert_eq!(seen, expected);
    }
}
