//! QEMU's monitor protocol (QMP): JSON lines over a Unix socket, one command a connection.

use super::QemuError;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A healthy QEMU answers within milliseconds, on a crowded machine within seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Between two attempts to connect to a QEMU that is only starting.
const RETRY: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    pub(super) fn connect(path: &Path) -> Result<Self, QemuError> {
        let start = std::time::Instant::now();
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if start.elapsed() > ANSWER_LIMIT => {
                    return Err(said(&format!("no connection to {}: {error}", path.display())));
                }
                Err(_) => std::thread::sleep(RETRY),
            }
        };
        stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(|e| said(&e))?;
        let mut monitor = Self { stream: BufReader::new(stream) };
        monitor.line()?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, QemuError> {
        let message = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.stream.get_mut().write_all(message.as_bytes()).map_err(|e| said(&e))?;
        loop {
            match answer(&self.line()?) {
                Answer::News => {}
                Answer::Done(value) => return Ok(value),
                Answer::Refused(why) => return Err(said(&format!("{command}: {why}"))),
            }
        }
    }

    fn line(&mut self) -> Result<String, QemuError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(said(&"QEMU closed the connection")),
            Ok(_) => Ok(line),
            Err(error) => Err(said(&error)),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Answer {
    Done(Value),
    Refused(String),
    /// An event, or a greeting.
    News,
}

fn answer(line: &str) -> Answer {
    let value: Value = match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => return Answer::Refused(format!("no JSON: {error}")),
    };
    if let Some(done) = value.get("return") {
        return Answer::Done(done.clone());
    }
    match value.get("error") {
        Some(error) => Answer::Refused(error.to_string()),
        None => Answer::News,
    }
}

fn said(what: &impl ToString) -> QemuError {
    QemuError::Monitor(what.to_string())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn events_between_command_and_answer_are_passed_over() {
        assert_eq!(answer(r#"{"event": "POWERDOWN", "timestamp": {}}"#), Answer::News);
        assert_eq!(answer(r#"{"return": {}}"#), Answer::Done(json!({})));
    }

    #[test]
    fn a_refusal_tells_why() {
        let refused = answer(r#"{"error": {"class": "CommandNotFound", "desc": "no"}}"#);
        assert!(matches!(refused, Answer::Refused(why) if why.contains("CommandNotFound")));
    }
}
