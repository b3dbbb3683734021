//! The node's end, acted out: what [`crate::shutdown`] decides is done here.

use crate::order;
use crate::service::{self, State};
use crate::supervisor::Supervisor;
use crate::{cgroup, shutdown, unmount};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use sys::clock::since_boot_ms;
use sys::power::End;
use sys::process::{Child, Program};
use wire::service::ServiceName;

/// Groups whose processes must be gone before filesystems are unmounted.
const SWEPT: [&str; 3] = ["zones", "system", "store"];

impl Supervisor {
    /// Begins the node's end, or hurries it.
    pub(crate) fn order_end(&mut self, end: End) {
        let stages = order::stop_stages(&self.after).into_iter().map(|services| {
            let units = services.iter().filter_map(|name| self.units.get(name));
            let timeout_ms = units.map(|unit| unit.policy.stop_timeout_ms()).max().unwrap_or(0);
            shutdown::Stage { services, timeout_ms }
        });
        let stages = stages.collect();
        self.end_event(shutdown::Event::Ordered(end, stages));
    }

    pub(crate) fn advance_shutdown(&mut self) {
        match self.shutdown.phase {
            shutdown::Phase::Services { .. } => {
                let ended = |name: &ServiceName| {
                    self.units.get(name).is_none_or(|unit| unit.service.state == State::Stopped)
                };
                if self.shutdown.stage().iter().all(ended) {
                    self.end_event(shutdown::Event::StageOver);
                }
            }
            shutdown::Phase::Sweep { .. } => {
                if !SWEPT.iter().any(|path| cgroup::is_populated(path)) {
                    self.end_event(shutdown::Event::Swept);
                }
            }
            shutdown::Phase::Up | shutdown::Phase::Unmount { .. } | shutdown::Phase::Over => {}
        }
    }

    pub(crate) fn end_event(&mut self, event: shutdown::Event) {
        let (next, actions) = shutdown::step(self.shutdown.clone(), since_boot_ms(), event);
        self.shutdown = next;
        for action in actions {
            self.act_end(action);
        }
    }

    fn act_end(&mut self, action: shutdown::Action) {
        match action {
            shutdown::Action::Say(text) => self.console.say(&text),
            shutdown::Action::Stop { services, hurry } => {
                let names: Vec<_> = services.iter().map(ToString::to_string).collect();
                self.console.say(&format!("stopping {}", names.join(", ")));
                for name in services {
                    self.event(&name, service::Event::Stop { hurry });
                }
            }
            shutdown::Action::KillManaged(services) => {
                let units = services.iter().filter_map(|name| self.units.get(name));
                let managed = units.filter_map(|unit| unit.spec.cgroup_managed.as_ref());
                let paths: Vec<_> = managed.map(|path| path.as_str().to_owned()).collect();
                self.kill_all(&paths);
            }
            shutdown::Action::Sweep => self.kill_all(&SWEPT.map(str::to_owned)),
            shutdown::Action::Unmount => self.unmount(),
            shutdown::Action::End(end) => self.end(end),
        }
    }

    fn kill_all(&mut self, paths: &[String]) {
        for path in paths {
            if let Err(error) = cgroup::kill(path) {
                self.console.say(&format!("cannot kill what is in {path}: {error}"));
            }
        }
    }

    fn unmount(&mut self) {
        self.console.drain();
        let started = start_unmounter();
        match started {
            Ok(child) => self.unmounter = Some(child),
            Err(error) => {
                self.console.say(&format!("cannot start the unmounting: {error}"));
                self.end_event(shutdown::Event::Unmounted);
            }
        }
    }

    fn end(&mut self, end: End) {
        self.console.say(match end {
            End::Off => "powering off",
            End::Restart => "rebooting",
        });
        self.console.drain();
        let error = sys::power::end(end);
        self.console.say(&format!("the machine does not end: {error}; switch it off"));
    }
}

/// Starts init's own program, in init's group, for [`unmount`].
fn start_unmounter() -> Result<Child, Box<dyn std::error::Error>> {
    let null = File::open("/dev/null")?;
    let console = sys::file::open_to_write(Path::new("/dev/console"))
        .or_else(|_| sys::file::open_to_write(Path::new("/dev/null")))?;
    let group = cgroup::open("init")?;
    Ok(sys::process::spawn(&Program {
        command: &["/proc/self/exe".to_owned(), unmount::ARGUMENT.to_owned()],
        environment: &[],
        cgroup: group.as_fd(),
        stdin: null.as_fd(),
        output: console.as_fd(),
        descriptors: &[],
        user: 0,
        group: 0,
        groups: &[],
        capabilities: None,
        no_new_privs: true,
        oom_score_adj: -1000,
        limits: &[],
    })?)
}
