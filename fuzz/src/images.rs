//! Archives that people import as images, and the documents that images are kept by.

use std::io::Cursor;
use zoned::import::Report;
use zoned::import::configuration::Configuration;
use zoned::import::import;
use zoned::import::limits::Limits;
use zoned::import::merge::{Kind, Node, Tree};
use zoned::import::source::{Hashed, ReadAt};
use zoned::import::tar::Tar;

/// Between two layers of the target for layers: no block of a tar archive begins so by chance.
const NEXT_LAYER: &[u8] = b"LAYR";
/// What an input may have, so that none takes long.
const LIMITS: Limits = Limits {
    entries: 1000,
    name_bytes: 64 * 1024,
    unpacked_bytes: 4 << 20,
    ratio: 200,
    ratio_from_bytes: 1 << 20,
};

struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
        self.0.read_at(buffer, at)
    }
}

/// A whole archive: what comes of it is an image, the same each time, or nothing.
pub(crate) fn archive(bytes: &[u8]) {
    let run = || {
        let mut out = Cursor::new(Vec::new());
        let made = import(&Bytes(bytes), bytes.len() as u64, &mut out, &LIMITS);
        made.map(|imported| (imported, out.into_inner()))
    };
    let Ok((imported, image)) = run() else { return };
    assert_eq!(imported.bytes, image.len() as u64);
    assert!(erofs::superblock::parse(&image).is_ok());
    let again = run().expect("what was an image is one again");
    assert!(again == (imported, image), "the same archive gives the same image");
}

/// Layers without what is around them: every name that is left is one that a directory can hold, and what
/// zones mount on is a directory.
pub(crate) fn layers(bytes: &[u8]) {
    let mut tree = Tree::new(&LIMITS);
    let mut rest = bytes;
    for number in 0..8 {
        let next = rest.windows(NEXT_LAYER.len()).position(|part| part == NEXT_LAYER);
        let layer = &rest[..next.unwrap_or(rest.len())];
        let mut stream = Hashed::new(layer);
        let mut tar = Tar::new(&mut stream, "a layer", LIMITS.entries);
        while let Ok(Some(entry)) = tar.next_entry() {
            // An entry that is refused changes nothing that matters, and the next one must not be hurt.
            drop(tree.apply(number, &entry, true));
        }
        let Some(next) = next else { break };
        rest = &rest[next + NEXT_LAYER.len()..];
    }
    tree.complete();
    check(&tree, tree.root(), 0);
    for (_, content) in tree.contents() {
        assert!(content.layer < 8);
    }
}

fn check(tree: &Tree, folder: &Node, depth: usize) {
    let Kind::Directory(children) = &folder.kind else { return };
    assert!(depth <= zoned::import::limits::DEPTH_MAX + 1, "{depth}");
    for (name, child) in children {
        let node = tree.node(child.node);
        assert!(!matches!(&name[..], b"" | b"." | b".."));
        assert!(name.len() <= erofs::NAME_BYTES_MAX && !name.contains(&b'/') && !name.contains(&0));
        let mounted_on = depth == 0 && matches!(&name[..], b"dev" | b"proc" | b"sys" | b"tmp");
        assert!(!mounted_on || matches!(node.kind, Kind::Directory(_)));
        check(tree, node, depth + 1);
    }
}

/// An image's configuration, a record on disk, what the program in the zone says.
pub(crate) fn documents(bytes: &[u8]) {
    if let Ok(configuration) = Configuration::parse(bytes) {
        let text = serde_json::to_vec(&configuration).expect("what was read can be written");
        assert_eq!(Configuration::parse(&text).expect("and read again"), configuration);
    }
    drop(zoned::images::record::parse(bytes));
    drop(serde_json::from_slice::<Report>(bytes));
}
