//! Which system calls a zone's processes may make.
//!
//! Owns the lists and their reasons; compiles nothing. Numbers are x86-64's (`asm/unistd_64.h`), by the
//! names of the `libc` crate.

use std::collections::BTreeMap;

/// Clone flags that make namespaces (clone(2)). `CLONE_NEWTIME` shares its bit with the exit signal and
/// can be had through clone3 and unshare only.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;
/// The part of a socket's type that is no flag (socket(2)).
const SOCKET_TYPE: u32 = 0xf;
/// The part of a file's mode that is its kind (inode(7)).
const FILE_KIND: u32 = libc::S_IFMT;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is made.
    Allow,
    /// It is not made and gives this error; 0 is success.
    Errno(u16),
    /// The process is killed.
    Kill,
}

/// What a test looks at: the lower half of an argument, whose upper half the kernel ignores as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Which argument, from 0.
    pub argument: u8,
    /// The bits that count.
    pub mask: u32,
    /// It holds if these bits have one of these values.
    pub one_of: Vec<u32>,
}

/// What becomes of one system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The same, whatever its arguments.
    Always(Verdict),
    /// Each test in turn: one that does not hold decides; if all hold, the last verdict does.
    If {
        /// Tests, with what becomes of a call for which they do not hold.
        tests: Vec<(Test, Verdict)>,
        /// What becomes of a call for which all do.
        then: Verdict,
    },
}

/// What becomes of every system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// By number.
    pub rules: BTreeMap<u32, Rule>,
    /// Of all others.
    pub otherwise: Verdict,
}

impl Policy {
    /// What becomes of the call `number` with these arguments.
    #[must_use]
    pub fn decide(&self, number: u32, arguments: &[u64; 6]) -> Verdict {
        match self.rules.get(&number) {
            None => self.otherwise,
            Some(Rule::Always(verdict)) => *verdict,
            Some(Rule::If { tests, then }) => tests
                .iter()
                .find(|(test, _)| !test.holds(arguments))
                .map_or(*then, |(_, verdict)| *verdict),
        }
    }
}

impl Test {
    fn holds(&self, arguments: &[u64; 6]) -> bool {
        let low = (arguments[usize::from(self.argument)] & 0xffff_ffff) as u32;
        self.one_of.contains(&(low & self.mask))
    }
}

/// The policy of a task's zone.
#[must_use]
pub fn task() -> Policy {
    let mut rules = BTreeMap::new();
    let mut put = |numbers: &[i64], rule: Rule| {
        for &number in numbers {
            let number = u32::try_from(number).expect("a system call's number is small");
            let earlier = rules.insert(number, rule.clone());
            assert!(earlier.is_none(), "system call {number} is listed twice");
        }
    };
    for allowed in [FILES, MEMORY, PROCESSES, SIGNALS_AND_TIME, WAITING, SOCKETS, IDENTITY, IPC] {
        put(allowed, Rule::Always(Verdict::Allow));
    }
    put(REFUSED, Rule::Always(EPERM));
    put(PRETENDED, Rule::Always(Verdict::Errno(0)));
    for (number, tests) in conditional() {
        put(&[number], Rule::If { tests, then: Verdict::Allow });
    }
    Policy { rules, otherwise: Verdict::Errno(libc::ENOSYS as u16) }
}

const EPERM: Verdict = Verdict::Errno(libc::EPERM as u16);

fn masked(argument: u8, mask: u32, one_of: &[u32]) -> Test {
    Test { argument, mask, one_of: one_of.to_vec() }
}

fn exactly(argument: u8, one_of: &[u32]) -> Test {
    masked(argument, u32::MAX, one_of)
}

/// Calls that depend on their arguments: each test, and what it gives when it does not hold.
fn conditional() -> Vec<(i64, Vec<(Test, Verdict)>)> {
    let no_family = Verdict::Errno(libc::EAFNOSUPPORT as u16);
    let no_ioctl = Verdict::Errno(libc::ENOTTY as u16);
    let families = [libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32];
    let kinds = [libc::SOCK_STREAM as u32, libc::SOCK_DGRAM as u32, libc::SOCK_SEQPACKET as u32];
    let nodes = [0, libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK];
    vec![
        // clone3 hides its flags behind a pointer, so it does not exist here and libc falls back to this.
        (libc::SYS_clone, vec![(masked(0, NEW_NAMESPACES, &[0]), EPERM)]),
        (
            libc::SYS_socket,
            vec![(exactly(0, &families), no_family), (masked(1, SOCKET_TYPE, &kinds), EPERM)],
        ),
        (libc::SYS_socketpair, vec![(exactly(0, &families[..1]), no_family)]),
        (libc::SYS_ioctl, vec![(exactly(1, IOCTLS), no_ioctl)]),
        (libc::SYS_fcntl, vec![(exactly(1, FCNTLS), Verdict::Errno(libc::EINVAL as u16))]),
        (libc::SYS_prctl, vec![(exactly(0, PRCTLS), Verdict::Errno(libc::EINVAL as u16))]),
        // 0 is how Linux is; all ones only asks.
        (libc::SYS_personality, vec![(exactly(0, &[0, u32::MAX]), EPERM)]),
        (libc::SYS_mknod, vec![(masked(1, FILE_KIND, &nodes), EPERM)]),
        (libc::SYS_mknodat, vec![(masked(2, FILE_KIND, &nodes), EPERM)]),
        // POSIX_FADV_DONTNEED (4) would throw an object's pages out of the cache for everyone.
        (libc::SYS_fadvise64, vec![(exactly(3, &[0, 1, 2, 3, 5]), Verdict::Errno(0))]),
    ]
}

/// Terminals as far as programs ask for them (never TIOCSTI or TIOCLINUX), and what each file has.
/// `FICLONE` and its like are not here: cp falls back to copying.
const IOCTLS: &[u32] = &[
    0x5401, 0x5402, 0x5403, 0x5404, // TCGETS, TCSETS, TCSETSW, TCSETSF
    0x540f, 0x5410, 0x5413, 0x5414, // TIOCGPGRP, TIOCSPGRP, TIOCGWINSZ, TIOCSWINSZ
    0x5421, 0x541b, 0x5450, 0x5451, // FIONBIO, FIONREAD, FIONCLEX, FIOCLEX
    0x5452, 0x5411, 0x5429, // FIOASYNC, TIOCOUTQ, TIOCGSID
];

/// All but leases and directory notices (`F_SETLEASE`, `F_NOTIFY`): the zone's root counts as the owner of
/// the objects it is shown, and could hold up others with a lease.
const FCNTLS: &[u32] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15,
    16, // F_DUPFD to F_GETSIG, F_SETOWN_EX, F_GETOWN_EX
    36, 37, 38, // F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW
    1025, 1027, 1030, 1031,
    1032, // F_GETLEASE, F_DUPFD_QUERY, F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ
    1033, 1034, 1035, 1036, 1037, 1038, // F_ADD_SEALS, F_GET_SEALS, write hints
];

const PRCTLS: &[u32] = &[
    libc::PR_SET_PDEATHSIG as u32,
    libc::PR_GET_PDEATHSIG as u32,
    libc::PR_GET_DUMPABLE as u32,
    libc::PR_SET_DUMPABLE as u32,
    libc::PR_SET_NAME as u32,
    libc::PR_GET_NAME as u32,
    libc::PR_GET_SECCOMP as u32,
    libc::PR_CAPBSET_READ as u32,
    libc::PR_GET_SECUREBITS as u32,
    libc::PR_SET_TIMERSLACK as u32,
    libc::PR_GET_TIMERSLACK as u32,
    libc::PR_SET_CHILD_SUBREAPER as u32,
    libc::PR_GET_CHILD_SUBREAPER as u32,
    libc::PR_SET_NO_NEW_PRIVS as u32,
    libc::PR_GET_NO_NEW_PRIVS as u32,
    libc::PR_GET_TID_ADDRESS as u32,
    libc::PR_SET_THP_DISABLE as u32,
    libc::PR_GET_THP_DISABLE as u32,
    libc::PR_SET_VMA as u32,
];

/// A zone's scratch is memory, and its output is made durable by the store: a tenant's wish for a disk's
/// flush is granted at once, and no sync of theirs stalls the node's disk for others.
const PRETENDED: &[i64] = &[
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
];

/// What a tenant might try on purpose: refused in words, not as if unknown.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_vhangup,
];

const FILES: &[i64] = &[
    libc::SYS_access,
    libc::SYS_chdir,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_creat,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_ftruncate,
    libc::SYS_futimesat,
    libc::SYS_getcwd,
    libc::SYS_getdents,
    libc::SYS_getdents64,
    libc::SYS_getxattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_lchown,
    libc::SYS_lgetxattr,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pipe,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_removexattr,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_rmdir,
    libc::SYS_sendfile,
    libc::SYS_setxattr,
    libc::SYS_splice,
    libc::SYS_stat,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_tee,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_utime,
    libc::SYS_utimensat,
    libc::SYS_utimes,
    libc::SYS_vmsplice,
    libc::SYS_write,
    libc::SYS_writev,
];

const MEMORY: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_munmap,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
];

const PROCESSES: &[i64] = &[
    libc::SYS_arch_prctl,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fork,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_get_robust_list,
    libc::SYS_get_thread_area,
    libc::SYS_getcpu,
    libc::SYS_getpgid,
    libc::SYS_getpgrp,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_gettid,
    libc::SYS_ioprio_get,
    libc::SYS_ioprio_set,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_prlimit64,
    libc::SYS_rseq,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_setrlimit,
    libc::SYS_setsid,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_vfork,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

const SIGNALS_AND_TIME: &[i64] = &[
    libc::SYS_alarm,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getitimer,
    libc::SYS_gettimeofday,
    libc::SYS_kill,
    libc::SYS_nanosleep,
    libc::SYS_pause,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setitimer,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd,
    libc::SYS_signalfd4,
    libc::SYS_tgkill,
    libc::SYS_time,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
    libc::SYS_tkill,
];

const WAITING: &[i64] = &[
    libc::SYS_epoll_create,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_eventfd2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_select,
];

/// The network namespace has no device; what is left are Unix sockets within the zone.
const SOCKETS: &[i64] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// They ask, or fail for want of capabilities, or change a process to what it already is.
const IDENTITY: &[i64] = &[
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getuid,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
];

/// They end with the zone's IPC namespace.
const IPC: &[i64] = &[
    libc::SYS_mq_getsetattr,
    libc::SYS_mq_notify,
    libc::SYS_mq_open,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_unlink,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_shmget,
];

#[cfg(test)]
mod test {
    use super::*;

    fn verdict(number: i64, arguments: [u64; 6]) -> Verdict {
        task().decide(u32::try_from(number).unwrap(), &arguments)
    }

    #[test]
    fn ways_to_new_namespaces_are_closed_and_threads_are_not() {
        let threads = 0x003d_0f00;
        assert_eq!(verdict(libc::SYS_clone, [threads, 0, 0, 0, 0, 0]), Verdict::Allow);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET] {
            let flags = threads | flag as u64;
            assert_eq!(verdict(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]), EPERM);
        }
        assert_eq!(verdict(libc::SYS_unshare, [0; 6]), EPERM);
        assert_eq!(verdict(libc::SYS_clone3, [0; 6]), Verdict::Errno(libc::ENOSYS as u16));
    }

    #[test]
    fn what_has_been_used_against_kernels_does_not_exist() {
        let gone = [
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_kexec_load,
            libc::SYS_modify_ldt,
            libc::SYS_memfd_secret,
            libc::SYS_fanotify_init,
            libc::SYS_name_to_handle_at,
            libc::SYS_seccomp,
        ];
        assert!(gone.iter().all(|&n| verdict(n, [0; 6]) == Verdict::Errno(libc::ENOSYS as u16)));
    }

    #[test]
    fn sockets_are_of_three_families_and_never_raw() {
        let socket = |family: i32, kind: i32| {
            verdict(libc::SYS_socket, [family as u64, kind as u64, 0, 0, 0, 0])
        };
        assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC), Verdict::Allow);
        assert_eq!(socket(libc::AF_INET, libc::SOCK_RAW), EPERM);
        let none = Verdict::Errno(libc::EAFNOSUPPORT as u16);
        assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW), none);
        assert_eq!(socket(libc::AF_VSOCK, libc::SOCK_STREAM), none);
        assert_eq!(socket(libc::AF_ALG, libc::SOCK_SEQPACKET), none);
    }

    #[test]
    fn no_keystrokes_are_pushed_no_leases_taken_no_caches_dropped() {
        let tiocsti = 0x5412;
        let refused = Verdict::Errno(libc::ENOTTY as u16);
        assert_eq!(verdict(libc::SYS_ioctl, [0, tiocsti, 0, 0, 0, 0]), refused);
        // The kernel looks at the lower half only, so must the filter.
        assert_eq!(verdict(libc::SYS_ioctl, [0, tiocsti | 1 << 32, 0, 0, 0, 0]), refused);
        let setlease = verdict(libc::SYS_fcntl, [0, libc::F_SETLEASE as u64, 0, 0, 0, 0]);
        assert_eq!(setlease, Verdict::Errno(libc::EINVAL as u16));
        assert_eq!(verdict(libc::SYS_fadvise64, [0, 0, 0, 4, 0, 0]), Verdict::Errno(0));
        assert_eq!(verdict(libc::SYS_fadvise64, [0, 0, 0, 2, 0, 0]), Verdict::Allow);
    }

    #[test]
    fn device_nodes_cannot_be_made_and_pipes_can() {
        let mknod = |mode: u32| verdict(libc::SYS_mknodat, [0, 0, u64::from(mode), 0, 0, 0]);
        assert_eq!(mknod(libc::S_IFIFO | 0o600), Verdict::Allow);
        assert_eq!(mknod(libc::S_IFCHR | 0o600), EPERM);
        assert_eq!(mknod(libc::S_IFBLK | 0o600), EPERM);
    }
}
