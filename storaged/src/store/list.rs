//! Listing: one page of an area, by prefix and delimiter, in the order of the bytes.
//!
//! Paging is exact: a page says where the next one starts, and the pages of an unchanged area hold
//! each object and each common prefix once. A common prefix is sought over, not walked through.

use super::types::{AccountId, Area};
use super::view::damaged;
use crate::format::{Summary, object_prefix, path_of_key, prefix_end};
use crate::index::{IndexError, View};
use std::ops::{Bound, ControlFlow};

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
    /// Where the next page starts; `None` when this is the last.
    pub next: Option<After>,
}

/// Lists one page.
///
/// # Errors
/// When the index fails or an entry is damaged.
pub fn list(view: &(impl View + ?Sized), query: &ListQuery) -> Result<ListPage, IndexError> {
    let mut page = ListPage::default();
    if query.max == 0 {
        return Ok(page);
    }
    let start = |path: &[u8]| object_prefix(query.account, query.area, path);
    let whole = start(&query.prefix);
    let end = prefix_end(&whole).expect("a key of an object starts with its keyspace's byte");
    let mut from = match &query.after {
        None => whole,
        Some(after) => match seek(query, after) {
            Some(from) => from.max(whole),
            None => return Ok(page),
        },
    };
    while let Step::Over(prefix) = walk(view, query, (&from, &end), &mut page)? {
        let Some(next) = prefix_end(&start(&prefix)) else { break };
        from = next;
    }
    Ok(page)
}

/// The first key that may come after `after`.
fn seek(query: &ListQuery, after: &After) -> Option<Vec<u8>> {
    match after {
        After::Prefix(prefix) => prefix_end(&object_prefix(query.account, query.area, prefix)),
        After::Path(path) => {
            // The versions of the path itself start with it and 00 00: go on after those.
            let mut key = object_prefix(query.account, query.area, path);
            key.extend_from_slice(&[0, 0]);
            prefix_end(&key)
        }
    }
}

enum Step {
    Done,
    Over(Vec<u8>),
}

/// Walks until the page is full, the range ends, or a common prefix was added, which is to be sought over.
fn walk(
    view: &(impl View + ?Sized),
    query: &ListQuery,
    (from, end): (&[u8], &[u8]),
    page: &mut ListPage,
) -> Result<Step, IndexError> {
    let mut outcome = Ok(Step::Done);
    view.range(Bound::Included(from), Bound::Excluded(end), &mut |key, value| match visit(
        query, key, value, page,
    ) {
        Ok(None) => ControlFlow::Continue(()),
        Ok(Some(step)) => {
            outcome = Ok(step);
            ControlFlow::Break(())
        }
        Err(error) => {
            outcome = Err(error);
            ControlFlow::Break(())
        }
    })?;
    outcome
}

fn visit(
    query: &ListQuery,
    key: &[u8],
    value: &[u8],
    page: &mut ListPage,
) -> Result<Option<Step>, IndexError> {
    let path = path_of_key(key).map_err(damaged("key of an object"))?;
    if let Some(ListEntry::Object { path: last, .. }) = page.entries.last()
        && *last == path
    {
        // An older version of what was just listed.
        return Ok(None);
    }
    let common = common_prefix(query, &path);
    if page.entries.len() == query.max {
        page.next = page.entries.last().map(|entry| match entry {
            ListEntry::Object { path, .. } => After::Path(path.clone()),
            ListEntry::Prefix(prefix) => After::Prefix(prefix.clone()),
        });
        return Ok(Some(Step::Done));
    }
    if let Some(prefix) = common {
        page.entries.push(ListEntry::Prefix(prefix.clone()));
        return Ok(Some(Step::Over(prefix)));
    }
    let summary = Summary::decode(value).map_err(damaged("object record"))?;
    page.entries.push(ListEntry::Object { path, summary });
    Ok(None)
}

fn common_prefix(query: &ListQuery, path: &[u8]) -> Option<Vec<u8>> {
    if query.delimiter.is_empty() {
        return None;
    }
    let rest = &path[query.prefix.len()..];
    let at = rest.windows(query.delimiter.len()).position(|part| part == query.delimiter)?;
    Some(path[..query.prefix.len() + at + query.delimiter.len()].to_vec())
}
