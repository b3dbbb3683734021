//! What an archive is, and where its layers are.
//!
//! ```text
//!   EROFS             the superblock's number at 1024
//!   [gzip, zstd] tar ─┬─ oci-layout, index.json   layers by digest
//!                     ├─ manifest.json            layers by name, digests in the configuration
//!                     └─ neither                  a root
//! ```
//! An archive that is packed as a whole is unpacked again for each part that is read of it: nothing is kept.

use super::error::{ImportError, shown};
use super::limits::{DOCUMENT_BYTES_MAX, LINKS_FOLLOWED_MAX, Limits, OUTER_ENTRIES_MAX};
use super::manifest::{self, Configuration, Descriptor, DockerImage, Index, Manifest, Settings};
use super::path::parts;
use super::source::{Hashed, Packing, Part, ReadAt, Stream, Unpacked};
use super::tar::{EntryKind, Tar};
use std::collections::BTreeMap;
use std::io::Read;

/// Lists of images in one another: an index, the list of one name, and one to spare.
const INDEXES_MAX: usize = 3;

/// What an EROFS superblock begins with, at [`MAGIC_AT`] (`EROFS_SUPER_MAGIC_V1`).
const MAGIC: [u8; 4] = [0xe2, 0xe1, 0xf5, 0xe0];
const MAGIC_AT: u64 = 1024;

/// What an archive is.
#[derive(Debug)]
pub enum Archive {
    /// An EROFS image, ready as it is.
    Erofs,
    /// Layers, the lowest first, and how the image wants to be run.
    Layers(Vec<Layer>, Settings),
    /// A tarball of a root.
    Root,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Where it is in the archive, which is unpacked for it if it is packed.
    pub at: u64,
    /// Its size there.
    pub bytes: u64,
    /// Its digest there, if it was promised.
    pub sha256: Option<String>,
    /// Its digest unpacked.
    pub diff_id: String,
}

/// The archive's own bytes, unpacked when it is packed as a whole.
pub struct Outer<'a> {
    source: &'a dyn ReadAt,
    bytes: u64,
    packing: Packing,
    limits: Limits,
}

impl<'a> Outer<'a> {
    /// Of this source, which has so many bytes.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn new(source: &'a dyn ReadAt, bytes: u64, limits: &Limits) -> Result<Self, ImportError> {
        let mut start = Vec::new();
        let read = Part::new(source, 0, 8).read_to_end(&mut start);
        read.map_err(ImportError::read("the archive"))?;
        Ok(Self { source, bytes, packing: Packing::of(&start)?, limits: *limits })
    }

    /// All of it, as a stream.
    fn stream(&self) -> Result<Box<dyn Stream + 'a>, ImportError> {
        let whole = Part::new(self.source, 0, self.bytes);
        match self.packing {
            Packing::Plain => Ok(Box::new(whole)),
            Packing::Gzip | Packing::Zstd | Packing::Xz => {
                Ok(Box::new(Unpacked::new(whole, "the archive", self.bytes, &self.limits)?))
            }
        }
    }

    /// A part of it.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn part(&self, at: u64, bytes: u64) -> Result<Box<dyn Read + 'a>, ImportError> {
        let mut stream = self.stream()?;
        stream.skip(at).map_err(ImportError::read("the archive"))?;
        Ok(Box::new(stream.take(bytes)))
    }

    /// All of it, unpacked if it is packed: a tarball.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn unpacked(&self) -> Result<Unpacked<'a>, ImportError> {
        let whole = Part::new(self.source, 0, self.bytes);
        Unpacked::new(whole, "the archive", self.bytes, &self.limits)
    }
}

/// A file of the archive.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: u64,
    bytes: u64,
}

/// The files of an archive by their names.
#[derive(Debug, Default)]
struct Files {
    places: BTreeMap<Vec<u8>, Place>,
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Finds out what the archive is.
///
/// # Errors
/// [`ImportError`].
pub fn recognise(outer: &Outer<'_>) -> Result<Archive, ImportError> {
    if is_erofs(outer)? {
        return Ok(Archive::Erofs);
    }
    // Damaged headers are told when it is read as what it then is.
    let Some(files) = Files::list(outer)? else { return Ok(Archive::Root) };
    if files.places.contains_key(&b"index.json"[..])
        && files.places.contains_key(&b"oci-layout"[..])
    {
        return oci(outer, &files);
    }
    match files.places.get(&b"manifest.json"[..]) {
        Some(place) => docker(outer, &files, *place),
        None => Ok(Archive::Root),
    }
}

fn is_erofs(outer: &Outer<'_>) -> Result<bool, ImportError> {
    if outer.packing != Packing::Plain {
        return Ok(false);
    }
    let mut start = Vec::new();
    let read = Part::new(outer.source, MAGIC_AT, 4).read_to_end(&mut start);
    read.map_err(ImportError::read("the archive"))?;
    Ok(start == MAGIC)
}

impl Files {
    /// The files of an archive; none if it has too many to hold nothing but layers.
    fn list(outer: &Outer<'_>) -> Result<Option<Self>, ImportError> {
        let mut stream = outer.stream()?;
        let mut tar = Tar::new(&mut *stream, "the archive", u64::MAX);
        let mut files = Self::default();
        while let Some(entry) = tar.next_entry()? {
            let Some(name) = normal(&entry.path) else { return Ok(None) };
            match entry.kind {
                EntryKind::File => {
                    let place = Place { at: entry.at, bytes: entry.size };
                    files.places.insert(name, place);
                }
                EntryKind::Symlink(target) => {
                    if let Some(target) = beside(&name, &target) {
                        files.links.insert(name, target);
                    }
                }
                EntryKind::HardLink(target) => {
                    if let Some(target) = normal(&target) {
                        files.links.insert(name, target);
                    }
                }
                EntryKind::Directory | EntryKind::Fifo | EntryKind::Device => {}
            }
            if files.places.len() + files.links.len() > OUTER_ENTRIES_MAX {
                return Ok(None);
            }
        }
        Ok(Some(files))
    }

    /// A file by its name; old Dockers made links of layers that are in an archive twice.
    fn find(&self, name: &str) -> Result<Place, ImportError> {
        let missing = || ImportError::Says {
            what: "the archive".to_owned(),
            why: format!("has no file {name:?}, which it names"),
        };
        let mut path = normal(name.as_bytes()).ok_or_else(missing)?;
        for _ in 0..LINKS_FOLLOWED_MAX {
            if let Some(place) = self.places.get(&path) {
                return Ok(*place);
            }
            path = self.links.get(&path).ok_or_else(missing)?.clone();
        }
        Err(missing())
    }

    /// A document.
    fn document(&self, outer: &Outer<'_>, name: &str) -> Result<Vec<u8>, ImportError> {
        read_document(outer, self.find(name)?, name)
    }

    /// A document by its digest, which is checked.
    fn blob(
        &self,
        outer: &Outer<'_>,
        what: &str,
        blob: &Descriptor,
    ) -> Result<Vec<u8>, ImportError> {
        let bytes = read_document(outer, self.sized(what, blob)?, what)?;
        let digest = Hashed::new(&bytes[..]).finish().map_err(ImportError::read(what))?.0;
        check(what, &digest, manifest::sha256(what, &blob.digest)?)?;
        Ok(bytes)
    }

    /// Where a blob is, with the size that was promised.
    fn sized(&self, what: &str, blob: &Descriptor) -> Result<Place, ImportError> {
        let digest = manifest::sha256(what, &blob.digest)?;
        let place = self.find(&format!("blobs/sha256/{digest}"))?;
        if place.bytes != blob.size {
            let (what, got, wanted) = (what.to_owned(), place.bytes, blob.size);
            return Err(ImportError::Size { what, got, wanted });
        }
        Ok(place)
    }
}

/// The name without what means nothing; none for what leads up.
fn normal(path: &[u8]) -> Option<Vec<u8>> {
    parts(path).ok().map(|parts| parts.join(&b'/'))
}

/// Where a symbolic link leads that stands at `path`; none if that is outside.
fn beside(path: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut trail: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    trail.pop();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(trail.pop()?),
            part => trail.push(part),
        }
    }
    Some(trail.join(&b'/'))
}

fn read_document(outer: &Outer<'_>, place: Place, what: &str) -> Result<Vec<u8>, ImportError> {
    if place.bytes > DOCUMENT_BYTES_MAX {
        return Err(ImportError::Limit { what: "bytes of a document", most: DOCUMENT_BYTES_MAX });
    }
    let mut bytes = Vec::new();
    let mut part = outer.part(place.at, place.bytes)?;
    part.read_to_end(&mut bytes).map_err(ImportError::read(what))?;
    Ok(bytes)
}

/// Compares digests.
///
/// # Errors
/// [`ImportError::Digest`].
pub fn check(what: &str, got: &str, wanted: &str) -> Result<(), ImportError> {
    if got == wanted {
        return Ok(());
    }
    let (what, got, wanted) = (what.to_owned(), got.to_owned(), wanted.to_owned());
    Err(ImportError::Digest { what, got, wanted })
}

fn oci(outer: &Outer<'_>, files: &Files) -> Result<Archive, ImportError> {
    let mut name = "index.json".to_owned();
    let mut bytes = files.document(outer, &name)?;
    for _ in 0..INDEXES_MAX {
        let index: Index = manifest::parse(&name, &bytes)?;
        let chosen = index.choose(&name)?.clone();
        name = format!("the blob {}", chosen.digest);
        bytes = files.blob(outer, &name, &chosen)?;
        if !chosen.is_index() {
            return oci_image(outer, files, &manifest::parse(&name, &bytes)?);
        }
    }
    Err(ImportError::Limit { what: "indexes in one another", most: INDEXES_MAX as u64 })
}

fn oci_image(
    outer: &Outer<'_>,
    files: &Files,
    manifest: &Manifest,
) -> Result<Archive, ImportError> {
    let what = "the image's configuration";
    let bytes = files.blob(outer, what, &manifest.config)?;
    let configuration: Configuration = manifest::parse(what, &bytes)?;
    let diff_ids = configuration.diff_ids(manifest.layers.len())?;
    let layer = |(blob, diff_id): (&Descriptor, &str)| {
        let what = format!("the layer {}", blob.digest);
        let place = files.sized(&what, blob)?;
        let sha256 = Some(manifest::sha256(&what, &blob.digest)?.to_owned());
        Ok(Layer { at: place.at, bytes: place.bytes, sha256, diff_id: diff_id.to_owned() })
    };
    let layers = manifest.layers.iter().zip(diff_ids).map(layer);
    let layers = layers.collect::<Result<_, ImportError>>()?;
    Ok(Archive::Layers(layers, configuration.settings()))
}

fn docker(outer: &Outer<'_>, files: &Files, place: Place) -> Result<Archive, ImportError> {
    let what = "manifest.json";
    let bytes = read_document(outer, place, what)?;
    // A root may well have a file of that name, with something else in it.
    let Ok(images) = serde_json::from_slice::<Vec<DockerImage>>(&bytes) else {
        return Ok(Archive::Root);
    };
    let [image] = &images[..] else {
        let why = format!("has {} images: save the one alone", images.len());
        return Err(ImportError::Says { what: what.to_owned(), why });
    };
    let bytes = files.document(outer, &image.config)?;
    // Docker names a configuration by its digest.
    let name = image.config.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".json").unwrap_or(name);
    if manifest::sha256(what, &format!("sha256:{name}")).is_ok() {
        let digest = Hashed::new(&bytes[..]).finish().map_err(ImportError::read(what))?.0;
        check("the image's configuration", &digest, name)?;
    }
    let configuration: Configuration = manifest::parse("the image's configuration", &bytes)?;
    let diff_ids = configuration.diff_ids(image.layers.len())?;
    let layer = |(name, diff_id): (&String, &str)| {
        let place = files.find(name)?;
        let diff_id = diff_id.to_owned();
        Ok(Layer { at: place.at, bytes: place.bytes, sha256: None, diff_id })
    };
    let layers = image.layers.iter().zip(diff_ids).map(layer);
    let layers = layers.collect::<Result<_, ImportError>>()?;
    Ok(Archive::Layers(layers, configuration.settings()))
}

/// A layer's name for messages.
#[must_use]
pub fn name(number: usize, layer: &Layer) -> String {
    format!("layer {} (sha256:{})", number + 1, shown(&layer.diff_id.as_bytes()[..12]))
}
