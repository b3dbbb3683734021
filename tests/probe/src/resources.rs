//! Attacks on what others need as well: processes, memory, descriptors, the disk.

use crate::tries::{tried, until_refused, word};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, fallocate, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::eventfd::EventFd;
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigEvent, SigevNotify, Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::sys::wait::waitpid;
use nix::time::ClockId;
use nix::unistd::{Pid, pipe};
use probe::Line;
use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use sys::attempt::{self, Argument, Then, attempt};

/// More processes than any zone is given; where nothing stops the bomb, this does.
const BOMB_MAX: usize = 1_500;
/// A fraction of the descriptors that a process may have, so that their memory stays below the zone's.
const FILES: u64 = 4_096;
/// What a pipe may hold (pipe(7)), and more.
const PIPE_BYTES: i32 = 1 << 20;
const PIPES_MAX: usize = 300;
const INSTANCES_MAX: usize = 2_000;
const TIMERS_MAX: usize = 5_000;
const LOOKUPS: usize = 200_000;
const SYNCS: usize = 500;
/// How long the zone's first process may take to reap them.
const REAPED_AFTER: Duration = Duration::from_secs(10);
const DEPTH_MAX: usize = 70_000;
/// More than a zone has processes.
const ORPHANS: usize = 1_000;
const MIB: usize = 1 << 20;

/// The object that the zone shows.
pub fn object() -> io::Result<File> {
    File::open(object_path())
}

pub fn object_path() -> String {
    let named = std::env::var("PROBE_OBJECT").or_else(|_| std::env::var("MANTA_INPUT_FILE"));
    named.unwrap_or_else(|_| "/no-object".to_owned())
}

pub fn fork_bomb(line: &mut Line) {
    let mut children = Vec::new();
    let (end, count) =
        until_refused(BOMB_MAX, || attempt::idle_child().map(|pid| children.push(pid)));
    line.saw("fork", end);
    line.saw("processes", count);
    for pid in children {
        let pid = Pid::from_raw(pid);
        if let Err(error) = kill(pid, Signal::SIGKILL).and_then(|()| waitpid(pid, None)) {
            eprintln!("probe: {error}");
        }
    }
}

pub fn thread_bomb(line: &mut Line) {
    let over = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    let (end, count) = until_refused(BOMB_MAX, || {
        let over = Arc::clone(&over);
        let thread = std::thread::Builder::new().stack_size(32 * 1024).spawn(move || {
            while !over.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        thread.map(|thread| threads.push(thread))
    });
    line.saw("thread", end);
    line.saw("threads", count);
    over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.thread().unpark();
        if thread.join().is_err() {
            line.saw("join", "panicked");
        }
    }
}

pub fn full_tmpfs(line: &mut Line) {
    for (name, path) in [("tmp", "/tmp/filler"), ("shm", "/dev/shm/filler"), ("root", "/filler")] {
        let block = vec![7u8; MIB];
        let mut file = match File::create(path) {
            Ok(file) => file,
            Err(error) => {
                line.saw(name, word(&error));
                continue;
            }
        };
        let (end, _) = until_refused(64 * 1024, || file.write_all(&block));
        line.saw(name, end);
        drop(file);
        tried(line, &format!("{name}-removed"), fs::remove_file(path));
        tried(
            line,
            &format!("{name}-again"),
            fs::write(path, &block).and_then(|()| fs::remove_file(path)),
        );
    }
}

pub fn descriptors(line: &mut Line) {
    let (_, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => return line.saw("limits", error),
    };
    line.saw("hard", hard);
    tried(line, "raise", setrlimit(Resource::RLIMIT_NOFILE, hard, hard + 1));
    tried(line, "lower", setrlimit(Resource::RLIMIT_NOFILE, FILES, hard));
    let most = 2 * usize::try_from(FILES).unwrap_or(usize::MAX);
    let mut files = Vec::new();
    let (end, _) = until_refused(most, || File::open("/dev/null").map(|file| files.push(file)));
    files.clear();
    line.saw("open", end);
    let mut pipes = Vec::new();
    let (end, _) = until_refused(most, || pipe().map(|pipe| pipes.push(pipe)));
    drop(pipes);
    line.saw("pipe", end);
    let mut events = Vec::new();
    let (end, _) = until_refused(most, || EventFd::new().map(|event| events.push(event)));
    drop(events);
    line.saw("eventfd", end);
    let mut polls = Vec::new();
    let flags = EpollCreateFlags::empty();
    let (end, _) = until_refused(most, || Epoll::new(flags).map(|poll| polls.push(poll)));
    drop(polls);
    line.saw("epoll", end);
    let (end, count) = in_flight(most);
    line.saw("in-flight", end);
    line.saw("in-flight-count", count);
}

/// Descriptors that are in sockets and in no process's table.
fn in_flight(most: usize) -> (String, usize) {
    const EACH: usize = 100;
    let null = match File::open("/dev/null") {
        Ok(null) => null,
        Err(error) => return (word(&error), 0),
    };
    let fds = [null.as_raw_fd(); EACH];
    let mut pairs = Vec::new();
    let mut sent = 0;
    while sent < most {
        if pairs.is_empty() || sent.is_multiple_of(20 * EACH) {
            let (family, flags) = (AddressFamily::Unix, SockFlag::SOCK_NONBLOCK);
            match socketpair(family, SockType::Datagram, None, flags) {
                Ok(pair) => pairs.push(pair),
                Err(error) => return (format!("{error:?}"), sent),
            }
        }
        let Some((from, _)) = pairs.last() else { continue };
        let message = [ControlMessage::ScmRights(&fds)];
        let text = [IoSlice::new(b"x")];
        match sendmsg::<()>(from.as_raw_fd(), &text, &message, MsgFlags::empty(), None) {
            Ok(_) => sent += EACH,
            Err(Errno::EAGAIN) => pairs.clear(),
            Err(error) => return (format!("{error:?}"), sent),
        }
    }
    ("unlimited".to_owned(), sent)
}

pub fn pipe_buffers(line: &mut Line) {
    let mut pipes = Vec::new();
    let (end, count) = until_refused(PIPES_MAX, || {
        let (reader, writer) = pipe()?;
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES))?;
        pipes.push((reader, writer));
        Ok::<_, Errno>(())
    });
    line.saw("large", end);
    line.saw("large-count", count);
    drop(pipes);
    let larger =
        pipe().and_then(|(_reader, writer)| fcntl(&writer, FcntlArg::F_SETPIPE_SZ(2 * PIPE_BYTES)));
    tried(line, "larger", larger);
}

pub fn watches(line: &mut Line) {
    let mut instances = Vec::new();
    let (end, count) = until_refused(INSTANCES_MAX, || {
        Inotify::init(InitFlags::empty()).map(|instance| instances.push(instance))
    });
    line.saw("inotify", end);
    line.saw("inotify-count", count);
    tried(
        line,
        "fanotify",
        attempt(libc::SYS_fanotify_init, &[Argument::Number(0), Argument::Number(0)]),
    );
}

pub fn queues_and_segments(line: &mut Line) {
    let flags = Argument::Number((libc::O_CREAT | libc::O_RDWR) as u64);
    let queue = [Argument::Text(c"attack"), flags, Argument::Number(0o600), Argument::Number(0)];
    tried(line, "mq_open", attempt(libc::SYS_mq_open, &queue));
    let create = Argument::Number((libc::IPC_CREAT | 0o600) as u64);
    let huge = [Argument::Number(0), Argument::Number(1 << 50), create];
    tried(line, "shmget-huge", attempt(libc::SYS_shmget, &huge));
    tried(line, "segment", attempt::shared_segment(MIB));
}

pub fn locked_memory(line: &mut Line) {
    let object = match object() {
        Ok(object) => object,
        Err(error) => return line.saw("object", word(&error)),
    };
    let bytes = object.metadata().map_or(0, |data| data.len()).min(MIB as u64);
    line.saw("bytes", bytes);
    let length = usize::try_from(bytes).unwrap_or(MIB);
    let map = |flags, then| {
        attempt::map(object.as_fd(), length, libc::PROT_READ, libc::MAP_SHARED | flags, then)
    };
    tried(line, "map", map(0, Then::Nothing));
    tried(line, "mlock", map(0, Then::Lock));
    tried(line, "mlock-onfault", map(0, Then::LockOnFault));
    tried(line, "map-locked", map(libc::MAP_LOCKED, Then::Nothing));
    tried(
        line,
        "mlockall",
        attempt(libc::SYS_mlockall, &[Argument::Number(libc::MCL_CURRENT as u64)]),
    );
    let raise = setrlimit(Resource::RLIMIT_MEMLOCK, 1 << 30, 1 << 30);
    tried(line, "raise", raise);
}

pub fn names_looked_up(line: &mut Line) {
    let found = (0..LOOKUPS).filter(|n| Path::new(&format!("/usr/no-such-{n}")).exists()).count();
    line.saw("looked-up", LOOKUPS);
    line.saw("found", found);
}

/// Standard output is the file that becomes an object.
pub fn output_quota(line: &mut Line) {
    let out = std::io::stdout();
    tried(line, "fallocate-1TiB", fallocate(&out, FallocateFlags::empty(), 0, 1 << 40));
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    tried(line, "fallocate-unseen", fallocate(&out, keep, 1 << 33, 1 << 40));
    let Ok(file) = out.as_fd().try_clone_to_owned().map(File::from) else { return };
    tried(line, "sparse", file.write_at(b"x", (1 << 62) - 1));
    // What was given before it was refused goes back, or the task ends for want of room.
    tried(line, "emptied", file.set_len(0));
}

pub fn timers(line: &mut Line) {
    let mut timers = Vec::new();
    let (end, count) = until_refused(TIMERS_MAX, || {
        let none = SigEvent::new(SigevNotify::SigevNone);
        Timer::new(ClockId::CLOCK_MONOTONIC, none).map(|timer| timers.push(timer))
    });
    line.saw("timer", end);
    line.saw("timers", count);
    timers.clear();
    // SIGURG is ignored by who does not ask for it, and still has to be sent.
    let notify = SigevNotify::SigevSignal { signal: Signal::SIGURG, si_value: 0 };
    for _ in 0..64 {
        let timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify));
        let started = timer.and_then(|mut timer| {
            let often = Expiration::Interval(Duration::from_nanos(100).into());
            timer.set(often, TimerSetTimeFlags::empty())?;
            timers.push(timer);
            Ok(())
        });
        if let Err(error) = started {
            return line.saw("storm", error);
        }
    }
    let deadline = Instant::now() + Duration::from_millis(500);
    let mut turns = 0u64;
    while Instant::now() < deadline {
        turns += 1;
    }
    line.saw("storm", if turns > 0 { "endured" } else { "stuck" });
}

pub fn syncs(line: &mut Line) {
    let file = match File::create("/tmp/synced") {
        Ok(file) => file,
        Err(error) => return line.saw("file", word(&error)),
    };
    let began = Instant::now();
    for _ in 0..SYNCS {
        nix::unistd::sync();
    }
    tried(line, "fsync", nix::unistd::fsync(&file));
    tried(line, "fdatasync", nix::unistd::fdatasync(&file));
    tried(line, "syncfs", nix::unistd::syncfs(&file));
    let out = std::io::stdout();
    for _ in 0..SYNCS {
        if let Err(error) = nix::unistd::fsync(&out) {
            return line.saw("fsync-output", format!("{error:?}"));
        }
    }
    line.saw("fsync-output", "ok");
    line.saw("ms", began.elapsed().as_millis());
}

pub fn odd_sizes(line: &mut Line) {
    let deep = (|| {
        fs::create_dir_all("/tmp/deep")?;
        std::env::set_current_dir("/tmp/deep")?;
        Ok::<_, io::Error>(until_refused(DEPTH_MAX, || {
            fs::create_dir("d")?;
            std::env::set_current_dir("d")
        }))
    })();
    match deep {
        Ok((end, count)) => {
            line.saw("deep", end);
            line.saw("depth", count);
        }
        Err(error) => line.saw("deep", word(&error)),
    }
    tried(line, "back", std::env::set_current_dir("/"));
    tried(line, "long-name", File::create(format!("/tmp/{}", "n".repeat(256))));
    tried(line, "long-path", File::create(format!("/tmp{}", "/n".repeat(2_048))));
    let sparse = File::create("/dev/null").and_then(|_| {
        File::options().write(true).create(true).truncate(false).open("/dev/shm/sparse")
    });
    let sparse = sparse.and_then(|file| file.set_len(i64::MAX as u64));
    line.saw("sparse", sparse.map_or_else(|error| word(&error), |()| "made".to_owned()));
    let out = std::io::stdout();
    tried(line, "sparse-output", nix::unistd::ftruncate(&out, i64::MAX));
}

pub fn zombies(line: &mut Line) {
    // Every orphan lives a moment and dies a moment after: until there are no more processes than before, a look
    // without zombies says nothing.
    let (before, _) = processes();
    let (end, count) = until_refused(ORPHANS, attempt::orphan);
    line.saw("orphans", count);
    line.saw("end", end);
    // The first process has its own pace.
    let deadline = Instant::now() + REAPED_AFTER;
    let mut now = processes();
    while (now.0 > before || now.1 > 0) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        now = processes();
    }
    line.saw("zombies", now.1);
}

/// How many processes the zone has, and how many of them are zombies.
fn processes() -> (usize, usize) {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.fold((0, 0), |(all, dead), stat| (all + 1, dead + usize::from(stat.contains(") Z "))))
}
