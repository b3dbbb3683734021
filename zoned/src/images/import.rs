//! An import while it lasts: what storaged gave for it, and its zone.
//!
//! What the zone says is a stranger's word: it decides whether the file is kept, and nothing else.

use super::act::OWNER;
use super::life::{Action, Event, State};
use crate::chain;
use crate::import::Report;
use crate::meter::{Reserved, Whose};
use crate::slot::Slot;
use crate::zone::Zone;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Instant;
use sys::clone::kill;
use sys::seqpacket::{RecvError, SendError};
use wire::frame::{Frame, Kind, encode};
use wire::job::{IMAGE_DEFAULT, JobId, PhaseKind};
use wire::task::{AttemptId, StagedId, Task};
use wire::zone::{Order, Outcome, Report as Said};

/// Memory of an import, in MiB: names of the largest image that is taken, two zstd windows, the program.
const MEMORY_MIB: u32 = 512;
/// Room for an image, in GiB: what [`crate::import::limits`] lets come out of an archive, and what holds it.
pub(super) const DISK_GIB: u32 = 17;
/// Bytes of what the program said that are read.
const SAID_BYTES_MAX: usize = 64 * 1024;
/// Where the zone has the program.
const PROGRAM: &str = "/assets/zone-import";
/// Its number among tasks, which count from 1.
const ATTEMPT: AttemptId = AttemptId(u64::MAX);

/// An import.
#[derive(Debug)]
pub(crate) struct Import {
    /// The image's name.
    pub(super) name: String,
    pub(super) login: String,
    pub(super) archive: String,
    pub(super) state: State,
    pub(super) account: u32,
    pub(super) opened: Option<OwnedFd>,
    pub(super) staged: Option<StagedId>,
    /// The file, until the zone has it.
    pub(super) file: Option<OwnedFd>,
    pub(super) slot: Option<Slot>,
    pub(super) running: Option<Running>,
    pub(super) made: Option<(String, u64)>,
    /// What is to be done of what was decided, and what has happened meanwhile.
    pub(super) actions: VecDeque<Action>,
    pub(super) events: VecDeque<Event>,
    /// An action is being done, by this thread or by the disk.
    pub(super) busy: bool,
    /// When all is done, nothing comes after.
    pub(super) over: bool,
}

/// Its zone.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) zone: Zone,
    pub(super) said: File,
    pub(super) since: Instant,
    pub(super) listening: bool,
    pub(super) outcome: Option<Outcome>,
}

impl Import {
    pub(super) fn new(name: String, login: String, archive: String) -> Self {
        Self {
            name,
            login,
            archive,
            state: State::Naming,
            account: 0,
            opened: None,
            staged: None,
            file: None,
            slot: None,
            running: None,
            made: None,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            busy: false,
            over: false,
        }
    }

    pub(super) fn object(&self) -> String {
        format!("/{OWNER}/stor/images/{}.erofs", self.name)
    }

    /// Its zone's first process's socket, as long as something may come from it.
    pub(crate) fn control(&self) -> Option<BorrowedFd<'_>> {
        let running = self.running.as_ref()?;
        running.listening.then(|| running.zone.control.as_fd())
    }

    /// Readable when its zone is gone.
    pub(crate) fn process(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.zone.pidfd.as_fd())
    }

    /// Who pays: whose archive it is.
    pub(super) fn whose(&self) -> Whose {
        Whose { account: self.account, login: self.login.clone(), job: None, phase: None }
    }

    /// What its zone takes from others, as a task of this size does.
    pub(super) fn reserved() -> Reserved {
        let memory_mib = u64::from(MEMORY_MIB);
        Reserved { memory_mib, scratch_mib: memory_mib / 2 }
    }

    pub(super) fn task(&self) -> Task {
        Task {
            attempt: ATTEMPT,
            job: JobId(uuid::Uuid::nil()),
            phase: 0,
            kind: PhaseKind::Map,
            account: self.account,
            login: self.login.clone(),
            exec: format!("exec {PROGRAM}"),
            init: None,
            input: Some(self.archive.clone()),
            assets: vec![PROGRAM.to_owned()],
            environment: Vec::new(),
            memory_mib: MEMORY_MIB,
            disk_gib: DISK_GIB,
            image: IMAGE_DEFAULT.to_owned(),
        }
    }
}

impl Running {
    /// What comes from the zone's first process; false when nothing more does.
    pub(super) fn hear(&mut self) -> Result<bool, String> {
        let mut message = Vec::new();
        let fds = match self.zone.control.recv(&mut message) {
            Ok(Some(fds)) => fds,
            Ok(None) => {
                self.listening = false;
                return Ok(false);
            }
            Err(RecvError::Empty) => return Ok(false),
            Err(error) => return Err(chain(&error)),
        };
        let frame = Frame::parse(&message, fds.len()).map_err(|error| chain(&error))?;
        match frame.body().map_err(|error| chain(&error))? {
            Said::Over(outcome) => {
                self.outcome = Some(outcome);
                let order = encode(Kind::Push, 0, &Order::Acknowledged, 0);
                let order = order.map_err(|error| chain(&error))?;
                match self.zone.control.send(&order, &[]) {
                    // It is ending: that will be seen by its pidfd.
                    Ok(()) | Err(SendError::Closed) => Ok(true),
                    Err(error) => Err(chain(&error)),
                }
            }
            // Whatever else it has to say is nothing that an import waits for.
            _ => Ok(true),
        }
    }

    /// How it went, once all is over.
    pub(super) fn result(&self) -> Result<(), String> {
        let mut said = vec![0; SAID_BYTES_MAX];
        let got = self.said.read_at(&mut said, 0);
        said.truncate(got.map_err(|error| format!("cannot read what it said: {error}"))?);
        let report = parse_report(&said);
        match (&self.outcome, report) {
            (Some(Outcome::Exited { code: 0 }), Some(Report::Imported(_))) => Ok(()),
            (_, Some(Report::Failed(why))) => Err(why),
            _ if self.zone.cgroup.measure().out_of_memory => {
                Err(format!("the archive's names do not fit into {MEMORY_MIB} MiB of memory"))
            }
            (None, _) => Err("its zone ended without a word".to_owned()),
            (Some(Outcome::Broken { message }), _) => Err(format!("its zone failed: {message}")),
            (Some(outcome), _) => {
                let text = String::from_utf8_lossy(&said);
                Err(format!("its program ended as {outcome:?}: {}", text.trim()))
            }
        }
    }
}

/// The last line that is a report; the shell may have said something before.
fn parse_report(said: &[u8]) -> Option<Report> {
    let mut lines = said.split(|byte| *byte == b'\n').rev();
    lines.find_map(|line| serde_json::from_slice(line).ok())
}

pub(super) fn kill_zone(import: &mut Import) {
    let Some(running) = &import.running else { return };
    // The first process's end is the end of all; the cgroup makes sure of it.
    let killed = kill(running.zone.pidfd.as_fd(), libc::SIGKILL);
    if let Err(error) = running.zone.cgroup.kill() {
        eprintln!("zoned: {}", chain(&error));
    }
    if let Err(error) = killed {
        eprintln!("zoned: cannot kill the zone of an import: {error}");
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_report_counts_whatever_was_said_before_it() {
        let said = b"bash: warning\n{\"failed\":\"x\"}\nnot json\n";
        assert_eq!(parse_report(said), Some(Report::Failed("x".to_owned())));
        assert_eq!(parse_report(b""), None);
    }

    proptest! {
        #[test]
        fn any_words_are_a_report_or_none(said: Vec<u8>) {
            drop(parse_report(&said));
        }
    }
}
