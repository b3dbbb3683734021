//! The walk: all versions of a bucket in the order of the index, a page at a time, and what the rules make
//! of each. Reads only.

use super::plan::{Action, Day, State, Subject, Tags, plan};
use super::rules::Rules;
use crate::format::{Summary, Value, object_prefix, path_of_key, prefix_end};
use crate::store::{AccountId, Area, IndexError, ObjectRecord, Version, View, damaged};
use std::ops::{Bound, ControlFlow};

/// Versions of one page: about a millisecond, for which old pages of the index are kept.
const PAGE: usize = 1024;

/// When, and how long days are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now_ms: u64,
    pub(super) day: Day,
}

/// Something to do, as of a view that may be old by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The object's path.
    pub(super) path: Vec<u8>,
    /// Which version.
    pub(super) version: Version,
    /// Where it stood.
    pub(super) state: State,
    /// The version just above it.
    pub(super) above: Option<Version>,
}

/// A walk through a bucket.
pub(super) struct Walk<'a> {
    rules: &'a Rules,
    moment: Moment,
    /// Bytes of the bucket's name and the slash.
    head: usize,
    /// The last key that was visited, or the start.
    from: Bound<Vec<u8>>,
    end: Vec<u8>,
    last: Option<Last>,
}

/// The last version that was visited.
struct Last {
    path: Vec<u8>,
    version: Version,
    modified_ms: u64,
    /// How many versions of its object are above it.
    depth: u32,
    /// A delete marker on top: what comes next says whether it hides something.
    is_top_marker: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(owner: AccountId, bucket: &str, rules: &'a Rules, moment: Moment) -> Self {
        let prefix = object_prefix(owner, Area::Stor, format!("{bucket}/").as_bytes());
        let end = prefix_end(&prefix).expect("a key of an object starts with its keyspace's byte");
        let from = Bound::Included(prefix);
        Self { rules, moment, head: bucket.len() + 1, from, end, last: None }
    }

    /// What is to be done in the next page; nothing once there are no more.
    pub(super) fn page(
        &mut self,
        view: &(impl View + ?Sized),
    ) -> Result<Option<Vec<Candidate>>, IndexError> {
        let (mut found, mut count, mut outcome) = (Vec::new(), 0, Ok(()));
        let (from, end) = (self.from.clone(), self.end.clone());
        let from = from.as_ref().map(Vec::as_slice);
        view.range(from, Bound::Excluded(&end), &mut |key, value| {
            outcome = self.visit(key, value, &mut found);
            count += 1;
            if count == PAGE {
                self.from = Bound::Excluded(key.to_vec());
            }
            if count < PAGE && outcome.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        outcome?;
        if count == 0 && self.last.is_none() {
            return Ok(None);
        }
        if count < PAGE {
            // The end: nothing comes after the last one, and nothing is left to visit.
            self.settle_marker(&mut found);
            (self.last, self.from) = (None, Bound::Excluded(self.end.clone()));
        }
        Ok(Some(found))
    }

    fn visit(
        &mut self,
        key: &[u8],
        value: &[u8],
        found: &mut Vec<Candidate>,
    ) -> Result<(), IndexError> {
        let path = path_of_key(key).map_err(damaged("key of an object"))?;
        let summary = Summary::decode(value).map_err(damaged("object record"))?;
        let above = self.last.take_if(|last| last.path == path);
        if above.is_none() {
            self.settle_marker(found);
        }
        let depth = above.as_ref().map_or(0, |above| above.depth.saturating_add(1));
        let is_top_marker = above.is_none() && summary.is_marker();
        let state = above.as_ref().map_or(State::Current, |above| State::Noncurrent {
            since_ms: above.modified_ms,
            newer: above.depth,
        });
        if !is_top_marker {
            let subject = self.subject(&path, summary.size, summary.modified_ms, state);
            if self.is_due(&subject, value)? {
                let above = above.map(|above| above.version);
                found.push(Candidate {
                    path: path.clone(),
                    version: summary.version,
                    state,
                    above,
                });
            }
        }
        let (version, modified_ms) = (summary.version, summary.modified_ms);
        self.last = Some(Last { path, version, modified_ms, depth, is_top_marker });
        Ok(())
    }

    fn subject<'s>(
        &self,
        path: &'s [u8],
        size: u64,
        modified_ms: u64,
        state: State,
    ) -> Subject<'s> {
        let key = path.get(self.head..).unwrap_or_default();
        Subject { key, size, modified_ms, tags: Tags::Unread, state }
    }

    /// Whether something is to be done; tags are only read if the rest says so.
    fn is_due(&self, subject: &Subject<'_>, value: &[u8]) -> Result<bool, IndexError> {
        let Moment { now_ms, day } = self.moment;
        if plan(self.rules, subject, now_ms, day).is_none() {
            return Ok(false);
        }
        let record = ObjectRecord::decode(value.to_vec()).map_err(damaged(ObjectRecord::NAME))?;
        let subject = Subject { tags: Tags::Read(&record.meta.tags), ..*subject };
        Ok(plan(self.rules, &subject, now_ms, day).is_some())
    }

    /// The last version was a delete marker on top, and nothing is below it.
    fn settle_marker(&mut self, found: &mut Vec<Candidate>) {
        let Some(last) = self.last.take_if(|last| last.is_top_marker) else { return };
        let state = State::Marker { alone: true };
        let subject = self.subject(&last.path, 0, last.modified_ms, state);
        let Moment { now_ms, day } = self.moment;
        if plan(self.rules, &subject, now_ms, day) == Some(Action::RemoveMarker) {
            let (path, version) = (last.path, last.version);
            found.push(Candidate { path, version, state, above: None });
        }
    }
}
