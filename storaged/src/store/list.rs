//! Listing: one page of an area, by prefix and delimiter, in the order of the bytes.
//!
//! Paging is exact: a page says where the next one starts, and the pages of an unchanged area hold
//! each object and each common prefix once. A common prefix is sought over, not walked through, and so
//! is a long stack of old versions. An object whose newest version is a delete marker does not show.

use super::types::{AccountId, Area};
use super::view::damaged;
use crate::format::{Summary, is_marker, object_prefix, path_of_key, prefix_end, stem_of_key};
use crate::index::{IndexError, View};
use std::ops::{Bound, ControlFlow};

/// Old versions that are walked through before the rest of them is sought over: a seek costs as much as
/// walking about this many entries that lie side by side.
const OLD_VERSIONS_WALKED_MAX: usize = 8;

/// Entries that one page looks at and does not show, at the most: delete markers, and versions walked
/// through. A page is made while a connection's thread waits; this many take a few milliseconds.
pub(super) const HIDDEN_MAX: usize = 10_000;

/// What to list. Paths are those of [`super::ObjectPath`]: an S3 front puts `bucket/` before its keys.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Whose objects.
    pub account: AccountId,
    /// Which area.
    pub area: Area,
    /// Only paths that start with this.
    pub prefix: Vec<u8>,
    /// Paths that go on beyond the prefix and then hold this are shown once, up to and with it.
    /// Empty: none are.
    pub delimiter: Vec<u8>,
    /// Where to start.
    pub after: Option<After>,
    /// The most entries in the page.
    pub max: usize,
}

/// Where a page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// After this path: what goes on from it is still listed.
    Path(Vec<u8>),
    /// After everything that starts with this.
    Prefix(Vec<u8>),
}

/// One entry of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListEntry {
    /// An object.
    Object {
        /// Its path.
        path: Vec<u8>,
        /// What a listing shows of it.
        summary: Summary,
    },
    /// What several paths, or one, start with, the delimiter at its end.
    Prefix(Vec<u8>),
}

/// A page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects and common prefixes in one order.
    pub entries: Vec<ListEntry>,
    /// Where the next page starts; `None` when this is the last. A page that is not full may have one: it
    /// looked at much that does not show.
    pub next: Option<After>,
}

/// Lists one page.
///
/// # Errors
/// When the index fails or an entry is damaged.
pub fn list(view: &(impl View + ?Sized), query: &ListQuery) -> Result<ListPage, IndexError> {
    let page = ListPage::default();
    if query.max == 0 {
        return Ok(page);
    }
    let start = |path: &[u8]| object_prefix(query.account, query.area, path);
    let whole = start(&query.prefix);
    let end = prefix_end(&whole).expect("a key of an object starts with its keyspace's byte");
    let from = match &query.after {
        None => whole,
        Some(after) => match seek(query, after) {
            Some(from) => from.max(whole),
            None => return Ok(page),
        },
    };
    let mut walk = Walk { query, page, stem: Vec::new(), older: 0, hidden: 0 };
    walk_range(view, (from, &end), &mut |key, value| walk.visit(key, value))?;
    Ok(walk.page)
}

/// The first key that may come after `after`.
fn seek(query: &ListQuery, after: &After) -> Option<Vec<u8>> {
    match after {
        After::Prefix(prefix) => prefix_end(&object_prefix(query.account, query.area, prefix)),
        After::Path(path) => prefix_end(&stem(query.account, query.area, path)),
    }
}

/// The start of the keys of all versions of a path.
pub(super) fn stem(account: AccountId, area: Area, path: &[u8]) -> Vec<u8> {
    let mut key = object_prefix(account, area, path);
    key.extend_from_slice(&[0, 0]);
    key
}

/// How a walk goes on.
pub(super) enum Step {
    /// With the next entry.
    On,
    /// With the first entry at or after this key.
    Seek(Vec<u8>),
    /// Not at all.
    Done,
}

/// What a walk does with an entry.
pub(super) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<Step, IndexError> + 'a;

/// Walks a range, seeking where the visitor says so.
pub(super) fn walk_range(
    view: &(impl View + ?Sized),
    (mut from, end): (Vec<u8>, &[u8]),
    visit: &mut Visit<'_>,
) -> Result<(), IndexError> {
    loop {
        let mut outcome = Ok(Step::Done);
        view.range(Bound::Included(&from), Bound::Excluded(end), &mut |key, value| match visit(
            key, value,
        ) {
            Ok(Step::On) => ControlFlow::Continue(()),
            other => {
                outcome = other;
                ControlFlow::Break(())
            }
        })?;
        match outcome? {
            Step::Seek(to) => from = to,
            Step::On | Step::Done => return Ok(()),
        }
    }
}

struct Walk<'q> {
    query: &'q ListQuery,
    page: ListPage,
    /// The key, but for the version, of the object that was looked at last.
    stem: Vec<u8>,
    /// How many of its older versions were walked through.
    older: usize,
    /// How many entries were looked at that do not show.
    hidden: usize,
}

impl Walk<'_> {
    fn visit(&mut self, key: &[u8], value: &[u8]) -> Result<Step, IndexError> {
        let stem = stem_of_key(key).map_err(damaged("key of an object"))?;
        if *stem == *self.stem {
            self.hidden += 1;
            self.older += 1;
            let tall = self.older == OLD_VERSIONS_WALKED_MAX;
            return Ok(if tall { over(stem) } else { Step::On });
        }
        self.stem.clear();
        self.stem.extend_from_slice(stem);
        self.older = 0;
        if is_marker(value).map_err(damaged("object record"))? {
            self.hidden += 1;
            if self.hidden < HIDDEN_MAX {
                return Ok(Step::On);
            }
            let path = path_of_key(key).map_err(damaged("key of an object"))?;
            self.page.next = Some(After::Path(path));
            return Ok(Step::Done);
        }
        if self.page.entries.len() == self.query.max {
            self.page.next = self.page.entries.last().map(|entry| match entry {
                ListEntry::Object { path, .. } => After::Path(path.clone()),
                ListEntry::Prefix(prefix) => After::Prefix(prefix.clone()),
            });
            return Ok(Step::Done);
        }
        let path = path_of_key(key).map_err(damaged("key of an object"))?;
        let ListQuery { account, area, prefix, delimiter, .. } = self.query;
        if let Some(prefix) = common_prefix(prefix, delimiter, &path) {
            let next = over(&object_prefix(*account, *area, &prefix));
            self.page.entries.push(ListEntry::Prefix(prefix));
            return Ok(next);
        }
        let summary = Summary::decode(value).map_err(damaged("object record"))?;
        self.page.entries.push(ListEntry::Object { path, summary });
        Ok(Step::On)
    }
}

/// Over all keys that start with this.
pub(super) fn over(start: &[u8]) -> Step {
    prefix_end(start).map_or(Step::Done, Step::Seek)
}

/// What stands for a path in a listing with a delimiter, if not the path itself.
pub(super) fn common_prefix(prefix: &[u8], delimiter: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    if delimiter.is_empty() {
        return None;
    }
    let rest = &path[prefix.len()..];
    let at = rest.windows(delimiter.len()).position(|part| part == delimiter)?;
    Some(path[..prefix.len() + at + delimiter.len()].to_vec())
}
