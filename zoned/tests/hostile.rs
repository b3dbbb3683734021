//! Hostile images, hostile peers on zoned's socket, and zoned's own sudden ends.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{Node, alone, eventually};
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use sys::seqpacket::{SendError, Socket};
use wire::frame::{Kind, MESSAGE_BYTES_MAX, encode};
use wire::job::PhaseKind;
use wire::task::Ending;
use wire::zone::{Outcome, Report};

/// Connections that are opened and say nothing.
const SILENT: usize = 64;
const REQUESTS: usize = 20_000;
/// Zones that come and go in the test of leaks.
const ZONES: usize = 1_000;
/// Slots of a node with four zones at a time, the first of which the first zone makes.
const SLOTS: usize = 8;
/// A slot's user namespace, its network namespace, its view of objects.
const SLOT_DESCRIPTORS: usize = 3;
const KILLS: u64 = 20;
/// Threads that speak for a first process: together faster than anybody can listen.
const SPEAKERS: usize = 3;
/// Words of one first process that zoned may listen to before it answers somebody else: whoever asks is accepted
/// and answered in two of its turns, and comes in the middle of another one; a turn is a thousand words, and so is
/// what may lie in a socket.
const WORDS_MAX: u64 = 8 * 1024;
const ASKED: usize = 50;

const SUCCESS: Ending = Ending::Exited { code: 0 };

/// Runs a line in a zone of an image.
fn within(node: &mut Node, image: &str, line: &str) -> common::Done {
    let mut task = node.task(PhaseKind::Map, line);
    task.image = image.to_owned();
    node.run(task, b"object\n", &[], &[])
}

#[test]
fn an_image_with_odd_directories_leads_nowhere() {
    alone("an_image_with_odd_directories_leads_nowhere", || {
        let mut node = Node::start();
        // What each link points to, on the node: nothing may come to lie in it.
        let outside = Path::new("/media/outside");
        for (name, kind) in [
            ("dev", "link"),
            ("proc", "link"),
            ("tmp", "link"),
            ("root", "link"),
            ("manta", "link"),
            ("dev", "file"),
            ("proc", "file"),
            ("tmp", "file"),
        ] {
            let image = format!("odd-{name}-{kind}");
            let tree = node.folder_image(&image);
            fs::create_dir_all(outside).unwrap();
            let place = tree.join(name);
            if name == "root" {
                fs::remove_dir(&place).unwrap();
            }
            match kind {
                "link" => symlink(outside, &place).unwrap(),
                _ => fs::write(&place, "a file").unwrap(),
            }
            let line = "echo ran; echo x >/tmp/x; test -c /dev/null && echo x >/root/x";
            let done = within(&mut node, &image, line);
            let refused = matches!(done.ending, Ending::Lost { .. } | Ending::InitFailed { .. });
            // Nothing is put at /root, so a link there is the image's own affair: it leads nowhere.
            let own = name == "root" && done.ending != SUCCESS;
            // The /dev of all zones is a layer above the image's: whatever that has there is not seen.
            let covered = name == "dev" && done.ending == SUCCESS;
            assert_eq!(covered, name == "dev", "{image}: {:?} {:?}", done.ending, done.stdout);
            assert!(refused || own || covered, "{image}: {:?} {:?}", done.ending, done.stdout);
            assert_eq!(fs::read_dir(outside).unwrap().count(), 0, "{image}");
        }
        assert_eq!(node.map("cat", b"good").stdout, "good");
        eventually("all zones are gone", || node.zones() == 0);
    });
}

#[test]
fn device_nodes_and_privileged_programs_of_an_image_are_inert() {
    alone("device_nodes_and_privileged_programs_of_an_image_are_inert", || {
        let mut node = Node::start();
        let tree = node.folder_image("inert");
        let made = Command::new("mknod").arg(tree.join("zero")).args(["c", "1", "5"]).status();
        assert!(made.unwrap().success());
        for (name, owner) in [("raised", 1000), ("rooted", 0)] {
            fs::copy("/bin/cat", tree.join("bin").join(name)).unwrap();
            chown(tree.join("bin").join(name), Some(owner), Some(owner)).unwrap();
            let mode = fs::Permissions::from_mode(0o6755);
            fs::set_permissions(tree.join("bin").join(name), mode).unwrap();
        }
        fs::copy("/bin/cat", tree.join("bin/capable")).unwrap();
        let capable = File::open(tree.join("bin/capable")).unwrap();
        let every = [1, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0];
        sys::xattr::set(capable.as_fd(), c"security.capability", &every).unwrap();
        let line = r#"
read -r -n 1 x </zero && echo 'read a device'
for p in raised rooted capable; do
  while read -r name a b c d; do
    case $name in Uid:|CapEff:|CapPrm:) echo $p $name $a $b $c $d;; esac
  done < <($p /proc/self/status)
done
exit 0"#;
        let done = within(&mut node, "inert", line);
        let none = "0000000000000000";
        let expected: String = ["raised", "rooted", "capable"]
            .map(|p| format!("{p} Uid: 0 0 0 0\n{p} CapPrm: {none}\n{p} CapEff: {none}\n"))
            .concat();
        assert_eq!(
            (done.ending, done.stdout.as_str()),
            (SUCCESS, &expected[..]),
            "{}",
            done.stderr
        );
    });
}

#[test]
fn peers_that_flood_or_say_nothing_change_nothing() {
    alone("peers_that_flood_or_say_nothing_change_nothing", || {
        let mut node = Node::start();
        assert_eq!(node.map("cat", b"before").stdout, "before");
        let descriptors = || count(&format!("/proc/{}/fd", node.zoned()));
        let before = descriptors();
        let memory = resident_kib(node.zoned());
        let silent: Vec<Socket> =
            (0..SILENT).filter_map(|_| Socket::connect(&node.socket()).ok()).collect();
        let null = File::open("/dev/null").unwrap();
        let many: Vec<BorrowedFd<'_>> = (0..16).map(|_| null.as_fd()).collect();
        let request = encode(Kind::Request, 1, &wire::zone::Request::Status, 0).unwrap();
        let huge = vec![7u8; MESSAGE_BYTES_MAX];
        let (mut sent, mut refused) = (0, 0);
        for round in 0..REQUESTS / 50 {
            let Ok(peer) = Socket::connect(&node.socket()) else { continue };
            peer.set_nonblocking().unwrap();
            for turn in 0..50 {
                let done = match (round + turn) % 4 {
                    0 => peer.send(&request, &many),
                    1 => peer.send(&huge, &[]),
                    2 => peer.send(&request[..request.len() / 2], &many),
                    _ => peer.send(&request, &[]),
                };
                sent += usize::from(done.is_ok());
                refused += usize::from(done.is_err());
            }
        }
        assert!(sent > 0 && refused > 0, "{sent} sent, {refused} refused");
        // Whoever asks properly is answered, all the while and afterwards.
        drop(silent);
        assert!(node.status().store_connected);
        eventually("zoned has let go of all of them", || descriptors() <= before + 2);
        let grown = resident_kib(node.zoned()).saturating_sub(memory);
        assert!(grown < 16 * 1024, "zoned has grown by {grown} KiB");
        assert_eq!(node.map("cat", b"after").stdout, "after");
    });
}

#[test]
fn a_first_process_that_never_stops_talking_holds_up_nobody() {
    alone("a_first_process_that_never_stops_talking_holds_up_nobody", || {
        let mut node = Node::start();
        let talker = node.task(PhaseKind::Map, "sleep 1000");
        let (attempt, outputs) = node.begin(talker, b"x", &[]);
        let (process, socket) = eventually_some("its task runs", || first_process(&node));
        // It takes no orders while others speak for it, so it is neither alive nor gone.
        rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
        let over = Report::Over(Outcome::Broken { message: "tired".to_owned() });
        let over = encode(Kind::Push, 0, &over, 0).unwrap();
        let (socket, heard) = (Socket::from(socket), AtomicU64::new(0));
        socket.set_nonblocking().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..SPEAKERS {
                // Without a rest, until zoned closes its end because the zone is gone.
                scope.spawn(|| {
                    loop {
                        match socket.send(&over, &[]) {
                            Ok(()) => {
                                heard.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(SendError::Full) => std::hint::spin_loop(),
                            Err(_) => return,
                        }
                    }
                });
            }
            let words = || heard.load(Ordering::Relaxed);
            eventually("it talks", || words() > WORDS_MAX);
            for _ in 0..ASKED {
                let before = words();
                assert!(node.status().store_connected);
                let meanwhile = words() - before;
                assert!(meanwhile < WORDS_MAX, "{meanwhile} words before an answer");
            }
            assert_eq!(node.map("cat", b"others").stdout, "others");
            node.kill_zones();
            let done = node.see_through(attempt, &outputs, &[]);
            assert_eq!(done.ending, Ending::Lost { message: "tired".to_owned() });
        });
    });
}

fn eventually_some<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(what, || {
        found = find();
        found.is_some()
    });
    found.unwrap()
}

/// The first process of the one zone in which a program sleeps, and its socket.
fn first_process(node: &Node) -> Option<(rustix::process::Pid, OwnedFd)> {
    let processes = node.processes();
    let named = |pid: &i32, name: &str| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    };
    processes.iter().find(|pid| named(pid, "sleep"))?;
    let number = *processes.iter().find(|pid| named(pid, "zone-init"))?;
    let pid = rustix::process::Pid::from_raw(number)?;
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let sockets = fs::read_dir(format!("/proc/{number}/fd")).unwrap().flatten().filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    });
    let numbers: Vec<i32> =
        sockets.map(|entry| entry.file_name().to_string_lossy().parse().unwrap()).collect();
    assert_eq!(numbers.len(), 1, "its one socket is zoned's: {numbers:?}");
    let flags = rustix::process::PidfdGetfdFlags::empty();
    Some((pid, rustix::process::pidfd_getfd(&process, numbers[0], flags).unwrap()))
}

#[test]
fn zoned_killed_at_any_moment_leaves_no_orphan() {
    alone("zoned_killed_at_any_moment_leaves_no_orphan", || {
        let mut node = Node::start();
        for round in 0..KILLS {
            let task = node.task(PhaseKind::Map, "sleep 1000 & sleep 1000");
            node.begin(task, b"x", &[]);
            // From before the zone is made until well into its task.
            std::thread::sleep(Duration::from_micros(round * round * 100));
            node.kill_and_restart();
            eventually("the zone is gone", || node.zones() == 0);
        }
        assert_eq!(node.map("cat", b"again").stdout, "again");
    });
}

#[test]
fn a_thousand_zones_leave_nothing() {
    alone("a_thousand_zones_leave_nothing", || {
        let mut node = Node::with(&["--zones", "4"]);
        assert_eq!(node.map("true", b"").ending, SUCCESS);
        let look = |node: &Node| {
            let zoned = node.zoned();
            let mounts = fs::read_to_string(format!("/proc/{zoned}/mountinfo")).unwrap();
            let descriptors = count(&format!("/proc/{zoned}/fd"));
            (descriptors, mounts.lines().count(), node.zones())
        };
        eventually("the first zone is gone", || node.zones() == 0);
        let (before, memory) = (look(&node), resident_kib(node.zoned()));
        for _ in 0..ZONES {
            assert_eq!(node.map("exit 0", b"").ending, SUCCESS);
        }
        eventually("the last zone is gone", || node.zones() == 0);
        let after = look(&node);
        assert_eq!((after.1, after.2), (before.1, before.2), "mounts, cgroups");
        // Slots are made when first needed and kept; how many were depends on how soon zones go.
        let most = before.0 + (SLOTS - 1) * SLOT_DESCRIPTORS;
        assert!((before.0..=most).contains(&after.0), "{} descriptors, {before:?} before", after.0);
        let grown = resident_kib(node.zoned()).saturating_sub(memory);
        assert!(grown < 4 * 1024, "zoned has grown by {grown} KiB");
    });
}

fn count(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
