//! Attacks by way of single system calls, settings of the kernel, sockets.

use crate::tries::{tried, word};
use nix::mount::{MsFlags, mount};
use nix::time::{ClockId, clock_gettime, clock_settime};
use probe::Line;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use sys::attempt::{Argument, attempt};

const ZERO: Argument<'static> = Argument::Number(0);
/// reboot(2)'s two magic numbers; the command 0 is `LINUX_REBOOT_CMD_CAD_OFF`, the only harmless one.
const REBOOT: [Argument<'static>; 4] =
    [Argument::Number(0xfee1_dead), Argument::Number(672_274_793), ZERO, ZERO];
const CONNECT_TIME: Duration = Duration::from_secs(2);

pub fn keyrings(line: &mut Line) {
    tried(line, "keyctl", attempt(libc::SYS_keyctl, &[ZERO, ZERO, ZERO]));
    let key = [
        Argument::Text(c"user"),
        Argument::Text(c"attack"),
        Argument::Zeros,
        Argument::Number(8),
        Argument::Number(u64::MAX - 2),
    ];
    tried(line, "add_key", attempt(libc::SYS_add_key, &key));
    let asked = [Argument::Text(c"user"), Argument::Text(c"attack"), ZERO, ZERO];
    tried(line, "request_key", attempt(libc::SYS_request_key, &asked));
    for name in ["/proc/keys", "/proc/key-users"] {
        tried(line, name, File::open(name));
    }
}

pub fn big_four(line: &mut Line) {
    tried(line, "bpf", attempt(libc::SYS_bpf, &[ZERO, Argument::Zeros, Argument::Number(64)]));
    // A software event, the CPU's clock, of this process.
    let mut event = [0u8; 128];
    event[0] = 1;
    event[4] = 128;
    let perf = [
        Argument::Bytes(&event),
        ZERO,
        Argument::Number(u64::MAX),
        Argument::Number(u64::MAX),
        ZERO,
    ];
    tried(line, "perf_event_open", attempt(libc::SYS_perf_event_open, &perf));
    tried(line, "userfaultfd", attempt(libc::SYS_userfaultfd, &[ZERO]));
    tried(line, "userfaultfd-user", attempt(libc::SYS_userfaultfd, &[Argument::Number(1)]));
    tried(
        line,
        "io_uring_setup",
        attempt(libc::SYS_io_uring_setup, &[Argument::Number(4), Argument::Zeros]),
    );
    tried(line, "memfd_secret", attempt(libc::SYS_memfd_secret, &[ZERO]));
}

pub fn machine(line: &mut Line) {
    let text = Argument::Text(c"/tmp/no-such");
    tried(line, "kexec_load", attempt(libc::SYS_kexec_load, &[ZERO, ZERO, ZERO, ZERO]));
    tried(
        line,
        "kexec_file_load",
        attempt(
            libc::SYS_kexec_file_load,
            &[Argument::Number(99), Argument::Number(99), ZERO, ZERO, ZERO],
        ),
    );
    tried(
        line,
        "init_module",
        attempt(
            libc::SYS_init_module,
            &[Argument::Zeros, Argument::Number(64), Argument::Text(c"")],
        ),
    );
    tried(
        line,
        "finit_module",
        attempt(libc::SYS_finit_module, &[Argument::Number(99), Argument::Text(c""), ZERO]),
    );
    tried(
        line,
        "delete_module",
        attempt(libc::SYS_delete_module, &[Argument::Text(c"no_such"), ZERO]),
    );
    tried(line, "swapon", attempt(libc::SYS_swapon, &[text, ZERO]));
    tried(line, "swapoff", attempt(libc::SYS_swapoff, &[text]));
    tried(line, "reboot", attempt(libc::SYS_reboot, &REBOOT));
    tried(line, "acct", attempt(libc::SYS_acct, &[ZERO]));
    tried(line, "sethostname", nix::unistd::sethostname("attacked"));
    tried(
        line,
        "setdomainname",
        attempt(libc::SYS_setdomainname, &[Argument::Text(c"x"), Argument::Number(1)]),
    );
    let clock = ClockId::CLOCK_REALTIME;
    tried(line, "clock_settime", clock_gettime(clock).and_then(|now| clock_settime(clock, now)));
    tried(line, "adjtimex", attempt(libc::SYS_adjtimex, &[Argument::Zeros]));
    tried(line, "clock_adjtime", attempt(libc::SYS_clock_adjtime, &[ZERO, Argument::Zeros]));
    tried(line, "iopl", attempt(libc::SYS_iopl, &[Argument::Number(3)]));
    tried(
        line,
        "ioperm",
        attempt(
            libc::SYS_ioperm,
            &[Argument::Number(0x80), Argument::Number(1), Argument::Number(1)],
        ),
    );
    tried(
        line,
        "modify_ldt",
        attempt(libc::SYS_modify_ldt, &[ZERO, Argument::Zeros, Argument::Number(64)]),
    );
    tried(
        line,
        "quotactl",
        attempt(libc::SYS_quotactl, &[Argument::Number(0x80_0001 << 8), ZERO, ZERO, ZERO]),
    );
    tried(line, "migrate_pages", attempt(libc::SYS_migrate_pages, &[ZERO, ZERO, ZERO, ZERO]));
}

pub fn log(line: &mut Line) {
    // SYSLOG_ACTION_SIZE_BUFFER and SYSLOG_ACTION_READ_ALL (syslog(2)).
    tried(line, "size", attempt(libc::SYS_syslog, &[Argument::Number(10), ZERO, ZERO]));
    tried(
        line,
        "read",
        attempt(libc::SYS_syslog, &[Argument::Number(3), Argument::Zeros, Argument::Number(4096)]),
    );
    for name in ["/dev/kmsg", "/proc/kmsg", "/sys/fs/pstore"] {
        tried(line, name, File::open(name));
    }
}

pub fn settings(line: &mut Line) {
    for name in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/ksm/run",
    ] {
        tried(line, name, File::options().write(true).open(name));
    }
    for name in [
        "/proc/sys",
        "/sys/kernel",
        "/proc/kcore",
        "/proc/kallsyms",
        "/proc/meminfo",
        "/proc/net/tcp",
    ] {
        tried(line, name, fs::metadata(name));
    }
    tried(line, "oom_score_adj", fs::write("/proc/self/oom_score_adj", "-1000"));
    tried(line, "clear_refs", fs::write("/proc/self/timens_offsets", "monotonic 100 0"));
}

pub fn cgroups(line: &mut Line) {
    let none: Option<&str> = None;
    let mut make = |name: &str, kind: &str, options: Option<&str>| {
        let made = mount(Some("x"), "/tmp", Some(kind), MsFlags::empty(), options);
        tried(line, name, made);
    };
    make("mount(cgroup2)", "cgroup2", none);
    make("mount(cgroup)", "cgroup", Some("memory"));
    for name in ["cgroup.procs", "cgroup.subtree_control", "release_agent", "memory.max"] {
        let path = format!("/sys/fs/cgroup/{name}");
        tried(line, name, File::options().write(true).open(path));
    }
    let own = fs::read_to_string("/proc/self/cgroup");
    let own = own.map_or_else(
        |error| word(&error),
        |text| text.lines().filter(|l| l.starts_with("0::")).collect(),
    );
    line.saw("own", own);
}

pub fn sockets(line: &mut Line) {
    // socket(2)'s families and types by number: name, family, type, protocol.
    for (name, family, kind, protocol) in [
        ("unix", 1, 1, 0),
        ("netlink-route", 16, 3, 0),
        ("netlink-netfilter", 16, 3, 12),
        ("netlink-uevent", 16, 2, 15),
        ("packet", 17, 3, 0x300),
        ("ax25", 3, 5, 0),
        ("key", 15, 3, 2),
        ("rds", 21, 5, 0),
        ("can", 29, 3, 1),
        ("tipc", 30, 1, 0),
        ("bluetooth", 31, 3, 1),
        ("alg", 38, 5, 0),
        ("vsock", 40, 1, 0),
        ("kcm", 41, 5, 0),
        ("qipcrtr", 42, 2, 0),
        ("smc", 43, 1, 0),
        ("xdp", 44, 3, 0),
        ("raw", 2, 3, 1),
        ("raw6", 10, 3, 58),
        ("packet-of-inet", 2, 10, 0x300),
        ("dccp", 2, 6, 33),
        ("sctp", 2, 1, 132),
        ("mptcp", 2, 1, 262),
        ("udplite", 2, 2, 136),
        ("l2tp", 2, 2, 115),
    ] {
        let call = [Argument::Number(family), Argument::Number(kind), Argument::Number(protocol)];
        tried(line, name, attempt(libc::SYS_socket, &call));
    }
}

pub fn abstract_sockets(line: &mut Line) {
    let listening = std::env::var("PROBE_ABSTRACT").unwrap_or_else(|_| "mobula-attack".to_owned());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(listening.as_bytes());
    tried(line, "connect", address.and_then(|address| UnixStream::connect_addr(&address)));
    for path in ["/run/mobula/zoned.sock", "/run/mobula/init.sock", "/run/mobula/storaged.sock"] {
        tried(line, path, UnixStream::connect(path));
    }
}

pub fn addresses(line: &mut Line) {
    for (name, address, port) in [
        ("loopback", "127.0.0.1", 9000),
        ("gateway", "10.0.2.2", 80),
        ("metadata", "169.254.169.254", 80),
        ("link-local", "169.254.1.1", 80),
        ("private", "10.0.0.1", 22),
        ("public", "192.0.2.1", 443),
        ("multicast", "224.0.0.1", 80),
        ("loopback6", "::1", 9000),
        ("link-local6", "fe80::1", 80),
        ("mapped6", "::ffff:127.0.0.1", 9000),
        ("mapped-metadata6", "::ffff:169.254.169.254", 80),
        ("any", "0.0.0.0", 9000),
    ] {
        let Ok(address) = address.parse::<IpAddr>() else { continue };
        let to = SocketAddr::new(address, port);
        let reached = TcpStream::connect_timeout(&to, CONNECT_TIME);
        match reached {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => line.saw(name, "timeout"),
            other => tried(line, name, other),
        }
        let from = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let sent = UdpSocket::bind(from).and_then(|socket| socket.send_to(b"x", to));
        tried(line, &format!("{name}-udp"), sent);
    }
    let mapped = Ipv6Addr::UNSPECIFIED;
    tried(line, "listen", std::net::TcpListener::bind((mapped, 0)));
}
