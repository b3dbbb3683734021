//! Whether KVM works here. The device may be there and a guest hang silently all the same (inside another
//! hypervisor), so a kernel is booted, without a root, until it says that it found none.

use super::{Acceleration, Machine, Options, QemuError};
use std::path::Path;
use std::time::Duration;

/// A kernel under KVM gets there in about a second.
const LIMIT: Duration = Duration::from_secs(10);
/// What a kernel says when it has come to the end of its own start and there is nothing to run.
const ALIVE: &str = "Unable to mount root fs|No working init found|Run /init as init process";

/// Boots `kernel` under KVM with a short limit; anything but a guest that starts means emulation.
///
/// # Errors
/// When the probe's files can't be made or QEMU can't be started.
pub fn probe(kernel: &Path, directory: &Path) -> Result<Acceleration, QemuError> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Acceleration::Emulated);
    }
    let empty = directory.join("empty");
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(&empty, crate::newc::Archive::new().to_bytes(0)))
        .map_err(|source| QemuError::File { act: "write", path: empty.clone(), source })?;
    let mut options = Options::new(kernel.to_owned(), empty, directory.to_owned());
    options.acceleration = Acceleration::Kvm;
    options.command_line = "panic=-1".to_owned();
    options.network = false;
    options.memory_mib = 512;
    options.time_limit = LIMIT * 2;
    match Machine::start(&options)?.wait_for_line(ALIVE, LIMIT) {
        Ok(_) => Ok(Acceleration::Kvm),
        Err(QemuError::Ended { .. } | QemuError::Timeout { .. }) => Ok(Acceleration::Emulated),
        Err(error) => Err(error),
    }
}
