//! Objects that a standing zone shows by a prefix, while the store changes, restarts, or is damaged under them.

use super::booted::{BUCKET, Booted, QUIET_TIME};
use super::held;
use super::power::{BLOCK_BYTES, DAMAGED, VICTIM_BYTES, damage as damage_block};
use super::zones::{ZONE, delete, good, make, mobula, within};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tests::agent::{Request, wait_for};
use tests::appliance::{Appliance, LOGIN};
use tests::load::content;
use tests::sigv4::sha256;

const BACK_TIME: Duration = Duration::from_secs(60);
/// Objects of which each has a file of its own.
const OBJECT_BYTES: usize = 3 << 20;
/// The prefix of objects whose files are damaged.
const PREFIX: &str = "verity";

/// Maps objects, waits for a sign, and says what each holds: the mapping, and the object opened anew.
fn holder(prefix: &str, names: &[&str]) -> String {
    format!(
        r#"exec python3 -c '
import hashlib, mmap, os, time
base, names = "/manta/{LOGIN}/stor/{BUCKET}/{prefix}/", {names:?}
views = [mmap.mmap(os.open(base + n, os.O_RDONLY), 0, mmap.MAP_SHARED, mmap.PROT_READ) for n in names]
open("/tmp/holding", "w").close()
while not os.path.exists("/tmp/go"): time.sleep(0.1)
sha = lambda bytes: hashlib.sha256(bytes).hexdigest()
for name, view in zip(names, views): print(name, sha(view), sha(open(base + name, "rb").read()))
shown = [line for line in open("/proc/self/maps") if " r--s " in line and not "/usr/" in line]
print("maps", all(line.split()[-1].startswith(base) for line in shown), len(shown))
'"#
    )
}

/// What a zone has mapped of a prefix stays, whatever becomes of the objects and of storaged.
pub fn lasts(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    let names = ["kept", "deleted", "overwritten"];
    let mut files = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let old = content(660 + number as u64, OBJECT_BYTES);
        files.push(b.put_in_file(&format!("lasts/{name}"), &old)?);
    }
    make(b, &["--mount", &format!("{BUCKET}/lasts")])?;
    let told = std::thread::scope(|scope| -> Result<String> {
        let holding = scope.spawn(|| within(a, ZONE, &holder("lasts", &names)));
        let changed = change(b).inspect_err(|_| drop(delete(a, ZONE)));
        let told = holding.join().map_err(|_| anyhow::anyhow!("the holder panicked"))?;
        changed?;
        let (code, text) = told?;
        ensure!(code == 0, "{code}: {text}");
        Ok(text)
    })?;
    for (number, name) in names.iter().enumerate() {
        let old = sha256(&content(660 + number as u64, OBJECT_BYTES));
        let line = format!("{name} {old} {old}");
        ensure!(told.contains(&line), "{name} is not what it was: {told}");
    }
    ensure!(told.contains("maps True 3"), "mappings tell another path: {told}");
    let gone = &files[1..];
    for file in gone {
        ensure!(b.has_file(file)?, "{file} is gone while a zone shows it");
    }
    delete(a, ZONE)?;
    wait_for("the space of what no object has any more", QUIET_TIME, || {
        let left = gone.iter().map(|file| b.has_file(file)).collect::<Result<Vec<_>>>()?;
        Ok((!left.contains(&true)).then_some(()))
    })?;
    ensure!(b.has_file(&files[0])?, "an object's file is gone");
    b.accept_daemons()?;
    held(66, "and a standing zone's mappings and new opens of a prefix went on as before");
    held(
        67,
        "and in a prefix of a standing zone, mapped or opened anew; its space is free afterwards",
    );
    Ok(())
}

/// Deletes, overwrites, has the kernel forget, kills storaged; then gives the sign.
fn change(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    wait_for("the zone to map", BACK_TIME, || {
        Ok((within(a, ZONE, "[ -e /tmp/holding ]")?.0 == 0).then_some(()))
    })?;
    a.s3.delete(BUCKET, "lasts/deleted")?;
    a.s3.put(BUCKET, "lasts/overwritten", &content(669, OBJECT_BYTES))?;
    a.agent.kill_daemon("storaged", BACK_TIME)?;
    wait_for("storaged to serve", BACK_TIME, || Ok(a.s3.get(BUCKET, "lasts/kept").ok().flatten()))?;
    // What can be forgotten is: the zone reads from the disk.
    a.agent.ask(&Request::Forget { path: super::booted::OBJECTS.to_owned() })?;
    let (code, text) = within(a, ZONE, "touch /tmp/go")?;
    ensure!(code == 0, "{text}");
    Ok(())
}

/// The files of objects that are to be damaged: one in a block, one replaced by another, one by a stranger's.
pub struct Victims {
    block: String,
    other: String,
    swapped: String,
    unsealed: String,
}

/// Puts them.
pub fn put(b: &Booted) -> Result<Victims> {
    let put =
        |name: &str, seed| b.put_in_file(&format!("{PREFIX}/{name}"), &content(seed, VICTIM_BYTES));
    Ok(Victims {
        block: put("block", 681)?,
        other: put("sound", 682)?,
        swapped: put("swapped", 683)?,
        unsealed: put("unsealed", 684)?,
    })
}

/// Damages them while the machine is off: a bit of a block, another sealed file in place of the right one, the
/// right bytes without their seal.
pub fn damage(disk: &Path, victims: &Victims) -> Result<()> {
    damage_block(disk, &victims.block)?;
    let below = |path: &str| path.trim_start_matches("/data").to_owned();
    let (other, swapped) = (below(&victims.other), below(&victims.swapped));
    let right = tempfile::NamedTempFile::new()?;
    std::fs::write(right.path(), content(684, VICTIM_BYTES))?;
    let unsealed = below(&victims.unsealed);
    let (folder, name) = unsealed.rsplit_once('/').context("a path")?;
    let commands = format!(
        "rm {swapped}\nln {other} {swapped}\nset_inode_field {other} links_count 2\n\
         rm {unsealed}\ncd {folder}\nwrite {} {name}\n",
        right.path().display()
    );
    let script = tempfile::NamedTempFile::new()?;
    std::fs::write(script.path(), commands)?;
    let done = Command::new("debugfs").arg("-w").arg("-f").args([script.path(), disk]).output()?;
    ensure!(done.status.success(), "debugfs: {done:?}");
    Ok(())
}

/// After the boot: a standing zone gets errors and no wrong byte, is told which object it was, and what is sound
/// beside it is read as ever.
pub fn refused(a: &Appliance) -> Result<()> {
    let mount = format!("{BUCKET}/{PREFIX}");
    good(a, &["zone", "create", "--memory", "128M", "--mount", &mount, ZONE])?;
    let mount_at = format!("/manta/{LOGIN}/stor/{mount}");
    let look = format!(
        "cd {mount_at}; head -c {} block | sha256sum; cat block >/dev/null; echo read $?; \
         cat swapped | wc -c; cat unsealed | wc -c; sha256sum <sound; \
         python3 -c 'import mmap, os; v = mmap.mmap(os.open(\"block\", os.O_RDONLY), 0, mmap.MAP_SHARED, \
         mmap.PROT_READ); print(v[0]); print(v[{}])'; echo mapped $?",
        // Whole pages before the damaged one, however far the kernel reads ahead.
        BLOCK_BYTES,
        DAMAGED * BLOCK_BYTES
    );
    let (_, text) = within(a, ZONE, &look)?;
    println!("  {}", text.trim().replace('\n', "; "));
    let start = &content(681, VICTIM_BYTES)[..BLOCK_BYTES as usize];
    ensure!(text.contains(&sha256(start)), "what is sound of it is not read: {text}");
    ensure!(
        text.contains("read 1") && text.contains("mapped 135"),
        "a damaged page was read: {text}"
    );
    ensure!(
        text.matches("Input/output error").count() == 3,
        "a file of another digest was read: {text}"
    );
    ensure!(text.contains(&sha256(&content(682, VICTIM_BYTES))), "the others suffer: {text}");
    let named = |name: &str| format!("/{LOGIN}/stor/{mount}/{name}");
    for name in ["block", "swapped", "unsealed"] {
        wait_for("the zone to be told", BACK_TIME, || {
            let why = good(a, &["zone", "why", ZONE])?;
            let told = why.lines().find(|line| line.contains(&named(name)));
            if told.is_none() {
                // The kernel logs ten such lines in five seconds, and a job has just used them up: ask for more.
                within(a, ZONE, &format!("cat <{mount_at}/{name} >/dev/null"))?;
            }
            Ok(told.map(|line| println!("  {line}")))
        })
        .with_context(|| name.to_owned())?;
        let events = good(a, &["--json", "zone", "events"])?;
        let told = events.lines().filter(|line| {
            line.contains("\"damaged\"") && line.contains(ZONE) && line.contains(&named(name))
        });
        ensure!(told.count() == 1, "events tell of {name} not once: {events}");
    }
    ensure!(
        !good(a, &["zone", "why", ZONE])?.contains(&named("sound")),
        "a sound object is blamed"
    );
    mended(a, &mount)?;
    held(
        68,
        "and in a prefix of a standing zone: EIO, SIGBUS, and `why` names each; a file of another digest is refused",
    );
    Ok(())
}

/// What the zone is told to do helps.
fn mended(a: &Appliance, mount: &str) -> Result<()> {
    let right = content(681, VICTIM_BYTES);
    a.s3.put(BUCKET, &format!("{PREFIX}/block"), &right)?;
    good(a, &["zone", "stop", "-t", "1", ZONE])?;
    good(a, &["zone", "start", ZONE])?;
    let (_, text) = within(a, ZONE, &format!("sha256sum </manta/{LOGIN}/stor/{mount}/block"))?;
    ensure!(text.contains(&sha256(&right)), "it is not mended: {text}");
    let (code, text) = mobula(a, &["zone", "delete", ZONE], b"")?;
    ensure!(code == 0, "{text}");
    Ok(())
}
