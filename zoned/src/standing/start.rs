//! Starting a standing zone: what [`crate::zone`] does for a task's.

use super::files::{LOGS, OUT};
use super::life::Event;
use super::storaged::Waits;
use super::turn::Turn;
use super::{Body, Note, Pending, Publication, Zone, store};
use crate::carve::{Cgroup, CgroupError, Place};
use crate::chain;
use crate::daemon::Daemon;
use crate::failpoint;
use crate::images::ImageError;
use crate::import::configuration::Configuration;
use crate::manifest;
use crate::meter::Key;
use crate::network::NetworkError;
use crate::slot::{Slot, SlotError};
use crate::zone::{SEARCH_PATH, StartError};
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use sys::clone::{kill, reap};
use sys::mountfd::{self, Restrictions};
use sys::seqpacket::Socket;
use thiserror::Error;
use wire::frame::{Kind, encode};
use wire::standing::{ZoneName, ZoneSpec};
use wire::zone::{OUTPUT, Order, Plan, StandingPlan};

/// Files that a zone may hold for each MiB of its scratch space; an inode takes about 1 KiB.
const FILES_PER_MIB: u64 = 128;
const MIB: u64 = 1 << 20;
/// How long what is left of a zone may take to be gone when it was killed, before its start is given up for now.
const LEFT_MS_MAX: u64 = 60_000;

/// Why a zone was not started.
#[derive(Debug, Error)]
enum NotStarted {
    #[error("its image cannot be used")]
    Image(#[from] ImageError),
    #[error("its namespaces cannot be made")]
    Slot(#[from] SlotError),
    #[error("its cgroup cannot be made")]
    Cgroup(#[from] CgroupError),
    #[error("its network cannot be made")]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot {act}")]
    Call { act: &'static str, source: io::Error },
    #[error("it does not fit a message")]
    Frame(#[from] wire::frame::FrameError),
    #[error("its first process takes no orders")]
    Send(#[from] sys::seqpacket::SendError),
}

fn call<T>(act: &'static str, result: io::Result<T>) -> Result<T, NotStarted> {
    result.map_err(|source| NotStarted::Call { act, source })
}

impl Daemon {
    /// Starts a zone, once what it shows is there; that its command runs is told by its first process.
    pub(super) fn start_zone(&mut self, name: &ZoneName) -> Option<Event> {
        let zone = self.standing.zones.get_mut(name)?;
        (zone.restarts, zone.last_outcome) = (0, None);
        let prefixes = zone.record.spec.mounts.iter().map(|mount| mount.prefix.as_str());
        let wanted = manifest::outermost(prefixes).into_iter().map(str::to_owned).collect();
        zone.pending = Some(Pending { wanted, ..Pending::default() });
        self.images.ask_again(&zone.record.spec.image);
        self.go_on_starting(name)
    }

    /// Asks for the next thing that a start waits for, or starts.
    pub(super) fn go_on_starting(&mut self, name: &ZoneName) -> Option<Event> {
        let zone = self.standing.zones.get_mut(name)?;
        let pending = zone.pending.as_mut()?;
        // What the disk is about to take in may be that it is not to run: it is looked at again then.
        if pending.asked || matches!(zone.turn, Turn::OnDisk(_)) {
            return None;
        }
        if let Some(prefix) = pending.wanted.last().cloned() {
            let asked = self.ask_manifest(name, prefix);
            if let Some(pending) = &mut self.standing.zones.get_mut(name)?.pending {
                pending.asked = asked;
            }
            return None;
        }
        match self.start_waits(name) {
            Ok(None) => {}
            Ok(Some(waits)) => {
                self.standing.zones.get_mut(name)?.pending.as_mut()?.waits = waits;
                return None;
            }
            Err(why) => {
                self.drop_pending(name);
                return Some(Event::NotStarted(why));
            }
        }
        let zone = self.standing.zones.get_mut(name)?;
        let pending = zone.pending.take()?;
        let number = zone.record.number;
        let (manifests, object_bytes) = (pending.manifests.clone(), pending.object_bytes);
        match self.try_start(name, pending) {
            Ok(body) => {
                let zone = self.standing.zones.get_mut(name)?;
                zone.body = Some(body);
                zone.publication = zone.publication_due();
                let (whose, reserved) = (zone.whose(), zone.reserved());
                let nothing = wire::standing::Stats::default();
                let key = Key::Zone(name.clone());
                self.meter.begin(key.clone(), whose, reserved, &nothing);
                self.meter.delivered(&key, object_bytes);
                self.counts.started += 1;
                failpoint::hit("told");
                self.listen_for_damage();
                None
            }
            Err(error) => {
                store::forget(number);
                self.standing.notes.remove(name);
                self.release(&manifests);
                Some(Event::NotStarted(chain(&error)))
            }
        }
    }

    /// What a start waits for that has all that it shows; why it comes to nothing, if it does.
    fn start_waits(&mut self, name: &ZoneName) -> Result<Option<Waits>, String> {
        let Some(zone) = self.standing.zones.get(name) else { return Ok(None) };
        let waited_ms = self.now_ms().saturating_sub(zone.life.since_ms);
        let image = &zone.record.spec.image;
        Ok(if self.has_left_over(name) {
            if waited_ms > LEFT_MS_MAX {
                let why = "what an earlier start left was killed and is not gone in a minute";
                return Err(why.to_owned());
            }
            Some(Waits::Leftover)
        } else if let Some(awaits) = self.images.awaits(image) {
            Some(Waits::Image(awaits))
        } else if self.hold_start(name) {
            Some(Waits::Node)
        } else {
            None
        })
    }

    fn try_start(&mut self, name: &ZoneName, pending: Pending) -> Result<Body, NotStarted> {
        let zone = &self.standing.zones[name];
        let spec = zone.record.spec.clone();
        let (number, account) = (zone.record.number, zone.record.account);
        let image = self.images.get(&spec.image)?;
        let said = self.images.configuration(&spec.image)?.clone();
        let place = self.standing.records.place(name);
        let logs = call("open its log", open_logs(&place))?;
        let Pending { mut mounts, manifests, .. } = pending;
        if spec.output.is_some() {
            let out = call("mount its /out", mount_out(&place.join(OUT)))?;
            mounts.push((OUTPUT.to_owned(), out));
        }
        let paths = mounts.iter().map(|(path, _)| path.clone()).collect();
        let mut mounts: Vec<OwnedFd> = mounts.into_iter().map(|(_, mount)| mount).collect();
        if spec.output.is_some() {
            mounts.push(call("mount mobula-publish", mount_program(&self.publish_program))?);
        }
        let slot = self.standing.take_slot(number)?;
        let plan = self.plan(&self.standing.zones[name], &slot, &said, paths);
        let mut beside: Vec<BorrowedFd<'_>> = vec![slot.users.as_fd(), slot.network.as_fd()];
        beside.extend(logs.iter().map(AsFd::as_fd));
        beside.extend(mounts.iter().map(AsFd::as_fd));
        let message = encode(Kind::Push, 0, &Order::Stand(Box::new(plan)), beside.len())?;
        let cgroup = self.cgroups.make(account, Place::Standing(name), &spec.carve)?;
        failpoint::hit("cgroup-made");
        let address = match self.link_up(&cgroup, number, &slot, &spec) {
            Ok(address) => address,
            Err(error) => {
                self.let_go_of(cgroup);
                return Err(error);
            }
        };
        failpoint::hit("connected");
        let note = Note { manifests, address };
        let started = call("note what it shows", self.standing.notes.write(name, &note))
            .and_then(|()| self.first_process((&cgroup, &image), number, &message, &beside));
        let (control, pidfd) = match started {
            Ok(started) => started,
            Err(error) => {
                if let Some(networks) = &mut self.networks {
                    networks.disconnect(cgroup.id())?;
                }
                self.let_go_of(cgroup);
                return Err(error);
            }
        };
        let (since_ms, slot) = (self.now_ms(), Some(slot));
        Ok(Body { cgroup, control, listening: true, pidfd, slot, gone: false, since_ms, note })
    }

    /// Gives a zone its network, before anything runs in it.
    fn link_up(
        &mut self,
        cgroup: &Cgroup,
        number: u32,
        slot: &Slot,
        spec: &ZoneSpec,
    ) -> Result<Option<Ipv4Addr>, NotStarted> {
        let (Some(network), Some(networks)) = (&spec.network, &mut self.networks) else {
            return Ok(None);
        };
        Ok(Some(networks.connect(cgroup.id(), number, slot.network.as_fd(), network)?))
    }

    /// Starts the first process, has init keep what is needed to find it again, and gives it its work.
    fn first_process(
        &self,
        (cgroup, image): (&Cgroup, &Path),
        number: u32,
        message: &[u8],
        beside: &[BorrowedFd<'_>],
    ) -> Result<(Socket, OwnedFd), NotStarted> {
        let (control, pidfd) = self.launcher.spawn(cgroup, image, &[])?;
        failpoint::hit("first-process");
        // Kept before it has work: a zone that does something is one that can be found again.
        let kept = store::keep(number, pidfd.as_fd(), control.as_fd());
        let told = call("have init keep its descriptors", kept)
            .and_then(|()| Ok(control.send(message, beside)?))
            .and_then(|()| {
                call("listen to it", self.standing.listen(number, &control, pidfd.as_fd()))
            });
        if let Err(error) = told {
            call("kill its first process", kill(pidfd.as_fd(), libc::SIGKILL))?;
            call("reap its first process", reap(pidfd.as_fd()))?;
            return Err(error);
        }
        Ok((control, pidfd))
    }

    fn plan(
        &self,
        zone: &Zone,
        slot: &Slot,
        said: &Configuration,
        mounts: Vec<String>,
    ) -> StandingPlan {
        let spec = &zone.record.spec;
        let scratch_mib = u64::from(spec.carve.scratch_mib);
        let root = Plan {
            host_name: spec.name.to_string(),
            user: slot.user(),
            scratch_bytes: scratch_mib * MIB,
            scratch_files: scratch_mib * FILES_PER_MIB,
            input: None,
            assets: Vec::new(),
        };
        StandingPlan {
            root,
            mounts,
            command: said.standing(&spec.command),
            restart: spec.restart,
            environment: environment(&[&said.environment[..], &spec.environment].concat()),
            directory: said.folder.clone().unwrap_or_else(|| "/".to_owned()),
            user: (said.uid, said.gid),
            stop_signal: said.stop_signal.unwrap_or(libc::SIGTERM),
            resolver: spec.network.as_ref().and_then(|_| crate::network::resolver()),
        }
    }
}

impl Zone {
    /// What is to become of its output when it stops.
    pub(super) const fn publication_due(&self) -> Publication {
        if self.record.spec.output.is_some() { Publication::Due } else { Publication::Over }
    }
}

/// What every program of a zone finds, and what the specification says.
fn environment(own: &[(String, String)]) -> Vec<(String, String)> {
    let mut all = vec![
        ("PATH".to_owned(), SEARCH_PATH.to_owned()),
        ("HOME".to_owned(), "/root".to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ];
    for (name, value) in own {
        all.retain(|(known, _)| known != name);
        all.push((name.clone(), value.clone()));
    }
    all
}

fn open_logs(place: &Path) -> io::Result<[OwnedFd; 2]> {
    let open = |name: &str| {
        File::options().append(true).custom_flags(libc::O_NOFOLLOW).open(place.join(name))
    };
    Ok([open(LOGS[0])?.into(), open(LOGS[1])?.into()])
}

/// The zone's own directory on the data disk: no programs, no devices.
fn mount_out(out: &Path) -> io::Result<OwnedFd> {
    let mount = mountfd::copy(File::open(out)?.as_fd(), c"")?;
    mountfd::restrict(mount.as_fd(), Restrictions::DATA)?;
    Ok(mount)
}

/// A program of the node's own, to be run and read.
fn mount_program(program: &Path) -> io::Result<OwnedFd> {
    let mount = mountfd::copy(File::open(program)?.as_fd(), c"")?;
    mountfd::restrict(mount.as_fd(), Restrictions::READ_ONLY)?;
    Ok(mount)
}
