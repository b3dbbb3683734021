//! A person at zoned's socket: asks, is answered, hears how sessions end and what happens.

use crate::common::{PATIENCE, eventually};
use crate::machine::name;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use sys::seqpacket::{Socket, SocketError};
use sys::wait::{For, wait};
use wire::account::{AccountReply, AccountRequest};
use wire::frame::{Frame, Kind, Refusal, encode};
use wire::standing::{Event, WindowSize, ZonePush, ZoneReply, ZoneRequest, ZoneState, ZoneView};
use wire::zone::{Outcome, Reply, Request};

/// A connection to zoned.
pub struct Client {
    socket: Socket,
    next: u64,
    /// Pushes that came between answers.
    pub pushed: Vec<ZonePush>,
}

impl Client {
    /// Connects to whoever listens there.
    pub fn connect(path: &Path) -> Result<Self, SocketError> {
        Ok(Self { socket: Socket::connect(path)?, next: 0, pushed: Vec::new() })
    }

    pub fn ask(&mut self, request: ZoneRequest) -> Result<(ZoneReply, Vec<OwnedFd>), Refusal> {
        self.exchange(&Request::Zone(request)).map(|(reply, fds)| {
            let Reply::Zone(reply) = reply else { panic!("an answer to something else") };
            (reply, fds)
        })
    }

    /// Asks for something about accounts.
    pub fn account(&mut self, request: AccountRequest) -> Result<AccountReply, Refusal> {
        self.exchange(&Request::Account(request)).map(|(reply, _)| {
            let Reply::Account(reply) = reply else { panic!("an answer to something else") };
            reply
        })
    }

    fn exchange(&mut self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
        self.send(request);
        self.answer()
    }

    /// Asks, and does not wait for the answer.
    pub fn send(&mut self, request: &Request) {
        self.next += 1;
        let message = encode(Kind::Request, self.next, request, 0).unwrap();
        self.socket.send(&message, &[]).unwrap();
    }

    /// Whether there is something to be received.
    pub fn is_told(&self) -> bool {
        wait(&[(self.socket.as_fd(), For::Input)], Some(0)).unwrap()[0]
    }

    /// The answer to what was asked last.
    pub fn answer(&mut self) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
        loop {
            let (kind, id, body, fds) = self.receive();
            match kind {
                Kind::Push => self.pushed.push(serde_json::from_slice(&body).unwrap()),
                Kind::Reply => {
                    assert_eq!(id, self.next);
                    return Ok((serde_json::from_slice(&body).unwrap(), fds));
                }
                Kind::Refusal => {
                    assert_eq!(id, self.next);
                    return Err(serde_json::from_slice(&body).unwrap());
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn receive(&self) -> (Kind, u64, Vec<u8>, Vec<OwnedFd>) {
        let mut message = Vec::new();
        let fds = self.socket.recv(&mut message).unwrap().expect("zoned is there");
        let frame = Frame::parse(&message, fds.len()).unwrap();
        let (kind, id) = (frame.kind, frame.id);
        (kind, id, message[wire::frame::HEADER_BYTES..].to_vec(), fds)
    }

    pub fn zone(&mut self, request: ZoneRequest) -> ZoneView {
        match self.ask(request).unwrap().0 {
            ZoneReply::Zone(view) => *view,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub fn state(&mut self, zone: &str) -> ZoneState {
        self.zone(ZoneRequest::Get(name(zone))).summary.state
    }

    /// Waits for a zone to be in a state.
    pub fn reach(&mut self, zone: &str, state: ZoneState) {
        eventually(&format!("{zone} is {}", state.word()), || self.state(zone) == state);
    }

    /// As [`Self::account`], of a zoned that may be killed meanwhile.
    pub fn try_account(&mut self, request: AccountRequest) -> Result<(), ()> {
        self.next += 1;
        let message = encode(Kind::Request, self.next, &Request::Account(request), 0).unwrap();
        self.socket.send(&message, &[]).map_err(drop)?;
        let mut message = Vec::new();
        self.socket.recv(&mut message).map_err(drop)?.ok_or(()).map(drop)
    }

    /// As [`Self::ask`], of a zoned that may be killed meanwhile.
    pub fn try_ask(&mut self, request: ZoneRequest) -> Result<(), ()> {
        self.try_get(request).map(drop)
    }

    fn try_get(&mut self, request: ZoneRequest) -> Result<ZoneReply, ()> {
        self.next += 1;
        let message = encode(Kind::Request, self.next, &Request::Zone(request), 0).unwrap();
        self.socket.send(&message, &[]).map_err(drop)?;
        loop {
            let mut message = Vec::new();
            let fds = self.socket.recv(&mut message).map_err(drop)?.ok_or(())?;
            let frame = Frame::parse(&message, fds.len()).unwrap();
            // Events that are watched come in between.
            match frame.kind {
                Kind::Push => self.pushed.push(frame.body().unwrap()),
                _ => match frame.body() {
                    Ok(Reply::Zone(reply)) => return Ok(reply),
                    _ => return Err(()),
                },
            }
        }
    }

    pub fn try_state(&mut self, zone: &str) -> Option<ZoneState> {
        match self.try_get(ZoneRequest::Get(name(zone))) {
            Ok(ZoneReply::Zone(view)) => Some(view.summary.state),
            _ => None,
        }
    }

    pub fn try_reach(&mut self, zone: &str, state: ZoneState) -> Result<(), ()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.try_state(zone).ok_or(())?;
            if now == state {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "{zone} is {now:?} and not {state:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn create(&mut self, text: &str) -> ZoneView {
        let spec = serde_json::from_str(text).unwrap();
        self.zone(ZoneRequest::Create(Box::new(spec)))
    }

    /// Creates a zone with this command and waits until it runs.
    pub fn run(&mut self, zone: &str, script: &str) {
        let command = if script.is_empty() { vec![] } else { vec!["bash", "-c", script] };
        let spec = serde_json::json!({
            "name": zone, "login": "ann", "image": "base", "command": command,
        });
        self.create(&spec.to_string());
        self.reach(zone, ZoneState::Running);
    }

    pub fn begin(
        &mut self,
        zone: &str,
        script: &str,
        terminal: Option<WindowSize>,
    ) -> (u64, Vec<File>) {
        let words = ["bash", "-c", script].map(str::to_owned);
        let command = if script.is_empty() { vec![] } else { words.to_vec() };
        let request = ZoneRequest::Exec {
            name: name(zone),
            command,
            environment: vec![],
            terminal,
            detached: false,
        };
        let (reply, fds) = self.ask(request).unwrap();
        let ZoneReply::Session { session } = reply else { panic!("unexpected {reply:?}") };
        (session, fds.into_iter().map(File::from).collect())
    }

    /// Leaves a script running in a zone.
    pub fn detach(&mut self, zone: &str, script: &str) -> u64 {
        let command = ["bash", "-c", script].map(str::to_owned).to_vec();
        let (name, environment) = (name(zone), Vec::new());
        let request =
            ZoneRequest::Exec { name, command, environment, terminal: None, detached: true };
        let (reply, fds) = self.ask(request).unwrap();
        let ZoneReply::Session { session } = reply else { panic!("unexpected {reply:?}") };
        assert!(fds.is_empty());
        session
    }

    pub fn outcome(&mut self, session: u64) -> Outcome {
        loop {
            let over = |push: &ZonePush| matches!(push, ZonePush::SessionOver { session: s, .. } if *s == session);
            if let Some(at) = self.pushed.iter().position(over) {
                let ZonePush::SessionOver { outcome, .. } = self.pushed.remove(at) else {
                    panic!()
                };
                return outcome;
            }
            let (kind, _, body, _) = self.receive();
            assert_eq!(kind, Kind::Push);
            self.pushed.push(serde_json::from_slice(&body).unwrap());
        }
    }

    /// Runs a script in a zone; gives how it ended and what it wrote to stdout and stderr.
    pub fn exec(&mut self, zone: &str, script: &str) -> (Outcome, String) {
        let (session, files) = self.begin(zone, script, None);
        let [stdin, mut stdout, mut stderr] = <[File; 3]>::try_from(files).unwrap();
        drop(stdin);
        let (mut text, mut errors) = (String::new(), String::new());
        stdout.read_to_string(&mut text).unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        (self.outcome(session), text + &errors)
    }

    pub fn log(&mut self, zone: &str) -> String {
        let (_, fds) = self.ask(ZoneRequest::Log(name(zone))).unwrap();
        let mut bytes = Vec::new();
        for fd in fds {
            File::from(fd).read_to_end(&mut bytes).unwrap();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn events(&mut self, after: u64) -> Vec<Event> {
        self.ask(ZoneRequest::Watch { after }).unwrap();
        let mut events = Vec::new();
        while let Some(at) = self.pushed.iter().position(|p| matches!(p, ZonePush::Events(_))) {
            let ZonePush::Events(batch) = self.pushed.remove(at) else { panic!() };
            events.extend(batch);
        }
        if events.is_empty() {
            let (_, _, body, _) = self.receive();
            let ZonePush::Events(batch) = serde_json::from_slice(&body).unwrap() else { panic!() };
            events.extend(batch);
        }
        events
    }
}
