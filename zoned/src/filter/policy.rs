//! Which system calls a zone's processes may make.
//!
//! Owns the rules and their reasons; compiles nothing. The long lists are in [`super::lists`].

use super::lists::{
    FCNTLS, FILES, IDENTITY, IOCTLS, IPC, MEMORY, PRCTLS, PRETENDED, PROCESSES, REFUSED,
    SIGNALS_AND_TIME, SOCKETS, TERMINALS, WAITING,
};
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
/// What sockets may speak: whatever their type says, ICMP, TCP, UDP, ICMPv6 (socket(2), ipproto). MPTCP,
/// SCTP, DCCP and UDP-Lite are much code that a zone has no use for.
const PROTOCOLS: [u32; 5] = [
    0,
    libc::IPPROTO_ICMP as u32,
    libc::IPPROTO_TCP as u32,
    libc::IPPROTO_UDP as u32,
    libc::IPPROTO_ICMPV6 as u32,
];
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
    /// It holds if they have none of them.
    pub negated: bool,
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
        self.one_of.contains(&(low & self.mask)) != self.negated
    }
}

/// The policy of a task's zone.
#[must_use]
pub fn task() -> Policy {
    with_ioctls(IOCTLS)
}

/// The policy of a standing zone: a task's, and what makes terminals and sessions.
#[must_use]
pub fn standing() -> Policy {
    with_ioctls(&[IOCTLS, TERMINALS].concat())
}

/// What zone-init itself still calls between its copy from the nursery and a zone's own filter.
const BUILDING: [i64; 12] = [
    libc::SYS_chroot,
    libc::SYS_clone3,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_mknodat,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_seccomp,
    libc::SYS_sethostname,
    libc::SYS_setns,
];
/// By what it then gives up its capabilities.
const GIVING_UP: [u32; 3] =
    [libc::PR_CAPBSET_DROP as u32, libc::PR_CAP_AMBIENT as u32, libc::PR_SET_SECUREBITS as u32];

/// The policy of the nursery, under which everything copied from it is born: what any zone may do, and what
/// makes zones.
#[must_use]
pub fn nursery() -> Policy {
    let mut policy = standing();
    for number in BUILDING {
        let number = u32::try_from(number).expect("a system call's number is small");
        policy.rules.insert(number, Rule::Always(Verdict::Allow));
    }
    let prctls = [PRCTLS, &GIVING_UP].concat();
    let tests = vec![(exactly(0, &prctls), NO_PRCTL)];
    policy.rules.insert(libc::SYS_prctl as u32, Rule::If { tests, then: Verdict::Allow });
    policy
}

/// What is left to be refused to have `policy`, where [`nursery`] holds already: of two filters the kernel
/// does what the stricter one says and, where both refuse, gives the error of the one loaded last.
#[must_use]
pub fn beyond_nursery(policy: &Policy) -> Policy {
    let rule =
        |number: &u32| policy.rules.get(number).cloned().unwrap_or(Rule::Always(policy.otherwise));
    let rules = nursery().rules.into_iter().map(|(number, known)| (number, known, rule(&number)));
    let rules = rules.filter(|(_, known, wanted)| known != wanted);
    let rules = rules.map(|(number, known, wanted)| (number, narrowed(&known, wanted))).collect();
    Policy { rules, otherwise: Verdict::Allow }
}

/// A shorter rule that has the effect of `wanted` where `known` holds already: if both are lists of what is allowed,
/// it names what is in the one and not in the other.
fn narrowed(known: &Rule, wanted: Rule) -> Rule {
    let lists = |rule: &Rule| match rule {
        Rule::If { tests, then: Verdict::Allow } => match tests.as_slice() {
            [(test, or)] if !test.negated => Some((test.clone(), *or)),
            _ => None,
        },
        _ => None,
    };
    let (Some((wide, wide_or)), Some((narrow, or))) = (lists(known), lists(&wanted)) else {
        return wanted;
    };
    let alike = (wide.argument, wide.mask, wide_or) == (narrow.argument, narrow.mask, or);
    if !alike {
        return wanted;
    }
    let one_of = wide.one_of.into_iter().filter(|value| !narrow.one_of.contains(value)).collect();
    let test = Test { one_of, negated: true, ..narrow };
    Rule::If { tests: vec![(test, or)], then: Verdict::Allow }
}

fn with_ioctls(ioctls: &[u32]) -> Policy {
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
    for (number, tests) in conditional(ioctls) {
        put(&[number], Rule::If { tests, then: Verdict::Allow });
    }
    Policy { rules, otherwise: Verdict::Errno(libc::ENOSYS as u16) }
}

const NO_PRCTL: Verdict = Verdict::Errno(libc::EINVAL as u16);
const EPERM: Verdict = Verdict::Errno(libc::EPERM as u16);

fn masked(argument: u8, mask: u32, one_of: &[u32]) -> Test {
    Test { argument, mask, one_of: one_of.to_vec(), negated: false }
}

fn exactly(argument: u8, one_of: &[u32]) -> Test {
    masked(argument, u32::MAX, one_of)
}

/// Calls that depend on their arguments: each test, and what it gives when it does not hold.
fn conditional(ioctls: &[u32]) -> Vec<(i64, Vec<(Test, Verdict)>)> {
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
            vec![
                (exactly(0, &families), no_family),
                (masked(1, SOCKET_TYPE, &kinds), EPERM),
                (exactly(2, &PROTOCOLS), Verdict::Errno(libc::EPROTONOSUPPORT as u16)),
            ],
        ),
        (libc::SYS_socketpair, vec![(exactly(0, &families[..1]), no_family)]),
        (libc::SYS_ioctl, vec![(exactly(1, ioctls), no_ioctl)]),
        (libc::SYS_fcntl, vec![(exactly(1, FCNTLS), Verdict::Errno(libc::EINVAL as u16))]),
        (libc::SYS_prctl, vec![(exactly(0, PRCTLS), NO_PRCTL)]),
        // 0 is how Linux is; all ones only asks.
        (libc::SYS_personality, vec![(exactly(0, &[0, u32::MAX]), EPERM)]),
        // Its own only: PID 1 has the same user, and a limit of no files or no CPU time would be its end.
        (libc::SYS_prlimit64, vec![(exactly(0, &[0]), EPERM)]),
        (libc::SYS_mknod, vec![(masked(1, FILE_KIND, &nodes), EPERM)]),
        (libc::SYS_mknodat, vec![(masked(2, FILE_KIND, &nodes), EPERM)]),
        // POSIX_FADV_DONTNEED (4) would throw an object's pages out of the cache for everyone.
        (libc::SYS_fadvise64, vec![(exactly(3, &[0, 1, 2, 3, 5]), Verdict::Errno(0))]),
    ]
}

#[cfg(test)]
mod test {
    use super::*;

    fn verdict(number: i64, arguments: [u64; 6]) -> Verdict {
        task().decide(u32::try_from(number).unwrap(), &arguments)
    }

    /// What the kernel makes of two filters' verdicts (seccomp(2)).
    fn both(first: Verdict, last: Verdict) -> Verdict {
        match (first, last) {
            (Verdict::Kill, _) | (_, Verdict::Kill) => Verdict::Kill,
            (_, Verdict::Errno(_)) => last,
            (Verdict::Errno(_), Verdict::Allow) => first,
            (Verdict::Allow, Verdict::Allow) => Verdict::Allow,
        }
    }

    #[test]
    fn the_nursery_s_filter_and_a_zone_s_are_together_what_the_zone_s_policy_says() {
        // Every value that any test of any rule compares with, and neighbours.
        let tests = nursery().rules.into_values().chain(task().rules.into_values());
        let tests = tests.filter_map(|rule| match rule {
            Rule::If { tests, .. } => Some(tests),
            Rule::Always(_) => None,
        });
        let mut values: Vec<u64> = vec![0, 4, u64::MAX, u64::from(u32::MAX)];
        for value in tests.flatten().flat_map(|(test, _)| test.one_of) {
            values.extend([u64::from(value), u64::from(value) + 1, 1 << 32 | u64::from(value)]);
        }
        values.extend([22, 24, 28, 47]);
        values.extend(TERMINALS.iter().map(|&ioctl| u64::from(ioctl)));
        for policy in [task(), standing()] {
            let (born, rest) = (nursery(), beyond_nursery(&policy));
            for number in 0..1024 {
                for &value in &values {
                    for arguments in [[value; 6], [2, value, 0, value, 0, 0]] {
                        let got =
                            both(born.decide(number, &arguments), rest.decide(number, &arguments));
                        assert_eq!(got, policy.decide(number, &arguments), "{number} {value:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_zone_s_own_filter_is_short() {
        for policy in [task(), standing()] {
            let rest = beyond_nursery(&policy);
            assert!(rest.rules.len() <= BUILDING.len() + 2, "{:?}", rest.rules.keys());
            let filter = crate::filter::compile::compile(&rest);
            assert!(filter.len() < 80, "{} instructions", filter.len());
        }
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
        let stream = |protocol: i32| {
            let (family, kind) = (libc::AF_INET as u64, libc::SOCK_STREAM as u64);
            verdict(libc::SYS_socket, [family, kind, protocol as u64, 0, 0, 0])
        };
        assert_eq!(stream(libc::IPPROTO_TCP), Verdict::Allow);
        let unknown = Verdict::Errno(libc::EPROTONOSUPPORT as u16);
        assert_eq!(stream(libc::IPPROTO_MPTCP), unknown);
        assert_eq!(stream(libc::IPPROTO_SCTP), unknown);
    }

    #[test]
    fn limits_are_one_s_own() {
        assert_eq!(verdict(libc::SYS_prlimit64, [0, 7, 0, 0, 0, 0]), Verdict::Allow);
        assert_eq!(verdict(libc::SYS_prlimit64, [1, 7, 0, 0, 0, 0]), EPERM);
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
    fn a_standing_zone_may_make_terminals_and_still_push_no_keystrokes() {
        let ioctl = |number: u64| {
            standing().decide(u32::try_from(libc::SYS_ioctl).unwrap(), &[0, number, 0, 0, 0, 0])
        };
        assert_eq!(ioctl(libc::TIOCSCTTY), Verdict::Allow);
        assert_eq!(ioctl(libc::TIOCGPTPEER), Verdict::Allow);
        for refused in [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCCONS] {
            assert_eq!(ioctl(refused), Verdict::Errno(libc::ENOTTY as u16));
        }
        let mut rest = standing();
        rest.rules.insert(libc::SYS_ioctl as u32, task().rules[&(libc::SYS_ioctl as u32)].clone());
        assert_eq!(rest, task());
    }

    #[test]
    fn device_nodes_cannot_be_made_and_pipes_can() {
        let mknod = |mode: u32| verdict(libc::SYS_mknodat, [0, 0, u64::from(mode), 0, 0, 0]);
        assert_eq!(mknod(libc::S_IFIFO | 0o600), Verdict::Allow);
        assert_eq!(mknod(libc::S_IFCHR | 0o600), EPERM);
        assert_eq!(mknod(libc::S_IFBLK | 0o600), EPERM);
    }
}
