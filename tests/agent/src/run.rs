//! What can be done: signals, programs, mounts, messages to sockets.

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::mount::{MntFlags, MsFlags};
use nix::sys::signal::Signal;
use nix::sys::socket::sockopt::SockType;
use nix::sys::socket::{MsgFlags, getsockopt};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use sys::seqpacket::{RecvError, Socket};
use test_agent::Reply;

/// The least that one step adds when a disk is filled.
const FILL_BYTES_MIN: i64 = 1024 * 1024;
/// How long a socket may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// How long messages may take to be taken by whoever does not read them.
const SPEAK_TIME: Duration = Duration::from_secs(10);
/// How long a program may take to end after its signal.
const END_TIME: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// The programs that were started, by process, with the file that holds their output.
static STARTED: Mutex<Option<HashMap<i32, (Child, String)>>> = Mutex::new(None);

fn with_started<T>(act: impl FnOnce(&mut HashMap<i32, (Child, String)>) -> T) -> T {
    let mut started = STARTED.lock().expect("nobody panics while holding the lock");
    act(started.get_or_insert_default())
}

pub fn signal(pid: i32, signal: i32) -> Result<Reply> {
    ensure!(pid > 1, "refusing to signal process {pid}");
    let signal = Signal::try_from(signal).context("no such signal")?;
    nix::sys::signal::kill(Pid::from_raw(pid), signal).context("sending a signal")?;
    Ok(Reply::Done)
}

pub fn forget(directory: &Path) -> Result<Reply> {
    let entries =
        directory.read_dir().with_context(|| format!("listing {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
                .with_context(|| format!("forgetting {}", path.display()))?;
        }
    }
    Ok(Reply::Done)
}

/// Pages, names and inodes that nobody uses go, and with them cgroups of which nothing else was left.
pub fn reclaim() -> Result<Reply> {
    nix::unistd::sync();
    // Twice: what the first look lets go of may have held something else.
    for _ in 0..2 {
        std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")?;
    }
    // Free objects that a processor has set aside are counted as if they were in use.
    let caches = Path::new("/sys/kernel/slab").read_dir().context("listing slabs")?;
    for cache in caches.flatten() {
        match std::fs::write(cache.path().join("shrink"), "1") {
            // Gone since, or one that can't be shrunk.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.with_context(|| format!("shrinking {:?}", cache.file_name()))?,
        }
    }
    Ok(Reply::Done)
}

/// Network namespaces that are held for what they cost.
static NETWORKS: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

pub fn networks(count: usize) -> Result<Reply> {
    let mut held = NETWORKS.lock().map_err(|_| anyhow!("another request broke off"))?;
    held.truncate(count);
    while held.len() < count {
        held.push(sys::namespace::network().context("making a network namespace")?);
    }
    Ok(Reply::Done)
}

pub fn fill(path: &str, leave: u64) -> Result<Reply> {
    let file = File::create(path).with_context(|| format!("making {path}"))?;
    let mut length = 0;
    loop {
        let stat = statvfs(path).context("asking for free space")?;
        let free = stat.blocks_available() * stat.fragment_size();
        if free <= leave {
            return Ok(Reply::Done);
        }
        let more = i64::try_from(free - leave)?.max(FILL_BYTES_MIN);
        // Blocks are taken without being written: a disk is full within a moment.
        fallocate(&file, FallocateFlags::empty(), length, more)
            .with_context(|| format!("filling {path}"))?;
        length += more;
    }
}

pub fn remove(path: &str) -> Result<Reply> {
    std::fs::remove_file(path).with_context(|| format!("removing {path}"))?;
    Ok(Reply::Done)
}

pub fn send(socket: &str, messages: &[String]) -> Result<Reply> {
    let peer = Socket::connect(Path::new(socket)).context("connecting")?;
    peer.set_nonblocking().context("making the socket non-blocking")?;
    let mut closed = false;
    for message in messages {
        let bytes = BASE64_STANDARD.decode(message).context("decoding a message")?;
        closed |= peer.send(&bytes, &[]).is_err();
    }
    let mut answers = Vec::new();
    let deadline = Instant::now() + ANSWER_TIME;
    while !closed && Instant::now() < deadline {
        let mut message = Vec::new();
        match peer.recv(&mut message) {
            Ok(Some(_)) => answers.push(BASE64_STANDARD.encode(&message)),
            Err(RecvError::Empty) => std::thread::sleep(POLL),
            Ok(None) | Err(_) => closed = true,
        }
    }
    Ok(Reply::Answered { messages: answers, closed })
}

/// The sockets are taken out of the process: what is sent there is what it would have said.
pub fn speak(pid: i32, messages: &[String]) -> Result<Reply> {
    let process = rustix::process::Pid::from_raw(pid).context("no such process")?;
    let process = rustix::process::pidfd_open(process, PidfdFlags::empty())?;
    let mut sockets = Vec::new();
    for entry in Path::new(&format!("/proc/{pid}/fd")).read_dir()? {
        let entry = entry?;
        let link = std::fs::read_link(entry.path())?;
        let number: i32 = entry.file_name().to_string_lossy().parse()?;
        if link.to_string_lossy().starts_with("socket:") {
            let socket = pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?;
            if getsockopt(&socket, SockType)? == nix::sys::socket::SockType::SeqPacket {
                sockets.push(socket);
            }
        }
    }
    let mut sent = 0;
    let deadline = Instant::now() + SPEAK_TIME;
    for socket in &sockets {
        for message in messages {
            let bytes = BASE64_STANDARD.decode(message).context("decoding a message")?;
            while Instant::now() < deadline {
                // Its own sends must go on blocking or not, as they did: a flag of this call alone.
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                match nix::sys::socket::send(socket.as_raw_fd(), &bytes, flags) {
                    Err(Errno::EAGAIN) => std::thread::sleep(POLL),
                    // The other side may have heard enough.
                    done => {
                        sent += usize::from(done.is_ok());
                        break;
                    }
                }
            }
        }
    }
    Ok(Reply::Spoken { sockets: sockets.len(), sent })
}

pub fn partition(disk: &str, number: u16, start: u64, length: u64) -> Result<Reply> {
    let file = File::open(disk).with_context(|| format!("opening {disk}"))?;
    sys::partition::add_partition(&file, number, start, length)
        .with_context(|| format!("naming a part of {disk}"))?;
    Ok(Reply::Done)
}

pub fn mount(source: &str, target: &str, kind: &str, options: &str) -> Result<Reply> {
    std::fs::create_dir_all(target).with_context(|| format!("making {target}"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    nix::mount::mount(Some(source), target, Some(kind), flags, Some(options))
        .with_context(|| format!("mounting {source}"))?;
    Ok(Reply::Done)
}

pub fn unmount(target: &str) -> Result<Reply> {
    nix::mount::umount2(target, MntFlags::empty())
        .with_context(|| format!("unmounting {target}"))?;
    Ok(Reply::Done)
}

pub fn start(command: &[String], environment: &[(String, String)], user: u32) -> Result<Reply> {
    let (program, arguments) = command.split_first().context("no program")?;
    let log = format!("/run/agent-{}.log", program.rsplit('/').next().unwrap_or_default());
    let output = File::create(&log).with_context(|| format!("making {log}"))?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .uid(user)
        .gid(user)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let pid = i32::try_from(child.id()).context("an impossible process id")?;
    with_started(|started| started.insert(pid, (child, log)));
    Ok(Reply::Started { pid })
}

pub fn end(pid: i32, number: i32) -> Result<Reply> {
    let (mut child, log) =
        with_started(|started| started.remove(&pid)).context("nothing like it was started here")?;
    if child.try_wait()?.is_none() {
        signal(pid, number)?;
    }
    let deadline = Instant::now() + END_TIME;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().context("killing what would not end")?;
        }
        std::thread::sleep(POLL);
    };
    let mut output = Vec::new();
    File::open(&log)?.read_to_end(&mut output)?;
    let output = String::from_utf8_lossy(&output).into_owned();
    Ok(Reply::Ended { code: status.code(), output })
}
