//! A service as init runs it: what to start, as whom, with what, and what to do when it ends.
//!
//! One TOML file a service, under `/etc/mobula/services`; the file's stem is the service's name. What
//! can be wrong with a value is refused while it is read, with the line and column where it stands.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use thiserror::Error;

/// The most services on a node: init's tables and its poll set are sized by it.
pub const SERVICES_MAX: usize = 32;
/// The most listening sockets of one service.
pub const LISTENERS_MAX: usize = 8;
/// The most descriptors that init keeps for one service across its restarts: two for each standing zone
/// there may be ([`crate::standing::ZONES_MAX`]), and some. Their names, of a few letters each, have to
/// fit one variable of an environment (execve(2), `MAX_ARG_STRLEN`).
pub const FD_STORE_MAX: usize = 4608;
/// The most bytes in a service's file: a typing error must not make init read a disk image.
pub const SPEC_BYTES_MAX: usize = 64 * 1024;
/// The most bytes in a service's name: it stands in file names and on the console.
pub const NAME_BYTES_MAX: usize = 32;

/// What is wrong with a service's file.
#[derive(Debug, Error)]
pub enum SpecError {
    /// Not TOML, an unknown key, or a value that its key does not take; the text has line and column.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// More than [`SPEC_BYTES_MAX`].
    #[error("{got} bytes are over the limit of {SPEC_BYTES_MAX}")]
    TooLong {
        /// Bytes in the file.
        got: usize,
    },
    /// `command` has no first word, or one that is no absolute path.
    #[error("command must start with the absolute path of a program")]
    Command,
    /// More listening sockets than [`LISTENERS_MAX`], or two of one name.
    #[error("listen: at most {LISTENERS_MAX} sockets, each with its own name")]
    Listen,
    /// `fd_store_max` over [`FD_STORE_MAX`].
    #[error("fd_store_max is {got} and may be {FD_STORE_MAX} at most")]
    FdStore {
        /// What the file says.
        got: usize,
    },
    /// A service that waits for itself.
    #[error("the service waits for itself in `after`")]
    AfterItself,
}

/// The name of a service: letters, digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl TryFrom<String> for ServiceName {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(good) {
            return Err("a service's name is 1 to 32 of a-z, 0-9 and -");
        }
        Ok(Self(text))
    }
}

/// The place of a service in the cgroup tree, relative to its root: `store/storaged`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(String);

impl CgroupPath {
    /// The path as text, without a leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<CgroupPath> for String {
    fn from(path: CgroupPath) -> Self {
        path.0
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let good = |part: &str| {
            !part.is_empty()
                && part.len() <= NAME_BYTES_MAX
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if text.split('/').count() > 4 || !text.split('/').all(good) {
            return Err("a cgroup is up to 4 names of letters, digits, - and _ with / between");
        }
        Ok(Self(text))
    }
}

/// A capability by its name in capabilities(7), without `CAP_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "capabilities(7) documents each")]
#[repr(u8)]
pub enum Capability {
    Chown = 0,
    DacOverride = 1,
    DacReadSearch = 2,
    Fowner = 3,
    Fsetid = 4,
    Kill = 5,
    Setgid = 6,
    Setuid = 7,
    Setpcap = 8,
    LinuxImmutable = 9,
    NetBindService = 10,
    NetBroadcast = 11,
    NetAdmin = 12,
    NetRaw = 13,
    IpcLock = 14,
    IpcOwner = 15,
    SysModule = 16,
    SysRawio = 17,
    SysChroot = 18,
    SysPtrace = 19,
    SysPacct = 20,
    SysAdmin = 21,
    SysBoot = 22,
    SysNice = 23,
    SysResource = 24,
    SysTime = 25,
    SysTtyConfig = 26,
    Mknod = 27,
    Lease = 28,
    AuditWrite = 29,
    AuditControl = 30,
    Setfcap = 31,
    MacOverride = 32,
    MacAdmin = 33,
    Syslog = 34,
    WakeAlarm = 35,
    BlockSuspend = 36,
    AuditRead = 37,
    Perfmon = 38,
    Bpf = 39,
    CheckpointRestore = 40,
}

impl Capability {
    /// Its number in the kernel (linux/capability.h).
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// When a service counts as ready, so that those after it may start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Readiness {
    /// When it says `READY=1` on its `NOTIFY_SOCKET`.
    #[default]
    Notify,
    /// As soon as its program runs.
    Started,
}

/// What happens when a service ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// It is started again, whatever its exit code.
    #[default]
    Always,
    /// It is started again unless it exited with 0.
    OnFailure,
    /// It stays ended.
    Never,
}

/// Where a listening socket listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Address {
    /// TCP, with `SO_REUSEADDR`.
    Tcp(SocketAddr),
    /// A `SOCK_SEQPACKET` Unix socket at this path.
    Seqpacket(String),
}

/// A listening socket that init makes once and hands to every incarnation of the service, so that
/// clients queue instead of failing while it restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Its name in `LISTEN_FDNAMES`.
    pub name: ServiceName,
    /// Where.
    pub address: Address,
    /// Connections that may wait to be accepted.
    #[serde(default = "Listen::backlog_default")]
    pub backlog: u16,
    /// Owner of a Unix socket's file.
    #[serde(default)]
    pub user: u32,
    /// Group of a Unix socket's file.
    #[serde(default)]
    pub group: u32,
    /// Mode of a Unix socket's file; connecting needs write permission.
    #[serde(default = "Listen::mode_default")]
    pub mode: Mode,
}

impl Listen {
    const fn backlog_default() -> u16 {
        1024
    }

    const fn mode_default() -> Mode {
        Mode(0o600)
    }
}

/// A file mode, written in octal in a string: `"0660"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u32);

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}

impl TryFrom<String> for Mode {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Self(mode)),
            Ok(_) | Err(_) => Err("a mode is octal and at most \"0777\""),
        }
    }
}

/// Limits of the service's cgroup; what is not set is left as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CgroupLimits {
    /// `memory.min`, in MiB: never reclaimed below this.
    pub memory_min_mib: Option<u64>,
    /// `memory.high`, in MiB: slowed down above this.
    pub memory_high_mib: Option<u64>,
    /// `memory.max`, in MiB: killed above this.
    pub memory_max_mib: Option<u64>,
    /// `memory.oom.group`: out of memory kills all of it, never one process.
    pub oom_group: Option<bool>,
    /// `cpu.weight`, 1 to 10000; the kernel's default is 100.
    pub cpu_weight: Option<u32>,
    /// `io.weight`, 1 to 10000; the kernel's default is 100.
    pub io_weight: Option<u32>,
    /// `pids.max`.
    pub pids_max: Option<u32>,
}

/// Resource limits (getrlimit(2)) of the service's processes, soft and hard alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceLimits {
    /// `RLIMIT_NOFILE`.
    pub open_files: Option<u64>,
    /// `RLIMIT_MEMLOCK`, in MiB.
    pub locked_memory_mib: Option<u64>,
    /// `RLIMIT_NPROC`.
    pub processes: Option<u64>,
}

/// A service as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// What it does, for people.
    pub description: String,
    /// The program's absolute path, then its arguments.
    pub command: Vec<String>,
    /// Variables of its environment; it inherits none.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// A file of `NAME=value` lines read before each start; a missing one is no error.
    #[serde(default)]
    pub environment_file: Option<String>,
    /// User id.
    #[serde(default)]
    pub user: u32,
    /// Group id.
    #[serde(default)]
    pub group: u32,
    /// Further group ids.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// Capabilities it keeps; unset means all for user 0 and none for others.
    #[serde(default)]
    pub capabilities: Option<Vec<Capability>>,
    /// `PR_SET_NO_NEW_PRIVS`: set unless the file says false.
    #[serde(default = "ServiceSpec::yes")]
    pub no_new_privs: bool,
    /// The cgroup its processes start in.
    pub cgroup: CgroupPath,
    /// A cgroup that it manages itself; init kills what is left there after an ordered stop.
    #[serde(default)]
    pub cgroup_managed: Option<CgroupPath>,
    /// Limits of its cgroup.
    #[serde(default)]
    pub limits: CgroupLimits,
    /// Resource limits of its processes.
    #[serde(default)]
    pub rlimits: ResourceLimits,
    /// `oom_score_adj`, -1000 (never the victim) to 1000 (the first).
    #[serde(default)]
    pub oom_score_adj: i16,
    /// Services that must be ready before this one starts; they stop after it.
    #[serde(default)]
    pub after: Vec<ServiceName>,
    /// When it counts as ready.
    #[serde(default)]
    pub readiness: Readiness,
    /// Seconds it may take to become ready; 0 waits for ever.
    #[serde(default = "ServiceSpec::ready_timeout_default")]
    pub ready_timeout_s: u32,
    /// Seconds between SIGTERM and the kill of its cgroup.
    #[serde(default = "ServiceSpec::stop_timeout_default")]
    pub stop_timeout_s: u32,
    /// What happens when it ends by itself.
    #[serde(default)]
    pub restart: Restart,
    /// Descriptors that init keeps for it across restarts (`FDSTORE=1`).
    #[serde(default)]
    pub fd_store_max: usize,
    /// Listening sockets that it is handed.
    #[serde(default)]
    pub listen: Vec<Listen>,
}

impl ServiceSpec {
    /// Reads a service's file; `name` is its stem.
    ///
    /// # Errors
    /// [`SpecError`], which says where and what.
    pub fn parse(name: &ServiceName, text: &str) -> Result<Self, SpecError> {
        if text.len() > SPEC_BYTES_MAX {
            return Err(SpecError::TooLong { got: text.len() });
        }
        let spec: Self = toml::from_str(text)?;
        if !spec.command.first().is_some_and(|program| program.starts_with('/')) {
            return Err(SpecError::Command);
        }
        let mut names: Vec<_> = spec.listen.iter().map(|listen| &listen.name).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() != spec.listen.len() || names.len() > LISTENERS_MAX {
            return Err(SpecError::Listen);
        }
        if spec.fd_store_max > FD_STORE_MAX {
            return Err(SpecError::FdStore { got: spec.fd_store_max });
        }
        if spec.after.contains(name) {
            return Err(SpecError::AfterItself);
        }
        Ok(spec)
    }

    const fn yes() -> bool {
        true
    }

    const fn ready_timeout_default() -> u32 {
        60
    }

    const fn stop_timeout_default() -> u32 {
        10
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::try_from(text.to_owned()).unwrap()
    }

    const WHOLE: &str = r#"
        description = "objects"
        command = ["/sbin/storaged", "--data", "/data/store"]
        environment_file = "/run/mobula/storaged.env"
        user = 200
        group = 200
        capabilities = ["NET_BIND_SERVICE"]
        cgroup = "store/storaged"
        after = ["noded"]
        fd_store_max = 4
        restart = "on-failure"
        [limits]
        memory_min_mib = 64
        [rlimits]
        open_files = 65536
        [[listen]]
        name = "s3"
        address = { tcp = "0.0.0.0:9000" }
        [[listen]]
        name = "wire"
        address = { seqpacket = "/run/mobula/storaged.sock" }
        mode = "0660"
    "#;

    #[test]
    fn a_whole_file_is_read() {
        let spec = ServiceSpec::parse(&name("storaged"), WHOLE).unwrap();
        assert_eq!(spec.listen[0].address, Address::Tcp("0.0.0.0:9000".parse().unwrap()));
        assert_eq!(spec.listen[1].mode, Mode(0o660));
        assert_eq!((spec.restart, spec.readiness), (Restart::OnFailure, Readiness::Notify));
        assert!(spec.no_new_privs);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let text = "description = \"x\"\ncommand = [\"/x\"]\ncgroup = \"x\"\ncolour = 1\n";
        let error = ServiceSpec::parse(&name("x"), text).unwrap_err().to_string();
        assert!(error.contains("line 4") && error.contains("colour"), "{error}");
    }

    #[test]
    fn a_bad_value_is_refused_with_its_line() {
        let text = "description = \"x\"\ncommand = [\"/x\"]\ncgroup = \"../x\"\n";
        let error = ServiceSpec::parse(&name("x"), text).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("cgroup"), "{error}");
    }

    #[test]
    fn a_relative_command_is_refused() {
        let text = "description = \"x\"\ncommand = [\"x\"]\ncgroup = \"x\"\n";
        assert!(matches!(ServiceSpec::parse(&name("x"), text), Err(SpecError::Command)));
    }

    #[test]
    fn a_service_after_itself_is_refused() {
        let text = "description=\"x\"\ncommand=[\"/x\"]\ncgroup=\"x\"\nafter=[\"x\"]\n";
        assert!(matches!(ServiceSpec::parse(&name("x"), text), Err(SpecError::AfterItself)));
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer_never_a_panic(text in ".{0,300}") {
            prop_assert!(ServiceSpec::parse(&name("x"), &text).is_err());
        }

        #[test]
        fn damaged_files_are_an_answer_never_a_panic(at in 0..WHOLE.len(), byte in 32_u8..127) {
            let mut text = WHOLE.as_bytes().to_vec();
            text[at] = byte;
            if let Ok(spec) = ServiceSpec::parse(&name("x"), &String::from_utf8(text).unwrap()) {
                prop_assert!(spec.command[0].starts_with('/'));
            }
        }
    }
}
