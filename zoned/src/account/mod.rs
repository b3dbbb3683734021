//! Accounts: what the zones of one may use together, whatever each of them may.
//!
//! [`plan`] decides what is in force and who may have one more zone, [`record`] keeps what was set on disk,
//! [`answer`] tells people; the cgroups of accounts, which hold them to it, are [`crate::carve`]'s.

mod answer;
pub mod plan;
pub mod record;

use crate::carve::{AccountCarve, Tree};
use crate::chain;
use crate::daemon::Daemon;
use crate::disk::FileError;
use crate::standing::Asker;
use record::{Record, Records};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use wire::account::{AccountLimits, AccountRequest, Configured};
use wire::machine::Login;

/// The books of accounts.
#[derive(Debug)]
pub(crate) struct Accounts {
    records: Records,
    /// What was set, by the account's number.
    set: BTreeMap<u32, AccountLimits>,
    configured: Configured,
    standard: AccountLimits,
    /// Numbers never change, so what is known stays.
    numbers: BTreeMap<Login, u32>,
    /// The change that is on its way to the disk, and those behind it.
    change: Option<answer::Change>,
    later: VecDeque<(Asker, AccountRequest)>,
}

impl Accounts {
    /// Reads what was set from disk and what is configured from a file that noded leaves, and tells the
    /// cgroups.
    ///
    /// # Errors
    /// [`FileError`]: the records can't be used at all.
    pub(crate) fn open(
        data: &Path,
        configured: &Path,
        cgroups: &mut Tree,
    ) -> Result<Self, FileError> {
        let (records, found) = Records::open(&data.join("accounts"))?;
        for (path, error) in &found.damaged {
            eprintln!("zoned: {} is left alone: {}", path.display(), chain(error));
        }
        let mut accounts = Self {
            records,
            set: BTreeMap::new(),
            configured: read_configured(configured),
            standard: plan::standard(cgroups.standard()),
            numbers: BTreeMap::new(),
            change: None,
            later: VecDeque::new(),
        };
        for (number, Record { login, set, .. }) in found.records {
            accounts.set.insert(number, set);
            accounts.numbers.insert(login.clone(), number);
            tell(cgroups, number, &accounts.effective(&login, number));
        }
        Ok(accounts)
    }

    /// People's requests that wait for a disk.
    pub(crate) fn waiting(&self) -> usize {
        self.later.len()
    }

    /// An account's number, if it is known.
    pub(crate) fn number(&self, login: &str) -> Option<u32> {
        let login = Login::try_from(login.to_owned()).ok()?;
        self.numbers.get(&login).copied()
    }

    fn set_of(&self, number: u32) -> AccountLimits {
        self.set.get(&number).copied().unwrap_or_default()
    }

    fn configured_of(&self, login: &Login) -> AccountLimits {
        self.configured.get(login).copied().unwrap_or_default()
    }

    /// What is in force for an account.
    fn effective(&self, login: &Login, number: u32) -> AccountLimits {
        plan::effective(&self.set_of(number), &self.configured_of(login), &self.standard)
    }
}

/// What the machine's configuration says; nothing if there is no such file, or no sense in it.
fn read_configured(path: &Path) -> Configured {
    let parsed = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Configured::new(),
        Err(error) => Err(error.to_string()),
    };
    parsed.unwrap_or_else(|why| {
        eprintln!("zoned: {}: {why}: accounts have the node's own limits", path.display());
        Configured::new()
    })
}

fn tell(cgroups: &mut Tree, number: u32, effective: &AccountLimits) {
    let carve: AccountCarve = plan::carve(effective);
    if let Err(error) = cgroups.set_account(number, &carve) {
        eprintln!("zoned: account {number} has not its limits: {}", chain(&error));
    }
}

impl Daemon {
    /// Notes an account's number, before anything of it is started: what is configured of it counts from
    /// then on.
    pub(crate) fn learn_account(&mut self, login: &str, number: u32) {
        if self.accounts.number(login) == Some(number) {
            return;
        }
        // One that is no login has no limits of its own.
        let Ok(login) = Login::try_from(login.to_owned()) else { return };
        self.accounts.numbers.insert(login.clone(), number);
        if self.accounts.configured.contains_key(&login) {
            tell(&mut self.cgroups, number, &self.accounts.effective(&login, number));
        }
    }

    /// Standing zones that an account has on record.
    pub(crate) fn standing_of(&self, number: u32) -> u32 {
        u32::try_from(self.standing.count_of_account(number)).unwrap_or(u32::MAX)
    }

    /// Whether an account may have one more standing zone.
    ///
    /// # Errors
    /// [`plan::Full`].
    pub(crate) fn admit_zone(&self, login: &str, number: u32) -> Result<(), plan::Full> {
        let Ok(login) = Login::try_from(login.to_owned()) else { return Ok(()) };
        let effective = self.accounts.effective(&login, number);
        plan::admit(&login, &effective, self.standing_of(number))
    }
}
