//! Parts of uploads against their files.

use super::{CheckError, Finding, Report};
use crate::format::{upload_of_key, uploads_prefix};
use crate::index::View;
use crate::store::ViewExt;
use crate::store::uploads::{UploadId, UploadedPart, parts};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

/// Checks that the bytes of each part are there. They are read when the upload is completed.
pub(super) fn check(data: &Path, view: &dyn View, report: &mut Report) -> Result<(), CheckError> {
    let mut ids = Vec::new();
    view.within(&uploads_prefix(), &mut |key, _| {
        // Malformed ones were found before.
        ids.extend(upload_of_key(key));
        ControlFlow::Continue(())
    })?;
    for id in ids {
        one(&data.join("uploads").join(id.to_string()), view, id, report)?;
    }
    Ok(())
}

fn one(
    directory: &Path,
    view: &dyn View,
    id: UploadId,
    report: &mut Report,
) -> Result<(), CheckError> {
    let mut lengths: HashMap<_, Result<u64, io::Error>> = HashMap::new();
    let (parts, _) = parts(view, id, 0, usize::MAX)?;
    for part in parts.iter().filter(|part| part.size > 0) {
        let file = part.place.file();
        let length = lengths.entry(file).or_insert_with(|| {
            let path = directory.join(file.to_string());
            fs::metadata(path).map(|metadata| metadata.len())
        });
        if let Some(problem) = problem(part, length.as_ref()) {
            report.add(Finding::Part { upload: id.to_string(), number: part.number, problem });
        }
    }
    Ok(())
}

fn problem(part: &UploadedPart, length: Result<&u64, &io::Error>) -> Option<String> {
    let end = part.place.offset() + part.size;
    match length {
        Ok(length) if *length >= end => None,
        Ok(length) => Some(format!("its file ends at {length}, the part at {end}")),
        Err(error) => Some(format!("its file: {error}")),
    }
}
