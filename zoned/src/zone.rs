//! Starts a zone: mounts, cgroup, first process, and the two orders that set it going; and hands a zone that
//! is there already its next task.
//!
//! What needs the node's mount namespace is done here; everything else the zone's first process does
//! itself ([`crate::inside`]). An object is shown in a zone that is running by going there for as long as it
//! takes to put one mount in place: nothing of the tenant's is run or read there, and every name is opened
//! beneath a directory that the tenant can't write to.

use crate::carve::{Cgroup, CgroupError, Place, Tree};
use crate::inside::{build, system};
use crate::nursery::{Nursery, NurseryError};
use crate::slot::{Slot, SlotError};
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, fchmod, fstat};
use std::cell::RefCell;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::mountfd::{self, Restrictions};
use sys::namespace;
use sys::seqpacket::{SendError, Socket};
use thiserror::Error;
use wire::carve::Carve;
use wire::frame::{FrameError, Kind, encode};
use wire::job::PhaseKind;
use wire::task::Task;
use wire::zone::{ASSETS, Command, OBJECTS, Order, Plan, shown_path};

/// Where programs are, as Debian has it for root.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A zone's files are in its memory: half of its limit, so that a full disk is seen before a full memory.
const SCRATCH_PER_MIB: u64 = (1 << 20) / 2;
/// Files a zone may hold for each MiB of its memory; an inode takes about 1 KiB of it.
const FILES_PER_MIB: u64 = 64;
/// Output files may be opened again for writing (`/dev/stderr`), which asks the file and not the
/// descriptor. Nobody reaches them by name: their directory is storaged's alone.
const OUTPUT_MODE: u32 = 0o622;
/// The bit by which everyone may read a file.
const READ_BY_ALL: u32 = 0o004;

/// Why a zone was not started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The descriptors beside the task are not those it needs.
    #[error("{got} descriptors came with the task, {expected} were expected")]
    Descriptors {
        /// How many came.
        got: usize,
        /// How many should have.
        expected: usize,
    },
    /// An object or asset could not be shown.
    #[error("cannot show {name}")]
    Show {
        /// Its name.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// Its slot does not hold.
    #[error("the zone's slot fails")]
    Slot(#[from] SlotError),
    /// Its cgroup could not be made.
    #[error("the zone has no cgroup")]
    Cgroup(#[from] CgroupError),
    /// Its first process could not be made.
    #[error("the zone has no first process")]
    Nursery(#[from] NurseryError),
    /// Something else could not be done.
    #[error("cannot {act}")]
    Call {
        /// What was tried.
        act: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// An order did not fit a message.
    #[error("the task does not fit a message")]
    Frame(#[from] FrameError),
    /// An order did not arrive.
    #[error("cannot give orders to the zone")]
    Send(#[from] SendError),
}

fn call<T, E: Into<io::Error>>(act: &'static str, result: Result<T, E>) -> Result<T, StartError> {
    result.map_err(|source| StartError::Call { act, source: source.into() })
}

/// What every zone is started with.
#[derive(Debug)]
pub struct Launcher {
    program: File,
    stage: PathBuf,
    /// Makes zones' first processes; none until the first zone, and after it fell.
    nursery: RefCell<Option<Nursery>>,
    /// zoned's own mount namespace.
    home: OwnedFd,
    /// zoned's working directory in it, which a visit to another namespace loses.
    directory: File,
}

/// A zone that has been started.
#[derive(Debug)]
pub struct Zone {
    /// To its first process.
    pub control: Socket,
    /// Its first process: readable when the zone is gone.
    pub pidfd: OwnedFd,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Where its task's object is shown.
    shown: Option<String>,
    /// The directory there, once it was used from outside.
    objects: Option<OwnedFd>,
}

/// The descriptors beside a task.
struct Handed {
    input: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
    assets: Vec<OwnedFd>,
}

impl Launcher {
    /// Zones that run `program` first and are built in the directory `stage`, which is made.
    ///
    /// # Errors
    /// What the files say.
    pub fn new(program: &Path, stage: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(stage)?;
        let nursery = RefCell::new(None);
        let (home, directory) = (namespace::mounts()?, File::open(".")?);
        Ok(Self {
            program: File::open(program)?,
            stage: stage.to_owned(),
            nursery,
            home,
            directory,
        })
    }

    /// Starts a zone for a task.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left of the zone then.
    pub fn start(
        &self,
        task: &Task,
        fds: Vec<OwnedFd>,
        slot: &mut Slot,
        image: &Path,
        cgroups: &mut Tree,
    ) -> Result<Zone, StartError> {
        let handed = Handed::new(task, fds)?;
        let names = task.input.iter().chain(&task.assets);
        let mounts: Vec<OwnedFd> = names
            .zip(handed.input.iter().chain(&handed.assets))
            .map(|(name, file)| file_mount(slot, name, file.as_fd()))
            .collect::<Result<_, _>>()?;
        let plan = encode(Kind::Push, 0, &Order::Build(plan(task, slot)), 2 + mounts.len())?;
        let command = encode(Kind::Push, 0, &Order::Run(command(task)), 2)?;
        let carve = Carve { memory_mib: task.memory_mib, ..Carve::default() };
        let cgroup = cgroups.make(task.account, Place::Task(task.attempt), &carve)?;
        let shown = task.input.as_deref().map(|name| shown_path(OBJECTS, name));
        let mut beside = vec![slot.users.as_fd(), slot.network.as_fd()];
        beside.extend(mounts.iter().map(AsFd::as_fd));
        let outputs = [handed.stdout.as_fd(), handed.stderr.as_fd()];
        match self.spawn(&cgroup, image, &[(&plan, &beside), (&command, &outputs)]) {
            Ok((control, pidfd)) => Ok(Zone { control, pidfd, cgroup, shown, objects: None }),
            Err(error) => {
                cgroup.remove()?;
                Err(error)
            }
        }
    }

    /// Runs another task of the same job and phase in a zone whose last one is over.
    ///
    /// # Errors
    /// [`StartError`]; the zone is then of no use any more.
    pub fn again(
        &self,
        zone: &mut Zone,
        task: &Task,
        fds: Vec<OwnedFd>,
        slot: &mut Slot,
    ) -> Result<(), StartError> {
        let handed = Handed::new(task, fds)?;
        let mut stdin = None;
        for (name, file) in task.input.iter().zip(&handed.input) {
            let mount = file_mount(slot, name, file.as_fd())?;
            let path = shown_path(OBJECTS, name);
            let known = zone.objects.take();
            let process = zone.pidfd.as_fd();
            let shown = self.within(process, || show(known, &path, mount.as_fd()));
            let failed = |source| StartError::Show { name: name.clone(), source };
            let (objects, object) = shown.and_then(|shown| shown).map_err(failed)?;
            (zone.objects, stdin) = (Some(objects), Some(object));
            zone.shown = Some(path);
        }
        let command = Command { init: None, ..command(task) };
        let outputs = [handed.stdout.as_fd(), handed.stderr.as_fd()];
        let fds: Vec<BorrowedFd<'_>> = stdin.iter().map(AsFd::as_fd).chain(outputs).collect();
        Ok(zone.control.send(&encode(Kind::Push, 0, &Order::Run(command), fds.len())?, &fds)?)
    }

    /// Tells a zone whose task is over to wait for the next one, and takes its object away.
    ///
    /// # Errors
    /// [`StartError`]; the zone is then of no use any more.
    pub fn stay(&self, zone: &mut Zone) -> Result<(), StartError> {
        zone.control.send(&encode(Kind::Push, 0, &Order::Stay, 0)?, &[])?;
        if let Some(path) = zone.shown.take() {
            let hidden = self.within(zone.pidfd.as_fd(), || hide(&path)).and_then(|hidden| hidden);
            hidden.map_err(|source| StartError::Show { name: path, source })?;
        }
        Ok(())
    }

    /// Gives a standing zone its /proc and its terminals, which it does not have if nothing has run in it yet;
    /// `process` is its first one.
    ///
    /// # Errors
    /// What the system calls say.
    pub(crate) fn furnish(&self, process: BorrowedFd<'_>) -> io::Result<()> {
        let make = || system::proc(system::Kind::Standing);
        let proc = namespace::within_processes(process, make)?;
        let terminals = system::terminals()?;
        let root = || File::open("/");
        self.within(process, || system::furnish(root()?.as_fd(), proc.as_fd(), terminals.as_fd()))?
    }

    /// Does something in the mount namespace of a zone's first process.
    fn within<T>(&self, process: BorrowedFd<'_>, act: impl FnOnce() -> T) -> io::Result<T> {
        namespace::enter_mounts(process)?;
        let done = act();
        let back = namespace::enter_mounts(self.home.as_fd());
        if let Err(error) = back.and_then(|()| Ok(nix::unistd::fchdir(&self.directory)?)) {
            // Whatever came next would be done to a tenant's files. The next zoned starts afresh.
            eprintln!("zoned: cannot come back from a zone's mounts: {error}");
            std::process::abort();
        }
        Ok(done)
    }

    /// A zone's first process, in its cgroup and in namespaces of its own: a socket to it, and its pidfd. Its
    /// orders wait for it, so that it need not wait for them.
    pub(crate) fn spawn(
        &self,
        cgroup: &Cgroup,
        image: &Path,
        orders: &[(&[u8], &[BorrowedFd<'_>])],
    ) -> Result<(Socket, OwnedFd), StartError> {
        let (here, there) = call("make the control socket", Socket::pair())?;
        call("make the control socket", here.set_nonblocking())?;
        for (order, beside) in orders {
            here.send(order, beside)?;
        }
        let path = CString::new(image.as_os_str().as_encoded_bytes()).map_err(io::Error::from);
        let image = path.and_then(|path| mountfd::copy(AT_FDCWD, &path));
        let image = call("copy the image's mount", image)?;
        let mut nursery = self.nursery.borrow_mut();
        let process = match nursery.as_ref() {
            Some(nursery) => nursery.bear(&there, cgroup.directory(), image.as_fd()),
            None => nursery.insert(Nursery::start(&self.program, &self.stage)?).bear(
                &there,
                cgroup.directory(),
                image.as_fd(),
            ),
        };
        match process {
            Ok(pidfd) => Ok((here, pidfd)),
            Err(error @ NurseryError::Call { .. }) => Err(error.into()),
            Err(error) => {
                // It ends with this; the next zone starts another one.
                *nursery = None;
                Err(error.into())
            }
        }
    }
}

impl Handed {
    fn new(task: &Task, fds: Vec<OwnedFd>) -> Result<Self, StartError> {
        let map = task.kind == PhaseKind::Map;
        let expected = usize::from(map) + 2 + task.assets.len();
        let got = fds.len();
        let wrong = || StartError::Descriptors { got, expected };
        if got != expected || task.input.is_some() != map {
            return Err(wrong());
        }
        let mut fds = fds.into_iter();
        let input = if map { fds.next() } else { None };
        let (Some(stdout), Some(stderr)) = (fds.next(), fds.next()) else { return Err(wrong()) };
        for output in [&stdout, &stderr] {
            let mode = Mode::from_bits_truncate(OUTPUT_MODE);
            call("let the zone open its output", fchmod(output, mode))?;
        }
        Ok(Self { input, stdout, stderr, assets: fds.collect() })
    }
}

fn plan(task: &Task, slot: &Slot) -> Plan {
    let memory_mib = u64::from(task.memory_mib);
    Plan {
        host_name: format!("z-{}", task.attempt.0),
        user: slot.user(),
        scratch_bytes: memory_mib * SCRATCH_PER_MIB,
        scratch_files: memory_mib * FILES_PER_MIB,
        input: task.input.as_deref().map(|name| shown_path(OBJECTS, name)),
        assets: task.assets.iter().map(|path| asset_path(path)).collect(),
    }
}

/// In a zone: shows the object whose mount this is, and opens it there, so that /dev/stdin can be opened
/// again in the zone. Gives the directory of objects, to be used again, and the object.
fn show(
    objects: Option<OwnedFd>,
    path: &str,
    mount: BorrowedFd<'_>,
) -> io::Result<(OwnedFd, OwnedFd)> {
    let find = || -> io::Result<OwnedFd> {
        let (root, folder) = (File::open("/")?, OFlag::O_PATH | OFlag::O_DIRECTORY);
        let name = OBJECTS.trim_start_matches('/');
        Ok(build::open(root.as_fd(), name, folder, Mode::empty())?)
    };
    let objects = objects.map_or_else(find, Ok)?;
    let object = build::show_object(objects.as_fd(), path, mount)?;
    Ok((objects, object))
}

/// In a zone: takes an object away again, and the file that it was shown over.
fn hide(path: &str) -> io::Result<()> {
    let name = CString::new(path)?;
    mountfd::detach(&name)?;
    Ok(nix::unistd::unlink(name.as_c_str())?)
}

/// Where an asset stands: `task.assets` says so, but what it says is made a path that can be.
fn asset_path(path: &str) -> String {
    shown_path(ASSETS, path.strip_prefix(ASSETS).unwrap_or(path))
}

fn command(task: &Task) -> Command {
    let mut environment = vec![
        ("PATH".to_owned(), SEARCH_PATH.to_owned()),
        ("HOME".to_owned(), "/root".to_owned()),
        // The C locale: bytes are bytes, and sort(1) gives the same order everywhere.
        ("LANG".to_owned(), "C".to_owned()),
    ];
    let mut set = |name: &str, value: &str| {
        environment.retain(|(known, _)| known != name);
        environment.push((name.to_owned(), value.to_owned()));
    };
    for (name, value) in &task.environment {
        set(name, value);
    }
    if let Some(input) = &task.input {
        set("MANTA_INPUT_FILE", &shown_path(OBJECTS, input));
    }
    Command { init: task.init.clone(), exec: task.exec.clone(), environment }
}

/// A mount of one file, to be shown in a zone: read-only, no program, no device, readable by the zone's
/// root whoever owns the file.
fn file_mount(slot: &mut Slot, name: &str, file: BorrowedFd<'_>) -> Result<OwnedFd, StartError> {
    let failed = |source: io::Error| StartError::Show { name: name.to_owned(), source };
    let found = fstat(file).map_err(|error| failed(error.into()))?;
    let mount = mountfd::copy(file, c"").map_err(failed)?;
    if found.st_mode & READ_BY_ALL == 0 {
        let view = slot.owner(found.st_uid, found.st_gid)?;
        mountfd::map_owners(mount.as_fd(), view.as_fd(), Restrictions::READ_ONLY_DATA)
    } else {
        mountfd::restrict(mount.as_fd(), Restrictions::READ_ONLY_DATA)
    }
    .map_err(failed)?;
    Ok(mount)
}

#[cfg(test)]
mod test {
    use super::*;
    use wire::job::JobId;
    use wire::task::AttemptId;

    fn task() -> Task {
        Task {
            attempt: AttemptId(7),
            job: JobId(uuid::Uuid::nil()),
            phase: 0,
            kind: PhaseKind::Map,
            account: 1,
            login: "ann".to_owned(),
            exec: "wc".to_owned(),
            init: None,
            input: Some("/ann/stor/../x".to_owned()),
            assets: vec!["/assets/ann/stor/run.sh".to_owned(), "/ann/stor/b".to_owned()],
            environment: vec![("HOME".to_owned(), "/tmp".to_owned())],
            memory_mib: 1024,
            disk_gib: 8,
            image: "base".to_owned(),
        }
    }

    #[test]
    fn the_environment_names_the_file_that_is_shown_and_each_variable_once() {
        let command = command(&task());
        let value = |name: &str| {
            let found: Vec<&str> = command
                .environment
                .iter()
                .filter(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
                .collect();
            found.join("|")
        };
        assert_eq!(value("HOME"), "/tmp");
        assert_eq!(value("MANTA_INPUT_FILE"), "/manta/_/__ann_stor_.._x");
        assert_eq!(value("PATH"), SEARCH_PATH);
    }

    #[test]
    fn assets_stand_below_assets_whichever_way_they_are_named() {
        assert_eq!(asset_path("/assets/ann/stor/run.sh"), "/assets/ann/stor/run.sh");
        assert_eq!(asset_path("/ann/stor/run.sh"), "/assets/ann/stor/run.sh");
        assert_eq!(asset_path("/assets/../etc/passwd"), "/assets/_/__.._etc_passwd");
    }

    #[test]
    fn a_task_with_a_descriptor_too_few_is_refused() {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let few = Handed::new(&task(), vec![null(), null(), null(), null()]);
        assert!(matches!(few, Err(StartError::Descriptors { got: 4, expected: 5 })));
        let enough = Handed::new(&task(), vec![null(), null(), null(), null(), null()]).unwrap();
        assert_eq!((enough.assets.len(), enough.input.is_some()), (2, true));
    }
}
