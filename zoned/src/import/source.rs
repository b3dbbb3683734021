//! The archive's bytes: parts of a file that is never read as a whole, unpacked while they are read.

use super::error::ImportError;
use super::limits::{Limits, WINDOW_BYTES_MAX, XZ_MEMORY_KIB_MAX};
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

/// Bytes read at once.
const CHUNK_BYTES: usize = 128 * 1024;

/// Bytes that can be read anywhere, any number of times.
pub trait ReadAt {
    /// Reads at this place; 0 bytes at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(self.len());
        (&self[at..]).read(buffer)
    }
}

/// A stream that can be got on in without being read, where that is cheaper.
pub trait Stream: Read {
    /// Leaves out this many bytes.
    ///
    /// # Errors
    /// What the reader says; the end before that.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

/// Leaves out bytes by reading them.
fn read_over(reader: &mut dyn Read, mut bytes: u64) -> io::Result<()> {
    let mut chunk = [0; 16 * 1024];
    while bytes > 0 {
        let part = usize::try_from(bytes).unwrap_or(usize::MAX).min(chunk.len());
        reader.read_exact(&mut chunk[..part])?;
        bytes -= part as u64;
    }
    Ok(())
}

/// A part of a source, as a stream.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    source: &'a dyn ReadAt,
    at: u64,
    left: u64,
}

impl<'a> Part<'a> {
    /// So many bytes of the source from there.
    #[must_use]
    pub fn new(source: &'a dyn ReadAt, at: u64, bytes: u64) -> Self {
        Self { source, at, left: bytes }
    }

    /// All of the source.
    #[must_use]
    pub fn all(source: &'a dyn ReadAt) -> Self {
        Self::new(source, 0, u64::MAX)
    }
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.source.read_at(&mut buffer[..room], self.at)?;
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

impl Stream for Part<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        if bytes > self.left {
            return Err(end());
        }
        // The last byte is read: a file that is too short is one that was cut off.
        self.at = self.at.checked_add(bytes - 1).ok_or_else(end)?;
        self.left -= bytes - 1;
        self.read_exact(&mut [0])
    }
}

/// How a stream is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// xz (the .xz file format, 1.2.1).
    Xz,
}

impl Packing {
    /// By the first bytes.
    ///
    /// # Errors
    /// [`ImportError::Kind`] for packings that are known and not taken.
    pub fn of(start: &[u8]) -> Result<Self, ImportError> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Self::Xz),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err(ImportError::Kind("bzip2 is not taken")),
            _ => Ok(Self::Plain),
        }
    }
}

/// A stream that is unpacked while it is read, within limits.
pub struct Unpacked<'a> {
    reader: Box<dyn Read + 'a>,
    /// Bytes that came out.
    pub bytes: u64,
    bytes_max: u64,
}

impl<'a> Unpacked<'a> {
    /// Unpacks `packed`, of `packed_bytes` bytes, if it is packed. At most `bytes_max` bytes come out.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn new(
        packed: impl Read + 'a,
        what: &str,
        packed_bytes: u64,
        limits: &Limits,
    ) -> Result<Self, ImportError> {
        let mut packed = BufReader::with_capacity(CHUNK_BYTES, packed);
        let packing = Packing::of(packed.fill_buf().map_err(ImportError::read(what))?)?;
        let by_ratio = packed_bytes.saturating_mul(limits.ratio).max(limits.ratio_from_bytes);
        let (reader, bytes_max): (Box<dyn Read + 'a>, _) = match packing {
            Packing::Plain => (Box::new(packed), limits.unpacked_bytes),
            Packing::Gzip => (Box::new(MultiGzDecoder::new(packed)), by_ratio),
            Packing::Zstd => (Box::new(Zstd::new(packed)), by_ratio),
            Packing::Xz => {
                let reader = XzReader::new_mem_limit(packed, true, XZ_MEMORY_KIB_MAX);
                (Box::new(reader), by_ratio)
            }
        };
        Ok(Self { reader, bytes: 0, bytes_max: bytes_max.min(limits.unpacked_bytes) })
    }

    /// Reads what is left.
    ///
    /// # Errors
    /// What the reader says.
    pub fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.bytes += got as u64;
        if self.bytes > self.bytes_max {
            let what = "bytes out of a packed part, by its size and the room for an image";
            return Err(io::Error::other(ImportError::Limit { what, most: self.bytes_max }));
        }
        Ok(got)
    }
}

impl Stream for Unpacked<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        read_over(self, bytes)
    }
}

/// All frames of a Zstandard stream; those that are to be skipped are.
struct Zstd<R> {
    packed: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(packed: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        Self { packed, decoder, in_frame: false }
    }

    /// Begins the next frame; false behind the last.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => read_over(&mut self.packed, u64::from(length))?,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBlocks;
        loop {
            if !self.in_frame && !self.begin()? {
                return Ok(0);
            }
            self.in_frame = true;
            if self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let decoded = self.decoder.decode_blocks(&mut self.packed, UptoBlocks(1));
                decoded.map_err(io::Error::other)?;
            }
            let got = self.decoder.read(buffer)?;
            self.in_frame = !(self.decoder.is_finished() && self.decoder.can_collect() == 0);
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
        }
    }
}

/// Passes bytes on and knows their SHA-256 and how many they were.
pub struct Hashed<R> {
    reader: R,
    digest: Sha256,
    bytes: u64,
}

impl<R: Read> Hashed<R> {
    /// What `reader` reads.
    pub fn new(reader: R) -> Self {
        Self { reader, digest: Sha256::new(), bytes: 0 }
    }

    /// The digest in hexadecimal digits, and the bytes, of all that is left and all that was read.
    ///
    /// # Errors
    /// What the reader says.
    pub fn finish(mut self) -> io::Result<(String, u64)> {
        let mut chunk = vec![0; CHUNK_BYTES];
        while self.read(&mut chunk)? > 0 {}
        Ok((hex(&self.digest.finalize()), self.bytes))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.digest.update(&buffer[..got]);
        self.bytes += got as u64;
        Ok(got)
    }
}

impl<R: Read> Stream for Hashed<R> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        read_over(self, bytes)
    }
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
