//! Archives made to do harm: each is refused by name, or does none.

use super::error::ImportError;
use super::limits::{ATTRIBUTE_BYTES_MAX, EXTENSION_BYTES_MAX, LAYERS_MAX, Limits, NAME_BYTES_MAX};
use super::test::{Pack, docker, gzip, merged, oci, record, run, run_within, sha256, xz, zstd};
use proptest::prelude::*;
use serde_json::json;

fn refused(layer: Vec<u8>) -> String {
    merged(&[layer]).expect_err("it is to be refused").to_string()
}

#[test]
fn names_that_lead_up_are_refused() {
    for path in ["../etc/passwd", "a/../../b", "..", "/../x", "a/.."] {
        let why = refused(Pack::new().file(path, b"").done());
        assert!(why.contains("leads up"), "{path}: {why}");
    }
}

#[test]
fn absolute_names_count_from_the_image_s_root() {
    let found = merged(&[Pack::new().file("//etc//./passwd", b"x").done()]).unwrap();
    assert_eq!(found["/etc/passwd"], "x");
}

#[test]
fn a_link_out_of_the_image_leads_to_its_root() {
    let layer = Pack::new().symlink("away", "../../../etc").file("away/passwd", b"x").done();
    let found = merged(&[layer]).unwrap();
    assert_eq!(found["/etc/passwd"], "x");
    assert_eq!(found["/away"], "-> ../../../etc");
}

#[test]
fn links_in_a_circle_are_refused() {
    let layer = Pack::new().symlink("a", "b").symlink("b", "a").file("a/x", b"").done();
    assert!(refused(layer).contains("too many links"));
}

#[test]
fn a_link_that_grows_with_each_step_is_refused() {
    let layer = Pack::new().symlink("a", "a/a/a/a/a/a/a/a").file("a/x", b"").done();
    assert!(refused(layer).contains("too many links"));
}

#[test]
fn hard_links_to_what_is_not_in_the_image_are_refused() {
    for (target, why) in [
        ("../../etc/shadow", "outside"),
        ("/etc/shadow", "not there"),
        ("", "the root"),
        ("d", "a directory"),
        ("f/x", "not there"),
    ] {
        let layer = Pack::new().folder("d/").file("f", b"").hard_link("x", target).done();
        let got = refused(layer);
        assert!(got.contains(why), "{target}: {got}");
    }
}

#[test]
fn devices_and_what_stands_where_zones_mount_are_left_out() {
    let layer = Pack::new()
        .symlink("dev", "/etc")
        .file("proc", b"")
        .file("sys", b"")
        .symlink("tmp", "usr")
        .symlink("here", "/")
        .file("here/manta", b"")
        .file(".mobula-image.json", b"{}")
        .device("dev/null")
        .file("etc/kept", b"")
        .done();
    let (_, imported) = run(&oci(&[(layer.clone(), layer.clone())], &json!({}))).unwrap();
    assert_eq!((imported.in_the_way, imported.devices), (6, 1));
    let found = merged(&[layer]).unwrap();
    for path in ["/dev", "/proc", "/sys", "/tmp", "/manta", "/.mobula-image.json"] {
        assert!(!found.contains_key(path), "{path}");
    }
    assert!(found.contains_key("/etc/kept"));
}

#[test]
fn whiteouts_of_no_name_are_refused_and_none_reaches_up() {
    for path in [".wh.", "a/.wh..", "a/.wh..."] {
        let why = refused(Pack::new().file("a/b", b"").file(path, b"").done());
        assert!(why.contains("whiteout"), "{path}: {why}");
    }
    let lower = Pack::new().file("a/b", b"").file("c", b"").done();
    let found = merged(&[lower, Pack::new().file("a/.wh..wh.c", b"").done()]).unwrap();
    assert!(found.contains_key("/c") && found.contains_key("/a/b"));
}

#[test]
fn of_two_entries_of_one_name_the_last_counts() {
    let layer = Pack::new().file("a", b"1").symlink("a", "b").file("a", b"2").done();
    assert_eq!(merged(&[layer]).unwrap()["/a"], "2");
}

#[test]
fn a_huge_extended_header_is_refused_before_it_is_read() {
    let mut layer = Pack::new().raw(b'x', "pax", b"").done();
    layer.truncate(512);
    let size = format!("{:011o}\0", EXTENSION_BYTES_MAX + 1);
    layer[124..136].copy_from_slice(size.as_bytes());
    let sum: u32 = layer
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    layer[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(refused(layer).contains("extended header"));
}

#[test]
fn records_of_extended_headers_that_are_none_are_refused() {
    for records in ["0 a=b\n", "99 path=x\n", "7 pathx\n", "x path=y\n", "9 size=-1\n", "5 a=\n\n"]
    {
        let layer = Pack::new().raw(b'x', "pax", records.as_bytes()).file("a", b"").done();
        assert!(merged(&[layer]).is_err(), "{records:?}");
    }
    let sparse = b"22 GNU.sparse.major=1\n";
    assert!(refused(Pack::new().raw(b'x', "p", sparse).file("a", b"").done()).contains("sparse"));
    assert!(refused(Pack::new().raw(b'S', "a", b"").done()).contains("sparse"));
}

#[test]
fn a_name_with_a_zero_byte_is_refused() {
    let pax = b"17 path=a\0b/c/de\n";
    assert!(refused(Pack::new().raw(b'x', "p", pax).file("a", b"").done()).contains("zero byte"));
}

#[test]
fn a_directory_that_is_too_deep_is_refused() {
    let deep = "d/".repeat(300) + "f";
    assert!(refused(Pack::new().long(&deep, b"").done()).contains("too many directories"));
    // Nor can it be reached in steps.
    let half = "d/".repeat(150);
    let long = Pack::new().long(&format!("{half}f"), b"").symlink("s", &half[..99]);
    let layer = long.long(&format!("s/{}f", "s/".repeat(250)), b"").done();
    assert!(merged(&[layer]).is_err());
}

#[test]
fn a_bomb_is_refused_before_it_has_gone_off() {
    let layer = Pack::new().file("zeros", &vec![0; 8 << 20]).done();
    let limits = Limits { ratio_from_bytes: 1 << 20, ..Limits::default() };
    for packed in [gzip(&layer), zstd(&layer), xz(&layer)] {
        let archive = oci(&[(packed, layer.clone())], &json!({}));
        let error = run_within(&archive, &limits).unwrap_err();
        assert!(matches!(error, ImportError::Limit { .. }), "{error}");
        run(&archive).unwrap();
    }
    // Packed twice.
    let error = run_within(&gzip(&gzip(&layer)), &limits).unwrap_err();
    assert!(matches!(error, ImportError::Header { .. } | ImportError::Limit { .. }), "{error}");
}

#[test]
fn an_xz_dictionary_that_is_too_large_is_refused_before_memory_is_taken_for_it() {
    let layer = Pack::new().file("a", b"1").done();
    // Behind the stream's header: sizes, flags, LZMA2, the bytes of its property, the property.
    let (start, property) = (12, 12 + 4);
    for (size, fits) in [(28, true), (30, false), (40, false)] {
        let mut packed = xz(&layer);
        assert_eq!(packed[start + 2..property], [0x21, 1]);
        packed[property] = size;
        let end = start + (usize::from(packed[start]) + 1) * 4 - 4;
        let mut sum = flate2::Crc::new();
        sum.update(&packed[start..end]);
        packed[end..end + 4].copy_from_slice(&sum.sum().to_le_bytes());
        let result = run(&oci(&[(packed, layer.clone())], &json!({})));
        assert_eq!(result.is_ok(), fits, "{size}: {result:?}");
    }
}

#[test]
fn attributes_that_are_too_many_are_refused() {
    let file = |records: String| {
        refused(Pack::new().raw(b'x', "p", records.as_bytes()).file("a", b"").done())
    };
    let why = file(record("SCHILY.xattr.user.a", &"v".repeat(ATTRIBUTE_BYTES_MAX)));
    assert!(why.contains("attributes"), "{why}");
    let why = file((0..600).map(|n| record(&format!("SCHILY.xattr.user.{n}"), "v")).collect());
    assert!(why.contains("attributes"), "{why}");
    let why = file(record(&format!("SCHILY.xattr.user.{}", "n".repeat(NAME_BYTES_MAX)), "v"));
    assert!(why.contains("name of an attribute"), "{why}");
}

#[test]
fn more_than_may_be_is_refused_over_all_layers_together() {
    let layer = |name: &str| Pack::new().file(name, &[1; 3000]).file("x", b"").done();
    let archive = docker(&[layer("a"), layer("b"), layer("c")], &json!({}));
    let refused = |limits: Limits| match run_within(&archive, &limits) {
        Err(ImportError::Limit { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let usual = Limits::default();
    assert_eq!(refused(Limits { entries: 5, ..usual }), "entries");
    assert_eq!(refused(Limits { name_bytes: 5, ..usual }), "bytes of names");
    assert!(refused(Limits { unpacked_bytes: 10_000, ..usual }).contains("packed part"));
    let many = vec![Pack::new().done(); LAYERS_MAX + 1];
    let error = run(&docker(&many, &json!({}))).unwrap_err();
    assert!(matches!(error, ImportError::Limit { what: "layers", .. }), "{error}");
}

#[test]
fn a_changed_byte_anywhere_in_a_layer_is_seen() {
    let layer = Pack::new().file("a", &[1; 3000]).done();
    let good = oci(&[(layer.clone(), layer.clone())], &json!({}));
    let at = good.windows(100).position(|part| part == [1; 100]).unwrap();
    let mut bad = good.clone();
    bad[at + 50] = 2;
    assert!(matches!(run(&bad), Err(ImportError::Digest { .. })));
    let mut bad = docker(&[layer], &json!({}));
    let at = bad.windows(100).position(|part| part == [1; 100]).unwrap();
    bad[at + 50] = 2;
    assert!(matches!(run(&bad), Err(ImportError::Digest { .. })));
    // What is behind the archive's end in the layer counts, too.
    let behind = [&Pack::new().file("a", b"").done()[..], b"behind"].concat();
    let lie = oci(&[(gzip(&behind), Pack::new().file("a", b"").done())], &json!({}));
    assert!(matches!(run(&lie), Err(ImportError::Digest { .. })));
}

#[test]
fn documents_that_lie_are_refused() {
    let layer = Pack::new().file("a", b"1").done();
    let good = oci(&[(layer.clone(), layer.clone())], &json!({}));
    let text = String::from_utf8_lossy(&good).into_owned();
    assert!(text.contains(&sha256(&layer)));
    for (from, to) in [
        ("\"amd64\"", "\"arm64\""),
        ("\"sha256:", "\"sha512:"),
        ("\"schemaVersion\"", "\"schemaVersio\\\""),
        ("\"manifests\"", "\"manifestz\""),
    ] {
        assert_eq!(from.len(), to.len());
        let bad = text.replace(from, to);
        assert!(run(bad.as_bytes()).is_err(), "{from} as {to}");
    }
}

#[test]
fn what_is_no_archive_at_all_says_so() {
    for (bytes, why) in [
        (&b""[..], "no tar file"),
        (&[0; 2048][..], "no tar file"),
        (b"\xfd7zXZ\0 ...", "cannot read"),
        (b"BZh91AY", "bzip2"),
        (b"hello, this is not an archive", "no tar file"),
    ] {
        let error = run(bytes).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(run(&[b'x'; 4096]).unwrap_err().to_string().contains("tar header"));
}

#[test]
fn a_tarball_that_is_cut_off_is_refused_wherever_that_is() {
    let root = Pack::new().file("a", &[1; 1000]).file("b", b"2").done();
    for length in (512..root.len() - 1023).step_by(256) {
        assert!(run(&root[..length]).is_err(), "{length}");
    }
}

#[test]
fn an_erofs_image_that_is_cut_off_or_damaged_is_refused() {
    let (image, _) = run(&Pack::new().file("a", &[1; 9000]).done()).unwrap();
    let error = run(&image[..image.len() - 4096]).unwrap_err().to_string();
    assert!(error.contains("cut off"), "{error}");
    let mut bad = image;
    bad[1024 + 20] ^= 1;
    assert!(run(&bad).unwrap_err().to_string().contains("damaged"));
}

#[test]
fn a_link_into_a_whiteout_makes_no_directory_there() {
    let layer = Pack::new().symlink("a", ".wh.a").folder("a/b").done();
    let error = run(&docker(&[layer], &json!({}))).unwrap_err().to_string();
    assert!(error.contains("no usable path"), "{error}");
}

fn part() -> impl Strategy<Value = String> {
    "(a|b|c|\\.wh\\.a|\\.wh\\.b|\\.wh\\.\\.wh\\.\\.opq|\\.\\.|\\.|dev|tmp)"
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(part(), 1..5).prop_map(|parts| parts.join("/"))
}

#[derive(Debug, Clone)]
enum Make {
    File(String),
    Folder(String),
    Symlink(String, String),
    HardLink(String, String),
}

fn make() -> impl Strategy<Value = Make> {
    prop_oneof![
        path().prop_map(Make::File),
        path().prop_map(Make::Folder),
        (path(), path()).prop_map(|(path, to)| Make::Symlink(path, to)),
        (path(), path()).prop_map(|(path, to)| Make::HardLink(path, to)),
    ]
}

proptest! {
    /// Layers of names that get in each other's way: whatever is taken is a tree in which every name can
    /// be, and writing it gives one image, the same each time.
    #[test]
    fn any_layers_are_an_image_or_none(
        layers in proptest::collection::vec(proptest::collection::vec(make(), 0..12), 1..4),
    ) {
        let pack = |entries: &Vec<Make>| {
            let mut pack = Pack::new();
            for entry in entries {
                pack = match entry {
                    Make::File(path) => pack.file(path, path.as_bytes()),
                    Make::Folder(path) => pack.folder(path),
                    Make::Symlink(path, to) => pack.symlink(path, to),
                    Make::HardLink(path, to) => pack.hard_link(path, to),
                };
            }
            pack.done()
        };
        let layers: Vec<Vec<u8>> = layers.iter().map(pack).collect();
        let merged = merged(&layers);
        let archive = docker(&layers, &json!({}));
        match run(&archive) {
            Ok((image, imported)) => {
                prop_assert!(erofs::superblock::parse(&image).is_ok());
                prop_assert_eq!(imported.bytes, image.len() as u64);
                prop_assert!(run(&archive).unwrap().0 == image);
                for (path, what) in merged.unwrap() {
                    prop_assert!(!path.contains("/.wh."), "{}", path);
                    prop_assert!(!path.split('/').any(|part| part == ".." || part == "."));
                    if path == "/dev" || path == "/tmp" {
                        prop_assert_eq!(what, "/");
                    }
                }
            }
            Err(_) => prop_assert!(merged.is_err()),
        }
    }

    /// Any bytes, and any change of a good archive.
    #[test]
    fn any_bytes_are_an_image_or_none(bytes: Vec<u8>) {
        drop(run(&bytes));
    }

    #[test]
    fn any_change_is_an_image_or_none(at: prop::sample::Index, to: u8, packed: bool) {
        let layer = Pack::new().file("a", b"1").symlink("b", "a").long(&"c".repeat(150), b"").done();
        let packed = if packed { zstd(&layer) } else { gzip(&layer) };
        let mut archive = oci(&[(packed, layer)], &json!({ "User": "1" }));
        let at = at.index(archive.len());
        archive[at] = to;
        drop(run(&archive));
    }
}
