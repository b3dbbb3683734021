//! Which disk a directory is on, as `io.max` wants it named, and how busy it is.

use super::plan::Disk;
use nix::sys::stat::{major, minor};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where sysfs lists devices by number (sysfs(5)).
const DEVICES: &str = "/sys/dev/block";

/// The disk that a file's filesystem is on; none if it is on no single one.
#[must_use]
pub fn disk_of(file: &File) -> Option<Disk> {
    let device = file.metadata().ok()?.dev();
    whole(Path::new(DEVICES), Disk { major: major(device), minor: minor(device) })
}

/// Milliseconds in which a disk has had something to do until now; none if it does not say.
pub(super) fn busy_ms(disk: Disk) -> Option<u64> {
    // Documentation/block/stat.rst: the tenth number is io_ticks.
    let path = Path::new(DEVICES).join(disk.to_string()).join("stat");
    fs::read_to_string(path).ok()?.split_whitespace().nth(9)?.parse().ok()
}

/// The disk itself, if this is a partition of it: limits on partitions are refused (ENODEV).
fn whole(devices: &Path, device: Disk) -> Option<Disk> {
    let folder = devices.join(device.to_string());
    if !folder.join("dev").exists() {
        return None;
    }
    if !folder.join("partition").exists() {
        return Some(device);
    }
    // A partition's directory is in its disk's; `..` is taken after the link has been followed.
    Disk::parse(&fs::read_to_string(folder.join("../dev")).ok()?)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_partition_is_taken_for_its_disk_and_no_disk_for_none() {
        let place = tempfile::tempdir().unwrap();
        let partition = place.path().join("vdb/vdb1");
        fs::create_dir_all(&partition).unwrap();
        fs::write(place.path().join("vdb/dev"), "254:16\n").unwrap();
        fs::write(partition.join("dev"), "254:17\n").unwrap();
        fs::write(partition.join("partition"), "1\n").unwrap();
        let devices = place.path().join("block");
        fs::create_dir(&devices).unwrap();
        for (name, target) in [("254:16", "../vdb"), ("254:17", "../vdb/vdb1")] {
            std::os::unix::fs::symlink(target, devices.join(name)).unwrap();
        }
        let disk = Disk { major: 254, minor: 16 };
        assert_eq!(whole(&devices, Disk { minor: 17, ..disk }), Some(disk));
        assert_eq!(whole(&devices, disk), Some(disk));
        assert_eq!(whole(&devices, Disk { major: 0, minor: 55 }), None);
    }
}
