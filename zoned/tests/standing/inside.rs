//! What a tenant finds in a standing zone, and what of it reaches nobody else.

use crate::common::eventually;
use crate::machine::{name, on_a_machine};
use std::fs;
use wire::standing::{ZoneRequest, ZoneState};
use wire::zone::Outcome;

#[test]
fn its_root_has_exactly_the_capabilities_of_a_standing_zone() {
    on_a_machine("inside::its_root_has_exactly_the_capabilities_of_a_standing_zone", |machine| {
        let mut client = machine.client();
        client.run("web", "");
        let (_, text) = client.exec("web", "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status");
        // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID.
        let set = "00000000000000fb";
        for line in ["CapPrm", "CapEff", "CapBnd"] {
            assert!(text.contains(&format!("{line}:\t{set}")), "{text}");
        }
        for line in ["CapInh", "CapAmb"] {
            assert!(text.contains(&format!("{line}:\t0000000000000000")), "{text}");
        }
        assert!(text.contains("NoNewPrivs:\t1") && text.contains("Seccomp:\t2"), "{text}");
        let (_, text) = client.exec("web", "grep Cap /proc/1/status | sort -u | grep -c fb");
        assert_eq!(text, "3\n");
    });
}

#[test]
fn its_root_looks_after_users_and_files_and_gains_nothing_else() {
    on_a_machine(
        "inside::its_root_looks_after_users_and_files_and_gains_nothing_else",
        |machine| {
            let mut client = machine.client();
            client.run("web", "");
            let script = "cd /tmp; touch a; chown 1000:1000 a; stat -c %u:%g a; \
             python3 -c 'import os; os.setgid(1000); os.setuid(1000); print(os.getuid()); \
             print(open(\"/proc/self/status\").read().split(\"CapEff:\")[1].split()[0])'; \
             chroot / true; mount -t tmpfs x /mnt; hostname other; mknod n c 1 3; \
             unshare -r true; echo end";
            let (_, text) = client.exec("web", script);
            assert!(text.contains("1000:1000\n1000\n0000000000000000\n"), "{text}");
            let refused = ["chroot", "mount", "hostname", "mknod", "unshare"];
            for program in refused {
                assert!(text.lines().any(|line| line.contains(program)), "{program}: {text}");
            }
            let (_, text) =
                client.exec("web", "ls /proc | grep -vE '^[0-9]+$' | sort | tr '\\n' ' '");
            assert_eq!(text, "self thread-self ");
        },
    );
}

#[test]
fn case_63_killing_the_first_process_from_inside_is_ignored() {
    on_a_machine("inside::case_63_killing_the_first_process_from_inside_is_ignored", |machine| {
        let mut client = machine.client();
        client.run("web", "");
        let script = "for s in KILL STOP TERM HUP CHLD SEGV USR1; do kill -$s 1; done; sleep 0.2; echo alive";
        let (outcome, text) = client.exec("web", script);
        assert_eq!((outcome, text.as_str()), (Outcome::Exited { code: 0 }, "alive\n"));
        // All but the first process, and whoever sends it, are killed.
        let (sleeping, _files) = client.begin("web", "sleep 1000", None);
        let (_, _) = client.exec("web", "kill -KILL -1");
        assert_eq!(client.outcome(sleeping), Outcome::Signalled { signal: libc::SIGKILL });
        assert_eq!(client.state("web"), ZoneState::Running);
    });
}

#[test]
fn case_22_orphans_and_zombies_are_reaped() {
    on_a_machine("inside::case_22_orphans_and_zombies_are_reaped", |machine| {
        let mut client = machine.client();
        client.run("web", "");
        let script =
            "for i in $(seq 400); do (true & exec true) ; (setsid true &) ; done; echo done";
        let (_, text) = client.exec("web", script);
        assert_eq!(text, "done\n");
        eventually("only the first process is left", || machine.processes() == 1);
        // The kernel counts no zombies among a cgroup's processes: they may be reaped after that.
        let zombies = "grep -l '^State:.Z' /proc/[0-9]*/status; echo none";
        eventually("all are reaped", || client.exec("web", zombies).1 == "none\n");
    });
}

#[test]
fn case_21_a_flood_of_output_is_bounded_and_costs_zoned_nothing() {
    on_a_machine(
        "inside::case_21_a_flood_of_output_is_bounded_and_costs_zoned_nothing",
        |machine| {
            let mut client = machine.client();
            let resident = |pid: i32| {
                let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
                line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
            };
            client.run("quiet", "");
            let before = resident(machine.pid());
            client.run("loud", "yes mobula >&2 & yes zone");
            let folder = machine.place().join("data/zones/loud");
            let sizes = || ["log.0", "log.1"].map(|f| fs::metadata(folder.join(f)).unwrap().len());
            let mut turned = 0;
            let mut last = sizes();
            eventually("the log went round three times", || {
                let now = sizes();
                assert!(now[0] <= 1 << 20 && now[1] <= 1 << 20, "{now:?}");
                turned += usize::from((now[0] < 1 << 20) != (last[0] < 1 << 20));
                last = now;
                turned >= 6
            });
            assert!(resident(machine.pid()) < before + 2048, "zoned grew");
            // Others are answered all the while, and the loud one can be stopped.
            assert_eq!(client.exec("quiet", "echo hello").1, "hello\n");
            client.zone(ZoneRequest::Stop { name: name("loud"), timeout_s: 20 });
            client.reach("loud", ZoneState::Installed);
        },
    );
}

#[test]
fn a_zone_keeps_its_output_folder_and_no_program_runs_from_it() {
    on_a_machine("inside::a_zone_keeps_its_output_folder_and_no_program_runs_from_it", |machine| {
        let mut client = machine.client();
        client.create(r#"{"name":"web","login":"ann","image":"base","output":"/ann/stor/out"}"#);
        client.reach("web", ZoneState::Running);
        let script = "cd /out && cp /bin/true t && echo kept > f; ./t; echo $?; stat -c %u:%g f";
        let (_, text) = client.exec("web", script);
        assert!(text.contains("126\n0:0\n"), "{text}");
        client.zone(ZoneRequest::Stop { name: name("web"), timeout_s: 0 });
        client.reach("web", ZoneState::Installed);
        client.zone(ZoneRequest::Start(name("web")));
        client.reach("web", ZoneState::Running);
        assert_eq!(client.exec("web", "cat /out/f; ls /tmp | wc -l").1, "kept\n0\n");
    });
}
