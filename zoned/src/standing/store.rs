//! What init keeps of a zone while zoned is away: its first process, and the socket to it.
//!
//! Under names of a few letters, `zp7` and `zc7`, because all names together are one variable of the next
//! zoned's environment (sd_listen_fds(3)).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use sys::activation;
use sys::seqpacket::Socket;

const PROCESS: &str = "zp";
const CONTROL: &str = "zc";

/// What was kept of a zone.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(super) process: Option<OwnedFd>,
    pub(super) control: Option<Socket>,
}

/// Has init keep a zone's descriptors; without an init that is nothing.
pub(super) fn keep(
    number: u32,
    process: BorrowedFd<'_>,
    control: BorrowedFd<'_>,
) -> io::Result<()> {
    put(PROCESS, number, process)?;
    crate::failpoint::hit("stored-one");
    put(CONTROL, number, control)?;
    crate::failpoint::hit("stored");
    Ok(())
}

fn put(kind: &str, number: u32, fd: BorrowedFd<'_>) -> io::Result<()> {
    activation::notify_with_fds(&format!("FDSTORE=1\nFDNAME={kind}{number}"), &[fd])
}

/// Has init close them.
pub(super) fn forget(number: u32) {
    for kind in [PROCESS, CONTROL] {
        let notice = format!("FDSTOREREMOVE=1\nFDNAME={kind}{number}");
        if let Err(error) = activation::notify(&notice) {
            eprintln!("zoned: init still keeps descriptors of zone {number}: {error}");
        }
        crate::failpoint::hit("unstored");
    }
}

/// Sorts what init handed over into zones' and others'.
pub(super) fn sort(
    handed: Vec<(String, OwnedFd)>,
) -> (BTreeMap<u32, Kept>, Vec<(String, OwnedFd)>) {
    let mut kept: BTreeMap<u32, Kept> = BTreeMap::new();
    let mut others = Vec::new();
    for (name, fd) in handed {
        match parse(&name) {
            Some((PROCESS, number)) => kept.entry(number).or_default().process = Some(fd),
            Some((_, number)) => kept.entry(number).or_default().control = Some(fd.into()),
            None => others.push((name, fd)),
        }
    }
    (kept, others)
}

fn parse(name: &str) -> Option<(&'static str, u32)> {
    let kind = [PROCESS, CONTROL].into_iter().find(|kind| name.starts_with(kind))?;
    name[kind.len()..].parse().ok().map(|number| (kind, number))
}

#[cfg(test)]
mod test {
    use super::*;
    use std::fs::File;

    #[test]
    fn descriptors_find_their_zones() {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let names = ["wire", "zp7", "zc7", "zp12", "zpx", "zone"];
        let handed = names.iter().map(|name| ((*name).to_owned(), null())).collect();
        let (kept, others) = sort(handed);
        assert!(kept[&7].process.is_some() && kept[&7].control.is_some());
        assert!(kept[&12].control.is_none() && kept.len() == 2);
        assert_eq!(
            others.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
            ["wire", "zpx", "zone"]
        );
    }

    #[test]
    fn the_names_of_all_zones_fit_one_variable() {
        let longest = format!("{PROCESS}{}:", crate::slot::SLOTS_MAX);
        // execve(2): MAX_ARG_STRLEN.
        assert!(longest.len() * wire::service::FD_STORE_MAX < 128 * 1024);
    }
}
