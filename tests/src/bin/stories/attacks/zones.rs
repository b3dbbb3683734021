//! Attacks from a standing zone, whose root may do more and whose life is longer than a task's.

use super::booted::{BUCKET, Booted};
use super::control::resident_kib;
use super::{held, judged};
use anyhow::{Context, Result, ensure};
use probe::expected::{Place, cases};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::agent::wait_for;
use tests::appliance::{Appliance, LOGIN, TOKEN};

pub const ZONE: &str = "hostile";
/// What a zone writes to /out becomes objects here.
const OUT: &str = "attacks-out";
/// Its output is a pipe there, and not a file with a quota.
const OUTPUT_QUOTA: u8 = 12;
/// What begins a command that makes a zone which needs little.
const SMALL: [&str; 6] = ["zone", "create", "--memory", "64M", "--scratch", "16M"];
/// The longest command imports a bomb: a GiB has to come out of it before it is one.
const COMMAND_TIME: Duration = Duration::from_secs(300);
/// The cap of the zone, in processors, and how far off it may be.
const CPUS: f64 = 0.5;
const CPUS_MORE: f64 = 1.02;
const CPUS_LESS: f64 = 0.9;

/// Runs `mobula`; gives its exit code and what it wrote.
pub fn mobula(a: &Appliance, arguments: &[&str], stdin: &[u8]) -> Result<(i32, String)> {
    let admin = format!("http://127.0.0.1:{}", a.ports[2]);
    let mut child = Command::new(&a.mobula)
        .args(arguments)
        .env("MOBULA_ADMIN", admin)
        .env("MOBULA_TOKEN", TOKEN)
        .env("MOBULA_ACCOUNT", LOGIN)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running mobula")?;
    let mut input = child.stdin.take().context("stdin is a pipe")?;
    let bytes = stdin.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let pid = child.id().to_string();
    let watch = std::thread::spawn(move || child.wait_with_output());
    let ended = wait_for("mobula to end", COMMAND_TIME, || Ok(watch.is_finished().then_some(())));
    if ended.is_err() {
        Command::new("kill").arg(pid).status()?;
    }
    let output = watch.join().map_err(|_| anyhow::anyhow!("waiting for mobula panicked"))??;
    ended.with_context(|| format!("mobula {arguments:?}"))?;
    // A command that wants no input closes it.
    drop(writer.join());
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned()))
}

pub fn good(a: &Appliance, arguments: &[&str]) -> Result<String> {
    let (code, text) = mobula(a, arguments, b"")?;
    ensure!(code == 0, "mobula {arguments:?}: {code}: {text}");
    Ok(text)
}

/// Runs a shell's line in the zone; gives what it wrote.
pub fn within(a: &Appliance, zone: &str, line: &str) -> Result<(i32, String)> {
    mobula(a, &["zone", "exec", zone, "--", "bash", "-c", line], b"")
}

pub fn delete(a: &Appliance, zone: &str) -> Result<()> {
    good(a, &["zone", "delete", zone]).map(drop)
}

/// Makes the zone, with the probe in it.
pub fn make(b: &Booted, more: &[&str]) -> Result<()> {
    let a = &b.appliance;
    // One that a story which failed has left.
    let (_, _) = mobula(a, &["zone", "delete", ZONE], b"")?;
    let size = ["zone", "create", "--memory", "512M", "--scratch", "256M", "--cpu", "0.5"];
    good(a, &[&size[..], more, &[ZONE]].concat())?;
    let program = std::fs::read(tests::build::program("probe", "probe")?)?;
    let line = "cat >/tmp/probe && chmod 755 /tmp/probe";
    let (code, text) = mobula(a, &["zone", "exec", ZONE, "--", "bash", "-c", line], &program)?;
    ensure!(code == 0, "bringing the probe in: {code}: {text}");
    Ok(())
}

/// All cases that a probe can try, as the zone's root.
pub fn withstands(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    a.s3.put(BUCKET, "shown/object", &vec![b'o'; 256 << 10])?;
    make(b, &["--mount", &format!("{BUCKET}/shown")])?;
    let asked: Vec<u8> =
        cases(Place::Standing).into_iter().filter(|case| *case != OUTPUT_QUOTA).collect();
    let numbers: Vec<_> = asked.iter().map(u8::to_string).collect();
    let object = format!("/manta/{LOGIN}/stor/{BUCKET}/shown/object");
    let line = format!("PROBE_OBJECT={object} /tmp/probe {}", numbers.join(" "));
    let (code, text) = within(a, ZONE, &line)?;
    let result = judged(&text, &asked, Place::Standing);
    let (_, mounts) = within(a, ZONE, "cat /proc/self/mountinfo")?;
    delete(a, ZONE)?;
    result.with_context(|| format!("exit code {code}"))?;
    let told = mounts.lines().find(|line| line.contains("/data/") || line.contains("/run/"));
    ensure!(told.is_none(), "a path of the node is told: {told:?}");
    Ok(())
}

/// Its cap holds, however many threads spin.
pub fn capped(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    make(b, &[])?;
    let groups = a.agent.list("/sys/fs/cgroup/zones", true)?;
    let group = groups.iter().find(|name| name.ends_with(&format!("/s-{ZONE}/")));
    let group = group.with_context(|| format!("no cgroup of the zone in {groups:?}"))?;
    let path = format!("/sys/fs/cgroup/zones/{group}cpu.stat");
    let uptime = || -> Result<f64> {
        let text = a.agent.read("/proc/uptime")?;
        Ok(text.split(' ').next().context("no uptime")?.parse()?)
    };
    let zone = std::thread::scope(|scope| -> Result<f64> {
        let spin = scope.spawn(|| within(a, ZONE, "/tmp/probe hog 14"));
        std::thread::sleep(Duration::from_secs(2));
        let (began, used) = (uptime()?, a.agent.number(&path, "usage_usec")?);
        std::thread::sleep(Duration::from_secs(6));
        let (ended, now) = (uptime()?, a.agent.number(&path, "usage_usec")?);
        let (code, text) = spin.join().map_err(|_| anyhow::anyhow!("spinning panicked"))??;
        ensure!(code == 0 && text.contains("began=yes"), "{code}: {text}");
        Ok((now - used) as f64 / 1e6 / (ended - began))
    });
    delete(a, ZONE)?;
    let used = zone?;
    let fair = (CPUS * CPUS_LESS..=CPUS * CPUS_MORE).contains(&used);
    ensure!(fair, "{used:.3} processors were used, {CPUS} is the cap");
    held(15, &format!("{used:.3} of {CPUS} processors used by eight threads that spin"));
    Ok(())
}

/// What is written to the log without end is bounded, and nobody grows by it.
pub fn log_flood(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    let zoned = a.agent.daemon("zoned")?.pid;
    let resident = || resident_kib(b, zoned);
    let before = resident()?;
    let flood = "while :; do printf '%1000s\\n' x; done";
    good(a, &[&SMALL[..], &["flood", "--", "bash", "-c", flood]].concat())?;
    std::thread::sleep(Duration::from_secs(10));
    let after = resident()?;
    let log = good(a, &["zone", "logs", "flood"])?;
    delete(a, "flood")?;
    ensure!(after < before + 8 * 1024, "zoned grew from {before} to {after} KiB");
    ensure!(!log.is_empty() && log.len() < 64 << 20, "{} bytes of log", log.len());
    held(
        21,
        &format!(
            "{} KiB of log are kept, zoned grew by {} KiB",
            log.len() / 1024,
            after.saturating_sub(before)
        ),
    );
    Ok(())
}

/// A command that ignores SIGTERM is killed when its time is over.
pub fn ignores_term(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    let line = "trap '' TERM; echo deaf; while :; do sleep 1; done";
    good(a, &[&SMALL[..], &["stubborn", "--", "bash", "-c", line]].concat())?;
    // A zone runs as soon as its command does: before its first line, it would hear the signal.
    wait_for("the command to be deaf", COMMAND_TIME, || {
        Ok(good(a, &["zone", "logs", "stubborn"])?.contains("deaf").then_some(()))
    })?;
    let began = Instant::now();
    good(a, &["zone", "stop", "-t", "2", "stubborn"])?;
    let took = began.elapsed();
    let state = good(a, &["zone", "get", "stubborn"])?;
    delete(a, "stubborn")?;
    ensure!(took >= Duration::from_secs(2), "it ended at once, after {took:?}");
    ensure!(state.contains("installed"), "{state}");
    held(23, &format!("stopped after {:.1} s", took.as_secs_f64()));
    Ok(())
}

/// What is odd in /out is not collected, and links lead nowhere.
pub fn output(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    a.s3.create_bucket(OUT)?;
    make(b, &["--output", OUT])?;
    let line = "cd /out; echo good >good; ln -s /etc/passwd link; ln -s /proc/1/root rooted; \
                ln -s .. up; mkfifo fifo; echo x >one; ln one two; truncate -s 8T sparse; \
                mknod char c 1 3 2>&1; setsid sleep 600 >held & sleep 0.5; ls -l";
    let (_, listing) = within(a, ZONE, &format!("({line}) & sleep 3"))?;
    let (_, published) = mobula(a, &["zone", "publish", ZONE], b"")?;
    let keys = a.s3.keys(OUT)?;
    let good_one = a.s3.get(OUT, "good")?;
    ensure!(good_one.as_deref() == Some(b"good\n"), "{published}: {keys:?}: {listing}");
    let odd = ["link", "rooted", "up", "fifo", "char", "sparse", "one", "two", "held"];
    let taken: Vec<_> =
        keys.iter().filter(|key| odd.iter().any(|name| key.starts_with(name))).collect();
    ensure!(taken.is_empty(), "odd files became objects: {taken:?}: {published}");
    held(
        31,
        &format!(
            "of {} files one was taken: {}",
            odd.len() + 1,
            published.trim().replace('\n', "; ")
        ),
    );
    // The kernel shows where on the disk it is: by the zone's own name, and nobody else's.
    let (_, mounts) = within(a, ZONE, "cat /proc/self/mountinfo")?;
    let mut fields = mounts.lines().map(|line| line.split(' ').skip(3));
    let root = fields
        .find_map(|mut line| Some((line.next()?, line.next()?)).filter(|(_, at)| *at == "/out"));
    ensure!(
        root.is_some_and(|(root, _)| root == format!("/zones/{ZONE}/out")),
        "{root:?}: {mounts}"
    );
    held(61, "and of /out a standing zone sees its own name alone");
    // A directory and a link to one take turns at the same name while it is collected.
    let race = "cd /out; rm -rf d; (while :; do mkdir d 2>/dev/null && echo own >d/passwd; rm -rf d; \
                ln -s /etc d 2>/dev/null; rm -f d; done) & sleep 8; kill %1";
    let zone = std::thread::scope(|scope| -> Result<()> {
        let racing = scope.spawn(|| within(a, ZONE, race));
        while !racing.is_finished() {
            mobula(a, &["zone", "publish", ZONE], b"")?;
        }
        racing.join().map_err(|_| anyhow::anyhow!("racing panicked"))??;
        Ok(())
    });
    let mut leaked = Vec::new();
    for key in a.s3.keys(OUT)? {
        let body = a.s3.get(OUT, &key)?.unwrap_or_default();
        if String::from_utf8_lossy(&body).contains("root:") {
            leaked.push(key);
        }
    }
    delete(a, ZONE)?;
    zone?;
    ensure!(leaked.is_empty(), "{leaked:?} hold what links led to");
    held(30, "links and swapped directories led nowhere");
    Ok(())
}

/// With a network nothing is allowed but what a rule names.
pub fn network(b: &Booted) -> Result<()> {
    make(b, &["--network"])?;
    let ran = within(&b.appliance, ZONE, "/tmp/probe 53");
    delete(&b.appliance, ZONE)?;
    judged(&ran?.1, &[53], Place::Standing)
}

/// What leaves a zone and what enters it keeps to the rates that it has.
pub fn rates(b: &Booted) -> Result<()> {
    held(54, &crate::network::paced(&b.appliance)?);
    Ok(())
}
