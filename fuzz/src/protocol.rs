//! HTTP as it comes in on a socket, and signatures.

use storaged::front::head::{Framing, parse};
use storaged::front::input::{Event, Input};
use storaged::s3;

/// What a stranger sends on a connection: the same requests and bodies, however it is cut on its way.
pub(crate) fn http(bytes: &[u8]) {
    let whole = told(&[bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 3);
    assert_eq!(told(&[first, second]), whole);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(told(&single), whole);
}

/// The body of a request in chunks: as [`http`], behind a head that says so.
pub(crate) fn chunked(bytes: &[u8]) {
    let head: &[u8] = b"PUT /b/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = told(&[head, bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(told(&[head, first, second]), whole);
    // A body's bytes are some of those that came, in their order.
    if let Some(Told::Body(body)) = whole.get(1) {
        let mut rest = bytes.iter();
        assert!(body.iter().all(|byte| rest.any(|other| other == byte)));
    }
}

#[derive(Debug, PartialEq)]
enum Told {
    Request(String),
    Body(Vec<u8>),
    Refused(String),
}

/// What a conversation amounts to.
fn told(pieces: &[&[u8]]) -> Vec<Told> {
    let mut input = Input::default();
    let (mut told, mut body) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.push(piece);
        loop {
            match input.step() {
                Event::Request(head) => {
                    // Whoever sees a length sees no encoding, and the other way round.
                    let encoded = head.request.headers().contains_key("transfer-encoding");
                    let measured = head.request.headers().contains_key("content-length");
                    assert!(!(encoded && measured));
                    assert_eq!(encoded, head.framing == Framing::Chunked);
                    told.push(Told::Request(format!("{head:?}")));
                }
                Event::Body(bytes) => body.extend_from_slice(&bytes),
                Event::End => {
                    told.push(Told::Body(std::mem::take(&mut body)));
                    input.next();
                }
                Event::Starved => break,
                Event::Refused(refusal) => {
                    told.push(Told::Refused(format!("{refusal:?}")));
                    return told;
                }
            }
        }
    }
    told
}

/// A head as a stranger signs it, in a header or in its target.
pub(crate) fn signature(bytes: &[u8]) {
    let Ok(head) = parse(bytes) else { return };
    let operation = s3::operation::of(&head.request, &s3::hosted::Domains::default());
    assert!((operation as usize) < s3::operation::NAMES.len());
    let (parts, ()) = head.request.into_parts();
    let claimed = s3::signature::parse(&parts);
    if s3::screen(&parts).is_err() {
        return;
    }
    if let Some(claim) = claimed {
        assert!(claim.scope.starts_with(claim.access_key));
        if let Some(wanted) = s3::fast::wanted::parse(&parts, &claim) {
            assert!(!wanted.bucket.is_empty() && !wanted.key.is_empty());
        }
    }
}
