//! The tests' side of the agent in the appliance.

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
pub use test_agent::{Process, Reply, Request};

/// How long an answer may take: filling a disk under emulation is the slowest of questions.
const ANSWER_TIME: Duration = Duration::from_secs(120);
/// Between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(200);
/// Signals by number (signal(7)).
pub const SIGKILL: i32 = 9;
/// See [`SIGKILL`].
pub const SIGUSR1: i32 = 10;
/// See [`SIGKILL`].
pub const SIGTERM: i32 = 15;

/// The agent of one appliance. Each question has a connection of its own, so that one that failed spoils
/// nothing.
#[derive(Debug, Clone, Copy)]
pub struct Agent {
    address: SocketAddr,
}

/// What `/proc/PID/maps` says of one mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// Pages.
    pub pages: u64,
    /// `r--s`, …
    pub access: String,
    /// Device and inode, as text.
    pub file: String,
    /// The path, if it has one.
    pub path: String,
}

impl Agent {
    /// The agent behind a port of 127.0.0.1.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Asks one question.
    ///
    /// # Errors
    /// If there is no answer, or it is that something failed.
    pub fn ask(&self, request: &Request) -> Result<Reply> {
        let stream = TcpStream::connect_timeout(&self.address, ANSWER_TIME)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        let line = serde_json::to_string(request)? + "\n";
        (&stream).write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer)?;
        let answer: std::result::Result<Reply, String> =
            serde_json::from_str(&answer).with_context(|| format!("{request:?}: {answer:?}"))?;
        answer.map_err(|why| anyhow!("the agent: {why}"))
    }

    /// Waits until the agent answers.
    ///
    /// # Errors
    /// If it has not within `limit`.
    pub fn wait(&self, limit: Duration) -> Result<()> {
        wait_for("the agent to answer", limit, || Ok(self.ask(&Request::Ping).ok().map(drop)))
    }

    /// All processes.
    ///
    /// # Errors
    /// If the agent does not say.
    pub fn processes(&self) -> Result<Vec<Process>> {
        match self.ask(&Request::Processes)? {
            Reply::Processes(processes) => Ok(processes),
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// The one process of a daemon.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn daemon(&self, name: &str) -> Result<Process> {
        let mut all = self.processes()?;
        all.retain(|p| p.name == name && p.state != 'Z' && !p.cgroup.starts_with("/zones"));
        match &all[..] {
            [process] => Ok(process.clone()),
            _ => bail!("{} processes are called {name}", all.len()),
        }
    }

    /// Kills a daemon with SIGKILL and waits until another process has taken its place.
    ///
    /// # Errors
    /// If it was not there or does not come back within `limit`.
    pub fn kill_daemon(&self, name: &str, limit: Duration) -> Result<()> {
        let old = self.daemon(name)?.pid;
        self.signal(old, SIGKILL)?;
        wait_for(&format!("{name} to come back"), limit, || {
            Ok(self.daemon(name).ok().filter(|process| process.pid != old).map(drop))
        })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn signal(&self, pid: i32, signal: i32) -> Result<()> {
        self.ask(&Request::Signal { pid, signal }).map(drop)
    }

    /// What a file holds, as text.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(&self, path: &str) -> Result<String> {
        match self.ask(&Request::Read { path: path.to_owned() })? {
            Reply::File(base64) => {
                Ok(String::from_utf8_lossy(&BASE64_STANDARD.decode(base64)?).into_owned())
            }
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// Writes all to disk and has the kernel give back what it can.
    ///
    /// # Errors
    /// If it does not.
    pub fn reclaim(&self) -> Result<()> {
        self.ask(&Request::Reclaim).map(drop)
    }

    /// Has the agent hold this many network namespaces.
    ///
    /// # Errors
    /// If it can't.
    pub fn networks(&self, count: usize) -> Result<()> {
        self.ask(&Request::Networks { count }).map(drop)
    }

    /// Namespaces that are in use, by kind.
    ///
    /// # Errors
    /// If the agent does not say.
    pub fn namespaces(&self) -> Result<BTreeMap<String, u64>> {
        match self.ask(&Request::Namespaces)? {
            Reply::Namespaces(kinds) => Ok(kinds),
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// What is in a directory, and below it if `deep`.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn list(&self, path: &str, deep: bool) -> Result<Vec<String>> {
        match self.ask(&Request::List { path: path.to_owned(), deep })? {
            Reply::Names(names) => Ok(names),
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// A number from a file of `name value` lines (`memory.stat`).
    ///
    /// # Errors
    /// If the file can't be read or has no such line.
    pub fn number(&self, path: &str, name: &str) -> Result<u64> {
        let text = self.read(path)?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let value = lines.find(|(found, _)| *found == name).map(|(_, value)| value.trim().parse());
        Ok(value.with_context(|| format!("no {name} in {path}"))??)
    }

    /// The mappings of a process.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn mappings(&self, pid: i32) -> Result<Vec<Mapping>> {
        Ok(self.read(&format!("/proc/{pid}/maps"))?.lines().filter_map(mapping).collect())
    }

    /// The frames of a mapping's pages.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn frames(&self, pid: i32, mapping: &Mapping) -> Result<Vec<u64>> {
        let Mapping { start: address, pages, .. } = *mapping;
        match self.ask(&Request::Frames { pid, address, pages })? {
            Reply::Frames(frames) => Ok(frames),
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// How many of these frames are charged to each cgroup.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn owners(&self, frames: &[u64]) -> Result<BTreeMap<String, u64>> {
        match self.ask(&Request::Owners { frames: frames.to_vec() })? {
            Reply::Owners(owners) => Ok(owners),
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// Sends messages to a `SOCK_SEQPACKET` socket; gives what came back and whether the peer hung up.
    ///
    /// # Errors
    /// If there is no such socket.
    pub fn send(&self, socket: &str, messages: &[&[u8]]) -> Result<(Vec<Vec<u8>>, bool)> {
        let messages = messages.iter().map(|bytes| BASE64_STANDARD.encode(bytes)).collect();
        match self.ask(&Request::Send { socket: socket.to_owned(), messages })? {
            Reply::Answered { messages, closed } => {
                let decoded = messages.iter().map(|text| BASE64_STANDARD.decode(text));
                Ok((decoded.collect::<std::result::Result<_, _>>()?, closed))
            }
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// Says messages on every `SOCK_SEQPACKET` socket of a process, as if it did; gives how many were taken.
    ///
    /// # Errors
    /// If it has no such socket.
    pub fn speak(&self, pid: i32, messages: &[Vec<u8>]) -> Result<usize> {
        let messages = messages.iter().map(|bytes| BASE64_STANDARD.encode(bytes)).collect();
        match self.ask(&Request::Speak { pid, messages })? {
            Reply::Spoken { sockets: 0, .. } => bail!("process {pid} has no such socket"),
            Reply::Spoken { sent, .. } => Ok(sent),
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// Starts a program as a user.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(&self, command: &[&str], environment: &[(&str, &str)], user: u32) -> Result<i32> {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = environment.iter().map(pair).collect();
        match self.ask(&Request::Start { command, environment, user })? {
            Reply::Started { pid } => Ok(pid),
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// Ends a program that [`start`](Self::start) began; gives its exit code, unless a signal ended it, and
    /// its output.
    ///
    /// # Errors
    /// If it was not started so.
    pub fn end(&self, pid: i32, signal: i32) -> Result<(Option<i32>, String)> {
        match self.ask(&Request::End { pid, signal })? {
            Reply::Ended { code, output } => Ok((code, output)),
            other => bail!("an odd answer: {other:?}"),
        }
    }
}

/// Looks again and again until there is something.
///
/// # Errors
/// If there is nothing within `limit`, or looking fails.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {limit:?} for {what} in vain");
        }
        std::thread::sleep(POLL);
    }
}

/// One line of `/proc/PID/maps`: `start-end access offset device inode path`.
fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let access = fields.next()?.to_owned();
    let (_offset, device, inode) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.collect::<Vec<_>>().join(" ");
    let file = format!("{device} {inode}");
    Some(Mapping { start, pages: (end - start) / 4096, access, file, path })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_line_of_maps_is_taken_apart() {
        let line = "7f0000000000-7f0000003000 r--s 00000000 fe:00 42    /manta/a b";
        let found = mapping(line).unwrap();
        assert_eq!((found.start, found.pages), (0x7f00_0000_0000, 3));
        assert_eq!((&found.access[..], &found.file[..]), ("r--s", "fe:00 42"));
        assert_eq!(found.path, "/manta/a b");
    }
}
