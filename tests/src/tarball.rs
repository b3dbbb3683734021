//! Tar files with whatever in them: entries that no honest program writes.

use anyhow::{Context, Result};
use std::io::Write;
use std::process::{Command, Stdio};

/// Bytes of a block.
const BLOCK: usize = 512;
/// Kinds of entries (pax(1), ustar).
pub const FILE: u8 = b'0';
/// See [`FILE`].
pub const HARD_LINK: u8 = b'1';
/// See [`FILE`].
pub const SYMLINK: u8 = b'2';
/// See [`FILE`].
pub const CHARACTER: u8 = b'3';
/// See [`FILE`].
pub const BLOCK_DEVICE: u8 = b'4';
/// See [`FILE`].
pub const FOLDER: u8 = b'5';
/// See [`FILE`].
pub const EXTENDED: u8 = b'x';

/// A tar file that is being written.
#[derive(Debug, Default)]
pub struct Tarball(Vec<u8>);

impl Tarball {
    /// Adds an entry of a kind; `link` is where links lead.
    #[must_use]
    pub fn entry(self, kind: u8, name: &str, link: &str, content: &[u8]) -> Self {
        self.sized(kind, name, link, content.len() as u64, content)
    }

    /// As [`Self::entry`], with a size that is told and another that is there.
    #[must_use]
    pub fn sized(mut self, kind: u8, name: &str, link: &str, size: u64, content: &[u8]) -> Self {
        let mut header = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        // Set-id, executable, everybody's: the worst that a mode can be.
        put(100, b"0006755\0");
        put(108, b"0001750\0");
        put(116, b"0001750\0");
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        // Device 1:5, /dev/zero.
        put(329, b"0000001\0");
        put(337, b"0000005\0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// The whole file.
    #[must_use]
    pub fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

/// Packs it with zstd.
///
/// # Errors
/// If this host's zstd does not.
pub fn packed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut zstd = Command::new("zstd")
        .args(["-q", "-c", "-1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("running zstd")?;
    let mut stdin = zstd.stdin.take().context("zstd has no stdin")?;
    let bytes = bytes.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = zstd.wait_with_output()?;
    feeder.join().map_err(|_| anyhow::anyhow!("feeding zstd panicked"))??;
    Ok(output.stdout)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn tar_lists_what_was_written() {
        let file = Tarball::default()
            .entry(FOLDER, "d/", "", b"")
            .entry(FILE, "d/f", "", b"content")
            .entry(SYMLINK, "l", "d/f", b"")
            .done();
        let mut tar = Command::new("tar")
            .arg("-tf-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(&file).unwrap();
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "d/\nd/f\nl\n");
    }
}
