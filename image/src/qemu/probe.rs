//! Whether KVM works here. The device may be there and a guest hang silently all the same (inside another
//! hypervisor), so a kernel is booted, without a root, until it says that it found none.

use super::{Acceleration, Machine, Options, QemuError};
use crate::file::failed;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A kernel under KVM gets there in about a second.
const LIMIT: Duration = Duration::from_secs(10);
/// Another one each time this machine starts.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// What a kernel says when it has come to the end of its own start and there is nothing to run.
const ALIVE: &str = "Unable to mount root fs|No working init found|Run /init as init process";

/// Boots `kernel` under KVM with a short limit; anything but a guest that starts means emulation. The answer
/// is kept in `directory` for as long as this machine is up.
///
/// # Errors
/// When the probe's files can't be made or QEMU can't be started.
pub fn probe(kernel: &Path, directory: &Path) -> Result<Acceleration, QemuError> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Acceleration::Emulated);
    }
    let answer = directory.join("answer");
    let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let said = |acceleration: Acceleration| format!("{}\n{acceleration:?}\n", boot.trim());
    // Where the machine does not say which boot this is, the answer can't be kept.
    let kept = fs::read_to_string(&answer).ok().filter(|_| !boot.is_empty());
    for acceleration in [Acceleration::Kvm, Acceleration::Emulated] {
        if kept.as_deref() == Some(&said(acceleration)) {
            return Ok(acceleration);
        }
    }
    let acceleration = boot_under_kvm(kernel, directory)?;
    fs::write(&answer, said(acceleration)).map_err(failed("write", &answer))?;
    Ok(acceleration)
}

fn boot_under_kvm(kernel: &Path, directory: &Path) -> Result<Acceleration, QemuError> {
    let empty = directory.join("empty");
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&empty, crate::newc::Archive::new().to_bytes(0)))
        .map_err(failed("write", &empty))?;
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
