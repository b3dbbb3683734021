//! What standing zones ask of storaged: accounts and manifests of the prefixes they show, and, by
//! [`super::publish`], the publication of what they wrote. Answers come later; a zone that waits for one is looked
//! after until it has come.
//!
//! storaged holds a manifest's objects until it is told that the manifest is not mounted any more. Which ones are
//! mounted is noted in a file for the next zoned; what nobody has noted is released after every Hello.

use super::life::Event;
use super::publish::Whom;
use super::{Asker, refusal};
use crate::chain;
use crate::daemon::{Asked, Daemon};
use crate::images::Awaits;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use wire::account::AccountRequest;
use wire::frame::Refusal;
use wire::standing::{ZoneName, ZoneSpec};
use wire::task::{ACCOUNTS_MAX, DamagedFile, MANIFESTS_MAX, ManifestId, Reply, Request};
use wire::zone::{OBJECTS, shown_path};

/// What hangs on an answer.
#[derive(Debug)]
pub(crate) enum Beside {
    /// A zone that is to be.
    Account { asker: Asker, spec: Box<ZoneSpec> },
    /// Someone who asks about an account that is not known yet.
    Number { asker: Asker, request: Box<AccountRequest> },
    /// Someone who asks for all accounts.
    Accounts { asker: Asker },
    /// A zone that is to show a prefix.
    Manifest { zone: ZoneName, prefix: String },
    /// The list of those that are held.
    Manifests,
    /// Nothing.
    Release,
    /// Zones that show the objects which have their bytes in a damaged file.
    Damaged { file: DamagedFile },
    /// A zone whose output is being published, and for whom.
    Publish { zone: ZoneName, whom: Whom },
}

/// What a start waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Waits {
    /// What it shows of the store.
    #[default]
    Objects,
    /// What is left of it to be gone.
    Leftover,
    /// Its image.
    Image(Awaits),
    /// The node, which is short of something.
    Node,
}

/// Prefixes that a zone waits for before it starts, and those that have come.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The next is the last.
    pub(super) wanted: Vec<String>,
    pub(super) asked: bool,
    /// For what now.
    pub(super) waits: Waits,
    pub(super) mounts: Vec<(String, OwnedFd)>,
    pub(super) manifests: Vec<ManifestId>,
    /// Bytes of the objects in them.
    pub(super) object_bytes: u64,
}

impl Daemon {
    /// Asks for something; false if that can't be done now.
    pub(crate) fn question(&mut self, request: &Request, beside: Beside, fds: &[OwnedFd]) -> bool {
        if !self.link.has_room() {
            return false;
        }
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        match self.link.ask_with(request, Asked::Standing(beside), &fds) {
            Ok(()) => true,
            Err((error, _)) => {
                self.lose_link(&chain(&error));
                false
            }
        }
    }

    pub(super) fn ask_account(&mut self, asker: Asker, spec: ZoneSpec) -> bool {
        let request = Request::Account { login: spec.login.clone() };
        self.question(&request, Beside::Account { asker, spec: Box::new(spec) }, &[])
    }

    /// Asks for the number of the account that a request is about.
    pub(crate) fn ask_number(&mut self, asker: Asker, about: AccountRequest) -> bool {
        let Some(login) = about.login() else { return false };
        let request = Request::Account { login: login.as_str().to_owned() };
        self.question(&request, Beside::Number { asker, request: Box::new(about) }, &[])
    }

    /// Asks for all accounts, from there on.
    pub(crate) fn ask_accounts(&mut self, asker: Asker, after: Option<String>) -> bool {
        self.question(&Request::Accounts { after }, Beside::Accounts { asker }, &[])
    }

    /// Asks for the next prefix of a zone that is being started.
    pub(super) fn ask_manifest(&mut self, name: &ZoneName, prefix: String) -> bool {
        let Some(zone) = self.standing.zones.get(name) else { return false };
        let login = zone.record.spec.login.clone();
        let project = crate::slot::PROJECT_BASE + zone.record.number;
        let request = Request::Manifest { login, prefix: prefix.clone(), project };
        self.question(&request, Beside::Manifest { zone: name.clone(), prefix }, &[])
    }

    /// Asks what storaged holds for us, from there on.
    pub(crate) fn ask_manifests(&mut self, after: Option<ManifestId>) {
        self.question(&Request::Manifests { after }, Beside::Manifests, &[]);
    }

    /// Lets manifests go; those that storaged does not hear of go after the next Hello.
    pub(super) fn release(&mut self, manifests: &[ManifestId]) {
        for some in manifests.chunks(MANIFESTS_MAX) {
            let request = Request::Release { manifests: some.to_vec() };
            if !self.question(&request, Beside::Release, &[]) {
                return;
            }
        }
    }

    /// storaged has answered; false if that is no answer to what was asked.
    pub(crate) fn standing_answered(
        &mut self,
        beside: Beside,
        reply: Reply,
        fds: Vec<OwnedFd>,
    ) -> bool {
        match (beside, reply) {
            (Beside::Account { asker, spec }, Reply::Account { id }) => {
                self.account_known(asker, *spec, Ok(id));
            }
            (Beside::Number { asker, request }, Reply::Account { id }) => {
                self.number_known(asker, &request, Ok(id));
            }
            (Beside::Accounts { asker }, Reply::Accounts(accounts)) => {
                accounts.iter().for_each(|(login, number)| self.learn_account(login, *number));
                let last = accounts.last().filter(|_| accounts.len() >= ACCOUNTS_MAX);
                let more =
                    last.is_some_and(|(login, _)| self.ask_accounts(asker, Some(login.clone())));
                if !more {
                    self.accounts_known(asker);
                }
            }
            (
                Beside::Manifest { zone, prefix },
                Reply::Manifest { manifest, verity, object_bytes, .. },
            ) => {
                self.manifest_came((&zone, &prefix), manifest, object_bytes, verity, fds);
            }
            (Beside::Manifests, Reply::Manifests(held)) => self.manifests_held(&held),
            (Beside::Release, Reply::Released) => {}
            (Beside::Damaged { .. }, Reply::Damaged { objects }) => self.objects_damaged(&objects),
            (Beside::Publish { zone, whom }, Reply::Published(published)) => {
                self.publication_over(&zone, whom, Ok(published));
            }
            (beside, _) => {
                self.standing_unanswered(beside);
                return false;
            }
        }
        true
    }

    /// storaged will not do it.
    pub(crate) fn standing_refused(&mut self, beside: Beside, refused: &Refusal) {
        match beside {
            Beside::Account { asker, spec } => {
                self.account_known(asker, *spec, Err(refused.clone()));
            }
            Beside::Number { asker, request } => {
                self.number_known(asker, &request, Err(refused.clone()));
            }
            Beside::Accounts { asker } => self.accounts_known(asker),
            Beside::Manifest { zone, prefix } => {
                let why = format!("storaged does not show {prefix}: {}", refused.message);
                self.not_shown(&zone, why);
            }
            Beside::Publish { zone, whom } => {
                self.publication_over(&zone, whom, Err(refused.clone()));
            }
            Beside::Damaged { file } => {
                eprintln!("zoned: storaged does not say whose {file:?} is: {}", refused.message);
                self.damage_unknown(file);
            }
            Beside::Manifests | Beside::Release => {
                eprintln!("zoned: storaged releases no manifests: {}", refused.message);
            }
        }
    }

    /// The connection has ended before an answer came.
    pub(crate) fn standing_unanswered(&mut self, beside: Beside) {
        let away = || refusal("Unavailable", "storaged went away: try again");
        match beside {
            Beside::Account { asker, spec } => self.account_known(asker, *spec, Err(away())),
            Beside::Number { asker, request } => self.number_known(asker, &request, Err(away())),
            Beside::Accounts { asker } => self.accounts_known(asker),
            Beside::Manifest { zone, prefix: _ } => {
                // It is asked again when storaged is back.
                if let Some(zone) = self.standing.zones.get_mut(&zone)
                    && let Some(pending) = &mut zone.pending
                {
                    pending.asked = false;
                }
            }
            Beside::Publish { zone, whom } => self.publication_lost(&zone, whom),
            Beside::Damaged { file } => self.damage_unknown(file),
            Beside::Manifests | Beside::Release => {}
        }
    }

    fn manifest_came(
        &mut self,
        (name, prefix): (&ZoneName, &str),
        manifest: ManifestId,
        object_bytes: u64,
        verity: bool,
        fds: Vec<OwnedFd>,
    ) {
        let wants = |zone: &super::Zone| zone.pending.as_ref().is_some_and(|p| p.asked);
        if !self.standing.zones.get(name).is_some_and(wants) {
            return self.release(&[manifest]);
        }
        let mount = match <[OwnedFd; 2]>::try_from(fds) {
            Ok([file, objects]) => self
                .standing
                .workbench
                .overlay(file.as_fd(), objects.as_fd(), verity)
                .map_err(|error| chain(&error)),
            Err(fds) => Err(format!("{} descriptors came with its manifest", fds.len())),
        };
        let mount = match mount {
            Ok(mount) => mount,
            Err(why) => {
                self.release(&[manifest]);
                return self.not_shown(name, format!("cannot show {prefix}: {why}"));
            }
        };
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        let Some(pending) = &mut zone.pending else { return };
        pending.asked = false;
        pending.wanted.pop();
        pending.manifests.push(manifest);
        pending.object_bytes = pending.object_bytes.saturating_add(object_bytes);
        pending.mounts.push((shown_path(OBJECTS, prefix), mount));
        if let Some(event) = self.go_on_starting(name) {
            self.zone_happens(name, event);
        }
    }

    fn not_shown(&mut self, name: &ZoneName, why: String) {
        if self.standing.zones.get(name).is_some_and(|zone| zone.pending.is_some()) {
            self.drop_pending(name);
            self.zone_happens(name, Event::NotStarted(why));
        }
    }

    /// What was got for a start that does not happen.
    pub(super) fn drop_pending(&mut self, name: &ZoneName) {
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        if let Some(pending) = zone.pending.take() {
            drop(pending.mounts);
            self.release(&pending.manifests);
        }
    }

    fn manifests_held(&mut self, held: &[ManifestId]) {
        let known: BTreeSet<ManifestId> = self.standing.manifests().collect();
        let unknown: Vec<ManifestId> =
            held.iter().copied().filter(|one| !known.contains(one)).collect();
        self.release(&unknown);
        if held.len() >= MANIFESTS_MAX {
            self.ask_manifests(held.last().copied());
        }
    }
}
