//! Stories of standing zones: a person's whole way with them, by the command that is shipped.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::agent::wait_for;
use tests::appliance::{Appliance, LOGIN, TOKEN, keys};

/// A story told to a running appliance.
type Story = fn(&Appliance) -> Result<()>;

/// Those of the first boot, in this order: each goes on with what the one before left.
pub const STORIES: [(&str, Story); 10] = [
    ("a standing zone is made, listed and shown with its limits in force", made),
    ("what runs in a standing zone gets input, and its exit status is the command's", entered),
    ("a person logs in to a standing zone on a terminal that changes its size", logged_in),
    ("a standing zone's limits change while it runs", updated),
    ("a standing zone is paused, and goes on where it was", paused),
    ("a standing zone's log and the events of the node are followed", followed),
    ("a standing zone that eats memory is killed alone, and says why", eaten),
    ("a standing zone shows objects, and what it writes becomes objects", shown),
    ("a standing zone does not notice that zoned is killed", survived),
    ("standing zones are stopped, started and deleted, and nothing is left of them", ended),
];
/// That of the second boot.
pub const AGAIN: &str = "standing zones that ran run again after a boot, and no others";

/// The longest that one command takes under emulation.
const COMMAND_TIME: Duration = Duration::from_secs(120);
/// The zone of most stories: it counts aloud.
const ZONE: &str = "counter";
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo count $i; sleep 0.2; done";
/// A zone that was stopped before the second boot, and one that does not start by itself.
const STOPPED: &str = "stopped";
const LAZY: &str = "lazy";
/// The bucket of what the latter writes.
const PARTING: &str = "parting";

fn mobula(a: &Appliance, words: &[&str]) -> Command {
    let [s3, manta, admin] = a.ports.map(|port| format!("http://127.0.0.1:{port}"));
    let keys = keys();
    let mut command = Command::new(&a.mobula);
    command
        .args(words)
        .env("MOBULA_S3", s3)
        .env("MOBULA_MANTA", manta)
        .env("MOBULA_ADMIN", admin)
        .env("MOBULA_TOKEN", TOKEN)
        .env("MOBULA_ACCOUNT", LOGIN)
        .env("MOBULA_ACCESS_KEY", keys.access)
        .env("MOBULA_SECRET_KEY", keys.secret)
        .stdin(Stdio::null());
    command
}

/// How a command ended: status, standard output, standard error.
pub struct Ended {
    pub status: i32,
    pub out: String,
    pub err: String,
}

pub fn run_with(a: &Appliance, words: &[&str], input: &[u8]) -> Result<Ended> {
    let mut command = mobula(a, words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("running mobula")?;
    let mut stdin = child.stdin.take().context("mobula has no stdin")?;
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    // Read beside the wait: much output would stop the command.
    let mut streams: (Vec<u8>, Vec<u8>) = Default::default();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reader = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        out.map_or(Ok(0), |mut out| out.read_to_end(&mut bytes))?;
        Ok(bytes)
    });
    let status = wait_for("mobula to end", COMMAND_TIME, || Ok(child.try_wait()?))
        .inspect_err(|_| drop(child.kill()))
        .with_context(|| format!("mobula {words:?}"))?;
    err.map_or(Ok(0), |mut err| err.read_to_end(&mut streams.1))?;
    streams.0 = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    // A command that does not read its input has been fed enough.
    drop(feeder.join());
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let status = status.code().context("mobula was killed")?;
    Ok(Ended { status, out: text(&streams.0), err: text(&streams.1) })
}

/// What a command that has to succeed wrote.
pub fn run(a: &Appliance, words: &[&str]) -> Result<String> {
    let Ended { status, out, err } = run_with(a, words, b"")?;
    ensure!(status == 0, "mobula {words:?} ended with {status}: {out}{err}");
    Ok(out)
}

pub fn json(a: &Appliance, words: &[&str]) -> Result<Vec<Value>> {
    let words: Vec<&str> = ["--json"].iter().chain(words).copied().collect();
    let out = run(a, &words)?;
    out.lines().map(|line| serde_json::from_str(line).context("no JSON")).collect()
}

pub fn state(a: &Appliance, zone: &str) -> Result<String> {
    let view = json(a, &["zone", "get", zone])?;
    Ok(view[0]["summary"]["state"].as_str().context("no state")?.to_owned())
}

/// A limit as it is in force.
fn limit(a: &Appliance, zone: &str, name: &str) -> Result<String> {
    let limits = json(a, &["zone", "limits", zone])?;
    let limits = limits[0]["limits"].as_array().context("no limits")?;
    let found = limits.iter().find(|limit| limit["name"] == name);
    let found = found.with_context(|| format!("no {name} in {limits:?}"))?;
    Ok(found["got"].as_str().context("no value")?.to_owned())
}

fn made(a: &Appliance) -> Result<()> {
    let start = Instant::now();
    let create = ["zone", "create", "--cpu", "0.5", "--memory", "64M", "--pids", "64", ZONE];
    let words: Vec<&str> = create.iter().chain(&["--", "bash", "-c", COUNT]).copied().collect();
    let out = run(a, &words)?;
    println!("  it ran {:.1} s after it was asked for", start.elapsed().as_secs_f64());
    ensure!(out.trim() == ZONE, "create wrote {out:?}");
    let list = json(a, &["zone", "list"])?;
    let zone = list.iter().find(|zone| zone["name"] == ZONE).context("it is not listed")?;
    ensure!(zone["state"] == "running" && zone["login"] == LOGIN, "{zone}");
    let text = run(a, &["zone", "list"])?;
    ensure!(text.starts_with("NAME") && text.contains("running"), "{text}");
    for (name, value) in
        [("memory.max", "67108864"), ("pids.max", "64"), ("cpu.max", "50000 100000")]
    {
        let got = limit(a, ZONE, name)?;
        ensure!(got == value, "{name} is {got}");
    }
    let again = run_with(a, &["zone", "create", ZONE], b"")?;
    ensure!(again.status == 1 && again.err.contains("ZoneExists"), "{}", again.err);
    Ok(())
}

fn entered(a: &Appliance) -> Result<()> {
    for (script, status) in [("exit 7", 7), ("kill -9 $$", 137), ("no-such-program", 127)] {
        let ended = run_with(a, &["zone", "exec", ZONE, "bash", "-c", script], b"")?;
        ensure!(ended.status == status, "{script}: {}: {}", ended.status, ended.err);
    }
    let input = vec![b'x'; 1 << 20];
    let ended = run_with(a, &["zone", "exec", ZONE, "wc", "-c"], &input)?;
    ensure!(ended.out.trim() == "1048576", "wc read {:?} {}", ended.out, ended.err);
    let script =
        "echo out; echo err >&2; hostname; id -u; echo $COLOUR; ls /proc | grep -c '^[0-9]'";
    let words = ["zone", "exec", "-e", "COLOUR=red", ZONE, "bash", "-c", script];
    let ended = run_with(a, &words, b"")?;
    ensure!(ended.out.starts_with(&format!("out\n{ZONE}\n0\nred\n")), "{}", ended.out);
    ensure!(ended.err == "err\n", "{:?}", ended.err);
    let away = run_with(a, &["zone", "exec", "nowhere", "true"], b"")?;
    ensure!(away.status == 125 && away.err.contains("NoSuchZone"), "{}: {}", away.status, away.err);
    Ok(())
}

/// The command on a terminal of ours.
struct Terminal {
    child: Child,
    master: File,
    seen: String,
}

impl Terminal {
    fn open(a: &Appliance, words: &[&str]) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        tcsetwinsize(&master, size(30, 100))?;
        let mut command = mobula(a, words);
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        Ok(Self { child: command.spawn()?, master: master.into(), seen: String::new() })
    }

    fn until(&mut self, text: &str) -> Result<()> {
        let mut buffer = [0; 1024];
        let begun = Instant::now();
        while !self.seen.contains(text) {
            ensure!(begun.elapsed() < COMMAND_TIME, "no {text:?} in {:?}", self.seen);
            rustix::io::ioctl_fionbio(&self.master, true)?;
            match self.master.read(&mut buffer) {
                Ok(0) => bail!("it ended after {:?}", self.seen),
                Ok(got) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..got])),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => bail!("{error} after {:?}", self.seen),
            }
        }
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended, unless the story failed.
        drop(self.child.kill());
    }
}

const fn size(ws_row: u16, ws_col: u16) -> Winsize {
    Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }
}

fn logged_in(a: &Appliance) -> Result<()> {
    let mut terminal = Terminal::open(a, &["zone", "login", ZONE])?;
    terminal.master.write_all(b"stty size; echo -n on; tty\r")?;
    terminal.until("30 100")?;
    terminal.until("on/dev/pts/")?;
    tcsetwinsize(&terminal.master, size(50, 132))?;
    let pid = Pid::from_child(&terminal.child);
    kill_process(pid, Signal::WINCH)?;
    std::thread::sleep(Duration::from_secs(1));
    terminal.master.write_all(b"stty size\r")?;
    terminal.until("50 132")?;
    // ^C ends what runs there, and not the session.
    terminal.master.write_all(b"sleep 1000\r")?;
    std::thread::sleep(Duration::from_secs(1));
    terminal.master.write_all(b"\x03")?;
    terminal.master.write_all(b"echo still $((40+2))\r")?;
    terminal.until("still 42")?;
    terminal.master.write_all(b"exit 3\r")?;
    let child = &mut terminal.child;
    let status = wait_for("login to end", COMMAND_TIME, || Ok(child.try_wait()?))?;
    ensure!(status.code() == Some(3), "login ended with {status}");
    Ok(())
}

fn updated(a: &Appliance) -> Result<()> {
    let out =
        run(a, &["zone", "update", ZONE, "--memory", "96M", "--cpu", "none", "--pids", "80"])?;
    ensure!(out.contains("pids.max: 64 → 80"), "{out}");
    for (name, value) in
        [("memory.max", "100663296"), ("pids.max", "80"), ("cpu.max", "max 100000")]
    {
        let got = limit(a, ZONE, name)?;
        ensure!(got == value, "{name} is {got}");
    }
    let wrong = run_with(a, &["zone", "update", ZONE, "--pids", "1"], b"")?;
    ensure!(wrong.status == 1 && wrong.err.contains("pids is 1"), "{}", wrong.err);
    ensure!(limit(a, ZONE, "pids.max")? == "80", "a refused change changed something");
    Ok(())
}

/// The last number that the zone counted to.
fn count(a: &Appliance) -> Result<u64> {
    let out = run(a, &["zone", "logs", "-n", "2", ZONE])?;
    let numbers = out.lines().filter_map(|line| line.strip_prefix("count ")?.parse().ok());
    numbers.max().with_context(|| format!("no count in {out:?}"))
}

fn paused(a: &Appliance) -> Result<()> {
    ensure!(run(a, &["zone", "pause", ZONE])? == format!("{ZONE} is paused\n"));
    let frozen = count(a)?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(count(a)? == frozen, "it counts while it is paused");
    let refused = run_with(a, &["zone", "exec", ZONE, "true"], b"")?;
    ensure!(refused.status == 125, "something ran in a paused zone");
    run(a, &["zone", "resume", ZONE])?;
    let goes_on = || Ok((count(a)? > frozen).then_some(()));
    wait_for("the zone to go on", COMMAND_TIME, goes_on)?;
    ensure!(count(a)? < frozen + 1000, "it counts from somewhere else");
    Ok(())
}

/// Lines of a command that goes on, until there are enough; then it is killed.
fn lines(a: &Appliance, words: &[&str], most: usize) -> Result<Vec<String>> {
    let mut child = mobula(a, words).stdout(Stdio::piped()).spawn()?;
    let out = child.stdout.take().context("no stdout")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut found = Vec::new();
    while found.len() < most {
        match receiver.recv_timeout(COMMAND_TIME) {
            Ok(line) => found.push(line),
            Err(_) => break,
        }
    }
    child.kill()?;
    child.wait()?;
    ensure!(found.len() == most, "{words:?} gave only {found:?}");
    Ok(found)
}

fn followed(a: &Appliance) -> Result<()> {
    let told = lines(a, &["zone", "logs", "-f", "-n", "1", ZONE], 6)?;
    let numbers: Vec<u64> =
        told.iter().filter_map(|line| line.strip_prefix("count ")?.parse().ok()).collect();
    ensure!(numbers.len() == 6, "{told:?}");
    ensure!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let escape = ["zone", "create", "--no-wait", "-q", "loud", "--", "printf", r"\033[2Jred\n"];
    run(a, &escape)?;
    let shown = || {
        let out = run(a, &["zone", "logs", "loud"])?;
        ensure!(!out.contains('\u{1b}'), "a tenant's escape reached the terminal: {out:?}");
        Ok(out.contains("[2Jred").then_some(()))
    };
    wait_for("the line with an escape", COMMAND_TIME, shown)?;
    run(a, &["zone", "delete", "loud"])?;
    let events = json(a, &["zone", "events"])?;
    let of_zone = |event: &&Value| event["subject"]["zone"] == ZONE;
    let kinds: Vec<&str> =
        events.iter().filter(of_zone).filter_map(|event| event["what"]["event"].as_str()).collect();
    for kind in ["state", "session_began", "session_ended", "updated"] {
        ensure!(kinds.contains(&kind), "no {kind} among {kinds:?}");
    }
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["number"].as_u64()).collect();
    ensure!(numbers.windows(2).all(|pair| pair[1] > pair[0]), "{numbers:?}");
    let top = json(a, &["zone", "top", "-n", "1"])?;
    ensure!(top.iter().any(|zone| zone["zone"] == ZONE), "{top:?}");
    let stats = json(a, &["zone", "stats", ZONE])?;
    ensure!(stats[0]["cpu_us"].as_u64() > Some(0), "{stats:?}");
    Ok(())
}

fn eaten(a: &Appliance) -> Result<()> {
    run(a, &["zone", "create", "--memory", "128M", "eater"])?;
    let before = count(a)?;
    let eat = "x = bytearray(700 << 20); x[::4096] = b\"x\" * (700 << 8)";
    let ended = run_with(a, &["zone", "exec", "eater", "python3", "-c", eat], b"")?;
    ensure!(ended.status != 0, "700 MiB were eaten of 128");
    let told = || Ok(run(a, &["zone", "why", "eater"])?.contains("memory").then_some(()));
    wait_for("a reason", COMMAND_TIME, told)?;
    println!("  {}", run(a, &["zone", "why", "eater"])?.lines().next().unwrap_or_default());
    let goes_on = || Ok((count(a)? > before).then_some(()));
    wait_for("the neighbour to go on", COMMAND_TIME, goes_on)?;
    ensure!(state(a, ZONE)? == "running", "the neighbour is gone");
    run(a, &["zone", "delete", "eater"])?;
    Ok(())
}

fn shown(a: &Appliance) -> Result<()> {
    const BUCKET: &str = "shown";
    a.s3.create_bucket(BUCKET)?;
    let large = tests::load::content(1, 100_000);
    for (key, bytes) in [("logs/a", &b"one\n"[..]), ("logs/d/b", b"two\n"), ("logs/large", &large)]
    {
        a.s3.put(BUCKET, key, bytes)?;
    }
    run(a, &["zone", "create", "--mount", "shown/logs", "--output", "shown/out", "shower"])?;
    let script = format!(
        "cd /manta/{LOGIN}/stor/{BUCKET}/logs && cat a d/b && wc -c <large && \
         ! touch new 2>/dev/null && mkdir /out/d && cat a d/b >/out/d/both && echo written"
    );
    let ended = run_with(a, &["zone", "exec", "shower", "bash", "-c", &script], b"")?;
    ensure!(ended.out == "one\ntwo\n100000\nwritten\n", "{}{}", ended.out, ended.err);
    // What is shown stays as it was when the zone started.
    a.s3.put(BUCKET, "logs/a", b"changed\n")?;
    let path = format!("/manta/{LOGIN}/stor/{BUCKET}/logs/a");
    ensure!(run(a, &["zone", "exec", "shower", "cat", &path])? == "one\n", "it changed");
    run(a, &["zone", "publish", "shower"])?;
    let both = a.s3.get(BUCKET, "out/d/both")?;
    ensure!(both.as_deref() == Some(b"one\ntwo\n"), "the object is {both:?}");
    let said = "echo own >/out/own && mobula-publish && mobula-publish";
    let said = run(a, &["zone", "exec", "shower", "bash", "-c", said])?;
    ensure!(said == format!("/{LOGIN}/stor/{BUCKET}/out/own\n"), "the zone was told {said:?}");
    ensure!(a.s3.get(BUCKET, "out/own")?.as_deref() == Some(b"own\n"), "it was told wrongly");
    run(a, &["zone", "exec", "shower", "bash", "-c", "echo late >/out/late"])?;
    run(a, &["zone", "stop", "shower"])?;
    let late = || Ok(a.s3.get(BUCKET, "out/late")?.filter(|late| late == b"late\n"));
    wait_for("what was written last to be an object", COMMAND_TIME, late)?;
    run(a, &["zone", "delete", "shower"])?;
    Ok(())
}

fn survived(a: &Appliance) -> Result<()> {
    let before = count(a)?;
    a.agent.kill_daemon("zoned", COMMAND_TIME)?;
    let back = || Ok(state(a, ZONE).ok().filter(|state| state == "running"));
    wait_for("zoned to know the zone again", COMMAND_TIME, back)?;
    let goes_on = || Ok((count(a)? > before).then_some(()));
    wait_for("the zone to go on", COMMAND_TIME, goes_on)?;
    let log = run(a, &["zone", "logs", ZONE])?;
    let first = log.lines().filter(|line| *line == "count 1").count();
    ensure!(first <= 1, "its command was started {first} times");
    let ended = run_with(a, &["zone", "exec", ZONE, "bash", "-c", "exit 5"], b"")?;
    ensure!(ended.status == 5, "exec after a restart: {}: {}", ended.status, ended.err);
    Ok(())
}

fn ended(a: &Appliance) -> Result<()> {
    ensure!(run(a, &["zone", "stop", "-t", "1", ZONE])? == format!("{ZONE} is installed\n"));
    let zones = a.agent.list("/sys/fs/cgroup/zones", true)?;
    let left: Vec<_> = zones.iter().filter(|path| path.contains(ZONE)).collect();
    ensure!(left.is_empty(), "a stopped zone left {left:?}");
    run(a, &["zone", "start", ZONE])?;
    run(a, &["zone", "create", STOPPED])?;
    run(a, &["zone", "stop", STOPPED])?;
    a.s3.create_bucket(PARTING)?;
    let output = format!("{PARTING}/out");
    run(a, &["zone", "create", "--no-autoboot", "--output", &output, LAZY])?;
    run(a, &["zone", "exec", LAZY, "bash", "-c", "echo farewell >/out/last"])?;
    run(a, &["zone", "create", "gone"])?;
    run(a, &["zone", "delete", "gone"])?;
    let gone = run_with(a, &["zone", "get", "gone"], b"")?;
    ensure!(gone.status == 3, "a deleted zone is still known");
    let twice = run_with(a, &["zone", "delete", "gone"], b"")?;
    ensure!(twice.status == 3, "a deleted zone was deleted again");
    Ok(())
}

/// What a zone wrote last was published before the node was down: there is nothing to be published now.
fn published_before(a: &Appliance) -> Result<()> {
    let last = a.s3.get(PARTING, "out/last")?;
    ensure!(last.as_deref() == Some(b"farewell\n"), "the object is {last:?}");
    let events = run(a, &["zone", "events"])?;
    let of_lazy = |line: &&str| line.contains(LAZY) && line.contains("published");
    let late = events.lines().find(of_lazy);
    ensure!(late.is_none(), "it was published after the boot: {late:?}");
    Ok(())
}

/// After a second boot.
pub fn came_back(a: &Appliance) -> Result<()> {
    let runs = || Ok((state(a, ZONE)? == "running").then_some(()));
    wait_for("the zone to run again", COMMAND_TIME, runs)?;
    for zone in [STOPPED, LAZY] {
        let state = state(a, zone)?;
        ensure!(state == "installed", "{zone} is {state} after the boot");
    }
    published_before(a)?;
    ensure!(limit(a, ZONE, "pids.max")? == "80", "a changed limit was forgotten");
    for zone in [ZONE, STOPPED, LAZY] {
        run(a, &["zone", "delete", zone])?;
    }
    // Other stories may have left theirs.
    let list = json(a, &["zone", "list"])?;
    let ours = [ZONE, STOPPED, LAZY];
    let left = list.iter().filter(|zone| ours.iter().any(|name| zone["name"] == *name)).count();
    ensure!(left == 0, "{left} deleted zones are still listed");
    Ok(())
}
