//! Stories of images: what people save elsewhere becomes roots of zones, or is refused.

use crate::jobs::{JOB_TIME, map, name};
use crate::standing::{json, run, run_with};
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::process::Command;
use std::time::{Duration, Instant};
use tests::agent::wait_for;
use tests::appliance::{Appliance, LOGIN};
use tests::tarball::{FILE, Tarball, packed};

/// The image, and the bucket with its archive.
const IMAGE: &str = "saved";
const BUCKET: &str = "saved-images";
const ZONE: &str = "of-an-archive";
/// More entries than an image may have (zoned's limits of imports).
const ENTRIES: usize = 400_001;
const TOO_MANY: &str = "entries: more than the 400000 there may be";
/// Programs that are not optimised take minutes for so many on an emulated machine.
const ENTRIES_TIME: Duration = Duration::from_secs(600);
/// That of the second boot.
pub const AGAIN: &str = "an imported image is there again after a boot";

/// What `docker save` makes of an image of two layers with a shell in it, by this host's tar.
fn archive() -> Result<Vec<u8>> {
    const SCRIPT: &str = r#"set -e; mkdir -p 0/bin 0/lib 0/lib64 0/etc; cp /bin/bash /bin/cat 0/bin/
        cp /lib64/ld-linux-x86-64.so.2 0/lib64/
        cp $(ldd /bin/bash /bin/cat | grep -o '/lib/[^ ]*' | sort -u) 0/lib/
        echo below >0/etc/gone; echo 'out of an archive' >0/etc/words; ln -s /etc 0/proc
        mkdir -p 1/etc; : >1/etc/.wh.gone
        for n in 0 1; do tar --owner=0 --group=0 -C $n -cf $n.tar .; done"#;
    let folder = tempfile::tempdir()?;
    let made = Command::new("bash").args(["-c", SCRIPT]).current_dir(&folder).status()?;
    ensure!(made.success(), "no layers: {made}");
    let file = |name: &str| folder.path().join(name);
    let mut ids = Vec::new();
    for layer in ["0.tar", "1.tar"] {
        let digest = Sha256::digest(std::fs::read(file(layer))?);
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        ids.push(format!("\"sha256:{digits}\""));
    }
    let ids = ids.join(",");
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{ids}]}},
            "config":{{"Env":["GREETING=good day"],"Cmd":["/bin/bash"],"WorkingDir":"/etc"}}}}"#
    );
    std::fs::write(file("config.json"), config)?;
    std::fs::write(
        file("manifest.json"),
        r#"[{"Config":"config.json","Layers":["0.tar","1.tar"]}]"#,
    )?;
    let names = ["manifest.json", "config.json", "0.tar", "1.tar"];
    let packed = Command::new("tar").arg("-c").args(names).current_dir(&folder).output()?;
    ensure!(packed.status.success(), "no archive");
    Ok(packed.stdout)
}

fn listed(a: &Appliance) -> Result<bool> {
    let images = json(a, &["image", "list"])?;
    Ok(images.iter().any(|image| image["name"] == IMAGE && image["shipped"] == false))
}

pub fn imported(a: &Appliance) -> Result<()> {
    let archive = archive()?;
    a.s3.create_bucket(BUCKET)?;
    a.s3.put(BUCKET, "saved.tar", &archive)?;
    let start = Instant::now();
    run(a, &["image", "import", IMAGE, &name(BUCKET, "saved.tar")])?;
    let taken = start.elapsed().as_secs_f64();
    println!("  {} KiB became an image in {taken:.1} s", archive.len() / 1024);
    ensure!(listed(a)?, "it is not listed");
    run(a, &["zone", "create", "--image", IMAGE, "--memory", "64M", ZONE])?;
    let ask = "cat words; echo $GREETING; [ -e gone ] || echo gone; pwd; cat /proc/self/comm";
    let said = run(a, &["zone", "exec", ZONE, "--", "bash", "-c", ask])?;
    ensure!(said == "out of an archive\ngood day\ngone\n/etc\ncat\n", "{said:?}");
    let refused = run_with(a, &["image", "rm", IMAGE], b"")?;
    ensure!(refused.status != 0 && refused.err.contains("use"), "removed while it is in use");
    a.s3.put(BUCKET, "input", b"input, ")?;
    let mut spec = map("cat; cat /etc/words; echo $GREETING >&2; [ \"$GREETING\" = 'good day' ]");
    spec.phases[0].image = Some(IMAGE.to_owned());
    let job = a.jobs.submit(&spec, &[name(BUCKET, "input")])?;
    let status = a.jobs.wait(job, JOB_TIME)?;
    ensure!(status.stats.errors == 0 && status.stats.outputs == 1, "{:?}", a.jobs.errors(job)?);
    run(a, &["zone", "delete", ZONE])?;
    Ok(())
}

/// A few MiB that would be a tree of more names than the memory of an import holds.
fn tiny_entries() -> Result<Vec<u8>> {
    let add = |all: Tarball, number| all.entry(FILE, &format!("{number}"), "", b"");
    packed(&(0..ENTRIES).fold(Tarball::default(), add).done())
}

pub fn refused(a: &Appliance) -> Result<()> {
    let zoned = || Ok::<_, anyhow::Error>(a.agent.daemon("zoned")?.pid);
    let before = zoned()?;
    let entries = tiny_entries()?;
    println!("  {ENTRIES} entries in {} KiB", entries.len() / 1024);
    a.s3.put(BUCKET, "entries", &entries)?;
    let mut bad = archive()?;
    let words = b"out of an archive";
    let at = bad.windows(words.len()).rposition(|part| part == words).context("no such file")?;
    bad[at] ^= 1;
    a.s3.put(BUCKET, "bad.tar", &bad)?;
    a.s3.put(BUCKET, "none", b"no archive at all")?;
    for (object, why) in [("bad.tar", "digest"), ("none", "tar"), ("missing", "no object")] {
        let object = format!("/{LOGIN}/stor/{BUCKET}/{object}");
        let ended = run_with(a, &["image", "import", "bad", &object], b"")?;
        println!("  {}", ended.err.trim());
        ensure!(ended.status != 0 && ended.err.contains(why), "{object}: {}", ended.status);
    }
    // It reads 200 MiB of them before it knows.
    run(a, &["image", "import", "--no-wait", "bad", &name(BUCKET, "entries")])?;
    let why = wait_for("more entries than there may be to be refused", ENTRIES_TIME, || {
        let told = run(a, &["--json", "zone", "events"])?;
        let mut lines = told.lines().rev();
        Ok(lines.find(|line| line.contains(TOO_MANY)).map(str::to_owned))
    })?;
    println!("  {why}");
    let images = json(a, &["image", "list"])?;
    ensure!(images.iter().all(|image| image["name"] != "bad"), "{images:?}");
    let left = a.agent.list("/data/images/.imported", false)?;
    ensure!(left == [format!("{IMAGE}.json")], "{left:?}");
    a.s3.delete(BUCKET, "entries")?;
    ensure!(zoned()? == before, "zoned did not live through it");
    // Whoever comes next is served as before.
    run(a, &["zone", "create", "--image", IMAGE, "--memory", "64M", ZONE])?;
    let said = run(a, &["zone", "exec", ZONE, "--", "cat", "words"])?;
    ensure!(said == "out of an archive\n", "{said:?}");
    run(a, &["zone", "delete", ZONE])?;
    Ok(())
}

pub fn came_back(a: &Appliance) -> Result<()> {
    ensure!(listed(a)?, "it is not listed");
    run(a, &["zone", "create", "--image", IMAGE, "--memory", "64M", ZONE])?;
    let said = run(a, &["zone", "exec", ZONE, "--", "cat", "/etc/words"])?;
    ensure!(said == "out of an archive\n", "{said:?}");
    run(a, &["zone", "delete", ZONE])?;
    run(a, &["image", "rm", IMAGE])?;
    ensure!(!listed(a)?, "it was not removed");
    Ok(())
}
