//! Names of objects on their way into a manifest, and images on their way to the kernel.

use std::collections::BTreeSet;
use std::io::Cursor;
use storaged::manifest::tree::{Bytes, Growing};

/// Lines are keys: whatever they are, all get a place in the tree, and the image says so of itself. The same
/// bytes as an image are refused or read.
pub(crate) fn manifest(bytes: &[u8]) {
    if let Ok(said) = erofs::superblock::parse(bytes) {
        assert!(bytes.len() >= erofs::superblock::START_BYTES, "{said:?}");
    }
    let names: BTreeSet<&[u8]> =
        bytes.split(|&byte| byte == b'\n').filter(|name| !name.is_empty()).collect();
    let mut growing = Growing::begin(Cursor::new(Vec::new())).expect("memory takes it");
    for name in &names {
        let added = growing.add(name, 1, &Bytes::Here(b"bytes"));
        added.expect("every name has a place");
    }
    let (out, objects, written) = growing.finish().expect("no two names meet");
    assert_eq!(objects, names.len() as u64);
    let image = out.into_inner();
    let said = erofs::superblock::parse(&image).expect("it is an image");
    assert_eq!((said.inodes, said.bytes), (written.inodes, image.len() as u64));
    assert!(written.inodes > objects);
}
