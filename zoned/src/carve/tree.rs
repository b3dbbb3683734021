//! The tree of cgroups: accounts, and zones in them.

use super::group::{self, Cgroup, Files, Host, write};
use super::plan::{self, AccountCarve, Controller, Controllers, Disk};
use super::protected::Protected;
use super::{CgroupError, failed, read};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wire::carve::{Carve, Limit};
use wire::standing::{Stats, ZoneName};
use wire::task::AttemptId;

/// How long leftovers of an earlier zoned get to be gone after they were killed.
const KILL_MS_MAX: u64 = 5_000;
/// How long an account's cgroup stays after it was last asked for: an account that has one task after the
/// other does not need it made again each time.
const IDLE_MS: u64 = 10_000;
/// How often that is looked at.
const TIDY_MS: u64 = 1_000;
/// Removed cgroups that may live on: each takes some 100 KiB of the kernel's memory.
const DYING_MAX: u64 = 256;
/// What is reclaimed at a time when there are more: a few milliseconds' work.
const RECLAIM: &str = "8M";
const MIB: u64 = 1 << 20;

/// Whose cgroup it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// A task's zone.
    Task(AttemptId),
    /// A standing zone.
    Standing(&'a ZoneName),
}

impl Place<'_> {
    /// The name of its directory. Zone names are letters, digits and `-`: they are safe in paths.
    #[must_use]
    pub fn folder(self) -> String {
        match self {
            Self::Task(attempt) => format!("z-{}", attempt.0),
            Self::Standing(name) => format!("s-{name}"),
        }
    }
}

/// The cgroup that all zones are in, and the accounts in it.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    host: Host,
    accounts: BTreeMap<u32, Account>,
    /// What an account may use that has no carve of its own.
    standard: AccountCarve,
    carves: BTreeMap<u32, AccountCarve>,
    /// What accounts used in cgroups that are gone, and over networks that are.
    spent: BTreeMap<u32, Stats>,
    protected: Protected,
    tidied: Instant,
}

#[derive(Debug)]
struct Account {
    path: PathBuf,
    files: Files,
    asked: Instant,
}

impl Account {
    fn stats(&self) -> Stats {
        // A file that is not there belongs to a controller that is not.
        read::stats(|name| fs::read_to_string(self.path.join(name)).unwrap_or_default())
    }
}

impl Tree {
    /// Takes over the cgroup at `path`. Zones named in `keep` (as [`Cgroup::name`] gives it) are left as
    /// they are; whatever else an earlier zoned left there is killed and removed.
    ///
    /// # Errors
    /// [`CgroupError`]: without cgroup v2 there are no zones.
    pub fn open(path: &Path, keep: &BTreeSet<String>) -> Result<Self, CgroupError> {
        let root = |source| CgroupError::Root { path: path.to_owned(), source };
        let offered = fs::read_to_string(path.join("cgroup.controllers")).map_err(root)?;
        let host = Host { controllers: Controllers::parse(&offered), disk: None };
        let (accounts, carves) = (BTreeMap::new(), BTreeMap::new());
        let standard = AccountCarve::default();
        let tree = Self {
            path: path.to_owned(),
            host,
            accounts,
            standard,
            carves,
            spent: BTreeMap::new(),
            protected: Protected::default(),
            tidied: Instant::now(),
        };
        tree.clear(keep)?;
        tree.delegate(path)?;
        Ok(tree)
    }

    /// From now on rates of the disk are rates of this one, and it is shared out by `io.weight`; says what
    /// of that cannot be.
    pub fn set_disk(&mut self, disk: Option<Disk>) -> Option<String> {
        self.host.disk = disk;
        if !self.host.controllers.has(Controller::Io) {
            return None;
        }
        let Some(disk) = disk else {
            return Some("the data is on no single disk: zones have no rates of it".to_owned());
        };
        let shared = self.share(disk);
        shared.err().map(|why| format!("disk {disk} is not shared out by weight: {why}"))
    }

    /// Has iocost share the disk out, which takes a word in the root of all cgroups. Its own model of the
    /// disk does: it learns how fast the disk is, and holds nobody back while the disk is not busy.
    fn share(&self, disk: Disk) -> Result<(), String> {
        let root = self.path.parent().ok_or("the cgroup of all zones is the root")?;
        let path = root.join("io.cost.qos");
        let wanted = format!("{disk} enable=1");
        write(root, "io.cost.qos", &wanted).map_err(|error| crate::chain(&error))?;
        let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
        if text.lines().any(|line| line.starts_with(&wanted)) {
            Ok(())
        } else {
            Err(format!("{} is {text:?} after {wanted:?} was written to it", path.display()))
        }
    }

    /// What each account may use that is given nothing else by [`Self::set_account`]; for accounts that
    /// have no cgroup yet.
    pub fn set_standard(&mut self, carve: AccountCarve) {
        self.standard = carve;
    }

    /// What each account may use that is given nothing else.
    #[must_use]
    pub const fn standard(&self) -> &AccountCarve {
        &self.standard
    }

    /// What this kernel lacks, in words.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        self.host.controllers.degraded()
    }

    /// The memory that all zones may use in all, in MiB, if that is limited.
    #[must_use]
    pub fn memory_mib_max(&self) -> Option<u64> {
        let text = fs::read_to_string(self.path.join("memory.max")).ok()?;
        text.trim().parse::<u64>().ok().map(|bytes| bytes / MIB)
    }

    /// The processes that all zones may have in all, if that is limited.
    #[must_use]
    pub fn pids_max(&self) -> Option<u32> {
        fs::read_to_string(self.path.join("pids.max")).ok()?.trim().parse().ok()
    }

    /// Whether an account has a cgroup.
    #[must_use]
    pub fn has_accounts(&self) -> bool {
        !self.accounts.is_empty()
    }

    /// Limits the memory that all zones may use in all, where the kernel can.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn limit_memory(&self, mib: u64) -> Result<(), CgroupError> {
        if !self.host.controllers.has(Controller::Memory) {
            return Ok(());
        }
        match write(&self.path, "memory.max", &(mib * MIB).to_string()) {
            // The root of all cgroups has no limits.
            Err(CgroupError::File { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Makes the cgroup of a zone, its account's first if it has none, and limits it.
    ///
    /// # Errors
    /// [`CgroupError`], and there is no cgroup.
    pub fn make(
        &mut self,
        account: u32,
        place: Place<'_>,
        carve: &Carve,
    ) -> Result<Cgroup, CgroupError> {
        let path = self.account(account)?.path.join(place.folder());
        fs::create_dir(&path).map_err(failed("make", &path))?;
        let made = Cgroup::open(path.clone(), &self.host, true);
        let limited = made.and_then(|mut cgroup| {
            cgroup.set(carve)?;
            self.protect(account, &cgroup.name(), carve)?;
            Ok(cgroup)
        });
        if limited.is_err() {
            group::remove(&path)?;
        }
        limited
    }

    /// Makes a zone's limits those of the carve, as [`Cgroup::apply`] does, and what is protected of its
    /// account's memory.
    ///
    /// # Errors
    /// [`CgroupError`]; the zone's limits are as they were, unless its account's are what failed.
    pub fn apply(&mut self, cgroup: &mut Cgroup, carve: &Carve) -> Result<Vec<Limit>, CgroupError> {
        let limits = cgroup.apply(carve)?;
        let name = cgroup.name();
        if let Some(account) = account_of(&name) {
            self.protect(account, &name, carve)?;
        }
        Ok(limits)
    }

    /// Notes what a zone has protected, and hands it up the tree.
    fn protect(&mut self, account: u32, zone: &str, carve: &Carve) -> Result<(), CgroupError> {
        let low = u64::from(carve.memory_low_mib) * MIB;
        if self.protected.set(account, zone, low) { self.hand_up(account) } else { Ok(()) }
    }

    /// Writes what an account, and all zones, have protected.
    fn hand_up(&mut self, account: u32) -> Result<(), CgroupError> {
        if !self.host.controllers.has(Controller::Memory) {
            return Ok(());
        }
        let carve = self.carves.get(&account).unwrap_or(&self.standard);
        let desired = plan::of_account(carve, self.protected.of_account(account), self.host.disk);
        if let Some(known) = self.accounts.get_mut(&account) {
            known.files.set(desired)?;
        }
        write(&self.path, "memory.low", &self.protected.all().to_string())
    }

    /// The cgroup of a zone that outlived an earlier zoned, by its name. Nothing is known of its limits
    /// until [`Cgroup::apply`] has set them.
    ///
    /// # Errors
    /// [`CgroupError::File`] if it is not there.
    pub fn adopt(&mut self, name: &str) -> Result<Cgroup, CgroupError> {
        if let Some(account) = account_of(name) {
            self.account(account)?;
        }
        Cgroup::open(self.path.join(name), &self.host, false)
    }

    /// Caps an account's total, now and when its cgroup is made again.
    ///
    /// # Errors
    /// [`CgroupError`], and its caps are as they were.
    pub fn set_account(&mut self, account: u32, carve: &AccountCarve) -> Result<(), CgroupError> {
        let desired = plan::of_account(carve, self.protected.of_account(account), self.host.disk);
        if let Some(known) = self.accounts.get_mut(&account) {
            known.files.set(desired)?;
        }
        self.carves.insert(account, carve.clone());
        Ok(())
    }

    /// The limits of an account, as asked for and as in force: nowhere while it has no zone.
    #[must_use]
    pub fn account_limits(&self, account: u32) -> Vec<Limit> {
        if let Some(known) = self.accounts.get(&account) {
            return known.files.limits();
        }
        let carve = self.carves.get(&account).unwrap_or(&self.standard);
        let none = || "the account has no zone now".to_owned();
        let low = self.protected.of_account(account);
        let asked = plan::of_account(carve, low, self.host.disk).into_iter();
        asked.map(|s| Limit { name: s.file.to_owned(), asked: s.value, got: none() }).collect()
    }

    /// What an account's zones used and met since this was opened, or since the account's cgroup was made if
    /// that was earlier; those that are gone included.
    #[must_use]
    pub fn account_stats(&self, account: u32) -> Stats {
        let now = self.accounts.get(&account).map(Account::stats).unwrap_or_default();
        self.spent.get(&account).map_or_else(|| now.clone(), |before| read::carried(&now, before))
    }

    /// Notes what a zone that ends had over its network: the kernel forgets it.
    pub fn spend_network(&mut self, account: u32, ended: &Stats) {
        let spent = self.spent.entry(account).or_default();
        let network = Stats {
            out_bytes: ended.out_bytes,
            out_packets: ended.out_packets,
            in_bytes: ended.in_bytes,
            in_packets: ended.in_packets,
            refused: ended.refused,
            ..Stats::default()
        };
        *spent = read::carried(&network, spent);
    }

    /// Has a little of what zones left behind reclaimed if there is much of it: a removed cgroup lives on in
    /// the kernel for as long as a page in memory is charged to it.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    fn sweep(&self) -> Result<(), CgroupError> {
        if !self.host.controllers.has(Controller::Memory) {
            return Ok(());
        }
        let path = self.path.join("cgroup.stat");
        let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
        if read::keyed(&text, "nr_dying_descendants") < DYING_MAX {
            return Ok(());
        }
        match write(&self.path, "memory.reclaim", RECLAIM) {
            // There was not so much to be had (EAGAIN), or the kernel is older than 5.19.
            Err(CgroupError::File { source, .. })
                if matches!(source.kind(), ErrorKind::WouldBlock | ErrorKind::NotFound) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Removes cgroups of accounts that have had no zone for a while; true while there are some left.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn tidy(&mut self, now: Instant) -> Result<bool, CgroupError> {
        if now.saturating_duration_since(self.tidied) < Duration::from_millis(TIDY_MS) {
            return Ok(!self.accounts.is_empty());
        }
        self.tidied = now;
        self.sweep()?;
        let path = &self.path;
        for account in self.protected.retain(|zone| path.join(zone).exists()) {
            self.hand_up(account)?;
        }
        let idle = |account: &Account| {
            now.saturating_duration_since(account.asked) >= Duration::from_millis(IDLE_MS)
        };
        self.remove_accounts(idle)
    }

    /// Removes the cgroups of all accounts that have no zone: zoned ends.
    ///
    /// # Errors
    /// [`CgroupError::File`].
    pub fn close(&mut self) -> Result<(), CgroupError> {
        self.remove_accounts(|_| true).map(drop)
    }

    fn remove_accounts(&mut self, over: impl Fn(&Account) -> bool) -> Result<bool, CgroupError> {
        let ids: Vec<u32> =
            self.accounts.iter().filter(|(_, a)| over(a)).map(|(id, _)| *id).collect();
        for id in ids {
            let used = self.accounts[&id].stats();
            if group::remove(&self.accounts[&id].path)? {
                self.accounts.remove(&id);
                let spent = self.spent.entry(id).or_default();
                *spent = read::carried(&used, spent);
            }
        }
        Ok(!self.accounts.is_empty())
    }

    /// The account's cgroup, made if there is none.
    fn account(&mut self, id: u32) -> Result<&Account, CgroupError> {
        let asked = Instant::now();
        if !self.accounts.contains_key(&id) {
            let account = self.make_account(id, asked)?;
            self.accounts.insert(id, account);
        }
        let account = self.accounts.get_mut(&id).expect("it was there or has been put there");
        account.asked = asked;
        Ok(account)
    }

    fn make_account(&self, id: u32, asked: Instant) -> Result<Account, CgroupError> {
        let path = self.path.join(format!("t-{id}"));
        let is_fresh = match fs::create_dir(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed("make", &path)(error)),
        };
        self.delegate(&path)?;
        let mut files = Files::new(&path, &self.host, is_fresh);
        let carve = self.carves.get(&id).unwrap_or(&self.standard);
        files.set(plan::of_account(carve, self.protected.of_account(id), self.host.disk))?;
        Ok(Account { path, files, asked })
    }

    fn delegate(&self, folder: &Path) -> Result<(), CgroupError> {
        let names: Vec<String> =
            self.host.controllers.iter().map(|c| format!("+{}", c.name())).collect();
        if names.is_empty() {
            return Ok(());
        }
        write(folder, "cgroup.subtree_control", &names.join(" "))
    }

    /// Kills and removes all zones but those to be kept.
    fn clear(&self, keep: &BTreeSet<String>) -> Result<(), CgroupError> {
        let deadline = Instant::now() + Duration::from_millis(KILL_MS_MAX);
        for (account, tenant) in folders(&self.path, |name| name.starts_with("t-"))? {
            let mut kept = false;
            for (zone, path) in folders(&tenant, |name| name.starts_with(['z', 's']))? {
                if keep.contains(&format!("{account}/{zone}")) {
                    kept = true;
                    continue;
                }
                eprintln!("zoned: {} was left by an earlier zoned: killing it", path.display());
                write(&path, "cgroup.kill", "1")?;
                while !group::remove(&path)? {
                    if Instant::now() > deadline {
                        return Err(CgroupError::Stuck { path, ms: KILL_MS_MAX });
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            if !kept {
                group::remove(&tenant)?;
            }
        }
        Ok(())
    }
}

/// The account in a cgroup's name, `t-7/s-web`.
fn account_of(name: &str) -> Option<u32> {
    name.split_once('/')?.0.strip_prefix("t-")?.parse().ok()
}

fn folders(
    parent: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, PathBuf)>, CgroupError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(parent).map_err(failed("list", parent))? {
        let entry = entry.map_err(failed("list", parent))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if wanted(&name) && entry.path().is_dir() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_directory_that_is_no_cgroup_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = Tree::open(folder.path(), &BTreeSet::new()).unwrap_err();
        assert!(error.to_string().contains("--cgroup"), "{error}");
    }

    #[test]
    fn zones_have_names_that_tell_their_account_and_kind() {
        let name = ZoneName::try_from("web".to_owned()).unwrap();
        assert_eq!(Place::Task(AttemptId(7)).folder(), "z-7");
        assert_eq!(Place::Standing(&name).folder(), "s-web");
        assert_eq!((account_of("t-12/s-web"), account_of("x/y")), (Some(12), None));
    }
}
