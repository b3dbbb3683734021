//! The deep part: the journal and the snapshots, read whole, and whether they make the index that there is.

use super::records::shown;
use super::{CheckError, Finding, Report};
use crate::format::SnapshotHeader;
use crate::index::{Index, IndexError, View};
use crate::journal;
use crate::s3::chain;
use crate::snapshot;
use crate::store::OpenError;
use crate::store::offline::Offline;
use std::ops::{Bound, ControlFlow};

/// Entries that are compared at a time.
const PAGE: usize = 4096;

/// Checks what the index was made from, and the index against that.
pub(super) fn check(store: &mut Offline, report: &mut Report) -> Result<(), CheckError> {
    match store.index.is_sound() {
        Ok(true) => {}
        Ok(false) => report.add(Finding::Index { problem: "it was damaged and is mended".into() }),
        Err(error) => report.add(Finding::Index { problem: chain(&error) }),
    }
    let mut disk = store.place.snapshots()?;
    let listed = |source| OpenError::Io { doing: "list the snapshots", source };
    for sequence in snapshot::list(&mut *disk).map_err(listed)? {
        let header = SnapshotHeader { store: store.store, sequence };
        if let Err(error) = snapshot::read(&mut *disk, header, &mut |_| Ok(())) {
            report.add(Finding::Snapshot { problem: chain(&error) });
        }
    }
    for problem in journal::damages(&mut *store.place.journal()?, store.store) {
        report.add(Finding::Journal { problem: chain(&problem) });
    }
    match store.rebuilt() {
        Ok(other) => compare(&*store.index, &*other, report)?,
        Err(error) => {
            let problem = format!("it can't be made anew: {}", chain(&error));
            report.add(Finding::Index { problem });
        }
    }
    let forgot = store.forget_rebuilt();
    let doing = "remove the index that was made to compare";
    Ok(forgot.map_err(|source| OpenError::Io { doing, source })?)
}

/// Compares two indexes, page by page.
fn compare(one: &dyn Index, other: &dyn Index, report: &mut Report) -> Result<(), IndexError> {
    let (one, other) = (one.view()?, other.view()?);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let (first, second) = (page(&*one, after.as_deref())?, page(&*other, after.as_deref())?);
        let differs = first.iter().zip(&second).find(|(a, b)| a != b);
        let differs = differs.map(|(a, b)| a.0.clone().min(b.0.clone()));
        let shorter = first.len().min(second.len());
        let rest = first.get(shorter).or(second.get(shorter)).map(|entry| entry.0.clone());
        if let Some(key) = differs.or(rest) {
            // What follows may differ only because this does.
            report.add(Finding::Differs { key: shown(&key) });
            return Ok(());
        }
        match first.last() {
            Some((key, _)) => after = Some(key.clone()),
            None => return Ok(()),
        }
    }
}

type Entry = (Vec<u8>, Vec<u8>);

fn page(view: &dyn View, after: Option<&[u8]>) -> Result<Vec<Entry>, IndexError> {
    let mut entries = Vec::new();
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    view.range(from, Bound::Unbounded, &mut |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        if entries.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(entries)
}
