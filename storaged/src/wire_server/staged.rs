//! Files that zoned has something write for the store itself: images. Each becomes an object, whole, or is
//! nothing; the connection's end ends those it had begun.

use super::connection::ConnectionId;
use super::work::{Answer, Office, refusal};
use crate::calendar::now_ms;
use crate::committer::wait;
use crate::jobs::JobsError;
use crate::jobs::name::Name;
use crate::s3::chain;
use crate::store::{Content, Deleter, Metadata, Staging};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use wire::task::{Reply, StagedId};

/// The most of them at once: imports are few, and each may take gigabytes.
const STAGED_MAX: usize = 8;

#[derive(Debug, Default)]
struct Table {
    zoned: Option<ConnectionId>,
    next: u64,
    files: BTreeMap<StagedId, (ConnectionId, Staging)>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Staged(Mutex<Table>);

impl Staged {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change is one call on a map: no panic leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self) -> bool {
        self.table().files.len() < STAGED_MAX
    }

    /// zoned came on this connection.
    pub fn arrive(&self, zoned: ConnectionId) {
        self.table().zoned = Some(zoned);
    }

    /// Notes a file; none if whoever asked for it is gone.
    fn add(&self, connection: ConnectionId, file: Staging) -> Option<StagedId> {
        let mut table = self.table();
        if table.zoned != Some(connection) {
            return None;
        }
        table.next += 1;
        let id = StagedId(table.next);
        table.files.insert(id, (connection, file));
        Some(id)
    }

    fn take(&self, connection: ConnectionId, id: StagedId) -> Option<Staging> {
        let mut table = self.table();
        let (owner, file) = table.files.remove(&id)?;
        if owner != connection {
            table.files.insert(id, (owner, file));
            return None;
        }
        Some(file)
    }

    /// The connection is gone, and with it what it had not finished.
    pub fn depart(&self, connection: ConnectionId) {
        let mut table = self.table();
        table.zoned = table.zoned.filter(|zoned| *zoned != connection);
        table.files.retain(|_, (owner, _)| *owner != connection);
    }
}

/// The name of an object of that account, or the answer to one that is none.
fn named(login: &str, path: &str) -> Result<Name, Box<Answer>> {
    let refused = |code, why| Box::new(refusal(code, why));
    let name = Name::parse(path);
    let name = name.map_err(|why| refused("InvalidArgument", format!("{path}: {why}")))?;
    if name.login != login {
        return Err(refused("Authorization", format!("{path} is not {login}'s")));
    }
    Ok(name)
}

impl Office {
    /// A new file, to be written by whoever zoned hands it to.
    pub(super) fn stage(&self, connection: ConnectionId, project: u32) -> Answer {
        if !self.staged.has_room() {
            let most = format!("{STAGED_MAX} files are being written: commit or discard one");
            return refusal("Busy", most);
        }
        let project = (project != 0).then_some(project);
        let made = wait(self.jobs.store().stage(None, project));
        let opened = made.and_then(|mut file| Ok((file.writer_fd()?, file)));
        match opened {
            Ok((fd, file)) => match self.staged.add(connection, file) {
                Some(staged) => {
                    Answer { reply: Ok(Reply::Staged { staged }), fds: vec![Box::new(fd)] }
                }
                None => refusal("Gone", "the connection that asked for it is gone".to_owned()),
            },
            Err(error) => JobsError::from(error).into(),
        }
    }

    /// Seals a file that nobody writes to any more and makes it an object.
    pub(super) fn commit(
        &self,
        connection: ConnectionId,
        id: StagedId,
        (login, path): (&str, &str),
        content_type: String,
    ) -> Answer {
        let Some(file) = self.staged.take(connection, id) else { return unknown(id) };
        let name = match named(login, path) {
            Ok(name) => name,
            Err(answer) => return *answer,
        };
        match self.make_object(file, name, content_type) {
            Ok(reply) => reply.into(),
            Err(error) => error.into(),
        }
    }

    fn make_object(
        &self,
        file: Staging,
        name: Name,
        content_type: String,
    ) -> Result<Reply, JobsError> {
        let store = self.jobs.store();
        let sealed = wait(store.seal(file))?;
        let (blob, bytes) = (sealed.blob(), sealed.size());
        let meta = Metadata {
            etag: sealed.md5().into(),
            modified_ms: now_ms(),
            content_type: Some(content_type),
            ..Metadata::default()
        };
        store.transact_wait(move |txn| {
            let account = txn.account(&name.login)?;
            let path =
                name.object(account).map_err(|why| JobsError::Unavailable(why.to_string()))?;
            txn.put_object(&path, Content::Blob(sealed), meta)?;
            Ok::<_, JobsError>(())
        })?;
        let read = store.open_blob(blob)?;
        let digest = wait(store.read_through(read, Sha256::new(), |digest, bytes| {
            digest.update(bytes);
        }));
        let digest = digest.map_err(|error| JobsError::Unavailable(error.to_string()))?;
        let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Reply::Committed { bytes, sha256 })
    }

    /// Forgets a file.
    pub(super) fn discard(&self, connection: ConnectionId, id: StagedId) -> Answer {
        match self.staged.take(connection, id) {
            Some(file) => {
                drop(file);
                Reply::Removed.into()
            }
            None => unknown(id),
        }
    }

    /// Removes an object, if it is there.
    pub(super) fn remove(&self, login: &str, path: &str) -> Answer {
        let name = match named(login, path) {
            Ok(name) => name,
            Err(answer) => return *answer,
        };
        let removed = self.jobs.store().transact_wait(move |txn| {
            let Some(account) = crate::store::account(txn, &name.login)? else { return Ok(()) };
            let path =
                name.object(account).map_err(|why| JobsError::Unavailable(why.to_string()))?;
            txn.delete_object(&path, None, Deleter::plain(now_ms()))?;
            Ok::<_, JobsError>(())
        });
        match removed {
            Ok(()) => Reply::Removed.into(),
            Err(error) => {
                log::warn!("cannot remove {path}: {}", chain(&error));
                JobsError::from(error).into()
            }
        }
    }
}

fn unknown(id: StagedId) -> Answer {
    refusal("NoSuchFile", format!("file {} was committed, discarded or never made", id.0))
}
