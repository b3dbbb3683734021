//! The table of [`crate::expected`]: what each case must report, by place.
//!
//! In this order they are tried: the last leaves no room in the zone's files.

use crate::expected::Row;

/// What says that an address is not reached, whatever the reason: no socket, no route, no leave.
macro_rules! no_way_out {
    () => {
        "ENETUNREACH|EADDRNOTAVAIL|EINVAL|EPERM|EACCES|EAFNOSUPPORT|EHOSTUNREACH"
    };
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        number: 1,
        task: "fork=EAGAIN processes=<512",
        standing: None,
        outside: "",
    },
    Row {
        number: 2,
        task: "thread=EAGAIN threads=<512",
        standing: None,
        outside: "",
    },
    Row {
        number: 4,
        task: "tmp=ENOSPC tmp-removed=ok tmp-again=ok shm=ENOSPC shm-removed=ok shm-again=ok
               root=ENOSPC root-removed=ok root-again=ok",
        standing: None,
        outside: "",
    },
    Row {
        number: 5,
        task: "hard=>1024 raise=EPERM lower=ok open=EMFILE pipe=EMFILE eventfd=EMFILE
               epoll=EMFILE in-flight=ETOOMANYREFS in-flight-count=<4300",
        standing: None,
        outside: "",
    },
    Row {
        number: 6,
        task: "large=EPERM large-count=<64 larger=EPERM",
        standing: None,
        outside: "large=*",
    },
    Row {
        number: 7,
        task: "inotify=EMFILE inotify-count=<128 fanotify=ENOSYS",
        standing: None,
        outside: "inotify=*",
    },
    Row {
        number: 8,
        task: "mq_open=EMFILE|ENOSYS shmget-huge=EINVAL|ENOMEM|ENOSPC segment=ok",
        standing: None,
        outside: "mq_open=ok|ENOSYS segment=ok",
    },
    Row {
        number: 9,
        task: "bytes=262144 map=ok mlock=ENOMEM mlock-onfault=ENOMEM map-locked=EAGAIN
               mlockall=ENOMEM|EPERM raise=EPERM",
        standing: None,
        outside: "map=ok mlock=ok mlock-onfault=ok map-locked=ok",
    },
    Row {
        number: 11,
        task: "looked-up=200000 found=0",
        standing: None,
        outside: "",
    },
    Row {
        number: 12,
        task: "fallocate-1TiB=EDQUOT|ENOSPC|EFBIG fallocate-unseen=EDQUOT|ENOSPC|EFBIG
               sparse=EFBIG|EDQUOT|ENOSPC|EINVAL
               emptied=ok",
        standing: None,
        outside: "",
    },
    Row {
        number: 16,
        task: "timer=EAGAIN timers=<1024 storm=endured",
        standing: None,
        outside: "timer=* storm=endured",
    },
    Row {
        number: 17,
        task: "fsync=ok fdatasync=ok syncfs=ok fsync-output=ok ms=<5000",
        standing: None,
        outside: "",
    },
    Row {
        number: 22,
        task: "orphans=1000 end=unlimited zombies=0",
        standing: None,
        outside: "",
    },
    Row {
        number: 24,
        task: "mount(tmpfs)=EPERM mount(bind)=EPERM mount(proc)=EPERM mount(private)=EPERM
               fsopen=EPERM fspick=EPERM open_tree=EPERM fsmount=EPERM move_mount=EPERM
               mount_setattr=EPERM",
        standing: None,
        outside: "mount(tmpfs)=ok mount(bind)=ok mount(proc)=ok fsopen=ok open_tree=ok
                  fsmount=EINVAL mount_setattr=ok",
    },
    Row {
        number: 25,
        task: "umount(/proc)=EPERM umount(/dev)=EPERM umount(/tmp)=EPERM
               umount(object)=EPERM remount(/)=EPERM remount(object)=EPERM
               remount(overlay)=EPERM",
        standing: None,
        outside: "",
    },
    Row {
        number: 26,
        task: "read=ok write=EROFS|EACCES|EPERM|EBUSY|EXDEV
               append=EROFS|EACCES|EPERM|EBUSY|EXDEV truncate=EROFS|EACCES|EPERM|EBUSY|EXDEV
               chmod=EROFS|EACCES|EPERM|EBUSY|EXDEV chown=EROFS|EACCES|EPERM|EBUSY|EXDEV
               utimes=EROFS|EACCES|EPERM|EBUSY|EXDEV fchmod=EROFS|EACCES|EPERM|EBUSY|EXDEV
               setxattr=EROFS|EACCES|EPERM|EBUSY|EXDEV link=EROFS|EACCES|EPERM|EBUSY|EXDEV
               rename=EROFS|EACCES|EPERM|EBUSY|EXDEV unlink=EROFS|EACCES|EPERM|EBUSY|EXDEV",
        standing: None,
        outside: "write=ok append=ok truncate=ok chmod=ok chown=ok utimes=ok link=ok
                  rename=ok",
    },
    Row {
        number: 27,
        task: "read=ok read-write=EROFS|EACCES append=EROFS|EACCES truncate=EROFS|EACCES
               direct=EROFS|EACCES by-stdin=EROFS|EACCES",
        standing: None,
        outside: "read-write=ok append=ok truncate=ok",
    },
    Row {
        number: 28,
        task: "read=ok exec=EPERM exec-private=EPERM exec-later=EACCES write=EACCES
               write-later=EACCES run=EACCES",
        standing: None,
        outside: "exec=ok exec-private=ok exec-later=ok",
    },
    Row {
        number: 32,
        task: "block=EPERM char=EPERM whiteout=EPERM fifo=ok /dev/mem=ENOENT
               /dev/kmsg=ENOENT /dev/vda=ENOENT /dev/fuse=ENOENT /dev/kvm=ENOENT
               /dev/net/tun=ENOENT /dev/console=ENOENT
               dev=fd,full,null,random,shm,stderr,stdin,stdout,tty,urandom,zero",
        standing: Some(
            "block=EPERM char=EPERM whiteout=EPERM fifo=ok /dev/mem=ENOENT /dev/kmsg=ENOENT
             /dev/vda=ENOENT /dev/fuse=ENOENT /dev/kvm=ENOENT /dev/net/tun=ENOENT
             /dev/console=ENOENT
             dev=fd,full,null,ptmx,pts,random,shm,stderr,stdin,stdout,tty,urandom,zero",
        ),
        outside: "block=ok|EPERM char=ok|EPERM fifo=ok",
    },
    Row {
        number: 33,
        task: "CapInh=0000000000000000 CapPrm=0000000000000000 CapEff=0000000000000000
               CapBnd=0000000000000000 CapAmb=0000000000000000 NoNewPrivs=1 make=ok
               as-root=0,0,0000000000000000 as-other=EPERM",
        standing: Some(
            "CapInh=0000000000000000 CapPrm=00000000000000fb CapEff=00000000000000fb
             CapBnd=00000000000000fb CapAmb=0000000000000000 NoNewPrivs=1 make=ok
             as-root=0,0,00000000000000fb as-other=1000,1000,0000000000000000",
        ),
        outside: "",
    },
    Row {
        number: 34,
        task: "name_to_handle_at=ENOSYS opened=0 open_by_handle_at=EPERM",
        standing: None,
        outside: "name_to_handle_at=ok|EOPNOTSUPP open_by_handle_at=*",
    },
    Row {
        number: 35,
        task: "root=ENOENT cwd=ENOENT exe=ENOENT environ=ENOENT maps=ENOENT mem=ENOENT
               status=ENOENT mountinfo=ENOENT fd=ENOENT task=ENOENT root/etc=ENOENT
               exe-write=ENOENT self-exe-write=EACCES|ETXTBSY",
        standing: Some(
            "root=EACCES cwd=EACCES exe=EACCES environ=EACCES maps=EACCES mem=EACCES
             status=ok mountinfo=ok fd=EACCES task=ok root/etc=EACCES exe-write=EACCES
             self-exe-write=EACCES|ETXTBSY",
        ),
        outside: "status=ok mountinfo=ok fd=ok",
    },
    Row {
        number: 36,
        task: "open=0,1,2,3 climbed=0 cwd=/ above=the-root",
        standing: None,
        outside: "",
    },
    Row {
        number: 38,
        task: "mkdir=ok chroot=EPERM pivot_root=EPERM end=the-root",
        standing: None,
        outside: "chroot=ok",
    },
    Row {
        number: 40,
        task: "trusted.overlay+trusted.redirect+trusted.metacopy+trusted.directory=EPERM
               security.capability=EPERM user.overlay=ok|EOPNOTSUPP|EPERM led=0 upper+work=ENOENT
               rename-lower=EXDEV redirect=EXDEV rename-own=ok copy-up=7 restore=done
               fill=ENOSPC copy-up-whole=ENOSPC lower=whole emptied=ok",
        standing: None,
        outside: "",
    },
    Row {
        number: 41,
        task: "unshare(NEWUSER)=refused clone(NEWUSER)=EPERM unshare(NEWNS)=refused
               clone(NEWNS)=EPERM unshare(NEWPID)=refused clone(NEWPID)=EPERM
               unshare(NEWNET)=refused clone(NEWNET)=EPERM unshare(NEWIPC)=refused
               clone(NEWIPC)=EPERM unshare(NEWUTS)=refused clone(NEWUTS)=EPERM
               unshare(NEWCGROUP)=refused clone(NEWCGROUP)=EPERM unshare(NEWTIME)=refused
               clone3=ENOSYS clone=ok thread=ok uid_map=EPERM setgroups=EACCES",
        standing: None,
        outside: "unshare(NEWNS)=ok unshare(NEWNET)=ok unshare(NEWPID)=ok clone(NEWNS)=ok
                  clone(NEWNET)=ok clone3=EINVAL",
    },
    Row {
        number: 42,
        task: "setns(user)=EPERM setns(mnt)=EPERM setns(pid)=EPERM setns(net)=EPERM
               setns(ipc)=EPERM setns(uts)=EPERM setns(cgroup)=EPERM setns(time)=EPERM
               first's=ENOENT pidfd=ok",
        standing: Some(
            "setns(user)=EPERM setns(mnt)=EPERM setns(pid)=EPERM setns(net)=EPERM
             setns(ipc)=EPERM setns(uts)=EPERM setns(cgroup)=EPERM setns(time)=EPERM
             first's=EACCES pidfd=ok",
        ),
        outside: "setns(mnt)=ok setns(net)=ok setns(uts)=ok",
    },
    Row {
        number: 43,
        task: "ptrace(1)=EPERM ptrace(parent)=EPERM ptrace(child)=EPERM
               process_vm_readv=EPERM process_vm_writev=EPERM pidfd_getfd=EPERM kcmp=EPERM
               mem=ENOENT processes=<3",
        standing: Some(
            "ptrace(1)=EPERM ptrace(parent)=EPERM ptrace(child)=EPERM process_vm_readv=EPERM
             process_vm_writev=EPERM pidfd_getfd=EPERM kcmp=EPERM mem=EACCES processes=<3",
        ),
        outside: "ptrace(child)=ok process_vm_readv=ok|EPERM pidfd_getfd=EBADF processes=>3",
    },
    Row {
        number: 44,
        task: "kill(nobody)=ESRCH kill(all,0)=ok|ESRCH setown(nobody)=ESRCH
               credentials(own)=ok credentials(pid)=EPERM credentials(uid)=EPERM
               kill(child)=SIGKILL",
        standing: Some(
            "kill(nobody)=ESRCH kill(all,0)=ok|ESRCH setown(nobody)=ESRCH
             credentials(own)=ok credentials(pid)=EPERM credentials(uid)=ok
             kill(child)=SIGKILL",
        ),
        outside: "credentials(pid)=ok credentials(uid)=ok kill(all,0)=ok",
    },
    Row {
        number: 45,
        task: "keyctl=ENOSYS add_key=ENOSYS request_key=ENOSYS /proc/keys=ENOENT
               /proc/key-users=ENOENT",
        standing: None,
        outside: "keyctl=* add_key=ok|EDQUOT|ENOSYS",
    },
    Row {
        number: 46,
        task: "bpf=ENOSYS perf_event_open=ENOSYS userfaultfd=ENOSYS userfaultfd-user=ENOSYS
               io_uring_setup=ENOSYS memfd_secret=ENOSYS",
        standing: None,
        outside: "bpf=EINVAL|EPERM perf_event_open=ok|ENOENT|EACCES|EPERM|ENOSYS
                  userfaultfd=ok|ENOSYS io_uring_setup=ok|EPERM|ENOSYS
                  memfd_secret=ok|ENOSYS",
    },
    Row {
        number: 47,
        task: "kexec_load=ENOSYS kexec_file_load=ENOSYS init_module=EPERM finit_module=EPERM
               delete_module=EPERM swapon=EPERM swapoff=EPERM reboot=EPERM acct=EPERM
               sethostname=EPERM setdomainname=EPERM clock_settime=EPERM adjtimex=EPERM
               clock_adjtime=EPERM iopl=EPERM ioperm=EPERM modify_ldt=ENOSYS quotactl=EPERM
               migrate_pages=ENOSYS",
        standing: None,
        outside: "sethostname=ok setdomainname=ok reboot=ok adjtimex=ok swapon=ENOENT|ENOSYS",
    },
    Row {
        number: 48,
        task: "size=EPERM read=EPERM /dev/kmsg=ENOENT /proc/kmsg=ENOENT
               /sys/fs/pstore=ENOENT",
        standing: None,
        outside: "size=ok read=ok",
    },
    Row {
        number: 49,
        task: "/proc/sys/kernel/core_pattern=ENOENT /proc/sys/kernel/modprobe=ENOENT
               /proc/sys/vm/drop_caches=ENOENT /proc/sysrq-trigger=ENOENT
               /sys/kernel/uevent_helper=ENOENT /sys/kernel/mm/ksm/run=ENOENT
               /proc/sys=ENOENT /sys/kernel=ENOENT /proc/kcore=ENOENT /proc/kallsyms=ENOENT
               /proc/meminfo=ENOENT /proc/net/tcp=ENOENT oom_score_adj=EACCES
               clear_refs=EPERM",
        standing: None,
        outside: "/proc/sys=ok /sys/kernel=ok /proc/meminfo=ok",
    },
    Row {
        number: 50,
        task: "mount(cgroup2)=EPERM mount(cgroup)=EPERM cgroup.procs=ENOENT
               cgroup.subtree_control=ENOENT release_agent=ENOENT memory.max=ENOENT own=0::/",
        standing: None,
        outside: "mount(cgroup2)=ok",
    },
    Row {
        number: 51,
        task: "unix=ok netlink-route=EAFNOSUPPORT netlink-netfilter=EAFNOSUPPORT
               netlink-uevent=EAFNOSUPPORT packet=EAFNOSUPPORT ax25=EAFNOSUPPORT
               key=EAFNOSUPPORT rds=EAFNOSUPPORT can=EAFNOSUPPORT tipc=EAFNOSUPPORT
               bluetooth=EAFNOSUPPORT alg=EAFNOSUPPORT vsock=EAFNOSUPPORT kcm=EAFNOSUPPORT
               qipcrtr=EAFNOSUPPORT smc=EAFNOSUPPORT xdp=EAFNOSUPPORT raw=EPERM raw6=EPERM
               packet-of-inet=EPERM dccp=EPERM sctp=EPROTONOSUPPORT mptcp=EPROTONOSUPPORT
               udplite=EPROTONOSUPPORT l2tp=EPROTONOSUPPORT",
        standing: None,
        outside: "netlink-route=ok packet=ok|EAFNOSUPPORT raw=ok udplite=ok|EPROTONOSUPPORT",
    },
    Row {
        number: 52,
        task: "connect=ECONNREFUSED|EPERM /run/mobula/zoned.sock=ENOENT
               /run/mobula/init.sock=ENOENT /run/mobula/storaged.sock=ENOENT",
        standing: None,
        outside: "connect=ok",
    },
    Row {
        number: 53,
        task: concat!(
            "loopback+loopback-udp+loopback6+loopback6-udp+mapped6+mapped6-udp+any+gateway+gateway-udp
             +metadata+metadata-udp+link-local+link-local-udp+private+private-udp+public+public-udp
             +multicast+multicast-udp+link-local6+link-local6-udp+mapped-metadata6+mapped-metadata6-udp=",
            no_way_out!(),
            " any-udp=ok|",
            no_way_out!(),
            " listen=ok|EPERM|EACCES|EAFNOSUPPORT"
        ),
        // A zone with a network has a loopback, which is its own: nothing of the node listens there.
        standing: Some(concat!(
            "loopback+loopback-udp+loopback6+loopback6-udp+mapped6+mapped6-udp+any+any-udp=ok|ECONNREFUSED|",
            no_way_out!(),
            " gateway+gateway-udp+metadata+metadata-udp+link-local+link-local-udp+private+private-udp
             +public+public-udp+multicast+multicast-udp+link-local6+link-local6-udp+mapped-metadata6
             +mapped-metadata6-udp=",
            no_way_out!(),
            " listen=ok|EPERM|EACCES|EAFNOSUPPORT"
        )),
        outside: "",
    },
    Row {
        number: 55,
        task: "TIOCSTI=ENOTTY TIOCLINUX=ENOTTY TIOCCONS=ENOTTY TIOCSETD=ENOTTY
               /dev/tty=ENXIO /dev/ptmx=ENOENT /dev/pts/ptmx=ENOENT /dev/tty0=ENOENT
               /dev/ttyS0=ENOENT /dev/vcs=ENOENT",
        standing: Some(
            "TIOCSTI=ENOTTY TIOCLINUX=ENOTTY TIOCCONS=ENOTTY TIOCSETD=ENOTTY
             /dev/tty=ok|ENXIO /dev/ptmx=ok /dev/pts/ptmx=ok /dev/tty0=ENOENT
             /dev/ttyS0=ENOENT /dev/vcs=ENOENT",
        ),
        outside: "TIOCSTI=ENOTTY",
    },
    Row {
        number: 56,
        task: "no-randomize=EPERM read-implies-exec=EPERM x32=refused|SIGSYS
               int80=SIGSYS|SIGSEGV vsyscall=ok|SIGSEGV|SIGSYS",
        standing: None,
        outside: "no-randomize=ok read-implies-exec=ok x32=refused|ok int80=ok|SIGSEGV",
    },
    Row {
        number: 57,
        task: "dumpable=ok traceme=refused seccomp(filter)=ENOSYS seccomp(listener)=ENOSYS
               seccomp(strict,1)=ENOSYS mode=2 new-privileges=none",
        standing: None,
        outside: "traceme=ok seccomp(filter)=EINVAL|EFAULT mode=*",
    },
    Row {
        number: 58,
        task: "raise=EPERM abort=SIGABRT dumped=no cores=0",
        standing: None,
        outside: "raise=ok abort=SIGABRT",
    },
    Row {
        number: 59,
        task: "others=0 other-object=ENOENT climb=ENOENT store=ENOENT cachestat=ENOSYS",
        standing: None,
        outside: "",
    },
    Row {
        number: 60,
        task: "perf=ENOSYS /proc/schedstat=ENOENT /proc/interrupts=ENOENT /proc/stat=ENOENT
               /proc/pagetypeinfo=ENOENT /sys/devices/system/cpu/smt=ENOENT
               /proc/self/pagemap=ok",
        standing: None,
        outside: "/proc/stat=ok /proc/interrupts=ok",
    },
    Row {
        number: 61,
        task: "roots=/,/dev,/shm,/tmp object-root=/objects/#|/store/objects/#/# stdin=the-object
               kinds=overlay:zone,proc:none,tmpfs:none,tmpfs:zone|ext4:/dev/vda,overlay:zone,proc:none,tmpfs:zone
               layers=/task:/lower,upperdir=upper,workdir=work,uuid=on objects=absent cgroup=0::/ host=z-* maps=0
               /proc/sys/kernel/random/boot_id=ENOENT /proc/cmdline=ENOENT
               /proc/mounts-of-the-node=ENOENT /proc/version=ENOENT /run/mobula=ENOENT",
        standing: Some(
            "roots=/,/dev,/shm,/tmp object-root=none stdin=null|pipe kinds=devpts:none,* layers=/standing:/lower,upperdir=upper,workdir=work,uuid=on
             objects=none|absent cgroup=0::/ host=* maps=0 /proc/sys/kernel/random/boot_id=ENOENT
             /proc/cmdline=ENOENT /proc/mounts-of-the-node=ENOENT /proc/version=ENOENT
             /run/mobula=ENOENT",
        ),
        outside: "",
    },
    Row {
        number: 62,
        task: "files=0 segment=ENOENT foreign-files=0 socket=ECONNREFUSED|EPERM
               leave-segment=ok leave-socket=ok chown=EPERM setuid=refused
               capabilities=0000000000000000",
        standing: Some(
            "files=0 segment=ENOENT foreign-files=0 socket=ECONNREFUSED|EPERM
             leave-segment=ok leave-socket=ok chown=ok setuid=ok
             capabilities=00000000000000fb",
        ),
        outside: "",
    },
    Row {
        number: 63,
        task: "SIGKILL=ok SIGSEGV=ok SIGSTOP=ok SIGTERM=ok SIGCHLD=ok pidfd=ok
               prlimit(cpu)=EPERM prlimit(files)=EPERM orphan=ok first=there",
        standing: None,
        outside: "",
    },
    Row {
        number: 20,
        task: "deep=ENOSPC depth=<40000 back=ok long-name=ENAMETOOLONG
               long-path=ENAMETOOLONG sparse=made|ENOSPC|EFBIG sparse-output=ok|EFBIG|EINVAL",
        standing: None,
        outside: "",
    },
];
