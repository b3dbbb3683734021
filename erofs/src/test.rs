//! Trees are written, read back by a reader of our own, and compared.

use crate::read::{Found, Reader, What};
use crate::{Contents, Device, Error, Meta, Node, NodeId, Stream, Time, Tree, superblock, write};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Cursor;

fn image(tree: &Tree) -> Result<Vec<u8>, Error> {
    let mut source = |key: u64| -> std::io::Result<Box<dyn std::io::Read>> {
        Ok(Box::new(Cursor::new(streamed(key))))
    };
    let (out, written) = write(tree, &mut source, Cursor::new(Vec::new()))?;
    let bytes = out.into_inner();
    assert_eq!(bytes.len() as u64, written.bytes);
    let says = superblock::parse(&bytes).unwrap();
    assert_eq!((says.bytes, says.inodes), (written.bytes, written.inodes));
    Ok(bytes)
}

/// The bytes under a key: as many as the key says, and different ones.
fn streamed(key: u64) -> Vec<u8> {
    (0..key).map(|at| (at % 251) as u8).collect()
}

/// What the reader should find of a tree.
fn expected(tree: &Tree) -> BTreeMap<Vec<u8>, (What, Meta, NodeId)> {
    let mut all = BTreeMap::new();
    let mut open = vec![(Vec::new(), tree.root())];
    while let Some((path, id)) = open.pop() {
        let what = match tree.node(id) {
            Node::Directory(entries) => {
                let below = |name: &Vec<u8>| [&path[..], b"/", name].concat();
                open.extend(entries.iter().map(|(name, id)| (below(name), *id)));
                What::Directory
            }
            Node::File(Contents::Bytes(bytes)) => What::File(bytes.clone()),
            Node::File(Contents::Streamed { key, .. }) => What::File(streamed(*key)),
            Node::File(Contents::Absent { size: 0 }) => What::File(Vec::new()),
            Node::File(Contents::Absent { size }) => What::Absent(*size),
            Node::Symlink(target) => What::Link(target.clone()),
            Node::Device(device) => What::Device(device.packed().unwrap()),
        };
        all.insert(path, (what, tree.meta(id).clone(), id));
    }
    all
}

fn compare(tree: &Tree, found: &BTreeMap<Vec<u8>, Found>) {
    let expected = expected(tree);
    let paths: Vec<_> = expected.keys().collect();
    assert_eq!(paths, found.keys().collect::<Vec<_>>());
    let mut numbers = BTreeMap::new();
    for (path, (what, meta, id)) in &expected {
        let found = &found[path];
        assert_eq!(found.what, *what);
        assert_eq!(found.mode & 0o7777, meta.mode);
        assert_eq!((found.user, found.group), (meta.user, meta.group));
        assert_eq!(found.modified, (meta.modified.seconds, meta.modified.nanoseconds));
        assert_eq!(found.attributes, meta.attributes.iter().cloned().collect());
        // One inode for one node, whatever its names are.
        assert_eq!(*numbers.entry(*id).or_insert(found.number), found.number);
        if !tree.is_directory(*id) {
            let names = expected.values().filter(|(.., other)| other == id).count();
            assert_eq!(found.links as usize, names);
        }
    }
}

fn meta() -> impl Strategy<Value = Meta> {
    let attributes = prop::collection::btree_map(
        "(user|trusted|security)\\.[a-z]{1,12}".prop_map(String::into_bytes),
        prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 3000..5000)],
        0..3,
    );
    (0..0o10_000_u16, any::<u32>(), any::<u32>(), any::<i64>(), 0..1_000_000_000_u32, attributes)
        .prop_map(|(mode, user, group, seconds, nanoseconds, attributes)| Meta {
            mode,
            user,
            group,
            modified: Time { seconds, nanoseconds },
            attributes: attributes.into_iter().collect(),
        })
}

fn node() -> impl Strategy<Value = Node> {
    let sizes = prop_oneof![0..70_u64, 3900..4200_u64, 8000..8300_u64, Just(300_000)];
    let device = prop_oneof![
        (0..4096_u32, 0..0x10_0000_u32).prop_map(|(major, minor)| Device::Block { major, minor }),
        (0..4096_u32, 0..256_u32).prop_map(|(major, minor)| Device::Character { major, minor }),
        Just(Device::Fifo),
        Just(Device::Socket),
    ];
    prop_oneof![
        3 => Just(Node::directory()),
        2 => sizes.clone().prop_map(|size| Node::File(Contents::Bytes(streamed(size)))),
        2 => sizes.prop_map(|size| Node::File(Contents::Streamed { size, key: size })),
        1 => (0..1_u64 << 43).prop_map(|size| Node::File(Contents::Absent { size })),
        1 => vec(1..=255_u8, 1..4095).prop_map(Node::Symlink),
        1 => device.prop_map(Node::Device),
    ]
}

/// Names before and after `.` and `..` in the kernel's order, short and long, and far from text.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let any_name = vec((1..=255_u8).prop_filter("no slash", |byte| *byte != b'/'), 1..=255);
    prop_oneof![
        4 => "[!.a-c]{1,3}".prop_map(String::into_bytes),
        1 => any_name,
        1 => "[a-z]{250,255}".prop_map(String::into_bytes),
    ]
    .prop_filter("its own names", |name| !matches!(name.as_slice(), b"." | b".."))
}

/// A step in making a tree: where, under what name, and what.
type Step = (prop::sample::Index, Vec<u8>, Node, Meta, u8);

fn build(root: Meta, steps: Vec<Step>) -> Tree {
    let mut tree = Tree::new(root);
    let (mut directories, mut others) = (vec![tree.root()], Vec::new());
    for (place, name, node, meta, choice) in steps {
        let directory = *place.get(&directories);
        if choice < 4 && !others.is_empty() {
            tree.link(directory, &name, *place.get(&others)).unwrap();
        } else if choice < 6 {
            tree.remove(directory, &name);
        } else {
            let id = tree.insert(directory, &name, node, meta).unwrap();
            if tree.is_directory(id) { directories.push(id) } else { others.push(id) }
        }
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn what_is_written_is_what_was_meant(
        steps in vec((any::<prop::sample::Index>(), name(), node(), meta(), 0..24_u8), 0..60)
    ) {
        let tree = build(Meta::of_mode(0o755), steps);
        let bytes = image(&tree).unwrap();
        compare(&tree, &Reader(&bytes).all());
        prop_assert_eq!(bytes, image(&tree).unwrap());
    }

    #[test]
    fn any_bytes_are_an_image_or_are_refused(mut bytes in vec(any::<u8>(), 0..4200), magic: bool) {
        if magic && bytes.len() > 1040 {
            bytes[1024..1028].copy_from_slice(&crate::record::MAGIC.to_le_bytes());
            bytes[1036] = 12;
        }
        let _either = superblock::parse(&bytes);
    }
}

#[test]
fn a_directory_of_many_blocks_is_sorted_and_found() {
    let mut stream = Stream::begin(Cursor::new(Vec::new()), &Meta::of_mode(0o755)).unwrap();
    stream.enter(b"below", &Meta::of_mode(0o700)).unwrap();
    stream.enter(b"deeper", &Meta::of_mode(0o700)).unwrap();
    stream.leave().unwrap();
    // From the last to the first, and some before `..`.
    for number in (0..5000).rev() {
        let name = format!("{}{number:05}", if number % 2 == 0 { '!' } else { 'z' });
        stream.absent(name.as_bytes(), &Meta::of_mode(0o444), 1, number).unwrap();
    }
    let (out, written) = stream.finish().unwrap();
    let bytes = out.into_inner();
    let all = Reader(&bytes).all();
    assert_eq!(all.len() as u64, written.inodes);
    assert_eq!(all[b"/below/z04999".as_slice()].what, What::Absent(4999));
    assert_eq!(all[b"/below/deeper".as_slice()].what, What::Directory);
}

#[test]
fn names_that_meet_are_refused() {
    let mut stream = Stream::begin(Cursor::new(Vec::new()), &Meta::of_mode(0o755)).unwrap();
    stream.absent(b"a", &Meta::of_mode(0o444), 1, 1).unwrap();
    stream.absent(b"a", &Meta::of_mode(0o444), 1, 2).unwrap();
    assert!(matches!(stream.finish(), Err(Error::Twice { name }) if name == "a"));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let mut tree = Tree::new(Meta::of_mode(0o755));
    let root = tree.root();
    for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
        let refused = tree.insert(root, bad, Node::directory(), Meta::default());
        assert!(matches!(refused, Err(Error::Name { .. })), "{bad:?}");
    }
}

#[test]
fn a_file_that_is_shorter_than_it_says_is_refused() {
    let mut tree = Tree::new(Meta::of_mode(0o755));
    let root = tree.root();
    let contents = Contents::Streamed { size: 10_000, key: 9_000 };
    tree.insert(root, b"short", Node::File(contents), Meta::default()).unwrap();
    assert!(matches!(image(&tree), Err(Error::Short { got: 9_000, size: 10_000, .. })));
}

#[test]
fn a_deep_tree_needs_no_deep_stack() {
    let mut tree = Tree::new(Meta::of_mode(0o755));
    let mut here = tree.root();
    for _ in 0..100_000 {
        here = tree.insert(here, b"d", Node::directory(), Meta::of_mode(0o755)).unwrap();
    }
    let bytes = image(&tree).unwrap();
    assert_eq!(superblock::parse(&bytes).unwrap().inodes, 100_001);
}

#[test]
fn a_damaged_superblock_is_seen() {
    let mut bytes = image(&Tree::new(Meta::of_mode(0o755))).unwrap();
    bytes[1024 + 20] ^= 1;
    assert!(matches!(superblock::parse(&bytes), Err(superblock::SuperblockError::Checksum { .. })));
}

#[test]
fn what_has_the_name_of_a_directory_is_renamed_if_there_is_a_rule() {
    let file = Meta::of_mode(0o444);
    let mut stream = Stream::begin(Cursor::new(Vec::new()), &Meta::of_mode(0o755))
        .unwrap()
        .renaming(|name| [b"!", name].concat());
    for name in [b"a", b"b", b"c"] {
        stream.absent(name, &file, 1, 7).unwrap();
    }
    stream.enter(b"b", &Meta::of_mode(0o755)).unwrap();
    stream.leave().unwrap();
    let (out, _) = stream.finish().unwrap();
    let bytes = out.into_inner();
    let all = Reader(&bytes).all();
    let names: Vec<&[u8]> = all.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [&b""[..], b"/!b", b"/a", b"/b", b"/c"]);
    assert_eq!(all[b"/b".as_slice()].what, What::Directory);
    assert_eq!(all[b"/!b".as_slice()].what, What::Absent(7));
}
