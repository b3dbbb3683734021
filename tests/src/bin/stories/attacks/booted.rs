//! The appliance that is attacked: its objects, how the probe is run in it, and how it has to be afterwards.

use super::health::Health;
use crate::jobs::{JOB_TIME, map, name};
use anyhow::{Context, Result, ensure};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use tests::agent::wait_for;
use tests::appliance::{Appliance, Artefacts, Shape};
use tests::build;
use tests::manta::JobError;
use wire::job::JobSpec;

/// The directory of the files that hold objects.
pub const OBJECTS: &str = "/data/store/objects";
/// Where its objects are.
pub const BUCKET: &str = "attacks";
/// More than a process may lock, less than a zone's memory.
const OBJECT_BYTES: usize = 256 << 10;
/// How long a node may take to have cleared up after an attack.
pub const QUIET_TIME: Duration = Duration::from_secs(60);

/// A booted appliance with the probe in its store.
pub struct Booted {
    pub appliance: Appliance,
    pub disk: PathBuf,
    before: RefCell<Health>,
}

/// What became of a probe's task.
pub struct Ran {
    /// What it wrote, if it succeeded.
    pub stdout: String,
    /// The error, if it failed.
    pub error: Option<JobError>,
    /// What it wrote to stderr, if it failed.
    pub stderr: String,
}

impl Booted {
    pub fn start(artefacts: &Artefacts) -> Result<Self> {
        let disk = artefacts.directory.join("attacks.disk");
        if disk.exists() {
            std::fs::remove_file(&disk)?;
        }
        let (appliance, ready) = Appliance::boot(artefacts, "attacks", &Shape::usual(&disk))?;
        println!("  {ready}");
        appliance.s3.create_bucket(BUCKET)?;
        let program = std::fs::read(build::program("probe", "probe")?)?;
        appliance.s3.put(BUCKET, "probe", &program)?;
        appliance.s3.put(BUCKET, "object", &vec![b'o'; OBJECT_BYTES])?;
        let mut booted = Self { before: RefCell::default(), appliance, disk };
        // What is made once and kept (the first slot, the image's mount) is there from now on.
        booted.run("probe 34", 128)?;
        *booted.before.get_mut() = Health::of(&booted.appliance)?;
        Ok(booted)
    }

    /// A job of one map that runs the probe and others by their names.
    pub fn job(&self, line: &str, memory_mib: u64) -> Result<JobSpec> {
        let assets = format!("/assets{}", name(BUCKET, "probe"));
        let line = format!("probe() {{ {assets} \"$@\"; }}; {line}");
        let mut spec = map(&line);
        spec.phases[0].assets = vec![name(BUCKET, "probe")];
        spec.phases[0].memory = Some(memory_mib.try_into().context("memory")?);
        spec.phases[0].disk = Some(2);
        Ok(spec)
    }

    /// Runs a line with the object as its input.
    pub fn run(&self, line: &str, memory_mib: u64) -> Result<Ran> {
        let a = &self.appliance;
        let job = a.jobs.submit(&self.job(line, memory_mib)?, &[name(BUCKET, "object")])?;
        let status = a.jobs.wait(job, JOB_TIME)?;
        let error = a.jobs.errors(job)?.pop();
        let stderr = match error.as_ref().and_then(|error| error.stderr.as_ref()) {
            Some(stderr) => String::from_utf8_lossy(&a.jobs.object(stderr)?).into_owned(),
            None => String::new(),
        };
        let outputs = a.jobs.outputs(job)?;
        ensure!(outputs.len() + usize::from(error.is_some()) == 1, "{status:?}: {error:?}");
        let stdout = match outputs.first() {
            Some(output) => String::from_utf8_lossy(&a.jobs.object(output)?).into_owned(),
            None => String::new(),
        };
        Ok(Ran { stdout, error, stderr })
    }

    /// The files that hold objects.
    fn files(&self) -> Result<BTreeSet<String>> {
        let all = self.appliance.agent.list(OBJECTS, true)?;
        Ok(all.into_iter().filter(|name| !name.ends_with('/')).collect())
    }

    /// Puts an object that is large enough for a file of its own; gives the file's path.
    pub fn put_in_file(&self, key: &str, content: &[u8]) -> Result<String> {
        let before = self.files()?;
        self.appliance.s3.put(BUCKET, key, content)?;
        let after = self.files()?;
        let new: Vec<_> = after.difference(&before).collect();
        let [file] = &new[..] else { anyhow::bail!("the file of {key} is one of {new:?}") };
        Ok(format!("{OBJECTS}/{file}"))
    }

    /// Whether an object's file is there.
    pub fn has_file(&self, path: &str) -> Result<bool> {
        Ok(self.files()?.iter().any(|file| path.ends_with(file.as_str())))
    }

    /// Runs a line that must succeed; gives what it wrote.
    pub fn output(&self, line: &str, memory_mib: u64) -> Result<String> {
        let ran = self.run(line, memory_mib)?;
        ensure!(ran.error.is_none(), "{:?}: {}", ran.error, ran.stderr);
        Ok(ran.stdout)
    }

    /// Checks that the node is as it was: the same daemons, serving, and nothing left of any zone.
    pub fn healthy(&self) -> Result<()> {
        let mut last = Vec::new();
        let settled = wait_for("the node to be as it was", QUIET_TIME, || {
            last = Health::of(&self.appliance)?.worse_than(&self.before.borrow());
            Ok(last.is_empty().then_some(()))
        });
        settled.with_context(|| format!("{last:#?}"))?;
        self.appliance.s3.get(BUCKET, "object")?.context("the store has lost an object")?;
        Ok(())
    }

    /// Daemons that were restarted on purpose are those that must stay from now on.
    pub fn accept_daemons(&self) -> Result<()> {
        self.before.borrow_mut().daemons = Health::of(&self.appliance)?.daemons;
        Ok(())
    }
}
