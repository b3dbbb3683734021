//! What a standing zone has on the data disk: its record, its folder with its logs and its `/out`, and their quota. What
//! makes the disk write is handed to its worker; what came of it is taken in here.

use super::life::{Desired, Event};
use super::turn::{Did, Later};
use super::{Zone, record::Record};
use crate::chain;
use crate::daemon::Daemon;
use crate::disk::file::failed;
use crate::disk::{FileError, Job};
use crate::failpoint;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sys::{project, quota};
use wire::standing::ZoneName;

const MIB: u64 = 1 << 20;
/// The log's files, in a zone's folder.
pub(super) const LOGS: [&str; 2] = ["log.0", "log.1"];
/// Where a zone's output is, in its folder.
pub(super) const OUT: &str = "out";

/// Bytes of a zone's disk for which it may have one file: a filesystem has one inode for so many (`inode_ratio` of
/// mke2fs.conf(5)), and files of nothing would use up those of all others.
const BYTES_A_FILE: u64 = 16 * 1024;
/// ... and at least so many files, the folders of the zone itself among them.
const FILES_MIN: u64 = 1024;

/// How many files a zone may have on a disk of this size; 0, no limit, without one.
pub(super) const fn files_of(bytes: u64) -> u64 {
    match bytes / BYTES_A_FILE {
        _ if bytes == 0 => 0,
        few if few < FILES_MIN => FILES_MIN,
        files => files,
    }
}

/// The limit on what a zone may keep on the data disk; nothing where there are no quotas.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    data: Option<Arc<File>>,
    project: u32,
}

impl Quota {
    /// Sets it; 0 takes it away.
    pub(super) fn set(&self, bytes: u64) -> io::Result<()> {
        let Some(data) = &self.data else { return Ok(()) };
        quota::limit_project(data.as_fd(), self.project, bytes, files_of(bytes))
    }
}

/// The files of a zone, to be made.
struct Files {
    place: PathBuf,
    quota: Quota,
    bytes: u64,
    user: u32,
}

impl Files {
    fn make(&self) -> Result<(), FileError> {
        let place = &self.place;
        let folder = File::open(place).map_err(failed("open", place))?;
        self.quota.set(self.bytes).map_err(failed("set the quota of", place))?;
        if self.quota.data.is_some() {
            let set = project::set_project_below(folder.as_fd(), self.quota.project);
            set.map_err(|errno| failed("set the project of", place)(errno.into()))?;
        }
        for log in LOGS {
            let path = place.join(log);
            let mut how = File::options();
            how.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            how.open(&path).map_err(failed("make", &path))?;
        }
        self.make_out(&place.join(OUT))?;
        failpoint::hit("files-made");
        Ok(())
    }

    fn make_out(&self, out: &Path) -> Result<(), FileError> {
        match fs::create_dir(out) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(failed("make", out)(error)),
        }
        fs::set_permissions(out, fs::Permissions::from_mode(0o755))
            .and_then(|()| std::os::unix::fs::chown(out, Some(self.user), Some(self.user)))
            .map_err(failed("set the owner of", out))
    }
}

impl Daemon {
    pub(super) fn quota_of(&self, zone: &Zone) -> Quota {
        let project = crate::slot::PROJECT_BASE + zone.record.number;
        Quota { data: self.quota.clone(), project }
    }

    /// Has what is wanted of a zone written down, if it is not on disk already.
    pub(super) fn write_record(&mut self, name: &ZoneName) -> Did {
        let Some(zone) = self.standing.zones.get_mut(name) else { return Did::Now(None) };
        let desired = zone.life.desired;
        zone.record.desired = desired;
        if zone.recorded == Some(desired) {
            return Did::Now(None);
        }
        Did::Later(self.standing.records.job(&zone.record), Later::Record(desired))
    }

    pub(super) fn record_written(
        &mut self,
        name: &ZoneName,
        desired: Desired,
        written: Result<(), String>,
    ) {
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        zone.recorded = written.is_ok().then_some(desired);
        if let Err(why) = written {
            // What is wanted holds until zoned ends; a person is told that it is not on disk.
            eprintln!("zoned: zone {name}: {why}");
            zone.note(format!("its record could not be written: {why}"));
        }
    }

    pub(super) fn make_files(&self, name: &ZoneName) -> Did {
        let Some(zone) = self.standing.zones.get(name) else { return Did::Now(Some(Event::Made)) };
        let Record { number, spec, .. } = &zone.record;
        let files = Files {
            place: self.standing.records.place(name),
            quota: self.quota_of(zone),
            bytes: spec.carve.disk_mib * MIB,
            user: crate::slot::USER_BASE + number * crate::slot::USERS,
        };
        Did::Later(Job::alone(move || files.make()), Later::Files)
    }

    pub(super) fn files_made(&self, made: Result<(), FileError>) -> Event {
        made.map_or_else(|error| Event::NotMade(chain(&error)), |()| Event::Made)
    }

    /// Limits what the zone may keep on the data disk.
    pub(super) fn limit_disk(&self, zone: &Zone) -> Job {
        let (quota, bytes) = (self.quota_of(zone), zone.record.spec.carve.disk_mib * MIB);
        let place = self.standing.records.place(&zone.record.spec.name);
        Job::alone(move || quota.set(bytes).map_err(failed("set the quota of", &place)))
    }

    /// Has a zone's files removed. Until they are, nobody else has its name or its number.
    pub(super) fn forget(&mut self, name: &ZoneName) -> Did {
        let Some(zone) = self.standing.zones.get(name) else { return Did::Now(None) };
        // That it is to go is on disk, and its files with it whenever the power goes.
        let synced = zone.recorded != Some(Desired::Deleted);
        let (quota, remove) = (self.quota_of(zone), self.standing.records.removal(name, synced));
        let place = self.standing.records.place(name);
        let job = Job::alone(move || {
            let removed = remove();
            let freed = quota.set(0).map_err(failed("take away the quota of", &place));
            removed.and(freed)
        });
        Did::Later(job, Later::Removal)
    }

    pub(super) fn forgotten(&mut self, name: &ZoneName, removed: Result<(), FileError>) {
        if let Err(error) = removed {
            eprintln!("zoned: zone {name} leaves something: {}", chain(&error));
        }
        self.standing.remove(name);
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_disk_without_a_limit_has_none_of_files() {
        assert_eq!(files_of(0), 0);
        assert_eq!(files_of(1), FILES_MIN);
        assert_eq!(files_of(1 << 30), 65_536);
    }

    proptest! {
        #[test]
        fn a_larger_disk_never_has_fewer_files(less: u64, more: u64) {
            let (less, more) = (less.min(more).max(1), less.max(more).max(1));
            prop_assert!(FILES_MIN <= files_of(less) && files_of(less) <= files_of(more));
        }
    }
}
