//! Attacks by way of processes: namespaces, tracing, signals, other tables of system calls.

use crate::seen::OTHER_USER;
use crate::tries::{again, ended, tried, tried_again, word};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::personality::{self, Persona};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixCredentials, sendmsg,
    socketpair,
};
use nix::sys::{prctl, ptrace};
use nix::unistd::{Pid, getpid, getppid};
use probe::Line;
use std::fs::{self, File};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitCode;
use sys::attempt::{self, Argument, Trick, attempt};

const FLAGS: [(&str, CloneFlags); 7] = [
    ("NEWUSER", CloneFlags::CLONE_NEWUSER),
    ("NEWNS", CloneFlags::CLONE_NEWNS),
    ("NEWPID", CloneFlags::CLONE_NEWPID),
    ("NEWNET", CloneFlags::CLONE_NEWNET),
    ("NEWIPC", CloneFlags::CLONE_NEWIPC),
    ("NEWUTS", CloneFlags::CLONE_NEWUTS),
    ("NEWCGROUP", CloneFlags::CLONE_NEWCGROUP),
];
/// `CLONE_NEWTIME` (unshare(2)); as a flag of clone(2) its bit is part of the exit signal.
const NEWTIME: i32 = 0x80;
/// The highest number that is looked for: no zone has so many processes.
const PIDS_SEEN_MAX: i32 = 40_000;
/// A number that no process of a zone has.
const NOBODY: i32 = 3_999_999;

/// Runs a part that the process may not survive.
pub fn part(name: &str, rest: &[&str]) -> ExitCode {
    let done = match name {
        "x32" => attempt::by_x32().is_ok(),
        "int80" => attempt::by_interrupt_80() > 0,
        "vsyscall" => attempt::by_vsyscall() > 0,
        "traced" => ptrace::traceme().is_ok(),
        "unshare" => {
            let flag = FLAGS.iter().find(|(name, _)| rest == [*name]).map(|(_, flag)| *flag);
            let flag = flag.unwrap_or(CloneFlags::from_bits_retain(NEWTIME));
            match unshare(flag) {
                Ok(()) => true,
                Err(Errno::EPERM) => return ExitCode::from(1),
                Err(_) => return ExitCode::from(3),
            }
        }
        "setuid" => nix::unistd::setuid(OTHER_USER.into()).is_ok(),
        "abort" => std::process::abort(),
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_secs(20));
            true
        }
        "who" => {
            let all = [nix::unistd::getuid(), nix::unistd::geteuid()];
            println!("{},{},{}", all[0], all[1], effective());
            true
        }
        _ => false,
    };
    ExitCode::from(u8::from(!done))
}

/// The effective capabilities, as the kernel writes them.
pub fn effective() -> String {
    field("CapEff:")
}

/// A line of `/proc/self/status`.
pub fn field(name: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|line| line.strip_prefix(name));
    found.map_or_else(|| "none".to_owned(), |value| value.trim().to_owned())
}

pub fn new_namespaces(line: &mut Line) {
    for (name, flag) in FLAGS {
        tried_again(line, &format!("unshare({name})"), &["unshare", name]);
        tried(line, &format!("clone({name})"), attempt::clone_with(flag.bits()));
    }
    tried_again(line, "unshare(NEWTIME)", &["unshare", "NEWTIME"]);
    tried(line, "clone3", attempt::clone3_without_arguments());
    tried(line, "clone", attempt::clone_with(0));
    let thread = std::thread::Builder::new().spawn(|| 7);
    line.saw("thread", if thread.is_ok_and(|t| t.join().is_ok()) { "ok" } else { "none" });
    tried(line, "uid_map", fs::write("/proc/self/uid_map", "0 0 1"));
    tried(line, "setgroups", fs::write("/proc/self/setgroups", "allow"));
}

pub fn foreign_namespaces(line: &mut Line) {
    for name in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"] {
        let result = File::open(format!("/proc/self/ns/{name}"));
        match result {
            Ok(namespace) => {
                let entered = setns(namespace, CloneFlags::empty());
                tried(line, &format!("setns({name})"), entered);
            }
            Err(error) => line.saw(&format!("setns({name})"), word(&error)),
        }
    }
    tried(line, "first's", File::open("/proc/1/ns/mnt"));
    let me = Argument::Number(u64::from(getpid().as_raw() as u32));
    match attempt(libc::SYS_pidfd_open, &[me, Argument::Number(0)]) {
        Ok(_) => line.saw("pidfd", "ok"),
        Err(error) => line.saw("pidfd", word(&error)),
    }
}

pub fn foreign_memory(line: &mut Line) {
    tried(line, "ptrace(1)", ptrace::attach(Pid::from_raw(1)));
    tried(line, "ptrace(parent)", ptrace::seize(getppid(), ptrace::Options::empty()));
    match again(&["sleep"]).spawn() {
        Ok(mut child) => {
            let pid = Pid::from_raw(child.id() as i32);
            tried(line, "ptrace(child)", ptrace::seize(pid, ptrace::Options::empty()));
            let ending = child.kill().and_then(|()| child.wait());
            if let Err(error) = ending {
                line.saw("child", word(&error));
            }
        }
        Err(error) => line.saw("ptrace(child)", word(&error)),
    }
    let (one, zero) = (Argument::Number(1), Argument::Number(0));
    let memory = [one, Argument::Zeros, one, Argument::Zeros, one, zero];
    tried(line, "process_vm_readv", attempt(libc::SYS_process_vm_readv, &memory));
    tried(line, "process_vm_writev", attempt(libc::SYS_process_vm_writev, &memory));
    tried(line, "pidfd_getfd", attempt(libc::SYS_pidfd_getfd, &[zero, zero, zero]));
    tried(line, "kcmp", attempt(libc::SYS_kcmp, &[one, one, zero, zero, zero]));
    tried(line, "mem", File::open(format!("/proc/{}/mem", 1)));
    let there =
        (2..PIDS_SEEN_MAX).filter(|pid| kill(Pid::from_raw(*pid), None) != Err(Errno::ESRCH));
    line.saw("processes", there.count());
}

pub fn foreign_signals(line: &mut Line) {
    tried(line, "kill(nobody)", kill(Pid::from_raw(NOBODY), Signal::SIGKILL));
    tried(line, "kill(all,0)", kill(Pid::from_raw(-1), None));
    match File::open("/dev/null") {
        Ok(file) => tried(line, "setown(nobody)", attempt::own(file.as_fd(), NOBODY)),
        Err(error) => line.saw("setown(nobody)", word(&error)),
    }
    let pair = socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::empty());
    let (from, _to) = match pair {
        Ok(pair) => pair,
        Err(error) => return line.saw("socketpair", format!("{error:?}")),
    };
    let me = UnixCredentials::new();
    for (name, pid, uid) in [
        ("credentials(own)", me.pid(), me.uid()),
        ("credentials(pid)", 1, me.uid()),
        ("credentials(uid)", me.pid(), 1234),
    ] {
        let raw = libc::ucred { pid, uid, gid: me.gid() };
        let forged = UnixCredentials::from(raw);
        let message = [ControlMessage::ScmCredentials(&forged)];
        let text = [IoSlice::new(b"x")];
        tried(
            line,
            name,
            sendmsg::<()>(from.as_raw_fd(), &text, &message, MsgFlags::empty(), None),
        );
    }
    let killed = again(&["sleep"]).spawn().and_then(|mut child| {
        child.kill()?;
        child.wait()
    });
    line.saw("kill(child)", killed.map_or_else(|error| word(&error), ended));
}

pub fn terminals(line: &mut Line) {
    let stdin = std::io::stdin();
    for (name, trick) in [
        ("TIOCSTI", Trick::Type),
        ("TIOCLINUX", Trick::Paste),
        ("TIOCCONS", Trick::Console),
        ("TIOCSETD", Trick::Discipline),
    ] {
        tried(line, name, attempt::trick(stdin.as_fd(), trick));
    }
    for name in ["/dev/tty", "/dev/ptmx", "/dev/pts/ptmx", "/dev/tty0", "/dev/ttyS0", "/dev/vcs"] {
        tried(line, name, File::options().read(true).write(true).open(name));
    }
}

pub fn other_tables(line: &mut Line) {
    let random = personality::get().map(|now| now | Persona::ADDR_NO_RANDOMIZE);
    tried(line, "no-randomize", random.and_then(personality::set));
    let exec = personality::get().map(|now| now | Persona::READ_IMPLIES_EXEC);
    tried(line, "read-implies-exec", exec.and_then(personality::set));
    for name in ["x32", "int80", "vsyscall"] {
        tried_again(line, name, &[name]);
    }
}

pub fn attachment(line: &mut Line) {
    tried(line, "dumpable", prctl::set_dumpable(true));
    tried_again(line, "traceme", &["traced"]);
    let (filter, zero) = (Argument::Number(1), Argument::Number(0));
    tried(line, "seccomp(filter)", attempt(libc::SYS_seccomp, &[filter, zero, Argument::Zeros]));
    tried(
        line,
        "seccomp(listener)",
        attempt(libc::SYS_seccomp, &[filter, Argument::Number(8), Argument::Zeros]),
    );
    tried(line, "seccomp(strict,1)", attempt(libc::SYS_seccomp, &[zero, filter, zero]));
    line.saw("mode", field("Seccomp:"));
    line.saw("new-privileges", if field("NoNewPrivs:") == "1" { "none" } else { "possible" });
}

pub fn core_dumps(line: &mut Line) {
    tried(line, "raise", setrlimit(Resource::RLIMIT_CORE, 1 << 20, 1 << 20));
    let place = std::env::temp_dir();
    let mut child = again(&["abort"]);
    child.current_dir(&place).process_group(0);
    match child.status() {
        Ok(status) => {
            line.saw("abort", ended(status));
            line.saw("dumped", if status.core_dumped() { "yes" } else { "no" });
        }
        Err(error) => line.saw("abort", word(&error)),
    }
    let names = fs::read_dir(place).into_iter().flatten().flatten();
    let cores = names.filter(|name| name.file_name().to_string_lossy().starts_with("core"));
    line.saw("cores", cores.count());
}

pub fn first_process(line: &mut Line) {
    let first = Pid::from_raw(1);
    for (name, signal) in [
        ("SIGKILL", Signal::SIGKILL),
        ("SIGSEGV", Signal::SIGSEGV),
        ("SIGSTOP", Signal::SIGSTOP),
        ("SIGTERM", Signal::SIGTERM),
        ("SIGCHLD", Signal::SIGCHLD),
    ] {
        tried(line, name, kill(first, signal));
    }
    let (one, zero) = (Argument::Number(1), Argument::Number(0));
    // pidfd_send_signal(2) by the descriptor's number, which is the next one.
    match attempt(libc::SYS_pidfd_open, &[one, zero]) {
        Ok(fd) => {
            let nine = Argument::Number(9);
            let sent = [Argument::Number(fd as u64), nine, zero, zero];
            tried(line, "pidfd", attempt(libc::SYS_pidfd_send_signal, &sent));
        }
        Err(error) => line.saw("pidfd", word(&error)),
    }
    // RLIMIT_CPU (0) of no seconds would have the kernel kill it, RLIMIT_NOFILE (7) blind it.
    for (name, limit) in [("prlimit(cpu)", 0), ("prlimit(files)", 7)] {
        let call = [one, Argument::Number(limit), Argument::Zeros, zero];
        tried(line, name, attempt(libc::SYS_prlimit64, &call));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    // An orphan has to be reaped by it: it still does.
    tried(line, "orphan", attempt::orphan());
    line.saw("first", if kill(first, None).is_ok() { "there" } else { "gone" });
}
