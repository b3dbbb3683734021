//! What the daemon tells the meter of its zones, and storaged of the meter's lines.

use crate::chain;
use crate::daemon::{Asked, Daemon};
use crate::meter::{Key, Reserved, Whose};
use wire::standing::Stats;
use wire::task::{Ending, Request, Task};

impl Daemon {
    /// Takes checkpoints that are due and tells storaged what is to be told.
    pub(crate) fn meter(&mut self) {
        for key in self.meter.due() {
            if let Some(stats) = self.used(&key) {
                self.meter.checkpoint(&key, &stats);
            }
        }
        if !self.link.has_room() {
            return;
        }
        let Some(lines) = self.meter.take() else { return };
        if let Err((error, _)) = self.link.ask(&Request::Meter { lines }, Asked::Meter) {
            self.meter.not_delivered();
            self.lose_link(&chain(&error));
        }
    }

    /// What a zone has used so far; none if it is not there.
    fn used(&self, key: &Key) -> Option<Stats> {
        match key {
            Key::Task(attempt) => self.zones.get(attempt).map(crate::running::Entry::stats),
            Key::Zone(name) => self.standing_stats(name),
            Key::Import(name) => self.images.import_stats(name),
        }
    }

    /// A task has begun, with so many bytes of objects, in a zone that has used `before` for others.
    pub(crate) fn meter_task(&mut self, task: &Task, delivered: u64, before: &Stats) {
        let key = Key::Task(task.attempt);
        let whose = Whose {
            account: task.account,
            login: task.login.clone(),
            job: Some(task.job.to_string()),
            phase: Some(task.phase),
        };
        let memory_mib = u64::from(task.memory_mib);
        let reserved = Reserved { memory_mib, scratch_mib: memory_mib / 2 };
        self.meter.begin(key.clone(), whose, reserved, before);
        self.meter.delivered(&key, delivered);
    }
}

/// How a task ended, in words for its record.
pub(crate) fn how(ending: &Ending) -> String {
    match ending {
        Ending::Exited { code } => format!("exited {code}"),
        Ending::Signalled { signal } => format!("signal {signal}"),
        Ending::OutOfMemory => "out of memory".to_owned(),
        Ending::OutOfDisk => "out of disk".to_owned(),
        Ending::InitFailed { .. } => "init failed".to_owned(),
        Ending::Cancelled => "cancelled".to_owned(),
        Ending::Lost { .. } => "lost".to_owned(),
    }
}
