//! Notes what came of things, by the names that errors have in errno(3).

use nix::errno::Errno;
use nix::sys::signal::Signal;
use probe::Line;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

/// Notes what came of a try.
pub fn tried<T, E: Into<io::Error>>(line: &mut Line, what: &str, result: Result<T, E>) {
    match result {
        Ok(_) => line.saw(what, "ok"),
        Err(error) => line.saw(what, word(&error.into())),
    }
}

/// The error's name.
pub fn word(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}", Errno::from_raw(number)),
        None => format!("{:?}", error.kind()),
    }
}

/// Repeats an act until it fails or was done `most` times; gives what ended it, and how often it was done.
pub fn until_refused<E: Into<io::Error>>(
    most: usize,
    mut act: impl FnMut() -> Result<(), E>,
) -> (String, usize) {
    for done in 0..most {
        if let Err(error) = act() {
            return (word(&error.into()), done);
        }
    }
    ("unlimited".to_owned(), most)
}

/// Runs this program once more for a part that it may not survive; gives the child.
pub fn again(part: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("part").args(part).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// `ok`, `refused` for another exit code, or the signal's name.
pub fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "ok".to_owned(),
        (Some(_), _) => "refused".to_owned(),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => signal.as_str().to_owned(),
            Err(_) => format!("signal-{signal}"),
        },
        (None, None) => "gone".to_owned(),
    }
}

/// Runs a part and notes how it ended.
pub fn tried_again(line: &mut Line, what: &str, part: &[&str]) {
    match again(part).status() {
        Ok(status) => line.saw(what, ended(status)),
        Err(error) => line.saw(what, word(&error)),
    }
}
