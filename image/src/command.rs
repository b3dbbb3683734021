//! Runs the tools that the build is made with, and says in one message what failed and how.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use thiserror::Error;

/// Lines of a failed tool's output quoted in the error.
const TAIL_LINES: usize = 30;

/// What goes wrong with a tool.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It can't be started.
    #[error("can't start {program}: is it installed? (make deps)")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Its output can't be read or its end not awaited.
    #[error("lost {program} while it ran")]
    Lost {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It failed.
    #[error("{program} failed ({status}):\n{tail}")]
    Failed {
        /// The program and its arguments.
        program: String,
        /// Its exit status.
        status: ExitStatus,
        /// The end of what it said.
        tail: String,
    },
}

/// Runs a tool and gives its standard output, bytes that are no text replaced.
///
/// # Errors
/// When it can't be started or fails; its output is quoted.
pub fn output(command: &mut Command) -> Result<String, CommandError> {
    bytes(command).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs a tool and gives its standard output.
///
/// # Errors
/// When it can't be started or fails; its output is quoted.
pub fn bytes(command: &mut Command) -> Result<Vec<u8>, CommandError> {
    let program = program(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| CommandError::Start { program: name(command), source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(CommandError::Failed { program, status: output.status, tail: tail(said.lines()) })
}

/// Runs a tool that takes its time, showing each line of its output to `line` as it comes. Standard error
/// is read to the end beside it and quoted when the tool fails.
///
/// # Errors
/// When it can't be started or fails.
pub fn watched(command: &mut Command, mut line: impl FnMut(&str)) -> Result<(), CommandError> {
    let program = program(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| CommandError::Start { program: name(command), source })?;
    let lost = |source| CommandError::Lost { program: name(command), source };
    let mut errors = child.stderr.take().expect("standard error is piped");
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        errors.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let mut said = Vec::new();
    let stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
    for text in stdout.split(b'\n') {
        let text = String::from_utf8_lossy(&text.map_err(lost)?).into_owned();
        line(&text);
        said.push(text);
        if said.len() > TAIL_LINES * 2 {
            said.drain(..TAIL_LINES);
        }
    }
    let status = child.wait().map_err(lost)?;
    let errors = reader.join().expect("reading a pipe does not panic").map_err(lost)?;
    if status.success() {
        return Ok(());
    }
    let all = said.iter().map(String::as_str).chain(errors.lines());
    Err(CommandError::Failed { program, status, tail: tail(all) })
}

/// Where a program is on the search path, if it is there.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Administrators' tools are not on everybody's path.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn program(command: &Command) -> String {
    let mut text = name(command);
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

fn tail<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<_> = lines.collect();
    all[all.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_failing_tool_is_quoted() {
        let error = output(Command::new("sh").args(["-c", "echo it broke >&2; exit 3"]));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("exit status: 3") && message.contains("it broke"), "{message}");
    }

    #[test]
    fn a_watched_tool_shows_its_lines_and_fails_with_its_errors() {
        let mut lines = Vec::new();
        let script = "echo one; echo two; echo bad >&2; exit 1";
        let error =
            watched(Command::new("sh").args(["-c", script]), |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one", "two"]);
        assert!(error.unwrap_err().to_string().ends_with("one\ntwo\nbad"));
    }

    #[test]
    fn a_missing_tool_says_how_to_get_it() {
        let message = output(&mut Command::new("no-such-tool")).unwrap_err().to_string();
        assert!(message.contains("make deps"), "{message}");
    }
}
