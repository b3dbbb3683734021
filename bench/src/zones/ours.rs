//! Zones as zoned makes them, by its own launcher and with its own zone-init, on a node of this process.

use super::{Output, Setting, Times, now};
use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::clone::reap;
use sys::mountfd::detach;
use sys::seqpacket::RecvError;
use wire::carve::Network;
use wire::frame::{Frame, Kind, encode};
use wire::job::{JobId, PhaseKind};
use wire::task::{AttemptId, Task};
use wire::zone::{Order, Outcome, Report};
use zoned::carve::Tree;
use zoned::images::Images;
use zoned::network::Networks;
use zoned::slot::{Pool, Slot};
use zoned::zone::{Launcher, Zone};

/// What a zone may use; nothing of it is used.
const MEMORY_MIB: u32 = 128;
/// Zones there are at once, at most.
const SLOTS: u32 = 200;
/// How long a zone may take for anything, in milliseconds.
const PATIENCE_MS: u16 = 60_000;
/// Memory of a zone that goes through a large object.
const VISIT_MIB: u32 = 1024;

/// What zoned has, without its daemon.
pub struct Node {
    launcher: Launcher,
    image: PathBuf,
    pool: Pool,
    slot: Slot,
    /// The zone that is kept, and its slot.
    instance: Option<Zone>,
    warm_slot: Option<Slot>,
    /// Zones that wait, for their memory to be looked at.
    idle: Vec<(Zone, Slot)>,
    cgroups: Tree,
    cgroup: PathBuf,
    /// Where programs complain: a zone's outputs get a mode of their own, so no file of others will do.
    errors: File,
    next: u64,
}

impl Node {
    /// A node whose image `base` is this directory, and whose zones are below this cgroup.
    ///
    /// # Errors
    /// What can't be made here.
    pub fn new(setting: &Setting, image: &Path, cgroups: &Path) -> Result<Self> {
        let folder = &setting.folder;
        let images = folder.join("images");
        fs::create_dir_all(&images)?;
        std::os::unix::fs::symlink(image, images.join("base"))?;
        let mut images = Images::open(&images, &folder.join("run/images"))?;
        let cgroup = cgroups.join(format!("mobula-bench-{}", std::process::id()));
        fs::create_dir(&cgroup).with_context(|| format!("make {}", cgroup.display()))?;
        let mut pool = Pool::new(SLOTS);
        let slot = pool.take()?.context("there is no slot")?;
        Ok(Self {
            launcher: Launcher::new(&setting.zone_init, &folder.join("run/stage"))?,
            image: images.get("base")?,
            pool,
            slot,
            instance: None,
            warm_slot: None,
            idle: Vec::new(),
            cgroups: Tree::open(&cgroup, &BTreeSet::new())?,
            cgroup,
            errors: File::create(folder.join("errors"))?,
            next: 1,
        })
    }

    /// Runs the program once in a zone that is made for it and ends with it.
    ///
    /// # Errors
    /// When it fails.
    pub fn cold(&mut self, object: &Path, output: &Output) -> Result<Times> {
        let fds: Vec<OwnedFd> = vec![File::open(object)?.into(), output.writer()?, self.errors()?];
        let task = self.task();
        let start = now()?;
        let zone =
            self.launcher.start(&task, fds, &mut self.slot, &self.image, &mut self.cgroups)?;
        let outcome = hear_out(&zone)?;
        let status = now()?;
        end(&zone)?;
        let gone = now()?;
        ensure!(outcome == Outcome::Exited { code: 0 }, "the zone's task: {outcome:?}");
        Ok(Times {
            exec: (output.began()? - start) as f64,
            status: (status - start) as f64,
            gone: (gone - start) as f64,
        })
    }

    /// Runs the program in a zone that is there, and of which the last task is over; makes one if there is
    /// none.
    ///
    /// # Errors
    /// When it fails.
    pub fn warm(&mut self, object: &Path, output: &Output) -> Result<Times> {
        let fds: Vec<OwnedFd> = vec![File::open(object)?.into(), output.writer()?, self.errors()?];
        let task = self.task();
        let start = now()?;
        let zone = match self.instance.take() {
            None => {
                let slot = self.warm_slot.insert(self.pool.take()?.context("there is no slot")?);
                self.launcher.start(&task, fds, slot, &self.image, &mut self.cgroups)?
            }
            Some(mut zone) => {
                let slot = self.warm_slot.as_mut().context("the instance has no slot")?;
                self.launcher.again(&mut zone, &task, fds, slot)?;
                zone
            }
        };
        let zone = self.instance.insert(zone);
        let outcome = hear_out(zone)?;
        let status = now()?;
        self.launcher.stay(zone)?;
        let gone = now()?;
        ensure!(outcome == Outcome::Exited { code: 0 }, "the instance's task: {outcome:?}");
        Ok(Times {
            exec: (output.began()? - start) as f64,
            status: (status - start) as f64,
            gone: (gone - start) as f64,
        })
    }

    /// Runs a command line with the object on its stdin, in a zone that has a network.
    ///
    /// # Errors
    /// When it fails.
    pub fn visit(
        &mut self,
        exec: &str,
        environment: &[(&str, String)],
        object: File,
        output: &Output,
        network: &Network,
    ) -> Result<()> {
        let fds: Vec<OwnedFd> = vec![object.into(), output.writer()?, self.errors()?];
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let (exec, environment) = (exec.to_owned(), environment.collect());
        let task = Task { exec, environment, memory_mib: VISIT_MIB, ..self.task() };
        let mut networks = Networks::open(&self.cgroup).context("close the network to zones")?;
        let zone =
            self.launcher.start(&task, fds, &mut self.slot, &self.image, &mut self.cgroups)?;
        let (id, namespace) = (zone.cgroup.id(), self.slot.network.as_fd());
        let connected = networks.connect(id, self.slot.number(), namespace, network);
        let outcome = hear_out(&zone);
        end(&zone)?;
        connected.context("connect the zone")?;
        networks.disconnect(id).context("disconnect the zone")?;
        let outcome = outcome?;
        ensure!(outcome == Outcome::Exited { code: 0 }, "the zone's task: {outcome:?}");
        Ok(())
    }

    /// Makes zones that have run a task and wait for another one; gives their first processes.
    ///
    /// # Errors
    /// When one can't be made.
    pub fn fill(&mut self, zones: usize, object: &Path, output: &Output) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for _ in 0..zones {
            let fds: Vec<OwnedFd> =
                vec![File::open(object)?.into(), output.writer()?, self.errors()?];
            let task = self.task();
            let mut slot = self.pool.take()?.context("there is no slot")?;
            let mut zone =
                self.launcher.start(&task, fds, &mut slot, &self.image, &mut self.cgroups)?;
            hear_out(&zone)?;
            self.launcher.stay(&mut zone)?;
            pids.push(pid(&zone)?);
            self.idle.push((zone, slot));
        }
        Ok(pids)
    }

    /// Ends what [`Self::fill`] has made; the slots stay.
    ///
    /// # Errors
    /// When one does not end.
    pub fn empty(&mut self) -> Result<()> {
        for (zone, slot) in self.idle.drain(..) {
            end(&zone)?;
            self.pool.put(slot);
        }
        Ok(())
    }

    fn errors(&self) -> Result<OwnedFd> {
        Ok(self.errors.try_clone()?.into())
    }

    fn task(&mut self) -> Task {
        let attempt = AttemptId(self.next);
        self.next += 1;
        Task {
            attempt,
            job: JobId(uuid::Uuid::nil()),
            phase: 0,
            kind: PhaseKind::Map,
            account: 1,
            login: "bench".to_owned(),
            exec: "program".to_owned(),
            init: None,
            input: Some("/bench/stor/object".to_owned()),
            assets: Vec::new(),
            environment: Vec::new(),
            memory_mib: MEMORY_MIB,
            disk_gib: 1,
            image: "base".to_owned(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(zone) = self.instance.take()
            && let Err(error) = end(&zone)
        {
            eprintln!("cannot end the instance: {error:#}");
        }
        let image = CString::new(self.image.as_os_str().as_encoded_bytes());
        if let Some(error) = image.ok().and_then(|image| detach(&image).err()) {
            eprintln!("cannot unmount {}: {error}", self.image.display());
        }
        if let Err(error) = self.cgroups.close() {
            eprintln!("{}", zoned::chain(&error));
        }
        if let Err(error) = fs::remove_dir(&self.cgroup) {
            eprintln!("cannot remove {}: {error}", self.cgroup.display());
        }
    }
}

/// Lets a zone end whose task is over, and waits until nothing is left of it.
fn end(zone: &Zone) -> Result<()> {
    zone.control.send(&encode(Kind::Push, 0, &Order::Acknowledged, 0)?, &[])?;
    wait(&zone.pidfd)?;
    reap(zone.pidfd.as_fd())?;
    while !zone.cgroup.remove()? {}
    Ok(())
}

/// A zone's first process, as this one counts (proc_pid_fdinfo(5)).
fn pid(zone: &Zone) -> Result<i32> {
    let path = format!("/proc/self/fdinfo/{}", zone.pidfd.as_raw_fd());
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.and_then(|pid| pid.trim().parse().ok()).context("a pidfd without a process")
}

/// Waits for a zone to say how its task ended.
fn hear_out(zone: &Zone) -> Result<Outcome> {
    let mut message = Vec::new();
    loop {
        wait(&zone.control)?;
        match zone.control.recv(&mut message) {
            Ok(Some(fds)) => match Frame::parse(&message, fds.len())?.body()? {
                Report::Over(outcome) => return Ok(outcome),
                Report::Started => {}
                other => bail!("a map said {other:?}"),
            },
            Ok(None) => bail!("the zone has ended without a word"),
            Err(RecvError::Empty) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn wait(what: &impl AsFd) -> Result<()> {
    let mut fds = [PollFd::new(what.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(PATIENCE_MS))?;
    ensure!(ready == 1, "the zone does nothing");
    Ok(())
}
