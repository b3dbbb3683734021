//! Endpoints and keys: from flags, else from the environment, else from a file, else defaults.

use crate::endpoint::Endpoint;
use crate::failure::Failure;
use serde::Deserialize;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where S3 is when nobody says otherwise: as `make run` forwards it.
const S3_DEFAULT: &str = "http://127.0.0.1:9000";
/// Where Manta's calls are when nobody says otherwise.
const MANTA_DEFAULT: &str = "http://127.0.0.1:8080";
/// Where the admin API is when nobody says otherwise.
const ADMIN_DEFAULT: &str = "http://127.0.0.1:8090";

/// One source of settings; each of them may be left to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
#[command(next_help_heading = "Endpoints and keys (flag, else environment, else mobula.toml)")]
pub struct Layer {
    /// Where S3 listens [MOBULA_S3; http://127.0.0.1:9000]
    #[arg(long, global = true, value_name = "URL")]
    pub s3: Option<String>,
    /// Where the job calls listen [MOBULA_MANTA; http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    pub manta: Option<String>,
    /// Where the admin API listens [MOBULA_ADMIN; http://127.0.0.1:8090]
    #[arg(long, global = true, value_name = "URL")]
    pub admin: Option<String>,
    /// The account's name, for jobs [MOBULA_ACCOUNT]
    #[arg(long, global = true, value_name = "NAME")]
    pub account: Option<String>,
    /// The access key, for objects and jobs [MOBULA_ACCESS_KEY]
    #[arg(long, global = true, value_name = "KEY")]
    pub access_key: Option<String>,
    /// The secret key; better given by environment or file, where `ps` does not show it
    /// [MOBULA_SECRET_KEY]
    #[arg(long, global = true, value_name = "KEY")]
    pub secret_key: Option<String>,
    /// The admin token, for nodes; better given by environment or file [MOBULA_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

impl Layer {
    /// These settings, and those of `lower` where there are none.
    pub fn over(self, lower: Self) -> Self {
        Self {
            s3: self.s3.or(lower.s3),
            manta: self.manta.or(lower.manta),
            admin: self.admin.or(lower.admin),
            account: self.account.or(lower.account),
            access_key: self.access_key.or(lower.access_key),
            secret_key: self.secret_key.or(lower.secret_key),
            token: self.token.or(lower.token),
        }
    }

    fn from_environment(variable: &Variable<'_>) -> Result<Self, Failure> {
        let get = |name: &str| match variable(name) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(Err(_)) => Err(Failure::Usage(format!("{name} is not UTF-8: set it again"))),
        };
        Ok(Self {
            s3: get("MOBULA_S3")?,
            manta: get("MOBULA_MANTA")?,
            admin: get("MOBULA_ADMIN")?,
            account: get("MOBULA_ACCOUNT")?,
            access_key: get("MOBULA_ACCESS_KEY")?,
            secret_key: get("MOBULA_SECRET_KEY")?,
            token: get("MOBULA_TOKEN")?,
        })
    }

    fn from_toml(text: &str, path: &Path) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| {
            Failure::Usage(format!("{}: {}", path.display(), error.to_string().trim_end()))
        })
    }
}

/// Looks up an environment variable; a closure, so that tests need not change the process's own.
pub type Variable<'a> = dyn Fn(&str) -> Option<Result<String, OsString>> + 'a;

/// The key pair of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Names the pair.
    pub access: String,
    /// Signs.
    pub secret: String,
}

/// All settings, checked; those that a command may do without are looked at when it asks.
#[derive(Debug)]
pub struct Settings {
    /// Where S3 listens.
    pub s3: Endpoint,
    /// Where Manta's calls listen.
    pub manta: Endpoint,
    /// Where the admin API listens.
    pub admin: Endpoint,
    account: Option<String>,
    access_key: Option<String>,
    secret_key: Option<String>,
    token: Option<String>,
}

impl TryFrom<Layer> for Settings {
    type Error = Failure;

    fn try_from(layer: Layer) -> Result<Self, Failure> {
        let Layer { s3, manta, admin, account, access_key, secret_key, token } = layer;
        let endpoint = |given: Option<String>, default: &str| {
            let text = given.unwrap_or_else(|| default.to_owned());
            text.parse::<Endpoint>().map_err(|error| Failure::Usage(error.to_string()))
        };
        Ok(Self {
            s3: endpoint(s3, S3_DEFAULT)?,
            manta: endpoint(manta, MANTA_DEFAULT)?,
            admin: endpoint(admin, ADMIN_DEFAULT)?,
            account,
            access_key,
            secret_key,
            token,
        })
    }
}

impl Settings {
    /// The account's name.
    pub fn account(&self) -> Result<&str, Failure> {
        required(self.account.as_deref(), "account", "--account", "MOBULA_ACCOUNT")
    }

    /// The account's keys.
    pub fn keys(&self) -> Result<Keys, Failure> {
        let access = self.access_key.as_deref();
        let access = required(access, "access_key", "--access-key", "MOBULA_ACCESS_KEY")?;
        let secret = self.secret_key.as_deref();
        let secret = required(secret, "secret_key", "--secret-key", "MOBULA_SECRET_KEY")?;
        Ok(Keys { access: access.to_owned(), secret: secret.to_owned() })
    }

    /// The admin token.
    pub fn token(&self) -> Result<&str, Failure> {
        required(self.token.as_deref(), "token", "--token", "MOBULA_TOKEN")
    }
}

fn required<'a>(
    value: Option<&'a str>,
    key: &str,
    flag: &str,
    variable: &str,
) -> Result<&'a str, Failure> {
    value.ok_or_else(|| {
        let message = format!(
            "{key} is not set: give {flag}, set {variable}, or write {key} = \"…\" into \
             ~/.config/mobula.toml (the appliance prints keys and token on its console at first boot)"
        );
        Failure::Usage(message)
    })
}

/// Reads all sources and puts them together.
///
/// # Errors
/// [`Failure::Usage`] with the place of the mistake; [`Failure::File`] if a file that was asked for
/// cannot be read. The default file may be absent.
pub fn load(
    flags: Layer,
    file: Option<&Path>,
    variable: &Variable<'_>,
) -> Result<Settings, Failure> {
    let environment = Layer::from_environment(variable)?;
    let path = |name: &str| variable(name).and_then(Result::ok).filter(|p| !p.is_empty());
    let named = file.map(Path::to_owned).or_else(|| path("MOBULA_CONFIG").map(PathBuf::from));
    let default = || {
        let home = || path("HOME").map(|home| Path::new(&home).join(".config"));
        let folder = path("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)?;
        Some(folder.join("mobula.toml"))
    };
    let file = match (named, default()) {
        (Some(path), _) => read(&path)?,
        (None, Some(path)) if path.exists() => read(&path)?,
        (None, _) => Layer::default(),
    };
    flags.over(environment).over(file).try_into()
}

fn read(path: &Path) -> Result<Layer, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => Failure::Usage(format!("{} is not UTF-8", path.display())),
        _ => Failure::file("read", path, error),
    })?;
    let layer = Layer::from_toml(&text, path)?;
    let secret = layer.secret_key.is_some() || layer.token.is_some();
    let mode = std::fs::metadata(path).map_or(0, |m| m.permissions().mode());
    if secret && mode & 0o077 != 0 {
        let path = path.display();
        eprintln!("mobula: others can read the secrets in {path}: run `chmod 600 {path}`");
    }
    Ok(layer)
}

#[cfg(test)]
mod test {
    use super::*;

    fn layer(s3: Option<&str>, token: Option<&str>) -> Layer {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Layer { s3: own(s3), token: own(token), ..Layer::default() }
    }

    fn nothing(_: &str) -> Option<Result<String, OsString>> {
        None
    }

    #[test]
    fn flags_win_over_environment_and_environment_over_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mobula.toml");
        std::fs::write(&path, "s3 = \"file:1\"\nmanta = \"file:2\"\nadmin = \"file:3\"\n").unwrap();
        let environment = |name: &str| match name {
            "MOBULA_S3" => Some(Ok("environment:1".to_owned())),
            "MOBULA_MANTA" => Some(Ok("environment:2".to_owned())),
            _ => None,
        };
        let settings = load(layer(Some("flag:1"), None), Some(&path), &environment).unwrap();
        assert_eq!(settings.s3.authority(), "flag:1");
        assert_eq!(settings.manta.authority(), "environment:2");
        assert_eq!(settings.admin.authority(), "file:3");
    }

    #[test]
    fn with_nothing_given_the_endpoints_are_those_of_make_run() {
        let settings = load(Layer::default(), None, &nothing).unwrap();
        assert_eq!(settings.s3.to_string(), S3_DEFAULT);
        assert_eq!(settings.manta.to_string(), MANTA_DEFAULT);
        assert_eq!(settings.admin.to_string(), ADMIN_DEFAULT);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = Layer::from_toml("s3 = \"a\"\ncolour = 1\n", Path::new("m.toml")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("m.toml: ") && text.contains("line 2") && text.contains("colour"));
    }

    #[test]
    fn a_file_that_was_asked_for_must_exist_and_the_default_need_not() {
        let missing = load(Layer::default(), Some(Path::new("/nowhere/mobula.toml")), &nothing);
        assert!(matches!(missing, Err(Failure::File { .. })));
        let home = |name: &str| (name == "HOME").then(|| Ok("/nowhere".to_owned()));
        assert!(load(Layer::default(), None, &home).is_ok());
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let empty = |_: &str| Some(Ok(String::new()));
        assert_eq!(Layer::from_environment(&empty).unwrap(), Layer::default());
    }

    #[test]
    fn a_missing_key_is_named_with_all_three_ways_to_give_it() {
        let settings = load(layer(None, None), None, &nothing).unwrap();
        let text = settings.token().unwrap_err().to_string();
        assert!(text.contains("--token") && text.contains("MOBULA_TOKEN"), "{text}");
    }
}
