//! Attacks that whoever makes them is not meant to survive, or that go on until someone ends them.

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use sys::attempt;

const MIB: usize = 1 << 20;
/// More than any zone of the tests has.
const TOO_MUCH: usize = 16 << 30;
/// One page in each range that a page table of the lowest level covers.
const TABLE_SPAN: usize = 2 << 20;
/// How long the hogs go on that nothing stops.
const SPIN_TIME: Duration = Duration::from_secs(10);
const FLOOD_BYTES: usize = 256 << 20;

/// Runs the hog of a case, if there is one; gives whether it is one that lives on.
pub fn run(case: u8) -> Option<bool> {
    match case {
        3 => memory(),
        8 => segments(),
        10 => page_tables(),
        19 => sockets(),
        44 => everyone(),
        13 | 18 | 21 => {
            flood(FLOOD_BYTES);
            return Some(true);
        }
        12 => {
            let all = fallocate(std::io::stdout(), FallocateFlags::empty(), 0, 1 << 40);
            return Some(all.is_err());
        }
        14 => {
            spin();
            return Some(true);
        }
        _ => return None,
    }
    Some(false)
}

fn memory() {
    let mut held = Vec::new();
    while held.len() * MIB < TOO_MUCH {
        held.push(vec![1u8; MIB]);
    }
    std::hint::black_box(&held);
}

fn segments() {
    for _ in 0..TOO_MUCH / (8 * MIB) {
        if let Err(error) = attempt::shared_segment(8 * MIB) {
            return eprintln!("probe: a segment: {error}");
        }
    }
}

fn page_tables() {
    // 32 TiB: tables for all of it take 64 GiB.
    if let Err(error) = attempt::touch_sparsely(32 << 40, TABLE_SPAN) {
        eprintln!("probe: a large mapping: {error}");
    }
}

fn flood(bytes: usize) {
    let line = [b'f'; 4095].into_iter().chain([b'\n']).collect::<Vec<u8>>();
    let mut out = std::io::stdout().lock();
    for _ in 0..bytes / line.len() {
        if let Err(error) = out.write_all(&line) {
            return eprintln!("probe: flooding: {error}");
        }
    }
}

fn spin() {
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(|| {
                let deadline = Instant::now() + SPIN_TIME;
                while Instant::now() < deadline {
                    std::hint::black_box((0..1_000u64).sum::<u64>());
                }
            })
        })
        .collect();
    for thread in threads {
        if thread.join().is_err() {
            eprintln!("probe: a thread panicked");
        }
    }
}

fn sockets() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        eprintln!("probe: more descriptors: {error}");
    }
    let mut pairs = Vec::new();
    let block = vec![3u8; 64 * 1024];
    loop {
        let (family, flags) = (AddressFamily::Unix, SockFlag::SOCK_NONBLOCK);
        match socketpair(family, SockType::Stream, None, flags) {
            Ok((from, to)) => {
                while send(from.as_raw_fd(), &block, MsgFlags::empty()).is_ok() {}
                while send(to.as_raw_fd(), &block, MsgFlags::empty()).is_ok() {}
                pairs.push((from, to));
            }
            Err(error) => return eprintln!("probe: socket {}: {error}", pairs.len()),
        }
    }
}

fn everyone() {
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) => std::thread::sleep(SPIN_TIME),
        Err(error) => eprintln!("probe: kill(-1): {error}"),
    }
}
