//! How an image wants to be run, as a file of its own in it.
//!
//! Names are made numbers and texts are checked when the image is made, so that whoever starts a zone reads
//! one small document of known form. An image that was given as EROFS may have any file there: it is read
//! as a stranger's.

use super::error::ImportError;
use super::manifest::Settings;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use wire::standing::check_command;

/// The most bytes of the document: what a message has of it, and as much again for JSON.
pub const BYTES_MAX: usize = 128 * 1024;
/// Users of a zone: as many ids as its slot has.
const USERS: u32 = crate::slot::USERS;

/// Shells that base images name as their command.
const SHELLS: [&str; 5] = ["ash", "bash", "dash", "sh", "zsh"];

/// How an image wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// Variables.
    pub environment: Vec<(String, String)>,
    /// What runs, whatever is asked for as its arguments.
    pub entrypoint: Vec<String>,
    /// What runs, or its arguments, when nothing is asked for.
    pub command: Vec<String>,
    /// Where.
    pub folder: Option<String>,
    /// As which user.
    pub uid: u32,
    /// As which group.
    pub gid: u32,
    /// The signal that tells it to end (signal(7)).
    pub stop_signal: Option<i32>,
}

/// Why a document is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// It is too long.
    #[error("the image's configuration has {0} bytes: more than {BYTES_MAX}")]
    Long(usize),
    /// It is no JSON, or another.
    #[error("the image's configuration is wrong")]
    Json(#[from] serde_json::Error),
    /// What it says cannot be done.
    #[error("the image's configuration is wrong")]
    Command(#[from] wire::standing::SpecError),
    /// What it says makes no sense.
    #[error("the image's configuration names {0}")]
    Says(&'static str),
}

impl Configuration {
    /// Reads the document of an image.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigurationError> {
        if bytes.len() > BYTES_MAX {
            return Err(ConfigurationError::Long(bytes.len()));
        }
        let read: Self = serde_json::from_slice(bytes)?;
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), ConfigurationError> {
        check_command(&self.whole(&[]), &self.environment)?;
        if self.folder.as_ref().is_some_and(|f| !f.starts_with('/') || f.contains('\0')) {
            return Err(ConfigurationError::Says("a directory that is no absolute path"));
        }
        if self.uid >= USERS || self.gid >= USERS {
            return Err(ConfigurationError::Says("a user that a zone does not have"));
        }
        if self.stop_signal.is_some_and(|signal| !is_signal(signal)) {
            return Err(ConfigurationError::Says("a signal that there is not"));
        }
        Ok(())
    }

    /// What runs when this is asked for: the entrypoint with it, or with the image's own command.
    #[must_use]
    pub fn whole(&self, asked: &[String]) -> Vec<String> {
        let arguments = if asked.is_empty() { &self.command[..] } else { asked };
        self.entrypoint.iter().chain(arguments).cloned().collect()
    }

    /// What runs in a standing zone for which this is asked. A shell that nobody types to would end at
    /// once, and the zone with it: where that is all an image has, nothing runs, and people log in.
    #[must_use]
    pub fn standing(&self, asked: &[String]) -> Vec<String> {
        let whole = self.whole(asked);
        match &whole[..] {
            [shell] if asked.is_empty() => {
                let name = shell.rsplit('/').next().unwrap_or_default();
                if SHELLS.contains(&name) { Vec::new() } else { whole }
            }
            _ => whole,
        }
    }

    /// The document.
    ///
    /// # Errors
    /// [`ImportError::Says`] if the image's settings make no configuration.
    pub fn of(settings: Settings, users: &Users) -> Result<Self, ImportError> {
        let says =
            |why: String| ImportError::Says { what: "the image's configuration".to_owned(), why };
        let (uid, gid) = users.find(settings.user.as_deref().unwrap_or_default()).map_err(says)?;
        let stop_signal = settings.stop_signal.filter(|signal| !signal.is_empty());
        let made = Self {
            // Docker, too, does nothing with a variable that has no value.
            environment: settings
                .env
                .unwrap_or_default()
                .iter()
                .filter_map(|text| text.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            entrypoint: settings.entrypoint.unwrap_or_default(),
            command: settings.cmd.unwrap_or_default(),
            folder: settings.working_dir.filter(|folder| !folder.is_empty()),
            uid,
            gid,
            stop_signal: stop_signal.map(|text| signal(&text).map_err(says)).transpose()?,
        };
        made.check().map_err(|error| says(format!("cannot be used: {}", crate::chain(&error))))?;
        Ok(made)
    }
}

/// The first and the last real-time signal as the C libraries count them (signal(7)); the kernel's own
/// first two are the libraries'.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Whether there is a signal of this number for programs.
fn is_signal(number: i32) -> bool {
    (RTMIN..=RTMAX).contains(&number) || Signal::try_from(number).is_ok()
}

/// The number of `SIGQUIT`, `QUIT`, `3` or `SIGRTMIN+3`.
fn signal(text: &str) -> Result<i32, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        _ => rest.strip_prefix(sign).and_then(|digits| digits.parse::<u8>().ok()).map(i32::from),
    };
    let real_time = || {
        let up = name.strip_prefix("RTMIN").and_then(|rest| offset(rest, '+'));
        let down = name.strip_prefix("RTMAX").and_then(|rest| offset(rest, '-'));
        up.map(|by| RTMIN + by).or_else(|| down.map(|by| RTMAX - by))
    };
    let named = || Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32);
    let found = text.parse().ok().or_else(named).or_else(real_time);
    found
        .filter(|number| is_signal(*number))
        .ok_or_else(|| format!("names the signal {text:?}: there is none"))
}

/// `/etc/passwd` and `/etc/group` of the image, as far as they could be read.
#[derive(Debug, Default)]
pub struct Users {
    /// Users: `name:password:uid:gid:…`.
    pub passwd: Vec<u8>,
    /// Groups: `name:password:gid:…`.
    pub group: Vec<u8>,
}

impl Users {
    /// Whether these are needed to understand a user.
    #[must_use]
    pub fn are_needed(user: &str) -> bool {
        !matches!(user, "" | "0" | "0:0" | "root:root")
    }

    /// The numbers of `USER` or `USER:GROUP`.
    fn find(&self, user: &str) -> Result<(u32, u32), String> {
        if !Self::are_needed(user) {
            return Ok((0, 0));
        }
        let (name, group) = user.split_once(':').map_or((user, None), |(n, g)| (n, Some(g)));
        let known = line(&self.passwd, name, 2);
        let number = |fields: &[&str], at: usize| fields.get(at).and_then(|text| text.parse().ok());
        let uid: Option<u32> = name.parse().ok();
        let uid = uid.or_else(|| number(known.as_ref()?, 2));
        let uid = uid.or((name == "root").then_some(0));
        let Some(uid) = uid else {
            return Err(format!("names the user {name:?}, and /etc/passwd in it does not"));
        };
        let gid = match group.filter(|group| !group.is_empty()) {
            None => Some(known.as_ref().and_then(|known| number(known, 3)).unwrap_or(0)),
            Some(group) => {
                let by_number: Option<u32> = group.parse().ok();
                by_number.or_else(|| number(line(&self.group, group, 2).as_ref()?, 2))
            }
        };
        match gid {
            Some(gid) => Ok((uid, gid)),
            None => Err(format!("names the group of {user:?}, and /etc/group in it does not")),
        }
    }
}

/// The line whose first field is this name, or whose field `number_at` is.
fn line<'a>(file: &'a [u8], name: &str, number_at: usize) -> Option<Vec<&'a str>> {
    let lines = file.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let mut fields = lines.map(|line| line.split(':').collect::<Vec<&str>>());
    fields.find(|fields| fields[0] == name || fields.get(number_at) == Some(&name))
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn users() -> Users {
        Users {
            passwd: b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n\xff\n".to_vec(),
            group: b"root:x:0:\nstaff:x:50:\n".to_vec(),
        }
    }

    #[test]
    fn signals_go_by_name_and_number_and_some_are_real_time() {
        let known = [("SIGQUIT", 3), ("QUIT", 3), ("15", 15), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)];
        for (text, number) in known {
            assert_eq!(signal(text), Ok(number), "{text}");
        }
        for text in ["0", "33", "65", "-3", "SIGRTMIN+31", "SIGRTMAX+1", "SIGRTMIN3", "BEER"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let find = |user: &str| users().find(user);
        assert_eq!(find(""), Ok((0, 0)));
        assert_eq!(find("root"), Ok((0, 0)));
        assert_eq!(find("web"), Ok((33, 34)));
        assert_eq!(find("33"), Ok((33, 34)));
        assert_eq!(find("web:staff"), Ok((33, 50)));
        assert_eq!(find("1000"), Ok((1000, 0)));
        assert_eq!(find("1000:7"), Ok((1000, 7)));
        assert!(find("nobody").is_err() && find("web:nobody").is_err());
    }

    #[test]
    fn settings_become_a_configuration_that_comes_back_from_its_file() {
        let settings = Settings {
            env: Some(vec!["PATH=/bin".into(), "NOTHING".into(), "A=b=c".into()]),
            entrypoint: Some(vec!["/app".into()]),
            cmd: Some(vec!["serve".into()]),
            working_dir: Some("/srv".into()),
            user: Some("web".into()),
            stop_signal: Some("SIGQUIT".into()),
        };
        let made = Configuration::of(settings, &users()).unwrap();
        assert_eq!(made.environment[1], ("A".to_owned(), "b=c".to_owned()));
        assert_eq!((made.uid, made.gid, made.stop_signal), (33, 34, Some(3)));
        assert_eq!(made.whole(&[]), ["/app", "serve"]);
        assert_eq!(made.whole(&["check".into()]), ["/app", "check"]);
        let text = serde_json::to_vec(&made).unwrap();
        assert_eq!(Configuration::parse(&text).unwrap(), made);
    }

    #[test]
    fn a_shell_that_nobody_types_to_is_not_started() {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let said = Configuration { command: words(&["/bin/bash"]), ..Configuration::default() };
        assert!(said.standing(&[]).is_empty());
        assert_eq!(said.standing(&words(&["bash"])), ["bash"]);
        let said = Configuration { command: words(&["sh", "-c", "x"]), ..Configuration::default() };
        assert_eq!(said.standing(&[]), ["sh", "-c", "x"]);
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for text in [
            r#"{"uid":70000}"#,
            r#"{"folder":"srv"}"#,
            r#"{"stop_signal":99}"#,
            r#"{"environment":[["A=B","c"]]}"#,
            r#"{"command":["a\u0000b"]}"#,
        ] {
            assert!(Configuration::parse(text.as_bytes()).is_err(), "{text}");
        }
        let settings = Settings { user: Some("9999999".into()), ..Settings::default() };
        assert!(Configuration::of(settings, &users()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_configuration_or_none(bytes: Vec<u8>) {
            drop(Configuration::parse(&bytes));
        }
    }
}
