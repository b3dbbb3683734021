//! The life of a zone as a person lives it: made, entered, stopped, paused, changed, deleted.

use crate::common::{PATIENCE, eventually};
use crate::machine::{ACCOUNT, Machine, name, on_a_machine};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use wire::carve::CarveChange;
use wire::standing::{Subject, What, WindowSize, ZoneReply, ZoneRequest, ZoneState};
use wire::zone::Outcome;

#[test]
fn a_zone_is_created_entered_and_deleted_and_nothing_is_left() {
    on_a_machine("life::a_zone_is_created_entered_and_deleted_and_nothing_is_left", |machine| {
        let mut client = machine.client();
        client.run("web", "");
        let view = client.zone(ZoneRequest::Get(name("web")));
        assert_eq!((view.summary.login.as_str(), view.summary.image.as_str()), ("ann", "base"));
        let (outcome, text) = client.exec("web", "hostname; id -u; tr a-z A-Z <<< hello; exit 3");
        assert_eq!((outcome, text.as_str()), (Outcome::Exited { code: 3 }, "web\n0\nHELLO\n"));
        let (outcome, text) = client.exec("web", "no-such-program");
        assert_eq!(outcome, Outcome::Exited { code: 127 });
        assert!(text.contains("no-such-program"), "{text}");
        assert_eq!(machine.kept().len(), 2);
        let ZoneReply::Done = client.ask(ZoneRequest::Delete(name("web"))).unwrap().0 else {
            panic!()
        };
        gone(machine);
        // It is forgotten when its files are known to be gone.
        eventually("it is forgotten", || {
            let found = client.ask(ZoneRequest::Get(name("web")));
            found.is_err_and(|refusal| refusal.code == "NoSuchZone")
        });
    });
}

/// Nothing of any zone is left.
fn gone(machine: &mut Machine) {
    eventually("nothing is left", || {
        machine.zones().is_empty() && machine.records().is_empty() && machine.kept().is_empty()
    });
    assert_eq!(machine.processes(), 0);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    on_a_machine("life::what_makes_no_sense_is_refused_with_the_reason", |machine| {
        let mut client = machine.client();
        let mut refused = |text: &str| {
            let spec = serde_json::from_str(text).unwrap();
            client.ask(ZoneRequest::Create(Box::new(spec))).unwrap_err()
        };
        let bob = refused(r#"{"name":"web","login":"bob","image":"base"}"#);
        assert_eq!(bob.code, "NoSuchAccount");
        let image = refused(r#"{"name":"web","login":"ann","image":"nothing"}"#);
        assert_eq!(image.code, "NoSuchImage");
        let small = refused(r#"{"name":"web","login":"ann","image":"base","carve":{"pids":1}}"#);
        assert_eq!((small.code.as_str(), small.message.contains("pids")), ("InvalidSpec", true));
        client.run("web", "");
        let spec = serde_json::from_str(r#"{"name":"web","login":"ann","image":"base"}"#).unwrap();
        let again = client.ask(ZoneRequest::Create(spec)).unwrap_err();
        assert_eq!(again.code, "ZoneExists");
        client.zone(ZoneRequest::Stop { name: name("web"), timeout_s: 0 });
        client.reach("web", ZoneState::Installed);
        let paused = client.ask(ZoneRequest::Pause(name("web"))).unwrap_err();
        assert_eq!(paused.message, "it is installed and not running: start it first");
    });
}

#[test]
fn a_terminal_has_a_size_a_shell_and_an_interrupt() {
    on_a_machine("life::a_terminal_has_a_size_a_shell_and_an_interrupt", |machine| {
        let mut client = machine.client();
        client.run("web", "");
        let size = WindowSize { rows: 33, columns: 77 };
        let (session, mut files) = client.begin("web", "", Some(size));
        let mut terminal = files.remove(0);
        assert!(files.is_empty());
        terminal.write_all(b"tty; stty size\n").unwrap();
        let seen = read_until(&mut terminal, "33 77\r\n");
        assert!(seen.contains("/dev/pts/0"), "{seen}");
        // The interrupt has a trap: without one bash goes on if its child ended by itself just then.
        let script = "bash -c 'trap \"echo w-inch\" WINCH; trap \"echo b-roken; exit\" INT; \
            echo o-n; while :; do sleep 0.1; done'\n";
        terminal.write_all(script.as_bytes()).unwrap();
        read_until(&mut terminal, "o-n\r\n");
        sys::pty::set_size(terminal.as_fd(), 40, 100).unwrap();
        read_until(&mut terminal, "w-inch\r\n");
        terminal.write_all(b"\x03").unwrap();
        read_until(&mut terminal, "b-roken\r\n");
        terminal.write_all(b"stty size; exit 5\n").unwrap();
        read_until(&mut terminal, "40 100\r\n");
        assert_eq!(client.outcome(session), Outcome::Exited { code: 5 });
    });
}

#[test]
fn proc_and_terminals_are_there_from_the_first_program_on() {
    on_a_machine("life::proc_and_terminals_are_there_from_the_first_program_on", |machine| {
        let mut client = machine.client();
        client.run("idle", "");
        client.run("busy", "test -c /dev/pts/ptmx && sleep 1000");
        let account = machine.cgroup.join(format!("t-{}", crate::machine::ACCOUNT));
        let furniture = |zone: &str| {
            let procs = std::fs::read_to_string(account.join(zone).join("cgroup.procs")).unwrap();
            let first = procs.lines().next().unwrap();
            let mounts = std::fs::read_to_string(format!("/proc/{first}/mountinfo")).unwrap();
            let is_one = |line: &&str| line.contains(" /dev/pts ") || line.contains(" - proc ");
            mounts.lines().filter(is_one).count()
        };
        assert_eq!((furniture("s-idle"), furniture("s-busy")), (0, 2));
        for _ in 0..2 {
            let (outcome, text) =
                client.exec("idle", "echo 1 | tee /dev/ptmx; ls /dev/pts; cat /proc/1/comm");
            let done = Outcome::Exited { code: 0 };
            assert_eq!((outcome, text.as_str()), (done, "1\nptmx\nzone-init\n"));
            assert_eq!((furniture("s-idle"), furniture("s-busy")), (2, 2));
            // The next zoned sees that they are there.
            machine.crash();
            machine.start(None);
            client = machine.client();
            client.reach("idle", ZoneState::Running);
        }
        assert_eq!(client.state("busy"), ZoneState::Running);
    });
}

fn read_until(from: &mut File, what: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.contains(what) {
        assert!(Instant::now() < deadline, "no {what:?} in {seen:?}");
        let ready = sys::wait::wait(&[(from.as_fd(), sys::wait::For::Input)], Some(10_000));
        assert!(ready.unwrap()[0], "no {what:?} in {seen:?}");
        let got = from.read(&mut buffer).unwrap_or_else(|error| panic!("{error}: {seen:?}"));
        seen.push_str(&String::from_utf8_lossy(&buffer[..got]));
    }
    seen
}

#[test]
fn a_session_ends_with_whoever_asked_for_it() {
    on_a_machine("life::a_session_ends_with_whoever_asked_for_it", |machine| {
        let mut client = machine.client();
        client.run("web", "");
        let (_, files) = client.begin("web", "sleep 1000 & sleep 1001", None);
        let processes = || machine_count(machine);
        // A shell may become the last program that it runs.
        eventually("they run", || processes() > 2);
        drop(client);
        eventually("they are gone", || processes() == 1);
        drop(files);
    });
}

#[test]
fn what_is_left_running_outlives_whoever_began_it_and_zoned() {
    on_a_machine("life::what_is_left_running_outlives_whoever_began_it_and_zoned", |machine| {
        let mut client = machine.client();
        client.run("web", "");
        let script = "read line; echo \"read '$line'\"; until [ -e /tmp/go ]; do sleep 0.05; done; \
                      echo over >&2; exit 6";
        let session = client.detach("web", script);
        let events = client.events(0);
        let began = events.iter().any(|e| e.what == What::SessionBegan { session });
        assert!(began, "{events:?}");
        drop(client);
        machine.crash();
        machine.start(None);
        let mut client = machine.client();
        client.reach("web", ZoneState::Running);
        // Its input is empty, and what it writes is in the zone's log.
        eventually("it runs", || client.log("web") == "read ''\n");
        client.exec("web", "touch /tmp/go");
        eventually("it is over", || client.log("web") == "read ''\nover\n");
        eventually("it is gone", || machine_count(machine) == 1);
        // One that never ran says so there too.
        let name = name("web");
        let request = |words: &[&str], terminal| {
            let command = words.iter().map(|&word| word.to_owned()).collect();
            let environment = Vec::new();
            ZoneRequest::Exec { name: name.clone(), command, environment, terminal, detached: true }
        };
        client.ask(request(&["no-such-program"], None)).unwrap();
        eventually("it is told", || client.log("web").contains("cannot run no-such-program"));
        let size = Some(WindowSize { rows: 24, columns: 80 });
        for bad in [request(&[], None), request(&["true"], size)] {
            assert_eq!(client.ask(bad).unwrap_err().code, "InvalidCommand");
        }
    });
}

#[test]
fn a_terminal_whose_person_goes_is_hung_up() {
    on_a_machine("life::a_terminal_whose_person_goes_is_hung_up", |machine| {
        let mut client = machine.client();
        client.run("web", "");
        let size = Some(WindowSize { rows: 24, columns: 80 });
        let (_, mut files) = client.begin("web", "", size);
        let mut terminal = files.remove(0);
        // As on any terminal: a job in the background ends with it, one that ignores hang-ups is left alone.
        let script = "nohup sh -c ': >/tmp/deaf; exec sleep 1000' >/dev/null 2>&1 & sleep 1001 & \
            until [ -e /tmp/deaf ]; do sleep 0.1; done; bash -c 'trap \"echo farewell >/tmp/said; \
            exit\" HUP; echo o-n; while :; do sleep 0.1; done'\n";
        terminal.write_all(script.as_bytes()).unwrap();
        read_until(&mut terminal, "o-n\r\n");
        drop((client, terminal));
        let mut client = machine.client();
        eventually("it was told", || client.exec("web", "cat /tmp/said").1 == "farewell\n");
        eventually("what ignores it runs on beside the first process", || {
            machine_count(machine) == 2
        });
        // One that ignores it has a while.
        let (_, mut files) =
            client.begin("web", "trap '' HUP; echo o-n; while :; do sleep 0.1; done", size);
        read_until(&mut files[0], "o-n\r\n");
        drop((client, files));
        eventually("it is killed", || machine_count(machine) == 2);
        let mut client = machine.client();
        // Words of a command line end with a zero byte.
        let (_, found) = client.exec("web", "grep -lz '^1000$' /proc/[0-9]*/cmdline");
        assert!(found.contains("/proc"), "{found}");
    });
}

fn machine_count(machine: &Machine) -> usize {
    machine.processes()
}

#[test]
fn a_command_is_told_to_end_and_then_killed() {
    on_a_machine("life::a_command_is_told_to_end_and_then_killed", |machine| {
        let mut client = machine.client();
        client.run(
            "polite",
            "trap 'echo farewell; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
        );
        client.run("deaf", "trap '' TERM; echo ready; while :; do sleep 1; done");
        for zone in ["polite", "deaf"] {
            eventually("it is ready", || client.log(zone).contains("ready"));
        }
        client.zone(ZoneRequest::Stop { name: name("polite"), timeout_s: 30 });
        client.reach("polite", ZoneState::Installed);
        assert_eq!(client.log("polite"), "ready\nfarewell\n");
        let began = Instant::now();
        let view = client.zone(ZoneRequest::Stop { name: name("deaf"), timeout_s: 1 });
        assert_eq!(view.summary.state, ZoneState::ShuttingDown);
        client.reach("deaf", ZoneState::Installed);
        assert!(began.elapsed() >= Duration::from_secs(1), "it had its second");
        // Started again, its log goes on.
        client.zone(ZoneRequest::Start(name("deaf")));
        eventually("it is ready again", || client.log("deaf").matches("ready").count() == 2);
    });
}

#[test]
fn a_paused_zone_stands_still() {
    on_a_machine("life::a_paused_zone_stands_still", |machine| {
        let mut client = machine.client();
        client.run("web", "while :; do echo tick; sleep 0.02; done");
        eventually("it ticks", || client.log("web").len() > 20);
        client.zone(ZoneRequest::Pause(name("web")));
        assert_eq!(client.state("web"), ZoneState::Paused);
        let events = machine.cgroup.join(format!("t-{ACCOUNT}/s-web/cgroup.events"));
        eventually("it is frozen", || fs::read_to_string(&events).unwrap().contains("frozen 1"));
        let before = client.log("web").len();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(client.log("web").len(), before);
        let exec = ZoneRequest::Exec {
            name: name("web"),
            command: vec![],
            environment: vec![],
            terminal: None,
            detached: false,
        };
        assert_eq!(client.ask(exec).unwrap_err().code, "WrongState");
        client.zone(ZoneRequest::Resume(name("web")));
        eventually("it goes on", || client.log("web").len() > before);
        // Frozen processes hear no signals: they are let go first.
        client.zone(ZoneRequest::Pause(name("web")));
        client.zone(ZoneRequest::Stop { name: name("web"), timeout_s: 20 });
        client.reach("web", ZoneState::Installed);
    });
}

#[test]
fn a_command_that_ends_is_started_again_if_it_is_to_be() {
    on_a_machine("life::a_command_that_ends_is_started_again_if_it_is_to_be", |machine| {
        let mut client = machine.client();
        client.create(
            r#"{"name":"again","login":"ann","image":"base","restart":true,
                "command":["bash","-c","echo once; exit 9"]}"#,
        );
        eventually("it is started again", || {
            client.zone(ZoneRequest::Get(name("again"))).restarts >= 2
        });
        let view = client.zone(ZoneRequest::Get(name("again")));
        assert_eq!(view.last_outcome, Some(Outcome::Exited { code: 9 }));
        // What it wrote may come after word of its end.
        eventually("it ran twice", || client.log("again").matches("once").count() >= 2);
        let (ZoneReply::Why(why), _) = client.ask(ZoneRequest::Why(name("again"))).unwrap() else {
            panic!()
        };
        assert_eq!(why[0], "its command exited with code 9");
        client.create(
            r#"{"name":"once","login":"ann","image":"base","command":["bash","-c","exit 4"]}"#,
        );
        client.reach("once", ZoneState::Installed);
        let view = client.zone(ZoneRequest::Get(name("once")));
        assert_eq!(view.last_outcome, Some(Outcome::Exited { code: 4 }));
    });
}

#[test]
fn limits_change_while_a_zone_runs_and_are_on_record() {
    on_a_machine("life::limits_change_while_a_zone_runs_and_are_on_record", |machine| {
        let mut client = machine.client();
        client.run("web", "");
        let change = CarveChange { memory_mib: Some(512), ..CarveChange::default() };
        let update = ZoneRequest::Update { name: name("web"), change: Box::new(change) };
        let (ZoneReply::Limits(limits), _) = client.ask(update).unwrap() else { panic!() };
        let memory = limits.iter().find(|limit| limit.name == "memory.max").unwrap();
        assert_eq!(memory.asked, (512u64 << 20).to_string());
        let bad = CarveChange { cpu_milli: Some(1), ..CarveChange::default() };
        let update = ZoneRequest::Update { name: name("web"), change: Box::new(bad) };
        assert_eq!(client.ask(update).unwrap_err().code, "InvalidSpec");
        machine.crash();
        machine.start(None);
        let mut client = machine.client();
        let view = client.zone(ZoneRequest::Get(name("web")));
        assert_eq!(view.spec.carve.memory_mib, 512);
    });
}

#[test]
fn what_happens_is_told_in_order() {
    on_a_machine("life::what_happens_is_told_in_order", |machine| {
        let mut client = machine.client();
        client.create(
            r#"{"name":"web","login":"ann","image":"base","command":["bash","-c","exit 0"]}"#,
        );
        client.reach("web", ZoneState::Installed);
        let mut watcher = machine.client();
        let events = watcher.events(0);
        let words: Vec<String> = events
            .iter()
            .filter(|event| event.subject == Subject::Zone(name("web")))
            .map(|event| match &event.what {
                What::State { to, .. } => to.word().to_owned(),
                What::Ended { restarted, .. } => format!("ended {restarted}"),
                other => format!("{other:?}"),
            })
            .collect();
        let expected =
            ["incomplete", "ready", "running", "ended false", "shutting_down", "down", "installed"];
        assert_eq!(words, expected);
        assert!(events.windows(2).all(|two| two[0].number + 1 == two[1].number));
        client.ask(ZoneRequest::Delete(name("web"))).unwrap();
        let last = events.last().unwrap().number;
        assert!(watcher.events(last).iter().all(|event| event.number > last));
    });
}

#[test]
fn lists_are_paged_by_name() {
    on_a_machine("life::lists_are_paged_by_name", |machine| {
        let mut client = machine.client();
        for zone in ["c", "a", "b"] {
            client.run(zone, "");
        }
        let mut page = |after: Option<&str>| {
            let request = ZoneRequest::List { after: after.map(name) };
            let (ZoneReply::Zones(zones), _) = client.ask(request).unwrap() else { panic!() };
            zones.into_iter().map(|zone| zone.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(page(None), ["a", "b", "c"]);
        assert_eq!(page(Some("a")), ["b", "c"]);
        assert!(page(Some("c")).is_empty());
    });
}

#[test]
fn what_was_written_to_out_is_published_when_asked_and_when_the_zone_stops() {
    let own = "life::what_was_written_to_out_is_published_when_asked_and_when_the_zone_stops";
    on_a_machine(own, |machine| {
        let mut client = machine.client();
        client.run("none", "");
        let refused = client.ask(ZoneRequest::Publish(name("none"))).unwrap_err();
        assert_eq!(refused.code, "NoOutput");
        client.create(r#"{"name":"web","login":"ann","image":"base","output":"/ann/stor/out"}"#);
        client.reach("web", ZoneState::Running);
        client.exec("web", "echo one > /out/a; mkdir /out/d; echo two > /out/d/b");
        let published = match client.ask(ZoneRequest::Publish(name("web"))).unwrap().0 {
            ZoneReply::Published(published) => published,
            other => panic!("unexpected {other:?}"),
        };
        // The storaged of these tests counts what it is shown.
        assert_eq!(published.objects, 2);
        client.exec("web", "echo three > /out/c");
        client.zone(ZoneRequest::Stop { name: name("web"), timeout_s: 0 });
        client.reach("web", ZoneState::Installed);
        let events = machine.client().events(0);
        let counts: Vec<u64> = events
            .iter()
            .filter_map(|event| match &event.what {
                What::Published(published) => Some(published.objects),
                _ => None,
            })
            .collect();
        assert_eq!(counts, [2, 3]);
    });
}
