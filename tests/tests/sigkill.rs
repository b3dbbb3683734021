//! storaged is killed again and again in the middle of a load: nothing it acknowledged may be lost.
#![forbid(unsafe_code)]

use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tests::agent::wait_for;
use tests::build;
use tests::load::{Load, Position};
use tests::local::Storaged;

/// How often it is killed.
const KILLS: u64 = 24;
/// Operations acknowledged between two kills, at least: each life does real work.
const OPERATIONS: u64 = 20;
const WORKERS: usize = 6;

#[test]
fn what_was_acknowledged_survives_every_kill() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("store");
    std::fs::create_dir(&data)?;
    let mut storaged = Storaged::start(&build::program("storaged", "storaged")?, &data)?;
    let client = storaged.s3.clone();
    client.create_bucket("kills")?;
    let nowhere: Position = Arc::new(|| 0);
    let load = Load::start(&client, "kills", WORKERS, 7, &nowhere);
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..KILLS {
        load.wait(OPERATIONS, Duration::from_secs(120))?;
        std::thread::sleep(Duration::from_millis(rng.u64(..60)));
        storaged.kill_and_restart()?;
    }
    let history = load.finish()?;
    storaged.kill_and_restart()?;

    let (wrong, large) = history.check(&client.apart(), "kills", 0)?;
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Files of replaced and deleted objects go a little later, and then none is left without a record.
    wait_for("files without a record to go", Duration::from_secs(60), || {
        Ok((count(&data.join("objects"))? == large).then_some(()))
    })?;
    let kept = history.acknowledged(0);
    assert!(kept as u64 >= KILLS * OPERATIONS, "only {kept} operations were acknowledged");
    Ok(())
}

fn count(directory: &Path) -> Result<usize> {
    let mut files = 0;
    for entry in directory.read_dir()? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(files)
}
