//! The tests' stand-in for zoned, which runs tasks as plain processes with the descriptors that storaged gave it. What
//! goes wrong with the wire fails the test.

use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use tests::zoned::{Claimed, Zoned};
use wire::frame::Refusal;
use wire::job::{JobId, PhaseKind};
use wire::task::{AttemptId, Ending, Reply, Request, Settled};

pub struct FakeZoned(Zoned);

impl Deref for FakeZoned {
    type Target = Zoned;

    fn deref(&self) -> &Zoned {
        &self.0
    }
}

impl DerefMut for FakeZoned {
    fn deref_mut(&mut self) -> &mut Zoned {
        &mut self.0
    }
}

impl FakeZoned {
    pub fn connect(path: &Path) -> Self {
        Self(Zoned::connect(path).unwrap())
    }

    pub fn hear(&mut self) {
        self.0.hear().unwrap();
    }

    pub fn ask(&mut self, request: &Request) -> (Result<Reply, Refusal>, Vec<OwnedFd>) {
        self.0.ask(request).unwrap()
    }

    pub fn claim(&mut self, job: JobId, phase: u32) -> Option<Claimed> {
        self.0.claim(job, phase).unwrap()
    }

    pub fn claim_any(&mut self) -> Option<Claimed> {
        self.0.claim_any().unwrap()
    }

    pub fn ended(&mut self, attempt: AttemptId, ending: Ending) -> Settled {
        self.0.ended(attempt, ending).unwrap()
    }

    /// Runs a claimed task to its end, in bash, and tells storaged.
    pub fn run(&mut self, claimed: Claimed) -> Settled {
        let attempt = claimed.task.attempt;
        let ending = match claimed.task.kind {
            PhaseKind::Map => bash(claimed, None),
            PhaseKind::Reduce => match self.0.inputs(attempt).unwrap() {
                Ok(inputs) => bash(claimed, Some(inputs)),
                Err(refusal) => Ending::Lost { message: refusal.message },
            },
        };
        self.ended(attempt, ending)
    }
}

fn bash(claimed: Claimed, inputs: Option<Vec<(String, Vec<u8>)>>) -> Ending {
    let Claimed { task, stdin, stdout, stderr, assets } = claimed;
    drop(assets);
    let mut child = Command::new("bash")
        .args(["--norc", "-c", &task.exec])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(task.environment)
        .stdin(stdin.map_or_else(Stdio::piped, Stdio::from))
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap();
    if let (Some(mut pipe), Some(inputs)) = (child.stdin.take(), inputs) {
        for (_, bytes) in inputs {
            // The reducer need not read to the end.
            if pipe.write_all(&bytes).is_err() {
                break;
            }
        }
    }
    let status = child.wait().unwrap();
    match status.code() {
        Some(code) => Ending::Exited { code: code as u8 },
        None => {
            let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap();
            Ending::Signalled { signal }
        }
    }
}
