//! The one loop of PID 1: it waits at one place, then hears signals, services, the control socket and the
//! power button, and acts out what [`crate::service`] and [`crate::shutdown`] decide.
//!
//! It never waits for a child and never ends: a turn that panics is reported and the next one begins.

use crate::console::Console;
use crate::control::Control;
use crate::logs::Verdict;
use crate::order::{self, After};
use crate::service::{self, Moment, State};
use crate::shutdown::{self, Shutdown};
use crate::unit::Unit;
use crate::{cgroup, keys, notice};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use sys::clock::since_boot_ms;
use sys::power::End;
use sys::process::{Child, Exit};
use sys::signal::{Signal, Signals};
use sys::wait::For;
use wire::service::{ServiceName, ServiceSpec};

/// How often what has no descriptor is looked at while the node ends: groups that must empty.
const LOOK_MS: u64 = 50;
/// The longest wait of a turn, so that a power button that appears late is found.
const TURN_MS_MAX: u64 = 10_000;
/// After this long people are told what a service that is not ready waits for, and each such time again.
const NAG_MS: u64 = 30_000;
/// The pause after a turn that failed, so that a lasting fault does not eat the machine.
const FAULT_PAUSE_MS: u64 = 500;
/// The most input devices that are watched for a power button.
const BUTTONS_MAX: usize = 16;
/// The most notices of one service that are heard in one turn.
const NOTICES_MAX: usize = 64;

/// Everything init holds while the node is up.
#[derive(Debug)]
pub struct Supervisor {
    pub(crate) console: Console,
    pub(crate) units: BTreeMap<ServiceName, Unit>,
    pub(crate) shutdown: Shutdown,
    pub(crate) control: Option<Control>,
    pub(crate) started_ms: u64,
    pub(crate) ready_ms: Option<u64>,
    signals: Signals,
    controllers: Vec<String>,
    pub(crate) after: After,
    pub(crate) unmounter: Option<Child>,
    buttons: Vec<File>,
}

/// What became ready in a wait.
#[derive(Debug, Clone)]
enum Source {
    Signals,
    Notices(ServiceName),
    Output(ServiceName),
    Listener,
    Client(usize),
    Button(usize),
    Console,
}

impl Supervisor {
    /// Takes over from the boot.
    #[must_use]
    pub fn new(
        console: Console,
        signals: Signals,
        specs: BTreeMap<ServiceName, ServiceSpec>,
        controllers: Vec<String>,
        started_ms: u64,
    ) -> Self {
        let after = specs.iter().map(|(name, spec)| (name.clone(), spec.after.clone())).collect();
        let unit = |(name, spec): (ServiceName, ServiceSpec)| {
            (name.clone(), Unit::new(name, spec, started_ms))
        };
        let mut this = Self {
            console,
            units: specs.into_iter().map(unit).collect(),
            shutdown: Shutdown::new(),
            control: None,
            started_ms,
            ready_ms: None,
            signals,
            controllers,
            after,
            unmounter: None,
            buttons: Vec::new(),
        };
        for (name, fault) in order::faults(&this.after) {
            this.console.say(&format!("{name} will not start: {fault}"));
        }
        match Control::open() {
            Ok(control) => this.control = Some(control),
            Err(error) => this.console.say(&format!("no control socket: {error}")),
        }
        this
    }

    /// Runs for ever.
    pub fn run(mut self) -> ! {
        loop {
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn()));
            let fault = match turn {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => format!("a turn of init failed: {error}"),
                Err(_) => "a turn of init panicked: this is a fault in init".to_owned(),
            };
            // Saying so may be what fails.
            let said = catch_unwind(AssertUnwindSafe(|| self.console.say(&fault)));
            drop(said);
            std::thread::sleep(std::time::Duration::from_millis(FAULT_PAUSE_MS));
        }
    }

    fn turn(&mut self) -> std::io::Result<()> {
        self.find_buttons();
        self.release();
        self.announce_ready();
        for source in self.wait()? {
            self.handle(source);
        }
        self.pass_time();
        self.advance_shutdown();
        Ok(())
    }

    fn wait(&self) -> std::io::Result<Vec<Source>> {
        let mut fds: Vec<(BorrowedFd<'_>, For)> = vec![(self.signals.as_fd(), For::Input)];
        let mut sources = vec![Source::Signals];
        for (name, unit) in &self.units {
            let (ear, output) = unit.watched();
            let both =
                [(ear, Source::Notices(name.clone())), (output, Source::Output(name.clone()))];
            for (fd, source) in both {
                if let Some(fd) = fd {
                    fds.push((fd, For::Input));
                    sources.push(source);
                }
            }
        }
        for (number, fd) in self.control.iter().flat_map(Control::watched).enumerate() {
            fds.push((fd, For::Input));
            sources.push(number.checked_sub(1).map_or(Source::Listener, Source::Client));
        }
        for (number, button) in self.buttons.iter().enumerate() {
            fds.push((button.as_fd(), For::Input));
            sources.push(Source::Button(number));
        }
        if let Some(terminal) = self.console.blocked() {
            fds.push((terminal.as_fd(), For::Output));
            sources.push(Source::Console);
        }
        let ready = sys::wait::wait(&fds, Some(self.timeout_ms()))?;
        let mut ready: Vec<_> = sources
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| *ready)
            .map(|(source, _)| source)
            .collect();
        // A client that is dropped moves those after it up: the last comes first.
        ready.sort_by_key(|source| match source {
            Source::Client(number) => usize::MAX - number,
            _ => 0,
        });
        Ok(ready)
    }

    fn timeout_ms(&self) -> u64 {
        let now_ms = since_boot_ms();
        let units = self.units.values();
        let deadlines = units.flat_map(|unit| [unit.service.deadline_ms(), Some(unit.nag_at_ms)]);
        let next_ms = deadlines.chain([self.shutdown.deadline_ms()]).flatten().min();
        let wait_ms = next_ms.map_or(TURN_MS_MAX, |next_ms| next_ms.saturating_sub(now_ms));
        wait_ms.min(if self.shutdown.has_begun() { LOOK_MS } else { TURN_MS_MAX })
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signals => self.hear_signals(),
            Source::Notices(name) => self.hear_notices(&name),
            Source::Output(name) => {
                let lines = self.units.get_mut(&name).map(Unit::read_output).unwrap_or_default();
                self.log(&name, lines);
            }
            Source::Listener => self.accept(),
            Source::Client(client) => self.serve(client),
            Source::Button(number) => self.read_button(number),
            Source::Console => self.console.flush(),
        }
    }

    fn hear_signals(&mut self) {
        loop {
            match self.signals.next() {
                Ok(Some(Signal::Child)) => self.reap(),
                Ok(Some(Signal::Interrupt)) => {
                    self.console.say("Ctrl-Alt-Del");
                    self.order_end(End::Restart);
                }
                // Nothing in the system has reason to send these; the control socket is for asking.
                Ok(Some(Signal::Terminate | Signal::Hangup | Signal::Other(_))) => {}
                Ok(None) => return,
                Err(error) => {
                    self.console.say(&format!("cannot read signals: {error}"));
                    return;
                }
            }
        }
    }

    fn reap(&mut self) {
        loop {
            match sys::process::reap() {
                Ok(Some((pid, exit))) => self.ended(pid, exit),
                Ok(None) => return,
                Err(error) => {
                    self.console.say(&format!("cannot reap: {error}"));
                    return;
                }
            }
        }
    }

    fn ended(&mut self, pid: i32, exit: Exit) {
        if self.unmounter.as_ref().is_some_and(|child| child.pid() == pid) {
            let unmounter = self.unmounter.take();
            if let Some(why) = unmounter.and_then(|child| child.not_run()) {
                self.console.say(&format!("filesystems stay mounted: {why}"));
            }
            self.end_event(shutdown::Event::Unmounted);
            return;
        }
        let mine = |unit: &&mut Unit| unit.child.as_ref().is_some_and(|child| child.pid() == pid);
        // An orphan that was given to init needs nothing but this.
        let Some(unit) = self.units.values_mut().find(mine) else { return };
        let name = unit.name.clone();
        // What it said before it ended counts; after this, nothing of it is left to be taken for a word
        // of its successor.
        self.hear_notices(&name);
        let Some(unit) = self.units.get_mut(&name) else { return };
        let lines = unit.end_output();
        let why = unit.child.take().and_then(|child| child.not_run()).map(|why| why.to_string());
        unit.status.clear();
        self.log(&name, lines);
        self.event(&name, service::Event::Ended(exit, why));
    }

    fn hear_notices(&mut self, name: &ServiceName) {
        for _ in 0..NOTICES_MAX {
            let Some(unit) = self.units.get_mut(name) else { return };
            let Some((bytes, fds)) = unit.hear() else { return };
            let notice = notice::parse(&bytes);
            if let Some(status) = notice.status {
                unit.status = status;
            }
            let refused = notice.store.and_then(|what| unit.store(what, fds));
            if let Some(refused) = refused {
                self.console.say(&format!("{name}: {refused}"));
            }
            if notice.ready {
                self.event(name, service::Event::Ready);
            }
        }
    }

    /// Keeps lines of a service and shows them on the console, as far as its rate allows.
    fn log(&mut self, name: &ServiceName, lines: Vec<String>) {
        let now_ms = since_boot_ms();
        let Some(unit) = self.units.get_mut(name) else { return };
        for line in lines {
            unit.ring.push(now_ms, line.clone());
            let Verdict::Pass(held) = unit.throttle.ask(now_ms) else { continue };
            if held > 0 {
                self.console.print(&format!("{name}: … {held} lines are in its log only"));
            }
            // The node's own stages are told by root's services under the node's name; and a service that
            // names itself need not be named twice.
            let own = unit.spec.user == 0 && line.starts_with("mobula: ");
            let named = line.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(": "));
            self.console.print(&if own || named { line } else { format!("{name}: {line}") });
        }
    }

    /// Starts what may start: everything it comes after is ready.
    fn release(&mut self) {
        if self.shutdown.has_begun() {
            return;
        }
        let is_up = |name: &ServiceName| {
            self.units
                .get(name)
                .is_some_and(|unit| matches!(unit.service.state, State::Ready | State::Stopped))
        };
        let waiting = self.units.values().filter(|unit| unit.service.state == State::Waiting);
        let free = waiting.filter(|unit| unit.spec.after.iter().all(is_up));
        let free: Vec<_> = free.map(|unit| unit.name.clone()).collect();
        for name in free {
            self.event(&name, service::Event::Released);
        }
    }

    /// Lets something happen to a service, and acts out what that means.
    pub(crate) fn event(&mut self, name: &ServiceName, event: service::Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(unit) = self.units.get_mut(name) else { return };
            let moment = Moment { now_ms: since_boot_ms(), random: random() };
            let before = unit.service.clone();
            let (after, actions) = service::step(before.clone(), &unit.policy, moment, event);
            let starts = matches!(after.state, State::Starting { .. });
            if before.state != after.state {
                unit.nag_at_ms = if starts { moment.now_ms + NAG_MS } else { u64::MAX };
            }
            unit.service = after;
            events.extend(actions.into_iter().filter_map(|action| self.act(name, action)));
        }
    }

    fn act(&mut self, name: &ServiceName, action: service::Action) -> Option<service::Event> {
        let unit = self.units.get_mut(name)?;
        let fault = match action {
            service::Action::Spawn => {
                return Some(match unit.spawn(&self.controllers) {
                    Ok(()) => service::Event::Started,
                    Err(error) => service::Event::NotStarted(error.to_string()),
                });
            }
            service::Action::Terminate => unit.child.as_ref().map(Child::terminate),
            service::Action::Kill => Some(cgroup::kill(unit.spec.cgroup.as_str())),
            service::Action::Say(text) => {
                self.console.say(&format!("{name}: {text}"));
                None
            }
        };
        if let Some(Err(error)) = fault {
            self.console.say(&format!("{name}: cannot signal it: {error}"));
        }
        None
    }

    fn announce_ready(&mut self) {
        let up = |unit: &Unit| matches!(unit.service.state, State::Ready | State::Stopped);
        if self.ready_ms.is_some() || self.shutdown.has_begun() || !self.units.values().all(up) {
            return;
        }
        let now_ms = since_boot_ms();
        self.ready_ms = Some(now_ms);
        let seconds = |ms: u64| format!("{}.{:02} s", ms / 1000, ms % 1000 / 10);
        self.console.say(&format!(
            "ready (kernel to init {}, init to ready {})",
            seconds(self.started_ms),
            seconds(now_ms.saturating_sub(self.started_ms))
        ));
    }

    fn pass_time(&mut self) {
        let now_ms = since_boot_ms();
        let late = |unit: &&Unit| unit.service.deadline_ms().is_some_and(|ms| now_ms >= ms);
        let late: Vec<_> = self.units.values().filter(late).map(|unit| unit.name.clone()).collect();
        for name in late {
            self.event(&name, service::Event::Clock);
        }
        for unit in self.units.values_mut().filter(|unit| now_ms >= unit.nag_at_ms) {
            unit.nag_at_ms = now_ms + NAG_MS;
            let since_s = now_ms.saturating_sub(unit.service.since_ms) / 1000;
            let status = if unit.status.is_empty() { "it says nothing" } else { &unit.status };
            self.console.say(&format!("{} is not ready after {since_s} s: {status}", unit.name));
        }
        if self.shutdown.has_begun() {
            self.end_event(shutdown::Event::Clock);
        }
    }

    fn find_buttons(&mut self) {
        if !self.buttons.is_empty() {
            return;
        }
        let Ok(devices) = std::fs::read_dir("/dev/input") else { return };
        let events = devices.flatten().map(|device| device.path()).filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("event"))
        });
        let open = events.filter_map(|path| sys::file::open_to_read(&path).ok());
        self.buttons = open.take(BUTTONS_MAX).collect();
    }

    fn read_button(&mut self, number: usize) {
        let mut bytes = [0; keys::EVENT_BYTES * 64];
        let Some(button) = self.buttons.get_mut(number) else { return };
        match button.read(&mut bytes) {
            Ok(got) if keys::power_pressed(&bytes[..got]) => {
                self.console.say("power button");
                self.order_end(End::Off);
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // A device that went away: look for those that are there now.
            Err(_) => self.buttons.clear(),
        }
    }
}

/// A number nobody can foresee: the standard library keys its hashes with random ones.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
