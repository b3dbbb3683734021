//! What first processes of standing zones say, and what is said to them.
//!
//! zone-init has no privilege left when a tenant's first program runs; what comes from it is still taken
//! as words of a stranger: it can hurt its own zone at most.

use super::life::{Event, State};
use crate::chain;
use crate::daemon::{Daemon, WORDS_A_TURN};
use crate::failpoint;
use std::os::fd::{AsFd, BorrowedFd};
use sys::seqpacket::{RecvError, SendError};
use wire::frame::{Frame, Kind, encode};
use wire::standing::{Subject, What, ZoneName, ZonePush};
use wire::zone::{Order, Outcome, Report};

impl Daemon {
    /// Gives an order to a zone's first process; one that does not take it is killed.
    pub(super) fn order(&mut self, name: &ZoneName, order: &Order, fds: &[BorrowedFd<'_>]) {
        let Some(body) = self.standing.zones.get(name).and_then(|zone| zone.body.as_ref()) else {
            return;
        };
        let sent = match encode(Kind::Push, 0, order, fds.len()) {
            Ok(message) => body.control.send(&message, fds),
            Err(error) => return eprintln!("zoned: zone {name}: {}", chain(&error)),
        };
        match sent {
            // It is ending: that will be seen by its pidfd.
            Ok(()) | Err(SendError::Closed) => {}
            Err(error) => {
                let why = format!("its first process takes no orders: {}", chain(&error));
                self.zone_happens(name, Event::Rubbish(why));
            }
        }
    }

    /// Takes in what a zone's first process has said: all of it, unless it goes on saying more.
    pub(crate) fn hear_standing(&mut self, number: u32) {
        let Some(name) = self.standing.by_number.get(&number).cloned() else { return };
        let mut message = Vec::new();
        for _ in 0..WORDS_A_TURN {
            let Some(zone) = self.standing.zones.get_mut(&name) else { return };
            let Some(body) = zone.body.as_mut().filter(|body| body.listening) else { return };
            let report = match body.control.recv(&mut message) {
                Ok(Some(fds)) => Frame::parse(&message, fds.len())
                    .and_then(|frame| frame.body())
                    .map_err(|error| chain(&error)),
                Ok(None) => {
                    body.listening = false;
                    return self.standing.ears.ignore(body.control.as_fd());
                }
                Err(RecvError::Empty) => return,
                Err(error) => Err(chain(&error)),
            };
            match report {
                Ok(report) => self.reported(&name, report),
                Err(why) => {
                    body.listening = false;
                    self.standing.ears.ignore(body.control.as_fd());
                    let why = format!("its first process spoke nonsense: {why}");
                    return self.zone_happens(&name, Event::Rubbish(why));
                }
            }
        }
    }

    fn reported(&mut self, name: &ZoneName, report: Report) {
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        match report {
            Report::Started => {
                failpoint::hit("started");
                self.zone_happens(name, Event::Started);
            }
            Report::Restarted { outcome } => {
                zone.restarts = zone.restarts.saturating_add(1);
                zone.last_outcome = Some(outcome.clone());
                self.command_ended(name, outcome, true);
            }
            Report::SessionOver { session, outcome } => self.session_over(name, session, outcome),
            Report::Standing { restarts, last_outcome, sessions } => {
                zone.restarts = restarts;
                zone.last_outcome = last_outcome;
                // Whoever waited for them waited at an earlier zoned.
                for session in sessions {
                    self.order(name, &Order::EndSession { session }, &[]);
                }
                // It has its plan, or it would not be here to say so.
                self.zone_happens(name, Event::Started);
            }
            // Said again, because it was asked who it is: it was heard already.
            Report::Over(_) if matches!(zone.life.state, State::Ending { .. }) => {}
            Report::Over(outcome) => {
                failpoint::hit("over");
                let fault = match &outcome {
                    Outcome::Broken { message } | Outcome::InitFailed { message } => {
                        Some(message.clone())
                    }
                    Outcome::Exited { .. } | Outcome::Signalled { .. } => None,
                };
                zone.last_outcome = Some(outcome.clone());
                if !zone.record.spec.command.is_empty() {
                    self.command_ended(name, outcome, false);
                }
                self.zone_happens(name, Event::Over(fault));
            }
            Report::Publish { wish } => self.wished(name, wish),
            Report::MoreInputs => {
                let why = "its first process speaks as a task's does".to_owned();
                self.zone_happens(name, Event::Rubbish(why));
            }
        }
    }

    fn command_ended(&mut self, name: &ZoneName, outcome: Outcome, restarted: bool) {
        if let Some(zone) = self.standing.zones.get_mut(name)
            && outcome != (Outcome::Exited { code: 0 })
        {
            zone.note(format!("its command {}", super::view::words(&outcome)));
        }
        self.events.tell(Subject::Zone(name.clone()), What::Ended { outcome, restarted });
    }

    fn session_over(&mut self, name: &ZoneName, session: u64, outcome: Outcome) {
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        // One that was given up already, or that never was.
        let Some(peer) = zone.sessions.remove(&session) else { return };
        let what = What::SessionEnded { session, outcome: outcome.clone() };
        self.events.tell(Subject::Zone(name.clone()), what);
        let Some(peer) = peer else { return };
        match encode(Kind::Push, 0, &ZonePush::SessionOver { session, outcome }, 0) {
            Ok(message) => self.clients.send(peer, &message, &[]),
            Err(error) => eprintln!("zoned: {}", chain(&error)),
        }
    }

    /// Sessions of a zone that is gone are over, whether it said so or not.
    pub(super) fn end_sessions(&mut self, name: &ZoneName) {
        let sessions: Vec<u64> = match self.standing.zones.get(name) {
            Some(zone) => zone.sessions.keys().copied().collect(),
            None => return,
        };
        let outcome = Outcome::Signalled { signal: libc::SIGKILL };
        sessions.into_iter().for_each(|one| self.session_over(name, one, outcome.clone()));
    }

    /// A peer is gone: nobody waits for its sessions any more.
    pub(crate) fn abandon_sessions(&mut self, peer: crate::status::PeerId) {
        let mut theirs: Vec<(ZoneName, u64)> = Vec::new();
        for (name, zone) in &mut self.standing.zones {
            for (session, owner) in &mut zone.sessions {
                if *owner == Some(peer) {
                    *owner = None;
                    theirs.push((name.clone(), *session));
                }
            }
        }
        for (name, session) in theirs {
            self.order(&name, &Order::EndSession { session }, &[]);
        }
    }
}
