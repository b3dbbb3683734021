//! The documents of an archive: which layers an image has, and how it wants to be run.
//!
//! Two kinds: an OCI image layout (`oci-layout`, `index.json`, blobs by their digests) and what `docker
//! save` wrote before it knew that one (`manifest.json`, layers by any names). Newer Dockers write both into
//! one archive; the first has more digests in it and is taken. Pure.

use super::error::ImportError;
use super::limits::LAYERS_MAX;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// The platform of the images that zones run, as OCI names it (Go's GOOS and GOARCH).
const OS: &str = "linux";
const ARCHITECTURE: &str = "amd64";

/// Reads a JSON document; `what` names it in messages.
///
/// # Errors
/// [`ImportError::Document`].
pub fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ImportError> {
    let failed = |source| ImportError::Document { what: what.to_owned(), source };
    serde_json::from_slice(bytes).map_err(failed)
}

fn says<T>(what: &str, why: impl Into<String>) -> Result<T, ImportError> {
    Err(ImportError::Says { what: what.to_owned(), why: why.into() })
}

/// The SHA-256 in `sha256:…`.
///
/// # Errors
/// [`ImportError::Says`] for anything else: other digests are rare, and none that is not checked is taken.
pub fn sha256<'a>(what: &str, digest: &'a str) -> Result<&'a str, ImportError> {
    let digits = |text: &&str| {
        text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    match digest.strip_prefix("sha256:").filter(digits) {
        Some(digits) => Ok(digits),
        None => says(what, format!("names the digest {digest:?}: sha256 and 64 digits are taken")),
    }
}

/// A blob, as another document names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size.
    pub size: u64,
    /// For which machines it is, if it is an image.
    pub platform: Option<Platform>,
    /// What was noted beside it.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// A kind of machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// Its processor.
    pub architecture: String,
    /// Its operating system.
    pub os: String,
}

impl Descriptor {
    /// Whether it is a list of images, and no image.
    #[must_use]
    pub fn is_index(&self) -> bool {
        self.media_type.ends_with(".image.index.v1+json")
            || self.media_type.ends_with(".manifest.list.v2+json")
    }

    fn fits(&self) -> bool {
        self.platform.as_ref().is_none_or(|p| p.os == OS && p.architecture == ARCHITECTURE)
    }
}

/// `index.json`, and lists of the images of one name for several kinds of machines.
#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    /// What it lists.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The one image in it for this machine.
    ///
    /// # Errors
    /// [`ImportError::Says`] if there is none or more than one.
    pub fn choose(&self, what: &str) -> Result<&Descriptor, ImportError> {
        let fitting: Vec<&Descriptor> = self.manifests.iter().filter(|m| m.fits()).collect();
        match fitting.split_first() {
            None => says(what, format!("has no image for {OS}/{ARCHITECTURE}")),
            // One image under several names is one.
            Some((first, others)) if others.iter().all(|other| other.digest == first.digest) => {
                Ok(first)
            }
            Some(_) => says(what, format!("has {} images: save the one alone", fitting.len())),
        }
    }
}

/// An image's parts.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// An entry of the `manifest.json` of `docker save`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    /// The file with its configuration.
    pub config: String,
    /// Its layers' files, the lowest first.
    pub layers: Vec<String>,
}

/// An image's configuration (OCI image specification, config.md), as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub struct Configuration {
    architecture: String,
    os: String,
    rootfs: RootFs,
    #[serde(default)]
    config: Option<Settings>,
}

#[derive(Debug, Clone, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// How the image wants to be run. Everything may be missing or null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Settings {
    /// `NAME=VALUE`.
    pub env: Option<Vec<String>>,
    /// What runs.
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or what runs where there is no entrypoint.
    pub cmd: Option<Vec<String>>,
    /// Where.
    pub working_dir: Option<String>,
    /// As whom: `USER`, `USER:GROUP`, by names or numbers.
    pub user: Option<String>,
    /// What ends it.
    pub stop_signal: Option<String>,
}

impl Configuration {
    /// Checks it against the layers that came with it; gives their digests, unpacked.
    ///
    /// # Errors
    /// [`ImportError::Says`].
    pub fn diff_ids(&self, layers: usize) -> Result<Vec<&str>, ImportError> {
        let what = "the image's configuration";
        if self.os != OS || self.architecture != ARCHITECTURE {
            let (os, architecture) = (&self.os, &self.architecture);
            return says(what, format!("is for {os}/{architecture}, this is {OS}/{ARCHITECTURE}"));
        }
        let ids = &self.rootfs.diff_ids;
        if ids.len() != layers {
            return says(what, format!("has {} layers, the manifest has {layers}", ids.len()));
        }
        if layers > LAYERS_MAX {
            return Err(ImportError::Limit { what: "layers", most: LAYERS_MAX as u64 });
        }
        ids.iter().map(|id| sha256(what, id)).collect()
    }

    /// How it wants to be run.
    #[must_use]
    pub fn settings(self) -> Settings {
        self.config.unwrap_or_default()
    }
}
