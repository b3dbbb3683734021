//! A disk of numbered files that crashes on demand: what was not synced is lost, torn, or there, as a seed decides.
//!
//! It models a page cache over a disk with a volatile cache, sector by sector: each sector written since
//! the last sync is on disk after a crash or is not, independently; a length that was changed too, and a
//! name. What was synced is there.

use super::{Disk, SegmentFile};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, RwLock, RwLockWriteGuard};

const SECTOR: usize = 512;

/// Numbers from a seed (splitmix64): the same seed, the same crash.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}

/// What happens to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes before, in the middle of, or just after it, and stays away.
    Crash,
    /// There is no space for a part of it.
    NoSpace,
    /// The disk fails.
    Failure,
}

#[derive(Debug, Clone, Default)]
struct Segment {
    now: Vec<u8>,
    on_disk: Vec<u8>,
    name_synced: bool,
    /// Its name on disk, if that is another.
    was: Option<u64>,
}

type SharedSegment = Arc<Mutex<Segment>>;

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, SharedSegment>,
    removed: BTreeMap<u64, SharedSegment>,
}

/// What all disks of one machine have in common: their operations are counted together, and the power
/// goes for all of them at once.
#[derive(Debug, Default)]
struct Power {
    operations: u64,
    syncs: Vec<u64>,
    fault: Option<(u64, Fault)>,
    crashed: bool,
}

/// A handle on a disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    power: Arc<Mutex<Power>>,
    gate: Arc<RwLock<()>>,
}

struct SimulatedFile {
    segment: SharedSegment,
    power: Arc<Mutex<Power>>,
    gate: Arc<RwLock<()>>,
}

enum Go {
    Whole,
    /// Half of it is done, then the error comes.
    Half(io::Error),
    No(io::Error),
}

impl Power {
    fn step(&mut self, sync: bool) -> Go {
        if self.crashed {
            return Go::No(io::Error::other("the power is off"));
        }
        self.operations += 1;
        if sync {
            self.syncs.push(self.operations);
        }
        match self.fault {
            Some((at, fault)) if at == self.operations => match fault {
                Fault::Crash => {
                    self.crashed = true;
                    Go::Half(io::Error::other("the power went off"))
                }
                Fault::NoSpace => Go::Half(nix::errno::Errno::ENOSPC.into()),
                Fault::Failure => Go::No(nix::errno::Errno::EIO.into()),
            },
            _ => Go::Whole,
        }
    }
}

impl SimulatedDisk {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn step(&self, sync: bool) -> Go {
        self.power.lock().unwrap().step(sync)
    }

    /// Another, empty disk of the same machine.
    pub fn beside(&self) -> Self {
        Self { power: Arc::clone(&self.power), ..Self::default() }
    }

    /// Operations so far, of all disks of the machine.
    pub fn operations(&self) -> u64 {
        self.power.lock().unwrap().operations
    }

    /// The numbers of those that were syncs.
    pub fn syncs(&self) -> Vec<u64> {
        self.power.lock().unwrap().syncs.clone()
    }

    /// Has writes and syncs of files, once they are counted, wait until this is dropped.
    pub fn hold(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap()
    }

    /// What is to happen to the operation with that number.
    pub fn plan(&self, at: u64, fault: Fault) {
        self.power.lock().unwrap().fault = Some((at, fault));
    }

    /// The disk as it is found when the power is back.
    pub fn after_crash(&self, dice: &mut Dice) -> Self {
        self.after_crash_beside(dice, &Self::default())
    }

    /// As [`SimulatedDisk::after_crash`], as a disk of the machine that `other` is of.
    pub fn after_crash_beside(&self, dice: &mut Dice, other: &Self) -> Self {
        let state = self.state();
        let mut files = BTreeMap::new();
        for (&name, file) in &state.files {
            let file = file.lock().unwrap();
            if file.name_synced || dice.below(2) == 0 {
                files.insert(name, file.crashed(dice));
            } else if let Some(was) = file.was {
                files.insert(was, file.crashed(dice));
            }
        }
        for (&name, file) in &state.removed {
            let file = file.lock().unwrap();
            if file.name_synced && dice.below(2) == 0 {
                files.entry(name).or_insert_with(|| file.crashed(dice));
            }
        }
        let shared = |(name, file)| (name, Arc::new(Mutex::new(file)));
        let files = files.into_iter().map(shared).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        Self { state, power: Arc::clone(&other.power), gate: Arc::default() }
    }

    fn file(&self, segment: &SharedSegment) -> Box<dyn SegmentFile> {
        let (segment, power) = (Arc::clone(segment), Arc::clone(&self.power));
        Box::new(SimulatedFile { segment, power, gate: Arc::clone(&self.gate) })
    }
}

impl Segment {
    fn crashed(&self, dice: &mut Dice) -> Self {
        let length = match dice.below(3) {
            0 => self.on_disk.len(),
            1 => self.now.len(),
            _ => {
                let (low, high) = (self.on_disk.len(), self.now.len());
                low.min(high) + dice.below(low.abs_diff(high) as u64 + 1) as usize
            }
        };
        let mut bytes = vec![0; length];
        for start in (0..length).step_by(SECTOR) {
            let from = if dice.below(2) == 0 { &self.now } else { &self.on_disk };
            let end = length.min(start + SECTOR).min(from.len());
            if start < end {
                bytes[start..end].copy_from_slice(&from[start..end]);
            }
        }
        Self { now: bytes.clone(), on_disk: bytes, name_synced: true, was: None }
    }
}

impl Disk for SimulatedDisk {
    fn list(&mut self) -> io::Result<Vec<u64>> {
        Ok(self.state().files.keys().copied().collect())
    }

    fn create(&mut self, name: u64) -> io::Result<Box<dyn SegmentFile>> {
        match self.step(false) {
            Go::No(error) => return Err(error),
            Go::Half(error) => {
                self.state().files.entry(name).or_default();
                return Err(error);
            }
            Go::Whole => {}
        }
        let mut state = self.state();
        if state.files.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let segment = SharedSegment::default();
        state.files.insert(name, Arc::clone(&segment));
        Ok(self.file(&segment))
    }

    fn open(&mut self, name: u64) -> io::Result<Box<dyn SegmentFile>> {
        let segment = self.state().files.get(&name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(&segment))
    }

    fn remove(&mut self, name: u64) -> io::Result<()> {
        if let Go::No(error) | Go::Half(error) = self.step(false) {
            return Err(error);
        }
        let mut state = self.state();
        let file = state.files.remove(&name).ok_or(io::ErrorKind::NotFound)?;
        state.removed.insert(name, file);
        Ok(())
    }

    fn rename(&mut self, from: u64, to: u64) -> io::Result<()> {
        let go = self.step(false);
        if let Go::No(error) = go {
            return Err(error);
        }
        let mut state = self.state();
        if state.files.contains_key(&to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.remove(&from).ok_or(io::ErrorKind::NotFound)?;
        {
            let mut file = file.lock().unwrap();
            if file.name_synced {
                (file.name_synced, file.was) = (false, Some(from));
            }
        }
        state.files.insert(to, file);
        match go {
            Go::Half(error) => Err(error),
            Go::Whole | Go::No(_) => Ok(()),
        }
    }

    fn sync_names(&mut self) -> io::Result<()> {
        let go = self.step(true);
        if let Go::No(error) = go {
            return Err(error);
        }
        let mut state = self.state();
        for file in state.files.values() {
            let mut file = file.lock().unwrap();
            (file.name_synced, file.was) = (true, None);
        }
        state.removed.clear();
        match go {
            Go::Half(error) => Err(error),
            Go::Whole | Go::No(_) => Ok(()),
        }
    }
}

impl SimulatedFile {
    fn with<T>(
        &self,
        sync: bool,
        act: impl FnOnce(&mut Segment, Option<&io::Error>) -> T,
    ) -> io::Result<T> {
        let go = self.power.lock().unwrap().step(sync);
        drop(self.gate.read().unwrap());
        let mut segment = self.segment.lock().unwrap();
        match go {
            Go::No(error) => Err(error),
            Go::Whole => Ok(act(&mut segment, None)),
            Go::Half(error) => {
                act(&mut segment, Some(&error));
                Err(error)
            }
        }
    }
}

impl SegmentFile for SimulatedFile {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.segment.lock().unwrap().now.clone())
    }

    fn length(&mut self) -> io::Result<u64> {
        Ok(self.segment.lock().unwrap().now.len() as u64)
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let segment = self.segment.lock().unwrap();
        let rest = usize::try_from(offset).ok().and_then(|at| segment.now.get(at..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(false, |file, half| {
            // A crash may come when all is written, no space only before the end.
            let crash = half.is_some_and(|error| error.raw_os_error().is_none());
            let count = match half {
                None => bytes.len(),
                Some(_) if crash && (bytes.len() / 8).is_multiple_of(2) => bytes.len(),
                Some(_) => bytes.len() / 2,
            };
            let offset = usize::try_from(offset).unwrap();
            let end = file.now.len().max(offset + count);
            file.now.resize(end, 0);
            file.now[offset..offset + count].copy_from_slice(&bytes[..count]);
        })
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.with(false, |file, _| file.now.resize(usize::try_from(length).unwrap(), 0))
    }

    fn sync(&mut self) -> io::Result<()> {
        // A crash in the middle of a sync leaves any part of it: so does one before it.
        self.with(true, |file, half| {
            if half.is_none() {
                file.on_disk.clone_from(&file.now);
            }
        })
    }

    fn forget(&mut self) -> io::Result<()> {
        Ok(())
    }
}
