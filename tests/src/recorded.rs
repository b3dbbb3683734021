//! A disk of this machine whose writes and flushes are logged, and file systems on files.
//!
//! ```text
//!   ext4 ─▶ loop device ─▶ a file shown by FUSE ─▶ qemu-storage-daemon: blklogwrites ─▶ log
//!                                                                              └─▶ disk
//! ```
//! QEMU's storage daemon alone does this; no machine is emulated. It takes root, for the loop devices.

use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the storage daemon may take to show the disk.
const SHOW_TIME: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Runs a command that must succeed; what it says.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Makes an ext4 file system in a new, sparse file: with the features of the appliance's that this kernel has
/// any use for.
///
/// # Errors
/// If it can't be made.
pub fn format(disk: &Path, bytes: u64) -> Result<()> {
    let file = File::create(disk).with_context(|| format!("making {}", disk.display()))?;
    file.set_len(bytes)?;
    drop(file);
    run(Command::new("mkfs.ext4").args(["-q", "-I", "512", "-m", "1"]).arg(disk)).map(drop)
}

/// A file system on a file, mounted; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    device: String,
    /// Where it is.
    pub target: PathBuf,
}

impl Mounted {
    /// Mounts the file system in `file` at `target`, made if missing.
    ///
    /// # Errors
    /// If it can't be mounted.
    pub fn new(file: &Path, target: &Path) -> Result<Self> {
        std::fs::create_dir_all(target)?;
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(file))?;
        // From here on the device is let go of, whatever happens.
        let mounted = Self { device, target: target.to_owned() };
        let options = ["-t", "ext4", "-o", "noatime,nodev,nosuid,noexec,errors=remount-ro"];
        run(Command::new("mount").args(options).arg(&mounted.device).arg(target))?;
        Ok(mounted)
    }

    /// Unmounts it.
    ///
    /// # Errors
    /// If it is in use.
    pub fn unmount(self) -> Result<()> {
        run(Command::new("umount").arg(&self.target)).map(drop)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It may be unmounted already, and a test that failed says so itself.
        drop(Command::new("umount").arg(&self.target).stderr(Stdio::null()).status());
        drop(Command::new("losetup").arg("--detach").arg(&self.device).status());
    }
}

/// The storage daemon, showing a disk as a file and logging what is done to it.
#[derive(Debug)]
pub struct Recorder {
    daemon: Child,
    /// The file that is the disk.
    pub shown: PathBuf,
}

impl Recorder {
    /// Shows the disk in `disk` at `shown`, and logs to `log`.
    ///
    /// # Errors
    /// If the daemon does not run.
    pub fn start(disk: &Path, log: &Path, shown: &Path) -> Result<Self> {
        File::create(log)?;
        File::create(shown)?;
        let path = |path: &Path| -> Result<String> {
            Ok(path.to_str().context("a path in UTF-8")?.replace(',', ",,"))
        };
        let length = disk.metadata()?.len();
        let file = |name: &str, at: &Path| -> Result<String> {
            Ok(format!("driver=file,node-name={name},filename={}", path(at)?))
        };
        let daemon = Command::new("qemu-storage-daemon")
            .args(["--blockdev", &file("file", disk)?])
            .args(["--blockdev", "driver=raw,node-name=disk,file=file"])
            .args(["--blockdev", &file("logfile", log)?])
            .args(["--blockdev", "driver=blklogwrites,node-name=log,file=disk,log=logfile"])
            .arg("--export")
            .arg(format!(
                "type=fuse,id=shown,node-name=log,mountpoint={},writable=on",
                path(shown)?
            ))
            .stdin(Stdio::null())
            .spawn()
            .context("starting qemu-storage-daemon (Debian: qemu-system-common)")?;
        let mut recorder = Self { daemon, shown: shown.to_owned() };
        let deadline = Instant::now() + SHOW_TIME;
        while shown.metadata()?.len() != length {
            if let Some(status) = recorder.daemon.try_wait()? {
                bail!("qemu-storage-daemon ended with {status}");
            }
            ensure!(Instant::now() < deadline, "the disk is not shown in {SHOW_TIME:?}");
            std::thread::sleep(POLL);
        }
        Ok(recorder)
    }

    /// Ends it, the log complete.
    ///
    /// # Errors
    /// If it does not end well.
    pub fn end(mut self) -> Result<()> {
        let id = self.daemon.id().to_string();
        run(Command::new("kill").args(["-TERM", &id]))?;
        let status = self.daemon.wait()?;
        ensure!(status.success(), "qemu-storage-daemon ended with {status}");
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // It has ended already unless something failed.
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}
