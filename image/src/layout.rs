//! Where things are: the source tree, what is made from it (`out/`), and what is kept outside of it
//! because it is dear to make again (the cache).

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The folders of one source tree.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    cache: PathBuf,
}

impl Layout {
    /// The tree that this program was built from, and the user's cache folder.
    #[must_use]
    pub fn of_this_tree() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("image/ lies in the workspace")
            .to_owned();
        Self { root, cache: cache() }
    }

    /// The workspace.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file that comes with the sources of this crate.
    #[must_use]
    pub fn source(&self, name: &str) -> PathBuf {
        self.root.join("image").join(name)
    }

    /// What is made: kernel, initramfs, zone image.
    #[must_use]
    pub fn out(&self, name: &str) -> PathBuf {
        self.root.join("out").join(name)
    }

    /// What is kept for the next build, of this tree and others.
    #[must_use]
    pub fn cache(&self, name: &str) -> PathBuf {
        self.cache.join(name)
    }

    /// Keeps other builds from filling the cache at the same time, until the result is dropped.
    ///
    /// # Errors
    /// When the cache can't be made or locked.
    pub fn lock_cache(&self) -> io::Result<File> {
        fs::create_dir_all(&self.cache)?;
        let file = File::create(self.cache.join("lock"))?;
        if file.try_lock().is_err() {
            eprintln!("another build is at work in {}: waiting for it", self.cache.display());
            file.lock()?;
        }
        Ok(file)
    }
}

/// `${XDG_CACHE_HOME:-~/.cache}/mobula`.
fn cache() -> PathBuf {
    let named = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("XDG_CACHE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/cache"))
        .join("mobula")
}
