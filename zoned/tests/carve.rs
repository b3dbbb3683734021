//! Cgroups of this host, made, frozen, killed, adopted; and what the meter and the gate make of real tasks.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{Node, alone, eventually};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use sys::seqpacket::Socket;
use wire::carve::Carve;
use wire::frame::{Frame, Kind, encode};
use wire::job::PhaseKind;
use wire::standing::{What, ZoneName, ZonePush, ZoneRequest};
use wire::task::{AttemptId, Ending};
use zoned::carve::{AccountCarve, Cgroup, Place, Tree};

/// A cgroup of this test's own; none where there is no cgroup v2 or no right to it.
fn own(name: &str) -> Option<PathBuf> {
    let root = common::cgroup_root()?;
    let path = root.join(format!("carve-test-{name}-{}", std::process::id()));
    match fs::create_dir(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            println!("skipped: {name}: cannot make {}: {error}", path.display());
            None
        }
    }
}

fn sleeper(cgroup: &Path) -> Child {
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).unwrap();
    child
}

fn gone(cgroup: &Cgroup) {
    eventually("the cgroup is empty", || !cgroup.populated());
    eventually("the cgroup is removed", || cgroup.remove().unwrap());
}

#[test]
fn a_cgroup_is_made_frozen_killed_and_removed() {
    let Some(path) = own("life") else { return };
    let mut tree = Tree::open(&path, &BTreeSet::new()).unwrap();
    let mut cgroup = tree.make(7, Place::Task(AttemptId(9)), &Carve::default()).unwrap();
    assert_eq!(cgroup.name(), "t-7/z-9");
    assert!(cgroup.id() > 0 && !cgroup.populated());
    let mut child = sleeper(&path.join("t-7/z-9"));
    assert!(cgroup.populated());
    let frozen = || {
        let events = fs::read_to_string(path.join("t-7/z-9/cgroup.events")).unwrap();
        events.contains("frozen 1")
    };
    cgroup.freeze(true).unwrap();
    assert!(cgroup.freezes());
    eventually("it is frozen", frozen);
    cgroup.freeze(false).unwrap();
    assert!(!cgroup.freezes());
    eventually("it goes on", || !frozen());
    // Whatever this kernel lacks, what was asked for is shown beside it.
    let limits = cgroup.apply(&Carve { pids: 77, ..Carve::default() }).unwrap();
    assert_eq!(limits.iter().find(|limit| limit.name == "pids.max").unwrap().asked, "77");
    cgroup.freeze(true).unwrap();
    assert!(!cgroup.remove().unwrap());
    cgroup.kill().unwrap();
    child.wait().unwrap();
    gone(&cgroup);
    tree.close().unwrap();
    fs::remove_dir(path).unwrap();
}

#[test]
fn what_is_to_be_kept_outlives_its_tree_and_all_else_does_not() {
    let Some(path) = own("keep") else { return };
    let mut tree = Tree::open(&path, &BTreeSet::new()).unwrap();
    let web = ZoneName::try_from("web".to_owned()).unwrap();
    let kept = tree.make(7, Place::Standing(&web), &Carve::default()).unwrap();
    let (name, id) = (kept.name(), kept.id());
    tree.make(7, Place::Task(AttemptId(1)), &Carve::default()).unwrap();
    tree.make(8, Place::Task(AttemptId(2)), &Carve::default()).unwrap();
    let (mut lives, mut dies) = (sleeper(&path.join("t-7/s-web")), sleeper(&path.join("t-7/z-1")));
    drop((tree, kept));
    let mut tree = Tree::open(&path, &BTreeSet::from([name.clone()])).unwrap();
    assert!(!dies.wait().unwrap().success());
    assert!(!path.join("t-7/z-1").exists() && !path.join("t-8").exists());
    let adopted = tree.adopt(&name).unwrap();
    assert!(adopted.id() == id && adopted.populated());
    tree.set_account(7, &AccountCarve { pids: Some(50), ..AccountCarve::default() }).unwrap();
    let limits = tree.account_limits(7);
    assert_eq!(limits.iter().find(|limit| limit.name == "pids.max").unwrap().asked, "50");
    adopted.kill().unwrap();
    lives.wait().unwrap();
    gone(&adopted);
    tree.close().unwrap();
    fs::remove_dir(path).unwrap();
}

#[test]
fn a_task_is_metered_from_start_to_end() {
    alone("a_task_is_metered_from_start_to_end", || {
        let mut node = Node::start();
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; cat";
        let done = node.map(script, b"0123456789");
        assert_eq!(done.ending, Ending::Exited { code: 0 });
        node.map("exit 3", b"");
        // Lines are told once a second, and heard with the next task's claim.
        eventually("what both used is told", || {
            node.map("true", b"");
            node.metered.borrow().len() >= 5
        });
        let lines = node.metered.borrow();
        let event = |at: usize| lines[at]["event"].as_str().unwrap();
        assert_eq!((event(0), event(1), event(2)), ("agent", "start", "done"), "{lines:#?}");
        assert_eq!((event(3), event(4)), ("start", "done"), "{lines:#?}");
        let (start, end) = (&lines[1], &lines[2]);
        assert_eq!((&start["login"], &start["account"]), (&"ann".into(), &"7".into()));
        assert_eq!((&start["id"], &start["life"]), (&end["id"], &end["life"]));
        assert_eq!((&end["how"], &lines[4]["how"]), (&"exited 0".into(), &"exited 3".into()));
        let total = |name: &str| end["total"][name].as_str().unwrap_or("0").parse::<u64>().unwrap();
        assert_eq!(total("cpu_us"), done.usage.cpu_us);
        assert!(total("cpu_us") > 1000 && total("wall_us") >= done.usage.wall_us, "{end}");
        assert_eq!((total("object_bytes"), total("tasks")), (10, 1));
        // 128 MiB for as long as it ran.
        assert_eq!(total("memory_mib_ms") / 128, total("wall_us") / 1000, "{end}");
    });
}

/// What has happened so far, something at least.
fn told(node: &Node) -> Vec<What> {
    let person = Socket::connect(&node.socket()).unwrap();
    let request = wire::zone::Request::Zone(ZoneRequest::Watch { after: 0 });
    person.send(&encode(Kind::Request, 1, &request, 0).unwrap(), &[]).unwrap();
    let mut message = Vec::new();
    loop {
        person.recv(&mut message).unwrap().expect("zoned is there");
        let frame = Frame::parse(&message, 0).unwrap();
        if frame.kind == Kind::Push {
            let ZonePush::Events(events) = frame.body().unwrap() else { panic!("no events") };
            return events.into_iter().map(|event| event.what).collect();
        }
    }
}

#[test]
fn while_the_store_suffers_tasks_wait_and_none_fails() {
    alone("while_the_store_suffers_tasks_wait_and_none_fails", || {
        // Beside the node's files, which are made when it is.
        let store = tempfile::tempdir_in("/dev/shm").unwrap();
        let pressure = |full: &str| {
            let line = |kind: &str, avg: &str| {
                format!("{kind} avg10={avg} avg60=0.00 avg300=0.00 total=1\n")
            };
            let text = line("some", full) + &line("full", full);
            fs::write(store.path().join("memory.pressure"), text).unwrap();
        };
        pressure("0.00");
        let mut node = Node::with(&["--store-cgroup", store.path().to_str().unwrap()]);
        assert_eq!(node.map("true", b"").ending, Ending::Exited { code: 0 });
        pressure("45.00");
        // Pressure is looked at once a second.
        std::thread::sleep(Duration::from_millis(1100));
        let task = node.task(PhaseKind::Map, "cat");
        let entry = common::runnable(&task);
        node.push(&wire::task::Push::Runnable(vec![entry]));
        eventually("it waits", || node.status().waiting == 1);
        assert_eq!(node.status().zones_running, 0);
        assert!(matches!(&told(&node)[..], [What::Held { .. }]), "{:?}", told(&node));
        pressure("1.00");
        let done = node.run(task, b"here\n", &[], &[]);
        assert_eq!(done.stdout, "here\n");
        eventually("it is told that work goes on", || {
            matches!(told(&node)[..], [What::Held { .. }, What::Released])
        });
    });
}
