//! What a machine is made of, and the QEMU command line that makes it.

use super::QemuError;
use crate::file::failed;
use crate::newc;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The data disk's backend, as QEMU's monitor names it: by the `id` of its device below.
pub(super) const DATA_DISK: &str = "/machine/peripheral/data-disk/virtio-backend";
/// Before what a caller adds: messages on the serial console, and no hanging after a panic.
const COMMAND_LINE: &str = "console=ttyS0 panic=10";
/// Without the SATA controller that nothing is attached to: the kernel waits for its empty ports.
const MACHINE: &str = "q35,sata=off";
/// Where the guest finds its configuration (`/sys/firmware/qemu_fw_cfg/by_name/…`).
const CONFIG_NAME: &str = "opt/mobula/config";
/// The longest path of a Unix socket, its final zero included (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 108;

/// How the guest's instructions are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceleration {
    /// By the processor. Only after [`probe`](super::probe) has seen a guest boot.
    Kvm,
    /// By QEMU, which works everywhere.
    Emulated,
    /// By QEMU, and counted: an instruction takes a nanosecond of the guest's time, whatever else the host does.
    Counted,
}

impl Acceleration {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            // QEMU 7.2 emulates cmpxchg16b wrongly now and then: a kernel that sees it oopses in about
            // one boot of three, and never when it is masked.
            Self::Emulated => &["-accel", "tcg,thread=multi", "-cpu", "max,-cx16"],
            // Processors take turns on one thread: what is counted is the sum.
            Self::Counted => {
                &["-accel", "tcg,thread=single", "-cpu", "max,-cx16", "-icount", "shift=0"]
            }
        }
    }
}

/// A port of the host's 127.0.0.1 that leads to one of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// On the host.
    pub host: u16,
    /// In the guest.
    pub guest: u16,
}

/// The disk that keeps the state.
#[derive(Debug, Clone)]
pub struct DataDisk {
    /// Its file; made sparse, with `bytes` zeros, if it does not exist.
    pub path: PathBuf,
    /// Its size when made.
    pub bytes: u64,
    /// Where every write and flush is logged (QEMU's blklogwrites), if it is to be.
    pub write_log: Option<PathBuf>,
}

/// A read-only disk with a zone image; its serial is `mobula-` and the name.
#[derive(Debug, Clone)]
pub struct ZoneImage {
    /// The image's name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
}

/// A machine to be started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// More cpio archives, unpacked over the initramfs.
    pub more_archives: Vec<PathBuf>,
    /// Added to the kernel's command line.
    pub command_line: String,
    /// The data disk, if it has one.
    pub data_disk: Option<DataDisk>,
    /// Disks with zone images.
    pub zone_images: Vec<ZoneImage>,
    /// The machine's configuration, handed over by fw_cfg.
    pub config: Option<String>,
    /// Ports that lead in. Without user networking (`network: false`) there are none.
    pub forwards: Vec<Forward>,
    /// Whether it has a network card.
    pub network: bool,
    /// Where its console log, monitor socket and files go.
    pub directory: PathBuf,
    /// Processors.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Whether a reboot of the guest ends QEMU.
    pub end_on_reboot: bool,
    /// After this long it is killed, whatever it does.
    pub time_limit: Duration,
    /// How instructions are carried out.
    pub acceleration: Acceleration,
    /// More arguments for QEMU.
    pub more_arguments: Vec<OsString>,
}

impl Options {
    /// Two processors, 2 GiB, a network card with nothing forwarded, no disk, ten minutes at most.
    #[must_use]
    pub fn new(kernel: PathBuf, initramfs: PathBuf, directory: PathBuf) -> Self {
        Self {
            kernel,
            initramfs,
            more_archives: Vec::new(),
            command_line: String::new(),
            data_disk: None,
            zone_images: Vec::new(),
            config: None,
            forwards: Vec::new(),
            network: true,
            directory,
            cpus: 2,
            memory_mib: 2048,
            end_on_reboot: true,
            time_limit: Duration::from_secs(600),
            acceleration: Acceleration::Emulated,
            more_arguments: Vec::new(),
        }
    }
}

pub(super) fn console_path(directory: &Path) -> PathBuf {
    directory.join("console.log")
}

pub(super) fn monitor_path(directory: &Path) -> PathBuf {
    directory.join("qmp")
}

/// Makes the machine's files and gives QEMU's arguments.
pub(super) fn prepare(options: &Options) -> Result<Vec<OsString>, QemuError> {
    let directory = &options.directory;
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    let monitor = monitor_path(directory);
    if monitor.as_os_str().len() >= SOCKET_PATH_BYTES_MAX {
        let source =
            io::Error::other("the path is too long for a socket: choose a shorter directory");
        return Err(failed("listen on", &monitor)(source).into());
    }
    for stale in [console_path(directory), monitor] {
        match fs::remove_file(&stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &stale)(error).into());
            }
            _ => {}
        }
    }
    let initramfs = initramfs(options)?;
    if let Some(disk) = &options.data_disk {
        make_disk(&disk.path, disk.bytes)?;
        if let Some(log) = &disk.write_log {
            fs::write(log, []).map_err(failed("create", log))?;
        }
    }
    if let Some(config) = &options.config {
        let path = directory.join("config.toml");
        write_private(&path, config).map_err(failed("write", &path))?;
    }
    Ok(arguments(options, &initramfs))
}

/// The command line of QEMU, once all files are there.
fn arguments(options: &Options, initramfs: &Path) -> Vec<OsString> {
    let mut line = Arguments::default();
    let directory = &options.directory;
    line.plain(&["-nodefaults", "-no-user-config", "-display", "none", "-machine", MACHINE]);
    line.plain(options.acceleration.arguments());
    line.plain(&["-smp", &options.cpus.to_string(), "-m", &options.memory_mib.to_string()]);
    line.plain(&["-device", "virtio-rng-pci"]);
    if options.end_on_reboot {
        line.plain(&["-no-reboot"]);
    }
    line.path("-kernel", "", &options.kernel, "");
    line.path("-initrd", "", initramfs, "");
    line.plain(&["-append", format!("{COMMAND_LINE} {}", options.command_line).trim_end()]);
    line.path("-chardev", "file,id=console,path=", &console_path(directory), "");
    line.plain(&["-serial", "chardev:console"]);
    line.path("-qmp", "unix:", &monitor_path(directory), ",server=on,wait=off");
    if let Some(disk) = &options.data_disk {
        data_disk(&mut line, disk);
    }
    for image in &options.zone_images {
        zone_image(&mut line, image);
    }
    if options.config.is_some() {
        let name = format!("name={CONFIG_NAME},file=");
        line.path("-fw_cfg", &name, &directory.join("config.toml"), "");
    }
    if options.network {
        let mut network = "user,id=net".to_owned();
        for Forward { host, guest } in &options.forwards {
            network.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
        }
        line.plain(&["-netdev", &network, "-device", "virtio-net-pci,netdev=net,romfile="]);
    }
    line.list.extend(options.more_arguments.iter().cloned());
    line.list
}

fn data_disk(line: &mut Arguments, disk: &DataDisk) {
    match &disk.write_log {
        None => {
            let raw = "driver=raw,node-name=data,discard=unmap,file.driver=file,file.filename=";
            line.path("-blockdev", raw, &disk.path, "");
        }
        Some(log) => {
            line.path("-blockdev", "driver=file,node-name=data-file,filename=", &disk.path, "");
            line.path("-blockdev", "driver=file,node-name=data-log,filename=", log, "");
            line.plain(&[
                "-blockdev",
                "driver=blklogwrites,node-name=data,file=data-file,log=data-log,log-sector-size=512",
            ]);
        }
    }
    line.plain(&["-device", "virtio-blk-pci,drive=data,serial=data,id=data-disk"]);
}

fn zone_image(line: &mut Arguments, image: &ZoneImage) {
    let name = &image.name;
    let node =
        format!("driver=raw,node-name=image-{name},read-only=on,file.driver=file,file.filename=");
    line.path("-blockdev", &node, &image.path, "");
    line.plain(&["-device", &format!("virtio-blk-pci,drive=image-{name},serial=mobula-{name}")]);
}

/// The initramfs, with whatever is to be unpacked over it appended.
fn initramfs(options: &Options) -> Result<PathBuf, QemuError> {
    if options.more_archives.is_empty() {
        return Ok(options.initramfs.clone());
    }
    let read = |path: &PathBuf| fs::read(path).map_err(failed("read", path));
    let mut all = read(&options.initramfs)?;
    for archive in &options.more_archives {
        newc::pad(&mut all);
        all.extend_from_slice(&read(archive)?);
    }
    let path = options.directory.join("initramfs");
    fs::write(&path, all).map_err(failed("write", &path))?;
    Ok(path)
}

/// The configuration holds keys.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn make_disk(path: &Path, bytes: u64) -> Result<(), QemuError> {
    match fs::File::create_new(path) {
        Ok(file) => Ok(file.set_len(bytes).map_err(failed("size", path))?),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("create", path)(error).into()),
    }
}

/// Arguments in the making; QEMU wants commas in file names doubled.
#[derive(Default)]
struct Arguments {
    list: Vec<OsString>,
}

impl Arguments {
    fn plain(&mut self, arguments: &[&str]) {
        self.list.extend(arguments.iter().map(OsString::from));
    }

    fn path(&mut self, flag: &str, before: &str, path: &Path, after: &str) {
        let escaped = match path.to_str() {
            Some(text) if !before.is_empty() => OsString::from(text.replace(',', ",,")),
            _ => path.as_os_str().to_owned(),
        };
        let mut argument = OsString::from(before);
        argument.push(escaped);
        argument.push(after);
        self.list.extend([OsString::from(flag), argument]);
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn options() -> Options {
        Options::new("bzImage".into(), "initramfs".into(), "/run/a,b".into())
    }

    fn line(options: &Options) -> String {
        let list = arguments(options, &options.initramfs);
        list.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn emulation_never_shows_cmpxchg16b() {
        assert!(line(&options()).contains("-accel tcg,thread=multi -cpu max,-cx16"));
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        assert!(line(&options()).contains("path=/run/a,,b/console.log"));
    }

    #[test]
    fn a_write_log_stands_between_the_guest_and_the_disk() {
        let disk = DataDisk { path: "d".into(), bytes: 1, write_log: Some("l".into()) };
        let line = line(&Options { data_disk: Some(disk), ..options() });
        assert!(line.contains("driver=blklogwrites,node-name=data,file=data-file,log=data-log"));
        assert!(line.contains("virtio-blk-pci,drive=data,"));
    }

    #[test]
    fn forwards_are_reachable_from_this_machine_only() {
        let forwards = vec![Forward { host: 1234, guest: 9000 }];
        let line = line(&Options { forwards, ..options() });
        assert!(line.contains("hostfwd=tcp:127.0.0.1:1234-:9000"));
    }

    #[test]
    fn archives_are_appended_where_the_kernel_looks_for_them() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("1"), directory.path().join("2"));
        fs::write(&first, b"abcde").unwrap();
        fs::write(&second, b"070701").unwrap();
        let mut options = Options::new("k".into(), first, directory.path().into());
        options.more_archives = vec![second];
        let all = fs::read(initramfs(&options).unwrap()).unwrap();
        assert_eq!(all, b"abcde\x00\x00\x00070701");
    }
}
