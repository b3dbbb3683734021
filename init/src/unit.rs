//! One service with all that init holds for it: its life, process, sockets, stored descriptors, lines.
//!
//! Acts out what [`crate::service::step`] decides, and decides nothing.

use crate::cgroup;
use crate::logs::{Lines, Ring, Throttle};
use crate::notice::Store;
use crate::service::{Policy, Service};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::process::{Child, Limit, Program, SpawnError};
use sys::seqpacket::Socket;
use sys::socket::Access;
use thiserror::Error;
use wire::service::{Address, Capability, Listen, ServiceName, ServiceSpec};

/// Where the notify sockets are.
const NOTIFY: &str = "/run/mobula/notify";
/// Bytes read from a service's output at once: the pipe's size, so that one turn empties it.
const OUTPUT_BYTES: usize = 64 * 1024;
/// The most bytes of an environment file.
const ENVIRONMENT_BYTES_MAX: u64 = 64 * 1024;
/// What every service finds in its environment.
const ENVIRONMENT: [(&str, &str); 3] =
    [("PATH", "/sbin:/usr/sbin:/bin:/usr/bin"), ("HOME", "/"), ("LANG", "C.UTF-8")];

/// What can go wrong with what a service needs.
#[derive(Debug, Error)]
pub enum UnitError {
    /// Its cgroup can't be made or entered.
    #[error("cannot use the cgroup {path}: {source}")]
    Cgroup {
        /// Its path.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A listening socket can't be made.
    #[error("cannot listen at {place}: {source}")]
    Listen {
        /// The address or path.
        place: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Its pipe or notify socket can't be made.
    #[error("cannot make its {what}: {source}")]
    Channel {
        /// Which.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// Its environment file can't be read.
    #[error("cannot read {path}: {source}")]
    Environment {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Its process can't be made.
    #[error("{0}: {chain}", chain = chain(.0))]
    Spawn(#[from] SpawnError),
}

fn chain(error: &SpawnError) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

/// A service and what init holds for it.
#[derive(Debug)]
pub struct Unit {
    /// Its name.
    pub name: ServiceName,
    /// Its file.
    pub spec: ServiceSpec,
    /// What of its file decides about its life.
    pub policy: Policy,
    /// Its life.
    pub service: Service,
    /// Its process, while there is one.
    pub child: Option<Child>,
    /// What it last said of itself.
    pub status: String,
    /// Its last lines.
    pub ring: Ring,
    /// What of them reaches the console.
    pub throttle: Throttle,
    /// When people are next told that it is not ready yet.
    pub nag_at_ms: u64,
    lines: Lines,
    listeners: Vec<(String, OwnedFd)>,
    /// By name: a zone's go one by one, and there may be thousands.
    stored: BTreeMap<String, Vec<OwnedFd>>,
    stored_count: usize,
    ear: Option<Socket>,
    output: Option<(File, OwnedFd)>,
}

impl Unit {
    /// A service that has nothing yet.
    #[must_use]
    pub fn new(name: ServiceName, spec: ServiceSpec, now_ms: u64) -> Self {
        Self {
            policy: Policy::of(&spec),
            name,
            spec,
            service: Service::new(now_ms),
            child: None,
            status: String::new(),
            ring: Ring::default(),
            throttle: Throttle::default(),
            nag_at_ms: u64::MAX,
            lines: Lines::default(),
            listeners: Vec::new(),
            stored: BTreeMap::new(),
            stored_count: 0,
            ear: None,
            output: None,
        }
    }

    /// Makes its process, and what that needs and is not there yet.
    ///
    /// # Errors
    /// [`UnitError`], which says what is missing.
    pub fn spawn(&mut self, controllers: &[String]) -> Result<(), UnitError> {
        let cgroup = self.enter_cgroup(controllers)?;
        self.make_channels()?;
        for listen in &self.spec.listen {
            if !self.listeners.iter().any(|(name, _)| name == listen.name.as_str()) {
                self.listeners.push((listen.name.to_string(), make_listener(listen)?));
            }
        }
        let environment = self.environment()?;
        let null = File::open("/dev/null")
            .map_err(|source| UnitError::Channel { what: "empty stdin", source })?;
        let Some((_, writer)) = &self.output else {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(UnitError::Channel { what: "output", source });
        };
        let listeners = self.listeners.iter().map(|(name, fd)| (name, fd));
        let stored =
            self.stored.iter().flat_map(|(name, fds)| fds.iter().map(move |fd| (name, fd)));
        let handed = listeners.chain(stored);
        let descriptors: Vec<_> = handed.map(|(name, fd)| (name.clone(), fd.as_fd())).collect();
        let child = sys::process::spawn(&Program {
            command: &self.spec.command,
            environment: &environment,
            cgroup: cgroup.as_fd(),
            stdin: null.as_fd(),
            output: writer.as_fd(),
            descriptors: &descriptors,
            user: self.spec.user,
            group: self.spec.group,
            groups: &self.spec.groups,
            capabilities: capabilities(&self.spec),
            no_new_privs: self.spec.no_new_privs,
            oom_score_adj: self.spec.oom_score_adj,
            limits: &limits(&self.spec),
        })?;
        self.child = Some(child);
        Ok(())
    }

    fn enter_cgroup(&self, controllers: &[String]) -> Result<File, UnitError> {
        let path = self.spec.cgroup.as_str();
        let fault = |source| UnitError::Cgroup { path: path.to_owned(), source };
        cgroup::make(path, controllers).map_err(fault)?;
        for (file, value) in cgroup::settings(&self.spec.limits) {
            // A limit that this kernel has no controller for was named missing at boot.
            match cgroup::write(path, file, &value) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(fault(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        cgroup::open(path).map_err(fault)
    }

    fn make_channels(&mut self) -> Result<(), UnitError> {
        if self.ear.is_none() {
            let access = Access { user: self.spec.user, group: self.spec.group, mode: 0o600 };
            let ear = sys::socket::ear(&self.notify_path(), access);
            let ear = ear.map_err(|source| UnitError::Channel { what: "notify socket", source })?;
            self.ear = Some(ear);
        }
        if self.output.is_none() {
            let pipe = sys::process::pipe();
            let (reader, writer) =
                pipe.map_err(|source| UnitError::Channel { what: "output", source })?;
            self.output = Some((reader.into(), writer));
        }
        Ok(())
    }

    fn notify_path(&self) -> PathBuf {
        Path::new(NOTIFY).join(self.name.as_str())
    }

    fn environment(&self) -> Result<Vec<(String, String)>, UnitError> {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut all: Vec<_> = ENVIRONMENT.iter().map(|(name, value)| pair(name, value)).collect();
        all.push(pair("NOTIFY_SOCKET", &self.notify_path().to_string_lossy()));
        if let Some(path) = &self.spec.environment_file {
            let text = File::open(path).and_then(|file| {
                let mut text = String::new();
                file.take(ENVIRONMENT_BYTES_MAX).read_to_string(&mut text).map(|_| text)
            });
            match text {
                Ok(text) => all.extend(parse_environment(&text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(UnitError::Environment { path: path.clone(), source });
                }
            }
        }
        all.extend(self.spec.environment.iter().map(|(name, value)| pair(name, value)));
        Ok(all)
    }

    /// What is to be watched for its words: its notify socket and its output.
    #[must_use]
    pub fn watched(&self) -> (Option<BorrowedFd<'_>>, Option<BorrowedFd<'_>>) {
        (self.ear.as_ref().map(AsFd::as_fd), self.output.as_ref().map(|(reader, _)| reader.as_fd()))
    }

    /// Its next notice with the descriptors beside it; none if none waits. One that breaks the limits is
    /// passed over.
    pub fn hear(&self) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
        let mut bytes = Vec::new();
        let fds = self.ear.as_ref()?.recv(&mut bytes).ok()??;
        Some((bytes, fds))
    }

    /// The lines that its output holds now.
    pub fn read_output(&mut self) -> Vec<String> {
        let Some((reader, _)) = &mut self.output else { return Vec::new() };
        let mut bytes = vec![0; OUTPUT_BYTES];
        match reader.read(&mut bytes) {
            Ok(got) => self.lines.take(&bytes[..got]),
            // Nothing there, or nothing to be had: init holds the writer, so this is no end.
            Err(_) => Vec::new(),
        }
    }

    /// Its last words, when its process has ended.
    pub fn end_output(&mut self) -> Vec<String> {
        let mut lines = self.read_output();
        lines.extend(self.lines.end());
        lines
    }

    /// Keeps or closes descriptors for it; says what was refused.
    pub fn store(&mut self, what: Store, fds: Vec<OwnedFd>) -> Option<String> {
        match what {
            Store::Remove(name) => {
                self.stored_count -= self.stored.remove(&name).map_or(0, |fds| fds.len());
                None
            }
            Store::Keep(name) => {
                let room = self.spec.fd_store_max.saturating_sub(self.stored_count);
                let refused = fds.len().saturating_sub(room);
                let kept: Vec<OwnedFd> = fds.into_iter().take(room).collect();
                if !kept.is_empty() {
                    self.stored_count += kept.len();
                    self.stored.entry(name.clone()).or_default().extend(kept);
                }
                (refused > 0)
                    .then(|| format!("{refused} descriptors named {name} are over its limit"))
            }
        }
    }
}

/// All for user 0 and none for others, unless the file says which.
fn capabilities(spec: &ServiceSpec) -> Option<u64> {
    let bits = |list: &[Capability]| list.iter().fold(0, |bits, one| bits | 1 << one.number());
    match (&spec.capabilities, spec.user) {
        (Some(list), _) => Some(bits(list)),
        (None, 0) => None,
        (None, _) => Some(0),
    }
}

fn limits(spec: &ServiceSpec) -> Vec<Limit> {
    let mib = |mib: u64| mib.saturating_mul(1024 * 1024);
    let limits = &spec.rlimits;
    let mut all = vec![Limit::Core(0)];
    all.extend(limits.open_files.map(Limit::OpenFiles));
    all.extend(limits.locked_memory_mib.map(|value| Limit::LockedMemory(mib(value))));
    all.extend(limits.processes.map(Limit::Processes));
    all
}

fn make_listener(listen: &Listen) -> Result<OwnedFd, UnitError> {
    let fault = |place: String| move |source| UnitError::Listen { place, source };
    match &listen.address {
        Address::Tcp(address) => {
            sys::socket::listen_tcp(*address, listen.backlog).map_err(fault(address.to_string()))
        }
        Address::Seqpacket(path) => {
            let access = Access { user: listen.user, group: listen.group, mode: listen.mode.0 };
            sys::socket::listen_seqpacket(Path::new(path), access, listen.backlog)
                .map_err(fault(path.clone()))
        }
    }
}

/// Reads `NAME=value` lines; what is no such line is passed over, and so are comments.
#[must_use]
pub fn parse_environment(text: &str) -> Vec<(String, String)> {
    let good = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let lines = text.lines().map(str::trim).filter_map(|line| line.split_once('='));
    let pairs = lines.filter(|(name, value)| good(name) && !value.contains('\0'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn spec(text: &str) -> ServiceSpec {
        let name = ServiceName::try_from("x".to_owned()).unwrap();
        let head = "description = \"x\"\ncommand = [\"/x\"]\ncgroup = \"x\"\n";
        ServiceSpec::parse(&name, &format!("{head}{text}")).unwrap()
    }

    #[test]
    fn an_environment_file_is_read_line_by_line() {
        let text = "# durability\nMOBULA_DURABILITY=fsync\nnot a line\nA=b=c\n";
        let expected = [("MOBULA_DURABILITY", "fsync"), ("A", "b=c")];
        let expected: Vec<_> =
            expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(parse_environment(text), expected);
    }

    #[test]
    fn root_keeps_all_capabilities_and_others_none_unless_the_file_says_which() {
        assert_eq!(capabilities(&spec("")), None);
        assert_eq!(capabilities(&spec("user = 200")), Some(0));
        let bind = spec("user = 200\ncapabilities = [\"NET_BIND_SERVICE\"]");
        assert_eq!(capabilities(&bind), Some(1 << 10));
    }

    #[test]
    fn stored_descriptors_end_at_the_limit() {
        let name = ServiceName::try_from("x".to_owned()).unwrap();
        let mut unit = Unit::new(name, spec("fd_store_max = 1"), 0);
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        assert_eq!(unit.store(Store::Keep("a".into()), vec![null()]), None);
        let refused = unit.store(Store::Keep("b".into()), vec![null()]);
        assert!(refused.unwrap().contains('b'));
        unit.store(Store::Remove("a".into()), vec![]);
        assert!(unit.stored.is_empty());
    }

    proptest! {
        #[test]
        fn any_environment_file_is_an_answer(text in ".{0,300}") {
            prop_assert!(parse_environment(&text).iter().all(|(name, _)| !name.is_empty()));
        }
    }
}
