//! Standing zones: machines of a tenant's own, until they are deleted.
//!
//! [`life`] decides, [`record`] and [`files`] keep what is wanted on disk, and the rest acts: [`turn`] has one
//! thing done after another, [`act`] does what is decided, [`create`], [`update`] and [`start`] are what they say,
//! [`publish`] has what they wrote become objects, [`hear`] listens to first processes, [`answer`] to people,
//! [`adopt`] finds zones again that outlived an earlier zoned, [`leftover`] clears those away that can't be taken
//! over. What is in memory can be rebuilt from records, from the kernel and from what init keeps.

mod act;
mod adopt;
mod answer;
mod create;
mod ears;
mod exec;
mod files;
mod hear;
mod held;
mod leftover;
pub mod life;
mod notes;
mod pace;
mod publish;
pub mod record;
mod start;
mod storaged;
mod store;
mod turn;
mod update;
mod view;

pub(crate) use self::adopt::open;
pub(crate) use self::answer::{Asker, refusal};
pub(crate) use self::ears::Ear;
use self::ears::Ears;
use self::life::{Desired, Life};
use self::notes::{Note, Notes};
use self::pace::{GRANTED_MAX, Pace};
use self::record::{Record, Records};
pub(crate) use self::storaged::Beside;
use self::storaged::Pending;
use self::turn::{Happening, Turn};
use crate::carve::Cgroup;
use crate::manifest::Workbench;
use crate::slot::{SLOTS_MAX, Slot, SlotError, TASK_SLOTS_MAX};
use crate::status::PeerId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
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
    /// What its record on disk says is wanted of it; none if that is not known.
    recorded: Option<Desired>,
    pub(crate) life: Life,
    /// Whether anything may happen to it now.
    turn: Turn,
    body: Option<Body>,
    /// A start that waits for something: it goes on when that has come.
    pending: Option<Pending>,
    publication: Publication,
    /// What it wishes to have published itself.
    pace: Pace,
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

impl Body {
    /// Whether it was started by an earlier zoned.
    const fn is_adopted(&self) -> bool {
        self.slot.is_none()
    }
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
            recorded: Some(record.desired),
            record,
            life,
            turn: Turn::Free,
            body: None,
            pending: None,
            publication,
            pace: Pace::default(),
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

    /// Whether time, or an answer, may change something of it though nothing is heard from it.
    fn is_restless(&self) -> bool {
        self.is_busy() || self.life.deadline_ms().is_some() || self.pace.is_waited_for()
    }

    /// Whether it is to be looked at again soon, without an event that says so.
    fn is_busy(&self) -> bool {
        self.pending.is_some()
            || self.waits_to_publish()
            || matches!(self.life.state, life::State::Down | life::State::Ready)
    }

    /// Whether it can be told to run more. One that lived on over a crash of zoned can before it has said that it
    /// runs: it is asked that first.
    fn takes_sessions(&self) -> bool {
        match self.life.state {
            life::State::Running => true,
            life::State::Ready => self.body.as_ref().is_some_and(Body::is_adopted),
            _ => false,
        }
    }

    /// Whether it has processes.
    pub(crate) const fn runs(&self) -> bool {
        self.body.is_some()
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
    /// Zones whose first records are on their way to the disk.
    unborn: BTreeMap<ZoneName, Record>,
    /// What is to happen to zones to which something else is happening.
    later: VecDeque<(ZoneName, Happening)>,
    /// Numbers that no zone has.
    free: BTreeSet<u32>,
    /// Zones that may be restless, and all that are: those at rest, which are most, are not looked at.
    restless: BTreeSet<ZoneName>,
    ears: Ears,
    records: Records,
    notes: Notes,
    workbench: Workbench,
    spare: Vec<Slot>,
    next_session: u64,
    next_ticket: u64,
    /// The node ends.
    closing: bool,
}

impl Standing {
    fn new(records: Records, notes: Notes, workbench: Workbench, ears: Ears) -> Self {
        Self {
            zones: BTreeMap::new(),
            by_number: BTreeMap::new(),
            unborn: BTreeMap::new(),
            later: VecDeque::new(),
            free: (TASK_SLOTS_MAX..SLOTS_MAX).collect(),
            restless: BTreeSet::new(),
            ears,
            records,
            notes,
            workbench,
            spare: Vec::new(),
            // Never one that an earlier zoned gave.
            next_session: unix_ms(),
            next_ticket: 0,
            closing: false,
        }
    }

    fn add(&mut self, zone: Zone) {
        let name = zone.record.spec.name.clone();
        self.by_number.insert(zone.record.number, name.clone());
        self.free.remove(&zone.record.number);
        self.restless.insert(name.clone());
        self.zones.insert(name, zone);
    }

    fn remove(&mut self, name: &ZoneName) {
        if let Some(zone) = self.zones.remove(name) {
            self.by_number.remove(&zone.record.number);
            self.free.insert(zone.record.number);
            self.restless.remove(name);
        }
    }

    /// Takes the name and the number of a zone that is to be.
    fn expect(&mut self, name: ZoneName, record: Record) {
        self.free.remove(&record.number);
        self.unborn.insert(name, record);
    }

    /// The zone that was to be, of which nothing is known from here on.
    fn expected(&mut self, name: &ZoneName) -> Option<Record> {
        let record = self.unborn.remove(name)?;
        self.free.insert(record.number);
        Some(record)
    }

    /// Whether there is a zone of this name, or is about to be.
    fn has(&self, name: &ZoneName) -> bool {
        self.zones.contains_key(name) || self.unborn.contains_key(name)
    }

    /// People's requests, and whatever else waits for a disk.
    pub(crate) fn waiting(&self) -> usize {
        self.unborn.len() + self.later.len()
    }

    /// Zones that an account has, or is about to have.
    pub(crate) fn count_of_account(&self, number: u32) -> usize {
        let unborn = self.unborn.values().filter(|record| record.account == number);
        self.of_account(number).count() + unborn.count()
    }

    /// The lowest number that no zone has.
    fn free_number(&self) -> Option<u32> {
        self.free.first().copied()
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

    /// The zones of an account.
    pub(crate) fn of_account(&self, number: u32) -> impl Iterator<Item = &Zone> {
        self.zones.values().filter(move |zone| zone.record.account == number)
    }

    /// Zones that use an image.
    pub(crate) fn using(&self, image: &str) -> u32 {
        let records = self.zones.values().map(|zone| &zone.record).chain(self.unborn.values());
        let using = records.filter(|record| record.spec.image == image);
        u32::try_from(using.count()).unwrap_or(u32::MAX)
    }

    /// Hears the words of a first process, and its end.
    fn listen(&self, number: u32, control: &Socket, process: BorrowedFd<'_>) -> io::Result<()> {
        self.ears.listen(Ear::Control(number), control.as_fd())?;
        self.ears.listen(Ear::Process(number), process).inspect_err(|_| {
            self.ears.ignore(control.as_fd());
        })
    }

    /// Ready when a first process is to be heard.
    pub(crate) fn ears(&self) -> BorrowedFd<'_> {
        self.ears.as_fd()
    }

    /// Who is to be heard now.
    pub(crate) fn heard(&self) -> io::Result<Vec<Ear>> {
        self.ears.heard()
    }

    /// Those of the zones that are not at rest.
    fn restless(&self) -> impl Iterator<Item = (&ZoneName, &Zone)> {
        self.restless.iter().filter_map(|name| self.zones.get_key_value(name))
    }

    /// Forgets the restlessness of zones that have come to rest.
    fn calm(&mut self) {
        let zones = &self.zones;
        self.restless.retain(|name| zones.get(name).is_some_and(Zone::is_restless));
    }

    /// When time next changes something.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        // What happens to others waits for the disk, not for the time.
        let free = self.restless().filter(|(_, zone)| matches!(zone.turn, Turn::Free));
        let lives = free.filter_map(|(_, zone)| zone.life.deadline_ms());
        // When as many are granted as may be, an answer of storaged comes before the next.
        let grants = self.may_grant();
        let wishes = self.restless().filter_map(|(_, zone)| zone.pace.due_ms()).filter(|_| grants);
        lives.chain(wishes).min()
    }

    /// Whether another zone's wish may be granted.
    fn may_grant(&self) -> bool {
        self.restless().filter(|(_, zone)| zone.pace.is_granted()).count() < GRANTED_MAX
    }

    /// Whether something is to be looked at again soon, without an event that says so.
    pub(crate) fn busy(&self) -> bool {
        self.restless().any(|(_, zone)| zone.is_busy())
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

    /// Whether any zone has processes, or what they leave is being cleared.
    pub(crate) fn runs(&self) -> bool {
        self.zones.values().any(|zone| zone.body.is_some() && !zone.ends_publishing())
    }

    /// Whether a zone is gone but for what it wrote.
    pub(crate) fn publishes(&self) -> bool {
        self.zones.values().any(Zone::ends_publishing)
    }
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
