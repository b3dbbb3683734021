//! Makes an image of what people save: `docker save`, `podman save`, skopeo's OCI archives, a tarball of a
//! root, an EROFS file. The result is one EROFS file, the same bytes for the same layers.
//!
//! ```text
//!   archive   what it is, where its layers are          manifest   its documents
//!   tar       entries of a stream, within limits        source     parts of a file, unpacked on the way
//!   merge     layers over each other, whiteouts, links  path       names, or no names
//!   image     the tree as EROFS                         configuration   how it wants to be run
//! ```
//! An archive is a stranger's: this runs as the one program of a zone ([`crate::images`]), and is written
//! as if it did not. It reads its source anywhere and twice (names first, then bytes), keeps names alone in
//! memory, and writes to its output and nowhere else: no file is ever made by a name from an archive.

pub mod archive;
pub mod configuration;
pub mod error;
pub mod image;
pub mod limits;
pub mod manifest;
pub mod merge;
pub mod path;
pub mod source;
pub mod tar;

#[cfg(test)]
mod hostile_test;
#[cfg(test)]
mod test;

use archive::{Archive, Layer, Outer};
use configuration::{Configuration, Users};
use error::ImportError;
use limits::{Limits, USERS_BYTES_MAX};
use manifest::Settings;
use merge::{Content, LeftOut, Tree};
use serde::{Deserialize, Serialize};
use source::{Hashed, Part, ReadAt, Stream as _, Unpacked};
use std::io::{self, Read, Seek, Write};
use tar::Tar;

/// What became of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// The image's size.
    pub bytes: u64,
    /// Layers that it was made from; 0 of an EROFS file.
    pub layers: u64,
    /// Devices that were left out.
    pub devices: u64,
    /// Things that stood where every zone mounts something, and were left out.
    pub in_the_way: u64,
    /// Extended attributes that were left out: capabilities, access lists, labels.
    pub attributes: u64,
}

/// What the program that imports says when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// There is an image.
    Imported(Imported),
    /// There is none, and why.
    Failed(String),
}

/// Makes an image of the archive `source`, of `bytes` bytes, in `out`, which is empty.
///
/// # Errors
/// [`ImportError`]; what is in `out` then is of no use.
pub fn import<W: Write + Seek>(
    source: &dyn ReadAt,
    bytes: u64,
    out: W,
    limits: &Limits,
) -> Result<Imported, ImportError> {
    let outer = Outer::new(source, bytes, limits)?;
    match archive::recognise(&outer)? {
        Archive::Erofs => copy_image(source, bytes, out, limits),
        Archive::Root => import_root(&outer, out, limits),
        Archive::Layers(layers, settings) => import_layers(&outer, &layers, settings, out, limits),
    }
}

/// Takes an EROFS image over as it is, if its superblock says that it is one for this kernel.
fn copy_image<W: Write>(
    source: &dyn ReadAt,
    bytes: u64,
    mut out: W,
    limits: &Limits,
) -> Result<Imported, ImportError> {
    let says = |why: String| ImportError::Says { what: "the EROFS image".to_owned(), why };
    let mut start = Vec::new();
    let first = Part::new(source, 0, erofs::superblock::START_BYTES as u64).read_to_end(&mut start);
    first.map_err(ImportError::read("the EROFS image"))?;
    let superblock = erofs::superblock::parse(&start).map_err(|error| says(error.to_string()))?;
    if superblock.bytes > bytes {
        let whole = superblock.bytes;
        return Err(says(format!("is cut off: it has {bytes} bytes, and should have {whole}")));
    }
    if bytes > limits.unpacked_bytes {
        let what = "bytes of an image";
        return Err(ImportError::Limit { what, most: limits.unpacked_bytes });
    }
    let copied = io::copy(&mut Part::new(source, 0, bytes), &mut out);
    let copied = copied.map_err(ImportError::Write)?;
    Ok(imported(copied, 0, LeftOut::default()))
}

fn import_root<W: Write + Seek>(
    outer: &Outer<'_>,
    out: W,
    limits: &Limits,
) -> Result<Imported, ImportError> {
    const WHAT: &str = "the tarball";
    let mut tree = Tree::new(limits);
    let mut stream = outer.unpacked()?;
    let mut tar = Tar::new(&mut stream, WHAT, limits.entries).needing_its_end();
    let mut is_empty = true;
    while let Some(entry) = tar.next_entry()? {
        tree.apply(0, &entry, false)?;
        is_empty = false;
    }
    if is_empty {
        return Err(ImportError::Kind(tar::NO_TAR));
    }
    // A packed tarball has its own checksum at its end.
    stream.drain().map_err(ImportError::read(WHAT))?;
    tree.complete();
    let (mut out, places, bytes) = image::write_names(&tree, None, out)?;
    image::write_layer(&mut out, WHAT, outer.unpacked()?, &tree.contents(), &places)?;
    out.flush().map_err(ImportError::Write)?;
    Ok(imported(bytes, 1, tree.left_out))
}

fn import_layers<W: Write + Seek>(
    outer: &Outer<'_>,
    layers: &[Layer],
    settings: Settings,
    out: W,
    limits: &Limits,
) -> Result<Imported, ImportError> {
    let mut tree = Tree::new(limits);
    let mut left = *limits;
    for (number, layer) in layers.iter().enumerate() {
        merge_layer(outer, number, layer, &mut tree, &mut left)?;
    }
    tree.complete();
    let user = settings.user.as_deref().unwrap_or_default();
    let users = if Users::are_needed(user) {
        let mut read = |path: &[u8]| small_file(outer, layers, &mut tree, path, limits);
        Users { passwd: read(b"/etc/passwd")?, group: read(b"/etc/group")? }
    } else {
        Users::default()
    };
    let configuration = Configuration::of(settings, &users)?;
    let text = serde_json::to_vec(&configuration).expect("texts and numbers have a JSON form");
    let (mut out, places, bytes) = image::write_names(&tree, Some(&text), out)?;
    let contents = tree.contents();
    for files in contents.chunk_by(|(_, one), (_, other)| one.layer == other.layer) {
        let number = usize::from(files[0].1.layer);
        let what = archive::name(number, &layers[number]);
        let layer = unpack(outer, &what, &layers[number], limits)?;
        image::write_layer(&mut out, &what, layer, files, &places)?;
    }
    out.flush().map_err(ImportError::Write)?;
    Ok(imported(bytes, layers.len() as u64, tree.left_out))
}

fn imported(bytes: u64, layers: u64, left_out: LeftOut) -> Imported {
    let LeftOut { devices, in_the_way, attributes } = left_out;
    Imported { bytes, layers, devices, in_the_way, attributes }
}

/// Reads a layer's names into the tree and checks its digests, packed and unpacked.
fn merge_layer(
    outer: &Outer<'_>,
    number: usize,
    layer: &Layer,
    tree: &mut Tree,
    left: &mut Limits,
) -> Result<(), ImportError> {
    let what = archive::name(number, layer);
    let order = u16::try_from(number).expect("layers are limited");
    let mut packed = Hashed::new(outer.part(layer.at, layer.bytes)?);
    let unpacked = Unpacked::new(&mut packed, &what, layer.bytes, left)?;
    let mut unpacked = Hashed::new(unpacked);
    let mut tar = Tar::new(&mut unpacked, &what, left.entries);
    while let Some(entry) = tar.next_entry()? {
        tree.apply(order, &entry, true)?;
    }
    left.entries -= tar.headers();
    let (digest, bytes) = unpacked.finish().map_err(ImportError::read(&what))?;
    left.unpacked_bytes = left.unpacked_bytes.saturating_sub(bytes);
    let (packed_digest, packed_bytes) = packed.finish().map_err(ImportError::read(&what))?;
    if packed_bytes != layer.bytes {
        return Err(ImportError::Size { what, got: packed_bytes, wanted: layer.bytes });
    }
    if let Some(wanted) = &layer.sha256 {
        archive::check(&what, &packed_digest, wanted)?;
    }
    archive::check(&format!("{what}, unpacked,"), &digest, &layer.diff_id)
}

fn unpack<'a>(
    outer: &Outer<'a>,
    what: &str,
    layer: &Layer,
    limits: &Limits,
) -> Result<Unpacked<'a>, ImportError> {
    Unpacked::new(outer.part(layer.at, layer.bytes)?, what, layer.bytes, limits)
}

/// A small file of the image; nothing if there is none.
fn small_file(
    outer: &Outer<'_>,
    layers: &[Layer],
    tree: &mut Tree,
    path: &[u8],
    limits: &Limits,
) -> Result<Vec<u8>, ImportError> {
    let Some(Content { layer, at, size }) = tree.file(path)? else { return Ok(Vec::new()) };
    if size > USERS_BYTES_MAX {
        return Err(ImportError::Limit { what: "bytes of a list of users", most: USERS_BYTES_MAX });
    }
    let number = usize::from(layer);
    let what = archive::name(number, &layers[number]);
    let mut stream = unpack(outer, &what, &layers[number], limits)?;
    stream.skip(at).map_err(ImportError::read(&what))?;
    let mut bytes = Vec::new();
    stream.take(size).read_to_end(&mut bytes).map_err(ImportError::read(&what))?;
    Ok(bytes)
}
