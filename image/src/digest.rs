//! SHA-256 of bytes and files, written as hexadecimal text; and stamps, which remember what something was
//! made from.

use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Bytes read from a file at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Digits of a digest that name something among a few.
const SHORT_DIGITS: usize = 16;

/// Gathers whatever decides how something turns out.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    hash: Sha256,
}

impl Inputs {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a named value. Its length is hashed too, so that no two sequences of values run together.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        for part in [name.as_bytes(), value.as_ref()] {
            self.hash.update((part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
    }

    /// Adds a file's contents.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn add_file(&mut self, name: &str, path: &Path) -> io::Result<()> {
        self.add(name, file(path)?);
        Ok(())
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn digest(&self) -> String {
        hex(&self.hash.clone().finalize())
    }

    /// Its first digits, enough to name a folder.
    #[must_use]
    pub fn short(&self) -> String {
        self.digest()[..SHORT_DIGITS].to_owned()
    }
}

/// The digest of bytes.
#[must_use]
pub fn bytes(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

/// The digest of a file.
///
/// # Errors
/// When it can't be read.
pub fn file(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&chunk[..count]),
        }
    }
}

/// Whether `stamp` says that its thing was made from inputs with this digest.
#[must_use]
pub fn is_stamped(stamp: &Path, digest: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|text| text.trim_end() == digest)
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_digest_is_the_one_everybody_computes() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(bytes(b""), empty);
    }

    #[test]
    fn values_do_not_run_together() {
        let (mut one, mut two) = (Inputs::new(), Inputs::new());
        one.add("a", "bc");
        two.add("ab", "c");
        assert_ne!(one.digest(), two.digest());
    }
}
