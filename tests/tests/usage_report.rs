//! The documented report of usage, run on this machine where it has the programs for it.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::Write;
use std::process::{Command, Stdio};
use tests::usage::{COLUMNS, command, parse, sums};

fn shell(script: &str, input: &str) -> String {
    let mut child = Command::new("bash")
        .args(["--norc", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}");
    String::from_utf8(output.stdout).unwrap()
}

fn record(login: &str, id: u64, number: u64, column: &str, value: u64) -> String {
    format!(
        r#"{{"event":"checkpoint","login":"{login}","kind":"task","id":"{id}","life":"5","number":"{number}","delta":{{"{column}":"{value}"}}}}"#
    )
}

#[test]
fn each_record_counts_once_and_numbers_may_be_large() {
    for program in ["jq", "gawk"] {
        if Command::new(program).arg("--version").output().is_err() {
            return println!("skipped: the report is made with {program}, which is not here");
        }
    }
    let mut rng = fastrand::Rng::with_seed(7);
    let mut hours = vec![String::new(); 3];
    let mut add = |line: &str| {
        let hour = rng.usize(..3);
        hours[hour] += &format!("{line}\n");
    };
    for id in 0..300 {
        let (login, column) = (["ann", "bob", "o'neill"][id % 3], COLUMNS[id % COLUMNS.len()]);
        let line = record(login, id as u64, 1 + id as u64 % 4, column, u64::MAX - id as u64);
        add(&line);
        if id % 5 == 0 {
            add(&line);
        }
    }
    add(r#"{"version":"1","event":"agent","at_unix_ms":"1"}"#);
    add(r#"{"version":"1","event":"done","login":"#);
    let (map, reduce) = (command("map").unwrap(), command("reduce").unwrap());
    let mapped: String = hours.iter().map(|hour| shell(&map, hour)).collect();
    let report = shell(&reduce, &mapped);
    let expected = sums(&hours.concat());
    assert_eq!(expected.len(), 3);
    assert_eq!(parse(&report).unwrap(), expected, "{report}");
}
