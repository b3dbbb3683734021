//! What a zone shows of the node, of others, and of who was in its place before.

use crate::kernel::{effective, field};
use crate::resources::object_path;
use crate::tries::{tried, tried_again, word};
use nix::unistd::{Gid, Uid, chown};
use probe::Line;
use std::fs::{self, File};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use sys::attempt::{self, Argument, attempt};

/// A key of System V IPC, the letters `mo`.
const KEY: u64 = 0x6d6f;
pub const OTHER_USER: u32 = 1000;

pub fn setuid(line: &mut Line) {
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        line.saw(name, field(&format!("{name}:")));
    }
    line.saw("NoNewPrivs", field("NoNewPrivs:"));
    let program = "/tmp/raised";
    let made = fs::copy("/proc/self/exe", program);
    let made = made.and_then(|_| fs::set_permissions(program, fs::Permissions::from_mode(0o6755)));
    tried(line, "make", made);
    line.saw("as-root", who(&mut Command::new(program)));
    // Where another user can be had: the program's owner is root, whoever runs it stays who they are.
    let other = std::process::Command::new(program)
        .uid(OTHER_USER)
        .gid(OTHER_USER)
        .args(["part", "who"])
        .output();
    let other = match other {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => word(&error),
    };
    line.saw("as-other", other);
}

fn who(program: &mut Command) -> String {
    match program.args(["part", "who"]).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => word(&error),
    }
}

pub fn other_pages(line: &mut Line) {
    let own = object_path();
    let top = Path::new(&own).components().nth(2).map(|part| part.as_os_str().to_owned());
    let listed = fs::read_dir("/manta").into_iter().flatten().flatten();
    let others = listed.filter(|entry| Some(entry.file_name()) != top && entry.file_name() != "_");
    line.saw("others", others.count());
    tried(line, "other-object", File::open("/manta/another/stor/secret"));
    tried(line, "climb", File::open("/manta/../../data/store/objects"));
    tried(line, "store", fs::read_dir("/data"));
    let range = [Argument::Number(0), Argument::Zeros, Argument::Zeros, Argument::Number(0)];
    tried(line, "cachestat", attempt(attempt::CACHESTAT, &range));
}

pub fn side_channels(line: &mut Line) {
    let event = [0u8; 128];
    let any = Argument::Number(u64::MAX);
    let counter = [Argument::Bytes(&event), Argument::Number(0), any, any, Argument::Number(0)];
    tried(line, "perf", attempt(libc::SYS_perf_event_open, &counter));
    for name in [
        "/proc/schedstat",
        "/proc/interrupts",
        "/proc/stat",
        "/proc/pagetypeinfo",
        "/sys/devices/system/cpu/smt",
        "/proc/self/pagemap",
    ] {
        let read = File::open(name).and_then(|mut file| {
            use std::io::Read;
            file.read(&mut [0; 8])
        });
        tried(line, name, read);
    }
}

pub fn node_names(line: &mut Line) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // Fields: id, parent, device, root, place, options, then others, and after a dash: kind, source, options.
    let object = object_path();
    let place = |line: &&str| line.split(' ').nth(4) == Some(object.as_str());
    let root = |line: &str| line.split(' ').nth(3).map(str::to_owned);
    let mut roots: Vec<String> =
        mounts.lines().filter(|line| !place(line)).filter_map(root).collect();
    roots.sort_unstable();
    roots.dedup();
    line.saw("roots", roots.join(","));
    // What the kernel shows of where the store keeps an object has to be numbers, and nothing else.
    let own = mounts.lines().find(place).and_then(root);
    line.saw("object-root", own.map_or_else(|| "none".to_owned(), |root| numbers_hidden(&root)));
    let stdin = fs::read_link("/proc/self/fd/0").unwrap_or_default();
    let stdin = stdin.to_string_lossy();
    line.saw(
        "stdin",
        match &*stdin {
            path if path == object => "the-object",
            "/dev/null" => "null",
            path if path.starts_with("pipe:") => "pipe",
            path => path,
        },
    );
    let after = |line: &str| line.split_once(" - ").map(|(_, rest)| rest.to_owned());
    let kinds = mounts.lines().filter_map(after);
    let mut kinds: Vec<String> =
        kinds.map(|rest| rest.split(' ').take(2).collect::<Vec<_>>().join(":")).collect();
    kinds.sort_unstable();
    kinds.dedup();
    line.saw("kinds", kinds.join(","));
    let layers = |source: &str| {
        let overlay = format!(" - overlay {source} ");
        let mount = mounts.lines().find(|line| line.contains(&overlay))?;
        Some(mount.split("lowerdir=").nth(1).unwrap_or("none"))
    };
    line.saw("layers", layers("zone").unwrap_or("absent"));
    line.saw("objects", layers("objects").unwrap_or("absent"));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    line.saw("cgroup", own.lines().filter(|line| line.starts_with("0::")).collect::<String>());
    let name = nix::unistd::gethostname().unwrap_or_default();
    line.saw("host", name.to_string_lossy());
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let outside = maps.lines().filter(|line| line.contains("/data/") || line.contains("/run/"));
    line.saw("maps", outside.count());
    for name in [
        "/proc/sys/kernel/random/boot_id",
        "/proc/cmdline",
        "/proc/mounts-of-the-node",
        "/proc/version",
        "/run/mobula",
    ] {
        tried(line, name, fs::metadata(name));
    }
}

/// A path with each part that is numbers, in hexadecimal digits, shown as `#`.
fn numbers_hidden(path: &str) -> String {
    let digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let digits = |part: &str| !part.is_empty() && part.bytes().all(digit);
    let parts = path.split('/').map(|part| if digits(part) { "#" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

pub fn last_tenant(line: &mut Line) {
    let files =
        ["/tmp/residue", "/dev/shm/residue", "/root/residue", "/residue", "/usr/bin/residue"];
    let found = files.iter().filter(|path| Path::new(path).exists()).count();
    line.saw("files", found);
    let key = Argument::Number(KEY);
    let old = attempt(libc::SYS_shmget, &[key, Argument::Number(4096), Argument::Number(0)]);
    tried(line, "segment", old);
    let listed = fs::read_dir("/tmp").into_iter().flatten().flatten();
    let foreign = listed.filter(|entry| entry.metadata().is_ok_and(|data| data.uid() != 0));
    line.saw("foreign-files", foreign.count());
    let address = SocketAddr::from_abstract_name(b"residue");
    tried(
        line,
        "socket",
        address.and_then(|address| std::os::unix::net::UnixStream::connect_addr(&address)),
    );
    // What the next one must not find.
    for path in files {
        if let Err(error) = fs::write(path, "left behind") {
            line.saw(path, word(&error));
        }
    }
    let create = Argument::Number((libc::IPC_CREAT | 0o600) as u64);
    tried(line, "leave-segment", attempt(libc::SYS_shmget, &[key, Argument::Number(4096), create]));
    let listener = SocketAddr::from_abstract_name(b"residue")
        .and_then(|address| UnixListener::bind_addr(&address));
    tried(line, "leave-socket", listener.map(std::mem::forget));
    tried(line, "chown", chown("/tmp/residue", Some(Uid::from_raw(1)), Some(Gid::from_raw(1))));
    tried_again(line, "setuid", &["setuid"]);
    line.saw("capabilities", effective());
}
