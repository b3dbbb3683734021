//! What a disk holds after its power was cut: a reader of QEMU's `blklogwrites` and a rebuilder.
//!
//! QEMU logs every write and every flush that the guest sends to a disk, in the format of Linux's
//! dm-log-writes: one sector of superblock, then entries of one sector each, a write's data behind its
//! entry. All numbers are little-endian.
//!
//! ```text
//!  superblock  magic u64 | version u64 | entries u64 | bytes in a sector u32
//!  entry       first sector u64 | sectors u64 | flags u64 (1 flush, 2 FUA, 4 discard, 8 mark) | length u64
//! ```
//!
//! A disk with a volatile cache promises only this: what was written before a flush that completed is
//! kept, and so is a write with FUA. Everything later may be there or not, each write, and each sector
//! of it, by itself. [`survivors`] makes that choice, [`Base::rebuild`] carries it out. Killing QEMU shows
//! none of this: whatever the guest wrote is in the host's page cache by then.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The superblock's first field, as in dm-log-writes.
const MAGIC: u64 = 0x006a_7366_7773_6872;
/// The one version of the format.
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
/// Bytes of an entry's fields; the rest of its sector is zero.
const ENTRY_BYTES: usize = 32;
/// What may tear by itself: a disk writes a sector wholly or not at all.
const TEAR_BYTES: u64 = 512;
/// How the base disk is cut up when its zero parts are left out.
const CHUNK_BYTES: usize = 64 * 1024;

/// What the guest asked of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Put `length` bytes, kept in the log file at `data`, at `offset`.
    Write {
        /// Where on the disk.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Where in the log file the bytes are.
        data: u64,
    },
    /// The bytes are of no use any more; they read as anything. Never carried out here, which is allowed.
    Discard,
    /// Nothing but its flags.
    Nothing,
}

/// One line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where in the log file it begins.
    pub start: u64,
    /// What was asked.
    pub request: Request,
    /// All entries before this one are on stable storage.
    pub flush: bool,
    /// This write itself is on stable storage.
    pub fua: bool,
}

/// A log, its entries read and its data left in the file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    /// The entries, oldest first.
    pub entries: Vec<Entry>,
}

struct Superblock {
    entries: u64,
    sector: u64,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}

fn superblock(file: &File, path: &Path) -> Result<Superblock> {
    let mut bytes = [0; 28];
    file.read_exact_at(&mut bytes, 0)
        .with_context(|| format!("reading the superblock of {}", path.display()))?;
    ensure!(number(&bytes, 0) == MAGIC, "{} is no block log", path.display());
    ensure!(number(&bytes, 8) == VERSION, "{}: unknown version", path.display());
    let sector = u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes were sliced"));
    ensure!(
        sector.is_power_of_two() && sector >= 512,
        "{}: sectors of {sector} bytes",
        path.display()
    );
    Ok(Superblock { entries: number(&bytes, 16), sector: sector.into() })
}

/// How far a log has come that is being written: its length in bytes. QEMU finishes a flush for the guest
/// after it has logged it, so that whatever was acknowledged to a client after a flush lies before the
/// length that is read then. See [`Log::entries_before`].
///
/// # Errors
/// If the file is not there.
pub fn position(path: &Path) -> Result<u64> {
    let metadata = path.metadata().with_context(|| format!("looking at {}", path.display()))?;
    Ok(metadata.len())
}

impl Log {
    /// Reads the entries of a log that is no longer written.
    ///
    /// # Errors
    /// If the file can't be read, is no such log, or ends within an entry.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let Superblock { entries: count, sector } = superblock(&file, path)?;
        let end = file.metadata()?.len();
        let mut entries = Vec::new();
        let mut at = sector;
        for index in 0..count {
            let mut bytes = [0; ENTRY_BYTES];
            file.read_exact_at(&mut bytes, at)
                .with_context(|| format!("reading entry {index} of {}", path.display()))?;
            let start = at;
            at += sector;
            let (offset, length) = (number(&bytes, 0) * sector, number(&bytes, 8) * sector);
            let flags = number(&bytes, 16);
            ensure!(
                flags & !(FLUSH | FUA | DISCARD | MARK | 16) == 0,
                "entry {index}: flags {flags:#x}"
            );
            let request = if flags & DISCARD != 0 {
                Request::Discard
            } else if flags & MARK != 0 || length == 0 {
                at += number(&bytes, 24).next_multiple_of(sector);
                Request::Nothing
            } else {
                let data = at;
                at += length;
                ensure!(at <= end, "entry {index}: its data ends at {at}, the log at {end}");
                Request::Write { offset, length, data }
            };
            let (flush, fua) = (flags & FLUSH != 0, flags & FUA != 0);
            entries.push(Entry { start, request, flush, fua });
        }
        Ok(Self { path: path.to_owned(), file, entries })
    }

    /// How many entries begin before `position`.
    #[must_use]
    pub fn entries_before(&self, position: u64) -> usize {
        self.entries.partition_point(|entry| entry.start < position)
    }
}

/// What becomes of the writes that no flush covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// All of them arrive.
    Kind,
    /// None of them arrives.
    Harsh,
    /// Each arrives, is lost, or tears between two sectors, as chance will have it.
    Random,
}

/// Part of a write that reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survivor {
    /// Where on the disk.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Where in the log file the bytes are.
    pub data: u64,
}

/// The writes among the first `upto` entries that the disk holds after a cut, in the order they were made.
pub fn survivors(
    entries: &[Entry],
    upto: usize,
    cut: Cut,
    rng: &mut fastrand::Rng,
) -> Vec<Survivor> {
    let entries = &entries[..upto];
    let safe = entries.iter().rposition(|entry| entry.flush).unwrap_or(0);
    let mut survivors = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let Request::Write { offset, length, data } = entry.request else { continue };
        let whole = Survivor { offset, length, data };
        if index < safe || entry.fua {
            survivors.push(whole);
            continue;
        }
        match cut {
            Cut::Kind => survivors.push(whole),
            Cut::Harsh => {}
            Cut::Random => survivors.extend(chance(whole, rng)),
        }
    }
    survivors
}

/// All of the write, none of it, its first sectors or its last.
fn chance(whole: Survivor, rng: &mut fastrand::Rng) -> Option<Survivor> {
    let sectors = whole.length / TEAR_BYTES;
    match rng.u8(..8) {
        0..3 => Some(whole),
        3..6 => None,
        6 => Some(Survivor { length: rng.u64(0..=sectors) * TEAR_BYTES, ..whole }),
        _ => {
            let lost = rng.u64(0..=sectors) * TEAR_BYTES;
            let Survivor { offset, length, data } = whole;
            Some(Survivor { offset: offset + lost, length: length - lost, data: data + lost })
        }
    }
}

/// The disk as it was before the log began, without its zeros.
#[derive(Debug)]
pub struct Base {
    chunks: Vec<(u64, Vec<u8>)>,
    /// Its size.
    pub bytes: u64,
}

impl Base {
    /// Reads a disk image.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let bytes = file.metadata()?.len();
        let mut chunks = Vec::new();
        let mut at = 0;
        while at < bytes {
            let length = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let mut chunk = vec![0; length];
            file.read_exact_at(&mut chunk, at)
                .with_context(|| format!("reading {} at {at}", path.display()))?;
            if chunk.iter().any(|byte| *byte != 0) {
                chunks.push((at, chunk));
            }
            at += length as u64;
        }
        Ok(Self { chunks, bytes })
    }

    /// Writes the disk that `survivors` of `log` left to `target`, from byte `start` of it, which must read
    /// as zeros.
    ///
    /// # Errors
    /// If a write reaches beyond the disk, or a file can't be read or written.
    pub fn rebuild(
        &self,
        log: &Log,
        survivors: &[Survivor],
        target: &File,
        start: u64,
    ) -> Result<()> {
        for (at, chunk) in &self.chunks {
            target.write_all_at(chunk, start + at).context("writing the base disk")?;
        }
        let mut buffer = Vec::new();
        for survivor in survivors {
            let end =
                survivor.offset.checked_add(survivor.length).context("an impossible write")?;
            ensure!(end <= self.bytes, "a write at {} reaches beyond the disk", survivor.offset);
            buffer.resize(usize::try_from(survivor.length)?, 0);
            log.file
                .read_exact_at(&mut buffer, survivor.data)
                .with_context(|| format!("reading data from {}", log.path.display()))?;
            target.write_all_at(&buffer, start + survivor.offset).context("writing a survivor")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    /// A log in QEMU's format: (first sector, byte, sectors, flags) each.
    fn handmade(entries: &[(u64, u8, u64, u64)]) -> (tempfile::NamedTempFile, Log) {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((entries.len() as u64).to_le_bytes());
        bytes.extend(512_u32.to_le_bytes());
        bytes.resize(512, 0);
        for (first, byte, sectors, flags) in entries {
            let start = bytes.len();
            for field in [*first, *sectors, *flags, 0] {
                bytes.extend(field.to_le_bytes());
            }
            bytes.resize(start + 512, 0);
            if flags & DISCARD == 0 {
                bytes.extend(std::iter::repeat_n(*byte, usize::try_from(*sectors).unwrap() * 512));
            }
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let log = Log::open(file.path()).unwrap();
        (file, log)
    }

    /// The first byte of each of a disk's 16 sectors after a cut.
    fn disk(log: &Log, upto: usize, cut: Cut, seed: u64) -> Vec<u8> {
        let base = tempfile::NamedTempFile::new().unwrap();
        base.as_file().set_len(16 * 512).unwrap();
        base.as_file().write_all_at(&[9; 512], 15 * 512).unwrap();
        let target = tempfile::tempfile().unwrap();
        target.set_len(512 + 16 * 512).unwrap();
        let kept = survivors(&log.entries, upto, cut, &mut fastrand::Rng::with_seed(seed));
        Base::read(base.path()).unwrap().rebuild(log, &kept, &target, 512).unwrap();
        let mut bytes = vec![0; 17 * 512];
        target.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes[..512].iter().all(|byte| *byte == 0), "nothing is written before the start");
        bytes[512..].chunks(512).map(|sector| sector[0]).collect()
    }

    #[test]
    fn a_write_before_a_flush_is_kept_and_one_after_it_is_lost() {
        let (_file, log) = handmade(&[(0, 1, 1, 0), (0, 0, 0, FLUSH), (1, 2, 1, 0)]);
        let after = disk(&log, 3, Cut::Harsh, 0);
        assert_eq!((after[0], after[1], after[15]), (1, 0, 9));
    }

    #[test]
    fn a_flush_that_comes_after_the_cut_keeps_nothing() {
        let (_file, log) = handmade(&[(0, 1, 1, 0), (0, 0, 0, FLUSH)]);
        assert_eq!(disk(&log, 1, Cut::Harsh, 0)[0], 0);
        assert_eq!(disk(&log, 1, Cut::Kind, 0)[0], 1);
    }

    #[test]
    fn a_fua_write_is_kept_without_a_flush() {
        let (_file, log) = handmade(&[(0, 1, 1, 0), (1, 2, 1, FUA)]);
        assert_eq!(disk(&log, 2, Cut::Harsh, 0)[..2], [0, 2]);
    }

    #[test]
    fn a_discard_has_no_data_behind_it_and_leaves_the_disk_alone() {
        let (_file, log) =
            handmade(&[(0, 1, 2, 0), (0, 0, 2, DISCARD), (2, 3, 1, 0), (0, 0, 0, FLUSH)]);
        assert_eq!(disk(&log, 4, Cut::Harsh, 0)[..3], [1, 1, 3]);
    }

    #[test]
    fn later_writes_win_over_earlier_ones() {
        let (_file, log) = handmade(&[(0, 1, 4, 0), (1, 2, 1, 0), (0, 0, 0, FLUSH)]);
        assert_eq!(disk(&log, 3, Cut::Harsh, 0)[..4], [1, 2, 1, 1]);
    }

    #[test]
    fn what_was_logged_before_a_position_is_counted() {
        let (file, log) = handmade(&[(0, 1, 2, 0), (0, 0, 0, FLUSH), (2, 3, 1, 0)]);
        assert_eq!(log.entries_before(512), 0);
        assert_eq!(log.entries_before(512 + 3 * 512), 1);
        assert_eq!(log.entries_before(position(file.path()).unwrap()), 3);
    }

    #[test]
    fn a_file_that_is_no_log_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 1024]).unwrap();
        assert!(Log::open(file.path()).unwrap_err().to_string().contains("no block log"));
    }

    proptest! {
        #[test]
        fn a_cut_loses_only_what_no_flush_covers(
            requests in prop::collection::vec((0..12_u64, 1..250_u8, 1..4_u64, 0..10_u64), 1..40),
            upto in 0..40_usize,
            seed: u64,
        ) {
            // one request in five is a flush, one a write with FUA
            let entries: Vec<_> = requests.iter().map(|(first, byte, sectors, kind)| match kind {
                0..2 => (0, 0, 0, FLUSH),
                2..4 => (*first, *byte, *sectors, FUA),
                _ => (*first, *byte, *sectors, 0),
            }).collect();
            let upto = upto.min(entries.len());
            let (_file, log) = handmade(&entries);
            let after = disk(&log, upto, Cut::Random, seed);
            let safe = entries[..upto].iter().rposition(|entry| entry.3 == FLUSH).unwrap_or(0);
            for sector in 0..15_u64 {
                let touching = entries[..upto].iter().enumerate()
                    .filter(|(_, e)| (e.0..e.0 + e.2).contains(&sector));
                let mut allowed = vec![0_u8];
                for (index, entry) in touching {
                    if index < safe || entry.3 == FUA {
                        allowed.clear();
                    }
                    allowed.push(entry.1);
                }
                prop_assert!(allowed.contains(&after[usize::try_from(sector).unwrap()]));
            }
        }

        #[test]
        fn the_same_seed_gives_the_same_disk(seed: u64) {
            let (_file, log) = handmade(&[(0, 1, 4, 0), (4, 2, 4, 0), (8, 3, 4, 0)]);
            prop_assert_eq!(disk(&log, 3, Cut::Random, seed), disk(&log, 3, Cut::Random, seed));
        }
    }
}
