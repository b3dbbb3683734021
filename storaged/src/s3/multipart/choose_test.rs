//! Lists of parts, right and wrong.

use super::*;
use crate::store::uploads::{PartFile, Place};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn part(number: u32, size: u64) -> UploadedPart {
    let place = Place::Own { file: PartFile(number.into()) };
    let sum = Some(("crc32".to_owned(), Algorithm::Crc32.sum(&number.to_be_bytes())));
    UploadedPart { number, size, md5: [number as u8; 16], modified_ms: 0, sum, place }
}

fn asked(part: &UploadedPart) -> Asked {
    let etag = ETagValue::from(part.md5).to_string();
    Asked { number: part.number, etag, sums: Vec::new() }
}

fn code(outcome: Result<Choice, S3Error>) -> String {
    outcome.map_or_else(|error| error.code().as_str().to_owned(), |_| "fine".to_owned())
}

fn choose_of(list: &[Asked], parts: &[UploadedPart]) -> Result<Choice, S3Error> {
    choose(list, &Claims::default(), parts, None)
}

#[test]
fn a_right_list_makes_an_object() {
    let parts = [part(1, 5 * MIB), part(3, 6 * MIB), part(4, 1)];
    let list: Vec<_> = parts.iter().map(asked).collect();
    let choice = choose_of(&list, &parts).unwrap();
    assert_eq!(choice.parts, parts);
    assert_eq!(choice.etag.parts, Some(3));
    assert_eq!(choice.sum.unwrap().2, ChecksumType::FullObject);
    assert_eq!(choose_of(&list[..1], &parts).unwrap().etag.parts, Some(1));
}

#[test]
fn order_and_presence_and_size_are_checked() {
    let parts = [part(1, 5 * MIB), part(2, 5 * MIB - 1), part(3, 9)];
    let list: Vec<_> = parts.iter().map(asked).collect();
    let of = |numbers: &[usize]| {
        let list: Vec<_> = numbers.iter().map(|&n| list[n].clone()).collect();
        code(choose_of(&list, &parts))
    };
    assert_eq!(of(&[0, 1]), "fine");
    assert_eq!(of(&[0, 1, 2]), "EntityTooSmall");
    assert_eq!(of(&[1, 0]), "InvalidPartOrder");
    assert_eq!(of(&[0, 0]), "InvalidPartOrder");
    let other = Asked { etag: "00".repeat(16), ..list[0].clone() };
    assert_eq!(code(choose_of(&[other], &parts)), "InvalidPart");
    let missing = Asked { number: 7, ..list[0].clone() };
    assert_eq!(code(choose_of(&[missing], &parts)), "InvalidPart");
    let sums = vec![("crc32", "AAAAAA==".to_owned())];
    assert_eq!(code(choose_of(&[Asked { sums, ..list[0].clone() }], &parts)), "InvalidPart");
}

#[test]
fn what_is_claimed_of_the_whole_is_checked() {
    let parts = [part(1, 5 * MIB), part(2, 1)];
    let list: Vec<_> = parts.iter().map(asked).collect();
    let choice = SumChoice { algorithm: "crc32".to_owned(), kind: ChecksumType::FullObject };
    let with = |claims: Claims| choose(&list, &claims, &parts, Some(&choice));
    let value = with(Claims::default()).unwrap().sum.unwrap().1;
    let sums = |name, value: &str| vec![(name, value.to_owned())];
    assert!(with(Claims { sums: sums("crc32", &value), ..Claims::default() }).is_ok());
    let wrong = with(Claims { sums: sums("crc32", "AAAAAA=="), ..Claims::default() });
    assert_eq!(code(wrong), "BadDigest");
    let other = with(Claims { sums: sums("sha1", &value), ..Claims::default() });
    assert_eq!(code(other), "InvalidRequest");
    let kind = with(Claims { kind: Some(ChecksumType::Composite), ..Claims::default() });
    assert_eq!(code(kind), "InvalidRequest");
    assert!(with(Claims { size: Some(5 * MIB + 1), ..Claims::default() }).is_ok());
    let size = with(Claims { size: Some(5 * MIB), ..Claims::default() });
    assert_eq!(code(size), "InvalidRequest");
}

#[test]
fn a_composite_checksum_needs_those_of_the_parts() {
    let parts = [part(1, 5 * MIB), part(2, 1)];
    let choice = SumChoice { algorithm: "crc32".to_owned(), kind: ChecksumType::Composite };
    let plain: Vec<_> = parts.iter().map(asked).collect();
    let with = |list: &[Asked], claims| choose(list, &claims, &parts, Some(&choice));
    let missing = with(&plain, Claims::default()).unwrap_err();
    assert!(missing.message().unwrap().contains("missing for part 1"));
    let list: Vec<_> = parts
        .iter()
        .map(|part| {
            let (_, value) = part.sum.clone().unwrap();
            Asked { sums: vec![("crc32", value)], ..asked(part) }
        })
        .collect();
    let value = with(&list, Claims::default()).unwrap().sum.unwrap().1;
    assert!(value.ends_with("-2"), "{value}");
    for claimed in [&*value, value.trim_end_matches("-2")] {
        let sums = vec![("crc32", claimed.to_owned())];
        assert!(with(&list, Claims { sums, ..Claims::default() }).is_ok());
    }
}

#[test]
fn parts_of_several_kinds_of_checksum_have_none_together() {
    let mut parts = [part(1, 5 * MIB), part(2, 1)];
    parts[1].sum = Some(("sha1".to_owned(), Algorithm::Sha1.sum(b"")));
    let list: Vec<_> = parts.iter().map(asked).collect();
    assert_eq!(choose_of(&list, &parts).unwrap().sum, None);
}

proptest! {
    #[test]
    fn a_list_is_taken_or_refused_and_what_is_taken_is_what_was_asked(
        sizes in proptest::collection::vec((1_u32..9, 0_u64..9), 1..6),
        asked_for in proptest::collection::vec((1_u32..9, any::<bool>()), 0..6),
    ) {
        let mut parts: Vec<UploadedPart> =
            sizes.iter().map(|&(number, size)| part(number, size * MIB)).collect();
        parts.sort_by_key(|part| part.number);
        parts.dedup_by_key(|part| part.number);
        let list: Vec<_> = asked_for
            .iter()
            .map(|&(number, right)| {
                let etag = if right { part(number, 0) } else { part(99, 0) };
                Asked { number, ..asked(&etag) }
            })
            .collect();
        if let Ok(choice) = choose_of(&list, &parts) {
            let numbers = |parts: &[UploadedPart]| parts.iter().map(|p| p.number).collect::<Vec<_>>();
            prop_assert_eq!(numbers(&choice.parts), list.iter().map(|a| a.number).collect::<Vec<_>>());
            let (_, all_but_last) = choice.parts.split_last().unwrap();
            prop_assert!(all_but_last.iter().all(|part| part.size >= 5 * MIB));
            prop_assert!(list.iter().all(|asked| asked.etag != "63".repeat(16)));
        }
    }
}
