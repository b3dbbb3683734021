//! What a crash left of uploads: directories whose upload has no record, and files that no record names.

use super::super::error::FilesError;
use super::super::sweep::SweepError;
use crate::files::Files;
use crate::store::View;
use crate::store::uploads::{PartFile, UploadId, parts, upload};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

impl Files {
    /// Removes what no upload that lives has a use for. Looks at the directories of living uploads only, and
    /// at the records of parts only where there is more than the file that they share.
    pub(in crate::files) fn sweep_uploads(&self, view: &dyn View) -> Result<(), SweepError> {
        let uploads = &self.inner.uploads;
        let (mut ended, mut loose) = (0, 0);
        for name in names(uploads)? {
            let Some(id) = UploadId::parse(&name) else {
                log::warn!("{name} among the uploads is none of the store's; left alone");
                continue;
            };
            let path = uploads.join(&name);
            if let Some(upload) = upload(view, id)? {
                let shared = upload.shared.map(|shared| shared.file);
                loose += sweep_one(view, id, shared, &path)?;
            } else {
                fs::remove_dir_all(&path).map_err(FilesError::at("remove", &path))?;
                ended += 1;
            }
        }
        if ended + loose > 0 {
            log::info!("removed the files of {ended} ended uploads, and {loose} unfinished parts");
        }
        Ok(())
    }
}

fn sweep_one(
    view: &dyn View,
    id: UploadId,
    shared: Option<PartFile>,
    path: &Path,
) -> Result<usize, SweepError> {
    let mut count = 0;
    let mut known: Option<HashSet<PartFile>> = None;
    for name in names(path)? {
        let Ok(number) = u64::from_str_radix(&name, 16) else {
            log::warn!("{name} in {} is none of the store's; left alone", path.display());
            continue;
        };
        let file = PartFile(number);
        if shared == Some(file) {
            continue;
        }
        let known = match &mut known {
            Some(known) => known,
            None => {
                let (parts, _) = parts(view, id, 0, usize::MAX)?;
                known.insert(parts.into_iter().map(|part| part.place.file()).collect())
            }
        };
        if known.contains(&file) {
            continue;
        }
        let path = path.join(&name);
        fs::remove_file(&path).map_err(FilesError::at("remove", &path))?;
        count += 1;
    }
    Ok(count)
}

fn names(directory: &Path) -> Result<Vec<String>, FilesError> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            match entry?.file_name().into_string() {
                Ok(name) => names.push(name),
                Err(name) => log::warn!("{} is none of the store's; left alone", name.display()),
            }
        }
        Ok(names)
    };
    read().map_err(FilesError::at("list", directory))
}
