//! Attacks from inside a standing zone, whose root may do more than a task's: the same probe, another row.

use crate::client::Client;
use crate::common::eventually;
use crate::machine::Machine;
use crate::program::{attacked, program};
use probe::expected::{Place, cases, judge};
use std::fs::File;
use std::io::{Read, Write};
use wire::standing::WindowSize;
use wire::zone::Outcome;

/// Cases about an object (its zone shows none here) or about output, and such as take a controller.
const ELSEWHERE: [u8; 8] = [1, 2, 9, 12, 26, 27, 28, 59];
const SUCCESS: Outcome = Outcome::Exited { code: 0 };

/// Runs a test on a machine with a zone in which the probe is `/tmp/probe`.
fn on_a_machine(name: &str, run: impl FnOnce(&mut Machine, &mut Client)) {
    attacked(name, || {
        let mut machine = Machine::boot();
        let mut client = machine.client();
        let spec = r#"{"name":"hostile","login":"ann","image":"base",
                       "carve":{"memory_mib":512,"scratch_mib":256}}"#;
        client.create(spec);
        client.reach("hostile", wire::standing::ZoneState::Running);
        let line = "cat >/tmp/probe && chmod 755 /tmp/probe";
        let (session, files) = client.begin("hostile", line, None);
        let [mut stdin, stdout, stderr] = <[File; 3]>::try_from(files).unwrap();
        stdin.write_all(&std::fs::read(program()).unwrap()).unwrap();
        drop((stdin, stdout, stderr));
        assert_eq!(client.outcome(session), SUCCESS);
        run(&mut machine, &mut client);
    });
}

#[test]
fn a_standing_zone_withstands_what_its_root_tries() {
    on_a_machine("attacks::a_standing_zone_withstands_what_its_root_tries", |_, client| {
        let mut asked = cases(Place::Standing);
        asked.retain(|number| !ELSEWHERE.contains(number));
        let numbers: Vec<_> = asked.iter().map(u8::to_string).collect();
        let (outcome, text) = client.exec("hostile", &format!("/tmp/probe {}", numbers.join(" ")));
        print!("{text}");
        let wrong = judge(&text, &asked, Place::Standing);
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(outcome, SUCCESS);
    });
}

#[test]
fn case_55_nothing_is_typed_on_a_login_s_terminal() {
    on_a_machine("attacks::case_55_nothing_is_typed_on_a_login_s_terminal", |_, client| {
        let size = Some(WindowSize { rows: 24, columns: 200 });
        let (session, mut files) = client.begin("hostile", "/tmp/probe 55; sleep 0.3", size);
        let mut text = Vec::new();
        // The other end closes with the session: EIO.
        let ended = files[0].read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
        assert_eq!(client.outcome(session), SUCCESS, "{ended:?} {text}");
        for trick in ["TIOCSTI=ENOTTY", "TIOCLINUX=ENOTTY", "TIOCCONS=ENOTTY", "TIOCSETD=ENOTTY"] {
            assert!(text.contains(trick), "{trick}: {text:?}");
        }
        // It was a terminal.
        assert!(text.contains("/dev/tty=ok"), "{text:?}");
    });
}

#[test]
fn case_44_a_zone_that_kills_everyone_goes_on() {
    on_a_machine("attacks::case_44_a_zone_that_kills_everyone_goes_on", |machine, client| {
        let (outcome, text) = client.exec("hostile", "/tmp/probe hog 44");
        assert_ne!(outcome, SUCCESS, "{text}");
        assert!(text.contains("began=yes"), "{text}");
        eventually("it takes sessions again", || client.exec("hostile", "true").0 == SUCCESS);
        assert_eq!(machine.zones().len(), 1);
    });
}
