//! Documents that clients send: policies, forms, and the configurations of buckets.

use std::hint::black_box;
use storaged::s3::access::policy::{Effect, Key, Policy, Question};
use storaged::s3::access::{Action, Block, Ownership, acl};
use storaged::s3::post::{form, policy as form_rules};
use storaged::{events, lifecycle, s3};

const BUCKET: &str = "bucket";
const BOUNDARY: &str = "xYzZy";
const TIME: &str = "2026-11-22T09:00:00.000Z";

/// The policy of a bucket: an explicit no is never overridden, and what is denied to nobody in particular
/// is not public.
pub(crate) fn policy(bytes: &[u8]) {
    let Ok(policy) = Policy::parse(bytes, BUCKET) else { return };
    let values = |_: &Key| Some(vec!["192.0.2.1".to_owned(), TIME.to_owned(), "7".to_owned()]);
    let nothing = |_: &Key| None;
    let mut allowed = false;
    for action in Action::ALL {
        for (account, key) in [(None, None), (Some("ada"), Some("a/b")), (None, Some("a*?"))] {
            let action = *action;
            let question = Question { account, action, bucket: BUCKET, key, values: &values };
            allowed |= policy.evaluate(&question) == Some(Effect::Allow) && account.is_none();
            black_box(policy.evaluate(&Question { values: &nothing, ..question }));
        }
    }
    let public = policy.is_public();
    // Whoever lets everybody in lets this stranger in, unless conditions say which strangers.
    let text = String::from_utf8_lossy(bytes);
    assert!(public || !allowed || text.contains("Condition") || text.contains("Not"), "{text}");
}

/// The head of a form, and the end of the file in it, however the bytes are cut.
pub(crate) fn form(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(boundary) = form::boundary(text)
    {
        assert!(!boundary.is_empty() && boundary.len() <= 70);
    }
    let head = form::parse(bytes, BOUNDARY);
    if let Ok(Some(head)) = &head {
        assert!(head.length <= bytes.len());
        let rest = &bytes[head.length..];
        let whole = file(&[rest]);
        let pieces: Vec<_> = rest.chunks(1).collect();
        assert_eq!(file(&pieces), whole);
    }
    // What is a form after so many bytes was none before, and no error either.
    if let Ok(Some(head)) = head {
        let before = form::parse(&bytes[..head.length - 1], BOUNDARY);
        assert!(matches!(before, Ok(None)), "{before:?}");
    }
}

fn file(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut end = form::FileEnd::new(BOUNDARY);
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(&end.push(piece.to_vec().into()));
    }
    (bytes, end.ended())
}

/// The policy of a form.
pub(crate) fn form_policy(bytes: &[u8]) {
    let Ok(policy) = form_rules::parse(bytes) else { return };
    let (min, max) = policy.length();
    let fields = vec![("key".to_owned(), "a".to_owned()), ("acl".to_owned(), "private".to_owned())];
    let head = form::Head { fields, file_name: None, length: 0 };
    let Ok(now) = s3s_time() else { return };
    // A form may break it or not; what may not be is a length that nothing has and no violation.
    let _verdict = policy.check(&head, BUCKET, &now);
    assert!(min <= max || min > 0);
}

fn s3s_time() -> Result<s3s::dto::Timestamp, s3s::dto::ParseTimestampError> {
    s3s::dto::Timestamp::parse(s3s::dto::TimestampFormat::DateTime, TIME)
}

/// The configurations of buckets and objects, chosen by the first byte.
pub(crate) fn documents(bytes: &[u8]) {
    let Some((&kind, document)) = bytes.split_first() else { return };
    match kind {
        b'c' => drop(s3::cors::Rules::parse(document)),
        b'l' => drop(lifecycle::Rules::parse(document)),
        b'n' => drop(events::Rules::parse(document)),
        b'a' => drop(acl::Acl::parse(document)),
        b'b' => drop(Block::parse(document)),
        b'o' => drop(Ownership::parse(document)),
        _ => {
            let text = String::from_utf8_lossy(document);
            drop(s3::tags::parse(&text));
            drop(acl::parse_grantees(&text));
        }
    }
}

/// A document with references, as the protocol library would be given it: what is left is none that it refuses, and
/// what was none stays as it was.
pub(crate) fn references(bytes: &[u8]) {
    if let Some(written) = s3::references::written(bytes) {
        assert!(s3::references::written(&written).is_none());
        assert!(written.len() > bytes.len());
    }
    let Some(resolved) = s3::references::resolved(bytes) else { return };
    assert!(resolved.len() < bytes.len());
    let marks = |bytes: &[u8]| bytes.windows(2).filter(|pair| pair == b"&#").count();
    assert!(marks(&resolved) < marks(bytes));
    assert!(std::str::from_utf8(bytes).is_err() || std::str::from_utf8(&resolved).is_ok());
}

/// What a head says of checksums, a field a line, and a list of parts with them: what is carried past the protocol library
/// comes out as it went in.
pub(crate) fn checksums(bytes: &[u8]) {
    let mut headers = http::HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = http::HeaderName::from_bytes(&line[..colon]);
        let value = http::HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let expected = s3::checksum::Expected::of(&headers);
    if let Ok(mut expected) = expected {
        expected.update(bytes);
        if let Ok((algorithm, value)) = expected.check([0; 16], Some(&headers)) {
            let is_md5 = algorithm == s3::checksum::Algorithm::Md5;
            assert!(is_md5 || algorithm.sum(bytes) == value);
        }
    }
    if let Some(read) = s3::checksum::carried::read(bytes)
        && s3::checksum::carried::written(bytes).is_none()
    {
        assert_eq!(s3::checksum::carried::written(&read).as_deref(), Some(bytes));
    }
    s3::checksum::carried::settle(&mut headers);
}

/// A document in AWS's chunks: there is no more in them than there was around them, and it fits the chunks anew.
pub(crate) fn aws_chunked(bytes: &[u8]) {
    let whole = s3::chunks::decoded(bytes);
    assert_eq!(in_pieces(bytes), whole);
    let Some(content) = whole else { return };
    assert!(content.bytes.len() < bytes.len());
    let again = match content.bytes.len() {
        0 => b"0\r\n".to_vec(),
        length => [format!("{length:x}\r\n").as_bytes(), &content.bytes, b"\r\n0\r\n"].concat(),
    };
    assert_eq!(s3::chunks::decoded(&again).map(|again| again.bytes), Some(content.bytes));
}

/// A document in AWS's chunks that comes a byte at a time.
fn in_pieces(bytes: &[u8]) -> Option<s3::chunks::Content> {
    let (mut decoder, mut content) = (s3::chunks::Decoder::default(), Vec::new());
    for byte in bytes {
        let mut came = vec![*byte].into();
        while let Some(bytes) = decoder.next(&mut came).ok()? {
            content.extend_from_slice(&bytes);
        }
    }
    Some(s3::chunks::Content { bytes: content, trailers: decoder.end().ok()? })
}

/// The tags of a condition: none of them is found in another object's.
pub(crate) fn tag_list(bytes: &[u8]) {
    let Some(list) = s3::tag_list::TagList::parse(bytes) else { return };
    let text = String::from_utf8_lossy(bytes);
    let other = [0xa5; 16].into();
    let named = matches!(list, s3::tag_list::TagList::Any) || text.contains(&"a5".repeat(16));
    assert!(named || !list.is_alike(&other));
    assert!(list.is_alike(&other) || !list.is_same(&other));
}
