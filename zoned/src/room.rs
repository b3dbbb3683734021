//! Rooms for tasks: a place to run, and so much of the disk as may be filled there. Setting that quota is a change in the
//! filesystem's journal, which may take its time: it is done by a thread of its own, and nothing is claimed before.
//!
//! ```text
//!   picked ──▶ its quota on its way ──set, or not──▶ waits for room in the connection ──▶ claimed for ──▶ runs
//!                       │                                     │                            │  (not, if it has no quota)
//!                       └────the connection is lost───────────┴──── nothing is ready ──────┴──▶ left
//! ```
//!
//! Taking a quota away is waited for by nobody: what sets the next one comes after it in the same line.

use crate::chain;
use crate::daemon::{Asked, Daemon, Written};
use crate::disk::file::failed;
use crate::disk::{FileError, Job};
use crate::scheduler::Grant;
use crate::slot::Slot;
use crate::warm::Idle;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use sys::quota;
use wire::task::Request;

const GIB: u64 = 1 << 30;
/// An output's quota counts as used up when less than this is left: the kernel refuses a write before
/// the last byte, by what its blocks need.
const QUOTA_SLACK_BYTES: u64 = 64 * 1024;

/// Where a task is to run.
#[derive(Debug)]
pub(crate) enum Room {
    /// In a zone to be made in this slot.
    Fresh(Slot),
    /// In a zone that has run such a task.
    Warm(Box<Idle>),
}

impl Room {
    const fn slot(&self) -> &Slot {
        match self {
            Self::Fresh(slot) => slot,
            Self::Warm(idle) => &idle.slot,
        }
    }
}

/// Whether a quota is used up, as the thread that looked it up says.
pub(crate) type Full = Arc<AtomicBool>;

/// A room whose quota was seen to, for a task of this grant.
#[derive(Debug)]
pub(crate) struct Limited {
    pub(crate) grant: Grant,
    pub(crate) room: Room,
    /// Why it has no quota: nothing may start in it.
    pub(crate) unlimited: Option<String>,
}

/// A connection to storaged: what was picked over one is claimed over no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connection(u64);

/// Rooms that wait to be claimed for. Pure.
#[derive(Debug)]
pub(crate) struct Rooms<R> {
    now: Connection,
    ready: VecDeque<R>,
}

impl<R> Default for Rooms<R> {
    fn default() -> Self {
        Self { now: Connection(0), ready: VecDeque::new() }
    }
}

impl<R> Rooms<R> {
    /// Over which connection a room is picked now.
    const fn now(&self) -> Connection {
        self.now
    }

    /// A room's quota was seen to; it is given back if the connection is gone over which it was picked.
    fn limited(&mut self, picked: Connection, room: R) -> Option<R> {
        if picked != self.now {
            return Some(room);
        }
        self.ready.push_back(room);
        None
    }

    /// The next to be claimed for.
    fn next(&mut self) -> Option<R> {
        self.ready.pop_front()
    }

    /// The connection is lost: gives all that waited, and those on their way when they come.
    fn lose(&mut self) -> VecDeque<R> {
        self.now.0 += 1;
        std::mem::take(&mut self.ready)
    }
}

impl Daemon {
    /// Where a task of this grant is to run; nowhere yet if all slots are taken.
    pub(crate) fn room(&mut self, grant: &Grant) -> Option<Room> {
        if let Some(idle) = self.warm.take(grant) {
            return Some(Room::Warm(Box::new(idle)));
        }
        match self.pool.take() {
            Ok(Some(slot)) => return Some(Room::Fresh(slot)),
            // Instances that wait hold the rest.
            Ok(None) => self.make_room(),
            Err(error) => eprintln!("zoned: {}", chain(&error)),
        }
        None
    }

    /// Has a room's quota set, for something to be claimed then.
    pub(crate) fn limit_room(&mut self, grant: Grant, room: Room) {
        let (project, disk_gib) = (room.slot().project(), grant.disk_gib);
        self.limit(project, disk_gib, Written::Room(self.rooms.now(), grant, room));
    }

    /// A room's quota was seen to.
    pub(crate) fn room_limited(
        &mut self,
        picked: Connection,
        grant: Grant,
        room: Room,
        limited: Result<(), FileError>,
    ) {
        let unlimited = limited.err().map(|error| chain(&error));
        if let Some(lost) = self.rooms.limited(picked, Limited { grant, room, unlimited }) {
            self.leave(lost);
        }
    }

    /// Claims tasks for rooms that have their quota.
    pub(crate) fn claim_limited(&mut self) {
        while self.link.has_room()
            && let Some(place) = self.rooms.next()
        {
            let Grant { job, phase, .. } = place.grant;
            let request = Request::Claim { job, phase, project: place.room.slot().project() };
            if let Err((error, asked)) = self.link.ask(&request, Asked::Claim(place)) {
                if let Asked::Claim(place) = asked {
                    self.leave(place);
                }
                return self.lose_link(&chain(&error));
            }
        }
    }

    /// The connection is lost, and nothing is claimed for the rooms that wait.
    pub(crate) fn leave_limited(&mut self) {
        for place in self.rooms.lose() {
            self.leave(place);
        }
    }

    /// Gives up a room in which nothing runs, and what was granted for it.
    pub(crate) fn leave(&mut self, place: Limited) {
        self.scheduler.release(&place.grant);
        self.leave_room(place.room);
    }

    /// Gives up the place where a task was to run.
    pub(crate) fn leave_room(&mut self, room: Room) {
        match room {
            Room::Fresh(slot) => self.put_back(slot),
            Room::Warm(idle) => self.unused(*idle),
        }
    }

    pub(crate) fn put_back(&mut self, slot: Slot) {
        self.unlimit(&slot);
        self.pool.put(slot);
    }

    /// Limits what may be written under a project from now on; goes on with `then` when that is done.
    pub(crate) fn limit(&mut self, project: u32, disk_gib: u32, then: Written) {
        let Some(data) = self.quota.clone() else { return self.written(then, Ok(())) };
        let job = Job::alone(move || {
            let name = project_name(project);
            limit(&data, project, disk_gib).map_err(failed("set the quota of", &name))
        });
        self.quotas.submit(job, then);
    }

    /// Looks up whether a project's quota is used up, and goes on with what `then` makes of that.
    pub(crate) fn look_up(&mut self, project: u32, then: impl FnOnce(Full) -> Written) {
        let full = Full::default();
        let then = then(Arc::clone(&full));
        let Some(data) = self.quota.clone() else { return self.written(then, Ok(())) };
        let job = Job::alone(move || {
            let name = project_name(project);
            let now = quota::project(data.as_fd(), project);
            let now = now.map_err(failed("read the quota of", &name))?;
            let used = now.used_bytes + QUOTA_SLACK_BYTES;
            full.store(now.limit_bytes > 0 && used > now.limit_bytes, Ordering::Relaxed);
            Ok(())
        });
        self.quotas.submit(job, then);
    }

    /// Takes the limit of a slot away.
    pub(crate) fn unlimit(&mut self, slot: &Slot) {
        let Some(data) = self.quota.clone() else { return };
        let project = slot.project();
        let job = Job::alone(move || {
            let name = project_name(project);
            let taken = quota::limit_project(data.as_fd(), project, 0, 0);
            taken.map_err(failed("take away the quota of", &name))
        });
        self.quotas.submit(job, Written::Unlimited(slot.number()));
    }
}

/// What a message calls it.
fn project_name(project: u32) -> PathBuf {
    PathBuf::from(format!("project {project}"))
}

/// Output of earlier zones of the slot counts as long as its files carry the project: it comes on top.
fn limit(data: &File, project: u32, disk_gib: u32) -> io::Result<()> {
    let used = match quota::project(data.as_fd(), project) {
        Ok(now) => now.used_bytes,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => 0,
        Err(error) => return Err(error),
    };
    // A task makes no files there: it is given those that it writes to.
    quota::limit_project(data.as_fd(), project, used + u64::from(disk_gib) * GIB, 0)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone)]
    enum Step {
        Pick,
        /// The quota of the one that has been on its way for longest is set.
        Limited,
        Claim,
        Lose,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Pick),
            4 => Just(Step::Limited),
            4 => Just(Step::Claim),
            1 => Just(Step::Lose),
        ]
    }

    proptest! {
        /// Each room is claimed for once, after its quota was set and over the connection on which it was picked, or
        /// left once; and all are in the end.
        #[test]
        fn nothing_is_claimed_before_its_quota_is_set(steps in prop::collection::vec(any_step(), 0..80)) {
            let mut rooms = Rooms::default();
            let mut on_their_way = VecDeque::new();
            // Of each room: the number of connections lost before it was picked, and whether its quota is set.
            let mut known: BTreeMap<u32, (u32, bool)> = BTreeMap::new();
            let (mut lost, mut ended, mut picked) = (0, 0, 0);
            for step in steps.into_iter().chain([Step::Lose]) {
                match step {
                    Step::Pick => {
                        on_their_way.push_back((rooms.now(), picked));
                        known.insert(picked, (lost, false));
                        picked += 1;
                    }
                    Step::Limited => {
                        let Some((connection, room)) = on_their_way.pop_front() else { continue };
                        known.get_mut(&room).unwrap().1 = true;
                        if let Some(left) = rooms.limited(connection, room) {
                            prop_assert!(left == room && known.remove(&room).unwrap().0 < lost);
                            ended += 1;
                        }
                    }
                    Step::Claim => {
                        let Some(room) = rooms.next() else { continue };
                        prop_assert_eq!(known.remove(&room), Some((lost, true)));
                        ended += 1;
                    }
                    Step::Lose => {
                        lost += 1;
                        for left in rooms.lose() {
                            prop_assert!(known.remove(&left).is_some_and(|(_, limited)| limited));
                            ended += 1;
                        }
                    }
                }
            }
            for (connection, room) in on_their_way {
                prop_assert_eq!(rooms.limited(connection, room), Some(room));
                ended += 1;
            }
            prop_assert!(rooms.next().is_none());
            prop_assert_eq!(ended, picked);
        }
    }
}
