//! Attacks from inside real zones on this host: a probe runs as a tenant's program and says what it could do.
//!
//! What it must say stands in the `probe` library; a case that it left out is a failure, and the same probe
//! outside of any zone must get through. Limits that take controllers are tried in the booted appliance.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;
#[path = "common/program.rs"]
mod program;

use common::{Done, Node, eventually};
use probe::expected::{Place, cases, judge};
use program::{attacked, program};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;
use wire::job::PhaseKind;
use wire::task::Ending;

/// Cases that take a controller or a quota to be stopped, and are not tried where there is none.
const NEEDS_PIDS: [u8; 2] = [1, 2];
const NEEDS_QUOTA: [u8; 1] = [12];
/// Larger than what may be locked, smaller than a zone's memory.
const OBJECT_BYTES: usize = 256 * 1024;
const ASSET: &str = "/assets/ann/stor/probe";

fn run(node: &mut Node, line: &str) -> Done {
    let mut task = node.task(PhaseKind::Map, line);
    task.assets = vec![ASSET.to_owned()];
    task.memory_mib = 256;
    let program = std::fs::read(program()).unwrap();
    node.run(task, &vec![b'o'; OBJECT_BYTES], &[&program], &[])
}

fn listed(numbers: &[u8]) -> String {
    numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(" ")
}

/// A socket of this machine's network namespace that a zone must not reach, and its name.
fn listening() -> (UnixListener, String) {
    let name = format!("mobula-attack-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    (UnixListener::bind_addr(&address).unwrap(), name)
}

#[test]
fn a_zone_withstands_every_attack_that_needs_no_controller() {
    attacked("a_zone_withstands_every_attack_that_needs_no_controller", || {
        let (_listening, name) = listening();
        let mut node = Node::start();
        let needs = |number: &u8| {
            (node.has("pids") || !NEEDS_PIDS.contains(number))
                && (node.has_quota() || !NEEDS_QUOTA.contains(number))
        };
        let asked: Vec<u8> = cases(Place::Task).into_iter().filter(needs).collect();
        let done = run(&mut node, &format!("PROBE_ABSTRACT={name} {ASSET} {}", listed(&asked)));
        print!("{}", done.stdout);
        let wrong = judge(&done.stdout, &asked, Place::Task);
        assert!(wrong.is_empty(), "{wrong:#?}\n{}", done.stderr);
        assert_eq!(done.ending, Ending::Exited { code: 0 }, "{}", done.stderr);
        eventually("the zone's cgroup is gone", || node.zones() == 0);
    });
}

#[test]
fn outside_of_a_zone_the_same_attacks_get_through() {
    attacked("outside_of_a_zone_the_same_attacks_get_through", || {
        let (_listening, name) = listening();
        let mut wrong = Vec::new();
        for number in cases(Place::Outside) {
            // Each in namespaces of its own, with a /tmp of its own: some of them do harm there.
            let script = format!(
                "mount -t tmpfs none /tmp && head -c {OBJECT_BYTES} /dev/zero >/tmp/object && \
                 exec {} {number}",
                program().display()
            );
            let output = Command::new("unshare")
                .args([
                    "--mount",
                    "--uts",
                    "--ipc",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    &script,
                ])
                .env("PROBE_ABSTRACT", &name)
                .env("PROBE_OBJECT", "/tmp/object")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            print!("outside: {text}");
            wrong.extend(judge(&text, &[number], Place::Outside));
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}
