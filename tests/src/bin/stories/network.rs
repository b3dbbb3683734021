//! Stories of zones' networks: what a zone reaches, what it does not, how fast, and what is left of it.

use crate::daily::mobula;
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tests::agent::wait_for;
use tests::appliance::Appliance;

const NAME: &str = "net";
/// This machine, as QEMU's user network shows it to the appliance, and the appliance's own address there.
const HOST: &str = "10.0.2.2";
const NODE: &str = "10.0.2.15";
/// The node, as its zones see it.
const GATEWAY: &str = "100.96.0.1";
const REFUSED: &str = "Operation not permitted";
/// Both rates, in bytes of packets a second, and what is asked for later.
const RATE: u64 = 1_000_000;
const LATER: u64 = 3_000_000;
/// Of a full packet this many bytes are the program's: IP, TCP and its timestamps take the rest.
const PAYLOAD: f64 = 1448.0 / 1500.0;
/// How far a rate may be off.
const ERROR_MAX: f64 = 0.05;
/// The beginning of a connection, which is not measured.
const WARM_UP: Duration = Duration::from_secs(2);
const START_TIME: Duration = Duration::from_secs(120);

/// Servers on this machine.
struct World {
    hello: u16,
    source: u16,
    sink: u16,
    /// Bytes a second of each connection to the sink, past its beginning.
    rates: Receiver<f64>,
}

impl World {
    fn start() -> Result<Self> {
        let listen = || TcpListener::bind(("127.0.0.1", 0));
        let (hello, source, sink) = (listen()?, listen()?, listen()?);
        let (told, rates) = channel();
        let world = Self {
            hello: hello.local_addr()?.port(),
            source: source.local_addr()?.port(),
            sink: sink.local_addr()?.port(),
            rates,
        };
        std::thread::spawn(move || {
            for mut stream in hello.incoming().flatten() {
                // A caller that is gone is the caller's loss.
                drop(stream.write_all(b"hello\n"));
            }
        });
        std::thread::spawn(move || {
            let block = vec![0; 64 * 1024];
            for mut stream in source.incoming().flatten() {
                while stream.write_all(&block).is_ok() {}
            }
        });
        std::thread::spawn(move || {
            for stream in sink.incoming().flatten() {
                if told.send(measure(stream)).is_err() {
                    return;
                }
            }
        });
        Ok(world)
    }
}

fn measure(mut stream: impl Read) -> f64 {
    let start = Instant::now() + WARM_UP;
    let (mut bytes, mut last, mut first) = (0_usize, start, None);
    let mut block = vec![0; 64 * 1024];
    while let Ok(got @ 1..) = stream.read(&mut block) {
        last = Instant::now();
        match first {
            Some(_) => bytes += got,
            None if last > start => first = Some(last),
            None => {}
        }
    }
    bytes as f64 / last.duration_since(first.unwrap_or(start)).as_secs_f64()
}

/// What a script prints in a zone.
fn inside(a: &Appliance, zone: &str, script: &str) -> Result<String> {
    mobula(a, &["zone", "exec", zone, "--", "bash", "-c", script])
}

fn create(a: &Appliance, more: &[&str]) -> Result<()> {
    let mut arguments = vec!["zone", "create", "--image", "base"];
    arguments.extend(more);
    mobula(a, &arguments)?;
    let zone = more.last().context("a zone has a name")?;
    wait_for("the zone to run", START_TIME, || {
        let text = mobula(a, &["zone", "get", "--json", zone])?;
        ensure!(!text.contains("\"failed\""), "{text}");
        Ok(text.contains("\"running\"").then_some(()))
    })
}

/// A line that tells how a connection ends: what the other side says, or why there is none.
fn attempt(protocol: &str, address: &str, port: u16) -> String {
    format!(
        "( exec 3<>/dev/{protocol}/{address}/{port} && timeout 5 head -1 <&3 ) 2>&1 | tail -1;\n"
    )
}

/// Asks the store for something, by the node's address for zones.
fn store() -> String {
    let request = "GET / HTTP/1.0\\r\\n\\r\\n";
    format!("exec 3<>/dev/tcp/{GATEWAY}/9000; printf '{request}' >&3; timeout 5 head -1 <&3")
}

pub fn rules(a: &Appliance) -> Result<()> {
    let world = World::start()?;
    create(a, &["bare"])?;
    let bare = inside(a, "bare", &attempt("tcp", HOST, world.hello))?;
    ensure!(bare.contains(REFUSED), "a zone without a network: {bare}");
    mobula(a, &["zone", "delete", "bare"])?;

    let allow = [
        format!("tcp:{HOST}:{}", world.hello),
        format!("tcp:{HOST}:{}", world.source),
        format!("tcp:{HOST}:{}", world.sink),
        format!("tcp:{GATEWAY}:9000"),
    ];
    let rate = RATE.to_string();
    let mut arguments = vec!["--out-rate", &rate, "--in-rate", &rate];
    allow.iter().for_each(|rule| arguments.extend(["--allow", rule]));
    arguments.push(NAME);
    create(a, &arguments)?;
    let hello = inside(a, NAME, &attempt("tcp", HOST, world.hello))?;
    ensure!(hello == "hello\n", "what it may reach it reaches: {hello}");
    let store = inside(a, NAME, &store())?;
    ensure!(store.starts_with("HTTP/1."), "the store, by the node's address for zones: {store}");
    let closed = [
        ("tcp", HOST, 1),
        ("udp", HOST, world.hello),
        ("tcp", "169.254.169.254", 80),
        ("tcp", "::ffff:169.254.169.254", 80),
        ("tcp", "fe80::1", 80),
        ("tcp", NODE, 9000),
        ("tcp", &format!("::ffff:{NODE}"), 9000),
        ("tcp", GATEWAY, 8090),
        ("tcp", "100.96.0.77", 80),
        ("udp", "1.1.1.1", 53),
    ];
    let script: String =
        closed.iter().map(|(protocol, to, port)| attempt(protocol, to, *port)).collect();
    let answers = inside(a, NAME, &script)?;
    for ((protocol, to, port), answer) in closed.iter().zip(answers.lines()) {
        println!("  {protocol} {to} {port}: {answer}");
        ensure!(answer.contains(REFUSED), "{protocol} {to} {port}: {answer}");
    }
    ensure!(answers.lines().count() == closed.len(), "{answers}");
    let own = inside(a, NAME, &attempt("tcp", "127.0.0.1", 9000))?;
    ensure!(own.contains("refused"), "the node's loopback is not the zone's: {own}");
    let stats = mobula(a, &["zone", "stats", "--json", NAME])?;
    let refused = number(&stats, "refused")?;
    ensure!(refused >= closed.len() as u64, "{refused} refusals are counted of {}", closed.len());

    rates(a, &world, RATE)?;
    let later = LATER.to_string();
    mobula(a, &["zone", "update", NAME, "--out-rate", &later, "--in-rate", &later])?;
    rates(a, &world, LATER)?;
    Ok(())
}

/// A number in an answer.
fn number(json: &str, name: &str) -> Result<u64> {
    let (_, rest) = json.split_once(&format!("\"{name}\":")).with_context(|| json.to_owned())?;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

fn near(what: &str, payload: f64, rate: u64) -> Result<String> {
    let measured = payload / PAYLOAD;
    let error = measured / rate as f64 - 1.0;
    let said = format!("{what}: {measured:.0} B/s of {rate} asked for, {:+.2} %", error * 100.0);
    println!("  {said}");
    ensure!(error.abs() < ERROR_MAX, "{what} is {measured:.0} B/s");
    Ok(said)
}

/// A zone that sends and receives all it can, once each way; in words, how fast that was.
pub fn paced(a: &Appliance) -> Result<String> {
    let world = World::start()?;
    let allow = [format!("tcp:{HOST}:{}", world.source), format!("tcp:{HOST}:{}", world.sink)];
    let rate = RATE.to_string();
    let mut arguments = vec!["--out-rate", &rate, "--in-rate", &rate];
    allow.iter().for_each(|rule| arguments.extend(["--allow", rule]));
    arguments.push(NAME);
    create(a, &arguments)?;
    let measured = rates(a, &world, RATE);
    mobula(a, &["zone", "delete", NAME])?;
    measured
}

fn rates(a: &Appliance, world: &World, rate: u64) -> Result<String> {
    let script = format!("timeout 8 cat /dev/zero >/dev/tcp/{HOST}/{}; true", world.sink);
    inside(a, NAME, &script)?;
    let out = near("out", world.rates.recv_timeout(START_TIME)?, rate)?;
    let (warm_up, bytes) = (2 * rate, 6 * rate);
    let script = format!(
        "exec 3</dev/tcp/{HOST}/{}; head -c {warm_up} <&3 >/dev/null; a=$EPOCHREALTIME; \
         head -c {bytes} <&3 >/dev/null; echo $a $EPOCHREALTIME",
        world.source
    );
    let times = inside(a, NAME, &script)?;
    let Some((begin, end)) = times.trim().split_once(' ') else { bail!("no times: {times}") };
    let into = near("in", bytes as f64 / (end.parse::<f64>()? - begin.parse::<f64>()?), rate)?;
    Ok(format!("{out}; {into}"))
}

pub fn without_zoned(a: &Appliance) -> Result<()> {
    let world = World::start()?;
    a.agent.kill_daemon("zoned", START_TIME)?;
    let script = attempt("tcp", HOST, world.hello) + &attempt("tcp", "169.254.169.254", 80);
    let answers = inside(a, NAME, &script)?;
    let refused = answers.lines().all(|answer| answer.contains(REFUSED));
    ensure!(refused && answers.lines().count() == 2, "rules outlive zoned: {answers}");
    let store = inside(a, NAME, &store())?;
    ensure!(store.starts_with("HTTP/1."), "and so does what they allow: {store}");
    mobula(a, &["zone", "delete", NAME])?;
    let gone = || Ok(links(a)?.is_empty().then_some(()));
    wait_for("the zone's link to be gone", START_TIME, gone)
}

/// Links of zones that the node has.
fn links(a: &Appliance) -> Result<Vec<String>> {
    let all = a.agent.list("/sys/class/net", false)?;
    let name = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let zones =
        |name: &String| name.strip_prefix('z').is_some_and(|number| number.parse::<u32>().is_ok());
    Ok(all.iter().map(name).filter(zones).collect())
}
