//! Listing versions: one page of an area with every version of every object, delete markers too.
//!
//! In the order of the paths, and of one path the newest first. Paging is as exact as that of objects: a
//! page that ends among the versions of one path goes on there, also when the version it ended with has
//! gone meanwhile.

use super::list::{Step, common_prefix, over, stem, walk_range};
use super::types::{AccountId, Area, Version};
use super::view::damaged;
use crate::format::{Summary, object_prefix, path_of_key, prefix_end, stem_of_key};
use crate::index::{IndexError, View};
use std::ops::{Bound, ControlFlow};

/// What to list, as [`super::ListQuery`] has it.
#[derive(Debug, Clone)]
pub struct VersionsQuery {
    /// Whose objects.
    pub account: AccountId,
    /// Which area.
    pub area: Area,
    /// Only paths that start with this.
    pub prefix: Vec<u8>,
    /// Paths that go on beyond the prefix and then hold this are shown once.
    pub delimiter: Vec<u8>,
    /// Where to start.
    pub after: Option<AfterVersion>,
    /// The most entries in the page.
    pub max: usize,
}

/// Where a page of versions starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterVersion {
    /// After all versions of this path: what goes on from it is still listed.
    Path(Vec<u8>),
    /// With the versions of this path that are older than this one.
    Version(Vec<u8>, Version),
    /// After everything that starts with this.
    Prefix(Vec<u8>),
}

/// One entry of a page of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionEntry {
    /// A version.
    Version {
        /// The path.
        path: Vec<u8>,
        /// What a listing shows of the version.
        summary: Summary,
        /// When the next newer version was written; none if this is the newest.
        superseded_ms: Option<u64>,
    },
    /// What several paths, or one, start with, the delimiter at its end.
    Prefix(Vec<u8>),
}

/// A page of versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionsPage {
    /// Versions and common prefixes in one order.
    pub entries: Vec<VersionEntry>,
    /// Where the next page starts; `None` when this is the last.
    pub next: Option<AfterVersion>,
}

/// Lists one page of versions.
///
/// # Errors
/// When the index fails or an entry is damaged.
pub fn list_versions(
    view: &(impl View + ?Sized),
    query: &VersionsQuery,
) -> Result<VersionsPage, IndexError> {
    let mut walk = Walk { query, page: VersionsPage::default(), stem: Vec::new(), newer_ms: None };
    if query.max == 0 {
        return Ok(walk.page);
    }
    let whole = object_prefix(query.account, query.area, &query.prefix);
    let end = prefix_end(&whole).expect("a key of an object starts with its keyspace's byte");
    let from = match &query.after {
        None => whole,
        Some(after) => match walk.seek(view, after)? {
            Some(from) if from < whole => {
                walk.stem.clear();
                whole
            }
            Some(from) => from,
            None => return Ok(walk.page),
        },
    };
    walk_range(view, (from, &end), &mut |key, value| walk.visit(key, value))?;
    Ok(walk.page)
}

struct Walk<'q> {
    query: &'q VersionsQuery,
    page: VersionsPage,
    /// The key, but for the version, of the object whose version was looked at last.
    stem: Vec<u8>,
    /// When that version was written.
    newer_ms: Option<u64>,
}

impl Walk<'_> {
    /// The first key that may come after `after`.
    fn seek(
        &mut self,
        view: &(impl View + ?Sized),
        after: &AfterVersion,
    ) -> Result<Option<Vec<u8>>, IndexError> {
        let (account, area) = (self.query.account, self.query.area);
        match after {
            AfterVersion::Prefix(prefix) => Ok(prefix_end(&object_prefix(account, area, prefix))),
            AfterVersion::Path(path) => Ok(prefix_end(&stem(account, area, path))),
            AfterVersion::Version(path, version) => {
                let stem = stem(account, area, path);
                let mut from = stem.clone();
                from.extend_from_slice(&(!version.0).to_be_bytes());
                self.newer_ms = newer_ms(view, &stem, &from)?;
                if self.newer_ms.is_some() {
                    self.stem = stem;
                }
                // Every key of a version has the same length: this is the first one behind it.
                from.push(0);
                Ok(Some(from))
            }
        }
    }

    fn visit(&mut self, key: &[u8], value: &[u8]) -> Result<Step, IndexError> {
        if self.page.entries.len() == self.query.max {
            self.page.next = self.page.entries.last().map(|entry| match entry {
                VersionEntry::Version { path, summary, .. } => {
                    AfterVersion::Version(path.clone(), summary.version)
                }
                VersionEntry::Prefix(prefix) => AfterVersion::Prefix(prefix.clone()),
            });
            return Ok(Step::Done);
        }
        let path = path_of_key(key).map_err(damaged("key of an object"))?;
        let VersionsQuery { account, area, prefix, delimiter, .. } = self.query;
        if let Some(prefix) = common_prefix(prefix, delimiter, &path) {
            let next = over(&object_prefix(*account, *area, &prefix));
            self.page.entries.push(VersionEntry::Prefix(prefix));
            return Ok(next);
        }
        let stem = stem_of_key(key).map_err(damaged("key of an object"))?;
        if *stem != *self.stem {
            self.stem.clear();
            self.stem.extend_from_slice(stem);
            self.newer_ms = None;
        }
        let summary = Summary::decode(value).map_err(damaged("object record"))?;
        let superseded_ms = self.newer_ms.replace(summary.modified_ms);
        self.page.entries.push(VersionEntry::Version { path, summary, superseded_ms });
        Ok(Step::On)
    }
}

/// When the oldest version was written that is at or above a place among the versions of a path.
fn newer_ms(
    view: &(impl View + ?Sized),
    stem: &[u8],
    place: &[u8],
) -> Result<Option<u64>, IndexError> {
    let time = |value: &[u8]| {
        let summary = Summary::decode(value).map_err(damaged("object record"));
        summary.map(|summary| summary.modified_ms)
    };
    if let Some(value) = view.get(place)? {
        return time(&value).map(Some);
    }
    // It has gone since the last page: look through those above it, which is rare.
    let mut last = None;
    view.range(Bound::Included(stem), Bound::Excluded(place), &mut |_, value| {
        last = Some(value.to_vec());
        ControlFlow::Continue(())
    })?;
    last.as_deref().map(time).transpose()
}
