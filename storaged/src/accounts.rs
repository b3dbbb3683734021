//! Who may use the store: accounts by access key and by name.

use crate::store::{AccountId, Store, TransactError, TxnError};
use s3s::auth::SecretKey;
use std::collections::HashMap;
use std::sync::Arc;
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

/// All accounts.
#[derive(Debug, Default)]
pub struct Accounts {
    by_access_key: HashMap<String, Arc<Account>>,
    by_name: HashMap<String, Arc<Account>>,
}

impl Accounts {
    /// Numbers the accounts in the store, as they were numbered before if they were. Blocks.
    ///
    /// # Errors
    /// When two can't be told apart or the store fails.
    pub fn enter(store: &Store, given: wire::machine::Accounts) -> Result<Accounts, AccountsError> {
        let mut accounts = Accounts::default();
        for account in given.accounts {
            let name = account.name.as_str().to_owned();
            let key = account.access_key.as_str().to_owned();
            if accounts.by_name.contains_key(&name) {
                return Err(AccountsError::NameTwice(name));
            }
            if accounts.by_access_key.contains_key(&key) {
                return Err(AccountsError::KeyTwice(key));
            }
            let number = name.clone();
            let id = store
                .transact_wait(move |txn| txn.account(&number))
                .map_err(|source| AccountsError::Store { name: name.clone(), source })?;
            let account = Arc::new(Account {
                id,
                name: name.clone(),
                access_key: key.clone(),
                secret_key: SecretKey::from(account.secret_key.as_str()),
                ssh_keys: account.ssh_keys,
            });
            accounts.by_name.insert(name, Arc::clone(&account));
            accounts.by_access_key.insert(key, account);
        }
        Ok(accounts)
    }

    /// The account with this access key.
    pub fn by_access_key(&self, key: &str) -> Option<Arc<Account>> {
        self.by_access_key.get(key).cloned()
    }

    /// The account of this name.
    pub fn by_name(&self, name: &str) -> Option<Arc<Account>> {
        self.by_name.get(name).cloned()
    }

    /// The name of the account with this number: a number still, if the account is no longer given.
    pub fn name_of(&self, id: AccountId) -> String {
        let known = self.by_name.values().find(|account| account.id == id);
        known.map_or_else(|| format!("account-{}", id.0), |account| account.name.clone())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}
