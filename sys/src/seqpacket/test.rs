//! Messages and descriptors from one end to the other.

use super::*;
use std::fs::File;
use std::io::{Read, Write};

fn pipe() -> (File, File) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    (reader.into(), writer.into())
}

#[test]
fn a_message_arrives_whole_with_its_descriptors() {
    let (here, there) = Socket::pair().unwrap();
    let (mut reader, writer) = pipe();
    here.send(b"take this", &[writer.as_fd()]).unwrap();
    drop(writer);
    let mut message = Vec::new();
    let mut fds = there.recv(&mut message).unwrap().unwrap();
    assert_eq!((message.as_slice(), fds.len()), (&b"take this"[..], 1));
    File::from(fds.remove(0)).write_all(b"through").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[test]
fn messages_keep_their_bounds() {
    let (here, there) = Socket::pair().unwrap();
    here.send(b"one", &[]).unwrap();
    here.send(b"three", &[]).unwrap();
    let mut message = Vec::new();
    there.recv(&mut message).unwrap().unwrap();
    assert_eq!(message, b"one");
    there.recv(&mut message).unwrap().unwrap();
    assert_eq!(message, b"three");
}

#[test]
fn a_peer_that_is_gone_is_an_end_for_the_reader_and_closed_for_the_writer() {
    let (here, there) = Socket::pair().unwrap();
    drop(there);
    assert!(here.recv(&mut Vec::new()).unwrap().is_none());
    assert!(matches!(here.send(b"x", &[]), Err(SendError::Closed)));
}

#[test]
fn a_full_socket_says_so_and_loses_nothing() {
    let (here, there) = Socket::pair().unwrap();
    here.set_nonblocking().unwrap();
    there.set_nonblocking().unwrap();
    let mut sent = 0;
    while here.send(&[7; 1000], &[]).is_ok() {
        sent += 1;
    }
    assert!(matches!(here.send(&[7; 1000], &[]), Err(SendError::Full)));
    let mut got = 0;
    while there.recv(&mut Vec::new()).is_ok() {
        got += 1;
    }
    assert_eq!(got, sent);
}

#[test]
fn a_message_over_the_limits_is_refused_and_its_descriptors_are_closed() {
    let (here, there) = Socket::pair().unwrap();
    let (mut reader, writer) = pipe();
    let many = [writer.as_fd(); FDS_MAX + 1];
    assert!(matches!(here.send(b"x", &many), Err(SendError::TooLarge { .. })));
    let most = [writer.as_fd(); FDS_MAX];
    here.send(b"x", &most).unwrap();
    drop(writer);
    drop(there.recv(&mut Vec::new()).unwrap());
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "every copy of the writer is closed");
}

#[test]
fn a_listener_tells_who_connects() {
    let folder = std::env::temp_dir().join(format!("seqpacket-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let listener = Listener::bind(&path, 0o600).unwrap();
    listener.set_nonblocking().unwrap();
    assert!(listener.accept().unwrap().is_none());
    let _client = Socket::connect(&path).unwrap();
    let peer = listener.accept().unwrap().unwrap().peer().unwrap();
    assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(Socket::connect(&path), Err(SocketError::Call { act: "connect to", .. })));
}
