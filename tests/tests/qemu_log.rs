//! The block log that QEMU writes is the one that is read here: no machine is booted, QEMU's own monitor
//! writes to the disk.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use tests::blocklog::{Base, Cut, Log, Request, survivors};

/// In order: 8 KiB of 0xab at 4 KiB, a flush, zeros over half of them, and a sector of 0xcd.
const COMMANDS: &str = "qemu-io log \"write -P 0xab 4096 8192\"\nqemu-io log flush\n\
                        qemu-io log \"write -z 8192 4096\"\nqemu-io log \"write -P 0xcd 0 512\"\nquit\n";

#[test]
fn what_qemu_logs_is_rebuilt() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    File::create(path("disk"))?.set_len(1 << 20)?;
    std::fs::copy(path("disk"), path("base"))?;
    File::create(path("log"))?;
    let file = |node: &str, name: &str| {
        format!("driver=file,node-name={node},filename={}", path(name).display())
    };
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-machine", "none", "-nodefaults", "-display", "none", "-monitor", "stdio"])
        .args(["-blockdev", &file("data", "disk"), "-blockdev", &file("writes", "log")])
        .args(["-blockdev", "driver=blklogwrites,node-name=log,file=data,log=writes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("running qemu-system-x86_64")?;
    qemu.stdin.take().context("a pipe was asked for")?.write_all(COMMANDS.as_bytes())?;
    ensure!(qemu.wait()?.success(), "QEMU failed");

    let log = Log::open(&path("log"))?;
    let writes: Vec<_> = log.entries.iter().filter(|e| e.request != Request::Nothing).collect();
    ensure!(writes.len() == 3, "{:?}", log.entries);
    let bytes = |cut| -> Result<[u8; 3]> {
        let target = tempfile::tempfile()?;
        target.set_len(1 << 20)?;
        let upto =
            log.entries.iter().rposition(|e| e.request != Request::Nothing).context("none")?;
        let kept = survivors(&log.entries, upto + 1, cut, &mut fastrand::Rng::with_seed(1));
        Base::read(&path("base"))?.rebuild(&log, &kept, &target, 0)?;
        let mut bytes = [1; 3];
        for (byte, at) in bytes.iter_mut().zip([0, 4096, 8192]) {
            target.read_exact_at(std::slice::from_mut(byte), at)?;
        }
        Ok(bytes)
    };
    assert_eq!(bytes(Cut::Kind)?, [0xcd, 0xab, 0]);
    // What the flush covers is there, whatever came after it.
    assert_eq!(bytes(Cut::Harsh)?, [0, 0xab, 0xab]);
    Ok(())
}
