//! A machine of its own for each test: zoned, an init that keeps its descriptors and starts it again, a
//! storaged that knows one account.

use crate::client::Client;
use crate::common::{PATIENCE, alone, eventually};
use crate::objects::Shelf;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sys::mountfd::{self, Filesystem, Restrictions};
use sys::process::{Exit, Limit, Program};
use sys::seqpacket::{Listener, Socket};
use wire::frame::{Frame, Kind, Refusal, encode};
use wire::standing::ZoneName;

const PLACE: &str = "/media";
/// The account of all zones here.
pub const ACCOUNT: u32 = 7;

pub fn name(text: &str) -> ZoneName {
    ZoneName::try_from(text.to_owned()).unwrap()
}

/// The machine.
pub struct Machine {
    place: PathBuf,
    pub cgroup: PathBuf,
    /// What storaged has.
    pub shelf: Shelf,
    ear: Socket,
    kept: Vec<(String, OwnedFd)>,
    zoned: Option<i32>,
}

impl Machine {
    /// A machine that has just booted, its zoned started.
    pub fn boot() -> Self {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let place = PathBuf::from(PLACE);
        let tmpfs = Filesystem::new(c"tmpfs").unwrap();
        tmpfs.set(c"mode", c"0755").unwrap();
        let tmpfs = tmpfs.mount(Restrictions::NONE).unwrap();
        mountfd::place(tmpfs.as_fd(), File::open("/").unwrap().as_fd(), c"/media").unwrap();
        for folder in ["images", "run", "data", "store"] {
            fs::create_dir(place.join(folder)).unwrap();
        }
        symlink("/", place.join("images/base")).unwrap();
        let root = crate::common::cgroup_root().unwrap();
        let cgroup = root.join(format!("zoned-standing-{}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let listener = Listener::bind(&place.join("storaged.sock"), 0o600).unwrap();
        let shelf = Shelf::default();
        let (theirs, usage) = (shelf.clone(), place.join("usage"));
        std::thread::spawn(move || storaged(&listener, &usage, &theirs));
        let access = sys::socket::Access { user: 0, group: 0, mode: 0o600 };
        let ear = sys::socket::ear(&place.join("notify"), access).unwrap();
        ear.set_nonblocking().unwrap();
        let mut machine = Self { place, cgroup, shelf, ear, kept: Vec::new(), zoned: None };
        machine.start(None);
        machine
    }

    /// Starts zoned, with what is kept for it, to be killed at a place.
    pub fn start(&mut self, failpoint: Option<&str>) {
        assert_eq!(self.zoned, None);
        let path = |name: &str| self.place.join(name).display().to_string();
        let command = [
            env!("CARGO_BIN_EXE_zoned"),
            "--storaged",
            &path("storaged.sock"),
            "--wire",
            &path("zoned.sock"),
            "--run",
            &path("run"),
            "--images",
            &path("images"),
            "--data",
            &path("data"),
            "--account-limits",
            &path("account-limits.json"),
            "--prefetcher",
            &path("prefetcher.sock"),
            "--store-cgroup",
            &path("store"),
            "--cgroup",
            &self.cgroup.display().to_string(),
            "--zone-init",
            env!("CARGO_BIN_EXE_zone-init"),
            "--zone-publish",
            env!("CARGO_BIN_EXE_mobula-publish"),
        ]
        .map(str::to_owned);
        let mut environment = vec![("NOTIFY_SOCKET".to_owned(), path("notify"))];
        environment.push(("RUST_BACKTRACE".to_owned(), "1".to_owned()));
        if let Some(failpoint) = failpoint {
            environment.push(("ZONED_FAILPOINT".to_owned(), failpoint.to_owned()));
        }
        let descriptors: Vec<(String, BorrowedFd<'_>)> =
            self.kept.iter().map(|(name, fd)| (name.clone(), fd.as_fd())).collect();
        let (null, error) = (File::open("/dev/null").unwrap(), std::io::stderr());
        let own = self.cgroup.parent().unwrap();
        let child = sys::process::spawn(&Program {
            command: &command,
            environment: &environment,
            cgroup: File::open(own).unwrap().as_fd(),
            stdin: null.as_fd(),
            output: error.as_fd(),
            descriptors: &descriptors,
            user: 0,
            group: 0,
            groups: &[],
            capabilities: None,
            no_new_privs: false,
            oom_score_adj: 0,
            limits: &[Limit::OpenFiles(16_384)],
        });
        self.zoned = Some(child.unwrap().pid());
    }

    pub fn pid(&self) -> i32 {
        self.zoned.expect("zoned runs")
    }

    /// Hears what zoned says and keeps what it wants kept; reaps. Gives how zoned ended, if it did.
    pub fn look_after(&mut self) -> Option<Exit> {
        let mut bytes = Vec::new();
        let mut hear = |kept: &mut Vec<(String, OwnedFd)>| {
            while let Ok(Some(fds)) = self.ear.recv(&mut bytes) {
                let text = String::from_utf8(bytes.clone()).unwrap();
                let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
                if text.contains("FDSTOREREMOVE=1") {
                    kept.retain(|(known, _)| Some(known.as_str()) != name);
                } else if text.contains("FDSTORE=1") {
                    kept.extend(fds.into_iter().map(|fd| (name.unwrap().to_owned(), fd)));
                }
            }
        };
        hear(&mut self.kept);
        while let Some((pid, exit)) = sys::process::reap().unwrap() {
            if Some(pid) == self.zoned {
                // What it said last came before its end.
                hear(&mut self.kept);
                self.zoned = None;
                return Some(exit);
            }
        }
        None
    }

    /// Waits for zoned to end.
    pub fn ended(&mut self) -> Exit {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(exit) = self.look_after() {
                return exit;
            }
            assert!(Instant::now() < deadline, "zoned does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits until zoned is stopped, at the place that it was started for.
    pub fn stopped(&self) {
        let stat = format!("/proc/{}/stat", self.pid());
        eventually("zoned is stopped", || {
            let text = fs::read_to_string(&stat).unwrap_or_default();
            // proc_pid_stat(5): the state comes after the name in parentheses.
            text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        });
    }

    /// Spoils what is kept for the next zoned: it gets files that cannot be listened to in place of zones' sockets.
    /// Gives these: a zone ends when nobody has its socket.
    pub fn spoil_controls(&mut self) -> Vec<OwnedFd> {
        let controls = self.kept.iter_mut().filter(|(name, _)| name.starts_with("zc"));
        let null = || File::open("/dev/null").unwrap().into();
        controls.map(|(_, fd)| std::mem::replace(fd, null())).collect()
    }

    /// Kills zoned as the kernel would; init keeps what it keeps.
    pub fn crash(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
        assert_eq!(self.ended(), Exit::Signal(libc::SIGKILL));
    }

    /// Cuts the power: nothing is left but the disk.
    pub fn cut_power(&mut self) {
        self.crash();
        self.kept.clear();
        fs::write(self.cgroup.join("cgroup.kill"), "1").unwrap();
        eventually("all processes are gone", || {
            self.look_after();
            self.processes() == 0
        });
        // Images stay mounted below the run directory until zoned looks; its files go.
        for file in ["started", "events"] {
            fs::remove_file(self.place.join("run").join(file)).unwrap();
        }
        for account in fs::read_dir(&self.cgroup).unwrap().flatten().filter(|e| e.path().is_dir()) {
            for zone in
                fs::read_dir(account.path()).unwrap().flatten().filter(|e| e.path().is_dir())
            {
                fs::remove_dir(zone.path()).unwrap();
            }
            fs::remove_dir(account.path()).unwrap();
        }
    }

    pub fn client(&mut self) -> Client {
        let path = self.place.join("zoned.sock");
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.look_after();
            match Client::connect(&path) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Processes in all zones.
    pub fn processes(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let own = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            let inner = fs::read_dir(folder).into_iter().flatten().flatten();
            let inner: usize = inner.filter(|e| e.path().is_dir()).map(|e| count(&e.path())).sum();
            own.lines().count() + inner
        }
        count(&self.cgroup)
    }

    /// The first process of a zone, in our own numbers.
    pub fn first_process(&self, zone: &str) -> i32 {
        let group = self.cgroup.join(format!("t-{ACCOUNT}/s-{zone}/cgroup.procs"));
        let all = fs::read_to_string(group).unwrap();
        let is_first = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
        };
        all.lines().map(|line| line.parse().unwrap()).find(is_first).unwrap()
    }

    /// Cgroups of zones.
    pub fn zones(&self) -> Vec<String> {
        let folders = |path: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
        };
        let all = folders(&self.cgroup).into_iter().flat_map(|account| folders(&account));
        all.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    pub fn kept(&mut self) -> Vec<String> {
        self.look_after();
        self.kept.iter().map(|(name, _)| name.clone()).collect()
    }

    pub fn records(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place.join("data/zones")).unwrap().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    pub fn place(&self) -> &Path {
        &self.place
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.zoned.is_some() {
            self.signal(nix::sys::signal::Signal::SIGTERM);
            let exit = self.ended();
            if !std::thread::panicking() {
                assert_eq!(exit, Exit::Code(0));
            }
        }
        self.kept.clear();
        for _ in 0..200 {
            self.look_after();
            if fs::remove_dir(&self.cgroup).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(std::thread::panicking(), "zoned leaves {:?} behind", self.zones());
    }
}

/// Knows one account, and nothing to run; writes usage to a file.
fn storaged(listener: &Listener, usage: &Path, shelf: &Shelf) {
    while let Ok(Some(zoned)) = listener.accept() {
        let mut message = Vec::new();
        while let Ok(Some(fds)) = zoned.recv(&mut message) {
            let frame = Frame::parse(&message, fds.len()).unwrap();
            if frame.kind != Kind::Request {
                continue;
            }
            let mut beside = Vec::new();
            let answer = match frame.body().unwrap() {
                wire::task::Request::Account { login } if login == "ann" => {
                    encode(Kind::Reply, frame.id, &wire::task::Reply::Account { id: ACCOUNT }, 0)
                }
                wire::task::Request::Accounts { after } => {
                    let all = vec![("ann".to_owned(), ACCOUNT)];
                    let all = if after.is_none() { all } else { Vec::new() };
                    encode(Kind::Reply, frame.id, &wire::task::Reply::Accounts(all), 0)
                }
                wire::task::Request::Meter { lines } => {
                    let mut file = File::options().create(true).append(true).open(usage).unwrap();
                    lines.iter().for_each(|line| writeln!(file, "{line}").unwrap());
                    encode(Kind::Reply, frame.id, &wire::task::Reply::Metered, 0)
                }
                other => match shelf.answer(&other, &fds) {
                    Some((reply, fds)) => {
                        beside = fds;
                        encode(Kind::Reply, frame.id, &reply, beside.len())
                    }
                    None => {
                        let (code, message) = ("NoSuchAccount".to_owned(), format!("{other:?}"));
                        encode(Kind::Refusal, frame.id, &Refusal { code, message }, 0)
                    }
                },
            };
            let beside: Vec<BorrowedFd<'_>> = beside.iter().map(AsFd::as_fd).collect();
            if zoned.send(&answer.unwrap(), &beside).is_err() {
                break;
            }
        }
    }
}

/// Runs a test on a machine of its own.
pub fn on_a_machine(test: &str, run: impl FnOnce(&mut Machine)) {
    alone(test, || run(&mut Machine::boot()));
}
