//! What a probe tries by itself in a task's zone.

use super::booted::Booted;
use super::{held, judged};
use anyhow::{Result, ensure};
use probe::Line;
use probe::expected::{Place, cases};

/// It gets a zone of its own: its end is not its own doing.
const OUTPUT_QUOTA: u8 = 12;
const ZONE_MIB: u64 = 256;

/// All cases, in one task.
pub fn withstands(b: &Booted) -> Result<()> {
    let asked: Vec<u8> =
        cases(Place::Task).into_iter().filter(|case| *case != OUTPUT_QUOTA).collect();
    let numbers: Vec<_> = asked.iter().map(u8::to_string).collect();
    // The socket's name is one of the node's own: nobody listens in the zone.
    let text = b.output(&format!("probe {}", numbers.join(" ")), ZONE_MIB)?;
    judged(&text, &asked, Place::Task)?;
    // The kernel of the appliance has no such page at all.
    let tables = Line::all(&text).into_iter().find(|line| line.number == 56);
    let vsyscall = tables.as_ref().and_then(|line| line.result("vsyscall"));
    ensure!(vsyscall == Some("SIGSEGV"), "vsyscall: {vsyscall:?}");
    Ok(())
}

/// The second of two tasks finds nothing of the first.
pub fn residue(b: &Booted) -> Result<()> {
    for _ in 0..2 {
        judged(&b.output("probe 62", ZONE_MIB)?, &[62], Place::Task)?;
    }
    Ok(())
}

/// kill(-1) reaches the zone's own processes and nobody else's.
pub fn everyone(b: &Booted) -> Result<()> {
    let ran = b.run("probe hog 44; echo survived", ZONE_MIB)?;
    // It ends the shell that started it, which is the task.
    let error = ran.error.as_ref();
    let killed = error.is_some_and(|error| error.code == "UserTaskError");
    ensure!(killed && !ran.stdout.contains("survived"), "{error:?} {:?}", ran.stdout);
    held(44, "and kill(-1) ended its own zone alone");
    Ok(())
}
