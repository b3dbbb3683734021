//! A store in a temporary directory with the wire on it, and what tests ask of it.

use super::fake_zoned::FakeZoned;
use crate::committer::wait;
use crate::jobs::Jobs;
use crate::jobs::key::List;
use crate::jobs::name::Name;
use crate::prefetch::Prefetcher;
use crate::store::{
    AccountId, Area, Content, ContentRef, Durability, ListQuery, Metadata, ObjectPath, Options,
    Store, list,
};
use crate::wire_server::{Wire, WireServer};
use md5::Digest;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wire::job::{JobError, JobId, JobState, JobView};

/// How long anything may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct House {
    pub(super) directory: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) jobs: Jobs,
    pub(super) server: Option<WireServer>,
    pub(super) account: AccountId,
}

impl House {
    pub(super) fn new() -> Self {
        Self::in_directory(tempfile::tempdir().unwrap())
    }

    pub(super) fn in_directory(directory: tempfile::TempDir) -> Self {
        let mut options = Options::new(directory.path().join("data"));
        options.durability = Durability::None;
        options.kept_bytes = Some(0);
        let store = Store::open(options).unwrap();
        let account = store.transact_wait(|txn| txn.account("ann")).unwrap();
        let jobs = Jobs::open(store.clone()).unwrap();
        let wire = Wire::Path(directory.path().join("wire.sock"));
        let server = WireServer::start(wire, jobs.clone(), Prefetcher::new(None), None).unwrap();
        Self { directory, store, jobs, server: Some(server), account }
    }

    /// As after a restart of storaged.
    pub(super) fn again(mut self) -> Self {
        self.server.take().unwrap().stop();
        self.store.shutdown();
        let Self { directory, store, jobs, server, .. } = self;
        drop((store, jobs, server));
        std::thread::sleep(Duration::from_millis(200));
        Self::in_directory(directory)
    }

    pub(super) fn zoned(&self) -> FakeZoned {
        FakeZoned::connect(&self.socket())
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("wire.sock")
    }

    pub(super) fn put(&self, path: &str, bytes: &[u8]) {
        let path = ObjectPath::new(self.account, Area::Stor, path).unwrap();
        let md5: [u8; 16] = md5::Md5::digest(bytes).into();
        let meta = Metadata { etag: md5.into(), ..Metadata::default() };
        let content = if bytes.len() < 1000 {
            Content::Inline(bytes.to_vec().into())
        } else {
            let mut staging = wait(self.store.stage(None, None)).unwrap();
            wait(staging.write(bytes.to_vec().into())).unwrap();
            Content::Blob(wait(self.store.seal(staging)).unwrap())
        };
        self.store.transact_wait(move |txn| txn.put_object(&path, content, meta)).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = Name::parse_long(name).unwrap().object(self.account).unwrap();
        let (record, file) = self.store.open_object(&path).unwrap()?;
        Some(match (record.content, file) {
            (ContentRef::Inline(bytes), _) => bytes.to_vec(),
            (ContentRef::Blob(_), file) => {
                let fd = std::os::fd::AsFd::as_fd(&*file.unwrap()).try_clone_to_owned().unwrap();
                let mut bytes = Vec::new();
                std::fs::File::from(fd).read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes.len() as u64, record.size);
                bytes
            }
        })
    }

    /// The paths of all objects that jobs have left.
    pub(super) fn left(&self) -> Vec<String> {
        let query = ListQuery {
            account: self.account,
            area: Area::Jobs,
            prefix: Vec::new(),
            delimiter: Vec::new(),
            after: None,
            max: 1000,
        };
        let page = list(&self.store.read().unwrap(), &query).unwrap();
        page.entries.iter().map(|entry| format!("{entry:?}")).collect()
    }

    pub(super) fn create(&self, spec: &str) -> JobId {
        let spec = serde_json::from_str(spec).unwrap();
        wait(self.jobs.create(self.account, "ann", spec)).unwrap()
    }

    pub(super) fn add(&self, job: JobId, lines: &[&str]) {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        wait(self.jobs.add_inputs(self.account, job, lines)).unwrap();
    }

    pub(super) fn end(&self, job: JobId) {
        wait(self.jobs.end_input(self.account, job)).unwrap();
    }

    pub(super) fn view(&self, job: JobId) -> JobView {
        self.jobs.view(self.account, job).unwrap()
    }

    pub(super) fn outputs(&self, job: JobId) -> Vec<String> {
        let names = self.jobs.names(self.account, job, List::Outputs, 0, 10_000).unwrap();
        names.into_iter().map(|(_, name)| name).collect()
    }

    pub(super) fn errors(&self, job: JobId) -> Vec<JobError> {
        let errors = self.jobs.errors(self.account, job, 0, 10_000).unwrap();
        errors.into_iter().map(|(_, error)| error).collect()
    }

    pub(super) fn wait_done(&self, job: JobId) -> JobView {
        let until = Instant::now() + PATIENCE;
        loop {
            let view = self.view(job);
            if view.state == JobState::Done {
                return view;
            }
            assert!(Instant::now() < until, "{job} does not end: {view:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs everything that can run until the job is done.
    pub(super) fn run(&self, zoned: &mut FakeZoned, job: JobId) -> JobView {
        let until = Instant::now() + PATIENCE;
        loop {
            while let Some(claimed) = zoned.claim_any() {
                zoned.run(claimed);
            }
            let view = self.view(job);
            if view.state == JobState::Done {
                return view;
            }
            assert!(Instant::now() < until, "{job} does not end: {view:?}");
            match zoned.claim(job, 0) {
                Some(claimed) => drop(zoned.run(claimed)),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}
