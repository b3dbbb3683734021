//! A zoned without zones: speaks the wire to storaged as zoned does, for tests that need no zone. What becomes of a
//! claimed task is up to the test.

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use sys::seqpacket::Socket;
use wire::frame::{Frame, Kind, Refusal, encode};
use wire::job::{JobId, PhaseKind};
use wire::task::{
    AttemptId, Ending, Hello, Peer, Push, Reply, Request, Runnable, Settled, StagedId, Task, Usage,
};

/// How long it waits for a message.
const WAIT: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// What a reducer reads: names, and what they hold.
pub type Inputs = Vec<(String, Vec<u8>)>;

/// A claimed task and what came beside it.
#[derive(Debug)]
pub struct Claimed {
    /// The task.
    pub task: Task,
    /// A map's input.
    pub stdin: Option<OwnedFd>,
    /// Where its output goes.
    pub stdout: OwnedFd,
    /// Where its complaints go.
    pub stderr: OwnedFd,
    /// The job's assets.
    pub assets: Vec<OwnedFd>,
}

/// A connection to storaged.
#[derive(Debug)]
pub struct Zoned {
    socket: Socket,
    last: u64,
    /// What storaged said is ready, as it said it last.
    pub runnable: BTreeMap<(JobId, u32), Runnable>,
    /// The jobs that storaged said are cancelled.
    pub cancelled: BTreeSet<JobId>,
}

impl Zoned {
    /// Connects to storaged's socket.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(path: &Path) -> Result<Self> {
        let socket = Socket::connect(path)?;
        let hello = encode(Kind::Hello, 0, &Hello { peer: Peer::Zoned }, 0)?;
        socket.send(&hello, &[])?;
        Ok(Self { socket, last: 0, runnable: BTreeMap::new(), cancelled: BTreeSet::new() })
    }

    /// Waits for a message and notes it if it is a push.
    fn recv(&mut self) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
        let ready = poll(&mut [PollFd::new(&self.socket.as_fd(), PollFlags::IN)], Some(&WAIT))?;
        ensure!(ready == 1, "storaged said nothing for {} s", WAIT.tv_sec);
        let mut message = Vec::new();
        let fds = self.socket.recv(&mut message)?.context("storaged closed the connection")?;
        let frame = Frame::parse(&message, fds.len())?;
        if frame.kind == Kind::Push {
            match frame.body()? {
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
        Ok((message, fds))
    }

    /// Waits until a push says something.
    ///
    /// # Errors
    /// If storaged says nothing, or something else.
    pub fn hear(&mut self) -> Result<()> {
        let (message, fds) = self.recv()?;
        let kind = Frame::parse(&message, fds.len())?.kind;
        ensure!(kind == Kind::Push, "storaged said {kind:?} without being asked");
        Ok(())
    }

    /// Asks, and gives the answer with what came beside it.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn ask(&mut self, request: &Request) -> Result<(Result<Reply, Refusal>, Vec<OwnedFd>)> {
        self.last += 1;
        let message = encode(Kind::Request, self.last, request, 0)?;
        self.socket.send(&message, &[])?;
        loop {
            let (message, fds) = self.recv()?;
            let frame = Frame::parse(&message, fds.len())?;
            match frame.kind {
                Kind::Push => {}
                Kind::Reply => {
                    ensure!(frame.id == self.last, "an answer to nothing that was asked");
                    return Ok((Ok(frame.body()?), fds));
                }
                Kind::Refusal => return Ok((Err(frame.body()?), fds)),
                other => bail!("storaged sent {other:?}"),
            }
        }
    }

    /// As [`Zoned::ask`], where a refusal is an error.
    fn demand(&mut self, request: &Request) -> Result<(Reply, Vec<OwnedFd>)> {
        let (reply, fds) = self.ask(request)?;
        let reply = reply.map_err(|refusal| anyhow!("{request:?} is refused: {refusal:?}"))?;
        Ok((reply, fds))
    }

    /// Claims a task of this phase, if one is ready.
    ///
    /// # Errors
    /// If storaged refuses, or what comes beside the task is not what should.
    pub fn claim(&mut self, job: JobId, phase: u32) -> Result<Option<Claimed>> {
        let (reply, fds) = self.demand(&Request::Claim { job, phase, project: 0 })?;
        let task = match reply {
            Reply::Claimed(task) => task,
            Reply::NothingReady => return Ok(None),
            other => bail!("{other:?} for a claim"),
        };
        let mut fds = fds.into_iter();
        let mut next = || fds.next().context("a descriptor is missing");
        let stdin = if task.kind == PhaseKind::Map { Some(next()?) } else { None };
        let (stdout, stderr) = (next()?, next()?);
        let assets: Vec<OwnedFd> = fds.collect();
        ensure!(assets.len() == task.assets.len(), "{} descriptors of assets", assets.len());
        Ok(Some(Claimed { task, stdin, stdout, stderr, assets }))
    }

    /// Claims whatever is said to be ready.
    ///
    /// # Errors
    /// As [`Zoned::claim`].
    pub fn claim_any(&mut self) -> Result<Option<Claimed>> {
        let ready: Vec<(JobId, u32)> =
            self.runnable.values().filter(|r| r.ready > 0).map(|r| (r.job, r.phase)).collect();
        for (job, phase) in ready {
            match self.claim(job, phase)? {
                Some(claimed) => return Ok(Some(claimed)),
                None => {
                    self.runnable.remove(&(job, phase));
                }
            }
        }
        Ok(None)
    }

    /// Says how an attempt ended, and gives what became of it.
    ///
    /// # Errors
    /// If storaged refuses.
    pub fn ended(&mut self, attempt: AttemptId, ending: Ending) -> Result<Settled> {
        let usage = Usage { wall_us: 1, cpu_us: 1, memory_peak_bytes: 0 };
        match self.demand(&Request::Ended { attempt, ending, usage })?.0 {
            Reply::Settled(settled) => Ok(settled),
            other => bail!("{other:?} for an end"),
        }
    }

    /// All inputs of a reducer, as the feeder of a zone would read them; or that storaged refuses.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn inputs(&mut self, attempt: AttemptId) -> Result<Result<Inputs, Refusal>> {
        let mut all = Vec::new();
        loop {
            let from = all.len() as u64;
            let (reply, fds) = self.ask(&Request::NextInputs { attempt, from })?;
            let (names, end) = match reply {
                Ok(Reply::Inputs { names, end }) => (names, end),
                Ok(other) => bail!("{other:?} for inputs"),
                Err(refusal) => return Ok(Err(refusal)),
            };
            ensure!(names.len() == fds.len(), "{} names, {} descriptors", names.len(), fds.len());
            for (name, fd) in names.into_iter().zip(fds) {
                let mut bytes = Vec::new();
                File::from(fd).read_to_end(&mut bytes)?;
                all.push((name, bytes));
            }
            if end {
                return Ok(Ok(all));
            }
        }
    }

    /// A file that is to become an object.
    ///
    /// # Errors
    /// If storaged refuses.
    pub fn stage(&mut self) -> Result<(StagedId, File)> {
        let (reply, mut fds) = self.demand(&Request::Stage { project: 0 })?;
        let Reply::Staged { staged } = reply else { bail!("{reply:?} for a file") };
        Ok((staged, fds.pop().context("the file's descriptor is missing")?.into()))
    }
}
