//! A hostile neighbour, and what the carve does against it, measured in one boot.
//!
//! Zones run stress-ng against the node while a client reads; what the store suffered is read from the
//! kernel's own counters of its cgroup. The other stories of this boot measure what limits really give.

mod brake;
mod buffered;
mod counters;
mod figures;
mod image;
mod pressure;
mod rates;
mod windows;

use crate::attacks::health::Health;
use crate::standing::run;
use crate::teller::Teller;
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::agent::wait_for;
use tests::appliance::{Appliance, Artefacts, Shape};

/// A story told to this boot.
type Story = fn(&Appliance) -> Result<()>;

const STORIES: &[(&str, Story)] = &[
    ("neighbour: five hostile neighbours leave the store serving", windows::hostile),
    ("neighbour: a zone over its memory ends at once, and its cache does not end it", brake::ends),
    ("neighbour: a zone gets the processors of its carve", figures::processors),
    ("neighbour: a zone's protected memory stays while others fill theirs", figures::protected),
    ("neighbour: a zone gets the rates of the disk of its carve", rates::disk),
    ("neighbour: what a zone writes through the page cache is held to its rate", buffered::held),
    (
        "neighbour: what a zone had in the page cache when it was stopped stays at its rate",
        buffered::lives,
    ),
    ("neighbour: what the filesystem notes for a zone is bounded", buffered::noted),
    ("neighbour: while the disk is short new work waits, and nothing fails", pressure::waits),
];

/// As many zones as a story has at once, tasks among them.
const AT_ONCE: usize = 8;
/// Until the node is as it was after zones were deleted.
const QUIET_TIME: Duration = Duration::from_secs(60);

/// Tells them.
pub fn tell(teller: &mut Teller, artefacts: &Artefacts) {
    let names: Vec<&str> = STORIES.iter().map(|(name, _)| *name).collect();
    if !teller.wants(&names) {
        return;
    }
    let booted = boot(artefacts);
    for (name, story) in STORIES {
        let told = teller.tell(name, || {
            let (a, before) = booted.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            story(a)?;
            healthy(a, before).context("afterwards")
        });
        if let (false, Ok((a, _))) = (told, &booted) {
            println!("  the console ends with:\n{}", a.machine.tail());
        }
    }
}

fn boot(artefacts: &Artefacts) -> Result<(Appliance, Health)> {
    let disk = artefacts.directory.join("neighbour.disk");
    if disk.exists() {
        std::fs::remove_file(&disk)?;
    }
    let (a, ready) = Appliance::boot(artefacts, "neighbour", &Shape::usual(&disk))?;
    println!("  {ready}");
    image::import(&a)?;
    // What is made once and kept is there from now on: the image's mount, and the namespaces of so many zones.
    let first = |number| {
        let small = ["--memory", "32M", "--scratch", "8M"];
        Zone::create(&a, &format!("first-{number}"), &small, &["sleep", "1000"])
    };
    let first: Vec<_> = (0..AT_ONCE).map(first).collect::<Result<_>>()?;
    first.into_iter().try_for_each(Zone::delete)?;
    let before = Health::of(&a)?;
    Ok((a, before))
}

fn healthy(a: &Appliance, before: &Health) -> Result<()> {
    let mut last = Vec::new();
    let settled = wait_for("the node to be as it was", QUIET_TIME, || {
        last = Health::of(a)?.worse_than(before);
        Ok(last.is_empty().then_some(()))
    });
    settled.with_context(|| format!("{last:#?}"))
}

/// A standing zone; deleted when a story is done with it, whatever comes of that.
struct Zone<'a> {
    a: &'a Appliance,
    name: String,
}

impl<'a> Zone<'a> {
    /// Makes one with stress-ng in it that runs a command.
    fn create(a: &'a Appliance, name: &str, carve: &[&str], command: &[&str]) -> Result<Self> {
        Self::of(a, name, &[&["--image", image::NAME], carve].concat(), command)
    }

    /// Makes one of this image and these limits.
    fn of(a: &'a Appliance, name: &str, spec: &[&str], command: &[&str]) -> Result<Self> {
        let zone = Self { a, name: name.to_owned() };
        let words = ["zone", "create", "--no-autoboot"];
        run(a, &[&words[..], spec, &[name, "--"], command].concat())?;
        Ok(zone)
    }

    /// Its cgroup.
    fn cgroup(&self) -> Result<String> {
        let groups = self.a.agent.list("/sys/fs/cgroup/zones", true)?;
        let end = format!("/s-{}/", self.name);
        let group = groups.iter().find(|group| group.ends_with(&end));
        let group = group.with_context(|| format!("no cgroup of {} in {groups:?}", self.name))?;
        Ok(format!("/sys/fs/cgroup/zones/{}", group.trim_end_matches('/')))
    }

    fn counters(&self) -> Result<counters::Counters> {
        counters::Counters::of(&self.a.agent, &self.cgroup()?)
    }

    /// Runs a shell's line in it, which has to succeed; gives what it wrote.
    fn exec(&self, line: &str) -> Result<String> {
        run(self.a, &["zone", "exec", &self.name, "--", "bash", "-c", line])
    }

    fn act(&self, words: &[&str]) -> Result<String> {
        run(self.a, &[&["zone"], words, &[&self.name]].concat())
    }

    fn delete(self) -> Result<()> {
        self.act(&["delete"]).map(drop)
    }
}

impl Drop for Zone<'_> {
    fn drop(&mut self) {
        // Only there if its story failed: the next one shall not suffer from it.
        drop(crate::standing::run_with(self.a, &["zone", "delete", &self.name], b""));
    }
}

/// The node's own clock, in seconds: emulated time is what its kernel counts in.
fn uptime(a: &Appliance) -> Result<f64> {
    let text = a.agent.read("/proc/uptime")?;
    let first = text.split(' ').next().context("no uptime")?;
    let seconds = first.parse().with_context(|| format!("uptime {text:?}"))?;
    ensure!(seconds > 0.0, "uptime {text:?}");
    Ok(seconds)
}
