//! The data disk: found or formatted, checked, mounted, laid out. What is to be done is decided in
//! [`super::decision`]; here it is done.

use super::content::{MARK_BYTES, Mark};
use super::decision::{Decision, decide};
use super::files::{self, FileError};
use super::inventory::{self, device};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use sys::mount::{self, Options};
use thiserror::Error;

/// Where the data disk is mounted.
pub const DATA: &str = "/data";
/// The view of objects that whatever goes to a zone is opened beneath.
pub const VIEW: &str = "/run/mobula/objects";
const OBJECTS: &str = "/data/store/objects";
/// storaged's user and group.
const STORAGED: u32 = 200;
/// Bytes in a block of the filesystem: fs-verity wants a page.
const BLOCK_BYTES: u64 = 4096;
/// e2fsck's exit codes from this one on mean that errors are left.
const FSCK_LEFT: i32 = 4;
/// Where the tools may be.
const TOOL_FOLDERS: [&str; 2] = ["/sbin", "/usr/sbin"];
/// The most bytes of a tool's complaint that people are shown.
const COMPLAINT_BYTES_MAX: usize = 600;

/// What can go wrong with the data disk.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The list of disks can't be had.
    #[error("cannot list disks: {0}")]
    List(#[source] io::Error),
    /// The disk can't be read or written.
    #[error("cannot {act} {disk}: {source}")]
    Device {
        /// What was tried.
        act: &'static str,
        /// The disk.
        disk: String,
        /// Why not.
        source: io::Error,
    },
    /// The disk is too small for a mark, though it was found large enough.
    #[error("{0} has shrunk while it was looked at")]
    Shrunk(String),
    /// A tool is not in this image or does not run.
    #[error("cannot run {tool}: {source}")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A tool failed.
    #[error("{tool} failed on {disk}: {complaint}")]
    Failed {
        /// Its name.
        tool: &'static str,
        /// The disk.
        disk: String,
        /// What it wrote.
        complaint: String,
    },
    /// The filesystem is damaged.
    #[error(
        "the data disk {disk} is damaged and was not mounted: {complaint}. Take it to a machine with e2fsck \
         and repair it there, or replace it"
    )]
    Damaged {
        /// The disk.
        disk: String,
        /// What e2fsck wrote.
        complaint: String,
    },
    /// It can't be mounted.
    #[error("cannot mount {disk} at {DATA}: {source}")]
    Mount {
        /// The disk.
        disk: String,
        /// Why not.
        source: io::Error,
    },
    /// The view of objects can't be mounted.
    #[error("cannot show {OBJECTS} at {VIEW}: {0}")]
    View(#[source] io::Error),
    /// A directory or file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What came of a look at the disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The data disk is mounted.
    Mounted {
        /// Which disk it is.
        disk: String,
        /// It was formatted for that.
        formatted: bool,
        /// Project quota is on.
        quota: bool,
    },
    /// It was mounted before: noded was started again.
    Already,
    /// A person has to do this.
    Wait(String),
}

/// Looks at all disks and mounts the data disk if there is one. A blank disk is only formatted if a second
/// look, `settle` later, finds the same: a data disk that is slow to appear must not be replaced by it.
///
/// # Errors
/// [`DiskError`]; trying again is safe after each.
pub fn find_and_mount(settle: &mut dyn FnMut(&str)) -> Result<Outcome, DiskError> {
    if is_mounted(DATA) {
        return Ok(Outcome::Already);
    }
    let look = || inventory::disks().map(|disks| decide(&disks)).map_err(DiskError::List);
    let (disk, formatted) = match look()? {
        Decision::Wait(text) => return Ok(Outcome::Wait(text)),
        Decision::Mount(disk) => (disk, false),
        Decision::Format(first) => {
            settle(&first);
            match look()? {
                Decision::Format(disk) if disk == first => {
                    format(&disk)?;
                    (disk, true)
                }
                Decision::Mount(disk) => (disk, false),
                Decision::Format(_) | Decision::Wait(_) => {
                    return Ok(Outcome::Wait("the disks have changed; looking again".to_owned()));
                }
            }
        }
    };
    check(&disk)?;
    let quota = mount_data(&disk)?;
    Ok(Outcome::Mounted { disk, formatted, quota })
}

/// Whether something is mounted at `target`.
#[must_use]
pub fn is_mounted(target: &str) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    crate::unmount::parse(&table).iter().any(|entry| entry.target == Path::new(target))
}

/// Formats a disk: mark, mke2fs, sync, unmark, sync. Interrupted anywhere, it is found half formatted, or
/// as blank as before, and formatted again.
fn format(disk: &str) -> Result<(), DiskError> {
    let path = device(disk);
    let fault = |act| move |source| DiskError::Device { act, disk: disk.to_owned(), source };
    let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(fault("open"))?;
    let bytes = file.seek(SeekFrom::End(0)).map_err(fault("measure"))?;
    let offset = Mark::offset(bytes).ok_or_else(|| DiskError::Shrunk(disk.to_owned()))?;
    let mark = match read_mark(&mut file, offset).map_err(fault("read"))? {
        Some(mark) if mark.disk_bytes == bytes => mark,
        Some(_) | None => Mark { uuid: new_uuid().map_err(fault("name"))?, disk_bytes: bytes },
    };
    write_at(&mut file, offset, &mark.encode()).map_err(fault("mark"))?;
    make_filesystem(disk, &path, &mark, offset / BLOCK_BYTES)?;
    file.sync_all().map_err(fault("sync"))?;
    write_at(&mut file, offset, &[0; MARK_BYTES]).map_err(fault("unmark"))
}

fn read_mark(file: &mut File, offset: u64) -> io::Result<Option<Mark>> {
    let mut bytes = [0; MARK_BYTES];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut bytes)?;
    Ok(Mark::decode(&bytes))
}

fn write_at(file: &mut File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn new_uuid() -> io::Result<[u8; 16]> {
    let mut uuid = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut uuid)?;
    // RFC 9562, version 4.
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}

fn uuid_text(uuid: &[u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// mke2fs with what the store needs: fs-verity (integrity), project quota (disk limits of tasks), inodes
/// large enough for extended attributes inside. One in a hundred blocks stays for root.
fn make_filesystem(disk: &str, path: &Path, mark: &Mark, blocks: u64) -> Result<(), DiskError> {
    let (uuid, blocks) = (uuid_text(&mark.uuid), blocks.to_string());
    let path = path.to_string_lossy();
    let options = [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-I",
        "512",
        "-m",
        "1",
        "-O",
        "verity,quota,project",
        "-E",
        "quotatype=prjquota",
        "-L",
        "MOBULA-DATA",
        "-U",
        &uuid,
        &path,
        &blocks,
    ];
    let (code, complaint) = run("mke2fs", &options)?;
    if code == Some(0) {
        return Ok(());
    }
    Err(DiskError::Failed { tool: "mke2fs", disk: disk.to_owned(), complaint })
}

/// Repairs what can be repaired without a question; the journal is replayed here too.
fn check(disk: &str) -> Result<(), DiskError> {
    let path = device(disk);
    let (code, complaint) = run("e2fsck", &["-p", &path.to_string_lossy()])?;
    match code {
        Some(code) if code < FSCK_LEFT => Ok(()),
        Some(_) | None => Err(DiskError::Damaged { disk: disk.to_owned(), complaint }),
    }
}

fn run(tool: &'static str, arguments: &[&str]) -> Result<(Option<i32>, String), DiskError> {
    let places = TOOL_FOLDERS.iter().map(|folder| Path::new(folder).join(tool));
    let path = places.into_iter().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from(tool));
    let output = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| DiskError::Tool { tool, source })?;
    let text = [output.stdout, output.stderr].concat();
    let complaint = crate::notice::printable(&text, COMPLAINT_BYTES_MAX);
    Ok((output.status.code(), complaint))
}

/// Mounts the data filesystem; tells whether project quota is on, which a kernel may lack.
fn mount_data(disk: &str) -> Result<bool, DiskError> {
    let (source, target) = (device(disk), Path::new(DATA));
    let options = Options { no_atime: true, ..Options::INERT };
    // The reserved blocks (mke2fs -m 1) are storaged's: when tasks have filled the disk, deletes and the
    // index still have room.
    let data = format!("resuid={STORAGED},errors=remount-ro");
    let with = mount::attach("ext4", &source, target, options, &format!("prjquota,{data}"));
    if with.is_ok() {
        return Ok(true);
    }
    mount::attach("ext4", &source, target, options, &data)
        .map_err(|source| DiskError::Mount { disk: disk.to_owned(), source })?;
    Ok(false)
}

/// Makes the directories that daemons expect, and the read-only view of objects.
///
/// # Errors
/// [`DiskError`]; trying again is safe.
pub fn lay_out() -> Result<(), DiskError> {
    folder("/data/store", 0o700, STORAGED)?;
    folder(OBJECTS, 0o700, STORAGED)?;
    folder("/data/images", 0o755, 0)?;
    folder("/data/node", 0o700, 0)?;
    files::sync_folder_of(Path::new("/data/store"))?;
    folder(VIEW, 0o700, STORAGED)?;
    if is_mounted(VIEW) {
        return Ok(());
    }
    let options = Options { read_only: true, ..Options::INERT };
    mount::bind(Path::new(OBJECTS), Path::new(VIEW), options).map_err(DiskError::View)
}

fn folder(path: &str, mode: u32, owner: u32) -> Result<(), FileError> {
    let path = Path::new(path);
    if path == Path::new(VIEW) && is_mounted(VIEW) {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(FileError::of("make", path))?;
    chown(path, Some(owner), Some(owner)).map_err(FileError::of("give away", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(FileError::of("set the mode of", path))
}

#[cfg(test)]
mod test {
    use super::super::content::{Content, DISK_BYTES_MIN, LOOK_BYTES, MARK_ROOM, classify};
    use super::*;

    fn contents(path: &Path) -> Content {
        let all = std::fs::read(path).unwrap();
        let (head, tail) = (&all[..LOOK_BYTES], &all[all.len() - LOOK_BYTES..]);
        classify(head, tail, all.len() as u64)
    }

    fn blank(folder: &Path) -> PathBuf {
        let path = folder.join("disk");
        File::create(&path).unwrap().set_len(DISK_BYTES_MIN + 12_288).unwrap();
        path
    }

    fn mark_of(path: &Path) -> (Mark, u64) {
        let bytes = path.metadata().unwrap().len();
        (Mark { uuid: *b"0123456789abcdef", disk_bytes: bytes }, Mark::offset(bytes).unwrap())
    }

    /// The story of an interrupted format: marked, half written, killed; then found and done again.
    #[test]
    fn a_format_cut_off_anywhere_is_found_half_formatted_until_the_mark_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = blank(folder.path());
        assert_eq!(contents(&path), Content::Blank);
        let (mark, offset) = mark_of(&path);
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        write_at(&mut file, offset, &mark.encode()).unwrap();
        assert_eq!(contents(&path), Content::HalfFormatted);
        make_filesystem("disk", &path, &mark, offset / BLOCK_BYTES).unwrap();
        assert_eq!(contents(&path), Content::HalfFormatted, "mke2fs must not touch the mark");
        write_at(&mut file, offset, &[0; MARK_BYTES]).unwrap();
        assert_eq!(contents(&path), Content::Data);
    }

    #[test]
    fn the_filesystem_ends_before_the_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = blank(folder.path());
        let (mark, offset) = mark_of(&path);
        make_filesystem("disk", &path, &mark, offset / BLOCK_BYTES).unwrap();
        let head = std::fs::read(&path).unwrap();
        let blocks = u32::from_le_bytes(head[1024 + 4..1024 + 8].try_into().unwrap());
        assert!(u64::from(blocks) * BLOCK_BYTES <= offset);
        assert!(path.metadata().unwrap().len() - offset >= MARK_ROOM);
    }

    #[test]
    fn a_sound_filesystem_passes_and_a_torn_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = blank(folder.path());
        let (mark, offset) = mark_of(&path);
        make_filesystem("disk", &path, &mark, offset / BLOCK_BYTES).unwrap();
        let name = path.to_string_lossy().into_owned();
        assert!(check(&name).is_ok());
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        write_at(&mut file, 4096, &[0x5a; 65536]).unwrap();
        assert!(matches!(check(&name), Err(DiskError::Damaged { .. })));
    }

    #[test]
    fn a_uuid_is_written_as_text() {
        assert_eq!(uuid_text(b"0123456789abcdef"), "30313233-3435-3637-3839-616263646566");
    }
}
