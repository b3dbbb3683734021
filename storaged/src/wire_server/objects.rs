//! What standing zones have of the store: manifests of prefixes, single objects.

use super::work::{Answer, Office, refusal};
use crate::jobs::name::Name;
use crate::manifest::{self, ManifestError};
use crate::publish::{Target, publish};
use crate::s3::chain;
use crate::store::{AccountId, BlobId, IndexError, OpenBlobError, ViewFile, account, object};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use wire::task::{DAMAGED_MAX, DamagedFile, MANIFESTS_MAX, ManifestId, Reply};

/// Small objects whose files are kept: zoned imports one archive at a time, and mounts it soon.
const SHOWN_MAX: usize = 16;

/// Why an account's zone does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Denied {
    /// It is no name.
    #[error("{name:?} is no name of objects: {why}")]
    Name { name: String, why: String },
    /// Somebody else's.
    #[error("{name:?} is not {login}'s")]
    Owner { name: String, login: String },
    /// Nobody of that name.
    #[error("there is no account {login}")]
    Account { login: String },
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl From<Denied> for Answer {
    fn from(denied: Denied) -> Self {
        let code = match &denied {
            Denied::Name { .. } => "InvalidArgument",
            Denied::Owner { .. } => "Authorization",
            Denied::Account { .. } => "NoSuchAccount",
            Denied::Index(_) => "Internal",
        };
        refusal(code, chain(&denied))
    }
}

fn manifest_refused(error: &ManifestError) -> Answer {
    let code = match error {
        ManifestError::Full => "Full",
        ManifestError::Many => "TooLarge",
        ManifestError::Index(_) | ManifestError::Write(_) | ManifestError::File { .. } => {
            "Internal"
        }
    };
    refusal(code, chain(error))
}

/// The files of small objects that zoned opened last: one without a name could not be mounted.
#[derive(Debug, Default)]
pub struct Shown(Mutex<VecDeque<ViewFile>>);

impl Shown {
    fn keep(&self, view: ViewFile) {
        if !view.is_small() {
            return;
        }
        // One call on a queue: no panic leaves it half done.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == SHOWN_MAX {
            all.pop_front();
        }
        all.push_back(view);
    }
}

impl Office {
    /// A name of this account's objects: the store knows no zone, only whose it is.
    pub(super) fn own(&self, login: &str, text: &str) -> Result<(AccountId, Name), Denied> {
        let name = Name::parse(text)
            .map_err(|why| Denied::Name { name: text.to_owned(), why: why.to_string() })?;
        if name.login != login {
            return Err(Denied::Owner { name: text.to_owned(), login: login.to_owned() });
        }
        let known = account(&self.jobs.store().read()?, login)?;
        let id = known.ok_or_else(|| Denied::Account { login: login.to_owned() })?;
        Ok((id, name))
    }

    pub(super) fn manifest(&self, login: &str, prefix: &str, project: u32) -> Answer {
        let (id, name) = match self.own(login, prefix) {
            Ok(found) => found,
            Err(denied) => return denied.into(),
        };
        let store = self.jobs.store();
        let mut prefix = name.path.into_bytes();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let project = (project != 0).then_some(project);
        let made = match manifest::make(store, id, name.area, &prefix, project) {
            Ok(made) => made,
            Err(error) => return manifest_refused(&error),
        };
        let objects = match store.open_objects() {
            Ok(objects) => objects,
            Err(error) => {
                let message = format!("cannot open the directory of objects: {error}");
                self.release_manifests(&[made.id]);
                return refusal("Internal", message);
            }
        };
        let reply = Reply::Manifest {
            manifest: made.id,
            objects: made.objects,
            bytes: made.bytes,
            object_bytes: made.object_bytes,
            left_out: made.left_out,
            verity: store.has_verity(),
        };
        Answer { reply: Ok(reply), fds: vec![Box::new(made.file), Box::new(objects)] }
    }

    /// Of which objects below a prefix a file is whose pages the kernel refuses.
    pub(super) fn damaged(&self, login: &str, prefix: &str, file: DamagedFile) -> Answer {
        let (id, name) = match self.own(login, prefix) {
            Ok(found) => found,
            Err(denied) => return denied.into(),
        };
        let store = self.jobs.store();
        let blob = match file {
            DamagedFile::Number(number) => Some(BlobId(number)),
            DamagedFile::Inode(inode) => match store.find_file(inode) {
                Ok(found) => found,
                Err(error) => {
                    return refusal("Internal", format!("cannot look for inode {inode}: {error}"));
                }
            },
        };
        let Some(blob) = blob else { return Reply::Damaged { objects: Vec::new() }.into() };
        let top = Name { path: String::new(), ..name.clone() };
        let below = if name.path.is_empty() { String::new() } else { name.path + "/" };
        match manifest::names_of(store, (id, name.area, below.as_bytes()), blob, DAMAGED_MAX) {
            Ok(paths) => {
                let named = |path: &Vec<u8>| format!("{top}/{}", String::from_utf8_lossy(path));
                let objects: Vec<String> = paths.iter().map(named).collect();
                log::error!(
                    "the kernel refuses pages of blob {}, of {}",
                    blob.0,
                    objects.join(", ")
                );
                Reply::Damaged { objects }.into()
            }
            Err(error) => refusal("Unavailable", chain(&error)),
        }
    }

    pub(super) fn manifests(&self, after: Option<ManifestId>) -> Answer {
        Reply::Manifests(self.jobs.store().pins().list(after, MANIFESTS_MAX)).into()
    }

    pub(super) fn release_manifests(&self, manifests: &[ManifestId]) -> Answer {
        let store = self.jobs.store();
        let mut failed = None;
        for &id in manifests {
            if let Err(error) = store.pins().release(id) {
                failed = Some(format!("cannot remove manifest {}: {error}", id.0));
            }
        }
        store.look_for_unlinks();
        failed.map_or_else(|| Reply::Released.into(), |message| refusal("Internal", message))
    }

    pub(super) fn publish(&self, login: &str, output: &str, beside: Option<OwnedFd>) -> Answer {
        let (account, name) = match self.own(login, output) {
            Ok(found) => found,
            Err(denied) => return denied.into(),
        };
        let Some(directory) = beside else {
            return refusal("InvalidArgument", "no directory came beside it".to_owned());
        };
        let shown = output.trim_end_matches('/').to_owned();
        let target = Target { account, area: name.area, path: name.path, shown };
        match publish(self.jobs.store(), &target, directory.as_fd()) {
            Ok(published) => Reply::Published(published).into(),
            Err(error) => refusal("Unavailable", format!("cannot read what is published: {error}")),
        }
    }

    pub(super) fn open(&self, login: &str, text: &str) -> Answer {
        let found = self.own(login, text).and_then(|(id, name)| {
            let invalid = |why| Denied::Name { name: text.to_owned(), why };
            let path = name.object(id).map_err(|why| invalid(why.to_string()))?;
            Ok(object(&self.jobs.store().read()?, &path)?)
        });
        let record = match found {
            Ok(Some(record)) => record,
            Ok(None) => return refusal("NoSuchObject", format!("there is no object {text}")),
            Err(denied) => return denied.into(),
        };
        let opened = self.jobs.store().open_view(&record).and_then(|view| {
            let file = view.as_fd().try_clone_to_owned().map_err(OpenBlobError::Show)?;
            self.shown.keep(view);
            Ok(file)
        });
        match opened {
            Ok(file) => {
                let reply = Reply::Opened { bytes: record.size };
                Answer { reply: Ok(reply), fds: vec![Box::new(file)] }
            }
            Err(error) => refusal("Unavailable", chain(&error)),
        }
    }
}
