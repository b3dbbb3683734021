//! mobula as people and scripts meet it: a real process against an appliance played here.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod fake;

use fake::{ACCESS_KEY, ACCOUNT, Fake, JOB, TOKEN};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// How a command ended: status, standard output, standard error.
type Ended = (i32, String, String);

fn run_with(fake: &Fake, folder: &Path, arguments: &[&str], input: &[u8]) -> Ended {
    let endpoint = format!("http://{}", fake.address);
    let mut child = Command::new(env!("CARGO_BIN_EXE_mobula"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("MOBULA_S3", &endpoint)
        .env("MOBULA_MANTA", &endpoint)
        .env("MOBULA_ADMIN", &endpoint)
        .env("MOBULA_ACCOUNT", ACCOUNT)
        .env("MOBULA_ACCESS_KEY", ACCESS_KEY)
        .env("MOBULA_SECRET_KEY", "secret")
        .env("MOBULA_TOKEN", TOKEN)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn run(fake: &Fake, arguments: &[&str]) -> Ended {
    run_with(fake, Path::new("/"), arguments, b"")
}

/// A folder with `a`, `d/b` and `d/big`, the last larger than what is read whole.
fn folder() -> (TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("d")).unwrap();
    std::fs::write(folder.path().join("a"), "one\n").unwrap();
    std::fs::write(folder.path().join("d/b"), "").unwrap();
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(folder.path().join("d/big"), &big).unwrap();
    (folder, big)
}

#[test]
fn a_folder_goes_there_and_comes_back_whole() {
    let fake = Fake::start();
    let (folder, big) = folder();
    let (status, _, noted) = run_with(&fake, folder.path(), &["put", "-p", "-r", ".", "b/p"], b"");
    assert_eq!(status, 0, "{noted}");
    assert!(noted.contains("put 3 objects"), "{noted}");
    assert_eq!(fake.held("b", "p/d/big").unwrap(), big);
    let back = folder.path().join("back");
    let (status, _, noted) = run(&fake, &["get", "-r", "b/p", back.to_str().unwrap()]);
    assert_eq!(status, 0, "{noted}");
    assert_eq!(std::fs::read(back.join("d/big")).unwrap(), big);
    assert_eq!(std::fs::read(back.join("d/b")).unwrap(), b"");
    assert_eq!(std::fs::read(back.join("a")).unwrap(), b"one\n");
}

#[test]
fn ls_folds_at_slashes_and_r_does_not() {
    let fake = Fake::start();
    for key in ["a", "d/b", "d/c", "e f", "g", "h"] {
        fake.hold("b", key, b"12");
    }
    assert_eq!(run(&fake, &["ls"]).1, "b\n");
    assert_eq!(run(&fake, &["ls", "b"]).1, "a\nd/\ne f\ng\nh\n");
    assert_eq!(run(&fake, &["ls", "-r", "b"]).1, "a\nd/b\nd/c\ne f\ng\nh\n");
    assert_eq!(run(&fake, &["ls", "b/d/"]).1, "d/b\nd/c\n");
    let (_, out, _) = run(&fake, &["--json", "ls", "b/g"]);
    let want =
        json!({ "key": "g", "size": 2, "modified": "2026-11-22T08:00:00.000Z", "etag": "e" });
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), want);
}

#[test]
fn what_is_not_there_is_3_what_is_denied_4_and_nobody_5() {
    let fake = Fake::start();
    fake.hold("b", "k", b"x");
    let exit = |arguments: &[&str]| run(&fake, arguments).0;
    assert_eq!(exit(&["get", "b/none", "-"]), 3);
    assert_eq!(exit(&["ls", "none"]), 3);
    assert_eq!(exit(&["ls", "b/z"]), 3);
    assert_eq!(exit(&["rm", "b/none"]), 3);
    assert_eq!(exit(&["rm", "-f", "b/none"]), 0);
    assert_eq!(exit(&["ls", "b", "--access-key", "other"]), 4);
    assert_eq!(exit(&["node", "status", "--token", "other"]), 4);
    assert_eq!(exit(&["ls", "b", "--s3", "127.0.0.1:1"]), 5);
    assert_eq!(exit(&["ls", "b", "--s3", "https://x"]), 2);
    assert_eq!(exit(&["sing"]), 2);
    assert_eq!(exit(&["--help"]), 0);
}

#[test]
fn a_failure_under_json_is_one_line_on_standard_error() {
    let fake = Fake::start();
    let (status, out, err) = run(&fake, &["--json", "ls", "none"]);
    let error: Value = serde_json::from_str(&err).unwrap();
    assert_eq!((status, out.as_str()), (3, ""));
    assert_eq!(
        (&error["error"]["code"], &error["error"]["exit"]),
        (&json!("NoSuchBucket"), &json!(3))
    );
}

#[test]
fn a_busy_service_is_asked_again() {
    let fake = Fake::start();
    let (folder, big) = folder();
    fake.hold("b", "x", b"");
    fake.state().busy = 2;
    let (status, _, noted) = run_with(&fake, folder.path(), &["put", "d/big", "b/big"], b"");
    assert_eq!(status, 0, "{noted}");
    assert!(noted.contains("trying again"), "{noted}");
    assert_eq!(fake.held("b", "big").unwrap(), big);
}

#[test]
fn a_service_that_stays_busy_is_5_and_named() {
    let fake = Fake::start();
    fake.state().busy = 100;
    let (status, _, noted) = run(&fake, &["--quiet", "ls"]);
    assert_eq!(status, 5, "{noted}");
    assert!(noted.contains("SlowDown"), "{noted}");
    assert_eq!(fake.state().requests.len(), 6);
}

#[test]
fn a_broken_connection_is_taken_up_where_it_stopped() {
    let fake = Fake::start();
    let (folder, big) = folder();
    fake.hold("b", "big", &big);
    fake.state().cut = Some(1_000_000);
    let (status, _, noted) = run_with(&fake, folder.path(), &["get", "b/big", "copy"], b"");
    assert_eq!(status, 0, "{noted}");
    assert_eq!(std::fs::read(folder.path().join("copy")).unwrap(), big);
    assert_eq!(fake.state().requests.len(), 2);
}

#[test]
fn damaged_bytes_leave_nothing_behind() {
    let fake = Fake::start();
    let folder = tempfile::tempdir().unwrap();
    fake.hold("b", "k", b"good");
    fake.state().damage = true;
    std::fs::write(folder.path().join("k"), "before").unwrap();
    let (status, _, noted) = run_with(&fake, folder.path(), &["get", "b/k"], b"");
    assert_eq!(status, 1);
    assert!(noted.contains("damaged"), "{noted}");
    assert_eq!(std::fs::read(folder.path().join("k")).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn standard_input_and_output_may_be_stored_and_fetched() {
    let fake = Fake::start();
    fake.hold("b", "x", b"");
    let (status, _, noted) = run_with(&fake, Path::new("/"), &["put", "-", "b/k"], b"from a pipe");
    assert_eq!(status, 0, "{noted}");
    assert_eq!(run(&fake, &["get", "b/k", "-"]).1, "from a pipe");
    assert_eq!(run(&fake, &["put", "-", "b/"]).0, 2);
}

#[test]
fn rm_r_takes_what_is_below_and_nothing_beside() {
    let fake = Fake::start();
    for key in ["a", "a/1", "a/2", "a/3", "a/4", "ab"] {
        fake.hold("b", key, b"x");
    }
    let (status, _, noted) = run(&fake, &["rm", "-r", "b/a"]);
    assert_eq!(status, 0, "{noted}");
    assert_eq!(run(&fake, &["ls", "-r", "b"]).1, "ab\n");
    assert_eq!(run(&fake, &["rb", "b"]).0, 1);
    assert_eq!(run(&fake, &["rm", "b/ab"]).0, 0);
    assert_eq!(run(&fake, &["rb", "b"]).0, 0);
    assert!(fake.state().buckets.is_empty());
}

#[test]
fn one_of_many_that_fails_does_not_hold_up_the_others() {
    let fake = Fake::start();
    for key in ["f/a", "f/../x", "f/b"] {
        fake.hold("b", key, b"x");
    }
    let folder = tempfile::tempdir().unwrap();
    let (status, _, noted) = run_with(&fake, folder.path(), &["get", "-r", "b/f", "out"], b"");
    assert_eq!(status, 2);
    assert!(noted.contains("1 of 3 objects failed"), "{noted}");
    assert!(folder.path().join("out/a").exists() && folder.path().join("out/b").exists());
    assert!(!folder.path().join("x").exists());
}

#[test]
fn a_job_runs_and_its_output_is_ours() {
    let fake = Fake::start();
    for key in ["l/1", "l/2", "l/3", "l/4"] {
        fake.hold("b", key, b"x");
    }
    let line =
        ["job", "run", "--map", "wc", "--reduce", "sort", "--count", "2", "b/l/", "b/x", "-"];
    let (status, out, noted) = run_with(&fake, Path::new("/"), &line, b"c/y\r\n/bob/public/z\n");
    assert_eq!((status, out.as_str()), (0, "  3 result\n"), "{noted}");
    let state = fake.state();
    let names = ["ada/stor/b/l/1", "ada/stor/b/l/2", "ada/stor/b/l/3", "ada/stor/b/l/4"];
    let more = ["ada/stor/b/x", "ada/stor/c/y", "bob/public/z"];
    let want: Vec<_> = names.iter().chain(&more).map(|name| format!("/{name}")).collect();
    assert_eq!(state.inputs, want);
    assert!(state.ended);
    let phases =
        json!([{ "type": "map", "exec": "wc" }, { "type": "reduce", "exec": "sort", "count": 2 }]);
    assert_eq!(state.job, Some(json!({ "name": "", "phases": phases })));
}

#[test]
fn a_job_with_errors_shows_them_and_is_1() {
    let fake = Fake::start();
    fake.state().errors = vec![json!({
        "phase": "0", "what": "phase 0: input \"/ada/stor/b/x\"", "code": "UserTaskError",
        "message": "user command exited with code 127",
        "stderr": format!("/ada/jobs/{JOB}/stor/err"), "input": "/ada/stor/b/x",
    })];
    let (status, _, noted) = run(&fake, &["job", "run", "--map", "nonsuch", "b/x"]);
    assert_eq!(status, 1);
    assert!(noted.contains("exited with code 127"), "{noted}");
    assert!(noted.contains("  | bash: line 1: nonsuch: command not found"), "{noted}");
    let (status, out, _) = run(&fake, &["job", "errors", JOB]);
    assert_eq!(status, 0);
    assert!(out.contains("command not found"), "{out}");
}

#[test]
fn a_prefix_without_objects_makes_no_job() {
    let fake = Fake::start();
    fake.hold("b", "x", b"");
    let (status, _, noted) = run(&fake, &["job", "run", "--map", "wc", "b/none/"]);
    assert_eq!(status, 3, "{noted}");
    assert_eq!(fake.state().job, None);
    assert_eq!(run(&fake, &["job", "run", "--map", "wc"]).0, 2);
    assert_eq!(run(&fake, &["job", "run", "b/x"]).0, 2);
    assert_eq!(run(&fake, &["job", "run", "--map", "wc", "--memory", "100", "b/x"]).0, 2);
}

#[test]
fn jobs_are_listed_shown_and_cancelled() {
    let fake = Fake::start();
    let (status, out, _) = run(&fake, &["job", "run", "--no-wait", "--map", "wc", "b/x"]);
    assert_eq!((status, out), (0, format!("{JOB}\n")));
    let (_, out, _) = run(&fake, &["job", "list"]);
    assert!(out.starts_with(&format!("{JOB}  running")), "{out}");
    assert_eq!(run(&fake, &["job", "inputs", JOB]).1, "/ada/stor/b/x\n");
    assert_eq!(
        run(&fake, &["job", "outputs", JOB]).1,
        format!("/ada/jobs/{JOB}/stor/reduce.1.a\n")
    );
    assert_eq!(run(&fake, &["job", "outputs", "--cat", JOB]).1, "  3 result\n");
    assert_eq!(run(&fake, &["job", "cancel", JOB]).0, 0);
    let (_, out, _) = run(&fake, &["job", "get", JOB]);
    assert!(out.contains("state    cancelled") && out.contains("phase 0  map"), "{out}");
    let other = "00000000-0000-4000-8000-000000000000";
    assert_eq!(run(&fake, &["job", "get", other]).0, 3);
}

#[test]
fn a_node_is_told_in_words_and_in_json() {
    let fake = Fake::start();
    let (status, out, noted) = run(&fake, &["node", "status"]);
    assert_eq!(status, 0, "{noted}");
    for part in [
        "node     node is ready",
        "eth0 10.0.2.15",
        "storaged",
        "degraded no disk",
        "store    unavailable: as asked",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (_, out, _) = run(&fake, &["--json", "node", "status"]);
    let view: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(view["node"]["node"]["hostname"], "node");
    assert_eq!(view["zones"]["unavailable"], "as asked");
    let (_, out, _) = run(&fake, &["node", "logs", "zoned", "-n", "7"]);
    assert_eq!(out, "[     2.310] zoned: 7 lines\n");
    let (status, _, noted) = run(&fake, &["node", "poweroff"]);
    assert!(status == 0 && noted.contains("poweroff has begun"), "{noted}");
}

#[test]
fn completions_are_scripts_of_the_shells() {
    let fake = Fake::start();
    for (shell, sign) in
        [("bash", "complete -F"), ("zsh", "#compdef mobula"), ("fish", "complete -c mobula")]
    {
        let (status, out, _) = run(&fake, &["completion", shell]);
        assert!(status == 0 && out.contains(sign), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let fake = Fake::start();
    for number in 0..2000 {
        fake.hold("b", &format!("a-key-that-is-rather-long/{number:04}"), b"");
    }
    let mobula = env!("CARGO_BIN_EXE_mobula");
    let script = format!("{mobula} ls -r b --s3 {}; echo $? >&2", fake.address);
    let output = Command::new("bash")
        .args(["-c", &format!("{{ {script}; }} | head -1")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("MOBULA_ACCESS_KEY", ACCESS_KEY)
        .env("MOBULA_SECRET_KEY", "secret")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "a-key-that-is-rather-long/0000\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap().trim(), "0");
}
