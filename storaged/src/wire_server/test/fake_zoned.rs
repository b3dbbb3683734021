//! A zoned without zones: speaks the wire as zoned does, and runs tasks as plain processes with the
//! descriptors that storaged gave it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use sys::seqpacket::Socket;
use wire::frame::{Frame, Kind, Refusal, encode};
use wire::job::{JobId, PhaseKind};
use wire::task::{
    AttemptId, Ending, Hello, Peer, Push, Reply, Request, Runnable, Settled, Task, Usage,
};

/// How long it waits for a message before the test fails, in milliseconds.
const WAIT_MS: u16 = 20_000;

/// A claimed task and what came beside it.
pub struct Claimed {
    pub task: Task,
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    pub assets: Vec<OwnedFd>,
}

pub struct FakeZoned {
    socket: Socket,
    last: u64,
    pub runnable: BTreeMap<(JobId, u32), Runnable>,
    pub cancelled: BTreeSet<JobId>,
}

impl FakeZoned {
    pub fn connect(path: &Path) -> Self {
        let socket = Socket::connect(path).unwrap();
        let hello = encode(Kind::Hello, 0, &Hello { peer: Peer::Zoned }, 0).unwrap();
        socket.send(&hello, &[]).unwrap();
        Self { socket, last: 0, runnable: BTreeMap::new(), cancelled: BTreeSet::new() }
    }

    /// Waits for a message and notes it if it is a push.
    fn recv(&mut self) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut fds = [nix::poll::PollFd::new(self.socket.as_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut fds, WAIT_MS), Ok(1), "storaged said nothing");
        let mut message = Vec::new();
        let fds = self.socket.recv(&mut message).unwrap().expect("storaged closed the connection");
        let frame = Frame::parse(&message, fds.len()).unwrap();
        if frame.kind == Kind::Push {
            match frame.body().unwrap() {
                Push::Runnable(entries) => {
                    for entry in entries {
                        self.runnable.insert((entry.job, entry.phase), entry);
                    }
                }
                Push::Cancel { job } => {
                    self.cancelled.insert(job);
                }
            }
        }
        (message, fds)
    }

    /// Waits until a push says something.
    pub fn hear(&mut self) {
        let (message, fds) = self.recv();
        assert_eq!(Frame::parse(&message, fds.len()).unwrap().kind, Kind::Push);
    }

    pub fn ask(&mut self, request: &Request) -> (Result<Reply, Refusal>, Vec<OwnedFd>) {
        self.last += 1;
        let message = encode(Kind::Request, self.last, request, 0).unwrap();
        self.socket.send(&message, &[]).unwrap();
        loop {
            let (message, fds) = self.recv();
            let frame = Frame::parse(&message, fds.len()).unwrap();
            match frame.kind {
                Kind::Push => {}
                Kind::Reply => {
                    assert_eq!(frame.id, self.last);
                    return (Ok(frame.body().unwrap()), fds);
                }
                Kind::Refusal => return (Err(frame.body().unwrap()), fds),
                other => panic!("storaged sent {other:?}"),
            }
        }
    }

    pub fn claim(&mut self, job: JobId, phase: u32) -> Option<Claimed> {
        let (reply, fds) = self.ask(&Request::Claim { job, phase, project: 0 });
        let task = match reply.unwrap() {
            Reply::Claimed(task) => task,
            Reply::NothingReady => return None,
            other => panic!("{other:?}"),
        };
        let mut fds = fds.into_iter();
        let stdin = (task.kind == PhaseKind::Map).then(|| fds.next().unwrap());
        let (stdout, stderr) = (fds.next().unwrap(), fds.next().unwrap());
        let assets: Vec<OwnedFd> = fds.collect();
        assert_eq!(assets.len(), task.assets.len());
        Some(Claimed { task, stdin, stdout, stderr, assets })
    }

    /// Claims whatever is said to be ready.
    pub fn claim_any(&mut self) -> Option<Claimed> {
        let ready: Vec<(JobId, u32)> =
            self.runnable.values().filter(|r| r.ready > 0).map(|r| (r.job, r.phase)).collect();
        for (job, phase) in ready {
            match self.claim(job, phase) {
                Some(claimed) => return Some(claimed),
                None => {
                    self.runnable.remove(&(job, phase));
                }
            }
        }
        None
    }

    pub fn ended(&mut self, attempt: AttemptId, ending: Ending) -> Settled {
        let usage = Usage { wall_us: 1, cpu_us: 1, memory_peak_bytes: 0 };
        match self.ask(&Request::Ended { attempt, ending, usage }).0.unwrap() {
            Reply::Settled(settled) => settled,
            other => panic!("{other:?}"),
        }
    }

    /// All inputs of a reducer, as the feeder of a zone would read them.
    pub fn inputs(&mut self, attempt: AttemptId) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let mut all = Vec::new();
        loop {
            let from = all.len() as u64;
            let (reply, fds) = self.ask(&Request::NextInputs { attempt, from });
            let Reply::Inputs { names, end } = reply? else { panic!("no inputs") };
            assert_eq!(names.len(), fds.len());
            for (name, fd) in names.into_iter().zip(fds) {
                let mut bytes = Vec::new();
                File::from(fd).read_to_end(&mut bytes).unwrap();
                all.push((name, bytes));
            }
            if end {
                return Ok(all);
            }
        }
    }

    /// Runs a claimed task to its end, in bash, and tells storaged.
    pub fn run(&mut self, claimed: Claimed) -> Settled {
        let attempt = claimed.task.attempt;
        let ending = match claimed.task.kind {
            PhaseKind::Map => bash(claimed, None),
            PhaseKind::Reduce => match self.inputs(attempt) {
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
