//! Records of both versions, as any object may have them.

use super::*;
use proptest::prelude::*;

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    proptest::collection::vec((".{0,8}", ".{0,8}"), 0..4)
}

fn retention() -> impl Strategy<Value = Option<Retention>> {
    let mode = prop_oneof![Just(RetentionMode::Governance), Just(RetentionMode::Compliance)];
    let retention = (mode, any::<u64>());
    proptest::option::of(retention.prop_map(|(mode, until_ms)| Retention { mode, until_ms }))
}

fn parts() -> impl Strategy<Value = Vec<PartRecord>> {
    let part = (any::<u32>(), any::<u64>(), proptest::option::of((".{0,4}", ".{0,4}")));
    let part = part.prop_map(|(number, size, checksum)| PartRecord { number, size, checksum });
    proptest::collection::vec(part, 0..3)
}

fn meta() -> impl Strategy<Value = Metadata> {
    let text = || proptest::option::of(".{0,12}");
    let lists = (pairs(), pairs(), pairs(), pairs(), parts());
    let etag = (any::<[u8; 16]>(), proptest::option::of(any::<u32>()));
    let hold = prop_oneof![Just(LegalHold::Never), Just(LegalHold::Off), Just(LegalHold::On)];
    let flags = (any::<bool>(), hold);
    (any::<u64>(), etag, (text(), text()), lists, retention(), flags).prop_map(
        |(modified_ms, (md5, etag_parts), (content_type, acl), lists, retention, flags)| {
            let (headers, user, checksums, tags, parts) = lists;
            let checksum_type =
                if flags.0 { ChecksumType::Composite } else { ChecksumType::FullObject };
            Metadata {
                etag: ETagValue { md5, parts: etag_parts },
                modified_ms,
                content_type,
                headers,
                user,
                checksums,
                checksum_type,
                tags,
                retention,
                legal_hold: flags.1,
                acl,
                parts,
            }
        },
    )
}

pub(in crate::format) fn record() -> impl Strategy<Value = ObjectRecord> {
    let content = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64).prop_map(|b| ContentRef::Inline(b.into())),
        any::<u64>().prop_map(|id| ContentRef::Blob(BlobId(id))),
    ];
    let below = proptest::option::of(any::<u64>());
    (any::<(u64, u64, bool, bool)>(), below, meta(), content).prop_map(
        |((version, size, marker, null), below, meta, content)| ObjectRecord {
            version: Version(version),
            kind: if marker { ObjectKind::DeleteMarker } else { ObjectKind::Object },
            null,
            null_below: below.map(Version),
            size,
            content,
            meta,
        },
    )
}

/// A record as version 1 wrote it.
fn encode_1(record: &ObjectRecord) -> Vec<u8> {
    let meta = &record.meta;
    let mut writer = Writer::default();
    writer.u8(1);
    writer.u64(record.version.0);
    writer.u64(record.size);
    writer.u64(meta.modified_ms);
    writer.raw(&meta.etag.md5);
    writer.u8(u8::from(meta.content_type.is_some()));
    meta.content_type.iter().for_each(|text| writer.bytes(text.as_bytes()));
    writer.pairs(&meta.headers);
    writer.pairs(&meta.user);
    writer.pairs(&meta.checksums);
    write_content(&mut writer, &record.content);
    writer.finish()
}

/// What version 1 could say of a record.
fn as_of_1(record: &ObjectRecord) -> ObjectRecord {
    let Metadata { etag, modified_ms, content_type, headers, user, checksums, .. } =
        record.meta.clone();
    let etag = ETagValue::from(etag.md5);
    let meta = Metadata {
        etag,
        modified_ms,
        content_type,
        headers,
        user,
        checksums,
        ..Metadata::default()
    };
    ObjectRecord::new(record.version, record.content.clone(), record.size, meta)
}

/// A record as it was before lifted holds were told from those that never were: nothing but these flags.
fn encode_2(flags: u16) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.u8(2);
    writer.u64(7);
    writer.raw(&flags.to_le_bytes());
    writer.u64(3);
    writer.u64(1_795_338_367_000);
    writer.raw(&[9; 16]);
    write_content(&mut writer, &ContentRef::Inline(Bytes::from_static(b"abc")));
    writer.finish()
}

#[test]
fn holds_of_older_records_are_read() {
    let hold = |flags| ObjectRecord::decode(encode_2(flags)).map(|record| record.meta.legal_hold);
    assert_eq!(hold(flag::NULL), Ok(LegalHold::Never));
    assert_eq!(hold(flag::LEGAL_HOLD), Ok(LegalHold::On));
    assert_eq!(hold(flag::LEGAL_HOLD_OFF), Ok(LegalHold::Off));
    assert!(hold(flag::LEGAL_HOLD | flag::LEGAL_HOLD_OFF).is_err());
    assert!(hold(1 << 15).is_err());
}

proptest! {
    #[test]
    fn a_summary_is_the_front_of_its_record(object in record()) {
        let bytes = object.encode();
        let summary = Summary::decode(&bytes).unwrap();
        prop_assert_eq!(summary.version_ref(), object.version_ref());
        prop_assert_eq!(summary.version, object.version);
        prop_assert_eq!((summary.size, summary.etag), (object.size, object.meta.etag));
        prop_assert_eq!(summary.is_marker(), object.is_marker());
        prop_assert_eq!(is_marker(&bytes), Ok(object.is_marker()));
        prop_assert_eq!(summary.checksum.as_ref(), object.meta.checksums.first().map(|sum| &sum.0));
    }

    #[test]
    fn records_of_version_1_are_read_as_null_versions(object in record()) {
        let bytes = encode_1(&object);
        let read = as_of_1(&object);
        let summary = Summary::decode(&bytes).unwrap();
        prop_assert_eq!((summary.size, summary.etag, summary.null), (read.size, read.meta.etag, true));
        prop_assert_eq!(is_marker(&bytes), Ok(false));
        for cut in 0..bytes.len() {
            prop_assert!(ObjectRecord::decode(bytes[..cut].to_vec()).is_err(), "cut at {}", cut);
        }
        prop_assert_eq!(ObjectRecord::decode(bytes), Ok(read));
    }

    #[test]
    fn any_bytes_are_a_record_or_refused(
        version in 1_u8..=VERSION, bytes in proptest::collection::vec(any::<u8>(), 0..160),
    ) {
        let mut bytes = [&[version], bytes.as_slice()].concat();
        if version == VERSION && bytes.len() > 11 {
            // Mostly flags that exist: other bytes end there.
            bytes[10] &= 0x3F;
        }
        if let Ok(record) = ObjectRecord::decode(bytes.clone()) {
            match version {
                1 => prop_assert_eq!(encode_1(&record), bytes),
                _ => prop_assert_eq!(record.encode(), bytes),
            }
        }
    }
}

#[test]
fn a_plain_object_has_no_room_for_what_it_lacks() {
    let content = ContentRef::Blob(BlobId(1));
    let record = ObjectRecord::new(Version(1), content, 1, Metadata::default());
    assert_eq!(record.encode().len(), 1 + 8 + 2 + 8 + 8 + 16 + 9);
}
