//! The ring against real sockets.

use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

const SMALL: Size = Size { entries: 8, buffers: 8, buffer_bytes: 1024 };

fn next(ring: &mut Ring) -> Completion {
    for _ in 0..100 {
        if let Some(completion) = ring.next_completion() {
            return completion;
        }
        ring.wait(Some(Duration::from_millis(100))).unwrap();
    }
    panic!("no completion within ten seconds");
}

fn socket_pair() -> (Descriptor, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Arc::new(OwnedFd::from(ours)), theirs)
}

#[test]
fn every_connection_is_accepted_by_one_operation() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut ring = Ring::new(SMALL).unwrap();
    ring.accept(Arc::new(OwnedFd::from(listener)), 7);
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(TcpStream::connect(address).unwrap());
        let Completion::Accepted { token: 7, result: Ok(_), more: true } = next(&mut ring) else {
            panic!("not accepted");
        };
    }
    assert_eq!(ring.in_flight(), 1);
}

#[test]
fn received_bytes_arrive_and_the_end_is_told() {
    let mut ring = Ring::new(SMALL).unwrap();
    let (ours, mut theirs) = socket_pair();
    ring.receive(ours, 1);
    theirs.write_all(b"hello").unwrap();
    let Completion::Received { result: Ok(Some(filled)), more: true, .. } = next(&mut ring) else {
        panic!("nothing received");
    };
    assert_eq!(ring.bytes(&filled), b"hello");
    ring.recycle(filled);
    drop(theirs);
    let Completion::Received { result: Ok(None), more: false, .. } = next(&mut ring) else {
        panic!("no end");
    };
}

#[test]
fn buffers_that_are_kept_run_out_and_come_back() {
    let mut ring = Ring::new(SMALL).unwrap();
    let (ours, mut theirs) = socket_pair();
    ring.receive(Arc::clone(&ours), 1);
    theirs.write_all(&[9; 16 * 1024]).unwrap();
    let mut kept = Vec::new();
    let refused = loop {
        match next(&mut ring) {
            Completion::Received { result: Ok(Some(filled)), .. } => kept.push(filled),
            Completion::Received { result: Err(e), more: false, .. } => break e,
            other => panic!("unexpected: {other:?}"),
        }
    };
    assert_eq!((refused.raw_os_error(), kept.len()), (Some(libc::ENOBUFS), 8));
    kept.into_iter().for_each(|filled| ring.recycle(filled));
    ring.receive(ours, 1);
    assert!(matches!(next(&mut ring), Completion::Received { result: Ok(Some(_)), .. }));
}

#[test]
fn parts_are_sent_in_order_and_whole() {
    let mut ring = Ring::new(SMALL).unwrap();
    let (ours, mut theirs) = socket_pair();
    let body = Bytes::from(vec![b'x'; 3 << 20]);
    ring.send(ours, vec![Bytes::from_static(b"head"), body.clone()], false, 3);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        all
    });
    let Completion::Sent { token: 3, result: Ok(sent) } = next(&mut ring) else {
        panic!("not sent");
    };
    assert_eq!(sent, 4 + body.len());
    drop(ring);
    let all = reader.join().unwrap();
    assert!(all.starts_with(b"head") && all.len() == sent);
}

#[test]
fn reads_give_what_is_there() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"0123456789").unwrap();
    let mut ring = Ring::new(SMALL).unwrap();
    ring.read(Arc::new(OwnedFd::from(file)), 4, 100, 5);
    let Completion::Read { token: 5, result: Ok(bytes) } = next(&mut ring) else {
        panic!("not read");
    };
    assert_eq!(bytes, b"456789");
}

#[test]
fn more_operations_than_entries_all_complete() {
    let mut ring = Ring::new(SMALL).unwrap();
    let (ours, _theirs) = socket_pair();
    (0..100).for_each(|token| {
        ring.poll_writable(Arc::clone(&ours), token);
    });
    let mut seen = (0..100)
        .map(|_| match next(&mut ring) {
            Completion::Ready { token, result: Ok(()) } => token,
            other => panic!("unexpected: {other:?}"),
        })
        .collect::<Vec<_>>();
    seen.sort_unstable();
    assert_eq!((seen, ring.in_flight()), ((0..100).collect(), 0));
}

#[test]
fn a_cancelled_receive_ends() {
    let mut ring = Ring::new(SMALL).unwrap();
    let (ours, _theirs) = socket_pair();
    let receive = ring.receive(ours, 1);
    ring.wait(Some(Duration::ZERO)).unwrap();
    ring.cancel(receive);
    let Completion::Received { result: Err(e), more: false, .. } = next(&mut ring) else {
        panic!("not ended");
    };
    assert_eq!(e.raw_os_error(), Some(libc::ECANCELED));
}

#[test]
fn a_dropped_ring_gives_back_the_descriptors_in_flight() {
    let mut ring = Ring::new(SMALL).unwrap();
    let (ours, _theirs) = socket_pair();
    ring.receive(Arc::clone(&ours), 1);
    ring.wait(Some(Duration::ZERO)).unwrap();
    drop(ring);
    assert_eq!(Arc::strong_count(&ours), 1);
}
