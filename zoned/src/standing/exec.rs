//! Sessions: something is run in a zone for a person, who gets the other ends of its descriptors.
//!
//! zoned makes terminal and pipes, so no descriptor ever comes out of a zone. The terminal is one of the
//! zone's own devpts, found through its first process without following anything that a tenant may name.

use super::Zone;
use crate::zone::Launcher;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use nix::unistd::{Gid, Uid, fchown, pipe2};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use sys::pty;
use wire::standing::WindowSize;

/// `/dev/pts/ptmx` (`Documentation/admin-guide/devices.txt`).
const PTMX: (u64, u64) = (5, 2);

/// Both ends of what a session speaks through; none of one that is detached.
#[derive(Default)]
pub(super) struct Ends {
    /// For the zone: a terminal, or stdin, stdout and stderr.
    pub(super) zone: Vec<OwnedFd>,
    /// For the person, likewise.
    pub(super) person: Vec<OwnedFd>,
}

/// Three pipes.
pub(super) fn pipes() -> io::Result<Ends> {
    let (stdin, to_stdin) = pipe2(OFlag::O_CLOEXEC)?;
    let (from_stdout, stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let (from_stderr, stderr) = pipe2(OFlag::O_CLOEXEC)?;
    let zone = vec![stdin, stdout, stderr];
    Ok(Ends { zone, person: vec![to_stdin, from_stdout, from_stderr] })
}

/// A terminal of the zone's own.
pub(super) fn terminal(zone: &Zone, size: WindowSize) -> io::Result<Ends> {
    let master = open_ptmx(zone, OFlag::O_RDWR | OFlag::O_NOCTTY)?;
    let found = fstat(&master)?;
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFCHR || (major(found.st_rdev), minor(found.st_rdev)) != PTMX {
        return Err(io::Error::other("the zone's /dev/pts/ptmx is none"));
    }
    let terminal = pty::terminal(master.as_fd())?;
    pty::set_size(master.as_fd(), size.rows, size.columns)?;
    let user = crate::slot::USER_BASE + zone.record.number * crate::slot::USERS;
    fchown(&terminal, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?;
    Ok(Ends { zone: vec![terminal], person: vec![master] })
}

/// Sees to it that the zone has /proc and terminals before something runs in it: one with a command has them from the
/// start, another from its first session on.
pub(super) fn prepare(zone: &Zone, launcher: &Launcher) -> io::Result<()> {
    match open_ptmx(zone, OFlag::O_PATH) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let body = zone.body.as_ref().ok_or(io::ErrorKind::NotFound)?;
            launcher.furnish(body.pidfd.as_fd())
        }
        Err(error) => Err(error),
    }
}

/// Opens the zone's `/dev/pts/ptmx`.
fn open_ptmx(zone: &Zone, flags: OFlag) -> io::Result<OwnedFd> {
    let body = zone.body.as_ref().ok_or(io::ErrorKind::NotFound)?;
    let pid = pid_of(body.pidfd.as_raw_fd())?;
    let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(format!("/proc/{pid}/root").as_str(), folder, Mode::empty())?;
    // The number still names it only if it is still there.
    if pid_of(body.pidfd.as_raw_fd())? != pid {
        return Err(io::ErrorKind::NotFound.into());
    }
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    Ok(openat2(&root, "dev/pts/ptmx", how)?)
}

/// The process that a pidfd names, in our own numbers (pidfd_open(2), fdinfo).
fn pid_of(pidfd: i32) -> io::Result<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{pidfd}"))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    match number.and_then(|number| number.trim().parse().ok()) {
        // -1: it has ended.
        Some(pid) if pid > 0 => Ok(pid),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}
