//! Real tasks in real zones on this host, with a storaged of a few lines.

mod common;

use common::{Node, alone, eventually};
use wire::job::PhaseKind;
use wire::task::{Ending, Push, Reply, Request, Runnable, Settled, Task};

const SUCCESS: Ending = Ending::Exited { code: 0 };

#[test]
fn a_map_reads_its_object_and_writes_its_output() {
    alone("a_map_reads_its_object_and_writes_its_output", || {
        let done = Node::start().map("tr a-z A-Z; echo to stderr >&2", b"hello\n");
        assert_eq!((done.ending, done.stdout.as_str()), (SUCCESS, "HELLO\n"));
        assert_eq!(done.stderr, "to stderr\n");
        assert!(done.usage.wall_us > 0 && done.usage.cpu_us > 0, "{:?}", done.usage);
    });
}

#[test]
fn programs_map_the_object_by_its_descriptor_and_by_its_name() {
    alone("programs_map_the_object_by_its_descriptor_and_by_its_name", || {
        let mut node = Node::start();
        let script = r#"/usr/bin/python3 -c '
import mmap, os, sys
by_fd = mmap.mmap(0, 0, prot=mmap.PROT_READ)
named = open(os.environ["MANTA_INPUT_FILE"], "rb")
by_name = mmap.mmap(named.fileno(), 0, prot=mmap.PROT_READ)
again = open("/dev/stdin", "rb").read()
print(len(by_fd), by_fd[:] == by_name[:] == again, named.name)
'"#;
        let done = node.map(script, &vec![b'x'; 100_000]);
        assert_eq!(done.stdout, "100000 True /manta/ann/stor/logs/input.txt\n", "{}", done.stderr);
        let done = node.map("perl -ne 'print $. if eof'", b"1\n2\n3\n");
        assert_eq!(done.stdout, "3");
    });
}

#[test]
fn exit_codes_and_signals_are_reported() {
    alone("exit_codes_and_signals_are_reported", || {
        let mut node = Node::start();
        assert_eq!(node.map("exit 42", b"").ending, Ending::Exited { code: 42 });
        assert_eq!(node.map("kill -TERM $$", b"").ending, Ending::Signalled { signal: 15 });
        assert_eq!(node.map("no-such-command", b"").ending, Ending::Exited { code: 127 });
    });
}

#[test]
fn a_reducer_reads_all_inputs_in_order() {
    alone("a_reducer_reads_all_inputs_in_order", || {
        let mut node = Node::start();
        let inputs: Vec<Vec<u8>> = (0..21).map(|n| format!("{n}\n").into_bytes()).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let done = node.reduce("cat", &inputs);
        assert_eq!(done.ending, SUCCESS);
        assert_eq!(done.stdout, (0..21).map(|n| format!("{n}\n")).collect::<String>());
        assert_eq!(node.reduce("wc -c", &[]).stdout, "0\n");
        let large = vec![b'y'; 3 << 20];
        assert_eq!(node.reduce("wc -c", &[&large, &large]).stdout, "6291456\n");
    });
}

#[test]
fn a_reducer_that_has_had_enough_is_no_failure() {
    alone("a_reducer_that_has_had_enough_is_no_failure", || {
        let large = b"line\n".repeat(1 << 20);
        let done = Node::start().reduce("head -1", &[&large, &large, &large]);
        assert_eq!((done.ending, done.stdout.as_str()), (SUCCESS, "line\n"));
    });
}

#[test]
fn init_runs_first_without_an_input_and_its_failure_is_told_apart() {
    alone("init_runs_first_without_an_input_and_its_failure_is_told_apart", || {
        let mut node = Node::start();
        let mut task = node.task(PhaseKind::Map, "cat /tmp/made; cat");
        task.init = Some(
            "echo unseen; echo ${MANTA_INPUT_FILE-none} >/tmp/made; cat >>/tmp/made".to_owned(),
        );
        assert_eq!(node.run(task, b"object\n", &[], &[]).stdout, "none\nobject\n");
        let mut task = node.task(PhaseKind::Map, "echo never");
        task.init = Some("exit 3".to_owned());
        let done = node.run(task, b"", &[], &[]);
        let message = "init exited with code 3".to_owned();
        assert_eq!((done.ending, done.stdout.as_str()), (Ending::InitFailed { message }, ""));
    });
}

#[test]
fn assets_are_there_and_programs_among_them_run() {
    alone("assets_are_there_and_programs_among_them_run", || {
        let mut node = Node::start();
        let mut task =
            node.task(PhaseKind::Map, "/assets/ann/stor/run.sh; cat /assets/ann/stor/data");
        task.assets =
            vec!["/assets/ann/stor/run.sh".to_owned(), "/assets/ann/stor/data".to_owned()];
        let done = node.run(task, b"", &[b"#!/bin/sh\necho ran\n", b"data\n"], &[]);
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("ran\ndata\n", ""));
    });
}

#[test]
fn the_environment_is_manta_s_and_the_locale_c() {
    alone("the_environment_is_manta_s_and_the_locale_c", || {
        let mut node = Node::start();
        let done = node.map("pwd; echo $HOME $MANTA_USER $PPID $UID; sort", b"b\nA\na\nB\n");
        assert_eq!(done.stdout, "/\n/root ann 1 0\nA\nB\na\nb\n");
    });
}

#[test]
fn a_daemon_left_behind_ends_with_the_task() {
    alone("a_daemon_left_behind_ends_with_the_task", || {
        let mut node = Node::start();
        let line =
            "setsid sleep 1000 & setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & exit 0";
        let done = node.map(line, b"");
        // It would be killed with this test, if it were waited for.
        assert_eq!(done.ending, SUCCESS);
        eventually("the zone's cgroup is gone", || node.zones() == 0);
    });
}

#[test]
fn nothing_can_be_done_to_an_object_but_read_it() {
    alone("nothing_can_be_done_to_an_object_but_read_it", || {
        let script = r#"
f=$MANTA_INPUT_FILE
for act in "echo x >$f" "echo x >>$f" "echo x >/dev/stdin" "chmod 600 $f" "touch $f" "rm $f" "mv $f $f.x" \
    "ln $f /tmp/x" "truncate -s 0 $f" "cp /bin/true $f" "setfattr -n user.a -v b $f"; do
  bash -c "$act" 2>/dev/null && echo "could $act"
done
cat
exit 0"#;
        let done = Node::start().map(script, b"as it was");
        assert_eq!((done.ending, done.stdout.as_str()), (SUCCESS, "as it was"), "{}", done.stderr);
    });
}

#[test]
fn a_zone_has_no_privileges() {
    alone("a_zone_has_no_privileges", || {
        let mut node = Node::start();
        let done =
            node.map("grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status", b"");
        let none = "0000000000000000";
        let expected = format!(
            "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t \nCapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\n\
             CapBnd:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t1\nSeccomp:\t2\n"
        );
        assert_eq!(done.stdout, expected);
        let tries = "mount -t tmpfs x /tmp; unshare -U true; unshare -n true; chroot / true; hostname x; \
                     mknod /tmp/null c 1 3; kill -9 1; dmesg; umount /proc; chown 5 /tmp";
        let done = node.map(&tries.replace(';', " && echo could;"), b"");
        let could = done.stdout.replace("could\n", "+");
        // kill(2) of PID 1 is taken and does nothing: the kernel drops it.
        assert_eq!(could, "+", "{}", done.stderr);
    });
}

#[test]
fn system_calls_that_were_used_against_kernels_fail() {
    alone("system_calls_that_were_used_against_kernels_fail", || {
        // bpf, userfaultfd, io_uring_setup, keyctl, perf_event_open, clone3, ptrace, unshare, setns.
        let script = r#"/usr/bin/python3 -c '
import ctypes, errno
call = ctypes.CDLL(None, use_errno=True).syscall
for number in (321, 323, 425, 250, 298, 435, 101, 272, 308):
    print(number, call(number, 0, 0, 0, 0, 0), errno.errorcode[ctypes.get_errno()])
import socket
for family, kind in ((16, 3), (17, 3), (2, 3), (40, 1), (38, 5)):
    try: socket.socket(family, kind); print("made", family, kind)
    except OSError as e: print(family, kind, errno.errorcode[e.errno])
'"#;
        let done = Node::start().map(script, b"");
        let expected = "321 -1 ENOSYS\n323 -1 ENOSYS\n425 -1 ENOSYS\n250 -1 ENOSYS\n298 -1 ENOSYS\n435 -1 ENOSYS\n\
                        101 -1 EPERM\n272 -1 EPERM\n308 -1 EPERM\n16 3 EAFNOSUPPORT\n17 3 EAFNOSUPPORT\n\
                        2 3 EPERM\n40 1 EAFNOSUPPORT\n38 5 EAFNOSUPPORT\n";
        assert_eq!(done.stdout, expected, "{}", done.stderr);
    });
}

#[test]
fn a_zone_sees_itself_alone() {
    alone("a_zone_sees_itself_alone", || {
        let mut node = Node::start();
        // Its own shell and its own cat; PID 1 hides, and nothing of the node is there.
        let done =
            node.map("echo /proc/[0-9]*; ls /proc/1 2>&1 | head -1; ls /sys /media; hostname", b"");
        let pids: Vec<&str> = done.stdout.lines().next().unwrap().split(' ').collect();
        assert!(pids.len() <= 3 && !pids.contains(&"/proc/1"), "{}", done.stdout);
        assert!(done.stdout.contains("/proc/1': No such file"), "{}", done.stdout);
        assert!(done.stdout.ends_with("z-1\n"), "{}", done.stdout);
        let done = node
            .map("cat /proc/net/dev 2>&1; ls /proc/sys /proc/kcore 2>&1; ls /proc/self/fd", b"");
        assert!(
            !done.stdout.contains("eth") && done.stdout.ends_with("0\n1\n2\n3\n"),
            "{}",
            done.stdout
        );
    });
}

#[test]
fn there_is_no_network() {
    alone("there_is_no_network", || {
        let script = r#"/usr/bin/python3 -c '
import socket
for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254"):
    try: socket.create_connection((address, 80), 1); print("reached", address)
    except OSError as e: print(e.strerror)
'"#;
        let done = Node::start().map(script, b"");
        assert_eq!(done.stdout, "Operation not permitted\n".repeat(3), "{}", done.stderr);
    });
}

#[test]
fn a_zone_may_write_anywhere_and_leaves_nothing() {
    alone("a_zone_may_write_anywhere_and_leaves_nothing", || {
        let mut node = Node::start();
        let line = "for f in /etc/passwd /root/x /tmp/x /usr/bin/x /dev/shm/x; do echo x >$f && cat $f; done; \
                    stat -c %u /etc /root /tmp";
        let done = node.map(line, b"");
        assert_eq!(done.stdout, "x\nx\nx\nx\nx\n0\n0\n0\n", "{}", done.stderr);
        let done = node.map("ls /root/x /tmp/x /usr/bin/x /dev/shm/x; head -c 1 /etc/passwd", b"");
        assert_eq!(done.stdout, "r");
    });
}

#[test]
fn scratch_space_ends_with_an_error_and_not_with_the_zone() {
    alone("scratch_space_ends_with_an_error_and_not_with_the_zone", || {
        let done = Node::start().map("head -c 200M /dev/zero >/tmp/x; stat -c %s /tmp/x", b"");
        // Half of the task's 128 MiB.
        assert_eq!(done.stdout, "67108864\n");
        assert!(done.stderr.contains("No space left on device"), "{}", done.stderr);
    });
}

#[test]
fn output_may_be_opened_again_by_its_device_name() {
    alone("output_may_be_opened_again_by_its_device_name", || {
        let done = Node::start()
            .map("echo one >/dev/stderr; echo two | tee /dev/fd/3 3>&1 >/dev/null", b"");
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("two\n", "one\n"));
    });
}

#[test]
fn a_fork_bomb_stays_in_its_zone() {
    alone("a_fork_bomb_stays_in_its_zone", || {
        let mut node = Node::start();
        if !node.has("pids") {
            return println!(
                "skipped: there is no pids controller here, so nothing stops a fork bomb"
            );
        }
        let done = node.map("bomb() { bomb | bomb & }; bomb; sleep 2; exit 5", b"");
        assert!(matches!(done.ending, Ending::Exited { .. }), "{:?}", done.ending);
    });
}

#[test]
fn a_task_that_eats_its_memory_is_out_of_memory() {
    alone("a_task_that_eats_its_memory_is_out_of_memory", || {
        let mut node = Node::start();
        if !node.has("memory") {
            return println!(
                "skipped: there is no memory controller here, so nothing limits memory"
            );
        }
        let done = node.map("/usr/bin/python3 -c 'x = bytearray(1 << 30)'; sleep 5", b"");
        assert_eq!(done.ending, Ending::OutOfMemory);
    });
}

#[test]
fn a_task_that_writes_beyond_its_disk_is_out_of_disk() {
    alone("a_task_that_writes_beyond_its_disk_is_out_of_disk", || {
        let mut node = Node::start();
        if !node.has_quota() {
            return println!("skipped: there are no project quotas here, so output has no limit");
        }
        let fill = "/usr/bin/python3 -c 'import os; os.posix_fallocate(1, 0, (1 << 30) - (1 << 20)); os.lseek(1, 0, 2)'";
        let mut task =
            node.task(PhaseKind::Reduce, &format!("{fill} && head -c 4M /dev/zero; true"));
        task.disk_gib = 1;
        let done = node.run(task, b"", &[], &[]);
        assert_eq!(done.ending, Ending::OutOfDisk, "{}", done.stderr);
        // The slot's next task starts anew, though the output is still there.
        let mut task = node.task(PhaseKind::Reduce, "echo fits");
        task.disk_gib = 1;
        assert_eq!(node.run(task, b"", &[], &[]).stdout, "fits\n");
    });
}

#[test]
fn a_cancelled_job_s_zones_are_killed_and_reported() {
    alone("a_cancelled_job_s_zones_are_killed_and_reported", || {
        let mut node = Node::start();
        let task = node.task(PhaseKind::Map, "sleep 1000");
        let job = task.job;
        let (attempt, outputs) = node.begin(task, b"", &[]);
        eventually("it runs", || node.status().zones_running == 1);
        node.push(&Push::Cancel { job });
        let done = node.see_through(attempt, &outputs, &[]);
        assert_eq!(done.ending, Ending::Cancelled);
    });
}

#[test]
fn zones_end_with_the_connection_and_work_goes_on_with_the_next() {
    alone("zones_end_with_the_connection_and_work_goes_on_with_the_next", || {
        let mut node = Node::start();
        let task = node.task(PhaseKind::Map, "sleep 1000");
        node.begin(task, b"", &[]);
        eventually("it runs", || node.zones() == 1);
        node.hang_up();
        eventually("its zone is gone", || node.zones() == 0);
        node.reconnect();
        assert_eq!(node.map("cat", b"again").stdout, "again");
    });
}

#[test]
fn a_killed_zoned_leaves_no_zone_to_the_next_one() {
    alone("a_killed_zoned_leaves_no_zone_to_the_next_one", || {
        let mut node = Node::start();
        let task = node.task(PhaseKind::Map, "sleep 1000");
        node.begin(task, b"", &[]);
        eventually("it runs", || node.status().zones_running == 1);
        node.kill_and_restart();
        assert_eq!(node.zones(), 0);
        assert_eq!(node.map("cat", b"again").stdout, "again");
    });
}

#[test]
fn an_image_that_is_not_there_is_the_task_s_failure() {
    alone("an_image_that_is_not_there_is_the_task_s_failure", || {
        let mut node = Node::start();
        let mut task = node.task(PhaseKind::Map, "true");
        task.image = "windows".to_owned();
        let done = node.run(task, b"", &[], &[]);
        assert!(
            matches!(&done.ending, Ending::InitFailed { message } if message.contains("windows.erofs"))
        );
    });
}

#[test]
fn an_image_file_is_mounted_and_used() {
    alone("an_image_file_is_mounted_and_used", || {
        let mut node = Node::start();
        if !node.pack_image("small") {
            return println!("skipped: mkfs.erofs or EROFS from a file is missing here");
        }
        let mut task = node.task(PhaseKind::Map, "echo /*; while read -r _ at kind _; do [ $at != / ] || echo $kind; done </proc/self/mounts");
        task.image = "small".to_owned();
        let done = node.run(task, b"", &[], &[]);
        assert_eq!(done.ending, SUCCESS, "{}", done.stderr);
        assert_eq!(done.stdout, "/bin /dev /lib /lib64 /manta /proc /root /tmp\noverlay\n");
    });
}

#[test]
fn no_more_run_at_once_than_may_and_none_is_forgotten() {
    alone("no_more_run_at_once_than_may_and_none_is_forgotten", || {
        let mut node = Node::with(&["--zones", "2"]);
        let task = node.task(PhaseKind::Reduce, "sleep 0.2");
        let job = task.job;
        let entry = Runnable {
            job,
            phase: 0,
            account: 7,
            ready: 6,
            memory_mib: 128,
            disk_gib: 2,
            image: "base".to_owned(),
        };
        node.push(&Push::Runnable(vec![entry]));
        let (mut given, mut running, mut most, mut ended) = (0, 0, 0, 0);
        while ended < 6 {
            match node.request() {
                (id, Request::Claim { .. }) if given == 6 => {
                    node.reply(id, &Reply::NothingReady, &[]);
                }
                (id, Request::Claim { .. }) => {
                    given += 1;
                    running += 1;
                    most = most.max(running);
                    let task = Task { job, ..node.task(PhaseKind::Reduce, "sleep 0.2") };
                    let fds = [node.staging().1, node.staging().1];
                    node.reply(id, &Reply::Claimed(task), &fds);
                }
                (id, Request::NextInputs { .. }) => {
                    node.reply(id, &Reply::Inputs { names: Vec::new(), end: true }, &[]);
                }
                (id, Request::Ended { ending, .. }) => {
                    assert_eq!(ending, SUCCESS);
                    running -= 1;
                    ended += 1;
                    node.reply(id, &Reply::Settled(Settled::Committed), &[]);
                }
                (_, other) => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!((given, most), (6, 2));
    });
}

/// Not a test of time: it prints what a zone takes here, from the claim's answer to its end being told.
#[test]
#[ignore = "a measurement: run it by name, with --release --ignored --nocapture"]
fn how_long_a_zone_takes() {
    alone("how_long_a_zone_takes", || {
        let mut node = Node::start();
        let mut took = Vec::new();
        for _ in 0..220 {
            let task = node.task(PhaseKind::Map, "exit 0");
            let started = std::time::Instant::now();
            assert_eq!(node.run(task, b"x", &[], &[]).ending, SUCCESS);
            took.push(started.elapsed().as_micros());
        }
        let took = &mut took[20..];
        took.sort_unstable();
        println!(
            "a zone with bash in it, {} runs: p50 {} us, p99 {} us",
            took.len(),
            took[100],
            took[198]
        );
    });
}
