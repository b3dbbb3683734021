//! GETs of presigned URLs by wrk: the same bytes from each server.

use crate::load;
use crate::peers::{KEYS_ACCESS, Peers, Which, keys};
use crate::process::Server;
use crate::report::{Bar, Comparison, Report};
use crate::settings::Scale;
use crate::wrk::{self, Round, Scheme};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tests::sigv4::{self, Parts};

/// The bucket of all objects that are read.
pub const BUCKET: &str = "bench";
/// Seconds that a presigned URL is good for, at least: longer than any run.
const EXPIRES_SECONDS: usize = 24 * 60 * 60;
/// SeaweedFS is that much slower that a round in so many shows enough.
const ROUNDS_A_SEAWEEDFS: usize = 3;

/// A size of objects and how many there are of it.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// In the table.
    pub name: &'static str,
    /// Bytes of each.
    pub bytes: usize,
    /// How many: so that all are in memory, and nginx can keep every file open.
    pub objects: usize,
    /// The most CPU time beside nginx's.
    nginx_max: f64,
    /// The least part of s3s-fs's CPU time, if that is asked for.
    s3s_fs_min: Option<f64>,
}

/// What is read.
pub const SIZES: [Size; 3] = [
    Size { name: "4 KiB", bytes: 4 << 10, objects: 10_000, nginx_max: 2.0, s3s_fs_min: Some(5.0) },
    Size { name: "64 KiB", bytes: 64 << 10, objects: 2_000, nginx_max: 1.3, s3s_fs_min: None },
    Size { name: "1 MiB", bytes: 1 << 20, objects: 200, nginx_max: 1.05, s3s_fs_min: None },
];

/// A presigned target.
pub fn presigned(host: &str, path: &str, expires: usize) -> String {
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let time = SystemTime::now();
    let stamp = sigv4::timestamp(time);
    let credential = format!("{KEYS_ACCESS}/{}/{}/s3/aws4_request", &stamp[..8], sigv4::REGION);
    let mut query = vec![
        own("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        own("X-Amz-Credential", &credential),
        own("X-Amz-Date", &stamp),
        own("X-Amz-Expires", &expires.to_string()),
        own("X-Amz-SignedHeaders", "host"),
    ];
    let headers = [own("host", host)];
    let payload = sigv4::UNSIGNED;
    let parts = Parts { method: "GET", path, query: &query, headers: &headers, payload, time };
    let signature = sigv4::sign(&keys(), &parts).hex;
    query.push(own("X-Amz-Signature", &signature));
    format!("{path}?{}", sigv4::query_string(&query))
}

/// Objects in the folder of files and in the stores that have none.
pub fn prepare(peers: &Peers, servers: &[Server], size: Size, scale: &Scale) -> Result<()> {
    let objects = scale.objects(size.objects);
    let prefix = prefix(size);
    let folder = peers.files().join(BUCKET).join(prefix.trim_end_matches('/'));
    fs::create_dir_all(&folder)?;
    once(&peers.run.join(format!("filled-files-{}", size.bytes)), || {
        (0..objects).try_for_each(|number| {
            let content = tests::load::content(number as u64, size.bytes);
            Ok(fs::write(folder.join(number.to_string()), content)?)
        })
    })?;
    for server in servers.iter().filter(|server| is_filled_by_requests(server)) {
        once(&peers.run.join(format!("filled-{}-{}", server.name, size.bytes)), || {
            load::fill(server.address, BUCKET, &prefix, objects, size.bytes)
                .with_context(|| format!("fill {}", server.name))
        })?;
    }
    Ok(())
}

/// Does what leaves its traces in the run's data, unless another part has done it.
fn once(mark: &Path, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if !mark.exists() {
        work()?;
        fs::write(mark, "").with_context(|| format!("write {}", mark.display()))?;
    }
    Ok(())
}

fn is_filled_by_requests(server: &Server) -> bool {
    [Which::Storaged, Which::SeaweedFs].iter().any(|which| which.name() == server.name)
}

fn prefix(size: Size) -> String {
    format!("{}/", size.bytes)
}

/// A file of distinct presigned targets for a server.
pub fn targets(
    peers: &Peers,
    server: &Server,
    size: Size,
    scheme: Scheme,
    scale: &Scale,
) -> Result<PathBuf> {
    let file = peers.run.join(format!("{}-{}.targets", server.name, size.bytes));
    let host = scheme.address(server.address).to_string();
    let objects = scale.objects(size.objects);
    let target = |number: usize| {
        let path = format!("/{BUCKET}/{}{}", prefix(size), number % objects);
        // Where objects come up again, the URL is another one all the same.
        presigned(&host, &path, EXPIRES_SECONDS + number / objects)
    };
    wrk::write_targets(&file, (0..scale.urls).map(target))?;
    Ok(file)
}

/// All rows of one size.
pub fn run(
    peers: &Peers,
    servers: &[Server],
    size: Size,
    scheme: Scheme,
    scale: &Scale,
    report: &mut Report,
) -> Result<()> {
    prepare(peers, servers, size, scale)?;
    let files: Vec<_> = servers
        .iter()
        .map(|server| targets(peers, server, size, scheme, scale))
        .collect::<Result<_>>()?;
    let mut rounds: Vec<Vec<Option<Round>>> = servers.iter().map(|_| Vec::new()).collect();
    let ask = |at: usize, seconds: u32| {
        let load = wrk::Load { scheme, targets: files[at].clone(), connections: 32, seconds };
        wrk::run(&servers[at], &load)
    };
    for at in 0..servers.len() {
        ask(at, 1)?;
    }
    for round in 0..scale.rounds {
        for turn in 0..servers.len() {
            // Each goes first and last as often.
            let at = if round % 2 == 0 { turn } else { servers.len() - 1 - turn };
            let skip =
                servers[at].name == Which::SeaweedFs.name() && round % ROUNDS_A_SEAWEEDFS != 0;
            let found = if skip { None } else { Some(ask(at, scale.seconds)?) };
            rounds[at].push(found);
        }
    }
    let name = |which: Which| servers.iter().position(|server| server.name == which.name());
    let Some(ours) = name(Which::Storaged) else { return Ok(()) };
    for (at, server) in servers.iter().enumerate().filter(|(at, _)| *at != ours) {
        let pairs: Vec<_> = rounds[ours]
            .iter()
            .zip(&rounds[at])
            .filter_map(|(a, b)| Some(((*a)?, (*b)?)))
            .collect();
        let bar = match (server.name, size.s3s_fs_min) {
            _ if scheme == Scheme::Https => None,
            (name, _) if name == Which::Nginx.name() => Some(Bar::AtMost(size.nginx_max)),
            (name, Some(least)) if name == Which::S3sFs.name() => Some(Bar::AtMost(1.0 / least)),
            _ => None,
        };
        let over = if scheme == Scheme::Https { " over HTTPS" } else { "" };
        let what = format!("GET {}{over}", size.name);
        let of =
            |figure: fn(&Round) -> f64| pairs.iter().map(|(a, b)| (figure(a), figure(b))).collect();
        report.compare(Comparison::new(
            &what,
            "CPU µs a request",
            server.name,
            of(|r| r.cpu_us),
            bar,
        ));
        report.compare(Comparison::new(&what, "requests/s", server.name, of(|r| r.rate), None));
        report.compare(Comparison::new(&what, "p99 µs", server.name, of(|r| r.p99_us), None));
    }
    Ok(())
}
