//! A zoned with tasks to run, its files, its cgroup, and a storaged that says what a test has it say.

use super::{cgroup_root, root};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use sys::mountfd::{self, Filesystem, Restrictions};
use sys::seqpacket::{Listener, Socket};
use wire::frame::{Frame, Kind, encode};
use wire::job::{JobId, PhaseKind};
use wire::task::{AttemptId, Ending, Push, Reply, Request, Runnable, Settled, Task, Usage};

/// Where the test's files are, in its own mount namespace.
const PLACE: &str = "/media";
/// The most of an output that a test looks at.
const SHOWN_BYTES_MAX: u64 = 1 << 20;
/// storaged's user in the appliance.
const STORE_USER: u32 = 200;

/// What became of a task.
#[derive(Debug)]
pub struct Done {
    pub ending: Ending,
    pub usage: Usage,
    pub stdout: String,
    pub stderr: String,
}

/// A zoned, and the storaged that it knows.
pub struct Node {
    zoned: Child,
    cgroup: PathBuf,
    listener: Listener,
    pub store: Socket,
    next: u64,
    place: PathBuf,
    /// Where objects and output are.
    disk: PathBuf,
    /// The project of the last claim, to which its output is charged.
    project: u32,
    /// Lines of usage that were told, in order.
    pub metered: RefCell<Vec<serde_json::Value>>,
}

impl Node {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts zoned with further arguments.
    pub fn with(arguments: &[&str]) -> Self {
        let place = PathBuf::from(PLACE);
        let tmpfs = Filesystem::new(c"tmpfs").unwrap();
        tmpfs.set(c"mode", c"0755").unwrap();
        let tmpfs = tmpfs.mount(Restrictions::NONE).unwrap();
        mountfd::place(tmpfs.as_fd(), root().as_fd(), c"/media").unwrap();
        let disk =
            std::env::var_os("MOBULA_TEST_DISK").map_or_else(|| place.clone(), PathBuf::from);
        for folder in ["view", "images", "run"] {
            fs::create_dir(place.join(folder)).unwrap();
        }
        for folder in ["objects", "staging"] {
            fs::create_dir_all(disk.join(folder)).unwrap();
        }
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(disk.join("objects"), closed).unwrap();
        let view = mountfd::copy(File::open(disk.join("objects")).unwrap().as_fd(), c"").unwrap();
        mountfd::restrict(view.as_fd(), Restrictions::READ_ONLY_DATA).unwrap();
        mountfd::place(view.as_fd(), root().as_fd(), c"/media/view").unwrap();
        match std::env::var_os("MOBULA_TEST_IMAGE") {
            Some(file) => symlink(file, place.join("images/base.erofs")).unwrap(),
            None => symlink("/", place.join("images/base")).unwrap(),
        }
        let cgroup = cgroup_root().unwrap().join(format!("zoned-test-{}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let listener = Listener::bind(&place.join("storaged.sock"), 0o600).unwrap();
        let zoned = start_zoned(&place, &disk, &cgroup, arguments);
        let store = accept(&listener);
        Self {
            zoned,
            cgroup,
            listener,
            store,
            next: 1,
            place,
            disk,
            project: 0,
            metered: RefCell::default(),
        }
    }

    /// Kills zoned as the kernel would, and starts another one.
    pub fn kill_and_restart(&mut self) {
        self.zoned.kill().unwrap();
        self.zoned.wait().unwrap();
        self.zoned = start_zoned(&self.place, &self.disk, &self.cgroup, &[]);
        self.store = accept(&self.listener);
    }

    /// Ends the connection as a crash of storaged would, and takes the next one.
    pub fn reconnect(&mut self) {
        self.hang_up();
        self.store = accept(&self.listener);
    }

    /// Ends the connection; until [`Self::reconnect`] nobody answers.
    pub fn hang_up(&mut self) {
        let (closed, _) = Socket::pair().unwrap();
        drop(std::mem::replace(&mut self.store, closed));
    }

    /// Kills every process of every zone, as the kernel may when memory is short.
    pub fn kill_zones(&self) {
        fs::write(self.cgroup.join("cgroup.kill"), "1").unwrap();
    }

    pub fn zones(&self) -> usize {
        let tenants = fs::read_dir(&self.cgroup).unwrap().flatten().filter(|e| e.path().is_dir());
        tenants
            .map(|e| {
                fs::read_dir(e.path()).unwrap().flatten().filter(|e| e.path().is_dir()).count()
            })
            .sum()
    }

    /// The processes of all zones.
    pub fn processes(&self) -> Vec<i32> {
        fn below(folder: &Path) -> Vec<i32> {
            let own = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let inner = entries.filter(|e| e.path().is_dir()).flat_map(|e| below(&e.path()));
            own.lines().map(|line| line.parse().unwrap()).chain(inner).collect()
        }
        below(&self.cgroup)
    }

    /// Makes an image that is a directory with a shell in it, to be altered.
    pub fn folder_image(&self, name: &str) -> PathBuf {
        let tree = self.place.join("images").join(name);
        fill_tree(&tree);
        tree
    }

    /// zoned's process.
    pub fn zoned(&self) -> u32 {
        self.zoned.id()
    }

    /// Where zoned listens.
    pub fn socket(&self) -> PathBuf {
        self.place.join("zoned.sock")
    }

    /// Makes an EROFS image with a shell in it; false where that can't be done.
    pub fn pack_image(&self, name: &str) -> bool {
        let tree = self.place.join("tree");
        fill_tree(&tree);
        // On the host's disk: EROFS is not mounted from a file on tmpfs.
        let disk = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let packed = Command::new("mkfs.erofs").arg("-T0").arg(disk.path()).arg(&tree).output();
        let mounts = fs::read_to_string("/proc/filesystems").unwrap().contains("erofs");
        if !packed.is_ok_and(|output| output.status.success()) || !mounts {
            return false;
        }
        symlink(disk.path(), self.place.join("images").join(format!("{name}.erofs"))).unwrap();
        // It must outlive this function, and the test process ends with the test.
        std::mem::forget(disk);
        true
    }

    /// Whether what a task writes has a limit here.
    pub fn has_quota(&self) -> bool {
        sys::quota::project(File::open(&self.disk).unwrap().as_fd(), 1).is_ok()
    }

    /// Whether the zones of this node have this controller.
    pub fn has(&self, controller: &str) -> bool {
        let text = fs::read_to_string(self.cgroup.join("cgroup.controllers")).unwrap();
        text.split_whitespace().any(|name| name == controller)
    }

    pub fn status(&self) -> wire::zone::ZonedStatus {
        let socket = Socket::connect(&self.place.join("zoned.sock")).unwrap();
        let request = encode(Kind::Request, 5, &wire::zone::Request::Status, 0).unwrap();
        socket.send(&request, &[]).unwrap();
        let mut message = Vec::new();
        socket.recv(&mut message).unwrap().unwrap();
        let frame = Frame::parse(&message, 0).unwrap();
        assert_eq!((frame.kind, frame.id), (Kind::Reply, 5));
        let wire::zone::Reply::Status(status) = frame.body().unwrap() else { panic!("no status") };
        status
    }

    /// A task as storaged would give it, of a job of its own: no two share a zone.
    pub fn task(&mut self, kind: PhaseKind, exec: &str) -> Task {
        let attempt = AttemptId(self.next);
        self.next += 1;
        let input = (kind == PhaseKind::Map).then(|| "/ann/stor/logs/input.txt".to_owned());
        Task {
            attempt,
            job: JobId(uuid::Uuid::from_u128(u128::from(attempt.0))),
            phase: 0,
            kind,
            account: 7,
            login: "ann".to_owned(),
            exec: exec.to_owned(),
            init: None,
            input,
            assets: Vec::new(),
            environment: vec![("MANTA_USER".to_owned(), "ann".to_owned())],
            memory_mib: 128,
            disk_gib: 2,
            image: "base".to_owned(),
        }
    }

    /// An object as storaged keeps it, opened as storaged opens it for zones.
    pub fn object(&mut self, bytes: &[u8]) -> OwnedFd {
        let name = format!("{}-{}", std::process::id(), self.next);
        self.next += 1;
        let path = self.disk.join("objects").join(&name);
        fs::write(&path, bytes).unwrap();
        chown(&path, Some(STORE_USER), Some(STORE_USER)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        File::open(self.place.join("view").join(name)).unwrap().into()
    }

    /// A file for output, as storaged makes it: where it is, and its descriptor.
    pub fn staging(&mut self) -> (PathBuf, OwnedFd) {
        let path = self.disk.join("staging").join(format!("{}-{}", std::process::id(), self.next));
        self.next += 1;
        let file = File::options().write(true).create_new(true).open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(STORE_USER), Some(STORE_USER)).unwrap();
        if self.has_quota() {
            let project = self.project.to_string();
            let set = Command::new("chattr").args(["-p", &project]).arg(&path).status();
            assert!(set.unwrap().success());
        }
        (path, file.into())
    }

    /// Runs a map over `input`.
    pub fn map(&mut self, exec: &str, input: &[u8]) -> Done {
        let task = self.task(PhaseKind::Map, exec);
        self.run(task, input, &[], &[])
    }

    /// Runs a reducer over `inputs`.
    pub fn reduce(&mut self, exec: &str, inputs: &[&[u8]]) -> Done {
        let task = self.task(PhaseKind::Reduce, exec);
        self.run(task, b"", &[], inputs)
    }

    /// Offers a task, sees it through to its settlement.
    pub fn run(&mut self, task: Task, input: &[u8], assets: &[&[u8]], inputs: &[&[u8]]) -> Done {
        let (attempt, outputs) = self.begin(task, input, assets);
        self.see_through(attempt, &outputs, inputs)
    }

    /// Offers a task and has it claimed.
    pub fn begin(
        &mut self,
        task: Task,
        input: &[u8],
        assets: &[&[u8]],
    ) -> (AttemptId, [PathBuf; 2]) {
        self.push(&Push::Runnable(vec![runnable(&task)]));
        let (id, request) = self.request();
        let Request::Claim { project, .. } = request else { panic!("unexpected {request:?}") };
        self.project = project;
        let attempt = task.attempt;
        let mut fds = Vec::new();
        if task.kind == PhaseKind::Map {
            fds.push(self.object(input));
        }
        let (stdout, out) = self.staging();
        let (stderr, err) = self.staging();
        fds.extend([out, err]);
        for asset in assets {
            fds.push(self.object(asset));
        }
        self.reply(id, &Reply::Claimed(task), &fds);
        (attempt, [stdout, stderr])
    }

    /// Answers an attempt's requests until it has ended.
    pub fn see_through(
        &mut self,
        expected: AttemptId,
        outputs: &[PathBuf; 2],
        inputs: &[&[u8]],
    ) -> Done {
        loop {
            match self.request() {
                (id, Request::NextInputs { attempt, from }) => {
                    assert_eq!(attempt, expected);
                    let from = usize::try_from(from).unwrap();
                    let next: Vec<&[u8]> = inputs[from..].iter().take(2).copied().collect();
                    let end = from + next.len() == inputs.len();
                    let names = next.iter().map(|_| "/ann/stor/x".to_owned()).collect();
                    let fds: Vec<OwnedFd> = next.iter().map(|bytes| self.object(bytes)).collect();
                    self.reply(id, &Reply::Inputs { names, end }, &fds);
                }
                (id, Request::Ended { attempt, ending, usage }) => {
                    assert_eq!(attempt, expected);
                    self.reply(id, &Reply::Settled(Settled::Committed), &[]);
                    let read = |path: &Path| {
                        let mut bytes = Vec::new();
                        let file = File::open(path).unwrap().take(SHOWN_BYTES_MAX);
                        BufReader::new(file).read_to_end(&mut bytes).unwrap();
                        String::from_utf8_lossy(&bytes).into_owned()
                    };
                    let (stdout, stderr) = (read(&outputs[0]), read(&outputs[1]));
                    return Done { ending, usage, stdout, stderr };
                }
                (_, other) => panic!("unexpected {other:?}"),
            }
        }
    }

    pub fn push(&self, push: &Push) {
        self.store.send(&encode(Kind::Push, 0, push, 0).unwrap(), &[]).unwrap();
    }

    /// The next request but those to keep usage and about manifests, which are answered here.
    pub fn request(&self) -> (u64, Request) {
        loop {
            let mut message = Vec::new();
            self.store.recv(&mut message).unwrap().expect("zoned is there");
            let frame = Frame::parse(&message, 0).unwrap();
            assert_eq!(frame.kind, Kind::Request);
            match frame.body().unwrap() {
                Request::Meter { lines } => {
                    let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
                    self.metered.borrow_mut().extend(lines);
                    self.reply(frame.id, &Reply::Metered, &[]);
                }
                Request::Manifests { .. } => {
                    self.reply(frame.id, &Reply::Manifests(Vec::new()), &[]);
                }
                Request::Held { .. } => self.reply(frame.id, &Reply::Noted, &[]),
                other => return (frame.id, other),
            }
        }
    }

    pub fn reply(&self, id: u64, reply: &Reply, fds: &[OwnedFd]) {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let message = encode(Kind::Reply, id, reply, fds.len()).unwrap();
        self.store.send(&message, &fds).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.zoned.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = self.zoned.wait().unwrap();
        let removed = fs::remove_dir(&self.cgroup);
        if !std::thread::panicking() {
            assert!(status.success(), "zoned: {status}");
            removed.expect("zoned leaves no cgroup behind");
        }
    }
}

/// What storaged says of a phase of which this is the only ready task.
pub fn runnable(task: &Task) -> Runnable {
    let Task { job, phase, account, memory_mib, disk_gib, .. } = *task;
    let image = task.image.clone();
    Runnable { job, phase, account, ready: 1, memory_mib, disk_gib, image }
}

/// A root with a shell and a few programs in it, and their libraries.
pub fn fill_tree(tree: &Path) {
    let script = "set -e; mkdir -p bin lib lib64 root; cp /bin/bash /bin/cat /bin/sleep bin/; \
                  cp /lib64/ld-linux-x86-64.so.2 lib64/; \
                  cp $(ldd /bin/bash /bin/cat /bin/sleep | grep -o '/lib[^ ]*' | sort -u) lib/";
    fs::create_dir(tree).unwrap();
    let made = Command::new("bash").args(["-c", script]).current_dir(tree).status();
    assert!(made.unwrap().success());
}

fn start_zoned(place: &Path, disk: &Path, cgroup: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_zoned"))
        .arg("--storaged")
        .arg(place.join("storaged.sock"))
        .arg("--wire")
        .arg(place.join("zoned.sock"))
        .arg("--run")
        .arg(place.join("run"))
        .arg("--images")
        .arg(place.join("images"))
        .arg("--data")
        .arg(disk)
        .arg("--cgroup")
        .arg(cgroup)
        .args(["--zone-init", env!("CARGO_BIN_EXE_zone-init")])
        .args(arguments)
        .spawn()
        .unwrap()
}

fn accept(listener: &Listener) -> Socket {
    let socket = listener.accept().unwrap().unwrap();
    let mut message = Vec::new();
    socket.recv(&mut message).unwrap().unwrap();
    assert_eq!(Frame::parse(&message, 0).unwrap().kind, Kind::Hello);
    socket
}
