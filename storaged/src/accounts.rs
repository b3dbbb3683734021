//! Who may use the store: accounts by access key and by name.

use crate::store::{AccountId, IndexError, Store, TransactError, TxnError};
use s3s::auth::SecretKey;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;

/// Why the accounts can't be used.
#[derive(Debug, Error)]
pub enum AccountsError {
    /// Two of them have the same name.
    #[error("account {0} is given twice: give each account once")]
    NameTwice(String),
    /// Two of them have the same access key.
    #[error("access key {0} is given twice: give each account its own")]
    KeyTwice(String),
    /// The index can't be read.
    #[error("can't read the accounts in the index")]
    Index(#[source] IndexError),
    /// The store could not number them.
    #[error("can't enter account {name} into the index")]
    Store {
        /// Which.
        name: String,
        /// What the store said.
        #[source]
        source: TransactError<TxnError>,
    },
}

/// An account.
#[derive(Debug)]
pub struct Account {
    /// Its number in the store.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// Its access key.
    pub access_key: String,
    /// What its requests are signed with.
    pub secret_key: SecretKey,
    /// Its public keys, as in `authorized_keys`.
    pub ssh_keys: Vec<String>,
}

/// All accounts. They can be given anew while requests are answered.
#[derive(Debug, Default)]
pub struct Accounts(RwLock<Arc<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    by_access_key: HashMap<String, Arc<Account>>,
    by_name: HashMap<String, Arc<Account>>,
    /// The names of all that ever were, also of those that are no longer given.
    names: HashMap<AccountId, String>,
}

/// What giving the accounts anew changed, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// There were none of these names.
    pub added: Vec<String>,
    /// Other keys.
    pub changed: Vec<String>,
    /// No longer given: what they own stays.
    pub removed: Vec<String>,
}

impl Accounts {
    /// Numbers the accounts in the store, as they were numbered before if they were. Blocks.
    ///
    /// # Errors
    /// When two can't be told apart or the store fails.
    pub fn enter(store: &Store, given: wire::machine::Accounts) -> Result<Accounts, AccountsError> {
        let tables = Tables::enter(store, given, &Tables::default())?;
        Ok(Accounts(RwLock::new(Arc::new(tables))))
    }

    /// Puts other accounts in their place. Requests that come from now on are theirs; what was let in
    /// before goes on. Blocks.
    ///
    /// # Errors
    /// As [`Accounts::enter`]; everything is as it was then.
    pub fn reenter(
        &self,
        store: &Store,
        given: wire::machine::Accounts,
    ) -> Result<Changes, AccountsError> {
        let old = self.tables();
        let new = Tables::enter(store, given, &old)?;
        let changes = old.changes(&new);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(changes)
    }

    fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The account with this access key.
    pub fn by_access_key(&self, key: &str) -> Option<Arc<Account>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_access_key.get(key).cloned()
    }

    /// The account of this name.
    pub fn by_name(&self, name: &str) -> Option<Arc<Account>> {
        self.tables().by_name.get(name).cloned()
    }

    /// The name of the account with this number, given still or not.
    pub fn name_of(&self, id: AccountId) -> String {
        // Every number was given to a name, and names are never taken back.
        let name = self.tables().names.get(&id).cloned();
        name.unwrap_or_else(|| format!("account-{}", id.0))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tables().by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Tables {
    fn enter(
        store: &Store,
        given: wire::machine::Accounts,
        old: &Tables,
    ) -> Result<Tables, AccountsError> {
        let view = store.read().map_err(AccountsError::Index)?;
        let known = crate::store::accounts(&view).map_err(AccountsError::Index)?;
        drop(view);
        let numbers: HashMap<_, _> = known.iter().map(|(name, id)| (name.clone(), *id)).collect();
        let names = known.into_iter().map(|(name, id)| (id, name)).collect();
        let mut tables = Tables { names, ..Tables::default() };
        for account in given.accounts {
            let name = account.name.as_str().to_owned();
            let access_key = account.access_key.as_str().to_owned();
            if tables.by_name.contains_key(&name) {
                return Err(AccountsError::NameTwice(name));
            }
            if tables.by_access_key.contains_key(&access_key) {
                return Err(AccountsError::KeyTwice(access_key));
            }
            let id = match numbers.get(&name) {
                Some(id) => *id,
                None => number(store, &name)?,
            };
            let secret_key = SecretKey::from(account.secret_key.as_str());
            let new = Account { id, name, access_key, secret_key, ssh_keys: account.ssh_keys };
            // Whoever is as before stays the very same, for those who keep what they derived from it.
            let same = old.by_name.get(&new.name).filter(|old| old.is(&new)).cloned();
            let account = same.unwrap_or_else(|| Arc::new(new));
            tables.names.insert(id, account.name.clone());
            tables.by_name.insert(account.name.clone(), Arc::clone(&account));
            tables.by_access_key.insert(account.access_key.clone(), account);
        }
        Ok(tables)
    }

    fn changes(&self, new: &Tables) -> Changes {
        let mut changes = Changes::default();
        for (name, account) in &new.by_name {
            match self.by_name.get(name) {
                None => changes.added.push(name.clone()),
                Some(old) if !Arc::ptr_eq(old, account) => changes.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        let gone = self.by_name.keys().filter(|name| !new.by_name.contains_key(*name));
        changes.removed = gone.cloned().collect();
        for names in [&mut changes.added, &mut changes.changed, &mut changes.removed] {
            names.sort();
        }
        changes
    }
}

fn number(store: &Store, name: &str) -> Result<AccountId, AccountsError> {
    let new = name.to_owned();
    store
        .transact_wait(move |txn| txn.account(&new))
        .map_err(|source| AccountsError::Store { name: name.to_owned(), source })
}

impl Account {
    fn is(&self, other: &Account) -> bool {
        self.id == other.id
            && self.access_key == other.access_key
            && self.secret_key.expose() == other.secret_key.expose()
            && self.ssh_keys == other.ssh_keys
    }
}

/// Watches a file for changes, by what the file system says of it.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    seen: Option<Seen>,
}

type Seen = (u64, u64, i64, i64);

impl Watch {
    /// As the file is now.
    #[must_use]
    pub fn new(path: PathBuf) -> Watch {
        let seen = Watch::look(&path);
        Watch { path, seen }
    }

    fn look(path: &Path) -> Option<Seen> {
        let found = std::fs::metadata(path).ok()?;
        Some((found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
    }

    /// Whether the file is another one than when this was last asked. One that is not there is not new: it may
    /// be on its way.
    pub fn has_changed(&mut self) -> bool {
        let now = Watch::look(&self.path);
        let changed = now.is_some() && now != self.seen;
        if changed {
            self.seen = now;
        }
        changed
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::store::Options;

    fn given(all: &[(&str, &str)]) -> wire::machine::Accounts {
        let account = |(name, key): &(&str, &str)| wire::machine::Account {
            name: (*name).to_owned().try_into().unwrap(),
            access_key: (*key).to_owned().try_into().unwrap(),
            secret_key: format!("secret-{key}").try_into().unwrap(),
            ssh_keys: Vec::new(),
            limits: Default::default(),
        };
        wire::machine::Accounts { accounts: all.iter().map(account).collect() }
    }

    #[test]
    fn accounts_given_anew_take_the_place_of_the_old_ones_and_keep_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(folder.path())).unwrap();
        let first = [("ada", "KEY1"), ("bob", "KEY2"), ("eve", "KEY3")];
        let accounts = Accounts::enter(&store, given(&first)).unwrap();
        let (ada, bob) = (accounts.by_name("ada").unwrap(), accounts.by_name("bob").unwrap());
        let eve = accounts.by_name("eve").unwrap().id;
        let second = [("ada", "KEY1"), ("bob", "KEY4"), ("dan", "KEY2")];
        let changes = accounts.reenter(&store, given(&second)).unwrap();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let expected =
            Changes { added: names(&["dan"]), changed: names(&["bob"]), removed: names(&["eve"]) };
        assert_eq!(changes, expected);
        assert!(Arc::ptr_eq(&ada, &accounts.by_access_key("KEY1").unwrap()));
        assert_eq!(accounts.by_access_key("KEY4").unwrap().id, bob.id);
        assert_eq!(accounts.by_access_key("KEY2").unwrap().name, "dan");
        assert!(accounts.by_access_key("KEY3").is_none() && accounts.by_name("eve").is_none());
        assert_eq!((accounts.name_of(eve), accounts.len()), ("eve".to_owned(), 3));
        assert_eq!(accounts.reenter(&store, given(&second)).unwrap(), Changes::default());
        let twice = given(&[("ada", "KEY1"), ("bob", "KEY1")]);
        assert!(matches!(accounts.reenter(&store, twice), Err(AccountsError::KeyTwice(_))));
        assert_eq!(accounts.len(), 3, "nothing changes when something is wrong");
        accounts.reenter(&store, given(&[("eve", "KEY3")])).unwrap();
        assert_eq!(accounts.by_name("eve").unwrap().id, eve);
    }

    #[test]
    fn a_file_that_was_written_or_replaced_has_changed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts.toml");
        std::fs::write(&path, "one").unwrap();
        let mut watch = Watch::new(path.clone());
        assert!(!watch.has_changed());
        std::fs::write(&path, "three").unwrap();
        assert!(watch.has_changed() && !watch.has_changed());
        std::fs::remove_file(&path).unwrap();
        assert!(!watch.has_changed());
        let other = folder.path().join("other");
        std::fs::write(&other, "three").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(watch.has_changed() && !watch.has_changed());
    }
}
