//! Standing zones: machines of a tenant's own, until they are deleted.
//!
//! [`life`] decides, [`record`] keeps what is wanted on disk, and the rest acts: [`act`] does what is
//! decided, [`start`] starts, [`hear`] listens to first processes, [`answer`] to people, [`adopt`] finds zones
//! again that outlived an earlier zoned. What is in memory can be rebuilt from records, from the kernel
//! and from what init keeps.

mod act;
mod adopt;
mod answer;
mod exec;
mod hear;
mod held;
pub mod life;
mod notes;
pub mod record;
mod start;
mod storaged;
mod store;
mod view;

pub(crate) use self::adopt::open;
pub(crate) use self::answer::{Asker, refusal};
use self::life::Life;
use self::notes::{Note, Notes};
pub use self::record::RecordError;
use self::record::{Record, Records};
pub(crate) use self::storaged::Beside;
use self::storaged::Pending;
use crate::carve::Cgroup;
use crate::manifest::Workbench;
use crate::slot::{SLOTS_MAX, Slot, SlotError, TASK_SLOTS_MAX};
use crate::status::PeerId;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};
use sys::seqpacket::Socket;
use wire::standing::ZoneName;
use wire::zone::Outcome;

/// Namespaces of deleted zones that are kept for the next: making them takes longer than all else in a
/// zone, and taking them apart holds up the whole node.
const SPARE_MAX: usize = 64;
/// Reasons that are remembered of a zone.
const REASONS: usize = 16;

/// A standing zone in the books.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) record: Record,
    pub(crate) life: Life,
    body: Option<Body>,
    /// A start that waits for something: it goes on when that has come.
    pending: Option<Pending>,
    publication: Publication,
    sessions: BTreeMap<u64, Option<PeerId>>,
    restarts: u32,
    last_outcome: Option<Outcome>,
    /// What went wrong, latest first.
    reasons: VecDeque<String>,
}

/// What a zone that runs consists of.
#[derive(Debug)]
struct Body {
    cgroup: Cgroup,
    /// To its first process.
    control: Socket,
    /// Whether anything may come from there.
    listening: bool,
    /// Its first process: readable when the zone is gone.
    pidfd: OwnedFd,
    /// None if it was started by an earlier zoned: its namespaces end with it.
    slot: Option<Slot>,
    gone: bool,
    /// When it was started, or adopted, in milliseconds of the daemon's clock.
    since_ms: u64,
    note: Note,
}

/// What becomes of a zone's output when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Publication {
    /// It is published when the zone is down.
    Due,
    /// storaged is at it.
    Asked,
    /// It was, or cannot be.
    Over,
}

impl Zone {
    fn new(record: Record, life: Life) -> Self {
        // An earlier zoned may not have come to it.
        let publication =
            if record.spec.output.is_some() { Publication::Due } else { Publication::Over };
        Self {
            record,
            life,
            body: None,
            pending: None,
            publication,
            sessions: BTreeMap::new(),
            restarts: 0,
            last_outcome: None,
            reasons: VecDeque::new(),
        }
    }

    /// What it shows of the store, each with whose it is.
    fn prefixes(&self) -> impl Iterator<Item = (&str, &str)> {
        let spec = &self.record.spec;
        spec.mounts.iter().map(|mount| (spec.login.as_str(), mount.prefix.as_str()))
    }

    fn note(&mut self, reason: String) {
        self.reasons.truncate(REASONS - 1);
        self.reasons.push_front(reason);
    }
}

/// All standing zones.
#[derive(Debug)]
pub(crate) struct Standing {
    zones: BTreeMap<ZoneName, Zone>,
    by_number: BTreeMap<u32, ZoneName>,
    records: Records,
    notes: Notes,
    workbench: Workbench,
    spare: Vec<Slot>,
    /// Accounts' numbers that are known already: they never change.
    accounts: BTreeMap<String, u32>,
    next_session: u64,
    /// The node ends.
    closing: bool,
}

impl Standing {
    fn new(records: Records, notes: Notes, workbench: Workbench) -> Self {
        Self {
            zones: BTreeMap::new(),
            by_number: BTreeMap::new(),
            records,
            notes,
            workbench,
            spare: Vec::new(),
            accounts: BTreeMap::new(),
            // Never one that an earlier zoned gave.
            next_session: unix_ms(),
            closing: false,
        }
    }

    fn add(&mut self, zone: Zone) {
        let name = zone.record.spec.name.clone();
        self.by_number.insert(zone.record.number, name.clone());
        self.zones.insert(name, zone);
    }

    fn remove(&mut self, name: &ZoneName) {
        if let Some(zone) = self.zones.remove(name) {
            self.by_number.remove(&zone.record.number);
        }
    }

    /// The lowest number that no zone has.
    fn free_number(&self) -> Option<u32> {
        (TASK_SLOTS_MAX..SLOTS_MAX).find(|number| !self.by_number.contains_key(number))
    }

    fn take_slot(&mut self, number: u32) -> Result<Slot, SlotError> {
        match self.spare.iter().position(|slot| slot.number() == number) {
            Some(at) => Ok(self.spare.swap_remove(at)),
            None => Slot::new(number),
        }
    }

    /// Keeps a slot whose zone is gone. One that had a network may know whom it spoke to: it goes.
    fn put_slot(&mut self, slot: Slot, had_network: bool) {
        if !had_network && self.spare.len() < SPARE_MAX {
            self.spare.push(slot);
        }
    }

    /// Zones that use an image.
    pub(crate) fn using(&self, image: &str) -> u32 {
        let using = self.zones.values().filter(|zone| zone.record.spec.image == image);
        u32::try_from(using.count()).unwrap_or(u32::MAX)
    }

    /// First processes that may have something to say.
    pub(crate) fn controls(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        let bodies = self.zones.values().filter_map(|z| Some((z.record.number, z.body.as_ref()?)));
        bodies.filter(|(_, body)| body.listening).map(|(n, body)| (n, body.control.as_fd()))
    }

    /// First processes whose end is awaited.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        let bodies = self.zones.values().filter_map(|z| Some((z.record.number, z.body.as_ref()?)));
        bodies.filter(|(_, body)| !body.gone).map(|(number, body)| (number, body.pidfd.as_fd()))
    }

    /// When time next changes something.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.zones.values().filter_map(|zone| zone.life.deadline_ms()).min()
    }

    /// Whether something is to be looked at again soon, without an event that says so.
    pub(crate) fn busy(&self) -> bool {
        self.zones.values().any(|zone| {
            zone.pending.is_some()
                || zone.waits_to_publish()
                || matches!(zone.life.state, life::State::Down | life::State::Ready)
        })
    }

    /// Manifests that some zone shows, or is about to.
    fn manifests(&self) -> impl Iterator<Item = wire::task::ManifestId> {
        self.zones.values().flat_map(|zone| {
            let mounted = zone.body.iter().flat_map(|body| &body.note.manifests);
            mounted.chain(zone.pending.iter().flat_map(|pending| &pending.manifests)).copied()
        })
    }

    /// Prefixes that zones which run show, each with the account that shows it.
    pub(crate) fn shown_prefixes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.zones.values().filter(|zone| zone.body.is_some()).flat_map(Zone::prefixes)
    }

    /// The zones that run and show a prefix of which something holds.
    pub(crate) fn showing(&self, holds: impl Fn((&str, &str)) -> bool) -> Vec<ZoneName> {
        let runs = self.zones.iter().filter(|(_, zone)| zone.body.is_some());
        let showing = runs.filter(|(_, zone)| zone.prefixes().any(&holds));
        showing.map(|(name, _)| name.clone()).collect()
    }

    /// Notes what is wrong with a zone; false if that is known.
    pub(crate) fn blame(&mut self, name: &ZoneName, why: String) -> bool {
        let Some(zone) = self.zones.get_mut(name) else { return false };
        let news = !zone.reasons.contains(&why);
        if news {
            zone.note(why);
        }
        news
    }

    /// Whether any zone has processes.
    pub(crate) fn runs(&self) -> bool {
        self.zones.values().any(|zone| zone.body.is_some())
    }
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
