//! What a zone wrote to its `/out` becomes objects: when a person says so, when the zone itself does, and
//! when it stops. storaged makes them; what it is shown is the directory, read-only.
//!
//! Every publication is of the whole directory, and one that is there already is not made again: whoever
//! asks twice, or dies in between, has lost nothing.

use super::life::State;
use super::{Asker, Beside, Publication, Zone, refusal};
use crate::daemon::Daemon;
use nix::sys::stat::fstat;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use sys::mountfd::{self, Restrictions};
use sys::namespace;
use wire::frame::Refusal;
use wire::standing::{Published, Subject, What, ZoneName, ZoneReply};
use wire::task::Request;
use wire::zone::Order;

/// Who wants to know what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// A person.
    Person(Asker),
    /// The zone, by this ticket.
    Zone(u64),
    /// Nobody: the zone has stopped, and goes on when that is done.
    Nobody,
}

impl Zone {
    /// Whether it does not run, and what it wrote has yet to be looked at.
    pub(super) fn waits_to_publish(&self) -> bool {
        let idle = matches!(
            self.life.state,
            State::Installed | State::Waiting { .. } | State::Failed { .. }
        );
        idle && self.publication == Publication::Due
    }

    /// Whether all its processes are gone, and what they wrote is not published yet.
    pub(super) fn ends_publishing(&self) -> bool {
        self.life.state == State::Down && self.publication != Publication::Over
    }
}

impl Daemon {
    /// Has what a zone wrote to `/out` become objects.
    ///
    /// # Errors
    /// [`Refusal`]: it has no output, or storaged is not there.
    pub(super) fn publish(&mut self, name: &ZoneName, whom: Whom) -> Result<(), Refusal> {
        let Some(zone) = self.standing.zones.get(name) else { return Ok(()) };
        let spec = &zone.record.spec;
        let Some(output) = spec.output.clone() else {
            return Err(refusal("NoOutput", "the zone has no /out: it was created without output"));
        };
        let login = spec.login.clone();
        let number = zone.record.number;
        let out = self.standing.records.place(name).join(super::files::OUT);
        let folder = show_out(&out, number, self.store_user).map_err(|error| {
            refusal("Internal", format!("cannot show /out to storaged: {error}"))
        })?;
        let beside = Beside::Publish { zone: name.clone(), whom };
        if self.question(&Request::Publish { login, output }, beside, &[folder]) {
            Ok(())
        } else {
            Err(refusal("Unavailable", "storaged is not there: try again"))
        }
    }

    /// Publishes what zones wrote that do not run: zoned, or the node, ended before that was done.
    pub(super) fn publish_what_waits(&mut self) {
        let waiting = self.standing.restless().filter(|(_, zone)| zone.waits_to_publish());
        let waiting: Vec<ZoneName> = waiting.map(|(name, _)| name.clone()).collect();
        for name in waiting {
            if !self.link.has_room() || self.standing.closing {
                return;
            }
            if let Some(zone) = self.standing.zones.get_mut(&name) {
                zone.publication = Publication::Asked;
            }
            if let Err(refused) = self.publish(&name, Whom::Nobody) {
                self.publication_over(&name, Whom::Nobody, Err(refused));
            }
        }
    }

    /// A zone wishes that what it wrote is published.
    pub(super) fn wished(&mut self, name: &ZoneName, wish: u64) {
        let now_ms = self.now_ms();
        if let Some(zone) = self.standing.zones.get_mut(name) {
            zone.pace.wish(wish, now_ms);
            self.standing.restless.insert(name.clone());
        }
        self.grant_wishes();
    }

    /// Grants wishes of zones, the one that waits longest first.
    pub(super) fn grant_wishes(&mut self) {
        let now_ms = self.now_ms();
        while self.standing.may_grant() {
            let zones = self.standing.restless();
            let ready = zones.filter_map(|(name, zone)| Some((zone.pace.ready(now_ms)?, name)));
            let Some(name) = ready.min().map(|(_, name)| name.clone()) else { return };
            let ticket = self.standing.next_ticket;
            self.standing.next_ticket += 1;
            if let Some(zone) = self.standing.zones.get_mut(&name) {
                zone.pace.grant(ticket, now_ms);
            }
            if let Err(refused) = self.publish(&name, Whom::Zone(ticket)) {
                self.publication_over(&name, Whom::Zone(ticket), Err(refused));
            }
        }
    }

    pub(super) fn publication_over(
        &mut self,
        name: &ZoneName,
        whom: Whom,
        answer: Result<Published, Refusal>,
    ) {
        if let Ok(published) = &answer
            && (matches!(whom, Whom::Person(_)) || *published != Published::default())
        {
            let what = What::Published(published.clone());
            self.events.tell(Subject::Zone(name.clone()), what);
        }
        let now_ms = self.now_ms();
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        match whom {
            Whom::Person(asker) => {
                self.answer_zone(asker, answer.map(ZoneReply::Published), &[]);
            }
            Whom::Zone(ticket) => {
                if let Some(wish) = zone.pace.over(ticket, now_ms) {
                    let order = match answer {
                        Ok(published) => Order::Published { wish, published },
                        Err(refusal) => Order::NotPublished { wish, refusal },
                    };
                    self.order(name, &order, &[]);
                }
                self.grant_wishes();
            }
            Whom::Nobody => self.last_publication_over(name, answer.err()),
        }
    }

    /// What a zone wrote that does not run is published, or is not.
    fn last_publication_over(&mut self, name: &ZoneName, refused: Option<Refusal>) {
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        zone.publication = Publication::Over;
        if let Some(refused) = refused {
            zone.note(format!("its output was not published: {}", refused.message));
        }
        if zone.life.state == State::Down
            && let Some(event) = self.clear_zone(name)
        {
            self.zone_happens(name, event);
        }
    }

    /// storaged went away before it was done.
    pub(super) fn publication_lost(&mut self, name: &ZoneName, whom: Whom) {
        match whom {
            // It is asked again when it is back.
            Whom::Nobody => {
                if let Some(zone) = self.standing.zones.get_mut(name) {
                    zone.publication = Publication::Due;
                    self.standing.restless.insert(name.clone());
                }
            }
            Whom::Person(_) | Whom::Zone(_) => {
                let refused = refusal("Unavailable", "storaged went away: try again");
                self.publication_over(name, whom, Err(refused));
            }
        }
    }

    /// The node ends before all is published: the rest is when it is there again.
    pub(crate) fn leave_unpublished(&mut self) {
        let late: Vec<ZoneName> = self
            .standing
            .zones
            .iter_mut()
            .filter(|(_, zone)| zone.ends_publishing())
            .map(|(name, zone)| {
                zone.publication = Publication::Over;
                name.clone()
            })
            .collect();
        for name in late {
            eprintln!("zoned: zone {name}: its output is published when the node is back");
            if let Some(event) = self.clear_zone(&name) {
                self.zone_happens(&name, event);
            }
        }
    }
}

/// The directory, to be read by storaged and by nobody else, its owner shown as storaged's user.
fn show_out(out: &std::path::Path, number: u32, store_user: u32) -> io::Result<OwnedFd> {
    let folder = File::open(out)?;
    let owner = fstat(&folder)?;
    let zone = crate::slot::USER_BASE + number * crate::slot::USERS;
    if owner.st_uid != zone {
        return Err(io::Error::other(format!("it belongs to user {}", owner.st_uid)));
    }
    let mount = mountfd::copy(folder.as_fd(), c"")?;
    let view = namespace::owner_as(zone, zone, store_user)?;
    mountfd::map_owners(mount.as_fd(), view.as_fd(), Restrictions::READ_ONLY_DATA)?;
    // The descriptor of the mount itself cannot be read.
    Ok(File::open(format!("/proc/self/fd/{}", mount.as_raw_fd()))?.into())
}
