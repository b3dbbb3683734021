//! Requests of people about standing zones, and what they are answered.

use super::life::{Event, Refused};
use super::publish::Whom;
use super::turn::{Course, Happening, Told};
use super::{Zone, exec};
use crate::chain;
use crate::daemon::Daemon;
use crate::status::PeerId;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use wire::frame::{Kind, Refusal, encode};
use wire::session::Begin;
use wire::standing::{
    PAGE_MAX, SESSIONS_MAX, STOP_S_MAX, Subject, What, ZoneName, ZoneReply, ZoneRequest,
    check_command,
};
use wire::zone::{Execution, Order, Reply};

/// Who asked, and by which request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) peer: PeerId,
    pub(crate) request: u64,
}

type Answer = Result<ZoneReply, Refusal>;

pub(crate) fn refusal(code: &str, message: impl Into<String>) -> Refusal {
    Refusal { code: code.to_owned(), message: message.into() }
}

pub(super) fn no_such(name: &ZoneName) -> Refusal {
    refusal("NoSuchZone", format!("there is no zone {name}"))
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        refusal("WrongState", refused.to_string())
    }
}

impl Daemon {
    /// Does what is asked, and answers at once or when it is known.
    pub(crate) fn zone_request(&mut self, asker: Asker, request: ZoneRequest) {
        let answer = match request {
            // Answered when it is on disk, as are changes.
            ZoneRequest::Create(spec) => match self.create(asker, spec) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            ZoneRequest::Delete(name) => {
                return self.change(asker, &name, Event::Delete, Told::Done);
            }
            ZoneRequest::Start(name) => return self.change(asker, &name, Event::Start, Told::View),
            ZoneRequest::Stop { name, timeout_s } => {
                let within_ms = u64::from(timeout_s.min(STOP_S_MAX)) * 1000;
                return self.change(asker, &name, Event::Stop { within_ms }, Told::View);
            }
            ZoneRequest::Pause(name) => return self.change(asker, &name, Event::Pause, Told::View),
            ZoneRequest::Resume(name) => {
                return self.change(asker, &name, Event::Resume, Told::View);
            }
            ZoneRequest::RemoveImage(name) => return self.remove_image(asker, name),
            ZoneRequest::Update { name, change } => {
                return self.happens(&name, Happening::Update(asker, change));
            }
            ZoneRequest::Exec { name, command, environment, terminal, detached } => {
                let begin = Begin { command, environment, terminal, detached };
                return self.execute(asker, &name, begin);
            }
            ZoneRequest::Log(name) => return self.log(asker, &name),
            ZoneRequest::Publish(name) => match self.publish_for(asker, &name) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            other => self.plain_request(other),
        };
        self.answer_zone(asker, answer, &[]);
    }

    fn plain_request(&mut self, request: ZoneRequest) -> Answer {
        let now_ms = self.now_ms();
        match request {
            ZoneRequest::List { after } => Ok(ZoneReply::Zones(self.page(after.as_ref(), now_ms))),
            ZoneRequest::Get(name) => self.zone_view(&name),
            ZoneRequest::Limits(name) => Ok(ZoneReply::Limits(self.zone_limits(self.zone(&name)?))),
            ZoneRequest::Stats(name) => {
                Ok(ZoneReply::Stats(Box::new(self.zone_stats(self.zone(&name)?))))
            }
            ZoneRequest::Why(name) => {
                let zone = self.zone(&name)?;
                let mut why = zone.why(now_ms, &self.zone_stats(zone), self.admission.held());
                let account = self.cgroups.account_stats(zone.record.account);
                why.extend(zone.held_back_by_account(&account));
                Ok(ZoneReply::Why(why))
            }
            request @ (ZoneRequest::Images | ZoneRequest::ImportImage { .. }) => {
                self.image_request(request)
            }
            ZoneRequest::Create(_)
            | ZoneRequest::RemoveImage(_)
            | ZoneRequest::Delete(_)
            | ZoneRequest::Start(_)
            | ZoneRequest::Stop { .. }
            | ZoneRequest::Pause(_)
            | ZoneRequest::Resume(_)
            | ZoneRequest::Update { .. }
            | ZoneRequest::Publish(_)
            | ZoneRequest::Exec { .. }
            | ZoneRequest::Log(_)
            | ZoneRequest::Watch { .. } => {
                Err(refusal("Internal", "the request came to the wrong place"))
            }
        }
    }

    /// Sends an answer with descriptors beside it.
    pub(crate) fn answer_zone(&mut self, asker: Asker, answer: Answer, fds: &[BorrowedFd<'_>]) {
        let message = match answer {
            Ok(reply) => encode(Kind::Reply, asker.request, &Reply::Zone(reply), fds.len()),
            Err(refusal) => encode(Kind::Refusal, asker.request, &refusal, 0),
        };
        match message {
            Ok(message) => self.clients.send(asker.peer, &message, fds),
            Err(error) => eprintln!("zoned: an answer is lost: {}", chain(&error)),
        }
    }

    fn zone(&self, name: &ZoneName) -> Result<&Zone, Refusal> {
        self.standing.zones.get(name).ok_or_else(|| no_such(name))
    }

    pub(super) fn zone_view(&self, name: &ZoneName) -> Answer {
        Ok(ZoneReply::Zone(Box::new(self.zone(name)?.view(self.now_ms()))))
    }

    fn page(&self, after: Option<&ZoneName>, now_ms: u64) -> Vec<wire::standing::ZoneSummary> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let zones = self.standing.zones.range::<ZoneName, _>((from, Bound::Unbounded));
        zones.take(PAGE_MAX).map(|(_, zone)| zone.summary(now_ms)).collect()
    }

    fn change(&mut self, asker: Asker, name: &ZoneName, event: Event, told: Told) {
        self.happens(name, Happening::Course(Course::asked(event, asker, told)));
    }

    fn publish_for(&mut self, asker: Asker, name: &ZoneName) -> Result<(), Refusal> {
        self.zone(name)?;
        self.publish(name, Whom::Person(asker))
    }

    fn execute(&mut self, asker: Asker, name: &ZoneName, begin: Begin) {
        match self.begin_session(asker, name, begin) {
            Ok((session, ends)) => {
                let fds: Vec<BorrowedFd<'_>> = ends.iter().map(AsFd::as_fd).collect();
                self.answer_zone(asker, Ok(ZoneReply::Session { session }), &fds);
            }
            Err(refusal) => self.answer_zone(asker, Err(refusal), &[]),
        }
    }

    fn begin_session(
        &mut self,
        asker: Asker,
        name: &ZoneName,
        begin: Begin,
    ) -> Result<(u64, Vec<OwnedFd>), Refusal> {
        let Begin { command, environment, terminal, detached } = begin;
        let invalid = |why: String| refusal("InvalidCommand", why);
        check_command(&command, &environment).map_err(|error| invalid(error.to_string()))?;
        if detached && (terminal.is_some() || command.is_empty()) {
            return Err(invalid(
                "what is left running is a command, without a terminal".to_owned(),
            ));
        }
        let zone = self.standing.zones.get_mut(name).ok_or_else(|| no_such(name))?;
        if !zone.takes_sessions() {
            let state = zone.life.shown().word();
            let message = format!("the zone is {state}: only a running one can run more");
            return Err(refusal("WrongState", message));
        }
        if zone.sessions.len() >= SESSIONS_MAX {
            let message = format!("{SESSIONS_MAX} sessions run in the zone: end one first");
            return Err(refusal("TooMany", message));
        }
        let ends = exec::prepare(zone, &self.launcher).and_then(|()| match terminal {
            _ if detached => Ok(exec::Ends::default()),
            Some(size) => exec::terminal(zone, size),
            None => exec::pipes(),
        });
        let ends = ends.map_err(|error| refusal("Internal", format!("no terminal: {error}")))?;
        let session = self.standing.next_session;
        self.standing.next_session += 1;
        zone.sessions.insert(session, (!detached).then_some(asker.peer));
        let terminal = terminal.is_some();
        let execution = Execution { session, command, environment, terminal, detached };
        let fds: Vec<BorrowedFd<'_>> = ends.zone.iter().map(AsFd::as_fd).collect();
        self.events.tell(Subject::Zone(name.clone()), What::SessionBegan { session });
        self.order(name, &Order::Exec(Box::new(execution)), &fds);
        Ok((session, ends.person))
    }

    fn log(&mut self, asker: Asker, name: &ZoneName) {
        match self.open_log(name) {
            Ok(files) => {
                let fds: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
                let count = u32::try_from(fds.len()).unwrap_or(u32::MAX);
                self.answer_zone(asker, Ok(ZoneReply::Log { files: count }), &fds);
            }
            Err(refusal) => self.answer_zone(asker, Err(refusal), &[]),
        }
    }

    fn open_log(&self, name: &ZoneName) -> Result<Vec<OwnedFd>, Refusal> {
        self.zone(name)?;
        let place = self.standing.records.place(name);
        let failed = |error: std::io::Error| refusal("Internal", format!("its log: {error}"));
        let mut files = Vec::new();
        for log in super::files::LOGS {
            let mut how = File::options();
            how.read(true).custom_flags(libc::O_NOFOLLOW);
            match how.open(place.join(log)) {
                Ok(file) => files.push(file),
                // It was never made: the zone has said nothing.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if let [first, second] = &files[..] {
            let sizes =
                [first.metadata().map_err(failed)?.len(), second.metadata().map_err(failed)?.len()];
            files.rotate_left(crate::inside::log::older(sizes));
        }
        Ok(files.into_iter().map(OwnedFd::from).collect())
    }
}
