//! Attacks that whoever makes them is not meant to survive, or that go on until someone ends them.

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
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
/// What direct access has to be aligned to, on any disk.
const BLOCK_BYTES: usize = 4096;
/// One direct write, and over how many of them the hammer goes.
const HAMMER_BYTES: usize = 64 << 10;
const HAMMERED: usize = 32;

/// Runs the hog of a case, if there is one; gives whether it is one that lives on.
pub fn run(case: u8) -> Option<bool> {
    match case {
        3 => memory(),
        8 => segments(),
        10 => page_tables(),
        19 => sockets(),
        44 => everyone(),
        13 => {
            if let Err(error) = hammer() {
                eprintln!("probe: hammering: {error}");
                return Some(false);
            }
            return Some(true);
        }
        18 | 21 => {
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

/// Writes past the page cache, again and again over the same blocks, and reads them back: to a file of the
/// data disk, which is `/out` in a standing zone and a task's output.
fn hammer() -> std::io::Result<()> {
    let direct =
        |options: &mut OpenOptions, path: &str| options.custom_flags(libc::O_DIRECT).open(path);
    let own = "/out/hammered";
    let (writer, reader) =
        match direct(File::options().write(true).create(true).truncate(true), own) {
            Ok(writer) => (writer, Some(direct(File::options().read(true), own)?)),
            // A task may write to its output and not read it.
            Err(_) => (direct(File::options().write(true), "/proc/self/fd/1")?, None),
        };
    let mut room = vec![b'd'; HAMMER_BYTES + BLOCK_BYTES];
    let aligned = room.as_ptr().align_offset(BLOCK_BYTES);
    let block = &mut room[aligned..aligned + HAMMER_BYTES];
    let deadline = Instant::now() + SPIN_TIME;
    let mut turns = 0;
    while Instant::now() < deadline && turns * HAMMER_BYTES < FLOOD_BYTES {
        // The first block holds what was said before.
        let at = BLOCK_BYTES + (turns % HAMMERED) * HAMMER_BYTES;
        writer.write_all_at(block, at as u64)?;
        if let Some(reader) = &reader {
            reader.read_exact_at(block, at as u64)?;
        }
        turns += 1;
    }
    eprintln!("probe: {turns} direct writes of {} KiB", HAMMER_BYTES >> 10);
    Ok(())
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
