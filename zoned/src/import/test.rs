//! What people save becomes the image that they mean.

use super::error::ImportError;
use super::limits::Limits;
use super::merge::{Kind, Tree};
use super::source::{Hashed, hex};
use super::tar::Tar;
use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Cursor;

/// A tar archive being made, by a library that is not ours.
pub(super) struct Pack(::tar::Builder<Vec<u8>>);

impl Pack {
    pub(super) fn new() -> Self {
        Self(::tar::Builder::new(Vec::new()))
    }

    /// Adds an entry whose name the library would refuse, too.
    fn entry(mut self, kind: ::tar::EntryType, path: &str, link: &str, bytes: &[u8]) -> Self {
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o640);
        header.set_uid(5);
        header.set_gid(6);
        header.set_mtime(1_700_000_000);
        header.set_size(bytes.len() as u64);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    pub(super) fn file(self, path: &str, bytes: &[u8]) -> Self {
        self.entry(::tar::EntryType::Regular, path, "", bytes)
    }

    pub(super) fn folder(self, path: &str) -> Self {
        self.entry(::tar::EntryType::Directory, path, "", b"")
    }

    pub(super) fn symlink(self, path: &str, to: &str) -> Self {
        self.entry(::tar::EntryType::Symlink, path, to, b"")
    }

    pub(super) fn hard_link(self, path: &str, to: &str) -> Self {
        self.entry(::tar::EntryType::Link, path, to, b"")
    }

    pub(super) fn device(self, path: &str) -> Self {
        self.entry(::tar::EntryType::Char, path, "", b"")
    }

    pub(super) fn raw(self, kind: u8, path: &str, bytes: &[u8]) -> Self {
        self.entry(::tar::EntryType::new(kind), path, "", bytes)
    }

    pub(super) fn long(mut self, path: &str, bytes: &[u8]) -> Self {
        let mut header = ::tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        self.0.append_data(&mut header, path, bytes).unwrap();
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

pub(super) fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A record of a pax header.
pub(super) fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    // Its own digits count.
    let length = (1..).find(|n: &usize| n.to_string().len() + rest.len() == *n).unwrap();
    format!("{length}{rest}")
}

/// An OCI archive of layers, each as it is packed and unpacked.
pub(super) fn oci(layers: &[(Vec<u8>, Vec<u8>)], config: &Value) -> Vec<u8> {
    let diff_ids: Vec<_> =
        layers.iter().map(|(_, plain)| format!("sha256:{}", sha256(plain))).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string();
    let descriptor = |bytes: &[u8], kind: &str| {
        let digest = format!("sha256:{}", sha256(bytes));
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    };
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = json!({
        "schemaVersion": 2,
        "config": descriptor(config.as_bytes(), "application/vnd.oci.image.config.v1+json"),
        "layers": layers.iter().map(|(packed, _)| descriptor(packed, kind)).collect::<Vec<_>>(),
    })
    .to_string();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor(manifest.as_bytes(), kind)] });
    let mut pack = Pack::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    for blob in
        layers.iter().map(|(packed, _)| &packed[..]).chain([config.as_bytes(), manifest.as_bytes()])
    {
        pack = pack.file(&format!("blobs/sha256/{}", sha256(blob)), blob);
    }
    pack.file("index.json", index.to_string().as_bytes()).done()
}

/// What old `docker save` makes of layers.
pub(super) fn docker(layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|l| format!("sha256:{}", sha256(l))).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string();
    let names: Vec<_> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let name = format!("{}.json", sha256(config.as_bytes()));
    let manifest = json!([{ "Config": name, "RepoTags": ["x:y"], "Layers": names }]);
    let mut pack = Pack::new().file(&name, config.as_bytes());
    for (name, layer) in names.iter().zip(layers) {
        pack = pack.file(name, layer);
    }
    pack.file("manifest.json", manifest.to_string().as_bytes()).done()
}

pub(super) fn run(archive: &[u8]) -> Result<(Vec<u8>, Imported), ImportError> {
    run_within(archive, &Limits::default())
}

pub(super) fn run_within(
    archive: &[u8],
    limits: &Limits,
) -> Result<(Vec<u8>, Imported), ImportError> {
    let mut out = Cursor::new(Vec::new());
    let imported = import(&Slice(archive), archive.len() as u64, &mut out, limits)?;
    Ok((out.into_inner(), imported))
}

pub(super) struct Slice<'a>(pub(super) &'a [u8]);

impl ReadAt for Slice<'_> {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buffer, at)
    }
}

/// Paths and what is there: a file's bytes, a link's target, `/` for a directory.
pub(super) fn merged(layers: &[Vec<u8>]) -> Result<BTreeMap<String, String>, ImportError> {
    let mut tree = Tree::new(&Limits::default());
    for (number, layer) in layers.iter().enumerate() {
        let mut stream = Hashed::new(&layer[..]);
        let mut tar = Tar::new(&mut stream, "a layer", 1000);
        while let Some(entry) = tar.next_entry()? {
            tree.apply(u16::try_from(number).unwrap(), &entry, true)?;
        }
    }
    Ok(shown(&tree, layers))
}

fn shown(tree: &Tree, layers: &[Vec<u8>]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(String::new(), tree.root())];
    while let Some((path, folder)) = folders.pop() {
        let Kind::Directory(children) = &folder.kind else { panic!("{path} is no directory") };
        for (name, child) in children {
            let path = format!("{path}/{}", name.escape_ascii());
            let node = tree.node(child.node);
            let text = match &node.kind {
                Kind::Directory(_) => {
                    folders.push((path.clone(), node));
                    "/".to_owned()
                }
                Kind::File(content) => {
                    let (at, size) = (content.at as usize, content.size as usize);
                    let bytes = &layers[usize::from(content.layer)][at..at + size];
                    String::from_utf8_lossy(bytes).into_owned()
                }
                Kind::Symlink(target) => format!("-> {}", target.escape_ascii()),
                Kind::Fifo => "fifo".to_owned(),
            };
            found.insert(path, text);
        }
    }
    found
}

fn paths(found: &BTreeMap<String, String>) -> Vec<&str> {
    found.keys().map(String::as_str).collect()
}

#[test]
fn the_last_layer_that_has_a_name_has_it() {
    let lower = Pack::new().file("./etc/a", b"old").file("etc/b", b"kept").done();
    let upper = Pack::new().file("/etc/a", b"new").done();
    let found = merged(&[lower, upper]).unwrap();
    assert_eq!(found["/etc/a"], "new");
    assert_eq!(found["/etc/b"], "kept");
}

#[test]
fn a_whiteout_takes_away_what_lower_layers_brought_and_not_what_its_own_did() {
    let lower = Pack::new().file("d/a", b"1").file("d/b", b"2").file("e/x/y", b"3").done();
    let upper = Pack::new().file("d/c", b"4").file("d/.wh.a", b"").file("d/.wh.c", b"");
    let upper = upper.file(".wh.e", b"").file(".wh.nothing", b"").done();
    let found = merged(&[lower, upper]).unwrap();
    assert_eq!(paths(&found), ["/d", "/d/b", "/d/c"]);
}

#[test]
fn an_opaque_directory_hides_all_that_was_below() {
    let lower = Pack::new().file("d/a/b", b"1").file("d/c", b"2").done();
    let upper = Pack::new().folder("d/").file("d/new", b"3").file("d/.wh..wh..opq", b"").done();
    assert_eq!(paths(&merged(&[lower, upper]).unwrap()), ["/d", "/d/new"]);
}

#[test]
fn a_directory_that_goes_and_comes_in_one_layer_has_what_it_brought() {
    let lower = Pack::new().file("d/a/b", b"1").done();
    let upper = Pack::new().file("d/a/c", b"2").file(".wh.d", b"").done();
    assert_eq!(paths(&merged(&[lower, upper]).unwrap()), ["/d", "/d/a", "/d/a/c"]);
}

#[test]
fn a_file_replaces_a_directory_and_the_other_way_round() {
    let lower = Pack::new().file("a/b", b"1").file("c", b"2").done();
    let upper = Pack::new().file("a", b"3").file("c/d", b"4");
    let error = merged(&[lower.clone(), upper.done()]).unwrap_err().to_string();
    assert!(error.contains("c/d") && error.contains("no directory"), "{error}");
    let upper = Pack::new().file("a", b"3").folder("c/").file("c/d", b"4").done();
    let found = merged(&[lower, upper]).unwrap();
    assert_eq!((found["/a"].as_str(), found["/c/d"].as_str()), ("3", "4"));
}

#[test]
fn names_lie_where_links_to_directories_lead() {
    // Debian's /bin has been a link since 2019, and many a layer still brings /bin/x.
    let lower = Pack::new().folder("usr/bin/").symlink("bin", "usr/bin").symlink("lib", "/usr/lib");
    let upper = Pack::new().file("bin/x", b"1").file("lib/y", b"2").done();
    let found = merged(&[lower.done(), upper]).unwrap();
    assert_eq!(found["/bin"], "-> usr/bin");
    assert_eq!((found["/usr/bin/x"].as_str(), found["/usr/lib/y"].as_str()), ("1", "2"));
}

#[test]
fn hard_links_name_the_same_bytes_also_of_a_lower_layer() {
    let lower = Pack::new().file("a", b"1").hard_link("b", "./a").done();
    let upper = Pack::new().hard_link("c", "/b").file(".wh.a", b"").done();
    let found = merged(&[lower, upper]).unwrap();
    assert_eq!(paths(&found), ["/b", "/c"]);
    assert_eq!(found["/c"], "1");
}

#[test]
fn long_names_are_whole_in_either_way_of_writing_them() {
    let name = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let found = merged(&[Pack::new().long(&name, b"gnu").done()]).unwrap();
    assert_eq!(found[&format!("/{name}")], "gnu");
    let records = record("path", &name) + &record("comment", &"c".repeat(100));
    let pax = Pack::new().raw(b'x', "pax", records.as_bytes()).file("short", b"pax").done();
    assert_eq!(merged(&[pax]).unwrap()[&format!("/{name}")], "pax");
}

#[test]
fn every_kind_of_archive_becomes_the_same_image() {
    let one = Pack::new().file("etc/a", b"one").file("big", &[7; 10_000]).done();
    let two = Pack::new().file("etc/.wh.a", b"").file("etc/b", b"two").done();
    let config = json!({ "Cmd": ["sh"] });
    let plain = oci(&[(one.clone(), one.clone()), (two.clone(), two.clone())], &config);
    let (image, imported) = run(&plain).unwrap();
    assert_eq!(imported.layers, 2);
    assert_eq!(imported.bytes, image.len() as u64);
    for other in [
        oci(&[(gzip(&one), one.clone()), (zstd(&two), two.clone())], &config),
        docker(&[one.clone(), two.clone()], &config),
        gzip(&docker(&[one.clone(), two.clone()], &config)),
        oci(&[(xz(&one), one.clone()), (xz(&two), two.clone())], &config),
        zstd(&plain),
        xz(&plain),
        // The image itself.
        image.clone(),
    ] {
        assert!(run(&other).unwrap().0 == image);
    }
}

#[test]
fn a_packed_stream_of_several_frames_is_read_whole() {
    let layer = Pack::new().file("a", &[3; 700]).file("b", b"2").done();
    let (first, second) = layer.split_at(600);
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
    for packed in [
        [zstd(first), skipped, zstd(second)].concat(),
        [gzip(first), gzip(second)].concat(),
        [xz(first), xz(second)].concat(),
    ] {
        run(&oci(&[(packed, layer.clone())], &json!({}))).unwrap();
    }
}

#[test]
fn a_layer_that_ends_with_its_last_byte_is_read_whole() {
    // As umoci writes them.
    let layer = Pack::new().file("a", b"1").file("b", b"last").done();
    let end = layer.windows(4).rposition(|part| part == b"last").unwrap() + 4;
    let short = layer[..end].to_vec();
    let (image, _) = run(&oci(&[(gzip(&short), short)], &json!({}))).unwrap();
    assert!(image == run(&oci(&[(gzip(&layer), layer)], &json!({}))).unwrap().0);
}

#[test]
fn a_tarball_of_a_root_is_an_image_packed_or_not() {
    let root = Pack::new().folder("./").file("./etc/os-release", b"x").file("a/.wh.b", b"").done();
    let (image, imported) = run(&root).unwrap();
    assert_eq!(imported.layers, 1);
    assert!(run(&gzip(&root)).unwrap().0 == image);
    assert!(run(&zstd(&root)).unwrap().0 == image);
}

#[test]
fn the_user_of_an_image_is_found_in_it() {
    let layer = Pack::new()
        .file("etc/passwd.real", b"root:x:0:0::/:\nweb:x:33:34::/:\n")
        .symlink("etc/passwd", "passwd.real")
        .done();
    let (image, _) =
        run(&oci(&[(gzip(&layer), layer.clone())], &json!({ "User": "web" }))).unwrap();
    let text = br#""uid":33,"gid":34"#;
    assert!(image.windows(text.len()).any(|part| part == text));
    let error = run(&oci(&[(layer.clone(), layer)], &json!({ "User": "db" }))).unwrap_err();
    assert!(error.to_string().contains("\"db\""), "{error}");
}

#[test]
fn an_archive_of_several_images_is_refused_and_one_for_several_machines_is_not() {
    let index = |text: &str| manifest::parse::<manifest::Index>("index.json", text.as_bytes());
    let entry = |digest: &str, platform: &str| {
        format!(r#"{{"mediaType":"x","digest":"{digest}","size":1,"platform":{platform}}}"#)
    };
    let amd = r#"{"os":"linux","architecture":"amd64"}"#;
    let arm = r#"{"os":"linux","architecture":"arm64"}"#;
    let unknown = r#"{"os":"unknown","architecture":"unknown"}"#;
    let list = |entries: &[String]| format!(r#"{{"manifests":[{}]}}"#, entries.join(","));
    let several = index(&list(&[entry("a", arm), entry("b", amd), entry("c", unknown)])).unwrap();
    assert_eq!(several.choose("x").unwrap().digest, "b");
    let two = index(&list(&[entry("a", amd), entry("b", amd)])).unwrap();
    assert!(two.choose("x").unwrap_err().to_string().contains("save the one alone"));
    let none = index(&list(&[entry("a", arm)])).unwrap();
    assert!(none.choose("x").is_err());
}

#[test]
fn attributes_of_users_are_kept_and_those_of_the_system_are_not() {
    let attributes = |value: &str| {
        record("SCHILY.xattr.user.colour", value)
            + &record("SCHILY.xattr.user.", "of no name")
            + &record("SCHILY.xattr.security.capability", "\u{1}")
            + &record("SCHILY.xattr.trusted.overlay.redirect", "/etc")
            + &record("LIBARCHIVE.xattr.user.colour", "Ymx1ZQ")
    };
    let with = |value: &str, pack: Pack| pack.raw(b'x', "pax", attributes(value).as_bytes());
    let lower = with("green", Pack::new()).folder("d/");
    let lower = with("red\0=\n", lower).file("f", b"").hard_link("g", "f");
    let lower = with("gone", lower).file("replaced", b"").done();
    let upper = with("blue", Pack::new()).folder("d/").file("replaced", b"").done();
    let mut tree = Tree::new(&Limits::default());
    for (number, layer) in [&lower, &upper].into_iter().enumerate() {
        let mut stream = Hashed::new(&layer[..]);
        let mut tar = Tar::new(&mut stream, "a layer", 1000);
        while let Some(entry) = tar.next_entry().unwrap() {
            tree.apply(u16::try_from(number).unwrap(), &entry, true).unwrap();
        }
    }
    let Kind::Directory(children) = &tree.root().kind else { panic!("no root") };
    let of = |name: &str| -> Vec<(String, String)> {
        let node = tree.node(children[name.as_bytes()].node);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        node.attributes.iter().map(|(name, value)| (text(name), text(value))).collect()
    };
    let colour = |value: &str| vec![("user.colour".to_owned(), value.to_owned())];
    assert_eq!(
        (of("d"), of("f"), of("g")),
        (colour("blue"), colour("red\0=\n"), colour("red\0=\n"))
    );
    assert_eq!(of("replaced"), []);
    assert_eq!(tree.left_out.attributes, 4 * 3);
    // They are in the image.
    let (image, imported) = run(&oci(&[(lower.clone(), lower)], &json!({}))).unwrap();
    assert_eq!(imported.attributes, 9);
    assert!(image.windows(11).any(|part| part == b"colourgreen"));
}
