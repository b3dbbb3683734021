//! `mobula zone` and `mobula image`, as people and scripts meet them: a real process against an appliance
//! played here.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod fake;

use fake::{ACCOUNT, Fake, TOKEN};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn command(fake: &Fake, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mobula"));
    command
        .args(arguments)
        .env_clear()
        .env("MOBULA_ADMIN", format!("http://{}", fake.address))
        .env("MOBULA_ACCOUNT", ACCOUNT)
        .env("MOBULA_TOKEN", TOKEN)
        .env("TERM", "vt100");
    command
}

/// Status, standard output, standard error.
fn run_with(fake: &Fake, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut command = command(fake, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A command that does not read its input has been fed enough.
    drop(feeder.join().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn run(fake: &Fake, words: &str) -> (i32, String, String) {
    run_with(fake, &words.split_whitespace().collect::<Vec<_>>(), b"")
}

fn with_web() -> Fake {
    let fake = Fake::start();
    let (status, out, noted) = run(&fake, "zone create web -q -- httpd -f");
    assert_eq!((status, out.as_str()), (0, "web\n"), "{noted}");
    fake
}

#[test]
fn create_asks_for_what_was_said_and_waits_until_it_runs() {
    let fake = Fake::start();
    fake.state().zones.slow = 3;
    let (status, out, noted) = run(
        &fake,
        "zone create --cpu 0.5 --memory 256M --mount logs/2026-11 --allow tcp:10.0.0.1:80 web -- a -b",
    );
    assert_eq!((status, out.as_str()), (0, "web\n"), "{noted}");
    let state = fake.state();
    let spec = &state.zones.documents[0];
    assert_eq!((&spec["name"], &spec["login"]), (&json!("web"), &json!(ACCOUNT)));
    assert_eq!(spec["carve"]["cpu_milli"], json!(500));
    assert_eq!(spec["mounts"][0]["prefix"], json!(format!("/{ACCOUNT}/stor/logs/2026-11")));
    assert_eq!(spec["network"]["allow"][0]["last_port"], json!(80));
    assert_eq!(spec["command"], json!(["a", "-b"]));
    let looks = state.requests.iter().filter(|r| *r == "GET /v1/zones/standing/web").count();
    assert_eq!(looks, 4);
}

#[test]
fn a_wrong_zone_is_2_before_anything_is_sent() {
    let fake = Fake::start();
    for words in [
        "zone create Web",
        "zone create web --memory 256",
        "zone create web --mount /bob/stor/x",
        "zone create web --allow icmp:1.1.1.1",
        "zone update web",
        "zone exec web",
        "zone stop",
    ] {
        assert_eq!(run(&fake, words).0, 2, "{words}");
    }
    assert!(fake.state().requests.is_empty());
    let (status, out, _) = run(&fake, "zone create web --dry-run --memory 16M");
    let spec: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &spec["carve"]["memory_mib"]), (0, &json!(16)));
    assert!(fake.state().requests.is_empty());
}

#[test]
fn zones_are_listed_shown_and_sent_from_state_to_state() {
    let fake = with_web();
    let (_, out, _) = run(&fake, "zone list");
    assert!(out.lines().nth(1).unwrap().starts_with("web   running"), "{out}");
    let (_, out, _) = run(&fake, "--json zone list");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["name"], json!("web"));
    let (_, out, _) = run(&fake, "zone get web");
    assert!(out.contains("command  httpd -f\n"), "{out}");
    assert_eq!(run(&fake, "zone pause web").1, "web is paused\n");
    assert_eq!(run(&fake, "zone resume web").1, "web is running\n");
    assert_eq!(run(&fake, "zone stop -t 3 web").1, "web is installed\n");
    assert_eq!(run(&fake, "zone start web").1, "web is running\n");
    let (_, out, _) = run(&fake, "zone update web --pids 128");
    assert_eq!(out, "pids.max: 64 → 128\n");
    assert_eq!(
        *fake.state().zones.documents.last().unwrap(),
        json!({
            "cpu_weight": null, "cpu_milli": null, "cpus": null, "memory_mib": null,
            "memory_low_mib": null, "io_weight": null, "read_bytes": null, "write_bytes": null,
            "reads": null, "writes": null, "pids": 128, "disk_mib": null, "out_bytes": null,
            "in_bytes": null, "allow": null,
        })
    );
    assert!(run(&fake, "zone limits web").1.contains("memory.max"));
    assert!(run(&fake, "zone stats web").1.contains("3 killed"));
    assert_eq!(run(&fake, "zone delete web").1, "web is deleted\n");
    let (status, _, noted) = run(&fake, "zone get web");
    assert_eq!(status, 3, "{noted}");
    assert_eq!(run(&fake, "zone start web").0, 3);
}

#[test]
fn what_a_tenant_wrote_cannot_move_the_cursor_unless_asked_to() {
    let fake = with_web();
    let (status, out, noted) = run(&fake, "zone logs web");
    assert_eq!(out, "one\u{fffd}[2J\ntwo, three\n");
    assert_eq!(status, 3, "the last line says why it is the last: {noted}");
    assert!(run(&fake, "zone logs --raw web").1.contains('\u{1b}'));
    let (_, out, _) = run(&fake, "--json zone logs -n 5 -f web");
    assert_eq!(out.lines().count(), 3);
    assert_eq!(run(&fake, "zone why web").1, "out of \u{fffd}[2Jmemory\n");
}

#[test]
fn top_and_events_tell_and_publish_fails_if_a_file_was_not_taken() {
    let fake = with_web();
    let (_, out, _) = run(&fake, "zone top -n 1");
    assert!(out.lines().nth(2).unwrap().starts_with("web"), "{out}");
    let (_, out, _) = run(&fake, "--json zone top -n 1");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["cpu_per_cent"], json!(0.0));
    let (_, out, _) = run(&fake, "zone events");
    assert_eq!(out, "2026-11-22 08:32:32Z      1  zone web: ready → running\n");
    let (status, out, _) = run(&fake, "zone publish web");
    assert_eq!((status, out.as_str()), (1, "2 objects, 9 B\nnot taken: a: a fifo\n"));
}

#[test]
fn an_image_is_waited_for_and_its_failure_is_ours() {
    let fake = Fake::start();
    let (status, out, noted) = run(&fake, "image import debian images/debian.tar");
    assert_eq!((status, out.as_str()), (0, "debian: 2.00 KiB, sha256 cd\n"), "{noted}");
    let object = format!("/{ACCOUNT}/stor/images/debian.tar");
    assert_eq!(fake.state().zones.documents[0], json!({ "name": "debian", "object": object }));
    let (status, _, noted) = run(&fake, "image import broken images/x");
    assert_eq!(status, 1);
    assert!(noted.contains("a layer is no tar\u{fffd}"), "{noted}");
    assert!(run(&fake, "image list").1.contains("base"));
    assert_eq!(run(&fake, "image rm base").0, 1);
}

#[test]
fn the_exit_status_is_the_commands_own() {
    let fake = with_web();
    let (status, out, err) = run(&fake, "zone exec -e A=b web other --flag -x");
    assert_eq!((status, out.as_str(), err.as_str()), (7, "out\n", "err\n"));
    let begin: Value = serde_json::from_str(&fake.state().zones.sessions[0]).unwrap();
    assert_eq!(begin["command"], json!(["other", "--flag", "-x"]));
    assert_eq!(begin["environment"], json!([["A", "b"]]));
    assert_eq!(begin["terminal"], Value::Null);
    assert_eq!(run(&fake, "zone exec web -- kill").0, 137);
    let (status, out, _) = run(&fake, "--json zone exec web other");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(status, 7);
    assert_eq!(
        lines,
        [
            json!({ "stdout": "out\n" }),
            json!({ "stderr": "err\n" }),
            json!({ "outcome": { "exited": { "code": 7 } } }),
        ]
    );
}

#[test]
fn what_is_no_exit_status_of_the_command_is_125() {
    let fake = with_web();
    let (status, _, noted) = run(&fake, "zone exec nowhere true");
    assert_eq!(status, 125);
    assert!(noted.contains("NoSuchZone"), "{noted}");
    assert_eq!(run(&fake, "zone exec web drop").0, 125);
    assert_eq!(run(&fake, "zone exec web true --admin 127.0.0.1:1").0, 7, "it is the command's");
    assert_eq!(run(&fake, "--admin 127.0.0.1:1 zone exec web true").0, 125);
    let (status, _, noted) = run(&fake, "zone login web");
    assert_eq!(status, 125);
    assert!(noted.contains("needs a terminal"), "{noted}");
}

#[test]
fn standard_input_goes_through_whole() {
    let fake = with_web();
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let (status, out, noted) = run_with(&fake, &["zone", "exec", "web", "cat"], &input);
    assert_eq!(status, 0, "{noted}");
    assert!(out.as_bytes() == input, "{} bytes of {}", out.len(), input.len());
}

/// A child on a terminal of ours.
struct Terminal {
    child: Child,
    master: File,
    seen: String,
}

impl Terminal {
    fn login(fake: &Fake) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        let (ws_row, ws_col) = (30, 100);
        tcsetwinsize(&master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let mut command = command(fake, &["zone", "login", "web"]);
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = command.spawn().unwrap();
        Self { child, master: master.into(), seen: String::new() }
    }

    fn until(&mut self, text: &str) {
        let mut buffer = [0; 512];
        while !self.seen.contains(text) {
            let got = self.master.read(&mut buffer).unwrap();
            assert!(got > 0, "{:?}", self.seen);
            self.seen.push_str(std::str::from_utf8(&buffer[..got]).unwrap());
        }
    }
}

#[test]
fn login_is_raw_tells_its_size_and_sets_the_terminal_back() {
    let fake = with_web();
    let mut terminal = Terminal::login(&fake);
    terminal.until("# ");
    let begin: Value = serde_json::from_str(&fake.state().zones.sessions[0]).unwrap();
    assert_eq!(begin["terminal"], json!({ "rows": 30, "columns": 100 }));
    assert_eq!(begin["environment"], json!([["TERM", "vt100"]]));
    assert!(!tcgetattr(&terminal.master).unwrap().local_modes.contains(LocalModes::ICANON));
    // ^C is the zone's to understand.
    terminal.master.write_all(b"ab\x03").unwrap();
    terminal.until("ab\x03");
    let (ws_row, ws_col) = (50, 132);
    tcsetwinsize(&terminal.master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let pid = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    terminal.until("resized");
    let told = fake.state().zones.sessions[1].clone();
    assert!(told.contains("rows: 50") && told.contains("columns: 132"), "{told}");
    terminal.master.write_all(b"\x04").unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = terminal.child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(0));
    assert!(tcgetattr(&terminal.master).unwrap().local_modes.contains(LocalModes::ICANON));
}

#[test]
fn completion_knows_the_commands_of_zones() {
    let fake = Fake::start();
    for shell in ["bash", "zsh", "fish"] {
        let (status, out, _) = run(&fake, &format!("completion {shell}"));
        assert_eq!(status, 0);
        for word in ["login", "publish", "memory-low", "import"] {
            assert!(out.contains(word), "{shell} does not complete {word}");
        }
    }
}
