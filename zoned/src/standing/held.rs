//! What the node's pressure does to starts of standing zones: they wait.

use super::storaged::Waits;
use crate::daemon::Daemon;
use wire::standing::ZoneName;

impl Daemon {
    /// Whether a start must wait because the node is short of something; it is tried again at every tick.
    pub(super) fn hold_start(&mut self, name: &ZoneName) -> bool {
        self.look_at_pressure();
        let (now_us, held) = (self.now_us(), !self.may_start());
        if !held {
            self.admission.admitted(now_us);
        }
        let Some(zone) = self.standing.zones.get_mut(name) else { return false };
        if let Some(pending) = &mut zone.pending
            && held
            && std::mem::replace(&mut pending.waits, Waits::Node) != Waits::Node
        {
            let why = self.admission.held().unwrap_or("the node was short of something");
            zone.note(format!("its start waited: {why}"));
        }
        held
    }
}
