//! Instances: zones that are kept for the next task of the same job and phase, on this host.

mod common;

use common::{Done, Node, alone, eventually};
use wire::job::{JobId, PhaseKind};
use wire::task::{Ending, Task};

const SUCCESS: Ending = Ending::Exited { code: 0 };

/// A map of the job 1, over an object of this name.
fn kin(node: &mut Node, exec: &str, name: &str) -> Task {
    let job = JobId(uuid::Uuid::from_u128(1 << 64));
    Task { job, input: Some(name.to_owned()), ..node.task(PhaseKind::Map, exec) }
}

fn map(node: &mut Node, exec: &str, name: &str, object: &[u8]) -> Done {
    let task = kin(node, exec, name);
    node.run(task, object, &[], &[])
}

#[test]
fn tasks_of_a_phase_follow_each_other_in_one_instance() {
    alone("tasks_of_a_phase_follow_each_other_in_one_instance", || {
        let mut node = Node::start();
        let before = std::fs::read_link(format!("/proc/{}/cwd", node.zoned())).unwrap();
        assert_ne!(before, std::path::Path::new("/"));
        let init = Some("echo once >>/var/inits".to_owned());
        let exec = "cat /var/inits; hostname; cat; cat $MANTA_INPUT_FILE; cat </dev/stdin; \
                    echo $MANTA_INPUT_FILE; find /manta -type f; ls /proc | grep -c '^[0-9]'";
        let first = Task { init: init.clone(), ..kin(&mut node, exec, "/ann/stor/a/1") };
        let number = first.attempt.0;
        let told = |name: &str, text: &str| {
            // /dev/stdin, opened again, begins at the beginning.
            format!("once\nz-{number}\n{text}{text}{text}/manta{name}\n/manta{name}\n")
        };
        let done = node.run(first, b"one\n", &[], &[]);
        assert_eq!(done.ending, SUCCESS, "{}", done.stderr);
        assert!(done.stdout.starts_with(&told("/ann/stor/a/1", "one\n")), "{}", done.stdout);
        for (name, text) in [("/ann/stor/a/2", "two\n"), ("/ann/stor/b/c/3", "three\n")] {
            let next = Task { init: init.clone(), ..kin(&mut node, exec, name) };
            let done = node.run(next, text.as_bytes(), &[], &[]);
            assert!(done.stdout.starts_with(&told(name, text)), "{} {}", done.stdout, done.stderr);
        }
        eventually("zoned, which showed the objects in the zone's mounts, is where it was", || {
            std::fs::read_link(format!("/proc/{}/cwd", node.zoned())).unwrap() == before
        });
        // The same name again, and another object.
        let again = Task { init, ..kin(&mut node, "cat $MANTA_INPUT_FILE", "/ann/stor/a/1") };
        assert_eq!(node.run(again, b"four", &[], &[]).stdout, "four");
        eventually("an instance that nobody needs is let go", || node.zones() == 0);
    });
}

#[test]
fn an_instance_is_of_no_use_to_another_phase_or_job() {
    alone("an_instance_is_of_no_use_to_another_phase_or_job", || {
        let mut node = Node::with(&["--zones", "1"]);
        map(&mut node, "echo secret >/tmp/secret", "/ann/stor/x", b"");
        let look = "cat /tmp/secret";
        assert_eq!(map(&mut node, look, "/ann/stor/x", b"").stdout, "secret\n");
        let other_phase = Task { phase: 1, ..kin(&mut node, look, "/ann/stor/x") };
        assert_eq!(node.run(other_phase, b"", &[], &[]).ending, Ending::Exited { code: 1 });
        let other_account = Task { account: 8, ..kin(&mut node, look, "/ann/stor/x") };
        assert_eq!(node.run(other_account, b"", &[], &[]).ending, Ending::Exited { code: 1 });
        // More jobs than slots, without a pause: instances make room for each other.
        for _ in 0..8 {
            assert_eq!(node.map(look, b"").ending, Ending::Exited { code: 1 });
        }
    });
}

#[test]
fn a_task_finds_no_process_of_the_one_before_it() {
    alone("a_task_finds_no_process_of_the_one_before_it", || {
        let mut node = Node::start();
        let line =
            "setsid sleep 1000 & setsid bash -c 'trap \"\" TERM; while :; do :; done' & exit 3";
        let done = map(&mut node, line, "/ann/stor/x", b"");
        assert_eq!(done.ending, Ending::Exited { code: 3 });
        let done = map(&mut node, "ls -d /proc/[0-9]*/ | wc -l", "/ann/stor/x", b"");
        // This shell, ls and perhaps wc; the first process is hidden from them.
        assert!(matches!(done.stdout.trim(), "2" | "3"), "{} {}", done.stdout, done.stderr);
    });
}

#[test]
fn what_a_task_used_is_its_own() {
    alone("what_a_task_used_is_its_own", || {
        let mut node = Node::start();
        // Work and not time: how much of the processor it gets is not ours to say.
        let burn = map(&mut node, "for ((i = 0; i < 500000; i++)); do :; done", "/x", b"");
        assert!(burn.usage.cpu_us > 50_000, "{:?}", burn.usage);
        let little = map(&mut node, "true", "/x", b"");
        assert!(little.usage.cpu_us < burn.usage.cpu_us / 2, "{:?}", little.usage);
    });
}

#[test]
fn where_objects_are_shown_the_tenant_can_put_nothing() {
    alone("where_objects_are_shown_the_tenant_can_put_nothing", || {
        let mut node = Node::start();
        let script = "
            for what in 'ln -s /etc /manta/trap' 'mkdir /manta/ann/stor/trap' \
                'mv /manta/ann /manta/trap' 'rm -r /manta/ann/stor/x' 'mv /manta /elsewhere' \
                'mount -t tmpfs none /manta' 'umount /manta' 'touch /manta/ann/stor/y'
            do $what 2>/dev/null && echo \"$what worked\"; done; true";
        let done = map(&mut node, script, "/ann/stor/x", b"x");
        assert_eq!((done.ending, done.stdout.as_str()), (SUCCESS, ""), "{}", done.stderr);
        assert_eq!(map(&mut node, "cat /manta/ann/stor/x", "/ann/stor/x", b"y").stdout, "y");
    });
}

#[test]
fn an_instance_that_fell_while_it_waited_is_no_loss() {
    alone("an_instance_that_fell_while_it_waited_is_no_loss", || {
        let mut node = Node::start();
        assert_eq!(map(&mut node, "cat", "/ann/stor/x", b"one").stdout, "one");
        node.kill_zones();
        eventually("it is seen", || node.zones() == 0);
        assert_eq!(map(&mut node, "cat", "/ann/stor/x", b"two").stdout, "two");
    });
}

#[test]
fn instances_end_with_the_connection_and_with_zoned() {
    alone("instances_end_with_the_connection_and_with_zoned", || {
        let mut node = Node::start();
        map(&mut node, "true", "/ann/stor/x", b"");
        node.reconnect();
        eventually("the instance is gone", || node.zones() == 0);
        map(&mut node, "true", "/ann/stor/x", b"");
        node.kill_and_restart();
        assert_eq!(node.zones(), 0);
    });
}

/// Not a test of time: it prints what a task takes in an instance here, from the claim's answer to its end
/// being told.
#[test]
#[ignore = "prints figures"]
fn how_long_a_task_takes_in_an_instance() {
    alone("how_long_a_task_takes_in_an_instance", || {
        let mut node = Node::start();
        let mut took = Vec::new();
        for _ in 0..220 {
            let task = kin(&mut node, "exit 0", "/ann/stor/x");
            let started = std::time::Instant::now();
            assert_eq!(node.run(task, b"x", &[], &[]).ending, SUCCESS);
            took.push(started.elapsed().as_micros());
        }
        let took = &mut took[20..];
        took.sort_unstable();
        println!("{} tasks with bash: p50 {} us, p99 {} us", took.len(), took[100], took[198]);
    });
}
