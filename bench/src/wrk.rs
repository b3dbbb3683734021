//! wrk, as a program: its script, its arguments, its report.

use crate::process::{LOAD_CORE, Server};
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What wrk runs: requests from a file of targets, in their order, from a random one on.
const SCRIPT: &str = r#"
local requests, at = {}, 0
function init(arguments)
  for target in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("GET", target)
  end
  at = tonumber(arguments[2]) % #requests
end
function request()
  at = at % #requests + 1
  return requests[at]
end
"#;

/// What a round came to.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// How many a second.
    pub rate: f64,
    /// Of their latencies, in microseconds.
    pub p99_us: f64,
    /// Microseconds of the server's CPU time a request.
    pub cpu_us: f64,
}

/// How it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Encrypted.
    Https,
}

/// The ports of HTTPS are so far beyond those of HTTP.
const HTTPS_BEYOND: u16 = 100;

impl Scheme {
    /// Where a server is asked in this way that serves HTTP there.
    pub fn address(self, http: SocketAddr) -> SocketAddr {
        match self {
            Scheme::Http => http,
            Scheme::Https => SocketAddr::new(http.ip(), http.port() + HTTPS_BEYOND),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// A load of GETs.
#[derive(Debug, Clone)]
pub struct Load {
    /// Over what.
    pub scheme: Scheme,
    /// The file of targets.
    pub targets: PathBuf,
    /// Connections that are kept.
    pub connections: u32,
    /// How long.
    pub seconds: u32,
}

/// Runs a round against a server.
pub fn run(server: &Server, load: &Load) -> Result<Round> {
    let script = load.targets.with_extension("lua");
    std::fs::write(&script, SCRIPT).with_context(|| format!("write {}", script.display()))?;
    let before = server.cpu_seconds();
    let output = Command::new("taskset")
        .args(["-c", &LOAD_CORE.to_string(), "wrk", "-t1", "--latency"])
        .arg(format!("-c{}", load.connections))
        .arg(format!("-d{}s", load.seconds))
        .arg("-s")
        .arg(&script)
        .arg(format!("{}://{}", load.scheme.name(), load.scheme.address(server.address)))
        .arg("--")
        .arg(&load.targets)
        .arg(fastrand::u32(..).to_string())
        .output()
        .context("run wrk")?;
    let cpu = server.cpu_seconds() - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
    let (requests, rate, p99_us) = parse(&text, server.name)?;
    Ok(Round { rate, p99_us, cpu_us: cpu * 1e6 / requests.max(1) as f64 })
}

/// What wrk reports: requests, how many a second, the 99th percentile.
fn parse(text: &str, name: &str) -> Result<(u64, f64, f64)> {
    if let Some(errors) = text.lines().find(|line| line.contains("Non-2xx")) {
        bail!("{name} refused: {}", errors.trim());
    }
    if let Some(errors) = text.lines().find(|line| line.contains("Socket errors")) {
        // A time-out under many connections is the load's own; a broken connection is not.
        ensure!(errors.contains("read 0") && errors.contains("connect 0"), "{name}: {errors}");
    }
    let line = |has: &dyn Fn(&str) -> bool| {
        let found = text.lines().map(str::trim).find(|line| has(line));
        found.with_context(|| format!("wrk said something else:\n{text}"))
    };
    let first = line(&|line| line.contains(" requests in "))?.split_whitespace().next();
    let requests = first.unwrap_or_default().parse()?;
    let last = |line: &str| line.split_whitespace().last().unwrap_or_default().to_owned();
    let rate = last(line(&|line| line.starts_with("Requests/sec"))?).parse()?;
    let p99 = &last(line(&|line| line.starts_with("99%"))?);
    Ok((requests, rate, microseconds(p99).with_context(|| format!("a time: {p99}"))?))
}

fn microseconds(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..unit].parse().ok()?;
    let factor = match &text[unit..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(number * factor)
}

/// Writes a file of targets.
pub fn write_targets(path: &Path, targets: impl Iterator<Item = String>) -> Result<()> {
    let text = targets.fold(String::new(), |text, target| text + &target + "\n");
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod test {
    use super::*;

    const REPORT: &str = "Running 2s test @ http://127.0.0.1:9000\n  1 threads and 32 connections\n\
        Latency Distribution\n     50%  501.00us\n     99%    1.25ms\n  \
        63521 requests in 2.00s, 260.15MB read\nRequests/sec:  31745.31\nTransfer/sec:    130.01MB\n";

    #[test]
    fn a_report_is_read_and_one_of_refusals_is_an_error() {
        assert_eq!(parse(REPORT, "x").unwrap(), (63_521, 31_745.31, 1250.0));
        assert!(parse(&format!("{REPORT}  Non-2xx or 3xx responses: 7\n"), "x").is_err());
        assert!(parse("nothing", "x").is_err());
    }
}
