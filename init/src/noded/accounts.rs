//! Who may use the store, and the admin API's token: as configured, else made once, at first boot.

use super::files::{self, FileError, Readers};
use base64::Engine;
use std::io::Read;
use std::path::Path;
use thiserror::Error;
use wire::account::Configured;
use wire::machine::{
    AccessKey, Account, Accounts, CONFIG_BYTES_MAX, ConfigError, Login, MachineConfig, SecretKey,
    Store, Token,
};

/// Made accounts, on the data disk.
const KEPT_ACCOUNTS: &str = "/data/node/accounts.toml";
/// The made token, on the data disk.
const KEPT_TOKEN: &str = "/data/node/admin-token";
/// Stands on the data disk when people have been shown what was made. A power cut between making and showing
/// must not leave keys that nobody knows.
const SHOWN: &str = "/data/node/keys-shown";
/// What storaged reads.
const ACCOUNTS: &str = "/run/mobula/accounts.toml";
/// What is configured of accounts' zones, for zoned, which has no business with keys.
const LIMITS: &str = "/run/mobula/account-limits.json";
/// What consoled reads.
const TOKEN: &str = "/run/mobula/admin-token";
/// storaged's environment.
const STORAGED: &str = "/run/mobula/storaged.env";
/// Whom storaged believes webhooks, if the configuration says.
const AUTHORITIES: &str = "/run/mobula/webhook-ca.pem";
/// Who reads them.
const STORAGED_GROUP: u32 = 200;
const CONSOLED_GROUP: u32 = 202;
/// The account that first boot makes.
const FIRST: &str = "admin";
/// Random bytes in made keys: 16 letters of 5 bits are 80 bits of an access key, which is no secret; 30
/// bytes make 40 characters of a secret key, as S3 clients expect.
const ACCESS_BYTES: usize = 16;
const SECRET_BYTES: usize = 30;
const TOKEN_BYTES: usize = 24;

/// What can go wrong here.
#[derive(Debug, Error)]
pub enum AccountsError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The kept accounts are damaged.
    #[error("{KEPT_ACCOUNTS} is damaged: {0}. Give accounts in the configuration instead")]
    Kept(#[from] ConfigError),
    /// The kept token is damaged.
    #[error("{KEPT_TOKEN} is damaged: {0}. Give a token in the configuration instead")]
    KeptToken(&'static str),
    /// They can't be written as TOML.
    #[error("cannot write accounts as TOML: {0}")]
    Toml(#[from] toml::ser::Error),
    /// Their limits can't be written as JSON.
    #[error("cannot write accounts' limits as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// No random bytes.
    #[error("no random bytes: {0}")]
    Random(#[source] std::io::Error),
    /// A made value breaks its own rule.
    #[error("a made key is not accepted: {0}")]
    Made(&'static str),
}

/// What was made and not yet shown to people.
#[derive(Debug, Default)]
pub struct Made {
    /// The account.
    pub account: Option<Account>,
    /// The token.
    pub token: Option<Token>,
}

/// Notes that people have been shown what was made.
///
/// # Errors
/// [`FileError`]: they will be shown it again.
pub fn note_shown() -> Result<(), FileError> {
    files::replace(Path::new(SHOWN), b"", Readers::ROOT)
}

/// Leaves the token where consoled reads it, if the configuration has one. Without the data disk there is no other, and
/// that is when somebody will want to know what is wrong.
///
/// # Errors
/// [`FileError`].
pub fn provide_token(config: &MachineConfig) -> Result<(), FileError> {
    config.admin.token.as_ref().map_or(Ok(()), hand_out)
}

fn hand_out(token: &Token) -> Result<(), FileError> {
    let readers = Readers { group: CONSOLED_GROUP, mode: 0o640 };
    files::replace(Path::new(TOKEN), token.as_str().as_bytes(), readers)
}

/// storaged's environment. Pure.
fn environment(store: &Store) -> String {
    let mut text = format!("MOBULA_DURABILITY={}\n", store.durability.as_str());
    if !store.webhooks.is_empty() {
        let webhooks = store.webhooks.iter();
        let webhooks = webhooks.map(|(name, url)| format!("{}={}", name.as_str(), url.as_str()));
        let webhooks = webhooks.collect::<Vec<_>>().join(" ");
        text.push_str(&format!("MOBULA_WEBHOOKS={webhooks}\n"));
    }
    if store.webhook_ca.is_some() {
        text.push_str(&format!("MOBULA_WEBHOOK_CA={AUTHORITIES}\n"));
    }
    text
}

/// Leaves accounts, token and storaged's environment where the daemons read them.
///
/// # Errors
/// [`AccountsError`].
pub fn provide(config: &MachineConfig) -> Result<Made, AccountsError> {
    let mut made = Made::default();
    let accounts = if config.accounts.is_empty() {
        kept_or_made(&mut made)?
    } else {
        Accounts { accounts: config.accounts.clone() }
    };
    let readers = Readers { group: STORAGED_GROUP, mode: 0o640 };
    files::replace(Path::new(ACCOUNTS), toml::to_string(&accounts)?.as_bytes(), readers)?;
    let limits: Configured = accounts
        .accounts
        .iter()
        .filter(|account| !account.limits.is_empty())
        .map(|account| (account.name.clone(), account.limits))
        .collect();
    files::replace(Path::new(LIMITS), &serde_json::to_vec(&limits)?, Readers::ROOT)?;
    let token = match &config.admin.token {
        Some(token) => token.clone(),
        None => token_kept_or_made(&mut made)?,
    };
    hand_out(&token)?;
    if Path::new(SHOWN).exists() {
        made = Made::default();
    }
    if let Some(authorities) = &config.store.webhook_ca {
        let readers = Readers { group: STORAGED_GROUP, mode: 0o640 };
        files::replace(Path::new(AUTHORITIES), authorities.as_str().as_bytes(), readers)?;
    }
    files::replace(Path::new(STORAGED), environment(&config.store).as_bytes(), Readers::ROOT)?;
    Ok(made)
}

fn kept_or_made(made: &mut Made) -> Result<Accounts, AccountsError> {
    let path = Path::new(KEPT_ACCOUNTS);
    if let Some(bytes) = files::read(path, CONFIG_BYTES_MAX)? {
        let kept = Accounts::parse(&bytes)?;
        if let Some(account) = kept.accounts.first() {
            made.account = Some(account.clone());
            return Ok(kept);
        }
    }
    let account = make_account()?;
    let accounts = Accounts { accounts: vec![account.clone()] };
    files::replace(path, toml::to_string(&accounts)?.as_bytes(), Readers::ROOT)?;
    made.account = Some(account);
    Ok(accounts)
}

fn token_kept_or_made(made: &mut Made) -> Result<Token, AccountsError> {
    let path = Path::new(KEPT_TOKEN);
    if let Some(bytes) = files::read(path, CONFIG_BYTES_MAX)? {
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        let token = Token::try_from(text).map_err(AccountsError::KeptToken)?;
        made.token = Some(token.clone());
        return Ok(token);
    }
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random::<TOKEN_BYTES>()?);
    let token = Token::try_from(text).map_err(AccountsError::Made)?;
    files::replace(path, token.as_str().as_bytes(), Readers::ROOT)?;
    made.token = Some(token.clone());
    Ok(token)
}

fn make_account() -> Result<Account, AccountsError> {
    let access = random::<ACCESS_BYTES>()?.map(letter);
    let access: String = std::iter::once("MB".to_owned())
        .chain(access.iter().map(|byte| char::from(*byte).to_string()))
        .collect();
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random::<SECRET_BYTES>()?);
    Ok(Account {
        name: Login::try_from(FIRST.to_owned()).map_err(AccountsError::Made)?,
        access_key: AccessKey::try_from(access).map_err(AccountsError::Made)?,
        secret_key: SecretKey::try_from(secret).map_err(AccountsError::Made)?,
        ssh_keys: Vec::new(),
        limits: Default::default(),
    })
}

/// One of 32 letters and digits that can't be taken for each other.
const fn letter(byte: u8) -> u8 {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    LETTERS[(byte % 32) as usize]
}

fn random<const N: usize>() -> Result<[u8; N], AccountsError> {
    let mut bytes = [0; N];
    let mut source = std::fs::File::open("/dev/urandom").map_err(AccountsError::Random)?;
    source.read_exact(&mut bytes).map_err(AccountsError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn storaged_is_told_of_webhooks_if_there_are_any() {
        let environment = |text: &str| {
            let text = format!("[store]\n{text}");
            environment(&MachineConfig::parse(text.as_bytes()).unwrap().store)
        };
        assert_eq!(environment(""), "MOBULA_DURABILITY=fsync\n");
        let two = "webhooks = { b = \"https://h/b?x=y\", a = \"http://h:80\" }\n\
                   webhook_ca = \"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\"\n";
        let text = environment(two);
        assert_eq!(
            text,
            "MOBULA_DURABILITY=fsync\nMOBULA_WEBHOOKS=a=http://h:80 b=https://h/b?x=y\n\
             MOBULA_WEBHOOK_CA=/run/mobula/webhook-ca.pem\n"
        );
        // As init reads it.
        let read = crate::unit::parse_environment(&text);
        assert_eq!(
            read[1],
            ("MOBULA_WEBHOOKS".to_owned(), "a=http://h:80 b=https://h/b?x=y".to_owned())
        );
    }

    #[test]
    fn a_made_account_is_accepted_by_its_own_rules_and_differs_from_the_next() {
        let (one, other) = (make_account().unwrap(), make_account().unwrap());
        assert_ne!(one.secret_key, other.secret_key);
        assert_eq!(one.access_key.as_str().len(), 2 + ACCESS_BYTES);
        assert_eq!(one.secret_key.as_str().len(), SECRET_BYTES / 3 * 4);
        let text = toml::to_string(&Accounts { accounts: vec![one.clone()] }).unwrap();
        assert_eq!(Accounts::parse(text.as_bytes()).unwrap().accounts, [one]);
    }
}
