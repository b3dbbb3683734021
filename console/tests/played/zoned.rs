//! zoned as consoled sees it: standing zones that are entries in a map, sessions that are programs of this
//! machine, events that are told to whoever watches.

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr,
    accept, bind, listen, recv, sendmsg, shutdown, socket,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use wire::account::{
    self, AccountLimits, AccountReply, AccountRequest, AccountSummary, AccountView,
};
use wire::carve::Limit;
use wire::frame::{Frame, Kind, MESSAGE_BYTES_MAX, Refusal, encode};
use wire::machine::Login;
use wire::standing::{
    Event, ImageView, PAGE_MAX, Published, Stats, Subject, What, WindowSize, ZoneName, ZonePush,
    ZoneReply, ZoneRequest, ZoneSpec, ZoneState, ZoneSummary, ZoneView,
};
use wire::zone::{Counts, Outcome, Reply, Request, ZonedStatus};

/// What it holds.
#[derive(Default)]
pub struct State {
    /// Zones by name.
    pub zones: BTreeMap<String, ZoneView>,
    /// What happened.
    pub events: Vec<Event>,
    /// The log's files, of every zone.
    pub log: Vec<File>,
    /// What was set for accounts.
    pub limits: BTreeMap<Login, AccountLimits>,
    /// Images.
    pub images: Vec<ImageView>,
    /// Whether it closes every connection.
    pub gone: bool,
}

/// One that listens until the process ends.
#[derive(Clone, Default)]
pub struct Zoned {
    state: Arc<Mutex<State>>,
}

/// A connection, closed when nobody has it any more.
struct Peer(RawFd);

impl Drop for Peer {
    fn drop(&mut self) {
        nix::unistd::close(self.0).unwrap();
    }
}

type Answer = Result<(ZoneReply, Vec<OwnedFd>), Refusal>;

impl Zoned {
    /// Listens in a folder.
    pub fn start(run: &Path) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&run.join("zoned.sock")).unwrap()).unwrap();
        listen(&listener, Backlog::new(16).unwrap()).unwrap();
        let zoned = Self::default();
        let shared = zoned.clone();
        std::thread::spawn(move || {
            loop {
                let peer = Arc::new(Peer(accept(listener.as_raw_fd()).unwrap()));
                let zoned = shared.clone();
                std::thread::spawn(move || zoned.serve(&peer));
            }
        });
        zoned
    }

    /// What it holds.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Notes that something happened.
    pub fn tell(&self, subject: Subject, what: What) {
        let mut state = self.state();
        let number = state.events.len() as u64 + 1;
        state.events.push(Event { number, at_unix_ms: 1_795_336_352_000, subject, what });
    }

    fn serve(&self, peer: &Arc<Peer>) {
        let mut watches: Option<u64> = None;
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        while !self.state().gone {
            match recv(peer.0, &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => break,
                Ok(got) => {
                    let frame = Frame::parse(&buffer[..got], 0).unwrap();
                    let request: Request = frame.body().unwrap();
                    if let Request::Zone(ZoneRequest::Watch { after }) = request {
                        watches = Some(after);
                    }
                    self.answer(peer, frame.id, request);
                }
                Err(_) => std::thread::sleep(Duration::from_millis(3)),
            }
            if let Some(seen) = &mut watches {
                // As zoned does: some at a time.
                let new = |event: &&Event| event.number > *seen;
                let some: Vec<_> =
                    self.state().events.iter().filter(new).take(2).cloned().collect();
                if let Some(last) = some.last() {
                    *seen = last.number;
                    push(peer, &ZonePush::Events(some));
                }
            }
        }
        // A session's end may still be pushed into it, and nothing else has its number until then.
        shutdown(peer.0, Shutdown::Both).unwrap();
    }

    fn answer(&self, peer: &Arc<Peer>, id: u64, request: Request) {
        if let Request::Account(request) = request {
            let message = match self.account(request) {
                Ok(reply) => encode(Kind::Reply, id, &Reply::Account(reply), 0),
                Err(refusal) => encode(Kind::Refusal, id, &refusal, 0),
            };
            return send(peer, &message.unwrap(), &[]);
        }
        let Request::Zone(request) = request else {
            let status = ZonedStatus {
                store_connected: true,
                zones_max: 8,
                memory_mib_max: 1024,
                memory_mib: 0,
                waiting: 0,
                held: None,
                degraded: Vec::new(),
                zones: Vec::new(),
                zones_running: 0,
                counts: Counts::default(),
            };
            return send(peer, &encode(Kind::Reply, id, &Reply::Status(status), 0).unwrap(), &[]);
        };
        let (message, fds) = match self.act(peer, request) {
            Ok((reply, fds)) => {
                let count = fds.len();
                (encode(Kind::Reply, id, &Reply::Zone(reply), count).unwrap(), fds)
            }
            Err(refusal) => (encode(Kind::Refusal, id, &refusal, 0).unwrap(), Vec::new()),
        };
        send(peer, &message, &fds);
    }

    /// It knows the accounts of its zones.
    fn account(&self, request: AccountRequest) -> Result<AccountReply, Refusal> {
        let mut state = self.state();
        let logins = state.zones.values().map(|zone| zone.summary.login.clone());
        let logins: BTreeSet<Login> = logins.map(|login| login.try_into().unwrap()).collect();
        if let Some(login) = request.login().filter(|login| !logins.contains(*login)) {
            let message = format!("there is no account {}", login.as_str());
            return Err(Refusal { code: "NoSuchAccount".to_owned(), message });
        }
        match &request {
            AccountRequest::Limit { login, change } => {
                let set = change.over(&state.limits.get(login).copied().unwrap_or_default());
                state.limits.insert(login.clone(), set);
            }
            AccountRequest::Reset(login) => drop(state.limits.remove(login)),
            AccountRequest::List { .. } | AccountRequest::Get(_) => {}
        }
        let summary = |login: &Login| {
            let zones = state.zones.values().filter(|z| z.summary.login == login.as_str()).count();
            AccountSummary {
                login: login.clone(),
                id: 7,
                zones: u32::try_from(zones).unwrap(),
                zones_running: 0,
                tasks: 0,
                stats: Stats::default(),
                effective: state.limits.get(login).copied().unwrap_or_default(),
            }
        };
        Ok(match request {
            AccountRequest::List { after } => {
                let rest = logins.iter().filter(|login| after.as_ref().is_none_or(|a| *login > a));
                AccountReply::Accounts(rest.map(summary).take(account::PAGE_MAX).collect())
            }
            AccountRequest::Get(login)
            | AccountRequest::Limit { login, .. }
            | AccountRequest::Reset(login) => {
                let set = state.limits.get(&login).copied().unwrap_or_default();
                AccountReply::Account(Box::new(AccountView {
                    summary: summary(&login),
                    set,
                    configured: AccountLimits::default(),
                    limits: Vec::new(),
                }))
            }
        })
    }

    fn act(&self, peer: &Arc<Peer>, request: ZoneRequest) -> Answer {
        let plain = |reply| Ok((reply, Vec::new()));
        match request {
            ZoneRequest::Create(spec) => self.create(*spec),
            ZoneRequest::List { after } => {
                let after = after.map(String::from).unwrap_or_default();
                let state = self.state();
                let rest = state.zones.iter().filter(|(name, _)| **name > after);
                plain(ZoneReply::Zones(
                    rest.map(|(_, zone)| zone.summary.clone()).take(PAGE_MAX).collect(),
                ))
            }
            ZoneRequest::Get(name) => self.goes(&name, None),
            ZoneRequest::Start(name) => self.goes(&name, Some(ZoneState::Running)),
            ZoneRequest::Stop { name, timeout_s } => {
                let to =
                    if timeout_s == 0 { ZoneState::Installed } else { ZoneState::ShuttingDown };
                self.goes(&name, Some(to))
            }
            ZoneRequest::Pause(name) => self.goes(&name, Some(ZoneState::Paused)),
            ZoneRequest::Resume(name) => self.goes(&name, Some(ZoneState::Running)),
            ZoneRequest::Update { name, change } => {
                let mut state = self.state();
                let zone = state.zones.get_mut(name.as_str()).ok_or_else(|| none(&name))?;
                zone.spec.carve = zone.spec.carve.changed(&change);
                plain(ZoneReply::Limits(limits(zone)))
            }
            ZoneRequest::Delete(name) => {
                self.state().zones.remove(name.as_str()).ok_or_else(|| none(&name))?;
                plain(ZoneReply::Done)
            }
            ZoneRequest::Limits(name) => {
                let state = self.state();
                let zone = state.zones.get(name.as_str()).ok_or_else(|| none(&name))?;
                plain(ZoneReply::Limits(limits(zone)))
            }
            ZoneRequest::Stats(name) => {
                self.goes(&name, None)?;
                plain(ZoneReply::Stats(Box::new(Stats { cpu_us: 7, ..Stats::default() })))
            }
            ZoneRequest::Why(name) => {
                self.goes(&name, None)?;
                plain(ZoneReply::Why(vec!["out of memory: 3 processes were killed".to_owned()]))
            }
            ZoneRequest::Exec { name, detached: true, .. } => {
                self.goes(&name, None)?;
                plain(ZoneReply::Session { session: 11 })
            }
            ZoneRequest::Exec { name, command, environment, terminal, detached: false } => {
                self.goes(&name, None)?;
                exec(peer, &command, environment, terminal)
            }
            ZoneRequest::Log(name) => {
                self.goes(&name, None)?;
                let state = self.state();
                let clone = |file: &File| OwnedFd::from(file.try_clone().unwrap());
                let files: Vec<_> = state.log.iter().map(clone).collect();
                Ok((ZoneReply::Log { files: u32::try_from(files.len()).unwrap() }, files))
            }
            ZoneRequest::Publish(_) => plain(ZoneReply::Published(Published {
                objects: 2,
                bytes: 9,
                ..Published::default()
            })),
            ZoneRequest::Images => plain(ZoneReply::Images(self.state().images.clone())),
            ZoneRequest::ImportImage { name, .. } => {
                self.tell(
                    Subject::Image(name),
                    What::Imported { sha256: "ab".repeat(32), bytes: 4096 },
                );
                plain(ZoneReply::Done)
            }
            ZoneRequest::Watch { .. } | ZoneRequest::RemoveImage(_) => plain(ZoneReply::Done),
        }
    }

    fn create(&self, spec: ZoneSpec) -> Answer {
        if self.state().zones.contains_key(spec.name.as_str()) {
            let message = format!("zone {} exists", spec.name);
            return Err(Refusal { code: "ZoneExists".to_owned(), message });
        }
        let view = view(spec);
        self.state().zones.insert(view.spec.name.to_string(), view.clone());
        let (from, to) = (ZoneState::Ready, ZoneState::Running);
        self.tell(Subject::Zone(view.spec.name.clone()), What::State { from, to, why: None });
        Ok((ZoneReply::Zone(Box::new(view)), Vec::new()))
    }

    fn goes(&self, name: &ZoneName, to: Option<ZoneState>) -> Answer {
        let mut state = self.state();
        let zone = state.zones.get_mut(name.as_str()).ok_or_else(|| none(name))?;
        if let Some(to) = to {
            zone.summary.state = to;
        }
        Ok((ZoneReply::Zone(Box::new(zone.clone())), Vec::new()))
    }
}

fn none(name: &ZoneName) -> Refusal {
    Refusal { code: "NoSuchZone".to_owned(), message: format!("there is no zone {name}") }
}

fn limits(zone: &ZoneView) -> Vec<Limit> {
    let asked = (u64::from(zone.spec.carve.memory_mib) << 20).to_string();
    vec![Limit { name: "memory.max".to_owned(), got: asked.clone(), asked }]
}

/// A zone that runs.
pub fn view(spec: ZoneSpec) -> ZoneView {
    let summary = ZoneSummary {
        name: spec.name.clone(),
        state: ZoneState::Running,
        login: spec.login.clone(),
        image: spec.image.clone(),
        state_ms: 5,
        memory_mib: spec.carve.memory_mib,
        memory_bytes: 4096,
        cpu_us: 7,
        processes: 1,
    };
    ZoneView {
        summary,
        spec,
        address: None,
        created_unix_ms: 1_795_336_352_000,
        restarts: 0,
        last_outcome: None,
    }
}

/// Runs a program of this machine, and says on the connection how it ended.
fn exec(
    peer: &Arc<Peer>,
    words: &[String],
    environment: Vec<(String, String)>,
    terminal: Option<WindowSize>,
) -> Answer {
    let mut command = Command::new(words.first().map_or("sh", String::as_str));
    command.args(words.iter().skip(1)).envs(environment);
    let mut fds = Vec::new();
    if let Some(size) = terminal {
        use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
        use rustix::termios::{Winsize, tcsetwinsize};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let (ws_row, ws_col) = (size.rows, size.columns);
        tcsetwinsize(&master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        fds.push(master);
    } else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    drop(command);
    if terminal.is_none() {
        fds.push(child.stdin.take().unwrap().into());
        fds.push(child.stdout.take().unwrap().into());
        fds.push(child.stderr.take().unwrap().into());
    }
    let peer = Arc::clone(peer);
    std::thread::spawn(move || {
        use std::os::unix::process::ExitStatusExt;
        let status = child.wait().unwrap();
        let outcome = match status.code() {
            Some(code) => Outcome::Exited { code: u8::try_from(code).unwrap() },
            None => Outcome::Signalled { signal: status.signal().unwrap() },
        };
        push(&peer, &ZonePush::SessionOver { session: 9, outcome });
    });
    Ok((ZoneReply::Session { session: 9 }, fds))
}

fn push(peer: &Peer, news: &ZonePush) {
    send(peer, &encode(Kind::Push, 0, news, 0).unwrap(), &[]);
}

/// Sends; whoever has gone misses it.
fn send(peer: &Peer, message: &[u8], fds: &[OwnedFd]) {
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights: &[_] = if raw.is_empty() { &[] } else { &rights };
    let _missed =
        sendmsg::<UnixAddr>(peer.0, &[IoSlice::new(message)], rights, MsgFlags::MSG_NOSIGNAL, None);
}
