//! A store that nobody serves: opened to be checked or rebuilt, not to be changed.

use super::home::{Home, HomeError};
use super::recover::{self, Ground, RealPlace};
use super::{Durability, OpenError, Options};
use crate::index::Index;
use std::path::Path;
use uuid::Uuid;

/// A store's index, brought up to the end of its journal as a start does; the directory stays locked.
pub(crate) struct Offline {
    pub(crate) index: Box<dyn Index>,
    pub(crate) place: RealPlace,
    pub(crate) store: Uuid,
    /// The last sequence of the journal.
    pub(crate) sequence: u64,
    _home: Home,
}

/// How the index is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// As it is, if it is sound.
    AsItIs,
    /// Anew, from snapshot and journal.
    Anew,
}

impl Offline {
    /// Opens the store in a directory, which must be one.
    pub(crate) fn open(data: &Path, way: Way) -> Result<Self, OpenError> {
        let home = Home::find(data)?;
        let store = home.format.store;
        let mut place = RealPlace::new(data, Options::new(data).cache_bytes);
        let mut snapshots = place.snapshots()?;
        let ground = Ground {
            store,
            durability: Durability::Fsync,
            journal: place.journal()?,
            snapshots: &mut *snapshots,
            place: &mut place,
        };
        let (index, journal) = recover::recover(ground, way == Way::Anew)?;
        Ok(Self { index, place, store, sequence: journal.sequence(), _home: home })
    }

    /// A second index, from snapshot and journal alone, to compare the first with.
    pub(crate) fn rebuilt(&mut self) -> Result<Box<dyn Index>, OpenError> {
        let mut snapshots = self.place.snapshots()?;
        let journal = self.place.journal()?;
        let mut place = RealPlace::new(self.place.folder(), Options::new("").cache_bytes);
        recover::rebuilt(&mut place, &mut *snapshots, journal, self.store)
    }

    /// Removes what [`Offline::rebuilt`] made.
    pub(crate) fn forget_rebuilt(&self) -> std::io::Result<()> {
        self.place.forget()
    }
}

impl Home {
    /// As [`Home::open`], but of a directory that must be a store already.
    fn find(path: &Path) -> Result<Self, HomeError> {
        if !path.join(super::home::FORMAT).exists() {
            return Err(HomeError::NoStore { path: path.to_owned() });
        }
        Self::open(path)
    }
}
