//! A large object that is in memory, gone through by a program in a zone: mapped, read, and got from the node over
//! S3 through the zone's own network.
//!
//! The object is storaged's: the zone is shown the very file that S3 answers from. All of it happens in a network
//! namespace of this run, so that the node's bridge and rules are nobody else's.

use super::{Output, Setting, ours::Node};
use crate::get::presigned;
use crate::load::{self, Connection};
use crate::peers::{Peers, Which};
use crate::report::{Comparison, Report};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use sys::namespace;
use sys::netlink::{Link, Netlink};
use wire::carve::{Network, Protocol, Rule};

/// Bytes of the object.
const OBJECT_BYTES: usize = 256 << 20;
/// The same, when it is only to be seen that it works.
const OBJECT_BYTES_QUICK: usize = 16 << 20;
/// Rounds that are counted.
const ROUNDS: usize = 9;
const ROUNDS_QUICK: usize = 3;
/// How zones know the node (docs/zones.md).
const NODE: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 1);
const BUCKET: &str = "bench";
const KEY: &str = "resident";
/// Seconds that the URL is good for.
const EXPIRES_SECONDS: usize = 60 * 60;
/// What runs in the zone.
const READER: &str = include_str!("reader.py");

/// Measures and reports it.
///
/// # Errors
/// Whatever can't be made or run here.
pub fn run(setting: &Setting, cgroups: &Path, quick: bool, report: &mut Report) -> Result<()> {
    let network = namespace::network().context("make a network namespace")?;
    namespace::within_network(network.as_fd(), || measure(setting, cgroups, quick, report))
        .context("enter a network namespace")?
}

fn measure(setting: &Setting, cgroups: &Path, quick: bool, report: &mut Report) -> Result<()> {
    Netlink::open().and_then(|mut netlink| netlink.bring_up(Link(1))).context("bring up lo")?;
    let run = setting.folder.join("resident");
    fs::create_dir_all(&run)?;
    let peers =
        Peers { cache: run.join("none"), run: run.clone(), storaged: setting.storaged.clone() };
    let data = run.join("storaged");
    let (which, port) = (Which::Storaged, Which::Storaged.address().port());
    let server = peers.storaged_at(
        (which.name(), which.address()),
        &format!("0.0.0.0:{port}"),
        &data,
        &[],
    )?;
    load::make_bucket(server.address, BUCKET)?;
    let (bytes, rounds) =
        if quick { (OBJECT_BYTES_QUICK, ROUNDS_QUICK) } else { (OBJECT_BYTES, ROUNDS) };
    let path = format!("/{BUCKET}/{KEY}");
    let body = tests::load::content(1, bytes);
    let (status, _) = Connection::new(server.address)?.ask("PUT", &path, &[], &body)?;
    ensure!(status == 200, "the object was not taken: {status}");
    drop(body);
    let object = File::open(file_of(&data, bytes as u64)?.context("where is the object's file?")?)?;
    // Python is the host's.
    let setting = Setting { folder: run.clone(), ..setting.clone() };
    let mut node = Node::new(&setting, Path::new("/"), cgroups)?;
    let host = format!("{NODE}:{port}");
    let environment = [
        ("ROUNDS", rounds.to_string()),
        ("NODE_ADDRESS", NODE.to_string()),
        ("NODE_PORT", port.to_string()),
        ("TARGET", presigned(&host, &path, EXPIRES_SECONDS)),
        ("HOST", host),
    ];
    let output = Output::new(&run)?;
    node.visit(&format!("exec python3 -c '{READER}'"), &environment, object, &output, &to(port))?;
    let said = output.text()?;
    compare(&said, bytes >> 20, report)
}

/// To the node's S3, and to nobody else.
fn to(port: u16) -> Network {
    let rule = Rule {
        protocol: Protocol::Tcp,
        address: NODE.into(),
        prefix: 32,
        first_port: port,
        last_port: port,
    };
    Network { allow: vec![rule], out_bytes: None, in_bytes: None }
}

/// The only file of so many bytes below a folder.
fn file_of(folder: &Path, bytes: u64) -> Result<Option<PathBuf>> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let found = entry.metadata()?;
            if found.is_dir() {
                folders.push(entry.path());
            } else if found.len() == bytes {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}

fn compare(said: &str, mib: usize, report: &mut Report) -> Result<()> {
    let mut took: BTreeMap<&str, [Vec<f64>; 3]> = BTreeMap::new();
    for line in said.lines() {
        let mut words = line.split(' ');
        let ways = took.entry(words.next().unwrap_or_default()).or_default();
        for way in ways {
            way.push(words.next().context("a round without a figure")?.parse()?);
        }
    }
    for (what, work) in [("touch", "every page touched"), ("sum", "a CRC-32 of all of it")] {
        let [mapped, read, fetched] = took.get(what).context("the reader has left out a part")?;
        let what = format!("resident object of {mib} MiB in a zone, mapped: {work}");
        for (peer, theirs) in [("read", read), ("S3 GET", fetched)] {
            report.compare(Comparison::of_medians(&what, "ms", peer, mapped, theirs, None));
        }
    }
    Ok(())
}
