//! What a zone left that this zoned knows nothing of but its name: killed, and gone before the zone starts again.

use super::adopt::cgroup_name;
use crate::carve::{Cgroup, CgroupError};
use crate::chain;
use crate::daemon::Daemon;
use std::io::ErrorKind;
use wire::standing::ZoneName;

impl Daemon {
    /// A zone lived on and could not be taken over. All that is in its cgroup is killed; the zone begins again when the
    /// kernel is done with that.
    pub(super) fn cannot_adopt(&mut self, name: &ZoneName, why: &str) {
        eprintln!("zoned: zone {name} is started anew: {why}");
        let Some(zone) = self.standing.zones.get_mut(name) else { return };
        zone.note(format!("it lived on over a crash of zoned and could not be taken over: {why}"));
        match self.cgroups.adopt(&cgroup_name(&zone.record)) {
            Ok(cgroup) => {
                if let Err(error) = cgroup.kill() {
                    eprintln!("zoned: zone {name}: {}", chain(&error));
                }
                self.garbage.push(cgroup);
            }
            // It ended meanwhile, and somebody has cleared that away.
            Err(CgroupError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => eprintln!("zoned: zone {name} leaves something: {}", chain(&error)),
        }
    }

    /// Lets go of the cgroup of a zone that did not start.
    pub(super) fn let_go_of(&mut self, cgroup: Cgroup) {
        match cgroup.remove() {
            Ok(true) => {}
            Ok(false) => self.garbage.push(cgroup),
            Err(error) => eprintln!("zoned: {}", chain(&error)),
        }
    }

    /// Whether there is something left of a zone, which would be in its way.
    pub(super) fn has_left_over(&self, name: &ZoneName) -> bool {
        let Some(zone) = self.standing.zones.get(name) else { return false };
        let own = |cgroup: &Cgroup| cgroup.name() == cgroup_name(&zone.record);
        self.garbage.iter().any(own)
    }
}
