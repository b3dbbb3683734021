//! Slots: what is kept from one zone to the next because it costs too much to make, and tells nothing.
//!
//! A slot has a number, and by it a range of user ids, a project id, a user namespace and a network
//! namespace. Making a network namespace takes longer than all else in a zone, and taking one apart holds
//! a lock of the whole node. Zones use a slot one after another, never two at a time; all that could hold
//! a trace of a tenant (processes, mounts, files, IPC) belongs to the zone and goes with it.

use std::io;
use std::os::fd::OwnedFd;
use sys::namespace;
use thiserror::Error;
use wire::standing::ZONES_MAX;

/// User ids of a slot: as many as any program knows of.
pub const USERS: u32 = 65_536;
/// The first id of the first slot; below are the node's own.
pub const USER_BASE: u32 = 100_000;
/// The project id of the first slot; projects below are others'.
pub const PROJECT_BASE: u32 = 100_000;
/// The most slots: what the range of user ids has room for, and more than a node needs.
pub const SLOTS_MAX: u32 = 4096;

/// Of them the first are tasks'; the rest are standing zones', each its own for as long as it is.
pub const TASK_SLOTS_MAX: u32 = SLOTS_MAX - ZONES_MAX as u32;

const _: () = assert!(USER_BASE as u64 + SLOTS_MAX as u64 * USERS as u64 <= 1 << 31);

/// Why there is no slot.
#[derive(Debug, Error)]
#[error("cannot make the {what} of slot {number}")]
pub struct SlotError {
    what: &'static str,
    number: u32,
    source: io::Error,
}

/// A slot, taken by one zone.
#[derive(Debug)]
pub struct Slot {
    number: u32,
    /// The user namespace of its zones.
    pub users: OwnedFd,
    /// The network namespace of its zones.
    pub network: OwnedFd,
    /// Shows files of this user and group as the zone's own.
    owner: Option<((u32, u32), OwnedFd)>,
}

impl Slot {
    /// Makes the slot of this number.
    ///
    /// # Errors
    /// [`SlotError`].
    pub(crate) fn new(number: u32) -> Result<Self, SlotError> {
        let failed = |what| move |source| SlotError { what, number, source };
        let base = USER_BASE + number * USERS;
        let users = namespace::users(base, USERS).map_err(failed("user namespace"))?;
        let network = namespace::network().map_err(failed("network namespace"))?;
        Ok(Self { number, users, network, owner: None })
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The first of its user ids, the zone's root.
    #[must_use]
    pub const fn user(&self) -> u32 {
        USER_BASE + self.number * USERS
    }

    /// Whose quota its zone's output is charged to.
    #[must_use]
    pub const fn project(&self) -> u32 {
        PROJECT_BASE + self.number
    }

    /// A namespace through which files of this user and group are seen as the zone's root's.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn owner(&mut self, user: u32, group: u32) -> Result<&OwnedFd, SlotError> {
        let failed = |source| SlotError { what: "view of objects", number: self.number, source };
        let view = match self.owner.take() {
            Some((known, view)) if known == (user, group) => view,
            _ => namespace::owner_as(user, group, self.user()).map_err(failed)?,
        };
        Ok(&self.owner.insert(((user, group), view)).1)
    }
}

/// The slots of this node, made when first needed.
#[derive(Debug)]
pub struct Pool {
    free: Vec<Slot>,
    made: u32,
    max: u32,
}

impl Pool {
    /// A pool of at most `max` slots.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self { free: Vec::new(), made: 0, max: max.clamp(1, TASK_SLOTS_MAX) }
    }

    /// Whether [`Self::take`] has one to give.
    #[must_use]
    pub fn has_one(&self) -> bool {
        !self.free.is_empty() || self.made < self.max
    }

    /// Takes a slot; none if all are taken.
    ///
    /// # Errors
    /// [`SlotError`] if a new one can't be made.
    pub fn take(&mut self) -> Result<Option<Slot>, SlotError> {
        if let Some(slot) = self.free.pop() {
            return Ok(Some(slot));
        }
        if self.made == self.max {
            return Ok(None);
        }
        let slot = Slot::new(self.made)?;
        self.made += 1;
        Ok(Some(slot))
    }

    /// Gives a slot back whose zone is gone.
    pub fn put(&mut self, slot: Slot) {
        self.free.push(slot);
    }
}
