//! The image that hostile zones start from: this machine's stress-ng with its libraries, and a shell.

use crate::jobs::name;
use crate::standing::run;
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Instant;
use tests::appliance::Appliance;

/// Its name.
pub const NAME: &str = "stress";
const BUCKET: &str = "hostile-images";

/// A root with these programs, made by this host's tar. `image deps` installs stress-ng.
const SCRIPT: &str = r#"set -e; mkdir -p bin lib lib64 etc
    programs=$(for name in bash cat dd head rm sleep stress-ng tail truncate; do type -P $name; done)
    cp $programs bin/; cp /lib64/ld-linux-x86-64.so.2 lib64/
    cp $(ldd $programs | grep -o '/lib/[^ ]*' | sort -u) lib/
    echo root:x:0:0:root:/root:/bin/bash >etc/passwd; echo root:x:0: >etc/group
    tar --owner=0 --group=0 --sort=name -cf - bin lib lib64 etc"#;

/// Makes and imports it.
pub fn import(a: &Appliance) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = Command::new("bash").args(["-c", SCRIPT]).current_dir(&folder).output()?;
    let why = String::from_utf8_lossy(&made.stderr).into_owned();
    ensure!(made.status.success(), "no root with stress-ng (cargo run -p image -- deps): {why}");
    a.s3.create_bucket(BUCKET)?;
    a.s3.put(BUCKET, "stress.tar", &made.stdout)?;
    let began = Instant::now();
    run(a, &["image", "import", NAME, &name(BUCKET, "stress.tar")]).context("importing stress")?;
    let (kib, took) = (made.stdout.len() / 1024, began.elapsed().as_secs_f64());
    println!("  {kib} KiB with stress-ng became an image in {took:.1} s");
    Ok(())
}
