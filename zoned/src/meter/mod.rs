//! Metering: who used what, in records that storaged keeps as hourly objects of a system account.
//!
//! ```text
//!   zones ─ begin, checkpoint every 5 min, end ─▶ ledger ─ lines ─▶ outbox ─ Meter ─▶ storaged
//!                                                   │                 └── a file, until storaged has them
//!                                                   └── a file a zone: what was reported of it last
//! ```
//! Each record holds what was used since the last one of the same zone and what was used in all, so that a
//! reader needs no state. Only counts that never go back are in it; clocks are for people. Records are
//! delivered at least once: the same line may be there twice, and `sort -u` makes it one.
//!
//! Files are in the memory of the node: they outlive zoned, as zones do, and end with the boot, as zones
//! do. A power cut loses what was used since the last record that storaged had.

pub mod ledger;
mod outbox;
pub mod record;

pub use ledger::{Key, Ledger, Moment, Reserved, Whose};
pub use outbox::{Outbox, OutboxError};
pub use record::{Count, Counters};

use nix::time::{ClockId, clock_gettime};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::standing::Stats;

/// Where the files are, in zoned's own directory.
const DIRECTORY: &str = "meter";

/// The meter: the ledger, what it has to say, and its files.
#[derive(Debug)]
pub struct Meter {
    ledger: Ledger,
    outbox: Outbox,
    directory: PathBuf,
}

/// Now, on both clocks.
#[must_use]
pub fn moment() -> Moment {
    // CLOCK_BOOTTIME is always there (Linux 2.6.39); it goes on over restarts of zoned.
    let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment {
        boot_us: u64::try_from(boot.as_micros()).unwrap_or(u64::MAX),
        unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
    }
}

impl Meter {
    /// A meter with its files below `run`; what an earlier zoned had not delivered is delivered by this one.
    ///
    /// # Errors
    /// [`OutboxError`] when the files can't be used.
    pub fn open(run: &Path) -> Result<Self, OutboxError> {
        let directory = run.join(DIRECTORY);
        fs::create_dir_all(&directory).map_err(|source| OutboxError {
            act: "make",
            path: directory.clone(),
            source,
        })?;
        let mut outbox = Outbox::open(&directory.join("outbox"))?;
        outbox.put(record::agent(moment().unix_ms));
        Ok(Self { ledger: Ledger::default(), outbox, directory })
    }

    /// A zone begins: `now` is what its cgroup has counted so far, which is not its own.
    pub fn begin(&mut self, key: Key, whose: Whose, reserved: Reserved, now: &Stats) {
        let begun = key.clone();
        self.outbox.put(self.ledger.begin(key, whose, reserved, now, moment()));
        self.save_if_it_lasts(&begun);
    }

    /// A zone that outlived an earlier zoned goes on; one that nothing is known of begins.
    pub fn adopt(&mut self, key: Key, whose: Whose, reserved: Reserved) {
        let saved = fs::read_to_string(self.file(&key)).ok();
        if !saved.is_some_and(|saved| self.ledger.adopt(key.clone(), &saved)) {
            eprintln!("zoned: nothing was noted of what {key} used: it counts from its beginning");
            self.begin(key, whose, reserved, &Stats::default());
        }
    }

    /// What a zone holds in reserve changes.
    pub fn reserve(&mut self, key: &Key, reserved: Reserved) {
        self.ledger.reserve(key, reserved, moment());
        self.save(key);
    }

    /// Bytes of objects were handed to a zone.
    pub fn delivered(&mut self, key: &Key, bytes: u64) {
        self.ledger.add(key, Count::ObjectBytes, bytes);
        self.save_if_it_lasts(key);
    }

    /// Zones of which a checkpoint is due. None while what was said is not being heard: what they use is
    /// in the next one.
    #[must_use]
    pub fn due(&mut self) -> Vec<Key> {
        if self.outbox.is_full() { Vec::new() } else { self.ledger.due(moment()) }
    }

    /// Takes down what a zone has used until now.
    pub fn checkpoint(&mut self, key: &Key, now: &Stats) {
        if let Some(line) = self.ledger.checkpoint(key, now, moment()) {
            self.outbox.put(line);
            self.save(key);
        }
    }

    /// A zone is over, and this is all that it used; `how` it ended, in words.
    pub fn end(&mut self, key: &Key, now: &Stats, how: &str) {
        let Some(line) = self.ledger.end(key, now, how, moment()) else { return };
        self.outbox.put(line);
        match fs::remove_file(self.file(key)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => eprintln!("zoned: cannot forget what {key} used: {error}"),
        }
    }

    /// Lines to be told to storaged now; none while it has not answered, or little is to be said and the
    /// last was told a moment ago.
    #[must_use]
    pub fn take(&mut self) -> Option<Vec<String>> {
        self.outbox.take(moment().boot_us)
    }

    /// storaged has what was taken.
    pub fn delivered_lines(&mut self) {
        self.outbox.delivered();
    }

    /// storaged has not: it is told again.
    pub fn not_delivered(&mut self) {
        self.outbox.not_delivered();
    }

    /// storaged does not want what was taken, and never will.
    pub fn refused(&mut self, why: &str) {
        let lines = self.outbox.delivered();
        eprintln!("zoned: {lines} lines of usage are lost, storaged refuses them: {why}");
    }

    /// Whether something is to be told.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn file(&self, key: &Key) -> PathBuf {
        self.directory.join(key.file())
    }

    /// A task or an import is cut short when zoned is: what is known of its start is on record already.
    fn save_if_it_lasts(&self, key: &Key) {
        if matches!(key, Key::Zone(_)) {
            self.save(key);
        }
    }

    fn save(&self, key: &Key) {
        let Some(saved) = self.ledger.saved(key) else { return };
        let path = self.file(key);
        let next = path.with_extension("new");
        // Not synced: the file is in memory. The rename keeps a killed zoned from leaving half of it.
        let written = fs::write(&next, saved).and_then(|()| fs::rename(&next, &path));
        if let Err(error) = written {
            eprintln!("zoned: cannot note what {key} used: {error}");
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use wire::standing::ZoneName;

    fn key() -> Key {
        Key::Zone(ZoneName::try_from("web".to_owned()).unwrap())
    }

    fn whose() -> Whose {
        Whose { account: 7, login: "ann".to_owned(), job: None, phase: None }
    }

    fn used(cpu_us: u64) -> Stats {
        Stats { cpu_us, ..Stats::default() }
    }

    fn texts(meter: &mut Meter) -> Vec<serde_json::Value> {
        let lines = meter.outbox.take(u64::MAX).unwrap_or_default();
        meter.delivered_lines();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_zone_goes_on_being_metered_when_zoned_is_started_again() {
        let run = tempfile::tempdir().unwrap();
        let reserved = Reserved { memory_mib: 64, scratch_mib: 32 };
        let mut meter = Meter::open(run.path()).unwrap();
        meter.begin(key(), whose(), reserved, &Stats::default());
        meter.checkpoint(&key(), &used(100));
        drop(meter);
        let mut meter = Meter::open(run.path()).unwrap();
        meter.adopt(key(), whose(), reserved);
        meter.end(&key(), &used(130), "stopped");
        let lines = texts(&mut meter);
        let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        // What the first one had not delivered is there too.
        assert_eq!(events, ["agent", "start", "checkpoint", "agent", "done"]);
        assert_eq!(lines[2]["delta"]["cpu_us"], "100");
        assert_eq!(
            (&lines[4]["delta"]["cpu_us"], &lines[4]["total"]["cpu_us"]),
            (&"30".into(), &"130".into())
        );
        assert_eq!((&lines[4]["number"], &lines[4]["life"]), (&"3".into(), &lines[1]["life"]));
        assert!(!run.path().join("meter").join(key().file()).exists());
    }

    #[test]
    fn what_was_delivered_is_not_told_again() {
        let run = tempfile::tempdir().unwrap();
        let mut meter = Meter::open(run.path()).unwrap();
        assert_eq!(texts(&mut meter).len(), 1);
        drop(meter);
        assert_eq!(texts(&mut Meter::open(run.path()).unwrap()).len(), 1);
    }
}
