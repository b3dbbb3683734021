//! Listing a bucket's uploads: one page, by key and then by age. Common prefixes are sought over.

use super::{Upload, UploadId, upload};
use crate::format::{
    prefix_end, read_upload_list_key, upload_list_exact, upload_list_key, upload_list_prefix,
};
use crate::store::view::damaged;
use crate::store::{IndexError, View};
use std::ops::{Bound, ControlFlow};

/// What to list.
#[derive(Debug, Clone)]
pub struct UploadQuery {
    /// Of which bucket.
    pub bucket: String,
    /// Only keys that start with this.
    pub prefix: Vec<u8>,
    /// Keys that go on beyond the prefix and then hold this are shown once, up to and with it. Empty: none are.
    pub delimiter: Vec<u8>,
    /// Where to start.
    pub after: Option<UploadMarker>,
    /// The most entries in the page.
    pub max: usize,
}

/// Where a page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadMarker {
    /// After all uploads to this key.
    Key(Vec<u8>),
    /// After this upload to this key.
    Upload(Vec<u8>, UploadId),
    /// After everything that starts with this.
    Prefix(Vec<u8>),
}

/// One entry of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadEntry {
    /// An upload.
    Upload(Box<Upload>),
    /// What the keys of several uploads, or of one, start with, the delimiter at its end.
    Prefix(Vec<u8>),
}

/// A page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// Uploads and common prefixes in one order.
    pub entries: Vec<UploadEntry>,
    /// Where the next page starts; `None` when this is the last.
    pub next: Option<UploadMarker>,
}

/// Lists one page.
///
/// # Errors
/// When the index fails or a row is damaged.
pub fn list_uploads(
    view: &(impl View + ?Sized),
    query: &UploadQuery,
) -> Result<UploadPage, IndexError> {
    let mut page = UploadPage::default();
    if query.max == 0 {
        return Ok(page);
    }
    let start = |key: &[u8]| upload_list_prefix(&query.bucket, key);
    let whole = start(&query.prefix);
    let end = prefix_end(&whole).expect("a row starts with its keyspace's byte");
    let mut from = Bound::Included(whole.clone());
    if let Some(after) = &query.after {
        let after = match after {
            UploadMarker::Key(key) => prefix_end(&upload_list_exact(&query.bucket, key)),
            UploadMarker::Prefix(prefix) => prefix_end(&start(prefix)),
            UploadMarker::Upload(key, id) => Some(upload_list_key(&query.bucket, key, *id)),
        };
        let Some(after) = after else { return Ok(page) };
        from = match query.after {
            _ if after < whole => Bound::Included(whole),
            Some(UploadMarker::Upload(..)) => Bound::Excluded(after),
            Some(UploadMarker::Key(_) | UploadMarker::Prefix(_)) | None => Bound::Included(after),
        };
    }
    while let Bound::Included(at) | Bound::Excluded(at) = &from
        && *at < end
    {
        match walk(view, query, (&from, &end), &mut page)? {
            Step::Over(prefix) => match prefix_end(&start(&prefix)) {
                Some(next) => from = Bound::Included(next),
                None => break,
            },
            Step::Done => break,
        }
    }
    Ok(page)
}

enum Step {
    Done,
    Over(Vec<u8>),
}

/// Walks until the page is full, the range ends, or a common prefix was added, which is to be sought over.
fn walk(
    view: &(impl View + ?Sized),
    query: &UploadQuery,
    (from, end): (&Bound<Vec<u8>>, &[u8]),
    page: &mut UploadPage,
) -> Result<Step, IndexError> {
    let mut outcome = Ok(Step::Done);
    let from = from.as_ref().map(Vec::as_slice);
    let mut found = Vec::new();
    let room = query.max - page.entries.len();
    view.range(from, Bound::Excluded(end), &mut |row, _| {
        let read = read_upload_list_key(row, &query.bucket);
        match read.map_err(damaged("row of a bucket's uploads")) {
            Err(error) => outcome = Err(error),
            Ok((key, id)) if found.len() < room => match common_prefix(query, &key) {
                Some(prefix) => {
                    page.next = None;
                    outcome = Ok(Step::Over(prefix));
                }
                None => {
                    found.push((key, id));
                    return ControlFlow::Continue(());
                }
            },
            Ok(_) => page.next = Some(UploadMarker::Key(Vec::new())),
        }
        ControlFlow::Break(())
    })?;
    let step = outcome?;
    for (key, id) in found {
        // A row without its record would be damage; one page of a view sees both or neither.
        if let Some(upload) = upload(view, id)? {
            page.entries.push(UploadEntry::Upload(Box::new(upload)));
        } else {
            log::error!("upload {id} to {} has no record", key.escape_ascii());
        }
    }
    if let Step::Over(prefix) = &step {
        page.entries.push(UploadEntry::Prefix(prefix.clone()));
    }
    if page.next.is_some() {
        page.next = page.entries.last().map(|entry| match entry {
            UploadEntry::Upload(upload) => UploadMarker::Upload(upload.key().to_vec(), upload.id),
            UploadEntry::Prefix(prefix) => UploadMarker::Prefix(prefix.clone()),
        });
    }
    Ok(step)
}

fn common_prefix(query: &UploadQuery, key: &[u8]) -> Option<Vec<u8>> {
    if query.delimiter.is_empty() {
        return None;
    }
    let rest = &key[query.prefix.len()..];
    let at = rest.windows(query.delimiter.len()).position(|part| part == query.delimiter)?;
    Some(key[..query.prefix.len() + at + query.delimiter.len()].to_vec())
}
